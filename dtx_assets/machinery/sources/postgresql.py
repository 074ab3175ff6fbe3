"""Legacy tables in PostgreSQL: one read-only snapshot, COPY of every column as the server's own text.

Whatever the server and the account are set to, the text is the value: an instant is in UTC and says so, floats have all
their digits, money is a plain number, bytea is kept as bytes. What a view makes of instants is in the account's zone,
as for its application. Tables come in the order in which they are stored, a large one in ranges of its pages, over
several connections that share the snapshot; where row-level security would hide rows of one, it is refused.
"""

import logging
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from typing import Any, LiteralString, Self

import psycopg
import pyarrow as pa
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
from dtx_assets.machinery.sources.in_order import in_order
from dtx_assets.machinery.sources.landing import Landed, Progress, database_facts, land_table, missing_table
from dtx_assets.machinery.sources.postgresql_copy import RowTooLong, copied
from dtx_assets.machinery.sources.remarks import Remark, of_postgresql

FIRST_BLOCK, LAST_BLOCK = 8 << 20, 1 << 30
"""Bytes read at once. A row has to fit into a block, so the block grows when one does not."""

RANGE_PAGES = 2048
"""Of 8 KiB, as a rule, in each range that is read by itself."""
FIRST_WITH_RANGE_SCANS = 14_00_00
"""Versions before read a whole table for a range of its pages."""
Pages = tuple[int, int | None]
"""The first page, and the one that is the next one's; None to the end."""
WHOLE: Pages = (0, None)
Connection = psycopg.Connection[tuple[Any, ...]]
logger = logging.getLogger(__name__)

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


PAGES = """
SELECT pg_relation_size(pg_class.oid) / current_setting('block_size')::bigint
FROM pg_class JOIN pg_am ON pg_am.oid = relam
WHERE pg_class.oid = %s AND relkind = 'r' AND amname = 'heap'
  AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = pg_class.oid)
  AND has_table_privilege(pg_class.oid, 'SELECT')
"""
"""How many pages a table has that is stored in pages of its own alone. Who may read some columns does not see pages."""


class PostgresDatabase:
    """The tables of one PostgreSQL database: those that its search path shows, and those that name their schema."""

    def __init__(self, url: str, connections: int = 1) -> None:
        """`connections`: over how many of them ranges of a large table are read at once."""
        self.shown = mask_url(url)
        self._connections = connections
        self._others: list[Connection] | None = None
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
        for connection in (*(self._others or ()), self._connection):
            connection.close()
        self._others = None

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
        with self._told(table):
            ranges = self._pages(table)
            if len(ranges) > 1 and self._connections > 1:
                self._open_others()
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
                    with closing(self._batches(table, columns, ranges, block)) as batches:
                        return land_table(lake, key, run_id, names, batches, facts, progress)
                except RowTooLong:
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

    def _pages(self, table: LegacyTable) -> list[Pages]:
        """Ranges of the pages of a table, in the order in which they are stored; one of all where it has no such.

        They are of one size, so that a table is landed in the same batches by however many it is read.
        """
        if self._connection.info.server_version < FIRST_WITH_RANGE_SCANS:
            return [WHOLE]
        [(pages,)] = self._connection.execute(PAGES, [self._oid(table)]).fetchall() or [(0,)]
        starts = [*range(0, pages, RANGE_PAGES)] or [0]
        return list(pairwise([*starts, None]))

    def _open_others(self) -> None:
        """The other connections, when first one is of use. Not in a savepoint: none exports a snapshot."""
        if self._others is None:
            [(snapshot,)] = self._connection.execute("SELECT pg_export_snapshot()").fetchall()
            self._others = []
            for _ in range(self._connections - 1):
                try:
                    other = psycopg.connect(self._url, client_encoding="utf8", connect_timeout=10)
                except psycopg.OperationalError as error:
                    had, said = 1 + len(self._others), without_secrets(str(error).strip(), self._url)
                    logger.warning("%d of %d connections to %s: %s", had, self._connections, self.shown, said)
                    break
                self._others.append(other)
                other.execute(SESSION[0])
                other.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
                for statement in SESSION[1:]:
                    other.execute(statement)

    def _readers(self, table: LegacyTable) -> list[Connection]:
        """Connections that may read the table until the end of the snapshot.

        Each has its lock before any reads: who waits to change the table would wait for the first connection, another
        one for that change, and the first one for the rows of the other.
        """
        readers = [self._connection]
        lock = sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(identifier(table))
        self._connection.execute(lock)
        for other in self._others or ():
            with suppress(psycopg.errors.LockNotAvailable), other.transaction():
                other.execute(lock + sql.SQL(" NOWAIT"))
                readers.append(other)
        return readers

    def _batches(
        self, table: LegacyTable, columns: Sequence[tuple[str, str]], ranges: Sequence[Pages], block: int
    ) -> Generator[pa.RecordBatch]:
        projection = sql.SQL(", ").join(
            sql.SQL(EXACT.get(kind, "{0}::text")).format(sql.Identifier(name)) for name, kind in columns
        )

        def read(connection: Connection, pages: Pages) -> Generator[pa.RecordBatch]:
            rows = sql.SQL("SELECT {} FROM {}{}").format(projection, identifier(table), within(pages))
            with connection.transaction():
                yield from copied(connection, rows, columns, block, as_stored=self._without_encoding)

        readers = self._readers(table) if self._others and len(ranges) > 1 else [self._connection]
        return in_order(ranges, read, readers)

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


def within(pages: Pages) -> sql.Composable:
    """The condition of a row that lies in these pages."""
    first, beyond = (sql.Literal(f"({page},0)") for page in pages)
    if pages == WHOLE:
        return sql.SQL("")
    if pages[1] is None:
        return sql.SQL(" WHERE ctid >= {}::tid").format(first)
    return sql.SQL(" WHERE ctid >= {}::tid AND ctid < {}::tid").format(first, beyond)
