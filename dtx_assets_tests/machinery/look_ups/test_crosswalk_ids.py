"""Crosswalks whose legacy ids are no integers: nothing is left out in silence, and nothing matched by a guess."""

from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.checks.crosswalks import contradiction_outcome, crosswalk_checks, unmatched_ids
from dtx_assets.machinery.checks.spec import CheckContext
from dtx_assets.machinery.look_ups.assets import build_mapping_asset, crosswalk_asset
from dtx_assets.machinery.mapping.execute import apply_columns
from dtx_assets.machinery.mapping.model import SourceMapping
from dtx_assets.machinery.prepare.batches import SourceRows
from dtx_assets.machinery.transforms.columns import GENERIC, TransformContext, kind_of_ids
from dtx_assets_tests.machinery.look_ups.test_assets import ASSET, TABLE, context, land
from dtx_assets_tests.machinery.zoo import ANIMAL, Zoo

__all__ = ["context"]
OBJECT_ID, UUID = "507f1f77bcf86cd799439011", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
TEXTS = {"b-10": 101, "007": 102, "7": 103, OBJECT_ID: 104, UUID: 105, "99999999999999999999": 101, "Ä ö": 102}
WITHOUT = ("B-10", "b-10 ", "07", "7.0", OBJECT_ID.upper(), "99999999999999999998", "")


def of_texts(kind: str = "text"):
    table = replace(TABLE, kind_of=lambda _: kind)
    return crosswalk_asset("keeper", table, "keeper_id", "person_id", area="zoo", target=("Person", "zoo_person"))


def looked_up(frame: pl.LazyFrame, kind: str, *ids: str | None) -> list[int | None]:
    """What a column of the ids becomes through the crosswalk."""
    mapping = SourceMapping.model_validate(
        {"columns": {"keeper_id": {"from": "keeper", "crosswalk": "keeper", "missing": "null"}}}
    )
    kinds = {"keeper": kind_of_ids(frame.select("source_id"), kind)}
    transforms = TransformContext({"keeper": frame}, {}, {}, "UTC", datetime(2026, 1, 1, tzinfo=UTC), kinds)
    rows = pl.DataFrame({"keeper": ids}, schema={"keeper": pl.String})
    return apply_columns(rows, mapping, transforms, GENERIC)[":keeper_id"].to_list()


def made(context, asset) -> pl.LazyFrame:
    return context.lake.scan(build_mapping_asset(asset, replace(context, crosswalk_tables={TABLE.name: TABLE})).key)


def test_texts_are_matched_as_they_are(context):
    land(context, [(key, str(person), None) for key, person in TEXTS.items()])
    frame = made(context, of_texts())
    assert dict(frame.select("source_id", "target_id").collect().iter_rows()) == TEXTS
    assert looked_up(frame, "text", *TEXTS, *WITHOUT, None) == [*TEXTS.values(), *[None] * (len(WITHOUT) + 1)]
    legacy = pl.LazyFrame({"keeper": [*TEXTS, *WITHOUT]})
    assert unmatched_ids(legacy, "keeper", frame, "text").ids == len(WITHOUT)


def test_codes_are_matched_trimmed_and_without_case(context):
    land(context, [("B-10", "101", None), ("b-20 ", "102", None)])
    assert looked_up(made(context, of_texts("code")), "code", " b-10", "B-20", "b-30") == [101, 102, None]


def test_integers_are_integers_whatever_their_column_is_declared(context):
    land(context, [("12.0", "101", None), ("7", "102", None)])
    assert looked_up(made(context, of_texts()), "text", "12", "12.0", "007", "x") == [101, 101, 102, None]


def test_texts_that_contradict_each_other(context):
    land(context, [("007", "101", None), ("7", "102", None)])
    made(context, of_texts())
    land(context, [("b-1", "101", None), ("b-1", "102", None), ("b-2", "101", None)])
    with pytest.raises(StructureError, match="several ids for keeper_id b-1"):
        made(context, of_texts())
    frame = pl.LazyFrame(
        {"keeper_id": ["007", "7", "b-1", "b-1"], "person_id": ["1", "2", "1", "2"], "_row": [1, 2, 3, 4]}
    )
    assert contradiction_outcome(frame, "keeper_id", ["person_id"], "text").count == 1


def test_ids_that_are_declared_integers_and_are_none_are_told(context, tmp_path):
    land(context, [("1", "101", None), ("b-10", "102", None), ("x", "103", None), (None, "104", None)])
    made(context, ASSET)
    zoo = Zoo(tmp_path / "zoo")
    system = replace(zoo.system, crosswalk_tables={TABLE.name: TABLE}, name=context.system)
    group = crosswalk_checks(ASSET, ())
    found = group.evaluate(CheckContext(context.lake, system, system.decisions, {}, zoo.settings))
    outcome = found["crosswalk_ids_exist_in_target"]
    assert (outcome.passed, outcome.count) == (False, 2)
    assert outcome.metadata["rows left out: keeper_id is declared an integer"] == 2
    assert [example["keeper_id"] for example in outcome.metadata["left out"]] == ["b-10", "x"]


def test_rows_of_one_owner_lie_in_one_bucket(context):
    frame = pl.DataFrame({"keeper_id": ["b-10", "b-10", "b-20", "nobody", "nobody"], "_row": [1, 2, 3, 4, 5]}).lazy()
    owners = pl.LazyFrame({"source_id": ["b-10", "b-20"], "target_id": [101, 101]})
    table = replace(ANIMAL, columns=("keeper_id",), key=())
    rows = SourceRows.of(table, frame, 5, "keeper_id", owners, "text")
    placed = rows.placed(frame.collect())["_bucket"].to_list()
    assert placed[0] == placed[1] == placed[2] != placed[3] == placed[4]
