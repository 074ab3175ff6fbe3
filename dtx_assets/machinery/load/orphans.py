"""Rows that refer to rows that are not there and will not be: they are rejected, and come when what they need does.

A reference to a row of the same table is satisfied by a row of the same part; so a table that refers to itself is
loaded as one part.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
from psycopg import sql

from dtx_assets.machinery.load.ownership import KEY_TAKEN
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.ddl import INTEGERS, LiveTarget, live_target, qualified
from dtx_assets.machinery.prepare.part import Part, without_rows

Planned = dict[str, list[pl.Series]]
"""By table, the keys of rows that a dry run would have made before."""
_REFERENCES = """
SELECT referring.attname, conname, referred.attname, condeferrable, confrelid = conrelid
FROM pg_constraint
JOIN pg_attribute AS referring ON (referring.attrelid, referring.attnum) = (conrelid, conkey[1])
JOIN pg_attribute AS referred ON (referred.attrelid, referred.attnum) = (confrelid, confkey[1])
WHERE conrelid = %s::oid AND contype = 'f' AND cardinality(conkey) = 1
"""
_PRIMARY_KEY = """
SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
WHERE indrelid = %s::oid AND indisprimary AND indnkeyatts = 1
"""


def refers_to_itself(target: TargetTable) -> bool:
    """Whether rows of a target refer to others that the same load makes."""
    return target.writes == "insert" and target.key_is_written and any(own_references(target))


def own_references(target: TargetTable) -> list[TargetColumn]:
    return [column for column in target.columns if column.references in target.names]


@dataclass(frozen=True)
class Referred:
    """The table that a column refers to, and the column of it whose values it holds."""

    live: LiveTarget
    name: str
    """By which the bookkeeping calls the table."""
    table: sql.Identifier
    column: str

    @property
    def kind(self) -> str:
        """The type as which values are looked up: an integer of any size may be asked for."""
        kind = self.live.columns[self.column].plain_type
        return "bigint" if kind in INTEGERS else kind


class Orphans:
    """What rows of one target refer to, over one connection. `planned`: what a dry run would have made before."""

    def __init__(self, place: Place, planned: Mapping[str, list[pl.Series]]) -> None:
        self.place, self.planned = place, planned
        self.own = [column.name for column in own_references(place.target)] if refers_to_itself(place.target) else []
        rows = place.connection.execute(_REFERENCES, [place.live.oid]).fetchall()
        self._columns = {str(column): str(referred) for column, _, referred, _, _ in rows}
        self._referred: dict[str, Referred | None] = {}
        self.own_deferrable = [str(name) for _, name, _, deferrable, own in rows if own and deferrable]
        """The constraints by which rows refer to each other, and that wait until the end where they are told to."""

    def without(self, part: Part) -> Part:
        """The part without the source rows of orphans; what refers to these goes too, however far."""
        while True:
            found = []
            for column in part.columns:
                if there := self._referred_by(column):
                    found += self._orphans(part, column, there)
            if not found:
                return part
            part = without_rows(part, found)
            if not self.own:
                return part

    def _orphans(self, part: Part, column: TargetColumn, referred: Referred) -> list[pl.DataFrame]:
        ids = part.rows.get_column(column.name).drop_nulls().unique()
        coming = self.planned.get(column.references or "", [])
        if column.name in self.own and referred.column in part.rows.columns:
            coming = [part.rows.get_column(referred.column)]
        for keys in coming:
            ids = ids.filter(~ids.is_in(keys.cast(ids.dtype).implode()))
        missing = self._missing(referred, ids)
        if missing.is_empty():
            return []
        detail = pl.format(f"{column.name}: {column.references} has no row {{}}", column.name)
        reason = "parent_rejected" if column.references == self.place.target.parent else "orphan_reference"
        return [_refused(part, pl.col(column.name).is_in(missing.implode()), detail, reason)]

    def _missing(self, referred: Referred, ids: pl.Series) -> pl.Series:
        """Those of the ids that a table does not have, or that somebody else's row took from one of this system's."""
        if ids.is_empty():
            return ids
        rows = self.place.connection.execute(
            sql.SQL(
                # The type is the catalogue's own word for it.
                "SELECT place - 1 FROM unnest({wanted}) WITH ORDINALITY AS wanted (id, place)"
                " WHERE NOT EXISTS (SELECT FROM {table} AS other WHERE other.{column} = wanted.id)"
                " OR wanted.id::text IN (SELECT target_key FROM migration.conflict"
                "  WHERE (system, target_table, cause) = (%s, %s, %s))"
            ).format(
                wanted=sql.SQL("%s::" + referred.kind + "[]"),
                table=referred.table,
                column=sql.Identifier(referred.column),
            ),
            [ids.to_list(), self.place.system, referred.name, KEY_TAKEN],
        )
        return ids.gather([int(row[0]) for row in rows])

    def _referred_by(self, column: TargetColumn) -> Referred | None:
        """What a column refers to; the catalogue is asked once a load, not for each part."""
        if column.references is None:
            return None
        if column.name not in self._referred:
            self._referred[column.name] = self._look_up(column.name, column.references)
        return self._referred[column.name]

    def _look_up(self, column: str, references: str) -> Referred | None:
        live = live_target(self.place.connection, references)
        if live is None:
            return None
        name = self._columns.get(column)
        if name is None:
            key = self.place.connection.execute(_PRIMARY_KEY, [live.oid]).fetchone()
            name = str(key[0]) if key else "id"
        bare = references.split(".", 1)[-1]
        return Referred(live, bare, qualified(references), name) if name in live.columns else None

    def that_can_be_tried(self, rows: pl.DataFrame) -> pl.DataFrame:
        """In a dry run, the rows that do not refer to what is not there because nothing stays."""
        for column in self.place.target.columns:
            for keys in self.planned.get(column.references or "", []) if column.name in rows.columns else []:
                refers = pl.col(column.name).is_in(keys.cast(rows.schema[column.name]).implode()).fill_null(False)
                rows = rows.filter(~refers)
        return rows

    def of_taken(self, part: Part, fates: pl.DataFrame) -> pl.DataFrame:
        """Rows that refer to one whose key somebody else's row has: `_row`, `reason`, `detail`."""
        conflict = (pl.col("fate") == "conflict") & (pl.col("cause") == KEY_TAKEN)
        taken = part.rows.join(fates.filter(conflict), on="_row", how="semi")
        found = [part.rows.select("_row", reason=pl.lit(""), detail=pl.lit("")).clear()]
        if not self.own or taken.is_empty():
            return found[0]
        keys = taken.get_column(self.place.target.key[0])
        children = part.rows.join(fates.filter(~conflict), on="_row", how="semi")
        for name in self.own:
            refers = pl.col(name).is_in(keys.cast(children.schema[name]).implode())
            detail = pl.format(f"{name}: the row {{}} of {self.place.target.name} is somebody else's", name)
            found.append(
                children.filter(refers).select("_row", pl.lit("orphan_reference").alias("reason"), detail=detail)
            )
        return pl.concat(found)

    def waiting(self, part: Part, inserts: pl.DataFrame, values: pl.DataFrame) -> pl.Series:
        """The ids of rows that are updated and refer to rows that are new."""
        new = part.rows.join(inserts, on="_row", how="semi")
        if not self.own or new.is_empty():
            return values.get_column("_id").clear()
        keys = new.get_column(self.place.target.key[0])
        refers = pl.any_horizontal(pl.col(name).is_in(keys.cast(values.schema[name]).implode()) for name in self.own)
        return values.filter(refers).get_column("_id")

    def parents_first(self, part: Part, rows: pl.DataFrame) -> pl.DataFrame:
        """Adds `_depth` to rows (`_row`): how many rows of the part stand above each."""
        if not self.own:
            return rows.with_columns(pl.lit(0).alias("_depth"))
        key = self.place.target.key[0]
        chosen = part.rows.join(rows, on="_row", how="semi")
        edges = pl.concat(
            [
                chosen.select("_row", pl.col(name).cast(chosen.schema[key]).alias("_above"))
                .join(chosen.select(pl.col(key).alias("_above"), pl.col("_row").alias("_parent")), on="_above")
                .filter(pl.col("_row") != pl.col("_parent"))
                .select("_row", "_parent")
                for name in self.own
            ]
        )
        depth, below = 0, edges
        depths = {int(row): 0 for row in chosen.get_column("_row")}
        while below.height and depth < MOST_DEPTH:
            depth += 1
            lower = below.get_column("_row").unique()
            depths |= dict.fromkeys(lower.to_list(), depth)
            below = edges.filter(pl.col("_parent").is_in(lower.implode()))
        ordered = pl.DataFrame(
            {"_row": list(depths), "_depth": list(depths.values())}, schema={"_row": pl.Int64, "_depth": pl.Int32}
        )
        return rows.join(ordered, on="_row", how="left", maintain_order="left")


MOST_DEPTH = 1000
"""Of rows that stand above each other: what is deeper, or in a circle, is in no order."""


def _refused(part: Part, which: pl.Expr, detail: pl.Expr, reason: str) -> pl.DataFrame:
    return part.rows.filter(which).select("_row", pl.lit(reason).alias("reason"), detail.alias("detail"))
