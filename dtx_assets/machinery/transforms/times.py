"""Instants and times of the clock on the wall from legacy text in ISO 8601, with or without an offset.

The zone of times without one, and what is done where its clock was changed, are those of `columns`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import polars as pl

from dtx_assets.machinery.transforms.bson_values import YEARS_1_TO_9999
from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    INSTANT,
    Blank,
    Coercion,
    Outcome,
    Problem,
    TransformContext,
    Unreadable,
    clock_changes,
    integer_value,
    localized,
    reading,
    shown,
)

ISO_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[ T][0-9]{2}:[0-9]{2}SECONDS(?:OFFSET)?)?$"
SECONDS = r":[0-5][0-9](?:\.[0-9]+)?"
OFFSET = r"Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?"
MICROSECOND_DIGITS = 6
WHOLE_SECONDS = len("2000-01-01 00:00:00")

ISO_PARTS = pl.Struct(
    {"clock": pl.Datetime("us"), "has_offset": pl.Boolean, "offset": pl.Int64, "loses_digits": pl.Boolean}
)
"""A text as it is read; the offset in minutes, 0 where there is none."""


@dataclass(frozen=True)
class IsoTime:
    """The parts of a text in ISO 8601: the clock on the wall, cut after `digits` of the second, and its offset.

    The clock is null for anything else, days that no calendar has, and years but 1 to 9999.
    """

    clock: pl.Expr
    has_offset: pl.Expr
    offset: pl.Expr
    """As a duration, 0 where there is none."""
    loses_digits: pl.Expr

    @classmethod
    def of(
        cls, text: pl.Expr, context: TransformContext, digits: int, seconds: Literal["required", "optional"]
    ) -> "IsoTime":
        if not 0 <= digits <= MICROSECOND_DIGITS:
            raise ValueError(f"{digits} digits of a second; give 0 to {MICROSECOND_DIGITS}")
        parts = context.read(
            text, partial(iso_parts, digits=digits, without_seconds=seconds == "optional"), ISO_PARTS
        ).struct
        return cls(
            parts.field("clock"),
            parts.field("has_offset"),
            pl.duration(minutes=parts.field("offset"), time_unit="us"),
            parts.field("loses_digits"),
        )

    def in_utc(self, timezone: str) -> pl.Expr:
        """The instant; a time without an offset is of `timezone`."""
        of_zone = pl.when(~self.has_offset).then(self.clock)
        return pl.coalesce(self.of_offset(), localized(of_zone, timezone))

    def of_offset(self) -> pl.Expr:
        """The instant of a time with an offset; null for others."""
        shifted = self.clock - self.offset
        told = pl.when(self.has_offset & shifted.dt.year().is_between(1, 9999)).then(shifted)
        return told.dt.replace_time_zone("UTC").cast(INSTANT)

    def clock_changes(self, timezone: str) -> tuple[Coercion, ...]:
        return clock_changes(pl.when(~self.has_offset).then(self.clock), timezone)


def iso_parts(texts: pl.Series, *, digits: int = MICROSECOND_DIGITS, without_seconds: bool = False) -> pl.Series:
    """ISO_PARTS of each text; an offset and a fraction, which only some have, are looked for where one may have it."""
    seconds = f"(?:{SECONDS})?" if without_seconds else SECONDS
    pattern = ISO_TIME.replace("SECONDS", seconds).replace("OFFSET", OFFSET)
    times = texts.set(~texts.str.contains(pattern).fill_null(False), None)
    if without_seconds:
        times = times.str.replace(f"^(.{{16}})({OFFSET})?$", "${1}:00${2}")
    # Cut by place, which is quicker than by pattern.
    time = pl.col("time")
    clock = (time + pl.lit(" 00:00:00")).str.slice(11, 8)
    whole = (time.str.head(10) + pl.lit(" ") + clock).str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    parts = times.alias("time").to_frame().select(time, pl.when(whole.dt.year() >= 1).then(whole).alias("clock"))
    if not (times.str.len_bytes() > WHOLE_SECONDS).any():
        nothing = (pl.lit(False).alias("has_offset"), pl.lit(0, pl.Int64).alias("offset"))
        whole_seconds = pl.struct("clock", *nothing, pl.lit(False).alias("loses_digits"))
        return parts.select(whole_seconds).to_series().alias(texts.name)
    behind = parts.select(
        "clock",
        time.str.slice(WHOLE_SECONDS).str.extract(f"({OFFSET})$", 1).alias("offset"),
        time.str.slice(WHOLE_SECONDS).str.extract(r"^\.([0-9]+)", 1).fill_null("").alias("fraction"),
    )
    fraction, offset = pl.col("fraction"), pl.col("offset")
    kept = fraction.str.head(digits).str.pad_end(MICROSECOND_DIGITS, "0").cast(pl.Int64)
    numbers = offset.str.replace(":", "", literal=True)
    minutes = _number(numbers.str.slice(1, 2)) * 60 + _number(numbers.str.slice(3, 2))
    read = pl.struct(
        (pl.col("clock") + pl.duration(microseconds=kept, time_unit="us")).alias("clock"),
        offset.is_not_null().alias("has_offset"),
        pl.when(offset.str.starts_with("-")).then(-minutes).otherwise(minutes).alias("offset"),
        fraction.str.slice(digits).str.contains("[1-9]").alias("loses_digits"),
    )
    return behind.select(read).to_series().alias(texts.name)


def _number(digits: pl.Expr) -> pl.Expr:
    return digits.cast(pl.Int64, strict=False).fill_null(0)


@GENERIC.transform("instant")
def instant(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    seconds: Literal["required", "optional"] = "required",
    digits: int = MICROSECOND_DIGITS,
    unreadable: Unreadable = "reject",
    blank: Blank = "reject",
    counted: bool = True,
) -> Outcome:
    """A day, or day and time in ISO 8601 with an offset or in the legacy zone, as UTC; else `unparseable`.

    The fraction of a second is cut after `digits`, which is `counted` as `fraction_cut` where one is lost that is not
    0. So is a time that the clock of the zone showed twice, or never; the earlier one is meant, or an hour later.
    """
    (source,) = inputs
    time = IsoTime.of(source, context, digits, seconds)
    value = time.in_utc(context.timezone)
    coercions = (
        Coercion("fraction_cut", value.is_not_null() & time.loses_digits),
        *time.clock_changes(context.timezone),
    )
    return reading(source, value, "time", unreadable, blank, coercions=coercions if counted else ())


MILLISECONDS = {"seconds": 1_000, "milliseconds": 1}
"""How many each is."""


@GENERIC.transform("epoch")
def epoch(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    unit: Literal["seconds", "milliseconds"] = "seconds",
    unreadable: Unreadable = "reject",
    blank: Blank = "reject",
) -> Outcome:
    """A whole number of seconds or milliseconds since 1970 (UTC) as that instant; else `unparseable`.

    So is an instant outside of the years 1 to 9999. What a legacy system writes for no time at all, often 0, is left
    out by `only`.
    """
    (source,) = inputs
    number = integer_value(source)
    milliseconds = MILLISECONDS[unit]
    first, last = (bound // milliseconds for bound in YEARS_1_TO_9999)
    readable = pl.when(number.is_between(first, last)).then(number)
    return reading(source, (readable * milliseconds * 1_000).cast(INSTANT), "time", unreadable, blank)


@GENERIC.transform("local_timestamp")
def local_timestamp(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    offset: Literal["reject", "utc", "legacy"] = "reject",
    seconds: Literal["required", "optional"] = "required",
    digits: int = MICROSECOND_DIGITS,
    unreadable: Unreadable = "reject",
    blank: Blank = "reject",
) -> Outcome:
    """A day, or day and time in ISO 8601, as a timestamp without time zone; else `unparseable`.

    A text with an offset is an instant, which such a column cannot hold: it rejects its row, or is given by the clock
    of UTC or of the legacy zone.
    """
    (source,) = inputs
    time = IsoTime.of(source, context, digits, seconds)
    zone = {"reject": "UTC", "utc": "UTC", "legacy": context.timezone}[offset]
    local = time.of_offset().dt.convert_time_zone(zone).dt.replace_time_zone(None)
    clock = pl.when(~time.has_offset).then(time.clock).otherwise(local)
    is_refused = time.has_offset & clock.is_not_null() & pl.lit(offset == "reject")
    return reading(
        source,
        pl.when(~is_refused).then(
            clock.dt.to_string("%Y-%m-%d %H:%M:%S%.6f").str.strip_chars_end("0").str.strip_chars_end(".")
        ),
        "time",
        unreadable,
        blank,
        is_readable=clock.is_not_null(),
        problems=(
            Problem(
                "schema_violation",
                is_refused,
                pl.format("{} is an instant, and the column holds times without a zone", shown(source)),
            ),
        ),
        coercions=(Coercion("fraction_cut", clock.is_not_null() & time.loses_digits),),
    )
