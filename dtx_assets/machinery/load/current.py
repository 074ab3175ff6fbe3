"""The rows of a target that belong to a part, as they are now and as the mapping knows them. Nothing is written."""

from collections.abc import Sequence

import polars as pl
from psycopg import sql

from dtx_assets.machinery.load.identity import FIRST_AND_LAST
from dtx_assets.machinery.load.ownership import known_rows, with_former_rows, with_ownership
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.load.skip import XID_HORIZON
from dtx_assets.machinery.model.target import TargetColumn
from dtx_assets.machinery.postgres.content import (
    array_parameter,
    array_type,
    as_prepared,
    copy_out,
    readable,
    readable_schema,
)
from dtx_assets.machinery.postgres.digests import DIGEST, NO_ROWS
from dtx_assets.machinery.prepare.part import Part

PROBED_KEYS = 1000
"""Distinct leading keys of a part that are enough to probe whether the target has any of its rows."""


class CurrentRows:
    """The rows of one target, over one connection."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.led_to = NO_ROWS
        """The digest of the keys of the rows that were found last, where they were `counted`."""

    def of_part(
        self,
        part: Part,
        stored: pl.DataFrame,
        *,
        ids: pl.DataFrame | None = None,
        keys: pl.DataFrame | None = None,
        counted: bool = False,
    ) -> pl.DataFrame:
        """The rows of the target that have a key of the part, or that its source rows led to before.

        Or only those of some `ids` (a column `_id`), and of some `keys` (the rows of the part that have them).
        """
        known = known_rows(stored)
        fills = self.place.target.writes == "update"
        written_columns = {} if fills else self._written_columns(known.get_column("batch_id").unique())
        needed = {column.name: column for column in part.columns}
        for columns in written_columns.values():
            needed |= {column.name: column for column in columns or ()}
        place, target = self.place, self.place.target
        keys = part.rows if keys is None else keys
        if ids is None:
            led_to = stored.select(pl.col("target_id").alias("_id"))
            ids = pl.concat([led_to, part.rows.select("_id")]) if fills else led_to
        if target.writes == "insert" and target.key_is_written and keys.height:
            ids = pl.concat([ids, keys.select("_id")])
        ids = ids.unique()
        place.stage("staged_id", ids, ["_id"])
        found: sql.Composable = sql.SQL("SELECT _id FROM staged_id")
        # Numbers are given part by part: between the lowest and the highest there are few of other parts, and an index
        # leads there.
        lowest, highest = ids.select(pl.col("_id").min().alias("low"), pl.col("_id").max().alias("high")).row(0)
        between: sql.Composable = sql.SQL(" AND {} BETWEEN {} AND {}").format(
            place.key.number, sql.Literal(lowest), sql.Literal(highest)
        )
        key = self._natural_key if keys.height else []
        if key:
            place.stage("staged_natural_key", keys.select(key), key)
            same = sql.SQL(" AND ").join(self._same_key(name) for name in key)
            rows = sql.SQL("{} AS t JOIN staged_natural_key AS wanted ON {}").format(place.table, same)
            place.key.number_rows(place.connection, rows)
            found += sql.SQL(" UNION SELECT {number} FROM {table} AS t{beside}, staged_natural_key AS wanted").format(
                number=place.key.number, table=place.table, beside=place.key.beside
            ) + sql.SQL(" WHERE {} AND {}").format(place.key.same, same)
            between = sql.SQL("")
        columns = list(needed.values())
        values = [readable(column, "t") for column in columns]
        schema: dict[str, pl.DataType] = {"_id": pl.Int64(), "_xmin": pl.Int64(), **readable_schema(columns)}
        if counted:
            values.append(place.key.digest)
            schema["_digest"] = DIGEST
        current = copy_out(
            place.connection,
            sql.SQL(
                "SELECT {number}, t.xmin::text, {values} FROM {table} AS t{beside}"
                " WHERE {same} AND {number} IN ({found}){between}"
            ).format(
                number=place.key.number,
                values=sql.SQL(", ").join(values),
                table=place.table,
                beside=place.key.beside,
                same=place.key.same,
                found=found,
                between=between,
            ),
            pl.Schema(schema),
        )
        if counted:
            self.led_to = NO_ROWS.with_rows(current.get_column("_digest"))
            current = current.drop("_digest")
        raw = current.select(pl.col(c.name).alias(f"{c.name}@raw") for c in columns if c.kind.is_json)
        current = as_prepared(current, columns).hstack(raw)
        if fills:
            return current
        current = with_ownership(current, part.columns, known, written_columns)
        return current if current.get_column("_known").all() else self._with_former_rows(current)

    @property
    def _natural_key(self) -> list[str]:
        """The natural key, where it leads to other rows than the numbers of the keys do."""
        target, key = self.place.target, self.place.key
        if target.writes != "insert" or (
            target.key_is_written
            and target.natural_key == target.key
            # What the server holds for equal and prints in two ways has two numbers.
            and (key.is_number or set(key.types) == {"uuid"})
        ):
            return []
        return list(target.natural_key)

    def _with_former_rows(self, current: pl.DataFrame) -> pl.DataFrame:
        """Rows that earlier batches made and the mapping knows no longer are ours too: their source row moved away."""
        of_target = sql.SQL(
            "FROM migration.batch JOIN migration.load ON load.id = batch.load_id"
            " WHERE (load.system, load.target_table) = ({}, {})"
        ).format(*map(sql.Literal, self.place.of_model[:2]))
        of_model = sql.SQL("{} AND load.model = {}").format(of_target, sql.Literal(self.place.target.model))
        made = copy_out(
            self.place.connection,
            sql.SQL(
                "SELECT {} FROM (SELECT unnest(batch.inserted_ids) AS ids {} AND undone_at IS NULL) AS made ORDER BY 1"
            ).format(sql.SQL(FIRST_AND_LAST), of_model),
            pl.Schema({"low": pl.Int64(), "high": pl.Int64()}),
        )
        own_xmins = copy_out(
            self.place.connection,
            sql.SQL(
                "SELECT xid::xid::text {} AND pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
                " - xid::text::bigint < {}"
            ).format(of_target, sql.Literal(XID_HORIZON)),
            pl.Schema({"_xmin": pl.Int64()}),
        ).to_series()
        return with_former_rows(current, made, own_xmins)

    def _same_key(self, name: str) -> sql.Composable:
        nullable = self.place.target.nulls_equal and self.place.target.column(name).nullable
        same = "(t.{0} = wanted.{0} OR (t.{0} IS NULL AND wanted.{0} IS NULL))" if nullable else ("t.{0} = wanted.{0}")
        return sql.SQL(same).format(sql.Identifier(name))

    def _written_columns(self, batch_ids: pl.Series) -> dict[int, Sequence[TargetColumn] | None]:
        """The columns that batches wrote; None where the target has one of them no longer."""
        known = {column.name: column for column in self.place.target.columns if column.name in self.place.live.columns}
        rows = self.place.connection.execute(
            "SELECT id, columns FROM migration.batch WHERE id = ANY(%s)", [batch_ids.to_list()]
        )
        return {
            batch: [known[name] for name in names] if all(name in known for name in names) else None
            for batch, names in rows
        }

    def number_present(self, part: Part) -> None:
        """Give numbers to the rows that have a natural key of the part."""
        place, key = self.place, self._natural_key
        if place.key.is_number or not key:
            return
        # To join a table that is being filled with each of its parts would take the longer the more of them are there.
        if not (place.target.nulls_equal or self.has_some_row(part)):
            return
        place.stage("present_key", part.rows.select(key), key)
        same = sql.SQL(" AND ").join(self._same_key(name) for name in key)
        place.key.number_rows(
            place.connection, sql.SQL("{} AS t JOIN present_key AS wanted ON {}").format(place.table, same)
        )
        place.connection.execute("DROP TABLE present_key")

    def has_some_row(self, part: Part) -> bool:
        """Whether the target may have a row of the part: one with the leading columns of a key of it."""
        target = self.place.target
        keys = [target.natural_key, target.key if target.key_is_written else ()]
        return any(self._has_some_key(part, key) for key in dict.fromkeys(keys) if key)

    def _has_some_key(self, part: Part, key: Sequence[str]) -> bool:
        leading: list[str] = []
        for name in key:
            leading.append(name)
            keys = part.rows.lazy().select(leading).unique().collect()
            if keys.height >= PROBED_KEYS:
                break
        keys = keys.drop_nulls()
        columns = [self.place.target.column(name) for name in leading]
        if any(column.kind.is_array for column in columns):
            return True
        arrays = sql.SQL(", ").join(
            sql.SQL("%s::" + array_type(column, self.place.live.columns[column.name].plain_type)) for column in columns
        )
        query = sql.SQL("SELECT 1 FROM unnest({}) AS wanted ({}) JOIN {} AS present USING ({}) LIMIT 1").format(
            arrays, _names(leading), self.place.table, _names(leading)
        )
        # The planner knows nothing of the arrays; the unique index answers in no time.
        self._plan_joins(otherwise_than_nested=False)
        found = self.place.connection.execute(
            query, [array_parameter(keys.get_column(name)) for name in leading]
        ).fetchone()
        self._plan_joins(otherwise_than_nested=True)
        return found is not None

    def _plan_joins(self, *, otherwise_than_nested: bool) -> None:
        self.place.connection.execute(
            "SELECT set_config('enable_hashjoin', %(on)s, true), set_config('enable_mergejoin', %(on)s, true)",
            {"on": "on" if otherwise_than_nested else "off"},
        )


def _names(columns: list[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
