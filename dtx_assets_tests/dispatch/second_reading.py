"""What the contract of Dispatch says (phases 1 to 4 and the texts of phase 5), done a second time, without the package.

It takes the legacy tables as dicts (`inputs_of_csv`, `inputs_of_database` read them) and gives the rows of the targets,
mapping, rejected rows and accounting. Nothing of `dtx_assets` is imported, so that a misreading has to be made twice to
go unseen. Comments cite the contract where the reading is not obvious. Not read here: checks, gates, a second run
on changed tables, conflicts with rows of others, the views of `compat` but `legacy_id`, and what the contract leaves
open (booleans of the targets that no rule fills; names of coercions, of which the counts are compared).
"""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from dtx_assets_tests.dispatch.second_reading_books import Books, Inputs, Result
from dtx_assets_tests.dispatch.second_reading_messages import migrate_messages
from dtx_assets_tests.dispatch.second_reading_orders import migrate_orders
from dtx_assets_tests.dispatch.second_reading_people import migrate_people
from dtx_assets_tests.dispatch.second_reading_texts import Queued, queue
from dtx_assets_tests.dispatch.second_reading_values import COLUMNS, RawRow, Value

GENERIC = ("dispatch_record", "dispatch_file")


def migrate(inputs: Inputs) -> Result:
    books = Books(inputs)
    people = migrate_people(books)
    orders = migrate_orders(books, people)
    migrate_messages(books, people, orders)
    return books.result


def migrate_and_queue(inputs: Inputs) -> tuple[Result, dict[tuple[str, str], Queued]]:
    result = migrate(inputs)
    return result, queue(inputs, result)


# --- reading the legacy tables ----------------------------------------------------------------------------------------


def inputs_of_csv(directory: Path, files: Path | None = None, **more: Any) -> Inputs:
    """`<table>.csv` of a directory; `files`: the directory of the project files."""
    tables = {table: _rows_of(path) for table in COLUMNS if (path := directory / f"{table}.csv").exists()}
    return Inputs(tables, "csv", files=_files_of(files), generic_keys=_generic_keys(tables), **more)


def inputs_of_database(url: str, schema: str = "public", files: Path | None = None, **more: Any) -> Inputs:
    """The tables of a PostgreSQL schema, each value as PostgreSQL writes it, times in UTC."""
    tables: dict[str, list[RawRow]] = {}
    with psycopg.connect(url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute("SET LOCAL TIME ZONE 'UTC'")
        for table in COLUMNS:
            columns = [
                name
                for (name,) in connection.execute(
                    "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
                    [schema, table],
                )
            ]
            if columns:
                listed = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in columns)
                statement = sql.SQL("SELECT {} FROM {}").format(listed, sql.Identifier(schema, table))
                tables[table] = [dict(zip(columns, row, strict=True)) for row in connection.execute(statement)]
    return Inputs(tables, "database", files=_files_of(files), generic_keys=_generic_keys(tables), **more)


def _rows_of(path: Path) -> list[RawRow]:
    """ "UTF-8 (a byte-order mark is tolerated), comma, a header line, RFC 4180 quoting …, LF or CRLF"."""
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        header, *rows = _lines(file)
    return [dict(zip(header, map(_as_read, row), strict=True)) for row in rows]


def _lines(file: Iterable[str]) -> list[list[str]]:
    csv.field_size_limit(2**30)
    return [row for row in csv.reader(file, strict=True) if row]


def _as_read(text: str) -> Value:
    data = text.encode(errors="surrogateescape")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _files_of(directory: Path | None) -> dict[str, bytes]:
    if directory is None:
        return {}
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def _generic_keys(tables: Mapping[str, list[RawRow]]) -> dict[str, tuple[str, str]]:
    """1.2: "the same names count": the one pair of each table, by names alone."""
    return {table: pair_of(tables[table][0].keys()) for table in GENERIC if tables.get(table)}


def pair_of(names: Iterable[str]) -> tuple[str, str]:
    columns = list(names)
    pairs = []
    for column in columns:
        for suffix, partners in (
            ("content_type_id", ("object_id", "object_pk", "object_uuid")),
            ("_type_id", ("_id", "_pk", "_uuid")),
        ):
            if column.endswith(suffix):
                prefix = column.removesuffix(suffix)
                found = [prefix + partner for partner in partners if prefix + partner in columns]
                pairs += [(column, found[0])] if found else []
                break
    if len(pairs) != 1:
        raise ValueError(f"{pairs} among {columns}")
    return pairs[0]
