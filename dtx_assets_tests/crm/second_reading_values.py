"""The second reading of CRM's sections 4.1 to 4.3: what becomes of one value in one column.

Nothing of `dtx_assets` is imported. References are not resolved here: an id becomes its 24 hex digits.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from dtx_assets_tests.crm.second_reading_bson import (
    DAY_LAST,
    DAY_ONE,
    Value,
    compact,
    extended,
    is_finite,
    iso,
)
from dtx_assets_tests.crm.second_reading_facts import OPTIONS, USERS, Field

TWO_TO_53 = 2**53
POSTGRES_FIRST, POSTGRES_END = -210_866_803_200_000, 9_224_318_016_000_000  # milliseconds, the end is outside
RANGES = {"integer": 2**31, "bigint": 2**63}


@dataclass
class Cell:
    """`value` of a column that names documents is what is to be resolved: hex digits, or a list of `Member`."""

    value: Any = None
    coerced: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Member:
    """A member of an array of ids."""

    hex: str
    coerced: Sequence[str] = ()


class Refused(Exception):
    """A value that is rejected; the argument is the reason code."""


class Digits(str):
    """A number of a Decimal128 in JSON, whose digits count: 1.50 is not 1.5."""


def decided(decisions: Mapping[str, str], key: str) -> str:
    return decisions.get(key, OPTIONS[key][0])


def is_blank(value: Value) -> bool:
    """ "Blank text is text of nothing but white space"; an empty one is."""
    return value.kind == "string" and not value.data.strip()


def object_id(value: Value) -> tuple[str, Sequence[str]] | None:
    """4.1: the 24 digits, and what is counted; None for what is no id."""
    if value.kind == "objectId":
        return value.data, ()
    if value.kind == "string":
        trimmed = value.data.strip()
        if re.fullmatch("[0-9a-fA-F]{24}", trimmed):
            return trimmed.lower(), ("id_from_text",)
    return None


def read_cell(column: Field, value: Value | None, decisions: Mapping[str, str], own_id: str | None) -> Cell:
    """What the column holds; Refused with a reason code. `value` is None where the field is missing."""
    if column.rule in ("array_text", "array_uuid"):
        return _array(column, value, decisions)
    if (column.collection, column.field) == (USERS, "password") and decided(decisions, "passwords") == "drop":
        is_there = value is not None and value.kind != "null"
        return Cell(None, ["password_dropped"] if is_there else [])
    if value is None:
        return _missing(column, decisions, own_id)
    if value.kind == "null":
        if column.nullable:
            return Cell()
        raise Refused("schema_violation")
    if is_blank(value) and column.rule not in ("text", "jsonb"):
        if column.nullable:
            return Cell(None, ["empty_to_null"])
        raise Refused("unmapped_value" if column.rule == "enum" else "unparseable")
    return READERS[column.rule](column, value, decisions)


def _missing(column: Field, decisions: Mapping[str, str], own_id: str | None) -> Cell:
    if column.nullable:
        return Cell()
    if column.default == "CURRENT_TIMESTAMP":
        if decided(decisions, "missing_created") == "object_id_time" and own_id is not None:
            return Cell(int(own_id[:8], 16) * 1000, ["created_from_id"])
    elif decided(decisions, "missing_required") == "schema_default":
        if column.default:
            return Cell(_constant(column), ["defaulted"])
        if column.field == "__v":
            return Cell(0, ["defaulted"])
    raise Refused("schema_violation")


def _constant(column: Field) -> Any:
    if column.rule == "integer":
        return int(column.default)
    return column.default == "true" if column.rule == "boolean" else column.default


# --- text -------------------------------------------------------------------------------------------------------------


def _text(_column: Field, value: Value, decisions: Mapping[str, str]) -> Cell:
    text, is_converted = text_and_whether_converted(value, decisions)
    return Cell(text, ["to_text"] if is_converted else [])


def text_and_whether_converted(value: Value, decisions: Mapping[str, str]) -> tuple[str, bool]:
    if value.kind == "string":
        if "\0" in value.data:
            raise Refused("unparseable")
        return value.data, False
    text = _scalar_as_text(value)
    if text is None or decided(decisions, "scalar_to_text") == "reject":
        raise Refused("unparseable")
    return text, True


def _scalar_as_text(value: Value) -> str | None:
    match value.kind:
        case "int" | "long":
            return str(value.data)
        case "double":
            return _double_as_text(value.data)
        case "decimal":
            number = Decimal(value.data)
            return format(number, "f") if number.is_finite() else None
        case "bool":
            return "true" if value.data else "false"
        case "objectId":
            return str(value.data)
        case "date":
            return iso(value.data) if DAY_ONE <= value.data <= DAY_LAST else None
    return None


def _double_as_text(number: float) -> str | None:
    if not is_finite(number) or abs(number) >= TWO_TO_53:
        return None
    if number == int(number):
        return str(int(number))  # "-0 is 0"
    return format(Decimal(repr(number)), "f")


# --- numbers, booleans, dates, labels, ids ----------------------------------------------------------------------------


def _integer(column: Field, value: Value, _decisions: Mapping[str, str]) -> Cell:
    number, coerced = _whole(value)
    limit = RANGES[column.type]
    if not -limit <= number < limit:
        raise Refused("schema_violation")
    return Cell(number, coerced)


def _whole(value: Value) -> tuple[int, list[str]]:
    match value.kind:
        case "int" | "long":
            return value.data, []
        case "double" if is_finite(value.data) and value.data == int(value.data) and abs(value.data) <= TWO_TO_53:
            return int(value.data), []
        case "decimal":
            number = Decimal(value.data)
            if number.is_finite() and number == number.to_integral_value():
                return int(number), []
        case "string":
            found = re.fullmatch(r"(-?[0-9]+)(\.0)?", value.data)
            if found:
                return int(found[1]), ["to_number"]
    raise Refused("unparseable")


def _boolean(_column: Field, value: Value, _decisions: Mapping[str, str]) -> Cell:
    match value.kind:
        case "bool":
            return Cell(value.data)
        case "int" | "long" | "double" if value.data in (0, 1):
            return Cell(value.data == 1, ["to_boolean"])
        case "decimal":
            number = Decimal(value.data)
            if number.is_finite() and number in (0, 1):
                return Cell(number == 1, ["to_boolean"])
        case "string":
            read = {"true": True, "1": True, "false": False, "0": False}.get(value.data.strip().lower())
            if read is not None:
                return Cell(read, ["to_boolean"])
    raise Refused("unparseable")


MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(?:Z|([+-])([0-9]{2}):?([0-9]{2}))?)?"
)
DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _timestamp(_column: Field, value: Value, decisions: Mapping[str, str]) -> Cell:
    """The milliseconds after 1970."""
    if value.kind == "date":
        return Cell(_in_range(value.data))
    if value.kind == "string":
        return Cell(_in_range(_milliseconds(value.data)), ["to_timestamp"])
    is_number = value.kind in ("int", "long") or (
        value.kind == "double"
        and is_finite(value.data)
        and value.data == int(value.data)
        and abs(value.data) <= TWO_TO_53
    )
    if is_number and decided(decisions, "numeric_dates") == "epoch_ms":
        return Cell(_in_range(int(value.data)), ["to_timestamp"])
    raise Refused("unparseable")


def _in_range(milliseconds: int) -> int:
    """ "as far as PostgreSQL's range goes"; what no line allows is unparseable."""
    if not POSTGRES_FIRST <= milliseconds < POSTGRES_END:
        raise Refused("unparseable")
    return milliseconds


def _milliseconds(text: str) -> int:
    found = MOMENT.fullmatch(text)
    if not found:
        raise Refused("unparseable")
    year, month, day, hour, minute, second = (int(each or 0) for each in found.groups()[:6])
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    is_date = year >= 1 and 1 <= month <= 12 and 1 <= day <= DAYS[month - 1] + leap
    if not is_date or hour > 23 or minute > 59 or second > 59:
        raise Refused("unparseable")
    offset = 0
    if found[8]:
        hours, minutes = int(found[9]), int(found[10])
        if hours > 15 or minutes > 59:
            raise Refused("unparseable")
        offset = (hours * 60 + minutes) * (1 if found[8] == "+" else -1)
    fraction = int((found[7] or "").ljust(3, "0")[:3])  # "what is finer than a millisecond is cut off"
    seconds = (_days(year, month, day) * 24 + hour) * 3600 + (minute - offset) * 60 + second
    return seconds * 1000 + fraction


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar."""
    before = year - 1
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    of_year = sum(DAYS[: month - 1]) + (leap and month > 2) + day - 1
    return before * 365 + before // 4 - before // 100 + before // 400 + of_year - 719_162


def _enum(column: Field, value: Value, _decisions: Mapping[str, str]) -> Cell:
    if value.kind == "string":
        if value.data in column.labels:
            return Cell(value.data)
        near = [label for label in column.labels if label.lower() == value.data.strip().lower()]
        if len(near) == 1:
            return Cell(near[0], ["enum_case"])
    raise Refused("unmapped_value")


def _id(_column: Field, value: Value, _decisions: Mapping[str, str]) -> Cell:
    found = object_id(value)
    if found is None:
        raise Refused("unparseable")
    return Cell(found[0], list(found[1]))


# --- jsonb ------------------------------------------------------------------------------------------------------------


def _jsonb(_column: Field, value: Value, decisions: Mapping[str, str]) -> Cell:
    if decided(decisions, "json_values") == "extended_json":
        made = _relaxed(value)
        return Cell(_without_nul(made))
    lacking: list[str] = []
    made = _plain(value, lacking)
    return Cell(_without_nul(made), ["json_type"] if lacking else [])


def _relaxed(value: Value) -> Any:
    return extended(value, relaxed=True)


def _plain(value: Value, lacking: list[str]) -> Any:
    match value.kind:
        case "object":
            return {name: _plain(member, lacking) for name, member in value.data}
        case "array":
            return [_plain(member, lacking) for member in value.data]
        case "string" | "bool" | "null" | "int" | "long":
            return value.data
        case "double" if is_finite(value.data):
            return value.data
        case "decimal" if Decimal(value.data).is_finite():
            return Digits(format(Decimal(value.data), "f"))
        case "double" | "decimal":
            raise Refused("unparseable")
    lacking.append(value.kind)
    match value.kind:
        case "objectId":
            return value.data
        case "date" if DAY_ONE <= value.data <= DAY_LAST:
            return iso(value.data)
        case "binData":
            return base64.b64encode(value.data[0]).decode()
    return _relaxed(value)


def _without_nul(made: Any) -> Any:
    # A NUL in a text is \u0000 in JSON, and nothing else is: a backslash of a text is doubled.
    if re.search(r"(?<!\\)(\\\\)*\\u0000", compact(made)):
        raise Refused("unparseable")
    return made


# --- arrays -----------------------------------------------------------------------------------------------------------


def _array(column: Field, value: Value | None, decisions: Mapping[str, str]) -> Cell:
    """ "missing and null are `{}`"; so is blank."""
    if value is None or value.kind == "null" or is_blank(value):
        return Cell([])
    return _texts(value, decisions) if column.rule == "array_text" else _ids(value)


def _texts(value: Value, decisions: Mapping[str, str]) -> Cell:
    if value.kind == "string":
        return Cell([text_and_whether_converted(value, decisions)[0]], ["scalar_to_array"])
    if value.kind != "array":
        raise Refused("unparseable")
    cell = Cell([])
    for member in value.data:
        if member.kind == "null":
            cell.coerced.append("null_member")
            continue
        text, is_converted = text_and_whether_converted(member, decisions)
        cell.value.append(text)
        cell.coerced += ["to_text"] if is_converted else []
    return cell


def _ids(value: Value) -> Cell:
    members, coerced = members_of(value)
    cell = Cell([], coerced)
    for member in members:
        if member.kind == "null" or is_blank(member):
            cell.coerced.append("null_member")
            continue
        found = object_id(member)
        if found is None:
            raise Refused("unparseable")
        cell.value.append(Member(*found))
    return cell


def members_of(value: Value) -> tuple[Sequence[Value], list[str]]:
    """ "a value that is no array counts as an array of one"."""
    return (value.data, []) if value.kind == "array" else ([value], ["scalar_to_array"])


READERS = {
    "text": _text,
    "integer": _integer,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "enum": _enum,
    "id": _id,
    "uuid": _id,
    "reference": _id,
    "jsonb": _jsonb,
}
