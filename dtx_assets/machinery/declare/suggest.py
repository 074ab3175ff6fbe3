"""What names and types suggest: which legacy table becomes which target, column by column, and what stays undecided.

Nothing is guessed in silence: whatever is not the same name is listed as a guess, for a decision that people confirm.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dtx_assets.machinery.declare.documents import Side, document_entry, sides_of
from dtx_assets.machinery.declare.pairs import BY_A_CLOCK, family_of_target, transform_for
from dtx_assets.machinery.postgres.catalogue import FoundTarget, FoundTargetColumn
from dtx_assets.machinery.sources.found import FoundColumn, FoundTable
from dtx_assets.machinery.transforms.columns import Registry

NOTHING_ALIKE = "nothing looks alike"


@dataclass
class Suggestion:
    """What one legacy table could give to one target. `columns`: entries of a mapping file by target column."""

    legacy: FoundTable
    target: FoundTarget
    key_is_written: bool
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    undecided: dict[str, str] = field(default_factory=dict)
    """Target columns, with what is known."""
    dropped: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    """Legacy columns, with what is known."""
    guesses: list[str] = field(default_factory=list)
    """Columns that have not the same name."""
    by_a_clock: list[str] = field(default_factory=list)
    """Instants that become times without a zone."""
    texts_of_bytes: list[str] = field(default_factory=list)
    table_is_guessed: bool = False


@dataclass
class Suggestions:
    pairs: list[Suggestion]
    tables_without_target: list[FoundTable]
    targets_without_table: list[FoundTarget]
    targets_without_key: list[FoundTarget] = field(default_factory=list)
    """Nothing tells their rows apart, so that nothing can be loaded into them."""
    junctions: dict[str, list[Side]] = field(default_factory=dict)
    """By the full name of a target, the arrays of documents that name its pairs."""

    def of_target(self, name: str) -> Suggestion | None:
        return next((pair for pair in self.pairs if pair.target.full_name == name), None)


def suggest(tables: Sequence[FoundTable], targets: Sequence[FoundTarget], transforms: Registry) -> Suggestions:
    """What becomes of what, as far as names and types say; each table gives to one target, and each target has one."""
    keyless = [target for target in targets if not target.key]
    targets = [target for target in targets if target.key]
    matched = _matched(tables, targets)
    pairs = [
        Suggestion(table, target, _key_is_kept(table, target, transforms), table_is_guessed=guessed)
        for table, target, guessed in matched
    ]
    suggestions = Suggestions(
        pairs,
        [table for table in tables if all(table is not pair.legacy for pair in pairs)],
        [target for target in targets if all(target is not pair.target for pair in pairs)],
        keyless,
    )
    waiting = _referring_in_circles(suggestions)
    for pair in pairs:
        _fill(pair, suggestions, transforms, waiting)
    _join(suggestions)
    return suggestions


def _join(suggestions: Suggestions) -> None:
    """Finds the junctions among the targets that no collection is mapped to."""
    collections = {pair.target.full_name: pair.legacy for pair in suggestions.pairs if pair.legacy.documents}
    mapped = {
        pair.legacy.name: {str(entry["from"]) for entry in pair.columns.values()}
        for pair in suggestions.pairs
        if pair.legacy.documents
    }
    for target in list(suggestions.targets_without_table):
        if sides := sides_of(target, collections, mapped):
            suggestions.junctions[target.full_name] = sides
            suggestions.targets_without_table.remove(target)
    for side in (side for sides in suggestions.junctions.values() for side in sides):
        for pair in suggestions.pairs:
            if pair.legacy.name == side.collection:
                pair.unread.pop(side.field, None)


# --- tables -----------------------------------------------------------------------------------------------------------


def plain_name(name: str) -> str:
    """A name without case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def singular(name: str) -> str:
    """A plain name of one of them: `categories` → `category`, `boxes` → `box`, `books` → `book`."""
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if name.endswith(ending) and len(name) > len(ending) + 1:
            return name.removesuffix(ending) + instead
    return name[:-1] if name.endswith("s") and not name.endswith(("ss", "us", "is")) and len(name) > 2 else name


def _matched(
    tables: Sequence[FoundTable], targets: Sequence[FoundTarget]
) -> list[tuple[FoundTable, FoundTarget, bool]]:
    """Pairs of tables that look alike, the surest first; whether a pair is more than the same name is a guess."""
    rules = (
        lambda table, target: table.name == target.name,
        lambda table, target: plain_name(table.name) == plain_name(target.name),
        lambda table, target: singular(plain_name(table.name)) == singular(plain_name(target.name)),
        # As frameworks name tables: `catalogue_book` of the application `catalogue`.
        lambda table, target: singular(plain_name(table.name)) == singular(plain_name(target.name.rpartition("_")[2])),
    )
    matched: list[tuple[FoundTable, FoundTarget, bool]] = []
    free_tables, free_targets = list(tables), list(targets)
    for place, rule in enumerate(rules):
        for table in list(free_tables):
            alike = [target for target in free_targets if rule(table, target)]
            rivals = [other for other in free_tables if alike and rule(other, alike[0])]
            if len(alike) == 1 and len(rivals) == 1:
                matched.append((table, alike[0], place > 1))
                free_tables.remove(table)
                free_targets.remove(alike[0])
    order = [target.full_name for target in targets]
    return sorted(matched, key=lambda pair: order.index(pair[1].full_name))


def _key_is_kept(table: FoundTable, target: FoundTarget, transforms: Registry) -> bool:
    """Whether the target's key is made from the legacy row: where one of its name can be, or the target gives none."""
    if len(target.key) != 1:
        return True
    [key] = (column for column in target.columns if column.name == target.key[0])
    if key.identity == "always" or key.generated:
        return False
    same = any(
        plain_name(column.name) == plain_name(key.name)
        and (table.documents or transform_for(column, key, transforms) is not None)
        for column in table.columns
        if column.name in table.key
    )
    return same or not key.is_given


def _referring_in_circles(suggestions: Suggestions) -> set[str]:
    """Targets with given keys that refer to themselves or each other: no order of loading makes their ids known."""
    refers = {
        pair.target.full_name: {
            name
            for name in pair.target.references.values()
            if (referred := suggestions.of_target(name)) and not referred.key_is_written
        }
        for pair in suggestions.pairs
    }
    reach = {name: set(direct) for name, direct in refers.items()}
    for _ in reach:
        for near in reach.values():
            near |= {far for name in list(near) for far in reach.get(name, ())}
    return {name for name, reached in reach.items() if name in reached}


# --- columns ----------------------------------------------------------------------------------------------------------


def _fill(pair: Suggestion, suggestions: Suggestions, transforms: Registry, in_circles: set[str]) -> None:
    """Adds what becomes of each column on either side."""
    given_key = () if pair.key_is_written else pair.target.key
    wanted = [column for column in pair.target.columns if not column.generated and column.name not in given_key]
    alike = _alike(pair, wanted)
    for column in wanted:
        legacy, guessed = alike.get(column.name, (None, False))
        if legacy is None:
            known = f"; the target puts {column.default or 'a value'} there" if column.is_given else ""
            pair.undecided[column.name] = f"{NOTHING_ALIKE} in {pair.legacy.name}{known}"
            continue
        entry = _entry(pair, legacy, column, suggestions, transforms, in_circles)
        if isinstance(entry, str):
            pair.undecided[column.name] = entry
        else:
            pair.columns[column.name] = entry
            made = f"{pair.legacy.name}.{legacy.name} → {pair.target.full_name}.{column.name}"
            if guessed:
                pair.guesses.append(made)
            if entry.get("with") == BY_A_CLOCK:
                pair.by_a_clock.append(made)
            if legacy.holds == "bytes" and "transform" not in entry:
                pair.texts_of_bytes.append(made)
    read = {entry["from"] for entry in pair.columns.values()}
    computed = {
        legacy.name: name
        for name, (legacy, _) in _alike(pair, [column for column in pair.target.columns if column.generated]).items()
    }
    for unread in pair.legacy.columns:
        if unread.name in read:
            continue
        if not pair.key_is_written and pair.legacy.key == (unread.name,):
            pair.dropped[unread.name] = "the legacy key; kept in migration.mapping"
        else:
            claimed = next((name for name, (column, _) in alike.items() if column is unread), None)
            nothing = f"{NOTHING_ALIKE} in {pair.target.full_name}"
            if unread.name in computed:
                nothing = (
                    f"{pair.target.full_name} computes {computed[unread.name]} by itself; `dropped` leaves this one"
                )
            pair.unread[unread.name] = f"see {claimed}" if claimed else nothing


def _alike(pair: Suggestion, wanted: Sequence[FoundTargetColumn]) -> dict[str, tuple[FoundColumn, bool]]:
    """By target column the legacy column that looks alike, and whether that is a guess; each is read once."""
    prefix = singular(plain_name(pair.legacy.name))

    def without_table(name: str) -> str:
        return plain_name(name).removeprefix(prefix) or plain_name(name)

    rules = (
        lambda legacy, target: legacy == target,
        lambda legacy, target: plain_name(legacy) == plain_name(target),
        lambda legacy, target: without_table(legacy) == without_table(target),
        lambda legacy, target: plain_name(legacy).removesuffix("id") == plain_name(target).removesuffix("id"),
    )
    found: dict[str, tuple[FoundColumn, bool]] = {}
    # In a mapping file a dot stands between a table and its column.
    free = [column for column in pair.legacy.columns if "." not in column.name]
    for place, rule in enumerate(rules):
        for column in wanted:
            fitting = [legacy for legacy in free if column.name not in found and rule(legacy.name, column.name)]
            if len(fitting) == 1:
                found[column.name] = (fitting[0], place > 1)
                free.remove(fitting[0])
    return found


def _entry(
    pair: Suggestion,
    legacy: FoundColumn,
    column: FoundTargetColumn,
    suggestions: Suggestions,
    transforms: Registry,
    in_circles: set[str],
) -> dict[str, Any] | str:
    """How a column is made of one that looks alike, as a mapping file says it; a text says why that is undecided."""
    referred = pair.target.references.get(column.name)
    parent = suggestions.of_target(referred) if referred else None
    if pair.legacy.documents and (parent or not referred):
        names = parent.legacy.name if parent else legacy.names
        is_key = pair.target.key == (column.name,)
        return document_entry(pair.legacy, legacy, column, is_key=is_key, names=names, transforms=transforms)
    if referred and (parent is None or not parent.key_is_written):
        if parent is None or len(parent.legacy.key) != 1:
            return f"{legacy.name} looks alike; whose ids of {referred} are not known: a crosswalk is needed"
        if referred in in_circles:
            return f"{legacy.name} looks alike; {referred} refers back, and its ids are known only after it is loaded"
        entry = {"from": legacy.name, "crosswalk": parent.target.name}
        return {**entry, "allow_null": True} if column.nullable else entry
    made = transform_for(legacy, column, transforms)
    if made is None and legacy.kind == "integer" and family_of_target(column) == "instant":
        return (
            f"{legacy.name} ({legacy.type}) looks alike; where it counts seconds since 1970, map it with"
            f" `{{from: {legacy.name}, transform: epoch}}`"
        )
    if made is None:
        return f"{legacy.name} ({legacy.type}) looks alike; no transform makes {column.type} of it"
    transform, settings = made
    return {
        "from": legacy.name,
        **({} if transform == "text" else {"transform": transform}),
        **({"with": dict(settings)} if settings else {}),
    }


# --- what is concluded from names alone -------------------------------------------------------------------------------

PERSONAL = re.compile(
    r"(?:^|_)(?:first|last|middle|sur|given|family|full|user|nick|maiden)_?name(?:$|_)|e_?mail|phone|mobile|fax(?:$|_)"
    r"|address|street|post(?:al)?_?code|zip(?:$|_)|birth|dob(?:$|_)|passport|ssn|iban|password|picture|photo|username",
    re.IGNORECASE,
)


def looks_personal(column: FoundColumn) -> bool:
    """Whether a column's name says that it is about a person; ids are not."""
    is_text = column.kind in ("text", "code", "date") or (column.kind == "json" and "string" in column.type)
    return is_text and bool(PERSONAL.search(column.name))


def model_names(targets: Iterable[FoundTarget]) -> Mapping[str, str]:
    """A model for each target by its full name: `film_actor` → `FilmActor`, with its schema where two would be one."""

    def camel(name: str) -> str:
        words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
        joined = "".join(word[:1].upper() + word[1:] for word in words)
        return joined if joined[:1].isalpha() else f"Table{joined}"

    names: dict[str, str] = {}
    taken: set[str] = {"tables", "targets", "decisions", "archived"}
    for target in targets:
        # A file system may not tell case.
        name = next(
            name
            for name in (
                camel(target.name),
                camel(target.full_name),
                *(f"{camel(target.full_name)}{n}" for n in range(2, 99)),
            )
            if name.lower() not in taken
        )
        taken.add(name.lower())
        names[target.full_name] = name
    return names
