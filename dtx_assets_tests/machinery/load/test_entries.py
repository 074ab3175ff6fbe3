"""What the mapping says of new rows is the same, however many rows the source rows beside give."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from dtx_assets.machinery.load.entries import new_entries
from dtx_assets.machinery.prepare.buckets import BUCKET, PORTION

LINKS = pl.Schema(
    {
        "flow_id": pl.Int16(),
        "source_key": pl.String(),
        "bucket": BUCKET,
        "parts": pl.List(pl.String),
        "rows": pl.List(pl.Int64),
        "owns": pl.Boolean(),
        "portion": PORTION,
    }
)


def links_of(rows: list[list[int]], owns: list[bool]) -> pl.DataFrame:
    columns = {
        "flow_id": [1] * len(rows),
        "source_key": [f"key {place}" for place in range(len(rows))],
        "bucket": list(range(len(rows))),
        "parts": [[f"part {row % 3}" for row in given] for given in rows],
        "rows": rows,
        "owns": owns,
        "portion": [0] * len(rows),
    }
    return pl.DataFrame(columns, schema=LINKS)


@given(
    order=st.permutations(range(6)),
    ids=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=8, max_size=8, unique=True),
    hashes=st.lists(st.integers(0, 2**64 - 1), min_size=8, max_size=8),
    owns=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_rows_that_are_the_only_ones_of_their_source_row_have_the_entries_they_have_beside_others(
    order, ids, hashes, owns
):
    single = [[row] for row in order]
    new, contents = pl.Series("_id", ids, pl.Int64), pl.Series("_hash", hashes, pl.UInt64)
    alone = new_entries(links_of(single, owns), new, contents)
    beside = new_entries(links_of([*single, [6, 7]], [*owns, True]), new, contents)
    assert_frame_equal(alone, beside.head(6))


@pytest.mark.parametrize("rows", [[], [[0]]])
def test_entries_have_one_schema(rows):
    new, contents = pl.Series("_id", [5, 6, 7], pl.Int64), pl.Series("_hash", [1, 2, 3], pl.UInt64)
    some = new_entries(links_of(rows, [True] * len(rows)), new, contents)
    assert some.schema == new_entries(links_of([[0, 1], [2]], [True, False]), new, contents).schema
    assert some.get_column("lowest_id").to_list() == [5][: len(rows)]
