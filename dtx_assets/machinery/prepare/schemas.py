"""Pandera schemas of legacy and target tables, rendered from their declarations, and the rows that fail them.

What a flow's rules reject by name is not repeated here: a legacy schema holds what a row needs to be told from others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import PYTHON_TIMES, TargetColumn, TargetTable, polars_type
from dtx_assets.machinery.postgres.values import is_printed, refusals, tidied
from dtx_assets.machinery.transforms.columns import INSTANT

# Pandera is imported where it is used: it takes an eighth of a second, and most commands need no schema.
if TYPE_CHECKING:
    import pandera.polars as pa


INTEGER_TEXT = r"^-?[0-9]+(\.0)?$"
IS_AN_INTEGER = "is an integer"
INTEGER_RANGES = {"smallint": (-(2**15), 2**15 - 1), "integer": (-(2**31), 2**31 - 1)}
"""What `bigint` holds is what Int64 holds."""

REFUSED, DOUBTFUL = "refused", "doubtful"
POSITION = "_position"
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
    """The checks of what the type of a column reads; a text fails the first of them only.

    What is spelled as the server prints it fails none of them: nearly all texts are, and a look at that is cheap.
    """
    checks = []
    text = pl.col(column.name)
    doubtful = text.is_not_null() & ~is_printed(column.kind, text)
    before = pl.lit(False)
    for test, words in refusals(column.kind, tidied(column.kind, text)):
        refused = test.fill_null(False)
        checks.append(_check(refused & ~before, f"{column.name} {words}", doubtful))
        before |= refused
    return checks


def _check(refused: pl.Expr, error: str, doubtful: pl.Expr | None = None) -> pa.Check:
    """A check that fails where `refused`; NULL passes. It tells the expression itself as one of its statistics.

    `doubtful`: where it may fail at all; None is everywhere.
    """
    import pandera.polars as pa

    refused = refused.fill_null(False)
    statistics = {REFUSED: refused, DOUBTFUL: doubtful}
    return pa.Check(lambda data: data.lazyframe.select(~refused), error=error, statistics=statistics)


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
    everywhere = [test.refused.any().alias(str(n)) for n, test in enumerate(tests) if test.doubtful is None]
    fails = frame.select(everywhere).row(0, named=True) if everywhere else {}
    doubtful: dict[str, pl.DataFrame] = {}
    found = [empty]
    for number, test in enumerate(tests):
        if test.doubtful is None:
            if not fails[str(number)]:
                continue
            places = frame.select(test.refused.arg_true().cast(pl.UInt32).alias("index"))
        else:
            if test.column not in doubtful:
                numbered = frame.lazy().select(test.column).with_row_index(POSITION)
                doubtful[test.column] = numbered.filter(test.doubtful).collect()
            places = doubtful[test.column].filter(test.refused).select(pl.col(POSITION).alias("index"))
        found.append(places.with_columns(pl.lit(test.column).alias("column"), pl.lit(test.check).alias("check")))
    return pl.concat(found)


def _refuse_other_types(schema: pa.DataFrameSchema, frame: pl.DataFrame) -> None:
    if all(_is_as_declared(column, frame.schema.get(name)) for name, column in schema.columns.items()):
        # Pandera would run each check on no rows, for each batch anew; it is asked only for its words.
        return

    from pandera.errors import SchemaErrors

    # Eager on purpose, if without rows: of a lazy frame Pandera would not run the checks.
    types = frame.clear().select(name for name in schema.columns if name in frame.columns)
    try:
        schema.validate(types, lazy=True)
    except SchemaErrors as errors:
        raise TypeError(f"{schema.name}: {errors.failure_cases.row(0, named=True)}") from errors


def _is_as_declared(column: pa.Column, kind: pl.DataType | None) -> bool:
    """Whether a column surely is of its type, or may be missing and is."""
    if kind is None:
        return not column.required
    return bool(column.dtype.type == kind)


@dataclass(frozen=True)
class _Test:
    """Where a check of a column fails; `doubtful`: where it may fail at all, of the texts of the column alone."""

    column: str
    check: str
    refused: pl.Expr
    doubtful: pl.Expr | None = None


def _tests(schema: pa.DataFrameSchema, frame: pl.DataFrame) -> Iterator[_Test]:
    for name, kind in frame.schema.items():
        if name in schema.columns and kind == INSTANT:
            beyond = ~pl.col(name).is_between(*PYTHON_TIMES)
            yield _Test(name, f"{name} is of the years 1 to 9999", beyond.fill_null(False))
    for name, column in schema.columns.items():
        if name not in frame.columns:
            continue
        if not column.nullable:
            yield _Test(name, "not_nullable", pl.col(name).is_null())
        for check in column.checks:
            yield _Test(name, check.error, check.statistics[REFUSED], check.statistics[DOUBTFUL])
