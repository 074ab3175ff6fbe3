"""Rows whose keys are a text, a uuid or several columns: they are explained in both directions, and replayed."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.explain import explain_legacy_row, explain_target_row
from dtx_assets_tests.machinery.dagster.shops import FolderPlace

MAPPED = """\
target: {model}
decision: "A1 #1"
sources:
  {table}:
    columns:
      {key}
      name: {{ from: name }}
"""
FILES = {
    "tables.yaml": """\
areas: { all: "Area 1: All" }
tables:
  land: { key: [code], columns: { code: code, name: text } }
  person: { key: [id], columns: { id: uuid, name: text } }
  seat: { key: [row, place], columns: { row: code, place: integer, name: text } }
""",
    "targets.yaml": """\
targets:
  Land: { table: land, key: [code], key_is_written: true, columns: { code: text, name: text } }
  Person: { table: person, key: [id], key_is_written: true, columns: { id: uuid, name: text } }
  Seat:
    table: seat
    key: [row, place]
    key_is_written: true
    columns: { row: text, place: integer, name: text }
""",
    "decisions.yaml": """\
decisions:
  - { key: rows, area: 1, number: "1", title: Rows, text: A row for a row., status: documented }
""",
    "archived.yaml": "archived: {}\n",
    "Land.yaml": MAPPED.format(model="Land", table="land", key="code: { from: code }"),
    "Person.yaml": MAPPED.format(model="Person", table="person", key="id: { from: id, transform: uuid }"),
    "Seat.yaml": MAPPED.format(
        model="Seat",
        table="seat",
        key="row: { from: row }\n      place: { from: place, transform: integer }",
    ),
}
NAME = "name text NOT NULL CHECK (name <> 'bad')"
TABLES = (
    f"CREATE TABLE land (code text PRIMARY KEY, {NAME})",
    f"CREATE TABLE person (id uuid PRIMARY KEY, {NAME})",
    f"CREATE TABLE seat (row text, place integer, {NAME}, PRIMARY KEY (row, place))",
)
ANN, BOB = str(UUID(int=1)), str(UUID(int=2))
KINDS = {
    "text": ("Land", "land", "de", "fr", ("de", "Germany")),
    "uuid": ("Person", "person", ANN, BOB, (ANN, "Ann")),
    "composite": ("Seat", "seat", '["A", 7]', '["A", 8]', ("A", "7", "window")),
}


@pytest.fixture
def house(tmp_path, database_url, monkeypatch) -> FolderPlace:
    place = FolderPlace(tmp_path, database_url, monkeypatch, "house", FILES, TABLES)
    place.write_table("land", ("code", "name"), [("de", "Germany"), ("fr", "bad")])
    place.write_table("person", ("id", "name"), [(ANN, "Ann"), (BOB, "bad")])
    place.write_table("seat", ("row", "place", "name"), [("A", 7, "window"), ("A", 8, "bad")])
    assert place.run().exit_code == EXIT_CHECK_FAILED
    return place


def environment(house: FolderPlace) -> RunEnvironment:
    return RunEnvironment(house.system, str(uuid4()), datetime.now(UTC))


def source_key(house: FolderPlace, table: str, view: str) -> str:
    [(key,)] = house.sql(f"SELECT source_key FROM migration.{view} WHERE source_table = '{table}'")
    return str(key)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_explained_by_its_key_and_a_legacy_row_by_its_own(house, kind):
    model, table, there, _, values = KINDS[kind]
    target = house.system.target(model)
    with environment(house) as here:
        facts = explain_target_row(here, target, there, unmasked=True)
        legacy = house.system.legacy_tables[table]
        went = explain_legacy_row(here, legacy, source_key(house, table, "mapping"))
        refused = explain_legacy_row(here, legacy, source_key(house, table, "rejected"))
        with pytest.raises(ConfigurationError, match="is not there"):
            explain_target_row(here, target, KINDS[kind][3])
    [source] = facts["sources"]
    assert (facts["is_there"], source["source_table"], source["source_key"]) == (
        True,
        table,
        source_key(house, table, "mapping"),
    )
    assert tuple(str(column["value"]) for column in facts["columns"].values()) == values
    assert [(each["target_table"], each["target_id"]) for each in went["went_to"]] == [(table, there)]
    assert [each["reasons"] for each in refused["rejected"]] == [["schema_violation"]]


def test_a_replay_takes_rejected_rows_of_every_kind_of_key(house):
    for _, table, *_ in KINDS.values():
        house.sql(f"ALTER TABLE {table} DROP CONSTRAINT {table}_name_check")
    done = house.run("house_replay")
    assert {model: load["inserted"] for model, load in done.loads.items()} == {"Land": 1, "Person": 1, "Seat": 1}
    for model, table, _, later, *_ in KINDS.values():
        assert house.sql(f"SELECT count(*) FROM {table}") == [(2,)]
        assert house.sql(f"SELECT count(*) FROM migration.rejected WHERE target_table = '{table}'") == [(0,)]
        with environment(house) as here:
            assert explain_target_row(here, house.system.target(model), later)["is_there"]
