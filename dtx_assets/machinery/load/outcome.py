"""What a load decides about a part, and what it tells of it afterwards. Values only: no SQL, nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from dtx_assets.machinery.load.findings import CONFLICT
from dtx_assets.machinery.load.found import FoundByLoad
from dtx_assets.machinery.load.ownership import SOURCE
from dtx_assets.machinery.load.relink import Given, Relinked
from dtx_assets.machinery.load.samples import Sample
from dtx_assets.machinery.prepare.part import PROBLEM, Part


@dataclass
class LoadSummary:
    """What one load did, in target rows, or units of rows of others that it fills.

    `rejected` counts source rows, `accounting` has the entries of spec 5.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    adopted: int = 0
    conflicts: int = 0
    vanished: int = 0
    rejected: int = 0
    skipped_parts: int = 0
    accounting: list[dict[str, Any]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    may_refuse: list[str] = field(default_factory=list)
    """What the live target has that may refuse rows, beyond what is declared of it."""
    found: list[FoundByLoad] = field(default_factory=list)
    """What is rejected because of the target, by this load or by an earlier one."""
    made_after: list[str] = field(default_factory=list)
    """The indexes and foreign keys that are made after the load, where that was asked for."""
    not_made_after: list[str] = field(default_factory=list)
    """What stays meanwhile, or all of them, with reasons."""
    loaded_twice: str = ""
    """Where rows did not fit to one of them: which, and why. Then they were taken back, and loaded with all of them."""
    seconds: float = 0.0


@dataclass
class PartOutcome:
    """What became of the rows of one part, and what its batch remembers."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    adopted: int = 0
    conflicts: int = 0
    sliced: int = 0
    """Rows that slices of the part updated before: their batches count them."""
    inserted_ids: str = "{}"
    witness: dict[str, int] = field(default_factory=dict)
    overwritten: dict[str, int] = field(default_factory=dict)
    """How many rows that carried which xmin were updated."""
    clean: bool = True
    keys: pl.DataFrame | None = None
    """Of a dry run: what others may refer to of the rows that it would make, where that is known."""
    taken: pl.DataFrame | None = None
    """Of a subset: the source rows (`flow_id`, `source_key`), and whether each is `rejected`."""
    samples: list[Sample] = field(default_factory=list)


def conflicts_of(yields: pl.DataFrame, fates: pl.DataFrame) -> pl.DataFrame:
    """CONFLICT rows: what is in the way of which source row."""
    return (
        yields.filter("owns")
        .join(fates.filter(pl.col("fate") == "conflict"), on="_row", maintain_order="left")
        .with_columns(pl.col("columns").fill_null([]))
        .select(CONFLICT.names())
    )


def problems_of(yields: pl.DataFrame, fates: pl.DataFrame, keys: Mapping[int, str] | None = None) -> pl.DataFrame:
    """PROBLEM rows: a source row is rejected if all its target rows are in conflict, else each is listed as a part.

    `keys`: what to call rows by whose numbers are not their keys.
    """
    names = {str(number): key for number, key in (keys or {}).items()}
    linked = yields.join(
        fates.select("_row", "fate", "target_id", "cause", "columns"), on="_row", maintain_order="left"
    )
    conflict = pl.col("fate") == "conflict"
    columns = pl.col("columns").fill_null([]).list.join(", ")
    return (
        linked.with_columns((conflict.sum() < pl.coalesce("total", pl.len())).over(SOURCE).alias("partial"))
        .filter(conflict)
        .select(
            "flow_id",
            "source_key",
            "source_row",
            "bucket",
            pl.lit("target_conflict").alias("reason"),
            pl.concat_str(
                pl.col("part"),
                pl.lit(": "),
                pl.col("cause"),
                pl.when(pl.col("target_id").is_not_null())
                .then(pl.format(" (id {})", pl.col("target_id").cast(pl.String).replace(names)))
                .otherwise(pl.lit("")),
                pl.when(columns != "").then(pl.lit(": ") + columns).otherwise(pl.lit("")),
            ).alias("detail"),
            "partial",
        )
        .cast(PROBLEM)
    )


def taken_of(part: Part, problems: pl.DataFrame) -> pl.DataFrame:
    """The source rows that a part had, and whether each is rejected."""
    rejected = pl.concat(
        frame.filter(~pl.col("partial")).select(SOURCE).unique() for frame in (part.rejected, problems)
    )
    return (
        pl.concat([part.links.select(SOURCE), rejected])
        .unique()
        .join(rejected.with_columns(pl.lit(True).alias("rejected")), on=SOURCE, how="left")
        .with_columns(pl.col("rejected").fill_null(False))
    )


@dataclass(frozen=True)
class Decision:
    """What becomes of the rows of a part, compared with what is there.

    `values`: `id` and the columns of rows that are updated; `inserts`: `_row` and the new `id` of rows that are new.
    """

    stored: pl.DataFrame
    current: pl.DataFrame
    yields: pl.DataFrame
    fates: pl.DataFrame
    values: pl.DataFrame
    inserts: pl.DataFrame
    given: Given
    mapping: Relinked

    @property
    def writes(self) -> int:
        return self.values.height + self.inserts.height + self.mapping.entries.height
