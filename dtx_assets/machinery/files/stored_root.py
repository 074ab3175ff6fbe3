"""The root of legacy files where that is `s3://bucket/prefix`: an object is opened, and read once, as a file is.

What belongs to one object is told as a FileProblem, what belongs to the bucket as StructureError, as of a directory.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import obstore
from obstore.exceptions import BaseError as ObjectStoreError

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.lake import s3_store
from dtx_assets.machinery.base.settings import mask_url
from dtx_assets.machinery.files.paths import FileMissing, UnsafePath, require_object_key
from dtx_assets.machinery.files.refusals import is_of_the_object, words_of

REMEDY = "check bucket, prefix, AWS_ENDPOINT_URL, AWS_REGION and the AWS_* credentials; no row was rejected for it"


class StoredFile:
    """An object as a stream of its bytes, all of one version, from the first read on."""

    def __init__(self, root: "StoredRoot", key: str, described: Any) -> None:
        self._root, self._key = root, key
        self._tag = described["e_tag"]
        self._chunks: Iterator[Any] | None = None
        version = f"{self._tag} {described['last_modified'].isoformat()}".encode()
        self.state = described["size"], int.from_bytes(hashlib.sha256(version).digest()[:8]) >> 1
        """Its size, and a number that is another one when its bytes are."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._chunks = None

    def read(self, size: int) -> bytes:
        """The next bytes, about `size` of them; none at the end."""
        with self._root.told():
            if self._chunks is None:
                answer = obstore.get(self._root.store, self._key, options={"if_match": self._tag})
                self._chunks = iter(answer.stream(min_chunk_size=size))
            return bytes(next(self._chunks, b""))


class StoredRoot:
    """`s3` is dagster-aws's S3Resource; without one the usual `AWS_*` variables count."""

    def __init__(self, url: str, s3: Any = None) -> None:
        self.store = s3_store(url, s3)
        self._shown = mask_url(url)

    def __str__(self) -> str:
        return self._shown

    def open(self, relative: bytes) -> StoredFile:
        """The object of that name; FileProblem where there is none, or none can be called so."""
        try:
            key = relative.decode()
        except UnicodeDecodeError:
            raise UnsafePath("the name of its object is no text") from None
        require_object_key(key)
        with self.told():
            return StoredFile(self, key, obstore.head(self.store, key))

    def is_empty(self) -> bool:
        with self.told():
            return next(iter(obstore.list(self.store, chunk_size=1)), None) is None

    def has(self, name: bytes) -> bool:
        """Whether there is an object of that name, or one below it."""
        with self.told():
            listed = obstore.list_with_delimiter(self.store)
        names = {entry["path"].rsplit("/", 1)[-1] for entry in listed["objects"]}
        names |= {path.rstrip("/").rsplit("/", 1)[-1] for path in listed["common_prefixes"]}
        return name.decode(errors="replace") in names

    @contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in words_of(error):
                raise self._refusal(error) from None
            raise FileMissing("there is no such file") from None
        except (ObjectStoreError, OSError) as error:
            if is_of_the_object(error):
                raise FileMissing(f"the file cannot be opened: {words_of(error)}") from None
            if "PreconditionError" in type(error).__name__:
                raise FileMissing("the file changed while it was read") from None
            raise self._refusal(error) from None

    def _refusal(self, error: Exception) -> StructureError:
        return StructureError(f"the legacy files cannot be read: {words_of(error)}", where=self._shown, remedy=REMEDY)
