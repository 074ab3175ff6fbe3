"""The numbers of the rows that a load writes, and the keys of those that it makes."""

import polars as pl
from psycopg import sql

from dtx_assets.machinery.load.key import new_numbers
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.postgres.content import copy_out
from dtx_assets.machinery.prepare.part import Part


class Ids:
    """Identities over one connection."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._dry_ids = 0

    def numbered(self, part: Part, present: pl.DataFrame | None = None) -> Part:
        """The part with the numbers of its rows, `_id`, where their keys are known before they are written.

        `present`: rows of the target with their numbers. For a key that is among them nobody is asked.
        """
        target, key = self.place.target, self.place.key
        if target.writes == "insert" and target.key_is_written:
            keys = part.rows.select(key.columns)
            numbers = self._numbers_by(present, keys)
            if numbers is None:
                numbers = key.numbers(self.place.connection, keys)
            elif numbers.null_count():
                unknown = key.numbers(self.place.connection, keys.filter(numbers.is_null()))
                numbers = numbers.scatter(numbers.is_null().arg_true(), unknown)
        elif target.writes == "update" and not key.is_number:
            keys = part.rows.select(pl.col("_id").cast(pl.String).alias(key.columns[0]))
            numbers = key.numbers(self.place.connection, keys)
        else:
            return part
        return part.with_ids(numbers)

    def numbered_by(self, part: Part, present: pl.DataFrame) -> Part | None:
        """The same of rows that are inserted, by `present` alone; None where somebody has to be asked."""
        key = self.place.key
        if not self.place.target.key_is_written or key.is_number:
            return self.numbered(part)
        numbers = self._numbers_by(present, part.rows.select(key.columns))
        return None if numbers is None or numbers.null_count() else part.with_ids(numbers)

    def _numbers_by(self, present: pl.DataFrame | None, keys: pl.DataFrame) -> pl.Series | None:
        """The numbers of keys that rows of the target have, null of the others; None where such rows say nothing."""
        key = self.place.key
        if present is None or key.is_number or not key.is_printed_in_one_way:
            return None
        known = present.select(*key.columns, "_id").unique(key.columns)
        return keys.join(known, on=key.columns, how="left", maintain_order="left").get_column("_id")

    def reserve(self, count: int) -> pl.DataFrame:
        """`_id` and the key of new rows of a table that gives its keys itself."""
        key = self.place.key
        if key.is_number:
            ids = self._integers(count)
            return pl.DataFrame([ids, ids.alias(key.columns[0])])
        given = copy_out(
            self.place.connection,
            sql.SQL("SELECT ({})::text FROM generate_series(1, {})").format(
                sql.SQL(self.place.key_default), sql.Literal(count)
            ),
            pl.Schema({key.columns[0]: pl.String()}),
        )
        return given.insert_column(0, key.numbers(self.place.connection, given))

    def _integers(self, count: int) -> pl.Series:
        """New ids of the table, ascending; those that a row has already are passed over.

        A dry run takes none: a sequence is not rolled back. Its rows have ids below zero for the moment.
        """
        if self.place.dry:
            self._dry_ids -= count
            return pl.int_range(self._dry_ids, self._dry_ids + count, eager=True, dtype=pl.Int64).alias("_id")
        give = sql.SQL("nextval({}::regclass)").format(sql.Literal(self.place.live.id_sequence))
        if self.place.live.id_sequence is None:
            give = sql.SQL("({})").format(sql.SQL(self.place.key_default))
        return new_numbers(self.place.connection, give, count, self.place.key.columns[0], self.place.table)

    def raise_sequence(self) -> None:
        """The sequence behind keys that are written stands at the highest of them or above; it is never lowered."""
        place = self.place
        if place.dry or not (place.target.key_is_written and place.key.is_number and place.live.id_sequence):
            return
        place.connection.execute(
            sql.SQL(
                "SELECT setval({name}, highest) FROM (SELECT max({key}) AS highest FROM {table}) AS present,"
                " {sequence} AS stands WHERE highest > last_value OR (highest = last_value AND NOT is_called)"
            ).format(
                name=sql.Literal(place.live.id_sequence),
                sequence=sql.SQL(place.live.id_sequence),
                key=sql.Identifier(place.key.columns[0]),
                table=place.table,
            )
        )


HIGHEST = 2**63 - 1
"""The highest bigint. A range that ends with it is open above: PostgreSQL keeps the number after the last one."""
FIRST_AND_LAST = f"lower(ids) AS low, coalesce(upper(ids) - 1, {HIGHEST}) AS high"
"""The first and the last number of a range `ids`."""


def multirange(ids: pl.Series) -> str:
    """Ids as PostgreSQL reads an int8multirange."""
    low, high = ids.min(), ids.max()
    if isinstance(low, int) and isinstance(high, int) and high - low + 1 == len(ids) == ids.n_unique():
        runs = pl.DataFrame({"low": [low], "high": [high]})
    else:
        runs = (
            ids.alias("id")
            .sort()
            .to_frame()
            .group_by((pl.col("id") - pl.int_range(pl.len())).alias("run"))
            .agg(pl.col("id").min().alias("low"), pl.col("id").max().alias("high"))
            .sort("low")
        )
    end = pl.when(pl.col("high") < HIGHEST).then(pl.format("{}]", "high")).otherwise(pl.lit(")"))
    listed = runs.select(pl.format("[{},{}", "low", end).str.join(",")).item()
    return f"{{{listed or ''}}}"
