"""PAD killed at every failpoint that it reaches, with four targets in small batches, and run again."""

from collections.abc import Iterator

import pytest

from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets_tests.dtx.killing import LOAD_POINTS, first_differences
from dtx_assets_tests.pad.killing import Trial, state

NOT_REACHED = {
    *(point for point in LOAD_POINTS if point.startswith("upload.")),
    *("load.files_sent", "undo.file_removed"),
    # One table is archived, and it is migrated: nothing is booked of archives.
    *("archive.before_commit", "archive.after_commit"),
}
"""PAD has no files."""


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Trial]:
    trial = Trial(postgres_server, tmp_path_factory.mktemp("kill_pad"))
    yield trial
    trial.close()


def test_undisturbed_stages_meet_what_four_targets_can_meet(trial):
    assert set(LOAD_POINTS) - set(trial.points()) == NOT_REACHED
    first, delta, undone = (trial.expected[stage] for stage in ("first", "delta", "undo"))
    for table in ("pad_request", "pad_approval", "pad_execution", "audit_log"):
        assert first[table]
        assert delta[table] != first[table]
        assert any(table in line for line in delta["vanished"]), table
        assert sum(table in line for line in delta["accounting"]) == 1
    assert {line.split('"')[3] for line in delta["conflict"]} >= {"pad_request", "pad_execution"}
    assert delta["rejected"] != first["rejected"]
    assert any("pad_request" in line for line in undone["left_entry"])
    assert not any(found["unfinished"] + found["touched_entry"] for found in trial.expected.values())


@pytest.mark.parametrize("point", sorted(set(LOAD_POINTS) - NOT_REACHED))
def test_killed_at_a_failpoint_and_run_again(trial, point):
    stage, _ = trial.points()[point]
    with trial.killed(point) as place:
        trial.do(place, stage)
        assert first_differences(trial.expected[stage], state(place)) == []
