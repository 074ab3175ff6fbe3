"""What checks say of the derived layer, by looking at the target database."""

from psycopg import sql

from dtx_assets.machinery.checks.spec import CheckOutcome, CheckSpec
from dtx_assets.machinery.derived.embedder import is_stand_in
from dtx_assets.machinery.derived.model import DerivedDeclaration, Entity
from dtx_assets.machinery.derived.schema import trigger_states
from dtx_assets.machinery.derived.search import matches
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import qualified

LEAST_COVERAGE = 0.95
SAMPLES_AN_ENTITY = 10
LISTED = 20
QUEUE = ("derived", "embedding_queue")

COVERAGE, MODEL, DEAD, TRIGGERS, FINDS_ITSELF, DOCUMENTS = (
    "embedding_coverage",
    "embedding_model",
    "dead_letters",
    "triggers_state",
    "search_finds_itself",
    "dify_documents",
)


def derived_checks(declared: DerivedDeclaration) -> tuple[CheckSpec, ...]:
    """The checks of the derived layer, each of the queue's asset."""
    told = {
        COVERAGE: "Of each entity, at least 95 % of the rows that have a text have an embedding of it as it is, by the"
        " model of the run. An entity without such rows passes.",
        MODEL: "All embeddings are of one model, and no stand-in made them.",
        DEAD: "No text is given up: every one was embedded or waits for its next try.",
        TRIGGERS: "The triggers that queue what the application writes are enabled.",
        DOCUMENTS: "Dify has every text as it is as a document, and has indexed it; none waits, and none is too many.",
        FINDS_ITSELF: "A sample of texts of each entity is found first by its own embedding, and by its words.",
    }
    if not declared.knowledge:
        del told[DOCUMENTS]
    return tuple(CheckSpec(name, QUEUE, text, "ERROR", blocking=True) for name, text in told.items())


def evaluate_derived(
    connection: Connection, declared: DerivedDeclaration, model_name: str, dify_url: str | None = None
) -> dict[str, CheckOutcome]:
    """The outcome of each check by its name; `model_name` is the model of the run, `dify_url` where it sent texts."""
    return {
        COVERAGE: coverage(connection, declared, model_name),
        MODEL: one_real_model(connection, declared),
        DEAD: dead_letters(connection, declared),
        TRIGGERS: triggers(connection, declared),
        FINDS_ITSELF: finds_itself(connection, declared),
        **({DOCUMENTS: sent_documents(connection, declared, dify_url)} if declared.knowledge else {}),
    }


def coverage(connection: Connection, declared: DerivedDeclaration, model_name: str) -> CheckOutcome:
    """By the queue, which a run has filled: rows that have a text, and those with its embedding."""
    shares, missing, failed = {}, 0, []
    for name, entity in declared.entities.items():
        eligible, embedded = connection.execute(
            sql.SQL(
                "SELECT count(*), count(*) FILTER (WHERE EXISTS (SELECT 1 FROM {embeddings} AS there"
                " WHERE there.{owner} = queued.source_id AND there.content_type = queued.content_type"
                " AND there.content_hash = queued.content_hash AND there.model_name = %(model)s))"
                " FROM {queue} AS queued WHERE source_table = %(table)s AND operation <> 'delete'"
            ).format(
                embeddings=qualified(entity.embeddings),
                owner=sql.Identifier(entity.owner),
                queue=qualified(declared.queue),
            ),
            {"model": model_name, "table": name},
        ).fetchone() or (0, 0)
        if not eligible:
            shares[name] = "no row has a text"
            continue
        shares[name] = f"{embedded:,} of {eligible:,} ({embedded / eligible:.1%})"
        missing += eligible - embedded
        if embedded < LEAST_COVERAGE * eligible:
            failed.append(name)
    return CheckOutcome(not failed, missing, {"embedded": shares, "below": failed})


def one_real_model(connection: Connection, declared: DerivedDeclaration) -> CheckOutcome:
    counts: dict[str, int] = {}
    for entity in declared.entities.values():
        for model, version, count in connection.execute(
            sql.SQL("SELECT model_name, model_version, count(*) FROM {} GROUP BY 1, 2").format(
                qualified(entity.embeddings)
            )
        ):
            counts[f"{model} {version}"] = counts.get(f"{model} {version}", 0) + int(count)
    stand_ins = sum(count for model, count in counts.items() if is_stand_in(model))
    return CheckOutcome(len(counts) <= 1 and not stand_ins, stand_ins or max(0, len(counts) - 1), {"models": counts})


def dead_letters(connection: Connection, declared: DerivedDeclaration) -> CheckOutcome:
    found = connection.execute(
        sql.SQL(
            "SELECT source_table, source_id::text, error_message, count(*) OVER () FROM {} WHERE status = 'dead'"
            " ORDER BY source_table, source_id LIMIT %s"
        ).format(qualified(declared.queue)),
        [LISTED],
    ).fetchall()
    count = int(found[0][3]) if found else 0
    return CheckOutcome(not count, count, {"dead": {f"{table}/{row}": words for table, row, words, _ in found}})


def sent_documents(connection: Connection, declared: DerivedDeclaration, dify_url: str | None) -> CheckOutcome:
    """By the documents and the queue: each text of the queue has its document, and Dify said that it is indexed."""
    states: dict[str, int] = dict(
        connection.execute(
            sql.SQL("SELECT processing_status, count(*) FROM {} GROUP BY 1 ORDER BY 1").format(
                qualified(declared.documents)
            )
        ).fetchall()
    )
    [missing] = connection.execute(
        sql.SQL(
            "SELECT count(*) FROM {queue} AS queued WHERE operation <> 'delete' AND NOT EXISTS ("
            "SELECT 1 FROM {documents} AS document WHERE document.content_hash = queued.content_hash"
            " AND (document.source_table, document.source_id) = (queued.source_table, queued.source_id))"
        ).format(queue=qualified(declared.queue), documents=qualified(declared.documents))
    ).fetchone() or [0]
    open_ones = connection.execute(
        sql.SQL(
            "SELECT document_name, processing_status, error_message FROM {} WHERE processing_status <> 'completed'"
            " ORDER BY error_message IS NULL, document_name LIMIT %s"
        ).format(qualified(declared.documents)),
        [LISTED],
    )
    examples = {name: words or state for name, state, words in open_ones}
    count = missing + sum(found for state, found in states.items() if state != "completed")
    where = dify_url or "nowhere: no address of Dify is given, so nothing is sent"
    return CheckOutcome(
        not count, count, {"sent to": where, "documents": states, "texts without one": missing, "open": examples}
    )


def triggers(connection: Connection, declared: DerivedDeclaration) -> CheckOutcome:
    states = trigger_states(connection, declared)
    off = [name for name, state in states.items() if state != "on"]
    return CheckOutcome(not off, len(off), {"triggers": {name: state or "missing" for name, state in states.items()}})


def finds_itself(connection: Connection, declared: DerivedDeclaration) -> CheckOutcome:
    """Of texts with the lowest hashes, which are as good as drawn by lot, and the same in each run."""
    lost: list[str] = []
    looked = 0
    for entity in declared.entities.values():
        for owner, text, vector in _samples(connection, entity):
            looked += 1
            # Several rows may have the same text; any of them is itself.
            for words in (None, text):
                first = matches(connection, entity, vector, 1, words)
                if not first or first[0].text != text:
                    lost.append(f"{entity.table}/{owner} {'by its words' if words else 'by its embedding'}")
    return CheckOutcome(not lost, len(lost), {"looked for": looked, "not first": lost[:LISTED]})


def _samples(connection: Connection, entity: Entity) -> list[tuple[str, str, str]]:
    """Owner, text and vector of some texts that are one chunk."""
    return [
        (str(owner), str(text), str(vector))
        for owner, text, vector in connection.execute(
            sql.SQL(
                "SELECT DISTINCT ON (content_hash) {0}::text, content_text, embedding::text FROM {1} AS there"
                " WHERE chunk_index = 0 AND NOT EXISTS (SELECT 1 FROM {1} AS other"
                " WHERE other.{0} = there.{0} AND other.content_type = there.content_type AND other.chunk_index > 0)"
                " ORDER BY content_hash LIMIT %s"
            ).format(sql.Identifier(entity.owner), qualified(entity.embeddings)),
            [SAMPLES_AN_ENTITY],
        )
    ]
