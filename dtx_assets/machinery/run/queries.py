"""The same questions asked of the legacy database and of the views of it in the target: rows, and seconds side by side.

A system whose mapping folder has a folder `queries` has one in each file `<name>.sql`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.exc import SQLAlchemyError

from dtx_assets.machinery.checks.own import Look
from dtx_assets.machinery.checks.spec import CheckOutcome, found
from dtx_assets.machinery.load.legacy_views import SCHEMA
from dtx_assets.machinery.sources.catalogue import source_engine

FOLDER = "queries"
TIMES_SLOWER, SECONDS_AT_LEAST = 2.0, 1.0
"""A query is slow that takes so many times as long as in the old database, and longer than as many times this."""
LONGEST = "60s"
NO_DATABASE = ("", "file", "s3", "mongodb", "mongodb+srv")


@dataclass(frozen=True)
class Answer:
    """How many rows a query gave, and after how long; or why it gave none."""

    rows: int = 0
    seconds: float = 0.0
    refusal: str = ""

    def __str__(self) -> str:
        return self.refusal or f"{self.rows:,} rows in {self.seconds:.3f} s"


def queries_of(mappings_dir: Path) -> dict[str, str]:
    return {path.stem: path.read_text("utf-8").strip() for path in sorted((mappings_dir / FOLDER).glob("*.sql"))}


def asked_of_both(look: Look) -> CheckOutcome:
    """Passes where each query is answered by the new database, and not much later than by the old one, if there is one.

    Rows may differ: those that are not migrated are missing.
    """
    queries = queries_of(look.system.mappings_dir)
    old, new = _of_legacy(look, queries), _of_target(look, queries)
    slow = [
        name
        for name, answer in new.items()
        if answer.refusal or (name in old and answer.seconds > TIMES_SLOWER * max(old[name].seconds, SECONDS_AT_LEAST))
    ]
    nothing = "no database: the legacy tables are files"
    side_by_side = {name: f"old: {old.get(name, nothing)}; new: {new[name]}" for name in queries}
    return found(len(slow), **side_by_side, **({"slow or refused": slow} if slow else {}))


def _of_target(look: Look, queries: dict[str, str]) -> dict[str, Answer]:
    schema = next((target.schema for target in look.system.filled_targets if target.schema), "public")
    with look.target() as connection:
        connection.execute(sql.SQL("SET search_path TO {}, {}").format(*map(sql.Identifier, (SCHEMA, schema))))
        connection.execute("SELECT set_config('statement_timeout', %s, false)", [LONGEST])

        def ask(query: str) -> int:
            return connection.execute(query.encode()).rowcount

        return {name: _timed(ask, query) for name, query in queries.items()}


def _of_legacy(look: Look, queries: dict[str, str]) -> dict[str, Answer]:
    url = look.settings.legacy_url
    scheme = url.partition("://")[0].lower().partition("+")[0] if "://" in url else ""
    if scheme in NO_DATABASE:
        return {}
    schema = next((table.schema for table in look.system.legacy_tables.values() if table.schema), None)
    options = {"isolation_level": "AUTOCOMMIT", "no_parameters": True}
    with source_engine(scheme, url) as engine, engine.connect().execution_options(**options) as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET default_transaction_read_only = on")
            connection.exec_driver_sql(f"SET statement_timeout = '{LONGEST}'")
            if schema:
                quoted = engine.dialect.identifier_preparer.quote(schema)
                connection.exec_driver_sql(f"SET search_path TO {quoted}")

        def ask(query: str) -> int:
            answer = connection.exec_driver_sql(query)
            # Values are not read: Python holds no time before year 1.
            return answer.rowcount if answer.rowcount >= 0 else len(answer.fetchall())

        return {name: _timed(ask, query) for name, query in queries.items()}


def _timed(ask: Callable[[str], int], query: str) -> Answer:
    started = time.perf_counter()
    try:
        rows = ask(query)
    except (psycopg.Error, SQLAlchemyError) as error:
        # What a server says of a query of ours quotes no value.
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        return Answer(refusal=f"refused: {said}")
    return Answer(rows, time.perf_counter() - started)
