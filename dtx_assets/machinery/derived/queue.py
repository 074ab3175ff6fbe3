"""The queue of texts in the target database: what is to be embedded, sent or taken away, and whose turn it is.

Each row of it is one text of one target row. What the texts are is `texts`, what becomes of the results `results`.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from zlib import crc32

import polars as pl
from psycopg import sql

from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.derived.clock import Clock, wait_before_try
from dtx_assets.machinery.derived.embedder import TryAgain
from dtx_assets.machinery.derived.model import DerivedDeclaration
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import qualified

LEASE = timedelta(minutes=2)
LOCK_CLASS = crc32(b"dtx_assets derived") - (1 << 31)


Ready = Callable[[str], sql.Composable]
"""Gives, for an alias of the queue, the condition that something is to be done with a row: `to_embed` and the like."""


@dataclass(frozen=True)
class Lease:
    """Rows of the queue that are this process's until `until`, which no other lease has."""

    until: datetime
    rows: pl.DataFrame
    """`id`, `source_table`, `source_id`, `content_hash`, `attempts`, `operation`."""


LEASE_SCHEMA = pl.Schema(
    {
        "id": pl.String,
        "source_table": pl.String,
        "source_id": pl.String,
        "content_hash": pl.String,
        "attempts": pl.Int64,
        "operation": pl.String,
    }
)


def prepare_journal(connection: Connection) -> None:
    """Make the journal of the derived layer, where there is none; the bookkeeping of the load must be there."""
    if connection.execute("SELECT to_regclass('migration.derived_document')").fetchone() == (None,):
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", [LOCK_CLASS])
            connection.execute(files(__package__).joinpath("bookkeeping.sql").read_text("utf-8").encode())


class Queue:
    """The queue of a system, as one run sees it; all of it lies in the database."""

    def __init__(self, connection: Connection, declared: DerivedDeclaration, run_id: str, *, sends: bool) -> None:
        self.connection = connection
        self.declared = declared
        self.run_id = run_id
        self.sends = sends
        """Whether documents are sent, to Dify."""
        self.table = qualified(declared.queue)

    # --- the journal ---

    def note(self, changing: sql.Composable) -> None:
        """What rows of the queue are, before this run changes them for the first time."""
        self.connection.execute(
            sql.SQL(
                "INSERT INTO migration.derived_journal"
                " (run_id, queue_id, source_table, source_id, content_type, before)"
                " SELECT {}, noted.id, noted.source_table, noted.source_id, noted.content_type::text, to_jsonb(noted)"
                " FROM ({}) AS noted ON CONFLICT (run_id, queue_id) DO NOTHING"
            ).format(sql.Literal(self.run_id), changing)
        )

    def note_new(self, rows: Sequence[tuple[object, ...]]) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
        self.connection.execute(
            "INSERT INTO migration.derived_journal (run_id, queue_id, source_table, source_id, content_type)"
            " SELECT %s, * FROM unnest(%s::uuid[], %s::text[], %s::uuid[], %s::text[])",
            [self.run_id, *columns],
        )

    def own(self, lease: Lease, ids: Sequence[str]) -> list[str]:
        """Of rows of a lease, those that are this process's still, noted in the journal and locked until the caller's
        transaction ends."""
        held = [
            str(found)
            for (found,) in self.connection.execute(
                sql.SQL(
                    "SELECT id FROM {} WHERE id = ANY (%s::uuid[]) AND leased_until = %s AND status = 'processing'"
                    " ORDER BY id FOR UPDATE"
                ).format(self.table),
                [list(ids), lease.until],
            )
        ]
        self.note(sql.SQL("SELECT * FROM {} WHERE id = ANY ({}::uuid[])").format(self.table, sql.Literal(held)))
        return held

    # --- leases ---

    def claim_turn(self) -> None:
        """One process fills the queue or leases rows at a time, until its transaction ends."""
        self.connection.execute(
            "SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_CLASS, crc32(self.declared.queue.encode()) - (1 << 31)]
        )

    def lease(self, ready: Ready, now: datetime, most: int) -> Lease | None:
        """Rows that are `ready`, by priority, with all others of the same texts; None where none can be had now."""
        with self.connection.transaction():
            self.claim_turn()
            until = _end_of_lease(now)
            found = self.connection.execute(
                sql.SQL(
                    "WITH first AS (SELECT id, content_hash FROM {queue} AS queued WHERE {ready} AND {free}"
                    " ORDER BY priority, id LIMIT %(most)s), same AS (SELECT id FROM first UNION"
                    " SELECT queued.id FROM {queue} AS queued JOIN first USING (content_hash) WHERE {ready} AND {free})"
                    " UPDATE {queue} AS queued SET status = 'processing', leased_until = %(until)s FROM same"
                    " WHERE queued.id = same.id RETURNING queued.id::text, source_table, source_id::text,"
                    " queued.content_hash, attempts, operation"
                ).format(queue=self.table, ready=ready("queued"), free=_IS_FREE),
                {"now": now, "most": most, "until": until},
            ).fetchall()
        if not found:
            return None
        reach("derived.leased")
        return Lease(until, pl.DataFrame(found, schema=LEASE_SCHEMA, orient="row"))

    def renew(self, lease: Lease, now: datetime) -> Lease:
        """The same rows for as long again, without those that are not this process's any more."""
        until = _end_of_lease(now)
        kept = self.connection.execute(
            sql.SQL(
                "UPDATE {} SET leased_until = %s WHERE id = ANY (%s::uuid[]) AND leased_until = %s RETURNING id::text"
            ).format(self.table),
            [until, lease.rows.get_column("id").to_list(), lease.until],
        ).fetchall()
        return Lease(until, lease.rows.filter(pl.col("id").is_in([found for (found,) in kept])))

    def keep(self, lease: Lease, now: datetime) -> Lease:
        """The lease, renewed where half of it is over."""
        return self.renew(lease, now) if lease.until - now < LEASE / 2 else lease

    def give_back(self, lease: Lease, ids: Sequence[str]) -> None:
        """Rows whose text is another one than was queued, or none: they wait until the queue is filled again."""
        if ids:
            self.connection.execute(
                sql.SQL(
                    "UPDATE {} SET status = 'pending', leased_until = NULL, content_hash = NULL"
                    " WHERE id = ANY (%s::uuid[]) AND leased_until = %s"
                ).format(self.table),
                [list(ids), lease.until],
            )

    def release(self, lease: Lease) -> None:
        """Give back what this process still has of a lease; nothing is counted as an attempt."""
        self.connection.execute(
            sql.SQL(
                "UPDATE {} SET status = 'pending', leased_until = NULL WHERE id = ANY (%s::uuid[])"
                " AND leased_until = %s AND status = 'processing'"
            ).format(self.table),
            [lease.rows.get_column("id").to_list(), lease.until],
        )

    def next_turn(self, ready: Ready) -> datetime | None:
        """When the first row that is `ready` may be had, by its second try or the end of another's lease; None where no
        row is left."""
        [at] = self.connection.execute(
            sql.SQL(
                "SELECT min(CASE status WHEN 'processing' THEN leased_until ELSE coalesce(not_before, created_at) END)"
                " FROM {} AS queued WHERE {} AND status IN ('pending', 'processing')"
            ).format(self.table, ready("queued"))
        ).fetchone() or [None]
        return at if isinstance(at, datetime) else None

    def wait_for_turn(self, ready: Ready, clock: Clock, tell: Callable[[float], object], *, at_least: float) -> bool:
        """Wait until a row that is `ready` may be had; False where none is left. A wait of more than `at_least` seconds
        is told."""
        at = self.next_turn(ready)
        if at is None:
            return False
        seconds = (at - clock.now()).total_seconds()
        if seconds > at_least:
            tell(seconds)
        if seconds > 0:
            clock.sleep(seconds)
        return True

    def fail(
        self, lease: Lease, ids: Sequence[str], error: Exception, now: datetime, chance: Callable[[], float]
    ) -> int:
        """Count an attempt of rows that are still this lease's: they wait, the longer the more there were, or are dead
        where it need not be tried again or it was the last one. How many died."""
        attempts = lease.rows.filter(pl.col("id").is_in(ids)).get_column("attempts").to_list()
        waits = wait_before_try(max(attempts, default=0) + 1, chance) if isinstance(error, TryAgain) else None
        with self.connection.transaction():
            died = self.connection.execute(
                sql.SQL(
                    "UPDATE {} SET attempts = attempts + 1, error_message = %(words)s, leased_until = NULL,"
                    " status = CASE WHEN %(retry)s::timestamptz IS NULL OR attempts + 1 >= max_attempts THEN 'dead'"
                    " ELSE 'pending' END, not_before = CASE WHEN attempts + 1 >= max_attempts THEN NULL"
                    " ELSE %(retry)s::timestamptz END WHERE id = ANY (%(ids)s::uuid[]) RETURNING status = 'dead'"
                ).format(self.table),
                {"words": str(error), "retry": now + waits if waits else None, "ids": self.own(lease, ids)},
            ).fetchall()
        return sum(dead for (dead,) in died)

    def retry_dead(self) -> int:
        """Give every dead row its attempts back; how many there are."""
        with self.connection.transaction():
            self.claim_turn()
            self.note(sql.SQL("SELECT * FROM {} WHERE status = 'dead'").format(self.table))
            return self.connection.execute(
                sql.SQL(
                    "UPDATE {} SET status = 'pending', attempts = 0, not_before = NULL, leased_until = NULL"
                    " WHERE status = 'dead'"
                ).format(self.table)
            ).rowcount


def _end_of_lease(now: datetime) -> datetime:
    return now + LEASE + timedelta(microseconds=secrets.randbelow(1_000_000))


_IS_FREE = sql.SQL(
    "(status = 'pending' AND (not_before IS NULL OR not_before <= %(now)s)"
    " OR status = 'processing' AND leased_until <= %(now)s)"
)


def to_embed(queued: str) -> sql.Composable:
    """Whether there is a text to be embedded of a row of the queue, whose alias is given."""
    return sql.SQL(
        "({0}.process_pgvector AND NOT {0}.pgvector_completed AND {0}.operation <> 'delete'"
        " AND {0}.content_hash IS NOT NULL)"
    ).format(sql.Identifier(queued))


def to_remove(queued: str) -> sql.Composable:
    """Whether embeddings are to be taken away."""
    return sql.SQL("({0}.operation = 'delete' AND NOT {0}.pgvector_completed)").format(sql.Identifier(queued))


def to_send(queued: str) -> sql.Composable:
    """Whether a document is to be sent or taken away, after its embeddings."""
    return sql.SQL("({0}.process_dify AND NOT {0}.dify_completed AND {0}.pgvector_completed)").format(
        sql.Identifier(queued)
    )
