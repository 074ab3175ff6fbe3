"""The mapping files of a shipped system with what its flows are run with: its sample, prepared once in this process."""

import importlib.util
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from unittest.mock import patch
from uuid import uuid4

import psycopg

from dtx_assets.machinery.dagster.extraction import extracted
from dtx_assets.machinery.dagster.look_ups import mapping_context
from dtx_assets.machinery.look_ups.assets import MappingAsset, build_mapping_asset
from dtx_assets.machinery.mapping import load
from dtx_assets.machinery.mapping.decisions import decisions_under
from dtx_assets.machinery.mapping.load import DECISIONS
from dtx_assets.machinery.mapping.validate import Known
from dtx_assets.machinery.postgres.ddl import create_target
from dtx_assets.machinery.prepare.preparation import prepare_flow
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome
from dtx_assets.machinery.system.system import System


@dataclass(frozen=True)
class Prepared:
    """A system, what its mapping files may name, and by flow what it was run with."""

    system: System
    known: Known
    inputs: Mapping[str, FlowInputs]


def known_of(module: ModuleType) -> Known:
    """What the mapping files of a system may name: noted while its module is run once more, under another name."""
    noted: list[Known] = []

    def note(*arguments, **named):
        noted.append(Known(*arguments, **named))
        return noted[-1]

    assert module.__file__
    spec = importlib.util.spec_from_file_location(f"once_more_{uuid4().hex}", module.__file__)
    assert spec
    assert spec.loader
    with patch.object(load, "Known", note):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    [known] = noted
    return known


def prepared(module: ModuleType, directory: Path, target_url: str) -> Prepared:
    """Lands the sample, makes all look-ups and prepares all flows, as the graph does it."""
    system: System = module.SYSTEM
    assert system.sample_dir
    with psycopg.connect(target_url) as connection:
        if system.target_sql:
            connection.execute(system.target_sql.read_text().encode())
        else:
            create_target(connection, system.targets)
        rows = system.sample_dir / "target"
        if system.seed_embedded and rows.is_dir():
            system.seed_embedded(connection, rows)
    name = system.name.upper()
    variables = {f"{name}_TARGET_URL": target_url, f"{name}_HOME": str(directory)}
    seen: dict[str, FlowInputs] = {}
    with (
        patch.dict("os.environ", variables),
        RunEnvironment(system, uuid4().hex, datetime.now(UTC)) as environment,
    ):
        land(environment)
        for step in _in_order(system):
            if isinstance(step, Flow):
                seen[step.name], _ = run(environment, step)
            else:
                build_mapping_asset(step, mapping_context(environment, step))
    for path, other in _others(system, directory):
        new = [flow for flow in other.flows if flow.name not in seen]
        with (
            patch.dict("os.environ", variables | {f"{name}_DECISIONS": str(path)}),
            RunEnvironment(other, uuid4().hex, datetime.now(UTC)) as environment,
        ):
            land(environment, {table for flow in new for table in flow.sources} - system.legacy_tables.keys())
            for flow in new:
                seen[flow.name], _ = run(environment, flow)
    everything = {table: frame for inputs in seen.values() for table, frame in inputs.legacy.items()}
    mappings = {name: frame for inputs in seen.values() for name, frame in inputs.mappings.items()}
    crosswalks = {name: frame for inputs in seen.values() for name, frame in inputs.context.crosswalks.items()}
    return Prepared(
        system,
        known_of(module),
        {
            name: replace(
                inputs,
                legacy=everything | dict(inputs.legacy),
                mappings=mappings | dict(inputs.mappings),
                context=replace(inputs.context, crosswalks=crosswalks | dict(inputs.context.crosswalks)),
            )
            for name, inputs in seen.items()
        },
    )


def run(environment: RunEnvironment, flow: Flow) -> tuple[FlowInputs, Outcome]:
    """Prepares what was landed by a flow; what it was run with, and what it made of that."""
    seen: list[tuple[FlowInputs, Outcome]] = []

    def look(inputs: FlowInputs) -> Outcome:
        seen.append((inputs, flow.run(inputs)))
        return seen[-1][1]

    live = environment.live_targets(flow.targets, lambda _: None)
    prepare_flow(replace(flow, run=look), replace(environment.run_settings, live=live))
    return seen[-1]


def _others(system: System, directory: Path) -> Iterator[tuple[Path, System]]:
    """The system under each other option, one at a time, with the file that chooses it."""
    for entry in system.decisions.entries:
        for option in entry.options:
            if option != system.decisions.chosen.get(entry.key):
                path = directory / f"{entry.key}-{option}.yaml"
                path.write_text(f'{entry.key}: "{option}"\n')
                decisions = decisions_under(system.mappings_dir / DECISIONS, system.name, path, None)
                yield path, system.under(decisions)


def land(environment: RunEnvironment, only: Collection[str] | None = None) -> None:
    """Lands the tables of a system, or some of them, from its sample."""
    system, url = environment.system, environment.settings.legacy_url
    with open_source(url) as there:
        for layer, tables in (("legacy", system.legacy_tables), ("crosswalk", system.crosswalk_tables)):
            for name, table in tables.items():
                if only is not None and name not in only:
                    continue
                source = system.sources[name](None) if name in system.sources else there
                extracted(environment, source, url, table, layer, None)


def _in_order(system: System) -> Iterator[MappingAsset | Flow]:
    """Each step after those whose results it reads."""
    waiting: list[MappingAsset | Flow] = [*system.mapping_assets, *system.flows]
    while waiting:
        lacking = {each for step in waiting for each in _gives(step)}
        step = next(step for step in waiting if not _needs(step) & lacking - _gives(step))
        waiting.remove(step)
        yield step


def _gives(step: MappingAsset | Flow) -> set[tuple[str, str]]:
    if isinstance(step, Flow):
        return {(layer, model) for model in step.targets for layer in ("prepared", "rejected")}
    return {("mapping", step.name)}


def _needs(step: MappingAsset | Flow) -> set[tuple[str, str]]:
    return {("mapping", name) for name in step.mappings} if isinstance(step, Flow) else {*step.upstream}
