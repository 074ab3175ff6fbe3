"""Reads the mapping files of a system and checks them against its tables, transforms and functions.

Whatever is wrong with any of them is told at once, with file, line and what to do.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dtx_assets.machinery.errors import ConfigurationError
from dtx_assets.machinery.legacy import LegacyTable
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.mapping.model import ArchivedFile, ColumnMapping, SourceMapping, TargetMapping
from dtx_assets.machinery.mapping.yaml_file import Findings, YamlFile, parse_model, suggestion
from dtx_assets.machinery.target import TargetTable
from dtx_assets.machinery.transforms import Registry

NOT_MAPPINGS = ("decisions.yaml", "archived.yaml")


@dataclass(frozen=True)
class Mappings:
    """The mappings of a system: by target model, the tables that are only archived, the value maps by name."""

    targets: Mapping[str, TargetMapping]
    files: Mapping[str, Path]
    archived: Mapping[str, str]
    value_maps: Mapping[str, pl.DataFrame]
    transforms: Registry

    def for_target(self, model: str) -> TargetMapping:
        return self.targets[model]


def load_mappings(
    directory: Path,
    *,
    legacy_tables: Mapping[str, LegacyTable],
    targets: Sequence[TargetTable],
    transforms: Registry,
    functions: Mapping[str, Callable[..., object]],
    crosswalks: Sequence[str],
    decisions: Decisions,
) -> Mappings:
    """The validated mappings of a directory; ConfigurationError lists all that is wrong."""
    findings = Findings()
    value_maps = {
        path.stem: frame
        for path in sorted(directory.glob("*.csv"))
        if (frame := read_value_map(path, findings)) is not None
    }
    known = _Known(
        {table.model: table for table in targets},
        legacy_tables,
        transforms,
        functions,
        crosswalks,
        value_maps,
        decisions,
    )
    loaded: dict[str, tuple[YamlFile, TargetMapping]] = {}
    for path in sorted(directory.glob("*.yaml")):
        if path.name in NOT_MAPPINGS:
            continue
        file = YamlFile(path)
        mapping = parse_model(file, TargetMapping, findings)
        if mapping is not None:
            loaded[mapping.target] = (file, mapping)
            _check_target(file, mapping, known, findings)
    archived_file = YamlFile(directory / "archived.yaml")
    archived = parse_model(archived_file, ArchivedFile, findings)
    for table in archived.archived if archived else ():
        if table not in legacy_tables:
            findings.add(
                f"unknown legacy table {table!r}",
                archived_file.where(["archived", table]),
                suggestion(table, legacy_tables),
            )
    mappings = Mappings(
        {name: mapping for name, (_, mapping) in loaded.items()},
        {name: file.path for name, (file, _) in loaded.items()},
        archived.archived if archived else {},
        value_maps,
        transforms,
    )
    if not findings.errors:
        _check_accounted_for(mappings, loaded, archived_file, legacy_tables, findings)
    findings.raise_if_any()
    return mappings


@dataclass(frozen=True)
class _Known:
    targets: Mapping[str, TargetTable]
    legacy_tables: Mapping[str, LegacyTable]
    transforms: Registry
    functions: Mapping[str, Callable[..., object]]
    crosswalks: Sequence[str]
    value_maps: Mapping[str, pl.DataFrame]
    decisions: Decisions


def _check_target(file: YamlFile, mapping: TargetMapping, known: _Known, findings: Findings) -> None:
    table = known.targets.get(mapping.target)
    if table is None:
        findings.add(
            f"unknown target model {mapping.target!r}",
            file.where(["target"]),
            suggestion(mapping.target, known.targets),
        )
        return
    filled: set[str] = set()
    for name, source in mapping.sources.items():
        at = ["sources", name]
        legacy = known.legacy_tables.get(name)
        if legacy is None:
            findings.add(f"unknown legacy table {name!r}", file.where(at), suggestion(name, known.legacy_tables))
            continue
        for role in ("shape", "expand", "merge"):
            function = getattr(source, role)
            if function and function not in known.functions:
                findings.add(
                    f"unknown {role} function {function!r}",
                    file.where([*at, role]),
                    suggestion(function, known.functions),
                )
        for column in source.dropped:
            if column not in legacy.columns:
                findings.add(
                    f"{name} has no column {column!r} to drop",
                    file.where([*at, "dropped", column]),
                    suggestion(column, legacy.columns),
                )
        columns = [column.name for column in table.columns]
        for column in source.columns:
            if column not in columns:
                findings.add(
                    f"{mapping.target} has no column {column!r}",
                    file.where([*at, "columns", column]),
                    suggestion(column, columns),
                )
        filled |= set(source.columns)
        for section in ("columns", "helpers"):
            for column, entry in getattr(source, section).items():
                _check_column(file, [*at, section, column], name, source, entry, known, findings)
    for target_column in table.columns:
        if not target_column.nullable and target_column.name not in filled and table.writes == "insert":
            findings.add(
                f"{mapping.target}.{target_column.name} must have a value and nothing fills it",
                file.where(["sources"]),
                "say where it comes from, or give it a constant",
            )


def _check_column(
    file: YamlFile,
    at: list[str],
    table: str,
    source: SourceMapping,
    entry: ColumnMapping,
    known: _Known,
    findings: Findings,
) -> None:
    where = file.where(at)
    for part in entry.from_:
        owner, _, column = part.rpartition(".")
        legacy = known.legacy_tables.get(owner or table)
        if legacy is None:
            findings.add(f"unknown legacy table {owner!r}", where, suggestion(owner, known.legacy_tables))
        elif column not in legacy.columns:
            findings.add(f"{legacy.name} has no column {column!r}", where, suggestion(column, legacy.columns))
    for kind, name, names in (
        ("transform", entry.transform, known.transforms.transforms),
        ("value map", entry.value_map, known.value_maps),
        ("crosswalk", entry.crosswalk, known.crosswalks),
    ):
        if name is not None and name not in names:
            findings.add(f"unknown {kind} {name!r}", where, suggestion(name, names))
            return
    if entry.value_map and entry.output not in known.value_maps[entry.value_map].columns[1:]:
        findings.add(
            f"value map {entry.value_map} has no column {entry.output!r}",
            where,
            suggestion(str(entry.output), known.value_maps[entry.value_map].columns[1:]),
        )
    allowed = known.transforms.parameters(entry.transform) if entry.transform else ()
    for parameter in entry.with_:
        if parameter not in allowed:
            findings.add(
                f"{entry.transform or 'text'} has no setting {parameter!r}", where, suggestion(parameter, allowed)
            )
    if entry.by and getattr(source, entry.by) is None:
        findings.add(
            f"is filled by {entry.by}, but the source names no {entry.by} function", where, f"name one: `{entry.by}: …`"
        )
    if entry.when:
        options = {decision.key: decision.options for decision in known.decisions.entries if decision.options}
        if entry.when.decision not in options:
            findings.add(f"unknown decision {entry.when.decision!r}", where, suggestion(entry.when.decision, options))
        elif entry.when.option not in options[entry.when.decision]:
            findings.add(
                f"decision {entry.when.decision} has no option {entry.when.option!r}",
                where,
                suggestion(entry.when.option, options[entry.when.decision]),
            )


def _check_accounted_for(
    mappings: Mappings,
    loaded: Mapping[str, tuple[YamlFile, TargetMapping]],
    archived_file: YamlFile,
    legacy_tables: Mapping[str, LegacyTable],
    findings: Findings,
) -> None:
    from dtx_assets.machinery.mapping.lineage import accounted_for

    for name, table in legacy_tables.items():
        files = [file for file, mapping in loaded.values() if name in mapping.sources]
        if not files:
            if name not in mappings.archived:
                findings.add(
                    f"legacy table {name} goes nowhere",
                    f"{archived_file.path}:1",
                    "map it, or list it under `archived` with the reason",
                )
            continue
        used, dropped = accounted_for(mappings, name)
        where = files[0].where(["sources", name])
        for column in table.columns:
            if column not in used and column not in dropped:
                findings.add(
                    f"{name}.{column} is not accounted for",
                    where,
                    "use it in a column's `from`, or list it under `dropped` with the reason",
                )
        for column in sorted(used & set(dropped)):
            findings.add(f"{name}.{column} is both used and dropped", where, "take it out of `dropped`")


def read_value_map(path: Path, findings: Findings) -> pl.DataFrame | None:
    """A value map: the first column is the key, compared trimmed and without case; an empty field is NULL.

    A column of true and false only is boolean. A key that stands there twice, or a row of another length, is a finding.
    """
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream)
        header = next(reader, None)
        if not header:
            findings.add("the value map is empty", f"{path}:1", "give it a header line")
            return None
        rows: list[list[str | None]] = []
        keys: dict[str, int] = {}
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if not row:
                continue
            if len(row) != len(header):
                findings.add(
                    f"the row has {len(row)} fields, the header {len(header)}", where, "quote fields that hold a comma"
                )
                continue
            key = row[0].strip().lower()
            if key in keys:
                findings.add(
                    f"the key {row[0]!r} stands here twice (first in line {keys[key]})", where, "remove one of the two"
                )
            keys.setdefault(key, reader.line_num)
            rows.append([field if field != "" else None for field in row])
    frame = pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row")
    booleans = [name for name in header[1:] if frame.height and frame[name].is_in(["true", "false"]).all()]
    return frame.with_columns((pl.col(name) == "true").alias(name) for name in booleans)


__all__ = ["ConfigurationError", "Mappings", "SourceMapping", "load_mappings", "read_value_map"]
