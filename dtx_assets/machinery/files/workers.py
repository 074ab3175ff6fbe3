"""Many files at once, without holding all of them: a window of calls in threads, results as they come."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

WAITING_PER_WORKER = 4
"""Calls that are handed out beside those under way, so that no worker waits for its next one."""


def concurrently(function: Callable[[Given], Made], given: Iterable[Given], workers: int) -> Iterator[Made]:
    """What `function` makes of each, in no order. `given` is read as far as workers need it."""
    waiting = iter(given)
    with ThreadPoolExecutor(workers) as pool:
        under_way: set[Future[Made]] = set()
        try:
            while True:
                room = workers * WAITING_PER_WORKER - len(under_way)
                under_way |= {pool.submit(function, each) for each in islice(waiting, room)}
                if not under_way:
                    return
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            # Who stops listening, or an error, leaves nothing to be begun.
            for future in under_way:
                future.cancel()
