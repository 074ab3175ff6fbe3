"""What is told where the state directory, or another one, cannot be written: full, read-only, somebody else's, gone.

The lake, the archive and the target say so themselves; this is for what libraries keep, such as Dagster's history.
"""

import errno
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from dtx_assets.machinery.base.errors import ConfigurationError

FULL = "make room there, or set the HOME variable of the system, such as DTX_HOME, to a larger place; then run again"
NOT_OURS = (
    "let this account write there, or set the HOME variable of the system, such as DTX_HOME, to another directory"
)
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), FULL),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), NOT_OURS),
}
SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "disk I/O error": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
}
"""What SQLite says, and what it means."""
HISTORY = "Dagster's history in the state directory"


def no_place(error: BaseException) -> ConfigurationError | None:
    """The same in words for a user, where that is what is wrong."""
    if _is_nowhere():
        return ConfigurationError(
            "it was removed while this shell stood in it",
            where="the working directory",
            remedy="change into one that is there, and say it again",
        )
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in REMEDIES and (cause.filename or cause.errno == errno.ENOSPC):
            return _refused(cause.errno, str(cause.filename or "the state directory"))
        if isinstance(cause, sqlite3.Error):
            number = next((number for said, number in SQLITE.items() if said in str(cause)), None)
            if number is not None:
                return _refused(number, HISTORY)
        if found := re.search(r"\(os error (\d+)\)", str(cause)):
            number = int(found[1])
            if number in REMEDIES:
                return _refused(number, "the state directory")
    return None


def _is_nowhere() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _refused(number: int, where: str) -> ConfigurationError:
    return ConfigurationError(f"it cannot be written: {os.strerror(number)}", where=where, remedy=REMEDIES[number])


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
