"""The schema `compat` is made, kept and refused; what its views say is tested where the system is."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import psycopg
import pytest

from dtx_assets.dispatch.decided_system import SYSTEM
from dtx_assets.machinery.base.errors import ConfigurationError, LoadError
from dtx_assets.machinery.load.legacy_views import missing, prepare_legacy_views, there
from dtx_assets.machinery.run.preflight.legacy_views import legacy_view_findings
from dtx_assets.pad.decided_system import SYSTEM as WITHOUT_VIEWS

OIDS = "SELECT relname, oid FROM pg_class WHERE relnamespace = to_regnamespace('compat')::oid"


@pytest.fixture
def target(database_url):
    """The empty tables of Dispatch."""
    assert SYSTEM.target_sql is not None
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(SYSTEM.target_sql.read_bytes())
        yield connection


def finding(connection):
    [found] = legacy_view_findings(SimpleNamespace(system=SYSTEM), connection)
    return found.state, found.says


def test_views_are_made_once(target, database_url):
    assert finding(target) == ("yes", "is made by the first run")
    prepare_legacy_views(database_url, SYSTEM)
    made = dict(target.execute(OIDS).fetchall())
    assert len(made) == 13
    assert finding(target) == ("yes", "13 views")
    types = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'legacy_id'"
    assert dict(target.execute(types).fetchall()) == {
        "legacy_table": "text",
        "legacy_id": "bigint",
        "target_table": "text",
        "target_id": "uuid",
    }
    prepare_legacy_views(database_url, SYSTEM)
    assert dict(target.execute(OIDS).fetchall()) == made


def test_a_system_that_declares_none_has_none(target, database_url):
    prepare_legacy_views(database_url, WITHOUT_VIEWS)
    assert there(target) == {}
    assert list(legacy_view_findings(SimpleNamespace(system=WITHOUT_VIEWS), target)) == []
    assert target.execute("SELECT to_regnamespace('compat')").fetchone() == (None,)


def test_a_view_whose_table_is_not_there_is_made_when_it_is(target, database_url):
    target.execute("ALTER TABLE workflow_tasks RENAME TO later")
    prepare_legacy_views(database_url, SYSTEM)
    assert missing(target, SYSTEM) == ["dispatch_template"]
    assert finding(target) == ("warn", "lacks dispatch_template")
    target.execute("ALTER TABLE later RENAME TO workflow_tasks")
    prepare_legacy_views(database_url, SYSTEM)
    assert missing(target, SYSTEM) == []


def folder(tmp_path, **files):
    (tmp_path / "compat").mkdir(exist_ok=True)
    for name, query in files.items():
        (tmp_path / "compat" / f"{name}.sql").write_text(query)
    return replace(SYSTEM, mappings_dir=tmp_path)


def test_only_what_is_declared_otherwise_is_made_anew(target, database_url, tmp_path):
    offices = "SELECT legacy_office_id AS id FROM offices"
    prepare_legacy_views(database_url, folder(tmp_path, dispatch_office=offices, auth_group="SELECT 1 AS id"))
    before = dict(target.execute(OIDS).fetchall())
    (tmp_path / "compat" / "auth_group.sql").unlink()
    changed = folder(tmp_path, dispatch_office=f"{offices} WHERE is_active", auth_user="SELECT '%s {}' AS id")
    prepare_legacy_views(database_url, changed)
    after = dict(target.execute(OIDS).fetchall())
    assert set(after) == {"legacy_id", "dispatch_office", "auth_user"}
    assert after["legacy_id"] == before["legacy_id"]
    assert after["dispatch_office"] != before["dispatch_office"]
    assert target.execute("SELECT id FROM compat.auth_user").fetchall() == [("%s {}",)]


def test_a_view_that_others_build_on_stays_and_is_named(target, database_url, tmp_path):
    prepare_legacy_views(database_url, folder(tmp_path, dispatch_office="SELECT 1 AS id"))
    target.execute("CREATE VIEW report AS SELECT * FROM compat.dispatch_office")
    changed = folder(tmp_path, dispatch_office="SELECT 2 AS id", auth_user="SELECT 1 AS id")
    with pytest.raises(LoadError, match="view dispatch_office cannot be made anew: view report depends on"):
        prepare_legacy_views(database_url, changed)
    assert set(there(target)) == {"legacy_id", "dispatch_office"}


def test_a_file_called_as_no_table_is_refused(database_url, tmp_path):
    with pytest.raises(ConfigurationError, match="no legacy table 'dispatch_offices'"):
        prepare_legacy_views(database_url, folder(tmp_path, dispatch_offices="SELECT 1 AS id"))


@pytest.mark.parametrize(
    ("before", "says"),
    [
        ("CREATE SCHEMA compat; CREATE TABLE compat.theirs (id int)", "has theirs, not made by dispatch"),
        ("CREATE SCHEMA compat; CREATE VIEW compat.auth_user AS SELECT 1", "has auth_user, not made by dispatch"),
    ],
)
def test_a_schema_of_somebody_else_is_left_alone(target, database_url, before, says):
    target.execute(before)
    found = there(target)
    state, said = finding(target)
    assert (state, says in said) == ("no", True)
    with pytest.raises(LoadError, match=says):
        prepare_legacy_views(database_url, SYSTEM)
    assert there(target) == found


def test_who_may_not_make_them_is_told(target):
    role = f"reader_{datetime.now(UTC):%H%M%S%f}"
    target.execute(f"CREATE ROLE {role}; SET ROLE {role}")
    assert finding(target) == ("no", "the schema compat is not there, and this user may not create it")
    target.execute(f"RESET ROLE; CREATE SCHEMA compat; GRANT USAGE ON SCHEMA compat TO {role}; SET ROLE {role}")
    assert finding(target) == ("no", "this user may make no views in the schema compat")
    target.execute(f"RESET ROLE; GRANT CREATE ON SCHEMA compat TO {role}; SET ROLE {role}")
    assert finding(target) == ("yes", "is made by the first run")
    target.execute(f"RESET ROLE; DROP SCHEMA compat; DROP ROLE {role}")
