"""Every check of the file repository and of the tables with options, with input that makes it fail and that passes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
import pytest

from dtx_assets.dtx import file_checks
from dtx_assets.dtx.system import MAPPINGS_DIR, SYSTEM
from dtx_assets.machinery.checks.own import groups_of
from dtx_assets.machinery.checks.spec import CheckOutcome
from dtx_assets.machinery.checks.written import own_checks
from dtx_assets_tests.checking import Checking, decisions
from dtx_assets_tests.dtx.running import php

ELSEWHERE = ("exemption", "letter", "notification", "notification_webhook")
"""The tables whose checks that are data `test_checks` has."""
FILE_CHECKS = groups_of(
    [
        check
        for check in own_checks(SYSTEM)
        if check in file_checks.FILE_CHECKS.own
        or (check.where.startswith(str(MAPPINGS_DIR)) and check.spec.asset[1] not in ELSEWHERE)
    ]
)
Row = Mapping[str, str | None]
CONTACT = 'a:2:{s:4:"name";s:4:"Acme";s:5:"email";s:14:"ann@example.com";}'.replace("s:14", "s:15")
NESTED = f's:{len(php("ann@example.com"))}:"{php("ann@example.com")}";'
FILE = {"repo_file_id": "1", "status": "SUBMITTED"}
LEASE = {"PH_ID": "1", "Lease Start": "01/31/2020", "Lease End": "12/31/2030"}
SAMPLED = {"form_name": "vendor_view", "model_name": "Vendorhistory", "property_name": "custom_field_0"}

CASES: list[tuple[str, str, Sequence[Row], Sequence[Row], int]] = [
    # table, check, rows that pass, rows that fail, how many are found
    ("envelope", "events_are_known", [{"event": None}, {"event": " voided"}, {"event": ""}], [{"event": "Opened"}], 1),
    (
        "envelope",
        "vendor_data_can_be_read",
        [{"vendor_data": CONTACT}],
        [{"vendor_data": None}, {"vendor_data": "x"}],
        2,
    ),
    (
        "envelope",
        "vendor_data_is_serialised_once",
        [{"vendor_data": CONTACT}],
        [{"vendor_data": f'a:1:{{s:5:"email";{NESTED}}}'}, {"vendor_data": CONTACT}],
        1,
    ),
    (
        "messagequeue",
        "bodies_hold_no_macro",
        [{"letter_body": "Hello __[X]__"}, {"letter_body": None}],
        [{"letter_body": "On __DATE__ and __DATE__"}],
        1,
    ),
    (
        "reviewer_address",
        "type_and_level_are_always_empty",
        [{"type": "", "level": "0"}, {"type": None, "level": None}],
        [{"type": "x", "level": "0"}, {"type": "", "level": "1"}, {"level": "?"}],
        3,
    ),
    (
        "reviewer_address",
        "php_values_can_be_read",
        [{"email_string": php("a@example.com")}, {"email_string": None}],
        [{"email_string": "a:1:{"}],
        1,
    ),
    (
        "reviewer_address",
        "addresses_are_valid",
        [{"email_string": php("a@example.com")}],
        [{"email_string": php("a@example.com", "nobody")}],
        1,
    ),
    (
        "repo_file",
        "files_are_linked_or_deleted",
        [{**FILE, "status": " Deleted"}, {**FILE, "document_id": "7"}, {**FILE, "repo_file_id": "99"}],
        [FILE, {**FILE, "certificate_id": "0"}, {**FILE, "status": None}],
        3,
    ),
    (
        "repo_file",
        "linked_files_were_handled_by_area_4",
        [FILE, {**FILE, "repo_file_id": "99.0", "document_id": "7"}, {"status": "DELETED", "document_id": "7"}],
        [{**FILE, "document_id": "7"}, {**FILE, "certificate_id": "x"}],
        2,
    ),
    (
        "repo_file",
        "orphans_have_no_attachment",
        [{**FILE, "document_id": "7", "attachment_id": "5"}, {**FILE, "attachment_id": "0"}],
        [{**FILE, "attachment_id": "5"}],
        1,
    ),
    ("repo_file", "statuses_are_known", [FILE, {"status": None}, {"status": "manual_entry"}], [{"status": "NEW"}], 1),
    (
        "repo_file",
        "dropped_columns_are_empty",
        [{"upload_ip": None, "upload_email": "", "display": "no", "supervisor": "No "}],
        [{"upload_ip": "10.0.0.1", "evt_userid": "7", "display": "yes"}],
        3,
    ),
    (
        "imap_upload",
        "uploads_are_distinct",
        [{"sender": "a", "filename": "x", "filesize": "1"}, {"sender": "a", "filename": "x", "filesize": "2"}],
        [{"sender": "a", "filename": "x", "filesize": "1"}] * 3,
        1,
    ),
    (
        "form_field",
        "form_fields_are_those_of_the_sample",
        [SAMPLED],
        [{**SAMPLED, "property_name": "custom_field_1"}] * 2 + [{**SAMPLED, "model_name": None}],
        2,
    ),
    ("keyword", "keywords_are_those_of_the_plan", [{"keyword": "GROUP_NAME"}], [{"keyword": "COLOUR"}], 1),
    (
        "keyword",
        "keywords_and_replacements_are_there",
        [{"keyword": "a", "replacement": "b"}],
        [{"keyword": None, "replacement": "b"}, {"keyword": "a", "replacement": " "}],
        2,
    ),
    ("vornado_feed", "records_were_not_rejected_at_source", [LEASE], [{**LEASE, "PH_ID": "-1.0"}], 1),
    ("vornado_feed", "leases_end", [LEASE], [{**LEASE, "Lease End": "12/31/2050"}], 1),
    (
        "vornado_feed",
        "lease_dates_can_be_read",
        [LEASE, {**LEASE, "Lease End": None}, {**LEASE, "Lease End": ""}],
        [
            {**LEASE, "Lease End": "02/30/2021"},
            {**LEASE, "Lease Start": "1/2/2020"},
            {**LEASE, "Lease End": "2020-01-01"},
            {**LEASE, "Lease End": " "},
            {**LEASE, "Lease End": "01/01/0000"},
        ],
        5,
    ),
    ("vornado_feed", "texts_have_no_known_typo", [LEASE], [{**LEASE, "Status": "NONCONTRIBUTARY"}], 1),
]


@pytest.fixture
def checking(tmp_path: Path) -> Checking:
    return Checking(tmp_path)


def outcome(checking: Checking, table: str, name: str, rows: Sequence[Row]) -> CheckOutcome:
    checking.legacy("crosswalk_repo_file", {"repo_file_id": "99", "target_model": "Document", "target_id": "1"})
    checking.legacy(table, *rows)
    [group] = [
        group for group in FILE_CHECKS if group.asset == ("legacy", table) and name in {s.name for s in group.specs}
    ]
    return group.evaluate(checking.context)[name]


@pytest.mark.parametrize(
    ("table", "name", "good", "bad", "count"), CASES, ids=[f"{case[0]}:{case[1]}" for case in CASES]
)
def test_a_check_passes_on_good_rows_and_finds_bad_ones(checking, table, name, good, bad, count):
    assert outcome(checking, table, name, good).passed
    assert outcome(checking, table, name, []).passed
    found = outcome(checking, table, name, [*good, *bad])
    assert (found.passed, found.count) == (False, count)


def test_every_check_has_a_case():
    listed = {(table, name) for table, name, *_ in CASES}
    specs = {(group.asset[1], spec.name) for group in FILE_CHECKS for spec in group.specs if group.asset[0] == "legacy"}
    elsewhere = {(table, "column_names_are_plain") for table in ("repo_throughput", "billing_data")}
    elsewhere |= {("inactivated_billing_data", "column_names_are_plain"), ("vornado_feed", "column_names_are_plain")}
    elsewhere |= {("vornado_feed", "dropped_columns_are_empty")}
    assert specs - listed == elsewhere


def test_contacts_that_turn_up_in_the_feed_are_seen(checking):
    columns = (*SYSTEM.legacy_tables["vornado_feed"].columns, "Contact Name", "Ins. CONTACT #2")
    name = "dropped_columns_are_empty"
    [group] = [group for group in FILE_CHECKS if group.asset == ("legacy", "vornado_feed") and len(group.specs) > 1]
    checking.legacy("vornado_feed", {**LEASE, "Contact Name": None}, columns=columns)
    assert group.evaluate(checking.context)[name].passed
    checking.legacy("vornado_feed", {**LEASE, "Ins. CONTACT #2": "Ann"}, columns=columns)
    found = group.evaluate(checking.context)[name]
    assert (found.passed, found.count) == (False, 1)
    assert "Ann" not in str(found.metadata)


def test_how_often_each_event_occurs_is_shown(checking):
    events = ["Voided", "Voided", "Completed", None]
    found = outcome(checking, "envelope", "events_are_known", [{"event": event} for event in events])
    assert (found.passed, found.metadata["events"]) == (True, {"Voided": 2, "Completed": 1, "NULL": 1})


@pytest.mark.parametrize("table", sorted(name for name, table in SYSTEM.legacy_tables.items() if not table.key))
def test_tables_without_a_primary_key_are_looked_at_for_rows_that_occur_again(checking, table):
    checking.legacy(table, {"a": "1"}, {"a": "2"}, columns=(*SYSTEM.legacy_tables[table].columns, "a"))
    assert checking.outcomes("legacy", table)["rows_are_distinct"].passed
    checking.legacy(table, {"a": "1"}, {"a": "2"}, {"a": "1"}, columns=(*SYSTEM.legacy_tables[table].columns, "a"))
    assert checking.outcomes("legacy", table)["rows_are_distinct"].count == 1


def test_names_that_need_quoting_are_listed(checking):
    checking.legacy("billing_data", columns=("customer_id", "Rate_2"))
    plain = checking.outcomes("legacy", "billing_data")["column_names_are_plain"]
    assert plain.passed
    checking.legacy("billing_data", columns=("customer_id", "# of PHs", "Compl. %", "d\u00e9but"))
    found = checking.outcomes("legacy", "billing_data")["column_names_are_plain"]
    assert (found.count, found.metadata["names"]) == (3, "# of PHs, Compl. %, d\u00e9but")


def test_addresses_that_area_2_does_not_have_are_counted(checking):
    schema = {"email": pl.String, "state": pl.String}
    checking.mapping("reviewer_cross_reference", [{"email": "a", "state": "already there"}], schema)
    name = "area_2_has_every_reviewer"
    assert checking.outcomes("mapping", "reviewer_cross_reference")[name].passed
    states = ["already there", "new", "new", "invalid"]
    checking.mapping("reviewer_cross_reference", [{"email": "a", "state": state} for state in states], schema)
    assert checking.outcomes("mapping", "reviewer_cross_reference")[name].count == 2


@pytest.mark.parametrize("table", ["envelope", "imap_upload", "form_field", "vornado_feed"])
def test_a_table_that_is_archived_by_an_open_decision_says_so(checking, table):
    checking.legacy("crosswalk_repo_file")
    checking.legacy(table)
    assert not checking.outcomes("legacy", table)["decisions_are_confirmed"].passed
    checking.choose(decisions(confirmed=[table], done=["A11-1"]))
    found = checking.outcomes("legacy", table)
    assert found["decisions_are_confirmed"].passed
    assert found["blocking_actions_are_done"].passed
    checking.choose(decisions(confirmed=[table]))
    waits = table == "form_field"
    assert checking.outcomes("legacy", table)["blocking_actions_are_done"].passed != waits
