"""The form in which every reader lands a table: text columns, a row number, and the bytes that are no text."""

import pyarrow as pa
import pyarrow.compute as pc

UNDECODABLE_TYPE = pa.list_(pa.struct([("column", pa.large_string()), ("bytes", pa.large_binary())]))


def landing_schema(columns: list[str]) -> pa.Schema:
    return pa.schema(
        [*((name, pa.large_string()) for name in columns), ("_row", pa.int64()), ("_undecodable", UNDECODABLE_TYPE)]
    )


def landed_batch(batch: pa.RecordBatch, columns: list[str], first_row: int) -> tuple[pa.RecordBatch, int]:
    """A batch of binary columns as landed; the number of values that are not UTF-8."""
    texts, lost = [], {}
    count = 0
    for index, name in enumerate(columns):
        column = batch.column(index)
        try:
            texts.append(column.cast(pa.large_string()))
        except pa.ArrowInvalid:
            values = column.to_pylist()
            escaped = []
            for row, value in enumerate(values):
                try:
                    escaped.append(None if value is None else value.decode())
                except UnicodeDecodeError:
                    escaped.append(value.decode("utf-8", "backslashreplace"))
                    lost.setdefault(row, []).append({"column": name, "bytes": value})
                    count += 1
            texts.append(pa.array(escaped, pa.large_string()))
    rows = pa.array(range(first_row, first_row + batch.num_rows), pa.int64())
    undecodable = (
        pa.array([lost.get(row) for row in range(batch.num_rows)], UNDECODABLE_TYPE) if lost else pa.nulls(batch.num_rows, UNDECODABLE_TYPE)
    )
    return pa.RecordBatch.from_arrays([*texts, rows, undecodable], schema=landing_schema(columns)), count
