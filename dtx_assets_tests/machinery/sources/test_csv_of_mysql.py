"""What MySQL and MariaDB write (`INTO OUTFILE`, `mysqldump --tab`) is read exactly, by the dialect that says how."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path

import pymysql
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import csv_reading, open_source
from dtx_assets.machinery.sources.csv_dialect import CsvDialect, read_dialects
from dtx_assets.machinery.sources.csv_files import CsvAlone
from dtx_assets.machinery.sources.frames import legacy_frame
from dtx_assets_tests.machinery.sources.landing_place import LandingPlace

UGLY = LegacyTable("ugly", "area", ("id", "v", "w"))
NAMES = ("id", "v", "w")

WRITTEN = {
    "": CsvDialect("\t", None, names=NAMES, escape="\\", line_end="\n"),
    r"""FIELDS TERMINATED BY ',' ENCLOSED BY '"'""": CsvDialect(names=NAMES, escape="\\", line_end="\n"),
    r"""FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '"' LINES TERMINATED BY '\r\n'""": CsvDialect(
        names=NAMES, escape="\\", line_end="\r\n"
    ),
    r"""FIELDS TERMINATED BY ';' ENCLOSED BY '\'' ESCAPED BY '^'""": CsvDialect(
        ";", "'", names=NAMES, escape="^", line_end="\n"
    ),
    r"FIELDS TERMINATED BY ',' LINES TERMINATED BY '\r\n'": CsvDialect(
        ",", None, names=NAMES, escape="\\", line_end="\r\n"
    ),
    r"FIELDS TERMINATED BY '|' LINES TERMINATED BY '\r'": CsvDialect(
        "|", None, names=NAMES, escape="\\", line_end="\r"
    ),
}
SPECIAL = [b"\\", b'"', b"'", b",", b";", b"\t", b"|", b"^", b"\n", b"\r", b"\r\n", b"\0", b"\x1a", b"\b"]
PLAIN = [b"N", b"NULL", b"\\N", b'"', b"a", b" ", b"0", b"n", b"\xff", "é\ufeff".encode()]
VALUE = st.none() | st.lists(st.sampled_from([*SPECIAL, *PLAIN]), max_size=6).map(b"".join)


@pytest.fixture
def server(mariadb_url: str) -> Iterator[pymysql.Connection]:
    url = make_url(mariadb_url)
    options = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    with closing(pymysql.connect(**options, database=url.database, charset="utf8mb4", autocommit=True)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE ugly (id INT PRIMARY KEY, v LONGBLOB, w LONGTEXT CHARACTER SET binary)")
        yield connection
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE ugly")


NUMBER = count()


def written(server: pymysql.Connection, rows: Sequence[Sequence[bytes | None]], options: str, directory: Path) -> Path:
    """What the server itself writes of the rows."""
    name = f"ugly-{next(NUMBER)}.txt"
    with server.cursor() as cursor:
        cursor.execute("DELETE FROM ugly")
        if rows:
            cursor.executemany(
                "INSERT INTO ugly VALUES (%s, %s, %s)", [(number, *row) for number, row in enumerate(rows)]
            )
        cursor.execute("SELECT @@datadir")
        [data] = cursor.fetchone()
        cursor.execute(f"SELECT * FROM ugly ORDER BY id INTO OUTFILE '{name}' {options}")
    return Path(shutil.move(Path(data) / "legacy" / name, directory / name))


def values(place: LandingPlace, table: str = "ugly") -> list[tuple[bytes | None, ...]]:
    """The landed values as bytes, without the id."""
    lost = {(row, column): value for row, column, value in place.undecodable(table)}
    return [
        tuple(
            lost.get((number, column), text if text is None else text.encode())
            for column, text in zip("vw", row[1:], strict=True)
        )
        for number, row in enumerate(place.rows(table), 1)
    ]


UGLY_ROWS = [
    (b'He said "hi" twice', b"C:\\dir\\"),
    (b"two\nlines\r\nand a \r", b"NULL"),
    (b"\\N", None),
    (None, b""),
    (b"N", b"\0\x1a\b\t"),
    (b"\\", b'"'),
    (b'\\"', b'",\n"'),
    (b"\xff\xfe", b" '|;^,"),
    (b"x\r", b"\r"),
]


@settings(max_examples=25)
@given(rows=st.lists(st.tuples(VALUE, VALUE), max_size=6))
@example(rows=UGLY_ROWS)
@pytest.mark.parametrize("options", WRITTEN)
def test_what_mariadb_writes_is_read_exactly(server, place, tmp_path, options, rows):
    path = written(server, rows, options, tmp_path)
    manifest = place.land_from(CsvAlone(str(path), WRITTEN[options]), UGLY)
    assert values(place) == rows
    assert (manifest.metadata["source_rows"], manifest.metadata["row_count_matches"]) == (len(rows), True)


@settings(max_examples=25)
@given(rows=st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=4))
@example(rows=UGLY_ROWS)
@pytest.mark.parametrize("options", WRITTEN)
def test_without_a_declared_line_end_it_is_read_exactly_or_refused(server, place, tmp_path, options, rows):
    path = written(server, rows, options, tmp_path)
    declared = WRITTEN[options]
    dialect = CsvDialect(declared.delimiter, declared.quote, names=NAMES, escape=declared.escape)
    refused = ""
    try:
        place.land_from(CsvAlone(str(path), dialect), UGLY)
    except SourceError as error:
        refused = error.what
    broken = any(break_ in (value or b"") for row in rows for value in row for break_ in (b"\r", b"\n"))
    if refused:
        assert re.search("line end|carriage return|a row of" if broken else "its lines end in CRLF", refused)
    else:
        assert values(place) == rows


def test_blocks_may_end_anywhere(server, place, tmp_path, monkeypatch):
    path = written(server, UGLY_ROWS * 40, "FIELDS TERMINATED BY ',' ENCLOSED BY '\"'", tmp_path)
    dialect = CsvDialect(names=NAMES, escape="\\", line_end="\n")
    for block in (1, 7, 64, 501):
        monkeypatch.setattr(csv_reading, "FIRST_BLOCK", block)
        manifest = place.land_from(CsvAlone(str(path), dialect), UGLY)
        assert values(place) == UGLY_ROWS * 40
        assert manifest.metadata["row_count_matches"]


# --- an export in that dialect ----------------------------------------------------------------------------------------

BOOK = LegacyTable(
    "book", "area", ("id", "title", "pages"), kind_of=lambda name: "text" if name == "title" else "integer"
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "export"
    directory.mkdir()
    return directory


def declared(directory: Path, text: str):
    path = directory.parent / "dialect.yaml"
    path.write_text(text)
    return read_dialects(path, ["book", "other"])


def land_book(directory: Path, place: LandingPlace, content: bytes, dialect: str = 'escape: "\\\\"\n', **options):
    (directory / "book.csv").write_bytes(content)
    return place.land(str(directory), BOOK, dialects=declared(directory, dialect), **options)


def test_the_files_of_an_export_are_of_the_dialect_that_is_declared(directory, place):
    content = (
        b'id,title,pages\n"1","He said \\"hi\\" twice",\\N\n"2","\\\\N","10"\n"3","two\\\nlines",""\n"4","NULL",NULL\n'
    )
    manifest = land_book(directory, place, content)
    rows = [("1", 'He said "hi" twice', None), ("2", "\\N", "10"), ("3", "two\nlines", ""), ("4", "NULL", None)]
    assert place.rows("book") == rows
    assert (manifest.metadata["dialect"], manifest.metadata["written_as"]) == (
        "escaped csv",
        "delimiter ',', quote '\"', escape '\\\\'",
    )
    assert legacy_frame(place.lake, "toy", BOOK).select("title", "pages").collect().rows() == [row[1:] for row in rows]


def test_a_table_may_be_written_in_another_way_than_the_others(directory, place):
    only_others = 'escape: "\\\\"\ntables:\n  book: {}\n'
    manifest = land_book(directory, place, b'id,title,pages\n1,"C:\\",2\n', only_others)
    assert place.rows("book") == [("1", "C:\\", "2")]
    assert (manifest.metadata["dialect"], manifest.metadata["written_as"]) == ("csv", None)
    own = 'tables:\n  book: { delimiter: ";", encoding: utf-16-le, escape: "^", names: [id, title, pages] }\n'
    land_book(directory, place, '1;"^"é^;";^N\n'.encode("utf-16-le"), own)
    assert place.rows("book") == [("1", '"é;', None)]


def test_the_same_bytes_in_another_dialect_are_landed_anew(directory, place):
    content = b'id,title,pages\n1,"a\\\\b",2\n'
    land_book(directory, place, content, "{}\n")
    assert place.rows("book") == [("1", "a\\\\b", "2")]
    land_book(directory, place, content, run_id="two")
    assert place.rows("book") == [("1", "a\\b", "2")]


@pytest.mark.parametrize(
    ("content", "what", "line"),
    [
        (b'id,title,pages\n1,"a "quoted" word",2\n', "text stands after a closing quote", 2),
        (b'id,title,pages\n1,"a\\\nb",2\n3,\\x41,4\n', "after '\\\\' stands a character that it does not escape", 4),
        (b"id,title,pages\n1,a\\Nb,2\n", "after '\\\\' stands a character that it does not escape", 2),
        (b"id,title,pages\n1,a,2\\", "after '\\\\' stands a character that it does not escape", 2),
        (b'id,title,pages\n1,"a\\"', "a quote is opened and never closed", 2),
        (b'id,title,pages\n1,"two\\\nlines",2\n1,2\n', "a row of 2 fields, where the header has 3", 4),
        (b"id,title,pages\r\n1,a,2\r\n", "its lines end in CRLF, and a carriage return", 1),
        (b"id,title,pages\n1,a,2\n1,a,2\r\n", "a line ends in CRLF, where the first one ends in LF", 3),
        (b"id,title,pages\n1,a,2\r1,a,2\n", "a carriage return stands in a field that is not quoted", 2),
        (b"id,title,pages\n1,a\\\nb,2\nid,title,pages\n", "the header line comes again among the rows", 4),
    ],
)
def test_what_the_dialect_cannot_be_is_refused(directory, place, content, what, line):
    with pytest.raises(SourceError) as caught:
        land_book(directory, place, content)
    assert caught.value.what.startswith(f"book: {what}")
    assert caught.value.where == f"{directory / 'book.csv'}, line {line}"
    assert caught.value.remedy
    assert place.is_untouched("book")


def test_a_record_longer_than_a_block(directory, place, monkeypatch):
    monkeypatch.setattr(csv_reading, "FIRST_BLOCK", 64)
    long = b'x\\\n\\"' * 500
    land_book(directory, place, b'id,title,pages\n1,"' + long + b'",2\n3,b,4\n')
    assert place.rows("book") == [("1", 'x\n"' * 500, "2"), ("3", "b", "4")]


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("escape: bs\n", "'bs' is not one ASCII character", 1),
        ("escape: '\"'\n", "escape and quote are the same character", 1),
        ("escape: ','\n", "delimiter and escape are the same character", 1),
        ("escape: n\n", "a letter or digit cannot be told from what an escape means", 1),
        ('line_end: "\\n"\n', "`line_end` is for files with an `escape`", 1),
        ("delimeter: ';'\n", "unknown key 'delimeter'", 1),
        ('escape: "\\\\"\ntables:\n  bok: {}\n', "no table 'bok' is read", 3),
        ("tables:\n  book:\n    encoding: klingon\n", "there is no encoding 'klingon'", 3),
    ],
)
def test_a_file_of_dialects_is_checked_with_its_lines(tmp_path, text, what, line):
    path = tmp_path / "dialect.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_dialects(path, ["book"])
    assert what in caught.value.what
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.remedy


def test_a_database_has_no_dialect(tmp_path):
    (tmp_path / "dialect.yaml").write_text("{}\n")
    with pytest.raises(ConfigurationError, match="postgresql:// has no CSV files"):
        open_source("postgresql://h/d", dialects=read_dialects(tmp_path / "dialect.yaml", []))


def test_no_row_is_counted_by_the_reader_that_lands_it(directory, place, monkeypatch):
    whole = csv_reading.CsvFile.batches
    monkeypatch.setattr(csv_reading.CsvFile, "batches", lambda *args: (batch.slice(1) for batch in whole(*args)))
    facts = land_book(directory, place, b"id,title,pages\n1,a\\\nb,2\n3,c,4\n").metadata
    assert (facts["source_rows"], facts["row_count_matches"]) == (2, False)
