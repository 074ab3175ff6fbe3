"""The steps that prepare: one a flow, with the assets `prepared` and `rejected` of its targets."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
import polars as pl

from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.base.masking import mask_emails, masked_detail
from dtx_assets.machinery.base.names import dagster_name
from dtx_assets.machinery.base.progress import StepProgress
from dtx_assets.machinery.base.shard import Shard
from dtx_assets.machinery.dagster.extraction import first_rows_of
from dtx_assets.machinery.dagster.graph import RESOURCES, Graph, mapping_file, priority, told
from dtx_assets.machinery.dagster.metadata import (
    PREVIEW,
    REJECTED_MEANINGS,
    accounting_metadata,
    code_references,
    counts_text,
    dataset_column_schema,
    dataset_metadata,
    lineage_metadata,
    masked_preview,
    table,
    target_column_schema,
)
from dtx_assets.machinery.dagster.shared_steps import Specs, build_shared_step
from dtx_assets.machinery.mapping.lineage import column_descriptions, column_lineage
from dtx_assets.machinery.prepare.assess import DROPPED, REJECTED_SCHEMA
from dtx_assets.machinery.prepare.preparation import RunSettings, prepare_flow
from dtx_assets.machinery.prepare.shards import finish_flow, plan_flow, prepare_shard
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.system.flow import Flow
from dtx_assets.machinery.system.system import System

Lineages = Mapping[str, Mapping[str, Sequence[tuple[Sequence[str], str]]]]

REJECTED_SHOWN = ("source", "key", "reasons", "of", "what is wrong")


def build_flow(graph: Graph, flow: Flow, *, in_shards: bool = False) -> dg.AssetsDefinition:
    """One step that prepares all targets of a flow: `prepared/<Model>` and `rejected/<Model>` of each.

    Where several processes do the steps and there are more rows than one is to prepare, they share them `in_shards`.
    """
    system = graph.system
    specs: dict[dg.AssetKey, dg.AssetSpec] = {}
    lineages = {
        model: column_lineage(system.mappings.for_target(model), system.name, flow.sources, system.legacy_tables)
        for model in flow.targets
    }
    for model in flow.targets:
        target, mapping = system.target(model), system.mappings.for_target(model)
        upstream = flow_upstream(graph, flow, lineages[model])
        references = code_references(graph.project, flow.run, mapping_file(system, model))
        descriptions = column_descriptions(mapping, flow.sources, system.lineage_by_part(model))
        prepared, rejected = graph.key("prepared", model), graph.key("rejected", model)
        specs[prepared] = graph.spec(
            prepared,
            target.area,
            graph.described(
                f"The rows of `{target.name}` as they would be written. {mapping.description or flow.description}",
                target.decision,
            ),
            skippable=True,
            deps=upstream,
            kinds={"polars", "parquet"},
            metadata={"dagster/column_schema": target_column_schema(target, descriptions), **references},
        )
        specs[rejected] = graph.spec(
            rejected,
            target.area,
            f"Rows of {', '.join(flow.sources)} that cannot become {model} rows yet, whole, with their reasons. Beside"
            f" them in the lake, in `{DROPPED}-*.parquet`: the keys of the rows that rules drop, each with its rule.",
            skippable=True,
            deps=upstream,
            kinds={"polars", "parquet"},
            metadata={
                "dagster/column_schema": dataset_column_schema(REJECTED_SCHEMA, REJECTED_MEANINGS),
                **references,
            },
        )

    return _in_shards(graph, flow, specs, lineages) if in_shards else _by_one_step(graph, flow, specs, lineages)


def _name(graph: Graph, flow: Flow) -> str:
    return f"{graph.system.name}_prepare_{dagster_name(flow.name)}"


def _by_one_step(graph: Graph, flow: Flow, specs: Specs, lineages: Lineages) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=_name(graph, flow),
        specs=list(specs.values()),
        can_subset=True,
        required_resource_keys=RESOURCES,
        op_tags=priority(graph, flow.targets),
    )
    def prepare(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            progress = StepProgress(f"prepare {flow.name}", context.log.info)
            manifests = prepare_flow(flow, _settings(environment, flow, context), progress)
            for key, metadata in _results(graph, flow, environment, manifests, lineages):
                if key in context.selected_asset_keys:
                    yield dg.MaterializeResult(asset_key=key, metadata=metadata)
                else:
                    # The flow makes all its datasets at once: those that were not selected are new as well.
                    context.log_event(dg.AssetMaterialization(asset_key=key, metadata=metadata))

    return prepare


def _in_shards(graph: Graph, flow: Flow, specs: Specs, lineages: Lineages) -> dg.AssetsDefinition:
    """The same assets in shards; of one shard the plan prepares all."""

    def plan(environment: RunEnvironment, context: dg.OpExecutionContext) -> list[Shard]:
        progress = StepProgress(f"prepare {flow.name}", context.log.info)
        return plan_flow(flow, _settings(environment, flow, context), progress)

    def prepare(environment: RunEnvironment, context: dg.OpExecutionContext, shard: Shard) -> None:
        progress = StepProgress(f"prepare {flow.name}, {shard.told}", context.log.info)
        prepare_shard(flow, _settings(environment, flow, context), shard, progress)

    def finish(
        environment: RunEnvironment, context: dg.OpExecutionContext
    ) -> Iterator[tuple[dg.AssetKey, dict[str, Any]]]:
        manifests = finish_flow(flow, _settings(environment, flow, context))
        yield from _results(graph, flow, environment, manifests, lineages)

    return build_shared_step(_name(graph, flow), specs, plan, prepare, finish, priority(graph, flow.targets))


def _settings(
    environment: RunEnvironment, flow: Flow, context: dg.AssetExecutionContext | dg.OpExecutionContext
) -> RunSettings:
    live = environment.live_targets(flow.targets, context.log.warning)
    return replace(environment.run_settings, live=live)


def _results(
    graph: Graph, flow: Flow, environment: RunEnvironment, manifests: Mapping[str, Manifest], lineages: Lineages
) -> Iterator[tuple[dg.AssetKey, dict[str, Any]]]:
    """Each dataset of a flow, with what is told of it."""
    for model, manifest in manifests.items():
        yield graph.key("prepared", model), prepared_metadata(environment, flow, manifest, lineages[model])
        yield graph.key("rejected", model), rejected_metadata(environment, model)


def flow_upstream(
    graph: Graph, flow: Flow, lineage: Mapping[str, Sequence[tuple[Sequence[str], str]]]
) -> list[dg.AssetKey]:
    """The decisions and tables a flow reads, the mappings it joins with, the value maps its columns go through."""
    keys = [graph.key("decision", decision) for decision in flow.decisions]
    keys += [graph.key("legacy", source) for source in flow.sources]
    keys += [graph.key("mapping", mapping) for mapping in flow.mappings]
    keys += [graph.key(*key[1:]) for sources in lineage.values() for key, _ in sources]
    return list(dict.fromkeys(keys))


def prepared_metadata(
    environment: RunEnvironment,
    flow: Flow,
    manifest: Manifest,
    lineage: Mapping[str, Sequence[tuple[Sequence[str], str]]],
) -> dict[str, Any]:
    facts = manifest.metadata
    entries = facts.get("accounting", [])
    used = {key: environment.decisions.chosen.get(key, "") for key in flow.decisions}
    target = environment.system.target(manifest.key[2])
    rows = first_rows_of(environment, manifest)
    return {
        **dataset_metadata(manifest, environment.lake.location(manifest, ""), environment.run_id),
        **accounting_metadata(entries),
        "coercions": table(
            ("source", "coercions"), [(entry["source_table"], counts_text(entry["coerced"])) for entry in entries]
        ),
        "decisions": table(("decision", "chosen"), list(used.items())),
        **masked_preview(rows, environment.system.personal_columns(target)),
        **{f"{name} rows": sum(entry[name] for entry in entries) for name in ("read", "migrated", "rejected")},
        **lineage_metadata(lineage, environment.system.lineage_by_part(target.model)),
    }


def rejected_metadata(environment: RunEnvironment, model: str) -> dict[str, Any]:
    key = (environment.system.name, "rejected", model)
    manifest = environment.lake.require(key)
    reasons = (
        environment.lake.scan(key, manifest=manifest)
        .group_by("source_table", pl.col("reasons").list.join(", "), "partial")
        .len("rows")
        .sort("rows", "source_table", "reasons", descending=[True, False, False])
        .collect(engine="streaming")
    )
    first = first_rows_of(environment, manifest)
    return {
        **dataset_metadata(manifest, environment.lake.location(manifest, ""), environment.run_id),
        PREVIEW: table(
            REJECTED_SHOWN, [rejected_cells(environment.system, row) for row in first.iter_rows(named=True)]
        ),
        "reasons": table(
            ("source", "reasons", "of", "rows"),
            [
                (source, why, "a part of a row" if partial else "a whole row", f"{rows:,}")
                for source, why, partial, rows in reasons.iter_rows()
            ],
        ),
    }


def rejected_cells(system: System, rejected: Mapping[str, Any]) -> tuple[str, ...]:
    """A rejected row as people may see it: REJECTED_SHOWN."""
    row, declared = json.loads(rejected["row"]), system.legacy_tables[rejected["source_table"]]
    return (
        rejected["source_table"],
        mask_emails(rejected["source_key"]),
        ", ".join(rejected["reasons"]),
        "a part of the row" if rejected["partial"] else "the row",
        masked_detail(rejected["detail"], row, frozenset(filter(declared.is_personal, row))),
    )
