"""What the preflight says of a database: what is not read of it, or is not as it looks. Asked of real servers."""

import sqlite3
from contextlib import closing

import psycopg
import pymysql
import pytest
from sqlalchemy.engine import make_url

from dtx_assets.machinery.base.encodings import is_doubly_encoded, latin1_bytes
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import open_source
from dtx_assets_tests import servers


def said(url, tables, timezone="UTC"):
    with open_source(url) as source:
        declared = [LegacyTable(table, "area", ()) for table in tables]
        return {(each.subject, each.says.split(":")[0]): each for each in source.remarks(declared, timezone)}


@pytest.fixture
def mariadb(mariadb_url):
    url = make_url(mariadb_url)
    options = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    with closing(pymysql.connect(**options, charset="utf8mb4", autocommit=True)) as server, server.cursor() as cursor:
        cursor.execute("CREATE DATABASE remarks CHARACTER SET utf8mb4")
        cursor.execute("USE remarks")
        yield server, cursor, url.set(database="remarks").render_as_string(hide_password=False)
        cursor.execute("SET GLOBAL time_zone = '+00:00'")
        cursor.execute("DROP DATABASE remarks")


def test_of_a_mariadb(mariadb):
    server, cursor, url = mariadb
    for statement in (
        "CREATE TABLE versioned (id INT) WITH SYSTEM VERSIONING",
        "CREATE TABLE plain (id INT, at DATETIME, ts TIMESTAMP NULL, note TEXT)",
        "INSERT INTO plain VALUES (1, NOW(), NOW(), 'Café, as it should be'), (2, NULL, NULL, NULL)",
        "CREATE TABLE old (id INT, note VARCHAR(99) CHARACTER SET latin1, other TEXT CHARACTER SET latin1)",
        "INSERT INTO old VALUES (1, 'Café', 'Café'), (2, 'ascii', NULL)",
        # UTF-8 that a client sent as latin1.
        "INSERT INTO old VALUES (3, CONVERT(0x436166C3A920E282AC USING latin1), 'x')",
        "CREATE VIEW days AS SELECT DATE(ts) AS day FROM plain",
    ):
        cursor.execute(statement)
    tables = ["versioned", "plain", "old", "days"]
    found = said(url, tables)
    assert set(found) == {
        ("table versioned", "is system-versioned"),
        ("table old.note", "1 of 2 values beyond ASCII that were looked at are UTF-8 that was stored as latin1 (as in"
         " CafÃ© for Café), and are read as they look"),
    }  # fmt: skip

    servers.load_time_zone(server, "America/New_York")
    cursor.execute("SET GLOBAL time_zone = 'America/New_York'")
    found = said(url, tables)
    zone = next(each for (subject, _), each in found.items() if subject == "time zone")
    assert "the server's is America/New_York, and naive times are read in UTC" in zone.says
    assert "plain.at" in zone.says
    assert "LEGACY_TIMEZONE" in zone.remedy
    assert ("table days", "is a view") in found
    assert not any(subject == "time zone" for subject, _ in said(url, tables, "America/New_York"))
    # A clock that differs in summer only is another zone still.
    cursor.execute("SET GLOBAL time_zone = '-05:00'")
    assert any(subject == "time zone" for subject, _ in said(url, tables, "America/New_York"))


def test_of_a_postgresql(database_url):
    with psycopg.connect(database_url, autocommit=True) as server:
        for statement in (
            "CREATE TABLE parent (id int, at timestamp)",
            "CREATE TABLE child (more text) INHERITS (parent)",
            "CREATE TABLE grandchild () INHERITS (child)",
            "CREATE TABLE parts (id int) PARTITION BY RANGE (id)",
            "CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9)",
            "CREATE DOMAIN lo AS oid",
            "CREATE TABLE pictures (id int, picture oid, other lo)",
            "SELECT lo_from_bytea(0, 'x')",
            "CREATE TABLE mixed (note text)",
            "INSERT INTO mixed VALUES ('CafÃ©'), ('Café'), ('plain')",
            "CREATE MATERIALIZED VIEW kept AS SELECT 1 AS v",
            "CREATE EXTENSION postgres_fdw",
            "CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1')",
            "CREATE FOREIGN TABLE far (v int) SERVER away",
        ):
            server.execute(statement.encode())
        found = said(database_url, ["parent", "parts", "pictures", "mixed", "kept", "far"])
        assert {subject for subject, _ in found} == {
            "table parent",
            "table pictures",
            "table mixed.note",
            "table kept",
            "table far",
        }
        [parent] = [each for (subject, _), each in found.items() if subject == "table parent"]
        assert "child, grandchild" in parent.says
        [pictures] = [each for (subject, _), each in found.items() if subject == "table pictures"]
        assert "picture, other may name large objects, of which the database has 1" in pictures.says

        found = said(database_url, ["parent", "grandchild", "parts", "part"])
        assert {(subject, each.says.split(" are read twice")[0]) for (subject, _), each in found.items()} == {
            ("table parent", "the rows of grandchild"),
            ("table parts", "the rows of part"),
        }

        server.execute("ALTER ROLE CURRENT_USER SET TimeZone = 'Europe/Berlin'")
        try:
            [zone] = [each for each in said(database_url, ["parent"]).values() if each.subject == "time zone"]
            assert "Europe/Berlin" in zone.says
            assert "parent.at" in zone.says
        finally:
            server.execute("ALTER ROLE CURRENT_USER RESET TimeZone")


@pytest.mark.parametrize(
    ("text", "doubly"),
    [("CafÃ©", True), ("â‚¬", True), ("Ã\x81", True), ("Café", False), ("Cafe", False), ("", False), ("Ж", False)],
)
def test_what_is_doubly_encoded(text, doubly):
    assert is_doubly_encoded(text) is doubly


def test_latin1_is_that_of_mysql():
    assert latin1_bytes("€\x81é") == b"\x80\x81\xe9"
    assert latin1_bytes("Ж") is None


def test_of_an_sqlite_file(tmp_path):
    """It keeps what it was given, whatever the column says."""
    path = tmp_path / "legacy.sqlite"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute('CREATE TABLE mixed ("the id" INTEGER, note VARCHAR(9), price REAL, picture BLOB, free)')
        rows = [(1, "a", 1.5, b"x", 1), ("one", b"a", "cheap", "x", b"x"), ("two", None, None, None, "x")]
        file.executemany("INSERT INTO mixed VALUES (?, ?, ?, ?, ?)", rows)
        file.execute("CREATE TABLE sound (id INTEGER, note TEXT, price REAL)")
        file.execute("INSERT INTO sound VALUES ('1', 2, 3), (NULL, NULL, NULL)")
    found = said(f"sqlite:///{path}", ["mixed", "sound"])
    assert {(subject, says) for subject, says in found} == {
        ("table mixed.the id", "is declared INTEGER, and holds 2 of text"),
        ("table mixed.note", "is declared VARCHAR(9), and holds 1 of blob"),
        ("table mixed.price", "is declared REAL, and holds 1 of text"),
        ("table mixed.picture", "is declared BLOB, and holds 1 of text"),
    }
