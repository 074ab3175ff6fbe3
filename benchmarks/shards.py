"""The notification flow prepared by one process, and in 1, 2 and 4 shards by two workers: seconds and CPU of all.

    .venv/bin/python -m benchmarks.shards [--rows 200000]

The rows are extracted once. Each worker has a core of its own and no more threads than that, so that two of them are
to one what two machines are; the first line alone is a process that has both cores. Each step is a process of its own;
what it takes to start, which a worker does once, is not in the seconds. The digests of all parts are compared.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
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


class Workers:
    """Processes with a core each; none of them waits for another one's."""

    def __init__(self, arguments: Sequence[str], cores: Sequence[set[int]]) -> None:
        self._arguments, self._cores = arguments, SimpleQueue[set[int]]()
        self.count = len(cores)
        for core in cores:
            self._cores.put(core)

    @contextmanager
    def _core(self) -> Iterator[set[int]]:
        core = self._cores.get()
        yield core
        self._cores.put(core)

    def do(self, step: str, shard_rows: int) -> dict[str, Any]:
        """What a process says of itself after the step."""
        with self._core() as core:
            command = [sys.executable, "-m", "benchmarks.shards", *self._arguments, "--step", step]
            command += ["--shard-rows", str(shard_rows)]
            done = subprocess.run(
                ["taskset", "--cpu-list", ",".join(map(str, core)), *command],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"POLARS_MAX_THREADS": str(len(core))},
            )
            return {**json.loads(done.stdout.splitlines()[-1]), "core": min(core)}


def measured(workers: Workers, shard_rows: int, run: Any, flow: Any) -> tuple[float, list[dict[str, Any]]]:
    """Seconds without starts, and what each process says of itself; one process where `shard_rows` is 0."""
    for model in flow.targets:
        for layer in ("prepared", "rejected"):
            run.lake.forget(run.key(layer, model))
    first = workers.do("plan" if shard_rows else "prepare", shard_rows)
    if not shard_rows:
        return first["seconds"], [first]
    with ThreadPoolExecutor(workers.count) as pool:
        shards = list(pool.map(lambda shard: workers.do(shard, shard_rows), first["left"]))
    last = workers.do("finish", shard_rows)
    of_cores = [sum(step["seconds"] for step in shards if step["core"] == core) for core in {s["core"] for s in shards}]
    return first["seconds"] + max(of_cores, default=0) + last["seconds"], [first, *shards, last]


def digests(run: Any) -> list[str]:
    return [part["digest"] for part in run.lake.require(run.key("prepared", MODEL)).metadata["parts"]]


def report(what: str, seconds: float, steps: Sequence[dict[str, Any]], idle: float) -> None:
    cpu, peak = sum(step["cpu"] for step in steps), max(step["peak_mib"] for step in steps)
    told = ", ".join(f"{step['seconds']:.1f}" for step in steps)
    print(
        f"{what:32} {seconds:6.1f} s ({told})  CPU {cpu - idle * len(steps):6.1f} s  peak {peak:5,.0f} MiB", flush=True
    )


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
        run = run_of(options.home, options.sample, options.shard_rows)
        started = time.perf_counter()
        left = do(options.step, run, flow)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        print(json.dumps({"left": left, "seconds": seconds, "cpu": cpu, "peak_mib": peak}))
        return
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch:
        home, sample = Path(scratch, "home"), new_sample(Path(scratch, "sample"), options.rows)
        run = run_of(home, sample, 0)
        with embedded_postgres(Path(scratch, "state")) as server:
            rows = extract(run, flow, fresh_target(server, "shards", sample))
        arguments = ["--home", str(home), "--sample", str(sample)]
        cores = sorted(os.sched_getaffinity(0))[:2]
        whole, one, two = (
            Workers(arguments, [set(cores)]),
            Workers(arguments, [{cores[0]}]),
            Workers(arguments, [{core} for core in cores]),
        )
        idle = one.do("nothing", 0)["cpu"]
        print(f"{rows:,} legacy rows; a process takes {idle:.1f} s of CPU to start; seconds of the steps in brackets")
        report("one process, both cores", *measured(whole, 0, run, flow), idle)
        report("one process, one core", *measured(one, 0, run, flow), idle)
        alone = digests(run)
        for count, workers in ((1, one), (2, one), (2, two), (4, two)):
            size = -(-rows // count)
            what = f"{count} shard(s), {workers.count} worker(s)"
            report(what, *measured(workers, size, run, flow), idle)
            assert digests(run) == alone
        print(f"the digests of all {len(alone)} parts are equal")


if __name__ == "__main__":
    main()
