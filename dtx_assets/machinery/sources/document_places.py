"""Collections in files: a directory of BSON (mongodump) or JSON (mongoexport), an archive of mongodump, the same in S3.

How documents are framed is the business of `document_framing`, what rows they give that of `documents`.
"""

import gzip
import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.document_files import (
    METADATA,
    NO_DOCUMENTS,
    SERVERS_OWN,
    collections_of,
    databases_of,
    described,
)
from dtx_assets.machinery.sources.document_framing import DAMAGED_GZIP, Document, documents, exact_documents, is_bson
from dtx_assets.machinery.sources.documents import (
    DOCUMENTS,
    Collections,
    collection_of,
    columns_of,
    land_documents,
)
from dtx_assets.machinery.sources.landing import Progress, missing_table
from dtx_assets.machinery.sources.mongo_archive import Archive, ArchivedCollection
from dtx_assets.machinery.sources.stored_files import Files, FileState

LARGEST_METADATA = 1 << 20
FORM = 5
"""What lands documents alike; another one lands them again."""


@dataclass(frozen=True)
class FileCollection:
    """The documents of one file of this machine."""

    path: Path
    shown: str

    @property
    def has_lines(self) -> bool:
        return not is_bson(self.shown)

    def documents(self) -> Iterator[Document]:
        return documents(self.path, self.shown)

    def exact_documents(self) -> Iterator[bytes]:
        return exact_documents(self.path, self.shown)


class DocumentFiles(Collections):
    """A directory of collections, one file each: the database itself, or a dump with one database in it."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def __enter__(self) -> Self:
        found = collections_of(self._files.names())
        if not found:
            self._files = _one_database(self._files)
            found = collections_of(self._files.names())
        self.where = self._files.where
        self._found, self.not_read = self._named(found)
        for name, files in self._found.items():
            if len(files) > 1:
                raise SourceError(
                    f"the collection {name} is there in {len(files)} forms: {', '.join(files)}",
                    where=self.where,
                    remedy="leave the one that is to be read",
                )
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _named(self, found: dict[str, list[str]]) -> tuple[dict[str, list[str]], dict[str, str]]:
        """The files by the collection's own name, and what is no collection by its type."""
        names, not_read = dict.fromkeys(found, ""), {}
        for file in self._files.names():
            suffix = next((each for each in METADATA if file.endswith(each)), None)
            if suffix is None:
                continue
            (called,) = collections_of([file.removesuffix(suffix) + ".bson"]) or ("",)
            said = self._files.first_bytes(file, LARGEST_METADATA)
            with suppress(*DAMAGED_GZIP):
                name, kind = described(gzip.decompress(said) if suffix.endswith(".gz") else said)
                names[called] = name or called
                if kind in NO_DOCUMENTS and called:
                    not_read[names[called]] = kind
        whole: dict[str, list[str]] = {}
        for called, files in found.items():
            if (name := names[called] or called) not in not_read:
                whole.setdefault(name, []).extend(files)
        return whole, not_read

    def tables(self) -> list[str]:
        return sorted(self._found)

    def _columns(self, table: LegacyTable) -> list[str]:
        name = self._file(table)
        if table.columns:
            with suppress(SourceError), self._files.beginning(name) as path:
                return columns_of(table, FileCollection(path, self._files.shown(name)))
            # The first document may be longer than the beginning.
        with self._files.local(name) as path:
            return columns_of(table, FileCollection(path, self._files.shown(name)))

    def stored_bytes(self, tables: Collection[LegacyTable]) -> int:
        names = (name for table in tables for name in self._found.get(collection_of(table), ()))
        return sum(self._files.state(name).size for name in names)

    def _file(self, table: LegacyTable) -> str:
        collection = collection_of(table)
        if collection not in self._found:
            raise missing_table(collection, self.where, self.tables())
        return self._found[collection][0]

    def _extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None
    ) -> Manifest:
        name = self._file(table)
        shown, before = self._files.shown(name), self._files.state(name)
        if before.version and (landed := landed_already(lake, key, table, shown, {"source_version": before.version})):
            return landed
        with self._files.local(name) as path:
            digest = _digest(path, shown)
            if landed := landed_already(lake, key, table, shown, {"source_digest": digest}):
                return landed
            collection = FileCollection(path, shown)

            def facts(_read: int) -> dict[str, Any]:
                _refuse_change(self._files, name, before, shown)
                return file_facts(table, digest, before.version)

            return land_documents(table, collection, lake, key, run_id, facts, progress)


def _one_database(files: Files) -> Files:
    databases = databases_of({name: files.inside(name).names() for name in files.directories()})
    if len(databases) > 1:
        raise several_databases(databases, files.where)
    return files.inside(databases[0]) if databases else files


def several_databases(names: Sequence[str], where: str) -> SourceError:
    return SourceError(
        f"this dump has {len(names)} databases: {', '.join(names)}",
        where=where,
        remedy="give the directory of the one that is to be read, or dump it alone",
    )


class DocumentArchive(Collections):
    """One file that `mongodump --archive` wrote, packed or not."""

    def __init__(self, files: Files, name: str) -> None:
        self._files, self._name = files, name

    def __enter__(self) -> Self:
        self.where = self._files.shown(self._name)
        with ExitStack() as stack:
            self._before = self._files.state(self._name)
            path = stack.enter_context(self._files.local(self._name))
            self._digest = _digest(path, self.where)
            self._archive = stack.enter_context(Archive.opened(path, self.where))
            databases = sorted(self._archive.databases - {*SERVERS_OWN, ""})
            if len(databases) > 1:
                raise several_databases(databases, self.where)
            self._database = databases[0] if databases else ""
            self._stack = stack.pop_all()
        self.not_read = self._archive.not_read(self._database)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    def tables(self) -> list[str]:
        return sorted(self._archive.collections(self._database))

    def _collection(self, table: LegacyTable) -> ArchivedCollection:
        name = collection_of(table)
        if name not in self._archive.collections(self._database):
            raise missing_table(name, self.where, self.tables())
        return self._archive.collection(self._database, name)

    def _columns(self, table: LegacyTable) -> list[str]:
        return columns_of(table, self._collection(table))

    def stored_bytes(self, tables: Collection[LegacyTable]) -> int:
        names = {collection_of(table) for table in tables} & set(self.tables())
        return sum(self._archive.collection(self._database, name).stored_bytes for name in names)

    def _extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None
    ) -> Manifest:
        collection = self._collection(table)
        if landed := landed_already(lake, key, table, collection.shown, {"source_digest": self._digest}):
            return landed

        def facts(_read: int) -> dict[str, Any]:
            _refuse_change(self._files, self._name, self._before, self.where)
            return file_facts(table, self._digest, self._before.version)

        return land_documents(table, collection, lake, key, run_id, facts, progress)


def _digest(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(
            f"{Path(shown).name} cannot be read: {error.strerror or type(error).__name__}",
            where=shown,
            remedy="check the path, and that this account may read it",
        ) from None


def _refuse_change(files: Files, name: str, before: FileState, shown: str) -> None:
    if files.state(name) != before:
        raise SourceError(f"{name} changed while it was read", where=shown, remedy="run again when it is whole")


def file_facts(table: LegacyTable, digest: str, version: str | None) -> dict[str, Any]:
    """What the manifest says of documents from a file, by which an unchanged one is known again."""
    return {
        "source_digest": digest,
        "source_version": version,
        "form": FORM,
        "declared": list(table.columns),
        "of": [table.of, table.each],
    }


def landed_already(
    lake: Lake, key: Sequence[str], table: LegacyTable, shown: str, told: dict[str, str]
) -> Manifest | None:
    """The landing of the same documents with the same columns, where there is one."""
    landed = lake.manifest(key)
    if landed is None:
        return None
    same = {"dialect": DOCUMENTS, "source": shown, "form": FORM, "declared": list(table.columns), **told}
    same["of"] = [table.of, table.each]
    return landed if {name: landed.metadata.get(name) for name in same} == same else None
