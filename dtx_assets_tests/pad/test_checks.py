"""Each check of PAD fails for a row that breaks what it says, names that row, and passes on clean requests."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import psycopg
import pytest

from dtx_assets.machinery.checks.own import groups_of
from dtx_assets.machinery.checks.spec import CheckContext, CheckOutcome
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets.pad.checks import CHECKS
from dtx_assets_tests.pad.running import Migration, decided, system_under
from dtx_assets_tests.pad.second_reading import RawRow, Value
from dtx_assets_tests.pad.ugly import CLEAN, CUTOVER_AT

SOUND: Mapping[str, Value] = {**CLEAN, "name": None, "sedol": "2046251", "status": "approved"}
IDLE: Mapping[str, Value] = {"two_business_days_execution_yn": None, "contract_notes_received_yn": None}
OPEN: Mapping[str, Value] = {
    **IDLE,
    **dict.fromkeys(("auth_manager", "auth_manager_date", "status_manager", "comments_manager")),
    **dict.fromkeys(("auth_compliance", "auth_compliance_date", "status_compliance", "comments_compliance")),
    "status": "request",
}
BROKEN: Mapping[str, Mapping[str, Value]] = {
    "codes_are_known": {"signed_yn": "maybe"},
    "status_combinations_are_planned": {**OPEN, "auth_manager": "3", "status_manager": "approved"},
    "employees_exist": {"employee": "99"},
    "approvers_exist": {"auth_compliance": "98"},
    "modifiers_exist": {"last_modified_by": "nobody"},
    "approvers_have_decided": {**OPEN, "auth_manager": "3"},
    "decisions_have_an_approver": {**OPEN, "comments_manager": "fine by me"},
    "approvals_follow_the_request": {"auth_manager_date": "2024-05-12"},
    "dates_are_plausible": {"last_modified_date": "2031-01-01"},
    "nobody_approves_their_own_request": {"employee": "4"},
    "two_people_approve": {"auth_compliance": "3"},
    "managers_are_the_employees": {"auth_manager": "2"},
    "people_were_employed": {"employee": "7"},
    "inside_information_stopped_the_request": {"inside_info_yn": "1"},
    "securities_are_unambiguous": {"inst_symbol": "VOD", "isin": None, "sedol": None},
    "securities_are_found": {"inst_symbol": "OLD"},
    "securities_agree": {"sedol": "B000000"},
    "currencies_are_listed": {"currency": "GBp"},
    "values_fit_their_columns": {"relation": "x" * 101},
    "amounts_are_positive": {"trade_size": "-1"},
    "prices_are_plausible": {"value": "99999999"},
    "no_request_is_deleted": {"is_deleted_yn": "Y"},
    "names_are_redundant": {"name": "Somebody Else"},
    "approved_requests_have_their_approvals": {"auth_compliance": None},
    "declined_requests_were_not_executed": {"status": "declined"},
    "executions_follow_an_approval": {**OPEN, "two_business_days_execution_yn": "1"},
    "approved_requests_are_executed": {},
    "open_requests_have_their_employee": {**OPEN, "employee": "8"},
}
"""By check: what changes in a request that breaks it. Two more are of the target, and tested alone."""


class Place:
    """Evaluates the checks over requests that were prepared for a target."""

    def __init__(self, migration: Migration) -> None:
        self.migration = migration

    def outcomes(self, rows: list[RawRow], **decisions: str) -> dict[str, CheckOutcome]:
        self.migration.run(rows, **decisions)
        return self.evaluate(**decisions)

    def evaluate(self, *, timezone: str = "UTC", **decisions: str) -> dict[str, CheckOutcome]:
        system = system_under(**decisions)
        context = CheckContext(
            self.migration.lake,
            system,
            decided(**decisions),
            system.mappings.value_maps,
            replace(self.migration.settings, cutover_at=CUTOVER_AT, legacy_timezone=timezone),
            target_url=lambda: self.migration.database_url,
        )
        groups = [group for group in groups_of(CHECKS.of(system)) if group.asset[0] != "target"]
        return {name: outcome for group in groups for name, outcome in group.evaluate(context).items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Place]:
    url = postgres_server.create_database("checks_of_pad")
    yield Place(Migration(tmp_path_factory.mktemp("pad_checks"), url))
    postgres_server.drop_database("checks_of_pad")


@pytest.fixture(scope="module")
def of_clean_requests(place: Place) -> dict[str, CheckOutcome]:
    rows = [
        {**SOUND, "id": "1"},
        {**SOUND, "id": "2", **OPEN, "currency": " USD ", "sedol": " 2046251 "},
        {**SOUND, "id": "3", **IDLE, "status": "declined", "status_compliance": "declined"},
    ]
    return place.outcomes(rows, executed_status="executed")


@pytest.fixture(scope="module")
def of_broken_requests(place: Place) -> dict[str, CheckOutcome]:
    plain = [{**SOUND, "id": str(number)} for number in range(1, 4)]
    broken = [{**SOUND, "id": str(100 + number), **each} for number, each in enumerate(BROKEN.values())]
    named = {**SOUND, "id": "4", "name": "Anna"}
    return place.outcomes([*plain, named, *broken], approved_without_compliance="approved")


NAMES = [check.spec.name for check in CHECKS.own]


def test_every_check_of_the_contract_is_there_with_its_severity():
    """Section 7 lists them; three words in one cell are one severity for all, a semicolon parts two."""
    errors = {check.spec.name for check in CHECKS.own if check.spec.severity == "ERROR"}
    assert len(NAMES) == len(set(NAMES)) == 31
    assert errors == {
        *("reference_tables_are_untouched", "codes_are_known", "status_combinations_are_planned", "employees_exist"),
        *("approvers_exist", "approvers_have_decided", "decisions_have_an_approver"),
        *("nobody_approves_their_own_request", "approved_requests_have_their_approvals"),
        *("declined_requests_were_not_executed", "executions_follow_an_approval"),
        *("inside_information_stopped_the_request", "securities_are_unambiguous", "values_fit_their_columns"),
        "request_ids_are_free",
    }


@pytest.mark.parametrize("check", [name for name in NAMES if name != "reference_tables_are_untouched"])
def test_it_passes_on_clean_requests(of_clean_requests, check):
    outcome = of_clean_requests[check]
    assert (outcome.passed, outcome.count) == (True, 0), outcome.metadata


@pytest.mark.parametrize("check", BROKEN)
def test_it_fails_for_a_request_that_breaks_it_and_names_it(of_broken_requests, check):
    outcome = of_broken_requests[check]
    assert not outcome.passed
    assert outcome.count > 0
    assert outcome.metadata["examples"]


def test_all_codes_are_shown_where_they_are_known_too(of_clean_requests):
    shown = of_clean_requests["codes_are_known"].metadata
    assert len(shown) == 17
    assert shown["status"] == {"approved": 1, "request": 1, "declined": 1}
    matrix = of_clean_requests["status_combinations_are_planned"].metadata["matrix"]
    assert matrix == {
        "approved / approved / approved → executed": 1,
        "request / NULL / NULL → pending_manager": 1,
        "declined / approved / declined → declined": 1,
    }


@pytest.mark.parametrize(("option", "count"), [("ignore", 0), ("related_party_name", 2), ("when_related", 1)])
def test_a_name_has_to_fit_where_it_is_written(place, option, count):
    long = {**SOUND, "name": "x" * 251}
    rows = [{**long, "id": "51", "related_yn": " 1"}, {**long, "id": "52", "related_yn": "2"}]
    assert place.outcomes(rows, name=option)["values_fit_their_columns"].count == count


def test_an_id_that_somebody_else_gave_out_is_not_free(place):
    place.migration.run([{**SOUND, "id": "41"}, {**SOUND, "id": "42"}])
    with psycopg.connect(place.migration.database_url) as connection:
        connection.execute(
            "INSERT INTO padealing.pad_request (id, employee_id, direction, status, created_at, updated_at)"
            " VALUES (42, 1, 'BUY', 'approved', now(), now()), (43, 1, 'BUY', 'approved', now(), now())"
        )
    outcome = place.evaluate()["request_ids_are_free"]
    assert (outcome.passed, outcome.count) == (False, 1)
    assert [example["key"] for example in outcome.metadata["examples"]] == ["42"]


def test_what_is_blank_or_spelt_otherwise_is_no_other_value(place):
    """A blank reference is none, `2.0` and `2` are one employee."""
    rows = [
        {**SOUND, "id": "61", "sedol": "  "},
        {**SOUND, "id": "62", "employee": f"{SOUND['employee']}.0", "name": "Anna"},
        {**SOUND, "id": "63", "name": "Berta"},
    ]
    found = place.outcomes(rows)
    assert found["securities_agree"].count == 0
    assert found["names_are_redundant"].count == 1


def test_who_leaves_on_the_day_of_the_cutover_has_not_left(place):
    """The day is that of the legacy system's zone, where the cutover may fall on another one than in UTC."""
    place.migration.run([{**SOUND, "id": "71", **OPEN, "employee": "8"}])
    zones = ("UTC", "Pacific/Honolulu")
    found = [place.evaluate(timezone=zone)["open_requests_have_their_employee"].count for zone in zones]
    assert found == [1, 0]


ALONE = [name for name in BROKEN if name not in ("approved_requests_are_executed", "names_are_redundant")]


@pytest.mark.parametrize("check", ALONE)
def test_a_request_that_breaks_it_is_among_its_examples(of_broken_requests, check):
    key = str(100 + list(BROKEN).index(check))
    outcome = of_broken_requests[check]
    keys = [example["key"] for example in outcome.metadata["examples"]]
    assert key in keys or outcome.count > len(keys), outcome.metadata
