"""The second reading goes by the live target where the inventory says otherwise."""

import bson
import psycopg
import pytest
from bson import Int64, ObjectId

from dtx_assets_tests.crm.live_facts import live_facts
from dtx_assets_tests.crm.second_reading import Inputs, migrate
from dtx_assets_tests.crm.second_reading_facts import FACTS, Facts
from dtx_assets_tests.crm.test_compare import create

HEX = "507f1f77bcf86cd799439011"


@pytest.fixture
def target(database_url):
    with psycopg.connect(database_url) as connection:
        create(connection)
    return database_url


def told(facts: Facts, **fields: object) -> tuple[str, ...] | dict[str, object]:
    task = {"_id": ObjectId(HEX), "__v": 0, "position": 1, "priority": "low", "title": "t"} | fields
    result = migrate(Inputs({"Tasks": [bson.encode(task)]}, facts=facts))
    return result.rows["Tasks"].get(HEX) or next(each.reasons for each in result.rejected if each.target == "Tasks")


def test_the_same_target_gives_the_same_facts_but_for_defaults(target):
    inventory, live = ({(e.collection, e.field): e for e in facts.fields} for facts in (FACTS, live_facts(target)))
    assert inventory.keys() == live.keys()
    for key, each in inventory.items():
        if not each.junction:
            told_of = [(e.rule, e.nullable, e.references, e.labels) for e in (each, live[key])]
            assert told_of[0] == told_of[1], key


def test_what_the_live_target_says_counts(target):
    assert told(live_facts(target), position=Int64(2**31)) == ("schema_violation",)
    assert told(live_facts(target), taskStatus="DONE") == ("unmapped_value",)
    with psycopg.connect(target) as connection:
        connection.execute('ALTER TABLE "Tasks" ALTER position TYPE bigint, ALTER content SET NOT NULL')
        connection.execute("ALTER TYPE \"taskStatus\" ADD VALUE 'DONE'")
        connection.execute("""ALTER TABLE "Tasks" ALTER priority SET DEFAULT 'it''s low', ALTER likes SET NOT NULL""")
        connection.execute('ALTER TABLE "Tasks" ALTER likes SET DEFAULT 7, DROP CONSTRAINT "Tasks_section_fkey"')
    facts = live_facts(target)
    assert told(facts, content=None) == ("schema_violation",)
    row = told(facts, content="c", position=Int64(2**31), taskStatus="done", section=ObjectId(HEX))
    assert isinstance(row, dict)
    assert (row["position"], row["taskStatus"], row["likes"]) == (2**31, "DONE", 7)
    assert row["section"] == "2bcd026a-dc83-5f13-a60a-29e5b81a83e9"
    [priority] = [each for each in facts.columns["Tasks"] if each.field == "priority"]
    assert priority.default == "it's low"
    [section] = [each for each in facts.columns["Tasks"] if each.field == "section"]
    assert (section.references, section.rule) == ("", "uuid")
