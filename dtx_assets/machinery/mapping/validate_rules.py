"""Checks what a mapping file says of rows: rules, several rows of one, duplicates, parents, what functions read.

What it says of columns is `validate`.
"""

import re
from collections.abc import Collection, Iterable, Mapping

from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, suggestion
from dtx_assets.machinery.mapping.model import (
    AddedTo,
    Condition,
    DropRule,
    Duplicates,
    RejectRule,
    RowMapping,
    SourceMapping,
    TakenBy,
    TargetMapping,
)
from dtx_assets.machinery.mapping.validate import (
    FOLLOWED,
    OF_PARENT,
    Known,
    Place,
    check_column_entries,
    check_when,
    is_of_parent,
)
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetTable

PLACEHOLDER = re.compile(r"\{(:?[^{}:]+)\}")
"""What stands in a sentence for what a row has: `{column}` of its legacy table, `{:column}` as it was made."""

NOTHING_OF_ITS_OWN = {"when", "owner", "helpers", "dropped", "undecided", "only_read"}
"""What a source may say whose rows are only read."""


def check_rules(file: YamlFile, mapping: TargetMapping, known: Known, findings: Findings) -> None:
    """Whatever is wrong with what the mapping of one target says of rows."""
    top, table = Place(file, (), findings), known.targets.get(mapping.target)
    if mapping.when:
        check_when(top / "when", mapping.when, known)
    if table is None:
        return
    before: list[str] = []
    for name, source in mapping.sources.items():
        if name in known.legacy_tables:
            place = top / "sources" / name
            _check_source(place, known.legacy_tables[name], source, table, known)
            _check_beside(place, "taken_by", source.taken_by, table, before)
            _check_beside(place, "added_to", source.added_to, table, before)
            if source.added_to:
                made = {name for name, _ in source.made}
                spot, legacy = place / "added_to", known.legacy_tables[name]
                _check_detail(spot / "detail", source.added_to.detail, legacy, source, made)
                if source.added_to.column:
                    _check_named(spot / "column", (source.added_to.column,), legacy.columns, "legacy column")
        before.append(name)


def _check_source(place: Place, legacy: LegacyTable, source: SourceMapping, table: TargetTable, known: Known) -> None:
    made = {name for name, _ in source.made if name in source.columns or name in source.helpers}
    if source.when:
        check_when(place / "when", source.when, known)
    _check_owner(place / "owner", source)
    _check_rules_of(place, legacy, source, source, made, known)
    for index, row in enumerate(source.rows):
        _check_row(place / "rows" / index, legacy, source, row, table, made, known)
    _check_several_rows(place, source)
    everywhere = {name for name, _ in source.made}
    if source.existing:
        if source.existing.adopt:
            check_when(place / "existing" / "adopt", source.existing.adopt, known)
        _check_named(place / "existing" / "key", (source.existing.key,), everywhere, "column or helper")
        if source.existing.column:
            _check_named(place / "existing" / "column", (source.existing.column,), legacy.columns, "legacy column")
    if source.duplicates:
        if source.duplicates.references_follow:
            check_when(place / "duplicates" / "references_follow", source.duplicates.references_follow, known)
        _check_duplicates(place / "duplicates", legacy, source, source.duplicates, everywhere)
    if source.duplicate_rows:
        _check_duplicates(place / "duplicate_rows", legacy, source, source.duplicate_rows, made)
    _check_only(place, legacy, source)
    _check_united(place, legacy, source, table, everywhere)
    if source.only_read:
        for key in sorted(source.model_fields_set - NOTHING_OF_ITS_OWN):
            (place / key).wrong(f"`{key}` says nothing here; rows that are only read give nothing", "remove it")
    _check_identity(place, source, table)
    _check_members(place / "members", legacy, source, table)
    if source.part:
        _check_named(place / "part", source.part.value, made, "column or helper")
    for index, pointed in enumerate(source.points_to):
        if pointed.table not in known.legacy_tables:
            (place / "points_to" / index / "table").unknown("legacy table", pointed.table, known.legacy_tables)
        if pointed.when:
            check_when(place / "points_to" / index / "when", pointed.when, known)
    if source.points_to and not legacy.generic_key:
        (place / "points_to").wrong(f"{legacy.name} has no generic key", "declare it in tables.yaml, or remove this")
    for when in source.cutover_time:
        check_when(place / "cutover_time", when, known)
    for use in source.uses:
        name, _, column = use.partition(".")
        if column or name not in (*known.value_maps, *known.crosswalks, *known.references, *known.unreadable):
            listed = [*known.value_maps, *known.crosswalks, *known.references]
            (place / "uses").unknown("value map, crosswalk or reference", use, listed)
    options = [decision.key for decision in known.decisions.entries if decision.options]
    _check_named(place / "decisions", source.decisions, options, "decision")
    for key in ("uses", "decisions"):
        if getattr(source, key) and not (source.shape or source.expand or source.merge):
            (place / key).wrong(f"`{key}` says nothing here; no function of the source reads it", "remove it")


def _check_members(place: Place, legacy: LegacyTable, source: SourceMapping, table: TargetTable) -> None:
    spec = source.members
    if spec is None:
        return
    if legacy.key != (spec.key,) or legacy.key_repeats:
        key = ", ".join(legacy.key) or "none"
        (place / "key").wrong(
            f"the key of {legacy.name} is {key}, not {spec.key!r}", "name its key, which is one column"
        )
    if spec.field in legacy.columns and legacy.kind_of(spec.field) != "json":
        (place / "field").wrong(
            f"{legacy.name}.{spec.field} is read as {legacy.kind_of(spec.field)}, so its members cannot be told apart",
            f"let it be read as it is: `{spec.field}: json` in tables.yaml",
        )
    if set(table.key) != {spec.own, spec.other} or not table.key_is_written:
        place.wrong(
            f"the key of {table.model} is {', '.join(table.key)}, and `own` and `other` make {spec.own}, {spec.other}",
            "let them be the two columns of its key, with `key_is_written: true` in targets.yaml",
        )


def _check_duplicates(
    spot: Place, legacy: LegacyTable, source: SourceMapping, spec: Duplicates, made: Collection[str]
) -> None:
    _check_named(spot / "key", spec.key, made, "column or helper")
    if not source.shape:
        _check_named(spot / "order", spec.order, {*made, *legacy.columns}, "column or helper")
    if spec.column:
        _check_named(spot / "column", (spec.column,), legacy.columns, "legacy column")


def _check_only(place: Place, legacy: LegacyTable, source: SourceMapping) -> None:
    """What asks whether a row counts, or a column is made, asks of legacy columns alone."""
    asked = [(place / "only", source.only)]
    for kind, columns in (("columns", source.columns), ("helpers", source.helpers)):
        asked += [(place / kind / name / "only", column.only) for name, column in columns.items()]
    for spot, conditions in asked:
        _check_named(
            spot, [str(each.column or each.value) for each in conditions], legacy.columns_asked, "legacy column"
        )


def _check_united(
    place: Place, legacy: LegacyTable, source: SourceMapping, table: TargetTable, made: Collection[str]
) -> None:
    if source.united is None:
        return
    _check_named(place / "united" / "order", source.united.order, {*made, *legacy.columns}, "column or helper")
    if not source.id:
        (place / "united").wrong("rows are united that go to one row of the target, and nothing says which", "`id: …`")
    if source.merge:
        (place / "united").wrong("`united` and `merge` are two ways to make one row of several", "keep one of them")
    if len(place.file.content["sources"]) > 1:
        (place / "united").wrong(f"rows of {table.model} come from several sources", "let a function `merge` them")


def _check_detail(place: Place, detail: str, legacy: LegacyTable, source: SourceMapping, made: Collection[str]) -> None:
    for name in PLACEHOLDER.findall(detail):
        if name.startswith(":"):
            _check_named(place, (name[1:],), made, "column or helper")
        elif not source.shape:
            _check_named(place, (name,), legacy.columns, "legacy column")


def _check_owner(place: Place, source: SourceMapping) -> None:
    if source.owner and not any(
        name == source.owner and (column.crosswalk or column.transform) for name, column in source.made
    ):
        owners = [name for name, column in source.made if column.crosswalk]
        place.unknown("column or helper with a crosswalk", source.owner, owners)


def _check_rules_of(
    place: Place,
    legacy: LegacyTable,
    source: SourceMapping,
    entry: SourceMapping | RowMapping,
    made: Collection[str],
    known: Known,
) -> None:
    _check_named(place / "require", entry.require, legacy.columns, "legacy column")
    both: dict[str, tuple[DropRule | RejectRule, ...]] = {"drop": entry.drop, "reject": entry.reject}
    for kind, rules in both.items():
        for index, rule in enumerate(rules):
            spot = place / kind / index
            _check_conditions(spot / "only", legacy, source, rule.only, made)
            if not rule.only and not (kind == "drop" and rule.when):
                (spot / "only").wrong("the rule asks nothing, so it would take every row", "say which rows: `only: …`")
            if rule.when:
                check_when(spot / "when", rule.when, known)
    for index, reject in enumerate(entry.reject):
        if reject.column:
            _check_named(place / "reject" / index / "column", (reject.column,), legacy.columns, "legacy column")
        _check_detail(place / "reject" / index / "detail", reject.detail, legacy, source, made)


def _check_conditions(
    place: Place,
    legacy: LegacyTable,
    source: SourceMapping,
    conditions: Iterable[Condition],
    made: Collection[str],
) -> None:
    for condition in conditions:
        if condition.value is not None:
            _check_named(place / "value", (condition.value,), made, "column or helper")
        elif condition.column not in legacy.columns_asked and not (
            source.shape or is_of_parent(place, str(condition.column))
        ):
            # A shape function adds columns of its own; what they are called is known when it runs.
            _check_named(place / "column", (str(condition.column),), legacy.columns, "legacy column")


def _check_row(
    place: Place,
    legacy: LegacyTable,
    source: SourceMapping,
    row: RowMapping,
    table: TargetTable,
    made: Collection[str],
    known: Known,
) -> None:
    if row.when:
        check_when(place / "when", row.when, known)
    check_column_entries(place, legacy, source, row, table, known)
    for kind, names in (("columns", row.columns), ("helpers", row.helpers)):
        for name in names:
            if name in made:
                (place / kind / name).wrong(f"{name} is made for all rows of the source already", "say it in one place")
    _check_conditions(place / "only", legacy, source, row.only, made)
    _check_rules_of(place, legacy, source, row, {*made, *row.columns, *row.helpers}, known)


def _check_several_rows(place: Place, source: SourceMapping) -> None:
    if source.rows:
        for key in ("expand", "merge", "part", "id"):
            if getattr(source, key):
                (place / key).wrong(f"`{key}` and `rows` are two ways to make rows", "keep one of them")
        parts = [row.part for row in source.rows]
        for index, row in enumerate(source.rows):
            if row.part in parts[:index]:
                (place / "rows" / index / "part").wrong(f"two rows are the part {row.part!r}", "name one otherwise")
        may_be_none = all(row.only or row.when or row.drop for row in source.rows)
        if source.counted and not source.no_rows and may_be_none:
            (place / "rows").wrong(
                "a legacy row may give none of these rows, and no rule drops it then", "name the rule: `no_rows: …`"
            )
    elif source.no_rows and not source.expand:
        (place / "no_rows").wrong("`no_rows` says nothing here; each legacy row gives a row", "remove it")
    if source.no_rows and not source.counted:
        (place / "no_rows").wrong("`no_rows` says nothing here; another target counts the rows", "remove it")


def _check_identity(place: Place, source: SourceMapping, table: TargetTable) -> None:
    if source.id:
        _check_named(place / "id", (source.id,), source.helpers, "helper")
        if table.writes != "update":
            (place / "id").wrong(f"rows of {table.model} are not updated", "remove `id`")
    if source.is_run and table.writes == "update" and not source.id:
        place.wrong(f"rows of {table.model} are updated, and nothing says which", "name the helper: `id: …`")


def _check_beside(
    place: Place, key: str, beside: TakenBy | AddedTo | None, table: TargetTable, before: Collection[str]
) -> None:
    if beside is None:
        return
    if beside.source not in before:
        (place / key / "source").unknown("source before this one", beside.source, list(before))
    if not table.natural_key:
        (place / key).wrong(f"{table.model} has no natural key to compare", f"remove `{key}`")


def _check_named(place: Place, names: Iterable[str], known: Collection[str], kind: str) -> None:
    for name in names:
        if name not in known:
            place.unknown(kind, name, list(known))


def check_parents(files: Mapping[str, tuple[YamlFile, TargetMapping]], findings: Findings) -> None:
    """Each parent is a mapped model of the same tables, and no model is its own ancestor."""
    mappings = {mapping.target: mapping for _, mapping in files.values()}
    for file, mapping in files.values():
        if mapping.parent is None:
            continue
        place, parent = Place(file, ("parent",), findings), mappings.get(mapping.parent)
        if parent is None:
            place.unknown("mapped model", mapping.parent, list(mappings))
            continue
        for table, source in mapping.sources.items():
            made = {name for name, _ in parent.sources[table].made} if table in parent.sources else set()
            for name in read_of_parent(source):
                if name not in made:
                    place.wrong(f"{parent.target} makes no {name!r}", suggestion(name, made))
            if table in parent.sources and read_of_parent(source) and parent.sources[table].rows:
                place.wrong(f"{parent.target} gives several rows of one: none of them is the parent", "read none")
            if table in parent.sources and parent.sources[table].merge and (source.counted or read_of_parent(source)):
                place.wrong(f"{parent.target} merges its rows, so it cannot be a parent", "remove `parent`")
            if table not in parent.sources:
                place.wrong(f"{parent.target} has no rows of {table}", suggestion(table, list(parent.sources)))
        seen = {mapping.target}
        while parent is not None and parent.parent and parent.target not in seen:
            seen.add(parent.target)
            parent = mappings.get(parent.parent)
        if parent is not None and parent.target in seen:
            place.wrong(f"{mapping.target} is its own ancestor", "remove one of the `parent`s")


def check_followed(files: Mapping[str, tuple[YamlFile, TargetMapping]], findings: Findings) -> None:
    """Each part that a row follows is one of a mapped model, of the same table, and has the columns that are read."""
    mappings = {mapping.target: mapping for _, mapping in files.values()}
    for file, mapping in files.values():
        for table, source in mapping.sources.items():
            for number, row in enumerate(source.rows):
                _check_followed(Place(file, ("sources", table, "rows", number), findings), table, row, mappings)


def _check_followed(place: Place, table: str, row: RowMapping, mappings: Mapping[str, TargetMapping]) -> None:
    read = read_of_followed(row)
    if row.follows is None:
        if read:
            place.wrong(
                f"it reads {FOLLOWED}{read[0]}, and follows no part", "name it: `follows: { model: …, part: … }`"
            )
        return
    model, part = row.follows.model, row.follows.part
    if model not in mappings:
        (place / "follows" / "model").unknown("mapped model", model, list(mappings))
        return
    source = mappings[model].sources.get(table)
    parts = {each.part: each for each in source.rows} if source else {}
    if source is None or part not in parts:
        (place / "follows" / "part").unknown(f"part of {table} in {model}", part, list(parts))
        return
    made = [*source.columns, *source.helpers, *parts[part].columns, *parts[part].helpers]
    for name in read:
        if name not in made:
            there, known = f"{FOLLOWED}{name}", [f"{FOLLOWED}{each}" for each in made]
            (place / "columns").wrong(f"part {part!r} of {model} has no {there!r}", suggestion(there, known))


def read_of_followed(row: RowMapping) -> list[str]:
    """The columns that a row reads of the part that it follows."""
    entries = (*row.columns.values(), *row.helpers.values())
    names = (name for entry in entries for name in entry.input if name.startswith(FOLLOWED))
    return list(dict.fromkeys(name.removeprefix(FOLLOWED) for name in names))


def read_of_parent(source: SourceMapping) -> list[str]:
    """The columns of the parent's row that columns and rules of a source read."""
    names = [name for _, column in source.made for name in column.input]
    conditions = [condition for rule in source.rules for condition in rule.only]
    conditions += [condition for row in source.rows for condition in row.only]
    names += [condition.column for condition in conditions if condition.column]
    return list(dict.fromkeys(name.removeprefix(OF_PARENT) for name in names if name.startswith(OF_PARENT)))
