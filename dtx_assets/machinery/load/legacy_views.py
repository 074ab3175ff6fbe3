"""The schema `compat` of the target database: views that answer what the legacy tables were asked.

A system whose mapping folder has a folder `compat` gets them: `legacy_id`, of the mapping, and of each file
`<legacy table>.sql` there a view of that name, whose query the file holds. What has no such folder has no such schema.
"""

from collections.abc import Mapping
from hashlib import sha256

import psycopg
from psycopg import sql

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError
from dtx_assets.machinery.load.runs import LOCK_CLASS, prepare_bookkeeping
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.model.types import INTEGERS
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told
from dtx_assets.machinery.system.system import System

SCHEMA, LEGACY_ID = "compat", "legacy_id"
LOCK_KEY = 1
"""Beside that of the bookkeeping, which is 0."""


def legacy_views(system: System) -> dict[str, sql.Composable]:
    """The queries of the views by name, `legacy_id` first; none where the system has no folder `compat`.

    ConfigurationError where a file is called as no legacy table is.
    """
    folder = system.mappings_dir / SCHEMA
    if not folder.is_dir():
        return {}
    paths = sorted(folder.glob("*.sql"))
    for path in paths:
        if path.stem not in system.legacy_tables:
            raise ConfigurationError(
                f"{system.name} has no legacy table {path.stem!r}",
                where=str(path),
                remedy="call the file as tables.yaml calls the table",
            )
    return {LEGACY_ID: _legacy_id(system), **{path.stem: sql.SQL(path.read_text("utf-8")) for path in paths}}


def _legacy_id(system: System) -> sql.Composable:
    """The mapping of the legacy tables; ids have the type that all of them have, else they are text."""
    tables = [name for name in system.legacy_tables if name not in system.sources]
    legacy_types = {_legacy_type(system, name) for name in tables if name in system.migrated_tables}
    target_types = {_target_type(target) for target in system.filled_targets}
    # A CASE, as the server may ask for a cast before it asks which rows are wanted.
    return sql.SQL(
        "SELECT DISTINCT source_table AS legacy_table,"
        " CASE WHEN {ours} THEN source_key::{legacy_type} END AS legacy_id,"
        " target_table, CASE WHEN {ours} THEN target_key::{target_type} END AS target_id"
        " FROM migration.mapping WHERE {ours}"
    ).format(
        ours=sql.SQL("(system = {} AND source_table = ANY ({}::text[]))").format(
            sql.Literal(system.name), sql.Literal(tables)
        ),
        legacy_type=sql.Identifier("pg_catalog", legacy_types.pop() if len(legacy_types) == 1 else "text"),
        target_type=sql.Identifier("pg_catalog", target_types.pop() if len(target_types) == 1 else "text"),
    )


def _legacy_type(system: System, name: str) -> str:
    table = system.legacy_tables[name]
    if len(table.key) != 1:
        return "text"
    kind = table.kind_of(table.key[0])
    return "int8" if kind == "integer" else kind if kind == "uuid" else "text"


def _target_type(target: TargetTable) -> str:
    if len(target.key) != 1:
        return "text"
    if not target.key_is_written:
        return "int8"
    [name] = target.key
    kind = target.column(name).type
    return "int8" if kind in INTEGERS else kind if kind == "uuid" else "text"


def prepare_legacy_views(url: str, system: System) -> None:
    """Make the views that are not there, or not as declared, in one transaction; those that are stay untouched.

    A view on a table or column that the target lacks is left out until it is there. LoadError where there is something
    in the way (`obstacle`).
    """
    queries = legacy_views(system)
    if not queries:
        return
    with refusals_told(), connect(url) as connection:
        prepare_bookkeeping(connection)
        marks = _marks(system, queries)
        if there(connection) == marks:
            return
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_CLASS, LOCK_KEY])
            if found := obstacle(connection, system):
                says, remedy = found
                raise LoadError(says, where=f"schema {SCHEMA} of the target database", remedy=remedy)
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
            _make(connection, system, queries, marks)


def _make(
    connection: Connection, system: System, queries: Mapping[str, sql.Composable], marks: Mapping[str, str]
) -> None:
    found = there(connection)
    stale = [name for name, mark in found.items() if _is_of(system, mark) and marks.get(name) != mark]
    # Others of them ask `legacy_id`.
    for name in sorted(stale, key=lambda name: name == LEGACY_ID):
        try:
            connection.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(SCHEMA, name)))
        except psycopg.errors.DependentObjectsStillExist as error:
            raise LoadError(
                f"the view {name} cannot be made anew: {error.diag.message_detail or error.diag.message_primary}",
                where=f"schema {SCHEMA} of the target database",
                remedy="drop what depends on it, and make that again after the run",
            ) from None
    if schema := next((target.schema for target in system.filled_targets if target.schema), None):
        connection.execute(sql.SQL("SET LOCAL search_path TO {}, public").format(sql.Identifier(schema)))
    for name, query in queries.items():
        if found.get(name) == marks[name]:
            continue
        view = sql.Identifier(SCHEMA, name)
        try:
            with connection.transaction():
                connection.execute(sql.SQL("CREATE VIEW {} AS ").format(view) + query)
                connection.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(marks[name])))
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            continue


def _marks(system: System, queries: Mapping[str, sql.Composable]) -> dict[str, str]:
    """What is written on the views, so that what is ours is known, and whether it is as declared."""
    schemas = sorted({target.schema or "" for target in system.filled_targets})
    common = "\n".join([*schemas, queries[LEGACY_ID].as_string()])
    return {
        name: _mark(system) + sha256("\n".join([common, query.as_string()]).encode()).hexdigest()
        for name, query in queries.items()
    }


def _mark(system: System) -> str:
    return f"Made by dtx_assets for {system.name}: "


def _is_of(system: System, mark: str) -> bool:
    return mark.startswith(_mark(system))


def there(connection: Connection) -> dict[str, str]:
    """What lies in the schema: names, and what is written on them."""
    rows = connection.execute(
        "SELECT relname, coalesce(obj_description(pg_class.oid, 'pg_class'), '') FROM pg_class"
        " JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = %s AND relkind IN"
        " ('r', 'p', 'v', 'm', 'f', 'S') ORDER BY relname",
        [SCHEMA],
    )
    return dict(rows.fetchall())


def missing(connection: Connection, system: System) -> list[str]:
    """The views that are declared and not there as they are declared."""
    queries = legacy_views(system)
    found = there(connection)
    return [name for name, mark in _marks(system, queries).items() if found.get(name) != mark] if queries else []


def obstacle(connection: Connection, system: System) -> tuple[str, str] | None:
    """Why the views cannot be made, and what to do about it: the schema is somebody else's, or a right is missing."""
    [may_create, oid, may_use] = connection.execute(
        "SELECT has_database_privilege(current_database(), 'CREATE'), max(oid::text), bool_and("
        " has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'))"
        " FROM pg_namespace WHERE nspname = %s",
        [SCHEMA],
    ).fetchall()[0]
    if oid is None:
        if may_create:
            return None
        return f"the schema {SCHEMA} is not there, and this user may not create it", "GRANT CREATE ON DATABASE … TO …"
    found = there(connection)
    strangers = [name for name, mark in found.items() if not _is_of(system, mark)]
    declared = legacy_views(system)
    in_the_way = strangers if len(strangers) == len(found) else [name for name in strangers if name in declared]
    if in_the_way:
        says = f"the schema {SCHEMA} has {', '.join(in_the_way[:5])}, not made by {system.name}"
        return says, "rename that schema, or use another database"
    if not may_use:
        remedy = f"GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO …"
        return f"this user may make no views in the schema {SCHEMA}", remedy
    refused = [
        name
        for (name,) in connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = %s::oid AND relname = ANY (%s)"
            " AND NOT pg_has_role(relowner, 'USAGE') ORDER BY 1",
            [oid, [name for name in found if name not in strangers]],
        )
    ]
    if refused:
        says = f"the views {', '.join(refused[:5])} of the schema {SCHEMA} are another user's"
        return says, "use the account that made them, or make this one their owner"
    return None
