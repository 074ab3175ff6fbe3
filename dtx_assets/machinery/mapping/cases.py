"""Case tables: what several columns say together, as reviewed CSV. The first line that fits a row gives the value.

A column of the table is a column of the rows, or the key of a decision, of which the chosen option is compared; the
last one gives the value. An empty field fits anything, `NULL` what is missing, and any other text is compared as codes
are, trimmed and without case. A line that gives no value rejects, as no line does.
"""

from collections.abc import Mapping
from functools import reduce
from operator import and_

import polars as pl

from dtx_assets.machinery.transforms.columns import Outcome, Problem, code, shown

SUFFIX = ".cases.csv"
MISSING = "NULL"


def asked_columns(table: pl.DataFrame) -> list[str]:
    """What a line asks of: all columns but the last."""
    return table.columns[:-1]


def case_value(name: str, table: pl.DataFrame, decisions: Mapping[str, str]) -> Outcome:
    """The value that the first fitting line of a case table gives; a row that gets none is an `unmapped_value`."""
    columns = [column for column in asked_columns(table) if column not in decisions]
    value: pl.Expr = pl.lit(None, pl.String)
    for line in reversed(table.rows(named=True)):
        if all(line[key] in (None, chosen) for key, chosen in decisions.items() if key in line):
            fits = [_fits(column, line[column]) for column in columns if line[column] is not None]
            result = pl.lit(line[table.columns[-1]], pl.String)
            value = pl.when(reduce(and_, fits, pl.lit(True))).then(result).otherwise(value)
    told = pl.concat_str([shown(pl.col(column)) for column in columns], separator=", ")
    detail = pl.format("{} (" + ", ".join(columns) + f") gets no value of {name}{SUFFIX}", told)
    return Outcome(value, (Problem("unmapped_value", value.is_null(), detail),))


def _fits(column: str, wanted: str) -> pl.Expr:
    if wanted == MISSING:
        return pl.col(column).is_null()
    return (code(pl.col(column)) == wanted.strip().lower()).fill_null(False)
