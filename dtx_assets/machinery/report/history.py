"""What Dagster remembers: the last state of each asset and check, and how long runs and their steps took."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from dtx_assets.machinery.base.shard import Shard
from dtx_assets.machinery.dagster.attempts import asked_option, planned_assets
from dtx_assets.machinery.dagster.graph import AREA_TAG
from dtx_assets.machinery.dagster.history import failed_evaluations
from dtx_assets.machinery.dagster.jobs import SYSTEM_TAG
from dtx_assets.machinery.dagster.metadata import POINTS, asset_key, check_name, closes_gate, own_description
from dtx_assets.machinery.dagster.run import (
    REFUSED_TAG,
    CheckResult,
    CheckState,
    asset_states,
    check_result,
    check_states,
)
from dtx_assets.machinery.report.figures import RunFigures
from dtx_assets.machinery.system.system import System

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
    from dagster._core.execution.stats import RunStepKeyStatsSnapshot


EVALUATIONS_SHOWN = 5
PAGES_LOOKED_AT = 100
FINDING_SHOWN = 300
"""So many characters of what a check found that stands in nobody's way."""
MEND = "Mend it where it comes from, and run again."
NO_REMEDIES: Mapping[str, Sequence[str]] = {}


@dataclass(frozen=True)
class Check:
    """A check and its last result. `state` is passed, failed, accepted, warned, never run, running or not finished."""

    asset: str
    name: str
    area: str
    description: str
    severity: str
    blocking: bool
    state: str
    at: datetime | None
    count: int | None
    outdated: bool
    """The asset was made again since."""
    accepted: str = ""
    in_the_way: str | None = None
    """Where it stands in the way of a cutover, what the gate says beside its count."""
    found: str = ""
    """What it found, where it failed or warned and does not stand in the way."""
    remedies: tuple[str, ...] = ()
    evaluated_times: int = 0
    failed_times: int = 0
    """Of those that failed: so many times of the last ones."""

    def says_the_same_as(self, other: "Check") -> bool:
        """Whether it found of its asset what another check found of another one, so that it need not be read again."""
        told = [(each.name, each.accepted, each.in_the_way or each.found, each.remedies) for each in (self, other)]
        return self.asset != other.asset and bool(self.in_the_way or self.found) and told[0] == told[1]


@dataclass(frozen=True)
class FailedRun:
    run_id: str
    started_at: datetime
    seconds: float | None
    mode: str = ""
    """As it was asked for; empty where the environment said it."""
    refused: str = ""
    """What the gate refused it for, by kind."""


@dataclass(frozen=True)
class Phase:
    name: str
    steps: int
    seconds: float


@dataclass(frozen=True)
class SharedStep:
    """A shard of a step, such as `prepare exemption`: how long it took, None where it did not end,
    and how many times it was begun."""

    step: str
    shard: Shard
    seconds: float | None
    attempts: int


class RunHistory:
    """What Dagster knows of the runs of a system."""

    def __init__(self, system: System, instance: dg.DagsterInstance) -> None:
        self.system, self.instance = system, instance

    def seconds(self, runs: Sequence[RunFigures]) -> dict[str, float | None]:
        """How long each run took from its start to its end, None while it goes on.

        Where this history does not have it, how long it loaded; of one that was undone only that is known, when it was.
        """
        if not runs:
            return {}
        filters = dg.RunsFilter(run_ids=[run.run_id for run in runs])
        records = {record.dagster_run.run_id: record for record in self.instance.get_run_records(filters=filters)}
        seconds: dict[str, float | None] = {}
        for run in runs:
            record = records.get(run.run_id)
            if record and record.start_time:
                seconds[run.run_id] = record.end_time - record.start_time if record.end_time else None
            else:
                loaded_until = None if run.status == "rolled back" else run.finished_at
                seconds[run.run_id] = (loaded_until - run.started_at).total_seconds() if loaded_until else None
        return seconds

    def refused(self, run_id: str) -> str:
        """What the gate refused a run for, by kind; empty where it did not."""
        run = self.instance.get_run_by_id(run_id)
        return run.tags.get(REFUSED_TAG, "") if run else ""

    def asked_by(self, run_id: str) -> str:
        """Who started a run, as far as its options say."""
        run = self.instance.get_run_by_id(run_id)
        return asked_option(run, "accepted_by") if run else ""

    def remembers(self, run_id: str) -> bool:
        """Whether this history has a run: one that another machine started, or before it was emptied, is elsewhere."""
        return self.instance.has_run(run_id)

    def was_killed(self, run_id: str) -> bool:
        """Whether a run ended without success; of one that says it goes on, it was killed before it could say so."""
        run = self.instance.get_run_by_id(run_id)
        return run is not None and run.is_finished and not run.is_success

    def failed_early(self, loaded: Sequence[RunFigures], limit: int) -> list[FailedRun]:
        """The last runs that were to load, and failed or were killed before: the target database knows none of them.

        Where `loaded` is as long as the limit, those since the first of them.
        """
        filters = dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED],
            tags={SYSTEM_TAG: self.system.name},
            created_after=loaded[-1].started_at if len(loaded) == limit else None,
        )
        known = {run.run_id for run in loaded}
        return [
            FailedRun(
                record.dagster_run.run_id,
                datetime.fromtimestamp(record.start_time, UTC),
                record.end_time - record.start_time if record.end_time else None,
                asked_option(record.dagster_run, "mode"),
                record.dagster_run.tags.get(REFUSED_TAG, ""),
            )
            for record in self.instance.get_run_records(filters=filters, limit=limit)
            if record.start_time
            and record.dagster_run.run_id not in known
            and self.was_to_load(record.dagster_run.run_id)
        ]

    def in_the_way_of(self, run_ids: Sequence[str]) -> dict[str, int]:
        """How many points stood in the way of a cutover after each run, as its cutover page said when it was made."""
        if not run_ids:
            return {}
        key = asset_key(self.system.name, "report", "cutover")
        records = self.instance.fetch_materializations(key, limit=PAGES_LOOKED_AT).records
        points = {}
        for record in reversed(records):
            made = record.asset_materialization
            said = made.metadata.get(POINTS) if made else None
            if record.run_id in run_ids and said is not None and isinstance(said.value, int):
                points[record.run_id] = said.value
        return points

    def was_to_load(self, run_id: str) -> bool:
        return any(key.path[:2] == [self.system.name, "target"] for key in planned_assets(self.instance, run_id))

    def failed_checks(self, run_id: str) -> int | None:
        """How many checks of a run failed at ERROR; None where the history does not have it any more."""
        if not self.remembers(run_id):
            return None
        return sum(check_result(evaluation).is_error for evaluation in failed_evaluations(self.instance, run_id))

    def steps(self, run_id: str) -> Sequence["RunStepKeyStatsSnapshot"]:
        """When the steps of a run began and ended, and how often they were begun."""
        return self.instance.get_run_step_stats(run_id)

    def phases(self, of_run: Iterable["RunStepKeyStatsSnapshot"]) -> tuple[Phase, ...]:
        """How long the steps of a run took, by what they do: the first word of their names, the longest first."""
        seconds: dict[str, float] = {}
        steps: Counter[str] = Counter()
        for step in of_run:
            if step.start_time and step.end_time:
                phase = step.step_key.removeprefix(f"{self.system.name}_").split("_")[0]
                seconds[phase] = seconds.get(phase, 0.0) + step.end_time - step.start_time
                steps[phase] += 1
        longest_first = sorted(seconds.items(), key=lambda entry: -entry[1])
        return tuple(Phase(name, steps[name], spent) for name, spent in longest_first)

    def shards(self, of_run: Iterable["RunStepKeyStatsSnapshot"]) -> tuple[SharedStep, ...]:
        """The shards of the steps of a run that several processes shared, by step and number."""
        key = re.compile(rf"{re.escape(self.system.name)}_(?P<step>.+)\.shard\[(?P<shard>\d+_of_\d+)\]")
        found = [
            SharedStep(
                told["step"].replace("_", " ", 1),
                Shard.named(told["shard"]),
                step.end_time - step.start_time if step.start_time and step.end_time else None,
                step.attempts or 0,
            )
            for step in of_run
            if (told := key.fullmatch(step.step_key))
        ]
        return tuple(sorted(found, key=lambda each: (each.step, each.shard.number)))


class History(RunHistory):
    """What Dagster knows of the system: its assets and checks with their last states, and its runs."""

    def __init__(self, system: System, graph: "AssetGraph", instance: dg.DagsterInstance) -> None:
        super().__init__(system, instance)
        self.graph = graph
        made = (key for key in graph.get_all_asset_keys() if graph.get(key).is_materializable)
        self.assets = {state.asset: state for state in asset_states(instance, made)}
        self.check_states = check_states(instance, graph.asset_check_keys)

    def checks(
        self,
        accepted: Mapping[str, str],
        in_the_way: Mapping[str, str],
        remedies: Mapping[str, Sequence[str]] = NO_REMEDIES,
    ) -> list[Check]:
        """All checks with their last results; those accepted by name are `accepted` where they would be `failed`.

        `in_the_way` is what the gate says of those that are, by name; `remedies` what mends each.
        """
        keys = {check_name(key): key for key in self.graph.asset_check_keys}
        found = []
        for state in self.check_states:
            key = keys[state.whole_name]
            spec = self.graph.get_check_spec(key)
            made = self.assets[state.asset].at if state.asset in self.assets else None
            reason = accepted.get(state.whole_name, accepted.get(state.name, ""))
            red, way = state.state == "failed", in_the_way.get(state.whole_name)
            times = self.last_results(key) if red else ()
            known = remedies.get(state.whole_name, [found.remedy for found in state.found])
            found.append(
                Check(
                    asset=state.asset,
                    name=state.name,
                    area=self.graph.get(key.asset_key).tags[AREA_TAG],
                    description=own_description(spec),
                    severity=str(spec.metadata.get("severity", "ERROR")),
                    blocking=closes_gate(spec),
                    state="accepted" if reason and state.state == "failed" else state.state,
                    at=state.at,
                    count=state.count,
                    outdated=bool(made and state.at and state.at < made),
                    accepted=reason,
                    in_the_way=way,
                    found=finding_of(state) if way is None and state.state in ("failed", "warned") else "",
                    remedies=tuple(dict.fromkeys(known)) or ((MEND,) if red else ()),
                    evaluated_times=len(times),
                    failed_times=sum(result.is_error for result in times),
                )
            )
        return found

    def last_results(self, key: dg.AssetCheckKey) -> tuple[CheckResult, ...]:
        """The last evaluations of a check, the latest first."""
        executions = self.instance.event_log_storage.get_asset_check_execution_history(key, limit=EVALUATIONS_SHOWN)
        evaluations = (each.event.asset_check_evaluation for each in executions if each.event)
        return tuple(check_result(evaluation) for evaluation in evaluations if evaluation)


def finding_of(state: CheckState) -> str:
    """What a check found, in a line."""
    # How many stands beside it.
    said = "; ".join(found.finding for found in state.found) or re.sub(r"^count: \d+(; )?", "", state.facts)
    return said if len(said) <= FINDING_SHOWN else f"{said[: FINDING_SHOWN - 1]}…"
