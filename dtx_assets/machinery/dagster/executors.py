"""What does the steps of a system's runs, as the environment says: the process of the run, one for each step, or
workers that RabbitMQ hands them to.

By default Dagster's own executor in one process stands here untouched. With any other a run begins by refusing what is
one machine's, and by noting its world.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast, get_args

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig
from dagster._core.executor.multiprocess import MultiprocessExecutor
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from dtx_assets.machinery.base.errors import MigrationError
from dtx_assets.machinery.base.settings import Mode, apply_environment_files, workers_of
from dtx_assets.machinery.base.workers import Workers, require_celery
from dtx_assets.machinery.dagster.attempts import asked_option
from dtx_assets.machinery.dagster.graph import failure
from dtx_assets.machinery.dagster.resources import has_failed_step, run_started_at
from dtx_assets.machinery.dagster.worlds import note_world
from dtx_assets.machinery.load.runs import settle_run
from dtx_assets.machinery.run.environment import RunEnvironment, RunOptions
from dtx_assets.machinery.run.one_machine import require_for_all
from dtx_assets.machinery.system.system import System, settings_of

PRELOADED = ["dagster"]
"""Not Polars and not the definitions: a process that is forked after they were used hangs."""
MODES: dict[str, Mode] = {name: name for name in get_args(Mode)}


def executor_of(system: System) -> dg.ExecutorDefinition:
    """The executor of a system's jobs; ConfigurationError where the environment asks for one that cannot be had."""
    workers = workers_of(system.name)
    if workers.executor == "in_process":
        return dg.in_process_executor
    return by_processes(system) if workers.executor == "multiprocess" else by_workers(system, workers)


def by_processes(system: System) -> dg.ExecutorDefinition:
    """A process for each step, on this machine."""

    @dg.executor(
        name="multiprocess",
        config_schema={
            "max_concurrent": dg.Field(
                dg.Noneable(int),
                is_required=False,
                default_value=None,
                description="Processes at once; one a core where nothing is said.",
            )
        },
        requirements=dg.multiple_process_executor_requirements(),
    )
    def multiprocess(context: dg.InitExecutorContext) -> dg.Executor:
        made = MultiprocessExecutor(
            retries=RetryMode.ENABLED,
            max_concurrent=cast("int | None", context.executor_config["max_concurrent"]),
            start_method="forkserver",
            explicit_forkserver_preload=PRELOADED,
        )
        return Begun(made, system)

    return multiprocess


def by_workers(system: System, workers: Workers) -> dg.ExecutorDefinition:
    """Workers, on whatever machines, to whom a broker hands the steps."""
    require_celery(system.name)
    from dtx_assets.machinery.dagster.handing_out import HandingOut

    @dg.executor(name="celery", requirements=dg.multiple_process_executor_requirements())
    def celery(_context: dg.InitExecutorContext) -> dg.Executor:
        return Begun(HandingOut(system, workers), system)

    return celery


def require_one_world(system: System, instance: dg.DagsterInstance) -> None:
    """ConfigurationError, with all reasons, where the processes of a run would not have the same world."""
    kept_here = isinstance(instance.event_log_storage, SqliteEventLogStorage)
    history = instance.root_directory if kept_here else None
    require_for_all(settings_of(system), history, os.environ.get("AWS_ENDPOINT_URL"))


def environment_of(system: System, instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunEnvironment:
    """What a run is told, in this process, outside of its steps."""
    options = RunOptions(mode=MODES.get(asked_option(run, "mode")))
    return RunEnvironment(system, run.run_id, run_started_at(instance, run.run_id), options=options)


class Begun(dg.Executor):
    """An executor whose runs begin by refusing what is one machine's, and by noting their world."""

    def __init__(self, executor: dg.Executor, system: System) -> None:
        self.executor, self.system = executor, system

    @property
    def retries(self) -> RetryMode:
        return self.executor.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        return self.executor.step_dependency_config

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[Any]:
        apply_environment_files()
        instance, run = plan_context.instance, plan_context.dagster_run
        try:
            require_one_world(self.system, instance)
            note_world(environment_of(self.system, instance, run), instance)
        except MigrationError as error:
            raise failure(error) from None
        is_whole = False
        try:
            yield from self.executor.execute(plan_context, execution_plan)
            is_whole = True
        finally:
            # Nobody else says that a run has ended, nor that it was broken off.
            with suppress(MigrationError):
                failed = not is_whole or has_failed_step(instance, run.run_id)
                settle_run(settings_of(self.system).target_url or "", run.run_id, failed=failed)
