"""Which of very many numbers occur more than once, where only a part of them is held; nothing is known of keys here."""

from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from dtx_assets.machinery.base.scratch import AppendedFile

HELD = 2_000_000
"""Numbers that are held at once."""


@dataclass(frozen=True)
class Repeated:
    """Numbers (Int64, ascending) that occur more than once, and how many rows have one of them."""

    numbers: pl.Series
    rows: int


def repeated(numbers: pl.Series) -> Repeated:
    """Those of some numbers (Int64) that occur more than once."""
    return _of_sorted(numbers.sort())


def repeated_of_many(chunks: Iterable[pl.Series], ranges: int, directory: Path) -> Repeated:
    """As `repeated` of all chunks together, while one chunk or the numbers of one range are held.

    The numbers are digests, so spread evenly: they go to files in the directory by their place in one of as many
    ranges, and of one that is often in a chunk two do.
    """
    width = (1 << 64) // ranges
    limits = pl.Series([-(1 << 63) + width * place for place in range(1, ranges)], dtype=pl.Int64)
    paths = [directory / str(place) for place in range(ranges)]
    left_out = 0
    with ExitStack() as stack:
        files = [stack.enter_context(closing(AppendedFile(path))) for path in paths]
        for chunk in chunks:
            every = chunk.sort()
            # Two say that it is repeated. So what is in a file stays small where one number is in all rows.
            kept = every.filter(every.ne_missing(every.shift(2)))
            left_out += len(every) - len(kept)
            ends = [*kept.search_sorted(limits, "left").to_list(), len(kept)]
            start = 0
            for file, end in zip(files, ends, strict=True):
                file.write(kept.slice(start, end - start).to_numpy().tobytes())
                file.flush()
                start = end
    found = []
    for path in paths:
        found.append(repeated(pl.Series(np.fromfile(path, np.int64), dtype=pl.Int64)))
        path.unlink()
    return Repeated(pl.concat([each.numbers for each in found]), left_out + sum(each.rows for each in found))


def _of_sorted(numbers: pl.Series) -> Repeated:
    again = numbers == numbers.shift()
    found = numbers.filter(again).unique().sort()
    # The first of each, and each that is there again.
    return Repeated(found, len(found) + int(again.sum() or 0))
