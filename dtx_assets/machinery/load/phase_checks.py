"""What is asked of the target when a phase is loaded: that its rows are there, refer to rows, and are found by their
legacy ids; and what a system says of them besides. All by value, against the mapping and the accounting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import sql

from dtx_assets.machinery.mapping.model import SourceMapping
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import live_target, qualified
from dtx_assets.machinery.system.phase import Phase
from dtx_assets.machinery.system.system import System

SHOWN = 5
STRUCTURE = ("record_counts", "referential_integrity", "legacy_ids")
"""What fails by a fault of structure: the next phase does not start."""
NAMES: Mapping[str, str] = {
    "record_counts": "Each row that the mapping names is there, and each migrated source row is in the mapping.",
    "referential_integrity": "Each row that a row of this phase refers to is there.",
    "legacy_ids": "Each migrated row is found in its target by its legacy id.",
    "business_rules": "What has to hold of the rows of this phase, whoever wrote them, holds.",
}
OURS = sql.SQL(
    "SELECT target_id FROM migration.mapping WHERE (system, target_table) = ({system}, {name})"
    " EXCEPT SELECT target_key FROM migration.conflict WHERE (system, target_table) = ({system}, {name})"
)
"""The rows that a system wrote into a table, but for those that somebody changed or deleted since."""


@dataclass
class PhaseFindings:
    """What one check found: how much, and what of it, by what was asked."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, found: Sequence[str]) -> None:
        if found:
            self.counts[name] = len(found)
            self.examples[name] = list(found[:SHOWN])

    @property
    def count(self) -> int:
        return sum(self.counts.values())


def phase_findings(connection: Connection, system: System, phase: Phase) -> dict[str, PhaseFindings]:
    """What each of NAMES finds of the targets of a phase that are there."""
    found = {name: PhaseFindings() for name in NAMES}
    schemas = [target.schema for target in system.models_of(phase) if target.schema]
    if schemas:
        connection.execute(sql.SQL("SET search_path TO {}, public").format(sql.Identifier(schemas[0])))
    for target in system.models_of(phase):
        if live_target(connection, target) is None:
            found["record_counts"].add(target.name, ["the table is not there"])
            continue
        if not _is_loaded(connection, system, target):
            found["record_counts"].add(target.name, ["it was not loaded, or that is undone"])
        found["record_counts"].add(target.name, _missing_rows(connection, system, target))
        found["record_counts"].add(f"{target.name}: source rows", _unmapped_rows(connection, system, target))
        for column in target.columns:
            if column.references:
                lost = _lost_references(connection, system, target, column.name, column.references)
                found["referential_integrity"].add(f"{target.name}.{column.name}", lost)
        for source, entry in system.mappings.for_target(target.model).sources.items():
            if legacy_id := legacy_id_of(entry, system.legacy_tables[source].key):
                lost = _without_legacy_id(connection, system, target, source, legacy_id)
                found["legacy_ids"].add(f"{target.name}.{legacy_id}", lost)
    is_whole = all(live_target(connection, target) for target in system.targets if system.flow_of(target.model))
    for name, query in phase.rules.items() if is_whole else ():
        found["business_rules"].add(name, _texts(connection, sql.SQL(query)))
    return found


def legacy_id_of(entry: SourceMapping, key: Sequence[str]) -> str | None:
    """The target column that holds the key of a legacy table as it is, if there is one."""
    columns = (name for name, column in entry.columns.items() if column.transform == "integer" and column.from_ == key)
    return next(columns, None)


def _is_loaded(connection: Connection, system: System, target: TargetTable) -> bool:
    found = connection.execute(
        "SELECT FROM migration.load WHERE (system, target_table, status) = (%s, %s, 'succeeded') LIMIT 1",
        [system.name, target.name],
    )
    return found.fetchone() is not None


def _texts(connection: Connection, query: sql.SQL | sql.Composed) -> list[str]:
    return [str(row[0]) for row in connection.execute(query)]


def _named(system: System, target: TargetTable) -> dict[str, sql.Composable]:
    names = {"system": sql.Literal(system.name), "name": sql.Literal(target.name)}
    return {**names, "ours": OURS.format(**names), "table": qualified(target), "key": sql.Identifier(target.key[0])}


def _missing_rows(connection: Connection, system: System, target: TargetTable) -> list[str]:
    return _texts(
        connection,
        sql.SQL("SELECT o.target_id FROM ({ours}) AS o EXCEPT SELECT {key}::text FROM {table}").format(
            **_named(system, target)
        ),
    )


def _unmapped_rows(connection: Connection, system: System, target: TargetTable) -> list[str]:
    """Where the mapping has other source rows than the accounting of the last load says, those that vanished aside."""
    return _texts(
        connection,
        sql.SQL(
            "SELECT format('%s: %s migrated, %s in the mapping', a.source_table, a.migrated, coalesce(m.rows, 0))"
            " FROM (SELECT DISTINCT ON (source_table) source_table, migrated FROM migration.accounting AS entry"
            " JOIN migration.run USING (run_id) WHERE (entry.system, entry.target_table) = ({system}, {name})"
            " ORDER BY source_table, run.started_at DESC) AS a"
            " LEFT JOIN (SELECT source_table, count(DISTINCT source_key) AS rows FROM migration.mapping"
            " WHERE (system, target_table) = ({system}, {name}) GROUP BY 1) AS m USING (source_table)"
            " WHERE coalesce(m.rows, 0) < a.migrated"
        ).format(**_named(system, target)),
    )


def _lost_references(
    connection: Connection, system: System, target: TargetTable, column: str, references: str
) -> list[str]:
    others = next(other for other in system.targets if references in other.names)
    if live_target(connection, others) is None:
        return [f"the table {others.name} is not there"]
    return _texts(
        connection,
        sql.SQL(
            "SELECT t.{key}::text FROM {table} AS t WHERE t.{column} IS NOT NULL AND t.{key}::text IN ({ours})"
            " AND NOT EXISTS (SELECT FROM {others} AS o WHERE o.{theirs} = t.{column})"
        ).format(
            **_named(system, target),
            column=sql.Identifier(column),
            others=qualified(others),
            theirs=sql.Identifier(others.key[0]),
        ),
    )


def _without_legacy_id(
    connection: Connection, system: System, target: TargetTable, source: str, column: str
) -> list[str]:
    """The rows of a target that are mapped from a table, and do not have the id of any of those that they came from."""
    return _texts(
        connection,
        sql.SQL(
            "SELECT t.{key}::text FROM {table} AS t JOIN (SELECT target_id, array_agg(source_key) AS keys"
            " FROM migration.mapping WHERE (system, target_table, source_table) = ({system}, {name}, {source})"
            " GROUP BY 1) AS m ON m.target_id = t.{key}::text WHERE t.{key}::text IN ({ours})"
            " AND (t.{column} IS NULL OR t.{column}::text <> ALL (m.keys))"
        ).format(**_named(system, target), source=sql.Literal(source), column=sql.Identifier(column)),
    )
