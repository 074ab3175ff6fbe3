"""The crosswalk of documents is made a part at a time, and says the same however many parts there are."""

import polars as pl
import pytest

from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.declare import own_rows
from dtx_assets.machinery.look_ups.assets import MappingContext, build_mapping_asset
from dtx_assets.machinery.mapping.model import TargetMapping
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.prepare.assess import DROPPED
from dtx_assets.machinery.prepare.model_writer import KEYS, STANDS_FOR

PEOPLE = TargetTable(
    "people", "people", "all", (TargetColumn("name", "text", ""),), writes="insert", key=("id",), key_is_written=True
)
MIGRATED = 40


@pytest.fixture
def context(tmp_path) -> MappingContext:
    lake = Lake(str(tmp_path / "lake"))
    migrated = [f"m{number:02d}" for number in range(MIGRATED)]
    with lake.write(("zoo", "prepared", "people"), run_id="run") as writer:
        for some in (migrated[::2], migrated[1::2]):
            writer.add(pl.DataFrame({"source_key": some, "target_id": [f"id of {key}" for key in some]}), table=KEYS)
        writer.add(pl.DataFrame({"source_key": ["d1", "d2"], "named": ["m00", "m39"]}), table=STANDS_FOR)
    with lake.write(("zoo", "rejected", "people"), run_id="run") as writer:
        # The first is a copy of a document that was migrated; the third is rejected in part only.
        writer.add(pl.DataFrame({"source_key": ["m03", "r1", "m04"], "partial": [False, False, True]}))
        writer.add(pl.DataFrame({"source_key": ["d1", "d2", "d3"]}), table=DROPPED)
    return MappingContext("zoo", lake, "run", "", {}, None)  # type: ignore[arg-type]  # no mapping is asked for


def crosswalk(context: MappingContext) -> dict[str, tuple[str | None, str | None, bool, str]]:
    sources = {"people": TargetMapping.model_validate({"target": "people", "decision": "-", "sources": {"people": {}}})}
    manifest = build_mapping_asset(own_rows.prepared_crosswalk(PEOPLE, sources), context)
    rows = context.lake.scan((), manifest=manifest).collect()
    assert rows["source_id"].n_unique() == rows.height
    return {key: tuple(row) for key, *row in rows.iter_rows()}


def test_documents_and_what_became_of_them(context) -> None:
    found = crosswalk(context)
    assert found["m03"] == ("id of m03", None, False, "m03")
    assert found["m04"] == ("id of m04", None, False, "m04")
    assert found["r1"] == (None, "rejected", False, "r1")
    assert found["d3"] == (None, "dropped", False, "d3")
    assert found["d2"] == ("id of m39", "dropped", True, "m39")
    assert len(found) == MIGRATED + 4


def test_it_is_the_same_in_parts_and_stays_where_nothing_changed(context, monkeypatch) -> None:
    whole = crosswalk(context)
    monkeypatch.setattr(own_rows, "PIECE_ROWS", 9)
    assert crosswalk(context) == whole
    [key] = [("zoo", "mapping", "people")]
    before = context.lake.require(key)
    assert len(before.tables["rows"].files) > 3
    assert crosswalk(context) == whole
    assert context.lake.require(key) == before
    assert len(list(context.lake.versions("zoo"))) == 4, "what was not needed is not left behind"
