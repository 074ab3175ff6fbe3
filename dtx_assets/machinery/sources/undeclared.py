"""Collections of documents that nobody declared: they are landed whole like the others, in a layer of their own.

Declared collections that are not there are told here, too. What becomes of either is the business of the assets.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from dtx_assets.machinery.base.errors import MigrationError, SourceError
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.base.names import dataset_name
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.documents import collection_of
from dtx_assets.machinery.sources.extended_json import ID
from dtx_assets.machinery.sources.landing import Progress, Source

LAYER = "undeclared"
COLLECTION = "collection"
"""What a collection is that is no view."""


@runtime_checkable
class DocumentSource(Source, Protocol):
    """A source of collections; `not_read` are those whose documents are made from others, by their type."""

    not_read: dict[str, str]


@dataclass(frozen=True)
class Undeclared:
    """What lies beside the declared collections: its type, its documents, or why they cannot be read."""

    name: str
    kind: str
    documents: int | None = None
    error: str | None = None


def refuse_when_none_is_there(tables: Iterable[LegacyTable], found: Sequence[str], where: str) -> None:
    """Raises SourceError where collections are declared, and the source has not one of them."""
    declared = {collection_of(table) for table in tables if table.documents}
    if declared and not declared & set(found):
        raise SourceError(
            f"none of the {len(declared)} declared collections is there",
            where=where,
            remedy=f"check which database or directory is meant; what is there: {', '.join(found) or 'nothing'}",
        )


def land_undeclared(
    source: Source, tables: Iterable[LegacyTable], lake: Lake, system: str, run_id: str, progress: Progress | None
) -> list[Undeclared]:
    """Lands each collection that no table declares, and lists them, with views, by name.

    Of their fields only the id gets a column: there may be as many names as documents.
    """
    declared = {collection_of(table) for table in tables}
    views: dict[str, Any] = source.not_read if isinstance(source, DocumentSource) else {}
    found = [Undeclared(name, kind) for name, kind in views.items()]
    for name in source.tables():
        if name in declared:
            continue
        table = LegacyTable(name, "", (ID,), key=(ID,), documents=True, all_personal=True)
        try:
            manifest = source.extract(table, lake, (system, LAYER, dataset_name(name)), run_id, progress)
        except MigrationError as error:
            found.append(Undeclared(name, COLLECTION, error=str(error)))
        else:
            found.append(Undeclared(name, COLLECTION, manifest.tables["rows"].rows))
    return sorted(found, key=lambda each: each.name)
