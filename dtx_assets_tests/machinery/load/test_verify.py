"""Verification finds what is wrong in a target by value, and nothing where all is as the mapping says."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dtx_assets.machinery.dagster.verification import only_vanished
from dtx_assets.machinery.load import verify_target
from dtx_assets.machinery.load.verify import DOUBLED
from dtx_assets_tests.machinery.load.prepared import (
    OVERRIDE,
    REMINDER,
    REQUIREMENT,
    SYSTEM,
    Batch,
    Link,
    Shop,
    reminder,
    write_prepared,
)

ROWS, EACH = 2000, 100
FAULTS = {
    "value": "SET days = days + 1",
    "NULL": "SET note = NULL",
    "truncation": "SET note = left(note, 3)",
    "a second off": "SET created = created + interval '1 second'",
    "a time zone off": "SET created = created + interval '5 hours'",
    "swapped columns": "SET stage = note, note = stage",
    "wrong foreign key": "SET owner_id = mod(owner_id, 98) + 1",
    "case": "SET note = upper(note)",
    "blanks": "SET note = note || ' '",
    "scale": "SET days = days * 10",
}


def migrate(shop: Shop) -> None:
    prepare(shop, [list(range(0, ROWS, 2)), list(range(1, ROWS, 2))])
    shop.load(REMINDER, "first")


def prepare(shop: Shop, batches: list[list[int]]) -> None:
    """Reminders in two batches, each with its own note, time and days."""
    written = []
    for half, numbers in enumerate(batches):
        rows = [
            reminder(
                n % 97 + 1,
                f"stage {n}",
                days=n % 30 + 1,
                note=f"note {n} x",
                created=datetime(2026, 1, 1 + n % 28, n % 24, tzinfo=UTC),
            )
            for n in numbers
        ]
        links = [Link("n", str(n), {"": at}, half * 2048 + at, number=n) for at, n in enumerate(numbers)]
        written.append(Batch(rows, links))
    write_prepared(shop.lake, REMINDER, written, sources=["n"])


def verify(shop: Shop, target=REMINDER):
    return verify_target(SYSTEM, target, shop.lake, shop.url, replace(shop.run("verify"), dry=True))


def test_a_clean_migration_gives_no_alarm_and_nothing_is_written(shop):
    migrate(shop)
    shop.sql("INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active) VALUES (1, 'own', 9, '[]', true)")
    before = shop.state()
    found = verify(shop)
    assert found.is_clean
    assert (found.rows, found.owned_by_others) == (ROWS, 1)
    assert shop.state() == before


@pytest.mark.parametrize("last", [False, True])
def test_a_row_that_another_part_gives_now_is_not_extra_and_one_that_none_gives_is(shop, last):
    migrate(shop)
    even, odd = list(range(0, ROWS, 2)), list(range(1, ROWS, 2))
    # One moves to the other part, one is gone.
    batches = [[*even, odd.pop()], odd[1:]] if last else [even[2:], [even[0], *odd]]
    prepare(shop, batches)
    found = verify(shop)
    assert (dict(found.counts), found.vanished) == ({"extra": 1}, 1)
    assert [sample.target_id is not None for sample in found.samples] == [True]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_changed_row_is_found_with_its_column(shop, fault):
    migrate(shop)
    shop.sql(
        f"UPDATE shop_reminder {FAULTS[fault]} WHERE id IN (SELECT id FROM shop_reminder ORDER BY id LIMIT {EACH})"
    )
    found = verify(shop)
    assert dict(found.counts) == {"changed": EACH}
    assert {sample.source_key for sample in found.samples} == {str(2 * n) for n in range(EACH)}
    changed = {"swapped columns": {"stage", "note"}, "wrong foreign key": {"owner_id"}}
    expected = changed.get(fault, {"days" if "days" in FAULTS[fault] else "created" if "off" in fault else "note"})
    assert {name for sample in found.samples for name, _, _ in sample.columns} == expected


def test_lost_rows_are_found(shop):
    migrate(shop)
    shop.sql(f"DELETE FROM shop_reminder WHERE id IN (SELECT id FROM shop_reminder ORDER BY id LIMIT {EACH})")
    found = verify(shop)
    assert dict(found.counts) == {"lost": EACH}


def test_doubled_rows_are_found_where_no_key_forbids_them(shop):
    rows = [{"owner_id": n % 97 + 1, "reason": f"reason {n}", "until": None} for n in range(500)]
    links = [Link("exemption", str(n), {"": n}, number=n) for n in range(500)]
    write_prepared(shop.lake, OVERRIDE, [Batch(rows, links)], sources=["exemption"])
    shop.load(OVERRIDE, "first")
    assert verify(shop, OVERRIDE).is_clean
    shop.sql(
        "INSERT INTO shop_override (owner_id, reason, until) SELECT owner_id, reason, until FROM shop_override"
        f" ORDER BY id LIMIT {EACH}"
    )
    shop.sql("INSERT INTO shop_override (owner_id, reason) VALUES (1, 'of another')")
    found = verify(shop, OVERRIDE)
    assert dict(found.counts) == {"extra": EACH}
    assert {sample.cause for sample in found.samples} == {DOUBLED}
    assert found.owned_by_others == 1


def test_rows_that_nothing_gives_any_more_are_extra_and_new_ones_lost(shop):
    write_prepared(shop.lake, REMINDER, [Batch([reminder(1, "a")], [Link("n", "1", {"": 0})])], sources=["n"])
    shop.load(REMINDER, "first")
    write_prepared(shop.lake, REMINDER, [Batch([reminder(2, "a")], [Link("n", "2", {"": 0})])], sources=["n"])
    assert dict(verify(shop).counts) == {"extra": 1, "lost": 1}
    shop.load(REMINDER, "delta")
    found = verify(shop)
    assert (dict(found.counts), found.vanished) == ({"extra": 1}, 1)
    assert only_vanished(found)
    shop.sql("UPDATE shop_reminder SET days = days + 1 WHERE owner_id = 2")
    assert not only_vanished(verify(shop))


def test_adopted_rows_and_those_of_others_give_no_alarm(shop):
    shop.sql(
        "INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active) VALUES (1, 'a', 1, '[]', true),"
        " (2, 'a', 99, '[]', true)"
    )
    rows = [reminder(n, "a") for n in (1, 2, 3)]
    write_prepared(
        shop.lake, REMINDER, [Batch(rows, [Link("n", str(n), {"": n - 1}) for n in (1, 2, 3)])], sources=["n"]
    )
    assert shop.load(REMINDER, "first").adopted == 1
    found = verify(shop)
    assert found.is_clean
    assert found.owned_by_others == 2


def test_of_rows_of_others_only_what_was_filled_is_looked_at(shop):
    shop.sql("INSERT INTO shop_requirement (is_exempted) SELECT false FROM generate_series(1, 3)")
    ids = [row[0] for row in shop.sql("SELECT id FROM shop_requirement ORDER BY 1")]
    rows = [{"id": id_, "is_exempted": True, "note": None, "settings": '{"a":1}'} for id_ in ids]
    links = [Link("exemption", str(n), {"u": n}, number=n) for n in range(3)]
    write_prepared(shop.lake, REQUIREMENT, [Batch(rows, links)], sources=["exemption"])
    shop.load(REQUIREMENT, "first")
    shop.sql("""UPDATE shop_requirement SET note = 'theirs', settings = settings || '{"theirs": 2}'""")
    assert verify(shop, REQUIREMENT).is_clean
    shop.sql("UPDATE shop_requirement SET is_exempted = false WHERE id = %s", ids[0])
    shop.sql("""UPDATE shop_requirement SET settings = '{"a": 2}' WHERE id = %s""", ids[1])
    shop.sql("DELETE FROM shop_requirement WHERE id = %s", ids[2])
    assert dict(verify(shop, REQUIREMENT).counts) == {"changed": 2, "lost": 1}


def test_rows_that_somebody_deleted_and_made_again_are_found_by_their_key(shop):
    migrate(shop)
    columns = "owner_id, stage, days, addresses, is_active, note, created"
    again = f"INSERT INTO shop_reminder ({columns}) SELECT {columns} FROM gone WHERE stage = "
    shop.sql(
        "CREATE TABLE gone AS SELECT * FROM shop_reminder WHERE stage IN ('stage 1', 'stage 2', 'stage 3')",
    )
    shop.sql("DELETE FROM shop_reminder WHERE stage IN (SELECT stage FROM gone)")
    shop.sql(f"{again} 'stage 1'")
    shop.sql(f"{again} 'stage 2'")
    shop.sql("UPDATE shop_reminder SET days = days + 7 WHERE stage = 'stage 2'")
    found = verify(shop)
    assert dict(found.counts) == {"lost": 1}
    assert [sample.source_key for sample in found.samples] == ["3"]
    # One is somebody's with other values; an equal one is as the mapping says, whoever made it.
    assert found.owned_by_others >= 1
