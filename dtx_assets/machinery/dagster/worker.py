"""A worker: takes the steps of one system and environment from its queue. `dtx worker` starts it.

This is the parent, which forks a process for each step at once and must never have had Polars or the definitions: what
they do is `worker_steps`, and imported there.
"""

import os
import socket
import sys
from typing import Any

from dtx_assets.machinery.base.settings import apply_environment_files, workers_of
from dtx_assets.machinery.dagster.queue import STEP_TASK, application


def main(system: str, module: str, processes: str) -> None:
    apply_environment_files()
    workers = workers_of(system)
    app = application(workers)
    name = f"{workers.queue}@{socket.gethostname()}.{os.getpid()}"

    @app.task(name=STEP_TASK, ignore_result=True)
    def step(run_id: str, step_key: str, job: dict[str, Any], known_state: str | None) -> None:
        from dtx_assets.machinery.dagster.worker_steps import do_step, kept_open

        do_step(module, run_id, step_key, job, known_state, f"{name}/{os.getpid()}", kept_open)

    if "polars" in sys.modules:
        raise RuntimeError("workers would be forked after Polars was imported, and their steps would hang")
    app.worker_main(
        [
            "worker",
            *("--hostname", name),
            *("--queues", workers.queue),
            *("--concurrency", processes),
            *("--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
