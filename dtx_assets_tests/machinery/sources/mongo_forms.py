"""The same documents in every form that MongoDB's tools write: as a dump, an archive, an export of either version."""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import bson
from bson import json_util
from bson.codec_options import CodecOptions

from dtx_assets.machinery.sources.extended_json import canonical

Collections = Mapping[str, Sequence[dict[str, Any]]]
END = b"\xff\xff\xff\xff"
MAGIC = b"\x6d\xe2\x99\x81"


def dumped(collections: Collections, directory: Path, *, packed: bool = False) -> None:
    """As `mongodump` writes a database."""
    directory.mkdir(parents=True, exist_ok=True)
    suffix, pack = (".gz", gzip.compress) if packed else ("", bytes)
    for name, documents in collections.items():
        file = quote(name, safe="")
        (directory / f"{file}.bson{suffix}").write_bytes(pack(b"".join(map(bson.encode, documents))))
        said = json.dumps({"options": {}, "indexes": [], "collectionName": name, "type": "collection"})
        (directory / f"{file}.metadata.json{suffix}").write_bytes(pack(said.encode()))
    (directory / f"prelude.json{suffix}").write_bytes(pack(b'{"ServerVersion":"7.0.5"}'))


def archive(
    collections: Collections,
    *,
    database: str = "crm",
    block: int = 2,
    kinds: Mapping[str, str] | None = None,
    others: Mapping[str, Collections] | None = None,
) -> bytes:
    """As `mongodump --archive` writes databases: blocks of a few documents, those of all collections in turn."""
    kinds = kinds or {}
    whole = {database: collections, **(others or {})}
    places = [(of, name) for of, held in whole.items() for name in held]
    out = [MAGIC, bson.encode({"concurrent_collections": 4, "version": "0.1", "server_version": "7.0.5"})]
    for of, name in places:
        kind = kinds.get(name, "collection")
        said = json.dumps({"options": {}, "type": kind})
        out.append(bson.encode({"db": of, "collection": name, "metadata": said, "size": 0, "type": kind}))
    out.append(END)
    left = {place: list(whole[place[0]][place[1]]) for place in places}
    while left:
        for place, documents in list(left.items()):
            now, left[place] = documents[:block], documents[block:]
            if now:
                out += [block_header(place, end=False), *map(bson.encode, now), END]
            else:
                out += [block_header(place, end=True), END]
                del left[place]
    return b"".join(out)


def block_header(place: tuple[str, str], *, end: bool) -> bytes:
    return bson.encode({"db": place[0], "collection": place[1], "EOF": end, "CRC": bson.Int64(0)})


def _decoded(document: dict[str, Any]) -> dict[str, Any]:
    return bson.decode(bson.encode(document), CodecOptions(tz_aware=True))


def relaxed(document: dict[str, Any]) -> str:
    return json_util.dumps(_decoded(document), json_options=json_util.RELAXED_JSON_OPTIONS, ensure_ascii=False)


def version_1(document: dict[str, Any]) -> str:
    """As tools older than 4.2 wrote it: `{"$date": ms}`, `{"$binary": "…", "$type": "00"}`."""
    return json_util.dumps(_decoded(document), json_options=json_util.LEGACY_JSON_OPTIONS, ensure_ascii=False)


Writer = Callable[[Sequence[dict[str, Any]]], bytes]


def in_lines(write: Callable[[dict[str, Any]], str], end: str = "\n") -> Writer:
    return lambda documents: "".join(write(each) + end for each in documents).encode()


def in_array(write: Callable[[dict[str, Any]], str], between: str = ",") -> Writer:
    return lambda documents: f"[{between.join(map(write, documents))}]\n".encode()


def pretty(documents: Sequence[dict[str, Any]]) -> bytes:
    """One array over many lines."""
    return json.dumps([json.loads(canonical(each)) for each in documents], indent=2, ensure_ascii=False).encode()


def mixed(documents: Sequence[dict[str, Any]]) -> bytes:
    """Lines of all versions in turn."""
    writers = (relaxed, canonical, version_1)
    return "\n".join(writers[place % 3](each) for place, each in enumerate(documents)).encode()


EXPORTS: dict[str, Writer] = {
    ".json": in_lines(relaxed),
    ".jsonl": mixed,
    ".ndjson": in_lines(canonical, "\r\n"),
    ".json.gz": lambda documents: gzip.compress(in_array(version_1)(documents)),
    ".jsonl.gz": lambda documents: gzip.compress(b"\xef\xbb\xbf" + in_lines(version_1)(documents)),
    ".ndjson.gz": lambda documents: gzip.compress(pretty(documents)),
}


def exported(collections: Collections, directory: Path, suffix: str, write: Writer) -> None:
    """As `mongoexport` writes collections, a file each."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, documents in collections.items():
        (directory / f"{quote(name, safe='')}{suffix}").write_bytes(write(documents))
