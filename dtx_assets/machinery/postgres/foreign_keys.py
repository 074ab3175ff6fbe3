"""The foreign keys of the live target beside those that were declared: whether the loads come in an order that holds.

What one table is made of, `ddl` compares; here all of them are looked at together.
"""

from collections.abc import Iterator, Mapping, Sequence

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.model.references import all_loaded_before, circles, reached
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import Difference, qualified

_FOREIGN_KEYS = """
SELECT named.place - 1, CASE WHEN cardinality(conkey) = 1 THEN key.names ELSE '(' || key.names || ')' END,
    other.oid::bigint, CASE WHEN pg_table_is_visible(other.oid) THEN other.relname::text
    ELSE other.relnamespace::regnamespace::text || '.' || other.relname::text END
FROM unnest(%s::text[]) WITH ORDINALITY AS named (name, place)
JOIN pg_constraint ON conrelid = to_regclass(named.name) AND contype = 'f'
CROSS JOIN LATERAL (
    SELECT string_agg(attname, ', ' ORDER BY part.place), min(part.attnum)
    FROM unnest(conkey) WITH ORDINALITY AS part (attnum, place)
    JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (conrelid, part.attnum)
) AS key (names, attnum)
JOIN pg_class AS other ON other.oid = confrelid
ORDER BY named.place, key.attnum, pg_constraint.oid
"""

LiveReferences = Mapping[str, Mapping[str, str]]
"""By model and column, the table that a live foreign key leads to: the name of the target, or its own of any other.

A key of several columns stands there as `(a, b)`.
"""


def live_references(connection: Connection, targets: Sequence[TargetTable]) -> dict[str, dict[str, str]]:
    """LiveReferences of the tables that are there; a table that is not has no entry."""
    names = [qualified(target).as_string(connection) for target in targets]
    there = connection.execute(
        "SELECT to_regclass(name)::oid::bigint FROM unnest(%s::text[]) WITH ORDINALITY AS named (name, place)"
        " ORDER BY place",
        [names],
    ).fetchall()
    called = {oid: target.name for (oid,), target in zip(there, targets, strict=True)}
    found: dict[str, dict[str, str]] = {
        target.model: {} for (oid,), target in zip(there, targets, strict=True) if oid is not None
    }
    for place, column, oid, name in connection.execute(_FOREIGN_KEYS, [names]):
        found[targets[place].model].setdefault(str(column), called.get(oid, str(name)))
    return found


def reference_differences(
    found: LiveReferences, targets: Sequence[TargetTable], decisions: Mapping[str, str]
) -> list[Difference]:
    """Where live foreign keys are not those that were declared.

    `fatal`: rows would be written before those that they refer to, or with ids of another table's rows.
    """
    differences = [
        difference
        for target in targets
        if target.model in found and target.writes != "nothing"
        for column in target.columns_under(decisions)
        if (difference := _of_column(found[target.model].get(column.name), target, column))
    ]
    return [*differences, *_of_order(found, targets, decisions)]


def _of_column(leads_to: str | None, target: TargetTable, column: TargetColumn) -> Difference | None:
    expected = column.references
    if expected is None or (leads_to and same_table(leads_to, expected)):
        return None
    if leads_to is None:
        detail = f"no foreign key leads to {expected}, as was expected: a value that names no row there is not refused"
        return Difference("missing foreign key", target.name, column.name, detail, False)
    detail = f"its foreign key leads to {leads_to}, and its values are keys of {expected}"
    return Difference("other foreign key", target.name, column.name, detail, True)


def _of_order(
    found: LiveReferences, targets: Sequence[TargetTable], decisions: Mapping[str, str]
) -> Iterator[Difference]:
    """What leads to a table that is not loaded before, though nobody declared it; a circle is told once, whole."""
    filled = [target for target in targets if target.writes == "insert"]
    models: dict[str, set[str]] = {}
    for target in filled:
        models.setdefault(target.name, set()).add(target.model)
    before = all_loaded_before(targets)
    together = {target.model: {each.model for each in circle} for circle in circles(targets) for target in circle}
    edges: dict[str, list[str]] = {name: [] for name in models}
    against: list[tuple[str, str, str]] = []
    for target in filled:
        present = before[target.model] | together.get(target.model, {target.model})
        expected = {column.name: [column.references] for column in target.columns_under(decisions)}
        for key, name in found.get(target.model, {}).items():
            declared = target.refers_to if key.startswith("(") else expected.get(key)
            if declared is None or name not in models or name == target.name:
                continue
            edges[target.name].append(name)
            if not models[name] <= present and not any(same_table(name, other) for other in declared):
                against.append((target.name, key, name))
    told: set[str] = set()
    for table, column_name, name in against:
        circle = {other for other in reached(edges, table) if table in set(reached(edges, other))}
        if not circle:
            declares = (
                "list that in the `refers_to` of the table"
                if column_name.startswith("(")
                else "declare that it `references` that"
            )
            detail = f"its foreign key leads to {name}, which is not loaded before: {declares}"
            yield Difference("unexpected foreign key", table, column_name, detail, True)
        elif table not in told:
            told |= circle
            named = ", ".join(sorted(circle))
            detail = f"none of these can be loaded first, for their foreign keys lead in a circle: {named}"
            yield Difference("circle of foreign keys", table, column_name, detail, True)


def same_table(leads_to: str, expected: str | None) -> bool:
    """Whether two names are those of one table: with its schema, or without where that goes without saying."""
    if expected is None:
        return False
    schemas = {name.rpartition(".")[0] for name in (leads_to, expected)} - {""}
    return leads_to.rpartition(".")[2] == expected.rpartition(".")[2] and len(schemas) < 2


def require_order(connection: Connection, targets: Sequence[TargetTable], decisions: Mapping[str, str]) -> None:
    """StructureError that names the foreign keys with which nothing can be loaded in this order."""
    differences = reference_differences(live_references(connection, targets), targets, decisions)
    if fatal := [difference for difference in differences if difference.fatal]:
        raise StructureError(
            f"the foreign keys of the target are not those that the loads follow: {'; '.join(map(str, fatal))}",
            where="the target database",
            remedy="nothing was written; bring the foreign keys and the declaration of the tables together",
        )
