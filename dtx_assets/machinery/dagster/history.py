"""Where Dagster keeps the history of runs: its own SQLite storage, with connections that are kept open.

Dagster makes an engine, a connection and compiled statements anew for each of the thousands of events of a run; that
took half of the time of a run. What is stored, and how, is Dagster's. `dagster.yaml` names the storage.
"""

import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from dagster import AssetKey, EventLogEntry, EventLogRecord
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage, SqliteEventLogStorageWatchdog
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event
from watchdog.events import FileSystemEvent
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

OPEN_DATABASES = 16
"""Of runs, each of which has a database of its own: a server that is asked for old ones must not keep them all open."""

BATCH_SIZE = ("DAGSTER_EVENT_BATCH_SIZE", "1000")
"""What Dagster reads of the environment: the events that say what a run is going to do are handed over together."""


def kept_open(url: str) -> Engine:
    """An engine that keeps a connection. A power cut may take the last events, but leaves the database whole."""
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})

    @event.listens_for(engine, "connect")
    def _without_waiting_for_the_disk(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine


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
            if known := self._connections.get(shard):
                yield known
                return
            with self._engine(shard).connect() as connection, connection.begin():
                self._connections[shard] = connection
                try:
                    yield connection
                finally:
                    del self._connections[shard]

    def store_event(self, event: EventLogEntry) -> None:
        """In one transaction of each of its two databases."""
        if event.is_dagster_event and event.dagster_event_type in {*ASSET_EVENTS, *ASSET_CHECK_EVENTS}:
            with self.run_connection(event.run_id), self.index_connection():
                super().store_event(event)
        else:
            super().store_event(event)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """In one transaction of each of their databases."""
        with ExitStack() as stack:
            for run in dict.fromkeys(event.run_id for event in events):
                stack.enter_context(self.run_connection(run))
            stack.enter_context(self.index_connection())
            super().store_event_batch(events)

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
            while self._engines:
                self._engines.popitem()[1][0].dispose()


class RunStorage(SqliteRunStorage):
    """Dagster's list of runs, with one engine."""

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engine = kept_open(conn_string)
        super().__init__(conn_string, inst_data)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        super().dispose()
        self._engine.dispose()


class SqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage in a directory, with connections that are kept open."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        os.environ.setdefault(*BATCH_SIZE)
        history = Path(base_dir, "history")
        self._run_storage = RunStorage.from_local(str(history))
        self._event_log_storage = EventLogStorage(str(history / "runs"))

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls.from_local(inst_data=inst_data, **config_value)
