"""Time as the derived layer sees it: it waits for rates, leases and second tries, and tests do not."""

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

LONGEST_WAIT = 60.0


class Clock(Protocol):
    """Tells the instant (UTC) and lets time pass; used by several threads at once."""

    def now(self) -> datetime: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Rate:
    """Lets `a_minute` calls through in any minute, evenly; None is no bound. Threads wait in `pass_one`."""

    def __init__(self, a_minute: int | None, clock: Clock) -> None:
        self.spacing = timedelta(minutes=1) / a_minute if a_minute else timedelta()
        self.clock = clock
        self._lock = threading.Lock()
        self._next: datetime | None = None

    def pass_one(self) -> None:
        if not self.spacing:
            return
        with self._lock:
            now = self.clock.now()
            turn = max(now, self._next or now)
            self._next = turn + self.spacing
        if turn > now:
            self.clock.sleep((turn - now).total_seconds())


def wait_before_try(attempts: int, chance: Callable[[], float] = random.random) -> timedelta:
    """How long to wait after so many attempts: `min(60, 2^attempts)` seconds times a random 0.5 to 1.5."""
    return timedelta(seconds=min(LONGEST_WAIT, 2.0**attempts) * (0.5 + chance()))
