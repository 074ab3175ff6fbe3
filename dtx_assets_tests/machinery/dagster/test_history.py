"""Dagster's history with kept connections: what one process writes another sees, at once, whatever was deleted between.

The watch on the write-ahead log pins how Dagster's own storage looks at a run that another process makes.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEventType
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from dtx_assets.machinery.dagster.history import OPEN_DATABASES, EventLogStorage
from dtx_assets.machinery.dagster.run import open_instance
from dtx_assets_tests.patience import PATIENCE


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return tmp_path / "home"


@dg.job
def empty() -> None:
    @dg.op
    def step() -> None: ...

    step()


def storage_of(instance: dg.DagsterInstance) -> EventLogStorage:
    storage = instance.event_log_storage
    assert isinstance(storage, EventLogStorage)
    return storage


@pytest.fixture
def two(home: Path) -> Iterator[tuple[dg.DagsterInstance, dg.DagsterInstance]]:
    """The instance as two processes have it open."""
    with open_instance(home) as one, open_instance(home) as other:
        yield one, other


def test_the_instance_has_it_and_dagsters_own_storage_reads_what_it_wrote(home: Path) -> None:
    with open_instance(home) as instance:
        storage_of(instance)
        run = empty.execute_in_process(instance=instance)
    own = SqliteEventLogStorage(str(home / "history" / "runs"))
    logged = {entry.message for entry in own.get_logs_for_run(run.run_id)}
    assert {event.message for event in run.all_events} <= logged


def test_what_one_process_writes_the_other_sees_and_hears(two) -> None:
    one, other = two
    run = one.create_run_for_job(empty)
    heard, ended = [], threading.Event()

    def listen(event, _cursor) -> None:
        heard.append(event.dagster_event.event_type_value)
        if event.dagster_event.event_type == DagsterEventType.RUN_SUCCESS:
            ended.set()

    other.watch_event_logs(run.run_id, None, listen)
    for kind in (DagsterEventType.RUN_START, DagsterEventType.RUN_SUCCESS):
        one.report_dagster_event(
            dg.DagsterEvent(event_type_value=kind.value, job_name="empty", message=kind.value), run_id=run.run_id
        )
    assert ended.wait(PATIENCE), heard
    assert heard[-2:] == ["PIPELINE_START", "PIPELINE_SUCCESS"]
    assert other.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS


def test_few_databases_are_kept_open_and_old_runs_are_read_again(two) -> None:
    one, other = two
    runs = [empty.execute_in_process(instance=one).run_id for _ in range(OPEN_DATABASES + 2)]
    for run in [*runs, *runs]:
        last = other.get_records_for_run(run).records[-1].event_log_entry
        assert last.dagster_event_type == DagsterEventType.RUN_SUCCESS
    assert len(storage_of(other)._engines) <= OPEN_DATABASES


def test_a_run_that_another_process_deleted_is_gone_and_its_place_is_free(two) -> None:
    one, other = two
    run = empty.execute_in_process(instance=one).run_id
    assert other.get_records_for_run(run).records
    database = Path(storage_of(one).path_for_shard(run))
    for part in database.parent.glob(f"{database.name}*"):
        part.unlink()
    assert not other.get_records_for_run(run).records
    one.report_engine_event("again", run_id=run, job_name="empty")
    assert [record.event_log_entry.message for record in other.get_records_for_run(run).records] == ["again"]


def test_the_storage_is_where_dagster_home_says_for_those_that_have_only_that(home: Path, monkeypatch) -> None:
    with open_instance(home) as instance:
        run = empty.execute_in_process(instance=instance).run_id
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        storage_of(instance)
        assert instance.get_run_by_id(run)


def test_an_edited_instance_file_keeps_what_it_says(home: Path) -> None:
    home.mkdir()
    (home / "dagster.yaml").write_text(f"storage: {{sqlite: {{base_dir: {home}}}}}\n")
    with open_instance(home) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
