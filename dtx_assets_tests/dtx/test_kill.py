"""A migration that is killed at any point, and run again, ends as one that nobody disturbed (spec 6.1, design.md)."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from dtx_assets.machinery.base.failpoints import POINTS
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets_tests.dtx.graph_killing import Graphs
from dtx_assets_tests.dtx.killing import EXPORTS, Beginnings, Killable, first_differences, killed_at, state
from dtx_assets_tests.kill import VICTIMS, kill


@pytest.fixture(scope="module")
def beginnings(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Beginnings]:
    scratch: Path = tmp_path_factory.mktemp("kill")
    with Beginnings(Killable(scratch / "world"), postgres_server, scratch / "places") as beginnings:
        yield beginnings


def test_undisturbed_loads_meet_all_that_a_load_can_meet(beginnings):
    for stage in EXPORTS:
        found = beginnings.expected[stage]
        for kind in ("mapping", "rejected", "journal", "accounting", "claimed", "sent", "archives"):
            assert found[kind], kind
        assert not found["unfinished"] + found["wrong archives"]
        assert beginnings.reached[stage]["load.after_commit"] > len(beginnings.killable.flows)
    assert beginnings.expected["delta"]["conflict"]
    assert beginnings.expected["delta"]["vanished"]
    assert beginnings.expected["undo"]["left_entry"]
    assert len(beginnings.expected["undo"]["mapping"]) < len(beginnings.expected["delta"]["mapping"])


def test_the_comparison_sees_what_is_lost_doubled_or_changed(beginnings):
    with beginnings.place("delta") as place:
        found = state(place)
    for kind in ("mapping", "rejected", "journal", "accounting", "sent", "docutrax_profiles_document", "claimed"):
        line = found[kind][0]
        assert first_differences(found, found | {kind: found[kind][1:]}) == [f"{kind} lacks {line}"]
        assert first_differences(found, found | {kind: [line, *found[kind]]}) == [f"{kind} has {line}"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_failpoint_and_run_again(beginnings, point):
    stage, times = beginnings.stage_that_reaches(point)
    assert killed_at(beginnings, stage, point, (times + 1) // 2) == []


def test_killed_at_random_moments_postgresql_too(tmp_path):
    """The short form of `make kill`: one of each kind at least, or it would show nothing."""
    console = Console(file=StringIO(), width=120)
    tally = kill(6, 41, Killable(tmp_path), console)
    assert tally.wrong == {}
    assert {victim for victim, _, _ in tally.hit} == set(VICTIMS)
    assert tally.disturbed() > 0


def test_the_whole_graph_killed_beside_a_live_application(postgres_server, tmp_path):
    """One of what `make kill` does more of, in the middle of the loads."""
    with Graphs(postgres_server, tmp_path, ("first",)) as graphs:
        killed, wrong = graphs.wrong_after("first", 0.6 * graphs.seconds["first"])
    assert wrong == []
    assert killed
