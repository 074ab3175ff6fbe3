"""The first rows that a load wrote, as they are in the target, for people to look at."""

import polars as pl
from psycopg import sql

from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.postgres.content import copy_out
from dtx_assets.machinery.postgres.ddl import qualified


def first_rows(connection_url: str, system: str, target: TargetTable, columns: list[str], count: int) -> pl.DataFrame:
    """Up to `count` rows of a target that source rows of this system led to: `id` and `columns`, all as text."""
    names = ["id", *(name for name in columns if name != "id")]
    query = sql.SQL(
        "SELECT {} FROM {} AS t WHERE id IN (SELECT entry.lowest_id FROM migration.mapping_entry AS entry"
        " JOIN migration.flow ON flow.id = entry.flow_id"
        " WHERE (flow.system, flow.target_table) = ({}, {}) LIMIT {}) ORDER BY t.id"
    ).format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier("t", name)) for name in names),
        qualified(target),
        sql.Literal(system),
        sql.Literal(target.name),
        sql.Literal(count),
    )
    with connect(connection_url) as connection:
        return copy_out(connection, query, pl.Schema(dict.fromkeys(names, pl.String())))
