"""Texts through the whole queue of embeddings, with an embedder that answers in no time: what is measured is ours.

    .venv/bin/python -m benchmarks.embeddings [--texts 100000]

Profiles in Dispatch's own tables, each with a text of its own. The queue is filled, leased, answered, written and
completed in an embedded PostgreSQL with pgvector; the indexes are made after that. The second run asks nothing.
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import psycopg

from dtx_assets.dispatch.decided_system import SYSTEM
from dtx_assets.machinery.derived.embedder import Answer, Vector
from dtx_assets.machinery.derived.model import DerivedDeclaration
from dtx_assets.machinery.derived.run import Derivation, Deriving
from dtx_assets.machinery.derived.schema import create_derived
from dtx_assets.machinery.load.runs import open_run
from dtx_assets.machinery.mapping.decisions import load_decisions
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.postgres.embedded import embedded_postgres

DECLARED = SYSTEM.derived
VECTORS = 512
PROFILES = (
    "INSERT INTO profiles (id, profile_type, first_name, last_name, medical_history)"
    " SELECT gen_random_uuid(), 'patient', 'Ann', 'Lee', 'Case ' || n || ': ' || repeat('crowding, upper jaw; ', 12)"
    " FROM generate_series(1, %s) AS n"
)


class AtOnce:
    """Gives one of some vectors that were made before."""

    model_name, model_version = "standin:at-once", "1"

    def __init__(self, dimensions: int) -> None:
        self.dimensions, self.asked = dimensions, 0
        made = np.random.default_rng(1).standard_normal((VECTORS, dimensions)).astype(np.float32)
        self.vectors: list[Vector] = list(made / np.linalg.norm(made, axis=1, keepdims=True))

    def embed(self, text: str) -> Answer:
        self.asked += 1
        return Answer(self.vectors[hash(text) % VECTORS], len(text) // 5)


@dataclass
class Run:
    """One run, and when what of it was done."""

    started: float = field(default_factory=time.perf_counter)
    filled: float = 0.0
    answered: float = 0.0
    ended: float = 0.0

    def log(self, _line: str) -> None:
        self.filled = self.filled or time.perf_counter()

    def told(self, _done: int, _all: int) -> None:
        self.answered = time.perf_counter()


def derive(url: str, name: str, embedder: AtOnce) -> tuple[Run, Derivation]:
    assert isinstance(DECLARED, DerivedDeclaration)
    chosen = load_decisions(SYSTEM.mappings_dir / "decisions.yaml").chosen
    context = open_run(url, SYSTEM.name, f"{name}-{datetime.now(UTC):%H%M%S%f}", mode="rehearsal", decisions={})
    projects = pl.LazyFrame(schema={"_source_key": pl.String, "name": pl.String})
    with connect(url) as connection:
        run = Run()
        done = Deriving(
            connection,
            DECLARED,
            SYSTEM.mappings_dir,
            context.run_id,
            chosen,
            lambda _table: projects,
            embedder,
            None,
            8,
            run.log,
            told=run.told,
        ).run()
        run.ended = time.perf_counter()
    return run, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000)
    texts = parser.parse_args().texts
    assert isinstance(DECLARED, DerivedDeclaration)
    assert SYSTEM.target_sql is not None
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch,
        embedded_postgres(Path(scratch), extensions=("vector",)) as server,
    ):
        url = server.create_database("embeddings")
        with psycopg.connect(url) as connection:
            connection.execute(SYSTEM.target_sql.read_text("utf-8").encode())
            create_derived(connection, DECLARED, SYSTEM.mappings_dir)
            connection.execute(PROFILES, [texts])
        embedder = AtOnce(DECLARED.dimensions)
        before = time.process_time()
        first, done = derive(url, "first", embedder)
        of_python = time.process_time() - before
        asked = embedder.asked
        again, _ = derive(url, "again", embedder)
    assert done.embedding.embedded == asked == texts
    queue = first.answered - first.started
    print(f"{texts:,} texts through the queue  {queue:6.1f} s, {texts / queue:,.0f} texts a second (at least 1,000)")
    print(f"  filling it               {first.filled - first.started:6.1f} s")
    print(f"  asking and writing       {first.answered - first.filled:6.1f} s")
    print(f"indexes after the bulk     {first.ended - first.answered:6.1f} s ({', '.join(done.indexes)})")
    print(f"processor time of Python   {of_python:6.1f} s")
    print(f"second run                 {again.ended - again.started:6.1f} s, {embedder.asked - asked} texts asked (0)")


if __name__ == "__main__":
    main()
