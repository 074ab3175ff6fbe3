"""The forms that legacy tables of Dispatch come in: CSV files, and PostgreSQL tables as Django makes them.

What a typed column cannot hold becomes NULL there; of rows with one key PostgreSQL has the last.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from dtx_assets_tests.dispatch.second_reading import GENERIC, pair_of
from dtx_assets_tests.dispatch.second_reading_values import (
    COLUMNS,
    Unreadable,
    Value,
    as_boolean,
    as_integer,
    as_uuid,
    kind_of,
)

Row = Mapping[str, Value]
Tables = Mapping[str, Sequence[Row]]

TYPES = {
    "integer": "bigint",
    "boolean": "boolean",
    "number": "numeric",
    "date": "date",
    "time": "timestamp with time zone",
    "uuid": "uuid",
    "text": "text",
}
REFERENCES = {
    "auth_user_groups": {"user_id": "auth_user", "group_id": "auth_group"},
    "dispatch_patient": {"user_id": "auth_user", "doctor_id": "auth_user", "office_id": "dispatch_office"},
    "dispatch_office": {"doctor_id": "auth_user"},
    "dispatch_office_doctors": {"office_id": "dispatch_office", "user_id": "auth_user"},
    "dispatch_instruction": {"patient_id": "dispatch_patient", "course_id": "dispatch_course"},
    "dispatch_project": {"creator_id": "auth_user"},
    "dispatch_record": {"author_id": "auth_user", "group_id": "auth_group"},
    "dispatch_state": {"actor_id": "auth_user", "instruction_id": "dispatch_instruction"},
    "dispatch_template": {"course_id": "dispatch_course"},
    "auth_permission": {"content_type_id": "django_content_type"},
}
OTHERS: Mapping[str, Sequence[Row]] = {
    "auth_permission": [{"id": "1", "name": "Can add", "content_type_id": "1"}],
    "dispatch_task": [{"id": "1", "name": "nobody named this table"}, {"id": "2", "name": None}],
    "dispatch_notification": [{"id": "1", "name": ""}],
}
"""Tables of a Django database that the plan does not know; permissions have a type column without partner."""


def write_files(directory: Path, files: Mapping[str, bytes]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


# --- CSV --------------------------------------------------------------------------------------------------------------


def write_csv(directory: Path, tables: Tables, *, mark: bool = False, line_end: str = "\n") -> Path:
    r"""`<table>.csv` of each; `mark`: with a byte-order mark. NULL is `\N`."""
    directory.mkdir(parents=True, exist_ok=True)
    for table, rows in tables.items():
        header = list(rows[0]) if rows else COLUMNS[table].split()
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator=line_end)
        writer.writerow(header)
        writer.writerows([_as_csv(row[column]) for column in header] for row in rows)
        data = text.getvalue().encode("utf-8", errors="surrogateescape")
        (directory / f"{table}.csv").write_bytes((b"\xef\xbb\xbf" if mark else b"") + data)
    return directory


def _as_csv(value: Value) -> str:
    if value is None:
        return r"\N"
    return value.decode("utf-8", errors="surrogateescape") if isinstance(value, bytes) else value


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def write_database(url: str, tables: Tables, schema: str = "public", *, text_ids: bool = False) -> None:
    """`text_ids`: the partners of generic keys are text, as where Django's models have keys of several kinds."""
    with psycopg.connect(url) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
        for table, rows in {**tables, **OTHERS}.items():
            _write_table(connection, table, rows, text_ids=text_ids)
        for table, references in REFERENCES.items():
            for column, other in references.items():
                _refer(connection, table, column, other)
        for table in GENERIC:
            if tables.get(table):
                _refer(connection, table, pair_of(tables[table][0])[0], "django_content_type")


def _write_table(connection: psycopg.Connection, table: str, rows: Sequence[Row], *, text_ids: bool) -> None:
    header = list(rows[0]) if rows else COLUMNS[table].split()
    kinds = {column: kind_of(table, column) for column in header}
    if table in GENERIC and rows:
        kinds[pair_of(header)[1]] = "text" if text_ids else "integer"
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(
            sql.Identifier(column), sql.SQL(TYPES[kind] + (" PRIMARY KEY" if column == "id" else ""))
        )
        for column, kind in kinds.items()
    )
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(table), columns))
    typed = [{column: _typed(connection, kinds[column], row[column]) for column in header} for row in rows]
    last = {row["id"]: row for row in typed if row["id"] is not None}
    statement = sql.SQL("INSERT INTO {} VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(sql.SQL("%s::{}").format(sql.SQL(TYPES[kinds[each]])) for each in header),
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, [[row[column] for column in header] for row in last.values()])


def _typed(connection: psycopg.Connection, kind: str, value: Value) -> Value:
    """The value as the column can hold it, or None."""
    if not isinstance(value, str) or "\0" in value or value in ("NULL", r"\N"):
        return None
    try:
        match kind:
            case "integer":
                return str(as_integer(value))
            case "boolean":
                return str(as_boolean(value))
            case "uuid":
                return as_uuid(value)
            case "text":
                return value
    except Unreadable:
        return None
    # PostgreSQL itself says what a number, a date or a time is to it.
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SELECT %s::{}").format(sql.SQL(TYPES[kind])), [value])
    except psycopg.DataError:
        return None
    return value


def _refer(connection: psycopg.Connection, table: str, column: str, other: str) -> None:
    """A foreign key as Django makes it; NOT VALID, because the orphans are there already."""
    connection.execute(
        sql.SQL(
            "ALTER TABLE {} ADD FOREIGN KEY ({}) REFERENCES {} (id) DEFERRABLE INITIALLY DEFERRED NOT VALID"
        ).format(*map(sql.Identifier, (table, column, other)))
    )
