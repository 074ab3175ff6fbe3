"""Texts are made as the contract says, line by line, of rows as ugly as they come."""

import hashlib

import polars as pl
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.derived.model import load_derived
from dtx_assets.machinery.derived.texts import entity_texts
from dtx_assets_tests.machinery.derived.place import CHOSEN, DECLARED, key, projects_of

NAMED = {**CHOSEN, "embedding_identifiers": "include"}
EVERYTHING = {
    "profile_type": "patient",
    "first_name": "  Zoë ",
    "last_name": " ",
    "gender": "female",
    "date_of_birth": "1980-02-29",
    "medical_history": "none\nso far ",
    "allergies": "",
    "medications": None,
    "is_active": True,
    "metadata": {"groups": ["a", "b c"]},
}


def texts(place, entity, chosen=CHOSEN):
    pages = list(entity_texts(place.connection, DECLARED.entities[entity], chosen, place.legacy_rows))
    return dict(pl.concat(pages).select("source_id", "text").iter_rows()) if pages else {}


def profile(place, chosen=CHOSEN, **changes):
    place.put("profiles", "one", **{**EVERYTHING, **changes})
    return texts(place, "profiles", chosen).get(key("one"))


def test_a_profile_has_its_lines_in_order_and_names_only_where_they_were_chosen(place):
    lines = "Type: patient\nGender: female\nBorn: 1980\nGroups: a, b c\nMedical history: none\nso far"
    assert profile(place) == lines
    assert profile(place, NAMED) == f"Name: Zoë\n{lines}"


ALL_BLANK = {"gender": None, "date_of_birth": None, "medical_history": "\u00a0", "metadata": {}}


@pytest.mark.parametrize(
    ("changes", "chosen", "text"),
    [
        (ALL_BLANK, CHOSEN, None),
        (ALL_BLANK, NAMED, "Name: Zoë\nType: patient"),
        ({"is_active": False}, CHOSEN, None),
        ({"is_active": None}, CHOSEN, None),
        ({**ALL_BLANK, "metadata": {"groups": "no list"}}, CHOSEN, None),
        ({**ALL_BLANK, "metadata": {"groups": [" "]}}, CHOSEN, None),
        ({**ALL_BLANK, "allergies": " nuts\t"}, CHOSEN, "Type: patient\nAllergies: nuts"),
    ],
)
def test_a_profile_without_a_line_beyond_its_type_or_that_is_not_active_has_none(place, changes, chosen, text):
    assert profile(place, chosen, **changes) == text


def test_orders_name_their_type_and_deleted_ones_have_no_text(place):
    kind = place.put("order_types", "kind", name="Retainer")
    told = {"complaint": ' 100 % "sore" ', "objective": "", "scanner_notes": 7, "model": "x"}
    place.put("orders", "told", order_type_id=kind, data=told, notes="N")
    place.put("orders", "kind only", order_type_id=kind)
    place.put("orders", "deleted", order_type_id=kind, notes="N", metadata={"deleted": True})
    place.put("orders", "odd", order_type_id=kind, notes="N", metadata={"deleted": "perhaps"})
    assert texts(place, "orders") == {
        key("told"): 'Order type: Retainer\nComplaint: 100 % "sore"\nNotes: N\nScanner notes: 7',
        key("odd"): "Order type: Retainer\nNotes: N",
    }


def test_a_message_is_its_trimmed_body_alone(place):
    for name, body in {"plain": " 🦷 hi \\ \n there\u2003", "blank": " \n\u00a0\t", "empty": ""}.items():
        place.message(name, body)
    assert texts(place, "messages") == {key("plain"): "🦷 hi \\ \n there"}


def test_a_project_has_a_text_where_its_legacy_name_was_not_blank(place):
    place.legacy["dispatch_project"] = projects_of({1: "Untitled Project", 2: " ", 3: None})
    for number, name in enumerate(["named", "blank", "null"], start=1):
        place.put("projects", name, legacy_project_id=number, name="Untitled Project", project_type="scan")
    place.put("projects", "new", legacy_project_id=None, name="Untitled Project", description="d")
    assert texts(place, "projects") == {
        key("named"): "Project: Untitled Project\nType: scan",
        key("new"): "Project: Untitled Project\nDescription: d",
    }


def test_the_hash_is_sha_256_of_the_text_in_utf_8(place):
    place.message("one", "Ünïcode 🦷")
    [page] = entity_texts(place.connection, DECLARED.entities["messages"], CHOSEN, place.legacy_rows)
    assert page.get_column("content_hash").to_list() == [hashlib.sha256("Ünïcode 🦷".encode()).hexdigest()]


def test_rows_come_page_by_page_and_some_by_their_ids(place, monkeypatch):
    monkeypatch.setattr("dtx_assets.machinery.derived.texts.ROWS_A_PAGE", 3)
    names = [f"m{number}" for number in range(7)]
    for name in names:
        place.message(name, f"body of {name}")
    assert texts(place, "messages") == {key(name): f"body of {name}" for name in names}
    pages = entity_texts(
        place.connection, DECLARED.entities["messages"], CHOSEN, place.legacy_rows, [key("m1"), key("none")]
    )
    assert pl.concat(pages).get_column("text").to_list() == ["body of m1"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("{ column: is_active, is: true }", "{ column: is_active, legacy: x }"), "it names no condition"),
        (("table: order_types, by", "by"), "`table` and `by` go together"),
        (("priority: 1", "prioritty: 1"), "unknown key 'prioritty'"),
        (("lines:\n      - { fields: [{ column: body }] }", "lines: []"), "'lines' cannot be"),
    ],
)
def test_what_is_wrong_with_a_declaration_is_told_with_its_line(tmp_path, change, words):
    from dtx_assets_tests.machinery.derived.place import MAPPINGS

    said = (MAPPINGS / "derived.yaml").read_text("utf-8")
    assert change[0] in said
    (tmp_path / "derived.yaml").write_text(said.replace(*change))
    with pytest.raises(ConfigurationError) as told:
        load_derived(tmp_path / "derived.yaml")
    assert words in str(told.value)
    assert "derived.yaml:" in str(told.value)
