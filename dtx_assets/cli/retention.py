"""What holds personal data and is older than it need be: found, sized, removed.

What counts now is left alone unless it is asked for: the current version of each dataset of the lake, and the rejected
rows that are open. Archives, files, target rows and embedded databases are not this module's. Each thing is removed by
itself, so that a purge that was killed is gone on with by the next one. `docs/personal-data.md` says where such data
lies, and who can read it.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from psycopg import sql

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.base.scratch import SCRATCH
from dtx_assets.machinery.base.shard import SHARDS
from dtx_assets.machinery.dagster.run import LOG_DIRECTORY
from dtx_assets.machinery.postgres.connection import connect, refusals_told

UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
YOUNGEST = timedelta(hours=1)
"""What is younger may be what a run is writing now."""
REPORT_DIRECTORY = "report"
REDACTED = "purged"


@dataclass(frozen=True)
class Stale:
    """One thing that is too old: of which kind, which one, since when it is there, how large, and how it is removed."""

    kind: str
    name: str
    at: datetime
    remove: Callable[[], object]
    rows: int | None = None
    bytes: int | None = None


def parse_age(text: str) -> timedelta:
    """`30d`, `12h` or `4w`; ConfigurationError for anything else, and for less than an hour."""
    found = re.fullmatch(r"([0-9]{1,4})([hdw])", text.strip().lower())
    age = int(found[1]) * UNITS[found[2]] if found else timedelta()
    if age < YOUNGEST:
        raise ConfigurationError(
            f"{text!r} is not an age",
            where="--older-than",
            remedy="write a number and h, d or w, such as 30d for thirty days; at least 1h",
        )
    return age


# --- the lake ---------------------------------------------------------------------------------------------------------


def stale_datasets(lake: Lake, system: str, before: datetime, *, current: bool = False) -> Iterator[Stale]:
    """Versions of the system's datasets that were written before then; `current`: those that count now as well."""
    for version in lake.versions(system):
        # Of shards nothing counts once they are old: a run that goes on with them makes them young.
        counts = version.is_current and version.key[1] != SHARDS
        if version.touched >= before or (counts and not current):
            continue
        yield Stale(
            "dataset that counts now" if counts else "earlier version of a dataset",
            f"{'/'.join(version.key)} {version.name}",
            version.touched,
            lambda version=version: lake.remove(version),  # type: ignore[misc]
            bytes=version.bytes,
        )


# --- the state directory ----------------------------------------------------------------------------------------------


def stale_files(home: Path, before: datetime) -> Iterator[Stale]:
    """Logs, reports, and rows that killed runs left on the disk."""
    for kind, pattern in (
        ("log", f"{LOG_DIRECTORY}/*.log"),
        ("report", f"{REPORT_DIRECTORY}/**/*"),
        ("rows left by a killed run", f"{SCRATCH}*"),
    ):
        for path in sorted(home.glob(pattern)):
            if path.is_dir() and not path.name.startswith(SCRATCH):
                continue
            at = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
            if at < before:
                yield Stale(kind, str(path.relative_to(home)), at, lambda path=path: remove(path), bytes=size(path))  # type: ignore[misc]


def size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum(inner.lstat().st_size for inner in path.rglob("*") if inner.is_file())


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- Dagster's history ------------------------------------------------------------------------------------------------


def stale_runs(instance: dg.DagsterInstance, home: Path, before: datetime, keep: set[str]) -> Iterator[Stale]:
    """Finished runs, with their events and what they printed; those to `keep` made what the UI shows of an asset."""
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    records = instance.get_run_records(filters=dg.RunsFilter(statuses=ended, created_before=before))
    for record in sorted(records, key=lambda record: record.create_timestamp):
        run_id = record.dagster_run.run_id
        ended_at = datetime.fromtimestamp(record.end_time or record.create_timestamp.timestamp(), UTC)
        if run_id in keep or ended_at >= before:
            continue
        # One name each, whatever the run was: an event database of SQLite, and what its steps printed.
        events = home / "history" / "runs" / f"{run_id}.db"
        left = [
            events,
            *(events.with_name(f"{events.name}-{part}") for part in ("wal", "shm")),
            home / "storage" / run_id,
        ]
        found = [path for path in left if path.exists()]

        def remove_run(run_id: str = run_id, left: list[Path] = left) -> None:
            instance.delete_run(run_id)
            for path in left:
                remove(path)

        yield Stale("Dagster run", run_id, ended_at, remove_run, bytes=sum(map(size, found)))


# --- the target's bookkeeping -----------------------------------------------------------------------------------------

# What an undo closed carries the number after its load's, which may be another load's, or nobody's yet.
CLOSED_BEFORE = (
    "closed_by IS NOT NULL AND (SELECT max(coalesce(load.finished_at, load.started_at)) FROM migration.load"
    " WHERE load.id IN (closed_by, closed_by - 1)) < {before}"
)
OPENED_BEFORE = (
    "closed_by IS NULL AND (detail, \"row\") IS DISTINCT FROM ({redacted}, '{{}}'::jsonb)"
    " AND (SELECT coalesce(load.finished_at, load.started_at) FROM migration.load WHERE load.id = opened_by) < {before}"
)


def stale_rejected(url: str, system: str, before: datetime, *, current: bool = False) -> Iterator[Stale]:
    """Rejected rows that were closed before then; `current`: the content of those that are open as well.

    An open row keeps its key and its reasons, or the accounting would not balance; what it held is taken out.
    """
    names = {"before": sql.Literal(before), "redacted": sql.Literal(REDACTED)}
    kinds = [("rejected rows that are closed", sql.SQL(CLOSED_BEFORE).format(**names), sql.SQL("DELETE FROM {table}"))]
    if current:
        redact = sql.SQL("UPDATE {table} SET (detail, \"row\") = ({redacted}, '{{}}'::jsonb)")
        kinds.append(("content of rejected rows that are open", sql.SQL(OPENED_BEFORE).format(**names), redact))
    table = sql.SQL("migration.rejected_entry AS entry")
    with refusals_told(), connect(url) as connection:
        if connection.execute("SELECT to_regclass('migration.rejected_entry')").fetchone() == (None,):
            return
        flows = connection.execute(
            "SELECT id, source_table, target_table FROM migration.flow WHERE system = %s ORDER BY 2, 3", [system]
        ).fetchall()
        for kind, which, statement in kinds:
            for flow, source, target in flows:
                condition = sql.SQL(" WHERE entry.flow_id = {} AND {}").format(sql.Literal(flow), which)
                found = connection.execute(
                    sql.SQL(
                        "SELECT count(*), coalesce(sum(pg_column_size(entry.*)), 0)::bigint, (SELECT min(started_at)"
                        " FROM migration.load WHERE id = min(entry.opened_by)) FROM {table}{condition}"
                    ).format(table=table, condition=condition)
                ).fetchone()
                if found and found[0]:
                    change = statement.format(table=table, **names) + condition

                    def remove_rows(change: sql.Composed = change) -> None:
                        with refusals_told(), connect(url) as connection:
                            connection.execute(change)

                    yield Stale(kind, f"{source} → {target}", found[2], remove_rows, rows=found[0], bytes=found[1])
