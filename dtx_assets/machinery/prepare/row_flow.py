"""The plainest flow: each row of a legacy table becomes one row of a target, as its column mapping says.

What takes more than that (several rows of one, one of several, a document in a column) is a function of the system's.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import polars as pl

from dtx_assets.machinery.model.target import TargetTable, polars_type
from dtx_assets.machinery.prepare.assess import (
    assess,
    finish_source,
    is_sound,
    link_rows,
    settle_duplicates,
    with_target_problems,
)
from dtx_assets.machinery.system.flow import FlowInputs, Outcome, Prepared


def row_by_row(
    source: str, model: str, *, not_null: Sequence[str] = (), dropped: Mapping[str, pl.Expr] | None = None
) -> Callable[[FlowInputs], Outcome]:
    """What a `Flow` runs. Rows without a value in a `not_null` column are rejected; `dropped` rules leave rows out.

    Of rows with one natural key of the target the last one counts; they have to be of one owner to meet in a batch.
    """
    return partial(_run, source, model, not_null, dropped)


def _run(
    source: str, model: str, not_null: Sequence[str], dropped: Mapping[str, pl.Expr] | None, inputs: FlowInputs
) -> Outcome:
    return one_row_each(inputs, source, model, assess(inputs, source, model, dropped=dropped, not_null=not_null))


def one_row_each(inputs: FlowInputs, source: str, model: str, rows: pl.DataFrame) -> Outcome:
    """What becomes of the rows of a source that were assessed: each sound one is one row of the target."""
    outcome = Outcome()
    target = inputs.system.target(model)
    rows = _without_duplicates(target, rows)
    written = rows.filter(is_sound()).select(
        pl.col("_row").alias("_source_row"),
        *(pl.col(f":{column.name}").cast(polars_type(column.type)).alias(column.name) for column in target.columns),
    )
    migrated = finish_source(outcome, inputs, source, model, with_target_problems(inputs, model, rows, written))
    prepared = migrated.select("_source_key", pl.col("_row").alias("_source_row"), "_bucket").join(
        written, on="_source_row", maintain_order="left"
    )
    prepared = prepared.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"))
    outcome.prepared[model] = Prepared(
        prepared.select("_row", *(column.name for column in target.columns)),
        link_rows(source, prepared.select("_source_key", "_source_row", "_bucket", "_row", pl.lit("").alias("_part"))),
    )
    return outcome


def _without_duplicates(target: TargetTable, rows: pl.DataFrame) -> pl.DataFrame:
    if not target.natural_key:
        return rows
    key = [f":{name}" for name in target.natural_key]
    if not target.nulls_equal:
        # As in the target's unique index: a NULL equals no other.
        alone = pl.when(pl.any_horizontal(pl.col(name).is_null() for name in key)).then("_row")
        rows, key = rows.with_columns(alone.alias("_alone")), [*key, "_alone"]
    named = ", ".join(target.natural_key)
    settled = settle_duplicates(rows, key, [], named, "a later row gives the same row of the target; it counts")
    return settled.drop("_alone", strict=False)
