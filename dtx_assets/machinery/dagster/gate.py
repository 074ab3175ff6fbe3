"""The gate as the Dagster instance sees it: the last evaluation of each check that can close it."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from dtx_assets.machinery.checks.gate import RESTORE_POINT, GatedCheck, obstacles
from dtx_assets.machinery.checks.obstacles import Obstacle, owned_now, pairs_concerned, rejected_names
from dtx_assets.machinery.checks.spec import CheckGroup, CheckSpec
from dtx_assets.machinery.checks.standard import check_groups
from dtx_assets.machinery.dagster.checks import check_context, red_for_what
from dtx_assets.machinery.dagster.graph import Graph
from dtx_assets.machinery.dagster.load_checks import load_checks
from dtx_assets.machinery.dagster.metadata import asset_name, check_name, closes_gate
from dtx_assets.machinery.dagster.run import asset_states, check_states
from dtx_assets.machinery.dagster.verification import verification_checks
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.system.question import Question
from dtx_assets.machinery.system.system import System


def known_obstacles(system: System, graph: AssetGraph) -> set[str]:
    """What a cutover may be asked to accept: questions, decisions, actions, kinds of rejected rows, and checks that
    block it, of one asset or of all that have it.

    `graph` is the whole one: a run knows the assets of its own only.
    """
    names = {
        RESTORE_POINT,
        *(question.name for question in system.questions),
        *(decision.key for decision in system.decisions.entries),
        *(action.id for action in system.decisions.actions),
        *rejected_names(system),
    }
    for key in graph.asset_check_keys:
        if closes_gate(graph.get_check_spec(key)):
            names |= {key.name, check_name(key)}
    return names


def known_without_a_run(system: System, groups: Iterable[CheckGroup]) -> list[str]:
    """The names of what is in the way of a cutover by the declarations alone: what is open, what is asked.

    The restore point has an option of its own.
    """
    parts = [part for group in groups for part in group.without_rows if part.foretold]
    foretold = [name for part in parts if part.foretold for name in part.foretold(system.decisions)]
    order = [entry.key for entry in system.decisions.entries] + [action.id for action in system.decisions.actions]
    asked = [question.name for question in system.questions if question.asked_when(system.decisions.chosen)]
    known = [name for name in order if name in foretold]
    return list(dict.fromkeys([*known, *foretold, *asked]))


def gate_of(system: System, instance: dg.DagsterInstance) -> "GateOfInstance":
    """The gate of a system with all its checks."""
    return GateOfInstance(Graph(system), check_groups(system), instance)


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
        found = obstacles(
            checks,
            self._questions(environment),
            environment.decisions.chosen,
            cutover=cutover,
            models=models,
            restore_point=environment.options.restore_point,
            owner=self.graph.system.owner,
        )
        return self._with_rows(found, environment)

    def without_rows(self, environment: RunEnvironment) -> list[Obstacle]:
        """What is in the way of a cutover and can be told before anything is read."""
        found = obstacles(
            self._evaluated_now(environment),
            self._questions(environment),
            environment.decisions.chosen,
            cutover=True,
            models=(),
            restore_point=environment.options.restore_point,
            owner=self.graph.system.owner,
        )
        return self._with_rows(found, environment)

    def _questions(self, environment: RunEnvironment) -> list[Question]:
        """What nobody has answered yet."""
        questions = self.graph.system.questions
        return [question for question in questions if not environment.decisions.is_answered(question.name)]

    def _with_rows(self, found: Sequence[Obstacle], environment: RunEnvironment) -> list[Obstacle]:
        """With the rows that decisions are about, as they were prepared or extracted last."""
        if not any(obstacle.kind == "decision" for obstacle in found):
            return list(found)
        read = self._rows_read(environment)
        affected = {
            obstacle.name: pairs_concerned(environment.system, decision, read, decision.affects)
            for obstacle in found
            if obstacle.kind == "decision"
            for decision in [environment.decisions.entry(obstacle.name)]
        }
        return [
            replace(obstacle, rows=sum(read[pair] for pair in affected[obstacle.name]) if read else None)
            if obstacle.name in affected
            else obstacle
            for obstacle in found
        ]

    def _rows_read(self, environment: RunEnvironment) -> dict[tuple[str, str], int]:
        """How many rows of a legacy table were taken for a model; of what is archived only, for no model."""
        system, lake = self.graph.system, environment.lake
        read: dict[tuple[str, str], int] = {}
        for model in self._models():
            manifest = lake.manifest((system.name, "prepared", model))
            for entry in manifest.metadata["accounting"] if manifest else ():
                read[entry["source_table"], model] = entry["read"]
        for table in system.legacy_tables.keys() - system.migrated_tables:
            if landed := lake.manifest((system.name, "legacy", table)):
                read[table, ""] = landed.tables["rows"].rows
        return read

    def _evaluated_now(self, environment: RunEnvironment) -> Iterator[GatedCheck]:
        context = check_context(environment)
        asked = (part for whole in self.check_groups for part in whole.without_rows)
        for group in (part for part in asked if any(spec.closes_gate for spec in part.specs)):
            outcomes = group.evaluate(context)
            for spec in group.specs:
                outcome, key = outcomes[spec.name], self._key(group, spec)
                failed = not outcome.passed and (outcome.severity or spec.severity) == "ERROR"
                yield GatedCheck(
                    check_name(key),
                    "failed" if failed else "passed",
                    spec.structure,
                    (),
                    count=outcome.count,
                    found=red_for_what(key, spec, outcome, environment.system) if failed else (),
                )

    def _evaluated_before(
        self, but_of_run: str | None, *, structure_of: Collection[str] | None = None
    ) -> Iterator[GatedCheck]:
        """`structure_of` are the models of a rehearsal, which is stopped by their structure alone: each load asks, and
        to read what hundreds of checks found takes longer than a small load."""
        gating = {
            key: (group, spec)
            for group in self.check_groups
            if structure_of is None or not self.graph.models_made_from(*group.asset).isdisjoint(structure_of)
            for spec in group.specs
            if (spec.closes_gate if structure_of is None else spec.structure)
            and (key := self._key(group, spec)) not in self._keys_without_rows
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
                tuple(owned_now(obstacle, self.graph.system, group.asset) for obstacle in state.found),
                self.graph.system.owner_of(*group.asset),
            )

    @cached_property
    def _keys_without_rows(self) -> frozenset[dg.AssetCheckKey]:
        """The checks that are evaluated anew."""
        return frozenset(
            self._key(part, spec) for group in self.check_groups for part in group.without_rows for spec in part.specs
        )

    def _key(self, group: CheckGroup, spec: CheckSpec) -> dg.AssetCheckKey:
        return dg.AssetCheckKey(self.graph.key(*group.asset), spec.name)

    def _verified(self, but_of_run: str | None) -> Iterator[GatedCheck]:
        """What targets were found to hold and to refuse: it is about rows that were loaded, and there need be none."""
        if self.instance is None:
            return
        checks = [*verification_checks(self.graph), *load_checks(self.graph)]
        models = {key: model for model in self._models() for key in [self.graph.key("target", model)]}
        owners = {asset_name(key): self.graph.system.owner_of("target", model) for key, model in models.items()}
        for state in check_states(self.instance, checks, before_run=but_of_run):
            yield GatedCheck(
                state.whole_name,
                state.state,
                False,
                (),
                state.at,
                count=state.count,
                found=state.found,
                owner=owners[state.asset],
            )

    def _models(self) -> list[str]:
        return [target.model for target in self.graph.system.filled_targets]
