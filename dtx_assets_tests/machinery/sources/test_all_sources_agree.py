"""The same rows through CSV, MariaDB, PostgreSQL and SQLite are the same frame to a flow."""

import csv
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import polars as pl
import psycopg
import pymysql
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql
from sqlalchemy.engine import make_url

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.frames import legacy_frame, source_key
from dtx_assets_tests.machinery.sources.landing_place import LandingPlace

COLUMNS = ("Property Code", "#", "100% 'of' `it`", 'a/b? "c"', "naïve")
KEY = COLUMNS[:2]
UGLY = [
    "a",
    "ä",
    "😀",
    ",",
    '"',
    "'",
    "\\",
    "\n",
    "\r\n",
    "\t",
    " ",
    "%s",
    "0",
    "1.0",
    "\ufeff",
    "\x85",
    "\u2028",
    "\x01",
]

Row = Sequence[str | None]

# What a CSV cannot tell from NULL, and what PostgreSQL has no text for (a NUL), is not among the values.
values = st.none() | st.lists(st.sampled_from(UGLY), max_size=6).map("".join) | st.integers().map(str)
tables = st.lists(st.tuples(*(values for _ in COLUMNS)), max_size=12)
numbers = count()


def as_csv(directory: Path, table: str, rows: Sequence[Row]) -> str:
    with (directory / f"{table}.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([r"\N" if value is None else value for value in row] for row in rows)
    return str(directory)


@contextmanager
def mariadb_cursor(url: str) -> Iterator[pymysql.cursors.Cursor]:
    parts = make_url(url)
    with (
        closing(
            pymysql.connect(
                host=parts.host,
                port=parts.port,
                user=parts.username,
                password=parts.password,
                database=parts.database,
                charset="utf8mb4",
                autocommit=True,
            )
        ) as server,
        server.cursor() as cursor,
    ):
        yield cursor


def as_mariadb(url: str, table: str, rows: Sequence[Row]) -> str:
    columns = ", ".join("`{}` LONGTEXT".format(name.replace("`", "``")) for name in COLUMNS)
    with mariadb_cursor(url) as cursor:
        cursor.execute(f"CREATE TABLE {table} ({columns})")
        if rows:
            cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(COLUMNS))})", rows)
    return url


def as_postgresql(url: str, table: str, rows: Sequence[Row]) -> str:
    columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in COLUMNS)
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(table), columns))
        with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
            for row in rows:
                copy.write_row(row)
    return url


def as_sqlite(path: Path, table: str, rows: Sequence[Row]) -> str:
    columns = ", ".join('"{}" TEXT'.format(name.replace('"', '""')) for name in COLUMNS)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE {table} ({columns})")
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(COLUMNS))})", rows)
    return f"sqlite:///{path}"


@settings(max_examples=25)
@given(rows=tables)
def test_the_same_rows_are_the_same_frame(rows, mariadb_url, database_url, tmp_path, place: LandingPlace):
    name = f"agree_{next(numbers)}"
    table = LegacyTable(name, "area", COLUMNS, key=KEY, key_repeats=True, required=COLUMNS)
    exports = tmp_path / "exports"
    exports.mkdir(exist_ok=True)
    urls = {
        "csv": as_csv(exports, name, rows),
        "mariadb": as_mariadb(mariadb_url, name, rows),
        "postgresql": as_postgresql(database_url, name, rows),
        "sqlite": as_sqlite(tmp_path / "legacy.db", name, rows),
    }
    frames: dict[str, pl.DataFrame] = {}
    for kind, url in urls.items():
        manifest = place.land(url, table)
        assert manifest.metadata["row_count_matches"], kind
        assert manifest.metadata["source_rows"] == len(rows), kind
        frames[kind] = source_key(table, legacy_frame(place.lake, "toy", table)).collect()
    with mariadb_cursor(mariadb_url) as cursor:
        cursor.execute(f"DROP TABLE {name}")

    assert frames["csv"].select(COLUMNS).rows() == [tuple(row) for row in rows]
    assert frames["csv"]["_row"].to_list() == list(range(1, len(rows) + 1))
    assert frames["csv"]["_source_key"].n_unique() == len(rows)
    assert {kind: frame.equals(frames["csv"]) for kind, frame in frames.items()} == dict.fromkeys(urls, True)
    assert {kind: frame.schema == frames["csv"].schema for kind, frame in frames.items()} == dict.fromkeys(urls, True)


def test_every_source_says_its_columns_and_its_size(mariadb_url, database_url, tmp_path):
    name = f"agree_{next(numbers)}"
    table, missing = LegacyTable(name, "area", COLUMNS), LegacyTable("not_there", "area", COLUMNS)
    rows = [["x" * 100] * len(COLUMNS)] * 200
    urls = {
        "csv": as_csv(tmp_path, name, rows),
        "mariadb": as_mariadb(mariadb_url, name, rows),
        "postgresql": as_postgresql(database_url, name, rows),
        "sqlite": as_sqlite(tmp_path / "legacy.db", name, rows),
    }
    for kind, url in urls.items():
        with open_source(url) as source:
            assert source.columns(table) == list(COLUMNS), kind
            # MariaDB's and PostgreSQL's own figures, which may be compressed or not be there yet.
            assert source.stored_bytes([table]) >= 4096, kind
            assert source.stored_bytes([]) == 0, kind
            with pytest.raises(SourceError, match="not_there"):
                source.columns(missing)
    with mariadb_cursor(mariadb_url) as cursor:
        cursor.execute(f"DROP TABLE {name}")
