"""The undo of a run: what it inserted is deleted, what it updated restored, batch by batch, the last one first.

What someone changed since, or refers to, is left as it is and listed. Each batch is one transaction, so an undo that
was killed goes on where it stopped.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.errors import ConfigurationError, LoadError, StructureError
from dtx_assets.machinery.failpoints import reach
from dtx_assets.machinery.load.content import as_prepared, content_hash, copy_in, copy_out, readable, readable_schema
from dtx_assets.machinery.load.ddl import live_target
from dtx_assets.machinery.load.diff import UNIT, identity_of, known_rows, restored_document, units_as_written
from dtx_assets.machinery.load.entries import copy_entries, grouped_entries, read_links
from dtx_assets.machinery.load.runs import (
    Connection,
    connect,
    prepare_bookkeeping,
    refusals_told,
    target_lock,
    words_of,
)
from dtx_assets.machinery.target import TargetColumn, TargetTable

CHANGED_SINCE = "someone changed it since"
DELETED_SINCE = "someone deleted it since"
REFERRED_TO = "rows of {} refer to it"
TRIES = 4
LAST_RUN = "last"
"""Names the last run that loaded something and is not undone."""

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
                "SELECT DISTINCT later.run_id FROM migration.load AS mine JOIN migration.load AS later"
                " ON (later.system, later.target_table) = (mine.system, mine.target_table) AND later.id > mine.id"
                " JOIN migration.batch ON batch.load_id = later.id"
                " WHERE mine.run_id = ANY(%s) AND batch.undone_at IS NULL"
                " AND (rows_inserted + rows_updated > 0"
                " OR EXISTS (SELECT 1 FROM migration.former_entry WHERE former_entry.batch_id = batch.id))",
                [list(runs)],
            )
        }
        if later <= runs:
            return [known_id for known_id in known if known_id in runs]
        runs |= later


def _last_run(connection: Connection, system: str) -> list[str]:
    rows = connection.execute(
        "SELECT run_id FROM migration.run WHERE system = %s AND EXISTS (SELECT 1 FROM migration.load"
        " WHERE load.run_id = run.run_id AND load.status <> 'rolled back') ORDER BY started_at DESC LIMIT 1",
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
        if target.file_columns is None or live_target(connection, target.name) is None:
            continue
        key = sql.Identifier(target.file_columns[0])
        files = connection.execute(
            sql.SQL(
                "SELECT object_key, sha256, EXISTS (SELECT 1 FROM {table} AS t WHERE t.{key} = file.object_key)"
                " OR EXISTS (SELECT 1 FROM migration.sent_file AS other"
                " WHERE (other.target_table, other.object_key) = (file.target_table, file.object_key)"
                " AND other.run_id <> file.run_id)"
                " FROM migration.sent_file AS file WHERE (run_id, target_table) = (%s, %s)"
            ).format(table=sql.Identifier(target.name), key=key),
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
        self.connection, self.target, self.load_id, self.run_id = connection, target, load_id, run_id
        self.dry, self.summary = dry, summary
        self.table = sql.Identifier(target.name)
        live = live_target(connection, target.name)
        self.live_columns = frozenset(live.columns) if live else frozenset()
        self.flows = [
            int(row[0])
            for row in connection.execute(
                "SELECT id FROM migration.flow WHERE (system, target_table, model) = (%s, %s, %s)",
                [system, target.name, target.model],
            )
        ]

    def run(self) -> None:
        batches = self.connection.execute(
            "SELECT id, columns, xid::xid::text FROM migration.batch WHERE load_id = %s AND undone_at IS NULL"
            " ORDER BY id DESC",
            [self.load_id],
        ).fetchall()
        self.connection.execute("SELECT brin_summarize_new_values('migration.mapping_entry_batch'::regclass)")
        for batch_id, names, xid in batches:
            self._batch(int(batch_id), names, int(xid))
        with self.connection.transaction():
            for statement in (
                # Its own load is the last that has them in the history.
                "UPDATE migration.rejected_entry SET closed_by = %(load)s + 1"
                " WHERE opened_by = %(load)s AND flow_id = ANY(%(flows)s) AND closed_by IS NULL",
                "UPDATE migration.rejected_entry SET closed_by = NULL"
                " WHERE closed_by = %(load)s AND flow_id = ANY(%(flows)s)",
                "DELETE FROM migration.conflict_entry WHERE since = %(load)s",
                "DELETE FROM migration.vanished_entry WHERE since = %(load)s",
                "DELETE FROM migration.activation WHERE run_id = %(run)s",
                "DELETE FROM migration.accounting_entry WHERE run_id = %(run)s AND flow_id = ANY(%(flows)s)",
                "UPDATE migration.load SET status = 'rolled back' WHERE id = %(load)s",
            ):
                self.connection.execute(
                    statement.encode(), {"load": self.load_id, "flows": self.flows, "run": self.run_id}
                )

    def _batch(self, batch_id: int, names: Sequence[str], xid: int) -> None:
        for tries_left in reversed(range(TRIES)):
            if not self.dry:
                self.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            try:
                with self.connection.transaction():
                    done = self._undone(batch_id, names, xid)
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

    def _undone(self, batch_id: int, names: Sequence[str], xid: int) -> tuple[int, int, pl.DataFrame]:
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
            current = self._current(batch_id, columns)
            written = known_rows(stored).select(pl.col("target_id").alias("id"), "written")
            as_left = (content_hash(columns) == pl.col("written")).fill_null(False) if whole else pl.lit(False)
            current = current.join(written, on="id", how="left").with_columns(
                ((pl.col("xmin") == xid) | as_left).alias("same")
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

    def _current(self, batch_id: int, columns: Sequence[TargetColumn]) -> pl.DataFrame:
        """The rows that a batch inserted or updated, as they are: `id`, `xmin`, `inserted`, the columns."""
        frame = copy_out(
            self.connection,
            sql.SQL(
                "SELECT t.id, t.xmin::text, wrote.inserted::int, {} FROM ("
                " SELECT lower(ids) AS low, upper(ids) AS beyond, true AS inserted"
                " FROM (SELECT unnest(inserted_ids) AS ids FROM migration.batch WHERE id = {batch}) AS made"
                " UNION ALL SELECT target_id, target_id + 1, false FROM migration.journal_entry"
                " WHERE batch_id = {batch}) AS wrote"
                " JOIN {} AS t ON t.id >= wrote.low AND t.id < wrote.beyond"
            ).format(
                _values(columns),
                self.table,
                batch=sql.Literal(batch_id),
            ),
            pl.Schema({"id": pl.Int64(), "xmin": pl.Int64(), "inserted": pl.Int64(), **_schema(columns)}),
        )
        return as_prepared(frame.with_columns(pl.col("inserted").cast(pl.Boolean)), columns)

    def _delete(self, inserted: pl.DataFrame) -> tuple[int, pl.DataFrame]:
        """Deletes those that are as they were written and that nothing refers to; the others (LEFT)."""
        changed = _left(inserted.filter(~pl.col("same")).get_column("id"), CHANGED_SINCE)
        ids = inserted.filter("same").get_column("id")
        kept = [changed]
        for table, column in self._referring():
            if ids.is_empty():
                break
            own = sql.SQL(" AND NOT other.id = ANY(%(ids)s)") if table == self.target.name else sql.SQL("")
            found = self.connection.execute(
                sql.SQL(
                    "SELECT DISTINCT other.{column} FROM {table} AS other WHERE other.{column} = ANY(%(ids)s){own}"
                ).format(column=sql.Identifier(column), table=sql.Identifier(*table.split(".")), own=own),
                {"ids": ids.to_list()},
            )
            referred = pl.Series("id", [int(row[0]) for row in found], dtype=pl.Int64)
            if len(referred):
                kept.append(_left(referred, REFERRED_TO.format(table)))
                ids = ids.filter(~ids.is_in(referred.implode()))
        done = self.connection.execute(sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(self.table), [ids.to_list()])
        if done.rowcount != len(ids):
            raise psycopg.errors.SerializationFailure("rows went away while they were deleted")
        return len(ids), pl.concat(kept)

    def _referring(self) -> Iterator[tuple[str, str]]:
        """The columns of tables whose foreign keys name this table's id."""
        rows = self.connection.execute(
            "SELECT CASE WHEN nspname = current_schema() THEN relname ELSE nspname || '.' || relname END, attname"
            " FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid"
            " JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]"
            " WHERE contype = 'f' AND confrelid = %s::regclass AND array_length(conkey, 1) = 1 ORDER BY 1, 2",
            [self.table.as_string(self.connection)],
        )
        yield from ((str(table), str(column)) for table, column in rows.fetchall())

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
        if names:
            listed = sql.SQL(", ").join(map(sql.Identifier, names))
            done = self.connection.execute(
                sql.SQL(
                    "UPDATE {} AS t SET ({}) = (SELECT {} FROM jsonb_populate_record(t, journal.before))"
                    " FROM migration.journal_entry AS journal"
                    " WHERE journal.batch_id = %s AND journal.target_id = t.id AND t.id = ANY(%s)"
                ).format(self.table, listed, listed),
                [batch_id, ids],
            )
            if done.rowcount != len(ids):
                raise psycopg.errors.SerializationFailure("rows went away while they were restored")
        return len(ids), pl.concat([_left(changed, CHANGED_SINCE), _left(gone, DELETED_SINCE)])

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
        for name in (column.name for column in columns):
            rows = values.filter(pl.col("column") == name)
            if rows.height:
                self.connection.execute(
                    sql.SQL(
                        "UPDATE {table} AS t SET {column} = (jsonb_populate_record(t, given.value::jsonb)).{column}"
                        " FROM unnest(%s::bigint[], %s::text[]) AS given (id, value) WHERE t.id = given.id"
                    ).format(table=self.table, column=sql.Identifier(name)),
                    [rows.get_column("id").to_list(), rows.get_column("value").to_list()],
                )
        left = [
            rows.select("target_id", "part", pl.lit(cause).alias("cause"))
            for rows, cause in ((changed, CHANGED_SINCE), (gone, DELETED_SINCE))
        ]
        return there.height - changed.height, pl.concat(left).cast(LEFT)

    def _rows_of_others(self, columns: Sequence[TargetColumn], ids: pl.Series) -> pl.DataFrame:
        return copy_out(
            self.connection,
            sql.SQL("SELECT t.id, {} FROM {} AS t WHERE t.id = ANY ({}::bigint[])").format(
                _values(columns),
                self.table,
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
        documents = {column.name for column in columns if column.type == "jsonb"}
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


def _values(columns: Sequence[TargetColumn]) -> sql.Composable:
    return sql.SQL(", ").join([readable(column, "t") for column in columns] or [sql.SQL("NULL")])


def _schema(columns: Sequence[TargetColumn]) -> dict[str, pl.DataType]:
    return readable_schema(columns) or {"nothing": pl.String()}
