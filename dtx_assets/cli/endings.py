"""How a run and a plan end on the terminal: a verdict, the first obstacles, the next command; on request, all of it."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dtx_assets.cli.console import FIRST_OBSTACLES, counted, print_line, print_todo, step_title, visible
from dtx_assets.cli.shared import typed
from dtx_assets.machinery.base.progress import duration_text

if TYPE_CHECKING:
    from dtx_assets.machinery.checks.obstacles import Obstacle
    from dtx_assets.machinery.dagster.run import CheckResult, RunOutcome
    from dtx_assets.machinery.mapping.demonstration import Demonstration

SHOWN_CHECKS = 60
SHOWN_ALONE = 3
"""Of so many assets a check that failed is listed by each."""
SLOWEST = 5
DERIVED = "derived/"
NAMED_CHECKS = 6
"""So many of the checks that failed are named where they are not listed."""
WRITTEN = ("inserted", "updated", "unchanged", "adopted", "conflicts", "vanished")
"""What becomes of the rows of a load."""
CALLED = {"conflicts": "in conflict"}
"""As a sentence has it."""
LISTED = "    "
"""What the obstacles in an error's words begin with, and nothing else."""


def print_summary(
    console: Console, system: str, outcome: "RunOutcome", where: dict[str, str], *, whole: bool = True
) -> None:
    """Read, migrated, rejected, dropped of each flow; what failed; the run in a few lines.

    `whole`: with what was written into each target, the checks that found something, all of an error, where to look.
    """
    accounting = [entry for entry in outcome.accounting if whole or entry["read"]]
    if accounting:
        table = Table("source", "target", title="Rows", title_justify="left")
        for name in ("read", "migrated", "rejected", "dropped"):
            table.add_column(name, justify="right")
        for entry in accounting:
            dropped = sum(entry["dropped"].values())
            table.add_row(
                entry["source_table"],
                entry["target_table"],
                *(f"{number:,}" for number in (entry["read"], entry["migrated"], entry["rejected"], dropped)),
            )
        console.print(table)
    if empty := len(outcome.accounting) - len(accounting):
        print_line(console, f"{counted(empty, 'more table')} without a row.")
    if outcome.loads and whole:
        table = Table("loaded", title="Target tables", title_justify="left")
        for name in WRITTEN:
            table.add_column(name, justify="right")
        for model, facts in outcome.loads.items():
            table.add_row(model, *(f"{facts.get(name, 0):,}" for name in WRITTEN))
        console.print(table)
    _print_checks(console, system, outcome, whole=whole)
    _print_failures(console, system, outcome, whole=whole)
    if outcome.loads and not whole:
        written = {name: sum(facts.get(name, 0) for facts in outcome.loads.values()) for name in WRITTEN}
        # What is always told first; of the rest what there is.
        told = [f"{rows:,} {CALLED.get(name, name)}" for name, rows in written.items() if rows or name in WRITTEN[:2]]
        print_line(console, f"Rows of {counted(len(outcome.loads), 'target table')}: {', '.join(told)}.")
    if slowest := slowest_steps(outcome.seconds_of, system):
        print_line(console, f"Slowest: {', '.join(slowest)}")
    for label, place in where.items():
        console.print(Text(f"{label}: {place}"), soft_wrap=True)
    state = "finished" if outcome.succeeded else "FAILED"
    console.print(Text(f"Run {outcome.run_id} {state} after {duration_text(outcome.seconds)}."), soft_wrap=True)


def _print_failures(console: Console, system: str, outcome: "RunOutcome", *, whole: bool) -> None:
    steps_of: dict[str, list[str]] = {}
    for failure in outcome.failures:
        steps_of.setdefault(failure.message, []).append(step_title(failure.step, system))
    for message, failed in steps_of.items():
        console.print(Text(f"FAILED {', '.join(failed)}", style="bold red"), soft_wrap=True)
        console.print(Text(message if whole else without_long_lists(message)), soft_wrap=True)
    if outcome.not_run and outcome.seconds_of:
        titles = [step_title(step, system) for step in outcome.not_run]
        steps = [title for title in titles if not title.startswith("check ")]
        checks = len(titles) - len(steps)
        left_out = [*steps, *([f"the checks of {checks} assets"] if checks else [])]
        console.print(Text(f"Not done because of that: {', '.join(left_out)}"), soft_wrap=True)


def without_long_lists(message: str) -> str:
    """An error's words without the long lists of obstacles in them: the verdict names the first, `dtx todo` all."""
    lines: list[str] = []
    for is_list, entries in groupby(message.splitlines(), key=lambda line: line.startswith(LISTED)):
        found = list(entries)
        if is_list and len(found) > FIRST_OBSTACLES:
            lines[-1:] = [line.removesuffix(":") + "." for line in lines[-1:]]
        else:
            lines += found
    return "\n".join(lines)


def slowest_steps(seconds_of: Mapping[str, float], system: str) -> list[str]:
    """The steps of tables that took longest: `load Document 12 s`."""
    of_tables = [step for step in seconds_of if not step_title(step, system).startswith("check ")]
    longest = sorted(of_tables, key=lambda step: -seconds_of[step])[:SLOWEST]
    return [f"{step_title(step, system)} {duration_text(seconds_of[step])}" for step in longest]


def print_plan(
    console: Console,
    system: str,
    plan: Mapping[str, Any],
    *,
    whole: bool,
    demonstration: "Demonstration | None" = None,
) -> None:
    """What a run would do to each target, and what is in the way of it.

    `whole`: with examples of what changes or is in conflict, and all that is in the way, by owner.
    """
    table = Table("target", title="What a run would do", title_justify="left")
    names = (*WRITTEN, "rejected")
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
    if changes and whole:
        table = Table("target", "what", "source row", "column", "is", "would be", title="Examples, masked")
        for model, change, name, (before, after) in changes:
            what = change["cause"] or change["fate"]
            table.add_row(*map(Text, (model, what, change["place"], name, before, after)))
        console.print(table)
    for note in plan["notes"]:
        console.print(Text(note), soft_wrap=True)
    from dtx_assets.machinery.checks.obstacles import of_plan

    waiting = of_plan(plan)
    if whole:
        print_demonstration(console, demonstration)
        print_todo(console, waiting, all_of=len(waiting))
        return
    if changes:
        see = f"`{typed('plan --all', system)}`"
        console.print(f"{counted(len(changes), 'example')} of what would change: {see}", highlight=False)
    print_in_the_way(console, waiting, demonstration)
    console.print(f"Next: {see_all(system)}; `{typed('run', system)}` rehearses.", highlight=False)


def see_all(system: str) -> str:
    return f"`{typed('todo', system)}` lists all of it by owner"


def _print_checks(console: Console, system: str, outcome: "RunOutcome", *, whole: bool) -> None:
    if not outcome.checks:
        return
    errors = [check for check in outcome.checks if check.is_error]
    warnings = [check for check in outcome.checks if not check.passed and not check.is_error]
    passed = len(outcome.checks) - len(errors) - len(warnings)
    findings = [*errors, *warnings]
    if findings and whole:
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
            console.print(f"and {len(rows) - SHOWN_CHECKS} more: `{typed('status --failed', system)}`")
    if whole:
        console.print(f"Checks: {passed} passed, {len(errors)} failed, {len(warnings)} warned.", highlight=False)
        return
    names = list(dict.fromkeys(check.name for check in errors))
    more = [f"and {len(names) - NAMED_CHECKS:,} more"] if len(names) > NAMED_CHECKS else []
    which = f" ({', '.join([*names[:NAMED_CHECKS], *more])})" if names else ""
    where = f" `{typed('status --failed', system)}` lists them." if findings else ""
    print_line(console, f"Checks: {passed} passed, {len(errors)} failed{which}, {len(warnings)} warned.{where}")
    # How the run itself was made, such as with a stand-in: no row and no obstacle tells it.
    for check in errors:
        if check.asset.startswith(DERIVED):
            print_line(console, f"  {check.asset}: {check.name}: {visible(check.facts)}")


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


def print_verdict(
    console: Console,
    found: Sequence["Obstacle"],
    *,
    cut_over: bool,
    undone_by: str | None = None,
    system: str = "",
    demonstration: "Demonstration | None" = None,
    reasons: Sequence[str] = (),
) -> None:
    """How things stand after a run, in few lines: how much is in the way, the first of it, the next command.

    `reasons` against a cutover lie in the runs so far, as on the page.
    """
    from dtx_assets.machinery.checks.obstacles import is_go

    undo = f"; `{undone_by}` undoes this run" if undone_by else ""
    if cut_over:
        print_demonstration(console, demonstration)
        stands_on = "" if undone_by else " It wrote nothing: the page says which runs had written what it stands on."
        console.print(Text(f"Cut over.{stands_on}"), soft_wrap=True)
    else:
        print_in_the_way(console, found, demonstration, reasons)
    after = f"`{typed('report', system)}` writes the page for who has to know"
    if not cut_over and not is_go(found):
        after = see_all(system)
    elif not cut_over and reasons:
        after = f"`{typed('run', system)}` rehearses"
    elif not cut_over and found:
        after = f"`{typed('run --mode cutover', system)}` with the answers cuts over"
    console.print(Text(f"Next: {after}{undo}."), soft_wrap=True)


def print_in_the_way(
    console: Console,
    found: Sequence["Obstacle"],
    demonstration: "Demonstration | None" = None,
    reasons: Sequence[str] = (),
) -> None:
    """How much is in the way of a cutover, and the first of it."""
    from dtx_assets.machinery.checks.obstacles import count_of_kinds, is_go

    print_demonstration(console, demonstration)
    if not found and not reasons:
        console.print("Go: nothing is in the way of a cutover.")
        return
    besides = "; ".join(reasons)
    if not is_go(found):
        told = f"No-go: {len(found):,} in the way of a cutover ({count_of_kinds(found)})"
        told += f"; besides, {besides}." if reasons else "."
    elif reasons:
        told = f"No-go: {besides}."
    else:
        told = f"Go: nothing is in the way but what the cutover itself asks ({count_of_kinds(found)})."
    console.print(Text(told), soft_wrap=True)
    for obstacle in found[:FIRST_OBSTACLES]:
        remedy = f": {visible(obstacle.remedy)}" if is_go(found) else ""
        print_line(console, f"  {obstacle.name}: {visible(obstacle.finding)} [{obstacle.answers_for_it}]{remedy}")


def print_demonstration(console: Console, demonstration: "Demonstration | None") -> None:
    if demonstration:
        console.print(Text(demonstration.told, style="yellow"), soft_wrap=True)
