"""Connections to the target database, and what its server says when it refuses."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError
from dtx_assets.machinery.base.settings import mask_url, require_escaped, without_secrets
from dtx_assets.machinery.postgres.kept import KeptConnection, idle_connection
from dtx_assets.machinery.postgres.sessions import (
    POOLER,
    POOLER_REMEDY,
    ROWS_REFUSED,
    ROWS_REMEDY,
    is_shared,
    would_hide_rows,
)

LOCK_TIMEOUT, STATEMENT_TIMEOUT = "10s", "30min"
"""How long a load waits for a lock that the live application holds before it tries again, and for one statement."""
WORK_MEMORY = "32MB"
DEAD_SOON = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""A machine that is gone says no good-bye: the server is to notice within half a minute, and let its locks go."""

PRINTING = {
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "xmlbinary": "base64",
}
"""What decides how values are printed as text: the same in every session, whatever the database or the role says."""

REMEDIES: dict[type[psycopg.Error], str] = {
    psycopg.errors.InsufficientPrivilege: (
        "let this user SELECT, INSERT and UPDATE the target's tables, SELECT those they refer to, use their sequences,"
        " make temporary tables, and own the schema migration"
    ),
    psycopg.errors.ReadOnlySqlTransaction: "give the URL of the primary server: a replica cannot be written",
    psycopg.errors.LockNotAvailable: (
        "something holds a lock on the target for too long: see pg_stat_activity, run again when it is gone"
    ),
    psycopg.errors.QueryCanceled: "the server was too slow for one statement: see what loads it, then run again",
    psycopg.errors.DiskFull: "make room on the server; batches that were committed stay whole, run again then",
}

Connection = psycopg.Connection[tuple[Any, ...]]


def connect(url: str, *, loads: str | None = None) -> Connection:
    """A connection with the settings that every load relies on; LoadError, without secrets, where there is none.

    One that `loads` a system says so to triggers of the target, as the setting `<system>.loading`.
    """
    require_escaped(url)
    connection = idle_connection((url, loads))
    if connection is not None:
        try:
            return _told(connection, loads)
        except psycopg.OperationalError:
            # Its server has ended, or has ended its session: whether there is another shows in a moment.
            connection.close()
    return _told(_opened(url, loads), loads)


def _opened(url: str, loads: str | None) -> KeptConnection:
    try:
        connection = KeptConnection.connect(url, autocommit=True, application_name="dtx_assets load")
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "the URL of the target database cannot be read",
            where=mask_url(url),
            remedy="give postgresql://user@host:port/database",
        ) from None
    except psycopg.OperationalError as error:
        raise LoadError(
            f"the target database cannot be reached: {without_secrets(str(error), url)}",
            where=mask_url(url),
            remedy="check that it is up and that the URL, the user and its password are right",
        ) from None
    connection.use = url, loads
    try:
        if is_shared(connection, url):
            raise LoadError(f"the target database cannot be used: {POOLER}", where=mask_url(url), remedy=POOLER_REMEDY)
    except BaseException:
        connection.close()
        raise
    return connection


def _told(connection: KeptConnection, loads: str | None) -> Connection:
    """The connection, with the settings of this session."""
    connection.execute(ROWS_REFUSED)
    settings = {
        **PRINTING,
        "timezone": "UTC",
        # Each batch has its own few queries over many rows: compiling them takes longer than it saves.
        "jit": "off",
        # What a part is joined with is sorted and hashed in memory: 4 MB, as servers come, go to disk again and again.
        "work_mem": WORK_MEMORY,
        # An index leads to the rows of a part; at the price of a disk that seeks all of a table is read for each part.
        "random_page_cost": "1.1",
        "lock_timeout": LOCK_TIMEOUT,
        "statement_timeout": STATEMENT_TIMEOUT,
        **DEAD_SOON,
        **({f"{loads}.loading": "on"} if loads is not None else {}),
    }
    connection.execute(
        "SELECT set_config(name, setting, false) FROM unnest(%s::text[], %s::text[]) AS given (name, setting)"
        # A server that gives more is left as it is.
        " WHERE name <> 'work_mem' OR pg_size_bytes(current_setting(name)) < pg_size_bytes(setting)",
        [list(settings), list(settings.values())],
    )
    return connection


@contextmanager
def refusals_told() -> Iterator[None]:
    """What the server refuses, or a connection that is lost, as LoadError: without rows, statements or secrets."""
    try:
        yield
    except psycopg.Error as error:
        # Without a code of the server, and with the connection whole, it is a fault of ours: that is not hidden.
        if error.sqlstate is None and not isinstance(error, psycopg.OperationalError):
            raise
        if would_hide_rows(error):
            raise LoadError(
                f"row-level security hides rows of the target: {words_of(error)}",
                where="the target database",
                remedy=ROWS_REMEDY,
            ) from None
        remedy = next(
            (remedy for kinds, remedy in REMEDIES.items() if isinstance(error, kinds)),
            "batches that were committed stay whole; when the database is well, run again",
        )
        table = error.diag.table_name
        raise LoadError(
            f"the target database stopped the load: {words_of(error)}",
            where=f"table {table} of the target database" if table else "the target database",
            remedy=remedy,
        ) from None


def words_of(error: psycopg.Error) -> str:
    """What the server says, without what may be of a row: values that it quotes, and the words of triggers."""
    said = error.diag.message_primary or "the connection was lost"
    return server_words(error.sqlstate or "", said, error.diag.context or "")


def server_words(state: str, said: str, context: str) -> str:
    """The same of what `said` is with an SQLSTATE, and the functions of its `context`."""
    if state.startswith("P0") or is_raised(context):
        place = (context or state).splitlines()[0]
        return f"a function of the target raised an error ({place}); the log of its server has the words"
    return re.sub(r'".*"', '"…"', said, flags=re.DOTALL) if state.startswith("22") else said


def is_raised(context: str) -> bool:
    """Whether a function said RAISE, which it may do with any state: the innermost line of a context tells."""
    return bool(re.match(r".*\bRAISE$", context, flags=re.MULTILINE))
