"""A PostgreSQL behind a pooler, and one whose policies hide rows: refused, as source and as target, with a real pooler.

Why: in transaction mode settings, locks and temporary tables are another client's a moment later; and a filtered answer
looks like a whole one.
"""

from collections.abc import Iterator

import polars as pl
import psycopg
import pytest
from sqlalchemy.engine import make_url

from dtx_assets.machinery.base.errors import LoadError, SourceError, StructureError
from dtx_assets.machinery.look_ups.assets import read_target_rows
from dtx_assets.machinery.postgres.connection import connect, refusals_told


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pool_that_shares_sessions_is_refused(pooled_url, place, mode):
    url = pooled_url(mode)
    with pytest.raises(LoadError, match="transaction mode") as refused:
        connect(url)
    assert "pool_mode = session" in refused.value.remedy
    assert make_url(url).password not in str(refused.value)
    with pytest.raises(SourceError, match="transaction mode") as refused:
        place.land(url, "t")
    assert "pool_mode = session" in refused.value.remedy


def test_a_pool_of_sessions_is_used(pooled_url, database_url, place):
    with psycopg.connect(database_url) as server:
        server.execute("CREATE TABLE t AS SELECT 1 AS v")
    url = pooled_url("session")
    with connect(url) as connection, connection.transaction():
        assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)
    place.land(url, "t")
    assert place.rows("t") == [("1",)]


@pytest.fixture
def restricted(database_url: str) -> Iterator[str]:
    """The URL for an account that a policy shows one of three rows, in tables, partitions and views of every kind."""
    with psycopg.connect(database_url, autocommit=True) as server:
        role = server.info.dbname
        as_owner = make_url(database_url).set(username=role, password="s3cret")
        for statement in (
            f"CREATE ROLE {role} LOGIN PASSWORD 's3cret'",
            "CREATE TABLE hidden (id bigint, tenant text)",
            "INSERT INTO hidden VALUES (1, 'a'), (2, 'b'), (3, 'b')",
            "CREATE TABLE parts (id bigint, tenant text) PARTITION BY RANGE (id)",
            "CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9)",
            "INSERT INTO parts SELECT * FROM hidden",
            "CREATE VIEW as_invoker WITH (security_invoker) AS SELECT * FROM hidden",
            "CREATE VIEW as_owner AS SELECT * FROM hidden",
            "CREATE TABLE own AS SELECT * FROM hidden",
            "CREATE VIEW of_role AS SELECT * FROM hidden",
            "ALTER TABLE own FORCE ROW LEVEL SECURITY",
            f"ALTER TABLE own OWNER TO {role}",
            f"ALTER VIEW of_role OWNER TO {role}",
            *(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY" for name in ("hidden", "parts", "own")),
            *(f"CREATE POLICY p ON {name} USING (tenant = 'a')" for name in ("hidden", "parts", "own")),
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
        ):
            server.execute(statement.encode())
        yield as_owner.render_as_string(hide_password=False)
        server.execute(f"DROP OWNED BY {role}".encode())
        server.execute(f"DROP ROLE {role}".encode())


HIDING = ["hidden", "parts", "as_invoker", "own", "of_role"]


@pytest.mark.parametrize("table", HIDING)
def test_a_source_of_which_policies_hide_rows_is_refused(restricted, place, table):
    with pytest.raises(SourceError, match="row-level security hides rows of") as refused:
        place.land(restricted, table)
    assert table in refused.value.what
    assert "BYPASSRLS" in refused.value.remedy
    assert place.is_untouched(table)


def test_what_is_seen_whole_is_read(restricted, database_url, place):
    assert place.land(restricted, "as_owner").metadata["source_rows"] == 3
    assert place.land(restricted, "part").metadata["source_rows"] == 3
    # A superuser sees all, but not through the view of an account that does not.
    for table in HIDING[:-1]:
        assert place.land(database_url, table).metadata["source_rows"] == 3


@pytest.mark.parametrize("table", HIDING)
def test_a_target_of_which_policies_hide_rows_is_refused(restricted, table):
    with pytest.raises(StructureError) as unread:
        read_target_rows(restricted, table, {"id": pl.Int64()})
    assert "BYPASSRLS" in unread.value.remedy
    # Whatever reads the target does it by this connection.
    with (
        pytest.raises(LoadError, match="row-level security hides rows") as refused,
        refusals_told(),
        connect(restricted) as connection,
    ):
        connection.execute(f"SELECT count(*) FROM {table}".encode())
    assert "BYPASSRLS" in refused.value.remedy
