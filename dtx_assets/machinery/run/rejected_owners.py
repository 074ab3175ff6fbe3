"""Who has to mend which rejected rows: kinds of them with owner and remedy, and the rows to send to that owner."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.checks.obstacles import NOBODY, REMEDIES, owner_of_reason
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.run.rejected_log import RejectedEntry, asked_for, rejected_entries
from dtx_assets.machinery.system.system import System

EXAMPLES = 2
KINDS = """
SELECT flow.source_table, flow.target_table, flow.model, entry.reasons[1], entry.partial, count(*)
FROM migration.rejected_entry AS entry
JOIN migration.flow ON flow.id = entry.flow_id
WHERE entry.closed_by IS NULL AND flow.system = {system} AND {asked}
GROUP BY 1, 2, 3, 4, 5
"""
CSV_COLUMNS = ("owner", "table", "key", "target", "reasons", "what is wrong", "what to do", "of the row", "row")


@dataclass(frozen=True)
class RejectedKind:
    """Rows of a table that are rejected for the same first reason; `partial`, where it is about a part of each only."""

    source_table: str
    target_table: str
    model: str
    reason: str
    partial: bool
    rows: int
    owner: str

    @property
    def remedy(self) -> str:
        return remedy_of(self.reason)

    def has(self, entry: RejectedEntry) -> bool:
        return (entry.source_table, entry.target_table, entry.model, entry.reasons[0], entry.partial) == (
            self.source_table,
            self.target_table,
            self.model,
            self.reason,
            self.partial,
        )


def remedy_of(reason: str) -> str:
    return REMEDIES.get(reason, "See the sentence beside the row.")


def rejected_kinds(
    connection: Connection, system: System, *, table: str | None, reason: str | None, owner: str | None
) -> list[RejectedKind]:
    """What is rejected now, the owner with most rows first; `owner` is a part of the name of those that are wanted.

    ConfigurationError where no flow has such a table, or nothing of it is such an owner's.
    """
    query = sql.SQL(KINDS).format(system=sql.Literal(system.name), asked=asked_for(system, table, reason))
    kinds = [
        RejectedKind(source, target, model, first, partial, rows, owner_of(system, model, source, first))
        for source, target, model, first, partial, rows in connection.execute(query)
    ]
    rows_of: dict[str, int] = {}
    for kind in kinds:
        rows_of[kind.owner] = rows_of.get(kind.owner, 0) + kind.rows
    chosen = [name for name in rows_of if owner is None or owner.casefold() in name.casefold()]
    if kinds and not chosen:
        raise ConfigurationError(
            f"no rejected row is for {owner!r} to mend", where="--owner", remedy=f"one of: {'; '.join(sorted(rows_of))}"
        )
    return sorted(
        (kind for kind in kinds if kind.owner in chosen),
        key=lambda kind: (kind.owner == NOBODY, -rows_of[kind.owner], kind.owner, -kind.rows, kind.source_table),
    )


def owner_of(system: System, model: str, source: str, reason: str) -> str:
    return owner_of_reason(system, model, source, reason) or NOBODY


def examples_of(
    connection: Connection, system: System, kinds: Sequence[RejectedKind], *, reason: str | None, unmasked: bool
) -> dict[RejectedKind, list[RejectedEntry]]:
    """The first rows of each kind."""
    found: dict[RejectedKind, list[RejectedEntry]] = {kind: [] for kind in kinds}
    for entry in rejected_entries(connection, system, table=None, reason=reason, unmasked=unmasked, first=EXAMPLES):
        for kind in kinds:
            if kind.has(entry):
                found[kind].append(entry)
    return found


def rows_to_send(
    connection: Connection,
    system: System,
    *,
    table: str | None,
    reason: str | None,
    owners: Collection[str],
    unmasked: bool,
) -> Iterator[Sequence[str]]:
    """The rejected rows of owners, as `CSV_COLUMNS` has them, streamed."""
    for entry in rejected_entries(connection, system, table=table, reason=reason, unmasked=unmasked):
        owner = owner_of(system, entry.model, entry.source_table, entry.reasons[0])
        if owner in owners:
            yield (
                owner,
                entry.source_table,
                entry.source_key,
                entry.model or entry.target_table,
                ", ".join(entry.reasons),
                entry.detail,
                " ".join(remedy_of(each) for each in entry.reasons),
                "a part of it, the rest was migrated" if entry.partial else "all of it",
                json.dumps(entry.row, ensure_ascii=False),
            )
