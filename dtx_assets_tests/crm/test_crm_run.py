"""What `dtx run crm` makes of the shipped sample: each ugly document ends as the contract says, and is counted."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4, uuid5

import pytest

from dtx_assets.crm.decided_system import SYSTEM
from dtx_assets.crm.transforms import NAMESPACE
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.mapping.decisions import load_decisions
from dtx_assets.machinery.prepare import preparation
from dtx_assets.machinery.prepare.preparation import RunSettings
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets_tests.crm.conftest import Ran
from dtx_assets_tests.machinery.run.cells import changed_cells
from dtx_assets_tests.machinery.run.personal import DRY, explained, personal_values, said, values_told
from dtx_assets_tests.machinery.shard_by_shard import assert_equal_in_shards
from dtx_assets_tests.paper import SHEETS, TELEPHONE, sheets_of, width_on_a_telephone

pytestmark = pytest.mark.timeout(1200)
CHECKS_FAILED = 3
WINNER, LOSER = "64e1a0b2c3d4e5f607182950", "64e1a0b2c3d4e5f607182951"
NOBODY = "64e1a0b2c3d4e5f6071829ff"


def uuid_of(digits: str) -> UUID:
    return uuid5(UUID(NAMESPACE), digits)


def test_the_run_ends_and_every_flow_balances(ran):
    assert ran.exit_code == CHECKS_FAILED, ran.output[-2000:]
    books = ran.query("SELECT source_table, target_table, read, migrated, rejected, dropped FROM migration.accounting")
    assert len([1 for source, target, *_ in books if target != "archive"]) == 29 + 19
    for source, target, read, migrated, rejected, dropped in books:
        assert read == migrated + rejected + sum(dropped.values()), (source, target)
    for model in SYSTEM.mappings.targets:
        [[rows]] = ran.query(f'SELECT count(*) FROM "{model}"')
        assert rows > 0, model


def test_ids_are_a_function_of_the_object_id(ran):
    assert str(uuid_of("507f1f77bcf86cd799439011")) == "2bcd026a-dc83-5f13-a60a-29e5b81a83e9"
    wrong = [
        (table, key)
        for table, key, found in ran.query(
            "SELECT source_table, source_key, target_id FROM migration.mapping WHERE source_table = target_table"
        )
        if found != str(uuid_of(key))
    ]
    assert not wrong
    assert ran.query('SELECT 1 FROM "crm_campaigns" WHERE id = %s', uuid_of("64e1a0b2c3d4e5f607182930"))


def test_documents_that_cannot_be_told_apart_or_read_are_rejected_or_dropped(ran):
    rejected = ran.rejected("crm_campaigns")
    assert rejected['"campaign-1"'] == ["unparseable"]
    assert [reasons for key, reasons in rejected.items() if key.startswith("#")] == [["unparseable"]]
    assert sorted(rejected.values()).count(["duplicate_key"]) == 1
    [[dropped]] = ran.query(
        "SELECT dropped FROM migration.accounting WHERE source_table = 'crm_campaigns' AND target_table = source_table"
    )
    assert dropped == {"identical": 1}


@pytest.mark.parametrize(
    ("source", "counted"),
    [
        ("crm_Accounts", {"to_text": 3, "empty_to_null": 2}),
        ("crm_Opportunities", {"to_number": 1, "enum_case": 1, "defaulted": 1}),
        ("crm_Contacts", {"to_boolean": 1, "scalar_to_array": 1, "null_member": 1}),
        ("crm_Contracts", {"to_timestamp": 1}),
        ("Invoices", {"json_type": 1}),
        ("Sections", {"defaulted": 1}),
        ("crm_Leads", {"dangling_reference": 1, "id_from_text": 1}),
        ("Boards", {"merged_reference": 1}),
        ("crm_campaigns", {"id_from_text": 1}),
    ],
)
def test_what_is_taken_otherwise_is_counted(ran, source, counted):
    assert ran.coerced(source) == counted


@pytest.mark.parametrize(
    ("source", "reasons"),
    [
        ("crm_Accounts", ["unparseable", "unparseable"]),
        ("crm_Opportunities", ["schema_violation", "unmapped_value", "unparseable", "unparseable"]),
        ("crm_Contracts", ["unparseable", "unparseable"]),
        ("Sections", ["orphan_reference", "schema_violation"]),
        ("tasksComments", ["schema_violation"]),
        ("Boards", ["orphan_reference"]),
        ("Users", ["duplicate_key"]),
    ],
)
def test_what_no_rule_allows_is_rejected(ran, source, reasons):
    assert sorted(reason for each in ran.rejected(source).values() for reason in each) == reasons


def test_a_rejected_parent_takes_its_children_along_and_says_why(ran):
    [[detail]] = ran.query(
        "SELECT detail FROM migration.rejected WHERE source_table = 'Sections' AND reasons = '{orphan_reference}'"
    )
    assert "64e1a0b2c3d4e5f607182940" in detail
    assert "which is rejected" in detail


def test_what_names_a_user_who_lost_the_e_mail_names_the_winner(ran):
    assert ran.rejected("Users") == {LOSER: ["duplicate_key"]}
    assert ran.query('SELECT 1 FROM "Users" WHERE id = %s AND email = %s', uuid_of(WINNER), "twice@example.com")
    assert ran.query('SELECT 1 FROM "Boards" WHERE "user" = %s', uuid_of(WINNER))


def test_an_id_without_a_foreign_key_is_converted_and_listed(ran):
    assert ran.query('SELECT 1 FROM "crm_Leads" WHERE "createdBy" = %s', uuid_of(NOBODY))


def test_members_of_arrays_are_pairs_each_once(ran):
    watched = ran.query('SELECT account_id FROM "AccountWatchers" WHERE user_id = %s', uuid_of(WINNER))
    assert len(watched) == 1
    assert ran.coerced("crm_Accounts", "AccountWatchers") == {
        "duplicate_member": 1,
        "id_from_text": 1,
        "null_member": 1,
    }
    assert ran.coerced("Boards", "BoardWatchers") == {"scalar_to_array": 1}
    [reasons] = ran.rejected("crm_Accounts", "AccountWatchers").values()
    assert sorted(reasons) == ["orphan_reference", "unparseable"]


def test_undeclared_fields_are_beside_their_document(ran):
    assert [extra for (extra,) in ran.query("SELECT extra FROM migration.extra WHERE source_table = 'Tasks'")] == [
        {"legacy_priority": "high"}
    ]


def test_the_target_is_next_crms_own_schema(ran):
    printed = ran.command("target", "ddl", "crm").stdout
    assert printed.count("CREATE TABLE") == 39
    assert "Copyright (c) 2023 Pavel Dovhomilja" in printed
    schemas = ran.query(
        "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_schema NOT LIKE 'pg%%'"
        " AND table_schema <> 'information_schema' ORDER BY 1"
    )
    assert schemas == [("migration",), ("public",)]


def test_the_cells_that_are_told_are_those_that_change_a_column(ran):
    settings = Settings.from_environment("crm", environ={}, sample_dir=SYSTEM.sample_dir)
    lake = Lake(ran.command.environment["CRM_LAKE_URL"])
    landed = RunSettings("cells", SYSTEM, settings, SYSTEM.decisions, datetime(2026, 7, 1, tzinfo=UTC), lake)
    flows = ("users", "crm_accounts", "crm_contacts", "invoices", "tasks", "employees", "documents_types")
    found = changed_cells(landed, *flows, rounds=2)
    assert not found.lies
    assert found.changed > 100


def test_no_command_tells_a_personal_value_of_the_sample(ran, monkeypatch):
    told = dict(said(ran.command, "crm", ("todo",), ("rejected",), ("errors",), ("diagnose",), *DRY))
    told |= {path.name: path.read_text() for kind in ("html", "log") for path in home_of(ran).rglob(f"*.{kind}")}
    for name, value in ran.command.environment.items():
        monkeypatch.setenv(name, value)
    chosen = Path(ran.command.environment["CRM_DECISIONS"])
    system = SYSTEM.under(load_decisions(SYSTEM.mappings_dir / "decisions.yaml", chosen))
    with RunEnvironment(system, uuid4().hex, datetime.now(UTC)) as environment:
        # What the reader says of a document that nobody can read stands where its fields would.
        values = {text for text in personal_values(environment) if not text.startswith("cannot be decoded: ")}
        told |= dict(explained(environment, 2))
    assert len(values) > 100
    assert len(told) > 60
    assert values_told(values, told) == {}


def test_the_page_is_six_sheets_of_paper_and_fits_a_telephone(ran, browser):
    [page] = home_of(ran).rglob("cutover.html")
    assert sheets_of(browser, page) in SHEETS
    assert width_on_a_telephone(browser, page) <= TELEPHONE


def home_of(ran: Ran) -> Path:
    return Path(ran.command.environment["CRM_HOME"])


def test_documents_in_shards_are_what_one_process_makes_of_them(ran, tmp_path, monkeypatch):
    """Pairs of all shards meet, whichever side named them, and bad members are told as often."""
    monkeypatch.setattr(preparation, "STRETCH_ROWS", 2)
    lake = Lake(str(shutil.copytree(ran.command.environment["CRM_LAKE_URL"], tmp_path / "lake")))
    settings = Settings.from_environment("crm", environ={}, project_dir=tmp_path, sample_dir=SYSTEM.sample_dir)
    now = datetime(2026, 11, 21, tzinfo=UTC)
    run = RunSettings("a-run", SYSTEM, replace(settings, batch_rows=2), SYSTEM.decisions, now, lake)
    for model in ("AccountWatchers", "Users", "crm_campaigns"):
        assert_equal_in_shards(run, SYSTEM.flow_of(model), 3)
        assert lake.require(run.key("rejected", model)).tables["rows"].rows, model
