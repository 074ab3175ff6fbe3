"""A worker of the tests that crashes: nothing that it was to run is lost, and the run ends."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from xdist.remote import Producer

from dtx_assets_tests.patience import PATIENCE
from dtx_assets_tests.scheduling import FIRST, ON_ONE_WORKER, FilesOutliveWorkers

PROJECT = Path(__file__).parents[1]

CRASHES = """
import os, pathlib, signal
import pytest

@pytest.mark.parametrize("number", range(3))
def test_before(number):
    pass

def test_crashes():
    file = pathlib.Path(__file__).with_suffix(".crashed")
    if not file.exists() or {always}:
        file.touch()
        os.kill(os.getpid(), signal.SIGKILL)

def test_after():
    pass
"""
PASSES = """
def test_one():
    pass
"""


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_crashed_worker_is_told_and_its_tests_are_run(tmp_path: Path, workers: int, always: bool):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_crashes.py").write_text(CRASHES.format(always=always))
    for number in range(3):
        (tmp_path / f"test_passes_{number}.py").write_text(PASSES)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "dtx_assets_tests.scheduling",
            f"-n{workers}",
            "--dist",
            "loadfile",
            "-rs",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    says = done.stdout + done.stderr
    assert "crashed while running 'test_crashes.py::test_crashes'; it is run again" in says
    if always:
        assert "1 failed, 7 passed, 1 skipped" in says
        assert done.returncode == 1
    else:
        assert "8 passed, 1 skipped" in says
        assert done.returncode == 0


def test_long_files_are_handed_out_first_and_those_of_one_run_together():
    long, run = FIRST[3], next(iter(ON_ONE_WORKER.items()))
    tests = ["dtx_assets_tests/test_small.py::test_a", f"{run[1]}::test_a", f"{run[0]}::test_b", f"{long}::test_one"]
    handed_out: list[str] = []

    class Node:
        shutting_down = False

        def send_runtest_some(self, numbers: list[int]) -> None:
            handed_out.extend(tests[number] for number in numbers)

        def shutdown(self) -> None:
            handed_out.append("the end")

    node = Node()
    config = SimpleNamespace(option=SimpleNamespace(loadscopereorder=True), getvalue=lambda _name: ["popen"])
    scheduler = FilesOutliveWorkers(config, Producer("tests"))
    scheduler.add_node(node)
    scheduler.add_node_collection(node, tests)
    scheduler.schedule()
    assert handed_out == [tests[3], tests[1], tests[2]]
    scheduler.mark_test_complete(node, 3)
    assert handed_out[3:] == [tests[0], "the end"]


def test_the_files_that_are_named_are_there():
    assert [file for file in (*FIRST, *ON_ONE_WORKER, *ON_ONE_WORKER.values()) if not (PROJECT / file).is_file()] == []
