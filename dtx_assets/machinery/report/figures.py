"""The figures of the page: what the bookkeeping in the target database says, each by one query that anyone can repeat.

Aggregated by the server, a few examples a group: a hundred thousand rejected rows are read as a few dozen. What the
figures mean is `gather`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from dtx_assets.machinery.load.entries import LED_TO
from dtx_assets.machinery.postgres.connection import connect, refusals_told

RUNS_SHOWN = 20
EXAMPLES = 3
"""Kinds of detail that are shown of the rows that were rejected for the same reasons; the most frequent ones."""

RUNS = """
SELECT run.run_id, run.mode, run.status, run.started_at, run.finished_at, run.accepted,
    run.demonstration IS NOT NULL AS demonstration, run.restore_point, run.indexes_after,
    accounted.read, accounted.rejected,
    coalesce(loaded.inserted, 0) AS inserted, coalesce(loaded.updated, 0) AS updated,
    coalesce(accounted.flows, '{}') AS flows, coalesce(loaded.limited, false) AS limited
FROM migration.run
LEFT JOIN LATERAL (
    SELECT sum(batch.rows_inserted)::bigint AS inserted, sum(batch.rows_updated)::bigint AS updated,
        bool_or(load.subset LIKE 'first%%') AS limited
    FROM migration.load LEFT JOIN migration.batch ON batch.load_id = load.id
    WHERE load.run_id = run.run_id
) AS loaded ON true
LEFT JOIN LATERAL (
    SELECT sum(entry.read)::bigint AS read, sum(entry.rejected)::bigint AS rejected,
        array_agg(ARRAY[entry.source_table, entry.target_table]) AS flows
    FROM migration.accounting AS entry
    WHERE entry.run_id = run.run_id AND run.status <> 'rolled back'
) AS accounted ON true
WHERE run.system = %(system)s
ORDER BY run.started_at DESC
LIMIT %(runs)s
"""
LOADED = """
SELECT run.run_id, run.started_at, coalesce(nullif(load.model, ''), load.target_table) AS model,
    coalesce(sum(batch.rows_inserted + batch.rows_updated), 0)::bigint AS rows,
    coalesce(sum(batch.rows_inserted + batch.rows_updated) FILTER (WHERE batch.undone_at IS NOT NULL), 0)::bigint
        AS undone,
    max(batch.undone_at) AS undone_at
FROM migration.run
JOIN migration.load ON load.run_id = run.run_id
LEFT JOIN migration.batch ON batch.load_id = load.id
WHERE run.system = %(system)s
GROUP BY 1, 2, 3
HAVING run.mode = 'cutover' OR sum(batch.rows_inserted + batch.rows_updated) > 0
ORDER BY run.started_at DESC, 3
"""
"""Of all runs, not the last ones alone: what a cutover found in the target may be of any."""
ACCOUNTING = """
SELECT DISTINCT ON (entry.source_table, entry.target_table)
    entry.source_table, entry.target_table, entry.read, entry.migrated, entry.rejected, entry.dropped, entry.coerced
FROM migration.accounting AS entry
JOIN migration.run USING (run_id)
WHERE entry.system = %(system)s AND run.status <> 'rolled back' AND NOT EXISTS (
    SELECT FROM migration.load WHERE load.run_id = run.run_id AND load.subset LIKE 'first%%'
)
ORDER BY entry.source_table, entry.target_table, run.started_at DESC
"""
"""The last one of each flow that counts: not of a run that was undone, nor of one that took the first rows only."""
REJECTED = """
WITH kinds AS (
    SELECT source_table, target_table, reasons, partial, detail, count(*) AS rows,
        min(source_key COLLATE "C") AS source_key
    FROM migration.rejected
    WHERE system = %(system)s
    GROUP BY source_table, target_table, reasons, partial, detail
), placed AS (
    SELECT kinds.*, row_number() OVER by_rows AS place, count(*) OVER same AS all_kinds,
        (sum(rows) OVER same)::bigint AS all_rows
    FROM kinds
    WINDOW same AS (PARTITION BY source_table, target_table, reasons, partial),
        by_rows AS (same ORDER BY rows DESC, source_key, detail)
)
SELECT placed.*, (
    SELECT rejected."row" FROM migration.rejected
    WHERE (rejected.system, rejected.source_table, rejected.target_table, rejected.source_key, rejected.detail)
        = (%(system)s, placed.source_table, placed.target_table, placed.source_key, placed.detail)
    LIMIT 1
) AS "row"
FROM placed
WHERE place <= %(examples)s
ORDER BY source_table, target_table, partial, all_rows DESC, reasons, place
"""
CONFLICTS = """
SELECT source_table, target_table, cause, count(*) AS rows
FROM migration.conflict
WHERE system = %(system)s
GROUP BY source_table, target_table, cause
ORDER BY source_table, target_table, cause
"""
VANISHED = CONFLICTS.replace("migration.conflict", "migration.vanished")
OWNED = """
SELECT target_table, count(DISTINCT led.row) AS rows
FROM (
    SELECT flow_id, LED_TO AS row
    FROM migration.mapping_entry AS entry
    WHERE flow_id = ANY (ARRAY(SELECT id FROM migration.flow WHERE system = %(system)s))
) AS led
JOIN migration.flow ON flow.id = led.flow_id
GROUP BY target_table
""".replace("LED_TO", LED_TO)
"""By their numbers: to make a text of each key first, as `migration.mapping` does, takes many times as long."""


@dataclass(frozen=True)
class Accounting:
    """What became of the rows of a source table on their way to a target table."""

    source_table: str
    target_table: str
    read: int
    migrated: int
    rejected: int
    dropped: Mapping[str, int]
    coerced: Mapping[str, int]

    @property
    def balances(self) -> bool:
        return self.read == self.migrated + self.rejected + sum(self.dropped.values())


@dataclass(frozen=True)
class RunFigures:
    """A run as the target database remembers it; `inserted` and `updated` count rows of the target, also if undone."""

    run_id: str
    mode: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    accepted: Mapping[str, Any]
    read: int | None
    rejected: int | None
    """None where nothing is accounted for: an undo takes the accounting of what it undoes away."""
    inserted: int
    updated: int
    flows: tuple[tuple[str, str], ...]
    """Source and target tables that it accounted for."""
    limited: bool
    """It took the first rows of each table only."""
    demonstration: bool = False
    """A file stood for the people who had to say something."""
    restore_point: str | None = None
    """Where the target database could be put back to when it began."""
    indexes_after: bool = False
    """It was asked to make indexes and foreign keys of empty tables after their first load."""

    @property
    def accepted_by(self) -> str:
        """Who started it, where something was accepted for it: its history may lie elsewhere."""
        return next((str(said["by"]) for said in self.accepted.values() if isinstance(said, Mapping)), "")


@dataclass(frozen=True)
class Loaded:
    """What a run loaded into a model: the rows that it wrote, how many of them were undone since, and when."""

    run_id: str
    started_at: datetime
    """Of the run."""
    model: str
    rows: int
    undone: int = 0
    undone_at: datetime | None = None


@dataclass(frozen=True)
class RejectedKind:
    """Rejected rows with the same detail, and one of them, whole and not masked."""

    detail: str
    rows: int
    source_key: str
    row: Mapping[str, Any]


@dataclass(frozen=True)
class RejectedRows:
    """Rows of one source table that are rejected now, for the same reasons; `kinds` are the most frequent ones."""

    source_table: str
    target_table: str
    reasons: tuple[str, ...]
    partial: bool
    rows: int
    all_kinds: int
    kinds: tuple[RejectedKind, ...]


@dataclass(frozen=True)
class Listed:
    """Target rows that the load lists: in conflict with what someone else did, or no longer in the input."""

    source_table: str
    target_table: str
    cause: str
    rows: int


@dataclass(frozen=True)
class Figures:
    """All that the bookkeeping says, as of one instant. Runs are the last ones, the latest first."""

    runs: tuple[RunFigures, ...] = ()
    accounting: tuple[Accounting, ...] = ()
    rejected: tuple[RejectedRows, ...] = ()
    conflicts: tuple[Listed, ...] = ()
    vanished: tuple[Listed, ...] = ()
    owned: Mapping[str, int] = field(default_factory=dict)
    """Rows of each target table that legacy rows became: written, or found with equal values."""
    loaded: tuple[Loaded, ...] = ()
    """Of all runs that wrote, and of all cutovers."""


def read_figures(target_url: str, system: str) -> Figures:
    """All figures, in one read-only transaction, so that they agree with one another; none where nothing was loaded."""
    with refusals_told(), connect(target_url) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # Compiling the queries takes longer than they do, and a hundred thousand details are sorted in memory.
        connection.execute("SET LOCAL jit = off; SET LOCAL work_mem = '64MB'")
        if connection.execute("SELECT to_regclass('migration.activation')").fetchone() == (None,):
            return Figures()
        ask = _Asking(connection, {"system": system, "runs": RUNS_SHOWN, "examples": EXAMPLES})
        return Figures(
            tuple(run_figures(ask(RUNS))),
            tuple(Accounting(**row) for row in ask(ACCOUNTING)),
            rejected_rows(ask(REJECTED)),
            tuple(Listed(**row) for row in ask(CONFLICTS)),
            tuple(Listed(**row) for row in ask(VANISHED)),
            {row["target_table"]: row["rows"] for row in ask(OWNED)},
            tuple(Loaded(**row) for row in ask(LOADED)),
        )


def read_runs(target_url: str, system: str, limit: int | None) -> tuple[tuple[RunFigures, ...], tuple[Loaded, ...]]:
    """The last runs that loaded, the latest first, or all of them, and what all runs wrote into which model; none where
    nothing was loaded."""
    with refusals_told(), connect(target_url) as connection, connection.transaction():
        connection.execute("SET TRANSACTION READ ONLY")
        if connection.execute("SELECT to_regclass('migration.activation')").fetchone() == (None,):
            return (), ()
        ask = _Asking(connection, {"system": system, "runs": limit})
        return tuple(run_figures(ask(RUNS))), tuple(Loaded(**row) for row in ask(LOADED))


def run_figures(answer: list[dict[str, Any]]) -> Iterator[RunFigures]:
    for row in answer:
        yield RunFigures(**{**row, "flows": tuple(map(tuple, row["flows"]))})


class _Asking:
    def __init__(self, connection: psycopg.Connection[Any], values: Mapping[str, Any]) -> None:
        self.connection, self.values = connection, values

    def __call__(self, query: str) -> list[dict[str, Any]]:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), self.values).fetchall()


def rejected_rows(answer: list[dict[str, Any]]) -> tuple[RejectedRows, ...]:
    groups: dict[tuple[str, str, tuple[str, ...], bool], list[dict[str, Any]]] = {}
    for row in answer:
        group = (row["source_table"], row["target_table"], tuple(row["reasons"]), row["partial"])
        groups.setdefault(group, []).append(row)
    return tuple(
        RejectedRows(
            source,
            target,
            reasons,
            partial,
            rows[0]["all_rows"],
            rows[0]["all_kinds"],
            tuple(RejectedKind(row["detail"], row["rows"], row["source_key"], row["row"] or {}) for row in rows),
        )
        for (source, target, reasons, partial), rows in groups.items()
    )
