"""Generic foreign keys of Django, resolved: by what a content type is called, never by its number.

No table is known here: `content_type.csv` of a system says which models lead to which legacy tables.
"""

from collections.abc import Iterable, Iterator

import polars as pl

from dtx_assets.machinery.look_ups.assets import MappingAsset, MappingContext
from dtx_assets.machinery.mapping.conditions import is_active
from dtx_assets.machinery.mapping.execute import RowProblem, add_problems
from dtx_assets.machinery.mapping.model import SourceMapping
from dtx_assets.machinery.model.legacy import POINTS_TO, POINTS_TO_ID, LegacyTable
from dtx_assets.machinery.prepare.batches import key_fates
from dtx_assets.machinery.sources.frames import source_key
from dtx_assets.machinery.sources.generic_keys import CONTENT_TYPES as TABLE
from dtx_assets.machinery.sources.landing import ROW
from dtx_assets.machinery.system.flow import FlowInputs
from dtx_assets.machinery.transforms.columns import canonical_id, canonical_integer, shown

CONTENT_TYPES = "content_types"
"""The look-up of content types."""
LISTED = "content_type"
"""The value map: `model` as `app_label.model`, and its `legacy_table`."""


def content_types(area: str) -> MappingAsset:
    """The content types by id. Frame: `source_id`, `model`, `legacy_table` (NULL where the value map lists no such)."""

    def build(context: MappingContext) -> pl.LazyFrame:
        rows = rows_that_count(context, TABLE).select(
            canonical_integer(pl.col("id")).alias("source_id"),
            pl.concat_str("app_label", pl.lit("."), "model").alias("model"),
        )
        listed = context.mappings.value_maps[LISTED].lazy().select("model", "legacy_table")
        known = rows.filter(pl.col("source_id").is_not_null())
        return known.join(listed, on="model", how="left").sort("source_id")

    return MappingAsset(
        CONTENT_TYPES,
        "reference",
        area,
        (("legacy", TABLE),),
        f"What each content type is called, and the legacy table that `{LISTED}.csv` says its rows lie in.",
        build,
    )


def rows_that_count(context: MappingContext, table: str) -> pl.LazyFrame:
    """The rows of a legacy table with `_source_key`, less those beside which another one with their key counts."""
    declared = context.legacy_tables[table]
    rows = source_key(declared, context.legacy(table))
    fates = key_fates(declared, rows)
    return rows.join(fates.lazy(), on=ROW, how="anti") if fates.height else rows


def with_generic_key(frame: pl.DataFrame, inputs: FlowInputs, source: str, entry: SourceMapping) -> pl.DataFrame:
    """Adds the legacy table that each row points at, its id there, and what is wrong with its type and with its id.

    Both are NULL where the key says neither; whether such a row is there the mapping of each target asks.
    """
    table = inputs.system.legacy_tables[source]
    assert table.generic_key
    type_column, id_column = table.generic_key
    types = inputs.mappings[CONTENT_TYPES].collect()
    number = canonical_integer(pl.col(type_column))
    model, points_to = (
        number.replace_strict(types["source_id"], types[name], default=None, return_dtype=pl.String)
        for name in ("model", "legacy_table")
    )
    frame = frame.with_columns(model.alias("_model"), points_to.alias(POINTS_TO), id_of(table).alias(POINTS_TO_ID))
    kind, value, led_to = pl.col(type_column), pl.col(id_column), pl.col(POINTS_TO)
    may_be = [each.table for each in entry.points_to if is_active(each.when, inputs.context.decisions)]
    is_unmapped = led_to.is_null() | (led_to.is_in(may_be).not_() if entry.points_to else pl.lit(False))
    named = pl.coalesce("_model", pl.format("the content type {}, which there is not", shown(kind)))
    of_type = (
        ("schema_violation", kind.is_null(), "the generic key names no content type"),
        ("unparseable", number.is_null(), pl.format("{} is no integer", shown(kind))),
        ("unmapped_value", is_unmapped, pl.format("nothing takes what it points at: {}", named)),
    )
    # Of what nothing takes the id is not looked at.
    is_looked_at = number.is_null() | ~is_unmapped
    of_id = (
        ("schema_violation", is_looked_at & value.is_null(), "the generic key names no row"),
        (
            "unparseable",
            is_looked_at & pl.col(POINTS_TO_ID).is_null(),
            pl.format("{} is no integer", shown(value)),
        ),
    )
    problems = [*_first_of(of_type, type_column), *_first_of(of_id, id_column)]
    return add_problems(frame, *problems).drop("_model")


def _first_of(faults: Iterable[tuple[str, pl.Expr, str | pl.Expr]], column: str) -> Iterator[RowProblem]:
    """The first fault (reason, where, detail) that a row has, of several of a column."""
    told = pl.lit(False)
    for reason, when, detail in faults:
        yield RowProblem(when & ~told, reason, column, detail)
        told |= when


def id_of(table: LegacyTable) -> pl.Expr:
    """The id that a generic key names, as the bookkeeping has it; NULL where it is none."""
    assert table.generic_key
    name = table.generic_key[1]
    return canonical_id(pl.col(name).str.strip_chars(), table.kind_of(name))
