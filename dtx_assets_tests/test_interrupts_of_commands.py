"""Interrupts of commands that are no run: one line, exit code 130, no traceback, and it goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psycopg
import pytest

from dtx_assets import interrupts
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.tutorial_system import a_library

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def interrupted(dtx: Command, arguments: list[str], number: signal.Signals, ready: Callable[[str], bool]) -> str:
    """What a command said that got a signal when it was ready, and its exit code as the last line."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "dtx_assets.cli.main", *arguments],
        cwd=dtx.directory,
        env={**os.environ, **dtx.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    try:
        said = ""
        while not ready(said):
            line = process.stdout.readline()
            assert line, said
            said += line
        process.send_signal(number)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    said += rest
    assert "Traceback" not in said, said
    assert "Exception ignored" not in said, said
    assert "KeyboardInterrupt" not in said, said
    return f"{said}{process.returncode}"


def said_once(said: str) -> bool:
    return said.count(interrupts.ALL_IS_WELL) == 1 and said.endswith(f"\n{interrupts.EXIT_INTERRUPTED}")


@SIGNALS
@pytest.mark.timeout(600)
def test_plan_and_verify(tmp_path, database_url, number):
    dtx = a_library(tmp_path, database_url)
    said = interrupted(dtx, ["plan"], number, lambda said: "extraction:" in said)
    assert said_once(said), said
    assert dtx("plan").returncode == 0
    assert dtx("run").returncode == 3
    said = interrupted(dtx, ["verify"], number, lambda said: "extraction:" in said)
    assert said_once(said), said
    assert dtx("verify").returncode == 0
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM book").fetchone() == (3,)


@SIGNALS
@pytest.mark.timeout(600)
def test_an_undo_that_waits_for_an_application(tmp_path, database_url, number):
    dtx = a_library(tmp_path, database_url)
    assert dtx("run").returncode == 3
    with psycopg.connect(database_url) as application, psycopg.connect(database_url, autocommit=True) as looking:
        application.execute("LOCK TABLE book IN ACCESS EXCLUSIVE MODE")

        def waits(_said: str) -> bool:
            for _ in range(600):
                if looking.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                    return True
                time.sleep(0.1)
            return False

        said = interrupted(dtx, ["rollback", "last"], number, waits)
        assert said_once(said), said
        application.rollback()
        assert application.execute("SELECT count(*) FROM book").fetchone() == (3,)
    done = dtx("rollback", "last")
    assert done.returncode == 0, done.stdout + done.stderr
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM book").fetchone() == (0,)
