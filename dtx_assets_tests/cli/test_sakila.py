"""Sakila, a database that nobody here wrote, from MariaDB to PostgreSQL: every row and value, no Python written."""

import gzip
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.pages import PROJECT

DATA = Path(__file__).parents[1] / "data" / "mysql"
ROWS = {
    "actor": 200,
    "address": 603,
    "category": 16,
    "city": 600,
    "country": 109,
    "customer": 599,
    "film": 1000,
    "film_actor": 5462,
    "film_category": 1000,
    "film_text": 1000,
    "inventory": 4581,
    "language": 6,
    "payment": 16049,
    "rental": 16044,
    "staff": 2,
    "store": 2,
}
INSTANTS = {"last_update"}
"""TIMESTAMP columns, which MySQL keeps in UTC; those of DATETIME have no zone on either side."""


@pytest.fixture
def sakila(mariadb_url: str) -> Iterator[tuple[str, pymysql.Connection]]:
    """The URL of all sixteen tables in a real MariaDB, and a connection to them."""
    url = make_url(mariadb_url).set(database="sakila_whole")
    options = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    with (
        closing(pymysql.connect(**options, charset="utf8mb4", autocommit=True)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SET foreign_key_checks = 0, time_zone = '+00:00'")
        cursor.execute("CREATE DATABASE sakila_whole")
        try:
            cursor.execute("USE sakila_whole")
            for name in ("sakila.sql.gz", "sakila_rest.sql.gz"):
                for statement in gzip.decompress((DATA / name).read_bytes()).decode().split(";\n"):
                    if statement.strip():
                        cursor.execute(statement)
            yield url.render_as_string(hide_password=False), connection
        finally:
            cursor.execute("DROP DATABASE sakila_whole")


def of_mysql(connection: pymysql.Connection, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
    def value(name: str, found: Any) -> Any:
        if name in INSTANTS and isinstance(found, datetime):
            return found.replace(tzinfo=UTC)
        if name == "special_features" and found is not None:
            return found.split(",")
        if name == "active":
            return bool(found)
        return found

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(f'`{name}`' for name in columns)} FROM `{table}`")
        return [tuple(value(name, found) for name, found in zip(columns, row, strict=True)) for row in cursor]


def of_postgresql(url: str, table: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        cursor = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
        assert cursor.description
        return [column.name for column in cursor.description], cursor.fetchall()


def sakila_command(directory: Path, url: str, database_url: str) -> Command:
    place = {"SAKILA_LEGACY_URL": url, "SAKILA_TARGET_URL": database_url, "PYTHONPATH": str(PROJECT)}
    return Command(directory, place)


@pytest.mark.timeout(600)
def test_init_maps_every_column(sakila, database_url, tmp_path):
    url, _ = sakila
    done = sakila_command(tmp_path, url, database_url)(
        "init", "sakila", "--legacy", url, "--target", str(DATA / "sakila_target.sql")
    )
    assert done.returncode == 0, done.stderr
    assert "16 tables are mapped, 90 columns of them; undecided: 0 target columns," in done.stdout
    assert "0 legacy columns, 0 legacy tables, 0 target tables." in done.stdout


@pytest.mark.timeout(600)
def test_every_row_and_value_is_over_there(sakila, database_url, tmp_path):
    url, connection = sakila
    dtx = sakila_command(tmp_path, url, database_url)
    done = dtx("init", "sakila", "--legacy", url, "--target", str(DATA / "sakila_target.sql"))
    assert done.returncode == 0, done.stderr
    ddl = dtx("target", "ddl")
    assert ddl.returncode == 0, ddl.stderr
    with psycopg.connect(database_url) as target:
        target.execute(ddl.stdout.encode())
    run = dtx("run")
    # 3: what init guessed is a decision that nobody has confirmed.
    assert run.returncode == 3, (run.stdout + run.stderr)[-3000:]
    failed = {check["name"] for check in dtx.states()["checks"].values() if check["state"] == "failed"}
    assert failed == {"decisions_are_confirmed"}
    for table, rows in ROWS.items():
        columns, found = of_postgresql(database_url, table)
        assert len(found) == rows, table
        assert sorted(map(repr, found)) == sorted(map(repr, of_mysql(connection, table, columns))), table
    assert dtx("verify").returncode == 0
    with psycopg.connect(database_url) as target:
        # The sequences go on after the ids that were kept.
        inserted = target.execute("INSERT INTO country (country) VALUES ('Atlantis') RETURNING country_id")
        assert inserted.fetchone() == (110,)
