"""What files hold: size, time and SHA-256 of each, read once and again only when size or time changed."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl

from dtx_assets.machinery.files.paths import FileMissing, FileProblem, open_inside, without_prefix

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


@dataclass(frozen=True)
class LegacyFiles:
    """Where legacy files are: their root, a mount point that was stored with their paths, whether to read all again."""

    root: Path
    prefix: str = ""
    verify: bool = False
    progress: Callable[[int, int], None] | None = None

    def inventory(self, paths: pl.Series, known: pl.DataFrame | None) -> pl.DataFrame:
        return inventory(self.root, paths, known, prefix=self.prefix, verify=self.verify, progress=self.progress)


READERS = 8
Fact = tuple[bytes, int | None, int | None, str | None, str | None, str | None]


def inventory(
    root: Path,
    paths: pl.Series,
    known: pl.DataFrame | None = None,
    *,
    prefix: str = "",
    verify: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """INVENTORY of the distinct `paths` (Binary) below `root`; NULL is left out.

    `known` is an earlier inventory: a file of the same size and time is not read again, unless `verify`. `progress` is
    told the files that are done and their number.
    """
    distinct = paths.cast(pl.Binary).drop_nulls().unique().sort()
    before = {} if known is None or verify else {row[0]: row for row in known.iter_rows()}
    facts: list[Fact] = []
    with ThreadPoolExecutor(READERS) as readers:
        for fact in readers.map(lambda path: _look_at(root, path, prefix, before.get(path)), distinct):
            facts.append(fact)
            if progress:
                progress(len(facts), len(distinct))
    return pl.DataFrame(facts, schema=INVENTORY, orient="row")


def _look_at(root: Path, path: bytes, prefix: str, before: Fact | None) -> Fact:
    try:
        with open_inside(root, without_prefix(path, prefix)) as file:
            size, mtime_ns = _state(file)
            if before and (before[1], before[2]) == (size, mtime_ns) and before[3]:
                return before
            digest = hashlib.sha256()
            for chunk in chunks(file):
                digest.update(chunk)
            if _state(file) != (size, mtime_ns):
                raise FileMissing("the file changed while it was read")
    except FileProblem as problem:
        return path, None, None, None, problem.reason, str(problem)
    except OSError as error:
        return path, None, None, None, FileMissing.reason, f"the file cannot be read: {os.strerror(error.errno or 0)}"
    return path, size, mtime_ns, digest.hexdigest(), None, None


def chunks(file: BinaryIO, size: int = CHUNK) -> Iterator[bytes]:
    while chunk := file.read(size):
        yield chunk


def _state(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns
