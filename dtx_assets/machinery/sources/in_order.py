"""Ranges of one table, read by several at once, in the order in which one after the other would give them."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from queue import Full, Queue, SimpleQueue
from threading import Event
from typing import TypeVar

import pyarrow as pa

Range = TypeVar("Range")
Reader = TypeVar("Reader")
Read = Callable[[Reader, Range], Generator[pa.RecordBatch]]
Waiting = Queue[pa.RecordBatch | BaseException | None]

BATCHES_AHEAD = 4
"""Of a range that is not its turn yet, in memory."""
SECONDS_BETWEEN_LOOKS = 0.1
"""How often a range that waits for its turn looks whether anybody wants it."""


def in_order(
    ranges: Sequence[Range], read: Read[Reader, Range], readers: Sequence[Reader]
) -> Generator[pa.RecordBatch]:
    """The batches of all ranges in their order; each reader reads one range at a time.

    What `read` raises is raised where its batch would come. No reader reads any more when it is closed.
    """
    if len(readers) < 2 or len(ranges) < 2:
        for each in ranges:
            yield from read(readers[0], each)
        return
    free = SimpleQueue[Reader]()
    for reader in readers:
        free.put(reader)
    closed = Event()

    def fill(waiting: Waiting, part: Range) -> None:
        reader = free.get()
        try:
            with closing(read(reader, part)) as batches:
                _put(batches, waiting, closed)
        except BaseException as error:
            _put([error], waiting, closed)
        else:
            _put([None], waiting, closed)
        finally:
            free.put(reader)

    def begin() -> None:
        for part in islice(rest, 1):
            going.append(Waiting(BATCHES_AHEAD))
            pool.submit(fill, going[-1], part)

    rest = iter(ranges)
    going = deque[Waiting]()
    with ThreadPoolExecutor(len(readers), "read") as pool:
        try:
            # One more than there are readers: none waits for the one whose turn it is to be looked at.
            for _ in range(len(readers) + 1):
                begin()
            while going:
                yield from _until_the_end(going.popleft())
                begin()
        finally:
            closed.set()


def _put(items: Iterator[pa.RecordBatch] | Sequence[BaseException | None], waiting: Waiting, closed: Event) -> None:
    """Hands items on, while there is anybody to take them."""
    for item in items:
        while not closed.is_set():
            try:
                waiting.put(item, timeout=SECONDS_BETWEEN_LOOKS)
            except Full:
                continue
            break
        if closed.is_set():
            return


def _until_the_end(waiting: Waiting) -> Iterator[pa.RecordBatch]:
    while (item := waiting.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item
