"""Tables of DTX prepared in shards, by functions and by processes: as in one process, whatever dies."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dtx_assets.dtx.decided_system import SYSTEM
from dtx_assets.machinery.base.exit_codes import EXIT_STEP_FAILED
from dtx_assets.machinery.base.failpoints import FAILPOINT
from dtx_assets.machinery.prepare.preparation import RunSettings
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets_tests.machinery.shard_by_shard import assert_equal_in_shards, in_place, wipe

EXEMPTIONS = SYSTEM.flow_of("ManualOverride")
SCHEDULES = SYSTEM.flow_of("NotificationSchedule")


@contextmanager
def a_run(environment: dict[str, str], monkeypatch, models: tuple[str, ...]) -> Iterator[RunSettings]:
    with monkeypatch.context() as patch, RunEnvironment(SYSTEM, "a-run", datetime.now(UTC)) as run:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield replace(run.run_settings, live=run.live_targets(models, print))


def test_shards_of_the_sample_are_what_one_process_prepares(tmp_path, dtx, monkeypatch):
    home = Path(tmp_path, ".dtx")
    dtx.environment |= {"DTX_HOME": str(home), "DTX_BATCH_ROWS": "20"}
    selected = " or ".join(
        f"+{layer}/{flow.targets[0]}" for flow in (EXEMPTIONS, SCHEDULES) for layer in ("prepared", "rejected")
    )
    assert dtx("run", "--select", selected).returncode == 0
    with a_run(dtx.environment, monkeypatch, EXEMPTIONS.targets) as run:
        alone = in_place(run, EXEMPTIONS)
        assert alone["rejected", "ManualOverride"]["tables"]["rows"] > 20
        for rows, least in ((130, 2), (60, 4)):
            assert_equal_in_shards(run, EXEMPTIONS, rows, least)
        wipe(run, EXEMPTIONS)
    with a_run(dtx.environment, monkeypatch, SCHEDULES.targets) as run:
        assert_equal_in_shards(run, SCHEDULES, 130, 4)

    by_processes = {"DTX_EXECUTOR": "multiprocess", "DTX_SHARD_ROWS": "130"}
    step = "prepared/ManualOverride or rejected/ManualOverride"
    killed = dtx("run", "--select", step, **by_processes, **{FAILPOINT: "shards.before_done"})
    assert killed.returncode == EXIT_STEP_FAILED, killed.stdout + killed.stderr
    assert "FAILED prepare exemption, shard 1 of 2" in killed.stdout
    assert "Not done because of that: prepare exemption, finish" in killed.stdout
    assert not (home / "lake" / "dtx" / "prepared" / "ManualOverride" / "manifest.json").exists()
    done = dtx("run", "--select", step, **by_processes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prepare exemption, shard 2 of 2: " in done.stdout
    with a_run(dtx.environment, monkeypatch, EXEMPTIONS.targets) as run:
        assert in_place(run, EXEMPTIONS) == alone
    assert not [path for path in (home / "lake" / "dtx" / "shards").rglob("*") if path.is_file()]
    shutil.rmtree(home)
