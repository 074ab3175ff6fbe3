"""The documents of knowledge bases as the target holds them: one a text, whether it was sent yet or not.

What is sent of them is `sending`; here is what should be there, and what each run changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from psycopg import sql
from psycopg.types.json import Jsonb

from dtx_assets.machinery.derived.dify import Sent, retrieval
from dtx_assets.machinery.derived.model import Entity
from dtx_assets.machinery.derived.queue import Queue
from dtx_assets.machinery.derived.texts import HASH, SOURCE_ID, TEXT, derived_id
from dtx_assets.machinery.postgres.content import copy_in
from dtx_assets.machinery.postgres.ddl import qualified

WANTED_TABLE = "CREATE TEMPORARY TABLE wanted_document (id uuid PRIMARY KEY, source_id uuid, content text, hash text)"
TRIED, SENT = "tried", "sent"
"""Keys of `dify_metadata`: the hash of the text that was tried to be sent, and of the one that Dify said it has."""
SEVERAL = "several"
"""Stands for the hash where texts were tried one after another, and nobody knows which of them Dify has."""


@dataclass(frozen=True)
class Document:
    """A document to be sent or taken away. `document_id` is Dify's, `tried` and `sent` are what the keys say."""

    id: str
    base: str
    name: str
    text: str
    content_hash: str
    document_id: str | None
    batch: str | None
    tried: str | None
    sent: str | None
    failed: bool

    @property
    def is_there(self) -> Sent | None:
        """As Dify has it, where it has the text as it is now."""
        if self.document_id is None or self.sent != self.content_hash or self.failed:
            return None
        return Sent(self.document_id, self.batch)


_COLUMNS = sql.SQL(
    "id::text, dify_kb_id::text, document_name, document_content, content_hash, dify_document_id, batch,"
    " dify_metadata ->> 'tried', dify_metadata ->> 'sent', processing_status = 'error'"
)


class Documents:
    """The documents of a system, as one run sees them."""

    def __init__(self, queue: Queue) -> None:
        self.queue, self.connection, self.declared = queue, queue.connection, queue.declared
        self.table, self.bases = qualified(self.declared.documents), qualified(self.declared.knowledge_bases)

    # --- what should be there; within the transaction that fills the queue ---

    def begin(self) -> None:
        self.connection.execute(WANTED_TABLE)

    def take(self, entity: Entity, page: pl.DataFrame) -> None:
        """A page of texts of an entity that should be there."""
        identity = derived_id(self.declared.namespace, "dify_document", entity.table, pl.col(SOURCE_ID))
        rows = page.select(identity.alias("id"), SOURCE_ID, pl.col(TEXT).alias("content"), pl.col(HASH).alias("hash"))
        copy_in(self.connection, sql.Identifier("wanted_document"), rows)

    def merge(self, entity: Entity) -> None:
        """Those that were taken become documents that wait; others of the entity are to go."""
        given = {"run": self.queue.run_id, "table": entity.table, "base": self._base(entity)}
        self.connection.execute("ANALYZE wanted_document")
        for statement in (_NOTE, _FORGET, _REMOVE, _WRITE):
            self.connection.execute(statement.format(documents=self.table, unwanted=_UNWANTED), given)
        self.connection.execute("TRUNCATE wanted_document")

    def end(self) -> None:
        self.connection.execute("DROP TABLE wanted_document")

    def _base(self, entity: Entity) -> str:
        """The id of the row of an entity's knowledge base, which is made where there is none."""
        knowledge = self.declared.knowledge
        assert knowledge is not None
        identity = derived_id(self.declared.namespace, "dify_knowledgebase", entity.table)
        self.connection.execute(
            sql.SQL(
                "INSERT INTO {} (id, name, description, entity_type, embedding_model, rerank_model, retrieval_setting)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
            ).format(self.bases),
            [
                pl.select(identity).item(),
                self.declared.name_of_base(entity.table),
                f"The texts of {entity.table}.",
                entity.table,
                knowledge.embedding_model,
                knowledge.rerank_model,
                Jsonb(retrieval(knowledge, "")),
            ],
        )
        [found] = self.connection.execute(
            sql.SQL("SELECT id FROM {} WHERE entity_type = %s").format(self.bases), [entity.table]
        ).fetchone() or [None]
        return str(found)

    # --- what is sent of them ---

    def of(self, table: str, source_ids: Sequence[str]) -> dict[str, Document]:
        """The documents of rows of an entity, by their ids."""
        found = self.connection.execute(
            sql.SQL(
                "SELECT source_id::text, {} FROM {} WHERE source_table = %s AND source_id = ANY (%s::uuid[])"
            ).format(_COLUMNS, self.table),
            [table, list(source_ids)],
        )
        return {str(source_id): Document(*row) for source_id, *row in found}

    def note(self, ids: Sequence[str]) -> None:
        """What documents are, before this run changes them for the first time."""
        self.connection.execute(
            sql.SQL(
                "INSERT INTO migration.derived_document SELECT %s, id, source_table, to_jsonb(noted) FROM {} AS noted"
                " WHERE id = ANY (%s::uuid[]) ON CONFLICT DO NOTHING"
            ).format(self.table),
            [self.queue.run_id, list(ids)],
        )

    def try_all(self, ids: Sequence[str]) -> None:
        """That sending these has begun, so that whoever comes after a kill looks for them before making them."""
        self.note(ids)
        self.connection.execute(
            sql.SQL(
                "UPDATE {} SET dify_metadata = dify_metadata || jsonb_build_object('tried',"
                " CASE WHEN coalesce(dify_metadata ->> 'tried', content_hash) = content_hash THEN content_hash"
                " ELSE %s END) WHERE id = ANY (%s::uuid[])"
            ).format(self.table),
            [SEVERAL, list(ids)],
        )

    def has(self, document: Document, sent: Sent) -> None:
        """Dify has the text of a document, and indexes it."""
        self.connection.execute(
            sql.SQL(
                "UPDATE {} SET dify_document_id = %s, batch = %s, processing_status = 'indexing', error_message = NULL,"
                " dify_metadata = jsonb_build_object('tried', %s::text, 'sent', %s::text), updated_at = now()"
                " WHERE id = %s"
            ).format(self.table),
            [sent.document_id, sent.batch, document.content_hash, document.content_hash, document.id],
        )

    def finish(self, ids: Sequence[str]) -> None:
        self.connection.execute(
            sql.SQL(
                "UPDATE {} SET processing_status = 'completed', processed_at = clock_timestamp(), error_message = NULL,"
                " attempts = 0 WHERE id = ANY (%s::uuid[])"
            ).format(self.table),
            [list(ids)],
        )

    def fail(self, identity: str, words: str, status: str | None) -> None:
        """Count an attempt; `status` is what it is now, where that changed."""
        self.connection.execute(
            sql.SQL(
                "UPDATE {} SET attempts = attempts + 1, error_message = %s,"
                " processing_status = coalesce(%s, processing_status), updated_at = now() WHERE id = %s"
            ).format(self.table),
            [words, status, identity],
        )

    def forget(self, ids: Sequence[str]) -> None:
        """Documents that are gone from Dify go."""
        self.note(ids)
        self.connection.execute(sql.SQL("DELETE FROM {} WHERE id = ANY (%s::uuid[])").format(self.table), [list(ids)])

    def knowledge_base(self, identity: str) -> tuple[str, str | None]:
        """Its name and Dify's id, by the id of its row."""
        [name, known] = self.connection.execute(
            sql.SQL("SELECT name, dify_kb_id FROM {} WHERE id = %s").format(self.bases), [identity]
        ).fetchone() or ["", None]
        return str(name), known

    def know(self, identity: str, dify_id: str) -> None:
        self.connection.execute(
            sql.SQL("UPDATE {} SET dify_kb_id = %s, updated_at = now() WHERE id = %s").format(self.bases),
            [dify_id, identity],
        )

    def tell(self) -> None:
        """Say of each knowledge base how many documents it has, and whether some wait."""
        self.connection.execute(
            sql.SQL(
                "UPDATE {bases} AS base SET document_count = there.completed, last_sync_at = clock_timestamp(),"
                " sync_status = CASE WHEN there.completed = there.documents THEN 'completed' ELSE 'pending' END"
                " FROM (SELECT base.id, count(document.id) AS documents,"
                " count(*) FILTER (WHERE processing_status = 'completed') AS completed FROM {bases} AS base"
                " LEFT JOIN {documents} AS document ON document.dify_kb_id = base.id GROUP BY 1) AS there"
                " WHERE there.id = base.id"
            ).format(bases=self.bases, documents=self.table)
        )


_NOTE = sql.SQL(
    "INSERT INTO migration.derived_document SELECT %(run)s, coalesce(document.id, wanted.id), %(table)s,"
    " CASE WHEN document.id IS NOT NULL THEN to_jsonb(document) END FROM wanted_document AS wanted"
    " FULL JOIN (SELECT * FROM {documents} WHERE source_table = %(table)s) AS document USING (source_id)"
    " WHERE document.id IS NULL OR wanted.id IS NULL AND document.processing_status <> 'removing'"
    " OR wanted.id IS NOT NULL AND (document.processing_status = 'removing' OR document.content_hash <> wanted.hash)"
    " ON CONFLICT DO NOTHING"
)
_UNWANTED = sql.SQL(
    "document.source_table = %(table)s"
    " AND NOT EXISTS (SELECT 1 FROM wanted_document AS wanted WHERE wanted.source_id = document.source_id)"
)
_FORGET = sql.SQL(
    "DELETE FROM {documents} AS document WHERE {unwanted} AND document.dify_document_id IS NULL"
    " AND NOT document.dify_metadata ? 'tried'"
)
_REMOVE = sql.SQL(
    "UPDATE {documents} AS document SET processing_status = 'removing', attempts = 0, error_message = NULL,"
    " updated_at = now() WHERE {unwanted} AND document.processing_status <> 'removing'"
)
_WRITE = sql.SQL(
    "INSERT INTO {documents} AS document (id, dify_kb_id, source_table, source_id, document_name, document_content,"
    " content_hash, file_size) SELECT id, %(base)s, %(table)s, source_id, %(table)s || '/' || source_id, content, hash,"
    " octet_length(convert_to(content, 'UTF8')) FROM wanted_document"
    " ON CONFLICT (id) DO UPDATE SET document_content = excluded.document_content, file_size = excluded.file_size,"
    " content_hash = excluded.content_hash, processing_status = 'pending', processed_at = NULL, attempts = 0,"
    " error_message = NULL, updated_at = now() WHERE document.content_hash <> excluded.content_hash"
    " OR document.processing_status = 'removing'"
)
