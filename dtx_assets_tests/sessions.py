"""Who else is connected to the database of a connection."""

import time

import psycopg

from dtx_assets_tests.patience import PATIENCE

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def other_sessions(connection: psycopg.Connection) -> int:
    [(count,)] = connection.execute(f"SELECT count(*) {OTHERS}").fetchall()
    return int(count)


def wait_until_alone(connection: psycopg.Connection) -> None:
    """Until the server has ended what others had open: it does so a moment after they closed it, or died."""
    deadline = time.monotonic() + PATIENCE
    while count := other_sessions(connection):
        assert time.monotonic() < deadline, f"{count} sessions are still there"
        time.sleep(0.02)
