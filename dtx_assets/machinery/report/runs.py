"""Which runs there were: what the target database remembers of those that loaded, and Dagster of those that did not."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dtx_assets.machinery.report.figures import Loaded, RunFigures, read_runs
from dtx_assets.machinery.report.history import RunHistory
from dtx_assets.machinery.report.standing import rows_by_model, stands_still, undone_since, would_lose

ELSEWHERE = "another Dagster history knows what its checks found"


@dataclass(frozen=True)
class ListedRun:
    """A run that loaded, or was to. Rows are those read and rejected, and those written to the target.

    `state` is succeeded, failed, running, killed, refused or rolled back; `refused` says for what, by kind.
    `failed_checks` is None where the history does not have the run: what is known of it then is the bookkeeping's, and
    `by` is who accepted something for it, else empty. `undone` are the rows, by model, that were undone since of those
    that it stands on: of a cutover also those that earlier runs had written. `restore_point` is where the target could
    be put back to when it began; with `indexes_after` it made indexes of empty tables after their first load.
    """

    run_id: str
    started_at: datetime
    seconds: float | None
    mode: str
    by: str
    state: str
    read: int | None = None
    rejected: int | None = None
    inserted: int = 0
    updated: int = 0
    limited: bool = False
    demonstration: bool = False
    failed_checks: int | None = None
    refused: str = ""
    undone: Mapping[str, int] = field(default_factory=dict)
    restore_point: str | None = None
    indexes_after: bool = False

    @property
    def ended(self) -> str:
        """How it ended, as people say it."""
        if self.state == "refused":
            return f"refused: {self.refused}"
        if self.state == "running" and self.failed_checks is None:
            return "running, or killed: another Dagster history knows which"
        if self.state != "succeeded":
            return self.state
        if self.failed_checks is None:
            told = f"loaded; {ELSEWHERE}"
        else:
            told = "all checks passed" if not self.failed_checks else f"{self.failed_checks:,} checks failed"
        undone = ", ".join(f"{model} ({rows:,})" for model, rows in self.undone.items())
        return f"{told}; rows undone since: {undone}" if undone else told

    @property
    def what(self) -> str:
        """`cutover`, or `cutover of a demonstration`."""
        return f"{self.mode or 'run'}{' of a demonstration' if self.demonstration else ''}"

    @property
    def told(self) -> str:
        """`2026-11-29 14:02 UTC, cutover by anna, 3,021 rows inserted and 0 updated`."""
        by = f" by {self.by}" if self.by else ""
        written = f"{self.inserted:,} rows inserted and {self.updated:,} updated"
        return f"{self.started_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, {self.what}{by}, {written}"


def listed_runs(history: RunHistory, target_url: str, limit: int) -> list[ListedRun]:
    """The last runs, the latest first: those that loaded, and those that failed or were refused before."""
    runs, loaded = read_runs(target_url, history.system.name, limit)
    early = [
        ListedRun(
            run.run_id,
            run.started_at,
            run.seconds,
            run.mode,
            history.asked_by(run.run_id),
            "refused" if run.refused else "failed",
            refused=run.refused,
        )
        for run in history.failed_early(runs, limit)
    ]
    return sorted([*_of_target(history, runs, loaded), *early], key=lambda run: run.started_at, reverse=True)[:limit]


def runs_named(history: RunHistory, target_url: str, run_ids: Sequence[str]) -> list[ListedRun]:
    """Some of the runs that loaded, in the order in which they are named."""
    runs, loaded = read_runs(target_url, history.system.name, None)
    named = {run.run_id: run for run in runs}
    return list(_of_target(history, [named[run_id] for run_id in run_ids if run_id in named], loaded))


def cutovers_upon(
    history: RunHistory, target_url: str, run_ids: Sequence[str], models: Collection[str] | None = None
) -> list[ListedRun]:
    """The cutovers that stand on rows of some runs, of some models alone, which they found in the target."""
    runs, loaded = read_runs(target_url, history.system.name, None)
    upon = [
        run
        for run in runs
        if run.mode == "cutover" and run.status == "succeeded" and stands_still(run, loaded)
        if would_lose(run, loaded, run_ids, models)
    ]
    return list(_of_target(history, upon, loaded))


def _of_target(history: RunHistory, runs: Sequence[RunFigures], loaded: Sequence[Loaded]) -> Iterator[ListedRun]:
    seconds = history.seconds(runs)
    for run in runs:
        refused = history.refused(run.run_id)
        killed = run.status == "running" and history.was_killed(run.run_id)
        yield ListedRun(
            run.run_id,
            run.started_at,
            seconds[run.run_id],
            run.mode,
            history.asked_by(run.run_id) or run.accepted_by,
            "refused" if refused and run.status == "failed" else "killed" if killed else run.status,
            run.read,
            run.rejected,
            run.inserted,
            run.updated,
            run.limited,
            run.demonstration,
            history.failed_checks(run.run_id),
            refused,
            rows_by_model(undone_since(run, loaded)),
            run.restore_point,
            run.indexes_after,
        )
