"""From legacy tables to prepared and rejected rows: one pass over the input, batch by batch.

A flow is a pure function over the frames of one batch; everything about batches, keys that occur twice, accounting and
the lake is here. What the rows of a flow become is the systems' business; writing them to the target is `load`.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import polars as pl

from dtx_assets.machinery.base.digests import digest_of_files
from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.model.legacy import ColumnKind
from dtx_assets.machinery.postgres.ddl import LiveTarget, held_values
from dtx_assets.machinery.prepare.assess import DROPPED, DROPPED_SCHEMA, REJECTED_SCHEMA, rejected_rows
from dtx_assets.machinery.prepare.batches import Batch, SourceRows, legacy_batches
from dtx_assets.machinery.prepare.books import Books
from dtx_assets.machinery.prepare.buckets import batch_count, bucket_range
from dtx_assets.machinery.prepare.fitting import fitted, without_unfit
from dtx_assets.machinery.prepare.members import PairParts, pair_parts
from dtx_assets.machinery.prepare.model_writer import ModelWriter
from dtx_assets.machinery.prepare.stretches import STRETCH_ROWS, ranges_of
from dtx_assets.machinery.sources.frames import generic_key_names, legacy_frame
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared
from dtx_assets.machinery.system.system import System
from dtx_assets.machinery.transforms.columns import TransformContext, kind_of_ids


@dataclass
class RunSettings:
    """What one run was told: fixed once, the same for every step, recorded with what it makes."""

    run_id: str
    system: System
    settings: Settings
    decisions: Decisions
    cutover_at: datetime
    lake: Lake
    live: Mapping[str, LiveTarget] = field(default_factory=dict)
    """The target tables as they are live, by model: what they cannot hold is rejected. Those not known are left out."""

    def key(self, layer: str, name: str) -> tuple[str, str, str]:
        return (self.system.name, layer, name)


HELD_ROWS = 2_000_000
"""A look-up of more rows than this is not held, but read anew for each batch."""
PREPARING = tuple(
    Path(__file__).parents[1] / package
    for package in ("feeds", "look_ups", "mapping", "model", "postgres", "prepare", "sources", "system", "transforms")
)
"""The packages of the machinery that make rows: where they change, rows are prepared anew."""


def reject_unfit(outcome: Outcome, inputs: FlowInputs, flow: Flow, live: Mapping[str, LiveTarget]) -> None:
    """Rejects the source rows of which the live target of a model cannot hold a row, whatever the flow let through."""
    for model in (model for model in flow.targets if model in live):
        prepared, target = outcome.prepared[model], inputs.system.target(model)
        if prepared.is_fitted:
            continue
        sources = [source for source, accounted in flow.accounted if accounted == model]
        if model not in flow.merge:
            rows, found = fitted(prepared.rows, target, live[model].columns, live[model].connected)
            if found.is_empty():
                outcome.prepared[model] = Prepared(rows, prepared.links)
                continue
            rows, links, refused = without_unfit(rows, prepared.links, found, sources)
        elif len(sources) == 1 and "_source_row" in prepared.rows.columns:
            # What is merged later has no links yet. What only the merging gives is found by the load.
            links, candidates = prepared.links, prepared.rows.drop("_row", strict=False).with_row_index("_row")
            rows, found = fitted(candidates, target, live[model].columns, live[model].connected)
            numbers = candidates.select("_row", pl.col("_source_row").alias("source_row"))
            refused = found.join(numbers, on="_row").select(
                pl.lit(sources[0]).alias("source_table"), "source_row", "reason", "detail"
            )
            rows = prepared.rows.with_columns(rows.drop("_row")).join(
                refused, left_on="_source_row", right_on="source_row", how="anti"
            )
        else:
            continue
        outcome.prepared[model] = Prepared(rows, links)
        for (source,), of_source in refused.group_by("source_table", maintain_order=True):
            _reject_late(outcome, inputs, str(source), model, of_source, counted=source in sources)


def _reject_late(
    outcome: Outcome, inputs: FlowInputs, source: str, model: str, refused: pl.DataFrame, *, counted: bool
) -> None:
    """Rejects source rows that were booked as migrated: `source_row`, `reason`, `detail`.

    Of those that another model accounts for it is a part that is rejected.
    """
    problem = pl.struct("reason", pl.lit("").alias("column"), "detail").alias("_problems")
    problems = refused.select(pl.col("source_row").alias("_row"), problem).group_by("_row").agg(pl.all())
    rows = inputs.legacy[source].join(problems, on="_row", maintain_order="left")
    outcome.reject(model, rejected_rows(inputs, source, rows, partial=not counted))
    of_them = (
        (pl.col("source_table") == source)
        & (pl.col("model") == model)
        & pl.col("source_row").is_in(problems["_row"].implode())
    )
    outcome.fates = [
        fates.with_columns(pl.when(of_them).then(pl.lit("rejected")).otherwise("fate").alias("fate"))
        for fates in outcome.fates
    ]


class Progress(Protocol):
    """Told the rows that are prepared, of how many, and how many of them are rejected."""

    def __call__(self, done: int, total: int | None = None, *, rejected: int | None = None) -> None: ...


def prepare_flow(flow: Flow, run: RunSettings, progress: Progress | None = None) -> dict[str, Manifest]:
    """Writes the prepared and rejected datasets of every target model of the flow; gives the prepared manifests.

    Raises StructureError where the rows of a source do not balance, a table or a required column is missing.
    Nothing is written when the same was prepared before from the same input, mappings, decisions and code.
    """
    sources, mappings = inputs_of(flow, run)
    fingerprint = fingerprint_of(flow, run, sources, mappings)
    if before := prepared_before(flow, run, fingerprint):
        return before

    context = transform_context(run, mappings)
    made = Made(Books(run.system.coerced))
    with (
        held(run, (*sources.values(), *mappings.values())),
        writers_of(flow, run) as writers,
        legacy_batches(
            source_rows(flow, run, sources, context),
            sources.values(),
            rows_of_batch(flow, run),
            run.settings.home,
            together=flow.together,
        ) as batches,
        pair_parts(list(flow.unite), run.settings.home) as pairs,
    ):
        merged: dict[str, list[pl.DataFrame]] = {model: [] for model in flow.merge}
        made.take |= {model: partial(_keep, frames) for model, frames in merged.items()}
        made.take |= {model: parts.add for model, parts in pairs.items()}
        prepare_batches(flow, run, context, batches, writers, made, total_rows(sources), progress)
        complete(flow, run, sources, Facts(fingerprint, uuid4().hex), writers, made.books, merged, pairs)
        reach("prepare.before_publish")
    return {model: run.lake.require(run.key("prepared", model)) for model in flow.targets}


@dataclass(frozen=True)
class Facts:
    """What tells one preparation from another: what it was made of, and by whom."""

    fingerprint: str
    preparation: str


@dataclass
class Made:
    """What batches gave besides what is written of each: `take` is given what only all batches together make rows of.

    By model: its rows or candidates, and the rejected rows of the same batch.
    """

    books: Books
    take: dict[str, Callable[[pl.DataFrame, pl.DataFrame], None]] = field(default_factory=dict)
    is_whole: bool = True
    done: int = 0
    rejected: int = 0


def total_rows(sources: Mapping[str, Manifest]) -> int:
    return sum(manifest.tables["rows"].rows for manifest in sources.values())


def rows_of_batch(flow: Flow, run: RunSettings) -> int:
    """How many legacy rows a batch of a flow may have."""
    return max(run.settings.batch_rows, STRETCH_ROWS) if flow.splits else run.settings.batch_rows


def _keep(frames: list[pl.DataFrame], rows: pl.DataFrame, _rejected: pl.DataFrame) -> None:
    frames.append(rows)


def prepare_batches(
    flow: Flow,
    run: RunSettings,
    context: TransformContext,
    batches: Iterable[Batch],
    writers: Mapping[str, ModelWriter],
    made: Made,
    total: int,
    progress: Progress | None,
) -> None:
    """Prepares batch after batch; `total` are the rows of all batches there are, of which others prepare some where
    `made.is_whole` is not said."""
    smallest = batch_count(total, run.settings.batch_rows)
    for part, buckets, legacy in batches:
        ranges = ranges_of(buckets, smallest) if flow.splits else [buckets]
        inputs = FlowInputs(run.system, legacy, context.crosswalks, context, run.live)
        outcome = flow.run(inputs)
        reject_unfit(outcome, inputs, flow, run.live)
        made.books.add(outcome)
        made.done += sum(frame.height for frame in legacy.values())
        # Writing large texts takes memory of its own.
        del legacy, inputs
        for model in flow.targets:
            rejected = pl.concat([pl.DataFrame(schema=REJECTED_SCHEMA), *outcome.rejected.get(model, [])])
            made.rejected += rejected.height - int(rejected["partial"].sum())
            dropped = pl.concat([pl.DataFrame(schema=DROPPED_SCHEMA), *outcome.dropped.get(model, [])])
            writers[model].add_dropped(part, dropped)
            writers[model].add_stands_for(part, outcome.stands_for.get(model, []))
            prepared = outcome.prepared[model]
            if take := made.take.get(model):
                take(prepared.rows, rejected)
            if model in flow.merge:
                writers[model].add_rejected(part, rejected)
            elif model not in flow.unite:
                writers[model].add_keys(part, prepared)
                writers[model].add_parts(part, ranges, prepared, rejected)
            reach("prepare.after_part")
        if progress:
            progress(made.done, total if made.is_whole else None, rejected=made.rejected)
        # What was made of one batch is not held while the next one is made.
        del outcome, prepared, rejected, dropped


def complete(
    flow: Flow,
    run: RunSettings,
    sources: Mapping[str, Manifest],
    facts: Facts,
    writers: Mapping[str, ModelWriter],
    books: Books,
    merged: Mapping[str, Sequence[pl.DataFrame]],
    pairs: Mapping[str, PairParts],
) -> None:
    """What is left when all batches are prepared: rows that only all of them make, and whether everything adds up."""
    for model, parts in pairs.items():
        for part, buckets, named, rejected in parts.parts(run.settings.batch_rows):
            writers[model].add_part(part, buckets, flow.unite[model](named), rejected)
            reach("prepare.after_part")
    for model, candidates in merged.items():
        writers[model].add_part("00000", bucket_range(0, 1), flow.merge[model](pl.concat(candidates)), None)
    _refuse_changed_sources(run, sources)
    system = run.system
    accounting = books.balance(flow, sources, system)
    for model in flow.targets:
        counted = {source for source, target in flow.accounted if target == model}
        not_counted = sum(links for source, links in writers[model].linked.items() if source not in counted)
        writers[model].finish(
            facts.preparation,
            {
                "links_not_counted": not_counted,
                "accounting": [entry for entry in accounting if entry["target_table"] == system.target(model).name],
                "fingerprint": facts.fingerprint,
                "decisions": dict(run.decisions.chosen),
                "cutover_at": run.cutover_at.isoformat() if flow.uses_cutover_time else None,
                "sources": {name: manifest.version for name, manifest in sources.items()},
                "live": held_values(run.live.get(model), system.target(model)),
                "source_tables": sorted(counted, key=flow.sources.index),
                "is_junction": model in flow.unite,
            },
        )


def transform_context(run: RunSettings, mappings: Mapping[str, Manifest], *, held: bool = True) -> TransformContext:
    """What the transforms of a run may look at; `mappings`: the datasets of mapping assets, by name."""
    crosswalks = {
        name: run.lake.scan(run.key("mapping", name), manifest=manifest) for name, manifest in mappings.items()
    }
    # What transforms look up is read once, not for each batch.
    looked_up = {
        asset.name
        for asset in run.system.mapping_assets
        if held
        and asset.kind == "reference"
        and asset.name in mappings
        and mappings[asset.name].tables["rows"].rows < HELD_ROWS
    }
    crosswalks |= {name: crosswalks[name].collect(engine="streaming").lazy() for name in looked_up}
    declared = {asset.name: asset.ids for asset in run.system.mapping_assets if asset.kind == "crosswalk"}
    return TransformContext(
        crosswalks=crosswalks,
        id_kinds={
            name: kind_of_ids(frame.select("source_id"), declared[name])
            for name, frame in crosswalks.items()
            if name in declared
        },
        value_maps=run.system.mappings.value_maps,
        decisions=run.decisions.chosen,
        timezone=run.settings.legacy_timezone,
        cutover_at=run.cutover_at,
    )


def source_rows(
    flow: Flow, run: RunSettings, sources: Mapping[str, Manifest], context: TransformContext
) -> list[SourceRows]:
    return [_source_rows(flow, run, name, manifest, context) for name, manifest in sources.items()]


def _source_rows(
    flow: Flow, run: RunSettings, source: str, manifest: Manifest, context: TransformContext
) -> SourceRows:
    """The rows of a source, with the columns that the chosen options need besides those that it always has to have."""
    table = run.system.legacy_tables[source]
    chosen = run.decisions.chosen
    read = flow.reads(chosen)[source] if flow.reads else frozenset(table.columns)
    always = tuple(name for name in table.required if table.all_required or name in read)
    table = replace(table, required=(*always, *flow.required(chosen).get(source, ())))
    frame = legacy_frame(run.lake, run.system.name, table, manifest=manifest)
    rows, home = manifest.tables["rows"].rows, run.settings.home
    if source not in flow.owner:
        return SourceRows.of(table, frame, rows, home=home)
    column, crosswalk = flow.owner[source]
    if not crosswalk:
        kind: ColumnKind = "integer" if table.kind_of(column) == "integer" else "text"
        return SourceRows.of(table, frame, rows, column, owner_kind=kind, home=home)
    kind = context.id_kinds.get(crosswalk, "integer")
    return SourceRows.of(table, frame, rows, column, context.crosswalks[crosswalk], kind, home)


def rules_that_dropped(lake: Lake, system: System, table: str, key: str) -> pl.DataFrame:
    """Which rules dropped the rows of a legacy table with a source key: target_table, source_row, rule.

    As they were prepared last; a row of a key that occurs twice may be dropped where the other one went on.
    """
    found = [pl.DataFrame(schema={"target_table": pl.String(), **DROPPED_SCHEMA})]
    for flow in (flow for flow in system.flows if table in flow.sources):
        for model in flow.targets:
            manifest = lake.manifest((system.name, "rejected", model))
            if manifest and DROPPED in manifest.tables:
                rows = lake.scan_files(manifest, DROPPED).filter(
                    pl.col("source_table") == table, pl.col("source_key") == key
                )
                found.append(rows.select(pl.lit(system.target(model).name).alias("target_table"), pl.all()).collect())
    return pl.concat(found).select("target_table", "source_row", "rule").sort("target_table", "source_row")


def inputs_of(flow: Flow, run: RunSettings) -> tuple[dict[str, Manifest], dict[str, Manifest]]:
    """The legacy tables and the mappings that a flow reads, as they are now."""
    return (
        {name: run.lake.require(run.key("legacy", name)) for name in flow.sources},
        {name: run.lake.require(run.key("mapping", name)) for name in flow.mappings},
    )


def prepared_before(flow: Flow, run: RunSettings, fingerprint: str) -> dict[str, Manifest] | None:
    """What was prepared from the same of all models, where the rejected rows beside it are of that preparation too."""
    found = {}
    for model in flow.targets:
        prepared, rejected = (run.lake.manifest(run.key(layer, model)) for layer in ("prepared", "rejected"))
        if prepared is None or rejected is None or prepared.metadata.get("fingerprint") != fingerprint:
            return None
        if rejected.metadata.get("preparation") != prepared.metadata.get("preparation"):
            return None
        found[model] = prepared
    return found


@contextmanager
def held(run: RunSettings, manifests: Sequence[Manifest]) -> Iterator[None]:
    """While it is held, no other run removes what this one reads."""
    with ExitStack() as stack:
        for manifest in manifests:
            stack.enter_context(run.lake.lease(manifest, run.run_id))
        yield


def _refuse_changed_sources(run: RunSettings, sources: Mapping[str, Manifest]) -> None:
    """Raises StructureError where a source was landed anew: its rows may be those of either landing."""
    changed = [name for name, manifest in sources.items() if run.lake.require(manifest.key).version != manifest.version]
    if changed:
        raise StructureError(
            f"another run landed {', '.join(changed)} anew while its rows were prepared",
            where=run.system.name,
            remedy="nothing was prepared; run again",
        )


def asked_key(system: System, model: str) -> str | None:
    """The column of the key, where a mapping is made of the keys of prepared rows."""
    is_asked = any(("prepared", model) in asset.upstream for asset in system.mapping_assets)
    return system.target(model).key[0] if is_asked else None


@contextmanager
def writers_of(
    flow: Flow, run: RunSettings, versions: Mapping[str, Mapping[str, str]] | None = None
) -> Iterator[dict[str, ModelWriter]]:
    """The writers of all models of a flow, committed together: rejected rows first, so that none is missing.

    `versions` are those, by layer and model, of which others wrote shares.
    """
    versions = versions or {"prepared": {}, "rejected": {}}
    open_writers = [
        (
            model,
            run.lake.write(run.key("prepared", model), run_id=run.run_id, version=versions["prepared"].get(model)),
            run.lake.write(run.key("rejected", model), run_id=run.run_id, version=versions["rejected"].get(model)),
        )
        for model in flow.targets
    ]
    with ExitStack() as stack:
        writers = {}
        for model, prepared, rejected in open_writers:
            prepared_writer = stack.enter_context(prepared)
            rejected_writer = stack.enter_context(rejected)
            writers[model] = ModelWriter(prepared_writer, rejected_writer, asked_key(run.system, model))
        yield writers


def fingerprint_of(
    flow: Flow, run: RunSettings, sources: Mapping[str, Manifest], mappings: Mapping[str, Manifest]
) -> str:
    """Changes with anything the prepared rows depend on: input, mappings, decisions, time, batch size, code, target."""
    facts = {
        "sources": {name: manifest.version for name, manifest in sources.items()},
        "mappings": {name: manifest.metadata.get("digest", manifest.version) for name, manifest in mappings.items()},
        "decisions": dict(run.decisions.chosen),
        "timezone": run.settings.legacy_timezone,
        "cutover_at": run.cutover_at.isoformat() if flow.uses_cutover_time else None,
        "batch_rows": run.settings.batch_rows,
        "live": {model: held_values(run.live.get(model), run.system.target(model)) for model in flow.targets},
        "put there by the target": {model: _given_by(run.live.get(model)) for model in flow.targets},
        "files": digest_of_files(run.system.mappings.files[model] for model in flow.targets),
        "declared": [_declared(run.system, source) for source in flow.sources],
        "generic keys": [
            generic_key_names(run.lake, run.system.name, run.system.legacy_tables[source]) for source in flow.sources
        ],
        "code": [digest_of_files(sorted(package.rglob("*.py"))) for package in (*PREPARING, run.system.code_dir)],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _given_by(live: LiveTarget | None) -> dict[str, list[str | None]]:
    """The defaults and foreign keys of a table as it is live."""
    columns = live.columns if live else {}
    return {name: [column.default, column.references] for name, column in columns.items()}


def _declared(system: System, source: str) -> list[Any]:
    """What of the declaration of a legacy table makes a difference to rows; it may be data as well as code."""
    table = system.legacy_tables[source]
    kinds = [table.kind_of(column) for column in table.columns]
    return [table.columns, kinds, table.key, table.key_repeats, table.null_markers]
