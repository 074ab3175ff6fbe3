"""Rows of other areas that are filled piece by piece: each unit is written, refused, missed alone."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.errors import StructureError
from dtx_assets_tests.machinery.load.prepared import REQUIREMENT, Batch, Link, Shop, write_prepared

NOTES = replace(REQUIREMENT, model="Notes", columns=REQUIREMENT.columns[:2])
SETTINGS = replace(REQUIREMENT, model="Settings", columns=REQUIREMENT.columns[2:])

Unit = tuple[str, int, str, Mapping[str, Any]]
"""Source key, id, part, columns that are written."""


def label(name: str, value: Any) -> dict[str, str]:
    return {"settings": json.dumps({"labels": {name: value}})}


@pytest.fixture
def fill(shop: Shop):
    def fill_rows(run_id: str, *units: Unit, target=REQUIREMENT, source="keyword", **options: Any):
        empty = dict.fromkeys(column.name for column in target.columns)
        rows = [{"id": unit[1], **empty, **unit[3]} for unit in units]
        # Several source rows with one key may give one unit.
        links = [Link(source, key, {part: number}) for number, (key, _, part, _) in enumerate(units)]
        write_prepared(shop.lake, target, [Batch(rows, links)], sources=[source])
        return shop.load(target, run_id, **options)

    return fill_rows


def requirement(shop: Shop, number: int, exempted: bool = False, note: str | None = None, document: Any = None) -> None:
    shop.sql(
        "INSERT INTO shop_requirement (id, is_exempted, note, settings) VALUES (%s, %s, %s, %s::text::jsonb)",
        number,
        exempted,
        note,
        None if document is None else json.dumps(document),
    )


def row(shop: Shop, number: int = 1) -> tuple[Any, ...]:
    [found] = shop.sql("SELECT is_exempted, note, settings FROM shop_requirement WHERE id = %s", number)
    return found


def test_several_units_fill_one_row_with_one_before_image(shop, fill):
    requirement(shop, 1, document={"theme": "dark", "labels": {"GROUP": "theirs"}})
    units: list[Unit] = [
        ("a", 1, "A", label("A", "x")),
        ("b", 1, "B", label("B", "y")),
        ("c", 1, "note", {"note": "why"}),
    ]
    assert fill("first", *units).updated == 3
    assert row(shop) == (False, "why", {"theme": "dark", "labels": {"GROUP": "theirs", "A": "x", "B": "y"}})
    assert shop.sql("SELECT target_id, before FROM migration.journal") == [
        ("1", {"note": None, "settings": {"theme": "dark", "labels": {"GROUP": "theirs"}}})
    ]
    assert shop.sql("SELECT source_key, part, target_id FROM migration.mapping ORDER BY 1") == [
        ("a", "A", "1"),
        ("b", "B", "1"),
        ("c", "note", "1"),
    ]
    before = shop.state()
    assert fill("second", *units).unchanged == 3
    assert shop.state() == before


def test_a_unit_in_conflict_does_not_stop_the_others_of_its_row(shop, fill):
    requirement(shop, 1, note="theirs", document={"labels": {"A": "theirs", "C": "same"}})
    summary = fill(
        "first",
        ("a", 1, "A", label("A", "x")),
        ("b", 1, "B", label("B", "y")),
        ("c", 1, "C", label("C", "same")),
        ("n", 1, "note", {"note": "why", "is_exempted": True}),
    )
    assert (summary.updated, summary.conflicts, summary.adopted, summary.rejected) == (1, 2, 1, 2)
    # What one source row gives is written whole or not at all.
    assert row(shop) == (False, "theirs", {"labels": {"A": "theirs", "B": "y", "C": "same"}})
    assert shop.sql("SELECT source_key, reasons FROM migration.rejected ORDER BY 1") == [
        ("a", ["target_conflict"]),
        ("n", ["target_conflict"]),
    ]
    assert shop.sql("SELECT source_key, part, cause, columns FROM migration.conflict ORDER BY 1") == [
        ("a", "A", "another owner's row has other values", ["settings"]),
        ("n", "note", "another owner's row has other values", ["is_exempted", "note"]),
    ]


def test_what_others_add_beside_a_unit_is_no_change_of_it(shop, fill):
    requirement(shop, 1, document={})
    fill("first", ("a", 1, "A", label("A", "x")), ("b", 1, "B", label("B", "y")))
    shop.sql("UPDATE shop_requirement SET settings = jsonb_set(settings, '{theme}', '\"dark\"'), note = 'theirs'")
    summary = fill("second", ("a", 1, "A", label("A", "new")), ("b", 1, "B", label("B", "y")))
    assert (summary.updated, summary.unchanged, summary.conflicts) == (1, 1, 0)
    assert row(shop) == (False, "theirs", {"theme": "dark", "labels": {"A": "new", "B": "y"}})


@pytest.mark.parametrize("change", ["'{labels,A}', '\"edited\"'", "'{labels}', '{\"B\": \"y\"}'"])
def test_a_unit_that_someone_changed_or_took_out_is_left_alone(shop, fill, change):
    requirement(shop, 1)
    fill("first", ("a", 1, "A", label("A", "x")), ("b", 1, "B", label("B", "y")))
    shop.sql(f"UPDATE shop_requirement SET settings = jsonb_set(settings, {change})")
    edited = row(shop)
    for run_id, wanted in (("second", "x"), ("third", "new")):
        summary = fill(run_id, ("a", 1, "A", label("A", wanted)), ("b", 1, "B", label("B", "y")))
        assert (summary.conflicts, summary.unchanged) == (1, 1), run_id
        assert row(shop) == edited
    assert shop.sql("SELECT cause FROM migration.conflict") == [("someone changed what this migration wrote",)]
    overwritten = fill(
        "fourth", ("a", 1, "A", label("A", "new")), ("b", 1, "B", label("B", "y")), on_conflict="overwrite"
    )
    assert overwritten.updated == 1
    assert row(shop)[2] == {"labels": {"A": "new", "B": "y"}}


def test_a_unit_that_is_given_no_more_is_listed_though_its_row_has_others(shop, fill):
    requirement(shop, 1)
    fill("first", ("a", 1, "A", label("A", "x")), ("b", 1, "B", label("B", "y")))
    assert fill("second", ("b", 1, "B", label("B", "y"))).vanished == 1
    assert shop.sql("SELECT source_key, part, target_id, cause FROM migration.vanished") == [("a", "A", "1", "gone")]
    assert row(shop)[2] == {"labels": {"A": "x", "B": "y"}}
    assert fill("third", ("a", 1, "A", label("A", "x")), ("b", 1, "B", label("B", "y"))).vanished == 0
    assert shop.sql("SELECT count(*) FROM migration.vanished") == [(0,)]


def test_a_unit_that_another_source_row_gives_stays_ours(shop, fill):
    requirement(shop, 1)
    fill("first", ("a", 1, "A", label("A", "x")))
    summary = fill("second", ("z", 1, "A", label("A", "new")))
    assert (summary.updated, summary.conflicts, summary.vanished) == (1, 0, 0)
    assert row(shop)[2] == {"labels": {"A": "new"}}


def test_numbers_of_a_document_stay_as_they_were_written(shop, fill):
    document = '{"size": 1.50, "big": 12345678901234567890, "labels": {}}'
    shop.sql("INSERT INTO shop_requirement (id, is_exempted, settings) VALUES (1, false, %s::text::jsonb)", document)
    fill("first", ("a", 1, "A", label("A", "x")))
    [(text,)] = shop.sql("SELECT settings::text FROM shop_requirement")
    assert '"size": 1.50' in text
    assert '"big": 12345678901234567890' in text


def test_a_row_that_is_not_there_is_a_conflict(shop, fill):
    summary = fill("first", ("a", 7, "A", label("A", "x")))
    assert (summary.conflicts, summary.updated) == (1, 0)
    assert shop.sql("SELECT cause FROM migration.conflict") == [("the row to be filled is not there any more",)]


def test_the_same_unit_twice_is_a_fault_that_is_told(shop, fill):
    requirement(shop, 1)
    with pytest.raises(StructureError, match="two prepared rows have the same"):
        fill("first", ("a", 1, "A", label("A", "x")), ("b", 1, "A", label("A", "y")))


def test_two_models_fill_one_table_and_do_not_see_each_other(shop, fill):
    requirement(shop, 1)
    requirement(shop, 2)
    notes: list[Unit] = [("1", 1, "note", {"note": "one"}), ("2", 2, "note", {"note": "two"})]
    labels: list[Unit] = [("1", 1, "A", label("A", "x"))]
    assert fill("n1", *notes, target=NOTES, source="field").updated == 2
    assert fill("s1", *labels, target=SETTINGS, source="field").updated == 1
    before = shop.state()
    for run_id in ("second", "third"):
        summary = fill(f"n-{run_id}", *notes, target=NOTES, source="field")
        assert (summary.unchanged, summary.updated, summary.vanished, summary.conflicts) == (2, 0, 0, 0)
        summary = fill(f"s-{run_id}", *labels, target=SETTINGS, source="field")
        assert (summary.unchanged, summary.updated, summary.vanished, summary.conflicts) == (1, 0, 0, 0)
    assert shop.state() == before
    assert row(shop) == (False, "one", {"labels": {"A": "x"}})


def test_bookkeeping_of_before_models_were_told_apart_is_brought_up_to_date(shop, fill):
    requirement(shop, 1)
    units: list[Unit] = [("a", 1, "A", label("A", "x"))]
    fill("first", *units)
    # As version 1 had it.
    shop.sql("DROP VIEW migration.rejected; DROP VIEW migration.rejected_history")
    shop.sql("ALTER TABLE migration.flow DROP COLUMN model; ALTER TABLE migration.load DROP COLUMN model")
    shop.sql("ALTER TABLE migration.flow ADD UNIQUE (system, target_table, source_table)")
    shop.sql("CREATE INDEX load_target ON migration.load (system, target_table, id)")
    shop.sql("DELETE FROM migration.schema_version; INSERT INTO migration.schema_version VALUES (1)")
    summary = fill("second", *units)
    assert (summary.unchanged, summary.skipped_parts) == (1, 1)
    assert shop.sql("SELECT max(version) FROM migration.schema_version") == [(2,)]
    assert shop.sql("SELECT model FROM migration.flow") == [("Requirement",)]
    assert shop.sql("SELECT count(*) FROM migration.rejected_history") == [(0,)]


LABELS = st.dictionaries(st.sampled_from("ABC"), st.sampled_from(["x", "y"]), max_size=3)
STEPS = st.lists(
    st.tuples(st.just("load"), LABELS) | st.tuples(st.just("edit"), LABELS) | st.tuples(st.just("remove"), LABELS),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(theirs=LABELS, steps=STEPS)
def test_loads_and_edits_in_any_order_are_as_a_model_says(shop, fill, theirs, steps):
    shop.sql("DROP SCHEMA IF EXISTS migration CASCADE")
    shop.sql("TRUNCATE shop_requirement")
    requirement(shop, 1, document={"labels": dict(theirs)})
    there, ours = dict(theirs), {}
    for number, (step, labels) in enumerate(steps):
        if step == "load":
            fill(f"run {number}", *((name, 1, name, label(name, value)) for name, value in labels.items()))
            for name, value in labels.items():
                free = name not in there and name not in ours
                as_left = name in ours and there.get(name) == ours[name]
                if free or as_left:
                    there[name] = ours[name] = value
        else:
            for name, value in labels.items():
                if step == "edit":
                    there[name] = value
                else:
                    there.pop(name, None)
            shop.sql("UPDATE shop_requirement SET settings = %s::text::jsonb", json.dumps({"labels": there}))
        assert row(shop)[2] == {"labels": there}, (step, labels)
