"""Kills migrations at random moments, and PostgreSQL with some of them; runs them again, and compares (`make kill`).

    make kill N=200
    .venv/bin/python -m dtx_assets_tests.kill --times 200 --seed 1

A third of them are first loads, a third delta loads over rows that others changed meanwhile, a third undo such a delta
load. Each starts from the same state, is disturbed once, and has to end like one that nobody disturbed; where one does
not, this ends with 1. After them some runs of the whole graph (`--graphs`) are killed beside a live application, which
must lose nothing.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psycopg
from rich.console import Console
from rich.table import Column, Table

from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.base.failpoints import TRACE
from dtx_assets.machinery.postgres import embedded_watchdog as watchdog
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres, embedded_postgres, remove_embedded_postgres
from dtx_assets_tests.dtx.graph_killing import Graphs
from dtx_assets_tests.dtx.killing import (
    CUSTOMERS,
    FAILED,
    STAGES,
    Beginnings,
    Killable,
    Place,
    Stage,
    said,
    wait_for,
    wait_for_first_point,
)

Victim = Literal["process", "server", "both"]
VICTIMS: tuple[Victim, ...] = ("process", "server", "both")
SHARES = (0.7, 0.15, 0.15)
ENDED = "ended before"
SECONDS_TO_DIE = 30
SECONDS_TO_RETURN = 30
WIDTH = 170


@dataclass(frozen=True)
class Trial:
    """What is killed when: `moment` in seconds from its first failpoint, `how` is what PostgreSQL gets."""

    number: int
    stage: Stage
    victim: Victim
    moment: float
    how: signal.Signals

    def __str__(self) -> str:
        whom = f"{self.victim} ({self.how.name})" if self.victim != "process" else self.victim
        return f"{self.number}: {self.stage}, {whom} killed after {self.moment:.2f} s"


@dataclass
class Tally:
    """What was hit: by victim and stage, after which failpoint; and what was wrong afterwards, by trial."""

    hit: Counter[tuple[Victim, Stage, str]] = field(default_factory=Counter)
    wrong: dict[Trial, list[str]] = field(default_factory=dict)

    def disturbed(self) -> int:
        return sum(times for (_, _, where), times in self.hit.items() if where != ENDED)

    def table(self) -> Table:
        table = Table(
            Column("last point reached", no_wrap=True),
            *(f"{stage}: {victim}" for stage in STAGES for victim in VICTIMS),
        )
        for where in sorted({where for _, _, where in self.hit}):
            cells = (self.hit[victim, stage, where] for stage in STAGES for victim in VICTIMS)
            table.add_row(where, *(str(times or "") for times in cells))
        return table


class CrashingServer:
    """An embedded PostgreSQL that keeps what it committed, and can be stopped hard and started again."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.data = watchdog.data_directory(state_dir / "postgres")
        self._uses = ExitStack()

    def start(self) -> EmbeddedPostgres:
        server = self._uses.enter_context(embedded_postgres(self.state_dir))
        # A busy machine may refuse the first connections to a server that is just back.
        deadline = time.monotonic() + SECONDS_TO_RETURN
        while True:
            try:
                psycopg.connect(server.url).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return server

    def crash(self, how: signal.Signals) -> None:
        """SIGQUIT is PostgreSQL's immediate mode; SIGKILL leaves its other processes to find out."""
        server = watchdog.postmaster(self.data)
        assert server is not None
        os.kill(server, how)
        deadline = time.monotonic() + SECONDS_TO_DIE
        while watchdog.postmaster(self.data) is not None:
            assert time.monotonic() < deadline, "PostgreSQL does not stop"
            time.sleep(0.01)

    def stop(self) -> None:
        self._uses.close()
        remove_embedded_postgres(self.state_dir)


@contextmanager
def crashing_server() -> Iterator[tuple[CrashingServer, Path]]:
    """The server and a scratch directory; near the root, so that the account of the server gets there."""
    scratch = Path(tempfile.mkdtemp(prefix="dtx-kill-"))
    scratch.chmod(0o711)
    server = CrashingServer(scratch / "state")
    try:
        yield server, scratch
    finally:
        server.stop()
        shutil.rmtree(scratch)


def trials(times: int, seed: int, seconds: dict[Stage, float]) -> Iterator[Trial]:
    chance = random.Random(seed)
    for number in range(1, times + 1):
        stage = STAGES[number % len(STAGES)]
        [victim] = chance.choices(VICTIMS, SHARES)
        yield Trial(
            number,
            stage,
            victim,
            chance.uniform(0, seconds[stage]),
            chance.choice([signal.SIGQUIT, signal.SIGKILL]),
        )


def disturb(trial: Trial, beginnings: Beginnings, server: CrashingServer, place: Place) -> tuple[str, list[str]]:
    """Runs a stage, kills it or the server under it, runs it again: where it was hit, and what is wrong."""
    trace = place.home / "trace"
    process = beginnings.killable.start(place, trial.stage, **{TRACE: str(trace)})
    wait_for_first_point(process, trace)
    process.join(trial.moment)
    ended = process.exitcode is not None
    if trial.victim != "server":
        process.kill()
    hit = ENDED if ended else trace.read_text().split()[-1]
    if trial.victim != "process":
        server.crash(trial.how)
        assert server.start().url == beginnings.server.url, "PostgreSQL came back at another port"
    wait_for(process)
    wrong = []
    if process.exitcode not in (0, FAILED, -signal.SIGKILL):
        wrong.append(f"the process did not tell what was wrong: {said(place)}")
    return hit, wrong + beginnings.wrong_after(place, trial.stage)


def kill(times: int, seed: int, killable: Killable, console: Console) -> Tally:
    """Disturbs as many migrations; what is random comes from the seed, but the machine has its own moments."""
    tally = Tally()
    with crashing_server() as (server, scratch):
        worlds = Killable(scratch / "world", killable.customers, killable.flows, killable.batch_rows)
        with Beginnings(worlds, server.start(), scratch / "places") as beginnings:
            console.print(f"Undisturbed: {', '.join(f'{s} {t:.1f} s' for s, t in beginnings.seconds.items())}")
            for trial in trials(times, seed, beginnings.seconds):
                with beginnings.place(trial.stage) as place:
                    hit, wrong = disturb(trial, beginnings, server, place)
                tally.hit[trial.victim, trial.stage, hit] += 1
                console.print(f"{trial}, {hit}: {'; '.join(wrong) or 'as undisturbed'}", markup=False)
                if wrong:
                    tally.wrong[trial] = wrong
    return tally


def kill_graphs(times: int, seed: int, console: Console) -> list[str]:
    """Kills as many runs of the whole graph, PostgreSQL with every third of them: what was wrong afterwards."""
    wrong: list[str] = []
    with crashing_server() as (server, scratch), Graphs(server.start(), scratch, ("first", "delta")) as graphs:
        chance = random.Random(seed)
        for number in range(1, times + 1):
            export = graphs.exports[number % len(graphs.exports)]
            moment = chance.uniform(0.2, 1.0) * graphs.seconds[export]

            def crash() -> None:
                server.crash(signal.SIGKILL)
                server.start()

            killed, found = graphs.wrong_after(export, moment, crash if number % 3 == 0 else None)
            told = f"{export} after {moment:.1f} s" if killed else f"{export} {ENDED}"
            console.print(f"Graph {number}, {told}: {'; '.join(found) or 'as undisturbed'}", markup=False)
            wrong += found
    return wrong


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--times", type=int, default=200)
    options.add_argument("--graphs", type=int, default=6)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    chosen = options.parse_args()
    console = Console(highlight=False, width=WIDTH)
    console.print(f"Seed {chosen.seed}")
    started = time.monotonic()
    every = tuple(flow.name for flow in SYSTEM.flows)
    tally = kill(chosen.times, chosen.seed, Killable(Path(), CUSTOMERS, every), console)
    console.print(tally.table())
    console.print(
        f"{chosen.times} runs, {tally.disturbed()} hit before they ended, {len(tally.wrong)} ended otherwise than"
        f" undisturbed; seed {chosen.seed}, {time.monotonic() - started:.0f} s"
    )
    wrong = kill_graphs(chosen.graphs, chosen.seed, console) if chosen.graphs else []
    console.print(f"{chosen.graphs} runs of the whole graph, {len(wrong)} things wrong after them")
    return 1 if tally.wrong or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
