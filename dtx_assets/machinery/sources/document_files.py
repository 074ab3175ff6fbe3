"""Which files of a directory hold documents, by their names; what is in them is the business of `documents`."""

from pathlib import Path
from urllib.parse import unquote

BSON_FILES = (".bson", ".bson.gz")
LINE_FILES = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")
JSON_FILES = (*LINE_FILES, ".json", ".json.gz")
NO_DOCUMENTS = (".metadata.json", ".metadata.json.gz")
OF_THE_SERVER = ("prelude.json", "prelude.json.gz", "oplog.bson", "oplog.bson.gz")
SERVERS_OWN = ("admin", "config", "local")
"""Databases of a dump that are the server's."""


def holds_documents(directory: Path) -> bool:
    """Whether a directory, or the one database of a dump in it, is to be read as documents: no CSV lies there."""
    if not directory.is_dir() or any(directory.glob("*.csv")):
        return False
    return bool(document_files(directory) or databases_of_dump(directory))


def document_files(directory: Path) -> dict[str, list[Path]]:
    """The files of each collection."""
    found: dict[str, list[Path]] = {}
    for path in sorted(directory.iterdir()):
        suffix = next((each for each in (*BSON_FILES, *JSON_FILES) if path.name.endswith(each)), None)
        is_other = path.name.endswith(NO_DOCUMENTS) or path.name in OF_THE_SERVER or path.name.startswith("system.")
        if suffix and not is_other and path.is_file():
            found.setdefault(unquote(path.name.removesuffix(suffix)), []).append(path)
    return found


def databases_of_dump(root: Path) -> list[Path]:
    """Of a dump of a whole server: the directories of its databases."""
    return [
        path
        for path in sorted(root.iterdir())
        if path.is_dir()
        and path.name not in SERVERS_OWN
        and any(each.name.endswith(BSON_FILES) for each in path.iterdir())
    ]
