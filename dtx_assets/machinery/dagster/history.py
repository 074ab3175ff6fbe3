"""Where Dagster keeps the history of runs: its own SQLite storage, with connections that are kept open.

Dagster makes an engine, a connection and compiled statements anew for each of the thousands of events of a run; that
took half of the time of a run. What is stored, and how, is Dagster's. `dagster.yaml` names the storage.

The results of a step come in a burst, each of them an event or two: they are written together, at the latest HELD
seconds after the first of them. Whoever asks in this process for what they tell is answered with them.
"""

import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    EventLogEntry,
    EventLogRecord,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetKeyTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
    SqliteEventLogStorageWatchdog,
)
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData, deserialize_values, serialize_value
from sqlalchemy import Connection, Engine, Update, bindparam, create_engine, event, inspect, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool
from watchdog.events import FileSystemEvent
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

HELD = 0.5
"""Seconds for which an event waits for others at most: what another process sees of a run is older by so much."""
IN_BURSTS = {DagsterEventType.STEP_START, DagsterEventType.STEP_OUTPUT, DagsterEventType.ASSET_CHECK_EVALUATION}
"""What a step may give by the hundred, and its start. Whatever else happens is written at once, after what waits."""
AT_MOST = 500
"""Events that wait: each holds all that is shown of it."""

OPEN_DATABASES = 16
"""Of runs, each of which has a database of its own: a server that is asked for old ones must not keep them all open."""

BATCH_SIZE = ("DAGSTER_EVENT_BATCH_SIZE", "1000")
"""What Dagster reads of the environment: the events that say what a run is going to do are handed over together."""

MIRRORED = {*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS}
"""What is asked of all runs at once."""
_NOT_PASSED = serialize_value({"success": False}).strip("{}")
"""As Dagster writes it of an evaluation."""
_STATUS = {True: AssetCheckExecutionRecordStatus.SUCCEEDED, False: AssetCheckExecutionRecordStatus.FAILED}
# Made once: making such a statement takes longer than executing it.
_EVENT = SqlEventLogStorageTable.insert()
_PLANNED = AssetCheckExecutionsTable.insert()
_EVALUATED = AssetCheckExecutionsTable.update().where(
    *(AssetCheckExecutionsTable.c[name] == bindparam(f"of_{name}") for name in ("asset_key", "check_name", "run_id")),
    AssetCheckExecutionsTable.c.partition.is_(None),
)
_ASSET = AssetKeyTable.insert()


@cache
def _asset_of(columns: tuple[str, ...]) -> Update:
    """Changes these columns of an asset."""
    values: dict[str, Any] = {name: bindparam(name) for name in columns}
    return AssetKeyTable.update().where(AssetKeyTable.c.asset_key == bindparam("of_asset_key")).values(values)


def _check_of(event: EventLogEntry, said: AssetCheckEvaluationPlanned | AssetCheckEvaluation) -> dict[str, str]:
    return {"asset_key": said.asset_key.to_string(), "check_name": said.check_name, "run_id": event.run_id}


def kept_open(url: str) -> Engine:
    """An engine that keeps a connection. A power cut may take the last events, but leaves the database whole."""
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})

    @event.listens_for(engine, "connect")
    def _without_waiting_for_the_disk(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine


def _says_its_version(engine: Engine, *tables: str) -> bool:
    """Whether a database was made and has these tables. Dagster leaves it as it is then, but to see that it reads all
    its migrations of such databases, each time that one is opened."""
    try:
        with engine.connect() as connection:
            version = connection.execute(text("SELECT version_num FROM alembic_version")).first()
            return version is not None and all(map(inspect(connection).has_table, tables))
    except OperationalError:
        # There is no such table yet; whatever else it may be, Dagster meets it again.
        return False


def _is_made(url: str, directory: str, name: str, *tables: str) -> bool:
    return Path(directory, f"{name}.db").exists() and _says_its_version(create_engine(url, poolclass=NullPool), *tables)


def failed_evaluations(instance: DagsterInstance, run_id: str) -> list[AssetCheckEvaluation]:
    """The evaluations of a run that did not pass, from whatever storage the instance has."""
    if isinstance(storage := instance.event_log_storage, EventLogStorage):
        return storage.failed_evaluations(run_id)
    records = instance.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION).records
    found = (record.event_log_entry.asset_check_evaluation for record in records)
    return [evaluation for evaluation in found if evaluation is not None and not evaluation.passed]


class EventLogWatchdog(SqliteEventLogStorageWatchdog):
    """Looks at the write-ahead log too: the database itself is written from time to time only while it is open."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patterns = [self._log_path, f"{self._log_path}-wal"]

    def on_modified(self, event: FileSystemEvent) -> None:
        self._process_log()


class EventLogStorage(SqliteEventLogStorage):
    """Dagster's event log, with an engine for each of the databases that were used last."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, tuple[Engine, int]] = OrderedDict()
        self._connections: dict[str, Connection] = {}
        self._found: set[tuple[str, ...]] = set()
        self._last_made: dict[AssetKey, tuple[str, EventLogRecord | None]] = {}
        self._waiting: list[EventLogEntry] = []
        self._unmirrored: list[tuple[EventLogEntry, Mapping[str, Any]]] = []
        """What is in the databases of the runs, and not yet in that of all."""
        self._timer: threading.Timer | None = None
        self._is_writing = False
        super().__init__(base_dir, inst_data)
        self._db_lock = threading.RLock()  # type: ignore[assignment]  # Dagster asks for no connection within another
        self._obs: BaseObserver | None = None  # type: ignore[assignment]  # Dagster declares None alone

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        """A connection in a transaction of its own; within another to the same database, that one."""
        with self._db_lock:
            if self._is_told_of_what_waits(shard):
                self._write_what_waits()
            if known := self._connections.get(shard):
                yield known
                return
            with self._engine(shard).connect() as connection, connection.begin():
                self._connections[shard] = connection
                try:
                    yield connection
                finally:
                    del self._connections[shard]

    def _is_told_of_what_waits(self, shard: str) -> bool:
        """Whether what waits is going to be in this database: each step begins by asking what it depends on, which the
        event of its start does not change."""
        if shard == INDEX_SHARD_NAME:
            return bool(self._unmirrored) or any(event.dagster_event_type in MIRRORED for event in self._waiting)
        return any(event.run_id == shard for event in self._waiting)

    def store_event(self, event: EventLogEntry) -> None:
        with self._db_lock:
            if event.dagster_event_type not in IN_BURSTS or not event.step_key or len(self._waiting) >= AT_MOST:
                self._write_what_waits([event])
                return
            self._waiting.append(event)
            if self._timer is None:
                # It is left to run where what waited is written before: another one for each step takes longer.
                self._timer = threading.Timer(HELD, self._time_is_up)
                self._timer.daemon = True
                self._timer.start()

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        with self._db_lock:
            self._write_what_waits(events)

    def _time_is_up(self) -> None:
        # What cannot be written goes on waiting: whoever stores or asks next is told.
        with self._db_lock, suppress(Exception):
            self._timer = None
            self._write_what_waits()

    def _write_what_waits(self, more: Sequence[EventLogEntry] = ()) -> None:
        """What waits, and `more` after it: those of a run in one transaction, then what is asked of all runs in one.

        Never in both databases at once: another process may have the second and wait for the first.
        """
        if self._is_writing or not (self._waiting or self._unmirrored or more):
            return
        self._is_writing = True
        try:
            events = [*self._waiting, *more]
            for run in dict.fromkeys(event.run_id for event in events):
                self._write(run, [event for event in events if event.run_id == run])
            if self._unmirrored:
                with self.index_connection() as index:
                    for pair in list(self._unmirrored):
                        self._mirror_or_forget(index, pair)
                self._unmirrored = []
        finally:
            self._is_writing = False

    def _write(self, run: str, events: Sequence[EventLogEntry]) -> None:
        rows = [self._event_to_row(event) for event in events]
        with self.run_connection(run) as connection:
            connection.execute(_EVENT, rows)
        self._waiting = [event for event in self._waiting if event.run_id != run]
        pairs = zip(events, rows, strict=True)
        self._unmirrored += [(event, row) for event, row in pairs if event.dagster_event_type in MIRRORED]

    def _mirror_or_forget(self, index: Connection, pair: tuple[EventLogEntry, Mapping[str, Any]]) -> None:
        """What Dagster refuses is told once; what the disk or the database refuses is tried again."""
        try:
            self._mirror(index, *pair)
        except (OperationalError, OSError):
            raise
        except Exception:
            self._unmirrored.remove(pair)
            raise

    def _mirror(self, index: Connection, event: EventLogEntry, row: Mapping[str, Any]) -> None:
        """What is asked of all runs at once is in a database of its own too."""
        number = index.execute(_EVENT, row).lastrowid
        if event.dagster_event_type in ASSET_EVENTS:
            self._store_asset_event_tags(index, [event], [number])
            self._store_asset_event(index, event, number)
        elif event.dagster_event_type in ASSET_CHECK_EVENTS and not self._note_check(index, event, row, number):
            self.store_asset_check_event(event, number)

    def _store_asset_event(self, conn: Connection, event: EventLogEntry, event_id: int) -> None:
        """Dagster's own, but with statements that are made once; what was made is remembered as it would be read."""
        key = event.get_dagster_event().asset_key
        values = self._get_asset_entry_values(event, event_id, self._has_asset_key_index_cols_on_connection(conn))
        if key is None or not values:
            return
        if conn.execute(_asset_of(tuple(values)), {"of_asset_key": key.to_string(), **values}).rowcount == 0:
            conn.execute(_ASSET, {"asset_key": key.to_string(), **values})
        if made := values.get("last_materialization"):
            self._last_made[key] = made, EventLogRecord(event_id, event)

    def _note_check(self, index: Connection, event: EventLogEntry, row: Mapping[str, Any], number: int) -> bool:
        """Whether the state of the check was noted: not of one that has partitions, is of no run or was not planned."""
        noted = {
            "evaluation_event": row["event"],
            "evaluation_event_timestamp": row["timestamp"],
            "evaluation_event_storage_id": number,
        }
        match event.get_dagster_event().event_specific_data:
            case AssetCheckEvaluationPlanned(partitions_subset=None) as planned if event.run_id:
                status = AssetCheckExecutionRecordStatus.PLANNED
                index.execute(_PLANNED, {**_check_of(event, planned), **noted, "execution_status": status.value})
                return True
            case AssetCheckEvaluation(partition=None) as found if event.run_id:
                status = _STATUS[found.passed]
                made = found.target_materialization_data
                noted |= {
                    **{f"of_{name}": value for name, value in _check_of(event, found).items()},
                    "execution_status": status.value,
                    "materialization_event_storage_id": made.storage_id if made else None,
                }
                changed = index.execute(_EVALUATED, noted).rowcount
                # Dagster's own refuses what was planned twice.
                return changed == 1
        return False

    def failed_evaluations(self, run_id: str) -> list[AssetCheckEvaluation]:
        """The evaluations of a run that did not pass: few of a thousand, so only their texts are read."""
        columns = SqlEventLogStorageTable.c
        query = (
            select(columns.event)
            .where(columns.run_id == run_id, columns.event.contains(_NOT_PASSED, autoescape=True))
            .where(columns.dagster_event_type == DagsterEventType.ASSET_CHECK_EVALUATION.value)
            .order_by(columns.id)
        )
        with self.run_connection(run_id) as connection:
            texts = connection.execute(query).scalars().all()
        read = deserialize_values(texts, EventLogEntry)
        found = (event.asset_check_evaluation for event in read)
        # The words may stand in what is told of one that passed, too.
        return [evaluation for evaluation in found if evaluation is not None and not evaluation.passed]

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:
        if not _says_its_version(engine):
            super()._initdb(engine, for_index_shard)

    def _engine(self, shard: str) -> Engine:
        path = Path(self.path_for_shard(shard))
        engine, file = self._engines.pop(shard, (None, 0))
        if engine and (not path.exists() or path.stat().st_ino != file):
            # Deleted, perhaps made anew, by another process.
            engine.dispose()
            engine = None
        if engine is None:
            engine = kept_open(self.conn_string_for_shard(shard))
            self._initdb(engine)
            file = path.stat().st_ino
        self._engines[shard] = engine, file
        while len(self._engines) > OPEN_DATABASES:
            self._engines.popitem(last=False)[1][0].dispose()
        return engine

    def has_table(self, table_name: str) -> bool:
        return self._is_there(("table", table_name), lambda: super(EventLogStorage, self).has_table(table_name))

    def has_secondary_index(self, name: str) -> bool:
        return self._is_there(("index", name), lambda: super(EventLogStorage, self).has_secondary_index(name))

    def has_asset_key_col(self, column_name: str) -> bool:
        return self._is_there(
            ("column", column_name), lambda: super(EventLogStorage, self).has_asset_key_col(column_name)
        )

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        return self._is_there(
            ("column", column_name),
            lambda: super(EventLogStorage, self)._has_asset_key_col_on_connection(conn, column_name),
        )

    def _is_there(self, what: tuple[str, ...], look: Callable[[], bool]) -> bool:
        """Asked for each event; what is there stays."""
        if what not in self._found and look():
            self._found.add(what)
        return what in self._found

    def _get_latest_materialization_records(
        self, raw_asset_rows: Iterable[Mapping[str, Any]]
    ) -> Mapping[AssetKey, EventLogRecord | None]:
        """Each step asks for all that it depends on: a record is read from its text only where that is another one."""
        found: dict[AssetKey, EventLogRecord | None] = {}
        rows: dict[AssetKey | None, Mapping[str, Any]] = {}
        for row in raw_asset_rows:
            key = AssetKey.from_db_string(row["asset_key"])
            if key in self._last_made and not row["asset_details"]:
                text, record = self._last_made[key]
                if text == row["last_materialization"]:
                    found[key] = record
                    continue
            rows[key] = row
        if rows:
            read = super()._get_latest_materialization_records(list(rows.values()))
            made = {key: (text, record) for key, record in read.items() if (text := rows[key]["last_materialization"])}
            self._last_made |= made
            found |= read
        return found

    def watch(self, run_id: str, cursor: str | None, callback: Any) -> None:
        observer = self._obs
        if observer is None:
            observer = self._obs = Observer()
            observer.start()
        watchdog = EventLogWatchdog(self, run_id, callback, cursor)
        self._watchers[run_id][callback] = watchdog, observer.schedule(watchdog, self._base_dir)

    def wipe(self) -> None:
        self._close()
        super().wipe()

    def dispose(self) -> None:
        super().dispose()
        self._close()

    def _close(self) -> None:
        with self._db_lock:
            self._write_what_waits()
            while self._engines:
                self._engines.popitem()[1][0].dispose()


class RunStorage(SqliteRunStorage):
    """Dagster's list of runs, with one engine."""

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engine = kept_open(conn_string)
        super().__init__(conn_string, inst_data)

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Self:
        url = create_db_conn_string(base_dir, "runs")
        if _is_made(url, base_dir, "runs", "instance_info"):
            return cls(url, inst_data)
        return super().from_local(base_dir, inst_data)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        super().dispose()
        self._engine.dispose()


class ScheduleStorage(SqliteScheduleStorage):
    """Dagster's own."""

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> SqliteScheduleStorage:
        url = create_db_conn_string(base_dir, "schedules")
        if _is_made(url, base_dir, "schedules"):
            return cls(url, inst_data)
        return super().from_local(base_dir, inst_data)


class SqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage in a directory, with connections that are kept open."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # Not Dagster's own, which opens three storages that are not used then.
        super(DagsterSqliteStorage, self).__init__()
        self.base_dir, self._inst_data = base_dir, inst_data
        os.environ.setdefault(*BATCH_SIZE)
        history = Path(base_dir, "history")
        self._schedule_storage = ScheduleStorage.from_local(str(Path(base_dir, "schedules")))
        self._run_storage = RunStorage.from_local(str(history))
        self._event_log_storage = EventLogStorage(str(history / "runs"))

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls.from_local(inst_data=inst_data, **config_value)
