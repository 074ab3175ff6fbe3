"""Dispatch as a whole: what a run leaves is what the contract, read a second time, says; phases, gates and their undo.

One run of every bad value in every column under the defaults is shared; other options and PostgreSQL as the source have
one each.
"""

import json
from collections.abc import Iterator

import psycopg
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.load import undo_run
from dtx_assets.machinery.load.phase_checks import phase_findings
from dtx_assets_tests.dispatch.compare import brief, told, write
from dtx_assets_tests.dispatch.running import Migrated, migrate
from dtx_assets_tests.dispatch.ugly import decisions

OURS_ALONE = {"coerced"}
"""Cut fractions of a second, and times that the clock skipped, are counted; the contract names neither."""


@pytest.fixture(scope="module")
def migrated(tmp_path_factory, postgres_server) -> Iterator[Migrated]:
    directory = tmp_path_factory.mktemp("dispatch")
    url = postgres_server.create_database("dispatch_thorough")
    yield migrate(directory, write(directory, None, {}), url)
    postgres_server.drop_database("dispatch_thorough")


def differences_of(run: Migrated) -> str:
    return brief([each for each in told(run.url, run.directory) if each.where not in OURS_ALONE])


def test_every_bad_value_in_every_column_becomes_what_the_contract_says(migrated):
    assert differences_of(migrated) == brief([])


def test_a_database_under_other_decisions_becomes_what_the_contract_says(tmp_path, postgres_server):
    legacy, target = (postgres_server.create_database(f"dispatch_{name}") for name in ("legacy", "target"))
    settings = write(tmp_path, 5, decisions(5), legacy_url=legacy)
    assert differences_of(migrate(tmp_path, settings, target)) == brief([])


def test_no_password_is_read(migrated):
    manifest = migrated.lake.require(("dispatch", "legacy", "auth_user"))
    assert "password" not in manifest.metadata["columns"]
    assert "password" not in migrated.lake.scan(manifest.key).collect_schema().names()
    with psycopg.connect(migrated.url) as connection:
        rows = connection.execute("SELECT row FROM migration.rejected_history WHERE source_table = 'auth_user'")
        assert all("password" not in row for (row,) in rows)


def findings_of(run: Migrated, *statements: str) -> dict[str, dict[str, int]]:
    """What the gates of all phases find after some statements, of which nothing stays."""
    found: dict[str, dict[str, int]] = {}
    with psycopg.connect(run.url) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        for phase in run.system.phases:
            for name, findings in phase_findings(connection, run.system, phase).items():
                if findings.count:
                    found[f"{phase.report}_{name}"] = findings.counts
        connection.rollback()
    return found


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ((), {}),
        (
            ("DELETE FROM order_state_history WHERE id = (SELECT min(id::text)::uuid FROM order_state_history)",),
            {"phase_4_record_counts": {"order_state_history": 1}},
        ),
        (
            ("UPDATE messages SET legacy_record_id = -1 WHERE legacy_record_id = 6",),
            {"phase_3_legacy_ids": {"messages.legacy_record_id": 1}},
        ),
        (
            (
                "SET session_replication_role = replica",
                "UPDATE messages SET sender_id = gen_random_uuid() WHERE legacy_record_id = 6",
            ),
            {"phase_3_referential_integrity": {"messages.sender_id": 1}},
        ),
        (
            ("UPDATE order_state_history SET from_state_id = NULL",),
            {"phase_4_business_rules": {"history_has_no_gaps": pytest.approx(1, abs=10_000)}},
        ),
        (("DROP TABLE message_types CASCADE",), {"phase_3_record_counts": {"message_types": 1}}),
    ],
    ids=["nothing", "a row is gone", "another legacy id", "a lost reference", "a gap in a history", "no table"],
)
def test_each_gate_finds_what_is_wrong(migrated, statements, expected):
    found = findings_of(migrated, *statements)
    assert {name: counts for name, counts in found.items() if name in expected or not expected} == expected


def test_phases_are_undone_from_one_on(migrated):
    models = [target.model for phase in migrated.system.phases[2:] for target in migrated.system.models_of(phase)]
    summary = undo_run(migrated.url, "dispatch", migrated.system.targets, "last", models=models, dry=True)
    assert set(summary.deleted) == set(models)
    assert summary.deleted["messages"] > 0
    assert not summary.left


def test_a_phase_that_there_is_not_is_refused(migrated):
    from dtx_assets.machinery.run.operations import require_phase

    with pytest.raises(ConfigurationError, match="no phase 7"):
        require_phase(migrated.system, 7)


def test_a_generic_key_by_any_name_is_found(tmp_path, postgres_server):
    """Two columns of other names give the same rows."""
    settings = write(tmp_path, 3, {})
    legacy = tmp_path / "legacy" / "dispatch_record.csv"
    content = legacy.read_bytes()
    header, _, rows = content.partition(b"\n")
    renamed = header.replace(b"content_type_id", b"target_content_type_id").replace(b"object_id", b"target_object_id")
    assert renamed != header or b"content_type_id" not in header
    legacy.write_bytes(renamed + b"\n" + rows)
    run = migrate(tmp_path, settings, postgres_server.create_database("dispatch_renamed"))
    with psycopg.connect(run.url) as connection:
        found = connection.execute("SELECT count(*) FROM messages WHERE patient_id IS NOT NULL").fetchone()
    names = run.lake.require(("dispatch", "generic_key", "dispatch_record")).metadata["names"]
    assert json.dumps(names) == json.dumps([name for name in renamed.decode().split(",") if name in names])
    assert found is not None
    assert found[0] > 0
