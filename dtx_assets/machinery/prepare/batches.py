"""The legacy rows of a flow batch by batch: those of one owner in one batch, or else those of one key; and memory does
not grow with the tables.

What becomes of the rows of a batch is `prepare`; which buckets there are is `buckets`.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import polars as pl
import polars_hash as plh
import pyarrow.ipc

from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.base.scratch import AppendedFile, scratch_directory
from dtx_assets.machinery.model.legacy import ColumnKind, LegacyTable
from dtx_assets.machinery.prepare.buckets import batch_count, bucket_of, bucket_range
from dtx_assets.machinery.prepare.repeated import HELD, Repeated, repeated, repeated_of_many
from dtx_assets.machinery.sources.documents import BSON
from dtx_assets.machinery.sources.frames import key_text, source_key
from dtx_assets.machinery.sources.landing import ROW, UNDECODABLE, UNREADABLE
from dtx_assets.machinery.sources.whole_rows import whole_documents
from dtx_assets.machinery.transforms.bson_values import text_of_value
from dtx_assets.machinery.transforms.columns import OBJECT_ID, canonical_id, integer_value, object_id_value
from dtx_assets.machinery.transforms.json_values import plain_text

EXTRA = "extra:"
"""Stands before the name of a column that no one named, so that it meets no column that a flow makes."""

BATCH_BYTES = 24 * 1024 * 1024
"""Compressed bytes of legacy rows in one batch at most, so that tables of long texts come in smaller batches."""

SCATTERED_ROWS = 100_000
"""Rows that are held while they are spread over the batches, and of those whose key occurs twice."""

KEYS_HELD = HELD
"""Digests of keys that are held at once."""

NO_OWNERS = pl.LazyFrame(schema={"source_id": pl.String, "target_id": pl.Int64})

Batch = tuple[str, tuple[int, int], dict[str, pl.DataFrame]]
"""Part, first and last bucket, frames by source table."""


@dataclass(frozen=True)
class SourceRows:
    """The rows of one source table on their way into batches.

    `fates` is what `key_fates` gives; `owners` has `key` (ascending) and `owner`, both Int64; `owner_kind` is the kind
    of the ids of owners. Without an `owner_column` nobody owns a row, and it goes by its key. Both are held: 24 bytes
    for each row that does not count, 16 for each id of the crosswalk of owners.
    """

    table: LegacyTable
    frame: pl.LazyFrame
    rows: int
    owner_column: str | None
    fates: pl.DataFrame
    owners: pl.DataFrame
    owner_kind: ColumnKind

    @classmethod
    def of(
        cls,
        table: LegacyTable,
        frame: pl.LazyFrame,
        rows: int,
        owner_column: str | None = None,
        owners: pl.LazyFrame | None = None,
        owner_kind: ColumnKind = "integer",
        home: Path | None = None,
    ) -> Self:
        """`frame` has the rows as `legacy_frame` gives them, `owners` is a crosswalk from the column to the owner.

        Under `home` lies what is too much to be held while keys that occur twice are looked for.
        """
        if owners is None:
            owners = NO_OWNERS
        known = (*table.columns, ROW, UNDECODABLE, UNREADABLE)
        frame = frame.rename(lambda name: name if name in known else EXTRA + name)
        return cls(
            table,
            frame,
            rows,
            owner_column,
            key_fates(table, source_key(table, frame), rows, home) if table.has_unique_key else NO_FATES,
            owners_by_key(owners, owner_kind).sort("key").collect(engine="streaming"),
            owner_kind,
        )

    def placed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Adds `_key_fate` and `_bucket`. Rows of one owner lie in one bucket even where the owner has no match.

        Without an owner those of one key do, or of one content where the table has no key: no other row has a say in
        it, so that one that is deleted moves no other.
        """
        if self.owner_column is None:
            return rows.with_columns(bucket_of(self._digest(rows)).alias("_bucket")).join(
                self._fates_of(rows), on=ROW, how="left"
            )
        column = pl.col(self.owner_column)
        if self.table.kind_of(self.owner_column) == "json":
            # As columns of texts hold it: 5.0 and "5" are one owner.
            column = pl.coalesce(text_of_value(column), plain_text(column))
        number = number_of_id(column, self.owner_kind)
        keys = rows.select(number).to_series()
        # Rows of a key that repeats are numbered in their batch: those whose owner cannot be read must meet there too.
        nobody = text_digest(column.fill_null("")) if self.table.key_repeats else self._digest(rows)
        return (
            rows.with_columns(self._owners_of(keys).alias("_owner"))
            .with_columns(bucket_of(pl.coalesce("_owner", number, nobody)).alias("_bucket"))
            .drop("_owner")
            .join(self._fates_of(rows), on=ROW, how="left")
        )

    def _fates_of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The fates that may be of these rows: a join would hash all of them for every chunk of rows."""
        numbers, every = rows.get_column(ROW), self.fates.get_column(ROW)
        if numbers.is_empty() or every.is_empty():
            return self.fates
        # Both ends lie within.
        start, end = every.search_sorted(pl.Series([numbers.min(), numbers.max()], dtype=every.dtype), "left")
        return self.fates.slice(start, end - start + 1)

    def _digest(self, rows: pl.DataFrame) -> pl.Expr:
        """A number of the key of each row, of all its columns where the table has none."""
        if self.table.key:
            texts = [key_text(self.table, name) for name in self.table.key]
        else:
            texts = [pl.col(name) for name in sorted(rows.columns) if name not in (ROW, UNDECODABLE)]
        # NULL is no text, and the ends of texts must not meet.
        marked = [pl.format("{}:{}", text.str.len_bytes(), text).fill_null("-") for text in texts]
        return text_digest(pl.concat_str(marked))

    def _owners_of(self, keys: pl.Series) -> pl.Series:
        if self.owners.is_empty():
            return pl.repeat(None, len(keys), dtype=pl.Int64, eager=True)
        return self.owners.get_column("owner").gather(places_in(self.owners.get_column("key"), keys))


def places_in(ascending: pl.Series, numbers: pl.Series) -> pl.Series:
    """At which place of others, of which there are some, each number lies; null where it does not.

    By bisection: a join would hash all of the others again for every chunk of rows.
    """
    place = ascending.search_sorted(numbers.fill_null(0)).clip(upper_bound=len(ascending) - 1)
    return place.set(numbers.ne_missing(ascending.gather(place)), None)


def named(table: LegacyTable, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of one batch in their order, with `_source_key`; all rows that share a repeating key are in it."""
    # A key that is NULL or holds a NUL rejects its row, but that row, too, must have a name in the bookkeeping.
    nameable = pl.col("_source_key").str.replace_all("\x00", "\\x00", literal=True)
    by_place = "#{}" if UNREADABLE in rows.columns else "row {}"
    return (
        source_key(table, rows.lazy().sort(ROW))
        .with_columns(pl.coalesce(nameable, pl.format(by_place, ROW)).alias("_source_key"))
        # Where texts are shared: the streaming engine would copy large ones.
        .collect(engine="in-memory")
    )


def count_of_batches(manifests: Collection[Manifest], batch_rows: int) -> int:
    """How many batches hold the rows of some tables; `batch_rows` is how many one may have."""
    rows = sum(manifest.tables["rows"].rows for manifest in manifests)
    size = sum(entry.bytes for manifest in manifests for entry in manifest.tables["rows"].files)
    return max(batch_count(rows, batch_rows), batch_count(size, BATCH_BYTES))


@contextmanager
def legacy_batches(
    sources: Sequence[SourceRows],
    manifests: Collection[Manifest],
    batch_rows: int,
    home: Path,
    *,
    together: bool = False,
) -> Iterator[Iterator[Batch]]:
    """The rows of the sources, each batch with the columns of the tables, `_source_key`, `_key_fate` and `_bucket`.

    `batch_rows` is how many a batch may have, unless all are wanted `together`; where one batch is not enough, rows
    are spread over files under `home`.
    """
    batches = 1 if together else count_of_batches(manifests, batch_rows)
    if batches == 1:

        def whole() -> Iterator[Batch]:
            # Not kept here: who takes it may let go of it before it takes more memory.
            yield (
                "00000",
                bucket_range(0, 1),
                {
                    source.table.name: named(source.table, source.placed(source.frame.collect(engine="streaming")))
                    for source in sources
                },
            )

        yield whole()
        return
    with scattered(sources, batches, home) as scratch:

        def read() -> Iterator[Batch]:
            for batch in range(batches):
                tables = [source.table for source in sources]
                yield batch_of(batch, batches, [(table, scratch / table.name / str(batch)) for table in tables])

        yield read()


def batch_of(batch: int, batches: int, streams: Sequence[tuple[LegacyTable, Path | BinaryIO]]) -> Batch:
    """One batch of several, of the rows of each table as they were spread."""
    return (
        f"{batch:05d}",
        bucket_range(batch, batches),
        {table.name: named(table, pl.read_ipc_stream(stream)) for table, stream in streams},
    )


@contextmanager
def scattered(sources: Sequence[SourceRows], batches: int, home: Path) -> Iterator[Path]:
    """A directory under `home` with the rows of each source in a directory of its own, one file a batch."""
    with scratch_directory(home) as scratch:
        for source in sources:
            _scatter(source, scratch / source.table.name, batches)
        yield scratch


def _scatter(source: SourceRows, directory: Path, batches: int) -> None:
    """Writes one file a batch, a chunk of rows at a time."""
    directory.mkdir()
    width = bucket_range(0, batches)[1] + 1
    schema = source.placed(source.frame.head(0).collect()).to_arrow().schema
    options = pyarrow.ipc.IpcWriteOptions(compression="lz4")
    with ExitStack() as stack:
        files = [stack.enter_context(closing(AppendedFile(directory / str(batch)))) for batch in range(batches)]
        writers = [stack.enter_context(pyarrow.ipc.new_stream(file, schema, options=options)) for file in files]
        # Not `collect_batches`, which reads ahead of a slow reader without end.
        for offset in range(0, source.rows, SCATTERED_ROWS):
            chunk = source.frame.slice(offset, SCATTERED_ROWS).collect(engine="streaming")
            placed = source.placed(chunk).with_columns((pl.col("_bucket") // width).alias("_batch"))
            for (batch,), part in placed.partition_by("_batch", include_key=False, as_dict=True).items():
                writers[int(batch)].write_table(part.to_arrow().cast(schema))
                files[int(batch)].flush()


# --- keys that occur twice --------------------------------------------------------------------------------------------

BEFORE_ALL = 1 << 48
"""More than a table has rows."""
NO_FATES = pl.DataFrame(schema={ROW: pl.Int64, "_key_fate": pl.String})


def key_fates(table: LegacyTable, frame: pl.LazyFrame, rows: int = 0, home: Path | None = None) -> pl.DataFrame:
    """Rows of a table with a unique key that do not count, ascending: `_row` and `_key_fate`.

    `identical`: wholly the same as an earlier row. `duplicate_key`: a later row has the same key and other content. Of
    documents the text counts, an ObjectId goes before text, and one that cannot be read is compared with none.

    With a `home`, and how many `rows` there are, the memory for it does not grow with the rows: the digests of more
    than `KEYS_HELD` keys, and more than `SCATTERED_ROWS` rows whose key occurs twice, are spread over files there. Then
    as well are held: of each key that occurs twice 8 bytes, and of one key all rows that differ.
    """
    if not table.has_unique_key:
        return NO_FATES
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_directory(home)) if home and rows > SCATTERED_ROWS else None
        suspects = _repeated_keys(table, frame, rows, scratch)
        if not suspects.rows:
            return NO_FATES
        if scratch and suspects.rows > SCATTERED_ROWS:
            found = [_fates(table, chunks) for chunks in _rows_by_key(table, frame, rows, suspects, scratch)]
        else:
            is_suspect = KEY_DIGEST.is_in(suspects.numbers.implode())
            some = _stretches(frame, rows) if scratch else [frame]
            few = (_keyed(table, each).filter(is_suspect).collect(engine="streaming") for each in some)
            found = [_fates(table, map(_by_themselves, few))]
        return pl.concat(found).sort(ROW)


def _keyed(table: LegacyTable, frame: pl.LazyFrame) -> pl.LazyFrame:
    """The rows that have a key."""
    # What should be an ObjectId and is none is no key, however often it is there.
    is_object_id = [object_id_value(pl.col(name)) for name in table.key if table.kind_of(name) == "object_id"]
    keyed = frame.filter(value.is_not_null() for value in (*map(pl.col, table.key), *is_object_id))
    if UNREADABLE in frame.collect_schema().names():
        keyed = keyed.filter(pl.col(UNREADABLE).is_null())
    return keyed


def _repeated_keys(table: LegacyTable, frame: pl.LazyFrame, rows: int, scratch: Path | None) -> Repeated:
    """The digests of keys that occur more than once."""

    def digests(some: pl.LazyFrame) -> pl.Series:
        # Numbers, not texts: they alone are held of many rows.
        return _keyed(table, some).select(KEY_DIGEST).collect(engine="streaming").to_series()

    if scratch is None or rows <= KEYS_HELD:
        return repeated(digests(frame))
    directory = scratch / "digests"
    directory.mkdir()
    return repeated_of_many(map(digests, _stretches(frame, rows)), -(-rows // KEYS_HELD), directory)


def _stretches(frame: pl.LazyFrame, rows: int) -> Iterator[pl.LazyFrame]:
    """The rows, as many at a time as there are keys held at once."""
    return (frame.slice(offset, KEYS_HELD) for offset in range(0, rows, KEYS_HELD))


def _by_themselves(rows: pl.DataFrame) -> pl.DataFrame:
    """The same rows without the memory of all that they were chosen from: a text is only a view of it."""
    return pl.DataFrame(pl.from_arrow(rows.to_arrow()))


def _rows_by_key(
    table: LegacyTable, frame: pl.LazyFrame, rows: int, suspects: Repeated, scratch: Path
) -> Iterator[Iterator[pl.DataFrame]]:
    """The rows of some digests in pieces, each of `SCATTERED_ROWS` in the mean, in chunks; a key is in one of them."""
    count = min(-(-suspects.rows // SCATTERED_ROWS), len(suspects.numbers))
    schema = frame.head(0).collect().to_arrow().schema
    options = pyarrow.ipc.IpcWriteOptions(compression="lz4")
    paths = [scratch / str(piece) for piece in range(count)]
    with ExitStack() as stack:
        files = [stack.enter_context(closing(AppendedFile(path))) for path in paths]
        writers = [stack.enter_context(pyarrow.ipc.new_stream(file, schema, options=options)) for file in files]
        for offset in range(0, rows, SCATTERED_ROWS):
            some = frame.slice(offset, SCATTERED_ROWS)
            chunk = _keyed(table, some).with_columns(KEY_DIGEST).collect(engine="streaming")
            place = places_in(suspects.numbers, chunk.get_column("_digest"))
            piece = (place.cast(pl.Int64) * count // len(suspects.numbers)).alias("_piece")
            of_suspects = chunk.drop("_digest").with_columns(piece).filter(place.is_not_null())
            for (number,), part in of_suspects.partition_by("_piece", include_key=False, as_dict=True).items():
                writers[int(number)].write_table(part.to_arrow().cast(schema))
                files[int(number)].flush()
    for path in paths:
        with pyarrow.ipc.open_stream(path) as stream:
            yield (pl.DataFrame(pl.from_arrow(batch)) for batch in stream)
        path.unlink()


def _fates(table: LegacyTable, chunks: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """What `key_fates` says of rows that are all the rows of their keys."""
    numbers: list[pl.Series] = []
    held: list[pl.DataFrame] = []
    height, limit = 0, SCATTERED_ROWS
    for chunk in chunks:
        rows = _compared(table, chunk)
        numbers.append(rows.get_column(ROW))
        held.append(rows)
        height += rows.height
        if height > limit:
            held = [_first_of_each(held)]
            height = held[0].height
            # Not before as many again are there: what differs is compared with all of them each time.
            limit = SCATTERED_ROWS + 2 * height
    first = _first_of_each(held)
    losers = first.filter(pl.col("_rank") != pl.col("_rank").max().over("_source_key")).select(
        ROW, pl.lit("duplicate_key").alias("_key_fate")
    )
    identical = pl.concat(numbers).to_frame().join(first.select(ROW), on=ROW, how="anti")
    return pl.concat([losers, identical.select(ROW, pl.lit("identical").alias("_key_fate"))])


def _first_of_each(rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The first of the rows of each content."""
    every = pl.concat(rows)
    content = [name for name in every.columns if name not in (ROW, "_source_key", "_rank")]
    return every.sort(ROW).unique(content, keep="first", maintain_order=True)


def _compared(table: LegacyTable, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with what of them is compared, and `_rank`: of the rows of one key the highest counts."""
    is_id = [pl.col(name).str.starts_with(OBJECT_ID) for name in table.key if table.kind_of(name) == "object_id"]
    rank = pl.sum_horizontal(ROW, *(each.cast(pl.Int64) * BEFORE_ALL for each in is_id)).alias("_rank")
    if EXTRA + BSON in rows.columns:
        return rows.select(ROW, "_source_key", rank, whole_documents(EXTRA + BSON).alias("_document"))
    return rows.with_columns(rank)


def number_of_id(text: pl.Expr, kind: ColumnKind) -> pl.Expr:
    """What stands for an id where only numbers are held: itself, or the digest of a text."""
    if kind == "integer":
        return integer_value(text.str.strip_chars())
    return pl.when(text.is_not_null()).then(text_digest(canonical_id(text, kind)))


def owners_by_key(crosswalk: pl.LazyFrame, kind: ColumnKind) -> pl.LazyFrame:
    """The numbers of the ids of a crosswalk and those of their owners (Int64): `key`, `owner`."""
    owner = pl.col("target_id")
    if crosswalk.collect_schema()["target_id"] == pl.String:
        owner = text_digest(owner)
    return crosswalk.select(number_of_id(pl.col("source_id"), kind).alias("key"), owner.alias("owner")).drop_nulls()


def text_digest(text: pl.Expr) -> pl.Expr:
    """A 64-bit number of a text, the same in every run."""
    return plh.concat_str([text]).nchash.xxhash64().reinterpret(signed=True)


KEY_DIGEST = text_digest(pl.col("_source_key")).alias("_digest")
