"""Jobs whose steps wait for something else than the assets are shown to be made from."""

from collections.abc import Callable
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

Change = Callable[[AssetGraph], AssetGraph]


def build_job_over(*changes: Change, **job: Any) -> UnresolvedAssetJobDefinition:
    """A job of assets, as `dagster.define_asset_job` takes it, of the assets as these functions change them in turn."""

    class JobOverChangedGraph(UnresolvedAssetJobDefinition):
        """Made when somebody asks for the job: what steps wait for is known of the whole graph only."""

        def resolve(self, asset_graph: AssetGraph, *arguments: Any, **named: Any) -> dg.JobDefinition:
            for change in changes:
                asset_graph = change(asset_graph)
            return super().resolve(asset_graph, *arguments, **named)

    return JobOverChangedGraph(**job)


def with_step(asset_graph: AssetGraph, step: dg.AssetsDefinition) -> AssetGraph:
    """The assets with a step in place of what makes the same ones."""
    kept = [made for made in asset_graph.assets_defs if not set(step.keys) & set(made.keys)]
    return AssetGraph.from_assets([*kept, step])
