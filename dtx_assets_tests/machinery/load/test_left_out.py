"""Rows that a trigger of the target keeps out without a word: none is booked as migrated that is not there."""

from dataclasses import replace

import pytest

from dtx_assets.machinery.load import load_target
from dtx_assets_tests.machinery.load import test_circles as circle
from dtx_assets_tests.machinery.load.prepared import REMINDER, SYSTEM, Batch, Link, Shop, reminder, write_prepared

TRIGGER = """
    CREATE FUNCTION aside() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$;
    CREATE TRIGGER aside_here BEFORE INSERT OR UPDATE ON shop_reminder FOR EACH ROW EXECUTE FUNCTION aside()
"""
SILENT = ("schema_violation", "aside_here: keeps the row out of the table, or gives it another key")
RAISED = ("schema_violation", "aside_here: the trigger refuses the row; the log of the server has its words")


def prepare(shop: Shop, notes: dict[str, str]) -> None:
    rows = [reminder(n + 1, "a", note=note) for n, note in enumerate(notes.values())]
    links = [Link("notice", key, {"x": n}, number=n + 1, bucket=n) for n, key in enumerate(notes)]
    write_prepared(shop.lake, REMINDER, [Batch(rows, links)], sources=["notice"])


def listed(shop: Shop) -> dict[str, tuple[str, str]]:
    rows = shop.sql("SELECT source_key, reasons, detail FROM migration.rejected WHERE NOT partial")
    return {key: (*reasons, detail) for key, reasons, detail in rows}


def notes(shop: Shop) -> list[str]:
    return [note for (note,) in shop.sql("SELECT note FROM shop_reminder ORDER BY owner_id")]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("IF NEW.note = 'bad' THEN RETURN NULL; END IF", SILENT),
        ("IF NEW.note = 'bad' THEN NEW.id := -NEW.id; END IF", SILENT),
        ("IF NEW.note = 'bad' THEN RAISE insufficient_privilege; END IF", RAISED),
        ("IF NEW.note = 'bad' THEN RAISE EXCEPTION 'no' USING ERRCODE = '0A000'; END IF", RAISED),
    ],
)
def test_a_row_that_a_trigger_keeps_out_is_rejected_by_its_name(shop, body, told):
    shop.sql(TRIGGER.format(body=body))
    prepare(shop, {"1": "fine", "2": "bad", "3": "good"})
    planned = load_target(SYSTEM, REMINDER, shop.lake, shop.url, replace(shop.run("plan"), dry=True))
    assert (planned.inserted, planned.rejected) == (2, 1)
    summary = shop.load(REMINDER)
    assert (summary.inserted, summary.rejected, listed(shop)) == (2, 1, {"2": told})
    assert notes(shop) == ["fine", "good"]
    assert shop.sql("SELECT source_key FROM migration.mapping ORDER BY 1") == [("1",), ("3",)]
    state = shop.state()
    summary = shop.load(REMINDER, "second")
    assert (summary.inserted, summary.unchanged, summary.rejected) == (0, 2, 1)
    assert shop.state() == state
    shop.sql("DROP TRIGGER aside_here ON shop_reminder")
    assert (shop.load(REMINDER, "third").inserted, listed(shop), len(notes(shop))) == (1, {}, 3)


@pytest.mark.parametrize("each", ["ROW", "STATEMENT"])
def test_a_row_that_is_taken_away_after_it_was_inserted_is_rejected(shop, each):
    shop.sql(
        "CREATE FUNCTION aside() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN DELETE FROM shop_reminder WHERE note = 'bad'; RETURN NULL; END $$"
    )
    shop.sql(f"CREATE TRIGGER aside_here AFTER INSERT ON shop_reminder FOR EACH {each} EXECUTE FUNCTION aside()")
    prepare(shop, {"1": "fine", "2": "bad", "3": "good"})
    summary = shop.load(REMINDER)
    assert (summary.inserted, summary.rejected, listed(shop)) == (2, 1, {"2": SILENT})
    assert notes(shop) == ["fine", "good"]


def test_an_update_that_a_trigger_leaves_undone_is_rejected_and_the_others_are_done(shop):
    prepare(shop, {"1": "a", "2": "b", "3": "c"})
    shop.load(REMINDER)
    shop.sql(TRIGGER.format(body="IF NEW.note = 'bad' THEN RETURN NULL; END IF"))
    prepare(shop, {"1": "fine", "2": "bad", "3": "good"})
    planned = load_target(SYSTEM, REMINDER, shop.lake, shop.url, replace(shop.run("plan"), dry=True))
    assert (planned.updated, planned.rejected) == (2, 1)
    summary = shop.load(REMINDER, "second")
    assert (summary.updated, summary.rejected) == (2, 1)
    assert listed(shop) == {"2": ("schema_violation", "aside_here: keeps the row as it was")}
    assert notes(shop) == ["fine", "b", "good"]


def test_rows_that_a_trigger_puts_into_a_table_that_inherits_are_there(shop):
    """As tables were partitioned once: the server counts none of them as inserted."""
    shop.sql("CREATE TABLE reminder_of_one () INHERITS (shop_reminder)")
    shop.sql(
        TRIGGER.format(
            body="IF TG_OP = 'INSERT' AND NEW.owner_id < 3 THEN INSERT INTO reminder_of_one VALUES (NEW.*);"
            " RETURN NULL; END IF"
        )
    )
    prepare(shop, {"1": "a", "2": "b", "3": "c"})
    summary = shop.load(REMINDER)
    assert (summary.inserted, summary.rejected, notes(shop)) == (3, 0, ["a", "b", "c"])


def test_a_trigger_of_a_part_is_one_of_its_table(shop):
    shop.sql("CREATE TABLE reminder_of_two () INHERITS (shop_reminder)")
    trigger = TRIGGER.format(body="IF NEW.note = 'bad' THEN RETURN NULL; END IF")
    shop.sql(trigger.replace("shop_reminder", "reminder_of_two"))
    trigger = TRIGGER.format(body="INSERT INTO reminder_of_two VALUES (NEW.*); RETURN NULL")
    shop.sql(trigger.replace("aside", "into_two"))
    prepare(shop, {"1": "fine", "2": "bad"})
    summary = shop.load(REMINDER)
    assert (summary.inserted, summary.rejected) == (1, 1)
    assert listed(shop)["2"][1].startswith("aside_here or into_two_here: keeps the row out")


def test_in_a_circle_what_refers_to_a_row_that_is_kept_out_is_rejected_too(shop):
    circle.create(shop, "rigid")
    for table in ("store", "staff"):
        shop.sql(f"ALTER TABLE {table} DROP CONSTRAINT {table}_name_check")
        body = "IF NEW.name = 'bad' THEN RETURN NULL; END IF"
        shop.sql(TRIGGER.format(body=body).replace("aside", f"aside_{table}").replace("shop_reminder", table))
    circle.prepare(shop, circle.BROKEN)
    assert circle.counts(circle.load(shop)) == [(2, 0, 0, 3), (2, 0, 0, 4)]
    assert circle.there(shop) == circle.LEFT
