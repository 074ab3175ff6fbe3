"""Buckets: how rows are spread over batches so that everything one owner owns lies in one batch, run after run."""

import polars as pl

BUCKETS = 4096
BUCKET = pl.Int16()
PORTION = pl.Int16()
"""Which of several entries of a source row in the mapping one is: of a junction, the bucket, else 0."""


def bucket_of(owner: pl.Expr) -> pl.Expr:
    """The bucket (0 to 4095) of an integer owner id; the same in every run, evenly spread for any spacing of ids."""
    spread = (owner.cast(pl.Int64) % (1 << 31)) * 2654435761 % (1 << 32)
    return (spread // (1 << 20)).cast(BUCKET)


def batch_count(source_rows: int, batch_rows: int) -> int:
    """How many batches hold `source_rows`: a power of two, so that more batches only split fewer ones."""
    batches = 1
    while batches < BUCKETS and source_rows > batches * batch_rows:
        batches *= 2
    return batches


def bucket_range(batch: int, batches: int) -> tuple[int, int]:
    """First and last bucket of a batch, both inclusive."""
    width = BUCKETS // batches
    return batch * width, (batch + 1) * width - 1
