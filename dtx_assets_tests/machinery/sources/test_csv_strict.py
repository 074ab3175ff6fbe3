"""A CSV file is read exactly as RFC 4180 says, or refused by name; files that are no CSV are told by what they are."""

import bz2
import gzip
import io
import lzma
import sqlite3
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import csv_reading
from dtx_assets.machinery.sources.csv_dialect import CsvDialect
from dtx_assets.machinery.sources.csv_files import CsvAlone
from dtx_assets_tests.machinery.sources.landing_place import LandingPlace

PAIR = LegacyTable("pair", "area", ("a", "b"))
NUMBERS = LegacyTable("numbers", "area", ("id",), kind_of=lambda _name: "integer")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "export"
    directory.mkdir()
    return directory


def land(directory: Path, place: LandingPlace, content: bytes, table: LegacyTable = PAIR):
    (directory / f"{table.name}.csv").write_bytes(content)
    return place.land(str(directory), table)


def refusal(directory: Path, place: LandingPlace, content: bytes, table: LegacyTable = PAIR) -> SourceError:
    with pytest.raises(SourceError) as caught:
        land(directory, place, content, table)
    assert caught.value.remedy
    assert "SECRET" not in str(caught.value)
    assert place.is_untouched(table.name)
    return caught.value


@pytest.mark.parametrize(
    ("content", "what", "line"),
    [
        (b'a,b\n"1" ,2\n', "text stands after a closing quote", 2),
        (b'a,b\n"x\ny"SECRET,2\n', "text stands after a closing quote, of a field that begins in line 2", 3),
        (b'a,b\n1,"He said \\"hi\\" twice"\n', "text stands after a closing quote, and a backslash before it", 2),
        (b'a,b\n1,2\n3,"4" "5"\n', "text stands after a closing quote", 3),
        (b'"a"x,b\n1,2\n', "text stands after a closing quote", 1),
        (b'a,b\n1,5" pipe\n1,"2"3\n', "text stands after a closing quote", 3),
        (b'a,b\n1, "2"\n', "a blank stands before a quote", 2),
        (b'a,b\n1,\t"2"\n', "a blank stands before a quote", 2),
        (b'a,b\n1,2\n\xef\xbb\xbf"3",4\n', "a byte-order mark stands before a quote in the middle of the file", 3),
        (b'a,b\n5" pipe,x\n1,"2\n', "a quote is opened and never closed", 3),
        (b"a,b\n1,2\r\n3,4\n", "a line ends in CRLF, where the first one ends in LF", 2),
        (b"a,b\r\n1,2\n3,4\r\n", "a line ends in LF, where the first one ends in CRLF", 2),
        (b"a,b\n1,2\r3,4\n", "a carriage return stands in a field that is not quoted", 2),
        (b"a,b\r\n1,2\r\r\n3,4\r\n", "a carriage return stands in a field that is not quoted", 2),
        (b"a,b\n1,2\nb,a\n3,4\n", "the header line comes again among the rows", 3),
        (b'a,b\n"x\ny",2\n\xef\xbb\xbfa,b\n3,4\n', "the header line comes again among the rows", 4),
        (b'a,b\n1,2\n"A","B "\n3,4\n', "the header line comes again among the rows", 3),
        (b"a\x01,b\n1,2\n", "a column name holds a control character", 1),
        (b" \n1\n", "the file is empty", 1),
        (b"\xef\xbb\xbf", "the file is empty", 1),
        (b'a;b,"c;d"\n1;2,3\n', "its fields are separated by semicolons", 1),
    ],
)
def test_what_readers_would_alter_is_refused_by_name(directory, place, content, what, line):
    error = refusal(directory, place, content)
    assert error.what.startswith(f"pair: {what}")
    assert error.where == f"{directory / 'pair.csv'}, line {line}"


def test_the_remedy_names_the_dialect_of_mysql(directory, place):
    error = refusal(directory, place, b'a,b\n1,"He said \\"hi\\""\n')
    assert "INTO OUTFILE" in error.remedy
    assert r'`escape: "\\"` in its dialect' in error.remedy


def test_a_header_of_one_column_comes_again_where_it_can_be_no_value(directory, place):
    assert "header line comes again" in refusal(directory, place, b"id\n1\nid\n2\n", NUMBERS).what
    land(directory, place, b"word\nword\n", LegacyTable("words", "area", ("word",)))
    assert place.rows("words") == [("word",)]


def test_a_header_line_where_the_dialect_names_the_columns(directory, place):
    (directory / "x").write_bytes(b"b,a\n1,2\n")
    source = CsvAlone(str(directory / "x"), CsvDialect(names=("a", "b")))
    with pytest.raises(SourceError, match="the first line names the columns, and so does the dialect"):
        place.land_from(source, PAIR)


PIECES = st.sampled_from(['"', '""', ",", "\n", "\r\n", "\r", "a", "b", " ", "\\", ";", "\t", "\ufeff", "é"])


@settings(max_examples=400)
@given(pieces=st.lists(PIECES, max_size=24), block=st.sampled_from([1, 2, 3, 5, 8 << 20]))
@example(pieces=['"', "\r\n", '"', ",", "b", "\r\n"], block=3)
@example(pieces=['"', "a", '"', '"', ",", "b", "\n"], block=2)
def test_any_text_is_read_exactly_or_refused(directory, place, monkeypatch, pieces, block):
    monkeypatch.setattr(csv_reading, "FIRST_BLOCK", block)
    body = "".join(pieces)
    line_end = next((end for end in ("\r\n", "\n", "\r") if end in body), "\n")
    expected = strict_records("x,y" + line_end + body)
    try:
        manifest = land(directory, place, ("x,y" + line_end + body).encode())
    except SourceError:
        return
    assert expected is not None
    rows = [tuple(record) for record in expected[1:] if record != [""]]
    assert place.rows("pair") == rows
    assert manifest.metadata["row_count_matches"]


def strict_records(text: str) -> list[list[str]] | None:
    """The records of RFC 4180, a character at a time; None where it is something else."""
    records, record, place, ends = [], [], 0, set()
    while place < len(text):
        if text[place] == '"':
            field, place = "", place + 1
            while True:
                if place >= len(text):
                    return None
                if text[place] != '"':
                    field, place = field + text[place], place + 1
                elif text[place : place + 2] == '""':
                    field, place = field + '"', place + 2
                else:
                    place += 1
                    break
        else:
            start = place
            while place < len(text) and text[place] not in ",\r\n":
                place += 1
            field = text[start:place]
        record.append(field)
        if place == len(text):
            break
        if text[place] == ",":
            place += 1
            if place == len(text):
                record.append("")
            continue
        end = "\r\n" if text.startswith("\r\n", place) else text[place]
        if end not in ("\n", "\r\n", "\r"):
            return None
        ends.add(end)
        place += len(end)
        records.append(record)
        record = []
    return [*records, record] if record and len(ends) < 2 else records if len(ends) < 2 else None


def test_a_field_with_a_quote_in_it_is_counted_in_a_file_of_many_blocks(directory, place, monkeypatch):
    monkeypatch.setattr(csv_reading, "FIRST_BLOCK", 1 << 10)
    rows = [('5" pipe', "x" * 900), ('"quoted\n"'.replace('"', ""), 'y"')] * 20
    content = b"a,b\n" + b"".join(
        b",".join(b'"' + v.encode() + b'"' if "\n" in v else v.encode() for v in row) + b"\n" for row in rows
    )
    content += b"1," + b"z" * 5_000 + b"\n"
    assert land(directory, place, content).metadata["row_count_matches"]
    assert place.rows("pair") == [*rows, ("1", "z" * 5_000)]


def test_a_large_field_costs_a_few_times_its_size(tmp_path):
    """Landed and archived in a process of its own, whose peak of memory is beyond what it has to begin with."""
    script = textwrap.dedent(
        f"""
        import resource
        from pathlib import Path
        from dtx_assets.machinery.archive.store import archive_table
        from dtx_assets.machinery.base.lake import Lake, open_archive
        from dtx_assets.machinery.model.legacy import LegacyTable
        from dtx_assets.machinery.sources import open_source

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

        directory, table = Path({str(tmp_path)!r}), LegacyTable("pair", "area", ("a", "b"))
        lake, stored = Lake(str(directory / "lake")), open_archive(str(directory / "archive"))

        def taken():
            with open_source(str(directory)) as source:
                source.extract(table, lake, ("toy", "legacy", "pair"), "r")
            archive_table(lake, stored, "toy", "pair", "r")

        (directory / "pair.csv").write_bytes(b"a,b\\n1,2\\n")
        taken()
        with (directory / "pair.csv").open("wb") as stream:
            stream.write(b'a,b\\n1,"')
            for _ in range(48):
                stream.write(b"text, in\\nlines " * (1 << 16))
            stream.write(b'"\\n')
        before = peak()
        taken()
        print(peak() - before, (directory / "pair.csv").stat().st_size >> 20)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    used, size = map(int, done.stdout.split())
    assert used < 8 * size, f"{used} MB for a field of {size} MB"


# --- files that are no CSV --------------------------------------------------------------------------------------------


def parquet() -> bytes:
    stream = io.BytesIO()
    pl.DataFrame({"a": [1], "b": [2]}).write_parquet(stream)
    return stream.getvalue()


def feather() -> bytes:
    stream = io.BytesIO()
    pl.DataFrame({"a": [1], "b": [2]}).write_ipc(stream)
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("pair.csv", "a,b\n1,2\n")
    return stream.getvalue()


def sqlite_file() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE pair (a, b)")
        return connection.serialize()


CSV = b"a,b\n1,2\n"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (parquet(), "is Parquet"),
        (feather(), "is Arrow"),
        (sqlite_file(), "is a SQLite database"),
        (zipped(), "is a workbook or another zip archive"),
        (gzip.compress(CSV), "is compressed (gzip)"),
        (bz2.compress(CSV), "is compressed (bzip2)"),
        (lzma.compress(CSV), "is compressed (xz)"),
        (lzma.compress(CSV, lzma.FORMAT_ALONE), "is compressed (lzma)"),
        (b"\x28\xb5\x2f\xfd\x20\x08\x41\x00\x00a,b\n1,2\n", "is compressed (zstd)"),
        (b"a" * 257 + b"ustar\x0000", "is an archive (tar)"),
        (b"a" * 8 + b"DUCK@" + bytes(7), "is a database of DuckDB"),
        (b"Salted__" + bytes(range(8)), "is encrypted"),
        (b"-----BEGIN PGP MESSAGE-----\n\nabc\n", "is encrypted"),
        (b"<stata_dta><header>", "is a file of Stata"),
        (b"$FL2@(#) IBM SPSS\n", "is a file of SPSS"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ", "is what macOS keeps beside a file"),
        (b"<books>\n  <book/></books>", "is a page of HTML or XML"),
        (b"---\n- a: 1\n  b: 2\n", "is YAML"),
        (b'psql: error: connection to server at "db" failed\n', "begins with a message of the program"),
        (b"mysql: [Warning] Using a password on the command line\na,b\n1,2\n", "begins with a message of the program"),
        (b"An error occurred (403) when calling the GetObject operation\n", "begins with a message of the program"),
        (b"\n\na,b\n1,2\n", "is empty in its first line"),
        (b"%PDF-1.7\n", "is a PDF"),
        (b'[{"a": 1, "b": 2}]', "is JSON"),
        (b'{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n', "is JSON"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html></html>", "is a page of HTML or XML"),
        (b"<Error><Code>AccessDenied</Code></Error>", "is a page of HTML or XML"),
        (b"-- MySQL dump 10.13\n--\n", "is a script of SQL"),
        (b"/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n", "is a script of SQL"),
        (b"INSERT INTO `pair` VALUES (1,2);\n", "is a script of SQL"),
        (b"PGDMP\x01\x0e", "is a dump of PostgreSQL"),
        (b"sep=;\na;b\n1;2\n", "begins with Excel's line sep=;"),
        (b'\xef\xbb\xbf"sep=,"\r\na,b\r\n', "begins with Excel's line sep=,"),
        (b"+---+---+\n| a | b |\n+---+---+\n", "is a table drawn in text"),
        (b" a | b \n---+---\n 1 | 2\n(1 row)\n", "is a table drawn in text"),
        (b"2026-01-01 12:00:00,123 INFO started\n2026-01-01 12:00:01,004 INFO done\n", "begins with a time or a level"),
        (b'127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 2326\n', "begins with a time or a level"),
        (b"Jan  1 12:00:00 host cron[1]: a, b\n", "begins with a time or a level"),
        (b"ERROR: could not connect, try again\n", "begins with a time or a level"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
        (b"a,\x00b\n1,2\n", "has a NUL in its header line"),
        (b"\x00" * 512, "has a NUL in its header line"),
        (b"\xef\xbb\xbf\xef\xbb\xbfa,b\n", "begins with two byte-order marks"),
        ("a,b\n1,2\n".encode("utf-32"), "is UTF-32"),
        *(
            (text.encode(encoding), f"is {encoding.upper()} without a byte-order mark")
            for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
            for text in ("a", "a,b\n1,2\n", "имя,город\n1,Москва\n", "名前,都市\n1,東京\n", "a,b\n" + "1,é€\n" * 9_000)
        ),
    ],
    # Not by the bytes, which differ from process to process.
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_what_is_no_csv_is_told_by_its_kind(directory, place, content, what):
    error = refusal(directory, place, content)
    assert error.what.startswith(f"pair: the file {what}"), error
    assert error.where == f"{directory / 'pair.csv'}, line 1"


def test_compressed_files_are_told_where_another_encoding_is_declared(directory, place):
    (directory / "x").write_bytes(gzip.compress(CSV))
    with pytest.raises(SourceError, match=r"the file is compressed \(gzip\)"):
        place.land_from(CsvAlone(str(directory / "x"), CsvDialect(encoding="windows-1252")), PAIR)


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n0x00,\x00\n",
        b"[id],{x}\n1,2\n",
        b"ORDER,Objects\n1,2\n",
        b"set,use\n1,2\n",
        b"ERRORS,b\n1,2\n",
        b"sepal,b\n1,2\n",
        b"BZ,b\n1,2\n",
        b"<TICKER>,<PER>\n1,2\n",
        b"shell: sh,mysql: x\n1,2\n",
        b"---,-\n1,2\n",
        b"id,name\nDUCK,2\n",
    ],
)
def test_csv_is_not_taken_for_something_else(directory, place, content):
    assert len(land(directory, place, content).metadata["columns"]) == 2
    assert len(place.rows("pair")) == 1


def test_nuls_are_content_where_the_dialect_names_the_columns(directory, place):
    (directory / "x").write_bytes(b"1,\x00\x00\n\x00,2\n")
    place.land_from(CsvAlone(str(directory / "x"), CsvDialect(names=("a", "b"))), PAIR)
    assert place.rows("pair") == [("1", "\x00\x00"), ("\x00", "2")]
    (directory / "x").write_bytes("1,2\n3,4\n".encode("utf-16-le"))
    with pytest.raises(SourceError, match="UTF-16-LE without a byte-order mark"):
        place.land_from(CsvAlone(str(directory / "x"), CsvDialect(names=("a", "b"))), PAIR)
