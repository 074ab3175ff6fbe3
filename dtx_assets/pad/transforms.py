"""What columns of trading requests are made of: persons, securities, currencies, dates of approvals."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import polars as pl

from dtx_assets.machinery.mapping.execute import no_text
from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    Coercion,
    Outcome,
    Problem,
    Registry,
    TransformContext,
    canonical_integer,
    code,
    integer_value,
    json_text,
    remembered,
    shown,
)
from dtx_assets.machinery.transforms.times import instant

OWN = Registry()
IDENTIFIERS = ("isin", "sedol", "bloomberg", "ticker")
HUNDREDTH = r"^[A-Z]{2}[a-z]$"
SECURITY = pl.Struct({"id": pl.Int64, "finding": pl.String})


def rows_of(context: TransformContext, table: str) -> pl.DataFrame:
    return context.crosswalks[table].collect()


# --- persons ----------------------------------------------------------------------------------------------------------


@OWN.transform("person")
def person(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    people: Literal["id", "id_or_mako_id"],
    missing: Literal["reject", "null"] = "reject",
    counted: str = "person_not_found",
    required: bool = False,
) -> Outcome:
    """The id of an employee; one who is not found is an `orphan_reference`, or NULL and counted."""
    (source,) = inputs
    find = remembered(lambda texts: _people(texts, context, people))
    value = source.map_batches(find, pl.Int64(), is_elementwise=True)
    lost = value.is_null() & (pl.lit(required) | source.is_not_null())
    if missing == "null":
        return Outcome(value, coercions=(Coercion(counted, lost),))
    return Outcome(value, (Problem("orphan_reference", lost, pl.format("{} is no employee", shown(source))),))


def _people(texts: pl.Series, context: TransformContext, people: str) -> pl.Series:
    employees = rows_of(context, "oracle_employee")
    known = employees.select(pl.col("id").alias("key"), pl.col("id").cast(pl.Int64))
    if people == "id_or_mako_id":
        names = employees.select(code(pl.col("mako_id")).alias("key"), pl.col("id").cast(pl.Int64))
        is_name = pl.col("key").is_unique() & (pl.col("key") != "") & integer_value(pl.col("key")).is_null()
        known = pl.concat([known, names.filter(is_name)])
    trimmed = pl.col("text").str.strip_chars()
    asked = pl.DataFrame({"text": texts}).select(pl.coalesce(canonical_integer(trimmed), code(trimmed)).alias("key"))
    return asked.join(known, on="key", how="left", maintain_order="left").get_column("id")


# --- securities -------------------------------------------------------------------------------------------------------


@OWN.transform("security")
def security(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    unknown: Literal["null", "reject", "by_identifiers"],
    ambiguous: Literal["reject", "narrow", "null"],
) -> Outcome:
    """The id of the security with an `inst_symbol`, or else as `unknown` and `ambiguous` say."""
    asked = pl.struct(source.alias(name) for source, name in zip(inputs, ("inst_symbol", *IDENTIFIERS), strict=True))
    find = remembered(lambda asked: _securities(asked, rows_of(context, "oracle_bloomberg"), unknown, ambiguous))
    found = asked.map_batches(find, SECURITY, is_elementwise=True)
    finding = found.struct.field("finding")
    symbol = shown(inputs[0])
    return Outcome(
        found.struct.field("id"),
        (
            Problem("orphan_reference", finding == "unknown", pl.format("oracle_bloomberg has no {}", symbol)),
            Problem("no_matching_row", finding == "ambiguous", pl.format("oracle_bloomberg has several {}", symbol)),
        ),
        tuple(
            Coercion(kind, finding == kind)
            for kind in ("security_not_found", "security_ambiguous", "security_by_identifier")
        ),
    )


def _securities(asked: pl.Series, listed: pl.DataFrame, unknown: str, ambiguous: str) -> pl.Series:
    """SECURITY of each of some requests; what several ask alike is looked for once."""
    names = ["inst_symbol", *IDENTIFIERS]
    wanted = pl.DataFrame({"asked": asked}).unnest("asked").select(pl.col(names).str.strip_chars())
    given = pl.col(IDENTIFIERS).str.to_lowercase().name.prefix("_")
    distinct = wanted.unique(maintain_order=True).with_row_index("number").with_columns(given)
    is_deleted = (code(pl.col("is_deleted_yn")) == "y").fill_null(False)
    rows = listed.filter(~is_deleted).select(
        pl.col("id").cast(pl.Int64),
        pl.col("inst_symbol").str.strip_chars(),
        *(code(pl.col(name)).alias(f"_{name}") for name in IDENTIFIERS),
    )
    pairs = distinct.join(rows, on="inst_symbol", suffix="_there")
    found = _with_the_only(distinct, pairs, "by_symbol").with_columns(pl.col("by_symbol").alias("id"))
    hits = pairs.group_by("number").agg(pl.len().alias("hits"))
    found = found.join(hits, on="number", how="left", maintain_order="left").with_columns(pl.col("hits").fill_null(0))
    if ambiguous == "narrow":
        for name in IDENTIFIERS[:3]:
            alike = pairs.filter(pl.col(f"_{name}") == pl.col(f"_{name}_there"))
            found = _with_the_only(found, alike, f"by_{name}")
        found = found.with_columns(pl.coalesce("id", *(f"by_{name}" for name in IDENTIFIERS[:3])).alias("id"))
        found = found.drop(f"by_{name}" for name in IDENTIFIERS[:3])
    known = ["inst_symbol"]
    if unknown == "by_identifiers":
        known = names
        for name in IDENTIFIERS:
            alike = found.filter(pl.col("hits") == 0).join(
                rows.select("id", f"_{name}"), on=f"_{name}", suffix="_there"
            )
            found = _with_the_only(found, alike, f"by_{name}")
        found = found.with_columns(pl.coalesce(f"by_{name}" for name in IDENTIFIERS).alias("identified"))
    else:
        found = found.with_columns(pl.lit(None, pl.Int64).alias("identified"))
    finding = (
        pl.when(pl.col("id").is_not_null())
        .then(None)
        .when(pl.col("identified").is_not_null())
        .then(pl.lit("security_by_identifier"))
        .when(pl.col("hits") > 1)
        .then(pl.lit("security_ambiguous" if ambiguous == "null" else "ambiguous"))
        .when(pl.any_horizontal(pl.col(known).is_not_null()))
        .then(pl.lit("unknown" if unknown == "reject" else "security_not_found"))
    )
    answer = pl.struct(pl.coalesce("id", "identified").alias("id"), finding.alias("finding")).cast(SECURITY)
    answers = found.select(*names, answer.alias("answer"))
    return wanted.join(answers, on=names, how="left", nulls_equal=True, maintain_order="left").get_column("answer")


def _with_the_only(found: pl.DataFrame, pairs: pl.DataFrame, name: str) -> pl.DataFrame:
    """Adds the id of the security that a request (`number`) is paired with, where it is but one."""
    there = "id_there" if "id_there" in pairs.columns else "id"
    alone = pairs.group_by("number").agg(pl.col(there).first().alias(name), pl.len().alias("_hits"))
    alone = alone.filter(pl.col("_hits") == 1).drop("_hits")
    return found.join(alone, on="number", how="left", maintain_order="left")


# --- what else a request holds ----------------------------------------------------------------------------------------


@OWN.transform("currency")
def currency(inputs: Sequence[pl.Expr], context: TransformContext, unknown: Literal["keep", "reject"]) -> Outcome:
    """A code as `currency` spells it, where it has but one spelling of it; any other as it is, or `unmapped_value`."""
    (source,) = inputs
    trimmed = source.str.strip_chars()
    find = remembered(lambda codes: _spellings(codes, rows_of(context, "currency")))
    spelling = trimmed.map_batches(find, pl.String(), is_elementwise=True)
    value = pl.coalesce(spelling, trimmed)
    is_unlisted = source.is_not_null() & spelling.is_null() & pl.lit(unknown == "reject")
    return Outcome(
        value,
        (Problem("unmapped_value", is_unlisted, pl.format("currency does not list {}", shown(source))),),
        (Coercion("trimmed", source != trimmed), Coercion("currency_spelling", spelling != trimmed)),
    )


def _spellings(codes: pl.Series, listed: pl.DataFrame) -> pl.Series:
    """The listed spelling of each code; null where none is meant for sure."""
    spellings = listed.select(pl.col("currency").alias("listed")).drop_nulls().unique()
    spellings = spellings.with_columns(pl.col("listed").str.to_lowercase().alias("key"))
    only = spellings.filter(pl.col("key").is_unique())
    asked = pl.DataFrame({"code": codes}).with_columns(pl.col("code").str.to_lowercase().alias("key"))
    asked = asked.join(only, on="key", how="left", maintain_order="left")
    is_listed = pl.col("code").is_in(spellings.get_column("listed").implode())
    # GBp is a hundredth of GBP.
    respelt = pl.when(~pl.col("code").str.contains(HUNDREDTH)).then("listed")
    return asked.select(pl.when(is_listed).then("code").otherwise(respelt).alias("code")).to_series()


@OWN.transform("related_party")
def related_party(
    inputs: Sequence[pl.Expr], context: TransformContext, under: Literal["ignore", "related_party_name", "when_related"]
) -> Outcome:
    """The name as it is; under `when_related` only of a related party."""
    name, related = inputs
    flags = context.value_maps["flag"]
    yes = flags.filter(pl.col("means")).get_column("code")
    is_related = code(related).is_in(yes.implode()).fill_null(False)
    # A flag is not written, whatever bytes it has, and nor is the name where nobody is related.
    written = is_related | pl.lit(under != "when_related")
    unwritable = [replace(problem, when=problem.when & written) for problem in no_text(["name"], [name])]
    return Outcome(pl.when(written).then(name), tuple(unwritable), takes_any_bytes=True)


@OWN.transform("assessed")
def assessed(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """The object that `requests` made; it said already which of the texts in it cannot be written."""
    return Outcome(inputs[0], takes_any_bytes=True)


# --- approvals --------------------------------------------------------------------------------------------------------


@OWN.transform("decided_at")
def decided_at(
    inputs: Sequence[pl.Expr], context: TransformContext, undated: Literal["reject", "last_modified"]
) -> Outcome:
    """The date of an approval; without one a `schema_violation`, or the time of the last change, counted."""
    date, updated_at = inputs
    read = instant([date], context, counted=False)
    if undated == "reject":
        missing = Problem("schema_violation", date.is_null(), "the approval has no date, and the target needs one")
        return Outcome(read.value, (*read.problems, missing))
    value = pl.when(date.is_null()).then(updated_at).otherwise(read.value)
    return Outcome(value, read.problems, (Coercion("undated_approval", date.is_null()),))


@OWN.transform("approval_details")
def approval_details(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """What an audit entry says of an approval, as JSON: its decision and its comments."""
    decision, comments = inputs
    origin = '"original_table":"personal_account_dealing","source":"legacy_migration"}'
    parts = [pl.lit('{"comments":'), json_text(comments), pl.lit(',"decision":'), json_text(decision)]
    return Outcome(pl.concat_str(*parts, pl.lit(f",{origin}")))


TRANSFORMS = GENERIC | OWN
