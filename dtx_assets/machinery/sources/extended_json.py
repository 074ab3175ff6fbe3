"""Documents as values: BSON and JSON are decoded strictly, and every value is told as canonical Extended JSON v2.

Nothing is rounded, cut or lost on the way; a document of which that cannot be said is `UnreadableDocument`. Where
documents lie, and how files of them are framed, is the business of `documents`.
"""

import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

import bson
from bson import json_util
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.errors import BSONError, InvalidDocument
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

from dtx_assets.machinery.transforms.looks_typed import AS_STORED, MARKED, WRAPPERS

DEEPEST = 100
"""Levels of nesting that BSON allows."""

EXACT_TIMES = DatetimeConversion.DATETIME_MS
"""Python's own times end with the year 9999."""


@dataclass(frozen=True)
class DbPointer:
    """BSON's old type of a reference, which the library makes a document of."""

    collection: str
    id: ObjectId

    def told(self) -> dict[str, Any]:
        """As Extended JSON has it."""
        return {"$dbPointer": {"$ref": self.collection, "$id": self.id}}


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
    DbPointer: "dbPointer",
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
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument, datetime_conversion=EXACT_TIMES)


def decoded_bson(data: bytes) -> dict[str, Any]:
    """The fields of one BSON document. Raises UnreadableDocument."""
    try:
        document = bson.decode(data, PLAIN)
        if bson.encode(document, codec_options=PLAIN) != data:
            # Older types are written anew otherwise; two fields of one name are, too.
            bson.decode(data, STRICT)
            document = _as_stored(RawBSONDocument(data, RAW))
    except RecursionError:
        raise UnreadableDocument(f"is nested deeper than {DEEPEST} levels") from None
    except (BSONError, ValueError, TypeError, OverflowError) as error:
        raise UnreadableDocument(f"cannot be decoded: {_without_values(error)}") from None
    return document


def _as_stored(value: Any) -> Any:
    """A value of which the library would make something else: a reference of what names one, in an order of its own."""
    if isinstance(value, RawBSONDocument):
        return {name: _as_stored(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_as_stored(element) for element in value]
    if isinstance(value, DBRef):
        return DbPointer(value.collection, value.id)
    if isinstance(value, Code) and value.scope is not None:
        return Code(str(value), _as_stored(value.scope))
    return value


def decoded_json(text: str) -> dict[str, Any]:
    """The fields of one document in JSON or Extended JSON of any version.

    A number with a fraction or an exponent is a double, however many digits of it are written; one that is larger than
    any double is a decimal, as is an integer of more than 64 bits. Raises NoJson for what is none, UnreadableDocument
    for a document that cannot be taken as it is.
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


BEFORE_INNER = b"size\x03\x00"
"""What stands before a document that is the only field, without a name, of another: a length, a type, an empty name."""


def encoded(document: dict[str, Any]) -> bytes:
    """A document in BSON. Raises UnreadableDocument for what has no place there, a NUL in a field's name for one."""
    try:
        # As a document within another: of the outermost one `_id` is put first, wherever it stands.
        try:
            return bson.encode({"": document}, codec_options=PLAIN)[len(BEFORE_INNER) : -1]
        except InvalidDocument:
            return _document(document)
    except RecursionError:
        raise UnreadableDocument(f"is nested deeper than {DEEPEST} levels") from None
    except UnicodeEncodeError:
        raise UnreadableDocument("holds half of a surrogate pair, which is no text") from None
    except (BSONError, ValueError, TypeError, OverflowError) as error:
        raise UnreadableDocument(f"cannot be held in BSON: {_without_values(error)}") from None


def _document(members: Mapping[str, Any]) -> bytes:
    """A document, field by field: the library writes no DBPointer."""
    fields = b"".join(_field(name, value) for name, value in members.items())
    return struct.pack("<i", len(fields) + SMALLEST_BSON) + fields + b"\0"


def _field(name: str, value: Any) -> bytes:
    _, *called = bson.encode({name: None}, codec_options=PLAIN)[4:-1]
    match value:
        case DbPointer():
            collection = value.collection.encode() + b"\0"
            return bytes([12, *called]) + struct.pack("<i", len(collection)) + collection + value.id.binary
        case dict():
            return bytes([3, *called]) + _document(value)
        case list():
            return bytes([4, *called]) + _document({str(place): each for place, each in enumerate(value)})
    return bson.encode({name: value}, codec_options=PLAIN)[4:-1]


def canonical(value: Any, depth: int = 1) -> str:
    """A value as canonical Extended JSON v2, fields in their order, without blanks. Raises UnreadableDocument."""
    write = WRITERS.get(type(value))
    if write:
        return write(value)
    if depth > DEEPEST:
        raise UnreadableDocument(f"is nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        members = (f"{encode_basestring(name)}:{canonical(member, depth + 1)}" for name, member in value.items())
        text = "{" + ",".join(members) + "}"
        return AS_STORED + text.removeprefix('{"$') if next(iter(value), "") in WRAPPERS else text
    if isinstance(value, list):
        return "[" + ",".join(canonical(element, depth + 1) for element in value) + "]"
    if isinstance(value, DBRef):
        return canonical(dict(value.as_doc()), depth)
    if isinstance(value, DbPointer):
        return f'{{"$dbPointer":{canonical(value.told()["$dbPointer"])}}}'
    if isinstance(value, Code) and value.scope is not None:
        return f'{{"$code":{encode_basestring(str(value))},"$scope":{canonical(dict(value.scope), depth + 1)}}}'
    return json.dumps(_told(value), separators=(",", ":"), ensure_ascii=False, default=_told)


def relaxed(value: str) -> str:
    """A value in canonical Extended JSON as relaxed one, without blanks."""
    try:
        read = decoded_json(f'{{"v":{value.replace(AS_STORED, MARKED)}}}')["v"]
    except UnreadableDocument:
        # A document some of whose fields are called like types, and hold something else.
        return value.replace(AS_STORED, '{"$')
    told = json_util.dumps(
        _with_pointers_told(read),
        json_options=json_util.RELAXED_JSON_OPTIONS,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return told.replace(MARKED, '{"$')


def _with_pointers_told(value: Any) -> Any:
    match value:
        case DbPointer():
            return value.told()
        case dict():
            return {name: _with_pointers_told(member) for name, member in value.items()}
        case list():
            return [_with_pointers_told(element) for element in value]
    return value


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
    if "$ref" in document or not any(name.startswith("$") for name in document):
        return document
    if list(document) == ["$dbPointer"]:
        return _pointer(document["$dbPointer"])
    if len(document) == 1:
        _refuse_what_libraries_take(*next(iter(document.items())))
    try:
        return json_util.object_hook(document, FROM_JSON)
    except (BSONError, ArithmeticError, ValueError, TypeError, KeyError, OverflowError):
        names = ", ".join(document)
        raise UnreadableDocument(f"has a value of {names[:40]} that cannot be read") from None


def _pointer(said: Any) -> DbPointer:
    match said:
        case {"$ref": str(collection), "$id": ObjectId() as named} if len(said) == 2:
            return DbPointer(collection, named)
    raise UnreadableDocument("has a value of $dbPointer that cannot be read")


DIGITS = r"-?[0-9]+"
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:Inf|Infinity|NaN)"
TIME = r"[+-]?[0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
SPELLED = {
    "$oid": re.compile("[0-9A-Fa-f]{24}"),
    "$numberInt": re.compile(DIGITS),
    "$numberLong": re.compile(DIGITS),
    "$numberDouble": re.compile(NUMBER),
    "$numberDecimal": re.compile(NUMBER),
    "$date": re.compile(TIME),
}
"""How the values are written that Python reads more leniently than they are meant."""
HELD = {"$numberInt": INT32, "$numberLong": INT64}


def _refuse_what_libraries_take(name: str, value: Any) -> None:
    spelled = SPELLED.get(name)
    if spelled is None:
        return
    is_text = isinstance(value, str) and spelled.fullmatch(value) is not None
    is_moment = name == "$date" and type(value) in (int, Int64, DatetimeMS)
    if not (is_text or is_moment) or (is_text and name in HELD and int(value) not in HELD[name]):
        raise UnreadableDocument(f"has a value of {name} that cannot be read")


def _integer(text: str) -> Any:
    if len(text) <= len(str(-(1 << 63))) and int(text) in INT64:
        return int(text)
    return _decimal(text)


def _fraction(text: str) -> Any:
    # Some tools write 0.1 as 0.10000000000000000555: of a double, too, these digits are no more than its own.
    value = float(text)
    return value if math.isfinite(value) else _decimal(text)


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


# --- the id of a document that cannot be read -------------------------------------------------------------------------

ID = "_id"
OF_FIXED_SIZE = {1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 127: 0, 255: 0}
"""Bytes of the value, by the type's number."""
WITH_LENGTH = {2: 4, 3: 0, 4: 0, 5: 5, 12: 16, 13: 4, 14: 4, 15: 0}
"""Bytes beside those that a value's length counts."""
REGEX = 11
FIRST_IN_JSON = re.compile(
    r'\s*\{\s*"_id"\s*:\s*(\{\s*"\$oid"\s*:\s*"[0-9A-Fa-f]{24}"\s*\}|"(?:[^"\\]|\\.)*"|-?[0-9]+)\s*[,}]'
)


def id_of_bson(data: bytes) -> Any:
    """The `_id` of a document that cannot be decoded; None where it has none that can be read, or two."""
    found: list[bytes] = []
    place, end = 4, len(data) - 1
    try:
        while place < end:
            name = data.index(0, place + 1)
            value = name + 1
            place, start = _after_value(data, data[place], value), place
            if place > end:
                break
            if data[start + 1 : name] == ID.encode():
                found.append(data[start:place])
    except (ValueError, KeyError, struct.error):
        # Behind what is broken there may be another one, which nobody can tell.
        pass
    if len(found) != 1:
        return None
    alone = (len(found[0]) + SMALLEST_BSON).to_bytes(4, "little") + found[0] + b"\0"
    return _id_of(lambda: decoded_bson(alone))


SMALLEST_BSON = 5


def _after_value(data: bytes, kind: int, place: int) -> int:
    if kind in OF_FIXED_SIZE:
        return place + OF_FIXED_SIZE[kind]
    if kind == REGEX:
        return data.index(0, data.index(0, place) + 1) + 1
    (length,) = struct.unpack_from("<i", data, place)
    if length < 0:
        raise ValueError(length)
    return int(place + length + WITH_LENGTH[kind])


def id_of_json(data: bytes) -> Any:
    """The same of a document in JSON."""
    text = data.decode("utf-8", "replace")
    try:
        written = json.loads(text, object_pairs_hook=_WithPairs)
        if not isinstance(written, _WithPairs) or [name for name, _ in written.pairs].count(ID) != 1:
            return None
        (whole,) = (value for name, value in written.pairs if name == ID)
        again = json.dumps(whole, default=lambda value: dict(value.pairs), ensure_ascii=False)
    except RecursionError:
        first = FIRST_IN_JSON.match(text)
        return _id_of(lambda: decoded_json(f'{{"_id":{first[1]}}}')) if first else None
    except ValueError:
        return None
    return _id_of(lambda: decoded_json(f'{{"_id":{again}}}')) if "\ufffd" not in again else None


class _WithPairs:
    """An object of JSON with all its members, also where two share a name."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def _id_of(decode: Callable[[], dict[str, Any]]) -> Any:
    try:
        return decode()[ID]
    except (UnreadableDocument, NoJson):
        return None
