"""Phases 1 to 4 of Dispatch at the size of the real system, from CSV files into PostgreSQL, as people run them.

    .venv/bin/python -m benchmarks.dispatch_phases [--users 9839] [--indexes-after]

With 9,839 users there are 24,996 orders, 61,000 messages and 300,000 rows of states. `dtx run` is a process of its own,
checks, gates, verification and cutover page included, into an embedded PostgreSQL; the second run has nothing to write.
With `--indexes-after` indexes and foreign keys of empty tables are made after their first load.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.crm_accounts import written
from benchmarks.dispatch_sample import write_sample
from dtx_assets.dispatch.decided_system import SYSTEM
from dtx_assets.machinery.postgres.embedded import embedded_postgres

COMMAND = [sys.executable, "-m", "dtx_assets.cli.main"]
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Took:
    """Seconds on the clock, and of processors: of dtx, and of PostgreSQL."""

    seconds: float
    of_dtx: float
    of_postgresql: float


def processor_seconds(pid: int) -> float:
    """Of a process and of those that it started and that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def run(directory: Path, url: str, server: int, *, indexes_after: bool) -> Took:
    environment = os.environ | {
        "DISPATCH_LEGACY_URL": str(directory / "legacy"),
        "DISPATCH_FILES_URL": str(directory / "legacy" / "files"),
        "DISPATCH_TARGET_URL": url,
        "DISPATCH_HOME": str(directory / "home"),
        "DISPATCH_INDEXES_AFTER_LOAD": str(indexes_after).lower(),
    }
    before, children = processor_seconds(server), os.times()
    started = time.perf_counter()
    finished = subprocess.run(
        [*COMMAND, "run", "dispatch", "--through-phase", "4", "--restore-point", "none"],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    seconds, after = time.perf_counter() - started, os.times()
    # 3: a check found something, such as decisions that nobody has confirmed.
    if finished.returncode not in (0, 3):
        sys.exit(finished.stdout[-3000:] + finished.stderr[-3000:])
    if slowest := re.search(r"^Slowest: .*$", finished.stdout, re.MULTILINE):
        print(f"    {slowest.group()}")
    of_dtx = sum(after[2:4]) - sum(children[2:4])
    return Took(seconds, of_dtx, processor_seconds(server) - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=9_839)
    parser.add_argument("--indexes-after", action="store_true")
    options = parser.parse_args()
    assert SYSTEM.target_sql is not None
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch:
        directory = Path(scratch)
        rows = write_sample(directory / "legacy", options.users, 1)
        with embedded_postgres(directory / "state") as server:
            url = server.create_database("dispatch")
            with psycopg.connect(url) as connection:
                connection.execute(SYSTEM.target_sql.read_text("utf-8").encode())
                pid = parent_of(connection.info.backend_pid)
            first, again = (run(directory, url, pid, indexes_after=options.indexes_after) for _ in range(2))
            rewritten = written(url)
    total = sum(rows.values())
    print(f"{total:,} rows, phases 1 to 4    {first.seconds:6.1f} s (at most 60)")
    print(f"  processors: dtx            {first.of_dtx:6.1f} s")
    print(f"  processors: PostgreSQL     {first.of_postgresql:6.1f} s")
    print(f"second run                   {again.seconds:6.1f} s, {rewritten} rows written (0)")


if __name__ == "__main__":
    main()
