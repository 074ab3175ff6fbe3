"""An SQLite file as a source: whatever is in it lands, and nothing is written to it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import open_source


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a b#1.db"


def execute(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_values_of_every_kind(file, place):
    execute(
        file,
        "CREATE TABLE t (v)",
        "INSERT INTO t VALUES (1), (-9223372036854775808), (0.1), (1e300), ('é\n'), (''), (NULL), (x'ff00'),"
        " (CAST(x'e9' AS TEXT)), ('a' || char(0) || 'b'), (12.0)",
    )
    manifest = place.land(f"sqlite:///{file}", "t")
    assert [value for (value,) in place.rows("t")] == [
        "1",
        "-9223372036854775808",
        "0.1",
        "1e+300",
        "é\n",
        "",
        None,
        "\\xff\x00",
        "\\xe9",
        "a\x00b",
        "12.0",
    ]
    assert place.undecodable("t") == [(8, "v", b"\xff\x00"), (9, "v", b"\xe9")]
    facts = manifest.metadata
    assert (facts["source_rows"], facts["row_count_matches"], facts["consistent_snapshot"]) == (11, True, True)


def test_rows_come_in_the_order_of_their_row_ids(file, place):
    execute(file, "CREATE TABLE t (v)", "CREATE INDEX i ON t (v)", "INSERT INTO t VALUES (3), (1), (2)")
    execute(file, "CREATE TABLE w (id INTEGER PRIMARY KEY, v) WITHOUT ROWID", "INSERT INTO w VALUES (2, 1), (1, 2)")
    execute(file, "CREATE VIEW seen AS SELECT v FROM t ORDER BY v DESC")
    for table in ("t", "w", "seen"):
        place.land(f"sqlite:///{file}", table)
    assert place.rows("t") == [("3",), ("1",), ("2",)]
    assert place.rows("w") == [("1", "2"), ("2", "1")]
    assert place.rows("seen") == [("3",), ("2",), ("1",)]


def test_names_of_any_kind(file, place):
    names = ["a b", "50%", "#", "it's", "a/b?", 'say "x"', "Größe", "?"]
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    execute(file, f'CREATE TABLE "t""?" ({quoted})', 'INSERT INTO "t""?" VALUES (1,2,3,4,5,6,7,8)')
    assert place.land(f"sqlite:///{file}", 't"?').metadata["columns"] == names
    assert place.rows('t"?') == [tuple("12345678")]


def test_all_tables_are_read_as_they_were_when_the_source_was_opened(file, place):
    execute(file, "PRAGMA journal_mode = WAL", "CREATE TABLE a (v)", "CREATE TABLE b (v)", "INSERT INTO a VALUES (1)")
    with closing(sqlite3.connect(file, isolation_level=None)) as writer, open_source(f"sqlite:///{file}") as source:
        writer.execute("INSERT INTO a VALUES (2)")
        writer.execute("INSERT INTO b VALUES (2)")
        for table in ("a", "b"):
            place.land_from(source, table)
    assert (place.rows("a"), place.rows("b")) == ([("1",)], [])


def test_a_file_that_is_not_there_is_not_made(file):
    with pytest.raises(SourceError, match="no such SQLite file") as caught, open_source(f"sqlite:///{file}"):
        pass
    assert caught.value.where == str(file)
    assert not file.exists()


def test_a_file_of_another_kind(file):
    file.write_bytes(b"no database at all" * 100)
    with pytest.raises(SourceError, match="not a database"), open_source(f"sqlite:///{file}"):
        pass


def test_a_missing_table_is_told_with_those_that_are_there(file, place):
    execute(file, "CREATE TABLE letter (v)")
    with pytest.raises(SourceError, match="the table letters is missing") as caught:
        place.land(f"sqlite:///{file}", "letters")
    assert caught.value.remedy.endswith("letter")
    assert place.is_untouched("letters")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_urls_that_name_no_file(url):
    with pytest.raises(ConfigurationError, match="names no SQLite file"):
        open_source(url)


def test_a_view_that_is_broken_says_so(tmp_path, place):
    with closing(sqlite3.connect(tmp_path / "legacy.db")) as connection:
        connection.execute("CREATE TABLE base2 (id)")
        connection.execute("CREATE VIEW v_gone AS SELECT * FROM base2")
        connection.execute("CREATE VIEW v_calls AS SELECT no_such_function(1) AS v")
        connection.execute("DROP TABLE base2")
    url = f"sqlite:///{tmp_path / 'legacy.db'}"
    for name in ("v_gone", "v_calls"):
        with pytest.raises(SourceError, match=f"{name} is a view that is broken: no such") as caught:
            place.land(url, name)
        assert "mend the view" in caught.value.remedy


def test_reals_are_the_stored_numbers(tmp_path, place):
    numbers = [16777217.0, 0.1, 5e-324, 1.7976931348623157e308, 1e16, 1234567.89, 2**53 + 2.0]
    with closing(sqlite3.connect(tmp_path / "legacy.db")) as connection, connection:
        connection.execute("CREATE TABLE t (r REAL PRIMARY KEY)")
        connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in numbers])
        connection.execute("CREATE VIEW v AS SELECT r FROM t")
    for name in ("t", "v"):
        place.land(f"sqlite:///{tmp_path / 'legacy.db'}", name)
        assert [repr(float(text)) for (text,) in place.rows(name)] == [repr(number) for number in numbers]


def test_a_schema_that_the_file_has_not(file, place):
    execute(file, "CREATE TABLE t (v)", "INSERT INTO t VALUES (1)")
    with pytest.raises(SourceError, match=r"the table old[.]t is missing"):
        place.land(f"sqlite:///{file}", LegacyTable("t", "area", (), schema="old"))
    place.land(f"sqlite:///{file}", LegacyTable("t", "area", (), schema="main"))
    assert place.rows("t") == [("1",)]
