"""What files hold, listed in shards: as by one process, whatever dies, and no file is read twice."""

import errno
import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import obstore
import polars as pl
import pytest

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.base.shard import Shard
from dtx_assets.machinery.files import inventory as inventory_module
from dtx_assets.machinery.files.inventory import LegacyFiles, chunks, open_below
from dtx_assets.machinery.files.paths import unreadable
from dtx_assets.machinery.files.stored_root import StoredRoot
from dtx_assets.machinery.look_ups import listing_shards
from dtx_assets.machinery.look_ups.assets import MappingAsset, MappingContext, References, build_mapping_asset
from dtx_assets.machinery.look_ups.listing_shards import finish_listing, list_shard, plan_listing
from dtx_assets.machinery.mapping.load import Mappings
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.transforms.columns import GENERIC
from dtx_assets_tests.machinery.zoo import UNDECODABLE

TABLE = LegacyTable("paper", "office", ("paper_id", "path"), ("paper_id",), description="Papers with their files.")
ASSETS = References("office")
KEY = ("office", "mapping", "paper_file")


@ASSETS.register_files("paper")
def paper_file(_context: MappingContext, rows: pl.LazyFrame) -> pl.LazyFrame:
    """What the files of papers hold."""
    return rows.filter(pl.col("paper_id") != "dropped").select(pl.col("path").cast(pl.Binary))


@ASSETS.register_files("paper", may_be_missing=True)
def paper_file_if_any(_context: MappingContext, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The same of files that papers may do without."""
    return rows.select(pl.col("path").cast(pl.Binary))


ASSET, IF_ANY = ASSETS
CONTENTS = {f"{place % 7}/é{place}.pdf": bytes([place]) * place for place in range(40)}
WRONG = ["../outside", "0/none.pdf", "7/none.pdf", "/etc/hostname", "0"]


@pytest.fixture(params=["directory", "bucket"])
def context(request, tmp_path: Path) -> MappingContext:
    root: Path | StoredRoot = tmp_path / "files"
    if request.param == "bucket":
        root = StoredRoot(f"s3://{request.getfixturevalue('s3_bucket')}/files")
    context = MappingContext(
        *("office", Lake(str(tmp_path / "lake")), "run", "", {}, Mappings({}, {}, {}, {}, GENERIC)),
        legacy_tables={TABLE.name: TABLE},
        files=LegacyFiles(root),
        shard_files=10,
        home=tmp_path / "home",
    )
    for name, content in CONTENTS.items():
        put(context, name, content)
    land(context, [*CONTENTS, *WRONG, *list(CONTENTS)[:9]])
    return context


def put(context: MappingContext, name: str, content: bytes) -> None:
    assert context.files is not None
    if isinstance(context.files.root, StoredRoot):
        obstore.put(context.files.root.store, name, content)
        return
    path = context.files.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def land(context: MappingContext, paths: list[str]) -> None:
    shuffled = random.Random(7).sample([*paths], len(paths))
    rows = pl.DataFrame({"paper_id": [str(place) for place in range(len(paths))], "path": shuffled})
    others = pl.DataFrame({"paper_id": ["dropped", "x"], "path": ["not/looked/at", None]})
    with context.lake.write(("office", "legacy", TABLE.name), run_id="e") as writer:
        rows = pl.concat([rows, others]).with_columns(
            pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("_row"),
            pl.lit(None, UNDECODABLE).alias("_undecodable"),
        )
        # In several files, as a large table is.
        for some in rows.iter_slices(20):
            writer.add(some)
        writer.metadata.update({"dialect": "database", "source": "a notebook"})


def of_run(context: MappingContext, run_id: str) -> MappingContext:
    return replace(context, run_id=run_id)


def listed(context: MappingContext, asset: MappingAsset = ASSET) -> tuple[list[tuple[object, ...]], str]:
    """The rows in their order, and the digest."""
    manifest = context.lake.require((context.system, "mapping", asset.name))
    return context.lake.scan((), manifest=manifest).collect().rows(), manifest.metadata["digest"]


def in_one_process(context: MappingContext, asset: MappingAsset = ASSET) -> tuple[list[tuple[object, ...]], str]:
    build_mapping_asset(asset, context)
    alone = listed(context, asset)
    context.lake.forget((context.system, "mapping", asset.name))
    return alone


def in_shards(context: MappingContext, asset: MappingAsset = ASSET) -> list[Shard]:
    shards = plan_listing(asset, context)
    for shard in reversed(shards):
        list_shard(asset, context, shard)
    finish_listing(asset, context)
    return shards


def left_over(context: MappingContext, asset: MappingAsset = ASSET) -> list[str]:
    """What lies in a lake of a directory beside what counts."""
    root = Path(context.lake.url)
    current = context.lake.require((context.system, "mapping", asset.name)).version
    files = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    return [str(path) for path in files if "shards" in path.parts or ("leases" in path.parts and current in path.name)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bytes of each file that is read."""
    files: list[bytes] = []

    def noted(file, *size):
        content = b"".join(chunks(file, *size))
        files.append(content)
        yield content

    monkeypatch.setattr(inventory_module, "chunks", noted)
    return files


@pytest.mark.parametrize("asset", [ASSET, IF_ANY], ids=lambda asset: asset.name)
@pytest.mark.parametrize(("files", "shards"), [(1, 45), (10, 5), (30, 2), (100, 0), (0, 0)])
def test_shards_list_what_one_process_does(context, monkeypatch, asset, files, shards):
    monkeypatch.setattr(listing_shards, "FILES_AT_ONCE", 4)
    monkeypatch.setattr(listing_shards, "SLICE", 7)
    alone = in_one_process(context, asset)
    context = replace(context, shard_files=files)
    made = in_shards(context, asset)
    assert abs(len(made) - shards) <= 1
    assert bool(made) == bool(shards)
    assert listed(context, asset) == alone
    rows = alone[0]
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    told = {bytes.fromhex(str(row[0])).decode(): row[3:5] for row in rows}
    assert {name: told[name][0] for name in CONTENTS} == {
        name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()
    }
    assert {name: told[name][1] for name in WRONG} == {
        name: "unsafe_path" if name[0] in "./" else "file_missing" for name in WRONG
    }
    assert left_over(context, asset) == []


def test_a_sample_of_the_paths_is_enough_to_share_them_evenly(context, monkeypatch):
    alone = in_one_process(context)
    monkeypatch.setattr(listing_shards, "SAMPLE", 12)
    shards = in_shards(context)
    assert 3 <= len(shards) <= 6
    assert listed(context) == alone


def test_nothing_is_in_place_before_all_shards_are_done_and_what_is_equal_stays(context, read):
    alone = in_one_process(context)
    read.clear()
    shards = plan_listing(ASSET, context)
    for shard in shards[1:]:
        list_shard(ASSET, context, shard)
    with pytest.raises(StructureError, match="shard 1 of 5 of paper_file is not done"):
        finish_listing(ASSET, context)
    assert context.lake.manifest(KEY) is None
    # A step that was handed out twice does nothing, nor does one of a plan that is made again in the same run.
    before = len(read)
    list_shard(ASSET, context, shards[-1])
    assert plan_listing(ASSET, context) == shards[:1]
    assert len(read) == before
    list_shard(ASSET, context, shards[0])
    made = finish_listing(ASSET, context)
    assert finish_listing(ASSET, context) == made
    assert listed(context) == alone
    assert len(read) == len(CONTENTS)
    in_shards(of_run(context, "later"))
    assert context.lake.require(KEY) == made
    assert len(read) == len(CONTENTS)
    put(context, "0/é7.pdf", b"another")
    in_shards(of_run(context, "last"))
    assert read[len(CONTENTS) :] == [b"another"]
    assert listed(context)[1] != alone[1]
    assert listed(context) == in_one_process(context)


def test_a_shard_that_died_half_way_is_done_again_by_this_run_or_the_next_one(context, read, monkeypatch):
    alone = in_one_process(context)
    read.clear()
    monkeypatch.setattr(listing_shards, "FILES_AT_ONCE", 3)
    shards = plan_listing(ASSET, context)
    with monkeypatch.context() as patch:
        patch.setattr(listing_shards, "reach", _dies_at("shards.before_done"))
        with pytest.raises(Died):
            list_shard(ASSET, context, shards[0])
    died = len(read)
    assert died
    for shard in shards[:3]:
        list_shard(ASSET, context, shard)
    assert sorted(read[died : 2 * died]) == sorted(read[:died])
    known = len(read)
    # The run dies. The next one looks at all files again, and reads those that no shard has.
    put(context, "0/é0.pdf", b"changed meanwhile")
    later = of_run(context, "later")
    again = plan_listing(ASSET, later)
    assert again == shards
    list_shard(ASSET, later, again[0])
    assert read[known:] == [b"changed meanwhile"]
    # And another one, of which a shard had said something already.
    last = of_run(context, "last")
    in_shards(last)
    assert len(read) == died + len(CONTENTS) + 1
    put(context, "0/é0.pdf", CONTENTS["0/é0.pdf"])
    in_shards(of_run(context, "as before"))
    rows = [row[:2] + row[3:] for row in listed(context)[0]]
    assert rows == [row[:2] + row[3:] for row in alone[0]]
    assert left_over(context) == []


class Died(BaseException):
    """What a process that is killed does not catch either."""


def _dies_at(point: str) -> Callable[[str], None]:
    def reach(name: str) -> None:
        if name == point:
            raise Died

    return reach


def test_shards_of_other_rows_than_were_planned_are_refused(context):
    shards = plan_listing(ASSET, context)
    list_shard(ASSET, context, shards[0])
    land(context, [*CONTENTS, "0/another"])
    with pytest.raises(StructureError, match="not what it was when its shards were planned"):
        list_shard(ASSET, context, shards[1])
    with pytest.raises(StructureError, match="not what it was when its shards were planned"):
        finish_listing(ASSET, context)
    in_shards(context)
    assert listed(context) == in_one_process(context)
    context.lake.forget(KEY)
    with pytest.raises(StructureError, match="the plan of the shards of paper_file is gone"):
        list_shard(ASSET, context, shards[1])


def test_a_root_that_has_none_of_the_files_is_told_of_all_shards_together(context):
    land(context, [f"elsewhere/{place}" for place in range(30)])
    with pytest.raises(StructureError) as alone:
        build_mapping_asset(ASSET, context)
    with pytest.raises(StructureError) as shared:
        in_shards(context)
    assert "none of the 30 legacy files is there, nor the directory of any, as of 'elsewhere/0'" in str(shared.value)
    assert str(shared.value) == str(alone.value)
    in_shards(context, IF_ANY)
    assert {row[4] for row in listed(context, IF_ANY)[0]} == {"file_missing"}
    # One directory of them is there: files are lost, and the root is the right one.
    land(context, [*(f"0/lost{place}" for place in range(20)), *(f"elsewhere/{place}" for place in range(10))])
    in_shards(context)
    assert len(listed(context)[0]) == 30


def test_a_root_that_is_gone_stops_the_shard(context, tmp_path):
    shards = plan_listing(ASSET, context)
    gone: Path | StoredRoot = tmp_path / "gone"
    if isinstance(context.files.root, StoredRoot):
        gone = StoredRoot(f"{context.files.root}/gone")
    with pytest.raises(StructureError, match="the root of the legacy files is"):
        list_shard(ASSET, replace(context, files=LegacyFiles(gone)), shards[0])


def test_files_that_may_not_be_read_are_missing_with_what_the_system_says(context, monkeypatch):
    def opened(root, path):
        if path.startswith("0/é".encode()):
            raise unreadable(PermissionError(errno.EACCES, "no"), "opened")
        return open_below(root, path)

    monkeypatch.setattr(inventory_module, "open_below", opened)
    alone = in_one_process(context)
    assert [row[5] for row in alone[0]].count("the file cannot be opened: Permission denied") == 6
    in_shards(context)
    assert listed(context) == alone


def test_each_file_is_looked_at_anew_where_that_is_asked_for(context, read):
    in_shards(context)
    read.clear()
    asked = replace(of_run(context, "later"), files=replace(context.files, verify=True))
    in_shards(asked)
    assert len(read) == len(CONTENTS)


def test_progress_is_that_of_the_shard(context, monkeypatch):
    monkeypatch.setattr(listing_shards, "FILES_AT_ONCE", 3)
    shards, told = plan_listing(ASSET, context), list[tuple[int, int | None]]()
    list_shard(ASSET, context, shards[0], lambda done, of, _size: told.append((done, of)))
    of = told[-1][1]
    assert told == [(number, of) for number in range(1, (of or 0) + 1)]
