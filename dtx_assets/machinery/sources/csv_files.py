"""Legacy tables as CSV files, in a directory, under an S3 prefix, or one alone. How one is read is `csv_reading`'s."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import obstore

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.base.lake import Lake, Manifest, s3_store
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.csv_dialect import EVERY_RFC_4180, RFC_4180, CsvDialect, Dialects
from dtx_assets.machinery.sources.csv_reading import FIRST_BLOCK, CsvFile, landed_already, opened
from dtx_assets.machinery.sources.landing import Progress, missing_table
from dtx_assets.machinery.sources.remarks import Remark, of_csv_files
from dtx_assets.machinery.sources.stored_files import copy_object, s3_refusals_told


@dataclass(frozen=True)
class ListedFile:
    """A file as its listing shows it: `version` changes with its content, `modified` is in seconds since 1970."""

    size: int
    version: str
    modified: float


class CsvDirectory:
    """A directory of `<table>.csv`."""

    def __init__(self, directory: Path, dialects: Dialects = EVERY_RFC_4180) -> None:
        self.directory, self.dialects = directory, dialects

    def __enter__(self) -> Self:
        if not self.directory.is_dir():
            raise SourceError(
                "there is no such directory of CSV files",
                where=str(self.directory),
                remedy="correct the URL, or mount the directory",
            )
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tables(self) -> list[str]:
        return sorted(path.stem for path in self.directory.glob("*.csv"))

    def listing(self) -> dict[str, ListedFile]:
        """All files by name, of which nothing is read."""
        try:
            found = {path.name: path.stat() for path in self.directory.iterdir() if path.is_file()}
        except OSError as error:
            raise SourceError(
                f"the directory cannot be listed: {error.strerror or type(error).__name__}",
                where=str(self.directory),
                remedy="check that it is mounted, and that this account may read it",
            ) from None
        return {name: ListedFile(at.st_size, str(at.st_mtime_ns), at.st_mtime) for name, at in found.items()}

    def columns(self, table: LegacyTable) -> list[str]:
        path = self._file(table)
        with readable(path, table), opened(path, str(path), table, self.dialects.of(table.name)) as file:
            return file.header()

    def stored_bytes(self, tables: Collection[LegacyTable]) -> int:
        paths = (self.directory / f"{table.name}.csv" for table in tables)
        return sum(path.stat().st_size for path in paths if path.is_file())

    def remarks(self, tables: Collection[LegacyTable], timezone: str) -> list[Remark]:
        found = list(of_csv_files(tables, self.listing()))
        for table in tables:
            path = self._file(table)
            with readable(path, table), opened(path, str(path), table, self.dialects.of(table.name)) as file:
                found += file.remarks()
        return found

    def _file(self, table: LegacyTable) -> Path:
        path = self.directory / f"{table.name}.csv"
        if not path.is_file():
            raise missing_table(table.name, str(path), self.tables())
        return path

    def extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None = None
    ) -> Manifest:
        path, dialect = self._file(table), self.dialects.of(table.name)
        with readable(path, table):
            before = path.stat()
            if landed := landed_already(lake, key, str(path), dialect, source_bytes=before.st_size):
                with path.open("rb") as stream:
                    if hashlib.file_digest(stream, "sha256").hexdigest() == landed.metadata["source_digest"]:
                        return landed
            with opened(path, str(path), table, dialect) as file:
                return file.land(lake, key, run_id, progress, unchanged=unchanged_since(path, before))


@contextmanager
def readable(path: Path, table: LegacyTable) -> Iterator[None]:
    """What the operating system refuses is told as a SourceError."""
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{table.name} cannot be read: {error.strerror or type(error).__name__}",
            where=str(path),
            remedy="check that this account may read the file, and that the lake has room",
        ) from None


def unchanged_since(path: Path, before: os.stat_result) -> Callable[[], bool]:
    def unchanged() -> bool:
        after = path.stat()
        return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)

    return unchanged


class CsvPrefix:
    """`s3://bucket/prefix` with objects `<table>.csv`. An object is read once, through a temporary file.

    `s3_resource` is dagster-aws's S3Resource; without one the usual `AWS_*` variables count.
    """

    def __init__(self, url: str, s3_resource: Any = None, dialects: Dialects = EVERY_RFC_4180) -> None:
        self.url, self.dialects = url.rstrip("/"), dialects
        self._store = s3_store(url, s3_resource)

    def __enter__(self) -> Self:
        with s3_refusals_told(self.url):
            if not self.tables():
                raise SourceError(
                    "there are no CSV files under this prefix",
                    where=self.url,
                    remedy="correct bucket and prefix; the objects are called <table>.csv",
                )
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tables(self) -> list[str]:
        return sorted(name.removesuffix(".csv") for name in self.listing() if name.endswith(".csv"))

    def listing(self) -> dict[str, ListedFile]:
        """All objects directly under the prefix by name, of which nothing is read."""
        with s3_refusals_told(self.url):
            found = obstore.list_with_delimiter(self._store)["objects"]
        return {
            entry["path"].rsplit("/", 1)[-1]: ListedFile(
                entry["size"], entry["e_tag"] or "", entry["last_modified"].timestamp()
            )
            for entry in found
        }

    def columns(self, table: LegacyTable) -> list[str]:
        name = f"{table.name}.csv"
        shown = f"{self.url}/{name}"
        if table.name not in self.tables():
            raise missing_table(table.name, shown, self.tables())
        with self._beginning(table) as file:
            return file.header()

    def remarks(self, tables: Collection[LegacyTable], timezone: str) -> list[Remark]:
        found = list(of_csv_files(tables, self.listing()))
        for table in tables:
            with self._beginning(table) as file:
                found += file.remarks()
        return found

    @contextmanager
    def _beginning(self, table: LegacyTable) -> Iterator[CsvFile]:
        """The first block of the file of a table."""
        name = f"{table.name}.csv"
        shown = f"{self.url}/{name}"
        with s3_refusals_told(shown), tempfile.TemporaryDirectory() as scratch:
            size = obstore.head(self._store, name)["size"]
            start = Path(scratch) / name
            start.write_bytes(
                obstore.get_range(self._store, name, start=0, end=min(size, FIRST_BLOCK)) if size else b""
            )
            with opened(start, shown, table, self.dialects.of(table.name)) as file:
                yield file

    def stored_bytes(self, tables: Collection[LegacyTable]) -> int:
        with s3_refusals_told(self.url):
            found = obstore.list_with_delimiter(self._store)["objects"]
        names = {f"{table.name}.csv" for table in tables}
        return sum(entry["size"] for entry in found if entry["path"].rsplit("/", 1)[-1] in names)

    def extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None = None
    ) -> Manifest:
        name = f"{table.name}.csv"
        shown = f"{self.url}/{name}"
        if table.name not in self.tables():
            raise missing_table(table.name, shown, self.tables())
        with s3_refusals_told(shown), tempfile.TemporaryDirectory() as scratch:
            answer = obstore.get(self._store, name)
            size, version = answer.meta["size"], answer.meta["e_tag"]
            dialect = self.dialects.of(table.name)
            landed = landed_already(lake, key, shown, dialect, source_bytes=size)
            if landed and version and landed.metadata.get("source_version") == version:
                return landed
            copy = Path(scratch) / name
            copy_object(answer, copy, shown)
            with opened(copy, shown, table, dialect) as file:
                return file.land(lake, key, run_id, progress, version=version)

    def fetch(self, name: str, directory: Path) -> tuple[Path, str | None]:
        """A copy of an object, in a directory, and the version that the store gives it."""
        shown = f"{self.url}/{name}"
        with s3_refusals_told(shown):
            answer = obstore.get(self._store, name)
            copy_object(answer, directory / name, shown)
            return directory / name, answer.meta["e_tag"]


class CsvAlone:
    """One CSV file of its own dialect: a path, or `s3://bucket/key`. It is the table that is asked for.

    `named_at`: the file and line that name it, where one does.
    """

    def __init__(
        self, url: str, dialect: CsvDialect = RFC_4180, s3_resource: Any = None, *, named_at: str | None = None
    ) -> None:
        self.url, self.dialect, self._s3, self._named_at = url, dialect, s3_resource, named_at

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tables(self) -> list[str]:
        return [Path(self.url).stem]

    def columns(self, table: LegacyTable) -> list[str]:
        with tempfile.TemporaryDirectory() as scratch:
            path, _ = self._fetched(table, Path(scratch))
            with readable(path, table), opened(path, self.url, table, self.dialect) as file:
                return file.header()

    def stored_bytes(self, tables: Collection[LegacyTable]) -> int:
        """Nothing where it lies in S3: it is one file beside a whole database."""
        path = Path(self.url)
        return path.stat().st_size if tables and path.is_file() else 0

    def extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None = None
    ) -> Manifest:
        with tempfile.TemporaryDirectory() as scratch:
            path, version = self._fetched(table, Path(scratch))
            with readable(path, table):
                unchanged = unchanged_since(path, path.stat())
                with opened(path, self.url, table, self.dialect) as file:
                    return file.land(lake, key, run_id, progress, version=version, unchanged=unchanged)

    def _fetched(self, table: LegacyTable, scratch: Path) -> tuple[Path, str | None]:
        if self.url.startswith("s3://"):
            prefix, _, name = self.url.rpartition("/")
            return CsvPrefix(prefix, self._s3).fetch(name, scratch)
        path = Path(self.url)
        if not path.is_file():
            named = f", which {self._named_at} names" if self._named_at else ""
            raise SourceError(
                f"the file of {table.name} is missing",
                where=f"{self.url}{named}",
                remedy="put it there, or correct `file`",
            )
        return path, None
