"""All assets of a system, put together from the steps that make them."""

import dagster as dg

from dtx_assets.machinery.base.settings import workers_of
from dtx_assets.machinery.dagster.archives import build_archive, build_undeclared_archive
from dtx_assets.machinery.dagster.checks import build_untouched_checks
from dtx_assets.machinery.dagster.derived import build_derived
from dtx_assets.machinery.dagster.extraction import build_extraction, build_handed_over_specs, build_run_report
from dtx_assets.machinery.dagster.flows import build_flow
from dtx_assets.machinery.dagster.graph import OTHER_AREAS, Graph, build_decision_specs
from dtx_assets.machinery.dagster.look_ups import build_mapping_step
from dtx_assets.machinery.dagster.phases import build_phase
from dtx_assets.machinery.dagster.targets import build_load, build_unfilled_target
from dtx_assets.machinery.model.references import in_load_order


def build_assets(graph: Graph) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    workers = workers_of(graph.system.name)
    in_shards, lists_in_shards = workers.shard_rows > 0, workers.shard_files > 0
    value_maps = [asset for asset in graph.system.mapping_assets if asset.kind == "value_map"]
    return [
        *build_handed_over_specs(graph),
        *build_decision_specs(graph),
        build_extraction(graph),
        build_run_report(graph),
        *(build_archive(graph, table) for table in graph.system.legacy_tables.values()),
        *([build_undeclared_archive(graph)] if graph.system.reads_documents else []),
        *([build_mapping_step(graph, "value_maps", value_maps)] if value_maps else []),
        *(
            build_mapping_step(graph, asset.name, [asset], in_shards=lists_in_shards and asset.listing is not None)
            for asset in graph.system.mapping_assets
            if asset.kind != "value_map"
        ),
        *(build_flow(graph, flow, in_shards=in_shards and not flow.together) for flow in graph.system.flows),
        *(build_phase(graph, phase) for phase in graph.system.phases),
        *(build_load(graph, targets) for targets in in_load_order(graph.system.filled_targets)),
        *build_derived(graph),
        *(
            build_unfilled_target(graph, target)
            for target in graph.system.targets
            if not graph.system.flow_of(target.model)
        ),
    ]


def build_checks_of_unfilled_targets(graph: Graph) -> list[dg.AssetChecksDefinition]:
    empty = [
        target
        for target in graph.system.targets
        if target.writes == "nothing" and target.area != OTHER_AREAS and not graph.system.flow_of(target.model)
    ]
    return [build_untouched_checks(graph, empty)] if empty else []
