"""What commands of `dtx` share: the application, which system is meant, settings, running a job, what is said of it."""

import gc
import getpass
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from uuid import uuid4

import typer

from dtx_assets import interrupts
from dtx_assets.cli.help import Commands
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.exit_codes import EXIT_OK

if TYPE_CHECKING:
    from dagster import AssetCheckKey, AssetKey
    from rich.console import Console

    from dtx_assets.machinery.base.settings import Settings
    from dtx_assets.machinery.checks.obstacles import Obstacle
    from dtx_assets.machinery.dagster.gate import GateOfInstance
    from dtx_assets.machinery.dagster.run import RunOutcome
    from dtx_assets.machinery.report.asset import Page
    from dtx_assets.machinery.run.environment import RunEnvironment

WORKSPACE = Path(__file__).parents[1] / "workspace.yaml"
"""Names the code locations that come with this package; the current directory may name others."""
FIRST = ""
"""Stands for the first system of the workspace."""
app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Migrations as a Dagster asset graph: run them, look at them, load the target.\n\n"
    "Where inputs and outputs are is said by environment variables (DTX_LEGACY_URL, DTX_TARGET_URL, …);\n"
    "without any, the shipped sample is migrated into an embedded PostgreSQL under .dtx/.",
)


def print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"dtx {version('dtx-assets')}")
        raise typer.Exit(EXIT_OK)


@app.callback()
def options_of_all(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Say which version this is, and end."),
    ] = False,
) -> None:
    pass


target_app = typer.Typer(
    cls=Commands, no_args_is_help=True, rich_markup_mode=None, help="Print the tables of the target database."
)


app.add_typer(target_app, name="target")


archive_app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List archived legacy tables, and ask them in SQL.",
)


app.add_typer(archive_app, name="archive")


def chosen_system(name: str) -> str:
    return name or next(iter(code_locations()))


def typed(command: str, system: str) -> str:
    """A command as it is typed for a system: `dtx todo --all`, of another one than the first `dtx todo pad --all`."""
    name, _, rest = command.partition(" ")
    if not system or system == next(iter(code_locations())):
        words = [name, rest]
    else:
        words = [name, rest, "--system", system] if name == "rollback" else [name, system, rest]
    return " ".join(["dtx", *filter(None, words)])


WHICH: dict[str, Any] = {
    "callback": chosen_system,
    "show_default": False,
    "help": "Which migration of the workspace; by default its first one.",
}
SystemArgument = Annotated[str, typer.Argument(metavar="[SYSTEM]", **WHICH)]
SystemOption = Annotated[str, typer.Option("--system", **WHICH)]


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
        from dtx_assets.machinery.base.yaml_file import suggestion

        raise ConfigurationError(f"there is no system {system!r}", where="SYSTEM", remedy=suggestion(system, locations))
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
    from dtx_assets.machinery.base.settings import apply_environment_files
    from dtx_assets.machinery.system.system import settings_of

    apply_environment_files()
    return settings_of(location.SYSTEM)


def execute(
    location: ModuleType,
    system: str,
    job: str,
    options: dict[str, Any],
    selection: "set[AssetKey] | None" = None,
    *,
    whole: bool = False,
) -> NoReturn:
    """Run a job in this process, say what came of it, and end with its exit code."""
    outcome = perform(location, system, job, options, selection)
    summarise(location, system, outcome, options, whole=whole)
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
    """Run a job, or what is selected of it, in this process or by others, with its progress on the terminal."""
    settings = read_settings(location)
    if shown := location.SYSTEM.decisions.demonstration:
        from dtx_assets.machinery.mapping.demonstration import require_it_stands

        require_it_stands(shown, settings)

    from dtx_assets.cli.console import RunDisplay
    from dtx_assets.machinery.base.progress import listening
    from dtx_assets.machinery.dagster.handing_over import hand_over_job, is_handed_over
    from dtx_assets.machinery.dagster.last_times import seconds_before
    from dtx_assets.machinery.dagster.run import make_state_directory, open_instance, planned_job, run_job, steps_of

    job = planned_job(location.defs, job_name, selection, checks)
    make_state_directory(settings.home)
    names = steps_of(job)
    with (
        interrupts.unwinding(),
        open_instance(settings.home) as instance,
        RunDisplay(errors() if quiet else output(), system, names, seconds_before(instance, names)) as display,
        listening(display),
    ):
        if is_handed_over(job):
            return hand_over_job(location.SYSTEM, location.__name__, job, settings.home, instance, display, options)
        return run_job(job, settings.home, instance, display, options)


def summarise(
    location: ModuleType,
    system: str,
    outcome: "RunOutcome",
    options: "Mapping[str, Any] | None" = None,
    *,
    whole: bool = False,
) -> None:
    """What came of a run, and how things stand after it; `options` are those that it was asked for."""
    settings = read_settings(location)

    from dtx_assets.cli.console import print_error
    from dtx_assets.cli.endings import print_summary, print_verdict
    from dtx_assets.machinery.base.errors import MigrationError
    from dtx_assets.machinery.dagster.run import LOG_DIRECTORY
    from dtx_assets.machinery.report.asset import page_of_last_step, page_path

    place = {"Cutover page": f"{page_path(settings)} (`{typed('report', system)}` writes it anew)"}
    everywhere = {
        "Rejected rows": "table migration.rejected of the target database"
        f" (`{typed('psql', system)}` opens the embedded one)",
        "Lake": settings.masked()["lake_url"],
        "Archive": f"{settings.masked()['archive_url']} (`{typed('archive list', system)}`)",
        "Log": str(settings.home / LOG_DIRECTORY),
        **place,
        "The graph with this history": "`make ui` or `dtx ui`",
    }
    print_summary(output(), system, outcome, everywhere if whole else place, whole=whole)
    asked = options or {}
    try:
        steps = list(outcome.seconds_of) if outcome.succeeded else []
        page = page_of_last_step(outcome.run_id, steps)
        reasons, found = page_written_anew(location, system, restore_point=asked.get("restore_point"), page=page)
    except MigrationError as error:
        # What keeps the lake or the settings from being read has ended the run already, and is told above.
        if outcome.succeeded:
            print_error(output(), error)
        return
    print_verdict(
        output(),
        [obstacle for obstacle in found if not obstacle.is_accepted(asked.get("accept", ()))],
        cut_over=asked.get("mode") == "cutover" and bool(outcome.loads) and outcome.succeeded,
        # One that found all rows there wrote none, and there is nothing of it to undo.
        undone_by=typed(f"rollback {outcome.run_id[:8]}", system) if outcome.wrote else None,
        system=system,
        demonstration=location.SYSTEM.decisions.demonstration,
        reasons=reasons,
    )


def in_the_way_now(location: ModuleType, system: str) -> "list[Obstacle]":
    """What is in the way of a cutover, accepted or not: the same list that the page and `dtx todo` show."""
    with gate_now(location, system) as (environment, gate):
        models = [target.model for target in location.SYSTEM.filled_targets]
        return gate.in_the_way(environment, models, cutover=True)


def page_written_anew(
    location: ModuleType, system: str, *, restore_point: str | None = None, page: "Page | None" = None
) -> "tuple[list[str], Sequence[Obstacle]]":
    """Write the cutover page as things are after a run, an undo or whatever else; gives what speaks against a cutover:
    of the runs so far, and what is in the way.

    A run writes it too, while it goes on itself: where it is killed, or started from the UI, that one is there. Of the
    `page` that its last step wrote only what the end of the run changes is asked anew.
    """
    from dtx_assets.machinery.report.asset import write_after_its_run, write_cutover_page

    with gate_now(location, system, restore_point) as (environment, gate):
        if page is None or gate.instance is None:
            page = write_cutover_page(environment, gate, location.defs.resolve_asset_graph())
        else:
            page = write_after_its_run(environment, gate.instance, page)
        return [reason.text for reason in page.report.readiness.reasons], page.found


@contextmanager
def gate_now(
    location: ModuleType, system: str, restore_point: str | None = None
) -> "Iterator[tuple[RunEnvironment, GateOfInstance]]":
    """The gate over the history as it is now, and what it is asked with."""
    from dtx_assets.machinery.dagster.gate import gate_of
    from dtx_assets.machinery.dagster.run import make_state_directory, open_instance

    settings = read_settings(location)
    make_state_directory(settings.home)
    with environment_of(system, restore_point) as environment, open_instance(settings.home) as instance:
        yield environment, gate_of(location.SYSTEM, instance)


@contextmanager
def environment_of(system: str, restore_point: str | None = None) -> "Iterator[RunEnvironment]":
    """What the steps of a run share, for what is no run of assets; with an id of its own."""
    location = system_module(system)
    read_settings(location)

    from dtx_assets.machinery.run.environment import RunEnvironment, RunOptions

    options = RunOptions(accepted_by=operator(), restore_point=restore_point)
    with (
        interrupts.unwinding(),
        RunEnvironment(location.SYSTEM, str(uuid4()), datetime.now(UTC), options=options) as environment,
    ):
        yield environment


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
