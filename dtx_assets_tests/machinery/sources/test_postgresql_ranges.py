"""Large tables of PostgreSQL in ranges of their pages, over several connections: what one gives, and in its order."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import psycopg
import pytest
from sqlalchemy.engine import make_url

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.dagster.extraction import opened_source
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.sources import open_source, postgresql
from dtx_assets.machinery.sources.csv_dialect import EVERY_RFC_4180
from dtx_assets_tests.patience import PATIENCE
from dtx_assets_tests.sessions import other_sessions, wait_until_alone

ROWS = 20_000
WAITING = """
SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE NOT granted AND datname = current_database()
"""


@pytest.fixture
def server(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """With a table of some thirty ranges, updated and deleted in part, and with values outside its pages."""
    monkeypatch.setattr(postgresql, "RANGE_PAGES", 10)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int, v text)")
        connection.execute(f"INSERT INTO t SELECT i, repeat('x', i % 200) FROM generate_series(1, {ROWS}) i")
        connection.execute("DELETE FROM t WHERE id BETWEEN 3000 AND 7000")
        connection.execute("UPDATE t SET v = 'again' WHERE id % 50 = 0")
        connection.execute("ALTER TABLE t ALTER v SET STORAGE EXTERNAL")
        connection.execute("INSERT INTO t SELECT -i, repeat(i::text, 30000) FROM generate_series(1, 5) i")
        yield connection


@pytest.fixture
def as_stored(server: psycopg.Connection) -> list[tuple[str, str]]:
    server.execute("SET synchronize_seqscans = off")
    server.execute("SET max_parallel_workers_per_gather = 0")
    return server.execute("SELECT id::text, v FROM t").fetchall()


@dataclass(frozen=True)
class Role:
    name: str
    url: str


@pytest.fixture
def a_role(server: psycopg.Connection, database_url: str) -> Iterator[Role]:
    name = f"reader_{make_url(database_url).database}"
    server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 's3cret'".encode())
    yield Role(name, make_url(database_url).set(username=name, password="s3cret").render_as_string(hide_password=False))
    server.execute(f"DROP OWNED BY {name}".encode())
    server.execute(f"DROP ROLE {name}".encode())


def test_rows_order_and_digest_are_those_of_one_connection(server, as_stored, database_url, place):
    alone = place.land(database_url, "t").metadata
    assert alone["row_count_matches"] is True
    assert place.rows("t") == as_stored
    assert place.frame("t")["_row"].to_list() == list(range(1, len(as_stored) + 1))
    for connections in (2, 5):
        # Nothing changed: the landing that is there stays.
        at_once = place.land(database_url, "t", connections=connections)
        assert at_once.metadata == alone
    server.execute("UPDATE t SET v = 'changed' WHERE id = 1")
    assert place.land(database_url, "t", connections=2).metadata["content_digest"] != alone["content_digest"]
    again = server.execute("SELECT id::text, v FROM t").fetchall()
    assert place.rows("t") == again


def test_a_run_reads_over_as_many_connections_as_it_is_told(server, as_stored, database_url, place, tmp_path):
    variables = {"TOY_LEGACY_URL": database_url, "TOY_EXTRACT_CONNECTIONS": "3", "TOY_HOME": str(tmp_path)}
    settings = Settings.from_environment("toy", environ=variables, sample_dir=tmp_path)
    environment = SimpleNamespace(settings=settings, s3=None, dialects_of=lambda _url: EVERY_RFC_4180)
    with opened_source(cast("RunEnvironment", environment), settings.legacy_url) as source:
        place.land_from(source, "t")
        assert other_sessions(server) == 3
    assert place.rows("t") == as_stored


def test_all_connections_see_the_snapshot_of_the_first(server, as_stored, database_url, place):
    server.execute("CREATE TABLE small (v int)")
    with open_source(database_url, connections=3) as source:
        source.tables()
        server.execute("DELETE FROM t")
        server.execute("INSERT INTO t SELECT 1, 'new' FROM generate_series(1, 50000)")
        place.land_from(source, "small")
        assert other_sessions(server) == 1
        place.land_from(source, "t")
        assert other_sessions(server) == 3
    assert place.rows("t") == as_stored
    wait_until_alone(server)


def test_nobody_waits_in_a_circle_for_who_wants_to_change_the_table(server, as_stored, database_url, place):
    """The change waits for the first connection: another one would wait for the change, and the first for its rows."""
    with psycopg.connect(database_url, autocommit=True) as application, ThreadPoolExecutor(1) as pool:
        with open_source(database_url, connections=3) as source:
            place.land_from(source, LegacyTable("t", "area", ("id",), never_read=frozenset({"v"})))
            change = pool.submit(application.execute, "ALTER TABLE t ADD later int")
            while not server.execute(WAITING).fetchall():
                time.sleep(0.02)
            place.land_from(source, "t")
            assert not change.done()
        change.result(PATIENCE)
    assert place.rows("t") == as_stored


def test_an_account_that_may_read_some_columns_alone(server, as_stored, database_url, place, a_role):
    server.execute(f"GRANT SELECT (id) ON t TO {a_role.name}".encode())
    place.land(a_role.url, LegacyTable("t", "area", ("id",), never_read=frozenset({"v"})), connections=2)
    assert place.rows("t") == [(key,) for key, _ in as_stored]


def test_a_table_in_other_pages_too_is_read_whole(server, database_url, place):
    """Heirs and partitions are stored in their own; a view, and a table of another server, in none."""
    server.execute("CREATE TABLE heir () INHERITS (t)")
    server.execute("INSERT INTO heir SELECT i, 'heir' FROM generate_series(1, 5000) i")
    server.execute("CREATE TABLE parted (id int, v text) PARTITION BY RANGE (id)")
    server.execute("CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (0) TO (5000)")
    server.execute("CREATE TABLE part_2 PARTITION OF parted FOR VALUES FROM (5000) TO (10000)")
    server.execute("INSERT INTO parted SELECT i, repeat('v', 100) FROM generate_series(0, 9999) i")
    server.execute("CREATE VIEW seen AS SELECT * FROM t")
    server.execute("CREATE MATERIALIZED VIEW kept AS SELECT * FROM t")
    for name in ("t", "parted", "seen", "kept", "part_1"):
        landed = place.land(database_url, name, connections=3).metadata
        [(count,)] = server.execute(f"SELECT count(*) FROM {name}".encode()).fetchall()
        assert (landed["source_rows"], landed["row_count_matches"]) == (count, True)
        assert place.frame(name).height == count


def test_an_account_with_fewer_connections_reads_over_those(server, as_stored, database_url, place, a_role, caplog):
    server.execute(f"ALTER ROLE {a_role.name} CONNECTION LIMIT 2".encode())
    server.execute(f"GRANT SELECT ON t TO {a_role.name}".encode())
    place.land(a_role.url, "t", connections=4)
    assert place.rows("t") == as_stored
    assert "2 of 4 connections" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_connection_that_is_lost_is_told_of_the_table(server, database_url, place):
    def kill_another(_rows: int) -> None:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database() ORDER BY backend_start DESC LIMIT 1"
        )

    with open_source(database_url, connections=3) as source, pytest.raises(SourceError, match="does not give"):
        source.extract(LegacyTable("t", "area", ()), place.lake, ("toy", "legacy", "t"), "r", kill_another)
    assert place.is_untouched("t")
    wait_until_alone(server)
