"""Values that are looked up in tables of others: ids, the one row that several columns mean, spellings.

The tables are `looked_up` in `targets.yaml`; a column that names one of them here says so in `uses`.
"""

from collections.abc import Sequence
from typing import Literal

import polars as pl

from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    Coercion,
    Outcome,
    Problem,
    TransformContext,
    canonical_integer,
    code,
    integer_value,
    shown,
)

FOUND = pl.Struct({"id": pl.Int64, "finding": pl.String})


def rows_of(context: TransformContext, table: str) -> pl.DataFrame:
    """The rows of a table that is looked up, all as text."""
    return context.crosswalks[table].collect()


@GENERIC.transform("id_in")
def id_in(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    table: str,
    by: str,
    missing: Literal["reject", "null"] = "reject",
    counted: str = "",
    required: bool = False,
) -> Outcome:
    """The `id` of a row of a table of others, by its id (`by: id`), or also by a name (`by: id_or_<column>`).

    A text that is no integer is a name, compared trimmed and without case; one that two rows have finds none. What is
    not found is an `orphan_reference`, NULL too where it is `required`; or it is NULL, and `counted`.
    """
    (source,) = inputs
    value = context.read(source, lambda texts: _ids(texts, rows_of(context, table), by), pl.Int64())
    lost = value.is_null() & (pl.lit(required) | source.is_not_null())
    if missing == "null":
        return Outcome(value, coercions=(Coercion(counted or f"{table}_not_found", lost),))
    return Outcome(value, (Problem("orphan_reference", lost, pl.format(f"{table} has no {{}}", shown(source))),))


def _ids(texts: pl.Series, listed: pl.DataFrame, by: str) -> pl.Series:
    known = listed.select(pl.col("id").alias("key"), pl.col("id").cast(pl.Int64))
    if by != "id":
        names = listed.select(code(pl.col(by.removeprefix("id_or_"))).alias("key"), pl.col("id").cast(pl.Int64))
        is_name = pl.col("key").is_unique() & (pl.col("key") != "") & integer_value(pl.col("key")).is_null()
        known = pl.concat([known, names.filter(is_name)])
    trimmed = pl.col("text").str.strip_chars()
    asked = pl.DataFrame({"text": texts}).select(pl.coalesce(canonical_integer(trimmed), code(trimmed)).alias("key"))
    return asked.join(known, on="key", how="left", maintain_order="left").get_column("id")


@GENERIC.transform("id_of_the_one_in")
def id_of_the_one_in(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    table: str,
    columns: Sequence[str],
    narrowing: Sequence[str],
    called: str,
    unknown: Literal["null", "reject", "by_identifiers"],
    ambiguous: Literal["reject", "narrow", "null"],
    deleted: str = "",
) -> Outcome:
    """The `id` of the row of a table of others that has the first of the `columns`, trimmed.

    The other columns are identifiers, compared trimmed and without case. Of several rows it is none, or the one that
    alone has the first of the `narrowing` ones that tells; where there is no row, `unknown` may find the only one with
    an identifier. Rows of which the column `deleted` says `y` do not count. `called` is what a row is called in what is
    counted.
    """
    asked = pl.struct(source.alias(name) for source, name in zip(inputs, columns, strict=True))
    found = context.read(
        asked,
        lambda asked: _the_ones(
            asked, _counting(rows_of(context, table), deleted), columns, narrowing, unknown, ambiguous
        ),
        FOUND,
    )
    finding = found.struct.field("finding")
    symbol = shown(inputs[0])
    return Outcome(
        found.struct.field("id"),
        (
            Problem("orphan_reference", finding == "unknown", pl.format(f"{table} has no {{}}", symbol)),
            Problem("no_matching_row", finding == "ambiguous", pl.format(f"{table} has several {{}}", symbol)),
        ),
        tuple(
            Coercion(f"{called}_{kind.removeprefix('left_')}", finding == kind)
            for kind in ("not_found", "left_ambiguous", "by_identifier")
        ),
    )


def _counting(listed: pl.DataFrame, deleted: str) -> pl.DataFrame:
    return listed.filter((code(pl.col(deleted)) != "y").fill_null(True)) if deleted else listed


def _the_ones(
    asked: pl.Series,
    listed: pl.DataFrame,
    columns: Sequence[str],
    narrowing: Sequence[str],
    unknown: str,
    ambiguous: str,
) -> pl.Series:
    """FOUND of each of some rows; what several ask alike is looked for once."""
    symbol, *identifiers = names = list(columns)
    wanted = pl.DataFrame({"asked": asked}).unnest("asked").select(pl.col(names).str.strip_chars())
    given = pl.col(identifiers).str.to_lowercase().name.prefix("_")
    distinct = wanted.unique(maintain_order=True).with_row_index("number").with_columns(given)
    rows = listed.select(
        pl.col("id").cast(pl.Int64),
        pl.col(symbol).str.strip_chars(),
        *(code(pl.col(name)).alias(f"_{name}") for name in identifiers),
    )
    pairs = distinct.join(rows, on=symbol, suffix="_there")
    found = _with_the_only(distinct, pairs, "by_symbol").with_columns(pl.col("by_symbol").alias("id"))
    hits = pairs.group_by("number").agg(pl.len().alias("hits"))
    found = found.join(hits, on="number", how="left", maintain_order="left").with_columns(pl.col("hits").fill_null(0))
    if ambiguous == "narrow":
        for name in narrowing:
            alike = pairs.filter(pl.col(f"_{name}") == pl.col(f"_{name}_there"))
            found = _with_the_only(found, alike, f"by_{name}")
        found = found.with_columns(pl.coalesce("id", *(f"by_{name}" for name in narrowing)).alias("id"))
        found = found.drop(f"by_{name}" for name in narrowing)
    known = [symbol]
    if unknown == "by_identifiers":
        known = names
        for name in identifiers:
            alike = found.filter(pl.col("hits") == 0).join(
                rows.select("id", f"_{name}"), on=f"_{name}", suffix="_there"
            )
            found = _with_the_only(found, alike, f"by_{name}")
        found = found.with_columns(pl.coalesce(f"by_{name}" for name in identifiers).alias("identified"))
    else:
        found = found.with_columns(pl.lit(None, pl.Int64).alias("identified"))
    finding = (
        pl.when(pl.col("id").is_not_null())
        .then(None)
        .when(pl.col("identified").is_not_null())
        .then(pl.lit("by_identifier"))
        .when(pl.col("hits") > 1)
        .then(pl.lit("left_ambiguous" if ambiguous == "null" else "ambiguous"))
        .when(pl.any_horizontal(pl.col(known).is_not_null()))
        .then(pl.lit("unknown" if unknown == "reject" else "not_found"))
    )
    answer = pl.struct(pl.coalesce("id", "identified").alias("id"), finding.alias("finding")).cast(FOUND)
    answers = found.select(*names, answer.alias("answer"))
    return wanted.join(answers, on=names, how="left", nulls_equal=True, maintain_order="left").get_column("answer")


def _with_the_only(found: pl.DataFrame, pairs: pl.DataFrame, name: str) -> pl.DataFrame:
    """Adds the id of the security that a request (`number`) is paired with, where it is but one."""
    there = "id_there" if "id_there" in pairs.columns else "id"
    alone = pairs.group_by("number").agg(pl.col(there).first().alias(name), pl.len().alias("_hits"))
    alone = alone.filter(pl.col("_hits") == 1).drop("_hits")
    return found.join(alone, on="number", how="left", maintain_order="left")


@GENERIC.transform("spelling_in")
def spelling_in(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    table: str,
    column: str,
    unknown: Literal["keep", "reject"] = "reject",
    apart: str | None = None,
) -> Outcome:
    """A code as a table of others spells it, where but one spelling of it is listed; another as it is, or rejected.

    A code that fits the regular expression `apart` is not respelt: its case says something.
    """
    (source,) = inputs
    trimmed = source.str.strip_chars()
    spelling = context.read(
        trimmed, lambda codes: _spellings(codes, rows_of(context, table).get_column(column), apart), pl.String()
    )
    value = pl.coalesce(spelling, trimmed)
    is_unlisted = source.is_not_null() & spelling.is_null() & pl.lit(unknown == "reject")
    return Outcome(
        value,
        (Problem("unmapped_value", is_unlisted, pl.format(f"{table} does not list {{}}", shown(source))),),
        (Coercion("trimmed", source != trimmed), Coercion(f"{column}_spelling", spelling != trimmed)),
    )


def _spellings(codes: pl.Series, listed: pl.Series, apart: str | None) -> pl.Series:
    """The listed spelling of each code; null where none is meant for sure."""
    spellings = listed.alias("listed").drop_nulls().unique().to_frame()
    spellings = spellings.with_columns(pl.col("listed").str.to_lowercase().alias("key"))
    only = spellings.filter(pl.col("key").is_unique())
    asked = pl.DataFrame({"code": codes}).with_columns(pl.col("code").str.to_lowercase().alias("key"))
    asked = asked.join(only, on="key", how="left", maintain_order="left")
    is_listed = pl.col("code").is_in(spellings.get_column("listed").implode())
    respelt = pl.col("listed") if apart is None else pl.when(~pl.col("code").str.contains(apart)).then("listed")
    return asked.select(pl.when(is_listed).then("code").otherwise(respelt).alias("code")).to_series()
