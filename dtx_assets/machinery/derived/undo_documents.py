"""The undo of what a run did to documents: Dify has those again that it had before, with the texts that they had.

The knowledge bases stay: people may have put documents of their own into them.
"""

from dataclasses import replace
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.derived.clock import Clock
from dtx_assets.machinery.derived.dify import Dify, NotThere, Sent
from dtx_assets.machinery.derived.documents import SEVERAL, Document
from dtx_assets.machinery.derived.embedder import Refused, TryAgain
from dtx_assets.machinery.derived.model import DerivedDeclaration
from dtx_assets.machinery.derived.sending import (
    LOOKS_A_DOCUMENT,
    SECONDS_BETWEEN_LOOKS,
    base_is_missing,
    deliver,
    take_away,
    tried_again,
)
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import qualified

DOCUMENTS_A_BATCH = 50
Before = dict[str, Any]

_NOTED = (
    " FROM migration.derived_document AS noted LEFT JOIN {documents} AS document ON document.id = noted.document_id"
    " JOIN {bases} AS base ON base.id = coalesce(document.dify_kb_id, (noted.before ->> 'dify_kb_id')::uuid)"
    " WHERE noted.run_id = %s"
)
_TOUCHED = (
    "(document.id IS NULL AND noted.before ->> 'dify_document_id' IS NOT NULL"
    " OR document.dify_document_id IS DISTINCT FROM noted.before ->> 'dify_document_id'"
    " OR document.dify_metadata ->> 'tried' IS DISTINCT FROM noted.before -> 'dify_metadata' ->> 'tried'"
    " OR document.dify_metadata ->> 'sent' IS DISTINCT FROM noted.before -> 'dify_metadata' ->> 'sent')"
)
"""Whether Dify may have something else than it had before the run."""


def undo_documents(
    connection: Connection,
    declared: DerivedDeclaration,
    run_id: str,
    dify: Dify | None,
    clock: Clock,
    *,
    dry: bool = False,
) -> int:
    """Undo what a run did to documents; how many there were. A dry undo asks Dify nothing.

    LoadError where Dify has to be asked, and nobody names one; what it raises.
    """
    if not declared.knowledge:
        return 0
    names = {"documents": qualified(declared.documents), "bases": qualified(declared.knowledge_bases)}
    [touched] = connection.execute(
        sql.SQL("SELECT count(*)" + _NOTED + " AND " + _TOUCHED).format(**names), [run_id]
    ).fetchone() or [0]
    if dry:
        dify = None
    elif touched and dify is None:
        raise LoadError(
            f"{run_id} sent {touched:,} documents to Dify, or took them away, and nobody says where it is",
            where=declared.documents,
            remedy="give its address and key as for the run (DIFY_URL, DIFY_KEY), and undo again",
        )
    done = 0
    while batch := _undo_batch(connection, declared, run_id, dify, clock):
        done += batch
    connection.execute(
        sql.SQL(
            "DELETE FROM {bases} AS base WHERE dify_kb_id IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM {documents} AS document WHERE document.dify_kb_id = base.id)"
        ).format(**names)
    )
    connection.execute(
        sql.SQL(
            "UPDATE {bases} AS base SET document_count = (SELECT count(*) FROM {documents} AS document"
            " WHERE document.dify_kb_id = base.id AND document.processing_status = 'completed')"
        ).format(**names)
    )
    return done


def _undo_batch(
    connection: Connection, declared: DerivedDeclaration, run_id: str, dify: Dify | None, clock: Clock
) -> int:
    names = {"documents": qualified(declared.documents), "bases": qualified(declared.knowledge_bases)}
    rows = connection.execute(
        sql.SQL(
            "SELECT noted.document_id::text, noted.before, to_jsonb(document), base.dify_kb_id, base.name, "
            + _TOUCHED
            + _NOTED
            + " ORDER BY 1 LIMIT %s"
        ).format(**names),
        [run_id, DOCUMENTS_A_BATCH],
    ).fetchall()
    restored: list[Before] = []
    waiting: list[tuple[str, Sent, Before]] = []
    for _, before, now, base, name, is_touched in rows:
        if is_touched and dify is not None and base is not None:
            sent = _ask_back(dify, str(base), str(name), before, now, clock)
            if before is not None and sent is not None:
                before.update(dify_document_id=sent.document_id, batch=sent.batch)
                if before["processing_status"] == "completed":
                    waiting.append((str(base), sent, before))
        if before is not None:
            restored.append(before)
    for base, sent, row in waiting:
        assert dify is not None
        row["processing_status"] = _state_at_last(dify, base, str(row["document_name"]), sent, clock)
    if dify is not None and any(is_touched for *_, is_touched in rows):
        reach("derived.document_undone")
    ids = [row_id for row_id, *_ in rows]
    with connection.transaction():
        connection.execute(sql.SQL("DELETE FROM {documents} WHERE id = ANY (%s::uuid[])").format(**names), [ids])
        connection.execute(
            sql.SQL(
                "INSERT INTO {documents} SELECT former.* FROM jsonb_populate_recordset(NULL::{documents}, %s) AS former"
            ).format(**names),
            [Jsonb(restored)],
        )
        connection.execute(
            "DELETE FROM migration.derived_document WHERE run_id = %s AND document_id = ANY (%s::uuid[])",
            [run_id, ids],
        )
    return len(rows)


def _ask_back(dify: Dify, base: str, name: str, before: Before | None, now: Before | None, clock: Clock) -> Sent | None:
    """What Dify has in place of what the run left there; None where it has nothing, as before."""
    if before is None or before["dify_document_id"] is None:
        if now is not None:
            there = _document(now)
            tried_again(lambda: take_away(dify, base, there, clock), clock, dify.url)
        return None
    former = _document(before)
    if former.sent != former.content_hash:
        # It waited to be sent before the run, too; what Dify had then stands nowhere. The next run sends it.
        return Sent(now["dify_document_id"], now["batch"]) if now and now["dify_document_id"] else None
    there = _document(now) if now is not None else former
    wanted = replace(
        former,
        document_id=there.document_id or former.document_id,
        tried=SEVERAL,
        sent=None,
        failed=there.failed,
    )
    missing = base_is_missing(dify, base, name)
    return tried_again(lambda: deliver(dify, base, wanted, clock, missing=missing), clock, dify.url)


def _state_at_last(dify: Dify, base: str, name: str, sent: Sent, clock: Clock) -> str:
    """How a document is when it is indexed, or `indexing` where that takes too long; the next run looks again."""
    for look in range(LOOKS_A_DOCUMENT):
        if look:
            clock.sleep(SECONDS_BETWEEN_LOOKS)
        try:
            state = dify.state(base, name, sent)
        except (TryAgain, Refused, NotThere):
            continue
        if state != "indexing":
            return state
    return "indexing"


def _document(row: Before) -> Document:
    """A document by its row as JSON."""
    metadata = row["dify_metadata"]
    return Document(
        row["id"],
        row["dify_kb_id"],
        row["document_name"],
        row["document_content"],
        row["content_hash"],
        row["dify_document_id"],
        row["batch"],
        metadata.get("tried"),
        metadata.get("sent"),
        row["processing_status"] == "error",
    )
