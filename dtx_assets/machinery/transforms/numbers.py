"""Decimal numbers and booleans from legacy text. Numbers are never floats: their digits are moved about as text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    Blank,
    Coercion,
    Outcome,
    Problem,
    TransformContext,
    Unreadable,
    code,
    reading,
    shown,
)

MOST_WHOLE_DIGITS, MOST_DECIMALS, MOST_PRECISION = 131_072, 16_383, 1_000
"""What PostgreSQL's numeric can hold, as a number in jsonb does, and what its declaration may say."""

NUMBER = r"^(?<sign>-?)(?<whole>[0-9]*)(?:\.(?<decimals>[0-9]*))?EXPONENT$"
EXPONENT = r"(?:[eE](?<exponent>[+-]?[0-9]{1,6}))?"
MINUS_ZERO = r"^-[0.]*$"

READ = pl.Struct({"value": pl.String, "fault": pl.String, "rounded": pl.Boolean})
"""A number as it is read: its text, or `unreadable`, `surplus` (of decimals) or `too_large`."""


@dataclass(frozen=True)
class NumberForm:
    """What numbers of a column look like: digits in all, decimals, and what becomes of more decimals.

    `scale` None takes any number of decimals.
    """

    precision: int | None
    scale: int | None
    rounds: bool
    exponent: bool

    def __post_init__(self) -> None:
        if self.precision is not None and not 1 <= self.precision <= MOST_PRECISION:
            raise ValueError(f"a precision of {self.precision}; give 1 to {MOST_PRECISION}")
        if self.scale is not None and not 0 <= self.scale <= MOST_PRECISION:
            raise ValueError(f"a scale of {self.scale}; give 0 to {MOST_PRECISION}")

    @property
    def whole_digits(self) -> int:
        """Digits before the point, at most."""
        if self.precision is None:
            return MOST_WHOLE_DIGITS
        return max(self.precision - (self.scale or 0), 0)

    def read(self, texts: pl.Series) -> pl.Series:
        """READ of each text; a few operations on all of them where they are written as PostgreSQL prints them."""
        is_plain = texts.str.contains(self._plain()) & ~texts.str.contains(MINUS_ZERO)
        others = texts.filter(~is_plain).unique()
        frame = pl.DataFrame({"text": texts})
        if others.is_empty():
            read = frame.with_columns(
                pl.col("text").alias("value"), fault=pl.lit(None, pl.String), rounded=pl.lit(False)
            )
        else:
            read = frame.join(self._read_digits(others), on="text", how="left", maintain_order="left").with_columns(
                pl.when(is_plain).then("text").otherwise("value").alias("value")
            )
        return read.select(pl.struct("value", "fault", "rounded").cast(READ)).to_series()

    def _plain(self) -> str:
        whole = f"(?:0|[1-9][0-9]{{0,{self.whole_digits - 1}}})" if 0 < self.whole_digits <= 1000 else "0"
        if self.scale is None:
            return r"^-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?$"
        if self.precision is None:
            whole = r"(?:0|[1-9][0-9]{0,99})"
        elif self.precision < self.scale:
            # Zeros must follow the point: rare enough to be looked at by digits.
            return r"^\b\B$"
        return rf"^-?{whole}\.[0-9]{{{self.scale}}}$" if self.scale else f"^-?{whole}$"

    def _read_digits(self, texts: pl.Series) -> pl.DataFrame:
        """`text`, `value`, `fault`, `rounded` of distinct texts. Digits stand as one text, `point` digits before it."""
        pattern = NUMBER.replace("EXPONENT", EXPONENT if self.exponent else "")
        frame = pl.DataFrame({"text": texts}).with_columns(pl.col("text").str.extract_groups(pattern).alias("parts"))
        frame = frame.unnest("parts").with_columns(pl.col("whole", "decimals").fill_null(""))
        exponent = pl.col("exponent").cast(pl.Int64).fill_null(0) if self.exponent else pl.lit(0, pl.Int64)
        frame = frame.with_columns(
            pl.concat_str("whole", "decimals").alias("digits"),
            (_length("whole") + exponent).alias("point"),
        ).with_columns(
            # Else a number like 1e999999 would be written out.
            beyond=~pl.col("point").is_between(-MOST_DECIMALS, MOST_WHOLE_DIGITS)
            & pl.col("digits").str.contains("[1-9]"),
            point=pl.col("point").clip(-MOST_DECIMALS, MOST_WHOLE_DIGITS),
        )
        frame = frame.with_columns(
            pl.col("digits").str.pad_start(_length("digits") + (-pl.col("point")).clip(0), "0"),
            pl.col("point").clip(0),
        ).with_columns(pl.col("digits").str.pad_end(pl.col("point"), "0"))
        frame = self._at_scale(frame).with_columns(pl.col("whole").str.strip_chars_start("0"))
        significant = pl.concat_str("whole", "decimals").str.strip_chars_start("0")
        too_large = pl.col("beyond") | (_length("whole") > MOST_WHOLE_DIGITS) | (_length("decimals") > MOST_DECIMALS)
        if self.precision is not None:
            too_large |= significant.str.len_bytes() > self.precision
        is_number = pl.col("sign").is_not_null() & pl.col("text").str.contains("^-?[.]?[0-9]")
        faults = (
            pl.when(~is_number)
            .then(pl.lit("unreadable"))
            .when(too_large)
            .then(pl.lit("too_large"))
            .when(pl.col("surplus") & pl.lit(not self.rounds))
            .then(pl.lit("surplus"))
        )
        written = pl.concat_str(
            pl.when(significant != "").then("sign").otherwise(pl.lit("")),
            pl.when(pl.col("whole") == "").then(pl.lit("0")).otherwise("whole"),
            pl.when(pl.col("decimals") == "").then(pl.lit("")).otherwise(pl.lit(".") + pl.col("decimals")),
        )
        return frame.with_columns(faults.alias("fault"), written.alias("written")).select(
            "text",
            pl.when(pl.col("fault").is_null()).then("written").alias("value"),
            "fault",
            (pl.col("surplus") & pl.col("fault").is_null()).alias("rounded"),
        )

    def _at_scale(self, frame: pl.DataFrame) -> pl.DataFrame:
        """With `whole` and `decimals` as they are written, and `surplus`: whether decimals that are not 0 are left."""
        if self.scale is None:
            return frame.with_columns(
                pl.col("digits").str.slice(0, pl.col("point")).alias("whole"),
                pl.col("digits").str.slice(pl.col("point")).alias("decimals"),
                surplus=pl.lit(False),
            )
        kept = pl.col("point") + self.scale
        frame = frame.with_columns(pl.col("digits").str.pad_end(kept, "0")).with_columns(
            pl.col("digits").str.slice(0, kept).alias("kept"), pl.col("digits").str.slice(kept).alias("left")
        )
        frame = frame.with_columns(
            pl.col("left").str.contains("[1-9]").alias("surplus"),
            # Half away from zero: the digits that stay, and one more in the last place.
            pl.col("kept").str.extract_groups(r"^(?<before>.*?)(?<last>[0-8]?)(?<nines>9*)$").alias("up"),
        )
        up = pl.col("up").struct
        raised = pl.concat_str(
            up.field("before"),
            (up.field("last").replace("", "0").cast(pl.Int8) + 1).cast(pl.String),
            up.field("nines").str.replace_all("9", "0", literal=True),
        )
        frame = frame.with_columns(
            pl.when(pl.col("left").str.contains("^[5-9]")).then(raised).otherwise("kept").alias("kept")
        )
        place = _length("kept") - self.scale
        return frame.with_columns(
            pl.col("kept").str.slice(0, place).alias("whole"), pl.col("kept").str.slice(place).alias("decimals")
        )


def _length(column: str) -> pl.Expr:
    return pl.col(column).str.len_bytes().cast(pl.Int64)


def digits_of_column(context: TransformContext, column: str) -> tuple[int | None, int | None]:
    """Precision and scale of a column of the target; (None, None) where it takes any number of digits."""
    kind = context.columns.get(column)
    return (kind.decimals if kind else None) or (None, None)


@GENERIC.transform("numeric")
def numeric(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    precision: int | None = None,
    scale: int | None = None,
    surplus: Literal["reject", "round"] = "reject",
    exponent: bool = False,
    unreadable: Unreadable = "reject",
    blank: Blank = "reject",
    digits_of: str | None = None,
) -> Outcome:
    """A decimal number, exactly, as PostgreSQL prints a numeric of that precision and scale; else `unparseable`.

    `-?` and digits with or without a point, and with an exponent where that is allowed. Trailing zeros are no surplus
    decimals; those that are reject the row as `schema_violation`, or are rounded half away from zero and counted.
    `digits_of` names a column of the target, whose precision and scale count as they are live.
    """
    (source,) = inputs
    if digits_of is not None:
        precision, scale = digits_of_column(context, digits_of)
    if precision is not None and scale is None:
        scale = 0
    form = NumberForm(precision, scale, surplus == "round", exponent)
    read = context.read(source, form.read, READ)
    fault = read.struct.field("fault")
    return reading(
        source,
        read.struct.field("value"),
        "number",
        unreadable,
        blank,
        is_readable=fault.ne_missing("unreadable"),
        problems=(
            Problem(
                "schema_violation",
                fault == "surplus",
                pl.format(f"{{}} has more than {scale} decimals", shown(source)),
            ),
            Problem(
                "schema_violation",
                fault == "too_large",
                pl.format(f"{{}} has more than {form.whole_digits} digits before the point", shown(source)),
            ),
        ),
        coercions=(Coercion("rounded", read.struct.field("rounded")),),
    )


@GENERIC.transform("quotient")
def quotient(inputs: Sequence[pl.Expr], context: TransformContext, digits_of: str) -> Outcome:
    """One decimal number divided by another, exactly, then rounded half away from zero to the scale of a column.

    NULL where one of them is NULL or no number, or the second is 0; too many digits are a `schema_violation`.
    """
    dividend, divisor = inputs
    precision, scale = digits_of_column(context, digits_of)
    form = NumberForm(precision, scale, rounds=True, exponent=False)
    plain = NumberForm(None, None, rounds=False, exponent=False)
    places = MOST_PRECISION if scale is None else scale

    def divided(pairs: pl.Series) -> pl.Series:
        names = pairs.struct.fields
        read = [plain.read(pairs.struct.field(name)).struct.field("value") for name in names]
        frame = pl.DataFrame(read, schema=names)
        distinct = frame.unique()
        quotients = [_divided(over, under, places) for over, under in distinct.iter_rows()]
        distinct = distinct.with_columns(form.read(pl.Series(quotients, dtype=pl.String)).alias("read"))
        return frame.join(distinct, on=names, how="left", nulls_equal=True, maintain_order="left").get_column("read")

    pair = pl.struct(dividend.alias("dividend"), divisor.alias("divisor"))
    read = context.read(pair, divided, READ)
    too_large = read.struct.field("fault") == "too_large"
    detail = f"the quotient has more than {form.whole_digits} digits before the point"
    return Outcome(read.struct.field("value"), (Problem("schema_violation", too_large, detail),))


def _divided(dividend: str | None, divisor: str | None, places: int) -> str | None:
    """The quotient of two numbers with so many decimals, rounded half away from zero; None where there is none."""
    if dividend is None or divisor is None:
        return None
    (over, over_decimals), (under, under_decimals) = map(_digits, (dividend, divisor))
    if under == 0:
        return None
    sign = "-" if (over < 0) != (under < 0) else ""
    over, under = abs(over) * 10 ** (under_decimals + places), abs(under) * 10**over_decimals
    digits = str((2 * over + under) // (2 * under)).zfill(places + 1)
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else sign + digits


def _digits(number: str) -> tuple[int, int]:
    """A number as a whole one, and how many of its digits are decimals."""
    whole, _, decimals = number.partition(".")
    return int(whole + decimals), len(decimals)


TRUE_TEXTS, FALSE_TEXTS = ("1", "t", "true", "y"), ("0", "f", "false", "n")


@GENERIC.transform("boolean")
def boolean(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    true_texts: Sequence[str] = TRUE_TEXTS,
    false_texts: Sequence[str] = FALSE_TEXTS,
    unreadable: Unreadable = "reject",
    blank: Blank = "reject",
) -> Outcome:
    """True or false by lists of texts, compared trimmed and without case; anything else is `unparseable`."""
    (source,) = inputs
    true, false = ([re.sub(r"^\s+|\s+$", "", text).lower() for text in texts] for texts in (true_texts, false_texts))
    if both := set(true) & set(false):
        raise ValueError(f"{sorted(both)} are listed as true and as false; list each text once")
    given = code(source)
    value = (
        pl.when(given.is_in(pl.Series(true, dtype=pl.String).implode()))
        .then(pl.lit(True))
        .when(given.is_in(pl.Series(false, dtype=pl.String).implode()))
        .then(pl.lit(False))
    )
    return reading(source, value, "boolean", unreadable, blank)
