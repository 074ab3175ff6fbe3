"""Does the store hold what was sent? Every file is compared: by what the store says where that is proof, else read.

A directory is read. A bucket says size and entity tag of its objects, a page of them at a time; a tag that S3 made of
the bytes when they were sent, and that is the same now, is proof that they are the same. Everything else is read.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dtx_assets.machinery.files.inventory import Progress, chunks
from dtx_assets.machinery.files.paths import NOT_OF_ONE_FILE, FileProblem, require_object_key
from dtx_assets.machinery.files.refusals import refused, told, words_of
from dtx_assets.machinery.files.store import BucketStore, DirectoryStore, FileStore, tag_of
from dtx_assets.machinery.files.workers import concurrently

READERS = 8
LISTED_FROM = 200
"""Fewer files are asked for one by one: the store may hold millions of others beside them."""
WANTED = pl.Schema({"key": pl.String(), "size": pl.Int64(), "sha256": pl.String(), "e_tags": pl.List(pl.String)})
"""What was sent: `size` NULL where it is not known, `e_tags` what the store called those bytes, none where unknown."""
_LISTING = pa.schema([("key", pa.string()), ("_size", pa.int64()), ("_tag", pa.string())])


@dataclass(frozen=True)
class FileFault:
    """What is wrong with an object; `found` is the SHA-256 of what is there, where it was read."""

    kind: Literal["lost", "changed"]
    says: str
    found: str | None = None


@dataclass(frozen=True)
class _Look:
    """How an object was compared (`told` by the store, or `read`), and what is wrong with it."""

    way: Literal["told", "read"]
    fault: FileFault | None = None


LOST = FileFault("lost", "the object store does not have it")
OTHER_BYTES = "the object store holds other bytes"


class StoredFiles:
    """A context manager: collects what was sent, part by part, and then compares all of it with the store.

    What is collected waits on the disk. LoadError where the store cannot be asked: nothing counts as lost then.
    """

    def __init__(self, store: FileStore, progress: Progress | None = None) -> None:
        self.store, self.progress = store, progress
        self.compared: Counter[str] = Counter()
        """How many files were compared in which way."""
        self._parts: list[Path] = []
        self._files = 0

    def __enter__(self) -> Self:
        self._scratch = tempfile.TemporaryDirectory()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.cleanup()

    def add(self, wanted: pl.DataFrame) -> None:
        """WANTED, with any other columns: `faults` gives whole rows back."""
        if wanted.height:
            self._files += wanted.height
            self._parts.append(Path(self._scratch.name) / f"{len(self._parts)}.parquet")
            wanted.write_parquet(self._parts[-1])

    def faults(self) -> Iterator[tuple[FileFault, dict[str, Any]]]:
        """What is wrong, each with the row that was added."""
        if not self._parts:
            return
        self._require()
        lost = False
        for part in self._not_proved():
            numbered = part.with_row_index("_number")
            size = 0
            for number, look in concurrently(self._look, numbered.select("_number", *WANTED).iter_rows(), READERS):
                self.compared[look.way] += 1
                size += numbered["size"][number] or 0
                if self.progress:
                    self.progress(self.compared.total(), self._files, size)
                if look.fault:
                    lost |= look.fault.kind == "lost"
                    yield look.fault, numbered.row(number, named=True)
        if lost:
            # It may have gone meanwhile.
            self._require()

    def _require(self) -> None:
        self.store.require()
        if isinstance(self.store, DirectoryStore) and self.store.is_empty():
            # As a directory is on which nothing is mounted.
            raise refused(f"the object store is empty, and {self._files:,} files were sent to it", self.store.url)

    def _not_proved(self) -> Iterator[pl.DataFrame]:
        """The rows of each part, without those that a listing proves to be there as they were sent."""
        if isinstance(self.store, DirectoryStore) or self._files < LISTED_FROM:
            yield from map(pl.read_parquet, self._parts)
            return
        listing = self._listing(self.store)
        same = (pl.col("_size") == pl.col("size").fill_null(pl.col("_size"))) & pl.col("_tag").is_in(pl.col("e_tags"))
        for path in self._parts:
            part = pl.scan_parquet(path).join(listing, on="key", how="left", maintain_order="left")
            compared = part.with_columns(same.fill_null(False).alias("_same")).drop("_size", "_tag").collect()
            doubtful = compared.filter(~pl.col("_same")).drop("_same")
            self.compared["told"] += compared.height - doubtful.height
            yield doubtful

    def _listing(self, store: BucketStore) -> pl.LazyFrame:
        """All objects below the folder that all the files are in."""
        keys = pl.concat([pl.scan_parquet(path).select("key") for path in self._parts])
        ends = keys.select(pl.col("key").min(), last=pl.col("key").max()).collect(engine="streaming").row(0)
        folders = zip(*(key.split("/")[:-1] for key in ends), strict=False)
        folder = "/".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], folders))
        path = Path(self._scratch.name) / "listing.parquet"
        with told(store.url), pq.ParquetWriter(path, _LISTING) as writer:
            for page in obstore.list(store.store, prefix=folder or None, chunk_size=10_000):
                rows = [{"key": entry["path"], "_size": entry["size"], "_tag": tag_of(entry)} for entry in page]
                writer.write_table(pa.Table.from_pylist(rows, schema=_LISTING))
        return pl.scan_parquet(path)

    def _look(self, wanted: tuple[int, str, int | None, str, list[str]]) -> tuple[int, _Look]:
        number, key, size, sha256, e_tags = wanted
        try:
            require_object_key(key)
            if isinstance(self.store, DirectoryStore):
                return number, _look_into_directory(self.store, key, size, sha256)
            with told(self.store.url):
                return number, _look_into_bucket(self.store, key, size, sha256, e_tags)
        except FileProblem as problem:
            return number, _Look("told", FileFault("lost", str(problem)))


def _look_into_directory(store: DirectoryStore, key: str, size: int | None, sha256: str) -> _Look:
    path = store.path(key)
    if not path.is_file():
        return _Look("told", LOST)
    digest = hashlib.sha256()
    try:
        if (found := path.stat().st_size) != size and size is not None:
            return _Look("told", _other_size(found, size))
        with path.open("rb") as stream:
            for chunk in chunks(stream):
                digest.update(chunk)
    except FileNotFoundError:
        return _Look("told", LOST)
    except OSError as error:
        if error.errno in NOT_OF_ONE_FILE:
            raise refused(f"the object store cannot be read: {words_of(error)}", store.url) from None
        return _Look("told", FileFault("changed", f"the object cannot be read: {words_of(error)}"))
    return _Look("read", _other_bytes(digest.hexdigest(), sha256))


def _look_into_bucket(store: BucketStore, key: str, size: int | None, sha256: str, e_tags: list[str]) -> _Look:
    try:
        found = obstore.head(store.store, key)
        if found["size"] != size and size is not None:
            return _Look("told", _other_size(found["size"], size))
        if tag_of(found) in e_tags:
            return _Look("told")
        return _Look("read", _other_bytes(store.digest(key, found["size"]), sha256))
    except FileNotFoundError:
        return _Look("told", LOST)


def _other_size(found: int, size: int) -> FileFault:
    return FileFault("changed", f"{OTHER_BYTES}: {found:,} of them, not {size:,}")


def _other_bytes(found: str, sha256: str) -> FileFault | None:
    return None if found == sha256 else FileFault("changed", OTHER_BYTES, found)
