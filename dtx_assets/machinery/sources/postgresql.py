"""Legacy tables in PostgreSQL: one connection, one read-only snapshot, COPY of every column as the server's own text.

Whatever the server and the account are set to, the text is the value: an instant is in UTC and says so, floats have all
their digits, money is a plain number, bytea is kept as bytes. What a view makes of instants is in the account's zone,
as for its application. Tables come in the order in which they are stored; where row-level security would hide rows of
one, it is refused.
"""

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from threading import Lock
from typing import Any, LiteralString, Self

import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.base.settings import mask_url, without_secrets
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.postgres.sessions import (
    POOLER,
    POOLER_REMEDY,
    ROWS_REFUSED,
    ROWS_REMEDY,
    is_shared,
    would_hide_rows,
)
from dtx_assets.machinery.sources.landing import Landed, Progress, database_facts, land_table, missing_table
from dtx_assets.machinery.sources.remarks import Remark, of_postgresql

FIRST_BLOCK, LAST_BLOCK = 8 << 20, 1 << 30
"""Bytes read at once. A row has to fit into a block, so the block grows when one does not."""

SESSION = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    ROWS_REFUSED,
    "SET LOCAL extra_float_digits = 3",
    "SET LOCAL DateStyle = 'ISO, YMD'",
    "SET LOCAL IntervalStyle = 'postgres'",
    "SET LOCAL bytea_output = 'hex'",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    # Else a scan may begin in the middle of the table, or interleave.
    "SET LOCAL synchronize_seqscans = off",
    "SET LOCAL max_parallel_workers_per_gather = 0",
)

EXACT: Mapping[str, LiteralString] = {
    "bytea": "{0}",
    # Its own text has the sign and the separators of the server's language.
    "money": "{0}::numeric::text",
    "timestamptz": "CASE WHEN {0} >= '0001-01-01 00:00:00+00' AND {0} < 'infinity'"
    " THEN ({0} AT TIME ZONE 'UTC')::text || '+00' ELSE {0}::text END",
}
"""Types whose plain text would depend on a setting, and how they are asked for instead."""


THE_TABLE = """
SELECT pg_class.oid FROM pg_class
WHERE relname = %(name)s AND relkind = ANY('{r,p,v,m,f}') AND CASE WHEN %(schema)s::text IS NULL
  THEN pg_table_is_visible(pg_class.oid)
  ELSE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s) END
"""


class PostgresDatabase:
    """The tables of one PostgreSQL database: those that its search path shows, and those that name their schema."""

    def __init__(self, url: str) -> None:
        self.shown = mask_url(url)
        scheme, _, rest = url.partition("://")
        self._url = f"{scheme.lower().partition('+')[0]}://{rest}"
        try:
            conninfo_to_dict(self._url)
        except psycopg.ProgrammingError:
            # Its own message may quote the password.
            raise ConfigurationError(
                "the URL is not one that PostgreSQL understands",
                where=self.shown,
                remedy="write postgresql://user:password@host:port/database, with special characters as %XX",
            ) from None

    def __enter__(self) -> Self:
        with self._told():
            self._connection = psycopg.connect(self._url, client_encoding="utf8", connect_timeout=10, autocommit=True)
            try:
                if is_shared(self._connection, self._url):
                    raise SourceError(
                        f"the database cannot be read as it is at one moment: {POOLER}",
                        where=self.shown,
                        remedy=POOLER_REMEDY,
                    )
                self._connection.set_autocommit(False)
                for statement in SESSION:
                    self._connection.execute(statement)
                encoding = self._connection.info.parameter_status("server_encoding")
                self._without_encoding = encoding == "SQL_ASCII"
                # The snapshot begins with the first query.
                self._connection.execute("SELECT count(*) FROM pg_class")
            except BaseException:
                self._connection.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def tables(self) -> list[str]:
        with self._told():
            rows = self._connection.execute(
                "SELECT relname FROM pg_class WHERE relkind = ANY('{r,p,v,m,f}') AND pg_table_is_visible(oid)"
                " AND relnamespace = ANY(SELECT oid FROM pg_namespace WHERE nspname = ANY(current_schemas(false)))"
                " ORDER BY 1"
            ).fetchall()
        return [name for (name,) in rows]

    def columns(self, table: LegacyTable) -> list[str]:
        with self._told(table), self._connection.transaction():
            names = [name for name, _ in self._columns(table)]
            if not names:
                raise self._absent(table)
            statement = sql.SQL("SELECT {} FROM {} LIMIT 1")
            projection = sql.SQL(", ").join(map(sql.Identifier, names))
            self._connection.execute(statement.format(projection, identifier(table)))
        return names

    def remarks(self, tables: Collection[LegacyTable], timezone: str) -> list[Remark]:
        def ask(statement: str, *values: object) -> list[tuple[Any, ...]]:
            return self._connection.execute(statement.encode(), values or None).fetchall()

        with self._told(), self._connection.transaction():
            return list(of_postgresql(ask, self._quoted, self._oids(tables), timezone))

    def _quoted(self, name: str) -> str:
        return sql.Identifier(name).as_string(self._connection)

    def stored_bytes(self, tables: Collection[LegacyTable]) -> int:
        with self._told():
            [(size,)] = self._connection.execute(
                "SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint FROM unnest(%s::oid[]) AS oid",
                [self._oids(tables)],
            ).fetchall()
        return int(size)

    def _oids(self, tables: Collection[LegacyTable]) -> list[int]:
        """Of those of the tables that are there."""
        return [oid for oid in map(self._oid, tables) if oid is not None]

    def _oid(self, table: LegacyTable) -> int | None:
        found = self._connection.execute(THE_TABLE, named(table)).fetchone()
        return found[0] if found else None

    def extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None = None
    ) -> Manifest:
        # A savepoint: an error of one table leaves the snapshot to the others.
        with self._told(table), self._connection.transaction():
            columns = self._columns(table)
            if not columns:
                raise self._absent(table)
            names = [name for name, _ in columns]

            def facts(landed: Landed) -> dict[str, Any]:
                statement = sql.SQL("SELECT count(*) FROM {}").format(identifier(table))
                [(count,)] = self._connection.execute(statement).fetchall()
                # A transaction has an id as soon as it writes.
                [(wrote,)] = self._connection.execute("SELECT txid_current_if_assigned() IS NOT NULL").fetchall()
                return database_facts(self.shown, landed, count, wrote=wrote)

            block = FIRST_BLOCK
            while True:
                try:
                    with closing(self._batches(table, columns, block)) as batches:
                        return land_table(lake, key, run_id, names, batches, facts, progress)
                except _RowTooLong:
                    block *= 8
                    if block > LAST_BLOCK:
                        raise SourceError(
                            f"a row of {table.shown} has more bytes than can be read",
                            where=self.shown,
                            remedy="shorten it in the source, or take it out and migrate it by hand",
                        ) from None

    def _columns(self, table: LegacyTable) -> list[tuple[str, str]]:
        """Names and types of what is read; of a domain the type that it is made of."""
        found = self._connection.execute(
            "WITH RECURSIVE made_of AS (SELECT oid, oid AS type FROM pg_type"
            " UNION SELECT made_of.oid, typbasetype FROM made_of JOIN pg_type ON pg_type.oid = type"
            " WHERE typbasetype <> 0)"
            " SELECT attname, typname::text FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid"
            " JOIN made_of ON made_of.oid = atttypid JOIN pg_type ON pg_type.oid = type AND typbasetype = 0"
            " WHERE pg_class.oid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            [self._oid(table)],
        ).fetchall()
        return [(name, kind) for name, kind in found if name not in table.never_read]

    def _batches(self, table: LegacyTable, columns: Sequence[tuple[str, str]], block: int) -> Generator[pa.RecordBatch]:
        positions = [str(position) for position in range(len(columns))]
        projection = sql.SQL(", ").join(
            sql.SQL(EXACT.get(kind, "{0}::text")).format(sql.Identifier(name)) for name, kind in columns
        )
        statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv)").format(projection, identifier(table))
        with self._bytes_as_stored(), self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            stream = _CopyStream(copy)
            if stream.is_empty():
                return
            try:
                yield from (
                    _with_bytes(batch, columns)
                    for batch in pa_csv.open_csv(
                        stream,
                        read_options=pa_csv.ReadOptions(block_size=block, use_threads=False, column_names=positions),
                        parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                        convert_options=pa_csv.ConvertOptions(
                            column_types=dict.fromkeys(positions, pa.binary()),
                            null_values=[""],
                            strings_can_be_null=True,
                            quoted_strings_can_be_null=False,
                        ),
                    )
                )
            except pa.ArrowInvalid:
                # The server's CSV has no other fault.
                raise _RowTooLong from None
            finally:
                stream.drain()

    @contextmanager
    def _bytes_as_stored(self) -> Iterator[None]:
        """A database of no encoding may hold bytes that are no text, and would refuse to send them as such."""
        if not self._without_encoding:
            yield
            return
        self._connection.execute("SET LOCAL client_encoding = 'SQL_ASCII'")
        yield
        self._connection.execute("SET LOCAL client_encoding = 'UTF8'")

    def _absent(self, table: LegacyTable) -> SourceError:
        """Why a table is not among those that this account sees."""
        closed = self._connection.execute(
            "SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE relname = %(name)s AND (%(schema)s::text IS NULL OR nspname = %(schema)s)"
            " AND relkind = ANY('{r,p,v,m,f}') AND NOT has_schema_privilege(relnamespace, 'USAGE')",
            named(table),
        ).fetchone()
        if closed is None:
            return missing_table(
                table.shown, self.shown, self._tables_of(table.schema) if table.schema else self.tables()
            )
        return SourceError(
            f"the table {table.name} is in the schema {closed[0]}, which this account may not use",
            where=self.shown,
            remedy=f"GRANT USAGE ON SCHEMA {closed[0]} and SELECT on the table to it",
        )

    def _tables_of(self, schema: str) -> list[str]:
        rows = self._connection.execute(
            "SELECT nspname || '.' || relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE nspname = %s AND relkind = ANY('{r,p,v,m,f}') ORDER BY 1",
            [schema],
        ).fetchall()
        return [name for (name,) in rows]

    @contextmanager
    def _told(self, table: LegacyTable | None = None) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._refusal(error, table) from None

    def _refusal(self, error: psycopg.Error, table: LegacyTable | None) -> SourceError:
        said = error.diag.message_primary or without_secrets(str(error).strip().splitlines()[-1], self._url)
        what = f"the database does not give {f'the table {table.shown}' if table else 'its tables'}: {said}"
        remedy = (
            "check host, database, user and password of the URL, that the server runs, and that the account may read"
            " the tables"
        )
        kind = self._kind(table) if table and error.sqlstate else None
        if would_hide_rows(error):
            what, remedy = (
                f"row-level security hides rows of {table.shown if table else 'a table'} from this account: {said}",
                ROWS_REMEDY,
            )
        elif isinstance(error, psycopg.errors.InsufficientPrivilege):
            remedy = "grant SELECT on what is named, so that the account may read the tables"
        elif table and kind == "f":
            what = f"{table.shown} is a foreign table, and its server does not give it: {said}"
            remedy = "start or reach that server, mend its definition and user mapping, or read the table from there"
        elif table and kind in ("v", "m"):
            what = f"{table.shown} is a view that is broken: {said}"
            remedy = "mend the view, or what it refers to, in the source"
        return SourceError(what, where=self.shown, remedy=remedy)

    def _kind(self, table: LegacyTable) -> str | None:
        """A letter as pg_class has it; None where it cannot be asked any more."""
        try:
            found = self._connection.execute(
                "SELECT relkind::text FROM pg_class WHERE oid = %s", [self._oid(table)]
            ).fetchone()
        except psycopg.Error:
            return None
        return found[0] if found else None


def named(table: LegacyTable) -> dict[str, str | None]:
    """The parameters of THE_TABLE."""
    return {"name": table.name, "schema": table.schema}


def identifier(table: LegacyTable) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name) if table.schema else sql.Identifier(table.name)


class _RowTooLong(Exception):
    """A row does not fit into a block."""


class _CopyStream:
    """What COPY sends as a file that gives as many bytes as it is asked for.

    Arrow reads ahead in a thread of its own, and goes on for a while after it was told to stop.
    """

    def __init__(self, copy: psycopg.Copy) -> None:
        self._copy = copy
        self._waiting = bytearray()
        self._lock = Lock()
        self.closed = False

    def is_empty(self) -> bool:
        self._fill(1)
        return not self._waiting

    def read(self, size: int) -> bytes:
        with self._lock:
            if self.closed:
                return b""
            self._fill(size)
            taken = bytes(self._waiting[:size])
            del self._waiting[:size]
            return taken

    def _fill(self, size: int) -> None:
        while len(self._waiting) < size and (data := self._copy.read()):
            self._waiting += data

    def drain(self) -> None:
        """Reads on to the end: a COPY that is left halfway would end the snapshot."""
        with self._lock:
            self.closed = True
            while self._copy.read():
                pass

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def _with_bytes(batch: pa.RecordBatch, columns: Sequence[tuple[str, str]]) -> pa.RecordBatch:
    """The batch with bytea columns as their bytes."""
    arrays = [
        pl.Series(array.cast(pa.large_string())).str.slice(2).str.decode("hex").to_arrow().cast(pa.large_binary())
        if kind == "bytea"
        else array
        for array, (_, kind) in zip(batch.columns, columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)
