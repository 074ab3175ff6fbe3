"""The load of one part: in one transaction with everything the bookkeeping says about it, or in slices and that.

Reading a part is `prepare.part`, deciding what becomes of its rows `decide`, writing them `write`.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace

import polars as pl
import psycopg

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.load import slices
from dtx_assets.machinery.load.decide import NOTHING_SLICED, Decisions
from dtx_assets.machinery.load.entries import (
    copy_entries,
    delete_entries,
    grouped_entries,
    new_entries,
    replace_entries,
)
from dtx_assets.machinery.load.findings import CONFLICT, Findings
from dtx_assets.machinery.load.identity import multirange
from dtx_assets.machinery.load.orphans import Orphans, Planned
from dtx_assets.machinery.load.outcome import Decision, PartOutcome, conflicts_of, problems_of, taken_of
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.load.refusals import Refusals, is_refusal
from dtx_assets.machinery.load.rules import Rule
from dtx_assets.machinery.load.samples import samples_of, samples_of_copied
from dtx_assets.machinery.load.skip import xmins_of
from dtx_assets.machinery.load.slices import RACES, Slices
from dtx_assets.machinery.load.subset import Subset
from dtx_assets.machinery.load.write import Writer
from dtx_assets.machinery.postgres.connection import Connection, words_of
from dtx_assets.machinery.prepare.part import Part, without_rows, without_violations

TRIES = 4
Send = Callable[[pl.DataFrame], pl.DataFrame]
"""Takes the prepared rows that are to be written; gives those that could not be sent: `_row`, `reason`, `detail`."""


class SlowPathNeeded(Exception):
    """The rows of a part cannot be copied blindly."""


class OrphansFound(Exception):
    """Rows of a part refer to rows that turn out to be somebody else's: `_row`, `reason`, `detail`."""

    def __init__(self, rows: pl.DataFrame) -> None:
        super().__init__()
        self.rows = rows


class SlicesNeeded(Exception):
    """A part updates more rows than may be locked at a time."""

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision


@dataclass
class Told:
    """What the parts of a load are loaded under. `xmins`: how many rows of the target carry which."""

    load_id: int
    rules: list[Rule]
    overwrite: bool = False
    subset: Subset | None = None
    send: Send | None = None
    first_load: bool = False
    xmins: dict[str, int] | None = None
    planned: Planned = field(default_factory=dict)


class PartLoad:
    """Loads parts of one target, one after the other, over one connection."""

    def __init__(self, place: Place, findings: Findings, told: Told) -> None:
        self.place, self.findings, self.told = place, findings, told
        self.decisions, self.writer = Decisions(place, findings, overwrite=told.overwrite), Writer(place)
        self.orphans = Orphans(place, told.planned)
        self.refusals = Refusals(place, told.rules, self.decisions, self.writer, self.orphans)
        self._whole_updates = slices.SLICE_ROWS
        """How many rows a part may write in the transaction in which it also updates some."""

    def over(self, connection: Connection) -> "PartLoad":
        """The same over a connection of its own."""
        findings = copy(self.findings)
        findings.connection = connection
        return PartLoad(self.place.over(connection), findings, replace(self.told))

    def load(self, part: Part) -> PartOutcome:
        fast = self.place.target.writes == "insert"
        place = self.place
        part = self.orphans.without(without_violations(place.connection, place.target, place.live, part))
        with self.place.connection.transaction():
            # Numbers stay, whatever becomes of the part: slices and tries find the rows by them.
            part = self.decisions.ids.numbered(part)
            self.decisions.current.number_present(part)
        if self.told.send and part.rows.height:
            refused = self.told.send(self.decisions.to_be_written(part))
            reach("load.files_sent")
            part = without_rows(part, [refused] if refused.height else [])
        self._whole_updates, self.decisions.sliced = slices.SLICE_ROWS, NOTHING_SLICED
        self._isolate(psycopg.IsolationLevel.REPEATABLE_READ)
        tries_left = TRIES
        try:
            while True:
                try:
                    with self.place.connection.transaction():
                        outcome = self._write_part(part, fast)
                        reach("load.before_commit")
                    reach("load.after_commit")
                    self._note_xmins(outcome)
                    return outcome
                except SlowPathNeeded:
                    fast = False
                except OrphansFound as found:
                    part = self.orphans.without(without_rows(part, [found.rows]))
                except SlicesNeeded as needed:
                    before, part = part, self._in_slices(part, needed.decision)
                    tries_left -= part is before
                    if not tries_left:
                        raise self._given_up(part, None) from None
                except psycopg.Error as error:
                    taken = isinstance(error, psycopg.errors.UniqueViolation)
                    if not is_refusal(error) and not isinstance(error, RACES):
                        raise
                    if is_refusal(error) and not (fast and taken):
                        before, part = part, self._without_refused(part, fast)
                        if part is not before:
                            continue
                    # Somebody else wrote at the same time: look again. Of parts that are loaded together one may have
                    # written a list of parts that the other needs; its rows are nobody's still.
                    fast = fast and self.told.first_load and not taken
                    self._whole_updates = 0
                    tries_left -= 1
                    if not tries_left:
                        if isinstance(error, psycopg.errors.LockNotAvailable):
                            raise
                        raise self._given_up(part, error) from None
        finally:
            self._isolate(None)

    def _isolate(self, level: psycopg.IsolationLevel | None) -> None:
        if not self.place.connection.closed and not self.place.dry:
            self.place.connection.isolation_level = level

    def _note_xmins(self, outcome: PartOutcome) -> None:
        if self.told.xmins is not None:
            for xmin, rows in outcome.overwritten.items():
                self.told.xmins[xmin] = self.told.xmins.get(xmin, 0) - rows

    def note_slice(self, outcome: PartOutcome, xmin: str, places: pl.DataFrame) -> None:
        """Rows of the part are updated, by a transaction that was not there when the load began."""
        self._note_xmins(outcome)
        if self.told.xmins is not None and outcome.updated:
            self.told.xmins[xmin] = outcome.updated
        self.decisions.sliced = pl.concat([self.decisions.sliced, places])

    def _given_up(self, part: Part, error: psycopg.Error | None) -> LoadError:
        if error is None or isinstance(error, RACES):
            words = f": {words_of(error)}" if error else ""
            return LoadError(
                f"others kept writing what part {part.name} needs, in each of {TRIES} tries{words}",
                where=f"table {self.place.target.name}",
                remedy="earlier batches stay, this one was rolled back whole: run again; where it comes again, see in"
                " pg_stat_activity what writes there, and run when it is quieter",
            )
        constraint = f", constraint {error.diag.constraint_name}" if error.diag.constraint_name else ""
        return LoadError(
            f"the target refused rows of part {part.name}, and takes each of them alone: {words_of(error)}",
            where=f"table {error.diag.table_name or self.place.target.name}{constraint}",
            remedy="the batch was rolled back whole; earlier ones stay. Mend the target or the mapping, then run again",
        )

    def _without_refused(self, part: Part, fast: bool) -> Part:
        """The part without the rows that the target refuses; the same where it refuses none of them by itself."""
        try:
            found = self.refusals.of_part(part, all_new=fast)
        except RACES:
            return part
        return self.orphans.without(without_rows(part, [found])) if found.height else part

    def _in_slices(self, part: Part, decision: Decision) -> Part:
        """Update rows a few at a time. Gives what is to be written still; the same part where there was no progress."""
        self._isolate(psycopg.IsolationLevel.READ_COMMITTED)
        known = self.decisions.sliced.height
        rest = Slices(self, part, decision).write()
        self._isolate(psycopg.IsolationLevel.REPEATABLE_READ)
        return replace(rest) if self.decisions.sliced.height > known else rest

    def _write_part(self, part: Part, fast: bool) -> PartOutcome:
        if self.place.dry:
            # Temporary tables last as long as the one transaction that all parts are in.
            self.place.connection.execute("DISCARD TEMP")
        if fast:
            self._require_absent(part)
        decision = None if fast else self._decided(part)
        batch_id = self.writer.open_batch(part, self.told.load_id)
        reach("load.batch_opened")
        if decision is None:
            outcome, found = self._copy_rows(part, batch_id), part.problems
            if not self.told.first_load:
                self.findings.write_conflicts(part, pl.DataFrame(schema=CONFLICT), batch_id)
        else:
            in_conflict = decision.fates.filter(pl.col("fate") == "conflict").get_column("target_id").drop_nulls()
            keys = self.place.key.texts(self.place.connection, in_conflict.to_list())
            found = pl.concat([part.problems, problems_of(decision.yields, decision.fates, keys)])
            outcome = self._outcome(decision)
            self._book(part, decision, batch_id)
        self.findings.write_rejected(part, found, first=self.told.first_load and fast)
        reach("load.after_rejected")
        if decision is not None:
            # Last, so that rows of the application are locked no longer than it takes to write them.
            self._merge_rows(part, decision, batch_id)
            if self.place.dry:
                outcome.samples = samples_of(part, decision.yields, decision.fates, decision.current)
        target = self.place.target
        if self.place.dry and target.key_is_written and len(target.key) == 1:
            new = part.rows if decision is None else part.rows.join(decision.inserts, on="_row", how="semi")
            outcome.keys = new.get_column(target.key[0])
        outcome.clean = outcome.clean and found.is_empty()
        if self.told.subset:
            outcome.taken = taken_of(part, found)
        self.writer.close_batch(batch_id, outcome)
        return outcome

    def _require_absent(self, part: Part) -> None:
        if not self.told.first_load:
            self.findings.stage_keys(part)
            known = self.place.number(
                "SELECT count(*) FROM (SELECT 1 FROM migration.mapping_entry AS entry WHERE flow_id = ANY(%s) AND"
                " (bucket BETWEEN %s AND %s OR EXISTS (SELECT 1 FROM staged_key WHERE (staged_key.flow_id,"
                " staged_key.source_key) = (entry.flow_id, entry.source_key))) LIMIT 1) AS found",
                [list(self.findings.flows.values()), *part.buckets],
            )
            if known:
                raise SlowPathNeeded
        if self.decisions.current.has_some_row(part):
            raise SlowPathNeeded

    def _copy_rows(self, part: Part, batch_id: int) -> PartOutcome:
        rows = part.rows.select(column.name for column in part.columns)
        if self.place.target.key_is_written:
            ids = part.rows.get_column("_id")
        else:
            new = self.decisions.ids.reserve(part.rows.height)
            ids, rows = new.get_column("_id"), new.drop("_id").hstack(rows)
        reach("load.before_copy")
        self._copy(rows)
        reach("load.after_copy")
        copy_entries(self.place.connection, new_entries(part.links, ids, part.rows.get_column("_hash")), batch_id)
        reach("load.after_mapping")
        return PartOutcome(
            inserted=part.rows.height,
            inserted_ids=multirange(ids),
            witness={self.writer.own_xmin(): part.rows.height} if part.rows.height else {},
            samples=samples_of_copied(part) if self.place.dry else [],
        )

    def _decided(self, part: Part) -> Decision:
        """What becomes of the rows of a part; SlicesNeeded where it would keep rows of the application locked."""
        if self.told.xmins is None:
            self.told.xmins = xmins_of(self.place)
        decision = self.decisions.of_part(part)
        orphans = self.orphans.of_taken(part, decision.fates)
        if orphans.height:
            raise OrphansFound(orphans)
        if decision.values.height and decision.writes > self._whole_updates and not self.place.dry:
            waiting = self.orphans.waiting(part, decision.inserts, decision.values)
            at_once = decision.values.filter(~pl.col("_id").is_in(waiting.implode()))
            if at_once.height:
                raise SlicesNeeded(replace(decision, values=at_once))
        return decision

    def _book(self, part: Part, decision: Decision, batch_id: int) -> None:
        """What the mapping and the lists say of a part that was compared."""
        replace_entries(self.place.connection, grouped_entries(decision.mapping.entries), batch_id)
        reach("load.after_mapping")
        delete_entries(self.place.connection, decision.mapping.removed, batch_id)
        reach("load.after_removal")
        self.findings.write_vanished(part, decision.given.vanished, decision.given.yielded, batch_id)
        reach("load.after_vanished")
        self.findings.write_conflicts(part, conflicts_of(decision.yields, decision.fates), batch_id)
        reach("load.after_conflicts")

    def _merge_rows(self, part: Part, decision: Decision, batch_id: int) -> None:
        """Write what differs from what is there."""
        reach("load.before_merge")
        if self.orphans.own:
            # What is updated may refer to what is new.
            self._insert(part, decision)
            self._update(part, decision, batch_id)
        else:
            # What is updated may make room for what is new.
            self._update(part, decision, batch_id)
            self._insert(part, decision)

    def _update(self, part: Part, decision: Decision, batch_id: int) -> None:
        if self.place.dry:
            # What refers to rows that do not stay is not tried.
            waiting = self.orphans.waiting(part, decision.inserts, decision.values)
            values = decision.values.filter(~pl.col("_id").is_in(waiting.implode()))
            for some in values.iter_slices(slices.SLICE_ROWS):
                self.writer.try_update(some, batch_id)
        elif decision.values.height:
            self.writer.limit_waiting()
            self.writer.update(decision.values, batch_id)

    def _insert(self, part: Part, decision: Decision) -> None:
        if decision.inserts.height:
            names = [column.name for column in part.columns]
            rows = decision.inserts.join(part.rows.select("_row", *names), on="_row", maintain_order="left")
            reach("load.before_copy")
            self._copy(rows.select(*self.place.new_columns, *names))
            reach("load.after_copy")

    def _copy(self, rows: pl.DataFrame) -> None:
        self.writer.copy(self.orphans.that_can_be_tried(rows))
        self.decisions.ids.raise_sequence()

    def _outcome(self, decision: Decision) -> PartOutcome:
        """What a part will have done when it is written."""
        fates, current, stored, xmins = decision.fates, decision.current, decision.stored, self.told.xmins or {}
        updates, inserts = decision.values.select("_id"), decision.inserts
        counts = dict(fates.group_by("fate").len().iter_rows())
        updated = current.join(updates, on="_id", how="semi")
        overwritten = dict(updated.group_by(pl.col("_xmin").cast(pl.String)).len().iter_rows())
        watched = pl.concat([stored.get_column("target_id"), fates.get_column("target_id").drop_nulls()]).unique()
        left = current.join(updates, on="_id", how="anti").filter(pl.col("_id").is_in(watched.implode()))
        carried = left.get_column("_xmin").cast(pl.String).unique().to_list()
        witness = {xmin: xmins.get(xmin, 0) - overwritten.get(xmin, 0) for xmin in carried}
        written = updates.height + inserts.height
        sliced = self.decisions.sliced_of(decision.yields, fates).filter(pl.col("fate") == "unchanged").height
        return PartOutcome(
            inserted=counts.get("insert", 0),
            updated=counts.get("update", 0),
            unchanged=counts.get("unchanged", 0) - sliced,
            sliced=sliced,
            adopted=counts.get("adopt", 0),
            conflicts=counts.get("conflict", 0),
            inserted_ids=multirange(inserts.get_column("_id")),
            witness=witness | ({self.writer.own_xmin(): written} if written else {}),
            overwritten=overwritten,
            # A row that changed since the load began carries a transaction that was not counted then.
            clean=not counts.get("conflict") and all(xmin in xmins for xmin in carried),
        )
