r"""How one CSV file is read: exactly, streamed, and landed as text, with what is wrong in it told by its line.

RFC 4180 with a header line, where nothing says another dialect (`csv_dialect`). LF, CRLF or CR ends a record, the same
one throughout the file; empty lines count in a table of one column only. What is no CSV at all is `file_kind`'s
business, what readers would alter `csv_strict`'s; what the texts mean, NULL markers included, is for `frames`. Where
the files lie is `csv_files`'s.
"""

import codecs
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.csv_dialect import RFC_4180, CsvDialect
from dtx_assets.machinery.sources.csv_escapes import Escapes
from dtx_assets.machinery.sources.csv_strict import (
    Record,
    Unescaped,
    Watched,
    line_at,
    python_reader,
    records,
    refuse_what_is_altered,
)
from dtx_assets.machinery.sources.file_kind import LOOKED_AT, no_text, other_kind
from dtx_assets.machinery.sources.landing import ESCAPED, Landed, Progress, land_table, without_columns
from dtx_assets.machinery.sources.remarks import (
    NULL_OF_MYSQL,
    SAMPLED_ROWS,
    SAMPLED_VALUES,
    Remark,
    encoding_remarks,
    null_remarks,
)

FIRST_BLOCK, LAST_BLOCK = 8 << 20, 1 << 30
"""Bytes read at once. A record has to fit into a block, so the block grows when one does not."""
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@contextmanager
def opened(path: Path, shown: str, table: LegacyTable, dialect: CsvDialect) -> "Iterator[CsvFile]":
    """A file as it is read: in UTF-8, in a copy while the block lasts where it is not."""
    with tempfile.TemporaryDirectory() as scratch:
        yield CsvFile(_as_utf_8(path, dialect.encoding, Path(scratch), table, shown), shown, table, dialect)


def _as_utf_8(path: Path, encoding: str, scratch: Path, table: LegacyTable, shown: str) -> Path:
    """The file in UTF-8; bytes that are no text in its encoding stay as they are, and are found when it is landed."""
    if codecs.lookup(encoding).name == "utf-8":
        return path
    with path.open("rb") as stream:
        if found := no_text(stream.read(LOOKED_AT)):
            raise SourceError(f"{table.name}: the file {found[0]}", where=f"{shown}, line 1", remedy=found[1])
    copy = scratch / "utf-8.csv"
    try:
        with (
            path.open(encoding=encoding, errors="surrogateescape", newline="") as stream,
            copy.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out,
        ):
            shutil.copyfileobj(stream, out, FIRST_BLOCK)
    except UnicodeError:
        raise SourceError(
            f"{table.name}: the file is not {encoding}", where=shown, remedy="say its `encoding` in its dialect"
        ) from None
    return copy


def landed_already(
    lake: Lake, key: Sequence[str], source: str, dialect: CsvDialect, *, source_bytes: int
) -> Manifest | None:
    """The landing of the same file, if it may still be the same content."""
    landed = lake.manifest(key)
    if landed is None:
        return None
    wanted = {**_written_as(dialect), "source": source, "source_bytes": source_bytes}
    return landed if {name: landed.metadata.get(name) for name in wanted} == wanted else None


def _written_as(dialect: CsvDialect) -> dict[str, Any]:
    """What the manifest says of a dialect: how values are read, and how the file was written if not as RFC 4180."""
    written_as = None if dialect == RFC_4180 else str(dialect)
    return {"dialect": ESCAPED if dialect.escape else "csv", "written_as": written_as}


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
            watched = Watched(self.path, self.dialect)

            def facts(landed: Landed, watched: Watched = watched) -> dict[str, Any]:
                watched.finish()
                if not watched.is_sound:
                    self.refuse_what_is_altered()
                if self.dialect.escape and not self.dialect.line_end and watched.line_ends[b"\r\n"]:
                    raise self.error(
                        "its lines end in CRLF, and a carriage return that belongs to a value looks the same",
                        r'say which one ends a line in its dialect: `line_end: "\r\n"` or `line_end: "\n"`',
                        line=1,
                    )
                if not unchanged():
                    raise self.error("the file changed while it was read", "run again when the export is complete")
                source_rows = self.count(landed.rows, len(columns), watched)
                return {
                    **_written_as(self.dialect),
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
                kept, wanted = without_columns(columns, batches, self.table.never_read)
                return land_table(lake, key, run_id, kept, wanted, facts, progress)
            except _RecordTooLong:
                block = max(self.block_for_the_longest_record(), 2 * block)
            finally:
                watched.close()

    def batches(self, stream: Watched, columns: Sequence[str], block: int) -> Iterator[pa.RecordBatch]:
        """The records as binary columns."""
        escapes = Escapes(self.dialect) if self.dialect.escape else None
        # By position: the reader must not judge the names, and would stumble over a header without a line end.
        names = [str(position) for position in range(len(columns))]
        rows = 0
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
                    column_types=dict.fromkeys(names, pa.binary()),
                    strings_can_be_null=escapes is not None,
                    quoted_strings_can_be_null=False,
                    null_values=[null.decode() for null in escapes.nulls] if escapes else [],
                ),
            )
            for read in reader:
                batch = self._unescaped(escapes, read, rows) if escapes else read
                self._refuse_header(batch, columns, rows)
                yield batch
                rows += batch.num_rows
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            if "straddl" in str(error):
                if self.path.stat().st_size < FIRST_BLOCK and self.is_header_only():
                    return
                raise _RecordTooLong from None
            self.refuse_quotes()
            self.refuse_ragged_record(len(columns))
            self.refuse_what_is_altered()
            # Arrow's own words may quote the row.
            raise self.error("it is not readable as CSV", "check its quotes and its delimiter") from None

    def _unescaped(self, escapes: Escapes, batch: pa.RecordBatch, rows: int) -> pa.RecordBatch:
        def refuse(row: int) -> SourceError:
            return self.error(
                f"after {self.dialect.escape!r} stands a character that it does not escape",
                f"write {2 * (self.dialect.escape or '')} for {self.dialect.escape} itself, and export the table again",
                line=self.line_of(rows + row, batch.num_columns),
            )

        columns = [escapes.values(column, refuse) for column in batch.columns]
        return pa.RecordBatch.from_arrays(columns, batch.schema.names)

    def _refuse_header(self, batch: pa.RecordBatch, columns: Sequence[str], rows: int) -> None:
        """Raises SourceError where a row is the header again: in any order, letter case, after a byte-order mark."""
        if len(columns) == 1 and self.table.kind_of(columns[0]) in ("text", "code"):
            return
        wanted = {name.strip().casefold() for name in columns}
        spelt = {form for name in columns for form in (name, name.lower(), name.upper())}
        forms = [mark + form.encode() for form in spelt for mark in (b"", codecs.BOM_UTF8)]
        may_be = pc.is_in(batch.column(0), value_set=pa.array(forms, batch.column(0).type))
        if not pc.any(may_be).as_py():
            return
        for row in pc.indices_nonzero(may_be).to_pylist():
            values = [(column[row].as_py() or b"").decode(errors="replace") for column in batch.columns]
            if {value.removeprefix("\ufeff").strip().casefold() for value in values} == wanted:
                first = self.dialect.names and rows + row == 0
                raise self.error(
                    "the first line names the columns, and so does the dialect"
                    if first
                    else "the header line comes again among the rows, as where files were joined",
                    "take `names` away" if first else "join the parts without their header lines",
                    line=self.line_of(rows + row, batch.num_columns),
                )

    def header(self) -> list[str]:
        with self.path.open("rb") as stream:
            start = stream.read(LOOKED_AT)
        if found := other_kind(start, has_header=not self.dialect.names):
            raise self.error(f"the file {found[0]}", found[1], line=1)
        if self.dialect.names:
            return list(self.dialect.names)
        with self.reader() as reader:
            fields = [field.encode("latin-1") for field in next(reader, [])]
        if self.dialect.escape:
            fields = [Escapes(self.dialect).name(field) for field in fields]
        if not any(field.strip() for field in fields):
            what = "is empty in its first line" if start.strip(b"\r\n\t \xef\xbb\xbf") else "is empty"
            raise self.error(f"the file {what}: it has no header line", "export it with the column names", line=1)
        try:
            names = [field.decode() for field in fields]
        except UnicodeDecodeError:
            raise self.error("a column name is not UTF-8", "export the table as UTF-8", line=1) from None
        self._refuse_another_delimiter(names)
        if "" in names:
            raise self.error(f"column {names.index('') + 1} has no name", "name every column in the header", line=1)
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise self.error(f"two columns are called {', '.join(doubled)}", "rename one in the export", line=1)
        if any(character < " " and character not in "\t\r\n" for name in names for character in name):
            raise self.error(
                "a column name holds a control character: the file may be no text", "export the table as CSV", line=1
            )
        return names

    def _refuse_another_delimiter(self, names: Sequence[str]) -> None:
        """A header that is one name with a delimiter in it, or that has more of the table's columns by another one."""
        known = set(self.table.columns)
        line = self.dialect.delimiter.join(names)
        for delimiter, called in DELIMITERS.items():
            parts = [part.strip().strip("\"'") for part in line.split(delimiter)]
            alone = len(names) == 1 and len(parts) > 1 and names[0] not in known
            if delimiter != self.dialect.delimiter and (alone or len(known & set(parts)) > len(known & set(names))):
                own = DELIMITERS.get(self.dialect.delimiter, f"{self.dialect.delimiter!r}")
                raise self.error(
                    f"its fields are separated by {called}",
                    f"export it with {own}, or say `delimiter: {delimiter!r}` in its dialect",
                    line=1,
                )

    def remarks(self) -> list[Remark]:
        """What its beginning shows; a part of the file is enough."""
        columns = self.header()
        rows = islice(self._beyond_ascii(len(columns)), SAMPLED_VALUES)
        remedy = "see that the export was written, and is read, in its own encoding (`encoding` of its dialect)"
        is_told = bool(self.dialect.escape) or NULL_OF_MYSQL in self.table.null_markers
        nulls = () if is_told else null_remarks(self.table.name, columns, self._first_rows())
        return [*encoding_remarks(self.table.name, columns, rows, remedy), *nulls]

    def _beyond_ascii(self, columns: int) -> Iterator[list[bytes]]:
        """Those of the first rows that have more than ASCII, where the file begins with some; escapes stay."""
        with self.path.open("rb") as stream:
            if stream.read(FIRST_BLOCK).isascii():
                return
        for row in self._first_rows():
            if len(row) == columns and not "".join(row).isascii():
                yield [field.encode("latin-1") for field in row]

    def _first_rows(self) -> Iterator[list[str]]:
        with self.reader() as reader:
            self.skip_header(reader)
            yield from islice(reader, SAMPLED_ROWS)

    def count(self, expected: int, columns: int, watched: Watched) -> int:
        """The records of the file, counted without the reader that landed them."""
        if watched.is_sound and watched.lines - self.dialect.header_lines == expected:
            return expected
        with self.text() as text:
            rows = sum(1 for record in self._records(text) if columns == 1 or not record.is_empty)
            return rows - self.dialect.header_lines

    def is_header_only(self) -> bool:
        with self.reader() as reader:
            self.skip_header(reader)
            return next(reader, None) is None

    def reader(self) -> AbstractContextManager[Any]:
        return python_reader(self.path, self.dialect)

    @contextmanager
    def text(self) -> Iterator[Path]:
        """The file without escapes, in a copy where it has some."""
        if not self.dialect.escape:
            yield self.path
            return
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / "unescaped.csv"
            with Unescaped(Watched(self.path, self.dialect)) as stream, copy.open("wb") as out:
                shutil.copyfileobj(stream, out, FIRST_BLOCK)
            yield copy

    def skip_header(self, reader: Iterator[list[str]]) -> None:
        for _ in range(self.dialect.header_lines):
            next(reader)

    def line_of(self, row: int, columns: int) -> int:
        """The line in which a row (from 0) begins."""
        return self.line_of_record(row + self.dialect.header_lines, with_empty_ones=columns == 1)

    def line_of_record(self, number: int, *, with_empty_ones: bool = True) -> int:
        with self.text() as text:
            places = (record.start for record in self._records(text) if with_empty_ones or not record.is_empty)
            return line_at(text, next(islice(places, number, None), 0))

    def refuse_ragged_record(self, columns: int) -> None:
        with self.reader() as reader:
            line = 1
            for number, record in enumerate(reader):
                if len(record) != columns and (record or columns == 1):
                    raise self.error(
                        f"a row of {len(record)} field{'s' * (len(record) != 1)}, where "
                        f"{'`names` lists' if self.dialect.names else 'the header has'} {columns}",
                        "quote fields that hold a comma, a quote or a line break, and export the table again",
                        line=self.line_of_record(number) if self.dialect.escape else line,
                    )
                line = reader.line_num + 1

    def refuse_quotes(self) -> None:
        """Raises SourceError at the first quote that opens or closes where it cannot."""
        with self.text() as text:
            for _ in self._records(text):
                pass

    def refuse_what_is_altered(self) -> None:
        """Raises SourceError at the first thing that readers would read as something else."""
        with self.text() as text:
            refuse_what_is_altered(text, self.dialect, self._fault)

    def block_for_the_longest_record(self) -> int:
        """Bytes that hold the longest record; SourceError where that would be too many."""
        with self.text() as text:
            longest = max(self._records(text), key=lambda record: record.end - record.start)
            size = longest.end - longest.start
            if size > LAST_BLOCK // 2:
                raise self.error(
                    f"a record has {size:,} bytes, more than can be read",
                    "shorten it in the source, or take it out and migrate it by hand",
                    line=line_at(text, longest.start),
                )
        return 2 * size

    def _records(self, text: Path) -> Iterator[Record]:
        return records(text, self.dialect, self._fault)

    def _fault(self, what: str, remedy: str, line: int) -> SourceError:
        return self.error(what, remedy, line=line)

    def error(self, what: str, remedy: str, *, line: int | None = None) -> SourceError:
        where = self.shown if line is None else f"{self.shown}, line {line}"
        return SourceError(f"{self.table.name}: {what}", where=where, remedy=remedy)


class _RecordTooLong(Exception):
    """A record does not fit into a block."""
