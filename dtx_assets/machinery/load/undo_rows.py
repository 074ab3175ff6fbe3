"""The rows of a target that a batch wrote, and their undo: what nobody wrote since is deleted or restored."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from psycopg import sql

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.load.documents import restored_document
from dtx_assets.machinery.load.identity import FIRST_AND_LAST
from dtx_assets.machinery.load.ownership import UNIT
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.load.proof import KEPT, REFERRED_TO, NotAlone, proved
from dtx_assets.machinery.load.references import family_of, references_to, rows_alone
from dtx_assets.machinery.load.units import units_as_written
from dtx_assets.machinery.load.unwritten import maybe_written_since
from dtx_assets.machinery.model.target import TargetColumn
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import as_prepared, copy_out, readable, readable_schema

CHANGED_SINCE = "someone changed it since"
DELETED_SINCE = "someone deleted it since"
MAYBE_CHANGED_SINCE = "someone may have written in {} since"
XIDS_IN_USE = 1 << 31
"""The number that a row carries for its transaction comes again after twice as many."""
LEFT = pl.Schema({"target_id": pl.Int64(), "part": pl.String(), "cause": pl.String()})
"""A row, or a unit of one, that is left as it is, and why."""


class WrittenRows:
    """The rows of one target that batches wrote, over one connection."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.family = family_of(place.connection, place.live.oid)
        self.rows = sql.SQL("{}{}").format(rows_alone(place.live.kind), place.table)

    def now(self, batch_id: int, columns: Sequence[TargetColumn], names: Sequence[str]) -> pl.DataFrame:
        """The rows that a batch inserted or updated, as they are: `id`, `inserted`, the columns.

        `own`: nobody else wrote the row since. `maybe_written`: else, the columns that the batch did not write and that
        do not hold what the database filled them with.
        """
        [[xid, trusted, filled]] = self.place.connection.execute(
            # In a database that was dumped and restored, the numbers of transactions mean others.
            "SELECT xid::xid::text, xmin = xid::xid AND pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
            " - xid::text::bigint < %s, filled::text FROM migration.batch WHERE id = %s",
            [XIDS_IN_USE, batch_id],
        ).fetchall()
        frame = copy_out(
            self.place.connection,
            sql.SQL(
                "SELECT {number}, wrote.inserted::int, written_by.own::int,"
                " CASE WHEN written_by.own OR NOT wrote.inserted THEN '' ELSE {maybe_written} END, {values} FROM ("
                " SELECT {first_and_last}, true AS inserted"
                " FROM (SELECT unnest(inserted_ids) AS ids FROM migration.batch WHERE id = {batch}) AS made"
                " UNION ALL SELECT target_id, target_id, false FROM migration.journal_entry"
                " WHERE batch_id = {batch}) AS wrote"
                " JOIN {rows} ON {number} BETWEEN wrote.low AND wrote.high"
                " LEFT JOIN (SELECT DISTINCT ON (target_id) target_id, restored_xmin FROM migration.journal_entry"
                "  JOIN migration.batch ON batch.id = batch_id JOIN migration.load ON load.id = load_id"
                "  WHERE (system, target_table) = ({system}, {table}) AND former_xmin = {xid}::xid"
                "  AND restored_xmin IS NOT NULL ORDER BY target_id, batch_id) AS back ON back.target_id = {number}"
                " CROSS JOIN LATERAL (SELECT {trusted} AND (t.xmin = {xid}::xid OR coalesce(t.xmin = restored_xmin,"
                "  false))) AS written_by (own)"
            ).format(
                maybe_written=maybe_written_since(
                    self.place.connection, self.place.live.oid, [*names, *self.place.key.columns], filled
                ),
                first_and_last=sql.SQL(FIRST_AND_LAST),
                values=_values(columns),
                rows=self.place.key.joined(self.rows),
                number=self.place.key.number,
                batch=sql.Literal(batch_id),
                system=sql.Literal(self.place.system),
                table=sql.Literal(self.place.target.name),
                trusted=sql.Literal(bool(trusted)),
                xid=sql.Literal(str(xid)),
            ),
            pl.Schema(
                {
                    "_id": pl.Int64(),
                    "_inserted": pl.Int64(),
                    "_own": pl.Int64(),
                    "_maybe_written": pl.String(),
                    **_schema(columns),
                }
            ),
        )
        return as_prepared(frame.with_columns(pl.col("_inserted", "_own").cast(pl.Boolean)), columns)

    def deletion(self, ids: Sequence[int]) -> sql.Composed:
        """The statement that deletes rows."""
        key = self.place.key
        using = sql.SQL("") if key.is_number else sql.SQL(" USING migration.target_row AS numbered")
        return sql.SQL("DELETE FROM {} AS t{} WHERE {} AND {} = ANY({}::bigint[])").format(
            self.rows, using, key.same, key.number, sql.Literal(list(ids))
        )

    def restore(self, batch_id: int, updated: pl.DataFrame) -> tuple[int, pl.DataFrame]:
        """Gives rows that were updated what they held before; those that cannot have it (LEFT)."""
        journal = self.place.connection.execute(
            "SELECT target_id, before FROM migration.journal_entry WHERE batch_id = %s", [batch_id]
        ).fetchall()
        there = set(updated.get_column("_id"))
        gone = pl.Series("_id", [row[0] for row in journal if row[0] not in there], dtype=pl.Int64)
        changed = updated.filter(~pl.col("_same")).get_column("_id")
        ids = updated.filter("_same").get_column("_id").to_list()
        names = sorted({name for target_id, before in journal if target_id in set(ids) for name in before})
        lost = [name for name in names if name not in self.place.live.columns]
        if lost:
            raise StructureError(
                f"{self.place.target.name} has {', '.join(lost)} no longer, which the undo would restore",
                remedy="bring the column back, or restore from a backup",
            )
        key, listed = self.place.key, sql.SQL(", ").join(map(sql.Identifier, names))
        statement = sql.SQL(
            "UPDATE {rows} AS t SET ({listed}) = (SELECT {listed} FROM jsonb_populate_record(t, journal.before))"
            " FROM migration.journal_entry AS journal{beside}"
            " WHERE {same} AND journal.batch_id = %s AND journal.target_id = {number} AND {number} = ANY(%s)"
        ).format(rows=self.rows, listed=listed, beside=key.beside, same=key.same, number=key.number)

        def restored(some: list[int]) -> int:
            done = self.place.connection.execute(statement, [batch_id, some]).rowcount
            if done != len(some):
                raise NotAlone(KEPT)
            return done

        done, refused = proved(self.place.connection, self.family, ids, restored) if names else (ids, {})
        self.place.connection.execute(
            sql.SQL(
                "UPDATE migration.journal_entry SET restored_xmin = t.xmin FROM {} AS t{}"
                " WHERE {} AND batch_id = %s AND target_id = {number} AND {number} = ANY(%s)"
            ).format(self.rows, key.beside, key.same, number=key.number),
            [batch_id, updated.filter("_own", pl.col("_id").is_in(done)).get_column("_id").to_list()],
        )
        return len(done), pl.concat([_left(changed, CHANGED_SINCE), _left(gone, DELETED_SINCE), _refused(refused)])

    def restore_units(
        self, batch_id: int, columns: Sequence[TargetColumn], stored: pl.DataFrame
    ) -> tuple[int, pl.DataFrame]:
        """Takes units out of rows of others again: what each of them wrote, and nothing else of the row."""
        journal: dict[int, str] = dict(
            self.place.connection.execute(
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
        _, refused = proved(self.place.connection, self.family, ids.to_list(), taken_out)
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
        some = values.filter(pl.col("_id").is_in(ids))
        for column in columns:
            rows = some.filter(pl.col("column") == column.name)
            if rows.height:
                yield column.name, rows

    def _write(self, name: str, rows: pl.DataFrame) -> int:
        """Puts values, documents with the column as their only key, into a column."""
        key = self.place.key
        done = self.place.connection.execute(
            sql.SQL(
                "UPDATE {rows} AS t SET {column} = (jsonb_populate_record(t, given.value::jsonb)).{column}"
                " FROM unnest(%s::bigint[], %s::text[]) AS given (id, value){beside}"
                " WHERE {same} AND {number} = given.id"
            ).format(rows=self.rows, column=sql.Identifier(name), beside=key.beside, same=key.same, number=key.number),
            [rows.get_column("_id").to_list(), rows.get_column("value").to_list()],
        )
        if done.rowcount != rows.height:
            raise NotAlone(KEPT)
        return rows.height

    def _rows_of_others(self, columns: Sequence[TargetColumn], ids: pl.Series) -> pl.DataFrame:
        return copy_out(
            self.place.connection,
            sql.SQL(
                "SELECT {number}, {values} FROM {rows} AS t{beside} WHERE {same} AND {number} = ANY ({ids}::bigint[])"
            ).format(
                number=self.place.key.number,
                values=_values(columns),
                rows=self.rows,
                beside=self.place.key.beside,
                same=self.place.key.same,
                ids=sql.Literal(ids.to_list()),
            ),
            pl.Schema({"_id": pl.Int64(), **_schema(columns)}),
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
        rows = {row["_id"]: row for row in now.iter_rows(named=True)}
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
            schema={"_id": pl.Int64, "column": pl.String, "value": pl.String},
            orient="row",
        )


def delete_rows(written: Sequence[WrittenRows], inserted: Sequence[pl.DataFrame]) -> list[tuple[int, pl.DataFrame]]:
    """Deletes rows of one table, or of several that refer to each other, that are as they were written and that nothing
    refers to that stays. Of each table: how many, and the others (LEFT)."""
    connection = written[0].place.connection
    kept: list[list[pl.DataFrame]] = []
    ids: list[pl.Series] = []
    for rows in inserted:
        untouched = pl.col("_same") & (pl.col("_maybe_written") == "")
        cause = pl.when("_same").then(pl.format(MAYBE_CHANGED_SINCE, "_maybe_written")).otherwise(pl.lit(CHANGED_SINCE))
        changed = rows.filter(~untouched).select(
            pl.col("_id").alias("target_id"), pl.lit("").alias("part"), cause.alias("cause")
        )
        kept.append([changed.cast(LEFT)])
        ids.append(rows.filter(untouched).get_column("_id"))
    among = [(each.place.key, each.family) for each in written]
    references = [references_to(connection, each.place.key, each.rows, each.family, among) for each in written]
    again = True
    while again:
        again = False
        for place, of_table in enumerate(references):
            for reference in of_table if len(ids[place]) else ():
                beside = ids[place].clear() if reference.among is None else ids[reference.among]
                referred = reference.referred(connection, ids[place], beside)
                if len(referred):
                    kept[place].append(_left(referred, REFERRED_TO.format(reference.table)))
                    ids[place] = ids[place].filter(~ids[place].is_in(referred.implode()))
                    # What these refer to themselves is to be left too.
                    again = any(each.among is not None for some in references for each in some)

    def deleted(rows: list[tuple[int, int]]) -> int:
        by_table = [[row for place, row in rows if place == table] for table in range(len(written))]
        deletions = [each.deletion(some) for each, some in zip(written, by_table, strict=True) if some]
        if _deleted(connection, deletions) != len(rows):
            raise NotAlone(KEPT)
        return len(rows)

    family = [oid for each in written for oid in each.family]
    wanted = [(place, int(row)) for place, some in enumerate(ids) for row in some]
    done, refused = proved(connection, family, wanted, deleted)
    return [
        (
            sum(table == place for table, _ in done),
            pl.concat([*some, _refused({row: cause for (table, row), cause in refused.items() if table == place})]),
        )
        for place, some in enumerate(kept)
    ]


def _deleted(connection: Connection, deletions: Sequence[sql.Composed]) -> int:
    """Deletes rows of several tables in one statement, at the end of which nothing refers to any of them."""
    if len(deletions) == 1:
        return connection.execute(deletions[0]).rowcount
    names = [sql.Identifier(f"deleted_{number}") for number in range(len(deletions))]
    named = [sql.SQL("{} AS ({} RETURNING 1)").format(*pair) for pair in zip(names, deletions, strict=True)]
    counted = [sql.SQL("(SELECT count(*) FROM {})").format(name) for name in names]
    statement = sql.SQL("WITH {} SELECT {}").format(sql.SQL(", ").join(named), sql.SQL(" + ").join(counted))
    [[count]] = connection.execute(statement).fetchall()
    return int(count)


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
