"""The accounting of tables that are only archived."""

from dtx_assets.machinery.load import book_archive


def test_all_rows_are_booked_as_migrated_once_a_run(shop):
    expected = {
        "source_table": "work_log", "target_table": "archive", "read": 7, "migrated": 7, "rejected": 0,
        "dropped": {}, "coerced": {},
    }  # fmt: skip
    assert book_archive(shop.run("first"), "work_log", 7) == expected
    assert book_archive(shop.run("first"), "work_log", 7) == expected
    book_archive(shop.run("first"), "keyword", 0)
    book_archive(shop.run("second"), "work_log", 9)
    booked = shop.sql(
        "SELECT system, run_id, source_table, target_table, read, migrated, rejected, dropped, coerced"
        " FROM migration.accounting ORDER BY run_id, source_table"
    )
    assert [row[1:6] for row in booked] == [
        ("first", "keyword", "archive", 0, 0),
        ("first", "work_log", "archive", 7, 7),
        ("second", "work_log", "archive", 9, 9),
    ]
    assert {row[6] for row in booked} == {0}
    assert all(row[7:] == ({}, {}) for row in booked)
    assert len({row[0] for row in booked}) == 1


def test_a_row_count_that_changed_within_a_run_takes_the_place_of_the_one_before(shop):
    book_archive(shop.run("first"), "work_log", 7)
    book_archive(shop.run("first"), "work_log", 8)
    assert shop.sql("SELECT read, migrated FROM migration.accounting") == [(8, 8)]
