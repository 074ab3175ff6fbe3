"""A state directory that cannot be written: what is told, and that other errors stay what they are."""

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dtx_assets.machinery.base.no_place import no_place
from dtx_assets_tests.pages import PROJECT
from dtx_assets_tests.patience import PATIENCE
from dtx_assets_tests.tutorial_system import write_library


def raised_from(cause: BaseException) -> BaseException:
    error = RuntimeError("a library failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "what", "where"),
    [
        (OSError(errno.ENOSPC, "No space", "/state/x"), "No space left on device", "/state/x"),
        (OSError(errno.EROFS, "Read-only", "/state/x"), "Read-only file system", "/state/x"),
        (PermissionError(errno.EACCES, "denied", "/state/x"), "Permission denied", "/state/x"),
        (sqlite3.OperationalError("database or disk is full"), "No space left on device", "history"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "Read-only file system", "history"),
        (sqlite3.OperationalError("unable to open database file"), "Permission denied", "history"),
        (RuntimeError("IO error (os error 28)"), "No space left on device", "state directory"),
    ],
)
def test_what_and_where_and_what_to_do(error, what, where):
    for each in (error, raised_from(error)):
        told = no_place(each)
        assert told is not None
        assert what in told.what
        assert where in str(told.where)
        assert "HOME" in str(told.remedy)


@pytest.mark.parametrize("error", [KeyError("x"), FileNotFoundError(errno.ENOENT, "no", "/x"), ZeroDivisionError()])
def test_other_errors_are_faults(error):
    assert no_place(error) is None


def status(directory: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """What the command says in a directory, or in the one that the test stands in."""
    return subprocess.run(
        [sys.executable, "-m", "dtx_assets.cli.main", "status"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_working_directory_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = status()
    assert done.returncode == 2
    assert "removed while this shell stood in it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_state_directory(tmp_path):
    write_library(tmp_path)
    home = tmp_path / "state"
    home.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(home)], check=False)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        done = status(tmp_path, LIBRARY_HOME=str(home))
    finally:
        subprocess.run(["umount", str(home)], check=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr
