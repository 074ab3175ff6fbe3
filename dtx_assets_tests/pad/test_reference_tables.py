"""The tables of others stay as they are, whatever their own jobs do to them while a run goes on; and it is seen if not.

One database, two runs: one beside somebody else's sync, and one in which a trigger of the target writes such a table.
"""

from threading import Event, Thread

import psycopg
import pytest

from dtx_assets.machinery.postgres.untouched import touched_by_runs
from dtx_assets.pad.decided_system import SYSTEM
from dtx_assets_tests.pad.place import make_target, pad, query, request, write_csv

ROWS = [request(number) for number in range(1, 6)]
WRITES_TABLES_OF_OTHERS = """
CREATE FUNCTION padealing.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO bo_airflow.currency VALUES ('XTS') ON CONFLICT DO NOTHING;
    UPDATE bo_airflow.oracle_bloomberg SET ticker = 'TAKEN' WHERE id = 2;
    EXECUTE 'ALTER TABLE bo_airflow.contact ADD COLUMN IF NOT EXISTS meddled text';
    DELETE FROM bo_airflow.oracle_position;
    TRUNCATE bo_airflow.contact_type;
    RETURN NULL;
END $$;
CREATE TRIGGER meddle AFTER INSERT ON padealing.pad_request FOR EACH ROW EXECUTE FUNCTION padealing.meddle();
"""


WRITES_IN_AN_UNDO = """
CREATE FUNCTION padealing.meddle_again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    DELETE FROM bo_airflow.contact_group;
    RETURN NULL;
END $$;
CREATE TRIGGER meddle_again AFTER DELETE ON padealing.pad_request FOR EACH ROW
    EXECUTE FUNCTION padealing.meddle_again();
"""


def synchronise(url: str, until: Event) -> None:
    """What the owner of the reference tables does all day: rows come, change and go, columns are added."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE bo_airflow.oracle_employee ADD COLUMN synced timestamptz")
        number = 1_000
        while not until.wait(0.01):
            number += 1
            connection.execute("INSERT INTO bo_airflow.oracle_employee (id, mako_id) VALUES (%s, 'new')", [number])
            connection.execute("UPDATE bo_airflow.oracle_employee SET synced = now() WHERE id < 10")
            connection.execute("DELETE FROM bo_airflow.oracle_employee WHERE id = %s", [number])


@pytest.fixture
def run_beside_a_sync(database_url, tmp_path) -> tuple[str, str]:
    make_target(database_url, tmp_path)
    dtx = pad(tmp_path, database_url, write_csv(tmp_path / "csv", ROWS))
    until = Event()
    sync = Thread(target=synchronise, args=(database_url, until))
    sync.start()
    try:
        done = dtx("run", "pad")
    finally:
        until.set()
        sync.join()
    return database_url, done.stdout + done.stderr


def test_others_sync_is_not_taken_for_ours_and_what_a_load_does_to_their_tables_is_seen(run_beside_a_sync, tmp_path):
    url, told = run_beside_a_sync
    assert query(url, "SELECT count(*) FROM padealing.pad_request") == [(5,)], told
    assert query(url, "SELECT bool_and(synced IS NOT NULL) FROM bo_airflow.oracle_employee") == [(True,)]
    with psycopg.connect(url) as connection:
        found = touched_by_runs(connection, "pad", SYSTEM.tables_of_others)
        assert len(found) == 7
        assert set(map(tuple, (counts.values() for counts in found.values()))) == {(0, 0, 0)}
        connection.execute(WRITES_TABLES_OF_OTHERS)
        for name in ("oracle_position", "contact_type", "contact_group"):
            connection.execute(f"INSERT INTO bo_airflow.{name} VALUES (1), (2)")
    changed = request(2, last_modified_date="2031-01-01 00:00:00")
    write_csv(tmp_path / "csv", [*(row for row in ROWS if row["id"] != "2"), changed, request(6)])
    told = pad(tmp_path, url, tmp_path / "csv")("run", "pad", "--all").stdout
    assert "reference_tables_are_untouched" in told
    assert "no_row_changed_since" in told
    with psycopg.connect(url) as connection:
        # What others write over is no longer marked as ours, and what is deleted leaves no mark.
        connection.execute("UPDATE bo_airflow.currency SET currency = currency WHERE currency = 'XTS'")
        connection.execute("ALTER TABLE bo_airflow.contact_type ADD COLUMN synced text")
        connection.commit()
        found = touched_by_runs(connection, "pad", SYSTEM.tables_of_others)
        assert {name: counts for name, counts in found.items() if any(counts.values())} == {
            "currency": {"rows": 1, "definitions": 0, "locks": 0},
            "oracle_bloomberg": {"rows": 1, "definitions": 0, "locks": 0},
            "oracle_position": {"rows": 2, "definitions": 0, "locks": 0},
            "contact": {"rows": 0, "definitions": found["contact"]["definitions"], "locks": 1},
            "contact_type": {"rows": 0, "definitions": 0, "locks": found["contact_type"]["locks"]},
        }
        assert found["contact"]["definitions"]
        assert found["contact_type"]["locks"]
        connection.execute(WRITES_IN_AN_UNDO)
    undone = pad(tmp_path, url, tmp_path / "csv")("rollback", "last", "--system", "pad")
    assert "pad_request 6: undoing it would change rows of bo_airflow.contact_group too" in undone.stdout
    assert query(url, "SELECT count(*) FROM bo_airflow.contact_group") == [(2,)]
