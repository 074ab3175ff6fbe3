"""The section Readiness: go or no-go, who has to do what, the checks by area, the rehearsals, the cutover window."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from dtx_assets.machinery.base.masking import mask_emails
from dtx_assets.machinery.checks.obstacles import KINDS, Obstacle, by_owner, is_go
from dtx_assets.machinery.report.accounts import Accounts
from dtx_assets.machinery.report.figures import RUNS_SHOWN, Figures, Loaded, RunFigures
from dtx_assets.machinery.report.history import Check, History, Phase, RunHistory, SharedStep
from dtx_assets.machinery.report.standing import found_of_others, rows_by_model, stands_still, undone_since
from dtx_assets.machinery.system.system import System

WHOLE_RUNS = 5
"""Of so many whole runs the longest says how long a cutover takes."""
RESERVE = 0.5
"""What is added to it: the share that a first cutover may take longer than any rehearsal."""
RUNS_WITH_CHECKS = 10
STATES = ("failed", "never run", "not finished", "running", "accepted", "warned", "passed")
"""The states of a check, the worst first."""


@dataclass(frozen=True)
class Reason:
    """A reason against a cutover that lies in the runs so far: how many, of what, where on the page to read on."""

    kind: str
    count: int
    text: str
    anchor: str


@dataclass(frozen=True)
class AreaReadiness:
    """An area of the board of checks."""

    group: str
    title: str
    checks: tuple[Check, ...]
    tally: Mapping[str, int]


@dataclass(frozen=True)
class RunRow:
    """A run of the trend. Seconds are of the whole run where Dagster's history has it, else of its loads."""

    run_id: str
    started_at: datetime
    figures: RunFigures | None
    """What it read and wrote; None where it failed before it loaded anything."""
    seconds: float | None
    whole: bool
    failed_checks: int | None
    mode: str = ""
    refused: str = ""
    """What the gate refused it for, by kind."""
    points: int | None = None
    """How many points stood in the way after it."""
    remembered: bool = True
    """Whether the Dagster history has it; else nobody here knows what its checks found."""
    undone: Mapping[str, int] = field(default_factory=dict)
    """How many rows were undone since of those that it stands on, by model."""


@dataclass(frozen=True)
class Window:
    """How long the cutover will need, and what that is concluded from: the longest of so many whole runs."""

    seconds: float
    runs: int
    longest: float
    read: int
    written: int


Outcome = Literal["cut over", "undone in part", "refused", "rolled back", "failed"]


@dataclass(frozen=True)
class Attempt:
    """A cutover that was tried: when, by whom, how it ended, what it wrote."""

    run_id: str
    started_at: datetime
    by: str
    outcome: Outcome
    whole: bool
    refused: str = ""
    inserted: int = 0
    updated: int = 0
    demonstration: bool = False
    """Whether a file stood for the people who had to say something."""
    undone: Mapping[str, int] = field(default_factory=dict)
    """How many rows were undone since of those that it wrote, or found of earlier runs, by model."""
    undone_at: datetime | None = None
    found: Mapping[str, int] = field(default_factory=dict)
    """How many rows that it stands on earlier runs had written, by run, the latest first: its own undo leaves them."""
    restore_point: str = ""
    indexes_after: bool = False
    """Whether it was to make indexes and foreign keys of empty tables after their first load."""


@dataclass(frozen=True)
class Readiness:
    reasons: tuple[Reason, ...]
    todo: tuple[Obstacle, ...]
    """What is in the way and not accepted: the same list as of the gate, the plan and `dtx todo`."""
    areas: tuple[AreaReadiness, ...]
    runs: tuple[RunRow, ...]
    phases: tuple[Phase, ...]
    """Of the last whole run."""
    window: Window | None
    accepted: Mapping[str, str]
    tally: Mapping[str, int]
    attempt: Attempt | None = None
    """The last cutover that was tried."""
    shards: tuple[SharedStep, ...] = ()
    """In which flows were prepared in the last whole run."""

    @property
    def verdict(self) -> str:
        """What the page begins with: before the cutover and after it."""
        if self.attempt and self.attempt.whole and self.attempt.outcome == "cut over":
            return "Cut over"
        if self.attempt and self.attempt.outcome == "undone in part":
            return "Undone in part"
        if not self.go:
            return "No-go"
        return "Go with acceptances" if self.accepted else "Go"

    @property
    def go(self) -> bool:
        return not self.reasons and is_go(self.todo)

    @property
    def by_owner(self) -> dict[str, list[Obstacle]]:
        return by_owner(self.todo)

    @staticmethod
    def by_remedy(found: Iterable[Obstacle]) -> dict[str, list[Obstacle]]:
        """What has one remedy together, in the order of the first of each."""
        remedies: dict[str, list[Obstacle]] = {}
        for obstacle in found:
            remedies.setdefault(obstacle.remedy, []).append(obstacle)
        return remedies

    @property
    def kinds(self) -> list[tuple[str, int, str]]:
        """The kinds of what is in the way: name, how many, and what that many are called."""
        counted = Counter(obstacle.kind for obstacle in self.todo)
        return [
            (kind, counted[kind], one if counted[kind] == 1 else several)
            for kind, (one, several) in KINDS.items()
            if counted[kind]
        ]


def readiness(
    system: System,
    history: History,
    figures: Figures,
    accounts: Accounts,
    obstacles: Sequence[Obstacle],
) -> Readiness:
    """Go where nothing is in the way that was not accepted, and all rows of a whole run are accounted for."""
    accepted = accepted_obstacles(last_run(figures))
    left = [found for found in obstacles if not found.is_accepted(accepted)]
    checks = history.checks(accepted, findings_of_checks(left), remedies_of_checks(left))
    areas = tuple(area_readiness(group, title, checks) for group, title in all_areas(system, checks).items())
    found = Readiness((), tuple(left), areas, (), (), None, accepted, tally(checks))
    return with_runs(found, history, figures, accounts)


def last_run(figures: Figures) -> RunFigures | None:
    """The last one that was not undone."""
    return next((run for run in figures.runs if run.status != "rolled back"), None)


def with_runs(found: Readiness, history: RunHistory, figures: Figures, accounts: Accounts) -> Readiness:
    """The same with the runs as they are now: all that the end of a run changes after its last check."""
    runs = run_rows(history, figures, accounts, {run.run_id: run.failed_checks for run in found.runs})
    whole = [run for run in runs if run.whole]
    steps = history.steps(whole[0].run_id) if whole else ()
    return replace(
        found,
        reasons=tuple(reasons_of_runs(history, last_run(figures), accounts)),
        runs=runs,
        phases=history.phases(steps),
        shards=history.shards(steps),
        window=cutover_window(runs),
        attempt=last_attempt(history, runs, figures.loaded),
    )


def reasons_of_runs(history: RunHistory, last: RunFigures | None, accounts: Accounts) -> list[Reason]:
    """What speaks against a cutover beside what is in the way of one."""
    reasons = []
    if last is None:
        reasons.append(Reason("nothing loaded", 1, "nothing has been loaded yet: rehearse first", "runs"))
    elif last.status not in ("succeeded", "running"):
        reasons.append(Reason("last run", 1, f"the last run {last.status}", "runs"))
    elif last.status == "running" and history.was_killed(last.run_id):
        reasons.append(Reason("last run", 1, "the last run was killed", "runs"))
    missing = sorted(accounts.expected - set(accounts.current))
    if last and missing:
        named = ", ".join(f"{source} → {target}" for source, target in missing[:3])
        reasons.append(Reason("not loaded", len(missing), f"flows that no run has loaded: {named}", "flow"))
    lost = sum(not entry.balances for entry in accounts.current.values())
    if lost:
        reasons.append(Reason("unaccounted", lost, "flows in which rows are unaccounted for", "flow"))
    return reasons


def accepted_obstacles(run: RunFigures | None) -> dict[str, str]:
    """What was accepted in a run, by name, with who accepted it and why, as one text."""

    def told(entry: Any) -> str:
        if isinstance(entry, Mapping):
            at = datetime.fromisoformat(entry["at"]).astimezone(UTC)
            return f"{entry['reason']} ({entry['by']}, {at:%Y-%m-%d %H:%M} UTC)"
        return str(entry) or "accepted"

    return {name: mask_emails(told(entry)) for name, entry in sorted(run.accepted.items() if run else ())}


def findings_of_checks(found: Iterable[Obstacle]) -> dict[str, str]:
    """What each check that is in the way is red for, by its whole name."""
    findings: dict[str, list[str]] = {}
    for obstacle in found:
        for check in obstacle.checks:
            findings.setdefault(check, []).append(obstacle.finding)
    return {check: "; ".join(told) for check, told in findings.items()}


def remedies_of_checks(found: Iterable[Obstacle]) -> dict[str, list[str]]:
    """What mends each check that is in the way, by its whole name."""
    remedies: dict[str, list[str]] = {}
    for obstacle in found:
        for check in obstacle.checks:
            remedies.setdefault(check, []).append(obstacle.remedy)
    return remedies


def all_areas(system: System, checks: Iterable[Check]) -> dict[str, str]:
    """The areas of the system, and what else has checks."""
    others = {check.area: check.area.replace("_", " ").capitalize() for check in checks}
    return {**system.areas, **{group: title for group, title in others.items() if group not in system.areas}}


def area_readiness(group: str, title: str, checks: Iterable[Check]) -> AreaReadiness:
    mine = tuple(sorted((check for check in checks if check.area == group), key=board_order))
    return AreaReadiness(group, title, mine, tally(mine))


def board_order(check: Check) -> tuple[Any, ...]:
    return (check.in_the_way is None, STATES.index(check.state), not check.blocking, check.asset, check.name)


def tally(checks: Iterable[Check]) -> dict[str, int]:
    counts = Counter(check.state for check in checks)
    return {state: counts[state] for state in STATES if counts[state]}


def run_rows(
    history: RunHistory, figures: Figures, accounts: Accounts, failed_checks: Mapping[str, int | None]
) -> tuple[RunRow, ...]:
    """The last runs, the latest first; `failed_checks` are known already of some."""

    def failed(run_id: str) -> int | None:
        return failed_checks[run_id] if run_id in failed_checks else history.failed_checks(run_id)

    seconds = history.seconds(figures.runs)
    points = history.in_the_way_of([run.run_id for run in figures.runs])
    rows = [
        RunRow(
            run.run_id,
            run.started_at,
            run,
            seconds[run.run_id],
            whole=accounts.expected <= set(run.flows) and not run.limited,
            failed_checks=failed(run.run_id) if place < RUNS_WITH_CHECKS else None,
            refused=history.refused(run.run_id),
            points=points.get(run.run_id),
            remembered=history.remembers(run.run_id),
            undone=rows_by_model(undone_since(run, figures.loaded)),
        )
        for place, run in enumerate(figures.runs)
    ]
    rows += [
        RunRow(run.run_id, run.started_at, None, run.seconds, False, None, run.mode, run.refused)
        for run in history.failed_early(figures.runs, RUNS_SHOWN)
    ]
    return tuple(sorted(rows, key=lambda row: row.started_at, reverse=True)[:RUNS_SHOWN])


def last_attempt(history: RunHistory, runs: Iterable[RunRow], loaded: Sequence[Loaded] = ()) -> Attempt | None:
    """The last of the runs that was to cut over; `loaded` is what all runs wrote into which model."""
    for run in runs:
        figures = run.figures
        if (figures.mode if figures else run.mode) != "cutover":
            continue
        undone = undone_since(figures, loaded) if figures else []
        return Attempt(
            run.run_id,
            run.started_at,
            mask_emails(history.asked_by(run.run_id) or (figures.accepted_by if figures else "")),
            outcome_of(run, loaded),
            run.whole,
            run.refused,
            figures.inserted if figures else 0,
            figures.updated if figures else 0,
            bool(figures and figures.demonstration),
            rows_by_model(undone),
            max((each.undone_at for each in undone if each.undone_at), default=None),
            found_of_others(figures, loaded) if figures else {},
            (figures.restore_point or "") if figures else "",
            bool(figures and figures.indexes_after),
        )
    return None


def outcome_of(cutover: RunRow, loaded: Sequence[Loaded]) -> Outcome:
    """How a cutover ended, and whether it stands since."""
    figures = cutover.figures
    if cutover.refused:
        return "refused"
    if figures is None or figures.status not in ("succeeded", "rolled back"):
        return "failed"
    if not stands_still(figures, loaded):
        return "rolled back"
    return "undone in part" if undone_since(figures, loaded) else "cut over"


def cutover_window(runs: Iterable[RunRow]) -> Window | None:
    whole = [(run.seconds, run.figures) for run in runs if run.whole and run.figures and run.seconds is not None]
    if not whole:
        return None
    seconds, figures = max(whole[:WHOLE_RUNS], key=lambda run: run[0])
    return Window(
        seconds * (1 + RESERVE),
        min(len(whole), WHOLE_RUNS),
        seconds,
        figures.read or 0,
        figures.inserted + figures.updated,
    )
