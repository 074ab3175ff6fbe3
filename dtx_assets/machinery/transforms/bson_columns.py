"""Values of documents as most documents have them, read by expressions: the short way beside that of `bson_values`.

What a value becomes is said there; here is only what is read the same way, and nothing that is counted or refused.
Each function gives NULL for what it leaves to the other one.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast
from uuid import UUID

import polars as pl
import polars_hash  # noqa: F401 (it gives expressions their `uuidhash`)

FIELDS = (pl.String(), pl.String(), pl.String(), pl.List(pl.String))
READ = pl.Struct(dict(zip(("value", "reason", "fault", "counted"), FIELDS, strict=True)))
"""The text that is made of a value, or why there is none, and a kind for each lossy change that was accepted."""

Values = Callable[[pl.Series], pl.Series]

PLAIN_CHARACTER = r'[^"\\\x00-\x1f]'
PLAIN_TEXT = rf'^"{PLAIN_CHARACTER}*"$'
PLAIN_TEXTS = rf'^\[(?:"{PLAIN_CHARACTER}*"(?:,"{PLAIN_CHARACTER}*")*)?\]$'
QUOTED_IN_ARRAY = r"(?i)^$|[{}, \t\n\r\v\f]|^null$"
INTEGER = r'^\{"\$number(?:Int|Long)":"(0|-?[1-9][0-9]{0,17})"\}$'
INTEGRAL_DOUBLE = r'^\{"\$numberDouble":"(0|-?[1-9][0-9]{0,14})\.0"\}$'
OBJECT_ID = r'\{"\$oid":"[0-9a-f]{24}"\}'
OBJECT_IDS = rf"^\[(?:{OBJECT_ID}(?:,{OBJECT_ID})*)?\]$"
DIGITS_OF_ID = "[0-9a-f]{24}"
DATE = r'^\{"\$date":\{"\$numberLong":"(0|-?[1-9][0-9]{0,14})"\}\}$'
YEARS_1000_TO_9999 = (-30_610_224_000_000, 253_402_300_799_999)
"""Milliseconds since 1970; other years are not printed with four digits everywhere."""


def read_quickly(values: pl.Series, quick: Values, slow: Values) -> pl.Series:
    """READ of each value: what `quick` gives, and what `slow` reads of those that are left."""
    made = quick(values)
    left = made.is_null() & values.is_not_null()
    if left.all() and len(left):
        return slow(values)
    nothing = pl.lit(None, pl.String)
    counted = pl.when(pl.lit(values).is_not_null()).then(pl.lit([], pl.List(pl.String)))
    columns = (pl.lit(made), nothing, nothing, counted)
    read = pl.select(
        pl.struct(column.alias(field.name) for column, field in zip(columns, READ.fields, strict=True))
    ).to_series()
    if not left.any():
        return read
    place = pl.select(
        pl.when(left).then(len(values) + pl.lit(left).cum_sum() - 1).otherwise(pl.int_range(len(values)))
    ).to_series()
    return pl.concat([read, slow(values.filter(left))]).gather(place)


def _where(when: pl.Series, value: pl.Series) -> pl.Series:
    return pl.select(pl.when(when).then(value)).to_series()


def texts(values: pl.Series) -> pl.Series:
    """Strings in which nothing is escaped."""
    return _where(values.str.contains(PLAIN_TEXT), values.str.strip_prefix('"').str.strip_suffix('"'))


def integers(values: pl.Series, *, bits: int) -> pl.Series:
    """Integers, and doubles that are such ones, within the range of a column."""
    found = values.str.extract(INTEGER)
    if found.null_count() > values.null_count():
        found = found.zip_with(found.is_not_null(), values.str.extract(INTEGRAL_DOUBLE))
    half = 1 << bits - 1
    return _where(found.cast(pl.Int64).is_between(-half, half - 1), found)


def booleans(values: pl.Series) -> pl.Series:
    return _where(values.is_in(["true", "false"]), values)


def timestamps(values: pl.Series) -> pl.Series:
    """Dates as PostgreSQL prints them."""
    milliseconds = values.str.extract(DATE).cast(pl.Int64)
    is_usual = milliseconds.is_between(*YEARS_1000_TO_9999)
    thousandths = pl.lit(milliseconds) % 1000
    fraction = pl.format(".{}", thousandths.cast(pl.String).str.zfill(3).str.strip_chars_end("0"))
    clock = pl.lit(_where(is_usual, milliseconds)).cast(pl.Datetime("ms")).dt.to_string("%Y-%m-%d %H:%M:%S")
    return pl.select(clock + pl.when(thousandths == 0).then(pl.lit("")).otherwise(fraction)).to_series()


def labels(values: pl.Series, *, known: Sequence[str]) -> pl.Series:
    found = texts(values)
    return _where(found.is_in(list(known)), found)


def uuids(values: pl.Series, *, namespace: str) -> pl.Series:
    """UUIDs of ObjectIds."""
    digits = _where(values.str.contains(f"^{OBJECT_ID}$"), values.str.slice(len('{"$oid":"'), 24))
    return pl.select(_uuid5(pl.lit(digits), namespace)).to_series()


def _uuid5(digits: pl.Expr, namespace: str) -> pl.Expr:
    hashed: Any = digits
    return cast(pl.Expr, hashed.uuidhash.uuid5(str(UUID(namespace))))


def json_values(values: pl.Series) -> pl.Series:
    """What is the same in JSON: plain strings and booleans; and integers."""
    is_same = values.str.contains(PLAIN_TEXT) | values.is_in(["true", "false"])
    return values.str.extract(INTEGER).zip_with(~is_same.fill_null(False), values)


def arrays_of_texts(values: pl.Series) -> pl.Series:
    """Arrays of strings in which nothing is escaped."""
    found = _where(values.str.contains(PLAIN_TEXTS), values.str.extract_all(f'"{PLAIN_CHARACTER}*"'))
    text = pl.element().str.strip_prefix('"').str.strip_suffix('"')
    return _array(found, pl.when(text.str.contains(QUOTED_IN_ARRAY)).then(pl.element()).otherwise(text))


def arrays_of_uuids(values: pl.Series, *, namespace: str) -> pl.Series:
    """Arrays of UUIDs of ObjectIds, none of them twice."""
    found = _where(values.str.contains(OBJECT_IDS), values.str.extract_all(DIGITS_OF_ID))
    is_once = found.list.n_unique() == found.list.len()
    return _array(_where(is_once, found), _uuid5(pl.element(), namespace))


def _array(members: pl.Series, made: pl.Expr) -> pl.Series:
    """An array as PostgreSQL prints it, of what is made of its members."""
    return pl.select(pl.format("{{{}}}", pl.lit(members).list.eval(made).list.join(","))).to_series()
