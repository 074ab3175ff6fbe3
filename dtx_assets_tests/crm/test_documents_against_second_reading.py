"""Ugly documents are landed as the second reading reads them, in every form in which they may lie on disk."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import open_source
from dtx_assets_tests.crm.compare import write_form
from dtx_assets_tests.crm.second_reading_bson import Undecodable, Value, compact, extended, read_document
from dtx_assets_tests.crm.second_reading_facts import FACTS
from dtx_assets_tests.crm.ugly import dump, thorough

DUMPS = ("dump", "dump-gz", "archive", "archive-gz")
EXPORTS = ("json-canonical", "json-relaxed", "json-v1", "json-mixture")
OWN = ("_row", "_undecodable", "_rest", "_types", "_bson", "_line", "_unreadable")


def landed(directory: Path, form: str, collections: Mapping[str, Sequence[bytes]]) -> dict[str, pl.DataFrame]:
    place = write_form(directory, form, collections)
    lake = Lake(str(directory / "lake"))
    with open_source(str(place)) as source:
        for name in FACTS.collections:
            columns = tuple(dict.fromkeys(each.field for each in FACTS.fields if each.collection == name))
            table = LegacyTable(name, "crm", columns, key=("_id",), documents=True)
            source.extract(table, lake, ("crm", "legacy", name), "run")
    return {name: lake.scan(("crm", "legacy", name)).collect() for name in FACTS.collections}


def read(raws: Sequence[bytes]) -> list[dict[str, Value] | None]:
    found: list[dict[str, Value] | None] = []
    for raw in raws:
        try:
            found.append(dict(read_document(raw)))
        except Undecodable:
            found.append(None)
    return found


def texts_of(name: str, fields: dict[str, Value], names: Sequence[str]) -> dict[str, Any]:
    """The columns that the landing should have: canonical Extended JSON, NULL where the field is missing."""
    columns = {
        column: compact(extended(fields[column], relaxed=False)) if column in fields else None for column in names
    }
    rest = {
        field: extended(value, relaxed=False) for field, value in fields.items() if field not in FACTS.declared[name]
    }
    return {**columns, "_rest": rest}


def told(name: str, frame: pl.DataFrame, raws: Sequence[bytes], *, loosely: bool) -> list[str]:
    """What differs; `loosely`: relaxed JSON does not keep int and long apart."""
    expected = read(raws)
    if frame.height != len(expected):
        return [f"{name}: {frame.height} rows instead of {len(expected)}"]
    names = [column for column in frame.columns if column not in OWN]
    found = []
    for number, (row, fields) in enumerate(zip(frame.iter_rows(named=True), expected, strict=True), 1):
        if (row["_unreadable"] is None) != (fields is not None):
            found.append(f"{name} #{number}: {row['_unreadable']!r}, {fields is None=}")
        if row["_unreadable"] is not None or fields is None:
            continue
        should_be = texts_of(name, fields, names)
        for column in names:
            these, those = row[column], should_be[column]
            if loosely and these is not None and those is not None:
                these, those = (text.replace("$numberInt", "$numberLong") for text in (these, those))
            if these != those:
                found.append(f"{name} #{number} {column}: {row[column]!r:.300} instead of {should_be[column]!r:.300}")
        rest = json.loads(row["_rest"]) if row["_rest"] else {}
        if not loosely and rest != should_be["_rest"]:
            found.append(f"{name} #{number} _rest: {rest!r:.300} instead of {should_be['_rest']!r:.300}")
    return found


@pytest.mark.parametrize("form", [*DUMPS, *EXPORTS])
def test_ugly_documents(tmp_path, form):
    is_json = form in EXPORTS
    made = dump(21).decodable() if is_json else dump(21)
    frames = landed(tmp_path, form, made.collections)
    found = [
        line
        for name, frame in frames.items()
        for line in told(name, frame, made.collections[name], loosely=is_json and form != "json-canonical")
    ]
    assert found == [], "\n".join(found[:20])
    if not is_json:
        for name, frame in frames.items():
            assert [base64.b64decode(each) for each in frame["_bson"]] == made.collections[name]


def test_every_ugly_value(tmp_path):
    made = thorough().collections
    found = [
        line
        for name, frame in landed(tmp_path, "dump", made).items()
        for line in told(name, frame, made[name], loosely=False)
    ]
    assert found == [], "\n".join(found[:20])


OID = '{"_id": {"$oid": "507f1f77bcf86cd799439011"}, "name": %s}'
LINES = {
    # Extended JSON in all its ages, and what is canonical of it.
    '{"$oid": "507F1F77BCF86CD799439011"}': '{"$oid":"507f1f77bcf86cd799439011"}',
    '{"$date": "2024-05-06T07:08:09.123+0000"}': '{"$date":{"$numberLong":"1714979289123"}}',
    '{"$date": "2024-05-06T07:08:09Z"}': '{"$date":{"$numberLong":"1714979289000"}}',
    '{"$date": 1714979289123}': '{"$date":{"$numberLong":"1714979289123"}}',
    '{"$date": {"$numberLong": "-1"}}': '{"$date":{"$numberLong":"-1"}}',
    '{"$binary": "YWI=", "$type": "00"}': '{"$binary":{"base64":"YWI=","subType":"00"}}',
    '{"$binary": {"base64": "YWI=", "subType": "80"}}': '{"$binary":{"base64":"YWI=","subType":"80"}}',
    '{"$numberLong": "5"}': '{"$numberLong":"5"}',
    '{"$numberDouble": "-0.0"}': '{"$numberDouble":"-0.0"}',
    '{"$numberDouble": "NaN"}': '{"$numberDouble":"NaN"}',
    '{"$numberDecimal": "1.50"}': '{"$numberDecimal":"1.50"}',
    '{"$undefined": true}': "null",
    '{"$symbol": "s"}': '"s"',
    "5": '{"$numberInt":"5"}',
    "2147483648": '{"$numberLong":"2147483648"}',
    "5.0": '{"$numberDouble":"5.0"}',
    "5e3": '{"$numberDouble":"5000.0"}',
    '"\u2028"': '"\u2028"',
    '"\\ud83d\\ude00"': '"\U0001f600"',
    # What cannot be decoded.
    '{"$oid": "507f1f77bcf86cd79943901"}': None,
    '{"$oid": "zzzf1f77bcf86cd799439011"}': None,
    '{"$date": "yesterday"}': None,
    '{"$date": {"$numberLong": "1.5"}}': None,
    '{"$numberLong": "five"}': None,
    '{"$numberLong": "9223372036854775808"}': None,
    '{"a": 1, "a": 2}': None,
    '[{"a": {"b": 1, "b": 1}}]': None,
}


def test_lines_of_every_age(tmp_path):
    (tmp_path / "modulStatus.json").write_text("".join(OID % value + "\n" for value in LINES), encoding="utf-8")
    lake = Lake(str(tmp_path / "lake"))
    table = LegacyTable("modulStatus", "crm", ("_id", "name", "isVisible"), key=("_id",), documents=True)
    with open_source(str(tmp_path)) as source:
        source.extract(table, lake, ("crm", "legacy", "modulStatus"), "run")
    frame = lake.scan(("crm", "legacy", "modulStatus")).collect()
    assert dict(zip(LINES, frame["name"], strict=True)) == LINES
    assert [why is None for why in frame["_unreadable"]] == [value is not None for value in LINES.values()]
    assert frame["_id"].to_list() == ['{"$oid":"507f1f77bcf86cd799439011"}'] * len(LINES)
