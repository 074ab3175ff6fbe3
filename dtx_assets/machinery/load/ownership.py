"""Which rows of a target are this system's, and whether they are as it left them. Pure functions over frames.

What is told here of prepared rows, `fates` and `yields`, all decisions about a part are made of.
"""

from collections.abc import Sequence

import polars as pl

from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.content import content_hash
from dtx_assets.machinery.prepare.buckets import BUCKET, PORTION

THEIRS = "another owner's row has other values"
CHANGED = "someone changed what this migration wrote"
MOVED = "someone changed the key of what this migration wrote"
KEY_TAKEN = "another owner's row has this key"
TAKEN = "another row has the same natural key"
DELETED = "someone deleted what this migration wrote"
MISSING = "the row to be filled is not there any more"

FATES = pl.Schema(
    {
        "_row": pl.Int64(),
        "fate": pl.String(),
        "target_id": pl.Int64(),
        "adopted": pl.Boolean(),
        "hash": pl.UInt64(),
        "shape": pl.String(),
        "cause": pl.String(),
        "columns": pl.List(pl.String),
    }
)
"""`target_id`: null where the row is not there; `hash`: of the values it has in the end; `shape`: the columns and JSON
keys that a unit writes; `columns`: that differ."""

YIELDS = pl.Schema(
    {
        "flow_id": pl.Int16(),
        "source_key": pl.String(),
        "source_row": pl.Int64(),
        "bucket": BUCKET,
        "part": pl.String(),
        "_row": pl.Int64(),
        "owns": pl.Boolean(),
        "portion": PORTION,
        "total": pl.Int64(),
    }
)
"""One row a (source row, prepared row). `total`: how many the source row gives, where other parts may have some."""

SOURCE = ["flow_id", "source_key"]
ENTRY = ["flow_id", "source_key", "portion"]
"""What tells the entries of the mapping apart."""
PLACE = ["flow_id", "source_key", "part"]
UNIT = ["target_id", "part"]
"""What tells units apart: a prepared row of such a target is what one part fills of one row."""


def identity_of(target: TargetTable) -> list[str]:
    """What a source row gives to a target: a row, or a unit of a row of another area."""
    return UNIT if target.writes == "update" else ["target_id"]


def yields_of(links: pl.DataFrame) -> pl.DataFrame:
    """The links of a part taken apart, in their order."""
    return links.rename({"parts": "part", "rows": "_row"}).explode("part", "_row").select(YIELDS.names()).cast(YIELDS)


def known_rows(stored: pl.DataFrame) -> pl.DataFrame:
    """What was written before, one row a target row: target_id, `written` (hash), batch_id, adopted."""
    return (
        stored.filter(pl.col("hash").is_not_null())
        .sort("batch_id")
        .group_by("target_id")
        .agg(pl.col("hash").last().alias("written"), pl.col("batch_id").last(), pl.col("adopted").last())
    )


def with_ownership(
    current: pl.DataFrame,
    columns: Sequence[TargetColumn],
    known: pl.DataFrame,
    written_columns: dict[int, Sequence[TargetColumn] | None],
) -> pl.DataFrame:
    """Adds to rows of the target `_hash` (of the columns), `_known`, `_adopted`, and `_same` (as left or as found).

    `written_columns` gives the columns that each batch hashed; None where one of them is not there any more.
    """
    facts = known.select("target_id", *(pl.col(name).alias(f"_{name}") for name in ("written", "batch_id", "adopted")))
    current = current.with_columns(content_hash(columns).alias("_hash")).join(
        facts, left_on="_id", right_on="target_id", how="left", maintain_order="left"
    )
    groups: dict[tuple[TargetColumn, ...], list[int]] = {}
    for batch, written in written_columns.items():
        if written is not None:
            groups.setdefault(tuple(written), []).append(batch)
    same = pl.lit(False)
    for written, batches in groups.items():
        hashed = pl.col("_hash") if written == tuple(columns) else content_hash(written)
        same = pl.when(pl.col("_batch_id").is_in(batches)).then(hashed == pl.col("_written")).otherwise(same)
    return current.with_columns(
        pl.col("_written").is_not_null().alias("_known"),
        pl.col("_adopted").fill_null(False),
        same.fill_null(False).alias("_same"),
    ).drop("_written", "_batch_id")


def with_former_rows(current: pl.DataFrame, made: pl.DataFrame, own_xmins: pl.Series) -> pl.DataFrame:
    """Rows that the mapping does not know are `_known` too where this system made them.

    `made`: `low` and `high` of the ids that it gave, ascending. Such a row is the `_same` while the transaction that
    wrote it last is one of `own_xmins`.
    """
    former = (
        current.select("_id")
        .sort("_id")
        .join_asof(made, left_on="_id", right_on="low")
        .filter(pl.col("_id") <= pl.col("high"))
        .get_column("_id")
    )
    found = ~pl.col("_known") & pl.col("_id").is_in(former.implode())
    return current.with_columns(
        pl.when(found).then(pl.col("_xmin").is_in(own_xmins.implode())).otherwise("_same").alias("_same"),
        (pl.col("_known") | found).alias("_known"),
    )
