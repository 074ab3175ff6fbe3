"""What the preflight says of a database: what is not read of it, or is not as it looks. Asked of real servers."""

import sqlite3
from contextlib import closing

import obstore
import psycopg
import pymysql
import pytest
from sqlalchemy.engine import make_url

from dtx_assets.machinery.base.encodings import is_doubly_encoded, latin1_bytes
from dtx_assets.machinery.base.lake import Lake, s3_store
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.csv_dialect import CsvDialect, Dialects
from dtx_assets_tests import servers


def said(url, tables, timezone="UTC"):
    with open_source(url) as source:
        declared = [LegacyTable(table, "area", ()) for table in tables]
        return {(each.subject, each.says.split(":")[0]): each for each in source.remarks(declared, timezone)}  # type: ignore[attr-defined]


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


AS_STORED = "SQLite keeps whatever it is given, and it is read as it is stored"


def test_columns_of_sqlite_that_are_no_ordinary_ones(tmp_path):
    """Generated ones are read like others; hidden ones of a virtual table are not, which is told."""
    path = tmp_path / "legacy.sqlite"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(
            "CREATE TABLE made (id INTEGER, twice INTEGER AS (id * 2) VIRTUAL, kept TEXT AS (id || '!') STORED)"
        )
        file.execute("INSERT INTO made VALUES (1), (2)")
        file.execute("CREATE VIRTUAL TABLE found USING fts5(title)")
        file.execute("INSERT INTO found VALUES ('a word')")
        wide = ", ".join(f"c{number} INTEGER" for number in range(1_500))
        file.execute(f"CREATE TABLE wide ({wide})")
        file.execute("INSERT INTO wide (c3, c1499) VALUES ('x', 1.5)")
    url = f"sqlite:///{path}"
    assert {(subject, each.says) for (subject, _), each in said(url, ["made", "found", "wide"]).items()} == {
        ("table found", "is virtual: its hidden columns found, rank are not read, as SELECT * does not give them"),
        ("table wide.c3", "is declared INTEGER, and holds 1 of text: " + AS_STORED),
        ("table wide.c1499", "is declared INTEGER, and holds 1 of real: " + AS_STORED),
    }
    lake = Lake(str(tmp_path / "lake"))
    with open_source(url) as source:
        for name, rows in (
            ("made", [{"id": "1", "twice": "2", "kept": "1!"}, {"id": "2", "twice": "4", "kept": "2!"}]),
            ("found", [{"title": "a word"}]),
        ):
            table = LegacyTable(name, "area", ())
            manifest = source.extract(table, lake, ("toy", "legacy", name), "run")
            landed = lake.scan(manifest.key, manifest=manifest).select(source.columns(table)).collect()
            assert landed.to_dicts() == rows


def test_a_table_of_sqlite_is_gone_through_once(tmp_path):
    path = tmp_path / "legacy.sqlite"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE many (a INTEGER, b INTEGER, c REAL, d BLOB)")
        file.execute("INSERT INTO many VALUES (1, 2, 3, x'00')")
    with open_source(f"sqlite:///{path}") as source:
        asked = []
        source._connection.set_trace_callback(asked.append)  # type: ignore[attr-defined]
        assert source.remarks([LegacyTable("many", "area", ())], "UTC") == []  # type: ignore[attr-defined]
    assert len([each for each in asked if "sum(typeof" in each]) == 1


MOJIBAKE = [("1", "CafÃ©"), ("2", "Café"), ("3", "plain"), ("4", "â‚¬")]


def test_text_in_another_encoding_in_an_sqlite_file(tmp_path):
    path = tmp_path / "legacy.sqlite"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE mixed (id INTEGER, note, picture BLOB)")
        file.executemany("INSERT INTO mixed VALUES (?, ?, x'C3A9')", MOJIBAKE)
    [remark] = said(f"sqlite:///{path}", ["mixed"]).values()
    assert remark.subject == "table mixed.note"
    assert remark.says.startswith("2 of 3 values beyond ASCII that were looked at are UTF-8 that was stored as latin1")


@pytest.mark.parametrize("place", ["directory", "bucket"])
def test_of_csv_files(tmp_path, place, request):
    """Text in another encoding, and files beside a table's own that may hold more of its rows."""
    lines = "".join(f'{id},"{note}"\n' for id, note in MOJIBAKE)
    files = {
        "mixed.csv": f"id,note\n{lines}",
        "plain.csv": "id,note\n1,Café\n",
        "mixed_2.csv": "id,note\n9,x\n",
        "mixed (1).csv": "id,note\n9,x\n",
        "Mixed.CSV": "id,note\n9,x\n",
        "mixed.csv.gz": "",
        "mixed-part-0003.csv": "",
        "mixed_colours.csv": "id\n1\n",
        "2.csv": "id\n1\n",
        "readme.txt": "",
    }
    if place == "directory":
        url = str(tmp_path)
        for name, text in files.items():
            (tmp_path / name).write_text(text)
    else:
        url = f"s3://{request.getfixturevalue('s3_bucket')}/remarks"
        for name, text in files.items():
            obstore.put(s3_store(url), name, text.encode())
    found = {
        (subject, each.says.partition(" beside")[0]) for (subject, _), each in said(url, ["mixed", "plain"]).items()
    }
    assert {(subject, says.partition(" values")[0]) for subject, says in found} == {
        (
            "table mixed",
            "is read from mixed.csv alone, and not from Mixed.CSV, mixed (1).csv, mixed-part-0003.csv, mixed.csv.gz,"
            " mixed_2.csv",
        ),
        ("table mixed.note", "2 of 3"),
    }


def test_nulls_as_mysql_writes_them_in_a_file_that_is_read_as_rfc_4180(tmp_path):
    (tmp_path / "mixed.csv").write_text('id,note,path\n1,\\N,C:\\New\n2,"\\N",\\N\n3,x\\N,\n')
    (tmp_path / "paths.csv").write_text("id,path\n1,C:\\New\n")
    tables = [LegacyTable(name, "area", (), null_markers=("NULL",)) for name in ("mixed", "paths")]
    with open_source(str(tmp_path)) as source:
        found = {remark.subject: remark for remark in source.remarks(tables, "UTC")}  # type: ignore[attr-defined]
        # Where it stands for NULL, which it does unless the table says otherwise, there is nothing to say.
        assert source.remarks([LegacyTable("mixed", "area", ())], "UTC") == []  # type: ignore[attr-defined]
    assert {subject: remark.says for subject, remark in found.items()} == {
        "table mixed.note": "\\N, as MySQL writes NULL, stands in 2 of the first rows, and is read as that text",
        "table mixed.path": "\\N, as MySQL writes NULL, stands in 1 of the first rows, and is read as that text",
    }
    assert r'`escape: "\\"`' in found["table mixed.note"].remedy
    # As the remedy says, it is NULL, and there is nothing to say of it.
    with open_source(str(tmp_path), dialects=Dialects(CsvDialect(escape="\\"))) as source:
        assert source.remarks(tables, "UTC") == []  # type: ignore[attr-defined]


def test_of_a_csv_file_that_says_its_encoding(tmp_path):
    """UTF-8 that is declared as latin1 looks just so."""
    (tmp_path / "mixed.csv").write_text("id,note\n1,Café\n")
    dialects = Dialects(CsvDialect(encoding="cp1252"))
    with open_source(str(tmp_path), dialects=dialects) as source:
        [remark] = source.remarks([LegacyTable("mixed", "area", ())], "UTC")  # type: ignore[attr-defined]
    assert remark.subject == "table mixed.note"
    assert "encoding" in remark.remedy
