"""Loads over rows that are there: what changed at the source, what someone else did in between, what vanished."""

import polars as pl
import psycopg
import pytest

from dtx_assets.machinery.load import create_target, findings
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets_tests.machinery.load.prepared import (
    OVERRIDE,
    REMINDER,
    REQUIREMENT,
    Batch,
    Link,
    Refusal,
    Shop,
    reminder,
    write_prepared,
)


def prepare(shop: Shop, rows, *, rejected=(), sources=("notice",), hooks=(), **options):
    """Reminders, one source row each (its key is the owner's id), in one batch."""
    by_owner: dict[int, dict[str, int]] = {}
    for number, row in enumerate(rows):
        by_owner.setdefault(row["owner_id"], {})[row["stage"]] = number
    links = [Link("notice", str(owner), parts, number=owner) for owner, parts in by_owner.items()]
    batch = Batch(rows, [*links, *hooks], rejected)
    write_prepared(shop.lake, REMINDER, [batch], sources=sources, **options)


def reminders(shop: Shop):
    return shop.sql("SELECT owner_id, stage, days, note FROM shop_reminder ORDER BY 1, 2")


def listed(shop: Shop, view: str, columns: str):
    return shop.sql(f"SELECT {columns} FROM migration.{view} ORDER BY 1, 2")


def places(shop: Shop):
    return dict(shop.sql("SELECT owner_id || '/' || stage, xmin::text || ctid::text FROM shop_reminder"))


THREE = [reminder(1, "a"), reminder(1, "b"), reminder(2, "a")]


def test_only_changed_rows_are_written(shop):
    prepare(shop, THREE)
    shop.load(REMINDER)
    before = places(shop)
    prepare(shop, [reminder(1, "a"), reminder(1, "b", days=9, note="new"), reminder(2, "a"), reminder(3, "a")])
    summary = shop.load(REMINDER, "second")
    assert (summary.inserted, summary.updated, summary.unchanged, summary.conflicts) == (1, 1, 2, 0)
    assert reminders(shop) == [(1, "a", 1, None), (1, "b", 9, "new"), (2, "a", 1, None), (3, "a", 1, None)]
    after = places(shop)
    assert {name for name in before if before[name] == after[name]} == {"1/a", "2/a"}
    assert shop.sql("SELECT run_id, before FROM migration.journal") == [("second", {"days": 1, "note": None})]
    assert shop.sql("SELECT source_key, run_id, count(*) FROM migration.mapping GROUP BY 1, 2 ORDER BY 1") == [
        ("1", "second", 2),
        ("2", "first", 1),
        ("3", "second", 1),
    ]
    state = shop.state()
    again = shop.load(REMINDER, "third")
    assert shop.state() == state
    assert again.skipped_parts == 1


def test_a_load_that_has_to_look_again_writes_nothing_either(shop):
    prepare(shop, THREE)
    shop.load(REMINDER)
    # The witness is broken by a change that changes nothing.
    shop.sql("UPDATE shop_reminder SET days = days WHERE owner_id = 1")
    state = shop.state()
    summary = shop.load(REMINDER, "second")
    assert shop.state() == state
    assert (summary.skipped_parts, summary.unchanged) == (0, 3)
    assert shop.load(REMINDER, "third").skipped_parts == 1


def test_an_equal_row_of_someone_else_is_adopted(shop):
    shop.sql("INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active) VALUES (1, 'a', 1, '[ ]', true)")
    before = places(shop)
    prepare(shop, THREE)
    summary = shop.load(REMINDER)
    assert (summary.inserted, summary.adopted, summary.conflicts, summary.rejected) == (2, 1, 0, 0)
    assert places(shop)["1/a"] == before["1/a"]
    [(adopted,)] = shop.sql("SELECT id FROM shop_reminder WHERE owner_id = 1 AND stage = 'a'")
    assert shop.sql("SELECT target_id FROM migration.mapping WHERE part = 'a' AND source_key = '1'") == [
        (str(adopted),)
    ]
    assert shop.sql("SELECT inserted_ids @> %s::bigint, rows_inserted FROM migration.batch", adopted) == [(False, 2)]
    state = shop.state()
    assert shop.load(REMINDER, "second").unchanged == 3
    assert shop.state() == state
    # It stays someone else's: a change at the source does not go over it.
    prepare(shop, [reminder(1, "a", days=5), *THREE[1:]])
    assert shop.load(REMINDER, "third").conflicts == 1
    assert reminders(shop)[0] == (1, "a", 1, None)


def theirs(shop: Shop) -> None:
    shop.sql(
        "INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active)"
        " VALUES (1, 'a', 77, '[]', true), (2, 'a', 88, '[]', true)"
    )


def test_other_values_of_someone_else_are_a_conflict(shop):
    theirs(shop)
    shop_row = {"text": "of the source"}
    prepare(shop, THREE, rejected=[Refusal("notice", "9", ["unparseable"], row=shop_row)])
    summary = shop.load(REMINDER)
    assert (summary.inserted, summary.conflicts, summary.rejected) == (1, 2, 2)
    assert reminders(shop) == [(1, "a", 77, None), (1, "b", 1, None), (2, "a", 88, None)]
    # Source row 1 was migrated in part, source row 2 has nothing in the target.
    assert listed(shop, "rejected", "source_key, partial, reasons") == [
        ("1", True, ["target_conflict"]),
        ("2", False, ["target_conflict"]),
        ("9", False, ["unparseable"]),
    ]
    [(detail,)] = shop.sql("SELECT detail FROM migration.rejected WHERE source_key = '1'")
    assert detail == "a: another owner's row has other values (id 1): days"
    assert listed(shop, "accounting", "source_table, read, migrated, rejected") == [("notice", 3, 1, 2)]
    assert listed(shop, "mapping", "source_key, part") == [("1", "b")]
    assert listed(shop, "conflict", "source_key, part, target_id, columns") == [
        ("1", "a", "1", ["days"]),
        ("2", "a", "2", ["days"]),
    ]
    state = shop.state()
    assert shop.load(REMINDER, "second").conflicts == 2
    assert shop.state() == state
    # They take their rows back: what was in conflict is migrated, and leaves the lists.
    shop.sql("DELETE FROM shop_reminder WHERE days > 70")
    summary = shop.load(REMINDER, "third")
    assert (summary.inserted, summary.conflicts, summary.rejected) == (2, 0, 1)
    assert listed(shop, "conflict", "source_key, part") == []
    assert listed(shop, "rejected", "source_key, partial") == [("9", False)]
    assert shop.sql("SELECT run_id, count(*) FROM migration.rejected_history GROUP BY 1 ORDER BY 1") == [
        ("first", 3),
        ("second", 3),
        ("third", 1),
    ]
    assert listed(shop, "mapping", "source_key, part") == [("1", "a"), ("1", "b"), ("2", "a")]


def test_overwrite_goes_over_rows_of_others_and_journals_them(shop):
    theirs(shop)
    prepare(shop, THREE)
    summary = shop.load(REMINDER, on_conflict="overwrite")
    assert (summary.inserted, summary.updated, summary.conflicts, summary.rejected) == (1, 2, 0, 0)
    assert [row[2] for row in reminders(shop)] == [1, 1, 1]
    assert sorted(row[0]["days"] for row in shop.sql("SELECT before FROM migration.journal")) == [77, 88]


def test_what_someone_changed_is_left_alone(shop):
    prepare(shop, THREE)
    shop.load(REMINDER)
    shop.sql("UPDATE shop_reminder SET note = 'mine now' WHERE owner_id = 2")
    summary = shop.load(REMINDER, "second")
    assert (summary.unchanged, summary.conflicts, summary.rejected) == (2, 1, 1)
    assert reminders(shop)[2] == (2, "a", 1, "mine now")
    # The mapping still says where the row came from.
    assert listed(shop, "mapping", "source_key, part") == [("1", "a"), ("1", "b"), ("2", "a")]
    assert listed(shop, "conflict", "cause, columns") == [("someone changed what this migration wrote", ["note"])]
    prepare(shop, [*THREE[:2], reminder(2, "a", days=4)])
    assert shop.load(REMINDER, "third").conflicts == 1
    assert reminders(shop)[2] == (2, "a", 1, "mine now")
    # When the source comes to say the same, there is no conflict any more.
    prepare(shop, [*THREE[:2], reminder(2, "a", note="mine now")])
    summary = shop.load(REMINDER, "fourth")
    assert (summary.unchanged, summary.conflicts, summary.rejected) == (3, 0, 0)
    assert listed(shop, "conflict", "cause, columns") == []


def test_what_someone_deleted_is_not_made_again(shop):
    prepare(shop, THREE)
    shop.load(REMINDER)
    shop.sql("DELETE FROM shop_reminder WHERE owner_id = 2")
    for days in (1, 5):
        prepare(shop, [*THREE[:2], reminder(2, "a", days=days)])
        summary = shop.load(REMINDER, f"with {days}")
        assert (summary.inserted, summary.conflicts, summary.rejected) == (0, 1, 1)
    assert len(reminders(shop)) == 2
    assert listed(shop, "conflict", "cause, target_id") == [("someone deleted what this migration wrote", None)]
    summary = shop.load(REMINDER, "third", on_conflict="overwrite")
    assert summary.inserted == 1
    assert reminders(shop)[2] == (2, "a", 5, None)


def test_a_key_that_someone_changed_is_a_conflict_and_no_second_row(shop):
    prepare(shop, THREE)
    shop.load(REMINDER)
    shop.sql("UPDATE shop_reminder SET stage = 'z' WHERE owner_id = 2")
    summary = shop.load(REMINDER, "second")
    assert (summary.inserted, summary.conflicts) == (0, 1)
    assert [row[:2] for row in reminders(shop)] == [(1, "a"), (1, "b"), (2, "z")]


def test_a_source_row_that_moves_to_another_key_leaves_the_old_row_listed(shop):
    row = [reminder(1, "a")]
    write_prepared(shop.lake, REMINDER, [Batch(row, [Link("notice", "7", {"a": 0})])], sources=["notice"])
    shop.load(REMINDER)
    row = [reminder(5, "a")]
    write_prepared(shop.lake, REMINDER, [Batch(row, [Link("notice", "7", {"a": 0})])], sources=["notice"])
    summary = shop.load(REMINDER, "second")
    assert (summary.inserted, summary.conflicts, summary.vanished) == (1, 0, 1)
    assert [row[0] for row in reminders(shop)] == [1, 5]
    assert listed(shop, "vanished", "source_key, part, target_id") == [("7", "a", "1")]
    assert listed(shop, "mapping", "source_key, target_id") == [("7", "2")]
    state = shop.state()
    assert shop.load(REMINDER, "third").vanished == 1
    assert shop.state() == state


def test_another_source_row_takes_a_key_over(shop):
    def with_key(key, **values):
        link = Link("notice", key, {"a": 0})
        write_prepared(shop.lake, REMINDER, [Batch([reminder(1, "a", **values)], [link])], sources=["notice"])

    with_key("5")
    shop.load(REMINDER)
    with_key("9", days=3)
    summary = shop.load(REMINDER, "second")
    assert (summary.updated, summary.inserted, summary.vanished, summary.conflicts) == (1, 0, 0, 0)
    assert listed(shop, "mapping", "source_key, part") == [("9", "a")]
    assert reminders(shop) == [(1, "a", 3, None)]
    # Deleted by someone, it is not made again for yet another source row.
    shop.sql("DELETE FROM shop_reminder")
    with_key("11", days=3)
    assert shop.load(REMINDER, "third").conflicts == 1
    assert reminders(shop) == []


def test_vanished_rows_stay_and_are_listed_with_their_cause(shop):
    rows = [reminder(owner, stage) for owner in (1, 2, 3, 4) for stage in "ab"]
    prepare(shop, rows)
    shop.load(REMINDER)
    keys = {"notice": ["1", "2", "4"]}
    prepare(
        shop,
        [row for row in rows if row["owner_id"] == 1 and row["stage"] == "a"],
        rejected=[Refusal("notice", "2", ["orphan_reference"])],
        dropped={"notice": {"empty": 1}},
    )
    summary = shop.load(REMINDER, "second", legacy_rows=lambda source: pl.LazyFrame({"_source_key": keys[source]}))
    assert summary.vanished == 7
    assert len(reminders(shop)) == 8
    assert listed(shop, "vanished", "source_key, part, cause") == [
        ("1", "b", "gone"),
        ("2", "a", "rejected"),
        ("2", "b", "rejected"),
        ("3", "a", "gone"),
        ("3", "b", "gone"),
        ("4", "a", "dropped"),
        ("4", "b", "dropped"),
    ]
    assert len(listed(shop, "mapping", "source_key, part")) == 8
    state = shop.state()
    assert shop.load(REMINDER, "third").vanished == 7
    assert shop.state()["migration.mapping_entry"] == state["migration.mapping_entry"]
    prepare(shop, rows)
    summary = shop.load(REMINDER, "fourth")
    assert (summary.vanished, summary.inserted, summary.unchanged) == (0, 0, 8)


def test_what_another_decision_leaves_out_is_told_so(shop):
    prepare(shop, THREE, decisions={"which": "all"})
    shop.load(REMINDER, decisions={"which": "all"})
    prepare(shop, THREE[:2], decisions={"which": "some"}, dropped={"notice": {"not chosen": 1}})
    keys = pl.LazyFrame({"_source_key": ["1", "2"]})
    shop.load(REMINDER, "second", decisions={"which": "some"}, legacy_rows=lambda _: keys)
    assert listed(shop, "vanished", "source_key, cause") == [("2", "another decision")]


@pytest.mark.parametrize(("order", "keys_listed"), [(1, 1000), (-1, 1000), (1, 0)])
def test_a_source_row_whose_bucket_changed_is_found_by_its_key(shop, monkeypatch, order, keys_listed):
    monkeypatch.setattr(findings, "KEYS_LISTED", keys_listed)

    def write(first, second):
        batches = [
            Batch(
                [reminder(owner, "a") for owner in owners],
                [Link("notice", str(o), {"a": n}, bucket=b) for n, o in enumerate(owners)],
            )
            for owners, b in ((first, 1), (second, 3000))
        ]
        write_prepared(shop.lake, REMINDER, batches, sources=["notice"])

    layouts = [((1, 2), (3,)), ((1,), (2, 3))][::order]
    write(*layouts[0])
    shop.load(REMINDER)
    before = places(shop)
    write(*layouts[1])
    summary = shop.load(REMINDER, "second")
    assert (summary.inserted, summary.unchanged, summary.conflicts, summary.vanished) == (0, 3, 0, 0)
    assert places(shop) == before
    assert shop.sql("SELECT bucket FROM migration.mapping_entry WHERE source_key = '2'") == [
        (3000 if order == 1 else 1,)
    ]
    assert listed(shop, "mapping", "source_key, part") == [("1", "a"), ("2", "a"), ("3", "a")]
    assert listed(shop, "vanished", "source_key, part") == []


def test_a_table_that_only_links_follows_the_rows_of_its_owner(shop):
    hooks = [Link("hook", "x", {"a": 0}), Link("hook", "y", {"a": 2})]
    prepare(shop, THREE, hooks=hooks, sources=("notice", "hook"))
    shop.load(REMINDER)
    assert shop.sql("SELECT source_key FROM migration.mapping_entry WHERE hashes IS NULL ORDER BY 1") == [
        ("x",),
        ("y",),
    ]
    shop.sql("UPDATE shop_reminder SET days = 44 WHERE owner_id = 2")
    prepare(shop, [reminder(1, "a", days=3), *THREE[1:]], hooks=hooks, sources=("notice", "hook"))
    shop.load(REMINDER, "second")
    # The hook's one row is in conflict: the hook is rejected as its owner is.
    assert listed(shop, "rejected", "source_table, source_key, partial") == [
        ("hook", "y", False),
        ("notice", "2", False),
    ]
    assert listed(shop, "accounting", "run_id, source_table, migrated, rejected") == [
        ("first", "hook", 2, 0),
        ("first", "notice", 2, 0),
        ("second", "hook", 1, 1),
        ("second", "notice", 1, 1),
    ]
    prepare(shop, [reminder(1, "a", days=3), *THREE[1:]], hooks=hooks[:1], sources=("notice", "hook"))
    summary = shop.load(REMINDER, "third")
    assert summary.vanished == 0
    assert shop.sql("SELECT source_key FROM migration.mapping WHERE source_table = 'hook'") == [("x",)]


def overrides(shop: Shop, rows, **options):
    links = [Link("pass", key, {"1": number}) for number, key in enumerate(rows)]
    values = [{"owner_id": 1, "reason": reason, "until": None} for reason in rows.values()]
    write_prepared(shop.lake, OVERRIDE, [Batch(values, links)], sources=["pass"], **options)


def test_without_a_natural_key_the_mapping_owns(shop):
    shop.sql("INSERT INTO shop_override (owner_id, reason) VALUES (1, 'one')")
    overrides(shop, {"1": "one", "2": "two", "3": "three", "4": "four"})
    # An equal row of someone else is another row: nothing says that it is the same.
    assert shop.load(OVERRIDE).inserted == 4
    shop.sql("UPDATE shop_override SET reason = 'theirs' WHERE reason = 'three'")
    shop.sql("DELETE FROM shop_override WHERE reason = 'four'")
    overrides(shop, {"1": "one", "2": "new", "3": "three", "4": "four", "5": "five"})
    summary = shop.load(OVERRIDE, "second")
    counts = (summary.inserted, summary.updated, summary.unchanged, summary.conflicts, summary.rejected)
    assert counts == (1, 1, 1, 2, 2)
    assert [row[0] for row in shop.sql("SELECT reason FROM shop_override ORDER BY id")] == [
        "one", "one", "new", "theirs", "five",
    ]  # fmt: skip
    state = shop.state()
    assert shop.load(OVERRIDE, "third").conflicts == 2
    assert shop.state() == state


def requirements(shop: Shop, rows, keys=None):
    links = [
        Link("pass", key, {str(rows[number]["id"]): number})
        for number, key in enumerate(keys or map(str, range(len(rows))))
    ]
    write_prepared(shop.lake, REQUIREMENT, [Batch(rows, links)], sources=["pass"])


def fill(row_id, is_exempted=True, note="x", settings=None):
    return {"id": row_id, "is_exempted": is_exempted, "note": note, "settings": settings}


def test_columns_of_rows_of_others_are_filled_where_they_are_empty(shop):
    shop.sql(
        "INSERT INTO shop_requirement (is_exempted, note, settings) VALUES (false, NULL, NULL),"
        """(false, '', '{"n": 1.50}'), (false, 'theirs', NULL), (true, 'x', '{"labels": {"b": "B"}}'),"""
        """(false, NULL, '{"labels": {"b": "else"}}')"""
    )
    wanted = '{"labels":{"b":"B"}}'
    rows = [fill(n, settings=wanted) for n in range(1, 6)] + [fill(99)]
    requirements(shop, rows)
    summary = shop.load(REQUIREMENT)
    assert (summary.updated, summary.adopted, summary.conflicts, summary.rejected) == (2, 1, 3, 3)
    found = shop.sql("SELECT id, is_exempted, note, settings::text FROM shop_requirement ORDER BY id")
    assert found == [
        (1, True, "x", '{"labels": {"b": "B"}}'),
        (2, True, "x", '{"n": 1.50, "labels": {"b": "B"}}'),
        (3, False, "theirs", None),
        (4, True, "x", '{"labels": {"b": "B"}}'),
        (5, False, None, '{"labels": {"b": "else"}}'),
    ]
    assert listed(shop, "conflict", "source_key, cause, columns") == [
        ("2", "another owner's row has other values", ["is_exempted", "note", "settings"]),
        ("4", "another owner's row has other values", ["is_exempted", "note", "settings"]),
        ("5", "the row to be filled is not there any more", []),
    ]
    assert shop.sql("SELECT target_id, before FROM migration.journal ORDER BY 1") == [
        ("1", {"is_exempted": False, "note": None, "settings": None}),
        ("2", {"is_exempted": False, "note": "", "settings": {"n": 1.5}}),
    ]
    state = shop.state()
    again = shop.load(REQUIREMENT, "second")
    assert shop.state() == state
    assert (again.updated, again.unchanged, again.conflicts) == (0, 3, 3)


def test_what_was_filled_before_is_filled_anew_unless_someone_changed_it(shop):
    shop.sql("INSERT INTO shop_requirement (is_exempted) VALUES (false), (false), (false)")
    requirements(shop, [fill(1), fill(2), fill(3)])
    assert shop.load(REQUIREMENT).updated == 3
    state = shop.state()
    assert shop.load(REQUIREMENT, "again").skipped_parts == 1
    assert shop.state() == state
    shop.sql("UPDATE shop_requirement SET note = 'theirs' WHERE id = 2")
    # Taking it back is a change too: it is not written a second time.
    shop.sql("UPDATE shop_requirement SET is_exempted = false, note = NULL WHERE id = 3")
    requirements(shop, [fill(1, note="y"), fill(2, note="y"), fill(3, note="y")])
    summary = shop.load(REQUIREMENT, "second")
    assert (summary.updated, summary.conflicts) == (1, 2)
    assert shop.sql("SELECT note FROM shop_requirement ORDER BY id") == [("y",), ("theirs",), (None,)]


def test_several_source_rows_of_one_row_are_all_mapped(shop):
    shop.sql("INSERT INTO shop_requirement (is_exempted) VALUES (false)")
    links = [Link("pass", "1", {"1": 0}), Link("pass", "2", {"1": 0})]
    write_prepared(shop.lake, REQUIREMENT, [Batch([fill(1)], links)], sources=["pass"])
    shop.load(REQUIREMENT)
    assert listed(shop, "mapping", "source_key, target_id") == [("1", "1"), ("2", "1")]
    shop.sql("UPDATE shop_requirement SET note = 'theirs'")
    summary = shop.load(REQUIREMENT, "second")
    assert (summary.conflicts, summary.rejected) == (1, 2)


def test_an_equal_row_of_another_source_row_is_not_taken_for_a_deleted_one(shop):
    overrides(shop, {"1": "same", "2": "other"})
    shop.load(OVERRIDE)
    shop.sql("DELETE FROM shop_override WHERE reason = 'same'")
    overrides(shop, {"1": "same", "2": "other", "3": "same"})
    summary = shop.load(OVERRIDE, "second")
    assert (summary.inserted, summary.unchanged, summary.conflicts) == (1, 1, 1)
    assert listed(shop, "conflict", "source_key, cause") == [("1", "someone deleted what this migration wrote")]
    assert shop.sql("SELECT reason FROM shop_override ORDER BY 1") == [("other",), ("same",)]


def test_a_source_row_that_moves_back_finds_its_own_row_again(shop):
    def of_owner(owner, **values):
        link = Link("notice", "7", {"a": 0})
        write_prepared(shop.lake, REMINDER, [Batch([reminder(owner, "a", **values)], [link])], sources=["notice"])

    of_owner(1)
    shop.load(REMINDER)
    of_owner(5)
    shop.load(REMINDER, "second")
    of_owner(1, days=3)
    summary = shop.load(REMINDER, "third")
    assert (summary.updated, summary.adopted, summary.conflicts) == (1, 0, 0)
    assert reminders(shop) == [(1, "a", 3, None), (5, "a", 1, None)]
    assert listed(shop, "mapping", "source_key, target_id") == [("7", "1")]
    assert listed(shop, "vanished", "source_key, target_id") == [("7", "2")]
    # What someone changed meanwhile is theirs, though this system made it.
    shop.sql("UPDATE shop_reminder SET note = 'theirs' WHERE owner_id = 5")
    of_owner(5)
    assert shop.load(REMINDER, "fourth").conflicts == 1
    assert listed(shop, "conflict", "cause, target_id") == [("someone changed what this migration wrote", "2")]
    assert reminders(shop)[1] == (5, "a", 1, "theirs")


@pytest.mark.parametrize(
    ("decisions", "cause"), [({"pass": "archive"}, "another decision"), ({"pass": "override"}, "dropped")]
)
def test_what_a_table_gave_is_listed_when_it_gives_nothing_any_more(shop, decisions, cause):
    def write(tables, chosen, rejected=()):
        rows = [{"owner_id": 1, "reason": table, "until": None} for table in tables]
        links = [Link(table, "1", {"1": number}) for number, table in enumerate(tables)]
        write_prepared(shop.lake, OVERRIDE, [Batch(rows, links, rejected)], sources=tables, decisions=chosen)

    def keys(table):
        assert table == "waiver", "nobody extracts the other table any more"
        return pl.LazyFrame({"_source_key": ["1"]})

    first = {"pass": "override"}
    write(["waiver", "pass"], first, [Refusal("pass", "2", ["unparseable"])])
    shop.load(OVERRIDE, decisions=first)
    write(["waiver"], decisions)
    summary = shop.load(OVERRIDE, "second", decisions=decisions, legacy_rows=keys)
    assert (summary.unchanged, summary.vanished) == (1, 1)
    assert listed(shop, "vanished", "source_table, source_key, cause") == [("pass", "1", cause)]
    assert listed(shop, "rejected", "source_table, source_key") == []
    assert shop.sql("SELECT run_id, source_key FROM migration.rejected_history") == [("first", "2")]
    state = shop.state()
    assert shop.load(OVERRIDE, "third", decisions=decisions, legacy_rows=keys).vanished == 1
    assert shop.state() == state


def test_keys_of_a_single_text_are_compared_exactly(shop):
    name = TargetColumn("name", "text", "", nullable=True)
    tag = TargetTable("shop_tag", "Tag", "all", (name,), writes="insert", natural_key=("name",))
    with psycopg.connect(shop.url) as connection:
        create_target(connection, [tag])
    # A line that says nothing but \. ends COPY before PostgreSQL 18.
    names = ["\\.", "", "a\nb", '"', "NULL", "\\N", None, "\\.\n\\."]

    def write(names):
        links = [Link("word", str(number), {"1": number}) for number in range(len(names))]
        write_prepared(shop.lake, tag, [Batch([{"name": n} for n in names], links)], sources=["word"])

    write(names)
    assert shop.load(tag).inserted == len(names)
    write([*names, "new"])
    summary = shop.load(tag, "second")
    assert (summary.inserted, summary.unchanged, summary.conflicts) == (1, len(names), 0)
    assert {row[0] for row in shop.sql("SELECT name FROM shop_tag")} == {*names, "new"}
