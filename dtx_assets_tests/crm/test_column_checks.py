"""The checks of a collection's fields take each for what its column is, as preparing does: a date is no text."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from dtx_assets.crm.decided_system import SYSTEM
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.checks.columns import column_checks
from dtx_assets.machinery.checks.own import groups_of
from dtx_assets.machinery.checks.spec import CheckContext, CheckOutcome
from dtx_assets.machinery.sources import open_source

SOUND: dict[str, Any] = {
    "__v": {"$numberInt": "0"},
    "description": "all of it",
    "favourite": True,
    "favouritePosition": {"$numberInt": "3"},
    "position": {"$numberLong": "4"},
    "title": "A board",
    "user": {"$oid": "5c7eff701a6111f6c5d1b345"},
    "createdAt": {"$date": {"$numberLong": "1551831751273"}},
    "updatedAt": {"$date": {"$numberLong": "1551831751274"}},
}
BROKEN = {
    "updatedAt": ("yesterday", "updated_at_can_be_read", "ERROR"),
    "createdAt": ("2024-01-02", "created_at_can_be_read", "WARN"),
    "position": ("first", "position_can_be_read", "ERROR"),
    "favourite": ("yes", "favourite_can_be_read", "ERROR"),
    "title": (None, "title_can_be_read", "ERROR"),
    "description": ({"$numberInt": "7"}, "description_can_be_read", "WARN"),
}


@pytest.fixture
def outcomes(tmp_path):
    def found(*documents: dict[str, Any]) -> dict[str, CheckOutcome]:
        (tmp_path / "dump").mkdir()
        lines = (json.dumps({"_id": {"$oid": f"{number:024x}"}, **each}) for number, each in enumerate(documents))
        (tmp_path / "dump" / "Boards.ndjson").write_text("\n".join(lines))
        lake = Lake(str(tmp_path / "lake"))
        with open_source(str(tmp_path / "dump")) as source:
            source.extract(SYSTEM.legacy_tables["Boards"], lake, ("crm", "legacy", "Boards"), "run")
        settings: Any = SimpleNamespace(legacy_timezone="UTC", cutover_at=datetime.now(UTC))
        context = CheckContext(lake, SYSTEM, SYSTEM.decisions, SYSTEM.mappings.value_maps, settings)
        [group] = [each for each in groups_of(column_checks(SYSTEM, ())) if each.asset == ("legacy", "Boards")]
        return group.evaluate(context)

    return found


def test_values_of_the_types_of_their_columns_are_neither_rejected_nor_changed(outcomes) -> None:
    found = outcomes(*[SOUND] * 3)
    assert {name: outcome.metadata for name, outcome in found.items() if not outcome.passed} == {}
    assert {name for _, name, _ in BROKEN.values()} <= found.keys()


def test_each_wrong_value_is_found_by_the_check_of_its_field_alone(outcomes) -> None:
    broken = [{**SOUND, field: value} for field, (value, _, _) in BROKEN.items()]
    found = outcomes(*broken, *[SOUND] * 20)
    failed = {
        name: (outcome.count, outcome.severity or "ERROR") for name, outcome in found.items() if not outcome.passed
    }
    assert failed == {name: (1, severity) for _, name, severity in BROKEN.values()}
