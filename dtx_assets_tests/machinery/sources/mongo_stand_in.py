"""A stand-in for a MongoDB server: the few commands that reading takes, with the server's rules for keys and cursors.

It orders keys by type and value, keeps `$gt` within a type, sends batches, and loses cursors and connections when told.
"""

import itertools
import math
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import bson
from bson import Decimal128, ObjectId, Timestamp
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.max_key import MaxKey
from bson.min_key import MinKey

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
READ: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
ALIASES = {
    "minKey": 0,
    "null": 1,
    "undefined": 1,
    **dict.fromkeys(("int", "long", "double", "decimal"), 2),
    "string": 3,
    "symbol": 3,
    "object": 4,
    "array": 5,
    "binData": 6,
    "objectId": 7,
    "bool": 8,
    "date": 9,
    "timestamp": 10,
    "regex": 11,
    "maxKey": 99,
}


class Lost(Exception):
    """The connection is closed without an answer."""


@dataclass
class StandIn:
    """What the server holds: documents by collection, as bytes; `kinds` of what is no collection."""

    collections: dict[str, list[bytes]]
    kinds: dict[str, str] = field(default_factory=dict)
    snapshots: bool = True
    losses: list[str] = field(default_factory=list)
    """What happens to the next batches: `cursor`, `connection`, or an empty text for nothing."""
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Commands that are refused, with code and words."""
    before_batch: Callable[["StandIn"], None] = lambda _: None
    asked: list[dict[str, Any]] = field(default_factory=list)
    cursors: dict[int, list[bytes]] = field(default_factory=dict)
    port: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/crm"

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        name = next(iter(command))
        if name.lower() in ("hello", "ismaster"):
            return {
                "ok": 1,
                "helloOk": True,
                "isWritablePrimary": True,
                "ismaster": True,
                "minWireVersion": 0,
                "maxWireVersion": 21,
                "logicalSessionTimeoutMinutes": 30,
                "maxBsonObjectSize": 16 << 20,
                "maxMessageSizeBytes": 48_000_000,
                "maxWriteBatchSize": 100_000,
            }
        self.asked.append(command)
        if name in self.refusals:
            code, words = self.refusals[name]
            return {"ok": 0, "code": code, "errmsg": words}
        if command.get("readConcern", {}).get("level") == "snapshot" and not self.snapshots:
            return {
                "ok": 0,
                "code": 123,
                "errmsg": "node needs to be a replica set member",
            }
        match name:
            case "listCollections":
                kinds = {**dict.fromkeys(self.collections, "collection"), **self.kinds}
                listed = [bson.encode({"name": each, "type": kind}) for each, kind in kinds.items()]
                return self._first(listed, 1000, "$cmd.listCollections")
            case "find":
                documents = sorted(self.collections.get(command["find"], []), key=lambda data: order(key_of(data)))
                fit = [data for data in documents if fits(key_of(data), command.get("filter", {}).get("_id", {}))]
                return self._first(fit, command.get("batchSize", 101), command["find"])
            case "getMore":
                return self._more(command)
            case "aggregate":
                count = len(self.collections[command["aggregate"]])
                groups = [bson.encode({"_id": 1, "n": count})] if count else []
                return self._first(groups, 1000, command["aggregate"])
            case "collStats":
                return {"ok": 1, "size": sum(map(len, self.collections[command["collStats"]]))}
        return {"ok": 1}

    def _first(self, documents: list[bytes], size: int, name: str) -> dict[str, Any]:
        number = 0
        if len(documents) > size:
            number = next(self._numbers)
            self.cursors[number] = documents[size:]
        return _cursor(number, documents[:size], "firstBatch", name)

    def _more(self, command: dict[str, Any]) -> dict[str, Any]:
        loss = self.losses.pop(0) if self.losses else ""
        if loss == "connection":
            raise Lost
        self.before_batch(self)
        number = command["getMore"]
        if loss == "cursor" or number not in self.cursors:
            self.cursors.pop(number, None)
            return {"ok": 0, "code": 43, "codeName": "CursorNotFound", "errmsg": f"cursor id {number} not found"}
        documents, size = self.cursors.pop(number), command.get("batchSize", 101)
        if len(documents) > size:
            self.cursors[number] = documents[size:]
        return _cursor(number if number in self.cursors else 0, documents[:size], "nextBatch", command["collection"])


def _cursor(number: int, documents: list[bytes], batch: str, name: str) -> dict[str, Any]:
    return {
        "ok": 1,
        "cursor": {
            "id": bson.Int64(number),
            "ns": f"crm.{name}",
            batch: [bson.raw_bson.RawBSONDocument(data) for data in documents],
            "atClusterTime": Timestamp(1, 1),
        },
    }


def key_of(data: bytes) -> Any:
    """Of a document whose key comes first."""
    return bson.decode(data, READ)["_id"] if b"\xff\xfe" not in data else ObjectId(data[9:21])


def bracket(key: Any) -> int:
    kinds: list[tuple[Any, int]] = [
        (MinKey, 0),
        (type(None), 1),
        (bool, 8),
        ((int, float, Decimal128), 2),
        (bytes, 6),
        (str, 3),
        (dict, 4),
        (ObjectId, 7),
        (DatetimeMS, 9),
        (Timestamp, 10),
        (MaxKey, 99),
    ]
    return next(place for kind, place in kinds if isinstance(key, kind))


def order(key: Any) -> tuple[int, Any]:
    place = bracket(key)
    if place == 2:
        number = float(str(key))
        return place, (not math.isnan(number), number if not math.isnan(number) else 0)
    if place in (0, 1, 99):
        return place, 0
    if place == 4:
        return place, bson.encode(key)
    return place, key.time if isinstance(key, Timestamp) else key


def fits(key: Any, condition: dict[str, Any]) -> bool:
    for name, wanted in condition.items():
        if name == "$type":
            if bracket(key) not in {ALIASES.get(alias, -1) for alias in wanted}:
                return False
            continue
        if bracket(key) != bracket(wanted) or any(
            isinstance(each, float) and math.isnan(each) for each in (key, wanted)
        ):
            return False
        is_behind = order(key) > order(wanted)
        if not (is_behind or (name == "$gte" and order(key) == order(wanted))):
            return False
    return True


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while head := self._received(16):
            length, request, _, code = struct.unpack("<iiii", head)
            body = self._received(length - 16)
            try:
                self._answer(request, code, body)
            except Lost:
                return

    def _received(self, size: int) -> bytes:
        held = b""
        while len(held) < size and (read := self.request.recv(size - len(held))):
            held += read
        return held

    def _answer(self, request: int, code: int, body: bytes) -> None:
        stand_in: StandIn = self.server.stand_in  # type: ignore[attr-defined]
        if code == OP_QUERY:
            place = body.index(0, 4) + 9
            answer = bson.encode(stand_in.answer(bson.decode(body[place:], READ)))
            reply = struct.pack("<iqii", 8, 0, 0, 1) + answer
            self._send(request, OP_REPLY, reply)
            return
        assert code == OP_MSG
        assert body[4] == 0
        size = struct.unpack_from("<i", body, 5)[0]
        answer = bson.encode(stand_in.answer(bson.decode(body[5 : 5 + size], READ)))
        self._send(request, OP_MSG, struct.pack("<I", 0) + b"\0" + answer)

    def _send(self, request: int, code: int, body: bytes) -> None:
        self.request.sendall(struct.pack("<iiii", 16 + len(body), 0, request, code) + body)


@contextmanager
def running(stand_in: StandIn) -> Iterator[StandIn]:
    """The server, on a free port of this machine, until the block ends."""
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler) as server:
        server.stand_in = stand_in  # type: ignore[attr-defined]
        stand_in.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()
