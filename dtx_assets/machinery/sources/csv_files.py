r"""Legacy tables as CSV files in a directory: read exactly, streamed, and landed as text.

RFC 4180 with a header line; LF, CRLF or a lone CR outside quotes ends a record. Bytes that are not UTF-8 are kept beside
the escaped text. What the texts mean, NULL markers included, is for `frames`.
"""

import csv
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv

from dtx_assets.machinery.errors import SourceError
from dtx_assets.machinery.lake import Lake, Manifest
from dtx_assets.machinery.legacy import LegacyTable
from dtx_assets.machinery.sources.landing import landing_schema, landed_batch

FIRST_BLOCK, LAST_BLOCK = 8 << 20, 1 << 30
"""Bytes read at once; a field must fit into a block, so the block grows when one does not."""


class CsvDirectory:
    """A directory of `<table>.csv`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> "CsvDirectory":
        if not self.directory.is_dir():
            raise SourceError("there is no such directory of legacy tables", where=str(self.directory), remedy="correct the URL")
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tables(self) -> list[str]:
        return sorted(path.stem for path in self.directory.glob("*.csv"))

    def extract(
        self, table: LegacyTable, lake: Lake, key: tuple[str, ...], run_id: str, progress: Callable[[int], None] | None = None
    ) -> Manifest:
        path = self.directory / f"{table.name}.csv"
        if not path.is_file():
            raise SourceError(
                f"the table {table.name} is missing",
                where=str(path),
                remedy=f"export it; the directory has {', '.join(self.tables()) or 'no CSV file'}",
            )
        before = path.stat()
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        landed = lake.manifest(key)
        if landed and landed.metadata.get("source_digest") == digest and landed.metadata.get("source") == str(path):
            return landed
        block = FIRST_BLOCK
        while True:
            try:
                with lake.write(key, run_id=run_id) as writer:
                    rows, undecodable, columns = _land(path, table, writer, block, progress)
                    after = path.stat()
                    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                        raise SourceError("the file changed while it was read", where=str(path), remedy="run again when the export is complete")
                    writer.metadata.update(
                        dialect="csv",
                        source=str(path),
                        source_digest=digest,
                        columns=columns,
                        source_rows=rows,
                        row_count_matches=True,
                        extracted_at=datetime.now(UTC).isoformat(),
                        consistent_snapshot=False,
                        undecodable_values=undecodable,
                        changed_while_read=[],
                    )
                return lake.require(key)
            except pa.ArrowInvalid as error:
                if "straddl" in str(error) and block < LAST_BLOCK:
                    block *= 8
                    continue
                raise SourceError(f"not readable as CSV: {str(error).split(':')[0]}", where=str(path), remedy="check quotes and delimiter") from None


def _land(path: Path, table: LegacyTable, writer: Any, block: int, progress: Callable[[int], None] | None) -> tuple[int, int, list[str]]:
    columns = _header(path, table)
    ragged: list[tuple[int, int]] = []

    def on_ragged(row: pa_csv.InvalidRow) -> str:
        ragged.append((row.number, row.actual_columns))
        return "error"

    with path.open("rb") as stream:
        try:
            reader = pa_csv.open_csv(
                stream,
                read_options=pa_csv.ReadOptions(block_size=block, use_threads=False, skip_rows=0),
                parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(columns) > 1, invalid_row_handler=on_ragged),
                convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.binary()), strings_can_be_null=False),
            )
            rows = undecodable = 0
            with writer.parquet_writer(landing_schema(columns)) as parquet:
                for batch in reader:
                    landed, bad = landed_batch(batch, columns, first_row=rows + 1)
                    parquet.write_batch(landed)
                    rows += batch.num_rows
                    undecodable += bad
                    if progress:
                        progress(rows)
        except pa.ArrowInvalid:
            if ragged:
                number, fields = ragged[0]
                raise SourceError(
                    f"{table.name}: a row has {fields} fields, the header has {len(columns)}",
                    where=f"{path}:{_line_of_record(path, number)}",
                    remedy="quote fields that hold a comma, a quote or a line break, and export the table again",
                ) from None
            raise
    return rows, undecodable, columns


def _header(path: Path, table: LegacyTable) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="backslashreplace", newline="") as stream:
        header = next(csv.reader(stream), None)
    if not header:
        raise SourceError(f"{table.name} has no header line", where=f"{path}:1", remedy="export it with the column names")
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise SourceError(f"{table.name} has two columns called {', '.join(doubled)}", where=f"{path}:1", remedy="rename one in the export")
    return header


def _line_of_record(path: Path, record: int) -> int:
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="latin-1", newline="") as stream:
        reader = csv.reader(stream)
        line = 1
        for _ in range(record):
            line = reader.line_num + 1
            if next(reader, None) is None:
                break
    return line
