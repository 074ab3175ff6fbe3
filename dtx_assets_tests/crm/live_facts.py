"""What a live target says of the columns that the contract's inventory lists: it counts, the inventory does not.

Types, nullability, labels, constant defaults and foreign keys; a column that is not there is left out.
"""

import re
from dataclasses import replace
from typing import Any

import psycopg

from dtx_assets_tests.crm.second_reading_facts import FACTS, Facts, Field

COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, NULL), NOT a.attnotnull,
    coalesce(pg_get_expr(d.adbin, d.adrelid), ''), f.relname,
    ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = a.atttypid ORDER BY enumsortorder)
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind = 'r'
JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = 'public'
LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
LEFT JOIN pg_constraint AS k ON k.conrelid = c.oid AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum]
LEFT JOIN pg_class AS f ON f.oid = k.confrelid
WHERE a.attnum > 0 AND NOT a.attisdropped
"""


def live_facts(url: str, facts: Facts = FACTS) -> Facts:
    with psycopg.connect(url) as connection:
        there = {(row[0], row[1]): row[2:] for row in connection.execute(COLUMNS)}
    found = []
    for each in facts.fields:
        if each.junction:
            found.append(each)
        elif (each.collection, each.column) in there:
            found.append(_live(each, *there[each.collection, each.column]))
    return Facts(found)


def _live(each: Field, type_name: str, nullable: bool, default: str, names: str | None, labels: Any) -> Field:
    return replace(
        each,
        type=each.type if labels else type_name,
        nullable=nullable,
        default=_constant(default),
        references=names or "",
        implied_reference="" if names else each.named,
        rule=("reference" if names else "uuid") if each.rule in ("reference", "uuid") else each.rule,
        labels=tuple(labels),
    )


def _constant(default: str) -> str:
    """`'ACTIVE'::"taskStatus"`, `0`, `true`, `CURRENT_TIMESTAMP`."""
    found = re.match(r"'((?:[^']|'')*)'", default)
    return found[1].replace("''", "'") if found else default
