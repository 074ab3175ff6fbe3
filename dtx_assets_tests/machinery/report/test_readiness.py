"""What is concluded from the runs, and how the page says what was accepted and what the gate found."""

from datetime import UTC, datetime

from dtx_assets.machinery.checks.obstacles import Obstacle
from dtx_assets.machinery.report.figures import RunFigures
from dtx_assets.machinery.report.readiness import RunRow, Window, accepted_obstacles, cutover_window, findings_of_checks

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
