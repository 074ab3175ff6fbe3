"""Columns of the target that a load does not write: what the database fills them with, and if they hold it."""

import json
from collections.abc import Collection

from psycopg import sql

from dtx_assets.machinery.postgres.connection import Connection


def filled_by_database(connection: Connection, oid: int, written: Collection[str]) -> str:
    """The columns that are not `written`, as JSON: `[value]` as the database fills them now, `[]` where nobody knows.

    A default that gives another value each time is not called: it would move a sequence. Columns in which nobody can
    write, generated ones, are left out.
    """
    columns = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod), pg_get_expr(expression, %(oid)s::oid),"
        " attidentity <> '' OR EXISTS (SELECT 1 FROM pg_proc WHERE provolatile = 'v' AND oid IN ("
        "  SELECT called[1]::oid FROM regexp_matches(expression::text, ':(?:op)?funcid (\\d+)', 'g') AS called))"
        " FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid"
        " LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)"
        " CROSS JOIN LATERAL (SELECT coalesce(adbin, typdefaultbin)) AS given (expression)"
        " WHERE attrelid = %(oid)s::oid AND attnum > 0 AND NOT attisdropped"
        " AND attgenerated = '' AND attidentity <> 'a' AND NOT attname = ANY(%(written)s)",
        {"oid": oid, "written": list(written)},
    ).fetchall()
    if not columns:
        return "{}"
    values = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(_filled(str(kind), expression, changing), sql.Identifier(name))
        for name, kind, expression, changing in columns
    )
    query = sql.SQL("SELECT to_jsonb(filled)::text FROM (SELECT {}) AS filled").format(values)
    return str(connection.execute(query).fetchall()[0][0])


def _filled(kind: str, expression: str | None, changing: bool) -> sql.Composable:
    if changing:
        return sql.SQL("'[]'::jsonb")
    # Both are the catalogue's own words for an expression and a type.
    return sql.SQL(f"jsonb_build_array(({expression or 'NULL'})::{kind})")


def maybe_written_since(
    connection: Connection, oid: int, written: Collection[str], filled: str | None
) -> sql.Composable:
    """SQL that names the columns of a row `t` in which somebody may have written since: a text, empty for none.

    `filled`: what they were filled with; None where that was not noted, then NULL and the default of today are taken
    for it. A column that was added since may hold NULL, its default, or what the database gave to all rows then.
    """
    now = filled_by_database(connection, oid, written)
    added = "{}" if filled is None else _values_of_added_columns(connection, oid)
    noted = json.loads(filled or "{}")
    names = []
    for name in json.loads(now):
        known = [filled or "{}"] if name in noted else [json.dumps({name: [None]}), now, added]
        names.append(
            sql.SQL("CASE WHEN jsonb_build_array({}) IN ({}) THEN NULL ELSE {}::text END").format(
                sql.Identifier("t", name),
                sql.SQL(", ").join(
                    sql.SQL("coalesce({}::jsonb -> {}, '[]')").format(sql.Literal(values), sql.Literal(name))
                    for values in known
                ),
                sql.Literal(name),
            )
        )
    return sql.SQL("array_to_string(ARRAY[{}]::text[], ', ')").format(sql.SQL(", ").join(names))


def _values_of_added_columns(connection: Connection, oid: int) -> str:
    """What ALTER TABLE gave to the rows that were there; the default may be gone since, as Django does it."""
    rows = connection.execute(
        "SELECT coalesce(jsonb_object_agg(attname, array_to_json(attmissingval)::jsonb), '{}')::text FROM pg_attribute"
        " WHERE attrelid = %s::oid AND atthasmissing",
        [oid],
    )
    return str(rows.fetchall()[0][0])
