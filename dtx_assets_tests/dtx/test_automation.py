"""The sensor of DTX where it is used: switched on, looked after by the daemon, a new export ends in the target."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import psycopg

from dtx_assets.machinery.dagster.automation import EXPORT_TAG, MARKER
from dtx_assets.machinery.dagster.run import instance_directory, open_instance
from dtx_assets_tests.dtx.commands import WORKSPACE_OF_DTX, Command
from dtx_assets_tests.patience import PATIENCE


def ended_runs(home: Path) -> list[dg.DagsterRun]:
    with open_instance(home) as instance:
        return [run for run in instance.get_runs() if run.is_finished]


def test_a_new_export_is_migrated_by_one_run(dtx: Command, export: Path) -> None:
    (export / MARKER).touch()
    home = dtx.directory / ".dtx"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DTX_", "DAGSTER_"))},
        **dtx.environment,
        "DTX_LEGACY_URL": str(export),
        "DAGSTER_HOME": str(instance_directory(home)),
    }
    workspace = dtx.directory / "workspace.yaml"
    workspace.write_text(WORKSPACE_OF_DTX)
    # A sensor is known by the name of its code location, which the workspace gives.
    sensor = [sys.executable, "-m", "dagster", "sensor", "start", "dtx_new_export", "-w", str(workspace), "-l", "dtx"]
    subprocess.run(sensor, cwd=dtx.directory, env=environment, check=True, capture_output=True, timeout=PATIENCE)
    with (dtx.directory / "daemon.log").open("w") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "dtx_assets.cli.main", "daemon"],
            cwd=dtx.directory,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (runs := ended_runs(home)):
            assert daemon.poll() is None, (dtx.directory / "daemon.log").read_text()
            assert time.monotonic() < deadline, (dtx.directory / "daemon.log").read_text()
            time.sleep(0.5)
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=PATIENCE) == 0
    [run] = runs
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert run.tags[EXPORT_TAG] == run.tags["dagster/run_key"]
    with psycopg.connect(dtx.environment["DTX_TARGET_URL"]) as connection:
        assert connection.execute("SELECT run_id, mode, status FROM migration.run").fetchall() == [
            (run.run_id, "rehearsal", "succeeded")
        ]
        [(rows,)] = connection.execute("SELECT count(*) FROM docutrax_utils_notificationschedule").fetchall()
    assert rows > 0
