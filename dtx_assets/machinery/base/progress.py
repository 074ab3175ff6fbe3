"""How far a long step is: steps tell it here, and whoever shows it (a terminal, a log) listens.

Drawing progress is `console`; Dagster's own events about steps are not repeated here.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

SECONDS_BETWEEN_LINES = 10.0


class Listener(Protocol):
    def advanced(
        self, what: str, done: int, total: int | None, size: int | None = None, rejected: int | None = None
    ) -> None: ...


_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell `listener` about the steps of this process while the block lasts."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class StepProgress:
    """Called by a step with the rows done so far and, where it is known, the rows in all.

    A step that goes through files says how many and, as `size`, their bytes; one that may reject rows, how many it did.

    Where nobody listens, a line goes to `log` every ten seconds.
    """

    def __init__(self, what: str, log: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self.what = what
        self.log = log
        self.clock = clock
        self.started = self.logged = clock()

    def __call__(
        self, done: int, total: int | None = None, size: int | None = None, rejected: int | None = None
    ) -> None:
        more = {} if rejected is None else {"rejected": rejected}
        for listener in _listeners:
            listener.advanced(self.what, done, total, size, **more)
        now = self.clock()
        if not _listeners and now - self.logged >= SECONDS_BETWEEN_LINES:
            self.logged = now
            self.log(f"{self.what}: {progress_text(done, total, now - self.started, size, rejected)}")


def progress_text(
    done: int, total: int | None, seconds: float, size: int | None = None, rejected: int | None = None
) -> str:
    """`120,000 of 400,000 rows, 60 rejected (0.05 %), 35,000 rows/s, 8 s left`, or `1,200 files, 300 files/s, 88 MB/s`
    of `size` bytes."""
    unit = "rows" if size is None else "files"
    text = f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"
    if rejected is not None and done:
        text += f", {rejected:,} rejected ({rejected / done:.2%})".replace("%", " %")
    if seconds <= 0 or not done:
        return text
    speed = done / seconds
    text += f", {speed:,.0f} {unit}/s"
    if size is not None:
        text += f", {size / seconds / 1e6:,.0f} MB/s"
    return f"{text}, {duration_text((total - done) / speed)} left" if total and total > done else text


def duration_text(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
