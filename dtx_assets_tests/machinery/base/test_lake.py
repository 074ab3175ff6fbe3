"""The lake, in a directory and on a real S3 server: whole or not at all, readers undisturbed, nothing left behind."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import obstore
import polars as pl
import pyarrow as pa
import pytest

from dtx_assets.machinery.base import lake as lake_module
from dtx_assets.machinery.base.errors import ConfigurationError, StructureError
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets_tests.patience import PATIENCE

KEY = ("toy", "prepared", "Letter")
LONG_AGO = 1_000_000_000


@pytest.fixture(params=["directory", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "directory":
        return Lake(str(tmp_path / "lake"))
    return Lake(f"s3://{request.getfixturevalue('s3_bucket')}/some/prefix")


@pytest.fixture
def directory_lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def write(lake: Lake, *values: str, run_id: str = "r") -> Manifest:
    with lake.write(KEY, run_id=run_id) as writer:
        writer.add(pl.DataFrame({"value": values}, schema={"value": pl.String}))
    return lake.require(KEY)


def values(lake: Lake, manifest: Manifest | None = None) -> list[str]:
    return lake.scan(KEY, manifest=manifest).collect()["value"].to_list()


def paths(lake: Lake) -> list[str]:
    return [entry["path"] for page in obstore.list(lake.store) for entry in page]


def versions(lake: Lake) -> set[str]:
    return {path.split("/")[3] for path in paths(lake)} - {"manifest.json", "leases"}


def age(lake: Lake, manifest: Manifest) -> None:
    """Makes the files of a version old enough to be tidied up."""
    for entry in manifest.tables["rows"].files:
        os.utime(lake.location(manifest, entry.name), (LONG_AGO, LONG_AGO))


def test_three_ways_to_write_give_one_dataset(lake):
    frame = pl.DataFrame({"id": [1, 2], "text": ["ä\n", None], "parts": [["a"], []]})
    with lake.write(KEY, run_id="run 1") as writer:
        writer.add(frame)
        assert writer.sink(frame.lazy().with_columns(pl.col("id") + 2)) == 2
        arrow = frame.with_columns(pl.col("id") + 4).to_arrow()
        with writer.parquet_writer(arrow.schema) as parquet:
            parquet.write_table(arrow)
            parquet.write_table(arrow.slice(1))
        writer.add(pl.DataFrame({"bucket": [7]}), table="links", file="links-00042")
        writer.metadata["note"] = {"ü": [1, None]}

    manifest = lake.require(KEY)
    assert (manifest.key, manifest.run_id, manifest.metadata) == (KEY, "run 1", {"note": {"ü": [1, None]}})
    assert isinstance(manifest.created_at, datetime)
    assert manifest.created_at.tzinfo is not None
    assert [(entry.name, entry.rows) for entry in manifest.tables["rows"].files] == [
        ("rows-00000.parquet", 2),
        ("rows-00001.parquet", 2),
        ("rows-00002.parquet", 3),
    ]
    assert manifest.tables["rows"].rows == 7
    assert [entry.name for entry in manifest.tables["links"].files] == ["links-00042.parquet"]
    read = lake.scan(KEY).collect()
    assert read["id"].to_list() == [1, 2, 3, 4, 5, 6, 6]
    assert read["text"].to_list() == ["ä\n", None, "ä\n", None, "ä\n", None, None]
    assert read.schema == frame.schema
    assert lake.scan(KEY, "links").collect()["bucket"].to_list() == [7]


def test_the_manifest_has_the_size_of_each_file(lake):
    manifest = write(lake, "a", "b")
    [entry] = manifest.tables["rows"].files
    assert entry.bytes == obstore.head(lake.store, "/".join([*KEY, manifest.version, entry.name]))["size"] > 100


def test_some_files_of_a_table(lake):
    with lake.write(KEY, run_id="r") as writer:
        for value in "abc":
            writer.add(pl.DataFrame({"value": [value]}), file=f"rows-{value}")
    chosen = lake.scan_files(lake.require(KEY), "rows", ["rows-c.parquet", "rows-a.parquet"])
    assert chosen.collect()["value"].to_list() == ["a", "c"]
    with pytest.raises(StructureError, match="no files"):
        lake.scan_files(lake.require(KEY), "rows", ["rows-z.parquet"])


@pytest.mark.parametrize("way", ["add", "sink", "parquet_writer"])
def test_a_table_without_rows_keeps_its_schema(lake, way):
    schema = {"id": pl.Int64, "text": pl.String, "parts": pl.List(pl.String)}
    empty = pl.DataFrame(schema=schema)
    with lake.write(KEY, run_id="r") as writer:
        if way == "add":
            writer.add(empty)
        elif way == "sink":
            assert writer.sink(empty.lazy()) == 0
        else:
            with writer.parquet_writer(empty.to_arrow().schema):
                pass
    assert lake.require(KEY).tables["rows"].rows == 0
    assert dict(lake.scan(KEY).collect_schema()) == schema
    assert lake.scan(KEY).collect().height == 0


def test_what_was_never_written(lake):
    assert lake.manifest(KEY) is None
    with pytest.raises(StructureError, match="toy/prepared/Letter has not been materialised") as told:
        lake.scan(KEY)
    assert "materialise toy/prepared/Letter first" in told.value.remedy


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_what_was_there_and_nothing_else(lake, failure):
    before = write(lake, "old")
    listed = paths(lake)

    def fail_after_a_file() -> None:
        with lake.write(KEY, run_id="r") as writer:
            writer.add(pl.DataFrame({"value": ["new"]}))
            raise failure

    with pytest.raises(failure):
        fail_after_a_file()
    assert lake.require(KEY) == before
    assert values(lake) == ["old"]
    assert paths(lake) == listed


def test_a_first_write_that_fails_in_the_middle_of_a_file_leaves_nothing(lake):
    schema = pa.schema([("value", pa.string())])

    def fail_within_a_file() -> None:
        with lake.write(KEY, run_id="r") as writer, writer.parquet_writer(schema) as parquet:
            parquet.write_table(pa.table({"value": ["a"]}))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within_a_file()
    assert lake.manifest(KEY) is None
    assert paths(lake) == []


def test_nothing_is_visible_before_the_end(lake):
    write(lake, "old")
    with lake.write(KEY, run_id="r") as writer:
        writer.add(pl.DataFrame({"value": ["new"]}))
        assert values(lake) == ["old"]
    assert values(lake) == ["new"]


def test_a_reader_keeps_the_version_it_holds(lake):
    held = write(lake, "first")
    scan = lake.scan(KEY)
    write(lake, "second")
    assert values(lake, held) == scan.collect()["value"].to_list() == ["first"]
    assert values(lake) == ["second"]


def test_old_versions_go_when_a_newer_one_is_there(directory_lake):
    manifests = []
    for value in "abcd":
        manifests.append(write(directory_lake, value))
        age(directory_lake, manifests[-1])
    assert versions(directory_lake) == {manifest.version for manifest in manifests[2:]}
    assert values(directory_lake, manifests[2]) == ["c"]
    inside = Path(directory_lake.location(manifests[3], "")).parent
    assert {path.name for path in inside.iterdir()} == {"manifest.json", *(m.version for m in manifests[2:])}


def test_a_young_version_that_no_manifest_names_may_be_one_that_is_being_written(directory_lake):
    with directory_lake.write(KEY, run_id="slow") as slow:
        slow.add(pl.DataFrame({"value": ["slow"]}))
        for value in "abc":
            write(directory_lake, value)
    assert values(directory_lake) == ["slow"]


def test_a_leased_version_stays(directory_lake):
    held = write(directory_lake, "held")
    age(directory_lake, held)
    with directory_lake.lease(held, "loading"), directory_lake.lease(held, "loading"):
        for value in "abc":
            write(directory_lake, value)
        assert values(directory_lake, held) == ["held"]
    write(directory_lake, "d")
    assert held.version not in versions(directory_lake)


def test_leases_end_with_their_block(lake):
    held = write(lake, "a")
    listed = paths(lake)

    def fail_under_a_lease() -> None:
        with lake.lease(held, "r"):
            assert len(paths(lake)) == len(listed) + 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_under_a_lease()
    assert paths(lake) == listed


def test_the_lease_of_a_dead_run_expires(directory_lake):
    held = write(directory_lake, "held")
    age(directory_lake, held)
    with directory_lake.lease(held, "dead"):
        [lease] = [path for path in paths(directory_lake) if "leases" in path]
        os.utime(Path(directory_lake.url) / lease, (LONG_AGO, LONG_AGO))
        for value in "ab":
            write(directory_lake, value)
        assert held.version not in versions(directory_lake)


def test_a_killed_writer_leaves_the_old_version_and_the_next_run_tidies_up(directory_lake, monkeypatch):
    write(directory_lake, "old")
    script = textwrap.dedent(f"""
        import os, signal, polars as pl
        from dtx_assets.machinery.base.lake import Lake
        with Lake({directory_lake.url!r}).write({KEY!r}, run_id="killed") as writer:
            writer.add(pl.DataFrame({{"value": ["new"]}}))
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert values(directory_lake) == ["old"]
    assert len(versions(directory_lake)) == 2
    later = lake_module.time.time() + 2 * 3600
    monkeypatch.setattr(lake_module.time, "time", lambda: later)
    write(directory_lake, "next")
    assert values(directory_lake) == ["next"]
    assert len(versions(directory_lake)) == 2, "that of the killed run is gone: the newest and the one before are left"


def test_two_writers_at_once_leave_one_whole_dataset(lake):
    started = threading.Barrier(2)

    def run(value: str) -> None:
        with lake.write(KEY, run_id=value) as writer:
            writer.add(pl.DataFrame({"value": [value] * 10}))
            started.wait(timeout=PATIENCE)
            writer.add(pl.DataFrame({"value": [value] * 10}))

    threads = [threading.Thread(target=run, args=(value,)) for value in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(lake) == [lake.require(KEY).run_id] * 20


def test_files_that_another_run_removed_first_are_no_error(directory_lake):
    manifest = write(directory_lake, "a")
    listed = directory_lake._list(f"{'/'.join(KEY)}/")
    for entry in manifest.tables["rows"].files:
        Path(directory_lake.location(manifest, entry.name)).unlink()
    directory_lake._delete([entry["path"] for entry in listed])
    assert paths(directory_lake) == []


def test_a_file_url_with_blanks(tmp_path):
    lake = Lake(f"file://{tmp_path}/a%20lake")
    write(lake, "a")
    assert values(lake) == ["a"]
    assert (tmp_path / "a lake" / "toy").is_dir()


def test_a_path_with_characters_of_a_pattern(tmp_path):
    lake = Lake(str(tmp_path / "a[1] *?"))
    write(lake, "a")
    assert values(lake) == ["a"]


@pytest.mark.parametrize("part", ["", "..", "a/b"])
def test_a_key_stays_inside_of_the_lake(lake, part):
    with pytest.raises(ConfigurationError, match="asset key"):
        lake.manifest(("toy", part))


def test_other_kinds_of_url_are_refused():
    with pytest.raises(ConfigurationError, match="gs://") as told:
        Lake("gs://bucket/prefix")
    assert "s3://bucket/prefix" in told.value.remedy


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="the lake cannot be used") as told:
        Lake(str(tmp_path / "file" / "lake"))
    assert str(tmp_path / "file" / "lake") in told.value.where


@contextmanager
def unwritable(directory: Path) -> Iterator[None]:
    """Takes away the right to write, from root too."""
    directory.chmod(0o555)
    if is_root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        directory.chmod(0o755)


def test_a_directory_that_became_read_only(server_directory):
    lake = Lake(str(server_directory / "lake"))
    before = write(lake, "old")
    dataset = Path(lake.location(before, "")).parent
    with unwritable(dataset), pytest.raises(ConfigurationError, match="the lake cannot be used") as told:
        write(lake, "new")
    assert told.value.where == lake.url
    assert "written" in told.value.remedy
    assert lake.require(KEY) == before
    assert values(lake) == ["old"]


@pytest.mark.parametrize("way", ["add", "sink", "parquet_writer"])
def test_a_full_disk(directory_lake, way):
    before = write(directory_lake, "old")
    frame = pl.DataFrame({"value": [f"{number} {'x' * 90}" for number in range(20_000)]})

    def write_to_a_full_disk() -> None:
        with directory_lake.write(KEY, run_id="r") as writer:
            file = Path(directory_lake.location(before, "")).parent / writer.version / "rows-00000.parquet"
            file.parent.mkdir()
            file.symlink_to("/dev/full")
            if way == "add":
                writer.add(frame)
            elif way == "sink":
                writer.sink(frame.lazy())
            else:
                with writer.parquet_writer(frame.to_arrow().schema) as parquet:
                    parquet.write_table(frame.to_arrow())

    with pytest.raises(ConfigurationError, match="the lake cannot be written: No space left on device") as told:
        write_to_a_full_disk()
    assert told.value.where == directory_lake.url
    assert "make room" in told.value.remedy
    assert lake_is_as(directory_lake, before)


def lake_is_as(lake: Lake, manifest: Manifest) -> bool:
    return lake.require(KEY) == manifest and values(lake) == ["old"]


def test_an_error_of_what_is_written_stays_its_own(directory_lake):
    def sink_what_fails() -> None:
        with directory_lake.write(KEY, run_id="r") as writer:
            writer.sink(pl.LazyFrame({"value": ["a"]}).select(pl.col("value").str.to_integer(strict=True)))

    with pytest.raises(pl.exceptions.PolarsError, match="integer parsing failed"):
        sink_what_fails()
    assert paths(directory_lake) == []


def test_metadata_that_is_no_json_replaces_nothing(lake):
    before = write(lake, "old")

    def note_what_is_no_json() -> None:
        with lake.write(KEY, run_id="r") as writer:
            writer.add(pl.DataFrame({"value": ["new"]}))
            writer.metadata["at"] = datetime(2026, 1, 1, tzinfo=UTC)

    with pytest.raises(TypeError, match="datetime"):
        note_what_is_no_json()
    assert lake_is_as(lake, before)
    assert versions(lake) == {before.version}


def test_a_manifest_that_arrived_though_putting_it_failed_keeps_its_files(lake, monkeypatch):
    """As when a connection breaks after the server has done what it was asked."""
    write(lake, "old")
    put = obstore.put

    def put_and_fail(*arguments: object) -> None:
        put(*arguments)
        if str(arguments[1]).endswith("manifest.json"):
            raise ConnectionResetError

    def replace_and_fail(fresh: Path, name: Path) -> None:
        fresh.rename(name)
        raise ConnectionResetError

    monkeypatch.setattr(obstore, "put", put_and_fail)
    monkeypatch.setattr(Path, "replace", replace_and_fail)
    with pytest.raises(ConfigurationError, match="ConnectionResetError"):
        write(lake, "new")
    assert values(lake) == ["new"]


def test_wrong_s3_credentials_are_told_without_them(s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-wrong-secret")
    with pytest.raises(ConfigurationError, match="the lake cannot be used") as told:
        Lake(f"s3://{s3_bucket}/lake").manifest(KEY)
    assert "AWS_ENDPOINT_URL" in told.value.remedy
    assert "very-wrong" not in str(told.value)


def test_a_file_of_many_parts_reaches_s3_whole(s3_bucket):
    lake = Lake(f"s3://{s3_bucket}")
    frame = pl.DataFrame({"value": [os.urandom(1 << 20) for _ in range(20)]})
    with lake.write(KEY, run_id="r") as writer:
        writer.add(frame)
        writer.sink(frame.lazy())
    assert lake.scan(KEY).collect().equals(pl.concat([frame, frame]))


def test_the_manifest_is_plain_json(directory_lake):
    manifest = write(directory_lake, "a")
    facts = json.loads(Path(directory_lake.location(manifest, "")).parent.joinpath("manifest.json").read_text())
    assert facts["version"] == manifest.version
    assert facts["tables"]["rows"][0]["rows"] == 1


def test_what_a_manifest_names_is_on_the_disk_before_the_manifest_is(tmp_path, monkeypatch):
    """A power cut keeps what was synced, in any order else: the manifest must not outlive its files or their names."""
    calls: list[tuple[str, Path]] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(handle: int) -> None:
        calls.append(("sync", Path(f"/proc/self/fd/{handle}").readlink()))
        sync(handle)

    def noted_replace(fresh: Path, name: Path) -> Path:
        assert ("sync", fresh) in calls
        calls.append(("replace", name))
        return replace(fresh, name)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    new = tmp_path / "new"
    lake = Lake(str(new / "lake"))
    manifest = write(lake, "a")
    dataset = new / "lake" / "/".join(manifest.key)
    version = Path(lake.location(manifest, ""))
    files = [version / entry.name for table in manifest.tables.values() for entry in table.files]
    assert files
    replaced = calls.index(("replace", dataset / "manifest.json"))
    above = [directory for directory in dataset.parents if directory.is_relative_to(new)]
    for path in (*files, version, dataset, *above):
        assert ("sync", path) in calls[:replaced], path
    assert calls[replaced + 1 :] == [("sync", dataset)]


def test_what_a_power_cut_leaves_of_a_manifest_is_no_version(directory_lake):
    manifest = write(directory_lake, "a")
    left = Path(directory_lake.location(manifest, "")).with_name("20200101T000000-aaaaaaaa")
    left.mkdir()
    (left / "manifest.json").write_text("{")
    os.utime(left / "manifest.json", (0, 0))
    assert [stored.name for stored in directory_lake.versions(KEY[0])] == [manifest.version]
    write(directory_lake, "b")
    assert not left.exists()


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_what_is_in_a_lake_is_for_its_owner_only(tmp_path, umask):
    before = os.umask(umask)
    try:
        write(Lake(str(tmp_path / "lake")), "a")
    finally:
        os.umask(before)
    assert (tmp_path / "lake").stat().st_mode & 0o077 == 0
