"""Ranges read by several at once: their order, what is read ahead, faults, and who closes early."""

import time
from collections.abc import Generator
from contextlib import closing
from itertools import pairwise
from threading import Lock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.sources.in_order import BATCHES_AHEAD, in_order
from dtx_assets_tests.patience import PATIENCE


def batch(number: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": [number]})


def number_of(read: pa.RecordBatch) -> int:
    return int(read.column(0)[0].as_py())


class Readers:
    """Ranges are numbers of the first batch and the one beyond; who reads, and how many at once, is noted."""

    def __init__(self, seconds: dict[int, float] | None = None, fault: int | None = None) -> None:
        self.seconds, self.fault = seconds or {}, fault
        self.read: list[int] = []
        self.busy: set[str] = set()
        self._lock = Lock()

    def __call__(self, reader: str, part: range) -> Generator[pa.RecordBatch]:
        with self._lock:
            assert reader not in self.busy
            self.busy.add(reader)
        try:
            for number in part:
                time.sleep(self.seconds.get(number, 0))
                if number == self.fault:
                    raise OSError(f"no {number}")
                self.read.append(number)
                yield batch(number)
        finally:
            self.busy.discard(reader)


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(0, 9), max_size=8),
    readers=st.integers(1, 4),
    slow=st.dictionaries(st.integers(0, 40), st.just(0.002)),
)
def test_batches_come_in_the_order_of_their_ranges(sizes, readers, slow):
    starts = [sum(sizes[:place]) for place in range(len(sizes) + 1)]
    ranges = [range(first, beyond) for first, beyond in pairwise(starts)]
    read = Readers(slow)
    names = [f"reader {number}" for number in range(readers)]
    assert [number_of(each) for each in in_order(ranges, read, names)] == list(range(sum(sizes)))
    assert not read.busy


def test_ranges_are_read_at_once_and_no_more_ahead_than_is_said():
    read = Readers(dict.fromkeys(range(0, 1000, 100), 0.05))
    ranges = [range(first, first + 100) for first in range(0, 1000, 100)]
    with closing(in_order(ranges, read, ["a", "b", "c"])) as batches:
        assert number_of(next(batches)) == 0
        until = time.monotonic() + PATIENCE
        while len(read.busy) < 3:
            assert time.monotonic() < until
            time.sleep(0.01)
        # Of each range what waits, and the one that waits for a place.
        assert len(read.read) <= 1 + 3 * (BATCHES_AHEAD + 1)
    assert not read.busy
    assert len(read.read) < 100


@pytest.mark.parametrize("readers", [["a"], ["a", "b"]])
def test_a_fault_is_told_where_its_batch_would_have_come(readers):
    read = Readers(fault=7)
    ranges = [range(first, first + 5) for first in range(0, 50, 5)]
    batches = in_order(ranges, read, readers)
    assert [number_of(next(batches)) for _ in range(7)] == list(range(7))
    with pytest.raises(OSError, match="no 7"):
        next(batches)
    assert not read.busy
