"""The order of a cutover: its loads come after all checks that can close the gate, by edges, on every executor.

In a rehearsal each load waits for what its own rows are made from, so that a table that cannot be read keeps nobody
else's rows back. In a cutover a red check of one table refuses the rows of all, so that none may be written before the
last check was evaluated. Both are run from one graph; the job of the cutover has more edges. What the gate says is
`checks.gate`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from dtx_assets.machinery.checks.spec import CheckGroup
from dtx_assets.machinery.dagster.graph import LOADS, REPORTS, RESOURCES, Graph, told
from dtx_assets.machinery.dagster.metadata import closes_gate, obstacles_table
from dtx_assets.machinery.dagster.targets import build_load
from dtx_assets.machinery.model.references import in_load_order
from dtx_assets.machinery.run.environment import RunEnvironment

GATE = "gate"


def checked_assets(check_groups: Iterable[CheckGroup], graph: Graph) -> set[dg.AssetKey]:
    """What has checks that close the gate of a load, but for targets."""
    closing = [group for group in check_groups if any(spec.closes_gate for spec in group.specs)]
    return {graph.key(*group.asset) for group in closing if group.asset[0] != "target"}


def gate_key(graph: Graph) -> dg.AssetKey:
    return graph.key("report", GATE)


def gate_spec(graph: Graph, after: Iterable[dg.AssetKey]) -> dg.AssetSpec:
    """What the gate is, which comes `after` what is checked; in the graph of all jobs nothing makes it."""
    return graph.spec(
        gate_key(graph),
        REPORTS,
        f"What was in the way of the last run of `{graph.system.name}_cutover` when its checks had been evaluated, and"
        " what of it was accepted. Its loads wait for this, on every executor.",
        deps=sorted(after),
        kinds={"dagster"},
    )


def build_gate(graph: Graph, after: Iterable[dg.AssetKey]) -> dg.AssetsDefinition:
    """One step of the cutover that notes what is in its way when all is checked. What refuses is each load itself."""
    models = [target.model for target in graph.system.filled_targets]

    @dg.multi_asset(
        name=f"{graph.system.name}_gate",
        specs=[gate_spec(graph, after)],
        required_resource_keys=RESOURCES,
        op_tags={"dagster/priority": str(LOADS)},
    )
    def gate(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            found = environment.obstacles(models)
            accepted = [point for point in found if point.is_accepted(environment.options.accept)]
            yield dg.MaterializeResult(
                metadata={
                    "in the way": obstacles_table(found, environment.options.accept),
                    "points in the way": len(found) - len(accepted),
                    "points accepted": len(accepted),
                }
            )

    return gate


def with_loads_after_gate(graph: Graph, asset_graph: AssetGraph) -> AssetGraph:
    """The assets of a system, with loads that wait for the gate, and the gate for what is checked."""
    waits = awaited(graph, asset_graph)
    return AssetGraph.from_assets(
        [
            *(made for made in asset_graph.assets_defs if not waits.keys() & set(made.keys)),
            build_gate(graph, waits[gate_key(graph)]),
            *(
                build_load(graph, targets, also_after=waits[graph.key("target", targets[0].model)])
                for targets in in_load_order(graph.system.filled_targets)
            ),
        ]
    )


def awaited(graph: Graph, asset_graph: AssetGraph) -> Mapping[dg.AssetKey, set[dg.AssetKey]]:
    """What the gate and each load wait for in a cutover, beside what they are made from.

    What is prepared from rows that the same run loads is checked after that load. Other loads wait for such checks too,
    as long as nothing is prepared from their own rows. Those of a circle are one step, and wait for the same.
    """
    steps = [
        [graph.key("target", target.model) for target in targets]
        for targets in in_load_order(graph.system.filled_targets)
    ]
    loads = [load for step in steps for load in step]
    checked = {
        key.asset_key
        for key in asset_graph.asset_check_keys
        if key.asset_key.path[1] != "target" and closes_gate(asset_graph.get_check_spec(key))
    }
    checked_after = {load: checked & below(load, lambda key: asset_graph.get(key).child_keys) for load in loads}
    late = set().union(*checked_after.values())
    gate = gate_key(graph)
    return {gate: checked - late} | {
        load: {gate} if any(checked_after[each] for each in step) else {gate, *late} for step in steps for load in step
    }


def below(start: dg.AssetKey, children: Callable[[dg.AssetKey], Iterable[dg.AssetKey]]) -> set[dg.AssetKey]:
    """All that is made from an asset, by whatever steps between."""
    found: set[dg.AssetKey] = set()
    left = [start]
    while left:
        new = set(children(left.pop())) - found
        found |= new
        left += new
    return found
