"""reviewer_address → AccountEmail (spec 4.4): what is new, what is there already, what cannot be an address."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.load import LoadSummary, load_target, open_run
from dtx_assets_tests.dtx.oracle import RawRow, Value
from dtx_assets_tests.dtx.running import SMALL_WORLD, Migration, by, php, reasons, rows

MODEL = "AccountEmail"
TABLE = "docutrax_hierarchy_accountemail"
THEIRS = rows(
    "id account_id email email_type",
    (1, 101, "Ann@Example.com", "reviewer"),
    (2, 101, "ann@example.com", "billing"),
    (3, 102, "BOB@example.com", "reviewer"),
    (4, 102, "bob@example.com", "reviewer"),
)


def reviewer(value: Value, number: int = 1, customer: int | str | None = 1) -> RawRow:
    return {
        "reviewer_address_id": str(number),
        "customer_id": None if customer is None else str(customer),
        "email_string": value,
        "type": "",
        "level": "0",
    }


@pytest.fixture
def migration(tmp_path: Path, database_url: str) -> Migration:
    world = replace(SMALL_WORLD, other_areas={**SMALL_WORLD.other_areas, TABLE: THEIRS})
    return Migration(tmp_path, database_url, world)


def run(migration: Migration, *addresses: RawRow, **options):
    return migration.run({"reviewer_address": addresses}, **options)


def load(migration: Migration, run_id: str) -> LoadSummary:
    context = open_run(migration.database_url, "dtx", run_id, mode="rehearsal", decisions={})
    context = replace(context, decisions=migration.lake.require(("dtx", "prepared", MODEL)).metadata["decisions"])
    return load_target("dtx", SYSTEM.target(MODEL), migration.lake, migration.database_url, context)


def emails(migration: Migration) -> Sequence[tuple[object, ...]]:
    with psycopg.connect(migration.database_url) as connection:
        return connection.execute(f"SELECT account_id, email, email_type FROM {TABLE} ORDER BY 1, 3, 2").fetchall()


def test_addresses_are_lower_case_once_an_account_and_keep_the_spelling_that_is_there(migration):
    result = run(
        migration,
        reviewer(php("New@Example.com ", "ANN@example.com", "new@example.com"), 1),
        reviewer(php("new@example.com"), 2),
        reviewer(php("bob@example.com"), 3, customer=2),
        # Customers 3 and 4 are one account.
        reviewer(php("carl@example.com"), 4, customer=3),
        reviewer(php("carl@example.com", "dora@example.com"), 5, customer=4),
    )
    assert sorted(by(result.rows[MODEL], "account_id", "email", "email_type")) == [
        (101, "Ann@Example.com"),
        (101, "new@example.com"),
        (102, "bob@example.com"),
        (103, "carl@example.com"),
        (103, "dora@example.com"),
    ]
    assert {row["email_type"] for row in result.rows[MODEL]} == {"reviewer"}
    assert result.accounting["reviewer_address", MODEL].migrated == 5
    linked = {key for _, _, key, _ in result.links}
    assert linked == {"1", "2", "3", "4", "5"}


def test_empty_ones_are_dropped_and_what_cannot_be_migrated_is_rejected(migration):
    result = run(
        migration,
        *(reviewer(value, number) for number, value in enumerate((None, "", "N;", "a:0:{}"), 1)),
        reviewer("nonsense", 5),
        reviewer('O:8:"stdClass":0:{}', 6),
        reviewer(php("nobody"), 7),
        reviewer(php("a@example.com"), 8, customer=7),
        reviewer(php("nobody"), 9, customer=7),
        reviewer(php("good@example.com", "bad", "bad@", "worse@example."), 10),
        reviewer('s:17:"plain@example.com";', 11),
    )
    account = result.accounting["reviewer_address", MODEL]
    assert (account.read, account.migrated, account.rejected, dict(account.dropped)) == (11, 2, 5, {"empty": 4})
    assert reasons(result, MODEL) == {
        "5": ["unparseable"],
        "6": ["unparseable"],
        "7": ["invalid_email"],
        "8": ["orphan_reference"],
        "9": ["invalid_email", "orphan_reference"],
    }
    partial = [(each.source_key, each.reasons) for each in result.rejected[MODEL] if each.partial]
    assert partial == [("10", ("invalid_email",))] * 3
    assert sorted(row["email"] for row in result.rows[MODEL]) == ["good@example.com", "plain@example.com"]


def test_a_batch_a_customer_gives_the_same(migration):
    addresses = [
        reviewer(php("a@example.com", f"b{customer}@example.com"), number, customer=customer)
        for number, customer in enumerate([1, 2, 3, 4, 1, 2, 3, 4], 1)
    ]
    whole, split = run(migration, *addresses), run(migration, *addresses, batch_rows=1)
    identity = lambda row: (row["account_id"], row["email"])  # noqa: E731
    assert sorted(whole.rows[MODEL], key=identity) == sorted(split.rows[MODEL], key=identity)
    assert whole.links == split.links


def test_what_is_there_is_adopted_and_a_second_run_writes_nothing(migration):
    addresses = [reviewer(php("ann@example.com", "new@example.com")), reviewer(php("Bob@example.com"), 2, customer=2)]
    run(migration, *addresses)
    first = load(migration, "first")
    assert (first.inserted, first.adopted, first.rejected) == (1, 2, 0)
    written = emails(migration)
    assert written == [
        (101, "ann@example.com", "billing"),
        (101, "Ann@Example.com", "reviewer"),
        (101, "new@example.com", "reviewer"),
        (102, "BOB@example.com", "reviewer"),
        (102, "bob@example.com", "reviewer"),
    ]
    migration.build_mappings(["reviewer"])
    run(migration, *addresses)
    second = load(migration, "second")
    assert (second.inserted, second.updated, second.adopted, second.vanished) == (0, 0, 0, 0)
    assert emails(migration) == written


def test_the_cross_reference_tells_new_addresses_from_those_that_were_there(migration):
    addresses = [
        reviewer(php("ann@example.com", "new@example.com", "bad")),
        reviewer(php("lost@example.com"), 2, customer=7),
    ]
    expected = [
        ("1", "ann@example.com", "already there"),
        ("1", "bad", "invalid"),
        ("1", "new@example.com", "new"),
        ("2", "lost@example.com", "no account"),
    ]
    run(migration, *addresses)
    for run_id in ("first", "second"):
        # What this migration itself loaded is new still.
        migration.build_mappings(["reviewer", "reviewer_cross_reference"])
        found = migration.lake.scan(("dtx", "mapping", "reviewer_cross_reference")).collect()
        assert found.select("reviewer_address_id", "email", "state").rows() == expected
        load(migration, run_id)


@pytest.mark.parametrize(("lengths", "expected"), [("utf8_bytes", []), ("latin1_bytes", [("é@müll.de", "new")])])
def test_the_cross_reference_reads_lengths_as_was_decided(migration, lengths, expected):
    # Its length counts bytes of latin1.
    address = reviewer('a:1:{i:0;s:9:"é@müll.de";}')
    result = run(migration, address, php_string_lengths=lengths)
    assert [row["email"] for row in result.rows[MODEL]] == [email for email, _ in expected]
    migration.build_mappings(["reviewer_cross_reference"], php_string_lengths=lengths)
    found = migration.lake.scan(("dtx", "mapping", "reviewer_cross_reference")).collect()
    assert found.select("email", "state").rows() == expected
