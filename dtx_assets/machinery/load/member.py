"""One target in a load: what becomes of its parts is decided and written in a transaction that somebody else holds.

Holding it, and trying again where others were quicker, is `part_load`. A load has one member, or all of a circle.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field

import polars as pl
from psycopg import sql

from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.load import slices
from dtx_assets.machinery.load.decide import NOTHING_SLICED, Decisions
from dtx_assets.machinery.load.entries import (
    PartLists,
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
from dtx_assets.machinery.load.rules import Rule
from dtx_assets.machinery.load.samples import samples_of, samples_of_copied
from dtx_assets.machinery.load.skip import xmins_of
from dtx_assets.machinery.load.subset import Subset
from dtx_assets.machinery.load.write import Writer
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.prepare.part import Part, without_rows, without_violations

Send = Callable[[pl.DataFrame, str], pl.DataFrame]
"""Takes the prepared rows of a part that are to be written, and its name; gives those that could not be sent: `_row`,
`reason`, `detail`."""


class SlowPathNeeded(Exception):
    """The rows of a part cannot be copied blindly."""


@dataclass
class Told:
    """What the parts of a target are loaded under. `xmins`: how many rows of the target carry which.

    `together`: the targets of which parts are loaded in one transaction with those of this one.
    """

    load_id: int
    rules: list[Rule]
    overwrite: bool = False
    subset: Subset | None = None
    send: Send | None = None
    first_load: bool = False
    xmins: dict[str, int] | None = None
    planned: Planned = field(default_factory=dict)
    together: Sequence[TargetTable] = ()
    some_are_there: bool = False
    """Whether the target was found to have rows of a part of which none was known."""


@dataclass
class Writing:
    """A part that is booked and has to be written. `decision`: None where nothing of it was there.

    `new`: `_row`, `_id` and the columns of rows that are not there; `found`: PROBLEM rows, of the load and before it.
    """

    part: Part
    decision: Decision | None
    batch_id: int
    outcome: PartOutcome
    found: pl.DataFrame
    new: pl.DataFrame

    @property
    def values(self) -> pl.DataFrame:
        """`_id` and the columns of rows that are updated."""
        return self.new.select("_id").clear() if self.decision is None else self.decision.values


class Member:
    """One target of a load, over one connection."""

    def __init__(
        self, place: Place, findings: Findings, told: Told, holder: int | None = None, orphans: Orphans | None = None
    ) -> None:
        """`holder`: the session that holds the lock of the target, where it is not that of the place."""
        self.place, self.findings, self.told = place, findings, told
        self.decisions, self.writer = Decisions(place, findings, overwrite=told.overwrite), Writer(place, holder)
        self.orphans = orphans or Orphans(place, told.planned, told.together)
        self.lists = PartLists(place.connection)

    def over(self, connection: Connection, holder: int) -> "Member":
        """The same over a connection of its own, while the session `holder` holds the lock of the target."""
        findings = copy(self.findings)
        findings.connection = connection
        place = self.place.over(connection)
        return Member(place, findings, self.told, holder, self.orphans.over(place))

    @property
    def looks_first(self) -> bool:
        """Whether a part is copied only when it was looked whether some of its rows are there.

        The unique indexes of the keys tell it too, unless something of the table keeps rows out without a word. What
        they refuse is undone, so it is looked first where they did.
        """
        return bool(self.place.dry or self.place.suspects or self.told.some_are_there)

    @property
    def copies(self) -> bool:
        """Whether rows of this target may be copied into it where none of them is there."""
        return self.place.target.writes == "insert"

    def fitting(self, part: Part) -> Part:
        """The part without what the columns of the target cannot hold."""
        return without_violations(self.place.connection, self.place.target, self.place.live, part)

    def numbered(self, part: Part) -> Part:
        """Numbers stay, whatever becomes of the part: slices and tries find the rows by them."""
        if self.place.key.is_number:
            # What is a number is no row of the bookkeeping.
            return self.decisions.ids.numbered(part)
        with self.place.connection.transaction():
            part = self.decisions.ids.numbered(part)
            self.decisions.current.number_present(part)
        return part

    def begin(self, part: Part, *, takes_keys: bool) -> None:
        """A part is about to be written; `takes_keys`: those of all of its rows, as if all were new."""
        self.decisions.sliced = NOTHING_SLICED
        self.decisions.ids.begin(part.rows.height if takes_keys and self.place.new_columns else 0)

    def sent(self, part: Part) -> Part:
        """The part without those rows of which what belongs to them could not be sent."""
        if not self.told.send or not part.rows.height:
            return part
        refused = self.told.send(self.decisions.to_be_written(part), part.name)
        reach("load.files_sent")
        return without_rows(part, [refused] if refused.height else [])

    # --- one transaction ----------------------------------------------------------------------------------------------

    def decide(self, part: Part, fast: bool) -> Decision | None:
        """What becomes of the rows of a part; None where it is `fast`, and SlowPathNeeded where it cannot be."""
        if self.place.dry:
            # Temporary tables last as long as the one transaction that all parts are in.
            self.place.connection.execute("DISCARD TEMP")
        if fast:
            self._require_absent(part)
            return None
        if self.told.xmins is None:
            self.told.xmins = xmins_of(self.place)
        return self.decisions.of_part(part)

    def book(self, part: Part, decision: Decision | None) -> Writing:
        """What the mapping and the lists say of a part, before its rows are written."""
        if self.told.together:
            # Others had their keys there meanwhile.
            self.findings.stage_keys(part)
        batch_id, xmin = self.writer.open_batch(part, self.told.load_id)
        reach("load.batch_opened")
        if decision is None:
            new = self._all_new(part)
            writing = Writing(part, None, batch_id, self._copied(part, new, xmin), part.problems, new)
            if not self.told.first_load:
                self.findings.write_conflicts(part, pl.DataFrame(schema=CONFLICT), batch_id)
        else:
            in_conflict = decision.fates.filter(pl.col("fate") == "conflict").get_column("target_id").drop_nulls()
            keys = self.place.key.texts(self.place.connection, in_conflict.to_list())
            found = pl.concat([part.problems, problems_of(decision.yields, decision.fates, keys)])
            names = [column.name for column in part.columns]
            new = decision.inserts.join(part.rows.select("_row", *names), on="_row", maintain_order="left")
            writing = Writing(part, decision, batch_id, self._merged(decision, xmin), found, new)
            self._book_decision(part, decision, batch_id)
        self.findings.write_rejected(part, writing.found, first=self.told.first_load and decision is None)
        reach("load.after_rejected")
        return writing

    def update(self, writing: Writing, values: pl.DataFrame) -> None:
        """Give rows of the target their values; of a dry run they do not stay."""
        if self.place.dry:
            for some in values.iter_slices(slices.SLICE_ROWS):
                self.writer.try_update(some, writing.batch_id)
        elif values.height:
            self.writer.limit_waiting()
            self.writer.update(values, writing.batch_id)

    def insert(self, writing: Writing) -> None:
        """Copy new rows into the target, with their entries in the mapping."""
        if writing.new.height:
            reach("load.before_copy")
            self.writer.copy(self.columns_of(self.orphans.that_can_be_tried(writing.new)))
            self.note_inserted(writing)

    def columns_of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """New rows as they are written."""
        return rows.drop("_row", "_id", strict=False)

    def note_inserted(self, writing: Writing) -> None:
        """New rows are in the target."""
        self.decisions.ids.raise_sequence()
        reach("load.after_copy")
        if writing.decision is None:
            part, ids = writing.part, writing.new.get_column("_id")
            entries = new_entries(part.links, ids, part.rows.get_column("_hash"))
            # Of a dry run nothing is committed, and what is tried in it is taken back bit by bit.
            lists = None if self.place.dry else self.lists
            copy_entries(self.place.connection, entries, writing.batch_id, lists_of_parts=lists)
            reach("load.after_mapping")

    def close(self, writing: Writing) -> PartOutcome:
        """The batch, complete."""
        part, decision, outcome = writing.part, writing.decision, writing.outcome
        target = self.place.target
        if self.place.dry and decision is not None:
            outcome.samples = samples_of(part, decision.yields, decision.fates, decision.current)
        if self.place.dry:
            alone = {name for names, _ in self.place.live.unique_keys if len(names) == 1 for name in names}
            alone |= set(target.key) if target.key_is_written and len(target.key) == 1 else set()
            outcome.keys = writing.new.select(name for name in writing.new.columns if name in alone)
        outcome.clean = outcome.clean and writing.found.is_empty()
        if self.told.subset:
            outcome.taken = taken_of(part, writing.found)
        self.writer.close_batch(writing.batch_id, outcome)
        return outcome

    # --- what was written ---------------------------------------------------------------------------------------------

    def note_xmins(self, outcome: PartOutcome) -> None:
        if self.told.xmins is not None:
            for xmin, rows in outcome.overwritten.items():
                self.told.xmins[xmin] = self.told.xmins.get(xmin, 0) - rows

    def note_slice(self, outcome: PartOutcome, xmin: str, places: pl.DataFrame) -> None:
        """Rows of the part are updated, by a transaction that was not there when the load began."""
        self.note_xmins(outcome)
        if self.told.xmins is not None and outcome.updated:
            self.told.xmins[xmin] = outcome.updated
        self.decisions.sliced = pl.concat([self.decisions.sliced, places])

    # --- details ------------------------------------------------------------------------------------------------------

    def _require_absent(self, part: Part) -> None:
        if not self.told.first_load:
            self.findings.stage_keys(part)
            known = self.place.connection.execute(
                sql.SQL("SELECT 1 FROM migration.mapping_entry AS entry WHERE {} LIMIT 1").format(
                    self.findings.scope(part)
                )
            ).fetchone()
            if known:
                raise SlowPathNeeded
        if self.looks_first and self.decisions.current.has_some_row(part):
            raise SlowPathNeeded

    def _all_new(self, part: Part) -> pl.DataFrame:
        """All rows of a part with what tells them apart."""
        rows = part.rows.select("_row", *(column.name for column in part.columns))
        if self.place.target.key_is_written:
            return rows.insert_column(1, part.rows.get_column("_id"))
        return rows.hstack(self.decisions.ids.reserve(part.rows.height))

    def _book_decision(self, part: Part, decision: Decision, batch_id: int) -> None:
        replace_entries(self.place.connection, grouped_entries(decision.mapping.entries), batch_id)
        reach("load.after_mapping")
        delete_entries(self.place.connection, decision.mapping.removed, batch_id)
        reach("load.after_removal")
        self.findings.write_vanished(part, decision.given.vanished, decision.given.yielded, batch_id)
        reach("load.after_vanished")
        self.findings.write_conflicts(part, conflicts_of(decision.yields, decision.fates), batch_id)
        reach("load.after_conflicts")

    def _copied(self, part: Part, new: pl.DataFrame, xmin: str) -> PartOutcome:
        """What a part of which nothing was there will have done."""
        rows = part.rows.height
        return PartOutcome(
            inserted=rows,
            inserted_ids=multirange(new.get_column("_id")),
            witness={xmin: rows} if rows else {},
            samples=samples_of_copied(part) if self.place.dry else [],
        )

    def _merged(self, decision: Decision, xmin: str) -> PartOutcome:
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
            witness=witness | ({xmin: written} if written else {}),
            overwritten=overwritten,
            # A row that changed since the load began carries a transaction that was not counted then.
            clean=not counts.get("conflict") and all(xmin in xmins for xmin in carried),
        )
