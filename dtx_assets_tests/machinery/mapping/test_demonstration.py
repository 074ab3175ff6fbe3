"""A file that stands for people who have said nothing: what it says for them, and where it is refused."""

from dataclasses import replace

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.checks.obstacles import open_decision
from dtx_assets.machinery.mapping.decisions import decisions_under, load_decisions
from dtx_assets.machinery.mapping.demonstration import require_it_stands, write_demonstration
from dtx_assets_tests.dtx.commands import Command

DECISIONS = """\
decisions:
  - { key: currency, area: 1, number: "1", title: Which currency, text: Which., status: open, confirm_by: Treasury,
      options: [usd, eur], chosen: usd, blocking_action: A1-1 }
  - { key: rates, area: 1, number: "2", title: Which rates, text: Which., status: documented }
actions:
  - { id: A1-1, area: 1, number: 1, text: Ask the bank., blocking: true }
questions:
  - { name: bank_is_told, text: Is the bank told? }
"""


@pytest.fixture
def plan(tmp_path):
    file = tmp_path / "decisions.yaml"
    file.write_text(DECISIONS)
    sample = tmp_path / "sample"
    sample.mkdir()
    (sample / "payment.csv").write_text("id\n1\n")
    return file, write_demonstration(sample, "bank", load_decisions(file))


def settings_of(sample, **others):
    settings = Settings.from_environment("bank", environ={"BANK_LEGACY_URL": str(sample)}, sample_dir=sample)
    return replace(settings, **others)


def test_what_is_open_counts_as_said(plan):
    file, demonstration = plan
    assert [entry.key for entry in load_decisions(file).open] == ["currency"]
    shown = decisions_under(file, "bank", None, demonstration)
    assert [entry.status for entry in shown.entries] == ["confirmed", "documented"]
    assert [action.status for action in shown.actions] == ["done"]
    assert shown.is_answered("bank_is_told")
    assert not load_decisions(file).is_answered("bank_is_told")
    assert shown.chosen == {"currency": "usd"}
    assert "decisions.yaml" in shown.demonstration.told


def test_what_it_does_not_name_stays_open(plan):
    file, demonstration = plan
    file.write_text(DECISIONS.replace("status: documented", "status: open, confirm_by: Treasury"))
    shown = decisions_under(file, "bank", None, demonstration)
    assert [entry.key for entry in shown.open] == ["rates"]
    assert open_decision(shown.open[0], shown).owner == "Treasury"


@pytest.mark.parametrize(
    ("written", "instead", "says"),
    [
        ("- currency", "- curency", "there is no 'curency' to be confirmed"),
        ("- A1-1", "- A1-2", "there is no 'A1-2' to be done"),
        ("bank_is_told:", "bank_was_told:", "did you mean 'bank_is_told'"),
        ("system: bank", "system: shop", "it is a demonstration of shop"),
        ("confirmed:", "agreed:", "agreed"),
    ],
)
def test_what_it_says_wrong_is_told_with_the_line(plan, written, instead, says):
    file, demonstration = plan
    demonstration.write_text(demonstration.read_text().replace(written, instead))
    with pytest.raises(ConfigurationError, match=says) as refused:
        decisions_under(file, "bank", None, demonstration)
    assert "demonstration.yaml:" in str(refused.value)


def test_it_stands_for_its_sample_and_the_embedded_database_alone(plan, tmp_path):
    file, demonstration = plan
    sample = demonstration.parent
    said = decisions_under(file, "bank", None, demonstration).demonstration
    require_it_stands(said, settings_of(sample))
    other = tmp_path / "other"
    other.mkdir()
    (other / "payment.csv").write_text("id\n2\n")
    for settings, why in (
        (settings_of(sample, target_url="postgresql://loader@db/bank"), "the embedded database alone"),
        (settings_of(other), "not the sample that the demonstration stands for"),
        (settings_of(sample, legacy_url="mysql://reader@db/bank"), "the data lie elsewhere"),
        (settings_of(sample, crosswalk_url=str(other)), "the data lie elsewhere"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            require_it_stands(said, settings)
    (sample / "payment.csv").write_text("id\n1\n2\n")
    with pytest.raises(ConfigurationError, match="or were changed since"):
        require_it_stands(said, settings_of(sample))


@pytest.mark.parametrize("system", ["dtx", "dispatch"])
def test_nothing_of_a_clean_sample_is_in_the_way(system, tmp_path):
    """PAD's is the demonstration of the docs."""
    dtx = Command(tmp_path, {})
    written = dtx("sample", system, "legacy", "--clean", "--rows", "20")
    assert written.returncode == 0, written.stderr
    environment = {
        f"{system.upper()}_LEGACY_URL": "legacy",
        f"{system.upper()}_DEMONSTRATION": "legacy/demonstration.yaml",
    }
    planned = dtx("plan", system, **environment)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "Go: nothing is in the way but what the cutover itself asks (1 question to answer)." in planned.stdout
    assert "A demonstration: demonstration.yaml stands for everybody" in planned.stdout
