"""A run that was killed goes on from its last whole batch: by running again, and by Dagster's re-execution."""

import signal
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from dtx_assets.machinery.base.failpoints import FAILPOINT, PROOF
from dtx_assets.machinery.dagster.run import close_dead_runs, open_instance
from dtx_assets_tests.dtx.commands import Command

TARGET = "docutrax_utils_notificationschedule"
SELECTION = "+target/NotificationSchedule"
KILLED_AFTER = 2
BATCH_ROWS = "60"
"""Of the sample, so that it comes in several batches."""
LOADED = dg.AssetKey(["dtx", "target", "NotificationSchedule"])


def whole_migration() -> dg.JobDefinition:
    from dtx_assets.dtx.definitions import defs

    return defs.resolve_job_def("dtx")


def run_again(command: Command, killed: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """`dtx run`; gives the run that it makes."""
    done = command("run", "--select", SELECTION)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    with open_instance(command.directory / ".dtx") as instance:
        [latest] = instance.get_runs(limit=1)
        return latest.run_id


def execute_again(command: Command, killed: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What "Re-execute from failure" of the UI does."""
    for name, value in command.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(command.directory)
    with open_instance(command.directory / ".dtx") as instance:
        close_dead_runs(instance)
        options = dg.ReexecutionOptions.from_failure(killed, instance)
        job = dg.reconstructable(whole_migration)
        with dg.execute_job(job, instance, reexecution_options=options) as result:
            assert result.success
            extracted = [event for event in result.all_events if event.step_key == "dtx_extraction"]
            assert not extracted, "what had succeeded was done again"
            return result.run_id


def sql(command: Command, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(command.environment["DTX_TARGET_URL"]) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.mark.parametrize("go_on", [run_again, execute_again])
def test_a_killed_run_goes_on_from_its_last_whole_batch(
    dtx: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    go_on: Callable[[Command, str, pytest.MonkeyPatch], str],
) -> None:
    dtx.environment["DTX_BATCH_ROWS"] = BATCH_ROWS
    proof = tmp_path / "proof"
    done = dtx("run", "--select", SELECTION, **{FAILPOINT: f"load.after_commit:{KILLED_AFTER}", PROOF: str(proof)})
    assert done.returncode == -signal.SIGKILL
    assert proof.read_text().startswith("load.after_commit")
    with open_instance(tmp_path / ".dtx") as instance:
        [killed] = instance.get_runs()
    rows = dict(sql(dtx, "SELECT id, xmin::text || ctid::text FROM docutrax_utils_notificationschedule"))
    committed = {part for (part,) in sql(dtx, "SELECT part FROM migration.batch")}
    assert len(committed) >= KILLED_AFTER
    assert rows

    resumed = go_on(dtx, killed.run_id, monkeypatch)

    with open_instance(tmp_path / ".dtx") as instance:
        assert instance.get_run_by_id(killed.run_id).status == dg.DagsterRunStatus.FAILURE
        [record] = instance.fetch_materializations(dg.AssetRecordsFilter(LOADED, storage_ids=None), limit=1).records
        made = record.asset_materialization
        assert record.run_id == resumed
    assert made.metadata["parts left as they are"].value == len(committed)
    parts = [part for (part,) in sql(dtx, "SELECT part FROM migration.batch ORDER BY part")]
    assert len(parts) == len(set(parts)) > len(committed)
    now = dict(sql(dtx, "SELECT id, xmin::text || ctid::text FROM docutrax_utils_notificationschedule"))
    assert rows.items() < now.items()
    assert sql(dtx, "SELECT status FROM migration.load ORDER BY id") == [("killed",), ("succeeded",)]
    assert made.metadata["inserted"].value == len(now) - len(rows)
