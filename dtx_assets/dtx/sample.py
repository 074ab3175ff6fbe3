"""Writes the sample: CSV files of the legacy tables and crosswalks, of the target rows other areas own, and some files.

The same rows, seed and version give the same bytes. A sample of any size is streamed, a slice of a table at a time.
What is in the rows: `sample_rows` (plausible) and `sample_ugly`.
"""

import codecs
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from dtx_assets.dtx.sample_rows import SAMPLE_FILES, TABLES, TARGET_ROWS, Sample, file_names, make_rows
from dtx_assets.dtx.sample_ugly import Cell, Row, Verbatim, ugly_rows
from dtx_assets.machinery.base.errors import ConfigurationError, StructureError

DEFAULT_ROWS = 100
DEFAULT_SEED = 20260
SLICE = 100_000
TARGET_DIRECTORY = "target"
FILES_DIRECTORY = "files"
NULL = r"\N"

WINDOWS_TABLE = "keyword"
"""The ugly sample has this one with a byte-order mark and CRLF."""


def write_sample(
    directory: Path,
    rows: int = DEFAULT_ROWS,
    seed: int = DEFAULT_SEED,
    *,
    ugly: bool = True,
    ugly_share: float = 0.0,
    overwrite: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> dict[str, int]:
    """Write a sample with `rows` notification rows and what belongs to them; returns the rows of each table.

    `ugly` adds every ugly case once; `ugly_share` (0 to 1) makes that part of the notification and webhook rows ones
    that cannot be migrated. `progress` is called with a table and its rows so far. Raises ConfigurationError where a
    number makes no sense, or where the directory already has one of the files and `overwrite` is not set.
    """
    if rows < 1 or not 0 <= ugly_share <= 1:
        raise ConfigurationError(
            f"no sample has {rows} rows with a share of {ugly_share} ugly ones",
            remedy="ask for at least one row, and a share between 0 and 1",
        )
    sample = Sample(rows, seed, ugly_share)
    paths = {name: directory / f"{name}.csv" for name in TABLES}
    paths |= {name: directory / TARGET_DIRECTORY / f"{name}.csv" for name in TARGET_ROWS}
    _refuse_overwriting(directory, paths.values(), overwrite)
    extra = ugly_rows(sample) if ugly else {}
    counts = {}
    for name, path in paths.items():
        _make_directory(path.parent)
        counts[name] = _write_table(
            path, sample, name, extra=extra.get(name, ()), windows=ugly and name == WINDOWS_TABLE, progress=progress
        )
    _write_files(directory / FILES_DIRECTORY, ugly)
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
    path: Path,
    sample: Sample,
    name: str,
    *,
    extra: Sequence[Row],
    windows: bool,
    progress: Callable[[str, int], None] | None,
) -> int:
    end = "\r\n" if windows else "\n"
    columns = make_rows(sample, name, 0, 0).columns
    written = 0
    with path.open("wb") as file:
        file.write(codecs.BOM_UTF8 if windows else b"")
        file.write(csv_line(columns, end))
        for first in range(0, sample.size(name), SLICE):
            frame = make_rows(sample, name, first, min(SLICE, sample.size(name) - first))
            frame.write_csv(file, include_header=False, null_value=NULL, line_terminator=end)
            written += frame.height
            if progress:
                progress(name, written)
        for row in extra:
            file.write(csv_line([row[column] for column in columns], end))
    return written + len(extra)


def csv_line(cells: Sequence[Cell], end: str = "\n") -> bytes:
    """One line of the CSV dialect of the legacy tables; bytes that are not UTF-8 stay as they are."""
    return b",".join(map(_csv_field, cells)) + end.encode()


def _csv_field(cell: Cell) -> bytes:
    if isinstance(cell, Verbatim):
        return cell.written
    if cell is None:
        return NULL.encode()
    value = cell if isinstance(cell, bytes) else str(cell).encode()
    if any(special in value for special in (b'"', b",", b"\r", b"\n")):
        return b'"' + value.replace(b'"', b'""') + b'"'
    return value


def _write_files(directory: Path, ugly: bool) -> None:
    """The file repository: small text files that are named like certificates."""
    folder = directory / "unlinked"
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(file_names(), start=1):
        content = f"%PDF-1.4\n% Certificate {number} of {SAMPLE_FILES} of the sample\n%%EOF\n" * number
        (folder / name).write_bytes(content.encode())
    if ugly:
        (folder / "empty.txt").write_bytes(b"")
        (folder / "r\u00e9sum\u00e9 & co.pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")


def load_other_areas(connection: psycopg.Connection, directory: Path) -> dict[str, int]:
    """Insert the target rows that other areas own, ids included, from the `target` directory of a sample.

    Returns the rows inserted by table. Rows that are there stay as they are, so a second call inserts nothing.
    Afterwards new ids come after the inserted ones. Raises StructureError where the database lacks a table or column.
    """
    inserted = {}
    with connection.transaction():
        for name in TARGET_ROWS:
            path = directory / f"{name}.csv"
            if path.exists():
                inserted[name] = _load_table(connection, name, path)
    return inserted


def _load_table(connection: psycopg.Connection, name: str, path: Path) -> int:
    with path.open("rb") as file:
        columns = file.readline().decode().strip().split(",")
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    table = sql.Identifier(name)
    fields = sql.SQL(", ").join(map(sql.Identifier, columns))
    staged = sql.Identifier(f"sample_{name}")
    count = sql.SQL("SELECT count(*) FROM {}")
    try:
        with connection.cursor() as cursor:
            [present] = cursor.execute(count.format(table)).fetchone() or [0]
            if present >= lines and _has_last_row(cursor, table, path):
                return 0
            destination = table
            if present:
                destination = staged
                cursor.execute(
                    sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                        staged, fields, table
                    )
                )
            statement = sql.SQL(r"COPY {} ({}) FROM STDIN (FORMAT csv, HEADER, NULL '\N')").format(destination, fields)
            with cursor.copy(statement) as copy, path.open("rb") as file:
                for block in iter(lambda: file.read(1 << 20), b""):
                    copy.write(block)
            inserted = cursor.rowcount
            if present:
                cursor.execute(
                    sql.SQL("INSERT INTO {0} ({1}) SELECT {1} FROM {2} ON CONFLICT DO NOTHING").format(
                        table, fields, staged
                    )
                )
                inserted = cursor.rowcount
            cursor.execute(
                sql.SQL(
                    "SELECT setval(sequence, greatest((SELECT max(id) FROM {}), nextval(sequence)))"
                    " FROM pg_get_serial_sequence({}, 'id') AS sequence"
                ).format(table, sql.Literal(name))
            )
            return inserted
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise StructureError(
            f"the target database has not what the sample needs: {error.diag.message_primary}",
            where=name,
            remedy="create its tables first: `dtx target ddl` prints them",
        ) from None


def _has_last_row(cursor: psycopg.Cursor, table: sql.Identifier, path: Path) -> bool:
    """Whether the last row of the file is in the table: a file is loaded whole or not at all."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        last = int(file.read().splitlines()[-1].split(b",", 1)[0])
    found = cursor.execute(sql.SQL("SELECT 1 FROM {} WHERE id = %s").format(table), [last]).fetchone()
    return found is not None
