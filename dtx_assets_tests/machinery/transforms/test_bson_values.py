"""Any BSON value in any column type ends as taken, counted or refused, as a plain reading of the contract says."""

import math
import uuid
from decimal import Decimal
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from dtx_assets.machinery.sources.extended_json import canonical
from dtx_assets_tests.machinery.transforms.applied import applied

SPACE = "9ff85368-0ce2-530b-bca5-ea5ff5b21b75"
ID = "507f1f77bcf86cd799439011"
OF_ID = "2bcd026a-dc83-5f13-a60a-29e5b81a83e9"


class Refused(Exception):
    """By a plain reading."""


def one(name: str, value: Any, **settings: object) -> tuple[Any, str | None, list[str]]:
    """The value, the reason of its refusal, and what was counted."""
    found = applied(name, [canonical(value)], **settings)
    reasons = [reason for _, reason, _ in found.told]
    assert len(reasons) <= 1
    assert not (reasons and (found.counted or found.values != [None]))
    return found.values[0], reasons[0] if reasons else None, [kind for _, kind in found.counted]


TAKEN: list[tuple[str, Any, dict[str, object], Any, list[str]]] = [
    ("bson_text", " a ", {}, " a ", []),
    ("bson_text", 5, {}, "5", ["to_text"]),
    ("bson_text", 5.0, {}, "5", ["to_text"]),
    ("bson_text", -0.0, {}, "0", ["to_text"]),
    ("bson_text", 1e-7, {}, "0.0000001", ["to_text"]),
    ("bson_text", Decimal128("1.50"), {}, "1.50", ["to_text"]),
    ("bson_text", Decimal128("1E+3"), {}, "1000", ["to_text"]),
    ("bson_text", True, {}, "true", ["to_text"]),
    ("bson_text", ObjectId(ID), {}, ID, ["to_text"]),
    ("bson_text", DatetimeMS(-62135596800000), {}, "0001-01-01T00:00:00.000Z", ["to_text"]),
    ("bson_text", DatetimeMS(-1), {}, "1969-12-31T23:59:59.999Z", ["to_text"]),
    ("bson_integer", 2.0**31 - 1, {}, 2**31 - 1, []),
    ("bson_integer", Decimal128("7.00"), {}, 7, []),
    ("bson_integer", "-12.0", {}, -12, ["to_number"]),
    ("bson_integer", " ", {}, None, ["empty_to_null"]),
    ("bson_integer", Int64(2**40), {"bits": 64}, 2**40, []),
    ("bson_boolean", Decimal128("1.0"), {}, True, ["to_boolean"]),
    ("bson_boolean", " TRUE\n", {}, True, ["to_boolean"]),
    ("bson_boolean", 0, {}, False, ["to_boolean"]),
    ("bson_timestamp", DatetimeMS(1720000000123), {}, "2024-07-03 09:46:40.123", []),
    ("bson_timestamp", DatetimeMS(253402300800000), {}, "10000-01-01 00:00:00", []),
    ("bson_timestamp", DatetimeMS(-62135596800001), {}, "0001-12-31 23:59:59.999 BC", []),
    ("bson_timestamp", DatetimeMS(-210866803200000), {}, "4714-11-24 00:00:00 BC", []),
    ("bson_timestamp", "2024-07-03 09:46+0230", {}, "2024-07-03 07:16:00", ["to_timestamp"]),
    ("bson_timestamp", "2024-07-03T09:46:40.123999Z", {}, "2024-07-03 09:46:40.123", ["to_timestamp"]),
    ("bson_timestamp", "0001-01-01T00:00:00+01:00", {}, "0001-12-31 23:00:00 BC", ["to_timestamp"]),
    ("bson_timestamp", 1000, {"numbers": "epoch_ms"}, "1970-01-01 00:00:01", ["to_timestamp"]),
    ("bson_enum", "NEW", {"labels": ["NEW", "OLD"]}, "NEW", []),
    ("bson_enum", " new", {"labels": ["NEW", "OLD"]}, "NEW", ["enum_case"]),
    ("bson_uuid", ObjectId(ID), {"namespace": SPACE}, OF_ID, []),
    ("bson_uuid", f" {ID.upper()}", {"namespace": SPACE}, OF_ID, ["id_from_text"]),
    ("bson_json", {"a": [ObjectId(ID), None]}, {}, f'{{"a":["{ID}",null]}}', ["json_type"]),
    ("bson_json", {"n": Decimal128("1.50"), "d": 1.5}, {}, '{"n":1.50,"d":1.5}', []),
    ("bson_json", DatetimeMS(0), {"form": "extended_json"}, '{"$date":"1970-01-01T00:00:00Z"}', []),
    ("bson_json", Binary(b"a", 0), {}, '"YQ=="', ["json_type"]),
    ("bson_json", Timestamp(1, 2), {}, '{"$timestamp":{"t":1,"i":2}}', ["json_type"]),
    ("bson_json", DatetimeMS(253402300800000), {}, '{"$date":{"$numberLong":"253402300800000"}}', ["json_type"]),
    ("bson_texts", ["a", None, "a", "x y"], {}, '{a,a,"x y"}', ["null_member"]),
    ("bson_texts", ["a", 5], {}, "{a,5}", ["to_text"]),
    ("bson_texts", "a", {}, "{a}", ["scalar_to_array"]),
    ("bson_texts", " ", {}, "{}", []),
    ("bson_texts", None, {}, "{}", []),
    (
        "bson_uuids",
        [ObjectId(ID), None, ID, " "],
        {"namespace": SPACE},
        f"{{{OF_ID}}}",
        ["duplicate_member", "id_from_text", "null_member"],
    ),
    ("bson_uuids", ObjectId(ID), {"namespace": SPACE}, f"{{{OF_ID}}}", ["scalar_to_array"]),
]


@pytest.mark.parametrize(("name", "value", "settings", "expected", "counted"), TAKEN)
def test_what_is_taken_and_what_is_counted_of_it(name, value, settings, expected, counted):
    assert one(name, value, **settings) == (expected, None, counted)


REFUSED: list[tuple[str, Any, dict[str, object], str]] = [
    ("bson_text", 2.0**53, {}, "unparseable"),
    ("bson_text", 5, {"scalars": "reject"}, "unparseable"),
    ("bson_text", [], {}, "unparseable"),
    ("bson_text", "a\0", {}, "unparseable"),
    ("bson_text", Decimal128("NaN"), {}, "unparseable"),
    ("bson_text", DatetimeMS(253402300800000), {}, "unparseable"),
    ("bson_integer", 1.5, {}, "unparseable"),
    ("bson_integer", "12,5", {}, "unparseable"),
    ("bson_integer", " 5", {}, "unparseable"),
    ("bson_integer", "", {"nullable": False}, "unparseable"),
    ("bson_integer", Int64(2**31), {}, "schema_violation"),
    ("bson_integer", "9" * 60, {"bits": 64}, "schema_violation"),
    ("bson_integer", True, {}, "unparseable"),
    ("bson_boolean", 2, {}, "unparseable"),
    ("bson_timestamp", "2024-02-30", {}, "unparseable"),
    ("bson_timestamp", "2024-01-01T00:00:00+16:00", {}, "unparseable"),
    ("bson_timestamp", 1000, {}, "unparseable"),
    ("bson_timestamp", DatetimeMS(-210866803200001), {}, "unparseable"),
    ("bson_enum", "LOST", {"labels": ["NEW"]}, "unmapped_value"),
    ("bson_enum", 5, {"labels": ["NEW"]}, "unmapped_value"),
    ("bson_enum", " ", {"labels": ["NEW"], "nullable": False}, "unmapped_value"),
    ("bson_uuid", "short", {"namespace": SPACE}, "unparseable"),
    ("bson_json", {"a": math.nan}, {}, "unparseable"),
    ("bson_json", {"a\0b": 1}, {}, "unparseable"),
    ("bson_texts", ["a", {"b": 5}], {}, "unparseable"),
    ("bson_texts", ["a", 5], {"scalars": "reject"}, "unparseable"),
    ("bson_texts", 5, {}, "unparseable"),
    ("bson_uuids", [ObjectId(ID), "x"], {"namespace": SPACE}, "unparseable"),
]


@pytest.mark.parametrize(("name", "value", "settings", "reason"), REFUSED)
def test_what_is_refused_has_its_reason(name, value, settings, reason):
    assert one(name, value, **settings) == (None, reason, [])


def test_a_missing_field_is_no_value_and_no_array_is_empty():
    for name, settings in {"bson_text": {}, "bson_integer": {}, "bson_uuid": {"namespace": SPACE}}.items():
        assert applied(name, [None, "null"], **settings).values == [None, None]
    for name, settings in {"bson_texts": {}, "bson_uuids": {"namespace": SPACE}}.items():
        assert applied(name, [None, "null"], **settings).values == ["{}", "{}"]


# --- any value, against a plain reading -------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    | st.sampled_from(["1", "0", "TRUE", " false", "12", "-3.0", "", " ", ID, f" {ID.upper()} ", "new", "2024-01-02"])
    | st.binary(max_size=3).map(lambda data: Binary(data, 128))
    | st.sampled_from([ObjectId(ID), ObjectId("f" * 24)])
    | st.integers(-(2**58), 2**58).map(DatetimeMS)
    | st.sampled_from(["0", "1.0", "1.50", "1E+3", "NaN", "-Infinity", "99999999999", "0.5"]).map(Decimal128)
    | st.just(Timestamp(1, 2))
    | st.just(Regex("a", "i"))
)
ANY = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from("abc"), SCALARS, max_size=2)


def whole_number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value) and abs(value) <= 2**53 and value.is_integer():
        return int(value)
    if isinstance(value, Decimal128):
        number = value.to_decimal()
        return int(number) if number.is_finite() and number == int(number) else None
    return None


def plain_integer(value: Any) -> tuple[Any, list[str]]:
    if value is None:
        return None, []
    number, counted = whole_number(value), []
    if isinstance(value, str):
        if not value.strip():
            return None, ["empty_to_null"]
        digits = value.removesuffix(".0").removeprefix("-")
        if digits and set(digits) <= set("0123456789"):
            number, counted = int(value.removesuffix(".0")), ["to_number"]
    if number is None:
        raise Refused("unparseable")
    if not -(2**31) <= number < 2**31:
        raise Refused("schema_violation")
    return number, counted


def plain_boolean(value: Any) -> tuple[Any, list[str]]:
    if value is None or isinstance(value, bool):
        return value, []
    if isinstance(value, str):
        if not value.strip():
            return None, ["empty_to_null"]
        known = {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    else:
        known = {0: False, 1: True}.get(number) if (number := whole_number(value)) is not None else None
    if known is None:
        raise Refused("unparseable")
    return known, ["to_boolean"]


def plain_id(value: Any) -> tuple[str, list[str]]:
    if isinstance(value, ObjectId):
        return str(uuid.uuid5(uuid.UUID(SPACE), str(value))), []
    if isinstance(value, str) and ObjectId.is_valid(value.strip()) and len(value.strip()) == 24:
        return str(uuid.uuid5(uuid.UUID(SPACE), value.strip().lower())), ["id_from_text"]
    raise Refused("unparseable")


def plain_uuid(value: Any) -> tuple[Any, list[str]]:
    if value is None:
        return None, []
    if isinstance(value, str) and not value.strip():
        return None, ["empty_to_null"]
    return plain_id(value)


def plain_text(value: Any) -> tuple[Any, list[str]]:
    if value is None:
        return None, []
    if isinstance(value, str):
        if "\0" in value:
            raise Refused("unparseable")
        return value, []
    if isinstance(value, bool):
        return str(value).lower(), ["to_text"]
    if isinstance(value, int | ObjectId):
        return str(value), ["to_text"]
    if isinstance(value, float) and abs(value) < 2**53:
        written = format(Decimal(repr(value)), "f")
        return (str(int(value)) if value.is_integer() else written), ["to_text"]
    if isinstance(value, Decimal128) and value.to_decimal().is_finite():
        return format(value.to_decimal(), "f"), ["to_text"]
    if isinstance(value, DatetimeMS) and -62135596800000 <= int(value) <= 253402300799999:
        moment = value.as_datetime()
        return f"{moment:%m-%dT%H:%M:%S}".join((f"{moment.year:04d}-", f".{int(value) % 1000:03d}Z")), ["to_text"]
    raise Refused("unparseable")


def plain_uuids(value: Any) -> tuple[Any, list[str]]:
    if value is None or (isinstance(value, str) and not value.strip()):
        return "{}", []
    counted = [] if isinstance(value, list) else ["scalar_to_array"]
    ids: list[str] = []
    for member in value if isinstance(value, list) else [value]:
        if member is None or (isinstance(member, str) and not member.strip()):
            counted.append("null_member")
            continue
        made, more = plain_id(member)
        counted += more + (["duplicate_member"] if made in ids else [])
        ids += [] if made in ids else [made]
    return "{" + ",".join(ids) + "}", counted


READINGS: dict[str, tuple[Any, dict[str, object]]] = {
    "bson_integer": (plain_integer, {}),
    "bson_boolean": (plain_boolean, {}),
    "bson_uuid": (plain_uuid, {"namespace": SPACE}),
    "bson_text": (plain_text, {}),
    "bson_uuids": (plain_uuids, {"namespace": SPACE}),
}


@given(ANY, st.sampled_from(sorted(READINGS)))
def test_any_value_in_any_column_against_a_plain_reading(value: Any, name: str) -> None:
    reading, settings = READINGS[name]
    expected: tuple[Any, str | None, list[str]]
    try:
        made, counted = reading(value)
        expected = made, None, sorted(set(counted))
    except Refused as refused:
        expected = None, str(refused), []
    assert one(name, value, **settings) == expected
