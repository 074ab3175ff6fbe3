"""Rows of other areas that are filled piece by piece: each unit is written, refused, missed alone."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.base.errors import StructureError
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


PRECISE = '{"n": 0.1000000000000000000001, "big": 1e400, "long": 12345678901234567890.5}'


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        ({"note": "x"}, {"note": "y", "is_exempted": True}, (True, "y", None)),
        ({"note": "x", "is_exempted": True}, {"note": "y"}, (True, "y", None)),
        ({"note": "x", "settings": '{"k": 1}'}, {"note": "y"}, (False, "y", {"k": 1})),
        (
            {"settings": '{"i": {"f": 1, "g": 2}}'},
            {"settings": '{"i": {"f": 3}}'},
            (False, None, {"i": {"f": 3, "g": 2}}),
        ),
        (
            {"settings": '{"i": {"f": 1}}'},
            {"settings": '{"i": {"f": 3, "h": 2}}'},
            (False, None, {"i": {"f": 3, "h": 2}}),
        ),
        ({"settings": '{"i": [1, 2]}'}, {"settings": '{"i": [3]}'}, (False, None, {"i": [3]})),
        ({"settings": '{"i": {"f": 1}}'}, {"settings": '{"i": "text"}'}, (False, None, {"i": "text"})),
        (
            {"settings": PRECISE},
            {"settings": '{"n": 1, "big": 1, "long": 1}'},
            (False, None, {"n": 1, "big": 1, "long": 1}),
        ),
    ],
)
def test_a_unit_may_come_to_write_more_or_less_than_before(shop, fill, before, after, left):
    requirement(shop, 1)
    assert fill("first", ("a", 1, "A", before)).updated == 1
    shop.sql("UPDATE shop_requirement SET settings = coalesce(settings, '{}') || '{\"theirs\": 1.50}'")
    summary = fill("second", ("a", 1, "A", after))
    assert (summary.updated, summary.conflicts) == (1, 0)
    # What it no longer writes stays.
    assert row(shop) == (*left[:2], {**(left[2] or {}), "theirs": 1.5})
    state = shop.state()
    assert fill("third", ("a", 1, "A", after)).unchanged == 1
    assert shop.state() == state


@pytest.mark.parametrize(
    ("before", "edit", "after"),
    [
        ({"note": "x", "is_exempted": True}, "is_exempted = false", {"note": "y"}),
        (
            {"settings": '{"i": {"f": 1, "g": 2}}'},
            """settings = '{"i": {"f": 1, "g": 9}}'""",
            {"settings": '{"i": {"f": 3}}'},
        ),
        ({"settings": '{"i": {"f": 1, "g": 2}}'}, """settings = '{"i": {"f": 1}}'""", {"settings": '{"i": {"f": 3}}'}),
        ({"settings": PRECISE}, """settings = settings || '{"n": 0.1}'""", {"settings": '{"n": 1}'}),
    ],
)
def test_a_unit_is_changed_where_someone_changed_what_it_wrote_and_writes_no_more(shop, fill, before, edit, after):
    requirement(shop, 1)
    fill("first", ("a", 1, "A", before))
    shop.sql(f"UPDATE shop_requirement SET {edit}")
    edited = row(shop)
    summary = fill("second", ("a", 1, "A", after))
    assert (summary.updated, summary.conflicts) == (0, 1)
    assert row(shop) == edited


def given_by_one_source_row(shop: Shop, run_id: str, *units: Mapping[str, Any]) -> Any:
    """Units of the row 1, with the parts 0, 1, …"""
    empty = dict.fromkeys(column.name for column in REQUIREMENT.columns)
    links = [Link("keyword", "k", {str(number): number for number in range(len(units))})]
    write_prepared(
        shop.lake, REQUIREMENT, [Batch([{"id": 1, **empty, **unit} for unit in units], links)], sources=["keyword"]
    )
    return shop.load(REQUIREMENT, run_id)


def test_of_the_units_of_one_source_row_those_that_were_there_are_not_ours(shop):
    requirement(shop, 1, note="same")
    summary = given_by_one_source_row(shop, "first", {"note": "same"}, label("A", "x"))
    assert (summary.adopted, summary.updated) == (1, 1)
    summary = given_by_one_source_row(shop, "second", {"note": "same"}, label("A", "new"))
    assert (summary.unchanged, summary.updated) == (1, 1)
    summary = given_by_one_source_row(shop, "third", {"note": "new"}, label("A", "newer"))
    assert (summary.conflicts, summary.updated, summary.rejected) == (1, 1, 0)
    assert row(shop) == (False, "same", {"labels": {"A": "newer"}})
    assert shop.sql("SELECT source_key, partial, reasons FROM migration.rejected") == [("k", True, ["target_conflict"])]
    assert shop.sql("SELECT part, cause FROM migration.conflict") == [("0", "another owner's row has other values")]


def test_all_source_rows_of_a_unit_share_its_conflict(shop):
    requirement(shop, 1, note="theirs")
    empty = dict.fromkeys(column.name for column in REQUIREMENT.columns)
    links = [Link("keyword", key, {"note": 0}, number=number) for number, key in enumerate("ab", 1)]
    write_prepared(shop.lake, REQUIREMENT, [Batch([{"id": 1, **empty, "note": "ours"}], links)], sources=["keyword"])
    summary = shop.load(REQUIREMENT, "first")
    assert (summary.conflicts, summary.rejected) == (1, 2)
    shop.sql("UPDATE shop_requirement SET note = NULL")
    summary = shop.load(REQUIREMENT, "second")
    assert (summary.updated, summary.rejected) == (1, 0)
    state = shop.state()
    shop.load(REQUIREMENT, "third")
    assert shop.state() == state


@pytest.mark.parametrize(
    "units",
    [
        [("a", 1, "A", {"note": "x"}), ("b", 1, "B", {"note": "y"})],
        [("a", 1, "A", label("K", "x")), ("b", 1, "B", label("K", "y"))],
        [("a", 1, "A", {"settings": '{"k": 1}'}), ("b", 1, "B", {"settings": '{"k": true}'})],
    ],
)
def test_units_of_a_row_that_want_different_values_in_one_place_are_a_fault_that_is_told(shop, fill, units):
    requirement(shop, 1)
    with pytest.raises(StructureError, match=r"two prepared rows want different values in (note|settings) .* id 1"):
        fill("first", *units)
    assert row(shop) == (False, None, None)


@pytest.mark.parametrize("there", ["NULL", "'null'", "'{}'", "'[]'", "'\"\"'", "'false'"])
def test_an_empty_document_is_filled(shop, fill, there):
    shop.sql(f"INSERT INTO shop_requirement (id, is_exempted, settings) VALUES (1, false, {there})")
    summary = fill("first", ("a", 1, "A", label("A", "x")), ("b", 1, "B", label("B", "y")))
    assert (summary.updated, summary.conflicts) == (2, 0)
    assert row(shop)[2] == {"labels": {"A": "x", "B": "y"}}


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ("true", "1"),
        ("1", "true"),
        ("false", "0"),
        ("0", "false"),
        ("[true]", "[1]"),
        ('"1"', "1"),
        ("1.5", "1.50000001"),
    ],
)
def test_values_of_another_kind_are_other_values(shop, fill, there, wanted):
    shop.sql(
        "INSERT INTO shop_requirement (id, is_exempted, settings) VALUES (1, false, %s::text::jsonb)",
        f'{{"k": {there}}}',
    )
    before = row(shop)
    assert fill("first", ("a", 1, "A", {"settings": f'{{"k": {wanted}}}'})).conflicts == 1
    assert repr(row(shop)) == repr(before)


@pytest.mark.parametrize("order", ["NS", "SN"])
def test_two_models_fill_one_table_and_do_not_see_each_other(shop, fill, order):
    requirement(shop, 1)
    requirement(shop, 2)
    filled: dict[str, tuple[Any, list[Unit]]] = {
        "N": (NOTES, [("1", 1, "note", {"note": "one"}), ("2", 2, "note", {"note": "two"})]),
        "S": (SETTINGS, [("1", 1, "A", label("A", "x"))]),
    }

    def load(model: str, run_id: str):
        target, units = filled[model]
        return fill(f"{model} {run_id}", *units, target=target, source=f"field {model}")

    for model in order:
        assert load(model, "first").updated == len(filled[model][1])
    before = shop.state()
    for run_id in ("second", "third"):
        for model in order:
            summary = load(model, run_id)
            counts = (summary.unchanged, summary.updated, summary.vanished, summary.conflicts)
            assert counts == (len(filled[model][1]), 0, 0, 0), (model, run_id)
            # What the other model wrote since was looked at once.
            assert summary.skipped_parts == (run_id == "third" or model == order[-1]), (model, run_id)
    assert shop.state() == before
    assert row(shop) == (False, "one", {"labels": {"A": "x"}})


def test_one_model_changes_beside_what_another_filled_later(shop, fill):
    requirement(shop, 1)
    fill("notes", ("1", 1, "note", {"note": "one"}), target=NOTES)
    fill("settings", ("1", 1, "A", label("A", "x")), target=SETTINGS, source="other")
    summary = fill("again", ("1", 1, "note", {"note": "new"}), target=NOTES)
    assert (summary.updated, summary.conflicts) == (1, 0)
    assert row(shop) == (False, "new", {"labels": {"A": "x"}})


VALUE = st.sampled_from(["x", "y"])
LABELS = st.dictionaries(st.sampled_from("ABC"), VALUE, max_size=3)
PLACE = st.tuples(st.sampled_from([1, 2]), st.sampled_from(["note", "A", "B"]))
"""Row and part; the part is the column `note` or a label."""
STEPS = st.lists(
    st.tuples(st.sampled_from(["keep_target", "overwrite"]), st.dictionaries(PLACE, VALUE, max_size=6))
    | st.tuples(st.just("edit"), st.dictionaries(PLACE, VALUE | st.none(), min_size=1, max_size=2)),
    min_size=1,
    max_size=7,
)


@settings(max_examples=25)
@given(theirs=st.dictionaries(PLACE, VALUE, max_size=3), steps=STEPS)
def test_loads_and_edits_in_any_order_are_as_a_model_says(shop, theirs, steps):
    shop.sql("DROP SCHEMA IF EXISTS migration CASCADE; TRUNCATE shop_requirement")
    there: dict[tuple[int, str], str] = dict(theirs)
    ours: dict[tuple[int, str], str] = {}
    found: dict[tuple[int, str], str] = {}

    def write_rows() -> None:
        for number in (1, 2):
            labels = {part: value for (of, part), value in there.items() if of == number and part != "note"}
            shop.sql(
                "INSERT INTO shop_requirement (id, is_exempted, note, settings) VALUES (%s, false, %s, %s::text::jsonb)"
                " ON CONFLICT (id) DO UPDATE SET note = excluded.note, settings = excluded.settings",
                number,
                there.get((number, "note")),
                json.dumps({"labels": labels, "theirs": 1}),
            )

    def rows() -> dict[tuple[int, str], str]:
        filled = {}
        for number, note, document in shop.sql("SELECT id, note, settings FROM shop_requirement"):
            assert document["theirs"] == 1
            filled |= {(number, part): value for part, value in document["labels"].items()}
            filled |= {(number, "note"): note} if note is not None else {}
        return filled

    def prepare(units: Mapping[tuple[int, str], str]) -> None:
        batches = []
        for of in (1, 2):
            mine = [(part, value) for (number, part), value in sorted(units.items()) if number == of]
            empty = dict.fromkeys(column.name for column in REQUIREMENT.columns)
            values = [{"note": value} if part == "note" else label(part, value) for part, value in mine]
            links = [
                Link("keyword", f"{of} {part}", {part: n}, bucket=of * 2048 - 1) for n, (part, _) in enumerate(mine)
            ]
            batches.append(Batch([{"id": of, **empty, **value} for value in values], links))
        write_prepared(shop.lake, REQUIREMENT, batches, sources=["keyword"])

    write_rows()
    for number, (step, places) in enumerate(steps):
        if step == "edit":
            there = {place: value for place, value in (there | places).items() if value is not None}
            write_rows()
            continue
        conflicts = set()
        for place, value in places.items():
            free = place not in there and place not in ours
            as_left = place in ours and there.get(place) == ours[place]
            if there.get(place) == value:
                if place not in ours:
                    found[place] = value
                else:
                    ours[place] = value
            elif free or as_left or step == "overwrite":
                there[place] = ours[place] = value
                found.pop(place, None)
            else:
                conflicts.add(place)
        prepare(places)
        summary = shop.load(REQUIREMENT, f"run {number}", on_conflict=step)
        assert rows() == there, (step, places)
        assert summary.conflicts == len(conflicts)
        listed = {(int(of), part) for of, part in shop.sql("SELECT target_id, part FROM migration.conflict")}
        assert listed == conflicts
        gone = {(int(of), part) for of, part in shop.sql("SELECT target_id, part FROM migration.vanished")}
        assert gone == (ours.keys() | found.keys()) - places.keys()
        state = shop.state()
        shop.load(REQUIREMENT, f"run {number} again", on_conflict=step)
        assert shop.state() == state
