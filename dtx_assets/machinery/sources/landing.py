"""The form in which every reader lands a table: text columns, a row number, and the bytes that are no text.

Where the rows come from is the readers' business (`csv_files`, `mysql`, `postgresql`, `sqlite`, `documents`), what the
texts mean is that of `frames`.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from secrets import token_hex
from typing import Any, Protocol, Self, TypeVar

import polars as pl
import pyarrow as pa

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.base.memory import give_back
from dtx_assets.machinery.model.legacy import LegacyTable

ROW = "_row"
UNDECODABLE = "_undecodable"
UNDECODABLE_TYPE = pa.list_(pa.struct([("column", pa.large_string()), ("bytes", pa.large_binary())]))
ESCAPED = "escaped csv"
"""What a manifest calls a CSV that tells NULL from every text, as a database does; other ones are `csv`."""

DOCUMENTS = "documents"
"""What a manifest calls a collection of documents, whose `fields` are in canonical Extended JSON."""

UNREADABLE = "_unreadable"
"""The column that says why a document has no value; NULL in all others."""

BATCH_ROWS, BATCH_BYTES = 50_000, 8 << 20
BATCHES_AHEAD = 2

ESCAPED_HALF = rb"\udc"
"""How Python writes a byte that is no UTF-8, when it escapes what it made a half of a pair of surrogates."""

BETWEEN = (b"\0\1\2", b"\0\3\4", b"\0\5\6")
"""What values are joined with, the first that none of them has. No end of one is its beginning, so none is met halfway,
and no escape makes one.
"""

Row = TypeVar("Row")

Progress = Callable[[int], None]
"""Called with the rows done so far."""


class Source(Protocol):
    """A place with legacy tables. While it is open, a database shows one snapshot of them."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def tables(self) -> list[str]:
        """The names of the tables that are there."""
        ...

    def columns(self, table: LegacyTable) -> list[str]:
        """The names of its columns, after a first row was asked for.

        Raises SourceError where the table is missing, or this account may not read it.
        """
        ...

    def stored_bytes(self, tables: Collection[LegacyTable]) -> int:
        """About as many bytes as these tables take at the source; absent ones take none."""
        ...

    def extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None = None
    ) -> Manifest:
        """Lands a table under `key` as text; the landing that is there stays where nothing changed.

        Raises SourceError where the table is missing or cannot be read whole.
        """
        ...


@dataclass(frozen=True)
class Landed:
    """What was read of a table: rows, values that are not UTF-8, and a digest of all of it."""

    rows: int
    undecodable_values: int
    content_digest: str


class _Unchanged(Exception):
    """Leaves the landing that is there in place."""


def land_table(
    lake: Lake,
    key: Sequence[str],
    run_id: str,
    columns: Sequence[str],
    batches: Iterable[pa.RecordBatch],
    facts: Callable[[Landed], dict[str, Any]],
    progress: Progress | None = None,
) -> Manifest:
    """Lands batches of binary columns, in the order of `columns`; gives the manifest that counts now.

    `facts` is asked once all was read, may raise, and goes into the manifest. A table that is landed already with the
    same content and the same facts is not written again.
    """
    if taken := {ROW, UNDECODABLE} & set(columns):
        raise SourceError(
            f"{key[-1]} has a column called {(name := taken.pop())}, a name that the lake needs itself",
            where=f"{key[-1]}.{name}",
            remedy="rename the column in the export, or read the table through a view",
        )
    before = lake.manifest(key)
    with suppress(_Unchanged), lake.write(key, run_id=run_id) as writer:
        landed = _write(writer.parquet_writer(landing_schema(columns)), columns, batches, progress)
        reach("extract.table_read")
        metadata = {
            "columns": list(columns),
            "undecodable_values": landed.undecodable_values,
            "content_digest": landed.content_digest,
            **facts(landed),
        }
        if before and {name: before.metadata.get(name) for name in metadata} == metadata:
            raise _Unchanged
        writer.metadata.update(metadata, extracted_at=datetime.now(UTC).isoformat())
    give_back()
    return lake.require(key)


def _write(
    parquet_file: Any, columns: Sequence[str], batches: Iterable[pa.RecordBatch], progress: Progress | None
) -> Landed:
    rows = undecodable = 0
    digest = hashlib.blake2b(digest_size=32)

    def as_texts(batch: pa.RecordBatch, first_row: int) -> tuple[pa.RecordBatch, int]:
        digest.update(batch.serialize())
        return landed_batch(batch, columns, first_row)

    def land(read: Future[tuple[pa.RecordBatch, int]]) -> int:
        texts, bad = read.result()
        parquet.write_batch(texts)
        return bad

    # One batch is written and one made texts while the next one is read, and no more than that are in memory.
    ahead = deque[Future[int]]()
    with parquet_file as parquet, ThreadPoolExecutor(1, "texts") as reading, ThreadPoolExecutor(1, "land") as writing:
        for batch in batches:
            if len(ahead) == BATCHES_AHEAD:
                undecodable += ahead.popleft().result()
            ahead.append(writing.submit(land, reading.submit(as_texts, batch, rows + 1)))
            rows += batch.num_rows
            if progress:
                progress(rows)
        undecodable += sum(future.result() for future in ahead)
    return Landed(rows, undecodable, digest.hexdigest())


class TableMissing(SourceError):
    """A table is not where it should be; what else is there may be read."""


def missing_table(table: str, where: str, found: Sequence[str]) -> TableMissing:
    return TableMissing(
        f"the table {table} is missing",
        where=where,
        remedy=f"export it to there; the tables that are there: {', '.join(found) or 'none'}",
    )


def land_empty(table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, source: str) -> Manifest:
    """Lands a table that is not there as one without rows."""
    facts = partial(database_facts, source, source_rows=0)
    return land_table(lake, key, run_id, table.columns, (), facts)


def without_columns(
    columns: Sequence[str], batches: Iterable[pa.RecordBatch], left_out: Collection[str]
) -> tuple[list[str], Iterable[pa.RecordBatch]]:
    """Columns and batches without some of the columns."""
    kept = [place for place, name in enumerate(columns) if name not in left_out]
    if len(kept) == len(columns):
        return list(columns), batches
    return [columns[place] for place in kept], (batch.select(kept) for batch in batches)


def bounded(rows: Iterable[Row], size_of: Callable[[Row], int]) -> Iterator[list[Row]]:
    """Rows in lists, each of a bounded number of rows and (but for its last row) bytes."""
    collected: list[Row] = []
    size = 0
    for row in rows:
        collected.append(row)
        size += size_of(row)
        if size >= BATCH_BYTES or len(collected) >= BATCH_ROWS:
            yield collected
            collected, size = [], 0
    if collected:
        yield collected


def batches_of_rows(rows: Iterable[Sequence[bytes | None]], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Rows of bytes as bounded batches of binary columns."""
    for together in bounded(rows, lambda row: sum(map(len, filter(None, row)))):
        yield binary_batch(pl.Series(column, dtype=pl.Binary) for column in zip(*together, strict=True))


def binary_batch(columns: Iterable[pl.Series]) -> pa.RecordBatch:
    """A batch of columns of bytes."""
    arrays = [column.to_arrow(compat_level=pl.CompatLevel.oldest()) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, [str(position) for position in range(len(arrays))])


WROTE = "wrote"


def database_facts(
    source: str,
    landed: Landed,
    source_rows: int,
    *,
    consistent: bool = True,
    changed: Sequence[str] = (),
    instants: Sequence[str] = (),
    wrote: bool = False,
) -> dict[str, Any]:
    """What the manifest of a table says that was read from a database.

    `changed`: the tables that changed meanwhile; `instants`: the columns whose times are in UTC and do not say so;
    `wrote`: whether the transaction that read it wrote something, by what its server says.
    """
    return {
        "dialect": "database",
        "source": source,
        "source_digest": None,
        "source_rows": source_rows,
        "row_count_matches": source_rows == landed.rows,
        "consistent_snapshot": consistent,
        "changed_while_read": list(changed),
        **({"instants": list(instants)} if instants else {}),
        **({WROTE: True} if wrote else {}),
    }


def landing_schema(columns: Sequence[str]) -> pa.Schema:
    return pa.schema(
        [*((name, pa.large_string()) for name in columns), (ROW, pa.int64()), (UNDECODABLE, UNDECODABLE_TYPE)]
    )


def landed_batch(batch: pa.RecordBatch, columns: Sequence[str], first_row: int) -> tuple[pa.RecordBatch, int]:
    r"""A batch of binary columns as landed, and the number of its values that are not UTF-8.

    Such a value is escaped (`\xNN`) in its text column; its bytes stand in `_undecodable`.
    """
    texts = []
    lost: list[pl.DataFrame] = []
    for name, column in zip(columns, batch.columns, strict=True):
        try:
            texts.append(column.cast(pa.large_string()))
        except pa.ArrowInvalid:
            text, undecodable = _escaped(name, column)
            texts.append(text)
            lost.append(undecodable)
    count = batch.num_rows
    rows = pl.int_range(first_row, first_row + count, eager=True).to_arrow()
    landed = pa.RecordBatch.from_arrays([*texts, rows, _by_row(lost, count)], schema=landing_schema(columns))
    return landed, sum(frame.height for frame in lost)


def _escaped(name: str, values: pa.Array) -> tuple[pa.Array, pl.DataFrame]:
    """The values as text, and those that are none: `row` from 0, `column`, `bytes`."""
    rows = pl.DataFrame({"bytes": pl.Series(values, dtype=pl.Binary)}).with_row_index("row").cast({"row": pl.Int64})
    there = rows.drop_nulls("bytes")
    there = there.with_columns(pl.Series("text", _with_escapes(there["bytes"].to_list()), dtype=pl.Binary))
    texts = rows.join(there.select("row", "text"), on="row", how="left", maintain_order="left")["text"]
    undecodable = there.filter(pl.col("bytes") != pl.col("text"))
    return (
        texts.cast(pl.String).to_arrow(compat_level=pl.CompatLevel.oldest()),
        undecodable.select("row", pl.lit(name).alias("column"), "bytes"),
    )


def _with_escapes(values: list[bytes]) -> list[bytes]:
    """The values in UTF-8, with `backslashreplace` for what is none: all at once, which takes a tenth of the time."""
    for between in (*BETWEEN, b"\0" + token_hex().encode()):
        whole = between.join(values)
        if whole.count(between) == len(values) - 1:
            break
    if ESCAPED_HALF in whole:
        return [value.decode("utf-8", "backslashreplace").encode() for value in values]
    escaped = whole.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace")
    return escaped.replace(ESCAPED_HALF, b"\\x").split(between)


def _by_row(lost: Sequence[pl.DataFrame], count: int) -> pa.Array:
    """What was lost in each of `count` rows, in the order of the columns; null where nothing was."""
    if not lost:
        return pa.nulls(count, UNDECODABLE_TYPE)
    of_rows = pl.concat(lost).group_by("row", maintain_order=True).agg(pl.struct("column", "bytes").alias("lost"))
    rows = pl.DataFrame({"row": pl.int_range(count, eager=True)})
    told = rows.join(of_rows, on="row", how="left", maintain_order="left")["lost"]
    return told.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(UNDECODABLE_TYPE)
