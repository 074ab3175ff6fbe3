"""Where files go: a directory or a bucket. An object is there whole and verified, or not at all."""

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError as ObjectStoreError
from obstore.store import S3Store

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.base.lake import LEASE_SECONDS, s3_store
from dtx_assets.machinery.base.private import make_private_directory
from dtx_assets.machinery.files.content_types import content_type_of
from dtx_assets.machinery.files.inventory import Root, chunks, open_below
from dtx_assets.machinery.files.paths import (
    FileMissing,
    FileProblem,
    require_object_key,
    unreadable,
    without_prefix,
)
from dtx_assets.machinery.files.refusals import NO_BUCKET, is_of_the_object, refused, told, words_of
from dtx_assets.machinery.files.stored_root import StoredFile
from dtx_assets.machinery.files.workers import concurrently

SENDERS = 8
PARTS_AT_ONCE = 2
"""Of one file; a sender holds at most these and the next one in memory."""
PART_BYTES = 8 << 20
"""A larger file goes up in parts of this size."""
MOST_PARTS = 10_000
"""S3 takes no more of one object."""
TRIES = 5
FIRST_DELAY = 0.2
REQUEST_RETRIES: Any = {"max_retries": 8}
"""What obstore itself does about a single request that the store answers with 5xx, or not at all: 20 s or so."""
DOWN_AFTER = 2 * SENDERS
"""So many files after one another that could not be sent, each tried TRIES times: the store is down."""
SECONDS_DOWN = 15.0
"""A store that is down is tried again with one file, once, after these; the others are rejected at once."""


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
    """`status`: `sent`, `present` (the store had it already), or `rejected` with `detail`.

    `by_store`: it is the store that failed, and nothing is wrong with the file. `e_tag` is what the store calls the
    bytes that were sent, where that follows from them.
    """

    file: FileToSend
    status: Literal["sent", "present", "rejected"]
    detail: str | None = None
    by_store: bool = False
    e_tag: str | None = None


class StoreRefused(Exception):
    """The store does not hold what was sent."""


# --- a directory ------------------------------------------------------------------------------------------------------


HALF_SENT = ".sending-\x01"
"""How the name of a file begins that is being sent. No object is called so: `require_object_key`."""


class DirectoryStore:
    """Objects are files; one appears under its name when all its bytes are on the disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = str(directory)
        self._was_there = False

    def require(self, *, make: bool = False) -> None:
        """LoadError where the directory cannot be read, which the first file may make, and no later one."""
        with told(self.url):
            if make and not self._was_there and not self.directory.exists():
                make_private_directory(self.directory)
            os.scandir(self.directory).close()
        self._was_there = True

    def path(self, key: str) -> Path:
        """Where an object is; UnsafePath for what is no key, which could lead out of the directory."""
        require_object_key(key)
        return self.directory / key

    def is_empty(self) -> bool:
        """Whether nothing is there, so that no file has to be looked for."""
        return not self.directory.is_dir() or not any(self.directory.iterdir())

    def has(self, file: FileToSend) -> bool:
        path = self.path(file.key)
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        with path.open("rb") as stream:
            return _digest(stream) == file.sha256

    def put(self, file: FileToSend, source: BinaryIO | StoredFile) -> str | None:
        path = self.path(file.key)
        self.require(make=True)
        make_private_directory(path.parent)
        unfinished = path.with_name(f"{HALF_SENT}{uuid4().hex}")
        try:
            with unfinished.open("xb") as stream:
                for chunk in verified(file, source):
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
            reach("upload.before_rename")
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        # The name is on the disk as well, before a row that names it is written.
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return None

    def remove(self, key: str, sha256: str) -> bool:
        """Removes an object that holds what was sent; whether it did. LoadError where the directory is not there."""
        path = self.path(key)
        self.require()
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            if _digest(stream) != sha256:
                return False
        path.unlink()
        return True

    def remove_abandoned(self) -> int:
        """Removes what killed runs left half written; gives how many.

        What is called `.sending-…` is an object of that name, or was half sent by an early version: it stays.
        """
        old, removed = time.time() - LEASE_SECONDS, 0
        for path in self.directory.rglob(f"{HALF_SENT}*"):
            # Another run may be done with it by now.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < old:
                    path.unlink()
                    removed += 1
        return removed


# --- a bucket ---------------------------------------------------------------------------------------------------------


class BucketStore:
    """Objects of `s3://bucket/prefix`, with their SHA-256 beside them."""

    def __init__(self, url: str, s3: Any = None, *, encryption: str | None = None, storage_class: str | None = None):
        self.url, self.s3 = url, s3
        self.storage_class = storage_class
        settings: dict[str, Any] = {"server_side_encryption": encryption} if encryption else {}
        # What arrived is compared with the file: a signature over its bytes would only hash them once more.
        self.store: S3Store = s3_store(url, s3, retry_config=REQUEST_RETRIES, unsigned_payload=True, **settings)
        self._making_client = threading.Lock()

    def require(self) -> None:
        """LoadError where the bucket does not answer."""
        with told(self.url):
            self.is_empty()

    def is_empty(self) -> bool:
        """Whether nothing is there, so that no file has to be looked for. LoadError where there is no such bucket."""
        try:
            return next(iter(obstore.list(self.store, chunk_size=1)), None) is None
        except (ObjectStoreError, OSError) as error:
            if (words := words_of(error)).startswith(NO_BUCKET):
                # Some stores would make one of that name for the first file.
                raise refused(f"the object store cannot be used: {words}", self.url) from None
            raise

    def has(self, file: FileToSend) -> bool:
        require_object_key(file.key)
        try:
            found = obstore.get(self.store, file.key, options={"head": True})
        except FileNotFoundError:
            return False
        return found.meta["size"] == file.size and found.attributes.get("sha256") == file.sha256

    def put(self, file: FileToSend, source: BinaryIO | StoredFile) -> str | None:
        """Gives what the store calls the object, where that follows from its bytes."""
        require_object_key(file.key)
        attributes = {"Content-Type": content_type_of(file.key, file.content_type), "sha256": file.sha256}
        if self.storage_class:
            attributes["Storage-Class"] = self.storage_class
        size = part_bytes(file.size)
        expected = EntityTag(size)
        if file.size <= size:
            content = b"".join(verified(file, source))
            expected.add(content)
            made = obstore.put(self.store, file.key, content, attributes=attributes, use_multipart=False)
        else:
            # A run that was killed may have begun to send the same file.
            with suppress(Exception):  # a store may not let them be listed, and sending can do without
                self._abort(f"{self._prefix}{file.key}", lambda upload: upload["Key"] == f"{self._prefix}{file.key}")
            made = obstore.put(
                self.store,
                file.key,
                expected.of(verified(file, source)),
                attributes=attributes,
                use_multipart=True,
                chunk_size=size,
                max_concurrency=PARTS_AT_ONCE,
            )
        if tag_of(made) == str(expected):
            return str(expected)
        # A store that encrypts with keys of its own says nothing about the bytes.
        if obstore.head(self.store, file.key)["size"] != file.size or self.digest(file.key, file.size) != file.sha256:
            obstore.delete(self.store, file.key)
            raise StoreRefused("the store holds other bytes than those of the file")
        return None

    def digest(self, key: str, size: int) -> str:
        """The SHA-256 of the first `size` bytes of an object, read."""
        digest = hashlib.sha256()
        for start in range(0, size, PART_BYTES):
            digest.update(obstore.get_range(self.store, key, start=start, end=min(start + PART_BYTES, size)))
        return digest.hexdigest()

    def remove(self, key: str, sha256: str) -> bool:
        """Removes an object that holds what was sent; whether it did. LoadError where the bucket does not answer."""
        require_object_key(key)
        with told(self.url):
            try:
                found = obstore.get(self.store, key, options={"head": True})
            except FileNotFoundError:
                # Nor would there be one in a bucket that is gone.
                self.require()
                return False
            if found.attributes.get("sha256") != sha256:
                return False
            obstore.delete(self.store, key)
            return True

    def remove_abandoned(self) -> int:
        """Aborts uploads in parts that killed runs left; gives how many."""
        old = datetime.now(UTC) - timedelta(seconds=LEASE_SECONDS)
        return self._abort(self._prefix, lambda upload: upload["Initiated"] < old)

    def _abort(self, prefix: str, abandoned: Callable[[Any], bool]) -> int:
        bucket = urlsplit(self.url).netloc
        with self._making_client:
            client = self._client
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
        found = [upload for page in pages for upload in page.get("Uploads", []) if abandoned(upload)]
        for upload in found:
            client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        return len(found)

    @cached_property
    def _client(self) -> Any:
        from dagster_aws.s3 import S3Resource

        return (self.s3 or S3Resource()).get_client()

    @property
    def _prefix(self) -> str:
        prefix = urlsplit(self.url).path.strip("/")
        return f"{prefix}/" if prefix else ""


class EntityTag:
    """What S3 calls an object: the MD5 of its bytes or, where it came in parts, that of their MD5s, and how many."""

    def __init__(self, size: int) -> None:
        self._size = self._room = size
        self._part = hashlib.md5(usedforsecurity=False)
        self._whole: list[bytes] = []

    def add(self, content: bytes) -> None:
        left = memoryview(content)
        while left:
            if not self._room:
                self._whole.append(self._part.digest())
                self._part, self._room = hashlib.md5(usedforsecurity=False), self._size
            self._part.update(left[: self._room])
            left, self._room = left[self._room :], max(self._room - len(left), 0)

    def of(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks, each added."""
        for chunk in chunks:
            self.add(chunk)
            yield chunk

    def __str__(self) -> str:
        if not self._whole:
            return self._part.hexdigest()
        parts = [*self._whole, self._part.digest()]
        return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


def tag_of(described: Mapping[str, Any]) -> str:
    """The entity tag of an object, as obstore gives it."""
    return (described["e_tag"] or "").strip('"')


def part_bytes(size: int) -> int:
    """The size of the parts of a file of `size` bytes: PART_BYTES, unless there would be too many."""
    return max(PART_BYTES, -(-size // MOST_PARTS))


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
    root: Root,
    store: FileStore,
    *,
    prefix: str = "",
    progress: Callable[[FileResult], None] | None = None,
) -> Iterator[FileResult]:
    """Sends files concurrently, in no order; every one of them has a result, whatever happens to it or to the store.

    What the store has with the same hash is not sent again. A file that does not hold what was found before is
    rejected, and nothing of it is left under its key. LoadError where the store is not there at all.
    """
    sender = _Sender(root, store, prefix)
    for result in concurrently(sender, files, SENDERS):
        if progress:
            progress(result)
        yield result


def _is_empty(store: FileStore) -> bool:
    try:
        return store.is_empty()
    except (ObjectStoreError, OSError):
        # What is wrong with the store is found out file by file.
        return False


class _Sender:
    """Sends one file after the other, from any thread; knows when there is no use in trying."""

    def __init__(self, root: Root, store: FileStore, prefix: str) -> None:
        self.root, self.store, self.prefix = root, store, prefix
        self.look_first = not _is_empty(store)
        self._failed, self._last_try = 0, 0.0
        self._lock = threading.Lock()

    def __call__(self, file: FileToSend) -> FileResult:
        tries = self._tries()
        if not tries:
            return FileResult(file, "rejected", "the object store cannot be reached; not tried", by_store=True)
        why, tag = "", None
        for attempt in range(tries):
            if attempt:
                time.sleep(FIRST_DELAY * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 – no secret, just not all at once
            try:
                status: Literal["sent", "present"] = "present"
                if not ((self.look_first or attempt) and self.store.has(file)):
                    status = "sent"
                    with open_below(self.root, without_prefix(file.path, self.prefix)) as source:
                        reach("upload.before")
                        tag = self.store.put(file, source)
                        reach("upload.after")
            except FileProblem as problem:
                return FileResult(file, "rejected", str(problem))
            except StoreRefused as refused:
                why = str(refused)
            except (ObjectStoreError, OSError) as error:
                why = f"the object store cannot take it ({words_of(error)})"
                if is_of_the_object(error):
                    return FileResult(file, "rejected", why)
            else:
                self._note(answered=True)
                return FileResult(file, status, e_tag=tag)
        self._note(answered=False)
        return FileResult(file, "rejected", f"{why}; tried {tries} times", by_store=True)

    def _tries(self) -> int:
        with self._lock:
            if self._failed < DOWN_AFTER:
                return TRIES
            now = time.monotonic()
            if now - self._last_try < SECONDS_DOWN:
                return 0
            self._last_try = now
            return 1

    def _note(self, *, answered: bool) -> None:
        with self._lock:
            self._failed = 0 if answered else self._failed + 1
            self._last_try = time.monotonic()


CHANGED = "the file changed since it was prepared"


def verified(file: FileToSend, source: BinaryIO | StoredFile) -> Iterator[bytes]:
    """The chunks of a file; the last one is given only when all of them hash to what was found before."""
    digest, size, held = hashlib.sha256(), 0, b""
    try:
        for chunk in chunks(source):
            digest.update(chunk)
            size += len(chunk)
            if size > file.size:
                raise FileMissing(CHANGED)
            if held:
                yield held
                reach("upload.amid")
            held = chunk
    except OSError as error:
        raise unreadable(error, "read") from None
    if size != file.size or digest.hexdigest() != file.sha256:
        raise FileMissing(CHANGED)
    yield held


def _digest(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    for chunk in chunks(stream):
        digest.update(chunk)
    return digest.hexdigest()
