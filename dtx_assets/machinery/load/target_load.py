"""The load of one target, its parts one after the other, or of a circle of targets, in one transaction.

What is done to one part is `part_load`.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from threading import Lock
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.load import indexes_after
from dtx_assets.machinery.load.at_once import TurnOfMany, load_at_once, session_of
from dtx_assets.machinery.load.findings import LegacyRows
from dtx_assets.machinery.load.found import found_by_load
from dtx_assets.machinery.load.identity import Ids
from dtx_assets.machinery.load.indexes_after import (
    CannotBeMade,
    Log,
    Piece,
    drop_for_load,
    dropped_for_load,
    make_again,
    mend,
    take_back,
    to_be_made_after,
)
from dtx_assets.machinery.load.member import Member, Send, Told
from dtx_assets.machinery.load.orphans import Planned
from dtx_assets.machinery.load.outcome import LoadSummary, PartOutcome
from dtx_assets.machinery.load.ownership import SOURCE
from dtx_assets.machinery.load.part_load import PartLoad
from dtx_assets.machinery.load.place import Place, confirmed_later
from dtx_assets.machinery.load.prepared import PreparedTarget, check_preparation
from dtx_assets.machinery.load.rules import rules_of, surprising
from dtx_assets.machinery.load.runs import RunContext, is_held_by, prepare_bookkeeping, record_run, target_lock
from dtx_assets.machinery.load.samples import merged_samples, with_keys
from dtx_assets.machinery.load.skip import Batches, left_to_load
from dtx_assets.machinery.load.subset import first_rows, rows_of_keys
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told, words_of
from dtx_assets.machinery.postgres.ddl import require_prepared_for, require_target
from dtx_assets.machinery.postgres.untouched import Watch
from dtx_assets.machinery.prepare.part import Part

WHOLE_PART = 0
"""The number of the only part of a target that is loaded whole."""
MANY_ROWS = 1000
"""Fewer are found in no time, however the server looks for them."""


def load_target(
    system: str,
    target: TargetTable,
    lake: Lake,
    connection_url: str,
    run: RunContext,
    *,
    on_conflict: str = "keep_target",
    progress: Callable[[int, int], None] | None = None,
    legacy_rows: LegacyRows | None = None,
    send: Send | None = None,
    wait_seconds: float = 60.0,
    waiting: Callable[[str], None] | None = None,
    planned: Planned | None = None,
) -> LoadSummary:
    """Load the prepared rows of a target into its table, and record everything in the schema `migration`.

    Raises StructureError where target, prepared rows and run do not fit together, LoadError where the database refuses.
    Parts that were committed before stay. `legacy_rows` tell what a rejected row held, and rows that are gone from rows
    that a rule dropped. `send` brings what belongs to the rows of a part to where it has to be before they are written.

    A dry run does all of it in a transaction that is rolled back, but sends nothing. What it writes into the target is
    taken back part by part, so that no lock on it lasts longer than the part. `planned` remembers the keys of the rows
    that it would make, for the dry loads of what refers to them.
    """
    return load_together(
        system,
        [target],
        lake,
        connection_url,
        run,
        on_conflict=on_conflict,
        progress=progress,
        legacy_rows=legacy_rows,
        sends={target.model: send} if send else {},
        wait_seconds=wait_seconds,
        waiting=waiting,
        planned=planned,
    )[target.model]


def load_together(
    system: str,
    targets: Sequence[TargetTable],
    lake: Lake,
    connection_url: str,
    run: RunContext,
    *,
    on_conflict: str = "keep_target",
    progress: Callable[[int, int], None] | None = None,
    legacy_rows: LegacyRows | None = None,
    sends: Mapping[str, Send] | None = None,
    wait_seconds: float = 60.0,
    waiting: Callable[[str], None] | None = None,
    planned: Planned | None = None,
) -> dict[str, LoadSummary]:
    """Load targets whose rows refer to each other, by model; else as `load_target` does one.

    All rows of all of them are in memory at once and are written in one transaction: whichever of them is rejected
    takes along what refers to it, in whatever table that is, before anything is committed.
    """
    started = time.monotonic()
    planned = {} if planned is None else planned
    log = waiting or (lambda _message: None)
    datasets = {
        target.model: (
            lake.require((system, "prepared", target.model)),
            lake.require((system, "rejected", target.model)),
        )
        for target in targets
    }
    for prepared, rejected in datasets.values():
        check_preparation(run, prepared, rejected)
    with ExitStack() as held:
        held.enter_context(refusals_told())
        for manifest in (manifest for both in datasets.values() for manifest in both):
            held.enter_context(lake.lease(manifest, run.run_id))
        connection = held.enter_context(connect(connection_url, loads=system))
        # Always in the same order, so that no two wait for each other.
        for name in sorted(target.name for target in targets):
            held.enter_context(target_lock(connection, system, name, wait_seconds=wait_seconds, waiting=waiting))
        taken_back = [] if run.dry else mend(connection, system, targets, log)
        if run.dry:
            held.enter_context(connection.transaction(force_rollback=True))
            prepare_bookkeeping(connection)
            record_run(connection, run)
        places = []
        for target in targets:
            live = require_target(connection, target, run.decisions)
            if run.mode == "cutover" and not run.dry:
                require_prepared_for(live, target, datasets[target.model][0])
            places.append(Place(connection, system, target, live, run.dry, Watch(run.run_id, run.must_stay)))
        if run.gate:
            for target in targets:
                run.gate(target.model)
        loads = []
        for place in places:
            prepared, rejected = datasets[place.target.model]
            source = PreparedTarget(place, lake, prepared, rejected, legacy_rows, whole=len(targets) > 1)
            send = None if run.dry else (sends or {}).get(place.target.model)
            loads.append(TargetLoad(place, source, run, on_conflict == "overwrite", send, planned))
            # What did not fit once does not fit now.
            loads[-1].may_drop = run.indexes_after and len(targets) == 1 and not taken_back
        summaries = _run(loads, progress, log)
        if not run.dry:
            _analyze(connection, [(place, summaries[place.target.model]) for place in places])
    for summary in summaries.values():
        summary.seconds = time.monotonic() - started
    return summaries


def _analyze(connection: Connection, loaded: Sequence[tuple[Place, LoadSummary]]) -> None:
    """Has the server count what was written, before anybody asks for it.

    Of the bookkeeping too: it is shared, and by what was counted when it had no row of this target, the server expects
    a single one, and compares each number that is asked for with each row.
    """
    written = [(place.table, summary.inserted + summary.updated) for place, summary in loaded]
    tables: list[sql.Composable] = [table for table, rows in written if rows]
    if sum(rows for _, rows in written) >= MANY_ROWS:
        tables += [sql.Identifier("migration", name) for name in ("mapping_entry", "target_row")]
    for table in tables:
        connection.execute(sql.SQL("ANALYZE {}").format(table))


def _run(
    loads: Sequence["TargetLoad"], progress: Callable[[int, int], None] | None, log: Log
) -> dict[str, LoadSummary]:
    """The loads of one target, part by part, or those of a circle, in one transaction."""
    try:
        _load_parts(loads, progress, log)
    except Exception:
        # The next run would do it too.
        with suppress(psycopg.Error, LoadError):
            for load in loads:
                if load.to_make and load.holds_lock:
                    load.make_again(log)
        raise
    if len(loads) == 1 and (cannot := loads[0].make_again(log)):
        loads[0].take_back(cannot, log)
        _load_parts(loads, progress, log)
    return {load.place.target.model: load.finish() for load in loads}


def _load_parts(loads: Sequence["TargetLoad"], progress: Callable[[int, int], None] | None, log: Log) -> None:
    for load in loads:
        load.open([each.place.target for each in loads] if len(loads) > 1 else [], log)
    total, done = sum(sum(load.sizes) for load in loads), sum(load.summary.unchanged for load in loads)
    if progress:
        progress(done, total)
    # What of a circle nobody touched is there already, whatever else comes.
    opened = [load for load in loads if load.numbers]
    for number, outcomes in _written(opened) if opened else ():
        for load, outcome in zip(opened, outcomes, strict=True):
            load.add(outcome)
            done += load.sizes[number]
        if progress:
            progress(done, total)


def _written(loads: Sequence["TargetLoad"]) -> Iterator[tuple[int, list[PartOutcome]]]:
    parts = PartLoad([load.member for load in loads])
    if len(loads) == 1:
        yield from loads[0].load_parts(parts)
    else:
        yield WHOLE_PART, parts.load(*(load.read(WHOLE_PART) for load in loads))


class TargetLoad:
    """One load of one target."""

    def __init__(
        self,
        place: Place,
        source: PreparedTarget,
        run: RunContext,
        overwrite: bool,
        send: Send | None,
        planned: Planned,
    ) -> None:
        self.place, self.source, self.run_context = place, source, run
        self.overwrite, self.send, self.planned = overwrite, send, planned
        self.parts, self.subset = source.parts, run.subset
        self.sizes = [int(part["rows"]) for part in self.parts.described]
        self.may_drop = False
        """Whether indexes and foreign keys of its table may be made after it."""
        self.to_make: list[Piece] = []
        self.loaded_twice = ""
        # Of parts in one file, the next one finds it read.
        in_one_file = any("stretch" in part for part in self.parts.described)
        self._reading = Lock() if in_one_file else nullcontext()

    def open(self, together: Sequence[TargetTable], log: Log) -> None:
        """Record the load and look what there is to do; `together`: the targets of a circle that are loaded with it."""
        self.taken: list[pl.DataFrame] = []
        rules = rules_of(self.place.connection, self.place.live)
        may_refuse = [str(rule) for rule in surprising(rules, self.place.target)]
        self.summary = LoadSummary(may_refuse=may_refuse, loaded_twice=self.loaded_twice)
        self.load_id = self._open_load()
        reach("load.opened")
        self.findings = self.source.findings(self.load_id)
        self.findings.keys_only = self.subset is not None
        if self.subset and self.subset.kind == "rejected":
            self.wanted = self.findings.rejected_keys()
            self.dropped = self.parts.absent(self.wanted)
        # How many of the first source rows a part has is not known before it is read.
        looks = self.subset is not None and self.subset.kind == "first"
        left = left_to_load(self.place, self.parts, looks=looks)
        batches, first_load, xmins, self.numbers = left.batches, left.first_load, left.xmins, left.numbers
        # Rows of others are updated, and what is there already is compared: there, parts may read what others write.
        self.goes_at_once = (
            self.run_context.connections > 1
            and self.place.target.writes == "insert"
            and not self.place.dry
            and (first_load or self._are_new(batches))
        )
        self.summary.skipped_parts = len(self.sizes) - len(self.numbers)
        self.summary.unchanged = sum(size for number, size in enumerate(self.sizes) if number not in self.numbers)
        told = Told(
            self.load_id, rules, self.overwrite, self.subset, self.send, first_load, xmins, self.planned, together
        )
        self.member = Member(self.place, self.findings, told)
        if self.may_drop and first_load and self.subset is None and not self.member.orphans.own:
            self._drop(log)

    def _drop(self, log: Log) -> None:
        """Drop what is made again after the load; of a dry one, it is only told."""
        if sum(self.sizes) < indexes_after.LEAST_ROWS:
            return
        after = to_be_made_after(self.place) if self.place.dry else drop_for_load(self.place, self.load_id)
        self.to_make = [] if self.place.dry else after.pieces
        self.summary.made_after, self.summary.not_made_after = [str(piece) for piece in after.pieces], after.stays
        table = self.place.target.name
        if after.pieces:
            log(f"{table}: made after the load are {', '.join(self.summary.made_after)}")
        for stays in after.stays:
            log(f"{table}: not made after the load, {stays}")

    @property
    def holds_lock(self) -> bool:
        """Whether no other load can have begun to write into the table."""
        connection, name = self.place.connection, self.place.target.name
        return is_held_by(connection, self.place.system, name, session_of(connection))

    def make_again(self, log: Log) -> CannotBeMade | None:
        """Make what was dropped; gives why rows of the load do not fit to it, where they do not."""
        if self.to_make:
            log(f"{self.place.target.name}: making {len(self.to_make)} indexes and foreign keys")
            try:
                for dropped in dropped_for_load(self.place.connection, self.load_id):
                    make_again(self.place.connection, dropped)
            except CannotBeMade as cannot:
                return cannot
            self.to_make = []
        return None

    def take_back(self, cannot: CannotBeMade, log: Log) -> None:
        """Take back all that was written, to load it again with everything in place: then the rows are told that do
        not fit, one by one."""
        self.loaded_twice = f"{cannot.piece}: {words_of(cannot.error)}"
        log(f"{self.place.target.name}: rows do not fit to {self.loaded_twice}; all are taken back and loaded again")
        take_back(self.place, self.load_id, self.run_context.run_id)
        self.may_drop, self.to_make = False, []

    def add(self, outcome: PartOutcome) -> None:
        """A part is written."""
        summary = self.summary
        summary.samples = merged_samples(summary.samples, outcome.samples)
        for name in ("inserted", "updated", "unchanged", "adopted", "conflicts"):
            setattr(summary, name, getattr(summary, name) + getattr(outcome, name))
        summary.updated += outcome.sliced
        if outcome.keys is not None:
            for name in self.place.target.names:
                self.planned.setdefault(name, []).append(outcome.keys)
        if outcome.taken is not None:
            self.taken.append(outcome.taken)

    def finish(self) -> LoadSummary:
        """All parts are written: what vanished, and the accounting."""
        self.summary.samples = with_keys(self.place.connection, self.place.key, self.summary.samples)
        self._finish(self.summary, self.load_id, self.taken)
        return self.summary

    def load_parts(self, loads: PartLoad) -> Iterator[tuple[int, list[PartOutcome]]]:
        """Load parts; those of which nothing was ever there over several connections, as nothing in them can depend on
        another.

        The first one goes alone: it writes most of what parts share, the lists of parts, which would make others wait.
        """
        alone, rest = self.numbers, []
        if self.goes_at_once:
            alone, rest = self.numbers[:1], self.numbers[1:]
        with confirmed_later(self.place.connection), ExitStack() as connections:
            for number in alone:
                yield number, loads.load(self.read(number))
            each = [loads]
            for _ in range(min(self.run_context.connections, len(rest)) - 1):
                other = connections.enter_context(
                    connect(self.run_context.connection_url, loads=self.run_context.system)
                )
                connections.enter_context(confirmed_later(other))
                each.append(loads.over(other))
            if rest:
                yield from load_at_once(rest, self.sizes, [self._loaded_by(one) for one in each])

    def _loaded_by(self, loads: PartLoad) -> Callable[[TurnOfMany], list[PartOutcome]]:
        return lambda turn: loads.load(self.read(turn.number), turn=turn)

    def read(self, number: int) -> Part:
        """A part, or what the load takes of it. Such a batch never stands for the whole part."""
        with self._reading:
            part = self.parts.read(number)
        if self.subset is None:
            return part
        part = replace(part, digest=f"{self.subset} of {part.digest}")
        if self.subset.kind == "first":
            return first_rows(part, self.subset.rows)
        low, high = part.buckets
        dropped = self.dropped.filter(pl.col("bucket").is_between(low, high)).select(part.dropped.columns)
        return replace(rows_of_keys(part, self.wanted), dropped=dropped)

    def _open_load(self) -> int:
        """Holding the lock, any other load of this target that says it is running was killed."""
        self.place.connection.execute(
            "UPDATE migration.load SET status = 'killed', finished_at = now()"
            " WHERE (system, target_table, model) = (%s, %s, %s) AND status = 'running'",
            self.place.of_model,
        )
        return self.place.number(
            "INSERT INTO migration.load (run_id, system, target_table, model, preparation, subset)"
            " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
            [
                self.run_context.run_id,
                *self.place.of_model,
                self.source.prepared.metadata["preparation"],
                str(self.subset) if self.subset else None,
            ],
        )

    def _finish(self, summary: LoadSummary, load_id: int, taken: Sequence[pl.DataFrame]) -> None:
        with self.place.transaction():
            Ids(self.place).raise_sequence()
            if self.subset is None:
                summary.vanished = self.findings.settle_vanished(self.parts, self.run_context)
            reach("load.after_settling")
            summary.accounting, summary.rejected = self.findings.book(
                self._accounting(taken), self.run_context.run_id, self.subset.kind if self.subset else None
            )
            summary.found = found_by_load(self.place.connection, self.place.system, self.place.target)
            counts = {
                name: getattr(summary, name)
                for name in ("inserted", "updated", "unchanged", "adopted", "conflicts", "vanished", "rejected")
            }
            self.place.connection.execute(
                "UPDATE migration.load SET status = 'succeeded', finished_at = now(), counts = %s WHERE id = %s",
                [json.dumps(counts), load_id],
            )
            reach("load.after_booking")
        reach("load.finished")

    def _accounting(self, taken: Sequence[pl.DataFrame]) -> list[dict[str, Any]]:
        """Of the whole preparation; of the first source rows, those that were taken."""
        entries: list[dict[str, Any]] = self.source.prepared.metadata["accounting"]
        if self.subset is None or self.subset.kind == "rejected":
            return entries
        # Of a junction, several parts have what one source row gives.
        by_row = [pl.concat(taken).group_by(SOURCE).agg(pl.col("rejected").any())] if taken else []
        by_flow = [rows.group_by("flow_id").agg(pl.len(), pl.col("rejected").sum()) for rows in by_row]
        counts = {flow: (read, rejected) for each in by_flow for flow, read, rejected in each.iter_rows()}
        booked = []
        for entry in entries:
            read, rejected = counts.get(self.parts.flows[entry["source_table"]], (0, 0))
            counted = {"read": read, "migrated": read - rejected, "rejected": rejected}
            booked.append({**entry, **counted, "dropped": {}, "coerced": {}})
        return booked

    def _are_new(self, batches: Batches) -> bool:
        """Whether nothing was ever written into the buckets of the parts that are left, as after a load that ended in
        the middle."""
        left = [self.parts.described[number]["buckets"] for number in self.numbers]
        return not any(low <= written[1] and written[0] <= high for low, high in left for written in batches)
