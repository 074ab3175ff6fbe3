"""Documents as values: BSON and JSON are decoded strictly, and every value is told as canonical Extended JSON v2.

Nothing is rounded, cut or lost on the way; a document of which that cannot be said is `UnreadableDocument`. Where
documents lie, and how files of them are framed, is the business of `documents`.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.errors import BSONError
from bson.int64 import Int64
from bson.objectid import ObjectId

DEEPEST = 100
"""Levels of nesting that BSON allows."""

EXACT_TIMES = DatetimeConversion.DATETIME_MS
"""Python's own times end with the year 9999."""

FROM_JSON = json_util.JSONOptions(datetime_conversion=EXACT_TIMES, document_class=dict)
TYPES = {
    str: "string",
    bool: "bool",
    float: "double",
    Int64: "long",
    ObjectId: "objectId",
    DatetimeMS: "date",
    Decimal128: "decimal",
    dict: "object",
    list: "array",
    type(None): "null",
}
OTHER_TYPES = {
    "$binary": "binData",
    "$uuid": "binData",
    "$regularExpression": "regex",
    "$timestamp": "timestamp",
    "$code": "javascript",
    "$minKey": "minKey",
    "$maxKey": "maxKey",
    "$ref": "object",
}
INT32, INT64 = (range(-(1 << bits), 1 << bits) for bits in (31, 63))


class UnreadableDocument(Exception):
    """Why a document that was found whole has no value."""


class NoJson(ValueError):
    """A text is no JSON at all."""


class _Members(dict[str, Any]):
    """A document that refuses two members of one name."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self:
            raise UnreadableDocument(f"has two fields {name[:40]!r}, of which one would be lost")
        super().__setitem__(name, value)


PLAIN: CodecOptions[dict[str, Any]] = CodecOptions(document_class=dict, datetime_conversion=EXACT_TIMES)
STRICT: CodecOptions[_Members] = CodecOptions(document_class=_Members, datetime_conversion=EXACT_TIMES)


def decoded_bson(data: bytes) -> dict[str, Any]:
    """The fields of one BSON document. Raises UnreadableDocument."""
    try:
        document = bson.decode(data, PLAIN)
        if bson.encode(document, codec_options=PLAIN) != data:
            # Older types are written anew otherwise; two fields of one name are, too.
            bson.decode(data, STRICT)
    except RecursionError:
        raise UnreadableDocument(f"is nested deeper than {DEEPEST} levels") from None
    except (BSONError, ValueError, TypeError, OverflowError) as error:
        raise UnreadableDocument(f"cannot be decoded: {_without_values(error)}") from None
    return document


def decoded_json(text: str) -> dict[str, Any]:
    """The fields of one document in JSON or Extended JSON of any version.

    A number with a fraction is a double where that is the same number, else a decimal. Raises NoJson for what is none,
    UnreadableDocument for a document that cannot be taken as it is.
    """
    try:
        document = json.loads(
            text, object_pairs_hook=_members, parse_int=_integer, parse_float=_fraction, parse_constant=_refused
        )
    except RecursionError:
        raise UnreadableDocument(f"is nested deeper than {DEEPEST} levels") from None
    except json.JSONDecodeError as error:
        raise NoJson(f"{error.msg}, column {error.colno}") from None
    if not isinstance(document, dict):
        raise UnreadableDocument("is JSON, but no document")
    return document


def encoded(document: dict[str, Any]) -> bytes:
    """A document in BSON. Raises UnreadableDocument for what has no place there, a NUL in a field's name for one."""
    try:
        return bson.encode(document, codec_options=PLAIN)
    except RecursionError:
        raise UnreadableDocument(f"is nested deeper than {DEEPEST} levels") from None
    except UnicodeEncodeError:
        raise UnreadableDocument("holds half of a surrogate pair, which is no text") from None
    except (BSONError, ValueError, TypeError, OverflowError) as error:
        raise UnreadableDocument(f"cannot be held in BSON: {_without_values(error)}") from None


def canonical(value: Any, depth: int = 1) -> str:
    """A value as canonical Extended JSON v2, fields in their order, without blanks. Raises UnreadableDocument."""
    write = WRITERS.get(type(value))
    if write:
        return write(value)
    if depth > DEEPEST:
        raise UnreadableDocument(f"is nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        members = (f"{encode_basestring(name)}:{canonical(member, depth + 1)}" for name, member in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(element, depth + 1) for element in value) + "]"
    return json.dumps(_told(value), separators=(",", ":"), ensure_ascii=False, default=_told)


def type_name(value: Any) -> str:
    """The alias that MongoDB has for the type of a value."""
    kind = type(value)
    if kind is int:
        return "int" if value in INT32 else "long"
    if kind in TYPES:
        return TYPES[kind]
    return OTHER_TYPES.get(next(iter(_told(value))), "object")


def _told(value: Any) -> Any:
    return json_util.default(value, json_util.CANONICAL_JSON_OPTIONS)


def _wrapped(name: str) -> Callable[[Any], str]:
    return lambda value: f'{{"{name}":"{value}"}}'


def _whole(value: int) -> str:
    return f'{{"{"$numberInt" if value in INT32 else "$numberLong"}":"{value}"}}'


def _double(value: float) -> str:
    # As the specification spells them.
    text = repr(value).replace("nan", "NaN").replace("inf", "Infinity")
    return f'{{"$numberDouble":"{text}"}}'


WRITERS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _value: "null",
    int: _whole,
    Int64: _wrapped("$numberLong"),
    float: _double,
    ObjectId: _wrapped("$oid"),
    Decimal128: _wrapped("$numberDecimal"),
    DatetimeMS: lambda value: f'{{"$date":{{"$numberLong":"{int(value)}"}}}}',
}


def _members(pairs: list[tuple[str, Any]]) -> Any:
    members = _Members()
    for name, value in pairs:
        members[name] = value
    document = dict(members)
    if not any(name.startswith("$") for name in document):
        return document
    try:
        return json_util.object_hook(document, FROM_JSON)
    except (BSONError, ArithmeticError, ValueError, TypeError, KeyError, OverflowError):
        names = ", ".join(document)
        raise UnreadableDocument(f"has a value of {names[:40]} that cannot be read") from None


def _integer(text: str) -> Any:
    if len(text) <= len(str(-(1 << 63))) and int(text) in INT64:
        return int(text)
    return _decimal(text)


def _fraction(text: str) -> Any:
    value = float(text)
    return value if Decimal(text) == Decimal(repr(value)) else _decimal(text)


def _decimal(text: str) -> Decimal128:
    try:
        return Decimal128(text)
    except ArithmeticError:
        raise UnreadableDocument(f"holds the number {text[:40]}, which no type of BSON holds") from None


def _refused(constant: str) -> Any:
    raise NoJson(f"{constant} is no value of JSON")


def _without_values(error: Exception) -> str:
    """What a library says of a document, but for what it quotes of it."""
    return str(error).partition(":")[0][:80]
