"""The history of runs in PostgreSQL: Dagster's own storage, with connections that are kept.

Dagster connects anew for each of the thousands of events of a run, and several times for some. What is stored, and how,
is Dagster's: other processes may have the same history by its own storage. `deploy/dagster.yaml` names this one.
"""

import os
import weakref
from collections.abc import Mapping
from typing import Any, Self

from dagster._serdes import ConfigurableClassData
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config
from sqlalchemy import Engine

KEPT = 2
"""Connections that a process keeps: the thread of the steps and one beside it. More are made while they are needed."""
SECONDS_KEPT = 600
"""What lies between may close one that nothing goes through."""

_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


def kept(url: str, token_provider: Any = None) -> Engine:
    """An engine that keeps connections; one that the server has closed meanwhile is found before it is used."""
    engine = create_pg_engine(
        url,
        token_provider,
        isolation_level="AUTOCOMMIT",
        pool_size=KEPT,
        # Whoever needs one more is not to wait for another thread.
        max_overflow=-1,
        pool_recycle=SECONDS_KEPT,
        pool_pre_ping=True,
        pool_use_lifo=True,
    )
    _engines.add(engine)
    return engine


def _not_those_of_the_parent() -> None:
    """A process that was forked leaves the connections alone through which its parent speaks."""
    for engine in list(_engines):
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_not_those_of_the_parent)


class EventLogStorage(PostgresEventLogStorage):
    """Dagster's event log; with it all connections of the instance are closed."""

    def dispose(self) -> None:
        super().dispose()
        self._engine.dispose()


class PostgresStorage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage, configured like it; runs, events and schedules share what is kept."""

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
        token_provider: Any = None,
    ) -> None:
        # Not Dagster's own, which makes three storages with a connection for each question.
        super(DagsterPostgresStorage, self).__init__()
        self.postgres_url, self.should_autocreate_tables = postgres_url, should_autocreate_tables
        self._inst_data = inst_data
        engine = kept(postgres_url, token_provider)
        made = (postgres_url, should_autocreate_tables, None, token_provider)
        self._run_storage = PostgresRunStorage(*made)
        self._event_log_storage = EventLogStorage(*made)
        self._schedule_storage = PostgresScheduleStorage(*made)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = engine

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(
            pg_url_from_config(dict(config_value)),
            bool(config_value.get("should_autocreate_tables", True)),
            inst_data,
            get_token_provider_from_config(dict(config_value)),
        )
