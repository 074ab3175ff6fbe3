"""What runs by itself once someone switches it on: a delta for each new export, and rehearsals by the clock.

An export is complete when the files of all tables are there that the last landed export had and that a flow reads, none
of them empty, and when nobody is writing any more. That an export says itself with a file `_COMPLETE` that is no older
than its tables; one that ever had such a file always needs it. Without one, two looks in succession have to find the
same files, sizes and versions. What a run then does is no business of this module, nor is anything but CSV files:
nobody can tell by looking when a database is complete.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

import dagster as dg

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.base.settings import apply_environment_files, mask_url, rehearsal_times
from dtx_assets.machinery.dagster.attempts import job_of_mode
from dtx_assets.machinery.dagster.jobs import with_options
from dtx_assets.machinery.dagster.resources import S3, s3_resource
from dtx_assets.machinery.dagster.run import close_dead_runs
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.csv_files import CsvDirectory, CsvPrefix, ListedFile
from dtx_assets.machinery.system.system import System, settings_of

MARKER = "_COMPLETE"
SUFFIX = ".csv"
SECONDS_BETWEEN_LOOKS = 60
EXPORT_TAG = "dtx/export"
"""The tag of a run that says which export it was requested for: the fingerprint of its files."""
UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


# --- a new export -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What one look leaves for the next one: the files then, those a run was requested for, whether a marker was there.

    Files are told by their fingerprint.
    """

    files: str | None = None
    requested: str | None = None
    marked: bool = False

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "Seen":
        try:
            return cls(**json.loads(cursor or "{}"))
        except (TypeError, ValueError):
            # The UI lets people write there what they like.
            return cls()

    def cursor(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Verdict:
    """`request`: the fingerprint of a new complete export; else `why` says what there is to wait for."""

    seen: Seen
    request: str | None
    why: str


def judge(listing: Mapping[str, ListedFile], wanted: Collection[str], before: Seen) -> Verdict:
    """Whether the files that are there are a new and complete export; `wanted` are the tables that it has to have."""
    tables = {name: file for name, file in listing.items() if name.endswith(SUFFIX)}
    marker = listing.get(MARKER)
    print_now = fingerprint(tables)
    now = Seen(print_now, before.requested, before.marked or marker is not None)

    def wait(why: str) -> Verdict:
        return Verdict(now, None, why)

    if print_now == before.requested:
        return wait("the export that is there was handed to a run")
    if missing := sorted(name for name in wanted if name + SUFFIX not in tables):
        return wait(f"the export is not complete: {', '.join(missing)} is not there")
    if empty := sorted(name for name, file in tables.items() if not file.size):
        return wait(f"the export is not complete: {', '.join(empty)} is empty, without a header line even")
    if now.marked and marker is None:
        return wait(f"the export is not complete: {MARKER} is not there, and the exports before had it")
    if marker is not None and marker.modified < max((file.modified for file in tables.values()), default=0):
        return wait(f"the export is not complete: {MARKER} is older than its tables")
    if marker is None and print_now != before.files:
        return wait("the export may still be written: a run follows if the next look finds the same")
    return Verdict(Seen(print_now, print_now, now.marked), print_now, "")


def fingerprint(files: Mapping[str, ListedFile]) -> str:
    """Changes with the name, the size or the version of any file."""
    facts = sorted((name, file.size, file.version) for name, file in files.items())
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def tables_of_an_export(system: System, lake: Lake) -> set[str]:
    """What an export has to have: the tables that a flow reads, and those that the last landed export had."""
    landed = {name for name in system.legacy_tables if lake.manifest((system.name, "legacy", name)) is not None}
    return landed | system.read_tables


def build_export_sensor(system: System) -> dg.SensorDefinition:
    """Requests one run of the whole migration for each new complete export; off until someone switches it on."""

    @dg.sensor(
        name=f"{system.name}_new_export",
        job_name=system.name,
        minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        required_resource_keys={S3},
        description=(
            f"Watches the CSV files that {system.name.upper()}_LEGACY_URL names, and runs the migration once for each"
            f" new complete export: what changed is written. Complete: all tables are there, and {MARKER} is no older"
            " than they are or, where the exports have no such file, two looks find the same."
        ),
    )
    def new_export(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        apply_environment_files()
        settings = settings_of(system)
        s3 = s3_resource(context)
        source = open_source(settings.legacy_url, s3_resource=s3)
        if not isinstance(source, CsvDirectory | CsvPrefix):
            return dg.SensorResult(
                skip_reason=f"{mask_url(settings.legacy_url)} is a database: nobody can tell when an export is complete"
            )
        if busy := unfinished_runs(context.instance, system):
            return dg.SensorResult(skip_reason=f"waits for the end of run {', '.join(busy)}")
        wanted = tables_of_an_export(system, Lake(settings.lake_url, s3))
        verdict = judge(source.listing(), wanted, Seen.from_cursor(context.cursor))
        if verdict.request is None:
            return dg.SensorResult(skip_reason=verdict.why, cursor=verdict.seen.cursor())
        request = dg.RunRequest(run_key=verdict.request, tags={EXPORT_TAG: verdict.request})
        return dg.SensorResult(run_requests=[request], cursor=verdict.seen.cursor())

    return new_export


def unfinished_runs(instance: dg.DagsterInstance, system: System) -> list[str]:
    """The runs of any job of the system that have not ended: a new one would only wait for their locks."""
    close_dead_runs(instance)
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=UNFINISHED))
    return [run.run_id for run in runs if f"{run.job_name}_".startswith(f"{system.name}_")]


# --- rehearsals -------------------------------------------------------------------------------------------------------


def build_rehearsal_schedule(system: System) -> dg.ScheduleDefinition:
    """Rehearses the whole migration by the clock; off until someone switches it on.

    Raises ConfigurationError where the environment names times that cannot be read.
    """
    times, timezone = rehearsal_times(system.name)
    variable = f"{system.name.upper()}_REHEARSAL_CRON"

    def rehearse(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        apply_environment_files()
        if settings_of(system).mode == "cutover":
            return dg.SkipReason(f"{system.name.upper()}_MODE is cutover: what is loaded here is no rehearsal")
        at = context.scheduled_execution_time.isoformat()
        return dg.RunRequest(run_key=at, run_config=with_options(mode="rehearsal"))

    try:
        return dg.ScheduleDefinition(
            name=job_of_mode(system.name, "rehearsal"),
            job_name=job_of_mode(system.name, "rehearsal"),
            cron_schedule=times,
            execution_timezone=timezone,
            execution_fn=rehearse,
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description=f"A rehearsal of the whole migration, at the times that {variable} names ({times}).",
        )
    except dg.DagsterInvalidDefinitionError:
        raise ConfigurationError(
            f"{variable} is {times!r}, and that is no line of crontab",
            where=f"environment variable {variable}",
            remedy="give five fields, such as 30 2 * * 1-5 for 2:30 from Monday to Friday, or @daily",
        ) from None
