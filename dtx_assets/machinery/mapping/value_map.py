"""Reads value maps: small reviewed CSV files of a key and what it becomes. Applying one is `execute`."""

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import polars as pl

from dtx_assets.machinery.base.yaml_file import Findings
from dtx_assets.machinery.mapping.cases import SUFFIX


@dataclass(frozen=True)
class ValueMap:
    """A value map: its rows, and the line of the file on which each of them ends."""

    path: Path
    frame: pl.DataFrame
    lines: tuple[int, ...]
    is_cases: bool = False
    """Whether it is a case table, in which no column is a key by itself."""

    @property
    def outputs(self) -> list[str]:
        """The columns that give a value: all but the key."""
        return self.frame.columns[1:]

    def where(self, row: int) -> str:
        return f"{self.path}:{self.lines[row]}"


def read_value_map(path: Path, findings: Findings) -> ValueMap | None:
    """A value map: the first column is the key, compared trimmed and without case; an empty field is NULL.

    A column of nothing but true and false is boolean. A key that is empty or stands there twice, a row of another
    length, a header without names: each is a finding. In a case table lines may begin alike, and all is text.
    """
    is_cases = path.name.endswith(SUFFIX)
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        findings.add("the file is not UTF-8", f"{path}:{line}", "save it as CSV in the encoding UTF-8")
        return None
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    rows: list[list[str | None]] = []
    lines: list[int] = []
    keys: dict[str, int] = {}
    read = 0
    try:
        header = next(reader, [])
        read = reader.line_num
        if not _is_header(header, path, findings):
            return None
        for row in reader:
            read = reader.line_num
            where = f"{path}:{read}"
            if not row:
                continue
            if len(row) != len(header):
                findings.add(
                    f"the row has {len(row)} fields, the header {len(header)}", where, "quote fields that hold a comma"
                )
                continue
            key = row[0].strip().lower()
            if is_cases:
                pass
            elif not key:
                findings.add("the key is empty", where, f"give {header[0]} a value, or remove the row")
            elif key in keys:
                findings.add(
                    f"the key {row[0]!r} stands here twice (first in line {keys[key]})", where, "remove one of the two"
                )
            keys.setdefault(key, reader.line_num)
            rows.append([field or None for field in row])
            lines.append(reader.line_num)
    except csv.Error as error:
        # Where the record begins: an open quote is noticed at the end of the file only.
        findings.add(f"not valid CSV: {error}", f"{path}:{read + 1}", "mend the quotes of the field")
        return None
    frame = pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row")
    return ValueMap(path, frame if is_cases else frame.with_columns(_as_booleans(frame)), tuple(lines), is_cases)


def _is_header(header: list[str], path: Path, findings: Findings) -> bool:
    if not header:
        findings.add("the value map is empty", f"{path}:1", "give it a header line")
    elif len(set(header)) < len(header) or not all(name.strip() == name != "" for name in header):
        findings.add(
            "the header has an empty, padded or doubled name", f"{path}:1", "give each column a name of its own"
        )
    else:
        return True
    return False


def _as_booleans(frame: pl.DataFrame) -> list[pl.Expr]:
    return [
        (pl.col(name) == "true").alias(name)
        for name in frame.columns[1:]
        if set(frame[name].drop_nulls()) in ({"true"}, {"false"}, {"true", "false"})
    ]
