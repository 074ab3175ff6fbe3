"""Rows that refer to rows that are not there and will not be: they are rejected, and come when what they need does.

A reference to a row of a target that is loaded in the same transaction is satisfied by a row that comes with it; so a
table that refers to itself, and tables that refer to each other in a circle, are loaded whole.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import polars as pl
from psycopg import sql

from dtx_assets.machinery.load.ownership import KEY_TAKEN
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.model.references import refers_to_itself
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.content import array_parameter
from dtx_assets.machinery.postgres.ddl import INTEGERS, LiveTarget, live_target, qualified
from dtx_assets.machinery.prepare.part import Part, without_rows

Planned = dict[str, list[pl.DataFrame]]
"""By table, of rows that a dry run would have made before, the columns that tell them apart: what others refer to."""
Coming = Mapping[str, Sequence[pl.DataFrame]]
"""By each name of a table, rows of it that the same transaction writes."""
_REFERENCES = """
SELECT referring.attname, referred.attname
FROM pg_constraint
JOIN pg_attribute AS referring ON (referring.attrelid, referring.attnum) = (conrelid, conkey[1])
JOIN pg_attribute AS referred ON (referred.attrelid, referred.attnum) = (confrelid, confkey[1])
WHERE conrelid = %s::oid AND contype = 'f' AND cardinality(conkey) = 1
"""
_PRIMARY_KEY = """
SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
WHERE indrelid = %s::oid AND indisprimary AND indnkeyatts = 1
"""


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
    """What rows of one target refer to, over one connection.

    `planned`: what a dry run would have made before. `together`: the targets that are loaded in the same transaction.
    """

    def __init__(self, place: Place, planned: Planned, together: Sequence[TargetTable] = ()) -> None:
        self.place, self.planned = place, planned
        if len(together) < 2:
            together = [place.target] if refers_to_itself(place.target) else []
        names = {name for target in together for name in target.names}
        self.own = [column.name for column in place.target.columns if column.references in names]
        """The columns that refer to rows that the same transaction writes."""
        rows = place.connection.execute(_REFERENCES, [place.live.oid]).fetchall()
        self._columns = {str(column): str(referred) for column, referred in rows}
        self._referred: dict[str, Referred | None] = {}
        self._there: dict[str, pl.Series] = {}

    def over(self, place: Place) -> "Orphans":
        """The same over the connection of another place of the table, of which a foreign key may be gone meanwhile."""
        other = copy(self)
        other.place, other._referred, other._there = place, dict(self._referred), {}
        return other

    def found(self, part: Part, coming: Coming) -> list[pl.DataFrame]:
        """The rows of a part that refer to what neither is there nor comes: `_row`, `reason`, `detail`."""
        found = []
        for column in part.columns:
            if there := self._referred_by(column):
                found += self._orphans(part, column, there, coming)
        return found

    def _planned_values(self, column: TargetColumn, referred: Referred) -> list[pl.Series]:
        """What a column may hold of rows that a dry run would have made before."""
        made = self.planned.get(column.references or "", [])
        return [rows.get_column(referred.column) for rows in made if referred.column in rows.columns]

    def look_anew(self) -> None:
        """Forget what was there."""
        self._there = {}

    def _orphans(self, part: Part, column: TargetColumn, referred: Referred, coming: Coming) -> list[pl.DataFrame]:
        ids = part.rows.select(pl.col(column.name).drop_nulls().unique()).to_series()
        keys = self._planned_values(column, referred)
        if column.name in self.own:
            keys += [values for name, values in self._values(coming) if name == column.name]
            keys += [self._there[column.name]] if column.name in self._there else []
        for known in keys:
            ids = ids.filter(~ids.is_in(known.cast(ids.dtype).implode()))
        missing = self._missing(referred, ids)
        if column.name in self.own:
            # Asked once, however often it is looked who else goes.
            there = ids.filter(~ids.is_in(missing.implode())) if len(missing) else ids
            self._there[column.name] = pl.concat([self._there.get(column.name, there.clear()), there])
        if missing.is_empty():
            return []
        detail = pl.format(f"{column.name}: {column.references} has no row {{}}", column.name)
        reason = "parent_rejected" if column.references == self.place.target.parent else "orphan_reference"
        return [_refused(part, pl.col(column.name).is_in(missing.implode()), detail, reason)]

    def links(self, rows: Coming) -> list[tuple[str, pl.DataFrame, str]]:
        """Each column that may refer to one of `rows`, those of one target, and the column of them that it holds."""
        found = []
        for name in self.own:
            column = self.place.target.column(name)
            if referred := self._referred_by(column):
                of_table = rows.get(column.references or "", ())
                found += [(name, some, referred.column) for some in of_table if referred.column in some.columns]
        return found

    def _values(self, rows: Coming) -> Iterator[tuple[str, pl.Series]]:
        """Each column that may refer to one of `rows`, and what it holds then."""
        for name, some, column in self.links(rows):
            yield name, some.get_column(column)

    def refers_to(self, frame: pl.DataFrame, rows: Coming) -> pl.Expr:
        """Which rows of a frame refer to one of `rows`."""
        refers = pl.lit(False)
        for name, values in self._values(rows):
            if name in frame.columns:
                refers |= pl.col(name).is_in(values.cast(frame.schema[name]).implode()).fill_null(False)
        return refers

    def _missing(self, referred: Referred, ids: pl.Series) -> pl.Series:
        """Those of the ids that a table does not have, or that somebody else's row took from one of this system's."""
        if ids.is_empty():
            return ids
        rows = self.place.connection.execute(
            sql.SQL(
                # The type is the catalogue's own word for it.
                # Not as one condition with OR: then all of a table would be read for each few ids.
                "WITH wanted AS (SELECT * FROM unnest({wanted}) WITH ORDINALITY AS wanted (id, place))"
                " SELECT place - 1 FROM wanted"
                " WHERE NOT EXISTS (SELECT FROM {table} AS other WHERE other.{column} = wanted.id)"
                " UNION SELECT place - 1 FROM wanted WHERE id::text IN (SELECT target_key FROM migration.conflict"
                "  WHERE (system, target_table, cause) = (%s, %s, %s))"
            ).format(
                wanted=sql.SQL("%s::" + referred.kind + "[]"),
                table=referred.table,
                column=sql.Identifier(referred.column),
            ),
            [array_parameter(ids), self.place.system, referred.name, KEY_TAKEN],
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
            referred = self._referred_by(column) if column.name in rows.columns else None
            for keys in self._planned_values(column, referred) if referred else []:
                refers = pl.col(column.name).is_in(keys.cast(rows.schema[column.name]).implode()).fill_null(False)
                rows = rows.filter(~refers)
        return rows

    def of_unwritten(self, rows: pl.DataFrame, unwritten: Coming) -> pl.DataFrame:
        """Those of the rows that refer to one that is not written: `_row`, `reason`, `detail`."""
        found = [rows.select("_row", reason=pl.lit(""), detail=pl.lit("")).clear()]
        for name, values in self._values(unwritten):
            refers = pl.col(name).is_in(values.cast(rows.schema[name]).implode())
            table = self.place.target.column(name).references
            detail = pl.format(f"{name}: the row {{}} of {table} is somebody else's, or is not written", name)
            found.append(rows.filter(refers).select("_row", reason=pl.lit("orphan_reference"), detail=detail))
        return pl.concat(found)


def unwritten(part: Part, fates: pl.DataFrame) -> pl.DataFrame:
    """The rows of a part that are in conflict, and whose keys a row of others has or none."""
    taken = pl.col("target_id").is_null() | (pl.col("cause") == KEY_TAKEN)
    return part.rows.join(fates.filter((pl.col("fate") == "conflict") & taken), on="_row", how="semi")


def by_name(orphans: Iterable[Orphans], frames: Iterable[pl.DataFrame]) -> dict[str, list[pl.DataFrame]]:
    """Rows of targets that are loaded together, by each name of their table."""
    rows: dict[str, list[pl.DataFrame]] = {}
    for of_target, frame in zip(orphans, frames, strict=True):
        for name in of_target.place.target.names:
            rows.setdefault(name, []).append(frame)
    return rows


def settled(
    orphans: Sequence[Orphans], parts: Sequence[Part], absent: Sequence[pl.DataFrame] | None = None
) -> list[Part]:
    """Parts that are loaded together without the source rows of orphans; what refers to these goes too, however far.

    `absent`: the keys of rows of the parts that are known not to be written; these stay in the parts themselves.
    """
    parts = list(parts)
    for of_target in orphans:
        of_target.look_anew()
    again = True
    while again:
        again = False
        for place, of_target in enumerate(orphans):
            rows = [part.rows for part in parts]
            if absent is not None:
                rows = [some.join(keys, on=keys.columns, how="anti") for some, keys in zip(rows, absent, strict=True)]
            found = of_target.found(replace(parts[place], rows=rows[place]), by_name(orphans, rows))
            if found:
                parts[place] = without_rows(parts[place], found)
                # What refers to what went may be in any of them.
                again = any(each.own for each in orphans)
    return parts


def that_can_be_tried(orphans: Sequence[Orphans], frames: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """In a dry run, the rows (with `_row`) that need nothing, however far, that is missing because nothing stays."""
    tried = [of_target.that_can_be_tried(rows) for of_target, rows in zip(orphans, frames, strict=True)]
    again = any(some.height < rows.height for some, rows in zip(tried, frames, strict=True))
    while again:
        again = False
        for place, of_target in enumerate(orphans):
            left = [rows.join(some, on="_row", how="anti") for some, rows in zip(tried, frames, strict=True)]
            rows = tried[place].filter(~of_target.refers_to(tried[place], by_name(orphans, left)))
            again = again or rows.height < tried[place].height
            tried[place] = rows
    return tried


def _refused(part: Part, which: pl.Expr, detail: pl.Expr, reason: str) -> pl.DataFrame:
    return part.rows.filter(which).select("_row", pl.lit(reason).alias("reason"), detail.alias("detail"))
