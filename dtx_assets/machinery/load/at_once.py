"""Parts of one target over several connections at once, with the outcome that they have one after the other.

What all of them do at once is to copy rows that are new. They are committed in the order of the parts, and everything
else waits for its turn: numbers and keys are given in that order, and a part that has to look at what is there, or of
which something was refused, does so when all before it are committed and none after it is. A later part that keeps an
earlier one waiting in the database, because both have the same unique value, gives way and begins again.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import Queue
from threading import Condition
from typing import Literal

from dtx_assets.machinery.load.outcome import PartOutcome
from dtx_assets.machinery.postgres.connection import Connection

Stage = Literal["numbers", "keys", "commit"]
SECONDS_BETWEEN_LOOKS = 0.1
"""How often a part that waits for its turn looks whether an earlier one waits for it."""
ROWS_AT_ONCE = 400_000
"""Of all parts that are in memory; two of them may have more."""
_KEEPS_WAITING = "SELECT bool_or(pg_backend_pid() = ANY (pg_blocking_pids(pid))) FROM unnest(%s::integer[]) AS pid"


class Stopped(Exception):
    """An earlier part failed: this one is not written."""


class GiveWay(Exception):
    """The part has to begin again when it is its turn."""


class Turn:
    """The turn of a part that is loaded while no other one of the target is."""

    ahead = False
    """Whether its keys are taken before it is written."""

    @contextmanager
    def in_order(self, _stage: Stage) -> Iterator[None]:
        """What is done inside is done part by part."""
        yield

    def wait(self) -> None:
        """Returns when all parts before are committed; Stopped where that cannot come any more."""

    def wait_alone(self) -> None:
        """The same, and from then on the parts go one after the other."""

    @contextmanager
    def writing(self, _session: int) -> Iterator[None]:
        """A transaction of the part in this session. GiveWay where it cannot be begun yet."""
        yield

    def wait_to_commit(self, _connection: Connection) -> None:
        """In the transaction: returns when it is to be committed; GiveWay where an earlier part waits for it."""


ALONE = Turn()


class Turns:
    """Of all parts that go at once, in their order."""

    def __init__(self, numbers: Sequence[int], rows: Sequence[int]) -> None:
        """`rows`: how many a part has, by its number."""
        self._numbers, self._rows = list(numbers), rows
        self.changed = Condition()
        self.passed: dict[Stage, int] = {"numbers": 0, "keys": 0, "commit": 0}
        self.sessions: dict[int, int] = {}
        """By the place of a part that is in a transaction, its session."""
        self.one_by_one = False
        self.failed_at = len(self._numbers)
        """The place of the first part that failed."""
        self._begun = self._going = self._in_memory = 0

    def next(self) -> "TurnOfMany | None":
        """The next part, when there is memory for it; None where nothing more is to be begun."""
        with self.changed:
            while self._begun < len(self._numbers):
                place = self._begun
                rows = self._rows[self._numbers[place]]
                if self._going < 2 or self._in_memory + rows <= ROWS_AT_ONCE:
                    self._begun += 1
                    self._going += 1
                    self._in_memory += rows
                    return TurnOfMany(self, place, self._numbers[place])
                self.changed.wait()
        return None

    def close(self) -> None:
        """Nothing more is begun; what is being written is finished."""
        with self.changed:
            del self._numbers[self._begun :]
            self.changed.notify_all()

    def ended(self, number: int, place: int, *, failed: bool) -> None:
        with self.changed:
            self._going -= 1
            self._in_memory -= self._rows[number]
            if failed:
                self.failed_at = min(self.failed_at, place)
                del self._numbers[self._begun :]
            else:
                self.passed["commit"] += 1
            self.changed.notify_all()


class TurnOfMany(Turn):
    """That of one part among others."""

    ahead = True

    def __init__(self, turns: Turns, place: int, number: int) -> None:
        self._turns, self.place, self.number = turns, place, number

    @contextmanager
    def in_order(self, stage: Stage) -> Iterator[None]:
        while not self._comes(stage, None):
            pass
        yield
        with self._turns.changed:
            self._turns.passed[stage] += 1
            self._turns.changed.notify_all()

    def wait(self) -> None:
        while not self._comes("commit", None):
            pass

    def wait_alone(self) -> None:
        self.wait()
        turns = self._turns
        with turns.changed:
            turns.one_by_one = True
            turns.changed.notify_all()
            turns.changed.wait_for(lambda: not turns.sessions)

    @contextmanager
    def writing(self, session: int) -> Iterator[None]:
        turns = self._turns
        with turns.changed:
            if turns.one_by_one and turns.passed["commit"] < self.place:
                raise GiveWay
            turns.sessions[self.place] = session
        try:
            yield
        finally:
            with turns.changed:
                del turns.sessions[self.place]
                turns.changed.notify_all()

    def wait_to_commit(self, connection: Connection) -> None:
        turns = self._turns
        while not self._comes("commit", SECONDS_BETWEEN_LOOKS):
            with turns.changed:
                before = [session for place, session in turns.sessions.items() if place < self.place]
                one_by_one = turns.one_by_one
            if one_by_one or connection.execute(_KEEPS_WAITING, [before]).fetchone() == (True,):
                raise GiveWay

    def _comes(self, stage: Stage, seconds: float | None) -> bool:
        """Whether it is its turn within so many seconds; Stopped where it never is."""
        turns = self._turns
        with turns.changed:
            comes = turns.changed.wait_for(
                lambda: (
                    turns.passed[stage] == self.place
                    or turns.failed_at < self.place
                    or (turns.one_by_one and seconds is not None)
                ),
                seconds,
            )
            if turns.failed_at < self.place:
                raise Stopped
            return comes and turns.passed[stage] == self.place


Answer = tuple[int, list[PartOutcome]] | BaseException
Load = Callable[[TurnOfMany], list[PartOutcome]]


def load_at_once(
    numbers: Sequence[int], rows: Sequence[int], loads: Sequence[Load]
) -> Iterator[tuple[int, list[PartOutcome]]]:
    """Load the parts of these numbers by functions each of which has a connection; gives what became of which."""
    turns, done = Turns(numbers, rows), Queue[Answer]()
    with ThreadPoolExecutor(len(loads)) as threads, ExitStack() as ending:
        # Failed or interrupted: what is being written is finished, nothing more is begun.
        ending.callback(turns.close)
        for load in loads:
            threads.submit(_work, turns, done, load)
        for _ in numbers:
            answer = done.get()
            if isinstance(answer, BaseException):
                raise answer
            yield answer


def _work(turns: Turns, done: "Queue[Answer]", load: Load) -> None:
    while turn := turns.next():
        failed = True
        try:
            done.put((turn.number, load(turn)))
            failed = False
        except Stopped:
            return
        except BaseException as error:  # it is raised where the results are read
            done.put(error)
            return
        finally:
            turns.ended(turn.number, turn.place, failed=failed)


def session_of(connection: Connection) -> int:
    """The number of a session on the server; behind a pooler it is not the one that the client was told."""
    [number] = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
    return int(number)
