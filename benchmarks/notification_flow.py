"""The notification flow from CSV to committed rows, beside a plain COPY of the finished rows, in one run.

    .venv/bin/python benchmarks/notification_flow.py [--rows 200000] [--times-ten]

Every measured load is a process of its own (its peak memory is its own) against one embedded PostgreSQL; the plain COPY
goes into the same table with the same indexes, of a second database of the same server. Figures are ratios of one run.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

MODEL = "NotificationSchedule"
TABLE = "docutrax_utils_notificationschedule"
CHUNK = 1 << 20


def work(sample: Path, target_url: str, home: Path) -> dict[str, Any]:
    """One run of the flow: extract, map, prepare, load. Seconds a step, rows, peak memory in MiB."""
    from dtx_assets.dtx.system import SYSTEM
    from dtx_assets.machinery.base.lake import Lake
    from dtx_assets.machinery.base.settings import Settings
    from dtx_assets.machinery.load import finish_run, load_target, open_run
    from dtx_assets.machinery.look_ups.assets import MappingContext, build_mapping_asset
    from dtx_assets.machinery.mapping.decisions import load_decisions
    from dtx_assets.machinery.prepare.preparation import RunSettings, prepare_flow
    from dtx_assets.machinery.sources import open_source

    environment = {"DTX_LEGACY_URL": str(sample), "DTX_TARGET_URL": target_url, "DTX_HOME": str(home)}
    settings = Settings.from_environment("dtx", environ=environment, sample_dir=SYSTEM.sample_dir)
    lake, run_id = Lake(settings.lake_url), f"bench-{time.time_ns()}"
    decisions = load_decisions(SYSTEM.mappings_dir / "decisions.yaml")
    flow = next(flow for flow in SYSTEM.flows if MODEL in flow.targets)
    seconds: dict[str, float] = {}

    with timed(seconds, "extract"), open_source(settings.legacy_url) as source:
        for name in flow.sources:
            source.extract(SYSTEM.legacy_tables[name], lake, ("dtx", "legacy", name), run_id)
        for name in ("crosswalk_account", "crosswalk_user"):
            source.extract(SYSTEM.crosswalk_tables[name], lake, ("dtx", "crosswalk", name), run_id)
    with timed(seconds, "map"):
        context = MappingContext("dtx", lake, run_id, target_url, SYSTEM.crosswalk_tables, SYSTEM.mappings)
        for asset in SYSTEM.mapping_assets:
            if asset.name in flow.mappings:
                build_mapping_asset(asset, context)
    with timed(seconds, "prepare"):
        prepare_flow(flow, RunSettings(run_id, SYSTEM, settings, decisions, datetime.now(UTC), lake))
    with timed(seconds, "load"):
        run = open_run(target_url, "dtx", run_id, mode="rehearsal", decisions=dict(decisions.chosen), cutover_at=None)
        summary = load_target("dtx", SYSTEM.target(MODEL), lake, target_url, run, on_conflict="keep_target")
        finish_run(run, "succeeded")
    return {
        "seconds": seconds,
        "total": sum(seconds.values()),
        "inserted": summary.inserted,
        "unchanged": summary.unchanged,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def worker(sample: Path, target_url: str, home: Path) -> dict[str, Any]:
    environment = os.environ | {"BENCH_TARGET": target_url}
    command = [sys.executable, __file__, "--work", str(sample), "--home", str(home)]
    finished = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(finished.stdout.splitlines()[-1])


def new_sample(directory: Path, rows: int, ugly_share: float = 0.0) -> Path:
    from dtx_assets.dtx.system import SYSTEM
    from dtx_assets.machinery.samples.write import write_sample

    write_sample(SYSTEM, directory, rows=rows, ugly=False, ugly_share=ugly_share)
    return directory


def fresh_target(server: Any, name: str, sample: Path) -> str:
    """The URL of a new database of the embedded server, with the target's tables and the rows of other areas."""
    from dtx_assets.dtx.system import SYSTEM, load_other_areas
    from dtx_assets.machinery.load import create_target

    url: str = server.create_database(name)
    with psycopg.connect(url) as connection:
        create_target(connection, SYSTEM.targets)
        load_other_areas(connection, sample / "target")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    return url


def plain_copy(source_url: str, target_url: str, directory: Path) -> float:
    """Seconds of a COPY of the finished rows, in the order they were written, from a file into an empty table."""
    columns = "account_id, type, sequence, days_after, timing_type, email_recipients, is_active, created_by_id, created"
    file = directory / "finished.csv"
    with psycopg.connect(source_url) as connection, file.open("wb") as stream:
        query = f"COPY (SELECT id, {columns} FROM {TABLE} ORDER BY id) TO STDOUT (FORMAT csv)"
        with connection.cursor().copy(query) as copy:  # type: ignore[arg-type]
            for block in copy:
                stream.write(block)
    with psycopg.connect(target_url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        start = time.perf_counter()
        with (
            connection.cursor().copy(f"COPY {TABLE} (id, {columns}) FROM STDIN (FORMAT csv)") as copy,
            file.open("rb") as stream,
        ):  # type: ignore[arg-type]
            while block := stream.read(CHUNK):
                copy.write(block)
        seconds = time.perf_counter() - start
    file.unlink()
    return seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=200_000, help="notification rows; twice as many webhook rows")
    arguments.add_argument("--times-ten", action="store_true", help="also ten times the rows, for the peak memory")
    arguments.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.work:
        print(json.dumps(work(options.work, os.environ["BENCH_TARGET"], options.home)))
        return

    from dtx_assets.machinery.postgres.embedded import embedded_postgres

    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch:
        directory = Path(scratch)
        with embedded_postgres(directory / "state") as server:
            clean = new_sample(directory / "clean", options.rows)
            target = fresh_target(server, "flow", clean)
            first = worker(clean, target, directory / "home")
            copied = plain_copy(target, fresh_target(server, "copy", clean), directory)
            with psycopg.connect(target, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
            second = worker(clean, target, directory / "home")
            bad_sample = new_sample(directory / "bad", options.rows, ugly_share=0.2)
            bad = worker(bad_sample, fresh_target(server, "bad", bad_sample), directory / "bad-home")
            report(options.rows, first, copied, second, bad)
            if options.times_ten:
                large_sample = new_sample(directory / "large", options.rows * 10)
                large = worker(large_sample, fresh_target(server, "large", large_sample), directory / "large-home")
                print(
                    f"ten times the rows: {large['inserted']:,} schedules in {large['total']:.1f} s, "
                    f"peak {large['peak_mib']:,.0f} MiB ({large['peak_mib'] / first['peak_mib']:.2f}x)"
                )


def report(rows: int, first: dict[str, Any], copied: float, second: dict[str, Any], bad: dict[str, Any]) -> None:
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in first["seconds"].items())
    again, worse = second["total"] / first["total"], bad["total"] / first["total"]
    print(f"{rows:,} notification rows, {2 * rows:,} webhook rows → {first['inserted']:,} schedules")
    print(f"flow, CSV to committed rows   {first['total']:6.1f} s  ({steps})")
    print(f"plain COPY of the same rows   {copied:6.1f} s")
    print(f"ratio                         {first['total'] / copied:6.2f}    (reach 1.60, aim at 1.25)")
    print(f"second run, nothing changed   {second['total']:6.1f} s  {again:.2f} of the first (under 0.25)")
    print(f"20 % bad rows                 {bad['total']:6.1f} s  {worse:.2f} of none (within 1.30)")
    print(f"peak memory                   {first['peak_mib']:6,.0f} MiB (under 1,500)")


if __name__ == "__main__":
    main()
