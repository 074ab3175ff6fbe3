"""Whole runs of `dtx run crm` on ugly documents leave in the database what the second reading says, row by row.

A run takes a minute or two, so there are two: in each every ugly value in every kind of column beside a random dump,
in a new system that has a user already. Between them they have both options of each decision.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from dtx_assets_tests.crm.compare import Difference, brief, differences, found_in, write_form
from dtx_assets_tests.crm.live_facts import live_facts
from dtx_assets_tests.crm.second_reading import Inputs, migrate
from dtx_assets_tests.crm.second_reading_facts import OPTIONS
from dtx_assets_tests.crm.ugly import EXISTING, dump, thorough
from dtx_assets_tests.dtx.commands import Command

TARGET = Path(__file__).parents[2] / "mappings" / "crm" / "target.sql"
USERS_MERGED = {"duplicate_user": "merge_references", "missing_created": "object_id_time"}
"""Beside the defaults: what is merged is not rejected for something else."""
OTHER_OPTIONS = {
    "ids": "uuid_v4",
    "asymmetric_arrays": "owner_side",
    "dangling_optional": "reject",
    "unconstrained_reference": "null",
    "missing_required": "reject",
    "scalar_to_text": "reject",
    "numeric_dates": "epoch_ms",
    "json_values": "extended_json",
    "existing_user": "adopt",
    "undeclared_fields": "extra_table",
    "passwords": "drop",
    "second_brain": "archive",
}
"""Of each decision that `USERS_MERGED` leaves as it is shipped."""


@dataclass(frozen=True)
class Case:
    """`seed`: of the random documents beside every ugly value."""

    seed: int
    form: str
    decisions: Mapping[str, str]

    def inputs(self) -> Inputs:
        random, every = dump(self.seed).collections, thorough().collections
        collections = {name: [*every.get(name, ()), *documents] for name, documents in random.items()}
        return Inputs(collections, self.decisions, existing_users=EXISTING)


CASES = {"users merged": Case(6, "dump", USERS_MERGED), "other options": Case(9, "archive-gz", OTHER_OPTIONS)}


def put_users(url: str, users: Mapping[str, str]) -> None:
    with psycopg.connect(url) as connection:
        for email, target_id in users.items():
            connection.execute('INSERT INTO "Users" (id, email) VALUES (%s, %s)', [target_id, email])


def told(directory: Path, url: str, case: Case) -> tuple[list[Difference], str]:
    """What differs after a run, and what the run said."""
    with psycopg.connect(url) as connection:
        connection.execute(TARGET.read_bytes())
    put_users(url, EXISTING)
    inputs = replace(case.inputs(), facts=live_facts(url))
    (directory / "decisions.yaml").write_text(json.dumps(dict(case.decisions)))
    environment = {
        "CRM_LEGACY_URL": str(write_form(directory / "legacy", case.form, inputs.collections)),
        "CRM_TARGET_URL": url,
        "CRM_DECISIONS": str(directory / "decisions.yaml"),
    }
    done = Command(directory, environment, seconds=900)("run", "crm")
    return differences(found_in(url), migrate(inputs), others=EXISTING.values()), done.stdout + done.stderr


def test_between_them_the_runs_have_all_options():
    """But for that of rows which somebody changed after an earlier run."""
    for decision, (shipped, other) in OPTIONS.items():
        if decision != "on_target_conflict":
            assert {case.decisions.get(decision, shipped) for case in CASES.values()} == {shipped, other}, decision


@pytest.mark.parametrize(("case", "decision"), [("users merged", "duplicate_user"), ("other options", "existing_user")])
def test_users_meet_each_other_and_the_one_that_is_there(case, decision):
    inputs = CASES[case].inputs()
    expected = migrate(inputs).rejected
    assert migrate(replace(inputs, decisions={**inputs.decisions, decision: OPTIONS[decision][0]})).rejected != expected
    assert migrate(replace(inputs, existing_users={})) != migrate(inputs)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_run(tmp_path, database_url, case):
    found, said = told(tmp_path, database_url, case)
    assert found == [], f"{brief(found)}\n{said[-2_000:]}"
