"""What the tests of all readers share: a lake, and the way of a table into it and back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import Source, open_source


class LandingPlace:
    """A lake into which tables are landed as `toy/legacy/<table>`."""

    def __init__(self, directory: Path) -> None:
        self.lake = Lake(str(directory / "lake"))

    def land(self, url: str, table: str | LegacyTable, *, run_id: str = "run", **options: Any) -> Manifest:
        with open_source(url, **options) as source:
            return self.land_from(source, table, run_id=run_id)

    def land_from(self, source: Source, table: str | LegacyTable, *, run_id: str = "run") -> Manifest:
        declared = LegacyTable(table, "area", ()) if isinstance(table, str) else table
        return source.extract(declared, self.lake, ("toy", "legacy", declared.name), run_id)

    def frame(self, table: str) -> pl.DataFrame:
        return self.lake.scan(("toy", "legacy", table)).collect()

    def rows(self, table: str) -> list[tuple[str | None, ...]]:
        """The landed texts, without row number and bytes."""
        return self.frame(table).drop("_row", "_undecodable").rows()

    def undecodable(self, table: str) -> list[tuple[int, str, bytes]]:
        """(row, column, bytes) of each value that is no text."""
        held = self.frame(table).select("_row", "_undecodable").explode("_undecodable", empty_as_null=True)
        return [(row, value["column"], value["bytes"]) for row, value in held.drop_nulls("_undecodable").iter_rows()]

    def is_untouched(self, table: str) -> bool:
        """Whether nothing of the table is there, not even a part of a file."""
        directory = Path(self.lake.url) / "toy" / "legacy" / table
        return not directory.exists() or not any(path.is_file() for path in directory.rglob("*"))


def texts(rows: Sequence[Sequence[object]]) -> list[tuple[str | None, ...]]:
    return [tuple(None if value is None else str(value) for value in row) for row in rows]
