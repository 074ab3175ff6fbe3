"""Running a system without the UI: the Dagster instance, the selection of assets, one process, and what came of it.

What the graph consists of is `dagster_assets`; showing progress and results on a terminal is `console`.
"""

import difflib
import os
import re
import shutil
import socket
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from ruamel.yaml import YAML

from dtx_assets.interrupts import OF_DAGSTER, is_interrupt
from dtx_assets.machinery.base import private
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_STEP_FAILED
from dtx_assets.machinery.base.masking import mask_emails
from dtx_assets.machinery.base.private import make_private_directory
from dtx_assets.machinery.checks.obstacles import Obstacle, from_json
from dtx_assets.machinery.dagster.metadata import (
    ACCOUNTING_DATA,
    OBSTACLES_DATA,
    PLAN_DATA,
    TRUE_NAME,
    VERIFICATION_DATA,
    asset_name,
    facts_text,
)
from dtx_assets.machinery.dagster.run_log import LOGGER, EventListener, logging_runs
from dtx_assets.machinery.run.environment import ENVIRONMENT

INSTANCE_TEMPLATE = Path(__file__).with_name("dagster.yaml")
LOG_DIRECTORY = "logs"
UNFINISHED = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
INTERRUPTED = "interrupted; run again: it goes on from there"
EARLIER_LOOKED_AT = 50
"""Evaluations of a check, the latest first, among which the last one of an earlier run is looked for."""
REFUSED_TAG = "migration/refused"
"""The tag of a run that the gate refused: how much was in its way, by kind."""
PROCESS_TAG = ".dagster/process"
"""The tag of a run that says which process of which machine makes it."""
_NO_STREAM_CAPTURE = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}
"""Dagster would redirect standard output to a file while steps run, and the progress display with it."""


@dataclass(frozen=True)
class StepFailure:
    step: str
    message: str


@dataclass(frozen=True)
class CheckResult:
    asset: str
    name: str
    passed: bool
    severity: str
    count: int | None = None
    facts: str = ""
    """What the check's metadata says, as one line."""
    found: tuple[Obstacle, ...] = ()
    """What it is red for, where it closes the gate."""

    @property
    def is_error(self) -> bool:
        return not self.passed and self.severity == "ERROR"


@dataclass
class RunOutcome:
    """What came of a run. `accounting` has the entries of spec 5, after the load where there was one."""

    run_id: str
    succeeded: bool
    seconds: float
    failures: list[StepFailure] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    accounting: list[dict[str, Any]] = field(default_factory=list)
    loads: dict[str, dict[str, Any]] = field(default_factory=dict)
    plan: dict[str, Any] | None = None
    """What a dry run found (`dagster_jobs.build_plan`)."""
    verifications: list[dict[str, Any]] = field(default_factory=list)
    """What each target was found to hold (`dagster_verification`)."""
    seconds_of: dict[str, float] = field(default_factory=dict)
    """How long each step took that succeeded."""

    @property
    def wrote(self) -> bool:
        """Whether any load changed the target, or what is remembered of its rows."""
        changes = ("inserted", "updated", "adopted", "files sent")
        return any(facts.get(name, 0) for facts in self.loads.values() for name in changes)

    @property
    def exit_code(self) -> int:
        if any(failure.message == INTERRUPTED for failure in self.failures):
            return EXIT_INTERRUPTED
        if not self.succeeded:
            return EXIT_STEP_FAILED
        return EXIT_CHECK_FAILED if any(check.is_error for check in self.checks) else EXIT_OK


# --- the instance -----------------------------------------------------------------------------------------------------


def instance_directory(home: Path) -> Path:
    """Where the Dagster instance is: `DAGSTER_HOME`, or the state directory, made ready if it is not."""
    if named := os.environ.get("DAGSTER_HOME"):
        # Without a file of its own it would be Dagster's defaults: runs of twice the time, and telemetry is sent.
        if (directory := Path(named)).is_dir():
            with suppress(OSError):
                _with_settings(directory)
        return directory
    make_state_directory(home)
    _with_settings(home)
    return home


def _with_settings(directory: Path) -> None:
    if not (directory / INSTANCE_TEMPLATE.name).exists():
        shutil.copyfile(INSTANCE_TEMPLATE, directory / INSTANCE_TEMPLATE.name)


def make_state_directory(home: Path) -> None:
    try:
        private.make_state_directory(home)
    except OSError as error:
        raise ConfigurationError(
            f"the state directory cannot be used: {error.strerror}",
            where=str(home),
            remedy="set DTX_HOME to a directory that this account may write",
        ) from None


def open_instance(home: Path) -> dg.DagsterInstance:
    """The Dagster instance whose history the UI shows; a context manager."""
    directory = instance_directory(home).absolute()
    return dg.DagsterInstance.from_ref(
        InstanceRef.from_dir(str(directory), overrides={**_NO_STREAM_CAPTURE, **_storage_in(directory)})
    )


def _storage_in(directory: Path) -> dict[str, Any]:
    """The storage that `dagster.yaml` names, if that takes its place from DAGSTER_HOME, which need not be set here."""
    file = directory / INSTANCE_TEMPLATE.name
    named = YAML(typ="safe").load(file) if file.exists() else None
    match named:
        case {"storage": {"custom": {"config": {"base_dir": {"env": "DAGSTER_HOME"}}} as custom}}:
            return {"storage": {"custom": {**custom, "config": {"base_dir": str(directory)}}}}
    return {}


# --- which assets -----------------------------------------------------------------------------------------------------

_TERMS = re.compile(r"key:\"(?P<quoted>[^\"]*/[^\"]*)\"|\"[^\"]*\"|(?:\bkey:|(?<![\w:/*]))(?P<path>(?:[\w*]+/)+[\w*]+)")
_KEYS = re.compile(r"key:(?:\"([^\"]+)\"|([\w*/]+))")


def expand_selection(text: str, system: str) -> str:
    """Dagster's selection syntax from the short form: `+target/EmailTemplate` → `+key:"dtx/target/EmailTemplate"`."""

    def expand(found: re.Match[str]) -> str:
        path = found["quoted"] or found["path"]
        if path is None:
            return found.group()
        names_system, is_key = path.startswith(f"{system}/"), found.group().startswith("key:")
        return found.group() if names_system and is_key else f'key:"{path if names_system else f"{system}/{path}"}"'

    return _TERMS.sub(expand, text)


def with_likenesses(text: str, graph: AssetGraph) -> str:
    """A selection in which assets that Dagster cannot call by their true names may be called so."""
    likenesses: dict[str, str] = {}
    for key in graph.get_all_asset_keys():
        if name := graph.get(key).metadata.get(TRUE_NAME):
            likenesses[f"{key.path[1]}/{name}"] = asset_name(key)
    for true in sorted(likenesses, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(true)}(?![\w-])", likenesses[true], text)
    return text


def select_assets(definitions: dg.Definitions, system: str, text: str) -> set[dg.AssetKey]:
    """The assets that a selection names and a run can make; ConfigurationError where there is none."""
    graph = definitions.resolve_asset_graph()
    known = sorted("/".join(key.path) for key in graph.get_all_asset_keys())
    expanded = expand_selection(with_likenesses(text, graph), system)
    for quoted, bare in _KEYS.findall(expanded):
        wanted = quoted or bare
        if "*" not in wanted and wanted not in known:
            raise ConfigurationError(
                f"no asset is called {wanted!r}", where="--select", remedy=close_matches(wanted, known)
            )
    try:
        with warnings.catch_warnings():
            # Selecting by group warns about a parameter of Dagster's own that is in beta.
            warnings.simplefilter("ignore", dg.BetaWarning)
            chosen = dg.AssetSelection.from_string(expanded).resolve(graph)
    except dg.DagsterError as error:
        raise ConfigurationError(
            f"this is not a selection of assets: {text!r} ({str(error).splitlines()[0]})",
            where="--select",
            remedy='name an asset (target/EmailTemplate), with + before it for what it needs, or group:"name"; '
            + close_matches(text, known),
        ) from None
    can_be_made = {key for key in chosen if graph.get(key).is_executable and graph.get(key).is_materializable}
    if not can_be_made:
        named = ", ".join(sorted("/".join(key.path) for key in chosen))
        raise ConfigurationError(
            f"nothing to do: {named} is another area's or not filled" if named else f"nothing matches {text!r}",
            where="--select",
            remedy=f"choose assets that this migration makes; {close_matches(text, known)}",
        )
    return can_be_made | companions(system, can_be_made)


def companions(system: str, chosen: Iterable[dg.AssetKey]) -> set[dg.AssetKey]:
    """The extraction's report goes with any extracted table, so that one bad table stops only what depends on it."""
    if any(key.path[1] in ("legacy", "crosswalk") for key in chosen):
        return {dg.AssetKey([system, "report", name]) for name in ("extraction", "run")}
    return set()


def close_matches(wanted: str, known: Sequence[str]) -> str:
    names = {name.split("/", 1)[1]: name for name in known}
    by_last = {name.rsplit("/", 1)[-1].lower(): short for short, name in sorted(names.items())}
    tail = wanted.strip('+"').rsplit("/", 1)[-1].lower()
    found = difflib.get_close_matches(wanted.removeprefix("+"), names, n=3, cutoff=0.6)
    found += [by_last[name] for name in difflib.get_close_matches(tail, by_last, n=3, cutoff=0.6)]
    found = list(dict.fromkeys(found))[:4]
    return f"did you mean {', '.join(found)}?" if found else "`dtx status` lists all assets"


# --- running ----------------------------------------------------------------------------------------------------------


def planned_job(
    definitions: dg.Definitions,
    name: str,
    selection: set[dg.AssetKey] | None,
    checks: set[dg.AssetCheckKey] | None = None,
) -> dg.JobDefinition:
    """A job; or what it has of the selected assets, with their checks; or some checks of it and nothing else."""
    job = definitions.resolve_job_def(name)
    if checks is not None:
        return job.get_subset(asset_check_selection=checks)
    if selection is None:
        return job
    in_job = selection & set(job.asset_layer.executable_asset_keys)
    if not in_job:
        listed = ", ".join(sorted(asset_name(key) for key in selection))
        raise ConfigurationError(f"{listed} is not made by a run", where="--select", remedy="`dtx plan` is a dry run")
    return job.get_subset(asset_selection=in_job)


def run_job(
    job: dg.JobDefinition,
    home: Path,
    instance: dg.DagsterInstance,
    listener: EventListener | None = None,
    options: Mapping[str, Any] | None = None,
) -> RunOutcome:
    """Run all steps of a job in this process, with its history in `instance`. Failures are in the outcome.

    `options` are those of the run (RunOptions), as its configuration form has them.
    """
    started = time.monotonic()
    close_dead_runs(instance)
    with logging_runs(log_file(home), listener or (lambda _event: None)), closing_what_is_interrupted(instance):
        result = job.execute_in_process(
            run_config=configured(options),
            instance=instance,
            raise_on_error=False,
            tags={PROCESS_TAG: this_process()},
        )
    return read_outcome(result.run_id, result.success, result.all_events, steps_of(job), time.monotonic() - started)


def steps_of(job: dg.JobDefinition) -> list[str]:
    """The steps of a job, by name; but for those of which nobody knows before the run how many there are."""
    names = []
    for node in job.nodes:
        if isinstance(graph := node.definition, dg.GraphDefinition):
            mapped = graph.dependency_structure.is_dynamic_mapped
            names += [f"{node.name}.{each.name}" for each in graph.nodes if not mapped(each.name)]
        else:
            names.append(node.name)
    return names


def log_file(home: Path) -> Path:
    """Where a run of this process is logged."""
    make_private_directory(home / LOG_DIRECTORY)
    return home / LOG_DIRECTORY / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.log"


def configured(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The configuration of a run with these options."""
    return {
        "loggers": {LOGGER: {}},
        **({"resources": {ENVIRONMENT: {"config": dict(options)}}} if options else {}),
    }


def this_process() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


@contextmanager
def closing_what_is_interrupted(instance: dg.DagsterInstance) -> Iterator[None]:
    """A run of this process that is left without an end of its own is failed."""
    try:
        yield
    except BaseException as error:
        if is_interrupt(type(error)):
            for run in instance.get_runs(filters=dg.RunsFilter(statuses=UNFINISHED)):
                if run.tags.get(PROCESS_TAG) == this_process():
                    instance.report_run_failed(run, INTERRUPTED)
        raise


def close_dead_runs(instance: dg.DagsterInstance) -> None:
    """Runs of processes of this machine that were killed would be shown as running for ever: they failed."""
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=UNFINISHED)):
        host, _, process = run.tags.get(PROCESS_TAG, "").rpartition("/")
        if host == socket.gethostname() and not is_alive(int(process)):
            instance.report_run_failed(
                run, "The process that made this run was killed. Run again: it goes on from there."
            )


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_outcome(
    run_id: str, succeeded: bool, events: Iterable[dg.DagsterEvent], steps: Sequence[str], seconds: float
) -> RunOutcome:
    """What the events of a run say; `steps` are those it should have made."""
    outcome = RunOutcome(run_id, succeeded, seconds)
    finished: set[str] = set()
    accounting: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        if event.is_step_success or event.is_step_failure:
            finished.add(str(event.step_key))
        if event.is_step_success:
            outcome.seconds_of[str(event.step_key)] = event.step_success_data.duration_ms / 1000
        if event.is_step_failure:
            outcome.failures.append(StepFailure(str(event.step_key), failure_message(event, outcome.checks)))
        elif event.event_type == dg.DagsterEventType.RUN_FAILURE and not outcome.failures:
            outcome.failures.append(StepFailure("run", run_failure_message(event)))
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            outcome.checks.append(check_result(evaluation))
            if isinstance(found := evaluation.metadata.get(VERIFICATION_DATA), dg.JsonMetadataValue):
                outcome.verifications.append(dict(found.value) if isinstance(found.value, Mapping) else {})
        elif event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            made = event.step_materialization_data.materialization
            for entry in _json(made.metadata, ACCOUNTING_DATA):
                # Loads come after preparations, and their entries count conflicts too.
                accounting[entry["source_table"], entry["target_table"]] = entry
            if isinstance(plan := made.metadata.get(PLAN_DATA), dg.JsonMetadataValue):
                outcome.plan = dict(plan.value) if isinstance(plan.value, Mapping) else None
            if made.asset_key.path[1] == "target":
                outcome.loads[made.asset_key.path[2]] = {
                    name: value.value for name, value in made.metadata.items() if isinstance(value.value, int | str)
                }
    outcome.accounting = list(accounting.values())
    outcome.not_run = sorted(set(steps) - finished)
    return outcome


def _json(metadata: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = metadata.get(name)
    return list(value.value) if isinstance(value, dg.JsonMetadataValue) and isinstance(value.value, list) else []


def failure_message(event: dg.DagsterEvent, checks: Sequence[CheckResult] = ()) -> str:
    """What a failed step said: our own words where there are some, else the last error of its chain.

    Where Dagster stopped at a blocking check, what that check found is said with it.
    """
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    error = data.error
    if error is not None and error.cls_name in (OF_DAGSTER, "KeyboardInterrupt"):
        return INTERRUPTED
    if error is not None and error.cls_name == "DagsterAssetCheckFailedError":
        stopped = [check for check in checks if check.is_error and f"{check.asset}: " in error.message]
        found = [
            f"  at: {check.asset}: {check.name} ({check.facts})" for check in stopped if check.name in error.message
        ]
        remedy = "  do: mend what the check names where it comes from, and run again"
        return "\n".join(["the structure is wrong, and nothing that depends on it was done", *found, remedy])
    while error is not None and error.cause is not None:
        error = error.cause
    return mask_emails(error.message.strip()) if error is not None else "failed without a message"


def run_failure_message(event: dg.DagsterEvent) -> str:
    """What a run said that failed before any of its steps: the last error of its chain, ours where there is one."""
    error = getattr(event.event_specific_data, "error", None)
    while error is not None and error.cause is not None:
        error = error.cause
    if error is not None and error.cls_name in (OF_DAGSTER, "KeyboardInterrupt"):
        return INTERRUPTED
    said = error.message.strip() if error is not None else ""
    if error is not None and error.cls_name == "Failure":
        # One of ours, before which Dagster writes the name of its class.
        said = said.partition(": ")[2]
    return mask_emails(said or event.message or "the run failed")


def check_result(evaluation: dg.AssetCheckEvaluation) -> CheckResult:
    count = evaluation.metadata.get("count")
    return CheckResult(
        asset=asset_name(evaluation.asset_key),
        name=evaluation.check_name,
        passed=evaluation.passed,
        severity=evaluation.severity.value,
        count=count.value if count is not None and isinstance(count.value, int) else None,
        facts=mask_emails(facts_text(evaluation.metadata)),
        found=tuple(map(from_json, _json(evaluation.metadata, OBSTACLES_DATA))),
    )


# --- the last state of everything -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AssetState:
    asset: str
    at: datetime | None = None
    rows: int | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class CheckState:
    asset: str
    name: str
    state: str
    """`passed`, `failed`, `warned`, `never run`; `running` or `not finished` where the evaluation did not end."""
    at: datetime | None = None
    count: int | None = None
    run_id: str | None = None
    found: tuple[Obstacle, ...] = ()
    """What it is red for, where it closes the gate."""
    facts: str = ""
    """What its metadata says, as one line."""

    @property
    def whole_name(self) -> str:
        return f"{self.asset}:{self.name}"


def latest_states(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> tuple[list[AssetState], list[CheckState]]:
    """The last materialisation of each asset and the last evaluation of each check, from the instance's history."""
    graph = definitions.resolve_asset_graph()
    assets = asset_states(instance, (key for key in graph.get_all_asset_keys() if graph.get(key).is_materializable))
    return assets, check_states(instance, graph.asset_check_keys)


def asset_states(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> list[AssetState]:
    """The last materialisation of each of these assets."""
    ordered = sorted(keys)
    records = {record.asset_entry.asset_key: record for record in instance.get_asset_records(ordered)}
    assets = []
    for key in ordered:
        record = records.get(key)
        event = record.asset_entry.last_materialization if record else None
        name = asset_name(key)
        if event is None or event.asset_materialization is None:
            assets.append(AssetState(name))
            continue
        rows = event.asset_materialization.metadata.get("dagster/row_count")
        count = rows.value if rows is not None and isinstance(rows.value, int) else None
        assets.append(AssetState(name, datetime.fromtimestamp(event.timestamp, UTC), count, event.run_id))
    return assets


def check_states(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey], *, before_run: str | None = None
) -> list[CheckState]:
    """The last evaluation of each of these checks, or the last one that is not of the run `before_run`."""
    check_keys = sorted(keys, key=lambda key: (key.asset_key.path, key.name))
    executions = instance.event_log_storage.get_latest_asset_check_execution_by_key(check_keys)
    run_of = cache(instance.get_run_by_id)

    def counts(execution: AssetCheckExecutionRecord) -> bool:
        """What a run is going to evaluate stands planned from its start; a refused one does not come to it."""
        if execution.run_id == before_run:
            return False
        run = run_of(execution.run_id) if execution.status.value == "PLANNED" else None
        return run is None or REFUSED_TAG not in run.tags

    checks = []
    for check in check_keys:
        execution, name = executions.get(check), asset_name(check.asset_key)
        if execution is not None and not counts(execution):
            history = instance.event_log_storage.get_asset_check_execution_history(check, limit=EARLIER_LOOKED_AT)
            execution = next(filter(counts, history), None)
        evaluation = execution.event.asset_check_evaluation if execution and execution.event else None
        if execution is None:
            checks.append(CheckState(name, check.name, "never run"))
        elif evaluation is None:
            # What a run planned and did not get to stays planned after its end.
            run = run_of(execution.run_id) if execution.status.value == "PLANNED" else None
            state = "running" if run and not run.is_finished else "not finished"
            checks.append(CheckState(name, check.name, state, run_id=execution.run_id))
        elif execution.event:
            result = check_result(evaluation)
            state = "passed" if result.passed else "failed" if result.is_error else "warned"
            # Not when the record was made, which is the start of the run.
            at = datetime.fromtimestamp(execution.event.timestamp, UTC)
            told = (result.count, execution.run_id, result.found, result.facts)
            checks.append(CheckState(name, check.name, state, at, *told))
    return checks
