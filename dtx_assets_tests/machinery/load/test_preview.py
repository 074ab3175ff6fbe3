"""The first rows of a target that were written here, as people are shown them."""

from dtx_assets.machinery.load import first_rows
from dtx_assets_tests.machinery.load.prepared import REMINDER, SYSTEM, Batch, Link, reminder, write_prepared


def test_rows_that_were_written_are_shown_in_the_order_of_their_ids_and_others_not(shop):
    shop.sql(
        "INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active) VALUES (1, 'theirs', 9, '[]', true)"
    )
    rows = [reminder(n % 97 + 1, f"stage {n}") for n in range(12)]
    links = [Link("n", str(n), {"": n}, number=n) for n in range(12)]
    write_prepared(shop.lake, REMINDER, [Batch(rows, links)], sources=["n"])
    shop.load(REMINDER, "first")
    shown = first_rows(shop.url, SYSTEM, REMINDER, ["stage", "is_active", "note"], 11)
    ids = [int(text) for text in shown.get_column("id")]
    assert shown.columns == ["id", "stage", "is_active", "note"]
    assert ids == sorted(ids)
    assert len(ids) == 11
    held = dict(shop.sql("SELECT id, stage FROM shop_reminder"))
    assert shown.get_column("stage").to_list() == [held[target_id] for target_id in ids]
    assert "theirs" not in shown.get_column("stage").to_list()


def test_before_anything_is_written_there_is_nothing_to_show(shop):
    write_prepared(shop.lake, REMINDER, [Batch([], [])], sources=["n"])
    shop.load(REMINDER, "first")
    assert first_rows(shop.url, SYSTEM, REMINDER, ["stage"], 5).shape == (0, 2)
