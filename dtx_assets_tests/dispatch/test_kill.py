"""Dispatch killed in each of the phases 1 to 4, and run again: at last all is there that an undisturbed run leaves.

What a kill does at each point of a load is tested with the machinery; here, that a later phase goes on from it.
"""

import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import psycopg

from dtx_assets.machinery.base import failpoints
from dtx_assets_tests.dispatch.compare import brief, told, write
from dtx_assets_tests.dispatch.running import migrate
from dtx_assets_tests.dtx import killing
from dtx_assets_tests.forking import started

KILLED = (
    ("profiles", "load.before_commit"),
    ("projects", "upload.after"),
    ("messages", "load.after_commit"),
    ("order_state_history", "load.after_mapping"),
)
"""The target of each phase whose load is killed, and where."""


def migrate_until(directory: Path, settings: Mapping[str, str], url: str, model: str, point: str) -> None:
    """The migration as the process of a place; the point is armed when the load of the model begins."""

    def arm(beginning: str) -> None:
        if beginning == model:
            os.environ[failpoints.FAILPOINT] = point
            failpoints._watched.cache_clear()
            failpoints.require_point.cache_clear()

    killing.work_in(directory, settings, partial(migrate, directory, settings, url, before_load=arm))


def test_runs_that_are_killed_in_each_phase_leave_at_last_what_one_run_leaves(tmp_path, postgres_server):
    settings = write(tmp_path, 7, {})
    url, home = postgres_server.create_database("dispatch_killed"), tmp_path / "run"
    home.mkdir()
    for model, point in (*KILLED, ("", "")):
        process = started(migrate_until, home, settings, url, model, point)
        killing.wait_for(process)
        killing.wait_until_alone(url)
        assert process.exitcode == (-signal.SIGKILL if point else 0), (home / "output.txt").read_text()[-2_000:]
        with psycopg.connect(url) as connection:
            running = connection.execute("SELECT target_table FROM migration.load WHERE status = 'running'").fetchall()
        assert running == ([(model,)] if point else [])
    assert brief([each for each in told(url, tmp_path) if each.where != "coerced"]) == ""
    postgres_server.drop_database("dispatch_killed")
