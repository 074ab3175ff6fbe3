"""Ctrl-C and terminations at several moments: never swallowed, never a traceback, and the next run goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from dtx_assets import interrupts
from dtx_assets.machinery.dagster.run import UNFINISHED, open_instance
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.patience import PATIENCE
from dtx_assets_tests.tutorial_system import a_library


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal: before that, a Python that starts knows of no command."""
    [mask] = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigCgt" in line]
    return bool(int(mask, 16) >> (number - 1) & 1)


def interrupted(dtx: Command, after: str | float, *numbers: signal.Signals) -> tuple[int, str]:
    """Exit code and output of a run that gets signals: so long after it began to listen, or when it says something."""
    process = dtx.started("run")
    assert process.stdout
    said = ""
    if isinstance(after, float):
        while not catches(process.pid, signal.SIGTERM):
            time.sleep(0.01)
        time.sleep(after)
    else:
        while after not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    rest, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, said + rest


def test_whenever_it_comes_the_next_run_goes_on(tmp_path, database_url):
    dtx = a_library(tmp_path, database_url)
    moments: list[tuple[Any, ...]] = [
        (0.5, signal.SIGINT),
        ("extraction:", signal.SIGTERM),
        ("mapping site:", signal.SIGINT, signal.SIGINT),
    ]
    for moment in moments:
        code, said = interrupted(dtx, *moment)
        assert code == interrupts.EXIT_INTERRUPTED, (moment, said)
        assert interrupts.ALL_IS_WELL in said
        assert "Traceback" not in said
        assert "Exception ignored" not in said
    done = dtx("run")
    assert done.returncode == 3, done.stdout + done.stderr
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM book").fetchone() == (3,)
    with open_instance(tmp_path / ".library") as instance:
        assert list(instance.get_runs(filters=dg.RunsFilter(statuses=UNFINISHED))) == []
        statuses = {run.status for run in instance.get_runs()}
        assert statuses <= {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS}


class Swallows:
    """Swallows what is raised while it is finalized, as Python does."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        # Python looks for signals between two instructions.
        for _ in range(1_000):
            pass


def swallow_and_wait() -> None:
    swallowing = Swallows()
    del swallowing
    time.sleep(30)


def test_one_that_a_finalizer_swallows_is_raised_again(capfd):
    with interrupts.handled(), interrupts.unwinding():
        with pytest.raises(KeyboardInterrupt):
            swallow_and_wait()
        assert interrupts.was_interrupted()
    assert capfd.readouterr().err == ""


SERVER = """
import os, signal, time
from dtx_assets import interrupts

class Swallows:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1_000):
            pass

interrupts.leave_quietly()
try:
    swallowing = Swallows()
    del swallowing
    time.sleep(30)
finally:
    print("closes what it opened")
"""


def test_a_server_leaves_though_a_finalizer_swallows_it():
    done = subprocess.run([sys.executable, "-c", SERVER], check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == ("closes what it opened\n", "")
    assert done.returncode == interrupts.EXIT_INTERRUPTED


@pytest.mark.parametrize(
    ("arguments", "is_it"),
    [
        (["/usr/local/bin/dtx", "run"], True),
        (["-m", "dtx_assets.cli.main", "run"], True),
        (["-u", "-X", "dev", "-W", "error", "-m", "dtx_assets.cli.main"], True),
        (["-I", ".venv/bin/dtx"], True),
        (["-m", "pytest", "dtx"], False),
        (["-c", "dtx"], False),
        (["other.py", "dtx"], False),
        ([], False),
    ],
)
def test_the_command_is_told_from_what_imports_it(monkeypatch, arguments, is_it):
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, *arguments])
    assert interrupts.is_command() is is_it


def test_handlers_are_those_of_before_again():
    before = [signal.getsignal(number) for number in interrupts.SIGNALS]
    with interrupts.handled():
        assert [signal.getsignal(number) for number in interrupts.SIGNALS] != before
    assert [signal.getsignal(number) for number in interrupts.SIGNALS] == before
