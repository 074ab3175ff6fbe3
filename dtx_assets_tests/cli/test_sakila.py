"""Sakila, a database that nobody here wrote, from MariaDB to PostgreSQL: every row and value, no Python written: the
tutorial, run as it stands."""

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
from dtx_assets_tests.pages import DOCS, PROJECT, run_page

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
def sakila(mariadb_url: str) -> Iterator[pymysql.Connection]:
    """A connection to a real MariaDB in which the tutorial makes its database, dropped afterwards."""
    url = make_url(mariadb_url)
    options = {"host": url.host, "port": url.port, "user": url.username, "password": url.password or ""}
    with (
        closing(pymysql.connect(**options, charset="utf8mb4", autocommit=True)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SET time_zone = '+00:00'")
        try:
            yield connection
        finally:
            cursor.execute("DROP DATABASE IF EXISTS sakila_tutorial")


def home_of_the_client(directory: Path, mariadb_url: str) -> Path:
    """A home directory whose `.my.cnf` takes the client `mariadb` to the server."""
    url = make_url(mariadb_url)
    options = {
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "password": url.password or "",
        "protocol": "tcp",
    }
    directory.mkdir()
    lines = ["[client]", *(f"{name}={value}" for name, value in options.items())]
    (directory / ".my.cnf").write_text("\n".join(lines) + "\n")
    return directory


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


def test_the_tutorial_brings_every_row_and_value(sakila, mariadb_url, database_url, tmp_path):
    folder = tmp_path / "sakila"
    folder.mkdir()
    legacy = make_url(mariadb_url).set(database="sakila_tutorial").render_as_string(hide_password=False)
    place = {
        "SAKILA_DATA": str(DATA),
        "SAKILA_LEGACY_URL": legacy,
        "SAKILA_TARGET_URL": database_url,
        "HOME": str(home_of_the_client(tmp_path / "home", mariadb_url)),
    }
    page = (DOCS / "tutorial.md").read_text()
    before, confirmed, after = page.partition("sed -i")
    said = run_page(before + "true\n```\n", folder, place)
    assert "16 tables are mapped, 90 columns of them; undecided: 0 target columns," in said
    assert "0 legacy columns, 0 legacy tables, 0 target tables." in said
    dtx = Command(folder, {**place, "PYTHONPATH": str(PROJECT)})
    # What init guessed is a decision that nobody has confirmed.
    failed = {check["name"] for check in dtx.states()["checks"].values() if check["state"] == "failed"}
    assert failed == {"decisions_are_confirmed"}
    sakila.select_db("sakila_tutorial")
    for table, rows in ROWS.items():
        columns, found = of_postgresql(database_url, table)
        assert len(found) == rows, table
        assert sorted(map(repr, found)) == sorted(map(repr, of_mysql(sakila, table, columns))), table
    run_page("```sh\n" + confirmed + after, folder, place)
    assert not {check["name"] for check in dtx.states()["checks"].values() if check["state"] == "failed"}
    with psycopg.connect(database_url) as target:
        # The sequences go on after the ids that were kept.
        inserted = target.execute("INSERT INTO country (country) VALUES ('Atlantis') RETURNING country_id")
        assert inserted.fetchone() == (110,)
