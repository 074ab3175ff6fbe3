"""The undo of a run gives back what was there, leaves what others changed or refer to, and can be tried first."""

from dataclasses import replace

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError
from dtx_assets.machinery.load import activate_target, load_target, undo_run
from dtx_assets.machinery.load.proof import REFERRED_TO
from dtx_assets.machinery.load.undo_rows import CHANGED_SINCE
from dtx_assets.machinery.report.figures import read_runs
from dtx_assets.machinery.report.standing import rows_by_model, stands_still, undone_since
from dtx_assets.machinery.run.operations import undo_lines
from dtx_assets_tests.machinery.load.prepared import (
    OVERRIDE,
    REMINDER,
    REQUIREMENT,
    SYSTEM,
    TABLES,
    Batch,
    Link,
    Refusal,
    reminder,
    write_prepared,
)

ROWS = "SELECT id, t::text FROM {} AS t ORDER BY id"
CURRENT = (
    "SELECT source_table, source_key, part, target_table, target_id FROM migration.mapping ORDER BY 1, 2, 3",
    "SELECT source_table, source_key, reasons, detail FROM migration.rejected ORDER BY 1, 2, 3, 4",
    "SELECT source_key, part, target_id, cause FROM migration.conflict ORDER BY 1, 2",
    "SELECT source_key, part, target_id FROM migration.vanished ORDER BY 1, 2",
)


def prepared(shop, *rows, keys=None, rejected=(), **options):
    keys = keys or [f"{row['owner_id']}/{row['stage']}" for row in rows]
    links = [Link("notification", key, {"": number}, number=number + 1) for number, key in enumerate(keys)]
    batch = Batch(rows, links, [Refusal("notification", key, ["unparseable"]) for key in rejected])
    write_prepared(shop.lake, REMINDER, [batch], sources=["notification"], **options)


def state(shop, table="shop_reminder"):
    return [shop.sql(ROWS.format(table)), *(shop.sql(query) for query in CURRENT)]


def undo(shop, run_id, **options):
    return undo_run(shop.url, SYSTEM, TABLES, run_id, **options)


def test_a_first_load_is_undone_whole(shop):
    before = shop.sql(ROWS.format("shop_reminder"))
    prepared(shop, reminder(1, "a"), reminder(2, "a"), rejected=["9"])
    shop.load(REMINDER, "first")
    summary = undo(shop, "first")
    assert (summary.runs, summary.deleted, summary.left) == (["first"], {"shop_reminder": 2}, [])
    assert state(shop) == [before, [], [], [], []]
    assert shop.sql("SELECT status FROM migration.run") == [("rolled back",)]
    assert shop.sql("SELECT count(*) FROM migration.rejected_history") == [(1,)]
    again = shop.load(REMINDER, "second")
    assert (again.inserted, again.rejected) == (2, 1)


def test_a_delta_is_undone_and_the_next_load_makes_it_again(shop):
    prepared(shop, reminder(1, "a"), reminder(2, "a"), reminder(3, "a"), rejected=["9"])
    shop.load(REMINDER, "first")
    before = state(shop)
    prepared(
        shop, reminder(1, "a", days=5, note="new"), reminder(3, "a"), reminder(4, "a"), reminder(9, "a"), rejected=["8"]
    )
    delta = shop.load(REMINDER, "delta")
    assert (delta.inserted, delta.updated, delta.vanished) == (2, 1, 1)
    after = state(shop)
    summary = undo(shop, "delta")
    assert (summary.deleted, summary.restored, summary.left) == ({"shop_reminder": 2}, {"shop_reminder": 1}, [])
    assert state(shop) == before
    again = shop.load(REMINDER, "again")
    assert (again.inserted, again.updated, again.vanished) == (2, 1, 1)
    # Generated ids apart it is what it was.
    assert [row[:4] for row in state(shop)[1]] == [row[:4] for row in after[1]]
    assert shop.load(REMINDER, "nothing").skipped_parts == 1


def test_a_dry_undo_says_the_same_and_changes_nothing(shop):
    prepared(shop, reminder(1, "a"), reminder(2, "a"))
    shop.load(REMINDER, "first")
    prepared(shop, reminder(1, "a", days=5), reminder(2, "a"), reminder(3, "a"))
    shop.load(REMINDER, "delta")
    before, whole = state(shop), shop.state()
    dry = undo(shop, "first", with_later=True, dry=True)
    assert (state(shop), shop.state()) == (before, whole)
    done = undo(shop, "first", with_later=True)
    assert (dry.runs, dry.deleted, dry.restored) == (done.runs, done.deleted, done.restored)
    assert done.runs == ["delta", "first"]
    assert state(shop)[:2] == [[], []]


def test_later_runs_are_undone_first_or_the_undo_refuses(shop):
    prepared(shop, reminder(1, "a"))
    shop.load(REMINDER, "first")
    prepared(shop, reminder(1, "a", days=2))
    shop.load(REMINDER, "second")
    before = state(shop)
    with pytest.raises(LoadError, match=r"later runs built on first: second[\s\S]*--with-later"):
        undo(shop, "first")
    assert state(shop) == before
    undo(shop, "second")
    assert undo(shop, "first").deleted == {"shop_reminder": 1}


def test_a_run_of_which_one_model_was_undone_stands_in_part_and_says_so(shop):
    """As one phase of a cutover is: the run itself stays what it is called."""
    prepared(shop, reminder(1, "a"), reminder(2, "a"))
    shop.load(REMINDER, "night")
    rows = [{"owner_id": 1, "reason": "agreed", "until": None}]
    write_prepared(shop.lake, OVERRIDE, [Batch(rows, [Link("exemption", "1", {"": 0})])], sources=["exemption"])
    shop.load(OVERRIDE, "night")
    shop.sql("UPDATE migration.run SET mode = 'cutover', status = 'succeeded'")
    undo(shop, "night", models=["Reminder"], dry=True)
    [[run], loaded] = read_runs(shop.url, SYSTEM, 1)
    assert (undone_since(run, loaded), stands_still(run, loaded)) == ([], True)
    undo(shop, "night", models=["Reminder"])
    [[run], loaded] = read_runs(shop.url, SYSTEM, 1)
    assert run.status == "succeeded"
    assert (rows_by_model(undone_since(run, loaded)), stands_still(run, loaded)) == ({"Reminder": 2}, True)
    undo(shop, "night")
    [[run], loaded] = read_runs(shop.url, SYSTEM, 1)
    assert not stands_still(run, loaded)


def test_a_later_run_that_wrote_nothing_is_not_in_the_way(shop):
    prepared(shop, reminder(1, "a"))
    shop.load(REMINDER, "first")
    shop.load(REMINDER, "second")
    assert undo(shop, "first").runs == ["first"]


def test_what_someone_changed_or_refers_to_is_left_and_listed(shop):
    prepared(shop, *(reminder(owner, "a") for owner in range(1, 5)))
    shop.load(REMINDER, "first")
    ids = [row[0] for row in shop.sql("SELECT id FROM shop_reminder ORDER BY owner_id")]
    shop.sql("UPDATE shop_reminder SET note = 'mine' WHERE owner_id = 2")
    shop.sql("CREATE TABLE sent (id bigint PRIMARY KEY, reminder_id bigint REFERENCES shop_reminder ON DELETE CASCADE)")
    shop.sql("INSERT INTO sent VALUES (1, %s)", ids[2])
    shop.sql("DELETE FROM shop_reminder WHERE owner_id = 4")
    summary = undo(shop, "first")
    assert summary.deleted == {"shop_reminder": 1}
    assert {(row.target_id, row.cause) for row in summary.left} == {
        (ids[1], CHANGED_SINCE),
        (ids[2], REFERRED_TO.format("sent")),
    }
    assert shop.sql("SELECT target_id, cause FROM migration.left_entry ORDER BY 1") == sorted(
        (row.target_id, row.cause) for row in summary.left
    )
    assert shop.sql("SELECT owner_id FROM shop_reminder ORDER BY 1") == [(2,), (3,)]
    # What is left is still known to be ours, and the next load does not make it again.
    assert [row[4] for row in state(shop)[1]] == [str(ids[1]), str(ids[2])]
    again = shop.load(REMINDER, "again")
    assert (again.inserted, again.unchanged, again.conflicts) == (2, 1, 1)


def test_an_update_that_someone_wrote_over_is_left(shop):
    prepared(shop, reminder(1, "a"), reminder(2, "a"))
    shop.load(REMINDER, "first")
    prepared(shop, reminder(1, "a", days=5), reminder(2, "a", days=6))
    shop.load(REMINDER, "delta")
    shop.sql("UPDATE shop_reminder SET days = 77 WHERE owner_id = 1")
    summary = undo(shop, "delta")
    assert [row.cause for row in summary.left] == [CHANGED_SINCE]
    assert shop.sql("SELECT owner_id, days FROM shop_reminder ORDER BY 1") == [(1, 77), (2, 1)]
    prepared(shop, reminder(1, "a", days=5), reminder(2, "a"))
    again = shop.load(REMINDER, "again")
    assert (again.conflicts, again.unchanged) == (1, 1)


def test_an_adopted_row_is_never_deleted(shop):
    shop.sql("INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active) VALUES (1, 'a', 1, '[]', true)")
    prepared(shop, reminder(1, "a"), reminder(2, "a"))
    summary = shop.load(REMINDER, "first")
    assert (summary.adopted, summary.inserted) == (1, 1)
    assert undo(shop, "first").deleted == {"shop_reminder": 1}
    assert shop.sql("SELECT owner_id FROM shop_reminder") == [(1,)]
    assert state(shop)[1] == []


def test_rows_without_a_natural_key_are_undone_too(shop):
    rows = [{"owner_id": 1, "reason": "because", "until": None}] * 3
    links = [Link("exemption", str(number), {"": number}, number=number + 1) for number in range(3)]
    write_prepared(shop.lake, OVERRIDE, [Batch(rows, links)], sources=["exemption"])
    shop.load(OVERRIDE, "first")
    assert undo(shop, "first").deleted == {"shop_override": 3}
    assert state(shop, "shop_override")[:2] == [[], []]


def requirements(shop):
    shop.sql(
        "INSERT INTO shop_requirement (is_exempted, note, settings) VALUES (false, NULL, NULL),"
        """ (false, '', '{"theirs": 1, "labels": {"old": "x"}}'), (true, 'mine', '{}')"""
    )
    return [row[0] for row in shop.sql("SELECT id FROM shop_requirement ORDER BY 1")]


def fill(shop, units):
    rows = [{"id": unit[0], "is_exempted": unit[2], "note": unit[3], "settings": unit[4]} for unit in units]
    links = [Link("keyword", str(number), {unit[1]: number}, number=number + 1) for number, unit in enumerate(units)]
    write_prepared(shop.lake, REQUIREMENT, [Batch(rows, links)], sources=["keyword"])


def test_columns_and_keys_of_rows_of_others_are_taken_out_again(shop):
    ids = requirements(shop)
    before = shop.sql(ROWS.format("shop_requirement"))
    fill(
        shop,
        [
            (ids[0], "exempt", True, None, None),
            (ids[0], "label", None, None, '{"labels":{"NAME":"n"}}'),
            (ids[1], "label", None, "hello", '{"labels":{"NAME":"n"}}'),
            (ids[2], "label", None, None, '{"labels":{"NAME":"n"}}'),
        ],
    )
    assert shop.load(REQUIREMENT, "first").updated == 4
    summary = undo(shop, "first")
    assert (summary.restored, summary.left) == ({"shop_requirement": 4}, [])
    assert shop.sql(ROWS.format("shop_requirement")) == before
    assert state(shop, "shop_requirement")[1] == []
    assert shop.load(REQUIREMENT, "again").updated == 4


def test_of_a_row_of_others_only_what_nobody_changed_since_is_taken_out(shop):
    ids = requirements(shop)
    fill(
        shop,
        [
            (ids[1], "label", None, None, '{"labels":{"NAME":"n"}}'),
            (ids[1], "note", None, "ours", None),
            (ids[0], "note", None, "ours", None),
        ],
    )
    shop.load(REQUIREMENT, "first")
    shop.sql(
        """UPDATE shop_requirement SET settings = settings || '{"since": 2}', note = 'theirs' WHERE id = %s""", ids[1]
    )
    shop.sql("DELETE FROM shop_requirement WHERE id = %s", ids[0])
    summary = undo(shop, "first")
    assert summary.restored == {"shop_requirement": 1}
    assert {(row.target_id, row.part) for row in summary.left} == {(ids[1], "note"), (ids[0], "note")}
    assert shop.sql("SELECT note, settings FROM shop_requirement WHERE id = %s", ids[1]) == [
        ("theirs", {"since": 2, "theirs": 1, "labels": {"old": "x"}})
    ]


def test_a_changed_unit_is_given_back_its_former_value(shop):
    ids = requirements(shop)
    fill(shop, [(ids[1], "label", None, None, '{"labels":{"NAME":"n"}}')])
    shop.load(REQUIREMENT, "first")
    before = state(shop, "shop_requirement")
    fill(shop, [(ids[1], "label", None, None, '{"labels":{"NAME":"new","MORE":"m"}}')])
    assert shop.load(REQUIREMENT, "delta").updated == 1
    undo(shop, "delta")
    assert state(shop, "shop_requirement") == before
    shop.load(REQUIREMENT, "again")
    assert shop.sql("SELECT settings->'labels' FROM shop_requirement WHERE id = %s", ids[1]) == [
        ({"NAME": "new", "MORE": "m", "old": "x"},)
    ]


def test_an_unknown_run_is_told_with_those_that_there_are(shop):
    prepared(shop, reminder(1, "a"))
    shop.load(REMINDER, "first-of-all")
    with pytest.raises(ConfigurationError, match="first-of-all"):
        undo(shop, "other")
    assert undo(shop, "first").runs == ["first-of-all"]
    with pytest.raises(ConfigurationError, match="'last'"):
        undo(shop, "last")


def test_the_last_run_can_be_named_so(shop):
    prepared(shop, reminder(1, "a"))
    shop.load(REMINDER, "first")
    prepared(shop, reminder(1, "a", days=2))
    shop.load(REMINDER, "second")
    assert undo(shop, "last").runs == ["second"]
    assert undo(shop, "last").runs == ["first"]


def test_a_run_that_wrote_nothing_is_not_the_last_one(shop):
    prepared(shop, reminder(1, "a"))
    shop.load(REMINDER, "first")
    shop.load(REMINDER, "nothing")
    shop.run("not even a load")
    assert list(undo_lines(undo(shop, "nothing"), dry=False)) == [
        "run nothing is undone",
        "it wrote nothing, or nothing that is there still: nothing was deleted, restored or removed",
    ]
    summary = undo(shop, "last")
    assert list(undo_lines(summary, dry=False)) == [
        "run first is undone",
        "shop_reminder: 1 rows deleted, 0 restored",
    ]
    with pytest.raises(ConfigurationError, match="every run that wrote something is undone, or none did"):
        undo(shop, "last")


@pytest.mark.parametrize("point", ["undo.before_commit", "undo.after_commit", "undo.after_settling"])
def test_the_last_run_is_the_one_whose_undo_was_killed(shop, monkeypatch, point):
    prepared(shop, reminder(1, "a"))
    shop.load(REMINDER, "first")
    prepared(shop, reminder(1, "a", days=2))
    shop.load(REMINDER, "second")
    shop.sql("INSERT INTO migration.sent_file VALUES ('second', 'shop_reminder', 'key', 'sha')")

    def killed(name):
        if name == point:
            raise KeyboardInterrupt

    for module in ("undo", "undo_load"):
        monkeypatch.setattr(f"dtx_assets.machinery.load.{module}.reach", killed)
    with pytest.raises(KeyboardInterrupt):
        undo(shop, "last")
    monkeypatch.undo()
    assert undo(shop, "last").runs == ["second"]
    assert shop.sql("SELECT status FROM migration.run ORDER BY run_id") == [("running",), ("rolled back",)]
    filed = replace(REMINDER, file_columns=("note", "note"))
    assert undo_run(shop.url, SYSTEM, [filed], "second").files_removed == 1


def test_an_activation_alone_is_a_run_to_undo(shop):
    held = replace(REMINDER, held_column="is_active")
    prepared(shop, reminder(1, "a"))
    shop.load(REMINDER, "first")
    activate_target(shop.run("activation"), held, "somebody")
    summary = undo(shop, "last")
    assert list(undo_lines(summary, dry=False)) == [
        "run activation is undone",
        "Reminder: its activation is taken back",
    ]
    assert undo(shop, "last").runs == ["first"]


def test_files_that_a_run_sent_go_with_it_unless_a_row_or_another_run_uses_them(shop):
    filed = replace(OVERRIDE, file_columns=("reason", "reason"))
    keys = ["gone", "kept by a row", "sent by both", "not as it was"]
    rows = [{"owner_id": 1, "reason": key, "until": None} for key in keys]
    links = [Link("file", str(number), {"": number}, number=number + 1) for number in range(len(keys))]
    write_prepared(shop.lake, OVERRIDE, [Batch(rows, links)], sources=["file"])
    shop.load(OVERRIDE, "first")
    shop.run("other")
    for run, sent in (("first", keys), ("other", keys[2:3])):
        for key in sent:
            shop.sql("INSERT INTO migration.sent_file VALUES (%s, 'shop_override', %s, 'sha')", run, key)
    shop.sql("UPDATE shop_override SET owner_id = 2 WHERE reason = 'kept by a row'")
    asked = []

    def remove(key, sha256):
        asked.append((key, sha256))
        return key == "gone"

    summary = undo_run(shop.url, SYSTEM, [filed], "first", remove_file=remove)
    assert asked == [("gone", "sha"), ("not as it was", "sha")]
    assert (summary.files_removed, summary.files_in_use) == (1, 2)
    assert shop.sql("SELECT run_id, object_key FROM migration.sent_file") == [("other", "sent by both")]


# --- dry runs ---------------------------------------------------------------------------------------------------------


def dry_load(shop, target, run_id="plan", **options):
    run = replace(shop_run(shop, run_id), dry=True)
    return load_target(SYSTEM, target, shop.lake, shop.url, run, **options)


def shop_run(shop, run_id):
    from dtx_assets.machinery.load import RunContext

    return RunContext(shop.url, SYSTEM, run_id, "rehearsal", {})


COUNTS = ("inserted", "updated", "unchanged", "adopted", "conflicts", "vanished", "rejected", "accounting")


def test_a_dry_run_of_a_first_load_leaves_nothing_and_no_sequence_moves(shop):
    prepared(shop, reminder(1, "a"), reminder(2, "a"), rejected=["9"])
    plan = dry_load(shop, REMINDER)
    assert shop.sql("SELECT count(*) FROM shop_reminder") == [(0,)]
    assert shop.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'migration'") == [(0,)]
    assert shop.sql("SELECT last_value, is_called FROM shop_reminder_id_seq") == [(1, False)]
    done = shop.load(REMINDER, "first")
    assert {name: getattr(plan, name) for name in COUNTS} == {name: getattr(done, name) for name in COUNTS}
    assert [sample.fate for sample in plan.samples] == ["insert", "insert"]


def test_a_dry_run_says_what_the_run_then_does(shop):
    write_prepared(
        shop.lake,
        REMINDER,
        [
            Batch([reminder(1, "a"), reminder(2, "a")], [Link("n", "1", {"": 0}, 1), Link("n", "2", {"": 1}, 2)]),
            Batch([reminder(3, "a"), reminder(4, "a")], [Link("n", "3", {"": 0}, 2049), Link("n", "4", {"": 1}, 2050)]),
        ],
        sources=["n"],
    )
    shop.load(REMINDER, "first")
    shop.sql("UPDATE shop_reminder SET note = 'mine' WHERE owner_id = 2")
    shop.sql("INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active) VALUES (7, 'a', 9, '[]', true)")
    write_prepared(
        shop.lake,
        REMINDER,
        [
            Batch(
                [reminder(1, "a", days=5), reminder(2, "a", days=5), reminder(7, "a")],
                [Link("n", "1", {"": 0}, 1), Link("n", "2", {"": 1}, 2), Link("n", "7", {"": 2}, 3)],
                [Refusal("n", "9", ["unparseable"], bucket=4)],
            ),
            Batch([reminder(3, "a"), reminder(5, "a")], [Link("n", "3", {"": 0}, 2049), Link("n", "5", {"": 1}, 2051)]),
        ],
        sources=["n"],
    )
    whole = shop.state()
    plan = dry_load(shop, REMINDER)
    assert shop.state() == whole
    done = shop.load(REMINDER, "delta")
    assert {name: getattr(plan, name) for name in COUNTS} == {name: getattr(done, name) for name in COUNTS}
    assert (done.inserted, done.updated, done.conflicts, done.vanished) == (1, 1, 2, 1)
    changes = {sample.source_key: (sample.fate, sample.columns) for sample in plan.samples}
    assert changes["1"] == ("update", (("days", 1, 5),))
    assert changes["2"] == ("conflict", (("days", 1, 5), ("note", "mine", None)))
    assert changes["5"][0] == "insert"


def test_a_dry_run_of_units_writes_nothing(shop):
    ids = requirements(shop)
    fill(shop, [(ids[0], "exempt", True, None, None), (ids[1], "label", None, None, '{"labels":{"old":"other"}}')])
    whole = [shop.sql(ROWS.format("shop_requirement"))]
    plan = dry_load(shop, REQUIREMENT)
    assert [shop.sql(ROWS.format("shop_requirement"))] == whole
    done = shop.load(REQUIREMENT, "first")
    assert {name: getattr(plan, name) for name in COUNTS} == {name: getattr(done, name) for name in COUNTS}
    assert (done.updated, done.conflicts) == (1, 1)
