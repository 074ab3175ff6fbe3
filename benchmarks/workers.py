"""A run of the sample of DTX by two workers beside one in its own process: what a step costs more.

    .venv/bin/python -m benchmarks.workers [--times 3]

RabbitMQ, the target, the history and both workers are on this machine. Both ways run once first; then, in turn, runs
that find nothing changed, so that nearly all is the steps themselves. Of the processors are counted those of the run,
of the workers, and of all that they started; PostgreSQL and RabbitMQ are not. A level is what depends on nothing but
the levels before it: the graph has no fewer, whatever the number of workers.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.any_table import seconds_of_steps
from benchmarks.dispatch_phases import processor_seconds
from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED
from dtx_assets.machinery.postgres.embedded import embedded_postgres
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.dtx.working import as_new, worker
from dtx_assets_tests.kill_workers import children
from dtx_assets_tests.servers import RabbitMQ

CUTOVER_AT = "2026-11-21T00:00:00+00:00"
BY_WORKERS, ALONE = "two workers", "in process"


@dataclass(frozen=True)
class Took:
    seconds: float
    of_processors: float


def run(command: Command, workers: Sequence[subprocess.Popen[bytes]]) -> Took:
    of_workers = spent(workers)
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "dtx_assets.cli.main", "run"],
        check=False,
        cwd=command.directory,
        env=os.environ | command.environment,
        capture_output=True,
        text=True,
    )
    seconds, after = time.perf_counter() - started, os.times()
    if done.returncode != EXIT_CHECK_FAILED:
        sys.exit(f"dtx run ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    of_run = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(seconds, of_run + spent(workers) - of_workers)


def spent(workers: Iterable[subprocess.Popen[bytes]]) -> float:
    """Seconds of the processors so far, of workers and of those that do their steps."""
    return sum(processor_seconds(pid) for each in workers for pid in (each.pid, *children(each.pid)))


def levels() -> int:
    """How many steps of the graph of DTX depend on one another at most."""
    from dagster._core.execution.api import create_execution_plan

    from dtx_assets.dtx.definitions import defs

    depends = create_execution_plan(defs.resolve_job_def("dtx_rehearsal")).get_executable_step_deps()
    return deepest(depends)


def deepest(depends: Mapping[str, Iterable[str]]) -> int:
    known: dict[str, int] = {}

    def level(step: str) -> int:
        if step not in known:
            known[step] = 1 + max(map(level, depends[step]), default=0)
        return known[step]

    return max(map(level, depends))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--times", type=int, default=3)
    times: int = arguments.parse_args().times
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch,
        embedded_postgres(Path(scratch) / "state") as server,
        ExitStack() as held,
    ):
        (Path(scratch) / "broker").mkdir()
        broker = RabbitMQ(Path(scratch) / "broker")
        held.enter_context(broker.running(signal.SIGTERM))
        commands = {}
        for what, executor in ((ALONE, "in_process"), (BY_WORKERS, "celery")):
            home = Path(scratch) / executor
            home.mkdir()
            (home / f".env.{executor}").touch()
            told = {
                "DTX_EXECUTOR": executor,
                "DTX_BROKER_URL": broker.url,
                "DTX_SHARED": "this-machine",
                "DTX_TARGET_URL": as_new(server.create_database(executor)),
                "DTX_HOME": str(home),
                "DTX_CUTOVER_AT": CUTOVER_AT,
                "APP_ENV": executor,
            }
            commands[what] = Command(home, told)
        workers = [held.enter_context(worker(commands[BY_WORKERS], name)) for name in ("one", "two")]
        of = {ALONE: (), BY_WORKERS: workers}
        for what, command in commands.items():
            took = run(command, of[what])
            print(f"{what}, first run: {took.seconds:.1f} s, {took.of_processors:.1f} s of CPU", flush=True)
        took_of = {what: [] for what in commands}
        for _ in range(times):
            for what, command in commands.items():
                took_of[what].append(run(command, of[what]))
        steps = len(seconds_of_steps(commands[BY_WORKERS].directory, "dtx"))
        between = {what: median(took.of_processors for took in taken) for what, taken in took_of.items()}
        for what, taken in took_of.items():
            told_of = ", ".join(f"{took.seconds:.1f} ({took.of_processors:.1f})" for took in taken)
            print(f"{what}, nothing changed: seconds (of CPU) {told_of}")
        more = between[BY_WORKERS] - between[ALONE]
        clock = {what: median(took.seconds for took in taken) for what, taken in took_of.items()}
        print(f"{steps} steps in {levels()} levels: a step costs {more / steps:.2f} s of CPU more by workers")
        waited = clock[BY_WORKERS] - clock[ALONE]
        print(f"by the clock {waited / steps:.2f} s a step more")


if __name__ == "__main__":
    main()
