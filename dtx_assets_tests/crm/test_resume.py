"""A load of CRM that is interrupted between the parts of a junction goes on where it was, as section 6 of its contract
says; pairs that the target refuses, in several parts, are told, and come when it takes them."""

import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import bson
import psycopg
import pytest
from bson import ObjectId

from dtx_assets import interrupts
from dtx_assets.crm.decided_system import SYSTEM
from dtx_assets_tests.crm.compare import write_form
from dtx_assets_tests.crm.second_reading_facts import FACTS
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.patience import PATIENCE

USERS, ACCOUNTS = 8, 96
GATE = 4711
"""The advisory lock that the application holds."""
PAIRS = 'SELECT count(*) FROM "AccountWatchers"'
WRITTEN = (
    "SELECT coalesce(sum(rows_inserted + rows_updated), 0) FROM migration.batch"
    " JOIN migration.load ON load.id = load_id"
    " WHERE run_id = (SELECT run_id FROM migration.run ORDER BY started_at DESC LIMIT 1)"
)
GUARD = f"""
CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM "AccountWatchers") >= 60 THEN
        PERFORM pg_advisory_xact_lock_shared({GATE});
    END IF;
    IF (SELECT email FROM "Users" WHERE id = NEW.user_id) = 'user.5@example.com' THEN
        RAISE EXCEPTION 'nobody watches for them' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON "AccountWatchers" FOR EACH ROW EXECUTE FUNCTION guard();
"""


def identifier(kind: int, number: int) -> ObjectId:
    return ObjectId(f"{kind:04x}{number:020x}")


def documents() -> dict[str, list[bytes]]:
    users = [
        {
            "_id": identifier(1, number),
            "__v": 0,
            "email": f"user.{number}@example.com",
            "name": f"User {number}",
            "created_on": datetime(2024, 1, 1, tzinfo=UTC),
            "is_account_admin": False,
            "is_admin": False,
            "userStatus": "ACTIVE",
            "userLanguage": "en",
        }
        for number in range(USERS)
    ]
    accounts = [
        {
            "_id": identifier(3, number),
            "__v": 0,
            "name": f"Account {number}",
            "createdAt": datetime(2024, 1, 1, tzinfo=UTC),
            "updatedAt": datetime(2024, 1, 2, tzinfo=UTC),
            "watchers": [identifier(1, (number + each) % USERS) for each in range(2)],
        }
        for number in range(ACCOUNTS)
    ]
    made = {name: [] for name in FACTS.collections}
    return made | {"Users": list(map(bson.encode, users)), "crm_Accounts": list(map(bson.encode, accounts))}


@pytest.fixture
def crm(tmp_path: Path, database_url: str) -> Command:
    with psycopg.connect(database_url) as connection:
        connection.execute((SYSTEM.mappings_dir / "target.sql").read_bytes())
        connection.execute(GUARD.encode())
    places = {
        "LEGACY_URL": str(write_form(tmp_path, "dump", documents())),
        "TARGET_URL": database_url,
        "BATCH_ROWS": "16",
        **{name: str(tmp_path / name.lower()) for name in ("HOME", "LAKE_URL", "ARCHIVE_URL")},
    }
    return Command(tmp_path, {f"CRM_{name}": value for name, value in places.items()})


def test_an_interrupted_junction_goes_on_and_refused_pairs_come_when_they_are_taken(crm, database_url):
    command = ["run", "crm", "--select", "+target/AccountWatchers"]
    with psycopg.connect(database_url, autocommit=True) as application:

        def number(query: str) -> int:
            [[found]] = application.execute(query.encode()).fetchall()
            return int(found)

        application.execute("SELECT pg_advisory_lock(%s)", [GATE])
        process = crm.started(*command)
        until = time.monotonic() + PATIENCE
        while not number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            assert process.poll() is None, (number(PAIRS), "".join(process.communicate()[0]))
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
        application.execute("SELECT pg_advisory_unlock(%s)", [GATE])
        assert process.returncode == interrupts.EXIT_INTERRUPTED, said
        assert interrupts.ALL_IS_WELL in said
        assert "Traceback" not in said
        there = number(PAIRS)
        assert 0 < there < 2 * ACCOUNTS * 7 // 8

        again = crm(*command)
        assert again.returncode == 3, again.stdout + again.stderr
        refused = 2 * ACCOUNTS // USERS
        assert number(PAIRS) == 2 * ACCOUNTS - refused
        assert number(WRITTEN) == 2 * ACCOUNTS - refused - there
        # Each by name, as a part of its document; the other pair of the document is in.
        unwelcome = identifier(1, 5)
        listed = application.execute(
            "SELECT DISTINCT partial, reasons[1], split_part(detail, ':', 1), source_key FROM migration.rejected"
            " WHERE target_table = 'AccountWatchers'"
        ).fetchall()
        assert len(listed) == refused
        assert {entry[:3] for entry in listed} == {(True, "schema_violation", str(unwelcome))}

        application.execute('DROP TRIGGER guard ON "AccountWatchers"')
        last = crm(*command)
        assert last.returncode == 3, last.stdout + last.stderr
        assert number(PAIRS) == 2 * ACCOUNTS
        assert number(WRITTEN) == refused
        assert number("SELECT count(*) FROM migration.rejected WHERE target_table = 'AccountWatchers'") == 0
