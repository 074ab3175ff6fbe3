"""What is rejected now, entry by entry, as a log or as JSON lines, and which patterns there are in it.

Entries are streamed: there may be as many as legacy rows. Personal data is masked unless it is asked for.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.masking import mask, mask_emails, masked_detail
from dtx_assets.machinery.base.yaml_file import suggestion
from dtx_assets.machinery.checks.obstacles import REMEDIES
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.system.system import System

ENTRIES_AT_ONCE = 1_000

ENTRIES = """
SELECT opened.started_at, flow.source_table, entry.source_key, flow.target_table, entry.reasons, entry.partial,
    entry.detail, entry."row", flow.model
FROM {entries} AS entry
JOIN migration.flow ON flow.id = entry.flow_id
JOIN migration.load AS opened ON opened.id = entry.opened_by
WHERE entry.closed_by IS NULL AND flow.system = {system} AND {asked}
ORDER BY flow.target_table, flow.source_table, entry.source_key COLLATE "C", entry.occurrence
"""
"""As the view `migration.rejected` has them, with the time of the load that found them."""
ALL_ENTRIES = sql.SQL("migration.rejected_entry")
FIRST_ENTRIES = sql.SQL(
    "(SELECT placed.* FROM (SELECT open.*, row_number() OVER (PARTITION BY flow_id, reasons[1], partial"
    ' ORDER BY source_key COLLATE "C", occurrence) AS place FROM migration.rejected_entry AS open'
    " WHERE closed_by IS NULL) AS placed WHERE place <= {first})"
)
"""The first ones of each flow and first reason."""


@dataclass(frozen=True)
class RejectedEntry:
    """One entry of `migration.rejected`, as people may see it."""

    at: datetime
    source_table: str
    source_key: str
    target_table: str
    reasons: tuple[str, ...]
    columns: tuple[str, ...]
    """The legacy columns that the sentence tells to be wrong."""
    partial: bool
    detail: str
    row: Mapping[str, Any]
    is_document: bool
    model: str = ""


def rejected_entries(
    connection: Connection,
    system: System,
    *,
    table: str | None,
    reason: str | None,
    unmasked: bool,
    first: int | None = None,
) -> Iterator[RejectedEntry]:
    """What is rejected now, of a legacy or target table and with a reason where they are named.

    `first`: only so many of each flow and first reason. ConfigurationError where no flow has such a table.
    """
    asked = asked_for(system, table, reason)
    entries = ALL_ENTRIES if first is None else FIRST_ENTRIES.format(first=sql.Literal(first))
    query = sql.SQL(ENTRIES).format(system=sql.Literal(system.name), asked=asked, entries=entries)
    with connection.transaction(), connection.cursor("rejected_entries") as cursor:
        cursor.itersize = ENTRIES_AT_ONCE
        cursor.execute(query)
        for at, source, key, target, reasons, partial, detail, row, model in cursor:
            legacy = system.legacy_tables.get(source)
            personal = _personal(legacy, row)
            shown = detail if unmasked else masked_detail(detail, row, personal)
            yield RejectedEntry(
                at,
                source,
                key if unmasked else mask_emails(key),
                target,
                tuple(reasons),
                columns_told(detail, row),
                partial,
                shown,
                row if unmasked else _masked(row, personal),
                legacy is not None and legacy.documents,
                model,
            )


def require_asked(system: System, table: str | None, reason: str | None, *, place: str = "--table") -> None:
    """ConfigurationError where no flow has such a table, or no row is ever rejected for such a reason; `place` is where
    the table was named."""
    targets = {target.name for target in system.targets}
    if table is not None and table not in system.legacy_tables and table not in targets:
        known = [*system.legacy_tables, *sorted(targets - set(system.legacy_tables))]
        raise ConfigurationError(f"there is no table {table!r}", where=place, remedy=suggestion(table, known))

    if reason is not None and reason not in REMEDIES:
        raise ConfigurationError(
            f"there is no reason {reason!r}", where="--reason", remedy=suggestion(reason, REMEDIES)
        )


def asked_for(system: System, table: str | None, reason: str | None) -> sql.Composable:
    """The condition on entries of a table and with a reason; ConfigurationError where there is none such."""
    require_asked(system, table, reason)
    asked: list[sql.Composable] = [sql.SQL("true")]
    if table is not None:
        asked.append(sql.SQL("{} IN (flow.source_table, flow.target_table)").format(sql.Literal(table)))
    if reason is not None:
        asked.append(sql.SQL("{} = ANY (entry.reasons)").format(sql.Literal(reason)))
    return sql.SQL(" AND ").join(asked)


def _personal(table: LegacyTable | None, row: Mapping[str, Any]) -> frozenset[str]:
    """Nobody knows what a table holds that is not declared."""
    return frozenset(filter(table.is_personal, row)) if table else frozenset(row)


def _masked(row: Mapping[str, Any], personal: Collection[str]) -> dict[str, Any]:
    return {
        name: mask(value) if name in personal and value is not None else _without_addresses(value)
        for name, value in row.items()
    }


def _without_addresses(value: Any) -> Any:
    """The value with every e-mail address in it masked, at any depth."""
    if isinstance(value, str):
        return mask_emails(value)
    if isinstance(value, Mapping):
        return {mask_emails(name): _without_addresses(each) for name, each in value.items()}
    return [_without_addresses(each) for each in value] if isinstance(value, list) else value


def columns_told(detail: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of the row that its detail names, each once: `status: …; created_at: …` names two."""
    named = re.findall(r"(?:^|; )([^:;]+?): ", detail)
    return tuple(dict.fromkeys(name for group in named for name in group.split(", ") if name in row))


# --- as people read it ------------------------------------------------------------------------------------------------


def log_lines(entry: RejectedEntry) -> list[str]:
    """One block, with column, value and rule in place of a stack trace; the lines end with an empty one."""
    key, whole = ("MongoDB ObjectId", "Original Document") if entry.is_document else ("Source key", "Original row")
    at = entry.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    source = "" if entry.source_table == entry.target_table else f", from {quoted(entry.source_table)}"
    part = ", a part of its row" if entry.partial else ""
    return [
        f"[{at}] ERROR in table {quoted(entry.target_table)}{source}{part}",
        f"{key}: {one_line(entry.source_key)}",
        f"Error: {', '.join(entry.reasons)}: {one_line(entry.detail)}",
        f"{whole}: {json.dumps(entry.row, ensure_ascii=False)}",
        "",
    ]


def json_line(entry: RejectedEntry) -> str:
    return json.dumps(
        {
            "at": entry.at.astimezone(UTC).isoformat(),
            "source_table": entry.source_table,
            "source_key": entry.source_key,
            "target_table": entry.target_table,
            "reasons": entry.reasons,
            "columns": entry.columns,
            "partial": entry.partial,
            "detail": entry.detail,
            "row": entry.row,
        },
        ensure_ascii=False,
    )


def quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def one_line(text: str) -> str:
    """A text in one line, so that no value of a row can look like an entry of its own."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") if {"\n", "\r"} & set(text) else text


class Patterns:
    """Entries by table, reasons and columns."""

    def __init__(self) -> None:
        self._counted: Counter[tuple[str, tuple[str, ...], tuple[str, ...]]] = Counter()

    def of(self, entries: Iterable[RejectedEntry]) -> Iterator[RejectedEntry]:
        """The entries, which are counted as they pass."""
        for entry in entries:
            self._counted[entry.target_table, entry.reasons, entry.columns] += 1
            yield entry

    def lines(self) -> list[str]:
        """The most frequent first: `1,204  tasksComments  orphan_reference  task`."""
        found = sorted(self._counted.items(), key=lambda item: (-item[1], item[0]))
        if not found:
            return ["Nothing is rejected now."]
        rows = [
            (f"{count:,}", table, ", ".join(reasons), ", ".join(columns)) for (table, reasons, columns), count in found
        ]
        widths = [max(len(row[place]) for row in rows) for place in range(3)]
        return ["Patterns, the most frequent first:"] + [
            f"{count:>{widths[0]}}  {table:<{widths[1]}}  {reasons:<{widths[2]}}  {columns}".rstrip()
            for count, table, reasons, columns in rows
        ]
