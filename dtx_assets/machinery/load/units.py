"""Rows of others, of which this system fills columns: what becomes of each unit. Pure functions over frames.

The fates are those of `inserts`, but none is inserted.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.load.documents import merge_json, project_json, shape_of
from dtx_assets.machinery.load.ownership import CHANGED, FATES, MISSING, THEIRS, UNIT
from dtx_assets.machinery.model.target import TargetColumn, polars_type
from dtx_assets.machinery.postgres.content import unit_hash, with_canonical_json


@dataclass(frozen=True)
class Filled:
    """`values`: one row an updated target row, `id` and the columns as they are to be after the load."""

    fates: pl.DataFrame
    values: pl.DataFrame


def known_units(stored: pl.DataFrame) -> pl.DataFrame:
    """What was written before, one row a unit: target_id, part, `written` (hash), `had` (shape), adopted."""
    return (
        stored.filter(pl.col("hash").is_not_null())
        .sort("batch_id")
        .group_by(UNIT)
        .agg(pl.col("hash").last().alias("written"), pl.col("shape").last().alias("had"), pl.col("adopted").last())
    )


def update_fates(
    columns: Sequence[TargetColumn],
    rows: pl.DataFrame,
    yields: pl.DataFrame,
    stored: pl.DataFrame,
    current: pl.DataFrame,
    *,
    overwrite: bool,
) -> Filled:
    """FATES of units. Each column is written where it is NULL, empty, false or lacks the JSON key.

    `rows`: `_row`, `id` and the columns; NULL is not written, of JSON just the keys that the document names. `current`
    has `id`, the columns and `<name>@raw` of JSON ones. A unit is written whole or not at all; several units may fill
    one row, and each of them is looked at alone: what it fills, as it was written or found before, is its own. A key
    or column that a unit filled before and fills no longer stays as it is.
    """
    names = [column.name for column in columns]
    # Documents are merged as they are, not as they are compared.
    now_names = [f"{c.name}@raw" if c.kind.is_json else c.name for c in columns]
    parts = yields.group_by("_row").agg(pl.col("part").first())
    now = current.select(
        "_id",
        *(pl.col(raw).alias(f"{name}@now") for name, raw in zip(names, now_names, strict=True)),
        pl.lit(True).alias("there"),
    )
    joined = (
        rows.select("_row", "_id", *names)
        .join(parts, on="_row", how="left", maintain_order="left")
        .join(now, on="_id", how="left", maintain_order="left")
        .join(known_units(stored), left_on=["_id", "part"], right_on=UNIT, how="left", maintain_order="left")
    )
    for column in columns:
        joined = _looked_at_json(joined, column.name) if column.kind.is_json else _looked_at(joined, column)
    joined = joined.with_columns(_shape(names)).with_columns(pl.coalesce("had", "shape").alias("had"))
    joined = _as_it_was(joined, columns)
    found = with_canonical_json(joined.select(pl.col(f"{name}@found").alias(name) for name in names), columns)
    wanted = with_canonical_json(joined.select(names), columns)
    joined = joined.with_columns(
        (found.select(unit_hash(columns)).to_series() == pl.col("written")).fill_null(False).alias("same"),
        wanted.select(unit_hash(columns)).to_series().alias("hash"),
    )
    known = pl.col("written").is_not_null()
    adopted = pl.col("adopted").fill_null(False)
    ours = known & ~adopted
    equal = ~pl.any_horizontal(pl.col(f"{name}@differs") for name in names)
    in_the_way = pl.any_horizontal(pl.col(f"{name}@conflict") for name in names)
    refused = pl.lit("update" if overwrite else "conflict")
    fate = (
        pl.when(pl.col("there").is_null())
        .then(pl.lit("conflict"))
        .when(equal & known)
        .then(pl.lit("unchanged"))
        .when(equal)
        .then(pl.lit("adopt"))
        .when(ours & pl.col("same"))
        .then(pl.lit("update"))
        .when(ours | in_the_way)
        .then(refused)
        .otherwise(pl.lit("update"))
    )
    cause = (
        pl.when(pl.col("there").is_null())
        .then(pl.lit(MISSING))
        .when(ours)
        .then(pl.lit(CHANGED))
        .otherwise(pl.lit(THEIRS))
    )
    joined = joined.with_columns(fate.alias("fate"))
    fates = joined.select(
        "_row",
        "fate",
        pl.when("there").then("_id").alias("target_id"),
        (adopted & (pl.col("fate") != "update") | (pl.col("fate") == "adopt")).alias("adopted"),
        "hash",
        "shape",
        pl.when(pl.col("fate") == "conflict").then(cause).alias("cause"),
        pl.concat_list(pl.when(pl.col("there") & pl.col(f"{name}@differs")).then(pl.lit(name)) for name in names)
        .list.drop_nulls()
        .alias("columns"),
    )
    return Filled(fates.cast(FATES), _filled_rows(columns, joined.filter(pl.col("fate") == "update")))


def _looked_at(joined: pl.DataFrame, column: TargetColumn) -> pl.DataFrame:
    """Adds `@shape` (not null where the unit writes it), `@differs` and `@conflict` of a plain column."""
    name = column.name
    now, wanted = pl.col(f"{name}@now"), pl.col(name)
    free = now.is_null()
    if column.kind.is_text:
        free |= now == ""
    elif column.type == "boolean":
        free |= ~now
    differs = wanted.is_not_null() & now.ne_missing(wanted)
    return joined.with_columns(
        pl.when(wanted.is_not_null()).then(pl.lit("null")).alias(f"{name}@shape"),
        differs.alias(f"{name}@differs"),
        (differs & ~free).alias(f"{name}@conflict"),
    )


def _looked_at_json(joined: pl.DataFrame, name: str) -> pl.DataFrame:
    """The same of a JSON column: of the document that is there, only the keys that are wanted are looked at."""
    pairs = joined.select(name, f"{name}@now").unique(maintain_order=True)
    shapes, differs, conflict = [], [], []
    for wanted, now in pairs.iter_rows():
        merged, taken = merge_json(now, wanted)
        shapes.append(shape_of(wanted))
        differs.append(merged != now)
        conflict.append(taken)
    looked_at = pairs.with_columns(
        pl.Series(f"{name}@shape", shapes, dtype=pl.String),
        pl.Series(f"{name}@differs", differs, dtype=pl.Boolean),
        pl.Series(f"{name}@conflict", conflict, dtype=pl.Boolean),
    )
    return joined.join(looked_at, on=[name, f"{name}@now"], how="left", nulls_equal=True, maintain_order="left")


def _shape(names: Sequence[str]) -> pl.Expr:
    """What a unit writes, as JSON: `{"note":null,"settings":{"labels":{"NAME":null}}}`."""
    members = [pl.concat_str(pl.lit(f"{json.dumps(name)}:"), pl.col(f"{name}@shape")) for name in names]
    listed = pl.concat_str(members, separator=",", ignore_nulls=True)
    return pl.concat_str(pl.lit("{"), listed, pl.lit("}")).alias("shape")


def _as_it_was(joined: pl.DataFrame, columns: Sequence[TargetColumn]) -> pl.DataFrame:
    """Adds `@found`: what the columns hold now of what the unit wrote before, which may be more or less than now."""
    had = joined.get_column("had").unique(maintain_order=True)
    written = [json.loads(shape) for shape in had]
    names = [column.name for column in columns]
    parts = pl.DataFrame(
        {"had": had}
        | {
            f"{name}@had": pl.Series(
                [json.dumps(shape[name]) if name in shape else None for shape in written], dtype=pl.String
            )
            for name in names
        }
    )
    joined = joined.join(parts, on="had", how="left", maintain_order="left")
    for column in columns:
        name = column.name
        now, part = f"{name}@now", f"{name}@had"
        if not column.kind.is_json:
            joined = joined.with_columns(pl.when(pl.col(part).is_not_null()).then(now).alias(f"{name}@found"))
            continue
        pairs = joined.select(now, part).unique(maintain_order=True)
        found = [project_json(document, shape) for document, shape in pairs.iter_rows()]
        pairs = pairs.with_columns(pl.Series(f"{name}@found", found, dtype=pl.String))
        joined = joined.join(pairs, on=[now, part], how="left", nulls_equal=True, maintain_order="left")
    return joined


def _filled_rows(columns: Sequence[TargetColumn], units: pl.DataFrame) -> pl.DataFrame:
    """One row a target row with all its units written: `id` and the columns; those that no unit writes as they are.

    StructureError where two units want different values in one place.
    """
    filled = units.group_by("_id", maintain_order=True).agg(
        *(pl.col(column.name).drop_nulls().unique(maintain_order=True) for column in columns),
        *(pl.col(f"{column.name}@now").first() for column in columns),
    )
    for column in columns:
        name = column.name
        if column.kind.is_json:
            documents = filled.select("_id", name, f"{name}@now")
            merged = [_merged(place, name, now, wanted) for place, wanted, now in documents.iter_rows()]
            filled = filled.with_columns(pl.Series(name, merged, dtype=pl.String))
            continue
        twice = filled.filter(pl.col(name).list.len() > 1).get_column("_id")
        if len(twice):
            raise _at_odds(name, twice[0])
        filled = filled.with_columns(pl.coalesce(pl.col(name).list.first(), f"{name}@now").alias(name))
    return filled.select("_id", *(column.name for column in columns))


def _merged(place: int, name: str, now: str | None, units: Iterable[str]) -> str | None:
    wanted: str | None = None
    for unit in units:
        wanted, at_odds = merge_json(wanted, unit)
        if at_odds:
            raise _at_odds(name, place)
    return merge_json(now, wanted)[0]


def _at_odds(name: str, place: int) -> StructureError:
    return StructureError(
        f"two prepared rows want different values in {name} of the row with id {place}",
        remedy="this is a fault of the flow, please report it",
    )


def units_as_written(units: pl.DataFrame, now: pl.DataFrame, columns: Sequence[TargetColumn]) -> pl.DataFrame:
    """Adds to LINKED units `had` (the shape of what they wrote), `there`, and `same`: nobody changed what they wrote.

    `now`: `id` and the columns of the rows as they are.
    """
    held = now.select(
        pl.col("_id").alias("target_id"),
        *(pl.col(c.name).cast(polars_type(c.type)).alias(f"{c.name}@now") for c in columns),
        pl.lit(True).alias("there"),
    )
    joined = units.join(held, on="target_id", how="left", maintain_order="left").with_columns(
        pl.coalesce("shape", pl.lit(_columns_shape(columns))).alias("had"), pl.col("there").fill_null(False)
    )
    joined = _as_it_was(joined, columns)
    found = with_canonical_json(joined.select(pl.col(f"{c.name}@found").alias(c.name) for c in columns), columns)
    return joined.with_columns(
        (found.select(unit_hash(columns)).to_series() == pl.col("hash")).fill_null(False).alias("same")
    )


def _columns_shape(columns: Sequence[TargetColumn]) -> str:
    return json.dumps({column.name: None for column in columns})
