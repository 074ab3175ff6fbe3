"""The four tables of PAD from the lake into PostgreSQL, over 1, 2 and 4 connections for the ranges of each table.

    .venv/bin/python -m benchmarks.load_connections [--rows 150000] [--connections 1 2 4] [--times 2] [--indexes-after]

With `--indexes-after` each load is done with the indexes and foreign keys there, and with those made after it.

The rows are prepared once. Every load is a process of its own into an empty database of one embedded PostgreSQL, in
turns, so that what else the machine does is in all of them; the rows and the mapping of all have to be equal.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.dispatch_phases import parent_of, processor_seconds
from benchmarks.pad_requests import TABLE, TARGETS, fresh_database


def environment(url: str, home: Path, batch_rows: int, connections: int, *, after: bool = False) -> dict[str, str]:
    return {
        "PAD_LEGACY_URL": url,
        "PAD_TARGET_URL": url,
        "PAD_BATCH_ROWS": str(batch_rows),
        "PAD_HOME": str(home),
        "PAD_LOAD_CONNECTIONS": str(connections),
        "PAD_INDEXES_AFTER_LOAD": str(after).lower(),
    }


def step(name: str, variables: dict[str, str]) -> dict[str, Any]:
    """Prepares, or loads."""
    from dtx_assets.machinery.base.lake import Lake
    from dtx_assets.machinery.base.settings import Settings
    from dtx_assets.machinery.load import finish_run, load_target, open_run
    from dtx_assets.machinery.look_ups.assets import MappingContext, build_mapping_asset
    from dtx_assets.machinery.prepare.preparation import RunSettings, prepare_flow
    from dtx_assets.machinery.sources import open_source
    from dtx_assets.pad.decided_system import SYSTEM

    settings = Settings.from_environment("pad", environ=variables, sample_dir=SYSTEM.sample_dir)
    lake, url, run_id = Lake(settings.lake_url), str(settings.target_url), f"bench-{time.time_ns()}"
    if name == "prepare":
        with open_source(settings.legacy_url) as source:
            source.extract(SYSTEM.legacy_tables[TABLE], lake, ("pad", "legacy", TABLE), run_id)
        context = MappingContext("pad", lake, run_id, url, {}, SYSTEM.mappings)
        for asset in SYSTEM.mapping_assets:
            build_mapping_asset(asset, context)
        for flow in SYSTEM.flows:
            prepare_flow(flow, RunSettings(run_id, SYSTEM, settings, SYSTEM.decisions, datetime.now(UTC), lake))
        return {}
    with psycopg.connect(url) as connection:
        server = parent_of(connection.info.backend_pid)
    of_server, before, started = processor_seconds(server), time.process_time(), time.perf_counter()
    chosen = dict(SYSTEM.decisions.chosen)
    run = open_run(
        url,
        "pad",
        run_id,
        mode="rehearsal",
        decisions=chosen,
        connections=settings.load_connections,
        indexes_after=settings.indexes_after_load,
        restore_point="none",
    )
    summaries = [load_target("pad", SYSTEM.target(model), lake, url, run) for model in TARGETS]
    rows = sum(summary.inserted for summary in summaries)
    finish_run(run, "succeeded")
    return {
        "rows": rows,
        "made_after": sum(len(summary.made_after) for summary in summaries),
        "seconds": time.perf_counter() - started,
        "of_load": time.process_time() - before,
        "of_server": processor_seconds(server) - of_server,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_process(name: str, variables: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.load_connections", "--step", name]
    finished = subprocess.run(
        command, env=os.environ | {"BENCH": json.dumps(variables)}, check=True, stdout=subprocess.PIPE, text=True
    )
    answer: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return answer


def contents(url: str) -> list[Any]:
    """A digest of the rows of each table with their keys, and of the mapping."""
    with psycopg.connect(url) as connection:
        rows = "SELECT md5(string_agg(md5(t::text), '' ORDER BY t.id)) FROM {} AS t"
        queries = [sql.SQL(rows).format(sql.Identifier("padealing", name)) for name in TARGETS]
        queries.append(
            sql.SQL(
                "SELECT md5(string_agg(md5((source_table, source_key, target_table, part, target_id)::text), ''"
                " ORDER BY target_table, source_table, source_key, part)) FROM migration.mapping"
            )
        )
        return [connection.execute(query).fetchone() for query in queries]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=150_000, help="trading requests")
    parser.add_argument("--batch-rows", type=int, default=20_000)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--indexes-after", action="store_true")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options.step, json.loads(os.environ["BENCH"]))))
        return

    from dtx_assets.machinery.postgres.embedded import embedded_postgres
    from dtx_assets.pad.sample import write_sample

    took, found = defaultdict(list), []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch:
        directory = Path(scratch)
        write_sample(directory / "sample", options.rows, 1, ugly=False)
        with embedded_postgres(directory / "state") as server:
            prepared = fresh_database(server, "prepared", directory / "sample")
            in_process("prepare", environment(prepared, directory / "home", options.batch_rows, 1))
            for time_of_all in range(options.times):
                for connections, after in product(options.connections, [False, True][: 1 + options.indexes_after]):
                    name = f"load_{time_of_all}_{connections}{'_after' if after else ''}"
                    url = fresh_database(server, name, directory / "sample", legacy=False)
                    variables = environment(url, directory / "home", options.batch_rows, connections, after=after)
                    took[connections, after].append(in_process("load", variables))
                    found.append(contents(url))
    assert all(each == found[0] for each in found), "what was loaded differs"
    print(f"{took[options.connections[0], False][0]['rows']:,} rows of four tables, the best of {options.times}")
    for (connections, after), loads in took.items():
        best = {name: min(load[name] for load in loads) for name in ("seconds", "of_load", "of_server", "peak")}
        told = f", {loads[0]['made_after']} indexes and foreign keys after" if after else ""
        print(
            f"{connections} connections{told}:"
            f" {best['seconds']:6.1f} s; of processors: the load {best['of_load']:.1f} s,"
            f" PostgreSQL {best['of_server']:.1f} s; peak memory {best['peak']:,.0f} MiB"
        )


if __name__ == "__main__":
    main()
