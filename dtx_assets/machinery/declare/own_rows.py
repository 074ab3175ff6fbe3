"""The crosswalks of rows that this migration itself inserts: by what was loaded, or by what is prepared."""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.look_ups.assets import MappingAsset, MappingContext
from dtx_assets.machinery.mapping.load import Mappings
from dtx_assets.machinery.mapping.model import TargetMapping
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.prepare.assess import DROPPED
from dtx_assets.machinery.prepare.model_writer import KEYS, STANDS_FOR
from dtx_assets.machinery.transforms.document_values import CROSSWALK

PIECE_ROWS = 1_000_000
"""About so many documents are in memory at a time."""
COUNTED = (KEYS, "rows", DROPPED)
"""The tables of a prepared and a rejected dataset that have a row a document."""


def own_crosswalk(target: TargetTable, mappings: Mappings, legacy_tables: Mapping[str, LegacyTable]) -> MappingAsset:
    """Legacy ids of a table to the ids that its rows were given in the target, as earlier loads and this run have it.

    Frame: `source_id` (canonical text), `target_id` (Int64, or text where the target's ids are no integers),
    `missing_id` (null: all of them are there).
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
            context.own_mapping(table.name, target.name, context.kind_of_own_ids(target))
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


def keys_crosswalk(name: str, table: str, target: TargetTable) -> MappingAsset:
    """The ids of a legacy table and the keys of the rows of a target that were prepared of them."""
    return MappingAsset(
        name,
        "reference",
        target.area,
        (("prepared", target.model),),
        f"The rows of {table} that are migrated, and the rows of {target.name} that they become.",
        lambda context: keys_of(context, target.model, table),
        is_crosswalk=True,
    )


def keys_of(context: MappingContext, model: str, table: str) -> pl.LazyFrame:
    """What the rows of a legacy table become of a model: `source_id`, `target_id`, one row a pair."""
    manifest = context.lake.require((context.system, "prepared", model))
    keys = context.lake.scan_files(manifest, KEYS).filter(pl.col("source_table") == table)
    return keys.select(pl.col("source_key").alias("source_id"), "target_id").unique().sort("source_id", "target_id")


def prepared_crosswalk(target: TargetTable, mappings: Mapping[str, TargetMapping]) -> MappingAsset:
    """The documents of a collection and the keys of the rows that were prepared of them. Frame: CROSSWALK.

    It is made as soon as the rows of its model are prepared, before any is loaded, so that what refers to a document
    that is not migrated is known while it is prepared itself.
    """
    sources = ", ".join(mappings[target.model].sources)

    def pieces(context: MappingContext) -> Iterator[pl.LazyFrame]:
        prepared = context.lake.require((context.system, "prepared", target.model))
        rejected = context.lake.require((context.system, "rejected", target.model))
        rows = sum(
            files.rows for name, files in (*prepared.tables.items(), *rejected.tables.items()) if name in COUNTED
        )
        count = 1 + rows // PIECE_ROWS

        def table(name: str, columns: Sequence[str]) -> pl.LazyFrame:
            if name in prepared.tables:
                return context.lake.scan_files(prepared, name).select(columns)
            return pl.LazyFrame(schema=dict.fromkeys(columns, pl.String()))

        stands_for = table(STANDS_FOR, ["source_key", "named"]).unique("source_key")
        migrated = table(KEYS, ["source_key", "target_id"]).with_columns(
            pl.col("target_id").cast(pl.String), pl.lit(None, pl.String).alias("fate")
        )
        whole = context.lake.scan_files(rejected, "rows").filter(~pl.col("partial"))
        lost = pl.concat(
            [
                whole.select("source_key", pl.lit("rejected").alias("fate")),
                context.lake.scan_files(rejected, DROPPED).select("source_key", pl.lit("dropped").alias("fate")),
            ]
        ).select("source_key", pl.lit(None, pl.String).alias("target_id"), "fate")
        winners = (
            migrated.select(pl.col("source_key").alias("named"), pl.col("target_id").alias("_theirs"))
            .join(stands_for.select("named").unique(), on="named", how="semi")
            .unique("named")
        )
        for number in range(count):
            of_piece = (pl.col("source_key").hash() % count == number) if count > 1 else pl.lit(True)
            # What is migrated counts, whatever became of its copies.
            known = pl.concat([migrated.filter(of_piece), lost.filter(of_piece)])
            yield (
                known.unique("source_key", keep="first", maintain_order=True)
                .join(stands_for.filter(of_piece), on="source_key", how="left")
                .join(winners, on="named", how="left")
                .select(
                    pl.col("source_key").alias("source_id"),
                    pl.coalesce("_theirs", "target_id").alias("target_id"),
                    "fate",
                    pl.col("named").is_not_null().alias("merged"),
                    pl.coalesce("named", "source_key").alias("named"),
                )
                .cast(CROSSWALK)
                .sort("source_id")
            )

    return MappingAsset(
        target.model,
        "reference",
        target.area,
        (("prepared", target.model), ("rejected", target.model)),
        f"The documents of {sources}, and the keys of the rows of {target.name} that were prepared of them.",
        lambda context: pl.concat(pieces(context)),
        is_crosswalk=True,
        pieces=pieces,
    )
