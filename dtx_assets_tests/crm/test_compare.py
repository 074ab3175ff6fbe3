"""The comparison finds what differs: it is given a database that the second reading's own result was written into.

That also shows that the second reading's rows hold under the target's types, enums and foreign keys.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from dtx_assets_tests.crm.compare import brief, differences, found_in
from dtx_assets_tests.crm.second_reading import Inputs, Result, migrate
from dtx_assets_tests.crm.second_reading_facts import FACTS, Field
from dtx_assets_tests.crm.second_reading_values import Digits
from dtx_assets_tests.crm.ugly import decisions, dump, thorough

BOOKS = """
CREATE SCHEMA migration;
CREATE TABLE migration.run (run_id text, started_at timestamptz DEFAULT now());
CREATE TABLE migration.mapping (system text, source_table text, source_key text, target_table text, part text,
    target_id text);
CREATE TABLE migration.rejected (system text, source_table text, source_key text, target_table text, reasons text[],
    partial boolean);
CREATE TABLE migration.accounting (system text, run_id text, source_table text, target_table text, read bigint,
    migrated bigint, rejected bigint, dropped jsonb, coerced jsonb);
CREATE TABLE migration.extra (system text, source_table text, source_key text, extra jsonb);
INSERT INTO migration.run VALUES ('one');
"""


def column_of(column: Field) -> str:
    type_name = f'"{column.type}"' if column.rule == "enum" else column.type
    return f'"{column.column}" {type_name}{"" if column.nullable else " NOT NULL"}'


def create(connection: psycopg.Connection[Any]) -> None:
    for name, labels in {each.type: each.labels for each in FACTS.fields if each.rule == "enum"}.items():
        listed = ", ".join(f"'{label}'" for label in labels)
        connection.execute(f'CREATE TYPE "{name}" AS ENUM ({listed})'.encode())
    for name in FACTS.in_order():
        columns = [column_of(each) for each in FACTS.columns[name]]
        keys = [
            f'FOREIGN KEY ("{each.column}") REFERENCES "{each.references}"'
            for each in FACTS.columns[name]
            if each.references
        ]
        connection.execute(f'CREATE TABLE "{name}" ({", ".join([*columns, "PRIMARY KEY (id)", *keys])})'.encode())
    for name, (first, *_) in FACTS.junctions.items():
        ends = ((first.own_column, first.collection), (first.column, first.references))
        columns = [f'"{column}" uuid REFERENCES "{table}"' for column, table in ends]
        key = f'PRIMARY KEY ("{first.own_column}", "{first.column}")'
        connection.execute(f'CREATE TABLE "{name}" ({", ".join([*columns, key])})'.encode())
    connection.execute(BOOKS.encode())


def as_json(value: Any) -> str:
    """JSON text in which numbers of a Decimal128 keep their digits."""
    if isinstance(value, Digits):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{as_json(member)}" for name, member in value.items()) + "}"
    return "[" + ",".join(map(as_json, value)) + "]" if isinstance(value, list) else json.dumps(value)


def placeholder(column: Field) -> sql.SQL:
    if column.rule == "timestamp":
        return sql.SQL("timestamp '1970-01-01' + make_interval(days => %s) + interval '1 millisecond' * %s")
    casts = {"jsonb": "%s::jsonb", "array_text": "%s::text[]", "array_uuid": "%s::uuid[]", "enum": "%s"}
    return sql.SQL(casts.get(column.rule, "%s"))  # type: ignore[arg-type]


def sent(column: Field, value: Any) -> list[Any]:
    if column.rule == "timestamp":  # an interval does not reach as far as a timestamp but in days
        return [None, None] if value is None else list(divmod(value, 86_400_000))
    return [as_json(value) if column.rule == "jsonb" and value is not None else value]


def write(connection: psycopg.Connection[Any], result: Result) -> None:
    for name in FACTS.in_order():
        columns = FACTS.columns[name]
        statement = sql.SQL("INSERT INTO {} VALUES ({})").format(
            sql.Identifier(name), sql.SQL(", ").join(map(placeholder, columns))
        )
        for row in result.rows[name].values():
            connection.execute(statement, [value for each in columns for value in sent(each, row[each.column])])
    for name, found in result.pairs.items():
        for pair in found:
            connection.execute(sql.SQL("INSERT INTO {} VALUES (%s, %s)").format(sql.Identifier(name)), pair)
    for entry in result.mapping:
        target_id = entry.target_id if isinstance(entry.target_id, str) else json.dumps(entry.target_id)
        values = ["crm", entry.source_table, entry.source_key, entry.target_table, entry.part, target_id]
        connection.execute("INSERT INTO migration.mapping VALUES (%s, %s, %s, %s, %s, %s)", values)
    for each in result.rejected:
        values = ["crm", each.source_table, each.source_key, each.target, list(each.reasons), each.partial]
        connection.execute("INSERT INTO migration.rejected VALUES (%s, %s, %s, %s, %s, %s)", values)
    for (source, target), books in result.accounting.items():
        counts = [books.read, books.migrated, books.rejected, Jsonb(books.dropped), Jsonb(books.coerced)]
        connection.execute(
            "INSERT INTO migration.accounting VALUES ('crm', 'one', %s, %s, %s, %s, %s, %s, %s)",
            [source, target, *counts],
        )
    for table, key, extra in result.extra:
        connection.execute("INSERT INTO migration.extra VALUES ('crm', %s, %s, %s)", [table, key, Jsonb(extra)])


@pytest.mark.parametrize("seed", [None, 4, 6])
def test_what_was_written_is_what_is_expected(database_url, seed):
    chosen = {} if seed is None else decisions(seed) | {"ids": "uuid_v5"}
    made = thorough() if seed is None else dump(seed)
    expected = migrate(Inputs(made.collections, chosen))
    with psycopg.connect(database_url) as connection:
        create(connection)
        write(connection, expected)
    told = differences(found_in(database_url), expected)
    assert told == [], brief(told)


@pytest.fixture
def written(database_url) -> tuple[str, Result]:
    expected = migrate(Inputs(dump(4).collections, {"undeclared_fields": "extra_table"}))
    with psycopg.connect(database_url) as connection:
        create(connection)
        write(connection, expected)
    return database_url, expected


CHANGES = {
    'UPDATE "Users" SET is_admin = NOT is_admin': "Users.is_admin",
    "UPDATE \"Tasks\" SET tags = '[1.50]'": "Tasks.tags",
    "UPDATE \"Invoices\" SET date_due = date_due + interval '1 millisecond'": "Invoices.date_due",
    'UPDATE "crm_Contacts" SET tags = array_append(tags, NULL)': "crm_Contacts.tags",
    'UPDATE "Boards" SET "sharedWith" = NULL': "Boards.sharedWith",
    'UPDATE "Boards" SET "createdBy" = gen_random_uuid()': "Boards.createdBy",
    'DELETE FROM "tasksComments"': "tasksComments row missing",
    "INSERT INTO \"modulStatus\" VALUES (gen_random_uuid(), 'n', true)": "modulStatus row too much",
    'DELETE FROM "BoardWatchers"': "BoardWatchers pair missing",
    "UPDATE migration.mapping SET part = part || 'x' WHERE part <> ''": "mapping too much",
    "UPDATE migration.mapping SET target_id = gen_random_uuid()::text WHERE part = ''": "mapping missing",
    "UPDATE migration.mapping SET target_id = '[1, 2]' WHERE part <> ''": "mapping missing",
    "UPDATE migration.mapping SET target_id = 7 WHERE part <> ''": "mapping missing",
    "UPDATE migration.rejected SET reasons = reasons || 'unparseable'::text": "rejected too much",
    "UPDATE migration.rejected SET partial = NOT partial": "rejected missing",
    "UPDATE migration.accounting SET coerced = '{\"x\": 1}'": "accounting",
    "DELETE FROM migration.accounting": "accounting",
    "UPDATE migration.extra SET extra = '{}'": "extra missing",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_told(written, change):
    url, expected = written
    with psycopg.connect(url) as connection:
        assert connection.execute(change.encode()).rowcount > 0
    told = differences(found_in(url), expected)
    assert CHANGES[change] in {each.where for each in told}
    assert CHANGES[change] in brief(told)


def test_rows_that_others_wrote_are_left_out(written):
    url, expected = written
    other = "11111111-2222-4333-8444-555555555555"
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO \"modulStatus\" VALUES (%s, 'n', true)", [other])
    assert [each.where for each in differences(found_in(url), expected)] == ["modulStatus row too much"]
    assert differences(found_in(url), expected, others=[other]) == []


def test_milliseconds_are_those_of_the_database(written):
    url, _ = written
    with psycopg.connect(url) as connection:
        [(text,)] = connection.execute('SELECT "createdAt"::text FROM "crm_Accounts" ORDER BY id LIMIT 1').fetchall()
    first = min(found_in(url).rows["crm_Accounts"].items())[1]["createdAt"]
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=first)
    assert moment.replace(tzinfo=None) == datetime.fromisoformat(text)
