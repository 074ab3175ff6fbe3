"""A run of the shipped sample: what checks find, what the page says, what leads back, what a second run does."""

import html
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from dtx_assets.cli.shared import environment_of
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.load.phase_checks import legacy_ids_lost
from dtx_assets.machinery.postgres.ddl import create_target
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets.machinery.postgres.other_rows import load_other_rows
from dtx_assets.machinery.prepare.preparation import RunSettings
from dtx_assets.pad.checks import CHECKS
from dtx_assets.pad.decided_system import SYSTEM
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.machinery.run.cells import changed_cells
from dtx_assets_tests.machinery.run.personal import DRY, LOOKS, explained, personal_values, said, values_told
from dtx_assets_tests.pad.place import contents, pad, query
from dtx_assets_tests.paper import SHEETS, TELEPHONE, sheets_of, width_on_a_telephone

NOT_BROKEN_BY_DATA = {"reference_tables_are_untouched", "request_ids_are_free", "no_row_changed_since"}
CHECKS_FAILED = 3


class Run:
    def __init__(self, directory: Path, url: str) -> None:
        self.directory, self.url = directory, url
        with psycopg.connect(url) as connection:
            create_target(connection, SYSTEM.targets)
            load_other_rows(connection, SYSTEM.sample_dir / "target", SYSTEM.tables_of_others)
        self.dtx: Command = pad(directory, url, SYSTEM.sample_dir)
        self.done = self.dtx("run", "pad")
        assert self.done.returncode == CHECKS_FAILED, self.done.stdout + self.done.stderr
        [page] = directory.rglob("cutover.html")
        text = re.sub(r"<(script|style).*?</\1>", "", page.read_text(), flags=re.DOTALL)
        self.page = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())

    def told(self, *arguments: str) -> str:
        done = self.dtx(*arguments, "--system", "pad")
        assert done.returncode == 0, done.stdout + done.stderr
        return " ".join(done.stdout.split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres):
    url = postgres_server.create_database("sample_of_pad")
    yield Run(tmp_path_factory.mktemp("sample_of_pad"), url)
    postgres_server.drop_database("sample_of_pad")


def test_the_sample_breaks_each_check_that_data_can_break(run):
    states = {check["name"]: check for check in json.loads(run.dtx("status", "pad", "--json").stdout)["checks"]}
    own = {check.spec.name: check.spec.severity for check in CHECKS.own}
    assert {name for name in own if states[name]["state"] == "passed"} == NOT_BROKEN_BY_DATA
    for name in set(own) - NOT_BROKEN_BY_DATA:
        assert states[name]["state"] == ("failed" if own[name] == "ERROR" else "warned"), name
        assert states[name]["count"] > 0


def test_the_page_answers_a_compliance_officer_s_first_five_questions(run):
    """Who approved without a date; who approved their own; what was made up; what was left out; who has to sign."""
    undated = "SELECT count(*) FROM migration.rejected WHERE detail LIKE '%%the approval has no date%%' AND NOT partial"
    [(rows,)] = query(run.url, undated + " AND target_table = 'pad_approval'")
    assert rows
    assert "auth_manager_date, last_modified_date, requested_date: the approval has no date" in run.page
    assert "legacy/personal_account_dealing: nobody_approves_their_own_request failed (2 found)" in run.page
    [(made_up,)] = query(run.url, "SELECT count(*) FROM padealing.audit_log")
    assert re.search(rf"audit_log A1 #10, #18, {made_up:,} rows in the target", run.page)
    assert "The legacy has none of them, and the plan invents all four" in run.page
    for target, dropped, count in query(
        run.url, "SELECT target_table, key, value FROM migration.accounting, jsonb_each_text(dropped)"
    ):
        assert f"{dropped}" in run.page, (target, count)
    [(rejected,)] = query(run.url, "SELECT sum(rejected)::int FROM migration.accounting")
    assert f"{rejected:,} rejected rows, by table and reason" in run.page
    for decision in SYSTEM.decisions.entries:
        assert decision.title in run.page
        assert f"Must be confirmed by {decision.confirm_by}" in run.page
    for action in SYSTEM.decisions.actions:
        assert action.id in run.page


def test_the_mapping_book_says_what_fills_the_columns_of_parts(run):
    assert "approver_id of part manager" in run.page
    assert "timestamp of part request_submitted" in run.page
    assert not re.search(r"Nothing fills [^.]*(approver_id|decided_at|action_type)", run.page)


def test_explain_leads_from_a_rejected_approval_to_its_reason(run):
    [(key,)] = query(
        run.url,
        "SELECT source_key FROM migration.rejected WHERE target_table = 'pad_approval' AND NOT partial"
        " AND detail LIKE 'manager: auth_manager_date%%no date%%' LIMIT 1",
    )
    assert "the approval has no date, and the target needs one" in run.told(
        "explain", "--from", "personal_account_dealing", key
    )


def test_explain_leads_from_an_audit_entry_to_the_legacy_row_and_the_rule(run):
    [(entry, key)] = query(
        run.url,
        "SELECT target_id, source_key FROM migration.mapping WHERE target_table = 'audit_log'"
        " AND part = 'approval_compliance' ORDER BY 2 LIMIT 1",
    )
    told = run.told("explain", "audit_log", entry)
    assert "personal_account_dealing" in told
    assert key in told
    assert "approval_details" in told or "comments_compliance" in told


def test_no_command_tells_a_personal_value_of_the_sample(run, monkeypatch):
    told = dict(said(run.dtx, "pad", *LOOKS, *DRY))
    told |= {path.name: path.read_text() for kind in ("html", "log") for path in run.directory.rglob(f"*.{kind}")}
    monkeypatch.chdir(run.directory)
    for name, value in run.dtx.environment.items():
        monkeypatch.setenv(name, value)
    with environment_of("pad") as environment:
        values = personal_values(environment)
        told |= dict(explained(environment, 12))
    assert len(values) > 100
    assert len(told) >= 20
    assert values_told(values, told) == {}


def test_the_page_is_six_sheets_of_paper_and_fits_a_telephone(run, browser):
    [page] = run.directory.rglob("cutover.html")
    assert sheets_of(browser, page) in SHEETS
    assert width_on_a_telephone(browser, page) <= TELEPHONE


def test_the_cells_that_are_told_are_those_that_change_a_column(run):
    home = Lake(str(next(run.directory.rglob("lake"))))
    settings = Settings.from_environment("pad", environ={}, sample_dir=SYSTEM.sample_dir)
    landed = RunSettings("cells", SYSTEM, settings, SYSTEM.decisions, datetime(2026, 7, 1, tzinfo=UTC), home)
    found = changed_cells(landed, rounds=8)
    assert not found.lies
    assert found.changed > 100


def test_legacy_ids_that_are_the_key_are_looked_up_too(run):
    """The column is called `id`, as one of the bookkeeping is; an id that is another one then is told."""
    with psycopg.connect(run.url) as connection:
        assert legacy_ids_lost(connection, SYSTEM) == {}
        connection.execute("UPDATE migration.mapping_entry SET source_key = '999999999' WHERE source_key = '1'")
        assert legacy_ids_lost(connection, SYSTEM)["pad_request.id"] == 1
        connection.rollback()


def test_a_second_run_writes_nothing(run):
    before = contents(run.url)
    assert run.dtx("run", "pad").returncode == CHECKS_FAILED
    assert contents(run.url) == before
    assert query(
        run.url,
        "SELECT count(*) FROM migration.batch JOIN migration.load ON load.id = load_id"
        " WHERE rows_inserted + rows_updated > 0"
        " AND run_id = (SELECT run_id FROM migration.run ORDER BY started_at DESC LIMIT 1)",
    ) == [(0,)]
