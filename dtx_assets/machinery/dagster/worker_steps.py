"""One step of a run, done by a worker: by one at a time, and once; what fails is in the history.

A step that was handed out again after its end, or after that of its run, is not done.
"""

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution.api import create_execution_plan, execute_plan_iterator
from dagster._core.execution.plan.objects import StepFailureData, UserFailureData
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.execution.retries import RetryMode
from dagster._serdes import deserialize_value
from dagster._utils.error import SerializableErrorInfo

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError, MigrationError
from dtx_assets.machinery.base.masking import mask_emails
from dtx_assets.machinery.base.settings import apply_environment_files
from dtx_assets.machinery.dagster.executors import environment_of
from dtx_assets.machinery.dagster.run import open_instance
from dtx_assets.machinery.dagster.worlds import require_same_world
from dtx_assets.machinery.load.step_attempts import ATTEMPTS, alone, attempt, died_at
from dtx_assets.machinery.system.system import System, settings_of

DEFINITIONS = "defs"
HISTORY = "DAGSTER_HOME"
"""Set by `dtx worker`, so that a worker that cannot read its settings can tell."""
LOG = logging.getLogger(__name__)
History = Callable[[Path], AbstractContextManager[dg.DagsterInstance]]


def do_step(
    module: str,
    run_id: str,
    step: str,
    job: Mapping[str, Any],
    known_state: str | None,
    worker: str,
    history: History | None = None,
) -> None:
    """Do a step of a run of the code location `module`."""
    history = history or open_instance
    try:
        apply_environment_files()
        system: System = importlib.import_module(module).SYSTEM
        settings = settings_of(system)
    except Exception as error:  # whatever it is, somebody waits for the end of the step
        LOG.exception("step %s of run %s is not done", step, run_id)
        with history(Path(os.environ[HISTORY])) as instance:
            if run := instance.get_run_by_id(run_id):
                fail(instance, run, step, error if isinstance(error, MigrationError) else unexpected(error))
        return
    with history(settings.home) as instance:
        run = instance.get_run_by_id(run_id)
        if run is None:
            LOG.error(
                "step %s is not done: its run %s is in another history than that of this worker: give it the"
                " DAGSTER_HOME of the run",
                step,
                run_id,
            )
            return
        try:
            if settings.target_url is None:
                raise ConfigurationError(
                    "this worker has no target database", where=worker, remedy=f"set {system.name.upper()}_TARGET_URL"
                )
            # Before anything is written: the target may be another one too.
            require_same_world(environment_of(system, instance, run), run)
            with alone(settings.target_url, run_id, step, LOG.warning) as connection:
                if is_over(instance, run_id, step):
                    LOG.warning("step %s of run %s has ended, and is not done again", step, run_id)
                    return
                dead = died_at(connection, run_id, step)
                if len(dead) >= ATTEMPTS:
                    raise LoadError(
                        f"{len(dead)} workers died while they did this step, and no other one is to",
                        where=", ".join(dead),
                        remedy="the logs of their machines say why, memory above all; what is written stays: run again",
                    )
                with attempt(connection, run_id, step, worker):
                    _do(instance, run, own_job(module, job), step, known_state)
        except MigrationError as error:
            fail(instance, run, step, error)


def kept_open(home: Path) -> AbstractContextManager[dg.DagsterInstance]:
    """The history, for all steps of a process: to open it takes as long as a small step."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return nullcontext(_opened(home))


@cache
def _opened(home: Path) -> dg.DagsterInstance:
    return open_instance(home)


def own_job(module: str, told: Mapping[str, Any]) -> ReconstructableJob:
    """The job of a run, or what it has of it, from the code that this process has, wherever that of the run lies."""
    asked = ReconstructableJob.from_dict(told)
    job = ReconstructableRepository.for_module(module, DEFINITIONS).get_reconstructable_job(asked.job_name)
    return job.get_subset(
        op_selection=asked.op_selection,
        asset_selection=asked.asset_selection,
        asset_check_selection=asked.asset_check_selection,
    )


def is_over(instance: dg.DagsterInstance, run_id: str, step: str) -> bool:
    """Whether a step has ended, or its run, so that nobody waits for it."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished or run.status == dg.DagsterRunStatus.CANCELING:
        return True
    ends = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE}
    records = instance.get_records_for_run(run_id, of_type=ends).records
    return any(record.event_log_entry.step_key == step for record in records)


def fail(instance: dg.DagsterInstance, run: dg.DagsterRun, step: str, error: MigrationError) -> None:
    """Note that a step failed that did not begin."""
    LOG.error("step %s of run %s: %s", step, run.run_id, error)
    if is_over(instance, run.run_id, step):
        return
    said = SerializableErrorInfo(str(error), [], type(error).__name__)
    event = DagsterEvent(
        event_type_value=DagsterEventType.STEP_FAILURE.value,
        job_name=run.job_name,
        step_key=step,
        event_specific_data=StepFailureData(said, UserFailureData(label="refused", description=str(error))),
        message=f"{step} was not done: {error.what}",
    )
    instance.report_dagster_event(event, run.run_id)


def _do(
    instance: dg.DagsterInstance, run: dg.DagsterRun, job: ReconstructableJob, step: str, known_state: str | None
) -> None:
    """Execute the step; where it could not begin, such as for the world of its run, its end is noted all the same."""
    try:
        _execute(instance, run, job, step, known_state)
    except Exception as error:  # whatever it is, somebody waits for the end of the step
        LOG.exception("step %s of run %s was ended", step, run.run_id)
        fail(instance, run, step, unexpected(error))


def unexpected(error: BaseException) -> MigrationError:
    """What an error was that nobody foresaw, in words."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = error.description if isinstance(error, dg.Failure) else f"{type(error).__name__}: {error}"
    return MigrationError(mask_emails(said or "failed without a message"))


def _execute(
    instance: dg.DagsterInstance, run: dg.DagsterRun, job: ReconstructableJob, step: str, known_state: str | None
) -> None:
    plan = create_execution_plan(
        job,
        run.run_config,
        step_keys_to_execute=[step],
        known_state=deserialize_value(known_state, KnownExecutionState) if known_state else None,
    )
    # What it gives is written to the history as it comes.
    for _event in execute_plan_iterator(
        plan, job, run, instance, retry_mode=RetryMode.DEFERRED, run_config=run.run_config
    ):
        pass
