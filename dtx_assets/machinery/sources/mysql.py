"""Legacy tables in MySQL or MariaDB: one connection, one consistent snapshot, the server's own text of every value.

The text protocol without any conversion is what lands text exactly: zero dates, negative times and all digits of a
decimal come as the server writes them; text of other character sets as the server converts it to UTF-8. Where the
server's own text is not the value, another is asked for: a FLOAT with as many digits as tell it from its neighbours,
BIT as a number. A TIMESTAMP is an instant, and lands in UTC, whatever the server's zone is: in one with summer time two
of them would be one text. The manifest names those columns (`instants`); what a view makes of them is in UTC too. Bytes
of BLOB and GEOMETRY columns that are no text are kept as bytes. InnoDB tables come in the order of their primary key,
all others, and those without one, as they are stored.
"""

import logging
import struct
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from functools import lru_cache
from typing import Any, Self

import polars as pl
import pyarrow as pa
import pymysql
from pymysql.converters import encoders
from pymysql.cursors import SSCursor
from sqlalchemy.engine import URL

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.base.settings import mask_url
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.landing import (
    BATCH_BYTES,
    BATCH_ROWS,
    Landed,
    Progress,
    binary_batch,
    database_facts,
    land_table,
    missing_table,
)
from dtx_assets.machinery.sources.mysql_rows import columns_of, row_batches, with_large_buffer
from dtx_assets.machinery.sources.remarks import Remark, of_mysql

TRANSACTIONAL = frozenset({"INNODB", "ROCKSDB", "TOKUDB"})
"""Engines whose tables a snapshot shows as they were when it began."""

UNCONVERTED: dict[Any, Any] = dict(encoders)
"""Values sent are written as SQL; values that come are left as they are."""

TEXT_OPTIONS = frozenset({"unix_socket", "ssl_ca", "ssl_cert", "ssl_key"})
TRUTH_OPTIONS = frozenset({"ssl_verify_cert", "ssl_verify_identity", "ssl_disabled"})
IGNORED_OPTIONS = frozenset({"charset"})

REMEDIES = {
    0: "run again; check the server's log for why it ended the connection",
    1044: "grant this account SELECT on the database",
    1045: "correct user and password in the URL",
    1049: "correct the name of the database in the URL",
    1142: "grant this account SELECT on the table",
    1143: "grant this account SELECT on the table, on all of its columns",
    1194: "mend the table on the server: CHECK TABLE, REPAIR TABLE",
    1429: "start or reach the server that the table is read from, or read the table from there",
    2003: "check that the server runs, and correct host and port in the URL",
    2006: "run again; check the server's log for why it ended the connection",
    2013: "run again; check the server's log for why it ended the connection",
}

NO_SUCH_TABLE = 1146
BROKEN_VIEW = frozenset({1356, 1305, 1370, 1449})
"""A table, column, function or definer that a view needs is gone, or may not be used."""

SESSION = (
    "SET SESSION sql_mode = '', net_write_timeout = 3600, time_zone = '+00:00',"
    " sql_select_limit = 18446744073709551615",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
)

EXACT = {
    "bit": "{0} + 0",
    "float": "{0} * 1e0",
}
"""Types of which the server's own text is not the value, and how they are asked for instead."""


class MySqlDatabase:
    """The tables of one MySQL or MariaDB database, and those of others on its server that name their own."""

    def __init__(self, url: URL) -> None:
        self.shown = mask_url(url.render_as_string(hide_password=False))
        if not url.database:
            raise ConfigurationError(
                "the URL names no database", where=self.shown, remedy="end it with /<name of the database>"
            )
        self.database = url.database
        self._options: dict[str, Any] = {
            "host": url.host or "localhost",
            "port": url.port or 3306,
            "user": url.username,
            "password": url.password or "",
            "database": url.database,
            **self._extra_options(url),
        }

    def _extra_options(self, url: URL) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for name, value in url.query.items():
            if name in TEXT_OPTIONS:
                options[name] = value
            elif name in TRUTH_OPTIONS:
                options[name] = value in ("1", "true", "True", "yes")
            elif name not in IGNORED_OPTIONS:
                raise ConfigurationError(
                    f"the URL has an option {name!r} that is not known for MySQL",
                    where=self.shown,
                    remedy=f"use {', '.join(sorted(TEXT_OPTIONS | TRUTH_OPTIONS))}",
                )
        return options

    def __enter__(self) -> Self:
        with self._told():
            self._connection = self._connect()
            try:
                with self._connection.cursor() as cursor:
                    for statement in SESSION:
                        cursor.execute(statement)
            except BaseException:
                self._connection.close()
                raise
        return self

    def _connect(self) -> Any:
        try:
            connection = pymysql.connect(
                **self._options, charset="utf8mb4", use_unicode=False, conv=UNCONVERTED, autocommit=True
            )
        except RuntimeError as error:
            # A package is missing that the server's way to take a password needs.
            raise SourceError(
                str(error), where=self.shown, remedy="install it, or use an account of another kind"
            ) from None
        with_large_buffer(connection)
        return connection

    def __exit__(self, *_: object) -> None:
        try:
            self._connection.close()
        except pymysql.Error as error:
            logging.getLogger(__name__).debug("closing the connection: %s", error)

    def tables(self) -> list[str]:
        with self._told():
            return self._tables_of(None)

    def _tables_of(self, schema: str | None) -> list[str]:
        rows = self._query(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY 1",
            schema or self.database,
        )
        return [f"{schema}.{name.decode()}" if schema else name.decode() for (name,) in rows]

    def columns(self, table: LegacyTable) -> list[str]:
        with self._told(table):
            names = [name for name, _ in self._readable_columns(table)]
            self._query(f"{selecting(', '.join(map(quoted, names)), table)} LIMIT 1")
        return names

    def remarks(self, tables: Collection[LegacyTable], timezone: str) -> list[Remark]:
        with self._told():
            return list(of_mysql(self._query, quoted, self.database, tables, timezone))

    def stored_bytes(self, tables: Collection[LegacyTable]) -> int:
        sizes: list[int] = []
        with self._told():
            for table in tables:
                rows = self._query(
                    "SELECT data_length FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
                    *self._place(table),
                )
                sizes += (int(size or 0) for (size,) in rows)
        return sum(sizes)

    def _place(self, table: LegacyTable) -> tuple[str, str]:
        """Database and name, as the catalogue has them."""
        return table.schema or self.database, table.name

    def extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None = None
    ) -> Manifest:
        with self._told(table):
            columns = self._readable_columns(table)
            engine = self._engine(table)
            transactional = engine in TRANSACTIONAL
            before = None if transactional else self._state(table)

            def facts(landed: Landed) -> dict[str, Any]:
                with self._told(table):
                    changed = [] if transactional or before == self._state(table) else [table.shown]
                    [(count,)] = self._query(selecting("count(*)", table))
                return database_facts(
                    self.shown, landed, int(count), consistent=transactional, changed=changed, instants=instants
                )

            names = [name for name, _ in columns]
            instants = [name for name, kind in columns if kind == "timestamp"]
            with closing(self._batches(table, columns, engine)) as batches:
                return land_table(lake, key, run_id, names, batches, facts, progress)

    def _readable_columns(self, table: LegacyTable) -> list[tuple[str, str]]:
        """Names and types, in the order of the table, whose columns can be read, all of them.

        The catalogue shows those only that the account has a right to, and none of a broken view.
        """
        try:
            self._query(f"{selecting('*', table)} LIMIT 0")
        except pymysql.Error as error:
            if error.args[0] != NO_SUCH_TABLE:
                raise
            raise missing_table(table.shown, self.shown, self._tables_of(table.schema)) from None
        rows = self._query(
            "SELECT column_name, CASE WHEN data_type = 'float' AND numeric_scale IS NOT NULL THEN column_type"
            " ELSE data_type END FROM information_schema.columns"
            " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
            *self._place(table),
        )
        named = ((name.decode(), kind.decode().lower()) for name, kind in rows)
        return [(name, kind) for name, kind in named if name not in table.never_read]

    def _engine(self, table: LegacyTable) -> str | None:
        """The storage engine in capitals; None for a view."""
        [(engine,)] = self._query(
            "SELECT engine FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
            *self._place(table),
        )
        return engine and engine.decode().upper()

    def _primary_key(self, table: LegacyTable) -> list[str]:
        rows = self._query(
            "SELECT column_name FROM information_schema.key_column_usage"
            " WHERE table_schema = %s AND table_name = %s AND constraint_name = 'PRIMARY' ORDER BY ordinal_position",
            *self._place(table),
        )
        return [name.decode() for (name,) in rows]

    def _state(self, table: LegacyTable) -> list[tuple[bytes | None, ...]]:
        """Differs after the table has changed."""
        return [
            *self._query(f"CHECKSUM TABLE {placed(table)} EXTENDED"),
            *self._query(selecting("count(*)", table)),
        ]

    def _batches(
        self, table: LegacyTable, columns: Sequence[tuple[str, str]], engine: str | None
    ) -> Generator[pa.RecordBatch]:
        projection = ", ".join(EXACT.get(kind, "{0}").format(quoted(name)) for name, kind in columns)
        floats = [position for position, (_, kind) in enumerate(columns) if kind == "float"]
        statement = selecting(projection, table)
        key = self._primary_key(table) if engine in TRANSACTIONAL else []
        if key:
            statement += f" ORDER BY {', '.join(map(quoted, key))}"
        elif engine is not None:
            # Else the server may read an index, in its order.
            statement += " USE INDEX ()"
        with self._told(table), self._connection.cursor(SSCursor) as cursor:
            try:
                cursor.execute(statement)
                for packets in row_batches(cursor._result, BATCH_ROWS, BATCH_BYTES):
                    values = columns_of(packets, len(columns))
                    for position in floats:
                        values[position] = with_shortest_digits(values[position])
                    yield binary_batch(values)
            except pymysql.Error:
                if not self._connection.open and cursor._result:
                    # Else PyMySQL tries to read the other rows from the connection that is gone.
                    cursor._result.unbuffered_active = False
                raise

    def _query(self, statement: str, *values: str) -> Sequence[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall()

    @contextmanager
    def _told(self, table: LegacyTable | None = None) -> Iterator[None]:
        try:
            yield
        except (pymysql.Error, ConnectionError, TimeoutError) as error:
            code = error.args[0] if error.args and isinstance(error.args[0], int) else -1
            said = str(error.args[-1] if error.args else "") or "the connection is lost"
            what = f"the database does not give {f'the table {table.shown}' if table else 'its tables'}: {said}"
            remedy = REMEDIES.get(code, "check the URL, the account and the server")
            if table and code in BROKEN_VIEW:
                what = f"{table.shown} is a view that is broken: {said}"
                remedy = f"mend the view, or what it refers to, in the source: SHOW CREATE VIEW {placed(table)}"
            raise SourceError(what, where=self.shown, remedy=remedy) from None


def with_shortest_digits(floats: pl.Series) -> pl.Series:
    """Doubles, as bytes of text, as the shortest texts of the 32-bit floats that they are."""
    texts = (None if double is None else float_text(double) for double in floats)
    return pl.Series(texts, dtype=pl.Binary)


@lru_cache(1 << 16)
def float_text(double: bytes) -> bytes:
    """The shortest text that gives a 32-bit float back, of the same number as a 64-bit one, as the server spells it."""
    value = float(double)
    texts = (f"{value:.{digits}g}" for digits in range(6, 10))
    text = next(text for text in texts if struct.unpack("f", struct.pack("f", float(text)))[0] == value)
    plain = 1e-5 <= abs(value) < 1e15
    return (f"{Decimal(text):f}" if plain else text.replace("e+", "e")).encode()


def quoted(name: str) -> str:
    doubled = name.replace("`", "``")
    return f"`{doubled}`"


def placed(table: LegacyTable) -> str:
    """A table as SQL has it."""
    return f"{quoted(table.schema)}.{quoted(table.name)}" if table.schema else quoted(table.name)


def selecting(projection: str, table: LegacyTable) -> str:
    return f"SELECT {projection} FROM {placed(table)}"  # noqa: S608 - all names in it are quoted
