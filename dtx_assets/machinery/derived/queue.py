"""The queue of texts in the target database: what is to be embedded, sent or taken away, and whose turn it is.

Each row of it is one text of one target row. What the texts are is `texts`, what becomes of the results `results`.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from zlib import crc32

import polars as pl
from psycopg import sql

from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.derived.model import DerivedDeclaration, Entity
from dtx_assets.machinery.derived.texts import HASH, SOURCE_ID, TEXT, LegacyRows, derived_id, entity_texts
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import copy_in
from dtx_assets.machinery.postgres.ddl import qualified

LEASE = timedelta(minutes=2)
LOCK_CLASS = crc32(b"dtx_assets derived") - (1 << 31)
WANTED_TABLE = """
CREATE TEMPORARY TABLE wanted_text (
    id uuid PRIMARY KEY, source_table text, source_id uuid, content_type text, priority integer, content_hash text,
    characters integer, embedded boolean, sent boolean, done boolean
)
"""
"""The texts that should be there, and what is there of each: an embedding of the model, a document, all it needs."""


Ready = Callable[[str], sql.Composable]
"""Gives, for an alias of the queue, the condition that something is to be done with a row: `to_embed` and the like."""


@dataclass(frozen=True)
class Queued:
    """What filling the queue did to rows, and what is to be done now: texts, distinct ones, and their characters."""

    created: int
    updated: int
    deleted: int
    texts: int
    distinct: int
    characters: int


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
    if connection.execute("SELECT to_regclass('migration.derived_index')").fetchone() == (None,):
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
        self._kind_type: str | None = None

    # --- filling ---

    def fill(self, chosen: Mapping[str, str], legacy: LegacyRows, model: tuple[str, str]) -> Queued:
        """Put each text that has no embedding of `model` (name, version), or no document, on the queue; those that are
        gone as well. In one transaction."""
        with self.connection.transaction():
            self._claim_turn()
            self.connection.execute(WANTED_TABLE)
            for entity in self.declared.entities.values():
                self._stage(entity, chosen, legacy, model)
            self.connection.execute("UPDATE wanted_text SET done = embedded AND (sent OR NOT %s)", [self.sends])
            self.connection.execute("ANALYZE wanted_text")
            self._note(self._changing())
            created = self._create()
            for entity in self.declared.entities.values():
                self._create_removals(entity)
            queued = Queued(created, self._update(), self._delete(), *self._to_ask(model))
            self.connection.execute("DROP TABLE wanted_text")
            reach("derived.before_queued")
        reach("derived.queued")
        return queued

    def _stage(self, entity: Entity, chosen: Mapping[str, str], legacy: LegacyRows, model: tuple[str, str]) -> None:
        """The texts that should be there of an entity, and what is there of each."""
        for page in entity_texts(self.connection, entity, chosen, legacy):
            identity = derived_id(
                self.declared.namespace, "embedding_queue", entity.table, pl.col(SOURCE_ID), entity.content_type
            )
            rows = page.select(
                identity.alias("id"),
                pl.lit(entity.table).alias("source_table"),
                SOURCE_ID,
                pl.lit(entity.content_type).alias("content_type"),
                pl.lit(entity.priority).alias("priority"),
                HASH,
                pl.col(TEXT).str.len_chars().alias("characters"),
            )
            copy_in(self.connection, sql.Identifier("wanted_text"), rows)
        self.connection.execute(
            sql.SQL(
                "UPDATE wanted_text AS wanted SET embedded = EXISTS (SELECT 1 FROM {embeddings} AS there WHERE"
                " there.{owner} = wanted.source_id AND there.content_type::text = %(kind)s AND there.chunk_index = 0"
                " AND there.content_hash = wanted.content_hash"
                " AND (there.model_name, there.model_version) = (%(model)s, %(version)s)),"
                " sent = EXISTS (SELECT 1 FROM {documents} AS document WHERE document.source_table = %(table)s"
                " AND document.source_id = wanted.source_id AND document.content_hash = wanted.content_hash"
                " AND document.processing_status = 'completed') WHERE wanted.source_table = %(table)s"
            ).format(
                embeddings=qualified(entity.embeddings),
                owner=sql.Identifier(entity.owner),
                documents=qualified(self.declared.documents),
            ),
            {"kind": entity.content_type, "table": entity.table, "model": model[0], "version": model[1]},
        )

    def _changing(self) -> sql.Composable:
        """The rows of the queue that are about to change."""
        return sql.SQL(
            "SELECT queued.* FROM {} AS queued LEFT JOIN wanted_text AS wanted USING (id) WHERE {} OR {}"
        ).format(self.table, self._out_of_date, _IS_GONE)

    @property
    def _out_of_date(self) -> sql.Composable:
        """Whether a row of the queue says something else than it should, of a text that is there."""
        return sql.SQL(
            "(wanted.id IS NOT NULL AND (queued.operation = 'delete'"
            " OR queued.content_hash IS DISTINCT FROM wanted.content_hash"
            " OR (queued.status = 'completed') <> wanted.done"
            " OR queued.pgvector_completed <> wanted.embedded OR queued.dify_completed <> wanted.sent"
            " OR queued.process_dify <> {}))"
        ).format(sql.Literal(self.sends))

    def _create(self) -> int:
        created = self.connection.execute(
            sql.SQL(
                "INSERT INTO {0} (id, source_table, source_id, operation, content_type, content_hash, priority,"
                " status, process_dify, pgvector_completed, dify_completed)"
                " SELECT wanted.id, wanted.source_table, wanted.source_id, 'create',"
                " wanted.content_type{kind}, wanted.content_hash, wanted.priority,"
                " CASE WHEN wanted.done THEN 'completed' ELSE 'pending' END, %s, wanted.embedded, wanted.sent"
                " FROM wanted_text AS wanted WHERE NOT EXISTS (SELECT 1 FROM {0} AS queued WHERE queued.id = wanted.id)"
                " RETURNING id, source_table, source_id, content_type::text"
            ).format(self.table, kind=self._kind),
            [self.sends],
        ).fetchall()
        self._note_new(created)
        return len(created)

    def _create_removals(self, entity: Entity) -> None:
        """Embeddings of rows that have no text any more and stand nowhere are taken away like others."""
        found = self.connection.execute(
            sql.SQL(
                "SELECT DISTINCT there.{owner}::text FROM {embeddings} AS there"
                " WHERE there.content_type::text = %(kind)s AND NOT EXISTS (SELECT 1 FROM {queue} AS queued"
                " WHERE (queued.source_table, queued.source_id, queued.content_type::text)"
                " = (%(table)s, there.{owner}, %(kind)s))"
            ).format(owner=sql.Identifier(entity.owner), embeddings=qualified(entity.embeddings), queue=self.table),
            {"kind": entity.content_type, "table": entity.table},
        ).fetchall()
        owners = pl.DataFrame(found, schema={SOURCE_ID: pl.String}, orient="row")
        identity = derived_id(
            self.declared.namespace, "embedding_queue", entity.table, pl.col(SOURCE_ID), entity.content_type
        )
        created = self.connection.execute(
            sql.SQL(
                "INSERT INTO {queue} (id, source_table, source_id, operation, content_type, priority, process_dify)"
                " SELECT id, %(table)s, source_id, 'delete', %(kind)s{kind}, %(priority)s, %(sends)s"
                " FROM unnest(%(ids)s::uuid[], %(owners)s::uuid[]) AS gone (id, source_id)"
                " RETURNING id, source_table, source_id, content_type::text"
            ).format(queue=self.table, kind=self._kind),
            {
                "table": entity.table,
                "kind": entity.content_type,
                "priority": entity.priority,
                "sends": self.sends,
                "ids": owners.select(identity).to_series().to_list(),
                "owners": owners.get_column(SOURCE_ID).to_list(),
            },
        ).fetchall()
        self._note_new(created)

    def _update(self) -> int:
        """Rows of texts that changed, or lost what was made of them, begin anew; the others only say what is so."""
        return self.connection.execute(
            sql.SQL(
                "UPDATE {queue} AS queued SET content_hash = wanted.content_hash, process_dify = %(sends)s,"
                " pgvector_completed = wanted.embedded, dify_completed = wanted.sent,"
                " operation = CASE WHEN queued.operation = 'delete' THEN 'create' WHEN NOT {anew} THEN queued.operation"
                " WHEN queued.operation = 'create' AND queued.status <> 'completed' THEN 'create' ELSE 'update' END,"
                " status = CASE WHEN wanted.done THEN 'completed' WHEN {anew} THEN 'pending' ELSE queued.status END,"
                " attempts = CASE WHEN {anew} THEN 0 ELSE queued.attempts END,"
                " error_message = CASE WHEN {anew} OR wanted.done THEN NULL ELSE queued.error_message END,"
                " not_before = CASE WHEN {anew} THEN NULL ELSE queued.not_before END,"
                " leased_until = CASE WHEN {anew} OR wanted.done THEN NULL ELSE queued.leased_until END"
                " FROM wanted_text AS wanted WHERE queued.id = wanted.id AND {out_of_date}"
            ).format(queue=self.table, out_of_date=self._out_of_date, anew=_BEGINS_ANEW),
            {"sends": self.sends},
        ).rowcount

    def _delete(self) -> int:
        return self.connection.execute(
            sql.SQL(
                "UPDATE {queue} AS queued SET operation = 'delete', content_hash = NULL, status = 'pending',"
                " process_dify = %(sends)s, pgvector_completed = false, dify_completed = false, attempts = 0,"
                " error_message = NULL, not_before = NULL, leased_until = NULL"
                " WHERE queued.operation <> 'delete'"
                " AND NOT EXISTS (SELECT 1 FROM wanted_text AS wanted WHERE wanted.id = queued.id)"
            ).format(queue=self.table),
            {"sends": self.sends},
        ).rowcount

    def _to_ask(self, model: tuple[str, str]) -> tuple[int, int, int]:
        """The rows whose text is to be embedded; the distinct texts that no row has embedded, and their characters."""
        known = sql.SQL(" UNION ALL ").join(
            sql.SQL(
                "SELECT 1 FROM {} AS there WHERE there.content_hash = wanted.content_hash"
                " AND (there.model_name, there.model_version) = (%(model)s, %(version)s)"
            ).format(qualified(entity.embeddings))
            for entity in self.declared.entities.values()
        )
        found = self.connection.execute(
            sql.SQL(
                "WITH waiting AS (SELECT wanted.content_hash, wanted.characters FROM {queue} AS queued"
                " JOIN wanted_text AS wanted USING (id) WHERE {to_embed} AND status IN ('pending', 'processing')),"
                " new AS (SELECT DISTINCT content_hash, characters FROM waiting AS wanted WHERE NOT EXISTS ({known}))"
                " SELECT (SELECT count(*) FROM waiting), count(*), coalesce(sum(characters), 0)::bigint FROM new"
            ).format(queue=self.table, to_embed=to_embed("queued"), known=known),
            {"model": model[0], "version": model[1]},
        ).fetchone()
        rows, distinct, characters = found or (0, 0, 0)
        return int(rows), int(distinct), int(characters)

    @property
    def _kind(self) -> sql.Composable:
        """A cast of a text to the type that content types have in the queue."""
        if self._kind_type is None:
            [name] = self.connection.execute(
                "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = to_regclass(%s) AND attname = 'content_type'",
                [self.table.as_string()],
            ).fetchone() or ["text"]
            self._kind_type = str(name)
        # As format_type says it, quoted where it has to be.
        return sql.SQL("::{}").format(sql.SQL(self._kind_type))

    # --- the journal ---

    def _note(self, changing: sql.Composable) -> None:
        """What rows of the queue are, before this run changes them for the first time."""
        self.connection.execute(
            sql.SQL(
                "INSERT INTO migration.derived_journal"
                " (run_id, queue_id, source_table, source_id, content_type, before)"
                " SELECT {}, noted.id, noted.source_table, noted.source_id, noted.content_type::text, to_jsonb(noted)"
                " FROM ({}) AS noted ON CONFLICT (run_id, queue_id) DO NOTHING"
            ).format(sql.Literal(self.run_id), changing)
        )

    def _note_new(self, rows: Sequence[tuple[object, ...]]) -> None:
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
        self._note(sql.SQL("SELECT * FROM {} WHERE id = ANY ({}::uuid[])").format(self.table, sql.Literal(held)))
        return held

    # --- leases ---

    def _claim_turn(self) -> None:
        """One process fills the queue or leases rows at a time, until its transaction ends."""
        self.connection.execute(
            "SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_CLASS, crc32(self.declared.queue.encode()) - (1 << 31)]
        )

    def lease(self, ready: Ready, now: datetime, most: int) -> Lease | None:
        """Rows that are `ready`, by priority, with all others of the same texts; None where none can be had now."""
        with self.connection.transaction():
            self._claim_turn()
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

    def fail(self, lease: Lease, ids: Sequence[str], words: str, *, retry_at: datetime | None) -> int:
        """Count an attempt of rows that are still this lease's: they wait until `retry_at`, or are dead where that is
        None or it was the last one. How many died."""
        with self.connection.transaction():
            died = self.connection.execute(
                sql.SQL(
                    "UPDATE {} SET attempts = attempts + 1, error_message = %(words)s, leased_until = NULL,"
                    " status = CASE WHEN %(retry)s::timestamptz IS NULL OR attempts + 1 >= max_attempts THEN 'dead'"
                    " ELSE 'pending' END, not_before = CASE WHEN attempts + 1 >= max_attempts THEN NULL"
                    " ELSE %(retry)s::timestamptz END WHERE id = ANY (%(ids)s::uuid[]) RETURNING status = 'dead'"
                ).format(self.table),
                {"words": words, "retry": retry_at, "ids": self.own(lease, ids)},
            ).fetchall()
        return sum(dead for (dead,) in died)

    def retry_dead(self) -> int:
        """Give every dead row its attempts back; how many there are."""
        with self.connection.transaction():
            self._claim_turn()
            self._note(sql.SQL("SELECT * FROM {} WHERE status = 'dead'").format(self.table))
            return self.connection.execute(
                sql.SQL(
                    "UPDATE {} SET status = 'pending', attempts = 0, not_before = NULL, leased_until = NULL"
                    " WHERE status = 'dead'"
                ).format(self.table)
            ).rowcount


def _end_of_lease(now: datetime) -> datetime:
    return now + LEASE + timedelta(microseconds=secrets.randbelow(1_000_000))


_IS_GONE = sql.SQL("(wanted.id IS NULL AND queued.operation <> 'delete')")
_BEGINS_ANEW = sql.SQL(
    "(NOT wanted.done AND (queued.operation = 'delete' OR queued.status = 'completed'"
    " OR queued.content_hash IS DISTINCT FROM wanted.content_hash))"
)
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
