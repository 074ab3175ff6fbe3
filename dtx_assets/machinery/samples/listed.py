"""Ugly rows that a system lists in a file, and a legacy table written with them behind its sound rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from ruamel.yaml import YAML

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.samples.csv_output import NULL, csv_line
from dtx_assets.machinery.samples.rows import POSITION, Rows
from dtx_assets.machinery.samples.write import TARGET_DIRECTORY

SLICE = 100_000
Cells = dict[str, str | bytes | None]


def listed_rows(path: Path, table: LegacyTable, sound: Mapping[str, Any], first_id: int) -> list[Cells]:
    """The rows that a file lists: `alone`, values by column, and `together`, rows that say `why` in words.

    Each is the `sound` row but for them, under an id of its own; `times` writes it again. A lone surrogate is a byte
    that is no text, as Python escapes it.
    """
    listed = YAML(typ="safe").load(path)
    changes = [{column: value} for column, values in listed["alone"].items() for value in values]
    changes += [{name: value for name, value in entry.items() if name != "why"} for entry in listed["together"]]
    made: list[Cells] = []
    for number, entry in enumerate(changes, first_id):
        row: dict[str, str | None] = {**sound, table.key[0]: str(number), **entry}
        texts = {name: row[name] for name in table.columns}
        cells: Cells = {name: text and text.encode(errors="surrogateescape") for name, text in texts.items()}
        made += [cells] * int(entry.get("times", 1))
    return made


def refuse_overwriting(directory: Path) -> None:
    """Makes the directory; ConfigurationError where it has a table already."""
    directory.mkdir(parents=True, exist_ok=True)
    there = sorted(path.name for path in directory.glob("*.csv"))
    if there:
        raise ConfigurationError(
            f"the directory already has {there[0]}",
            where=str(directory),
            remedy="name an empty directory; a sample never takes the place of an export",
        )


def write_with_ugly(
    path: Path,
    table: LegacyTable,
    columns: Mapping[str, pl.Expr],
    rows: Rows,
    count: int,
    ugly: Sequence[Cells],
    *,
    add: bool,
) -> int:
    """Writes rows of a table as CSV: those of `columns`, of which the share that `rows` names has an ugly one's values.

    `add` writes each ugly row behind them. Gives how many rows there are.
    """
    key, written = table.key[0], count + len(ugly) * add
    with path.open("wb") as file:
        file.write(csv_line(list(table.columns)))
        for first in range(0, count, SLICE):
            positions = pl.DataFrame({POSITION: range(first, min(count, first + SLICE))})
            spoils, how = rows.chance("spoilt", rows.ugly_share), rows.noise("spoilt how")
            frame = positions.select(**columns, _spoilt=spoils, _how=how)
            sound = frame.filter(~pl.col("_spoilt")).drop("_spoilt", "_how")
            sound.write_csv(file, include_header=False, null_value=NULL)
            for row in frame.filter("_spoilt").iter_rows(named=True):
                cells = {**ugly[row["_how"] % len(ugly)], key: row[key]}
                file.write(csv_line([cells[name] for name in table.columns]))
        for cells in ugly if add else ():
            file.write(csv_line([cells[name] for name in table.columns]))
    return written


def write_listed_sample(
    directory: Path,
    table: LegacyTable,
    columns: Mapping[str, pl.Expr],
    rows: Rows,
    ugly: Sequence[Cells],
    others: Mapping[str, pl.DataFrame],
    *,
    add: bool,
) -> dict[str, int]:
    """Writes a sample of one legacy table, and of `others` by name; gives how many rows there are of each."""
    refuse_overwriting(directory)
    (directory / TARGET_DIRECTORY).mkdir(exist_ok=True)
    for name, frame in others.items():
        frame.write_csv(directory / TARGET_DIRECTORY / f"{name}.csv", null_value=NULL)
    path, count = directory / f"{table.name}.csv", rows.size_of(table.name)
    written = write_with_ugly(path, table, columns, rows, count, ugly, add=add)
    return {table.name: written} | {name: frame.height for name, frame in others.items()}
