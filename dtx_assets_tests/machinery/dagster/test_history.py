"""Dagster's history with kept connections: what one process writes another sees, at once, whatever was deleted between.

The watch on the write-ahead log pins how Dagster's own storage looks at a run that another process makes.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
from alembic.script import ScriptDirectory
from dagster._core.events import DagsterEventType
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from dtx_assets.machinery.dagster import history
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


@dg.asset(check_specs=[dg.AssetCheckSpec(f"check_{number}", asset="made") for number in range(30)])
def made() -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
    yield dg.Output(None, metadata={"run": 1})
    for number in range(30):
        # The words that say it, in what is told of one that passed.
        told = {"told": 'as text {"success": false}', "data": dg.MetadataValue.json({"success": False})}
        yield dg.AssetCheckResult(
            passed=number != 7, check_name=f"check_{number}", metadata=told if number % 2 == 0 else {}
        )


def test_what_is_planned_is_stored_together_and_what_is_found_takes_its_place(two) -> None:
    one, other = two
    definitions = dg.Definitions(assets=[made], jobs=[dg.define_asset_job("all_of_it")])
    job = definitions.resolve_job_def("all_of_it")
    run = one.create_run_for_job(job)
    keys = [dg.AssetCheckKey(dg.AssetKey("made"), f"check_{number}") for number in range(30)]
    planned = other.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    assert [planned[key].status.value for key in keys] == ["PLANNED"] * 30
    assert {record.run_id for record in planned.values()} == {run.run_id}
    made_before = other.get_asset_records([dg.AssetKey("made")])
    assert [record.asset_entry.last_materialization for record in made_before] == [None]

    result = job.execute_in_process(instance=one)
    found = other.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    assert [found[key].status.value for key in keys] == ["FAILED" if n == 7 else "SUCCEEDED" for n in range(30)]
    assert {record.run_id for record in found.values()} == {result.run_id}
    [failed] = history.failed_evaluations(other, result.run_id)
    assert (failed.check_name, failed.passed) == ("check_7", False)


WHEN_MADE = {"create_timestamp", "migration_completed"}


def everything(directory: Path) -> dict[str, list[tuple]]:
    """All rows of all databases of a history, but for when they and their tables were made."""
    found = {}
    for file in sorted(directory.glob("*.db")):
        with closing(sqlite3.connect(file)) as connection:
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                columns = [name for _, name, *_ in connection.execute(f'PRAGMA table_info("{table}")')]
                kept = ", ".join(f'"{name}"' for name in columns if name not in WHEN_MADE)
                found[f"{file.name}: {table}"] = connection.execute(f'SELECT {kept} FROM "{table}"').fetchall()
    return found


def test_what_is_written_together_is_what_dagster_would_have_written(home: Path, tmp_path: Path) -> None:
    definitions = dg.Definitions(assets=[made], jobs=[dg.define_asset_job("all_of_it")])
    with open_instance(home) as instance:
        run = definitions.resolve_job_def("all_of_it").execute_in_process(instance=instance).run_id
        events = [record.event_log_entry for record in instance.get_records_for_run(run).records]
    theirs, ours = SqliteEventLogStorage(str(tmp_path / "theirs")), EventLogStorage(str(tmp_path / "ours"))
    kinds = {DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, DagsterEventType.ASSET_MATERIALIZATION_PLANNED}
    planned = [event for event in events if event.dagster_event_type in kinds]
    others = [event for event in events if event.dagster_event_type not in kinds]
    not_planned = next(
        event._replace(run_id="another")
        for event in others
        if event.dagster_event_type == DagsterEventType.ASSET_CHECK_EVALUATION
    )
    for storage in (theirs, ours):
        storage.store_event_batch(planned)
        for event in [*others, not_planned]:
            storage.store_event(event)
    ours.dispose()
    found = everything(tmp_path / "ours")
    assert found == everything(tmp_path / "theirs")
    assert len(found["index.db: asset_check_executions"]) == 31


def test_what_waits_for_others_is_told_at_once_here_and_soon_elsewhere(two, monkeypatch) -> None:
    one, other = two
    run = one.create_run_for_job(empty).run_id
    held = dg.DagsterEvent(DagsterEventType.STEP_START.value, "empty", step_key="step", message="held")

    def told(instance: dg.DagsterInstance) -> list[str]:
        return [record.event_log_entry.message for record in instance.get_records_for_run(run).records]

    monkeypatch.setattr(history, "HELD", 3600)
    one.report_dagster_event(held, run_id=run)
    assert (told(other), told(one), told(other)) == ([], ["held"], ["held"])
    monkeypatch.setattr(history, "HELD", 0.01)
    other.report_dagster_event(held, run_id=run)
    until = time.monotonic() + PATIENCE
    while len(told(one)) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_cannot_be_written_waits_and_whoever_writes_next_is_told(two, monkeypatch) -> None:
    one, _ = two
    run = one.create_run_for_job(empty).run_id
    storage = storage_of(one)
    held = dg.DagsterEvent(DagsterEventType.STEP_START.value, "empty", step_key="step", message="held")
    monkeypatch.setattr(history, "HELD", 3600)
    with monkeypatch.context() as full:
        full.setattr(storage, "_write", no_space)
        one.report_dagster_event(held, run_id=run)
        storage._time_is_up()
        with pytest.raises(OSError, match="no space"):
            one.report_engine_event("next", run_id=run, job_name="empty")
    assert [record.event_log_entry.message for record in one.get_records_for_run(run).records] == ["held"]


def test_what_cannot_be_noted_of_all_runs_is_noted_later_and_stands_in_its_run_once(two, monkeypatch) -> None:
    one, other = two
    key = dg.AssetKey("told")
    with monkeypatch.context() as full:
        full.setattr(storage_of(one), "_mirror", no_space)
        with pytest.raises(OSError, match="no space"):
            one.report_runless_asset_event(dg.AssetMaterialization(key))
    assert not other.get_asset_records([key])
    one.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey("next")))
    assert len(other.get_asset_records([key, dg.AssetKey("next")])) == 2
    assert [event.asset_key for event in other.fetch_materializations(key, limit=9).records] == [key]


def test_what_dagster_refuses_is_told_once_and_what_stands_beside_it_is_noted(two, monkeypatch) -> None:
    one, other = two
    storage, refused = storage_of(one), dg.AssetKey("refused")
    mirror = storage._mirror

    def refuse(index, event, row) -> None:
        mirror(index, event, row)
        if event.get_dagster_event().asset_key == refused:
            raise ValueError("refused")

    monkeypatch.setattr(storage, "_mirror", refuse)
    with pytest.raises(ValueError, match="refused"):
        one.report_runless_asset_event(dg.AssetMaterialization(refused))
    one.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey("next")))
    assert [record.asset_entry.asset_key for record in other.get_asset_records()] == [dg.AssetKey("next")]


def no_space(*_: object) -> None:
    raise OSError("no space")


def test_the_last_record_of_an_asset_is_the_one_that_another_process_wrote_last(two) -> None:
    one, other = two
    key = dg.AssetKey("told")
    for number in range(3):
        one.report_runless_asset_event(dg.AssetMaterialization(key, metadata={"number": number}))
        for _ in range(2):
            [record] = other.get_asset_records([key])
            assert record.asset_entry.last_materialization.asset_materialization.metadata["number"].value == number
    one.wipe_assets([key])
    assert not other.get_asset_records([key])
    one.report_runless_asset_event(dg.AssetMaterialization(key, metadata={"number": 3}))
    [record] = other.get_asset_records([key])
    assert record.asset_entry.last_materialization.asset_materialization.metadata["number"].value == 3


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


def test_what_was_made_is_opened_without_reading_dagsters_migrations(home: Path, monkeypatch) -> None:
    with open_instance(home) as instance:
        first = empty.execute_in_process(instance=instance).run_id
    read = []
    real = ScriptDirectory.from_config
    monkeypatch.setattr(ScriptDirectory, "from_config", lambda config: read.append(config) or real(config))
    with open_instance(home) as instance:
        assert [run.run_id for run in instance.get_runs()] == [first]
        assert instance.get_records_for_run(first).records
        assert instance.get_ticks("origin", "selector") == []
        assert read == []
        second = empty.execute_in_process(instance=instance).run_id
        assert read, "the database of a new run is made as Dagster makes it"
    with closing(sqlite3.connect(home / "history" / "runs" / f"{second}.db")) as made:
        assert made.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


@pytest.mark.parametrize(
    ("name", "table"), [("history/runs", "instance_info"), ("schedules/schedules", "alembic_version")]
)
def test_what_was_made_in_part_is_made_whole_as_dagster_does(home: Path, name: str, table: str) -> None:
    with open_instance(home):
        pass
    with closing(sqlite3.connect(home / f"{name}.db")) as made, made:
        made.execute(f"DROP TABLE {table}")
    with open_instance(home), closing(sqlite3.connect(home / f"{name}.db")) as made:
        made.execute(f"SELECT * FROM {table}")
