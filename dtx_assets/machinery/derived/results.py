"""What becomes of embedded texts: rows of the embedding tables, the queue and the journal, in one transaction."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import polars as pl
from psycopg import sql

from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.derived.embedder import Embedded
from dtx_assets.machinery.derived.model import Entity
from dtx_assets.machinery.derived.queue import Lease, Queue
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import qualified

BEGIN, END = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
COLUMNS = (
    "content_type",
    "chunk_index",
    "content_text",
    "content_hash",
    "embedding",
    "model_name",
    "model_version",
    "token_count",
)
BYTES_A_WRITE = 1 << 20


class Results:
    """Writes embeddings of one model for rows that a lease holds."""

    def __init__(self, queue: Queue, model_name: str, model_version: str) -> None:
        self.queue = queue
        self.connection: Connection = queue.connection
        self.model = (model_name, model_version)

    def write(self, lease: Lease, embedded: Mapping[str, Embedded]) -> int:
        """The embeddings of the texts with these hashes, for all rows of the lease that have them; how many rows."""
        rows = lease.rows.filter(pl.col("content_hash").is_in(list(embedded)))
        with self.connection.transaction():
            rows = self._owned(lease, rows)
            self._put_away(rows)
            for entity, of_entity in self._by_entity(rows):
                self._copy(entity, of_entity, embedded)
            reach("derived.after_copy")
            self._complete(rows)
            reach("derived.before_commit")
        reach("derived.after_commit")
        return rows.height

    def adopt_known(self, lease: Lease) -> set[str]:
        """Give rows whose text has been embedded for another row the same embeddings, unasked; the hashes of these."""
        known = self._known(lease.rows.get_column("content_hash").unique().to_list())
        if not known:
            return set()
        with self.connection.transaction():
            rows = self._owned(lease, lease.rows.filter(pl.col("content_hash").is_in(list(known))))
            # First the copies, from what may be replaced itself.
            self.connection.execute(KNOWN)
            for table, hashes in _grouped(known).items():
                self._remember(table, hashes)
            self._put_away(rows)
            for entity, of_entity in self._by_entity(rows):
                self._insert_known(entity, of_entity)
            self.connection.execute("DROP TABLE known_text")
            self._complete(rows)
        return set(known)

    def remove(self, lease: Lease) -> int:
        """Take away the embeddings of the rows of a lease."""
        with self.connection.transaction():
            rows = self._owned(lease, lease.rows)
            self._put_away(rows)
            self._complete(rows)
            reach("derived.before_removed")
        return rows.height

    # --- the parts of a transaction ---

    def _owned(self, lease: Lease, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.filter(pl.col("id").is_in(self.queue.own(lease, rows.get_column("id").to_list())))

    def _by_entity(self, rows: pl.DataFrame) -> Iterable[tuple[Entity, pl.DataFrame]]:
        for name, entity in self.queue.declared.entities.items():
            of_entity = rows.filter(pl.col("source_table") == name)
            if of_entity.height:
                yield entity, of_entity

    def _put_away(self, rows: pl.DataFrame) -> None:
        """Move the embeddings that are there into the journal; the first ones a run replaces, not its own."""
        for entity, of_entity in self._by_entity(rows):
            names = {
                "embeddings": qualified(entity.embeddings),
                "owner": sql.Identifier(entity.owner),
            }
            given = {
                "ids": of_entity.get_column("id").to_list(),
                "owners": of_entity.get_column("source_id").to_list(),
                "kind": entity.content_type,
                "run": self.queue.run_id,
            }
            self.connection.execute(
                sql.SQL(
                    "WITH gone AS (DELETE FROM {embeddings} AS there USING unnest(%(owners)s::uuid[]) AS row (id)"
                    " WHERE there.{owner} = row.id AND there.content_type::text = %(kind)s RETURNING there.*),"
                    " former AS (SELECT {owner} AS owner, jsonb_agg(to_jsonb(gone)) AS embeddings FROM gone GROUP BY 1)"
                    " UPDATE migration.derived_journal AS noted SET written_by = pg_current_xact_id(),"
                    " written_at = now(), embeddings = coalesce(noted.embeddings, former.embeddings, '[]')"
                    " FROM unnest(%(ids)s::uuid[], %(owners)s::uuid[]) AS row (queue_id, owner)"
                    " LEFT JOIN former USING (owner) WHERE noted.run_id = %(run)s AND noted.queue_id = row.queue_id"
                ).format(**names),
                given,
            )

    def _copy(self, entity: Entity, rows: pl.DataFrame, embedded: Mapping[str, Embedded]) -> None:
        names = [entity.owner, *COLUMNS]
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            qualified(entity.embeddings), sql.SQL(", ").join(map(sql.Identifier, names))
        )
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            buffer = bytearray(BEGIN)
            for owner, hashed in rows.select("source_id", "content_hash").iter_rows():
                for record in self._records(entity, owner, hashed, embedded[hashed]):
                    buffer += record
                if len(buffer) >= BYTES_A_WRITE:
                    copy.write(bytes(buffer))
                    buffer.clear()
            copy.write(bytes(buffer) + END)

    def _records(self, entity: Entity, owner: str, hashed: str, text: Embedded) -> Iterable[bytes]:
        """The chunks of a text as binary COPY takes them, in the order of the columns."""
        for number, chunk in enumerate(text.chunks):
            vector = struct.pack(">hh", len(chunk.vector), 0) + chunk.vector.astype(">f4").tobytes()
            values = (
                UUID(owner).bytes,
                entity.content_type.encode(),
                struct.pack(">i", number),
                chunk.text.encode(),
                hashed.encode(),
                vector,
                self.model[0].encode(),
                self.model[1].encode(),
                None if chunk.tokens is None else struct.pack(">i", chunk.tokens),
            )
            yield struct.pack(">h", len(values)) + b"".join(
                NULL if value is None else struct.pack(">i", len(value)) + value for value in values
            )

    def _complete(self, rows: pl.DataFrame) -> None:
        """Nothing is left to be done for rows, or their documents are."""
        self.connection.execute(
            sql.SQL(
                "UPDATE {} SET pgvector_completed = true, leased_until = NULL, not_before = NULL, error_message = NULL,"
                " attempts = 0, status = CASE WHEN process_dify AND NOT dify_completed THEN 'pending' ELSE 'completed'"
                " END, processed_at = clock_timestamp() WHERE id = ANY (%s::uuid[])"
            ).format(self.queue.table),
            [rows.get_column("id").to_list()],
        )

    # --- texts that are known ---

    def _known(self, hashes: Sequence[str]) -> dict[str, tuple[str, str]]:
        """By hash: the entity and the owner that has embeddings of this model of the text."""
        known: dict[str, tuple[str, str]] = {}
        for name, entity in self.queue.declared.entities.items():
            found = self.connection.execute(
                sql.SQL(
                    "SELECT DISTINCT ON (content_hash) content_hash, {}::text FROM {} WHERE content_hash = ANY (%s)"
                    " AND (model_name, model_version) = (%s, %s) ORDER BY content_hash, 2"
                ).format(sql.Identifier(entity.owner), qualified(entity.embeddings)),
                [list(hashes), *self.model],
            )
            known |= {str(hashed): (name, str(owner)) for hashed, owner in found}
        return known

    def _remember(self, table: str, owners: Mapping[str, str]) -> None:
        entity = self.queue.declared.entities[table]
        self.connection.execute(
            sql.SQL(
                "INSERT INTO known_text SELECT chunk_index, content_text, content_hash, embedding, token_count"
                " FROM {} AS there JOIN unnest(%s::text[], %s::uuid[]) AS known (content_hash, owner)"
                " USING (content_hash) WHERE there.{} = known.owner"
                " AND (model_name, model_version) = (%s, %s)"
            ).format(qualified(entity.embeddings), sql.Identifier(entity.owner)),
            [list(owners), list(owners.values()), *self.model],
        )

    def _insert_known(self, entity: Entity, rows: pl.DataFrame) -> None:
        self.connection.execute(
            sql.SQL(
                "INSERT INTO {embeddings} AS there ({owner}, content_type, chunk_index, content_text, content_hash,"
                " embedding, model_name, model_version, token_count)"
                " SELECT row.owner, queued.content_type, known.chunk_index, known.content_text, known.content_hash,"
                " known.embedding, %(model)s, %(version)s, known.token_count"
                " FROM unnest(%(ids)s::uuid[], %(owners)s::uuid[], %(hashes)s::text[])"
                " AS row (id, owner, content_hash) JOIN {queue} AS queued ON queued.id = row.id"
                " JOIN known_text AS known ON known.content_hash = row.content_hash"
            ).format(
                embeddings=qualified(entity.embeddings),
                owner=sql.Identifier(entity.owner),
                queue=self.queue.table,
            ),
            {
                "ids": rows.get_column("id").to_list(),
                "owners": rows.get_column("source_id").to_list(),
                "hashes": rows.get_column("content_hash").to_list(),
                "model": self.model[0],
                "version": self.model[1],
            },
        )


KNOWN = (
    "CREATE TEMPORARY TABLE known_text (chunk_index integer, content_text text, content_hash text, embedding vector,"
    " token_count integer)"
)


def _grouped(known: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, str]]:
    """By entity: the owners by hash."""
    grouped: dict[str, dict[str, str]] = {}
    for hashed, (table, owner) in known.items():
        grouped.setdefault(table, {})[hashed] = owner
    return grouped
