"""What a command shows on the terminal: the progress of a run, its summary, tables of states, errors.

Nothing here runs anything or imports Dagster.
"""

import csv
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from dtx_assets.cli.shared import typed
from dtx_assets.machinery.base.errors import MigrationError
from dtx_assets.machinery.base.progress import SECONDS_BETWEEN_LINES, duration_text, progress_text

if TYPE_CHECKING:
    from dtx_assets.cli.retention import Stale
    from dtx_assets.machinery.archive.query import Answer
    from dtx_assets.machinery.base.lake import Manifest
    from dtx_assets.machinery.checks.obstacles import Obstacle
    from dtx_assets.machinery.dagster.run import AssetState, CheckState
    from dtx_assets.machinery.report.runs import ListedRun
    from dtx_assets.machinery.run.preflight.finding import Finding
    from dtx_assets.machinery.run.rejected_log import RejectedEntry
    from dtx_assets.machinery.run.rejected_owners import RejectedKind
    from dtx_assets.machinery.sources.generic_keys import GenericKeys

WHOLE_SECONDS = 10
"""From so many seconds on a time is told as any other; less is told in whole seconds, since it is nearly so."""
SHOWN_ROWS = 200
SHOWN_FAULTS = 10
FIRST_OBSTACLES = 5
NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?%?", re.IGNORECASE | re.ASCII)
FORMULA = re.compile(r"^(?=[\t\r\n])|(?:^|[;\t\r\n])(?=[\s\0-\x1f\ufeff\u200b-\u200f\u2060]*[=+@＝＋－＠-])")
"""The places of a text after which a spreadsheet may see the start of a formula."""


def step_title(step: str, system: str) -> str:
    """`dtx_prepare_exemption` → `prepare exemption`, `dtx_prepare_exemption.shard[1_of_3]` → `…, shard 1 of 3`."""
    name, dot, part = step.removeprefix(f"{system}_").partition(".")
    title = name.replace("__", "/").replace("_", " ", 1)
    return f"{title}, {' '.join(PART.findall(part))}" if dot else title


PART = re.compile(r"[^\W_]+")
"""A word or number of a part of a step, such as those of `shard[1_of_3]`."""


class RunDisplay:
    """Steps done of steps in all, the current one, and rows, speed and time left where a step tells them.

    `before`: the seconds of steps in the last run that had them. What is left of the run is their sum, and nothing is
    said while one of them is not known.

    A live display on a terminal; else a line for each finished step and every ten seconds of a long one. Call it with
    Dagster's events, and let it listen to `progress`.
    """

    def __init__(
        self,
        console: Console,
        system: str,
        steps: Collection[str],
        before: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console, self.system, self.steps = console, system, len(steps)
        self._ahead, self._known = set(steps), set(steps)
        self._before, self._clock = before or {}, clock
        # Sums that are kept: a large schema has thousands of steps, and something is told at the end of each.
        self._untold, self._seconds_ahead = 0, 0.0
        for step in self._ahead:
            self._count_ahead(step, 1)
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
            get_time=clock,
            transient=True,
            disable=not self._live,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._all: TaskID = self._progress.add_task("all steps", total=self.steps, detail=self._told())
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
                if event.step_key not in self._known:
                    # A shard: how many there are is known when they start.
                    self._known.add(event.step_key)
                    self.steps += 1
                    self._ahead.add(event.step_key)
                    self._count_ahead(event.step_key, 1)
                    self._progress.update(self._all, total=self.steps)
                self._started[event.step_key] = self._clock()
                # A task of its own: its clock is the step's, not the run's.
                self._progress.remove_task(self._current)
                self._current = self._progress.add_task(step_title(event.step_key, self.system), total=None, detail="")
            elif event.is_step_success or event.is_step_failure or event.is_step_skipped:
                self._finish(event)

    def _finish(self, event: Any) -> None:
        self.done += 1
        self.failed += event.is_step_failure
        if event.step_key in self._ahead:
            self._ahead.remove(event.step_key)
            self._count_ahead(event.step_key, -1)
        self._progress.update(self._all, completed=self.done, detail=self._told())
        self._progress.update(self._current, visible=False)
        title = step_title(event.step_key, self.system)
        now = self._clock()
        took = duration_text(now - self._started.pop(event.step_key, now))
        state = "failed" if event.is_step_failure else "skipped" if event.is_step_skipped else took
        if not self._live or state == "failed":
            self.console.print(Text(f"[{self.done}/{self.steps}] {title}: {state}{self._left()}"), soft_wrap=True)

    def _count_ahead(self, step: str, times: Literal[1, -1]) -> None:
        self._untold += times * (step not in self._before)
        self._seconds_ahead += times * self._before.get(step, 0.0)

    def _told(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.steps}{failed}{self._left()}"

    def _left(self) -> str:
        """`, about 40 s left`, by what the steps that are ahead took the last time; else nothing."""
        if not self._ahead or self._untold:
            return ""
        now = self._clock()
        going_on = ((step, started) for step, started in self._started.items() if step in self._ahead)
        left = round(self._seconds_ahead - sum(min(self._before[step], now - started) for step, started in going_on))
        return f", about {duration_text(left) if left >= WHOLE_SECONDS else f'{max(left, 1)} s'} left"

    def advanced(
        self, what: str, done: int, total: int | None, size: int | None = None, rejected: int | None = None
    ) -> None:
        with self._lock:
            now = self._clock()
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


def print_verifications(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """How many rows of each target were compared, what is wrong with them, and examples."""
    table = Table("target", title="Target and mapping", title_justify="left")
    names = ("rows", "lost", "extra", "changed", "refused", "owned_by_others")
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
        console.print(
            f"Next: `{typed('plan', system)}` says what a run would do, `{typed('run', system)}` rehearses.",
            highlight=False,
        )
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
        console.print(f"  and {more:,} more that failed: `{typed('status --failed', system)}`", highlight=False)
    todo, everything = typed("todo", system), typed("status --all", system)
    console.print(f"Next: `{todo}` says who has to do what; `{everything}` lists everything.", highlight=False)


def print_rejected(
    console: Console,
    system: str,
    kinds: Sequence["RejectedKind"],
    examples: Mapping["RejectedKind", Sequence["RejectedEntry"]],
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
    console.print(
        Text(f"Next: `{typed(f'rejected{whose} --csv FILE', system)}` writes all of them, to send."), soft_wrap=True
    )


def print_runs(console: Console, system: str, runs: Sequence["ListedRun"]) -> None:
    """The runs, the latest first, in two lines each: when, mode, who, how long, how it ended; and the rows."""
    styles = {"failed": "red", "killed": "red", "refused": "red", "rolled back": "dim"}
    for run in runs:
        by = f" by {visible(run.by)}" if run.by else ""
        took = "" if run.seconds is None else f", {duration_text(run.seconds)}"
        when = f"{run.started_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        told = f"{short(run.run_id)}  {when}  {run.what}{by}{took}: "
        style = styles.get(run.state, "green" if run.failed_checks == 0 and not run.undone else "yellow")
        console.print(Text(told) + Text(run.ended, style=style), soft_wrap=True)
        if run.read is not None or run.inserted or run.updated:
            counted = {"read": run.read, "rejected": run.rejected, "inserted": run.inserted, "updated": run.updated}
            rows = ", ".join(f"{rows:,} {what}" for what, rows in counted.items() if rows is not None)
            console.print(Text(f"{'':8}  {rows}{', of the first rows only' if run.limited else ''}"), soft_wrap=True)
    if not runs:
        console.print(f"No run has loaded anything yet, or tried to: `{typed('run', system)}` rehearses.")
    elif last := next((run for run in runs if run.state == "succeeded" and run.inserted + run.updated), None):
        told = f"Next: `{typed(f'rollback {short(last.run_id)}', system)}` undoes the last one that wrote."
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
