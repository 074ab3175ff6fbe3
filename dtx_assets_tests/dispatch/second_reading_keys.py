"""What dispatch.md 1.2 says of the generic foreign keys of any Django database, read a second time.

As a command it prints what `dtx diagnose dispatch --generic-keys URL --json` should:

    python -m dtx_assets_tests.dispatch.second_reading_keys URL [schema]
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]
PARTNERS = (
    ("content_type_id", ("object_id", "object_pk", "object_uuid")),
    ("_type_id", ("_id", "_pk", "_uuid")),
)
OTHER_TABLES = {
    "contenttypes.contenttype": "django_content_type",
    "admin.logentry": "django_admin_log",
    "sessions.session": "django_session",
    "sites.site": "django_site",
}
KINDS = {"smallint", "integer", "bigint", "text", "character varying", "character", "uuid"}
"""The types of partners that count."""

# (table, column) → referred table, of foreign keys of one column.
SINGLE_KEYS = """
    SELECT t.relname, a.attname, f.relname, c.contype
    FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
    LEFT JOIN pg_class f ON f.oid = c.confrelid
    WHERE t.relnamespace = %s::regnamespace AND c.contype IN ('f', 'p') AND cardinality(c.conkey) = 1
"""


def diagnosis(url: str, schema: str = "public") -> dict[str, Any]:
    """The pairs, the type columns without partner, and the models without a table."""
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
        referring, primary = _keys(connection, schema)
        columns = _columns(connection, schema)
        models = _models(connection)
        told: dict[str, Any] = {"pairs": [], "unpaired": []}
        for table, column in sorted(place for place, other in referring.items() if other == "django_content_type"):
            barred = {name for of, name in referring if of == table} | {primary.get(table)}
            partner = partner_of(column, [name for name in columns[table] if name not in barred], columns[table])
            if partner is None:
                told["unpaired"].append({"table": table, "type_column": column, "rows": _count(connection, table)})
            else:
                found = _pair(connection, table, column, partner, models, columns, primary)
                told["pairs"].append({**found, "id_type": columns[table][partner]})
        told["models_without_table"] = sorted({model for model in models.values() if table_of(model) not in columns})
    return told


def partner_of(column: str, names: Sequence[str], kinds: dict[str, str]) -> str | None:
    """The first of the names that 1.2 lists which is there and may be one."""
    for ending, partners in PARTNERS:
        if column.endswith(ending):
            prefix = column.removesuffix(ending)
            listed = [f"{prefix}{partner}" for partner in partners]
            return next((name for name in listed if name in names and kinds[name] in KINDS), None)
    return None


def table_of(model: str) -> str:
    return OTHER_TABLES.get(model, model.replace(".", "_", 1))


def _keys(connection: Connection, schema: str) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """(table, column) → the table that a foreign key refers to; table → its primary key of one column."""
    rows = connection.execute(SINGLE_KEYS, [schema]).fetchall()
    referring = {(table, column): other for table, column, other, kind in rows if kind == "f"}
    return referring, {table: column for table, column, _, kind in rows if kind == "p"}


def _columns(connection: Connection, schema: str) -> dict[str, dict[str, str]]:
    columns: dict[str, dict[str, str]] = {}
    listed = "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = %s"
    for table, column, kind in connection.execute(listed, [schema]):
        columns.setdefault(table, {})[column] = kind
    return columns


def _models(connection: Connection) -> dict[str, str]:
    rows = connection.execute("SELECT id::text, app_label, model FROM django_content_type")
    return {number: f"{app}.{model}" for number, app, model in rows}


def _count(connection: Connection, table: str) -> int:
    (number,) = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone() or (0,)
    return number


def _texts(connection: Connection, table: str, *names: str) -> list[tuple[str | None, ...]]:
    listed = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
    return connection.execute(sql.SQL("SELECT {} FROM {}").format(listed, sql.Identifier(table))).fetchall()


def _pair(
    connection: Connection,
    table: str,
    type_column: str,
    id_column: str,
    models: dict[str, str],
    columns: dict[str, dict[str, str]],
    primary: dict[str, str],
) -> dict[str, Any]:
    rows = _texts(connection, table, type_column, id_column)
    both = [(kind, identity) for kind, identity in rows if kind is not None and identity is not None]
    by_model: dict[str, list[str]] = {}
    unknown: Counter[str] = Counter()
    for kind, identity in both:
        if kind in models:
            by_model.setdefault(models[kind], []).append(identity)
        else:
            unknown[kind] += 1
    told: dict[str, Any] = {}
    for model, identities in by_model.items():
        other = table_of(model) if table_of(model) in columns else None
        orphans = None
        if other is not None and other in primary:
            there = {identity for (identity,) in _texts(connection, other, primary[other])}
            orphans = sum(identity not in there for identity in identities)
        told[model] = {"rows": len(identities), "table": other, "orphans": orphans}
    return {
        "table": table,
        "type_column": type_column,
        "id_column": id_column,
        "rows": len(rows),
        "both_null": sum(kind is None and identity is None for kind, identity in rows),
        "type_only": sum(kind is not None and identity is None for kind, identity in rows),
        "id_only": sum(kind is None and identity is not None for kind, identity in rows),
        "models": told,
        "unknown_types": dict(unknown),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(diagnosis(*sys.argv[1:]), indent=2, sort_keys=True) + "\n")
