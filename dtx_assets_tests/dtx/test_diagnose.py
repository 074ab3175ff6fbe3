"""The preflight: each line, with something that is really broken."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from dtx_assets.dtx.sample import load_other_areas
from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.diagnose import diagnose, packages
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.run_environment import RunEnvironment

SCHEDULE, TEMPLATE = "docutrax_utils_notificationschedule", "docutrax_utils_emailtemplate"


@pytest.fixture
def look(tmp_path, monkeypatch, database_url):
    """Runs the preflight on a target with the rows of other areas; gives the findings by state and subject."""
    monkeypatch.chdir(tmp_path)
    with psycopg.connect(database_url) as connection:
        create_target(connection, SYSTEM.targets)
        load_other_areas(connection, SYSTEM.sample_dir / "target")

    def run(now=lambda: datetime.now(UTC), **variables):
        for name, value in {"DTX_TARGET_URL": database_url, **variables}.items():
            monkeypatch.setenv(name, value)
        with RunEnvironment(SYSTEM, "diagnose", datetime.now(UTC)) as environment:
            return diagnose(environment, now=now)

    return run


def those(findings, state, part=None):
    return {f"{each.subject}: {each.says}" for each in findings if each.state == state and part in (None, each.part)}


def test_a_sound_place_has_no_no_and_is_left_as_it_was(look, tmp_path):
    assert those(look(), "no") == set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("broken", "state", "said"),
    [
        (f"ALTER TABLE {TEMPLATE} DROP COLUMN subject", "no", "missing column"),
        (f"ALTER TABLE {TEMPLATE} ALTER is_active TYPE text", "no", "retyped column"),
        (f"ALTER TABLE {TEMPLATE} ADD surprise int NOT NULL", "no", "new required column"),
        (
            "DO $$ BEGIN EXECUTE (SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)"
            f" FROM pg_constraint WHERE conrelid = '{SCHEDULE}'::regclass AND contype = 'u'); END $$",
            "no",
            "missing unique index",
        ),
        (f"DROP TABLE {TEMPLATE}", "no", "missing table"),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            f"CREATE TRIGGER sends BEFORE INSERT ON {TEMPLATE} FOR EACH ROW EXECUTE FUNCTION f()",
            "warn",
            "sends",
        ),
        ("CREATE SCHEMA migration", "no", "not the bookkeeping"),
    ],
)
def test_a_target_that_is_not_as_it_should_be(look, database_url, broken, state, said):
    with psycopg.connect(database_url) as connection:
        connection.execute(broken)
    assert any(said in line for line in those(look(), state, "target"))


def test_a_target_that_cannot_be_written(look, database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert any("read-only" in line for line in those(look(), "no", "target"))


def test_a_wrong_source_a_closed_s3_server_and_a_file_in_the_way(look, tmp_path):
    (tmp_path / "file").touch()
    findings = look(
        DTX_LEGACY_URL=str(tmp_path / "nowhere"),
        DTX_CROSSWALK_URL=str(SYSTEM.sample_dir),
        DTX_LAKE_URL=str(tmp_path / "file"),
        DTX_OBJECT_STORE_URL="s3://bucket/x",
        AWS_ENDPOINT_URL="http://127.0.0.1:9",
        AWS_ACCESS_KEY_ID="k",
        AWS_SECRET_ACCESS_KEY="s",
    )
    assert {each.subject for each in findings if each.state == "no"} == {"connection", "lake", "object store"}


def test_clocks_that_differ(look):
    late = look(now=lambda: datetime.now(UTC) - timedelta(minutes=5))
    assert any("ahead of" in line for line in those(late, "no", "target"))


def test_packages_of_another_version():
    assert packages(["psycopg>=99", "no-such-package-at-all"]).state == "no"
