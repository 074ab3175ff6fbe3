"""JSON from legacy text: checked, canonical, as an array of PostgreSQL, or as the plain text that it says."""

import json as standard_json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Literal

import polars as pl

from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    Blank,
    Outcome,
    Problem,
    TransformContext,
    Unreadable,
    reading,
    shown,
    uuid_value,
)
from dtx_assets.machinery.transforms.numbers import MOST_DECIMALS, MOST_WHOLE_DIGITS

NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
READ = pl.Struct({"value": pl.String, "fault": pl.String})
"""The text that is made of a JSON text, or why there is none."""


class _Fault(Exception):
    """Why a text is no JSON that can be kept."""


class _Number(str):
    """A number in JSON as it is written."""

    __slots__ = ()


def parsed(text: str) -> Any:
    """The value of a JSON text: numbers as they are written, objects as dictionaries in their order.

    Raises _Fault for what is no JSON of RFC 8259, or cannot be kept: two members of one name, a NUL, half of a
    surrogate pair.
    """
    try:
        value = standard_json.loads(
            text, parse_int=_Number, parse_float=_Number, parse_constant=_refused, object_pairs_hook=_members
        )
    except RecursionError:
        raise _Fault("is nested too deeply") from None
    except ValueError:
        raise _Fault("is no JSON") from None
    if NUL.search(text):
        raise _Fault("holds a NUL, which PostgreSQL cannot hold")
    if SURROGATE.search(text):
        try:
            standard_json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _Fault("holds half of a surrogate pair, which is no text") from None
    return value


def _refused(constant: str) -> Any:
    raise ValueError(constant)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _Fault("has two members of one name, of which one would be lost")
    return members


def canonical(value: Any) -> str:
    """JSON text of a parsed value: keys sorted, no blanks, numbers as PostgreSQL prints a numeric."""
    if isinstance(value, _Number):
        return number_text(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_string(key)}:{canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return _string(value) if isinstance(value, str) else standard_json.dumps(value)


def _string(text: str) -> str:
    return standard_json.dumps(text, ensure_ascii=False)


def number_text(written: str) -> str:
    """A JSON number without an exponent, all its decimals kept."""
    number = Decimal(written)
    if number.adjusted() >= MOST_WHOLE_DIGITS or -int(number.as_tuple().exponent) > MOST_DECIMALS:
        raise _Fault(f"holds the number {written[:40]}, which PostgreSQL cannot hold")
    return f"{number.copy_abs() if number.is_zero() else number:f}"


def _each(texts: pl.Series, make: Callable[[Any, str], str | None]) -> pl.Series:
    """READ of each text; `make` has its parsed value and itself. A distinct text is parsed once."""
    distinct = texts.drop_nulls().unique()
    values, faults = [], []
    for text in distinct:
        value = fault = None
        try:
            value = make(parsed(text), text)
        except _Fault as found:
            fault = str(found)
        except RecursionError:
            fault = "is nested too deeply"
        values.append(value)
        faults.append(fault)
    made = pl.DataFrame(
        {"text": distinct, "value": values, "fault": faults},
        {"text": texts.dtype, "value": pl.String, "fault": pl.String},
    )
    joined = pl.DataFrame({"text": texts}).join(made, on="text", how="left", maintain_order="left")
    return joined.select(pl.struct("value", "fault")).to_series()


def _read(
    source: pl.Expr,
    context: TransformContext,
    make: Callable[[Any, str], str | None],
    what: str,
    unreadable: Unreadable,
    blank: Blank,
) -> Outcome:
    read = context.read(source, lambda texts: _each(texts, make), READ)
    fault = read.struct.field("fault")
    outcome = reading(source, read.struct.field("value"), what, unreadable, blank, is_readable=fault.is_null())
    if unreadable == "null":
        return outcome
    (problem,) = outcome.problems
    told = Problem(problem.reason, problem.when, pl.format("{} {}", shown(source), fault))
    return Outcome(outcome.value, (told,), outcome.coercions)


@GENERIC.transform("json")
def json(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    kept: Literal["exactly", "canonical"] = "exactly",
    unreadable: Unreadable = "reject",
    blank: Blank = "reject",
) -> Outcome:
    """Valid JSON, exactly as it is, or canonical: keys sorted, no blanks, no exponents; else `unparseable`.

    Two members of one name, a NUL and half of a surrogate pair are `unparseable`: they would not be what they were.
    """
    (source,) = inputs
    make = (lambda _value, text: text) if kept == "exactly" else (lambda value, _text: canonical(value))
    return _read(source, context, make, "JSON", unreadable, blank)


@GENERIC.transform("array")
def array(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    separator: str | None = None,
    unreadable: Unreadable = "reject",
    blank: Blank = "reject",
) -> Outcome:
    """A PostgreSQL array: of a JSON array, or of the parts between separators; else `unparseable`.

    Strings are elements as they are, null is NULL, objects are elements in canonical JSON. Arrays within the array must
    have the same length. An empty text is an empty array where there is a separator.
    """
    (source,) = inputs
    if separator is None:
        return _read(source, context, _array, "JSON array", unreadable, blank)
    if not separator:
        raise ValueError("an empty separator; give the text between two elements")
    parts = source.str.split(separator).list.eval(_element(pl.element())).list.join(",")
    elements = pl.when(source != "").then(parts).otherwise(pl.lit(""))
    return Outcome(pl.when(source.is_not_null()).then(pl.lit("{") + elements + pl.lit("}")))


QUOTED = r'^$|["\\{},\s]|^(?i:null)$'
"""Elements that PostgreSQL prints in quotes."""


def _element(text: pl.Expr) -> pl.Expr:
    escaped = text.str.replace_all(r'(["\\])', r"\${1}")
    return pl.when(text.str.contains(QUOTED)).then(pl.format('"{}"', escaped)).otherwise(text)


_IS_QUOTED = re.compile(r'^$|["\\{}, \t\n\r\v\f]|^(?:null)$', re.IGNORECASE)


def _array(value: Any, _text: str) -> str:
    if not isinstance(value, list):
        raise _Fault("is no JSON array")
    _shape(value)
    return _literal(value)


def _shape(value: Any) -> tuple[int, ...]:
    """The lengths of an array and of those within it, which must be alike."""
    if not isinstance(value, list):
        return ()
    within = {_shape(element) for element in value}
    if len(within) > 1 or (() in within and any(isinstance(element, list) for element in value)):
        raise _Fault("holds arrays of several lengths, or beside other elements")
    inner = within.pop() if within else ()
    if value and isinstance(value[0], list) and 0 in inner:
        raise _Fault("holds an empty array, which an array of PostgreSQL cannot")
    return (len(value), *inner)


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return "{" + ",".join(map(_literal, value)) + "}"
    if value is None:
        return "NULL"
    if isinstance(value, _Number):
        return number_text(value)
    text = value if isinstance(value, str) else canonical(value)
    if not _IS_QUOTED.search(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@GENERIC.transform("text_of")
def text_of(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    unreadable: Unreadable = "reject",
    blank: Blank = "reject",
) -> Outcome:
    """The plain text of a JSON value: that of a string, digits, `true` or `false`; null is NULL, anything else JSON.

    What MongoDB's Extended JSON says of a value is taken as the value: ids, numbers, dates and UUIDs.
    """
    (source,) = inputs
    checked = _read(source, context, lambda _value, text: text, "JSON", unreadable, blank)
    is_sound = checked.value.is_not_null()
    return Outcome(pl.when(is_sound).then(plain_text(source)), checked.problems, checked.coercions)


# --- extended JSON ----------------------------------------------------------------------------------------------------

STRING = r'^"(.*)"$'
DOT_IS_ALL = "(?s)"
PLAIN_IN_EXTENDED = r'^\{"\$(?:oid|numberInt|numberLong|numberDouble|numberDecimal)":"([^"]*)"\}$'
DATE = r'^\{"\$date":\{"\$numberLong":"(-?[0-9]+)"\}\}$'
UUID_BYTES = r'^\{"\$binary":\{"base64":"([A-Za-z0-9+/]{22}==)","subType":"04"\}\}$'
YEARS_1_TO_9999 = (-62_135_596_800_000, 253_402_300_799_999)
"""In milliseconds since 1970."""


def plain_text(value: pl.Expr) -> pl.Expr:
    """What a value in canonical JSON or Extended JSON says, as other sources would give it: null is NULL, a string its
    text, a number its digits, an id its hex digits, a UUID itself, a date a time in ISO 8601 and UTC.

    Anything else stays as it is: objects, arrays, dates of other years, and what is no JSON.
    """
    milliseconds = value.str.extract(DATE, 1).cast(pl.Int64, strict=False)
    readable = pl.when(milliseconds.is_between(*YEARS_1_TO_9999)).then(milliseconds)
    moment = readable.cast(pl.Datetime("ms")).dt.to_string("%Y-%m-%dT%H:%M:%S%.3fZ")
    packed = value.str.extract(UUID_BYTES, 1).str.decode("base64", strict=False).bin.encode("hex")
    is_string = value.str.contains(DOT_IS_ALL + STRING)
    string = pl.when(is_string).then(value).map_batches(_strings, pl.String(), is_elementwise=True)
    told = pl.coalesce(value.str.extract(PLAIN_IN_EXTENDED, 1), moment, uuid_value(packed), string, value)
    return pl.when(value != "null").then(told)


def _strings(texts: pl.Series) -> pl.Series:
    """The texts of JSON strings; NULL for what is none."""
    escaped = texts.filter(texts.str.contains("\\", literal=True)).unique()
    plain = texts.str.head(-1).str.slice(1)
    if escaped.is_empty():
        return plain
    decoded = pl.Series([_string_of(text) for text in escaped], dtype=pl.String)
    with_escapes = texts.replace_strict(escaped, decoded, default=None, return_dtype=pl.String)
    return plain.set(texts.str.contains("\\", literal=True), None).fill_null(with_escapes)


def _string_of(text: str) -> str | None:
    try:
        value = standard_json.loads(text)
        value.encode()
    except (ValueError, AttributeError):
        return None
    return str(value)
