"""The commands that serve or open something, and the one that writes a sample."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from dtx_assets import interrupts
from dtx_assets.cli.shared import (
    FIRST,
    SystemArgument,
    SystemOption,
    app,
    chosen_system,
    code_location,
    code_locations,
    read_settings,
    system_module,
    typed,
    workspace,
)
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.ports import is_free

SECONDS_TO_LEAVE = 20
"""A server that was told to end is killed after that, and so is what it had started."""
ENDING = (*interrupts.SIGNALS, signal.SIGHUP, signal.SIGQUIT)
"""What a terminal sends to all that runs in its foreground, and a termination."""


@app.command(epilog="Examples:\n\n  dtx ui\n\n  dtx ui --read-only --port 3001")
def ui(
    system: SystemArgument = FIRST,
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, but start nothing.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="3000, or the next free one.")] = None,
) -> None:
    """Serve the Dagster UI on 127.0.0.1, with the history of the system's runs, until it is interrupted.

    It has the graphs of all systems of the workspace; where DAGSTER_HOME is one directory for all of them, it has the
    runs of all. The cutover page of each system is served beside it, under /cutover/SYSTEM.
    """
    location = code_location(system)
    settings = read_settings(location)

    from dtx_assets.machinery.dagster.run import instance_directory
    from dtx_assets.machinery.dagster.served_pages import ADDRESS_VARIABLE, PAGES_VARIABLE, PREFIX

    if port and not is_free(port):
        raise ConfigurationError(
            f"something else listens on port {port}", where="--port", remedy="name another one, or leave --port out"
        )
    chosen = port or free_port(3000)
    command = [sys.executable, "-m", interrupts.WEBSERVER, "-h", "127.0.0.1", "-p", str(chosen)]
    command += ["-w", str(workspace()), *(["--read-only"] if read_only else [])]
    address = f"http://127.0.0.1:{chosen}"
    pages = pages_of_systems()
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(instance_directory(settings.home).absolute()),
        ADDRESS_VARIABLE: address,
        PAGES_VARIABLE: json.dumps({name: str(page.absolute()) for name, page in pages.items()}),
    }
    with ExitStack() as stack:
        if settings.target_url is None and not read_only:
            from dtx_assets.machinery.postgres.embedded import embedded_postgres

            stack.enter_context(embedded_postgres(settings.home, extensions=location.SYSTEM.extensions))
        typer.echo(f"The Dagster UI is at {address} (Ctrl-C ends it)")
        for name in pages:
            typer.echo(f"The cutover page of {name} is at {address}{PREFIX}{name}")
        if others := others_with_history(location.SYSTEM.name, settings.home):
            typer.echo(
                f"It shows the runs of {location.SYSTEM.name}: of {' and '.join(others)} it has the graph, and the runs"
                f" are in a directory of their own. `dtx ui {others[0]}` shows them; with one DAGSTER_HOME for all of"
                " them, runs and this show what all have done."
            )
        typer.echo(f"It answers when {', '.join(code_locations())} are loaded, a few seconds each.")
        raise typer.Exit(run_until_interrupted(command, environment))


def others_with_history(system: str, shown: Path) -> list[str]:
    """The systems of the workspace, besides this one, whose runs stand in a history that the UI does not show."""
    found = []
    for name in code_locations() if not os.environ.get("DAGSTER_HOME") else ():
        with suppress(Exception):
            home = read_settings(system_module(name)).home
            found += [name] if name != system and home != shown and (home / "history").is_dir() else []
    return found


def pages_of_systems() -> dict[str, Path]:
    """The page of each system of the workspace; of one that cannot be loaded the UI itself says what is wrong."""
    from dtx_assets.machinery.report.asset import page_path

    pages = {}
    for name in code_locations():
        with suppress(Exception):
            pages[name] = page_path(read_settings(system_module(name)))
    return pages


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
    command = [sys.executable, "-m", interrupts.DAEMON, "run", "-w", str(workspace())]
    raise typer.Exit(run_until_interrupted(command, environment))


@app.command(
    epilog="Examples:\n\n  dtx sample films ./legacy\n\n  dtx sample --rows 100000 /tmp/big\n\n"
    "  DTX_LEGACY_URL=/tmp/big dtx run"
)
def sample(
    place: Annotated[
        list[str],
        typer.Argument(
            metavar="[SYSTEM] DIRECTORY",
            help="Which migration of the workspace, by default its first one; where to write, made if it is not there.",
        ),
    ],
    rows: Annotated[int, typer.Option(min=1, help="Rows of a table; some have their own proportion.")] = 100,
    seed: Annotated[int | None, typer.Option(help="Another one gives other rows; the same one the same bytes.")] = None,
    ugly_share: Annotated[float, typer.Option(min=0, max=1, help="Share of rows that cannot be migrated.")] = 0.0,
    ugly: Annotated[bool, typer.Option("--ugly/--clean", help="Whether rows are added that break each rule.")] = True,
) -> None:
    """Write a sample of any size: legacy tables, crosswalks, other areas' rows, and rows that break each rule once.

    Its rows come from what the system declares: kinds, keys, references, value maps, and what the mapping files take.
    What no declaration says stands in mappings/SYSTEM/sample.yaml. Without an option every row but the ugly ones is
    migrated; planted.jsonl says of each ugly row what is wrong with it, and what should become of it.
    """
    if len(place) > 2:
        raise ConfigurationError(f"{len(place)} places are named", remedy="name a system, if any, and one directory")
    *named, directory = place
    system = chosen_system(named[0] if named else FIRST)
    location = system_module(system)

    from dtx_assets.machinery.samples.sample import DEFAULT_SEED
    from dtx_assets.machinery.samples.write import write_sample

    write = location.SYSTEM.write_sample or partial(write_sample, location.SYSTEM)
    write(Path(directory), rows, DEFAULT_SEED if seed is None else seed, ugly=ugly, ugly_share=ugly_share)
    run_it = f"{system.upper()}_LEGACY_URL={directory} {typed('run', system)}"
    if ugly or ugly_share:
        typer.echo(f"{directory} holds a sample; {run_it} migrates it")
        return

    from dtx_assets.machinery.mapping.decisions import load_decisions
    from dtx_assets.machinery.mapping.demonstration import write_demonstration
    from dtx_assets.machinery.mapping.load import DECISIONS

    decisions = load_decisions(location.SYSTEM.mappings_dir / DECISIONS)
    stands_in = write_demonstration(Path(directory), location.SYSTEM.name, decisions)
    typer.echo(f"{directory} holds a sample of which nothing is rejected; {run_it} migrates it")
    typer.echo(f"{stands_in} stands for all confirmations: {system.upper()}_DEMONSTRATION={stands_in} beside it")


@app.command(
    epilog="Examples:\n\n  dtx psql\n\n  dtx psql pad\n\n"
    '  dtx psql -- -c "SELECT source_table, reasons, count(*) FROM migration.rejected'
    ' GROUP BY 1, 2"',
)
def psql(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SYSTEM] [-- ARGUMENTS]", help="Which migration; what is passed to psql."),
    ] = None,
    system: SystemOption = FIRST,
) -> None:
    """Open psql on the target database, the embedded one where no other is named. The password is not shown."""
    if arguments and arguments[0] in code_locations():
        system, *arguments = arguments
    location = code_location(system)
    settings = read_settings(location)

    from dtx_assets.cli.psql import run_psql

    raise typer.Exit(run_psql(settings, system, arguments or [], location.SYSTEM.extensions))


def free_port(first: int) -> int:
    for port in range(first, first + 100):
        if is_free(port):
            return port
    raise ConfigurationError(f"no free port from {first} to {first + 99}", remedy="name one with --port")


def waited_for(process: "subprocess.Popen[bytes]") -> int | None:
    """The exit code of a process that ends within a second."""
    try:
        return process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return None


def run_until_interrupted(command: list[str], environment: dict[str, str]) -> int:
    """Run a server in the foreground; an interrupt or a termination ends it and counts as success.

    When it has ended, however it did, nothing that it started is left: its servers of code and their runs are told to
    end, and killed if they do not.
    """
    process: subprocess.Popen[bytes] | None = None
    interrupted = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        if process is not None:
            process.send_signal(signal.SIGINT)

    heeded = [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, stop) for number in heeded}
    # The server lets them through as soon as it can be ended without a traceback of Python's start.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupts.SIGNALS)
    # In a session of its own, so that a terminal does not interrupt what has first to be told by the server.
    process = subprocess.Popen(command, env={**environment, interrupts.SERVED: "1"}, start_new_session=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if interrupted:
        process.send_signal(signal.SIGINT)
    seconds = 0
    try:
        while (code := waited_for(process)) is None:
            seconds += interrupted
            if seconds > SECONDS_TO_LEAVE:
                process.kill()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        end_group(process.pid)
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0 if interrupted else code


def end_group(group: int) -> None:
    """End the processes of a group whose leader has ended: they are told to, and killed if they do not.

    Dagster turns interrupts and terminations into exceptions, which servers of code that start would print. A hang-up
    ends those at once, and a run takes it for a termination.
    """
    for number in (signal.SIGHUP, signal.SIGKILL):
        if not told(group, number):
            return
        for _ in range(10 * SECONDS_TO_LEAVE):
            # Those that this process has inherited, as the first one of a container does, are in the group until then.
            with suppress(ChildProcessError):
                os.waitpid(-group, os.WNOHANG)
            if not told(group, 0):
                return
            time.sleep(0.1)


def told(group: int, number: int) -> bool:
    """Whether a process of the group was there for the signal; 0 asks without one."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
