"""The commands that show what is there, and remove what need not be: states, the page, archives, old data."""

import csv
import json
import shutil
import sys
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from dtx_assets import interrupts
from dtx_assets.cli.shared import (
    FIRST,
    SystemArgument,
    SystemOption,
    app,
    archive_app,
    chosen_system,
    code_location,
    code_locations,
    environment_of,
    in_the_way_now,
    output,
    perform,
    read_settings,
    summarise,
    system_module,
    target_app,
    typed,
)
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from dtx_assets.machinery.base.private import private_file

if TYPE_CHECKING:
    from dtx_assets.machinery.base.lake import Lake, Manifest
    from dtx_assets.machinery.base.settings import Settings

RUNS_LISTED = 20
EXAMPLES_QUERY = """
Examples:

  dtx archive query work_log "SELECT customer_id, count(*) FROM work_log GROUP BY ALL ORDER BY 2 DESC"

  dtx archive query vornado_feed 'SELECT "Tenant ID", "Lease End" FROM vornado_feed' --csv

  dtx archive query messagequeue "DESCRIBE messagequeue"

All columns are text, as they came: CAST what is a number or a time. In a table that came from a CSV, the texts \\N and
NULL mean NULL. Bytes that are not UTF-8 are shown escaped, and stand in TABLE_undecodable.
"""


@app.command(
    epilog="Examples:\n\n  dtx status\n\n  dtx status --failed\n\n  dtx status EmailTemplate\n\n"
    "  dtx status --json | jq '.checks[] | select(.state == \"failed\")'"
)
def status(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SYSTEM] [NAME]",
            show_default=False,
            help="Which migration; only the assets of this name or key, such as letter or legacy/letter.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Each asset and each check.")] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only the checks that failed or warned: each of them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show in a dozen lines what is made and which checks failed first; the rest by --all, --failed or a name."""
    system, name = system_and_table(words or [])
    location = code_location(system)
    settings = read_settings(location)

    from dtx_assets.cli.console import print_states, print_states_in_short
    from dtx_assets.machinery.dagster.run import latest_states, make_state_directory, open_instance

    make_state_directory(settings.home)
    with open_instance(settings.home) as instance:
        assets, checks = latest_states(location.defs, instance)
    if name is not None:
        from dtx_assets.machinery.base.yaml_file import suggestion

        known = sorted({part for asset in assets for part in (asset.asset, asset.asset.rpartition("/")[2])})
        if name not in known:
            raise ConfigurationError(
                f"no asset of {system} is called {name}", where="dtx status", remedy=suggestion(name, known)
            )
        assets = [asset for asset in assets if name in (asset.asset, asset.asset.rpartition("/")[2])]
        checks = [check for check in checks if name in (check.asset, check.asset.rpartition("/")[2])]
    if failed:
        checks = [check for check in checks if check.state in ("failed", "warned")]
    if as_json:
        states = {
            "assets": [asdict(asset) for asset in assets],
            # What they found is `dtx todo`.
            "checks": [{name: fact for name, fact in vars(check).items() if name != "found"} for check in checks],
        }
        typer.echo(json.dumps(states, indent=2, default=lambda at: at.isoformat()))
    elif everything or failed or name is not None:
        print_states(output(), [] if failed else assets, checks)
    else:
        print_states_in_short(output(), system, assets, checks)


@app.command(
    epilog="Examples:\n\n  dtx todo\n\n  dtx todo --owner 'compliance lead'\n\n  dtx todo --json | jq '.[].name'"
)
def todo(
    system: SystemArgument = FIRST,
    owner: Annotated[str | None, typer.Option(help="Only what this owner has to do: part of the name will do.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Who has to do what before a cutover: each decision, action, question and kind of rejected rows, once.

    Of rows it knows what the last run or plan found. Exit code 0: nothing is in the way; 3: something is.
    """
    location = code_location(system)

    from dtx_assets.cli.console import print_todo
    from dtx_assets.cli.endings import print_demonstration
    from dtx_assets.machinery.checks.obstacles import by_owner

    found = in_the_way_now(location, system)
    owners = by_owner(found)
    chosen = [name for name in owners if owner is None or owner.casefold() in name.casefold()]
    if owners and not chosen:
        raise ConfigurationError(
            f"nothing is in the way that {owner!r} answers for", where="--owner", remedy=f"one of: {', '.join(owners)}"
        )
    shown = [obstacle for name in chosen for obstacle in owners[name]]
    if as_json:
        typer.echo(json.dumps([obstacle.as_json() for obstacle in shown], indent=2, ensure_ascii=False))
    else:
        print_demonstration(output(), location.SYSTEM.decisions.demonstration)
        print_todo(output(), shown, all_of=len(found))
    raise typer.Exit(EXIT_CHECK_FAILED if found else EXIT_OK)


@app.command(
    epilog="Examples:\n\n  dtx rejected\n\n  dtx rejected exemption --reason unmapped_value\n\n"
    "  dtx rejected --owner 'compliance lead' --csv to-mend.csv"
)
def rejected(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SYSTEM] [TABLE]", show_default=False, help="Which migration; only of this legacy or target table."
        ),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Only with this reason code.")] = None,
    owner: Annotated[
        str | None, typer.Option(help="Only what this owner has to mend: part of the name will do.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write all these rows there, to send them.", dir_okay=False),
    ] = None,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show personal data as it is.")] = False,
) -> None:
    """Say who has to mend which rejected rows, and how; --csv writes what to send to the owner of the data.

    Exit code 0: nothing is rejected; 3: something is. `dtx errors` prints each row whole.
    """
    system, table = system_and_table(words or [])

    from dtx_assets.cli.console import counted, harmless, print_rejected
    from dtx_assets.machinery.run.explain import loaded_target
    from dtx_assets.machinery.run.rejected_log import require_asked
    from dtx_assets.machinery.run.rejected_owners import CSV_COLUMNS, examples_of, rejected_kinds, rows_to_send

    require_asked(system_module(system).SYSTEM, table, reason, place="TABLE")
    with ExitStack() as stack:
        environment = stack.enter_context(environment_of(system))
        connection = stack.enter_context(loaded_target(environment))
        migration = environment.system
        kinds = rejected_kinds(connection, migration, table=table, reason=reason, owner=owner)
        if to is not None:
            owners = {kind.owner for kind in kinds}
            found = rows_to_send(connection, migration, table=table, reason=reason, owners=owners, unmasked=unmasked)
            writer = csv.writer(stack.enter_context(private_file(to)), lineterminator="\n")
            writer.writerow(CSV_COLUMNS)
            count = 0
            for row in found:
                writer.writerow(map(harmless, row))
                count += 1
            typer.echo(f"{counted(count, 'row')} for {'; '.join(sorted(owners)) or 'nobody'} written to {to}.")
        else:
            examples = examples_of(connection, migration, kinds, reason=reason, unmasked=unmasked)
            print_rejected(output(), system, kinds, examples)
    raise typer.Exit(EXIT_CHECK_FAILED if kinds else EXIT_OK)


def system_and_table(words: list[str]) -> tuple[str, str | None]:
    """`[SYSTEM] [TABLE]`: one word alone is a system where there is such a one, else a table of the first."""
    if len(words) > 2:
        raise ConfigurationError(
            f"{len(words)} words name no table", where="dtx rejected", remedy="[SYSTEM] [TABLE], at most one of each"
        )
    if words and (len(words) == 2 or words[0] in code_locations()):
        return words[0], (words[1] if len(words) == 2 else None)
    return chosen_system(FIRST), (words[0] if words else None)


@app.command(epilog="Examples:\n\n  dtx runs\n\n  dtx runs --json | jq '.[] | select(.mode == \"cutover\")'")
def runs(
    system: SystemArgument = FIRST,
    last: Annotated[int, typer.Option(min=1, metavar="N", help="So many runs, the latest first.")] = RUNS_LISTED,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Which runs there were that loaded or were to: when, mode, who, rows, how they ended, refused and undone ones."""
    location = system_module(system)
    settings = read_settings(location)

    from dtx_assets.cli.console import print_runs
    from dtx_assets.machinery.dagster.run import make_state_directory, open_instance
    from dtx_assets.machinery.report.history import RunHistory
    from dtx_assets.machinery.report.runs import listed_runs

    make_state_directory(settings.home)
    with environment_of(system) as environment, open_instance(settings.home) as instance:
        found = listed_runs(RunHistory(location.SYSTEM, instance), environment.target_url, last)
    if as_json:
        listed = [{**asdict(run), "ended": run.ended} for run in found]
        typer.echo(json.dumps(listed, indent=2, default=lambda at: at.isoformat()))
    else:
        print_runs(output(), system, found)


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

    migration = code_location(system).SYSTEM
    given = migration.target_sql
    typer.echo(given.read_text("utf-8") if given else render(migration.targets))
    if migration.derived:
        from dtx_assets.machinery.derived.schema import EMBEDDINGS_SQL, QUEUE_SQL

        for file in (QUEUE_SQL, EMBEDDINGS_SQL):
            typer.echo((migration.mappings_dir / file).read_text("utf-8"))


@archive_app.command("list", epilog="Examples:\n\n  dtx archive list\n\n  dtx archive list --json | jq '.[].rows'")
def archive_list(
    system: SystemArgument = FIRST,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all that the manifests say.")] = False,
) -> None:
    """Which tables are archived, with rows, columns, sizes and checksums."""
    location = code_location(system)
    settings = read_settings(location)

    from dtx_assets.cli.console import print_archives

    place, stored = archived_tables(location, settings)
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
    from dtx_assets.machinery.base.yaml_file import suggestion

    place, stored = archived_tables(location, settings)
    if table not in stored:
        raise ConfigurationError(
            f"{table!r} is not archived" if table in location.SYSTEM.legacy_tables else f"there is no table {table!r}",
            where=settings.masked()["archive_url"],
            remedy=suggestion(table, stored, all_told=True)
            if stored
            else f"`{typed('run', system)}` archives all tables",
        )
    with ask(place, stored[table], sql) as answer:
        if as_csv:
            write_csv(sys.stdout, answer)
        elif as_json:
            write_json(sys.stdout, answer)
        else:
            print_answer(output(), answer)


def archived_tables(location: ModuleType, settings: "Settings") -> "tuple[Lake, dict[str, Manifest]]":
    """The archive, and what is in it of each legacy table, and of the collections that nobody declared."""
    from dtx_assets.machinery.archive.store import archives, undeclared_archives
    from dtx_assets.machinery.base.lake import open_archive

    place = open_archive(settings.archive_url)
    system = location.SYSTEM
    found = archives(place, system.name, system.legacy_tables)
    if system.reads_documents:
        found |= undeclared_archives(place, system.name, system.legacy_tables)
    return place, found


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
