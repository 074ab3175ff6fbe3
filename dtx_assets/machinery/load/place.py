"""Where a target is written: its table as it is live, over one connection. Small SQL that all of the load needs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import polars as pl
from psycopg import sql
from psycopg.pq import TransactionStatus

from dtx_assets.machinery.load.key import Key
from dtx_assets.machinery.load.left_out import require_all, suspects_of
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import copy_in
from dtx_assets.machinery.postgres.ddl import LiveTarget, qualified
from dtx_assets.machinery.postgres.untouched import Watch


@dataclass(frozen=True)
class Place:
    """A target of a system in the target database. In a `dry` load nothing that is written there stays."""

    connection: Connection
    system: str
    target: TargetTable
    live: LiveTarget
    dry: bool = False
    watch: Watch | None = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction that notes what it did to tables of others."""
        watched = self.watch.over(self.connection) if self.watch and not self.dry else nullcontext()
        with self.connection.transaction(), watched:
            yield

    @property
    def table(self) -> sql.Identifier:
        return qualified(self.target)

    @property
    def of_model(self) -> list[str]:
        """What the bookkeeping calls it: system, table, model."""
        return [self.system, self.target.name, self.target.model]

    @cached_property
    def key(self) -> Key:
        return Key.of(self.target, self.live)

    @cached_property
    def key_default(self) -> str:
        """What fills the column of a key that the table gives itself, in SQL."""
        found = self.connection.execute(
            "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef"
            " JOIN pg_attribute ON (attrelid, attnum) = (adrelid, adnum) WHERE adrelid = %s::oid AND attname = %s",
            [self.live.oid, self.target.key[0]],
        ).fetchone()
        return str(found[0]) if found else "NULL"

    @property
    def new_columns(self) -> tuple[str, ...]:
        """The columns of a new row beside those that are prepared."""
        return () if self.target.key_is_written else self.target.key

    @cached_property
    def suspects(self) -> list[str]:
        """What of the table may keep a row out without a word, by name: its triggers and rules."""
        return suspects_of(self.connection, self.live.oid)

    def require_new(self, rows: pl.DataFrame) -> None:
        """Has the server refuse new rows of which one is not in the table now."""
        if self.suspects:
            self.stage("new_key", rows, list(self.key.columns))
            require_all(self.connection, self.key, self.suspects, "new_key")

    def over(self, connection: Connection) -> "Place":
        return replace(self, connection=connection)

    def number(self, query: str, values: list[Any]) -> int:
        """The one number that a query gives; 0 where it gives none."""
        found = self.connection.execute(query.encode(), values).fetchone()
        return int(found[0]) if found and found[0] is not None else 0

    def stage(self, name: str, frame: pl.DataFrame, columns: list[str]) -> None:
        """Put rows into a temporary table that has columns of the target, without what a domain asks of them.

        `_id`, the number of a row, may be among them.
        """
        plain = sql.SQL(", ").join(
            # The type is the catalogue's own word for it.
            sql.SQL("NULL::" + self._plain_type(column) + " AS {}").format(sql.Identifier(column))
            for column in columns
        )
        # Another target may have had one of this name in the same transaction.
        self.connection.execute(sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(sql.Identifier(name)))
        self.connection.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} WITH NO DATA").format(
                sql.Identifier(name), plain
            )
        )
        copy_in(self.connection, sql.Identifier(name), frame.select(columns))
        self.connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(name)))

    def _plain_type(self, column: str) -> str:
        return "bigint" if column == "_id" else self.live.columns[column].plain_type


def in_one_statement(changes: Sequence[sql.Composed]) -> sql.Composed:
    """Changes to several tables as one statement."""
    *others, last = changes
    if not others:
        return last
    named = [
        sql.SQL("{} AS ({})").format(sql.Identifier(f"change_{number}"), change) for number, change in enumerate(others)
    ]
    return sql.SQL("WITH {} {}").format(sql.SQL(", ").join(named), last)


@contextmanager
def confirmed_later(connection: Connection) -> Iterator[None]:
    """Transactions that do not wait until they are on the disk: the next one outside of this waits for all of them.

    What a server forgets that dies is forgotten with what the bookkeeping says of it, so the next run does it again.
    """
    connection.execute("SET synchronous_commit = off")
    try:
        yield
    finally:
        if not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE:
            connection.execute("RESET synchronous_commit")
