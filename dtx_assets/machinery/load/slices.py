"""Updates of rows that a live application edits: a few at a time, each time locked for a moment and looked at again.

What is new, and everything that the lists say of the part, is written afterwards by the part itself.
"""

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import psycopg

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.load.entries import grouped_entries, replace_entries
from dtx_assets.machinery.load.outcome import Decision, PartOutcome
from dtx_assets.machinery.load.ownership import PLACE, SOURCE, identity_of
from dtx_assets.machinery.load.refusals import is_refusal
from dtx_assets.machinery.load.relink import given_by, relink
from dtx_assets.machinery.prepare.part import Part, without_rows

if TYPE_CHECKING:
    from dtx_assets.machinery.load.member import Member
    from dtx_assets.machinery.load.refusals import Refusals

SLICE_ROWS = 1000
"""How many rows are updated in one transaction at first."""
LEAST_SECONDS_LOCKED, MOST_SECONDS_LOCKED = 0.25, 0.5
"""For how long a transaction keeps rows locked that the application may want: slices grow and shrink towards it."""
SMALLEST_SLICE, LARGEST_SLICE = 500, 5000
LOCK_TIMEOUT = "300ms"
"""Of what holds locks on rows of the application: it does not stand in a queue with them."""
SECONDS_FOR_ROWS_IN_USE = 10.0
"""How long rows that others keep locked are waited for, while nothing else of the part can be updated."""
SECONDS_BETWEEN_TRIES = 0.05
RACES = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)
"""Somebody else writes at the same time: looking again helps."""


class Slices:
    """The updates of one part. Each slice is a batch of its own, which never stands for the whole part."""

    def __init__(self, load: "Member", refusals: "Refusals", part: Part, decision: Decision) -> None:
        self.load, self.refusals, self.part, self.decision = load, refusals, part, decision
        self.written = pl.Series("_row", [], dtype=pl.Int64)
        self.refused: list[pl.DataFrame] = []

    def write(self) -> Part:
        """Update the rows; gives the part without what the target refused. Nothing waits for a row that others lock."""
        waiting, size, moved = self.decision.values.get_column("_id").sort(), SLICE_ROWS, time.monotonic()
        while len(waiting):
            ids, waiting = waiting.head(size), waiting.slice(size)
            try:
                busy, seconds = self._write(ids)
                if seconds < LEAST_SECONDS_LOCKED:
                    size = min(LARGEST_SLICE, 2 * size)
                elif seconds > MOST_SECONDS_LOCKED:
                    size = max(SMALLEST_SLICE, size // 2)
            except RACES:
                busy, size = ids, max(SMALLEST_SLICE, size // 2)
            except psycopg.Error as error:
                if not is_refusal(error):
                    raise
                busy = self._not_refused(ids)
            if len(busy) < len(ids):
                moved = time.monotonic()
            elif time.monotonic() - moved > SECONDS_FOR_ROWS_IN_USE:
                raise LoadError(
                    f"{len(busy) + len(waiting):,} rows of part {self.part.name} cannot be updated: others lock them",
                    where=f"table {self.load.place.target.name}",
                    remedy="something holds locks on them for too long: see pg_stat_activity, run again when it is"
                    " gone; what was updated stays",
                )
            else:
                time.sleep(SECONDS_BETWEEN_TRIES)
            waiting = pl.concat([waiting, busy])
        return without_rows(self.part, self.refused)

    def _write(self, ids: pl.Series) -> tuple[pl.Series, float]:
        """Update those rows that nobody has locked; gives the others, and for how many seconds the rows were locked."""
        load, decision = self.load, self.decision
        with load.place.transaction():
            batch_id, xmin = load.writer.open_batch(
                replace(self.part, digest=f"a slice of {self.part.digest}"), load.told.load_id
            )
            load.writer.limit_waiting()
            locked, busy, began = *load.writer.lock(ids), time.monotonic()
            now, values = self._still_to_be_written(locked)
            load.writer.update(values, batch_id)
            written = pl.concat([self.written, now.get_column("_row")])
            self._map(now, written, batch_id)
            overwritten = locked.join(values, on="_id", how="semi").get_column("_xmin").cast(pl.String)
            outcome = PartOutcome(
                updated=values.height, clean=False, overwritten=dict(overwritten.value_counts().iter_rows())
            )
            load.writer.close_batch(batch_id, outcome)
        seconds = time.monotonic() - began
        reach("load.after_slice")
        load.note_slice(outcome, xmin, decision.yields.join(now, on="_row", how="semi").select(PLACE))
        self.written = written
        return busy, seconds

    def _still_to_be_written(self, locked: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The fates of locked rows that are to be updated, and their values: decided again where somebody was there."""
        decision = self.decision
        same = locked.join(decision.current, on=["_id", "_xmin"], how="semi")
        updates = decision.fates.filter(pl.col("fate") == "update")
        now = updates.join(same, left_on="target_id", right_on="_id", how="semi")
        values = decision.values.join(same, on="_id", how="semi")
        edited = locked.join(same, on="_id", how="anti").select("_id")
        if edited.is_empty():
            return now, values
        updates = updates.join(edited, left_on="target_id", right_on="_id", how="semi")
        yields = decision.yields.join(updates, on="_row", how="semi")
        stored = decision.stored.join(edited, left_on="target_id", right_on="_id", how="semi")
        current = self.load.decisions.current.of_part(self.part, stored, ids=edited, keys=self.part.rows.head(0))
        fates, written = self.load.decisions.fates(self.part, yields, stored, current, updates.get_column("_row"))
        again = fates.filter(pl.col("fate") == "update").join(edited, left_on="target_id", right_on="_id", how="semi")
        written = written.join(again, left_on="_id", right_on="target_id", how="semi")
        return pl.concat([now, again]), pl.concat([values, written])

    def _map(self, now: pl.DataFrame, written: pl.Series, batch_id: int) -> None:
        """The mapping of the source rows of what is written `now`. What of them is not `written` keeps its place."""
        decision = self.decision
        touched = decision.yields.join(now, on="_row", how="semi").select(SOURCE).unique()
        yields = decision.yields.join(touched, on=SOURCE, how="semi", maintain_order="left")
        stored = decision.stored.join(touched, on=SOURCE, how="semi", maintain_order="left")
        as_decided = pl.col("_row").is_in(written.implode()) | pl.col("fate").is_in(["unchanged", "adopt"])
        fates = decision.fates.join(yields, on="_row", how="semi").with_columns(
            pl.when(as_decided).then("fate").otherwise(pl.lit("conflict")).alias("fate")
        )
        given = given_by(yields, fates, stored, identity_of(self.load.place.target))
        replace_entries(self.load.place.connection, grouped_entries(relink(given, yields, stored).entries), batch_id)

    def _not_refused(self, ids: pl.Series) -> pl.Series:
        """Those of the rows that the target does not refuse; the others are noted."""
        decision = self.decision
        try:
            found = self.refusals.of_updates(
                self.load, decision.fates, decision.values.filter(pl.col("_id").is_in(ids.implode()))
            )
        except RACES:
            return ids
        if found.is_empty():
            return ids
        self.refused.append(found)
        # Source rows are rejected whole, with what else they give.
        sources = decision.yields.join(found, on="_row", how="semi").select(SOURCE)
        given = decision.yields.join(sources, on=SOURCE, how="semi")
        beside = decision.fates.join(given, on="_row", how="semi").get_column("target_id").drop_nulls()
        return ids.filter(~ids.is_in(beside.implode()))
