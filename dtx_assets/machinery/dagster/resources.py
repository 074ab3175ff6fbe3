"""The Dagster resources of a system: the environment of a run with its options, and how rows reach the lake."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from dtx_assets.machinery.base.errors import ConfigurationError, MigrationError
from dtx_assets.machinery.base.settings import apply_environment_files
from dtx_assets.machinery.checks.acceptances import accepted_in_form
from dtx_assets.machinery.checks.gate import require_known
from dtx_assets.machinery.checks.spec import CheckGroup
from dtx_assets.machinery.dagster.attempts import enter, note_refusal, require_entry
from dtx_assets.machinery.dagster.gate import GateOfInstance, known_obstacles
from dtx_assets.machinery.dagster.graph import RESOURCES, Graph, failure
from dtx_assets.machinery.dagster.io_manager import LakeIOManager
from dtx_assets.machinery.run.environment import RunEnvironment, RunOptions

S3 = "s3"

OPTIONS_FORM: dict[str, dg.Field] = {
    "mode": dg.Field(
        str, is_required=False, description="rehearsal or cutover; else what the environment says (<SYSTEM>_MODE)."
    ),
    "accept": dg.Field(
        dg.Map(str, str, key_label_name="check"),
        is_required=False,
        default_value={},
        description=(
            "What a cutover may go on in spite of: the name of a check (legacy/exemption:key_is_unique, or"
            " key_is_unique for that check of every asset) or of a question, and the reason. Recorded in migration.run."
        ),
    ),
    "accepts": dg.Field(
        dg.Array(
            {
                "name": dg.Field(str, description="An obstacle, a question or a check, as report/cutover names it."),
                "reason": dg.Field(
                    str, is_required=False, default_value="", description="Why it is no reason to wait."
                ),
                "by": dg.Field(str, is_required=False, default_value="", description="Who answers for it."),
                "until": dg.Field(
                    str, is_required=False, default_value="", description="The last day on which it holds: 2026-12-31."
                ),
            }
        ),
        is_required=False,
        default_value=[],
        description=(
            "The same as the file of `dtx run --accepts`. An entry that has a name only is not accepted; one that has a"
            " reason needs who and until when too."
        ),
    ),
    "accepted_by": dg.Field(str, is_required=False, default_value="", description="Who accepts; recorded with it."),
    "restore_point": dg.Field(
        str,
        is_required=False,
        description="What the target database can be put back to: a snapshot's name or id. A cutover asks for it.",
    ),
    "limit": dg.Field(
        int, is_required=False, description="Load only so many source rows of each table, for a first look."
    ),
    "only_rejected": dg.Field(
        bool,
        is_required=False,
        default_value=False,
        description="Load only the source rows that are rejected now, after what rejected them was mended.",
    ),
    "accept_cost": dg.Field(
        float, is_required=False, description="What embedding may cost in a cutover, in dollars; else it asks."
    ),
    "retry_dead": dg.Field(
        bool, is_required=False, default_value=False, description="Try texts again that were given up."
    ),
}


def run_options(config: Mapping[str, Any], today: date) -> RunOptions:
    """The options of a run from its configuration; ConfigurationError where one of them makes no sense.

    `today` is when the run began, also for a step after midnight.
    """
    if config.get("mode") not in (None, "rehearsal", "cutover"):
        raise ConfigurationError(
            f"there is no mode {config['mode']!r}", where="resources → migration → mode", remedy="rehearsal or cutover"
        )
    limit = config.get("limit")
    if limit is not None and limit < 1:
        raise ConfigurationError(
            f"{limit} is no number of rows to look at", where="resources → migration → limit", remedy="1 or more"
        )
    if limit and config.get("only_rejected"):
        raise ConfigurationError(
            "limit and only_rejected exclude each other", where="resources → migration", remedy="give one of them"
        )
    accepted = accepted_in_form(config.get("accepts", ()), today, "resources → migration → accepts")
    told = {name: value for name, value in config.items() if name != "accepts"}
    return RunOptions(**{**told, "accept": {**accepted, **config.get("accept", {})}})


def environment_resource(
    graph: Graph, check_groups: Sequence[CheckGroup], whole_graph: Callable[[], AssetGraph]
) -> dg.ResourceDefinition:
    """The `RunEnvironment` of a run; made without looking at the environment, which each step does when it asks.

    `whole_graph` is asked where a run accepts something: its own knows the assets that it makes only.
    """

    @dg.resource(
        description="Settings from the environment, the lake, the decisions, the target database, the run's options.",
        config_schema=OPTIONS_FORM,
        required_resource_keys={S3},
    )
    def environment(context: dg.InitResourceContext) -> Iterator[RunEnvironment]:
        apply_environment_files()
        run_id = context.run.run_id if context.run else "no run"
        started_at = run_started_at(context.instance, run_id)
        try:
            options = run_options(context.resource_config, started_at.date())
            if options.accept:
                require_known(options.accept, known_obstacles(graph.system, whole_graph()))
        except ConfigurationError as error:
            raise failure(error) from None
        gate = GateOfInstance(graph, check_groups, context.instance)
        failed = partial(has_failed_step, context.instance, run_id)
        entry = partial(require_entry, gate)
        refused = partial(note_refusal, context.instance, run_id)
        with RunEnvironment(
            graph.system, run_id, started_at, s3_resource(context), options, gate, failed, entry, refused
        ) as shared:
            if context.run:
                try:
                    enter(shared, context.instance)
                except MigrationError as error:
                    raise failure(error) from None
            yield shared

    return environment


def io_manager() -> dg.IOManagerDefinition:
    """Lets an asset of one's own take the rows of any asset of the lake as a LazyFrame argument, and give one back."""

    @dg.io_manager(
        description="Parquet datasets in the lake; loads a LazyFrame, stores a LazyFrame or DataFrame.",
        # Not `s3` itself: Dagster would make a client of it for every output of every step.
        required_resource_keys=RESOURCES,
    )
    def lake_io_manager(context: dg.InitResourceContext) -> LakeIOManager:
        environment: RunEnvironment = context.resources.migration
        return LakeIOManager(url=environment.settings.lake_url).with_s3(environment.s3)

    return lake_io_manager


def s3_of_environment() -> dg.ResourceDefinition:
    """Stands where no S3Resource is given: whoever meets a URL of S3 reaches it as `AWS_*` says."""
    return dg.ResourceDefinition.none_resource(description="S3 is reached as AWS_* of the environment says.")


def s3_resource(context: dg.InitResourceContext | dg.SensorEvaluationContext) -> Any:
    """The S3Resource itself, or None: what Dagster hands to steps under its key is a client made of it."""
    return context.resources.original_resource_dict[S3]


def has_failed_step(instance: dg.DagsterInstance | None, run_id: str) -> bool:
    """Whether a step of the run failed, in whatever process."""
    failures = dg.DagsterEventType.STEP_FAILURE
    return instance is not None and bool(instance.get_records_for_run(run_id, of_type=failures, limit=1).records)


def run_started_at(instance: dg.DagsterInstance | None, run_id: str) -> datetime:
    """When the run was created: the same for all its steps, in whatever process they are."""
    record = instance.get_run_record_by_id(run_id) if instance else None
    return record.create_timestamp.astimezone(UTC) if record else datetime.now(UTC)
