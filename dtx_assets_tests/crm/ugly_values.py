"""Ugly values for every kind of column of CRM, and the bytes of documents that hold them.

What should become of them is not here. A value has the second reading's form; `symbol` and `undefined` are two kinds
more, which its reader has no need of. What the contract leaves open (a NUL in an enum, -0 as a Decimal128, a year 0000,
the 24th hour) is left out.
"""

import struct
from collections.abc import Iterable, Sequence

from bson.decimal128 import Decimal128

from dtx_assets_tests.crm.second_reading_bson import NULL, Value

Pairs = Sequence[tuple[str, Value]]
KINDS = {
    "double": 0x01,
    "string": 0x02,
    "object": 0x03,
    "array": 0x04,
    "binData": 0x05,
    "undefined": 0x06,
    "objectId": 0x07,
    "bool": 0x08,
    "date": 0x09,
    "null": 0x0A,
    "regex": 0x0B,
    "dbPointer": 0x0C,
    "javascript": 0x0D,
    "symbol": 0x0E,
    "javascriptWithScope": 0x0F,
    "int": 0x10,
    "timestamp": 0x11,
    "long": 0x12,
    "decimal": 0x13,
    "maxKey": 0x7F,
    "minKey": 0xFF,
}


def encoded(pairs: Pairs) -> bytes:
    """A document as BSON; a name may occur twice."""
    body = b"".join(bytes([KINDS[value.kind]]) + name.encode() + b"\0" + payload(value) for name, value in pairs)
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def payload(value: Value) -> bytes:
    kind, data = value.kind, value.data
    match kind:
        case "double":
            return struct.pack("<d", data)
        case "string" | "javascript" | "symbol":
            return _text(data)
        case "object":
            return data if isinstance(data, bytes) else encoded(data)
        case "array":
            return encoded([(str(number), member) for number, member in enumerate(data)])
        case "int":
            return struct.pack("<i", data)
        case "date" | "long":
            return struct.pack("<q", data)
        case "objectId":
            return bytes.fromhex(data)
        case "bool":
            return bytes([data])
    return _rare(kind, data)


def _rare(kind: str, data: object) -> bytes:
    match kind, data:
        case "binData", (bytes(raw), int(subtype)):
            return struct.pack("<iB", len(raw), subtype) + raw
        case "regex", (str(pattern), str(options)):
            return pattern.encode() + b"\0" + options.encode() + b"\0"
        case "dbPointer", (str(namespace), str(hex_id)):
            return _text(namespace) + bytes.fromhex(hex_id)
        case "javascriptWithScope", (str(code), scope):
            inner = _text(code) + encoded(scope)  # type: ignore[arg-type]
            return struct.pack("<i", len(inner) + 4) + inner
        case "timestamp", (int(seconds), int(increment)):
            return struct.pack("<II", increment, seconds)
        case "decimal", str(digits):
            return Decimal128(digits).bid
    return b""  # null, undefined, minKey, maxKey


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<i", len(raw) + 1) + raw + b"\0"


def of(kind: str, *data: object) -> list[Value]:
    return [Value(kind, each) for each in data]


def texts(*data: str) -> list[Value]:
    return of("string", *data)


def array(*members: Value) -> Value:
    return Value("array", members)


def nested(levels: int) -> Value:
    """So many objects and arrays in one another, by turns."""
    value = Value("int", 1)
    for number in range(levels):
        value = array(value) if number % 2 else Value("object", (("a", value),))
    return value


def bottomless(levels: int) -> Value:
    """Objects in one another, too many to make them one by one."""
    data = encoded(())
    for _ in range(levels - 1):
        data = struct.pack("<i", len(data) + 8) + b"\x03a\0" + data + b"\0"
    return Value("object", data)


STRANGER = "0123456789abcdef01234567"
"""The id of no document."""

NOTHING = [NULL, Value("undefined"), *texts("", " ", "\t\n ", "\u00a0")]
DATES = of(
    "date",
    *(0, -1, 1_700_000_000_123, 951_782_400_000, -2_208_988_800_001, 4_102_444_800_000),
    *(-62_135_596_800_000, -62_135_596_800_001, 253_402_300_799_999, 253_402_300_800_000),
    *(-210_866_803_200_000, -210_866_803_200_001, 9_224_318_015_999_999, 9_224_318_016_000_000),
    *(2**63 - 1, -(2**63)),
)
NUMBERS = [
    *of("int", 0, 1, -1, 2, 2**31 - 1, -(2**31)),
    *of("long", 0, 1, 2**31 - 1, 2**31, -(2**31) - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)),
    *of("double", 0.0, -0.0, 1.0, 1.5, -7.0, 0.1, 1e-7, 123456.789, 5e-324, 2.0**53, -(2.0**53), 2.0**53 - 1),
    *of("double", 2.0**53 + 2, 1e16, 1e22, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), 2147483648.0),
    *of("decimal", "0", "1", "1.00", "1.50", "-12.5", "1E+3", "1E-7", "0.000", "12345678901234567890123456789012"),
    *of("decimal", "NaN", "Infinity", "-Infinity", "9.99E+40", "2147483648", "7.0", "9.999E+6144", "1E-6176"),
]
IDS = [
    *of("objectId", STRANGER, "000000000000000000000000", "ffffffffffffffffffffffff"),
    *texts(STRANGER, STRANGER.upper(), f" {STRANGER}\n", STRANGER[:23], STRANGER + "0", "z" * 24, f"0x{STRANGER[2:]}"),
]
OTHERS = [
    *of("bool", True, False),
    *of("binData", (b"", 0), (b"\x00\xff", 0), (bytes(16), 4), (b"abc", 128)),
    *of("regex", ("^a.*b$", "i"), ("", "")),
    *of("javascript", "function() { return 1; }"),
    *of("javascriptWithScope", ("x", (("a", Value("long", 5)),))),
    *of("symbol", "a symbol", "ACTIVE", "", STRANGER),
    *of("timestamp", (1_700_000_000, 1), (0, 0)),
    *of("dbPointer", ("db.Users", STRANGER)),
    *of("minKey", None),
    *of("maxKey", None),
]
OBJECTS = [
    Value("object", ()),
    Value("object", (("a", Value("int", 1)), ("b", NULL))),
    Value("object", (("", Value("string", "empty name")), ("a.b", Value("bool", True)), ("a", NULL), ("$b", NULL))),
    Value("object", (("$ref", Value("string", "Users")), ("$id", Value("objectId", STRANGER)), ("$db", NULL))),
    Value("object", (("x", NULL), ("$id", Value("int", 1)), ("$ref", Value("string", "Users")))),
    nested(30),
]
ARRAYS = [
    array(),
    array(NULL),
    array(*texts("a", "b", "a")),
    array(*of("int", 1, 2)),
    array(array(), Value("object", ())),
    array(*texts("", " "), NULL, Value("undefined")),
]
EVERY = [*NOTHING, *DATES, *NUMBERS, *IDS, *OTHERS, *OBJECTS, *ARRAYS, *texts("a text")]

MOMENTS = texts(
    *("2024-02-29", "2023-02-29", "2024-02-30", "2024-13-01", "1969-12-31", "0001-01-01", "9999-12-31", "2024-1-1"),
    *("2024-05-06T07:08", "2024-05-06 07:08", "2024-05-06T07:08:09", "2024-05-06 07:08:09.1", "2024-05-06_07:08:09"),
    *("2024-05-06T07:08:09.123456789Z", "2024-05-06T07:08:09.9999", "2024-05-06T07:08:09.1234567891Z"),
    *("1969-12-31T23:59:59.9999Z", "2024-05-06T07:08:09.", "2024-05-06T07:08Z", "2024-05-06T07:08:09,5Z"),
    *(
        "2024-05-06T07:08:09+01:00",
        "2024-05-06T07:08:09-0330",
        "2024-05-06T07:08:09+15:59",
        "2024-05-06T07:08:09-15:59",
    ),
    *("2024-05-06T07:08:09+16:00", "2024-05-06T07:08:09+01", "2024-05-06T07:08:09+01:60", "2024-05-06T07:08:61Z"),
    *("2024-05-06T25:00:00Z", "9999-12-31T23:59:59.999-15:59", "0001-01-01T00:00:00+15:59", "2024-05-06T07", "today"),
    *("1700000000000", "20240506", "2024-127", "12024-05-06", "+2024-05-06", "2024-05-06T07:08:09 Z", "06.05.2024"),
    *(" 2024-05-06", "2024-05-06\n", "\u0662\u0660\u0662\u0664-01-01"),
)
OF_RULE: dict[str, list[Value]] = {
    "text": texts(
        "\0", "a\0b", "\u2028 line", "  untrimmed ", "\U0001f600", "\r\n", "\ufeff", "NULL", "\\N", '"', "x" * 5_000
    ),
    "integer": texts(
        *(
            "12",
            "-12",
            "12.0",
            "-0",
            "012",
            "12.5",
            "12,5",
            "1e3",
            "+5",
            " 12",
            "12.",
            "12.00",
            "2147483647",
            "2147483648",
        ),
        *("-2147483648", "-2147483649", "9" * 40, "\u0663", "true", "0" * 50 + "7", f"-{'0' * 50}7.0"),
    ),
    "boolean": texts("true", "TRUE", " False ", "1", "0", "yes", "no", "1.0", "2", "-1", "t", "on", "truee"),
    "timestamp": MOMENTS,
    "uuid": texts("2bcd026a-dc83-5f13-a60a-29e5b81a83e9"),
    "jsonb": [
        *texts("\0", "a\\u0000b", "\\", '{"a": 1}', "null", "\u2028"),
        array(Value("objectId", STRANGER), *DATES[:9], *OTHERS),
        array(Value("decimal", "1.50"), Value("decimal", "1E+3"), Value("long", 2**63 - 1), Value("double", 1e22)),
        array(Value("double", float("nan"))),
        Value("object", (("n", Value("decimal", "Infinity")),)),
        Value("object", (("deep", Value("object", (("nul", Value("string", "x\0y")),))),)),
        Value("object", (("when", Value("date", -(10**15))), ("a", NULL), ("u", Value("undefined")))),
        *(nested(levels) for levels in (90, 98)),
    ],
    "array_text": [
        *texts("alone", "a\0b"),
        array(*texts("a", "\0")),
        array(*texts("x", "", "x", " y "), NULL, *of("int", 5), *of("double", 2.5), *of("bool", False)),
        array(*of("objectId", STRANGER), *of("date", 0), *of("decimal", "1.50")),
        *(array(Value("string", "a"), each) for each in (*OTHERS, *OBJECTS, *DATES[-3:], array())),
    ],
}


def of_labels(labels: Iterable[str]) -> list[Value]:
    """What stands in for a label and is one but for case and blanks, or is none."""
    near = [changed for label in labels for changed in (label.lower(), label.upper(), f" {label}\t", label.title())]
    return texts(*near, *(f"{label}!" for label in labels), "UNKNOWN")
