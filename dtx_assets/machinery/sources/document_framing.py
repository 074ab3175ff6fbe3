"""Documents one after another in a stream of bytes: how BSON, lines of JSON and arrays of JSON are framed.

A stream that is not whole is a SourceError with the place; a document that is framed well and says nothing that can be
kept is a `Document` with its problem. What a document says is `extended_json`'s business. Memory is bounded by the
largest document.
"""

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any, NoReturn

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.sources.document_files import BSON_FILES
from dtx_assets.machinery.sources.extended_json import NoJson, UnreadableDocument, decoded_bson, decoded_json

SMALLEST, LARGEST = 5, 48 << 20
"""Bytes of a BSON document; a server takes 16 MiB from its clients, and a little more from others of its kind."""
LARGEST_JSON = 4 * LARGEST
"""Bytes of a document in JSON, which may be longer than in BSON."""
READ_AT_ONCE = 1 << 20
MARK = codecs.BOM_UTF8
NO_UTF8 = "surrogateescape"
"""How bytes that are no UTF-8 go through a text, and come out as they were."""
BLANKS = b" \t\r\n"
DAMAGED_GZIP = (gzip.BadGzipFile, EOFError, zlib.error)


@dataclass(frozen=True)
class Document:
    """A document as it was found: its exact bytes, and its fields or why it has none."""

    data: bytes
    fields: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


def documents(path: Path, shown: str) -> Iterator[Document]:
    """The documents of a file in their order; `shown` is what messages call it. Raises SourceError."""
    with _whole(path, shown) as stream:
        yield from (of_bson if is_bson(shown) else of_json)(stream, shown)


def exact_documents(path: Path, shown: str) -> Iterator[bytes]:
    """The bytes of each document of a file of BSON, in their order. Raises SourceError."""
    with _whole(path, shown) as stream:
        yield from framed_documents(stream, shown)


@contextmanager
def _whole(path: Path, shown: str) -> Iterator[Any]:
    with told(shown, Path(shown).name), opened(path) as stream:
        try:
            yield stream
        except DAMAGED_GZIP as error:
            broken(shown, f"its gzip is cut off or damaged ({error}), behind {stream.tell():,} unpacked bytes", "gzip")


def is_bson(name: str) -> bool:
    return name.endswith(BSON_FILES)


def opened(path: Path) -> Any:
    """A stream of bytes, unpacked where the name says that the file is packed."""
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")


# --- BSON -------------------------------------------------------------------------------------------------------------


def of_bson(stream: BufferedIOBase, shown: str) -> Iterator[Document]:
    return (document(data, decoded_bson) for data in framed_documents(stream, shown))


def framed_documents(stream: BufferedIOBase, shown: str) -> Iterator[bytes]:
    """The bytes of each document of a stream."""
    held, place, before = b"", 0, 0
    while True:
        left = len(held) - place
        size = int.from_bytes(held[place : place + 4], "little", signed=True) if left >= 4 else 4
        if left >= 4 and not SMALLEST <= size <= LARGEST:
            broken(shown, f"a document cannot have {size:,} bytes", f"byte {before + place:,}")
        if left < size:
            # Of a packed file no more is asked for than comes at once: what lies before the damage is whole.
            read = stream.read1(max(READ_AT_ONCE, size - left))
            if not read:
                if left:
                    broken(shown, "the last document is cut off", f"byte {before + place:,}")
                return
            held, before, place = held[place:] + read, before + place, 0
            continue
        if held[place + size - 1]:
            broken(shown, "a document does not end where it says", f"byte {before + place:,}")
        yield held[place : place + size]
        place += size


# --- JSON -------------------------------------------------------------------------------------------------------------


def of_json(stream: IO[bytes], shown: str) -> Iterator[Document]:
    """The documents of a stream that holds one a line, or one array of them; which of both, its beginning says."""
    start = b""
    while (read := stream.read(READ_AT_ONCE)) and not (start + read).removeprefix(MARK).strip(BLANKS):
        start += read
        if len(start) > LARGEST_JSON:
            broken(shown, "it begins with more blanks than a document has bytes", "line 1")
    start += read
    is_array = start.removeprefix(MARK).lstrip(BLANKS).startswith(b"[")
    yield from (_of_array if is_array else _of_lines)(start, stream, shown)


def _of_lines(start: bytes, stream: IO[bytes], shown: str) -> Iterator[Document]:
    number, read, held = 0, start.removeprefix(MARK), [b""]
    while read:
        first, *others = read.split(b"\n")
        held.append(first)
        for following in others:
            number += 1
            yield from _of_line(b"".join(held), number, shown)
            held = [following]
        if sum(map(len, held)) > LARGEST_JSON:
            broken(shown, "a line is longer than a document can be", f"line {number + 1:,}")
        read = stream.read(READ_AT_ONCE)
    yield from _of_line(b"".join(held), number + 1, shown)


def _of_line(line: bytes, number: int, shown: str) -> Iterator[Document]:
    line = line.removesuffix(b"\r")
    if line.strip(BLANKS):
        try:
            yield document(line, lambda data: decoded_json(_text(data)))
        except NoJson as error:
            broken(shown, f"the line is no JSON ({error})", f"line {number:,}")


def _of_array(start: bytes, stream: IO[bytes], shown: str) -> Iterator[Document]:
    reading = _ArrayReading(start, stream, shown)
    reading.take("[")
    if reading.sign() != "]":
        while True:
            where = reading.where()
            try:
                yield document(reading.element(), lambda data: decoded_json(_text(data)))
            except NoJson:
                broken(shown, "the array is no JSON", where)
            if reading.sign() != ",":
                break
            reading.take(",")
            reading.sign()
    if reading.sign() != "]":
        broken(shown, "the array does not end", reading.where())
    reading.take("]")
    if reading.sign():
        broken(shown, "the array does not end", reading.where())


class _ArrayReading:
    """An array of JSON in a stream: no more of it is held than the largest of its elements takes."""

    DECODER = json.JSONDecoder(parse_int=str, parse_float=str)

    def __init__(self, start: bytes, stream: IO[bytes], shown: str) -> None:
        self.shown, self._stream = shown, stream
        self._line, self._text, self._place, self._ended = 1, "", 0, False
        # What is no UTF-8 is one element's fault, as it is one line's.
        self._utf8 = codecs.getincrementaldecoder("utf-8")(NO_UTF8)
        self._decode(start.removeprefix(MARK))

    def _decode(self, data: bytes) -> None:
        self._text += self._utf8.decode(data, final=not data)

    def _more(self) -> bool:
        """Drops what was taken and reads as much again as is left; whether there was any more."""
        if self._ended:
            return False
        self._line += self._text.count("\n", 0, self._place)
        self._text, self._place = self._text[self._place :], 0
        if len(self._text) > LARGEST_JSON:
            broken(self.shown, "the array is no JSON, or holds a document that is too large", self.where())
        data = self._stream.read(max(READ_AT_ONCE, len(self._text)))
        self._ended = not data
        self._decode(data)
        return True

    def where(self) -> str:
        return f"line {self._line + self._text.count(chr(10), 0, self._place):,}"

    def sign(self) -> str:
        """The next character that is no blank, empty at the end; it is not taken."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in " \t\r\n":
                self._place += 1
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._more():
                return ""

    def take(self, sign: str) -> None:
        """Goes on behind a sign that is there."""
        if self.sign() == sign:
            self._place += 1

    def element(self) -> bytes:
        """The element that begins here, byte by byte."""
        while True:
            end = self._end()
            # A number may go on in what was not read yet.
            if end is not None and (end < len(self._text) or self._ended):
                text, self._place = self._text[self._place : end], end
                return text.encode("utf-8", NO_UTF8)
            if not self._more():
                broken(self.shown, "the array is no JSON", self.where())

    def _end(self) -> int | None:
        try:
            return self.DECODER.raw_decode(self._text, self._place)[1]
        except RecursionError:
            return _end_of_nested(self._text, self._place)
        except ValueError:
            return None


NESTING = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)


def _end_of_nested(text: str, start: int) -> int | None:
    """Where an object or array ends that is nested too deeply to be read; None where it does not."""
    depth = 0
    for sign in NESTING.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(sign[0], 0)
        if not depth:
            return sign.end()
    return None


# --- what is told -----------------------------------------------------------------------------------------------------


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UnreadableDocument("holds bytes that are no UTF-8") from None


def document(data: bytes, decode: Callable[[bytes], dict[str, Any]]) -> Document:
    """A document, with its problem where it cannot be decoded."""
    try:
        return Document(data, decode(data))
    except UnreadableDocument as error:
        return Document(data, problem=str(error))


def broken(shown: str, what: str, where: str) -> NoReturn:
    """Raises the SourceError of a file that is not whole."""
    raise SourceError(
        f"{Path(shown).name} cannot be read whole: {what}",
        where=f"{shown}, {where}",
        remedy="dump or export the collection again, and copy it whole; nothing of it was taken over",
    ) from None


@contextmanager
def told(shown: str, what: str) -> Iterator[None]:
    """What the operating system refuses is told as a SourceError."""
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{what} cannot be read: {error.strerror or type(error).__name__}",
            where=shown,
            remedy="check the path, and that this account may read it",
        ) from None
