"""The machinery's transforms of BSON values take, count and refuse what the second reading does.

That is asked of every ugly value in every kind of column, but for ids: those are resolved by a run only.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from dtx_assets_tests.crm.compare import is_same_json
from dtx_assets_tests.crm.second_reading_bson import Value, compact, extended, read_document
from dtx_assets_tests.crm.second_reading_facts import Field
from dtx_assets_tests.crm.second_reading_values import Refused, read_cell
from dtx_assets_tests.crm.ugly import one_of_each_kind
from dtx_assets_tests.crm.ugly_values import EVERY, OF_RULE, encoded, of_labels
from dtx_assets_tests.machinery.transforms.applied import Applied, applied

COLUMNS = [each for each in one_of_each_kind() if each.rule not in ("junction", "array_uuid", "reference", "uuid")]
TRANSFORMS = {
    "text": "bson_text",
    "integer": "bson_integer",
    "boolean": "bson_boolean",
    "timestamp": "bson_timestamp",
    "enum": "bson_enum",
    "jsonb": "bson_json",
    "array_text": "bson_texts",
}
OPTIONS: list[dict[str, str]] = [
    {},
    {"scalar_to_text": "reject", "numeric_dates": "epoch_ms", "json_values": "extended_json"},
]


def values_of(column: Field) -> list[Value]:
    """As BSON's readers give them: symbols are text, undefined is null."""
    own = of_labels(column.labels) if column.rule == "enum" else OF_RULE[column.rule]
    made = read_document(encoded([(str(number), value) for number, value in enumerate([*own, *EVERY])]))
    return [value for _, value in made]


def settings_of(column: Field, chosen: dict[str, str]) -> dict[str, Any]:
    given: dict[str, dict[str, Any]] = {
        "text": {"scalars": chosen.get("scalar_to_text", "convert")},
        "array_text": {"scalars": chosen.get("scalar_to_text", "convert")},
        "timestamp": {"numbers": chosen.get("numeric_dates", "reject"), "nullable": column.nullable},
        "jsonb": {"form": chosen.get("json_values", "plain")},
        "enum": {"labels": list(column.labels), "nullable": column.nullable},
        "integer": {"nullable": column.nullable},
        "boolean": {"nullable": column.nullable},
    }
    return given.get(column.rule, {})


def found_of(made: Applied, number: int) -> tuple[Any, list[str], list[str]]:
    reasons = [reason for row, reason, _ in made.told if row == number]
    return made.values[number], reasons, sorted(kind for row, kind in made.counted if row == number)


def told(column: Field, values: Sequence[Value], chosen: dict[str, str]) -> Iterator[str]:
    texts = [compact(extended(value, relaxed=False)) for value in values]
    made = applied(TRANSFORMS[column.rule], texts, **settings_of(column, chosen))
    for number, (value, text) in enumerate(zip(values, texts, strict=True)):
        found, reasons, counted = found_of(made, number)
        try:
            cell = read_cell(column, value, chosen, None)
        except Refused as refused:
            if reasons != [refused.args[0]] and not (value.kind == "null" and found is None):
                yield f"{column.rule} {text}: {found!r:.200} {reasons} instead of {refused.args[0]}"
            continue
        if reasons or counted != sorted(set(cell.coerced)) or not is_taken(column, found, cell.value):
            yield f"{column.rule} {text}: {found!r:.200} {reasons} {counted} instead of {cell!r:.200}"


def is_taken(column: Field, found: Any, expected: Any) -> bool:
    match column.rule:
        case "jsonb":
            return is_same_json(found, expected)
        case "timestamp":
            return found == (None if expected is None else printed(expected))
        case "array_text":
            return list(members_of(found)) == expected
    return bool(found == expected)


def printed(milliseconds: int) -> str:
    """As PostgreSQL prints a timestamp: the years before Christ have no year 0, a fraction no zeros at its end."""
    days, rest = divmod(milliseconds, 86_400_000)
    year = 1968 + min(days // 365, days // 366)
    while first_day(year + 1) <= days:
        year += 1
    lengths = [31, 28 + is_leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    day = days - first_day(year)
    month = next(n for n in range(12) if day < sum(lengths[: n + 1]))
    seconds, fraction = divmod(rest, 1000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    told = f"{year if year > 0 else 1 - year:04}-{month + 1:02}-{day - sum(lengths[:month]) + 1:02} {clock}"
    return told + (f".{fraction:03}".rstrip("0") if fraction else "") + ("" if year > 0 else " BC")


def first_day(year: int) -> int:
    """Days after 1970-01-01 of a year's first day; a year 0 is before the year 1."""
    before = year - 1
    return before * 365 + before // 4 - before // 100 + before // 400 - 719_162


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def members_of(literal: str) -> Iterator[str]:
    """The texts of PostgreSQL's text form of an array."""
    quoted = r'"((?:[^"\\]|\\.)*)"|([^,{}"\\]+)'
    for found in re.finditer(quoted, literal[1:-1], re.DOTALL):
        yield found[2] if found[1] is None else re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "1970-01-01 00:00:00"),
        (-1, "1969-12-31 23:59:59.999"),
        (951_782_400_100, "2000-02-29 00:00:00.1"),
        (-62_135_596_800_001, "0001-12-31 23:59:59.999 BC"),
        (253_402_300_800_000, "10000-01-01 00:00:00"),
    ],
)
def test_how_postgresql_prints_times(milliseconds, text):
    assert printed(milliseconds) == text


def test_how_postgresql_prints_arrays():
    assert list(members_of('{a,"x y","","q\\"\\\\"}')) == ["a", "x y", "", 'q"\\']


@pytest.mark.parametrize("chosen", OPTIONS, ids=["defaults", "others"])
@pytest.mark.parametrize("column", COLUMNS, ids=lambda each: f"{each.rule}-{each.collection}.{each.field}")
def test_every_ugly_value(column, chosen):
    found = list(told(column, values_of(column), chosen))
    assert found == [], "\n".join(each[:600] for each in found[:40])
