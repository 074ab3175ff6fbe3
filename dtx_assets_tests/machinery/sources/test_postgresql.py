"""PostgreSQL as a source: every value as the server's own text, one snapshot, faults told without secrets."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy.engine import make_url

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import open_source, postgresql
from dtx_assets.machinery.sources.landing import WROTE


@pytest.fixture
def server(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def execute(server: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        server.execute(statement)


def test_every_type_lands_as_the_servers_own_text(server, database_url, place):
    execute(
        server,
        "CREATE TABLE t (i int, n numeric(30,15), f float8, at timestamptz, ts timestamp, day date, b boolean,"
        " c char(4), v varchar, j jsonb, a int[], u uuid)",
        "SET TimeZone = 'UTC'",
        "INSERT INTO t VALUES (-1, 0.123456789012345, 0.1, '2021-01-01 00:00:01.5+00', 'infinity', '0044-03-15 BC',"
        " true, 'ab', E' \"v\"\\r\\n,\\\\N ', '{\"a\": 1}', '{1,NULL}', '00000000-0000-0000-0000-000000000001')",
        "INSERT INTO t (v) VALUES ('')",
        "INSERT INTO t (v) VALUES (NULL), ('NULL'), ('\\.')",
        "ALTER ROLE CURRENT_USER SET DateStyle = 'German'",
    )
    manifest = place.land(database_url, "t")
    execute(server, "ALTER ROLE CURRENT_USER RESET DateStyle")
    rows = place.frame("t").drop("_row", "_undecodable").to_dicts()
    assert rows[0] == {
        "i": "-1",
        "n": "0.123456789012345",
        "f": "0.1",
        "at": "2021-01-01 00:00:01.5+00",
        "ts": "infinity",
        "day": "0044-03-15 BC",
        "b": "true",
        "c": "ab",
        "v": ' "v"\r\n,\\N ',
        "j": '{"a": 1}',
        "a": "{1,NULL}",
        "u": "00000000-0000-0000-0000-000000000001",
    }
    assert [row["v"] for row in rows[1:]] == ["", None, "NULL", "\\."]
    assert rows[1]["i"] is None
    facts = manifest.metadata
    assert (facts["dialect"], facts["source_rows"], facts["row_count_matches"]) == ("database", 5, True)
    assert (facts["consistent_snapshot"], facts["changed_while_read"]) == (True, [])


def test_bytea_is_kept_as_bytes(server, database_url, place):
    execute(
        server,
        "CREATE TABLE t (id int, b bytea)",
        r"INSERT INTO t VALUES (1, '\xff00'), (2, 'text'), (3, NULL), (4, '')",
    )
    assert place.land(database_url, "t").metadata["undecodable_values"] == 1
    assert place.rows("t") == [("1", "\\xff\x00"), ("2", "text"), ("3", None), ("4", "")]
    assert place.undecodable("t") == [(1, "b", b"\xff\x00")]


def test_a_database_without_encoding(server, postgres_server, place):
    execute(server, "CREATE DATABASE no_encoding ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    try:
        url = postgres_server.create_database("no_encoding_unused")
        url = make_url(url).set(database="no_encoding").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True, client_encoding="sql_ascii") as connection:
            connection.execute("CREATE TABLE t (v text)")
            connection.execute(rb"INSERT INTO t VALUES (E'caf\xe9'), ('caf' || E'\303\251')")
            connection.execute("CREATE TABLE u (v text)")
        with open_source(url) as source:
            place.land_from(source, "t")
            place.land_from(source, "u")
        assert place.rows("t") == [("caf\\xe9",), ("café",)]
        assert place.undecodable("t") == [(1, "v", b"caf\xe9")]
    finally:
        execute(server, "DROP DATABASE no_encoding WITH (FORCE)")
        postgres_server.drop_database("no_encoding_unused")


def test_names_of_any_kind(server, database_url, place):
    names = ["a b", "50%", "#", "it's", "a/b?", 'say "x"', "{}", "Größe", "%s", "MixedCase"]
    quoted = ", ".join('"' + name.replace('"', '""') + '" int' for name in names)
    execute(server, f'CREATE TABLE "T %s" ({quoted})', 'INSERT INTO "T %s" VALUES (0,1,2,3,4,5,6,7,8,9)')
    assert place.land(database_url, "T %s").metadata["columns"] == names
    assert place.rows("T %s") == [tuple("0123456789")]


def test_a_table_of_one_column_keeps_null_and_empty_apart(server, database_url, place):
    execute(server, "CREATE TABLE t (v text)", "INSERT INTO t VALUES (NULL), (''), ('x'), (NULL)")
    execute(server, "CREATE TABLE no_rows (v text)")
    place.land(database_url, "t")
    assert place.rows("t") == [(None,), ("",), ("x",), (None,)]
    assert place.land(database_url, "no_rows").metadata["source_rows"] == 0
    assert place.frame("no_rows").columns == ["v", "_row", "_undecodable"]


def test_rows_come_as_they_are_stored(server, database_url, place):
    execute(server, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (3), (1), (2)", "ANALYZE t")
    place.land(database_url, "t")
    assert place.rows("t") == [("3",), ("1",), ("2",)]


def test_all_tables_are_read_as_they_were_when_the_source_was_opened(server, database_url, place):
    execute(server, "CREATE TABLE a (v int)", "CREATE TABLE b (v int)", "INSERT INTO a VALUES (1)")
    with open_source(database_url) as source:
        execute(server, "INSERT INTO a VALUES (2)", "INSERT INTO b VALUES (2)")
        manifests = [place.land_from(source, name) for name in ("a", "b")]
    assert (place.rows("a"), place.rows("b")) == ([("1",)], [])
    assert [each.metadata["source_rows"] for each in manifests] == [1, 0]


def test_a_transaction_that_writes_is_refused_and_would_be_noted(server, database_url, place, monkeypatch):
    """A view may call a function that writes."""
    execute(
        server,
        "CREATE TABLE seen (at timestamptz)",
        "CREATE FUNCTION look() RETURNS int LANGUAGE sql AS 'INSERT INTO seen VALUES (now()) RETURNING 1'",
        "CREATE VIEW v AS SELECT look() AS v",
    )
    with pytest.raises(SourceError, match="read-only"):
        place.land(database_url, "v")
    monkeypatch.setattr(postgresql, "SESSION", ())
    assert place.land(database_url, "v").metadata[WROTE] is True
    assert WROTE not in place.land(database_url, "seen").metadata


def test_rows_larger_than_a_block(server, database_url, place, monkeypatch):
    monkeypatch.setattr(postgresql, "FIRST_BLOCK", 1 << 16)
    execute(
        server,
        "CREATE TABLE t (id int, l text)",
        "INSERT INTO t SELECT i, CASE i WHEN 500 THEN repeat(E'ä\"\\n', 2000000) ELSE 'x' END"
        " FROM generate_series(1, 1000) i",
    )
    place.land(database_url, "t")
    frame = place.frame("t")
    assert frame["id"].cast(int).to_list() == list(range(1, 1001))
    assert frame["l"][499] == 'ä"\n' * 2_000_000
    monkeypatch.setattr(postgresql, "LAST_BLOCK", 1 << 20)
    with open_source(database_url) as source:
        with pytest.raises(SourceError, match="more bytes than can be read"):
            place.land_from(source, "t")
        execute(server, "CREATE TABLE later (v int)")
        with pytest.raises(SourceError, match="the table later is missing"):
            place.land_from(source, "later")


def test_an_error_in_one_table_leaves_the_snapshot_to_the_others(server, database_url, place):
    execute(
        server,
        "CREATE TABLE a AS SELECT generate_series(1, 2000000) v",
        "CREATE TABLE b (v int)",
        "CREATE VIEW broken AS SELECT 1 / v AS v FROM b",
        "INSERT INTO b VALUES (0)",
    )

    def full(_rows: int) -> None:
        raise OSError("no space left")

    with open_source(database_url) as source:
        execute(server, "INSERT INTO b VALUES (2)")
        with pytest.raises(OSError, match="no space left"):
            source.extract(LegacyTable("a", "area", ()), place.lake, ("toy", "legacy", "a"), "r", full)
        with pytest.raises(SourceError, match="division by zero"):
            place.land_from(source, "broken")
        place.land_from(source, "b")
    assert place.is_untouched("a")
    assert place.is_untouched("broken")
    assert place.rows("b") == [("0",)]


def test_a_server_that_goes_away_in_mid_read(server, database_url, place):
    execute(server, "CREATE TABLE t AS SELECT i, repeat('x', 500) FROM generate_series(1, 200000) i")

    def kill(_rows: int) -> None:
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    with open_source(database_url) as source, pytest.raises(SourceError, match="does not give the table t"):
        source.extract(LegacyTable("t", "area", ()), place.lake, ("toy", "legacy", "t"), "r", kill)
    assert place.is_untouched("t")


def test_a_missing_table_is_told_with_those_that_are_there(server, database_url, place):
    execute(server, "CREATE TABLE letter (v int)", "CREATE SCHEMA other", "CREATE TABLE other.hidden (v int)")
    with pytest.raises(SourceError, match="the table hidden is missing") as caught:
        place.land(database_url, "hidden")
    assert caught.value.remedy.endswith("letter")
    assert place.is_untouched("hidden")


@pytest.mark.parametrize("changes", [{"password": "Wr0ngSecret"}, {"database": "nosuch"}, {"port": 1}])
def test_what_cannot_be_reached_is_told_without_its_password(database_url, place, changes):
    url = make_url(database_url).set(**changes)
    with pytest.raises(SourceError) as caught:
        place.land(url.render_as_string(hide_password=False), "t")
    assert "check host, database, user and password" in caught.value.remedy
    assert url.password not in str(caught.value)
    assert "***" in caught.value.where


def test_a_url_that_is_wrong():
    with pytest.raises(ConfigurationError) as caught:
        open_source("postgresql://u:s3cret%zz@h/d")
    assert "s3cret" not in str(caught.value)
    assert "%XX" in caught.value.remedy


def test_every_scheme_of_the_server(server, database_url, place):
    execute(server, "CREATE TABLE t (v int)", "INSERT INTO t VALUES (1)")
    for scheme in ("postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
        place.land(make_url(database_url).set(drivername=scheme).render_as_string(hide_password=False), "t")
        assert place.rows("t") == [("1",)]


def test_text_is_the_value_whatever_the_account_is_set_to(server, database_url, place):
    """Two instants an hour apart were one text, floats lost digits, money came in the words of a language."""
    execute(
        server,
        "CREATE DOMAIN instant AS timestamptz",
        "CREATE DOMAIN later AS instant",
        "CREATE DOMAIN raw AS bytea",
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, d later, f real, g float8, m money, i interval, b bytea,"
        " r raw, span tstzrange, ts timestamp)",
        "INSERT INTO t VALUES (1, '2021-11-07 05:30:00+00', '2021-11-07 05:30:00.25+00', 16777217, 5e-324, -1234.56,"
        " '1 year -2 days 30:00:01', 'x', 'y', '[2021-11-07 05:30:00+00,)', '2021-11-07 01:30:00'),"
        " (2, '2021-11-07 06:30:00+00', 'infinity', 1234567.9, 1.7976931348623157e308, 5, NULL, '', '', NULL, NULL),"
        " (3, '-infinity', '0044-03-15 12:00:00+00 BC', '-0', 0.1, NULL, NULL, NULL, NULL, NULL, NULL)",
        "CREATE VIEW w AS SELECT id, at, f, m, at::timestamp AS local FROM t",
        "ALTER ROLE CURRENT_USER SET TimeZone = 'America/New_York'",
        "ALTER ROLE CURRENT_USER SET extra_float_digits = 0",
        "ALTER ROLE CURRENT_USER SET IntervalStyle = 'sql_standard'",
        "ALTER ROLE CURRENT_USER SET bytea_output = 'escape'",
        "ALTER ROLE CURRENT_USER SET DateStyle = 'SQL, DMY'",
    )
    try:
        place.land(database_url, "t")
        place.land(database_url, "w")
    finally:
        execute(server, "ALTER ROLE CURRENT_USER RESET ALL")
    first, second, third = place.frame("t").drop("_row", "_undecodable").to_dicts()
    assert first == {
        "id": "1",
        "at": "2021-11-07 05:30:00+00",
        "d": "2021-11-07 05:30:00.25+00",
        "f": "1.6777216e+07",
        "g": "5e-324",
        "m": "-1234.56",
        "i": "1 year -2 days +30:00:01",
        "b": "x",
        "r": "y",
        "span": '["2021-11-07 01:30:00-04",)',
        "ts": "2021-11-07 01:30:00",
    }
    assert (second["at"], second["d"], second["f"], second["m"]) == (
        "2021-11-07 06:30:00+00",
        "infinity",
        "1.2345679e+06",
        "5.00",
    )
    assert (third["at"], third["f"], third["g"]) == ("-infinity", "-0", "0.1")
    assert third["d"].endswith("BC")
    assert place.rows("w")[:2] == [
        ("1", "2021-11-07 05:30:00+00", "1.6777216e+07", "-1234.56", "2021-11-07 01:30:00"),
        ("2", "2021-11-07 06:30:00+00", "1.2345679e+06", "5.00", "2021-11-07 01:30:00"),
    ]


def test_a_view_that_is_broken_says_so(server, database_url, place):
    execute(
        server,
        "CREATE FUNCTION gone() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION calls() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN gone(); END'",
        "CREATE VIEW v_gone AS SELECT calls() AS v",
        "DROP FUNCTION gone",
        "CREATE MATERIALIZED VIEW never AS SELECT 1 AS v WITH NO DATA",
    )
    for name, said in {"v_gone": "gone", "never": "not been populated"}.items():
        with pytest.raises(SourceError, match=f"{name} is a view that is broken: .*{said}") as caught:
            place.land(database_url, name)
        assert "mend the view" in caught.value.remedy
        with open_source(database_url) as source, pytest.raises(SourceError, match="is a view that is broken"):
            source.columns(LegacyTable(name, "area", ()))


def test_a_foreign_table_whose_server_is_away_says_so(server, database_url, place):
    execute(
        server,
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1')",
        "CREATE USER MAPPING FOR CURRENT_USER SERVER away OPTIONS (user 'u', password 's3cret')",
        "CREATE FOREIGN TABLE far (v int) SERVER away",
    )
    with pytest.raises(SourceError, match="far is a foreign table, and its server does not give it") as caught:
        place.land(database_url, "far")
    assert "reach that server" in caught.value.remedy
    assert "s3cret" not in str(caught.value)


def test_tables_without_rights_say_so(server, database_url, place):
    role = server.info.dbname
    execute(
        server,
        "CREATE TABLE t (v int, w int)",
        "CREATE SCHEMA closed",
        "CREATE TABLE closed.inner_table (v int)",
        f"CREATE ROLE {role} LOGIN PASSWORD 's3cret'",
        f"GRANT SELECT (v) ON t TO {role}",
    )
    url = make_url(database_url).set(username=role, password="s3cret").render_as_string(hide_password=False)
    try:
        with pytest.raises(SourceError, match="permission denied for table t") as caught:
            place.land(url, "t")
        assert "grant SELECT" in caught.value.remedy
        with pytest.raises(SourceError, match="inner_table is in the schema closed, which this account may not use"):
            place.land(url, "inner_table")
    finally:
        execute(server, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_table_of_another_schema(server, database_url, place):
    """The search path shows another table of the same name."""
    execute(
        server,
        'CREATE SCHEMA "Old Books"',
        'CREATE TABLE "Old Books".letter (id int, "Note" text, b bytea)',
        "CREATE TABLE letter (v int)",
        r"""INSERT INTO "Old Books".letter VALUES (1, 'Café', '\xff'), (2, NULL, NULL)""",
        "INSERT INTO letter VALUES (7)",
    )
    letter = LegacyTable("letter", "area", (), schema="Old Books")
    with open_source(database_url) as source:
        assert source.columns(letter) == ["id", "Note", "b"]
        assert source.columns(LegacyTable("letter", "area", ())) == ["v"]
        assert source.tables() == ["letter"]
        assert source.stored_bytes([letter]) >= 8192
        assert [remark.subject for remark in source.remarks([letter], "UTC")] == []  # type: ignore[attr-defined]
        assert place.land_from(source, letter).metadata["row_count_matches"]
    assert place.rows("letter") == [("1", "Café", r"\xff"), ("2", None, None)]


def test_a_table_that_another_schema_has_not_is_told_with_those_that_it_has(server, database_url, place):
    execute(server, "CREATE SCHEMA old", "CREATE TABLE old.letter (v int)", "CREATE TABLE note (v int)")
    for schema, there in (("old", "old.letter"), ("nosuch", "none")):
        table = LegacyTable("note", "area", (), schema=schema)
        with pytest.raises(SourceError, match=f"the table {schema}[.]note is missing") as caught:
            place.land(database_url, table)
        assert caught.value.remedy.endswith(there)
        with open_source(database_url) as source, pytest.raises(SourceError, match=f"{schema}[.]note is missing"):
            source.columns(table)
    execute(server, "CREATE VIEW old.broken AS SELECT 1 / (v - v) AS v FROM old.letter")
    execute(server, "INSERT INTO old.letter VALUES (1)")
    with pytest.raises(SourceError, match=r"old[.]broken is a view that is broken"):
        place.land(database_url, LegacyTable("broken", "area", (), schema="old"))


def test_what_there_is_to_know_of_tables_in_another_schema(server, database_url):
    execute(
        server,
        "CREATE SCHEMA old",
        "CREATE TABLE old.parent (note text)",
        "CREATE TABLE old.child () INHERITS (old.parent)",
        "INSERT INTO old.parent VALUES ('CafÃ©')",
        "CREATE TABLE parent (note text)",
    )
    tables = [LegacyTable(name, "area", (), schema="old") for name in ("parent", "child")]
    with open_source(database_url) as source:
        found = {remark.subject: remark.says for remark in source.remarks(tables, "UTC")}  # type: ignore[attr-defined]
        assert source.remarks([LegacyTable("parent", "area", ())], "UTC") == []  # type: ignore[attr-defined]
    assert found["table parent"].startswith("the rows of child are read twice")
    assert found["table old.parent.note"].startswith("1 of 1 values beyond ASCII")


def test_types_that_have_a_form_of_their_own(server, database_url, place):
    execute(
        server,
        "CREATE TYPE mood AS ENUM ('sad', 'very happy')",
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE DOMAIN moods AS mood[]",
        "CREATE TABLE t (n numeric, m mood, ms moods, u uuid, ua uuid[], ta text[], ba bytea[], r int4range,"
        ' nr nummultirange, i interval, p pair, bits bit(3), net inet, j json, x "char", ts tsvector, pt point,'
        " tt timetz, at timestamptz[])",
        "SET TimeZone = 'UTC'",
        "INSERT INTO t VALUES ('NaN', 'very happy', '{sad,\"very happy\"}', 'A0EEBC999C0B4EF8BB6D6BB9BD380A11',"
        " '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', '{\"a,b\",NULL,\"\"}', '{\"\\\\xff00\"}', '[1,5)',"
        " '{[1.5,2.5),[7,)}', '-1 days +02:03:04.5', ROW(1, 'x,y'), B'101', '10.0.0.1/8', '{\"a\":  1.50}', 'q',"
        " 'a:1 b:2', '(1.5,2)', '10:00:00+02', '{2021-11-07 05:30:00+00}')",
        "INSERT INTO t (n) VALUES ('12345678901234567890.12345678901234567890'), ('Infinity')",
    )
    place.land(database_url, "t")
    first, second, third = place.frame("t").drop("_row", "_undecodable").rows()
    assert first == (
        "NaN",
        "very happy",
        '{sad,"very happy"}',
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
        '{"a,b",NULL,""}',
        '{"\\\\xff00"}',
        "[1,5)",
        "{[1.5,2.5),[7,)}",
        "-1 days +02:03:04.5",
        '(1,"x,y")',
        "101",
        "10.0.0.1/8",
        '{"a":  1.50}',
        "q",
        "'a':1 'b':2",
        "(1.5,2)",
        "10:00:00+02",
        '{"2021-11-07 05:30:00+00"}',
    )
    assert (second[0], third[0]) == ("12345678901234567890.12345678901234567890", "Infinity")
