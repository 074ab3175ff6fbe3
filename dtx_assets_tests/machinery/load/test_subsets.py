"""Loads of some of the source rows: the first ones, and those that were rejected."""

from dataclasses import replace

from dtx_assets.machinery.load import load_target
from dtx_assets.machinery.load.subset import Subset
from dtx_assets_tests.machinery.load.prepared import (
    REMINDER,
    SYSTEM,
    Batch,
    Link,
    Refusal,
    reminder,
    write_prepared,
)

ACCOUNTING = (
    "SELECT run_id, source_table, read, migrated, rejected, dropped FROM migration.accounting ORDER BY run_id, 2"
)
REJECTED = "SELECT source_key, reasons FROM migration.rejected ORDER BY 1"


def subset_load(shop, run_id, subset):
    run = replace(shop.run(run_id), subset=subset)
    return load_target(SYSTEM, REMINDER, shop.lake, shop.url, run)


def two_batches(shop, *, days=1, mended=(), dropped=()):
    """Notifications 1 to 8 in two batches, each with one rejected, and a webhook that adds to the first of each."""
    batches = []
    for half, low in ((0, 0), (1, 2048)):
        numbers = list(range(1 + 4 * half, 5 + 4 * half))
        rejected = [n for n in (numbers[1],) if n not in mended and n not in dropped]
        good = [n for n in numbers if n not in rejected and n not in dropped]
        rows = [reminder(n, "a", days=days) for n in good]
        links = [Link("notification", str(n), {"": at}, low + n, number=n) for at, n in enumerate(good)]
        links.append(Link("webhook", f"w{half}", {"w": 0}, low + good[0], number=half + 1))
        refusals = [Refusal("notification", str(n), ["unparseable"], bucket=low + n, number=n) for n in rejected]
        batches.append(Batch(rows, links, refusals))
    rule = {"notification": {"gone": len(dropped)}} if dropped else None
    write_prepared(shop.lake, REMINDER, batches, sources=["notification", "webhook"], dropped=rule)


def test_the_first_rows_come_with_what_adds_to_them_and_the_rest_follows(shop):
    two_batches(shop)
    summary = subset_load(shop, "look", Subset("first", 3))
    assert (summary.inserted, summary.rejected) == (2, 1)
    assert shop.sql("SELECT owner_id FROM shop_reminder ORDER BY 1") == [(1,), (3,)]
    assert shop.sql("SELECT source_key FROM migration.mapping ORDER BY 1") == [("1",), ("3",), ("w0",)]
    assert shop.sql(ACCOUNTING) == [("look", "notification", 3, 2, 1, {}), ("look", "webhook", 1, 1, 0, {})]
    assert shop.sql("SELECT subset FROM migration.load") == [("first 3",)]
    whole = shop.load(REMINDER, "whole")
    assert (whole.inserted, whole.unchanged, whole.vanished, whole.rejected) == (4, 2, 0, 2)
    assert shop.load(REMINDER, "again").skipped_parts == 2


def test_the_first_rows_of_a_loaded_target_leave_the_others_alone(shop):
    two_batches(shop)
    shop.load(REMINDER, "whole")
    before = shop.sql(REJECTED), shop.sql("SELECT count(*) FROM migration.mapping")
    two_batches(shop, days=5)
    summary = subset_load(shop, "look", Subset("first", 1))
    assert (summary.updated, summary.inserted, summary.vanished) == (1, 0, 0)
    assert shop.sql("SELECT count(*) FROM migration.vanished") == [(0,)]
    assert (shop.sql(REJECTED), shop.sql("SELECT count(*) FROM migration.mapping")) == before
    assert shop.sql("SELECT owner_id FROM shop_reminder WHERE days = 5") == [(1,)]


def test_the_first_rows_of_an_untouched_target_are_counted_and_nothing_is_written(shop):
    two_batches(shop)
    shop.load(REMINDER, "whole")
    summary = subset_load(shop, "look", Subset("first", 3))
    assert (summary.inserted, summary.updated, summary.unchanged) == (0, 0, 2)
    looked = [row for row in shop.sql(ACCOUNTING) if row[0] == "look"]
    assert looked == [("look", "notification", 3, 2, 1, {}), ("look", "webhook", 1, 1, 0, {})]


def test_a_replay_takes_just_the_rejected_rows(shop):
    two_batches(shop)
    shop.load(REMINDER, "whole")
    two_batches(shop, days=5, mended=[2])
    summary = subset_load(shop, "replay", Subset("rejected"))
    assert (summary.inserted, summary.updated, summary.rejected) == (1, 0, 1)
    assert shop.sql("SELECT owner_id, days FROM shop_reminder WHERE owner_id = 2") == [(2, 5)]
    assert shop.sql("SELECT count(*) FROM shop_reminder WHERE days = 5") == [(1,)]
    assert shop.sql(REJECTED) == [("6", ["unparseable"])]
    assert shop.sql("SELECT DISTINCT source_key, run_id FROM migration.rejected_history ORDER BY 1, 2") == [
        ("2", "whole"),
        ("6", "replay"),
        ("6", "whole"),
    ]
    assert shop.sql(ACCOUNTING)[:2] == [("replay", "notification", 8, 7, 1, {}), ("replay", "webhook", 2, 2, 0, {})]
    assert shop.load(REMINDER, "after").updated == 6


def test_a_replay_takes_dropped_rows_off_the_list(shop):
    two_batches(shop)
    shop.load(REMINDER, "whole")
    two_batches(shop, dropped=[2, 6])
    summary = subset_load(shop, "replay", Subset("rejected"))
    assert (summary.inserted, summary.rejected) == (0, 0)
    assert shop.sql(REJECTED) == []
    assert shop.load(REMINDER, "after").rejected == 0


def test_a_replay_with_nothing_rejected_writes_nothing(shop):
    two_batches(shop, mended=[2, 6])
    shop.load(REMINDER, "whole")
    whole = shop.state()
    assert subset_load(shop, "replay", Subset("rejected")).inserted == 0
    assert shop.state() == whole


def test_a_rejected_row_whose_batch_is_another_one_now_stays_on_the_list(shop):
    def load(bucket, run_id):
        low = Batch([reminder(1, "a")], [Link("n", "1", {"": 0}, 1)])
        high = Batch([reminder(2, "a")], [Link("n", "2", {"": 0}, 3000)])
        half = low if bucket < 2048 else high
        half.rejected = [Refusal("n", "9", ["unparseable"], bucket=bucket)]
        write_prepared(shop.lake, REMINDER, [low, high], sources=["n"])
        return shop.load(REMINDER, run_id)

    for run_id, bucket in (("first", 5), ("second", 2500), ("third", 5)):
        assert load(bucket, run_id).rejected == 1
        assert shop.sql(REJECTED) == [("9", ["unparseable"])]
