"""The mapping book: per target every column and how it is made, value maps, and where legacy columns go."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dtx_assets.machinery.dagster.metadata import asset_key
from dtx_assets.machinery.mapping.functions import told_by
from dtx_assets.machinery.mapping.lineage import (
    PartLineage,
    accounted_for,
    asked_cells,
    describe,
    located_cells,
    parts_text,
)
from dtx_assets.machinery.mapping.model import ColumnMapping, SourceMapping, TargetMapping
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetColumn
from dtx_assets.machinery.report.accounts import Accounts
from dtx_assets.machinery.report.figures import Figures
from dtx_assets.machinery.report.history import History
from dtx_assets.machinery.system.system import System


@dataclass(frozen=True)
class BookColumn:
    """A target column as one source makes it, or one that nothing fills."""

    column: TargetColumn
    sources: tuple[tuple[str, str], ...]
    asked: tuple[tuple[str, str], ...]
    """What its conditions ask of, besides."""
    how: str
    explained_by: str
    """The command that says which cells made the value of one row, where it is not the same for all."""
    maps: tuple[str, ...]
    part: str
    """Of the rows of which part it is so; empty: of all."""
    is_first: bool
    """Whether no part before has it."""
    is_by_part: bool
    """Whether `parts` of the source says what it is made of."""


@dataclass(frozen=True)
class BookParts:
    """The cells of the columns that a function makes of a row part by part."""

    called: str
    columns: tuple[str, ...]
    rows: tuple[PartLineage, ...]


@dataclass(frozen=True)
class BookSource:
    table: str
    functions: tuple[tuple[str, str], ...]
    columns: tuple[BookColumn, ...]
    parts: BookParts | None
    helpers: tuple[tuple[str, str], ...]
    dropped: Mapping[str, str]


@dataclass(frozen=True)
class BookPage:
    """The mapping of one target model."""

    model: str
    table: str
    area: str
    decision: str
    description: str
    filled: bool
    why: str
    sources: tuple[BookSource, ...]
    unfilled: tuple[TargetColumn, ...]
    owned: int | None


@dataclass(frozen=True)
class ValueMapPage:
    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    used_by: tuple[str, ...]


@dataclass(frozen=True)
class Destination:
    """A column of a model, made from rows of `table`; without a column, something that decides about rows."""

    model: str
    column: str
    table: str


@dataclass(frozen=True)
class LegacyPage:
    """A legacy table: where each of its columns goes."""

    table: LegacyTable
    read: int | None
    targets: tuple[str, ...]
    archived_because: str
    columns: tuple[tuple[str, tuple[Destination, ...], str], ...]
    """Column, where it goes, why it goes nowhere."""


def mapped(system: System) -> Iterable[tuple[str, TargetMapping]]:
    return system.mappings.targets.items()


def book_page(system: System, history: History, figures: Figures, mapping: TargetMapping) -> BookPage:
    target = system.target(mapping.target)
    flow = system.flow_of(mapping.target)
    key = asset_key(system.name, "target", mapping.target)
    why = history.graph.get(key).metadata.get("filled", "") if key in history.graph.get_all_asset_keys() else ""
    made = {name for source in mapping.sources.values() for name, _ in source.filled}
    return BookPage(
        model=mapping.target,
        table=target.name,
        area=target.area,
        decision=mapping.decision,
        description=target.description,
        filled=flow is not None,
        why=str(getattr(why, "value", why)),
        sources=tuple(book_source(system, mapping.target, table, source) for table, source in mapping.sources.items()),
        unfilled=tuple(column for column in target.columns if column.name not in made),
        owned=figures.owned.get(target.name, 0) if flow else None,
    )


def book_source(system: System, model: str, table: str, source: SourceMapping) -> BookSource:
    functions = (("shape", source.shape), ("expand", source.expand), ("merge", source.merge))
    parts = book_parts(system, model, table, source)
    return BookSource(
        table,
        tuple((kind, name) for kind, name in functions if name),
        tuple(
            BookColumn(
                column_of(system.target(model).columns, name),
                tuple(located_cells(table, column, column.from_)),
                tuple(asked_cells(table, source, column, system.legacy_tables)),
                describe(table, column, parts_text(parts.called) if parts and name in parts.columns else None),
                explained_by(system, model, source, name),
                tuple(map_name for map_name in maps_of(column) if map_name in system.mappings.value_maps),
                part,
                name not in dict(source.filled[:place]),
                parts is not None and name in parts.columns,
            )
            for place, (part, name, column) in enumerate(by_part(source))
        ),
        parts,
        tuple((name, describe(table, column)) for name, column in helpers_of(source)),
        source.dropped,
    )


def book_parts(system: System, model: str, table: str, source: SourceMapping) -> BookParts | None:
    """What a function says of each part before there is any row; parts that the file lists are columns of theirs."""
    rows = [] if source.rows else [part for part in system.lineage_by_part(model) if part.table == table]
    columns = dict.fromkeys(name for part in rows for name in part.columns)
    return BookParts(rows[0].called, tuple(columns), tuple(rows)) if rows else None


def explained_by(system: System, model: str, source: SourceMapping, name: str) -> str:
    """The command that says of one row which cells made the value, where a function tells it row by row."""
    functions = system.mappings.functions
    told = {each for made_by in (source.shape, source.expand, source.merge) for each in told_by(functions, made_by)}
    return f"dtx explain {model} ID {name} --system {system.name}" if name in told else ""


def by_part(source: SourceMapping) -> list[tuple[str, str, ColumnMapping]]:
    """Part, target column and how it is made, in the order of `filled`."""
    parts = [("", source.columns), *((row.part, row.columns) for row in source.rows)]
    return [(part, name, column) for part, columns in parts for name, column in columns.items()]


def helpers_of(source: SourceMapping) -> list[tuple[str, ColumnMapping]]:
    helpers = [source.helpers, *(row.helpers for row in source.rows)]
    return [pair for each in helpers for pair in each.items()]


def column_of(columns: Iterable[TargetColumn], name: str) -> TargetColumn:
    """The declaration of a column; `id` is in none, and stands for the row that is found."""
    found = next((column for column in columns if column.name == name), None)
    return found or TargetColumn(name, "bigint", "The row of another area that is filled.")


def maps_of(column: ColumnMapping) -> list[str]:
    used = [column.value_map] if column.value_map else []
    return list(dict.fromkeys(used + [use.split(".")[0] for use in column.uses]))


def cell_text(value: object) -> str:
    """A cell of a value map as its file says it."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def value_map_pages(system: System) -> tuple[ValueMapPage, ...]:
    used: dict[str, dict[str, None]] = {name: {} for name in system.mappings.value_maps}
    for model, mapping in sorted(mapped(system)):
        for source in mapping.sources.values():
            for _, column in source.made:
                for name in maps_of(column):
                    if name in used:
                        used[name][model] = None
    for flow in system.flows:
        for name in flow.mappings:
            if name in used:
                used[name] |= dict.fromkeys(model for model in flow.targets if model in system.mappings.targets)
    return tuple(
        ValueMapPage(
            name,
            tuple(frame.columns),
            tuple(tuple(map(cell_text, row)) for row in frame.iter_rows()),
            tuple(used[name]),
        )
        for name, frame in sorted(system.mappings.value_maps.items())
    )


def legacy_page(system: System, table: LegacyTable, accounts: Accounts) -> LegacyPage:
    """Where each column of a legacy table goes."""
    _, dropped = accounted_for(system.mappings, table.name)
    goes: dict[str, dict[tuple[str, str], Destination]] = {name: {} for name in table.columns}
    for model, mapping in sorted(mapped(system)):
        for source_table, source in mapping.sources.items():
            made = [*source.filled, *(("", how) for _, how in helpers_of(source))]
            for column, how in made:
                for owner, name in located_cells(source_table, how, how.from_):
                    if owner == table.name:
                        place = Destination(model, column, source_table)
                        goes.setdefault(name, {}).setdefault((model, column), place)
    reason = system.mappings.archived.get(table.name, "")
    columns = tuple(
        (
            name,
            tuple(targets.values()),
            dropped.get(name, "") or ("" if targets else reason or "kept in the archive only"),
        )
        for name, targets in goes.items()
    )
    entries = accounts.of(table.name)
    return LegacyPage(
        table,
        sum(entry.read for entry in entries) if entries else None,
        tuple(accounts.models[entry.target_table] for entry in entries),
        reason,
        columns,
    )
