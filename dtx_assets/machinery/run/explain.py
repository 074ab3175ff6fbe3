"""Where a target row comes from, column by column, and what became of a legacy row."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import polars as pl
from psycopg import sql

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.masking import mask, masked_detail, plain
from dtx_assets.machinery.load.archived import ARCHIVE
from dtx_assets.machinery.load.key import Key
from dtx_assets.machinery.mapping.execute import apply_columns
from dtx_assets.machinery.mapping.model import ColumnMapping, SourceMapping
from dtx_assets.machinery.model.legacy import ColumnKind, LegacyTable
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told
from dtx_assets.machinery.postgres.ddl import live_target
from dtx_assets.machinery.prepare.preparation import rules_that_dropped, transform_context
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.sources.frames import has_key, key_elements, legacy_frame, may_have_key
from dtx_assets.machinery.sources.landing import ROW, UNDECODABLE
from dtx_assets.machinery.transforms.columns import canonical_id, code

Facts = dict[str, Any]
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
    sources: list[Facts] = []
    columns: dict[str, Facts] = {}
    for source_table, model, key, part, owns, adopted, run_id, at, subset in came_from:
        table, landed = system.legacy_tables[source_table], landed_row(environment, source_table, key)
        row = {} if landed is None else texts(landed)
        declared = next((declared for declared in system.targets if declared.model == model), target)
        mapped = system.mappings.for_target(declared.model).sources
        mapping = mapped.get(source_table) or SourceMapping.model_validate({})
        coercions = {} if landed is None else _coercions(environment, mapping, landed)
        sources.append(
            {
                "source_table": source_table,
                "source_key": key,
                "part": part,
                "model": model,
                "gives": "the row" if owns else "a part of it",
                "adopted": adopted,
                "run_id": run_id,
                "migrated_at": at.isoformat(),
                "subset": subset,
                "row": _shown(row, table.is_personal, unmasked) if row else None,
                "coercions": {name: coercions[name] for name in mapping.helpers if name in coercions},
            }
        )
        hidden = system.personal_columns(declared)
        for name, column in mapping.columns_of(part).items():
            spec = mapping.members
            ids = table.kind_of(spec.key) if spec else "integer"
            member = part if spec and name == spec.other else None
            told = columns.setdefault(name, {"value": _value((values or {}).get(name), name in hidden, unmasked)})
            told.setdefault("ways", []).append(
                {
                    "source_table": source_table,
                    **_way(environment, column, table, row, unmasked, ids, member),
                    "coercions": coercions.get(name, []),
                }
            )
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
            {"run_id": run, "at": at.isoformat(), "before": _shown(before, personal.__contains__, unmasked)}
            for run, at, before in written_over
        ],
    }


def explain_legacy_row(environment: RunEnvironment, table: LegacyTable, key: str) -> Facts:
    """Where a legacy row went, or why it did not go; ConfigurationError where nobody knows it."""
    place = {"system": environment.system.name, "table": table.name, "key": key}
    with loaded_target(environment) as connection:
        went_to, refused, listed, booked = (
            connection.execute(query.encode(), place).fetchall() for query in (WENT_TO, REFUSED, LISTED, BOOKED)
        )
    row = landed_row(environment, table.name, key)
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
        "row": None if row is None else _shown(texts(row), table.is_personal, unmasked=False),
        "went_to": [
            {"target_table": target, "part": part, "target_id": target_id, "run_id": run}
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
            {"list": kind, "target_table": target, "part": part, "target_id": target_id, "cause": cause}
            for kind, target, part, target_id, cause in listed
        ],
        "dropped": rules_that_dropped(environment.lake, environment.system, table.name, key).to_dicts(),
        "archived": any(target == ARCHIVE for (target,) in booked),
    }


def landed_row(environment: RunEnvironment, table_name: str, key: str) -> pl.DataFrame | None:
    """The row of a landed table that a source key names, as `legacy_frame` has it; None where it is there no more."""
    table = environment.system.legacy_tables[table_name]
    if environment.lake.manifest((environment.system.name, "legacy", table_name)) is None:
        return None
    number = _row_number(table, key)
    elements = [] if number is not None else key_elements(table, key)
    if elements is None:
        return None
    landed = pl.col(ROW) == number if number is not None else may_have_key(table, elements)
    frame = legacy_frame(environment.lake, environment.system.name, table, where=landed)
    found = frame.filter(has_key(table, elements)).sort(ROW).collect(engine="streaming")
    ordinal = int(elements[len(table.key)] or 0) if len(elements) > len(table.key) else 1
    last = found.height if table.has_unique_key else ordinal
    return found.slice(last - 1, 1) if 0 < last <= found.height else None


def texts(row: pl.DataFrame) -> dict[str, str | None]:
    """The values of a landed row by column."""
    return row.drop(ROW, UNDECODABLE).row(0, named=True)


def _row_number(table: LegacyTable, key: str) -> int | None:
    text = key.removeprefix("row ") if key.startswith("row ") else "" if table.key else key
    return int(text) if text.isdecimal() else None


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


def _way(
    environment: RunEnvironment,
    column: ColumnMapping,
    table: LegacyTable,
    row: Mapping[str, str | None],
    unmasked: bool,
    ids: ColumnKind = "integer",
    member: str | None = None,
) -> Facts:
    """How a column is made of a legacy row (empty where it is gone): by what, and the step that its value took.

    `ids`: how ids are compared where their crosswalk does not say it; `member`: the id that the row names in an array,
    where it is that which the column holds.
    """
    given = {name: _value(row.get(name), table.is_personal(name), unmasked) for name in column.local if row}
    facts: Facts = {"from": list(column.from_), "given": given}
    raw = row.get(column.local[0]) if column.local else None
    if column.is_constant:
        facts["by"] = f"the constant {plain(column.constant)}"
    elif column.value_map:
        facts["by"] = f"the value map {column.value_map}, column {column.output}"
        frame = environment.system.mappings.value_maps[column.value_map]
        entry = _entry(frame, raw, exact=column.exact)
        facts["step"] = "not listed" if entry is None else f"{plain(raw)} → {entry.get(str(column.output))}"
    elif column.cases:
        facts["by"] = f"the first line of the case table {column.cases} that fits"
    elif column.crosswalk:
        facts["by"] = f"the crosswalk {column.crosswalk}"
        facts["step"] = _hop(environment, column.crosswalk, raw, ids, member)
    elif column.transform:
        settings = f" with {column.with_}" if column.with_ else ""
        facts["by"] = f"the transform {column.transform}{settings}"
    elif column.by:
        facts["by"] = f"a function of the flow ({column.by})"
    else:
        facts["by"] = "the value as it is"
    if column.when:
        facts["only_under"] = f"{column.when.decision} = {' or '.join(column.when.option)}"
    if column.note:
        facts["note"] = column.note
    return facts


def _coercions(environment: RunEnvironment, mapping: SourceMapping, row: pl.DataFrame) -> dict[str, list[str]]:
    """The lossy changes of a row that its mapping counts, by column or helper.

    What the functions of a flow give to a column, and what they change themselves, is not known here.
    """
    run, transforms = environment.run_settings, environment.system.mappings.transforms
    columns = mapping.columns | mapping.helpers
    used = {column.crosswalk for column in columns.values() if column.crosswalk}
    used |= {use.partition(".")[0] for column in columns.values() for use in column.uses}
    landed = {name: manifest for name in used if (manifest := run.lake.manifest(run.key("mapping", name)))}
    context = transform_context(run, landed)
    found = {}
    for name, column in columns.items():
        given = {*column.local, *column.input}
        looked_up = {*filter(None, [column.crosswalk]), *(use.partition(".")[0] for use in column.uses)}
        known = looked_up <= {*landed, *context.value_maps}
        if given <= set(row.columns) and known and not column.cases:
            alone = mapping.model_copy(update={"columns": {name: column}, "helpers": {}})
            made = apply_columns(row, alone, context, transforms).item(0, "_coercions")
            if len(made):
                found[name] = sorted(made)
    return found


def _entry(frame: pl.DataFrame, raw: str | None, *, exact: bool) -> dict[str, Any] | None:
    key, wanted = pl.col(frame.columns[0]), pl.lit(raw, pl.String)
    found = frame.filter(key == wanted if exact else code(key) == code(wanted))
    return found.row(0, named=True) if found.height else None


def _hop(
    environment: RunEnvironment, crosswalk: str, raw: str | None, ids: ColumnKind, member: str | None = None
) -> str:
    manifest = environment.lake.manifest((environment.system.name, "mapping", crosswalk))
    if raw is None or manifest is None:
        return "NULL" if raw is None else "the crosswalk was not landed"
    context = transform_context(environment.run_settings, {crosswalk: manifest})
    listed = context.crosswalks[crosswalk]
    # A member stands in the mapping as the crosswalk has it.
    wanted = canonical_id(pl.lit(raw), context.id_kinds.get(crosswalk, ids)) if member is None else pl.lit(member)
    found = listed.filter(pl.col("source_id") == wanted).collect()
    raw = raw if member is None else member
    if found.is_empty():
        return f"{plain(raw)} → no entry"
    target = found.get_column("target_id")[0]
    return f"{plain(raw)} → {'a row that the target does not have' if target is None else target}"


def _value(value: object, personal: bool, unmasked: bool) -> str:
    if unmasked:
        return "NULL" if value is None else str(value)
    return mask(value) if personal else plain(value)


def _shown(row: Mapping[str, Any], is_personal: Callable[[str], bool], unmasked: bool) -> dict[str, str]:
    return {name: _value(value, is_personal(name), unmasked) for name, value in row.items()}


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
                given = ", ".join(f"{legacy} = {value}" for legacy, value in way["given"].items())
                step = f": {way['step']}" if way.get("step") else ""
                under = f", only under {way['only_under']}" if way.get("only_under") else ""
                source = f" of {way['source_table']}" if given else ""
                coerced = f" (coerced: {', '.join(way['coercions'])})" if way["coercions"] else ""
                yield f"      {given}{source}{', ' if given else ''}by {way['by']}{step}{coerced}{under}"
    for key, option in facts["decisions"].items():
        yield f"  decision {key} = {option}"
    for entry in facts["written_over"]:
        changes = ", ".join(f"{name} was {value}" for name, value in entry["before"].items())
        yield f"  updated by run {entry['run_id'][:8]} at {entry['at']}: {changes}"


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
