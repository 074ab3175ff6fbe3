"""Lines of CSV as the exports of legacy databases are written, bytes that are no text included."""

from collections.abc import Sequence
from dataclasses import dataclass

from dtx_assets.machinery.model.legacy import LegacyTable

NULL = r"\N"


@dataclass(frozen=True)
class Verbatim:
    """Bytes that stand in the CSV as they are, quotes included."""

    written: bytes


Cell = str | int | bytes | Verbatim | None

UNQUOTED_NULL = Verbatim(b"NULL")
QUOTED_NULL = Verbatim(b'"NULL"')
QUOTED_BACKSLASH_N = Verbatim(rb'"\N"')
QUOTED_EMPTY = Verbatim(b'""')


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


def landed(table: LegacyTable, column: str, cell: Cell) -> str | None:
    """The text that is read of a cell, or NULL."""
    if isinstance(cell, Verbatim):
        cell = cell.written.removeprefix(b'"').removesuffix(b'"').replace(b'""', b'"')
    text = cell.decode(errors="backslashreplace") if isinstance(cell, bytes) else None if cell is None else str(cell)
    if text in table.null_markers or (text == "" and table.kind_of(column) != "text"):
        return None
    return text
