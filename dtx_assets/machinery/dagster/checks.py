"""The steps that evaluate checks, one for all checks of a table."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import dagster as dg

from dtx_assets.machinery.checks.obstacles import Obstacle, found_by_check
from dtx_assets.machinery.checks.spec import CheckContext, CheckGroup, CheckOutcome, CheckSpec, Severity
from dtx_assets.machinery.dagster.graph import CHECKS, EVALUATED, LAST, RESOURCES, Graph, told
from dtx_assets.machinery.dagster.metadata import (
    BLOCKS,
    FOUND_IN,
    check_metadata,
    check_name,
    described_check,
    red_metadata,
)
from dtx_assets.machinery.load import (
    untouched,
)
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import connect, refusals_told
from dtx_assets.machinery.run import checked_before
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.system.system import System


def build_check_step(graph: Graph, group: CheckGroup) -> dg.AssetChecksDefinition:
    """One step that evaluates all checks of a group together."""
    key = graph.key(*group.asset)
    made_with_it = graph.made_together(*group.asset)
    needs = [need for need in (graph.key(*need) for need in group.needs) if need not in made_with_it]
    declared = {spec.name: spec for spec in (*group.specs, *tie_of(group))}
    specs = [check_spec(key, spec, needs) for spec in declared.values()]

    @dg.multi_asset_check(
        name=f"{graph.system.name}_check_{'_'.join(key.path[1:])}",
        specs=specs,
        can_subset=True,
        required_resource_keys=RESOURCES,
        op_tags=CHECKS,
    )
    def check_step(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            missing = [
                need for need in needs if environment.lake.manifest(need.path) is None and need.path[1] != "target"
            ]
            if missing:
                # Only some assets were selected, and never the others: not evaluated is no failure.
                names = ", ".join("/".join(need.path) for need in missing)
                context.log.warning(f"not evaluated: {names} has not been materialised")
                return
            outcomes = {
                EVALUATED: CheckOutcome(True, 0),
                **checked_before.outcomes(group, check_context(environment), environment),
            }
            for check in context.selected_asset_check_keys:
                outcome, spec = outcomes[check.name], declared[check.name]
                severity = outcome.severity or spec.severity
                if spec.structure and severity == "ERROR" and not outcome.passed:
                    environment.failures.append(f"{'/'.join(group.asset)}: {check.name}")
                yield check_result(key, spec, outcome, severity, environment.system)

    return check_step


def tie_of(group: CheckGroup) -> Iterator[CheckSpec]:
    """A check that ties what is made of the asset to those that close the gate, where none of structure does."""
    closes_gate = group.needs and group.asset[0] != "target" and any(spec.closes_gate for spec in group.specs)
    if closes_gate and not any(spec.structure for spec in group.specs):
        yield CheckSpec(
            EVALUATED,
            group.asset,
            "The checks of this asset were evaluated. Loads of what is made of it wait for that, on every executor.",
            "ERROR",
            structure=True,
        )


def check_result(
    key: dg.AssetKey, spec: CheckSpec, outcome: CheckOutcome, severity: Severity, system: System
) -> dg.AssetCheckResult:
    """The evaluation of a check; of one that closes the gate, with what it is red for."""
    closes = spec.closes_gate and not outcome.passed and severity == "ERROR"
    red_for = red_for_what(dg.AssetCheckKey(key, spec.name), spec, outcome, system) if closes else ()
    return dg.AssetCheckResult(
        passed=outcome.passed,
        asset_key=key,
        check_name=spec.name,
        severity=dg.AssetCheckSeverity[severity],
        metadata={
            **red_metadata(red_for, structure=spec.structure),
            "count": outcome.count,
            **check_metadata(outcome.metadata),
            **({FOUND_IN: outcome.found_in} if outcome.found_in else {}),
        },
    )


def red_for_what(key: dg.AssetCheckKey, spec: CheckSpec, outcome: CheckOutcome, system: System) -> tuple[Obstacle, ...]:
    """The obstacles that a red check is red for: those that it names, or itself."""
    return outcome.obstacles or (found_by_check(system, check_name(key), spec.asset, outcome.count, outcome.metadata),)


def check_spec(key: dg.AssetKey, spec: CheckSpec, needs: Sequence[dg.AssetKey]) -> dg.AssetCheckSpec:
    """Dagster's own blocking flag is for structure; `blocking` of ours is the gate in the load."""
    return dg.AssetCheckSpec(
        spec.name,
        asset=key,
        description=described_check(
            dg.AssetCheckKey(key, spec.name), spec.description, structure=spec.structure, blocking=spec.blocking
        ),
        additional_deps=needs,
        blocking=spec.structure,
        metadata={"severity": spec.severity, BLOCKS: spec.blocking},
    )


def check_context(environment: RunEnvironment) -> CheckContext:
    return CheckContext(
        lake=environment.lake,
        system=environment.system,
        decisions=environment.decisions,
        value_maps=environment.system.mappings.value_maps,
        settings=environment.settings,
        target_url=lambda: environment.target_url,
    )


def build_untouched_checks(graph: Graph, targets: Sequence[TargetTable]) -> dg.AssetChecksDefinition:
    """One step that shows that this migration wrote nothing into the tables that start empty."""
    by_key = {graph.key("target", target.model): target for target in targets}
    name = "untouched"

    @dg.multi_asset_check(
        name=f"{graph.system.name}_check_untouched",
        specs=[
            dg.AssetCheckSpec(name, asset=key, description="This migration wrote nothing here; the table starts empty.")
            for key in by_key
        ],
        can_subset=True,
        required_resource_keys=RESOURCES,
        op_tags=LAST,
    )
    def check_untouched(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment), refusals_told(), connect(environment.target_url) as connection:
            for check in context.selected_asset_check_keys:
                outcome = untouched(connection, by_key[check.asset_key], graph.system.name)
                yield dg.AssetCheckResult(
                    passed=outcome.passed, asset_key=check.asset_key, check_name=name, metadata=asdict(outcome)
                )

    return check_untouched
