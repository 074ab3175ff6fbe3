"""The section Readiness: go or no-go with the reasons, the checks by area, the rehearsals, the cutover window."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dtx_assets.machinery.gate import RESTORE_POINT, Obstacle
from dtx_assets.machinery.masking import mask_emails
from dtx_assets.machinery.report.accounts import Accounts
from dtx_assets.machinery.report.figures import Accounting, Figures, RunFigures
from dtx_assets.machinery.report.history import Check, History, Phase
from dtx_assets.machinery.system import System

WHOLE_RUNS = 5
"""Of so many whole runs the longest says how long a cutover takes."""
RESERVE = 0.5
"""What is added to it: the share that a first cutover may take longer than any rehearsal."""
RUNS_WITH_CHECKS = 10
STATES = ("failed", "never run", "not finished", "running", "accepted", "warned", "passed")
"""The states of a check, the worst first."""


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


def readiness(
    system: System,
    history: History,
    figures: Figures,
    accounts: Accounts,
    obstacles: Sequence[Obstacle],
) -> Readiness:
    """Go where nothing is in the way that was not accepted, and all rows of a whole run are accounted for."""
    last = next((run for run in figures.runs if run.status != "rolled back"), None)
    accepted = accepted_obstacles(last)
    asked = {RESTORE_POINT, *(question.name for question in system.questions)}
    left = [found for found in obstacles if not found.is_accepted(accepted)]
    checks = history.checks(accepted, {found.name for found in left})
    runs = run_rows(history, figures, accounts)
    reasons = []
    if last is None:
        reasons.append(Reason(1, "nothing has been loaded yet: rehearse first", "runs"))
    elif last.status not in ("succeeded", "running"):
        reasons.append(Reason(1, f"the last run {last.status}", "runs"))
    missing = sorted(accounts.expected - set(accounts.current))
    if last and missing:
        named = ", ".join(f"{source} → {target}" for source, target in missing[:3])
        reasons.append(Reason(len(missing), f"flows that no run has loaded: {named}", "flow"))
    lost = sum(not entry.balances for entry in accounts.current.values())
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


def board_order(check: Check) -> tuple[Any, ...]:
    return (not check.stands_in_the_way, STATES.index(check.state), not check.blocking, check.asset, check.name)


def tally(checks: Iterable[Check]) -> dict[str, int]:
    counts = Counter(check.state for check in checks)
    return {state: counts[state] for state in STATES if counts[state]}


def run_rows(history: History, figures: Figures, accounts: Accounts) -> tuple[RunRow, ...]:
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
                whole=accounts.expected <= {(entry.source_table, entry.target_table) for entry in entries},
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
