"""Landed tables as flows read them: NULLs by dialect and kind, keys that name a row."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import product

import polars as pl
import pytest

from dtx_assets.machinery.base.errors import SourceError, StructureError
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import whole_rows
from dtx_assets.machinery.sources.frames import has_key, key_elements, legacy_frame, may_have_key, source_key
from dtx_assets.machinery.sources.whole_rows import json_of_rows
from dtx_assets_tests.machinery.sources.landing_place import LandingPlace

KINDS = {"id": "integer", "code": "code", "day": "date", "at": "time"}


def table(*columns: str, **options) -> LegacyTable:
    return LegacyTable("t", "area", columns, kind_of=lambda name: KINDS.get(name, "text"), **options)


def landed(place: LandingPlace, frame: pl.DataFrame, dialect: str = "csv", layer: str = "legacy") -> None:
    with place.lake.write(("toy", layer, "t"), run_id="r") as writer:
        writer.add(frame.with_row_index("_row", 1).with_columns(pl.col("_row").cast(pl.Int64)))
        writer.metadata.update(dialect=dialect, source="where it was")


COLUMNS = ("id", "code", "day", "at", "text")
MARKERS = ["", "NULL", "\\N", " ", "null", "x"]


def test_nulls_of_a_csv_go_by_marker_and_kind(place):
    landed(place, pl.DataFrame(dict.fromkeys(COLUMNS, MARKERS)))
    frame = legacy_frame(place.lake, "toy", table(*COLUMNS)).collect()
    assert frame["text"].to_list() == ["", None, None, " ", "null", "x"]
    for column in ("id", "code", "day", "at"):
        assert frame[column].to_list() == [None, None, None, " ", "null", "x"]
    assert frame["_row"].to_list() == [1, 2, 3, 4, 5, 6]


def test_of_a_database_nothing_but_null_is_null(place):
    values = [*MARKERS, None]
    landed(place, pl.DataFrame(dict.fromkeys(COLUMNS, values)), "database")
    frame = legacy_frame(place.lake, "toy", table(*COLUMNS)).collect()
    assert all(frame[column].to_list() == values for column in COLUMNS)


def test_missing_columns(place):
    landed(place, pl.DataFrame({"id": ["1"], "extra": ["e"]}))
    frame = legacy_frame(place.lake, "toy", table("id", "text", required=("id",))).collect()
    assert frame.drop("_row").to_dicts() == [{"id": "1", "extra": "e", "text": None}]
    assert frame.schema["text"] == pl.String
    with pytest.raises(SourceError, match="t lacks the required columns text, day\n") as caught:
        legacy_frame(place.lake, "toy", table("id", required=("id", "text", "day", "text")))
    assert caught.value.where == "where it was"
    assert "id, extra" in caught.value.remedy
    named = replace(table("id", required=("day",)), named_at="feed.yaml:3")
    with pytest.raises(SourceError, match=r"at: where it was, of which feed\.yaml:3 names columns\n.*correct the name"):
        legacy_frame(place.lake, "toy", named)


def test_a_table_that_was_not_landed(place):
    with pytest.raises(StructureError, match="toy/legacy/t has not been materialised"):
        legacy_frame(place.lake, "toy", table("id"))


def test_crosswalks_lie_in_a_layer_of_their_own(place):
    landed(place, pl.DataFrame({"id": ["NULL"]}), layer="crosswalk")
    assert legacy_frame(place.lake, "toy", table("id"), layer="crosswalk").collect()["id"].to_list() == [None]


def keys(place: LandingPlace, declared: LegacyTable, frame: pl.DataFrame) -> list[str | None]:
    landed(place, frame, "database")
    keyed = source_key(declared, legacy_frame(place.lake, "toy", declared)).collect()
    assert keyed["_row"].is_sorted()
    assert set(keyed.columns) == {*frame.columns, "_row", "_source_key"}
    return keyed["_source_key"].to_list()


def test_a_key_of_one_column_is_its_text_integers_the_one_way(place):
    ids = ["12", "12.0", "012", "-3", " 4", "x", "", None, "99999999999999999999"]
    assert keys(place, table("id", key=("id",)), pl.DataFrame({"id": ids})) == [
        "12",
        "12",
        "12",
        "-3",
        " 4",
        "x",
        "",
        None,
        "99999999999999999999",
    ]
    assert keys(place, table("text", key=("text",)), pl.DataFrame({"text": ["012", "a b"]})) == ["012", "a b"]


def test_a_key_of_several_columns_is_a_json_array_of_texts(place):
    texts = ['say "hi"\\', "tab\tnew\nline\x00\x01", "é", "", None]
    found = keys(
        place,
        table("id", "text", key=("id", "text")),
        pl.DataFrame({"id": ["1.0", "2", "3", None, "5"], "text": texts}),
    )
    assert [json.loads(key) for key in found] == [
        ["1", texts[0]],
        ["2", texts[1]],
        ["3", "é"],
        [None, ""],
        ["5", None],
    ]
    assert found[2] == '["3","é"]'


def test_rows_of_a_key_that_repeats_are_told_apart_by_their_ordinal(place):
    frame = pl.DataFrame({"id": ["1", "2", "1.0", "1", "2", None, None], "text": ["a", "a", "a", "b", "a", "c", "c"]})
    declared = table("id", "text", key=("id", "text"), key_repeats=True)
    assert keys(place, declared, frame) == [
        '["1","a"]',
        '["2","a"]',
        '["1","a","2"]',
        '["1","b"]',
        '["2","a","2"]',
        '[null,"c"]',
        '[null,"c","2"]',
    ]
    assert keys(place, table("id", key=("id",), key_repeats=True), pl.DataFrame({"id": ["7", "7", "8", "7.0"]})) == [
        '["7"]',
        '["7","2"]',
        '["8"]',
        '["7","3"]',
    ]


def test_without_a_key_a_row_is_named_by_its_ordinal(place):
    assert keys(place, table("text"), pl.DataFrame({"text": ["a", "a", None]})) == ["1", "2", "3"]


UGLY_IDS = ["7", "7.0", "007", "-7", "-07", "77", "0", "-0", "", " 7", "x", "NULL", None, "99999999999999999999"]
UGLY_TEXTS = ["a", "A", " a", "", "NULL", "\\N", None, 'say "hi"\\', "tab\t\x00\x01", "é", "7", "[1]"]
KEYED = {
    "an integer": table("id", "text", key=("id",)),
    "a text": table("id", "text", key=("text",)),
    "both": table("id", "text", key=("id", "text")),
    "both, which repeat": table("id", "text", key=("id", "text"), key_repeats=True),
    "an integer that repeats": table("id", "text", key=("id",), key_repeats=True),
}


@pytest.mark.parametrize("declared", KEYED.values(), ids=KEYED)
@pytest.mark.parametrize("dialect", ["csv", "database"])
def test_every_row_is_found_by_its_key_and_no_other_is(place, declared, dialect):
    """Of all pairs, some of them twice: by a cheap look at what was landed, and then by the key itself."""
    pairs = [*product(UGLY_IDS, UGLY_TEXTS), ("7", "a"), ("007", "a"), (None, None)]
    landed(place, pl.DataFrame(pairs, schema=["id", "text"], orient="row"), dialect)
    rows_of: dict[str, list[int]] = {}
    keyed = source_key(declared, legacy_frame(place.lake, "toy", declared)).collect()
    for row, key in keyed.select("_row", "_source_key").iter_rows():
        if key is not None:
            elements = key_elements(declared, key)
            rows_of.setdefault(json.dumps(elements[: len(declared.key)]), []).append(row)
    for text, rows in rows_of.items():
        elements = json.loads(text)
        maybe = legacy_frame(place.lake, "toy", declared, where=may_have_key(declared, elements))
        assert maybe.filter(has_key(declared, elements)).collect()["_row"].to_list() == rows, text


def test_what_can_be_no_key_is_none(place):
    both, repeating = KEYED["both"], KEYED["both, which repeat"]
    for key in ("7", "[", '["7"]', '["7","a","2"]', '{"id":"7"}', '["7",1]'):
        assert key_elements(both, key) is None, key
    for key in ('["7"]', '["7","a","b"]', '["7","a",null]', '["7","a","2","3"]'):
        assert key_elements(repeating, key) is None, key
    assert key_elements(repeating, '["7", "a", "2"]') == ["7", "a", "2"]
    assert key_elements(KEYED["an integer"], "[") == ["["]
    assert key_elements(table("id"), "1") is None


def test_blank_text_may_be_null_in_columns_that_are_no_text(tmp_path, place):
    with closing(sqlite3.connect(tmp_path / "legacy.db")) as connection, connection:
        connection.execute("CREATE TABLE t (id, text, day, code)")
        connection.execute("INSERT INTO t VALUES (' ', ' ', '', ' a '), ('1', '', '\u00a0', 'b')")
    place.land(f"sqlite:///{tmp_path / 'legacy.db'}", "t")
    declared = table("id", "text", "day", "code")
    as_stored = legacy_frame(place.lake, "toy", declared).select("id", "text", "day", "code").collect()
    assert as_stored.rows() == [(" ", " ", "", " a "), ("1", "", "\u00a0", "b")]
    frame = legacy_frame(place.lake, "toy", replace(declared, blank_is_null=True))
    assert frame.select("id", "text", "day", "code").collect().rows() == [
        (None, " ", None, " a "),
        ("1", "", None, "b"),
    ]


def test_uuids_that_are_one_key_have_one_text(place, tmp_path):
    with closing(sqlite3.connect(tmp_path / "legacy.db")) as connection, connection:
        connection.execute("CREATE TABLE t (key)")
        connection.executemany(
            "INSERT INTO t VALUES (?)", [("{0000000A-0000-0000-0000-000000000001}",), ("0" * 32,), ("none",)]
        )
    place.land(f"sqlite:///{tmp_path / 'legacy.db'}", "t")
    declared = LegacyTable("t", "area", ("key",), key=("key",), kind_of=lambda _: "uuid")
    keys = source_key(declared, legacy_frame(place.lake, "toy", declared)).collect()["_source_key"].to_list()
    assert keys == ["0000000a-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000000", "none"]
    for key in keys:
        elements = key_elements(declared, key)
        maybe = legacy_frame(place.lake, "toy", declared, where=may_have_key(declared, elements))
        assert maybe.filter(has_key(declared, elements)).collect().height == 1, key


def test_rows_are_told_alike_however_large_their_texts_are(monkeypatch):
    """Texts of any characters, NUL and escapes among them, piece by piece and by Polars; and those of a mask."""
    texts = ["\x00", "\x00\x00\x00", "\\\x00", "\\\\u0000\x00", "\\u0000", '"é"', "注\n\t\x1f\x7f", "😀" * 9, "", None]
    frame = pl.DataFrame({"one": texts, "other": texts[::-1]})
    columns = {"é": "one", 'a"\x00': "other"}
    only = pl.Series([True, False] * 5)
    whole, some = json_of_rows(frame, columns), json_of_rows(frame, columns, only)

    def spelt(text):
        return None if text is None else text.replace("\x00", "\\x00")

    assert [json.loads(row) for row in whole] == [
        {"é": spelt(one), 'a"\\x00': spelt(other)} for one, other in frame.iter_rows()
    ]
    assert some.to_list() == whole.filter(only).to_list()
    monkeypatch.setattr(whole_rows, "LARGE_TEXT", 4)
    monkeypatch.setattr(whole_rows, "PIECE", 3)
    assert json_of_rows(frame, columns).to_list() == whole.to_list()
    assert json_of_rows(frame, columns, only).to_list() == some.to_list()
    assert json_of_rows(frame.tail(1), columns).to_list() == whole.tail(1).to_list()
    assert json_of_rows(frame.clear(), columns).to_list() == []
