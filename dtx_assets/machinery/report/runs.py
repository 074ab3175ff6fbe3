"""Which runs there were: what the target database remembers of those that loaded, and Dagster of those that did not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dtx_assets.machinery.report.figures import RunFigures, read_runs
from dtx_assets.machinery.report.history import RunHistory


@dataclass(frozen=True)
class ListedRun:
    """A run that loaded, or was to. Rows are those read and rejected, and those written to the target.

    `state` is succeeded, failed, running, killed, refused or rolled back; `refused` says for what, by kind.
    `failed_checks` is None where the history does not have the run any more, and `by` is empty then.
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

    @property
    def ended(self) -> str:
        """How it ended, as people say it."""
        if self.state == "refused":
            return f"refused: {self.refused}"
        if self.state == "succeeded" and self.failed_checks is not None:
            return "all checks passed" if not self.failed_checks else f"{self.failed_checks:,} checks failed"
        return self.state

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
    loaded = read_runs(target_url, history.system.name, limit)
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
        for run in history.failed_early(loaded, limit)
    ]
    return sorted([*_of_target(history, loaded), *early], key=lambda run: run.started_at, reverse=True)[:limit]


def runs_named(history: RunHistory, target_url: str, run_ids: Sequence[str]) -> list[ListedRun]:
    """Some of the runs that loaded, in the order in which they are named."""
    loaded = {run.run_id: run for run in read_runs(target_url, history.system.name, None)}
    return list(_of_target(history, [loaded[run_id] for run_id in run_ids if run_id in loaded]))


def cutovers_upon(history: RunHistory, target_url: str, run_ids: Sequence[str]) -> list[ListedRun]:
    """The cutovers that stand, and that found rows of some runs in the target instead of writing them."""
    loaded = read_runs(target_url, history.system.name, None)
    first = min((run.started_at for run in loaded if run.run_id in run_ids), default=None)
    upon = [
        run
        for run in loaded
        if run.mode == "cutover" and run.status == "succeeded" and run.run_id not in run_ids
        if first is not None and run.started_at > first
    ]
    return list(_of_target(history, upon))


def _of_target(history: RunHistory, loaded: Sequence[RunFigures]) -> Iterator[ListedRun]:
    seconds = history.seconds(loaded)
    for run in loaded:
        refused = history.refused(run.run_id)
        killed = run.status == "running" and history.was_killed(run.run_id)
        yield ListedRun(
            run.run_id,
            run.started_at,
            seconds[run.run_id],
            run.mode,
            history.asked_by(run.run_id),
            "refused" if refused and run.status == "failed" else "killed" if killed else run.status,
            run.read,
            run.rejected,
            run.inserted,
            run.updated,
            run.limited,
            run.demonstration,
            history.failed_checks(run.run_id),
            refused,
        )
