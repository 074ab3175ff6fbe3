"""What a session with any PostgreSQL, source or target, must be, so that its answers are the whole and its own.

Its own: a pooler in transaction mode gives each transaction to whichever server session is free, so that settings,
locks and temporary tables are another client's a moment later. The whole: where row-level security would hide rows,
the server is told to refuse instead, as pg_dump does.
"""

import select
import time
from contextlib import closing
from typing import Any

import psycopg
from psycopg import pq

ROWS_REFUSED = "SET row_security = off"
"""From then on the server refuses what a policy would filter."""

ROWS_REMEDY = (
    "use an account that policies do not hold for: ALTER ROLE … BYPASSRLS, or the table's owner where the table does"
    " not FORCE ROW LEVEL SECURITY; of a view, its owner's rights count unless it is a security_invoker"
)
POOLER = "a pooler (such as PgBouncer) in transaction mode is in between, and gives each transaction another session"
POOLER_REMEDY = "give the URL of the PostgreSQL server itself, or of a pool with pool_mode = session"

SECONDS_FOR_ANSWER, TRIES = 3.0, 5

Connection = psycopg.Connection[Any]


def would_hide_rows(error: psycopg.Error) -> bool:
    """Whether the server refused because a policy would have filtered. Its words may be in any language."""
    return error.diag.source_function == "check_enable_rls"


def is_shared(connection: Connection, url: str) -> bool:
    """Whether this session is not its client's alone. The connection has to be outside of a transaction.

    A pooler makes up the number that names the session to the client. Only then is a second connection opened: in
    transaction mode it gets the session of the first, or drives the first one to another.
    """
    number = _number(connection)
    if connection.info.backend_pid == number:
        return False
    with closing(psycopg.connect(url, autocommit=True)) as other:
        for _ in range(TRIES):
            try:
                theirs = _number_in_transaction(other)
            except psycopg.OperationalError:
                # In statement mode there are no transactions at all.
                return True
            if theirs is None:
                # Each client waits for a session of its own.
                return False
            if theirs == number or _number(connection) != number:
                return True
            other.execute("ROLLBACK")
    return False


def _number(connection: Connection) -> int:
    [number] = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
    return int(number)


def _number_in_transaction(connection: Connection) -> int | None:
    """The session's number, from a transaction that stays open; None where no session is given to it in time."""
    asked = connection.pgconn
    asked.send_query(b"BEGIN; SELECT pg_backend_pid()")
    deadline = time.monotonic() + SECONDS_FOR_ANSWER
    number = None
    while True:
        while asked.is_busy():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([asked.socket], [], [], left)[0]:
                return None
            asked.consume_input()
        result = asked.get_result()
        if result is None:
            return number
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
        if result.status == pq.ExecStatus.TUPLES_OK:
            number = int(result.get_value(0, 0) or 0)
