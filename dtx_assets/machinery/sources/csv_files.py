r"""Legacy tables as CSV files, in a directory or under an S3 prefix: read exactly, streamed, and landed as text.

RFC 4180 with a header line; a file of its own (`CsvAlone`) may have another dialect. LF or CRLF ends a record, or CR
throughout the file; a CR within a field that is not quoted is refused. A quote inside a field that does not start with
one is an ordinary character; empty lines count in a table of one column only. What the texts mean, NULL markers
included, is for `frames`.
"""

import codecs
import csv
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Self

import obstore
import pyarrow as pa
import pyarrow.csv as pa_csv
from obstore.exceptions import BaseError as ObjectStoreError

from dtx_assets.machinery.errors import SourceError
from dtx_assets.machinery.lake import Lake, Manifest, s3_store
from dtx_assets.machinery.legacy import LegacyTable
from dtx_assets.machinery.sources.landing import Landed, Progress, land_table, missing_table

FIRST_BLOCK, LAST_BLOCK = 8 << 20, 1 << 30
"""Bytes read at once. A record has to fit into a block, so the block grows when one does not."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf".decode("latin-1")
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
NOT_CSV = {
    b"\x1f\x8b": ("is compressed (gzip)", "unpack it"),
    b"PK\x03\x04": ("is a workbook or another zip archive", "export it as CSV, or unpack it"),
    **dict.fromkeys(
        (b"<!doctype", b"<html", b"<?xml"),
        ("is a page of HTML or XML", "download the export itself: this may be a page that asks to log in"),
    ),
}
"""How files begin that are often taken for CSV, what they are, and what to do."""
S3_ERROR_CODE = re.compile(r"<Code>(\w+)</Code>")


@dataclass(frozen=True)
class CsvDialect:
    """How a CSV file is written: `delimiter` and `quote` are one ASCII character each, and `quote` may be none.

    `names` are the columns of a file without a header line.
    """

    delimiter: str = ","
    quote: str | None = '"'
    encoding: str = "utf-8"
    names: tuple[str, ...] = ()

    @property
    def header_lines(self) -> int:
        return 0 if self.names else 1


RFC_4180 = CsvDialect()


@dataclass(frozen=True)
class ListedFile:
    """A file as its listing shows it: `version` changes with its content, `modified` is in seconds since 1970."""

    size: int
    version: str
    modified: float


class CsvDirectory:
    """A directory of `<table>.csv`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> Self:
        if not self.directory.is_dir():
            raise SourceError(
                "there is no such directory of CSV files",
                where=str(self.directory),
                remedy="correct the URL, or mount the directory",
            )
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tables(self) -> list[str]:
        return sorted(path.stem for path in self.directory.glob("*.csv"))

    def listing(self) -> dict[str, ListedFile]:
        """All files by name, of which nothing is read."""
        try:
            found = {path.name: path.stat() for path in self.directory.iterdir() if path.is_file()}
        except OSError as error:
            raise SourceError(
                f"the directory cannot be listed: {error.strerror or type(error).__name__}",
                where=str(self.directory),
                remedy="check that it is mounted, and that this account may read it",
            ) from None
        return {name: ListedFile(at.st_size, str(at.st_mtime_ns), at.st_mtime) for name, at in found.items()}

    def columns(self, table: LegacyTable) -> list[str]:
        path = self._file(table)
        with readable(path, table):
            return CsvFile(path, str(path), table).header()

    def stored_bytes(self, tables: Collection[str]) -> int:
        paths = (self.directory / f"{name}.csv" for name in tables)
        return sum(path.stat().st_size for path in paths if path.is_file())

    def _file(self, table: LegacyTable) -> Path:
        path = self.directory / f"{table.name}.csv"
        if not path.is_file():
            raise missing_table(table.name, str(path), self.tables())
        return path

    def extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None = None
    ) -> Manifest:
        path = self._file(table)
        file = CsvFile(path, str(path), table)
        with readable(path, table):
            before = path.stat()
            if landed := landed_already(lake, key, file.shown, source_bytes=before.st_size):
                with path.open("rb") as stream:
                    if hashlib.file_digest(stream, "sha256").hexdigest() == landed.metadata["source_digest"]:
                        return landed
            return file.land(lake, key, run_id, progress, unchanged=unchanged_since(path, before))


@contextmanager
def readable(path: Path, table: LegacyTable) -> Iterator[None]:
    """What the operating system refuses is told as a SourceError."""
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{table.name} cannot be read: {error.strerror or type(error).__name__}",
            where=str(path),
            remedy="check that this account may read the file, and that the lake has room",
        ) from None


def unchanged_since(path: Path, before: os.stat_result) -> Callable[[], bool]:
    def unchanged() -> bool:
        after = path.stat()
        return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)

    return unchanged


class CsvPrefix:
    """`s3://bucket/prefix` with objects `<table>.csv`. An object is read once, through a temporary file.

    `s3_resource` is dagster-aws's S3Resource; without one the usual `AWS_*` variables count.
    """

    def __init__(self, url: str, s3_resource: Any = None) -> None:
        self.url = url.rstrip("/")
        self._store = s3_store(url, s3_resource)

    def __enter__(self) -> Self:
        with self._told(self.url):
            if not self.tables():
                raise SourceError(
                    "there are no CSV files under this prefix",
                    where=self.url,
                    remedy="correct bucket and prefix; the objects are called <table>.csv",
                )
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tables(self) -> list[str]:
        return sorted(name.removesuffix(".csv") for name in self.listing() if name.endswith(".csv"))

    def listing(self) -> dict[str, ListedFile]:
        """All objects directly under the prefix by name, of which nothing is read."""
        with self._told(self.url):
            found = obstore.list_with_delimiter(self._store)["objects"]
        return {
            entry["path"].rsplit("/", 1)[-1]: ListedFile(
                entry["size"], entry["e_tag"] or "", entry["last_modified"].timestamp()
            )
            for entry in found
        }

    def columns(self, table: LegacyTable) -> list[str]:
        name = f"{table.name}.csv"
        shown = f"{self.url}/{name}"
        if table.name not in self.tables():
            raise missing_table(table.name, shown, self.tables())
        with self._told(shown), tempfile.TemporaryDirectory() as scratch:
            size = obstore.head(self._store, name)["size"]
            start = Path(scratch) / name
            start.write_bytes(
                obstore.get_range(self._store, name, start=0, end=min(size, FIRST_BLOCK)) if size else b""
            )
            return CsvFile(start, shown, table).header()

    def stored_bytes(self, tables: Collection[str]) -> int:
        with self._told(self.url):
            found = obstore.list_with_delimiter(self._store)["objects"]
        return sum(entry["size"] for entry in found if entry["path"].rsplit("/", 1)[-1].removesuffix(".csv") in tables)

    def extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None = None
    ) -> Manifest:
        name = f"{table.name}.csv"
        shown = f"{self.url}/{name}"
        if table.name not in self.tables():
            raise missing_table(table.name, shown, self.tables())
        with self._told(shown), tempfile.TemporaryDirectory() as scratch:
            answer = obstore.get(self._store, name)
            size, version = answer.meta["size"], answer.meta["e_tag"]
            landed = landed_already(lake, key, shown, source_bytes=size)
            if landed and version and landed.metadata.get("source_version") == version:
                return landed
            copy = _copied(answer, Path(scratch) / name, shown)
            return CsvFile(copy, shown, table).land(lake, key, run_id, progress, version=version)

    def fetch(self, name: str, directory: Path) -> tuple[Path, str | None]:
        """A copy of an object, in a directory, and the version that the store gives it."""
        shown = f"{self.url}/{name}"
        with self._told(shown):
            answer = obstore.get(self._store, name)
            return _copied(answer, directory / name, shown), answer.meta["e_tag"]

    @contextmanager
    def _told(self, where: str) -> Iterator[None]:
        try:
            yield
        except (ObjectStoreError, OSError) as error:
            # The message as a whole is long, and names the access key.
            answer = S3_ERROR_CODE.search(str(error))
            raise SourceError(
                f"the S3 server answers {answer[1]}" if answer else "the S3 server cannot be reached",
                where=where,
                remedy="check bucket, prefix, AWS_ENDPOINT_URL, AWS_REGION and the AWS_* credentials",
            ) from None


def _copied(answer: Any, copy: Path, shown: str) -> Path:
    size = answer.meta["size"]
    with copy.open("wb") as stream:
        for chunk in answer.stream(min_chunk_size=FIRST_BLOCK):
            stream.write(chunk)
    if copy.stat().st_size != size:
        raise SourceError(f"{copy.stat().st_size:,} of {size:,} bytes arrived", where=shown, remedy="run again")
    return copy


class CsvAlone:
    """One CSV file of its own dialect: a path, or `s3://bucket/key`. It is the table that is asked for."""

    def __init__(self, url: str, dialect: CsvDialect = RFC_4180, s3_resource: Any = None) -> None:
        self.url, self.dialect, self._s3 = url, dialect, s3_resource

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tables(self) -> list[str]:
        return [Path(self.url).stem]

    def columns(self, table: LegacyTable) -> list[str]:
        with tempfile.TemporaryDirectory() as scratch:
            path, _ = self._fetched(table, Path(scratch))
            with readable(path, table):
                text = _as_utf_8(path, self.dialect.encoding, Path(scratch), table, self.url)
                return CsvFile(text, self.url, table, self.dialect).header()

    def stored_bytes(self, tables: Collection[str]) -> int:
        """Nothing where it lies in S3: it is one file beside a whole database."""
        path = Path(self.url)
        return path.stat().st_size if tables and path.is_file() else 0

    def extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None = None
    ) -> Manifest:
        with tempfile.TemporaryDirectory() as scratch:
            path, version = self._fetched(table, Path(scratch))
            with readable(path, table):
                unchanged = unchanged_since(path, path.stat())
                text = _as_utf_8(path, self.dialect.encoding, Path(scratch), table, self.url)
                file = CsvFile(text, self.url, table, self.dialect)
                return file.land(lake, key, run_id, progress, version=version, unchanged=unchanged)

    def _fetched(self, table: LegacyTable, scratch: Path) -> tuple[Path, str | None]:
        if self.url.startswith("s3://"):
            prefix, _, name = self.url.rpartition("/")
            return CsvPrefix(prefix, self._s3).fetch(name, scratch)
        path = Path(self.url)
        if not path.is_file():
            raise SourceError(
                f"the file of {table.name} is missing", where=self.url, remedy="put it there, or correct `file`"
            )
        return path, None


def _as_utf_8(path: Path, encoding: str, scratch: Path, table: LegacyTable, shown: str) -> Path:
    """The file in UTF-8; bytes that are no text in its encoding stay as they are, and are found when it is landed."""
    if codecs.lookup(encoding).name == "utf-8":
        return path
    copy = scratch / "utf-8.csv"
    try:
        with (
            path.open(encoding=encoding, errors="surrogateescape", newline="") as stream,
            copy.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out,
        ):
            shutil.copyfileobj(stream, out, FIRST_BLOCK)
    except UnicodeError:
        raise SourceError(
            f"{table.name}: the file is not {encoding}", where=shown, remedy="say its `encoding` in the feed file"
        ) from None
    return copy


def landed_already(lake: Lake, key: Sequence[str], source: str, *, source_bytes: int) -> Manifest | None:
    """The landing of the same file, if it may still be the same content."""
    landed = lake.manifest(key)
    if landed is None:
        return None
    facts = landed.metadata
    same = (facts.get("dialect"), facts.get("source"), facts.get("source_bytes")) == ("csv", source, source_bytes)
    return landed if same else None


class _Watched:
    """A file as its reader sees it: digest, size and special characters of what was read so far.

    Arrow reads ahead in a thread of its own, and goes on for a while after it was told to stop.
    """

    def __init__(self, path: Path, quote: str | None) -> None:
        self._stream = path.open("rb", buffering=0)
        self._quote = quote.encode() if quote else None
        self._lock = Lock()
        self._digest = hashlib.sha256()
        self.bytes = self.quotes = self.carriage_returns = self.line_feeds = 0
        self._ends_a_line = True
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        with self._lock:
            block = b"" if self.closed else self._stream.read(size)
        self._digest.update(block)
        self.bytes += len(block)
        self.quotes += block.count(self._quote) if self._quote else 0
        self.carriage_returns += block.count(b"\r")
        self.line_feeds += block.count(b"\n")
        self._ends_a_line = block.endswith(b"\n") if block else self._ends_a_line
        return block

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        with self._lock:
            self.closed = True
            self._stream.close()

    @property
    def lines(self) -> int:
        return self.line_feeds + (not self._ends_a_line)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


@dataclass(frozen=True)
class CsvFile:
    """One file: where it is, where messages say it is, the table in it, and how it is written (but in UTF-8)."""

    path: Path
    shown: str
    table: LegacyTable
    dialect: CsvDialect = RFC_4180

    def land(
        self,
        lake: Lake,
        key: Sequence[str],
        run_id: str,
        progress: Progress | None,
        *,
        version: str | None = None,
        unchanged: Any = lambda: True,
    ) -> Manifest:
        columns = self.header()
        block = FIRST_BLOCK
        while True:
            watched = _Watched(self.path, self.dialect.quote)

            def facts(landed: Landed, watched: _Watched = watched) -> dict[str, Any]:
                if watched.quotes % 2:
                    self.refuse_open_quote()
                # With more columns it made a row of too few fields.
                if len(columns) == 1 and watched.carriage_returns and watched.line_feeds:
                    self.refuse_carriage_return_in_field()
                if not unchanged():
                    raise self.error("the file changed while it was read", "run again when the export is complete")
                source_rows = self.count(landed.rows, len(columns), watched)
                return {
                    "dialect": "csv",
                    "source": self.shown,
                    "source_bytes": watched.bytes,
                    "source_digest": watched.digest,
                    "source_version": version,
                    "source_rows": source_rows,
                    "row_count_matches": source_rows == landed.rows,
                    "consistent_snapshot": False,
                    "changed_while_read": [],
                }

            try:
                batches = self.batches(watched, columns, block)
                return land_table(lake, key, run_id, columns, batches, facts, progress)
            except _RecordTooLong:
                block = max(self.block_for_the_longest_record(), 2 * block)
            finally:
                watched.close()

    def batches(self, stream: _Watched, columns: Sequence[str], block: int) -> Iterator[pa.RecordBatch]:
        """The records as binary columns."""
        # By position: the reader must not judge the names, and would stumble over a header without a line end.
        names = [str(position) for position in range(len(columns))]
        try:
            reader = pa_csv.open_csv(
                stream,
                read_options=pa_csv.ReadOptions(
                    block_size=block,
                    use_threads=False,
                    column_names=names,
                    skip_rows_after_names=self.dialect.header_lines,
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self.dialect.delimiter,
                    quote_char=self.dialect.quote or False,
                    newlines_in_values=bool(self.dialect.quote),
                    ignore_empty_lines=len(columns) > 1,
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=False
                ),
            )
            yield from reader
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            if "straddl" in str(error):
                if self.path.stat().st_size < FIRST_BLOCK and self.is_header_only():
                    return
                raise _RecordTooLong from None
            self.refuse_open_quote()
            self.refuse_ragged_record(len(columns))
            # Arrow's own words may quote the row.
            raise self.error("it is not readable as CSV", "check its quotes and its delimiter") from None

    def header(self) -> list[str]:
        with self.path.open("rb") as stream:
            start = stream.read(64)
        if start.startswith(UTF_16_MARKS):
            raise self.error("the file is UTF-16", "export it as UTF-8", line=1)
        for beginning, (is_one, remedy) in NOT_CSV.items():
            if start.removeprefix(codecs.BOM_UTF8).lstrip().lower().startswith(beginning.lower()):
                raise self.error(f"the file {is_one}", remedy, line=1)
        if self.dialect.names:
            return list(self.dialect.names)
        with self.reader() as reader:
            fields = [field.encode("latin-1") for field in next(reader, [])]
        if not fields:
            raise self.error("the file is empty: it has no header line", "export it with the column names", line=1)
        try:
            names = [field.decode() for field in fields]
        except UnicodeDecodeError:
            raise self.error("a column name is not UTF-8", "export the table as UTF-8", line=1) from None
        if len(names) == 1 < len(self.table.columns):
            own = DELIMITERS.get(self.dialect.delimiter, f"{self.dialect.delimiter!r}")
            for delimiter, called in DELIMITERS.items():
                if delimiter in names[0]:
                    raise self.error(f"its fields are separated by {called}", f"export it with {own}", line=1)
        if "" in names:
            raise self.error(f"column {names.index('') + 1} has no name", "name every column in the header", line=1)
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise self.error(f"two columns are called {', '.join(doubled)}", "rename one in the export", line=1)
        return names

    def count(self, expected: int, columns: int, watched: _Watched) -> int:
        """The records of the file, counted without the reader that landed them."""
        if not watched.quotes and watched.lines - self.dialect.header_lines == expected:
            return expected
        with self.reader() as reader:
            self.skip_header(reader)
            return sum(1 for record in reader if record or columns == 1)

    def is_header_only(self) -> bool:
        with self.reader() as reader:
            self.skip_header(reader)
            return next(reader, None) is None

    def reader(self, appended: str = "") -> AbstractContextManager[Any]:
        return _csv_reader(self.path, self.dialect, appended)

    def skip_header(self, reader: Iterator[list[str]]) -> None:
        for _ in range(self.dialect.header_lines):
            next(reader)

    def refuse_ragged_record(self, columns: int) -> None:
        with self.reader() as reader:
            line = 1
            for record in reader:
                if len(record) != columns and (record or columns == 1):
                    raise self.error(
                        f"a row of {len(record)} field{'s' * (len(record) != 1)}, where "
                        f"{'`names` lists' if self.dialect.names else 'the header has'} {columns}",
                        "quote fields that hold a comma, a quote or a line break, and export the table again",
                        line=line,
                    )
                line = reader.line_num + 1

    def refuse_open_quote(self) -> None:
        """Raises SourceError where the file ends inside of quotes."""
        sentinel = ["end of file"]
        with self.reader(sentinel[0]) as reader:
            line = following = 1
            last: list[str] = []
            for record in reader:
                last, line, following = record, following, reader.line_num + 1
        if last != sentinel:
            raise self.open_quote_error(line)

    def refuse_carriage_return_in_field(self) -> None:
        with self.path.open("rb") as stream:
            reader = csv.reader((line.decode("latin-1") for line in stream), **_csv_options(self.dialect))
            try:
                for _ in reader:
                    pass
            except csv.Error:
                raise self.error(
                    "a carriage return stands in a field that is not quoted",
                    "quote fields that hold a line break, and export the table again",
                    line=reader.line_num,
                ) from None

    def open_quote_error(self, line: int) -> SourceError:
        return self.error(
            "a quote is opened and never closed, in the record that starts here",
            'close it, and write a quote within a quoted field as ""',
            line=line,
        )

    def block_for_the_longest_record(self) -> int:
        """Bytes that hold the longest record; SourceError where that would be too many."""
        longest = length = start = 0
        longest_start = 1
        quote = self.dialect.quote.encode() if self.dialect.quote else b""
        with self.path.open("rb") as stream:
            open_quote = False
            for line, text in enumerate(stream, 1):
                if not open_quote:
                    start, length = line, 0
                length += len(text)
                open_quote ^= bool(quote and text.count(quote) & 1)
                if length > longest:
                    longest, longest_start = length, start
        if open_quote:
            raise self.open_quote_error(start)
        if longest > LAST_BLOCK // 2:
            raise self.error(
                f"a record has {longest:,} bytes, more than can be read",
                "shorten it in the source, or take it out and migrate it by hand",
                line=longest_start,
            )
        return 2 * longest

    def error(self, what: str, remedy: str, *, line: int | None = None) -> SourceError:
        where = self.shown if line is None else f"{self.shown}, line {line}"
        return SourceError(f"{self.table.name}: {what}", where=where, remedy=remedy)


class _RecordTooLong(Exception):
    """A record does not fit into a block."""


@contextmanager
def _csv_reader(path: Path, dialect: CsvDialect, appended: str = "") -> Iterator[Any]:
    """Python's own reader over the bytes of a file, each as one character, without a byte-order mark."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="latin-1", newline="") as stream:

            def lines() -> Iterator[str]:
                # A mark before a quote would make the quote an ordinary character.
                yield from (line.removeprefix(BYTE_ORDER_MARK) for line in islice(stream, 1))
                yield from stream
                if appended:
                    yield appended

            yield csv.reader(lines(), **_csv_options(dialect))
    finally:
        csv.field_size_limit(limit)


def _csv_options(dialect: CsvDialect) -> dict[str, Any]:
    if dialect.quote is None:
        return {"delimiter": dialect.delimiter, "quoting": csv.QUOTE_NONE}
    return {"delimiter": dialect.delimiter, "quotechar": dialect.quote}
