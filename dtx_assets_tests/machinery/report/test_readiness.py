"""What is concluded from the runs, and how the page says what was accepted and what the gate found."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from dtx_assets.machinery.checks.obstacles import Obstacle
from dtx_assets.machinery.report.figures import RunFigures
from dtx_assets.machinery.report.readiness import (
    Attempt,
    Readiness,
    RunRow,
    Window,
    accepted_obstacles,
    cutover_window,
    findings_of_checks,
    last_attempt,
)

AT = datetime(2026, 5, 3, 12, tzinfo=UTC)


def ran(seconds: float | None, *, whole: bool = True, loaded: bool = True, read: int = 0, written: int = 0) -> RunRow:
    figures = RunFigures("r", "rehearsal", "succeeded", AT, AT, {}, read, 0, written, 0, (), limited=False)
    return RunRow("r", AT, figures if loaded else None, seconds, whole, None)


def test_the_window_is_the_longest_of_the_last_five_whole_runs_and_half_of_it():
    runs = [
        ran(900, whole=False),
        ran(900, loaded=False),
        ran(None),
        ran(10, read=7, written=1),
        ran(20, read=8, written=9),
        *(ran(1) for _ in range(3)),
        ran(800),
    ]
    assert cutover_window(runs) == Window(30, 5, 20, 8, 9)


def test_without_a_whole_run_nobody_knows_how_long_a_cutover_takes():
    assert cutover_window([ran(900, whole=False), ran(None)]) is None


def test_what_was_accepted_is_told_with_reason_who_and_when_and_no_address():
    accepted = {
        "b/c:d": {"reason": "agreed with ann.smith@example.org", "by": "ann", "at": "2026-05-03T14:00:30.5+02:00"},
        "a": "",
    }
    run = RunFigures("r", "cutover", "succeeded", AT, AT, accepted, 0, 0, 0, 0, (), limited=False)
    assert list(accepted_obstacles(run).items()) == [
        ("a", "accepted"),
        ("b/c:d", "agreed with a***@e***.org (ann, 2026-05-03 12:00 UTC)"),
    ]
    assert accepted_obstacles(None) == {}


def test_what_a_check_is_red_for_is_told_once_each():
    found = [
        Obstacle("decision", "ids", "A1 #1", "not confirmed: ids", checks=frozenset(["target/A:c", "target/B:c"])),
        Obstacle("decision", "times", "A1 #2", "not confirmed: times", checks=frozenset(["target/A:c"])),
    ]
    assert findings_of_checks(found) == {
        "target/A:c": "not confirmed: ids; not confirmed: times",
        "target/B:c": "not confirmed: ids",
    }


def cutover(status: str, *, whole: bool = True, refused: str = "", loaded: bool = True) -> RunRow:
    figures = RunFigures("c", "cutover", status, AT, AT, {}, 9, 1, 8, 2, (), limited=False)
    return RunRow("c", AT, figures if loaded else None, 1.0, whole, None, "cutover", refused)


BY_ANN = SimpleNamespace(asked_by=lambda run_id: f"ann.smith@example.org {run_id}")


@pytest.mark.parametrize(
    ("row", "outcome", "rows"),
    [
        (cutover("succeeded"), "cut over", (8, 2)),
        (cutover("rolled back"), "rolled back", (8, 2)),
        (cutover("failed"), "failed", (8, 2)),
        (cutover("failed", refused="1 action to do"), "refused", (8, 2)),
        (cutover("", refused="1 action to do", loaded=False), "refused", (0, 0)),
        (cutover("", loaded=False), "failed", (0, 0)),
    ],
)
def test_the_last_cutover_that_was_tried_says_how_it_ended(row, outcome, rows):
    found = last_attempt(BY_ANN, [ran(1), row, cutover("succeeded")])
    assert (found.outcome, found.inserted, found.updated) == (outcome, *rows)
    assert (found.by, found.refused) == ("a***@e***.org c", row.refused)
    assert last_attempt(BY_ANN, [ran(1), ran(2)]) is None


def standing(attempt: Attempt | None, *found: Obstacle, **accepted: str) -> str:
    return Readiness((), found, (), (), (), None, accepted, {}, attempt).verdict


def test_the_page_knows_the_time():
    """Before a cutover whether it may be, with what is accepted; after it that it was; after its undo as before."""
    to_do, asked = Obstacle("action", "to do", "A1", "not done"), Obstacle("question", "asked", "A1", "is it so?")
    done, undone, part = (
        last_attempt(BY_ANN, [row])
        for row in (cutover("succeeded"), cutover("rolled back"), cutover("succeeded", whole=False))
    )
    assert standing(None, to_do) == standing(undone, to_do) == standing(part, to_do) == "No-go"
    assert standing(None) == standing(None, asked) == standing(undone) == "Go"
    assert standing(None, asked, a_check="agreed") == "Go with acceptances"
    assert standing(done) == standing(done, to_do) == "Cut over"


def test_what_has_one_remedy_stands_together():
    found = [
        Obstacle("decision", "a", "", "", remedy="confirm it"),
        Obstacle("action", "b", "", "", remedy="do it"),
        Obstacle("decision", "c", "", "", remedy="confirm it"),
    ]
    told = {remedy: [each.name for each in same] for remedy, same in Readiness.by_remedy(found).items()}
    assert list(told.items()) == [("confirm it", ["a", "c"]), ("do it", ["b"])]
