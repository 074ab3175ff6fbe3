"""The preflight of a target: what a load would be refused in the middle of is named before."""

import psycopg
from sqlalchemy.engine import make_url

from dtx_assets.machinery.base.exit_codes import EXIT_OK
from dtx_assets_tests.machinery.dagster.shops import Shops

STORES = [(1, 11, "a")]
STAFF = [(11, 1, "A")]


def test_the_right_to_raise_a_sequence_above_kept_ids_is_looked_for(tmp_path, database_url, monkeypatch):
    shops = Shops(tmp_path, database_url, monkeypatch)
    shops.write(STORES, STAFF)
    with psycopg.connect(database_url, autocommit=True) as connection:
        role = connection.info.dbname
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'role' IN ROLE pg_read_all_data")
        connection.execute(f"GRANT CREATE ON DATABASE {role} TO {role}")
        connection.execute(f"GRANT INSERT, UPDATE ON store, staff TO {role}")
        connection.execute(f"GRANT USAGE ON SEQUENCE store_id_seq TO {role}")
    url = make_url(database_url).set(username=role, password="role").render_as_string(hide_password=False)
    monkeypatch.setenv("SHOPS_TARGET_URL", url)
    try:
        [failure] = shops.run("shops_diagnose").failures
        assert "lacks UPDATE ON SEQUENCE public.store_id_seq" in failure.message
        assert "table staff" not in failure.message
        shops.sql(f"GRANT UPDATE ON SEQUENCE store_id_seq TO {role}")
        found = shops.run("shops_diagnose")
        assert not any("SEQUENCE" in failure.message for failure in found.failures)
        done = shops.run()
        assert done.exit_code == EXIT_OK, done.failures
        assert shops.sql("INSERT INTO store (manager_id, name) VALUES (11, 'next') RETURNING id") == [(2,)]
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")
