"""Reads the mapping files of a system. Whatever is wrong with any of them is told at once, with file, line and remedy.

What may be wrong is `validate`; applying a mapping is `execute`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model
from dtx_assets.machinery.mapping.checks import PlacedCheck, read_checks
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.mapping.lineage import accounted_for
from dtx_assets.machinery.mapping.model import ArchivedFile, TargetMapping
from dtx_assets.machinery.mapping.validate import Known, check_accounted_for, check_target
from dtx_assets.machinery.mapping.validate_rules import check_followed, check_parents, check_rules
from dtx_assets.machinery.mapping.value_map import read_value_map
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.transforms.columns import Registry

DECISIONS = "decisions.yaml"
ARCHIVED = "archived.yaml"
TARGET_SQL = "target.sql"
"""The schema of the target as its application makes it, where that is SQL and was given."""
TABLES = "tables.yaml"
TARGETS = "targets.yaml"
FEEDS = "feeds"
SAMPLE = "sample.yaml"
GENERIC_KEYS = "generic_keys.yaml"
DERIVED = "derived.yaml"
CHECKS = "checks.yaml"
NO_MAPPINGS = (DECISIONS, ARCHIVED, TABLES, TARGETS, SAMPLE, GENERIC_KEYS, DERIVED, CHECKS)


@dataclass(frozen=True)
class Mappings:
    """The mappings of a system: by target model, the tables that are only archived, the value maps by name."""

    targets: Mapping[str, TargetMapping]
    files: Mapping[str, Path]
    archived: Mapping[str, str]
    value_maps: Mapping[str, pl.DataFrame]
    transforms: Registry
    undecided_tables: Mapping[str, str] = field(default_factory=dict)
    """Legacy tables of which nobody has said yet where their rows go."""
    decision_keys: frozenset[str] = frozenset()
    """The decisions that have options."""
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """What `shape`, `expand` and `merge` name."""
    table_names: Mapping[str, str] = field(default_factory=dict)
    """The table of each target model, mapped or not."""
    checks: tuple[PlacedCheck, ...] = ()
    """The system's own checks that are data."""

    def for_target(self, model: str) -> TargetMapping:
        """The mapping of a target model; ConfigurationError where no file maps it."""
        if model not in self.targets:
            raise ConfigurationError(
                f"no mapping file says how {model} is made", remedy=f"mapped are: {', '.join(sorted(self.targets))}"
            )
        return self.targets[model]

    def completed(self, targets: Iterable[TargetTable]) -> tuple[TargetTable, ...]:
        """The declarations of the targets with the columns that only a constant of a mapping knows."""
        return tuple(
            replace(table, columns=(*table.columns, *self._constants_beyond(table)))
            if table.model in self.targets
            else table
            for table in targets
        )

    def _constants_beyond(self, table: TargetTable) -> list[TargetColumn]:
        declared = {column.name for column in table.columns}
        return [
            TargetColumn(name, entry.type, entry.note or "A constant: no plan knows this column.", nullable=True)
            for source in self.targets[table.model].sources.values()
            for name, entry in source.filled
            if entry.type and name not in declared
        ]


def load_mappings(
    directory: Path,
    *,
    legacy_tables: Mapping[str, LegacyTable],
    targets: Sequence[TargetTable],
    transforms: Registry,
    functions: Mapping[str, Callable[..., object]],
    crosswalks: Sequence[str],
    decisions: Decisions,
    references: Sequence[str] = (),
    must_be_filled: Mapping[str, Collection[str]] | None = None,
) -> Mappings:
    """The validated mappings of a directory; ConfigurationError lists all that is wrong.

    `references` are look-ups that are no crosswalks, which functions may read; `must_be_filled`: by model the columns
    that must have a value, by default those of new rows that cannot be NULL.

    `<Model>.yaml` maps a target, `archived.yaml` lists the tables that are not mapped, `checks.yaml` has checks that
    are conditions, `<name>.csv` are value maps.
    """
    findings = Findings()
    read = {path.name.split(".")[0]: read_value_map(path, findings) for path in sorted(directory.glob("*.csv"))}
    value_maps = {name: value_map for name, value_map in read.items() if value_map is not None}
    known = Known(
        {table.model: table for table in targets},
        legacy_tables,
        transforms,
        functions,
        crosswalks,
        value_maps,
        decisions,
        read.keys() - value_maps.keys(),
        references,
        columns_without_null(targets) if must_be_filled is None else must_be_filled,
    )
    loaded: dict[str, tuple[YamlFile, TargetMapping]] = {}
    paths = [path for path in sorted(directory.glob("*.yaml")) if path.name not in NO_MAPPINGS]
    for path in paths:
        file = _read(path, findings)
        mapping = parse_model(file, TargetMapping, findings) if file else None
        if file and mapping:
            loaded[path.stem] = (file, mapping)
            check_target(file, mapping, known, findings)
            check_rules(file, mapping, known, findings)
    if len(loaded) == len(paths):
        check_parents(loaded, findings)
        check_followed(loaded, findings)
    checks_file = _read(directory / CHECKS, findings) if (directory / CHECKS).exists() else None
    archived_file = _read(directory / ARCHIVED, findings)
    archived = parse_model(archived_file, ArchivedFile, findings) if archived_file else None
    mappings = Mappings(
        {mapping.target: mapping for _, mapping in loaded.values()},
        {mapping.target: file.path for file, mapping in loaded.values()},
        archived.archived if archived else {},
        {name: value_map.frame for name, value_map in value_maps.items()},
        transforms,
        undecided_tables=archived.undecided if archived else {},
        functions=functions,
        decision_keys=frozenset(decisions.chosen),
        table_names={table.model: table.names[0] for table in targets},
        checks=read_checks(checks_file, known, findings) if checks_file else (),
    )
    # A file that cannot be read would make all its legacy columns look forgotten.
    if archived_file and archived and len(loaded) == len(paths):
        check_accounted_for(
            loaded, archived_file, archived, lambda table: accounted_for(mappings, table), known, findings
        )
    findings.raise_if_any()
    return mappings


def columns_without_null(targets: Sequence[TargetTable]) -> dict[str, list[str]]:
    """By model the columns of new rows that cannot be NULL."""
    return {
        table.model: [column.name for column in table.columns if not column.nullable]
        for table in targets
        if table.writes == "insert"
    }


def _read(path: Path, findings: Findings) -> YamlFile | None:
    try:
        return YamlFile(path)
    except ConfigurationError as error:
        findings.errors.append(error)
        return None
