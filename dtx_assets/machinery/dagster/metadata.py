"""What an asset's page shows: column schemas, masked previews, accounting and lineage tables, links to the code.

The graph itself is `dagster_assets`; masking is `masking`.
"""

import inspect
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from dtx_assets.machinery.base.masking import mask_row
from dtx_assets.machinery.base.names import dagster_name
from dtx_assets.machinery.mapping.lineage import CONSTANT, PartLineage, cells_text
from dtx_assets.machinery.mapping.provenance import MadeOf
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetTable

if TYPE_CHECKING:
    from dtx_assets.machinery.base.lake import Manifest
    from dtx_assets.machinery.checks.obstacles import Obstacle

PLAN_DATA = "plan"
"""The metadata of report/plan that holds all of it."""
ACCOUNTING_DATA = "accounting data"
"""The entry that holds the accounting as data, beside the table that people read."""
BLOCKS = "blocks a cutover"
"""The entry of a check's definition that says whether it does: the gate is in the load, not Dagster's own."""
FOUND_IN = "found in"
"""The entry of a check's evaluation that names the run that found it, where nothing it reads has changed since."""
VERIFICATION_DATA = "verification data"
"""The entry of a verification's check that holds all of it."""
OBSTACLES_DATA = "in the way"
"""The entry of a check's evaluation that holds what it is red for, as data (`obstacles.as_json`)."""
TRUE_NAME = "true name"
"""The entry of an asset that Dagster cannot call as it is called."""
PREVIEW, BEYOND_PREVIEW = "preview (masked)", "columns beyond the preview"
"""The entries with the first rows of what was made, and with the columns that it has no room for."""
PARAGRAPH = "\n\n"
WORD_JOINER = "\u2060"
"""A sign without width: where it stands, no address is seen."""
_MARKUP = re.compile(r"[\\`\[\]<&|]")
_ENTITIES = {"<": "&lt;", "&": "&amp;"}
_AUTOLINK = re.compile(r"(?:https?|ftp|mailto|xmpp):|www(?=\.)|(?<=[\w.+-])(?=@[\w-]+\.[\w-])", re.IGNORECASE)
"""What Dagster's UI makes a link of without any markup."""
PREVIEW_ROWS = 5
LARGEST_OF_BROWSERS = 1 << 53
PREVIEW_COLUMNS = 12
REJECTED_MEANINGS = {
    "source_table": "The legacy table.",
    "source_key": "Its row: the key, or `row N`.",
    "source_row": "The number of the row in the extract, from 1.",
    "bucket": "The batch of preparing that the row is in.",
    "reasons": "Why, each by its name.",
    "partial": "Whether the row became something all the same, and only a part of it was rejected.",
    "detail": "What is wrong, in words, with the column.",
    "row": "The whole legacy row, as JSON: personal data.",
}
"""The columns of the rejected rows of a model (`prepare.REJECTED_SCHEMA`)."""
MAPPING_MEANINGS = {
    "source_id": "The legacy id, as a whole number.",
    "target_id": "The id in the target; NULL where the target does not have the row.",
}
"""The columns that crosswalks have."""


def closes_gate(spec: dg.AssetCheckSpec) -> bool:
    """Whether a check keeps a cutover back while it is red: one of structure does, and one that says so."""
    return spec.blocking or bool(spec.metadata.get(BLOCKS))


def gate_words(name: str, *, structure: bool) -> str:
    """What a check that closes the gate says of itself first: Dagster's UI calls each one of data `non-blocking`."""
    if structure:
        return (
            "**Closes the gate, of a rehearsal too.** While it is red, nothing that depends on this asset is made or"
            " loaded, and no acceptance changes that: mend what it finds, and run again."
        )
    return (
        "**Closes the gate of a cutover.** While it is red, a cutover loads nothing. Mend what it finds (each finding"
        f" says how), and run again; or accept it with a reason: `--accept '{name}=why'`, or `{name}: why` under"
        " resources → migration → config → accept of the launchpad."
    )


def described_check(key: dg.AssetCheckKey, description: str, *, structure: bool, blocking: bool) -> str:
    """The description of a check, after what it does to the gate."""
    if not structure and not blocking:
        return description
    return f"{gate_words(check_name(key), structure=structure)}{PARAGRAPH}{description}"


def own_description(spec: dg.AssetCheckSpec) -> str:
    """What a check says holds when it passes, without what it does to the gate."""
    return (spec.description or "").rpartition(PARAGRAPH)[2]


def asset_key(system: str, layer: str, name: str) -> dg.AssetKey:
    """The key of what is called so, in a likeness where Dagster does not take the name."""
    return dg.AssetKey([system, layer, dagster_name(name)])


def asset_name(key: dg.AssetKey) -> str:
    """What people call an asset, without its system: `target/EmailTemplate`."""
    return "/".join(key.path[1:])


def check_name(key: dg.AssetCheckKey) -> str:
    """What people call a check: `target/EmailTemplate:name_is_unique`."""
    return f"{asset_name(key.asset_key)}:{key.name}"


class Inert(str):
    """Markdown that is inert already."""


def inert(text: str) -> Inert:
    """Text, a legacy value above all, as Markdown that shows it and does nothing: no image, link, tag or new cell."""
    if isinstance(text, Inert):
        return text
    escaped = _MARKUP.sub(lambda sign: _ENTITIES.get(sign[0], f"\\{sign[0]}"), " ".join(text.split()))
    return Inert(_AUTOLINK.sub(f"\\g<0>{WORD_JOINER}", escaped))


def code(text: str) -> Inert:
    """A name in the type of code, where it can stand in it."""
    return Inert(f"`{text}`") if re.fullmatch(r"[\w./-]+", text) else inert(text)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MetadataValue:
    """A Markdown table; what stands in cells cannot break it."""
    lines = [_markdown_row(header), _markdown_row(["---"] * len(header)), *map(_markdown_row, rows)]
    return dg.MetadataValue.md("\n".join(lines))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.TableMetadataValue:
    """A table that Dagster's UI shows as it is, without a click; its cells are texts and no Markdown."""
    records = [
        {name: _shown(cell) for name, cell in row} for row in (zip(header, cells, strict=True) for cells in rows)
    ]
    columns = [dg.TableColumn(name, "string") for name in header]
    return dg.MetadataValue.table([dg.TableRecord(record) for record in records], dg.TableSchema(columns))


def _shown(cell: object) -> str | int | float:
    if cell is None:
        return ""
    # A browser rounds larger numbers, and knows no NaN.
    if isinstance(cell, str) or (isinstance(cell, int | float) and abs(cell) <= LARGEST_OF_BROWSERS):
        return cell
    return str(cell)


def _markdown_row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(inert(cell if isinstance(cell, str) else str(cell)) for cell in cells)} |"


def masked_preview(rows: pl.DataFrame, personal: Iterable[str]) -> dict[str, Any]:
    """The first rows of a frame, masked; columns beyond the twelfth are only named."""
    hidden = frozenset(personal)
    columns = [name for name in rows.columns if name != "_undecodable"]
    shown = columns[:PREVIEW_COLUMNS]
    masked = [mask_row(row, hidden) for row in rows.head(PREVIEW_ROWS).select(shown).iter_rows(named=True)]
    more = columns[PREVIEW_COLUMNS:]
    return {
        PREVIEW: table(shown, [[row[name] for name in shown] for row in masked]),
        **({BEYOND_PREVIEW: ", ".join(more)} if more else {}),
    }


def legacy_column_schema(table: LegacyTable) -> dg.TableSchema:
    """All columns are text in the lake; what kind of value it holds stands in the description."""

    def describe(name: str) -> str:
        facts: list[str] = [table.kind_of(name)]
        facts += ["key"] if name in table.key else []
        facts += ["required"] if name in table.required else []
        facts += ["personal, masked in previews"] if table.is_personal(name) else []
        return ", ".join(facts)

    return dg.TableSchema(
        [dg.TableColumn(name, "text", description=describe(name)) for name in table.columns],
        constraints=_unique(table.key) if table.has_unique_key else None,
    )


def dataset_column_schema(schema: pl.Schema, descriptions: Mapping[str, str]) -> dg.TableSchema:
    """The columns of a dataset of the lake, as Polars calls their types."""
    return dg.TableSchema(
        [dg.TableColumn(name, str(kind), description=descriptions.get(name, "")) for name, kind in schema.items()]
    )


def target_column_schema(table: TargetTable, descriptions: Mapping[str, str] | None = None) -> dg.TableSchema:
    """The columns of a target; `descriptions` say where each comes from, and follow its meaning."""
    columns = []
    for column in table.columns:
        meaning = column.description
        if column.needed_when:
            decision, *options = column.needed_when
            meaning += f" Needed when {decision} is {' or '.join(options)}."
        if origin := (descriptions or {}).get(column.name):
            meaning += f" {origin}"
        other = [f"references {column.references}"] if column.references else []
        other += [f"one of {', '.join(column.allowed)}"] if column.allowed else []
        columns.append(
            dg.TableColumn(
                column.name,
                column.type,
                description=meaning,
                constraints=dg.TableColumnConstraints(nullable=column.nullable, other=other),
            )
        )
    return dg.TableSchema(columns, constraints=_unique(table.natural_key))


def _unique(key: Sequence[str]) -> dg.TableConstraints | None:
    return dg.TableConstraints(other=[f"unique ({', '.join(key)})"]) if key else None


def lineage_metadata(
    lineage: Mapping[str, Sequence[tuple[Sequence[str], str]]], parts: Sequence[PartLineage] = ()
) -> dict[str, Any]:
    """Column lineage for Dagster, and the same as tables, because the open-source UI does not show the first.

    What differs between the parts of a legacy row is a table of its own, a line for each part.
    """
    deps = {
        column: [dg.TableColumnDep(asset_key(*key), name) for key, name in sources]
        for column, sources in lineage.items()
        if sources
    }
    grouped: dict[tuple[str, str], list[PartLineage]] = {}
    for part in parts:
        grouped.setdefault((part.called, part.table), []).append(part)
    # One a line, as wide as the UI has room for.
    rows = [
        (column if place == 0 else "", origin)
        for column, sources in lineage.items()
        for place, origin in enumerate(_origins(column, sources, grouped))
    ]
    return {
        "dagster/column_lineage": dg.TableColumnLineage(deps),
        "columns come from": table(("column", "from"), rows),
        **{_cells_by(*place): _cells_table(place[0], each) for place, each in grouped.items()},
    }


def _cells_by(called: str, table_name: str) -> str:
    return f"cells by {called} of {table_name}"


def _origins(
    column: str,
    sources: Sequence[tuple[Sequence[str], str]],
    grouped: Mapping[tuple[str, str], Sequence[PartLineage]],
) -> list[str]:
    """What a column comes from; for the cells of a table that are listed part by part, the name of that list."""
    lists = {
        table_name: f'see "{_cells_by(called, table_name)}"'
        for (called, table_name), parts in grouped.items()
        if any(column in part.columns for part in parts)
    }
    found = [
        (lists.get(key[2]) if key[1] == "legacy" else None) or f"{'/'.join(key[1:])}.{name}" for key, name in sources
    ]
    return list(dict.fromkeys((*found, *lists.values()))) or [CONSTANT]


def _cells_table(called: str, parts: Sequence[PartLineage]) -> dg.TableMetadataValue:
    columns = list(dict.fromkeys(name for part in parts for name in part.columns))
    empty = MadeOf(())
    return table(
        (called, *columns),
        [(part.part, *(cells_text(part.columns.get(name, empty)) for name in columns)) for part in parts],
    )


def accounting_metadata(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The accounting of spec 5 for people, and the same as data."""
    rows = [
        (
            entry["source_table"],
            entry["target_table"],
            f"{entry['read']:,}",
            f"{entry['migrated']:,}",
            f"{entry['rejected']:,}",
            counts_text(entry["dropped"]),
        )
        for entry in entries
    ]
    header = ("source", "target", "read", "migrated", "rejected", "dropped by rule")
    return {"accounting": table(header, rows), ACCOUNTING_DATA: dg.MetadataValue.json(list(entries))}


def check_metadata(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a check found, lists of rows and counts by value as tables that can be read without opening them."""
    return {name: _readable(fact) for name, fact in facts.items()}


def _readable(fact: Any) -> Any:
    if isinstance(fact, Mapping) and fact:
        counted = all(isinstance(value, int | float) for value in fact.values())
        return table(("value", "count" if counted else "says"), list(fact.items()))
    if isinstance(fact, list | tuple) and fact:
        if all(isinstance(item, Mapping) for item in fact):
            columns = list(dict.fromkeys(name for item in fact for name in item))
            return table(columns, [[item.get(name, "") for name in columns] for item in fact])
        if all(isinstance(item, str | int | float) for item in fact):
            return ", ".join(map(str, fact))
    return fact


POINTS = "points in the way"
"""The entry of the report that says how many, run by run."""
OBSTACLES_SHOWN = ("owner", "found", "do", "rows", "what", "accepted")
"""Who, and for what, first: of a table wider than its cell the UI shows the first columns, and a name is as wide as it
is long."""
RED_SHOWN = OBSTACLES_SHOWN[:-1]
RED_FOR, ACCEPTING = "closes the gate for", "accept it with"
"""The entries of a red check's evaluation that people read first."""


def obstacle_row(obstacle: "Obstacle", *, accepted: bool) -> tuple[Any, ...]:
    """What stands in the way, as a row under OBSTACLES_SHOWN."""
    rows = "" if obstacle.rows is None else f"{obstacle.rows:,}"
    found = f"{obstacle.about}: {obstacle.finding}" if obstacle.about else obstacle.finding
    told = (obstacle.answers_for_it, found, obstacle.remedy, rows, obstacle.name)
    return (*told, "yes" if accepted else "no")


def obstacles_table(found: Iterable["Obstacle"], accepted: Collection[str] = ()) -> dg.TableMetadataValue:
    """What stands in the way, each with what was found, its rows, who has to do what, and whether it is accepted."""
    return table(OBSTACLES_SHOWN, [obstacle_row(each, accepted=each.is_accepted(accepted)) for each in found])


def red_metadata(found: Sequence["Obstacle"], *, structure: bool = False) -> dict[str, Any]:
    """What a check that closes the gate says first where it is red: for what, who mends it how, how to accept it."""
    if not found:
        return {}
    names = [each.name for each in found]
    accepting = "cannot be accepted" if structure else " ".join(f"--accept '{name}=why'" for name in names)
    return {
        RED_FOR: table(RED_SHOWN, [obstacle_row(each, accepted=False)[:-1] for each in found]),
        ACCEPTING: accepting,
        OBSTACLES_DATA: dg.MetadataValue.json([each.as_json() for each in found]),
    }


def facts_text(metadata: Mapping[str, Any]) -> str:
    """What the metadata of a check says, as one line; not what is there as data, nor what its obstacles say."""
    hidden = (VERIFICATION_DATA, OBSTACLES_DATA, RED_FOR, ACCEPTING)
    return "; ".join(f"{name}: {_line(value)}" for name, value in metadata.items() if name not in hidden)


def _line(value: Any) -> str:
    if not isinstance(value, dg.TableMetadataValue):
        return str(value.value)
    rows = [[f"{cell}" for cell in record.data.values() if cell != ""] for record in value.records]
    return ", ".join(" ".join(row) for row in rows)


def counts_text(counts: Mapping[str, int]) -> str:
    """`empty 12, identical 1`; `–` for none."""
    return ", ".join(f"{name} {rows:,}" for name, rows in sorted(counts.items())) or "–"


def dataset_metadata(manifest: "Manifest", path: str, run_id: str) -> dict[str, Any]:
    rows = manifest.tables["rows"].rows if "rows" in manifest.tables else 0
    return {
        "dagster/row_count": rows,
        "lake path": dg.MetadataValue.path(path),
        "lake version": manifest.version,
        "written": "reused: nothing it depends on has changed" if manifest.run_id != run_id else "by this run",
    }


def code_references(project: Path, *sources: Callable[..., Any] | Path) -> dict[str, Any]:
    """Links from an asset's page to the functions and files that make it. Files are shown relative to `project`."""
    references = []
    for source in sources:
        if isinstance(source, Path):
            path, line = source, 1
        else:
            function = source.func if isinstance(source, partial) else source
            path, line = Path(inspect.getfile(function)), inspect.getsourcelines(function)[1]
        label = path.relative_to(project).as_posix() if path.is_relative_to(project) else path.name
        references.append((path, line, label))
    with warnings.catch_warnings():
        # Links to the code are in beta in Dagster 1.13; what is lost with them is a link.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return {
            "dagster/code_references": dg.CodeReferencesMetadataValue(
                code_references=[
                    dg.LocalFileCodeReference(file_path=str(path), line_number=line, label=label)
                    for path, line, label in references
                ]
            )
        }
