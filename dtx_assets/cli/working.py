"""The command that starts a worker, for runs whose steps are done by several machines."""

import os
import sys
from typing import Annotated

import typer

from dtx_assets.cli.shared import FIRST, SystemArgument, app, code_locations, read_settings, system_module, workspace
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.settings import mask_url
from dtx_assets.machinery.base.workers import require_celery

MODULE = "dtx_assets.machinery.dagster.worker"


@app.command(
    epilog="Examples:\n\n  DTX_EXECUTOR=celery DTX_BROKER_URL=amqp://user:password@broker/migration dtx worker\n\n"
    "  APP_ENV=prod dtx worker pad --processes 4\n\nSIGTERM lets it end its steps and leave."
)
def worker(
    system: SystemArgument = FIRST,
    processes: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Steps at once.")] = 1,
) -> None:
    """Do steps of the runs of a system, as RabbitMQ hands them out, until it is ended. See docs/scale.md."""
    settings = read_settings(system_module(system))
    if settings.workers.executor != "celery":
        raise ConfigurationError(
            f"the executor is {settings.workers.executor}, which has no workers",
            where=f"environment variable {system.upper()}_EXECUTOR",
            remedy="set it to celery, for workers and runs",
        )
    require_celery(system)

    from dtx_assets.machinery.dagster.run import instance_directory
    from dtx_assets.machinery.run.one_machine import require_for_all

    directory = instance_directory(settings.home).absolute()
    require_for_all(settings, None, os.environ.get("AWS_ENDPOINT_URL"))
    os.environ["DAGSTER_HOME"] = str(directory)
    typer.echo(
        f"A worker of the queue {settings.workers.queue} of {mask_url(settings.workers.broker_url or '')}, with"
        f" {processes} steps at once"
    )
    sys.stdout.flush()
    module = code_locations()[system]
    # As a code location is found: modules that a workspace names lie beside it.
    path = os.pathsep.join(filter(None, [str(workspace().parent), os.environ.get("PYTHONPATH", "")]))
    # A process of its own, which has not imported what this one has: it forks.
    command = [sys.executable, "-m", MODULE, system, module, str(processes)]
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})  # noqa: S606
