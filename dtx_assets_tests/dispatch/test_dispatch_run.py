"""Dispatch as a whole: what a run leaves is what the contract, read a second time, says; phases, gates and their undo.

One run of every bad value in every column under the defaults is shared; other options and PostgreSQL as the source have
one each.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import obstore
import psycopg
import pytest

from dtx_assets.cli.migrating import chosen_phases
from dtx_assets.dispatch.checks import CHECKS
from dtx_assets.dispatch.definitions import SYSTEM, defs
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.lake import s3_store
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.checks.own import evaluate
from dtx_assets.machinery.dagster.run import select_assets
from dtx_assets.machinery.load import undo_run
from dtx_assets.machinery.load.legacy_views import prepare_legacy_views, there
from dtx_assets.machinery.load.phase_checks import phase_findings
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.prepare.preparation import RunSettings
from dtx_assets.machinery.run.operations import require_phase
from dtx_assets.machinery.sources.untouched import written_by_runs
from dtx_assets_tests.dispatch.compare import brief, inputs_of, told, write
from dtx_assets_tests.dispatch.running import Migrated, environment_of, migrate
from dtx_assets_tests.dispatch.second_reading import migrate_and_queue
from dtx_assets_tests.dispatch.second_reading_books import Result
from dtx_assets_tests.dispatch.ugly import decisions
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.machinery.run.cells import changed_cells
from dtx_assets_tests.machinery.run.personal import DRY, explained, personal_values, said, values_told
from dtx_assets_tests.paper import SHEETS, TELEPHONE, sheets_of, width_on_a_telephone

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
    run = migrate(tmp_path, settings, target)
    assert differences_of(run) == brief([])
    asked = {check.spec.name: check for check in CHECKS.of(run.system) if check.spec.asset[0] == "target"}
    baseline = evaluate([asked["query_baseline"]], run.checked)["query_baseline"]
    assert baseline.passed
    told_of_both = "old: .* rows in .* s; new: .* rows in .* s"
    assert [text for text in baseline.metadata.values() if not re.fullmatch(told_of_both, text)] == []
    assert evaluate([asked["legacy_untouched"]], run.checked)["legacy_untouched"].passed
    # As if a load had written them: tables of the database that loads write.
    read = {LegacyTable("offices", "", ()): run.lake.require(("dispatch", "legacy", "dispatch_office"))}
    [(rows,)] = ask(run, "SELECT count(*) FROM offices")
    assert written_by_runs(target, "dispatch", read) == {"offices": f"{rows} rows are of loads"}


def test_project_files_come_from_a_bucket_as_from_a_directory(tmp_path, postgres_server, s3_bucket):
    """Of tables in which the latest state of an order has an id that its column cannot hold."""
    settings = write(tmp_path, 116, decisions(116))
    store = s3_store(url := f"s3://{s3_bucket}/scans")
    for path in Path(settings["DISPATCH_FILES_URL"]).iterdir():
        obstore.put(store, path.name, path.read_bytes())
    target = postgres_server.create_database("dispatch_bucket")
    run = migrate(tmp_path, {**settings, "DISPATCH_FILES_URL": url}, target)
    assert differences_of(run) == brief([])
    assert ask(run, "SELECT count(*) > 1 FROM projects WHERE content_hash IS NOT NULL") == [(True,)]


def test_no_password_is_read(migrated):
    manifest = migrated.lake.require(("dispatch", "legacy", "auth_user"))
    assert "password" not in manifest.metadata["columns"]
    assert "password" not in migrated.lake.scan(manifest.key).collect_schema().names()
    with psycopg.connect(migrated.url) as connection:
        rows = connection.execute("SELECT row FROM migration.rejected_history WHERE source_table = 'auth_user'")
        assert all("password" not in row for (row,) in rows)


def test_no_command_tells_a_personal_value_and_the_page_is_six_sheets(migrated, browser):
    settings = {
        **json.loads((migrated.directory / "settings.json").read_text()),
        "DISPATCH_TARGET_URL": migrated.url,
        "DISPATCH_HOME": str(migrated.directory / "home"),
    }
    command = Command(migrated.directory, settings)
    told = dict(said(command, "dispatch", ("rejected",), ("errors",), ("todo",), ("report",), ("diagnose",), *DRY))
    page = migrated.directory / "home" / "report" / "cutover.html"
    told["page"] = page.read_text()
    with environment_of(migrated.system, migrated.directory, settings) as environment:
        values = personal_values(environment)
        told |= dict(explained(environment, 2))
    assert len(values) > 20
    assert len(told) > 20
    assert values_told(values, told) == {}
    assert sheets_of(browser, page) in SHEETS
    assert width_on_a_telephone(browser, page) <= TELEPHONE


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


# --- the views of legacy tables ---

NULLS = ("", "NULL", r"\N")
"""As CSV files spell NULL where a value is no text."""


def test_the_cells_that_are_told_are_those_that_change_a_column(migrated):
    settings = Settings.from_environment("dispatch", environ={}, sample_dir=SYSTEM.sample_dir)
    at, system = datetime(2026, 7, 1, tzinfo=UTC), migrated.system
    landed = RunSettings("cells", system, settings, system.decisions, at, migrated.lake)
    found = changed_cells(landed, "states", "profiles", "projects", "doctor_offices", rounds=2)
    assert not found.lies
    assert not found.undeclared
    assert found.changed > 100


@pytest.fixture(scope="module")
def expected(migrated) -> Result:
    result, _ = migrate_and_queue(inputs_of(migrated.directory))
    return result


def ask(run: Migrated, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(run.url) as connection:
        return connection.execute(query.encode()).fetchall()


def legacy_rows(run: Migrated, table: str) -> dict[int, dict[str, str | None]]:
    """The rows of a legacy table by id, the first of each; what no number is there has no id."""
    read: dict[int, dict[str, str | None]] = {}
    for row in inputs_of(run.directory).tables[table]:
        with suppress(ValueError):
            read.setdefault(
                int(str(row["id"])), {name: None if value in NULLS else value for name, value in row.items()}
            )
    return read


def as_number(text: str | None) -> int | None:
    return int(Decimal(text)) if text is not None and text.strip() else None


def test_a_legacy_id_leads_to_the_new_row(migrated, expected):
    there_is = ask(
        migrated, "SELECT legacy_table, legacy_id::text, target_table, target_id::text FROM compat.legacy_id"
    )
    assert len(there_is) == len(expected.legacy_ids)
    assert set(there_is) == expected.legacy_ids
    joined = "SELECT legacy_user_id FROM profiles JOIN compat.legacy_id ON target_id = id WHERE legacy_id = 1"
    assert ask(migrated, joined + " AND legacy_table = 'auth_user'") == [(1,)]


@pytest.mark.parametrize(
    "table",
    [
        "auth_user",
        "auth_user_groups",
        "dispatch_course",
        "dispatch_file",
        "dispatch_instruction",
        "dispatch_office",
        "dispatch_office_doctors",
        "dispatch_patient",
        "dispatch_project",
        "dispatch_record",
        "dispatch_state",
        "dispatch_template",
    ],
)
def test_a_legacy_table_has_a_view_of_its_migrated_rows(migrated, expected, table):
    ids = sorted(int(key) for key in {each.source_key for each in expected.mapping if each.source_table == table})
    found = ask(migrated, f"SELECT * FROM compat.{table} ORDER BY id")
    assert len(ids) > 1
    assert [row[0] for row in found] == ids


REFERENCES = {
    "auth_user_groups": ("user_id",),
    "dispatch_instruction": ("course_id",),
    "dispatch_office_doctors": ("office_id", "user_id"),
    "dispatch_patient": ("user_id",),
    "dispatch_project": ("creator_id",),
    "dispatch_state": ("actor_id", "instruction_id"),
    "dispatch_template": ("course_id",),
}
"""What a row refers to, as the legacy row has it."""


@pytest.mark.parametrize(("table", "columns"), REFERENCES.items(), ids=REFERENCES)
def test_a_view_has_the_legacy_ids_that_a_row_refers_to(migrated, table, columns):
    rows = legacy_rows(migrated, table)
    found = ask(migrated, f"SELECT id, {', '.join(columns)} FROM compat.{table}")
    wanted = {(id_, *(as_number(rows[id_][column]) for column in columns)) for id_, *_ in found}
    assert set(found) == wanted


def test_a_query_of_the_old_system_is_asked_of_the_new_one(migrated, expected):
    """Over four tables: who ordered what."""
    query = """
        SELECT i.id, p.user_id, c.id, u.username
        FROM compat.dispatch_instruction AS i JOIN compat.dispatch_patient AS p ON p.id = i.patient_id
        JOIN compat.dispatch_course AS c ON c.id = i.course_id JOIN compat.auth_user AS u ON u.id = p.user_id
        ORDER BY i.id
    """
    names = ("dispatch_instruction", "dispatch_patient", "auth_user")
    instructions, patients, users = (legacy_rows(migrated, name) for name in names)
    wanted = []
    for entry in expected.mapping:
        if (entry.source_table, entry.target_table, entry.part) == ("dispatch_instruction", "orders", ""):
            instruction = instructions[int(entry.source_key)]
            user = as_number(patients[as_number(instruction["patient_id"])]["user_id"])
            wanted.append((int(entry.source_key), user, as_number(instruction["course_id"]), users[user]["username"]))
    assert len(wanted) > 1
    assert ask(migrated, query) == sorted(wanted)


@pytest.mark.parametrize(
    ("column", "owner", "legacy_id", "names"),
    [
        ("order_id", "orders", "legacy_instruction_id", ("dispatch", "instruction")),
        ("project_id", "projects", "legacy_project_id", ("dispatch", "project")),
        ("patient_id", "profiles", "legacy_patient_id", ("dispatch", "patient")),
        ("profile_id", "profiles", "legacy_user_id", ("auth", "user")),
    ],
)
def test_a_message_is_about_a_model_by_name_and_a_legacy_id(migrated, column, owner, legacy_id, names):
    """Each message is made one about the same row, of which nothing stays."""
    with psycopg.connect(migrated.url) as connection:
        [(row_id, number)] = connection.execute(
            f"SELECT id, {legacy_id} FROM {owner} WHERE {legacy_id} IS NOT NULL ORDER BY 2 DESC LIMIT 1".encode()
        ).fetchall()
        of_others = "order_id = NULL, project_id = NULL, patient_id = NULL, profile_id = NULL"
        moved = of_others.replace(f"{column} = NULL", f"{column} = %s")
        connection.execute(f"UPDATE messages SET {moved}".encode(), [row_id])
        found = connection.execute("SELECT DISTINCT app_label, model, object_id FROM compat.dispatch_record").fetchall()
        connection.rollback()
    assert found == [(*names, number)]


def test_views_stay_through_another_load_and_an_undo(migrated, postgres_server):
    """On a copy, as the shared run is to stay."""
    copy = "dispatch_undone"
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {copy} TEMPLATE dispatch_thorough".encode())
    url = postgres_server.database_url(copy)
    views = "SELECT oid, relname FROM pg_class WHERE relnamespace = 'compat'::regnamespace ORDER BY relname"
    with psycopg.connect(url, autocommit=True) as connection:
        before = connection.execute(views).fetchall()
        prepare_legacy_views(url, migrated.system)
        assert connection.execute(views).fetchall() == before
        undo_run(url, "dispatch", migrated.system.targets, "last")
        assert connection.execute(views).fetchall() == before
        for name in there(connection):
            assert connection.execute(f"SELECT count(*) FROM compat.{name}".encode()).fetchone() == (0,)
    postgres_server.drop_database(copy)


def test_a_phase_that_there_is_not_is_refused_and_all_that_there_are_are_named(migrated):
    with pytest.raises(ConfigurationError, match=r"no phase 7\n.*\n.*1, 2, 3, 4, 5"):
        require_phase(migrated.system, 7)


@pytest.mark.parametrize(
    ("phase", "through", "with_gates", "targets", "derives"),
    [
        ("3", None, {"1", "2", "3"}, {"message_types", "messages"}, False),
        (None, 1, {"1"}, {"profiles", "offices", "order_types", "order_states"}, False),
        ("4-5", None, {"1", "2", "3", "4"}, {"instruction_states", "order_state_history"}, True),
        ("5", None, set(), set(), True),
        (None, 5, {"1", "2", "3", "4"}, {"profiles", "workflow_tasks"}, True),
    ],
)
def test_phases_are_chosen_by_number(phase, through, with_gates, targets, derives):
    chosen = chosen_phases(SYSTEM, phase, through)
    assert chosen
    paths = {"/".join(key.path[1:]) for key in select_assets(defs, SYSTEM.name, chosen)}
    assert {path.removeprefix("report/phase_") for path in paths if path.startswith("report/phase_")} == with_gates
    assert targets <= {path.removeprefix("target/") for path in paths if path.startswith("target/")}
    assert ("derived/embedding_queue" in paths, "derived/dify_documents" in paths) == (derives, derives)
    assert ("target/profiles" in paths) == ("profiles" in targets)


def test_a_generic_key_by_any_name_is_found(tmp_path, postgres_server):
    """Two columns of other names give the same rows."""
    settings = write(tmp_path, 3, {})
    legacy = tmp_path / "legacy" / "dispatch_record.csv"
    content = legacy.read_bytes()
    header, _, rows = content.partition(b"\n")
    renamed = header.replace(b"content_type_id", b"target_content_type_id").replace(b"object_", b"target_object_")
    assert renamed != header or b"content_type_id" not in header
    legacy.write_bytes(renamed + b"\n" + rows)
    run = migrate(tmp_path, settings, postgres_server.create_database("dispatch_renamed"))
    with psycopg.connect(run.url) as connection:
        found = connection.execute("SELECT count(*) FROM messages WHERE patient_id IS NOT NULL").fetchone()
    names = run.lake.require(("dispatch", "generic_key", "dispatch_record")).metadata["names"]
    assert json.dumps(names) == json.dumps([name for name in renamed.decode().split(",") if name in names])
    assert found is not None
    assert found[0] > 0
