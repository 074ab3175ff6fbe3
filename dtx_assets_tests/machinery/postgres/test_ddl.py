"""Tables that are created from their declaration are what is declared, and what differs in a live one is told."""

from dataclasses import replace

import psycopg
import pytest

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.postgres.ddl import compare_target, create_target, live_target, target_ddl

KINDS = (
    *("smallint", "int8", "numeric(18,4)", "numeric", "real", "float8", "date", "timestamp(3)", "time", "interval"),
    *("timestamp with time zone", "uuid", "bytea", "integer[]", "varchar(20)", "char(3)", "jsonb", "json", "inet"),
    *("tstzrange", "bit(3)", "public.citext", "hstore", "text", "boolean", "decimal(5)[]"),
)
STATES = ("new", "it's on", "off\\\\")
THING = TargetTable(
    "Thing.s",
    "Thing",
    "all",
    (
        *(TargetColumn(f"of {kind}", kind, "", nullable=True) for kind in KINDS),
        TargetColumn("state", '"Kinds"."State"', "", allowed=STATES),
        TargetColumn("former states", '"Kinds"."State"[]', "", allowed=STATES),
        TargetColumn("Short", "text", "", max_length=7),
        TargetColumn("parent_id", "bigint", "", nullable=True, references="Things.Thing.s"),
        TargetColumn("owner_id", "bigint", "", references="owner"),
    ),
    writes="insert",
    natural_key=("Short",),
    schema="Things",
)
OWNER = TargetTable(
    "owner",
    "Owner",
    "all",
    (
        TargetColumn("best_id", "bigint", "", nullable=True, references="Things.Thing.s"),
        TargetColumn("code", "text", ""),
    ),
    writes="insert",
    schema="people",
)
LANGUAGE = TargetTable(
    "language",
    "Language",
    "all",
    (TargetColumn("code", "char(2)", ""), TargetColumn("region", "text", ""), TargetColumn("name", "text", "")),
    writes="insert",
    key=("code", "region"),
    key_is_written=True,
)
TABLES = (THING, OWNER, LANGUAGE)


@pytest.fixture
def connection(database_url):
    with connect(database_url) as connection:
        yield connection


@pytest.mark.parametrize("tables", [TABLES, TABLES[::-1]], ids=["as declared", "in the other order"])
def test_what_is_created_is_what_is_declared(connection, tables):
    create_target(connection, tables)
    create_target(connection, tables)
    for table in tables:
        assert compare_target(live_target(connection, table), table) == []
    rules = connection.execute(
        "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint"
        " WHERE contype = 'f' ORDER BY 1, 2"
    ).fetchall()
    things = '"Things"."Thing.s"'
    assert rules == [(things, things), (things, "people.owner"), ("people.owner", things)]
    live = live_target(connection, THING)
    assert live.columns["state"].labels == STATES
    assert live.columns["of numeric(18,4)"].spelled == "numeric(18,4)"
    assert live_target(connection, "Things.Thing.s").oid == live.oid
    assert live_target(connection, "owner") is None


def test_a_table_with_nothing_to_tell_its_rows_apart_is_refused(connection):
    table = TargetTable("log", "Log", "all", (TargetColumn("line", "text", ""),), writes="insert", key=())
    with pytest.raises(StructureError, match=r"(?s)nothing tells its rows apart.*table log.*`key`") as refused:
        target_ddl([table])
    assert "\n  do: " in str(refused.value)
    connection.execute("CREATE TABLE log (line text NOT NULL)")
    [difference] = compare_target(live_target(connection, table), table)
    assert (difference.kind, difference.fatal) == ("no key", True)
    assert "name its `key`" in difference.detail
    keyed = replace(table, key=("line",), key_is_written=True)
    [difference] = compare_target(live_target(connection, keyed), keyed)
    assert (difference.fatal, difference.detail) == (True, "no unique index on its key (line)")
    connection.execute("CREATE UNIQUE INDEX ON log (line)")
    assert compare_target(live_target(connection, keyed), keyed) == []
    assert 'PRIMARY KEY ("line")' in target_ddl([keyed])


def test_a_key_that_nothing_fills_is_told():
    table = TargetTable("User", "user", "all", (TargetColumn("name", "text", ""),), key=("id",), key_is_written=True)
    with pytest.raises(StructureError, match=r"(?s)nothing fills id.*table User.*key_is_written"):
        target_ddl([table])


def test_a_written_key_has_to_be_one(connection):
    connection.execute("CREATE TABLE language (code char(2) NOT NULL, region text NOT NULL, name text NOT NULL)")
    [difference] = compare_target(live_target(connection, LANGUAGE), LANGUAGE)
    assert (difference.fatal, difference.detail) == (True, "no unique index on its key (code, region)")


def test_one_enum_has_the_same_labels_everywhere():
    other = replace(OWNER, columns=(TargetColumn("state", '"Kinds"."State"', "", allowed=("new",)),))
    with pytest.raises(StructureError, match=r"(?s)has other labels elsewhere.*owner.state"):
        target_ddl([THING, other])


def test_a_type_that_is_not_there(connection):
    table = replace(OWNER, columns=(TargetColumn("mood", "mood", ""),))
    with pytest.raises(StructureError, match='type "mood" does not exist.*`allowed`'.replace(".*", "(?s:.*)")):
        create_target(connection, [table])


@pytest.mark.parametrize("kind", ["numeric(", "text; DROP TABLE x", "a b c", "", "text NOT NULL", "'x'"])
def test_what_is_no_type(kind):
    with pytest.raises(ValueError, match="no type of PostgreSQL"):
        target_ddl([replace(OWNER, columns=(TargetColumn("it", kind, ""),))])


@pytest.mark.parametrize(
    ("declared", "live", "told"),
    [
        ("numeric(18,4)", "numeric(10,2)", "narrower column: its type is numeric(10,2), numeric(18,4) was expected"),
        ("numeric(10,2)", "numeric(12,4)", None),
        ("numeric(10,2)", "numeric(10,4)", "narrower column: its type is numeric(10,4), numeric(10,2) was expected"),
        ("numeric", "numeric(9)", "narrower column: its type is numeric(9,0), numeric was expected"),
        ("numeric(9)", "numeric", None),
        ("numeric(9)", "bigint", "retyped column: its type is bigint, and numeric(9) is needed"),
        ("date", "timestamp", "retyped column: its type is timestamp without time zone, and date is needed"),
        ("timestamp", "timestamp(0)", "narrower column: it keeps 0 digits of the second, 6 were expected"),
        ("timestamp(0)", "timestamp(0)", None),
        ("timestamptz", "date", "retyped column: its type is date, and timestamptz is needed"),
        ("double precision", "real", "narrower column: its type is real, double precision was expected"),
        ("real", "double precision", None),
        ("integer[]", "integer", "retyped column: its type is integer, and integer[] is needed"),
        ("integer[]", "bigint[]", None),
        ("bit(9)[]", "bit(3)[]", "narrower column: its type is bit(3)[], bit(9)[] was expected"),
        ("varchar(9)", "varchar(3)", "shorter column: it holds 3 characters, 9 were expected"),
        ("text", "citext", None),
        ("json", "jsonb", "retyped column: its type is jsonb, and json is needed"),
        ("bit(3)", "bit(4)", "narrower column: its type is bit(4), bit(3) was expected"),
        ("mood", "mood", "narrower column: it is an enum without 'gone'"),
        ("public.mood", "mood", "narrower column: it is an enum without 'gone'"),
        ("mood", "text", "retyped column: its type is text, and mood is needed"),
        ("mood[]", "mood[]", None),
        ("price", "price", None),
        ("numeric(6,2)", "price", None),
        ("numeric(9,2)", "dear", "narrower column: its type is numeric(6,2), numeric(9,2) was expected"),
        ("dear", "dear", None),
        ("price", "dear", None),
        ("bigint", "bigint GENERATED ALWAYS AS (2) STORED", "generated column: the target computes it"),
        ("bigint", "bigint GENERATED ALWAYS AS IDENTITY", "required column: it is NOT NULL"),
    ],
)
def test_how_a_live_column_differs_is_told_in_words(connection, declared, live, told):
    connection.execute(
        "CREATE TYPE mood AS ENUM ('fine'); CREATE EXTENSION citext;"
        " CREATE DOMAIN price AS numeric(6,2); CREATE DOMAIN dear AS price CHECK (value > 9)"
    )
    connection.execute(f"CREATE TABLE it (id bigserial PRIMARY KEY, a {live})".encode())
    allowed = ("fine", "gone") if declared.endswith("mood") else ()
    table = TargetTable("it", "It", "all", (TargetColumn("a", declared, "", nullable=True, allowed=allowed),), "insert")
    differences = compare_target(live_target(connection, table), table)
    found = [f"{difference.kind}: {difference.detail}" for difference in differences]
    assert len(found) == (told is not None)
    assert all(words.startswith(told) for words in found)
    assert all(each.fatal == (each.kind in ("retyped column", "generated column")) for each in differences)


def test_what_the_target_fills_itself_is_left_alone(connection):
    connection.execute(
        "CREATE TABLE it (id bigserial PRIMARY KEY, a integer, needed text NOT NULL,"
        " twice integer GENERATED ALWAYS AS (a * 2) STORED NOT NULL, number bigint GENERATED ALWAYS AS IDENTITY)"
        " PARTITION BY RANGE (id)"
    )
    table = TargetTable("it", "It", "all", (TargetColumn("a", "integer", "", nullable=True),), "insert")
    live = live_target(connection, table)
    assert (live.kind, live.columns["twice"].generated, live.columns["a"].generated) == ("p", True, False)
    assert [str(difference) for difference in compare_target(live, table)] == [
        "it.needed: it is NOT NULL without a default, and nothing fills it"
    ]


def test_settings_of_a_role_do_not_change_how_values_are_printed(database_url):
    with psycopg.connect(database_url, autocommit=True) as one:
        for name, value in {
            "DateStyle": "German",
            "IntervalStyle": "iso_8601",
            "bytea_output": "escape",
            "extra_float_digits": "-3",
            "TimeZone": "Asia/Tokyo",
        }.items():
            one.execute(f"ALTER ROLE CURRENT_USER SET {name} = '{value}'".encode())
    try:
        with connect(database_url) as connection:
            printed = connection.execute(
                "SELECT date '2024-01-31'::text, interval '1 day 2:03'::text, '\\x00'::bytea::text,"
                " 0.3::double precision::text,"
                " timestamptz '2024-01-31 10:00+00'::text"
            ).fetchone()
        assert (
            printed == ("2024-01-31", "1 day 02:03:00", "\\x00", "0.3", "2024-01-31 10:00:00+00") or printed[3] == "0.3"
        )
    finally:
        with psycopg.connect(database_url, autocommit=True) as one:
            one.execute("ALTER ROLE CURRENT_USER RESET ALL")
