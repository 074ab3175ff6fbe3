"""Kills one of two workers, its child, the process of a run, or the broker, and compares (`make kill-workers`).

    make kill-workers N=100
    .venv/bin/python -m dtx_assets_tests.kill_workers --times 100 --seed 1

Each run begins with the same rows and files, first or over those of a first load, is disturbed once, and either ends
like one in one process that nobody disturbed, or fails with words and ends like it when it is run again. Where one does
not, this ends with 1.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args
from uuid import uuid4

import psycopg
from rich.console import Console
from rich.table import Column, Table

from dtx_assets.dtx.system import SYSTEM, load_other_areas
from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED, EXIT_STEP_FAILED
from dtx_assets.machinery.base.failpoints import TRACE
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres, embedded_postgres, remove_embedded_postgres
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.dtx.graph_killing import Export, write_exports
from dtx_assets_tests.dtx.killing import (
    CUTOVER_AT,
    Place,
    State,
    copied,
    first_differences,
    removed,
    state,
    wait_until_alone,
)
from dtx_assets_tests.dtx.working import worker
from dtx_assets_tests.patience import PATIENCE
from dtx_assets_tests.servers import RabbitMQ

Victim = Literal["worker", "child", "run", "broker"]
VICTIMS: tuple[Victim, ...] = get_args(Victim)
EXPORTS: tuple[Export, ...] = get_args(Export)
SELECTED = "+target/ManualOverride or +target/DocRequirement or +target/Document or +archive/letter"
"""Rows with and without a natural key, columns of others' rows, files, an archive: small enough for many runs."""
SECONDS_WITHOUT_WORKERS = 20
SECONDS_AWAY = 3.0
"""How long a broker is gone at least; it takes some ten more to come back."""
MOST_RUNS = 3
ENDED = "ended before"
ALIKE = "as undisturbed"


@dataclass(frozen=True)
class Trial:
    """Who is killed when: after which share of the time that an undisturbed run takes from its first failpoint on, or,
    where it is negative, from its start."""

    number: int
    export: Export
    victim: Victim
    share: float

    def __str__(self) -> str:
        return f"{self.number}: {self.export}, {self.victim} killed at {self.share:.2f} of a run"


@dataclass
class Ended:
    """How a trial ended: after which failpoint it was hit, after how many runs it was whole, and what was wrong."""

    hit: str
    runs: int
    wrong: list[str]

    def __str__(self) -> str:
        runs = {1: ALIKE, 2: f"failed with words, then {ALIKE}"}.get(self.runs, f"{ALIKE} after {self.runs} runs")
        return f"{self.hit}: {'; '.join(self.wrong) or runs}"


def trials(times: int, seed: int) -> Iterator[Trial]:
    chance = random.Random(seed)
    for number in range(1, times + 1):
        yield Trial(number, EXPORTS[number % 2], VICTIMS[number // 2 % 4], chance.uniform(-0.25, 1.0))


class WorkedOn:
    """Where runs of each export begin, how they end in one process, how long workers take; broker and server."""

    def __init__(self, server: EmbeddedPostgres, scratch: Path) -> None:
        self.server, self.scratch = server, scratch
        (scratch / "broker").mkdir()
        self.broker = RabbitMQ(scratch / "broker")
        self._broker_runs = ExitStack()
        self.begin: dict[Export, Place] = {}
        self.expected: dict[Export, State] = {}
        self.seconds: dict[Export, float] = {}
        self._places: list[Place] = []

    def __enter__(self) -> Self:
        self._broker_runs.enter_context(self.broker.running(signal.SIGKILL))
        write_exports(self.scratch / "exports")
        name = f"workers_{uuid4().hex}"
        place = Place(self.scratch / name, self.server.create_database(name))
        self._places.append(place)
        place.home.mkdir()
        with psycopg.connect(place.url) as connection:
            create_target(connection, SYSTEM.targets)
            load_other_areas(connection, SYSTEM.sample_dir / "target")
        for export in EXPORTS:
            self.begin[export], place = place, self.copy(place)
            done = self.command(place, export, DTX_EXECUTOR="in_process")("run", "--select", SELECTED)
            assert done.returncode == EXIT_CHECK_FAILED, done.stdout + done.stderr
            wait_until_alone(place.url)
            self.expected[export] = state(place)
        for export in EXPORTS:
            with self.place(export) as place, self.workers(self.command(place, export)):
                output = place.home / "run.txt"
                process = started(self.command(place, export), output)
                wait_for_a_point(process, place)
                began = time.monotonic()
                code = process.wait(PATIENCE)
                self.seconds[export] = time.monotonic() - began
                assert code == EXIT_CHECK_FAILED, output.read_text(errors="replace")
        return self

    def __exit__(self, *_: object) -> None:
        for place in self._places:
            removed(place, self.server)
        self._broker_runs.close()

    def crash_broker(self) -> None:
        """Kills it, and starts it again with what it had on its disk."""
        self._broker_runs.close()
        time.sleep(SECONDS_AWAY)
        self._broker_runs.enter_context(self.broker.running(signal.SIGKILL))

    def command(self, place: Place, export: Export, **more: str) -> Command:
        """`dtx` at a place, its steps done by workers of an environment that no other place has."""
        (place.home / f".env.{place.home.name}").touch()
        exports = self.scratch / "exports" / export
        told = {
            "EXECUTOR": "celery",
            "BROKER_URL": self.broker.url,
            "SHARED": "this-machine",
            "WORKER_SECONDS": str(SECONDS_WITHOUT_WORKERS),
            "LEGACY_URL": str(exports),
            "FILES_URL": str(exports / "files"),
            "TARGET_URL": place.url,
            "HOME": str(place.home),
            "BATCH_ROWS": "40",
            "SHARD_ROWS": "80",
            "CUTOVER_AT": CUTOVER_AT,
        }
        environment = {f"DTX_{name}": value for name, value in told.items()}
        return Command(place.home, {**environment, "APP_ENV": place.home.name, **more}, seconds=PATIENCE)

    @contextmanager
    def workers(self, command: Command) -> Iterator[list[subprocess.Popen[bytes]]]:
        trace = {TRACE: str(command.directory / "trace")}
        with worker(command, "one", **trace) as one, worker(command, "two", **trace) as two:
            yield [one, two]

    @contextmanager
    def place(self, export: Export) -> Iterator[Place]:
        place = self.copy(self.begin[export])
        try:
            yield place
        finally:
            self._places.remove(place)
            wait_until_alone(place.url)
            removed(place, self.server)

    def copy(self, of: Place) -> Place:
        wait_until_alone(of.url)
        place = copied(of, self.server, self.scratch, f"workers_{uuid4().hex}")
        self._places.append(place)
        return place

    def disturbed(self, trial: Trial) -> Ended:
        with self.place(trial.export) as place:
            command = self.command(place, trial.export)
            with self.workers(command) as workers:
                ended = self._disturbed(trial, place, command, workers)
            wait_until_alone(place.url)
            ended.wrong += first_differences(self.expected[trial.export], state(place))
            return ended

    def _disturbed(self, trial: Trial, place: Place, command: Command, workers: list[subprocess.Popen[bytes]]) -> Ended:
        output = place.home / "run.txt"
        process = started(command, output)
        if trial.share > 0:
            wait_for_a_point(process, place)
        with ExitStack() as more:
            try:
                process.wait(abs(trial.share) * self.seconds[trial.export])
                hit = ENDED
            except subprocess.TimeoutExpired:
                trace = place.home / "trace"
                reached = trace.read_text().split() if trace.exists() else []
                hit = reached[-1] if reached else "before any point"
                self._kill(trial, workers, process)
                if trial.victim == "worker":
                    # As a service manager would.
                    more.enter_context(worker(command, "three"))
            wrong = []
            for run in range(1, MOST_RUNS + 1):
                code = process.wait(PATIENCE)
                said = output.read_text(errors="replace")
                if code == EXIT_CHECK_FAILED:
                    return Ended(hit, run, wrong)
                if "Traceback" in said or code not in (EXIT_STEP_FAILED, -signal.SIGKILL):
                    wrong.append(f"run {run} ended with {code}: {said[-3000:]}")
                output = place.home / f"run{run}.txt"
                process = started(command, output)
            code = process.wait(PATIENCE)
            return Ended(hit, MOST_RUNS, [*wrong, f"not whole after {MOST_RUNS} runs: {said[-3000:]}"])

    def _kill(self, trial: Trial, workers: list[subprocess.Popen[bytes]], run: subprocess.Popen[bytes]) -> None:
        chosen = workers[trial.number // 8 % 2]
        if trial.victim == "worker":
            os.killpg(chosen.pid, signal.SIGKILL)
        elif trial.victim == "child":
            for child in children(chosen.pid):
                os.kill(child, signal.SIGKILL)
        elif trial.victim == "run":
            os.killpg(run.pid, signal.SIGKILL)
        else:
            self.crash_broker()


def wait_for_a_point(process: subprocess.Popen[bytes], place: Place) -> None:
    """Until a worker has reached a failpoint, or the run has ended."""
    while process.poll() is None and not (place.home / "trace").exists():
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def started(command: Command, output: Path) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DTX_", "DAGSTER_"))}
    with output.open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "dtx_assets.cli.main", "run", "--select", SELECTED],
            cwd=command.directory,
            env={**clean, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


@contextmanager
def worked_on() -> Iterator[WorkedOn]:
    scratch = Path(tempfile.mkdtemp(prefix="dtx-kill-"))
    scratch.chmod(0o711)
    try:
        with embedded_postgres(scratch / "state") as server, WorkedOn(server, scratch) as made:
            yield made
    finally:
        remove_embedded_postgres(scratch / "state")
        shutil.rmtree(scratch)


def table_of(ends: dict[Trial, Ended]) -> Table:
    table = Table(Column("last point reached", no_wrap=True), *VICTIMS)
    hits = Counter((ended.hit, trial.victim) for trial, ended in ends.items())
    for hit in sorted({hit for hit, _ in hits}):
        table.add_row(hit, *(str(hits[hit, victim] or "") for victim in VICTIMS))
    table.add_section()
    runs = Counter((ended.runs, trial.victim) for trial, ended in ends.items())
    for run in sorted({run for run, _ in runs}):
        table.add_row(f"whole after {run} runs", *(str(runs[run, victim] or "") for victim in VICTIMS))
    return table


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--times", type=int, default=100)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    chosen = options.parse_args()
    # Ended from outside, it ends its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_STEP_FAILED))
    console = Console(highlight=False, width=170)
    console.print(f"Seed {chosen.seed}")
    began = time.monotonic()
    ends: dict[Trial, Ended] = {}
    with worked_on() as made:
        console.print(f"Undisturbed, by workers: {', '.join(f'{e} {s:.1f} s' for e, s in made.seconds.items())}")
        for trial in trials(chosen.times, chosen.seed):
            ends[trial] = made.disturbed(trial)
            console.print(f"{trial}, {ends[trial]}", markup=False)
    wrong = sum(1 for ended in ends.values() if ended.wrong)
    console.print(table_of(ends))
    console.print(
        f"{len(ends)} runs, {sum(1 for ended in ends.values() if ended.hit != ENDED)} hit before they ended, {wrong}"
        f" ended otherwise than undisturbed; seed {chosen.seed}, {time.monotonic() - began:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
