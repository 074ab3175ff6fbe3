"""Who refers to rows of the target: every foreign key of the catalogue, whatever its columns and names are."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.load.key import Key
from dtx_assets.machinery.postgres.connection import Connection


@dataclass(frozen=True)
class Reference:
    """A foreign key. `table` is quoted where its name needs it; `among`: which of the tables looked at it is of."""

    table: str
    among: int | None
    query: sql.Composed
    """The ids of rows of the target, among `%(ids)s`, that rows beside `%(beside)s` of the table refer to."""

    def referred(self, connection: Connection, ids: pl.Series, beside: pl.Series) -> pl.Series:
        """Which of the ids are referred to; none where this user may not read the table."""
        try:
            with connection.transaction():
                told = {"ids": ids.to_list(), "beside": beside.to_list()}
                found = connection.execute(self.query, told).fetchall()
        except psycopg.errors.InsufficientPrivilege:
            found = []
        return pl.Series("id", [int(row[0]) for row in found], dtype=pl.Int64)


def family_of(connection: Connection, oid: int) -> list[int]:
    """A table and its partitions. What else inherits from it holds rows of its own."""
    rows = connection.execute(
        "WITH RECURSIVE family AS (SELECT %s::oid AS oid UNION SELECT inhrelid FROM family"
        " JOIN pg_class AS parent USING (oid) JOIN pg_inherits ON inhparent = parent.oid AND parent.relkind = 'p')"
        " SELECT oid::bigint FROM family",
        [oid],
    )
    return [int(row[0]) for row in rows]


def rows_alone(kind: str) -> sql.SQL:
    """What stands before the name of a table of this kind, so that rows of tables that inherit from it stay out."""
    return sql.SQL("" if kind == "p" else "ONLY ")


def references_to(
    connection: Connection,
    key: Key,
    target: sql.Composable,
    family: Sequence[int],
    among: Sequence[tuple[Key, Sequence[int]]],
) -> list[Reference]:
    """The foreign keys that name a target or a partition of it, or what it is a partition of; each once.

    `target` is its name as a query is to have it; `among`: key and family of each table of which rows are undone.
    """
    rows = connection.execute(
        "WITH wanted AS (SELECT * FROM pg_constraint WHERE contype = 'f' AND confrelid = ANY(%(family)s::oid[]))"
        " SELECT conrelid::regclass::text, nspname, relname, relkind::text, conrelid::bigint, pairs"
        " FROM wanted JOIN pg_class AS other ON other.oid = conrelid"
        " JOIN pg_namespace ON pg_namespace.oid = other.relnamespace"
        " CROSS JOIN LATERAL (SELECT array_agg(ARRAY[referred.attname, referring.attname, opernsp.nspname, oprname,"
        "   CASE WHEN referred.attcollation <> referring.attcollation THEN collnsp.nspname END, collname]::text[]"
        "   ORDER BY place) AS pairs"
        "  FROM unnest(confkey, conkey, conpfeqop) WITH ORDINALITY AS key (referred, referring, operator, place)"
        "  JOIN pg_attribute AS referred ON (referred.attrelid, referred.attnum) = (confrelid, key.referred)"
        "  JOIN pg_attribute AS referring ON (referring.attrelid, referring.attnum) = (conrelid, key.referring)"
        "  JOIN pg_operator ON pg_operator.oid = key.operator"
        "  JOIN pg_namespace AS opernsp ON opernsp.oid = oprnamespace"
        "  LEFT JOIN pg_collation ON pg_collation.oid = referred.attcollation"
        "  LEFT JOIN pg_namespace AS collnsp ON collnsp.oid = collnamespace) AS columns"
        " WHERE conparentid NOT IN (SELECT oid FROM wanted) ORDER BY 1, wanted.oid",
        {"family": list(family)},
    ).fetchall()
    references = []
    for table, schema, name, kind, oid, pairs in rows:
        own = next((place for place, (_, oids) in enumerate(among) if oid in oids), None)
        same = sql.SQL(" AND ").join(_same(*pair) for pair in pairs)
        # Of the rows that refer, those that are undone themselves do not count.
        beside: sql.Composable = sql.SQL("")
        if own is not None:
            beside = sql.SQL(" AND NOT {}").format(among[own][0].number_is_in("other", sql.SQL("%(beside)s")))
        query = sql.SQL(
            "SELECT DISTINCT {number} FROM {target} AS t{numbers}, {only}{other} AS other"
            " WHERE {numbered} AND {refers} AND {number} = ANY(%(ids)s::bigint[]){beside}"
        ).format(
            number=key.number,
            target=target,
            numbers=key.beside,
            only=rows_alone(kind),
            other=sql.Identifier(schema, name),
            numbered=key.same,
            refers=same,
            beside=beside,
        )
        references.append(Reference(table, own, query))
    return references


def _same(
    referred: str, referring: str, schema: str, operator: str, collation_schema: str | None, collation: str | None
) -> sql.Composable:
    """One column of a key compared as the constraint does it."""
    collate: sql.Composable = sql.SQL("")
    if collation_schema and collation:
        collate = sql.SQL(" COLLATE {}").format(sql.Identifier(collation_schema, collation))
    # The name of an operator cannot be quoted, and consists of signs only.
    by = sql.SQL(f"OPERATOR({{}}.{operator})").format(sql.Identifier(schema))
    return sql.SQL("t.{} {} other.{}{}").format(sql.Identifier(referred), by, sql.Identifier(referring), collate)
