"""The command line, `dtx`. It starts things and shows what came of them; what they do is elsewhere.

Nothing heavy is imported before a command needs it: `dtx --help` answers at once.
"""

import gc
import getpass
import importlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from uuid import uuid4

import typer

from dtx_assets import interrupts
from dtx_assets.machinery.base.errors import ConfigurationError, MigrationError
from dtx_assets.machinery.base.exit_codes import (
    EXIT_CHECK_FAILED,
    EXIT_CODES,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_STEP_FAILED,
    EXIT_USAGE,
)
from dtx_assets.machinery.base.private import write_privately

if TYPE_CHECKING:
    from dagster import AssetCheckKey, AssetKey
    from rich.console import Console

    from dtx_assets.machinery.base.settings import Settings
    from dtx_assets.machinery.dagster.run import RunOutcome
    from dtx_assets.machinery.run.environment import RunEnvironment

WORKSPACE = Path(__file__).parents[1] / "workspace.yaml"
"""Names the code locations that come with this package; the current directory may name others."""
GUARDED_WEBSERVER = "dtx_assets.machinery.dagster.guarded_webserver"
FIRST = ""
"""Stands for the first system of the workspace."""

EXAMPLES_RUN = f"""
Examples:

  dtx run                                        everything

  dtx run --select target/EmailTemplate          one asset again

  dtx run --select "+target/EmailTemplate"       with all it needs

  dtx run --select 'group:"notifications"'       one area

  dtx run --select feed:vornado                  one feed (mappings/dtx/feeds), with all it needs

  dtx run --limit 100                            the first rows of each table

  dtx run --mode cutover --restore-point snap-7 --accept 'no_letter_row_is_rejected=…'

Exit code: {", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())}.
"""

EXAMPLES_QUERY = """
Examples:

  dtx archive query work_log "SELECT customer_id, count(*) FROM work_log GROUP BY ALL ORDER BY 2 DESC"

  dtx archive query vornado_feed 'SELECT "Tenant ID", "Lease End" FROM vornado_feed' --csv

  dtx archive query messagequeue "DESCRIBE messagequeue"

All columns are text, as they came: CAST what is a number or a time. In a table that came from a CSV, the texts \\N and
NULL mean NULL. Bytes that are not UTF-8 are shown escaped, and stand in TABLE_undecodable.
"""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Migrations as a Dagster asset graph: run them, look at them, load the target.\n\n"
    "Where inputs and outputs are is said by environment variables (DTX_LEGACY_URL, DTX_TARGET_URL, …);\n"
    "without any, the shipped sample is migrated into an embedded PostgreSQL under .dtx/.",
)
target_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The target database.")
app.add_typer(target_app, name="target")
archive_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The archived legacy tables.")
app.add_typer(archive_app, name="archive")


def chosen_system(name: str) -> str:
    return name or next(iter(code_locations()))


WHICH: dict[str, Any] = {
    "callback": chosen_system,
    "show_default": False,
    "help": "Which migration of the workspace; by default its first one.",
}
SystemArgument = Annotated[str, typer.Argument(metavar="[SYSTEM]", **WHICH)]
SystemOption = Annotated[str, typer.Option("--system", **WHICH)]


@app.command(epilog=EXAMPLES_RUN)
def run(
    system: SystemArgument = FIRST,
    select: Annotated[
        str | None, typer.Option(metavar="ASSETS", help="Only these assets, in Dagster's selection syntax.")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="rehearsal or cutover; DTX_MODE when not given.")] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK=REASON", help="Cut over in spite of it; recorded. May be given many times."),
    ] = None,
    restore_point: Annotated[
        str | None, typer.Option(metavar="NAME", help="A snapshot of the target database; a cutover asks for it.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Load only the first N source rows of each table.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every legacy file again, of the same size and time too.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Cut over in production without the database's name being typed.")
    ] = False,
) -> None:
    """Migrate: extract, map, prepare, load and check, in this process, and say what came of it."""
    location = code_location(system)
    if mode is not None:
        os.environ[f"{system.upper()}_MODE"] = mode
    if verify:
        os.environ[f"{system.upper()}_VERIFY_FILES"] = "1"
    confirm_cutover(read_settings(location), yes=yes)

    from dtx_assets.machinery.checks.gate import require_known
    from dtx_assets.machinery.dagster.gate import known_obstacles
    from dtx_assets.machinery.dagster.run import select_assets
    from dtx_assets.machinery.feeds.selection import expand_feeds

    reasons = accepted_with_reasons(accept or [])
    require_known(reasons, known_obstacles(location.SYSTEM, location.defs.resolve_asset_graph()))

    selection = None if select is None else select_assets(location.defs, system, expand_feeds(select, location.SYSTEM))
    options = {
        "accept": reasons,
        "accepted_by": operator(),
        **({"restore_point": restore_point} if restore_point else {}),
        **({"limit": limit} if limit else {}),
    }
    execute(location, system, system, options, selection)


@app.command(
    epilog="Examples:\n\n  dtx diagnose\n\n  dtx diagnose --json | jq '.findings[] | select(.state == \"no\")'"
)
def diagnose(
    system: SystemArgument = FIRST,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Look at everything a run needs, before anything is written. Exit code: 0 ready, 1 not, 2 wrong configuration."""
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


@app.command(epilog="Examples:\n\n  dtx plan\n\n  dtx plan --json | jq '.in_the_way[].name'")
def plan(
    system: SystemArgument = FIRST,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Plan only the first N source rows of each table.")
    ] = None,
    mode: Annotated[str, typer.Option(help="Whose gate is looked at: rehearsal or cutover.")] = "cutover",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """A dry run: what `dtx run` would do to each target now, and what would be in the way. Nothing of it stays."""
    location = code_location(system)

    from dtx_assets.cli.console import print_plan

    options = {"mode": mode, **({"limit": limit} if limit else {})}
    outcome = perform(location, system, f"{system}_plan", options, quiet=as_json)
    if outcome.plan is None:
        summarise(location, system, outcome)
    elif as_json:
        typer.echo(json.dumps(outcome.plan, indent=2, default=str))
    else:
        print_plan(output(), outcome.plan)
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
        tables = ", ".join(migration.legacy_tables)
        raise ConfigurationError(f"there is no legacy table {name!r}", where="--from", remedy=f"one of: {tables}")
    target = next((table for table in migration.targets if table.name == name), None)
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
                    remedy=f"one of: {', '.join(facts['columns'])}",
                )
            lines = target_row_lines(facts, column[0] if column else None)
        if as_json:
            typer.echo(json.dumps(facts, indent=2, default=str, ensure_ascii=False))
        else:
            for line in lines:
                typer.echo(line)


@app.command(epilog="Example:\n\n  dtx replay")
def replay(system: SystemArgument = FIRST) -> None:
    """Take the rejected rows again, after a value map, a crosswalk or a decision was mended; nothing is extracted."""
    location = code_location(system)
    execute(location, system, f"{system}_replay", {"only_rejected": True})


@app.command(epilog="Examples:\n\n  dtx rollback last --dry-run\n\n  dtx rollback 3f2a --with-later")
def rollback(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run, its first characters, or last.")],
    system: SystemOption = FIRST,
    with_later: Annotated[bool, typer.Option("--with-later", help="Undo the runs that built on it first.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be undone.")] = False,
) -> None:
    """Undo a run: delete what it inserted, restore what it updated; what someone changed since is left and listed."""
    with environment_of(system) as environment:
        from dtx_assets.machinery.run.operations import roll_back, undo_lines

        summary = roll_back(environment, run_id, with_later=with_later, dry=dry_run, log=typer.echo)
        for line in undo_lines(summary, dry=dry_run):
            typer.echo(line)


@app.command(epilog="Example:\n\n  dtx activate")
def activate(system: SystemArgument = FIRST) -> None:
    """Switch on the rows that were loaded inactive; recorded as a run, which `dtx rollback` undoes."""
    with environment_of(system) as environment:
        from dtx_assets.machinery.run.operations import activate_targets

        for model, summary in activate_targets(environment, typer.echo).items():
            typer.echo(f"{model}: {summary.updated:,} rows switched on, {summary.conflicts:,} in conflict")
        typer.echo(f"Run {environment.run_id}; `dtx rollback {environment.run_id[:8]}` switches them off again.")


@app.command(epilog="Examples:\n\n  dtx status\n\n  dtx status --json | jq '.checks[] | select(.state == \"failed\")'")
def status(
    system: SystemArgument = FIRST,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """The last state of each asset and each check."""
    location = code_location(system)
    settings = read_settings(location)

    from dtx_assets.cli.console import print_states
    from dtx_assets.machinery.dagster.run import latest_states, make_state_directory, open_instance

    make_state_directory(settings.home)
    with open_instance(settings.home) as instance:
        assets, checks = latest_states(location.defs, instance)
    if as_json:
        states = {"assets": [asdict(asset) for asset in assets], "checks": [asdict(check) for check in checks]}
        typer.echo(json.dumps(states, indent=2, default=lambda at: at.isoformat()))
    else:
        print_states(output(), assets, checks)


@app.command(epilog="Examples:\n\n  dtx report\n\n  dtx report --output cutover.html")
def report(
    system: SystemArgument = FIRST,
    to: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write it there too.", dir_okay=False)
    ] = None,
) -> None:
    """Write the cutover page as things are now: one HTML file, to look at or to send."""
    location = code_location(system)
    settings = read_settings(location)

    from dtx_assets.machinery.dagster.run import select_assets
    from dtx_assets.machinery.report.asset import CUTOVER, page_path

    selection = select_assets(location.defs, system, f"report/{CUTOVER}")
    outcome = perform(location, system, system, {}, selection, quiet=True)
    if outcome.exit_code:
        summarise(location, system, outcome)
        raise typer.Exit(outcome.exit_code)
    page = page_path(settings)
    if to is not None:
        to.parent.mkdir(parents=True, exist_ok=True)
        page = Path(shutil.copyfile(page, to))
    typer.echo(str(page))


@target_app.command("ddl", epilog="Example:\n\n  dtx target ddl | psql rehearsal")
def target_ddl(system: SystemArgument = FIRST) -> None:
    """Print the target tables as SQL, to set up a rehearsal database by hand."""
    from dtx_assets.machinery.load import target_ddl as render

    typer.echo(render(code_location(system).SYSTEM.targets))


@archive_app.command("list", epilog="Examples:\n\n  dtx archive list\n\n  dtx archive list --json | jq '.[].rows'")
def archive_list(
    system: SystemArgument = FIRST,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all that the manifests say.")] = False,
) -> None:
    """Which tables are archived, with rows, columns, sizes and checksums."""
    location = code_location(system)
    settings = read_settings(location)

    from dtx_assets.cli.console import print_archives
    from dtx_assets.machinery.archive.store import archives
    from dtx_assets.machinery.base.lake import open_archive

    place = open_archive(settings.archive_url)
    stored = archives(place, system, location.SYSTEM.legacy_tables)
    if as_json:
        listed = [{**manifest.metadata, "location": place.location(manifest, "")} for manifest in stored.values()]
        typer.echo(json.dumps(listed, indent=2))
    else:
        print_archives(output(), stored.values(), settings.masked()["archive_url"])


@archive_app.command("query", epilog=EXAMPLES_QUERY)
def archive_query(
    table: Annotated[str, typer.Argument(help="A legacy table that is archived.")],
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT.")],
    system: SystemOption = FIRST,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, all rows.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, all rows.")] = False,
) -> None:
    """Look into an archived table with SQL (DuckDB). What it answers is NOT masked: personal data is shown as it is."""
    if as_csv and as_json:
        raise ConfigurationError(
            "--csv and --json exclude each other", where="--csv, --json", remedy="give one of them"
        )
    location = code_location(system)
    settings = read_settings(location)

    from dtx_assets.cli.console import print_answer, write_csv, write_json
    from dtx_assets.machinery.archive.query import ask
    from dtx_assets.machinery.archive.store import archives
    from dtx_assets.machinery.base.lake import open_archive

    place = open_archive(settings.archive_url)
    stored = archives(place, system, location.SYSTEM.legacy_tables)
    if table not in stored:
        raise ConfigurationError(
            f"{table!r} is not archived" if table in location.SYSTEM.legacy_tables else f"there is no table {table!r}",
            where=settings.masked()["archive_url"],
            remedy=f"one of: {', '.join(stored)}" if stored else "`dtx run` archives all tables",
        )
    with ask(place, stored[table], sql) as answer:
        if as_csv:
            write_csv(sys.stdout, answer)
        elif as_json:
            write_json(sys.stdout, answer)
        else:
            print_answer(output(), answer)


@app.command(
    epilog="Examples:\n\n  dtx purge --older-than 30d --dry-run\n\n  dtx purge --older-than 4w --runs\n\n"
    "With --current, the next run extracts and prepares everything again, and open rejected rows keep key and reasons."
)
def purge(
    older_than: Annotated[str, typer.Option(metavar="AGE", help="12h, 30d or 4w.")],
    system: SystemArgument = FIRST,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    runs: Annotated[bool, typer.Option("--runs", help="Dagster's history of finished runs as well.")] = False,
    current: Annotated[
        bool,
        typer.Option("--current", help="What counts now as well: current datasets, content of open rejected rows."),
    ] = False,
) -> None:
    """Remove what may hold personal data and is older than that: rejected rows, datasets, logs, reports."""
    from dtx_assets.cli.retention import parse_age

    before = datetime.now(UTC) - parse_age(older_than)
    location = code_location(system)
    settings = read_settings(location)

    from dtx_assets.cli.console import print_purged
    from dtx_assets.cli.retention import stale_datasets, stale_files, stale_rejected, stale_runs
    from dtx_assets.machinery.base.lake import Lake
    from dtx_assets.machinery.dagster.run import latest_states, open_instance

    found = [
        *stale_datasets(Lake(settings.lake_url), system, before, current=current),
        *stale_files(settings.home, before),
        *(stale_rejected(settings.target_url, system, before, current=current) if settings.target_url else ()),
    ]
    with ExitStack() as stack:
        stack.enter_context(interrupts.unwinding())
        if runs:
            instance = stack.enter_context(open_instance(settings.home))
            shown = {state.run_id for states in latest_states(location.defs, instance) for state in states}
            found += stale_runs(instance, settings.home, before, {run_id for run_id in shown if run_id})
        removed = []
        try:
            for stale in () if dry_run else found:
                stale.remove()
                removed.append(stale)
        finally:
            print_purged(output(), found if dry_run else removed, dry=dry_run)
    if settings.target_url is None:
        typer.echo("The embedded database is left as it is; `make clean` removes it.")


@app.command(epilog="Examples:\n\n  dtx ui\n\n  dtx ui --read-only --port 3001")
def ui(
    system: SystemArgument = FIRST,
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, but start nothing.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="3000, or the next free one.")] = None,
) -> None:
    """Serve the Dagster UI on 127.0.0.1, with the history of all runs, until it is interrupted."""
    location = code_location(system)
    settings = read_settings(location)

    from dtx_assets.machinery.dagster.run import instance_directory

    if port and not is_free(port):
        raise ConfigurationError(
            f"something else listens on port {port}", where="--port", remedy="name another one, or leave --port out"
        )
    chosen = port or free_port(3000)
    command = [sys.executable, "-m", GUARDED_WEBSERVER, "-h", "127.0.0.1", "-p", str(chosen)]
    command += ["-w", str(workspace()), *(["--read-only"] if read_only else [])]
    environment = {**os.environ, "DAGSTER_HOME": str(instance_directory(settings.home).absolute())}
    with ExitStack() as stack:
        if settings.target_url is None and not read_only:
            from dtx_assets.machinery.postgres.embedded import embedded_postgres

            stack.enter_context(embedded_postgres(settings.home))
        typer.echo(f"The Dagster UI is at http://127.0.0.1:{chosen} (Ctrl-C ends it)")
        raise typer.Exit(run_until_interrupted(command, environment))


@app.command(
    epilog="Examples:\n\n  dtx daemon\n\n"
    "  DTX_LEGACY_URL=s3://exports/dtx DTX_REHEARSAL_CRON='30 2 * * 1-5' dtx daemon\n\n"
    "Both are off until they are switched on in the UI, under Automation: dtx_new_export and dtx_rehearsal."
)
def daemon(system: SystemArgument = FIRST) -> None:
    """Run what is switched on to run by itself, a delta for each new export and rehearsals, until it is interrupted."""
    settings = read_settings(code_location(system))

    from dtx_assets.machinery.dagster.run import instance_directory

    environment = {**os.environ, "DAGSTER_HOME": str(instance_directory(settings.home).absolute())}
    command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(workspace())]
    raise typer.Exit(run_until_interrupted(command, environment))


@app.command(epilog="Examples:\n\n  dtx sample --rows 100000 /tmp/big\n\n  DTX_LEGACY_URL=/tmp/big dtx run")
def sample(
    directory: Annotated[Path, typer.Argument(help="Where to write; made if it is not there.")],
    rows: Annotated[int, typer.Option(min=1, help="Notification rows; other tables are in proportion.")] = 100,
    seed: Annotated[int | None, typer.Option(help="Another one gives other rows; the same one the same bytes.")] = None,
    ugly_share: Annotated[float, typer.Option(min=0, max=1, help="Share of rows that cannot be migrated.")] = 0.0,
) -> None:
    """Write a sample of any size: legacy tables, crosswalks, other areas' rows, some files."""
    from dtx_assets.dtx.sample import DEFAULT_SEED, write_sample

    write_sample(directory, rows, DEFAULT_SEED if seed is None else seed, ugly_share=ugly_share)
    typer.echo(f"{directory} holds a sample; DTX_LEGACY_URL={directory} dtx run migrates it")


@app.command(
    epilog='Examples:\n\n  dtx psql\n\n  dtx psql -- -c "SELECT source_table, reasons, count(*) FROM migration.rejected'
    ' GROUP BY 1, 2"',
)
def psql(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[-- ARGUMENTS]", help="Passed to psql.")] = None,
    system: SystemOption = FIRST,
) -> None:
    """Open psql on the target database, the embedded one where no other is named. The password is not shown."""
    settings = read_settings(code_location(system))

    from dtx_assets.cli.psql import run_psql

    raise typer.Exit(run_psql(settings, system, arguments or []))


# --- what commands share ----------------------------------------------------------------------------------------------


def workspace() -> Path:
    """The file that names the code locations, as Dagster reads it: `workspace.yaml` here, else the package's own."""
    here = Path("workspace.yaml").absolute()
    return here if here.is_file() else WORKSPACE


def code_locations() -> dict[str, str]:
    """The module of each system of the workspace."""
    from dtx_assets.cli.workspace import read_workspace

    return read_workspace(workspace())


def code_location(system: str) -> ModuleType:
    """The definitions module of a system: `defs` and `SYSTEM`."""
    return module_of(system)


def system_module(system: str) -> ModuleType:
    """The module with the `SYSTEM` alone, for what needs no graph: importing Dagster takes seconds."""
    return module_of(system, "decided_system")


def module_of(system: str, beside: str | None = None) -> ModuleType:
    """The module that the workspace names for a system, or one beside it, where there is such a one."""
    locations = code_locations()
    if system not in locations:
        raise ConfigurationError(
            f"there is no system {system!r}", where="SYSTEM", remedy=f"one of: {', '.join(locations)}"
        )
    directory = str(workspace().parent)
    if workspace() != WORKSPACE and directory not in sys.path:
        # As Dagster does: modules that a workspace names lie beside it.
        sys.path.insert(0, directory)
    package = locations[system].rpartition(".")[0]
    with _without_collecting_garbage():
        if beside and package and importlib.util.find_spec(f"{package}.{beside}"):
            return importlib.import_module(f"{package}.{beside}")
        return importlib.import_module(locations[system])


@contextmanager
def _without_collecting_garbage() -> "Iterator[None]":
    """Imports make much and leave nothing to collect: looking through all of it, again and again, took 2 s of a run."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def read_settings(location: ModuleType) -> "Settings":
    """Settings from the environment; what is wrong with them is told before anything starts."""
    from dtx_assets.machinery.base.settings import Settings, apply_environment_files

    apply_environment_files()
    return Settings.from_environment(location.SYSTEM.name, sample_dir=location.SYSTEM.sample_dir)


def execute(
    location: ModuleType,
    system: str,
    job: str,
    options: dict[str, Any],
    selection: "set[AssetKey] | None" = None,
) -> NoReturn:
    """Run a job in this process, say what came of it, and end with its exit code."""
    outcome = perform(location, system, job, options, selection)
    summarise(location, system, outcome)
    raise typer.Exit(outcome.exit_code)


def perform(
    location: ModuleType,
    system: str,
    job_name: str,
    options: dict[str, Any],
    selection: "set[AssetKey] | None" = None,
    *,
    checks: "set[AssetCheckKey] | None" = None,
    quiet: bool = False,
) -> "RunOutcome":
    """Run a job, or what is selected of it, in this process, with its progress on the terminal."""
    settings = read_settings(location)

    from dtx_assets.cli.console import RunDisplay
    from dtx_assets.machinery.base.progress import listening
    from dtx_assets.machinery.dagster.run import make_state_directory, open_instance, planned_job, run_job

    job = planned_job(location.defs, job_name, selection, checks)
    make_state_directory(settings.home)
    with (
        interrupts.unwinding(),
        open_instance(settings.home) as instance,
        RunDisplay(errors() if quiet else output(), system, len(job.nodes)) as display,
        listening(display),
    ):
        return run_job(job, settings.home, instance, display, options)


def summarise(location: ModuleType, system: str, outcome: "RunOutcome") -> None:
    settings = read_settings(location)

    from dtx_assets.cli.console import print_summary
    from dtx_assets.machinery.dagster.run import LOG_DIRECTORY
    from dtx_assets.machinery.report.asset import page_path

    print_summary(
        output(),
        system,
        outcome,
        {
            "Rejected rows": "table migration.rejected of the target database (`dtx psql` opens the embedded one)",
            "Lake": settings.masked()["lake_url"],
            "Archive": f"{settings.masked()['archive_url']} (`dtx archive list`)",
            "Log": str(settings.home / LOG_DIRECTORY),
            "Cutover page": f"{page_path(settings)} (`dtx report` writes it anew)",
            "The graph with this history": "`make ui` or `dtx ui`",
        },
    )


@contextmanager
def environment_of(system: str) -> "Iterator[RunEnvironment]":
    """What the steps of a run share, for what is no run of assets; with an id of its own."""
    location = system_module(system)
    read_settings(location)

    from dtx_assets.machinery.run.environment import RunEnvironment, RunOptions

    options = RunOptions(accepted_by=operator())
    with (
        interrupts.unwinding(),
        RunEnvironment(location.SYSTEM, str(uuid4()), datetime.now(UTC), options=options) as environment,
    ):
        yield environment


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


def operator() -> str:
    """Who runs this, as far as the machine knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def errors() -> "Console":
    from rich.console import Console

    return Console(stderr=True, width=160, force_terminal=False)


def output() -> "Console":
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160, force_terminal=False)


def free_port(first: int) -> int:
    for port in range(first, first + 100):
        if is_free(port):
            return port
    raise ConfigurationError(f"no free port from {first} to {first + 99}", remedy="name one with --port")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def run_until_interrupted(command: list[str], environment: dict[str, str]) -> int:
    """Run a server in the foreground; an interrupt or a termination ends it and counts as success."""
    process = subprocess.Popen(command, env=environment)
    interrupted = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        process.send_signal(signal.SIGINT)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if process.poll() is None:
            process.kill()
    return 0 if interrupted else code


def main() -> None:
    """The `dtx` command: exits with 0, 1, 2, 3 or 130, and tells errors without a traceback."""
    write_privately()
    with interrupts.handled():
        try:
            app()
        except MigrationError as error:
            if interrupts.was_interrupted():
                interrupts.end()
            from rich.console import Console

            from dtx_assets.cli.console import print_error

            print_error(Console(stderr=True), error)
            sys.exit(EXIT_USAGE if isinstance(error, ConfigurationError) else EXIT_STEP_FAILED)
        except SystemExit as ended:
            if ended.code == EXIT_INTERRUPTED:
                interrupts.end()
            raise
        except BaseException as error:
            if interrupts.is_interrupt(type(error)) or interrupts.was_interrupted():
                interrupts.end()
            from dtx_assets.machinery.base.no_place import no_place

            if (refused := no_place(error)) is None:
                raise
            from dtx_assets.cli.console import print_error

            print_error(errors(), refused)
            sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()
