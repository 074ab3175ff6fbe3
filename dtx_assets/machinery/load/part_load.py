"""The load of one part, or of the parts of a circle: in one transaction with its bookkeeping, or in slices and that.

What is tried again and how often is said here; reading a part is `prepare.part`, deciding on and writing it `member`.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import polars as pl
import psycopg

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.load import slices
from dtx_assets.machinery.load.at_once import ALONE, GiveWay, Turn, session_of
from dtx_assets.machinery.load.member import Member, SlowPathNeeded, Writing
from dtx_assets.machinery.load.orphans import by_name, settled, that_can_be_tried, unwritten
from dtx_assets.machinery.load.outcome import Decision, PartOutcome
from dtx_assets.machinery.load.refusals import Refusals, is_refusal
from dtx_assets.machinery.load.slices import RACES, Slices
from dtx_assets.machinery.load.write import insert_at_once
from dtx_assets.machinery.postgres.connection import Connection, words_of
from dtx_assets.machinery.prepare.part import Part, without_rows

TRIES = 4


class OrphansFound(Exception):
    """Rows refer to rows that turn out not to be written: by member `_row`, `reason`, `detail`."""

    def __init__(self, rows: Sequence[pl.DataFrame]) -> None:
        super().__init__()
        self.rows = rows


class SlicesNeeded(Exception):
    """A part, by its place among those of the members, updates more rows than may be locked at a time."""

    def __init__(self, place: int, decision: Decision) -> None:
        super().__init__()
        self.place, self.decision = place, decision


class PartLoad:
    """Loads parts of one target, one after the other, or of the targets of a circle together, over one connection."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        self.connection, self.dry = members[0].place.connection, members[0].place.dry
        self.orphans = [member.orphans for member in members]
        self.refusals = Refusals(members)
        self._together = any(each.own for each in self.orphans)
        self._whole_updates = slices.SLICE_ROWS
        """How many rows a part may write in the transaction in which it also updates some."""

    def over(self, connection: Connection) -> "PartLoad":
        """The same over a connection of its own."""
        return PartLoad([member.over(connection, self.session) for member in self.members])

    @cached_property
    def session(self) -> int:
        return session_of(self.connection)

    def load(self, *parts: Part, turn: Turn = ALONE) -> list[PartOutcome]:
        """Load a part of each member, in the order of the members; where others of the target go at once, in `turn`."""
        fit = settled(self.orphans, [member.fitting(part) for member, part in self._each(parts)])
        with turn.in_order("numbers"):
            fit = [member.numbered(part) for member, part in self._each(fit)]
        current = [member.sent(part) for member, part in self._each(fit)]
        if any(sent is not part for sent, part in zip(current, fit, strict=True)):
            # What could not be sent takes along what refers to it.
            current = settled(self.orphans, current)
        with turn.in_order("keys"):
            for member, part in self._each(current):
                member.begin(part, takes_keys=turn.ahead)
        fast = [member.copies for member in self.members]
        self._whole_updates = slices.SLICE_ROWS
        self._isolate(psycopg.IsolationLevel.REPEATABLE_READ)
        tries_left = TRIES
        try:
            while True:
                try:
                    outcomes = self._write(current, fast, turn)
                    reach("load.after_commit")
                    for member, outcome in zip(self.members, outcomes, strict=True):
                        member.note_xmins(outcome)
                    return outcomes
                except GiveWay:
                    turn.wait()
                except SlowPathNeeded:
                    continue
                except OrphansFound as found:
                    current = self._without(current, found.rows)
                except SlicesNeeded as needed:
                    before, current = current, self._in_slices(current, needed)
                    tries_left -= current is before
                    if not tries_left:
                        raise self._given_up(current, None) from None
                except psycopg.Error as error:
                    if not is_refusal(error) and not isinstance(error, RACES):
                        raise
                    # Whose row it is that cannot be there is to be seen when all parts before are committed.
                    turn.wait()
                    if any(fast) and isinstance(error, psycopg.errors.UniqueViolation):
                        for member in self.members:
                            member.told.some_are_there = True
                        fast = [False for _ in fast]
                        continue
                    if is_refusal(error):
                        try:
                            before, current = current, self._without_refused(current, fast)
                        except RACES:
                            # Among what is refused is a key that a row has by now: of the others it is told later.
                            fast = [False for _ in fast]
                        else:
                            if current is not before:
                                continue
                    # Somebody else wrote at the same time: look again. Of parts that are loaded together one may have
                    # written a list of parts that the other needs; its rows are nobody's still.
                    fast = [was and member.told.first_load for was, member in zip(fast, self.members, strict=True)]
                    self._whole_updates = 0
                    tries_left -= 1
                    if not tries_left:
                        if isinstance(error, psycopg.errors.LockNotAvailable):
                            raise
                        raise self._given_up(current, error) from None
                    if tries_left < TRIES - 1:
                        turn.wait_alone()
        finally:
            self._isolate(None)

    def _write(self, parts: Sequence[Part], fast: list[bool], turn: Turn) -> list[PartOutcome]:
        """Write parts in one transaction. GiveWay where those before them have to be committed first."""
        looks = not all(fast) or any(member.looks_first for member in self.members)
        if looks:
            turn.wait()
        with turn.writing(self.session if turn.ahead else 0), self.members[0].place.transaction():
            outcomes = self._write_parts(parts, fast)
            reach("load.before_commit")
            turn.wait_to_commit(self.connection)
            if not looks and any(member.looks_first for member in self.members):
                # A part before turned out to have rows that are there.
                raise GiveWay
        return outcomes

    def _each(self, parts: Sequence[Part]) -> list[tuple[Member, Part]]:
        return list(zip(self.members, parts, strict=True))

    def _isolate(self, level: psycopg.IsolationLevel | None) -> None:
        if not self.connection.closed and not self.dry:
            self.connection.isolation_level = level

    def _given_up(self, parts: Sequence[Part], error: psycopg.Error | None) -> LoadError:
        tables = ", ".join(dict.fromkeys(member.place.target.name for member in self.members))
        if error is None or isinstance(error, RACES):
            words = f": {words_of(error)}" if error else ""
            return LoadError(
                f"others kept writing what part {parts[0].name} needs, in each of {TRIES} tries{words}",
                where=f"table {tables}",
                remedy="earlier batches stay, this one was rolled back whole: run again; where it comes again, see in"
                " pg_stat_activity what writes there, and run when it is quieter",
            )
        constraint = f", constraint {error.diag.constraint_name}" if error.diag.constraint_name else ""
        return LoadError(
            f"the target refused rows of part {parts[0].name}, and takes each of them alone: {words_of(error)}",
            where=f"table {error.diag.table_name or tables}{constraint}",
            remedy="the batch was rolled back whole; earlier ones stay. Mend the target or the mapping, then run again",
        )

    def _without(self, parts: Sequence[Part], found: Sequence[pl.DataFrame]) -> list[Part]:
        """The parts without rows that were `found`, and without what refers to these."""
        return settled(
            self.orphans,
            [without_rows(part, [rows] if rows.height else []) for part, rows in zip(parts, found, strict=True)],
        )

    def _without_refused(self, parts: list[Part], fast: Sequence[bool]) -> list[Part]:
        """The parts without the rows that a target refuses; the same where none is refused by itself."""
        found = self.refusals.of_parts(parts, all_new=fast)
        return self._without(parts, found) if any(rows.height for rows in found) else parts

    def _in_slices(self, parts: list[Part], needed: SlicesNeeded) -> list[Part]:
        """Update rows a few at a time. Gives what is to be written still; the same where there was no progress."""
        member = self.members[needed.place]
        self._isolate(psycopg.IsolationLevel.READ_COMMITTED)
        known = member.decisions.sliced.height
        rest = Slices(member, self.refusals, parts[needed.place], needed.decision).write()
        self._isolate(psycopg.IsolationLevel.REPEATABLE_READ)
        if rest is parts[needed.place]:
            return list(parts) if member.decisions.sliced.height > known else parts
        return settled(self.orphans, [*parts[: needed.place], rest, *parts[needed.place + 1 :]])

    # --- one transaction ----------------------------------------------------------------------------------------------

    def _write_parts(self, parts: Sequence[Part], fast: list[bool]) -> list[PartOutcome]:
        """Write the parts. Where one is there already it is no longer `fast`, and SlowPathNeeded is raised."""
        decided: list[Decision | None] = []
        for place, (member, part) in enumerate(self._each(parts)):
            try:
                decided.append(member.decide(part, fast[place]))
            except SlowPathNeeded:
                fast[place] = False
                raise
        self._require_settled(parts, decided)
        writings = [
            member.book(part, decision) for (member, part), decision in zip(self._each(parts), decided, strict=True)
        ]
        if any(decision is not None for decision in decided):
            reach("load.before_merge")
        # Last, so that rows of the application are locked no longer than it takes to write them.
        self._merge(writings)
        return [member.close(writing) for member, writing in zip(self.members, writings, strict=True)]

    def _require_settled(self, parts: Sequence[Part], decided: Sequence[Decision | None]) -> None:
        """OrphansFound where rows refer to what is not going to be written; SlicesNeeded where a part would keep rows
        of the application locked."""
        if self._together:
            gone = by_name(
                self.orphans,
                [
                    part.rows.clear() if decision is None else unwritten(part, decision.fates)
                    for part, decision in zip(parts, decided, strict=True)
                ],
            )
            found = [
                of_target.of_unwritten(part.rows if decision is None else _written(part, decision), gone)
                for of_target, part, decision in zip(self.orphans, parts, decided, strict=True)
            ]
            if any(rows.height for rows in found):
                raise OrphansFound(found)
        if self.dry:
            return
        new = self._new_rows(parts, decided)
        for place, decision in enumerate(decided):
            if decision is not None and decision.values.height and decision.writes > self._whole_updates:
                at_once = decision.values.filter(~self.orphans[place].refers_to(decision.values, new))
                if at_once.height:
                    raise SlicesNeeded(place, replace(decision, values=at_once))

    def _new_rows(self, parts: Sequence[Part], decided: Sequence[Decision | None]) -> dict[str, list[pl.DataFrame]]:
        """The rows that are not there yet, of members that refer to each other."""
        if not self._together:
            return {}
        return by_name(
            self.orphans,
            [
                part.rows if decision is None else part.rows.join(decision.inserts, on="_row", how="semi")
                for part, decision in zip(parts, decided, strict=True)
            ],
        )

    def _merge(self, writings: Sequence[Writing]) -> None:
        """Write what differs from what is there: what makes room, what is new, and what refers to that."""
        new = by_name(self.orphans, [writing.new for writing in writings]) if self._together else {}
        each = list(zip(self.members, writings, strict=True))
        updating = [(member, writing) for member, writing in each if writing.values.height]
        for member, writing in updating:
            refers = member.orphans.refers_to(writing.values, new)
            member.update(writing, writing.values.filter(~refers))
        if len(each) == 1:
            each[0][0].insert(each[0][1])
        elif any(writing.new.height for writing in writings):
            self._insert_at_once(writings)
        if not self.dry:
            # What refers to rows that do not stay is not tried.
            for member, writing in updating:
                refers = member.orphans.refers_to(writing.values, new)
                member.update(writing, writing.values.filter(refers))

    def _insert_at_once(self, writings: Sequence[Writing]) -> None:
        """New rows of several targets in one statement: at its end each of them has what it refers to."""
        reach("load.before_copy")
        tried = that_can_be_tried(self.orphans, [writing.new for writing in writings])
        rows = [(member.place, member.columns_of(some)) for member, some in zip(self.members, tried, strict=True)]
        insert_at_once(self.connection, rows, dry=self.dry)
        for member, writing in zip(self.members, writings, strict=True):
            member.note_inserted(writing)


def _written(part: Part, decision: Decision) -> pl.DataFrame:
    """The rows of a part that are there after it, or are as they are to be."""
    return part.rows.join(decision.fates.filter(pl.col("fate") != "conflict"), on="_row", how="semi")
