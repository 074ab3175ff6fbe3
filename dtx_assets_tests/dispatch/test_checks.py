"""Each line of `checks.csv` fails for what breaks it, and passes for a database in which nothing is wrong."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from dtx_assets.dispatch.checks import CHECKS, LINES
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.checks.own import groups_of
from dtx_assets.machinery.checks.spec import CheckContext, CheckOutcome
from dtx_assets_tests.dispatch.running import Migrated, migrate
from dtx_assets_tests.dispatch.second_reading_values import RawRow
from dtx_assets_tests.dispatch.small_world import UID, row, world
from dtx_assets_tests.dispatch.ugly_forms import write_csv, write_files

NAMES = [line["check"] for line in csv.DictReader(LINES.read_text().splitlines())]
SCAN = b"solid"
BROKEN_ROWS: Mapping[str, list[tuple[str, dict[str, str]]]] = {
    "unlisted_groups": [("auth_group", {"id": "9", "name": "Wizards"})],
    "no_password_hashes": [("auth_user", {"id": "10", "username": "pbkdf2_sha256$600000$salt$hash"})],
    "tables_not_in_the_plan": [],
    "sex_codes": [("dispatch_patient", {"id": "11", "user_id": "10", "sex": "1"})],
    "shared_emails": [
        ("auth_user", {"id": "12", "email": "ann@example.com"}),
        ("auth_user", {"id": "13", "email": "ANN@example.com"}),
    ],
    "birthdates": [("dispatch_patient", {"id": "14", "user_id": "12", "birthdate": "1899-12-31"})],
    "several_roles": [("dispatch_patient", {"id": "15", "user_id": "2"})],
    "several_patients": [("dispatch_patient", {"id": "16", "user_id": "1"})],
    "invalid_emails": [("auth_user", {"id": "17", "email": "nobody"})],
    "guessed_primary_office": [
        ("auth_user", {"id": "18"}),
        ("auth_user_groups", {"id": "18", "user_id": "18"}),
        ("dispatch_office_doctors", {"id": "18", "user_id": "18"}),
    ],
    "missing_files": [("dispatch_project", {"id": "19", "uid": "00000000-0000-0000-0000-000000000019"})],
    "file_sizes": [("dispatch_project", {"id": "20", "uid": "00000000-0000-0000-0000-000000000020", "size": "1"})],
    "unknown_codes": [
        ("dispatch_project", {"id": "21", "uid": "00000000-0000-0000-0000-000000000020", "type": "7"}),
        ("dispatch_project", {"id": "22", "uid": "00000000-0000-0000-0000-000000000022", "type": "7"}),
    ],
    "generic_keys": [("dispatch_record", {"id": "23", "content_type_id": "999"})],
    "orphan_parents": [("dispatch_record", {"id": "24", "object_id": "999"})],
}
"""By check: rows that break it beside sound ones, of which one is a file in the plan of nobody."""


class OneFileMore:
    """A lake that has a row of `dispatch_file` of which no target says what became of it."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)

    def require(self, key: Sequence[str]) -> Any:
        found = self._lake.require(key)
        if tuple(key)[1:] != ("legacy", "dispatch_file"):
            return found
        rows = SimpleNamespace(rows=found.tables["rows"].rows + 1)
        return SimpleNamespace(tables={"rows": rows}, metadata=found.metadata)


def lose_a_row(run: Migrated) -> CheckContext:
    return replace(run.checked, lake=OneFileMore(run.lake))  # type: ignore[arg-type]


def change_a_legacy_id(run: Migrated) -> CheckContext:
    with psycopg.connect(run.url) as connection:
        connection.execute("UPDATE instruction_states SET legacy_state_id = -1 WHERE legacy_state_id = 11")
    return run.checked


def write_a_legacy_table(run: Migrated) -> CheckContext:
    table = run.directory / "legacy" / "dispatch_course.csv"
    table.write_bytes(table.read_bytes().replace(b"Aligner", b"aligner"))
    return run.checked


def drop_a_view(run: Migrated) -> CheckContext:
    with psycopg.connect(run.url) as connection:
        connection.execute("DROP VIEW compat.dispatch_state")
    return run.checked


BROKEN_SINCE: Mapping[str, Callable[[Migrated], CheckContext]] = {
    "accounting": lose_a_row,
    "legacy_id_preservation": change_a_legacy_id,
    "legacy_untouched": write_a_legacy_table,
    "query_baseline": drop_a_view,
}
"""By check: what happens after the load, and breaks it."""


def migrated(directory: Path, url: str, tables: Mapping[str, list[RawRow]], files: Mapping[str, bytes]) -> Migrated:
    settings = {
        "DISPATCH_LEGACY_URL": str(write_csv(directory / "legacy", tables)),
        "DISPATCH_FILES_URL": str(write_files(directory / "files", files)),
    }
    return migrate(directory, settings, url)


def outcomes_of(run: Migrated, context: CheckContext | None = None) -> dict[str, CheckOutcome]:
    groups = groups_of(CHECKS.of(run.system))
    return {name: each for group in groups for name, each in group.evaluate(context or run.checked).items()}


def sound() -> dict[str, list[RawRow]]:
    files = [row("dispatch_file"), row("dispatch_file", id="9", content_type_id="11", object_id="4")]
    return world(
        dispatch_project=[row("dispatch_project", size=str(len(SCAN)))],
        dispatch_record=[row("dispatch_record")],
        dispatch_file=files,
    )


@pytest.fixture(scope="module")
def clean(tmp_path_factory, postgres_server) -> Iterator[Migrated]:
    url = postgres_server.create_database("dispatch_clean")
    yield migrated(tmp_path_factory.mktemp("clean"), url, sound(), {UID: SCAN})
    postgres_server.drop_database("dispatch_clean")


@pytest.fixture(scope="module")
def of_clean(clean) -> dict[str, CheckOutcome]:
    return outcomes_of(clean)


@pytest.fixture(scope="module")
def of_broken(tmp_path_factory, postgres_server) -> Iterator[dict[str, CheckOutcome]]:
    directory, tables = tmp_path_factory.mktemp("broken"), sound()
    for rows in BROKEN_ROWS.values():
        for table, changed in rows:
            tables[table].append(row(table, **changed))
    write_csv(directory / "legacy", tables).joinpath("dispatch_task.csv").write_text("id\n1\n2\n")
    url = postgres_server.create_database("dispatch_broken")
    uids = (UID, "00000000-0000-0000-0000-000000000020", "00000000-0000-0000-0000-000000000022")
    run = migrated(directory, url, tables, dict.fromkeys(uids, SCAN))
    yield outcomes_of(run)
    postgres_server.drop_database("dispatch_broken")


def test_every_line_has_a_case_in_which_it_fails():
    assert sorted([*BROKEN_ROWS, *BROKEN_SINCE]) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_check_passes_where_nothing_is_wrong(of_clean, name):
    assert of_clean[name].passed, of_clean[name]


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_a_check_fails_for_rows_that_break_it(of_broken, name):
    assert not of_broken[name].passed
    assert of_broken[name].count >= 1


@pytest.mark.parametrize("name", BROKEN_SINCE)
def test_a_check_fails_for_what_happened_since(clean, of_clean, name):
    """After all is well: what is broken stays so."""
    outcome = outcomes_of(clean, BROKEN_SINCE[name](clean))[name]
    assert not outcome.passed
    assert outcome.count == 1


def test_queries_show_rows_and_seconds_of_both(of_clean):
    shown: dict[str, Any] = of_clean["query_baseline"].metadata
    assert len(shown) == 6
    assert all("old: no database" in text and " rows in " in text for text in shown.values())
    assert shown["doctors_of_offices"].partition("new: ")[2].startswith("1 rows in 0.")
