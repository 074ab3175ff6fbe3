"""Rows that nobody owns lie in the batch that their key says, whatever other rows there are."""

from pathlib import Path

import polars as pl
import pytest

from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.prepare.batches import SourceRows, legacy_batches
from dtx_assets.machinery.prepare.buckets import bucket_of

HELD = pl.List(pl.Struct({"column": pl.String, "bytes": pl.Binary}))
COLUMNS = ("id", "part", "note")


def rows_of(ids: list[str | None], notes: list[str | None] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {"id": ids, "part": [None] * len(ids), "note": notes or ["n"] * len(ids)},
        schema=dict.fromkeys(COLUMNS, pl.String),
    ).with_columns(
        pl.int_range(1, len(ids) + 1, eager=True).alias("_row"),
        pl.lit(None, HELD).alias("_undecodable"),
        pl.lit("x").alias("unnamed"),
    )


def buckets(table: LegacyTable, frame: pl.DataFrame) -> pl.DataFrame:
    source = SourceRows.of(table, frame.lazy(), frame.height)
    placed = source.placed(source.frame.collect())
    assert placed["_bucket"].null_count() == 0
    return placed.select("id", "note", "_bucket")


TABLES = {
    "integer key": LegacyTable("t", "a", COLUMNS, ("id",), kind_of=lambda _: "integer"),
    "text key": LegacyTable("t", "a", COLUMNS, ("id",)),
    "key of two columns": LegacyTable("t", "a", COLUMNS, ("id", "part")),
    "no key": LegacyTable("t", "a", COLUMNS),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_row_that_is_deleted_moves_no_other(table: LegacyTable) -> None:
    whole = rows_of([str(number) for number in range(500)])
    fewer = whole.filter(pl.col("id") != "7").with_columns(pl.int_range(1, 500, eager=True).alias("_row"))
    before = dict(buckets(table, whole).select("id", "_bucket").iter_rows())
    after = dict(buckets(table, fewer).select("id", "_bucket").iter_rows())
    assert len(set(before.values())) > 400
    assert after == {key: bucket for key, bucket in before.items() if key != "7"}


def test_rows_of_one_key_lie_together_however_it_is_written() -> None:
    found = buckets(TABLES["integer key"], rows_of(["7", "007", "7.0", "8"], ["a", "b", "c", "d"]))
    assert found["_bucket"].n_unique() == 2
    assert found["_bucket"][:3].n_unique() == 1
    uuids = LegacyTable("t", "a", COLUMNS, ("id",), kind_of=lambda name: "uuid" if name == "id" else "text")
    forms = ["{0000000A-0000-0000-0000-000000000001}", "0000000a000000000000000000000001"]
    assert buckets(uuids, rows_of(forms))["_bucket"].n_unique() == 1


def test_a_key_that_is_null_has_its_place_too_and_texts_do_not_run_together() -> None:
    table = TABLES["key of two columns"]
    frame = rows_of([None, "-", "1", "12"]).with_columns(part=pl.Series([None, "-", "2", None]))
    assert buckets(table, frame)["_bucket"].n_unique() == 4
    assert buckets(table, frame).equals(buckets(table, frame))


def test_rows_with_an_owner_stay_where_they_are_and_those_without_go_by_their_key() -> None:
    table = TABLES["integer key"]
    owners = pl.LazyFrame({"source_id": ["n1", "n2"], "target_id": [101, 102]})
    whole = rows_of([str(number) for number in range(100)], ["n1", "n2", "lost", None] * 25)

    def placed(frame: pl.DataFrame) -> dict[str, int]:
        source = SourceRows.of(table, frame.lazy(), frame.height, "note", owners, "text")
        return dict(source.placed(source.frame.collect()).select("id", "_bucket").iter_rows())

    before, after = placed(whole), placed(whole.tail(99).with_columns(_row=pl.int_range(1, 100, eager=True)))
    expected = pl.DataFrame({"owner": [101, 102]}).select(bucket_of(pl.col("owner"))).to_series().to_list()
    assert [before["0"], before["1"]] == expected
    assert after == {key: bucket for key, bucket in before.items() if key != "0"}
    assert before["2"] == before["6"], "whoever the lost owner is, what is his lies together"
    assert len({before[str(number)] for number in range(3, 100, 4)}) > 20


def test_batches_of_a_thousand_rows_hold_every_row_once(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    frame = rows_of([str(number) for number in range(10_000)])
    with lake.write(("toy", "legacy", "t"), run_id="r") as writer:
        writer.add(frame)
    manifest = lake.require(("toy", "legacy", "t"))
    source = SourceRows.of(TABLES["integer key"], lake.scan(manifest.key), 10_000)
    with legacy_batches([source], [manifest], 1_000, tmp_path / "home") as batches:
        read = [(limits, frames["t"]) for _, limits, frames in batches]
    assert len(read) == 16
    assert max(part.height for _, part in read) <= 1_000
    assert all(part["_bucket"].is_between(*limits).all() for limits, part in read)
    assert sorted(int(key) for _, part in read for key in part["_source_key"]) == list(range(10_000))


def test_values_that_are_one_text_have_one_owner() -> None:
    """Users whose e-mails are equal as texts must meet in one batch, whatever they are in their documents."""
    table = LegacyTable("t", "a", COLUMNS, ("id",), kind_of=lambda name: "json" if name == "note" else "text")
    notes: list[str | None] = [
        *('"5"', '{"$numberInt":"5"}', '{"$numberDouble":"5.0"}', '{"$numberDecimal":"5"}', '"\\u0035"'),
        *('"5.0"', '{"$numberDecimal":"5.0"}'),
        *('{"$date":{"$numberLong":"0"}}', '"1970-01-01T00:00:00.000Z"', "true", '"true"'),
        *('{"a":"5"}', None, "null"),
    ]
    frame = rows_of([str(number) for number in range(len(notes))], notes)
    source = SourceRows.of(table, frame.lazy(), frame.height, "note", owner_kind="text")
    found = source.placed(source.frame.collect())["_bucket"].to_list()
    assert len(set(found[:5])) == len(set(found[5:7])) == len(set(found[7:9])) == len(set(found[9:11])) == 1
    assert len({found[0], found[5], found[7], found[9], found[11], found[12], found[13]}) == 7
