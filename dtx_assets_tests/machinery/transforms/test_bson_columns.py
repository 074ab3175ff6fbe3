"""The short way of reading values is the long one, for any values and any text; what is usual goes the short way."""

from functools import partial
from typing import Any

import polars as pl
import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.sources.extended_json import canonical
from dtx_assets.machinery.transforms import bson_columns, bson_values
from dtx_assets.machinery.transforms.bson_columns import Values, read_quickly

SPACE = "9ff85368-0ce2-530b-bca5-ea5ff5b21b75"
LABELS = ("NEW", "In Work", "né", "null")
WAYS: dict[str, tuple[Any, Values]] = {
    "text": (partial(bson_values._text, scalars="convert"), bson_columns.texts),
    "integer": (partial(bson_values._integer, nullable=True, bits=32), partial(bson_columns.integers, bits=32)),
    "bigint": (partial(bson_values._integer, nullable=False, bits=64), partial(bson_columns.integers, bits=64)),
    "boolean": (partial(bson_values._boolean, nullable=True), bson_columns.booleans),
    "timestamp": (partial(bson_values._timestamp, nullable=True, numbers="reject"), bson_columns.timestamps),
    "enum": (partial(bson_values._enum, nullable=True, labels=LABELS), partial(bson_columns.labels, known=LABELS)),
    "uuid": (
        partial(bson_values._uuid, nullable=True, namespace=SPACE),
        partial(bson_columns.uuids, namespace=SPACE),
    ),
    "jsonb": (partial(bson_values._jsonb, form="plain"), bson_columns.json_values),
    "extended": (partial(bson_values._jsonb, form="extended_json"), bson_columns.json_values),
    "texts": (partial(bson_values._texts, scalars="convert"), bson_columns.arrays_of_texts),
    "uuids": (
        partial(bson_values._uuids, namespace=SPACE),
        partial(bson_columns.arrays_of_uuids, namespace=SPACE),
    ),
}

STRINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(
    [*LABELS, "NULL", "a b", "{}", "a,b", '"', "\\", "", " ", "507f1f77bcf86cd799439011", "5", "true", "2024-07-03"]
)
IDS = st.sampled_from([ObjectId(bytes(12)), ObjectId(b"x" * 12), ObjectId("507f1f77bcf86cd799439011")])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.floats()
    | st.integers(-(2**55), 2**55).map(float)
    | STRINGS
    | IDS
    | st.integers(-(2**50), 2**50).map(DatetimeMS)
    | st.sampled_from([-62_135_596_800_000, -30_610_224_000_001, -1, 0, 253_402_300_799_999]).map(DatetimeMS)
    | st.sampled_from(["1.50", "NaN", "1E+3", "7"]).map(Decimal128)
    | st.just(Binary(b"x", 128))
)
VALUES = (
    SCALARS
    | st.lists(STRINGS, max_size=3)
    | st.lists(IDS, max_size=3)
    | st.lists(SCALARS, max_size=3)
    | st.dictionaries(STRINGS.filter(lambda name: not name.startswith("$") and "\0" not in name), SCALARS, max_size=2)
)
SPELT = st.sampled_from(
    [
        '{"$numberInt":"007"}',
        '{"$numberInt":"-0"}',
        '{"$numberInt":"5.0"}',
        '{"$numberInt":"+5"}',
        '{"$numberLong":"99999999999999999999"}',
        '{"$numberDouble":"-0.0"}',
        '{"$numberDouble":"1e3"}',
        '{"$numberInt":"{"$numberLong":"5"}',
        '{"$oid":"507F1F77BCF86CD799439011"}',
        '{"$date":{"$numberLong":"01"}}',
        ' "a"',
        '"a"\n',
        '"a\tb"',
        '"a" "b"',
        '["a" ,"b"]',
        '["a","b"',
        "true ",
        "",
        "\x00",
    ]
)
TEXTS = st.lists(st.none() | VALUES.map(canonical) | SPELT, max_size=8)


@pytest.mark.parametrize("name", WAYS)
@settings(max_examples=120)
@given(values=TEXTS)
def test_both_ways_read_the_same(name: str, values: list[str | None]) -> None:
    make, quick = WAYS[name]
    series = pl.Series(values, dtype=pl.String)
    slow = partial(bson_values._each, make=make)
    read = read_quickly(series, quick, slow)
    assert (read.dtype, read.to_list()) == (slow(series).dtype, slow(series).to_list())


USUAL: dict[str, list[Any]] = {
    "text": ["Account 5", "", "a,b {c}"],
    "integer": [0, -5, 2**31 - 1, 7.0, -(2.0**20)],
    "bigint": [Int64(2**40), 0.0],
    "boolean": [True, False],
    "timestamp": [DatetimeMS(0), DatetimeMS(1_720_000_000_123), DatetimeMS(-1)],
    "enum": ["NEW", "In Work"],
    "uuid": [ObjectId(bytes(12))],
    "jsonb": ["x", 5, True],
    "texts": [[], ["a"], ["a b", "c"], ["null", "NULL", "", "{}"]],
    "uuids": [[], [ObjectId(bytes(12)), ObjectId(b"x" * 12)]],
}


@pytest.mark.parametrize("name", USUAL)
def test_what_is_usual_goes_the_short_way(name):
    def refused(_: pl.Series) -> pl.Series:
        raise AssertionError("a value went the long way")

    make, quick = WAYS[name]
    series = pl.Series([*map(canonical, USUAL[name]), None], dtype=pl.String)
    assert read_quickly(series, quick, refused).to_list() == bson_values._each(series, make).to_list()
