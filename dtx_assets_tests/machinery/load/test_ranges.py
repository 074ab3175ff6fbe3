"""Parts that go at once over several connections: what comes of them is what one connection does, whatever happens."""

import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psycopg
import pytest

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.failpoints import FAILPOINT
from dtx_assets.machinery.load import LoadSummary, at_once, load_target, target_load
from dtx_assets.machinery.load.at_once import GiveWay, TurnOfMany, load_at_once
from dtx_assets.machinery.load.member import Member
from dtx_assets.machinery.load.write import Writer
from dtx_assets_tests.machinery.load.prepared import (
    REMINDER,
    SYSTEM,
    Batch,
    Link,
    Refusal,
    Shop,
    reminder,
    write_prepared,
)
from dtx_assets_tests.patience import PATIENCE
from dtx_assets_tests.sessions import wait_until_alone

PARTS, OWNERS = 8, 12
LOAD = """
import sys
from dataclasses import replace
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.load import load_target, open_run
from dtx_assets_tests.machinery.load.prepared import REMINDER, SYSTEM
lake, url = sys.argv[1:]
run = open_run(url, SYSTEM, "killed", mode="rehearsal", decisions={}, connections=4)
load_target(SYSTEM, REMINDER, Lake(lake), url, run)
"""
RULES = (
    "CREATE UNIQUE INDEX note_once ON shop_reminder (note)",
    "ALTER TABLE shop_reminder ADD CONSTRAINT few_days CHECK (days < 100)",
)


def load(shop: Shop, connections: int, run_id: str = "run", **options) -> LoadSummary:
    run = replace(shop.run(run_id), connections=connections)
    return load_target(SYSTEM, REMINDER, shop.lake, shop.url, run, **options)


def prepare(shop: Shop) -> None:
    batches = []
    for part in range(PARTS):
        rows = [reminder(1 + (part * OWNERS + n) % 99, f"{part:02d}") for n in range(OWNERS)]
        links = [Link("notice", f"{part}.{n}", {"x": n}, bucket=part * 512 + n) for n in range(OWNERS)]
        batches.append(Batch(rows, links))
    write_prepared(shop.lake, REMINDER, batches, sources=["notice"])


def prepare_ugly(shop: Shop, seed: int) -> None:
    """In each part rows that refer to nothing and that a check refuses; over the parts, one note and one key twice."""
    dice = random.Random(seed)
    batches, number = [], 0
    for part in range(PARTS):
        rows, links = [], []
        for n in range(OWNERS):
            # Within a part, a natural key is there once.
            stage = f"{n % 6}" if dice.random() < 0.1 else f"{part}.{n}"
            owner = dice.choice([1 + n, 1 + n, 1 + n, 7_000]) if n == 5 else 1 + n
            note = f"note {dice.randrange(60)}" if dice.random() < 0.3 else None
            rows.append(reminder(owner, stage, note=note, days=500 if n == 4 else 1))
            number += 1
            links.append(Link("notice", f"{part}.{n}", {"x": n}, bucket=part * 512 + n, number=number))
        refusals = [Refusal("notice", f"{part}.r", ["invalid_email"], bucket=part * 512 + 99)]
        batches.append(Batch(rows, links, refusals))
    write_prepared(shop.lake, REMINDER, batches, sources=["notice"])


def outcome(shop: Shop, *, keys: bool = True) -> dict[str, list]:
    """What a load left, but for the numbers of its bookkeeping and, where asked, the keys that the table gave."""
    key = "id" if keys else "NULL"
    mapped = "target_id" if keys else "NULL"
    return {
        "rows": shop.sql(f"SELECT {key}, owner_id, stage, days, note FROM shop_reminder ORDER BY 2, 3, 1"),
        "entries": shop.sql(
            "SELECT flow_id, bucket, source_key, portion, encode(hashes, 'hex'), array_length(adopted_ids, 1),"
            f" {'(lowest_id, highest_id, target_ids)' if keys else 'NULL'}"
            " FROM migration.mapping_entry ORDER BY 1, 2, 3, 4"
        ),
        "mapping": shop.sql(f"SELECT source_key, part, {mapped} FROM migration.mapping ORDER BY 1, 2"),
        "rejected": shop.sql(
            'SELECT source_key, reasons, partial, detail, "row"::text FROM migration.rejected ORDER BY 1, 2, 4'
            if keys
            else "SELECT source_key, reasons, partial FROM migration.rejected ORDER BY 1, 2, 3"
        ),
        "conflicts": shop.sql(f"SELECT source_key, part, cause, columns, {mapped} FROM migration.conflict ORDER BY 1"),
        "accounting": shop.sql("SELECT read, migrated, rejected FROM migration.accounting"),
        "batches": shop.sql(
            "SELECT part, digest, rows_inserted, rows_updated, clean FROM migration.batch WHERE undone_at IS NULL"
            " ORDER BY bucket_low"
        ),
    }


def parts_done(shop: Shop) -> list[str]:
    """The parts that are there, each of them with all of its rows and their mapping, or not at all."""
    batches = shop.sql(
        "SELECT b.part, b.rows_inserted, (SELECT count(*) FROM shop_reminder WHERE b.inserted_ids @> id),"
        " (SELECT count(*) FROM migration.mapping_entry WHERE batch_id = b.id) FROM migration.batch AS b ORDER BY 1"
    )
    assert {row[1:] for row in batches} <= {(OWNERS, OWNERS, OWNERS)}
    [(rows, mapped)] = shop.sql("SELECT (SELECT count(*) FROM shop_reminder), (SELECT count(*) FROM migration.mapping)")
    assert rows == mapped == len(batches) * OWNERS
    return [str(row[0]) for row in batches]


def wait_for_the_end(shop: Shop) -> None:
    """No connection is there any more: what was writing when its process died notices it a moment later."""
    with psycopg.connect(shop.url, autocommit=True) as connection:
        wait_until_alone(connection)


def begin_anew(shop: Shop) -> None:
    shop.sql("DROP SCHEMA IF EXISTS migration CASCADE")
    shop.sql("TRUNCATE shop_reminder RESTART IDENTITY")


def names_of(count: int) -> list[str]:
    return [f"{number:05d}" for number in range(count)]


def test_what_several_connections_do_is_what_one_does(shop, monkeypatch):
    """Values that are there once, keys, refused and rejected rows in each part; later parts are often the first to
    write."""
    for rule in RULES:
        shop.sql(rule)
    insert = Member.insert

    def slowly(self, writing):
        time.sleep(0.06 if int(writing.part.name) % 2 else 0)
        insert(self, writing)

    for seed in range(3):
        prepare_ugly(shop, seed)
        outcomes = []
        for connections in (1, 3):
            begin_anew(shop)
            shop.sql("INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active)"
                     " VALUES (3, '4.2', 7, '[]', true)")  # fmt: skip
            with monkeypatch.context() as patch:
                if connections > 1:
                    patch.setattr(Member, "insert", slowly)
                load(shop, connections)
            outcomes.append(outcome(shop))
        assert len(outcomes[0]["rejected"]) > 2 * PARTS
        assert len(outcomes[0]["batches"]) >= PARTS
        assert outcomes[0] == outcomes[1]


def test_a_later_part_that_was_written_first_gives_way(shop, monkeypatch):
    """Parts 1 and 2 have the same note: whichever is written first, it is the later one that is refused."""
    shop.sql(RULES[0])
    batches = [
        Batch([reminder(1, str(n), note=note)], [Link("notice", str(n), {"x": 0}, bucket=n * 800)])
        for n, note in enumerate(["z", "a", "a", "b", "c"])
    ]
    write_prepared(shop.lake, REMINDER, batches, sources=["notice"])
    insert, ready, written, gave_way = Member.insert, TurnOfMany.wait_to_commit, threading.Event(), []

    def later(self, writing):
        if writing.part.name == "00001":
            assert written.wait(PATIENCE)
        insert(self, writing)

    def noted(self, connection):
        written.set()
        try:
            ready(self, connection)
        except GiveWay:
            gave_way.append(self.number)
            raise

    monkeypatch.setattr(Member, "insert", later)
    monkeypatch.setattr(TurnOfMany, "wait_to_commit", noted)
    assert load(shop, 2).inserted == 4
    assert shop.sql("SELECT source_key FROM migration.rejected") == [("2",)]
    assert gave_way[0] == 2


def test_without_the_session_that_holds_the_lock_the_others_write_no_more(shop, monkeypatch):
    """It is gone without being noticed by its own process, which has nothing to do over it."""
    prepare(shop)
    real = Writer.open_batch

    def forget(self, part, load_id):
        if self.holder is not None:
            # As if another session held it.
            self.holder += 1
        return real(self, part, load_id)

    monkeypatch.setattr(Writer, "open_batch", forget)
    with pytest.raises(LoadError, match="the session that held the lock of shop_reminder is gone"):
        load(shop, 3)
    done = parts_done(shop)
    assert done == names_of(len(done))
    assert len(done) < PARTS


def test_more_than_two_parts_are_in_memory_only_where_they_are_small(monkeypatch):
    monkeypatch.setattr(at_once, "ROWS_AT_ONCE", 25)
    for rows, expected in ((12, 2), (8, 3), (100, 2)):
        in_memory, most, full = [], [], threading.Event()

        def one(turn, in_memory=in_memory, most=most, full=full, expected=expected):
            in_memory.append(turn.number)
            most.append(len(in_memory))
            if most[-1] == expected:
                full.set()
            assert full.wait(PATIENCE)
            turn.wait()
            in_memory.remove(turn.number)
            return []

        assert [number for number, _ in load_at_once(range(12), [rows] * 12, [one] * 5)] == list(range(12))
        assert max(most) == expected


@pytest.mark.parametrize("point", ["load.after_copy:4", "load.after_commit:3"])
def test_a_kill_in_the_middle_leaves_the_first_parts_and_the_rest_goes_at_once(shop, monkeypatch, point):
    prepare(shop)
    command = [sys.executable, "-c", LOAD, shop.lake.url, shop.url]
    killed = subprocess.run(command, env={**os.environ, FAILPOINT: point}, check=False)
    assert killed.returncode == -9
    wait_for_the_end(shop)
    done = parts_done(shop)
    assert 1 <= len(done) < PARTS
    assert done == names_of(len(done))
    real, went = target_load.load_at_once, []

    def noted(numbers, rows, loads):
        went.append((list(numbers), len(loads)))
        return real(numbers, rows, loads)

    monkeypatch.setattr(target_load, "load_at_once", noted)
    left = PARTS - len(done)
    assert load(shop, 4, "second", wait_seconds=PATIENCE).inserted == left * OWNERS
    assert went == [(list(range(len(done) + 1, PARTS)), min(4, left - 1))]
    assert parts_done(shop) == names_of(PARTS)
    again, whole = load(shop, 4, "third"), outcome(shop, keys=False)
    assert again.skipped_parts == PARTS
    begin_anew(shop)
    load(shop, 1)
    assert {**outcome(shop, keys=False), "accounting": []} == {**whole, "accounting": []}


def test_one_lost_connection_stops_the_others_and_leaves_the_first_parts(shop, monkeypatch):
    prepare(shop)
    real, lost = Member.insert, []

    def cut_off(self, writing):
        if writing.part.name == "00003" and not lost:
            lost.append(self.place.connection.execute("SELECT pg_backend_pid()").fetchone()[0])
            shop.sql("SELECT pg_terminate_backend(%s)", *lost)
        return real(self, writing)

    monkeypatch.setattr(Member, "insert", cut_off)
    with pytest.raises(LoadError, match="the target database stopped the load"):
        load(shop, 3)
    assert parts_done(shop) == names_of(3)
    assert load(shop, 3, "second").inserted == (PARTS - 3) * OWNERS
    assert parts_done(shop) == names_of(PARTS)


def test_what_was_taken_for_killed_writes_no_more_over_any_connection(shop, monkeypatch):
    """The session that holds the lock is cut off while others of the same process write, and another run comes."""
    prepare(shop)
    real, second = Member.insert, []
    summaries = {}

    def meet(self, writing):
        if writing.part.name == "00002" and not second:
            second.append(
                threading.Thread(target=lambda: summaries.update(second=load(shop, 3, "second", wait_seconds=PATIENCE)))
            )
            shop.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            second[0].start()
            time.sleep(0.3)
        return real(self, writing)

    monkeypatch.setattr(Member, "insert", meet)
    with pytest.raises(LoadError, match=r"stopped the load|that held the lock|taken this one for killed"):
        load(shop, 3, "first")
    second[0].join()
    assert parts_done(shop) == names_of(PARTS)
    [(first, of_first), (last, of_last)] = shop.sql(
        "SELECT load.status, count(batch) FROM migration.load LEFT JOIN migration.batch ON load_id = load.id"
        " GROUP BY load.id ORDER BY load.id"
    )
    assert (first, last) == ("killed", "succeeded")
    assert of_first + of_last == PARTS
    assert summaries["second"].inserted == of_last * OWNERS


def test_parts_that_lock_each_other_out_end_as_they_do_one_by_one(shop):
    """Both have the same two values, the other way round: PostgreSQL ends one of them for the sake of the other."""
    shop.sql(
        "CREATE FUNCTION slow(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS"
        " $$ BEGIN PERFORM pg_sleep(0.2); RETURN value; END $$"
    )
    shop.sql("CREATE UNIQUE INDEX note_once ON shop_reminder (slow(note)) WHERE note IS NOT NULL")
    [(database,)] = shop.sql("SELECT current_database()")
    shop.sql(f"ALTER DATABASE \"{database}\" SET deadlock_timeout = '50ms'")
    batches = []
    for part, notes in enumerate([[None], ["a", "b"], ["b", "a"], ["c", "d"], ["d", "c"]]):
        rows = [reminder(1 + n, f"{part}", note=note) for n, note in enumerate(notes)]
        links = [Link("notice", f"{part}.{n}", {"x": n}, bucket=part * 800 + n) for n in range(len(notes))]
        batches.append(Batch(rows, links))
    write_prepared(shop.lake, REMINDER, batches, sources=["notice"])
    outcomes = []
    for connections in (1, 4):
        begin_anew(shop)
        summary = load(shop, connections)
        assert (summary.inserted, summary.rejected) == (5, 4)
        outcomes.append(outcome(shop))
    assert outcomes[0] == outcomes[1]
    assert {row[0] for row in outcomes[0]["rejected"]} == {"2.0", "2.1", "4.0", "4.1"}


def test_an_interrupt_stops_all_connections(shop):
    prepare(shop)

    def interrupted(done, _total):
        if done >= 3 * OWNERS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(shop, 4, progress=interrupted)
    wait_for_the_end(shop)
    done = parts_done(shop)
    assert 3 <= len(done) <= PARTS
    assert done == names_of(len(done))
    assert load(shop, 4, "second").inserted == (PARTS - len(done)) * OWNERS
