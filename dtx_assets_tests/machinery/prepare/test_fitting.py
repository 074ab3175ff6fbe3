"""Rows that the live target cannot hold, found in the preparation: kinds of values, and what becomes of sources."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import polars as pl
import pytest

from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.ddl import LiveColumn, LiveTarget
from dtx_assets.machinery.prepare.assess import LINKS_SCHEMA
from dtx_assets.machinery.prepare.fitting import unfit, without_unfit
from dtx_assets.machinery.prepare.preparation import prepare_flow
from dtx_assets_tests.machinery.zoo import FLOW, SPECIES_FLOW, Zoo

ROUND, FRACTION = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, 0, 0, 0, 1_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("declared", "live", "fits", "does_not", "detail"),
    [
        ("integer", LiveColumn("smallint", True, None, False), -32768, 32768, "does not fit into smallint"),
        ("bigint", LiveColumn("integer", True, None, False), 2**31 - 1, -(2**31) - 1, "does not fit into integer"),
        ("text", LiveColumn("character varying", True, 3, False), "äöü", "abcd", "is longer than 3 characters"),
        ("text", LiveColumn("character", True, 1, False), "é", "ab", "is longer than 1 characters"),
        ("text", LiveColumn("text", False, None, True), "", None, "is NULL, and the target requires a value"),
        ("boolean", LiveColumn("boolean", False, None, False), False, None, "is NULL, and the target requires a value"),
        ("jsonb", LiveColumn("jsonb", False, None, False), "null", None, "is NULL, and the target requires a value"),
        (
            "timestamptz",
            LiveColumn("timestamp with time zone", True, None, False, 2),
            ROUND,
            FRACTION,
            "has more than the 2 digits of the second that the target keeps",
        ),
    ],
)
def test_each_kind_of_value_that_a_live_column_cannot_hold(declared, live, fits, does_not, detail):
    column = TargetColumn("it", declared, "What it is.", nullable=True)
    rows = pl.DataFrame({"_row": [0, 1, 2], "it": [fits, does_not, None if live.nullable else fits]}, strict=False)
    found = unfit(rows, TargetTable("t", "T", "a", (column,), writes="insert"), {"it": live})
    assert found.rows() == [(1, "schema_violation", f"it: {detail}")]
    filled = unfit(rows, TargetTable("t", "T", "a", (column,), writes="update"), {"it": live})
    # NULL is what a unit of a row of others does not write.
    assert filled.height == (0 if does_not is None else 1)


def test_what_several_source_rows_made_is_rejected_with_its_owners():
    rows = pl.DataFrame({"_row": [0, 1, 2], "name": ["a", "too long", "c"]})
    links = pl.DataFrame(
        {
            "source_table": ["main", "main", "main", "side", "side", "main"],
            "source_key": ["1", "2", "3", "x", "y", "4"],
            "source_row": [1, 2, 3, 1, 2, 4],
            "bucket": [0] * 6,
            "parts": [["p"], ["p", "q"], ["p"], ["p"], ["p", "q"], []],
            "rows": [[0], [1, 2], [2], [1], [0, 1], []],
        },
        schema=LINKS_SCHEMA,
    )
    found = pl.DataFrame({"_row": [1], "reason": ["schema_violation"], "detail": ["name: is longer"]})
    left, linked, refused = without_unfit(rows, links, found, ["main", "side"])
    assert left.rows() == [(0, "a"), (1, "c")]
    assert sorted(linked.select("source_table", "source_key", "rows").rows()) == [
        ("main", "1", [0]),
        ("main", "3", [1]),
        ("main", "4", []),
        ("side", "y", [0]),
    ]
    assert sorted(refused.select("source_table", "source_row", "reason").rows()) == [
        ("main", 2, "schema_violation"),
        ("side", 1, "no_matching_row"),
    ]


def live_of(zoo: Zoo, **changed: LiveColumn) -> dict[str, LiveTarget]:
    wide = {
        column.name: LiveColumn("text" if column.type == "text" else column.type, True, None, False)
        for column in zoo.system.target("Animal").columns
    }
    return {"Animal": LiveTarget(1, "r", {**wide, **changed}, frozenset(), None)}


@pytest.fixture
def zoo(tmp_path) -> Zoo:
    zoo = Zoo(tmp_path)
    animal = [("1", "1", "cat", "Tom"), ("2", "1", "dog", "Rex"), ("3", "2", "dog", "Ares")]
    names = ("animal_id", "keeper_id", "kind", "name")
    zoo.land("animal", [dict(zip(names, row, strict=True)) for row in animal], columns=names)
    zoo.land("visit", [], columns=tuple(zoo.system.legacy_tables["visit"].columns))
    return zoo


def prepared(zoo: Zoo, live: dict[str, LiveTarget], flow=FLOW) -> SimpleNamespace:
    [model] = flow.targets
    manifest = prepare_flow(flow, replace(zoo.settings_of_a_run(), live=live))[model]
    rejected = zoo.lake.scan(("zoo", "rejected", model)).collect()
    return SimpleNamespace(
        manifest=manifest,
        rows=zoo.lake.scan(("zoo", "prepared", model)).collect(),
        rejected=rejected.select("source_key", "detail").rows(),
        counts={
            entry["source_table"]: (entry["read"], entry["migrated"], entry["rejected"])
            for entry in manifest.metadata["accounting"]
        },
    )


def test_the_preparation_rejects_them_in_its_accounting_and_anew_when_the_target_changes(zoo):
    wide = prepared(zoo, live_of(zoo))
    assert wide.counts["animal"] == (3, 3, 0)
    assert prepared(zoo, live_of(zoo)).manifest.version == wide.manifest.version
    narrow = prepared(zoo, live_of(zoo, name=LiveColumn("character varying", True, 3, False)))
    assert narrow.counts["animal"] == (3, 2, 1)
    assert narrow.rejected == [("3", "name: is longer than 3 characters")]
    assert sorted(narrow.rows["name"]) == ["Rex", "Tom"]
    assert narrow.manifest.metadata["live"]["name"] == "character varying(3)"
    assert prepared(zoo, {}).counts["animal"] == (3, 3, 0)


def test_rows_that_several_batches_make_together_are_looked_at_before(zoo):
    live = live_of(zoo, name=LiveColumn("character varying", True, 4, False))
    found = prepared(zoo, {"Species": live["Animal"]}, SPECIES_FLOW)
    assert found.counts["animal"] == (3, 0, 3)
    assert {detail for _, detail in found.rejected} == {"name: is longer than 4 characters"}
    assert found.rows.is_empty()
