"""What a flow made of a stretch of rows, taken apart into the parts that are loaded: each a range of buckets.

Running a flow costs the same for few rows as for many, so small batches are prepared together where that makes no
difference to any row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from dtx_assets.machinery.prepare.buckets import BUCKETS
from dtx_assets.machinery.system.flow import Prepared

STRETCH_ROWS = 50_000
"""Legacy rows that a flow is run on at once, where batches are smaller."""
Buckets = tuple[int, int]


@dataclass(frozen=True)
class Slice:
    """One part within the frames of a stretch: where its rows, links and rejected rows begin, and how many they are."""

    part: str
    buckets: Buckets
    rows: tuple[int, int]
    links: tuple[int, int]
    rejected: tuple[int, int]


def ranges_of(buckets: Buckets, batches: int) -> list[Buckets]:
    """The ranges of the batches that lie within some buckets; these themselves where a batch is no smaller."""
    (low, high), width = buckets, BUCKETS // batches
    if width > high - low:
        return [buckets]
    return [(first, first + width - 1) for first in range(low, high + 1, width)]


def taken_apart(
    prepared: Prepared, rejected: pl.DataFrame, ranges: Sequence[Buckets]
) -> tuple[Prepared, pl.DataFrame, list[Slice]]:
    """The same rows in the order of the ranges, numbered from 0 in each, and where each range lies in them.

    Each target row must come from legacy rows of one bucket.
    """
    (low, high) = ranges[0]
    width = high - low + 1
    range_of = ((pl.col("bucket").cast(pl.Int32) - low) // width).alias("_range")
    links = prepared.links.with_columns(range_of).sort("_range", maintain_order=True).with_row_index("_link")
    exploded = links.select("_link", "_range", pl.col("rows").alias("_row")).explode("_row")
    placed = exploded.drop_nulls("_row").unique("_row").select("_row", "_range")
    rows = prepared.rows.join(placed, on="_row", how="left", maintain_order="left").sort("_range", maintain_order=True)
    rows = rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over("_range").alias("_new"))
    numbered = exploded.join(rows.select("_row", "_new"), on="_row", how="left", maintain_order="left")
    lists = numbered.group_by("_link", maintain_order=True).agg(pl.col("_new").drop_nulls().alias("rows"))
    links = links.drop("rows").join(lists, on="_link", maintain_order="left")
    rejected = rejected.with_columns(range_of).sort("_range", maintain_order=True)
    counts = [list(_places(frame, len(ranges))) for frame in (rows, links, rejected)]
    slices = [
        Slice(f"{first // width:05d}", (first, last), *(places[number] for places in counts))
        for number, (first, last) in enumerate(ranges)
    ]
    rows = rows.with_columns(pl.col("_new").alias("_row")).select(prepared.rows.columns)
    links = links.select(prepared.links.columns)
    return Prepared(rows, links, prepared.is_fitted), rejected.drop("_range"), slices


def _places(frame: pl.DataFrame, ranges: int) -> Iterator[tuple[int, int]]:
    counted = dict(frame.group_by("_range").len().iter_rows())
    start = 0
    for number in range(ranges):
        rows = counted.get(number, 0)
        yield start, rows
        start += rows
