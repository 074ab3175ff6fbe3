"""Steps that several processes share: planned, done in shards, finished, in one run and for the same assets.

What is planned and done is the step's own. Of one shard the plan does everything, and no process has to be started.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.dependency import DynamicCollectDependencyDefinition, IDependencyDefinition

from dtx_assets.machinery.base.shard import Shard
from dtx_assets.machinery.dagster.graph import RESOURCES, told
from dtx_assets.machinery.run.environment import RunEnvironment

Specs = Mapping[dg.AssetKey, dg.AssetSpec]
Plan = Callable[[RunEnvironment, dg.OpExecutionContext], Iterable[Shard]]
"""Gives the shards that are left to do; none where everything is done."""
Do = Callable[[RunEnvironment, dg.OpExecutionContext, Shard], object]
Made = tuple[dg.AssetKey, Mapping[str, Any]] | dg.AssetCheckResult
Finish = Callable[[RunEnvironment, dg.OpExecutionContext], Iterable[Made]]
"""Puts in place what the shards made; gives each asset, with what is told of it, and what checks of them found."""


def build_shared_step(
    name: str,
    specs: Specs,
    plan: Plan,
    do: Do,
    finish: Finish,
    tags: Mapping[str, str] | None = None,
    checks: Sequence[dg.AssetCheckSpec] = (),
) -> dg.AssetsDefinition:
    """The assets by a graph: `plan`, a `shard[1_of_4]` for each, `finish`, which evaluates the checks too."""
    wait_for = {f"after_{number}": key for number, key in enumerate(_waited_for(specs))}
    made = {f"made_{number}": key for number, key in enumerate(specs)}
    checked = {f"checked_{number}": check for number, check in enumerate(checks)}
    shared: dict[str, Any] = {"required_resource_keys": RESOURCES, "tags": tags}

    @dg.op(
        name=f"{name}_plan",
        ins={each: dg.In(dg.Nothing) for each in wait_for},
        out=dg.DynamicOut(dg.Nothing),
        **shared,
    )
    def plan_step(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            for shard in plan(environment, context):
                yield dg.DynamicOutput(None, mapping_key=shard.name)

    @dg.op(name=f"{name}_shard", ins={"planned": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing), **shared)
    def shard_step(context: dg.OpExecutionContext) -> None:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            do(environment, context, Shard.named(context.get_mapping_key() or ""))

    @dg.op(
        name=f"{name}_finish",
        ins={"shards": dg.In(dg.Nothing)},
        out={each: dg.Out(dg.Nothing, is_required=False) for each in (*made, *checked)},
        **shared,
    )
    def finish_step(context: dg.OpExecutionContext) -> Iterator[dg.Output | dg.AssetCheckResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            outputs = {key: output for output, key in made.items()}
            for each in finish(environment, context):
                if isinstance(each, dg.AssetCheckResult):
                    yield each
                    continue
                key, metadata = each
                if outputs[key] in context.selected_output_names:
                    yield dg.Output(None, output_name=outputs[key], metadata=metadata)
                else:
                    # It makes all its datasets at once: those that were not selected are new as well.
                    context.log_event(dg.AssetMaterialization(asset_key=key, metadata=metadata))

    order: dict[dg.NodeInvocation, Mapping[str, IDependencyDefinition]] = {
        dg.NodeInvocation(plan_step.name, alias="plan"): {},
        dg.NodeInvocation(shard_step.name, alias="shard"): {"planned": dg.DependencyDefinition("plan")},
        dg.NodeInvocation(finish_step.name, alias="finish"): {
            "shards": DynamicCollectDependencyDefinition("shard", "result")
        },
    }
    steps = dg.GraphDefinition(
        name=name,
        node_defs=[plan_step, shard_step, finish_step],
        dependencies=order,
        input_mappings=[
            dg.InputMapping(graph_input_name=each, mapped_node_name="plan", mapped_node_input_name=each)
            for each in wait_for
        ],
        output_mappings=[
            dg.OutputMapping(graph_output_name=each, mapped_node_name="finish", mapped_node_output_name=each)
            for each in (*made, *checked)
        ],
    )
    return dg.AssetsDefinition(
        keys_by_input_name=wait_for,
        keys_by_output_name=made,
        node_def=steps,
        specs=list(specs.values()),
        check_specs_by_output_name=checked,
        can_subset=len(specs) + len(checks) > 1,
    )


def _waited_for(specs: Specs) -> list[dg.AssetKey]:
    return list(dict.fromkeys(dep.asset_key for spec in specs.values() for dep in spec.deps))
