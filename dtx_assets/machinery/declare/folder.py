"""A system made of its folder: `tables.yaml`, `targets.yaml`, `decisions.yaml`, mapping files and value maps.

What no table of columns can say is Python, and is handed in: transforms and functions of the system's own.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from pydantic import BaseModel

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.names import RENAME, unusable_names
from dtx_assets.machinery.base.settings import Schemas, decisions_paths, schemas_of
from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model, suggestion
from dtx_assets.machinery.declare.model import (
    MIGRATION,
    CrosswalkFile,
    LeadsTo,
    LegacyTableFile,
    TablesFile,
    TargetsFile,
    TargetTableFile,
)
from dtx_assets.machinery.declare.own_rows import keys_crosswalk, own_crosswalk, prepared_crosswalk
from dtx_assets.machinery.feeds.load import FeedContext, Feeds, load_feeds
from dtx_assets.machinery.look_ups.assets import MappingAsset, crosswalk_asset, look_up_asset, value_map_asset
from dtx_assets.machinery.mapping.conditions import is_active
from dtx_assets.machinery.mapping.decisions import Asked, Decisions, decisions_under, load_decisions
from dtx_assets.machinery.mapping.load import DECISIONS, FEEDS, TABLES, TARGET_SQL, TARGETS, Mappings, load_mappings
from dtx_assets.machinery.mapping.model import When
from dtx_assets.machinery.model.legacy import ColumnKind, LegacyTable
from dtx_assets.machinery.model.references import load_order
from dtx_assets.machinery.model.target import OTHER_AREAS, TargetColumn, TargetTable
from dtx_assets.machinery.postgres.other_rows import load_other_rows
from dtx_assets.machinery.prepare.derived import derived_flows
from dtx_assets.machinery.prepare.generic_key import content_types
from dtx_assets.machinery.prepare.parts import read_names
from dtx_assets.machinery.sources.csv_files import CsvAlone
from dtx_assets.machinery.system.phase import Phase
from dtx_assets.machinery.system.question import Question
from dtx_assets.machinery.system.system import OwnChecks, SeedEmbedded, System
from dtx_assets.machinery.transforms.columns import GENERIC, Registry

File = TypeVar("File", bound=BaseModel)
Given = ParamSpec("Given")


def decided(system: System) -> System:
    """The system under the decisions that the environment chooses otherwise, if any."""
    override, demonstration = decisions_paths(system.name)
    if override is None and demonstration is None:
        return system
    return system.under(decisions_under(system.mappings_dir / DECISIONS, system.name, override, demonstration))


def declared_system(
    name: str,
    mappings_dir: Path,
    *,
    code_dir: Path,
    sample_dir: Path | None = None,
    transforms: Registry = GENERIC,
    functions: Mapping[str, Callable[..., object]] | None = None,
    references: Sequence[MappingAsset] = (),
    seed_embedded: SeedEmbedded | None = None,
    checks: OwnChecks | None = None,
    sample_functions: Mapping[str, Callable[..., object]] | None = None,
    write_sample: Callable[..., dict[str, int]] | None = None,
) -> System:
    """The system that a folder declares, under the decisions that the folder itself chooses.

    `code_dir`: where the system's Python lies; `sample_dir`: the legacy tables where no URL names others, by default
    `legacy` beside the folder of all mappings; `references`: look-ups that code makes; `seed_embedded` fills the tables
    of others in the embedded database; `checks`: those that the declarations do not call for. Where the folder has the
    schema of the target as its application makes it, TARGET_SQL, the embedded database is made of that.
    ConfigurationError names all that is wrong, with file and line.
    """
    tables, targets = read_declarations(mappings_dir)
    schemas = schemas_of(name)
    decisions = load_decisions(mappings_dir / DECISIONS)
    first = next(iter(tables.areas), MIGRATION)
    legacy_tables = {
        table: replace(declared, schema=schemas.legacy or declared.schema, unreadable_key=tables.unreadable_keys)
        for table, declared in (
            (table, legacy_table(table, entry, first, tables.kinds_by_name)) for table, entry in tables.tables.items()
        )
    }
    declared_targets = in_schemas(
        [target_table(model, declared, first) for model, declared in targets.targets.items()], schemas
    )
    own = {table.name: table for table in declared_targets if not table.key_is_written}
    keyed = {table.model: table for table in declared_targets if table.key_is_written and len(table.key) == 1}
    looked_up = {model: table for model, table in targets.targets.items() if table.looked_up}
    handed_over = {
        crosswalk: (table, leads_to)
        for table, declared in tables.crosswalks.items()
        for crosswalk, leads_to in declared.crosswalks(table).items()
    }
    references = [
        *references,
        *(
            keys_crosswalk(called, table, target)
            for target in declared_targets
            for called, table in targets.targets[target.model].called.items()
        ),
    ]
    through = [asset.name for asset in references if asset.is_crosswalk]
    mappings = load_mappings(
        mappings_dir,
        legacy_tables=legacy_tables,
        targets=declared_targets,
        transforms=transforms,
        functions=functions or {},
        crosswalks=tuple(dict.fromkeys((*handed_over, *through, *looked_up, *own, *keyed))),
        decisions=decisions,
        references=[asset.name for asset in references if not asset.is_crosswalk],
        must_be_filled=_must_be_filled(targets),
    )
    _require_value_maps(mappings_dir, tables, mappings)
    named = {table.model: table.names[0] for table in declared_targets}
    filled = tuple(
        _as_filled(table, mappings, targets.targets[table.model], named)
        for table in mappings.completed(declared_targets)
    )
    makers = derived_flows(mappings, legacy_tables)
    entries = (entry for mapping in mappings.targets.values() for entry in mapping.sources.values())
    used = {name for entry in entries for name in read_names(entry)}
    crosswalks = {
        table: replace(
            legacy_table(table, declared, OTHER_AREAS, tables.kinds_by_name), key=declared.key or (declared.source_id,)
        )
        for table, declared in tables.crosswalks.items()
    }
    assets: list[MappingAsset] = [
        *(
            _handed_over_asset(crosswalk, crosswalks[table], tables.crosswalks[table].source_id, leads_to, named)
            for crosswalk, (table, leads_to) in handed_over.items()
        ),
        *references,
        *(
            own_crosswalk(table, mappings, legacy_tables)
            for crosswalk, table in own.items()
            if crosswalk in used and crosswalk not in (*handed_over, *through, *looked_up)
        ),
        *(
            prepared_crosswalk(table, mappings.targets)
            for model, table in keyed.items()
            if model in used and model in mappings.targets and model not in (*handed_over, *through, *looked_up, *own)
        ),
        *(
            look_up_asset(table, targets.targets[table.model].looked_up)
            for table in declared_targets
            if table.model in looked_up
        ),
        *(
            value_map_asset(name, value_map, mappings, area=_area_of(value_map, mappings, legacy_tables) or first)
            for value_map in mappings.value_maps
        ),
        *([content_types(first)] if any(table.generic_key for table in legacy_tables.values()) else []),
    ]
    _require_own_names(assets, mappings, mappings_dir)
    others_first = sorted(filled, key=lambda target: target.area != OTHER_AREAS)
    feeds = _feeds(tables, mappings_dir, legacy_tables, declared_targets, assets, decisions)
    system = System(
        name=name,
        legacy_tables=legacy_tables,
        crosswalk_tables=crosswalks,
        targets=filled,
        flow_makers=(*makers, *(feeds.flow_makers if feeds else ())),
        decisions=decisions,
        mapping_assets=tuple(assets),
        mappings=mappings,
        mappings_dir=mappings_dir,
        code_dir=code_dir,
        sample_dir=sample_dir or mappings_dir.parents[1] / "legacy",
        areas={**tables.areas, OTHER_AREAS: tables.areas.get(OTHER_AREAS, "Tables that others own")},
        questions=tuple(map(_question, decisions.questions)),
        feeds=feeds,
        seed_embedded=seed_embedded or partial(load_other_rows, targets=others_first),
        batch_rows=tables.batch_rows,
        coerced=tables.coerced,
        checks=checks,
        sample_functions=sample_functions or {},
        write_sample=write_sample,
        target_sql=target_sql if (target_sql := mappings_dir / TARGET_SQL).is_file() else None,
        extra=tables.extra,
        phases=tuple(Phase(number, entry.area, entry.rules) for number, entry in enumerate(tables.phases, 1)),
        sources={
            table: partial(_own_file, mappings_dir, table, declared.file)
            for table, declared in tables.tables.items()
            if declared.file
        },
        owner=tables.owner,
        owners=_owners(tables, targets),
    )
    return system.under(decisions)


def _own_file(mappings_dir: Path, table: str, file: str, _s3: object) -> CsvAlone:
    """A table that lies beside the mapping files."""
    named_at = YamlFile(mappings_dir / TABLES).where(("tables", table, "file"))
    return CsvAlone(str(mappings_dir / file), named_at=named_at)


def under_environment(make: Callable[Given, System]) -> Callable[Given, System]:
    """The same way to make a system, under the decisions that the environment chooses otherwise, if any."""

    def made(*arguments: Given.args, **options: Given.kwargs) -> System:
        return decided(make(*arguments, **options))

    return made


system_from_folder = under_environment(declared_system)


def _question(asked: Asked) -> Question:
    return Question(
        asked.name, asked.text, asked_when=lambda chosen: is_active(asked.when, chosen), owner=asked.owner or ""
    )


def _owners(tables: TablesFile, targets: TargetsFile) -> dict[tuple[str, str], str]:
    """Who is named to answer for a dataset, by layer and name; a crosswalk goes by both of its names."""
    named = {
        **{("legacy", name): table.owner for name, table in tables.tables.items()},
        **{("crosswalk", name): table.owner for name, table in tables.crosswalks.items()},
        **{
            ("mapping", called): table.owner
            for name, table in tables.crosswalks.items()
            for called in table.crosswalks(name)
        },
        **{("mapping", name): entry.owner for name, entry in tables.value_maps.items()},
        **{("target", model): table.owner for model, table in targets.targets.items()},
    }
    return {dataset: owner for dataset, owner in named.items() if owner}


def _area_of(value_map: str, mappings: Mappings, legacy_tables: Mapping[str, LegacyTable]) -> str | None:
    """The area of the first table whose rows go through a value map; None where only checks read it."""
    read = (
        legacy_tables[table].area
        for mapping in mappings.targets.values()
        for table, entry in mapping.sources.items()
        if value_map in read_names(entry)
    )
    return next(read, None)


def _feeds(
    tables: TablesFile,
    mappings_dir: Path,
    legacy_tables: Mapping[str, LegacyTable],
    targets: Sequence[TargetTable],
    assets: Iterable[MappingAsset],
    decisions: Decisions,
) -> Feeds | None:
    if tables.feeds is None:
        return None
    crosswalks = {
        asset.name: name
        for asset in assets
        if asset.kind == "crosswalk"
        for layer, name in asset.upstream
        if layer == "target"
    }
    context = FeedContext(
        legacy_tables,
        targets,
        crosswalks,
        decisions.entry(tables.feeds.decision),
        tables.feeds.option,
        tables.feeds.area or next(iter(tables.areas)),
    )
    return load_feeds(mappings_dir / FEEDS, context)


# --- the files --------------------------------------------------------------------------------------------------------


def read_declarations(mappings_dir: Path) -> tuple[TablesFile, TargetsFile]:
    """Both sides as they are declared; ConfigurationError lists all that is wrong with the two files."""
    findings = Findings()
    tables = _read(mappings_dir / TABLES, TablesFile, findings)
    targets = _read(mappings_dir / TARGETS, TargetsFile, findings)
    if tables and targets:
        _check_names(tables, targets, findings)
        _check_order(*targets, findings)
    findings.raise_if_any()
    assert tables
    assert targets
    return tables[1], targets[1]


def _read(path: Path, model: type[File], findings: Findings) -> tuple[YamlFile, File] | None:
    try:
        file = YamlFile(path)
    except ConfigurationError as error:
        findings.errors.append(error)
        return None
    parsed = parse_model(file, model, findings)
    return (file, parsed) if parsed else None


def _check_names(
    tables: tuple[YamlFile, TablesFile], targets: tuple[YamlFile, TargetsFile], findings: Findings
) -> None:
    """What one file says that the other, or another entry, does not know."""
    (tables_file, legacy), (targets_file, target) = tables, targets
    areas = (*legacy.areas, OTHER_AREAS)
    crosswalks = (
        ["crosswalks", name, "leads_to", called] if crosswalk.leads_to else ["crosswalks", name]
        for name, crosswalk in legacy.crosswalks.items()
        for called in crosswalk.crosswalks(name)
    )
    _check_assets(
        tables_file,
        [*(["tables", name] for name in legacy.tables), *(["crosswalks", name] for name in legacy.crosswalks)],
        findings,
    )
    _check_assets(tables_file, list(crosswalks), findings)
    _check_assets(targets_file, [["targets", model] for model in target.targets], findings)
    for number, phase in enumerate(legacy.phases):
        _check_area(tables_file, ["phases", number, "area"], phase.area, areas, findings)
    for name, table in legacy.tables.items():
        _check_area(tables_file, ["tables", name, "area"], table.area, areas, findings)
    for name, crosswalk in legacy.crosswalks.items():
        _check_crosswalk(tables_file, name, crosswalk, target, areas, findings)
    names = {name for table in target.targets.values() for name in _names_of(table)}
    for model, entry in target.targets.items():
        for called, ids_of in entry.called.items():
            if ids_of not in legacy.tables:
                where = targets_file.where(["targets", model, "called", called])
                findings.add(f"there is no legacy table {ids_of!r}", where, suggestion(ids_of, legacy.tables))
    for model, declared in target.targets.items():
        for first in declared.loaded_after:
            if first not in target.targets:
                where = targets_file.where(["targets", model, "loaded_after"])
                findings.add(f"there is no target model {first!r}", where, suggestion(first, target.targets))
        for referred in declared.refers_to:
            if referred not in names:
                where = targets_file.where(["targets", model, "refers_to"])
                findings.add(f"there is no target table {referred!r}", where, suggestion(referred, names))
        _check_area(targets_file, ["targets", model, "area"], declared.area, areas, findings)
        for name, column in declared.columns.items():
            if column.references and column.references not in names:
                findings.add(
                    f"{model}.{name} refers to {column.references!r}, which is no target table",
                    targets_file.where(["targets", model, "columns", name, "references"]),
                    suggestion(column.references, names),
                )


def _check_assets(file: YamlFile, places: Sequence[list[str]], findings: Findings) -> None:
    """What stands last in each place is the name of an asset of its own."""
    for position, why in unusable_names(place[-1] for place in places):
        findings.add(why, file.where(places[position]), RENAME)


def _check_order(file: YamlFile, targets: TargetsFile, findings: Findings) -> None:
    try:
        load_order({model: declared.loaded_after for model, declared in targets.targets.items()})
    except ValueError as error:
        findings.add(
            f"models are loaded one after another in a circle: {error}",
            file.where(["targets"]),
            "take one of them out of `loaded_after`",
        )


def _check_crosswalk(
    file: YamlFile, name: str, crosswalk: CrosswalkFile, target: TargetsFile, areas: Iterable[str], findings: Findings
) -> None:
    own: list[str | int] = ["crosswalks", name]
    columns: list[tuple[list[str | int], str]] = [([*own, "source_id"], crosswalk.source_id)]
    for called, leads_to in crosswalk.crosswalks(name).items():
        place = [*own, "leads_to", called] if crosswalk.leads_to else own
        if leads_to.target not in target.targets:
            findings.add(
                f"there is no target model {leads_to.target!r}",
                file.where([*place, "target"]),
                suggestion(leads_to.target, target.targets),
            )
        _check_area(file, [*place, "area"], leads_to.area, areas, findings)
        columns.append(([*place, "target_id"], leads_to.target_id))
        columns += (([*place, "extras"], extra) for extra in leads_to.extras)
    for place, column in columns:
        if column not in crosswalk.columns:
            findings.add(f"{name} has no column {column!r}", file.where(place), suggestion(column, crosswalk.columns))


def _names_of(table: TargetTableFile) -> Iterable[str]:
    return (table.table, f"{table.lies_in}.{table.table}") if table.lies_in else (table.table,)


def _check_area(file: YamlFile, place: list[str | int], area: str, areas: Iterable[str], findings: Findings) -> None:
    if area and area not in areas:
        findings.add(f"there is no area {area!r}", file.where(place), suggestion(area, areas))


# --- what they declare ------------------------------------------------------------------------------------------------


def legacy_table(
    name: str, declared: LegacyTableFile, first_area: str, by_name: Mapping[ColumnKind, Sequence[str]]
) -> LegacyTable:
    kinds = {column: entry.kind for column, entry in declared.columns.items() if entry.kind}
    columns = (column for column, entry in declared.columns.items() if entry.personal)
    return LegacyTable(
        name,
        declared.area or first_area,
        tuple(declared.columns),
        key=declared.key,
        key_repeats=declared.key_repeats,
        column_count=declared.column_count,
        description=declared.meaning,
        decision=declared.decision,
        kind_of=lambda column: kinds.get(column) or kind_by_name(column, by_name),
        personal=frozenset((*columns, *declared.personal)),
        all_personal=declared.all_personal,
        null_markers=declared.null_markers,
        required=tuple(declared.columns) if declared.all_required else declared.required,
        all_required=declared.all_required,
        blank_is_null=not declared.blanks_count,
        schema=declared.lies_in,
        documents=declared.documents,
        never_read=frozenset(declared.never_read),
        is_optional=declared.optional,
        generic_key=(declared.generic_key.type, declared.generic_key.id) if declared.generic_key else None,
    )


def kind_by_name(column: str, by_name: Mapping[ColumnKind, Sequence[str]]) -> ColumnKind:
    """What a column is read as for its name; the first kind with a pattern that fits counts."""
    fits = (kind for kind, patterns in by_name.items() if any(fnmatchcase(column, pattern) for pattern in patterns))
    return next(fits, "text")


def target_table(model: str, declared: TargetTableFile, first_area: str) -> TargetTable:
    """The table as it is declared; what writes into it, the mapping files say."""
    return TargetTable(
        declared.table,
        model,
        declared.area or first_area,
        tuple(
            TargetColumn(
                column,
                entry.type,
                entry.meaning,
                nullable=entry.nullable,
                max_length=entry.length,
                references=entry.references,
                allowed=entry.allowed,
                needed_when=_needed_when(entry.when or declared.when),
                unique=entry.unique,
                identity=entry.identity,
            )
            for column, entry in declared.columns.items()
        ),
        writes="update" if declared.updated else "nothing",
        natural_key=declared.natural_key,
        key=declared.key,
        key_is_written=declared.key_is_written,
        nulls_equal=declared.nulls_equal,
        file_columns=(declared.file.key, declared.file.sha256) if declared.file else None,
        held_column=declared.held,
        refers_to=declared.refers_to,
        loaded_after=declared.loaded_after,
        decision=declared.decision,
        description=declared.meaning,
        schema=declared.lies_in,
    )


def _needed_when(when: When | None) -> tuple[str, ...]:
    return (when.decision, *when.option) if when else ()


def in_schemas(tables: Sequence[TargetTable], schemas: Schemas) -> tuple[TargetTable, ...]:
    """The target tables where they lie: what columns refer to is named with its schema, so that no path has a say."""
    placed = [
        replace(table, schema=(schemas.reference if table.area == OTHER_AREAS else schemas.target) or table.schema)
        for table in tables
    ]
    names = {name: after.names[0] for before, after in zip(tables, placed, strict=True) for name in before.names}
    return tuple(
        replace(
            table,
            columns=tuple(
                replace(column, references=names[column.references] if column.references else None)
                for column in table.columns
            ),
            refers_to=tuple(names[referred] for referred in table.refers_to),
        )
        for table in placed
    )


def _require_own_names(assets: Sequence[MappingAsset], mappings: Mappings, mappings_dir: Path) -> None:
    """ConfigurationError for each value map that is called as a crosswalk or a look-up is."""
    findings = Findings()
    called = Counter(asset.name for asset in assets)
    for name in mappings.value_maps:
        if called[name] > 1:
            findings.add(
                f"a value map and a crosswalk or look-up are both called {name}",
                f"{mappings_dir / name}.csv:1",
                "call the file otherwise, and say so where mapping files name it",
            )
    findings.raise_if_any()


def _must_be_filled(targets: TargetsFile) -> dict[str, list[str]]:
    """By model the columns of new rows that neither NULL nor a default of the target fills."""
    return {
        model: [name for name, column in table.columns.items() if not column.nullable and column.default is None]
        for model, table in targets.targets.items()
        if not table.updated
    }


def _as_filled(
    table: TargetTable, mappings: Mappings, declared: TargetTableFile, named: Mapping[str, str]
) -> TargetTable:
    """The table with the columns that are written: one that nothing fills is left to its default, where it has one."""
    mapping = mappings.targets.get(table.model)
    if mapping is None or not mapping.sources:
        return table
    made = {column for source in mapping.sources.values() for column, _ in source.filled}
    defaults = {column for column, entry in declared.columns.items() if entry.default is not None}
    entries = [pair for source in mapping.sources.values() for pair in source.filled]
    filled = {name for name, entry in entries if not (entry.is_constant and entry.constant is None)}
    left = tuple(
        replace(column, stays_null=column.name not in filled)
        for column in table.columns
        if column.name in made or column.name not in defaults
    )
    writes: Literal["insert", "update"] = "update" if declared.updated else "insert"
    return replace(
        table,
        columns=left,
        writes=writes,
        decision=table.decision or mapping.decision,
        parent=named[mapping.parent] if mapping.parent else "",
        is_junction=any(source.members for source in mapping.sources.values()),
    )


def _handed_over_asset(
    name: str, table: LegacyTable, source_id: str, leads_to: LeadsTo, named: Mapping[str, str]
) -> MappingAsset:
    return crosswalk_asset(
        name,
        table,
        source_id,
        leads_to.target_id,
        area=leads_to.area or table.area,
        target=(leads_to.target, named[leads_to.target]),
        extras=leads_to.extras,
    )


def _require_value_maps(mappings_dir: Path, tables: TablesFile, mappings: Mappings) -> None:
    """ConfigurationError where a value map has an owner that there is not."""
    file, findings = YamlFile(mappings_dir / TABLES), Findings()
    for name in tables.value_maps.keys() - mappings.value_maps.keys():
        findings.add(
            f"there is no value map {name!r} to have an owner",
            file.where(["value_maps", name]),
            suggestion(name, mappings.value_maps),
        )
    findings.raise_if_any()
