"""Where files go: a directory or a bucket. An object is there whole and verified, or not at all."""

import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError as ObjectStoreError
from obstore.store import S3Store

from dtx_assets.machinery.errors import ConfigurationError
from dtx_assets.machinery.files.content_types import content_type_of
from dtx_assets.machinery.files.inventory import chunks
from dtx_assets.machinery.files.paths import FileMissing, FileProblem, open_inside, without_prefix
from dtx_assets.machinery.lake import LEASE_SECONDS, s3_store

SENDERS = 8
WAITING = 4 * SENDERS
"""Files that are on their way or next; each holds at most one part in memory."""
PART_BYTES = 8 << 20
"""A larger file goes up in parts of this size."""
TRIES = 5
FIRST_DELAY = 0.2


@dataclass(frozen=True)
class FileToSend:
    """`path` is relative to the root, `key` to the store; `size` and `sha256` are those that were found before."""

    path: bytes
    key: str
    size: int
    sha256: str
    content_type: str | None = None


@dataclass(frozen=True)
class FileResult:
    """`status`: `sent`, `present` (the store had it already), or `rejected` with `detail`."""

    file: FileToSend
    status: Literal["sent", "present", "rejected"]
    detail: str | None = None


class StoreRefused(Exception):
    """The store does not hold what was sent."""


# --- a directory ------------------------------------------------------------------------------------------------------


class DirectoryStore:
    """Objects are files; one appears under its name when all its bytes are on the disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def is_empty(self) -> bool:
        """Whether nothing is there, so that no file has to be looked for."""
        return not self.directory.is_dir() or not any(self.directory.iterdir())

    def has(self, file: FileToSend) -> bool:
        path = self.directory / file.key
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        with path.open("rb") as stream:
            return _digest(stream) == file.sha256

    def put(self, file: FileToSend, source: BinaryIO) -> None:
        path = self.directory / file.key
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".sending-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                for chunk in verified(file, source):
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def remove_abandoned(self) -> int:
        """Removes what killed runs left half written; gives how many."""
        old = time.time() - LEASE_SECONDS
        found = [path for path in self.directory.rglob(".sending-*") if path.stat().st_mtime < old]
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)


# --- a bucket ---------------------------------------------------------------------------------------------------------


class BucketStore:
    """Objects of `s3://bucket/prefix`, with their SHA-256 beside them."""

    def __init__(self, url: str, s3: Any = None, *, encryption: str | None = None, storage_class: str | None = None):
        self.url, self.s3 = url, s3
        self.storage_class = storage_class
        self.store: S3Store = s3_store(url, s3, **({"server_side_encryption": encryption} if encryption else {}))

    def is_empty(self) -> bool:
        """Whether nothing is there, so that no file has to be looked for."""
        return next(iter(obstore.list(self.store, chunk_size=1)), None) is None

    def has(self, file: FileToSend) -> bool:
        try:
            found = obstore.get(self.store, file.key, options={"head": True})
        except FileNotFoundError:
            return False
        return found.meta["size"] == file.size and found.attributes.get("sha256") == file.sha256

    def put(self, file: FileToSend, source: BinaryIO) -> None:
        attributes = {"Content-Type": content_type_of(file.key, file.content_type), "sha256": file.sha256}
        if self.storage_class:
            attributes["Storage-Class"] = self.storage_class
        if file.size <= PART_BYTES:
            content = b"".join(verified(file, source))
            made = obstore.put(self.store, file.key, content, attributes=attributes, use_multipart=False)
            etag = (made["e_tag"] or "").strip('"')
            # Without encryption, and in one piece, it is the MD5 of the bytes that arrived.
            if etag == hashlib.md5(content, usedforsecurity=False).hexdigest():
                return
        else:
            obstore.put(
                self.store,
                file.key,
                verified(file, source),
                attributes=attributes,
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=2,
            )
        if not self.has(file):
            raise StoreRefused("the store reports another size or hash than that of the file")

    def remove_abandoned(self) -> int:
        """Aborts uploads in parts that killed runs left; gives how many."""
        parts = urlsplit(self.url)
        client, prefix = self._client(), parts.path.strip("/")
        old = datetime.now(UTC) - timedelta(seconds=LEASE_SECONDS)
        pages = client.get_paginator("list_multipart_uploads").paginate(
            Bucket=parts.netloc, Prefix=f"{prefix}/" if prefix else ""
        )
        found = [upload for page in pages for upload in page.get("Uploads", []) if upload["Initiated"] < old]
        for upload in found:
            client.abort_multipart_upload(Bucket=parts.netloc, Key=upload["Key"], UploadId=upload["UploadId"])
        return len(found)

    def _client(self) -> Any:
        from dagster_aws.s3 import S3Resource

        return (self.s3 or S3Resource()).get_client()


FileStore = DirectoryStore | BucketStore


def open_store(
    url: str, s3: Any = None, *, encryption: str | None = None, storage_class: str | None = None
) -> FileStore:
    """The store of a directory (path or `file://`) or `s3://bucket/prefix`; `s3` is dagster-aws's S3Resource."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return BucketStore(url, s3, encryption=encryption, storage_class=storage_class)
    if parts.scheme in ("", "file"):
        return DirectoryStore(Path(unquote(parts.path) if parts.scheme else url).absolute())
    raise ConfigurationError(
        f"files cannot be sent to {parts.scheme}://", remedy="give a directory, file:// or s3://bucket/prefix"
    )


# --- sending ----------------------------------------------------------------------------------------------------------


def send(
    files: Iterable[FileToSend],
    root: Path,
    store: FileStore,
    *,
    prefix: str = "",
    progress: Callable[[FileResult], None] | None = None,
) -> Iterator[FileResult]:
    """Sends files concurrently, in no order; every one of them has a result, whatever happens to it or to the store.

    What the store has with the same hash is not sent again. A file that does not hold what was found before is
    rejected, and nothing of it is left under its key.
    """
    with ThreadPoolExecutor(SENDERS) as senders:
        look_first = not _is_empty(store)
        under_way: set[Future[FileResult]] = set()
        waiting = iter(files)
        while True:
            for file in waiting:
                under_way.add(senders.submit(_send_one, file, root, store, prefix, look_first))
                if len(under_way) >= WAITING:
                    break
            if not under_way:
                return
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                if progress:
                    progress(result)
                yield result


def _is_empty(store: FileStore) -> bool:
    try:
        return store.is_empty()
    except (ObjectStoreError, OSError):
        # What is wrong with the store is found out file by file.
        return False


def _send_one(file: FileToSend, root: Path, store: FileStore, prefix: str, look_first: bool) -> FileResult:
    why = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(FIRST_DELAY * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 – no secret, just not all at once
        try:
            if (look_first or attempt) and store.has(file):
                return FileResult(file, "present")
            with open_inside(root, without_prefix(file.path, prefix)) as source:
                store.put(file, source)
            return FileResult(file, "sent")
        except FileProblem as problem:
            return FileResult(file, "rejected", str(problem))
        except StoreRefused as refused:
            why = str(refused)
        except (ObjectStoreError, OSError) as error:
            # Not what it says, which may hold credentials.
            why = f"the object store cannot take it ({type(error).__name__})"
        except Exception as error:
            # What a reader raised comes back through the store as it is, or wrapped.
            if "changed since" in str(error):
                return FileResult(file, "rejected", CHANGED)
            raise
    return FileResult(file, "rejected", f"{why}; tried {TRIES} times")


CHANGED = "the file changed since it was prepared"


def verified(file: FileToSend, source: BinaryIO) -> Iterator[bytes]:
    """The chunks of a file; the last one is given only when all of them hash to what was found before."""
    digest, size, held = hashlib.sha256(), 0, b""
    for chunk in chunks(source):
        digest.update(chunk)
        size += len(chunk)
        if size > file.size:
            raise FileMissing(CHANGED)
        if held:
            yield held
        held = chunk
    if size != file.size or digest.hexdigest() != file.sha256:
        raise FileMissing(CHANGED)
    yield held


def _digest(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    for chunk in chunks(stream):
        digest.update(chunk)
    return digest.hexdigest()
