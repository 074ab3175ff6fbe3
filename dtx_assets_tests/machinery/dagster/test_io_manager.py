"""An asset of one's own beside the migration's: takes rows of the lake, gives rows to it."""

import dagster as dg
import polars as pl
import pytest

from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.dagster.io_manager import LakeIOManager

LETTER = dg.AssetKey(["toy", "legacy", "letter"])


@dg.asset(key=["toy", "mine", "subjects"], ins={"letter": dg.AssetIn(LETTER)})
def subjects(letter: pl.LazyFrame) -> pl.LazyFrame:
    assert isinstance(letter, pl.LazyFrame)
    return letter.select("subject")


@dg.asset(key=["toy", "mine", "counted"], ins={"subjects": dg.AssetIn(subjects.key)})
def counted(subjects: pl.DataFrame) -> pl.DataFrame:
    assert isinstance(subjects, pl.DataFrame)
    return pl.DataFrame({"rows": [subjects.height]})


@pytest.fixture
def lake(tmp_path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    with lake.write(("toy", "legacy", "letter"), run_id="r") as writer:
        writer.add(pl.DataFrame({"subject": ["a", "b"], "body": ["x", None]}))
    return lake


def test_lazy_frames_go_in_and_out_by_asset_key(lake):
    result = dg.materialize(
        [dg.AssetSpec(LETTER), subjects, counted], resources={"io_manager": LakeIOManager(url=lake.url)}
    )
    assert result.success
    assert lake.scan(("toy", "mine", "subjects")).collect()["subject"].to_list() == ["a", "b"]
    assert lake.scan(("toy", "mine", "counted")).collect()["rows"].to_list() == [2]
    (made,) = result.asset_materializations_for_node("toy__mine__subjects")
    assert made.metadata["dagster/row_count"].value == 2
    assert lake.require(("toy", "mine", "subjects")).run_id == result.run_id


def test_a_dataset_that_is_not_there_is_told_by_name(lake):
    other = dg.AssetSpec(["toy", "legacy", "keyword"])

    @dg.asset(key=["toy", "mine", "x"], ins={"keyword": dg.AssetIn(other.key)})
    def needs_keyword(keyword: pl.LazyFrame) -> pl.LazyFrame:
        return keyword

    with pytest.raises(Exception, match="toy/legacy/keyword has not been materialised"):
        dg.materialize(
            [other, needs_keyword], resources={"io_manager": LakeIOManager(url=lake.url)}, selection=[needs_keyword]
        )
