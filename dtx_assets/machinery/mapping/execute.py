"""Executes a column mapping: each target column with the problems that reject its row and the coercions that count."""

from collections.abc import Iterable

import polars as pl

from dtx_assets.machinery.mapping.load import SourceMapping
from dtx_assets.machinery.mapping.model import ColumnMapping
from dtx_assets.machinery.transforms import (
    Coercion,
    Outcome,
    Problem,
    Registry,
    TransformContext,
    canonical_integer,
    code,
    shown,
)

PROBLEM = pl.Struct({"reason": pl.String, "column": pl.String, "detail": pl.String})
NO_PROBLEMS = pl.lit([], dtype=pl.List(PROBLEM))


def problem(when: pl.Expr, reason: str, column: str, detail: pl.Expr | str) -> pl.Expr:
    """A list of one problem where `when` holds, else an empty one."""
    text = pl.lit(detail) if isinstance(detail, str) else detail
    one = pl.concat_list(
        pl.struct(pl.lit(reason).alias("reason"), pl.lit(column).alias("column"), text.cast(pl.String).alias("detail"))
    )
    return pl.when(when.fill_null(False)).then(one).otherwise(NO_PROBLEMS)


def apply_columns(
    frame: pl.LazyFrame, source: SourceMapping, context: TransformContext, transforms: Registry
) -> pl.LazyFrame:
    """Adds `:<column>` for each column and helper of the mapping that no function fills, `_problems` and `_coercions`.

    `_problems` is a list of {reason, column, detail}, `_coercions` a list of kinds; all other columns stay.
    """
    problems: list[pl.Expr] = []
    coercions: list[pl.Expr] = []
    joined: list[str] = []
    values: dict[str, pl.Expr] = {}
    for name, column in (source.columns | source.helpers).items():
        if column.by:
            continue
        local = [part for part in column.from_ if "." not in part]
        inputs = [pl.col(column.input)] if column.input else [pl.col(part) for part in local]
        label = ", ".join(local) or name
        if column.crosswalk or column.value_map:
            frame, outcome, made = _look_up(frame, name, column, inputs[0], context)
            joined += made
        elif column.transform or column.from_:
            outcome = transforms[column.transform or "text"](inputs, context, **column.with_)
            outcome = _refusing_what_is_no_text(frame, outcome, local, inputs)
        else:
            outcome = Outcome(pl.lit(column.constant))
        active = column.when is None or context.decisions.get(column.when.decision) == column.when.option
        values[f":{name}"] = outcome.value if active else pl.lit(None)
        if active:
            problems += [problem(entry.when, entry.reason, label, entry.detail) for entry in outcome.problems]
            coercions += [pl.when(entry.when.fill_null(False)).then(pl.lit(entry.kind)) for entry in outcome.coercions]
    return frame.with_columns(
        *(value.alias(name) for name, value in values.items()),
        _concatenated(problems).alias("_problems"),
        (pl.concat_list(coercions).list.drop_nulls() if coercions else pl.lit([], dtype=pl.List(pl.String))).alias(
            "_coercions"
        ),
    ).drop(joined)


def _concatenated(problems: Iterable[pl.Expr]) -> pl.Expr:
    return pl.concat_list(NO_PROBLEMS, *problems)


def _look_up(
    frame: pl.LazyFrame, name: str, column: ColumnMapping, source: pl.Expr, context: TransformContext
) -> tuple[pl.LazyFrame, Outcome, list[str]]:
    """Joins what a crosswalk or a value map gives for a column; its temporary columns are named to be dropped."""
    key, found, listed = f"_key:{name}", f"_found:{name}", f"_listed:{name}"
    if column.crosswalk:
        reason, coercion = "orphan_reference", f"{column.crosswalk}_not_found"
        entries = context.crosswalks[column.crosswalk].select(
            pl.col("source_id").alias(key), pl.col("target_id").alias(found)
        )
        detail = pl.format("{} has no match in the crosswalk " + column.crosswalk, shown(source))
        keyed = canonical_integer(source)
    else:
        assert column.value_map is not None
        assert column.output is not None
        reason, coercion = "unmapped_value", f"{column.value_map}_not_listed"
        table = context.value_maps[column.value_map]
        entries = table.lazy().select(code(pl.col(table.columns[0])).alias(key), pl.col(column.output).alias(found))
        detail = pl.format("{} is not listed in " + column.value_map + ".csv", shown(source))
        keyed = code(source)
    entries = entries.with_columns((pl.col(found).is_not_null() if column.crosswalk else pl.lit(True)).alias(listed))
    frame = frame.with_columns(keyed.alias(key)).join(entries, on=key, how="left", maintain_order="left")
    is_missing = pl.col(listed).fill_null(False).not_()
    value = pl.col(found)
    if column.allow_null or column.missing != "reject":
        is_missing &= source.is_not_null()
    problems: tuple[Problem, ...] = ()
    coercions: tuple[Coercion, ...] = ()
    if column.missing == "reject":
        problems = (Problem(reason, is_missing, detail),)
    elif column.missing == "null":
        coercions = (Coercion(coercion, is_missing),)
    else:
        value = pl.coalesce(value, source)
    return frame, Outcome(value, problems, coercions), [key, found, listed]


def _refusing_what_is_no_text(
    frame: pl.LazyFrame, outcome: Outcome, legacy: list[str], inputs: list[pl.Expr]
) -> Outcome:
    """A value that would be written as text must be text: without a NUL, and readable in the table's encoding."""
    probe = frame.clear().select(outcome.value.alias("value")) if inputs else None
    if probe is None or probe.collect_schema()["value"] != pl.String:
        return outcome
    has_nul = pl.any_horizontal(source.str.contains("\x00", literal=True).fill_null(False) for source in inputs)
    undecodable = pl.col("_undecodable").list.eval(pl.element().struct.field("column").is_in(legacy)).list.any()
    return Outcome(
        outcome.value,
        (
            *outcome.problems,
            Problem("unparseable", has_nul, "holds a NUL, which PostgreSQL cannot hold"),
            Problem("unparseable", undecodable, "holds bytes that are no text in the table's encoding"),
        ),
        outcome.coercions,
    )
