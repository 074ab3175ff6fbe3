"""A system whose tables are collections: what is there beside them, what is not, and what everybody is told of it."""

import gzip
from typing import Any

import bson
import pytest
from bson import ObjectId
from dagster import AssetKey

from dtx_assets.machinery.archive.query import ask
from dtx_assets.machinery.archive.store import undeclared_archives
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.base.names import dagster_name, dataset_name
from dtx_assets.machinery.dagster.run import CheckResult, RunOutcome, open_instance
from dtx_assets_tests.machinery.dagster.shops import FolderPlace

FILES = {
    "tables.yaml": """\
areas: { people: "Area 1: People" }
tables:
  Users: { key: [_id], documents: true, columns: { _id: object_id, name: json } }
  Boards: { key: [_id], documents: true, columns: { _id: object_id, title: json, members: json } }
""",
    "targets.yaml": """\
targets:
  User:
    table: users
    key_is_written: true
    columns: { id: uuid, name: text }
""",
    "decisions.yaml": """\
decisions:
  - { key: rows, area: 1, number: "1", title: Rows, text: A row for a document., status: documented }
""",
    "archived.yaml": "archived: { Boards: kept for the record }\n",
    "User.yaml": """\
target: User
decision: "A1 #1"
sources:
  Users:
    columns:
      id: { from: _id, transform: bson_uuid, with: { namespace: 9ff85368-0ce2-530b-bca5-ea5ff5b21b75 } }
      name: { from: name, transform: bson_text }
""",
}
TABLES = ("CREATE TABLE users (id uuid PRIMARY KEY, name text)",)


GIVEN = {"name": "a\nb"}


class People(FolderPlace):
    def dump(self, name: str, *documents: dict[str, Any]) -> bytes:
        data = b"".join(map(bson.encode, documents))
        (self.legacy / f"{name}.bson").write_bytes(data)
        return data

    def archived(self, name: str, file: str) -> bytes:
        """The documents in an archive."""
        stored = Lake(str(self.home / "archive")).require(("people", name))
        (path,) = (self.home / "archive").rglob(f"{stored.version}/{file}.bson.gz")
        return gzip.decompress(path.read_bytes())


@pytest.fixture
def people(tmp_path, database_url, monkeypatch):
    return People(tmp_path, database_url, monkeypatch, "people", FILES, TABLES)


def results(outcome: RunOutcome) -> dict[str, CheckResult]:
    return {f"{check.asset} {check.name}": check for check in outcome.checks}


def flows(outcome: RunOutcome) -> dict[tuple[str, str], tuple[int, int]]:
    return {
        (each["source_table"], each["target_table"]): (each["read"], each["migrated"]) for each in outcome.accounting
    }


def test_what_nobody_declared_is_archived_and_told(people):
    ids = [ObjectId(bytes([0] * 11 + [number])) for number in range(3)]
    users = people.dump("Users", *({"_id": each, **GIVEN, "extra": 1.5} for each in ids))
    others = {
        "fs.files": people.dump("fs.files", {"_id": ids[0], "length": 3, "chunkSize": 4}),
        "fs.chunks": people.dump("fs.chunks", {"_id": ids[0], "files_id": ids[0], "n": 0, "data": b"abc"}),
        "a/b": people.dump("a%2Fb", {"x": 1}, {"y": {"z": []}}),
        "nothing": people.dump("nothing"),
    }
    (people.legacy / "seen.metadata.json").write_text('{"type": "view", "collectionName": "seen"}')
    people.dump("boards", {"_id": 1})
    outcome = people.run()
    assert not outcome.failures
    assert len(people.sql("SELECT id FROM users")) == 3
    assert flows(outcome) == {
        ("Users", "users"): (3, 3),
        ("Boards", "archive"): (0, 0),
        ("fs.files", "archive"): (1, 1),
        ("fs.chunks", "archive"): (1, 1),
        ("a/b", "archive"): (2, 2),
        ("nothing", "archive"): (0, 0),
        ("boards", "archive"): (1, 1),
    }
    archive = Lake(str(people.home / "archive"))
    stored = undeclared_archives(archive, "people", people.system.legacy_tables)
    assert {name: manifest.metadata["rows"] for name, manifest in stored.items()} == {
        "fs.files": 1,
        "fs.chunks": 1,
        "a/b": 2,
        "nothing": 0,
        "boards": 1,
    }
    with ask(archive, stored["a/b"], 'SELECT _rest FROM "a/b" ORDER BY 1') as answer:
        assert list(answer.rows) == [('{"x":{"$numberInt":"1"}}',), ('{"y":{"z":[]}}',)]
    for name, data in (others | {"Users": users}).items():
        assert people.archived(dataset_name(name), dagster_name(name)) == data
    found = results(outcome)
    listed = found["report/undeclared_collections undeclared_collections"]
    assert (listed.passed, listed.is_error) == (False, False)
    assert found["archive/undeclared_collections archive_reads_back_identical"].passed
    assert not found["legacy/Boards collection_is_there"].passed
    assert not found["legacy/Boards collection_is_there"].is_error
    assert found["legacy/Boards collection_case"].is_error
    assert found["legacy/Users collection_is_there"].passed
    assert found["legacy/Users collection_case"].passed
    assert not found["legacy/Users undeclared_fields"].passed
    with open_instance(people.home) as instance:
        event = instance.get_latest_materialization_event(AssetKey(["people", "report", "undeclared_collections"]))
    assert event
    assert event.asset_materialization
    told = event.asset_materialization.metadata["collections"].value.records
    told = {record.data["name"]: (record.data["type"], record.data["documents"]) for record in told}
    assert told["seen"] == ("view", "–")
    assert told["a/b"] == ("collection", "2")
    # A second run archives nothing anew.
    before = {path: path.stat().st_mtime_ns for path in (people.home / "archive").rglob("*.bson.gz")}
    again = people.run()
    assert flows(again) == flows(outcome)
    assert {path: path.stat().st_mtime_ns for path in (people.home / "archive").rglob("*.bson.gz")} == before


def test_a_collection_that_is_cut_stops_itself_alone_and_fails_the_run(people):
    people.dump("Users", {"_id": ObjectId(), **GIVEN})
    people.dump("Boards")
    data = people.dump("cut", {"_id": 1}, {"_id": 2})
    (people.legacy / "cut.bson").write_bytes(data[:-3])
    outcome = people.run()
    assert len(people.sql("SELECT id FROM users")) == 1
    assert "cut.bson cannot be read whole" in str(outcome.failures)
    assert f"byte {len(data) // 2}" in str(outcome.failures)
    assert ("cut", "archive") not in flows(outcome)


def test_none_of_the_declared_collections_is_there(people):
    people.dump("users", {"_id": 1})
    outcome = people.run()
    assert "none of the 2 declared collections is there" in str(outcome.failures)
    assert people.sql("SELECT id FROM users") == []


def test_a_damaged_archive_of_what_nobody_declared_is_told(people):
    people.dump("Users", {"_id": ObjectId(), **GIVEN})
    people.dump("logs", {"_id": 1, "at": "now"})
    people.run()
    (path,) = (people.home / "archive").rglob("logs.bson.gz")
    stored = Lake(str(people.home / "archive")).require(("people", "logs"))
    entry = next(entry for entry in stored.tables["bson"].files)
    packed = bytearray(path.read_bytes())
    packed[-9] ^= 1
    path.write_bytes(bytes(packed))
    assert path.stat().st_size == entry.bytes
    outcome = people.run(select="archive/undeclared_collections")
    assert not results(outcome)["archive/undeclared_collections archive_reads_back_identical"].passed
