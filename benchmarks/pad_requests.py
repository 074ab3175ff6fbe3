"""Trading requests from PostgreSQL to the four tables of PAD in PostgreSQL, beside a plain COPY of the finished tables.

    .venv/bin/python -m benchmarks.pad_requests [--rows 1000000]

Every measured run is a process of its own against one embedded PostgreSQL; the plain COPY goes into the same tables
with the same indexes and foreign keys, of a second database of the same server. Figures are ratios of one run.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.notification_flow import CHUNK, timed

TABLE = "personal_account_dealing"
TARGETS = ("pad_request", "pad_approval", "pad_execution", "audit_log")
PLANNED, LARGE = 1_000, 100_000
"""Rows of a batch: as the plan wants, and as DTX has."""


def work(url: str, home: Path, batch_rows: int) -> dict[str, Any]:
    """One run: extract, look up, prepare, load. Seconds a step, rows, peak memory in MiB."""
    from dtx_assets.machinery.base.lake import Lake
    from dtx_assets.machinery.base.settings import Settings
    from dtx_assets.machinery.load import finish_run, load_target, open_run
    from dtx_assets.machinery.look_ups.assets import MappingContext, build_mapping_asset
    from dtx_assets.machinery.prepare.preparation import RunSettings, prepare_flow
    from dtx_assets.machinery.sources import open_source
    from dtx_assets.pad.decided_system import SYSTEM

    environment = {
        "PAD_LEGACY_URL": url,
        "PAD_TARGET_URL": url,
        "PAD_BATCH_ROWS": str(batch_rows),
        "PAD_HOME": str(home),
    }
    settings = Settings.from_environment("pad", environ=environment, sample_dir=SYSTEM.sample_dir)
    lake, run_id = Lake(settings.lake_url), f"bench-{time.time_ns()}"
    seconds: dict[str, float] = {}
    with timed(seconds, "extract"), open_source(settings.legacy_url) as source:
        source.extract(SYSTEM.legacy_tables[TABLE], lake, ("pad", "legacy", TABLE), run_id)
    with timed(seconds, "look up"):
        context = MappingContext("pad", lake, run_id, url, {}, SYSTEM.mappings)
        for asset in SYSTEM.mapping_assets:
            build_mapping_asset(asset, context)
    with timed(seconds, "prepare"):
        for flow in SYSTEM.flows:
            prepare_flow(flow, RunSettings(run_id, SYSTEM, settings, SYSTEM.decisions, datetime.now(UTC), lake))
    with timed(seconds, "load"):
        chosen = dict(SYSTEM.decisions.chosen)
        run = open_run(url, "pad", run_id, mode="rehearsal", decisions=chosen, cutover_at=None)
        loads = [
            load_target("pad", SYSTEM.target(model), lake, url, run, on_conflict="keep_target") for model in TARGETS
        ]
        finish_run(run, "succeeded")
    return {
        "seconds": seconds,
        "total": sum(seconds.values()),
        "inserted": sum(load.inserted for load in loads),
        "written": sum(load.inserted + load.updated for load in loads),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def worker(url: str, home: Path, batch_rows: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.pad_requests", "--work", str(home), "--batch-rows", str(batch_rows)]
    finished = subprocess.run(
        command, env=os.environ | {"BENCH_TARGET": url}, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(finished.stdout.splitlines()[-1])


def fresh_database(server: Any, name: str, sample: Path, *, legacy: bool = True) -> str:
    """The URL of a new database with the targets, the rows of the reference tables and, where asked, the legacy."""
    from dtx_assets.machinery.postgres.ddl import create_target
    from dtx_assets.machinery.postgres.seeding import seed_tables
    from dtx_assets.pad.decided_system import SYSTEM

    url: str = server.create_database(name)
    with psycopg.connect(url) as connection:
        create_target(connection, SYSTEM.targets)
        seed_tables(connection, SYSTEM.tables_of_others, sample)
        if legacy:
            columns = sql.SQL(", ").join(
                sql.SQL("{} text").format(sql.Identifier(column)) for column in SYSTEM.legacy_tables[TABLE].columns
            )
            table = sql.Identifier(TABLE)
            connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, columns))
            copy_in(connection, table, sample / f"{TABLE}.csv", r"FORMAT csv, HEADER, NULL '\N'")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    return url


def copy_in(connection: psycopg.Connection[Any], table: sql.Identifier, file: Path, options: str) -> None:
    statement = sql.SQL("COPY {} FROM STDIN (" + options + ")").format(table)  # type: ignore[arg-type]
    with connection.cursor().copy(statement) as copy, file.open("rb") as stream:
        while block := stream.read(CHUNK):
            copy.write(block)


def plain_copy(source_url: str, target_url: str, directory: Path) -> float:
    """Seconds of a COPY of the finished tables, parents first, from files into empty tables."""
    seconds: dict[str, float] = {}
    for name in TARGETS:
        file, table = directory / f"{name}.copy", sql.Identifier("padealing", name)
        with psycopg.connect(source_url) as connection, file.open("wb") as stream:
            query = sql.SQL("COPY (SELECT * FROM {} ORDER BY id) TO STDOUT").format(table)
            with connection.cursor().copy(query) as copy:
                for block in copy:
                    stream.write(block)
        with psycopg.connect(target_url) as connection, timed(seconds, name):
            copy_in(connection, table, file, "FORMAT text")
            connection.commit()
        file.unlink()
    return sum(seconds.values())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=1_000_000, help="trading requests")
    arguments.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--batch-rows", type=int, default=LARGE, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.work:
        print(json.dumps(work(os.environ["BENCH_TARGET"], options.work, options.batch_rows)))
        return

    from dtx_assets.machinery.postgres.embedded import embedded_postgres
    from dtx_assets.pad.sample import write_sample

    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch:
        directory = Path(scratch)
        write_sample(directory / "sample", options.rows, 1, ugly=False)
        with embedded_postgres(directory / "state") as server:
            target = fresh_database(server, "run", directory / "sample")
            first = worker(target, directory / "home", LARGE)
            copied = plain_copy(target, fresh_database(server, "copy", directory / "sample", legacy=False), directory)
            again = worker(target, directory / "home", LARGE)
            planned = worker(fresh_database(server, "planned", directory / "sample"), directory / "planned", PLANNED)
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in first["seconds"].items())
    print(f"{options.rows:,} requests → {first['inserted']:,} rows of four tables")
    print(f"PostgreSQL to PostgreSQL      {first['total']:6.1f} s  ({steps})")
    print(f"plain COPY of the same rows   {copied:6.1f} s")
    print(f"ratio                         {first['total'] / copied:6.2f}    (at most 1.60, aim at 1.25)")
    print(f"second run, nothing changed   {again['total']:6.1f} s, {again['written']} rows written (0)")
    slower = planned["total"] / first["total"]
    print(f"batches of {PLANNED:,} rows         {slower:6.2f} of those of {LARGE:,} (at most 1.50)")
    print(f"peak memory                   {max(first['peak_mib'], planned['peak_mib']):6,.0f} MiB (under 1,000)")


if __name__ == "__main__":
    main()
