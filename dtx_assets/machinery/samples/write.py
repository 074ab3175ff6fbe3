"""Writes a sample as CSV: legacy tables, crosswalks, the rows of others in the target, and what ugly rows are for.

The same system, rows, seed and version give the same bytes. A table of any size is streamed, a slice at a time.
"""

import codecs
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.samples.csv_output import NULL, csv_line
from dtx_assets.machinery.samples.sample import DEFAULT_ROWS, DEFAULT_SEED, Sample
from dtx_assets.machinery.samples.stories import own_ugly_rows
from dtx_assets.machinery.samples.ugly import Row
from dtx_assets.machinery.system.system import System

SLICE = 100_000
TARGET_DIRECTORY = "target"
PLANTED = "planted.jsonl"
"""A line for each ugly row of what is declared: its table and row, what is wrong, and what should become of it."""

Progress = Callable[[str, int], None]


def write_sample(
    system: System,
    directory: Path,
    rows: int = DEFAULT_ROWS,
    seed: int = DEFAULT_SEED,
    *,
    ugly: bool = True,
    ugly_share: float = 0.0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write a sample whose tables have `rows` rows, or what `sample.yaml` makes of that; returns the rows of each.

    `ugly` adds every ugly case once; `ugly_share` (0 to 1) makes that part of the rows ones that cannot be migrated.
    `progress` is called with a table and its rows so far. Raises ConfigurationError where a number makes no sense, or
    where the directory already has one of the files and `overwrite` is not set.
    """
    if rows < 1 or not 0 <= ugly_share <= 1:
        raise ConfigurationError(
            f"no sample has {rows} rows with a share of {ugly_share} ugly ones",
            remedy="ask for at least one row, and a share between 0 and 1",
        )
    sample = Sample(system, rows, seed, ugly_share)
    paths = {name: directory / f"{name}.csv" for name in sample.tables}
    others = {model: directory / TARGET_DIRECTORY / f"{system.target(model).name}.csv" for model in sample.others}
    _refuse_overwriting(directory, [*paths.values(), *others.values()], overwrite)
    own = own_ugly_rows(sample, system.sample_functions) if ugly else {}
    counts = {}
    for name, path in {**paths, **others}.items():
        _make_directory(path.parent)
        extra = [*(sample.ugly_rows(name) if ugly else ()), *own.get(name, ())]
        said = sample.declared.tables.get(name)
        windows = ugly and said is not None and said.windows
        counts[path.stem] = _write_table(path, sample, name, extra=extra, windows=windows, progress=progress)
    if sample.declared.files:
        system.sample_functions[sample.declared.files](directory, ugly)
    if ugly:
        _write_planted(directory / PLANTED, sample)
    return counts


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"a sample cannot be written there: {error.strerror}",
            where=str(directory),
            remedy="name a directory that this account may write",
        ) from None


def _refuse_overwriting(directory: Path, paths: Iterable[Path], overwrite: bool) -> None:
    there = [path.name for path in paths if path.exists()]
    if there and not overwrite:
        raise ConfigurationError(
            f"the directory already has {there[0]}" + (f" and {len(there) - 1} more" if len(there) > 1 else ""),
            where=str(directory),
            remedy="name an empty directory; a sample never takes the place of an export",
        )


def _write_table(
    path: Path, sample: Sample, name: str, *, extra: Sequence[Row], windows: bool, progress: Progress | None
) -> int:
    end = "\r\n" if windows else "\n"
    columns = list(sample.columns(name))
    written = 0
    with path.open("wb") as file:
        file.write(codecs.BOM_UTF8 if windows else b"")
        file.write(csv_line(columns, end))
        for first in range(0, sample.size(name), SLICE):
            frame = sample.frame(name, first, min(SLICE, sample.size(name) - first))
            frame.write_csv(file, include_header=False, null_value=NULL, line_terminator=end)
            written += frame.height
            if progress:
                progress(name, written)
        for row in extra:
            file.write(csv_line([row[column] for column in columns], end))
    return written + len(extra)


def _write_planted(path: Path, sample: Sample) -> None:
    lines = []
    for name in sample.system.legacy_tables:
        for number, case in enumerate(sample.fitting_cases(name), start=sample.size(name) + 1):
            fates = {
                model: {"fate": fate.fate, **({"reasons": list(fate.reasons)} if fate.reasons else {})}
                for model, fate in case.fates.items()
            }
            planted = {"table": name, "row": number, "column": case.column, "what": case.what, "expected": fates}
            lines.append(json.dumps(planted, ensure_ascii=False))
    if lines:
        path.write_text("\n".join(lines) + "\n", "utf-8")
