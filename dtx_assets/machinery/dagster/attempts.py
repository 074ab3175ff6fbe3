"""What a cutover is asked in its first second, and what stays of one that was refused: a tag of its run."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import dagster as dg

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError, MigrationError
from dtx_assets.machinery.base.settings import Mode
from dtx_assets.machinery.checks.gate import NEVER_EVALUATED, not_accepted, require_nothing_but_rows
from dtx_assets.machinery.checks.obstacles import Obstacle, count_of_kinds, each_once
from dtx_assets.machinery.dagster.gate import GateOfInstance
from dtx_assets.machinery.dagster.run import REFUSED_TAG
from dtx_assets.machinery.dagster.worlds import require_same_world
from dtx_assets.machinery.load.runs import require_restore_point
from dtx_assets.machinery.run.environment import ENVIRONMENT, RunEnvironment
from dtx_assets.machinery.run.preflight.places_of_cutover import places_in_the_way

ENTRY_TAG = "migration/entry"
"""The tag of a run that says whether it was let in, or refused before its first step."""


def require_entry(gate: GateOfInstance, environment: RunEnvironment) -> None:
    """LoadError where a run is to cut over and something is in its way that needs no row; ConfigurationError where it
    is to make indexes after its loads and nothing to go back to is named."""
    after = environment.settings.indexes_after_load
    if gate.instance is None or (environment.mode != "cutover" and not after):
        return
    planned = planned_assets(gate.instance, environment.run_id)
    models = [target.model for target in gate.graph.system.filled_targets]
    loaded = [model for model in models if gate.graph.key("target", model) in planned]
    if not loaded:
        return
    if after:
        require_restore_point(gate.graph.system.name, environment.options.restore_point)
    if environment.mode != "cutover":
        return
    reads = any(key.path[1] in ("legacy", "crosswalk") for key in planned)
    asked = each_once([*places_in_the_way(environment, source=reads, models=loaded), *gate.without_rows(environment)])
    left = not_accepted(asked, environment.options.accept)
    if left:
        note_refusal(gate.instance, environment.run_id, left)
        found = gate.in_the_way(environment, loaded, cutover=True, but_of_run=environment.run_id)
        in_rows = [each for each in found if each.kind in ("rejected", "check") and each.name != NEVER_EVALUATED]
        require_nothing_but_rows(asked, in_rows, environment.options.accept)
    # Rows are prepared for the target as it is with them.
    environment.mend_killed_loads()


def job_of_mode(system: str, mode: Mode) -> str:
    """The name of the job that does the whole migration in one mode, and in no other."""
    return f"{system}_{mode}"


def require_mode_of_job(environment: RunEnvironment, job: str) -> None:
    """ConfigurationError where the job of one mode was told another one: its name is what people go by later."""
    system = environment.system.name
    # A form whose mode was deleted has that of its job.
    for mode in get_args(Mode):
        if job == job_of_mode(system, mode) and environment.mode != mode:
            raise ConfigurationError(
                f"{job} is started in the mode {environment.mode}, and does nothing but a {mode}",
                where="resources → migration → mode",
                remedy=f"start {job_of_mode(system, environment.mode)}, or {job} with `mode: {mode}`",
            )


def enter(environment: RunEnvironment, instance: dg.DagsterInstance | None) -> None:
    """Ask what a run is asked before any of its steps, once in whatever process; LoadError where it was refused.

    What was answered stays with the run, under its own id: a run that is made of it again has its tags too.
    """
    run = instance.get_run_by_id(environment.run_id) if instance is not None else None
    asked, refused = (f"{answer} {environment.run_id[:8]}" for answer in ("asked", "refused"))
    require_same_world(environment, run)
    if run:
        require_mode_of_job(environment, run.job_name)
    before = run.tags.get(ENTRY_TAG) if run else None
    if before == refused:
        raise LoadError("this run was refused before its first step, and none of its steps is done")
    if before == asked:
        return
    try:
        environment.require_entry()
    except MigrationError:
        _answer(environment, instance, refused)
        raise
    if environment.mode == "cutover":
        _answer(environment, instance, asked)


def _answer(environment: RunEnvironment, instance: dg.DagsterInstance | None, answer: str) -> None:
    if instance is not None and instance.has_run(environment.run_id):
        instance.add_run_tags(environment.run_id, {ENTRY_TAG: answer})


def planned_assets(instance: dg.DagsterInstance, run_id: str) -> set[dg.AssetKey]:
    """The assets that a run is to make."""
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    records = instance.get_records_for_run(run_id, of_type=planned).records
    keys = (record.event_log_entry.get_dagster_event().asset_key for record in records)
    return {key for key in keys if key is not None}


def note_refusal(instance: dg.DagsterInstance | None, run_id: str, left: Sequence[Obstacle]) -> None:
    """Leave with a run that it was refused, and for how much."""
    if instance is not None and instance.has_run(run_id):
        # The report tells the same of a run that comes to it.
        instance.add_run_tags(run_id, {REFUSED_TAG: count_of_kinds(left), "mode": "cutover", "verdict": "no-go"})


def asked_option(run: dg.DagsterRun, option: str) -> str:
    """What a run was asked for, such as its mode; empty where its options leave it to the environment."""
    config: Any = run.run_config
    for name in ("resources", ENVIRONMENT, "config", option):
        config = config.get(name) if isinstance(config, Mapping) else None
    return str(config or "")
