"""What COPY of PostgreSQL sends, as batches of columns of bytes."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
from psycopg import sql


class RowTooLong(Exception):
    """A row does not fit into a block."""


def copied(
    connection: psycopg.Connection[Any],
    rows: sql.Composable,
    columns: Sequence[tuple[str, str]],
    block: int,
    *,
    as_stored: bool,
) -> Generator[pa.RecordBatch]:
    """The rows of a query, whose `columns` are names and types, read `block` bytes at a time.

    `as_stored`: of a database of no encoding, which may hold bytes that are no text, and refuses to send them as such.
    Raises RowTooLong.
    """
    positions = [str(position) for position in range(len(columns))]
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(rows)
    with _encoding(connection, as_stored), connection.cursor() as cursor, cursor.copy(statement) as copy:
        stream = _CopyStream(copy)
        if stream.is_empty():
            return
        try:
            yield from (
                _with_bytes(batch, columns)
                for batch in pa_csv.open_csv(
                    stream,
                    read_options=pa_csv.ReadOptions(block_size=block, use_threads=False, column_names=positions),
                    parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                    convert_options=pa_csv.ConvertOptions(
                        column_types=dict.fromkeys(positions, pa.binary()),
                        null_values=[""],
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=False,
                    ),
                )
            )
        except pa.ArrowInvalid:
            # The server's CSV has no other fault.
            raise RowTooLong from None
        finally:
            stream.drain()


@contextmanager
def _encoding(connection: psycopg.Connection[Any], as_stored: bool) -> Iterator[None]:
    if not as_stored:
        yield
        return
    connection.execute("SET LOCAL client_encoding = 'SQL_ASCII'")
    yield
    connection.execute("SET LOCAL client_encoding = 'UTF8'")


class _CopyStream:
    """What COPY sends as a file that gives as many bytes as it is asked for.

    Arrow reads ahead in a thread of its own, and goes on for a while after it was told to stop.
    """

    def __init__(self, copy: psycopg.Copy) -> None:
        self._copy = copy
        self._waiting = bytearray()
        self._lock = Lock()
        self.closed = False

    def is_empty(self) -> bool:
        self._fill(1)
        return not self._waiting

    def read(self, size: int) -> bytes:
        with self._lock:
            if self.closed:
                return b""
            self._fill(size)
            taken = bytes(self._waiting[:size])
            del self._waiting[:size]
            return taken

    def _fill(self, size: int) -> None:
        while len(self._waiting) < size and (data := self._copy.read()):
            self._waiting += data

    def drain(self) -> None:
        """Reads on to the end: a COPY that is left halfway would end the snapshot."""
        with self._lock:
            self.closed = True
            while self._copy.read():
                pass

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def _with_bytes(batch: pa.RecordBatch, columns: Sequence[tuple[str, str]]) -> pa.RecordBatch:
    """The batch with bytea columns as their bytes."""
    arrays = [
        pl.Series(array.cast(pa.large_string())).str.slice(2).str.decode("hex").to_arrow().cast(pa.large_binary())
        if kind == "bytea"
        else array
        for array, (_, kind) in zip(batch.columns, columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)
