"""A run by several processes carries its world as a tag; whoever does a step of it compares before anything else."""

import os
import socket

import dagster as dg

from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.world import as_text, from_text, require_same, world_of

WORLD_TAG = "migration/world"
"""The tag of a run that says what all processes that do its steps must have."""
OF_RUN = "run"


def note_world(environment: RunEnvironment, instance: dg.DagsterInstance) -> None:
    """Leave with a run what its steps must be done with. A run that is made of it again has its tag, and its own id."""
    world = {OF_RUN: environment.run_id, **world_of(environment)}
    instance.add_run_tags(environment.run_id, {WORLD_TAG: as_text(world)})


def require_same_world(environment: RunEnvironment, run: dg.DagsterRun | None) -> None:
    """ConfigurationError where this process has another world than the run; one process alone is not asked."""
    told = from_text(run.tags.get(WORLD_TAG, "{}")) if run else {}
    if told.pop(OF_RUN, None) == environment.run_id:
        require_same(told, world_of(environment), f"process {os.getpid()} of {socket.gethostname()}")
