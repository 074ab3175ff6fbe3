"""Rows of the MySQL text protocol as columns of bytes.

PyMySQL reads packets one by one and takes them apart, a few Python calls a value. Here thousands of rows are taken as
they lie in the buffer of the connection, and taken apart at once, column after column: a value is as many bytes as the
number before it says. What is no plain row (the end, an error, a part of a row) is left to PyMySQL.
"""

from array import array
from collections.abc import Iterator
from io import BufferedReader
from struct import Struct
from typing import Any

import polars as pl
import pyarrow as pa

NULL = 251
"""What stands in place of a length."""
WIDTHS = {252: 2, 253: 3, 254: 8}
"""How many bytes hold the length after each of these; a smaller number is the length itself."""

ROW, AT, LENGTH, WIDTH = "row", "at", "length", "width"

BUFFER_BYTES = 1 << 20
HEADER = Struct("<I")
"""Length of a packet, in three bytes, and its number."""
LENGTH_BITS = 24
LONGEST = (1 << LENGTH_BITS) - 1
"""A packet of this length has others behind it that belong to it."""
NO_ROW = 254
"""A packet that begins with this or more is the end or an error; else it is a row with a value as long as several."""


def with_large_buffer(connection: Any) -> None:
    """Lets a connection that waits for nothing read more at once."""
    connection._rfile = BufferedReader(connection._rfile.detach(), BUFFER_BYTES)


def row_batches(result: Any, most_rows: int, most_bytes: int) -> Iterator[pl.Series]:
    """The rows of an unbuffered PyMySQL result as the server sends them; its connection is free again at the end.

    A batch has as many rows, or (but for its last row) bytes, as it may, however they were received.
    """
    collected: list[pl.Series] = []
    rows = size = 0
    while result.unbuffered_active:
        some = _buffered(result.connection, most_rows - rows, most_bytes - size)
        if some is None:
            packet = result.connection._read_packet()
            if result._check_packet_is_eof(packet):
                result.unbuffered_active = False
                result.connection = None
                break
            some = pl.Series([packet.get_all_data()], dtype=pl.Binary), len(packet.get_all_data())
        collected.append(some[0])
        rows += len(some[0])
        size += some[1]
        if rows >= most_rows or size >= most_bytes:
            yield pl.concat(collected, rechunk=True)
            collected, rows, size = [], 0, 0
    if collected:
        yield pl.concat(collected, rechunk=True)


def _buffered(connection: Any, most_rows: int, most_bytes: int) -> tuple[pl.Series, int] | None:
    """The whole rows that were received already, and their bytes; None where there is none."""
    try:
        buffer = connection._rfile.peek()
    except OSError:
        # PyMySQL meets it again, and tells it.
        return None
    number = connection._next_seq_id
    starts: list[int] = []
    at = size = 0
    end = len(buffer)
    header = HEADER.unpack_from
    while at + HEADER.size < end:
        word = header(buffer, at)[0]
        length = word & LONGEST
        beyond = at + HEADER.size + length
        is_row = 0 < length < LONGEST and buffer[at + HEADER.size] < NO_ROW
        if beyond > end or not is_row or word >> LENGTH_BITS != number:
            break
        starts.append(at + HEADER.size)
        number = (number + 1) & 255
        at = beyond
        size += length
        if size >= most_bytes or len(starts) >= most_rows:
            break
    if not starts:
        return None
    connection._rfile.read(at)
    connection._next_seq_id = number
    # A value ends where the next one begins: what is behind a row, the header of the next, is never looked at.
    offsets = pa.py_buffer(array("q", [*starts, at]))
    packed = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(starts), [None, offsets, pa.py_buffer(buffer)])
    return pl.Series(packed), size


def columns_of(packets: pl.Series, count: int) -> list[pl.Series]:
    """The `count` columns of rows, as bytes; NULL is null."""
    rows = packets.alias(ROW).to_frame().with_columns(pl.lit(0, pl.Int64).alias(AT))
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
