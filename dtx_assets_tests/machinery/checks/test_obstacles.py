"""What stands in the way is counted once, has an owner, and is accepted by its name or by all checks red for it."""

import pytest

from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.checks.obstacles import (
    NOBODY,
    Obstacle,
    by_owner,
    count_of_kinds,
    each_once,
    found_by_check,
    from_json,
    open_decision,
    owned_now,
    owner_of_reason,
    rejected_kinds,
    rejected_names,
    undone_action,
)


def decision(name: str, *checks: str, owner: str = "") -> Obstacle:
    return Obstacle("decision", name, "A1 #1", f"not confirmed: {name}", owner, checks=frozenset(checks))


def test_a_fact_that_turns_several_checks_red_is_counted_once():
    found = each_once([decision("ids", "target/A:c"), decision("times", "target/A:c"), decision("ids", "target/B:c")])
    assert [obstacle.name for obstacle in found] == ["ids", "times"]
    assert found[0].checks == {"target/A:c", "target/B:c"}
    assert count_of_kinds(found) == "2 decisions to confirm"


def test_what_is_wrong_with_the_structure_comes_first_and_stays_so():
    fault = Obstacle("structure", "ids", "legacy/a", "a column is missing")
    found = each_once([Obstacle("question", "q", "", "is it?"), decision("ids", "target/A:c"), fault])
    assert [(obstacle.kind, obstacle.name) for obstacle in found] == [("structure", "ids"), ("question", "q")]
    assert not found[0].is_accepted({"ids", "c"})


@pytest.mark.parametrize(
    ("accepted", "is_accepted"),
    [
        ({"ids"}, True),
        ({"c"}, True),
        ({"target/A:c", "target/B:c"}, True),
        ({"target/A:c"}, False),
        ({"times"}, False),
        (set(), False),
    ],
)
def test_it_is_accepted_by_its_name_or_by_every_check_that_is_red_for_it(accepted, is_accepted):
    assert decision("ids", "target/A:c", "target/B:c").is_accepted(accepted) == is_accepted


def test_what_reddens_no_check_is_accepted_by_its_name_only():
    assert not Obstacle("question", "q", "", "is it?").is_accepted({"c"})


def test_rejected_rows_are_counted_by_their_first_reason_each_once():
    reasons = [("unparseable", 3), ("orphan_reference, unparseable", 2), ("orphan_reference", 1)]
    kinds = rejected_kinds(SYSTEM, "EmailTemplate", "letter", reasons)
    assert {kind.name: kind.rows for kind in kinds} == {
        "EmailTemplate/letter/unparseable": 3,
        "EmailTemplate/letter/orphan_reference": 3,
    }
    [orphans] = [kind for kind in kinds if kind.name.endswith("orphan_reference")]
    assert orphans.finding == "3 rows are rejected: orphan_reference, 2 of them unparseable too"
    assert {kind.name for kind in kinds} < rejected_names(SYSTEM)


@pytest.mark.parametrize(
    ("model", "source", "reason", "owner"),
    [
        ("EmailTemplate", "letter", "orphan_reference", "Area 2 team"),
        ("EmailTemplate", "letter", "unparseable", "DTX 1.0 product owner"),
        ("ManualOverride", "exemption", "unmapped_value", "compliance lead"),
        ("EmailTemplate", "letter", "target_conflict", "cutover manager"),
    ],
)
def test_who_can_mend_rejected_rows_goes_by_the_reason(model, source, reason, owner):
    assert owner in owner_of_reason(SYSTEM, model, source, reason).split(", ")
    noted = Obstacle("rejected", f"{model}/{source}/{reason}", "", "", "whoever it was")
    assert owned_now(noted, SYSTEM, ("rejected", model)).owner == owner_of_reason(SYSTEM, model, source, reason)


def test_decisions_and_actions_name_who_has_to_see_to_them():
    decisions = SYSTEM.decisions
    assert open_decision(decisions.entry("bilingual_letters"), decisions).owner == "DTX 2.0 product owner"
    actions = {action.id: action for action in decisions.actions}
    assert undone_action(actions["A11-3"], decisions).owner == "Area 2 team", "who is named"
    assert undone_action(actions["A8-1"], decisions).owner == decisions.entry("timing_semantics").confirm_by


def test_a_check_that_knows_no_finer_facts_says_what_it_found_and_who_has_to_do_what():
    facts = {
        "rows": 5,
        "do": "add the names",
        "examples": [{"key": "7", "item": "Cyber"}, {"key": "8", "item": "Fire"}],
    }
    found = found_by_check(SYSTEM, "legacy/exemption:names_are_mapped", ("legacy", "exemption"), 2, facts)
    assert found.finding == (
        "failed (2 found): not so that names are mapped, such as item = Cyber (row 7); item = Fire (row 8)"
    )
    assert (found.rows, found.remedy, found.owner) == (5, "add the names", "DTX 1.0 product owner")
    assert from_json(found.as_json()) == found


def test_owners_come_with_what_they_have_to_do_nobody_last():
    found = [decision("a"), decision("b", owner="Ann"), decision("c", owner="Bob"), decision("d", owner="Bob")]
    assert [(owner, [each.name for each in theirs]) for owner, theirs in by_owner(found).items()] == [
        ("Bob", ["c", "d"]),
        ("Ann", ["b"]),
        (NOBODY, ["a"]),
    ]
