r"""Whether a CSV file without escapes is just RFC 4180, found while another reader reads it, a block at a time.

Arrow's reader and Python's take what is no CSV: text after a closing quote, line ends of two kinds. What they would
alter is refused here, with its line; a quote inside a field that does not start with one is an ordinary character.
"""

import codecs
import csv
import hashlib
import io
import mmap
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.sources.csv_dialect import LINE_ENDS, CsvDialect
from dtx_assets.machinery.sources.csv_escapes import LINE_BREAK, Escapes

Fault = Callable[[str, str, int], SourceError]
"""Makes the error: what, remedy, line."""

CLOSE_IT = 'close it, and write a quote within a quoted field as ""'
BACKSLASHES = (
    r"where MySQL's INTO OUTFILE, mysqldump --tab or phpMyAdmin wrote it, say that its quotes are escaped by"
    r' backslashes: `escape: "\\"` in its dialect (docs/csv-dialects.md)'
)


class Watched:
    """A file as its reader sees it: digest, size, quotes and line ends of what was read so far.

    Arrow reads ahead in a thread of its own, and goes on for a while after it was told to stop.
    """

    def __init__(self, path: Path, dialect: CsvDialect) -> None:
        self._stream = path.open("rb", buffering=0)
        self._grammar = Grammar(dialect)
        self._escapes = Escapes(dialect) if dialect.escape else None
        self._lock = Lock()
        self._digest = hashlib.sha256()
        self._waiting = b""
        # What is not looked at yet, after the byte before it: a line may start at the beginning.
        self._rest = b"\n"
        self._ends_a_line = True
        self.line_ends = dict.fromkeys(LINE_ENDS, 0)
        self.bytes = 0
        self.is_regular = True
        """Whether every quote stands at an end of its field, or is doubled within it; else nothing was counted."""
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """The next bytes, as they are when nothing is escaped."""
        text = self._waiting
        while not text:
            with self._lock:
                block = b"" if self.closed else self._stream.read(size)
            self._digest.update(block)
            text = self._escapes.taken_from(block) if self._escapes else block
            self._look_at(text if self.bytes else text.removeprefix(codecs.BOM_UTF8))
            self.bytes += len(block)
            if not block:
                break
        if size < 0:
            size = len(text)
        self._waiting = text[size:]
        return text[:size] if self._waiting else text

    def _look_at(self, block: bytes) -> None:
        if not block or not self.is_regular:
            return
        text, grammar = self._rest + block, self._grammar
        end = len(text)
        if quoted := grammar.quote and text.find(grammar.quote, 1) != -1:
            regular = grammar.regular.match(text, 1)
            end = regular.end() if regular else 1
            if end < len(text) and not grammar.opened_field.match(text, end):
                self.is_regular = False
                return
        elif block.endswith(b"\r"):
            end -= 1
        self._count(text, end, quoted=bool(quoted))
        self._rest = text[end - 1 :]

    def _count(self, text: bytes, end: int, *, quoted: bool) -> None:
        """Counts the line ends outside of quotes."""
        if quoted:
            found = self._grammar.line_end.findall(text, 1, end)
            for line_end in LINE_ENDS:
                self.line_ends[line_end] += found.count(line_end)
        else:
            returns = text.count(b"\r", 1, end)
            pairs = text.count(b"\r\n", 1, end) if returns else 0
            self.line_ends[b"\n"] += text.count(b"\n", 1, end) - pairs
            self.line_ends[b"\r"] += returns - pairs
            self.line_ends[b"\r\n"] += pairs
        self._ends_a_line = text[end - 1 : end] in (b"\n", b"\r")

    def finish(self) -> None:
        """Looks at what was waiting for more; to be called when all was read."""
        rest, self._rest = self._rest, b"\n"
        if len(rest) > 1:
            self.is_regular &= rest == b"\n\r" or rest[1:] == b"\r" or bool(self._grammar.whole_field.match(rest, 1))
            self._ends_a_line = rest.endswith(b"\r")
            self.line_ends[b"\r"] += self._ends_a_line

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        with self._lock:
            self.closed = True
            self._stream.close()

    @property
    def is_sound(self) -> bool:
        """Whether nothing of it has to be looked at again: regular, all quotes closed, line ends of one kind."""
        return self.is_regular and sum(map(bool, self.line_ends.values())) <= 1

    @property
    def lines(self) -> int:
        """Lines outside of quotes, the last one too where nothing ends it."""
        return sum(self.line_ends.values()) + (not self._ends_a_line)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


class Unescaped(io.RawIOBase):
    """What is read of a watched file, as a stream of Python."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._watched.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._watched.close()
        super().close()


@dataclass(frozen=True)
class Record:
    """Where a record is: the offsets of its first byte and of the one after its line end."""

    start: int
    end: int
    line_end: bytes

    @property
    def is_empty(self) -> bool:
        return self.end - self.start == len(self.line_end)


class Grammar:
    """RFC 4180 as expressions over bytes, with a delimiter and a quote of one's own."""

    def __init__(self, dialect: CsvDialect) -> None:
        self.quote = dialect.quote.encode() if dialect.quote else b""
        delimiter, quote = re.escape(dialect.delimiter.encode()), re.escape(self.quote)
        plain = rb"[^" + delimiter + rb"\r\n]*+"
        edge = rb"[" + delimiter + rb"\r\n]"
        within = rb"[^" + quote + rb"]*+"
        opened = quote + within + rb"(?:" + quote * 2 + within + rb")*+"
        blanks = b"".join(re.escape(blank) for blank in (b" ", b"\t") if blank != dialect.delimiter.encode())
        before_quote = rb"(?:[" + blanks + rb"]++|" + codecs.BOM_UTF8 + rb")" + quote
        field = plain
        if quote:
            field = rb"(?:" + opened + quote + rb"|(?!" + quote + rb"|" + before_quote + rb")" + plain + rb")"
        self.record = re.compile(field + rb"(?:" + delimiter + field + rb")*+(\r\n|\n|\r|\Z)")
        self.fields = re.compile(rb"(?:" + field + delimiter + rb")*+")
        if not quote:
            return
        self.opened, self.before_quote = re.compile(opened), re.compile(before_quote)
        # By the byte before it, so that what holds no quote is passed over in one go.
        opened = rb"(?<=" + edge + rb")" + opened
        self.regular = re.compile(rb"(?:[^" + quote + rb"]++|" + opened + quote + rb"(?=" + edge + rb"))*+")
        self.opened_field = re.compile(opened + quote + rb"?\Z")
        self.whole_field = re.compile(opened + quote + rb"\Z")
        between = rb"[^" + quote + rb"\r\n]*+"
        self.line_end = re.compile(between + rb"(?:" + quote + within + quote + between + rb")*+(\r\n|\n|\r)")


def records(path: Path, dialect: CsvDialect, fault: Fault) -> Iterator[Record]:
    """The records of a file; the first thing in it that is not RFC 4180 is an error."""
    grammar = Grammar(dialect)
    with path.open("rb") as stream:
        if not path.stat().st_size:
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = len(codecs.BOM_UTF8) if content[:3] == codecs.BOM_UTF8 else 0
            while start < len(content):
                found = grammar.record.match(content, start)
                if found is None:
                    raise _not_csv(content, start, grammar, dialect, fault)
                yield Record(start, found.end(), found[1])
                start = found.end()


def refuse_what_is_altered(path: Path, dialect: CsvDialect, fault: Fault) -> None:
    """Raises SourceError at the first place that is not RFC 4180, or where a line ends as no other one does."""
    first: Record | None = None
    for record in records(path, dialect, fault):
        first = first or record
        if record.line_end and record.line_end != first.line_end:
            line = line_at(path, record.start)
            or_say = r', or say which one ends a line, as `line_end: "\n"` in its dialect' if dialect.escape else ""
            if b"\r" in (record.line_end, first.line_end):
                raise fault(
                    "a carriage return stands in a field that is not quoted",
                    "quote fields that hold a line break, and export the table again" + or_say,
                    line if record.line_end == b"\r" else 1,
                )
            raise fault(
                f"a line ends in {LINE_ENDS[record.line_end]}, where the first one ends in "
                f"{LINE_ENDS[first.line_end]}: nobody knows what belongs to the last value",
                "let all lines end in LF or all in CRLF, and quote fields that hold a line break" + or_say,
                line,
            )


def line_at(path: Path, offset: int) -> int:
    """The number, from 1, of the line that an offset is in."""
    with path.open("rb") as stream:
        return line_in(stream.read(offset))


def line_in(before: bytes) -> int:
    """The number of the line that follows some text: where there are no line feeds, carriage returns end lines."""
    return (before.count(b"\n") + before.count(LINE_BREAK) or before.count(b"\r")) + 1


def _not_csv(content: mmap.mmap, start: int, grammar: Grammar, dialect: CsvDialect, fault: Fault) -> SourceError:
    """What is wrong with the record that starts there."""
    before = grammar.fields.match(content, start)
    place = before.end() if before else start
    if grammar.before_quote.match(content, place):
        line = line_in(content[:place])
        if content[place : place + 3] == codecs.BOM_UTF8:
            return fault(
                "a byte-order mark stands before a quote in the middle of the file, as where files were joined",
                "join them without their marks and header lines, and export again",
                line,
            )
        return fault(
            "a blank stands before a quote, and the field would hold both",
            "take the blanks beside delimiters away, or quote the whole field",
            line,
        )
    opened = grammar.opened.match(content, place)
    closing = opened.end() if opened else place
    if closing >= len(content):
        return fault(
            "a quote is opened and never closed, in the record that starts here", CLOSE_IT, line_in(content[:start])
        )
    escaped = content[closing - 1 : closing] == b"\\"
    opened_in, line = line_in(content[:place]), line_in(content[:closing])
    what = "text stands after a closing quote"
    if escaped:
        what += ", and a backslash before it: quotes are escaped by backslashes, as MySQL writes them"
    elif opened_in != line:
        what += f", of a field that begins in line {opened_in:,}"
    return fault(what, f'write a quote within a quoted field as "", and export the table again; {BACKSLASHES}', line)


@contextmanager
def python_reader(path: Path, dialect: CsvDialect) -> Iterator[Any]:
    """Python's own reader over the bytes of a file, each as one character, without a byte-order mark."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        binary = io.BufferedReader(Unescaped(Watched(path, dialect))) if dialect.escape else path.open("rb")
        with io.TextIOWrapper(binary, encoding="latin-1", newline="") as stream:

            def lines() -> Iterator[str]:
                # A mark before a quote would make the quote an ordinary character.
                yield from (line.removeprefix(codecs.BOM_UTF8.decode("latin-1")) for line in islice(stream, 1))
                yield from stream

            yield csv.reader(lines(), **_options(dialect))
    finally:
        csv.field_size_limit(limit)


def _options(dialect: CsvDialect) -> dict[str, Any]:
    if dialect.quote is None:
        return {"delimiter": dialect.delimiter, "quoting": csv.QUOTE_NONE}
    return {"delimiter": dialect.delimiter, "quotechar": dialect.quote}
