"""Tables of DTX prepared in shards, by functions and by processes: as in one process, whatever dies."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from dtx_assets.dtx.decided_system import SYSTEM
from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED, EXIT_STEP_FAILED
from dtx_assets.machinery.base.failpoints import FAILPOINT
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.prepare.preparation import RunSettings
from dtx_assets.machinery.prepare.shards import LAYERS
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.dtx.killing import first_differences, target_state
from dtx_assets_tests.dtx.working import as_new
from dtx_assets_tests.machinery.shard_by_shard import assert_equal_in_shards, in_place, wipe

EXEMPTIONS = SYSTEM.flow_of("ManualOverride")
SCHEDULES = SYSTEM.flow_of("NotificationSchedule")
LISTING = ("dtx", "mapping", "file_inventory")


@contextmanager
def a_run(environment: dict[str, str], monkeypatch, models: tuple[str, ...]) -> Iterator[RunSettings]:
    with monkeypatch.context() as patch, RunEnvironment(SYSTEM, "a-run", datetime.now(UTC)) as run:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield replace(run.run_settings, live=run.live_targets(models, print))


def test_shards_of_the_sample_are_what_one_process_prepares(tmp_path, dtx, monkeypatch):
    home = Path(tmp_path, ".dtx")
    dtx.environment |= {"DTX_HOME": str(home), "DTX_BATCH_ROWS": "20"}
    selected = " or ".join(f"+prepared/{flow.targets[0]}" for flow in (EXEMPTIONS, SCHEDULES))
    assert dtx("run", "--select", selected).returncode == EXIT_CHECK_FAILED
    with a_run(dtx.environment, monkeypatch, EXEMPTIONS.targets) as run:
        alone = in_place(run, EXEMPTIONS)
        assert alone["rejected", "ManualOverride"]["tables"]["rows"] > 20
        for shards in (2, 4):
            assert_equal_in_shards(run, EXEMPTIONS, shards)
        wipe(run, EXEMPTIONS)
    with a_run(dtx.environment, monkeypatch, SCHEDULES.targets) as run:
        assert_equal_in_shards(run, SCHEDULES, 4)

    by_processes = {"DTX_EXECUTOR": "multiprocess", "DTX_SHARD_ROWS": "130"}
    step = " or ".join(f"{layer}/{model}" for layer in LAYERS for model in EXEMPTIONS.targets)
    killed = dtx("run", "--select", step, **by_processes, **{FAILPOINT: "shards.before_done"})
    assert killed.returncode == EXIT_STEP_FAILED, killed.stdout + killed.stderr
    assert all(f"prepare exemption, shard {number} of 2: failed" in killed.stdout for number in (1, 2))
    assert "Not done because of that: prepare exemption, finish" in killed.stdout
    assert not (home / "lake" / "dtx" / "prepared" / "ManualOverride" / "manifest.json").exists()
    done = dtx("run", "--select", step, **by_processes)
    assert done.returncode == EXIT_CHECK_FAILED, done.stdout + done.stderr
    assert "prepare exemption, shard 2 of 2: " in done.stdout
    with a_run(dtx.environment, monkeypatch, EXEMPTIONS.targets) as run:
        assert in_place(run, EXEMPTIONS) == alone
    assert not [path for path in (home / "lake" / "dtx" / "shards").rglob("*") if path.is_file()]
    shutil.rmtree(home)


def test_files_of_the_sample_listed_by_processes_are_what_one_lists(tmp_path, dtx):
    home = Path(tmp_path, ".dtx")
    dtx.environment["DTX_HOME"] = str(home)
    lake = Lake(str(home / "lake"))
    selected = ("run", "--select", "+mapping/file_inventory")
    assert dtx(*selected).returncode == EXIT_CHECK_FAILED
    alone = lake.require(LISTING)
    rows = lake.scan(LISTING, manifest=alone).collect()
    assert rows.height > 15
    lake.forget(LISTING)

    by_processes = {"DTX_EXECUTOR": "multiprocess", "DTX_SHARD_FILES": str(rows.height // 2 + 1), "DTX_SHARD_ROWS": "0"}
    step = ("run", "--select", "mapping/file_inventory")
    killed = dtx(*step, **by_processes, **{FAILPOINT: "shards.before_done"})
    assert killed.returncode == EXIT_STEP_FAILED, killed.stdout + killed.stderr
    assert all(f"mapping file_inventory, shard {number} of 2: failed" in killed.stdout for number in (1, 2))
    assert lake.manifest(LISTING) is None
    done = dtx(*step, **by_processes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mapping file_inventory, shard 2 of 2: " in done.stdout
    listed = lake.require(LISTING)
    assert listed.metadata["digest"] == alone.metadata["digest"]
    assert lake.scan(LISTING, manifest=listed).collect().equals(rows)
    assert not [path for path in (home / "lake" / "dtx" / "shards").rglob("*") if path.is_file()]
    # Of as few files as one process looks at there are no shards, and what is equal stays.
    again = dtx(*step, **by_processes | {"DTX_SHARD_FILES": "1000"})
    assert again.returncode == 0, again.stdout + again.stderr
    assert "shard" not in again.stdout
    assert lake.require(LISTING) == listed


def test_files_of_the_sample_sent_by_processes_are_what_one_sends(tmp_path, dtx, postgres_server, s3_server, s3_bucket):
    def asked(name: str, **more: str) -> Command:
        places = {f"DTX_{place}_URL": f"s3://{s3_bucket}/{name}/{place.lower()}" for place in ("LAKE", "OBJECT_STORE")}
        directory = tmp_path / name
        directory.mkdir()
        return Command(directory, {**dtx.environment, **s3_server.environment, **places, "DTX_BATCH_ROWS": "4", **more})

    load = ("run", "--select", "+target/Document")
    with ExitStack() as stack:
        undisturbed = as_new(postgres_server.create_database("files_in_one_process"))
        stack.callback(postgres_server.drop_database, "files_in_one_process")
        alone = asked("alone", DTX_TARGET_URL=undisturbed)
        assert alone(*load).returncode == EXIT_CHECK_FAILED
        shared = asked("shared")
        assert shared("run", "--select", "+prepared/Document").returncode == EXIT_CHECK_FAILED
        by_processes = {"DTX_EXECUTOR": "multiprocess", "DTX_SHARD_FILES": "9", "DTX_SHARD_ROWS": "0"}
        load = ("run", "--select", "target/Document")
        killed = shared(*load, **by_processes, **{FAILPOINT: "shards.files_sent"})
        assert killed.returncode == EXIT_STEP_FAILED, killed.stdout + killed.stderr
        assert "load Document, shard 1 of " in killed.stdout
        assert "Not done because of that: load Document, finish" in killed.stdout
        [run] = _all(dtx.environment["DTX_TARGET_URL"], "SELECT status FROM migration.run")
        assert run == ("failed",)
        assert _all(dtx.environment["DTX_TARGET_URL"], "SELECT count(*) FROM migration.load") == [(0,)]
        noted_by_killed = set(_all(dtx.environment["DTX_TARGET_URL"], SENT))
        assert noted_by_killed
        done = shared(*load, **by_processes)
        assert done.returncode == EXIT_CHECK_FAILED, done.stdout + done.stderr
        assert "load Document, finish: " in done.stdout
        urls = (undisturbed, dtx.environment["DTX_TARGET_URL"])
        # Of what the killed run sent the second one found what is there, and each is noted once.
        assert set(_all(undisturbed, SENT)) == set(_all(urls[1], SENT))
        assert len(_all(undisturbed, SENT)) == len(_all(urls[1], SENT))
        assert first_differences(*map(target_state, urls)) == []


SENT = "SELECT target_table, object_key, sha256 FROM migration.sent_file ORDER BY 1, 2"


def _all(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()
