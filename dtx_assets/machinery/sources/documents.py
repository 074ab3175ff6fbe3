"""Documents as legacy tables: the rows that a collection gives, and what is told of it.

A collection is a table and a document a row: a text column a field, which holds its value in canonical Extended JSON
(NULL where the field is missing, `null` where it is null), beside what no column names (`_rest`), the types of the
fields (`_types`), the exact bytes (`_bson` in base64, and `_line` of JSON) and why a document has no value
(`_unreadable`). An array of documents may be a table of its own, a row an element, in their order. Where collections
lie is the business of `document_places` and `mongo_server`, what a value says that of `extended_json`, and what flows
read of it that of `frames`.
"""

import base64
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.document_columns import columns_of as columns_of_bson
from dtx_assets.machinery.sources.document_framing import Document
from dtx_assets.machinery.sources.document_framing import document as found_document
from dtx_assets.machinery.sources.extended_json import (
    ID,
    UnreadableDocument,
    canonical,
    decoded_bson,
    encoded,
    id_of_bson,
    id_of_json,
    type_name,
)
from dtx_assets.machinery.sources.landing import (
    DOCUMENTS,
    UNREADABLE,
    Landed,
    Progress,
    batches_of_rows,
    binary_batch,
    bounded,
    land_table,
)

REST, TYPES, BSON, LINE = "_rest", "_types", "_bson", "_line"
OF_DOCUMENTS = (REST, TYPES, BSON, LINE, UNREADABLE)
PARENT, POSITION, VALUE = "_parent", "_position", "_value"
OF_ELEMENTS = (PARENT, POSITION, VALUE, UNREADABLE)

NAMED = 1_000
"""So many undeclared fields are told by name; there may be as many as there are documents."""
COMBINATIONS = 10_000
"""So many combinations of types are remembered at once."""
TOLD_AS = 4
"""About so many times the bytes of a document in BSON are those of its row."""

Histogram = dict[str, dict[str, int]]
"""Of fields: documents by BSON type."""


class Collection(Protocol):
    """Documents that can be read, again and again, in one order."""

    @property
    def shown(self) -> str:
        """Where it lies, as people are told it."""
        ...

    @property
    def has_lines(self) -> bool:
        """Whether the bytes of its documents are JSON."""
        ...

    def documents(self) -> Iterator[Document]:
        """Raises SourceError where the collection cannot be read whole."""
        ...

    def exact_documents(self) -> Iterator[bytes]:
        """The bytes of the same documents, where they are BSON."""
        ...


@dataclass(frozen=True)
class Absent:
    """A collection that is not there, which counts as an empty one."""

    shown: str
    has_lines: bool = False

    def documents(self) -> Iterator[Document]:
        return iter(())

    def exact_documents(self) -> Iterator[bytes]:
        return iter(())


@dataclass(frozen=True)
class Layout:
    """The columns of a table as it is landed; `fields` are those that hold Extended JSON."""

    names: tuple[str, ...]
    fields: tuple[str, ...]


def layout_of(table: LegacyTable, collection: Collection) -> Layout:
    """Of the declared columns; all documents are looked through where none are."""
    declared = [name for name in table.columns if name not in (*OF_DOCUMENTS, *OF_ELEMENTS)]
    fields = declared or _fields(table, collection)
    if table.each is not None:
        named = tuple(name for name in fields if name not in OF_ELEMENTS)
        return Layout((PARENT, POSITION, *named, VALUE, UNREADABLE), (PARENT, *named, VALUE))
    named = tuple(name for name in fields if name not in OF_DOCUMENTS)
    exact = (BSON, LINE) if collection.has_lines else (BSON,)
    return Layout((*named, REST, TYPES, *exact, UNREADABLE), named)


def collection_of(table: LegacyTable) -> str:
    """The collection that the rows of a table come from."""
    return table.of or table.name


def is_absent(table: LegacyTable, found: Container[str]) -> bool:
    """Whether a table is declared as one of documents, and its collection is not there."""
    return table.documents and collection_of(table) not in found


def columns_of(table: LegacyTable, collection: Collection) -> list[str]:
    """The columns that the table has when it is landed, after a first document was asked for."""
    next(collection.documents(), None)
    return list(layout_of(table, collection).names)


def _fields(table: LegacyTable, collection: Collection) -> list[str]:
    """All fields of the documents, or of those among the elements of an array, as they come."""
    found: dict[str, None] = {}
    for document in collection.documents():
        if table.each is None:
            found.update(dict.fromkeys(document.fields))
        elif isinstance(elements := document.fields.get(table.each), list):
            for element in elements:
                if isinstance(element, dict):
                    found.update(dict.fromkeys(element))
    return list(found)


def land_documents(
    table: LegacyTable,
    collection: Collection,
    lake: Lake,
    key: Sequence[str],
    run_id: str,
    facts: Callable[[int], Mapping[str, Any]],
    progress: Progress | None = None,
) -> Manifest:
    """Lands a collection, a page at a time; `facts` of its source is asked with the rows that were read."""
    layout = layout_of(table, collection)
    rows = _Rows(table, collection, layout)

    def all_facts(landed: Landed) -> dict[str, Any]:
        return {
            "dialect": DOCUMENTS,
            "source": collection.shown,
            "source_rows": rows.read,
            "row_count_matches": rows.read == landed.rows,
            "consistent_snapshot": True,
            "changed_while_read": [],
            "fields": list(layout.fields),
            "types": rows.types(),
            "undeclared": sorted(rows.undeclared),
            "undeclared_types": rows.undeclared,
            "undeclared_not_named": rows.not_named,
            "unreadable": rows.unreadable,
            **facts(rows.read),
        }

    return land_table(lake, key, run_id, layout.names, rows.batches(), all_facts, progress)


def _land_absent(
    table: LegacyTable, found: Iterable[str], where: str, lake: Lake, key: Sequence[str], run_id: str
) -> Manifest:
    """Lands a collection that is not there as one without documents; `found` are the names that are."""
    name = collection_of(table)
    collection = Absent(f"{where}, {name}")
    alike = sorted(other for other in found if other.casefold() == name.casefold())
    facts = {"source_digest": None, "absent": True, "alike": alike}
    return land_documents(table, collection, lake, key, run_id, lambda _: facts)


class Collections:
    """A place of collections as a source of tables: a declared one that is not there is one without documents."""

    where: str

    def tables(self) -> list[str]:
        raise NotImplementedError

    def columns(self, table: LegacyTable) -> list[str]:
        """The columns that the table has when it is landed."""
        if is_absent(table, self.tables()):
            return columns_of(table, Absent(self.where))
        return self._columns(table)

    def extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None = None
    ) -> Manifest:
        """Lands the table; SourceError where its collection cannot be read whole, or is neither there nor declared."""
        if is_absent(table, self.tables()):
            return _land_absent(table, self.tables(), self.where, lake, key, run_id)
        return self._extract(table, lake, key, run_id, progress)

    def _columns(self, table: LegacyTable) -> list[str]:
        raise NotImplementedError

    def _extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None
    ) -> Manifest:
        raise NotImplementedError


class _Rows:
    """The rows of a table, and what is counted of them."""

    def __init__(self, table: LegacyTable, collection: Collection, layout: Layout) -> None:
        self.table, self.collection, self.layout = table, collection, layout
        self.declared = frozenset(layout.fields)
        self.read = self.unreadable = self.not_named = 0
        self.undeclared: Histogram = {}
        self._declared: dict[str, Counter[str]] = {name: Counter() for name in layout.fields if name not in OF_ELEMENTS}
        self._combinations: Counter[tuple[str, ...]] = Counter()
        self._told: dict[tuple[str, ...], bytes] = {}

    def batches(self) -> Iterator[pa.RecordBatch]:
        if self.table.each or self.collection.has_lines:
            yield from batches_of_rows(self.one_by_one(), self.layout.names)
            return
        for together in bounded(self.collection.exact_documents(), lambda data: len(data) * TOLD_AS):
            yield binary_batch(column.cast(pl.Binary) for column in self._in_columns(together))

    def one_by_one(self) -> Iterator[list[bytes | None]]:
        for document in self.collection.documents():
            for row in self._elements(document) if self.table.each else [self._row(document)]:
                yield self._counted(row)

    def _counted(self, row: Mapping[str, bytes | None]) -> list[bytes | None]:
        self.read += 1
        self.unreadable += row.get(UNREADABLE) is not None
        return [row.get(name) for name in self.layout.names]

    def _in_columns(self, documents: Sequence[bytes]) -> list[pl.Series]:
        """The columns of documents in BSON; a document that is odd is read by itself."""
        found = columns_of_bson(documents, self.layout.fields)
        columns = {
            **found.values,
            REST: found.rest,
            TYPES: found.types,
            BSON: pl.Series(documents, dtype=pl.Binary).bin.encode("base64"),
            UNREADABLE: pl.Series([None], dtype=pl.String).new_from_index(0, len(documents)),
        }
        alone: list[list[bytes | None]] = []
        undeclared = deque(found.undeclared)
        (odd,) = np.nonzero(found.odd)
        for number in (*odd.tolist(), len(documents)):
            # In the order of the documents: which fields are told by name depends on it.
            while undeclared and undeclared[0][0] < number:
                _, name, kind, count = undeclared.popleft()
                self._count(name, kind, count)
            if number < len(documents):
                alone.append(self._counted(self._row(found_document(documents[number], decoded_bson))))
        for name, counts in found.counts.items():
            self._declared[name].update(counts)
        self.read += len(documents) - len(odd)
        if not alone:
            return [columns[name] for name in self.layout.names]
        place = np.arange(len(documents))
        place[odd] = len(documents) + np.arange(len(odd))
        return [
            pl.concat([columns[name], pl.Series(values, dtype=pl.Binary).cast(pl.String)]).gather(pl.Series(place))
            for name, values in zip(self.layout.names, zip(*alone, strict=True), strict=True)
        ]

    def types(self) -> Histogram:
        """Of the declared fields, those that occur nowhere too."""
        self._fold()
        return {name: dict(sorted(counted.items())) for name, counted in self._declared.items()}

    def _fold(self) -> None:
        for combination, count in self._combinations.items():
            for name, kind in zip(combination[::2], combination[1::2], strict=True):
                self._declared[name][kind] += count
        self._combinations.clear()
        self._told.clear()

    def _types_told(self, named: Mapping[str, Any]) -> bytes:
        """The types of the declared fields of a document, which are counted."""
        combination = tuple(part for name, value in named.items() for part in (name, type_name(value)))
        self._combinations[combination] += 1
        if combination not in self._told:
            if len(self._told) >= COMBINATIONS:
                self._fold()
                self._combinations[combination] = 0
            pairs = dict(zip(combination[::2], combination[1::2], strict=True))
            self._told[combination] = canonical(pairs).encode()
        return self._told[combination]

    def _count_undeclared(self, members: Mapping[str, Any]) -> None:
        for name, value in members.items():
            self._count(name, type_name(value), 1)

    def _count(self, name: str, kind: str, count: int) -> None:
        if name in self.undeclared or len(self.undeclared) < NAMED:
            counted = self.undeclared.setdefault(name, {})
            counted[kind] = counted.get(kind, 0) + count
        else:
            self.not_named += count

    def _row(self, document: Document) -> dict[str, bytes | None]:
        row: dict[str, bytes | None] = {}
        if self.collection.has_lines:
            row[LINE] = document.data
        else:
            row[BSON] = base64.b64encode(document.data)
        if document.problem:
            return self._unreadable(document, row, document.problem.encode())
        try:
            fields = document.fields
            named = {name: fields[name] for name in self.layout.fields if name in fields}
            rest = {name: value for name, value in fields.items() if name not in self.declared}
            values = {name: canonical(value, 2).encode() for name, value in named.items()}
            if rest:
                values[REST] = canonical(rest).encode()
            if self.collection.has_lines:
                values[BSON] = base64.b64encode(encoded(fields))
        except (UnreadableDocument, UnicodeEncodeError) as error:
            return self._unreadable(document, row, _why(error))
        self._count_undeclared(rest)
        row.update(values)
        row[TYPES] = self._types_told(named)
        return row

    def _unreadable(self, document: Document, row: dict[str, bytes | None], why: bytes) -> dict[str, bytes | None]:
        """The row of a document without a value: its bytes, why, and its id where that can be read."""
        row[UNREADABLE] = why
        if ID in self.declared:
            try:
                found = (id_of_json if self.collection.has_lines else id_of_bson)(document.data)
                row[ID] = None if found is None else canonical(found, 2).encode()
            except (UnreadableDocument, UnicodeEncodeError):
                row[ID] = None
        return row

    def _elements(self, document: Document) -> Iterator[dict[str, bytes | None]]:
        """A row an element. What is no array is a row that says so; a field that is missing or null has none."""
        assert self.table.each is not None
        try:
            if document.problem:
                raise UnreadableDocument(document.problem)
            parent = canonical(document.fields[ID], 2).encode() if ID in document.fields else None
            elements = document.fields.get(self.table.each)
            rows = [self._element(element) for element in elements] if isinstance(elements, list) else []
            whole = canonical(elements, 2).encode()
        except (UnreadableDocument, UnicodeEncodeError) as error:
            yield {UNREADABLE: _why(error)}
            return
        if elements is not None and not isinstance(elements, list):
            told = f"{self.table.each} is no array, but {type_name(elements)}"
            yield {PARENT: parent, VALUE: whole, UNREADABLE: told.encode()}
        for position, row in enumerate(rows, 1):
            yield {UNREADABLE: None, PARENT: parent, POSITION: str(position).encode(), **row}

    def _element(self, element: Any) -> dict[str, bytes]:
        members = element if isinstance(element, dict) else {}
        named = {name: members[name] for name in self.layout.fields if name in members}
        values = {name: canonical(value, 4).encode() for name, value in named.items()}
        row = values | {VALUE: canonical(element, 3).encode()}
        self._types_told(named)
        self._count_undeclared({name: value for name, value in members.items() if name not in named})
        return row


def _why(error: Exception) -> bytes:
    if isinstance(error, UnicodeEncodeError):
        return b"holds half of a surrogate pair, which is no text"
    return str(error).encode("utf-8", "backslashreplace")
