"""What a live target may refuse a row for that no value shows by itself: its constraints, indexes and triggers by name.

Which rows they refuse is found by trying them: `refusals`.
"""

from dataclasses import dataclass
from typing import Literal

from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import LiveTarget

Kind = Literal["check", "unique index", "exclusion", "foreign key", "index", "trigger"]


@dataclass(frozen=True)
class Rule:
    """`columns` are those of a key or index, none where expressions are in it; `function` is a trigger's."""

    kind: Kind
    name: str
    definition: str
    columns: frozenset[str] = frozenset()
    function: str = ""
    unlimited: bool = False
    """Of an index: whether it has a column in which any length of text may be."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def sees_other_rows(self) -> bool:
        return self.kind in ("unique index", "exclusion")


_RULES = """
SELECT 'check', conname, pg_get_constraintdef(oid), '{}'::text[], '', false FROM pg_constraint
WHERE conrelid = %(table)s::oid AND contype = 'c'
UNION ALL
SELECT 'check', rule.conname, pg_get_constraintdef(rule.oid), '{}', '', false FROM pg_constraint AS rule
WHERE rule.contype = 'c' AND rule.contypid IN (
    WITH RECURSIVE domain AS (
        SELECT atttypid AS oid FROM pg_attribute WHERE attrelid = %(table)s::oid AND attnum > 0 AND NOT attisdropped
        UNION SELECT kind.typbasetype FROM domain JOIN pg_type AS kind USING (oid) WHERE kind.typtype = 'd'
    ) SELECT oid FROM domain)
UNION ALL
SELECT 'exclusion', conname, pg_get_constraintdef(oid), '{}', '', false FROM pg_constraint
WHERE conrelid = %(table)s::oid AND contype = 'x'
UNION ALL
SELECT 'foreign key', conname, pg_get_constraintdef(oid), (
    SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)), '', false
FROM pg_constraint WHERE conrelid = %(table)s::oid AND contype = 'f'
UNION ALL
SELECT CASE WHEN indisunique THEN 'unique index' ELSE 'index' END, relname, pg_get_indexdef(indexrelid),
    CASE WHEN indexprs IS NULL AND indpred IS NULL THEN (
        SELECT array_agg(attname::text) FROM pg_attribute
        WHERE attrelid = indrelid AND attnum = ANY (indkey[0:indnkeyatts - 1])) ELSE '{}' END, '', unlimited
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid CROSS JOIN LATERAL (
    SELECT bool_or(atttypmod < 0 AND atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype,
        'jsonb'::regtype)) AS unlimited FROM pg_attribute WHERE attrelid = indexrelid) AS attributes
WHERE indrelid = %(table)s::oid AND NOT indisprimary AND NOT indisexclusion AND (indisunique OR unlimited)
UNION ALL
SELECT 'trigger', tgname, pg_get_triggerdef(pg_trigger.oid), '{}', proname, false
FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE tgrelid = %(table)s::oid AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype::int & 20 <> 0
ORDER BY 1, 2
"""
"""Of triggers, those that fire for INSERT (4) or UPDATE (16); of plain indexes, those whose entries may be too long."""


def rules_of(connection: Connection, live: LiveTarget) -> list[Rule]:
    """All rules of a table."""
    rows = connection.execute(_RULES, {"table": live.oid})
    return [
        Rule(kind, name, definition, frozenset(columns), function, unlimited)
        for kind, name, definition, columns, function, unlimited in rows
    ]


def keys_of(rules: list[Rule], target: TargetTable) -> set[str]:
    """The unique indexes on just the natural key of a target."""
    key = frozenset(target.natural_key)
    return {rule.name for rule in rules if rule.kind == "unique index" and key and rule.columns == key}


def surprising(rules: list[Rule], target: TargetTable) -> list[Rule]:
    """Those that are not of the declaration: neither its natural key nor a reference that it names.

    Nor are unique indexes on what stays NULL, where NULLs differ: they never refuse a row.
    """
    empty = {column.name for column in target.columns if column.stays_null}
    idle = {
        rule.name
        for rule in rules
        if rule.kind == "unique index" and rule.columns & empty and "NULLS NOT DISTINCT" not in rule.definition
    }
    keys = keys_of(rules, target) | idle
    references = {frozenset({column.name}) for column in target.columns if column.references}
    return [
        rule
        for rule in rules
        if rule.name not in keys and not (rule.kind == "foreign key" and rule.columns in references)
    ]
