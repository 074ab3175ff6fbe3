"""The ten junctions of CRM, from what is stored on both sides: a run into NextCRM's own schema fills all of them.

Half of them stayed empty where names that nobody stores were read. Ugly arrays are compared with the second reading.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from uuid import uuid4

import psycopg
import pytest

from dtx_assets.crm.decided_system import SYSTEM
from dtx_assets.crm.definitions import defs
from dtx_assets.machinery.dagster.run import latest_states, open_instance
from dtx_assets.machinery.load import undo_run
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.explain import explain_target_row
from dtx_assets_tests.crm.compare import brief, differences, found_in, write_form
from dtx_assets_tests.crm.live_facts import live_facts
from dtx_assets_tests.crm.second_reading import Inputs, migrate
from dtx_assets_tests.crm.second_reading_bson import NULL, Value
from dtx_assets_tests.crm.second_reading_facts import FACTS
from dtx_assets_tests.crm.ugly import Maker, array, encoded
from dtx_assets_tests.dtx.commands import Command

DOCUMENTS = 4
SCHEMA = SYSTEM.mappings_dir / "target.sql"


def test_the_mapping_files_say_what_the_inventory_does():
    junctions = {
        model: mapping for model, mapping in SYSTEM.mappings.targets.items() if SYSTEM.target(model).is_junction
    }
    assert len(junctions) == 10
    assert sum(len(mapping.sources) for mapping in junctions.values()) == 19
    for name, sides in FACTS.junctions.items():
        said = [
            (source, entry.members.field, entry.members.own, entry.members.other, entry.members.names)
            for source, entry in junctions[name].sources.items()
            if entry.members
        ]
        assert said == [(each.collection, each.field, each.own_column, each.column, each.references) for each in sides]
        dropped = [[rule.rule for rule in entry.drop] for entry in junctions[name].sources.values()]
        assert dropped == [[], ["not_owner_side"]][: len(sides)]


def documents() -> dict[str, list[bytes]]:
    """Sound ones; the first document of each side names one twice, and nothing besides."""
    maker = Maker(Random(7), DOCUMENTS, 0)
    made: dict[str, list[bytes]] = {}
    for name in FACTS.collections:
        made[name] = []
        for number in range(DOCUMENTS):
            fields = maker.wholly_sound(name, number)
            for column in (each for each in FACTS.arrays[name] if each.rule == "junction" and number == 0):
                there = Value("objectId", maker.ids[column.named][0])
                fields[column.field] = array(there, NULL, there, Value("string", "  "))
            made[name].append(encoded(list(fields.items())))
    return made


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs(documents())


@pytest.fixture
def crm(tmp_path: Path, database_url: str, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> Command:
    with psycopg.connect(database_url) as connection:
        connection.execute(SCHEMA.read_bytes())
    place = write_form(tmp_path, "dump", inputs.collections)
    home = {name: str(tmp_path / name.lower()) for name in ("HOME", "LAKE_URL", "ARCHIVE_URL")}
    places = {"LEGACY_URL": str(place), "TARGET_URL": database_url, **home}
    environment = {f"CRM_{name}": value for name, value in places.items()}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path, environment)


def rows(url: str) -> Mapping[str, int]:
    with psycopg.connect(url) as connection:
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in FACTS.junctions}


def test_all_ten_are_filled_from_both_sides_explained_and_undone(crm, database_url, inputs):
    done = crm("run", "crm")
    assert done.returncode in (0, 3), done.stderr
    told = differences(found_in(database_url), migrate(replace(inputs, facts=live_facts(database_url))))
    assert not told, brief(told)
    # The first document of a side names one, each other one two; two pairs are named by both.
    assert rows(database_url) == {name: 12 if len(sides) == 2 else 7 for name, sides in FACTS.junctions.items()}
    with psycopg.connect(database_url) as connection:
        accounting = connection.execute(
            "SELECT read, migrated, coerced FROM migration.accounting WHERE target_table = ANY (%s)",
            [list(FACTS.junctions)],
        ).fetchall()
        [[pair]] = connection.execute(
            "SELECT target_id FROM migration.mapping WHERE target_table = 'DocumentsToInvoices'"
            " GROUP BY target_id HAVING count(*) = 2 ORDER BY 1 LIMIT 1"
        ).fetchall()
    assert accounting == [(DOCUMENTS, DOCUMENTS, {"null_member": 2, "duplicate_member": 1})] * 19
    with open_instance(Path(crm.environment["CRM_HOME"])) as instance:
        checks = {check.whole_name: check.state for check in latest_states(defs, instance)[1]}
    for name, sides in FACTS.junctions.items():
        assert checks[f"prepared/{name}:junction_members"] == "passed", name
        assert checks[f"prepared/{name}:one_sided_pairs"] == ("warned" if len(sides) == 2 else "passed"), name
    with RunEnvironment(SYSTEM, str(uuid4()), datetime.now(UTC)) as here:
        explained = explain_target_row(here, SYSTEM.target("DocumentsToInvoices"), pair)
    assert [source["source_table"] for source in explained["sources"]] == ["Documents", "Invoices"]
    assert undo_run(database_url, "crm", SYSTEM.targets, "last").left == []
    assert set(rows(database_url).values()) == {0}
