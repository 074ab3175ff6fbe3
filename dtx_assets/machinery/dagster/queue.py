"""The Celery application that a run and its workers share: one queue a system and environment, and the safe settings.

A step is taken from the queue only when it has ended, so that a worker that dies leaves it to another one. What a step
gives is in the history of runs and in the target; through the broker goes which step of which run is to be done. Polars
must not be imported here: workers fork.
"""

from celery import Celery
from kombu import Queue

from dtx_assets.machinery.base.workers import Workers

STEP_TASK = "dtx_assets.step"
SECONDS_TO_CONNECT = 5
HEARTBEAT = 10
"""Seconds after which, twice, a broker takes a worker for dead whose machine is gone."""


def application(workers: Workers) -> Celery:
    app = Celery("dtx_assets", broker=workers.broker_url, set_as_current=False)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        result_backend=None,
        task_queues=[Queue(workers.queue, durable=True)],
        task_default_queue=workers.queue,
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        broker_heartbeat=HEARTBEAT,
        broker_connection_timeout=SECONDS_TO_CONNECT,
        broker_connection_retry_on_startup=True,
        # What goes on when the broker does not answer ends in the target: nobody may do it beside it.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_transport_options={"confirm_publish": True},
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # Memory of what large steps leave is given back now and then.
        worker_max_tasks_per_child=200,
    )
    return app
