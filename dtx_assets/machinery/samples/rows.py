"""Columns of a sample as expressions over a row's position: everything random is a function of seed, name and position.

So any slice of a table of any size can be made by itself, and ids fit between tables.
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import isfunction
from types import ModuleType
from typing import Any

import phpserialize
import polars as pl

POSITION = "_position"
TWO_TO_32 = 1 << 32

Columns = Mapping[str, pl.Expr]


def _nothing(*_: object) -> pl.Expr:
    raise LookupError("this sample has no other tables")


@dataclass(frozen=True)
class Rows:
    """Helps to write the columns of one table of a sample; `position` counts its rows from 0."""

    seed: int
    table: str
    size_of: Callable[[str], int]
    """Plausible rows of a table of the sample."""
    value_of: Callable[[str, str, pl.Expr], pl.Expr] = field(default=_nothing)
    """What a table has in a column at a position."""
    lists: Mapping[str, Sequence[object]] = field(default_factory=dict)
    """Values that `sample.yaml` names for functions."""
    ugly_share: float = 0.0
    """Part of the rows that is to be spoilt."""
    position: pl.Expr = field(default_factory=lambda: pl.col(POSITION))

    def at(self, position: pl.Expr) -> "Rows":
        return replace(self, position=position)

    def of(self, table: str) -> "Rows":
        """The same positions of another table."""
        return replace(self, table=table)

    def noise(self, name: str, of: pl.Expr | None = None) -> pl.Expr:
        """Evenly spread integers from 0 to 2³²-1; the same for the same `of` (by default the position)."""
        salt = zlib.crc32(f"{self.seed}/{self.table}/{name}".encode())
        mixed = ((self.position if of is None else of) + salt) % TWO_TO_32
        for factor in (0x45D9F3B, 0x119DE1F3):
            mixed = (mixed ^ (mixed // 65536)) * factor % TWO_TO_32
        return mixed ^ (mixed // 65536)

    def chance(self, name: str, share: float, of: pl.Expr | None = None) -> pl.Expr:
        """True in that share of the rows, 0 to 1."""
        return self.noise(name, of) < int(share * TWO_TO_32)

    def pick(self, name: str, values: Sequence[object], of: pl.Expr | None = None) -> pl.Expr:
        return choose(values, self.noise(name, of))

    def some(self, name: str, value: pl.Expr, null_share: float) -> pl.Expr:
        """The value, and NULL in that share of the rows."""
        return pl.when(~self.chance(f"{name} is null", null_share)).then(value) if null_share else value

    def below(self, name: str, count: int, of: pl.Expr | None = None) -> pl.Expr:
        return self.noise(name, of) % max(count, 1)

    def time(self, name: str, first: str = "2012-01-01", days: int = 4_400) -> pl.Expr:
        """`YYYY-MM-DD HH:MM:SS` within so many days after the first."""
        seconds = self.noise(name) % (days * 86_400)
        moment = pl.lit(first).str.to_datetime("%Y-%m-%d") + pl.duration(seconds=seconds)
        return moment.dt.to_string("%Y-%m-%d %H:%M:%S")

    def date(self, name: str, first: str = "2012-01-01", days: int = 4_400, form: str = "%Y-%m-%d") -> pl.Expr:
        day = pl.lit(first).str.to_date("%Y-%m-%d") + pl.duration(days=self.noise(name) % days)
        return day.dt.to_string(form)


def choose(values: Sequence[object], index: pl.Expr) -> pl.Expr:
    """The value at `index`, counted around."""
    return pl.lit(pl.Series(list(values))).gather(index % len(values))


def text(value: str | int | None) -> pl.Expr:
    return pl.lit(None if value is None else str(value), dtype=pl.String)


def join(*parts: pl.Expr | str) -> pl.Expr:
    return pl.concat_str([pl.lit(part) if isinstance(part, str) else part.cast(pl.String) for part in parts])


def php(value: pl.Expr) -> pl.Expr:
    """A list of texts, or a struct of them, as PHP serializes it; each distinct value once."""

    def written(texts: pl.Series) -> pl.Series:
        distinct = texts.unique()
        values = (json.loads(each)["php"] for each in distinct)
        made = pl.Series([phpserialize.dumps(each).decode() for each in values], dtype=pl.String)
        return texts.replace_strict(distinct, made, return_dtype=pl.String)

    return pl.struct(value.alias("php")).struct.json_encode().map_batches(written, pl.String(), is_elementwise=True)


def evaluated(columns: Columns, positions: Sequence[int] | range) -> pl.DataFrame:
    """The columns at some positions, all as text; NULL is null."""
    return pl.DataFrame({POSITION: pl.Series(positions, dtype=pl.Int64)}).select(
        value.cast(pl.String).alias(name) for name, value in columns.items()
    )


def functions_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The functions that a module defines for others, by name: what `sample.yaml` may name."""
    own = {name: each for name, each in vars(module).items() if isfunction(each) and each.__module__ == module.__name__}
    return {name: each for name, each in own.items() if not name.startswith("_")}
