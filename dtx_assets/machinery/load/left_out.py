"""Rows that a table takes without a word and does not keep as they were given: a trigger may leave one out, give it
another key, or leave an update undone; a rule may do so too. The server says nothing of it, so it is made to."""

from collections.abc import Mapping, Sequence

from psycopg import sql

from dtx_assets.machinery.load.key import Key
from dtx_assets.machinery.postgres.connection import Connection

NOT_THERE, NOT_UPDATED = "DTX01", "DTX02"
"""SQLSTATE of what is raised; no code of the server begins so."""
WORDS = {
    NOT_THERE: "{name}: keeps the row out of the table, or gives it another key",
    NOT_UPDATED: "{name}: keeps the row as it was",
}

_SUSPECTS = """
WITH RECURSIVE part AS (
    SELECT %(table)s::oid AS oid UNION SELECT inhrelid FROM part JOIN pg_inherits ON inhparent = part.oid
)
SELECT DISTINCT tgname::text FROM pg_trigger JOIN part ON tgrelid = part.oid
WHERE NOT tgisinternal AND NOT tginitdeferred AND tgenabled <> 'D' AND tgtype::int & 20 <> 0
UNION
SELECT rulename::text FROM pg_rewrite WHERE ev_class = %(table)s::oid AND ev_type IN ('2', '3') AND is_instead
    AND ev_enabled <> 'D'
ORDER BY 1
"""
"""Triggers for INSERT (4) or UPDATE (16): one that comes after may take the row away again."""


def suspects_of(connection: Connection, oid: int) -> list[str]:
    """The triggers and rules of a table and its parts, by name, that may do so."""
    return [name for (name,) in connection.execute(_SUSPECTS, {"table": oid})]


def refuse_missing(
    key: Key, suspects: Sequence[str], rows: sql.Composable, values: Mapping[str, sql.Composable]
) -> sql.Composed:
    """PL/pgSQL that raises NOT_THERE where one of the `rows` is not in the table.

    `rows` is what follows FROM, with a WHERE; `values` has what each column of the key is in them.
    """
    same = sql.SQL(" AND ").join(
        sql.SQL("t.{} = {}").format(sql.Identifier(column), values[column]) for column in key.columns
    )
    return sql.SQL("IF EXISTS (SELECT FROM {} AND NOT EXISTS (SELECT FROM {} AS t WHERE {})) THEN {}; END IF").format(
        rows, key.table, same, _raised(NOT_THERE, key, suspects)
    )


def refuse_unchanged(key: Key, suspects: Sequence[str], rows: sql.Composable) -> sql.Composed:
    """PL/pgSQL that raises NOT_UPDATED where the last statement updated fewer rows than there are in `rows`.

    It needs an integer `v_done`.
    """
    return sql.SQL("GET DIAGNOSTICS v_done = ROW_COUNT; IF v_done < (SELECT count(*) FROM {}) THEN {}; END IF").format(
        rows, _raised(NOT_UPDATED, key, suspects)
    )


def require_all(connection: Connection, key: Key, suspects: Sequence[str], staged: str) -> None:
    """Raises NOT_THERE where a row, whose key a temporary table has, is not in the table."""
    values = {column: sql.Identifier("tried", column) for column in key.columns}
    rows = sql.SQL("{} AS tried WHERE true").format(sql.Identifier("pg_temp", staged))
    _do(connection, refuse_missing(key, suspects, rows, values))


def refuse_update(connection: Connection, key: Key, suspects: Sequence[str]) -> None:
    """Raises NOT_UPDATED."""
    _do(connection, _raised(NOT_UPDATED, key, suspects))


def _do(connection: Connection, body: sql.Composed) -> None:
    block = sql.SQL("BEGIN {}; END").format(body).as_string(connection)
    connection.execute(sql.SQL("DO LANGUAGE plpgsql {}").format(sql.Literal(block)))


def _raised(state: str, key: Key, suspects: Sequence[str]) -> sql.Composed:
    name = " or ".join(suspects)
    return sql.SQL("RAISE EXCEPTION USING ERRCODE = {}, MESSAGE = {}, TABLE = {}, CONSTRAINT = {}").format(
        sql.Literal(state),
        sql.Literal(WORDS[state].format(name=name)),
        sql.Literal(key.name),
        sql.Literal(name),
    )
