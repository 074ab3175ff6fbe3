"""The load of one target: part by part, each in one transaction with everything the bookkeeping says about it.

Reading a part is `part`, deciding what becomes of its rows `diff`, the mapping `entries`, values in and out `content`.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from datetime import datetime
from queue import Empty, Queue
from typing import Any, Literal

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.base.errors import LoadError, StructureError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.load import slices
from dtx_assets.machinery.load.activation import is_activated
from dtx_assets.machinery.load.diff import (
    CHANGED,
    PLACE,
    YIELDS,
    given_by,
    identity_of,
    insert_fates,
    known_rows,
    relink,
    update_fates,
    with_former_rows,
    with_ownership,
    yields_of,
)
from dtx_assets.machinery.load.entries import (
    copy_entries,
    delete_entries,
    grouped_entries,
    new_entries,
    read_links,
    replace_entries,
)
from dtx_assets.machinery.load.findings import CONFLICT, Findings, LegacyRows
from dtx_assets.machinery.load.found import found_by_load
from dtx_assets.machinery.load.outcome import (
    Decision,
    LoadSummary,
    PartOutcome,
    conflicts_of,
    problems_of,
    taken_of,
)
from dtx_assets.machinery.load.refusals import Refusals, is_refusal
from dtx_assets.machinery.load.rules import rules_of, surprising
from dtx_assets.machinery.load.runs import RunContext, prepare_bookkeeping, record_run, target_lock
from dtx_assets.machinery.load.samples import merged_samples, samples_of, samples_of_copied
from dtx_assets.machinery.load.slices import LOCK_TIMEOUT, RACES, Slices
from dtx_assets.machinery.load.subset import first_rows, rows_of_keys
from dtx_assets.machinery.load.unwritten import filled_by_database
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told, words_of
from dtx_assets.machinery.postgres.content import (
    array_type,
    as_prepared,
    copy_in,
    copy_out,
    differs,
    noted,
    readable,
    readable_schema,
)
from dtx_assets.machinery.postgres.ddl import LiveTarget, qualified, require_prepared_for, require_target
from dtx_assets.machinery.prepare.part import Part, PreparedParts, without_rows, without_violations

OnConflict = Literal["keep_target", "overwrite"]
TRIES = 4
CONNECTIONS = 2
"""Over which the parts of a first load go: COPY keeps one core of the server busy."""
PROBED_KEYS = 1000
"""Distinct leading keys of a part that are enough to probe whether the target has any of its rows."""
XID_HORIZON = 1 << 31
_NOTHING_SLICED = pl.DataFrame(schema={name: YIELDS[name] for name in PLACE})
Send = Callable[[pl.DataFrame], pl.DataFrame]
"""Takes the prepared rows that are to be written; gives those that could not be sent: `_row`, `reason`, `detail`."""


class SlowPathNeeded(Exception):
    """The rows of a part cannot be copied blindly."""


class SlicesNeeded(Exception):
    """A part updates more rows than may be locked at a time."""

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision


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
) -> LoadSummary:
    """Load the prepared rows of a target into its table, and record everything in the schema `migration`.

    Raises StructureError where target, prepared rows and run do not fit together, LoadError where the database refuses.
    Parts that were committed before stay. `legacy_rows` tell what a rejected row held, and rows that are gone from rows
    that a rule dropped. `send` brings what belongs to the rows of a part to where it has to be before they are written.

    A dry run does all of it in a transaction that is rolled back, but sends nothing. What it writes into the target is
    taken back part by part, so that no lock on it lasts longer than the part.
    """
    started = time.monotonic()
    prepared = lake.require((system, "prepared", target.model))
    rejected = lake.require((system, "rejected", target.model))
    check_preparation(run, prepared, rejected)
    with (
        refusals_told(),
        lake.lease(prepared, run.run_id),
        lake.lease(rejected, run.run_id),
        connect(connection_url) as connection,
        target_lock(connection, system, target.name, wait_seconds=wait_seconds, waiting=waiting),
        rolled_back_if(connection, run.dry),
    ):
        if run.dry:
            prepare_bookkeeping(connection)
            record_run(connection, run)
        live = require_target(connection, target, run.decisions)
        if run.mode == "cutover" and not run.dry:
            require_prepared_for(live, target, prepared)
        if run.gate:
            run.gate(target.model)
        load = TargetLoad(
            connection,
            connection_url,
            system,
            target,
            live,
            lake,
            run,
            prepared,
            rejected,
            on_conflict,
            legacy_rows,
            None if run.dry else send,
        )
        summary = load.run(progress)
        if summary.inserted + summary.updated and not run.dry:
            connection.execute(sql.SQL("ANALYZE {}").format(qualified(target)))
    summary.seconds = time.monotonic() - started
    return summary


@contextmanager
def rolled_back_if(connection: Connection, dry: bool) -> Iterator[None]:
    """Everything inside in one transaction that is rolled back at its end, or just as it is."""
    with connection.transaction(force_rollback=True) if dry else nullcontext():
        yield


def check_preparation(run: RunContext, prepared: Manifest, rejected: Manifest) -> None:
    """StructureError where the prepared rows were made for another run than this one."""
    facts, where = prepared.metadata, "/".join(prepared.key)
    remedy = f"materialise {where} again"
    chosen: Mapping[str, str] = facts.get("decisions", {})
    others = sorted(
        key for key in {*chosen, *run.decisions} if chosen.get(key) != run.decisions.get(key) and key in chosen
    )
    if others:
        told = ", ".join(f"{key} = {chosen[key]} instead of {run.decisions.get(key)}" for key in others)
        raise StructureError(f"the rows were prepared under other decisions: {told}", where=where, remedy=remedy)
    cutover_at = facts.get("cutover_at")
    if cutover_at and run.cutover_at and datetime.fromisoformat(cutover_at) != run.cutover_at:
        raise StructureError(
            f"the rows were prepared for {cutover_at}, and this run is for {run.cutover_at.isoformat()}",
            where=where,
            remedy=remedy,
        )
    if facts.get("preparation") != rejected.metadata.get("preparation"):
        raise StructureError(
            "the prepared and the rejected rows come from different preparations", where=where, remedy=remedy
        )
    linked = prepared.tables["links"].rows if "links" in prepared.tables else 0
    migrated = sum(entry["migrated"] for entry in facts.get("accounting", []))
    if linked > migrated:
        raise StructureError(
            f"{migrated} source rows are accounted for as migrated, and {linked} are linked to target rows",
            where=where,
            remedy="this is a fault of the flow, please report it",
        )


class TargetLoad:
    """One load of one target over one connection."""

    def __init__(
        self,
        connection: Connection,
        url: str,
        system: str,
        target: TargetTable,
        live: LiveTarget,
        lake: Lake,
        run: RunContext,
        prepared: Manifest,
        rejected: Manifest,
        on_conflict: str,
        legacy_rows: LegacyRows | None,
        send: Send | None = None,
    ) -> None:
        self.send = send
        self.connection, self.url = connection, url
        self.system, self.target, self.live = system, target, live
        self.lake, self.run_context, self.prepared = lake, run, prepared
        self.overwrite = on_conflict == "overwrite"
        self.legacy_rows = legacy_rows
        self.table = qualified(target)
        self.place = [system, target.name, target.model]
        self.xmins: dict[str, int] | None = None
        self.first_load = False
        self.subset = run.subset
        self.rules = rules_of(connection, live)
        self.refusals = Refusals(self)
        self._dry_ids = 0
        self._whole_updates = slices.SLICE_ROWS
        """How many rows a part may write in the transaction in which it also updates some."""
        self._sliced = _NOTHING_SLICED
        """What slices updated of the part that is written."""
        self.parts = PreparedParts(
            lake,
            target,
            prepared,
            rejected,
            self._flow_id,
            self._earlier_sources(),
            activated=is_activated(connection, system, target),
        )
        self.flows = self.parts.flows

    def _earlier_sources(self) -> list[str]:
        rows = self.connection.execute(
            "SELECT source_table FROM migration.flow WHERE (system, target_table, model) = (%s, %s, %s) ORDER BY id",
            self.place,
        )
        return [str(row[0]) for row in rows]

    def _flow_id(self, source_table: str) -> int:
        place = [*self.place, source_table]
        self.connection.execute(
            "INSERT INTO migration.flow (system, target_table, model, source_table) SELECT %s, %s, %s, %s"
            " WHERE NOT EXISTS (SELECT 1 FROM migration.flow"
            " WHERE (system, target_table, model, source_table) = (%s, %s, %s, %s)) ON CONFLICT DO NOTHING",
            [*place, *place],
        )
        return self._number(
            "SELECT id FROM migration.flow WHERE (system, target_table, model, source_table) = (%s, %s, %s, %s)", place
        )

    def _number(self, query: str, values: list[Any]) -> int:
        found = self.connection.execute(query.encode(), values).fetchone()
        return int(found[0]) if found and found[0] is not None else 0

    def run(self, progress: Callable[[int, int], None] | None) -> LoadSummary:
        summary = LoadSummary(may_refuse=[str(rule) for rule in surprising(self.rules, self.target)])
        load_id = self._open_load()
        reach("load.opened")
        self.findings = self.open_findings(load_id)
        self.findings.keys_only = self.subset is not None
        if self.subset and self.subset.kind == "rejected":
            self.wanted = self.findings.rejected_keys()
            self.dropped = self.parts.absent(self.wanted)
        batches = self._latest_batches()
        self.first_load = not batches and not self._has_entries()
        self.xmins = None if self.first_load else self._xmins()
        sizes = [int(part["rows"]) for part in self.parts.described]
        # How many of the first source rows a part has is not known before it is read.
        looks = self.subset is not None and self.subset.kind == "first"
        numbers = [number for number in range(len(sizes)) if looks or not self._can_skip(number, batches)]
        summary.skipped_parts = len(sizes) - len(numbers)
        done = summary.unchanged = sum(size for number, size in enumerate(sizes) if number not in numbers)
        if progress:
            progress(done, sum(sizes))
        taken = []
        for number, outcome in self._load_parts(numbers, load_id):
            self._add(summary, outcome)
            if outcome.taken is not None:
                taken.append(outcome.taken)
            done += sizes[number]
            if progress:
                progress(done, sum(sizes))
        self._finish(summary, load_id, taken)
        return summary

    def open_findings(self, load_id: int) -> Findings:
        """The lists that a load writes to, or that are read for one that is none."""
        return Findings(
            self.connection,
            self.system,
            self.target,
            load_id,
            self.flows,
            self.lake,
            self.prepared.metadata.get("sources", {}),
            self.legacy_rows,
        )

    def _load_parts(self, numbers: list[int], load_id: int) -> Iterator[tuple[int, PartOutcome]]:
        """Load parts; those of a first load over several connections, because nothing in them can depend on another.

        The first one goes alone: it writes most of what parts share, the lists of parts, which would make others wait.
        """
        # Where rows of two parts may be in each other's way, it is always the later one that is refused.
        rivals = any(rule.sees_other_rows for rule in surprising(self.rules, self.target))
        several = self.first_load and self.target.writes == "insert" and not self.run_context.dry and not rivals
        alone = 1 if several else len(numbers)
        for number in numbers[:alone]:
            yield number, self._load_part(self._read(number), load_id)
        rest = numbers[alone:]
        if not rest:
            return
        todo: Queue[int] = Queue()
        for number in rest:
            todo.put(number)
        done: Queue[tuple[int, PartOutcome] | BaseException] = Queue()
        with ExitStack() as connections, ThreadPoolExecutor(CONNECTIONS) as threads:
            for _ in range(min(CONNECTIONS, len(rest))):
                threads.submit(self._over(connections.enter_context(connect(self.url)))._work, todo, done, load_id)
            try:
                for _ in rest:
                    answer = done.get()
                    if isinstance(answer, BaseException):
                        raise answer
                    yield answer
            finally:
                # Failed or interrupted: what is being written is finished, nothing more is begun.
                with todo.mutex:
                    todo.queue.clear()

    def _read(self, number: int) -> Part:
        """A part, or what the load takes of it. Such a batch never stands for the whole part."""
        part = self.parts.read(number)
        if self.subset is None:
            return part
        part = replace(part, digest=f"{self.subset} of {part.digest}")
        if self.subset.kind == "first":
            return first_rows(part, self.subset.rows)
        low, high = part.buckets
        dropped = self.dropped.filter(pl.col("bucket").is_between(low, high)).select(part.dropped.columns)
        return replace(rows_of_keys(part, self.wanted), dropped=dropped)

    def _over(self, connection: Connection) -> "TargetLoad":
        """The same load over a connection of its own."""
        other = copy(self)
        other.connection, other.refusals = connection, Refusals(other)
        other.findings = copy(self.findings)
        other.findings.connection = connection
        return other

    def _work(self, todo: "Queue[int]", done: "Queue[tuple[int, PartOutcome] | BaseException]", load_id: int) -> None:
        try:
            while True:
                number = todo.get_nowait()
                done.put((number, self._load_part(self._read(number), load_id)))
        except Empty:
            return
        except BaseException as error:  # it is raised where the results are read
            done.put(error)

    @staticmethod
    def _add(summary: LoadSummary, outcome: PartOutcome) -> None:
        summary.samples = merged_samples(summary.samples, outcome.samples)
        for name in ("inserted", "updated", "unchanged", "adopted", "conflicts"):
            setattr(summary, name, getattr(summary, name) + getattr(outcome, name))
        summary.updated += outcome.sliced

    def _open_load(self) -> int:
        """Holding the lock, any other load of this target that says it is running was killed."""
        self.connection.execute(
            "UPDATE migration.load SET status = 'killed', finished_at = now()"
            " WHERE (system, target_table, model) = (%s, %s, %s) AND status = 'running'",
            self.place,
        )
        return self._number(
            "INSERT INTO migration.load (run_id, system, target_table, model, preparation, subset)"
            " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
            [
                self.run_context.run_id,
                *self.place,
                self.prepared.metadata["preparation"],
                str(self.subset) if self.subset else None,
            ],
        )

    def _finish(self, summary: LoadSummary, load_id: int, taken: Sequence[pl.DataFrame]) -> None:
        with self.connection.transaction():
            if self.subset is None:
                summary.vanished = self.findings.settle_vanished(self.parts, self.run_context)
            reach("load.after_settling")
            summary.accounting, summary.rejected = self.findings.book(
                self._accounting(taken), self.run_context.run_id, self.subset.kind if self.subset else None
            )
            summary.found = found_by_load(self.connection, self.system, self.target)
            counts = {
                name: getattr(summary, name)
                for name in ("inserted", "updated", "unchanged", "adopted", "conflicts", "vanished", "rejected")
            }
            self.connection.execute(
                "UPDATE migration.load SET status = 'succeeded', finished_at = now(), counts = %s WHERE id = %s",
                [json.dumps(counts), load_id],
            )
            reach("load.after_booking")
        reach("load.finished")

    def _accounting(self, taken: Sequence[pl.DataFrame]) -> list[dict[str, Any]]:
        """Of the whole preparation; of the first source rows, those that were taken."""
        entries: list[dict[str, Any]] = self.prepared.metadata["accounting"]
        if self.subset is None or self.subset.kind == "rejected":
            return entries
        each = pl.concat(taken).group_by("flow_id").sum().iter_rows() if taken else ()
        counts = {flow: (read, rejected) for flow, read, rejected in each}
        booked = []
        for entry in entries:
            read, rejected = counts.get(self.flows[entry["source_table"]], (0, 0))
            counted = {"read": read, "migrated": read - rejected, "rejected": rejected}
            booked.append({**entry, **counted, "dropped": {}, "coerced": {}})
        return booked

    # --- is there anything to do? -------------------------------------------------------------------------------------

    def _latest_batches(self) -> dict[tuple[int, int], dict[str, Any]]:
        """The last batch of each range of buckets, unless a later one of another range touched some of them."""
        rows = self.connection.execute(
            "SELECT batch.id, bucket_low, bucket_high, digest, witness, clean,"
            " pg_snapshot_xmax(pg_current_snapshot())::text::bigint - xid::text::bigint AS age"
            " FROM migration.batch JOIN migration.load ON load.id = batch.load_id"
            " WHERE (load.system, load.target_table, load.model) = (%s, %s, %s)"
            " AND undone_at IS NULL ORDER BY batch.id",
            self.place,
        ).fetchall()
        latest: dict[tuple[int, int], dict[str, Any]] = {}
        for _, low, high, digest, witness, clean, age in rows:
            latest = {place: batch for place, batch in latest.items() if place[1] < low or place[0] > high}
            latest[low, high] = {"digest": digest, "witness": witness, "clean": clean, "age": age}
        return latest

    def _xmins(self) -> dict[str, int]:
        """How many rows of the target carry which xmin. Of one that was committed, the number can only fall."""
        query = sql.SQL("SELECT xmin::text, count(*) FROM {} GROUP BY 1").format(self.table)
        return {str(xmin): int(rows) for xmin, rows in self.connection.execute(query)}

    def _can_skip(self, number: int, batches: Mapping[tuple[int, int], Mapping[str, Any]]) -> bool:
        low, high = self.parts.described[number]["buckets"]
        before = batches.get((low, high))
        return before is not None and self._is_untouched(before, self.parts.digest(number))

    def _is_untouched(self, batch: Mapping[str, Any], digest: str) -> bool:
        xmins = self.xmins or {}
        return bool(
            batch["clean"]
            and batch["digest"] == digest
            and batch["age"] < XID_HORIZON
            and all(xmins.get(xmin, 0) == rows for xmin, rows in batch["witness"].items())
        )

    def _has_entries(self) -> bool:
        return bool(
            self._number(
                "SELECT count(*) FROM (SELECT 1 FROM migration.mapping_entry WHERE flow_id = ANY(%s) LIMIT 1) AS found",
                [list(self.flows.values())],
            )
        )

    # --- one part, one transaction ------------------------------------------------------------------------------------

    def _load_part(self, part: Part, load_id: int) -> PartOutcome:
        fast = self.target.writes == "insert"
        part = without_violations(self.connection, self.target, self.live, part)
        if self.send and part.rows.height:
            refused = self.send(self._to_be_written(part))
            reach("load.files_sent")
            part = without_rows(part, [refused] if refused.height else [])
        self._whole_updates, self._sliced = slices.SLICE_ROWS, _NOTHING_SLICED
        self._isolate(psycopg.IsolationLevel.REPEATABLE_READ)
        tries_left = TRIES
        try:
            while True:
                try:
                    with self.connection.transaction():
                        outcome = self._write_part(part, load_id, fast)
                        reach("load.before_commit")
                    reach("load.after_commit")
                    self._note_xmins(outcome)
                    return outcome
                except SlowPathNeeded:
                    fast = False
                except SlicesNeeded as needed:
                    before, part = part, self._in_slices(part, needed.decision, load_id)
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
                    fast = fast and self.first_load and not taken
                    self._whole_updates = 0
                    tries_left -= 1
                    if not tries_left:
                        if isinstance(error, psycopg.errors.LockNotAvailable):
                            raise
                        raise self._given_up(part, error) from None
        finally:
            self._isolate(None)

    def _isolate(self, level: psycopg.IsolationLevel | None) -> None:
        if not self.connection.closed and not self.run_context.dry:
            self.connection.isolation_level = level

    def _note_xmins(self, outcome: PartOutcome) -> None:
        if self.xmins is not None:
            for xmin, rows in outcome.overwritten.items():
                self.xmins[xmin] = self.xmins.get(xmin, 0) - rows

    def note_slice(self, outcome: PartOutcome, xmin: str, places: pl.DataFrame) -> None:
        """Rows of the part are updated, by a transaction that was not there when the load began."""
        self._note_xmins(outcome)
        if self.xmins is not None and outcome.updated:
            self.xmins[xmin] = outcome.updated
        self._sliced = pl.concat([self._sliced, places])

    def limit_waiting(self) -> None:
        """From here on the transaction has rows of the application locked."""
        self.connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])

    def _to_be_written(self, part: Part) -> pl.DataFrame:
        """The rows of a part that are to be written as the target is now: what belongs to the others stays as it is."""
        with self.connection.transaction():
            self.findings.stage_keys(part)
            stored = read_links(self.connection, self.findings.scope(part))
            current = self.current_rows(part, stored)
        fates = insert_fates(
            self.target,
            part.columns,
            part.comparable,
            yields_of(part.links),
            stored,
            current,
            overwrite=self.overwrite,
        )
        written = fates.filter(pl.col("fate").is_in(["insert", "update"])).get_column("_row")
        return part.rows.filter(pl.col("_row").is_in(written.implode()))

    def _given_up(self, part: Part, error: psycopg.Error | None) -> LoadError:
        if error is None or isinstance(error, RACES):
            words = f": {words_of(error)}" if error else ""
            return LoadError(
                f"others kept writing what part {part.name} needs, in each of {TRIES} tries{words}",
                where=f"table {self.target.name}",
                remedy="earlier batches stay, this one was rolled back whole: run again; where it comes again, see in"
                " pg_stat_activity what writes there, and run when it is quieter",
            )
        constraint = f", constraint {error.diag.constraint_name}" if error.diag.constraint_name else ""
        return LoadError(
            f"the target refused rows of part {part.name}, and takes each of them alone: {words_of(error)}",
            where=f"table {error.diag.table_name or self.target.name}{constraint}",
            remedy="the batch was rolled back whole; earlier ones stay. Mend the target or the mapping, then run again",
        )

    # --- what the target refuses --------------------------------------------------------------------------------------

    def _without_refused(self, part: Part, fast: bool) -> Part:
        """The part without the rows that the target refuses; the same where it refuses none of them by itself."""
        try:
            found = self.refusals.of_part(part, all_new=fast)
        except RACES:
            return part
        return without_rows(part, [found]) if found.height else part

    # --- updates beside a live application ----------------------------------------------------------------------------

    def _in_slices(self, part: Part, decision: Decision, load_id: int) -> Part:
        """Update rows a few at a time. Gives what is to be written still; the same part where there was no progress."""
        self._isolate(psycopg.IsolationLevel.READ_COMMITTED)
        known = self._sliced.height
        rest = Slices(self, part, decision, load_id).write()
        self._isolate(psycopg.IsolationLevel.REPEATABLE_READ)
        return replace(rest) if self._sliced.height > known else rest

    def lock(self, ids: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
        """Lock rows in the order of their ids; gives `id` and `xmin` of those, and the ids that others have locked."""
        self._stage("wanted_id", ids.to_frame("id"), ["id"])
        query = sql.SQL("SELECT t.id, t.xmin::text FROM {} AS t JOIN wanted_id USING (id) ORDER BY t.id").format(
            self.table
        )
        rows = self.connection.execute(query + sql.SQL(" FOR NO KEY UPDATE OF t SKIP LOCKED")).fetchall()
        schema = {"id": pl.Int64(), "xmin": pl.String()}
        locked = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("xmin").cast(pl.Int64))
        if locked.height == len(ids):
            return locked, ids.clear()
        there = pl.Series("id", [row[0] for row in self.connection.execute(query)], dtype=pl.Int64)
        return locked, there.filter(~there.is_in(locked.get_column("id").implode()))

    # --- a part, inside its transaction -------------------------------------------------------------------------------

    def _write_part(self, part: Part, load_id: int, fast: bool) -> PartOutcome:
        if self.run_context.dry:
            # Temporary tables last as long as the one transaction that all parts are in.
            self.connection.execute("DISCARD TEMP")
        if fast:
            self._require_absent(part)
        decision = None if fast else self._decided(part)
        batch_id = self.open_batch(part, load_id)
        reach("load.batch_opened")
        if decision is None:
            outcome, found = self._copy_rows(part, batch_id), part.problems
            if not self.first_load:
                self.findings.write_conflicts(part, pl.DataFrame(schema=CONFLICT), batch_id)
        else:
            found = pl.concat([part.problems, problems_of(decision.yields, decision.fates)])
            outcome = self._outcome(decision)
            self._book(part, decision, batch_id)
        self.findings.write_rejected(part, found, first=self.first_load and fast)
        reach("load.after_rejected")
        if decision is not None:
            # Last, so that rows of the application are locked no longer than it takes to write them.
            self._merge_rows(part, decision, batch_id)
            if self.run_context.dry:
                outcome.samples = samples_of(part, decision.yields, decision.fates, decision.current)
        outcome.clean = outcome.clean and found.is_empty()
        if self.subset:
            outcome.taken = taken_of(part, found)
        self.close_batch(batch_id, outcome)
        return outcome

    def open_batch(self, part: Part, load_id: int) -> int:
        names = [column.name for column in part.columns]
        filled = filled_by_database(self.connection, self.live.oid, names) if self.target.writes == "insert" else None
        return self._number(
            "INSERT INTO migration.batch (load_id, part, bucket_low, bucket_high, digest, columns, filled)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id",
            [load_id, part.name, *part.buckets, part.digest, names, filled],
        )

    def close_batch(self, batch_id: int, outcome: PartOutcome) -> None:
        self.connection.execute(
            "UPDATE migration.batch SET witness = %s, clean = %s, inserted_ids = %s::int8multirange,"
            " rows_inserted = %s, rows_updated = %s, committed_at = clock_timestamp() WHERE id = %s",
            [
                json.dumps(outcome.witness),
                outcome.clean,
                outcome.inserted_ids,
                outcome.inserted,
                outcome.updated,
                batch_id,
            ],
        )
        reach("load.batch_closed")

    # --- the fast path: nothing of the part is there ------------------------------------------------------------------

    def _require_absent(self, part: Part) -> None:
        if not self.first_load:
            self.findings.stage_keys(part)
            known = self._number(
                "SELECT count(*) FROM (SELECT 1 FROM migration.mapping_entry AS entry WHERE flow_id = ANY(%s) AND"
                " (bucket BETWEEN %s AND %s OR EXISTS (SELECT 1 FROM staged_key WHERE (staged_key.flow_id,"
                " staged_key.source_key) = (entry.flow_id, entry.source_key))) LIMIT 1) AS found",
                [list(self.flows.values()), *part.buckets],
            )
            if known:
                raise SlowPathNeeded
        if self.target.natural_key and self._has_some_key(part):
            raise SlowPathNeeded

    def _has_some_key(self, part: Part) -> bool:
        """Whether the target has rows with the leading columns of a natural key of the part."""
        leading: list[str] = []
        for name in self.target.natural_key:
            leading.append(name)
            keys = part.rows.select(leading).unique()
            if keys.height >= PROBED_KEYS:
                break
        keys = keys.drop_nulls()
        columns = [self.target.column(name) for name in leading]
        if any(column.kind.is_array for column in columns):
            return True
        arrays = sql.SQL(", ").join(
            sql.SQL("%s::" + array_type(column, self.live.columns[column.name].plain_type)) for column in columns
        )
        query = sql.SQL("SELECT 1 FROM unnest({}) AS wanted ({}) JOIN {} AS present USING ({}) LIMIT 1").format(
            arrays, _names(leading), self.table, _names(leading)
        )
        # The planner knows nothing of the arrays; the unique index answers in no time.
        self.connection.execute("SET LOCAL enable_hashjoin = off")
        self.connection.execute("SET LOCAL enable_mergejoin = off")
        found = self.connection.execute(query, [keys.get_column(name).to_list() for name in leading]).fetchone()
        self.connection.execute("SET LOCAL enable_hashjoin TO DEFAULT")
        self.connection.execute("SET LOCAL enable_mergejoin TO DEFAULT")
        return found is not None

    def _copy_rows(self, part: Part, batch_id: int) -> PartOutcome:
        ids = self.reserve_ids(part.rows.height)
        names = [column.name for column in part.columns]
        reach("load.before_copy")
        self._copy(part.rows.select(ids.alias("id"), *names))
        reach("load.after_copy")
        copy_entries(self.connection, new_entries(part.links, ids, part.rows.get_column("_hash")), batch_id)
        reach("load.after_mapping")
        return PartOutcome(
            inserted=part.rows.height,
            inserted_ids=multirange(ids),
            witness={self.own_xmin(): part.rows.height} if part.rows.height else {},
            samples=samples_of_copied(part) if self.run_context.dry else [],
        )

    # --- the slow path: some of it may be there -----------------------------------------------------------------------

    def _decided(self, part: Part) -> Decision:
        """What becomes of the rows of a part; SlicesNeeded where it would keep rows of the application locked."""
        if self.xmins is None:
            self.xmins = self._xmins()
        decision = self.decide(part)
        if decision.values.height and decision.writes > self._whole_updates and not self.run_context.dry:
            raise SlicesNeeded(decision)
        return decision

    def decide(self, part: Part) -> Decision:
        self.findings.stage_keys(part)
        stored = read_links(self.connection, self.findings.scope(part))
        current = self.current_rows(part, stored)
        yields = yields_of(part.links)
        self._require_unique(part, yields)
        fates, values = self.fates(part, yields, stored, current)
        sliced = self._sliced_of(yields, fates).get_column("target_id").unique()
        again = (pl.col("fate") == "update") & pl.col("target_id").is_in(sliced.implode())
        if fates.select(again.any()).item():
            # Somebody changed what was overwritten a moment ago.
            fates = fates.with_columns(
                pl.when(again).then(pl.lit("conflict")).otherwise("fate").alias("fate"),
                pl.when(again).then(pl.lit(CHANGED)).otherwise("cause").alias("cause"),
            )
            values = values.filter(~pl.col("id").is_in(sliced.implode()))
        inserts = fates.filter(pl.col("fate") == "insert").select("_row")
        inserts = inserts.with_columns(self.reserve_ids(inserts.height).alias("id"))
        fates = (
            fates.join(inserts, on="_row", how="left", maintain_order="left")
            .with_columns(pl.coalesce("id", "target_id").alias("target_id"))
            .drop("id")
        )
        given = given_by(yields, fates, stored, identity_of(self.target))
        return Decision(stored, current, yields, fates, values, inserts, given, relink(given, yields, stored))

    def _sliced_of(self, yields: pl.DataFrame, fates: pl.DataFrame) -> pl.DataFrame:
        """The fates of rows that slices updated."""
        return fates.join(yields.join(self._sliced, on=PLACE, how="semi"), on="_row", how="semi")

    def fates(
        self,
        part: Part,
        yields: pl.DataFrame,
        stored: pl.DataFrame,
        current: pl.DataFrame,
        numbers: pl.Series | None = None,
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The fates of the rows of a part, or of some by their numbers; `id` and columns of those that are updated."""
        names = [column.name for column in part.columns]
        chosen = pl.lit(True) if numbers is None else pl.col("_row").is_in(numbers.implode())
        rows = part.rows.filter(chosen)
        if self.target.writes == "update":
            filled = update_fates(part.columns, rows, yields, stored, current, overwrite=self.overwrite)
            return filled.fates, filled.values
        fates = insert_fates(
            self.target,
            part.columns,
            part.comparable.filter(chosen),
            yields,
            stored,
            current,
            overwrite=self.overwrite,
        )
        updates = fates.filter(pl.col("fate") == "update").select("_row", pl.col("target_id").alias("id"))
        return fates, updates.join(rows.select("_row", *names), on="_row").drop("_row")

    def _book(self, part: Part, decision: Decision, batch_id: int) -> None:
        """What the mapping and the lists say of a part that was compared."""
        replace_entries(self.connection, grouped_entries(decision.mapping.entries), batch_id)
        reach("load.after_mapping")
        delete_entries(self.connection, decision.mapping.removed, batch_id)
        reach("load.after_removal")
        self.findings.write_vanished(part, decision.given.vanished, decision.given.yielded, batch_id)
        reach("load.after_vanished")
        self.findings.write_conflicts(part, conflicts_of(decision.yields, decision.fates), batch_id)
        reach("load.after_conflicts")

    def _merge_rows(self, part: Part, decision: Decision, batch_id: int) -> None:
        """Write what differs from what is there."""
        reach("load.before_merge")
        if self.run_context.dry:
            for some in decision.values.iter_slices(slices.SLICE_ROWS):
                self._try_update(some, batch_id)
        elif decision.values.height:
            self.limit_waiting()
            self.update(decision.values, batch_id)
        if decision.inserts.height:
            names = [column.name for column in part.columns]
            rows = decision.inserts.join(part.rows.select("_row", *names), on="_row", maintain_order="left")
            reach("load.before_copy")
            self._copy(rows.select("id", *names))
            reach("load.after_copy")

    def _try_update(self, values: pl.DataFrame, batch_id: int) -> None:
        """For a dry run: what somebody has locked is not tried, and what is tried is locked for a moment only."""
        with self.connection.transaction(force_rollback=True):
            self.limit_waiting()
            locked, _ = self.lock(values.get_column("id"))
            self.update(values.join(locked, on="id", how="semi"), batch_id)
            self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def _copy(self, rows: pl.DataFrame) -> None:
        """New rows into the table; of a dry run they do not stay, and what a commit would say of them is asked."""
        with rolled_back_if(self.connection, self.run_context.dry):
            copy_in(self.connection, self.table, rows)
            if self.run_context.dry:
                self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def _outcome(self, decision: Decision) -> PartOutcome:
        """What a part will have done when it is written."""
        fates, current, stored, xmins = decision.fates, decision.current, decision.stored, self.xmins or {}
        updates, inserts = decision.values.select("id"), decision.inserts
        counts = dict(fates.group_by("fate").len().iter_rows())
        updated = current.join(updates, on="id", how="semi")
        overwritten = dict(updated.group_by(pl.col("xmin").cast(pl.String)).len().iter_rows())
        watched = pl.concat([stored.get_column("target_id"), fates.get_column("target_id").drop_nulls()]).unique()
        left = current.join(updates, on="id", how="anti").filter(pl.col("id").is_in(watched.implode()))
        carried = left.get_column("xmin").cast(pl.String).unique().to_list()
        witness = {xmin: xmins.get(xmin, 0) - overwritten.get(xmin, 0) for xmin in carried}
        written = updates.height + inserts.height
        sliced = self._sliced_of(decision.yields, fates).filter(pl.col("fate") == "unchanged").height
        return PartOutcome(
            inserted=counts.get("insert", 0),
            updated=counts.get("update", 0),
            unchanged=counts.get("unchanged", 0) - sliced,
            sliced=sliced,
            adopted=counts.get("adopt", 0),
            conflicts=counts.get("conflict", 0),
            inserted_ids=multirange(inserts.get_column("id")),
            witness=witness | ({self.own_xmin(): written} if written else {}),
            overwritten=overwritten,
            # A row that changed since the load began carries a transaction that was not counted then.
            clean=not counts.get("conflict") and all(xmin in xmins for xmin in carried),
        )

    def _require_unique(self, part: Part, yields: pl.DataFrame) -> None:
        if self.target.writes == "update":
            key = ["id", "part"]
            parts = yields.group_by("_row").agg(pl.col("part").first())
            rows = part.rows.select("_row", "id").join(parts, on="_row")
        else:
            key = list(self.target.natural_key)
            rows = part.rows if self.target.nulls_equal or not key else part.rows.drop_nulls(key)
        if not key:
            return
        twice = rows.filter(pl.struct(key).is_duplicated()).select(key).head(1)
        if twice.height:
            raise StructureError(
                f"two prepared rows have the same ({', '.join(key)}): {twice.row(0)}",
                where=f"part {part.name} of {'/'.join(self.prepared.key)}",
                remedy="this is a fault of the flow, please report it",
            )

    def current_rows(
        self, part: Part, stored: pl.DataFrame, *, ids: pl.DataFrame | None = None, keys: pl.DataFrame | None = None
    ) -> pl.DataFrame:
        """The rows of the target that have a key of the part, or that its source rows led to before.

        Or only those of some `ids` (a column `id`), and of some `keys` (the rows of the part that have them).
        """
        known = known_rows(stored)
        fills = self.target.writes == "update"
        written_columns = {} if fills else self._written_columns(known.get_column("batch_id").unique())
        needed = {column.name: column for column in part.columns}
        for columns in written_columns.values():
            needed |= {column.name: column for column in columns or ()}
        if ids is None:
            led_to = stored.select(pl.col("target_id").alias("id"))
            ids = pl.concat([led_to, part.rows.select("id")]) if fills else led_to
        self._stage("staged_id", ids.unique(), ["id"])
        found: sql.Composable = sql.SQL("SELECT id FROM staged_id")
        keys = part.rows if keys is None else keys
        key = list(self.target.natural_key) if self.target.writes == "insert" and keys.height else []
        if key:
            self._stage("staged_natural_key", keys.select(key), key)
            found += sql.SQL(
                " UNION SELECT present.id FROM {} AS present JOIN staged_natural_key AS wanted ON {}"
            ).format(self.table, sql.SQL(" AND ").join(self._same_key(name) for name in key))
        columns = list(needed.values())
        current = copy_out(
            self.connection,
            sql.SQL("SELECT t.id, t.xmin::text, {} FROM {} AS t WHERE t.id IN ({})").format(
                sql.SQL(", ").join(readable(column, "t") for column in columns), self.table, found
            ),
            pl.Schema({"id": pl.Int64(), "xmin": pl.Int64(), **readable_schema(columns)}),
        )
        raw = current.select(pl.col(c.name).alias(f"{c.name}@raw") for c in columns if c.kind.is_json)
        current = as_prepared(current, columns).hstack(raw)
        if fills:
            return current
        current = with_ownership(current, part.columns, known, written_columns)
        return current if current.get_column("known").all() else self._with_former_rows(current)

    def _with_former_rows(self, current: pl.DataFrame) -> pl.DataFrame:
        """Rows that earlier batches made and the mapping knows no longer are ours too: their source row moved away."""
        of_target = sql.SQL(
            "FROM migration.batch JOIN migration.load ON load.id = batch.load_id"
            " WHERE (load.system, load.target_table) = ({}, {})"
        ).format(*map(sql.Literal, self.place[:2]))
        of_model = sql.SQL("{} AND load.model = {}").format(of_target, sql.Literal(self.target.model))
        made = copy_out(
            self.connection,
            sql.SQL(
                "SELECT lower(ids), upper(ids) FROM (SELECT unnest(batch.inserted_ids) AS ids {}) AS made ORDER BY 1"
            ).format(of_model),
            pl.Schema({"low": pl.Int64(), "beyond": pl.Int64()}),
        )
        own_xmins = copy_out(
            self.connection,
            sql.SQL(
                "SELECT xid::xid::text {} AND pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
                " - xid::text::bigint < {}"
            ).format(of_target, sql.Literal(XID_HORIZON)),
            pl.Schema({"xmin": pl.Int64()}),
        ).to_series()
        return with_former_rows(current, made, own_xmins)

    def _same_key(self, name: str) -> sql.Composable:
        nullable = self.target.nulls_equal and self.target.column(name).nullable
        same = (
            "(present.{0} = wanted.{0} OR (present.{0} IS NULL AND wanted.{0} IS NULL))"
            if nullable
            else ("present.{0} = wanted.{0}")
        )
        return sql.SQL(same).format(sql.Identifier(name))

    def _stage(self, name: str, frame: pl.DataFrame, columns: list[str]) -> None:
        """Put rows into a temporary table that has columns of the target, without what a domain asks of them."""
        plain = sql.SQL(", ").join(
            sql.SQL("{0}::{1} AS {0}").format(sql.Identifier(column), sql.SQL(self.live.columns[column].plain_type))
            for column in columns
        )
        self.connection.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                sql.Identifier(name), plain, self.table
            )
        )
        copy_in(self.connection, sql.Identifier(name), frame.select(columns))
        self.connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(name)))

    def _written_columns(self, batch_ids: pl.Series) -> dict[int, Sequence[TargetColumn] | None]:
        """The columns that batches wrote; None where the target has one of them no longer."""
        known = {column.name: column for column in self.target.columns if column.name in self.live.columns}
        rows = self.connection.execute(
            "SELECT id, columns FROM migration.batch WHERE id = ANY(%s)", [batch_ids.to_list()]
        )
        return {
            batch: [known[name] for name in names] if all(name in known for name in names) else None
            for batch, names in rows
        }

    def update(self, values: pl.DataFrame, batch_id: int) -> None:
        """Write the columns of rows that are there, and what they held into the journal."""
        if values.is_empty():
            return
        names = [name for name in values.columns if name != "id"]
        self._stage("new_value", values, ["id", *names])
        before = sql.SQL(" || ").join(
            sql.SQL("CASE WHEN {} THEN jsonb_build_object({}, {}) ELSE '{{}}' END").format(
                differs(column, "t", "new"), sql.Literal(column.name), noted(column, "t")
            )
            for column in map(self.target.column, names)
        )
        self.connection.execute(
            sql.SQL(
                "INSERT INTO migration.journal_entry (batch_id, target_id, before, former_xmin)"
                " SELECT {}, t.id, {}, t.xmin FROM {} AS t JOIN new_value AS new USING (id)"
            ).format(sql.Literal(batch_id), before, self.table)
        )
        reach("load.after_journal")
        assigned = sql.SQL(", ").join(sql.SQL("{0} = new.{0}").format(sql.Identifier(name)) for name in names)
        done = self.connection.execute(
            sql.SQL("UPDATE {} AS t SET {} FROM new_value AS new WHERE t.id = new.id").format(self.table, assigned)
        )
        if done.rowcount != values.height:
            raise psycopg.errors.SerializationFailure("rows went away while they were updated")
        reach("load.after_update")

    def own_xmin(self) -> str:
        found = self.connection.execute("SELECT pg_current_xact_id()::xid::text").fetchone()
        return str(found[0]) if found else ""

    def reserve_ids(self, count: int) -> pl.Series:
        """New ids from the sequence of the table, ascending; those that a row has already are passed over.

        A dry run takes none: a sequence is not rolled back. Its rows have ids below zero for the moment.
        """
        if self.run_context.dry:
            self._dry_ids -= count
            return pl.int_range(self._dry_ids, self._dry_ids + count, eager=True, dtype=pl.Int64).alias("id")
        reserved = pl.Series("id", [], dtype=pl.Int64)
        while len(reserved) < count:
            rows = self.connection.execute(
                "SELECT min(id), max(id), CASE WHEN max(id) - min(id) + 1 <> count(*) THEN array_agg(id) END"
                " FROM (SELECT nextval(%s::regclass) AS id FROM generate_series(1, %s)) AS reserved",
                [self.live.id_sequence, count - len(reserved)],
            ).fetchone()
            low, high, scattered = rows or (0, -1, None)
            fresh = (
                pl.Series("id", scattered, dtype=pl.Int64)
                if scattered
                else pl.int_range(int(low), int(high) + 1, eager=True, dtype=pl.Int64).alias("id")
            )
            query = sql.SQL("SELECT id FROM {} WHERE id BETWEEN %s AND %s").format(self.table)
            taken = [int(row[0]) for row in self.connection.execute(query, [low, high])]
            if taken:
                fresh = fresh.filter(~fresh.is_in(taken))
            reserved = pl.concat([reserved, fresh])
        return reserved.sort()


def multirange(ids: pl.Series) -> str:
    """Ids as PostgreSQL writes an int8multirange."""
    runs = (
        ids.alias("id")
        .sort()
        .to_frame()
        .group_by((pl.col("id") - pl.int_range(pl.len())).alias("run"))
        .agg(pl.col("id").min().alias("low"), pl.col("id").max().alias("high"))
        .sort("low")
    )
    return "{" + ",".join(f"[{low},{high}]" for low, high in runs.select("low", "high").iter_rows()) + "}"


def _names(columns: list[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
