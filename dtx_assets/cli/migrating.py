"""The commands that look ahead, migrate, compare, explain and undo."""

import json
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dtx_assets.cli.shared import (
    FIRST,
    SystemArgument,
    SystemOption,
    app,
    code_location,
    code_locations,
    environment_of,
    execute,
    operator,
    output,
    page_written_anew,
    perform,
    read_settings,
    summarise,
    system_module,
    typed,
)
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.exit_codes import (
    EXIT_CHECK_FAILED,
    EXIT_CODES,
    EXIT_OK,
    EXIT_STEP_FAILED,
)
from dtx_assets.machinery.base.private import private_file

if TYPE_CHECKING:
    from types import ModuleType

    from dtx_assets.machinery.base.settings import Mode, Settings
    from dtx_assets.machinery.run.environment import RunEnvironment
    from dtx_assets.machinery.run.kept_plan import KeptPlan
    from dtx_assets.machinery.system.system import System

EXAMPLES_RUN = f"""
Examples:

  dtx run                                        everything

  dtx run --select target/EmailTemplate          one asset again

  dtx run --select "+target/EmailTemplate"       with all it needs

  dtx run --select 'group:"notifications"'       one area

  dtx run --select feed:vornado                  one feed (mappings/dtx/feeds), with all it needs

  dtx run dispatch --through-phase 2             the phases 1 and 2

  dtx run --limit 100                            the first rows of each table

  dtx run --mode cutover --restore-point snap-7 --accept 'no_letter_row_is_rejected=…'

Exit code: {", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())}.
"""


@app.command(epilog=EXAMPLES_RUN)
def run(
    system: SystemArgument = FIRST,
    select: Annotated[
        str | None, typer.Option(metavar="ASSETS", help="Only these assets, in Dagster's selection syntax.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(metavar="rehearsal|cutover", help="By default what DTX_MODE says, a rehearsal where it is unset."),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK=REASON", help="Cut over in spite of it; recorded. May be given many times."),
    ] = None,
    accepts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The same from a file that can be reviewed: `dtx plan --accepts` writes it.",
            dir_okay=False,
        ),
    ] = None,
    restore_point: Annotated[
        str | None, typer.Option(metavar="NAME", help="A snapshot of the target database; a cutover asks for it.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Load only the first N source rows of each table.")
    ] = None,
    phase: Annotated[
        str | None, typer.Option(metavar="N|N-M", help="Only these phases, of those that were loaded before.")
    ] = None,
    through_phase: Annotated[
        int | None, typer.Option(metavar="N", help="From the first phase on, and no further than phase N.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every legacy file again, of the same size and time too.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Cut over in production without the database's name being typed.")
    ] = False,
    accept_cost: Annotated[
        float | None,
        typer.Option(min=0, metavar="DOLLARS", help="What embedding may cost in a cutover, which asks for it."),
    ] = None,
    as_planned: Annotated[
        Path | None,
        typer.Option(
            "--as-planned",
            metavar="FILE",
            help="Plan again first, and write nothing unless that says what this plan says: `dtx plan --out` keeps it.",
            dir_okay=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="End with the rows of each target and each check that found something, too.")
    ] = False,
) -> None:
    """Migrate: extract, map, prepare, load and check, in this process, and say what came of it."""
    location = code_location(system)
    if mode is not None:
        os.environ[f"{system.upper()}_MODE"] = mode
    if verify:
        os.environ[f"{system.upper()}_VERIFY_FILES"] = "1"
    settings = read_settings(location)
    confirm_cutover(settings, yes=yes)

    from dtx_assets.machinery.checks.gate import require_known
    from dtx_assets.machinery.dagster.gate import known_obstacles
    from dtx_assets.machinery.dagster.run import select_assets
    from dtx_assets.machinery.feeds.selection import expand_feeds

    reasons = accepted_with_reasons(accept or [])
    if accepts is not None:
        from dtx_assets.machinery.checks.acceptances import read_acceptances

        reasons = read_acceptances(accepts, datetime.now(UTC).date()) | reasons
    require_known(reasons, known_obstacles(location.SYSTEM, location.defs.resolve_asset_graph()))

    if chosen := chosen_phases(location.SYSTEM, phase, through_phase):
        select = f"({chosen}) and ({select})" if select else chosen
    selection = None if select is None else select_assets(location.defs, system, expand_feeds(select, location.SYSTEM))
    options = {
        "mode": settings.mode,
        "accept": reasons,
        "accepted_by": operator(),
        **({"restore_point": restore_point} if restore_point else {}),
        **({"limit": limit} if limit else {}),
        **({} if accept_cost is None else {"accept_cost": accept_cost}),
    }
    if as_planned is not None:
        if selection is not None:
            raise ConfigurationError(
                "a plan is one of all targets, and this is a run of some",
                where="--as-planned",
                remedy="leave out --select and the phases",
            )
        require_what_was_planned(location, as_planned, limit)
    execute(
        location, system, job_for(system, settings.mode, whole=selection is None), options, selection, whole=everything
    )


def job_for(system: str, mode: "Mode", *, whole: bool) -> str:
    """The job of a run: a part has none of its own, since its loads wait for no other tables' checks."""
    from dtx_assets.machinery.dagster.attempts import job_of_mode

    return job_of_mode(system, mode) if whole else system


def require_what_was_planned(location: "ModuleType", path: Path, limit: int | None) -> None:
    """LoadError where a dry run of now says something else than the plan that was kept."""
    from dtx_assets.machinery.run.kept_plan import read_plan, require_as_planned

    kept, system = read_plan(path), location.SYSTEM.name
    outcome = perform(location, system, f"{system}_plan", {"mode": "cutover", **({"limit": limit} if limit else {})})
    if outcome.plan is None:
        summarise(location, system, outcome)
        raise typer.Exit(outcome.exit_code)
    require_as_planned(path, kept, plan_of_now(location, outcome.plan, limit))
    typer.echo(f"As planned at {kept.made_at:%Y-%m-%d %H:%M} UTC ({path}).")


def plan_of_now(location: "ModuleType", found: dict[str, Any], limit: int | None) -> "KeptPlan":
    """What a dry run of now found, as it is kept."""
    from dtx_assets.machinery.base.lake import Lake
    from dtx_assets.machinery.run.kept_plan import Place, plan_to_keep

    system = location.SYSTEM
    place = Place(system.name, Lake(read_settings(location).lake_url), system.decisions.chosen)
    return plan_to_keep(place, found, datetime.now(UTC), limit)


@app.command(
    epilog="Examples:\n\n  dtx diagnose\n\n  dtx diagnose --json | jq '.findings[] | select(.state == \"no\")'\n\n"
    "  dtx diagnose --generic-keys postgresql://reader@host/django"
)
def diagnose(
    system: SystemArgument = FIRST,
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]",
            show_default=False,
            help="With --generic-keys: the Django database; by default the legacy one.",
        ),
    ] = None,
    generic_keys: Annotated[
        bool,
        typer.Option(
            "--generic-keys",
            help="List the generic foreign keys of a Django database, what they point at, and orphans. It only reads.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Look at everything a run needs, before anything is written. Exit code: 0 ready, 1 not, 2 wrong configuration."""
    if generic_keys:
        show_generic_keys(*((system, url) if url or "://" not in system else (FIRST, system)), as_json=as_json)
        raise typer.Exit(EXIT_OK)
    if url is not None:
        raise ConfigurationError(
            "a URL says nothing here", where="dtx diagnose", remedy="leave it out, or add --generic-keys"
        )
    with environment_of(system) as environment:
        from dtx_assets.cli.console import print_findings
        from dtx_assets.machinery.run.diagnose import diagnose as look_at

        findings = look_at(environment)
    ready = all(finding.state != "no" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ready": ready, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        print_findings(output(), findings)
    raise typer.Exit(EXIT_OK if ready else EXIT_STEP_FAILED)


def show_generic_keys(system: str, url: str | None, *, as_json: bool) -> None:
    """Of any Django database; a system is needed only to say where its legacy database is, or how names are."""
    from dtx_assets.cli.console import print_generic_keys
    from dtx_assets.machinery.sources.generic_keys import find_generic_keys, read_named_keys

    if url is None:
        url = read_settings(system_module(system)).legacy_url
        if url is None:
            raise ConfigurationError(
                "no database is named", where="dtx diagnose --generic-keys", remedy="give its URL behind it"
            )
    known = system in code_locations()
    mappings = system_module(system).SYSTEM.mappings_dir if known else Path("mappings") / system
    found = find_generic_keys(url, read_named_keys(mappings / "generic_keys.yaml"))
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        print_generic_keys(output(), found)


@app.command(epilog="Examples:\n\n  dtx plan\n\n  dtx plan --json | jq '.in_the_way[].name'")
def plan(
    system: SystemArgument = FIRST,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Plan only the first N source rows of each table.")
    ] = None,
    mode: Annotated[
        Literal["rehearsal", "cutover"],
        typer.Option(metavar="rehearsal|cutover", help="Whose gate is looked at."),
    ] = "cutover",
    accepts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the names of what is in the way there, to be accepted with reasons: for `dtx run --accepts`.",
            dir_okay=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep the plan there, for `dtx run --as-planned`.", dir_okay=False),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="With examples of what would change, and all that is in the way, by owner.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """A dry run: what `dtx run` would do to each target now, and what would be in the way. Nothing of it stays."""
    for file in (accepts, out):
        if file is not None:
            from dtx_assets.machinery.checks.acceptances import require_unwritten

            require_unwritten(file)
    location = code_location(system)

    from dtx_assets.cli.endings import print_plan

    options = {"mode": mode, **({"limit": limit} if limit else {})}
    outcome = perform(location, system, f"{system}_plan", options, quiet=as_json)
    if outcome.plan is None:
        summarise(location, system, outcome)
    elif as_json:
        typer.echo(json.dumps(outcome.plan, indent=2, default=str))
    else:
        shown_by = location.SYSTEM.decisions.demonstration
        print_plan(output(), system, outcome.plan, whole=everything, demonstration=shown_by)
    if out is not None and outcome.plan is not None:
        from dtx_assets.machinery.run.kept_plan import write_plan

        write_plan(out, plan_of_now(location, outcome.plan, limit))
        typer.echo(f"The plan is kept in {out}: `{typed(f'run --as-planned {out}', system)}` demands it.", err=as_json)
    if accepts is not None and outcome.plan is not None:
        from dtx_assets.machinery.checks.acceptances import write_acceptances
        from dtx_assets.machinery.checks.obstacles import of_plan

        names = write_acceptances(accepts, system, of_plan(outcome.plan))
        typer.echo(f"{names} names written to {accepts}: give each a reason, who, and until when.", err=as_json)
    raise typer.Exit(outcome.exit_code if outcome.plan is None else EXIT_OK)


@app.command(epilog="Examples:\n\n  dtx verify\n\n  dtx verify --prepared --json | jq '.[] | select(.lost > 0)'")
def verify(
    system: SystemArgument = FIRST,
    prepared: Annotated[
        bool, typer.Option("--prepared", help="Compare with what is prepared already; do not extract again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with more of what was found.")] = False,
) -> None:
    """Does the target hold what the mapping gives from the legacy data as it is now? Each row is compared by value.

    Each file of a row is compared with the object store. Rows that others own are left out. Exit code 3 where something
    is lost, extra or changed.
    """
    location = code_location(system)

    from dtx_assets.cli.console import print_verifications
    from dtx_assets.machinery.dagster.verification import VERIFIED

    checks = {key for key in location.defs.resolve_asset_graph().asset_check_keys if key.name == VERIFIED}
    outcome = perform(location, system, f"{system}_verify", {}, checks=checks if prepared else None, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(outcome.verifications, indent=2, default=str))
    else:
        print_verifications(output(), outcome.verifications)
    if outcome.failures:
        summarise(location, system, outcome)
        raise typer.Exit(outcome.exit_code)
    clean = all(check.passed for check in outcome.checks if check.name == VERIFIED)
    raise typer.Exit(EXIT_OK if clean else EXIT_CHECK_FAILED)


@app.command(
    epilog="Examples:\n\n  dtx explain EmailTemplate 114\n\n  dtx explain NotificationSchedule 17 days_after\n\n"
    "  dtx explain --from exemption 40",
)
def explain(
    what: Annotated[list[str], typer.Argument(metavar="TARGET ID [COLUMN]", help="A model or its table, and an id.")],
    from_legacy: Annotated[
        bool, typer.Option("--from", help="The other way: TABLE KEY is a legacy row; where did it go?")
    ] = False,
    system: SystemOption = FIRST,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show personal data of a target row as it is.")] = False,
) -> None:
    """Say where a target row comes from, column by column; or, with --from, where a legacy row went or why not."""
    from dtx_assets.machinery.base.yaml_file import suggestion
    from dtx_assets.machinery.run.explain import (
        explain_legacy_row,
        explain_target_row,
        legacy_row_lines,
        target_row_lines,
    )

    migration = system_module(system).SYSTEM
    if len(what) not in (2, 3) or (from_legacy and len(what) != 2):
        raise ConfigurationError(
            f"{len(what)} words do not name a row",
            where="dtx explain",
            remedy="TARGET ID [COLUMN], or --from TABLE KEY",
        )
    name, key, *column = what
    if from_legacy and name not in migration.legacy_tables:
        meant = suggestion(name, migration.legacy_tables)
        raise ConfigurationError(f"there is no legacy table {name!r}", where="--from", remedy=meant)
    target = next((table for table in migration.targets if name in (table.name, table.model)), None)
    gives_ids = target is None or (target.key == ("id",) and not target.key_is_written)
    if not from_legacy and gives_ids and not key.isdecimal():
        raise ConfigurationError(f"{key!r} is no id", where="dtx explain", remedy="a whole number: the id of the row")
    with environment_of(system) as environment:
        if from_legacy:
            facts = explain_legacy_row(environment, migration.legacy_tables[name], key)
            lines = legacy_row_lines(facts)
        else:
            target = target or migration.target(name)
            facts = explain_target_row(environment, target, key, unmasked=unmasked)
            if column and column[0] not in facts["columns"]:
                raise ConfigurationError(
                    f"{target.model} has no mapped column {column[0]!r}",
                    where="dtx explain",
                    remedy=suggestion(column[0], facts["columns"]),
                )
            lines = target_row_lines(facts, column[0] if column else None)
        if as_json:
            typer.echo(json.dumps(facts, indent=2, default=str, ensure_ascii=False))
        else:
            for line in lines:
                typer.echo(line)


@app.command(
    epilog="Examples:\n\n  dtx errors\n\n  dtx errors --table work_log --reason orphan_reference --format jsonl\n\n"
    "  dtx errors --output migration-errors.log"
)
def errors(
    system: SystemArgument = FIRST,
    table: Annotated[str | None, typer.Option(help="Only of this legacy or target table.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only with this reason code.")] = None,
    form: Annotated[
        Literal["log", "jsonl"],
        typer.Option("--format", metavar="log|jsonl", help="A log for people, or an entry a line in JSON."),
    ] = "log",
    to: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write it there, for the owner's eyes only.", dir_okay=False),
    ] = None,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show personal data as it is.")] = False,
) -> None:
    """Print what is rejected now, entry by entry, and the most frequent patterns."""
    from dtx_assets.machinery.run.explain import loaded_target
    from dtx_assets.machinery.run.rejected_log import Patterns, json_line, log_lines, rejected_entries, require_asked

    require_asked(system_module(system).SYSTEM, table, reason)
    with ExitStack() as stack:
        environment = stack.enter_context(environment_of(system))
        connection = stack.enter_context(loaded_target(environment))
        found = rejected_entries(connection, environment.system, table=table, reason=reason, unmasked=unmasked)
        out = stack.enter_context(private_file(to)) if to else sys.stdout
        patterns = Patterns()
        for entry in patterns.of(found):
            lines = log_lines(entry) if form == "log" else [json_line(entry)]
            out.writelines(f"{line}\n" for line in lines)
        if form == "log":
            out.writelines(f"{line}\n" for line in patterns.lines())


@app.command(epilog="Example:\n\n  dtx replay")
def replay(system: SystemArgument = FIRST) -> None:
    """Take the rejected rows again, after a value map, a crosswalk or a decision was mended; nothing is extracted."""
    location = code_location(system)
    execute(location, system, f"{system}_replay", {"only_rejected": True})


@app.command(
    epilog="Examples:\n\n  dtx rollback last --dry-run\n\n  dtx rollback 3f2a --with-later\n\n"
    "  dtx rollback dispatch --phase 3\n\nWithout a terminal to ask on, as in a script, it goes on as with --yes."
)
def rollback(
    run_id: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run, its first characters, or last; a system, with --phase."),
    ],
    system: SystemOption = FIRST,
    phase: Annotated[
        int | None, typer.Option(metavar="N", help="Undo only what phase N and those after it loaded, of the last run.")
    ] = None,
    with_later: Annotated[bool, typer.Option("--with-later", help="Undo the runs that built on it first.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be undone.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Undo it without asking.")] = False,
) -> None:
    """Undo a run: delete what it inserted, restore what it updated; what someone changed since is left and listed.

    It names date, mode, who and rows of what it is going to undo, and asks.
    """
    if phase is not None and run_id in code_locations():
        run_id, system = "last", run_id
    with environment_of(system) as environment:
        from dtx_assets.machinery.run.operations import named_runs, roll_back, undo_lines

        undone = named_runs(environment, run_id)
        if with_later or len(undone) == 1:
            confirm_undo(environment, undone, phase=phase, ask=not (yes or dry_run))
        summary = roll_back(environment, run_id, with_later=with_later, phase=phase, dry=dry_run, log=typer.echo)
        for line in undo_lines(summary, dry=dry_run):
            typer.echo(line)
    if not dry_run:
        page_written_anew(code_location(system), system)


@app.command(epilog="Example:\n\n  dtx activate")
def activate(system: SystemArgument = FIRST) -> None:
    """Switch on the rows that were loaded inactive; recorded as a run, which `dtx rollback` undoes."""
    with environment_of(system) as environment:
        from dtx_assets.machinery.run.operations import activate_targets

        for model, summary in activate_targets(environment, typer.echo).items():
            typer.echo(f"{model}: {summary.updated:,} rows switched on, {summary.conflicts:,} in conflict")
        typer.echo(f"Run {environment.run_id}; `dtx rollback {environment.run_id[:8]}` switches them off again.")
    page_written_anew(code_location(system), system)


def confirm_undo(environment: "RunEnvironment", run_ids: list[str], *, phase: int | None, ask: bool) -> None:
    """Say what is going to be undone; on a terminal it goes on only after a yes, where it is to be asked."""
    from dtx_assets.machinery.dagster.run import make_state_directory, open_instance
    from dtx_assets.machinery.report.history import RunHistory
    from dtx_assets.machinery.report.runs import cutovers_upon, runs_named
    from dtx_assets.machinery.run.operations import models_since

    make_state_directory(environment.settings.home)
    with open_instance(environment.settings.home) as instance:
        history = RunHistory(environment.system, instance)
        for run in runs_named(history, environment.target_url, run_ids):
            part = "" if phase is None else f"; of it what phase {phase} and those after it loaded"
            typer.echo(f"run {run.run_id[:8]}: {run.told}{part}")
        models = models_since(environment.system, phase)
        for cutover in cutovers_upon(history, environment.target_url, run_ids, models):
            typer.echo(f"run {cutover.run_id[:8]}, {cutover.told}, stands on these rows: without them it is undone too")
    if ask and sys.stdin.isatty() and not typer.confirm("Undo it?" if len(run_ids) == 1 else "Undo them?"):
        typer.echo("Nothing was undone.")
        raise typer.Exit(EXIT_STEP_FAILED)


def chosen_phases(system: "System", phase: str | None, through: int | None) -> str | None:
    """The selection of assets that loads some phases: all that they need, but no targets of those before."""
    if phase is None and through is None:
        return None
    if phase is not None and through is not None:
        raise ConfigurationError("--phase and --through-phase say the same twice", where="dtx run", remedy="give one")
    from dtx_assets.machinery.run.operations import derived_assets, derived_phase, require_phase

    first, _, last = phase.partition("-") if phase else ("1", "-", str(through))
    if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
        raise ConfigurationError(f"{phase!r} names no phases", where="--phase", remedy="give a number, or two: 2-4")
    begin, done = require_phase(system, int(first)), require_phase(system, int(last or first))
    loaded = [each.report for each in system.phases if begin <= each.number <= done][-1:]
    chosen = [f"+report/{report}" for report in loaded]
    if done == derived_phase(system):
        chosen += derived_assets(system)
    before = [target.model for each in system.phases if each.number < begin for target in system.models_of(each)]
    left_out = " or ".join(f"target/{model}" for model in before)
    return f"({' or '.join(chosen)})" + (f" and not ({left_out})" if before else "")


def confirm_cutover(settings: "Settings", *, yes: bool) -> None:
    """In production a cutover goes on only after the target database's name was typed, or with --yes."""
    from dtx_assets.machinery.base.settings import is_production, parameters_of

    if yes or settings.mode != "cutover" or not is_production():
        return
    target = parameters_of(settings.target_url) if settings.target_url else {}
    name = str(target.get("dbname") or target.get("service") or settings.system)
    what = f"a cutover in production (APP_ENV) into the database {name} of {target.get('host') or 'this machine'}"
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"{what} is not started without a confirmation, and there is no terminal to ask on",
            where="dtx run --mode cutover",
            remedy="give --yes",
        )
    if typer.prompt(f"This is {what}.\nType the database's name to go on", default="", show_default=False) != name:
        raise ConfigurationError(
            "that is not the database's name; nothing was started",
            where="dtx run --mode cutover",
            remedy=f"check {settings.system.upper()}_TARGET_URL, and run again",
        )


def accepted_with_reasons(given: list[str]) -> dict[str, str]:
    """`CHECK=REASON` taken apart; ConfigurationError where there is no reason."""
    reasons = {}
    for text in given:
        name, equals, reason = text.partition("=")
        if not equals or not reason.strip():
            raise ConfigurationError(
                f"{text!r} gives no reason", where="--accept", remedy=f"say why: --accept '{name}=the reason'"
            )
        reasons[name.strip()] = reason.strip()
    return reasons
