"""The flow of a mapping file without functions, and the crosswalks of rows that this migration itself inserts."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import polars as pl

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.look_ups.assets import MappingAsset, MappingContext
from dtx_assets.machinery.mapping.load import Mappings
from dtx_assets.machinery.mapping.model import ColumnMapping, TargetMapping
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetTable, polars_type
from dtx_assets.machinery.prepare.assess import assess
from dtx_assets.machinery.prepare.row_flow import one_row_each
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome


def declared_flow(mapping: TargetMapping, target: TargetTable, file: Path) -> Flow:
    """The flow of one mapping file: each row of its legacy table becomes one row of the target.

    ConfigurationError where the file says more than that.
    """
    source, *others = mapping.sources
    if others:
        raise ConfigurationError(
            f"{target.model} is made from {', '.join(mapping.sources)}",
            where=str(file),
            remedy="make it from one legacy table, or give the system a flow of its own",
        )
    said = mapping.sources[source]
    if named := [role for role in ("shape", "expand", "merge") if getattr(said, role)]:
        raise ConfigurationError(
            f"{source} names a {named[0]} function, which a declared flow does not run",
            where=str(file),
            remedy=f"remove `{named[0]}`, or give the system a flow of its own",
        )
    made = [*said.columns.values(), *said.helpers.values()]
    return Flow(
        name=target.model,
        area=target.area,
        sources=(source,),
        accounted=((source, target.model),),
        mappings=tuple(dict.fromkeys(name for column in made for name in look_ups(column))),
        targets=(target.model,),
        decisions=tuple(dict.fromkeys(column.when.decision for column in made if column.when)),
        owner={},
        run=partial(_one_row_each, source, target.model),
        required=lambda _chosen: {source: tuple(dict.fromkeys(name for column in made for name in column.local))},
        description=target.description,
    )


def look_ups(column: ColumnMapping) -> Iterator[str]:
    """The crosswalks and value maps that a column passes through."""
    yield from (name for name in (column.crosswalk, column.value_map) if name)
    yield from (use.partition(".")[0] for use in column.uses)


def _one_row_each(source: str, model: str, inputs: FlowInputs) -> Outcome:
    rows = assess(inputs, source, model)
    # NULL stands for what nobody has decided: the target's schema says where that cannot be.
    empty = [
        pl.lit(None, polars_type(column.type)).alias(f":{column.name}")
        for column in inputs.system.target(model).columns
        if f":{column.name}" not in rows.columns
    ]
    return one_row_each(inputs, source, model, rows.with_columns(empty))


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
