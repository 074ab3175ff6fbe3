"""Target tables as SQL, rendered from their declaration, and the live target compared with it.

Tables are created in the embedded or a rehearsal database only; in production they belong to others and are just read.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.model.target import OTHER_AREAS, TargetColumn, TargetTable
from dtx_assets.machinery.model.types import (
    EXTENSIONS,
    FLOATS,
    INTEGERS,
    MICROSECONDS,
    TEXTS,
    ColumnType,
    column_type,
    same_name,
)
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told


def qualified(table: TargetTable | str) -> sql.Identifier:
    """A table as SQL names it, quoted. A text is what a column `references`: a bare name or `schema.table`."""
    if isinstance(table, TargetTable):
        return sql.Identifier(*filter(None, (table.schema, table.name)))
    return sql.Identifier(*table.split(".", 1))


def target_ddl(tables: Sequence[TargetTable]) -> str:
    """SQL that creates the tables with their schemas and types, those that others refer to first; what is there stays.

    StructureError where nothing tells the rows of a table apart, or an enum is declared twice with other labels.
    """
    tables = _whole_tables(tables)
    names = {name: table for table in tables for name in table.names}
    ordered, late = _in_order_of_reference(tables)
    statements = [f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)};" for schema in _schemas(tables)]
    statements += [f"CREATE EXTENSION IF NOT EXISTS {_quoted(extension)};" for extension in _extensions(tables)]
    statements += [
        _unless_there(f"CREATE TYPE {name} AS ENUM ({', '.join(map(_literal, labels))})")
        for name, labels in _enums(tables).items()
    ]
    for table in ordered:
        statements += _table_statements(table, names, late)
    statements += [
        _unless_there(
            f"ALTER TABLE {_name(table)} ADD CONSTRAINT {_quoted(f'{table.name}_{column.name}_fkey')}"
            f" FOREIGN KEY ({_quoted(column.name)}) {_references(names[column.references or ''])}"
        )
        for table, column in late
    ]
    return "\n\n".join(statements)


def create_target(connection: Connection, tables: Sequence[TargetTable]) -> None:
    """Create the target tables in an embedded or rehearsal database; StructureError where a type is not there."""
    try:
        with connection.transaction():
            connection.execute(target_ddl(tables).encode())
    except (psycopg.errors.UndefinedObject, psycopg.errors.FeatureNotSupported) as error:
        raise StructureError(
            f"the tables cannot be created: {error.diag.message_primary}",
            where="the target database",
            remedy="make the type or install the extension there; of an enum, name its labels in `allowed`",
        ) from None


def run_sql_file(connection: Connection, path: Path) -> None:
    """Run a file of SQL in an embedded or rehearsal database; StructureError names the line that it refuses."""
    text = path.read_text("utf-8")
    try:
        with connection.transaction():
            connection.execute(text.encode())
    except psycopg.Error as error:
        place = int(error.diag.statement_position or 0)
        raise StructureError(
            f"the target's schema cannot be made: {error.diag.message_primary or error}",
            where=f"{path}:{text.count(chr(10), 0, place) + 1}" if place else str(path),
            remedy="correct the statement there, or name a database that has the schema",
        ) from None


def _whole_tables(tables: Sequence[TargetTable]) -> list[TargetTable]:
    """One declaration a table, with the columns of all models that fill it."""
    whole: dict[tuple[str | None, str], TargetTable] = {}
    for table in tables:
        place = (table.schema, table.name)
        first = whole.get(place, replace(table, columns=()))
        known = {column.name for column in first.columns}
        added = tuple(column for column in table.columns if column.name not in known)
        key = first.natural_key or table.natural_key
        whole[place] = replace(first, columns=(*first.columns, *added), natural_key=key)
    return list(whole.values())


def _schemas(tables: Sequence[TargetTable]) -> list[str]:
    of_tables = [table.schema for table in tables if table.schema]
    of_enums = [name.rpartition(".")[0] for name in _enums(tables)]
    return list(dict.fromkeys([*of_tables, *(schema.strip('"') for schema in of_enums if schema)]))


def _extensions(tables: Sequence[TargetTable]) -> list[str]:
    kinds = [column.kind.name.rpartition(".")[2] for table in tables for column in table.columns]
    return list(dict.fromkeys(EXTENSIONS[kind] for kind in kinds if kind in EXTENSIONS))


def _enums(tables: Sequence[TargetTable]) -> dict[str, tuple[str, ...]]:
    """The labels of the own types of columns, by the names of the types."""
    enums: dict[str, tuple[str, ...]] = {}
    for table in tables:
        for column in table.columns:
            if column.makes_enum and enums.setdefault(column.kind.name, column.allowed) != column.allowed:
                raise StructureError(
                    f"the enum {column.type} has other labels elsewhere: {', '.join(enums[column.kind.name])}",
                    where=f"{table.name}.{column.name}",
                    remedy="declare the same `allowed` in the same order for all columns of the type",
                )
    return enums


def _table_statements(
    table: TargetTable, names: Mapping[str, TargetTable], late: Collection[tuple[TargetTable, TargetColumn]]
) -> list[str]:
    lines = []
    if not table.key:
        raise StructureError(NOTHING_TELLS_APART, where=f"table {table.name}", remedy=KEY_REMEDY)
    filled = {column.name for column in table.columns}
    if table.key_is_written and (unfilled := [name for name in table.key if name not in filled]):
        raise StructureError(
            f"nothing fills {', '.join(unfilled)}, which is of its key",
            where=f"table {table.name}",
            remedy="map it; or, where the target gives it, take `key_is_written` out of targets.yaml",
        )
    if not table.key_is_written:
        [key] = table.key
        lines.append(f"{key if key == 'id' else _quoted(key)} bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
    lines += [_column_line(column, names if (table, column) not in late else {}) for column in table.columns]
    if table.key_is_written:
        lines.append(f"PRIMARY KEY ({', '.join(map(_quoted, table.key))})")
    if table.natural_key and not (table.key_is_written and set(table.natural_key) == set(table.key)):
        nulls = " NULLS NOT DISTINCT" if table.nulls_equal else ""
        lines.append(f"UNIQUE{nulls} ({', '.join(map(_quoted, table.natural_key))})")
    body = ",\n".join(f"    {line}" for line in lines)
    mark = f"-- {OF_OTHERS}\n" if table.area == OTHER_AREAS else ""
    statements = [f"{mark}CREATE TABLE IF NOT EXISTS {_name(table)} (\n{body}\n);"]
    # Django makes an index for every foreign key; a unique key that begins with it does as well.
    statements += [
        f"CREATE INDEX IF NOT EXISTS {_quoted(f'{table.name}_{column.name}')}"
        f" ON {_name(table)} ({_quoted(column.name)});"
        for column in table.columns
        if column.references in names and column.name not in table.natural_key[:1]
    ]
    return statements


def _column_line(column: TargetColumn, names: Mapping[str, TargetTable]) -> str:
    kind = f"varchar({column.max_length})" if column.type == "text" and column.max_length else column.type
    parts = [_quoted(column.name), kind]
    # A column that only one option of a decision writes is not there to be filled under the others.
    if column.identity:
        parts.append("GENERATED BY DEFAULT AS IDENTITY")
    elif not column.nullable and not column.needed_when:
        parts.append("NOT NULL")
    if column.unique:
        parts.append("UNIQUE")
    if referred := names.get(column.references or ""):
        parts.append(_references(referred))
    return " ".join(parts)


def _references(table: TargetTable) -> str:
    return f"REFERENCES {_name(table)} DEFERRABLE INITIALLY DEFERRED"


def _unless_there(statement: str) -> str:
    """For what knows no IF NOT EXISTS."""
    body = f"BEGIN {statement}; EXCEPTION WHEN duplicate_object THEN NULL; END"
    return f"DO LANGUAGE plpgsql {_literal(body)};"


def _name(table: TargetTable) -> str:
    return qualified(table).as_string()


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _literal(text: str) -> str:
    return sql.Literal(text).as_string()


OF_OTHERS = "A table of others: a rehearsal database alone makes it from here."
NOTHING_TELLS_APART = "nothing tells its rows apart, so that none of them could be found again, verified or undone"
KEY_REMEDY = "name its `key`; where it has none, give it an identity column"


def _in_order_of_reference(
    tables: Sequence[TargetTable],
) -> tuple[list[TargetTable], list[tuple[TargetTable, TargetColumn]]]:
    """The tables, referred ones first; and of those that refer to each other in a circle, the columns that close it."""
    waiting = list(tables)
    ordered: list[TargetTable] = []
    late: list[tuple[TargetTable, TargetColumn]] = []
    while waiting:
        names = {name: table for table in waiting for name in table.names}
        missing = {
            position: [c for c in table.columns if names.get(c.references or "", table) != table]
            for position, table in enumerate(waiting)
        }
        free = [position for position, columns in missing.items() if not columns] or [0]
        for position in free:
            late += [(waiting[position], column) for column in missing[position]]
            ordered.append(waiting[position])
        waiting = [table for position, table in enumerate(waiting) if position not in free]
    return ordered, late


# --- the live target --------------------------------------------------------------------------------------------------


CONSTANT = re.compile(r"'((?:[^']|'')*)'(?:::.+)?|\(?(-?\d+(?:\.\d+)?|true|false)\)?(?:::.+)?")
"""A default that is a constant, as PostgreSQL prints it; a text may stand for a value of any type."""
NOW = re.compile(r"(?:CURRENT_TIMESTAMP|LOCALTIMESTAMP)(?:\(\d\))?|(?:now|transaction_timestamp)\(\)")


@dataclass(frozen=True)
class LiveColumn:
    type: str
    """As PostgreSQL names it, without its length; of a domain, the type under it."""
    nullable: bool
    max_length: int | None
    has_default: bool
    precision: int | None = None
    """Of a time, how many digits of the second it keeps, where it says so."""
    whole_type: str = ""
    """The same with its length, precision or scale, where it has one."""
    labels: tuple[str, ...] = ()
    """Of an enum, in their order."""
    generated: bool = False
    """Whether the target computes it from other columns, so that nobody can write it."""
    domains: tuple[str, ...] = ()
    """The domains that it is of, the one that the column names first."""
    default: str = ""
    """What the target puts there where nothing is written, in SQL."""
    references: str | None = None
    """The table that a foreign key of this column alone leads to; with its schema where no search path finds it."""

    def __str__(self) -> str:
        """What values it holds, as SQL has it."""
        size = self.max_length if self.precision is None else self.precision
        kind = self.whole_type or f"{self.type}{'' if size is None else f'({size})'}"
        labels = f" ({', '.join(self.labels)})" if self.labels else ""
        return f"{kind}{labels}{'' if self.nullable else ' NOT NULL'}"

    @property
    def spelled(self) -> str:
        """The type with its length, as SQL casts to it."""
        return self.whole_type or self.type

    @property
    def kind(self) -> ColumnType:
        return column_type(self.spelled)

    def is_domain(self, declared: ColumnType) -> bool:
        """Whether it is of a domain that is declared by its name."""
        return not declared.is_array and any(same_name(domain, declared.name) for domain in self.domains)

    @property
    def constant(self) -> str | None:
        """The text of a default that is a constant."""
        found = CONSTANT.fullmatch(self.default)
        if found is None:
            return None
        text, number = found.groups()
        return number if text is None else text.replace("''", "'")

    def as_declared(self, declared: TargetColumn) -> TargetColumn:
        """A column as it was declared, with what is live in place of what was thought of it."""
        return replace(
            declared,
            type=self.spelled,
            nullable=self.nullable,
            allowed=self.labels,
            references=self.references,
            default=self.constant,
            filled_with_now=bool(NOW.fullmatch(self.default)),
        )

    @property
    def plain_type(self) -> str:
        """The type without a length, as SQL casts to it: what it takes is not cut off."""
        name, array = (self.type[:-2], "[]") if self.type.endswith("[]") else (self.type, "")
        return {"character": "bpchar", "bit": '"bit"'}.get(name, name) + array


@dataclass(frozen=True)
class LiveTarget:
    """A table as the live catalogue shows it. `unique_keys`: column names and whether NULLs count as equal.

    `kind`: `r`, or `p` of one that has partitions.
    """

    oid: int
    kind: str
    columns: Mapping[str, LiveColumn]
    unique_keys: frozenset[tuple[frozenset[str], bool]]
    id_sequence: str | None
    connected: Callable[[], Connection] | None = field(default=None, compare=False, repr=False)
    """Opens a connection to the database that it is in, where one may be needed before the load."""


@dataclass(frozen=True)
class Difference:
    """Where the live target is not what was declared. `fatal`: nothing can be loaded."""

    kind: str
    table: str
    column: str | None
    detail: str
    fatal: bool

    def __str__(self) -> str:
        place = f"{self.table}.{self.column}" if self.column else self.table
        return f"{place}: {self.detail}"


_COLUMNS = """
WITH RECURSIVE found AS (
    SELECT attnum, attname, atttypid AS kind, atttypmod AS modifier, attnotnull AS required,
        atthasdef OR attidentity <> '' AS filled, attgenerated <> '' AS generated, '{}'::text[] AS domains
    FROM pg_attribute WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attnum, attname, typbasetype, CASE WHEN modifier < 0 THEN typtypmod ELSE modifier END,
        required OR typnotnull, filled OR typdefault IS NOT NULL, generated,
        domains || format_type(kind, NULL)
    FROM found JOIN pg_type ON pg_type.oid = kind WHERE typtype = 'd'
)
SELECT attname, format_type(kind, NULL), required,
    CASE WHEN kind IN ('varchar'::regtype, 'bpchar'::regtype) AND modifier > 4 THEN modifier - 4 END, filled,
    CASE WHEN kind IN ('timestamptz'::regtype, 'timestamp'::regtype, 'time'::regtype, 'timetz'::regtype)
        AND modifier >= 0 THEN modifier END,
    format_type(kind, modifier),
    ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = kind ORDER BY enumsortorder), generated, domains,
    coalesce((SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = %s::oid AND adnum = attnum), ''),
    (SELECT CASE WHEN pg_table_is_visible(other.oid) THEN other.relname::text
            ELSE nspname::text || '.' || other.relname::text END
        FROM pg_constraint JOIN pg_class AS other ON other.oid = confrelid JOIN pg_namespace ON relnamespace =
            pg_namespace.oid
        WHERE conrelid = %s::oid AND contype = 'f' AND conkey = ARRAY[attnum] ORDER BY pg_constraint.oid LIMIT 1)
FROM found JOIN pg_type ON pg_type.oid = kind WHERE typtype <> 'd' ORDER BY attnum
"""


def live_target(connection: Connection, table: TargetTable | str) -> LiveTarget | None:
    """What the catalogue says about a table, given as `qualified` takes it; None where there is none."""
    name = qualified(table).as_string(connection)
    found = connection.execute(
        "SELECT oid::bigint, relkind::text FROM pg_class WHERE oid = to_regclass(%s) AND relkind IN ('r', 'p')",
        [name],
    ).fetchone()
    if found is None:
        return None
    oid = int(found[0])
    columns = {
        str(name): LiveColumn(
            str(kind), not required, length, filled, precision, whole, tuple(labels), generated, tuple(domains), *rest
        )
        for name, kind, required, length, filled, precision, whole, labels, generated, domains, *rest in (
            connection.execute(_COLUMNS, [oid, oid, oid])
        )
    }
    # NULLS NOT DISTINCT came with PostgreSQL 15; older servers have no such column in their catalogue.
    nulls_equal = "index.indnullsnotdistinct" if connection.info.server_version >= 150000 else "false"
    unique_keys = frozenset(
        (frozenset(names), bool(equal))
        for names, equal in connection.execute(
            f"SELECT array_agg(attribute.attname::text), {nulls_equal} FROM pg_index AS index"  # noqa: S608
            " JOIN pg_attribute AS attribute ON attribute.attrelid = index.indrelid"
            " AND attribute.attnum = ANY (index.indkey[0:index.indnkeyatts - 1])"
            " WHERE index.indrelid = %s::oid AND index.indisunique AND index.indisvalid"
            " AND index.indpred IS NULL AND index.indexprs IS NULL GROUP BY index.indexrelid, 2",
            [oid],
        )
    )
    sequence = None
    key = table.key if isinstance(table, TargetTable) else ("id",)
    if len(key) == 1 and key[0] in columns:
        [sequence] = connection.execute("SELECT pg_get_serial_sequence(%s, %s)", [name, key[0]]).fetchone() or [None]
    return LiveTarget(oid, str(found[1]), columns, unique_keys, str(sequence) if sequence else None)


def compare_target(
    live: LiveTarget | None, declared: TargetTable, decisions: Mapping[str, str] | None = None
) -> list[Difference]:
    """Every difference between a live table and what is needed of it under the chosen options."""
    name = declared.name
    if live is None:
        return [Difference("missing table", name, None, "the table is missing", True)]
    needed = declared.columns if decisions is None else declared.columns_under(decisions)
    differences = []
    missing = [column for column in declared.key if column not in live.columns]
    differences += [Difference("missing column", name, column, "the column is missing", True) for column in missing]
    if not missing:
        differences += _identity_differences(live, declared)
    for column in needed:
        found = live.columns.get(column.name)
        if found is None:
            differences.append(Difference("missing column", name, column.name, "the column is missing", True))
        elif not can_hold(found, column.kind):
            detail = f"its type is {found.spelled}, and {column.type} is needed"
            differences.append(Difference("retyped column", name, column.name, detail, True))
        elif found.generated:
            detail = "the target computes it, so nobody can write it: leave it out of the declaration"
            differences.append(Difference("generated column", name, column.name, detail, declared.writes != "nothing"))
        else:
            differences += _narrower(name, column, found)
    if declared.writes == "insert":
        known = {*declared.key, *(column.name for column in needed)}
        differences += [
            Difference(
                "new required column", name, column, "it is NOT NULL without a default, and nothing fills it", True
            )
            for column, found in live.columns.items()
            if column not in known and not found.nullable and not found.has_default
        ]
        key = frozenset(declared.natural_key)
        if key and not any(columns == key and equal >= declared.nulls_equal for columns, equal in live.unique_keys):
            nulls = ", NULLs equal" if declared.nulls_equal else ""
            detail = f"no unique index on ({', '.join(declared.natural_key)}){nulls}"
            differences.append(Difference("missing unique index", name, None, detail, True))
    return differences


def _identity_differences(live: LiveTarget, declared: TargetTable) -> list[Difference]:
    """What is in the way of telling the rows of a table apart, and of making keys."""
    name, key = declared.name, declared.key
    if declared.writes == "nothing":
        return []
    if not key:
        return [Difference("no key", name, None, f"{NOTHING_TELLS_APART}: {KEY_REMEDY}", True)]
    named = ", ".join(key)
    differences = []
    if declared.key_is_written:
        if not any(columns <= set(key) for columns, _ in live.unique_keys):
            detail = f"no unique index on its key ({named})"
            differences.append(Difference("missing unique index", name, None, detail, True))
        unmade = [column for column in key if column not in {column.name for column in declared.columns}]
        detail = "it is of a key that is written, and no column of that name is declared"
        differences += [Difference("no identity", name, column, detail, True) for column in unmade]
    elif len(key) > 1:
        detail = f"a key of several columns ({named}) has to be written: key_is_written"
        differences.append(Difference("no identity", name, None, detail, True))
    elif declared.writes == "insert" and live.id_sequence is None and not live.columns[key[0]].has_default:
        differences.append(Difference("no identity", name, key[0], "no sequence gives new ids", True))
    return differences


def can_hold(found: LiveColumn, declared: ColumnType) -> bool:
    """Whether a live type is the declared one, or near to it; values that do not fit are found row by row."""
    live = found.kind
    if found.is_domain(declared):
        return True
    if live.is_array != declared.is_array:
        return False
    near = (INTEGERS, TEXTS, FLOATS)
    return same_name(live.name, declared.name) or any(live.name in kinds and declared.name in kinds for kinds in near)


def _narrower(name: str, column: TargetColumn, found: LiveColumn) -> list[Difference]:
    """What still fits most rows: the rows that do not are found one by one."""
    differences = []
    declared, live = column.kind, found.kind
    longest = column.longest
    if found.max_length is not None and not live.is_array and (longest is None or found.max_length < longest):
        detail = f"it holds {found.max_length} characters, {longest or 'any number'} were expected"
        differences.append(Difference("shorter column", name, column.name, detail, False))
    if column.nullable and not found.nullable:
        differences.append(Difference("required column", name, column.name, "it is NOT NULL, NULL was expected", False))
    if any(
        live.name in kinds and declared.name in kinds and kinds.index(live.name) < kinds.index(declared.name)
        for kinds in (INTEGERS, FLOATS)
    ):
        detail = f"its type is {found.type}, {column.type} was expected"
        differences.append(Difference("narrower column", name, column.name, detail, False))
    expected = MICROSECONDS if declared.precision is None else declared.precision
    if found.precision is not None and not live.is_array and found.precision < expected:
        detail = f"it keeps {found.precision} digits of the second, {expected} were expected"
        differences.append(Difference("narrower column", name, column.name, detail, False))
    missing = [label for label in column.allowed if label not in found.labels] if found.labels else []
    if missing:
        detail = f"it is an enum without {', '.join(map(repr, missing))}"
        differences.append(Difference("narrower column", name, column.name, detail, False))
    if not differences and not found.is_domain(declared) and _keeps_less(live, declared):
        detail = f"its type is {found.spelled}, {column.type} was expected"
        differences.append(Difference("narrower column", name, column.name, detail, False))
    return differences


def _keeps_less(live: ColumnType, declared: ColumnType) -> bool:
    """Whether values of the declared type may not fit into the live one, by what stands in brackets behind it."""
    if live.is_text or live.precision is not None or not live.arguments:
        return False
    if live.decimals is None or declared.decimals is None:
        return live.arguments != declared.arguments
    (digits, decimals), (wanted_digits, wanted_decimals) = live.decimals, declared.decimals
    return decimals < wanted_decimals or digits - decimals < wanted_digits - wanted_decimals


def read_live_targets(url: str, tables: Sequence[TargetTable]) -> dict[str, LiveTarget]:
    """What the catalogue says about the tables of models, by model; those that are missing are left out."""
    with refusals_told(), connect(url) as connection:
        found = {table.model: live_target(connection, table) for table in tables}
    connected = partial(connect, url)
    return {model: replace(live, connected=connected) for model, live in found.items() if live is not None}


def held_values(live: LiveTarget | None, declared: TargetTable) -> dict[str, str]:
    """What each declared column holds as the table is live; empty where it is not known."""
    columns = live.columns if live else {}
    return {column.name: str(columns[column.name]) for column in declared.columns if column.name in columns}


def require_prepared_for(live: LiveTarget, declared: TargetTable, prepared: Manifest) -> None:
    """StructureError where the table holds less, or other values, than was known when its rows were prepared."""
    known, now = prepared.metadata.get("live"), held_values(live, declared)
    narrower = any(not difference.fatal for difference in compare_target(live, declared))
    if known is None or known == now or not (known or narrower):
        return
    changed = ", ".join(
        f"{name} is {kind}, and was {known[name]}" if name in known else f"{name} is {kind}"
        for name, kind in now.items()
        if known.get(name) != kind
    )
    raise StructureError(
        f"the rows were prepared for another table than is there now: {changed}",
        where=f"table {declared.name} of the target database",
        remedy=f"nothing was written; materialise {'/'.join(prepared.key)} again, and look at its checks",
    )


def require_target(connection: Connection, declared: TargetTable, decisions: Mapping[str, str]) -> LiveTarget:
    """The live table; StructureError that names every difference with which nothing can be loaded."""
    live = live_target(connection, declared)
    fatal = [difference for difference in compare_target(live, declared, decisions) if difference.fatal]
    if live is None or fatal:
        raise StructureError(
            f"the target is not what the load needs: {'; '.join(map(str, fatal))}",
            where=f"table {declared.name} of the target database",
            remedy="nothing was written; bring its schema and the declaration of the table together",
        )
    return live


@dataclass(frozen=True)
class Untouched:
    """`passed`: this system wrote nothing into the table. `rows` are there in all."""

    passed: bool
    written: int
    rows: int | None


def untouched(connection: Connection, table: TargetTable, system: str) -> Untouched:
    """Whether a table is as this migration found it: nothing of its mapping leads there."""
    rows = None
    if live_target(connection, table) is not None:
        counted = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(qualified(table))).fetchone()
        rows = int(counted[0]) if counted else 0
    written = 0
    [bookkeeping] = connection.execute("SELECT to_regclass('migration.mapping_entry')").fetchone() or [None]
    if bookkeeping is not None:
        counted = connection.execute(
            "SELECT count(*) FROM migration.mapping_entry AS entry JOIN migration.flow ON flow.id = entry.flow_id"
            " WHERE flow.system = %s AND flow.target_table = %s",
            [system, table.name],
        ).fetchone()
        written = int(counted[0]) if counted else 0
    return Untouched(written == 0, written, rows)
