"""The declaration of target tables: the one place that says a column's type, nullability, length and meaning.

DDL, Pandera schemas, Polars dtypes and column metadata are rendered from it. Writing rows is `load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import polars as pl

from dtx_assets.machinery.model.types import BUILT_IN, EXTENSIONS, ColumnType, column_type

OTHER_AREAS = "other_areas"
"""The area of tables that others own."""
_POLARS_TYPES = {
    "smallint": pl.Int64(),
    "integer": pl.Int64(),
    "bigint": pl.Int64(),
    "boolean": pl.Boolean(),
    "timestamp with time zone": pl.Datetime("us", "UTC"),
}


def polars_type(type_name: str) -> pl.DataType:
    """How a column of a PostgreSQL type is held while it is prepared: integers wide for the range check, JSON as
    canonical text (keys sorted, no blanks), all that Polars has no exact type for as text that the type reads.

    ValueError where the text is no type.
    """
    kind = column_type(type_name)
    return pl.String() if kind.is_array else _POLARS_TYPES.get(kind.name, pl.String())


@dataclass(frozen=True)
class TargetColumn:
    """`type` is a PostgreSQL type: `bigint`, `numeric(18,4)`, `timestamptz`, `integer[]`, or the name of an own one.

    `allowed` are the values that may be written; of an own type, its labels in their order: it is an enum.
    """

    name: str
    type: str
    description: str
    nullable: bool = False
    max_length: int | None = None
    references: str | None = None
    allowed: tuple[str, ...] = ()
    unique: bool = False
    identity: bool = False
    """Whether the target counts it up where nothing is written, as it does a key that it gives."""
    stays_null: bool = False
    """Whether the mapping writes NULL throughout."""
    needed_when: tuple[str, ...] = ()
    """A decision and those of its options that need this column; empty where every option does."""
    default: str | None = None
    """The constant that the live target puts where nothing is written, as text; None where there is none."""
    filled_with_now: bool = False
    """Whether the live target puts the current time there."""

    @property
    def kind(self) -> ColumnType:
        """Its type, taken apart."""
        return column_type(self.type)

    @property
    def is_held_as_text(self) -> bool:
        return polars_type(self.type) == pl.String

    @property
    def longest(self) -> int | None:
        """How many characters a text may have."""
        return self.max_length if self.max_length is not None else self.kind.length

    @property
    def makes_enum(self) -> bool:
        """Whether `allowed` are the labels of a type of its own."""
        return bool(self.allowed) and self.kind.name not in BUILT_IN and self.kind.name not in EXTENSIONS

    def is_needed(self, decisions: Mapping[str, str]) -> bool:
        return not self.needed_when or decisions.get(self.needed_when[0]) in self.needed_when[1:]


@dataclass(frozen=True)
class TargetTable:
    """A table of the new database. `key` are the columns of its primary key. The target gives it (sequence or default:
    one column, which is not among `columns`), or, where `key_is_written`, the mapping makes it as any of `columns`.

    `writes` is `insert` (this project creates rows), `update` (it fills columns of another area's rows, found by `id`),
    `nothing` (it starts empty or is another area's, and is only read or watched).
    """

    name: str
    model: str
    area: str
    columns: tuple[TargetColumn, ...]
    writes: Literal["insert", "update", "nothing"] = "nothing"
    natural_key: tuple[str, ...] = ()
    key: tuple[str, ...] = ("id",)
    key_is_written: bool = False
    nulls_equal: bool = False
    file_columns: tuple[str, str] | None = None
    """Where a file belongs to each row: the column of its key in the object store, and that of its SHA-256."""
    held_column: str | None = None
    """The column that is false until the rows are activated; prepared rows say in `_<column>` what it is to be then."""
    refers_to: tuple[str, ...] = ()
    """The tables that foreign keys of several columns lead to; those of one column are `references` of it."""
    loaded_after: tuple[str, ...] = ()
    """Models whose load comes first where it can: an order, no dependency."""
    is_junction: bool = False
    """Whether its rows are pairs that documents name in arrays: one of them gives rows in several parts."""
    decision: str = ""
    description: str = ""
    parent: str = ""
    """The table, as columns `reference` it, that the rows of the same legacy rows belong to."""
    schema: str | None = None
    """None: where the search path finds it."""

    @property
    def names(self) -> tuple[str, ...]:
        """What a column may call the table that it refers to."""
        return (f"{self.schema}.{self.name}", self.name) if self.schema else (self.name,)

    def column(self, name: str) -> TargetColumn:
        return next(column for column in self.columns if column.name == name)

    def columns_under(self, decisions: Mapping[str, str]) -> tuple[TargetColumn, ...]:
        """The columns that are written under the chosen options."""
        return tuple(column for column in self.columns if column.is_needed(decisions))


PYTHON_TIMES = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
"""What Python can hold, and so what applications that are written in it can read."""
