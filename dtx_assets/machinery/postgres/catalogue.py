"""What tables a target database has, as its catalogue says: columns with their types, keys, references, defaults.

What a load needs of one table is `ddl`; this is for writing declarations.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from dtx_assets.machinery.postgres.connection import Connection

SHORT = {
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "time without time zone": "time",
    "time with time zone": "timetz",
    "character varying": "text",
}
"""What a type is called in declarations, where PostgreSQL itself is wordy."""


@dataclass(frozen=True)
class FoundTargetColumn:
    """`type` as declarations spell it, `base` the type under a domain; `identity`: `always`, `by default` or empty."""

    name: str
    type: str
    base: str
    nullable: bool
    length: int | None = None
    default: str | None = None
    identity: str = ""
    generated: bool = False
    labels: tuple[str, ...] = ()
    """Of an enum."""

    @property
    def is_given(self) -> bool:
        """Whether the target makes a value itself where none is written."""
        return bool(self.default or self.identity or self.generated)


@dataclass(frozen=True)
class FoundTarget:
    """A table of the target. `key`: the primary one, or a unique one that cannot be NULL.

    `schema` is None where the search path finds the table; `references` says of a column which table's key it holds.
    """

    name: str
    schema: str | None
    columns: tuple[FoundTargetColumn, ...]
    key: tuple[str, ...]
    unique_keys: tuple[tuple[str, ...], ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    comment: str = ""
    refers_to: tuple[str, ...] = ()
    """The tables that foreign keys of several columns lead to."""

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


_TABLES = """
SELECT c.oid::bigint, c.relname::text,
    CASE WHEN n.nspname <> ALL (current_schemas(false)) THEN n.nspname::text END, obj_description(c.oid, 'pg_class')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
    AND n.nspname <> ALL (%s) AND n.nspname !~ '^pg_'
    AND NOT EXISTS (
        SELECT 1 FROM pg_depend AS d WHERE (d.classid, d.objid, d.deptype) = ('pg_class'::regclass, c.oid, 'e')
    )
ORDER BY 3 NULLS FIRST, 2
"""
_COLUMNS = """
SELECT a.attrelid::bigint, a.attname::text, format_type(a.atttypid, a.atttypmod), format_type(a.atttypid, NULL),
    CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, NULL) END, a.attnotnull OR t.typnotnull,
    CASE WHEN coalesce(nullif(t.typbasetype, 0), t.oid) IN ('varchar'::regtype, 'bpchar'::regtype)
        AND greatest(a.atttypmod, t.typtypmod) > 4 THEN greatest(a.atttypmod, t.typtypmod) - 4 END,
    coalesce(pg_get_expr(d.adbin, d.adrelid), t.typdefault), a.attidentity::text, a.attgenerated::text,
    (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum AS e
        WHERE e.enumtypid IN (t.oid, t.typbasetype))
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum
"""
_KEYS = """
SELECT i.indrelid::bigint, i.indisprimary, array_agg(a.attname::text ORDER BY k.place)
FROM pg_index AS i
CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k (attnum, place)
JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (i.indrelid, k.attnum)
WHERE i.indrelid = ANY (%s) AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indexrelid, i.indrelid, i.indisprimary ORDER BY i.indexrelid
"""
_REFERENCES = """
SELECT f.conrelid::bigint, a.attname::text, f.confrelid::bigint
FROM pg_constraint AS f JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (f.conrelid, f.conkey[1])
WHERE f.conrelid = ANY (%s) AND f.contype = 'f' AND cardinality(f.conkey) = 1 ORDER BY f.oid
"""
_REFERENCES_OF_SEVERAL = """
SELECT conrelid::bigint, confrelid::bigint FROM pg_constraint
WHERE conrelid = ANY (%s) AND contype = 'f' AND cardinality(conkey) > 1 ORDER BY oid
"""
HIDDEN_SCHEMAS = ("information_schema", "migration")
"""Schemas whose tables are no data of an application: the server's, and this project's bookkeeping."""


def target_catalogue(connection: Connection) -> list[FoundTarget]:
    """All tables of a database but those of the server, of extensions, and this project's bookkeeping."""
    tables = connection.execute(_TABLES, [list(HIDDEN_SCHEMAS)]).fetchall()
    oids = [row[0] for row in tables]
    names = {oid: f"{schema}.{name}" if schema else str(name) for oid, name, schema, _ in tables}
    columns: dict[int, list[FoundTargetColumn]] = {oid: [] for oid in oids}
    for oid, *facts in connection.execute(_COLUMNS, [oids]):
        columns[oid].append(_column(*facts))
    keys: dict[int, list[tuple[bool, tuple[str, ...]]]] = {oid: [] for oid in oids}
    for oid, is_primary, key in connection.execute(_KEYS, [oids]):
        keys[oid].append((bool(is_primary), tuple(key)))
    references: dict[int, dict[str, str]] = {oid: {} for oid in oids}
    for oid, column, referred in connection.execute(_REFERENCES, [oids]):
        if referred in names:
            references[oid][column] = names[referred]
    of_several: dict[int, list[str]] = {oid: [] for oid in oids}
    for oid, referred in connection.execute(_REFERENCES_OF_SEVERAL, [oids]):
        if referred in names and names[referred] not in of_several[oid]:
            of_several[oid].append(names[referred])
    return [
        FoundTarget(
            name,
            schema,
            tuple(columns[oid]),
            key := key_of({column.name for column in columns[oid] if column.nullable}, keys[oid]),
            tuple(unique for _, unique in keys[oid] if unique != key),
            references[oid],
            comment or "",
            tuple(of_several[oid]),
        )
        for oid, name, schema, comment in tables
    ]


def key_of(nullable: Set[str], keys: Sequence[tuple[bool, tuple[str, ...]]]) -> tuple[str, ...]:
    """The primary key of a table, or else a unique one that cannot be NULL; keys with whether they are primary."""
    usable = [key for is_primary, key in sorted(keys, reverse=True) if key and (is_primary or not nullable & set(key))]
    return usable[0] if usable else ()


def _column(
    name: str,
    spelt: str,
    plain: str,
    under: str | None,
    required: bool,
    length: int | None,
    default: str | None,
    identity: str,
    generated: str,
    labels: list[str] | None,
) -> FoundTargetColumn:
    is_text = plain == "character varying"
    return FoundTargetColumn(
        name,
        "text" if is_text else SHORT.get(spelt, spelt),
        SHORT.get(under or plain, under or plain),
        not required,
        length if is_text else None,
        None if generated else default,
        {"a": "always", "d": "by default"}.get(identity, ""),
        bool(generated),
        tuple(labels or ()),
    )
