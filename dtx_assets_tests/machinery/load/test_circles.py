"""Tables whose rows refer to each other: they are loaded, verified and undone together, whatever they are bound by."""

import random
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dtx_assets.machinery.load import load_target, load_together, undo_run, verify_target
from dtx_assets.machinery.load.subset import Subset
from dtx_assets.machinery.model.references import circles, in_load_order
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets_tests.forking import run_script
from dtx_assets_tests.machinery.load.prepared import SYSTEM, Batch, Link, Shop, write_prepared

KINDS = {
    "deferred": "NOT NULL {} DEFERRABLE INITIALLY DEFERRED",
    "deferrable": "NOT NULL {} DEFERRABLE",
    "nullable": "{}",
    "rigid": "NOT NULL {} ON DELETE RESTRICT",
}
"""What may be said of a column that closes a circle."""
ALL_KINDS = pytest.mark.parametrize("kind", KINDS)


def table(name: str, reference: str, to: str, nullable: bool = True) -> TargetTable:
    columns = (
        TargetColumn("id", "bigint", ""),
        TargetColumn(reference, "bigint", "", nullable=nullable, references=to),
        TargetColumn("name", "text", ""),
    )
    return TargetTable(name, name.title(), "all", columns, "insert", key_is_written=True)


STORE, STAFF = table("store", "manager_id", "staff"), table("staff", "store_id", "store")
CIRCLE = (STORE, STAFF)
ROWS = {
    # The second manager works in the first store, the third in her own, and others work where others manage.
    "store": [(1, 11, "a"), (2, 12, "b"), (3, 13, "c")],
    "staff": [(11, 1, "A"), (12, 1, "B"), (13, 3, "C"), (14, 1, "D"), (15, 2, "E"), (16, 3, "F")],
}
BROKEN = {
    "store": [(1, 11, "a"), (2, 12, "b"), (3, 13, "c"), (4, 99, "of nobody"), (5, 11, "bad")],
    "staff": [
        (11, 1, "A"),
        (12, 2, "bad"),
        (13, 3, "C"),
        (14, 2, "of b"),
        (15, 4, "of nobody's"),
        (16, 5, "of the bad"),
    ],
}
LEFT = {"store": [(1, 11, "a"), (3, 13, "c")], "staff": [(11, 1, "A"), (13, 3, "C")]}
MENDED = {
    "store": [*BROKEN["store"][:3], (4, 14, "of nobody"), (5, 11, "e")],
    "staff": [(11, 1, "A"), (12, 2, "B"), *BROKEN["staff"][2:]],
}
Rows = Mapping[str, Sequence[tuple[Any, ...]]]


def create(shop: Shop, kind: str) -> None:
    closes, name = KINDS[kind], "name text NOT NULL CHECK (name <> 'bad')"
    null = "NOT NULL" if closes.startswith("NOT NULL") else "NULL"
    shop.sql(f"CREATE TABLE store (id bigint PRIMARY KEY, manager_id bigint {null}, {name})")
    shop.sql(f"CREATE TABLE staff (id bigint PRIMARY KEY, store_id bigint {closes.format('REFERENCES store')}, {name})")
    rest = closes.removeprefix("NOT NULL ").format("REFERENCES staff")
    shop.sql(f"ALTER TABLE store ADD FOREIGN KEY (manager_id) {rest}")


def prepare(shop: Shop, rows: Rows, targets: Sequence[TargetTable] = CIRCLE, parts: int = 2) -> None:
    """Into parts, so that rows that need each other are in different ones."""
    for target in targets:
        names, batches = [column.name for column in target.columns], []
        for part in range(parts):
            some = [dict(zip(names, row, strict=True)) for row in rows[target.name] if row[0] % parts == part]
            links = [
                Link(f"old_{target.name}", str(row["id"]), {"": n}, bucket=part * (4096 // parts), number=row["id"])
                for n, row in enumerate(some)
            ]
            batches.append(Batch(some, links))
        write_prepared(shop.lake, target, batches, sources=[f"old_{target.name}"])


def load(shop: Shop, run_id: str = "first", targets: Sequence[TargetTable] = CIRCLE, **options: Any):
    run = replace(shop.run(run_id), **{name: options.pop(name) for name in ("dry", "subset") if name in options})
    return load_together(SYSTEM, targets, shop.lake, shop.url, run, **options)


def counts(summaries) -> list[tuple[int, int, int, int]]:
    return [(one.inserted, one.updated, one.conflicts, one.rejected) for one in summaries.values()]


def there(shop: Shop, targets: Sequence[TargetTable] = CIRCLE) -> Rows:
    return {target.name: shop.sql(f"SELECT * FROM {target.name} ORDER BY id") for target in targets}


def rejected(shop: Shop) -> dict[tuple[str, str], str]:
    rows = shop.sql("SELECT target_table, source_key, reasons FROM migration.rejected")
    return {(table, key): ", ".join(reasons) for table, key, reasons in rows}


def faults(shop: Shop, targets: Sequence[TargetTable] = CIRCLE) -> dict[str, dict[str, list[str]]]:
    """By table, the source rows of each fault."""
    found: dict[str, dict[str, list[str]]] = {}
    for target in targets:
        told = verify_target(
            SYSTEM, target, shop.lake, shop.url, replace(shop.run("verify"), dry=True), together=targets
        )
        for sample in told.samples:
            found.setdefault(target.name, {}).setdefault(sample.fate, []).append(sample.source_key)
    return {name: {fault: sorted(keys) for fault, keys in kinds.items()} for name, kinds in found.items()}


@ALL_KINDS
def test_verification_finds_all_rows_of_an_empty_circle_lost(shop, kind):
    create(shop, kind)
    prepare(shop, ROWS)
    lost = {name: {"lost": [str(row[0]) for row in rows]} for name, rows in ROWS.items()}
    assert faults(shop) == lost
    load(shop)
    assert faults(shop) == {}
    shop.sql("WITH a AS (DELETE FROM store), b AS (DELETE FROM staff) SELECT 1")
    assert faults(shop) == lost


def test_verification_finds_what_is_wrong_in_a_full_circle(shop):
    create(shop, "nullable")
    prepare(shop, ROWS)
    load(shop)
    shop.sql("UPDATE store SET manager_id = NULL WHERE id = 3")
    shop.sql("DELETE FROM staff WHERE id IN (13, 15)")
    assert faults(shop) == {"store": {"changed": ["3"]}, "staff": {"lost": ["13", "15"]}}


@ALL_KINDS
def test_a_circle_is_loaded_and_undone(shop, kind):
    create(shop, kind)
    prepare(shop, ROWS)
    assert counts(load(shop)) == [(3, 0, 0, 0), (6, 0, 0, 0)]
    assert there(shop) == ROWS
    state = shop.sql("SELECT xmin::text, t::text FROM migration.mapping_entry AS t ORDER BY 2")
    again = load(shop, "again")
    assert [(one.skipped_parts, one.inserted, one.unchanged) for one in again.values()] == [(1, 0, 3), (1, 0, 6)]
    assert shop.sql("SELECT xmin::text, t::text FROM migration.mapping_entry AS t ORDER BY 2") == state
    # A new store with a new manager, who an old one gets as well; somebody goes over to the new store.
    changed = {
        "store": [(1, 21, "a"), *ROWS["store"][1:], (4, 21, "d")],
        "staff": [*ROWS["staff"][:3], (14, 4, "D"), *ROWS["staff"][4:], (21, 4, "G")],
    }
    prepare(shop, changed)
    assert counts(load(shop, "delta")) == [(1, 1, 0, 0), (1, 1, 0, 0)]
    assert there(shop) == changed
    assert faults(shop) == {}
    # What nobody changed of a circle is left as it is, and what changed is loaded alone.
    prepare(shop, changed | {"staff": [*changed["staff"], (22, 4, "H")]})
    one_more = load(shop, "one more")
    assert [(one.skipped_parts, one.inserted) for one in one_more.values()] == [(1, 0), (0, 1)]
    assert undo(shop, "one more").deleted == {"staff": 1}
    undone = undo(shop, "delta")
    assert (undone.deleted, undone.restored) == ({"store": 1, "staff": 1}, {"store": 1, "staff": 1})
    assert there(shop) == ROWS
    dry = undo(shop, "first", dry=True)
    assert (dry.deleted, dry.left, there(shop)) == ({"store": 3, "staff": 6}, [], ROWS)
    undone = undo(shop, "first", with_later=True)
    assert (undone.deleted, undone.left) == ({"store": 3, "staff": 6}, [])
    assert there(shop) == {"store": [], "staff": []}
    assert shop.sql("SELECT count(*) FROM migration.mapping_entry") == [(0,)]


def undo(shop: Shop, run_id: str, targets: Sequence[TargetTable] = CIRCLE, **options: Any):
    return undo_run(shop.url, SYSTEM, targets, run_id, **options)


@ALL_KINDS
def test_a_rejected_row_takes_along_what_refers_to_it_until_it_is_mended(shop, kind):
    create(shop, kind)
    prepare(shop, BROKEN)
    assert counts(load(shop)) == [(2, 0, 0, 3), (2, 0, 0, 4)]
    assert there(shop) == LEFT
    wrong = {
        ("store", "2"): "orphan_reference",
        ("store", "4"): "orphan_reference",
        ("store", "5"): "schema_violation",
        ("staff", "12"): "schema_violation",
        ("staff", "14"): "orphan_reference",
        ("staff", "15"): "orphan_reference",
        ("staff", "16"): "orphan_reference",
    }
    assert rejected(shop) == wrong
    # What the target refused is told as rejected, as what is kept back with it, and is not lost besides.
    assert faults(shop) == {}
    assert counts(load(shop, "again")) == [(0, 0, 0, 3), (0, 0, 0, 4)]
    assert rejected(shop) == wrong
    prepare(shop, MENDED)
    assert counts(load(shop, "mended")) == [(3, 0, 0, 0), (4, 0, 0, 0)]
    assert (there(shop), rejected(shop), faults(shop)) == (MENDED, {}, {})


def test_a_replay_takes_the_rejected_rows_of_all_members(shop):
    create(shop, "rigid")
    prepare(shop, BROKEN)
    load(shop)
    prepare(shop, MENDED)
    assert counts(load(shop, "replay", subset=Subset("rejected"))) == [(3, 0, 0, 0), (4, 0, 0, 0)]
    assert (there(shop), rejected(shop)) == (MENDED, {})


@ALL_KINDS
def test_a_dry_run_tells_what_a_load_would_do_and_leaves_nothing(shop, kind):
    create(shop, kind)
    shop.sql("CREATE TABLE customer (id bigint PRIMARY KEY, store_id bigint REFERENCES store, name text)")
    customer = table("customer", "store_id", "store")
    prepare(shop, BROKEN)
    prepare(shop, {"customer": [(1, 1, "x"), (2, 2, "y"), (3, 3, "z")]}, [customer])
    planned: dict[str, Any] = {}
    assert counts(load(shop, "dry", dry=True, planned=planned)) == [(2, 0, 0, 3), (2, 0, 0, 4)]
    dry = replace(shop.run("dry"), dry=True)
    assert load_target(SYSTEM, customer, shop.lake, shop.url, dry, planned=planned).inserted == 2
    assert there(shop) == {"store": [], "staff": []}
    load(shop)
    prepare(shop, MENDED)
    assert counts(load(shop, "dry too", dry=True)) == [(3, 0, 0, 0), (4, 0, 0, 0)]
    assert there(shop) == LEFT


@ALL_KINDS
def test_rows_of_others_that_have_a_key_keep_what_refers_to_it_out(shop, kind):
    create(shop, kind)
    shop.sql("WITH a AS (INSERT INTO store VALUES (2, 90, 'x')) INSERT INTO staff VALUES (90, 2, 'X')")
    prepare(shop, ROWS)
    # Store 2 is somebody else's; staff 15 would work there.
    assert counts(load(shop)) == [(2, 0, 1, 1), (5, 0, 0, 1)]
    assert rejected(shop) == {("store", "2"): "target_conflict", ("staff", "15"): "orphan_reference"}
    assert there(shop) == {
        "store": [ROWS["store"][0], (2, 90, "x"), ROWS["store"][2]],
        "staff": [*ROWS["staff"][:4], ROWS["staff"][5], (90, 2, "X")],
    }
    assert faults(shop) == {}


@ALL_KINDS
def test_what_rows_of_others_refer_to_is_left_by_an_undo_with_all_that_it_needs(shop, kind):
    create(shop, kind)
    shop.sql("CREATE TABLE note (id bigint PRIMARY KEY, staff_id bigint REFERENCES staff)")
    prepare(shop, ROWS)
    load(shop)
    shop.sql("INSERT INTO note VALUES (1, 15)")
    undone = undo(shop, "first")
    # 15 works in store 2, whose manager 12 works in store 1, whose manager is 11.
    assert undone.deleted == {"store": 1, "staff": 3}
    assert there(shop) == {"store": ROWS["store"][:2], "staff": [ROWS["staff"][n] for n in (0, 1, 4)]}
    left = {(row.target_table, row.target_id): row.cause for row in undone.left}
    assert left == {
        ("staff", 15): "rows of note refer to it",
        ("store", 2): "rows of staff refer to it",
        ("staff", 12): "rows of store refer to it",
        ("store", 1): "rows of staff refer to it",
        ("staff", 11): "rows of store refer to it",
    }
    listed = shop.sql("SELECT target_table, target_id FROM migration.left_entry")
    assert set(listed) == set(left)
    # What is left stays mapped: the same again brings the others.
    assert counts(load(shop, "second")) == [(1, 0, 0, 0), (3, 0, 0, 0)]
    assert (there(shop), faults(shop)) == (ROWS, {})


def test_a_row_that_somebody_changed_is_left_by_an_undo_with_what_it_refers_to(shop):
    create(shop, "rigid")
    prepare(shop, ROWS)
    load(shop)
    shop.sql("UPDATE staff SET name = 'changed' WHERE id = 16")
    undone = undo(shop, "first")
    assert undone.deleted == {"store": 2, "staff": 4}
    assert there(shop) == {"store": [(3, 13, "c")], "staff": [(13, 3, "C"), (16, 3, "changed")]}
    assert ("staff", 16, "someone changed it since") in [
        (row.target_table, row.target_id, row.cause) for row in undone.left
    ]


THREE = (
    table("first", "second_id", "second"),
    table("second", "third_id", "third"),
    table("third", "first_id", "first"),
)


@ALL_KINDS
def test_a_circle_of_three_tables_one_of_which_refers_to_itself(shop, kind):
    third = replace(THREE[2], columns=(*THREE[2].columns, TargetColumn("up", "bigint", "", True, references="third")))
    targets = (*THREE[:2], third)
    assert [[one.name for one in circle] for circle in circles(targets)] == [["first", "second", "third"]]
    for target in targets:
        null = "" if kind == "nullable" else "NOT NULL"
        more = ", up bigint REFERENCES third" if target is third else ""
        shop.sql(
            f"CREATE TABLE {target.name} (id bigint PRIMARY KEY, {target.columns[1].name} bigint {null},"
            f" name text CHECK (name <> 'bad'){more})"
        )
    for target in targets:
        rest = KINDS[kind].removeprefix("NOT NULL ").format(f"REFERENCES {target.columns[1].references}")
        shop.sql(f"ALTER TABLE {target.name} ADD FOREIGN KEY ({target.columns[1].name}) {rest}")
    rows = {
        "first": [(1, 1, "a"), (2, 2, "b"), (3, 1, "c")],
        "second": [(1, 1, "a"), (2, 2, "b")],
        "third": [(1, 1, "a", None), (2, 2, "b", 4), (3, 3, "bad", 1), (4, 1, "d", 3)],
    }
    prepare(shop, rows, targets)
    # 3 is bad, 4 is under it, 2 is under that, and so on around.
    assert counts(load(shop, targets=targets)) == [(2, 0, 0, 1), (1, 0, 0, 1), (1, 0, 0, 3)]
    assert there(shop, targets) == {
        "first": [rows["first"][0], rows["first"][2]],
        "second": rows["second"][:1],
        "third": rows["third"][:1],
    }
    assert [key for key, why in rejected(shop).items() if why == "schema_violation"] == [("third", "3")]
    rows["third"][2] = (3, 3, "mended", 1)
    prepare(shop, rows, targets)
    load(shop, "second", targets=targets)
    assert (there(shop, targets), faults(shop, targets)) == (rows, {})
    assert undo(shop, "first", targets, with_later=True).left == []
    assert there(shop, targets) == {"first": [], "second": [], "third": []}


@pytest.mark.parametrize("seed", range(6))
def test_what_is_rejected_of_any_circle_is_what_a_model_says(shop, seed):
    chance = random.Random(seed)
    kind = list(KINDS)[seed % 4]
    create(shop, kind)
    for run in ("first", "second"):
        managers, stores = [*range(100, 140), 999], [*range(1, 20), 998]
        name = ["bad", *["x"] * 14]
        rows = {
            "store": [(n, chance.choice(managers), chance.choice(name)) for n in range(1, 20)],
            "staff": [(n, chance.choice(stores), chance.choice(name)) for n in range(100, 140)],
        }
        shop.sql("WITH a AS (DELETE FROM store), b AS (DELETE FROM staff) SELECT 1")
        shop.sql("DROP SCHEMA IF EXISTS migration CASCADE")
        prepare(shop, rows)
        load(shop, run)
        good = {name: {row[0]: row[1] for row in some if row[2] != "bad"} for name, some in rows.items()}
        while True:
            store = {n: to for n, to in good["store"].items() if to in good["staff"]}
            staff = {n: to for n, to in good["staff"].items() if to in store}
            if (len(store), len(staff)) == (len(good["store"]), len(good["staff"])):
                break
            good = {"store": store, "staff": staff}
        assert there(shop) == {name: [row for row in some if row[0] in good[name]] for name, some in rows.items()}
        known = {(table, str(row[0])) for table, some in rows.items() for row in some if row[2] == "bad"}
        assert {place for place, why in rejected(shop).items() if why == "schema_violation"} <= known
        assert len(rejected(shop)) == 59 - len(good["store"]) - len(good["staff"])


KILLED = """
import os, sys
os.environ["DTX_FAILPOINT"] = sys.argv[4]
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.load import load_together, open_run, undo_run
from dtx_assets_tests.machinery.load.prepared import SYSTEM
from dtx_assets_tests.machinery.load.test_circles import CIRCLE
if sys.argv[3] == "undo":
    undo_run(sys.argv[2], SYSTEM, CIRCLE, "first")
run = open_run(sys.argv[2], SYSTEM, "killed", mode="rehearsal", decisions={})
load_together(SYSTEM, CIRCLE, Lake(sys.argv[1]), sys.argv[2], run)
"""


def kill(shop: Shop, what: str, point: str) -> None:
    arguments = [shop.lake.url, shop.url, what, point]
    done = run_script(KILLED, *arguments)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "point",
    [
        "load.batch_opened:2",
        "load.after_copy",
        "load.after_mapping:2",
        "load.before_commit",
        "load.after_commit",
        "load.finished",
        "load.after_settling:2",
    ],
)
def test_a_load_that_is_killed_leaves_nothing_half_and_goes_on(shop, point):
    create(shop, "rigid")
    prepare(shop, ROWS)
    kill(shop, "load", point)
    committed = point not in ("load.batch_opened:2", "load.after_copy", "load.after_mapping:2", "load.before_commit")
    assert there(shop) == (ROWS if committed else {"store": [], "staff": []})
    assert shop.sql("SELECT count(*) FROM migration.mapping") == [(9 if committed else 0,)]
    load(shop, "second")
    assert (there(shop), faults(shop)) == (ROWS, {})
    assert shop.sql("SELECT status, count(*) FROM migration.load WHERE run_id = 'second' GROUP BY 1") == [
        ("succeeded", 2)
    ]
    assert shop.sql("SELECT sum(migrated) FROM migration.accounting WHERE run_id = 'second'") == [(9,)]


@pytest.mark.parametrize("point", ["undo.before_commit", "undo.after_commit", "undo.after_settling"])
def test_an_undo_that_is_killed_leaves_nothing_half_and_goes_on(shop, point):
    create(shop, "rigid")
    prepare(shop, ROWS)
    load(shop)
    kill(shop, "undo", point)
    assert there(shop) == (ROWS if point == "undo.before_commit" else {"store": [], "staff": []})
    undo(shop, "first")
    assert there(shop) == {"store": [], "staff": []}


def test_what_is_loaded_together_and_in_which_order():
    before = table("country", "in_id", "planet")
    after = table("payment", "staff_id", "staff")
    given = replace(table("given", "takes_id", "taken"), key_is_written=False)
    taken = table("taken", "given_id", "given")
    store = replace(STORE, columns=(*STORE.columns, TargetColumn("country_id", "bigint", "", references="country")))
    targets = [after, store, given, STAFF, taken, before]
    assert [[one.name for one in step] for step in in_load_order(targets)] == [
        ["given"],
        ["taken"],
        ["country"],
        ["store", "staff"],
        ["payment"],
    ]
