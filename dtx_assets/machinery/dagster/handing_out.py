"""The executor that hands steps to workers through RabbitMQ, and learns from the history of runs what became of them.

Nobody's memory is asked: a step has ended when its event stands in the history, whoever wrote it. So a broker that is
started again, a worker that dies and a step that is handed out twice change nothing; and where nothing can go on any
more, no broker, no worker, or a step that nobody has, the step fails with words.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import StepDelegatingExecutor
from dagster._core.executor.step_delegating.step_handler.base import (
    CheckStepHealthResult,
    StepHandler,
    StepHandlerContext,
)
from dagster._serdes import serialize_value
from kombu.exceptions import OperationalError

from dtx_assets.machinery.base.errors import LoadError, MigrationError
from dtx_assets.machinery.base.settings import mask_url
from dtx_assets.machinery.base.workers import Workers
from dtx_assets.machinery.dagster.graph import failure
from dtx_assets.machinery.dagster.queue import SECONDS_TO_CONNECT, STEP_TASK, application
from dtx_assets.machinery.load.step_attempts import is_being_done
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.system.system import System, settings_of

SECONDS_BETWEEN_EVENTS = 0.3
SECONDS_BETWEEN_LOOKS = 5
SECONDS_BETWEEN_TRIES = 2
BROKER_ERRORS = (OperationalError, OSError, ConnectionError)


class HandingOut(StepDelegatingExecutor):
    """Dagster's executor for steps that others do."""

    def __init__(self, system: System, workers: Workers) -> None:
        self._steps = Steps(system, workers)
        super().__init__(
            self._steps,
            RetryMode.ENABLED,
            sleep_seconds=SECONDS_BETWEEN_EVENTS,
            check_step_health_interval_seconds=min(SECONDS_BETWEEN_LOOKS, workers.seconds),
        )
        self._ended: set[str] = set()

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[Any]:
        self._steps.job = plan_context.reconstructable_job.to_dict()
        yield from super().execute(plan_context, execution_plan)

    def _pop_events(
        self, instance: dg.DagsterInstance, run_id: str, seen_storage_ids: set[int]
    ) -> Sequence[dg.DagsterEvent]:
        """Without what a step says after its end: one that was handed out twice, or given up, may end once more."""
        events = []
        for event in super()._pop_events(instance, run_id, seen_storage_ids):
            if event.step_key in self._ended and (event.is_step_event or event.is_resource_init_failure):
                continue
            if event.step_key and (event.is_step_success or event.is_step_failure):
                self._ended.add(event.step_key)
            events.append(event)
        return events


class Steps(StepHandler):
    """Hands steps out, and says of one whether there is hope that somebody does it."""

    def __init__(self, system: System, workers: Workers) -> None:
        super().__init__()
        self.system, self.workers = system, workers
        self.app = application(workers)
        self.job: Mapping[str, Any] = {}
        """What is run, as whoever does a step of it makes it again."""
        self._seen = Seen(workers.seconds)
        self._looked: tuple[float, str | None] = (float("-inf"), None)
        self._waiting = 0

    @property
    def name(self) -> str:
        return "workers of a queue"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        asked = step_handler_context.execute_step_args
        [step] = asked.step_keys_to_execute or []
        known = serialize_value(asked.known_state) if asked.known_state else None
        try:
            self.app.send_task(
                STEP_TASK,
                [asked.run_id, step, self.job, known],
                queue=self.workers.queue,
                retry=True,
                # A broker that is being started again is waited for.
                retry_policy={
                    "max_retries": max(3, self.workers.seconds // SECONDS_BETWEEN_TRIES),
                    "interval_start": 0.2,
                    "interval_step": 0.5,
                    "interval_max": SECONDS_BETWEEN_TRIES,
                },
                # One that has no room confirms nothing.
                confirm_timeout=self.workers.seconds,
                ignore_result=True,
            )
        except BROKER_ERRORS as error:
            raise failure(self._unreachable(error)) from None
        self._seen.now(step)
        yield from ()

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        [step] = step_handler_context.execute_step_args.step_keys_to_execute or []
        if self._is_being_done(step_handler_context.dagster_run.run_id, step):
            # Whatever became of the broker and of other workers.
            return CheckStepHealthResult.healthy()
        why_not = self._what_is_wrong() or self._is_lost(step)
        return CheckStepHealthResult.unhealthy(why_not) if why_not else CheckStepHealthResult.healthy()

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        """What waits in the queue is not begun once the run has ended, and what was begun is finished."""
        yield from ()

    def _what_is_wrong(self) -> str | None:
        """Of broker and workers, the same for all steps: looked at once for all of them."""
        at, said = self._looked
        if time.monotonic() - at < min(SECONDS_BETWEEN_LOOKS, self.workers.seconds) / 2:
            return said
        found = self._look()
        self._looked = (time.monotonic(), found)
        return found

    def _look(self) -> str | None:
        try:
            self._waiting, consumers = queue_of(self.app, self.workers)
        except BROKER_ERRORS as error:
            return str(self._unreachable(error)) if self._seen.long_ago("broker") else None
        self._seen.now("broker")
        if consumers:
            self._seen.now("worker")
        if self._seen.long_ago("worker"):
            return (
                f"no worker has taken steps from the queue {self.workers.queue} for {self.workers.seconds} s: start"
                f" some with `dtx worker {self.system.name}`, with the variables of this run, and run again"
            )
        return None

    def _is_being_done(self, run_id: str, step: str) -> bool:
        url = settings_of(self.system).target_url
        try:
            if url is None:
                return False
            with connect(url) as connection:
                is_it = is_being_done(connection, run_id, step)
        except MigrationError:
            # The target does not answer: that is for the steps to tell.
            self._seen.now(step)
            return False
        if is_it:
            self._seen.now(step)
        return is_it

    def _is_lost(self, step: str) -> str | None:
        """Where neither the queue nor a worker has it: its message was lost with the memory of a broker."""
        if self._waiting:
            self._seen.now(step)
        if self._seen.long_ago(step):
            return f"neither the queue nor a worker has had the step for {self.workers.seconds} s: run again"
        return None

    def _unreachable(self, error: BaseException) -> LoadError:
        return LoadError(
            f"the broker cannot be reached ({type(error).__name__})",
            where=mask_url(self.workers.broker_url or ""),
            remedy="see that RabbitMQ is up and that user, password and virtual host are right, then run again",
        )


class Seen:
    """When things were well last; of what was never looked at, from then on."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._at: dict[str, float] = {}

    def now(self, what: str) -> None:
        self._at[what] = time.monotonic()

    def long_ago(self, what: str) -> bool:
        return time.monotonic() - self._at.setdefault(what, time.monotonic()) > self._patience


def queue_of(app: Any, workers: Workers) -> tuple[int, int]:
    """How many steps wait in the queue, and how many workers take from it."""
    with app.connection_for_write(connect_timeout=SECONDS_TO_CONNECT) as connection:
        connection.ensure_connection(max_retries=1, timeout=SECONDS_TO_CONNECT)
        with connection.channel() as channel:
            declared = channel.queue_declare(workers.queue, durable=True, auto_delete=False)
    return declared.message_count, declared.consumer_count
