"""A MySQL database that nobody here wrote lands whole: counts and checksums of every column equal the server's own."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pymysql
import pytest
from sqlalchemy.engine import make_url

from dtx_assets.machinery.sources import open_source

SAKILA = Path(__file__).parents[2] / "data" / "mysql" / "sakila.sql.gz"
ROWS = {
    "actor": 200,
    "address": 603,
    "category": 16,
    "city": 600,
    "country": 109,
    "customer": 599,
    "film": 1000,
    "film_category": 1000,
    "film_text": 1000,
    "language": 6,
    "staff": 2,
    "store": 2,
}
# Of a MyISAM table no server gives a snapshot.
WITHOUT_SNAPSHOT = {"film_text"}


@pytest.fixture
def sakila(mariadb_url: str) -> Iterator[tuple[str, pymysql.Connection]]:
    url = make_url(mariadb_url).set(database="sakila")
    options = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    with (
        closing(pymysql.connect(**options, charset="utf8mb4", autocommit=True)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SET foreign_key_checks = 0")
        cursor.execute("CREATE DATABASE sakila")
        cursor.execute("USE sakila")
        for statement in gzip.decompress(SAKILA.read_bytes()).decode().split(";\n"):
            if statement.strip():
                cursor.execute(statement)
        yield url.render_as_string(hide_password=False), connection
        cursor.execute("DROP DATABASE sakila")


def checksums_of_the_server(connection: pymysql.Connection, table: str, columns: list[str]) -> list[tuple[int, int]]:
    """For each column: values that are not NULL, and the sum of their CRC-32."""
    with connection.cursor() as cursor:
        sums = ", ".join(f"COUNT(`{name}`), CAST(COALESCE(SUM(CRC32(`{name}`)), 0) AS INT)" for name in columns)
        cursor.execute(f"SELECT {sums} FROM `{table}`")
        [row] = cursor.fetchall()
    return list(zip(row[::2], row[1::2], strict=True))


def test_counts_and_checksums_of_every_table_equal_the_servers(sakila, place):
    url, connection = sakila
    with open_source(url) as source:
        assert source.tables() == sorted(ROWS)
        for table, rows in ROWS.items():
            facts = place.land_from(source, table).metadata
            assert (facts["source_rows"], facts["row_count_matches"]) == (rows, True)
            assert facts["consistent_snapshot"] == (table not in WITHOUT_SNAPSHOT)
            assert facts["changed_while_read"] == []
            raw = {(row, column): value for row, column, value in place.undecodable(table)}
            landed = []
            for column in facts["columns"]:
                values = [
                    raw.get((row, column), text.encode())
                    for row, text in place.frame(table).select("_row", column).rows()
                    if text is not None
                ]
                landed.append((len(values), sum(map(zlib.crc32, values))))
            assert landed == checksums_of_the_server(connection, table, facts["columns"])


def test_what_is_odd_in_it(sakila, place):
    url, _ = sakila
    for table in ("film", "address", "staff"):
        place.land(url, table)
    film = place.frame("film").row(0, named=True)
    assert (film["release_year"], film["rating"], film["rental_rate"]) == ("2006", "PG", "0.99")
    assert film["special_features"] == "Deleted Scenes,Behind the Scenes"
    assert film["last_update"] == "2006-02-15 05:03:42"
    assert {column for _, column, _ in place.undecodable("address")} == {"location"}
    [(row, column, picture)] = place.undecodable("staff")
    assert (row, column, picture[:8]) == (1, "picture", b"\x89PNG\r\n\x1a\n")
