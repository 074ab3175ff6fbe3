"""Interrupts of commands that are no run: one line, exit code 130 (of a server 0), no traceback, and it goes on."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
import pytest

from dtx_assets import interrupts
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.patience import PATIENCE
from dtx_assets_tests.servers import free_ports
from dtx_assets_tests.tutorial_system import a_library

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(autouse=True)
def _signals_are_not_ignored() -> Iterator[None]:
    """Commands inherit what these tests ignore: a hang-up, where they were started so that it does not end them."""
    kept = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, kept)


RAISED_BY_DAGSTER = r"dagster\._core\.errors\.DagsterExecutionInterruptedError(?:: )?\n"
LINES = r"(?:(?!Traceback).*\n)*?"
OF_A_CODE_SERVER = re.compile(
    rf"Traceback \(most recent call last\):\n{LINES}.*in grpc_command\n{LINES}{RAISED_BY_DAGSTER}"
    rf"|Exception ignored in: .*\nTraceback \(most recent call last\):\n{LINES}"
    rf".*dagster/_utils/interrupts\.py.*\n.*\n{RAISED_BY_DAGSTER}"
)


def interrupted(dtx: Command, arguments: list[str], number: signal.Signals, ready: Callable[[str], bool]) -> str:
    """What a command said that got a signal when it was ready, and its exit code as the last line."""
    process = dtx.started(*arguments)
    assert process.stdout
    try:
        said = ""
        while not ready(said):
            line = process.stdout.readline()
            assert line, said
            said += line
        process.send_signal(number)
        rest, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    said += rest
    # A server of code that Dagster's own webserver ends while it loads may say so: nothing of ours is in its way.
    ours = OF_A_CODE_SERVER.sub("", said)
    assert "Traceback" not in ours, said
    assert "Exception ignored" not in ours, said
    assert "KeyboardInterrupt" not in ours, said
    return f"{said}\n{process.returncode}"


def said_once(said: str) -> bool:
    return said.count(interrupts.ALL_IS_WELL) == 1 and said.endswith(f"\n{interrupts.EXIT_INTERRUPTED}")


@SIGNALS
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
def test_an_undo_that_waits_for_an_application(tmp_path, database_url, number):
    dtx = a_library(tmp_path, database_url)
    assert dtx("run").returncode == 3
    with psycopg.connect(database_url) as application, psycopg.connect(database_url, autocommit=True) as looking:
        application.execute("LOCK TABLE book IN ACCESS EXCLUSIVE MODE")

        def waits(_said: str) -> bool:
            for _ in range(10 * PATIENCE):
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


def serves(port: int) -> bool:
    for _ in range(10 * PATIENCE):
        try:
            with urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5):
                return True
        except (URLError, OSError):
            time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("number", "seconds"),
    [
        (signal.SIGINT, 0),
        (signal.SIGTERM, 0),
        (signal.SIGINT, 2),
        (signal.SIGTERM, 4),
        (signal.SIGHUP, 3),
        (signal.SIGINT, None),
        (signal.SIGTERM, None),
    ],
)
def test_the_ui_ends_as_it_should(tmp_path, database_url, number, seconds):
    """So long after it says where it is, while Dagster is imported and starts servers of code, or once it serves."""
    dtx, port = a_library(tmp_path, database_url), free_ports(1)[0]

    def ready(said: str) -> bool:
        if "The Dagster UI is at" not in said:
            return False
        if seconds is None:
            return serves(port)
        time.sleep(seconds)
        return True

    said = interrupted(dtx, ["ui", "--port", str(port)], number, ready)
    # At once may be before there is a server.
    assert said.endswith("\n0") or (seconds == 0 and said_once(said)), said
    with pytest.raises(URLError):
        urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5)
    assert nothing_is_left_in(tmp_path)


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGINT, 0), (signal.SIGTERM, 1), (signal.SIGINT, 3)])
def test_the_daemon_ends_as_it_should(tmp_path, database_url, number, seconds):
    """Whenever it is told to: while Python starts, while Dagster is imported, while it loads the code, when it runs."""
    dtx = a_library(tmp_path, database_url)

    def ready(_said: str) -> bool:
        for _ in range(10 * PATIENCE):
            if started := processes_with(interrupts.DAEMON, tmp_path):
                time.sleep(seconds)
                return bool(started)
            time.sleep(0.05)
        return False

    said = interrupted(dtx, ["daemon"], number, ready)
    assert said.endswith("\n0"), said
    assert nothing_is_left_in(tmp_path)


STUBBORN = """
import signal, subprocess, sys
child = "import signal, time; signal.signal(signal.SIGHUP, signal.SIG_IGN); print('child', flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child])
"""
RUNS = """
import multiprocessing, signal, sys, time

def step():
    import dtx_assets
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)
    try:
        print("child", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("given up in order", flush=True)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=step).start()
"""
SERVES = """
if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: {})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    print("server", flush=True)
    while True:
        signal.pause()
        if ENDS:
            import os
            os._exit(0)
"""
SERVING = """
import os, sys
from dtx_assets.cli import serving
serving.SECONDS_TO_LEAVE = 3
print("code", serving.run_until_interrupted([sys.executable, "server.py"], dict(os.environ)))
"""


@pytest.mark.parametrize("ends", [True, False], ids=["at once", "not by itself"])
@pytest.mark.parametrize(("starts", "last"), [(STUBBORN, []), (RUNS, ["given up in order"])], ids=["stubborn", "run"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_that_a_server_started_stays(tmp_path, starts, last, ends, number):
    """Its child holds the pipe: reading to its end ends when that is gone too."""
    (tmp_path / "server.py").write_text(starts + SERVES.replace("ENDS", str(ends)))
    process = subprocess.Popen(
        [sys.executable, "-c", SERVING], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout
    try:
        assert {process.stdout.readline().strip() for _ in range(2)} == {"child", "server"}
        process.send_signal(number)
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert sorted(said.splitlines()) == sorted(["code 0", *last])
    assert not processes_with("", tmp_path)


def processes_with(argument: str, directory: Path) -> list[str]:
    """The processes of this machine that were given the argument and work in the directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if argument in (process / "cmdline").read_text() and (process / "cwd").readlink() == directory:
                found.append(process.name)
        except OSError:
            continue
    return found


def nothing_is_left_in(directory: Path) -> bool:
    """Whether the servers of code that a server started have ended with it, or soon after."""
    for _ in range(10 * PATIENCE):
        if not processes_with("", directory):
            return True
        time.sleep(0.1)
    return False
