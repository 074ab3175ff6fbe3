"""Small batches that are prepared together give the parts that each gives alone."""

from collections import Counter

import polars as pl
import pytest

from dtx_assets.machinery.prepare import preparation
from dtx_assets.machinery.prepare.model_writer import ModelWriter
from dtx_assets.machinery.prepare.part import Part, PreparedParts
from dtx_assets_tests.machinery.prepare.requests import Requests, approved, request
from dtx_assets_tests.machinery.prepare.test_mapping_flow import APPROVED, COMPLIANCE, FAMILY

FRAMES = ("rows", "links", "rejected")
ROWS = [
    *({**row, "id": f"10{row['id']}"} for row in FAMILY),
    *APPROVED,
    *(
        request(number, keeper_id=str(number % 4), **approved("manager"), **COMPLIANCE)
        for number in range(2_000, 2_040)
    ),
]


def parts_of(directory, monkeypatch, stretch_rows: int, model: str) -> tuple[list[Part], int, Counter[str]]:
    """All parts of a model in batches of four rows, in how many files their rows lie, and how many links are counted
    of each source."""
    linked, finish = Counter[str](), ModelWriter.finish

    def counted(self, *told):
        linked.update(self.linked)
        finish(self, *told)

    monkeypatch.setattr(ModelWriter, "finish", counted)
    directory.mkdir()
    monkeypatch.setattr(preparation, "STRETCH_ROWS", stretch_rows)
    requests = Requests(directory)
    requests.run(ROWS, batch_rows=4)
    lake = requests.lake
    prepared, rejected = (lake.require(("zoo", layer, model)) for layer in ("prepared", "rejected"))
    parts = PreparedParts(lake, requests.system.target(model), prepared, rejected, lambda source: 1)
    read = [parts.read(number) for number in range(len(parts.described))]
    monkeypatch.setattr(ModelWriter, "finish", finish)
    return read, len(prepared.tables["rows"].files), linked


@pytest.mark.parametrize("model", ["Request", "Approval", "Entry"])
def test_parts_are_the_same_however_many_batches_are_prepared_at_once(tmp_path, monkeypatch, model):
    alone, files_of_batches, linked = parts_of(tmp_path / "alone", monkeypatch, 1, model)
    for stretch_rows, fewer in ((16, 4), (1_000, 1)):
        together, files, linked_together = parts_of(tmp_path / str(stretch_rows), monkeypatch, stretch_rows, model)
        assert (files_of_batches, files) == (len(alone), fewer)
        assert linked_together == linked
        assert [(part.name, part.buckets) for part in together] == [(part.name, part.buckets) for part in alone]
        for one, other in zip(alone, together, strict=True):
            for frame in FRAMES:
                mine, theirs = getattr(one, frame), getattr(other, frame)
                order = [name for name, kind in mine.schema.items() if not isinstance(kind, pl.List)]
                assert mine.sort(order).equals(theirs.sort(order)), (one.name, frame)
    assert sum(part.rejected.height for part in alone)
    assert linked.total()


def test_a_part_without_rows_that_are_counted_elsewhere_is_read_with_the_types_of_any_part(tmp_path):
    requests = Requests(tmp_path)
    requests.run([], batch_rows=4)
    prepared, rejected = (requests.lake.require(("zoo", layer, "Entry")) for layer in ("prepared", "rejected"))
    counted = PreparedParts(requests.lake, requests.system.target("Entry"), prepared, rejected, lambda source: 1)
    prepared.metadata["source_tables"] = []
    parts = PreparedParts(requests.lake, requests.system.target("Entry"), prepared, rejected, lambda source: 1)
    assert parts.flows == {}
    assert parts.read(0).links.schema == counted.read(0).links.schema
    assert parts.yielded(pl.Series(["1"])).schema["flow_id"] == pl.Int16
