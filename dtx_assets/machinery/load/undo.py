"""The undo of a run: what it inserted is deleted, what it updated restored, batch by batch, the last one first.

What someone changed since, or may have changed, or refers to, is left as it is and listed. Each batch is one
transaction, so an undo that was killed goes on where it stopped.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError, StructureError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.load.diff import UNIT, identity_of, known_rows, restored_document, units_as_written
from dtx_assets.machinery.load.entries import copy_entries, grouped_entries, read_links
from dtx_assets.machinery.load.proof import KEPT, REFERRED_TO, NotAlone, proved, require_counts
from dtx_assets.machinery.load.references import family_of, references_to, rows_alone
from dtx_assets.machinery.load.runs import prepare_bookkeeping, target_lock
from dtx_assets.machinery.load.unwritten import maybe_written_since
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told, words_of
from dtx_assets.machinery.postgres.content import (
    as_prepared,
    content_hash,
    copy_in,
    copy_out,
    readable,
    readable_schema,
)
from dtx_assets.machinery.postgres.ddl import live_target, qualified

CHANGED_SINCE = "someone changed it since"
DELETED_SINCE = "someone deleted it since"
MAYBE_CHANGED_SINCE = "someone may have written in {} since"
TRIES = 4
XIDS_IN_USE = 1 << 31
"""The number that a row carries for its transaction comes again after twice as many."""
LAST_RUN = "last"
"""Names the last run that wrote something and is not undone."""
WROTE = (
    "(rows_inserted + rows_updated > 0"
    " OR EXISTS (SELECT 1 FROM migration.former_entry WHERE former_entry.batch_id = batch.id))"
)
"""Whether a batch changed the target, or what earlier ones had noted."""

RemoveFile = Callable[[str, str], bool]
"""Takes an object key and the SHA-256 that was sent; whether the object was there with it, and is removed."""

LEFT = pl.Schema({"target_id": pl.Int64(), "part": pl.String(), "cause": pl.String()})


@dataclass(frozen=True)
class LeftRow:
    target_table: str
    target_id: int
    part: str
    cause: str


@dataclass
class UndoSummary:
    """What an undo did, in target rows (units of rows of others); `runs` in the order in which they were undone."""

    runs: list[str]
    deleted: dict[str, int] = field(default_factory=dict)
    restored: dict[str, int] = field(default_factory=dict)
    left: list[LeftRow] = field(default_factory=list)
    files_removed: int = 0
    files_in_use: int = 0
    deactivated: list[str] = field(default_factory=list)
    """Models whose activation is taken back."""

    @property
    def did_nothing(self) -> bool:
        done = (*self.deleted.values(), *self.restored.values(), self.files_removed, self.files_in_use)
        return not (any(done) or self.left or self.deactivated)


def undo_run(
    connection_url: str,
    system: str,
    targets: Sequence[TargetTable],
    run_id: str,
    *,
    with_later: bool = False,
    dry: bool = False,
    remove_file: RemoveFile | None = None,
    wait_seconds: float = 60.0,
    waiting: Callable[[str], None] | None = None,
) -> UndoSummary:
    """Undo a run, `with_later` after those that built on it; a dry run does it in a transaction that is rolled back.

    ConfigurationError where the run is unknown, LoadError where later runs built on it.
    """
    with (
        refusals_told(),
        connect(connection_url) as connection,
        connection.transaction(force_rollback=True) if dry else nullcontext(),
    ):
        require_counts(connection)
        prepare_bookkeeping(connection)
        runs = runs_to_undo(connection, system, run_id)
        if len(runs) > 1 and not with_later:
            raise LoadError(
                f"later runs built on {run_id}: {', '.join(runs[:-1])}",
                where="migration.load",
                remedy="undo those first, or say --with-later to undo them too, the last one first",
            )
        summary = UndoSummary(runs)
        for undone in runs:
            _undo(connection, system, targets, undone, dry, wait_seconds, waiting, summary)
            _remove_files(connection, targets, undone, None if dry else remove_file, summary)
            activated = connection.execute(
                "DELETE FROM migration.activation WHERE run_id = %s RETURNING model", [undone]
            ).fetchall()
            summary.deactivated += sorted(str(row[0]) for row in activated)
            reach("undo.finished")
            connection.execute(
                "UPDATE migration.run SET status = 'rolled back', finished_at = now() WHERE run_id = %s", [undone]
            )
    return summary


def runs_to_undo(connection: Connection, system: str, run_id: str) -> list[str]:
    """The run and those that built on it, the last one first."""
    known = [
        str(row[0])
        for row in connection.execute(
            "SELECT run_id FROM migration.run WHERE system = %s ORDER BY started_at DESC", [system]
        )
    ]
    matching = [known_id for known_id in known if known_id.startswith(run_id)] if run_id else []
    if run_id in known:
        matching = [run_id]
    elif run_id == LAST_RUN:
        matching = _last_run(connection, system)
        if not matching:
            raise ConfigurationError(
                f"there is no run that {LAST_RUN!r} could name: every run that wrote something is undone, or none did",
                where="migration.run",
                remedy="nothing has to be undone",
            )
    if len(matching) != 1:
        raise ConfigurationError(
            f"{'several runs begin' if matching else 'no run of this target database begins'} with {run_id!r}",
            where="migration.run",
            remedy=f"one of: {', '.join((matching or known)[:5])}" if known else "nothing was loaded here yet",
        )
    runs = set(matching)
    while True:
        later = {
            str(row[0])
            for row in connection.execute(
                "SELECT DISTINCT later.run_id FROM migration.load AS mine JOIN migration.load AS later"  # noqa: S608
                " ON (later.system, later.target_table) = (mine.system, mine.target_table) AND later.id > mine.id"
                " JOIN migration.batch ON batch.load_id = later.id"
                f" WHERE mine.run_id = ANY(%s) AND batch.undone_at IS NULL AND {WROTE}",
                [list(runs)],
            )
        }
        if later <= runs:
            return [known_id for known_id in known if known_id in runs]
        runs |= later


def _last_run(connection: Connection, system: str) -> list[str]:
    """The last run that wrote rows, sent files or activated a target; one whose undo was killed as well."""
    rows = connection.execute(
        "SELECT run_id FROM migration.run WHERE system = %s AND ("  # noqa: S608
        " EXISTS (SELECT 1 FROM migration.load JOIN migration.batch ON batch.load_id = load.id"
        "  WHERE load.run_id = run.run_id AND load.status <> 'rolled back'"
        f"  AND ({WROTE} OR batch.undone_at IS NOT NULL))"
        " OR EXISTS (SELECT 1 FROM migration.activation WHERE activation.run_id = run.run_id)"
        " OR EXISTS (SELECT 1 FROM migration.sent_file WHERE sent_file.run_id = run.run_id)"
        ") ORDER BY started_at DESC LIMIT 1",
        [system],
    )
    return [str(row[0]) for row in rows]


def _undo(
    connection: Connection,
    system: str,
    targets: Sequence[TargetTable],
    run_id: str,
    dry: bool,
    wait_seconds: float,
    waiting: Callable[[str], None] | None,
    summary: UndoSummary,
) -> None:
    declared = {(target.name, target.model): target for target in targets}
    loads = connection.execute(
        "SELECT id, target_table, model FROM migration.load WHERE run_id = %s AND status <> 'rolled back'"
        " ORDER BY id DESC",
        [run_id],
    ).fetchall()
    for load_id, table, model in loads:
        target = declared.get((table, model))
        if target is None:
            raise StructureError(
                f"run {run_id} loaded {table} ({model}), which this migration does not declare",
                remedy="use the version, and the feeds, that loaded it",
            )
        with target_lock(connection, system, table, wait_seconds=wait_seconds, waiting=waiting):
            undo = _LoadUndo(connection, system, target, int(load_id), run_id, dry, summary)
            undo.run()
            reach("undo.after_settling")


def _remove_files(
    connection: Connection,
    targets: Sequence[TargetTable],
    run_id: str,
    remove_file: RemoveFile | None,
    summary: UndoSummary,
) -> None:
    for target in targets:
        if target.file_columns is None or live_target(connection, target) is None:
            continue
        key = sql.Identifier(target.file_columns[0])
        files = connection.execute(
            sql.SQL(
                "SELECT object_key, sha256, EXISTS (SELECT 1 FROM {table} AS t WHERE t.{key} = file.object_key)"
                " OR EXISTS (SELECT 1 FROM migration.sent_file AS other"
                " WHERE (other.target_table, other.object_key) = (file.target_table, file.object_key)"
                " AND other.run_id <> file.run_id)"
                " FROM migration.sent_file AS file WHERE (run_id, target_table) = (%s, %s)"
            ).format(table=qualified(target), key=key),
            [run_id, target.name],
        ).fetchall()
        for object_key, sha256, in_use in files:
            if in_use:
                summary.files_in_use += 1
            elif remove_file is None or remove_file(str(object_key), str(sha256)):
                summary.files_removed += 1
                reach("undo.file_removed")
            connection.execute(
                "DELETE FROM migration.sent_file WHERE (run_id, target_table, object_key) = (%s, %s, %s)",
                [run_id, target.name, object_key],
            )


class _LoadUndo:
    """The undo of one load of one target."""

    def __init__(
        self,
        connection: Connection,
        system: str,
        target: TargetTable,
        load_id: int,
        run_id: str,
        dry: bool,
        summary: UndoSummary,
    ) -> None:
        self.connection, self.system, self.target = connection, system, target
        self.load_id, self.run_id = load_id, run_id
        self.dry, self.summary = dry, summary
        self.table = qualified(target)
        live = live_target(connection, target)
        if live is None:
            raise StructureError(
                "the table is gone, so nothing in it can be undone",
                where=f"table {target.name} of the target database",
                remedy="bring the table back, or restore from a backup",
            )
        self.oid, self.live_columns = live.oid, frozenset(live.columns)
        self.family = family_of(connection, live.oid)
        self.rows = sql.SQL("{}{}").format(rows_alone(live.kind), self.table)
        self.flows = [
            int(row[0])
            for row in connection.execute(
                "SELECT id FROM migration.flow WHERE (system, target_table, model) = (%s, %s, %s)",
                [system, target.name, target.model],
            )
        ]

    def run(self) -> None:
        batches = self.connection.execute(
            "SELECT id, columns FROM migration.batch WHERE load_id = %s AND undone_at IS NULL ORDER BY id DESC",
            [self.load_id],
        ).fetchall()
        self.connection.execute("SELECT brin_summarize_new_values('migration.mapping_entry_batch'::regclass)")
        for batch_id, names in batches:
            self._batch(int(batch_id), names)
        with self.connection.transaction():
            for statement in (
                # Its own load is the last that has them in the history.
                "UPDATE migration.rejected_entry SET closed_by = %(load)s + 1"
                " WHERE opened_by = %(load)s AND flow_id = ANY(%(flows)s) AND closed_by IS NULL",
                "UPDATE migration.rejected_entry SET closed_by = NULL"
                " WHERE closed_by = %(load)s AND flow_id = ANY(%(flows)s)",
                "DELETE FROM migration.conflict_entry WHERE since = %(load)s",
                "DELETE FROM migration.vanished_entry WHERE since = %(load)s",
                "DELETE FROM migration.accounting_entry WHERE run_id = %(run)s AND flow_id = ANY(%(flows)s)",
                "UPDATE migration.load SET status = 'rolled back' WHERE id = %(load)s",
            ):
                self.connection.execute(
                    statement.encode(), {"load": self.load_id, "flows": self.flows, "run": self.run_id}
                )

    def _batch(self, batch_id: int, names: Sequence[str]) -> None:
        for tries_left in reversed(range(TRIES)):
            if not self.dry:
                self.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            try:
                with self.connection.transaction():
                    done = self._undone(batch_id, names)
                    reach("undo.before_commit")
                reach("undo.after_commit")
                break
            except (
                psycopg.errors.SerializationFailure,
                psycopg.errors.DeadlockDetected,
                psycopg.errors.ForeignKeyViolation,
                psycopg.errors.LockNotAvailable,
            ) as error:
                # Somebody wrote at the same time: look again.
                if not tries_left:
                    raise LoadError(
                        f"a batch of {self.target.name} cannot be undone: {words_of(error)}",
                        where=f"table {error.diag.table_name or self.target.name}",
                        remedy="what was undone before stays so; run the undo again when the target is at rest",
                    ) from None
            finally:
                if not self.connection.closed and not self.dry:
                    self.connection.isolation_level = None
        deleted, restored, left = done
        name = self.target.name
        self.summary.deleted[name] = self.summary.deleted.get(name, 0) + deleted
        self.summary.restored[name] = self.summary.restored.get(name, 0) + restored
        self.summary.left += [LeftRow(name, *row) for row in left.iter_rows()]

    def _undone(self, batch_id: int, names: Sequence[str]) -> tuple[int, int, pl.DataFrame]:
        of_batch = sql.SQL("entry.batch_id = {} AND entry.flow_id = ANY ({}::smallint[])").format(
            sql.Literal(batch_id), sql.Literal(self.flows)
        )
        stored = read_links(self.connection, of_batch)
        declared = {column.name: column for column in self.target.columns}
        columns = [declared[name] for name in names if name in declared and name in self.live_columns]
        whole = len(columns) == len(names)
        if self.target.writes == "update":
            restored, left = self._restore_units(batch_id, columns, stored)
            deleted = 0
        else:
            current = self._current(batch_id, columns, names)
            written = known_rows(stored).select(pl.col("target_id").alias("id"), "written")
            as_written = (content_hash(columns) == pl.col("written")).fill_null(False) if whole else pl.lit(False)
            current = current.join(written, on="id", how="left").with_columns(
                (pl.col("own") | as_written).alias("same")
            )
            deleted, kept = self._delete(current.filter("inserted"))
            restored, changed = self._restore_rows(batch_id, current.filter(~pl.col("inserted")))
            left = pl.concat([kept, changed])
        self._restore_bookkeeping(batch_id, stored, left)
        if left.height:
            copy_in(
                self.connection,
                sql.Identifier("migration", "left_entry"),
                left.with_columns(
                    pl.lit(self.run_id).alias("run_id"), pl.lit(self.target.name).alias("target_table")
                ).select("run_id", "target_table", *LEFT.names()),
            )
        return deleted, restored, left

    def _current(self, batch_id: int, columns: Sequence[TargetColumn], names: Sequence[str]) -> pl.DataFrame:
        """The rows that a batch inserted or updated, as they are: `id`, `inserted`, the columns.

        `own`: nobody else wrote the row since. `maybe_written`: else, the columns that the batch did not write and that
        do not hold what the database filled them with.
        """
        [[xid, trusted, filled]] = self.connection.execute(
            # In a database that was dumped and restored, the numbers of transactions mean others.
            "SELECT xid::xid::text, xmin = xid::xid AND pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
            " - xid::text::bigint < %s, filled::text FROM migration.batch WHERE id = %s",
            [XIDS_IN_USE, batch_id],
        ).fetchall()
        frame = copy_out(
            self.connection,
            sql.SQL(
                "SELECT t.id, wrote.inserted::int, written_by.own::int,"
                " CASE WHEN written_by.own OR NOT wrote.inserted THEN '' ELSE {maybe_written} END, {values} FROM ("
                " SELECT lower(ids) AS low, upper(ids) AS beyond, true AS inserted"
                " FROM (SELECT unnest(inserted_ids) AS ids FROM migration.batch WHERE id = {batch}) AS made"
                " UNION ALL SELECT target_id, target_id + 1, false FROM migration.journal_entry"
                " WHERE batch_id = {batch}) AS wrote"
                " JOIN {rows} AS t ON t.id >= wrote.low AND t.id < wrote.beyond"
                " LEFT JOIN (SELECT DISTINCT ON (target_id) target_id, restored_xmin FROM migration.journal_entry"
                "  JOIN migration.batch ON batch.id = batch_id JOIN migration.load ON load.id = load_id"
                "  WHERE (system, target_table) = ({system}, {table}) AND former_xmin = {xid}::xid"
                "  AND restored_xmin IS NOT NULL ORDER BY target_id, batch_id) AS back ON back.target_id = t.id"
                " CROSS JOIN LATERAL (SELECT {trusted} AND (t.xmin = {xid}::xid OR coalesce(t.xmin = restored_xmin,"
                "  false))) AS written_by (own)"
            ).format(
                maybe_written=maybe_written_since(self.connection, self.oid, names, filled),
                values=_values(columns),
                rows=self.rows,
                batch=sql.Literal(batch_id),
                system=sql.Literal(self.system),
                table=sql.Literal(self.target.name),
                trusted=sql.Literal(bool(trusted)),
                xid=sql.Literal(str(xid)),
            ),
            pl.Schema(
                {
                    "id": pl.Int64(),
                    "inserted": pl.Int64(),
                    "own": pl.Int64(),
                    "maybe_written": pl.String(),
                    **_schema(columns),
                }
            ),
        )
        return as_prepared(frame.with_columns(pl.col("inserted", "own").cast(pl.Boolean)), columns)

    def _delete(self, inserted: pl.DataFrame) -> tuple[int, pl.DataFrame]:
        """Deletes those that are as they were written and that nothing refers to; the others (LEFT)."""
        untouched = pl.col("same") & (pl.col("maybe_written") == "")
        cause = pl.when("same").then(pl.format(MAYBE_CHANGED_SINCE, "maybe_written")).otherwise(pl.lit(CHANGED_SINCE))
        changed = inserted.filter(~untouched).select(
            pl.col("id").alias("target_id"), pl.lit("").alias("part"), cause.alias("cause")
        )
        ids = inserted.filter(untouched).get_column("id")
        kept = [changed.cast(LEFT)]
        references = references_to(self.connection, self.rows, self.family)
        again = True
        while again:
            again = False
            for reference in references:
                referred = reference.referred(self.connection, ids) if len(ids) else ids
                if len(referred):
                    kept.append(_left(referred, REFERRED_TO.format(reference.table)))
                    ids = ids.filter(~ids.is_in(referred.implode()))
                    # What these refer to themselves is to be left too.
                    again = any(each.own for each in references)
        done, refused = proved(self.connection, self.family, ids.to_list(), self._deleted)
        return len(done), pl.concat([*kept, _refused(refused)])

    def _deleted(self, ids: list[int]) -> int:
        done = self.connection.execute(sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(self.rows), [ids])
        if done.rowcount != len(ids):
            raise NotAlone(KEPT)
        return len(ids)

    def _restore_rows(self, batch_id: int, updated: pl.DataFrame) -> tuple[int, pl.DataFrame]:
        """Gives rows that were updated what they held before; those that cannot have it (LEFT)."""
        journal = self.connection.execute(
            "SELECT target_id, before FROM migration.journal_entry WHERE batch_id = %s", [batch_id]
        ).fetchall()
        there = set(updated.get_column("id"))
        gone = pl.Series("id", [row[0] for row in journal if row[0] not in there], dtype=pl.Int64)
        changed = updated.filter(~pl.col("same")).get_column("id")
        ids = updated.filter("same").get_column("id").to_list()
        names = sorted({name for target_id, before in journal if target_id in set(ids) for name in before})
        lost = [name for name in names if name not in self.live_columns]
        if lost:
            raise StructureError(
                f"{self.target.name} has {', '.join(lost)} no longer, which the undo would restore",
                remedy="bring the column back, or restore from a backup",
            )
        listed = sql.SQL(", ").join(map(sql.Identifier, names))
        statement = sql.SQL(
            "UPDATE {} AS t SET ({}) = (SELECT {} FROM jsonb_populate_record(t, journal.before))"
            " FROM migration.journal_entry AS journal"
            " WHERE journal.batch_id = %s AND journal.target_id = t.id AND t.id = ANY(%s)"
        ).format(self.rows, listed, listed)

        def restored(some: list[int]) -> int:
            done = self.connection.execute(statement, [batch_id, some]).rowcount
            if done != len(some):
                raise NotAlone(KEPT)
            return done

        done, refused = proved(self.connection, self.family, ids, restored) if names else (ids, {})
        self.connection.execute(
            sql.SQL(
                "UPDATE migration.journal_entry SET restored_xmin = t.xmin FROM {} AS t"
                " WHERE batch_id = %s AND target_id = t.id AND t.id = ANY(%s)"
            ).format(self.rows),
            [batch_id, updated.filter("own", pl.col("id").is_in(done)).get_column("id").to_list()],
        )
        return len(done), pl.concat([_left(changed, CHANGED_SINCE), _left(gone, DELETED_SINCE), _refused(refused)])

    def _restore_units(
        self, batch_id: int, columns: Sequence[TargetColumn], stored: pl.DataFrame
    ) -> tuple[int, pl.DataFrame]:
        """Takes units out of rows of others again: what each of them wrote, and nothing else of the row."""
        journal: dict[int, str] = dict(
            self.connection.execute(
                "SELECT target_id, before::text FROM migration.journal_entry WHERE batch_id = %s", [batch_id]
            ).fetchall()
        )
        units = stored.filter(
            pl.col("hash").is_not_null() & ~pl.col("adopted") & pl.col("target_id").is_in(list(journal))
        ).unique(UNIT, maintain_order=True)
        now = self._rows_of_others(columns, units.get_column("target_id").unique())
        units = units_as_written(units, now, columns)
        there = units.filter("there")
        gone = units.filter(~pl.col("there"))
        changed = there.filter(~pl.col("same"))
        values = self._with_units_taken_out(columns, there.filter("same"), now, journal)

        def taken_out(some: list[int]) -> int:
            return sum(self._write(name, rows) for name, rows in self._by_column(columns, values, some))

        ids = there.filter("same").get_column("target_id").unique().sort()
        _, refused = proved(self.connection, self.family, ids.to_list(), taken_out)
        refusals = _refused(refused).drop("part")
        kept = there.filter("same").join(refusals, on="target_id")
        left = [
            changed.with_columns(pl.lit(CHANGED_SINCE).alias("cause")),
            gone.with_columns(pl.lit(DELETED_SINCE).alias("cause")),
            kept,
        ]
        return there.height - changed.height - kept.height, pl.concat(
            [rows.select(LEFT.names()) for rows in left]
        ).cast(LEFT)

    @staticmethod
    def _by_column(
        columns: Sequence[TargetColumn], values: pl.DataFrame, ids: Sequence[int]
    ) -> Iterator[tuple[str, pl.DataFrame]]:
        some = values.filter(pl.col("id").is_in(ids))
        for column in columns:
            rows = some.filter(pl.col("column") == column.name)
            if rows.height:
                yield column.name, rows

    def _write(self, name: str, rows: pl.DataFrame) -> int:
        """Puts values, documents with the column as their only key, into a column."""
        done = self.connection.execute(
            sql.SQL(
                "UPDATE {rows} AS t SET {column} = (jsonb_populate_record(t, given.value::jsonb)).{column}"
                " FROM unnest(%s::bigint[], %s::text[]) AS given (id, value) WHERE t.id = given.id"
            ).format(rows=self.rows, column=sql.Identifier(name)),
            [rows.get_column("id").to_list(), rows.get_column("value").to_list()],
        )
        if done.rowcount != rows.height:
            raise NotAlone(KEPT)
        return rows.height

    def _rows_of_others(self, columns: Sequence[TargetColumn], ids: pl.Series) -> pl.DataFrame:
        return copy_out(
            self.connection,
            sql.SQL("SELECT t.id, {} FROM {} AS t WHERE t.id = ANY ({}::bigint[])").format(
                _values(columns),
                self.rows,
                sql.Literal(ids.to_list()),
            ),
            pl.Schema({"id": pl.Int64(), **_schema(columns)}),
        )

    def _with_units_taken_out(
        self,
        columns: Sequence[TargetColumn],
        units: pl.DataFrame,
        now: pl.DataFrame,
        journal: Mapping[int, str],
    ) -> pl.DataFrame:
        """What columns are to hold again: `id`, `column`, and `value`, a document with the column as its only key."""
        given: dict[tuple[int, str], Any] = {}
        rows = {row["id"]: row for row in now.iter_rows(named=True)}
        documents = {column.name for column in columns if column.kind.is_json}
        befores = {target_id: json.loads(before) for target_id, before in journal.items()}
        for target_id, shape in units.select("target_id", "had").iter_rows():
            before = befores[target_id]
            for name, keys in json.loads(shape).items():
                if name not in before:
                    continue
                place = (target_id, name)
                if name in documents:
                    held = given[place] if place in given else json.loads(rows[target_id][name] or "null")
                    given[place] = restored_document(held, before[name], keys)
                else:
                    given[place] = before[name]
        return pl.DataFrame(
            [(target_id, name, json.dumps({name: value})) for (target_id, name), value in given.items()],
            schema={"id": pl.Int64, "column": pl.String, "value": pl.String},
            orient="row",
        )

    def _restore_bookkeeping(self, batch_id: int, stored: pl.DataFrame, left: pl.DataFrame) -> None:
        """The mapping and the lists as they were; what is left stays mapped as the batch left it."""
        for relation in ("mapping_entry", "conflict_entry", "vanished_entry"):
            self.connection.execute(
                sql.SQL(
                    "CREATE TEMPORARY TABLE {former} ON COMMIT DROP AS SELECT entry.*"
                    " FROM migration.former_entry AS kept,"
                    " jsonb_populate_record(NULL::migration.{relation}, kept.entry) AS entry"
                    " WHERE kept.batch_id = {batch} AND kept.relation = {name}"
                ).format(
                    former=sql.Identifier(f"former_{relation}"),
                    relation=sql.Identifier(relation),
                    batch=sql.Literal(batch_id),
                    name=sql.Literal(relation),
                )
            )
        identity = identity_of(self.target)
        kept = stored.join(left.select(identity).unique(), on=identity, how="semi")
        former = read_links(self.connection, sql.SQL("true"), sql.Identifier("former_mapping_entry"))
        keys = ["flow_id", "source_key"]
        merged = pl.concat(
            [former.join(kept, on=keys, how="semi").join(kept, on=[*keys, *identity], how="anti"), kept]
        ).sort(*keys, maintain_order=True)
        self.connection.execute(
            "DELETE FROM migration.mapping_entry WHERE batch_id = %s AND flow_id = ANY(%s)", [batch_id, self.flows]
        )
        if merged.height:
            copy_entries(self.connection, grouped_entries(merged), batch_id)
        self.connection.execute(
            "INSERT INTO migration.mapping_entry SELECT former.* FROM former_mapping_entry AS former"
            " ON CONFLICT (flow_id, source_key) DO NOTHING"
        )
        self.connection.execute("INSERT INTO migration.conflict_entry SELECT * FROM former_conflict_entry")
        self.connection.execute("INSERT INTO migration.vanished_entry SELECT * FROM former_vanished_entry")
        self.connection.execute("DELETE FROM migration.former_entry WHERE batch_id = %s", [batch_id])
        self.connection.execute("UPDATE migration.batch SET undone_at = now() WHERE id = %s", [batch_id])
        if self.dry:
            self.connection.execute("DISCARD TEMP")


def _left(ids: pl.Series, cause: str) -> pl.DataFrame:
    return pl.DataFrame({"target_id": ids, "part": "", "cause": cause}, schema=LEFT)


def _refused(causes: Mapping[int, str]) -> pl.DataFrame:
    return pl.DataFrame(
        {"target_id": list(causes), "part": [""] * len(causes), "cause": list(causes.values())}, schema=LEFT
    )


def _values(columns: Sequence[TargetColumn]) -> sql.Composable:
    return sql.SQL(", ").join([readable(column, "t") for column in columns] or [sql.SQL("NULL")])


def _schema(columns: Sequence[TargetColumn]) -> dict[str, pl.DataType]:
    return readable_schema(columns) or {"nothing": pl.String()}
