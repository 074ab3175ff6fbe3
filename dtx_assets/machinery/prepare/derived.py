"""A flow is what its mapping files say: sources, accounting, look-ups, decisions, columns read, owner."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial

from dtx_assets.machinery.mapping.cases import asked_columns
from dtx_assets.machinery.mapping.conditions import is_active
from dtx_assets.machinery.mapping.load import Mappings
from dtx_assets.machinery.mapping.model import ColumnMapping, Condition, SourceMapping, TargetMapping, When
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.prepare.flow import mapping_run, united
from dtx_assets.machinery.prepare.generic_key import CONTENT_TYPES
from dtx_assets.machinery.prepare.members import members_run, united_pairs
from dtx_assets.machinery.prepare.parts import read_names, read_tables
from dtx_assets.machinery.system.flow import Flow
from dtx_assets.machinery.system.system import FlowMaker

Chosen = Mapping[str, str]


def derived_flows(
    mappings: Mappings, legacy_tables: Mapping[str, LegacyTable], *, but: Collection[str] = ()
) -> tuple[FlowMaker, ...]:
    """The makers of the flows of all mapping files; `but` are models that a flow of another kind makes."""
    roots = {
        flow_name(mapping): mapping.target
        for mapping in reversed(list(mappings.targets.values()))
        if mapping.parent is None and mapping.target not in but
    }
    return tuple(derived_flow(mappings, legacy_tables, model) for model in reversed(roots.values()))


def flow_name(mapping: TargetMapping) -> str:
    return mapping.flow or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", mapping.target).lower()


def derived_flow(mappings: Mappings, legacy_tables: Mapping[str, LegacyTable], model: str) -> FlowMaker:
    """The maker of the flow of a mapping file and of those that name its model as their parent."""
    family = _family(mappings, model)
    decisions = tuple(dict.fromkeys(name for member in family for name in _decisions(mappings, member)))
    made: dict[tuple[str | None, ...], Flow | None] = {}

    def flow_under(chosen: Chosen) -> Flow | None:
        """Made once for all choices that say the same of its decisions: each decision asks for each of its options."""
        said = tuple(chosen.get(name) for name in decisions)
        if said not in made:
            made[said] = make(chosen)
        return made[said]

    def make(chosen: Chosen) -> Flow | None:
        entries = [
            (table, member.target, entry)
            for member in family
            if is_active(member.when, chosen)
            for table, entry in member.sources.items()
            if is_active(entry.when, chosen)
        ]
        models = tuple(dict.fromkeys(target for _, target, entry in entries if not entry.only_read))
        if not any(member.parent is None and member.target in models for member in family):
            return None
        accounted = tuple((table, target) for table, target, entry in entries if entry.counted and not entry.only_read)
        tables = dict.fromkeys(table for table, _, _ in entries)
        others = (other for _, _, entry in entries for other in read_tables(entry))
        sources = tuple(dict.fromkeys([*tables, *others]))
        junctions = [target for _, target, entry in entries if entry.members]
        # What is only read lies with its owner whatever the options say of its own columns.
        every = [pair for member in reversed(family) for pair in reversed(member.sources.items())]
        owner = {table: owner for table, entry in every if table in sources and (owner := owner_of(entry))}
        return Flow(
            name=flow_name(family[0]),
            area=legacy_tables[entries[0][0]].area,
            sources=sources,
            accounted=accounted,
            mappings=tuple(
                dict.fromkeys(
                    [
                        *(name for _, _, entry in entries for name in read_names(entry)),
                        *(CONTENT_TYPES for table in sources if legacy_tables[table].generic_key),
                    ]
                )
            ),
            targets=models,
            decisions=decisions,
            owner=owner,
            run=members_run(junctions[0]) if junctions else mapping_run(models),
            reads=lambda options: _read_columns(entries, legacy_tables, owner, options),
            required=lambda options: _required_columns(entries, legacy_tables, options),
            unite={
                member.target: partial(united_pairs, list(entry.members.columns(table)))
                for member in family
                for table, entry in list(member.sources.items())[:1]
                if entry.members and member.target in models
            },
            merge={target: partial(united, table, ("id",)) for table, target, entry in entries if entry.united},
            shared=frozenset(table for table, _, entry in entries if entry.shared),
            together=any(member.together for member in family),
            counted_apart=not any(entry.only for _, _, entry in entries),
            splits=len(tables) == 1
            and not any(member.together for member in family)
            and not any(entry.merge or entry.id or entry.members for _, _, entry in entries),
            uses_cutover_time=any(is_active(when, chosen) for _, _, entry in entries for when in entry.cutover_time),
            description=next((member.description for member in family if member.description), ""),
        )

    return flow_under


def _family(mappings: Mappings, model: str) -> list[TargetMapping]:
    """A mapping, those of its flow, and their descendants, parents first, and what others follow before these."""
    name = flow_name(mappings.for_target(model))
    found = [root for root in mappings.targets.values() if root.parent is None and flow_name(root) == name]
    for member in found:
        found += [child for child in mappings.targets.values() if child.parent == member.target]
    ordered: list[TargetMapping] = []
    while found:
        named = {member.target for member in found}
        # Where models follow each other in a circle, the first one says so when it runs.
        first = next((member for member in found if not _followed(member) & named), found[0])
        ordered.append(first)
        found.remove(first)
    return ordered


def _followed(mapping: TargetMapping) -> set[str]:
    """The models whose parts rows of a mapping follow."""
    rows = (row for entry in mapping.sources.values() for row in entry.rows)
    return {row.follows.model for row in rows if row.follows}


def owner_of(entry: SourceMapping) -> tuple[str, str] | None:
    """The legacy column of the owner and its crosswalk; None where rows belong to no one."""
    if entry.members:
        return None
    made = dict(reversed(entry.made))
    if entry.owner:
        column = made[entry.owner]
        return column.from_[0], column.crosswalk or ""
    through = (column for _, column in entry.made if column.crosswalk and not column.transform)
    return next(((column.from_[0], str(column.crosswalk)) for column in through), None)


def _of_cases(mappings: Mappings, column: ColumnMapping) -> list[str]:
    """The decisions that a case table asks of, as far as its columns are no others."""
    known = mappings.decision_keys
    return [name for name in asked_columns(mappings.value_maps[column.cases]) if name in known] if column.cases else []


def _decisions(mappings: Mappings, mapping: TargetMapping) -> Iterator[str]:
    whens: list[When | None] = [mapping.when]
    for entry in mapping.sources.values():
        whens.append(entry.when)
        yield from entry.decisions
        whens += entry.cutover_time
        whens += [column.when for _, column in entry.made]
        yield from (decision for _, column in entry.made for decision in column.decisions)
        named = (column.transform or "text" for _, column in entry.made)
        yield from (decision for transform in named for decision in mappings.transforms.decisions.get(transform, ()))
        yield from (decision for _, column in entry.made for decision in _of_cases(mappings, column))
        whens += [row.when for row in entry.rows]
        whens += [rule.when for rule in entry.rules]
        whens += [entry.duplicates.references_follow] if entry.duplicates else []
        whens += [entry.existing.adopt] if entry.existing else []
        whens += [each.when for each in entry.points_to]
    yield from (when.decision for when in whens if when)


def _required_columns(
    entries: Iterable[tuple[str, str, SourceMapping]], legacy_tables: Mapping[str, LegacyTable], chosen: Chosen
) -> dict[str, tuple[str, ...]]:
    """The columns by source table that are read under a chosen option only: then they have to be there."""
    required: dict[str, dict[str, None]] = {}
    for table, _, entry in entries:
        for _, column in entry.made:
            if column.when and is_active(column.when, chosen):
                required.setdefault(table, {}).update(dict.fromkeys(column.local))
    return {table: tuple(names) for table, names in required.items()}


def _read_columns(
    entries: Iterable[tuple[str, str, SourceMapping]],
    legacy_tables: Mapping[str, LegacyTable],
    owner: Mapping[str, tuple[str, str]],
    chosen: Chosen,
) -> dict[str, frozenset[str]]:
    """The columns of each source table that are read under the chosen options."""
    read: dict[str, set[str]] = {}
    for table, _, entry in entries:
        found = read.setdefault(table, set())
        found |= {*legacy_tables[table].key, *(legacy_tables[table].generic_key or ()), *entry.require}
        found |= {owner[table][0]} if table in owner else set()
        sorting = (spec.order for spec in (entry.duplicates, entry.duplicate_rows, entry.united) if spec)
        found |= {name for order in sorting for name in order}
        found |= _asked(entry.only)
        for _, column in entry.made:
            if is_active(column.when, chosen):
                found |= _asked(column.only)
                for part in column.from_:
                    other, name = column.located(part)
                    read.setdefault(other or table, set()).add(name)
        for row in entry.rows:
            found |= {*row.require, *_asked(row.only)}
        for rule in entry.rules:
            if is_active(rule.when, chosen):
                found |= _asked(rule.only)
    return {table: frozenset(names & set(legacy_tables[table].columns)) for table, names in read.items()}


def _asked(conditions: Iterable[Condition]) -> set[str]:
    return {condition.column for condition in conditions if condition.column}
