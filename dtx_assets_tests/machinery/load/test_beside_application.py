"""Loads beside an application that edits the rows that they update: both get on, and nobody's edit is lost."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.load import slices
from dtx_assets_tests.machinery.load.prepared import REMINDER, REQUIREMENT, Batch, Link, Shop, reminder, write_prepared

EDITS_A_SECOND = 20
LEAST_SECONDS_OF_PATIENCE = 1.0


def prepare(shop: Shop, rows: int, **values):
    prepared = [reminder(1 + n % 99, str(n // 99), **values) for n in range(rows)]
    links = [Link("notice", str(n), {"x": n}, bucket=n % 4096, number=n + 1) for n in range(rows)]
    write_prepared(shop.lake, REMINDER, [Batch(prepared, links)], sources=["notice"])


class Application:
    """Edits rows, one a transaction: of some a column that the load writes, of others one that it does not."""

    def __init__(self, shop: Shop, table: str, ids: list[int], seconds_of_patience: float) -> None:
        self.url, self.table, self.ids, self.seconds_of_patience = shop.url, table, ids, seconds_of_patience
        self.notes: dict[int, str] = {}
        self.seen: dict[int, int] = {}
        self.errors: list[Exception] = []
        self.ended = threading.Event()

    def run(self) -> None:
        dice, number = random.Random(11), 0
        try:
            with psycopg.connect(self.url, autocommit=True) as connection:
                # Asked of the server: it counts the waiting, and not how slow this machine is.
                connection.execute(f"SET lock_timeout = '{self.seconds_of_patience:.3f}s'")
                while not self.ended.wait(1 / EDITS_A_SECOND):
                    number += 1
                    if number % 2:
                        place = dice.choice(self.ids)
                        connection.execute(
                            f"UPDATE {self.table} SET note = %s WHERE id = %s", [f"edit {number}", place]
                        )
                        self.notes[place] = f"edit {number}"
                    else:
                        # One of them again and again.
                        place = self.ids[7] if number % 4 else dice.choice(self.ids)
                        connection.execute(f"UPDATE {self.table} SET seen = seen + 1 WHERE id = %s", [place])
                        self.seen[place] = self.seen.get(place, 0) + 1
        except Exception as error:
            self.errors.append(error)


@contextmanager
def editing(shop: Shop, table: str, seconds_of_patience: float) -> Iterator[Application]:
    shop.sql(f"ALTER TABLE {table} ADD COLUMN seen int NOT NULL DEFAULT 0")
    application = Application(
        shop, table, [row[0] for row in shop.sql(f"SELECT id FROM {table} ORDER BY id")], seconds_of_patience
    )
    thread = threading.Thread(target=application.run)
    thread.start()
    try:
        yield application
    finally:
        application.ended.set()
        thread.join()


@pytest.mark.parametrize(("rows", "on_conflict"), [(40_000, "keep_target"), (4_000, "overwrite")])
def test_a_load_wins_beside_an_application_that_edits_its_rows(shop, monkeypatch, rows, on_conflict):
    monkeypatch.setattr(slices, "LARGEST_SLICE", rows // 8)
    # Where a slice takes long, the next one is no larger.
    monkeypatch.setattr(slices, "SLICE_ROWS", min(slices.SLICE_ROWS, rows // 8))
    prepare(shop, rows)
    started = time.monotonic()
    shop.load(REMINDER)
    # A load that held all rows until its end would be waited for longer than this, on a slow machine too.
    seconds_of_patience = max(LEAST_SECONDS_OF_PATIENCE, (time.monotonic() - started) / 2)
    prepare(shop, rows, days=2)
    with editing(shop, "shop_reminder", seconds_of_patience) as application:
        summary = shop.load(REMINDER, "second", on_conflict=on_conflict)
    assert application.errors == []
    assert application.notes
    edits = dict(shop.sql("SELECT id, note FROM shop_reminder WHERE note IS NOT NULL"))
    if on_conflict == "keep_target":
        assert edits == application.notes
    else:
        assert edits.items() <= application.notes.items()
    assert dict(shop.sql("SELECT id, seen FROM shop_reminder WHERE seen > 0")) == application.seen
    # Each row is what the mapping says, or what somebody made of it.
    assert shop.sql("SELECT count(*) FROM shop_reminder WHERE note IS NULL AND days <> 2") == [(0,)]
    assert summary.updated >= rows - len(application.notes)
    assert shop.sql("SELECT sum(rows_updated), count(*) > 5 FROM migration.batch WHERE rows_updated > 0") == [
        (shop.sql("SELECT count(*) FROM migration.journal")[0][0], True)
    ]
    # Without the application, what it edited is listed, and nothing is written.
    third = shop.load(REMINDER, "third")
    assert (third.conflicts, third.updated, third.unchanged) == (len(edits), 0, rows - len(edits))
    assert shop.sql("SELECT count(*) FROM migration.mapping") == [(rows,)]


def test_a_part_that_was_written_in_slices_is_as_clean_as_another(shop, monkeypatch):
    monkeypatch.setattr(slices, "SLICE_ROWS", 3)
    monkeypatch.setattr(slices, "SMALLEST_SLICE", 2)
    monkeypatch.setattr(slices, "LARGEST_SLICE", 3)
    prepare(shop, 20)
    shop.load(REMINDER)
    prepare(shop, 30, days=2)
    summary = shop.load(REMINDER, "second")
    assert (summary.inserted, summary.updated, summary.unchanged) == (10, 20, 0)
    [(batches,)] = shop.sql("SELECT count(*) FROM migration.batch WHERE rows_updated > 0")
    assert batches >= 4
    state = shop.state()
    assert shop.load(REMINDER, "third").skipped_parts == 1
    assert shop.state() == state
    # A row that the target refuses is alone in its slice in the end.
    prepare(shop, 30, days=3)
    shop.sql("ALTER TABLE shop_reminder ADD CONSTRAINT odd CHECK (days <> 3 OR id <> 5)")
    summary = shop.load(REMINDER, "fourth")
    assert (summary.updated, summary.rejected) == (29, 1)
    assert shop.sql("SELECT days FROM shop_reminder WHERE id = 5") == [(2,)]
    assert shop.sql("SELECT detail FROM migration.rejected") == [("odd: the row violates this check",)]


def test_units_of_rows_of_others_are_written_in_slices_too(shop, monkeypatch):
    monkeypatch.setattr(slices, "SLICE_ROWS", 3)
    shop.sql("INSERT INTO shop_requirement (is_exempted) SELECT false FROM generate_series(1, 20)")
    rows = [
        {"id": 1 + n % 20, "is_exempted": None, "note": None, "settings": f'{{"k{n // 20}":{n}}}'} for n in range(40)
    ]
    # Each row of the source fills two rows, each row is filled by two of the source.
    links = [Link("notice", str(n), {f"a{n}": n, f"b{n}": 20 + (n + 7) % 20}, number=n + 1) for n in range(20)]
    write_prepared(shop.lake, REQUIREMENT, [Batch(rows, links)], sources=["notice"])
    assert shop.load(REQUIREMENT).updated == 40
    expected = [(n, {"k0": n - 1, "k1": 19 + n}) for n in range(1, 21)]
    assert shop.sql("SELECT id, settings FROM shop_requirement ORDER BY id") == expected
    state = shop.state()
    assert shop.load(REQUIREMENT, "second").skipped_parts == 1
    assert shop.state() == state


def test_rows_that_somebody_keeps_locked_are_waited_for_and_told_in_the_end(shop, monkeypatch):
    prepare(shop, 20)
    shop.load(REMINDER)
    prepare(shop, 20, days=2)
    monkeypatch.setattr(slices, "SECONDS_FOR_ROWS_IN_USE", 0.5)
    with psycopg.connect(shop.url) as live:
        live.execute("SELECT 1 FROM shop_reminder WHERE id = 7 FOR UPDATE")
        with pytest.raises(LoadError, match="1 rows of part 00000 cannot be updated") as error:
            shop.load(REMINDER, "second")
    assert "pg_stat_activity" in str(error.value)
    assert shop.sql("SELECT id FROM shop_reminder WHERE days <> 2") == [(7,)]
    summary = shop.load(REMINDER, "third")
    assert (summary.updated, summary.unchanged) == (1, 19)
