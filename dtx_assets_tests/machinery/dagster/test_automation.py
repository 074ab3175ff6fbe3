"""What runs by itself: when an export is new and complete, over directories and S3, and rehearsals by the clock."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import obstore
import pytest
from dagster_aws.s3 import S3Resource

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.base.lake import s3_store
from dtx_assets.machinery.dagster.automation import EXPORT_TAG, MARKER, build_export_sensor, build_rehearsal_schedule
from dtx_assets.machinery.dagster.run import PROCESS_TAG, this_process
from dtx_assets.machinery.run.environment import ENVIRONMENT
from dtx_assets_tests.machinery.zoo import Zoo


class Export:
    """The place of an export: a directory, or an S3 prefix."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = 1_700_000_000

    def write(self, name: str, content: bytes = b"a\n1\n") -> None:
        if self.url.startswith("s3://"):
            obstore.put(s3_store(self.url), name, content)
            return
        path = Path(self.url) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        self.clock += 1
        os.utime(path, (self.clock, self.clock))

    def remove(self, name: str) -> None:
        if self.url.startswith("s3://"):
            obstore.delete(s3_store(self.url), name)
        else:
            (Path(self.url) / name).unlink()


class Watcher:
    """The sensor with its cursor; a look gives the fingerprint it requests a run for, or why it does not."""

    def __init__(self, zoo: Zoo, instance: dg.DagsterInstance) -> None:
        self.sensor, self.instance = build_export_sensor(zoo.system), instance
        self.cursor: str | None = None

    def look(self) -> tuple[str | None, str]:
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"s3": S3Resource()}
        ) as context:
            result = self.sensor.evaluate_tick(context)
        self.cursor = result.cursor or self.cursor
        for request in result.run_requests or []:
            assert request.tags[EXPORT_TAG] == request.run_key
        [key] = [request.run_key for request in result.run_requests or []] or [None]
        return key, result.skip_message or ""

    def requests(self) -> str:
        key, why = self.look()
        assert key, why
        return key

    def waits(self, why: str) -> None:
        key, said = self.look()
        assert key is None
        assert why in said


@pytest.fixture(params=["directory", "s3"])
def export(request: pytest.FixtureRequest, tmp_path: Path) -> Export:
    if request.param == "directory":
        (tmp_path / "export").mkdir()
        return Export(str(tmp_path / "export"))
    return Export(f"s3://{request.getfixturevalue('s3_bucket')}/in/legacy")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def zoo(tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch) -> Zoo:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_LEGACY_URL", export.url)
    monkeypatch.setenv("ZOO_LAKE_URL", str(tmp_path / "lake"))
    return Zoo(tmp_path)


@pytest.fixture
def watcher(zoo: Zoo, instance: dg.DagsterInstance) -> Watcher:
    return Watcher(zoo, instance)


def test_it_is_off_until_someone_switches_it_on(watcher):
    assert watcher.sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert watcher.sensor.job_name == "zoo"


def test_one_run_for_each_export_that_two_looks_find_the_same(export, watcher):
    export.write("animal.csv")
    watcher.waits("not complete: visit is not there")
    export.write("visit.csv", b"")
    watcher.waits("not complete: visit.csv is empty")
    export.write("visit.csv")
    watcher.waits("may still be written")
    export.write("visit.csv", b"a\n1\n2\n")
    watcher.waits("may still be written")
    first = watcher.requests()
    watcher.waits("was handed to a run")
    # Of the same size.
    export.write("animal.csv", b"a\n2\n")
    watcher.waits("may still be written")
    second = watcher.requests()
    assert second != first
    watcher.waits("was handed to a run")
    # What is no table does not count.
    export.write("notes.txt")
    watcher.waits("was handed to a run")


def test_a_marker_says_that_an_export_is_complete(export, watcher):
    export.write("animal.csv")
    export.write("visit.csv")
    export.write(MARKER, b"")
    first = watcher.requests()
    watcher.waits("was handed to a run")
    # The next one takes its marker away first, and writes for longer than a look.
    export.remove(MARKER)
    export.write("animal.csv", b"a\n2\n3\n")
    watcher.waits(f"{MARKER} is not there, and the exports before had it")
    watcher.waits(f"{MARKER} is not there, and the exports before had it")
    export.write(MARKER, b"")
    assert watcher.requests() != first


def test_a_marker_that_was_left_of_the_last_export_says_nothing(tmp_path, monkeypatch, instance):
    export = Export(str(tmp_path / "export"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_LEGACY_URL", export.url)
    watcher = Watcher(Zoo(tmp_path), instance)
    for name in ("animal.csv", "visit.csv", MARKER):
        export.write(name)
    watcher.requests()
    export.write("visit.csv", b"a\n5\n")
    watcher.waits(f"{MARKER} is older than its tables")
    watcher.waits(f"{MARKER} is older than its tables")
    export.write(MARKER)
    watcher.requests()


def test_what_the_last_landed_export_had_must_be_there_again(export, zoo, watcher):
    export.write("animal.csv")
    export.write("visit.csv")
    keeper = replace(zoo.system.legacy_tables["visit"], name="keeper")
    zoo.system.legacy_tables["keeper"] = keeper  # type: ignore[index]
    watcher.waits("may still be written")
    zoo.land("keeper", [])
    watcher.waits("not complete: keeper is not there")
    export.write("keeper.csv")
    watcher.waits("may still be written")
    watcher.requests()


def test_it_waits_for_the_end_of_a_run(export, watcher, instance):
    export.write("animal.csv")
    export.write("visit.csv")
    watcher.waits("may still be written")
    run = instance.create_run_for_job(
        unfinished, status=dg.DagsterRunStatus.STARTED, tags={PROCESS_TAG: this_process()}
    )
    watcher.waits(f"waits for the end of run {run.run_id}")
    instance.report_run_canceled(run)
    watcher.requests()


@dg.job(name="zoo_cutover")
def unfinished() -> None:
    """Of which there is only a record."""


def test_a_cursor_that_someone_wrote_is_no_obstacle(export, watcher):
    export.write("animal.csv")
    export.write("visit.csv")
    for cursor in ("nonsense", '{"of": "others"}', "[]"):
        watcher.cursor = cursor
        watcher.waits("may still be written")
        watcher.requests()


def test_a_database_and_a_place_that_cannot_be_listed_are_told(tmp_path, monkeypatch, instance):
    monkeypatch.chdir(tmp_path)
    watcher = Watcher(Zoo(tmp_path), instance)
    monkeypatch.setenv("ZOO_LEGACY_URL", "mysql://reader:secret@127.0.0.1/legacy")
    watcher.waits("mysql://reader:***@127.0.0.1/legacy is a database")
    monkeypatch.setenv("ZOO_LEGACY_URL", str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="cannot be listed") as caught:
        watcher.look()
    assert caught.value.where == str(tmp_path / "nowhere")


# --- rehearsals -------------------------------------------------------------------------------------------------------


@pytest.fixture
def quiet_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Zoo:
    monkeypatch.chdir(tmp_path)
    return Zoo(tmp_path)


def tick(schedule: dg.ScheduleDefinition) -> Any:
    with dg.build_schedule_context(scheduled_execution_time=datetime(2026, 11, 21, 2, tzinfo=UTC)) as context:
        return schedule.evaluate_tick(context)


def test_rehearsals_are_nightly_and_off_until_someone_switches_them_on(quiet_zoo):
    schedule = build_rehearsal_schedule(quiet_zoo.system)
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 2 * * *", "UTC")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.job_name == "zoo_rehearsal"


def test_the_environment_says_when_rehearsals_are_run_and_where_it_is_then(quiet_zoo, monkeypatch):
    monkeypatch.setenv("ZOO_REHEARSAL_CRON", "30 4 * * 1-5")
    monkeypatch.setenv("ZOO_LEGACY_TIMEZONE", "America/New_York")
    schedule = build_rehearsal_schedule(quiet_zoo.system)
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 4 * * 1-5", "America/New_York")


@pytest.mark.parametrize("times", ["nightly", "61 * * * *", "0 2 * *", "0 0 30 2 *"])
def test_times_that_cannot_be_read_are_refused(quiet_zoo, monkeypatch, times):
    monkeypatch.setenv("ZOO_REHEARSAL_CRON", times)
    with pytest.raises(ConfigurationError, match="that is no line of crontab") as caught:
        build_rehearsal_schedule(quiet_zoo.system)
    assert caught.value.where == "environment variable ZOO_REHEARSAL_CRON"


def test_a_rehearsal_is_one_whatever_the_job_would_do_else_and_never_where_a_cutover_is(quiet_zoo, monkeypatch):
    schedule = build_rehearsal_schedule(quiet_zoo.system)
    [request] = tick(schedule).run_requests
    assert request.run_config == {"resources": {ENVIRONMENT: {"config": {"mode": "rehearsal"}}}}
    monkeypatch.setenv("ZOO_MODE", "cutover")
    skipped = tick(schedule)
    assert not skipped.run_requests
    assert "ZOO_MODE is cutover" in skipped.skip_message
