"""Phase 5 on the shipped sample: what is queued and embedded is what the second reading of the contract says."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest

from dtx_assets.dispatch.decided_system import SYSTEM
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.derived.gate import NAMES, evaluate_gate
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets.machinery.sources.frames import legacy_frame, source_key
from dtx_assets_tests.dispatch.compare import differences, found_in
from dtx_assets_tests.dispatch.second_reading import inputs_of_csv, migrate_and_queue
from dtx_assets_tests.dtx.commands import Command

pytestmark = pytest.mark.timeout(900)


@dataclass
class Ran:
    """The sample after `dtx run dispatch`, into tables that `dtx target ddl` printed."""

    command: Command
    url: str
    output: str
    home: Path

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            done = connection.execute(statement.encode(), values)
            return done.fetchall() if done.description else []


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, vector_server: EmbeddedPostgres) -> Iterator[Ran]:
    place = Path(tmp_path_factory.mktemp("dispatch"))
    url = vector_server.create_database("phase_5_of_dispatch")
    command = Command(place, {"DISPATCH_TARGET_URL": url, "DISPATCH_HOME": str(place / "home")}, seconds=850)
    printed = command("target", "ddl", "dispatch")
    assert printed.returncode == 0, printed.stderr
    with psycopg.connect(url) as connection:
        connection.execute(printed.stdout.encode())
    done = command("run", "dispatch")
    yield Ran(command, url, done.stdout + done.stderr, place / "home")
    vector_server.drop_database("phase_5_of_dispatch")


def test_the_queue_the_embeddings_and_the_documents_are_those_of_the_second_reading(ran):
    expected, queued = migrate_and_queue(inputs_of_csv(SYSTEM.sample_dir, SYSTEM.sample_dir / "files"))
    found = found_in(ran.url, expected.rows)
    assert len(found.queue) == len(queued) > 1_000
    assert len({entity for entity, *_ in found.embedded}) == 4
    told = differences(found, expected, queued)
    assert [str(each) for each in told if each.where.startswith(("queue", "embed", "document"))] == []


def test_only_the_stand_in_and_the_absence_of_dify_keep_checks_of_the_phase_red_and_the_run_says_so(ran):
    checks = {check["name"]: check["state"] for check in json.loads(ran.command("status", "dispatch", "--json").stdout)
              ["checks"] if check["asset"] == "derived/embedding_queue"}  # fmt: skip
    assert checks == {
        "embedding_coverage": "passed",
        "embedding_model": "failed",
        "dead_letters": "passed",
        "triggers_state": "passed",
        "search_finds_itself": "passed",
        "dify_documents": "failed",
        **dict.fromkeys((f"phase_5_{name}" for name in NAMES), "passed"),
    }
    assert ran.query("SELECT DISTINCT processing_status FROM dify_documents") == [("pending",)]
    assert "embedding_model" in ran.output
    assert "dify_documents" in ran.output
    assert ran.query("SELECT DISTINCT model_name FROM message_embeddings") == [("standin:hashed-words",)]


def gate_after(ran: Ran, *statements: str) -> dict[str, dict[str, int]]:
    """What the gate finds after some statements, of which nothing stays."""
    lake = Lake(str(ran.home / "lake"))

    def legacy(table: str) -> pl.LazyFrame:
        declared = SYSTEM.legacy_tables[table]
        return source_key(declared, legacy_frame(lake, "dispatch", declared))

    with psycopg.connect(ran.url) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        found = evaluate_gate(connection, SYSTEM, 5, SYSTEM.decisions.chosen, legacy)
        connection.rollback()
    return {name: outcome.metadata["found"] for name, outcome in found.items() if not outcome.passed}


ONE = "(SELECT message_id FROM message_embeddings ORDER BY message_id LIMIT 1)"
UNBOUND = "ALTER TABLE message_embeddings DROP CONSTRAINT message_embeddings_message_id_fkey"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ((), {}),
        (
            (f"DELETE FROM embedding_queue WHERE source_id = {ONE}",),
            {
                "phase_5_record_counts": {
                    "messages: texts that are not on the queue": 1,
                    "messages: embeddings of rows that are not on the queue": 1,
                }
            },
        ),
        (
            (f"DELETE FROM message_embeddings WHERE message_id = {ONE}",),
            {"phase_5_record_counts": {"messages: completed without an embedding": 1}},
        ),
        (
            (
                "ALTER TABLE messages DISABLE TRIGGER ALL",
                f"UPDATE messages SET body = 'another', subject = 'text' WHERE id = {ONE}",
                "UPDATE embedding_queue SET status = 'completed'",
            ),
            {"phase_5_record_counts": {"messages: completed for another text": 1}},
        ),
        (
            (
                UNBOUND,
                "ALTER TABLE messages DISABLE TRIGGER ALL",
                f"DELETE FROM messages WHERE id = {ONE}",
            ),
            {
                "phase_5_record_counts": {"messages: rows of the queue without a text": 1},
                "phase_5_referential_integrity": {
                    "messages: the queue": 1,
                    "messages: embeddings": 1,
                    "messages: documents": 1,
                },
            },
        ),
        (
            (
                "ALTER TABLE messages DISABLE TRIGGER ALL",
                f"UPDATE messages SET legacy_record_id = 987654321 WHERE id = {ONE}",
            ),
            {"phase_5_legacy_ids": {"messages": 1}},
        ),
        (
            (f"UPDATE message_embeddings SET chunk_index = chunk_index + 1 WHERE message_id = {ONE}",),
            {"phase_5_business_rules": {"messages: chunks of several texts or models, or with a gap": 1}},
        ),
        (
            (
                "INSERT INTO message_embeddings (message_id, content_type, chunk_index, content_text, content_hash,"
                " embedding, model_name, model_version) SELECT message_id, content_type, 1, content_text, content_hash,"
                " embedding, 'another', model_version FROM message_embeddings ORDER BY message_id LIMIT 1",
            ),
            {"phase_5_business_rules": {"messages: chunks of several texts or models, or with a gap": 1}},
        ),
    ],
)
def test_each_fault_of_the_phase_is_found_by_its_gate(ran, statements, expected):
    assert gate_after(ran, *statements) == expected


def test_a_search_finds_what_was_said_and_shows_it_masked(ran):
    query = "SELECT content_text FROM message_embeddings WHERE chunk_index = 0 ORDER BY message_id LIMIT 1"
    [[body]] = ran.query(query)
    plain = ran.command("search", "dispatch", "messages", body, "--limit", "3", "--json", "--unmasked")
    assert next(match["text"] for match in json.loads(plain.stdout)) == body
    masked = ran.command("search", "dispatch", "messages", body, "--limit", "1", "--hybrid")
    assert masked.returncode == 0, masked.stderr
    assert body not in masked.stdout
    assert "standin:hashed-words" in masked.stdout


def test_a_diagnosis_after_a_run_takes_its_rows_for_no_one_elses(ran):
    """Their keys are UUIDs, which the journal of the load calls by numbers."""
    ran.query(
        "INSERT INTO messages SELECT (m).* FROM (SELECT jsonb_populate_record(m, jsonb_build_object("
        "'id', gen_random_uuid(), 'legacy_record_id', NULL)) AS m FROM messages AS m LIMIT 1) AS one"
    )
    try:
        done = ran.command("diagnose", "dispatch", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        findings = {each["subject"]: each["says"] for each in json.loads(done.stdout)["findings"]}
    finally:
        ran.query("DELETE FROM messages WHERE legacy_record_id IS NULL")
        ran.query("DELETE FROM embedding_queue WHERE operation = 'delete'")
    assert findings["rows in messages"].startswith("1 of others")
    assert findings["rows in orders"] == "0 of others, 0 with the natural key of a prepared row"


def test_the_undo_of_phase_5_leaves_the_others_as_they_are(ran):
    """Last, as it takes away what the tests before look at."""
    derived = ("embedding_queue", "message_embeddings", "dify_documents", "dify_knowledgebases")
    loaded = ("profiles", "orders", "messages", "order_state_history", "migration.mapping")

    def counts(tables):
        return [ran.query(f"SELECT count(*) FROM {table}")[0][0] for table in tables]

    before, kept = counts(derived), counts(loaded)
    assert all(before)
    dry = ran.command("rollback", "dispatch", "--phase", "5", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert counts(derived) == before
    done = ran.command("rollback", "dispatch", "--phase", "5")
    assert done.returncode == 0, done.stderr
    assert f"embedding_queue: {before[0]:,} rows deleted" in done.stdout
    assert counts(derived) == [0, 0, 0, 0]
    assert counts(loaded) == kept
    assert ran.query("SELECT DISTINCT status FROM migration.load") == [("succeeded",)]
    triggers = "SELECT DISTINCT tgenabled::text FROM pg_trigger WHERE starts_with(tgname, 'queue_')"
    assert ran.query(triggers) == [("D",)]
    refused = ran.command("rollback", "dispatch", "--phase", "6")
    assert refused.returncode != 0
    assert "no phase 6" in refused.stdout + refused.stderr
