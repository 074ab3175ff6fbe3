"""Jobs whose steps wait for something else than the assets are shown to be made from."""

from collections.abc import Callable
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.data_version import (
    DATA_VERSION_TAG,
    DEFAULT_DATA_VERSION,
    NULL_DATA_VERSION,
    NULL_EVENT_POINTER,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
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


def made_from(instance: dg.DagsterInstance, graph: AssetGraph, key: dg.AssetKey) -> dict[str, str]:
    """The tags by which Dagster knows what an asset was made from, as it is now, of all that it is shown after.

    It writes them itself for what a step waits for. Without the others it would take the asset for one that is not made
    from them yet, and call it unsynced for ever.
    """
    parents = graph.get(key).parent_keys
    last = {each.asset_entry.asset_key: each.asset_entry for each in instance.get_asset_records(list(parents))}
    tags = {}
    for parent in parents:
        made = last[parent].last_materialization_record if parent in last else None
        materialization = made.asset_materialization if made else None
        known = (materialization.tags or {}).get(DATA_VERSION_TAG) if materialization else None
        never = NULL_DATA_VERSION if graph.get(parent).is_materializable else DEFAULT_DATA_VERSION
        tags[get_input_data_version_tag(parent)] = known or never.value
        tags[get_input_event_pointer_tag(parent)] = str(made.storage_id) if made else NULL_EVENT_POINTER
    return tags


def with_step(asset_graph: AssetGraph, step: dg.AssetsDefinition) -> AssetGraph:
    """The assets with a step in place of what makes the same ones."""
    kept = [made for made in asset_graph.assets_defs if not set(step.keys) & set(made.keys)]
    return AssetGraph.from_assets([*kept, step])
