"""A worker of the tests that crashes: nothing that it was to run is lost, and the run ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtx_assets_tests.patience import PATIENCE

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
