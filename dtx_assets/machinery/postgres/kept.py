"""Connections that a run keeps: a step has the session of the step before it, as good as new.

A server makes a process for each connection and reads its catalogue anew in it; of few rows, that takes longer than
what is asked. What a session was told (settings, temporary tables, locks, prepared statements) is discarded before the
next one has it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from types import TracebackType
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

IDLE_SECONDS = 30.0
"""For how long a connection may have been idle: what lies between may forget a longer one without a word."""

Use = tuple[str, str | None]
"""The URL, and the system whose loads write over it."""


class KeptConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is kept, if anyone keeps connections, when the `with` block ends in which it was used.

    After an error, or where it was not in a block, it is closed like any other.
    """

    use: Use

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_kept = False
        try:
            is_kept = kind is None and _keep(self)
        finally:
            if not is_kept:
                super().__exit__(kind, error, trace)


_lock = Lock()
_idle: dict[tuple[int, Use], tuple[KeptConnection, float]] = {}
"""By process too: a fork has those of its parent, and must neither use nor close them."""
_keepers: list[int] = []
"""The process of each block in which connections are kept."""


@contextmanager
def keeping_connections() -> Iterator[None]:
    """Within the block one connection of each use is kept, while it is idle. All are closed when such a block ends."""
    with _lock:
        _keepers.append(os.getpid())
    try:
        yield
    finally:
        process = os.getpid()
        with _lock:
            _keepers.pop()
            left = [_idle.pop(key)[0] for key in list(_idle) if key[0] == process]
        for connection in left:
            connection.close()


def idle_connection(use: Use) -> KeptConnection | None:
    """The connection that is kept for a use, if there is one; it is nobody else's then. Its server may be gone."""
    with _lock:
        connection, since = _idle.pop((os.getpid(), use), (None, 0.0))
    if connection is None or time.monotonic() - since <= IDLE_SECONDS:
        return connection
    connection.close()
    return None


def _keep(connection: KeptConnection) -> bool:
    """Whether a connection is kept from now on; not where it is of no use, or where one is idle already."""
    if os.getpid() not in _keepers or connection.closed:
        return False
    if connection.info.transaction_status != TransactionStatus.IDLE or connection.isolation_level is not None:
        return False
    with suppress(psycopg.Error):
        # When a transaction is rolled back psycopg forgets which statements it prepared, as the server is about to.
        with connection.transaction(force_rollback=True):
            pass
        connection.execute("DISCARD ALL", prepare=False)
        with _lock:
            key = os.getpid(), connection.use
            if os.getpid() in _keepers and key not in _idle:
                _idle[key] = connection, time.monotonic()
                return True
    return False
