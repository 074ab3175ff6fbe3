"""Texts of values as PostgreSQL prints them, so that what is written and what is read back are one text.

What is spelled in a common way is looked at here, in Polars expressions; the rest is left to the server: `reading`.
Of a text it can be said that it `is_printed` (the server would print it just so), how it is `tidied` (what the server
prints of another spelling of the value), and that no column of the type takes it (`refusals`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from dtx_assets.machinery.model.types import MICROSECONDS, ColumnType

_NUMBER = r"^[+-]?(?:[0-9]{1,1000}(?:\.[0-9]{0,1000})?|\.[0-9]{1,1000})$"
_PLAIN_DOUBLE = r"^-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{0,20}[1-9])?$"
_SMALLEST_PLAIN = 1e-4
"""Of doubles; smaller ones are printed with an exponent, as are those of more than 15 digits."""
_ISO_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_FRACTION = r"(?:\.[0-9]{0,5}[1-9])?"
_FAR = r"^(?:-?infinity|[0-9]{4,7}-[0-9]{2}-[0-9]{2}(?: [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?)?(?: BC)?)$"
_CLOCK = r"^[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?$"
_ZERO_OFFSET = r"(?i)(?:Z| ?UTC| ?[+-]00(?::?00)?)( BC)?$"
_UUID = r"(?i)^\{?[0-9a-f]{4}(?:-?[0-9a-f]{4}){7}\}?$"
_PRINTED_UUID = r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_HEX = r"(?i)^\\x(?:[0-9a-f]{2})*$"
_PRINTED_HEX = r"^\\x(?:[0-9a-f]{2})*$"
NOW = r"(?i)\b(?:now|today|tomorrow|yesterday)\b"
"""Words that PostgreSQL reads as another time each day."""

Refusals = Iterator[tuple[pl.Expr, str]]


@dataclass(frozen=True)
class Reading:
    """How the texts of a type are looked at. Each takes the type with its arguments, and the text; `refusals` of tidied
    texts only."""

    is_printed: Callable[[ColumnType, pl.Expr], pl.Expr]
    tidied: Callable[[ColumnType, pl.Expr], pl.Expr]
    refusals: Callable[[ColumnType, pl.Expr], Refusals]


def is_printed(kind: ColumnType, text: pl.Expr) -> pl.Expr:
    """Whether the server, with the settings of `connection`, prints just this text; false where it is not known."""
    reading = _reading_of(kind)
    return reading.is_printed(kind, text) if reading else pl.lit(False)


def tidied(kind: ColumnType, text: pl.Expr) -> pl.Expr:
    """The text that the server prints of a plain spelling; any other text as it is."""
    reading = _reading_of(kind)
    return reading.tidied(kind, text) if reading else text


def refusals(kind: ColumnType, text: pl.Expr) -> Refusals:
    """Which tidied texts no column of a type holds exactly, and why."""
    if reading := _reading_of(kind):
        yield from reading.refusals(kind, text)
    elif kind.name in _WITH_TIMES:
        yield text.str.contains(NOW), "is another time each day"


def _reading_of(kind: ColumnType) -> Reading | None:
    """None of what only the server reads, arrays of any type among it."""
    return None if kind.is_array else READINGS.get(kind.name)


# --- numbers ----------------------------------------------------------------------------------------------------------


def _is_printed_number(kind: ColumnType, text: pl.Expr) -> pl.Expr:
    if kind.decimals is None:
        plain = text.str.contains(r"^-?(?:0|[1-9][0-9]{0,999})(?:\.[0-9]{1,1000})?$")
    else:
        precision, scale = kind.decimals
        if not 0 <= scale <= precision:
            return pl.lit(False)
        whole = rf"(?:0|[1-9][0-9]{{0,{precision - scale - 1}}})" if precision > scale else "0"
        decimals = rf"\.[0-9]{{{scale}}}" if scale else ""
        plain = text.str.contains(rf"^-?{whole}{decimals}$")
    return plain & ~text.str.contains(r"^-[0.]*$")


def _tidied_number(kind: ColumnType, text: pl.Expr) -> pl.Expr:
    """Without a plus and zeros in front, and with as many decimals as the type has, where none but zeros are lost."""
    whole = text.str.extract(r"^[+-]?([0-9]*)").str.strip_chars_start("0")
    fraction = text.str.extract(r"\.([0-9]*)$").fill_null("")
    if kind.decimals is not None:
        scale = max(kind.decimals[1], 0)
        shortest = fraction.str.strip_chars_end("0")
        fraction = pl.when(shortest.str.len_bytes() <= scale).then(shortest.str.pad_end(scale, "0")).otherwise(shortest)
    is_zero = ~text.str.contains("[1-9]")
    number = pl.concat_str(
        pl.when(text.str.starts_with("-") & ~is_zero).then(pl.lit("-")).otherwise(pl.lit("")),
        pl.when(whole == "").then(pl.lit("0")).otherwise(whole),
        pl.when(fraction == "").then(pl.lit("")).otherwise(pl.lit(".") + fraction),
    )
    return pl.when(text.str.contains(_NUMBER)).then(number).otherwise(text)


def _refused_numbers(kind: ColumnType, text: pl.Expr) -> Refusals:
    if kind.decimals is None:
        return
    precision, scale = kind.decimals
    is_plain = text.str.contains(_NUMBER)
    if scale >= 0:
        shortest = text.str.extract(r"\.([0-9]*)$").str.strip_chars_end("0").str.len_bytes()
        yield is_plain & (shortest > scale), f"has more than the {scale} decimals that {spelled(kind)} keeps"
    if 0 <= scale <= precision:
        digits = text.str.extract(r"^-?([0-9]*)").str.strip_chars_start("0").str.len_bytes()
        yield is_plain & (digits > precision - scale), f"is too large for {spelled(kind)}"


def _is_printed_double(_kind: ColumnType, text: pl.Expr) -> pl.Expr:
    """Of those without an exponent: the shortest digits that give the double back, which none but they do.

    PostgreSQL takes more of them only for a text that lies just between two doubles, of which none is as short as this.
    """
    number = pl.when(text.str.contains(_PLAIN_DOUBLE)).then(text).cast(pl.Float64, strict=False)
    shortest = number.cast(pl.String).str.strip_suffix(".0")
    is_plain = (number.abs() >= _SMALLEST_PLAIN) | (text == "0")
    return (is_plain & (shortest == text)).fill_null(False)


# --- dates and times --------------------------------------------------------------------------------------------------


def _is_date(text: pl.Expr) -> pl.Expr:
    return text.str.to_date("%Y-%m-%d", strict=False).is_not_null() & ~text.str.starts_with("0000")


def _is_printed_date(_kind: ColumnType, text: pl.Expr) -> pl.Expr:
    return text.str.contains(rf"^{_ISO_DATE}$") & _is_date(text)


def _tidied_date(_kind: ColumnType, text: pl.Expr) -> pl.Expr:
    return text.str.replace(rf"^({_ISO_DATE})[ T]00:00(?::00(?:\.0+)?)?$", "${1}")


def _refused_dates(_kind: ColumnType, text: pl.Expr) -> Refusals:
    yield ~text.str.contains(rf"(?i){_FAR}"), "is no date as YYYY-MM-DD"
    yield text.str.contains(":", literal=True), "has a time, which a date does not keep"
    yield text.str.contains(rf"^{_ISO_DATE}$") & ~_is_date(text), "is no day of the calendar"


def _is_printed_timestamp(kind: ColumnType, text: pl.Expr) -> pl.Expr:
    day = text.str.head(10)
    return text.str.contains(rf"^{_ISO_DATE} {_ISO_TIME}{_fraction(kind)}$") & _is_date(day)


def _tidied_timestamp(_kind: ColumnType, text: pl.Expr) -> pl.Expr:
    """`2024-01-31T10:00Z` as `2024-01-31 10:00:00`; an offset of zero is none."""
    timed = text.str.replace(r"^([0-9]{4,7}-[0-9]{2}-[0-9]{2})[Tt]", "${1} ")
    without_offset = timed.str.replace(_ZERO_OFFSET, "${1}")
    timed = pl.when(timed.str.contains(":", literal=True)).then(without_offset).otherwise(timed)
    timed = timed.str.replace(rf"^({_ISO_DATE})$", "${1} 00:00:00").str.replace(
        rf"^({_ISO_DATE} [0-9]{{2}}:[0-9]{{2}})$", "${1}:00"
    )
    return _without_last_zeros(timed)


def _refused_timestamps(kind: ColumnType, text: pl.Expr) -> Refusals:
    yield (
        text.str.contains(r"^[0-9]{4,7}-.*:.*(?:[+-][0-9:]+| ?[A-Za-z_/]{3,})$"),
        f"has an offset or zone, which {spelled(kind)} does not keep",
    )
    yield ~text.str.contains(rf"(?i){_FAR}"), "is no time as YYYY-MM-DD HH:MM:SS"
    yield text.str.contains(rf"^{_ISO_DATE} ") & ~_is_date(text.str.head(10)), "is no day of the calendar"
    yield from _too_fine(kind, text)


def _is_printed_time(kind: ColumnType, text: pl.Expr) -> pl.Expr:
    return text.str.contains(rf"^{_ISO_TIME}{_fraction(kind)}$")


def _tidied_time(_kind: ColumnType, text: pl.Expr) -> pl.Expr:
    return _without_last_zeros(text.str.replace(r"^([0-9]{2}:[0-9]{2})$", "${1}:00"))


def _refused_times(kind: ColumnType, text: pl.Expr) -> Refusals:
    yield ~text.str.contains(_CLOCK), "is no time of day as HH:MM:SS"
    yield from _too_fine(kind, text)


def _fraction(kind: ColumnType) -> str:
    digits = MICROSECONDS if kind.precision is None else kind.precision
    return rf"(?:\.[0-9]{{0,{digits - 1}}}[1-9])?" if digits else ""


def _without_last_zeros(text: pl.Expr) -> pl.Expr:
    shorter = text.str.replace(r"(:[0-9]{2}\.[0-9]*?)0+( BC)?$", "${1}${2}")
    return shorter.str.replace(r"(:[0-9]{2})\.( BC)?$", "${1}${2}")


def _too_fine(kind: ColumnType, text: pl.Expr) -> Refusals:
    digits = MICROSECONDS if kind.precision is None else kind.precision
    fraction = text.str.extract(r":[0-9]{2}\.([0-9]+)(?: BC)?$").str.strip_chars_end("0").str.len_bytes()
    yield fraction > digits, f"has more than the {digits} digits of the second that {spelled(kind)} keeps"


# --- others -----------------------------------------------------------------------------------------------------------


def _tidied_uuid(_kind: ColumnType, text: pl.Expr) -> pl.Expr:
    digits = text.str.replace_all(r"[{}-]", "").str.to_lowercase()
    parts = [digits.str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
    return pl.when(text.str.contains(_UUID)).then(pl.concat_str(parts, separator="-")).otherwise(text)


def _no_refusals(_kind: ColumnType, _text: pl.Expr) -> Refusals:
    yield from ()


READINGS = {
    "numeric": Reading(_is_printed_number, _tidied_number, _refused_numbers),
    "double precision": Reading(_is_printed_double, lambda _kind, text: text, _no_refusals),
    "date": Reading(_is_printed_date, _tidied_date, _refused_dates),
    "timestamp without time zone": Reading(_is_printed_timestamp, _tidied_timestamp, _refused_timestamps),
    "time without time zone": Reading(_is_printed_time, _tidied_time, _refused_times),
    "uuid": Reading(
        lambda _kind, text: text.str.contains(_PRINTED_UUID),
        _tidied_uuid,
        lambda _kind, text: iter([(~text.str.contains(_UUID), "is no uuid")]),
    ),
    "bytea": Reading(
        lambda _kind, text: text.str.contains(_PRINTED_HEX),
        lambda _kind, text: pl.when(text.str.contains(_HEX)).then(text.str.to_lowercase()).otherwise(text),
        _no_refusals,
    ),
}
_WITH_TIMES = frozenset(
    f"{kind}{shape}" for kind in ("date", "ts", "tstz") for shape in ("range", "multirange")
) | frozenset(("date", "timestamp without time zone", "timestamp with time zone", "time with time zone"))


def spelled(kind: ColumnType) -> str:
    """The type in words for people."""
    return f"{kind.name}({','.join(kind.arguments)})" if kind.arguments else kind.name
