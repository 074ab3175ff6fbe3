r"""Archives: a legacy table as it came, whole, as a compressed CSV and a Parquet copy, verified by reading both back.

An archive is kept the way a dataset of the lake is: a version is put in place whole or not at all, and only after its
files were read back and found equal to the landed rows. The CSV has the bytes of the source, those that are not UTF-8
included. It is compressed with gzip because everybody can open that; the Parquet copy is there for speed. What is
written: RFC 4180, a header line, line feeds, and of a database

    NULL                    \N
    the text \N             "\N"
    the empty string        ""

Readers that do not tell quoted from unquoted fields keep NULL and the empty string apart too, no row is an empty line,
and the legacy reader of this project understands the marker. Of a source that was a CSV itself, `\N` and `NULL` are
the texts that stood there. When tables are landed is `sources`, when they are archived `dagster_assets`.
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.base.lake import DatasetWriter, Lake, Manifest, TableFiles
from dtx_assets.machinery.base.names import dagster_name, dataset_name
from dtx_assets.machinery.sources.documents import BSON
from dtx_assets.machinery.sources.landing import DOCUMENTS, UNDECODABLE, Progress

CHECK = "archive_reads_back_identical"
FORMAT = 2
"""Of the files; an archive of another one is written anew."""

EXACT = ".bson.gz"
NULL = b"\\N"
COMPRESSION_LEVEL = 5
"""Twice as fast as 6, for files that are a fourteenth larger."""
BLOCK = 1 << 20
"""Bytes of CSV that are read back at once, at least: a record has to fit into a block. Arrow holds 32 ahead of them."""
LOST_VALUES = pa.schema([("row", pa.int64()), ("column", pa.large_string()), ("bytes", pa.large_binary())])
"""What `<table>.undecodable.parquet` holds: the values that are no UTF-8, with the number of their row from 1."""

Batches = Callable[[], Iterator[pa.RecordBatch]]
"""Gives the same batches each time it is called."""


def archive_table(
    lake: Lake,
    archive: Lake,
    system: str,
    table: str,
    run_id: str,
    progress: Progress | None = None,
    *,
    layer: str = "legacy",
) -> Manifest:
    """The archive of the landed rows of a table: written, read back and put in place, unless it is there already.

    Raises StructureError where what was written does not read back as it was landed; the archive that was there stays.
    """
    landed = lake.require((system, layer, dataset_name(table)))
    key = (system, dataset_name(table))
    before = archive.manifest(key)
    if before and same_content(before, landed) and archive.is_complete(before):
        return before
    with (
        lake.lease(landed, run_id),
        landed_rows(lake, landed) as rows,
        archive.write(key, run_id=run_id) as writer,
    ):
        writer.metadata.update(described(landed, table))
        write_files(writer, table, rows, landed, progress)
        reach("archive.written")
        written = Manifest(key, writer.version, landed.created_at, run_id, tables_of(writer), writer.metadata)
        with local_files(archive, written) as files:
            writer.metadata["sha256"] = {name: sha256(path) for name, path in files.items()}
            if wrong := differences_of_content(files, written, rows, landed):
                raise StructureError(
                    f"what was written of {table} does not read back as it was landed: {'; '.join(wrong)}",
                    where=archive.location(written, ""),
                    remedy="check the disk or the object store, and run again; the archive that was there stays",
                )
            reach("archive.verified")
    return archive.require(key)


def differences(
    lake: Lake, archive: Lake, system: str, table: str, *, layer: str = "legacy", by_rows: bool = True
) -> list[str]:
    """What of a stored archive is not as it was written or not as the table is landed now; empty when all is well.

    Reads the checksums of the files and, `by_rows`, all rows of both copies beside the landed ones. What has its
    checksum was found equal, when it was written, to rows of the digest that the landed ones have.
    """
    landed = lake.require((system, layer, dataset_name(table)))
    stored = archive.manifest((system, dataset_name(table)))
    if stored is None:
        return ["there is no archive"]
    if not same_content(stored, landed):
        return ["it is of another extraction than the one that is landed now"]
    if not archive.is_complete(stored):
        return ["a file is missing, or has another length than it was written with"]
    with local_files(archive, stored) as files, landed_rows(lake, landed) as rows:
        changed = [name for name, path in files.items() if sha256(path) != stored.metadata["sha256"].get(name)]
        if changed:
            return [f"{name} is not what was written: its SHA-256 is another one" for name in changed]
        return differences_of_content(files, stored, rows, landed) if by_rows else []


def archives(archive: Lake, system: str, tables: Iterable[str]) -> dict[str, Manifest]:
    """The archives that are there, by table."""
    found = ((table, archive.manifest((system, table))) for table in tables)
    return {table: manifest for table, manifest in found if manifest is not None}


def undeclared_archives(archive: Lake, system: str, declared: Container[str]) -> dict[str, Manifest]:
    """The archives of what no table declares, by collection."""
    current = (archive.manifest(stored.key) for stored in archive.versions(system) if stored.is_current)
    found = {manifest.metadata["table"]: manifest for manifest in current if manifest is not None}
    return {name: manifest for name, manifest in found.items() if name not in declared}


def same_content(stored: Manifest, landed: Manifest) -> bool:
    wanted = {
        "format": FORMAT,
        **{name: landed.metadata.get(name) for name in ("content_digest", "columns", "dialect")},
    }
    return {name: stored.metadata.get(name) for name in wanted} == wanted


def described(landed: Manifest, table: str) -> dict[str, Any]:
    """What the manifest says of an archive, but for what is known only when it is written."""
    facts = landed.metadata
    lost = facts.get("undecodable_values", 0)
    return {
        "table": table,
        "rows": landed.tables["rows"].rows,
        "columns": facts["columns"],
        "extracted_at": facts.get("extracted_at"),
        "source": facts.get("source"),
        "dialect": facts.get("dialect"),
        "content_digest": facts.get("content_digest"),
        "legacy_version": landed.version,
        "undecodable_values": lost,
        "format": FORMAT,
        "how_to_read": how_to_read(table, facts.get("dialect"), lost, facts.get("instants", ())),
    }


def how_to_read(table: str, dialect: str | None, lost: int, instants: Sequence[str]) -> str:
    text = "CSV of RFC 4180 in gzip: UTF-8, comma, a header line, line feeds; rows and columns as in the source. "
    if dialect == "csv":
        text += r"Each value is the text that stood in the source, \N and NULL included, which mean NULL there."
    else:
        text += r'NULL is \N without quotes; in quotes it is the text \N; the empty string is "".'
    if dialect == DOCUMENTS:
        text += (
            " A row is a document: a column a field, in canonical Extended JSON (nothing where it was missing); `_bson`"
            " has the exact document in base64, `_line` the exact line where it came as JSON."
            f" Where there is a {dagster_name(table)}{EXACT}, it has the documents themselves, one behind the other, as"
            " `bsondump` reads them; JSON that is no BSON is in `_line` alone."
        )
    if lost:
        text += (
            rf" {lost:,} values are not UTF-8: the CSV has their bytes; the Parquet copy has them escaped (\xNN), and"
            f" {table}.undecodable.parquet their row, column and bytes."
        )
    if instants:
        text += f" In UTC: {', '.join(instants)}."
    return text


# --- the landed rows --------------------------------------------------------------------------------------------------


@contextmanager
def landed_rows(lake: Lake, landed: Manifest) -> Iterator[Batches]:
    """The landed rows, a row group at a time: landing has made those small."""
    with ExitStack() as stack:
        paths = [
            stack.enter_context(lake.local_file(landed.key, landed.version, entry.name))
            for entry in landed.tables["rows"].files
        ]
        yield lambda: chain.from_iterable(map(row_groups, paths))


def row_groups(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from filter(len, file.read_row_group(group).to_batches())


def texts(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """The text columns of landed rows, as bytes and called by their position."""
    return by_position([column.cast(pa.large_binary()) for column in batch.columns[: len(columns)]])


def originals(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """The same, with the bytes of the source for values that are not UTF-8."""
    values = texts(batch, columns).columns
    if lost := lost_values(batch):
        for name in pc.unique(lost.column("column")).to_pylist():
            of_column = lost.filter(pc.equal(lost.column("column"), name))
            place = columns.index(name)
            mask = pc.is_in(pa.array(range(batch.num_rows), pa.int64()), of_column.column("row"))
            values[place] = pc.replace_with_mask(values[place], mask, of_column.column("bytes"))
    return by_position(values)


def by_position(values: Sequence[pa.Array]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(values), [str(position) for position in range(len(values))])


def lost_values(batch: pa.RecordBatch) -> pa.RecordBatch | None:
    """LOST_VALUES of a batch, with the number of the row from 0 in it; None where all is UTF-8."""
    held = batch.column(batch.schema.get_field_index(UNDECODABLE))
    if held.null_count == len(held):
        return None
    lost = pc.list_flatten(held)
    rows = pc.list_parent_indices(held).cast(pa.int64())
    return pa.RecordBatch.from_arrays(
        [rows, pc.struct_field(lost, [0]), pc.struct_field(lost, [1])], schema=LOST_VALUES
    )


def lost_batches(rows: Batches) -> Iterator[pa.RecordBatch]:
    """LOST_VALUES of all rows."""
    before = 0
    for batch in rows():
        if lost := lost_values(batch):
            row, column, value = lost.columns
            yield pa.RecordBatch.from_arrays([pc.add(row, before + 1), column, value], schema=LOST_VALUES)
        before += batch.num_rows


# --- writing ----------------------------------------------------------------------------------------------------------


def write_files(
    writer: DatasetWriter, table: str, rows: Batches, landed: Manifest, progress: Progress | None = None
) -> None:
    """The CSV and the Parquet copy, and a third file where values are not UTF-8."""
    file = dagster_name(table)
    columns = landed.metadata["columns"]
    marks_null = landed.metadata.get("dialect") != "csv"
    schema = pa.schema([(name, pa.large_string()) for name in columns])
    done = longest = 0
    with (
        writer.parquet_writer(schema, file=file) as parquet,
        writer.stream(f"{file}.csv.gz", table="csv") as (stream, note),
        # Without name and time: equal rows make equal files.
        gzip.GzipFile("", "wb", COMPRESSION_LEVEL, stream, mtime=0) as packed,
        ThreadPoolExecutor(1, "pack") as packing,
    ):
        packed.write(content(csv_records(header(columns), marks_null=marks_null)))
        written = None
        for batch in rows():
            records = csv_records(originals(batch, columns), marks_null=marks_null)
            longest = max(longest, pc.max(pc.binary_length(records)).as_py())
            if written:
                written.result()
            # The records of one batch are packed while the next one is made, and no more than that are in memory.
            written = packing.submit(packed.write, content(records))
            parquet.write_batch(pa.RecordBatch.from_arrays(batch.columns[: len(columns)], schema=schema))
            done += batch.num_rows
            if progress:
                progress(done)
        if written:
            written.result()
        note(done)
    writer.metadata["longest_record"] = longest
    if has_exact_documents(landed):
        with (
            writer.stream(f"{file}{EXACT}", table="bson") as (stream, note),
            gzip.GzipFile("", "wb", COMPRESSION_LEVEL, stream, mtime=0) as packed,
        ):
            for documents in exact_documents(rows, columns):
                packed.write(documents)
            note(done)
    if landed.metadata.get("undecodable_values"):
        with writer.parquet_writer(LOST_VALUES, table="undecodable", file=f"{file}.undecodable") as parquet:
            for batch in lost_batches(rows):
                parquet.write_batch(batch)


def has_exact_documents(landed: Manifest) -> bool:
    """Whether its rows are documents, with their bytes; the elements of an array have none of their own."""
    return landed.metadata.get("dialect") == DOCUMENTS and BSON in landed.metadata["columns"]


def exact_documents(rows: Batches, columns: Sequence[str]) -> Iterator[bytes]:
    """The bytes of documents, one behind the other, those of many at once."""
    place = columns.index(BSON)
    for batch in rows():
        found = pl.Series(pl.from_arrow(batch.column(place))).drop_nulls()
        yield b"".join(found.str.decode("base64"))


def header(columns: Sequence[str]) -> pa.RecordBatch:
    return by_position([pa.array([name.encode()], pa.large_binary()) for name in columns])


def csv_records(batch: pa.RecordBatch, *, marks_null: bool) -> pa.Array:
    """The records of binary columns, each with its line feed.

    By Arrow's own functions: Polars writes no bytes that are not UTF-8, and Arrow's CSV writer no NULL but the empty
    field. The time goes into compressing: a million rows of 170 bytes are archived and verified in about ten seconds.
    """
    *before, last = [csv_fields(column, marks_null=marks_null) for column in batch.columns]
    last = pc.binary_join_element_wise(last, _bytes(b"\n"), _bytes(b""))
    return pc.binary_join_element_wise(*before, last, _bytes(b",")) if before else last


def csv_fields(values: pa.Array, *, marks_null: bool) -> pa.Array:
    quoted = pc.match_substring_regex(values, r'[",\r\n]|^$' + (r"|^\\N$" if marks_null else ""))
    if pc.any(quoted).as_py():
        doubled = pc.replace_substring(values, b'"', b'""')
        values = pc.if_else(
            quoted, pc.binary_join_element_wise(_bytes(b'"'), doubled, _bytes(b'"'), _bytes(b"")), values
        )
    return pc.fill_null(values, _bytes(NULL))


def _bytes(value: bytes) -> pa.Scalar:
    return pa.scalar(value, pa.large_binary())


def content(records: pa.Array) -> memoryview:
    """The bytes of all values of an array, one after the other, without a copy."""
    _, offsets, values = records.buffers()
    ends = memoryview(offsets).cast("q")
    return memoryview(values)[ends[records.offset] : ends[records.offset + len(records)]]


def tables_of(writer: DatasetWriter) -> dict[str, TableFiles]:
    return {name: TableFiles(tuple(entries)) for name, entries in writer.tables.items()}


# --- reading back -----------------------------------------------------------------------------------------------------


@contextmanager
def local_files(archive: Lake, stored: Manifest) -> Iterator[dict[str, Path]]:
    """All files of an archive by name, as files of this machine."""
    with ExitStack() as stack:
        yield {
            entry.name: stack.enter_context(archive.local_file(stored.key, stored.version, entry.name))
            for files in stored.tables.values()
            for entry in files.files
        }


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def differences_of_content(files: dict[str, Path], stored: Manifest, rows: Batches, landed: Manifest) -> list[str]:
    """The first difference of each file from the landed rows."""
    file, columns = dagster_name(stored.metadata["table"]), landed.metadata["columns"]
    expected = {
        f"{file}.csv.gz": lambda: chain([header(columns)], (originals(batch, columns) for batch in rows())),
        f"{file}.parquet": lambda: (texts(batch, columns) for batch in rows()),
        f"{file}.undecodable.parquet": lambda: lost_batches(rows),
    }

    def difference_of(name: str) -> str | None:
        try:
            if name.endswith(EXACT):
                is_same = same_bytes(exact_documents(rows, columns), files[name])
                return None if is_same else f"{name} has other documents"
            row = first_difference(expected[name](), stored_batches(name, files[name], stored))
        except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
            # Their words may quote rows.
            return f"{name} cannot be read ({type(error).__name__})"
        return None if row is None else f"{name} differs in record {row:,}"

    # A batch of each is in memory.
    with ThreadPoolExecutor(2, "compare") as comparing:
        return list(filter(None, comparing.map(difference_of, files)))


def same_bytes(expected: Iterable[bytes], path: Path) -> bool:
    """Whether a packed file holds these bytes, and no more."""
    with gzip.open(path, "rb") as stream:
        return all(stream.read(len(part)) == part for part in expected) and not stream.read(1)


def stored_batches(name: str, path: Path, stored: Manifest) -> Iterator[pa.RecordBatch]:
    columns = stored.metadata["columns"]
    if name.endswith(".csv.gz"):
        return csv_batches(path, stored)
    if name.endswith(".undecodable.parquet"):
        return row_groups(path)
    return parquet_batches(path, columns)


def parquet_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for batch in row_groups(path):
        if batch.schema.names != list(columns):
            raise pa.ArrowInvalid("the columns are others")
        yield texts(batch, columns)


def csv_batches(path: Path, stored: Manifest) -> Iterator[pa.RecordBatch]:
    """The records of the compressed CSV, its header line the first, as binary columns called by their position."""
    marks_null = stored.metadata["dialect"] != "csv"
    names = [str(position) for position in range(len(stored.metadata["columns"]))]
    with (
        pa.OSFile(str(path)) as file,
        pa.CompressedInputStream(file, "gzip") as stream,
        pa_csv.open_csv(
            stream,
            read_options=pa_csv.ReadOptions(
                block_size=max(BLOCK, 2 * stored.metadata["longest_record"]), use_threads=False, column_names=names
            ),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_binary()),
                strings_can_be_null=marks_null,
                quoted_strings_can_be_null=False,
                null_values=[NULL.decode()],
            ),
        ) as reader,
    ):
        yield from reader


def first_difference(expected: Iterable[pa.RecordBatch], found: Iterable[pa.RecordBatch]) -> int | None:
    """The number, from 1, of the first row in which two streams of batches differ; None where they are equal.

    The batches may be cut at different rows.
    """
    left, right = _Rows(expected), _Rows(found)
    while True:
        size = min(left.ready(), right.ready())
        if size == 0:
            return None if left.ready() == right.ready() else left.taken + 1
        before, (one, other) = left.taken, (left.take(size), right.take(size))
        if not one.equals(other):
            rows = (row for row in range(size) if not one.slice(row, 1).equals(other.slice(row, 1)))
            return before + 1 + next(rows, 0)


class _Rows:
    """Batches as a stream of rows."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches = iter(batches)
        self._batch: pa.RecordBatch | None = None
        self.taken = 0

    def ready(self) -> int:
        """Rows that can be taken at once; 0 at the end."""
        while self._batch is None or not self._batch.num_rows:
            self._batch = next(self._batches, None)
            if self._batch is None:
                return 0
        return int(self._batch.num_rows)

    def take(self, size: int) -> pa.RecordBatch:
        assert self._batch is not None
        taken, self._batch = self._batch.slice(0, size), self._batch.slice(size)
        self.taken += size
        return taken
