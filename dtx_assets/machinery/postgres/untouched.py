"""Whether runs wrote tables of others: by the transactions that wrote the targets, whatever others do meanwhile."""

from collections.abc import Sequence

from psycopg import sql

from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import qualified

OF_RUNS = """
WITH own AS MATERIALIZED (
    SELECT DISTINCT batch.xid::xid AS xmin FROM migration.batch
    JOIN migration.load ON load.id = load_id JOIN migration.run USING (run_id) WHERE run.system = %(system)s
)
"""
CHANGED = "(SELECT count(*) FROM {} AS c JOIN own ON own.xmin = c.xmin WHERE c.{} = to_regclass(%(name)s))"
CATALOGUES = {
    "pg_class": "oid",
    "pg_attribute": "attrelid",
    "pg_constraint": "conrelid",
    "pg_index": "indrelid",
    "pg_trigger": "tgrelid",
    "pg_policy": "polrelid",
}
"""Where the definition of a table lies, and the column that says of which."""


def touched_by_runs(connection: Connection, system: str, tables: Sequence[TargetTable]) -> dict[str, dict[str, int]]:
    """Of each table: `rows` that transactions of the system's loads wrote, and `definitions` of it that they changed.

    Rows and catalogue entries carry the transaction that wrote them last. A table that there is not is left out.
    """
    if connection.execute("SELECT to_regclass('migration.batch')").fetchone() == (None,):
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
        query = sql.SQL("{} SELECT (SELECT count(*) FROM {} AS t JOIN own ON own.xmin = t.xmin), {}").format(
            sql.SQL(OF_RUNS), qualified(table), of_table
        )
        counted = connection.execute(query, {"system": system, "name": name}).fetchone()
        assert counted
        found[table.name] = {"rows": counted[0], "definitions": counted[1]}
    return found
