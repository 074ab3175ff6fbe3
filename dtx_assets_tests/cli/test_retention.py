"""Purging what is too old: the same is listed and removed, what counts now stays, a purge that was killed goes on."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import psycopg
import pytest

from dtx_assets.cli.retention import Stale, parse_age, stale_datasets, stale_files, stale_rejected, stale_runs
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.dagster.run import open_instance
from dtx_assets.machinery.load.runs import prepare_bookkeeping
from dtx_assets.machinery.postgres.connection import connect

NOW = datetime.now(UTC)
OLD, BEFORE = NOW - timedelta(days=40), NOW - timedelta(days=30)
KEY = ("toy", "legacy", "pet")


def age(directory: Path, at: datetime = OLD) -> None:
    for path in directory.rglob("*"):
        os.utime(path, (at.timestamp(), at.timestamp()))


def write(lake: Lake, name: str) -> str:
    with lake.write(KEY, run_id="r") as writer:
        writer.add(pl.DataFrame({"name": [name]}))
    return lake.require(KEY).version


def purge(found: Iterable[Stale]) -> list[tuple[str, str]]:
    listed = list(found)
    for stale in listed:
        stale.remove()
    return [(stale.kind, stale.name) for stale in listed]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30d", timedelta(days=30)), ("1h", timedelta(hours=1)), (" 4W ", timedelta(weeks=4))],
)
def test_ages(text, expected):
    assert parse_age(text) == expected


@pytest.mark.parametrize("text", ["30", "d", "0d", "-1d", "1m", "1.5d", "", "99999d", "٣d"])
def test_what_is_no_age(text):
    with pytest.raises(ConfigurationError, match="is not an age") as caught:
        parse_age(text)
    assert caught.value.where == "--older-than"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_earlier_versions_go_and_the_one_that_counts_stays(lake, tmp_path):
    first, second = write(lake, "Anna"), write(lake, "Berta")
    assert list(stale_datasets(lake, "toy", BEFORE)) == []
    age(tmp_path)
    with lake.write(("other", "legacy", "pet"), run_id="r") as writer:
        writer.add(pl.DataFrame({"name": ["Carla"]}))
    [listed] = stale_datasets(lake, "toy", BEFORE)
    assert (listed.kind, listed.name) == ("earlier version of a dataset", f"toy/legacy/pet {first}")
    on_disk = tmp_path / "lake" / "toy" / "legacy" / "pet" / first
    assert listed.bytes == sum(file.stat().st_size for file in on_disk.iterdir())
    assert on_disk.exists()
    listed.remove()
    assert not on_disk.exists()
    assert list(stale_datasets(lake, "toy", BEFORE)) == []
    assert lake.require(KEY).version == second
    assert lake.scan(KEY).collect()["name"].to_list() == ["Berta"]


def test_old_rows_of_shards_go_though_nothing_took_their_place(lake, tmp_path):
    with lake.write(("toy", "shards", "pet", "plan"), run_id="r") as writer:
        writer.add(pl.DataFrame({"name": ["Anna"]}))
    assert list(stale_datasets(lake, "toy", BEFORE)) == []
    age(tmp_path)
    [listed] = stale_datasets(lake, "toy", BEFORE)
    assert listed.name == f"toy/shards/pet/plan {writer.version}"
    listed.remove()
    assert lake.manifest(("toy", "shards", "pet", "plan")) is None


def test_a_version_that_a_run_reads_stays(lake, tmp_path):
    write(lake, "Anna")
    held = lake.require(KEY)
    write(lake, "Berta")
    age(tmp_path)
    with lake.lease(held, "reader"):
        assert list(stale_datasets(lake, "toy", BEFORE)) == []
    assert len(list(stale_datasets(lake, "toy", BEFORE))) == 1


def test_what_counts_now_goes_when_asked_for_and_a_killed_purge_goes_on(lake, tmp_path, monkeypatch):
    version = write(lake, "Anna")
    age(tmp_path)
    [listed] = stale_datasets(lake, "toy", BEFORE, current=True)
    assert listed.kind == "dataset that counts now"

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lake, "_remove_version", killed)
        with pytest.raises(KeyboardInterrupt):
            listed.remove()
    assert lake.manifest(KEY) is None
    assert purge(stale_datasets(lake, "toy", BEFORE)) == [("earlier version of a dataset", f"toy/legacy/pet {version}")]
    assert not [path for path in (tmp_path / "lake").rglob("*") if path.is_file()]


def test_what_came_to_count_after_it_was_listed_stays(lake, tmp_path):
    write(lake, "Anna")
    age(tmp_path)
    [listed] = stale_datasets(lake, "toy", BEFORE, current=True)
    write(lake, "Berta")
    listed.remove()
    assert lake.scan(KEY).collect()["name"].to_list() == ["Berta"]


def test_datasets_in_a_bucket(s3_bucket):
    lake = Lake(f"s3://{s3_bucket}/lake")
    first, second = write(lake, "Anna"), write(lake, "Berta")
    future = datetime.now(UTC) + timedelta(hours=1)
    assert purge(stale_datasets(lake, "toy", future)) == [("earlier version of a dataset", f"toy/legacy/pet {first}")]
    assert lake.is_complete(lake.require(KEY))
    assert purge(stale_datasets(lake, "toy", future, current=True)) == [
        ("dataset that counts now", f"toy/legacy/pet {second}")
    ]
    assert lake._list("toy/") == []


def test_logs_reports_and_rows_of_killed_runs(tmp_path):
    for name in ("logs/old.log", "logs/notes.txt", "report/cutover.html", "batches-x/letter/0", "postgres/data/base"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("anna@example.com")
    age(tmp_path)
    (tmp_path / "logs" / "young.log").write_text("new")
    found = list(stale_files(tmp_path, BEFORE))
    assert [(stale.kind, stale.name, stale.bytes) for stale in found] == [
        ("log", "logs/old.log", 16),
        ("report", "report/cutover.html", 16),
        ("rows left by a killed run", "batches-x", 16),
    ]
    purge(found)
    assert purge(found)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["logs/notes.txt", "logs/young.log", "postgres/data/base"]


def test_runs_of_dagster_go_but_for_those_that_are_shown_and_those_that_go_on(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)

    @dg.asset
    def pets() -> None: ...

    job = dg.Definitions([pets], jobs=[dg.define_asset_job("toy")]).resolve_job_def("toy")
    future = datetime.now(UTC) + timedelta(days=1)
    with open_instance(tmp_path) as instance:
        first, second, third = (job.execute_in_process(instance=instance).run_id for _ in range(3))
        going_on = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED).run_id
        assert list(stale_runs(instance, tmp_path, BEFORE, set())) == []
        found = list(stale_runs(instance, tmp_path, future, {third}))
        assert [stale.name for stale in found] == [first, second]
        assert all(stale.bytes for stale in found)
        purge(found)
        assert {run.run_id for run in instance.get_runs()} == {third, going_on}
        assert list(stale_runs(instance, tmp_path, future, {third})) == []
        latest = instance.get_latest_materialization_event(dg.AssetKey("pets"))
        assert latest is not None
        assert latest.run_id == third
    for run_id in (first, second):
        assert not list(tmp_path.rglob(f"*{run_id}*"))


@pytest.fixture
def bookkeeping(database_url: str) -> str:
    """Two loads, of 40 days ago and of now, with rejected rows that each opened and closed."""
    with connect(database_url) as connection:
        prepare_bookkeeping(connection)
        connection.execute(
            "INSERT INTO migration.run (run_id, system, mode, decisions) VALUES ('r', 'toy', 'rehearsal', '{}')"
        )
        connection.execute(
            "INSERT INTO migration.flow (system, source_table, target_table) VALUES ('toy', 'letter', 't_letter'),"
            " ('other', 'letter', 't_letter')"
        )
        for at in (OLD, OLD, NOW):
            connection.execute(
                "INSERT INTO migration.load (run_id, system, target_table, preparation, started_at, finished_at)"
                " VALUES ('r', 'toy', 't_letter', 'p', %s, %s)",
                [at, at],
            )
        entries = [
            ("closed long ago", 1, 2, 1),
            ("closed now", 1, 3, 1),
            ("closed by an undo", 2, 3, 1),
            ("opened long ago", 1, None, 1),
            ("opened now", 3, None, 1),
            ("of another system", 1, 2, 2),
        ]
        for key, opened, closed, flow in entries:
            connection.execute(
                "INSERT INTO migration.rejected_entry (opened_by, closed_by, flow_id, bucket, partial, found_by_load,"
                ' occurrence, hash, source_key, reasons, detail, "row")'
                " VALUES (%s, %s, %s, 0, false, false, 0, 7, %s, '{unparseable}', 'Anna', '{\"name\": \"Anna\"}')",
                [opened, closed, flow, key],
            )
    return database_url


def entries(url: str) -> dict[str, tuple[str, dict[str, str]]]:
    with psycopg.connect(url) as connection:
        found = connection.execute('SELECT source_key, detail, "row" FROM migration.rejected_entry').fetchall()
    return {key: (detail, row) for key, detail, row in found}


def test_rejected_rows_that_are_closed_go_and_open_ones_stay(bookkeeping):
    before = entries(bookkeeping)
    [listed] = stale_rejected(bookkeeping, "toy", BEFORE)
    assert (listed.kind, listed.name, listed.rows) == ("rejected rows that are closed", "letter → t_letter", 1)
    assert listed.bytes
    assert entries(bookkeeping) == before
    listed.remove()
    del before["closed long ago"]
    assert entries(bookkeeping) == before
    assert list(stale_rejected(bookkeeping, "toy", BEFORE)) == []


def test_open_rejected_rows_keep_key_and_reasons_when_their_content_goes(bookkeeping):
    assert purge(stale_rejected(bookkeeping, "toy", BEFORE, current=True)) == [
        ("rejected rows that are closed", "letter → t_letter"),
        ("content of rejected rows that are open", "letter → t_letter"),
    ]
    left = entries(bookkeeping)
    assert left["opened long ago"] == ("purged", {})
    assert left["opened now"] == ("Anna", {"name": "Anna"})
    assert purge(stale_rejected(bookkeeping, "toy", BEFORE, current=True)) == []


def test_a_target_without_bookkeeping(database_url):
    assert list(stale_rejected(database_url, "toy", BEFORE, current=True)) == []
