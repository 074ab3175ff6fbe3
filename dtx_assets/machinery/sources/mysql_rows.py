"""Rows of the MySQL text protocol as columns of bytes.

PyMySQL reads the packets; it also takes them apart, a few Python calls a value, which was most of the time of an
extraction. Here thousands of rows are taken apart at once, column after column: a value is as many bytes as the number
before it says.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

NULL = 251
"""What stands in place of a length."""
WIDTHS = {252: 2, 253: 3, 254: 8}
"""How many bytes hold the length after each of these; a smaller number is the length itself."""

ROW, AT, LENGTH, WIDTH = "row", "at", "length", "width"


def row_packets(result: Any) -> Iterator[bytes]:
    """The rows of an unbuffered PyMySQL result as the server sends them; its connection is free again at the end."""
    while result.unbuffered_active:
        packet = result.connection._read_packet()
        if result._check_packet_is_eof(packet):
            result.unbuffered_active = False
            result.connection = None
        else:
            yield packet.get_all_data()


def columns_of(packets: Sequence[bytes], count: int) -> list[pl.Series]:
    """The `count` columns of rows, as bytes; NULL is null."""
    rows = pl.DataFrame({ROW: pl.Series(packets, dtype=pl.Binary)}).with_columns(pl.lit(0, pl.Int64).alias(AT))
    columns: list[pl.Series] = []
    row, at, length = pl.col(ROW), pl.col(AT), pl.col(LENGTH)
    for _ in range(count):
        rows = rows.with_columns(row.bin.get(at).cast(pl.Int64).alias(LENGTH))
        is_null = rows[LENGTH] == NULL
        starts = at + 1
        if (rows[LENGTH] > NULL).any():
            width = length.replace_strict(WIDTHS, default=0, return_dtype=pl.Int64)
            rows = rows.with_columns(width.alias(WIDTH)).with_columns(
                pl.when(pl.col(WIDTH) > 0).then(_little_endian(row, starts)).otherwise(length).alias(LENGTH)
            )
            starts += pl.col(WIDTH)
        rows = rows.with_columns(pl.when(is_null).then(0).otherwise(length).alias(LENGTH))
        value = pl.when(is_null).then(None).otherwise(row.bin.slice(starts, length))
        columns.append(rows.select(value.alias("value"))["value"])
        rows = rows.select(ROW, (starts + length).alias(AT))
    return columns


def _little_endian(row: pl.Expr, starts: pl.Expr) -> pl.Expr:
    """The number in the `width` bytes from `starts`."""
    parts = (
        pl.when(position < pl.col(WIDTH))
        .then(row.bin.get(starts + position, null_on_oob=True).cast(pl.Int64) * 256**position)
        .otherwise(0)
        for position in range(7)
    )
    return pl.sum_horizontal(parts)
