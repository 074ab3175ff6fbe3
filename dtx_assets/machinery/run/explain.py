"""Where a target row comes from, column by column, and what became of a legacy row."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import polars as pl
from psycopg import sql

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.masking import masked_detail
from dtx_assets.machinery.load.archived import ARCHIVE
from dtx_assets.machinery.load.key import Key
from dtx_assets.machinery.mapping.model import SourceMapping
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told
from dtx_assets.machinery.postgres.ddl import live_target
from dtx_assets.machinery.prepare.preparation import rules_that_dropped
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.ways import (
    Facts,
    Origin,
    Ways,
    cells_told,
    landed_row,
    named_row,
    rows_with_keys,
    shown_value,
    shown_values,
    texts,
)
from dtx_assets.machinery.sources.frames import key_in_bookkeeping

CAME_FROM = """
SELECT flow.source_table, flow.model, entry.source_key, listed.part, entry.hashes IS NOT NULL AS owns,
    coalesce(%(id)s = ANY (entry.adopted_ids), false) AS adopted, load.run_id, batch.committed_at, load.subset
FROM migration.mapping_entry AS entry
JOIN migration.flow ON flow.id = entry.flow_id
JOIN migration.batch ON batch.id = entry.batch_id
JOIN migration.load ON load.id = batch.load_id
JOIN migration.part_list ON part_list.id = entry.part_list_id
CROSS JOIN LATERAL unnest(part_list.parts) WITH ORDINALITY AS listed (part, position)
WHERE flow.system = %(system)s AND flow.target_table = %(table)s
    AND entry.lowest_id <= %(id)s AND entry.highest_id >= %(id)s
    AND CASE WHEN entry.target_ids IS NULL THEN entry.lowest_id + listed.position - 1
             ELSE entry.target_ids[listed.position] END = %(id)s
ORDER BY owns DESC, flow.id, entry.source_key, listed.position
"""
WRITTEN_OVER = """
SELECT run_id, written_at, before FROM migration.journal
WHERE (system, target_table, target_id) = (%(system)s, %(table)s, %(id)s::text) ORDER BY written_at
"""
WENT_TO = """
SELECT target_table, part, target_key, run_id FROM migration.mapping
WHERE (system, source_table, source_key) = (%(system)s, %(table)s, %(key)s)
ORDER BY target_table, length(target_id), target_id, part
"""
REFUSED = """
SELECT target_table, reasons, partial, detail, "row", run_id FROM migration.rejected
WHERE (system, source_table, source_key) = (%(system)s, %(table)s, %(key)s)
    AND left(source_key, 500) = left(%(key)s, 500)
ORDER BY target_table, partial
"""
LISTED = """
SELECT 'conflict', target_table, part, target_key, cause FROM migration.conflict
WHERE (system, source_table, source_key) = (%(system)s, %(table)s, %(key)s)
UNION ALL SELECT 'vanished', target_table, part, target_key, cause FROM migration.vanished
WHERE (system, source_table, source_key) = (%(system)s, %(table)s, %(key)s)
"""
BOOKED = """
SELECT DISTINCT target_table FROM migration.accounting WHERE (system, source_table) = (%(system)s, %(table)s)
"""


@contextmanager
def loaded_target(environment: RunEnvironment) -> Iterator[Connection]:
    """A connection to the target database; ConfigurationError where nothing was loaded into it yet."""
    with refusals_told(), connect(environment.target_url) as connection:
        if connection.execute("SELECT to_regclass('migration.mapping_entry')").fetchone() == (None,):
            raise ConfigurationError("nothing was loaded into this target database yet", remedy="`dtx run` first")
        yield connection


def explain_target_row(
    environment: RunEnvironment, target: TargetTable, target_key: str, *, unmasked: bool = False
) -> Facts:
    """What made a row: legacy rows, and for each column the value, its way, and what its way was given.

    `target_key` is its key; of several columns, a JSON array, as target_key of migration.mapping has it.

    ConfigurationError where there is no such row, or this migration did not write it.
    """
    system = environment.system
    with loaded_target(environment) as connection:
        number, values = _live_row(connection, target, target_key)
        place = {"system": system.name, "table": target.name, "id": number}
        came_from = connection.execute(CAME_FROM.encode(), place).fetchall()
        written_over = connection.execute(WRITTEN_OVER.encode(), place).fetchall()
    if not came_from:
        gone = "is not there" if values is None else "is not this migration's: nothing of it came from a legacy row"
        raise ConfigurationError(
            f"{target.model} {target_key} {gone}",
            where=target.name,
            remedy="take a key from the table, or from target_key of migration.mapping",
        )
    keys: dict[str, list[str]] = {}
    for source_table, _, key, *_ in came_from:
        keys.setdefault(source_table, []).append(key)
    rows = {name: rows_with_keys(environment, name, dict.fromkeys(wanted)) for name, wanted in keys.items()}
    origins = [
        _origin(environment, target, rows[source_table], source_table, model, key, part)
        for source_table, model, key, part, *_ in came_from
    ]
    ways = Ways(environment, origins, rows, unmasked=unmasked)
    sources: list[Facts] = []
    columns: dict[str, Facts] = {}
    for origin, (*_, owns, adopted, run_id, at, subset) in zip(origins, came_from, strict=True):
        coercions = ways.coercions(origin)
        sources.append(
            {
                "source_table": origin.table.name,
                "source_key": origin.key,
                "part": ways.part(origin),
                "model": origin.model,
                "gives": "the row" if owns else "a part of it",
                "adopted": adopted,
                "run_id": run_id,
                "migrated_at": at.isoformat(),
                "subset": subset,
                "row": shown_values(origin.row, origin.table.is_personal, unmasked) if origin.row else None,
                "coercions": {name: coercions[name] for name in origin.mapping.helpers if name in coercions},
            }
        )
        hidden = system.personal_columns(origin.target)
        for name, way in ways.of(origin, coercions):
            value = shown_value((values or {}).get(name), name in hidden, unmasked)
            columns.setdefault(name, {"value": value}).setdefault("ways", []).append(way)
    personal = system.personal_columns(target)
    flow = system.flow_of(target.model)
    chosen = environment.decisions.chosen
    return {
        "model": target.model,
        "target_table": target.name,
        "id": number if str(number) == target_key else target_key,
        "is_there": values is not None,
        "sources": sources,
        "columns": columns,
        "decisions": {key: chosen[key] for key in (flow.decisions if flow else ()) if key in chosen},
        "written_over": [
            {"run_id": run, "at": at.isoformat(), "before": shown_values(before, personal.__contains__, unmasked)}
            for run, at, before in written_over
        ],
    }


def explain_legacy_row(environment: RunEnvironment, table: LegacyTable, key: str) -> Facts:
    """Where a legacy row went, or why it did not go; ConfigurationError where nobody knows it."""
    key = key_in_bookkeeping(table, key)
    place = {"system": environment.system.name, "table": table.name, "key": key}
    with loaded_target(environment) as connection:
        went_to, refused, listed, booked = (
            connection.execute(query.encode(), place).fetchall() for query in (WENT_TO, REFUSED, LISTED, BOOKED)
        )
    row = landed_row(environment, table.name, key)
    shown_part = partial(environment.system.shown_part, table.name)
    if row is None and not went_to and not refused:
        raise ConfigurationError(
            f"{table.name} has no row with the key {key}",
            where=f"{table.name} as it was landed last",
            remedy=f"the key is {key_form(table)}",
        )
    return {
        "source_table": table.name,
        "source_key": key,
        "is_there": row is not None,
        "is_migrated": table.name in environment.system.migrated_tables,
        "row": None if row is None else shown_values(texts(row), table.is_personal, unmasked=False),
        "went_to": [
            {"target_table": target, "part": shown_part(target, part), "target_id": target_id, "run_id": run}
            for target, part, target_id, run in went_to
        ],
        "rejected": [
            {
                "target_table": target,
                "reasons": reasons,
                "partial": partial,
                "detail": masked_detail(detail, held, frozenset(filter(table.is_personal, held))),
                "run_id": run,
            }
            for target, reasons, partial, detail, held, run in refused
        ],
        "listed": [
            {
                "list": kind,
                "target_table": target,
                "part": shown_part(target, part),
                "target_id": target_id,
                "cause": cause,
            }
            for kind, target, part, target_id, cause in listed
        ],
        "dropped": rules_that_dropped(environment.lake, environment.system, table.name, key).to_dicts(),
        "archived": any(target == ARCHIVE for (target,) in booked),
    }


def _origin(
    environment: RunEnvironment,
    target: TargetTable,
    rows: pl.DataFrame,
    source_table: str,
    model: str,
    key: str,
    part: str,
) -> Origin:
    system = environment.system
    declared = next((declared for declared in system.targets if declared.model == model), target)
    mapped = system.mappings.for_target(declared.model).sources
    mapping = mapped.get(source_table) or SourceMapping.model_validate({})
    table = system.legacy_tables[source_table]
    return Origin(table, key, part, model, declared, mapping, named_row(table, rows, key))


def key_form(table: LegacyTable) -> str:
    """How a row of a table is named, for people."""
    if not table.key:
        return "the number of the row, from 1"
    if len(table.key) == 1 and table.has_unique_key:
        return table.key[0]
    return f"a JSON array of the texts of {', '.join(table.key)}"


def _live_row(
    connection: Connection, target: TargetTable, target_key: int | str
) -> tuple[int | None, dict[str, Any] | None]:
    """The number by which the bookkeeping calls a row, and its values; None where there is none."""
    live = live_target(connection, target)
    if live is None:
        return (target_key if isinstance(target_key, int) else None), None
    key = Key.of(target, live)
    number = key.number_of(connection, str(target_key))
    found = connection.execute(
        sql.SQL("SELECT to_jsonb(t) FROM {} AS t{} WHERE {} AND {} = %s").format(
            key.table, key.beside, key.same, key.number
        ),
        [number],
    ).fetchone()
    return number, dict(found[0]) if found else None


# --- as text ----------------------------------------------------------------------------------------------------------


def target_row_lines(facts: Facts, column: str | None = None) -> Iterator[str]:
    """The explanation of a target row, or of one of its columns, for people."""
    yield f"{facts['model']} {facts['id']}" + ("" if facts["is_there"] else " (somebody deleted it)")
    for source in facts["sources"]:
        adopted = ", was there with equal values and adopted" if source["adopted"] else ""
        part = f", part {source['part']}" if source["part"] else ""
        gone = "" if source["row"] else " (not in the legacy table any more)"
        coerced = "".join(f"; {name} coerced: {', '.join(kinds)}" for name, kinds in source["coercions"].items())
        yield (
            f"  {source['gives']} came from {source['source_table']} {source['source_key']}{part}{gone}, run"
            f" {source['run_id'][:8]} at {source['migrated_at']}{adopted}{coerced}"
        )
    for name, told in facts["columns"].items():
        if column in (None, name):
            yield f"  {name} = {told['value']}"
            for way in told["ways"]:
                yield f"      {_way_told(way)}"
    for key, option in facts["decisions"].items():
        yield f"  decision {key} = {option}"
    for entry in facts["written_over"]:
        changes = ", ".join(f"{name} was {value}" for name, value in entry["before"].items())
        yield f"  updated by run {entry['run_id'][:8]} at {entry['at']}: {changes}"


def _way_told(way: Facts) -> str:
    under = f", only under {way['only_under']}" if way.get("only_under") else ""
    coerced = f" (coerced: {', '.join(way['coercions'])})" if way["coercions"] else ""
    step = way.get("step", "")
    if step.startswith(f"{cells_told(way, names_table=False)} → "):
        return f"{step}, of {way['source_table']}, by {way['by']}{coerced}{under}"
    cells, step = cells_told(way), f": {step}" if step else ""
    return f"{cells}{', ' if cells else ''}by {way['by']}{step}{coerced}{under}"


def legacy_row_lines(facts: Facts) -> Iterator[str]:
    """What became of a legacy row, for people."""
    gone = "" if facts["is_there"] else " (not in the legacy table any more)"
    yield f"{facts['source_table']} {facts['source_key']}{gone}"
    for went in facts["went_to"]:
        part = f", part {went['part']}" if went["part"] else ""
        yield f"  went to {went['target_table']} {went['target_id']}{part}, run {went['run_id'][:8]}"
    for entry in facts["rejected"]:
        what = "a part of it was rejected" if entry["partial"] else "was rejected"
        yield f"  {what} for {entry['target_table']}: {', '.join(entry['reasons'])} ({entry['detail']})"
    for entry in facts["listed"]:
        yield f"  {entry['list']}: {entry['target_table']} {entry['target_id']} {entry['part']}: {entry['cause']}"
    for entry in facts["dropped"]:
        yield f"  row {entry['source_row']} was dropped for {entry['target_table']} by the rule {entry['rule']}"
    if facts["archived"]:
        yield "  is in the archive, and goes nowhere else"
    if not any(facts[fate] for fate in ("went_to", "rejected", "listed", "dropped", "archived")):
        yield (
            "  nothing was made of it yet: `dtx run` prepares and loads it"
            if facts["is_migrated"]
            else "  no row is made of this table: it leads to others, or is archived when `dtx run` gets to it"
        )
