"""Paths that a database names: resolved inside their root or refused, and the names files get in an object store."""

import errno
import os
import re
import stat
import unicodedata
from pathlib import Path
from typing import BinaryIO

from dtx_assets.machinery.base.errors import StructureError

LONGEST_NAME = 150
"""Bytes of the last part of an object key (spec 4.5)."""


class FileProblem(Exception):
    """A file that cannot be migrated; `reason` is its code (spec 5), the message a sentence."""

    reason = "file_missing"


class FileMissing(FileProblem):
    pass


class UnsafePath(FileProblem):
    reason = "unsafe_path"


NOT_OF_ONE_FILE = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENODEV,
    errno.ENXIO,
}
"""What a mount that broke says, or a process that has too much open: any other file would get the same answer."""


def unreadable(error: OSError, done: str) -> FileMissing:
    """The file cannot be opened, or read; StructureError where that is no fault of the one file."""
    words = os.strerror(error.errno or 0)
    if error.errno in NOT_OF_ONE_FILE:
        raise StructureError(
            f"the legacy files cannot be {done}: {words}",
            where="the root of the legacy files",
            remedy="mount it anew, or raise the limit that was met, and run again; no row was rejected for it",
        ) from None
    return FileMissing(f"the file cannot be {done}: {words}")


def without_prefix(path: bytes, prefix: str) -> bytes:
    """The path without a mount point that was stored with it; `/mnt/efs` is none of `/mnt/efs2/x`."""
    start = os.fsencode(prefix).rstrip(b"/")
    if prefix and (path == start or path.startswith(start + b"/")):
        return path[len(start) :].lstrip(b"/")
    return path


def open_inside(root: Path, relative: bytes) -> BinaryIO:
    """A regular file below `root`, opened without waiting; FileProblem for anything else, which is never opened."""
    if b"\x00" in relative:
        raise UnsafePath("the path holds a NUL")
    if relative.startswith(b"/"):
        raise UnsafePath("the path is absolute")
    if b".." in relative.split(b"/"):
        raise UnsafePath("the path has a part ..")
    base = os.path.realpath(os.fsencode(root))
    try:
        resolved = os.path.realpath(base + b"/" + relative)
        if os.path.commonpath([base, resolved]) != base:
            raise UnsafePath("a symbolic link leads out of the root")
        descriptor = _open_regular(base, os.path.relpath(resolved, base).split(b"/"))
    except FileNotFoundError:
        raise FileMissing("there is no such file") from None
    except OSError as error:
        raise unreadable(error, "opened") from None
    return os.fdopen(descriptor, "rb", buffering=0)


def _open_regular(base: bytes, parts: list[bytes]) -> int:
    """A descriptor of the file; no part of its path is a symbolic link, and one put there since is not followed."""
    where = os.open(base, _DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _DIRECTORY, dir_fd=where)
            os.close(where)
            where = inner
        # Opening a device can do things.
        _require_regular(os.stat(parts[-1], dir_fd=where, follow_symlinks=False))
        # Opening a pipe, put there since, would keep whoever opens it waiting.
        descriptor = os.open(parts[-1], os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=where)
    finally:
        os.close(where)
    try:
        _require_regular(os.fstat(descriptor))
    except FileMissing:
        os.close(descriptor)
        raise
    return descriptor


_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise FileMissing("it is no regular file")


def object_name(name: str) -> str:
    r"""The last part of an object key: what follows the last `/` or `\`, without control characters.

    At most LONGEST_NAME bytes with the extension kept, and `file` where nothing is left.
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    last = "".join(letter for letter in last if unicodedata.category(letter) != "Cc")
    if len(last.encode()) > LONGEST_NAME:
        stem, dot, extension = last.rpartition(".")
        kept = f"{dot}{extension}" if stem and len(extension.encode()) < LONGEST_NAME else ""
        room = LONGEST_NAME - len(kept.encode())
        last = (stem if kept else last).encode()[:room].decode(errors="ignore") + kept
    # Stores take a key with a part . or .. for another one.
    return last if last not in ("", ".", "..") else "file"


def require_object_key(key: str) -> None:
    """UnsafePath for what no store takes as the name of an object, or takes for the name of another one."""
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise UnsafePath("the name of its object has an empty part, or one that is . or ..")
    if _NEVER_IN_A_KEY.search(key):
        raise UnsafePath("the name of its object holds a control character, or is no text")


_NEVER_IN_A_KEY = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
