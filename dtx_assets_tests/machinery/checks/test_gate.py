"""What keeps rows from being loaded, in a rehearsal and in a cutover, and what can be accepted."""

from datetime import UTC, datetime, timedelta

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError
from dtx_assets.machinery.checks.gate import (
    NEVER_EVALUATED,
    NOT_FINISHED,
    GatedCheck,
    obstacles,
    require_known,
    require_open,
)
from dtx_assets.machinery.system.question import Question

NOW = datetime(2026, 11, 21, tzinfo=UTC)
QUESTION = Question("stopped", "has it stopped?", asked_when=lambda chosen: chosen["activation"] == "as_legacy")


def check(state="passed", *, structure=False, name="rejected/Animal:no_row_is_rejected", upstream=("Animal",), **rest):
    return GatedCheck(name, state, structure, upstream, **{"at": NOW, "made_at": NOW, **rest})


def found(*checks, cutover=True, models=("Animal",), restore_point="snap", chosen="held"):
    return [
        obstacle.name
        for obstacle in obstacles(
            checks,
            [QUESTION],
            {"activation": chosen},
            cutover=cutover,
            models=models,
            restore_point=restore_point,
        )
    ]


def test_a_rehearsal_is_stopped_by_wrong_structure_of_what_it_loads_only():
    wrong = check("failed", structure=True)
    assert found(wrong, cutover=False) == [wrong.name]
    assert found(wrong, cutover=False, models=["Other"]) == []
    assert found(check("failed"), check("never run"), cutover=False, restore_point=None, chosen="as_legacy") == []


@pytest.mark.parametrize("state", ["failed", "running", "not finished"])
def test_a_cutover_is_stopped_by_a_check_that_did_not_pass(state):
    assert found(check(state)) == [check().name]


def test_checks_that_never_ran_are_one_thing_to_do_and_accepted_one_by_one():
    never = [check("never run"), check("never run", name="rejected/Animal:rows_satisfy_schemas")]
    [obstacle] = obstacles(never, [], {}, cutover=True, models=["Animal"], restore_point="snap")
    assert obstacle.name == NEVER_EVALUATED
    assert obstacle.checks == {each.name for each in never}
    assert not obstacle.is_accepted({never[0].name})
    assert obstacle.is_accepted({"no_row_is_rejected", "rows_satisfy_schemas"})


def test_checks_that_a_run_did_not_come_to_are_one_thing_to_do():
    begun = [check("not finished"), check("running", name="rejected/Animal:rows_satisfy_schemas")]
    [obstacle] = obstacles(begun, [], {}, cutover=True, models=["Animal"], restore_point="snap")
    assert (obstacle.name, obstacle.finding) == (NOT_FINISHED, "2 checks are not finished or running")
    assert not obstacle.is_accepted({begun[0].name})
    assert obstacle.is_accepted({each.name for each in begun})


@pytest.mark.parametrize("state", ["passed", "warned"])
def test_a_cutover_goes_on_where_all_is_well(state):
    assert found(check(state)) == []


def test_a_check_of_older_rows_counts_as_none():
    assert found(check(made_at=NOW + timedelta(seconds=1))) == [check().name]
    assert found(check(made_at=NOW + timedelta(seconds=1), upstream=())) == []


def test_a_red_check_of_other_tables_stops_a_cutover_too_and_one_that_never_ran_does_not():
    assert found(check("failed"), models=["Other"]) == [check().name]
    assert found(check("never run"), models=["Other"]) == []


def test_a_cutover_asks_for_a_restore_point_and_what_only_people_know():
    assert found(restore_point=None) == ["restore_point"]
    assert found(chosen="as_legacy") == ["stopped"]


def listed(*checks):
    return obstacles(
        checks, [QUESTION], {"activation": "as_legacy"}, cutover=True, models=["Animal"], restore_point=None
    )


def test_everything_in_the_way_is_named_at_once():
    with pytest.raises(LoadError, match=r"3 thing\(s\)[\s\S]*no_row_is_rejected[\s\S]*restore_point[\s\S]*stopped"):
        require_open(listed(check("failed")), {}, "Animal")


@pytest.mark.parametrize("name", ["rejected/Animal:no_row_is_rejected", "no_row_is_rejected"])
def test_what_is_accepted_by_name_is_no_longer_in_the_way(name):
    require_open(listed(check("failed")), {name: "", "restore_point": "", "stopped": ""}, "Animal")
    with pytest.raises(LoadError, match=r"1 thing\(s\)"):
        require_open(listed(check("failed")), {name: "", "stopped": ""}, "Animal")


def test_structure_cannot_be_accepted():
    wrong = listed(check("failed", structure=True))
    accepted = {check().name: "", "restore_point": "", "stopped": ""}
    with pytest.raises(LoadError, match="cannot be accepted"):
        require_open(wrong, accepted, "Animal")


def test_what_is_accepted_has_to_exist_and_to_have_a_reason():
    with pytest.raises(ConfigurationError, match="did you mean no_row_is_rejected"):
        require_known({"no_row_is_rejectd": "why not"}, {"no_row_is_rejected"})
    with pytest.raises(ConfigurationError, match="without a reason"):
        require_known({"no_row_is_rejected": " "}, {"no_row_is_rejected"})
