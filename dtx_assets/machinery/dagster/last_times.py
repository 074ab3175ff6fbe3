"""How long each step took the last time, as Dagster's history has it: what is left of a run is told from that."""

from collections.abc import Collection

import dagster as dg

RUNS_ASKED = 20
"""In so many of the last runs that ended well the steps are looked for."""
AFTER_GATE = "_after_gate"
"""What a cutover's loads are called besides: they do what a rehearsal's do."""


def seconds_before(instance: dg.DagsterInstance, steps: Collection[str]) -> dict[str, float]:
    """The seconds of each of these steps in the last run that ended well and had it; of others nothing."""
    wanted = {step.removesuffix(AFTER_GATE): step for step in steps}
    found: dict[str, float] = {}
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]), limit=RUNS_ASKED):
        if len(found) == len(wanted):
            break
        for step in instance.get_run_step_stats(run.run_id):
            name = wanted.get(step.step_key.removesuffix(AFTER_GATE))
            ended_well = step.status is not None and step.status.value == "SUCCESS"
            if name and name not in found and ended_well and step.start_time and step.end_time:
                found[name] = step.end_time - step.start_time
    return found
