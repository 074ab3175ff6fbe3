"""What is in place of a flow, but for who made it and in which files; and the same flow prepared in shards."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.base.workers import Workers
from dtx_assets.machinery.prepare.preparation import RunSettings, inputs_of, prepare_flow, total_rows
from dtx_assets.machinery.prepare.shards import LAYERS, finish_flow, plan_flow, prepare_shard
from dtx_assets.machinery.system.flow import Flow


def told(manifest: Manifest) -> dict[str, Any]:
    """What a manifest says: accounting, digests of parts, what all was made of, and how many rows of what."""
    facts = {name: value for name, value in manifest.metadata.items() if name != "preparation"}
    parts = [{name: value for name, value in part.items() if name != "file"} for part in facts.pop("parts", [])]
    return {**facts, "parts": parts, "tables": {name: files.rows for name, files in manifest.tables.items()}}


def in_place(run: RunSettings, flow: Flow) -> dict[tuple[str, ...], Any]:
    """All that is told of the datasets of a flow, and all their rows, in the order in which they lie there."""
    found: dict[tuple[str, ...], Any] = {}
    for model in flow.targets:
        for layer in LAYERS:
            manifest = run.lake.require(run.key(layer, model))
            found[layer, model] = told(manifest)
            for table, files in manifest.tables.items():
                if files.rows:
                    found[layer, model, table] = run.lake.scan_files(manifest, table).collect().to_dicts()
    return found


def wipe(run: RunSettings, flow: Flow) -> None:
    for model in flow.targets:
        for layer in LAYERS:
            run.lake.forget(run.key(layer, model))


def with_shards(run: RunSettings, rows: int) -> RunSettings:
    return replace(run, settings=replace(run.settings, workers=Workers(shard_rows=rows)))


def in_shards(run: RunSettings, flow: Flow, order: Sequence[int] | None = None) -> int:
    """Plans, prepares all shards, in some order, and finishes; gives how many shards there were."""
    shards = plan_flow(flow, run)
    for number in order or range(len(shards)):
        prepare_shard(flow, run, shards[number])
    finish_flow(flow, run)
    return len(shards)


def in_one_process(run: RunSettings, flow: Flow) -> dict[tuple[str, ...], Any]:
    wipe(run, flow)
    prepare_flow(flow, with_shards(run, 0))
    return in_place(run, flow)


def assert_equal_in_shards(run: RunSettings, flow: Flow, shards: int) -> None:
    """What so many shards prepare is what one process does."""
    alone = in_one_process(run, flow)
    wipe(run, flow)
    sources, _ = inputs_of(flow, run)
    assert in_shards(with_shards(run, -(-total_rows(sources) // shards)), flow) == shards
    found = in_place(run, flow)
    assert found.keys() == alone.keys()
    assert {name for name, value in found.items() if value != alone[name]} == set()
