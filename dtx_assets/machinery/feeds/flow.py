"""What becomes of the rows of a feed: objects of an array in a JSON column, or values of plain columns.

The rows of the target are other areas': each is found through a crosswalk, none is made.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial

import polars as pl

from dtx_assets.machinery.feeds.model import DropRule, FeedFile
from dtx_assets.machinery.prepare.assess import (
    assess,
    finish_source,
    link_rows,
    settle_duplicates,
    with_target_problems,
)
from dtx_assets.machinery.system.flow import FlowInputs, Outcome, Prepared
from dtx_assets.machinery.transforms.columns import code, integer_value, json_text

MATCH = "_match"
"""The helper that holds the id of the target row; no column of a feed can be called so."""


def feed_run(file: FeedFile, source: str, model: str) -> Callable[[FlowInputs], Outcome]:
    """The function of a feed's flow."""
    return partial(_run, file, source, model)


def _run(file: FeedFile, source: str, model: str, inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    required = [column.from_ for column in file.columns.values() if column.required]
    rows = assess(inputs, source, model, dropped=dropped_by(file.drop), not_null=required)
    if file.target.array:
        migrated = finish_source(outcome, inputs, source, model, rows)
        array = file.target.array
        documents = array_documents(migrated, MATCH, array.column, array.key, file.values, array.order_by)
    else:
        rows = settle_duplicates(
            rows, [f":{MATCH}"], [], file.match.column, "a later row of the feed is of the same target row; it counts"
        )
        candidates = rows.select(
            pl.col("_row").alias("_source_row"), *(pl.col(f":{name}").alias(name) for name in file.target.columns)
        )
        migrated = finish_source(outcome, inputs, source, model, with_target_problems(inputs, model, rows, candidates))
        documents = migrated.sort(f":{MATCH}").select(
            pl.col(f":{MATCH}").alias("id"), *(pl.col(f":{name}").alias(name) for name in file.target.columns)
        )
    units = documents.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"), pl.all())
    pairs = migrated.join(
        units.select("id", pl.col("_row").alias("_target_row")),
        left_on=f":{MATCH}",
        right_on="id",
        maintain_order="left",
    )
    part = file.target.array.key if file.target.array else file.feed
    outcome.prepared[model] = Prepared(
        units,
        link_rows(
            source,
            pairs.select(
                "_source_key",
                pl.col("_row").alias("_source_row"),
                "_bucket",
                pl.col("_target_row").alias("_row"),
                pl.lit(part).alias("_part"),
            ),
        ),
    )
    return outcome


def dropped_by(rules: Sequence[DropRule]) -> dict[str, pl.Expr]:
    """Where each rule drops a row; of rules of one name, one is enough."""
    dropped: dict[str, pl.Expr] = {}
    for rule in rules:
        when = _equals(pl.col(rule.column), rule.equals).fill_null(False)
        dropped[rule.rule] = dropped[rule.rule] | when if rule.rule in dropped else when
    return dropped


def _equals(column: pl.Expr, value: int | str | None) -> pl.Expr:
    if value is None:
        return column.is_null()
    return integer_value(column) == value if isinstance(value, int) else code(column) == value.strip().lower()


def array_documents(
    rows: pl.DataFrame, owner: str, column: str, key: str, members: Sequence[str], order_by: str | None = None
) -> pl.DataFrame:
    """One row an owner (`:<owner>`), as `id` and `column`: canonical JSON `{key: [{member: value, …}, …]}`.

    Objects are in order of `order_by`, those without it last, else in that of the source; values are text or numbers.
    """
    values = [
        pl.concat_str(pl.lit(json.dumps(name, ensure_ascii=False) + ":"), _json_value(rows, name))
        for name in sorted(members)
    ]
    entry = pl.concat_str(pl.lit("{"), pl.concat_str(values, separator=","), pl.lit("}"))
    order = [f":{order_by}"] if order_by else []
    return (
        rows.sort(*order, "_row", nulls_last=True)
        .group_by(pl.col(f":{owner}").alias("id"), maintain_order=True)
        .agg(entry.str.join(",").alias("_entries"))
        .sort("id")
        .select(
            "id",
            pl.concat_str(pl.lit(f"{{{json.dumps(key, ensure_ascii=False)}:["), "_entries", pl.lit("]}")).alias(column),
        )
    )


def _json_value(rows: pl.DataFrame, name: str) -> pl.Expr:
    value = pl.col(f":{name}")
    return json_text(value) if rows.schema[f":{name}"] == pl.String else value.cast(pl.String).fill_null("null")
