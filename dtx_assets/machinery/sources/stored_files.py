"""The files of a directory or under an S3 prefix, told alike: their names, their bytes, and a copy on this machine.

What is in them is the readers' business.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import obstore
from obstore.exceptions import BaseError as ObjectStoreError

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.base.lake import COPY_BYTES, s3_store

FIRST_BYTES = 1 << 20
"""So much of an object is fetched where only its beginning is looked at."""
S3_ERROR_CODE = re.compile(r"<Code>(\w+)</Code>")


@dataclass(frozen=True)
class FileState:
    """What tells that a file has not changed; `version` is None where only reading it tells."""

    size: int
    version: str | None
    modified: int


class Files(Protocol):
    """The files of one directory. Raises SourceError where they cannot be listed or read."""

    @property
    def where(self) -> str: ...

    def shown(self, name: str) -> str:
        """Where a file is, as people are told it."""
        ...

    def names(self) -> list[str]: ...

    def directories(self) -> list[str]: ...

    def inside(self, directory: str) -> "Files": ...

    def state(self, name: str) -> FileState: ...

    def first_bytes(self, name: str, count: int) -> bytes: ...

    def beginning(self, name: str) -> Any:
        """A context with the path of a file with the first bytes, or all of them where that costs nothing."""
        ...

    def local(self, name: str) -> Any:
        """A context with the path of the file on this machine, a copy while the block lasts where it is elsewhere."""
        ...


class LocalFiles:
    """The files of a directory of this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def where(self) -> str:
        return str(self.directory)

    def shown(self, name: str) -> str:
        return str(self.directory / name)

    def names(self) -> list[str]:
        with self._told():
            return sorted(path.name for path in self.directory.iterdir() if path.is_file())

    def directories(self) -> list[str]:
        with self._told():
            return sorted(path.name for path in self.directory.iterdir() if path.is_dir())

    def inside(self, directory: str) -> Self:
        return type(self)(self.directory / directory)

    def state(self, name: str) -> FileState:
        with self._told(name):
            at = (self.directory / name).stat()
        return FileState(at.st_size, None, at.st_mtime_ns)

    def first_bytes(self, name: str, count: int) -> bytes:
        with self._told(name), (self.directory / name).open("rb") as stream:
            return stream.read(count)

    @contextmanager
    def beginning(self, name: str) -> Iterator[Path]:
        yield self.directory / name

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        yield self.directory / name

    @contextmanager
    def _told(self, name: str | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceError(
                f"{name or 'the directory'} cannot be read: {error.strerror or type(error).__name__}",
                where=self.shown(name) if name else self.where,
                remedy="check the path, and that this account may read it",
            ) from None


@contextmanager
def s3_refusals_told(where: str) -> Iterator[None]:
    """What the object store refuses is told as a SourceError."""
    try:
        yield
    except (ObjectStoreError, OSError) as error:
        # The message as a whole is long, and names the access key.
        answer = S3_ERROR_CODE.search(str(error))
        raise SourceError(
            f"the S3 server answers {answer[1]}" if answer else "the S3 server cannot be reached",
            where=where,
            remedy="check bucket, prefix, AWS_ENDPOINT_URL, AWS_REGION and the AWS_* credentials",
        ) from None


def copy_object(answer: Any, copy: Path, shown: str) -> None:
    """Puts what obstore's `get` answers into a file; SourceError where it does not come whole."""
    size = answer.meta["size"]
    with copy.open("wb") as stream:
        for chunk in answer.stream(min_chunk_size=COPY_BYTES):
            stream.write(chunk)
    if (arrived := copy.stat().st_size) != size:
        raise SourceError(f"{arrived:,} of {size:,} bytes arrived", where=shown, remedy="run again")


class StoredFiles:
    """The objects directly under `s3://bucket/prefix`.

    `s3_resource` is dagster-aws's S3Resource; without one the usual `AWS_*` variables count.
    """

    def __init__(self, url: str, s3_resource: Any = None) -> None:
        self.where, self._s3 = url.rstrip("/"), s3_resource
        self._store = s3_store(self.where, s3_resource)

    def shown(self, name: str) -> str:
        return f"{self.where}/{name}"

    def names(self) -> list[str]:
        return sorted(entry["path"].rsplit("/", 1)[-1] for entry in self._listed()["objects"])

    def directories(self) -> list[str]:
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in self._listed()["common_prefixes"])

    def _listed(self) -> Any:
        with s3_refusals_told(self.where):
            return obstore.list_with_delimiter(self._store)

    def inside(self, directory: str) -> Self:
        return type(self)(f"{self.where}/{directory}", self._s3)

    def state(self, name: str) -> FileState:
        with s3_refusals_told(self.shown(name)):
            found = obstore.head(self._store, name)
        return FileState(found["size"], found["e_tag"], round(found["last_modified"].timestamp()))

    def first_bytes(self, name: str, count: int) -> bytes:
        with s3_refusals_told(self.shown(name)):
            size = min(count, obstore.head(self._store, name)["size"])
            return bytes(obstore.get_range(self._store, name, start=0, end=size)) if size else b""

    @contextmanager
    def beginning(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as scratch:
            start = Path(scratch) / name
            start.write_bytes(self.first_bytes(name, FIRST_BYTES))
            yield start

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / name
            with s3_refusals_told(self.shown(name)):
                copy_object(obstore.get(self._store, name), copy, self.shown(name))
            yield copy
