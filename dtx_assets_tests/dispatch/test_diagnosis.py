"""Before the first run it is told how many rows hang on a decision: patients without a user, whatever is chosen."""

import csv
from contextlib import ExitStack

import pytest

from dtx_assets.dispatch.decided_system import HERE, SYSTEM
from dtx_assets.machinery.mapping.decisions import load_decisions
from dtx_assets.machinery.run.preflight.decided_rows import decided_rows
from dtx_assets.machinery.run.preflight.source import Sources
from dtx_assets_tests.dispatch.running import environment_of

PATIENTS = "dispatch_patient.csv"


def without_user(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return sum(row["user_id"] in ("", "\\N") for row in rows), len(rows)


@pytest.fixture
def legacy(tmp_path):
    directory = tmp_path / "legacy"
    directory.mkdir()
    for file in (HERE / "sample").glob("*.csv"):
        (directory / file.name).write_bytes(file.read_bytes())
    return directory


def told(legacy, tmp_path, option="reject"):
    override = tmp_path / "decisions.yaml"
    override.write_text(f"patient_without_user: {option}\n")
    system = SYSTEM.under(load_decisions(SYSTEM.mappings_dir / "decisions.yaml", override))
    settings = {"DISPATCH_LEGACY_URL": str(legacy), "DISPATCH_DECISIONS": str(override)}
    with environment_of(system, tmp_path, settings) as environment, ExitStack() as stack:
        return list(decided_rows(environment, Sources(environment, stack)))


def test_patients_without_a_user_are_counted_under_each_option(legacy, tmp_path):
    missing, of = without_user(legacy / PATIENTS)
    assert missing > 0
    says = f"{missing} of {of}: user_id has no user, and so no name"
    [rejected] = told(legacy, tmp_path)
    assert (rejected.subject, rejected.state, rejected.says) == ("rows of dispatch_patient", "warn", says)
    assert rejected.remedy == (
        "decision patient_without_user is reject: they are rejected as schema_violation; Product owner decides"
    )
    [kept] = told(legacy, tmp_path, "own_profile")
    assert (kept.state, kept.says) == ("warn", says)
    assert "is own_profile: they are not rejected" in kept.remedy


def test_where_every_patient_has_a_user_all_is_well(legacy, tmp_path):
    table = legacy / PATIENTS
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *(row for row in rows if row.split(",")[1] not in ("", "\\N"))]) + "\n")
    [well] = told(legacy, tmp_path)
    assert well.state == "yes"
    assert well.says.startswith("0 of ")


def test_a_table_that_cannot_be_read_is_told_elsewhere(legacy, tmp_path):
    (legacy / PATIENTS).unlink()
    assert told(legacy, tmp_path) == []
