"""The undo of what a run derived: its embeddings go, those it replaced come back, and the queue is what it was.

What somebody wrote since is left as it is and listed. Each batch is one transaction, so that an undo that was killed
goes on where it stopped.
"""

from dataclasses import dataclass, field

from psycopg import sql

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.derived.clock import Clock, SystemClock
from dtx_assets.machinery.derived.dify import Dify
from dtx_assets.machinery.derived.model import DerivedDeclaration, Entity
from dtx_assets.machinery.derived.queue import prepare_journal
from dtx_assets.machinery.derived.schema import switch_triggers
from dtx_assets.machinery.derived.undo_documents import undo_documents
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import qualified

ROWS_A_BATCH = 1_000
_NOTED = sql.SQL("SELECT run_id FROM migration.derived_journal UNION ALL SELECT run_id FROM migration.derived_document")
"""The runs that derived something."""


@dataclass
class UndoneDerivation:
    """Rows of the queue that are what they were, and those that were left because somebody wrote them since."""

    undone: int = 0
    documents: int = 0
    left: list[str] = field(default_factory=list)
    """`<source table>/<source id>` of each."""


def undo_derived(
    connection: Connection,
    declared: DerivedDeclaration,
    run_id: str,
    dify: Dify | None = None,
    clock: Clock | None = None,
    *,
    dry: bool = False,
) -> UndoneDerivation:
    """Undo the derived layer of a run and disable the triggers; a dry undo, which the caller rolls back, asks no Dify.

    LoadError where a later run derived something, or it sent documents and there is no Dify to take them away from.
    """
    prepare_journal(connection)
    later = connection.execute(
        sql.SQL(
            "SELECT DISTINCT noted.run_id FROM ({}) AS noted JOIN migration.run USING (run_id)"
            " WHERE run.started_at > (SELECT started_at FROM migration.run WHERE run_id = %s)"
        ).format(_NOTED),
        [run_id],
    ).fetchall()
    if later:
        raise LoadError(
            f"later runs derived from what {run_id} did: {', '.join(sorted(found for (found,) in later))}",
            where="migration.derived_journal",
            remedy="undo them first",
        )
    done = UndoneDerivation()
    switch_triggers(connection, declared, on=False)
    done.documents = undo_documents(connection, declared, run_id, dify, clock or SystemClock(), dry=dry)
    for entity in declared.entities.values():
        while _undo_batch(connection, declared, entity, run_id, done):
            reach("derived.undone")
    return done


def derived_since(connection: Connection, run_id: str) -> list[str]:
    """The runs that derived something, from this one on, the last one first."""
    prepare_journal(connection)
    found = connection.execute(
        sql.SQL(
            "SELECT run_id FROM migration.run WHERE started_at >="
            " (SELECT started_at FROM migration.run WHERE run_id = %s) AND run_id IN ({}) ORDER BY started_at DESC"
        ).format(_NOTED),
        [run_id],
    )
    return [str(run) for (run,) in found]


def _undo_batch(
    connection: Connection, declared: DerivedDeclaration, entity: Entity, run_id: str, done: UndoneDerivation
) -> int:
    names = {
        "queue": qualified(declared.queue),
        "embeddings": qualified(entity.embeddings),
        "owner": sql.Identifier(entity.owner),
        "table": qualified(entity.table),
    }
    with connection.transaction():
        rows = connection.execute(
            sql.SQL(
                "SELECT noted.queue_id::text, noted.source_id::text, noted.embeddings IS NOT NULL,"
                # Written by the application since, which its trigger noted, or by anybody.
                " (queued.status = 'pending' AND queued.content_hash IS NULL AND queued.operation <> 'delete')"
                " OR EXISTS (SELECT 1 FROM {embeddings} AS there WHERE there.{owner} = noted.source_id"
                " AND there.content_type::text = noted.content_type AND noted.written_by IS NOT NULL"
                " AND there.xmin::text::bigint <> (noted.written_by::text::numeric %% 4294967296)::bigint)"
                " FROM migration.derived_journal AS noted LEFT JOIN {queue} AS queued ON queued.id = noted.queue_id"
                " WHERE noted.run_id = %s AND noted.source_table = %s AND noted.content_type = %s"
                " ORDER BY noted.queue_id LIMIT %s FOR UPDATE OF noted"
            ).format(**names),
            [run_id, entity.table, entity.content_type, ROWS_A_BATCH],
        ).fetchall()
        changed = [source for _, source, _, is_changed in rows if is_changed]
        ids = [queue_id for queue_id, _, _, is_changed in rows if not is_changed]
        owners = [source for _, source, touched, is_changed in rows if touched and not is_changed]
        given = {"ids": ids, "owners": owners, "kind": entity.content_type, "run": run_id}
        connection.execute(
            sql.SQL(
                "DELETE FROM {embeddings} WHERE {owner} = ANY (%(owners)s::uuid[]) AND content_type::text = %(kind)s"
            ).format(**names),
            given,
        )
        connection.execute(
            sql.SQL(
                "INSERT INTO {embeddings} SELECT former.* FROM migration.derived_journal AS noted"
                " CROSS JOIN LATERAL jsonb_populate_recordset(NULL::{embeddings}, noted.embeddings) AS former"
                " WHERE noted.run_id = %(run)s AND noted.queue_id = ANY (%(ids)s::uuid[])"
                " AND EXISTS (SELECT 1 FROM {table} AS row WHERE row.id = former.{owner})"
            ).format(**names),
            given,
        )
        connection.execute(sql.SQL("DELETE FROM {queue} WHERE id = ANY (%(ids)s::uuid[])").format(**names), given)
        connection.execute(
            sql.SQL(
                "INSERT INTO {queue} SELECT former.* FROM migration.derived_journal AS noted"
                " CROSS JOIN LATERAL jsonb_populate_record(NULL::{queue}, noted.before ||"
                " CASE noted.before ->> 'status' WHEN 'processing' THEN '{{\"status\": \"pending\","
                " \"leased_until\": null}}'::jsonb ELSE '{{}}' END) AS former"
                " WHERE noted.run_id = %(run)s AND noted.queue_id = ANY (%(ids)s::uuid[]) AND noted.before IS NOT NULL"
            ).format(**names),
            given,
        )
        connection.execute(
            "DELETE FROM migration.derived_journal WHERE run_id = %s AND queue_id = ANY (%s::uuid[])",
            [run_id, [queue_id for queue_id, *_ in rows]],
        )
    done.undone += len(ids)
    done.left += [f"{entity.table}/{source}" for source in changed]
    return len(rows)
