"""What makes an engineer dare: the plan, the gate, acceptance, activation, replay and undo, through the commands."""

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import psycopg
import pytest
import yaml

from dtx_assets.dtx.system import DECISIONS_FILE, SYSTEM
from dtx_assets.machinery.code_location.definitions import build_definitions
from dtx_assets.machinery.dagster.jobs import planning_notes
from dtx_assets.machinery.dagster.verification import VERIFIED
from dtx_assets.machinery.mapping.decisions import load_decisions
from dtx_assets_tests.dtx.commands import Command, counts

COUNTS = ("inserted", "updated", "unchanged", "adopted", "conflicts", "vanished", "rejected")


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def contents(url: str) -> dict[str, list[tuple[object, ...]]]:
    return {
        table.name: rows(url, f'SELECT id, t::text FROM "{table.name}" AS t ORDER BY 1') for table in SYSTEM.targets
    }


def planned(dtx: Command, **environment: str) -> dict[str, dict[str, int]]:
    done = dtx("plan", "--json", **environment)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    return {load["model"]: {name: load[name] for name in COUNTS} for load in plan["loads"]}


def loaded(dtx: Command) -> dict[str, dict[str, int]]:
    found = rows(
        dtx.environment["DTX_TARGET_URL"],
        "SELECT DISTINCT ON (model) model, counts FROM migration.load ORDER BY model, id DESC",
    )
    return {str(model): {name: facts[name] for name in COUNTS} for model, facts in found}


def test_the_plan_says_what_the_run_then_does_and_nothing_of_it_stays(dtx, target, export, tmp_path):
    before = contents(target)
    plan = planned(dtx)
    assert contents(target) == before
    assert rows(target, "SELECT count(*) FROM pg_namespace WHERE nspname = 'migration'") == [(0,)]
    files = [path for path in (tmp_path / ".dtx").rglob("*") if path.is_file()]
    assert not [path for path in files if {"archive", "object_store"} & set(path.relative_to(tmp_path).parts)]
    assert dtx("run").returncode == 3
    assert plan == loaded(dtx)
    assert plan["NotificationSchedule"]["inserted"] > 3000
    assert plan["DocRequirement"]["conflicts"] == 1

    # Somebody changes the target and the legacy data: the plan of the delta is what the delta does.
    letters = (export / "letter.csv").read_bytes()
    (export / "letter.csv").write_bytes(letters.replace(b"compliance desk", b"claims desk"))
    keywords = (export / "keyword.csv").read_bytes().splitlines(keepends=True)
    (export / "keyword.csv").write_bytes(b"".join([keywords[0], *keywords[6:]]))
    with psycopg.connect(target) as connection:
        connection.execute("UPDATE docutrax_utils_emailtemplate SET name = name || '!' WHERE id % 9 = 0")
        connection.execute("DELETE FROM docutrax_hierarchy_accountmeta WHERE id % 9 = 0")
    whole = contents(target)
    delta = planned(dtx, DTX_LEGACY_URL=str(export))
    assert contents(target) == whole
    assert dtx("run", DTX_LEGACY_URL=str(export)).returncode == 3
    assert delta == loaded(dtx)
    assert delta["EmailTemplate"]["conflicts"]
    assert delta["AccountMeta"]["conflicts"]
    assert delta["EmailTemplate"]["updated"]
    assert delta["AccountMeta"]["vanished"]

    # The delta is undone, then everything: the target is what it was, but for what somebody else did.
    assert dtx("rollback", "last").returncode == 0
    after = contents(target)
    assert after == whole
    dry = dtx("rollback", "last", "--dry-run")
    assert "would be undone" in dry.stdout
    assert contents(target) == after
    done = dtx("rollback", "last")
    assert done.returncode == 0, done.stderr
    assert "someone changed it since" in done.stdout
    left = contents(target)
    left["docutrax_utils_emailtemplate"] = []
    assert left == before
    assert not [path for path in (tmp_path / ".dtx" / "object_store").rglob("*") if path.is_file()]


def test_a_cutover_is_refused_until_each_thing_in_its_way_is_accepted(dtx, target):
    before = contents(target)
    refused = dtx("run", "--all", "--mode", "cutover")
    assert refused.returncode == 1
    for name in ("restore_point", "dtx1_stopped_sending", "dtx2_queue_known", "bilingual_letters", "A8-3"):
        assert name in refused.stdout
    # Before anything is read: what only rows show is found by a plan, and told from then on.
    assert "EmailTemplate/letter/schema_violation" not in refused.stdout
    assert rows(target, "SELECT to_regclass('migration.run')") == [(None,)]
    plan = dtx("plan", "--json")
    assert "EmailTemplate/letter/schema_violation" in dtx("run", "--all", "--mode", "cutover").stdout
    assert contents(target) == before
    # What the checks found stands: one target alone meets it too.
    alone = dtx("run", "--all", "--mode", "cutover", "--select", "target/EmailTemplate", "--restore-point", "snap")
    assert alone.returncode == 1
    assert "NotificationSchedule/notification/unparseable" in alone.stdout
    assert contents(target) == before

    names = {found["name"].rpartition(":")[2] for found in json.loads(plan.stdout)["in_the_way"]}
    assert all(found["accepted"] is False for found in json.loads(plan.stdout)["in_the_way"])
    accept = [part for name in sorted(names - {"restore_point"}) for part in ("--accept", f"{name}=the sample is ugly")]
    select = ("--mode", "cutover", "--select", "target/EmailTemplate", "--restore-point", "snap-7")
    short = dtx("run", *select, *accept[2:])
    assert short.returncode == 1
    assert accept[1].partition("=")[0] in short.stdout
    done = dtx("run", *select, *accept)
    assert done.returncode == 3, done.stdout
    assert counts(target)["EmailTemplate"] > 100
    [(accepted, point, mode)] = rows(
        target, "SELECT accepted, restore_point, mode FROM migration.run WHERE status = 'succeeded'"
    )
    assert (point, mode) == ("snap-7", "cutover")
    assert set(accepted) == names - {"restore_point"}
    assert all(entry["reason"] == "the sample is ugly" and entry["by"] and entry["at"] for entry in accepted.values())  # type: ignore[attr-defined]


def test_acceptance_of_what_there_is_not_is_wrong_usage(dtx):
    done = dtx("run", "--mode", "cutover", "--accept", "no_such_check=why not")
    assert done.returncode == 2
    assert "no_such_check" in done.stderr
    without = dtx("run", "--mode", "cutover", "--accept", "decisions_are_confirmed")
    assert without.returncode == 2
    assert "gives no reason" in without.stderr


@pytest.fixture
def held(tmp_path: Path) -> str:
    path = tmp_path / "held.yaml"
    path.write_text(yaml.safe_dump({"activation": "hold_until_activated"}))
    return str(path)


def test_schedules_are_switched_on_stay_on_and_can_be_switched_off_again(dtx, target, held):
    active = "SELECT is_active, count(*) FROM docutrax_utils_notificationschedule GROUP BY 1 ORDER BY 1"
    select = ("--select", "+target/NotificationSchedule")
    assert dtx("run", *select).returncode == 3
    as_legacy = rows(target, active)
    assert len(as_legacy) == 2
    too_early = dtx("activate")
    assert too_early.returncode == 2
    assert "hold_until_activated" in too_early.stderr
    assert dtx("rollback", "last").returncode == 0

    assert dtx("run", *select, DTX_DECISIONS=held).returncode == 3
    assert [is_active for is_active, _ in rows(target, active)] == [False]
    done = dtx("activate", DTX_DECISIONS=held)
    assert done.returncode == 0, done.stderr
    assert f"{dict(as_legacy)[True]:,} rows switched on" in done.stdout
    assert rows(target, active) == as_legacy
    assert dtx("run", *select, DTX_DECISIONS=held).returncode == 3
    assert rows(target, active) == as_legacy
    assert loaded(dtx)["NotificationSchedule"]["updated"] == 0
    # The last run that wrote something is that of the activation.
    assert dtx("rollback", "last").returncode == 0
    assert [is_active for is_active, _ in rows(target, active)] == [False]


def test_a_replay_takes_mended_rows_off_the_rejected_list_without_extracting(dtx, target, export):
    crosswalk = export / "crosswalk_account.csv"
    whole = crosswalk.read_bytes()
    lines = whole.splitlines(keepends=True)
    crosswalk.write_bytes(b"".join([lines[0], *lines[4:]]))
    environment = {"DTX_LEGACY_URL": str(export)}
    assert dtx("run", "--select", "+target/EmailTemplate", **environment).returncode == 3
    rejected = "SELECT count(*) FROM migration.rejected WHERE NOT partial AND 'orphan_reference' = ANY (reasons)"
    [(before,)] = rows(target, rejected)
    crosswalk.write_bytes(whole)
    (export / "letter.csv").unlink()
    # The other flows were never extracted, and a replay extracts nothing: they are not replayed.
    done = dtx("replay", **environment)
    assert done.returncode == 1, done.stdout + done.stderr
    [(after,)] = rows(target, rejected)
    assert after < before
    last = "SELECT subset FROM migration.load ORDER BY id DESC LIMIT 1"
    assert rows(target, last) == [("rejected",)]
    templates = "SELECT count(*) FROM docutrax_utils_emailtemplate"
    [(replayed,)] = rows(target, templates)
    (export / "letter.csv").write_bytes((SYSTEM.sample_dir / "letter.csv").read_bytes())
    assert dtx("run", "--select", "+target/EmailTemplate", **environment).returncode == 3
    assert rows(target, templates) == [(replayed,)]


def test_a_first_look_loads_the_first_rows_and_the_run_the_rest(dtx, target):
    select = ("--select", "+target/EmailTemplate")
    templates = "SELECT count(*) FROM docutrax_utils_emailtemplate"
    assert dtx("run", *select, "--limit", "10").returncode == 3
    assert 0 < rows(target, templates)[0][0] <= 20
    assert rows(target, "SELECT read FROM migration.accounting WHERE target_table <> 'archive'") == [(10,)]
    verified = f"target/EmailTemplate:{VERIFIED}"
    # Of the rest it is not said that it is lost.
    assert dtx.states()["checks"][verified]["state"] not in ("passed", "failed")
    assert dtx("run", *select).returncode == 3
    assert rows(target, templates)[0][0] > 100
    assert rows(target, "SELECT count(*) FROM migration.vanished") == [(0,)]
    assert dtx.states()["checks"][verified]["state"] == "passed"


def test_what_somebody_changed_in_the_target_is_found_masked(dtx, target):
    assert dtx("run", "--select", "+target/EmailTemplate").returncode == 3
    with psycopg.connect(target) as connection:
        connection.execute("UPDATE docutrax_utils_emailtemplate SET body_html = 'a secret text' WHERE id % 5 = 0")
    [(changed,)] = rows(target, "SELECT count(*) FROM docutrax_utils_emailtemplate WHERE id % 5 = 0")
    verified = f"target/EmailTemplate:{VERIFIED}"
    assert dtx.states()["checks"][verified]["state"] == "passed", "as the run found it"
    done = dtx("verify", "--json")
    assert done.returncode == 3, done.stderr
    found = {entry["model"]: entry for entry in json.loads(done.stdout)}
    assert found["EmailTemplate"]["changed"] == changed
    assert (found["EmailTemplate"]["lost"], found["EmailTemplate"]["extra"]) == (0, 0)
    assert found["ManualOverride"]["lost"] == found["ManualOverride"]["rows"] > 100
    assert {name for sample in found["EmailTemplate"]["found"] for name in sample["columns"]} == {"body_html"}
    assert "a secret text" not in done.stdout
    checked = dtx.states()["checks"][verified]
    assert (checked["state"], checked["count"]) == ("failed", changed)
    again = dtx("verify", "--prepared", "--json")
    assert {entry["model"]: entry for entry in json.loads(again.stdout)} == found
    in_the_way = {each["name"]: each["finding"] for each in json.loads(dtx("plan", "--json").stdout)["in_the_way"]}
    assert in_the_way[verified] == f"the target does not hold what the mapping gives: {changed:,} changed"


def test_files_that_the_store_lost_or_holds_otherwise_are_found_and_close_the_gate(dtx, target, tmp_path):
    select = ("run", "--select", "+target/Document")
    assert dtx(*select).returncode == 3
    store = tmp_path / ".dtx" / "object_store"
    lost, altered, *_ = sorted(path for path in store.rglob("*") if path.is_file())
    lost.unlink()
    altered.write_bytes(bytes(altered.stat().st_size))
    # As after every run; the gate looks at this check.
    done = dtx(*select, "--verify", "--all")
    assert done.returncode == 3
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in done.stdout.splitlines()]
    assert [VERIFIED, "target/Document", "2", "ERROR"] in cells, done.stdout
    # Of the other targets nothing is prepared.
    done = dtx("verify", "--prepared", "--json")
    verified, _ = json.JSONDecoder().raw_decode(done.stdout)
    [found] = [entry for entry in verified if entry["model"] == "Document"]
    assert (found["files_lost"], found["files_changed"], found["lost"], found["changed"]) == (1, 1, 0, 0)
    assert found["files"] == found["rows"] > 2
    for sample in found["found"]:
        assert sample["source_key"]
        assert "put" in sample["cause"]
        assert set(sample["columns"]) == {"file", "content_hash"}
    # Names of files are personal.
    assert not [path for path in (lost, altered) if path.name in done.stdout]
    # Without the store nothing is said of its files.
    store.rename(tmp_path / "away")
    done = dtx("verify", "--prepared")
    assert "the object store cannot be used: No such file or directory" in done.stdout + done.stderr


def test_jobs_of_the_ui_undo_and_activate_as_the_commands_do(dtx, target, held, tmp_path, monkeypatch):
    active = "SELECT count(*) FILTER (WHERE is_active), count(*) FROM docutrax_utils_notificationschedule"
    assert dtx("run", "--select", "+target/NotificationSchedule", DTX_DECISIONS=held).returncode == 3
    for name, value in {**dtx.environment, "DTX_DECISIONS": held}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    system = SYSTEM.under(load_decisions(DECISIONS_FILE, Path(held)))
    definitions = build_definitions(system, ())
    run_ids = "SELECT run_id FROM migration.run ORDER BY started_at DESC"
    with dg.DagsterInstance.ephemeral() as instance:
        done = definitions.resolve_job_def("dtx_activate").execute_in_process(instance=instance)
        assert done.success
        [(switched_on, every)] = rows(target, active)
        assert 0 < switched_on < every
        assert rows(target, run_ids)[0] == (done.run_id,)
        rollback = definitions.resolve_job_def("dtx_rollback")
        for dry_run, left in ((True, switched_on), (False, 0)):
            asked = {"ops": {"dtx_undo_run": {"config": {"run_id": done.run_id, "dry_run": dry_run}}}}
            assert rollback.execute_in_process(instance=instance, run_config=asked).success
            assert rows(target, active) == [(left, every)]
        unknown = {"ops": {"dtx_undo_run": {"config": {"run_id": "nothing"}}}}
        failed = rollback.execute_in_process(instance=instance, run_config=unknown, raise_on_error=False)
        assert not failed.success


def test_what_a_plan_cannot_know_is_said():
    system = SYSTEM.under(
        replace(SYSTEM.decisions, chosen={**SYSTEM.decisions.chosen, "imap_upload": "document_metadata"})
    )
    loads = [{"model": "Document", "inserted": 7}, {"model": "DocumentMetadata", "inserted": 0}]
    [note] = planning_notes(system, loads)
    assert note.startswith("DocumentMetadata is made from rows of Document, of which 7 are not loaded yet")
    assert planning_notes(system, [{"model": "Document", "inserted": 0}]) == []
    assert planning_notes(SYSTEM, loads) == []
    refusing = {"model": "Document", "target_table": "document", "inserted": 0, "may_refuse": ["check a", "trigger b"]}
    [note] = planning_notes(SYSTEM, [refusing])
    assert note.startswith("document may refuse rows by check a, trigger b")
