"""Buckets stay where they are from run to run, are even, and batches of them cover every row once."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtx_assets.machinery.prepare.buckets import BUCKET, BUCKETS, batch_count, bucket_of, bucket_range

ANY_ID = st.integers(-(2**63), 2**63 - 1)


def buckets(ids: list[int]) -> list[int]:
    frame = pl.DataFrame({"id": ids}, schema={"id": pl.Int64}).select(bucket_of(pl.col("id")).alias("bucket"))
    assert frame.schema["bucket"] == BUCKET
    return frame["bucket"].to_list()


def test_buckets_are_those_of_every_earlier_run():
    """The parts of a target that is loaded hold the rows of these buckets: another spread would move rows."""
    pinned = {
        0: 0,
        1: 2531,
        2: 966,
        3: 3498,
        101: 1726,
        4096: 1913,
        1_000_000: 4041,
        2**31 - 1: 3612,
        2**31: 0,
        2**63 - 1: 3612,
        -1: 3612,
        -(2**63): 0,
    }
    assert dict(zip(pinned, buckets(list(pinned)), strict=True)) == pinned


@given(st.lists(ANY_ID, min_size=1))
def test_every_id_has_a_bucket(ids):
    assert all(0 <= bucket < BUCKETS for bucket in buckets(ids))


@given(ANY_ID)
def test_a_bucket_does_not_hang_on_the_rows_beside_it(number):
    assert buckets([number]) == buckets([5, number, number])[1:2]


@pytest.mark.parametrize("kind", [pl.Int32, pl.UInt32, pl.UInt64, pl.Int16])
def test_a_bucket_does_not_hang_on_the_width_of_the_integer(kind):
    ids = pl.DataFrame({"id": range(1000)}, schema={"id": kind})
    assert ids.select(bucket_of(pl.col("id")))["id"].to_list() == buckets(list(range(1000)))


def test_a_missing_owner_has_no_bucket():
    assert pl.select(bucket_of(pl.lit(None, pl.Int64))).to_series().to_list() == [None]


@pytest.mark.parametrize("stride", [1, 2, 3, 7, 10, 64, 100, 1000, 1024, 4096, 10_000, 65_536])
@pytest.mark.parametrize("batches", [2, 16, 256])
def test_ids_in_steps_spread_evenly(stride, batches):
    count = 200_000
    ids = pl.select(pl.int_range(1, count + 1) * stride)
    spread = ids.select(bucket_of(pl.nth(0)) // (BUCKETS // batches)).to_series().value_counts()["count"]
    assert len(spread) == batches
    assert count / batches * 0.8 < spread.min() <= spread.max() < count / batches * 1.2


@given(st.integers(0, 12))
def test_the_ranges_of_batches_cover_every_bucket_once(power):
    batches = 2**power
    covered = [bucket for batch in range(batches) for bucket in range(*_half_open(batch, batches))]
    assert covered == list(range(BUCKETS))


@given(st.integers(0, 11))
def test_twice_as_many_batches_halve_each(power):
    batches = 2**power
    for batch in range(batches):
        low, high = bucket_range(batch, batches)
        first, second = bucket_range(2 * batch, 2 * batches), bucket_range(2 * batch + 1, 2 * batches)
        assert (first[0], second[1]) == (low, high)
        assert first[1] + 1 == second[0]


@given(st.integers(0, 10**11), st.integers(1, 10**7))
def test_batches_hold_as_many_rows_as_they_may(rows, batch_rows):
    batches = batch_count(rows, batch_rows)
    assert batches.bit_count() == 1
    assert 1 <= batches <= BUCKETS
    assert rows <= batches * batch_rows or batches == BUCKETS
    assert batches == 1 or rows > batches // 2 * batch_rows


def _half_open(batch: int, batches: int) -> tuple[int, int]:
    low, high = bucket_range(batch, batches)
    return low, high + 1
