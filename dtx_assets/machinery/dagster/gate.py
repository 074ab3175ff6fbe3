"""The gate as the Dagster instance sees it: the last evaluation of each check that can close it."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from dtx_assets.machinery.checks.gate import RESTORE_POINT, GatedCheck, Obstacle, obstacles
from dtx_assets.machinery.checks.spec import CheckGroup, CheckSpec
from dtx_assets.machinery.dagster.checks import check_context
from dtx_assets.machinery.dagster.graph import Graph
from dtx_assets.machinery.dagster.load_checks import load_checks
from dtx_assets.machinery.dagster.metadata import check_name, closes_gate
from dtx_assets.machinery.dagster.run import asset_states, check_states
from dtx_assets.machinery.dagster.verification import verification_checks
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.system.system import System


def known_obstacles(system: System, graph: AssetGraph) -> set[str]:
    """What a cutover may be asked to accept: questions, and checks that block it, of one asset or of all that have it.

    `graph` is the whole one: a run knows the assets of its own only.
    """
    names = {RESTORE_POINT, *(question.name for question in system.questions)}
    for key in graph.asset_check_keys:
        if closes_gate(graph.get_check_spec(key)):
            names |= {key.name, check_name(key)}
    return names


class GateOfInstance:
    """What is in the way of a load, from the last evaluation of each blocking check in the instance's history.

    A check that reads no rows, such as that of open decisions, is evaluated anew.
    """

    def __init__(self, graph: Graph, check_groups: Sequence[CheckGroup], instance: dg.DagsterInstance | None) -> None:
        self.graph, self.check_groups, self.instance = graph, check_groups, instance

    def __call__(self, environment: RunEnvironment, models: Collection[str]) -> list[Obstacle]:
        return self.in_the_way(
            environment, models, cutover=environment.mode == "cutover", but_of_run=environment.run_id
        )

    def in_the_way(
        self, environment: RunEnvironment, models: Collection[str], *, cutover: bool, but_of_run: str | None = None
    ) -> list[Obstacle]:
        """What keeps `models` from being loaded; checks of targets that the run `but_of_run` evaluated do not count."""
        checks = (
            [*self._evaluated_now(environment), *self._evaluated_before(but_of_run), *self._verified(but_of_run)]
            if cutover
            else self._evaluated_before(but_of_run, structure_of=models)
        )
        return obstacles(
            checks,
            self.graph.system.questions,
            environment.decisions.chosen,
            cutover=cutover,
            models=models,
            restore_point=environment.options.restore_point,
        )

    def _evaluated_now(self, environment: RunEnvironment) -> Iterator[GatedCheck]:
        for group in self.check_groups:
            if group.needs or not any(spec.closes_gate for spec in group.specs):
                continue
            outcomes = group.evaluate(check_context(environment))
            for spec in group.specs:
                outcome = outcomes[spec.name]
                failed = not outcome.passed and (outcome.severity or spec.severity) == "ERROR"
                facts = "; ".join(
                    ", ".join(value) for value in outcome.metadata.values() if isinstance(value, Mapping) and value
                )
                yield GatedCheck(
                    check_name(self._key(group, spec)),
                    "failed" if failed else "passed",
                    spec.structure,
                    (),
                    count=outcome.count,
                    says=f": {facts}" if facts else "",
                )

    def _evaluated_before(
        self, but_of_run: str | None, *, structure_of: Collection[str] | None = None
    ) -> Iterator[GatedCheck]:
        """`structure_of` are the models of a rehearsal, which is stopped by their structure alone: each load asks, and
        to read what hundreds of checks found takes longer than a small load."""
        gating = {
            self._key(group, spec): (group, spec)
            for group in self.check_groups
            if group.needs
            and (structure_of is None or not self.graph.models_made_from(*group.asset).isdisjoint(structure_of))
            for spec in group.specs
            if (spec.closes_gate if structure_of is None else spec.structure)
        }
        if self.instance is None or not gating:
            return
        states = check_states(self.instance, gating)
        by_name = {check_name(key): declared for key, declared in gating.items()}
        made = {state.asset: state.at for state in asset_states(self.instance, {key.asset_key for key in gating})}
        for state in states:
            group, spec = by_name[state.whole_name]
            if group.asset[0] == "target" and state.run_id == but_of_run:
                # It looks at what this run has loaded already: too late to keep the rest of the targets back.
                continue
            yield GatedCheck(
                state.whole_name,
                state.state,
                spec.structure,
                self.graph.models_made_from(*group.asset),
                state.at,
                made.get(state.asset),
                state.count,
            )

    def _key(self, group: CheckGroup, spec: CheckSpec) -> dg.AssetCheckKey:
        return dg.AssetCheckKey(self.graph.key(*group.asset), spec.name)

    def _verified(self, but_of_run: str | None) -> Iterator[GatedCheck]:
        """What targets were found to hold and to refuse: it is about rows that were loaded, and there need be none."""
        if self.instance is None:
            return
        checks = [*verification_checks(self.graph), *load_checks(self.graph)]
        for state in check_states(self.instance, checks, before_run=but_of_run):
            yield GatedCheck(state.whole_name, state.state, False, (), state.at, count=state.count)
