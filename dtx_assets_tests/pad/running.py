"""Runs the flow of PAD on tables given as dicts, through the real parts: CSV files or SQLite, lake, PostgreSQL.

What comes out has the form of the second reading's results, so that the two can be compared.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.look_ups.assets import MappingContext, build_mapping_asset
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.postgres.ddl import create_target
from dtx_assets.machinery.postgres.seeding import seed_tables
from dtx_assets.machinery.prepare.part import file_of, lying_in, read_files
from dtx_assets.machinery.prepare.preparation import RunSettings, prepare_flow
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.system.system import System
from dtx_assets.pad.decided_system import SYSTEM
from dtx_assets_tests.dtx.running import write_csv, write_sqlite
from dtx_assets_tests.pad.second_reading import LEGACY, TARGETS, Account, Inputs, RawRow, Rejected, Result
from dtx_assets_tests.pad.ugly import CURRENCIES, CUTOVER_AT, EMPLOYEES, SECURITIES

REFERENCES = {"oracle_employee": EMPLOYEES, "oracle_bloomberg": SECURITIES, "currency": CURRENCIES}


def decided(**decisions: str) -> Decisions:
    """The decisions of the plan with other choices."""
    assert not set(decisions) - set(SYSTEM.decisions.chosen)
    return replace(SYSTEM.decisions, chosen={**SYSTEM.decisions.chosen, **decisions})


def system_under(**decisions: str) -> System:
    return SYSTEM.under(decided(**decisions))


def inputs(rows: Sequence[RawRow], *, timezone: str = "UTC", dialect: str = "csv", **decisions: str) -> Inputs:
    """The same inputs for the second reading."""
    return Inputs(rows, EMPLOYEES, SECURITIES, CURRENCIES, CUTOVER_AT, timezone, dialect, decisions)


class Migration:
    """A lake, and a target database with the reference rows, in which the flow is run again and again."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self.directory, self.database_url = directory, database_url
        self.lake = Lake(str(directory / "lake"))
        self.settings = Settings.from_environment(
            "pad", environ={}, project_dir=directory, sample_dir=SYSTEM.sample_dir
        )
        self._numbers = count()
        with psycopg.connect(database_url) as connection:
            create_target(connection, SYSTEM.targets)
            seed_tables(connection, SYSTEM.tables_of_others, write_csv(directory / "references", REFERENCES))
        context = MappingContext(
            system=SYSTEM.name,
            lake=self.lake,
            run_id="mappings",
            target_url=database_url,
            crosswalk_tables=SYSTEM.crosswalk_tables,
            mappings=SYSTEM.mappings,
            legacy_tables=SYSTEM.legacy_tables,
            chosen=SYSTEM.decisions.chosen,
        )
        for asset in SYSTEM.mapping_assets:
            build_mapping_asset(asset, context)

    def run(
        self,
        rows: Sequence[RawRow],
        *,
        batch_rows: int = 1_000,
        timezone: str = "UTC",
        dialect: str = "csv",
        cutover_at: datetime = CUTOVER_AT,
        **decisions: str,
    ) -> Result:
        """What the flow makes of the rows."""
        number = next(self._numbers)
        write = write_csv if dialect == "csv" else write_sqlite
        with open_source(str(write(self.directory / f"export-{number}", {LEGACY: rows}))) as source:
            source.extract(SYSTEM.legacy_tables[LEGACY], self.lake, (SYSTEM.name, "legacy", LEGACY), "extraction")
        system = system_under(**decisions)
        run = RunSettings(
            run_id=f"run-{number}",
            system=system,
            settings=replace(self.settings, batch_rows=batch_rows, legacy_timezone=timezone),
            decisions=decided(**decisions),
            cutover_at=cutover_at,
            lake=self.lake,
        )
        result = Result()
        for flow in system.flows:
            for model, manifest in prepare_flow(flow, run, None).items():
                self._read(system, model, manifest, result)
        return result

    def _read(self, system: System, model: str, manifest: Manifest, result: Result) -> None:
        target = system.target(model)
        read = {column.name: _read_as(column.type) for column in target.columns}
        # A target's own key is not among what it writes.
        names = [*(target.key if target.key_is_written else ()), *(column.name for column in target.columns)]
        prepared: dict[tuple[str, int], dict[str, Any]] = {}
        for part, row in _entries(self.lake, manifest, "rows"):
            prepared[part, row["_row"]] = {
                name: None if row[name] is None else read.get(name, _as_it_is)(row[name])
                for name in names
                if name in row
            }
        for part, link in _entries(self.lake, manifest, "links"):
            for name, number in zip(link["parts"], link["rows"], strict=True):
                result.rows[model][link["source_key"], name] = prepared.pop((part, number))
        assert not prepared, "a prepared row that no source row gave"
        result.rejected[model] = [
            Rejected(row["source_key"], tuple(row["reasons"]), row["partial"])
            for row in self.lake.scan((system.name, "rejected", model)).collect().iter_rows(named=True)
        ]
        [books] = manifest.metadata["accounting"]
        result.accounting[model] = Account(
            books["read"], books["migrated"], books["rejected"], Counter(books["dropped"]), Counter(books["coerced"])
        )


def _read_as(column_type: str) -> Callable[[Any], Any]:
    """How a prepared value of a column type is read: JSON and numbers are texts in the lake."""
    if column_type == "jsonb":
        return json.loads
    return Decimal if column_type.startswith("numeric") else _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _entries(lake: Lake, manifest: Manifest, table: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """The rows of a table of a dataset, each with the name of the part that it is in."""
    for part in manifest.metadata["parts"]:
        rows, links = lying_in(part, *read_files(lake, manifest, file_of(part)))
        for row in (rows if table == "rows" else links).iter_rows(named=True):
            yield part["part"], row


def differences(found: Result, expected: Result) -> list[str]:
    """What the system and the second reading do not agree about, in words."""
    told = []
    for target in TARGETS:
        told += compared(f"{target} row", _texts(found, target), _texts(expected, target))
        told += compared(f"{target} rejects", found.rejected[target], expected.rejected[target])
        if found.accounting[target] != expected.accounting[target]:
            told.append(f"{target}: {found.accounting[target]} instead of {expected.accounting[target]}")
    return told


def compared(what: str, found: Iterable[Any], expected: Iterable[Any]) -> list[str]:
    these, those = Counter(found), Counter(expected)
    return [f"{what} too much: {each}" for each in (these - those).elements()] + [
        f"{what} missing: {each}" for each in (those - these).elements()
    ]


def _texts(result: Result, target: str) -> list[str]:
    return [
        f"{key} {part}: {json.dumps(_comparable(row), sort_keys=True, default=str)}"
        for (key, part), row in result.rows[target].items()
    ]


def _comparable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers without the zeros at their end, instants in one zone: `default=str` does the rest."""
    return {
        name: value.normalize() + 0 if hasattr(value, "normalize") else value for name, value in sorted(row.items())
    }
