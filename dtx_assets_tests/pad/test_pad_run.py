"""The commands of the plan, on tables in schemas and in every kind of source."""

import json
from dataclasses import replace

import psycopg
import pytest

from dtx_assets.machinery.base.settings import Schemas
from dtx_assets.machinery.declare.folder import in_schemas
from dtx_assets.pad.decided_system import SYSTEM
from dtx_assets_tests.pad.place import (
    COLUMNS,
    TARGETS,
    contents,
    make_target,
    pad,
    put_into_postgres,
    query,
    request,
    write_csv,
)

CHECKS_FAILED = 3
ROWS = [
    request(7),
    request(" 3.0 ", comments_manager="", security_description=""),
    request(4, auth_compliance="99"),
    request(5, auth_manager=None, auth_compliance=None, status="request", status_manager=None, status_compliance=None),
    request(6, employee="77"),
]


def in_one_schema(name):
    return replace(SYSTEM, targets=in_schemas(SYSTEM.targets, Schemas(target=name, reference=name)))


def test_source_and_target_may_be_one_schema_and_reference_tables_are_only_read(database_url, tmp_path):
    make_target(database_url, tmp_path, in_one_schema("app"))
    put_into_postgres(database_url, "app", ROWS)
    with psycopg.connect(database_url, autocommit=True) as connection:
        user = "migrating_" + database_url.rpartition("/")[2][-8:]
        connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'secret'")
        connection.execute(f"GRANT USAGE ON SCHEMA app TO {user}; GRANT SELECT ON ALL TABLES IN SCHEMA app TO {user}")
        for table in TARGETS:
            connection.execute(f"GRANT INSERT, UPDATE, DELETE ON app.{table} TO {user}")
        connection.execute(f"GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA app TO {user}")
        connection.execute(f"GRANT CREATE ON DATABASE {connection.info.dbname} TO {user}")
    server = database_url.rpartition("@")[2]
    url = f"postgresql://{user}:secret@{server}"
    dtx = pad(tmp_path, url, url, LEGACY_SCHEMA="app", TARGET_SCHEMA="app", REFERENCE_SCHEMA="app")
    diagnosed = dtx("diagnose", "pad")
    assert diagnosed.returncode == 0, diagnosed.stdout + diagnosed.stderr
    assert "no more than SELECT" in diagnosed.stdout
    done = dtx("run", "pad")
    assert done.returncode == CHECKS_FAILED, done.stdout + done.stderr
    assert [row[0] for row in contents(database_url, "app")["pad_request"]] == ["3", "4", "5", "7"]
    assert {row[0] for row in query(database_url, "SELECT DISTINCT target_table FROM migration.mapping")} == {*TARGETS}
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {user}; DROP ROLE {user}")


@pytest.fixture
def target(database_url, tmp_path):
    make_target(database_url, tmp_path)
    return database_url


def test_csv_postgres_mariadb_and_sqlite_give_the_same_rows(target, tmp_path, empty_mariadb_url):
    import sqlite3

    import pymysql
    from sqlalchemy import make_url

    dtx = pad(tmp_path, target, write_csv(tmp_path / "csv", ROWS))
    assert dtx("run", "pad").returncode == CHECKS_FAILED
    from_csv = contents(target)
    assert len(from_csv["audit_log"]) == 3 + 3 + 2 + 1
    marks = ", ".join("?" for _ in COLUMNS)
    values = [[row[name] for name in COLUMNS] for row in ROWS]
    with sqlite3.connect(tmp_path / "legacy.sqlite") as connection:
        connection.execute(f"CREATE TABLE personal_account_dealing ({', '.join(f'{name} text' for name in COLUMNS)})")
        connection.executemany(f"INSERT INTO personal_account_dealing VALUES ({marks})", values)
    at = make_url(empty_mariadb_url)
    with (
        pymysql.connect(
            host=at.host, port=at.port, user=at.username, password=at.password or "", database=at.database
        ) as connection,
        connection.cursor() as cursor,  # type: ignore[attr-defined]
    ):
        cursor.execute(f"CREATE TABLE personal_account_dealing ({', '.join(f'`{name}` text' for name in COLUMNS)})")
        cursor.executemany(
            f"INSERT INTO personal_account_dealing VALUES ({marks.replace('?', '%s')})", [tuple(row) for row in values]
        )
        connection.commit()
    put_into_postgres(target, "old", ROWS)
    sources = {
        "sqlite": {"LEGACY_URL": f"sqlite:///{tmp_path / 'legacy.sqlite'}"},
        "mariadb": {"LEGACY_URL": empty_mariadb_url},
        "postgres": {"LEGACY_URL": target, "LEGACY_SCHEMA": "old"},
    }
    for name, settings in sources.items():
        again = pad(tmp_path, target, "", **settings)("run", "pad")
        assert again.returncode == CHECKS_FAILED, f"{name}: {again.stdout}{again.stderr}"
        assert contents(target) == from_csv, name
        written = "SELECT count(*) FROM migration.batch JOIN migration.load ON load.id = load_id WHERE run_id = %s"
        run = query(target, "SELECT run_id FROM migration.run ORDER BY started_at DESC LIMIT 1")[0][0]
        assert query(target, f"{written} AND rows_inserted + rows_updated > 0", run) == [(0,)], name


def test_the_first_rows_are_the_same_for_all_four_and_the_plans_mapping_shows_them(target, tmp_path):
    dtx = pad(tmp_path, target, write_csv(tmp_path / "csv", ROWS))
    assert dtx("run", "pad", "--limit", "3").returncode == CHECKS_FAILED
    first = contents(target)
    assert [row[0] for row in first["pad_request"]] == ["3", "4", "7"]
    assert {row[0] for row in first["pad_approval"]} == {row[0] for row in first["pad_execution"]} == {"3", "4", "7"}
    shown = query(
        target,
        "SELECT source_id, target_table, shown.target_id, mapping.part FROM migration.migration_mapping AS shown"
        " JOIN migration.mapping USING (target_table, source_table) WHERE mapping.target_id = shown.target_id::text"
        " AND mapping.source_key = source_id::text ORDER BY 1, 2",
    )
    assert [(number, table, part) for number, table, _, part in shown] == [
        (number, table, part)
        for number in (3, 4, 7)
        for table, part in (
            ("audit_log", "request_submitted"),
            ("pad_approval", "manager"),
            ("pad_execution", ""),
            ("pad_request", ""),
        )
    ]


def test_nothing_of_a_row_is_written_whose_id_is_taken_and_an_undo_leaves_what_the_application_added_to(
    target, tmp_path
):
    with psycopg.connect(target) as connection:
        connection.execute(
            "INSERT INTO padealing.pad_request (id, employee_id, direction, status, created_at, updated_at)"
            " VALUES (7, 1, 'SELL', 'approved', now(), now())"
        )
    dtx = pad(tmp_path, target, write_csv(tmp_path / "csv", ROWS))
    assert dtx("run", "pad").returncode == CHECKS_FAILED
    loaded = contents(target)
    assert "7" not in {row[0] for model in ("pad_approval", "pad_execution") for row in loaded[model]}
    rejected = "SELECT target_table, reasons FROM migration.rejected WHERE source_key = '7' ORDER BY 1"
    assert query(target, rejected) == [
        ("audit_log", ["parent_rejected"]),
        ("pad_approval", ["parent_rejected"]),
        ("pad_execution", ["parent_rejected"]),
        ("pad_request", ["target_conflict"]),
    ]
    left_out = "(SELECT coalesce(sum(value::int), 0) FROM jsonb_each_text(dropped))"
    balance = f"SELECT bool_and(read = 5 AND migrated + rejected + {left_out} = 5) FROM migration.accounting"
    assert query(target, balance) == [(True,)]
    assert query(target, "SELECT last_value FROM padealing.pad_request_id_seq") == [(7,)]
    with psycopg.connect(target) as connection:
        connection.execute("INSERT INTO padealing.pad_execution (request_id, contract_note_verified) VALUES (3, true)")
    undone = dtx("rollback", "last", "--system", "pad")
    left = contents(target)
    assert [row[0] for row in left["pad_request"]] == ["3", "7"], undone.stdout + undone.stderr
    assert [row[0] for row in left["pad_execution"]] == ["3"]
    assert not left["pad_approval"]
    assert not left["audit_log"]
    assert query(target, "SELECT target_table, target_id::int FROM migration.left_entry") == [("pad_request", 3)]


def test_the_plan_says_what_would_come_and_explain_leads_back(target, tmp_path):
    dtx = pad(tmp_path, target, write_csv(tmp_path / "csv", ROWS))
    planned = dtx("plan", "pad")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert not any(contents(target).values())
    assert dtx("run", "pad").returncode == CHECKS_FAILED
    [(entry,)] = query(
        target, "SELECT id FROM padealing.audit_log WHERE request_id = 4 AND action_type = 'approval_manager'"
    )
    told = dtx("explain", "audit_log", str(entry), "--system", "pad")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "personal_account_dealing" in told.stdout
    assert "followed.decided_at" in told.stdout or "auth_manager_date" in told.stdout
    why = dtx("explain", "--from", "personal_account_dealing", "4", "--system", "pad")
    assert "compliance: auth_compliance: oracle_employee has no 9… (2 characters)" in " ".join(why.stdout.split())
    assert json.loads(dtx("status", "pad", "--json").stdout)
