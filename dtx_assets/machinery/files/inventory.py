"""What files hold: size, time and SHA-256 of each, read once and again only when size or time changed."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import polars as pl

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.files.paths import FileMissing, FileProblem, open_inside, unreadable, without_prefix
from dtx_assets.machinery.files.stored_root import StoredFile, StoredRoot
from dtx_assets.machinery.files.workers import concurrently

INVENTORY = pl.Schema(
    {
        "path": pl.Binary(),
        "size": pl.Int64(),
        "mtime_ns": pl.Int64(),
        "sha256": pl.String(),
        "problem": pl.String(),
        "detail": pl.String(),
    }
)
"""One row a path: what it holds, or why it cannot be migrated (`problem` is a reason code)."""

CHUNK = 1 << 20

Root = Path | StoredRoot
Progress = Callable[[int, int | None, int], None]
"""Told how many files are done, of how many where that is known, and their bytes."""


def open_below(root: Root, relative: bytes) -> BinaryIO | StoredFile:
    """A file below a directory or a prefix of S3, to be read once; FileProblem where it is none."""
    return root.open(relative) if isinstance(root, StoredRoot) else open_inside(root, relative)


@dataclass(frozen=True)
class Missing:
    """How many files there should be and how many are missing. Where all are: the first of them, at most two different
    reasons, and whether the root has what the path of any begins with."""

    files: int
    missing: int
    details: tuple[str, ...] = ()
    first: str = ""
    has_beginnings: bool = True


@dataclass(frozen=True)
class LegacyFiles:
    """Where legacy files are: their root, a mount point that was stored with their paths, whether to read all again."""

    root: Root
    prefix: str = ""
    verify: bool = False
    progress: Progress | None = None

    def inventory(self, paths: pl.Series, known: pl.DataFrame | None) -> pl.DataFrame:
        """INVENTORY of the paths; StructureError where the root is not there, or is not the one that they are below."""
        found = self.share(paths, known)
        self.judge([self.missing_of(found)])
        return found

    def share(self, paths: pl.Series, known: pl.DataFrame | None) -> pl.DataFrame:
        """INVENTORY of some of the paths. Whether the root is the one that they are below is judged of all of them."""
        if len(paths):
            self.require_root()
        found = self._inventory(paths, known)
        if found["problem"].eq(FileMissing.reason).any():
            # It may have gone meanwhile.
            self.require_root()
        return found

    def objects(self, names: pl.Series, known: pl.DataFrame | None) -> pl.DataFrame:
        """The same of files that rows may do without: all of them may be missing, if only the root is there."""
        if not len(names):
            return pl.DataFrame(schema=INVENTORY)
        if isinstance(self.root, Path) and not self.root.is_dir():
            raise self._unusable("the root of the legacy files is not a directory that is there")
        return self._inventory(names, known)

    def _inventory(self, paths: pl.Series, known: pl.DataFrame | None) -> pl.DataFrame:
        return inventory(self.root, paths, known, prefix=self.prefix, verify=self.verify, progress=self.progress)

    def missing_of(self, found: pl.DataFrame) -> "Missing":
        """What is judged of an INVENTORY."""
        missing = found.filter(pl.col("problem") == FileMissing.reason)
        if not 0 < missing.height == found.height:
            return Missing(found.height, missing.height)
        paths = missing["path"]
        details = tuple(missing["detail"].unique(maintain_order=True).head(2))
        return Missing(found.height, missing.height, details, os.fsdecode(paths[0]), self._any_beginning(paths))

    def judge(self, shares: Sequence["Missing"]) -> None:
        """StructureError where of all shares together no file is there, and that is no fault of the files."""
        files, missing = sum(share.files for share in shares), sum(share.missing for share in shares)
        if not 1 < missing == files:
            return
        shares = [share for share in shares if share.files]
        details = {detail for share in shares for detail in share.details}
        if len(details) == 1 and details <= set(DENIED):
            raise self._unusable(f"none of the {files:,} legacy files can be read: {details.pop()}")
        if not any(share.has_beginnings for share in shares):
            first = os.fsdecode(without_prefix(os.fsencode(shares[0].first), self.prefix))
            raise self._unusable(
                f"none of the {files:,} legacy files is there, nor the directory of any, as of {first!r}",
                "name the root that their paths begin at (FILES_URL), or what is to be taken off them (FILES_PREFIX)",
            )

    def _any_beginning(self, paths: pl.Series) -> bool:
        """Whether the root has what any of the paths begins with: files that are lost leave their directories."""
        parts = (without_prefix(path, self.prefix).split(b"/") for path in paths)
        beginnings = {next((part for part in each if part not in (b"", b".")), b"") for each in parts}
        if isinstance(self.root, StoredRoot):
            return any(map(self.root.has, beginnings))
        root = os.fsencode(self.root)
        return any(os.path.lexists(root + b"/" + name) for name in beginnings)

    def require_root(self) -> None:
        """StructureError where nothing can be found below the root: no file of it is to count as missing."""
        if isinstance(self.root, StoredRoot):
            if self.root.is_empty():
                raise self._unusable("the root of the legacy files is empty")
            return
        try:
            with os.scandir(self.root) as entries:
                if next(entries, None) is None:
                    raise self._unusable("the root of the legacy files is empty")
        except (FileNotFoundError, NotADirectoryError):
            raise self._unusable("the root of the legacy files is not a directory that is there") from None
        except OSError as error:
            words = os.strerror(error.errno or 0)
            raise self._unusable(f"the root of the legacy files cannot be read: {words}") from None

    def _unusable(self, what: str, remedy: str = "mount it, or name another one (FILES_URL)") -> StructureError:
        return StructureError(what, where=str(self.root), remedy=f"{remedy}; no row was rejected for it")


DENIED = [f"the file cannot be opened: {os.strerror(number)}" for number in (errno.EACCES, errno.EPERM, errno.EIO)]
"""What a whole root says that may not be read. Of one file among others it is the file's own."""

READERS = 8
ROWS = 10_000
Fact = tuple[bytes, int | None, int | None, str | None, str | None, str | None]


def inventory(
    root: Root,
    paths: pl.Series,
    known: pl.DataFrame | None = None,
    *,
    prefix: str = "",
    verify: bool = False,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """INVENTORY of the distinct `paths` (Binary) below `root`; NULL is left out.

    `known` is an earlier inventory: a file of the same size and time is not read again, unless `verify`.
    """
    wanted = pl.DataFrame({"path": paths.cast(pl.Binary).drop_nulls().unique().sort()})
    before = pl.DataFrame(schema=INVENTORY) if known is None or verify else known.select(INVENTORY.names())
    asked = wanted.join(before.unique("path"), on="path", how="left", maintain_order="left")
    looks = concurrently(lambda fact: _look_at(root, fact, prefix), asked.iter_rows(buffer_size=ROWS), READERS)
    told = _telling(progress, len(wanted), looks) if progress else looks
    parts = [pl.DataFrame(schema=INVENTORY)]
    # Rows of Python objects are held by the thousand, not by the million.
    while facts := list(islice(told, ROWS)):
        parts.append(pl.DataFrame(facts, schema=INVENTORY, orient="row"))
    return pl.concat(parts).sort("path")


def _telling(progress: Progress, total: int, facts: Iterator[Fact]) -> Iterator[Fact]:
    size = 0
    for done, fact in enumerate(facts, start=1):
        size += fact[1] or 0
        progress(done, total, size)
        yield fact


def _look_at(root: Root, before: Fact, prefix: str) -> Fact:
    """What the path of `before` holds now; the rest of `before` is what was found then, or None."""
    path = before[0]
    try:
        with open_below(root, without_prefix(path, prefix)) as file:
            size, mtime_ns = _state(file)
            if before[3] and (before[1], before[2]) == (size, mtime_ns):
                return before
            digest = hashlib.sha256()
            for chunk in chunks(file):
                digest.update(chunk)
            if _state(file) != (size, mtime_ns):
                raise FileMissing("the file changed while it was read")
    except FileProblem as problem:
        return path, None, None, None, problem.reason, str(problem)
    except OSError as error:
        return path, None, None, None, FileMissing.reason, str(unreadable(error, "read"))
    return path, size, mtime_ns, digest.hexdigest(), None, None


def chunks(file: BinaryIO | StoredFile, size: int = CHUNK) -> Iterator[bytes]:
    while chunk := file.read(size):
        yield chunk


def _state(file: BinaryIO | StoredFile) -> tuple[int, int]:
    if isinstance(file, StoredFile):
        return file.state
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns
