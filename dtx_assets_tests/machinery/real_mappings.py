"""The mapping files of a shipped system with what its flows are run with: its sample, prepared once in this process."""

import importlib.util
from collections.abc import Iterator, Mapping
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
from dtx_assets.machinery.mapping.validate import Known
from dtx_assets.machinery.postgres.ddl import create_target
from dtx_assets.machinery.prepare.preparation import prepare_flow
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.system.flow import Flow, FlowInputs
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
        _land(environment)
        for step in _in_order(system):
            if isinstance(step, Flow):
                _prepare(environment, step, seen)
            else:
                build_mapping_asset(step, mapping_context(environment, step))
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


def _prepare(environment: RunEnvironment, flow: Flow, seen: dict[str, FlowInputs]) -> None:
    def look(inputs: FlowInputs):
        seen[flow.name] = inputs
        return flow.run(inputs)

    live = environment.live_targets(flow.targets, lambda _: None)
    prepare_flow(replace(flow, run=look), replace(environment.run_settings, live=live))


def _land(environment: RunEnvironment) -> None:
    system, url = environment.system, environment.settings.legacy_url
    with open_source(url) as there:
        for layer, tables in (("legacy", system.legacy_tables), ("crosswalk", system.crosswalk_tables)):
            for name, table in tables.items():
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
