"""What is asked of the phase that derives, as of the phases that load: by value, against the target's rows as they are.

The rows of a phase that loads are held against the mapping; what this one makes, against the texts of the target's
rows, which are made once more for it.
"""

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from dtx_assets.machinery.checks.spec import CheckOutcome, CheckSpec
from dtx_assets.machinery.derived.checks import QUEUE
from dtx_assets.machinery.derived.model import DerivedDeclaration, Entity
from dtx_assets.machinery.derived.texts import HASH, SOURCE_ID, LegacyRows, entity_texts
from dtx_assets.machinery.load import phase_checks
from dtx_assets.machinery.load.phase_checks import PhaseFindings, rows_without_legacy_id
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import copy_in
from dtx_assets.machinery.postgres.ddl import qualified
from dtx_assets.machinery.system.system import System

COUNTS, REFERENCES, LEGACY_IDS, RULES = phase_checks.NAMES
NAMES: Mapping[str, str] = {
    COUNTS: "Each row that has a text is on the queue, and no other one; what is completed there has its embedding, and"
    " no embedding is of a text that is not there.",
    REFERENCES: "Each row that the queue, an embedding or a document is of is there.",
    LEGACY_IDS: "Each migrated row that has an embedding is found in its target by its legacy id.",
    RULES: "The chunks of a row are of one text and one model, and are counted from 0 without a gap.",
}
_TEXTS = "CREATE TEMPORARY TABLE text_there (source_id uuid PRIMARY KEY, content_hash text) ON COMMIT DROP"
_COUNTED = {
    "texts that are not on the queue": (
        "SELECT source_id FROM text_there WHERE NOT EXISTS (SELECT FROM {of_queue} AND queued.source_id ="
        " text_there.source_id)"
    ),
    "rows of the queue without a text": (
        "SELECT source_id FROM {of_queue} AND NOT EXISTS (SELECT FROM text_there WHERE text_there.source_id ="
        " queued.source_id)"
    ),
    "completed for another text": (
        "SELECT source_id FROM {of_queue} AND queued.status = 'completed' AND EXISTS (SELECT FROM text_there"
        " WHERE text_there.source_id = queued.source_id AND text_there.content_hash <> queued.content_hash)"
    ),
    "completed without an embedding": (
        "SELECT source_id FROM {of_queue} AND queued.pgvector_completed AND NOT EXISTS (SELECT FROM {embeddings} AS"
        " there WHERE there.{owner} = queued.source_id AND there.content_type = queued.content_type"
        " AND there.content_hash = queued.content_hash)"
    ),
    "embeddings of rows that are not on the queue": (
        "SELECT DISTINCT there.{owner} FROM {embeddings} AS there WHERE there.content_type::text = {kind}"
        " AND NOT EXISTS (SELECT FROM {queue} AS queued WHERE queued.source_table = {table}"
        " AND queued.source_id = there.{owner} AND queued.content_type = there.content_type)"
    ),
}
_REFERRED = {
    "the queue": (
        "SELECT source_id FROM {of_queue} AND NOT EXISTS (SELECT FROM {target} AS row WHERE row.id = queued.source_id)"
    ),
    "embeddings": (
        "SELECT DISTINCT there.{owner} FROM {embeddings} AS there"
        " WHERE NOT EXISTS (SELECT FROM {target} AS row WHERE row.id = there.{owner})"
    ),
}
_DOCUMENTS = {
    "documents": (
        "SELECT source_id FROM {documents} AS document WHERE source_table = {table}"
        " AND NOT EXISTS (SELECT FROM {target} AS row WHERE row.id = document.source_id)"
    )
}
_RULES = {
    "chunks of several texts or models, or with a gap": (
        "SELECT {owner} FROM {embeddings} AS there GROUP BY {owner}, content_type"
        " HAVING count(DISTINCT content_hash) > 1 OR count(DISTINCT (model_name, model_version)) > 1"
        " OR min(chunk_index) <> 0 OR max(chunk_index) <> count(*) - 1"
    ),
}


def gate_checks(phase: int) -> tuple[CheckSpec, ...]:
    """The four checks of the phase of that number, each of the queue's asset."""
    return tuple(
        CheckSpec(f"phase_{phase}_{name}", QUEUE, text, "ERROR", blocking=True) for name, text in NAMES.items()
    )


def evaluate_gate(
    connection: Connection, system: System, phase: int, chosen: Mapping[str, str], legacy: LegacyRows
) -> dict[str, CheckOutcome]:
    """The outcome of each by its name; each entity is looked at in a transaction, of which nothing stays."""
    declared = system.derived
    assert isinstance(declared, DerivedDeclaration)
    found = {name: PhaseFindings() for name in NAMES}
    made = [declared.queue, *(entity.embeddings for entity in declared.entities.values())]
    for table in (*made, declared.documents) if declared.knowledge else made:
        # Of a table that the server knows nothing of it would go through all rows for each of another one.
        connection.execute(sql.SQL("ANALYZE {}").format(qualified(table)))
    for name, entity in declared.entities.items():
        with connection.transaction(force_rollback=True):
            connection.execute(_TEXTS)
            for page in entity_texts(connection, entity, chosen, legacy):
                copy_in(connection, sql.Identifier("text_there"), page.select(SOURCE_ID, HASH))
            connection.execute("ANALYZE text_there")
            names = _names(declared, entity)
            referred = {**_REFERRED, **(_DOCUMENTS if declared.knowledge else {})}
            for check, queries in ((COUNTS, _COUNTED), (REFERENCES, referred), (RULES, _RULES)):
                for what, query in queries.items():
                    rows = connection.execute(sql.SQL(query).format(**names)).fetchall()
                    found[check].add(f"{name}: {what}", sorted(str(row) for (row,) in rows))
            found[LEGACY_IDS].add(name, _without_legacy_id(connection, system, entity, names))
    return {
        f"phase_{phase}_{name}": CheckOutcome(
            not each.count, each.count, {"found": each.counts, "examples": each.examples}
        )
        for name, each in found.items()
    }


def _names(declared: DerivedDeclaration, entity: Entity) -> dict[str, sql.Composable]:
    queue, kind, table = qualified(declared.queue), sql.Literal(entity.content_type), sql.Literal(entity.table)
    of_queue = sql.SQL(
        "{} AS queued WHERE queued.source_table = {} AND queued.content_type::text = {}"
        " AND queued.operation <> 'delete'"
    ).format(queue, table, kind)
    return {
        "queue": queue,
        "of_queue": of_queue,
        "kind": kind,
        "table": table,
        "target": qualified(entity.table),
        "embeddings": qualified(entity.embeddings),
        "documents": qualified(declared.documents),
        "owner": sql.Identifier(entity.owner),
    }


def _without_legacy_id(connection: Connection, system: System, entity: Entity, names: Mapping[str, Any]) -> list[str]:
    target = next(target for target in system.targets if target.name == entity.table)
    lost = rows_without_legacy_id(connection, system, target)
    if not lost:
        return []
    query = sql.SQL("SELECT DISTINCT {owner}::text FROM {embeddings} WHERE {owner}::text = ANY ({lost})")
    rows = connection.execute(query.format(**names, lost=sql.Literal(lost)))
    return sorted(str(row) for (row,) in rows)
