"""Parts beside those of other sources, beside one another, and beside rows of the target that are there already."""

from collections.abc import Mapping

import polars as pl

from dtx_assets.machinery.mapping.conditions import is_active
from dtx_assets.machinery.mapping.execute import RowProblem, add_problems
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.prepare.assess import is_sound
from dtx_assets.machinery.prepare.parts import SourceParts, detail_of
from dtx_assets.machinery.system.flow import FlowInputs


def with_rows_to_add_to(made: SourceParts, target: TargetTable, migrated: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The rows with a problem, as the mapping calls it, for those whose key no migrated row of that source has."""
    spec = made.entry.added_to
    assert spec
    key = [f":{name}" for name in target.natural_key]
    theirs = migrated[spec.source].select(*key, pl.lit(True).alias("_there")).unique()
    rows = made.rows.join(theirs, on=key, how="left", maintain_order="left")
    # A key that could not be made is told already.
    is_alone = pl.col("_there").is_null() & pl.all_horizontal(pl.col(name).is_not_null() for name in key)
    problem = RowProblem(is_alone, spec.reason, spec.column, detail_of(spec.detail))
    return add_problems(rows, problem).drop("_there")


def without_taken(made: SourceParts, target: TargetTable, migrated: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The parts with a `duplicate_key` for those whose key a source that goes before them has."""
    taken = made.entry.taken_by
    assert taken
    other = migrated.get(taken.source)
    if other is None:
        return made.parts
    key = [f":{name}" for name in target.natural_key]
    theirs = other.select(*key, pl.lit(True).alias("_taken")).unique()
    parts = made.parts.join(theirs, on=key, how="left", maintain_order="left")
    # What is rejected for itself is nobody's duplicate.
    is_taken = pl.col("_taken").fill_null(False) & is_sound()
    return add_problems(parts, RowProblem(is_taken, "duplicate_key", taken.column, taken.detail)).drop("_taken")


def judged_by_existing(made: SourceParts, target: TargetTable, inputs: FlowInputs) -> pl.DataFrame | None:
    """What becomes of parts whose key a row of the target has that this migration did not write.

    They are rejected (`target_conflict`); or adopted: the part is that row as it stands, and nothing is coerced. Those
    that are adopted are given as those that stand for a row (`source_key`, `named`): each stands for itself.
    """
    spec = made.entry.existing
    if spec is None:
        return None
    key = f":{spec.key}"
    theirs = inputs.mappings[spec.rows].collect().rename(lambda name: f"_there:{name}")
    sound = made.parts.filter(is_sound()).select("_unit", key)
    found = sound.join(theirs, left_on=key, right_on=f"_there:{spec.key}", how="inner", coalesce=False).drop(key)
    mine = [f":{name}" for name in target.key]
    others = pl.any_horizontal(pl.col(f"_there{name}") != pl.col(name) for name in mine)
    parts = made.parts.join(found, on="_unit", how="left", maintain_order="left")
    is_there = others.fill_null(False)
    if spec.adopt is None or not is_active(spec.adopt, inputs.context.decisions):
        problem = RowProblem(is_there, "target_conflict", spec.column, spec.detail)
        made.parts = add_problems(parts, problem).drop(name for name in found.columns if name != "_unit")
        return None
    values = [
        pl.when(is_there).then(_as_held(f"_there:{name[1:]}", kind)).otherwise(name).alias(name)
        for name, kind in parts.schema.items()
        if f"_there:{name[1:]}" in found.columns and name.startswith(":")
    ]
    parts = parts.with_columns(is_there.alias("_adopted")).with_columns(values)
    adopted = parts.filter("_adopted")
    made.parts = parts.drop("_adopted", *(name for name in found.columns if name != "_unit"))
    untouched = pl.col("_row").is_in(adopted["_row"].implode())
    made.rows = made.rows.with_columns(pl.when(~untouched).then("_coercions").otherwise([]).alias("_coercions"))
    return adopted.select(pl.col("_source_key").alias("source_key"), pl.col("_source_key").alias("named"))


def those_that_count(made: SourceParts, inputs: FlowInputs) -> pl.DataFrame | None:
    """Which rows stand for those that lost to them, where what names these is to name them: `source_key`, `named`."""
    spec = made.entry.duplicates
    if spec is None or "_beaten_by" not in made.parts.columns:
        return None
    pairs = None
    if spec.references_follow and is_active(spec.references_follow, inputs.context.decisions):
        lost = made.parts.filter(pl.col("_beaten_by").is_not_null())
        winners = made.parts.select(pl.col("_unit").alias("_beaten_by"), pl.col("_source_key").alias("named"))
        pairs = lost.join(winners, on="_beaten_by").select(pl.col("_source_key").alias("source_key"), "named")
    made.parts = made.parts.drop("_beaten_by")
    return pairs


def _as_held(name: str, kind: pl.DataType) -> pl.Expr:
    """A value of a look-up, which is text, as the column of that type is held."""
    if kind == pl.Boolean:
        return pl.col(name).is_in(["t", "true"])
    return pl.col(name).cast(kind)
