"""Rows that the live target cannot hold, found in the preparation: kinds of values, and what becomes of sources."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import polars as pl
import psycopg
import pytest

from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.postgres.ddl import LiveColumn, LiveTarget, create_target, live_target, read_live_targets
from dtx_assets.machinery.prepare.assess import LINKS_SCHEMA
from dtx_assets.machinery.prepare.fitting import fitted, without_unfit
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
    _, found = fitted(rows, TargetTable("t", "T", "a", (column,), writes="insert"), {"it": live})
    assert found.rows() == [(1, "schema_violation", f"it: {detail}")]
    _, filled = fitted(rows, TargetTable("t", "T", "a", (column,), writes="update"), {"it": live})
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


# --- values that only the server can read -----------------------------------------------------------------------------


def test_values_are_prepared_as_the_server_prints_them_and_what_it_cannot_read_is_rejected(zoo, database_url):
    """Through a whole preparation: the load that follows finds the texts that it will read back."""
    table = TargetTable(
        "zoo_animal",
        "Animal",
        "zoo",
        (
            *(column for column in zoo.system.target("Animal").columns if column.name != "name"),
            TargetColumn("name", "interval", "How long it stays.", nullable=True),
        ),
        writes="insert",
        natural_key=("number",),
    )
    zoo.system = replace(zoo.system, targets=(table, zoo.system.target("Species")))
    names = ("animal_id", "keeper_id", "kind", "name")
    stays = [("1", "1", "cat", "26:00:00"), ("2", "1", "dog", "Rex"), ("3", "2", "dog", "1 day 02:00:00")]
    zoo.land("animal", [dict(zip(names, row, strict=True)) for row in stays], columns=names)
    with connect(database_url) as connection:
        create_target(connection, [table])
    found = prepared(zoo, read_live_targets(database_url, [table]))
    assert found.counts["animal"] == (3, 2, 1)
    assert sorted(found.rows["name"]) == ["1 day 02:00:00", "26:00:00"]
    [(key, detail)] = found.rejected
    assert (key, detail) == ("2", 'name: is no value of interval: invalid input syntax for type interval: "…"')
    # Without the target, what is known of the type alone is all that can be said.
    assert prepared(zoo, {}).counts["animal"] == (3, 3, 0)


def test_each_text_is_asked_for_once_and_common_spellings_never(database_url):
    columns = (
        TargetColumn("price", "numeric(8,2)", "", nullable=True),
        TargetColumn("text", "interval", "", nullable=True),
        TargetColumn("refused", "jsonb", "", nullable=True),
    )
    table = TargetTable("it", "It", "all", columns, writes="insert")
    with connect(database_url) as connection:
        create_target(connection, [table])
    live = read_live_targets(database_url, [table])["It"].columns
    asked = []

    def connected():
        asked.append(1)
        return connect(database_url)

    plain = pl.DataFrame({"_row": [0, 1], "price": ["7", "-0.50"], "text": [None, None], "refused": ['{"a": 1}', None]})
    plain = plain.cast({"text": pl.String})
    rows, found = fitted(plain, table, live, connected)
    assert (rows["price"].to_list(), asked, found.height) == (["7.00", "-0.50"], [], 0)
    odd = pl.DataFrame(
        {
            "_row": range(6),
            "price": ["1e2", "1.234", "123456789", "1e-3", "x", None],
            "text": ["1 h", "1 h", "60 min", "1 x", None, None],
            "refused": [None, None, None, None, None, "{"],
        }
    )
    rows, found = fitted(odd, table, live, connected)
    assert rows["price"].to_list() == ["100.00", *odd["price"][1:]]
    assert rows["text"].to_list() == ["01:00:00", "01:00:00", "01:00:00", "1 x", None, None]
    assert len(asked) == 3
    assert sorted(found.select("_row", "detail").rows()) == [
        (1, "price: has more than the 2 decimals that numeric(8,2) keeps"),
        (2, "price: is too large for numeric(8,2)"),
        (3, "price: is more than numeric(8,2) keeps"),
        (3, 'text: is no value of interval: invalid input syntax for type interval: "…"'),
        (4, 'price: is no value of numeric(8,2): invalid input syntax for type numeric: "…"'),
        (5, "refused: is no value of jsonb: invalid input syntax for type json"),
    ]
    assert set(found["reason"]) == {"schema_violation"}


def test_an_error_that_is_not_of_a_value_is_none_of_a_row(database_url):
    column = TargetColumn("it", "interval", "", nullable=True)
    table = TargetTable("it", "It", "all", (column,), writes="insert")
    with connect(database_url) as connection:
        create_target(connection, [table])
        live = live_target(connection, table)
        gone = replace(live.columns["it"], type="gone", whole_type="gone")
        rows = pl.DataFrame({"_row": [0], "it": ["1 h"]})
        with pytest.raises(psycopg.errors.UndefinedObject):
            fitted(rows, table, {"it": gone}, lambda: nullcontext(connection))
