"""The archives of the whole graph: all 21 tables, the accounting of those that go nowhere else, and the commands."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dtx_assets.dtx.system import SYSTEM, load_other_areas
from dtx_assets.machinery.archive.store import CHECK
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.dtx.running import write_csv, write_sqlite

ONLY_ARCHIVED = {
    "notification_lookup", "notification_audit", "messagequeue", "repo_file_audit", "repo_throughput", "billing_data",
    "inactivated_billing_data", "lost_revenue", "prepay_so_list", "work_log",
}  # fmt: skip
"""Whatever is decided (spec 4.7)."""
SPECIAL_NAMES = ("repo_throughput", "billing_data", "inactivated_billing_data", "vornado_feed")


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Command]:
    """The sample's tables extracted and archived, and nothing else done."""
    url = postgres_server.create_database("archives")
    with psycopg.connect(url) as connection:
        create_target(connection, SYSTEM.targets)
        load_other_areas(connection, SYSTEM.sample_dir / "target")
    dtx = Command(tmp_path_factory.mktemp("archived"), {"DTX_TARGET_URL": url})
    done = dtx("run", "--select", "+archive/*")
    assert done.returncode in (0, 3), done.stdout + done.stderr
    yield dtx
    postgres_server.drop_database("archives")


def listed(dtx: Command) -> dict[str, dict[str, object]]:
    done = dtx("archive", "list", "--json")
    assert done.returncode == 0, done.stderr
    return {entry["table"]: entry for entry in json.loads(done.stdout)}


def accounting(dtx: Command) -> dict[tuple[str, str], tuple[int, int, int, dict[str, int]]]:
    with psycopg.connect(dtx.environment["DTX_TARGET_URL"]) as connection:
        rows = connection.execute(
            "SELECT source_table, target_table, read, migrated, rejected, dropped FROM migration.accounting"
            " WHERE run_id = (SELECT run_id FROM migration.run ORDER BY started_at DESC LIMIT 1)"
        ).fetchall()
    return {(source, target): tuple(counts) for source, target, *counts in rows}


def test_every_table_is_archived_as_it_came(archived):
    stored = listed(archived)
    assert set(stored) == set(SYSTEM.legacy_tables)
    for table, facts in stored.items():
        packed = Path(str(facts["location"])) / f"{table}.csv.gz"
        source = (SYSTEM.sample_dir / f"{table}.csv").read_bytes().removeprefix(b"\xef\xbb\xbf")
        expected, found = (
            list(csv.reader(io.StringIO(content.decode("latin-1"), newline="")))
            for content in (source, gzip.decompress(packed.read_bytes()))
        )
        assert found == expected, table
        assert [name.encode("latin-1").decode() for name in found[0]] == facts["columns"]
        assert len(found) - 1 == facts["rows"]
    assert any(set(" #%'/?") & set(name) for table in SPECIAL_NAMES for name in stored[table]["columns"])  # type: ignore[attr-defined]


def test_only_tables_that_nothing_migrates_are_booked_as_archived(archived):
    booked = accounting(archived)
    assert {target for _, target in booked} == {"archive"}
    assert {source for source, _ in booked} == set(SYSTEM.legacy_tables) - SYSTEM.migrated_tables
    assert ONLY_ARCHIVED < {source for source, _ in booked} < set(SYSTEM.legacy_tables)
    assert not ONLY_ARCHIVED & SYSTEM.migrated_tables
    rows = {table: facts["rows"] for table, facts in listed(archived).items()}
    for (source, _), counts in booked.items():
        assert counts == (rows[source], rows[source], 0, {})


def test_the_default_of_every_decision_that_says_archive_books_its_table():
    chosen = {key: option for key, option in SYSTEM.decisions.chosen.items() if option == "archive"}
    assert set(chosen) == {"envelope", "imap_upload", "form_field", "vornado_feed"}
    assert not set(chosen) & SYSTEM.migrated_tables


def test_a_second_run_writes_no_archive_and_books_the_same(archived):
    before = listed(archived)
    booked = accounting(archived)
    done = archived("run", "--select", "archive/*")
    assert done.returncode == 0, done.stdout + done.stderr
    assert listed(archived) == before
    assert accounting(archived) == booked


def test_a_file_that_was_tampered_with_fails_its_check_and_the_run(archived):
    path = Path(str(listed(archived)["work_log"]["location"])) / "work_log.csv.gz"
    good = path.read_bytes()
    path.write_bytes(good[:40] + bytes([good[40] ^ 1]) + good[41:])
    try:
        done = archived("run", "--select", "archive/work_log")
        assert done.returncode != 0
        assert CHECK in done.stdout
        assert "its SHA-256 is another one" in " ".join(done.stdout.split())
        assert archived.states()["checks"][f"archive/work_log:{CHECK}"]["state"] == "failed"
    finally:
        path.write_bytes(good)
    done = archived("run", "--select", "archive/work_log")
    assert done.returncode == 0, done.stdout
    assert archived.states()["checks"][f"archive/work_log:{CHECK}"]["state"] == "passed"


def test_a_table_that_cannot_be_read_keeps_no_other_from_the_archive(tmp_path, archived, s3_bucket):
    """And it is S3 that the others go to."""
    tables = {name: [dict.fromkeys(table.columns or ("a",), "1")] for name, table in SYSTEM.legacy_tables.items()}
    del tables["work_log"]
    export = write_csv(tmp_path / "export", tables)
    dtx = Command(tmp_path, {**archived.environment, "DTX_ARCHIVE_URL": f"s3://{s3_bucket}/kept"})
    done = dtx("run", "--select", "+archive/*", DTX_LEGACY_URL=str(export))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "work_log" in done.stdout
    assert set(listed(dtx)) == set(tables)
    shown = dtx("archive", "query", "letter", "SELECT customer_id, type FROM letter", "--csv")
    assert shown.stdout == "customer_id,type\n1,1\n"


def test_rows_of_a_database_keep_null_apart_from_the_empty_string(tmp_path, archived):
    rows = [{"customer_id": None}, {"customer_id": ""}, {"customer_id": "\\N"}, {"customer_id": "7"}]
    export = write_sqlite(tmp_path / "export", {"prepay_so_list": rows})
    dtx = Command(tmp_path, {**archived.environment, "DTX_LEGACY_URL": str(export)})
    done = dtx("run", "--select", "+archive/prepay_so_list")
    assert done.returncode in (0, 3), done.stdout + done.stderr
    facts = listed(dtx)["prepay_so_list"]
    packed = Path(str(facts["location"])) / "prepay_so_list.csv.gz"
    assert gzip.decompress(packed.read_bytes()) == b'customer_id\n\\N\n""\n"\\N"\n7\n'
    shown = dtx("archive", "query", "prepay_so_list", "SELECT customer_id FROM prepay_so_list", "--json")
    assert json.loads(shown.stdout) == rows
    assert accounting(dtx)["prepay_so_list", "archive"] == (4, 4, 0, {})


# --- the commands -----------------------------------------------------------------------------------------------------


def test_the_list_shows_rows_columns_and_checksums(archived):
    done = archived("archive", "list")
    assert done.returncode == 0
    facts = listed(archived)["work_log"]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("│ work_log ")]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[:3] == ["work_log", str(facts["rows"]), "5"]
    assert str(facts["sha256"]["work_log.parquet"])[:20] in done.stdout


def test_a_query_is_answered_as_a_table_csv_or_json(archived):
    sql = "SELECT \"Tenant ID\" AS tenant, chr(27) || '[31m' AS red, NULL AS n FROM vornado_feed LIMIT 2"
    table, as_csv, as_json = (
        archived("archive", "query", "vornado_feed", sql, *more) for more in ([], ["--csv"], ["--json"])
    )
    assert (table.returncode, as_csv.returncode, as_json.returncode) == (0, 0, 0), table.stderr
    rows = json.loads(as_json.stdout)
    assert [set(row) for row in rows] == [{"tenant", "red", "n"}] * 2
    assert list(csv.DictReader(io.StringIO(as_csv.stdout))) == [{**row, "n": ""} for row in rows]
    assert rows[0]["tenant"] in table.stdout
    assert "\\x1b[31m" in table.stdout
    assert "\x1b" not in table.stdout


def test_a_spreadsheet_runs_nothing_of_an_answer(archived):
    sql = "SELECT '=1+1' AS \"=a\", '-5' AS n, -5 AS m, '@x' AS x"
    assert archived("archive", "query", "letter", sql, "--csv").stdout == "'=a,n,m,x\n'=1+1,-5,-5,'@x\n"
    assert json.loads(archived("archive", "query", "letter", sql, "--json").stdout)[0]["=a"] == "=1+1"


def test_long_answers_are_cut_on_the_terminal_only(archived):
    sql = "SELECT range AS n FROM range(1000)"
    shown = archived("archive", "query", "letter", sql)
    assert "The first 200 rows" in shown.stdout
    assert len(archived("archive", "query", "letter", sql, "--csv").stdout.splitlines()) == 1001


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["worklog", "SELECT 1"], "there is no table 'worklog'"),
        (["work_log", "SELEC"], "syntax error"),
        (["work_log", "DROP VIEW work_log"], "one SELECT"),
        (["work_log", "SELECT 1", "--csv", "--json"], "exclude each other"),
    ],
)
def test_wrong_queries_end_with_2_and_say_what_to_do(archived, arguments, says):
    done = archived("archive", "query", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    if arguments[0] == "worklog":
        assert all(table in done.stderr for table in SYSTEM.legacy_tables)


def test_before_anything_is_archived(tmp_path):
    dtx = Command(tmp_path, {})
    assert "Nothing is archived" in dtx("archive", "list").stdout
    done = dtx("archive", "query", "letter", "SELECT 1")
    assert done.returncode == 2
    assert "`dtx run` archives all tables" in done.stderr


def test_nothing_that_was_written_is_for_others(archived):
    home = archived.directory / ".dtx"
    written = [path for path in home.rglob("*") if path.relative_to(home).parts[0] != "postgres"]
    assert {"lake", "archive", "logs", "history"} <= {path.relative_to(home).parts[0] for path in written}
    assert [path for path in written if path.stat().st_mode & 0o077] == []
    assert home.stat().st_mode & 0o066 == 0
