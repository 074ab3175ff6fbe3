"""A database of a live MongoDB, read only: each collection in the order of its keys.

Where a connection or a cursor is lost, the next one begins behind the last key that was read: nothing is lost, and
nothing comes twice.
All collections are read in one snapshot session where the server has such ones. What rows documents give is the
business of `documents`.
"""

import math
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import (
    AutoReconnect,
    CursorNotFound,
    InvalidOperation,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.errors import (
    ConfigurationError as RefusedByClient,
)

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.base.settings import mask_url, without_secrets
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.document_files import NO_DOCUMENTS
from dtx_assets.machinery.sources.document_framing import Document, document
from dtx_assets.machinery.sources.documents import (
    Collections,
    collection_of,
    columns_of,
    land_documents,
)
from dtx_assets.machinery.sources.extended_json import (
    ID,
    PLAIN,
    DbPointer,
    decoded_bson,
    encoded,
    id_of_bson,
    type_name,
)
from dtx_assets.machinery.sources.landing import Progress, missing_table

BATCH = 1_000
"""Documents that the server sends at once."""
SECONDS_BEFORE_AGAIN = (0, 0.2, 1, 5)
"""Pauses before what failed is asked for again, as long as not one document comes."""
SECONDS_TO_CONNECT = 10

KEY_TYPES: tuple[tuple[str, ...], ...] = (
    ("minKey",),
    ("null", "undefined"),
    ("int", "long", "double", "decimal"),
    ("string", "symbol"),
    ("object",),
    ("array",),
    ("binData",),
    ("objectId",),
    ("bool",),
    ("date",),
    ("timestamp",),
    ("regex",),
    ("dbPointer",),
    ("javascript",),
    ("javascriptWithScope",),
    ("maxKey",),
)
"""Types of keys in the server's order. Keys of one line compare with one another; `$gt` finds none of another."""

RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
TOO_OLD = 239
"""The server's code for a snapshot that it no longer has."""
NO_SNAPSHOTS = (20, 72, 115, 123, 246, 9)
"""Codes with which servers refuse a session of one snapshot."""

T = TypeVar("T")


class MongoDatabase(Collections):
    """The database that a `mongodb://` or `mongodb+srv://` URL names in its path."""

    def __init__(self, url: str) -> None:
        self.url, self.where = url, mask_url(url)

    def __enter__(self) -> Self:
        remedy = "write mongodb://user:password@host:port/database, with special characters as %XX"
        try:
            self._client = self._connected()
        except (InvalidURI, RefusedByClient, ValueError, PyMongoError, UserWarning) as error:
            raise ConfigurationError(
                f"the URL cannot be used: {self._words(error)}", where=self.where, remedy=remedy
            ) from None
        try:
            self._database = self._client.get_default_database().with_options(codec_options=RAW)
        except RefusedByClient:
            self._client.close()
            raise ConfigurationError("the URL names no database", where=self.where, remedy=remedy) from None
        try:
            found = self._asked(self._list, "the database")
            self._session = self._snapshot()
        except BaseException:
            self._client.close()
            raise
        kinds = {str(entry["name"]): str(entry.get("type", "collection")) for entry in found}
        self.not_read = {name: kind for name, kind in kinds.items() if kind in NO_DOCUMENTS}
        self._names = sorted(
            name for name, kind in kinds.items() if kind not in NO_DOCUMENTS and not name.startswith("system.")
        )
        return self

    def _connected(self) -> "MongoClient[RawBSONDocument]":
        with warnings.catch_warnings():
            # An option that is wrong would be left out with a warning.
            warnings.simplefilter("error", UserWarning)
            return MongoClient(
                self.url,
                document_class=RawBSONDocument,
                serverSelectionTimeoutMS=SECONDS_TO_CONNECT * 1000,
                appname="dtx_assets",
            )

    def __exit__(self, *_: object) -> None:
        if self._session:
            self._session.end_session()
        self._client.close()

    @property
    def is_snapshot(self) -> bool:
        """Whether all collections are read as they were at one moment."""
        return self._session is not None

    def _list(self) -> list[dict[str, Any]]:
        with self._database.list_collections() as cursor:
            return [dict(entry) for entry in cursor]

    def _snapshot(self) -> "ClientSession | None":
        """A session that reads one moment; None where the server has none."""
        session = None
        try:
            session = self._client.start_session(snapshot=True)
            self._database.command("find", "system.none", limit=1, session=session)
        except (RefusedByClient, InvalidOperation):
            pass
        except OperationFailure as error:
            if error.code not in NO_SNAPSHOTS:
                raise self.refused(error, "a snapshot") from None
        except PyMongoError as error:
            raise self.refused(error, "a snapshot") from None
        else:
            return session
        if session:
            session.end_session()
        return None

    def tables(self) -> list[str]:
        return self._names

    def _columns(self, table: LegacyTable) -> list[str]:
        return columns_of(table, self._collection(table))

    def stored_bytes(self, tables: Collection[LegacyTable]) -> int:
        names = {collection_of(table) for table in tables} & set(self._names)

        def size(name: str) -> int:
            return int(self._database.command("collStats", name, codec_options=PLAIN).get("size", 0))

        return sum(self._asked(lambda name=name: size(name), name) for name in sorted(names))  # type: ignore[misc]

    def _collection(self, table: LegacyTable) -> "ServerCollection":
        name = collection_of(table)
        if name not in self._names:
            raise missing_table(name, self.where, self._names)
        return ServerCollection(self, name)

    def _extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None
    ) -> Manifest:
        collection = self._collection(table)
        before = self.count(collection.name)

        def facts(_read: int) -> dict[str, Any]:
            after = before if self.is_snapshot else self.count(collection.name)
            read = collection.read
            matches = min(before, after) <= read <= max(before, after)
            counted = {} if table.each else {"source_rows": read if matches else after, "row_count_matches": matches}
            if table.each and not matches:
                raise SourceError(
                    f"{read:,} documents of {collection.name} were read, and the server counts {after:,}",
                    where=collection.shown,
                    remedy="run again when nobody writes to it",
                )
            return {
                "source_digest": None,
                "consistent_snapshot": self.is_snapshot,
                "count_before": before,
                "count_after": after,
                **counted,
            }

        return land_documents(table, collection, lake, key, run_id, facts, progress)

    def count(self, name: str) -> int:
        """The documents that the server counts in a collection."""
        return self._asked(lambda: self._database[name].count_documents({}, session=self._session), name)

    def found(self, name: str, only: dict[str, Any]) -> Iterator[RawBSONDocument]:
        """The documents of a collection that fit a condition, in the order of their keys."""
        with self._database[name].find(only, sort=[(ID, 1)], batch_size=BATCH, session=self._session) as cursor:
            yield from cursor

    def _asked(self, ask: Callable[[], T], what: str) -> T:
        """What the server answers, in the end."""
        for pause in (*SECONDS_BEFORE_AGAIN, None):
            try:
                return ask()
            except (AutoReconnect, CursorNotFound) as error:
                if pause is None:
                    raise self.refused(error, what) from None
                time.sleep(pause)
            except PyMongoError as error:
                raise self.refused(error, what) from None
        raise AssertionError

    def refused(self, error: PyMongoError, what: str) -> SourceError:
        if isinstance(error, OperationFailure) and error.code == TOO_OLD:
            return SourceError(
                "the server no longer has the moment that is read: the copy takes longer than it keeps one",
                where=self.where,
                remedy="raise its parameter minSnapshotHistoryWindowInSeconds, or read a dump (mongodump)",
            )
        return SourceError(
            f"{what} cannot be read: {self._words(error)}",
            where=self.where,
            remedy="check host, port, user and database, and that the account has the role `read`",
        )

    def _words(self, error: Exception) -> str:
        """What the driver says, without what may be secret, and without what it adds for those who know it."""
        return without_secrets(str(error), self.url).partition(", full error")[0].partition(", Timeout")[0][:300]


@dataclass
class ServerCollection:
    """The documents of one collection of a server, in the order of their keys."""

    database: MongoDatabase
    name: str
    read: int = 0
    has_lines: bool = False

    @property
    def shown(self) -> str:
        return f"{self.database.where}, {self.name}"

    def documents(self) -> Iterator[Document]:
        return (document(data, decoded_bson) for data in self.exact_documents())

    def exact_documents(self) -> Iterator[bytes]:
        self.read = failures = 0
        last: RawBSONDocument | None = None
        while True:
            try:
                for only in self._left(last):
                    for raw in self.database.found(self.name, only):
                        self.read, failures, last = self.read + 1, 0, raw
                        yield bytes(raw.raw)
            except (AutoReconnect, CursorNotFound) as error:
                if failures >= len(SECONDS_BEFORE_AGAIN):
                    raise self.database.refused(error, self.name) from None
                time.sleep(SECONDS_BEFORE_AGAIN[failures])
                failures += 1
            except PyMongoError as error:
                raise self.database.refused(error, self.name) from None
            else:
                return

    def _left(self, last: "RawBSONDocument | None") -> Iterator[dict[str, Any]]:
        """The conditions of what comes behind the last document that was read."""
        if last is None:
            yield {}
            return
        data = bytes(last.raw)
        yield {ID: behind(id_of_bson(data))}
        # Of one moment the number tells that there is no more.
        if self.database.is_snapshot and self.read == self.database.count(self.name):
            return
        place = next((place for place, types in enumerate(KEY_TYPES) if type_of_id(data) in types), -1)
        if later := [name for types in KEY_TYPES[place + 1 :] for name in types]:
            yield {ID: {"$type": later}}


def type_of_id(data: bytes) -> str:
    return type_name(id_of_bson(data))


def behind(key: Any) -> Mapping[str, Any]:
    """The condition of keys that come after one of the same type."""
    if isinstance(key, DbPointer):
        # The driver writes none.
        return RawBSONDocument(encoded({"$gt": key}))
    if isinstance(key, float) and math.isnan(key):
        # Nothing compares with NaN, which stands before all numbers.
        return {"$gte": float("-inf")}
    return {"$gt": key}
