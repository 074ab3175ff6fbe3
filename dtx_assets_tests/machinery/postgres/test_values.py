"""A text that is said to be printed is what the server prints of it, so that nobody has to ask the server."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.model.types import ColumnType
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.postgres.values import is_printed

DOUBLE = ColumnType("double precision")
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NEAR = st.floats(-1e15, 1e15)
TEXTS = st.one_of(
    FLOATS.map(repr),
    NEAR.map(repr),
    st.tuples(NEAR, st.integers(1, 17)).map(lambda pair: f"{pair[0]:.{pair[1]}g}"),
    st.tuples(st.integers(-14, 49), st.integers(0, 99), st.integers(0, 10)).map(
        lambda parts: str(2.0 ** parts[0] + parts[1] * 2.0 ** -parts[2])
    ),
    st.from_regex(r"-?[0-9]{1,17}(\.[0-9]{0,20})?", fullmatch=True),
)


@pytest.fixture
def connection(database_url):
    with connect(database_url) as connection:
        yield connection


@settings()
@given(st.lists(TEXTS, min_size=1, max_size=40))
def test_doubles(connection, texts):
    said = pl.DataFrame({"text": texts}).filter(is_printed(DOUBLE, pl.col("text")))["text"].to_list()
    rows = connection.execute("SELECT text::double precision::text FROM unnest(%s::text[]) AS given (text)", [said])
    assert [row[0] for row in rows] == said


@pytest.mark.parametrize("text", ["0", "1", "-1", "0.1", "0.3333333333333333", "999999999999999", "-0.0001", "12.5"])
def test_common_doubles_are_known(text):
    assert pl.select(is_printed(DOUBLE, pl.lit(text))).item()


@pytest.mark.parametrize(
    "text", ["-0", "1.0", "01", "1e5", "0.00001", "1000000000000000", "NaN", "", " 1", "0.1000", "1."]
)
def test_other_spellings_are_left_to_the_server(text):
    assert not pl.select(is_printed(DOUBLE, pl.lit(text))).item()
