"""The file that `mongodump --archive` writes: the blocks of many collections in turn, found again by collection.

A collection is whole when the block came that says so. What a document says is `extended_json`'s business.
"""

import mmap
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from dtx_assets.machinery.sources.document_files import NO_DOCUMENTS, described
from dtx_assets.machinery.sources.document_framing import (
    LARGEST,
    SMALLEST,
    Document,
    broken,
    document,
    told,
)
from dtx_assets.machinery.sources.extended_json import UnreadableDocument, decoded_bson

MAGIC = b"\x6d\xe2\x99\x81"
PACKED = b"\x1f\x8b"
END = b"\xff\xff\xff\xff"
"""What ends the prelude, and each block."""

UNPACKED_AT_ONCE = 1 << 16
OF_GZIP = 16
"""What tells zlib that a file has the header of gzip."""

Namespace = tuple[str, str]
"""Database and collection."""


def may_be_archive(start: bytes) -> bool:
    """Whether a file that begins so may be an archive: a packed one is told when it is unpacked."""
    return start.startswith((MAGIC, PACKED))


class _Damaged(Exception):
    """What is wrong with an archive, and where."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what)
        self.what, self.offset = what, offset


@dataclass
class _Held:
    """Where the documents of a collection lie in the archive; `ended` where its last block came."""

    segments: list[tuple[int, int]] = field(default_factory=list)
    ended: bool = False
    kind: str | None = None


class Archive:
    """An unpacked archive whose blocks were found; no document was decoded."""

    def __init__(self, data: "mmap.mmap | bytes", shown: str, damage: _Damaged | None) -> None:
        self._data, self.shown, self._damage = data, shown, damage
        self._held: dict[Namespace, _Held] = {}
        try:
            place = self._prelude()
        except _Damaged as error:
            self._told(damage or error)
        try:
            while place < len(data):
                place = self._block(place)
        except _Damaged as error:
            self._damage = damage or error

    @classmethod
    @contextmanager
    def opened(cls, path: Path, shown: str) -> Iterator[Self]:
        """The archive of a file, unpacked while the block lasts. Raises SourceError where it cannot be one."""
        with tempfile.TemporaryDirectory() as scratch:
            damage = None
            with told(shown, Path(shown).name), path.open("rb") as stream:
                is_packed = stream.read(2) == PACKED
            if is_packed:
                unpacked = Path(scratch) / "archive"
                with told(shown, Path(shown).name):
                    damage = _unpack(path, unpacked)
                path = unpacked
            with told(shown, Path(shown).name), path.open("rb") as stream:
                if not path.stat().st_size:
                    broken(shown, "it is empty", "byte 0")
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    yield cls(data, shown, damage)

    # --- what is there ------------------------------------------------------------------------------------------------

    @property
    def databases(self) -> set[str]:
        return {database for database, _ in self._held}

    def collections(self, database: str) -> list[str]:
        return [
            name
            for (of, name), held in self._held.items()
            if of == database and held.kind not in NO_DOCUMENTS and not name.startswith("system.")
        ]

    def not_read(self, database: str) -> dict[str, str]:
        """What is no collection of documents of its own, by its type."""
        return {
            name: held.kind
            for (of, name), held in self._held.items()
            if of == database and held.kind and held.kind in NO_DOCUMENTS
        }

    def collection(self, database: str, name: str) -> "ArchivedCollection":
        return ArchivedCollection(self, database, name)

    def segments(self, namespace: Namespace) -> list[tuple[int, int]]:
        """Where the documents of a collection lie; SourceError where they are not all there."""
        held = self._held[namespace]
        all_ended = all(each.ended for each in self._held.values())
        if self._damage and (all_ended or not held.ended):
            self._told(self._damage)
        if not held.ended:
            self._told(_Damaged(f"the last block of {namespace[1]} is missing", len(self._data)))
        return held.segments

    def stored_bytes(self, namespace: Namespace) -> int:
        return sum(end - start for start, end in self._held[namespace].segments)

    def data(self, start: int, end: int) -> bytes:
        return bytes(self._data[start:end])

    def _told(self, damage: _Damaged) -> None:
        broken(self.shown, damage.what, f"byte {damage.offset:,}")

    # --- its blocks ---------------------------------------------------------------------------------------------------

    def _prelude(self) -> int:
        if self._data[:4] != MAGIC:
            raise _Damaged("it does not begin as an archive of mongodump does", 0)
        _, place = self._decoded(4, "header")
        while not self._is_end(place):
            said, place = self._decoded(place, "metadata")
            namespace = self._namespace(said, place)
            text = said.get("metadata")
            _, kind = described(text.encode()) if isinstance(text, str) else (None, None)
            self._held[namespace] = _Held(kind=str(said.get("type") or kind or "") or None)
        return place + len(END)

    def _block(self, place: int) -> int:
        """Finds the documents of a block; where the next one begins."""
        start = place
        said, place = self._decoded(place, "header of a block")
        held = self._held.setdefault(self._namespace(said, start), _Held())
        if held.ended:
            raise _Damaged("a block comes behind the last one of its collection", start)
        first = place
        while not self._is_end(place):
            place = self._after_document(place, "document")
        if place > first:
            held.segments.append((first, place))
        held.ended = said.get("EOF") is True
        return place + len(END)

    def _namespace(self, said: dict[str, Any], place: int) -> Namespace:
        database, collection = said.get("db"), said.get("collection")
        if not isinstance(database, str) or not isinstance(collection, str):
            raise _Damaged("a block does not name its collection", place)
        return database, collection

    def _is_end(self, place: int) -> bool:
        return self._data[place : place + len(END)] == END

    def _decoded(self, place: int, what: str) -> tuple[dict[str, Any], int]:
        end = self._after_document(place, what)
        try:
            return decoded_bson(self.data(place, end)), end
        except UnreadableDocument as error:
            raise _Damaged(f"the {what} {error}", place) from None

    def _after_document(self, place: int, what: str) -> int:
        size = int.from_bytes(self._data[place : place + 4], "little", signed=True)
        if place + 4 > len(self._data):
            raise _Damaged(f"the last {what} is cut off", place)
        if not SMALLEST <= size <= LARGEST:
            raise _Damaged(f"a {what} cannot have {size:,} bytes", place)
        if place + size > len(self._data):
            raise _Damaged(f"the last {what} is cut off", place)
        if self._data[place + size - 1]:
            raise _Damaged(f"a {what} does not end where it says", place)
        return place + size


@dataclass(frozen=True)
class ArchivedCollection:
    """The documents of one collection of an archive."""

    archive: Archive
    database: str
    name: str
    has_lines: bool = False

    @property
    def shown(self) -> str:
        return f"{self.archive.shown}, {self.database}.{self.name}"

    @property
    def stored_bytes(self) -> int:
        return self.archive.stored_bytes((self.database, self.name))

    def documents(self) -> Iterator[Document]:
        return (document(data, decoded_bson) for data in self.exact_documents())

    def exact_documents(self) -> Iterator[bytes]:
        for start, end in self.archive.segments((self.database, self.name)):
            place = start
            while place < end:
                after = place + int.from_bytes(self.archive.data(place, place + 4), "little")
                yield self.archive.data(place, after)
                place = after


def _unpack(path: Path, unpacked: Path) -> _Damaged | None:
    """Writes what can be unpacked of a file, and says what is wrong with the rest."""
    member = None
    with path.open("rb") as stream, unpacked.open("wb") as copy:
        try:
            while read := stream.read(UNPACKED_AT_ONCE):
                while read:
                    # A file may have several members, with zeros behind them.
                    if member is None and not (read := read.lstrip(b"\0")):
                        break
                    member = member or zlib.decompressobj(zlib.MAX_WBITS | OF_GZIP)
                    copy.write(member.decompress(read))
                    read, member = (member.unused_data, None) if member.eof else (b"", member)
        except zlib.error as error:
            return _Damaged(f"its gzip is damaged ({error})", copy.tell())
        return _Damaged("its gzip is cut off", copy.tell()) if member else None
