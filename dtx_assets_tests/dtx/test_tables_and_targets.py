"""The declarations of DTX agree with the plans: counts of columns, kinds by name, keys, references."""

from collections import Counter

import pytest

from dtx_assets.dtx.system import SYSTEM

PLANNED_COLUMNS = {
    "notification": 28,
    "notification_webhook": 4,
    "notification_lookup": 12,
    "notification_audit": 25,
    "letter": 9,
    "messagequeue": 15,
    "envelope": 9,
    "repo_file": 27,
    "repo_file_audit": 29,
    "repo_throughput": 19,
    "imap_upload": 10,
    "form_field": 17,
    "keyword": 3,
    "exemption": 11,
    "reviewer_address": 6,
    "billing_data": 21,
    "inactivated_billing_data": 12,
    "lost_revenue": 9,
    "prepay_so_list": 1,
    "work_log": 5,
    "vornado_feed": 41,
}

KINDS = {
    "notification_id": "integer",
    "CRFRRSetting": "integer",
    "coi_dow_bitmap": "integer",
    "level": "integer",
    "filesize": "integer",
    "CEFERTiming": "code",
    "doc_send_hold": "code",
    "ExemptReviewStatus": "code",
    "create_time": "time",
    "intake_date": "date",
    "ExemptExpDate": "date",
    "letter_body": "text",
    "item_name": "text",
    "PH_ID": "text",
}


def test_legacy_tables_have_the_planned_columns() -> None:
    assert {name: table.column_count for name, table in SYSTEM.legacy_tables.items()} == PLANNED_COLUMNS


@pytest.mark.parametrize(
    "table", [*SYSTEM.legacy_tables.values(), *SYSTEM.crosswalk_tables.values()], ids=lambda table: table.name
)
def test_a_table_names_no_column_twice_and_needs_only_named_ones(table) -> None:
    assert len(set(table.columns)) == len(table.columns) <= table.column_count
    assert {*table.required, *table.key} <= set(table.columns)
    assert table.area in SYSTEM.areas
    assert table.description.endswith(".")


def test_schema_drift_of_the_audit_table_is_declared() -> None:
    missing = set(SYSTEM.legacy_tables["notification"].columns) - set(
        SYSTEM.legacy_tables["notification_audit"].columns
    )
    assert missing == {"CRRestartSetting", "CERestartSetting", "CNCRestartSetting"}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_kind_of_a_column_by_its_name(name: str, kind: str) -> None:
    kinds = {table.kind_of(name) for table in SYSTEM.legacy_tables.values()}
    assert kinds == {kind}


def test_targets_refer_to_targets() -> None:
    names = {target.name for target in SYSTEM.targets}
    assert len(SYSTEM.targets) == len({target.model for target in SYSTEM.targets})
    # A table has one model that makes its rows, or that others own; other models fill columns of it.
    makers = Counter(
        target.name for target in SYSTEM.targets if target.model not in ("DocumentMetadata", "RecordVornado")
    )
    assert set(makers.values()) == {1}
    referred = {column.references for target in SYSTEM.targets for column in target.columns if column.references}
    assert referred <= names


@pytest.mark.parametrize("target", SYSTEM.targets, ids=lambda target: target.model)
def test_natural_key_is_of_own_columns(target) -> None:
    assert set(target.natural_key) <= {column.name for column in target.columns}
    assert target.decision
    assert target.area in SYSTEM.areas


def test_a_column_for_one_option_is_not_needed_under_another() -> None:
    schedule = next(target for target in SYSTEM.targets if target.model == "NotificationSchedule")
    always = {column.name for column in schedule.columns_under({"dow_bitmap": "accept_gap"})}
    assert always == {column.name for column in schedule.columns} - {"send_days", "metadata"}
    assert {column.name for column in schedule.columns_under({"dow_bitmap": "send_days"})} == always | {"send_days"}
