"""Which files hold documents, by their names.

Where they lie is the business of `stored_files`, and what is in them that of `document_framing`.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

BSON_FILES = (".bson", ".bson.gz")
JSON_FILES = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz")
METADATA = (".metadata.json", ".metadata.json.gz")
OF_THE_SERVER = ("prelude.json", "prelude.json.gz", "oplog.bson", "oplog.bson.gz")
SERVERS_OWN = ("admin", "config", "local")
"""Databases of a dump that are the server's."""
NO_DOCUMENTS = ("view", "timeseries")
"""Types of collections whose documents are made from those of others."""


def holds_documents(directory: Path) -> bool:
    """Whether a directory, or a database of a dump in it, is to be read as documents: no CSV lies there."""
    if not directory.is_dir() or any(directory.glob("*.csv")):
        return False
    below = {path.name: _names(path) for path in directory.iterdir() if path.is_dir()}
    return bool(collections_of(_names(directory)) or databases_of(below))


def _names(directory: Path) -> list[str]:
    try:
        return [path.name for path in directory.iterdir() if path.is_file()]
    except OSError:
        return []


def collections_of(names: Iterable[str]) -> dict[str, list[str]]:
    """The files of each collection among the names of the files of one directory."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        suffix = next((each for each in (*BSON_FILES, *JSON_FILES) if name.endswith(each)), None)
        is_other = name.endswith(METADATA) or name in OF_THE_SERVER or name.startswith("system.")
        if suffix and not is_other:
            found.setdefault(unquote(name.removesuffix(suffix)), []).append(name)
    return found


def databases_of(directories: dict[str, list[str]]) -> list[str]:
    """Of a dump of a whole server: those directories, with the names of their files, that are databases."""
    return [
        name
        for name, files in sorted(directories.items())
        if name not in SERVERS_OWN and any(each.endswith(BSON_FILES) for each in files)
    ]


def described(metadata: bytes) -> tuple[str | None, str | None]:
    """What the metadata of a dumped collection say: its name, which the name of a file may cut, and its type."""
    try:
        said = json.loads(metadata)
    except ValueError:
        return None, None
    if not isinstance(said, dict):
        return None, None
    name, kind = said.get("collectionName"), said.get("type")
    return name if isinstance(name, str) else None, kind if isinstance(kind, str) else None
