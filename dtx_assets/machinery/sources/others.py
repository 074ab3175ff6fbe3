"""Tables of a source that nobody declared: they are not migrated, and people should see them."""

import csv
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.catalogue import refusals_told, source_engine
from dtx_assets.machinery.sources.csv_files import CsvDirectory, CsvPrefix


def rows_of_others(url: str, declared: Collection[str]) -> dict[str, int]:
    """The rows of each table of a source that is not declared, by its name."""
    with open_source(url) as source:
        others = [name for name in source.tables() if name not in declared]
        if isinstance(source, CsvDirectory):
            return {name: _records(source.directory / f"{name}.csv") for name in others}
        if isinstance(source, CsvPrefix):
            with TemporaryDirectory() as scratch:
                return {name: _records(source.fetch(f"{name}.csv", Path(scratch))[0]) for name in others}
    scheme = url.partition("://")[0].lower().partition("+")[0]
    with refusals_told(url), source_engine(scheme, url) as engine, engine.connect() as connection:
        counts = {name: sa.select(sa.func.count()).select_from(sa.table(name)) for name in others}
        return {name: connection.execute(count).scalar_one() for name, count in counts.items()}


def _records(path: Path) -> int:
    """The records of a CSV file behind its header."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return max(0, sum(1 for record in csv.reader(file) if record) - 1)
