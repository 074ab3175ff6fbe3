"""`dtx errors crm`: the plan's `migration-errors.log`, block by block, and what it must not show."""

import json
import re
import stat
from pathlib import Path

import pytest

from dtx_assets.crm.decided_system import SYSTEM
from dtx_assets_tests.crm.small_load import CHILD, LOSER, REJECTED, SECRETS, SmallLoad
from dtx_assets_tests.dtx.commands import Command

pytestmark = pytest.mark.timeout(900)
BLOCK = re.compile(
    r'\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] ERROR in table "(?P<target>\w+)"(?:, from "(?P<source>\w+)")?'
    r"(?P<part>, a part of its row)?\nMongoDB ObjectId: (?P<key>.+)\n"
    r"Error: (?P<reasons>[a-z_, ]+): (?P<detail>.*)\nOriginal Document: (?P<row>\{.*\})\n"
)
HEADING = "Patterns, the most frequent first:\n"


@pytest.fixture(scope="module")
def errors(tmp_path_factory, postgres_server):
    """The command, on a target in which documents of several collections are rejected."""
    place = Path(tmp_path_factory.mktemp("errors"))
    url = postgres_server.create_database("errors_of_crm")
    SmallLoad(place, url).load()
    environment = {"CRM_TARGET_URL": url, "CRM_HOME": str(place / "home")}
    command = Command(place, environment, seconds=600)
    yield lambda *options: command("errors", "crm", *options)
    postgres_server.drop_database("errors_of_crm")


@pytest.fixture(scope="module")
def log(errors, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "migration-errors.log"
    done = errors("--output", str(path))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return path


@pytest.fixture(scope="module")
def blocks(log):
    entries, _, _ = log.read_text().partition(f"\n{HEADING}")
    return [BLOCK.fullmatch(f"{each}\n") for each in entries.rstrip("\n").split("\n\n")]


def test_every_entry_is_a_block_in_the_form_of_the_plan(blocks):
    assert all(blocks)
    told = [(each["source"] or each["target"], each["target"], each["key"], bool(each["part"])) for each in blocks]
    given = [(each.table, model, each.key, each.partial) for model, some in REJECTED.items() for each in some]
    assert sorted(told) == sorted(given)
    [block] = [each for each in blocks if each["target"] == "Sections"]
    assert (block["key"], block["reasons"]) == (CHILD, "orphan_reference")
    assert block["detail"] == REJECTED["Sections"][0].detail
    document = json.loads(block["row"])
    assert (document["_id"], document["board"]) == ({"$oid": CHILD}, REJECTED["Sections"][0].row["board"])


def test_nothing_personal_is_shown_unless_it_is_asked_for(errors, log):
    shown = log.read_text()
    assert not [secret for secret in SECRETS if secret in shown]
    assert "QW5uYQ==" not in shown
    assert "chess" not in shown
    for source, fields in {
        "Users": {"password"},
        "openAi_keys": {"api_key"},
        "secondBrain_notions": {"notion_api_key"},
        "systemServices": {"serviceKey", "servicePassword"},
    }.items():
        assert all(SYSTEM.legacy_tables[source].is_personal(field) for field in fields)
    whole = errors("--unmasked").stdout
    assert all(secret in whole for secret in SECRETS)


def test_the_file_is_for_its_owner_alone(log):
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_patterns_are_told_with_table_reason_and_column(log):
    _, _, told = log.read_text().partition(HEADING)
    lines = [line.split() for line in told.splitlines()]
    assert [int(count) for count, *_ in lines] == sorted((int(count) for count, *_ in lines), reverse=True)
    assert sum(int(count) for count, *_ in lines) == sum(map(len, REJECTED.values()))
    assert ["1", "Sections", "orphan_reference", "board"] in lines
    assert ["1", "openAi_keys", "schema_violation,", "unparseable", "user,", "api_key"] in lines


def test_json_lines_of_one_table_and_reason(errors):
    done = errors("--table", "Users", "--reason", "duplicate_key", "--format", "jsonl")
    [entry] = [json.loads(line) for line in done.stdout.splitlines()]
    assert (entry["source_key"], entry["target_table"], entry["partial"]) == (LOSER, "Users", False)
    assert entry["columns"] == ["email"]
    assert errors("--table", "Users", "--reason", "unparseable", "--format", "jsonl").stdout == ""
