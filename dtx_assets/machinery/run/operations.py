"""What people do to a target besides loading it: undo a run, switch on what was loaded inactive."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from functools import partial

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.progress import StepProgress
from dtx_assets.machinery.derived.model import DerivedDeclaration
from dtx_assets.machinery.derived.settings import DerivedSettings
from dtx_assets.machinery.derived.undo import derived_since, undo_derived
from dtx_assets.machinery.files.stored import StoredFiles
from dtx_assets.machinery.load import (
    LoadSummary,
    UndoSummary,
    Verification,
    activate_target,
    load_target,
    undo_run,
    verify_target,
)
from dtx_assets.machinery.load.runs import prepare_bookkeeping
from dtx_assets.machinery.load.undo import runs_to_undo
from dtx_assets.machinery.load.undo_load import LeftRow
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.system.system import System

SHOWN_LEFT = 20


def roll_back(
    environment: RunEnvironment,
    run_id: str,
    *,
    with_later: bool = False,
    phase: int | None = None,
    dry: bool = False,
    log: Callable[[str], None] | None = None,
) -> UndoSummary:
    """Undo a run of the target database, with the files it sent; what `undo_run` raises.

    Of a `phase`, what it and those after it loaded is undone.
    """
    sends = any(target.file_columns for target in environment.system.targets)
    store = environment.file_store() if sends and not dry else None
    return undo_run(
        environment.target_url,
        environment.system.name,
        environment.system.targets,
        run_id,
        with_later=with_later,
        models=models_since(environment.system, phase),
        dry=dry,
        remove_file=store.remove if store else None,
        first=partial(undo_derivations, environment.system, dry=dry),
        waiting=log,
    )


def models_since(system: System, phase: int | None) -> list[str] | None:
    """What a phase and those after it load; None, for all, where none is named. ConfigurationError where it is unknown.

    What is derived is undone in any case: it hangs on the rows.
    """
    if phase is None:
        return None
    require_phase(system, phase)
    return [target.model for each in system.phases if each.number >= phase for target in system.models_of(each)]


def named_runs(environment: RunEnvironment, run_id: str) -> list[str]:
    """The run that is meant and those that built on it, the last one first; ConfigurationError where it is unknown."""
    with (
        refusals_told(),
        connect(environment.target_url) as connection,
        connection.transaction(force_rollback=True),
    ):
        prepare_bookkeeping(connection)
        return runs_to_undo(connection, environment.system.name, run_id)


def undo_derivations(
    system: System, connection: Connection, runs: Sequence[str], summary: UndoSummary, *, dry: bool = False
) -> None:
    """Undo what runs derived, and what later ones derived from their rows, the last one first."""
    if not isinstance(system.derived, DerivedDeclaration):
        return
    dify = DerivedSettings.from_environment(system.name).make_dify()
    with closing(dify) if dify else nullcontext():
        for run in derived_since(connection, runs[-1]):
            done = undo_derived(connection, system.derived, run, dify, dry=dry)
            if done.documents:
                documents = system.derived.documents
                summary.deleted[documents] = summary.deleted.get(documents, 0) + done.documents
            summary.deleted[system.derived.queue] = summary.deleted.get(system.derived.queue, 0) + done.undone
            for row in done.left:
                table, _, key = row.partition("/")
                summary.left.append(LeftRow(table, key, "", "its text, or its embedding, was written since"))


def derived_phase(system: System) -> int | None:
    """The number of the phase that derives from what the others loaded; it loads nothing itself."""
    if not system.phases or not isinstance(system.derived, DerivedDeclaration):
        return None
    return max(phase.number for phase in system.phases) + 1


def derived_assets(system: System) -> list[str]:
    """The assets of that phase, as selections name them."""
    if not isinstance(declared := system.derived, DerivedDeclaration):
        return []
    names = [declared.queue, *(entity.embeddings for entity in declared.entities.values())]
    return [f"derived/{name}" for name in (*names, *([declared.documents] if declared.knowledge else []))]


def require_phase(system: System, number: int) -> int:
    """The number of a phase of the system; ConfigurationError where there is none."""
    numbers = [phase.number for phase in system.phases]
    if (derived := derived_phase(system)) is not None:
        numbers.append(derived)
    if number not in numbers:
        known = ", ".join(map(str, numbers))
        raise ConfigurationError(
            f"{system.name} has no phase {number}",
            where="--phase",
            remedy=f"one of: {known}" if known else "its `tables.yaml` names none; leave it out",
        )
    return number


def undo_lines(summary: UndoSummary, *, dry: bool) -> Iterator[str]:
    """What an undo did, for people."""
    would = "would be " if dry else ""
    for run in summary.runs:
        yield f"run {run} {'would be' if dry else 'is'} undone"
    if summary.did_nothing:
        wrote = "it wrote nothing, or nothing that is there still"
        yield f"{wrote}: nothing {'would be' if dry else 'was'} deleted, restored or removed"
    for table in sorted({*summary.deleted, *summary.restored}):
        deleted, restored = summary.deleted.get(table, 0), summary.restored.get(table, 0)
        if deleted or restored:
            yield f"{table}: {deleted:,} rows {would}deleted, {restored:,} {would}restored"
    for model in summary.deactivated:
        yield f"{model}: its activation {'would be' if dry else 'is'} taken back"
    if summary.files_removed or summary.files_in_use:
        yield f"files: {summary.files_removed:,} {would}removed, {summary.files_in_use:,} left because they are in use"
    for (table, cause), rows in Counter((row.target_table, row.cause) for row in summary.left).items():
        yield f"{table}: {rows:,} left, {cause}"
    for row in summary.left[:SHOWN_LEFT]:
        yield f"  left: {row.target_table} {row.target_id}{f', {row.part}' if row.part else ''}: {row.cause}"
    if len(summary.left) > SHOWN_LEFT:
        yield f"  and {len(summary.left) - SHOWN_LEFT:,} more: see migration.left_entry"


def activate_targets(environment: RunEnvironment, log: Callable[[str], None]) -> dict[str, LoadSummary]:
    """Switch on the rows of each target that was loaded inactive, as a run of its own that can be undone.

    ConfigurationError where the rows were not loaded inactive; what `load_target` raises.
    """
    system = environment.system
    held = [target for target in system.filled_targets if target.held_column]
    prepared = {target.model: environment.lake.require((system.name, "prepared", target.model)) for target in held}
    for target in held:
        if "rows" not in prepared[target.model].tables or f"_{target.held_column}" not in columns_of(
            environment, target.model
        ):
            raise ConfigurationError(
                f"{target.model} was not prepared to be activated later",
                where="decision activation",
                remedy="choose hold_until_activated, and run, before there is anything to activate",
            )
    run = environment.load()
    summaries = {}
    for target in held:
        activate_target(run, target, environment.options.accepted_by or "unknown")
        summaries[target.model] = load_target(
            system.name, target, environment.lake, environment.target_url, run, waiting=log
        )
    return summaries


def verify_model(environment: RunEnvironment, target: TargetTable, log: Callable[[str], None]) -> Verification:
    """Compare a target with its prepared rows, by value, and its files with the store; nothing is written."""
    with ExitStack() as stack:
        files = None
        if target.file_columns:
            progress = StepProgress(f"verify files of {target.model}", log)
            files = stack.enter_context(StoredFiles(environment.file_store(), progress))
        return verify_target(
            environment.system.name,
            target,
            environment.lake,
            environment.target_url,
            environment.dry_load(),
            progress=StepProgress(f"verify {target.model}", log),
            files=files,
            together=environment.system.loaded_with[target.model],
        )


def columns_of(environment: RunEnvironment, model: str) -> list[str]:
    return environment.lake.scan((environment.system.name, "prepared", model)).collect_schema().names()
