"""How long it takes to verify a target of a million rows, and to explain one row of it, either way.

    .venv/bin/python -m benchmarks.verify_and_explain [--rows 65000]

The rows are loaded by the notification flow; then a hundred of them get another value, a hundred are deleted, and the
verification has to find just those. The explanations are timed in the process, and as the command that a user types.
A legacy row is found among two million by itself.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks.notification_flow import MODEL, TABLE, fresh_target, new_sample, worker

EACH = 100
TIMES = 20
DTX = Path(sys.executable).with_name("dtx")
LEGACY_ROWS = 2_000_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=65_000, help="notification rows, of 15 schedules each")
    options = arguments.parse_args()
    from dtx_assets.machinery.postgres.embedded import embedded_postgres

    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch,
        embedded_postgres(Path(scratch) / "state") as server,
    ):
        directory = Path(scratch)
        sample = new_sample(directory / "sample", options.rows)
        target = fresh_target(server, "flow", sample)
        worker(sample, target, directory / "home")
        environment = {
            "DTX_LEGACY_URL": str(sample),
            "DTX_TARGET_URL": target,
            "DTX_HOME": str(directory / "home"),
        }
        os.environ.update(environment)
        measure_verify(target)
        measure_explain(target)
        measure_finding(new_sample(directory / "millions", LEGACY_ROWS // 2), directory / "another home")


def measure_verify(target_url: str) -> None:
    from dtx_assets.cli.shared import environment_of
    from dtx_assets.dtx.system import SYSTEM
    from dtx_assets.machinery.load import verify_target

    with environment_of(SYSTEM.name) as environment:
        for found in ("nothing planted", "planted"):
            started = time.perf_counter()
            verification = verify_target(
                SYSTEM.name, SYSTEM.target(MODEL), environment.lake, target_url, environment.dry_load()
            )
            seconds = time.perf_counter() - started
            counts = dict(verification.counts)
            rate = verification.rows / seconds
            print(f"verify {verification.rows:,} rows, {found}: {seconds:.1f} s, {rate:,.0f} rows/s, found {counts}")
            assert counts == ({} if found == "nothing planted" else {"changed": EACH, "lost": EACH}), counts
            if found == "nothing planted":
                plant(target_url)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  1 M rows in {1e6 / rate:.1f} s (reach 10); peak {peak:,.0f} MiB")


def plant(target_url: str) -> None:
    with psycopg.connect(target_url) as connection:
        ids = [row[0] for row in connection.execute(f"SELECT id FROM {TABLE} TABLESAMPLE SYSTEM (5) LIMIT 200")]  # type: ignore[arg-type]
        connection.execute(f"UPDATE {TABLE} SET days_after = days_after + 1 WHERE id = ANY (%s)", [ids[:EACH]])  # type: ignore[arg-type]
        connection.execute(f"DELETE FROM {TABLE} WHERE id = ANY (%s)", [ids[EACH:]])  # type: ignore[arg-type]


def measure_explain(target_url: str) -> None:
    from dtx_assets.cli.shared import environment_of
    from dtx_assets.dtx.system import SYSTEM
    from dtx_assets.machinery.run.explain import explain_legacy_row, explain_target_row

    with psycopg.connect(target_url) as connection:
        ids = [row[0] for row in connection.execute(f"SELECT id FROM {TABLE} TABLESAMPLE SYSTEM (5) LIMIT {TIMES}")]  # type: ignore[arg-type]
    back, forth = [], []
    with environment_of(SYSTEM.name) as environment:
        for target_id in ids:
            started = time.perf_counter()
            facts = explain_target_row(environment, SYSTEM.target(MODEL), target_id)
            back.append(time.perf_counter() - started)
            source = facts["sources"][0]
            started = time.perf_counter()
            there = explain_legacy_row(environment, SYSTEM.legacy_tables[source["source_table"]], source["source_key"])
            forth.append(time.perf_counter() - started)
            assert str(target_id) in {went["target_id"] for went in there["went_to"]}
    for name, seconds in (("a target row", back), ("a legacy row", forth)):
        print(f"explain {name}: median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s (under 1)")
    for arguments in ([MODEL, str(ids[0])], ["--from", source["source_table"], source["source_key"]]):
        started = time.perf_counter()
        subprocess.run([DTX, "explain", *arguments], check=True, capture_output=True)
        print(f"dtx explain {arguments[0]} …: {time.perf_counter() - started:.2f} s with the start of Python")


def measure_finding(sample: Path, home: Path) -> None:
    from dtx_assets.cli.shared import environment_of
    from dtx_assets.dtx.system import SYSTEM
    from dtx_assets.machinery.run.ways import landed_row
    from dtx_assets.machinery.sources.frames import legacy_frame, source_key

    table = SYSTEM.legacy_tables["notification_webhook"]
    os.environ.update(DTX_LEGACY_URL=str(sample), DTX_HOME=str(home))
    subprocess.run([DTX, "run", "--select", f"legacy/{table.name}"], check=True, capture_output=True)
    with environment_of(SYSTEM.name) as environment:
        landed = source_key(table, legacy_frame(environment.lake, SYSTEM.name, table)).select("_source_key").collect()
        seconds = []
        for key in landed.to_series().gather_every(landed.height // TIMES):
            started = time.perf_counter()
            found = landed_row(environment, table.name, key)
            seconds.append(time.perf_counter() - started)
            assert found is not None
    told = f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s"
    print(f"find one of {landed.height:,} legacy rows: {told}")


if __name__ == "__main__":
    main()
