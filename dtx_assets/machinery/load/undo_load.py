"""The undo of a load of a target, batch by batch, the last one first, with what the bookkeeping says of it.

Batches of several targets that were written in one transaction are undone in one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.load.entries import copy_entries, grouped_entries, read_links
from dtx_assets.machinery.load.ownership import ENTRY, identity_of, known_rows
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.load.undo_rows import LEFT, WrittenRows, delete_rows
from dtx_assets.machinery.model.references import refers_to_itself
from dtx_assets.machinery.model.target import TargetColumn
from dtx_assets.machinery.postgres.connection import words_of
from dtx_assets.machinery.postgres.content import content_hash, copy_in

TRIES = 4


@dataclass(frozen=True)
class LeftRow:
    target_table: str
    target_id: int | str
    """Its key, which is a text where it is not one whole number."""
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


@dataclass(frozen=True)
class Undoing:
    """A batch that is undone: the columns that it wrote, what the mapping has of it, and its rows as they are."""

    batch_id: int
    stored: pl.DataFrame
    columns: Sequence[TargetColumn]
    inserted: pl.DataFrame
    updated: pl.DataFrame


class LoadUndo:
    """The undo of one load of one target."""

    def __init__(self, place: Place, load_id: int, run_id: str) -> None:
        self.place, self.load_id, self.run_id = place, load_id, run_id
        self.rows = WrittenRows(place)
        self.flows = [
            int(row[0])
            for row in place.connection.execute(
                "SELECT id FROM migration.flow WHERE (system, target_table, model) = (%s, %s, %s)", place.of_model
            )
        ]

    def looked_at(self, batch_id: int, names: Sequence[str]) -> Undoing:
        """What there is to undo of a batch that wrote these columns."""
        of_batch = sql.SQL("entry.batch_id = {} AND entry.flow_id = ANY ({}::smallint[])").format(
            sql.Literal(batch_id), sql.Literal(self.flows)
        )
        stored = read_links(self.place.connection, of_batch)
        declared = {column.name: column for column in self.place.target.columns}
        columns = [declared[name] for name in names if name in declared and name in self.place.live.columns]
        if self.place.target.writes == "update":
            nothing = pl.DataFrame()
            return Undoing(batch_id, stored, columns, nothing, nothing)
        current = self.rows.now(batch_id, columns, names)
        written = known_rows(stored).select(pl.col("target_id").alias("_id"), pl.col("written").alias("_written"))
        whole = len(columns) == len(names)
        as_written = (content_hash(columns) == pl.col("_written")).fill_null(False) if whole else pl.lit(False)
        current = current.join(written, on="_id", how="left").with_columns((pl.col("_own") | as_written).alias("_same"))
        inserted, updated = current.filter("_inserted"), current.filter(~pl.col("_inserted"))
        return Undoing(batch_id, stored, columns, inserted, updated)

    def undone(self, undoing: Undoing) -> tuple[int, int, pl.DataFrame]:
        """How many rows of a batch are deleted and restored, and those that are left."""
        batch_id = undoing.batch_id
        if self.place.target.writes == "update":
            restored, left = self.rows.restore_units(batch_id, undoing.columns, undoing.stored)
            return 0, restored, left
        if refers_to_itself(self.place.target):
            return undone_together([self], [undoing])[0]
        [(deleted, kept)] = delete_rows([self.rows], [undoing.inserted])
        restored, changed = self.rows.restore(batch_id, undoing.updated)
        return deleted, restored, pl.concat([kept, changed])

    def book(self, undoing: Undoing, left: pl.DataFrame) -> None:
        """A batch is undone but for what is `left`."""
        self._restore_bookkeeping(undoing.batch_id, undoing.stored, left)
        if left.height:
            copy_in(
                self.place.connection,
                sql.Identifier("migration", "left_entry"),
                left.with_columns(
                    pl.lit(self.run_id).alias("run_id"), pl.lit(self.place.target.name).alias("target_table")
                ).select("run_id", "target_table", *LEFT.names()),
            )

    def book_load(self) -> None:
        """All of its batches are undone."""
        for statement in (
            # Its own load is the last that has them in the history.
            "UPDATE migration.rejected_entry SET closed_by = %(load)s + 1"
            " WHERE opened_by = %(load)s AND flow_id = ANY(%(flows)s) AND closed_by IS NULL",
            "UPDATE migration.rejected_entry SET closed_by = NULL"
            " WHERE closed_by = %(load)s AND flow_id = ANY(%(flows)s)",
            "DELETE FROM migration.conflict_entry WHERE since = %(load)s",
            "DELETE FROM migration.vanished_entry WHERE since = %(load)s",
            "DELETE FROM migration.accounting_entry WHERE run_id = %(run)s AND flow_id = ANY(%(flows)s)",
            "DELETE FROM migration.extra AS extra USING migration.flow AS undone"
            " WHERE undone.id = ANY(%(flows)s) AND (extra.system, extra.source_table) = (undone.system,"
            " undone.source_table) AND NOT EXISTS (SELECT FROM migration.mapping_entry AS entry JOIN migration.flow"
            " ON flow.id = entry.flow_id WHERE (flow.system, flow.source_table) = (extra.system, extra.source_table)"
            " AND entry.source_key = extra.source_key)",
            "UPDATE migration.load SET status = 'rolled back' WHERE id = %(load)s",
        ):
            self.place.connection.execute(
                statement.encode(), {"load": self.load_id, "flows": self.flows, "run": self.run_id}
            )

    def _restore_bookkeeping(self, batch_id: int, stored: pl.DataFrame, left: pl.DataFrame) -> None:
        """The mapping and the lists as they were; what is left stays mapped as the batch left it."""
        for relation in ("mapping_entry", "conflict_entry", "vanished_entry"):
            name = sql.Identifier("pg_temp", f"former_{relation}")
            self.place.connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
            self.place.connection.execute(
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
        identity = identity_of(self.place.target)
        kept = stored.join(left.select(identity).unique(), on=identity, how="semi")
        former = read_links(self.place.connection, sql.SQL("true"), sql.Identifier("former_mapping_entry"))
        merged = pl.concat(
            [former.join(kept, on=ENTRY, how="semi").join(kept, on=[*ENTRY, *identity], how="anti"), kept]
        ).sort(*ENTRY, maintain_order=True)
        self.place.connection.execute(
            "DELETE FROM migration.mapping_entry WHERE batch_id = %s AND flow_id = ANY(%s)", [batch_id, self.flows]
        )
        if merged.height:
            copy_entries(self.place.connection, grouped_entries(merged), batch_id)
        self.place.connection.execute(
            "INSERT INTO migration.mapping_entry SELECT former.* FROM former_mapping_entry AS former"
            " ON CONFLICT (flow_id, source_key, portion) DO NOTHING"
        )
        self.place.connection.execute("INSERT INTO migration.conflict_entry SELECT * FROM former_conflict_entry")
        self.place.connection.execute("INSERT INTO migration.vanished_entry SELECT * FROM former_vanished_entry")
        self.place.connection.execute("DELETE FROM migration.former_entry WHERE batch_id = %s", [batch_id])
        self.place.connection.execute("UPDATE migration.batch SET undone_at = now() WHERE id = %s", [batch_id])
        if self.place.dry:
            self.place.connection.execute("DISCARD TEMP")


def undone_together(loads: Sequence[LoadUndo], undoings: Sequence[Undoing]) -> list[tuple[int, int, pl.DataFrame]]:
    """The same of batches of targets whose rows refer to each other, which were written in one transaction."""
    # What was updated may refer to what was inserted.
    restored = [
        load.rows.restore(undoing.batch_id, undoing.updated) for load, undoing in zip(loads, undoings, strict=True)
    ]
    deleted = delete_rows([load.rows for load in loads], [undoing.inserted for undoing in undoings])
    return [
        (deletions, restorations, pl.concat([kept, changed]))
        for (deletions, kept), (restorations, changed) in zip(deleted, restored, strict=True)
    ]


def undo_loads(loads: Sequence[LoadUndo], summary: UndoSummary) -> None:
    """Undo a load, or those of a circle: transaction by transaction, the last one first."""
    connection = loads[0].place.connection
    by_id = {load.load_id: load for load in loads}
    connection.execute("SELECT brin_summarize_new_values('migration.mapping_entry_batch'::regclass)")
    transactions: dict[str, list[tuple[LoadUndo, int, Sequence[str]]]] = {}
    for load_id, batch_id, names, xid in connection.execute(
        "SELECT load_id, id, columns, xid::text FROM migration.batch WHERE load_id = ANY(%s) AND undone_at IS NULL"
        " ORDER BY id DESC",
        [list(by_id)],
    ).fetchall():
        transactions.setdefault(xid, []).append((by_id[load_id], int(batch_id), names))
    for batches in transactions.values():
        _undo_transaction(batches, summary)
    with connection.transaction():
        for load in loads:
            load.book_load()


def _undo_transaction(batches: Sequence[tuple[LoadUndo, int, Sequence[str]]], summary: UndoSummary) -> None:
    loads = [load for load, _, _ in batches]
    connection, dry = loads[0].place.connection, loads[0].place.dry
    tables = ", ".join(dict.fromkeys(load.place.target.name for load in loads))
    for tries_left in reversed(range(TRIES)):
        if not dry:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        try:
            with connection.transaction():
                undoings = [load.looked_at(batch_id, names) for load, batch_id, names in batches]
                done = undone_together(loads, undoings) if len(loads) > 1 else [loads[0].undone(undoings[0])]
                for load, undoing, (_, _, left) in zip(loads, undoings, done, strict=True):
                    load.book(undoing, left)
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
                    f"a batch of {tables} cannot be undone: {words_of(error)}",
                    where=f"table {error.diag.table_name or tables}",
                    remedy="what was undone before stays so; run the undo again when the target is at rest",
                ) from None
        finally:
            if not connection.closed and not dry:
                connection.isolation_level = None
    for load, (deleted, restored, left) in zip(loads, done, strict=True):
        name = load.place.target.name
        summary.deleted[name] = summary.deleted.get(name, 0) + deleted
        summary.restored[name] = summary.restored.get(name, 0) + restored
        keys = load.place.key.texts(connection, left.get_column("target_id").to_list())
        summary.left += [LeftRow(name, keys.get(row, row), *told) for row, *told in left.iter_rows()]
