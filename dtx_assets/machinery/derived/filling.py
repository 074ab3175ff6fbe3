"""Filling the queue: which texts should be there, what is there of each, and what changes in the queue for that."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
from psycopg import sql

from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.derived.documents import Documents
from dtx_assets.machinery.derived.model import Entity
from dtx_assets.machinery.derived.queue import Queue, to_embed
from dtx_assets.machinery.derived.texts import HASH, SOURCE_ID, TEXT, LegacyRows, derived_id, entity_texts
from dtx_assets.machinery.postgres.content import copy_in
from dtx_assets.machinery.postgres.ddl import qualified

WANTED_TABLE = """
CREATE TEMPORARY TABLE wanted_text (
    id uuid PRIMARY KEY, source_table text, source_id uuid, content_type text, priority integer, content_hash text,
    characters integer, embedded boolean, sent boolean, done boolean
)
"""
"""The texts that should be there, and what is there of each: an embedding of the model, a document, all it needs."""


@dataclass(frozen=True)
class Queued:
    """What filling the queue did to rows, and what is to be done now: texts, distinct ones, and their characters."""

    created: int
    updated: int
    deleted: int
    texts: int
    distinct: int
    characters: int


class Filling:
    """Fills a queue, as one run sees it; all of it in one transaction."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.documents = Documents(queue) if queue.declared.knowledge else None
        self._kind_type: str | None = None

    def fill(self, chosen: Mapping[str, str], legacy: LegacyRows, model: tuple[str, str]) -> Queued:
        """Put each text that has no embedding of `model` (name, version), or no document, on the queue; those that are
        gone as well. In one transaction."""
        with self.queue.connection.transaction():
            self.queue.claim_turn()
            self.queue.connection.execute(WANTED_TABLE)
            if self.documents:
                self.documents.begin()
            for entity in self.queue.declared.entities.values():
                self._stage(entity, chosen, legacy, model)
            if self.documents:
                self.documents.end()
            self.queue.connection.execute(
                "UPDATE wanted_text SET done = embedded AND (sent OR NOT %s)", [self.queue.sends]
            )
            self.queue.connection.execute("ANALYZE wanted_text")
            self.queue.note(self._changing())
            created = self._create()
            # Of a table that the server knows nothing of it would go through all rows for each of another one.
            self.queue.connection.execute(sql.SQL("ANALYZE {}").format(self.queue.table))
            for entity in self.queue.declared.entities.values():
                self._create_removals(entity)
            queued = Queued(created, self._update(), self._delete(), *self._to_ask(model))
            if self.queue.sends:
                self._remove_documents()
            self.queue.connection.execute("DROP TABLE wanted_text")
            reach("derived.before_queued")
        reach("derived.queued")
        return queued

    def _stage(self, entity: Entity, chosen: Mapping[str, str], legacy: LegacyRows, model: tuple[str, str]) -> None:
        """The texts that should be there of an entity, and what is there of each."""
        for page in entity_texts(self.queue.connection, entity, chosen, legacy):
            identity = derived_id(
                self.queue.declared.namespace, "embedding_queue", entity.table, pl.col(SOURCE_ID), entity.content_type
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
            copy_in(self.queue.connection, sql.Identifier("wanted_text"), rows)
            if self.documents:
                self.documents.take(entity, page)
        if self.documents:
            self.documents.merge(entity)
        self.queue.connection.execute(
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
                documents=qualified(self.queue.declared.documents),
            ),
            {"kind": entity.content_type, "table": entity.table, "model": model[0], "version": model[1]},
        )

    def _changing(self) -> sql.Composable:
        """The rows of the queue that are about to change."""
        return sql.SQL(
            "SELECT queued.* FROM {} AS queued LEFT JOIN wanted_text AS wanted USING (id) WHERE {} OR {}"
        ).format(self.queue.table, self._out_of_date, _IS_GONE)

    @property
    def _out_of_date(self) -> sql.Composable:
        """Whether a row of the queue says something else than it should, of a text that is there."""
        return sql.SQL(
            "(wanted.id IS NOT NULL AND (queued.operation = 'delete'"
            " OR queued.content_hash IS DISTINCT FROM wanted.content_hash"
            " OR (queued.status = 'completed') <> wanted.done"
            " OR queued.pgvector_completed <> wanted.embedded OR queued.dify_completed <> wanted.sent"
            " OR queued.process_dify <> {}))"
        ).format(sql.Literal(self.queue.sends))

    def _create(self) -> int:
        created = self.queue.connection.execute(
            sql.SQL(
                "INSERT INTO {0} (id, source_table, source_id, operation, content_type, content_hash, priority,"
                " status, process_dify, pgvector_completed, dify_completed)"
                " SELECT wanted.id, wanted.source_table, wanted.source_id, 'create',"
                " wanted.content_type{kind}, wanted.content_hash, wanted.priority,"
                " CASE WHEN wanted.done THEN 'completed' ELSE 'pending' END, %s, wanted.embedded, wanted.sent"
                " FROM wanted_text AS wanted WHERE NOT EXISTS (SELECT 1 FROM {0} AS queued WHERE queued.id = wanted.id)"
                " RETURNING id, source_table, source_id, content_type::text"
            ).format(self.queue.table, kind=self._kind),
            [self.queue.sends],
        ).fetchall()
        self.queue.note_new(created)
        return len(created)

    def _create_removals(self, entity: Entity) -> None:
        """Embeddings of rows that have no text any more and stand nowhere are taken away like others."""
        found = self.queue.connection.execute(
            sql.SQL(
                "SELECT DISTINCT there.{owner}::text FROM {embeddings} AS there"
                " WHERE there.content_type::text = %(kind)s AND NOT EXISTS (SELECT 1 FROM {queue} AS queued"
                " WHERE (queued.source_table, queued.source_id, queued.content_type::text)"
                " = (%(table)s, there.{owner}, %(kind)s))"
            ).format(
                owner=sql.Identifier(entity.owner), embeddings=qualified(entity.embeddings), queue=self.queue.table
            ),
            {"kind": entity.content_type, "table": entity.table},
        ).fetchall()
        owners = pl.DataFrame(found, schema={SOURCE_ID: pl.String}, orient="row")
        identity = derived_id(
            self.queue.declared.namespace, "embedding_queue", entity.table, pl.col(SOURCE_ID), entity.content_type
        )
        created = self.queue.connection.execute(
            sql.SQL(
                "INSERT INTO {queue} (id, source_table, source_id, operation, content_type, priority, process_dify)"
                " SELECT id, %(table)s, source_id, 'delete', %(kind)s{kind}, %(priority)s, %(sends)s"
                " FROM unnest(%(ids)s::uuid[], %(owners)s::uuid[]) AS gone (id, source_id)"
                " RETURNING id, source_table, source_id, content_type::text"
            ).format(queue=self.queue.table, kind=self._kind),
            {
                "table": entity.table,
                "kind": entity.content_type,
                "priority": entity.priority,
                "sends": self.queue.sends,
                "ids": owners.select(identity).to_series().to_list(),
                "owners": owners.get_column(SOURCE_ID).to_list(),
            },
        ).fetchall()
        self.queue.note_new(created)

    def _update(self) -> int:
        """Rows of texts that changed, or lost what was made of them, begin anew; the others only say what is so."""
        return self.queue.connection.execute(
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
            ).format(queue=self.queue.table, out_of_date=self._out_of_date, anew=_BEGINS_ANEW),
            {"sends": self.queue.sends},
        ).rowcount

    def _delete(self) -> int:
        return self.queue.connection.execute(
            sql.SQL(
                "UPDATE {queue} AS queued SET operation = 'delete', content_hash = NULL, status = 'pending',"
                " process_dify = %(sends)s, pgvector_completed = false, dify_completed = false, attempts = 0,"
                " error_message = NULL, not_before = NULL, leased_until = NULL"
                " WHERE queued.operation <> 'delete'"
                " AND NOT EXISTS (SELECT 1 FROM wanted_text AS wanted WHERE wanted.id = queued.id)"
            ).format(queue=self.queue.table),
            {"sends": self.queue.sends},
        ).rowcount

    def _remove_documents(self) -> None:
        """Documents of texts that went when nothing was sent are taken away now."""
        left = sql.SQL(
            "queued.operation = 'delete' AND queued.status = 'completed' AND EXISTS (SELECT 1 FROM {} AS document"
            " WHERE (document.source_table, document.source_id) = (queued.source_table, queued.source_id))"
        ).format(qualified(self.queue.declared.documents))
        self.queue.note(sql.SQL("SELECT * FROM {} AS queued WHERE {}").format(self.queue.table, left))
        self.queue.connection.execute(
            sql.SQL(
                "UPDATE {} AS queued SET status = 'pending', process_dify = true, dify_completed = false WHERE {}"
            ).format(self.queue.table, left)
        )

    def _to_ask(self, model: tuple[str, str]) -> tuple[int, int, int]:
        """The rows whose text is to be embedded; the distinct texts that no row has embedded, and their characters."""
        known = sql.SQL(" UNION ALL ").join(
            sql.SQL(
                "SELECT 1 FROM {} AS there WHERE there.content_hash = wanted.content_hash"
                " AND (there.model_name, there.model_version) = (%(model)s, %(version)s)"
            ).format(qualified(entity.embeddings))
            for entity in self.queue.declared.entities.values()
        )
        found = self.queue.connection.execute(
            sql.SQL(
                "WITH waiting AS (SELECT wanted.content_hash, wanted.characters FROM {queue} AS queued"
                " JOIN wanted_text AS wanted USING (id) WHERE {to_embed} AND status IN ('pending', 'processing')),"
                " new AS (SELECT DISTINCT content_hash, characters FROM waiting AS wanted WHERE NOT EXISTS ({known}))"
                " SELECT (SELECT count(*) FROM waiting), count(*), coalesce(sum(characters), 0)::bigint FROM new"
            ).format(queue=self.queue.table, to_embed=to_embed("queued"), known=known),
            {"model": model[0], "version": model[1]},
        ).fetchone()
        rows, distinct, characters = found or (0, 0, 0)
        return int(rows), int(distinct), int(characters)

    @property
    def _kind(self) -> sql.Composable:
        """A cast of a text to the type that content types have in the queue."""
        if self._kind_type is None:
            [name] = self.queue.connection.execute(
                "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = to_regclass(%s) AND attname = 'content_type'",
                [self.queue.table.as_string()],
            ).fetchone() or ["text"]
            self._kind_type = str(name)
        # As format_type says it, quoted where it has to be.
        return sql.SQL("::{}").format(sql.SQL(self._kind_type))


_IS_GONE = sql.SQL("(wanted.id IS NULL AND queued.operation <> 'delete')")
_BEGINS_ANEW = sql.SQL(
    "(NOT wanted.done AND (queued.operation = 'delete' OR queued.status = 'completed'"
    " OR queued.content_hash IS DISTINCT FROM wanted.content_hash))"
)
