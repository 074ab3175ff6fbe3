"""Whether runs wrote tables of others: by the transactions that wrote the targets, whatever others do meanwhile.

Rows and catalogue entries carry the transaction that wrote them last. What is deleted carries nothing, and what
somebody else writes over no longer does: each transaction of a load asks the server, before it ends, what it did
itself, and notes that in `migration.touched_entry`. An undo leaves what would change other tables (`load.proof`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from dtx_assets.machinery.model.target import OTHER_AREAS, TargetTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import qualified

OF_RUNS = """
WITH own AS MATERIALIZED (
    SELECT DISTINCT batch.xid::xid AS xmin FROM migration.batch
    JOIN migration.load ON load.id = load_id JOIN migration.run USING (run_id) WHERE run.system = %(system)s
)
"""
CATALOGUES = {
    "pg_class": "oid",
    "pg_attribute": "attrelid",
    "pg_constraint": "conrelid",
    "pg_index": "indrelid",
    "pg_trigger": "tgrelid",
    "pg_policy": "polrelid",
}
"""Where the definition of a table lies, and the column that says of which."""
SINCE_LAST_REPORT = """
SELECT told.place, sum(pg_stat_get_xact_tuples_inserted(part.oid) + pg_stat_get_xact_tuples_updated(part.oid)
    + pg_stat_get_xact_tuples_deleted(part.oid))::bigint,
    (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation = min(c.oid)
        AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'))
FROM unnest(%(schemas)s::text[], %(names)s::text[]) WITH ORDINALITY AS told (schema, name, place)
JOIN pg_class AS c ON c.relname = told.name
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)) AS part
WHERE CASE WHEN told.schema IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = told.schema END
GROUP BY told.place
"""
"""Rows that this session wrote or deleted, with those of the transactions before that it has not reported yet, and
locks of this transaction that only a redefinition, a TRUNCATE or a LOCK takes. The catalogue asks for no right."""


def that_must_stay(tables: Sequence[TargetTable]) -> tuple[TargetTable, ...]:
    """The tables that others own and into which nothing is written."""
    return tuple(table for table in tables if table.area == OTHER_AREAS and table.writes == "nothing")


@dataclass(frozen=True)
class Watch:
    """The tables of others that transactions of a run must not touch."""

    run_id: str
    tables: tuple[TargetTable, ...]

    @contextmanager
    def over(self, connection: Connection) -> Iterator[None]:
        """Notes, in the transaction that is open, what is done to them meanwhile; a row that was tried counts."""
        if not self.tables:
            yield
            return
        before = self._counts(connection)
        yield
        for place, (rows, locks) in self._counts(connection).items():
            rows_before, _ = before.get(place, (0, 0))
            if rows > rows_before or locks:
                table = self.tables[place - 1]
                connection.execute(
                    "INSERT INTO migration.touched_entry (run_id, target_schema, target_table, rows, locks)"
                    " VALUES (%s, %s, %s, %s, %s)",
                    [self.run_id, table.schema, table.name, rows - rows_before, locks],
                )

    def _counts(self, connection: Connection) -> dict[int, tuple[int, int]]:
        """By the place of a table from 1: rows and locks."""
        told = {
            "schemas": [table.schema or None for table in self.tables],
            "names": [table.name for table in self.tables],
        }
        return {place: (rows, locks) for place, rows, locks in connection.execute(SINCE_LAST_REPORT, told)}


def touched_by_runs(connection: Connection, system: str, tables: Sequence[TargetTable]) -> dict[str, dict[str, int]]:
    """What transactions of the system's loads did to each table; one that there is not is left out.

    `rows`: how many they wrote or deleted. `definitions`: how many catalogue entries of it are theirs. `locks`: how
    many they held on it that only a redefinition, a TRUNCATE or a LOCK takes.
    """
    if connection.execute("SELECT to_regclass('migration.touched_entry')").fetchone() == (None,):
        return {}
    found = {}
    for table in tables:
        name = qualified(table).as_string(connection)
        if connection.execute("SELECT to_regclass(%s)", [name]).fetchone() == (None,):
            continue
        of_table = sql.SQL(" + ").join(
            sql.SQL(
                "(SELECT count(*) FROM {0} AS c JOIN own ON own.xmin = c.xmin WHERE c.{1} = to_regclass(%(name)s))"
            ).format(sql.Identifier("pg_catalog", catalogue), sql.Identifier(column))
            for catalogue, column in CATALOGUES.items()
        )
        query = sql.SQL(
            "{}, noted AS (SELECT coalesce(sum(rows), 0)::bigint AS rows, coalesce(sum(locks), 0)::bigint AS locks"
            " FROM migration.touched_entry JOIN migration.run USING (run_id) WHERE run.system = %(system)s"
            " AND target_table = {} AND target_schema IS NOT DISTINCT FROM {})"
            # The server may be told to count nothing; then what is still there tells.
            " SELECT greatest(noted.rows, (SELECT count(*) FROM {} AS t JOIN own ON own.xmin = t.xmin)), {},"
            " noted.locks FROM noted"
        ).format(
            sql.SQL(OF_RUNS.rstrip()),
            sql.Literal(table.name),
            sql.Literal(table.schema or None),
            qualified(table),
            of_table,
        )
        counted = connection.execute(query, {"system": system, "name": name}).fetchone()
        assert counted
        found[table.name] = {"rows": counted[0], "definitions": counted[1], "locks": counted[2]}
    return found
