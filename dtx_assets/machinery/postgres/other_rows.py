"""Rows that others own, from CSV files of tables into a target database: they stand beside a sample."""

import csv
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import psycopg
from psycopg import sql

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.model.references import in_load_order
from dtx_assets.machinery.model.target import TargetTable


def load_other_rows(connection: psycopg.Connection, directory: Path, targets: Sequence[TargetTable]) -> dict[str, int]:
    """Insert the rows of `<table>.csv` into the tables that the migration only reads, their keys included.

    Returns the rows inserted by table. Rows that are there stay as they are, so a second call inserts nothing.
    Afterwards new ids come after the inserted ones. Raises StructureError where the database lacks a table or column.
    """
    inserted: dict[str, int] = {}
    with connection.transaction():
        for target in chain.from_iterable(in_load_order(targets)):
            path = directory / f"{target.name}.csv"
            if target.name not in inserted and path.exists():
                inserted[target.name] = _load_table(connection, target, path)
    return inserted


def _load_table(connection: psycopg.Connection, target: TargetTable, path: Path) -> int:
    with path.open(encoding="utf-8", newline="") as file:
        columns = next(csv.reader(file))
    table = sql.Identifier(*([target.schema] if target.schema else []), target.name)
    staged = sql.Identifier(f"other_rows_{target.name}")
    fields = sql.SQL(", ").join(map(sql.Identifier, columns))
    try:
        with connection.cursor() as cursor:
            [present] = cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table)).fetchone() or [True]
            if present:
                cursor.execute(
                    sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                        staged, fields, table
                    )
                )
            statement = sql.SQL(r"COPY {} ({}) FROM STDIN (FORMAT csv, HEADER, NULL '\N')")
            with (
                cursor.copy(statement.format(staged if present else table, fields)) as copy,
                path.open("rb") as file_of_bytes,
            ):
                while block := file_of_bytes.read(1 << 20):
                    copy.write(block)
            inserted = cursor.rowcount
            if present:
                copied = sql.SQL("INSERT INTO {0} ({1}) SELECT {1} FROM {2} ON CONFLICT DO NOTHING")
                inserted = cursor.execute(copied.format(table, fields, staged)).rowcount
                cursor.execute(sql.SQL("DROP TABLE {}").format(staged))
            if len(target.key) == 1 and target.key[0] in columns:
                _set_sequence(cursor, target, table)
            return inserted
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise StructureError(
            f"the target database has not what the sample needs: {error.diag.message_primary}",
            where=target.name,
            remedy="create its tables first: `dtx target ddl` prints them",
        ) from None


def _set_sequence(cursor: psycopg.Cursor, target: TargetTable, table: sql.Identifier) -> None:
    [key] = target.key
    named = sql.Literal(table.as_string(cursor))
    [sequence] = cursor.execute(
        sql.SQL("SELECT pg_get_serial_sequence({}, {})").format(named, sql.Literal(key))
    ).fetchone() or [None]
    if sequence:
        cursor.execute(
            sql.SQL("SELECT setval({0}, greatest((SELECT max({1}) FROM {2}), nextval({0})))").format(
                sql.Literal(sequence), sql.Identifier(key), table
            )
        )
