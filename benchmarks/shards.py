"""The notification flow prepared by one process, and in 1, 2 and 4 shards by two at once: seconds and CPU of all.

    .venv/bin/python -m benchmarks.shards [--rows 200000]

The rows are extracted once. Each step is a process of its own, as it is on workers; what a process takes to start is in
the figures, and said. The digests of all parts are compared.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.notification_flow import MODEL, fresh_target, new_sample

CUTOVER_AT = datetime(2026, 11, 21, tzinfo=UTC)


def run_of(home: Path, sample: Path, shard_rows: int) -> Any:
    from dtx_assets.dtx.system import SYSTEM
    from dtx_assets.machinery.base.lake import Lake
    from dtx_assets.machinery.base.settings import Settings
    from dtx_assets.machinery.mapping.decisions import load_decisions
    from dtx_assets.machinery.prepare.preparation import RunSettings

    environment = {"DTX_LEGACY_URL": str(sample), "DTX_HOME": str(home), "DTX_SHARD_ROWS": str(shard_rows)}
    settings = Settings.from_environment("dtx", environ=environment, sample_dir=SYSTEM.sample_dir)
    decisions = load_decisions(SYSTEM.mappings_dir / "decisions.yaml")
    return RunSettings("bench", SYSTEM, settings, decisions, CUTOVER_AT, Lake(settings.lake_url))


def extract(run: Any, flow: Any, target_url: str) -> int:
    """Lands what the flow reads; gives its legacy rows."""
    from dtx_assets.machinery.look_ups.assets import MappingContext, build_mapping_asset
    from dtx_assets.machinery.sources import open_source

    system, lake = run.system, run.lake
    with open_source(run.settings.legacy_url) as source:
        for name in flow.sources:
            source.extract(system.legacy_tables[name], lake, ("dtx", "legacy", name), run.run_id)
        for name in ("crosswalk_account", "crosswalk_user"):
            source.extract(system.crosswalk_tables[name], lake, ("dtx", "crosswalk", name), run.run_id)
    context = MappingContext("dtx", lake, run.run_id, target_url, system.crosswalk_tables, system.mappings)
    for asset in system.mapping_assets:
        if asset.name in flow.mappings:
            build_mapping_asset(asset, context)
    return sum(lake.require(("dtx", "legacy", name)).tables["rows"].rows for name in flow.sources)


def do(step: str, run: Any, flow: Any) -> list[str]:
    """One step; gives the shards that are left."""
    from dtx_assets.machinery.base.shard import Shard
    from dtx_assets.machinery.prepare.preparation import prepare_flow
    from dtx_assets.machinery.prepare.shards import finish_flow, plan_flow, prepare_shard

    if step == "prepare":
        prepare_flow(flow, run)
    elif step == "plan":
        return [shard.name for shard in plan_flow(flow, run)]
    elif step == "finish":
        finish_flow(flow, run)
    elif step != "nothing":
        prepare_shard(flow, run, Shard.named(step))
    return []


def process(home: Path, sample: Path, shard_rows: int, step: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.shards", "--step", step, "--home", str(home), "--sample", str(sample)]
    command += ["--shard-rows", str(shard_rows)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(home: Path, sample: Path, shard_rows: int, run: Any, flow: Any) -> tuple[float, list[dict[str, Any]]]:
    """Seconds, and what each process says of itself; in one process where `shard_rows` is 0."""
    for model in flow.targets:
        for layer in ("prepared", "rejected"):
            run.lake.forget(run.key(layer, model))
    start = time.perf_counter()
    first = process(home, sample, shard_rows, "plan" if shard_rows else "prepare")
    steps = [first]
    if shard_rows:
        with ThreadPoolExecutor(2) as pool:
            steps += pool.map(lambda shard: process(home, sample, shard_rows, shard), first["left"])
        steps.append(process(home, sample, shard_rows, "finish"))
    return time.perf_counter() - start, steps


def digests(run: Any) -> list[str]:
    return [part["digest"] for part in run.lake.require(run.key("prepared", MODEL)).metadata["parts"]]


def report(what: str, seconds: float, steps: Sequence[dict[str, Any]], idle: float) -> None:
    cpu, peak = sum(step["cpu"] for step in steps), max(step["peak_mib"] for step in steps)
    started = idle * len(steps)
    print(f"{what:12} {seconds:7.1f} s  CPU {cpu:6.1f} s, {cpu - started:6.1f} without starts  peak {peak:5,.0f} MiB")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=200_000, help="notification rows; twice as many webhook rows")
    arguments.add_argument("--step", help=argparse.SUPPRESS)
    arguments.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--sample", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--shard-rows", type=int, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    from dtx_assets.dtx.system import SYSTEM
    from dtx_assets.machinery.postgres.embedded import embedded_postgres

    flow = next(flow for flow in SYSTEM.flows if MODEL in flow.targets)
    if options.step:
        left = do(options.step, run_of(options.home, options.sample, options.shard_rows), flow)
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        print(json.dumps({"left": left, "cpu": cpu, "peak_mib": peak}))
        return
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch:
        home, sample = Path(scratch, "home"), new_sample(Path(scratch, "sample"), options.rows)
        run = run_of(home, sample, 0)
        with embedded_postgres(Path(scratch, "state")) as server:
            rows = extract(run, flow, fresh_target(server, "shards", sample))
        idle = process(home, sample, 0, "nothing")["cpu"]
        print(f"{rows:,} legacy rows; a process takes {idle:.1f} s of CPU to start")
        report("one process", *measured(home, sample, 0, run, flow), idle)
        alone = digests(run)
        for count in (1, 2, 4):
            size = -(-rows // count)
            report(f"{count} shard(s)", *measured(home, sample, size, run, flow), idle)
            assert digests(run) == alone
        print(f"the digests of all {len(alone)} parts are equal")


if __name__ == "__main__":
    main()
