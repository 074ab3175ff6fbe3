"""The forms in which the same documents lie on disk: mongodump's directory and archive, mongoexport's files.

A form is written as the tools write it; what is read from it is not here.
"""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from dtx_assets_tests.crm.second_reading_bson import DAY_LAST, Value, compact, extended, iso, read_document
from dtx_assets_tests.crm.ugly_values import encoded, of

Collections = Mapping[str, Sequence[bytes]]
MAGIC, TERMINATOR = b"\x6d\xe2\x99\x81", b"\xff\xff\xff\xff"
DATABASE = "nextcrm"


def write_bytes(path: Path, data: bytes, *, gz: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if gz:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data, mtime=0))
    else:
        path.write_bytes(data)


def metadata_of(collection: str) -> str:
    return json.dumps({"options": {}, "indexes": [], "collectionName": collection, "type": "collection"})


def write_dump(directory: Path, collections: Collections, *, gz: bool = False, has_root: bool = False) -> Path:
    """mongodump's directory; with `has_root` that of the dump, in which the database's lies beside `admin`."""
    database = directory / DATABASE if has_root else directory
    for name, documents in collections.items():
        stem = quote(name, safe=" ")
        write_bytes(database / f"{stem}.bson", b"".join(documents), gz=gz)
        write_bytes(database / f"{stem}.metadata.json", metadata_of(name).encode(), gz=gz)
    write_bytes(database / "prelude.json", b'{"ServerVersion":"7.0.2"}', gz=gz)
    if has_root:
        write_bytes(directory / "admin" / "system.version.bson", b"", gz=gz)
        write_bytes(directory / "oplog.bson", b"", gz=False)
    return directory


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xC96C5795D7870F42 if crc & 1 else 0)
        table.append(crc)
    return table


CRC_TABLE = _table()


def crc64(data: bytes) -> int:
    """ECMA's, as mongodump has it over all documents of a collection; signed, as BSON holds it."""
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFFFFFFFFFF
    return crc - 2**64 if crc >= 2**63 else crc


def write_archive(path: Path, collections: Collections, *, gz: bool = False, seed: int = 0) -> Path:
    """mongodump's archive, the collections' blocks by turns; of a collection the order stays."""
    random = Random(seed)
    parts = [MAGIC, encoded(_values(concurrent_collections=4, version="0.1", server_version="7", tool_version="100"))]
    for name in collections:
        described = _values(db=DATABASE, collection=name, metadata=metadata_of(name), size=0, type="collection")
        parts.append(encoded(described))
    parts.append(TERMINATOR)
    left = {name: list(documents) for name, documents in collections.items()}
    while left:
        name = random.choice(list(left))
        count = random.randint(1, 9)
        taken, left[name] = left[name][:count], left[name][count:]
        if taken:
            parts += [_namespace(name, end=False, crc=0), *taken, TERMINATOR]
        else:
            del left[name]
            parts += [_namespace(name, end=True, crc=crc64(b"".join(collections[name]))), TERMINATOR]
    data = b"".join(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if gz else data)
    return path


def _namespace(name: str, *, end: bool, crc: int) -> bytes:
    [number] = of("long", crc)
    return encoded([*_values(db=DATABASE, collection=name, EOF=end), ("CRC", number)])


def _values(**values: str | int | bool) -> list[tuple[str, Value]]:
    kinds = {str: "string", bool: "bool", int: "int"}
    return [(name, Value(kinds[type(value)], value)) for name, value in values.items()]


STYLES = ("canonical", "relaxed", "v1", "mixture")


def write_export(
    directory: Path,
    collections: Collections,
    *,
    style: str = "canonical",
    layout: str = "lines",
    ending: str = "json",
    gz: bool = False,
) -> Path:
    """mongoexport's files. `style`: one of STYLES; `layout`: lines, array, or array_over_lines.

    Documents that cannot be decoded are no JSON: the caller leaves them out.
    """
    for name, documents in collections.items():
        styles = STYLES[:3] if style == "mixture" else (style,)
        # Of one collection all documents are in one style: identical copies stay identical.
        chosen = styles[sum(name.encode()) % len(styles)]
        structures = [in_style(Value("object", read_document(raw)), chosen) for raw in documents]
        data = laid_out(structures, layout).encode()
        write_bytes(directory / f"{quote(name, safe=' ')}.{ending}", data, gz=gz)
    return directory


def laid_out(structures: Sequence[Any], layout: str) -> str:
    if layout == "lines":
        return "".join(compact(each) + "\n" for each in structures)
    if layout == "array":
        return "[" + ",".join(map(compact, structures)) + "]\n"
    return json.dumps(structures, ensure_ascii=True, indent=2) + "\n"


def in_style(value: Value, style: str) -> Any:
    if style in ("canonical", "relaxed"):
        return extended(value, relaxed=style == "relaxed")
    return _v1(value)


def _v1(value: Value) -> Any:
    """As the tools before 4.2 wrote it."""
    kind, data = value.kind, value.data
    match kind:
        case "object":
            return {name: _v1(member) for name, member in data}
        case "array":
            return [_v1(member) for member in data]
        case "date" if 0 <= data <= DAY_LAST:
            return {"$date": iso(data)[:-1] + "+0000"}
        case "date":
            return {"$date": {"$numberLong": str(data)} if data % 2 else data}
        case "objectId":
            return {"$oid": data.upper()}
        case "long":
            return {"$numberLong": str(data)}
        case "binData":
            return {"$binary": base64.b64encode(data[0]).decode(), "$type": f"{data[1]:02x}"}
    return extended(value, relaxed=True)
