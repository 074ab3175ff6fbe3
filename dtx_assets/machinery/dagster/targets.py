"""The assets of the layer `target`: the loads, and the targets that no flow fills."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
import polars as pl

from dtx_assets.machinery.base.names import dagster_name
from dtx_assets.machinery.base.progress import StepProgress, duration_text
from dtx_assets.machinery.base.settings import workers_of
from dtx_assets.machinery.base.shard import Shard
from dtx_assets.machinery.dagster.checks import check_result, check_spec
from dtx_assets.machinery.dagster.graph import LOADS, OTHER_AREAS, RESOURCES, Graph, mapping_file, priority, told
from dtx_assets.machinery.dagster.load_checks import load_check, load_outcome
from dtx_assets.machinery.dagster.metadata import (
    PREVIEW_ROWS,
    accounting_metadata,
    code_references,
    lineage_metadata,
    masked_preview,
    target_column_schema,
)
from dtx_assets.machinery.dagster.phases import gates_before
from dtx_assets.machinery.dagster.shared_steps import Finish, Specs, build_shared_step
from dtx_assets.machinery.files.sending import FileSender
from dtx_assets.machinery.load import (
    LoadSummary,
    Planned,
    RunContext,
    SentFilesOfRun,
    first_rows,
    load_together,
    read_found_by_load,
)
from dtx_assets.machinery.load.extra import keep_extra
from dtx_assets.machinery.load.member import Send
from dtx_assets.machinery.load.sent_ahead import Sending, is_sent_by_part
from dtx_assets.machinery.mapping.conditions import is_active
from dtx_assets.machinery.mapping.lineage import column_descriptions
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.sources.documents import REST
from dtx_assets.machinery.sources.frames import legacy_frame, source_key
from dtx_assets.machinery.sources.landing import ROW
from dtx_assets.machinery.sources.whole_rows import with_nul_spelt_out


def build_load(
    graph: Graph, targets: Sequence[TargetTable], also_after: Iterable[dg.AssetKey] = ()
) -> dg.AssetsDefinition:
    """One step that loads the prepared rows of a model into its table, or those of a circle of models together, and
    checks that each table took them all.

    `also_after` are assets that it waits for in a cutover, besides what its rows are made from.
    """
    also_after = sorted(also_after)
    system = graph.system
    by_key = {graph.key("target", target.model): target for target in targets}
    columns = {target.model: _columns(graph, target) for target in targets}
    # Where several processes do the steps and there are more files than one is to send, they share the sending.
    in_shards = len(targets) == 1 and is_sent_by_part(targets[0]) and workers_of(system.name).shard_files > 0

    # Dagster wants steps that wait for different things to have different names.
    name = f"{system.name}_load_{_step_name(targets)}{'_after_gate' if also_after else ''}"
    specs = {key: _load_spec(graph, target, columns[target.model], also_after) for key, target in by_key.items()}
    checks = [check_spec(key, load_check(target.model), []) for key, target in by_key.items()]
    tags = priority(graph, [target.model for target in targets], LOADS)

    def load_and_check(
        environment: RunEnvironment, context: dg.AssetExecutionContext | dg.OpExecutionContext
    ) -> Iterator[tuple[dg.AssetKey, dict[str, Any]] | dg.AssetCheckResult]:
        selected = {key: target for key, target in by_key.items() if key in context.selected_asset_keys}
        if selected:
            senders = {
                target.model: sender
                for target in selected.values()
                if (sender := file_sender(context, environment, target))
            }
            sends = {
                model: sending_of(environment, system.target(model)).ahead(sender) if in_shards else sender
                for model, sender in senders.items()
            }
            summaries = load_models(
                environment, list(selected.values()), environment.load(), context.log.info, senders=sends
            )
        for target in selected.values():
            keep_undeclared(environment, target)
        for key, target in selected.items():
            names = list(columns[target.model])
            rows = first_rows(environment.target_url, system.name, target, names, PREVIEW_ROWS)
            yield (
                key,
                {
                    **load_metadata(summaries[target.model]),
                    **sending_metadata(senders.get(target.model)),
                    **masked_preview(rows, system.personal_columns(target)),
                    **lineage_metadata(_lineage(graph, target, columns[target.model])),
                },
            )
        for key, target in by_key.items():
            if any(check.asset_key == key for check in context.selected_asset_check_keys):
                outcome = load_outcome(read_found_by_load(environment.target_url, system.name, target))
                yield check_result(key, load_check(target.model), outcome, outcome.severity or "ERROR", system)
        if in_shards and selected:
            sending_of(environment, targets[0]).forget()

    if in_shards:
        return _in_shards(graph, targets[0], name, specs, load_and_check, tags, checks)

    @dg.multi_asset(
        name=name,
        specs=list(specs.values()),
        check_specs=checks,
        can_subset=True,
        required_resource_keys=RESOURCES,
        op_tags=tags,
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            for made in load_and_check(environment, context):
                if isinstance(made, dg.AssetCheckResult):
                    yield made
                else:
                    yield dg.MaterializeResult(asset_key=made[0], metadata=made[1])

    return load


def _in_shards(
    graph: Graph,
    target: TargetTable,
    name: str,
    specs: Specs,
    load_and_check: Finish,
    tags: Mapping[str, str],
    checks: Sequence[dg.AssetCheckSpec],
) -> dg.AssetsDefinition:
    """The same, whose files are sent in shards before."""
    key = graph.key("target", target.model)

    def plan(environment: RunEnvironment, context: dg.OpExecutionContext) -> list[Shard]:
        if key not in context.selected_asset_keys:
            return []
        return sending_of(environment, target).plan(environment.settings.workers.shard_files)

    def send(environment: RunEnvironment, context: dg.OpExecutionContext, shard: Shard) -> None:
        sender = file_sender(context, environment, target, f", {shard.told}")
        assert sender is not None
        sending_of(environment, target).send(
            shard, sender, overwrite=overwrites(environment), legacy_rows=legacy_rows(environment)
        )

    return build_shared_step(name, specs, plan, send, load_and_check, tags, checks)


def _step_name(targets: Sequence[TargetTable]) -> str:
    first, *others = (dagster_name(target.model) for target in targets)
    return f"{first}_and_{len(others)}_more" if len(others) > 1 else "_and_".join([first, *others])


def _load_spec(
    graph: Graph, target: TargetTable, columns: Mapping[str, str], also_after: Sequence[dg.AssetKey]
) -> dg.AssetSpec:
    return graph.spec(
        graph.key("target", target.model),
        target.area,
        graph.described(target.description, target.decision),
        skippable=True,
        # Of all models of the flow: what closes the gate of one of them closes that of the others.
        deps=list(
            dict.fromkeys(
                [
                    graph.key("prepared", target.model),
                    *sorted(graph.made_together("prepared", target.model)),
                    # What rows refer to is loaded before them.
                    *(graph.key("target", model) for model in graph.system.loaded_before[target.model]),
                    *gates_before(graph, target.area),
                    *also_after,
                ]
            )
        ),
        kinds={"postgres"},
        metadata={
            "dagster/column_schema": target_column_schema(target, columns),
            "dagster/table_name": target.name,
            "filled": "inserts rows" if target.writes == "insert" else "fills columns of rows that other areas own",
            **code_references(graph.project, mapping_file(graph.system, target.model)),
        },
    )


def _columns(graph: Graph, target: TargetTable) -> Mapping[str, str]:
    """The columns that a mapping fills, with what it says of them."""
    flow = graph.system.flow_of(target.model)
    sources, parts = flow.sources if flow else None, graph.system.lineage_by_part(target.model)
    return column_descriptions(graph.system.mappings.for_target(target.model), sources, parts)


def _lineage(graph: Graph, target: TargetTable, columns: Iterable[str]) -> dict[str, list[tuple[Sequence[str], str]]]:
    return {name: [(graph.key("prepared", target.model).path, name)] for name in columns}


def load_models(
    environment: RunEnvironment,
    targets: Sequence[TargetTable],
    run: RunContext,
    log: Callable[[str], None],
    *,
    senders: Mapping[str, Send] | None = None,
    planned: Planned | None = None,
) -> dict[str, LoadSummary]:
    """Load a model, or those of a circle together, or try to where the run is dry: then `planned` remembers what it
    would make, for the next ones. By model."""
    models = ", ".join(target.model for target in targets)
    return load_together(
        environment.system.name,
        targets,
        environment.lake,
        environment.target_url,
        run,
        on_conflict="overwrite" if overwrites(environment) else "keep_target",
        progress=StepProgress(f"{'plan' if run.dry else 'load'} {models}", log),
        legacy_rows=legacy_rows(environment),
        sends=senders,
        waiting=log,
        planned=planned,
    )


def overwrites(environment: RunEnvironment) -> bool:
    """Whether rows are overwritten that somebody edited."""
    return environment.decisions.chosen.get("on_target_conflict", "keep_target") == "overwrite"


def sending_of(environment: RunEnvironment, target: TargetTable) -> Sending:
    return Sending(environment.system.name, target, environment.lake, environment.load())


def keep_undeclared(environment: RunEnvironment, target: TargetTable) -> None:
    """Writes the fields that nobody declared of documents that were migrated to a target, where that was chosen."""
    system = environment.system
    flow = system.flow_of(target.model)
    if target.is_junction or not flow or not system.extra or not is_active(system.extra, environment.decisions.chosen):
        return
    for source in (source for source, model in flow.accounted if model == target.model):
        landed = environment.lake.require((system.name, "legacy", source))
        if REST not in landed.metadata.get("columns", ()):
            continue
        links = environment.lake.scan((system.name, "prepared", target.model), "links")
        rows = legacy_rows(environment)(source).filter(pl.col(REST).is_not_null())
        migrated = rows.join(links, left_on=ROW, right_on="source_row", how="semi")
        spelt_out = pl.col(REST).map_batches(with_nul_spelt_out, pl.String(), is_elementwise=True)
        fields = migrated.select(pl.col("_source_key").alias("source_key"), spelt_out.alias("extra"))
        keep_extra(environment.load(), source, target.name, fields)


def file_sender(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    environment: RunEnvironment,
    target: TargetTable,
    of: str = "",
) -> FileSender | None:
    """Sends the files of a target's rows, where it has any; what killed runs left half sent is removed first."""
    if target.file_columns is None:
        return None
    store = environment.file_store()
    try:
        if abandoned := store.remove_abandoned():
            context.log.info(f"{abandoned} half-sent files of earlier runs were removed")
    except Exception as error:  # a store may not let them be listed, and a run can do without
        context.log.warning(f"half-sent files of earlier runs cannot be looked for ({type(error).__name__})")
    progress = StepProgress(f"send files of {target.model}{of}", context.log.info)
    noted = SentFilesOfRun(environment.load(), target.name)
    return FileSender(target, store, environment.legacy_files(), progress, noted)


def sending_metadata(sender: FileSender | None) -> dict[str, Any]:
    if sender is None:
        return {}
    return {
        "files sent": sender.counts["sent"],
        "files that were there": sender.counts["present"],
        "files that could not be sent": sender.counts["rejected"],
        "bytes sent": sender.bytes_sent,
    }


def legacy_rows(environment: RunEnvironment) -> Callable[[str], pl.LazyFrame]:
    """The rows of a legacy table as flows read them, with `_source_key`."""
    system = environment.system

    def rows(table: str) -> pl.LazyFrame:
        declared = system.legacy_tables[table]
        return source_key(declared, legacy_frame(environment.lake, system.name, declared))

    return rows


def load_metadata(summary: Any) -> dict[str, Any]:
    facts = asdict(summary)
    touched = sum(facts[name] for name in ("inserted", "updated", "unchanged", "adopted", "conflicts"))
    seconds = facts["seconds"]
    return {
        "dagster/row_count": facts["inserted"] + facts["updated"] + facts["unchanged"] + facts["adopted"],
        **{
            name.replace("_", " "): facts[name]
            for name in ("inserted", "updated", "unchanged", "adopted", "conflicts", "vanished", "rejected")
        },
        "parts left as they are": facts["skipped_parts"],
        **after_load_metadata(summary),
        "time": duration_text(seconds),
        "rows per second": round(touched / seconds) if seconds else 0,
        **accounting_metadata(facts["accounting"]),
    }


def after_load_metadata(summary: Any) -> dict[str, Any]:
    """What was made after the load, where that was asked for and there was something."""
    told = {
        "made after the load": ", ".join(summary.made_after),
        "not made after the load": "; ".join(summary.not_made_after),
        "loaded twice": summary.loaded_twice,
    }
    return {name: value for name, value in told.items() if value}


def build_unfilled_target(graph: Graph, target: TargetTable) -> dg.AssetSpec:
    """External assets: tables of other areas, tables that start empty, and models no flow fills yet."""
    return graph.spec(
        graph.key("target", target.model),
        target.area,
        graph.described(target.description, target.decision),
        kinds={"postgres"},
        metadata={
            "dagster/column_schema": target_column_schema(target),
            "dagster/table_name": target.name,
            "filled": why_unfilled(graph, target),
        },
    )


def why_unfilled(graph: Graph, target: TargetTable) -> str:
    if target.writes == "nothing" and target.area != OTHER_AREAS:
        return "no: this migration writes nothing here, and a check shows it"
    would = [
        f"{decision.key} = {option} would; chosen is {decision.chosen}"
        for decision in graph.choices
        for option, flows in graph.flows_by_option(decision.key).items()
        if any(target.model in flow.targets for flow in flows)
    ]
    if would:
        return f"not filled: decision {'; '.join(would)}"
    return "no: another area's table, only read" if target.area == OTHER_AREAS else "not filled yet"
