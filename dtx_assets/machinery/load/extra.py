"""Fields of documents that nobody declared, beside the documents that are migrated: `migration.extra`."""

import polars as pl
from psycopg import sql

from dtx_assets.machinery.load.runs import RunContext
from dtx_assets.machinery.postgres.connection import connect, refusals_told
from dtx_assets.machinery.postgres.content import copy_in


def keep_extra(run: RunContext, source_table: str, target_table: str, fields: pl.LazyFrame) -> int:
    """Writes what a source table has beside its declared fields; gives how many entries there are.

    `fields`: `source_key`, `extra` (JSON). Of what is not mapped to the target there is no entry; one that is as it was
    stays as it was written.
    """
    names = {"system": sql.Literal(run.system), "table": sql.Literal(source_table), "target": sql.Literal(target_table)}
    mapped = sql.SQL(
        "(SELECT wanted.source_key, wanted.extra FROM pg_temp.wanted_extra AS wanted WHERE EXISTS ("
        "SELECT FROM migration.mapping_entry AS entry JOIN migration.flow ON flow.id = entry.flow_id"
        " WHERE (flow.system, flow.source_table, flow.target_table) = ({system}, {table}, {target})"
        " AND entry.source_key = wanted.source_key))"
    ).format(**names)
    with refusals_told(), connect(run.connection_url) as connection, connection.transaction():
        connection.execute("CREATE TEMPORARY TABLE wanted_extra (source_key text, extra jsonb) ON COMMIT DROP")
        copy_in(connection, sql.Identifier("pg_temp", "wanted_extra"), fields.collect(engine="streaming"))
        connection.execute("ANALYZE pg_temp.wanted_extra")
        connection.execute(
            sql.SQL(
                "DELETE FROM migration.extra AS there WHERE (there.system, there.source_table) = ({system}, {table})"
                " AND NOT EXISTS (SELECT FROM {mapped} AS m WHERE m.source_key = there.source_key)"
            ).format(mapped=mapped, **names)
        )
        connection.execute(
            sql.SQL(
                "INSERT INTO migration.extra AS there (system, run_id, source_table, source_key, extra)"
                " SELECT {system}, {run}, {table}, m.source_key, m.extra FROM {mapped} AS m"
                " ON CONFLICT (system, source_table, source_key) DO UPDATE"
                " SET (run_id, extra) = (excluded.run_id, excluded.extra) WHERE there.extra <> excluded.extra"
            ).format(mapped=mapped, run=sql.Literal(run.run_id), **names)
        )
        [count] = connection.execute(
            "SELECT count(*) FROM migration.extra WHERE (system, source_table) = (%s, %s)", [run.system, source_table]
        ).fetchone() or (0,)
    return int(count)
