"""A rehearsal does not compare by value again what no digest says has changed; whatever changed is compared."""

from dataclasses import replace

import psycopg
import pytest

from dtx_assets.machinery.load import verify_target
from dtx_assets.machinery.load.verified_before import BOOKKEEPING
from dtx_assets_tests.machinery.load.prepared import REMINDER, SYSTEM
from dtx_assets_tests.machinery.load.test_verify import EACH, FAULTS, ROWS, migrate, prepare

HALVES = [list(range(0, ROWS, 2)), list(range(1, ROWS, 2))]
SOME = f"IN (SELECT id FROM shop_reminder ORDER BY id LIMIT {EACH})"
BY_HAND = {
    "a row is gone": f"DELETE FROM shop_reminder WHERE id {SOME}",
    "a row of somebody": (
        "INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active) VALUES (1, 'own', 9, '[]', true)"
    ),
    "two rows have changed places": (
        "UPDATE shop_reminder AS t SET note = o.note FROM shop_reminder AS o WHERE (t.id, o.id) IN (SELECT min(id),"
        " max(id) FROM shop_reminder UNION SELECT max(id), min(id) FROM shop_reminder)"
    ),
    "an entry of the mapping is gone": (
        "DELETE FROM migration.mapping_entry WHERE source_key = (SELECT min(source_key) FROM migration.mapping_entry)"
    ),
    "an entry leads elsewhere": (
        "UPDATE migration.mapping_entry SET lowest_id = lowest_id + 1, highest_id = highest_id + 1"
        " WHERE source_key = '1998'"
    ),
    "a batch is not ours": "UPDATE migration.batch SET inserted_ids = '{}'",
    "a row is refused": (
        "INSERT INTO migration.rejected_entry SELECT load_id, NULL, flow_id, bucket, false, true, 0, 0, source_key,"
        " '{x}', 'x', '{}' FROM migration.mapping_entry JOIN migration.batch ON batch_id = batch.id LIMIT 1"
    ),
    "a column more": "ALTER TABLE shop_reminder ADD COLUMN more integer",
    "another limit": "ALTER TABLE shop_reminder ALTER COLUMN stage TYPE varchar(77)",
}


def verified(shop, run_id="first", **changed):
    return verify_target(SYSTEM, REMINDER, shop.lake, shop.url, replace(shop.run(run_id), dry=True, **changed))


@pytest.fixture
def compared(shop):
    """A shop whose reminders were compared by value in the run that loaded them."""
    migrate(shop)
    assert (verified(shop).is_clean, verified(shop).compared_in) == (True, "first")
    return shop


def test_a_second_run_finds_by_digest_what_the_first_found_by_value(compared):
    compared.load(REMINDER, "second")
    found = verified(compared, "second")
    assert (found.rows, found.compared_in, found.is_clean) == (ROWS, "first", True)


@pytest.mark.parametrize("change", [*FAULTS.values(), *BY_HAND.values()], ids=[*FAULTS, *BY_HAND])
def test_whatever_changed_is_compared_by_value(compared, change):
    compared.sql(f"UPDATE shop_reminder {change} WHERE id {SOME}" if change.startswith("SET") else change)
    by_digest, by_value = verified(compared), verified(compared, mode="cutover")
    assert by_digest.compared_in == ""
    assert (by_digest.counts, by_digest.rows, by_digest.owned_by_others) == (
        by_value.counts,
        by_value.rows,
        by_value.owned_by_others,
    )


def test_other_prepared_rows_are_compared_by_value(compared):
    prepare(compared, [HALVES[0], HALVES[1][:-1]])
    found = verified(compared)
    assert (found.compared_in, dict(found.counts)) == ("", {"extra": 1})


def test_what_was_not_clean_is_compared_each_time(shop):
    migrate(shop)
    shop.sql(f"UPDATE shop_reminder SET note = 'x' WHERE id {SOME}")
    assert [dict(verified(shop).counts) for _ in range(2)] == [{"changed": EACH}] * 2


def test_it_is_compared_by_value_by_who_loads_nothing_and_by_a_cutover(compared):
    assert verified(compared, "alone").compared_in == ""
    assert verified(compared, mode="cutover").compared_in == ""


def test_the_same_rows_in_a_table_made_again_are_compared_by_value(compared):
    with psycopg.connect(compared.url) as connection:
        connection.execute("ALTER TABLE shop_reminder RENAME TO former")
        connection.execute("CREATE TABLE shop_reminder (LIKE former INCLUDING ALL)")
        connection.execute("INSERT INTO shop_reminder SELECT * FROM former")
    assert verified(compared).compared_in == ""


def test_a_kept_verification_names_all_that_a_verification_reads_of_the_bookkeeping():
    """Those of other tables are counts and lists for people, which no comparison reads."""
    assert [rows.split()[0] for rows in BOOKKEEPING.values()] == [
        f"migration.{name}" for name in ("mapping_entry", "rejected_entry", "batch", "target_row")
    ]
