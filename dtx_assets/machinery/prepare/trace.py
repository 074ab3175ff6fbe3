"""Makes some rows once more, with those beside which they are prepared, and has functions tell which cells made what.

Nothing is written. What a run makes is `preparation`'s; what is told to people is `run/explain`'s.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from dtx_assets.machinery.mapping.functions import told_by
from dtx_assets.machinery.mapping.model import ColumnMapping, SourceMapping
from dtx_assets.machinery.mapping.provenance import OF, Cell, MadeOf, declared_cells
from dtx_assets.machinery.model.legacy import ColumnKind, LegacyTable
from dtx_assets.machinery.prepare.assess import is_sound
from dtx_assets.machinery.prepare.batches import SourceRows, named, number_of_id, owners_by_key
from dtx_assets.machinery.prepare.buckets import BUCKET
from dtx_assets.machinery.prepare.preparation import RunSettings
from dtx_assets.machinery.sources.frames import legacy_frame
from dtx_assets.machinery.sources.landing import ROW
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome
from dtx_assets.machinery.system.system import System
from dtx_assets.machinery.transforms.bson_values import text_of_value
from dtx_assets.machinery.transforms.columns import TransformContext
from dtx_assets.machinery.transforms.json_values import plain_text

MOST_ROWS = 200_000
"""Rows of one owner in one table that are read for one explanation; with more of them nothing is traced."""

Rows = Mapping[str, pl.DataFrame]
"""Rows of legacy tables by their names, as `legacy_frame` gives them."""


@dataclass(frozen=True)
class Trace:
    """What a flow makes of some legacy rows; `legacy` has the rows that it read, as it read them."""

    legacy: Mapping[str, pl.DataFrame]
    outcome: Outcome

    def told(self, model: str, source: str, key: str, part: str) -> dict[str, MadeOf]:
        """What functions told of the part of a source row, by column, helper, or column that a shape function adds."""
        is_it = (pl.col("_source_key") == key) & (pl.col("_part") == part)
        found: dict[str, MadeOf] = {}
        made, merged = self.outcome.made.get((model, source)), self.outcome.merged.get(model)
        if made is not None:
            found |= _told(made.filter(is_it, is_sound()))
        if merged is not None:
            found |= _told(merged.filter(is_it, pl.col("_source") == source))
        return found


def _told(rows: pl.DataFrame) -> dict[str, MadeOf]:
    names = [name for name in rows.columns if name.startswith(OF)]
    if rows.is_empty() or not names:
        return {}
    row = rows.select(names).row(-1, named=True)
    return {name.removeprefix(OF): MadeOf.of(told) for name, told in row.items() if told is not None}


def cells_that_made(name: str, column: ColumnMapping, source: SourceMapping, told: Mapping[str, MadeOf]) -> MadeOf:
    """The cells of a column: what a function told of it, or of all that it reads; else what the mapping declares."""
    if column.by and name in told:
        return told[name]
    if column.input and set(column.input) <= set(told):
        return MadeOf(tuple(dict.fromkeys(cell for read in column.input for cell in told[read].cells)))
    declared = map(column.located, declared_cells(column, source))
    return MadeOf(tuple(Cell(legacy, table or None) for table, legacy in declared))


def is_told(system: System, model: str) -> bool:
    """Whether functions of a mapping tell which cells made something."""
    functions = system.mappings.functions
    return any(
        told_by(functions, name)
        for entry in system.mappings.for_target(model).sources.values()
        for name in (entry.shape, entry.expand, entry.merge)
    )


def trace(run: RunSettings, flow: Flow, rows: Rows, context: TransformContext) -> Trace | None:
    """What a flow makes of some rows; None where too many are prepared beside them."""
    legacy = beside(run, flow, rows, context)
    return None if legacy is None else traced(run.system, flow, legacy, context)


def traced(system: System, flow: Flow, legacy: Rows, context: TransformContext) -> Trace:
    """What a flow makes of the rows that `beside` gives."""
    rows = {}
    for name, frame in legacy.items():
        source = SourceRows.of(system.legacy_tables[name], frame.lazy(), frame.height)
        placed = source.frame.with_columns(pl.lit(0, BUCKET).alias("_bucket")).join(
            source.fates.lazy(), on=ROW, how="left"
        )
        rows[name] = named(source.table, placed.collect())
    outcome = flow.run(FlowInputs(system, rows, context.crosswalks, context, is_traced=True))
    return Trace(rows, outcome)


def beside(run: RunSettings, flow: Flow, rows: Rows, context: TransformContext) -> dict[str, pl.DataFrame] | None:
    """These rows, and all others of their owners, as one batch holds them; None where they are too many."""
    tables, found = run.system.legacy_tables, dict(rows)
    owners = frozenset(
        owner
        for name, frame in found.items()
        if name in flow.owner
        for owner in _owners_of(flow, tables, name, frame, context)
    )
    for name in flow.sources:
        if name in found and (flow.splits or (name not in flow.owner and not flow.together)):
            continue
        frame = legacy_frame(run.lake, run.system.name, tables[name])
        if not flow.together:
            frame = (
                frame.filter(_is_owned(flow, tables, name, owners, context)) if name in flow.owner else frame.clear()
            )
        found[name] = frame.head(MOST_ROWS + 1).collect(engine="streaming")
        if found[name].height > MOST_ROWS:
            return None
    return found


def _owner_id(
    flow: Flow, tables: Mapping[str, LegacyTable], name: str, context: TransformContext
) -> tuple[pl.Expr, str, ColumnKind]:
    """The number of the owner's id in a row as it stands there, the crosswalk that it goes through, and its kind."""
    column, crosswalk = flow.owner[name]
    kind: ColumnKind = "integer" if tables[name].kind_of(column) == "integer" else "text"
    if crosswalk:
        kind = context.id_kinds.get(crosswalk, "integer")
    text = pl.col(column)
    if tables[name].kind_of(column) == "json":
        text = pl.coalesce(text_of_value(text), plain_text(text))
    return number_of_id(text, kind), crosswalk, kind


def _owners_of(
    flow: Flow, tables: Mapping[str, LegacyTable], name: str, frame: pl.DataFrame, context: TransformContext
) -> set[int]:
    """The owners of rows as batches go by them: where the crosswalk leads, else the id itself."""
    number, crosswalk, kind = _owner_id(flow, tables, name, context)
    ids = set(frame.select(number.alias("key")).to_series().drop_nulls())
    if not crosswalk:
        return ids
    known = owners_by_key(context.crosswalks[crosswalk], kind).filter(_among(pl.col("key"), ids)).collect()
    return {*known.get_column("owner"), *(ids - {*known.get_column("key")})}


def _is_owned(
    flow: Flow, tables: Mapping[str, LegacyTable], name: str, owners: frozenset[int], context: TransformContext
) -> pl.Expr:
    number, crosswalk, kind = _owner_id(flow, tables, name, context)
    ids = set(owners)
    if crosswalk:
        ids |= {
            *owners_by_key(context.crosswalks[crosswalk], kind)
            .filter(_among(pl.col("owner"), owners))
            .collect()
            .get_column("key")
        }
    return _among(number, ids)


def _among(number: pl.Expr, ids: Iterable[int]) -> pl.Expr:
    return number.is_in(pl.Series(sorted(ids), dtype=pl.Int64).implode()).fill_null(False)
