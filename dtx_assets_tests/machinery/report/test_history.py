"""What the page knows of runs that did not end well."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import dagster as dg

from dtx_assets.machinery.dagster.run import check_states
from dtx_assets.machinery.report.figures import RunFigures
from dtx_assets.machinery.report.history import Check, RunHistory


def test_a_check_that_a_failed_run_did_not_get_to_is_not_running():
    """Dagster leaves it planned for ever; the page would say `running` where nothing runs."""

    @dg.asset
    def broken():
        raise ValueError

    @dg.asset(deps=[broken], check_specs=[dg.AssetCheckSpec("sound", asset="after")])
    def after():
        return dg.MaterializeResult()

    definitions = dg.Definitions([broken, after])
    with dg.instance_for_test() as instance:
        definitions.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance, raise_on_error=False)
        [state] = check_states(instance, definitions.resolve_asset_graph().asset_check_keys)
    assert (state.name, state.state) == ("sound", "not finished")


def test_only_what_another_asset_found_alike_is_not_told_again():
    first = Check(
        "target/A", "sound", "zoo", "", "ERROR", True, "failed", None, 1, False, in_the_way="bad", remedies=("mend",)
    )
    for other, is_told in (
        (replace(first, asset="target/B"), False),
        (replace(first, asset="target/B", count=2, at=datetime(2026, 5, 3, tzinfo=UTC)), False),
        (replace(first, asset="target/B", in_the_way="worse"), True),
        (replace(first, asset="target/B", remedies=()), True),
        (replace(first, asset="target/B", accepted="by somebody"), True),
        (replace(first, name="round"), True),
        (replace(first, asset="target/B", name="round"), True),
    ):
        assert other.says_the_same_as(first) is not is_told
    passed = replace(first, in_the_way=None, state="passed")
    assert not replace(passed, asset="target/B").says_the_same_as(passed)


def test_how_long_a_run_took_that_another_history_has_is_how_long_it_loaded_and_of_an_undone_one_nothing():
    """The bookkeeping notes when it was undone where it had noted when it ended."""
    began = datetime(2026, 5, 3, 12, tzinfo=UTC)
    ended = began + timedelta(seconds=90)
    runs = [
        RunFigures(name, "rehearsal", status, began, at, {}, 9, 1, 8, 2, (), limited=False)
        for name, status, at in (
            ("ended", "succeeded", ended),
            ("undone", "rolled back", ended),
            ("going on", "running", None),
        )
    ]
    with dg.instance_for_test() as instance:
        seconds = RunHistory(SimpleNamespace(name="zoo"), instance).seconds(runs)
    assert seconds == {"ended": 90, "undone": None, "going on": None}
