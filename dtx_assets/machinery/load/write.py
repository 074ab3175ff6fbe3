"""What a part writes into the target and notes of it: batches, new rows, updates with a journal of what was there."""

import json
from collections.abc import Sequence
from contextlib import nullcontext

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.load.left_out import refuse_update
from dtx_assets.machinery.load.outcome import PartOutcome
from dtx_assets.machinery.load.place import Place, in_one_statement
from dtx_assets.machinery.load.runs import is_held_by
from dtx_assets.machinery.load.slices import LOCK_TIMEOUT
from dtx_assets.machinery.load.unwritten import filled_by_database
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import copy_in, differs, noted
from dtx_assets.machinery.prepare.part import Part


class Writer:
    """Writes into one target, over one connection."""

    def __init__(self, place: Place, holder: int | None = None) -> None:
        """`holder`: the session that holds the lock of the target, where it is another one."""
        self.place, self.holder = place, holder

    def open_batch(self, part: Part, load_id: int) -> tuple[int, str]:
        """The id of a new batch, and what the rows carry that are written with it, as `xmin`."""
        names = [column.name for column in part.columns]
        place = self.place
        self._require_running(load_id)
        makes_rows = place.target.writes == "insert"
        filled = (
            filled_by_database(place.connection, place.live.oid, [*names, *place.key.columns]) if makes_rows else None
        )
        [(batch_id, xmin)] = place.connection.execute(
            "INSERT INTO migration.batch (load_id, part, bucket_low, bucket_high, digest, columns, filled)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id, pg_current_xact_id()::xid::text",
            [load_id, part.name, *part.buckets, part.digest, names, filled],
        ).fetchall()
        return int(batch_id), str(xmin)

    def _require_running(self, load_id: int) -> None:
        """LoadError where another load of the target has found this one dead; until the end of the batch none can."""
        place = self.place
        if self.holder is not None and not is_held_by(place.connection, place.system, place.target.name, self.holder):
            raise LoadError(
                f"the session that held the lock of {place.target.name} is gone, so that this load writes no more",
                where=f"load {load_id} in migration.load",
                remedy="batches that are written stay: run again",
            )
        running = "SELECT FROM migration.load WHERE id = %s AND status = 'running' FOR SHARE"
        if self.place.connection.execute(running, [load_id]).fetchone() is None:
            raise LoadError(
                f"another load of {self.place.target.name} has taken this one for killed, so that it writes no more",
                where=f"load {load_id} in migration.load",
                remedy="nothing is lost: batches that are written stay, and the other load goes on from them",
            )

    def close_batch(self, batch_id: int, outcome: PartOutcome) -> None:
        self.place.connection.execute(
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

    def copy(self, rows: pl.DataFrame) -> None:
        """New rows into the table; of a dry run they do not stay, and what a commit would say of them is asked."""
        with self.place.connection.transaction(force_rollback=True) if self.place.dry else nullcontext():
            copy_in(self.place.connection, self.place.table, rows)
            self.place.require_new(rows)
            if self.place.dry:
                self.place.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def update(self, values: pl.DataFrame, batch_id: int) -> None:
        """Write the columns of rows that are there, and what they held into the journal. Keys stay."""
        place, key = self.place, self.place.key
        names = [name for name in values.columns if name != "_id" and name not in key.columns]
        if values.is_empty() or not names:
            return
        place.stage("new_value", values, ["_id", *names])
        before = sql.SQL(" || ").join(
            sql.SQL("CASE WHEN {} THEN jsonb_build_object({}, {}) ELSE '{{}}' END").format(
                differs(column, "t", "new"), sql.Literal(column.name), noted(column, "t")
            )
            for column in map(place.target.column, names)
        )
        place.connection.execute(
            sql.SQL(
                "INSERT INTO migration.journal_entry (batch_id, target_id, before, former_xmin)"
                " SELECT {batch}, {number}, {before}, t.xmin FROM {table} AS t{beside}, new_value AS new"
                " WHERE {same} AND {number} = new._id"
            ).format(
                batch=sql.Literal(batch_id),
                before=before,
                table=place.table,
                number=key.number,
                beside=key.beside,
                same=key.same,
            )
        )
        reach("load.after_journal")
        assigned = sql.SQL(", ").join(sql.SQL("{0} = new.{0}").format(sql.Identifier(name)) for name in names)
        done = place.connection.execute(
            sql.SQL("UPDATE {} AS t SET {} FROM new_value AS new{} WHERE {} AND {} = new._id").format(
                place.table, assigned, key.beside, key.same, key.number
            )
        )
        if done.rowcount != values.height:
            if place.suspects:
                refuse_update(place.connection, key, place.suspects)
            raise psycopg.errors.SerializationFailure("rows went away while they were updated")
        reach("load.after_update")

    def try_update(self, values: pl.DataFrame, batch_id: int) -> None:
        """For a dry run: what somebody has locked is not tried, and what is tried is locked for a moment only."""
        with self.place.connection.transaction(force_rollback=True):
            self.limit_waiting()
            locked, _ = self.lock(values.get_column("_id"))
            self.update(values.join(locked, on="_id", how="semi"), batch_id)
            self.place.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def lock(self, ids: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
        """Lock rows in the order of their ids; gives `id` and `xmin` of those, and the ids that others have locked."""
        self.place.stage("wanted_id", ids.to_frame("_id"), ["_id"])
        key = self.place.key
        query = sql.SQL(
            "SELECT {number}, t.xmin::text FROM {table} AS t{beside}, wanted_id"
            " WHERE {same} AND {number} = wanted_id._id ORDER BY 1"
        ).format(number=key.number, table=self.place.table, beside=key.beside, same=key.same)
        rows = self.place.connection.execute(query + sql.SQL(" FOR NO KEY UPDATE OF t SKIP LOCKED")).fetchall()
        schema = {"_id": pl.Int64(), "_xmin": pl.String()}
        locked = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("_xmin").cast(pl.Int64))
        if locked.height == len(ids):
            return locked, ids.clear()
        there = pl.Series("_id", [row[0] for row in self.place.connection.execute(query)], dtype=pl.Int64)
        return locked, there.filter(~there.is_in(locked.get_column("_id").implode()))

    def limit_waiting(self) -> None:
        """From here on the transaction has rows of the application locked."""
        self.place.connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])


def insert_at_once(connection: Connection, rows: Sequence[tuple[Place, pl.DataFrame]], *, dry: bool) -> None:
    """Insert rows of several tables that refer to each other, whether or not their constraints can be deferred.

    References are looked at when a statement ends, so that one statement inserts them all. Of a dry run they do not
    stay, and what a commit would say of them is asked.
    """
    with connection.transaction(force_rollback=True) if dry else nullcontext():
        inserts: list[sql.Composed] = []
        for number, (place, new) in enumerate(rows):
            if new.height:
                place.stage(f"new_row_{number}", new, new.columns)
                inserts.append(
                    sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM pg_temp.{}").format(
                        place.table,
                        *(sql.SQL(", ").join(map(sql.Identifier, new.columns)) for _ in range(2)),
                        sql.Identifier(f"new_row_{number}"),
                    )
                )
        if inserts:
            connection.execute(in_one_statement(inserts))
        for place, new in rows:
            place.require_new(new)
        if dry:
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
