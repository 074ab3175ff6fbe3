"""A lake or an archive whose disk is full in the middle of a run, a state directory that is somebody else's: what is
told, and that the next run goes on once there is room."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from dtx_assets_tests.patience import PATIENCE
from dtx_assets_tests.tutorial_system import a_library

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk, or give a directory away")
NOBODY = 65534


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of a few pages below a directory; `filler` in it takes what there is."""
    directory.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(directory)], check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield directory / "filler"
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(filler: Path, *, leaving: int) -> None:
    free = os.statvfs(filler.parent)
    filler.write_bytes(b"\0" * (free.f_bavail * free.f_frsize - leaving))


@AS_ROOT
@pytest.mark.parametrize(("place", "leaving"), [("LAKE_URL", 8 << 10), ("ARCHIVE_URL", 0), ("ARCHIVE_URL", 8 << 10)])
def test_the_next_run_goes_on_when_there_is_room_again(tmp_path, database_url, place, leaving):
    disk = tmp_path / "disk"
    with small_disk(disk) as filler:
        dtx = a_library(tmp_path, database_url, **{place: str(disk / "kept")})
        fill(filler, leaving=leaving)
        full = dtx("run")
        assert full.returncode == 1, full.stdout + full.stderr
        assert "Traceback" not in full.stdout + full.stderr
        assert "No space left on device" in full.stdout, full.stdout
        assert "  at: " in full.stdout
        assert "  do: " in full.stdout
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        done = dtx("run")
        assert done.returncode == 3, done.stdout + done.stderr
        with psycopg.connect(database_url) as connection:
            assert connection.execute("SELECT count(*) FROM book").fetchone() == (3,)
        assert "book" in dtx("archive", "list").stdout
        assert not [path for path in disk.rglob("*") if ".tmp" in path.name]


@AS_ROOT
def test_a_state_directory_of_another_user(tmp_path, database_url):
    dtx = a_library(tmp_path, database_url)
    home = tmp_path / ".library"
    assert not home.exists()
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    for command in ("status", "run"):
        # An account like any other, for which rights count.
        refused = subprocess.run(
            [
                *("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"),
                *(sys.executable, "-m", "dtx_assets.cli.main", command),
            ],
            cwd=tmp_path,
            env={**os.environ, **dtx.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        told = refused.stdout + refused.stderr
        assert refused.returncode == 2, told
        assert "Traceback" not in told
        assert "Permission denied" in told
        assert f"  at: {home.name}" in told or f"  at: {home}" in told, told
        assert "LIBRARY_HOME" in told or "DTX_HOME" in told
    os.chown(home, os.geteuid(), os.getegid())
    assert dtx("run").returncode == 3
