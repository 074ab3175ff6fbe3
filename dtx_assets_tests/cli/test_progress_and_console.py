"""What a terminal shows of a run: plain lines where nobody watches, speed and time left, a summary with findings."""

import io
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from rich.console import Console

from dtx_assets.cli.console import RunDisplay, print_error, print_states, step_title
from dtx_assets.cli.endings import print_summary, print_verdict
from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.base.progress import StepProgress, duration_text, listening, progress_text
from dtx_assets.machinery.checks.obstacles import Obstacle
from dtx_assets.machinery.dagster.run import AssetState, CheckResult, CheckState, RunOutcome, StepFailure


def plain_console() -> Console:
    return Console(file=io.StringIO(), width=140, force_terminal=False)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("done", "total", "seconds", "shown"),
    [
        (0, 100, 0.0, "0 of 100 rows"),
        (50_000, 200_000, 10.0, "50,000 of 200,000 rows, 5,000 rows/s, 30 s left"),
        (200_000, 200_000, 10.0, "200,000 of 200,000 rows, 20,000 rows/s"),
        (1_234, None, 2.0, "1,234 rows, 617 rows/s"),
    ],
)
def test_progress_says_rows_speed_and_time_left(done, total, seconds, shown):
    assert progress_text(done, total, seconds) == shown


def test_progress_says_how_many_rows_are_rejected_and_their_share():
    assert progress_text(4_000, 8_000, 2.0, rejected=10) == (
        "4,000 of 8,000 rows, 10 rejected (0.25 %), 2,000 rows/s, 2.0 s left"
    )


def test_progress_of_files_says_their_bytes_too():
    assert progress_text(30, 120, 10.0, 25_000_000) == "30 of 120 files, 3 files/s, 2 MB/s, 30 s left"
    assert progress_text(30, None, 10.0, 0) == "30 files, 3 files/s, 0 MB/s"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.44, "0.4 s"), (42, "42 s"), (59.9, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds, shown):
    assert duration_text(seconds) == shown


def test_without_a_listener_a_line_goes_to_the_log_every_ten_seconds():
    now = [0.0]
    lines: list[str] = []
    progress = StepProgress("load X", lines.append, clock=lambda: now[0])
    for second in range(25):
        now[0] = float(second)
        progress(second * 100, 10_000)
    assert lines == [
        "load X: 1,000 of 10,000 rows, 100 rows/s, 1 min 30 s left",
        "load X: 2,000 of 10,000 rows, 100 rows/s, 1 min 20 s left",
    ]


def test_a_listener_hears_every_step_and_the_log_nothing():
    heard, lines = [], []
    listener = SimpleNamespace(advanced=lambda *told: heard.append(told))
    with listening(listener):
        StepProgress("load X", lines.append, clock=lambda: 1e9)(5, 10)
        StepProgress("send files of X", lines.append, clock=lambda: 1e9)(5, None, 4096)
    assert heard == [("load X", 5, 10, None), ("send files of X", 5, None, 4096)]
    assert lines == []


def event(step: str, kind: str) -> SimpleNamespace:
    kinds = ("is_step_start", "is_step_success", "is_step_failure", "is_step_skipped")
    return SimpleNamespace(step_key=step, **{name: name == kind for name in kinds})


def test_plain_lines_count_the_steps_and_name_what_failed_and_was_skipped():
    console = plain_console()
    with RunDisplay(console, "dtx", ["dtx_extraction", "dtx_prepare_exemption", "dtx_load_ManualOverride"]) as display:
        for kind in ("is_step_start", "is_step_success"):
            display(event("dtx_extraction", kind))
        display.advanced("prepare exemption", 10, 20)
        display(event("dtx_prepare_exemption", "is_step_start"))
        display(event("dtx_prepare_exemption", "is_step_failure"))
        display(event("dtx_load_ManualOverride", "is_step_skipped"))
    assert text_of(console).splitlines() == [
        "[1/3] extraction: 0.0 s",
        "[2/3] prepare exemption: failed",
        "[3/3] load ManualOverride: skipped",
    ]


def lines_of_two_steps(before: dict[str, float]) -> list[str]:
    """The lines of a run of `a` and `b`, then `c`, each of 10 s; `b` ends before `a` does."""
    console, now = plain_console(), [0.0]
    with RunDisplay(console, "dtx", ["dtx_a", "dtx_b", "dtx_c"], before, clock=lambda: now[0]) as display:
        display(event("dtx_a", "is_step_start"))
        display(event("dtx_b", "is_step_start"))
        for step in ("dtx_b", "dtx_a"):
            now[0] += 10
            display(event(step, "is_step_success"))
        display(event("dtx_c", "is_step_start"))
        now[0] += 10
        display(event("dtx_c", "is_step_success"))
    return text_of(console).splitlines()


def test_what_is_left_is_what_the_steps_ahead_took_the_last_time():
    assert lines_of_two_steps({"dtx_a": 30.0, "dtx_b": 1.0, "dtx_c": 80.0}) == [
        "[1/3] b: 10 s, about 1 min 40 s left",
        "[2/3] a: 20 s, about 1 min 20 s left",
        "[3/3] c: 10 s",
    ]
    # What takes longer than the last time has nothing left, not less.
    assert lines_of_two_steps({"dtx_a": 2.0, "dtx_b": 1.0, "dtx_c": 4.4})[0] == "[1/3] b: 10 s, about 4 s left"


def test_nothing_is_said_to_be_left_where_a_step_was_never_run():
    assert lines_of_two_steps({"dtx_a": 30.0, "dtx_b": 1.0}) == ["[1/3] b: 10 s", "[2/3] a: 20 s", "[3/3] c: 10 s"]
    assert lines_of_two_steps({}) == lines_of_two_steps({"other_a": 1.0})


def test_the_clock_of_a_step_is_its_own():
    now = [0.0]
    display = RunDisplay(plain_console(), "dtx", ["dtx_a", "dtx_b"], clock=lambda: now[0])
    display(event("dtx_a", "is_step_start"))
    now[0] = 60.0
    display(event("dtx_a", "is_step_success"))
    display(event("dtx_b", "is_step_start"))
    now[0] = 65.0
    [whole, step] = display._progress.tasks
    assert (whole.elapsed, step.elapsed) == (65.0, 5.0)


def test_a_terminal_gets_a_live_display():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with RunDisplay(console, "dtx", ["dtx_load_X", "dtx_load_Y"]) as display:
        display(event("dtx_load_X", "is_step_start"))
        display.advanced("load X", 500, 1000)
        display._progress.refresh()
    assert "load X" in text_of(console)
    assert "500 of 1,000 rows" in text_of(console)


def test_step_titles():
    assert step_title("dtx_check_legacy_notification_webhook", "dtx") == "check legacy_notification_webhook"
    assert step_title("dtx_prepare_repo_file.shard[2_of_3]", "dtx") == "prepare repo_file, shard 2 of 3"
    assert step_title("dtx_prepare_repo_file.finish", "dtx") == "prepare repo_file, finish"


def test_shards_are_counted_when_they_start():
    console = plain_console()
    with RunDisplay(console, "dtx", ["dtx_prepare_x.plan", "dtx_prepare_x.finish"]) as display:
        for step in ("plan", "shard[1_of_2]", "shard[2_of_2]", "finish"):
            display(event(f"dtx_prepare_x.{step}", "is_step_start"))
            display(event(f"dtx_prepare_x.{step}", "is_step_success"))
    assert text_of(console).splitlines() == [
        "[1/2] prepare x, plan: 0.0 s",
        "[2/3] prepare x, shard 1 of 2: 0.0 s",
        "[3/4] prepare x, shard 2 of 2: 0.0 s",
        "[4/4] prepare x, finish: 0.0 s",
    ]


def test_the_summary_has_rows_findings_failures_and_where_to_look():
    console = plain_console()
    outcome = RunOutcome("0123abcd-1", succeeded=False, seconds=61.0)
    outcome.accounting = [
        {
            "source_table": "letter",
            "target_table": "t_x",
            "read": 1005,
            "migrated": 900,
            "rejected": 100,
            "dropped": {"a": 3, "b": 2},
        }
    ]
    outcome.loads = {"EmailTemplate": {"inserted": 900, "updated": 0, "unchanged": 1}}
    outcome.checks = [
        CheckResult("legacy/letter", "macros_are_confirmed", passed=False, severity="ERROR", count=14),
        CheckResult("legacy/letter", "no_literal_braces", passed=False, severity="WARN", count=2),
        CheckResult("legacy/letter", "row_count", passed=True, severity="ERROR"),
    ]
    outcome.failures = [StepFailure("dtx_run_report", "1 table could not be extracted: keyword [sic]")]
    outcome.not_run = ["dtx_load_X", "dtx_check_target_X"]
    outcome.seconds_of = {
        "dtx_check_target_Y": 90.0,
        **{
            f"dtx_load_{name}": seconds for name, seconds in zip("ABCDEF", (1.0, 62.0, 3.0, 0.5, 2.0, 4.0), strict=True)
        },
    }
    print_summary(console, "dtx", outcome, {"Lake": "/somewhere/lake"})
    text = text_of(console)
    row = next(line for line in text.splitlines() if "t_x" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["letter", "t_x", "1,005", "900", "100", "5"]
    finding = next(line for line in text.splitlines() if "macros_are_confirmed" in line)
    assert [cell.strip() for cell in finding.strip("│").split("│")] == [
        "macros_are_confirmed",
        "legacy/letter",
        "14",
        "ERROR",
    ]
    assert "Checks: 1 passed, 1 failed, 1 warned." in text
    assert "keyword [sic]" in text
    assert "FAILED run report\n" in text
    assert "Not done because of that: load X, the checks of 1 assets\n" in text
    assert "Slowest: load B 1 min 02 s, load F 4.0 s, load C 3.0 s, load E 2.0 s, load A 1.0 s\n" in text
    assert "Lake: /somewhere/lake" in text
    assert "Run 0123abcd-1 FAILED after 1 min 01 s." in text


def test_the_summary_in_short_has_no_list_that_another_command_shows():
    console = plain_console()
    outcome = RunOutcome("0123abcd-1", succeeded=False, seconds=61.0)
    outcome.loads = {
        "EmailTemplate": {"inserted": 900, "updated": 0, "unchanged": 1, "conflicts": 2},
        "Document": {"inserted": 100, "updated": 3},
    }
    outcome.checks = [CheckResult("legacy/letter", "macros_are_confirmed", passed=False, severity="ERROR", count=14)]
    refusal = "the cutover is refused, 7 thing(s) are in its way:\n{}\n  found before:\n    one: alone\n  do: mend them"
    listed = "\n".join(f"    obstacle_{number}: found" for number in range(7))
    outcome.failures = [StepFailure("dtx_run", refusal.format(listed))]
    print_summary(console, "dtx", outcome, {"Cutover page": "/somewhere"}, whole=False)
    assert text_of(console).splitlines() == [
        "Checks: 0 passed, 1 failed (macros_are_confirmed), 0 warned. `dtx status --failed` lists them.",
        "FAILED run",
        "the cutover is refused, 7 thing(s) are in its way.",
        "  found before:",
        "    one: alone",
        "  do: mend them",
        "Rows of 2 target tables: 1,000 inserted, 3 updated, 1 unchanged, 2 in conflict.",
        "Cutover page: /somewhere",
        "Run 0123abcd-1 FAILED after 1 min 01 s.",
    ]


@pytest.mark.parametrize("whole", [False, True])
def test_tables_without_a_row_are_counted_alone_unless_all_is_asked_for(whole):
    console = plain_console()
    outcome = RunOutcome("0123abcd-1", succeeded=True, seconds=61.0)
    outcome.accounting = [
        {
            "source_table": table,
            "target_table": f"t_{table}",
            "read": read,
            "migrated": read,
            "rejected": 0,
            "dropped": {},
        }
        for table, read in (("hosts", 3), ("alerts", 0), ("events", 0))
    ]
    print_summary(console, "dtx", outcome, {}, whole=whole)
    said = text_of(console)
    assert "t_hosts" in said
    assert ("t_alerts" in said, "2 more tables without a row." in said) == (whole, not whole)


def test_states_say_never_where_nothing_ran():
    console = plain_console()
    print_states(console, [AssetState("legacy/letter")], [CheckState("legacy/letter", "row_count", "never run")])
    assert "never" in text_of(console)
    assert "row_count" in text_of(console)


def test_errors_say_what_where_and_what_to_do_as_they_are():
    console = plain_console()
    print_error(console, SourceError("no [table] letter", where="letter.csv, line 3", remedy="export it again"))
    assert text_of(console) == "error: no [table] letter\n  at: letter.csv, line 3\n  do: export it again\n"


def test_the_verdict_is_that_of_the_page_where_the_runs_so_far_speak_against_a_cutover():
    asked = Obstacle("question", "restore_point", "asked at the cutover", "none is named", remedy="name one")
    open_one = Obstacle("decision", "envelope", "A1 #1", "not confirmed: envelope")

    def told(*found: Obstacle, reasons: Sequence[str] = ()) -> list[str]:
        console = plain_console()
        print_verdict(console, found, cut_over=False, system="dtx", reasons=reasons)
        first, *_, last = text_of(console).splitlines()
        return [first, last]

    assert told() == [
        "Go: nothing is in the way of a cutover.",
        "Next: `dtx report` writes the page for who has to know.",
    ]
    failed = ["the last run failed"]
    assert told(reasons=failed) == ["No-go: the last run failed.", "Next: `dtx run` rehearses."]
    assert told(asked)[0].startswith("Go: nothing is in the way but what the cutover itself asks")
    assert told(asked, reasons=failed) == ["No-go: the last run failed.", "Next: `dtx run` rehearses."]
    assert told(asked, open_one, reasons=failed) == [
        "No-go: 2 in the way of a cutover (1 decision to confirm, 1 question to answer); besides, the last run failed.",
        "Next: `dtx todo` lists all of it by owner.",
    ]


@pytest.mark.parametrize(
    ("counts", "wrote"),
    [
        ({"inserted": 1}, True),
        ({"inserted": 0, "updated": 2}, True),
        ({"adopted": 3}, True),
        ({"files sent": 1}, True),
        ({"unchanged": 9, "status": "succeeded"}, False),
    ],
)
def test_a_run_that_found_all_rows_there_has_nothing_to_undo_and_its_cutover_says_so(counts, wrote):
    outcome = RunOutcome("r", succeeded=True, seconds=1, loads={"Animal": {"unchanged": 1}, "Keeper": counts})
    assert outcome.wrote is wrote
    console = plain_console()
    print_verdict(console, [], cut_over=True, undone_by="dtx rollback r" if outcome.wrote else None)
    said = text_of(console)
    assert ("`dtx rollback r` undoes this run" in said, "Cut over. It wrote nothing" in said) == (wrote, not wrote)
