"""Directories for rows that are on their way, under the state directory: what killed runs leave there goes too."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dtx_assets.machinery.base.lake import LEASE_SECONDS
from dtx_assets.machinery.base.private import make_state_directory

SCRATCH = "batches-"
"""Begins the names of directories with the rows of a run's batches."""


@contextmanager
def scratch_directory(home: Path) -> Iterator[Path]:
    """A new directory under `home` that is gone after the block."""
    make_state_directory(home)
    _remove_left_over(home)
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=home))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _remove_left_over(home: Path) -> None:
    """Removes what runs that were killed have left in the state directory."""
    for path in home.glob(f"{SCRATCH}*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > LEASE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


class AppendedFile:
    """A file that is open only while something is appended: there may be more of them than files may be open."""

    closed = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held.append(bytes(data))
        return len(self._held[-1])

    def flush(self) -> None:
        with self._path.open("ab") as stream:
            stream.writelines(self._held)
        self._held.clear()

    def close(self) -> None:
        if not self.closed:
            self.flush()
            self.closed = True
