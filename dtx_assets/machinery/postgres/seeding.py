"""Rows of tables of others, from beside a sample, for the embedded database. No other database is ever seeded."""

from collections.abc import Iterable
from pathlib import Path

import psycopg
from psycopg import sql

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import qualified


def seed_tables(connection: Connection, tables: Iterable[TargetTable], directory: Path) -> dict[str, int]:
    """Insert what `<table>.csv` of a directory hold, keys included; gives the rows inserted by table.

    The files have a header, and `\\N` for NULL. Rows that are there stay, so that a second call inserts nothing; new
    keys come after the inserted ones. StructureError where a file does not fit its table.
    """
    inserted = {}
    for table in tables:
        path = directory / f"{table.name}.csv"
        if path.is_file():
            with connection.transaction():
                inserted[table.name] = _seeded(connection, table, path)
    return inserted


def _seeded(connection: Connection, table: TargetTable, path: Path) -> int:
    with path.open("rb") as file:
        columns = file.readline().decode().strip().split(",")
    name, staged = qualified(table), sql.Identifier(f"seed_{table.name}")
    fields = sql.SQL(", ").join(map(sql.Identifier, columns))
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                    staged, fields, name
                )
            )
            statement = sql.SQL(r"COPY {} ({}) FROM STDIN (FORMAT csv, HEADER, NULL '\N')").format(staged, fields)
            with cursor.copy(statement) as copy, path.open("rb") as file:
                while block := file.read(1 << 20):
                    copy.write(block)
            cursor.execute(
                sql.SQL("INSERT INTO {0} ({1}) SELECT {1} FROM {2} ON CONFLICT DO NOTHING").format(name, fields, staged)
            )
            rows = cursor.rowcount
            if rows and not table.key_is_written:
                [key] = table.key
                cursor.execute(
                    sql.SQL("SELECT setval(pg_get_serial_sequence({}, {}), max({})) FROM {}").format(
                        sql.Literal(name.as_string(connection)), sql.Literal(key), sql.Identifier(key), name
                    )
                )
            return rows
    except psycopg.Error as error:
        raise StructureError(
            f"the rows of others cannot be put in: {error.diag.message_primary or error}",
            where=str(path),
            remedy="make the sample anew, or mend the file",
        ) from None
