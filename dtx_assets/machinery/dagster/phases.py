"""The gates between phases: each is a step after the loads of its phase, and the loads of later ones wait for it."""

from collections.abc import Iterator
from contextlib import ExitStack

import dagster as dg

from dtx_assets.machinery.dagster.graph import LOADS, RESOURCES, Graph, told
from dtx_assets.machinery.dagster.metadata import BLOCKS, described_check
from dtx_assets.machinery.load.phase_checks import NAMES, STRUCTURE, phase_findings
from dtx_assets.machinery.postgres.connection import connect, refusals_told
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.system.phase import Phase


def gates_before(graph: Graph, area: str) -> list[dg.AssetKey]:
    """The gates that loads of an area wait for: those of the phases before its own."""
    own = next((phase.number for phase in graph.system.phases if phase.area == area), 0)
    return [graph.key("report", phase.report) for phase in graph.system.phases if phase.number < own]


def build_phase(graph: Graph, phase: Phase) -> dg.AssetsDefinition:
    """One step with the four checks of a phase; where structure fails, the step does, and no later load starts."""
    key = graph.key("report", phase.report)
    names = {name: f"{phase.report}_{name}" for name in NAMES}
    targets = [graph.key("target", target.model) for target in graph.system.models_of(phase)]

    @dg.multi_asset(
        name=f"{graph.system.name}_gate_of_{phase.report}",
        specs=[
            graph.spec(
                key,
                phase.area,
                f"What was found of the rows of phase {phase.number} when all were loaded. Loads of later phases wait"
                " for it, and do not start where counts, references or legacy ids are not as they should be.",
                deps=[*gates_before(graph, phase.area), *targets],
                kinds={"postgres"},
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(
                called,
                asset=key,
                description=described_check(
                    dg.AssetCheckKey(key, called), NAMES[name], structure=name in STRUCTURE, blocking=False
                ),
                metadata={"severity": "ERROR", BLOCKS: name in STRUCTURE},
            )
            for name, called in names.items()
        ],
        required_resource_keys=RESOURCES,
        op_tags={"dagster/priority": str(LOADS)},
    )
    def gate_of_phase(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            environment.load()
            with refusals_told(), ExitStack() as held:
                connections = range(environment.settings.load_connections)
                connection, *beside = [held.enter_context(connect(environment.target_url)) for _ in connections]
                found = phase_findings(connection, graph.system, phase, beside)
            for name, findings in found.items():
                yield dg.AssetCheckResult(
                    passed=not findings.count,
                    asset_key=key,
                    check_name=names[name],
                    severity=dg.AssetCheckSeverity.ERROR,
                    metadata={"count": findings.count, "found": findings.counts, "examples": findings.examples},
                )
            if wrong := [f"{names[name]}: {found[name].counts}" for name in STRUCTURE if found[name].count]:
                raise dg.Failure(
                    description=f"phase {phase.number} is not as it should be, so that no later one starts: "
                    f"{'; '.join(wrong)}\nFind out who changed these rows; `dtx rollback --phase {phase.number}` undoes"
                    " the phase.",
                    allow_retries=False,
                )
            counts = {name: findings.count for name, findings in found.items()}
            yield dg.MaterializeResult(asset_key=key, metadata=counts)

    return gate_of_phase
