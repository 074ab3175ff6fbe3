"""Dispatch migrated in this process, step by step as the graph does it, without Dagster's own cost."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

import psycopg

from dtx_assets.dispatch.decided_system import SYSTEM
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.checks.spec import CheckContext
from dtx_assets.machinery.dagster.checks import check_context
from dtx_assets.machinery.dagster.extraction import extracted
from dtx_assets.machinery.dagster.look_ups import mapping_context
from dtx_assets.machinery.dagster.targets import load_models
from dtx_assets.machinery.files.sending import FileSender
from dtx_assets.machinery.look_ups.assets import MappingAsset, build_mapping_asset
from dtx_assets.machinery.mapping.decisions import load_decisions
from dtx_assets.machinery.model.references import in_load_order
from dtx_assets.machinery.prepare.preparation import prepare_flow
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.system.flow import Flow
from dtx_assets.machinery.system.system import System


@dataclass(frozen=True)
class Migrated:
    """What a run left: the system as it was decided, the target database, the lake, and what checks see of all."""

    system: System
    url: str
    lake: Lake
    directory: Path
    checked: CheckContext


def migrate(
    directory: Path,
    settings: Mapping[str, str],
    target_url: str,
    *,
    before_load: Callable[[str], None] = lambda _model: None,
) -> Migrated:
    """Extracts, maps, prepares and loads all, into a database that is made for it the first time."""
    chosen = settings.get("DISPATCH_DECISIONS")
    override = Path(chosen) if chosen else None
    system = SYSTEM.under(load_decisions(SYSTEM.mappings_dir / "decisions.yaml", override))
    assert system.target_sql is not None
    with psycopg.connect(target_url) as connection:
        if connection.execute("SELECT to_regclass('profiles')").fetchone() == (None,):
            connection.execute(system.target_sql.read_text().encode())
    with environment_of(system, directory, {**settings, "DISPATCH_TARGET_URL": target_url}) as environment:
        prepare(environment)
        run = environment.load()
        for targets in in_load_order(system.filled_targets):
            senders = {
                target.model: FileSender(target, environment.file_store(), environment.legacy_files())
                for target in targets
                if target.file_columns
            }
            before_load(targets[0].model)
            load_models(environment, targets, run, lambda _: None, senders=senders)
        return Migrated(system, target_url, environment.lake, directory, check_context(environment))


@contextmanager
def environment_of(system: System, directory: Path, settings: Mapping[str, str]) -> Iterator[RunEnvironment]:
    with (
        patch.dict(os.environ, {**settings, "DISPATCH_HOME": str(directory / "home")}),
        RunEnvironment(system, uuid4().hex, datetime.now(UTC)) as environment,
    ):
        yield environment


def prepare(environment: RunEnvironment) -> None:
    """Lands all tables, and makes what each step has all of that it needs."""
    system, url = environment.system, environment.settings.legacy_url
    with open_source(url) as there:
        for name, table in system.legacy_tables.items():
            source = system.sources[name](None) if name in system.sources else there
            extracted(environment, source, url, table, "legacy", None)
    done = {("legacy", name) for name in system.legacy_tables}
    waiting: list[MappingAsset | Flow] = [*system.mapping_assets, *system.flows]
    while waiting:
        step = next(step for step in waiting if needs(step) <= done)
        waiting.remove(step)
        if isinstance(step, Flow):
            live = environment.live_targets(step.targets, lambda _: None)
            prepare_flow(step, replace(environment.run_settings, live=live))
            done |= {("prepared", model) for model in step.targets}
        else:
            build_mapping_asset(step, mapping_context(environment, step))
            done.add(("mapping", step.name))


def needs(step: MappingAsset | Flow) -> set[tuple[str, str]]:
    if isinstance(step, Flow):
        return {*(("legacy", name) for name in step.sources), *(("mapping", name) for name in step.mappings)}
    return {each for each in step.upstream if each[0] != "decision"}
