"""What a worker does with a step that it was handed, whoever has it or had it: once, alone, in the world of the run."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository

from dtx_assets.machinery.dagster.run import configured, failure_message, open_instance, planned_job
from dtx_assets.machinery.dagster.worker_steps import do_step
from dtx_assets.machinery.dagster.worlds import OF_RUN, WORLD_TAG, note_world
from dtx_assets.machinery.load.step_attempts import alone, attempt, died_at
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.world import as_text, from_text
from dtx_assets_tests.library.definitions import SYSTEM, defs
from dtx_assets_tests.library.place import Library
from dtx_assets_tests.patience import PATIENCE

MODULE, LOAD = "dtx_assets_tests.library.definitions", "library_load_Reader"
READER = dg.AssetKey(["library", "target", "Reader"])


@dataclass
class HandedOut:
    """A run of which nobody does a step but who is asked to: the load of the readers, which are prepared."""

    library: Library
    instance: dg.DagsterInstance
    run: dg.DagsterRun = field(init=False)

    def __post_init__(self) -> None:
        job = planned_job(defs, "library", {READER})
        whole = ReconstructableRepository.for_module(MODULE, "defs").get_reconstructable_job("library")
        self.job = whole.get_subset(asset_selection=frozenset([READER])).to_dict()
        self.run = self.instance.create_run_for_job(
            job_def=job,
            run_config=configured({"mode": "rehearsal"}),
            status=dg.DagsterRunStatus.STARTED,
            asset_selection=frozenset([READER]),
        )

    def do(self, worker: str = "one") -> None:
        do_step(MODULE, self.run.run_id, LOAD, self.job, None, worker)

    def note_world(self) -> None:
        with RunEnvironment(SYSTEM, self.run.run_id, datetime.now(UTC)) as environment:
            note_world(environment, self.instance)

    def ends(self) -> list[str]:
        """How often the step ended how; what a failure said."""
        events = [entry.dagster_event for entry in self.instance.all_logs(self.run.run_id)]
        return [
            failure_message(event) if event.is_step_failure else "done"
            for event in events
            if event and (event.is_step_success or event.is_step_failure)
        ]

    def attempts(self) -> list[tuple[str, bool]]:
        return self.library.sql("SELECT worker, ended_at IS NOT NULL FROM migration.step_attempt ORDER BY id")


@pytest.fixture
def handed_out(tmp_path, database_url, monkeypatch) -> Iterator[HandedOut]:
    library = Library(tmp_path, database_url, monkeypatch)
    assert library.run(select="+prepared/Reader").failures == []
    with open_instance(library.home) as instance:
        yield HandedOut(library, instance)


def test_a_step_that_is_handed_out_again_after_its_end_is_not_done(handed_out):
    handed_out.do("one")
    handed_out.do("two")
    assert handed_out.ends() == ["done"]
    assert handed_out.attempts() == [("one", True)]
    assert handed_out.library.sql("SELECT count(*) FROM reader") == [(2,)]
    assert handed_out.library.sql("SELECT status FROM migration.run") == [("succeeded",)]


def test_a_step_of_a_run_that_has_ended_is_not_done(handed_out):
    handed_out.instance.report_run_failed(handed_out.run, "its process was killed")
    handed_out.do()
    assert handed_out.ends() == []
    assert handed_out.library.sql("SELECT count(*) FROM reader") == [(0,)]


def test_a_step_that_another_one_does_is_waited_for_and_not_done_twice(handed_out):
    with alone(handed_out.library.url, handed_out.run.run_id, LOAD):
        second = threading.Thread(target=handed_out.do, args=("two",))
        second.start()
        time.sleep(1)
        assert second.is_alive()
        assert handed_out.ends() == []
        # As the first one leaves it that ended.
        handed_out.instance.report_run_failed(handed_out.run, "ended")
    second.join(PATIENCE)
    assert not second.is_alive()
    assert handed_out.ends() == []


def test_a_step_at_which_workers_die_is_given_up(handed_out):
    library, run_id = handed_out.library, handed_out.run.run_id
    with connect(library.url) as connection:
        assert died_at(connection, run_id, LOAD) == []
        for worker in ("one", "two"):
            with pytest.raises(KeyboardInterrupt), attempt(connection, run_id, LOAD, worker):
                raise KeyboardInterrupt
        assert died_at(connection, run_id, LOAD) == ["one", "two"]
        assert died_at(connection, run_id, "another") == []
        with pytest.raises(KeyboardInterrupt), attempt(connection, run_id, LOAD, "three"):
            raise KeyboardInterrupt
    handed_out.do("four")
    [said] = handed_out.ends()
    assert said.startswith("3 workers died while they did this step")
    assert "one, two, three" in said
    assert library.sql("SELECT count(*) FROM reader") == [(0,)]


def test_after_two_that_died_a_third_does_it(handed_out):
    with connect(handed_out.library.url) as connection:
        died_at(connection, handed_out.run.run_id, LOAD)
        for worker in ("one", "two"):
            with pytest.raises(KeyboardInterrupt), attempt(connection, handed_out.run.run_id, LOAD, worker):
                raise KeyboardInterrupt
    handed_out.do("three")
    assert handed_out.ends() == ["done"]
    assert handed_out.attempts() == [("one", False), ("two", False), ("three", True)]


def test_a_worker_with_another_lake_does_nothing_and_says_what_differs(handed_out, monkeypatch):
    handed_out.note_world()
    other = handed_out.library.directory / "other lake"
    monkeypatch.setenv("LIBRARY_LAKE_URL", str(other))
    handed_out.do()
    [said] = handed_out.ends()
    assert "another world than the run" in said
    assert f"- lake: {handed_out.library.home / 'lake'} in the run, {other} here" in said
    assert "target:" not in said
    assert not other.exists()
    assert handed_out.library.sql("SELECT count(*) FROM reader") == [(0,)]


def test_each_part_of_the_world_counts(handed_out):
    handed_out.note_world()
    noted = handed_out.instance.get_run_by_id(handed_out.run.run_id).tags[WORLD_TAG]
    assert "password" not in noted
    parts = from_text(noted)
    other = dict.fromkeys(parts.keys() - {OF_RUN}, "something else")
    assert {"code", "packages", "mappings", "decisions", "target", "lake", "cutover_at", "mode"} <= other.keys()
    handed_out.instance.add_run_tags(handed_out.run.run_id, {WORLD_TAG: as_text({**parts, **other})})
    handed_out.do()
    [said] = handed_out.ends()
    assert [f"- {part}: something else in the run" in said for part in other] == [True] * len(other)
    assert handed_out.library.sql("SELECT count(*) FROM reader") == [(0,)]


def test_a_worker_of_another_target_writes_nothing_there(handed_out, monkeypatch, postgres_server):
    handed_out.note_world()
    other = postgres_server.create_database("another_target")
    monkeypatch.setenv("LIBRARY_TARGET_URL", other)
    handed_out.do()
    [said] = handed_out.ends()
    assert "- target: " in said
    with psycopg.connect(other) as connection:
        assert connection.execute("SELECT to_regnamespace('migration')").fetchone() == (None,)
    postgres_server.drop_database("another_target")


def test_the_world_of_the_run_that_one_was_made_of_is_not_its_own(handed_out):
    """A run that is executed again has the tags of the first one."""
    other = as_text({OF_RUN: "another run", "code": "another one"})
    handed_out.instance.add_run_tags(handed_out.run.run_id, {WORLD_TAG: other})
    handed_out.do()
    assert handed_out.ends() == ["done"]


def test_a_worker_with_another_history_leaves_the_step(handed_out, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("LIBRARY_HOME", str(tmp_path / "elsewhere"))
    handed_out.do()
    assert "is in another history than that of this worker" in caplog.text
    assert handed_out.ends() == []


def test_a_worker_that_cannot_read_its_settings_or_files_ends_the_step_with_words(handed_out, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(handed_out.library.home))
    with monkeypatch.context() as broken:
        broken.setenv("LIBRARY_BATCH_ROWS", "many")
        handed_out.do()
    [told] = handed_out.ends()
    assert "LIBRARY_BATCH_ROWS" in told
    assert "many" in told
    assert handed_out.library.sql("SELECT count(*) FROM reader") == [(0,)]


def test_a_worker_without_the_code_of_a_run_ends_the_step_with_words(handed_out, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(handed_out.library.home))
    do_step("dtx_assets_tests.library.gone", handed_out.run.run_id, LOAD, handed_out.job, None, "one")
    [told] = handed_out.ends()
    assert "No module named 'dtx_assets_tests.library.gone'" in told
