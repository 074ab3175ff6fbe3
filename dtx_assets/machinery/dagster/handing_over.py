"""A run whose steps other processes do: started here, told and logged from the history, in which all of them write."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import execute_run

from dtx_assets.machinery.base.masking import mask_emails
from dtx_assets.machinery.dagster.executors import require_one_world
from dtx_assets.machinery.dagster.run import (
    PROCESS_TAG,
    RunOutcome,
    close_dead_runs,
    closing_what_is_interrupted,
    configured,
    log_file,
    open_instance,
    read_outcome,
    steps_of,
    this_process,
)
from dtx_assets.machinery.dagster.run_log import EventListener, logging_runs
from dtx_assets.machinery.system.system import System

SECONDS_BETWEEN_LOOKS = 0.5


def is_handed_over(job: dg.JobDefinition) -> bool:
    """Whether other processes do its steps: those of what writes nothing are done by the one that asks for it."""
    return job.executor_def is not dg.in_process_executor


def hand_over_job(
    system: System,
    module: str,
    job: dg.JobDefinition,
    home: Path,
    instance: dg.DagsterInstance,
    listener: EventListener | None = None,
    options: Mapping[str, Any] | None = None,
) -> RunOutcome:
    """Run all steps of a job of the code location `module` by the processes that its executor has; as `run_job` does
    in this one."""
    require_one_world(system, instance)
    started = time.monotonic()
    close_dead_runs(instance)
    whole = ReconstructableRepository.for_module(module, "defs").get_reconstructable_job(job.name)
    # Dagster takes nothing for all there is, and an empty set for none of it.
    assets = frozenset(job.asset_selection or ()) or None
    checks = None if job.asset_check_selection is None else frozenset(job.asset_check_selection)
    taken = whole.get_subset(asset_selection=assets, asset_check_selection=checks)
    log, listener = log_file(home), listener or (lambda _event: None)
    with closing_what_is_interrupted(instance):
        run = instance.create_run_for_job(
            job_def=job,
            run_config=configured(options),
            tags={PROCESS_TAG: this_process()},
            job_code_origin=taken.get_python_origin(),
            asset_selection=assets,
        )
        with watching(home, run.run_id, log, listener):
            execute_run(taken, run, instance, raise_on_error=False)
    ended = instance.get_run_by_id(run.run_id)
    succeeded = ended is not None and ended.status == dg.DagsterRunStatus.SUCCESS
    events = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
    return read_outcome(run.run_id, succeeded, events, steps_of(job), time.monotonic() - started)


@contextmanager
def watching(home: Path, run_id: str, log: Path, listener: EventListener) -> Iterator[None]:
    """Call `listener` with the events of a run, of whatever process, and write all that is said to a file."""
    ended = threading.Event()
    # What others write is read here; what this process logs itself would be there twice.
    with logging_runs(Path(os.devnull), lambda _event: None), open_instance(home) as instance:
        thread = threading.Thread(target=_watch, args=(instance, run_id, log, listener, ended.wait), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _watch(
    instance: dg.DagsterInstance,
    run_id: str,
    log: Path,
    listener: EventListener,
    waited: Callable[[float], bool],
) -> None:
    cursor, is_last = None, False
    with log.open("a", encoding="utf-8") as file:
        while True:
            connection = instance.get_records_for_run(run_id, cursor)
            cursor = connection.cursor
            for record in connection.records:
                _write(file, record.event_log_entry)
                if event := record.event_log_entry.dagster_event:
                    listener(event)
            if connection.has_more:
                continue
            if is_last:
                return
            # Once more after the end: what was written at last.
            is_last = waited(SECONDS_BETWEEN_LOOKS)


def _write(file: TextIO, entry: dg.EventLogEntry) -> None:
    at = datetime.fromtimestamp(entry.timestamp, UTC)
    level = logging.getLevelName(entry.level)
    file.write(mask_emails(f"{at:%Y-%m-%d %H:%M:%S} {level} {entry.step_key or ''} {entry.message}") + "\n")
    file.flush()
