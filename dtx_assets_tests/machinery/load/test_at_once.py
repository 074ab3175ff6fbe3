"""Loads that meet others: killed ones, two of the same target, an application that writes at the same time."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psycopg
import pytest

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.load import load_target
from dtx_assets.machinery.load.member import Member
from dtx_assets.machinery.load.part_load import PartLoad
from dtx_assets.machinery.load.write import Writer
from dtx_assets.machinery.postgres import connection
from dtx_assets_tests.machinery.load.prepared import REMINDER, SYSTEM, Batch, Link, Shop, reminder, write_prepared
from dtx_assets_tests.patience import PATIENCE

PARTS, OWNERS = 8, 12
LOAD = """
import sys
from pathlib import Path
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.load import load_target, open_run
from dtx_assets_tests.machinery.load.prepared import REMINDER, SYSTEM
lake, url, run_id = sys.argv[1:]
def progress(done, total):
    print(done, flush=True)
run = open_run(url, SYSTEM, run_id, mode="rehearsal", decisions={})
load_target(SYSTEM, REMINDER, Lake(lake), url, run, progress=progress)
"""


def prepare(shop: Shop, **values):
    batches = []
    for part in range(PARTS):
        rows = [reminder(1 + (part * OWNERS + n) % 99, f"{part:02d}", **values) for n in range(OWNERS)]
        links = [Link("notice", f"{part}.{n}", {"x": n}, bucket=part * 512 + n) for n in range(OWNERS)]
        batches.append(Batch(rows, links))
    write_prepared(shop.lake, REMINDER, batches, sources=["notice"])


def is_whole(shop: Shop) -> int:
    """How many batches are there; each of them with all of its rows and their mapping, or not at all."""
    batches = shop.sql(
        "SELECT b.part, b.rows_inserted, (SELECT count(*) FROM shop_reminder WHERE b.inserted_ids @> id),"
        " (SELECT count(*) FROM migration.mapping_entry WHERE batch_id = b.id) FROM migration.batch AS b"
    )
    assert {row[1:] for row in batches} <= {(OWNERS, OWNERS, OWNERS)}
    [(rows, mapped)] = shop.sql("SELECT (SELECT count(*) FROM shop_reminder), (SELECT count(*) FROM migration.mapping)")
    assert rows == mapped == len(batches) * OWNERS
    return len(batches)


def test_a_killed_load_leaves_whole_batches_and_goes_on(shop):
    prepare(shop)
    # A lock on the target holds the load up at a place where it has committed some parts.
    command = [sys.executable, "-c", LOAD, shop.lake.url, shop.url, "killed"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ}, text=True) as process,
        psycopg.connect(shop.url) as blocker,
    ):
        while int(process.stdout.readline()) < OWNERS:
            pass
        blocker.execute("LOCK TABLE shop_reminder IN SHARE MODE")
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = is_whole(shop)
    assert 1 <= done <= PARTS
    summary = shop.load(REMINDER, "second", wait_seconds=PATIENCE)
    assert summary.skipped_parts == done
    assert summary.inserted == (PARTS - done) * OWNERS
    assert is_whole(shop) == PARTS
    assert shop.sql("SELECT run_id, status FROM migration.load ORDER BY id")[0][0] == "killed"
    assert shop.sql("SELECT read, migrated FROM migration.accounting WHERE run_id = 'second'") == [(96, 96)]
    state = shop.state()
    assert shop.load(REMINDER, "third").skipped_parts == PARTS
    assert shop.state() == state


def test_the_second_of_two_loads_waits_or_stops(shop, monkeypatch):
    prepare(shop)
    held, go_on = threading.Event(), threading.Event()
    real = PartLoad._write_parts

    def slow(self, parts, fast):
        held.set()
        assert go_on.wait(PATIENCE)
        return real(self, parts, fast)

    monkeypatch.setattr(PartLoad, "_write_parts", slow)
    summaries, told = {}, []
    first = threading.Thread(target=lambda: summaries.update(first=shop.load(REMINDER, "first")))
    first.start()
    try:
        assert held.wait(PATIENCE)
        with pytest.raises(LoadError, match="shop_reminder is being loaded by another run"):
            shop.load(REMINDER, "impatient", wait_seconds=0)
        patient = threading.Thread(
            target=lambda: summaries.update(
                patient=shop.load(REMINDER, "patient", wait_seconds=PATIENCE, waiting=told.append)
            )
        )
        patient.start()
        while not told:
            time.sleep(0.05)
    finally:
        go_on.set()
    first.join()
    patient.join()
    assert "dtx_assets load, backend" in told[0]
    assert f"waiting for up to {PATIENCE} s" in told[0]
    assert summaries["first"].inserted == PARTS * OWNERS
    assert summaries["patient"].skipped_parts == PARTS


def test_an_application_that_writes_the_same_row_meanwhile_wins(shop, monkeypatch):
    prepare(shop)
    real = Member.insert
    once = []

    def meet(self, writing):
        part = writing.part
        # After the load looked and before it writes, someone else makes one of its rows.
        if part.name == "00003" and not once:
            once.append(True)
            row = part.rows.row(0, named=True)
            shop.sql(
                "INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active)"
                " VALUES (%s, %s, 55, '[]', true)",
                row["owner_id"],
                row["stage"],
            )
        return real(self, writing)

    monkeypatch.setattr(Member, "insert", meet)
    summary = shop.load(REMINDER)
    assert once
    assert (summary.inserted, summary.conflicts, summary.rejected) == (PARTS * OWNERS - 1, 1, 1)
    assert shop.sql("SELECT count(*) FROM shop_reminder WHERE days = 55") == [(1,)]


def test_an_edit_between_looking_and_writing_is_not_overwritten(shop, monkeypatch):
    prepare(shop)
    shop.load(REMINDER)
    prepare(shop, days=2)
    real = Writer.update
    once = []

    def meet(self, values, batch_id):
        if not once:
            once.append(values.row(0, named=True)["_id"])
            shop.sql("UPDATE shop_reminder SET note = 'edited just now' WHERE id = %s", once[0])
        return real(self, values, batch_id)

    monkeypatch.setattr(Writer, "update", meet)
    summary = shop.load(REMINDER, "second")
    assert (summary.updated, summary.conflicts) == (PARTS * OWNERS - 1, 1)
    assert shop.sql("SELECT id, days FROM shop_reminder WHERE note IS NOT NULL") == [(once[0], 1)]
    assert shop.sql("SELECT count(*) FROM migration.journal") == [(PARTS * OWNERS - 1,)]


def test_many_runs_may_prepare_the_bookkeeping_at_once(shop):
    shop.sql("DROP SCHEMA IF EXISTS migration CASCADE")
    errors = []

    def open_one(number):
        try:
            shop.run(f"run {number}")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=open_one, args=[n]) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert shop.sql("SELECT count(*), min(status) FROM migration.run") == [(6, "running")]


@pytest.mark.parametrize("lost_in", ["00000", "00005"])
def test_a_connection_that_is_lost_is_told_and_leaves_whole_batches(shop, monkeypatch, lost_in):
    prepare(shop)
    real = Member.insert

    def cut_off(self, writing):
        if writing.part.name == lost_in:
            shop.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'dtx_assets load' AND datname = current_database()"
            )
        return real(self, writing)

    with monkeypatch.context() as patch:
        patch.setattr(Member, "insert", cut_off)
        with pytest.raises(LoadError, match="the target database stopped the load") as error:
            shop.load(REMINDER)
    assert "run again" in str(error.value)
    done = is_whole(shop)
    assert done < PARTS
    assert shop.load(REMINDER, "second").inserted == (PARTS - done) * OWNERS
    assert is_whole(shop) == PARTS


def test_a_lock_that_the_live_application_holds_is_waited_for_a_while_only(shop, monkeypatch):
    prepare(shop)
    monkeypatch.setattr(connection, "LOCK_TIMEOUT", "100ms")
    with psycopg.connect(shop.url) as live:
        live.execute("LOCK TABLE shop_reminder IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LoadError, match=r"lock[\s\S]*pg_stat_activity"):
            shop.load(REMINDER)
    assert shop.load(REMINDER).inserted == PARTS * OWNERS


def test_a_statement_that_takes_too_long_is_told(shop, monkeypatch):
    prepare(shop)
    # Much longer than its limit: of one that ends as it is cancelled the server tells the next that a user did it.
    shop.sql(
        """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_sleep(10); RETURN NULL; END $$;
           CREATE TRIGGER slow AFTER INSERT ON shop_reminder FOR EACH STATEMENT EXECUTE FUNCTION slow()"""
    )
    monkeypatch.setattr(connection, "STATEMENT_TIMEOUT", "500")
    with pytest.raises(LoadError, match=r"statement timeout[\s\S]*run again"):
        shop.load(REMINDER)


def test_the_planner_knows_the_rows_after_a_load(shop):
    prepare(shop)
    shop.load(REMINDER)
    assert shop.sql("SELECT reltuples FROM pg_class WHERE relname = 'shop_reminder'") == [(float(PARTS * OWNERS),)]


def test_a_dry_run_does_not_keep_the_live_application_waiting(shop):
    """While it is in the middle, rows that it would update and keys that it would insert are free."""
    prepare(shop)
    shop.load(REMINDER)
    prepare(shop, days=7)

    def live(done, _total):
        if done:
            with psycopg.connect(shop.url) as application:
                application.execute("SET lock_timeout = '500ms'")
                application.execute("UPDATE shop_reminder SET note = 'live' WHERE owner_id = 1")
                application.execute(
                    "INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active)"
                    " VALUES (5, 'new', 1, '[]', true) ON CONFLICT DO NOTHING"
                )
                application.rollback()

    run = replace(shop.run("plan"), dry=True)
    assert load_target(SYSTEM, REMINDER, shop.lake, shop.url, run, progress=live).updated == PARTS * OWNERS


def test_a_load_that_another_took_for_killed_writes_no_more(shop, monkeypatch):
    prepare(shop)
    opened = Writer.open_batch

    def open_batch(self, part, load_id):
        if part.name == "00003":
            # As a load does that holds the lock of the target: the connection of this one was cut, not its process.
            shop.sql("UPDATE migration.load SET status = 'killed'")
        return opened(self, part, load_id)

    monkeypatch.setattr(Writer, "open_batch", open_batch)
    # Over one connection: of several, another one would keep from being told what this one tells them.
    run = shop.run("one", connections=1)
    with pytest.raises(LoadError, match="has taken this one for killed, so that it writes no more"):
        load_target(SYSTEM, REMINDER, shop.lake, shop.url, run)
    before = is_whole(shop)
    assert 1 <= before < PARTS
    monkeypatch.undo()
    shop.load(REMINDER, "two")
    assert is_whole(shop) == PARTS
    assert shop.sql("SELECT status FROM migration.load ORDER BY id") == [("killed",), ("succeeded",)]
