"""The reviewable files of DTX hold what both plans list: decisions, actions, known issues, value maps."""

import csv
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dtx_assets.dtx.system import SYSTEM

MAPPINGS = Path(__file__).parents[2] / "mappings" / "dtx"
LISTS = YAML(typ="safe", pure=True).load(MAPPINGS / "sample.yaml")["lists"]
COVERAGES, SELECTORS = LISTS["coverages"], LISTS["selectors"]

OPTIONS = {
    "timing_semantics": ["incremental", "cumulative"],
    "send_hold_override": ["lookup_wins", "notification_only"],
    "dow_bitmap": ["accept_gap", "send_days", "metadata"],
    "dow_bit_order": ["sunday_first", "monday_first"],
    "bilingual_letters": ["tag_es", "both_languages"],
    "envelope": ["archive", "response_tracking", "aggregate"],
    "imap_upload": ["archive", "model", "document_metadata"],
    "form_field": ["archive", "record_internal_id", "account_meta"],
    "keyword": ["account_meta", "directory_settings", "archive"],
    "vornado_feed": ["archive", "seed_records", "generic_import"],
    "expired_document_exemption": ["skip", "apply"],
    "activation": ["as_legacy", "hold_until_activated"],
    "on_target_conflict": ["keep_target", "overwrite"],
    # Not of the contract, whose reading is the default.
    "php_string_lengths": ["utf8_bytes", "latin1_bytes"],
}


@pytest.fixture(scope="module")
def plan() -> dict:
    return YAML(typ="safe", pure=True).load(MAPPINGS / "decisions.yaml")


def value_map(name: str) -> list[dict[str, str]]:
    with (MAPPINGS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_option_of_the_contract_is_offered_and_the_first_is_chosen(plan: dict) -> None:
    with_options = {entry["key"]: entry for entry in plan["decisions"] if "options" in entry}
    assert {key: entry["options"] for key, entry in with_options.items()} == OPTIONS
    assert {key: entry["chosen"] for key, entry in with_options.items()} == {
        key: options[0] for key, options in OPTIONS.items()
    }


def test_every_decision_of_both_plans_is_there(plan: dict) -> None:
    numbers = {(entry["area"], number) for entry in plan["decisions"] for number in entry["number"].split(", ")}
    assert numbers == {(8, str(n)) for n in range(1, 9)} | {(11, str(n)) for n in range(1, 12)}


def test_actions_and_known_issues_are_all_there_and_named_once(plan: dict) -> None:
    assert [action["id"] for action in plan["actions"]] == [f"A8-{n}" for n in range(1, 6)] + [
        f"A11-{n}" for n in range(1, 6)
    ]
    assert {action["id"] for action in plan["actions"] if not action["blocking"]} == {"A8-4", "A11-4", "A11-5"}
    assert [issue["id"] for issue in plan["known_issues"]] == [f"A8-K{n}" for n in range(1, 10)] + [
        f"A11-K{n}" for n in range(1, 10)
    ]


def test_decisions_refer_to_actions_and_models_that_exist(plan: dict) -> None:
    keys = [entry["key"] for entry in plan["decisions"]]
    assert len(set(keys)) == len(keys)
    actions = {action["id"] for action in plan["actions"]}
    models = {target.model for target in SYSTEM.targets}
    for entry in plan["decisions"]:
        assert entry.get("blocking_action") in {*actions, None}, entry["key"]
        assert set(entry["affects"]) <= models, entry["key"]
        assert entry["status"] == "documented" or entry["confirm_by"], entry["key"]


@pytest.mark.parametrize("path", sorted(MAPPINGS.glob("*.csv")), ids=lambda path: path.stem)
def test_keys_of_a_value_map_differ_without_case_and_blanks(path: Path) -> None:
    rows = value_map(path.stem)
    keys = [next(iter(row.values())).strip().casefold() for row in rows]
    assert all(keys)
    assert len(set(keys)) == len(keys)


def test_coverages_are_the_ten_names_of_the_plan() -> None:
    rows = {row["item_name"]: row for row in value_map("coverage_type")}
    assert rows.keys() == set(COVERAGES)
    assert rows["EPLI"]["coverage_subtype"] == "EPLI"
    assert rows["Primary & Non-Contributory"]["item_key"] == "primary_non_contributory"


def test_selectors_lead_to_schedule_types() -> None:
    rows = value_map("webhook_selector")
    assert {row["selector"] for row in rows} == set(SELECTORS)
    assert {f"coi_{row['type_suffix']}" for row in rows} <= set(
        SYSTEM.target("NotificationSchedule").column("type").allowed
    )
    assert {row["sequence"] for row in rows} <= set(SYSTEM.target("NotificationSchedule").column("sequence").allowed)


def test_no_language_marker_is_part_of_a_macro_or_of_a_marker_of_the_other_language() -> None:
    # A body full of macros must not be taken for a language, nor one language for the other.
    markers = {language: [] for language in ("en", "es")}
    for row in value_map("spanish_markers"):
        markers[row["language"]].append(row["marker"].casefold())
    assert markers["en"]
    assert markers["es"]
    macros = [f"__{row['macro']}__".casefold() for row in value_map("placeholders")]
    for language, other in (("en", "es"), ("es", "en")):
        for marker in markers[language]:
            assert not any(marker in text for text in (*macros, *markers[other])), marker
