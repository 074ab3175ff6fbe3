"""What tables a source has: the kinds of all common types, keys, and what a type holds that is no text."""

import sqlite3
from contextlib import closing

import psycopg
import pymysql
import pytest
from sqlalchemy.engine import make_url

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.sources.catalogue import legacy_catalogue
from dtx_assets.machinery.sources.found import FoundTable

MYSQL = """
CREATE TABLE `all` (
  a SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT, b BIGINT, c DECIMAL(5,2), d DOUBLE, e CHAR(3), f VARCHAR(9) NOT NULL,
  g TEXT, h DATE, i DATETIME, j TIMESTAMP NULL, k TIME, l YEAR, m ENUM('x','y'), n SET('x','y'), o BLOB, p GEOMETRY,
  q TINYINT(1), r BIT(3), s VARBINARY(4), t TINYBLOB, u MEDIUMBLOB, v LONGBLOB, PRIMARY KEY (f, a), KEY (a));
CREATE TABLE unkeyed (a INT NOT NULL, b INT NOT NULL, c INT, UNIQUE (c), UNIQUE (a, b));
CREATE TABLE untold (a INT NOT NULL, b INT, UNIQUE (a, b))
"""


def kinds(table: FoundTable) -> dict[str, str]:
    return {column.name: column.holds or column.kind for column in table.columns}


def test_mysql(mariadb_url):
    url = make_url(mariadb_url).set(database="catalogue")
    with closing(pymysql.connect(host=url.host, port=url.port, user=url.username, password=url.password)) as server:
        cursor = server.cursor()
        cursor.execute("CREATE DATABASE catalogue")
        try:
            cursor.execute("USE catalogue")
            for statement in MYSQL.split(";\n"):
                cursor.execute(statement)
            cursor.execute("CREATE VIEW seen AS SELECT a FROM `all`")
            table, unkeyed, untold = legacy_catalogue(url.render_as_string(hide_password=False))
        finally:
            cursor.execute("DROP DATABASE catalogue")
    assert (table.name, table.schema, table.key) == ("all", None, ("f", "a"))
    assert (unkeyed.key, untold.key) == (("a", "b"), ()), "NULLs are not told apart"
    assert kinds(table) == {
        "a": "integer",
        "b": "integer",
        "c": "decimal",
        "d": "decimal",
        "e": "text",
        "f": "text",
        "g": "text",
        "h": "date",
        "i": "time",
        "j": "instant",
        "k": "text",
        "l": "integer",
        "m": "text",
        "n": "set",
        "o": "bytes",
        "p": "bytes",
        "q": "integer",
        "r": "integer",
        "s": "bytes",
        "t": "bytes",
        "u": "bytes",
        "v": "bytes",
    }
    assert [column.name for column in table.columns if not column.nullable] == ["a", "f"]
    assert table.columns[2].type == "DECIMAL(5, 2)"


def test_postgresql_in_all_its_schemas(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('so', 'la')")
        connection.execute("CREATE DOMAIN worth AS numeric(10,2)")
        connection.execute(
            "CREATE TABLE one (a bigint PRIMARY KEY, b numeric, c boolean, d uuid, e jsonb, f timestamptz, g timestamp,"
            " h date, i text[], j bytea, k mood, l inet, m interval, n worth, o money, p xml, q pg_snapshot)"
        )
        connection.execute('CREATE SCHEMA "Old"')
        connection.execute('CREATE TABLE "Old"."Two" (x int) PARTITION BY RANGE (x)')
        connection.execute('CREATE TABLE "Old".part PARTITION OF "Old"."Two" DEFAULT')
        connection.execute('CREATE TABLE part PARTITION OF "Old"."Two" FOR VALUES FROM (1) TO (2)')
        connection.execute("CREATE SCHEMA migration")
        connection.execute("CREATE TABLE migration.run (x int)")
    two, one = sorted(legacy_catalogue(database_url), key=lambda table: table.name)
    assert (two.name, two.schema, two.key) == ("Two", "Old", ())
    assert (one.schema, one.key) == (None, ("a",))
    assert kinds(one) == {
        "a": "integer",
        "b": "decimal",
        "c": "boolean",
        "d": "uuid",
        "e": "json",
        "f": "instant",
        "g": "time",
        "h": "date",
        "i": "list",
        "j": "bytes",
        "k": "text",
        "l": "text",
        "m": "text",
        "n": "decimal",
        "o": "decimal",
        "p": "text",
        "q": "text",
    }


def test_sqlite(tmp_path):
    with closing(sqlite3.connect(tmp_path / "a.db")) as file:
        file.execute("CREATE TABLE b (id INTEGER PRIMARY KEY, at DATETIME, price NUMERIC(5,2), x BLOB, odd NO_SUCH)")
    [table] = legacy_catalogue(f"sqlite:///{tmp_path / 'a.db'}")
    assert table.key == ("id",)
    assert kinds(table) == {"id": "integer", "at": "time", "price": "decimal", "x": "bytes", "odd": "decimal"}


def test_times_in_the_texts_of_sqlite_are_seen(tmp_path):
    with closing(sqlite3.connect(tmp_path / "a.db")) as file:
        file.execute(
            'CREATE TABLE "b c" (id INTEGER PRIMARY KEY, day TEXT, at TEXT, sent VARCHAR, name TEXT, empty TEXT)'
        )
        file.execute(
            """INSERT INTO "b c" VALUES (1, '2020-02-29', '2020-01-01 10:00:00', '2020-01-01T10:00:00Z', 'x', NULL),
                (2, NULL, '2020-01-01 10:00:00.5', '2020-01-01 10:00:00+02:00', '12', NULL)"""
        )
        file.commit()
    url = f"sqlite:///{tmp_path / 'a.db'}"
    [table] = legacy_catalogue(url)
    assert kinds(table) == {
        "id": "integer", "day": "date", "at": "time", "sent": "instant", "name": "text", "empty": "text"
    }  # fmt: skip
    assert table.guessed
    with closing(sqlite3.connect(tmp_path / "a.db")) as file:
        file.execute('UPDATE "b c" SET day = 7 WHERE id = 2')
        file.execute("UPDATE \"b c\" SET at = 'yesterday', sent = x'00'")
        file.commit()
    [table] = legacy_catalogue(url)
    # SQLite holds what it was given: a number among the days of a text column is the text of one.
    assert [kinds(table)[name] for name in ("day", "at", "sent")] == ["text", "text", "text"]
    assert not table.guessed


def test_csv_files_are_sampled(tmp_path):
    (tmp_path / "book.csv").write_text(
        "book_id,isbn,added,born,price,note\n1,007,2020-01-01 10:00:00,2020-01-01,1.50,\n2,12,,\\N,NULL,x\n"
    )
    (tmp_path / "empty.csv").write_text("a,b\n")
    (tmp_path / "again.csv").write_text("a\n1\n1\n")
    again, book, empty = legacy_catalogue(str(tmp_path))
    assert kinds(book) == {
        "book_id": "integer",
        "isbn": "text",
        "added": "time",
        "born": "date",
        "price": "decimal",
        "note": "text",
    }
    assert (book.key, book.guessed) == (("book_id",), True)
    assert (again.key, empty.key) == ((), ())
    assert kinds(empty) == {"a": "text", "b": "text"}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (("0", "-12", "3.50"), "decimal"),
        (("12345678901234567890",), "decimal"),
        # No number's: a version, a code.
        (("1.10", "1.10.2"), "text"),
        (("01.5",), "text"),
        (("1e5", "1.5"), "text"),
        (("t", "f"), "boolean"),
        (("True", "FALSE"), "boolean"),
        (("y", "n"), "boolean"),
        (("yes", "no"), "text"),
        # As COPY of PostgreSQL writes a timestamptz, and as JSON has it.
        (("2020-01-01 10:00:00+00", "2020-06-01 10:00:00.123456+02"), "instant"),
        (("2020-01-01T10:00:00Z",), "instant"),
        # Of some it is not known where the clock hung.
        (("2020-01-01 10:00:00", "2020-01-01 10:00:00+00"), "text"),
    ],
)
def test_what_a_column_of_a_csv_holds_is_seen_in_its_values(tmp_path, values, kind):
    (tmp_path / "a.csv").write_text("\n".join(("id,x", *(f"{n},{value}" for n, value in enumerate(values)))))
    [table] = legacy_catalogue(str(tmp_path))
    assert kinds(table) == {"id": "integer", "x": kind}


def test_what_cannot_be_read_is_told_without_a_password(tmp_path):
    with pytest.raises(SourceError) as caught:
        legacy_catalogue("mysql://reader:s3cret@127.0.0.1:1/x")
    assert "s3cret" not in str(caught.value)
