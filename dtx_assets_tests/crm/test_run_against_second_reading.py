"""Whole runs of `dtx run crm` on ugly documents leave in the database what the second reading says, row by row.

A run takes a minute or two, so there are few: every ugly value in every kind of column under the defaults and under
the other options, and a random dump in the new system that has a user already.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from dtx_assets_tests.crm.compare import Difference, brief, differences, found_in, inputs_of, write_form
from dtx_assets_tests.crm.live_facts import live_facts
from dtx_assets_tests.crm.second_reading import migrate
from dtx_assets_tests.crm.ugly import EXISTING
from dtx_assets_tests.dtx.commands import Command

TARGET = Path(__file__).parents[2] / "mappings" / "crm" / "target.sql"
OTHER_OPTIONS = {
    "ids": "uuid_v4",
    "asymmetric_arrays": "owner_side",
    "dangling_optional": "reject",
    "unconstrained_reference": "null",
    "missing_required": "reject",
    "missing_created": "object_id_time",
    "scalar_to_text": "reject",
    "numeric_dates": "epoch_ms",
    "json_values": "extended_json",
    "duplicate_user": "merge_references",
    "existing_user": "adopt",
    "passwords": "drop",
    "second_brain": "archive",
}


@dataclass(frozen=True)
class Case:
    """`seed` None: every ugly value in every kind of column."""

    seed: int | None
    form: str
    decisions: Mapping[str, str]
    has_user: bool = False


CASES = {
    "every ugly value": Case(None, "dump", {}),
    "every ugly value, other options": Case(None, "archive-gz", OTHER_OPTIONS),
    "a user is there": Case(7, "json-mixture", {}, has_user=True),
    "users merged": Case(5, "dump-gz", {"duplicate_user": "merge_references", "missing_created": "object_id_time"}),
}


def put_users(url: str, users: Mapping[str, str]) -> None:
    with psycopg.connect(url) as connection:
        for email, target_id in users.items():
            connection.execute('INSERT INTO "Users" (id, email) VALUES (%s, %s)', [target_id, email])


def told(directory: Path, url: str, case: Case) -> tuple[list[Difference], str]:
    """What differs after a run, and what the run said."""
    with psycopg.connect(url) as connection:
        connection.execute(TARGET.read_bytes())
    users = EXISTING if case.has_user else {}
    put_users(url, users)
    given = inputs_of(case.seed, case.decisions, as_json=case.form.startswith("json"))
    inputs = replace(given, existing_users=users, facts=live_facts(url))
    (directory / "decisions.yaml").write_text(json.dumps(dict(case.decisions)))
    environment = {
        "CRM_LEGACY_URL": str(write_form(directory / "legacy", case.form, inputs.collections)),
        "CRM_TARGET_URL": url,
        "CRM_DECISIONS": str(directory / "decisions.yaml"),
    }
    done = Command(directory, environment, seconds=900)("run", "crm")
    return differences(found_in(url), migrate(inputs), others=users.values()), done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_run(tmp_path, database_url, case):
    found, said = told(tmp_path, database_url, case)
    assert found == [], f"{brief(found)}\n{said[-2_000:]}"
