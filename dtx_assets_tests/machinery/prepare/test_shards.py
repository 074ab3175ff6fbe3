"""A flow in shards: what is in place at the end is what one process prepares, whatever died or was done twice."""

from dataclasses import replace

import pytest

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.prepare import preparation
from dtx_assets.machinery.prepare.preparation import RunSettings
from dtx_assets.machinery.prepare.shards import finish_flow, plan_flow, prepare_shard
from dtx_assets_tests.machinery.shard_by_shard import (
    assert_equal_in_shards,
    in_one_process,
    in_place,
    in_shards,
    wipe,
    with_shards,
)
from dtx_assets_tests.machinery.zoo import FLOW, ONLY_ANIMALS, SPECIES_FLOW, Zoo, animal, failing_late

UGLY = [
    *(animal(number, number % 33, ("cat", "dog", "eel")[number % 3], f"n{number % 7}") for number in range(1, 220)),
    *(animal(number, number % 31) for number in range(5, 40, 5)),
    animal(7, 7, "dog", "n0"),
    *(animal(number, 3, "dog", "twin") for number in (300, 301, 300)),
    animal(300, 4, "dog", "twin"),
    animal(310, "x", "cat", b"\xff\xfe"),
    animal("no number", 2),
    animal(None, 2),
    animal(311, 5, None),
    animal(312, 5, "cat", "a name that is too long"),
    *(animal(number, 9, "cat", "gone") for number in range(320, 330)),
]
VISITS = [{"keeper_id": str(number % 35), "animal_name": f"n{number % 9}"} for number in range(150)]


@pytest.fixture
def zoo(tmp_path) -> Zoo:
    zoo = Zoo(tmp_path)
    zoo.land("animal", UGLY)
    zoo.land("visit", VISITS)
    return zoo


def a_run(zoo: Zoo, rows: int) -> RunSettings:
    return with_shards(zoo.settings_of_a_run(batch_rows=20), rows)


def left_of_shards(zoo: Zoo) -> list[str]:
    lake = zoo.directory / "lake" / "zoo"
    left = [*lake.glob("shards/**/*"), *lake.glob("prepared/*/leases/*"), *zoo.settings.home.glob("batches-*")]
    return [str(path) for path in left if path.is_file()]


@pytest.mark.parametrize(
    "flow", [FLOW, SPECIES_FLOW, replace(ONLY_ANIMALS, splits=True)], ids=["plain", "merge", "splits"]
)
@pytest.mark.parametrize("shards", [2, 4])
def test_shards_prepare_what_one_process_does(zoo, flow, shards, monkeypatch):
    monkeypatch.setattr(preparation, "STRETCH_ROWS", 40)
    assert_equal_in_shards(a_run(zoo, 0), flow, shards)
    assert left_of_shards(zoo) == []


def test_one_shard_is_prepared_by_who_plans(zoo):
    assert plan_flow(FLOW, a_run(zoo, 1_000_000)) == []
    assert zoo.lake.manifest(("zoo", "prepared", "Animal"))
    assert left_of_shards(zoo) == []


def test_a_shard_that_dies_leaves_nothing_and_is_done_alone_by_the_next_run(zoo):
    run = a_run(zoo, 100)
    first, second, third, fourth = plan_flow(FLOW, run)
    prepare_shard(FLOW, run, first)
    before = {path for path in (zoo.directory / "lake").rglob("*") if path.is_file()}
    with pytest.raises(ZeroDivisionError):
        prepare_shard(replace(FLOW, run=failing_late), run, second)
    assert {path for path in (zoo.directory / "lake").rglob("*") if path.is_file()} == before
    prepare_shard(FLOW, run, third)
    with pytest.raises(StructureError, match="shard 2 of 4 of animal is not prepared"):
        finish_flow(FLOW, run)
    assert zoo.lake.manifest(("zoo", "prepared", "Animal")) is None
    again = a_run(zoo, 100)
    assert plan_flow(FLOW, again) == [second, fourth]
    for shard in (fourth, second):
        prepare_shard(FLOW, again, shard)
    finish_flow(FLOW, again)
    found = in_place(again, FLOW)
    assert in_one_process(again, FLOW) == found
    assert left_of_shards(zoo) == []


def test_a_shard_whose_files_are_gone_is_done_again(zoo):
    run = a_run(zoo, 200)
    for shard in plan_flow(FLOW, run):
        prepare_shard(FLOW, run, shard)
    lost = next((zoo.directory / "lake" / "zoo" / "rejected" / "Animal").rglob("rejected-*.parquet"))
    lost.unlink()
    assert len(plan_flow(FLOW, a_run(zoo, 200))) == 1


def test_two_executions_of_a_shard_do_not_mix(zoo):
    """The second ends while the first one writes: as where a worker was only cut off."""
    run = a_run(zoo, 100)
    alone = in_one_process(run, FLOW)
    wipe(run, FLOW)
    shards = plan_flow(FLOW, run)
    began = []

    def meanwhile(inputs):
        if not began:
            began.append(shards[0])
            prepare_shard(FLOW, run, shards[0])
        return FLOW.run(inputs)

    prepare_shard(replace(FLOW, run=meanwhile), run, shards[0])
    for shard in shards[1:]:
        prepare_shard(FLOW, run, shard)
    finish_flow(FLOW, run)
    assert began
    assert in_place(run, FLOW) == alone
    assert finish_flow(FLOW, run).keys() == {"Animal"}


def test_shards_of_tables_that_were_landed_anew_are_refused(zoo):
    run = a_run(zoo, 200)
    first, second = plan_flow(FLOW, run)
    prepare_shard(FLOW, run, first)
    zoo.land("visit", VISITS[:10])
    with pytest.raises(StructureError, match="not what it was when its shards were planned"):
        prepare_shard(FLOW, run, second)
    assert in_shards(a_run(zoo, 200), FLOW) == 2
    assert left_of_shards(zoo) == []


def test_shards_meet_in_a_lake_on_s3(zoo, s3_server, s3_bucket, monkeypatch):
    """No process has anything of another one but what lies there."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    zoo.lake = Lake(f"s3://{s3_bucket}/lake")
    zoo.land_keepers({str(number): number for number in range(20)})
    zoo.land("animal", UGLY)
    zoo.land("visit", VISITS)
    run = a_run(zoo, 200)
    alone = in_one_process(run, FLOW)
    wipe(run, FLOW)

    def elsewhere(name: str) -> RunSettings:
        settings = replace(run.settings, home=zoo.directory / name)
        return replace(run, run_id=name, settings=settings, lake=Lake(zoo.lake.url))

    for shard in plan_flow(FLOW, elsewhere("one")):
        prepare_shard(FLOW, elsewhere(shard.name), shard)
    finish_flow(FLOW, elsewhere("four"))
    assert in_place(run, FLOW) == alone
    assert {version.key[1] for version in zoo.lake.versions("zoo")} == {"legacy", "mapping", "prepared", "rejected"}
