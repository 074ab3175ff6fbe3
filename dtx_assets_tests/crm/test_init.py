"""`dtx init` on both sides of CRM, the sample and NextCRM's own schema, proposes what `mappings/crm` says."""

import io
from pathlib import Path

import bson
import psycopg
import pytest
from bson import ObjectId
from ruamel.yaml import YAML

from dtx_assets.crm.decided_system import MAPPINGS, SYSTEM
from dtx_assets.crm.transforms import TRANSFORMS
from dtx_assets.machinery.declare.draft import Drafts, drafts
from dtx_assets.machinery.declare.suggest import model_names
from dtx_assets.machinery.postgres.catalogue import FoundTarget, target_catalogue
from dtx_assets.machinery.sources.catalogue import legacy_catalogue
from dtx_assets.machinery.sources.found import FoundTable


@pytest.fixture(scope="module")
def found(tmp_path_factory, postgres_server) -> tuple[list[FoundTable], list[FoundTarget]]:
    url = postgres_server.create_database("nextcrm_before_init")
    with psycopg.connect(url) as connection:
        connection.execute((MAPPINGS / "target.sql").read_bytes())
        targets = target_catalogue(connection)
    postgres_server.drop_database("nextcrm_before_init")
    return legacy_catalogue(str(SYSTEM.sample_dir)), targets


@pytest.fixture(scope="module")
def drafted(found) -> Drafts:
    return drafts(*found, TRANSFORMS)


def parsed(drafted: Drafts, name: str):
    return YAML(typ="safe").load(io.StringIO(drafted.files[name]))


def test_collections_are_found_with_the_types_of_their_fields_and_whose_ids_they_hold(found):
    tables, _ = found
    assert {table.name for table in tables} == set(SYSTEM.legacy_tables)
    boards = {column.name: column for table in tables if table.name == "Boards" for column in table.columns}
    assert (boards["_id"].type, boards["_id"].kind, boards["_id"].nullable) == ("objectId", "object_id", False)
    assert (boards["user"].names, boards["watchers"].names, boards["sharedWith"].names) == ("Users", "Users", "Users")
    assert (boards["watchers"].holds, boards["title"].type, boards["title"].names) == ("array", "string", "")
    contacts = {column.name: column for table in tables if table.name == "crm_Contacts" for column in table.columns}
    assert (contacts["account"].names, contacts["status"].type) == ("crm_Accounts", "bool, string")


def test_every_table_and_every_junction_is_mapped(drafted):
    suggestions = drafted.suggestions
    assert (suggestions.tables_without_target, suggestions.targets_without_table) == ([], [])
    assert (len(suggestions.pairs), len(suggestions.junctions)) == (29, 10)
    assert not [pair.undecided for pair in suggestions.pairs if pair.undecided]


def test_the_columns_are_made_as_the_reviewed_files_make_them(found, drafted):
    models = model_names([target for target in found[1] if target.key])
    for target in SYSTEM.filled_targets:
        sources = parsed(drafted, f"{models[target.name]}.yaml")["sources"]
        reviewed = YAML(typ="safe").load(MAPPINGS / f"{target.model}.yaml")["sources"]
        assert list(sources) == list(reviewed), target.model
        for collection, source in sources.items():
            if target.is_junction:
                assert source["members"] == reviewed[collection]["members"]
                continue
            columns = reviewed[collection]["columns"]
            assert source["columns"].keys() == columns.keys()
            differ = {name for name, entry in source["columns"].items() if entry != columns[name]}
            assert differ <= {"password"}, f"{target.model}: {differ}"


def test_collections_are_declared_as_the_reviewed_ones_are(drafted):
    declared = parsed(drafted, "tables.yaml")
    reviewed = YAML(typ="safe").load(MAPPINGS / "tables.yaml")
    assert {name: declared[name] for name in ("kinds_by_name", "coerced")} == {
        name: reviewed[name] for name in ("kinds_by_name", "coerced")
    }
    for name, table in declared["tables"].items():
        assert (table["documents"], table["key"]) == (True, ["_id"])
        # What nobody declared in the sample, and what it does not have, people see to.
        assert set(reviewed["tables"][name]["columns"]) - set(table["columns"]) == set()
        assert set(table["columns"]) - set(reviewed["tables"][name]["columns"]) <= {"legacy_priority"}
    assert "email" in declared["tables"]["Users"]["personal"]


def test_without_transforms_of_its_own_a_system_gets_the_generic_ones(found):
    made = drafts(*found)
    columns = parsed(made, "CrmOpportunities.yaml")["sources"]["crm_Opportunities"]["columns"]
    namespace = columns["id"]["with"]["namespace"]
    assert columns["id"] == {
        "from": "_id",
        "transform": "bson_uuid",
        "with": {"namespace": namespace, "nullable": False},
    }
    assert columns["account"] == {"from": "account", "transform": "bson_uuid", "with": {"namespace": namespace}}
    assert columns["budget"] == {"from": "budget", "transform": "bson_integer", "with": {"nullable": False}}
    assert columns["status"]["with"]["labels"] == ["ACTIVE", "INACTIVE", "PENDING", "CLOSED"]
    assert columns["created_on"] == {"from": "created_on", "transform": "bson_timestamp"}
    boards = parsed(made, "Boards.yaml")["sources"]["Boards"]["columns"]
    assert boards["sharedWith"] == {"from": "sharedWith", "transform": "bson_uuids", "with": {"namespace": namespace}}
    assert parsed(made, "Tasks.yaml")["sources"]["Tasks"]["columns"]["tags"] == {
        "from": "tags",
        "transform": "bson_json",
    }
    decisions = {each["key"]: each for each in parsed(made, "decisions.yaml")["decisions"]}
    assert "Boards.watchers → BoardWatchers" in decisions["arrays_of_ids"]["text"]


def test_ids_in_text_and_fields_without_ids_are_told_apart(tmp_path: Path):
    own, other = ObjectId(), ObjectId()
    (tmp_path / "people.bson").write_bytes(
        bson.encode({"_id": own, "friend": str(other).upper(), "likes": [str(other), other], "note": f"of {other}"})
        + bson.encode({"_id": other, "friend": None, "note": "x", "tags": []})
    )
    (tmp_path / "empty.bson").write_bytes(b"")
    empty, people = legacy_catalogue(str(tmp_path))
    assert (empty.columns, empty.documents) == ((), True)
    assert [(each.name, each.names, each.holds, each.nullable) for each in people.columns] == [
        ("_id", "", "", False),
        ("friend", "people", "", True),
        ("likes", "people", "array", True),
        ("note", "", "", False),
        ("tags", "", "array", True),
    ]
