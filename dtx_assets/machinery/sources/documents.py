"""Documents as legacy tables: a directory of BSON (mongodump) or of JSON, one document a line or all in one array.

A collection is a table and a document a row: a text column a field, which holds its value in canonical Extended JSON
(NULL where the field is missing, `null` where it is null), beside what no column names (`_rest`), the types of the
fields (`_types`), the exact bytes (`_bson` in base64, and `_line` of JSON) and why a document has no value
(`_unreadable`). An array of documents may be a table of its own, a row an element, in their order. What a value says is
`extended_json`'s business, and what flows read of it that of `frames`.
"""

import base64
import gzip
import hashlib
import json
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.document_files import (
    BSON_FILES,
    LINE_FILES,
    databases_of_dump,
    document_files,
)
from dtx_assets.machinery.sources.extended_json import (
    NoJson,
    UnreadableDocument,
    canonical,
    decoded_bson,
    decoded_json,
    encoded,
    type_name,
)
from dtx_assets.machinery.sources.landing import (
    DOCUMENTS,
    UNREADABLE,
    Landed,
    Progress,
    batches_of_rows,
    land_table,
    missing_table,
)

REST, TYPES, BSON, LINE = "_rest", "_types", "_bson", "_line"
OF_DOCUMENTS = (REST, TYPES, BSON, LINE, UNREADABLE)
PARENT, POSITION, VALUE = "_parent", "_position", "_value"
OF_ELEMENTS = (PARENT, POSITION, VALUE, UNREADABLE)
ID = "_id"

SMALLEST, LARGEST = 5, 48 << 20
"""Bytes of a BSON document; a server takes 16 MiB from its clients, and a little more from others of its kind."""


@dataclass(frozen=True)
class Document:
    """A document as it was found: its exact bytes, and its fields or why it has none."""

    data: bytes
    fields: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


class DocumentDirectory:
    """A directory of collections, one file each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> Self:
        with _told(self.directory, "the directory"):
            self._found = document_files(self.directory)
            if not self._found and (databases := databases_of_dump(self.directory)):
                if len(databases) > 1:
                    raise SourceError(
                        f"this dump has {len(databases)} databases: {', '.join(path.name for path in databases)}",
                        where=str(self.directory),
                        remedy="give the directory of the one that is to be read",
                    )
                self._found = document_files(databases[0])
        for name, paths in self._found.items():
            if len(paths) > 1:
                raise SourceError(
                    f"the collection {name} is there in {len(paths)} forms: {', '.join(path.name for path in paths)}",
                    where=str(self.directory),
                    remedy="leave the one that is to be read",
                )
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tables(self) -> list[str]:
        return sorted(self._found)

    def columns(self, table: LegacyTable) -> list[str]:
        path = self._file(table)
        return list(_layout(table, path, _fields(table, path)).names)

    def stored_bytes(self, tables: Collection[LegacyTable]) -> int:
        paths = (path for table in tables for path in self._found.get(table.of or table.name, ()))
        return sum(path.stat().st_size for path in paths)

    def _file(self, table: LegacyTable) -> Path:
        collection = table.of or table.name
        if collection not in self._found:
            raise missing_table(collection, str(self.directory), self.tables())
        return self._found[collection][0]

    def extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None = None
    ) -> Manifest:
        path = self._file(table)
        with _told(path, table.name):
            digest = _digest(path)
            declared = [name for name in table.columns if name not in (*OF_DOCUMENTS, *OF_ELEMENTS)]
            layout = _layout(table, path, declared or _fields(table, path))
            rows = _Rows(table, path, layout)

            def facts(landed: Landed) -> dict[str, Any]:
                if _digest(path) != digest:
                    raise SourceError(
                        f"{table.name} changed while it was read", where=str(path), remedy="run again when it is whole"
                    )
                return {
                    "dialect": DOCUMENTS,
                    "source": str(path),
                    "source_digest": digest,
                    "source_rows": rows.read,
                    "row_count_matches": rows.read == landed.rows,
                    "consistent_snapshot": True,
                    "changed_while_read": [],
                    "fields": list(layout.fields),
                    "undeclared": sorted(rows.undeclared),
                    "unreadable": rows.unreadable,
                }

            return land_table(lake, key, run_id, layout.names, batches_of_rows(rows, layout.names), facts, progress)


@dataclass(frozen=True)
class _Layout:
    """The columns of a table as it is landed; `fields` are those that hold Extended JSON."""

    names: tuple[str, ...]
    fields: tuple[str, ...]


def _layout(table: LegacyTable, path: Path, fields: Sequence[str]) -> _Layout:
    if table.each is not None:
        named = tuple(name for name in fields if name not in OF_ELEMENTS)
        return _Layout((PARENT, POSITION, *named, VALUE, UNREADABLE), (PARENT, *named, VALUE))
    named = tuple(name for name in fields if name not in OF_DOCUMENTS)
    exact = (BSON,) if path.name.endswith(BSON_FILES) else (BSON, LINE)
    return _Layout((*named, REST, TYPES, *exact, UNREADABLE), named)


def _fields(table: LegacyTable, path: Path) -> list[str]:
    """All fields of the documents, or of those among the elements of an array, as they come."""
    found: dict[str, None] = {}
    for document in documents(path):
        if table.each is None:
            found.update(dict.fromkeys(document.fields))
        elif isinstance(elements := document.fields.get(table.each), list):
            for element in elements:
                if isinstance(element, dict):
                    found.update(dict.fromkeys(element))
    return list(found)


class _Rows:
    """The rows of a table, and how many there were."""

    def __init__(self, table: LegacyTable, path: Path, layout: _Layout) -> None:
        self.table, self.path, self.layout = table, path, layout
        self.read = self.unreadable = 0
        self.undeclared: set[str] = set()

    def __iter__(self) -> Iterator[list[bytes | None]]:
        for document in documents(self.path):
            for row in self._elements(document) if self.table.each else [self._row(document)]:
                self.read += 1
                self.unreadable += row[UNREADABLE] is not None
                yield [row.get(name) for name in self.layout.names]

    def _row(self, document: Document) -> dict[str, bytes | None]:
        is_bson = self.path.name.endswith(BSON_FILES)
        row: dict[str, bytes | None] = {UNREADABLE: None, LINE: document.data}
        if is_bson:
            row[BSON] = base64.b64encode(document.data)
        if document.problem:
            return row | {UNREADABLE: document.problem.encode()}
        try:
            named = {name: document.fields[name] for name in self.layout.fields if name in document.fields}
            rest = {name: value for name, value in document.fields.items() if name not in named}
            self.undeclared.update(rest)
            row |= {name: canonical(value, 2).encode() for name, value in named.items()}
            if not is_bson:
                row[BSON] = base64.b64encode(encoded(document.fields))
            types = canonical({name: type_name(value) for name, value in named.items()}).encode()
            return row | {REST: canonical(rest).encode() if rest else None, TYPES: types}
        except (UnreadableDocument, UnicodeEncodeError) as error:
            return {name: row.get(name) for name in (BSON, LINE)} | {UNREADABLE: _why(error)}

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
        self.undeclared.update(members.keys() - named.keys())
        values = {name: canonical(value, 4).encode() for name, value in named.items()}
        return values | {VALUE: canonical(element, 3).encode()}


def _why(error: Exception) -> bytes:
    if isinstance(error, UnicodeEncodeError):
        return b"holds half of a surrogate pair, which is no text"
    return str(error).encode("utf-8", "backslashreplace")


# --- files ------------------------------------------------------------------------------------------------------------


def documents(path: Path) -> Iterator[Document]:
    """The documents of a file in their order. Raises SourceError, with the place, for a file that is not whole."""
    with _told(path, "the file"), _opened(path) as stream:
        if path.name.endswith(BSON_FILES):
            yield from _of_bson(stream, path)
        elif path.name.endswith(LINE_FILES) or not _is_array(path):
            yield from _of_lines(stream, path)
        else:
            yield from _of_array(stream, path)


def _opened(path: Path) -> Any:
    """A stream of bytes, unpacked."""
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")


def _is_array(path: Path) -> bool:
    with _opened(path) as stream:
        return stream.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _of_bson(stream: IO[bytes], path: Path) -> Iterator[Document]:
    offset = 0
    while head := stream.read(4):
        size = int.from_bytes(head, "little", signed=True)
        if len(head) == 4 and not SMALLEST <= size <= LARGEST:
            raise _broken(path, f"a document cannot have {size:,} bytes", f"byte {offset:,}")
        rest = stream.read(size - 4) if len(head) == 4 else b""
        data = head + rest
        if len(data) < max(size, SMALLEST):
            raise _broken(path, "the last document is cut off", f"byte {offset:,}")
        if data[-1]:
            raise _broken(path, "a document does not end where it says", f"byte {offset:,}")
        yield _document(data, decoded_bson)
        offset += size


def _of_lines(stream: IO[bytes], path: Path) -> Iterator[Document]:
    for number, found in enumerate(stream, 1):
        line = found.removeprefix(b"\xef\xbb\xbf") if number == 1 else found
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if line.strip():
            try:
                yield _document(line, lambda data: decoded_json(_text(data)))
            except NoJson as error:
                raise _broken(path, f"the line is no JSON ({error})", f"line {number:,}") from None


def _of_array(stream: IO[bytes], path: Path) -> Iterator[Document]:
    data = stream.read().removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _broken(path, "the file is no UTF-8", f"byte {error.start:,}") from None
    decoder, blanks = json.JSONDecoder(parse_int=str, parse_float=str), " \t\r\n"

    def after_blanks(place: int) -> int:
        while place < len(text) and text[place] in blanks:
            place += 1
        return place

    place = after_blanks(after_blanks(0) + 1)
    separator = "]" if text[place : place + 1] == "]" else ","
    while separator == ",":
        try:
            _, end = decoder.raw_decode(text, place)
            document = _document(text[place:end].encode(), lambda found: decoded_json(found.decode()))
        except (ValueError, RecursionError):
            raise _broken(path, "the array is no JSON", f"line {text.count(chr(10), 0, place) + 1:,}") from None
        yield document
        end = after_blanks(end)
        separator, place = text[end : end + 1], after_blanks(end + 1)
    if separator != "]" or place < len(text):
        raise _broken(path, "the array does not end", f"line {text.count(chr(10), 0, place) + 1:,}")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UnreadableDocument("holds bytes that are no UTF-8") from None


def _document(data: bytes, decode: Any) -> Document:
    try:
        return Document(data, decode(data))
    except UnreadableDocument as error:
        return Document(data, problem=str(error))


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _broken(path: Path, what: str, where: str) -> SourceError:
    return SourceError(
        f"{path.name} cannot be read whole: {what}",
        where=f"{path}, {where}",
        remedy="dump or export the collection again, and copy it whole; nothing of it was taken over",
    )


@contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _broken(path, f"its gzip is cut off or damaged ({error})", "gzip") from None
    except OSError as error:
        raise SourceError(
            f"{what} cannot be read: {error.strerror or type(error).__name__}",
            where=str(path),
            remedy="check the path, and that this account may read it",
        ) from None
