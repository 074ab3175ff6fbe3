"""The evaluators that any system can use. Why: a check that cannot fail hides what a cutover is decided on."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.checks import survey as surveying
from dtx_assets.machinery.checks.crosswalks import unmatched_ids
from dtx_assets.machinery.checks.flows import coercions_outcome
from dtx_assets.machinery.checks.spec import EXAMPLES, VALUES_SHOWN, CheckGroup, CheckSpec, joined_checks
from dtx_assets.machinery.checks.survey import Survey, listed, repeated_keys, shown_values
from dtx_assets.machinery.checks.tables import schema_drift_outcome
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets_tests.checking import Checking, decisions, entry, group_of


@pytest.fixture
def checking(tmp_path: Path) -> Checking:
    return Checking(tmp_path)


# --- surveys ----------------------------------------------------------------------------------------------------------


def rows_of(**columns: Sequence[Any]) -> pl.LazyFrame:
    length = len(next(iter(columns.values())))
    return pl.LazyFrame({"_source_key": [str(number) for number in range(length)], **columns})


def test_a_survey_counts_rows_and_shows_at_most_five_of_them_with_their_keys() -> None:
    survey = Survey(rows_of(size=[1, 9, None, 8, 7, 6, 5, 9]))
    survey.rows("large", pl.col("size") > 4, show=("size",))
    survey.rows("negative", pl.col("size") < 0)
    answers = survey.answers()
    assert answers.total == 8
    assert answers.rows["large"].count == 6
    assert answers.rows["large"].examples == [
        {"key": key, "size": size} for key, size in (("1", "9"), ("3", "8"), ("4", "7"), ("5", "6"), ("6", "5"))
    ]
    assert len(answers.rows["large"].examples) == EXAMPLES
    assert answers.rows["negative"].outcome().passed
    assert not answers.rows["large"].outcome().passed


def test_a_survey_tallies_values_and_elements_of_lists_with_null_among_them() -> None:
    survey = Survey(rows_of(kind=["a", "a", "b", "b", "b"], value=["x", None, None, "y", None]))
    lists = pl.concat_list("kind", "kind", pl.col("value").fill_null("-"))
    survey.values("all", pl.col("value"))
    survey.values("lists", lists)
    survey.rows("of a", pl.col("kind") == "a", value=pl.col("value"))
    survey.rows("lists of a", pl.col("kind") == "a", value=lists)
    survey.rows("of c", pl.col("kind") == "c", value=pl.col("value"))
    survey.count("of b", pl.col("kind") == "b")
    answers = survey.answers()
    values = answers.values
    assert shown_values(values["all"]) == {"NULL": 3, "x": 1, "y": 1}
    assert shown_values(values["lists"]) == {"-": 3, "b": 3, "a": 2, "x": 1, "y": 1}
    assert shown_values(values["of a"]) == {"NULL": 1, "x": 1}
    assert shown_values(values["lists of a"]) == {"a": 2, "-": 1, "x": 1}
    assert (shown_values(values["of c"]), values["of c"].height) == ({}, 0)
    assert (answers.rows["of b"].count, answers.rows["of b"].examples) == (3, [])


def test_a_survey_of_no_rows_finds_nothing() -> None:
    survey = Survey(rows_of(value=["x"]).filter(pl.lit(False)))
    survey.rows("any", pl.col("value") == "x", show=("value",))
    survey.values("all", pl.col("value"))
    answers = survey.answers()
    assert (answers.total, answers.rows["any"].count, answers.rows["any"].examples) == (0, 0, [])
    assert shown_values(answers.values["all"]) == {}


def test_examples_mask_personal_columns_and_addresses_elsewhere() -> None:
    frame = rows_of(name=["Anna Example"], note=["write to anna@example.com " + "x" * 100])
    survey = Survey(frame, personal={"name"})
    survey.rows("all", pl.lit(True), show=("name", "note"))
    (example,) = survey.answers().rows["all"].examples
    assert example["name"] == "A… (12 characters)"
    assert "anna@example.com" not in example["note"]
    assert len(example["note"]) < 70


def test_more_values_than_can_be_shown_are_summed_up() -> None:
    tally = pl.DataFrame(
        {"value": [f"v{number}" for number in range(VALUES_SHOWN + 3)], "rows": [2] * (VALUES_SHOWN + 3)}
    )
    shown = shown_values(tally)
    assert len(shown) == VALUES_SHOWN + 1
    assert shown["(3 other values)"] == 6


def test_listed_compares_trimmed_and_without_case() -> None:
    values = pl.DataFrame({"value": [" gl", "GL ", "Gl", "G L", None, ""]})
    known = pl.Series(["GL", " wc ", None])
    assert values.select(listed(pl.col("value"), known)).to_series().to_list() == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


# --- keys -------------------------------------------------------------------------------------------------------------


def test_repeated_keys_tell_identical_rows_from_differing_ones() -> None:
    frame = pl.LazyFrame(
        {
            "key": ["1", "1", "2", "2", "2", "3", None, None],
            "value": ["a", "a", "b", "c", "b", "d", "e", "e"],
        }
    )
    repeated = repeated_keys(frame, [pl.col("key")], ["key", "value"])
    assert (repeated.keys, repeated.identical, repeated.differing) == (2, 2, 1)
    assert repeated.examples == ["2"]


def test_rows_without_a_key_are_compared_whole_null_included() -> None:
    frame = pl.LazyFrame({"a": ["1", "1", "1", None, None], "b": ["x", "x", "y", None, None]})
    repeated = repeated_keys(frame, [pl.col("a"), pl.col("b")])
    assert (repeated.keys, repeated.identical, repeated.differing) == (2, 2, 0)


def test_a_null_is_not_the_same_as_an_empty_text_and_columns_do_not_run_together() -> None:
    frame = pl.LazyFrame({"a": ["x", "", None, "ab", "a"], "b": ["", "x", "x", "c", "bc"]})
    assert repeated_keys(frame, [pl.col("a"), pl.col("b")]).keys == 0


def test_keys_are_found_again_in_other_files(tmp_path: Path) -> None:
    """A hash that depended on the chunk would find no key again in a table of several files."""
    for number in range(4):
        pl.DataFrame({"key": ["same", f"own {number}"], "value": ["v", str(number)]}).write_parquet(
            tmp_path / f"{number}.parquet"
        )
    repeated = repeated_keys(pl.scan_parquet(tmp_path / "*.parquet"), [pl.col("key")], ["value"])
    assert (repeated.keys, repeated.identical, repeated.differing, repeated.examples) == (1, 3, 0, ["same"])


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.tuples(st.none() | st.integers(0, 30), st.integers(0, 2)), max_size=120),
    held=st.integers(1, 40),
    whole=st.booleans(),
)
def test_keys_spread_over_files_are_the_ones_that_are_held(rows, held, whole) -> None:
    frame = pl.LazyFrame(rows, schema={"key": pl.Int64, "value": pl.Int64}, orient="row")
    key, content = ([pl.col("key"), pl.col("value")], None) if whole else ([pl.col("key")], ["value"])
    at_once = repeated_keys(frame, key, content)
    with tempfile.TemporaryDirectory() as home, patch.object(surveying, "HELD", held):
        spread = repeated_keys(frame, key, content, Path(home))
        assert not [*Path(home).iterdir()]
    assert spread == at_once


def test_unmatched_ids_are_counted_once_with_their_rows() -> None:
    frame = pl.LazyFrame({"user_id": ["1", "2.0", "02", "7", "seven", None]})
    crosswalk = pl.LazyFrame(
        {"source_id": ["1", "7"], "target_id": [10, None]}, {"source_id": pl.String, "target_id": pl.Int64}
    )
    unmatched = unmatched_ids(frame, "user_id", crosswalk)
    assert (unmatched.distinct, unmatched.ids, unmatched.rows) == (4, 3, 4)
    assert unmatched.examples == ["2", "7", "seven"]


# --- groups -----------------------------------------------------------------------------------------------------------


def test_groups_of_one_asset_join_and_two_checks_of_one_name_are_refused() -> None:
    def group(name: str, asset: str = "a") -> CheckGroup:
        spec = CheckSpec(name, ("legacy", asset), "")
        return CheckGroup(("legacy", asset), (spec,), lambda _: {name: coercions_outcome([])}, (("legacy", asset),))

    joined = joined_checks(group("one"), group("two"))
    assert [spec.name for spec in joined.specs] == ["one", "two"]
    assert set(joined.evaluate(None)) == {"one", "two"}  # type: ignore[arg-type]
    assert joined.needs == (("legacy", "a"),)
    with pytest.raises(ValueError, match="two have the same name"):
        joined_checks(group("one"), group("one"))
    with pytest.raises(ValueError, match="not of one asset"):
        joined_checks(group("one"), group("two", "b"))


# --- landed tables ----------------------------------------------------------------------------------------------------

KEYWORD = {"customer_id": "1", "keyword": "GROUP_NAME", "replacement": "Centers"}


def test_a_sound_table_passes_all_its_checks(checking: Checking) -> None:
    checking.legacy("keyword", KEYWORD, {**KEYWORD, "customer_id": "2"})
    outcomes = checking.outcomes("legacy", "keyword")
    assert {name for name, outcome in outcomes.items() if outcome.passed} == {
        "row_count_equals_source",
        "columns_are_as_planned",
        "values_are_text",
        "tables_did_not_change_while_read",
        "natural_key_is_unique",
        "keywords_are_those_of_the_plan",
        "keywords_and_replacements_are_there",
        "texts_can_be_kept",
    } & set(outcomes)
    assert outcomes["row_count_equals_source"].metadata == {"landed": 2, "source": 2}


@pytest.mark.parametrize(
    "metadata", [{"source_rows": 5, "row_count_matches": False}, {"source_rows": 1, "row_count_matches": False}]
)
def test_row_count_equals_source_fails_when_rows_are_missing(checking: Checking, metadata: dict[str, Any]) -> None:
    checking.legacy("keyword", KEYWORD, **metadata)
    outcome = checking.outcomes("legacy", "keyword")["row_count_equals_source"]
    assert not outcome.passed
    assert outcome.count == metadata["source_rows"] - 1


PLAN = LegacyTable("plan", "area", ("a", "b", "c"), column_count=4)


@pytest.mark.parametrize(
    ("columns", "count", "facts"),
    [
        (["a", "b", "c", "extra"], 0, {"not named in the plan": ["extra"]}),
        (["a", "extra", "b", "c"], 0, {"in another place": []}),
        (["a", "c", "extra"], 1, {"missing": ["b"]}),
        (["b", "a", "c", "extra"], 2, {"in another place": ["b", "a"]}),
        (["a", "b", "c", "extra", "more"], 1, {"more than the plan counts": 1}),
        (["a", "b", "c"], 1, {"unnamed columns missing": 1}),
        (["a", "B", "c", "extra"], 2, {"missing": ["b"], "more than the plan counts": 1}),
    ],
)
def test_schema_drift(columns: list[str], count: int, facts: dict[str, Any]) -> None:
    outcome = schema_drift_outcome(PLAN, columns)
    assert (outcome.passed, outcome.count) == (count == 0, count)
    assert facts.items() <= outcome.metadata.items()


def test_schema_drift_of_a_landed_table(checking: Checking) -> None:
    checking.legacy("keyword", KEYWORD, columns=["replacement", "customer_id", "keyword", "note"])
    outcome = checking.outcomes("legacy", "keyword")["columns_are_as_planned"]
    assert not outcome.passed
    assert outcome.metadata["not named in the plan"] == ["note"]
    assert outcome.metadata["in another place"] == ["replacement", "customer_id", "keyword"]


def test_values_are_text_fails_on_undecodable_bytes(checking: Checking) -> None:
    checking.legacy("keyword", KEYWORD, undecodable={1: ["replacement"]})
    outcome = checking.outcomes("legacy", "keyword")["values_are_text"]
    assert (outcome.passed, outcome.count) == (False, 1)
    assert outcome.metadata["columns"] == {"replacement": 1}
    assert outcome.metadata["examples"] == [{"key": '["1","GROUP_NAME"]', "columns": "replacement"}]


@pytest.mark.parametrize("snapshot", [True, False])
def test_no_snapshot_is_fine_while_no_table_changed(checking: Checking, snapshot: bool) -> None:
    checking.legacy("keyword", KEYWORD, consistent_snapshot=snapshot)
    outcome = checking.outcomes("legacy", "keyword")["tables_did_not_change_while_read"]
    assert outcome.passed
    assert outcome.metadata["one consistent snapshot"] is snapshot


def test_tables_that_changed_while_they_were_read_are_named(checking: Checking) -> None:
    checking.legacy("keyword", KEYWORD, consistent_snapshot=False, changed_while_read=["letter", "keyword"])
    outcome = checking.outcomes("legacy", "keyword")["tables_did_not_change_while_read"]
    assert (outcome.passed, outcome.count, outcome.metadata["changed"]) == (False, 2, ["letter", "keyword"])


def test_natural_key_of_several_columns_is_compared_by_value(checking: Checking) -> None:
    checking.legacy("keyword", KEYWORD, {**KEYWORD, "customer_id": "1.0"}, {**KEYWORD, "keyword": "group_name"})
    outcome = checking.outcomes("legacy", "keyword")["natural_key_is_unique"]
    assert (outcome.passed, outcome.metadata["keys that occur again"]) == (False, 1)
    assert outcome.metadata["rows with other content"] == 1
    assert outcome.metadata["examples"] == ["1, GROUP_NAME"]


EXEMPTION = {"exemption_id": "7", "item_type": "COI", "item_name": "GL"}


@pytest.mark.parametrize(
    ("again", "severity", "facts"),
    [
        (EXEMPTION, "WARN", {"rows with identical content": 1, "rows with other content": 0}),
        ({**EXEMPTION, "item_name": "WC"}, None, {"rows with identical content": 0, "rows with other content": 1}),
        ({**EXEMPTION, "exemption_id": None}, None, {"rows without a key": 1, "keys that occur again": 0}),
    ],
)
def test_natural_key_of_a_migrated_table_is_an_error_unless_rows_are_identical(
    checking: Checking, again: dict[str, str | None], severity: str | None, facts: dict[str, int]
) -> None:
    checking.legacy("exemption", EXEMPTION, again, {**EXEMPTION, "exemption_id": "8"})
    outcome = checking.outcomes("legacy", "exemption")["natural_key_is_unique"]
    assert (outcome.passed, outcome.count, outcome.severity) == (False, 1, severity)
    assert facts.items() <= outcome.metadata.items()
    (spec,) = (spec for spec in group_of("legacy", "exemption").specs if spec.name == "natural_key_is_unique")
    assert spec.severity == "ERROR"


def test_a_key_that_may_repeat_warns_only(checking: Checking) -> None:
    row = {"customer_id": "1", "type": "COI", "selector": "NONCOMP", "webhook": "N;"}
    checking.legacy("notification_webhook", row, {**row, "type": "coi ", "webhook": ""}, {**row, "selector": None})
    outcome = checking.outcomes("legacy", "notification_webhook")["natural_key_is_unique"]
    assert (outcome.passed, outcome.metadata["rows with other content"]) == (False, 1)
    (spec,) = (s for s in group_of("legacy", "notification_webhook").specs if s.name == "natural_key_is_unique")
    assert spec.severity == "WARN"


def test_rows_of_a_table_without_a_key_are_distinct(checking: Checking) -> None:
    checking.legacy("prepay_so_list", {"customer_id": "1"}, {"customer_id": "2"})
    assert checking.outcomes("legacy", "prepay_so_list")["rows_are_distinct"].passed
    checking.legacy("prepay_so_list", {"customer_id": "1"}, {"customer_id": "2"}, {"customer_id": "1"})
    outcome = checking.outcomes("legacy", "prepay_so_list")["rows_are_distinct"]
    assert (outcome.passed, outcome.count) == (False, 1)


def test_a_table_that_was_not_landed_is_named(checking: Checking) -> None:
    with pytest.raises(StructureError, match="dtx/legacy/keyword has not been materialised"):
        checking.outcomes("legacy", "keyword")


# --- crosswalks -------------------------------------------------------------------------------------------------------


def test_a_crosswalk_contradicts_itself_only_with_different_ids(checking: Checking) -> None:
    rows = [("1", "10"), ("1.0", "10"), ("2", "20"), ("2", "20.0"), ("3", None)]
    checking.legacy("crosswalk_user", *({"user_id": user, "target_user_id": target} for user, target in rows))
    assert checking.outcomes("crosswalk", "crosswalk_user")["crosswalk_does_not_contradict_itself"].passed

    rows += [("2.0", "21"), ("3", "30")]
    checking.legacy("crosswalk_user", *({"user_id": user, "target_user_id": target} for user, target in rows))
    outcome = checking.outcomes("crosswalk", "crosswalk_user")["crosswalk_does_not_contradict_itself"]
    assert (outcome.passed, outcome.count) == (False, 2)
    assert outcome.metadata["examples"] == ["2", "3"]


def test_ids_that_the_target_or_the_crosswalk_does_not_have(checking: Checking) -> None:
    checking.legacy("exemption", {"exemption_id": "1", "vendor_id": "5"}, {"exemption_id": "2", "vendor_id": "6"})
    checking.legacy("repo_file")
    checking.crosswalk("record", {"5": 50, "6": 60})
    outcomes = checking.outcomes("mapping", "record")
    assert outcomes["crosswalk_ids_exist_in_target"].passed
    assert outcomes["legacy_ids_have_a_match"].passed

    checking.legacy("exemption", {"exemption_id": "1", "vendor_id": "5"}, {"exemption_id": "2", "vendor_id": "9"})
    checking.crosswalk("record", {"5": None, "6": 60}, missing={"5": 50})
    outcomes = checking.outcomes("mapping", "record")
    assert outcomes["crosswalk_ids_exist_in_target"].count == 1
    assert outcomes["crosswalk_ids_exist_in_target"].metadata["examples"] == [{"key": "5", "missing_id": "50"}]
    match = outcomes["legacy_ids_have_a_match"]
    assert (match.passed, match.count) == (False, 2)
    assert match.metadata["exemption.vendor_id"]["examples"] == ["5", "9"]


# --- prepared and rejected --------------------------------------------------------------------------------------------

BALANCES = "letter_read_is_migrated_rejected_or_dropped"


def letters(checking: Checking, number: int) -> None:
    checking.legacy("letter", *({"customer_id": str(row)} for row in range(number)))


def test_accounting_balances(checking: Checking) -> None:
    letters(checking, 3)
    checking.prepared(
        "EmailTemplate",
        links=[("letter", "1", 1, ["en"])],
        rejected=[("letter", "2", ["orphan_reference"], False, ""), ("letter", "1", ["duplicate_key"], True, "")],
        accounting=[entry("letter", migrated=1, rejected=1, dropped={"identical": 1})],
    )
    outcome = checking.outcomes("prepared", "EmailTemplate")[BALANCES]
    assert outcome.passed
    assert outcome.metadata["dropped"] == {"identical": 1}


@pytest.mark.parametrize(
    ("accounting", "landed", "preparations", "sentence"),
    [
        (entry("letter", read=3, migrated=1, rejected=1), 3, ("one", "one"), "3 read, 2 accounted for"),
        (entry("letter", migrated=1, rejected=1), 3, ("one", "one"), "3 rows in the legacy table, 2 booked"),
        (entry("letter", migrated=2, rejected=1), 3, ("one", "one"), "2 migrated, 1 linked"),
        (entry("letter", migrated=1, rejected=2), 3, ("one", "one"), "2 rejected, 1 listed"),
        (entry("letter", migrated=1, rejected=1), 2, ("one", "two"), "different preparations"),
    ],
)
def test_accounting_that_does_not_balance_says_where(
    checking: Checking, accounting: dict[str, Any], landed: int, preparations: tuple[str, str], sentence: str
) -> None:
    letters(checking, landed)
    checking.prepared(
        "EmailTemplate",
        links=[("letter", "1", 1, ["en"])],
        rejected=[("letter", "2", ["orphan_reference"], False, "")],
        accounting=[accounting],
        preparations=preparations,
    )
    outcome = checking.outcomes("prepared", "EmailTemplate")[BALANCES]
    assert (outcome.passed, outcome.count) == (False, 1)
    assert sentence in outcome.metadata["does not balance"][0]


def test_rows_of_a_source_with_two_targets_are_booked_over_both(checking: Checking) -> None:
    checking.legacy("exemption", {"exemption_id": "1"}, {"exemption_id": "2"})
    checking.crosswalk("user", {})
    checking.groups()
    checking.prepared("ManualOverride", links=[("exemption", "1", 1, ["5"])])
    checking.prepared("DocRequirement", rejected=[("exemption", "2", ["orphan_reference"], False, "")])
    name = "exemption_read_is_migrated_rejected_or_dropped"
    assert checking.outcomes("prepared", "ManualOverride")[name].passed
    checking.prepared("DocRequirement")
    outcome = checking.outcomes("prepared", "ManualOverride")[name]
    assert outcome.metadata["does not balance"] == ["2 rows in the legacy table, 1 booked over all targets"]


def test_missing_accounting_of_a_source_is_a_structure_error(checking: Checking) -> None:
    letters(checking, 0)
    checking.prepared("EmailTemplate", accounting=[])
    with pytest.raises(StructureError, match="EmailTemplate have no accounting of letter"):
        checking.outcomes("prepared", "EmailTemplate")


def test_coercions_warn_above_their_threshold() -> None:
    few = coercions_outcome([entry("letter", migrated=1000, coerced={"zero_date": 10})])
    assert few.passed
    many = coercions_outcome([entry("letter", migrated=1000, coerced={"zero_date": 10, "invalid_time": 11})])
    assert (many.passed, many.count, many.metadata["above"]) == (False, 1, ["letter: invalid_time"])
    assert many.metadata["coercions"]["letter: invalid_time"] == {"rows": 11, "share": 0.011}


def test_rejected_rows_are_counted_by_reason_for_each_source(checking: Checking) -> None:
    checking.prepared("NotificationSchedule")
    assert all(outcome.passed for outcome in checking.outcomes("rejected", "NotificationSchedule").values())
    checking.prepared(
        "NotificationSchedule",
        rejected=[
            ("notification", "1", ["unparseable"], False, "CRFRRSetting: someone@example.com is no integer"),
            ("notification", "2", ["orphan_reference", "unparseable"], False, ""),
            ("notification", "3", ["unparseable"], False, ""),
            (
                "notification_webhook",
                '["1","COI","EXPIRED"]',
                ["invalid_email"],
                True,
                "webhook: not an address: nobody at all",
            ),
        ],
    )
    outcomes = checking.outcomes("rejected", "NotificationSchedule")
    notification = outcomes["no_notification_row_is_rejected"]
    assert (notification.passed, notification.count) == (False, 3)
    assert notification.metadata["reasons"] == {"unparseable": 2, "orphan_reference, unparseable": 1}
    assert notification.metadata["examples"][0] == {"key": "1", "why": "unparseable"}
    assert outcomes["no_notification_webhook_row_is_rejected"].passed
    partial = outcomes["no_row_is_rejected_in_part"]
    assert (partial.passed, partial.count, partial.metadata["reasons"]) == (False, 1, {"invalid_email": 1})
    assert outcomes["rows_satisfy_schemas"].passed
    assert "example.com" not in json.dumps([outcome.metadata for outcome in outcomes.values()])


def test_schema_violations_show_the_rule_and_no_value(checking: Checking) -> None:
    checking.prepared(
        "EmailTemplate",
        rejected=[
            ("letter", "1", ["schema_violation"], False, "selector: not_nullable"),
            (
                "letter",
                "2",
                ["schema_violation", "unparseable"],
                False,
                "subject: some secret; name: name is not too long",
            ),
            ("letter", "3", ["schema_violation"], False, "something else: secret"),
            ("letter", "4", ["unparseable"], False, "selector: not_nullable"),
        ],
    )
    outcome = checking.outcomes("rejected", "EmailTemplate")["rows_satisfy_schemas"]
    assert (outcome.passed, outcome.count) == (False, 3)
    assert outcome.metadata["rules"] == {
        "letter: selector: not_nullable": 1,
        "letter: name: name is not too long": 1,
        "letter: (see the rejected rows)": 1,
    }


# --- decisions --------------------------------------------------------------------------------------------------------


def test_open_decisions_and_blocking_actions_of_a_target_are_listed(checking: Checking) -> None:
    outcomes = checking.outcomes("target", "EmailTemplate")
    waiting = outcomes["decisions_are_confirmed"]
    assert not waiting.passed
    assert set(waiting.metadata["open"]) == {"bilingual_letters (A8 #4)", "on_target_conflict (A8 #1, 4)"}
    assert waiting.metadata["open"]["bilingual_letters (A8 #4)"] == "tag_es, to be confirmed by DTX 2.0 product owner"
    undone = outcomes["blocking_actions_are_done"]
    assert (undone.passed, set(undone.metadata["open"])) == (False, {"A8-3"})

    checking.choose(decisions(confirmed=["bilingual_letters", "on_target_conflict"], done=["A8-3"]))
    assert all(outcome.passed for outcome in checking.outcomes("target", "EmailTemplate").values())


def test_a_decision_that_makes_no_difference_is_not_waited_for(checking: Checking) -> None:
    relevant = "dow_bit_order (A8 #7)"
    assert (
        relevant not in checking.outcomes("target", "NotificationSchedule")["decisions_are_confirmed"].metadata["open"]
    )
    checking.choose(decisions(dow_bitmap="send_days"))
    outcomes = checking.outcomes("target", "NotificationSchedule")
    assert relevant in outcomes["decisions_are_confirmed"].metadata["open"]
    assert "A8-2" in outcomes["blocking_actions_are_done"].metadata["open"]


def test_every_legacy_table_and_crosswalk_has_the_checks_of_a_landed_table() -> None:
    names = {"row_count_equals_source", "columns_are_as_planned", "values_are_text", "tables_did_not_change_while_read"}
    for layer, tables in (("legacy", SYSTEM.legacy_tables), ("crosswalk", SYSTEM.crosswalk_tables)):
        for name in tables:
            assert names < {spec.name for spec in group_of(layer, name).specs}
