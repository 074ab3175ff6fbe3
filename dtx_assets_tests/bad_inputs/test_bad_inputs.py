"""Bad inputs, one test a case: what the user sees, the exit code, and that nothing is lost."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets_tests.bad_inputs import (
    command_cases,
    csv_cases,
    database_cases,
    mapping_cases,
    setting_cases,
    target_cases,
)
from dtx_assets_tests.bad_inputs.case import Case, Refused, rendered
from dtx_assets_tests.bad_inputs.place import Grounds, Place, a_place, dtx

GROUPS = [
    (module.TITLE, module.CASES)
    for module in (csv_cases, database_cases, mapping_cases, setting_cases, target_cases, command_cases)
]
CASES = [case for _, cases in GROUPS for case in cases]
ENOUGH = 60
NEVER_SHOWN = ("PRIVATE", "s3cret", "Wr0ng")
"""Parts of what is planted as rows and passwords."""
DOCUMENT = Path(__file__).parents[2] / "docs" / "bad-inputs.md"


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Grounds]:
    with pytest.MonkeyPatch.context() as patch:
        made = Grounds(tmp_path_factory.mktemp("grounds"), postgres_server, patch)
    yield made
    postgres_server.drop_database(made.template)


@pytest.fixture
def place(
    grounds: Grounds, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    with a_place(grounds, tmp_path, request, monkeypatch) as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_the_user_sees(place: Place, case: Case):
    before = place.held()
    case.plant(place)
    shown = dtx(*map(place.named, case.command))
    assert "Traceback" not in shown.text, shown.text
    assert not [text for text in (*NEVER_SHOWN, place.grounds.server.password) if text in shown.text], shown.text
    assert shown.code == case.code, shown.text
    case.check(place, shown)
    if isinstance(case, Refused):
        case.refuse_losses(before, place.held())


def test_each_case_has_a_name_of_its_own_and_there_are_enough():
    assert len({case.name for case in CASES}) == len(CASES) >= ENOUGH


def test_the_document_is_the_table():
    page = rendered(GROUPS)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        DOCUMENT.write_text(page)
    assert DOCUMENT.read_text() == page, "UPDATE_SNAPSHOTS=1 writes it anew"
