"""Changes to rows of the target that are made only if the database shows that they change nothing else.

The change is tried with all constraints and triggers as they are. Where it is refused, or reaches rows beside those
that were meant, it is taken back and tried with fewer rows, until the rows that are in the way are alone.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import psycopg
from psycopg import sql

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.postgres.connection import Connection, words_of

REFERRED_TO = "rows of {} refer to it"
REACHES = "undoing it would change rows of {} too"
KEPT = "the target keeps it as it is, by a rule or a trigger"
REFUSED = "the target refuses it: {}"
Row = TypeVar("Row", bound=Hashable)
MOST_TRIES = 256
"""For one batch. What is not proved by then is left as well."""
FIRST_USER_OID = 16384
REFUSALS = frozenset({"22", "23", "27", "44", "P0"})
"""Classes of errors by which constraints and triggers refuse a change; codes of the target's own are in none."""


class NotAlone(Exception):
    """A change did not do what was meant, or more than that; says what."""


def require_counts(connection: Connection) -> None:
    """LoadError where the server does not count what a transaction changes: then nothing is proved."""
    if connection.execute("SHOW track_counts").fetchone() != ("on",):
        raise LoadError(
            "the server does not count the rows that a transaction changes, so nobody knows what an undo reaches",
            where="track_counts of the target database",
            remedy="let an administrator say ALTER ROLE … SET track_counts = on for this user",
        )


def proved(
    connection: Connection, family: Sequence[int], ids: Sequence[Row], change: Callable[[list[Row]], int]
) -> tuple[list[Row], dict[Row, str]]:
    """Which rows were changed, and why the others were not.

    `change` changes the rows with some ids and says how many it changed; it raises NotAlone where that is too few.
    `family`: the tables that it may change, with their partitions.
    """
    done: list[Row] = []
    waiting = list(ids)
    tries, cause = MOST_TRIES, ""
    while True:
        refused: dict[Row, str] = {}
        before = len(done)
        pending = [waiting] if waiting else []
        while pending:
            some = pending.pop()
            if not tries:
                refused |= dict.fromkeys(some, cause)
                continue
            tries -= 1
            try:
                _attempt(connection, family, some, change)
            except NotAlone as reason:
                cause = str(reason)
            except psycopg.Error as error:
                if (error.sqlstate or "")[:2] not in REFUSALS and type(error) is not psycopg.DatabaseError:
                    raise
                cause = _refusal(connection, family, error)
            else:
                done += some
                continue
            if len(some) == 1:
                refused[some[0]] = cause
            else:
                half = len(some) // 2
                pending += [some[half:], some[:half]]
        # Rows that referred to these may be gone now.
        if not refused or not tries or len(done) == before:
            return done, refused
        waiting = list(refused)


def _attempt(connection: Connection, family: Sequence[int], ids: list[Row], change: Callable[[list[Row]], int]) -> None:
    connection.execute("SET CONSTRAINTS ALL DEFERRED")
    before = _touched(connection)
    with connection.transaction():
        changed = change(ids)
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        touched = _touched(connection)
        touched.subtract(before)
        own = sum(touched.pop(oid, 0) for oid in family)
        others = [oid for oid, rows in touched.items() if rows]
        if others:
            raise NotAlone(REACHES.format(", ".join(_names(connection, others))))
        if own != changed:
            raise NotAlone(REACHES.format(", ".join(_names(connection, family[:1]))))


def _touched(connection: Connection) -> Counter[int]:
    """How many rows of which table this connection has updated or deleted, also by cascades and triggers."""
    rows = connection.execute(
        "SELECT oid::bigint, changed FROM pg_class CROSS JOIN LATERAL"
        " (SELECT pg_stat_get_xact_tuples_updated(oid) + pg_stat_get_xact_tuples_deleted(oid)) AS counted (changed)"
        " WHERE relkind = 'r' AND relpersistence <> 't' AND oid >= %s AND changed > 0",
        [FIRST_USER_OID],
    )
    return Counter({int(oid): int(changed) for oid, changed in rows})


def _names(connection: Connection, oids: Sequence[int]) -> list[str]:
    rows = connection.execute("SELECT unnest(%s::oid[])::regclass::text ORDER BY 1", [list(oids)])
    return [str(row[0]) for row in rows]


def _refusal(connection: Connection, family: Sequence[int], error: psycopg.Error) -> str:
    diag = error.diag
    if isinstance(error, psycopg.errors.ForeignKeyViolation | psycopg.errors.RestrictViolation) and diag.table_name:
        name = sql.Identifier(*filter(None, (diag.schema_name, diag.table_name))).as_string(connection)
        found = connection.execute(
            "SELECT oid::bigint, oid::regclass::text FROM pg_class WHERE oid = to_regclass(%s)", [name]
        )
        for oid, table in found:
            if oid not in family:
                return REFERRED_TO.format(table)
    return REFUSED.format(words_of(error))
