"""A listing of files that several processes make: planned once, in shards, then finished; the result is that of one.

A shard is a range of the paths in their order, which is that of directories. The plan takes a sample of the paths to
find ranges of equal size, and spreads all paths over them, a slice of the legacy table at a time. Each shard writes
files of its own into the version that the finish puts in place, and says last, in one piece, what it wrote: one that
died said nothing, and is done again whole. What a file held is true for one run only: the next one plans anew and looks
at each file again, but reads none that a shard of a run before it has read, finished or not.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.base.lake import FileEntry, Manifest, TableFiles, new_version
from dtx_assets.machinery.base.scratch import scratch_directory
from dtx_assets.machinery.base.shard import PLAN, SHARDS, Shard, shards_in_all
from dtx_assets.machinery.files.inventory import LegacyFiles, Missing, Progress
from dtx_assets.machinery.look_ups.assets import MappingAsset, MappingContext, build_mapping_asset
from dtx_assets.machinery.look_ups.listings import Listing, ListingDigest, files_of, with_bytes, with_hexadecimal
from dtx_assets.machinery.sources.landing import ROW

SAMPLE = 100_000
"""So many rows of the legacy table say where ranges of paths end."""
SLICE = 500_000
"""Legacy rows that are held while their paths are spread over the shards."""
FILES_AT_ONCE = 100_000
"""Files of a shard that lie in one file of the lake."""


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan_listing(asset: MappingAsset, context: MappingContext) -> list[Shard]:
    """The shards that are left to do before `finish_listing`; where one is enough it is made here, and none is."""
    listing = listing_of(asset)
    before = context.lake.manifest(_key(asset, context, PLAN))
    if before and before.run_id == context.run_id and _is_current(asset, context, before):
        return [shard for shard in _all(before) if _said(asset, context, before, shard) is None]
    lows = _lows(listing, context)
    shards = shards_in_all(len(lows) + 1)
    if len(shards) == 1:
        forget_listing(asset, context)
        build_mapping_asset(asset, context)
        return []
    earlier = _earlier(asset, context, before) if before else []
    forget_listing(asset, context, keep=bool(earlier))
    key, version = (context.system, "mapping", asset.name), new_version()
    context.lake.hold(key, version, context.run_id)
    with (
        scratch_directory(context.home) as scratch,
        context.lake.write(_key(asset, context, PLAN), run_id=context.run_id) as writer,
    ):
        places = _spread(listing, context, lows, scratch)
        for shard in shards:
            path = scratch / str(shard.number - 1)
            with writer.stream(f"paths-{shard.name}", table=shard.name) as (stream, note), path.open("rb") as paths:
                while content := paths.read(1 << 20):
                    stream.write(content)
                note(0)
            path.unlink()
        writer.metadata = {
            "listing": uuid4().hex,
            "made of": _made_of(asset, context),
            "version": version,
            "lows": lows,
            "places": places,
            "earlier": earlier,
        }
        reach("shards.before_plan")
    return shards


def listing_of(asset: MappingAsset) -> Listing:
    assert asset.listing is not None
    return asset.listing


def _key(asset: MappingAsset, context: MappingContext, name: str) -> tuple[str, ...]:
    return (context.system, SHARDS, f"mapping_{asset.name}", name)


def _made_of(asset: MappingAsset, context: MappingContext) -> dict[str, str]:
    """The versions of what the paths come from."""
    keys = [
        (context.system, "crosswalk" if name in context.crosswalk_tables else layer, name)
        for layer, name in asset.upstream
    ]
    return {"/".join(key): context.lake.require(key).version for key in keys}


def _is_current(asset: MappingAsset, context: MappingContext, plan: Manifest) -> bool:
    """Whether the paths of a plan are those of the tables as they are, and all that it put into the lake is there."""
    return bool(plan.metadata["made of"] == _made_of(asset, context)) and context.lake.is_complete(plan)


def _all(plan: Manifest) -> list[Shard]:
    return shards_in_all(len(plan.metadata["lows"]) + 1)


def _lows(listing: Listing, context: MappingContext) -> list[str]:
    """The first path of each shard but the first one, in hexadecimal; none where one process is to look at all."""
    rows = context.lake.require((context.system, "legacy", listing.source)).tables["rows"].rows
    step = max(rows // SAMPLE, 1)
    if not context.shard_files or rows <= context.shard_files:
        return []
    sample = _paths(listing, context, context.legacy(listing.source).filter(pl.col(ROW) % step == 0))
    paths = sample.unique().sort()
    count = min(-(-len(paths) * step // context.shard_files), len(paths))
    return [str(paths[len(paths) * number // count]) for number in range(1, count)]


def _paths(listing: Listing, context: MappingContext, rows: pl.LazyFrame) -> pl.Series:
    """The paths of some rows, in hexadecimal."""
    paths = listing.paths(context, rows).select(pl.col("path").bin.encode("hex")).drop_nulls()
    return paths.collect(engine="streaming").to_series()


def _spread(listing: Listing, context: MappingContext, lows: Sequence[str], scratch: Path) -> list[list[int]]:
    """Writes the paths of each shard into a file that is called by its place, a frame after the other.

    Gives how many bytes each frame of each shard has. Only one file is open at a time.
    """
    places: list[list[int]] = [[] for _ in range(len(lows) + 1)]
    for number in range(len(places)):
        (scratch / str(number)).touch()
    rows = context.lake.require((context.system, "legacy", listing.source)).tables["rows"].rows
    for offset in range(0, rows, SLICE):
        paths = _paths(listing, context, context.legacy(listing.source).slice(offset, SLICE)).unique().sort()
        # Not a list of them: what is looked for by bisection is read one by one.
        ends = [bisect_left(paths, low) for low in lows] + [len(paths)]
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if start < end:
                content = BytesIO()
                paths.slice(start, end - start).to_frame("path").write_ipc_stream(content, compression="lz4")
                with (scratch / str(number)).open("ab") as stream:
                    places[number].append(stream.write(content.getbuffer()))
    return places


def _earlier(asset: MappingAsset, context: MappingContext, plan: Manifest) -> list[dict[str, Any]]:
    """What shards of broken runs wrote: the version of the look-up and the files in it, the latest last."""
    done = [said for shard in _all(plan) if (said := _said(asset, context, plan, shard)) is not None]
    files = [entry for said in done for entry in said.metadata["files"]]
    earlier: list[dict[str, Any]] = plan.metadata["earlier"]
    return [*earlier, *([{"version": plan.metadata["version"], "files": files}] if files else [])]


def forget_listing(asset: MappingAsset, context: MappingContext, *, keep: bool = False) -> None:
    """Removes what lies in the lake of the shards; `keep`: not what they wrote of the look-up itself."""
    plan = context.lake.manifest(_key(asset, context, PLAN))
    if plan is None:
        return
    # The plan goes last: it says which shards there may be.
    for shard in _all(plan):
        context.lake.forget(_key(asset, context, shard.name))
    if not keep:
        versions = [plan.metadata["version"], *(each["version"] for each in plan.metadata["earlier"])]
        for version in versions:
            context.lake.let_go((context.system, "mapping", asset.name), version)
    context.lake.forget(plan.key)


# --- a shard ----------------------------------------------------------------------------------------------------------


def list_shard(asset: MappingAsset, context: MappingContext, shard: Shard, progress: Progress | None = None) -> None:
    """Looks at the files of one shard; StructureError where the paths are not those that were planned any more."""
    plan, listing = _planned(asset, context), listing_of(asset)
    if _said(asset, context, plan, shard) is not None:
        return
    key, share = (context.system, "mapping", asset.name), uuid4().hex[:8]
    with (
        context.lake.lease(plan, context.run_id),
        context.lake.write(_key(asset, context, shard.name), run_id=context.run_id) as said,
        context.lake.write_share(key, plan.metadata["version"]) as writer,
    ):
        paths, known = _paths_of(asset, context, plan, shard), _known(asset, context, plan, shard)
        digest, missing = ListingDigest(), list[Missing]()
        for number, start in enumerate(range(0, len(paths), FILES_AT_ONCE)):
            some = paths.slice(start, FILES_AT_ONCE)
            files = _telling(files_of(context), progress, start, len(paths))
            found = listing.look(replace(context, files=files), some.str.decode("hex"), known)
            if not listing.may_be_missing:
                missing.append(files.missing_of(found))
            listed = with_hexadecimal(found.lazy()).collect()
            digest.add(listed)
            writer.add(listed, file=f"rows-{share}-{number:05d}")
        said.metadata = {
            "listing": plan.metadata["listing"],
            "files": [asdict(entry) for entry in writer.tables["rows"]],
            "rows": digest.rows,
            "sums": digest.sums,
            "missing": [asdict(each) for each in missing],
        }
        reach("shards.before_done")


def _planned(asset: MappingAsset, context: MappingContext) -> Manifest:
    plan = context.lake.manifest(_key(asset, context, PLAN))
    if plan is None or not _is_current(asset, context, plan):
        raise StructureError(
            f"what {asset.name} is made of is not what it was when its shards were planned"
            if plan
            else f"the plan of the shards of {asset.name} is gone: another run has made it, or begun to",
            where=context.system,
            remedy="the listing is as it was before; run again",
        )
    return plan


def _paths_of(asset: MappingAsset, context: MappingContext, plan: Manifest, shard: Shard) -> pl.Series:
    """The paths of a shard in their order, each once."""
    frames, file = [pl.DataFrame(schema={"path": pl.String})], f"paths-{shard.name}"
    with context.lake.local_file(plan.key, plan.version, file) as path, path.open("rb") as stream:
        frames += [pl.read_ipc_stream(BytesIO(stream.read(size))) for size in plan.metadata["places"][shard.number - 1]]
    return pl.concat(frames).to_series().unique().sort()


def _known(asset: MappingAsset, context: MappingContext, plan: Manifest, shard: Shard) -> pl.DataFrame | None:
    """INVENTORY of the files of a shard as it was found by earlier runs, the latest last."""
    key = (context.system, "mapping", asset.name)
    before = context.lake.manifest(key)
    found = [context.lake.scan(key, manifest=before)] if before else []
    for each in plan.metadata["earlier"]:
        tables = {"rows": TableFiles(tuple(FileEntry(**entry) for entry in each["files"]))}
        manifest = replace(plan, key=key, version=each["version"], tables=tables)
        if context.lake.is_complete(manifest):
            found.append(context.lake.scan(key, manifest=manifest))
    if not found:
        return None
    lows = ["", *plan.metadata["lows"]]
    # A text alone would be the name of a column.
    is_in = pl.col("path") >= pl.lit(lows[shard.number - 1])
    if shard.number < len(lows):
        is_in &= pl.col("path") < pl.lit(lows[shard.number])
    of_shard = [with_bytes(each.filter(is_in)).collect(engine="streaming") for each in found]
    return pl.concat(of_shard).unique("path", keep="last", maintain_order=True)


def _telling(files: LegacyFiles, progress: Progress | None, before: int, of: int) -> LegacyFiles:
    """The same files, which tell how many of all are done, some before them included."""
    if progress is None:
        return files
    return replace(files, progress=lambda done, _some, size: progress(before + done, of, size))


def _said(asset: MappingAsset, context: MappingContext, plan: Manifest, shard: Shard) -> Manifest | None:
    """What a shard of this plan said, where all that it wrote is there."""
    said = context.lake.manifest(_key(asset, context, shard.name))
    if said is None or said.metadata["listing"] != plan.metadata["listing"]:
        return None
    key, tables = (context.system, "mapping", asset.name), {"rows": TableFiles(tuple(_entries(said.metadata)))}
    written = replace(said, key=key, version=plan.metadata["version"], tables=tables)
    return said if context.lake.is_complete(written) else None


def _entries(told: Mapping[str, Any]) -> Iterator[FileEntry]:
    return (FileEntry(**entry) for entry in told["files"])


# --- the finish -------------------------------------------------------------------------------------------------------


def finish_listing(asset: MappingAsset, context: MappingContext) -> Manifest:
    """Puts in place what the shards found, where all of them did; the listing that is there stays where it is equal."""
    key = (context.system, "mapping", asset.name)
    before = context.lake.manifest(key)
    if before and before.run_id == context.run_id:
        forget_listing(asset, context)
        return before
    if before and context.lake.manifest(_key(asset, context, PLAN)) is None and not _several(asset, context):
        # The plan made it, and it is as it was.
        return before
    plan = _planned(asset, context)
    of_shards = {shard: _said(asset, context, plan, shard) for shard in _all(plan)}
    if left := [shard.told for shard, said in of_shards.items() if said is None]:
        raise StructureError(
            f"{', '.join(left)} of {asset.name} {'is' if len(left) == 1 else 'are'} not done",
            where=context.system,
            remedy="the listing is as it was before; run again: no file is read twice",
        )
    told = [said.metadata for said in of_shards.values() if said is not None]
    files_of(context).judge([_missing(each) for one in told for each in one["missing"]])
    first, second = (sum(one["sums"][place] for one in told) % (1 << 64) for place in range(2))
    digest = str(ListingDigest(sum(one["rows"] for one in told), (first, second)))
    if before is None or before.metadata.get("digest") != digest:
        with context.lake.write(key, run_id=context.run_id, version=plan.metadata["version"]) as writer:
            writer.tables["rows"] = [entry for one in told for entry in _entries(one)]
            writer.metadata.update(digest=digest, kind=asset.kind)
    forget_listing(asset, context)
    return context.lake.require(key)


def _several(asset: MappingAsset, context: MappingContext) -> bool:
    return bool(_lows(listing_of(asset), context))


def _missing(told: Mapping[str, Any]) -> Missing:
    return Missing(**{**told, "details": tuple(told["details"])})
