"""Pandera schemas of legacy and target tables, rendered from their declarations, and the rows that fail them.

What a flow's rules reject by name is not repeated here: a legacy schema holds what a row needs to be told from others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

REFUSED = "refused"
FAILURES = pl.Schema({"index": pl.UInt32(), "column": pl.String(), "check": pl.String()})


def legacy_schema(table: LegacyTable, not_null: Sequence[str] = ()) -> pa.DataFrameSchema:
    """Schema of a legacy table as text: its unique key is there and is of its kind, `not_null` columns have a value."""
    import pandera.polars as pa

    columns = {}
    for name in dict.fromkeys((*(table.key if table.has_unique_key else ()), *not_null)):
        checks = []
        if name in table.key and table.kind_of(name) == "integer":
            checks.append(_check(~pl.col(name).str.contains(INTEGER_TEXT), f"{name} {IS_AN_INTEGER}"))
        # What has no ObjectId is told by the transform of the key: it is as unusable as one that is none.
        is_told = name not in not_null and table.kind_of(name) == "object_id"
        columns[name] = pa.Column(pl.String, checks, nullable=is_told)
    return pa.DataFrameSchema(columns, name=table.name, strict=False)


def target_schema(table: TargetTable) -> pa.DataFrameSchema:
    """Schema of the prepared rows of a target: types, nullability, and what the declared types alone say of values.

    What more a type asks of its texts, the live target tells: `printed`.
    """
    import pandera.polars as pa

    columns = {}
    for column in table.columns:
        name, value = column.name, pl.col(column.name)
        checks = []
        if column.allowed and not column.kind.is_array:
            checks.append(_check(~value.is_in(list(column.allowed)), f"{name} is an allowed value"))
        if column.longest is not None:
            checks.append(_check(value.str.len_chars() > column.longest, f"{name} is not too long"))
        if column.kind.name in INTEGER_RANGES and column.kind.is_integer:
            article = "an" if column.kind.name == "integer" else "a"
            within = INTEGER_RANGES[column.kind.name]
            checks.append(_check(~value.is_between(*within), f"{name} fits {article} {column.kind.name}"))
        if column.is_held_as_text:
            checks += _readable(column)
        columns[name] = pa.Column(polars_type(column.type), checks, nullable=column.nullable, required=False)
    return pa.DataFrameSchema(columns, name=table.name, strict=False)


def _readable(column: TargetColumn) -> list[pa.Check]:
    """The checks of what the type of a column reads; a text fails the first of them only."""
    checks = []
    before = pl.lit(False)
    for test, words in refusals(column.kind, tidied(column.kind, pl.col(column.name))):
        refused = test.fill_null(False)
        checks.append(_check(refused & ~before, f"{column.name} {words}"))
        before |= refused
    return checks


def _check(refused: pl.Expr, error: str) -> pa.Check:
    """A check that fails where `refused`; NULL passes. It tells the expression itself as one of its statistics."""
    import pandera.polars as pa

    refused = refused.fill_null(False)
    return pa.Check(lambda data: data.lazyframe.select(~refused), error=error, statistics={REFUSED: refused})


def schema_failures(schema: pa.DataFrameSchema, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of `frame` that fail, as `index` (position, UInt32), `column` and `check` (its name); empty when all pass.

    They are those that Pandera finds, in its order. Pandera itself looks at the types only: it would go through a
    column once for each check, quote what fails, and hold a large text many times over.
    """
    empty = pl.DataFrame(schema=FAILURES)
    if not schema.columns or frame.is_empty():
        return empty
    _refuse_other_types(schema, frame)
    tests = list(_tests(schema, frame))
    if not tests:
        return empty
    fails = frame.select(refused.any().alias(str(number)) for number, (_, _, refused) in enumerate(tests)).row(0)
    found = [
        frame.select(refused.arg_true().cast(pl.UInt32).alias("index")).select(
            "index", pl.lit(column).alias("column"), pl.lit(check).alias("check")
        )
        for (column, check, refused), is_failed in zip(tests, fails, strict=True)
        if is_failed
    ]
    return pl.concat([empty, *found])


def _refuse_other_types(schema: pa.DataFrameSchema, frame: pl.DataFrame) -> None:
    from pandera.errors import SchemaErrors

    # Eager on purpose, if without rows: of a lazy frame Pandera would not run the checks.
    types = frame.clear().select(name for name in schema.columns if name in frame.columns)
    try:
        schema.validate(types, lazy=True)
    except SchemaErrors as errors:
        raise TypeError(f"{schema.name}: {errors.failure_cases.row(0, named=True)}") from errors


def _tests(schema: pa.DataFrameSchema, frame: pl.DataFrame) -> Iterator[tuple[str, str, pl.Expr]]:
    """Column, name of the check, and where it fails."""
    for name, kind in frame.schema.items():
        if name in schema.columns and kind == INSTANT:
            beyond = ~pl.col(name).is_between(*PYTHON_TIMES)
            yield name, f"{name} is of the years 1 to 9999", beyond.fill_null(False)
    for name, column in schema.columns.items():
        if name not in frame.columns:
            continue
        if not column.nullable:
            yield name, "not_nullable", pl.col(name).is_null()
        for check in column.checks:
            yield name, check.error, check.statistics[REFUSED]
