"""The rules of section 4.3, each broken or met by rows of its own."""

from datetime import UTC, datetime

import pytest

from dtx_assets_tests.dtx.running import by, exemption, reasons

OVERRIDE, REQUIREMENT = "ManualOverride", "DocRequirement"
BOOKS = {model: ("exemption", model) for model in (OVERRIDE, REQUIREMENT)}


def document(number=1, vendor=1, **changes):
    return exemption(number, vendor, **{"item_type": "DOCUMENT", "item_name": "W-9", **changes})


def overrides_of(migration, column, *values, **options):
    """Each value in a COI exemption, with ids from 1 on."""
    rows = [{**exemption(number), column: value} for number, value in enumerate(values, 1)]
    return migration.run({"exemption": rows}, **options)


def documents_of(migration, column, *values, **options):
    """Each value in a DOCUMENT exemption of vendor 1, with ids from 1 on."""
    rows = [{**document(number), column: value} for number, value in enumerate(values, 1)]
    return migration.run({"exemption": rows}, **options)


def migrated(result, model=OVERRIDE):
    """Keys of the migrated rows."""
    return sorted({key for target, _, key, _ in result.links if target == model}, key=int)


def notes(result):
    return by(result.rows[REQUIREMENT], "id", "exemption_note")


# --- COI → ManualOverride ---------------------------------------------------------------------------------------------


def test_a_coi_exemption_becomes_an_override(migration):
    row = exemption(
        item_name=" boiler AND machinery ",
        ExemptReason="  Small job \n",
        ExemptExpDate="2027-06-30",
        ExemptReviewStatus="compliant",
        requirements_id="1.0",
    )
    result = migration.run({"exemption": [row]})
    assert result.rows[OVERRIDE] == [
        {
            "requirements_group_id": 301,
            "coi_risk_profile_id": 401,
            "coverage_type": "PropertyCoverage",
            "coverage_subtype": "Boiler and Machinery",
            "item_key": None,
            "reason": "  Small job",
            "status": "approved",
            "expires_at": datetime(2027, 6, 30, tzinfo=UTC),
            "approved_by_id": 11,
            "approved_at": datetime(2020, 2, 29, 12, 34, 56, tzinfo=UTC),
        }
    ]
    assert result.rows[REQUIREMENT] == []
    assert result.accounting[BOOKS[OVERRIDE]].coerced == {"trimmed": 1}


def test_an_exemption_is_one_override_for_each_group_of_the_vendor(migration):
    result = migration.run({"exemption": [exemption(1, 2), exemption(2, 1), exemption(3, 4)]})
    assert sorted(row["requirements_group_id"] for row in result.rows[OVERRIDE]) == [301, 301, 302, 303]
    assert result.accounting[BOOKS[OVERRIDE]].migrated == 3


def test_no_record_or_no_group_is_an_orphan(migration):
    vendors = (3, 5, 6, None, "x", "", "1.0")
    rows = [exemption(number, vendor) for number, vendor in enumerate(vendors, 1)]
    result = migration.run({"exemption": rows})
    assert reasons(result, OVERRIDE) == {str(number): ["orphan_reference"] for number in range(1, 7)}
    assert migrated(result) == ["7"]
    assert "no record" in result.details["exemption", "3"][0]
    assert "no requirements group" in result.details["exemption", "1"][0]


COVERAGES = {
    "GL": ("GeneralLiability", None, None),
    "Auto": ("AutoLiability", None, None),
    "WC": ("WorkersCompensation", None, None),
    "UMB": ("UmbrellaLiability", None, None),
    "Professional Liability": ("OtherCoverage", "Professional Liability", None),
    "Boiler and Machinery": ("PropertyCoverage", "Boiler and Machinery", None),
    "EPLI": ("OtherCoverage", "EPLI", None),
    "Business Personal Property": ("PropertyCoverage", "Business Personal Property", None),
    "Business Income": ("PropertyCoverage", "Business Income", None),
    "Primary & Non-Contributory": ("GeneralLiability", None, "primary_non_contributory"),
}


@pytest.mark.parametrize("spell", [str, str.lower, "\t{} ".format])
def test_the_ten_coverages(migration, spell):
    result = overrides_of(migration, "item_name", *map(spell, COVERAGES))
    found = {(row["coverage_type"], row["coverage_subtype"], row["item_key"]) for row in result.rows[OVERRIDE]}
    assert found == set(COVERAGES.values())
    assert len(result.rows[OVERRIDE]) == 10


def test_another_coverage_is_unmapped(migration):
    result = overrides_of(migration, "item_name", "Cyber", "", None, "W-9", "G L", "GL\0", b"GL\xff")
    assert reasons(result, OVERRIDE) == {str(number): ["unmapped_value"] for number in range(1, 8)}


def test_the_risk_profile_is_null_or_one_that_is_there(migration):
    result = overrides_of(migration, "requirements_id", "1", None, "", "2", "3", "x")
    assert [row["coi_risk_profile_id"] for row in result.rows[OVERRIDE]] == [401, None, None]
    assert reasons(result, OVERRIDE) == {key: ["orphan_reference"] for key in "456"}


@pytest.mark.parametrize("of", [overrides_of, documents_of])
def test_only_compliant_is_a_status(migration, of):
    model = OVERRIDE if of is overrides_of else REQUIREMENT
    result = of(migration, "ExemptReviewStatus", " compliant ", "PENDING", "", None)
    assert migrated(result, model) == ["1"]
    assert reasons(result, model) == {key: ["unmapped_value"] for key in "234"}


def test_a_reason_loses_the_blanks_at_its_end_and_null_is_empty(migration):
    result = overrides_of(migration, "ExemptReason", "a", " a \n\t", "", "  ", None, "NULL", "b\u00a0")
    assert [row["reason"] for row in result.rows[OVERRIDE]] == ["a", " a", "", "", "", "", "b"]
    assert result.accounting[BOOKS[OVERRIDE]].coerced == {"trimmed": 3}


@pytest.mark.parametrize("of", [overrides_of, documents_of])
@pytest.mark.parametrize("dialect", ["csv", "database"])
def test_a_reason_that_is_no_text_is_unparseable(migration, of, dialect):
    model = OVERRIDE if of is overrides_of else REQUIREMENT
    result = of(migration, "ExemptReason", "a\0b", b"caf\xe9", "café", dialect=dialect)
    assert reasons(result, model) == {"1": ["unparseable"], "2": ["unparseable"]}
    assert result.details["exemption", "1"][1]["ExemptReason"] == r"a\x00b"
    assert result.details["exemption", "2"][1]["ExemptReason"] == r"caf\xe9"


def test_who_approved_and_when(migration):
    result = overrides_of(migration, "create_user_id", "1", "2", "x", None, "")
    assert [row["approved_by_id"] for row in result.rows[OVERRIDE]] == [11, None, None, None, None]
    assert result.accounting[BOOKS[OVERRIDE]].coerced == {"user_not_found": 2}
    result = overrides_of(migration, "create_time", "0000-00-00 00:00:00", "soon", None)
    assert [row["approved_at"] for row in result.rows[OVERRIDE]] == [None, None, None]
    assert result.accounting[BOOKS[OVERRIDE]].coerced == {"zero_date": 1, "invalid_time": 1}


# --- dates ------------------------------------------------------------------------------------------------------------

REAL = {
    "2020-01-31": datetime(2020, 1, 31, tzinfo=UTC),
    "2049-12-31 00:00:00": datetime(2049, 12, 31, tzinfo=UTC),
    "2051-01-01": datetime(2051, 1, 1, tzinfo=UTC),
    "2999-12-31": datetime(2999, 12, 31, tzinfo=UTC),
    "3000-01-02": datetime(3000, 1, 2, tzinfo=UTC),
    "9999-12-31": datetime(9999, 12, 31, tzinfo=UTC),
}
NEVER = ("3000-01-01", "3000-01-01 00:00:00", "2050-01-01", "2050-12-31 00:00:00")
NO_DATE = (
    *("0000-00-00", "0000-00-00 00:00:00", "2026-02-30", "2050-02-30", "2026-1-1", "2026/01/01", "26-01-01"),
    *("2026-01-01 10:00:00", "2026-01-01T00:00:00", " 2026-01-01", "2026-01-01 ", "never", "12050-01-01"),
    *("2026-00-10", "2050-00-00", "2026-01-01 00:00:00.0", b"2026-01-01\xff", "2026-01-01\0"),
)


def test_expiry_dates(migration):
    result = overrides_of(migration, "ExemptExpDate", *REAL, *NEVER, None, "", *NO_DATE)
    assert [row["expires_at"] for row in result.rows[OVERRIDE]] == [*REAL.values(), *[None] * 6]
    first = len(REAL) + len(NEVER) + 3
    assert reasons(result, OVERRIDE) == {str(number): ["unparseable"] for number in range(first, first + len(NO_DATE))}
    assert result.accounting[BOOKS[OVERRIDE]].coerced == {"sentinel_date": 4}


def test_in_a_database_an_empty_date_is_unparseable(migration):
    result = overrides_of(migration, "ExemptExpDate", "", "NULL", None, dialect="database")
    assert reasons(result, OVERRIDE) == {"1": ["unparseable"], "2": ["unparseable"]}


def test_a_date_becomes_midnight_in_the_legacy_zone(migration):
    dates = ("2027-01-31", "2027-07-31")
    result = overrides_of(migration, "ExemptExpDate", *dates, timezone="America/New_York")
    assert [row["expires_at"] for row in result.rows[OVERRIDE]] == [
        datetime(2027, 1, 31, 5, tzinfo=UTC),
        datetime(2027, 7, 31, 4, tzinfo=UTC),
    ]


def test_a_midnight_that_no_clock_showed_is_counted_and_one_before_the_calendar_rejects(migration):
    """NULL would make the exemption permanent."""
    result = overrides_of(migration, "ExemptExpDate", "2018-11-04", "9999-12-31", timezone="America/Sao_Paulo")
    assert [row["expires_at"] for row in result.rows[OVERRIDE]] == [
        datetime(2018, 11, 4, 3, tzinfo=UTC),
        datetime(9999, 12, 31, 3, tzinfo=UTC),
    ]
    assert result.accounting[BOOKS[OVERRIDE]].coerced == {"skipped_time": 1}
    result = overrides_of(migration, "ExemptExpDate", "0001-01-01", "0001-01-02", timezone="Asia/Tokyo")
    assert reasons(result, OVERRIDE) == {"1": ["unparseable"]}
    assert migrated(result) == ["2"]


def test_an_override_that_has_expired_is_migrated(migration):
    result = overrides_of(migration, "ExemptExpDate", "2001-01-01")
    assert migrated(result) == ["1"]


# --- DOCUMENT → DocRequirement ----------------------------------------------------------------------------------------


def test_a_document_exemption_marks_the_requirement_of_its_name_in_each_group(migration):
    rows = [document(1, 1), document(2, 2, ExemptReason="Two groups"), document(3, 2, item_name="bond")]
    result = migration.run({"exemption": rows})
    assert sorted(result.rows[REQUIREMENT], key=lambda row: row["id"]) == [
        {"id": 601, "is_exempted": True, "exemption_note": "Small job"},
        {"id": 603, "is_exempted": True, "exemption_note": "Two groups"},
        {"id": 604, "is_exempted": True, "exemption_note": "Two groups"},
        {"id": 605, "is_exempted": True, "exemption_note": "Small job"},
    ]
    assert result.rows[OVERRIDE] == []
    assert result.accounting[BOOKS[REQUIREMENT]].migrated == 3
    assert result.accounting[BOOKS[OVERRIDE]].read == 0


def test_names_of_documents_are_renamed_trimmed_and_without_case(migration):
    result = documents_of(migration, "item_name", " w-9 ", "business LICENSE", "business lic. ")
    assert migrated(result, REQUIREMENT) == ["1", "2", "3"]
    assert set(notes(result)) == {601, 602}


def test_a_name_no_group_requires_is_no_match(migration):
    result = documents_of(migration, "item_name", "Bond", "Other", "", None, "W9", "GL")
    assert reasons(result, REQUIREMENT) == {str(number): ["no_matching_row"] for number in range(1, 7)}


def test_without_a_group_no_name_is_looked_for(migration):
    rows = [document(1, 3, item_name="Other"), document(2, 6), document(3, 5, ExemptReviewStatus="?")]
    result = migration.run({"exemption": rows})
    assert reasons(result, REQUIREMENT) == {
        "1": ["orphan_reference"],
        "2": ["orphan_reference"],
        "3": ["orphan_reference", "unmapped_value"],
    }


def test_coverage_and_requirements_concern_coi_only(migration):
    result = documents_of(migration, "requirements_id", "2", "x")
    assert migrated(result, REQUIREMENT) == ["1", "2"]


def test_who_and_when_are_not_counted_where_they_are_not_written(migration):
    result = documents_of(migration, "create_user_id", "2")
    assert result.accounting[BOOKS[REQUIREMENT]].coerced == {}


@pytest.mark.parametrize(
    ("reason", "date", "note"),
    [
        ("Small job", None, "Small job"),
        ("Small job  ", "2027-01-31", "Small job (until 2027-01-31)"),
        ("  Small", "2027-01-31 00:00:00", "  Small (until 2027-01-31)"),
        ("", "2027-01-31", "(until 2027-01-31)"),
        (None, "2027-01-31", "(until 2027-01-31)"),
        ("Small job", "2050-06-30", "Small job"),
        ("Small job", "3000-01-01", "Small job"),
        (None, None, ""),
        (" ", "2051-01-01", "(until 2051-01-01)"),
    ],
)
def test_the_note_says_why_and_until_when(migration, reason, date, note):
    result = migration.run({"exemption": [document(ExemptReason=reason, ExemptExpDate=date)]})
    assert notes(result) == {601: note}


def test_an_end_that_the_target_cannot_hold_is_counted(migration):
    result = documents_of(migration, "ExemptExpDate", "2027-01-31", "3000-01-01", None)
    assert result.accounting[BOOKS[REQUIREMENT]].coerced == {"expiry_lost": 1, "sentinel_date": 1}


def test_a_date_that_is_none_rejects_a_document_exemption(migration):
    result = documents_of(migration, "ExemptExpDate", *NO_DATE)
    assert reasons(result, REQUIREMENT) == {str(number): ["unparseable"] for number in range(1, len(NO_DATE) + 1)}


def test_of_several_exemptions_of_one_requirement_the_highest_id_gives_the_note(migration):
    rows = [document(number, vendor, ExemptReason=f"No. {number}") for number, vendor in ((9, 1), (10, 4), (2, 1))]
    for batch_rows in (100_000, 1):
        result = migration.run({"exemption": rows}, batch_rows=batch_rows)
        assert notes(result) == {601: "No. 10"}
        assert migrated(result, REQUIREMENT) == ["2", "9", "10"]
        assert result.accounting[BOOKS[REQUIREMENT]].migrated == 3


# --- expired ----------------------------------------------------------------------------------------------------------

AT_THE_CUTOVER = ("2026-11-20", "2026-11-21", "2026-11-22", "2020-01-01", "3000-01-01", "2050-01-01", None)


def test_under_skip_an_expired_document_exemption_is_dropped(migration):
    result = documents_of(migration, "ExemptExpDate", *AT_THE_CUTOVER)
    books = result.accounting[BOOKS[REQUIREMENT]]
    assert (books.read, books.migrated, books.rejected, books.dropped) == (7, 5, 0, {"expired": 2})
    # The day of the cutover starts with it, not before it.
    assert migrated(result, REQUIREMENT) == ["2", "3", "5", "6", "7"]


def test_a_moment_after_midnight_the_day_has_started_before(migration):
    moment = datetime(2026, 11, 21, 0, 0, 0, 1, tzinfo=UTC)
    result = documents_of(migration, "ExemptExpDate", *AT_THE_CUTOVER, cutover_at=moment)
    assert migrated(result, REQUIREMENT) == ["3", "5", "6", "7"]


def test_the_start_of_the_day_is_that_of_the_legacy_zone(migration):
    result = documents_of(migration, "ExemptExpDate", *AT_THE_CUTOVER, timezone="Pacific/Auckland")
    assert migrated(result, REQUIREMENT) == ["3", "5", "6", "7"]
    result = documents_of(migration, "ExemptExpDate", *AT_THE_CUTOVER, timezone="America/New_York")
    assert migrated(result, REQUIREMENT) == ["2", "3", "5", "6", "7"]


def test_nothing_else_of_an_expired_row_matters(migration):
    rows = [
        document(1, 6, item_name=None, ExemptReviewStatus="?", ExemptReason="a\0b", ExemptExpDate="2020-01-01"),
        document("x", ExemptExpDate="2020-01-01"),
        document(2, item_type=" Document", ExemptExpDate="2020-01-01 00:00:00"),
    ]
    result = migration.run({"exemption": rows})
    assert result.rejected[REQUIREMENT] == []
    assert result.accounting[BOOKS[REQUIREMENT]].dropped == {"expired": 3}


def test_under_apply_an_expired_document_exemption_is_set(migration):
    result = documents_of(migration, "ExemptExpDate", "2020-01-01", expired_document_exemption="apply")
    assert notes(result) == {601: "Small job (until 2020-01-01)"}
    rejected = documents_of(migration, "item_name", "Other", expired_document_exemption="apply")
    assert reasons(rejected, REQUIREMENT) == {"1": ["no_matching_row"]}


# --- item types and keys ----------------------------------------------------------------------------------------------


def test_an_unknown_type_counts_towards_overrides(migration):
    result = overrides_of(migration, "item_type", "coi", "LEASE", "", None, " DOCUMENT ")
    assert migrated(result) == ["1"]
    assert reasons(result, OVERRIDE) == {key: ["unmapped_value"] for key in "234"}
    # The fifth is a document, and none is called GL.
    assert reasons(result, REQUIREMENT) == {"5": ["no_matching_row"]}


def test_what_does_not_depend_on_the_type_is_checked_without_it(migration):
    row = exemption(1, 6, item_type="LEASE", item_name="?", requirements_id="2", ExemptExpDate="soon")
    result = migration.run({"exemption": [row, exemption(2, item_type="LEASE", item_name="?", requirements_id="2")]})
    assert reasons(result, OVERRIDE) == {
        "1": ["orphan_reference", "unmapped_value", "unparseable"],
        "2": ["unmapped_value"],
    }


def test_identical_rows_count_once_towards_their_own_target(migration):
    result = migration.run({"exemption": [exemption(1), document(2), exemption(1), document(2), document(2)]})
    assert result.accounting[BOOKS[OVERRIDE]].dropped == {"identical": 1}
    assert result.accounting[BOOKS[REQUIREMENT]].dropped == {"identical": 2}
    assert (migrated(result), migrated(result, REQUIREMENT)) == (["1"], ["2"])


def test_rows_of_one_key_may_count_towards_different_targets(migration):
    result = migration.run({"exemption": [exemption(1), document(1)]})
    assert reasons(result, OVERRIDE) == {"1": ["duplicate_key"]}
    assert migrated(result, REQUIREMENT) == ["1"]


def test_a_row_that_lost_its_key_to_another_does_not_mark_what_it_names(migration):
    rows = [document(1, item_name="Business License"), document(1, item_name="W-9")]
    result = migration.run({"exemption": rows})
    assert set(notes(result)) == {601}
    assert reasons(result, REQUIREMENT) == {"1": ["duplicate_key"]}


def test_a_row_without_a_key_is_rejected_and_can_be_found(migration):
    result = migration.run({"exemption": [exemption(None), exemption("x"), document(None), document("1.0")]})
    assert reasons(result, OVERRIDE) == {"row 1": ["schema_violation"], "x": ["schema_violation"]}
    assert reasons(result, REQUIREMENT) == {"row 3": ["schema_violation"]}
    assert migrated(result, REQUIREMENT) == ["1"]


def test_every_row_is_accounted_for_once(migration):
    rows = [exemption(1), document(2), exemption(3, item_type=None), document(4, ExemptExpDate="2020-01-01")]
    result = migration.run({"exemption": rows})
    assert {pair: (books.read, books.migrated, books.rejected) for pair, books in result.accounting.items()} == {
        BOOKS[OVERRIDE]: (2, 1, 1),
        BOOKS[REQUIREMENT]: (2, 1, 0),
    }
