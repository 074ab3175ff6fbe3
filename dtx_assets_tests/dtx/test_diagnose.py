"""The preflight: each line, with something that is really broken."""

import json
import shutil
from collections import namedtuple
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy.engine import make_url

from dtx_assets.dtx.system import SYSTEM, load_other_areas
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.run.diagnose import diagnose
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.preflight.program import packages

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
        (f"ALTER TABLE {TEMPLATE} ADD CONSTRAINT nothing_empty CHECK (subject <> '')", "warn", "check nothing_empty"),
        (f"CREATE UNIQUE INDEX once_ci ON {TEMPLATE} (lower(subject))", "warn", "unique index once_ci"),
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


def test_how_the_csv_files_are_written(look, tmp_path):
    assert any(line.endswith("RFC 4180") for line in those(look(), "yes", "source"))
    (tmp_path / "dialect.yaml").write_text('escape: "\\\\"\n')
    told = those(look(DTX_LEGACY_DIALECT=str(tmp_path / "dialect.yaml")), "yes", "source")
    assert any(r"escape '\\'" in line for line in told), told


def test_clocks_that_differ(look):
    late = look(now=lambda: datetime.now(UTC) - timedelta(minutes=5))
    assert any("ahead of" in line for line in those(late, "no", "target"))


def test_packages_of_another_version():
    assert packages(["psycopg>=99", "no-such-package-at-all"]).state == "no"


def test_rights_that_are_missing_are_named_table_by_table(look, database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"CREATE ROLE {name}_reader LOGIN PASSWORD 'reader'")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}_reader")
        connection.execute(f"GRANT INSERT, UPDATE ON {SCHEDULE} TO {name}_reader")
        connection.execute(f"REVOKE SELECT ON docutrax_users_user FROM {name}_reader")
    url = psycopg.conninfo.make_conninfo(database_url)
    parts = psycopg.conninfo.conninfo_to_dict(url)
    try:
        found = look(
            DTX_TARGET_URL=f"postgresql://{name}_reader:reader@127.0.0.1:{parts.get('port', 5432)}/{name}"
            if parts.get("host", "").startswith("127")
            else database_url.replace("postgres@", f"{name}_reader:reader@")
        )
        wrong = {each.subject: each.says for each in found if each.state == "no" and each.part == "target"}
        assert any(TEMPLATE in subject and "INSERT" in says for subject, says in wrong.items()), wrong
        assert any("docutrax_users_user" in subject and "SELECT" in says for subject, says in wrong.items()), wrong
        assert any("migration" in subject for subject in wrong), wrong
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {name}_reader")
            connection.execute(f"DROP ROLE {name}_reader")


def test_a_target_of_which_rows_are_hidden_is_named(look, database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        role = connection.info.dbname
        for statement in (
            f"CREATE ROLE {role} LOGIN PASSWORD 'role' IN ROLE pg_write_all_data, pg_read_all_data",
            f"ALTER TABLE {TEMPLATE} ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE docutrax_users_user ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE docutrax_users_user FORCE ROW LEVEL SECURITY",
            f"ALTER TABLE docutrax_users_user OWNER TO {role}",
        ):
            connection.execute(statement)
    url = make_url(database_url).set(username=role, password="role").render_as_string(hide_password=False)
    try:
        found = {each.subject: each for each in look(DTX_TARGET_URL=url) if "row-level security hides" in each.says}
        assert set(found) == {f"table {TEMPLATE} (EmailTemplate)", "table docutrax_users_user"}
        assert all(each.state == "no" and "BYPASSRLS" in each.remedy for each in found.values())
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


def test_crosswalks_that_miss_some_ids_or_all(look, export):
    accounts = (export / "crosswalk_account.csv").read_bytes().splitlines(keepends=True)
    (export / "crosswalk_account.csv").write_bytes(b"".join(accounts[:9]))
    (export / "crosswalk_user.csv").write_bytes((export / "crosswalk_user.csv").read_bytes().splitlines(True)[0])
    findings = look(DTX_LEGACY_URL=str(export))
    assert any("letter.customer_id" in line for line in those(findings, "warn", "areas"))
    assert any("user" in line for line in those(findings, "no", "areas"))


def test_a_disk_that_is_full(look, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(1 << 40, 1 << 40, 1 << 20))
    assert any("disk" in line for line in those(look(), "no", "places"))


def test_the_command_says_the_same_as_json_and_by_its_exit_code(dtx, target):
    sound = dtx("diagnose", "--json")
    assert sound.returncode == 0, sound.stderr
    said = json.loads(sound.stdout)
    assert said["ready"]
    assert {finding["state"] for finding in said["findings"]} <= {"yes", "warn"}
    with psycopg.connect(target) as connection:
        connection.execute(f"DROP TABLE {TEMPLATE}")
    broken = dtx("diagnose")
    assert broken.returncode == 1
    assert "missing table" in broken.stdout


def test_production_asks_before_a_cutover(dtx, target):
    (dtx.directory / ".env.prod").touch()
    refused = dtx("run", "--mode", "cutover", APP_ENV="prod")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    with psycopg.connect(target) as connection:
        assert connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'migration'").fetchone() == (0,)
    gone_on = dtx("run", "--mode", "cutover", "--yes", "--select", "legacy/letter", APP_ENV="prod")
    assert gone_on.returncode in (0, 3), gone_on.stdout


@pytest.mark.parametrize(("typed", "goes_on"), [("dtx2", True), ("dtx", False), ("", False)])
def test_the_name_of_the_database_has_to_be_typed(monkeypatch, tmp_path, typed, goes_on):
    from dtx_assets.cli import migrating
    from dtx_assets.machinery.base.errors import ConfigurationError
    from dtx_assets.machinery.base.settings import Settings

    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env.production").touch()
    monkeypatch.setenv("APP_ENV", "production")
    monkeypatch.setenv("DTX_TARGET_URL", "postgresql://me@host/dtx2")
    monkeypatch.setenv("DTX_MODE", "cutover")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda *_args, **_options: typed)
    settings = Settings.from_environment("dtx", sample_dir=SYSTEM.sample_dir)
    if goes_on:
        migrating.confirm_cutover(settings, yes=False)
    else:
        with pytest.raises(ConfigurationError, match="nothing was started"):
            migrating.confirm_cutover(settings, yes=False)
