"""What becomes of the rows of a source: mapped, rejected with reasons, dropped by a rule, linked to their targets."""

from collections.abc import Mapping, Sequence

import polars as pl

from dtx_assets.machinery.mapping.execute import RowProblem, add_problems, apply_columns
from dtx_assets.machinery.mapping.model import SourceMapping
from dtx_assets.machinery.prepare.batches import EXTRA
from dtx_assets.machinery.prepare.buckets import BUCKET
from dtx_assets.machinery.prepare.schemas import IS_AN_INTEGER, legacy_schema, schema_failures, target_schema
from dtx_assets.machinery.sources.whole_rows import json_of_rows
from dtx_assets.machinery.system.flow import FlowInputs, Outcome
from dtx_assets.machinery.transforms.columns import integer_value

REJECTED_SCHEMA = pl.Schema(
    {
        "source_table": pl.String(),
        "source_key": pl.String(),
        "source_row": pl.Int64(),
        "bucket": BUCKET,
        "reasons": pl.List(pl.String),
        "partial": pl.Boolean(),
        "detail": pl.String(),
        "row": pl.String(),
    }
)
DROPPED = "dropped"
"""The table of the rejected dataset with what rules drop."""
DROPPED_SCHEMA = pl.Schema(
    {"source_table": pl.String(), "source_key": pl.String(), "source_row": pl.Int64(), "rule": pl.String()}
)
LINKS_SCHEMA = pl.Schema(
    {
        "source_table": pl.String(),
        "source_key": pl.String(),
        "source_row": pl.Int64(),
        "bucket": BUCKET,
        "parts": pl.List(pl.String),
        "rows": pl.List(pl.Int64),
    }
)


def assess(
    inputs: FlowInputs,
    source: str,
    model: str,
    frame: pl.DataFrame | None = None,
    *,
    dropped: Mapping[str, pl.Expr] | None = None,
    not_null: Sequence[str] = (),
) -> pl.DataFrame:
    """The rows of a source with the columns its mapping makes (`:<column>`), their `_problems`, `_coercions`, `_rule`.

    `_rule` names the rule that drops a row; `_problems` holds what the mapping, the key and the legacy schema say.
    """
    table = inputs.system.legacy_tables[source]
    frame = inputs.legacy[source] if frame is None else frame
    source_mapping = inputs.system.mappings.for_target(model).sources[source]
    assessed = apply_columns(frame, source_mapping, inputs.context, inputs.system.mappings.transforms)
    failures = schema_failures(legacy_schema(table, not_null), assessed)
    # A key without a match is an `orphan_reference`; that it is no key is no second reason.
    failures = failures.filter(pl.col("column").is_in(_must_match(source_mapping)).not_())
    # Nor is it one that a key is not of the strict form, where the mapping reads it with white space around it.
    of_kind = pl.col("check").str.ends_with(IS_AN_INTEGER)
    failures = failures.filter((of_kind & pl.col("column").is_in(_read_padded(source_mapping))).not_())
    if table.unreadable_key == "unparseable":
        failures = failures.filter(of_kind.not_())
        integers = [pl.col(name) for name in table.key if table.kind_of(name) == "integer"]
        unreadable = pl.any_horizontal(
            pl.lit(False), *(key.is_not_null() & integer_value(key).is_null() for key in integers)
        )
        assessed = add_problems(assessed, RowProblem(unreadable, "unparseable", ", ".join(table.key), "is no integer"))
    assessed = add_schema_problems(assessed.with_row_index("_index"), failures.rename({"index": "_index"}), "_index")
    rules = [pl.when(pl.col("_key_fate") == "identical").then(pl.lit("identical"))]
    rules += [pl.when(when.fill_null(False)).then(pl.lit(rule)) for rule, when in (dropped or {}).items()]
    return add_problems(
        assessed.drop("_index"),
        RowProblem(
            pl.col("_key_fate") == "duplicate_key",
            "duplicate_key",
            ", ".join(table.key),
            "the same key occurs again in a later row with other content; the later row counts",
        ),
    ).with_columns(pl.coalesce(rules).alias("_rule"))


def _read_padded(mapping: SourceMapping) -> list[str]:
    """The legacy columns that are read as integers with white space around them, what is none being rejected."""
    return [
        name
        for _, column in mapping.made
        if column.transform == "integer" and column.with_.get("padded") and column.with_.get("unreadable") != "null"
        for name in column.from_
    ]


def _must_match(mapping: SourceMapping) -> list[str]:
    """The legacy columns whose row is rejected where a crosswalk does not have their value."""
    return [
        name
        for _, column in mapping.made
        if column.crosswalk and not column.transform and column.missing == "reject" and not column.allow_null
        for name in column.from_
    ]


def add_schema_problems(frame: pl.DataFrame, failures: pl.DataFrame, by: str) -> pl.DataFrame:
    """A `schema_violation` for what `failures` (`by`, `column`, `check`) names; `by` tells rows apart."""
    if failures.is_empty():
        return frame
    failed = pl.format("{}: {}", "column", "check")
    listed = failures.group_by(by, maintain_order=True).agg(
        failed.unique(maintain_order=True).str.join("; ").alias("_failed")
    )
    said = frame.select(by).join(listed, on=by, how="left", maintain_order="left").get_column("_failed")
    problem = RowProblem(pl.col("_failed").is_not_null(), "schema_violation", "", pl.col("_failed"))
    return add_problems(frame.with_columns(said), problem).drop("_failed")


def is_sound() -> pl.Expr:
    """Rows that no rule drops and that have no problem so far."""
    return pl.col("_rule").is_null() & (pl.col("_problems").list.len() == 0)


def settle_duplicates(
    frame: pl.DataFrame,
    key: Sequence[str | pl.Expr],
    order: Sequence[pl.Expr],
    column: str,
    detail: str,
    by: str = "_row",
    *,
    names_winner: bool = False,
) -> pl.DataFrame:
    """A `duplicate_key` for each sound row that shares `key` with one that comes after it in `order`, then in `by`.

    `by` numbers the rows of the frame. `names_winner`: adds `_beaten_by`, the number of the row that counts.
    """
    winner = pl.col(by).last().over(key)
    beaten = (
        frame.lazy()
        .filter(is_sound())
        # Most rows share their key with none, and are not sorted.
        .filter(pl.len().over(key) > 1)
        .sort(*order, by, nulls_last=False)
        .select(by, pl.when(pl.col(by) != winner).then(winner).alias("_beaten_by"))
    )
    joined = frame.select(by).lazy().join(beaten, on=by, how="left", maintain_order="left").collect()
    frame = frame.with_columns(joined.get_column("_beaten_by"))
    frame = add_problems(frame, RowProblem(pl.col("_beaten_by").is_not_null(), "duplicate_key", column, detail))
    return frame if names_winner else frame.drop("_beaten_by")


def with_target_problems(inputs: FlowInputs, model: str, sources: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """`sources` with a `schema_violation` for each one whose prepared rows the target's schema refuses.

    `rows` are the prepared rows, each with the `_row` of its source as `_source_row`.
    """
    failures = schema_failures(target_schema(inputs.system.target(model)), rows)
    # Not by the key, which rows that do not count share.
    refused = rows.select(pl.col("_source_row").alias("_row")).with_row_index("index").join(failures, on="index")
    return add_schema_problems(sources, refused.drop("index"), "_row")


def finish_source(outcome: Outcome, inputs: FlowInputs, source: str, model: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Books what became of the rows of a source and gives those that are migrated.

    Every row of `frame` is migrated, rejected or dropped; rejected ones go out with the whole source row.
    """
    fate = (
        pl.when(pl.col("_rule").is_not_null())
        .then(pl.col("_rule"))
        .when(pl.col("_problems").list.len() > 0)
        .then(pl.lit("rejected"))
        .otherwise(pl.lit("migrated"))
    )
    frame = frame.with_columns(fate.alias("_fate"))
    coercions = pl.col("_coercions") if "_coercions" in frame.columns else pl.lit([], pl.List(pl.String))
    outcome.fates.append(
        frame.select(
            pl.lit(source).alias("source_table"),
            pl.lit(model).alias("model"),
            pl.col("_row").alias("source_row"),
            pl.col("_fate").alias("fate"),
            coercions.alias("coercions"),
        )
    )
    is_rejected = frame.get_column("_fate") == "rejected"
    outcome.reject(model, rejected_rows(inputs, source, frame, partial=False, only=is_rejected))
    outcome.dropped.setdefault(model, []).append(dropped_rows(source, frame))
    return frame.filter(pl.col("_fate") == "migrated")


def rejected_rows(
    inputs: FlowInputs, source: str, frame: pl.DataFrame, *, partial: bool, only: pl.Series | None = None
) -> pl.DataFrame:
    """REJECTED_SCHEMA rows of `frame`, or of those of a mask, whose `_problems` say why; the whole source row goes with
    them as JSON."""
    named = inputs.system.legacy_tables[source].columns
    columns = [name for name in inputs.legacy[source].columns if name in named or name.startswith(EXTRA)]
    details = pl.col("_problems").list.eval(
        pl.format(
            "{}{}",
            pl.when(pl.element().struct.field("column").fill_null("") != "")
            .then(pl.element().struct.field("column") + ": ")
            .otherwise(pl.lit("")),
            pl.element().struct.field("detail").fill_null(""),
        )
    )
    # Not by `select`, nor out of a filtered frame: of a frame of one row Polars copies large texts.
    facts = pl.DataFrame([frame.get_column(name) for name in ("_source_key", "_row", "_bucket", "_problems")])
    facts = facts if only is None else facts.filter(only)
    rejected = facts.select(
        pl.lit(source).alias("source_table"),
        pl.col("_source_key").alias("source_key"),
        pl.col("_row").alias("source_row"),
        pl.col("_bucket").alias("bucket"),
        pl.col("_problems").list.eval(pl.element().struct.field("reason")).list.unique().list.sort().alias("reasons"),
        pl.lit(partial).alias("partial"),
        details.list.unique(maintain_order=True)
        .list.join("; ")
        .str.replace_all("\x00", "\\x00", literal=True)
        .alias("detail"),
    ).cast(pl.Schema({name: kind for name, kind in REJECTED_SCHEMA.items() if name != "row"}))
    whole = json_of_rows(frame, {name.removeprefix(EXTRA): name for name in columns}, only)
    return rejected.hstack([whole.alias("row")])


def dropped_rows(source: str, frame: pl.DataFrame) -> pl.DataFrame:
    """DROPPED_SCHEMA rows of those of `frame` that have a `_rule`."""
    return (
        frame.select("_source_key", "_row", "_rule")
        .filter(pl.col("_rule").is_not_null())
        .select(
            pl.lit(source).alias("source_table"),
            pl.col("_source_key").alias("source_key"),
            pl.col("_row").alias("source_row"),
            pl.col("_rule").alias("rule"),
        )
        .cast(DROPPED_SCHEMA)
    )


def link_rows(source: str, pairs: pl.DataFrame) -> pl.DataFrame:
    """LINKS_SCHEMA rows of a source from `pairs`, one a (source row, target row).

    `pairs` has `_source_key`, `_source_row`, `_bucket`, `_part` and `_row` (of the target row).
    """
    return (
        pairs.group_by("_source_key", maintain_order=True)
        .agg(
            pl.col("_source_row").first().alias("source_row"),
            pl.col("_bucket").first().alias("bucket"),
            pl.col("_part").alias("parts"),
            pl.col("_row").alias("rows"),
        )
        .select(
            pl.lit(source).alias("source_table"),
            pl.col("_source_key").alias("source_key"),
            "source_row",
            "bucket",
            "parts",
            "rows",
        )
        .cast(LINKS_SCHEMA)
    )
