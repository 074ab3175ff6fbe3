"""Values of documents, in canonical Extended JSON, as the columns of a target take them.

A value is taken as it is, or taken and counted, or refused with its reason; nothing is rounded, and nothing becomes a
default. A missing field is NULL, BSON null the text `null`. Each distinct value is read once; those that need no
counting and no refusing are read by the expressions of `bson_columns`.
"""

import json
import math
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, Literal

import polars as pl

from dtx_assets.machinery.transforms import bson_columns
from dtx_assets.machinery.transforms.bson_columns import FIELDS, READ, Values, read_quickly
from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    Coercion,
    Outcome,
    Problem,
    TransformContext,
    shown,
)
from dtx_assets.machinery.transforms.json_values import _literal
from dtx_assets.machinery.transforms.looks_typed import name_of, parsed

HEX_DIGITS = re.compile("[0-9A-Fa-f]{24}")
WHOLE = re.compile(r"(-?[0-9]+)(?:\.0)?")
ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(Z|[+-](?:0[0-9]|1[0-5]):?[0-5][0-9])?)?"
)
EXACT_DOUBLE = 1 << 53
YEARS_1_TO_9999 = (-62_135_596_800_000, 253_402_300_799_999)
POSTGRESQL_TIMES = (-210_866_803_200_000, 9_224_318_015_999_999)
"""Milliseconds since 1970 that PostgreSQL's `timestamp` holds: 24 November 4714 BC to the end of 294276."""
REASONS = {"!": "unmapped_value", "#": "schema_violation"}
"""By the sign that a fault begins with; others are `unparseable`."""


class _Fault(Exception):
    """Why a value is not taken."""


@dataclass(frozen=True)
class _Read:
    value: str | None
    counted: tuple[str, ...] = ()


NULL = _Read(None)


# --- values -----------------------------------------------------------------------------------------------------------


def _typed(value: Any) -> tuple[str, Any]:
    """The BSON type of a value of parsed Extended JSON, by MongoDB's alias, and what it says."""
    if value is None:
        return "null", None
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, str):
        return "string", value
    if isinstance(value, list):
        return "array", value
    if len(value) == 1:
        ((name, held),) = value.items()
        if isinstance(held, str):
            match name:
                case "$oid" if HEX_DIGITS.fullmatch(held):
                    return "objectId", held.lower()
                case "$numberInt":
                    return "int", int(held)
                case "$numberLong":
                    return "long", int(held)
                case "$numberDouble":
                    return "double", float(held)
                case "$numberDecimal":
                    return "decimal", Decimal(held)
        if name == "$date" and isinstance(held, dict):
            return "date", int(held["$numberLong"])
        if name == "$binary" and isinstance(held, dict):
            return "binData", held
        if name in ("$timestamp", "$regularExpression", "$minKey", "$maxKey", "$code", "$dbPointer"):
            return name, held
    if set(value) == {"$code", "$scope"}:
        return "$code", value
    return "object", value


def _is_blank(text: str) -> bool:
    return not text.strip()


def _dated(milliseconds: int) -> str:
    """A moment of the years 1 to 9999."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain_number(number: Decimal) -> str:
    if not number.is_finite():
        raise _Fault("is no finite number")
    return f"{number:f}"


def _plain_double(number: float) -> str:
    if math.isnan(number) or abs(number) >= EXACT_DOUBLE:
        raise _Fault("is a double of which text would not say all, or no number")
    if number == int(number):
        return str(int(number))
    return f"{Decimal(repr(number)):f}"


def _checked_text(text: str) -> str:
    if "\x00" in text:
        raise _Fault("holds a NUL, which PostgreSQL cannot hold")
    return text


def _id_of(kind: str, value: Any) -> tuple[str, bool] | None:
    """The hex digits of an id, and whether it was text; None where it is none."""
    if kind == "objectId":
        return value, False
    if kind == "string" and HEX_DIGITS.fullmatch(value.strip()):
        return value.strip().lower(), True
    return None


# --- one function a column type ---------------------------------------------------------------------------------------


def _text(value: Any, *, scalars: str) -> _Read:
    kind, held = _typed(value)
    if kind == "null":
        return NULL
    if kind == "string":
        return _Read(_checked_text(held))
    made = None
    match kind:
        case "int" | "long":
            made = str(held)
        case "double":
            made = _plain_double(held)
        case "decimal":
            made = _plain_number(held)
        case "bool":
            made = "true" if held else "false"
        case "objectId":
            made = held
        case "date" if YEARS_1_TO_9999[0] <= held <= YEARS_1_TO_9999[1]:
            made = _dated(held)
    if made is None or scalars == "reject":
        raise _Fault(f"is no text, but {kind.removeprefix('$')}")
    return _Read(made, ("to_text",))


def _blank_as_null(text: str, nullable: bool) -> _Read | None:
    """NULL where the column may be, of a text of nothing but white space; None of any other text."""
    if not _is_blank(text):
        return None
    if not nullable:
        raise _Fault("is blank")
    return _Read(None, ("empty_to_null",))


def _integer(value: Any, *, nullable: bool, bits: int) -> _Read:
    kind, held = _typed(value)
    counted: tuple[str, ...] = ()
    number: int | None = None
    match kind:
        case "null":
            return NULL
        case "int" | "long":
            number = held
        case "double" if math.isfinite(held) and abs(held) <= EXACT_DOUBLE and held == int(held):
            number = int(held)
        case "decimal" if held.is_finite() and held == held.to_integral_value():
            # One of thousands of digits need not be written out to be out of range.
            number = int(held) if not held or held.adjusted() < 40 else 10**40
        case "string":
            if blank := _blank_as_null(held, nullable):
                return blank
            if found := WHOLE.fullmatch(held):
                number, counted = _whole(found[1]), ("to_number",)
    if number is None:
        raise _Fault("is no integer")
    if number not in range(-(1 << bits - 1), 1 << bits - 1):
        raise _Fault("#is outside the range of its column")
    return _Read(str(number), counted)


def _whole(text: str) -> int:
    """The number that a text says; of thousands of digits one that is out of range like it."""
    digits = text.lstrip("-").lstrip("0")[:40] or "0"
    return -int(digits) if text.startswith("-") else int(digits)


def _boolean(value: Any, *, nullable: bool) -> _Read:
    kind, held = _typed(value)
    match kind:
        case "null":
            return NULL
        case "bool":
            return _Read("true" if held else "false")
        case "int" | "long" | "double" | "decimal" if held in (0, 1):
            return _Read("true" if held else "false", ("to_boolean",))
        case "string":
            if blank := _blank_as_null(held, nullable):
                return blank
            if (said := held.strip().lower()) in ("true", "false", "1", "0"):
                return _Read("true" if said in ("true", "1") else "false", ("to_boolean",))
    raise _Fault("is no boolean")


def _iso_milliseconds(text: str) -> int | None:
    found = ISO.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        whole = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
    except ValueError:
        return None
    since = whole - datetime(1970, 1, 1, tzinfo=UTC)
    milliseconds = (since.days * 86_400 + since.seconds) * 1000 + int((fraction or "").ljust(3, "0")[:3])
    if offset and offset != "Z":
        digits = offset[1:].replace(":", "")
        ahead = (int(digits[:2]) * 60 + int(digits[2:])) * 60_000
        milliseconds += ahead if offset[0] == "-" else -ahead
    return milliseconds


def _timestamp(value: Any, *, nullable: bool, numbers: str) -> _Read:
    kind, held = _typed(value)
    counted: tuple[str, ...] = ("to_timestamp",)
    milliseconds: int | None = None
    match kind:
        case "null":
            return NULL
        case "date":
            milliseconds, counted = held, ()
        case "string":
            if blank := _blank_as_null(held, nullable):
                return blank
            milliseconds = _iso_milliseconds(held)
        case "int" | "long" if numbers == "epoch_ms":
            milliseconds = held
        case "double" if numbers == "epoch_ms" and abs(held) <= EXACT_DOUBLE and held == int(held):
            milliseconds = int(held)
    if milliseconds is None:
        raise _Fault("is no time")
    if not POSTGRESQL_TIMES[0] <= milliseconds <= POSTGRESQL_TIMES[1]:
        raise _Fault("is a time that PostgreSQL cannot hold")
    return _Read(_timestamp_text(milliseconds), counted)


DAYS_OF_400_YEARS, YEAR_0 = 146_097, 719_468


def _timestamp_text(milliseconds: int) -> str:
    """As PostgreSQL prints it, of any year: `2024-07-03 09:46:40.123`, `4714-11-24 00:00:00 BC`."""
    days, rest = divmod(milliseconds, 86_400_000)
    # Days are counted from the first of March of the year 0, in circles of 400 years.
    circle, day = divmod(days + YEAR_0, DAYS_OF_400_YEARS)
    of_circle = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day_of_year = day - (365 * of_circle + of_circle // 4 - of_circle // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = of_circle + circle * 400 + (month <= 2)
    day_of_month = day_of_year - (153 * shifted + 2) // 5 + 1
    seconds, thousandths = divmod(rest, 1000)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    fraction = f".{thousandths:03d}".rstrip("0") if thousandths else ""
    era, shown_year = (" BC", 1 - year) if year < 1 else ("", year)
    return f"{shown_year:04d}-{month:02d}-{day_of_month:02d} {clock}{fraction}{era}"


def _enum(value: Any, *, nullable: bool, labels: tuple[str, ...]) -> _Read:
    kind, held = _typed(value)
    if kind == "null":
        return NULL
    if kind == "string":
        if held in labels:
            return _Read(held)
        if _is_blank(held) and nullable:
            return _Read(None, ("empty_to_null",))
        same = [label for label in labels if label.strip().lower() == held.strip().lower()]
        if len(same) == 1 and not _is_blank(held):
            return _Read(same[0], ("enum_case",))
    raise _Fault("!is no label of its type")


@lru_cache(maxsize=8)
def _namespace(namespace: str) -> uuid.UUID:
    return uuid.UUID(namespace)


def _uuid(value: Any, *, nullable: bool, namespace: str) -> _Read:
    kind, held = _typed(value)
    if kind == "null":
        return NULL
    if kind == "string" and (blank := _blank_as_null(held, nullable)):
        return blank
    found = _id_of(kind, held)
    if found is None:
        raise _Fault("is no id")
    digits, was_text = found
    return _Read(str(uuid.uuid5(_namespace(namespace), digits)), ("id_from_text",) if was_text else ())


def _jsonb(value: Any, *, form: str) -> _Read:
    if value is None:
        return NULL
    counted: list[str] = []
    made = _plain_json(value, counted) if form == "plain" else _relaxed_json(value)
    return _Read(made, ("json_type",) if counted else ())


def _string_in_json(text: str) -> str:
    return json.dumps(_checked_text(text), ensure_ascii=False)


def _object_in_json(held: dict[str, Any], write: Callable[[Any], str]) -> str:
    return "{" + ",".join(f"{_string_in_json(name_of(name))}:{write(each)}" for name, each in held.items()) + "}"


def _number_in_json(kind: str, held: Any) -> str:
    if kind in ("int", "long"):
        return str(held)
    if kind == "decimal":
        if not held.is_finite():
            raise _Fault("holds a number that JSON lacks")
        return f"{held:f}"
    if not math.isfinite(held):
        raise _Fault("holds a number that JSON lacks")
    return str(int(held)) if held == int(held) and abs(held) < EXACT_DOUBLE else f"{Decimal(repr(held)):f}"


def _plain_json(value: Any, counted: list[str]) -> str:
    kind, held = _typed(value)
    match kind:
        case "null":
            return "null"
        case "bool":
            return "true" if held else "false"
        case "string":
            return _string_in_json(held)
        case "int" | "long" | "double" | "decimal":
            return _number_in_json(kind, held)
        case "array":
            return "[" + ",".join(_plain_json(each, counted) for each in held) + "]"
        case "object":
            return _object_in_json(held, partial(_plain_json, counted=counted))
    counted.append(kind)
    match kind:
        case "objectId":
            return f'"{held}"'
        case "date" if YEARS_1_TO_9999[0] <= held <= YEARS_1_TO_9999[1]:
            return f'"{_dated(held)}"'
        case "binData":
            return _string_in_json(held["base64"])
    return _relaxed_json(value)


def _relaxed_json(value: Any) -> str:
    kind, held = _typed(value)
    match kind:
        case "int" | "long":
            return str(held)
        case "double" if math.isfinite(held):
            return _number_in_json(kind, held)
        case "date" if 0 <= held <= YEARS_1_TO_9999[1]:
            shown_time = _dated(held).replace(".000Z", "Z")
            return f'{{"$date":"{shown_time}"}}'
        case "array":
            return "[" + ",".join(map(_relaxed_json, held)) + "]"
        case "object":
            return _object_in_json(held, _relaxed_json)
        case "$code" if isinstance(held, dict):
            return f'{{"$code":{_string_in_json(held["$code"])},"$scope":{_relaxed_json(held["$scope"])}}}'
    return _as_it_is(value)


def _as_it_is(value: Any) -> str:
    """JSON of a value whose canonical form is its relaxed one too."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_string_in_json(name)}:{_as_it_is(each)}" for name, each in value.items()) + "}"
    return _string_in_json(value) if isinstance(value, str) else json.dumps(value)


def _members_of(value: Any, *, blank_is_empty: bool) -> tuple[list[Any], tuple[str, ...]]:
    """The members of an array, or of a lone value that stands for an array of one."""
    kind, held = _typed(value)
    if kind == "array":
        return held, ()
    if kind == "null" or (kind == "string" and _is_blank(held) and blank_is_empty):
        return [], ()
    return [value], ("scalar_to_array",)


def _texts(value: Any, *, scalars: str) -> _Read:
    members, alone = _members_of(value, blank_is_empty=True)
    if alone and _typed(value)[0] != "string":
        raise _Fault("is no array, and no text")
    counted, texts = list(alone), []
    for member in members:
        if member is None:
            counted.append("null_member")
            continue
        read = _text(member, scalars=scalars)
        counted += read.counted
        texts.append(read.value or "")
    return _Read(_literal(texts), tuple(counted))


def _uuids(value: Any, *, namespace: str) -> _Read:
    members, alone = _members_of(value, blank_is_empty=True)
    counted, ids = list(alone), dict[str, None]()
    for member in members:
        kind, held = _typed(member)
        if kind == "null" or (kind == "string" and _is_blank(held)):
            counted.append("null_member")
            continue
        found = _id_of(kind, held)
        if found is None:
            raise _Fault("holds a member that is no id")
        digits, was_text = found
        counted += ["id_from_text"] * was_text
        if digits in ids:
            counted.append("duplicate_member")
        else:
            ids[digits] = None
    return _Read(_literal([str(uuid.uuid5(_namespace(namespace), digits)) for digits in ids]), tuple(counted))


# --- transforms -------------------------------------------------------------------------------------------------------


def _each(values: pl.Series, make: Callable[[Any], _Read]) -> pl.Series:
    """READ of each value; a distinct one is read once."""
    distinct = values.drop_nulls().unique()
    made: list[tuple[str | None, str | None, str | None, tuple[str, ...]]] = []
    for value in distinct:
        try:
            read = make(parsed(value))
            made.append((read.value, None, None, read.counted))
        except _Fault as fault:
            said = str(fault)
            made.append((None, REASONS.get(said[0], "unparseable"), said.lstrip("!#"), ()))
        except (ValueError, ArithmeticError, KeyError, TypeError, RecursionError):
            made.append((None, "unparseable", "is no value in Extended JSON", ()))
    names = ("value", "reason", "fault", "counted")
    found = pl.DataFrame(made, schema=dict(zip(names, FIELDS, strict=True)), orient="row")
    joined = pl.DataFrame({"text": values}).join(
        found.with_columns(distinct.alias("text")), on="text", how="left", maintain_order="left"
    )
    return joined.select(pl.struct(names)).to_series()


def _taken(
    source: pl.Expr,
    context: TransformContext,
    make: Callable[[Any], _Read],
    quick: Values,
    kinds: Sequence[str],
    missing: str | None = None,
) -> Outcome:
    """The outcome of reading one value; `missing` is what a missing field gives."""
    way = partial(read_quickly, quick=quick, slow=partial(_each, make=make))
    read = context.read(source, way, READ)
    value, counted = read.struct.field("value"), read.struct.field("counted")
    if missing is not None:
        # BSON null is read as an empty array already.
        value = pl.when(source.is_null()).then(pl.lit(missing)).otherwise(value)
    detail = pl.format("{} {}", shown(source), read.struct.field("fault"))
    problems = tuple(
        Problem(reason, read.struct.field("reason") == reason, detail)
        for reason in ("unparseable", "unmapped_value", "schema_violation")
    )
    coercions = tuple(
        Coercion(kind, counted.list.contains(kind).fill_null(False), counted.list.count_matches(kind)) for kind in kinds
    )
    return Outcome(value, problems, coercions, takes_any_bytes=True)


def text_of_value(value: pl.Expr) -> pl.Expr:
    """The text that a value is in a column of texts; NULL where it is none."""
    read = partial(read_quickly, quick=bson_columns.texts, slow=partial(_each, make=partial(_text, scalars="convert")))
    return value.map_batches(read, READ, is_elementwise=True).struct.field("value")


@GENERIC.transform("bson_text")
def bson_text(
    inputs: Sequence[pl.Expr], context: TransformContext, scalars: Literal["convert", "reject"] = "convert"
) -> Outcome:
    """Text as it is; numbers, booleans, dates and ids as text, which is counted as `to_text`."""
    (source,) = inputs
    return _taken(source, context, partial(_text, scalars=scalars), bson_columns.texts, ("to_text",))


@GENERIC.transform("bson_integer")
def bson_integer(
    inputs: Sequence[pl.Expr], context: TransformContext, bits: Literal[32, 64] = 32, nullable: bool = True
) -> Outcome:
    """A whole number of any BSON type, never rounded; of text it is counted as `to_number`."""
    (source,) = inputs
    make, quick = partial(_integer, nullable=nullable, bits=bits), partial(bson_columns.integers, bits=bits)
    taken = _taken(source, context, make, quick, ("to_number", "empty_to_null"))
    return Outcome(taken.value.cast(pl.Int64), taken.problems, taken.coercions, takes_any_bytes=True)


@GENERIC.transform("bson_boolean")
def bson_boolean(inputs: Sequence[pl.Expr], context: TransformContext, nullable: bool = True) -> Outcome:
    """A boolean; 0, 1 and the texts of them and of booleans are counted as `to_boolean`."""
    (source,) = inputs
    make = partial(_boolean, nullable=nullable)
    taken = _taken(source, context, make, bson_columns.booleans, ("to_boolean", "empty_to_null"))
    return Outcome(taken.value == "true", taken.problems, taken.coercions, takes_any_bytes=True)


@GENERIC.transform("bson_timestamp")
def bson_timestamp(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    numbers: Literal["reject", "epoch_ms"] = "reject",
    nullable: bool = True,
) -> Outcome:
    """A date in UTC to the millisecond, of any year that PostgreSQL has, as it prints it; ISO 8601 is counted."""
    (source,) = inputs
    make = partial(_timestamp, nullable=nullable, numbers=numbers)
    return _taken(source, context, make, bson_columns.timestamps, ("to_timestamp", "empty_to_null"))


@GENERIC.transform("bson_enum")
def bson_enum(
    inputs: Sequence[pl.Expr], context: TransformContext, labels: Sequence[str] = (), nullable: bool = True
) -> Outcome:
    """A label, exactly; another case or blanks around it are counted as `enum_case`; else `unmapped_value`."""
    (source,) = inputs
    make, quick = partial(_enum, nullable=nullable, labels=tuple(labels)), partial(bson_columns.labels, known=labels)
    return _taken(source, context, make, quick, ("enum_case", "empty_to_null"))


@GENERIC.transform("bson_uuid")
def bson_uuid(
    inputs: Sequence[pl.Expr], context: TransformContext, namespace: str = "", nullable: bool = True
) -> Outcome:
    """The UUID (version 5) of an ObjectId's hex digits in a namespace; text that is such digits is counted."""
    (source,) = inputs
    _namespace(namespace)
    make = partial(_uuid, nullable=nullable, namespace=namespace)
    quick = partial(bson_columns.uuids, namespace=namespace)
    return _taken(source, context, make, quick, ("id_from_text", "empty_to_null"))


@GENERIC.transform("bson_json")
def bson_json(
    inputs: Sequence[pl.Expr], context: TransformContext, form: Literal["plain", "extended_json"] = "plain"
) -> Outcome:
    """JSON; what JSON lacks is written as text (`plain`, counted as `json_type`), or all as relaxed Extended JSON."""
    (source,) = inputs
    return _taken(source, context, partial(_jsonb, form=form), bson_columns.json_values, ("json_type",))


@GENERIC.transform("bson_texts")
def bson_texts(
    inputs: Sequence[pl.Expr], context: TransformContext, scalars: Literal["convert", "reject"] = "convert"
) -> Outcome:
    """An array of texts; a missing one is empty, nulls in it are dropped, a lone text is an array of one: counted."""
    (source,) = inputs
    kinds = ("null_member", "scalar_to_array", "to_text")
    return _taken(source, context, partial(_texts, scalars=scalars), bson_columns.arrays_of_texts, kinds, missing="{}")


@GENERIC.transform("bson_uuids")
def bson_uuids(inputs: Sequence[pl.Expr], context: TransformContext, namespace: str = "") -> Outcome:
    """An array of the UUIDs of ids, in order, each once; what is dropped, and ids as text, are counted."""
    (source,) = inputs
    _namespace(namespace)
    kinds = ("id_from_text", "null_member", "duplicate_member", "scalar_to_array")
    quick = partial(bson_columns.arrays_of_uuids, namespace=namespace)
    return _taken(source, context, partial(_uuids, namespace=namespace), quick, kinds, missing="{}")
