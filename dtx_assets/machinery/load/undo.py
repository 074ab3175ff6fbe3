"""The undo of a run: what it inserted is deleted, what it updated restored, batch by batch, the last one first.

What someone changed since, or may have changed, or refers to, is left as it is and listed. Each batch is one
transaction, so an undo that was killed goes on where it stopped.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, nullcontext

from psycopg import sql

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError, StructureError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.load.indexes_after import Log, dropped_by_loads, mended_alone, require_made_again
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.load.proof import require_counts
from dtx_assets.machinery.load.runs import prepare_bookkeeping, target_lock
from dtx_assets.machinery.load.undo_load import LoadUndo, UndoSummary, undo_loads
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told
from dtx_assets.machinery.postgres.ddl import live_target, qualified

LAST_RUN = "last"
"""Names the last run that wrote something and is not undone."""
WROTE = (
    "(rows_inserted + rows_updated > 0"
    " OR EXISTS (SELECT 1 FROM migration.former_entry WHERE former_entry.batch_id = batch.id))"
)
"""Whether a batch changed the target, or what earlier ones had noted."""

RemoveFile = Callable[[str, str], bool]
"""Takes an object key and the SHA-256 that was sent; whether the object was there with it, and is removed."""


def undo_run(
    connection_url: str,
    system: str,
    targets: Sequence[TargetTable],
    run_id: str,
    *,
    with_later: bool = False,
    models: Collection[str] | None = None,
    dry: bool = False,
    remove_file: RemoveFile | None = None,
    first: Callable[[Connection, Sequence[str], UndoSummary], None] = lambda _connection, _runs, _summary: None,
    wait_seconds: float = 60.0,
    waiting: Callable[[str], None] | None = None,
) -> UndoSummary:
    """Undo a run, `with_later` after those that built on it; a dry run does it in a transaction that is rolled back.

    `models`: those alone of which the loads are undone; the run stays as it is called until none of its loads is left.
    `first` undoes what depends on the rows of these runs, the last one first, and adds what it did to the summary.

    What killed loads dropped to make it after them is made again before, or where their rows do not fit to it, when
    these are gone.

    ConfigurationError where the run is unknown, LoadError where later runs built on it.
    """
    with (
        refusals_told(),
        connect(connection_url) as connection,
        connection.transaction(force_rollback=True) if dry else nullcontext(),
    ):
        require_counts(connection)
        prepare_bookkeeping(connection)
        runs = runs_to_undo(connection, system, run_id)
        if len(runs) > 1 and not with_later:
            raise LoadError(
                f"later runs built on {run_id}: {', '.join(runs[:-1])}",
                where="migration.load",
                remedy="undo those first, or say --with-later to undo them too, the last one first",
            )
        summary = UndoSummary(runs)
        log = waiting or (lambda _message: None)
        if not dry:
            _mend(connection, system, runs, models, log)
        targets = [target for target in targets if models is None or target.model in models]
        first(connection, runs, summary)
        for undone in runs:
            _undo(connection, system, targets, models, undone, dry, wait_seconds, waiting, summary)
            _remove_files(connection, targets, undone, None if dry else remove_file, summary)
            activated = connection.execute(
                "DELETE FROM migration.activation WHERE run_id = %s RETURNING model", [undone]
            ).fetchall()
            summary.deactivated += sorted(str(row[0]) for row in activated)
            reach("undo.finished")
            connection.execute(
                "UPDATE migration.run SET status = 'rolled back', finished_at = now() WHERE run_id = %s AND NOT EXISTS"
                " (SELECT FROM migration.load WHERE load.run_id = run.run_id AND load.status <> 'rolled back')",
                [undone],
            )
    return summary


def _mend(connection: Connection, system: str, runs: Sequence[str], models: Collection[str] | None, log: Log) -> None:
    """Make again what is missing: who refers to what is seen by the foreign keys. LoadError where rows do not fit to it
    that stay."""
    for dropped, cannot in mended_alone(connection, dropped_by_loads(connection, system), log):
        if dropped.run_id not in runs or (models is not None and dropped.model not in models):
            raise cannot.told(dropped)


def runs_to_undo(connection: Connection, system: str, run_id: str) -> list[str]:
    """The run and those that built on it, the last one first."""
    known = [
        str(row[0])
        for row in connection.execute(
            "SELECT run_id FROM migration.run WHERE system = %s ORDER BY started_at DESC", [system]
        )
    ]
    matching = [known_id for known_id in known if known_id.startswith(run_id)] if run_id else []
    if run_id in known:
        matching = [run_id]
    elif run_id == LAST_RUN:
        matching = _last_run(connection, system)
        if not matching:
            raise ConfigurationError(
                f"there is no run that {LAST_RUN!r} could name: every run that wrote something is undone, or none did",
                where="migration.run",
                remedy="nothing has to be undone",
            )
    if len(matching) != 1:
        raise ConfigurationError(
            f"{'several runs begin' if matching else 'no run of this target database begins'} with {run_id!r}",
            where="migration.run",
            remedy=f"one of: {', '.join((matching or known)[:5])}" if known else "nothing was loaded here yet",
        )
    runs = set(matching)
    while True:
        later = {
            str(row[0])
            for row in connection.execute(
                "SELECT DISTINCT later.run_id FROM migration.load AS mine JOIN migration.load AS later"  # noqa: S608
                " ON (later.system, later.target_table) = (mine.system, mine.target_table) AND later.id > mine.id"
                " JOIN migration.batch ON batch.load_id = later.id"
                f" WHERE mine.run_id = ANY(%s) AND batch.undone_at IS NULL AND {WROTE}",
                [list(runs)],
            )
        }
        if later <= runs:
            return [known_id for known_id in known if known_id in runs]
        runs |= later


def _last_run(connection: Connection, system: str) -> list[str]:
    """The last run that wrote rows, sent files or activated a target; one whose undo was killed as well."""
    rows = connection.execute(
        "SELECT run_id FROM migration.run WHERE system = %s AND ("  # noqa: S608
        " EXISTS (SELECT 1 FROM migration.load JOIN migration.batch ON batch.load_id = load.id"
        "  WHERE load.run_id = run.run_id AND load.status <> 'rolled back'"
        f"  AND ({WROTE} OR batch.undone_at IS NOT NULL))"
        " OR EXISTS (SELECT 1 FROM migration.activation WHERE activation.run_id = run.run_id)"
        " OR EXISTS (SELECT 1 FROM migration.sent_file WHERE sent_file.run_id = run.run_id)"
        ") ORDER BY started_at DESC LIMIT 1",
        [system],
    )
    return [str(row[0]) for row in rows]


def _undo(
    connection: Connection,
    system: str,
    targets: Sequence[TargetTable],
    models: Collection[str] | None,
    run_id: str,
    dry: bool,
    wait_seconds: float,
    waiting: Callable[[str], None] | None,
    summary: UndoSummary,
) -> None:
    declared = {(target.name, target.model): target for target in targets}
    written_with = _written_together(connection, run_id)
    loads = connection.execute(
        "SELECT id, target_table, model FROM migration.load WHERE run_id = %s AND status <> 'rolled back'"
        " ORDER BY id DESC",
        [run_id],
    ).fetchall()
    groups: dict[int, list[tuple[int, TargetTable]]] = {}
    for load_id, table, model in loads:
        if models is not None and model not in models:
            continue
        target = declared.get((table, model))
        if target is None:
            raise StructureError(
                f"run {run_id} loaded {table} ({model}), which this migration does not declare",
                remedy="use the version, and the feeds, that loaded it",
            )
        groups.setdefault(written_with.get(int(load_id), int(load_id)), []).append((int(load_id), target))
    for together in groups.values():
        with ExitStack() as held:
            # Always in the same order, so that no two wait for each other.
            for name in sorted(target.name for _, target in together):
                held.enter_context(target_lock(connection, system, name, wait_seconds=wait_seconds, waiting=waiting))
            if not dry:
                # Where only its lock was lost, it writes no more from here on, over whichever of its connections.
                connection.execute(
                    "UPDATE migration.load SET status = 'killed', finished_at = now()"
                    " WHERE id = ANY (%s) AND status = 'running'",
                    [[load for load, _ in together]],
                )
            undone = [LoadUndo(_place(connection, system, target, dry), load, run_id) for load, target in together]
            undo_loads(undone, summary)
            if not dry:
                for load, _ in together:
                    require_made_again(connection, load)
            reach("undo.after_settling")


def _written_together(connection: Connection, run_id: str) -> dict[int, int]:
    """By load, the last of those that wrote in the same transactions, as the loads of a circle do."""
    rows = connection.execute(
        "SELECT array_agg(DISTINCT load_id) FROM migration.batch JOIN migration.load ON load.id = load_id"
        " WHERE run_id = %s GROUP BY batch.xid HAVING count(DISTINCT load_id) > 1",
        [run_id],
    ).fetchall()
    last: dict[int, int] = {}
    for (loads,) in rows:
        together = {*loads, *(load for load in last if last[load] in {last.get(each) for each in loads})}
        last |= dict.fromkeys(together, max(together))
    return last


def _remove_files(
    connection: Connection,
    targets: Sequence[TargetTable],
    run_id: str,
    remove_file: RemoveFile | None,
    summary: UndoSummary,
) -> None:
    for target in targets:
        if target.file_columns is None or live_target(connection, target) is None:
            continue
        key = sql.Identifier(target.file_columns[0])
        files = connection.execute(
            sql.SQL(
                "SELECT object_key, sha256, EXISTS (SELECT 1 FROM {table} AS t WHERE t.{key} = file.object_key)"
                " OR EXISTS (SELECT 1 FROM migration.sent_file AS other"
                " WHERE (other.target_table, other.object_key) = (file.target_table, file.object_key)"
                " AND other.run_id <> file.run_id)"
                " FROM migration.sent_file AS file WHERE (run_id, target_table) = (%s, %s)"
            ).format(table=qualified(target), key=key),
            [run_id, target.name],
        ).fetchall()
        for object_key, sha256, in_use in files:
            if in_use:
                summary.files_in_use += 1
            elif remove_file is None or remove_file(str(object_key), str(sha256)):
                summary.files_removed += 1
                reach("undo.file_removed")
            connection.execute(
                "DELETE FROM migration.sent_file WHERE (run_id, target_table, object_key) = (%s, %s, %s)",
                [run_id, target.name, object_key],
            )


def _place(connection: Connection, system: str, target: TargetTable, dry: bool) -> Place:
    live = live_target(connection, target)
    if live is None:
        raise StructureError(
            "the table is gone, so nothing in it can be undone",
            where=f"table {target.name} of the target database",
            remedy="bring the table back, or restore from a backup",
        )
    return Place(connection, system, target, live, dry)
