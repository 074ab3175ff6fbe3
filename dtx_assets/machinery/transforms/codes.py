"""Codes, flags, names and numbers of people from legacy text: what is blank or not listed has a value of its own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import polars as pl

from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    Coercion,
    Outcome,
    Problem,
    TransformContext,
    canonical_integer,
    integer,
    integer_value,
    reading,
    shown,
)

TRUE, FALSE = ("t", "true", "1"), ("f", "false", "0")
"""How PostgreSQL and exports write a boolean."""
MOST_HOURS = ((1 << 63) - 1) // 3_600_000_000
"""PostgreSQL holds the hours of an interval as microseconds of 64 bits."""


@GENERIC.transform("flag")
def flag(inputs: Sequence[pl.Expr], context: TransformContext, null: bool | None = None) -> Outcome:
    """True or false as PostgreSQL and exports write them, in any case; NULL becomes `null` where that is given."""
    (source,) = inputs
    given = source.str.to_lowercase()
    value = pl.when(given.is_in(TRUE)).then(pl.lit(True)).when(given.is_in(FALSE)).then(pl.lit(False))
    read = reading(source, value, "boolean", "reject")
    return read if null is None else replace(read, value=pl.when(source.is_null()).then(pl.lit(null)).otherwise(value))


@GENERIC.transform("filled_name")
def filled_name(inputs: Sequence[pl.Expr], context: TransformContext, form: str = "") -> Outcome:
    """A name without white space around it; a blank one is NULL, or as `form` says with the row's id, counted."""
    name = inputs[0].str.strip_chars()
    is_blank = (name == "").fill_null(True)
    if not form:
        return Outcome(pl.when(~is_blank).then(name))
    other = pl.format(form, canonical_integer(inputs[1])) if "{}" in form else pl.lit(form)
    return Outcome(pl.when(is_blank).then(other).otherwise(name), coercions=(Coercion("blank_name", is_blank),))


@GENERIC.transform("filled_or_null")
def filled_or_null(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """A text as it is; NULL where it is blank."""
    return Outcome(pl.when(inputs[0].str.strip_chars() != "").then(inputs[0]))


@GENERIC.transform("numbered")
def numbered(inputs: Sequence[pl.Expr], context: TransformContext, prefix: str, digits: int = 1) -> Outcome:
    """A number that people use: the prefix, and the id in so many digits at least."""
    number = canonical_integer(inputs[0])
    sign = pl.when(number.str.starts_with("-")).then(pl.lit("-")).otherwise(pl.lit(""))
    spelt = pl.concat_str(pl.lit(prefix), sign, number.str.strip_prefix("-").str.zfill(digits))
    return Outcome(spelt, takes_any_bytes=True)


@GENERIC.transform("coded")
def coded(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    map: str,
    gives: str,
    default: str,
    unknown: Literal["default", "reject"],
) -> Outcome:
    """What a value map says of a code. One that is not listed, or NULL, is the default, counted, or rejected."""
    (source,) = inputs
    number = canonical_integer(source)
    listed = context.value_maps[map]
    value = number.replace_strict(listed.to_series(0), listed[gives], default=None, return_dtype=pl.String)
    is_unlisted = source.is_null() | (number.is_not_null() & value.is_null())
    is_default = is_unlisted & pl.lit(unknown == "default")
    detail = pl.format(f"{{}} is not listed in {map}.csv", shown(source))
    return Outcome(
        pl.when(is_default).then(pl.lit(default)).otherwise(value),
        (*integer(inputs, context).problems, Problem("unmapped_value", is_unlisted & ~is_default, detail)),
        (Coercion(f"unknown_{map}", is_default),),
        takes_any_bytes=True,
    )


@GENERIC.transform("unlisted_code")
def unlisted_code(inputs: Sequence[pl.Expr], context: TransformContext, map: str) -> Outcome:
    """A code that a value map does not list; NULL where it does."""
    number = canonical_integer(inputs[0])
    return Outcome(pl.when(number.is_in(context.value_maps[map].to_series(0).implode()).not_()).then(number))


@GENERIC.transform("is_one_of")
def is_one_of(inputs: Sequence[pl.Expr], context: TransformContext, codes: list[int]) -> Outcome:
    """Whether a number is one of some."""
    return Outcome(integer_value(inputs[0]).is_in(codes).fill_null(False))


@GENERIC.transform("as_made")
def as_made(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """A value of the row that it belongs to, as it was made."""
    return Outcome(inputs[0])


@GENERIC.transform("hours")
def hours(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """So many hours as an interval; fewer than none, or more than one holds, are a `schema_violation`."""
    read = integer(inputs, context, least=0, most=MOST_HOURS)
    return replace(read, value=pl.format("{}:00:00", read.value.cast(pl.String).str.zfill(2)))
