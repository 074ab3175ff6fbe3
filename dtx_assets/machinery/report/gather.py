"""What the page says, as data: the bookkeeping's figures beside the Dagster history and the system's declarations.

Everything personal is masked here, before anything is rendered. The queries are `figures`, the HTML is `render`.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from dtx_assets.machinery.gate import RESTORE_POINT, Obstacle
from dtx_assets.machinery.legacy import LegacyTable
from dtx_assets.machinery.load.archived import ARCHIVE
from dtx_assets.machinery.mapping.decisions import Action, Decision, KnownIssue
from dtx_assets.machinery.mapping.lineage import accounted_for, describe
from dtx_assets.machinery.mapping.model import ColumnMapping, TargetMapping
from dtx_assets.machinery.masking import mask, mask_emails, mask_row
from dtx_assets.machinery.report.figures import Accounting, Figures, Listed, RejectedKind, RejectedRows, RunFigures
from dtx_assets.machinery.run import asset_states, check_result, check_states
from dtx_assets.machinery.system import System
from dtx_assets.machinery.target import TargetColumn

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

WHOLE_RUNS = 5
"""Of so many whole runs the longest says how long a cutover takes."""
RESERVE = 0.5
"""What is added to it: the share that a first cutover may take longer than any rehearsal."""
RUNS_WITH_CHECKS = 10
COLUMNS_SHOWN = 8
BLOCKS = "blocks a cutover"
"""The entry of a check's metadata that says whether it does."""

REMEDIES = {
    "unmapped_value": "Add the value to the value map that is named, or correct it in the source.",
    "unparseable": "Correct the value in the source; the sentence says which column and what was expected.",
    "orphan_reference": "Ask the area that owns the crosswalk to add the id, or leave the row behind on purpose.",
    "duplicate_key": "Another row of this key counts. Nothing to do, unless it is the wrong one: correct it then.",
    "no_matching_row": "What to link to is not there: see whether it was rejected itself, or is another area's.",
    "invalid_email": "Correct the address in the source; valid addresses of the same row were kept.",
    "unsafe_path": "The path leads out of the file repository: correct it in the source. It was not opened.",
    "file_missing": "Restore the file under its path, or leave the row behind on purpose.",
    "schema_violation": "The target does not take the value: correct it in the source, or have the column changed.",
    "target_conflict": "Someone else made or changed the row in the target: decide which of the two is right.",
}
"""What to do about rows that were rejected for a reason of spec 5."""


# --- what the page is made of -----------------------------------------------------------------------------------------


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
    stands_in_the_way: bool = False


@dataclass(frozen=True)
class Reason:
    """One reason against a cutover: how many, of what, and where on the page to read on."""

    count: int
    text: str
    anchor: str


@dataclass(frozen=True)
class AreaReadiness:
    """An area; what its decisions and actions wait for is told beside the reasons, whose checks look at them."""

    group: str
    title: str
    reasons: tuple[Reason, ...]
    undecided: int
    undone: int
    checks: tuple[Check, ...]
    tally: Mapping[str, int]


@dataclass(frozen=True)
class RunRow:
    """A run of the trend. Seconds are of the whole run where Dagster's history has it, else of its loads."""

    figures: RunFigures
    seconds: float | None
    read: int
    migrated: int
    rejected: int
    dropped: int
    whole: bool
    failed_checks: int | None


@dataclass(frozen=True)
class Phase:
    name: str
    steps: int
    seconds: float


@dataclass(frozen=True)
class Window:
    """How long the cutover will need, and what that is concluded from."""

    seconds: float
    longest: float
    runs: int
    read: int


@dataclass(frozen=True)
class Readiness:
    reasons: tuple[Reason, ...]
    areas: tuple[AreaReadiness, ...]
    runs: tuple[RunRow, ...]
    phases: tuple[Phase, ...]
    window: Window | None
    accepted: Mapping[str, str]
    questions: tuple[Obstacle, ...]
    """What is asked at the cutover itself."""
    tally: Mapping[str, int]

    @property
    def go(self) -> bool:
        return not self.reasons


@dataclass(frozen=True)
class Share:
    """A number of rows of one fate. `kind` is migrated, archived, rejected or dropped."""

    kind: str
    label: str
    rows: int


@dataclass(frozen=True)
class TableFlow:
    """Where the rows of one legacy table went, by target."""

    table: str
    area: str
    read: int
    entries: tuple[Accounting, ...]
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class Node:
    """An asset of the lineage picture; `href` is where on the page it is described."""

    key: str
    layer: str
    name: str
    area: str
    href: str
    rows: int | None
    at: datetime | None
    made_here: bool
    parents: tuple[str, ...]


@dataclass(frozen=True)
class DecisionRow:
    decision: Decision
    chosen: str | None
    overridden: bool
    action: Action | None
    tables: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class BookColumn:
    """A target column as one source makes it, or one that nothing fills."""

    column: TargetColumn
    sources: tuple[tuple[str, str], ...]
    how: str
    maps: tuple[str, ...]


@dataclass(frozen=True)
class BookSource:
    table: str
    functions: tuple[tuple[str, str], ...]
    columns: tuple[BookColumn, ...]
    helpers: tuple[tuple[str, str], ...]
    dropped: Mapping[str, str]


@dataclass(frozen=True)
class BookPage:
    """The mapping of one target model."""

    model: str
    table: str
    area: str
    decision: str
    description: str
    filled: bool
    why: str
    sources: tuple[BookSource, ...]
    unfilled: tuple[TargetColumn, ...]
    owned: int | None


@dataclass(frozen=True)
class ValueMapPage:
    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    used_by: tuple[str, ...]


@dataclass(frozen=True)
class LegacyPage:
    """A legacy table: where each of its columns goes."""

    table: LegacyTable
    read: int | None
    targets: tuple[str, ...]
    archived_because: str
    columns: tuple[tuple[str, tuple[tuple[str, str], ...], str], ...]
    """Column, the target columns it goes to, why it goes nowhere."""


@dataclass(frozen=True)
class Example:
    """A kind of rejected rows: what is wrong, how many, and one of them; masked."""

    detail: str
    rows: int
    source_key: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RejectedGroup:
    figures: RejectedRows
    model: str
    examples: tuple[Example, ...]
    remedies: tuple[str, ...]


@dataclass(frozen=True)
class CoercionRow:
    source_table: str
    target_table: str
    model: str
    kind: str
    rows: int
    migrated: int

    @property
    def share(self) -> float:
        return self.rows / self.migrated if self.migrated else 0.0


@dataclass(frozen=True)
class Report:
    """The whole page as data."""

    system: str
    now: datetime
    source: str
    target: str
    areas: Mapping[str, str]
    readiness: Readiness
    flows: tuple[TableFlow, ...]
    nodes: Mapping[str, tuple[Node, ...]]
    """By area: its assets, and those of others that they are made from."""
    decisions: tuple[DecisionRow, ...]
    actions: tuple[Action, ...]
    known_issues: tuple[KnownIssue, ...]
    book: tuple[BookPage, ...]
    value_maps: tuple[ValueMapPage, ...]
    legacy: tuple[LegacyPage, ...]
    rejected: tuple[RejectedGroup, ...]
    conflicts: tuple[Listed, ...]
    vanished: tuple[Listed, ...]
    coercions: tuple[CoercionRow, ...]
    models: Mapping[str, str] = field(default_factory=dict)
    """Target tables by name, with the model that the plan calls them."""

    def model_of(self, table: str) -> str:
        return self.models.get(table, table)


def gather(
    system: System,
    graph: "AssetGraph",
    instance: dg.DagsterInstance,
    figures: Figures,
    obstacles: Sequence[Obstacle],
    *,
    now: datetime,
    source: str = "",
    target: str = "",
) -> Report:
    """All that the page says as of `now`; `source` and `target` are told as they are, so give them masked.

    `obstacles` are what the gate of a cutover finds in the way, accepted or not.
    """
    history = History(system, graph, instance)
    models = target_models(system)
    current = current_accounting(system, figures, models)
    return Report(
        system=system.name,
        now=now,
        source=source,
        target=target,
        areas=system.areas,
        readiness=readiness(system, history, figures, current, obstacles),
        flows=table_flows(system, figures, current, models),
        nodes=lineage_nodes(system, history),
        decisions=decision_rows(system, current, models),
        actions=system.decisions.actions,
        known_issues=system.decisions.known_issues,
        book=tuple(book_page(system, history, figures, mapping) for _, mapping in sorted(mapped(system))),
        value_maps=value_map_pages(system),
        legacy=tuple(legacy_page(system, table, current, models) for table in system.legacy_tables.values()),
        rejected=tuple(rejected_group(system, group, models) for group in figures.rejected),
        conflicts=figures.conflicts,
        vanished=figures.vanished,
        coercions=coercion_rows(current, models),
        models=models,
    )


# --- the Dagster history ----------------------------------------------------------------------------------------------


class History:
    """What Dagster knows of the system: its assets and checks with their last states, and its runs."""

    def __init__(self, system: System, graph: "AssetGraph", instance: dg.DagsterInstance) -> None:
        self.system, self.graph, self.instance = system, graph, instance
        made = (key for key in graph.get_all_asset_keys() if graph.get(key).is_materializable)
        self.assets = {state.asset: state for state in asset_states(instance, made)}
        self.check_states = check_states(instance, graph.asset_check_keys)

    def checks(self, accepted: Mapping[str, str], in_the_way: Collection[str]) -> list[Check]:
        """All checks with their last results; those accepted by name are `accepted` where they would be `failed`."""
        keys = {("/".join(key.asset_key.path[1:]), key.name): key for key in self.graph.asset_check_keys}
        found = []
        for state in self.check_states:
            key = keys[state.asset, state.name]
            node = self.graph.get(key)
            spec = self.graph.get_check_spec(key)
            made = self.assets[state.asset].at if state.asset in self.assets else None
            name = f"{state.asset}:{state.name}"
            reason = accepted.get(name, accepted.get(state.name, ""))
            found.append(
                Check(
                    asset=state.asset,
                    name=state.name,
                    area=str(self.graph.get(key.asset_key).group_name),
                    description=spec.description or "",
                    severity=str(node.metadata.get("severity", "ERROR")),
                    blocking=bool(node.metadata.get(BLOCKS, False)) or spec.blocking,
                    state="accepted" if reason and state.state == "failed" else state.state,
                    at=state.at,
                    count=state.count,
                    outdated=bool(made and state.at and state.at < made),
                    accepted=reason,
                    stands_in_the_way=name in in_the_way,
                )
            )
        return found

    def seconds(self, runs: Sequence[RunFigures], now: datetime) -> dict[str, float | None]:
        """How long each run took from its start to its end, None while it goes on."""
        filters = dg.RunsFilter(run_ids=[run.run_id for run in runs])
        records = {record.dagster_run.run_id: record for record in self.instance.get_run_records(filters=filters)}
        seconds: dict[str, float | None] = {}
        for run in runs:
            record = records.get(run.run_id)
            if record and record.start_time:
                seconds[run.run_id] = record.end_time - record.start_time if record.end_time else None
            else:
                seconds[run.run_id] = (run.finished_at - run.started_at).total_seconds() if run.finished_at else None
        return seconds

    def failed_checks(self, run_id: str) -> int | None:
        """How many checks of a run failed at ERROR; None where the history does not have it any more."""
        if not self.instance.has_run(run_id):
            return None
        records = self.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
        evaluations = (record.event_log_entry.asset_check_evaluation for record in records)
        return sum(check_result(evaluation).is_error for evaluation in evaluations if evaluation is not None)

    def phases(self, run_id: str) -> tuple[Phase, ...]:
        """How long the steps of a run took, by what they do: the first word of their names, the longest first."""
        seconds: dict[str, float] = {}
        steps: Counter[str] = Counter()
        for step in self.instance.get_run_step_stats(run_id):
            if step.start_time and step.end_time:
                phase = step.step_key.removeprefix(f"{self.system.name}_").split("_")[0]
                seconds[phase] = seconds.get(phase, 0.0) + step.end_time - step.start_time
                steps[phase] += 1
        longest_first = sorted(seconds.items(), key=lambda entry: -entry[1])
        return tuple(Phase(name, steps[name], spent) for name, spent in longest_first)


# --- readiness --------------------------------------------------------------------------------------------------------


def readiness(
    system: System,
    history: History,
    figures: Figures,
    current: Mapping[tuple[str, str], Accounting],
    obstacles: Sequence[Obstacle],
) -> Readiness:
    """Go where nothing is in the way that was not accepted, and all rows of a whole run are accounted for."""
    expected = expected_pairs(system)
    last = next((run for run in figures.runs if run.status != "rolled back"), None)
    accepted = accepted_obstacles(last)
    asked = {RESTORE_POINT, *(question.name for question in system.questions)}
    left = [found for found in obstacles if not found.is_accepted(accepted)]
    checks = history.checks(accepted, {found.name for found in left})
    runs = run_rows(history, figures, expected)
    reasons = []
    if last is None:
        reasons.append(Reason(1, "nothing has been loaded yet: rehearse first", "runs"))
    elif last.status not in ("succeeded", "running"):
        reasons.append(Reason(1, f"the last run {last.status}", "runs"))
    missing = sorted(set(expected) - set(current))
    if last and missing:
        named = ", ".join(f"{source} → {target}" for source, target in missing[:3])
        reasons.append(Reason(len(missing), f"flows that no run has loaded: {named}", "flow"))
    lost = sum(not entry.balances for entry in current.values())
    if lost:
        reasons.append(Reason(lost, "flows in which rows are unaccounted for", "flow"))
    placed = {f"{check.asset}:{check.name}" for check in checks}
    # None may be lost on the way to the verdict, whatever its name.
    others = [found for found in left if found.name not in placed | asked]
    reasons += [Reason(1, f"{found.name} {found.text}", "reasons") for found in others]
    areas = tuple(area_readiness(system, group, title, checks) for group, title in all_areas(system, checks).items())
    whole = [run for run in runs if run.whole]
    return Readiness(
        reasons=(*reasons, *(reason for area in areas for reason in area.reasons)),
        areas=areas,
        runs=runs,
        phases=history.phases(whole[0].figures.run_id) if whole else (),
        window=cutover_window(runs),
        accepted=accepted,
        questions=tuple(found for found in left if found.name in asked),
        tally=tally(checks),
    )


def accepted_obstacles(run: RunFigures | None) -> dict[str, str]:
    """What was accepted in a run, by name, with who accepted it and why, as one text."""

    def told(entry: Any) -> str:
        if isinstance(entry, Mapping):
            return f"{entry.get('reason')} ({entry.get('by')}, {entry.get('at')})"
        return str(entry) or "accepted"

    return {name: mask_emails(told(entry)) for name, entry in (run.accepted.items() if run else ())}


def all_areas(system: System, checks: Iterable[Check]) -> dict[str, str]:
    """The areas of the system, and what else has checks."""
    others = {check.area: check.area.replace("_", " ").capitalize() for check in checks}
    return {**system.areas, **{group: title for group, title in others.items() if group not in system.areas}}


def area_readiness(system: System, group: str, title: str, checks: Iterable[Check]) -> AreaReadiness:
    mine = tuple(sorted((check for check in checks if check.area == group), key=board_order))
    in_the_way = [check for check in mine if check.stands_in_the_way]
    failed = sum(check.state == "failed" for check in in_the_way)
    reasons = (
        Reason(failed, "blocking checks failed", f"board-{group}"),
        Reason(len(in_the_way) - failed, "blocking checks were not evaluated for the present rows", f"board-{group}"),
    )
    return AreaReadiness(
        group,
        title,
        tuple(reason for reason in reasons if reason.count),
        undecided=sum(is_of_area(entry.area, title) for entry in system.decisions.open),
        undone=sum(
            is_of_area(action.area, title) and action.blocking and action.status == "open"
            for action in system.decisions.actions
        ),
        checks=mine,
        tally=tally(mine),
    )


def is_of_area(number: int, title: str) -> bool:
    return title.startswith(f"Area {number}:")


STATES = ("failed", "never run", "not finished", "running", "accepted", "warned", "passed")
"""The states of a check, the worst first."""


def board_order(check: Check) -> tuple[Any, ...]:
    return (not check.stands_in_the_way, STATES.index(check.state), not check.blocking, check.asset, check.name)


def tally(checks: Iterable[Check]) -> dict[str, int]:
    counts = Counter(check.state for check in checks)
    return {state: counts[state] for state in STATES if counts[state]}


def run_rows(history: History, figures: Figures, expected: Collection[tuple[str, str]]) -> tuple[RunRow, ...]:
    by_run: dict[str, list[Accounting]] = {}
    for entry in figures.accounting:
        by_run.setdefault(entry.run_id, []).append(entry)
    runs = list(figures.runs)
    # The end of a run that goes on is not known yet.
    seconds = history.seconds(runs, runs[0].started_at) if runs else {}
    rows = []
    for place, run in enumerate(runs):
        entries = by_run.get(run.run_id, [])
        rows.append(
            RunRow(
                run,
                seconds[run.run_id],
                read=sum(entry.read for entry in entries),
                migrated=sum(entry.migrated for entry in entries),
                rejected=sum(entry.rejected for entry in entries),
                dropped=sum(sum(entry.dropped.values()) for entry in entries),
                whole=set(expected) <= {(entry.source_table, entry.target_table) for entry in entries},
                failed_checks=history.failed_checks(run.run_id) if place < RUNS_WITH_CHECKS else None,
            )
        )
    return tuple(rows)


def cutover_window(runs: Iterable[RunRow]) -> Window | None:
    whole = [run for run in runs if run.whole and run.seconds is not None][:WHOLE_RUNS]
    if not whole:
        return None
    longest = max(whole, key=lambda run: run.seconds or 0)
    seconds = longest.seconds or 0.0
    return Window(seconds * (1 + RESERVE), seconds, len(whole), longest.read)


# --- flow -------------------------------------------------------------------------------------------------------------


def target_models(system: System) -> dict[str, str]:
    """Target tables by name, with the model that is called first where several fill one."""
    models = {ARCHIVE: "Archive"}
    for target in system.targets:
        models.setdefault(target.name, target.model)
    for flow in system.flows:
        models |= {system.target(model).name: model for model in flow.targets}
    return models


def expected_pairs(system: System) -> set[tuple[str, str]]:
    """Source and target tables that a whole run accounts for."""
    pairs = {(source, system.target(model).name) for flow in system.flows for source, model in flow.accounted}
    return pairs | {(table, ARCHIVE) for table in system.legacy_tables if table not in system.migrated_tables}


def current_accounting(
    system: System, figures: Figures, models: Mapping[str, str]
) -> dict[tuple[str, str], Accounting]:
    """The last accounting of what the chosen options load; what other options once loaded is not part of it."""
    expected = expected_pairs(system)
    return {pair: entry for pair, entry in figures.latest().items() if pair in expected}


def table_flows(
    system: System,
    figures: Figures,
    current: Mapping[tuple[str, str], Accounting],
    models: Mapping[str, str],
) -> tuple[TableFlow, ...]:
    flows = []
    for table in system.legacy_tables.values():
        entries = tuple(entry for (source, _), entry in current.items() if source == table.name)
        rows: Counter[tuple[str, str]] = Counter()
        for entry in entries:
            rows["archived" if entry.target_table == ARCHIVE else "migrated", models[entry.target_table]] += (
                entry.migrated
            )
            for group in figures.rejected:
                if (group.source_table, group.target_table) == (table.name, entry.target_table) and not group.partial:
                    rows["rejected", " + ".join(group.reasons)] += group.rows
            for rule, dropped in sorted(entry.dropped.items()):
                rows["dropped", rule] += dropped
        shares = [Share(kind, label, count) for (kind, label), count in rows.items() if count]
        flows.append(TableFlow(table.name, table.area, sum(entry.read for entry in entries), entries, tuple(shares)))
    return tuple(flows)


def coercion_rows(current: Mapping[tuple[str, str], Accounting], models: Mapping[str, str]) -> tuple[CoercionRow, ...]:
    return tuple(
        CoercionRow(source, target, models[target], kind, rows, entry.migrated)
        for (source, target), entry in sorted(current.items())
        for kind, rows in sorted(entry.coerced.items(), key=lambda pair: -pair[1])
    )


# --- lineage ----------------------------------------------------------------------------------------------------------


def lineage_nodes(system: System, history: History) -> dict[str, tuple[Node, ...]]:
    """The assets of each area that are rows, with those of others that they are made from directly."""
    graph = history.graph
    by_area: dict[str, tuple[Node, ...]] = {}
    wanted: Callable[[dg.AssetKey], bool] = lambda key: key.path[1] != "report"  # noqa: E731
    for area in dict.fromkeys(table.area for table in system.legacy_tables.values()):
        own = {key for key in graph.get_all_asset_keys() if graph.get(key).group_name == area and wanted(key)}
        shown = own | {parent for key in own for parent in graph.get(key).parent_keys if wanted(parent)}
        by_area[area] = tuple(lineage_node(system, history, key, shown) for key in sorted(shown))
    return by_area


def lineage_node(system: System, history: History, key: dg.AssetKey, shown: Collection[dg.AssetKey]) -> Node:
    node = history.graph.get(key)
    layer, name = key.path[1:3]
    state = history.assets.get(f"{layer}/{name}")
    return Node(
        key=f"{layer}/{name}",
        layer=layer,
        name=name,
        area=str(node.group_name),
        href=place_of(system, layer, name),
        rows=state.rows if state else None,
        at=state.at if state else None,
        made_here=node.is_materializable,
        parents=tuple(sorted("/".join(parent.path[1:]) for parent in node.parent_keys if parent in shown)),
    )


def place_of(system: System, layer: str, name: str) -> str:
    """Where on the page an asset is described; empty where it is not."""
    if layer in ("legacy", "archive") and name in system.legacy_tables:
        return f"table-{name}"
    if layer in ("prepared", "target") and name in system.mappings.targets:
        return f"book-{name}"
    if layer == "rejected":
        return "rejected"
    if layer == "mapping" and name in system.mappings.value_maps:
        return f"map-{name}"
    return f"decision-{name}" if layer == "decision" else ""


def legacy_page(
    system: System,
    table: LegacyTable,
    current: Mapping[tuple[str, str], Accounting],
    models: Mapping[str, str],
) -> LegacyPage:
    """Where each column of a legacy table goes."""
    _, dropped = accounted_for(system.mappings, table.name)
    goes: dict[str, dict[tuple[str, str], None]] = {name: {} for name in table.columns}
    for model, mapping in sorted(mapped(system)):
        for source_table, source in mapping.sources.items():
            for column, how in source.columns.items():
                for owner, name in origins(source_table, how):
                    if owner == table.name:
                        goes.setdefault(name, {})[model, column] = None
            for how in source.helpers.values():
                for owner, name in origins(source_table, how):
                    if owner == table.name:
                        goes.setdefault(name, {}).setdefault((model, ""), None)
    reason = system.mappings.archived.get(table.name, "")
    columns = tuple(
        (name, tuple(targets), dropped.get(name, "") or ("" if targets else reason or "kept in the archive only"))
        for name, targets in goes.items()
    )
    entries = [entry for (source, _), entry in current.items() if source == table.name]
    return LegacyPage(
        table,
        sum(entry.read for entry in entries) if entries else None,
        tuple(models[entry.target_table] for entry in entries),
        reason,
        columns,
    )


# --- decisions --------------------------------------------------------------------------------------------------------


def decision_rows(
    system: System, current: Mapping[tuple[str, str], Accounting], models: Mapping[str, str]
) -> tuple[DecisionRow, ...]:
    """Each decision, with the rows of the flows and tables that it is about, as the last run read them."""
    actions = {action.id: action for action in system.decisions.actions}
    rows = []
    for decision in system.decisions.entries:
        chosen = system.decisions.chosen.get(decision.key)
        pairs = affected_pairs(system, decision, current, models)
        rows.append(
            DecisionRow(
                decision,
                chosen,
                chosen != decision.chosen,
                actions.get(decision.blocking_action or ""),
                tuple(sorted({source for source, _ in pairs})),
                sum(current[pair].read for pair in pairs),
            )
        )
    return tuple(rows)


def affected_pairs(
    system: System,
    decision: Decision,
    current: Mapping[tuple[str, str], Accounting],
    models: Mapping[str, str],
) -> set[tuple[str, str]]:
    """The flows of what a decision is about.

    Of tables that one option migrates and another does not; else of the models that it affects, and where it leaves
    nothing to choose, of the tables that are declared to be its.
    """
    by_option = [
        {source for flow in system.flows_under(chosen) for source, _ in flow.accounted}
        for chosen in ({**system.decisions.chosen, decision.key: option} for option in decision.options)
    ]
    about = {table for tables in by_option for table in tables}
    about = {table for table in about if not all(table in tables for tables in by_option)}
    if about:
        return {pair for pair in current if pair[0] in about}
    affected = {table for table, model in models.items() if model in decision.affects}
    if not decision.options:
        about = {table.name for table in system.legacy_tables.values() if names(table.decision, decision)}
    return {(source, target) for source, target in current if target in affected or source in about}


def names(text: str, decision: Decision) -> bool:
    """Whether a declaration such as `A8 #1, #7` names the decision."""
    area = ""
    for named_area, number in re.findall(r"A(\d+)|#(\w+)", text):
        area = named_area or area
        if number and area == str(decision.area) and number in re.findall(r"\w+", decision.number):
            return True
    return False


# --- the mapping book -------------------------------------------------------------------------------------------------


def mapped(system: System) -> Iterable[tuple[str, TargetMapping]]:
    return system.mappings.targets.items()


def origins(table: str, column: ColumnMapping) -> list[tuple[str, str]]:
    """Legacy table and column of each part of what a column comes from."""
    parts = (part.rpartition(".") for part in column.from_)
    return [(owner or table, name) for owner, _, name in parts]


def book_page(system: System, history: History, figures: Figures, mapping: TargetMapping) -> BookPage:
    target = system.target(mapping.target)
    flow = system.flow_of(mapping.target)
    key = dg.AssetKey([system.name, "target", mapping.target])
    why = history.graph.get(key).metadata.get("filled", "") if key in history.graph.get_all_asset_keys() else ""
    made = {name for source in mapping.sources.values() for name in source.columns}
    return BookPage(
        model=mapping.target,
        table=target.name,
        area=target.area,
        decision=mapping.decision,
        description=target.description,
        filled=flow is not None,
        why=str(getattr(why, "value", why)),
        sources=tuple(
            BookSource(
                table,
                tuple(
                    (kind, name)
                    for kind, name in (("shape", source.shape), ("expand", source.expand), ("merge", source.merge))
                    if name
                ),
                tuple(
                    BookColumn(
                        column_of(target.columns, name),
                        tuple(origins(table, column)),
                        describe(table, column),
                        tuple(map_name for map_name in maps_of(column) if map_name in system.mappings.value_maps),
                    )
                    for name, column in source.columns.items()
                ),
                tuple((name, describe(table, column)) for name, column in source.helpers.items()),
                source.dropped,
            )
            for table, source in mapping.sources.items()
        ),
        unfilled=tuple(column for column in target.columns if column.name not in made),
        owned=figures.owned.get(target.name) if flow else None,
    )


def column_of(columns: Iterable[TargetColumn], name: str) -> TargetColumn:
    """The declaration of a column; `id` is in none, and stands for the row that is found."""
    found = next((column for column in columns if column.name == name), None)
    return found or TargetColumn(name, "bigint", "The row of another area that is filled.")


def maps_of(column: ColumnMapping) -> list[str]:
    used = [column.value_map] if column.value_map else []
    return list(dict.fromkeys(used + [use.split(".")[0] for use in column.uses]))


def cell_text(value: object) -> str:
    """A cell of a value map as its file says it."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def value_map_pages(system: System) -> tuple[ValueMapPage, ...]:
    used: dict[str, dict[str, None]] = {name: {} for name in system.mappings.value_maps}
    for model, mapping in sorted(mapped(system)):
        for source in mapping.sources.values():
            for column in (*source.columns.values(), *source.helpers.values()):
                for name in maps_of(column):
                    if name in used:
                        used[name][model] = None
    for flow in system.flows:
        for name in flow.mappings:
            if name in used:
                used[name] |= dict.fromkeys(model for model in flow.targets if model in system.mappings.targets)
    return tuple(
        ValueMapPage(
            name,
            tuple(frame.columns),
            tuple(tuple(map(cell_text, row)) for row in frame.iter_rows()),
            tuple(used[name]),
        )
        for name, frame in sorted(system.mappings.value_maps.items())
    )


# --- rejected rows ----------------------------------------------------------------------------------------------------


def rejected_group(system: System, group: RejectedRows, models: Mapping[str, str]) -> RejectedGroup:
    table = system.legacy_tables.get(group.source_table)
    return RejectedGroup(
        group,
        models.get(group.target_table, group.target_table),
        tuple(masked_example(table, kind) for kind in group.kinds),
        tuple(REMEDIES.get(reason, "See the sentence.") for reason in group.reasons),
    )


def masked_example(table: LegacyTable | None, kind: RejectedKind) -> Example:
    """A rejected row as people may see it: of a table nobody declared, and of columns nobody named, just the shape."""
    declared = frozenset(table.columns) if table else frozenset()
    personal = (table.personal if table else frozenset()) | (frozenset(kind.row) - declared)
    told = [name for name in kind.row if re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", kind.detail)]
    key = [name for name in (table.key if table else ()) if name in kind.row]
    chosen = list(dict.fromkeys([*key, *told, *kind.row]))[:COLUMNS_SHOWN]
    values = mask_row({name: kind.row[name] for name in chosen}, personal)
    return Example(
        masked_detail(kind.detail, kind.row, personal), kind.rows, mask_emails(kind.source_key), tuple(values.items())
    )


def masked_detail(detail: str, row: Mapping[str, Any], personal: Collection[str]) -> str:
    """What is wrong with a row, without what a personal column holds: `webhook: not an address: a… (9 characters)`.

    A detail is sentences such as `column: what is wrong`, joined by `; `; of a personal column, what follows a second
    colon is a value of it.
    """
    columns = "|".join(sorted(map(re.escape, row), key=len, reverse=True)) or r"(?!)"
    pieces = re.split(rf"(?:^|; )((?:{columns})(?:, (?:{columns}))*): ", detail)
    told = [mask_emails(pieces[0])] if pieces[0] else []
    for names_, sentence in zip(pieces[1::2], pieces[2::2], strict=True):
        text = sentence
        if set(names_.split(", ")) & set(personal):
            before, colon, value = sentence.partition(": ")
            text = f"{before}: {mask(value)}" if colon else before
            for name in personal:
                if isinstance(held := row.get(name), str) and len(held.strip()) > 1:
                    text = text.replace(held.strip(), mask(held.strip()))
        told.append(f"{names_}: {mask_emails(text)}")
    return "; ".join(told)
