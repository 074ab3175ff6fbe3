"""A small target with the tables that Dispatch derives from, and what the tests put into it and read of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import UUID, uuid5

import polars as pl
import psycopg

from dtx_assets.machinery.derived.embed import Embedding
from dtx_assets.machinery.derived.embedder import Answer, Embedder
from dtx_assets.machinery.derived.filling import Filling, Queued
from dtx_assets.machinery.derived.model import load_derived
from dtx_assets.machinery.derived.queue import Queue, prepare_journal
from dtx_assets.machinery.derived.standin import StandIn
from dtx_assets.machinery.load.runs import open_run
from dtx_assets.machinery.postgres.connection import Connection

MAPPINGS = Path(__file__).parents[3] / "mappings" / "dispatch"
DECLARED = load_derived(MAPPINGS / "derived.yaml")
CHOSEN = {"embedding_identifiers": "omit", "long_text": "chunk"}
SPACE = UUID("11111111-2222-3333-4444-555555555555")

TABLES = """
CREATE TABLE profiles (id uuid PRIMARY KEY, profile_type text NOT NULL, first_name text, last_name text, gender text,
    date_of_birth date, medical_history text, allergies text, medications text, is_active boolean,
    metadata jsonb NOT NULL DEFAULT '{}');
CREATE TABLE order_types (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id uuid PRIMARY KEY, order_type_id uuid NOT NULL REFERENCES order_types, notes text,
    data jsonb NOT NULL DEFAULT '{}', metadata jsonb NOT NULL DEFAULT '{}');
CREATE TABLE messages (id uuid PRIMARY KEY, body text NOT NULL);
CREATE TABLE projects (id uuid PRIMARY KEY, legacy_project_id integer UNIQUE, name text NOT NULL, project_type text,
    description text);
"""


class StandingClock:
    """Time passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.at = datetime(2100, 1, 1, tzinfo=UTC)
        self.slept: list[float] = []
        self._lock = Lock()

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.at += timedelta(seconds=seconds)


class Asked:
    """A stand-in that remembers what it was asked, and answers as it is told to."""

    model_version = "1"
    dimensions = DECLARED.dimensions

    def __init__(self, answer: Callable[[str], Answer] | None = None, model_name: str = "standin:asked") -> None:
        self.model_name = model_name
        self.texts: list[str] = []
        self.answer = answer or StandIn(DECLARED.dimensions).embed
        self._lock = Lock()

    def embed(self, text: str) -> Answer:
        with self._lock:
            self.texts.append(text)
        return self.answer(text)


def key(text: str) -> str:
    return str(uuid5(SPACE, text))


def make_tables(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(TABLES)
        connection.execute((MAPPINGS / "derived.sql").read_bytes())
        connection.execute((MAPPINGS / "embeddings.sql").read_bytes())


def empty(url: str) -> None:
    """The tables as `make_tables` made them, whatever a test did."""
    with psycopg.connect(url) as connection:
        connection.execute("DROP SCHEMA IF EXISTS migration CASCADE")
        tables = ["profiles", "order_types", "orders", "messages", "projects"]
        connection.execute(f"TRUNCATE {', '.join(tables)}, embedding_queue, dify_knowledgebases CASCADE")
        for entity in DECLARED.entities.values():
            connection.execute(f"ALTER TABLE {entity.table} DISABLE TRIGGER {entity.trigger}")
        for (name,) in connection.execute(
            "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
            " JOIN pg_am ON pg_am.oid = relam WHERE amname IN ('hnsw', 'gin') AND relnamespace = 'public'::regnamespace"
        ).fetchall():
            connection.execute(f"DROP INDEX {name}")


@dataclass
class Place:
    """A target database, and one run after another on it."""

    url: str
    connection: Connection
    clock: StandingClock = field(default_factory=StandingClock)
    legacy: dict[str, pl.DataFrame] = field(default_factory=lambda: {"dispatch_project": projects_of({})})
    runs: int = 0

    # --- rows ---

    def message(self, name: str, body: str) -> str:
        self.put("messages", name, body=body)
        return key(name)

    def put(self, table: str, name: str, /, **values: Any) -> str:
        columns = {"id": key(name), **values}
        adapted = [psycopg.types.json.Jsonb(v) if isinstance(v, dict) else v for v in columns.values()]
        updates = ", ".join(f'"{column}" = excluded."{column}"' for column in columns)
        self.connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"
            f" ON CONFLICT (id) DO UPDATE SET {updates}",
            adapted,
        )
        return key(name)

    # --- runs ---

    def queue(self, *, sends: bool = False) -> Queue:
        """The queue as a new run sees it."""
        self.runs += 1
        run = open_run(self.url, "dispatch", f"run-{self.runs}", mode="rehearsal", decisions={})
        prepare_journal(self.connection)
        return Queue(self.connection, DECLARED, run.run_id, sends=sends)

    def legacy_rows(self, table: str) -> pl.LazyFrame:
        return self.legacy[table].lazy()

    def fill(self, queue: Queue, embedder: Embedder | None = None, chosen: Mapping[str, str] = CHOSEN) -> Queued:
        asked = embedder or Asked()
        return Filling(queue).fill(chosen, self.legacy_rows, (asked.model_name, asked.model_version))

    def embedding(self, queue: Queue, embedder: Embedder, **options: Any) -> Embedding:
        given = {"clock": self.clock, "concurrency": 4, "chance": lambda: 0.5, **options}
        return Embedding(queue, embedder, CHOSEN, self.legacy_rows, **given)

    def embed(self, embedder: Embedder, **options: Any) -> Embedding:
        """Fill the queue and work it off, as a new run."""
        queue = self.queue()
        self.fill(queue, embedder)
        embedding = self.embedding(queue, embedder, **options)
        embedding.run()
        return embedding

    # --- what is there ---

    def rows(self, query: str, *given: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, given).fetchall()

    def state(self, name: str) -> dict[str, Any]:
        """The row of the queue of the target row with this name."""
        with psycopg.connect(self.url, row_factory=psycopg.rows.dict_row) as connection:
            [found] = connection.execute("SELECT * FROM embedding_queue WHERE source_id = %s", [key(name)]).fetchall()
        return found

    def embedded(self) -> dict[str, list[tuple[Any, ...]]]:
        """By owner: chunk number and hash of each embedding of a message."""
        found: dict[str, list[tuple[Any, ...]]] = {}
        for owner, *rest in self.rows(
            "SELECT message_id::text, chunk_index, content_hash FROM message_embeddings ORDER BY 1, 2"
        ):
            found.setdefault(owner, []).append(tuple(rest))
        return found


def projects_of(names: Mapping[int, str | None]) -> pl.DataFrame:
    """The legacy projects with these names."""
    return pl.DataFrame(
        {"_source_key": [str(number) for number in names], "name": list(names.values())},
        schema={"_source_key": pl.String, "name": pl.String},
    )
