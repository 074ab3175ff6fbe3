"""How the columns of a target row were made of its legacy rows: of which cells, by what, and what was lost."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from dtx_assets.machinery.base.masking import mask, plain
from dtx_assets.machinery.mapping.execute import apply_columns
from dtx_assets.machinery.mapping.model import ColumnMapping, SourceMapping
from dtx_assets.machinery.mapping.provenance import MadeOf
from dtx_assets.machinery.model.legacy import ColumnKind, LegacyTable
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.prepare.preparation import transform_context
from dtx_assets.machinery.prepare.trace import Trace, cells_that_made, is_told, trace
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.sources.frames import has_key, key_elements, legacy_frame, may_have_key
from dtx_assets.machinery.sources.landing import ROW, UNDECODABLE
from dtx_assets.machinery.transforms.columns import TransformContext, canonical_id, code

Facts = dict[str, Any]


# --- legacy rows ------------------------------------------------------------------------------------------------------


def landed_row(environment: RunEnvironment, table_name: str, key: str) -> pl.DataFrame | None:
    """The row of a landed table that a source key names, as `legacy_frame` has it; None where it is there no more."""
    table = environment.system.legacy_tables[table_name]
    return named_row(table, rows_with_keys(environment, table_name, [key]), key)


def rows_with_keys(environment: RunEnvironment, table_name: str, keys: Iterable[str]) -> pl.DataFrame:
    """The rows of a landed table that have one of these source keys; of a key that repeats, all of them."""
    table = environment.system.legacy_tables[table_name]
    if environment.lake.manifest((environment.system.name, "legacy", table_name)) is None:
        return pl.DataFrame(schema={ROW: pl.Int64})
    numbers = [number for key in keys if (number := _row_number(table, key)) is not None]
    named = [each for key in keys if _row_number(table, key) is None and (each := key_elements(table, key)) is not None]
    by_number = [pl.col(ROW) == number for number in numbers]
    landed = _any_of([*by_number, *(may_have_key(table, each) for each in named)])
    frame = legacy_frame(environment.lake, environment.system.name, table, where=landed)
    has = _any_of([*by_number, *(has_key(table, each) for each in named)])
    return frame.filter(has).sort(ROW).collect(engine="streaming")


def _any_of(conditions: Sequence[pl.Expr]) -> pl.Expr:
    """Whether one of them holds; where there is but one, the reader of the files sees it as it is."""
    return conditions[0] if len(conditions) == 1 else pl.any_horizontal(pl.lit(False), *conditions)


def named_row(table: LegacyTable, rows: pl.DataFrame, key: str) -> pl.DataFrame | None:
    """Of the rows that have one of some keys, the one that a key names."""
    number = _row_number(table, key)
    elements = [] if number is not None else key_elements(table, key)
    if elements is None or rows.is_empty():
        return None
    found = rows.filter(pl.col(ROW) == number if number is not None else has_key(table, elements))
    ordinal = int(elements[len(table.key)] or 0) if len(elements) > len(table.key) else 1
    last = found.height if table.has_unique_key else ordinal
    return found.slice(last - 1, 1) if 0 < last <= found.height else None


def _row_number(table: LegacyTable, key: str) -> int | None:
    text = key.removeprefix("row ") if key.startswith("row ") else "" if table.key else key
    return int(text) if text.isdecimal() else None


def texts(row: pl.DataFrame) -> dict[str, str | None]:
    """The values of a landed row by column."""
    return row.drop(ROW, UNDECODABLE).row(0, named=True)


# --- what made a column -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Origin:
    """A legacy row that gave a target row, or a part of it; `row` is empty where it is there no more."""

    table: LegacyTable
    key: str
    part: str
    model: str
    target: TargetTable
    mapping: SourceMapping
    landed: pl.DataFrame | None

    @property
    def row(self) -> dict[str, str | None]:
        return {} if self.landed is None else texts(self.landed)


class Ways:
    """The ways of all columns of one target row."""

    def __init__(
        self,
        environment: RunEnvironment,
        origins: Sequence[Origin],
        rows: Mapping[str, pl.DataFrame],
        *,
        unmasked: bool,
    ) -> None:
        self.environment, self.system, self.origins, self.unmasked = environment, environment.system, origins, unmasked
        self._rows = rows
        self._traces: dict[str, Trace | None] = {}

    @cached_property
    def _context(self) -> TransformContext:
        """What the mappings of the row look into, as far as it is there."""
        columns = [column for origin in self.origins for _, column in origin.mapping.made]
        used = {column.crosswalk for column in columns if column.crosswalk}
        used |= {use.partition(".")[0] for column in columns for use in column.uses}
        for model in {origin.target.model for origin in self.origins}:
            flow = self.system.flow_of(model)
            used |= set(flow.mappings) if flow and is_told(self.system, model) else set()
        run = self.environment.run_settings
        there = {name: manifest for name in sorted(used) if (manifest := run.lake.manifest(run.key("mapping", name)))}
        return transform_context(run, there, held=False)

    def of(self, origin: Origin, coercions: Mapping[str, list[str]]) -> Iterator[tuple[str, Facts]]:
        """Each column that a legacy row gives, with its way; `coercions` are the row's."""
        told = self._told(origin)
        for name, column in origin.mapping.columns_of(origin.part).items():
            made = cells_that_made(name, column, origin.mapping, told)
            yield name, self._way(origin, name, column, made) | {"coercions": coercions.get(name, [])}

    def part(self, origin: Origin) -> str:
        """The part that a row is of its legacy row, for people."""
        shown_part = self.system.shown_part
        return origin.part if self.unmasked else shown_part(origin.table.name, origin.target.name, origin.part)

    # --- cells --------------------------------------------------------------------------------------------------------

    def _told(self, origin: Origin) -> dict[str, MadeOf]:
        """What the functions of its flow tell of a legacy row's part."""
        model = origin.target.model
        if model not in self._traces:
            self._traces[model] = self._traced(model)
        found = self._traces[model]
        return found.told(model, origin.table.name, origin.key, origin.part) if found else {}

    def _traced(self, model: str) -> Trace | None:
        flow = self.system.flow_of(model)
        if (
            flow is None
            or not is_told(self.system, model)
            or not set(flow.mappings) <= {*self._context.crosswalks, *self._context.value_maps}
        ):
            return None
        rows = {name: frame for name, frame in self._rows.items() if name in flow.sources and frame.height}
        landed = all(
            self.environment.lake.manifest(self.environment.run_settings.key("legacy", name)) for name in flow.sources
        )
        return trace(self.environment.run_settings, flow, rows, self._context) if rows and landed else None

    def _cells(self, origin: Origin, made: MadeOf) -> list[Facts]:
        """The cells with what they hold; of a column of another table whose rows nobody named, the column alone."""
        told: list[Facts] = []
        for cell in made.cells:
            table = self.system.legacy_tables.get(cell.table or origin.table.name)
            if table is None:
                continue
            hidden = table.is_personal(cell.column)
            if cell.table is None:
                rows = [(origin.key, origin.row)] if cell.column in origin.row else []
            elif cell.row is None:
                rows = [(each.key, each.row) for each in self.origins if each.table.name == cell.table and each.row]
            else:
                rows = self._numbered(origin.target.model, cell.table, cell.row)
            for key, row in rows:
                value = shown_value(row.get(cell.column), hidden, self.unmasked)
                told.append({"source_table": table.name, "source_key": key, "column": cell.column, "value": value})
            if cell.table is not None and not rows:
                told.append({"source_table": table.name, "source_key": None, "column": cell.column, "value": None})
        return told

    def _numbered(self, model: str, table: str, number: int) -> list[tuple[str, dict[str, Any]]]:
        found = self._traces.get(model)
        rows = found.legacy[table].filter(pl.col(ROW) == number) if found else pl.DataFrame()
        return [(row["_source_key"], row) for row in rows.to_dicts()]

    # --- ways ---------------------------------------------------------------------------------------------------------

    def _way(self, origin: Origin, name: str, column: ColumnMapping, made: MadeOf) -> Facts:
        """How a column is made of a legacy row (empty where it is gone): of which cells, by what, and by which step."""
        cells = self._cells(origin, made)
        own = {cell.column for cell in made.cells if cell.table is None}
        facts: Facts = {
            "source_table": origin.table.name,
            "source_key": origin.key,
            "from": list(column.from_),
            "given": {
                name: shown_value(value, origin.table.is_personal(name), self.unmasked)
                for name, value in origin.row.items()
                if name in own
            },
            "cells": cells,
            "how": made.how if made.cells or column.is_constant else "none",
        }
        raw = origin.row.get(column.local[0]) if column.local else None
        shown = shown_value(raw, bool(column.local) and origin.table.is_personal(column.local[0]), self.unmasked)
        if column.is_constant:
            facts["by"] = f"the constant {plain(column.constant)}"
        elif column.value_map:
            facts["by"] = f"the value map {column.value_map}, column {column.output}"
            if not column.input:
                frame = self.system.mappings.value_maps[column.value_map]
                entry = _entry(frame, raw, exact=column.exact)
                facts["step"] = "not listed" if entry is None else f"{shown} → {entry.get(str(column.output))}"
        elif column.cases:
            facts["by"] = f"the first line of the case table {column.cases} that fits"
        elif column.crosswalk:
            facts["by"] = f"the crosswalk {column.crosswalk}"
            facts["step"] = self._hop(origin, name, column.crosswalk, raw, shown)
        elif column.transform:
            settings = f" with {column.with_}" if column.with_ else ""
            facts["by"] = f"the transform {column.transform}{settings}"
        elif column.by:
            facts["by"] = f"the function {getattr(origin.mapping, column.by)} ({column.by})"
            if column.by == "expand" and origin.part and origin.mapping.part:
                facts["step"] = (
                    f"{cells_told(facts, names_table=False)} → {origin.mapping.part.called} {self.part(origin)}"
                )
        else:
            facts["by"] = "the value as it is"
        if column.when:
            facts["only_under"] = f"{column.when.decision} = {' or '.join(column.when.option)}"
        if column.note:
            facts["note"] = column.note
        return facts

    def _hop(self, origin: Origin, name: str, crosswalk: str, raw: str | None, shown: str) -> str:
        spec = origin.mapping.members
        # A member stands in the mapping as the crosswalk has it.
        member = origin.part if spec and name == spec.other else None
        if raw is None or crosswalk not in self._context.crosswalks:
            return "NULL" if raw is None else "the crosswalk was not landed"
        ids: ColumnKind = origin.table.kind_of(spec.key) if spec else "integer"
        kind = self._context.id_kinds.get(crosswalk, ids)
        wanted = canonical_id(pl.lit(raw), kind) if member is None else pl.lit(member)
        found = self._context.crosswalks[crosswalk].filter(pl.col("source_id") == wanted).collect()
        shown = shown if member is None else plain(member)
        if found.is_empty():
            return f"{shown} → no entry"
        target = found.get_column("target_id")[0]
        return f"{shown} → {'a row that the target does not have' if target is None else target}"

    def coercions(self, origin: Origin) -> dict[str, list[str]]:
        """The lossy changes of a row that its mapping counts, by column or helper.

        What the functions of a flow give to a column, and what they change themselves, is not known here.
        """
        if origin.landed is None:
            return {}
        known = {*self._context.crosswalks, *self._context.value_maps}
        made = {
            name: column
            for name, column in (origin.mapping.columns | origin.mapping.helpers).items()
            if {*column.local, *column.input} <= set(origin.landed.columns)
            and {*filter(None, [column.crosswalk]), *(use.partition(".")[0] for use in column.uses)} <= known
            and not column.cases
        }
        # Nearly all rows have none: which column it is of is looked for in the others.
        if not self._kinds(origin, made):
            return {}
        of_each = {name: self._kinds(origin, {name: column}) for name, column in made.items()}
        return {name: sorted(kinds) for name, kinds in of_each.items() if kinds}

    def _kinds(self, origin: Origin, columns: dict[str, ColumnMapping]) -> list[str]:
        assert origin.landed is not None
        alone = origin.mapping.model_copy(update={"columns": columns, "helpers": {}})
        made = apply_columns(origin.landed, alone, self._context, self.system.mappings.transforms)
        return list(made.item(0, "_coercions"))


def cells_told(way: Facts, *, names_table: bool = True) -> str:
    """The cells of a way for people: those of the row itself, then those of others, row by row."""
    by_row: dict[tuple[str, str | None], list[str]] = {(way["source_table"], way["source_key"]): []}
    for cell in way["cells"]:
        value = "" if cell["source_key"] is None else f" = {cell['value']}"
        by_row.setdefault((cell["source_table"], cell["source_key"]), []).append(f"{cell['column']}{value}")
    own, *others = by_row.items()
    of = f" of {way['source_table']}" if names_table else ""
    told = [f"{(' + ' if way['how'] == 'sum' else ', ').join(own[1])}{of}"] if own[1] else []
    told += [f"{', '.join(each)} of {table} {key or ''}".rstrip() for (table, key), each in others]
    return "no cell" if way["how"] == "none" else "; ".join(told)


def _entry(frame: pl.DataFrame, raw: str | None, *, exact: bool) -> dict[str, Any] | None:
    key, wanted = pl.col(frame.columns[0]), pl.lit(raw, pl.String)
    found = frame.filter(key == wanted if exact else code(key) == code(wanted))
    return found.row(0, named=True) if found.height else None


def shown_value(value: object, personal: bool, unmasked: bool) -> str:
    """A value for people."""
    if unmasked:
        return "NULL" if value is None else str(value)
    return mask(value) if personal else plain(value)


def shown_values(row: Mapping[str, Any], is_personal: Callable[[str], bool], unmasked: bool) -> dict[str, str]:
    """The values of a row for people."""
    return {name: shown_value(value, is_personal(name), unmasked) for name, value in row.items()}
