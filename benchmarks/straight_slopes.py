"""A narrow table of 1, 10 and 100 million rows, end to end: what a row costs, and whether more rows make each dearer.

    .venv/bin/python -m benchmarks.straight_slopes [--rows 1000000 10000000] [--second | --select legacy/payment]

A CSV file of five columns is made ready by `dtx init` and run by `dtx run`, each size into a database of its own of one
embedded PostgreSQL. The seconds of processors, of dtx and of PostgreSQL, are compared rather than those of the clock:
they are the same on a busy machine. 100 million rows need 60 GB of disk; BENCH_DIR names a directory that has them.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import psycopg

from benchmarks.any_table import DTX, seconds_of_steps
from benchmarks.dispatch_phases import parent_of, processor_seconds
from dtx_assets.machinery.postgres.embedded import embedded_postgres

SYSTEM = "narrow"
TARGET = """
CREATE TABLE payment (
    id bigint PRIMARY KEY, customer bigint NOT NULL, amount numeric(12,2) NOT NULL, kind text,
    paid_at timestamp NOT NULL
);
"""
ROWS_AT_ONCE = 5_000_000
MILLION = 1_000_000


@dataclass(frozen=True)
class Took:
    """Seconds of a run by the clock, of the processors, and of each step; its peak memory in MiB."""

    seconds: float
    of_dtx: float
    of_postgresql: float
    of_steps: dict[str, float]
    peak: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[MILLION, 10 * MILLION])
    parser.add_argument("--second", action="store_true", help="run each again, with nothing changed")
    parser.add_argument("--select", nargs="+", default=[], metavar="ASSETS", help="only these, a run for each")
    parser.add_argument("--write", type=Path, help="write the rows alone into this file")
    options = parser.parse_args()
    if options.write:
        write_payments(options.write, *options.rows)
        return
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch,
        embedded_postgres(Path(scratch) / "state") as server,
    ):
        for rows in options.rows:
            directory = Path(scratch) / f"of_{rows}"
            (directory / "legacy").mkdir(parents=True)
            # By a process of its own: the peak of one that starts another counts as that one's too.
            writing = [sys.executable, "-m", "benchmarks.straight_slopes", f"--rows={rows}"]
            subprocess.run([*writing, f"--write={directory / 'legacy' / 'payment.csv'}"], check=True)
            url = server.create_database(f"narrow_{rows}")
            measure(rows, directory, url, second=options.second, chosen=options.select)
            server.drop_database(f"narrow_{rows}")
            shutil.rmtree(directory)


def write_payments(file: Path, rows: int) -> None:
    """Keys in an order that no index likes, a value in seven missing."""
    with file.open("wb") as out:
        for first in range(0, rows, ROWS_AT_ONCE):
            number = pl.int_range(first, min(first + ROWS_AT_ONCE, rows), dtype=pl.Int64, eager=True).alias("number")
            # A step that is prime to the number of rows meets each key once.
            frame = number.to_frame().select(
                id=1 + pl.col("number") * 7_368_787 % rows,
                customer=pl.col("number") * 31 % 2_000_003,
                amount=(pl.col("number") % 9_999_991 / 100).cast(pl.Decimal(12, 2)),
                kind=pl.when(pl.col("number") % 7 > 0).then(pl.lit("card ") + (pl.col("number") % 977).cast(pl.String)),
                paid_at=(pl.datetime(2001, 1, 1) + pl.duration(seconds=pl.col("number") * 7)).dt.to_string(
                    "%Y-%m-%d %H:%M:%S"
                ),
            )
            frame.write_csv(out, include_header=first == 0)


def measure(rows: int, directory: Path, url: str, *, second: bool, chosen: Sequence[str]) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(TARGET)
        server = parent_of(connection.info.backend_pid)
    (directory / "target.sql").write_text(TARGET)
    environment = os.environ | {
        "NARROW_LEGACY_URL": str(directory / "legacy"),
        "NARROW_TARGET_URL": url,
        "NARROW_HOME": str(directory / "home"),
    }
    called(["init", SYSTEM, "--target", str(directory / "target.sql")], directory, environment)
    for assets in chosen:
        tell(rows, assets, run(directory, environment, server, "--select", assets))
    if chosen:
        return
    tell(rows, "first run", run(directory, environment, server))
    with psycopg.connect(url) as connection:
        [(written, bytes_of_target)] = connection.execute(
            "SELECT (SELECT count(*) FROM payment), pg_database_size(current_database())"
        ).fetchall()
    if written != rows:
        sys.exit(f"{written:,} of {rows:,} rows were written")
    on_disk = sum(file.stat().st_size for file in (directory / "home").rglob("*") if file.is_file())
    legacy = (directory / "legacy" / "payment.csv").stat().st_size
    print(
        f"  bytes a row: legacy {legacy / rows:.0f}, state directory {on_disk / rows:.0f}, "
        f"target with bookkeeping {bytes_of_target / rows:.0f}"
    )
    if second:
        tell(rows, "second run", run(directory, environment, server))


def run(directory: Path, environment: dict[str, str], server: int, *how: str) -> Took:
    before, started = processor_seconds(server), time.perf_counter()
    used = called(["run", SYSTEM, *how], directory, environment)
    return Took(
        time.perf_counter() - started,
        used.ru_utime + used.ru_stime,
        processor_seconds(server) - before,
        seconds_of_steps(directory / "home", SYSTEM),
        used.ru_maxrss / 1024,
    )


def called(arguments: list[str], directory: Path, environment: dict[str, str]) -> resource.struct_rusage:
    """What `dtx` used; 3 is the code of checks that found something, such as decisions that nobody confirmed."""
    with (directory / "output").open("w+") as output:
        child = subprocess.Popen(
            [DTX, *arguments], cwd=directory, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in (0, 3):
            output.seek(0)
            sys.exit(f"dtx {' '.join(arguments)} ended with {child.returncode}:\n{output.read()[-3000:]}")
    return used


def tell(rows: int, what: str, took: Took) -> None:
    millions = rows / MILLION
    print(f"{rows:>13,} rows, {what}: {took.seconds:8.1f} s, {rows / took.seconds:9,.0f} rows/s")
    print(
        f"  a million rows of the processors: dtx {took.of_dtx / millions:.1f} s, "
        f"PostgreSQL {took.of_postgresql / millions:.1f} s; peak memory {took.peak:,.0f} MiB"
    )
    slowest = sorted(took.of_steps.items(), key=lambda step: -step[1])[:8]
    print("  of the clock: " + ", ".join(f"{step} {seconds / millions:.1f}" for step, seconds in slowest), flush=True)


if __name__ == "__main__":
    main()
