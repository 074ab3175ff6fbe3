"""CSV files as a source: exact text, faults with table, file and line, and never a row's content in a message."""

import csv
import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import csv_files, csv_reading, open_source
from dtx_assets_tests.machinery.sources.landing_place import LandingPlace

PAIR = LegacyTable("pair", "area", ("a", "b"))
SINGLE = LegacyTable("single", "area", ("a",))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "a b"
    directory.mkdir()
    return directory


def land(directory: Path, place: LandingPlace, content: bytes, table: LegacyTable = PAIR):
    (directory / f"{table.name}.csv").write_bytes(content)
    return place.land(str(directory), table)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"a,b\n1,2\n", [("1", "2")]),
        (b"a,b\n1,2", [("1", "2")]),
        (b"a,b\r\n1,2\r\n3,4\r\n", [("1", "2"), ("3", "4")]),
        (b"a,b\r1,2\r3,4\r", [("1", "2"), ("3", "4")]),
        (b"a,b\n", []),
        (b"a,b", []),
        (b"\xef\xbb\xbfa,b\n1,2\n", [("1", "2")]),
        (b'\xef\xbb\xbf"a","b"\n1,2\n', [("1", "2")]),
        (b'"a","b"\n"1","2"\n', [("1", "2")]),
        (b'a,b\n"x\r\ny","say ""hi"", you"\n', [("x\r\ny", 'say "hi", you')]),
        (b'a,b\n\\N,"NULL"\n,""\n', [("\\N", "NULL"), ("", "")]),
        (b'a,b\n 1 ,"\t"\n', [(" 1 ", "\t")]),
        (b'a,b\n5" pipe,x"y\n', [('5" pipe', 'x"y')]),
        (b'a,b\n5" pipe,x\n3,4\n', [('5" pipe', "x"), ("3", "4")]),
        (b"a,b\n\n1,2\n\n\n3,4\n\n", [("1", "2"), ("3", "4")]),
        (b"a,b\n0x00,\x00\n", [("0x00", "\x00")]),
        (b"a,b\n1\\,2\n", [("1\\", "2")]),
    ],
)
def test_rows_land_as_they_are(directory, place, content, rows):
    manifest = land(directory, place, content)
    assert place.rows("pair") == rows
    assert place.frame("pair")["_row"].to_list() == list(range(1, len(rows) + 1))
    facts = manifest.metadata
    assert (facts["columns"], facts["source_rows"], facts["row_count_matches"]) == (["a", "b"], len(rows), True)


@pytest.mark.parametrize(
    ("content", "rows"),
    [(b'a\n1\n\n3\n""\n', [("1",), ("",), ("3",), ("",)]), (b"a\n\n\n", [("",), ("",)]), (b"a\n", []), (b"a", [])],
)
def test_empty_lines_count_in_a_table_of_one_column(directory, place, content, rows):
    assert land(directory, place, content, SINGLE).metadata["row_count_matches"]
    assert place.rows("single") == rows


def test_bytes_that_are_not_utf_8_are_kept_beside_their_escaped_form(directory, place):
    manifest = land(directory, place, b"a,b\n1,caf\xe9\nok,x\n\xff\xfe,\xc3\n")
    assert place.rows("pair") == [("1", "caf\\xe9"), ("ok", "x"), ("\\xff\\xfe", "\\xc3")]
    assert place.undecodable("pair") == [(1, "b", b"caf\xe9"), (3, "a", b"\xff\xfe"), (3, "b", b"\xc3")]
    assert manifest.metadata["undecodable_values"] == 3


def test_a_carriage_return_within_a_field_does_not_make_two_rows(directory, place):
    with pytest.raises(SourceError, match="a carriage return stands in a field that is not quoted") as caught:
        land(directory, place, b'a\n"1\r2"\n3\r4\n', SINGLE)
    assert caught.value.where.endswith("single.csv, line 3")
    land(directory, place, b'a\r\n"1\r2"\r\n3\r\n', SINGLE)
    assert place.rows("single") == [("1\r2",), ("3",)]
    land(directory, place, b"a\r1\r2\r", SINGLE)
    assert place.rows("single") == [("1",), ("2",)]


def test_a_byte_order_mark_before_a_quoted_name(directory, place):
    content = b'\xef\xbb\xbf"a, ""b""\nc",d\n1,2\n'
    assert land(directory, place, content).metadata["columns"] == ['a, "b"\nc', "d"]
    assert place.rows(PAIR.name) == [("1", "2")]


def test_column_names_are_kept_exactly(directory, place):
    names = ["a b", "50%", "#", "it's", "a/b?", 'say "x"', "Größe", " ", "line\nbreak", "A", "a"]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([names, range(len(names))])
    assert land(directory, place, buffer.getvalue().encode(), SINGLE).metadata["columns"] == names
    assert place.frame("single").columns == [*names, "_row", "_undecodable"]
    assert place.rows("single") == [tuple(map(str, range(len(names))))]


@pytest.mark.parametrize(
    ("content", "what", "line"),
    [
        (b"a,b\n1,2\nSECRET\n", "a row of 1 field, where the header has 2", 3),
        (b'a,b\n"x\ny",2\n\nSECRET,2,3\n', "a row of 3 fields, where the header has 2", 5),
        (b"a,b\n1,2\rSECRET\r", "a row of 1 field, where the header has 2", 3),
        (b'a,b\n1,2\n3,"SECRET\n5,6\n', "a quote is opened and never closed", 3),
        (b'a,b\n1,2\n"SECRET', "a quote is opened and never closed", 3),
        (b'a,"b\n1,2\n', "a quote is opened and never closed", 1),
        (b"", "the file is empty", 1),
        (b"\n1,2\n", "the file is empty", 1),
        (b"a;b\n1;2\n", "its fields are separated by semicolons", 1),
        (b"a\tb\n1\t2\n", "its fields are separated by tabs", 1),
        (b"a,a\n1,2\n", "two columns are called a", 1),
        (b"a,\n1,2\n", "column 2 has no name", 1),
        (b"a,\xff\n1,2\n", "a column name is not UTF-8", 1),
        ("a,b\n1,2\n".encode("utf-16"), "the file is UTF-16", 1),
    ],
)
def test_faults_are_told_with_table_file_and_line(directory, place, content, what, line):
    with pytest.raises(SourceError) as caught:
        land(directory, place, content)
    assert caught.value.what.startswith(f"pair: {what}")
    assert caught.value.where == f"{directory / 'pair.csv'}, line {line}"
    assert caught.value.remedy
    assert "SECRET" not in str(caught.value)
    assert place.is_untouched("pair")


def test_a_name_that_the_lake_needs_itself(directory, place):
    with pytest.raises(SourceError, match="pair has a column called _row"):
        land(directory, place, b"_row,b\n1,2\n")
    assert place.is_untouched("pair")


def test_a_fault_after_a_good_landing_leaves_it_in_place(directory, place):
    land(directory, place, b"a,b\n1,2\n")
    with pytest.raises(SourceError):
        land(directory, place, b"a,b\n1,2\n3\n")
    assert place.rows("pair") == [("1", "2")]


def test_fields_larger_than_a_block(directory, place, monkeypatch):
    monkeypatch.setattr(csv_reading, "FIRST_BLOCK", 1 << 16)
    large = 'line\nwith, "quotes"\n' * 100_000
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["a", "b"], *[[n, "x" * 50] for n in range(3000)], ["large", large], ["last", ""]])
    manifest = land(directory, place, buffer.getvalue().encode())
    frame = place.frame("pair")
    assert frame["a"].to_list() == [*map(str, range(3000)), "large", "last"]
    assert frame["b"][3000] == large
    assert manifest.metadata["row_count_matches"]


def test_a_quote_left_open_early_in_a_large_file_is_found_by_its_line(directory, place, monkeypatch):
    monkeypatch.setattr(csv_reading, "FIRST_BLOCK", 1 << 16)
    with pytest.raises(SourceError, match="never closed") as caught:
        land(directory, place, b'a,b\n1,2\n3,"4\n' + b"5,6\n" * 100_000)
    assert caught.value.where.endswith("pair.csv, line 3")


def test_a_record_that_is_too_large_is_told_by_its_line(directory, place, monkeypatch):
    monkeypatch.setattr(csv_reading, "FIRST_BLOCK", 1 << 10)
    monkeypatch.setattr(csv_reading, "LAST_BLOCK", 1 << 12)
    with pytest.raises(SourceError, match="a record has 5,003 bytes") as caught:
        land(directory, place, b"a,b\n1,2\n3," + b"x" * 5_000 + b"\n5,6\n")
    assert caught.value.where.endswith("pair.csv, line 3")


def test_what_has_not_changed_is_not_read_into_the_lake_again(directory, place):
    first = land(directory, place, b"a,b\n1,2\n")
    os.utime(directory / "pair.csv", (1, 1))
    assert place.land(str(directory), PAIR, run_id="two") == first
    (directory / "pair.csv").write_bytes(b"a,b\n1,3\n")
    assert place.land(str(directory), PAIR, run_id="three").run_id == "three"
    assert place.rows("pair") == [("1", "3")]


def test_a_file_that_changes_while_it_is_read(directory, place):
    path = directory / "pair.csv"
    path.write_bytes(b"a,b\n1,2\n")

    def append(_rows: int) -> None:
        with path.open("ab") as stream:
            stream.write(b"3,4\n")

    with open_source(str(directory)) as source, pytest.raises(SourceError, match="changed while it was read"):
        source.extract(PAIR, place.lake, ("toy", "legacy", "pair"), "r", append)
    assert place.is_untouched("pair")


@pytest.mark.parametrize("content", [b"a,b\n1,2\n3,4\n", b'a,b\n"1\n",2\n3,4'])
def test_rows_that_do_not_arrive_are_missed(directory, place, monkeypatch, content):
    whole = csv_reading.CsvFile.batches
    monkeypatch.setattr(csv_reading.CsvFile, "batches", lambda *args: (batch.slice(1) for batch in whole(*args)))
    facts = land(directory, place, content).metadata
    assert (facts["source_rows"], facts["row_count_matches"]) == (2, False)
    assert place.rows("pair") == [("3", "4")]


def test_progress_counts_rows(directory, place, monkeypatch):
    monkeypatch.setattr(csv_reading, "FIRST_BLOCK", 1 << 12)
    (directory / "pair.csv").write_bytes(b"a,b\n" + b"1,2\n" * 5000)
    seen: list[int] = []
    with open_source(str(directory)) as source:
        source.extract(PAIR, place.lake, ("toy", "legacy", "pair"), "r", seen.append)
    assert seen[-1] == 5000
    assert len(seen) > 2
    assert seen == sorted(seen)


def test_missing_files_and_directories(directory, place):
    (directory / "letter.csv").write_bytes(b"a\n")
    with pytest.raises(SourceError, match="the table pair is missing") as caught:
        place.land(str(directory), PAIR)
    assert caught.value.where == str(directory / "pair.csv")
    assert caught.value.remedy.endswith("letter")
    with pytest.raises(SourceError, match="no such directory") as caught:
        place.land(str(directory / "none"), PAIR)
    assert caught.value.where == str(directory / "none")


def test_paths_and_file_urls(directory, place):
    (directory / "pair.csv").write_bytes(b"a,b\n1,2\n")
    for url in (str(directory), directory.as_uri(), f"file://{directory}"):
        place.land(url, PAIR)
        assert place.rows("pair") == [("1", "2")]


def test_other_kinds_of_urls_are_refused_without_their_password():
    with pytest.raises(ConfigurationError, match="cannot be read from oracle://") as caught:
        open_source("oracle://u:s3cret@h/d")
    assert "s3cret" not in str(caught.value)


FIELD = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["", "NULL", "\\N", '"', '""', "\r", "\n", "\r\n", ",", "\ufeff", "\x00", " ", "0000-00-00", "é" * 9, "\\x41"]
)


@settings(max_examples=120)
@given(
    rows=st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(FIELD, min_size=n, max_size=n), max_size=8)),
    terminator=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@example(rows=[["", ""]], terminator="\n", quoting=csv.QUOTE_MINIMAL)
def test_any_table_of_text_lands_and_reads_back_identical(directory, place, rows, terminator, quoting):
    columns = [f"c{position}" for position in range(len(rows[0]) if rows else 2)]
    buffer = io.StringIO(newline="")
    if any("\r" in field for row in rows for field in row):
        # With LF as its line end, Python's writer does not quote a lone CR, and no reader could tell what it is.
        quoting = csv.QUOTE_ALL
    csv.writer(buffer, lineterminator=terminator, quoting=quoting).writerows([columns, *rows])
    land(directory, place, buffer.getvalue().encode())
    assert place.rows("pair") == [tuple(row) for row in rows]


@settings(max_examples=60)
@given(rows=st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=8))
def test_no_byte_is_ever_lost(directory, place, rows):
    content = b"a,b\n" + b"".join(b",".join(b'"' + f.replace(b'"', b'""') + b'"' for f in row) + b"\n" for row in rows)
    land(directory, place, content)
    lost = {(row, column): value for row, column, value in place.undecodable("pair")}
    read_back = [
        tuple(lost.get((number, column), text.encode()) for column, text in zip("ab", row, strict=True))
        for number, row in enumerate(place.rows("pair"), 1)
    ]
    assert read_back == rows


# --- a file of its own dialect ----------------------------------------------------------------------------------------


def land_alone(directory: Path, place: LandingPlace, content: bytes, **dialect: Any):
    path = directory / "own.file"
    path.write_bytes(content)
    with csv_files.CsvAlone(str(path), csv_files.CsvDialect(**dialect)) as source:
        return place.land_from(source, PAIR)


@pytest.mark.parametrize(
    ("content", "dialect", "rows"),
    [
        (b"a,b\n1,2\n", {}, [("1", "2")]),
        (b"a;b\r\n'1;\r\n''x';2,3\r\n", {"delimiter": ";", "quote": "'"}, [("1;\r\n'x", "2,3")]),
        (b'a\tb\n"1\t2"\n', {"delimiter": "\t", "quote": None}, [('"1', '2"')]),
        (b"1|2\n3|4", {"delimiter": "|", "names": ("a", "b")}, [("1", "2"), ("3", "4")]),
        (b'1,"2\n"\n', {"names": ("a", "b")}, [("1", "2\n")]),
        (b"", {"names": ("a", "b")}, []),
        (b"\n\n", {"names": ("a", "b")}, []),
        (b"a,b\ncaf\xe9,\x80\n", {"encoding": "windows-1252"}, [("café", "€")]),
        (b"a,b\n\x81,\xe9\x9d\n", {"encoding": "windows-1252"}, [("\\x81", "é\\x9d")]),
        ("a,b\né,\U0001f600\n".encode("utf-16"), {"encoding": "utf-16"}, [("é", "\U0001f600")]),
        (b"\xef\xbb\xbfa,b\n1,2\n", {"encoding": "utf-8-sig"}, [("1", "2")]),
        (b"\xef\xbb\xbf1,2\n", {"names": ("a", "b")}, [("1", "2")]),
    ],
)
def test_a_file_of_another_dialect_lands_as_it_is(directory, place, content, dialect, rows):
    manifest = land_alone(directory, place, content, **dialect)
    assert place.rows("pair") == rows
    assert (manifest.metadata["source_rows"], manifest.metadata["row_count_matches"]) == (len(rows), True)
    assert land_alone(directory, place, content, **dialect) == manifest


@pytest.mark.parametrize(
    ("content", "dialect", "message", "line"),
    [
        (b"a;b\n1;2;3\n", {"delimiter": ";"}, "a row of 3 fields, where the header has 2", 2),
        (b"1;2\n1\n", {"delimiter": ";", "names": ("a", "b")}, "a row of 1 field, where `names` lists 2", 2),
        (b"a;b\n'1;2\n", {"delimiter": ";", "quote": "'"}, "a quote is opened and never closed", 2),
        (b"a,b\n1,2\n", {"delimiter": ";"}, "its fields are separated by commas.*export it with semicolons", 1),
        (b"\xff\xfea\x00", {}, "the file is UTF-16", 1),
        (b"a,b", {"encoding": "utf-16"}, "the file is not utf-16", None),
    ],
)
def test_faults_of_a_file_of_another_dialect_name_the_line(directory, place, content, dialect, message, line):
    with pytest.raises(SourceError) as caught:
        land_alone(directory, place, content, **dialect)
    assert re.search(message, str(caught.value), re.DOTALL)
    assert caught.value.where.endswith("own.file" if line is None else f"own.file, line {line}")
    assert place.is_untouched("pair")


def test_a_record_longer_than_a_block_of_another_dialect(directory, place, monkeypatch):
    monkeypatch.setattr(csv_reading, "FIRST_BLOCK", 64)
    long = "x\n" * 500
    land_alone(directory, place, f"'{long}';1\n2;3\n".encode(), delimiter=";", quote="'", names=("a", "b"))
    assert place.rows("pair") == [(long, "1"), ("2", "3")]
