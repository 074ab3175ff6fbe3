"""Pandera schemas of legacy and target tables, rendered from their declarations, and the rows that fail them.

What a flow's rules reject by name is not repeated here: a legacy schema holds what a row needs to be told from others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import PYTHON_TIMES, TargetColumn, TargetTable, polars_type
from dtx_assets.machinery.postgres.values import refusals, tidied
from dtx_assets.machinery.transforms.columns import INSTANT

# Pandera is imported where it is used: it takes an eighth of a second, and most commands need no schema.
if TYPE_CHECKING:
    import pandera.polars as pa


INTEGER_TEXT = r"^-?[0-9]+(\.0)?$"
IS_AN_INTEGER = "is an integer"
INTEGER_RANGES = {"smallint": (-(2**15), 2**15 - 1), "integer": (-(2**31), 2**31 - 1)}
"""What `bigint` holds is what Int64 holds."""


def legacy_schema(table: LegacyTable, not_null: Sequence[str] = ()) -> pa.DataFrameSchema:
    """Schema of a legacy table as text: its unique key is there and is of its kind, `not_null` columns have a value."""
    import pandera.polars as pa

    columns = {}
    for name in dict.fromkeys((*(table.key if table.has_unique_key else ()), *not_null)):
        checks = []
        if name in table.key and table.kind_of(name) == "integer":
            checks.append(pa.Check.str_matches(INTEGER_TEXT, error=f"{name} {IS_AN_INTEGER}"))
        columns[name] = pa.Column(pl.String, checks, nullable=False)
    return pa.DataFrameSchema(columns, name=table.name, strict=False)


def target_schema(table: TargetTable) -> pa.DataFrameSchema:
    """Schema of the prepared rows of a target: types, nullability, and what the declared types alone say of values.

    What more a type asks of its texts, the live target tells: `printed`.
    """
    import pandera.polars as pa

    columns = {}
    for column in table.columns:
        checks = []
        if column.allowed and not column.kind.is_array:
            checks.append(pa.Check.isin(list(column.allowed), error=f"{column.name} is an allowed value"))
        if column.longest is not None:
            checks.append(pa.Check.str_length(max_value=column.longest, error=f"{column.name} is not too long"))
        if column.kind.name in INTEGER_RANGES and column.kind.is_integer:
            article = "an" if column.kind.name == "integer" else "a"
            within = INTEGER_RANGES[column.kind.name]
            checks.append(pa.Check.in_range(*within, error=f"{column.name} fits {article} {column.kind.name}"))
        if column.is_held_as_text:
            checks += _readable(column)
        columns[column.name] = pa.Column(polars_type(column.type), checks, nullable=column.nullable, required=False)
    return pa.DataFrameSchema(columns, name=table.name, strict=False)


def _readable(column: TargetColumn) -> list[pa.Check]:
    """The checks of what the type of a column reads; a text fails the first of them only."""
    import pandera.polars as pa

    checks = []
    before = pl.lit(False)
    for test, words in refusals(column.kind, tidied(column.kind, pl.col(column.name))):
        refused = test.fill_null(False)
        passes = before | ~refused
        error = f"{column.name} {words}"
        checks.append(pa.Check(lambda data, passes=passes: data.lazyframe.select(passes), error=error))
        before |= refused
    return checks


def schema_failures(schema: pa.DataFrameSchema, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of `frame` that fail, as `index` (position, UInt32), `column` and `check` (its name); empty when all pass.

    The frame is eager on purpose: Pandera looks at a lazy frame's schema only.
    """
    from pandera.errors import SchemaErrors

    empty = pl.DataFrame(schema={"index": pl.UInt32, "column": pl.String, "check": pl.String})
    if not schema.columns or frame.is_empty():
        return empty
    present = frame.select(name for name in schema.columns if name in frame.columns)
    beyond = _beyond_python(present)
    if beyond.height:
        # Pandera quotes what fails in Python's types.
        readable = present.with_columns(
            pl.col(name).clip(*PYTHON_TIMES) for name, kind in present.schema.items() if kind == INSTANT
        )
        return pl.concat([beyond, schema_failures(schema, readable)])
    try:
        schema.validate(present, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        broken = cases.filter(pl.col("index").is_null())
        if broken.height:
            raise TypeError(f"{schema.name}: {broken.row(0, named=True)}") from errors
        return cases.select(pl.col("index").cast(pl.UInt32), "column", "check").unique(maintain_order=True)
    return empty


def _beyond_python(frame: pl.DataFrame) -> pl.DataFrame:
    """The times that Python cannot hold, as `schema_failures` gives rows that fail."""
    failed = [
        pl.DataFrame({"index": (~frame.get_column(name).is_between(*PYTHON_TIMES)).arg_true()}).select(
            pl.col("index").cast(pl.UInt32),
            pl.lit(name).alias("column"),
            pl.lit(f"{name} is of the years 1 to 9999").alias("check"),
        )
        for name, kind in frame.schema.items()
        if kind == INSTANT
    ]
    return pl.concat(failed) if failed else pl.DataFrame()
