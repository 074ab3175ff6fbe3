"""Work is read as far as it is needed, and ends with who asked for it."""

import threading

import pytest

from dtx_assets.machinery.files.workers import WAITING_PER_WORKER, concurrently


def test_everything_is_done_once_and_read_no_further_than_needed():
    read = []

    def numbers():
        for number in range(1000):
            read.append(number)
            yield number

    made = []
    for each in concurrently(lambda number: number * 2, numbers(), 3):
        assert len(read) - len(made) <= 3 * WAITING_PER_WORKER
        made.append(each)
    assert sorted(made) == [number * 2 for number in range(1000)]
    assert list(concurrently(str, [], 3)) == []


def test_an_error_ends_it_and_begins_nothing_more():
    begun = []
    failed = threading.Event()

    def work(number):
        begun.append(number)
        if number == 0:
            failed.set()
            raise ValueError("the first one")
        failed.wait()

    with pytest.raises(ValueError, match="the first one"):
        list(concurrently(work, range(1000), 2))
    assert len(begun) <= 3 * WAITING_PER_WORKER
