"""Every check of DTX, with input that makes it fail and input that passes.

Why: these checks are how the full data, which no one has seen, tells what the samples did not show.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from dtx_assets.dtx.checks import covers
from dtx_assets.dtx.notification_checks import TimingEvidence, bit_order_evidence
from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.checks.crosswalks import crosswalk_users
from dtx_assets.machinery.checks.spec import CheckOutcome
from dtx_assets_tests.checking import CHECK_GROUPS, DECISIONS, Checking, decisions

WORDS = Mapping[str, Any]
NOT_ABOUT_DATA: set[str] = set()
"""Items of the plans that no data can show."""


@pytest.fixture
def checking(tmp_path: Path) -> Checking:
    return Checking(tmp_path)


def facts(outcome: CheckOutcome) -> tuple[bool, int]:
    return outcome.passed, outcome.count


FAILED_ONCE = (False, 1)

# --- legacy/exemption -------------------------------------------------------------------------------------------------

EXEMPTION = {
    "exemption_id": "1",
    "vendor_id": "5",
    "item_type": "COI",
    "item_name": "GL",
    "ExemptExpDate": "2027-05-01",
    "ExemptReason": "Sole proprietor",
    "ExemptReviewStatus": "COMPLIANT",
    "create_user_id": "9",
    "create_time": "2020-01-02 03:04:05",
}


def exemptions(checking: Checking, *rows: Mapping[str, str | None]) -> dict[str, CheckOutcome]:
    checking.legacy(
        "exemption", *({**EXEMPTION, "exemption_id": str(number), **row} for number, row in enumerate(rows, start=1))
    )
    return checking.outcomes("legacy", "exemption")


def test_sound_exemptions_pass_every_check(checking: Checking) -> None:
    document = {"item_type": " document", "item_name": "W9"}
    outcomes = exemptions(checking, {}, document, {"item_name": " gl "}, {"ExemptReviewStatus": "compliant"})
    assert [name for name, outcome in outcomes.items() if not outcome.passed] == []


@pytest.mark.parametrize(
    ("row", "check", "facts_shown"),
    [
        (
            {"ExemptExpDate": "2099-12-31 00:00:00"},
            "far_future_expiry_dates_are_listed_sentinels",
            {
                "unlisted": {"2099-12-31 00:00:00": 1},
                "examples": [{"key": "1", "ExemptExpDate": "2099-12-31 00:00:00"}],
            },
        ),
        ({"ExemptExpDate": "0000-00-00"}, "expiry_dates_can_be_read", {"values": {"0000-00-00": 1}}),
        ({"ExemptExpDate": "31.12.2027"}, "expiry_dates_can_be_read", {"values": {"31.12.2027": 1}}),
        ({"ExemptExpDate": "2027-02-30"}, "expiry_dates_can_be_read", {"values": {"2027-02-30": 1}}),
        ({"item_name": "Cyber "}, "coverage_names_are_mapped", {"names": {"Cyber": 1}, "rows": 1}),
        ({"item_name": None}, "coverage_names_are_mapped", {"names": {"NULL": 1}}),
        ({"item_type": "OTHER"}, "item_types_are_known", {"types": {"OTHER": 1}}),
        ({"item_type": None}, "item_types_are_known", {"types": {"NULL": 1}}),
        ({"ExemptReviewStatus": "PENDING"}, "review_statuses_are_mapped", {"statuses": {"PENDING": 1}}),
        ({"ExemptReviewStatus": None}, "review_statuses_are_mapped", {"statuses": {"NULL": 1}}),
        (
            {"ExemptReason": "Sole owner\t"},
            "reasons_have_no_trailing_white_space",
            {"examples": [{"key": "1", "ExemptReason": "S… (11 characters)"}]},
        ),
        (
            {"create_time": "0000-00-00 00:00:00"},
            "create_times_can_be_read",
            {"examples": [{"key": "1", "create_time": "0000-00-00 00:00:00"}]},
        ),
    ],
)
def test_an_exemption_that_breaks_one_rule_fails_one_check(
    checking: Checking, row: Mapping[str, str | None], check: str, facts_shown: WORDS
) -> None:
    outcomes = exemptions(checking, row)
    assert [name for name, outcome in outcomes.items() if not outcome.passed] == [check]
    assert outcomes[check].count == 1
    assert facts_shown.items() <= outcomes[check].metadata.items()


def test_sentinel_dates_are_found_and_do_not_fail(checking: Checking) -> None:
    dates = ("3000-01-01", "3000-01-01 00:00:00", "2050-06-30", "2049-12-31", None)
    outcome = exemptions(checking, *({"ExemptExpDate": date} for date in dates))[
        "far_future_expiry_dates_are_listed_sentinels"
    ]
    assert facts(outcome) == (True, 0)
    assert outcome.metadata["sentinels found"] == 3
    assert outcome.metadata["sentinel dates"]["2050-06-30"] == 1


def test_distinct_coverage_names_are_counted_not_their_rows(checking: Checking) -> None:
    names = ("Cyber", "Cyber ", "Flood", "GL")
    outcome = exemptions(checking, *({"item_name": name} for name in names))["coverage_names_are_mapped"]
    assert facts(outcome) == (False, 2)
    assert outcome.metadata["names"] == {"Cyber": 2, "Flood": 1}
    checking.value_map("coverage_type", *({"item_name": name} for name in ("gl", "CYBER", "Flood")))
    assert checking.outcomes("legacy", "exemption")["coverage_names_are_mapped"].passed


# --- prepared/ManualOverride, prepared/DocRequirement -----------------------------------------------------------------


def overrides(
    checking: Checking, links: Sequence[tuple[str, int, Sequence[str]]], **row: str | None
) -> dict[str, CheckOutcome]:
    """Migrated exemptions, each linked as (key, row, requirements groups)."""
    exemptions(checking, *([row] * len(links)))
    checking.prepared("DocRequirement")
    checking.prepared("ManualOverride", links=[("exemption", key, number, groups) for key, number, groups in links])
    return checking.outcomes("prepared", "ManualOverride")


def test_an_exemption_of_one_vendor_in_a_group_of_its_own_passes(checking: Checking) -> None:
    checking.crosswalk("user", {"9": 90})
    checking.groups((50, 7), (51, 8))
    outcomes = overrides(checking, [("1", 1, ["7"])])
    assert [name for name, outcome in outcomes.items() if not outcome.passed] == []


def test_a_group_with_other_members_widens_the_exemption(checking: Checking) -> None:
    checking.crosswalk("user", {"9": 90})
    checking.groups((50, 7), (51, 7), (52, 7), (50, 7), (50, 8))
    outcomes = overrides(checking, [("1", 1, ["7", "8"]), ("2", 2, ["8"])])
    widened = outcomes["exemptions_concern_one_vendor"]
    assert facts(widened) == FAILED_ONCE
    assert widened.metadata["examples"] == [{"key": "1", "vendor_id": "5", "group": "7", "other vendors": "2"}]
    several = outcomes["exemptions_have_one_group"]
    assert facts(several) == FAILED_ONCE
    assert several.metadata["examples"] == [{"key": "1", "vendor_id": "5", "groups": "2"}]


def test_users_who_are_not_found_are_counted_for_overrides(checking: Checking) -> None:
    checking.crosswalk("user", {"9": None, "10": 100})
    checking.groups((50, 7))
    exemptions(
        checking,
        {"create_user_id": "9"},
        {"create_user_id": "9.0"},
        {"create_user_id": "10"},
        {"create_user_id": None},
        {"create_user_id": "11", "item_type": "DOCUMENT"},
    )
    checking.prepared("DocRequirement")
    checking.prepared("ManualOverride")
    outcome = checking.outcomes("prepared", "ManualOverride")["users_are_found"]
    assert facts(outcome) == FAILED_ONCE
    assert outcome.metadata == {"distinct ids": 2, "without a match": 1, "rows": 2, "examples": ["9"]}


def documents(
    checking: Checking, *rows: Mapping[str, str | None], links: Sequence[tuple[str, int, Sequence[str]]] = ()
) -> dict[str, CheckOutcome]:
    exemptions(checking, *({"item_type": "DOCUMENT", "item_name": "W9", **row} for row in rows))
    checking.prepared("ManualOverride")
    checking.prepared("DocRequirement", links=[("exemption", key, number, ids) for key, number, ids in links])
    return checking.outcomes("prepared", "DocRequirement")


def test_document_exemptions_with_a_real_date_lose_their_expiry(checking: Checking) -> None:
    checking.groups((50, 7))
    checking.requirements((70, 7, "W9"), (71, 8, "W9"))
    rows = ({}, {"ExemptExpDate": "3000-01-01"}, {"ExemptExpDate": None}, {"ExemptExpDate": "2050-01-01"}, {})
    # The last one was not migrated: it is no one's problem.
    outcomes = documents(checking, *rows, links=[(str(number), number, ["70", "71"]) for number in range(1, 5)])
    outcome = outcomes["document_exemptions_keep_their_expiry"]
    assert facts(outcome) == FAILED_ONCE
    assert outcome.metadata["examples"] == [{"key": "1", "vendor_id": "5", "ExemptExpDate": "2027-05-01"}]
    outcomes = documents(checking, *rows, links=[("2", 2, ["70"])])
    assert outcomes["document_exemptions_keep_their_expiry"].passed


def test_groups_of_document_exemptions_are_those_of_their_requirements(checking: Checking) -> None:
    checking.groups((50, 7), (51, 7), (50, 8))
    checking.requirements((70, 7, "W9"), (71, 8, "W9"))
    outcomes = documents(checking, {}, {}, links=[("1", 1, ["70", "71"]), ("2", 2, ["71"])])
    assert outcomes["exemptions_concern_one_vendor"].metadata["examples"] == [
        {"key": "1", "vendor_id": "5", "group": "7", "other vendors": "1"}
    ]
    assert facts(outcomes["exemptions_have_one_group"]) == FAILED_ONCE


def test_document_names_are_those_that_a_group_asks_for(checking: Checking) -> None:
    checking.groups((50, 7))
    checking.requirements((70, 7, "W9"), (71, 7, "Business License"))
    known = ({"item_name": " w9"}, {"item_name": "Business Lic."}, {"item_type": "COI", "item_name": "Poem"})
    assert documents(checking, *known)["document_names_are_known"].passed
    outcome = documents(checking, *known, {"item_name": "Poem"}, {"item_name": "Poem "}, {"item_name": None})[
        "document_names_are_known"
    ]
    assert facts(outcome) == (False, 2)
    assert (outcome.metadata["names"], outcome.metadata["rows"]) == ({"Poem": 2, "NULL": 1}, 3)


# --- legacy/notification ----------------------------------------------------------------------------------------------

NOTIFICATION = {
    "notification_id": "1",
    "customer_id": "5",
    "type": "COI",
    "CRFRRSetting": "14",
    "CRSRRSetting": "14",
    "CEFERSetting": "30",
    "CEFERTiming": "Before",
    "send_hold": "HOLD",
    "dow_bitmap": "32",
    "user_id": "9",
    "create_time": "2020-01-02 03:04:05",
}


def notifications(checking: Checking, *rows: Mapping[str, str | None]) -> dict[str, CheckOutcome]:
    """Notification rows, each of a customer of its own unless it says otherwise."""
    checking.legacy(
        "notification",
        *(
            {**NOTIFICATION, "notification_id": str(number), "customer_id": str(number + 100), **row}
            for number, row in enumerate(rows, start=1)
        ),
    )
    return checking.outcomes("legacy", "notification")


TIMING = "timing_semantics_are_confirmed_by_people_and_data"
BIT_ORDER = "data_supports_the_chosen_dow_bit_order"


def test_sound_notifications_pass_every_check(checking: Checking) -> None:
    checking.choose(decisions(confirmed=["timing_semantics"]))
    outcomes = notifications(checking, {}, {"type": "document", "CRFRRSetting": "nonsense that no DOCUMENT row reads"})
    assert [name for name, outcome in outcomes.items() if not outcome.passed] == []


@pytest.mark.parametrize(
    ("row", "check", "facts_shown"),
    [
        ({"send_hold": "MAYBE"}, "send_hold_values_are_known", {"values": {"MAYBE": 1}}),
        ({"send_hold": None}, "send_hold_values_are_known", {"values": {"NULL": 1}}),
        ({"dow_bitmap": "128"}, "dow_bitmap_values_are_bitmaps", {"values": {"128": 1}}),
        ({"dow_bitmap": "-1"}, "dow_bitmap_values_are_bitmaps", {"values": {"-1": 1}}),
        ({"dow_bitmap": "Fri"}, "dow_bitmap_values_are_bitmaps", {"values": {"Fri": 1}}),
        ({"type": "FAX"}, "types_are_known", {"values": {"FAX": 1}}),
        ({"type": None}, "types_are_known", {"values": {"NULL": 1}}),
        ({"CRFRRSetting": "-1"}, "settings_are_days", {"settings": {"CRFRRSetting = -1": 1}}),
        ({"CNCSSetting": "3651"}, "settings_are_days", {"settings": {"CNCSSetting = 3651": 1}}),
        ({"CEFERSetting": "soon"}, "settings_are_days", {"settings": {"CEFERSetting = soon": 1}}),
        ({"type": "DOCUMENT", "DRFRRSetting": "1.5"}, "settings_are_days", {"settings": {"DRFRRSetting = 1.5": 1}}),
        ({"CEFERTiming": "During"}, "timings_are_before_or_after", {"timings": {"CEFERTiming = During": 1}}),
        ({"CEFERTiming": None}, "timings_are_before_or_after", {"timings": {"CEFERTiming = NULL": 1}}),
        (
            {"create_time": "yesterday"},
            "create_times_can_be_read",
            {"examples": [{"key": "1", "create_time": "yesterday"}]},
        ),
    ],
)
def test_a_notification_that_breaks_one_rule_fails_one_check(
    checking: Checking, row: Mapping[str, str | None], check: str, facts_shown: WORDS
) -> None:
    checking.choose(decisions(confirmed=["timing_semantics"]))
    outcomes = notifications(checking, row)
    assert [name for name, outcome in outcomes.items() if not outcome.passed] == [check]
    assert outcomes[check].count == 1
    assert facts_shown.items() <= outcomes[check].metadata.items()


def test_values_that_are_right_in_another_spelling_pass(checking: Checking) -> None:
    row = {"send_hold": " send", "dow_bitmap": "62.0", "type": "Coi ", "CRFRRSetting": "14.0", "CEFERTiming": "AFTER"}
    checking.choose(decisions(confirmed=["timing_semantics"]))
    outcomes = notifications(checking, row, {"dow_bitmap": None, "CEFERSetting": None, "CEFERTiming": "nonsense"})
    assert [name for name, outcome in outcomes.items() if not outcome.passed] == []


def test_the_variety_of_the_full_data_is_shown(checking: Checking) -> None:
    outcomes = notifications(checking, {}, {"send_hold": "SEND"}, {"type": "DOCUMENT", "dow_bitmap": None})
    assert outcomes["send_hold_values_are_known"].metadata["values"] == {"HOLD": 2, "SEND": 1}
    assert outcomes["dow_bitmap_values_are_bitmaps"].metadata["values"] == {"32": 2, "NULL": 1}
    assert outcomes["types_are_known"].metadata["values"] == {"COI": 2, "DOCUMENT": 1}


def test_a_customer_with_two_rows_of_a_type_fails(checking: Checking) -> None:
    same = {"customer_id": "5"}
    rows = (same, {**same, "type": "DOCUMENT"}, {**same, "type": None}, {**same, "type": None})
    assert notifications(checking, *rows)["customers_have_one_row_a_type"].passed
    outcome = notifications(checking, *rows, {"customer_id": "5.0", "type": "coi"})["customers_have_one_row_a_type"]
    assert facts(outcome) == FAILED_ONCE
    assert outcome.metadata["examples"] == ["5, coi"]


@pytest.mark.parametrize(
    ("bitmaps", "state"),
    [
        ({62: 10}, "sunday_first"),
        ({31: 10}, "monday_first"),
        ({32: 1}, "sunday_first"),
        ({42: 3, 36: 3, 21: 2}, "sunday_first"),
        ({62: 10, 31: 9}, "undecided"),
        ({0: 5, 127: 5, 64: 5, 2: 5}, "undecided"),
        ({33: 5, 99: 5, 128: 4, -1: 2}, "undecided"),
        ({}, "undecided"),
    ],
)
def test_which_order_of_the_bits_the_data_supports(bitmaps: dict[int, int], state: str) -> None:
    tally = pl.DataFrame(
        {"value": list(bitmaps), "rows": list(bitmaps.values())}, {"value": pl.Int64, "rows": pl.UInt32}
    )
    assert bit_order_evidence(tally).state == state


@pytest.mark.parametrize(
    ("bitmap", "order", "kept", "passed", "severity"),
    [
        ("62", "sunday_first", "send_days", True, "ERROR"),
        ("62", "monday_first", "send_days", False, "ERROR"),
        ("62", "monday_first", "accept_gap", False, "WARN"),
        ("31", "monday_first", "metadata", True, "ERROR"),
        ("31", "sunday_first", "metadata", False, "ERROR"),
        ("127", "sunday_first", "metadata", True, "ERROR"),
    ],
)
def test_the_chosen_order_of_the_bits_fails_where_the_data_contradicts_it(
    checking: Checking, bitmap: str, order: str, kept: str, passed: bool, severity: str
) -> None:
    checking.choose(decisions(dow_bit_order=order, dow_bitmap=kept))
    outcome = notifications(checking, {"dow_bitmap": bitmap}, {"dow_bitmap": bitmap})[BIT_ORDER]
    assert (outcome.passed, outcome.severity) == (passed, severity)
    assert outcome.count == (0 if passed else 2)


INCREASING = {"CRFRRSetting": "7", "CRSRRSetting": "14", "CRNRAlertSetting": "21", "CRRestartSetting": "28"}
SAMPLE = {"CRFRRSetting": "14", "CRSRRSetting": "14", "CRNRAlertSetting": "5", "CRRestartSetting": "30"}


@pytest.mark.parametrize(
    ("evidence", "supports"),
    [
        (TimingEvidence(100, 2, 0), "incremental"),
        (TimingEvidence(100, 1, 99), "undecided"),
        (TimingEvidence(100, 0, 95), "cumulative"),
        (TimingEvidence(100, 0, 94), "undecided"),
        (TimingEvidence(0, 0, 0), "undecided"),
    ],
)
def test_what_settings_say_about_their_meaning(evidence: TimingEvidence, supports: str) -> None:
    assert evidence.supports == supports


@pytest.mark.parametrize(
    ("row", "chosen", "confirmed", "fails_at", "supports"),
    [
        (SAMPLE, "incremental", True, None, "incremental"),
        (SAMPLE, "incremental", False, "ERROR", "incremental"),
        (SAMPLE, "cumulative", True, "ERROR", "incremental"),
        (INCREASING, "cumulative", True, None, "cumulative"),
        (INCREASING, "incremental", True, "WARN", "cumulative"),
        (INCREASING, "incremental", False, "ERROR", "cumulative"),
        ({}, "cumulative", True, None, "undecided"),
        ({}, "cumulative", False, "ERROR", "undecided"),
    ],
)
def test_timing_semantics_need_people_and_data(
    checking: Checking, row: Mapping[str, str | None], chosen: str, confirmed: bool, fails_at: str | None, supports: str
) -> None:
    checking.choose(decisions(confirmed=["timing_semantics"] if confirmed else [], timing_semantics=chosen))
    outcome = notifications(checking, row)[TIMING]
    assert outcome.metadata["the data supports"] == supports
    assert outcome.passed is (fails_at is None)
    assert outcome.passed or (outcome.severity == fails_at and outcome.count > 0)


def test_chains_are_read_for_the_type_that_has_them_and_null_settings_are_passed_over(checking: Checking) -> None:
    gap = {"CRFRRSetting": "14", "CRSRRSetting": None, "CRNRAlertSetting": "5"}
    single = {"CRFRRSetting": "14", "CRSRRSetting": None}
    outcome = notifications(
        checking, gap, single, {**gap, "type": "DOCUMENT", "DRFRRSetting": "1", "DRSRRSetting": "2"}
    )[TIMING]
    assert outcome.metadata["by chain"]["coi_request"] == {"chains": 1, "falling": 1, "rising": 0}
    assert outcome.metadata["by chain"]["document_request"] == {"chains": 1, "falling": 0, "rising": 1}


# --- prepared/NotificationSchedule ------------------------------------------------------------------------------------


def test_users_who_are_not_found_are_counted_for_schedules(checking: Checking) -> None:
    checking.legacy("notification_webhook")
    notifications(checking, {"user_id": "9"}, {"user_id": None})
    checking.prepared("NotificationSchedule")
    checking.crosswalk("user", {"9": 90})
    assert checking.outcomes("prepared", "NotificationSchedule")["users_are_found"].passed
    checking.crosswalk("user", {})
    outcome = checking.outcomes("prepared", "NotificationSchedule")["users_are_found"]
    assert facts(outcome) == FAILED_ONCE
    assert outcome.metadata["examples"] == ["9"]


# --- legacy/notification_lookup ---------------------------------------------------------------------------------------

LOOKUP = {"customer_id": "5", "coi_notification_id": "1", "doc_notification_id": "2"}


def lookups(checking: Checking, *rows: Mapping[str, str | None]) -> dict[str, CheckOutcome]:
    """Lookup rows beside COI row 1 and DOCUMENT row 2 of customer 5, and COI row 3 of customer 6."""
    notifications(
        checking,
        {"customer_id": "5"},
        {"customer_id": "5", "type": "DOCUMENT", "send_hold": "SEND"},
        {"customer_id": "6"},
    )
    checking.legacy("notification_lookup", *({**LOOKUP, **row} for row in rows))
    return checking.outcomes("legacy", "notification_lookup")


def test_a_lookup_row_that_agrees_passes_every_check(checking: Checking) -> None:
    agreeing = {"coi_send_hold": " hold", "doc_send_hold": "SEND", "coi_notification_id": "1.0"}
    outcomes = lookups(
        checking, agreeing, {"customer_id": "6", "coi_notification_id": "3", "doc_notification_id": None}
    )
    assert [name for name, outcome in outcomes.items() if not outcome.passed] == []
    agreement = outcomes["send_hold_overrides_agree_with_notification"]
    assert agreement.metadata["notification rows with an override"] == 2


@pytest.mark.parametrize(
    ("row", "check", "example"),
    [
        ({"coi_notification_id": "99"}, "named_notifications_exist", {"named for": "coi", "notification_id": "99"}),
        ({"doc_notification_id": "x"}, "named_notifications_exist", {"named for": "document", "notification_id": "x"}),
        (
            {"coi_notification_id": "3"},
            "named_notifications_are_the_customers_own",
            {"named for": "coi", "notification_id": "3", "of customer": "6", "of type": "coi"},
        ),
        (
            {"doc_notification_id": "1"},
            "named_notifications_are_the_customers_own",
            {"named for": "document", "notification_id": "1", "of customer": "5", "of type": "coi"},
        ),
        (
            {"coi_send_hold": "SEND"},
            "send_hold_overrides_agree_with_notification",
            {"key": "1", "send_hold": "HOLD", "override": "SEND"},
        ),
    ],
)
def test_a_lookup_row_that_breaks_one_rule_fails_one_check(
    checking: Checking, row: Mapping[str, str | None], check: str, example: Mapping[str, str]
) -> None:
    outcomes = lookups(checking, row)
    assert [name for name, outcome in outcomes.items() if not outcome.passed] == [check]
    assert outcomes[check].count == 1
    assert example.items() <= outcomes[check].metadata["examples"][0].items()


def test_overrides_that_are_no_send_hold_are_errors_only_where_they_count(checking: Checking) -> None:
    outcome = lookups(checking, {"doc_send_hold": "LATER"})["send_hold_overrides_are_known"]
    assert (facts(outcome), outcome.severity) == (FAILED_ONCE, None)
    checking.choose(decisions(send_hold_override="notification_only"))
    outcome = checking.outcomes("legacy", "notification_lookup")["send_hold_overrides_are_known"]
    assert (facts(outcome), outcome.severity) == (FAILED_ONCE, "WARN")


def test_of_several_lookup_rows_the_last_one_is_compared(checking: Checking) -> None:
    outcomes = lookups(checking, {"coi_send_hold": "SEND"}, {"customer_id": "5.0", "coi_send_hold": "HOLD"})
    several = outcomes["customers_have_one_lookup_row"]
    assert (facts(several), several.metadata["examples"]) == (FAILED_ONCE, ["5"])
    assert outcomes["send_hold_overrides_agree_with_notification"].passed


# --- legacy/notification_audit ----------------------------------------------------------------------------------------


def test_restart_columns_of_the_audit_table(checking: Checking) -> None:
    checking.legacy("notification_audit")
    outcome = checking.outcomes("legacy", "notification_audit")["restart_columns_are_there"]
    assert facts(outcome) == (False, 3)
    assert outcome.metadata["missing"] == ["CRRestartSetting", "CERestartSetting", "CNCRestartSetting"]
    checking.legacy("notification_audit", columns=list(NOTIFICATION) + outcome.metadata["missing"])
    assert checking.outcomes("legacy", "notification_audit")["restart_columns_are_there"].passed


# --- legacy/notification_webhook --------------------------------------------------------------------------------------


def php(*addresses: str) -> str:
    items = "".join(f'i:{place};s:{len(text.encode())}:"{text}";' for place, text in enumerate(addresses))
    return f"a:{len(addresses)}:{{{items}}}"


def webhooks(checking: Checking, *rows: Mapping[str, str | None]) -> dict[str, CheckOutcome]:
    row = {"type": "COI", "selector": "NONCOMP", "webhook": php("anna@example.com")}
    checking.legacy(
        "notification_webhook",
        *({"customer_id": str(number), **row, **own} for number, own in enumerate(rows, start=1)),
    )
    return checking.outcomes("legacy", "notification_webhook")


def test_sound_webhooks_pass_every_check(checking: Checking) -> None:
    empty = ({"webhook": value} for value in (None, "", "N;", "a:0:{}"))
    outcomes = webhooks(checking, {}, {"selector": " noncomp"}, {"webhook": 's:10:" B@exa.org";'}, *empty)
    assert [name for name, outcome in outcomes.items() if not outcome.passed] == []
    assert outcomes["php_values_can_be_read"].metadata["empty values"] == 4


def test_php_values_that_cannot_be_read_are_told_apart_without_their_content(checking: Checking) -> None:
    broken = ('a:1:{i:0;s:99:"secret@example.com";}', "secret@example.com", 'O:8:"stdClass":0:{}', php("a@b.org") + "x")
    outcome = webhooks(checking, *({"webhook": value} for value in broken), {})["php_values_can_be_read"]
    assert facts(outcome) == (False, 4)
    assert sum(outcome.metadata["why"].values()) == 4
    assert "secret" not in json.dumps(outcome.metadata)


def test_selectors_without_a_mapping_are_listed_with_their_rows(checking: Checking) -> None:
    outcomes = webhooks(checking, {}, {"selector": "WELCOME"}, {"selector": "WELCOME "}, {"selector": None})
    outcome = outcomes["selectors_are_mapped"]
    assert facts(outcome) == (False, 2)
    assert (outcome.metadata["unmapped"], outcome.metadata["rows"]) == ({"WELCOME": 2, "NULL": 1}, 3)
    assert outcome.metadata["all"]["NONCOMP"] == 1


def test_webhooks_of_unknown_type(checking: Checking) -> None:
    outcome = webhooks(checking, {}, {"type": "FAX"}, {"type": None})["types_are_known"]
    assert facts(outcome) == (False, 2)
    assert outcome.metadata["types"] == {"COI": 1, "FAX": 1, "NULL": 1}


@pytest.mark.parametrize(
    ("value", "count", "severity"),
    [
        (php("anna@example.com", "nobody at all"), 1, None),
        ('a:2:{i:0;s:5:"a@b.c";i:1;i:5;}', 1, None),
        (php("nobody at all"), 1, "ERROR"),
        ("a:1:{i:0;a:0:{}}", 0, "ERROR"),
    ],
)
def test_invalid_addresses_warn_and_rows_without_a_valid_one_are_errors(
    checking: Checking, value: str, count: int, severity: str | None
) -> None:
    outcomes = webhooks(checking, {"webhook": value}, {})
    outcome = outcomes["addresses_are_valid"]
    assert (outcome.passed, outcome.count, outcome.severity) == (False, count, severity)
    assert "nobody" not in json.dumps(outcome.metadata)
    assert outcomes["php_values_can_be_read"].passed


# --- legacy/letter ----------------------------------------------------------------------------------------------------

LETTER = {
    "customer_id": "5",
    "type": "COI",
    "selector": "EXPIRED",
    "subject": "__SUBJECT__",
    "letter_body": "<p>Dear __PH_NAME__, look at __DATE____SO_NAME__</p>",
    "edit_time": "2020-01-02 03:04:05",
}


def letters(checking: Checking, *rows: Mapping[str, str | None], **landing: Any) -> dict[str, CheckOutcome]:
    checking.legacy(
        "letter",
        *({**LETTER, "customer_id": str(number), **row} for number, row in enumerate(rows, start=1)),
        **landing,
    )
    return checking.outcomes("legacy", "letter")


def confirm_macros(checking: Checking, *names: str, confirmed_by: str | None = "DTX 2.0 team") -> None:
    checking.value_map("placeholders", *({"macro": name, "confirmed_by": confirmed_by} for name in names))


def test_sound_letters_pass_every_check(checking: Checking) -> None:
    confirm_macros(checking, "SUBJECT", "ph_name", "DATE", "SO_NAME")
    outcomes = letters(checking, {}, {"subject": None, "edit_time": None, "letter_body": "Favor de enviar"})
    assert [name for name, outcome in outcomes.items() if not outcome.passed] == []
    assert outcomes["macros_are_listed"].metadata["macros"] == {"DATE": 1, "PH_NAME": 1, "SO_NAME": 1, "SUBJECT": 1}
    assert outcomes["letters_are_in_one_language"].metadata["languages"] == {"en": 1, "es": 1}


@pytest.mark.parametrize(
    ("row", "check", "facts_shown"),
    [
        ({"letter_body": "__SECRET_WORD__"}, "macros_are_listed", {"unlisted": {"SECRET_WORD": 1}}),
        ({"letter_body": "<style>p { color: red }</style>"}, "bodies_have_no_literal_braces", {}),
        ({"letter_body": "Favor de enviar. Please send it."}, "letters_are_in_one_language", {"decision": "tag_es"}),
        ({"type": None}, "type_selector_and_body_are_there", {}),
        ({"selector": None}, "type_selector_and_body_are_there", {}),
        ({"letter_body": None}, "type_selector_and_body_are_there", {}),
        ({"edit_time": "2020-13-01 00:00:00"}, "edit_times_can_be_read", {}),
        ({"letter_body": "a\x00b"}, "subjects_and_bodies_are_clean_text", {}),
        ({"subject": "a\x00b"}, "subjects_and_bodies_are_clean_text", {}),
        ({"addl_email": "anna@example.com"}, "dropped_columns_are_empty", {}),
        ({"name": "Anna"}, "dropped_columns_are_empty", {}),
    ],
)
def test_a_letter_that_breaks_one_rule_fails_one_check(
    checking: Checking, row: Mapping[str, str | None], check: str, facts_shown: WORDS
) -> None:
    confirm_macros(checking, "SUBJECT", "PH_NAME", "DATE", "SO_NAME")
    outcomes = letters(checking, row)
    failed = [name for name, outcome in outcomes.items() if not outcome.passed]
    # A macro that is not listed cannot have been confirmed either.
    assert failed == [check, "macros_are_confirmed_as_supported"] if check == "macros_are_listed" else [check]
    assert outcomes[check].count == 1
    assert facts_shown.items() <= outcomes[check].metadata.items()
    assert "anna@" not in json.dumps(outcomes[check].metadata)
    assert "color" not in json.dumps(outcomes[check].metadata)


def test_a_macro_that_no_one_confirmed_blocks(checking: Checking) -> None:
    outcome = letters(checking, {})["macros_are_confirmed_as_supported"]
    assert facts(outcome) == (False, 4)
    confirm_macros(checking, "SUBJECT", "PH_NAME", "DATE", "SO_NAME", confirmed_by=" ")
    assert facts(checking.outcomes("legacy", "letter")["macros_are_confirmed_as_supported"]) == (False, 4)
    confirm_macros(checking, "SUBJECT", "PH_NAME")
    outcome = checking.outcomes("legacy", "letter")["macros_are_confirmed_as_supported"]
    assert outcome.metadata["not confirmed"] == {"DATE": 1, "SO_NAME": 1}


def test_undecodable_bytes_matter_in_subject_and_body_only(checking: Checking) -> None:
    assert letters(checking, {}, undecodable={1: ["name"]})["subjects_and_bodies_are_clean_text"].passed
    outcome = letters(checking, {}, {}, undecodable={2: ["name", "letter_body"]})["subjects_and_bodies_are_clean_text"]
    assert facts(outcome) == FAILED_ONCE
    assert outcome.metadata["examples"][0]["type"] == "COI"


def test_letters_that_share_a_key_and_those_that_share_account_name_and_language(checking: Checking) -> None:
    outcome = letters(checking, {}, {"customer_id": "1"})["natural_key_is_unique"]
    assert facts(outcome) == FAILED_ONCE
    checking.prepared("EmailTemplate", rejected=[("letter", "1", ["orphan_reference"], False, "")])
    name = "letters_share_no_account_name_and_language"
    assert checking.outcomes("rejected", "EmailTemplate")[name].passed
    duplicates = [("letter", "1", ["duplicate_key"], False, ""), ("letter", "2", ["duplicate_key"], True, "")]
    checking.prepared("EmailTemplate", rejected=duplicates)
    assert facts(checking.outcomes("rejected", "EmailTemplate")[name]) == (False, 2)


# --- mapping/account --------------------------------------------------------------------------------------------------


def test_customers_that_share_an_account(checking: Checking) -> None:
    for table, _ in crosswalk_users(SYSTEM, "account"):
        checking.legacy(table)
    checking.crosswalk("account", {"1": 10, "2": 20, "3": None, "4": None})
    assert checking.outcomes("mapping", "account")["accounts_have_one_customer"].passed
    checking.crosswalk("account", {"1": 10, "2": 20, "3": 10})
    outcome = checking.outcomes("mapping", "account")["accounts_have_one_customer"]
    assert facts(outcome) == FAILED_ONCE
    assert outcome.metadata["examples"] == [{"key": "10", "customers": "1, 3", "number": "2"}]


# --- all of them ------------------------------------------------------------------------------------------------------


def test_every_group_is_small_enough_for_the_ui_and_named_once() -> None:
    assets = [group.asset for group in CHECK_GROUPS]
    assert len(assets) == len(set(assets))
    assert max(len(group.specs) for group in CHECK_GROUPS) <= 20
    for group in CHECK_GROUPS:
        names = [spec.name for spec in group.specs]
        assert len(names) == len(set(names))
        assert all(spec.asset == group.asset and spec.description.endswith((".", "_id")) for spec in group.specs)
        # Structure is the only thing Dagster itself blocks on, and what blocks is an error.
        assert all(spec.blocking for spec in group.specs if spec.structure)
        assert all(spec.severity == "ERROR" for spec in group.specs if spec.blocking)


def test_every_known_issue_and_action_of_the_plans_is_covered() -> None:
    plan = {action.id for action in DECISIONS.actions} | {issue.id for issue in DECISIONS.known_issues}
    assert set(covers(SYSTEM)) == plan - NOT_ABOUT_DATA


def test_every_check_that_covers_the_plan_exists_and_says_which_item() -> None:
    specs = {f"{'/'.join(spec.asset)}:{spec.name}": spec for group in CHECK_GROUPS for spec in group.specs}
    covered = covers(SYSTEM)
    assert {check for checks in covered.values() for check in checks} <= set(specs)
    for plan_id in (action.id for action in DECISIONS.actions):
        area, number = plan_id.split("-")
        assert all(f"{area} pre-migration action {number}" in specs[check].description for check in covered[plan_id])
    for plan_id in ("A8-K1", "A8-K2", "A8-K3", "A8-K4", "A8-K6", "A8-K8", "A8-K9", "A11-K1", "A11-K2", "A11-K4"):
        assert f"known issue {plan_id.split('-K')[1]}" in specs[covered[plan_id][0]].description
    for plan_id in ("A11-K5", "A11-K6", "A11-K7", "A11-K8", "A11-K9"):
        assert f"known issue {plan_id.split('-K')[1]}" in specs[covered[plan_id][0]].description


def test_outcomes_are_metadata_that_dagster_takes(checking: Checking) -> None:
    """One key that is no text, or one number that is Polars' own, and the event cannot be written."""
    for outcomes in (
        notifications(checking, {}, {"CRFRRSetting": "x", "send_hold": "?", "type": None}),
        exemptions(checking, {}, {"item_name": "Cyber", "ExemptReason": "a "}),
        letters(checking, {}, {"letter_body": "{}"}),
        webhooks(checking, {}, {"webhook": "x"}, {"webhook": php("x")}),
        lookups(checking, {"coi_send_hold": "SEND"}, {"coi_notification_id": "99"}),
    ):
        for name, outcome in outcomes.items():
            result = dg.AssetCheckResult(
                passed=outcome.passed, check_name=name, metadata={"count": outcome.count, **outcome.metadata}
            )
            assert result.metadata["count"] == dg.IntMetadataValue(outcome.count)
            json.dumps(outcome.metadata)


def test_a_table_of_several_files_gives_the_same_outcomes(tmp_path: Path) -> None:
    rows = [
        {"send_hold": "?", "dow_bitmap": "62"},
        {},
        {"CRFRRSetting": "x"},
        {"type": "DOCUMENT", "customer_id": "101"},
    ]
    whole = notifications(Checking(tmp_path / "one"), *rows)
    assert notifications(Checking(tmp_path / "many", parts=4), *rows) == whole
