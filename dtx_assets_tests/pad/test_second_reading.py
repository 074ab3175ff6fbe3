"""The second reading reads the trickiest sentences of the contract as they stand there."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from dtx_assets_tests.pad.second_reading import (
    APPROVAL,
    AUDIT,
    EXECUTION,
    REQUEST,
    Inputs,
    Rejected,
    Result,
    Unreadable,
    Value,
    instant,
    migrate,
    rounded_quotient,
)
from dtx_assets_tests.pad.ugly import CLEAN, CURRENCIES, CUTOVER_AT, EMPLOYEES, SECURITIES


def migrated(*changes: dict[str, Value], timezone: str = "UTC", **decisions: str) -> Result:
    """What becomes of sound rows with these changes."""
    rows = [{**CLEAN, "id": str(number), **each} for number, each in enumerate(changes, 1)]
    return migrate(Inputs(rows, EMPLOYEES, SECURITIES, CURRENCIES, CUTOVER_AT, timezone, decisions=decisions))


def test_two_times_of_one_clock():
    """ "of a time that occurs twice the earlier one counts, one that the zone skips is read an hour later" """
    assert instant("2024-10-27 01:30:00", "Europe/London") == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    assert instant("2024-03-31 01:30:00", "Europe/London") == datetime(2024, 3, 31, 1, 30, tzinfo=UTC)
    assert instant("2024-03-31 02:30:00", "Europe/London") == datetime(2024, 3, 31, 1, 30, tzinfo=UTC)


def test_a_fraction_is_cut():
    """ "a fraction or none (cut after six digits)" """
    assert instant("2024-01-01T00:00:00.1234567+0100", "UTC") == datetime(2023, 12, 31, 23, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize("value", ["2024-01-01Z", "2024-01-01 00:00", "0000-00-00", "2024-01-01 00:00:00+25"])
def test_other_forms_are_no_times(value):
    """ "Else, zero dates included, `unparseable`" """
    with pytest.raises(Unreadable):
        instant(value, "UTC")


def test_a_price_is_rounded_once():
    """ "exactly, then rounded half away from zero to the column's scale" """
    assert rounded_quotient(Decimal("0.00005"), Decimal(1), 4) == Decimal("0.0001")
    assert rounded_quotient(Decimal("-0.00005"), Decimal(1), 4) == Decimal("-0.0001")
    assert rounded_quotient(Decimal("0.00014999999999999999999999999999999999"), Decimal(3), 4) == Decimal(0)
    assert rounded_quotient(Decimal(1), Decimal(3), 4) == Decimal("0.3333")


def test_hundredths_are_not_whole_ones():
    """ "but never for two capitals and a small letter: `GBp` is a hundredth of `GBP`" """
    result = migrated(*({"currency": code} for code in ("GBp", "gbp", "SEk", "cnh")))
    assert [row["currency"] for row in result.rows[REQUEST].values()] == ["GBp", "GBP", "SEk", "cnh"]
    assert result.accounting[REQUEST].coerced == {"currency_spelling": 1}


def test_narrowing_asks_for_one_alone():
    """ "the one that alone among them has the request's `isin`, else `sedol`, else `bloomberg`" """
    result = migrated(
        {"inst_symbol": "VOD", "isin": "us92857w3088"},
        {"inst_symbol": "BP", "isin": "GB0007980591", "sedol": "0798060"},
        {"inst_symbol": "HSBA", "isin": "GB0005405286", "sedol": "0540528", "bloomberg": "HSBA HK Equity"},
        {"inst_symbol": "TWIN", "isin": "GB00000TWIN1"},
        ambiguous_security="narrow",
    )
    assert [row["security_id"] for row in result.rows[REQUEST].values()] == [103, 105, 107]
    assert result.rejected[REQUEST] == [Rejected("4", ("no_matching_row",), partial=False)]


def test_by_identifiers_takes_the_first_that_one_row_has():
    """ "by the first of `isin`, `sedol`, `bloomberg`, `ticker` that the request has and exactly one row has too" """
    result = migrated(
        {"inst_symbol": None, "isin": "GB0000000NIL", "sedol": "nil0002"},
        {"inst_symbol": "OLD", "isin": None, "ticker": "OLD"},
        {"inst_symbol": None, "isin": None},
        unknown_security="by_identifiers",
    )
    assert [row["security_id"] for row in result.rows[REQUEST].values()] == [114, None, None]
    assert result.accounting[REQUEST].coerced == {"security_by_identifier": 1, "security_not_found": 1}


def test_skipped_parts_are_not_looked_at():
    """ "under `skip` there is no such part, whatever else is wrong with it" """
    undecided = {"status_manager": "pending", "auth_manager": "99", "auth_manager_date": "soon"}
    result = migrated(undecided, {**undecided, "auth_compliance": None}, undecided_approval="skip")
    assert list(result.rows[APPROVAL]) == [("1", "compliance")]
    assert result.accounting[APPROVAL].dropped == {"undecided": 1}
    assert result.rejected[APPROVAL] == []


def test_an_approval_and_its_entry_stand_or_fall_together():
    """ "An approval and its audit entry stand or fall together, for the same reasons." """
    result = migrated({"auth_manager": "99", "auth_manager_date": None, "auth_compliance": "98"})
    assert result.rejected[APPROVAL] == [Rejected("1", ("orphan_reference", "schema_violation"), partial=False)]
    assert result.rejected[AUDIT] == [
        Rejected("1", ("orphan_reference", "schema_violation"), partial=True),
        Rejected("1", ("orphan_reference",), partial=True),
    ]
    assert list(result.rows[AUDIT]) == [("1", "request_submitted")]


def test_what_was_not_executed_is_dropped_before_the_parent_is_looked_at():
    """ "The first line that applies counts" """
    nothing = {"two_business_days_execution_yn": None, "contract_notes_received_yn": " ", "auth_manager": None}
    result = migrated({**nothing, "auth_compliance": None, "buysell": None})
    assert result.accounting[EXECUTION].dropped == {"not_executed": 1}
    assert result.accounting[APPROVAL].dropped == {"no_approval": 1}
    assert result.rejected[AUDIT] == [Rejected("1", ("parent_rejected",), partial=False)]


def test_a_leaver_s_request_is_closed_on_the_day_or_when_it_was_made():
    """ "the start of that day of `end_date` there, or `created_at` where that is later" """
    opened = {"status": "request", "employee": "11"}
    result = migrated(
        {**opened, "requested_date": "2024-01-01"},
        {**opened, "requested_date": "2026-05-01"},
        {**opened, "employee": "9"},
        timezone="America/New_York",
        leavers_open_requests="soft_delete",
    )
    assert [row["deleted_at"] for row in result.rows[REQUEST].values()] == [
        datetime(2026, 3, 29, 4, tzinfo=UTC),
        datetime(2026, 5, 1, 4, tzinfo=UTC),
        None,  # At the cutover it is still the 20th in New York.
    ]


def test_a_loser_s_children_have_a_rejected_parent():
    """ "A row beaten by a later one of the same id has `duplicate_key` beside its other reasons" """
    result = migrated({"id": "7", "buysell": None}, {"id": "7.0"}, {"id": "7.0"})
    assert result.rejected[REQUEST] == [Rejected("7", ("duplicate_key", "unmapped_value"), partial=False)]
    assert result.rejected[APPROVAL] == [Rejected("7", ("parent_rejected",), partial=False)]
    assert result.accounting[REQUEST].dropped == {"identical": 1}
    assert list(result.rows[REQUEST]) == [("7", "")]


def test_legacy_texts_are_kept_as_they_came():
    """ "column → text as it came […] without those that are NULL (1.2)" """
    (row,) = (
        migrated(
            {"name": "", "holding_period_yn": " ", "extra": "", "status": " Approved "},
            compliance_assessment="with_legacy",
        )
        .rows[REQUEST]
        .values()
    )
    assert row["compliance_assessment"] == {
        "legacy": {
            "name": "",
            "inst_symbol": "AAPL",
            "status": " Approved ",
            "status_manager": "approved",
            "status_compliance": "approved",
            "is_deleted_yn": "N",
            "contract_notes_received_yn": "1",
            "extra": "",
        }
    }
