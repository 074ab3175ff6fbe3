"""The rows of a table in two numbers, which change with any value of any of them: the server reads each row."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from psycopg import sql

from dtx_assets.machinery.postgres.connection import Connection

DIGEST = pl.Int64()


@dataclass(frozen=True)
class RowsDigest:
    """How many rows, and the sum of a hash of 64 bits of each: what differs in one row differs in the sum."""

    rows: int
    total: int

    def __add__(self, other: "RowsDigest") -> "RowsDigest":
        return RowsDigest(self.rows + other.rows, self.total + other.total)

    def with_rows(self, digests: pl.Series) -> "RowsDigest":
        """This with the hashes of more rows."""
        # In halves: a column of 64 bits has no room for the sum.
        halves = digests.to_frame("digest").select(
            (pl.col("digest").floordiv(1 << 32)).sum().alias("high"), (pl.col("digest") % (1 << 32)).sum().alias("low")
        )
        high, low = halves.row(0)
        return RowsDigest(self.rows + len(digests), self.total + (high << 32) + low)


NO_ROWS = RowsDigest(0, 0)


def row_digest(row: str, columns: Sequence[str] = ()) -> sql.Composable:
    """The hash of a row, or of some of its columns, as SQL; UndefinedFunction where a type has no binary form.

    Of what the server sends of it in binary, in which equal values of different scale or case differ. Its own hash of a
    row is a sum over the columns: values that change places between rows would leave the sum of all as it was.
    """
    values: sql.Composable = sql.Identifier(row)
    if columns:
        values = sql.SQL("ROW({})").format(sql.SQL(", ").join(sql.Identifier(row, name) for name in columns))
    return sql.SQL("hash_array_extended(ARRAY[record_send({})], 0)").format(values)


def digest_of(connection: Connection, digest: sql.Composable, rows: sql.Composable) -> RowsDigest:
    """Of what follows FROM, with a hash of each row."""
    query = sql.SQL("SELECT count(*), coalesce(sum({}), 0) FROM {}").format(digest, rows)
    found = connection.execute(query).fetchone()
    assert found is not None
    return RowsDigest(int(found[0]), int(found[1]))
