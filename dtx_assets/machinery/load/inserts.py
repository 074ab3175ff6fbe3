"""What becomes of each prepared row that this system creates, given what it wrote before and what is there now.

Pure functions over frames. Fates of a row: `insert`, `update`, `unchanged`, `adopt` (someone else made the same row),
`conflict` (someone else's values are there).
"""

from collections.abc import Sequence

import polars as pl

from dtx_assets.machinery.load.ownership import CHANGED, DELETED, FATES, KEY_TAKEN, MOVED, PLACE, TAKEN, THEIRS
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.content import key_value


def insert_fates(
    target: TargetTable,
    columns: Sequence[TargetColumn],
    rows: pl.DataFrame,
    yields: pl.DataFrame,
    stored: pl.DataFrame,
    current: pl.DataFrame,
    *,
    overwrite: bool,
) -> pl.DataFrame:
    """FATES of the rows of a target that this system creates.

    `rows`: `_row`, `_hash`, columns with canonical JSON, and `_id` where keys are written; `current`: `_id`, `_xmin`,
    the same columns, and what `with_ownership` adds. A key that is written says which row of the target a prepared row
    is; else a natural key does, else the mapping.
    """
    facts = current.select("_id", "_hash", "_known", "_adopted", "_same")
    found = (_found_by_key if target.key_is_written else _found_by_natural_key)(target, rows, yields, stored, current)
    joined = rows.select("_row", "_hash").join(found, on="_row", maintain_order="left")
    joined = joined.join(facts, on="_id", how="left", suffix="@now", maintain_order="left")
    there = pl.col("_id").is_not_null()
    equal = pl.col("_hash") == pl.col("_hash@now")
    fate = (
        pl.when(there & equal & pl.col("_known"))
        .then(pl.lit("unchanged"))
        .when(there & equal)
        .then(pl.lit("adopt"))
        .when("taken")
        .then(pl.lit("conflict"))
        .when(there & pl.col("_known") & pl.col("_same") & ~pl.col("_adopted"))
        .then(pl.lit("update"))
        .when(there)
        .then(pl.lit("update" if overwrite else "conflict"))
        .when("deleted")
        .then(pl.lit("insert" if overwrite else "conflict"))
        .otherwise(pl.lit("insert"))
    )
    cause = (
        pl.when("taken")
        .then(pl.lit(TAKEN))
        .when("displaced")
        .then(pl.lit(MOVED))
        .when(~there)
        .then(pl.lit(DELETED))
        .when(pl.col("_known") & ~pl.col("_adopted"))
        .then(pl.lit(CHANGED))
        .otherwise(pl.lit(KEY_TAKEN if target.key_is_written else THEIRS))
    )
    fates = joined.select(
        "_row",
        fate.alias("fate"),
        pl.col("_id").alias("target_id"),
        (pl.col("_adopted").fill_null(False) | (fate == "adopt")).alias("adopted"),
        pl.col("_hash").alias("hash"),
        pl.lit(None, pl.String).alias("shape"),
        pl.when(fate == "conflict").then(cause).alias("cause"),
    )
    return fates.join(_differing(columns, rows, current, fates), on="_row", how="left", maintain_order="left").select(
        FATES.names()
    )


def _found_by_natural_key(
    target: TargetTable, rows: pl.DataFrame, yields: pl.DataFrame, stored: pl.DataFrame, current: pl.DataFrame
) -> pl.DataFrame:
    """`_row`, and `_id` of the row that it is (null: none); `displaced`, `deleted`, `taken` by another row."""
    mapped = (
        yields.filter("owns")
        .join(stored, on=PLACE)
        .group_by("_row")
        .agg(pl.col("target_id").first().alias("mapped_id"))
    )
    key = list(target.natural_key)
    keyed = pl.lit(bool(key)) & (
        pl.lit(True) if target.nulls_equal or not key else pl.all_horizontal(pl.col(name).is_not_null() for name in key)
    )
    keys = [f"{name}@key" for name in key]
    found = rows.select("_row", "_hash", keyed.alias("_keyed"), *_equal_keys(target))
    found = found.join(mapped, on="_row", how="left", maintain_order="left")
    if key:
        present = current.select(*_equal_keys(target), pl.col("_id").alias("_found"))
        found = found.join(present, on=keys, how="left", nulls_equal=target.nulls_equal, maintain_order="left")
    else:
        found = found.with_columns(pl.lit(None, pl.Int64).alias("_found"))
    of_mapped = current.select(pl.col("_id").alias("mapped_id"), pl.col("_same").alias("mapped_same"))
    found = found.join(of_mapped, on="mapped_id", how="left", maintain_order="left")
    hashes = (
        stored.join(current, left_on="target_id", right_on="_id", how="anti").get_column("hash").drop_nulls().unique()
    )
    mapped_there = pl.col("mapped_same").is_not_null()
    # Its key was changed by someone: the row is still the one that was written.
    displaced = pl.col("_keyed") & pl.col("_found").is_null() & mapped_there & ~pl.col("mapped_same")
    place = (
        pl.when(displaced)
        .then("mapped_id")
        .when("_keyed")
        .then("_found")
        .otherwise(pl.when(mapped_there).then("mapped_id"))
    )
    deleted = (pl.col("mapped_id").is_not_null() & ~mapped_there) | (
        # Without a key, an equal row of another source row is another row.
        pl.col("_keyed") & pl.col("mapped_id").is_null() & pl.col("_hash").is_in(hashes.implode())
    )
    return found.select(
        "_row",
        place.alias("_id"),
        displaced.fill_null(False).alias("displaced"),
        deleted.alias("deleted"),
        pl.lit(False).alias("taken"),
    )


def _found_by_key(
    target: TargetTable, rows: pl.DataFrame, yields: pl.DataFrame, stored: pl.DataFrame, current: pl.DataFrame
) -> pl.DataFrame:
    """The same of rows whose keys are written: whatever else a row holds, its key says which one it is."""
    written = stored.filter(pl.col("hash").is_not_null()).select(pl.col("target_id").alias("_id")).unique()
    there = current.select("_id", pl.lit(True).alias("there"))
    found = (
        rows.select("_row", "_id", *_equal_keys(target))
        .join(there, on="_id", how="left", maintain_order="left")
        .join(written.with_columns(pl.lit(True).alias("written")), on="_id", how="left", maintain_order="left")
    )
    taken = pl.lit(False)
    key = list(target.natural_key)
    if key and set(key) != set(target.key):
        keys = [f"{name}@key" for name in key]
        holders = current.select(*_equal_keys(target), pl.col("_id").alias("_holder")).unique(keys, keep="any")
        found = found.join(holders, on=keys, how="left", nulls_equal=target.nulls_equal, maintain_order="left")
        taken = (pl.col("_holder") != pl.col("_id")).fill_null(False)
    return found.select(
        "_row",
        pl.when("there").then("_id").alias("_id"),
        pl.lit(False).alias("displaced"),
        (pl.col("there").is_null() & pl.col("written").fill_null(False)).alias("deleted"),
        taken.alias("taken"),
    )


def _equal_keys(target: TargetTable) -> list[pl.Expr]:
    return [key_value(target.column(name)).alias(f"{name}@key") for name in target.natural_key]


def _differing(
    columns: Sequence[TargetColumn], rows: pl.DataFrame, current: pl.DataFrame, fates: pl.DataFrame
) -> pl.DataFrame:
    """The names of the columns in which rows that are updated or in conflict differ from what is there."""
    names = [column.name for column in columns]
    looked_at = fates.filter(pl.col("fate").is_in(["update", "conflict"]) & pl.col("target_id").is_not_null())
    pairs = (
        looked_at.select("_row", "target_id")
        .join(rows.select("_row", *names), on="_row")
        .join(current.select("_id", *names), left_on="target_id", right_on="_id", suffix="@now")
    )
    differing = [
        pl.when(pl.col(name).ne_missing(pl.col(f"{name}@now"))).then(pl.lit(name)).otherwise(None) for name in names
    ]
    return pairs.select("_row", pl.concat_list(differing).list.drop_nulls().alias("columns"))
