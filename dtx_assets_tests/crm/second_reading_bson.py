"""The second reading's own reader of BSON: plain, slow, and telling apart what libraries make one of.

What lives here: bytes of a document → typed values, and values → Extended JSON v2. What the rules of CRM make of the
values is in the other modules. Only Decimal128's digits are the library's. A decoder that makes dicts would hide the
same field name twice, undefined, symbols, and dates that Python's calendar lacks.
"""

import base64
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bson.decimal128 import Decimal128

LEVELS = 100
DAY_ONE = -62_135_596_800_000  # 0001-01-01T00:00:00.000Z in milliseconds after 1970
DAY_LAST = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


class Undecodable(Exception):
    """Bytes that are framed as a document and are none."""


@dataclass(frozen=True)
class Value:
    """A value of a document: `kind` is BSON's name of its type.

    `data`: objects are (name, Value) pairs, arrays Values; dates integers in milliseconds; ObjectIds and Decimal128
    texts; binary (bytes, subtype); regular expressions (pattern, options); timestamps (seconds, increment).
    """

    kind: str
    data: Any = None


Fields = tuple[tuple[str, Value], ...]
NULL = Value("null")
PLAIN = {0x01: ("double", "<d"), 0x09: ("date", "<q"), 0x10: ("int", "<i"), 0x12: ("long", "<q")}
TEXTS = {0x02: "string", 0x0D: "javascript", 0x0E: "symbol"}


class Reader:
    """Reads one document; every step moves `at`, and whatever is not there is Undecodable."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        if count < 0 or len(taken) < count:
            raise Undecodable("it ends too early")
        self.at += count
        return taken

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def name(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise Undecodable("a name without an end")
        text = decoded(self.take(end - self.at))
        self.at += 1
        return text

    def text(self) -> str:
        raw = self.take(self.number("<i"))
        if not raw or raw[-1]:
            raise Undecodable("a text without an end")
        return decoded(raw[:-1])

    def fields(self, level: int, is_array: bool = False) -> Fields:
        if level > LEVELS:
            raise Undecodable("too deep")
        start = self.at
        end = start + self.number("<i")
        if not start + 5 <= end <= len(self.data):
            raise Undecodable("a length that cannot be")
        found: list[tuple[str, Value]] = []
        while kind := self.number("B"):
            name = self.name()
            found.append((name, self.value(kind, level)))
            if self.at >= end:
                raise Undecodable("a document without an end")
        if self.at != end:
            raise Undecodable("a length that is another")
        if not is_array and len({name for name, _ in found}) < len(found):
            raise Undecodable("a field name twice")
        return tuple(found)

    def value(self, kind: int, level: int) -> Value:
        if kind in PLAIN:
            name, form = PLAIN[kind]
            return Value(name, self.number(form))
        if kind in TEXTS:
            # "A symbol counts as text"
            return Value("string" if kind == 0x0E else TEXTS[kind], self.text())
        if kind == 0x03:
            return Value("object", self.fields(level + 1))
        if kind == 0x04:
            return Value("array", tuple(value for _, value in self.fields(level + 1, is_array=True)))
        if kind == 0x05:
            length, subtype = self.number("<i"), self.number("B")
            return Value("binData", (self.take(length), subtype))
        if kind in (0x06, 0x0A):
            return NULL  # "undefined as null"
        if kind == 0x07:
            return Value("objectId", self.take(12).hex())
        if kind == 0x08:
            return Value("bool", self.boolean())
        return self.rare_value(kind, level)

    def rare_value(self, kind: int, level: int) -> Value:
        if kind == 0x0B:
            pattern, options = self.name(), self.name()
            return Value("regex", (pattern, "".join(sorted(options))))
        if kind == 0x0C:
            namespace = self.text()
            return Value("dbPointer", (namespace, self.take(12).hex()))
        if kind == 0x0F:
            self.take(4)
            code = self.text()
            return Value("javascriptWithScope", (code, self.fields(level + 1)))
        if kind == 0x11:
            increment, seconds = self.number("<I"), self.number("<I")
            return Value("timestamp", (seconds, increment))
        if kind == 0x13:
            return Value("decimal", str(Decimal128.from_bid(self.take(16))))
        if kind in (0x7F, 0xFF):
            return Value("maxKey" if kind == 0x7F else "minKey")
        raise Undecodable(f"no type {kind}")

    def boolean(self) -> bool:
        number = self.number("B")
        if number > 1:
            raise Undecodable("a boolean that is neither")
        return number == 1

    def skip(self, kind: int) -> None:
        """Goes over a value by its outer length alone, whatever is in it."""
        sizes = {0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16}
        if kind in sizes | {0x7F: 0, 0xFF: 0}:
            self.take(sizes.get(kind, 0))
        elif kind in TEXTS:
            self.take(self.number("<i"))
        elif kind in (0x03, 0x04, 0x0F):
            self.take(self.number("<i") - 4)
        elif kind == 0x05:
            self.take(self.number("<i") + 1)
        elif kind == 0x0B:
            for _ in range(2):
                self.take(self.data.index(b"\0", self.at) - self.at + 1)
        elif kind == 0x0C:
            self.take(self.number("<i") + 12)
        else:
            raise Undecodable(f"no type {kind}")


def decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Undecodable("no UTF-8") from error


def read_document(data: bytes) -> Fields:
    """The fields of a document in order; Undecodable where it cannot be read, at any depth."""
    reader = Reader(data)
    fields = reader.fields(1)
    if reader.at != len(data):
        raise Undecodable("trailing bytes")
    return fields


def readable_id(data: bytes) -> Value | None:
    """The `_id` of a document that cannot be decoded; None where it, too, cannot be read."""
    reader = Reader(data)
    try:
        reader.take(4)
        while kind := reader.number("B"):
            end = data.index(b"\0", reader.at)
            raw = reader.take(end - reader.at)
            reader.at += 1
            if raw == b"_id":
                return reader.value(kind, 1)
            reader.skip(kind)
    except (Undecodable, ValueError):
        pass
    return None


# --- Extended JSON v2 -------------------------------------------------------------------------------------------------


def iso(milliseconds: int) -> str:
    """`YYYY-MM-DDTHH:MM:SS.mmmZ`; only for the years 1 to 9999."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    return (
        f"{moment.year:04}-{moment.month:02}-{moment.day:02}T{moment.hour:02}:{moment.minute:02}:{moment.second:02}"
        f".{milliseconds % 1000:03}Z"
    )


def is_finite(number: float) -> bool:
    return number - number == 0


def double_text(number: float) -> str:
    if is_finite(number):
        return repr(number)
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"


def extended(value: Value, *, relaxed: bool) -> Any:
    """The value as what JSON has, in canonical or relaxed Extended JSON v2."""
    kind, data = value.kind, value.data
    if kind in ("object", "array"):
        if kind == "array":
            return [extended(member, relaxed=relaxed) for member in data]
        return {name: extended(member, relaxed=relaxed) for name, member in data}
    if kind in ("null", "string", "bool"):
        return data
    if kind in ("int", "long", "double"):
        return _number(kind, data, relaxed=relaxed)
    if kind == "date":
        if relaxed and 0 <= data <= DAY_LAST:
            return {"$date": iso(data) if data % 1000 else iso(data)[:-5] + "Z"}
        return {"$date": {"$numberLong": str(data)}}
    return _rare(kind, data, relaxed=relaxed)


def _number(kind: str, number: Any, *, relaxed: bool) -> Any:
    if kind == "double":
        return number if relaxed and is_finite(number) else {"$numberDouble": double_text(number)}
    return number if relaxed else {"$numberInt" if kind == "int" else "$numberLong": str(number)}


def _rare(kind: str, data: Any, *, relaxed: bool) -> Any:
    match kind:
        case "objectId":
            return {"$oid": data}
        case "decimal":
            return {"$numberDecimal": data}
        case "binData":
            return {"$binary": {"base64": base64.b64encode(data[0]).decode(), "subType": f"{data[1]:02x}"}}
        case "regex":
            return {"$regularExpression": {"pattern": data[0], "options": data[1]}}
        case "timestamp":
            return {"$timestamp": {"t": data[0], "i": data[1]}}
        case "javascript":
            return {"$code": data}
        case "javascriptWithScope":
            return {"$code": data[0], "$scope": extended(Value("object", data[1]), relaxed=relaxed)}
        case "dbPointer":
            return {"$dbPointer": {"$ref": data[0], "$id": {"$oid": data[1]}}}
    return {f"${kind}": 1}  # minKey, maxKey


def text_of(fields: Sequence[tuple[str, Value]], *, relaxed: bool = False) -> str:
    return compact(extended(Value("object", tuple(fields)), relaxed=relaxed))


def compact(structure: Any) -> str:
    return json.dumps(structure, ensure_ascii=False, separators=(",", ":"))
