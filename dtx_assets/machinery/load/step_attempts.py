"""Who does a step of a run: one worker at a time, counted in the target database, where nobody's death is forgotten.

A worker that begins a step holds a lock on it as long as its connection lives. A second one, to whom a broker has
handed the same step, waits for it, and then sees whether the step has ended.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from zlib import crc32

from dtx_assets.machinery.load.runs import prepare_bookkeeping
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told

ATTEMPTS = 3
"""So many workers may die at a step, which then fails."""
SECONDS_BETWEEN_LOOKS = 0.5
LOCK_CLASS = crc32(b"dtx_assets step") - (1 << 31)
FIRST_WITH_IDLE_TIMEOUT = 140_000
"""The version of PostgreSQL that may end a session for doing nothing, as this one does while a step is done."""


@contextmanager
def alone(
    url: str, run_id: str, step: str, waiting: Callable[[str], object] = lambda _text: None
) -> Iterator[Connection]:
    """Waits until no other worker does the step, and keeps others from it while the block lasts."""
    with refusals_told(), connect(url) as connection:
        if connection.info.server_version >= FIRST_WITH_IDLE_TIMEOUT:
            connection.execute("SET idle_session_timeout = 0")
        told = False
        while not _try_lock(connection, run_id, step):
            if not told:
                waiting(f"{step} is being done by another worker, and was handed out once more: waiting for its end")
                told = True
            time.sleep(SECONDS_BETWEEN_LOOKS)
        yield connection


@contextmanager
def attempt(connection: Connection, run_id: str, step: str, worker: str) -> Iterator[None]:
    """Notes that a worker does the step, and that it has ended; that of who dies stays open."""
    [[number]] = connection.execute(
        "INSERT INTO migration.step_attempt (run_id, step, worker) VALUES (%s, %s, %s) RETURNING id",
        [run_id, step, worker],
    ).fetchall()
    yield
    connection.execute("UPDATE migration.step_attempt SET ended_at = now() WHERE id = %s", [number])


def died_at(connection: Connection, run_id: str, step: str) -> list[str]:
    """The workers that began the step and did not end it; asked while one is `alone` with it."""
    prepare_attempts(connection)
    found = connection.execute(
        "SELECT worker FROM migration.step_attempt WHERE run_id = %s AND step = %s AND ended_at IS NULL ORDER BY id",
        [run_id, step],
    ).fetchall()
    return [worker for (worker,) in found]


def prepare_attempts(connection: Connection) -> None:
    """Create the table of attempts where there is none: it is of runs by workers only. Any number may do it at once."""
    prepare_bookkeeping(connection)
    if connection.execute("SELECT to_regclass('migration.step_attempt') IS NULL").fetchone() == (True,):
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", [LOCK_CLASS])
            connection.execute(files(__package__).joinpath("step_attempts.sql").read_text().encode())


def is_being_done(connection: Connection, run_id: str, step: str) -> bool:
    """Whether a worker that lives does the step."""
    if _try_lock(connection, run_id, step):
        connection.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK_CLASS, _key(run_id, step)])
        return False
    return True


def _try_lock(connection: Connection, run_id: str, step: str) -> bool:
    key = [LOCK_CLASS, _key(run_id, step)]
    return connection.execute("SELECT pg_try_advisory_lock(%s, %s)", key).fetchone() == (True,)


def _key(run_id: str, step: str) -> int:
    return crc32(f"{run_id}/{step}".encode()) - (1 << 31)
