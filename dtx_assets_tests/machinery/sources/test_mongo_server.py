"""A live MongoDB: keys in order whatever their types, what gets lost on the way, and one moment where there is one.

`nx-27017` is a server that speaks the protocol; what it cannot hold or do, a stand-in does.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import polars as pl
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Timestamp
from bson.datetime_ms import DatetimeMS
from bson.max_key import MaxKey
from bson.min_key import MinKey
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.mongo_server import MongoDatabase
from dtx_assets.machinery.sources.undeclared import Undeclared, land_undeclared
from dtx_assets_tests import servers
from dtx_assets_tests.machinery.sources import mongo_forms as forms
from dtx_assets_tests.machinery.sources.landing_place import LandingPlace
from dtx_assets_tests.machinery.sources.mongo_stand_in import StandIn, running

PEOPLE = LegacyTable("people", "crm", ("_id", "n"), key=("_id",))
MANY = [{"_id": ObjectId(f"{number:024x}"), "n": number} for number in range(4_500)]
KEYS: list[Any] = [
    MinKey(),
    None,
    float("nan"),
    -5,
    Decimal128("-1.5"),
    0.5,
    Int64(2**40),
    "",
    "z",
    {"a": 1},
    {"a": 2},
    Binary(b"a", 0),
    ObjectId("f" * 24),
    False,
    True,
    DatetimeMS(-(10**15)),
    DatetimeMS(10**15),
    Timestamp(1, 1),
    MaxKey(),
]
"""In the server's order."""


def held(*documents: dict[str, Any]) -> list[bytes]:
    return list(map(bson.encode, documents))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dtx_assets.machinery.sources.mongo_server.SECONDS_BEFORE_AGAIN", (0, 0, 0, 0))


def read_numbers(place: LandingPlace) -> list[int]:
    return place.frame("people")["n"].str.extract(r"(\d+)").cast(pl.Int64).to_list()


@pytest.mark.parametrize("snapshots", [True, False])
def test_a_collection_is_read_in_the_order_of_its_keys(place, snapshots):
    with running(StandIn({"people": held(*reversed(MANY))}, snapshots=snapshots)) as server:
        manifest = place.land(server.url, PEOPLE)
        assert server.cursors == {}
    assert read_numbers(place) == list(range(4_500))
    facts = manifest.metadata
    assert (facts["source_rows"], facts["count_before"], facts["count_after"]) == (4_500, 4_500, 4_500)
    assert facts["consistent_snapshot"] == snapshots
    assert {asked.get("batchSize") for asked in server.asked if "getMore" in asked} == {1000}
    assert facts["source"] == f"{server.url}, people"


def test_the_same_documents_as_in_a_dump(place, tmp_path):
    forms.dumped({"people": [{"_id": key, "n": n} for n, key in enumerate(KEYS)]}, tmp_path / "dump")
    place.land(str(tmp_path / "dump"), PEOPLE)
    dumped = place.frame("people")
    with running(StandIn({"people": held(*({"_id": key, "n": n} for n, key in enumerate(KEYS)))})) as server:
        place.land(server.url, PEOPLE)
    assert place.frame("people").equals(dumped, null_equal=True)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("loss", ["cursor", "connection"])
@pytest.mark.parametrize("snapshots", [True, False])
def test_what_is_lost_goes_on_behind_the_last_key_whatever_its_type(place, monkeypatch, loss, snapshots):
    monkeypatch.setattr("dtx_assets.machinery.sources.mongo_server.BATCH", 1)
    documents = [{"_id": key, "n": n} for n, key in enumerate(KEYS)]
    stand_in = StandIn({"people": held(*documents)}, snapshots=snapshots, losses=[loss] * 200)
    # Each cursor gives one document, and is lost.
    with running(stand_in) as server:
        manifest = place.land(server.url, PEOPLE)
    assert read_numbers(place) == list(range(len(KEYS)))
    assert manifest.metadata["row_count_matches"] is True
    assert len(stand_in.losses) < 200 - 10


@pytest.mark.usefixtures("quick")
def test_a_server_that_gives_nothing_more_is_told(place):
    with running(StandIn({"people": held(*MANY)}, losses=["cursor"])) as server:
        server.refusals["killCursors"] = (0, "")
        server.before_batch = lambda it: it.refusals.setdefault("find", (43, "cursor id 1 not found"))
        with pytest.raises(SourceError, match="people cannot be read: cursor id 1 not found"):
            place.land(server.url, PEOPLE)
    assert place.is_untouched("people")


def test_documents_come_as_their_bytes_whatever_they_hold(place):
    bad = bson.encode({"_id": MANY[0]["_id"], "s": "xy"}).replace(b"xy", b"\xff\xfe")
    with running(StandIn({"people": [bad, *held(*MANY[1:1500])]})) as server:
        manifest = place.land(server.url, PEOPLE)
    frame = place.frame("people")
    assert frame["_unreadable"].is_not_null().to_list() == [True, *[False] * 1499]
    assert frame["_id"][0] == f'{{"$oid":"{"0" * 24}"}}'
    assert manifest.metadata["unreadable"] == 1


def test_a_collection_that_changes_is_told_with_both_counts(place):
    def insert(server: StandIn) -> None:
        number = len(server.collections["people"])
        server.collections["people"] += held({"_id": ObjectId(f"{number:024x}")})

    with running(StandIn({"people": held(*MANY)}, snapshots=False, before_batch=insert)) as server:
        facts = place.land(server.url, PEOPLE).metadata
        assert (facts["count_before"], facts["count_after"]) == (4500, 4504)
        assert (facts["source_rows"], facts["row_count_matches"]) == (4500, True)
        server.before_batch = lambda _: None
        server.collections["people"] = held(*MANY)
        server.collections["people"].append(bson.encode({"_id": MANY[0]["_id"], "n": -1}))
    # What the server counts and does not give.
    stand_in = StandIn({"people": held(*MANY[:10])}, snapshots=False)
    stand_in.refusals["aggregate"] = (13, "not authorized")
    with running(stand_in) as server, pytest.raises(SourceError, match="people cannot be read: not authorized"):
        place.land(server.url, PEOPLE)


def test_a_count_that_was_not_read_shows_in_the_manifest(place, monkeypatch):
    monkeypatch.setattr(MongoDatabase, "count", lambda *_: 11)
    with running(StandIn({"people": held(*MANY[:10])})) as server:
        facts = place.land(server.url, PEOPLE).metadata
    assert (facts["source_rows"], facts["row_count_matches"]) == (11, False)


def test_views_and_what_is_the_servers_are_not_read():
    stand_in = StandIn({"people": [], "system.views": []}, kinds={"shown": "view", "buckets": "timeseries"})
    with running(stand_in) as server, open_source(server.url) as source:
        assert source.tables() == ["people"]
        assert isinstance(source, MongoDatabase)
        assert source.not_read == {"shown": "view", "buckets": "timeseries"}
        assert source.columns(PEOPLE) == ["_id", "n", "_rest", "_types", "_bson", "_unreadable"]
        assert source.stored_bytes([PEOPLE]) == 0
        with pytest.raises(SourceError, match="the table shown is missing"):
            source.columns(LegacyTable("shown", "crm", ("_id",)))


def test_a_snapshot_that_is_too_old_is_told_with_what_to_do(place):
    with running(StandIn({"people": held(*MANY)})) as server:
        server.before_batch = lambda it: it.refusals.setdefault("getMore", (239, "SnapshotTooOld"))
        server.losses = ["", ""]
        with pytest.raises(SourceError, match="no longer has the moment") as caught:
            place.land(server.url, PEOPLE)
    assert "minSnapshotHistoryWindowInSeconds" in caught.value.remedy


def test_urls_that_cannot_be_used(monkeypatch):
    for url, told in {
        "mongodb://h": "names no database",
        "mongodb://h/crm?readPreference=often": "the URL cannot be",
        "mongodb://h:x/crm": "the URL cannot be",
    }.items():
        with pytest.raises(ConfigurationError, match=told), open_source(url):
            pass
    monkeypatch.setattr("dtx_assets.machinery.sources.mongo_server.SECONDS_TO_CONNECT", 1)
    [port] = servers.free_ports(1)
    with (
        pytest.raises(SourceError, match="the database cannot be read") as caught,
        open_source(f"mongodb://anna:s3cr3t@127.0.0.1:{port}/crm"),
    ):
        pass
    assert "s3cr3t" not in str(caught.value)


# --- nx-27017 ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nx_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the database `crm` of a server of PyPI that speaks MongoDB's protocol."""
    directory = tmp_path_factory.mktemp("nx")
    [port] = servers.free_ports(1)
    url = f"mongodb://127.0.0.1:{port}/crm"

    def ready() -> bool:
        try:
            with MongoClient(url, serverSelectionTimeoutMS=500) as client:
                client.admin.command("ping")
        except PyMongoError:
            return False
        return True

    command = [servers.find_program("nx-27017"), "--db", "memory", "-p", str(port)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory)}
    with servers.running(command, log=directory / "server.log", ready=ready, environment=environment):
        yield url


def test_a_server_that_speaks_the_protocol_gives_what_a_dump_does(place: LandingPlace, nx_url: str, tmp_path: Path):
    documents = [
        {"_id": ObjectId(f"{number:024x}"), "n": number, "name": f"Zoë {number}", "notes": ["a", {"b": 1.5}, None]}
        for number in range(2_345)
    ] + [{"_id": text, "n": 2_345} for text in ("x", "y")]
    with MongoClient(nx_url) as client:
        client.crm.people.insert_many(documents)
        client.crm.other.insert_one({"_id": 1})
    with open_source(nx_url) as source:
        assert isinstance(source, MongoDatabase)
        assert source.is_snapshot
        assert source.tables() == ["other", "people"]
        facts = place.land_from(source, PEOPLE).metadata
    live = place.frame("people").drop("_row").sort("_id")
    forms.dumped({"people": documents}, tmp_path / "dump")
    place.land(str(tmp_path / "dump"), PEOPLE)
    assert live.equals(place.frame("people").drop("_row").sort("_id"), null_equal=True)
    assert (facts["source_rows"], facts["row_count_matches"]) == (2_347, True)


def test_what_is_not_there_and_what_nobody_declared(place):
    declared = replace(PEOPLE, documents=True)
    others = {"People": held({"_id": 1}, {"_id": 2}), "logs": held({"_id": "l", "x": 1})}
    with running(StandIn(others)) as server, open_source(server.url) as source:
        manifest = place.land_from(source, declared)
        assert source.columns(declared)[: len(PEOPLE.columns)] == list(PEOPLE.columns)
        listed = land_undeclared(source, [declared], place.lake, "toy", "run", None)
    assert (manifest.tables["rows"].rows, manifest.metadata["alike"]) == (0, ["People"])
    assert listed == [Undeclared("People", "collection", 2), Undeclared("logs", "collection", 1)]
    landed = place.lake.scan(("toy", "undeclared", "logs")).collect()
    assert landed.select("_id", "_rest").rows() == [('"l"', '{"x":{"$numberInt":"1"}}')]
