"""The nine faults of the migrator that came of the plan (section 7 of the contract): each is impossible here, and seen.

A test a fault, named by what is so instead. All look at the one run of the shipped sample, or ask the functions.
"""

import json
from dataclasses import replace
from uuid import UUID, uuid5

import bson
import polars as pl
import psycopg
import pytest
from bson import ObjectId

from dtx_assets.crm.decided_system import SYSTEM
from dtx_assets.crm.transforms import NAMESPACE, rules_under
from dtx_assets.machinery.checks.documents import field_types_outcome, moment_outcome
from dtx_assets.machinery.model.target import TargetColumn
from dtx_assets.machinery.postgres.ddl import compare_target, live_target
from dtx_assets.machinery.transforms.document_values import document_value
from dtx_assets_tests.machinery.sources.landing_place import LandingPlace
from dtx_assets_tests.machinery.sources.mongo_stand_in import StandIn, running
from dtx_assets_tests.machinery.transforms.applied import CONTEXT

pytestmark = pytest.mark.timeout(1200)
CHECKS_FAILED = 3
JUNCTIONS = [target.model for target in SYSTEM.filled_targets if target.is_junction]
FEEDS = [(source, model) for model in JUNCTIONS for source in SYSTEM.mappings.for_target(model).sources]


def uuid_of(digits: str) -> UUID:
    return uuid5(UUID(NAMESPACE), digits)


@pytest.fixture(scope="module")
def checks(ran):
    """What the checks of the run say, by `layer/name:check`."""
    told = ran.command("status", "crm", "--json")
    assert told.returncode == 0, told.stderr
    return {
        f"{'/'.join(check['asset'].split('/')[-2:])}:{check['name']}": check
        for check in json.loads(told.stdout)["checks"]
    }


def test_no_junction_is_empty_for_names_that_nobody_stores(ran, checks):
    """8 of 10 were: relation names were read, not stored fields."""
    assert (len(JUNCTIONS), len(FEEDS)) == (10, 19)
    for source, model in FEEDS:
        [[migrated]] = ran.query(
            "SELECT migrated FROM migration.accounting WHERE (source_table, target_table) = (%s, %s)", source, model
        )
        assert migrated, f"{source} → {model}"
    for model in JUNCTIONS:
        assert ran.query(f'SELECT 1 FROM "{model}" LIMIT 1'), model
        assert checks[f"prepared/{model}:junction_members"]["state"] == "passed"
        assert checks[f"prepared/{model}:one_sided_pairs"]["state"] in ("passed", "warned")
    assert any(checks[f"prepared/{model}:one_sided_pairs"]["count"] for model in JUNCTIONS)


def test_an_array_field_that_no_document_has_is_listed(tmp_path):
    table = SYSTEM.legacy_tables["Boards"]
    place = LandingPlace(tmp_path)
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "Boards.bson").write_bytes(bson.encode({"_id": ObjectId(), "watchers_": []}))
    outcome = field_types_outcome(place.land(str(tmp_path / "dump"), table))
    assert not outcome.passed
    assert "watchers" in outcome.metadata["fields that occur in no document"]


def test_an_id_without_a_foreign_key_is_converted_and_no_row_fails_its_batch(ran):
    """`crm_Contacts.account` was copied as hex digits into a uuid column."""
    mapped = "SELECT source_key FROM migration.mapping WHERE (source_table, target_table) = (%s, %s)"
    accounts = {uuid_of(key) for (key,) in ran.query(mapped, "crm_Accounts", "crm_Accounts")}
    named = {each for (each,) in ran.query('SELECT account FROM "crm_Contacts" WHERE account IS NOT NULL')}
    assert named
    assert named <= accounts
    entry = SYSTEM.mappings.for_target("crm_Contacts").sources["crm_Contacts"].columns["account"]
    assert (entry.from_, entry.transform, entry.crosswalk) == (("account",), "document_reference", "crm_Accounts")
    assert ran.rejected("crm_Contacts") == {}


def test_a_required_reference_that_dangles_rejects_its_row_alone(ran):
    """It became an empty text, and its batch of 1,000 was lost."""
    rejected = ran.rejected("Boards")
    assert list(rejected.values()) == [["orphan_reference"]]
    [[rows]] = ran.query('SELECT count(*) FROM "Boards"')
    books = "SELECT read FROM migration.accounting WHERE (source_table, target_table) = (%s, %s)"
    [[count]] = ran.query(books, "Boards", "Boards")
    assert rows == count - 1 > 0


def test_an_optional_reference_that_dangles_leaves_a_trace(ran, checks):
    assert ran.coerced("crm_Leads")["dangling_reference"] == 1
    assert checks["prepared/crm_Leads:dangling_references"]["count"] == 1
    assert checks["prepared/crm_Leads:unconstrained_references"]["count"] == 1
    assert checks["prepared/crm_Contracts:dangling_references"]["state"] == "passed"


@pytest.mark.parametrize(
    ("column", "source", "reason", "told"),
    [
        (TargetColumn("status", "status", "", allowed=("ACTIVE", "CLOSED")), '"WON"', "unmapped_value", '"WON"'),
        (TargetColumn("status", "status", "", True, allowed=("NEW", "CLOSED")), '"WON"', "unmapped_value", '"WON"'),
        (TargetColumn("budget", "integer", "", default="0"), '"12,5"', "unparseable", '"12,5"'),
        (TargetColumn("status", "status", "", allowed=("NEW",), default="NEW"), "null", "schema_violation", "is null"),
        (TargetColumn("at", "timestamp(3)", "", filled_with_now=True), "null", "schema_violation", "is null"),
    ],
)
def test_nothing_becomes_a_default_that_was_something_else(column, source, reason, told):
    """An unknown label became a default, `12,5` zero, null `NEW`."""
    value, reasons = read(column, source, document_value)
    assert value is None
    assert [(code, told in detail) for code, detail in reasons] == [(reason, True)]


def test_the_same_id_twice_in_an_array_is_one_row(ran):
    assert ran.coerced("crm_Accounts", "AccountWatchers")["duplicate_member"] == 1
    for model in JUNCTIONS:
        first, second = SYSTEM.target(model).key
        [[rows, pairs]] = ran.query(f'SELECT count(*), count(DISTINCT ("{first}", "{second}")) FROM "{model}"')
        assert rows == pairs > 0


def test_a_run_again_writes_nothing(ran):
    """The checkpoint is the batch's own transaction; ids are a function of the digits, in whatever case."""
    before = ran.query("SELECT max(id), count(*) FROM migration.batch")
    again = ran.command("run", "crm")
    assert again.returncode == CHECKS_FAILED, again.stderr
    assert ran.query("SELECT max(id), count(*) FROM migration.batch") == before
    assert ran.query('SELECT 1 FROM "crm_campaigns" WHERE id = %s', uuid_of("64e1a0b2c3d4e5f607182930"))


def test_paging_goes_by_the_key_and_what_is_read_is_what_the_server_counts(tmp_path):
    """It went by skip and limit, in no order."""
    documents = [{"_id": ObjectId(f"{number * 7919 % 3001:024x}"), "name": str(number)} for number in range(3001)]
    place = LandingPlace(tmp_path)
    with running(StandIn({"Documents_Types": list(map(bson.encode, documents))}, snapshots=False)) as server:
        manifest = place.land(server.url, SYSTEM.legacy_tables["Documents_Types"])
    keys = place.frame("Documents_Types")["_id"].to_list()
    assert keys == sorted(keys)
    assert len(set(keys)) == manifest.metadata["source_rows"] == manifest.metadata["count_after"] == 3001
    outcome = moment_outcome(manifest, is_cutover=True)
    assert (outcome.passed, outcome.severity) == (False, "ERROR")
    assert outcome.metadata == {"documents before": 3001, "documents after": 3001}


def test_labels_are_those_of_the_live_target(database_url):
    """Its validator had lists of its own."""
    target = SYSTEM.target("crm_Opportunities")
    with psycopg.connect(database_url) as connection:
        connection.execute((SYSTEM.mappings_dir / "target.sql").read_bytes())
        live = live_target(connection, target)
        assert live
        assert live.columns["status"].labels == ("ACTIVE", "INACTIVE", "PENDING", "CLOSED")
        assert compare_target(live, target) == []
        connection.execute("""ALTER TYPE "crm_Opportunity_Status" RENAME VALUE 'PENDING' TO 'WON'""")
        live = live_target(connection, target)
        assert live
        [difference] = compare_target(live, target)
        connection.rollback()
    assert str(difference) == "crm_Opportunities.status: it is an enum without 'PENDING'"
    held = live.columns["status"].as_declared(target.column("status"))
    assert read(held, '"WON"', document_value) == ("WON", [])
    assert [code for code, _ in read(held, '"PENDING"', document_value)[1]] == ["unmapped_value"]


def read(column, source, transform):
    """The value of one field, and each reason with its detail."""
    context = replace(CONTEXT, held={column.name: column}, column=column.name)
    made = transform([pl.col("x")], context, rules_under(SYSTEM.decisions.chosen))
    frame = pl.DataFrame({"x": [source], "_id": [None]}, schema={"x": pl.String, "_id": pl.String})
    told = [
        (problem.reason, frame.filter(problem.when.fill_null(False)).select(problem.detail).item())
        for problem in made.problems
        if frame.select(problem.when.fill_null(False)).item()
    ]
    return (frame.select(made.value).item() if not told else None), told
