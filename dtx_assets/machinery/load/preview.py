"""The first rows that a load wrote, as they are in the target, for people to look at."""

import polars as pl
from psycopg import sql

from dtx_assets.machinery.load.key import Key
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.postgres.content import copy_out
from dtx_assets.machinery.postgres.ddl import live_target


def first_rows(connection_url: str, system: str, target: TargetTable, columns: list[str], count: int) -> pl.DataFrame:
    """Up to `count` rows of a target that source rows of this system led to: its key and `columns`, all as text."""
    with connect(connection_url) as connection:
        live = live_target(connection, target)
        names = [*target.key, *(name for name in columns if name not in target.key)]
        if live is None:
            return pl.DataFrame(schema=dict.fromkeys(names, pl.String()))
        key = Key.of(target, live)
        query = sql.SQL(
            "SELECT {values} FROM {table} AS t{beside} WHERE {same} AND {number} IN ("
            " SELECT entry.lowest_id FROM migration.mapping_entry AS entry"
            " JOIN migration.flow ON flow.id = entry.flow_id"
            " WHERE (flow.system, flow.target_table) = ({system}, {name}) LIMIT {count}) ORDER BY {number}"
        ).format(
            values=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier("t", name)) for name in names),
            table=key.table,
            beside=key.beside,
            same=key.same,
            number=key.number,
            system=sql.Literal(system),
            name=sql.Literal(target.name),
            count=sql.Literal(count),
        )
        return copy_out(connection, query, pl.Schema(dict.fromkeys(names, pl.String())))
