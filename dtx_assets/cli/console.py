"""What a command shows on the terminal: the progress of a run, its summary, tables of states, errors.

Nothing here runs anything or imports Dagster.
"""

import csv
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from dtx_assets.machinery.base.errors import MigrationError
from dtx_assets.machinery.base.progress import SECONDS_BETWEEN_LINES, duration_text, progress_text

if TYPE_CHECKING:
    from dtx_assets.cli.retention import Stale
    from dtx_assets.machinery.archive.query import Answer
    from dtx_assets.machinery.base.lake import Manifest
    from dtx_assets.machinery.checks.obstacles import Obstacle
    from dtx_assets.machinery.dagster.run import AssetState, CheckResult, CheckState, RunOutcome
    from dtx_assets.machinery.report.runs import ListedRun
    from dtx_assets.machinery.run.preflight.finding import Finding
    from dtx_assets.machinery.run.rejected_log import RejectedEntry
    from dtx_assets.machinery.run.rejected_owners import RejectedKind
    from dtx_assets.machinery.sources.generic_keys import GenericKeys

SHOWN_CHECKS = 60
SHOWN_ALONE = 3
"""Of so many assets a check that failed is listed by each."""
SHOWN_ROWS = 200
SHOWN_FAULTS = 10
SLOWEST = 5
FIRST_OBSTACLES = 5
NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?%?", re.IGNORECASE | re.ASCII)
FORMULA = re.compile(r"^(?=[\t\r\n])|(?:^|[;\t\r\n])(?=[\s\0-\x1f\ufeff\u200b-\u200f\u2060]*[=+@＝＋－＠-])")
"""The places of a text after which a spreadsheet may see the start of a formula."""


def step_title(step: str, system: str) -> str:
    """`dtx_prepare_exemption` → `prepare exemption`."""
    return step.removeprefix(f"{system}_").replace("__", "/").replace("_", " ", 1)


class RunDisplay:
    """Steps done of steps in all, the current one, and rows, speed and time left where a step tells them.

    A live display on a terminal; else a line for each finished step and every ten seconds of a long one. Call it with
    Dagster's events, and let it listen to `progress`.
    """

    def __init__(self, console: Console, system: str, steps: int) -> None:
        self.console, self.system, self.steps = console, system, steps
        self.done = self.failed = 0
        self._live = console.is_terminal
        self._started: dict[str, float] = {}
        self._rows: tuple[str, float, float] = ("", 0.0, 0.0)
        self._lock = threading.Lock()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not self._live,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._all: TaskID = self._progress.add_task("all steps", total=steps, detail=f"0 of {steps}")
        self._current: TaskID = self._progress.add_task("", total=None, detail="", visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Any) -> None:
        with self._lock:
            if event.is_step_start:
                self._started[event.step_key] = time.monotonic()
                self._progress.update(
                    self._current,
                    description=step_title(event.step_key, self.system),
                    total=None,
                    completed=0,
                    detail="",
                    visible=True,
                )
            elif event.is_step_success or event.is_step_failure or event.is_step_skipped:
                self._finish(event)

    def _finish(self, event: Any) -> None:
        self.done += 1
        self.failed += event.is_step_failure
        detail = f"{self.done} of {self.steps}" + (f", {self.failed} failed" if self.failed else "")
        self._progress.update(self._all, completed=self.done, detail=detail)
        self._progress.update(self._current, visible=False)
        title = step_title(event.step_key, self.system)
        took = duration_text(time.monotonic() - self._started.get(event.step_key, time.monotonic()))
        state = "failed" if event.is_step_failure else "skipped" if event.is_step_skipped else took
        if not self._live or state == "failed":
            self.console.print(Text(f"[{self.done}/{self.steps}] {title}: {state}"), soft_wrap=True)

    def advanced(
        self, what: str, done: int, total: int | None, size: int | None = None, rejected: int | None = None
    ) -> None:
        with self._lock:
            now = time.monotonic()
            if self._rows[0] != what:
                self._rows = (what, now, now)
            _, started, logged = self._rows
            text = progress_text(done, total, now - started, size, rejected)
            self._progress.update(
                self._current, description=what, total=total, completed=done, detail=text, visible=True
            )
            if not self._live and now - logged >= SECONDS_BETWEEN_LINES:
                self._rows = (what, started, now)
                self.console.print(Text(f"{what}: {text}"), soft_wrap=True)


def print_summary(console: Console, system: str, outcome: "RunOutcome", where: dict[str, str]) -> None:
    """Read, migrated, rejected, dropped of each flow; checks; what failed; where to look."""
    if outcome.accounting:
        table = Table("source", "target", title="Rows", title_justify="left")
        for name in ("read", "migrated", "rejected", "dropped"):
            table.add_column(name, justify="right")
        for entry in outcome.accounting:
            dropped = sum(entry["dropped"].values())
            table.add_row(
                entry["source_table"],
                entry["target_table"],
                *(f"{number:,}" for number in (entry["read"], entry["migrated"], entry["rejected"], dropped)),
            )
        console.print(table)
    if outcome.loads:
        table = Table("loaded", title="Target tables", title_justify="left")
        names = ("inserted", "updated", "unchanged", "adopted", "conflicts", "vanished")
        for name in names:
            table.add_column(name, justify="right")
        for model, facts in outcome.loads.items():
            table.add_row(model, *(f"{facts.get(name, 0):,}" for name in names))
        console.print(table)
    _print_checks(console, outcome)
    steps_of: dict[str, list[str]] = {}
    for failure in outcome.failures:
        steps_of.setdefault(failure.message, []).append(step_title(failure.step, system))
    for message, failed in steps_of.items():
        console.print(Text(f"FAILED {', '.join(failed)}", style="bold red"), soft_wrap=True)
        console.print(Text(message), soft_wrap=True)
    if outcome.not_run and outcome.seconds_of:
        titles = [step_title(step, system) for step in outcome.not_run]
        steps = [title for title in titles if not title.startswith("check ")]
        checks = len(titles) - len(steps)
        left_out = [*steps, *([f"the checks of {checks} assets"] if checks else [])]
        console.print(Text(f"Not done because of that: {', '.join(left_out)}"), soft_wrap=True)
    if slowest := slowest_steps(outcome.seconds_of, system):
        console.print(Text(f"Slowest: {', '.join(slowest)}"), soft_wrap=True)
    for label, place in where.items():
        console.print(Text(f"{label}: {place}"), soft_wrap=True)
    state = "finished" if outcome.succeeded else "FAILED"
    console.print(Text(f"Run {outcome.run_id} {state} after {duration_text(outcome.seconds)}."), soft_wrap=True)


def slowest_steps(seconds_of: Mapping[str, float], system: str) -> list[str]:
    """The steps of tables that took longest: `load Document 12 s`."""
    of_tables = [step for step in seconds_of if not step_title(step, system).startswith("check ")]
    longest = sorted(of_tables, key=lambda step: -seconds_of[step])[:SLOWEST]
    return [f"{step_title(step, system)} {duration_text(seconds_of[step])}" for step in longest]


def print_plan(console: Console, plan: Mapping[str, Any]) -> None:
    """What a run would do to each target, examples of what changes or is in conflict, and what is in the way."""
    table = Table("target", title="What a run would do", title_justify="left")
    names = ("inserted", "updated", "unchanged", "adopted", "conflicts", "vanished", "rejected")
    for name in names:
        table.add_column(name, justify="right")
    for load in plan["loads"]:
        table.add_row(load["model"], *(f"{load[name]:,}" for name in names))
    console.print(table)
    changes = [
        (load["model"], change, name, values)
        for load in plan["loads"]
        for change in load["changes"]
        if change["fate"] != "insert"
        for name, values in change["columns"].items()
    ]
    if changes:
        table = Table("target", "what", "source row", "column", "is", "would be", title="Examples, masked")
        for model, change, name, (before, after) in changes:
            what = change["cause"] or change["fate"]
            table.add_row(*map(Text, (model, what, change["place"], name, before, after)))
        console.print(table)
    for note in plan["notes"]:
        console.print(Text(note), soft_wrap=True)
    from dtx_assets.machinery.checks.obstacles import of_plan

    waiting = of_plan(plan)
    print_todo(console, waiting, all_of=len(waiting))


def print_verifications(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """How many rows of each target were compared, what is wrong with them, and examples."""
    table = Table("target", title="Target and mapping", title_justify="left")
    names = ("rows", "lost", "extra", "changed", "owned_by_others")
    of_files = ("files", "files_lost", "files_changed")
    for name in (*names, *of_files):
        table.add_column(name.replace("_", " "), justify="right")
    for target in found:
        table.add_row(target["model"], *(f"{target[name]:,}" if name in target else "" for name in (*names, *of_files)))
    console.print(table)
    for target in found:
        if files := target.get("files"):
            told = files - target["files_read"]
            how = f"{target['files_read']:,} by reading, {told:,} by size and tag of the store or by their absence"
            console.print(Text(f"Files of {target['model']} were compared: {how}."), soft_wrap=True)
    table = Table("target", "what", "source row", "id", "column", "is", "should be", title="Examples, masked")
    for target in found:
        for sample in target["found"][:SHOWN_FAULTS]:
            which = "" if sample["target_id"] is None else str(sample["target_id"])
            for name, (before, after) in sample["columns"].items() or [("", ("", ""))]:
                what = f"{sample['fate']}: {sample['cause']}"
                table.add_row(*map(Text, (target["model"], what, sample["place"], which, name, before, after)))
    if table.row_count:
        console.print(table)
    else:
        console.print("Everything is as the mapping says.")


def _print_checks(console: Console, outcome: "RunOutcome") -> None:
    if not outcome.checks:
        return
    errors = [check for check in outcome.checks if check.is_error]
    warnings = [check for check in outcome.checks if not check.passed and not check.is_error]
    passed = len(outcome.checks) - len(errors) - len(warnings)
    findings = [*errors, *warnings]
    if findings:
        table = Table(title="What the checks found", title_justify="left")
        table.add_column("check", overflow="fold")
        table.add_column("of", overflow="fold")
        table.add_column("count", justify="right")
        table.add_column("severity")
        rows = list(_each_check_once(findings))
        for check, of in rows[:SHOWN_CHECKS]:
            count = "" if check.count is None else f"{check.count:,}"
            style = "red" if check.is_error else "yellow"
            table.add_row(check.name, of, count, Text(check.severity, style=style))
        console.print(table)
        if len(rows) > SHOWN_CHECKS:
            console.print(f"and {len(rows) - SHOWN_CHECKS} more: `dtx status --failed`")
    console.print(f"Checks: {passed} passed, {len(errors)} failed, {len(warnings)} warned.", highlight=False)


def _each_check_once(findings: Sequence["CheckResult"]) -> Iterator[tuple["CheckResult", str]]:
    """The findings with what each is of; those of one check of many assets as one, which has the most rows of them."""
    kinds: dict[tuple[str, bool], list[CheckResult]] = {}
    for check in findings:
        kinds.setdefault((check.name, check.is_error), []).append(check)
    for same in kinds.values():
        if len(same) <= SHOWN_ALONE:
            yield from ((check, check.asset) for check in same)
        else:
            most = max(same, key=lambda check: check.count or 0)
            yield most, f"{most.asset} and {len(same) - 1} others"


def print_findings(console: Console, findings: Sequence["Finding"]) -> None:
    """The preflight as a table: what was looked at, whether it will do, what was seen, what to do."""
    table = Table(title="Preflight", title_justify="left")
    for name in ("part", "what", "is well", "seen", "do"):
        table.add_column(name, overflow="fold")
    styles = {"yes": "green", "no": "bold red", "warn": "yellow"}
    for finding in findings:
        texts = [Text(visible(text)) for text in (finding.says, finding.remedy)]
        state = Text(finding.state, style=styles[finding.state])
        table.add_row(Text(finding.part), Text(visible(finding.subject)), state, *texts)
    console.print(table)
    count = {state: sum(finding.state == state for finding in findings) for state in styles}
    verdict = "Not ready: mend what says no." if count["no"] else "Ready."
    console.print(f"{count['yes']} yes, {count['warn']} warnings, {count['no']} no. {verdict}", highlight=False)


def print_generic_keys(console: Console, found: "GenericKeys") -> None:
    """Each generic key with what it points at, and what was found that is none."""
    for pair in found.pairs:
        title = f"{pair.table}: {pair.type_column}, {pair.id_column} ({pair.id_type}), {pair.rows:,} rows"
        console.print(Text(title, style="italic"), soft_wrap=True)
        table = Table("points at", "table")
        table.add_column("rows", justify="right")
        table.add_column("orphans", justify="right")
        for model, pointed_at in sorted(pair.models.items()):
            orphans = "unknown" if pointed_at.orphans is None else f"{pointed_at.orphans:,}"
            table.add_row(model, pointed_at.table or "no table", f"{pointed_at.rows:,}", orphans)
        for number, rows in pair.unknown_types.items():
            table.add_row(f"content type {number}, which is not there", "", f"{rows:,}", "")
        rest = {"neither type nor id": pair.both_null, "only the type": pair.type_only, "only the id": pair.id_only}
        for what, rows in rest.items():
            if rows:
                table.add_row(what, "", f"{rows:,}", "")
        console.print(table)
    for alone in found.unpaired:
        what = f"{alone.table}.{alone.type_column} names content types, and no column beside it holds an id"
        console.print(Text(f"{what} ({alone.rows:,} rows)"), soft_wrap=True)
    if found.models_without_table:
        console.print(Text(f"Models without a table: {', '.join(found.models_without_table)}"), soft_wrap=True)
    count = len(found.pairs)
    console.print(Text(f"{count} generic key{'' if count == 1 else 's'} found."))


def print_states(console: Console, assets: Sequence["AssetState"], checks: Sequence["CheckState"]) -> None:
    table = Table("asset", "last made", title="Assets", title_justify="left")
    table.add_column("rows", justify="right")
    table.add_column("run")
    for asset in assets:
        table.add_row(asset.asset, moment(asset.at), number(asset.rows), short(asset.run_id))
    if assets:
        console.print(table)
    table = Table("check", "of", "state", "when", title="Checks", title_justify="left")
    table.add_column("count", justify="right")
    styles = {"passed": "green", "failed": "red", "warned": "yellow"}
    for check in checks:
        state = Text(check.state, style=styles.get(check.state, "dim"))
        table.add_row(check.name, check.asset, state, moment(check.at), number(check.count))
    console.print(table)


def print_states_in_short(
    console: Console, system: str, assets: Sequence["AssetState"], checks: Sequence["CheckState"]
) -> None:
    """How much is made and how its checks stand, the first that failed, the next command."""
    made = [asset for asset in assets if asset.at]
    if not made:
        console.print(f"Nothing of {system} is made yet.", highlight=False)
        console.print("Next: `dtx plan` says what a run would do, `dtx run` rehearses.", highlight=False)
        return
    last = max(made, key=lambda asset: asset.at or datetime.min.replace(tzinfo=UTC))
    console.print(
        f"{len(made):,} of {counted(len(assets), 'asset')} of {system} made,"
        f" the last at {moment(last.at)} by run {short(last.run_id)}.",
        highlight=False,
    )
    states = Counter(check.state for check in checks)
    # These first; a state in which no check is, is not told.
    order = dict.fromkeys(("passed", "failed", "warned", *states))
    told = ", ".join(f"{states[state]:,} {state}" for state in order if states[state])
    console.print(f"Checks: {told}.", highlight=False)
    failed = [check for check in checks if check.state == "failed"]
    for check in failed[:FIRST_OBSTACLES]:
        print_line(console, f"  {check.asset}: {check.name}" + (f", {check.count:,} found" if check.count else ""))
    if len(failed) > FIRST_OBSTACLES:
        more = len(failed) - FIRST_OBSTACLES
        console.print(f"  and {more:,} more that failed: `dtx status --failed`", highlight=False)
    console.print("Next: `dtx todo` says who has to do what; `dtx status --all` lists everything.", highlight=False)


def print_rejected(
    console: Console, kinds: Sequence["RejectedKind"], examples: Mapping["RejectedKind", Sequence["RejectedEntry"]]
) -> None:
    """Who has to mend which rows: by owner, each kind with how many, the remedy and a few of them."""
    if not kinds:
        console.print("Nothing is rejected now.")
        return
    owners: dict[str, list[RejectedKind]] = {}
    for kind in kinds:
        owners.setdefault(kind.owner, []).append(kind)
    for owner, theirs in owners.items():
        told = f"{visible(owner)}: {counted(sum(kind.rows for kind in theirs), 'row')}"
        console.print(Text(told, style="bold"), soft_wrap=True)
        for kind in theirs:
            rows = counted(kind.rows, "part of a row", "parts of rows") if kind.partial else counted(kind.rows, "row")
            told = f"  {kind.source_table} → {kind.model or kind.target_table}: {rows}, {kind.reason}"
            console.print(Text(visible(told)), soft_wrap=True)
            console.print(Text(f"    do: {kind.remedy}"), soft_wrap=True)
            for entry in examples[kind]:
                print_line(console, f"    {visible(entry.source_key)}: {visible(entry.detail)}")
            if more := kind.rows - len(examples[kind]):
                console.print(Text(f"    and {more:,} more"))
    whose = f" --owner '{visible(next(iter(owners)))}'" if len(owners) > 1 else ""
    console.print(Text(f"Next: `dtx rejected{whose} --csv FILE` writes all of them, to send."), soft_wrap=True)


def print_runs(console: Console, runs: Sequence["ListedRun"]) -> None:
    """The runs, the latest first, in two lines each: when, mode, who, how long, how it ended; and the rows."""
    styles = {"failed": "red", "killed": "red", "refused": "red", "rolled back": "dim"}
    for run in runs:
        by = f" by {visible(run.by)}" if run.by else ""
        took = "" if run.seconds is None else f", {duration_text(run.seconds)}"
        when = f"{run.started_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        told = f"{short(run.run_id)}  {when}  {run.mode or 'run'}{by}{took}: "
        style = styles.get(run.state, "yellow" if run.failed_checks else "green")
        console.print(Text(told) + Text(run.ended, style=style), soft_wrap=True)
        if run.read is not None or run.inserted or run.updated:
            counted = {"read": run.read, "rejected": run.rejected, "inserted": run.inserted, "updated": run.updated}
            rows = ", ".join(f"{rows:,} {what}" for what, rows in counted.items() if rows is not None)
            console.print(Text(f"{'':8}  {rows}{', of the first rows only' if run.limited else ''}"), soft_wrap=True)
    if not runs:
        console.print("No run has loaded anything yet, or tried to: `dtx run` rehearses.")
    elif last := next((run for run in runs if run.state == "succeeded" and run.inserted + run.updated), None):
        told = f"Next: `dtx rollback {short(last.run_id)}` undoes the last one that wrote."
        console.print(Text(told), soft_wrap=True)


def print_archives(console: Console, archives: Iterable["Manifest"], where: str) -> None:
    """Rows, columns, bytes and SHA-256 of the files of each archive."""
    table = Table("table", title=f"Archives in {where}", title_justify="left")
    for name in ("rows", "columns"):
        table.add_column(name, justify="right")
    for name in ("extracted at", "file"):
        table.add_column(name)
    table.add_column("bytes", justify="right")
    table.add_column("SHA-256", overflow="fold")
    for manifest in archives:
        facts = manifest.metadata
        shown = [facts["table"], number(facts["rows"]), number(len(facts["columns"])), facts["extracted_at"][:19]]
        for entry in (entry for files in manifest.tables.values() for entry in files.files):
            table.add_row(*shown, entry.name, number(entry.bytes), facts["sha256"][entry.name])
            shown = [""] * len(shown)
    if table.row_count:
        console.print(table)
    else:
        console.print(Text(f"Nothing is archived in {where}; `dtx run` archives all tables."), soft_wrap=True)


def print_purged(console: Console, found: Sequence["Stale"], *, dry: bool) -> None:
    """What was removed, or would be, with rows and bytes."""
    if not found:
        console.print("Nothing is that old.")
        return
    table = Table("what", "which", "from", title="What would be removed" if dry else "Removed", title_justify="left")
    for name in ("rows", "bytes"):
        table.add_column(name, justify="right")
    for stale in found:
        table.add_row(stale.kind, Text(stale.name), moment(stale.at), number(stale.rows), number(stale.bytes))
    console.print(table)
    total = sum(stale.bytes or 0 for stale in found)
    console.print(
        f"{len(found):,} in all, {total:,} bytes; nothing was removed."
        if dry
        else f"{len(found):,} in all, {total:,} bytes.",
        highlight=False,
    )


def print_answer(console: Console, answer: "Answer") -> None:
    """The first rows of an answer, one line break or other control character as one sign."""
    table = Table()
    for name in answer.columns:
        table.add_column(Text(visible(name)))
    shown = list(islice(answer.rows, SHOWN_ROWS + 1))
    for row in shown[:SHOWN_ROWS]:
        table.add_row(*(Text("NULL", style="dim") if value is None else Text(visible(value)) for value in row))
    console.print(table)
    if len(shown) > SHOWN_ROWS:
        console.print(f"The first {SHOWN_ROWS} rows; --csv and --json give all.", highlight=False)


def visible(value: object) -> str:
    """The text of a value, without what would move the cursor or colour the terminal."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(value))


def write_csv(stream: TextIO, answer: "Answer") -> None:
    """All rows as CSV; NULL is an empty field, and no spreadsheet runs what a field holds."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(harmless, answer.columns))
    writer.writerows(map(harmless, row) for row in answer.rows)


def harmless(value: object) -> object:
    """A field of CSV, with `'` before what a spreadsheet would take for a formula; what is a number stays one.

    Also within a text: where fields end with a semicolon, as in half of Europe, what follows one is a field of its own.
    """
    if value is None or isinstance(value, int | float | Decimal) or NUMBER.fullmatch(str(value)):
        return value
    return FORMULA.sub(r"\g<0>'", str(value))


def write_json(stream: TextIO, answer: "Answer") -> None:
    """All rows as an array of JSON objects, one a line; bytes are hexadecimal, times, dates and decimals texts."""
    separator = "["
    for row in answer.rows:
        named = dict(zip(answer.columns, row, strict=True))
        stream.write(f"{separator}{json.dumps(named, ensure_ascii=False, default=json_text)}")
        separator = ",\n "
    stream.write("[]\n" if separator == "[" else "]\n")


def json_text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def moment(at: Any) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "never"


def number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def counted(count: int, one: str, several: str = "") -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def print_line(console: Console, text: str) -> None:
    """A text in one line of a terminal, cut where it is longer; whole where it goes elsewhere."""
    if console.is_terminal:
        console.print(Text(text), no_wrap=True, overflow="ellipsis")
    else:
        console.print(Text(text), soft_wrap=True)


def short(run_id: str | None) -> str:
    return (run_id or "")[:8]


def print_error(console: Console, error: MigrationError) -> None:
    console.print(Text("error: ", style="bold red") + Text(str(error), style=""), soft_wrap=True)


def print_verdict(
    console: Console, found: Sequence["Obstacle"], *, cut_over: bool, undone_by: str | None = None
) -> None:
    """How things stand after a run, in few lines: how much is in the way, the first of it, the next command."""
    from dtx_assets.machinery.checks.obstacles import count_of_kinds

    undo = f"; `{undone_by}` undoes this run" if undone_by else ""
    if cut_over or not found:
        console.print("Cut over." if cut_over else "Go: nothing is in the way of a cutover.")
        console.print(Text(f"Next: `dtx report` writes the page for who has to know{undo}."), soft_wrap=True)
        return
    console.print(Text(f"No-go: {len(found):,} in the way of a cutover ({count_of_kinds(found)})."), soft_wrap=True)
    for obstacle in found[:FIRST_OBSTACLES]:
        print_line(console, f"  {obstacle.name}: {visible(obstacle.finding)} [{obstacle.answers_for_it}]")
    console.print(Text(f"Next: `dtx todo` lists all of it by owner{undo}."), soft_wrap=True)


def print_todo(console: Console, found: Sequence["Obstacle"], *, all_of: int) -> None:
    """Who has to do what: what is in the way, by owner. `all_of`: how many there are, shown or not."""
    from dtx_assets.machinery.checks.obstacles import by_owner, count_of_kinds

    for owner, theirs in by_owner(found).items():
        table = Table(title=f"{owner}: {len(theirs):,}", title_justify="left")
        for name in ("what", "found", "do"):
            table.add_column(name, overflow="fold")
        table.add_column("rows", justify="right")
        for obstacle in theirs:
            told = (obstacle.name, obstacle.finding, obstacle.remedy)
            table.add_row(*(Text(visible(text)) for text in told), number(obstacle.rows))
        console.print(table)
    if not all_of:
        console.print("Nothing is in the way of a cutover.")
        return
    of = "" if len(found) == all_of else f", {len(found):,} of them shown here"
    console.print(Text(f"In the way of a cutover: {all_of:,}{of} ({count_of_kinds(found)})."), soft_wrap=True)
