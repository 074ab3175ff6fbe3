"""What is asked of the target when a phase is loaded: that its rows are there, refer to rows, and are found by their
legacy ids; and what a system says of them besides. All by value, against the mapping and the accounting."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeVar

from psycopg import sql

from dtx_assets.machinery.load.entries import LED_TO
from dtx_assets.machinery.load.key import Key
from dtx_assets.machinery.mapping.model import SourceMapping
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import LiveTarget, live_target, qualified
from dtx_assets.machinery.system.phase import Phase
from dtx_assets.machinery.system.system import System

Answer = TypeVar("Answer")
Lack = tuple[str, str, list[str]]
"""Which check of NAMES, of what, and the rows."""
SHOWN = 5
STRUCTURE = ("record_counts", "referential_integrity", "legacy_ids")
"""What fails by a fault of structure: the next phase does not start."""
NAMES: Mapping[str, str] = {
    "record_counts": "Each row that the mapping names is there, and each migrated source row is in the mapping.",
    "referential_integrity": "Each row that a row of this phase refers to is there.",
    "legacy_ids": "Each migrated row is found in its target by its legacy id.",
    "business_rules": "What has to hold of the rows of this phase, whoever wrote them, holds.",
}
TOUCHED = sql.SQL(
    "(SELECT target_key FROM migration.conflict WHERE (system, target_table) = ({system}, {name})"
    " AND target_key IS NOT NULL)"
)
"""The rows of a table that a system wrote, and somebody changed or deleted since."""
MAPPED = (
    # The mapping of a table is made of entries: once for all that is asked of it. Rows are joined by their numbers: the
    # view `migration.mapping` makes a text of each key first, which takes many times as long.
    "WITH mapped AS MATERIALIZED (SELECT flow.source_table, led.source_key, led.row, {shown}"
    " FROM (SELECT flow_id, source_key, {led_to} AS row FROM migration.mapping_entry AS entry"
    " WHERE flow_id = ANY (ARRAY(SELECT id FROM migration.flow WHERE (system, target_table) = ({system}, {name}))))"
    " AS led JOIN migration.flow ON flow.id = led.flow_id"
    " LEFT JOIN (SELECT {found} FROM {table} AS t{beside} WHERE {same}) AS present ON present.no = led.row),"
    " wrong (asked, of_what, row) AS ({wrong})"
    " SELECT asked, of_what, coalesce(numbered.whole_key, numbered.key, wrong.row::text) FROM wrong"
    " LEFT JOIN migration.target_row AS numbered ON (numbered.no, numbered.target_table) = (wrong.row, {name})"
    " WHERE coalesce(numbered.whole_key, numbered.key, wrong.row::text) NOT IN {touched}"
)
ABSENT = "SELECT 'record_counts', {name}, row FROM mapped WHERE NOT is_there GROUP BY row"
FEWER = (
    # Where the mapping has other source rows than the accounting of the last load says, those that vanished aside.
    " UNION ALL SELECT 'record_counts', {rows}, format('%s: %s migrated, %s in the mapping', a.source_table,"
    " a.migrated, coalesce(m.rows, 0)) FROM (SELECT DISTINCT ON (source_table) source_table, migrated"
    " FROM migration.accounting AS entry JOIN migration.run USING (run_id)"
    " WHERE (entry.system, entry.target_table) = ({system}, {name})"
    " ORDER BY source_table, run.started_at DESC) AS a LEFT JOIN (SELECT source_table, count(*) AS rows"
    " FROM (SELECT DISTINCT source_table, source_key FROM mapped) AS each GROUP BY 1) AS m USING (source_table)"
    " WHERE coalesce(m.rows, 0) < a.migrated"
)
OTHER_IDS = (
    # Rows that do not have the id of any of the rows of a table that they came from: mostly there are none.
    "SELECT 'legacy_ids', {shown}, row FROM (SELECT row FROM mapped WHERE source_table = {source} AND is_there"
    " AND {column} IS DISTINCT FROM source_key EXCEPT SELECT row FROM mapped WHERE source_table = {source}"
    " AND {column} = source_key) AS unlike"
)


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


def phase_findings(
    connection: Connection, system: System, phase: Phase, beside: Sequence[Connection] = ()
) -> dict[str, PhaseFindings]:
    """What each of NAMES finds of the targets of a phase that are there; `beside`: connections to ask at once."""
    found = {name: PhaseFindings() for name in NAMES}
    schemas = [target.schema for target in system.models_of(phase) if target.schema]
    for each in (connection, *beside) if schemas else ():
        each.execute(sql.SQL("SET search_path TO {}, public").format(sql.Identifier(schemas[0])))
    targets = system.models_of(phase)
    for lacking in _of_each([connection, *beside], targets, lambda over, target: _lacking(over, system, target)):
        for check, name, rows in lacking:
            found[check].add(name, rows)
    is_whole = all(live_target(connection, target) for target in system.targets if system.flow_of(target.model))
    for name, query in phase.rules.items() if is_whole else ():
        found["business_rules"].add(name, _texts(connection, sql.SQL(query)))
    return found


def _lacking(connection: Connection, system: System, target: TargetTable) -> list[Lack]:
    """What the rows of one target lack."""
    live = live_target(connection, target)
    if live is None:
        return [("record_counts", target.name, ["the table is not there"])]
    lacking: list[Lack] = []
    if not _is_loaded(connection, system, target):
        lacking.append(("record_counts", target.name, ["it was not loaded, or that is undone"]))
    for column in target.columns:
        if column.references:
            lost = _lost_references(connection, system, target, column.name, column.references)
            lacking.append(("referential_integrity", f"{target.name}.{column.name}", lost))
    return lacking + _by_the_mapping(connection, system, target, live)


def _of_each(
    connections: Sequence[Connection], targets: Iterable[TargetTable], ask: Callable[[Connection, TargetTable], Answer]
) -> list[Answer]:
    """What is asked of each target, in their order; of as many at once as there are connections."""
    idle: SimpleQueue[Connection] = SimpleQueue()
    for connection in connections:
        idle.put(connection)

    def of_one(target: TargetTable) -> Answer:
        connection = idle.get()
        try:
            return ask(connection, target)
        finally:
            idle.put(connection)

    with ThreadPoolExecutor(len(connections), "phase") as threads:
        return list(threads.map(of_one, targets))


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
    rows = {"touched": TOUCHED.format(**names), "table": qualified(target), "key": sql.Identifier(target.key[0])}
    return {**names, **rows}


def legacy_ids_lost(connection: Connection, system: System, beside: Sequence[Connection] = ()) -> dict[str, int]:
    """By target column: how many migrated rows are not found by their legacy ids, of all targets that are there."""
    found = _of_each(
        [connection, *beside], system.filled_targets, lambda over, target: _without_legacy_ids(over, system, target)
    )
    return {name: len(rows) for lacking in found for _, name, rows in lacking}


def rows_without_legacy_id(connection: Connection, system: System, target: TargetTable) -> list[str]:
    """The keys of the migrated rows of a target that are not found by a legacy id."""
    return [row for _, _, rows in _without_legacy_ids(connection, system, target) for row in rows]


def _without_legacy_ids(connection: Connection, system: System, target: TargetTable) -> list[Lack]:
    live = live_target(connection, target)
    return [] if live is None else _by_the_mapping(connection, system, target, live, ids_only=True)


def _by_the_mapping(
    connection: Connection, system: System, target: TargetTable, live: LiveTarget, *, ids_only: bool = False
) -> list[Lack]:
    """What the rows of a target lack by its mapping, or their legacy ids only, as (check, of what, rows)."""
    key, named = Key.of(target, live), _named(system, target)
    sources = system.mappings.for_target(target.model).sources
    legacy_ids = {source: legacy_id_of(entry, system.legacy_tables[source].key) for source, entry in sources.items()}
    # By their places: a column may be called as one of the bookkeeping is.
    columns = {name: sql.Identifier(f"_{number}") for number, name in enumerate(filter(None, legacy_ids.values()))}
    asked: list[sql.Composable] = [] if ids_only else [sql.SQL(ABSENT).format(**named)]
    asked += (
        sql.SQL(OTHER_IDS).format(
            shown=sql.Literal(f"{target.name}.{column}"), source=sql.Literal(source), column=columns[column]
        )
        for source, column in legacy_ids.items()
        if column
    )
    if not asked:
        return []
    query = sql.SQL(MAPPED).format(
        **named,
        led_to=sql.SQL(LED_TO),
        shown=sql.SQL(", ").join([sql.SQL("present.no IS NOT NULL AS is_there"), *columns.values()]),
        found=sql.SQL(", ").join(
            [
                sql.SQL("{} AS no").format(key.number),
                *(sql.SQL("t.{}::text AS {}").format(sql.Identifier(name), place) for name, place in columns.items()),
            ]
        ),
        beside=key.beside,
        same=key.same,
        wrong=sql.SQL(" UNION ALL ").join(asked),
    )
    if not ids_only:
        query += sql.SQL(FEWER).format(**named, rows=sql.Literal(f"{target.name}: source rows"))
    lost: dict[tuple[str, str], list[str]] = {}
    for check, name, row in connection.execute(query):
        lost.setdefault((check, name), []).append(str(row))
    return [(check, name, sorted(rows)) for (check, name), rows in lost.items()]


def _lost_references(
    connection: Connection, system: System, target: TargetTable, column: str, references: str
) -> list[str]:
    others = next(other for other in system.targets if references in other.names)
    if live_target(connection, others) is None:
        return [f"the table {others.name} is not there"]
    lost = _texts(
        connection,
        sql.SQL(
            "SELECT t.{key}::text FROM {table} AS t WHERE t.{column} IS NOT NULL"
            " AND NOT EXISTS (SELECT FROM {others} AS o WHERE o.{theirs} = t.{column})"
        ).format(
            **_named(system, target),
            column=sql.Identifier(column),
            others=qualified(others),
            theirs=sql.Identifier(others.key[0]),
        ),
    )
    return lost and _ours_of(connection, system, target, lost)


def _ours_of(connection: Connection, system: System, target: TargetTable, keys: Sequence[str]) -> list[str]:
    """Those of the rows that the system wrote, but for what somebody changed since."""
    query = sql.SQL(
        "SELECT target_id FROM migration.mapping WHERE (system, target_table) = ({system}, {name})"
        " AND target_id = ANY ({keys}) EXCEPT {touched}"
    )
    return _texts(connection, query.format(**_named(system, target), keys=sql.Literal(list(keys))))
