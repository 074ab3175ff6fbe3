"""What only trading requests are made of: names of related parties, dates and details of approvals."""

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
    code,
    json_text,
)
from dtx_assets.machinery.transforms.times import instant

OWN = Registry()
IDENTIFIERS = ("isin", "sedol", "bloomberg", "ticker")
HUNDREDTH = r"^[A-Z]{2}[a-z]$"


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
