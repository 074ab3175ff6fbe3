"""What the state directory holds is for its owner only, also what was written with other rights before."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtx_assets.machinery.base.private import make_private_directory, make_state_directory, write_privately


@pytest.fixture(autouse=True)
def _a_generous_umask() -> Iterator[None]:
    before = os.umask(0o000)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_a_process_writes_after_it_said_so_is_its_own(tmp_path):
    write_privately()
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    assert [mode(tmp_path / name) for name in ("file", "directory")] == [0o600, 0o700]


def test_a_directory_that_somebody_gave_rights_keeps_them(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    make_private_directory(shared)
    make_private_directory(tmp_path / "own")
    assert (mode(shared), mode(tmp_path / "own")) == (0o2770, 0o700)


def test_a_state_directory_can_be_passed_through_at_most(tmp_path):
    make_state_directory(tmp_path / "state")
    assert mode(tmp_path / "state") == (0o711 if os.geteuid() == 0 else 0o700)


def test_what_was_written_before_becomes_private(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.chmod(0o755)
    state = tmp_path / "state"
    for name in ("lake", "archive", "history", "batches-x", "postgres", "mine"):
        (state / name).mkdir(parents=True)
        (state / name).chmod(0o755)
    (state / "object_store").symlink_to(outside)
    make_state_directory(state)
    assert [mode(state / name) for name in ("lake", "archive", "history", "batches-x")] == [0o700] * 4
    assert [mode(path) for path in (state / "postgres", state / "mine", outside)] == [0o755] * 3
