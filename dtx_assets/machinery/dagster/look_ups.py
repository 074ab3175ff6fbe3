"""The assets of the layer `mapping`: value maps and crosswalks."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.base.names import dagster_name
from dtx_assets.machinery.base.progress import StepProgress
from dtx_assets.machinery.base.shard import Shard
from dtx_assets.machinery.dagster.extraction import first_rows_of
from dtx_assets.machinery.dagster.graph import RESOURCES, Graph, told
from dtx_assets.machinery.dagster.metadata import (
    MAPPING_MEANINGS,
    code_references,
    dataset_column_schema,
    dataset_metadata,
    masked_preview,
)
from dtx_assets.machinery.dagster.shared_steps import Specs, build_shared_step
from dtx_assets.machinery.look_ups.assets import MappingAsset, MappingContext, build_mapping_asset
from dtx_assets.machinery.look_ups.listing_shards import finish_listing, list_shard, plan_listing
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.system.system import System


def build_mapping_step(
    graph: Graph, name: str, assets: Sequence[MappingAsset], *, in_shards: bool = False
) -> dg.AssetsDefinition:
    """One step for mapping assets that stop together: a crosswalk alone, or all value maps.

    Where several processes do the steps and there are more files than one is to look at, they share the listing of
    them `in_shards`.
    """
    system = graph.system
    by_key = {graph.key("mapping", asset.name): asset for asset in assets}
    specs = [
        graph.spec(
            key,
            asset.area,
            asset.description,
            deps=mapping_upstream(graph, asset),
            kinds={"csv" if asset.kind == "value_map" else "polars", "parquet"},
            metadata={
                "kind": asset.kind.replace("_", " "),
                **code_references(graph.project, *mapping_sources(system, asset)),
            },
        )
        for key, asset in by_key.items()
    ]

    called = f"{system.name}_mapping_{dagster_name(name)}"
    if in_shards:
        [(key, asset)] = by_key.items()
        return _in_shards(called, asset, {key: specs[0]})

    @dg.multi_asset(
        name=called,
        specs=specs,
        can_subset=len(specs) > 1,
        required_resource_keys=RESOURCES,
    )
    def mapping_step(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            for key, asset in by_key.items():
                if key in context.selected_asset_keys:
                    manifest = build_mapping_asset(
                        asset, mapping_context(environment, asset, StepProgress(f"read {asset.name}", context.log.info))
                    )
                    yield dg.MaterializeResult(asset_key=key, metadata=mapping_metadata(environment, manifest))

    return mapping_step


def _in_shards(called: str, asset: MappingAsset, specs: Specs) -> dg.AssetsDefinition:
    [key] = specs

    def plan(environment: RunEnvironment, context: dg.OpExecutionContext) -> list[Shard]:
        progress = StepProgress(f"read {asset.name}", context.log.info)
        return plan_listing(asset, mapping_context(environment, asset, progress))

    def look(environment: RunEnvironment, context: dg.OpExecutionContext, shard: Shard) -> None:
        progress = StepProgress(f"read {asset.name}, {shard.told}", context.log.info)
        list_shard(asset, mapping_context(environment, asset), shard, progress)

    def finish(
        environment: RunEnvironment, _context: dg.OpExecutionContext
    ) -> Iterator[tuple[dg.AssetKey, dict[str, Any]]]:
        yield key, mapping_metadata(environment, finish_listing(asset, mapping_context(environment, asset)))

    return build_shared_step(called, specs, plan, look, finish)


def mapping_upstream(graph: Graph, asset: MappingAsset) -> list[dg.AssetKey]:
    """What a mapping is made from. Rows of other areas that this migration updates are read as they are before that."""
    read = [
        graph.key(layer, name)
        for layer, name in asset.upstream
        if not (layer == "target" and graph.system.flow_of(name))
    ]
    return read + [graph.key("target", model) for model in asset.after]


def mapping_sources(system: System, asset: MappingAsset) -> list[Path | Callable[..., Any]]:
    file = system.mappings_dir / f"{asset.name}.csv"
    return [file] if file.exists() else [asset.made_by or asset.build]


def mapping_context(
    environment: RunEnvironment, asset: MappingAsset, progress: StepProgress | None = None
) -> MappingContext:
    system = environment.system
    needs_target = bool(asset.after) or any(layer == "target" for layer, _ in asset.upstream)
    return MappingContext(
        system=system.name,
        lake=environment.lake,
        run_id=environment.run_id,
        target_url=environment.target_url if needs_target else "",
        crosswalk_tables=system.crosswalk_tables,
        mappings=system.mappings,
        legacy_tables=system.legacy_tables,
        files=environment.legacy_files(progress),
        chosen=environment.decisions.chosen,
        keys={target.model: target.key for target in system.targets},
        timezone=environment.settings.legacy_timezone,
        cutover_at=environment.cutover_at,
        shard_files=environment.settings.workers.shard_files,
        home=environment.settings.home,
    )


def mapping_metadata(environment: RunEnvironment, manifest: Manifest) -> dict[str, Any]:
    rows = first_rows_of(environment, manifest)
    return {
        **dataset_metadata(manifest, environment.lake.location(manifest, ""), environment.run_id),
        "dagster/column_schema": dataset_column_schema(rows.schema, MAPPING_MEANINGS),
        **masked_preview(rows, ()),
    }
