"""Where each target column comes from, as plain data: for Dagster's lineage, for descriptions, for the mapping book."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtx_assets.machinery.mapping.functions import FlowFunction, cells_of_parts
from dtx_assets.machinery.mapping.model import ColumnMapping, SourceMapping, TargetMapping, decision_of
from dtx_assets.machinery.mapping.provenance import Cell, MadeOf, declared_cells
from dtx_assets.machinery.model.legacy import LegacyTable

if TYPE_CHECKING:
    from dtx_assets.machinery.mapping.load import Mappings

CONSTANT = "a constant"
"""What a column comes from that is made of no cell."""
Upstream = tuple[tuple[str, ...], str]
"""(asset key, column)."""


@dataclass(frozen=True)
class PartLineage:
    """The cells of the rows that are one part of a legacy row, by target column."""

    table: str
    called: str
    part: str
    columns: Mapping[str, MadeOf]


def value_origins(mapping: TargetMapping, sources: Container[str] | None = None) -> dict[str, set[tuple[str, str]]]:
    """For each target column the legacy tables and columns that its values are made of: what is masked goes by them.

    What conditions only ask of is lineage, and none of these.
    """
    origins: dict[str, set[tuple[str, str]]] = {}
    for table, source in _read(mapping, sources):
        for name, column in source.filled:
            origins.setdefault(name, set()).update(located_cells(table, column, column.from_))
    return origins


def located_cells(table: str, column: ColumnMapping, names: Iterable[str]) -> list[tuple[str, str]]:
    """Legacy table and column of each of the cells that a column of a source table names."""
    return [(owner or table, name) for owner, name in map(column.located, names)]


def column_lineage(
    mapping: TargetMapping,
    system: str,
    sources: Container[str] | None = None,
    legacy: Mapping[str, LegacyTable] | None = None,
) -> dict[str, list[Upstream]]:
    """For each target column the legacy columns it comes from, and the mapping assets it passes through.

    `sources` are the tables that count: those that the chosen options read; None is all. Of the columns that
    conditions ask of, those count that `legacy` has: others are made by functions.
    """
    lineage: dict[str, list[Upstream]] = {}
    for table, source in _read(mapping, sources):
        for name, column in source.filled:
            found = lineage.setdefault(name, [])
            asked = (
                ((system, "legacy", owner), one) for owner, one in asked_cells(table, source, column, legacy or {})
            )
            upstreams = [*_upstreams(system, table, column), *asked]
            found += [upstream for upstream in dict.fromkeys(upstreams) if upstream not in found]
    return lineage


def asked_cells(
    table: str, source: SourceMapping, column: ColumnMapping, legacy: Mapping[str, LegacyTable]
) -> list[tuple[str, str]]:
    """Legacy table and column of what a value is not made of, and which its conditions ask of."""
    made_of = located_cells(table, column, column.from_)
    return [
        (owner, name)
        for owner, name in located_cells(table, column, declared_cells(column, source))
        if (owner, name) not in made_of and owner in legacy and name in legacy[owner].columns
    ]


def lineage_by_part(
    mapping: TargetMapping,
    functions: Mapping[str, FlowFunction],
    decisions: Mapping[str, str],
    legacy: Mapping[str, LegacyTable],
    sources: Container[str] | None = None,
) -> list[PartLineage]:
    """What differs between the parts of a legacy row: the cells of each, as the file lists them under `rows`, or as
    the function says that makes the parts."""
    found = []
    for table, source in _read(mapping, sources):
        called = source.part.called if source.part else "part"
        for row in source.rows:
            columns = {name: _made_of(table, source, column, legacy) for name, column in row.columns.items()}
            found.append(PartLineage(table, called, row.part, columns))
        for part, told in cells_of_parts(functions, source.expand, decisions):
            found.append(PartLineage(table, called, part, told))
    return found


def _made_of(table: str, source: SourceMapping, column: ColumnMapping, legacy: Mapping[str, LegacyTable]) -> MadeOf:
    cells = (*located_cells(table, column, column.from_), *asked_cells(table, source, column, legacy))
    return MadeOf(tuple(Cell(name, None if owner == table else owner) for owner, name in cells))


def cells_text(made: MadeOf) -> str:
    """The cells of a value, without a row."""
    told = (f"{cell.table}.{cell.column}" if cell.table else cell.column for cell in made.cells)
    return (" + " if made.how == "sum" else ", ").join(told) or CONSTANT


def _upstreams(system: str, table: str, column: ColumnMapping) -> Iterable[Upstream]:
    for part in column.from_:
        owner, name = column.located(part)
        yield (system, "legacy", owner or table), name
    if column.crosswalk:
        yield (system, "mapping", column.crosswalk), "target_id"
    if column.value_map and column.output:
        yield (system, "mapping", column.value_map), column.output
    if column.cases:
        yield (system, "mapping", column.cases), "target_id"
    for use in column.uses:
        name, _, used = use.partition(".")
        yield (system, "mapping", name), used or "target_id"


def _read(mapping: TargetMapping, sources: Container[str] | None) -> Iterator[tuple[str, SourceMapping]]:
    return ((table, source) for table, source in mapping.sources.items() if sources is None or table in sources)


def column_descriptions(
    mapping: TargetMapping, sources: Container[str] | None = None, parts: Iterable[PartLineage] = ()
) -> dict[str, str]:
    """How each target column is made, in words; what several sources give is told source by source.

    What `parts` has in full is not listed once more.
    """
    by_part = {(part.table, name): part.called for part in parts for name in part.columns}
    sentences: dict[str, list[str]] = {}
    for table, source in _read(mapping, sources):
        for name, column in source.filled:
            called = by_part.get((table, name)) if column.by else None
            sentences.setdefault(name, []).append(describe(table, column, parts_text(called) if called else None))
    return {name: "; ".join(told) for name, told in sentences.items()}


def parts_text(called: str) -> str:
    """What stands for a list of cells that differs from part to part."""
    return f"the cells that are listed for each {called}"


def describe(table: str, column: ColumnMapping, origin: str | None = None) -> str:
    """One sentence: from where, by what, and what happens to a value that is not listed."""
    origin = origin or ", ".join(map(".".join, located_cells(table, column, column.from_)))
    if column.is_constant:
        text = "always NULL" if column.constant is None else f"always {column.constant!r}"
    elif column.crosswalk or column.value_map:
        through = f"crosswalk {column.crosswalk}" if column.crosswalk else f"value map {column.value_map}"
        missing = {"reject": "rejected", "null": "NULL and counted", "keep": "kept"}[column.missing]
        text = f"{origin} through {through}; what is not listed is {missing}"
    elif column.cases:
        text = f"{origin} by the first line of the case table {column.cases} that fits"
    elif column.by:
        text = f"{origin}, by the flow's {column.by} function"
    else:
        told = {name: decision_of(value) for name, value in column.with_.items()}
        settings = ", ".join(
            f"{name}: by decision {told[name]}" if told[name] else f"{name}: {value!r}"
            for name, value in column.with_.items()
        )
        text = f"{origin} by transform {column.transform or 'text'}" + (f" ({settings})" if settings else "")
    if column.when:
        text += f" (only under {column.when})"
    return f"{text}. {column.note}" if column.note else text


def accounted_for(mappings: "Mappings", table: str) -> tuple[set[str], dict[str, str]]:
    """The columns of a legacy table that some mapping uses, and those that are dropped, with the reason.

    Of one that is undecided the reason says so.
    """
    used: set[str] = set()
    dropped: dict[str, str] = {}
    for mapping in mappings.targets.values():
        for name, source in mapping.sources.items():
            for _, column in source.made:
                for part in column.from_:
                    owner, legacy = column.located(part)
                    if (owner or name) == table:
                        used.add(legacy)
            if name == table:
                asked = {condition.column for condition in source.asked}
                used |= {column for column in asked if column}
                dropped |= source.dropped
                dropped |= {column: f"undecided: {note}" for column, note in source.undecided.items()}
    return used, dropped
