"""The bookkeeping schema `migration` and the runs recorded in it. What a load writes there is `writer`."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

import psycopg

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError, StructureError
from dtx_assets.machinery.base.settings import DEFAULT_LOAD_CONNECTIONS
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told

if TYPE_CHECKING:
    from dtx_assets.machinery.load.subset import Subset


SCHEMA_VERSION = 11
LOCK_CLASS = crc32(b"dtx_assets migration") - (1 << 31)
SECONDS_BETWEEN_TRIES = 0.5
Mode = Literal["rehearsal", "cutover"]
Gate = Callable[[str], None]


class TargetInUse(LoadError):
    """Another load holds the lock of a target."""


@dataclass(frozen=True)
class RunContext:
    """A run that is recorded in the target database: what all its loads are done under.

    `cutover_at` is None where nobody fixed it; `gate` is called with the model before the first write of each load and
    raises LoadError where it must not go on. A dry run writes nothing that stays; a subset are some of the source rows.
    `must_stay`: tables of others of which each transaction notes what it did to them. `demonstration`: what a file
    stands for that nobody has said, where the run is one of a demonstration.
    """

    connection_url: str = field(repr=False)
    system: str
    run_id: str
    mode: Mode
    decisions: Mapping[str, str]
    cutover_at: datetime | None = None
    gate: Gate | None = field(default=None, compare=False)
    accepted: Mapping[str, Mapping[str, str]] = field(default_factory=dict, compare=False)
    restore_point: str | None = None
    dry: bool = False
    subset: "Subset | None" = None
    must_stay: tuple[TargetTable, ...] = field(default=(), compare=False)
    demonstration: Mapping[str, Any] | None = field(default=None, compare=False)
    connections: int = field(default=DEFAULT_LOAD_CONNECTIONS, compare=False)
    """Over how many the parts of one target go at once."""
    indexes_after: bool = field(default=False, compare=False)
    """Whether indexes and foreign keys of an empty table are made after its first load."""


def prepare_bookkeeping(connection: Connection) -> None:
    """Create the schema `migration` where there is none. Any number of runs may do it at once."""
    if _version(connection) == SCHEMA_VERSION:
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", [LOCK_CLASS])
        version = _version(connection)
        if version is None:
            try:
                connection.execute(files(__package__).joinpath("bookkeeping.sql").read_text().encode())
            except psycopg.errors.InsufficientPrivilege as error:
                raise LoadError(
                    f"the bookkeeping cannot be created: {error.diag.message_primary}",
                    where="schema migration of the target database",
                    remedy="let this user create a schema: GRANT CREATE ON DATABASE … TO …",
                ) from None
            return
        if version != SCHEMA_VERSION:
            raise StructureError(
                f"the bookkeeping has version {version}, and this is version {SCHEMA_VERSION} of the product",
                where="schema migration of the target database",
                remedy="use the version that wrote it",
            )


def _version(connection: Connection) -> int | None:
    # Not by to_regclass: that may answer from what this connection knew before it waited for the lock.
    found = connection.execute(
        "SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE (nspname, relname) = ('migration', 'schema_version')"
    ).fetchone()
    if found is None:
        return None
    [version] = connection.execute("SELECT max(version) FROM migration.schema_version").fetchone() or (None,)
    return version if isinstance(version, int) else None


def open_run(
    connection_url: str,
    system: str,
    run_id: str,
    *,
    mode: Mode,
    decisions: Mapping[str, str],
    cutover_at: datetime | None = None,
    gate: Gate | None = None,
    accepted: Mapping[str, Mapping[str, str]] | None = None,
    restore_point: str | None = None,
    subset: "Subset | None" = None,
    must_stay: tuple[TargetTable, ...] = (),
    demonstration: Mapping[str, Any] | None = None,
    connections: int = DEFAULT_LOAD_CONNECTIONS,
    indexes_after: bool = False,
) -> RunContext:
    """Record a run in `migration.run`; the same run may be opened again, by another process too.

    ConfigurationError where it is to make `indexes_after` a load and names no restore point.
    """
    if indexes_after:
        require_restore_point(system, restore_point)
    run = RunContext(
        connection_url,
        system,
        run_id,
        mode,
        dict(decisions),
        cutover_at,
        gate,
        dict(accepted or {}),
        restore_point,
        subset=subset,
        must_stay=must_stay,
        demonstration=demonstration,
        connections=connections,
        indexes_after=indexes_after,
    )
    with refusals_told(), connect(run.connection_url) as connection:
        prepare_bookkeeping(connection)
        _close_dead_runs(connection, system, but=run_id)
        record_run(connection, run)
    return run


def require_restore_point(system: str, restore_point: str | None) -> None:
    """ConfigurationError where a run is to drop indexes of the application, and nothing to go back to is named."""
    if not restore_point:
        raise ConfigurationError(
            "indexes and foreign keys of empty tables are to be made after their first load, and no restore point of"
            " the target database is named",
            where=f"{system.upper()}_INDEXES_AFTER_LOAD",
            remedy="make a snapshot, and give its name or id: --restore-point NAME; or unset the variable",
        )


def record_run(connection: Connection, run: RunContext) -> None:
    connection.execute(
        "INSERT INTO migration.run (run_id, system, mode, decisions, cutover_at, accepted, restore_point,"
        " demonstration, indexes_after) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (run_id) DO UPDATE SET finished_at = NULL,"
        # One of its processes failed: that stays, whichever goes on.
        " status = CASE WHEN run.status = 'failed' THEN 'failed' ELSE 'running' END",
        [
            run.run_id,
            run.system,
            run.mode,
            json.dumps(dict(run.decisions), sort_keys=True),
            run.cutover_at,
            json.dumps(run.accepted),
            run.restore_point,
            json.dumps(run.demonstration) if run.demonstration else None,
            run.indexes_after,
        ],
    )


def is_loaded_by(connection: Connection, run: RunContext, target: TargetTable) -> bool:
    """Whether a run has loaded a target, wholly."""
    if _version(connection) is None:
        return False
    found = connection.execute(
        "SELECT FROM migration.load WHERE (run_id, system, target_table, model, status) = (%s, %s, %s, %s, 'succeeded')"
        " AND subset IS NULL",
        [run.run_id, run.system, target.name, target.model],
    )
    return found.fetchone() is not None


def finish_run(run: RunContext, status: Literal["succeeded", "failed"], *, goes_on: bool = False) -> None:
    """Record how a process of a run ended: how the run did follows from all of them and from their loads.

    `goes_on`: it has other processes, one of which may do again what one that was killed did, and which settle it.
    """
    with refusals_told(), connect(run.connection_url) as connection:
        _settle_run(connection, run.run_id, failed=status == "failed", goes_on=goes_on)
        _close_dead_runs(connection, run.system, but=run.run_id)


def note_failure(connection_url: str, run_id: str) -> None:
    """Record that a run failed in a process that loads nothing; where no other one recorded the run, nothing is."""
    settle_run(connection_url, run_id, failed=True)


def settle_run(connection_url: str, run_id: str, *, failed: bool) -> None:
    """Record how a run ended all of whose processes have; where none recorded it, nothing is."""
    with refusals_told(), connect(connection_url) as connection:
        if _version(connection) is not None:
            _settle_run(connection, run_id, failed=failed)


def _settle_run(connection: Connection, run_id: str, *, failed: bool, goes_on: bool = False) -> None:
    """A run failed where one of its processes says so or the last load of a target did not end; else it goes on while
    one is being loaded, or is to be `goes_on`, else it succeeded."""
    with connection.transaction():
        # Of processes that end at once, the later one sees what the other wrote.
        connection.execute("SELECT 1 FROM migration.run WHERE run_id = %s FOR UPDATE", [run_id])
        _close_dead_loads(connection, run_id)
        connection.execute(
            "WITH latest AS (SELECT DISTINCT ON (system, target_table, model) status FROM migration.load"
            " WHERE run_id = %(run_id)s ORDER BY system, target_table, model, id DESC), settled AS (SELECT CASE"
            " WHEN %(failed)s OR EXISTS (SELECT 1 FROM latest WHERE status = 'failed'"
            " OR status = 'killed' AND NOT %(goes_on)s) THEN 'failed'"
            " WHEN %(goes_on)s OR EXISTS (SELECT 1 FROM latest WHERE status = 'running') THEN 'running'"
            " ELSE 'succeeded' END"
            " AS status)"
            " UPDATE migration.run SET status = CASE WHEN run.status = 'failed' THEN 'failed' ELSE settled.status END,"
            " finished_at = CASE WHEN settled.status <> 'running' THEN now() END FROM settled"
            " WHERE run_id = %(run_id)s AND run.status <> 'rolled back'",
            {"run_id": run_id, "failed": failed, "goes_on": goes_on},
        )


def _close_dead_loads(connection: Connection, run_id: str) -> None:
    """A load that says it is running and whose lock nobody holds was killed."""
    running = connection.execute(
        "SELECT id, system, target_table FROM migration.load WHERE run_id = %s AND status = 'running'", [run_id]
    ).fetchall()
    dead = [load for load, system, target_table in running if not _is_held(connection, system, target_table)]
    connection.execute(
        "UPDATE migration.load SET status = 'killed', finished_at = now() WHERE id = ANY(%s) AND status = 'running'",
        [dead],
    )


def _close_dead_runs(connection: Connection, system: str, but: str) -> None:
    """Runs in which a process was killed while it loaded failed, though none of their processes could say so."""
    unfinished = connection.execute(
        "SELECT DISTINCT run_id FROM migration.load JOIN migration.run USING (run_id)"
        " WHERE load.system = %s AND load.status IN ('running', 'killed') AND run.status = 'running' AND run_id <> %s",
        [system, but],
    ).fetchall()
    for (run_id,) in unfinished:
        _settle_run(connection, run_id, failed=False)


@contextmanager
def target_lock(
    connection: Connection,
    system: str,
    target_table: str,
    *,
    wait_seconds: float,
    waiting: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Only one load of a target at a time, on all machines; TargetInUse where another holds it for too long."""
    key = _lock_key(system, target_table)
    deadline = time.monotonic() + wait_seconds
    told = False
    while connection.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK_CLASS, key]).fetchone() != (True,):
        message = f"{target_table} is being loaded by another run ({_holder(connection, key)})"
        if time.monotonic() >= deadline:
            raise TargetInUse(
                f"{message}, and it did not end within {wait_seconds:g} s",
                remedy="wait until that run has ended, then run again",
            )
        if not told and waiting:
            waiting(f"{message}; waiting for up to {wait_seconds:g} s")
            told = True
        time.sleep(SECONDS_BETWEEN_TRIES)
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK_CLASS, key])


def _lock_key(system: str, target_table: str) -> int:
    return crc32(f"{system}/{target_table}".encode()) - (1 << 31)


def _is_held(connection: Connection, system: str, target_table: str) -> bool:
    """Whether a load of the target holds its lock, of whatever process on whatever machine."""
    key = [LOCK_CLASS, _lock_key(system, target_table)]
    free = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", key).fetchone() == (True,)
    if free:
        connection.execute("SELECT pg_advisory_unlock(%s, %s)", key)
    return not free


def is_held_by(connection: Connection, system: str, target_table: str, session: int) -> bool:
    """Whether the lock of a target is held by this session of the database."""
    # pg_locks shows the two keys as unsigned numbers.
    found = connection.execute(
        "SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2"
        " AND (classid::bigint, objid::bigint, pid) = (%s, %s, %s)",
        [LOCK_CLASS % (1 << 32), _lock_key(system, target_table) % (1 << 32), session],
    )
    return found.fetchone() is not None


def _holder(connection: Connection, key: int) -> str:
    # pg_locks shows the two keys as unsigned numbers.
    found = connection.execute(
        "SELECT activity.application_name, activity.pid, activity.backend_start FROM pg_locks AS held"
        " JOIN pg_stat_activity AS activity USING (pid)"
        " WHERE held.locktype = 'advisory' AND held.granted AND held.objid::bigint = %s AND held.objsubid = 2",
        [key % (1 << 32)],
    ).fetchone()
    return f"{found[0]}, backend {found[1]}, connected since {found[2]:%Y-%m-%d %H:%M:%S} UTC" if found else "unknown"
