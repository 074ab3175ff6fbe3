"""The first load of a target: rows, mapping, rejected rows, accounting; and that the second one writes nothing."""

from datetime import UTC, datetime

from dtx_assets_tests.machinery.load.prepared import (
    OVERRIDE,
    REMINDER,
    Batch,
    Link,
    Refusal,
    reminder,
    write_prepared,
)

SOURCES = ("notice", "hook")


UGLY = [
    "",
    " ",
    "\\N",
    "NULL",
    "\\.",
    'a "quoted" one',
    "comma, semicolon; tab\t",
    "line\nbreak\r\nand return\r",
    "back\\slash \\n \\\\",
    "é ñ 漢字 🎉",
    "'; DROP TABLE shop_reminder; --",
    "{a,b}",
    "x" * 20_000,
]


def two_batches():
    return [
        Batch(
            rows=[
                reminder(1, "final", days=0, note="", addresses='["a@b.example"]', is_active=False),
                reminder(1, "first", created=datetime(2020, 2, 29, 12, 30, 1, 123456, tzinfo=UTC)),
                reminder(2, "first", note=None, addresses='["\\"x\\\\ \\u00e9\\n,"]'),
            ],
            links=[
                Link("notice", "10", {"first": 1, "final": 0}, bucket=3),
                Link("notice", "11", {"first": 2}, bucket=3),
                Link("hook", '["1","first"]', {"first": 1}, bucket=3),
                Link("hook", '["1","first","2"]', {"first": 1, "final": 0}, bucket=3),
            ],
            rejected=[
                Refusal("notice", "12", ["orphan_reference", "unmapped_value"], row={"id": "12", "text": 'a"\\ü'}),
                Refusal("hook", '["1","first"]', ["invalid_email"], partial=True),
                Refusal("hook", '["1","first"]', ["invalid_email"], partial=True),
            ],
        ),
        Batch(
            rows=[reminder(3 + n, "first", note=text) for n, text in enumerate(UGLY)],
            links=[Link("notice", str(20 + n), {"first": n}, bucket=2050) for n in range(len(UGLY))],
        ),
    ]


def test_values_arrive_as_they_were_prepared(shop):
    write_prepared(shop.lake, REMINDER, two_batches(), sources=SOURCES)
    summary = shop.load(REMINDER)
    assert (summary.inserted, summary.rejected, summary.skipped_parts) == (3 + len(UGLY), 1, 0)
    assert shop.sql(
        "SELECT owner_id, stage, days, note, addresses, is_active, created FROM shop_reminder"
        " WHERE owner_id < 3 ORDER BY 1, 2"
    ) == [
        (1, "final", 0, "", ["a@b.example"], False, None),
        (1, "first", 1, None, [], True, datetime(2020, 2, 29, 12, 30, 1, 123456, tzinfo=UTC)),
        (2, "first", 1, None, ['"x\\ é\n,'], True, None),
    ]
    assert [row[0] for row in shop.sql("SELECT note FROM shop_reminder WHERE owner_id > 2 ORDER BY owner_id")] == UGLY


def test_every_source_row_leads_to_its_target_rows(shop):
    write_prepared(shop.lake, REMINDER, two_batches(), sources=SOURCES)
    shop.load(REMINDER, "run 7")
    mapped = shop.sql(
        "SELECT m.system, m.source_table, m.source_key, m.target_table, m.part, r.owner_id, r.stage, m.run_id"
        " FROM migration.mapping AS m JOIN shop_reminder AS r ON r.id = m.target_id::bigint"
        " WHERE r.owner_id < 3 ORDER BY 2, 3, 5"
    )
    common = {(row[0], row[3], row[7]) for row in mapped}
    assert common == {("shop", "shop_reminder", "run 7")}
    assert [(source, key, part, owner, stage) for _, source, key, _, part, owner, stage, _ in mapped] == [
        ("hook", '["1","first","2"]', "final", 1, "final"),
        ("hook", '["1","first","2"]', "first", 1, "first"),
        ("hook", '["1","first"]', "first", 1, "first"),
        ("notice", "10", "final", 1, "final"),
        ("notice", "10", "first", 1, "first"),
        ("notice", "11", "first", 2, "first"),
    ]
    [(wanted,)] = shop.sql("SELECT id FROM shop_reminder WHERE owner_id = 2")
    assert shop.sql("SELECT * FROM migration.sources_of('shop_reminder', %s)", wanted) == [("shop", "notice", "11")]
    assert shop.sql("SELECT count(*) FROM migration.mapping") == [(6 + len(UGLY),)]


def test_rejected_rows_and_accounting_stand_in_the_database(shop):
    write_prepared(shop.lake, REMINDER, two_batches(), sources=SOURCES, dropped={"hook": {"empty": 4}})
    summary = shop.load(REMINDER, "run 7")
    rejected = shop.sql("SELECT * FROM migration.rejected ORDER BY partial, source_key")
    reasons = ["orphan_reference", "unmapped_value"]
    expected = ("shop", "run 7", "notice", "12", "shop_reminder", reasons, False, "for a reason")
    assert rejected[0] == (*expected, {"id": "12", "text": 'a"\\ü'})
    assert [row[3] for row in rejected[1:]] == ['["1","first"]'] * 2
    assert shop.sql("SELECT * FROM migration.rejected_history ORDER BY partial, source_key") == rejected
    accounting = shop.sql("SELECT * FROM migration.accounting ORDER BY source_table")
    assert accounting == [
        ("shop", "run 7", "hook", "shop_reminder", 6, 2, 0, {"empty": 4}, {}),
        ("shop", "run 7", "notice", "shop_reminder", 16, 15, 1, {}, {}),
    ]
    assert {entry["source_table"]: entry["migrated"] for entry in summary.accounting} == {"notice": 15, "hook": 2}


def test_the_second_load_writes_nothing(shop):
    write_prepared(shop.lake, REMINDER, two_batches(), sources=SOURCES)
    shop.load(REMINDER)
    before = shop.state()
    again = shop.load(REMINDER, "second")
    assert shop.state() == before
    assert (again.inserted, again.unchanged, again.skipped_parts) == (0, 3 + len(UGLY), 2)
    # What is rejected now is what the last run says, and the history knows both.
    assert {row[0] for row in shop.sql("SELECT run_id FROM migration.rejected")} == {"second"}
    assert shop.sql("SELECT run_id, count(*) FROM migration.rejected_history GROUP BY 1 ORDER BY 1") == [
        ("first", 3),
        ("second", 3),
    ]


def test_ids_that_others_gave_by_hand_are_passed_over(shop):
    shop.sql("INSERT INTO shop_override (id, owner_id, reason) SELECT n, 1, 'theirs' FROM generate_series(2, 5) AS n")
    rows = [{"owner_id": 1, "reason": f"ours {n}", "until": None} for n in range(3)]
    links = [Link("pass", str(n), {"1": n}) for n in range(3)]
    write_prepared(shop.lake, OVERRIDE, [Batch(rows, links)], sources=["pass"])
    shop.load(OVERRIDE)
    assert shop.sql("SELECT id, reason FROM shop_override WHERE reason LIKE 'ours%%' ORDER BY reason") == [
        (1, "ours 0"),
        (6, "ours 1"),
        (7, "ours 2"),
    ]
    mapped = shop.sql("SELECT source_key, target_id FROM migration.mapping ORDER BY 1")
    assert mapped == [("0", "1"), ("1", "6"), ("2", "7")]
    assert shop.sql("SELECT inserted_ids::text, rows_inserted FROM migration.batch") == [("{[1,2),[6,8)}", 3)]
