"""The crosswalks of rows that this migration itself inserts."""

from collections.abc import Mapping

import polars as pl

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.look_ups.assets import MappingAsset, MappingContext
from dtx_assets.machinery.mapping.load import Mappings
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetTable


def own_crosswalk(target: TargetTable, mappings: Mappings, legacy_tables: Mapping[str, LegacyTable]) -> MappingAsset:
    """Legacy ids of a table to the ids that its rows were given in the target, as earlier loads and this run have it.

    Frame: `source_id` (canonical text), `target_id` (Int64), `missing_id` (null: all of them are there).
    """
    mapping = mappings.targets.get(target.model)
    sources = list(mapping.sources) if mapping else []
    if len(sources) != 1 or len(legacy_tables[sources[0]].key) != 1:
        raise ConfigurationError(
            f"what {target.model} is made from has no key of one column, and so its rows cannot be referred to",
            where=target.name,
            remedy="leave the columns that go through it `undecided`, or hand over a crosswalk",
        )
    table = legacy_tables[sources[0]]

    def build(context: MappingContext) -> pl.LazyFrame:
        return (
            context.own_mapping(table.name, target.name)
            .select(pl.col("source_key").alias("source_id"), "target_id", pl.lit(None, pl.Int64).alias("missing_id"))
            .sort("source_id")
        )

    return MappingAsset(
        target.name,
        "crosswalk",
        target.area,
        (("target", target.model),),
        f"The ids of {table.name} and those that its rows have in {target.name}.",
        build,
        ids=table.kind_of(table.key[0]),
        after=(target.model,),
    )
