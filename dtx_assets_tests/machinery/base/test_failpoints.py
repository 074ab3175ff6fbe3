"""Failpoints: one list of all names, off by default, and each one that is asked for kills at once and proves it."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dtx_assets
from dtx_assets.machinery.base.failpoints import FAILPOINT, POINTS, PROOF, TRACE
from dtx_assets_tests.patience import PATIENCE

REACH = """
import sys
from dtx_assets.machinery.base.errors import MigrationError
from dtx_assets.machinery.base.failpoints import reach
try:
    for point in sys.argv[1:]:
        reach(point)
        print(point, flush=True)
except MigrationError as error:
    sys.exit(str(error))
"""
COPIED, COMMITTED = "load.after_copy", "load.after_commit"


def reach(*points: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", REACH, *points],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def reached_in_code() -> list[str]:
    """The argument of every call of `reach`."""
    calls = [
        node
        for path in Path(dtx_assets.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach"
    ]
    return [call.args[0].value for call in calls]  # type: ignore[attr-defined]


def test_every_point_of_the_code_is_listed_and_every_listed_one_is_in_the_code():
    assert set(reached_in_code()) == set(POINTS)


def test_nothing_happens_unless_the_environment_asks():
    done = reach(COPIED, COMMITTED)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [COPIED, COMMITTED], "")


@pytest.mark.parametrize(
    ("asked", "printed", "proof"),
    [
        (COMMITTED, [COPIED], f"{COMMITTED}:1"),
        (f"{COPIED}:2", [COPIED, COMMITTED], f"{COPIED}:2"),
    ],
)
def test_a_point_kills_the_time_it_is_asked_for_and_proves_it(tmp_path, asked, printed, proof):
    done = reach(COPIED, COMMITTED, COPIED, COPIED, **{FAILPOINT: asked, PROOF: str(tmp_path / "proof")})
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == printed
    [line] = (tmp_path / "proof").read_text().splitlines()
    assert line.startswith(f"{proof} killed process ")


def test_a_point_that_is_not_reached_often_enough_proves_nothing(tmp_path):
    done = reach(COPIED, COPIED, **{FAILPOINT: f"{COPIED}:3", PROOF: str(tmp_path / "proof")})
    assert done.returncode == 0
    assert not (tmp_path / "proof").exists()


def test_the_trace_has_each_point_that_is_reached(tmp_path):
    assert reach(COPIED, COMMITTED, COPIED, **{TRACE: str(tmp_path / "trace")}).returncode == 0
    assert (tmp_path / "trace").read_text().split() == [COPIED, COMMITTED, COPIED]


@pytest.mark.parametrize("asked", ["load.after_copi", "load", ":1", f"{COPIED}:0", f"{COPIED}:x", f"{COPIED}:-1"])
def test_a_point_that_does_not_exist_is_refused(asked):
    done = reach(COPIED, **{FAILPOINT: asked})
    assert done.returncode == 1
    assert f"{FAILPOINT} is {asked!r}, and there is no such point" in done.stderr
    assert COPIED in done.stderr
    assert done.stdout == ""


def test_a_command_refuses_one_before_it_does_anything(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "dtx_assets.cli.main", "run"],
        env={**os.environ, FAILPOINT: "load.nowhere"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert FAILPOINT in done.stderr
    assert not list(tmp_path.iterdir())
