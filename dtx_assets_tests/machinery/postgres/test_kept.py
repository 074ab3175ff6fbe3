"""A run's connections are kept between its steps: nothing that a session was told reaches the next one that has it."""

import os

import psycopg
import pytest

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.postgres import kept
from dtx_assets.machinery.postgres.connection import Connection, connect
from dtx_assets.machinery.postgres.kept import keeping_connections

SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'dtx_assets load'"
)


def session(connection: Connection) -> int:
    return connection.info.backend_pid


def session_of(url: str, loads: str | None = None) -> int:
    with connect(url, loads=loads) as connection:
        return session(connection)


def one(connection: Connection, query: str) -> object:
    [value] = connection.execute(query.encode()).fetchone() or (None,)
    return value


def test_without_anyone_who_keeps_them_each_connection_is_its_own(database_url):
    with connect(database_url) as connection:
        first = session(connection)
    assert connection.closed
    assert session_of(database_url) != first


def test_the_next_block_has_the_session_of_the_one_before(database_url):
    with keeping_connections():
        first = session_of(database_url)
        assert session_of(database_url) == first
        with connect(database_url) as connection:
            assert session(connection) == first
            # The kept one is in use.
            assert session_of(database_url) != first
    with psycopg.connect(database_url) as watching:
        assert one(watching, SESSIONS) == 0


def test_a_load_has_no_session_that_was_none_of_a_load(database_url):
    """To triggers of the target, a setting that was reset is not one that never was."""
    with keeping_connections():
        reading, loading = session_of(database_url), session_of(database_url, loads="pad")
        assert reading != loading
        assert session_of(database_url, loads="pad") == loading
        assert session_of(database_url, loads="crm") not in (reading, loading)
        with connect(database_url) as connection:
            assert one(connection, "SELECT current_setting('pad.loading', true)") is None


def test_nothing_of_a_session_is_left(database_url):
    with keeping_connections():
        with connect(database_url) as connection:
            fresh = connection.execute("SELECT name, setting FROM pg_settings ORDER BY name").fetchall()
        with connect(database_url) as connection:
            first = session(connection)
            connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            connection.execute("SET statement_timeout = '1ms'")
            connection.execute("SET search_path = pg_catalog")
            connection.execute("SET timezone = 'Asia/Tokyo'")
        with connect(database_url) as connection:
            connection.execute("CREATE TEMPORARY TABLE staged AS SELECT 1 AS one")
            connection.execute("SELECT pg_advisory_lock(7)")
            connection.execute("DECLARE held CURSOR WITH HOLD FOR SELECT 1")
            connection.execute("LISTEN somebody")
        with connect(database_url) as connection:
            assert session(connection) == first
            assert connection.execute("SELECT name, setting FROM pg_settings ORDER BY name").fetchall() == fresh
            assert one(connection, "SELECT to_regclass('pg_temp.staged')") is None
            assert one(connection, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
            assert one(connection, "SELECT count(*) FROM pg_cursors") == 0
            assert one(connection, "SELECT count(*) FROM pg_listening_channels()") == 0


def test_statements_that_psycopg_prepared_are_prepared_again(database_url):
    """Of psycopg: it forgets them when a transaction is rolled back; the server has discarded them."""
    with keeping_connections():
        for _ in range(4):
            with connect(database_url) as connection:
                numbers = [connection.execute("SELECT %s + 1", [each]).fetchone() for each in range(8)]
                assert numbers == [(each + 1,) for each in range(8)]
                assert one(connection, "SELECT count(*) FROM pg_prepared_statements") != 0
            with connect(database_url) as connection:
                assert one(connection, "SELECT count(*) FROM pg_prepared_statements") == 0


def test_a_session_in_which_something_failed_is_not_kept(database_url):
    with keeping_connections():
        with pytest.raises(psycopg.errors.DivisionByZero), connect(database_url) as connection:
            connection.execute("SELECT 1 / 0")
        assert connection.closed
        with connect(database_url) as connection:
            connection.execute("BEGIN")
        assert connection.closed


def test_a_session_that_the_server_ended_is_made_anew(database_url):
    with keeping_connections():
        first = session_of(database_url)
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
        assert session_of(database_url) != first
        # One that ends while it is in use is told as ever, and is not kept.
        with psycopg.connect(database_url, autocommit=True) as other, connect(database_url) as connection:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [session(connection)])
        assert connection.closed


def test_a_server_that_is_gone_is_told_as_without_a_kept_connection(postgres_server):
    url = postgres_server.create_database("soon_gone")
    with keeping_connections():
        session_of(url)
        postgres_server.drop_database("soon_gone")
        with pytest.raises(LoadError, match="cannot be reached"):
            connect(url)


def test_one_that_was_idle_for_long_is_not_used_again(database_url, monkeypatch):
    """A firewall may have forgotten it: the first statement over it would wait for minutes."""
    with keeping_connections():
        first = session_of(database_url)
        monkeypatch.setattr(kept, "IDLE_SECONDS", -1.0)
        assert session_of(database_url) != first


def test_a_fork_leaves_the_connections_of_its_parent_alone(database_url):
    with keeping_connections():
        first = session_of(database_url)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with keeping_connections():
                    apart = kept.idle_connection((database_url, None)) is None
                status = 0 if apart else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert session_of(database_url) == first
