"""The files of a system, drafted from what was found on both sides and what names and types suggest.

Here is what they say; writing them without overwriting anybody's edits is `write`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from dtx_assets.machinery.declare.documents import Side, mapping_of_sides
from dtx_assets.machinery.declare.suggest import Suggestion, Suggestions, looks_personal, model_names, suggest
from dtx_assets.machinery.mapping.load import ARCHIVED, DECISIONS, TABLES, TARGETS
from dtx_assets.machinery.postgres.catalogue import FoundTarget
from dtx_assets.machinery.sources.found import FoundTable
from dtx_assets.machinery.transforms.columns import GENERIC, Registry

ROWS, FIRST = "rows_as_they_are", "A1 #1"
"""The decision that each mapping is under, and its number."""
TO_CONFIRM = "whoever owns the plan"
LINE = 118


@dataclass(frozen=True)
class Drafts:
    """`files`: content by name; what was suggested goes with them, for a summary."""

    files: Mapping[str, str]
    suggestions: Suggestions


def drafts(tables: Sequence[FoundTable], targets: Sequence[FoundTarget], transforms: Registry = GENERIC) -> Drafts:
    """The declarations, decisions and mapping files of a system."""
    suggestions = suggest(tables, targets, transforms)
    targets = [target for target in targets if target.key]
    models = model_names(targets)
    files = {
        TABLES: yaml_text({**_of_documents(tables), "tables": {table.name: _table(table) for table in tables}}),
        TARGETS: yaml_text({"targets": {models[each.full_name]: _target(each, suggestions) for each in targets}}),
        DECISIONS: yaml_text({"decisions": _decisions(tables, suggestions, models)}),
        ARCHIVED: yaml_text(
            {
                "archived": {},
                "undecided": {table.name: "no target looks alike" for table in suggestions.tables_without_target},
            }
        ),
        **{f"{models[pair.target.full_name]}.yaml": _mapping(pair, models) for pair in suggestions.pairs},
        **{
            f"{models[target.full_name]}.yaml": _empty_mapping(target, models[target.full_name])
            for target in suggestions.targets_without_table
        },
        **{f"{models[name]}.yaml": _junction(models[name], sides) for name, sides in suggestions.junctions.items()},
    }
    return Drafts(files, suggestions)


def found_facts(tables: Iterable[FoundTable], targets: Iterable[FoundTarget]) -> dict[str, Any]:
    """What was found on both sides, as plain data: what `--check` compares with."""
    return {
        "legacy": {
            table.full_name: {
                "key": list(table.key),
                "columns": {
                    column.name: f"{column.type}{'' if column.nullable else ' NOT NULL'}" for column in table.columns
                },
            }
            for table in tables
        },
        "target": {
            target.full_name: {
                "key": list(target.key),
                "unique": [list(key) for key in target.unique_keys],
                "references": dict(target.references),
                **({"refers_to": list(target.refers_to)} if target.refers_to else {}),
                "columns": {column.name: _spelt(asdict(column)) for column in target.columns},
            }
            for target in targets
        },
    }


def _spelt(column: Mapping[str, Any]) -> str:
    """A column of the target in one text, as SQL would have it."""
    parts = [f"{column['type']}({column['length']})" if column["length"] else column["type"]]
    parts += [] if column["nullable"] else ["NOT NULL"]
    parts += [f"DEFAULT {column['default']}"] if column["default"] else []
    parts += [f"GENERATED {column['identity'].upper()} AS IDENTITY"] if column["identity"] else []
    parts += ["GENERATED ALWAYS"] if column["generated"] else []
    parts += [f"of {', '.join(column['labels'])}"] if column["labels"] else []
    return " ".join(parts)


# --- declarations -----------------------------------------------------------------------------------------------------


def _of_documents(tables: Sequence[FoundTable]) -> dict[str, Any]:
    """What holds for all collections: which kinds their fields are of."""
    if not any(table.documents for table in tables):
        return {}
    return {"kinds_by_name": flow({"object_id": ["_id"], "json": ["*"]}), "coerced": "values"}


def _table(table: FoundTable) -> dict[str, Any]:
    if table.documents:
        personal = [column.name for column in table.columns if looks_personal(column)]
        return {
            "documents": True,
            "key": flow(table.key),
            **({"personal": flow(personal)} if personal else {}),
            "columns": flow([column.name for column in table.columns]),
        }
    return {
        **({"schema": table.schema} if table.schema else {}),
        **({"key": flow(table.key)} if table.key else {}),
        "columns": {
            column.name: flow({"kind": column.kind, "personal": True}) if looks_personal(column) else column.kind
            for column in table.columns
        },
    }


def _target(target: FoundTarget, suggestions: Suggestions) -> dict[str, Any]:
    pair = suggestions.of_target(target.full_name)
    written = pair.key_is_written if pair else len(target.key) != 1
    natural = [key for key in target.unique_keys if all(_is_written(target, name) for name in key)]
    columns = {}
    for column in target.columns:
        if column.generated or (not written and column.name in target.key):
            continue
        facts = {
            "type": column.type,
            **({"length": column.length} if column.length else {}),
            **({"nullable": True} if column.nullable else {}),
            **({"references": target.references[column.name]} if column.name in target.references else {}),
            **({"allowed": list(column.labels)} if column.labels else {}),
            **({"default": column.default or "its identity"} if column.is_given else {}),
        }
        columns[column.name] = column.type if set(facts) == {"type"} else flow(facts)
    return {
        "table": target.name,
        **({"schema": target.schema} if target.schema else {}),
        "key": flow(target.key),
        **({"key_is_written": True} if written else {}),
        **({"natural_key": flow(natural[0])} if len(natural) == 1 else {}),
        **({"refers_to": flow(target.refers_to)} if target.refers_to else {}),
        **({"meaning": target.comment} if target.comment else {}),
        "columns": columns,
    }


def _is_written(target: FoundTarget, name: str) -> bool:
    return not next(column for column in target.columns if column.name == name).generated


# --- mappings ---------------------------------------------------------------------------------------------------------


def _mapping(pair: Suggestion, models: Mapping[str, str]) -> str:
    return yaml_text(
        {
            "target": models[pair.target.full_name],
            "decision": FIRST,
            "sources": {
                pair.legacy.name: {
                    "columns": {name: flow(entry) for name, entry in pair.columns.items()},
                    **({"dropped": pair.dropped} if pair.dropped else {}),
                    **({"undecided": pair.unread} if pair.unread else {}),
                }
            },
            **({"undecided": pair.undecided} if pair.undecided else {}),
        }
    )


def _junction(model: str, sides: Sequence[Side]) -> str:
    sources = mapping_of_sides(sides)
    for source in sources.values():
        source["members"] = flow(source["members"])
    return yaml_text({"target": model, "decision": FIRST, "sources": sources})


def _empty_mapping(target: FoundTarget, model: str) -> str:
    columns = {
        column.name: "no legacy table looks alike"
        for column in target.columns
        if not column.generated and not (len(target.key) == 1 and column.name in target.key)
    }
    return yaml_text({"target": model, "decision": FIRST, "sources": {}, "undecided": columns})


# --- decisions --------------------------------------------------------------------------------------------------------


def _decisions(
    tables: Sequence[FoundTable], suggestions: Suggestions, models: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One decision for each kind of guess, which lists all guesses of the kind."""
    pairs = suggestions.pairs
    every = [models[pair.target.full_name] for pair in pairs]
    kept = [pair for pair in pairs if pair.key_is_written]
    given = [pair for pair in pairs if not pair.key_is_written]
    guessed_tables = [pair for pair in pairs if pair.table_is_guessed]
    guessed_columns = [pair for pair in pairs if pair.guesses]
    sampled = [table.name for table in tables if table.guessed]
    keyless = [table.name for table in tables if not table.key]
    personal = [f"{table.name}.{column.name}" for table in tables for column in table.columns if looks_personal(column)]
    unloadable = [target.full_name for target in suggestions.targets_without_key]
    instants = [pair for pair in pairs if any(entry.get("transform") == "timestamp" for entry in pair.columns.values())]

    sides = [(name, side) for name, each in suggestions.junctions.items() for side in each]

    def of(concerned: Iterable[Suggestion]) -> list[str]:
        return [models[pair.target.full_name] for pair in concerned]

    guesses: list[tuple[str, str, str, list[str]]] = [
        (
            "ids",
            "Which ids are kept",
            f"Kept: {_listed(pair.target.full_name for pair in kept)}. Given anew by the target, the legacy id being"
            f" kept in migration.mapping: {_listed(pair.target.full_name for pair in given)}.",
            every,
        ),
        (
            "tables_by_likeness",
            "Tables that only look alike",
            f"{_listed(f'{pair.legacy.name} → {pair.target.full_name}' for pair in guessed_tables)}.",
            of(guessed_tables),
        ),
        (
            "columns_by_likeness",
            "Columns that only look alike",
            f"{_listed(guess for pair in guessed_columns for guess in pair.guesses)}.",
            of(guessed_columns),
        ),
        (
            "kinds_of_files",
            "Kinds and keys that only rows show",
            f"A CSV does not say them, and SQLite no times; they were concluded from rows of {_listed(sampled)}.",
            every if sampled else [],
        ),
        (
            "arrays_of_ids",
            "Arrays that give the pairs of a table",
            f"By the ids that they hold: {_listed(_shown(side, name) for name, side in sides)}. A pair that one side"
            " only names is written, too.",
            [models[name] for name in suggestions.junctions],
        ),
        (
            "tables_without_key",
            "Tables without a key",
            f"Rows of {_listed(keyless)} are told apart by their place in the table alone: name a key that they have.",
            of(pair for pair in pairs if not pair.legacy.key),
        ),
        (
            "targets_without_key",
            "Target tables without a key",
            f"Nothing tells the rows of {_listed(unloadable)} apart, so that nothing is loaded into them: give each a"
            " primary key in the target, and run `dtx init` again.",
            every if unloadable else [],
        ),
        (
            "personal_columns",
            "Personal data",
            f"Masked wherever people look, by their names: {_listed(personal)}.",
            of(pair for pair in pairs if any(map(looks_personal, pair.legacy.columns))),
        ),
        (
            "time_zone",
            "The zone of naive times",
            "Times without an offset are of the zone that the variable LEGACY_TIMEZONE of the system names, else UTC.",
            of(instants),
        ),
        (
            "instants_without_zone",
            "Instants in columns without a zone",
            "Given by the clock of the zone that the variable LEGACY_TIMEZONE of the system names, else UTC:"
            f" {_listed(guess for pair in pairs for guess in pair.by_a_clock)}.",
            of(pair for pair in pairs if pair.by_a_clock),
        ),
        (
            "bytes_as_text",
            "Bytes that are read as text",
            "Read as UTF-8; a row whose bytes are none is rejected:"
            f" {_listed(guess for pair in pairs for guess in pair.texts_of_bytes)}.",
            of(pair for pair in pairs if pair.texts_of_bytes),
        ),
    ]
    entries = [
        {
            "key": ROWS,
            "area": 1,
            "number": "1",
            "title": "A row for a row",
            "text": "Each row of a legacy table becomes one row of the target that it is mapped to.",
            "status": "documented",
        }
    ]
    for key, title, text, affects in guesses:
        if affects:
            entries.append(
                {
                    "key": key,
                    "area": 1,
                    "number": str(len(entries) + 1),
                    "title": title,
                    "text": text,
                    "status": "open",
                    "confirm_by": TO_CONFIRM,
                    "affects": flow(affects),
                }
            )
    return entries


def _shown(side: Side, target: str) -> str:
    return f"{side.collection}.{side.field} → {target}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


# --- YAML -------------------------------------------------------------------------------------------------------------


def flow(value: Any) -> Any:
    """A list or mapping that is written in one line, as `{ type: text, nullable: true }`."""
    node = CommentedMap(value) if isinstance(value, Mapping) else CommentedSeq(value)
    node.fa.set_flow_style()
    return node


def yaml_text(content: Any) -> str:
    yaml = YAML()
    yaml.width = LINE
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()
