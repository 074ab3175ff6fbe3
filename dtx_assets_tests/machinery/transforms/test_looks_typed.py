"""Stored documents that look like values of another type in Extended JSON."""

import json

import bson
import polars as pl
import pytest

from dtx_assets.machinery.sources.extended_json import canonical, decoded_bson, relaxed
from dtx_assets.machinery.transforms.columns import object_id_value
from dtx_assets.machinery.transforms.looks_typed import parsed
from dtx_assets.machinery.transforms.members import read_members
from dtx_assets_tests.machinery.transforms.applied import applied

HEX = "507f1f77bcf86cd799439011"
LOOK_TYPED = {
    "id": {"$oid": HEX},
    "number": {"$numberInt": "5"},
    "date": {"$date": {"$numberLong": "0"}},
    "code": {"$scope": {}, "$code": "x"},
}


def told(value: object) -> str:
    return canonical(decoded_bson(bson.encode({"v": value}))["v"])


@pytest.mark.parametrize("name", LOOK_TYPED)
def test_a_document_that_looks_like_another_type_is_a_document(name):
    value = told(LOOK_TYPED[name])
    for transform in ("bson_text", "bson_integer", "bson_timestamp", "bson_texts"):
        assert [reason for _, reason, _ in applied(transform, [value]).told] == ["unparseable"], transform
    for form in ("plain", "extended_json"):
        made = applied("bson_json", [value], form=form)
        assert (json.loads(made.values[0]), made.counted) == (LOOK_TYPED[name], [])
    assert json.loads(relaxed(value)) == LOOK_TYPED[name]


def test_an_id_that_is_a_document_is_none_and_an_array_tells_both_apart():
    values = pl.Series([told({"$oid": HEX}), told(bson.ObjectId(HEX))])
    assert pl.select(object_id_value(pl.lit(values))).to_series().to_list() == [None, HEX]
    members = read_members(pl.Series([told([{"$oid": HEX}, bson.ObjectId(HEX)])]), "object_id")
    assert members["id"].to_list() == [None, HEX]
    assert members["shown"].to_list() == [f'{{"$oid": "{HEX}"}}', None]


def test_a_text_that_holds_the_sign_stays_as_it_is():
    text = '{"\\u0024oid":"x"}'
    assert parsed(told(text)) == text
