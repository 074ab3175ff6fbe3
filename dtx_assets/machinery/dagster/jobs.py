"""What is run of the graph, and what is run beside it: whole runs, the dry run, the replay, activation and undo."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from dtx_assets.machinery.checks.obstacles import REMEDIES, Obstacle, each_once
from dtx_assets.machinery.dagster.attempts import job_of_mode
from dtx_assets.machinery.dagster.changed_graph import build_job_over, with_step
from dtx_assets.machinery.dagster.cutover_order import with_loads_after_gate
from dtx_assets.machinery.dagster.graph import LAST, REPORTS, RESOURCES, Graph, told
from dtx_assets.machinery.dagster.load_checks import NONE_REJECTED, load_outcome
from dtx_assets.machinery.dagster.metadata import PLAN_DATA, counts_text, obstacles_table, table
from dtx_assets.machinery.dagster.targets import load_models
from dtx_assets.machinery.dagster.verification import masked_sample, verification_checks
from dtx_assets.machinery.load import LoadSummary, Planned
from dtx_assets.machinery.load.indexes_after import left_out
from dtx_assets.machinery.model.references import in_load_order
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import connect, refusals_told
from dtx_assets.machinery.run.environment import ENVIRONMENT, RunEnvironment
from dtx_assets.machinery.run.operations import activate_targets, roll_back, undo_lines
from dtx_assets.machinery.run.preflight.places_of_cutover import places_in_the_way
from dtx_assets.machinery.system.system import System

PLAN_COUNTS = ("inserted", "updated", "unchanged", "adopted", "conflicts", "vanished", "rejected")
PLAN = "plan"
SYSTEM_TAG = "migration/system"

# --- the plan: a dry run ----------------------------------------------------------------------------------------------


def build_plan(graph: Graph) -> dg.AssetsDefinition:
    """One step that tries all loads, each in a transaction that is rolled back, and says what they would do."""
    system = graph.system
    key = graph.key("report", PLAN)
    models = [target.model for target in system.filled_targets]
    spec = graph.spec(
        key,
        REPORTS,
        "What a run would do to each target: inserts, updates, conflicts, vanished rows, with samples, and what would"
        " be in the way of a cutover. Nothing of it stays.",
        deps=[graph.key(layer, model) for model in models for layer in ("prepared", "rejected")],
        kinds={"postgres"},
    )

    @dg.multi_asset(name=f"{system.name}_plan_loads", specs=[spec], required_resource_keys=RESOURCES, op_tags=LAST)
    def plan(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            would_be_there: Planned = {}
            summaries: dict[str, LoadSummary] = {}
            for targets in in_load_order(system.filled_targets):
                summaries |= load_models(
                    environment, targets, environment.dry_load(), context.log.info, planned=would_be_there
                )
            planned = [planned_load(graph, target, summaries[target.model]) for target in system.filled_targets]
            in_the_way = with_what_loads_found(environment, summaries)
            notes = [*planning_notes(system, planned), *index_notes(environment, summaries)]
            with environment.lake.write(tuple(key.path), run_id=environment.run_id) as writer:
                writer.add(
                    pl.DataFrame([{**load, "changes": None, "may_refuse": None} for load in planned]).drop(
                        "changes", "may_refuse"
                    )
                )
            yield dg.MaterializeResult(metadata=plan_metadata(planned, in_the_way, notes, environment.options.accept))

    return plan


def planned_load(graph: Graph, target: TargetTable, summary: LoadSummary) -> dict[str, Any]:
    """What a load would do, its samples masked."""
    counts = {name: getattr(summary, name) for name in PLAN_COUNTS}
    return {
        "model": target.model,
        "target_table": target.name,
        **counts,
        "may_refuse": summary.may_refuse,
        "changes": [masked_sample(sample, target, graph.system) for sample in summary.samples],
    }


def with_what_loads_found(environment: RunEnvironment, summaries: Mapping[str, LoadSummary]) -> list[Obstacle]:
    """What is in the way of the loads, with what the tried ones say their checks would find."""
    obstacles = environment.obstacles(summaries)
    if environment.mode != "cutover":
        return obstacles
    tried = {}
    for model, summary in summaries.items():
        outcome = load_outcome(summary.found)
        if not outcome.passed and outcome.severity != "WARN":
            name = f"target/{model}:{NONE_REJECTED}"
            reasons = counts_text(outcome.metadata["reasons"])
            tried[name] = Obstacle(
                "check",
                name,
                f"target/{model}",
                f"would fail ({outcome.count:,} found): {reasons}",
                environment.system.owner_of("target", model),
                REMEDIES["target_conflict"],
                outcome.count,
                frozenset([name]),
            )
    places = places_in_the_way(environment, source=True, models=summaries)
    return each_once([*places, *(found for found in obstacles if found.name not in tried), *tried.values()])


def planning_notes(system: System, planned: Sequence[Mapping[str, Any]]) -> list[str]:
    """What may refuse rows of a target, and what a plan cannot know: rows made from what the same run inserts."""
    inserted = {load["model"]: load["inserted"] for load in planned}
    refusing = [
        f"{load['target_table']} may refuse rows by {', '.join(load['may_refuse'])}: those that it refuses are rejected"
        for load in planned
        if load.get("may_refuse")
    ]
    return refusing + [
        f"{model} is made from rows of {first}, of which {inserted[first]:,} are not loaded yet: its figures hold for"
        " those that are; plan again after they are loaded"
        for flow in system.flows
        for asset in system.mapping_assets
        if asset.name in flow.mappings
        for first in asset.after
        if inserted.get(first)
        for model in flow.targets
    ]


def index_notes(environment: RunEnvironment, summaries: Mapping[str, LoadSummary]) -> list[str]:
    """What the loads would drop and make again, where that is asked for, and what killed ones left out."""
    notes = [
        f"{model}, loaded into an empty table: made after it are {', '.join(summary.made_after)}, unless they would not"
        " come back as they are"
        for model, summary in summaries.items()
        if summary.made_after
    ]
    notes += [
        f"{model}: not made after the load, {'; '.join(summary.not_made_after)}"
        for model, summary in summaries.items()
        if summary.not_made_after
    ]
    with refusals_told(), connect(environment.target_url) as connection:
        return [*notes, *(f"{each.told}: {each.remedy}" for each in left_out(connection, environment.system.name))]


def plan_metadata(
    planned: Sequence[Mapping[str, Any]],
    in_the_way: Sequence[Obstacle],
    notes: Sequence[str],
    accepted: Collection[str] = (),
) -> dict[str, Any]:
    changes = [
        (load["model"], change["fate"], change["place"], name, before, after)
        for load in planned
        for change in load["changes"]
        if change["fate"] != "insert"
        for name, (before, after) in change["columns"].items()
    ]
    return {
        PLAN_DATA: dg.MetadataValue.json(
            {
                "loads": list(planned),
                "in_the_way": [{**found.as_json(), "accepted": found.is_accepted(accepted)} for found in in_the_way],
                "notes": list(notes),
            }
        ),
        "loads": table(
            ("target", *PLAN_COUNTS),
            [(load["model"], *(f"{load[name]:,}" for name in PLAN_COUNTS)) for load in planned],
        ),
        **({"to be known beside the plan": "; ".join(notes)} if notes else {}),
        "changes, masked": table(("target", "what", "source row", "column", "is", "would be"), changes),
        "in the way": obstacles_table(in_the_way, accepted),
        **{name: sum(load[name] for load in planned) for name in PLAN_COUNTS},
    }


# --- jobs -------------------------------------------------------------------------------------------------------------


def build_jobs(graph: Graph, report_of_run: dg.AssetsDefinition, in_the_way: Sequence[str]) -> list[Any]:
    """The whole migration in either mode, the dry run, the verification, the replay; activation and undo, no assets.

    `report_of_run` is the step of the report as runs make it; `in_the_way` are the names of what is known to be in the
    way of a cutover before anything is run.
    """
    name = graph.system.name
    rehearsal, cutover = job_of_mode(name, "rehearsal"), job_of_mode(name, "cutover")

    def reported(asset_graph: AssetGraph) -> AssetGraph:
        return with_step(asset_graph, report_of_run)

    plan = dg.AssetSelection.assets(graph.key("report", PLAN))
    # Checks of external assets are in the second only.
    everything = (dg.AssetSelection.all() - plan) | dg.AssetSelection.all_asset_checks()
    targets = dg.AssetSelection.assets(
        *(graph.key("target", model) for flow in graph.system.flows for model in flow.targets)
    )
    # Not the targets that a mapping reads after they are filled: what is beside a run fills none.
    prepared = plan.upstream() - plan - targets
    extracted = dg.AssetSelection.assets(*(graph.key("legacy", table) for table in graph.system.legacy_tables))
    return [
        build_job_over(
            reported,
            name=rehearsal,
            selection=everything,
            tags=one_at_a_time(name),
            config=with_options(mode="rehearsal"),
            description=f"A rehearsal of the whole migration of {name}: extract, map, prepare, load, verify, check.",
        ),
        build_job_over(
            reported,
            name=name,
            selection=everything,
            tags=one_at_a_time(name),
            description=f"Any part of the migration of {name}, in the mode that `migration → mode` or else the"
            f" environment says. To rehearse all of it start `{rehearsal}`, to cut over `{cutover}`,"
            " whose loads wait for all checks, with several processes too.",
        ),
        build_job_over(
            reported,
            lambda asset_graph: with_loads_after_gate(graph, asset_graph),
            name=cutover,
            selection=everything,
            tags=one_at_a_time(name),
            config=with_options(
                mode="cutover",
                restore_point="",
                accepts=[{"name": each, "reason": "", "by": "", "until": ""} for each in in_the_way],
                accepted_by="",
            ),
            description=f"The cutover of {name}: refused while anything is in the way that is not accepted by name."
            " `migration → accepts` lists what the plan leaves open as it was when this code location was loaded; give"
            " an entry a reason, who and until when to accept it, and leave the others as they are. What was found in"
            " rows is listed by `report/cutover`. Asks for `restore_point`.",
        ),
        dg.define_asset_job(
            f"{name}_plan",
            prepared | plan,
            tags=one_at_a_time(name),
            executor_def=dg.in_process_executor,
            description="A dry run: what the loads would do, in transactions that are rolled back. See report/plan.",
        ),
        dg.define_asset_job(
            f"{name}_verify",
            prepared | dg.AssetSelection.checks(*verification_checks(graph)),
            tags=one_at_a_time(name),
            executor_def=dg.in_process_executor,
            description="Compares each row of the targets with what the mapping gives from the legacy data as it is"
            " now. Nothing is written there. See the checks of the targets.",
        ),
        dg.define_asset_job(
            f"{name}_replay",
            targets.upstream() - extracted,
            tags=one_at_a_time(name),
            config=with_options(only_rejected=True),
            description="Takes the rejected rows again, after a value map, a crosswalk or a decision was mended. What"
            " is extracted stays as it is.",
        ),
        build_activation_job(graph),
        build_rollback_job(graph),
    ]


def one_at_a_time(system: str) -> dict[str, str]:
    """The tag by which a queue (`deploy/dagster.yaml`) lets one run of a system start at a time."""
    return {SYSTEM_TAG: system}


def with_options(**options: Any) -> dict[str, Any]:
    return {"resources": {ENVIRONMENT: {"config": options}}}


def build_activation_job(graph: Graph) -> dg.JobDefinition:
    """One op that switches on what was loaded inactive."""
    name = graph.system.name

    @dg.op(
        name=f"{name}_activate_targets",
        description="Switches on the rows that were loaded inactive; recorded as a run, which can be undone.",
        required_resource_keys=RESOURCES,
    )
    def activate(context: dg.OpExecutionContext) -> None:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            for model, summary in activate_targets(environment, context.log.info).items():
                context.log.info(f"{model}: {summary.updated:,} rows switched on, {summary.conflicts:,} in conflict")

    @dg.job(
        name=f"{name}_activate",
        tags=one_at_a_time(name),
        description="Switches on the schedules that were loaded inactive (decision activation, hold_until_activated).",
    )
    def activation() -> None:
        activate()

    return activation


def build_rollback_job(graph: Graph) -> dg.JobDefinition:
    """One op that undoes a run."""
    name = graph.system.name

    @dg.op(
        name=f"{name}_undo_run",
        description="Deletes what a run inserted and restores what it updated; lists what it has to leave.",
        config_schema={
            "run_id": dg.Field(str, description="The run of migration.run to undo; its first characters are enough."),
            "with_later": dg.Field(
                bool, default_value=False, is_required=False, description="Undo the runs that built on it first."
            ),
            "dry_run": dg.Field(
                bool, default_value=True, is_required=False, description="Only say what would be undone."
            ),
        },
        required_resource_keys=RESOURCES,
    )
    def undo(context: dg.OpExecutionContext) -> None:
        environment: RunEnvironment = context.resources.migration
        asked = context.op_config
        with told(environment):
            summary = roll_back(
                environment, asked["run_id"], with_later=asked["with_later"], dry=asked["dry_run"], log=context.log.info
            )
            for line in undo_lines(summary, dry=asked["dry_run"]):
                context.log.info(line)

    @dg.job(
        name=f"{name}_rollback",
        tags=one_at_a_time(name),
        description="Undoes a run of the target database, by default as a dry run.",
    )
    def rollback() -> None:
        undo()

    return rollback
