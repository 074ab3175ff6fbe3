"""The rules of section 4.1, each broken or met by rows of its own, and those of 1.2 for tables with a key."""

from datetime import UTC, datetime

import pytest

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets_tests.dtx.running import MANY, by, lookup, notification, php, reasons, webhook

MODEL = "NotificationSchedule"
BOOKS = ("notification", MODEL)
WEBHOOK_BOOKS = ("notification_webhook", MODEL)

ALL_COI = {
    "CRFRRSetting": "1",
    "CRSRRSetting": "2",
    "CRNRAlertSetting": "4",
    "CRRestartSetting": "8",
    "CESTESetting": "30",
    "CEFERSetting": "15",
    "CEFERTiming": "Before",
    "CEEXPSetting": "0",
    "CEEXPTiming": "After",
    "CESERSetting": "7",
    "CESERTiming": "AFTER",
    "CEEXPAlertSetting": "9",
    "CEEXPAlertTiming": " before ",
    "CERestartSetting": "60",
    "CNCFSetting": "10",
    "CNCSSetting": "20",
    "CNCAlertSetting": "40",
    "CNCRestartSetting": "80",
}
EXPIRATION = {
    ("expiration", "soon_to_expire"): (30, "before"),
    ("expiration", "reminder"): (15, "before"),
    ("expiration", "expired"): (0, "after"),
    ("expiration", "final"): (7, "after"),
    ("expiration", "alert"): (9, "before"),
    ("expiration", "restart_notices"): (60, "after"),
}


def timing(result, prefix):
    """(days_after, timing_type) by (type suffix, sequence)."""
    return {
        (row["type"].removeprefix(prefix), row["sequence"]): (row["days_after"], row["timing_type"])
        for row in result.rows[MODEL]
    }


def chain(suffix, *days):
    sequences = ("initial", "reminder", "final", "alert", "restart_notices")
    return {(suffix, sequence): (wait, "after") for sequence, wait in zip(sequences, days, strict=False)}


def initial_of(result, name):
    """A column of each account's row `request/initial`."""
    return by((row for row in result.rows[MODEL] if row["type"] == "coi_request"), "account_id", name)


def many(**values_of_one_column):
    """A COI notification for each value of the column; customer and id are the same number, from 20 on."""
    [(column, values)] = values_of_one_column.items()
    return [notification(key, key, **{column: value}) for key, value in zip(MANY, values, strict=False)]


# --- stages and days --------------------------------------------------------------------------------------------------


def test_a_coi_row_gives_all_its_stages_with_running_sums(migration):
    result = migration.run({"notification": [notification(**ALL_COI)]})
    assert timing(result, "coi_") == {
        **chain("request", 0, 1, 3, 7, 15),
        **EXPIRATION,
        **chain("non_compliance", 0, 10, 30, 70, 150),
    }
    assert {row["account_id"] for row in result.rows[MODEL]} == {101}
    assert result.accounting[BOOKS].migrated == 1


def test_a_document_row_has_its_own_request_chain_and_no_restart_in_it(migration):
    settings = {**ALL_COI, "DRFRRSetting": "3", "DRSRRSetting": "5", "DRNRAlertSetting": "7"}
    result = migration.run({"notification": [notification(kind="DOCUMENT", **settings)]})
    assert timing(result, "document_") == {
        **chain("request", 0, 3, 8, 15),
        **EXPIRATION,
        **chain("non_compliance", 0, 10, 30, 70, 150),
    }


def test_under_cumulative_each_setting_is_the_wait_itself(migration):
    result = migration.run({"notification": [notification(**ALL_COI)]}, timing_semantics="cumulative")
    assert timing(result, "coi_") == {
        **chain("request", 0, 1, 2, 4, 8),
        **EXPIRATION,
        **chain("non_compliance", 0, 10, 20, 40, 80),
    }


def test_a_stage_without_a_setting_yields_no_row_and_adds_nothing_while_zero_is_a_value(migration):
    row = notification(CRFRRSetting="5", CRNRAlertSetting="0", CRRestartSetting="2", CNCSSetting="3")
    result = migration.run({"notification": [row]})
    assert timing(result, "coi_") == {
        ("request", "initial"): (0, "after"),
        ("request", "reminder"): (5, "after"),
        ("request", "alert"): (5, "after"),
        ("request", "restart_notices"): (7, "after"),
        ("non_compliance", "initial"): (0, "after"),
        ("non_compliance", "final"): (3, "after"),
    }


def test_a_setting_is_a_whole_number_from_0_to_3650(migration):
    good = ("0", "3650", "7.0", "007", "-0")
    bad = ("3651", "-1", "7.5", "7.00", "+7", "1e3", " 7", "seven", "99999999999999999999", "٣")
    result = migration.run({"notification": many(CRFRRSetting=(*good, *bad))})
    reminders = [row for row in result.rows[MODEL] if row["sequence"] == "reminder"]
    assert by(reminders, "account_id", "days_after") == {1020: 0, 1021: 3650, 1022: 7, 1023: 7, 1024: 0}
    assert reasons(result, MODEL) == {str(key): ["unparseable"] for key in list(MANY)[len(good) : len(good) + len(bad)]}
    assert all("CRFRRSetting" in sentence for sentence, _ in result.details.values())


def test_one_wrong_setting_rejects_the_whole_row_and_names_every_wrong_column(migration):
    result = migration.run({"notification": [notification(**{**ALL_COI, "CNCSSetting": "x", "CESTESetting": "-5"})]})
    assert result.rows[MODEL] == []
    assert reasons(result, MODEL) == {"1": ["unparseable"]}
    sentence, row = result.details["notification", "1"]
    assert "CNCSSetting" in sentence
    assert "CESTESetting" in sentence
    assert row["CNCSSetting"] == "x"
    assert len(row) == 28


@pytest.mark.parametrize("stage", ["CEFER", "CEEXP", "CESER", "CEEXPAlert"])
def test_a_timing_is_before_or_after_and_needed_only_with_its_setting(migration, stage):
    setting, column = f"{stage}Setting", f"{stage}Timing"
    rows = many(**{column: ("Before", "aFTER ", "during", None, "", "before,after")})
    rows = [{**row, setting: "7"} for row in rows]
    rows += [notification(50, 50, **{column: "during"}), notification(51, 51, **{setting: "x"})]
    result = migration.run({"notification": rows})
    timed = [row for row in result.rows[MODEL] if row["type"] == "coi_expiration"]
    assert by(timed, "account_id", "timing_type") == {1020: "before", 1021: "after"}
    assert reasons(result, MODEL) == {key: ["unparseable"] for key in ("22", "23", "24", "25", "51")}
    assert column in result.details["notification", "23"][0]
    assert column in result.details["notification", "51"][0]
    assert result.accounting[BOOKS].migrated == 3


def test_only_the_columns_of_the_row_s_own_type_are_looked_at(migration):
    rows = [
        notification(1, 1, "COI", DRFRRSetting="x", DRSRRSetting="-1", DRNRAlertSetting="9999"),
        notification(2, 1, "DOCUMENT", CRFRRSetting="x", CRSRRSetting="-1", CRRestartSetting="9999"),
        notification(3, 2, "COI", CRRestartSetting="x"),
        notification(4, 2, "DOCUMENT", CNCRestartSetting="x"),
    ]
    result = migration.run({"notification": rows})
    assert reasons(result, MODEL) == {"3": ["unparseable"], "4": ["unparseable"]}
    assert sorted({row["type"] for row in result.rows[MODEL]}) == [
        *("coi_non_compliance", "coi_request", "document_non_compliance", "document_request")
    ]


def test_a_row_of_another_type_is_unmapped_and_its_settings_are_not_looked_at(migration):
    rows = many(type=("coi", " Document ", "LEASE", "", None, "COI DOCUMENT"))
    rows[2:] = [{**row, "CRFRRSetting": "x", "DRFRRSetting": "x", "CNCFSetting": "x"} for row in rows[2:]]
    result = migration.run({"notification": rows})
    assert reasons(result, MODEL) == {key: ["unmapped_value"] for key in ("22", "23", "24", "25")}
    assert {(row["account_id"], row["type"]) for row in result.rows[MODEL]} == {
        *((1020, "coi_request"), (1020, "coi_non_compliance")),
        *((1021, "document_request"), (1021, "document_non_compliance")),
    }


# --- account, user, times ---------------------------------------------------------------------------------------------


def test_no_account_is_an_orphan_also_where_the_target_lacks_the_id(migration):
    customers = (5, 6, 7, None, "", "x", "1.5", "99999999999999999999", "1.0", "01")
    rows = [notification(number, customer) for number, customer in enumerate(customers[:8], 1)]
    rows += [notification(9, "2.0"), notification(10, "01")]
    result = migration.run({"notification": rows})
    assert reasons(result, MODEL) == {str(number): ["orphan_reference"] for number in range(1, 9)}
    assert {row["account_id"] for row in result.rows[MODEL]} == {102, 101}


def test_a_user_without_a_match_is_null_and_counted_once_a_row(migration):
    result = migration.run({"notification": many(user_id=("1", "1.0", "2", "3", "x", None, ""))})
    assert initial_of(result, "created_by_id") == {
        1020: 11,
        1021: 11,
        **dict.fromkeys((1022, 1023, 1024, 1025, 1026)),
    }
    assert result.accounting[BOOKS].coerced == {"user_not_found": 3}


def test_a_rejected_row_is_not_counted_as_coerced(migration):
    result = migration.run({"notification": [notification(user_id="2", create_time="x", send_hold="?")]})
    assert result.accounting[BOOKS].rejected == 1
    assert result.accounting[BOOKS].coerced == {}


def test_a_time_that_is_none_is_null_and_counted(migration):
    good = ("2020-02-29 12:34:56", "2020-02-29 12:34:56.25", "1969-12-31 23:59:59")
    zero = ("0000-00-00 00:00:00", "0000-00-00 00:00:00.000000")
    bad = ("2021-02-29 00:00:00", "2020-01-01", "2020-01-01T00:00:00", "2020-01-01 24:00:00", "2020-1-1 0:0:0", "soon")
    result = migration.run({"notification": many(create_time=(*good, *zero, *bad, None, ""))})
    created = initial_of(result, "created")
    assert [created[account] for account in (1020, 1021, 1022)] == [
        datetime(2020, 2, 29, 12, 34, 56, tzinfo=UTC),
        datetime(2020, 2, 29, 12, 34, 56, 250_000, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    ]
    assert {created[account] for account in range(1023, 1033)} == {None}
    assert result.accounting[BOOKS].coerced == {"zero_date": 2, "invalid_time": 6}


def test_times_are_of_the_legacy_zone(migration):
    # The clocks went forward at 2:00 on 2020-03-08 and back at 2:00 on 2020-11-01.
    times = ("2020-01-01 00:00:00", "2020-07-01 00:00:00", "2020-11-01 01:30:00", "2020-03-08 02:30:00")
    result = migration.run({"notification": many(create_time=times)}, timezone="America/New_York")
    assert initial_of(result, "created") == {
        1020: datetime(2020, 1, 1, 5, tzinfo=UTC),
        1021: datetime(2020, 7, 1, 4, tzinfo=UTC),
        1022: datetime(2020, 11, 1, 5, 30, tzinfo=UTC),
        1023: datetime(2020, 3, 8, 7, 30, tzinfo=UTC),
    }
    assert result.accounting[BOOKS].coerced == {"ambiguous_time": 1, "skipped_time": 1}


# --- send_hold and dow_bitmap -----------------------------------------------------------------------------------------


def test_send_hold_is_send_or_hold(migration):
    rows = many(send_hold=("SEND", "hold ", "MAYBE", None, "", "SEND,HOLD"))
    result = migration.run({"notification": rows})
    assert initial_of(result, "is_active") == {1020: True, 1021: False}
    assert reasons(result, MODEL) == {key: ["unmapped_value"] for key in ("22", "23", "24", "25")}


def test_under_hold_until_activated_no_schedule_is_active_and_the_same_rows_are_rejected(migration):
    rows = many(send_hold=("SEND", "HOLD", "MAYBE"))
    result = migration.run({"notification": rows}, activation="hold_until_activated")
    assert initial_of(result, "is_active") == {1020: False, 1021: False}
    assert reasons(result, MODEL) == {"22": ["unmapped_value"]}


LOOKED_UP = {
    "notification": [
        notification(1, 1, "COI", send_hold="SEND", dow_bitmap="1"),
        notification(2, 1, "DOCUMENT", send_hold="SEND", dow_bitmap="1"),
        notification(3, 2, "COI", send_hold="MAYBE", dow_bitmap="999"),
        notification(4, 3, "COI", send_hold="SEND", dow_bitmap="2"),
        notification(5, 20, "COI", send_hold="HOLD", dow_bitmap=None),
    ],
    "notification_lookup": [
        lookup(1, coi_send_hold="HOLD", coi_dow_bitmap="127"),
        lookup("2.0", coi_send_hold=" send", coi_dow_bitmap="0"),
        lookup(3, coi_send_hold="MAYBE", coi_dow_bitmap="-1"),
        # The last row of a customer counts, whole, so this first one counts for nothing.
        lookup(20, coi_send_hold="SEND", coi_dow_bitmap="64"),
        lookup(20, doc_send_hold="SEND", doc_dow_bitmap="64"),
        lookup(None, coi_send_hold="HOLD"),
    ],
}


def test_under_lookup_wins_only_the_value_that_counts_can_reject(migration):
    result = migration.run(LOOKED_UP)
    active = {(row["account_id"], row["type"].split("_")[0]): row["is_active"] for row in result.rows[MODEL]}
    assert active == {(101, "coi"): False, (101, "document"): True, (102, "coi"): True, (1020, "coi"): False}
    assert reasons(result, MODEL) == {"4": ["unmapped_value"]}


def test_under_notification_only_the_lookup_is_not_read(migration):
    result = migration.run(LOOKED_UP, send_hold_override="notification_only", dow_bitmap="send_days")
    active = {(row["account_id"], row["type"].split("_")[0]): row["is_active"] for row in result.rows[MODEL]}
    assert active == {(101, "coi"): True, (101, "document"): True, (103, "coi"): True, (1020, "coi"): False}
    assert reasons(result, MODEL) == {"3": ["unmapped_value", "unparseable"]}
    assert initial_of(result, "send_days") == {101: ["sun"], 103: ["mon"], 1020: None}


def test_the_lookup_override_holds_for_the_bitmap_too(migration):
    result = migration.run(LOOKED_UP, dow_bitmap="send_days")
    every_day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    assert initial_of(result, "send_days") == {101: every_day, 102: [], 1020: None}
    assert reasons(result, MODEL) == {"4": ["unmapped_value", "unparseable"]}


def test_a_bitmap_as_days_sunday_first(migration):
    bitmaps = ("0", "1", "2", "32", "62", "127", "65", "2.0", None, "")
    result = migration.run({"notification": many(dow_bitmap=bitmaps)}, dow_bitmap="send_days")
    week = ["mon", "tue", "wed", "thu", "fri"]
    days = [[], ["sun"], ["mon"], ["fri"], week, [*week, "sat", "sun"], ["sat", "sun"], ["mon"], None, None]
    assert list(initial_of(result, "send_days").values()) == days


def test_a_bitmap_as_days_monday_first(migration):
    bitmaps = ("0", "1", "31", "64", "127")
    result = migration.run(
        {"notification": many(dow_bitmap=bitmaps)}, dow_bitmap="send_days", dow_bit_order="monday_first"
    )
    week = ["mon", "tue", "wed", "thu", "fri"]
    assert list(initial_of(result, "send_days").values()) == [[], ["mon"], week, ["sun"], [*week, "sat", "sun"]]


def test_a_bitmap_as_metadata(migration):
    result = migration.run({"notification": many(dow_bitmap=("62", "0", None))}, dow_bitmap="metadata")
    assert initial_of(result, "metadata") == {
        1020: {"dow_bitmap": 62, "send_days": ["mon", "tue", "wed", "thu", "fri"]},
        1021: {"dow_bitmap": 0, "send_days": []},
        1022: None,
    }
    assert "send_days" not in result.rows[MODEL][0]


@pytest.mark.parametrize("option", ["send_days", "metadata"])
def test_a_bitmap_outside_0_to_127_is_unparseable(migration, option):
    result = migration.run({"notification": many(dow_bitmap=("127", "128", "-1", "x", "1.5"))}, dow_bitmap=option)
    assert reasons(result, MODEL) == {key: ["unparseable"] for key in ("21", "22", "23", "24")}


def test_under_accept_gap_the_bitmap_is_not_looked_at(migration):
    result = migration.run({"notification": many(dow_bitmap=("62", "128", "x"))}, dow_bitmap="accept_gap")
    assert reasons(result, MODEL) == {}
    assert result.accounting[BOOKS].migrated == 3
    assert not {"send_days", "metadata"} & set(result.rows[MODEL][0])


# --- several rows of one account and type -----------------------------------------------------------------------------


def survivors(result):
    """Keys of the notification rows that are migrated."""
    return {key for _, source, key, _ in result.links if source == "notification"}


def test_the_highest_id_counts_as_a_number(migration):
    result = migration.run({"notification": [notification(number) for number in (9, 10, 2)]})
    assert survivors(result) == {"10"}
    assert reasons(result, MODEL) == {"9": ["duplicate_key"], "2": ["duplicate_key"]}
    assert (result.accounting[BOOKS].migrated, result.accounting[BOOKS].rejected) == (1, 2)


def test_the_row_that_the_lookup_names_counts(migration):
    rows = [
        notification(number, 1, kind) for number, kind in ((1, "COI"), (2, "COI"), (3, "DOCUMENT"), (4, "DOCUMENT"))
    ]
    lookups = [lookup(1, coi_notification_id="1.0", doc_notification_id="3")]
    result = migration.run({"notification": rows, "notification_lookup": lookups})
    assert survivors(result) == {"1", "3"}


@pytest.mark.parametrize(
    "named",
    [
        pytest.param({"coi_notification_id": "99"}, id="a missing row"),
        pytest.param({"doc_notification_id": "1"}, id="the column of the other type"),
        pytest.param({"coi_notification_id": None}, id="none"),
    ],
)
def test_a_lookup_that_names_no_row_of_the_type_counts_for_nothing(migration, named):
    rows = [notification(1), notification(2)]
    result = migration.run({"notification": rows, "notification_lookup": [lookup(1, **named)]})
    assert survivors(result) == {"2"}


def test_the_lookup_of_another_account_names_nothing_here(migration):
    rows = [notification(1), notification(2)]
    result = migration.run({"notification": rows, "notification_lookup": [lookup(2, coi_notification_id="1")]})
    assert survivors(result) == {"2"}


def test_of_several_lookup_rows_the_last_one_names(migration):
    lookups = [lookup(1, coi_notification_id="1"), lookup(1, coi_notification_id="2")]
    rows = [notification(1), notification(2), notification(3)]
    result = migration.run({"notification": rows, "notification_lookup": lookups})
    assert survivors(result) == {"2"}


@pytest.mark.parametrize(
    "wrong", [{"CRFRRSetting": "x"}, {"send_hold": "MAYBE"}, {"type": "LEASE"}, {"customer_id": "5"}]
)
def test_a_row_that_is_rejected_anyway_takes_no_part_even_when_named(migration, wrong):
    lookups = [lookup(1, coi_notification_id="2", coi_send_hold=None)]
    rows = [notification(1), {**notification(2), **wrong}]
    result = migration.run({"notification": rows, "notification_lookup": lookups})
    assert survivors(result) == {"1"}
    assert "duplicate_key" not in reasons(result, MODEL)["2"]


def test_two_customers_of_one_account_are_the_same_account(migration):
    rows = [notification(1, 3, CRFRRSetting="5"), notification(2, 4), notification(3, 4, "DOCUMENT")]
    result = migration.run({"notification": rows})
    assert survivors(result) == {"2", "3"}
    assert reasons(result, MODEL) == {"1": ["duplicate_key"]}
    named = migration.run({"notification": rows, "notification_lookup": [lookup(3, coi_notification_id="1")]})
    assert survivors(named) == {"1", "3"}


def test_a_row_is_rejected_once_for_all_its_reasons(migration):
    row = notification(1, 7, send_hold="MAYBE", CRFRRSetting="x", dow_bitmap="500", user_id="9")
    result = migration.run({"notification": [row]}, dow_bitmap="send_days")
    assert reasons(result, MODEL) == {"1": ["orphan_reference", "unmapped_value", "unparseable"]}
    assert result.accounting[BOOKS].rejected == 1


# --- keys that occur twice (1.2) --------------------------------------------------------------------------------------


def test_identical_rows_count_once(migration):
    result = migration.run({"notification": [notification(1), notification(2, 2), notification(1), notification(1)]})
    books = result.accounting[BOOKS]
    assert (books.read, books.migrated, books.rejected, books.dropped) == (4, 2, 0, {"identical": 2})
    assert survivors(result) == {"1", "2"}


def test_null_written_two_ways_is_identical_and_other_text_is_not(migration):
    one, other = notification(1, user_id="NULL", CRFRRSetting=""), notification(1, user_id=r"\N", CRFRRSetting=None)
    assert migration.run({"notification": [one, other]}).accounting[BOOKS].dropped == {"identical": 1}
    result = migration.run({"notification": [notification(1), notification("1.0")]})
    assert reasons(result, MODEL) == {"1": ["duplicate_key"]}


def test_of_rows_with_one_key_the_later_counts_even_when_it_is_rejected(migration):
    rows = [notification(1, 1), notification(2, 2), notification(1, 1, send_hold="HOLD"), notification(2, 2, "LEASE")]
    result = migration.run({"notification": rows})
    assert initial_of(result, "is_active") == {101: False}
    found = sorted((each.source_key, each.reasons) for each in result.rejected[MODEL])
    assert found == [("1", ("duplicate_key",)), ("2", ("duplicate_key",)), ("2", ("unmapped_value",))]


def test_a_repeat_of_an_earlier_row_is_identical_and_does_not_become_the_later_one(migration):
    first, second = notification(1, send_hold="SEND"), notification(1, send_hold="HOLD")
    result = migration.run({"notification": [first, second, first]})
    books = result.accounting[BOOKS]
    assert (books.migrated, books.rejected, books.dropped) == (1, 1, {"identical": 1})
    assert initial_of(result, "is_active") == {101: False}


def test_a_dropped_row_is_not_checked_further(migration):
    row = notification(1, 7, "LEASE")
    result = migration.run({"notification": [row, row]})
    assert len(result.rejected[MODEL]) == 1
    assert result.accounting[BOOKS].dropped == {"identical": 1}


def test_a_row_without_a_key_is_rejected_and_can_be_found(migration):
    rows = [notification(None), notification("x", 2), notification("1\0", 3), notification(4, 20), notification(None)]
    result = migration.run({"notification": rows})
    assert reasons(result, MODEL) == {
        "row 1": ["schema_violation"],
        "row 5": ["schema_violation"],
        "x": ["schema_violation"],
        r"1\x00": ["schema_violation"],
    }
    assert survivors(result) == {"4"}


# --- columns (1.2) ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["% of 'it' #/?", "status", "detail", "account_id", ":account_id", "_index", "_type"])
def test_a_column_nobody_named_changes_nothing_and_goes_with_the_rejected_row(migration, name):
    tables = {
        "notification": [{**notification(1), name: "one"}, {**notification(2, 2, "LEASE"), name: "two"}],
        "notification_webhook": [{**webhook(php("a@b.c", "no")), name: "three"}],
    }
    result = migration.run(tables)
    assert recipients_of(result) == {101: ["a@b.c"]}
    assert result.details["notification", "2"][1][name] == "two"
    assert result.details["notification_webhook", key_of(1)][1][name] == "three"
    assert set(result.details["notification", "2"][1]) == set(tables["notification"][1])


def without(row, column):
    return {name: value for name, value in row.items() if name != column}


@pytest.mark.parametrize(
    ("decisions", "table", "column"),
    [
        ({}, "notification", "CESERTiming"),
        ({}, "notification_lookup", "doc_send_hold"),
        ({"dow_bitmap": "send_days"}, "notification", "dow_bitmap"),
        ({"dow_bitmap": "metadata"}, "notification_lookup", "doc_dow_bitmap"),
        ({"dow_bitmap": "send_days", "send_hold_override": "notification_only"}, "notification", "dow_bitmap"),
    ],
)
def test_a_column_that_the_chosen_options_read_is_required(migration, decisions, table, column):
    tables = {"notification": [notification()], "notification_lookup": [lookup()]}
    tables[table] = [without(tables[table][0], column)]
    with pytest.raises(SourceError, match=rf"(?s){table} lacks the required column {column}.*{table}\.csv"):
        migration.run(tables, **decisions)


def test_a_column_that_no_chosen_option_reads_may_be_missing(migration):
    tables = {
        "notification": [without(notification(), "dow_bitmap")],
        "notification_lookup": [without(without(lookup(), "coi_dow_bitmap"), "doc_dow_bitmap")],
    }
    assert migration.run(tables).accounting[BOOKS].migrated == 1
    with_bitmap = {**tables, "notification": [notification(dow_bitmap="2")]}
    result = migration.run(with_bitmap, dow_bitmap="send_days", send_hold_override="notification_only")
    assert initial_of(result, "send_days") == {101: ["mon"]}


# --- NULL by dialect (1.2) --------------------------------------------------------------------------------------------


def test_an_empty_field_is_null_in_a_csv_and_a_value_in_a_database(migration):
    tables = {"notification": [notification(CRFRRSetting="", CEFERTiming="", user_id="", create_time="")]}
    csv = migration.run(tables)
    assert timing(csv, "coi_") == {**chain("request", 0), **chain("non_compliance", 0)}
    assert csv.accounting[BOOKS].coerced == {}
    assert reasons(migration.run(tables, dialect="database"), MODEL) == {"1": ["unparseable"]}
    tables = {"notification": [notification(user_id="", create_time="")]}
    database = migration.run(tables, dialect="database")
    assert database.accounting[BOOKS].coerced == {"user_not_found": 1, "invalid_time": 1}


@pytest.mark.parametrize("marker", [r"\N", "NULL"])
def test_null_markers_are_text_in_a_database(migration, marker):
    tables = {"notification": [notification(CRFRRSetting=marker)]}
    assert migration.run(tables).accounting[BOOKS].migrated == 1
    assert reasons(migration.run(tables, dialect="database"), MODEL) == {"1": ["unparseable"]}


# --- webhooks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "place"),
    [
        ("NONCOMP", ("coi_non_compliance", "initial")),
        ("NONCOMP_REMIND_1", ("coi_non_compliance", "reminder")),
        ("NONCOMP_REMIND_2", ("coi_non_compliance", "final")),
        ("EXPIRE_SOON", ("coi_expiration", "soon_to_expire")),
        ("EXPIRE_REMIND_1", ("coi_expiration", "reminder")),
        ("EXPIRE_REMIND_2", ("coi_expiration", "final")),
        ("EXPIRED", ("coi_expiration", "expired")),
        ("REQUEST_REMIND_2", ("coi_request", "final")),
        (" expired ", ("coi_expiration", "expired")),
    ],
)
def test_a_selector_gives_one_stage_its_recipients(migration, selector, place):
    tables = {"notification": [notification(**ALL_COI)], "notification_webhook": [webhook(php("a@b.c"), selector)]}
    result = migration.run(tables)
    recipients = by(result.rows[MODEL], "type", "sequence", "email_recipients")
    assert recipients.pop(place) == ["a@b.c"]
    assert {tuple(each) for each in recipients.values()} == {()}
    assert (MODEL, "notification_webhook", f'["1","COI","{selector}"]', f'[101, "{place[0]}", "{place[1]}"]') in (
        result.links
    )


def recipients_of(result):
    """Recipients of the rows non_compliance/initial by account."""
    rows = (row for row in result.rows[MODEL] if row["type"] == "coi_non_compliance")
    return by(rows, "account_id", "email_recipients")


def test_recipients_are_those_of_all_webhook_rows_each_once_sorted(migration):
    tables = {
        "notification": [notification(1, 3), notification(2, 1)],
        "notification_webhook": [
            webhook(php("z@b.c", " A@B.c "), customer=3),
            webhook(php("a@b.c", "é@b.c"), customer=4),
            webhook('s:5:"m@b.c";', customer=3),
            webhook(php("other@b.c"), customer=3, kind="DOCUMENT"),
        ],
    }
    result = migration.run(tables)
    assert recipients_of(result) == {103: ["a@b.c", "m@b.c", "z@b.c", "é@b.c"], 101: []}
    assert reasons(result, MODEL) == {'["3","DOCUMENT","NONCOMP"]': ["no_matching_row"]}
    assert result.accounting[WEBHOOK_BOOKS].migrated == 3


def webhooks_of(migration, *values, dialect="csv"):
    """Each value as a webhook of a customer of its own, all of whom have a schedule: from customer 20 on."""
    tables = {
        "notification": [notification(customer, customer) for customer, _ in zip(MANY, values, strict=False)],
        "notification_webhook": [
            webhook(value, customer=customer) for customer, value in zip(MANY, values, strict=False)
        ],
    }
    return migration.run(tables, dialect=dialect)


def key_of(customer):
    return f'["{customer}","COI","NONCOMP"]'


def test_a_webhook_with_nothing_in_it_is_dropped_as_empty(migration):
    result = webhooks_of(migration, None, "", "N;", "a:0:{}")
    books = result.accounting[WEBHOOK_BOOKS]
    assert (books.read, books.migrated, books.rejected, books.dropped) == (4, 0, 0, {"empty": 4})


def test_an_empty_webhook_is_not_checked_further(migration):
    result = migration.run({"notification_webhook": [webhook("", "NONSENSE", 7, "LEASE")]})
    assert result.rejected[MODEL] == []
    assert result.accounting[WEBHOOK_BOOKS].dropped == {"empty": 1}


@pytest.mark.parametrize("dialect", ["csv", "database"])
def test_a_value_that_is_no_array_or_string_is_unparseable(migration, dialect):
    values = (
        *(" ", "a@b.c", "i:5;", "b:1;", "d:0.5;", 's:4:"a@b.c";', 's:6:"a@b.c";', 's:5:"a@b.c"', 's:5:"a@b.c";x'),
        *('a:2:{i:0;s:5:"a@b.c";}', 'a:1:{i:0;s:5:"a@b.c";', 'a:1:{i:0;s:5:"a@b.c";} ', 'O:8:"stdClass":0:{}'),
        *('a:1:{i:0;O:8:"stdClass":0:{}}', 'a:2:{i:0;s:5:"a@b.c";i:1;C:1:"A":0:{}}', 'a:1:{d:1;s:5:"a@b.c";}'),
        # Lengths count UTF-8 bytes: é has two.
        *('s:5:"é@b.c";', b's:5:"\xff@b.c";', b's:8:"\xff@b.c";', 's:6:"a\0@b.c";'),
    )
    result = webhooks_of(migration, *values, dialect=dialect)
    assert reasons(result, MODEL) == {key_of(customer): ["unparseable"] for customer in list(MANY)[: len(values)]}


@pytest.mark.parametrize(
    ("value", "recipients"),
    [
        ('s:6:"é@b.c";', ["é@b.c"]),
        ('a:2:{s:4:"main";s:5:"a@b.c";i:-7;s:5:"b@b.c";}', ["a@b.c", "b@b.c"]),
        ('a:2:{i:0;a:1:{i:0;a:1:{i:0;s:5:"a@b.c";}}i:1;s:5:"b@b.c";}', ["a@b.c", "b@b.c"]),
        ('a:2:{i:0;s:5:"a@b.c";i:1;R:2;}', ["a@b.c"]),
    ],
    ids=["utf-8", "keys do not matter", "nested arrays are flattened", "references"],
)
def test_a_value_that_php_reads(migration, value, recipients):
    result = webhooks_of(migration, value)
    assert recipients_of(result) == {1020: recipients}
    assert result.rejected[MODEL] == []


def test_what_is_an_address(migration):
    valid = ("a@b.c", " A@B.C\n", "a@.b.c", "a@b.c.", "a..b@b..c", "'@x.y", "é@ü.ß")
    invalid = ("", "a", "@b.c", "a@b", "a@.b", "a@b.", "a@.", "a@b@c.d", "a b@c.d", "a@b .c", "a@b\u00a0.c", "a@")
    result = webhooks_of(migration, *(php(address) for address in (*valid, *invalid)))
    addresses = recipients_of(result)
    assert [addresses[1020 + place] for place in range(len(valid))] == [[each.strip().lower()] for each in valid]
    assert reasons(result, MODEL) == {
        key_of(20 + place): ["invalid_email"] for place in range(len(valid), len(valid) + len(invalid))
    }


def test_a_row_keeps_its_valid_addresses_and_lists_each_invalid_one(migration):
    value = 'a:5:{i:0;s:5:"a@b.c";i:1;s:2:"no";i:2;i:5;i:3;N;i:4;s:2:"no";}'
    result = webhooks_of(migration, value)
    assert recipients_of(result) == {1020: ["a@b.c"]}
    books = result.accounting[WEBHOOK_BOOKS]
    assert (books.migrated, books.rejected) == (1, 0)
    entries = [each for each in result.rejected[MODEL] if each.partial]
    assert [(each.source_key, each.reasons) for each in entries] == [(key_of(20), ("invalid_email",))] * 4


def test_a_readable_row_without_a_valid_address_is_rejected_once(migration):
    values = (php("no", "none"), "a:1:{i:0;i:5;}", "a:1:{i:0;N;}", "a:1:{i:0;a:0:{}}", 's:0:"";', "a:1:{i:0;b:1;}")
    result = webhooks_of(migration, *values)
    assert reasons(result, MODEL) == {key_of(20 + place): ["invalid_email"] for place in range(len(values))}
    assert reasons(result, MODEL, partial=True) == {}


def test_invalid_addresses_of_a_rejected_row_are_not_listed(migration):
    result = migration.run({"notification_webhook": [webhook(php("a@b.c", "no"))]})
    assert [(each.reasons, each.partial) for each in result.rejected[MODEL]] == [(("no_matching_row",), False)]


def test_unknown_selector_type_and_customer_are_told_apart(migration):
    rows = [
        webhook(php("a@b.c"), "NONSENSE"),
        webhook(php("a@b.c"), None),
        webhook(php("a@b.c"), kind="LEASE"),
        webhook(php("a@b.c"), kind=None),
        webhook(php("a@b.c"), customer=7),
        webhook(php("a@b.c"), "EXPIRED"),
        webhook(php("a@b.c"), kind="DOCUMENT"),
        webhook("junk", "NONSENSE", 5, "LEASE"),
        webhook("junk", "EXPIRED"),
        webhook(php("no"), "EXPIRED", 2),
    ]
    result = migration.run({"notification": [notification()], "notification_webhook": rows})
    assert reasons(result, MODEL) == {
        '["1","COI","NONSENSE"]': ["unmapped_value"],
        '["1","COI",null]': ["unmapped_value"],
        '["1","LEASE","NONCOMP"]': ["unmapped_value"],
        '["1",null,"NONCOMP"]': ["unmapped_value"],
        '["7","COI","NONCOMP"]': ["orphan_reference"],
        '["1","COI","EXPIRED"]': ["no_matching_row"],
        '["1","DOCUMENT","NONCOMP"]': ["no_matching_row"],
        '["5","LEASE","NONSENSE"]': ["orphan_reference", "unmapped_value", "unparseable"],
        '["1","COI","EXPIRED","2"]': ["no_matching_row", "unparseable"],
        '["2","COI","EXPIRED"]': ["invalid_email", "no_matching_row"],
    }


def test_the_schedule_of_a_rejected_notification_is_no_match(migration):
    tables = {
        "notification": [notification(send_hold="MAYBE")],
        "notification_webhook": [webhook(php("a@b.c"))],
    }
    result = migration.run(tables)
    assert reasons(result, MODEL) == {"1": ["unmapped_value"], key_of(1): ["no_matching_row"]}


def test_repeated_webhook_rows_are_told_apart_and_none_is_dropped(migration):
    row = webhook(php("a@b.c"))
    result = migration.run({"notification": [notification()], "notification_webhook": [row, row, row]})
    assert result.accounting[WEBHOOK_BOOKS].migrated == 3
    assert {key for _, source, key, _ in result.links if source == "notification_webhook"} == {
        *(key_of(1), '["1","COI","NONCOMP","2"]', '["1","COI","NONCOMP","3"]')
    }
    assert recipients_of(result) == {101: ["a@b.c"]}


# --- batches ----------------------------------------------------------------------------------------------------------


def test_the_size_of_batches_makes_no_difference(migration):
    tables = {
        # Their lookup rows make them right, those of customers without an account too.
        "notification": [
            notification(number, number % 8 + 1, **{**ALL_COI, "send_hold": "MAYBE"}) for number in range(1, 41)
        ],
        "notification_webhook": [webhook(php(f"n{number}@b.c", "no"), customer=number % 8) for number in range(40)],
        "notification_lookup": [lookup(number, coi_send_hold="HOLD") for number in range(1, 9)],
    }
    whole, pieces = (migration.run(tables, batch_rows=size) for size in (100_000, 5))
    assert whole.rows[MODEL]
    assert reasons(whole, MODEL)["6"] == ["orphan_reference"]
    assert sorted(map(str, whole.rows[MODEL])) == sorted(map(str, pieces.rows[MODEL]))
    assert sorted(whole.rejected[MODEL]) == sorted(pieces.rejected[MODEL])
    assert (whole.links, whole.accounting) == (pieces.links, pieces.accounting)


def test_no_rows_at_all(migration):
    result = migration.run({"notification": []})
    assert result.rows[MODEL] == []
    assert result.accounting[BOOKS].read == result.accounting[WEBHOOK_BOOKS].read == 0
