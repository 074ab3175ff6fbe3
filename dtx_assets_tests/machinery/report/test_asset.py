"""When the page that a step of a run wrote may be taken over at its end, instead of all of it being asked anew."""

from types import SimpleNamespace

from dtx_assets.machinery.report import asset
from dtx_assets.machinery.report.asset import page_of_last_step


def written(*tallies: dict[str, int]) -> SimpleNamespace:
    areas = tuple(SimpleNamespace(tally=tally) for tally in tallies)
    return SimpleNamespace(report=SimpleNamespace(readiness=SimpleNamespace(areas=areas)))


def test_a_page_is_taken_over_where_it_was_the_last_step_of_this_run_and_no_check_was_to_come(monkeypatch):
    steps = ["zoo_load_animal", "zoo_cutover_report"]
    page = written({"passed": 3}, {"failed": 1, "not finished": 1})
    monkeypatch.setattr(asset, "_written", {"r": page})
    assert page_of_last_step("r", steps) is page
    assert page_of_last_step("another", steps) is None
    assert page_of_last_step("r", steps[::-1]) is None, "something was done after it"
    assert page_of_last_step("r", []) is None, "the run failed"
    monkeypatch.setattr(asset, "_written", {"r": written({"passed": 3}, {"running": 1})})
    assert page_of_last_step("r", steps) is None
