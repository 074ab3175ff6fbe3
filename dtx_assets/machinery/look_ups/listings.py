"""What the files hold that rows of a legacy table name: a look-up of its own kind, which one process makes, or several.

In the lake its paths are in hexadecimal, since they need not be text; files come in the order of their paths.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from dtx_assets.machinery.files.inventory import LegacyFiles

if TYPE_CHECKING:
    from dtx_assets.machinery.look_ups.assets import MappingContext


@dataclass(frozen=True)
class Listing:
    """The files that rows of the legacy table `source` name.

    `paths`: of rows of it, all or some, the `path` of each (Binary); of a row without a file NULL, or none. What it
    gives of a row depends on no other row. `may_be_missing`: rows may do without all of the files.
    """

    source: str
    paths: "Callable[[MappingContext, pl.LazyFrame], pl.LazyFrame]"
    may_be_missing: bool = False

    def look(self, context: "MappingContext", paths: pl.Series, known: pl.DataFrame | None) -> pl.DataFrame:
        """INVENTORY of some of its files. Of all of them `judge` says more."""
        files = files_of(context)
        return (files.objects if self.may_be_missing else files.share)(paths, known)

    def build(self, context: "MappingContext", name: str) -> pl.LazyFrame:
        """All of its files as the look-up `name` has them; what is known of a file that did not change is not read."""
        files = files_of(context)
        paths = self.paths(context, context.legacy(self.source)).collect(engine="streaming").to_series()
        key = (context.system, "mapping", name)
        before = context.lake.manifest(key)
        known = with_bytes(context.lake.scan(key, manifest=before)).collect() if before else None
        found = (files.objects if self.may_be_missing else files.inventory)(paths, known)
        return with_hexadecimal(found.lazy())


def files_of(context: "MappingContext") -> LegacyFiles:
    assert context.files is not None
    return context.files


def with_hexadecimal(inventory: pl.LazyFrame) -> pl.LazyFrame:
    """An INVENTORY as it is in the lake. Its order stays what it was."""
    return inventory.with_columns(pl.col("path").bin.encode("hex"))


def with_bytes(listed: pl.LazyFrame) -> pl.LazyFrame:
    """An INVENTORY of what is in the lake."""
    return listed.with_columns(pl.col("path").str.decode("hex"))


class ListingDigest:
    """Changes with the content of a listing, and not with the files of the lake that it lies in."""

    def __init__(self, rows: int = 0, sums: tuple[int, int] = (0, 0)) -> None:
        self.rows, self.sums = rows, sums

    def add(self, frame: pl.DataFrame) -> None:
        self.rows += frame.height
        of_frame = (int(frame.hash_rows(seed=seed).to_numpy().sum(dtype="uint64")) for seed in range(2))
        first, second = ((sum_ + more) % (1 << 64) for sum_, more in zip(self.sums, of_frame, strict=True))
        self.sums = first, second

    def __str__(self) -> str:
        return hashlib.sha256(f"{self.rows} {self.sums}".encode()).hexdigest()
