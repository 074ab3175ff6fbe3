"""Which cells of the legacy made a value, row by row, as columns of the frame that holds the values.

A function of a mapping tells it beside the columns that it fills, and only where it is asked: a run never asks. Of what
no function tells, the cells are those that the mapping declares.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from dtx_assets.machinery.mapping.model import ColumnMapping, SourceMapping

OF = "_of:"
"""Begins the name of the column that says which cells made another one."""
CELL = pl.Struct({"table": pl.String, "row": pl.Int64, "column": pl.String})
How = Literal["value", "sum"]


@dataclass(frozen=True)
class Cell:
    """A column of a legacy row: of the row itself, or of one of another table."""

    column: str
    table: str | None = None
    row: int | None = None


@dataclass(frozen=True)
class MadeOf:
    """The cells that made a value, and whether it is their sum."""

    cells: tuple[Cell, ...]
    how: How = "value"

    @classmethod
    def of(cls, told: dict[str, Any]) -> "MadeOf":
        """What `made_of` gave for one row."""
        cells = (Cell(each["column"], each["table"], each["row"]) for each in told["cells"] or ())
        return cls(tuple(dict.fromkeys(cells)), told["how"])


def cell(column: str, table: str | None = None, row: pl.Expr | None = None) -> pl.Expr:
    """A cell of the row itself, or of the row of another table that has the number `row`: NULL where there is none."""
    number = pl.lit(None, pl.Int64) if row is None else row.cast(pl.Int64)
    made = pl.struct(
        pl.lit(table, pl.String).alias("table"), number.alias("row"), pl.lit(column, pl.String).alias("column")
    )
    return made if row is None else pl.when(row.is_not_null()).then(made)


def cells(*each: str | pl.Expr) -> pl.Expr:
    """A list of cells: those of the row itself by name, others as `cell` gives them; NULL ones are left out."""
    if not each:
        return pl.lit([], pl.List(CELL))
    made = [cell(one) if isinstance(one, str) else one for one in each]
    return pl.concat_list(made).list.drop_nulls()


def made_of(cells: pl.Expr, how: How = "value") -> pl.Expr:
    """What a function tells of a column: the cells that made it, and how."""
    return pl.struct(pl.lit(how).alias("how"), cells.alias("cells"))


def told_of(made: MadeOf) -> pl.Expr:
    """What a function tells of a column whose cells are the same in each row: columns of the row itself."""
    return made_of(cells(*(each.column for each in made.cells)), made.how)


def declared_cells(column: ColumnMapping, source: SourceMapping) -> tuple[str, ...]:
    """The legacy columns that a mapping says a value is made from, and those that its own conditions ask of.

    `table.column` is another table's, whichever row of it.
    """
    return tuple(dict.fromkeys((*column.from_, *_asked(column, dict(source.made), ()))))


def _asked(column: ColumnMapping, made: dict[str, ColumnMapping], seen: Iterable[str]) -> Iterable[str]:
    for condition in column.only:
        if condition.column:
            yield condition.column
        elif condition.value and condition.value in made and condition.value not in seen:
            other = made[condition.value]
            yield from (*other.from_, *_asked(other, made, (*seen, condition.value)))
