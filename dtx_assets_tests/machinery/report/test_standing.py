"""What a cutover stands on: one reading for the page, for the list of runs, and for what an undo warns of before."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from dtx_assets.machinery.report import runs
from dtx_assets.machinery.report.figures import Loaded, RunFigures
from dtx_assets.machinery.report.readiness import Readiness, RunRow, last_attempt
from dtx_assets.machinery.report.runs import cutovers_upon, listed_runs
from dtx_assets.machinery.report.standing import rows_by_model, undone_since

AT = datetime(2026, 5, 3, 12, tzinfo=UTC)
BEFORE, AFTER, LATER = (AT + timedelta(hours=hours) for hours in (-1, 1, 2))
HISTORY = SimpleNamespace(
    system=SimpleNamespace(name="zoo"),
    asked_by=lambda run_id: "ann",
    seconds=lambda found: {run.run_id: 1.0 for run in found},
    refused=lambda run_id: "",
    was_killed=lambda run_id: False,
    failed_checks=lambda run_id: 0,
    failed_early=lambda found, limit: [],
)


def figures(run_id: str, mode: str, started_at: datetime, status: str = "succeeded") -> RunFigures:
    return RunFigures(run_id, mode, status, started_at, started_at, {}, 9, 1, 8, 2, (), limited=False)


REHEARSAL, CUTOVER = figures("r", "rehearsal", BEFORE), figures("c", "cutover", AT)
FOUND = Loaded("c", AT, "Animal", 0)
"""A cutover that loaded the model, and wrote nothing: its rows were there."""


def outcome(loaded: list[Loaded]) -> tuple[str, dict[str, int]]:
    attempt = last_attempt(HISTORY, [RunRow("c", AT, CUTOVER, 1.0, True, 0)], loaded)
    verdict = Readiness((), (), (), (), (), None, {}, {}, attempt).verdict
    assert verdict == {"cut over": "Cut over", "undone in part": "Undone in part", "rolled back": "Go"}[attempt.outcome]
    return attempt.outcome, dict(attempt.undone)


def warned_of(monkeypatch, loaded: list[Loaded], undoing: list[str], models: list[str] | None = None) -> bool:
    monkeypatch.setattr(runs, "read_runs", lambda *_: ((CUTOVER, REHEARSAL), tuple(loaded)))
    return [run.run_id for run in cutovers_upon(HISTORY, "", undoing, models)] == ["c"]


@pytest.mark.parametrize(
    ("written", "undone_at", "after_the_undo"),
    [
        ([Loaded("r", BEFORE, "Animal", 5), FOUND], AFTER, "rolled back"),
        ([Loaded("r", BEFORE, "Animal", 5), FOUND], BEFORE, None),
        ([Loaded("r", BEFORE, "Animal", 0), FOUND], AFTER, None),
        ([Loaded("r", AFTER, "Animal", 5), FOUND], LATER, None),
        ([Loaded("r", BEFORE, "Keeper", 5), FOUND], AFTER, None),
        ([Loaded("r", BEFORE, "Animal", 5), Loaded("c", AT, "Animal", 3)], AFTER, "undone in part"),
        ([Loaded("r", BEFORE, "Animal", 5), FOUND, Loaded("c", AT, "Keeper", 3)], AFTER, "undone in part"),
    ],
    ids=["found", "undone before it", "wrote nothing", "ran after it", "of another model", "both wrote", "of a part"],
)
def test_what_an_undo_of_an_earlier_run_makes_of_a_cutover_is_what_was_warned_of(
    monkeypatch, written, undone_at, after_the_undo
):
    """`dtx rollback last` names the last run that wrote: where a cutover found all rows there, that is a rehearsal."""
    first, *others = written
    undone = Loaded(first.run_id, first.started_at, first.model, first.rows, first.rows, undone_at)
    told, rows = outcome([undone, *others])
    assert told == (after_the_undo or "cut over")
    assert rows == ({} if after_the_undo is None else {"Animal": 5})
    if undone_at != BEFORE:
        assert warned_of(monkeypatch, written, ["r"]) is (after_the_undo is not None)
    assert not warned_of(monkeypatch, [undone, *others], ["r"]), "what is undone is not undone again"


def test_a_phase_of_a_cutover_that_was_undone_is_told_and_one_of_a_rehearsal_is_warned_of_before(monkeypatch):
    written = [Loaded("c", AT, "Animal", 3), Loaded("r", BEFORE, "Keeper", 4), Loaded("c", AT, "Keeper", 0)]
    assert outcome(written) == ("cut over", {})
    assert last_attempt(HISTORY, [RunRow("c", AT, CUTOVER, 1.0, True, 0)], written).found == {"r": 4}
    assert outcome([Loaded("c", AT, "Animal", 3, 3, AFTER), *written[1:]]) == ("undone in part", {"Animal": 3})
    assert warned_of(monkeypatch, written, ["r"], ["Keeper"])
    assert not warned_of(monkeypatch, written, ["r"], ["Animal"])
    assert not warned_of(monkeypatch, written, ["r", "c"]), "it is undone itself"
    every = [Loaded(each.run_id, each.started_at, each.model, each.rows, each.rows, AFTER) for each in written]
    assert outcome(every)[0] == "rolled back"


def test_the_list_of_runs_tells_what_was_undone_since_and_what_no_history_here_knows(monkeypatch):
    loaded = (Loaded("r", BEFORE, "Animal", 5, 5, AFTER), Loaded("r", BEFORE, "Keeper", 2), FOUND)
    accepted = RunFigures("c", "cutover", "succeeded", AT, AT, {"a": {"by": "bob"}}, 9, 1, 0, 0, (), limited=False)
    going_on = figures("g", "rehearsal", AFTER, "running")
    monkeypatch.setattr(runs, "read_runs", lambda *_: ((going_on, accepted, REHEARSAL), loaded))
    here = {run.run_id: run.ended for run in listed_runs(HISTORY, "", 5)}
    since = "rows undone since: Animal (5)"
    assert here == {"g": "running", "c": f"all checks passed; {since}", "r": f"all checks passed; {since}"}
    assert rows_by_model(undone_since(accepted, loaded)) == {"Animal": 5}
    elsewhere = SimpleNamespace(**{**vars(HISTORY), "asked_by": lambda _: "", "failed_checks": lambda _: None})
    told = {run.run_id: (run.by, run.ended) for run in listed_runs(elsewhere, "", 5)}
    loaded_there = f"loaded; another Dagster history knows what its checks found; {since}"
    assert told == {
        "g": ("", "running, or killed: another Dagster history knows which"),
        "c": ("bob", loaded_there),
        "r": ("", loaded_there),
    }
