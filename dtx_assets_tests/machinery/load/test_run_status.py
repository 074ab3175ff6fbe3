"""How a run ended follows from all of its processes and loads, not from which of them ended last."""

from dtx_assets.machinery.load.runs import finish_run, note_failure, settle_run, target_lock
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets_tests.machinery.load.prepared import (
    OVERRIDE,
    REMINDER,
    SYSTEM,
    Batch,
    Link,
    Shop,
    reminder,
    write_prepared,
)


def load(shop: Shop, run_id: str) -> None:
    write_prepared(
        shop.lake, REMINDER, [Batch([reminder(1, "a")], [Link("notice", "1", {"a": 0})])], sources=["notice"]
    )
    shop.load(REMINDER, run_id)


def load_goes_on(shop: Shop, run_id: str) -> None:
    """As a process leaves it that is loading, or that was killed while it did."""
    shop.sql(
        "INSERT INTO migration.load (run_id, system, target_table, model, preparation) VALUES (%s, %s, %s, %s, 'p')",
        *(run_id, SYSTEM, OVERRIDE.name, OVERRIDE.model),
    )


def statuses(shop: Shop) -> list[tuple[str, bool]]:
    return shop.sql("SELECT status, finished_at IS NOT NULL FROM migration.run ORDER BY started_at")


def test_what_one_process_failed_at_no_other_one_makes_a_success(shop):
    finish_run(shop.run("one"), "failed")
    load(shop, "one")
    finish_run(shop.run("one"), "succeeded")
    assert statuses(shop) == [("failed", True)]


def test_a_process_that_loads_nothing_can_fail_the_run_too(shop):
    note_failure(shop.url, "one")
    load(shop, "one")
    finish_run(shop.run("one"), "succeeded")
    assert statuses(shop) == [("succeeded", True)]
    note_failure(shop.url, "one")
    note_failure(shop.url, "another")
    assert statuses(shop) == [("failed", True)]


def test_a_run_goes_on_while_another_process_loads(shop):
    load(shop, "one")
    load_goes_on(shop, "one")
    with connect(shop.url) as other, target_lock(other, SYSTEM, OVERRIDE.name, wait_seconds=0):
        finish_run(shop.run("one"), "succeeded")
        assert statuses(shop) == [("running", False)]
        shop.run("two")
        assert statuses(shop)[0] == ("running", False)
        shop.sql("UPDATE migration.load SET status = 'succeeded'")
    finish_run(shop.run("one"), "succeeded")
    assert statuses(shop)[0] == ("succeeded", True)


def test_a_killed_process_fails_the_run_that_another_one_ends(shop):
    load(shop, "one")
    load_goes_on(shop, "one")
    finish_run(shop.run("one"), "succeeded")
    assert statuses(shop) == [("failed", True)]
    assert shop.sql("SELECT status FROM migration.load ORDER BY id") == [("succeeded",), ("killed",)]


def test_a_load_that_was_taken_up_again_in_its_run_counts_as_it_ended_last(shop):
    load(shop, "one")
    shop.sql("UPDATE migration.load SET status = 'running'")
    shop.load(REMINDER, "one")
    finish_run(shop.run("one"), "succeeded")
    assert statuses(shop) == [("succeeded", True)]


def test_a_run_that_was_killed_whole_is_told_by_the_next_one(shop):
    load(shop, "one")
    load_goes_on(shop, "one")
    load(shop, "two")
    finish_run(shop.run("two"), "succeeded")
    assert statuses(shop) == [("failed", True), ("succeeded", True)]


def test_a_run_by_workers_goes_on_after_one_was_killed_and_fails_only_where_nobody_did_it_again(shop):
    load(shop, "one")
    load_goes_on(shop, "one")
    finish_run(shop.run("one"), "succeeded", goes_on=True)
    assert statuses(shop) == [("running", False)]
    assert shop.sql("SELECT status FROM migration.load ORDER BY id") == [("succeeded",), ("killed",)]
    settle_run(shop.url, "one", failed=False)
    assert statuses(shop) == [("failed", True)]


def test_a_run_by_workers_in_which_a_killed_load_was_done_again_succeeded(shop):
    load(shop, "one")
    load_goes_on(shop, "one")
    finish_run(shop.run("one"), "succeeded", goes_on=True)
    shop.sql("UPDATE migration.load SET status = 'succeeded' WHERE status = 'killed'")
    settle_run(shop.url, "one", failed=False)
    assert statuses(shop) == [("succeeded", True)]
    settle_run(shop.url, "another", failed=False)
    assert len(statuses(shop)) == 1
