"""The mapping after a part: what its source rows give now, and what they gave before. Pure functions over frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from dtx_assets.machinery.load.entries import LINKED
from dtx_assets.machinery.load.ownership import ENTRY, PLACE


@dataclass(frozen=True)
class Given:
    """What the source rows of a part give now, beside what the mapping knows of them.

    `mapped`: their links but those in conflict, `kept`: the places that the latter had before; `left`: what was given
    before and is no longer. `vanished`: target rows, or units of them, that the mapping knew and the part does not
    yield. `yielded`: those that it does, by target_id or UNIT.
    """

    mapped: pl.DataFrame
    kept: pl.DataFrame
    left: pl.DataFrame
    vanished: pl.DataFrame
    yielded: pl.DataFrame


def given_by(
    yields: pl.DataFrame, fates: pl.DataFrame, stored: pl.DataFrame, identity: Sequence[str] = ("target_id",)
) -> Given:
    """What a part gives; in `fates`, inserted rows have their new ids. `identity` may be UNIT."""
    linked = yields.with_row_index("_order").join(fates, on="_row", how="left", maintain_order="left")
    yielded = linked.filter(pl.col("target_id").is_not_null()).select(identity).unique()
    mapped = linked.filter(pl.col("fate") != "conflict").select(
        "_order",
        "flow_id",
        "source_key",
        "bucket",
        "part",
        "target_id",
        pl.when("owns").then("hash").alias("hash"),
        "adopted",
        "shape",
        "portion",
    )
    in_conflict = linked.filter(pl.col("fate") == "conflict").select("_order", *PLACE, "bucket", "portion")
    kept = in_conflict.join(
        stored.select(*PLACE, "target_id", "hash", "adopted", "shape"), on=PLACE, maintain_order="left"
    ).select(mapped.columns)
    yielded = pl.concat([yielded, kept.select(identity)]).unique()
    not_yielded = stored.with_row_index("_place").join(yields, on=PLACE, how="anti", maintain_order="left")
    left = not_yielded.join(yielded, on=identity, how="anti", maintain_order="left")
    now = pl.concat([mapped, kept]).select(*PLACE, pl.col("target_id").alias("new_id"))
    moved = (
        stored.join(now, on=PLACE)
        .filter(pl.col("target_id") != pl.col("new_id"))
        .join(yielded, on=identity, how="anti", maintain_order="left")
    )
    vanished = pl.concat([left.select(stored.columns), moved.select(stored.columns)])
    return Given(
        mapped,
        kept,
        left,
        vanished.filter(pl.col("hash").is_not_null()).select("flow_id", "bucket", "source_key", "part", "target_id"),
        yielded,
    )


@dataclass(frozen=True)
class Relinked:
    """How the mapping changes: `entries` (LINKED) take the place of those of the same source rows, `removed` go."""

    entries: pl.DataFrame
    removed: pl.DataFrame


def relink(given: Given, yields: pl.DataFrame, stored: pl.DataFrame) -> Relinked:
    """The mapping of a part.

    A row in conflict keeps the place it had. What a source row gave before and gives no longer stays mapped, unless
    another source row gives that target row now.
    """
    mapped = given.mapped
    buckets = yields.select(*ENTRY, pl.col("bucket").alias("new_bucket")).unique(ENTRY)
    retained = (
        given.left.join(buckets, on=ENTRY, how="left", maintain_order="left")
        .with_columns(pl.coalesce("new_bucket", "bucket").alias("bucket"), pl.col("_place") + yields.height)
        .select(pl.col("_place").alias("_order"), *mapped.columns[1:])
    )
    now = pl.concat([mapped, given.kept, retained]).sort("_order")
    compared = [*PLACE, "bucket", "target_id", "hash", "adopted"]
    changed = pl.concat(
        [
            now.join(stored, on=compared, how="anti", nulls_equal=True).select(ENTRY),
            stored.join(now, on=compared, how="anti", nulls_equal=True).select(ENTRY),
        ]
    ).unique()
    entries = now.join(changed, on=ENTRY, how="semi", maintain_order="left")
    return Relinked(
        entries.select(pl.lit(0, pl.Int64).alias("batch_id"), pl.exclude("_order")).select(LINKED.names()),
        changed.join(now, on=ENTRY, how="anti"),
    )
