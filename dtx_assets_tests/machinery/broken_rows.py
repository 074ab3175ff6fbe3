"""Rows that nobody would put into a sample: those of a table once more, with one cell of each changed."""

from collections.abc import Callable, Iterator
from typing import Any

import polars as pl

from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.landing import UNDECODABLE

WAYS: tuple[Callable[[str], str | None], ...] = (
    lambda _: None,
    lambda _: "",
    lambda _: "  ",
    lambda _: "1",
    lambda cell: f"  {cell.swapcase()} ",
    lambda cell: f"{cell}\x00",
    lambda _: "no such value",
    lambda _: "x" * 5_000,
    lambda _: "-7",
    lambda cell: f"{cell}, {cell}",
)
"""What becomes of a cell."""
BASES = 2
"""So many rows of a table are broken in each way."""


def with_broken_rows(table: LegacyTable, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of a table, as a flow gets them, and more behind them, each with one cell unlike what it was."""
    return pl.concat([frame, pl.DataFrame(list(_broken(table, frame)), schema=frame.schema)])


def _broken(table: LegacyTable, frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Every other row has a key of its own, where a number can be one."""
    columns = [name for name in table.columns if name in frame.columns and frame.schema[name] == pl.String]
    empty = pl.sum_horizontal(pl.lit(0), *(pl.col(name).is_null().cast(pl.Int64) for name in columns))
    last, count = max(frame["_row"], default=0), 0
    for number, row in enumerate(frame.sort(empty, "_row").head(BASES).iter_rows(named=True)):
        for way in WAYS:
            count += 1
            whole = {name: way(row[name] or "") for name in columns if name not in table.key}
            yield {**row, **whole, "_row": last + count, "_source_key": f"broken {count}"}
        for name in columns:
            cells = [{name: way(row[name] or "")} for way in WAYS]
            if UNDECODABLE in frame.columns:
                cells.append({UNDECODABLE: [_undecodable(frame, name)]})
            for broken in cells:
                count += 1
                keys = [key for key in table.key if key != name and table.kind_of(key) == "integer" and number % 2]
                own = {key: str(900_000 + count) for key in keys[-1:]}
                yield {**row, **broken, **own, "_row": last + count, "_source_key": f"broken {count}"}


def _undecodable(frame: pl.DataFrame, name: str) -> dict[str, Any]:
    kind = frame.schema[UNDECODABLE]
    assert isinstance(kind, pl.List)
    assert isinstance(kind.inner, pl.Struct)
    return {field.name: name if field.name == "column" else None for field in kind.inner.fields}
