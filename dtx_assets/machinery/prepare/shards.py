"""A flow that several processes prepare: planned once, in shards, then finished; the result is that of one process.

A shard is a range of the batches that there are anyway. The plan spreads the rows over them and puts the rows of each
shard into the lake, where every process reaches them. Each shard writes files of its own into the versions that the
finish puts in place, and says last, in one piece, what it wrote and counted: one that died said nothing, and of two
executions of a shard what one of them said counts, whole. A plan that was broken off is taken up again by the next run
that is to prepare the same, with the shards that are done.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import polars as pl

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.base.lake import DatasetWriter, FileEntry, Manifest, TableFiles, new_version
from dtx_assets.machinery.base.shard import PLAN, SHARDS, Shard, shards_in_all
from dtx_assets.machinery.prepare.batches import Batch, batch_of, count_of_batches, scattered
from dtx_assets.machinery.prepare.books import Books
from dtx_assets.machinery.prepare.members import pair_parts
from dtx_assets.machinery.prepare.model_writer import ModelWriter
from dtx_assets.machinery.prepare.preparation import (
    Facts,
    Made,
    Progress,
    RunSettings,
    asked_key,
    complete,
    fingerprint_of,
    held,
    inputs_of,
    prepare_batches,
    prepare_flow,
    prepared_before,
    rows_of_batch,
    source_rows,
    total_rows,
    transform_context,
    writers_of,
)
from dtx_assets.machinery.system.flow import Flow

LAYERS = ("prepared", "rejected")
Streams = Sequence[tuple[int, int]]
"""Where in a file each of several frames begins, and how many bytes it has."""


def shards_of(flow: Flow, run: RunSettings, sources: Mapping[str, Manifest]) -> list[Shard]:
    """The shards of a flow: as many as its rows need, and none smaller than a batch."""
    size = run.settings.workers.shard_rows
    if flow.together or not size:
        return [Shard(1, 1)]
    wanted = -(-total_rows(sources) // size)
    count = max(min(wanted, count_of_batches(sources.values(), rows_of_batch(flow, run))), 1)
    return shards_in_all(count)


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan_flow(flow: Flow, run: RunSettings, progress: Progress | None = None) -> list[Shard]:
    """The shards that are left to do before `finish_flow`; where one is enough, the flow is prepared, and none is."""
    sources, mappings = inputs_of(flow, run)
    shards = shards_of(flow, run, sources)
    if len(shards) == 1:
        prepare_flow(flow, run, progress)
        return []
    fingerprint = fingerprint_of(flow, run, sources, mappings)
    if prepared_before(flow, run, fingerprint):
        return []
    before = run.lake.manifest(_key(flow, run, PLAN))
    if before and _is_of(before, fingerprint, len(shards)) and run.lake.is_complete(before):
        return [shard for shard in shards if not _is_done(flow, run, before, shard)]
    forget_shards(flow, run)
    context = transform_context(run, mappings)
    rows = source_rows(flow, run, sources, context)
    batches = count_of_batches(sources.values(), rows_of_batch(flow, run))
    with (
        held(run, (*sources.values(), *mappings.values())),
        scattered(rows, batches, run.settings.home) as scratch,
        run.lake.write(_key(flow, run, PLAN), run_id=run.run_id) as writer,
    ):
        files: dict[str, dict[str, Streams]] = {}
        for shard in shards:
            for place, source in enumerate(rows):
                name, directory = f"rows-{place}-{shard.name}", scratch / source.table.name
                with writer.stream(name, table=shard.name) as (stream, note):
                    streams = _joined(stream, [directory / str(batch) for batch in shard.batches(batches)])
                    note(0)
                files.setdefault(shard.name, {})[name] = streams
        versions = {layer: {model: new_version() for model in flow.targets} for layer in LAYERS}
        for key, version in _versions(run, versions):
            run.lake.hold(key, version, run.run_id)
        writer.metadata = {
            "preparation": uuid4().hex,
            "fingerprint": fingerprint,
            "shards": len(shards),
            "batches": batches,
            "rows": total_rows(sources),
            "versions": versions,
            "files": files,
        }
        reach("shards.before_plan")
    return shards


def _key(flow: Flow, run: RunSettings, name: str) -> tuple[str, ...]:
    return (run.system.name, SHARDS, flow.name, name)


def _versions(run: RunSettings, versions: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The datasets that shards write, and the version of each."""
    for layer, of_layer in versions.items():
        for model, version in of_layer.items():
            yield run.key(layer, model), version


def _all(plan: Manifest) -> list[Shard]:
    return shards_in_all(plan.metadata["shards"])


def _is_of(plan: Manifest, fingerprint: str, shards: int) -> bool:
    return plan.metadata["fingerprint"] == fingerprint and bool(plan.metadata["shards"] == shards)


def _joined(stream: BinaryIO, paths: Sequence[Path]) -> Streams:
    """Writes files one after another; each is gone then."""
    places, start = [], 0
    for path in paths:
        content = path.read_bytes()
        stream.write(content)
        places.append((start, len(content)))
        start += len(content)
        path.unlink()
    return places


def forget_shards(flow: Flow, run: RunSettings) -> None:
    """Removes what lies in the lake of a flow's shards."""
    plan = run.lake.manifest(_key(flow, run, PLAN))
    if plan is None:
        return
    # The plan goes last: it says which shards there may be.
    for shard in _all(plan):
        run.lake.forget(_key(flow, run, shard.name))
    for key, version in _versions(run, plan.metadata["versions"]):
        run.lake.let_go(key, version)
    run.lake.forget(plan.key)


# --- a shard ----------------------------------------------------------------------------------------------------------


def prepare_shard(flow: Flow, run: RunSettings, shard: Shard, progress: Progress | None = None) -> None:
    """Prepares the rows of one shard; StructureError where what is prepared is not what was planned any more."""
    plan, mappings = _planned(flow, run)
    if _is_done(flow, run, plan, shard):
        return
    context, made = transform_context(run, mappings), Made(Books(run.system.coerced), is_whole=False)
    share = uuid4().hex[:8]
    with held(run, (plan, *mappings.values())), ExitStack() as stack:
        # What it says is in place when all of its files are.
        said = stack.enter_context(run.lake.write(_key(flow, run, shard.name), run_id=run.run_id))
        gathered = enumerate((*flow.merge, *flow.unite))
        kept = {model: stack.enter_context(_kept(said, place)) for place, model in gathered}
        made.take |= {model: frames.add for model, frames in kept.items()}
        shares = {
            (layer, model): stack.enter_context(run.lake.write_share(run.key(layer, model), version))
            for layer, of_layer in plan.metadata["versions"].items()
            for model, version in of_layer.items()
        }
        writers = {
            model: ModelWriter(
                shares["prepared", model], shares["rejected", model], asked_key(run.system, model), share
            )
            for model in flow.targets
        }
        batches = _batches(flow, run, plan, shard)
        prepare_batches(flow, run, context, batches, writers, made, plan.metadata["rows"], progress)
        said.metadata = {
            "preparation": plan.metadata["preparation"],
            "counts": made.books.counts(),
            "models": {model: _told(writer) for model, writer in writers.items()},
            "kept": {model: frames.places for model, frames in kept.items()},
        }
        reach("shards.before_done")


def _planned(flow: Flow, run: RunSettings) -> tuple[Manifest, dict[str, Manifest]]:
    """The plan, and the mappings that it was made with."""
    plan = run.lake.manifest(_key(flow, run, PLAN))
    sources, mappings = inputs_of(flow, run)
    if plan is None or plan.metadata["fingerprint"] != fingerprint_of(flow, run, sources, mappings):
        raise StructureError(
            f"what {flow.name} is prepared from is not what it was when its shards were planned"
            if plan
            else f"the plan of the shards of {flow.name} is gone: another run has prepared it, or begun to",
            where=run.system.name,
            remedy="nothing was prepared; run again",
        )
    return plan, mappings


def _batches(flow: Flow, run: RunSettings, plan: Manifest, shard: Shard) -> Iterator[Batch]:
    tables = [run.system.legacy_tables[source] for source in flow.sources]
    files, batches = plan.metadata["files"][shard.name], plan.metadata["batches"]
    with ExitStack() as stack:
        paths = [stack.enter_context(run.lake.local_file(plan.key, plan.version, name)) for name in files]
        streams = [stack.enter_context(path.open("rb")) for path in paths]
        for number, batch in enumerate(shard.batches(batches)):
            rows = [_read(stream, places[number]) for stream, places in zip(streams, files.values(), strict=True)]
            yield batch_of(batch, batches, list(zip(tables, rows, strict=True)))


def _read(stream: BinaryIO, place: tuple[int, int]) -> BytesIO:
    start, size = place
    stream.seek(start)
    return BytesIO(stream.read(size))


class _Frames:
    """What only all batches together make rows of, on its way into a file: two frames a batch, one after the other."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._end = stream, 0
        self.places: list[Streams] = []

    def add(self, rows: pl.DataFrame, rejected: pl.DataFrame) -> None:
        self.places.append([self._put(rows), self._put(rejected)])

    def _put(self, frame: pl.DataFrame) -> tuple[int, int]:
        content = BytesIO()
        frame.write_ipc_stream(content, compression="lz4")
        start, size = self._end, self._stream.write(content.getbuffer())
        self._end += size
        return start, size


@contextmanager
def _kept(said: DatasetWriter, place: int) -> Iterator[_Frames]:
    with said.stream(f"kept-{place}", table=f"kept-{place}") as (stream, note):
        yield _Frames(stream)
        note(0)


def _told(writer: ModelWriter) -> dict[str, Any]:
    return {
        "prepared": {name: list(map(asdict, entries)) for name, entries in writer.prepared.tables.items()},
        "rejected": {name: list(map(asdict, entries)) for name, entries in writer.rejected.tables.items()},
        "linked": dict(writer.linked),
        "parts": writer.parts,
    }


def _is_done(flow: Flow, run: RunSettings, plan: Manifest, shard: Shard) -> bool:
    """Whether a shard of this plan is prepared, and all that it wrote is there."""
    said = run.lake.manifest(_key(flow, run, shard.name))
    if said is None or said.metadata["preparation"] != plan.metadata["preparation"] or not run.lake.is_complete(said):
        return False
    return all(
        run.lake.is_complete(
            Manifest(
                run.key(layer, model),
                plan.metadata["versions"][layer][model],
                said.created_at,
                said.run_id,
                {name: TableFiles(tuple(entries)) for name, entries in _entries(told[layer]).items()},
            )
        )
        for model, told in said.metadata["models"].items()
        for layer in LAYERS
    )


def _entries(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[FileEntry]]:
    return {name: [FileEntry(**entry) for entry in entries] for name, entries in tables.items()}


# --- the finish -------------------------------------------------------------------------------------------------------


def finish_flow(flow: Flow, run: RunSettings) -> dict[str, Manifest]:
    """Puts in place what the shards prepared, where all of them did and everything adds up; else StructureError."""
    sources, mappings = inputs_of(flow, run)
    fingerprint = fingerprint_of(flow, run, sources, mappings)
    if before := prepared_before(flow, run, fingerprint):
        forget_shards(flow, run)
        return before
    plan, _ = _planned(flow, run)
    said = [_said(flow, run, plan, shard) for shard in _all(plan)]
    facts = Facts(fingerprint, plan.metadata["preparation"])
    books = Books(run.system.coerced)
    with (
        held(run, (plan, *said)),
        writers_of(flow, run, plan.metadata["versions"]) as writers,
        pair_parts(list(flow.unite), run.settings.home) as pairs,
    ):
        merged: dict[str, list[pl.DataFrame]] = {model: [] for model in flow.merge}
        for shard in said:
            books.add_counts(shard.metadata["counts"])
            for model, told in shard.metadata["models"].items():
                _take_over(writers[model], told)
            for place, model in enumerate((*flow.merge, *flow.unite)):
                for rows, rejected in _frames(run, shard, f"kept-{place}", shard.metadata["kept"][model]):
                    if model in merged:
                        merged[model].append(rows)
                    else:
                        pairs[model].add(rows, rejected)
        complete(flow, run, sources, facts, writers, books, merged, pairs)
        reach("prepare.before_publish")
    forget_shards(flow, run)
    return {model: run.lake.require(run.key("prepared", model)) for model in flow.targets}


def _said(flow: Flow, run: RunSettings, plan: Manifest, shard: Shard) -> Manifest:
    said = run.lake.manifest(_key(flow, run, shard.name))
    if said is None or said.metadata["preparation"] != plan.metadata["preparation"]:
        raise StructureError(
            f"{shard.told} of {flow.name} is not prepared",
            where=run.system.name,
            remedy="nothing was prepared; run again: the shards that are done are not done again",
        )
    return said


def _take_over(writer: ModelWriter, told: Mapping[str, Any]) -> None:
    """What a shard wrote of a model, after what those before it wrote."""
    for taken, layer in ((writer.prepared, "prepared"), (writer.rejected, "rejected")):
        for name, entries in _entries(told[layer]).items():
            taken.tables.setdefault(name, []).extend(entries)
    writer.linked.update(Counter(told["linked"]))
    writer.parts += told["parts"]


def _frames(
    run: RunSettings, shard: Manifest, file: str, places: Sequence[Streams]
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    with run.lake.local_file(shard.key, shard.version, file) as path, path.open("rb") as stream:
        for rows, rejected in places:
            yield pl.read_ipc_stream(_read(stream, rows)), pl.read_ipc_stream(_read(stream, rejected))
