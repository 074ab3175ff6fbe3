"""Indexes and foreign keys that are made after a first load: what comes of it is what comes of it with them, whatever
happens between, and they are what they were."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError
from dtx_assets.machinery.base.failpoints import FAILPOINT
from dtx_assets.machinery.load import LoadSummary, indexes_after, load_target, undo_run
from dtx_assets.machinery.load.indexes_after import dropped_by_loads, mend_killed
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.run.preflight.target import findings_of_left_out
from dtx_assets_tests.machinery.load.prepared import (
    REMINDER,
    SYSTEM,
    TABLES,
    Batch,
    Link,
    Refusal,
    Shop,
    reminder,
    write_prepared,
)
from dtx_assets_tests.machinery.load.test_ranges import begin_anew, outcome, wait_for_the_end
from dtx_assets_tests.patience import PATIENCE

PARTS, OWNERS = 6, 12
LOAD = """
import sys
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.load import indexes_after, load_target, open_run
from dtx_assets_tests.machinery.load.prepared import REMINDER, SYSTEM
indexes_after.LEAST_ROWS = 1
lake, url, connections = sys.argv[1:]
run = open_run(url, SYSTEM, "killed", mode="rehearsal", decisions={}, connections=int(connections), indexes_after=True,
    restore_point="snapshot")
load_target(SYSTEM, REMINDER, Lake(lake), url, run)
"""
COLUMNS = """
ALTER TABLE shop_reminder ADD note_owner bigint, ADD note_day integer, ADD other bigint, ADD silent integer;
"""
OTHERS = """
CREATE TABLE day (number integer PRIMARY KEY);
INSERT INTO day SELECT generate_series(1, 99);
CREATE SCHEMA "Other things";
CREATE TABLE "Other things".visit (day integer, owner bigint, PRIMARY KEY (owner, day));
INSERT INTO "Other things".visit SELECT n, n FROM generate_series(1, 99) AS n;
"""
COME_BACK = """
ALTER TABLE shop_reminder ADD CONSTRAINT "known day" FOREIGN KEY (days) REFERENCES day ON DELETE CASCADE DEFERRABLE;
ALTER TABLE shop_reminder ADD CONSTRAINT known_visit FOREIGN KEY (note_owner, note_day)
    REFERENCES "Other things".visit MATCH FULL ON UPDATE SET NULL NOT VALID;
CREATE INDEX "Stage ""and"" day" ON shop_reminder (stage DESC NULLS LAST, days) INCLUDE (note) WITH (fillfactor = 70);
CREATE INDEX lower_note ON shop_reminder (lower(note) text_pattern_ops) WHERE note IS NOT NULL;
CREATE INDEX days_brin ON shop_reminder USING brin (days) WITH (pages_per_range = 8);
"""
"""What is dropped and made again, beside the foreign key that the declaration makes."""
STAY = """
CREATE UNIQUE INDEX note_once ON shop_reminder (note);
ALTER TABLE shop_reminder ADD CONSTRAINT few_days CHECK (days < 1000);
ALTER TABLE shop_reminder ADD CONSTRAINT other_one FOREIGN KEY (other) REFERENCES shop_reminder;
CREATE INDEX told ON shop_reminder (days);
COMMENT ON INDEX told IS 'for the list';
CREATE INDEX together ON shop_reminder (is_active);
ALTER TABLE shop_reminder CLUSTER ON together;
CREATE INDEX counted ON shop_reminder ((days + 1));
ALTER INDEX counted ALTER COLUMN 1 SET STATISTICS 7;
ALTER TABLE shop_reminder ADD CONSTRAINT silent FOREIGN KEY (silent) REFERENCES day;
"""
MADE_AFTER = {
    "foreign key known day",
    "foreign key known_visit",
    "foreign key shop_reminder_owner_id_fkey",
    'index Stage "and" day',
    "index lower_note",
    "index days_brin",
}
DEFINITIONS = """
SELECT 'constraint', conname, pg_get_constraintdef(rule.oid), convalidated, obj_description(rule.oid, 'pg_constraint'),
    (SELECT array_agg(tgenabled::text ORDER BY tgname ~ '_c_', tgtype) FROM pg_trigger WHERE tgconstraint = rule.oid)
FROM pg_constraint AS rule WHERE conrelid = 'shop_reminder'::regclass
UNION ALL
SELECT 'index', relname, pg_get_indexdef(indexrelid), indisvalid, obj_description(indexrelid, 'pg_class'),
    ARRAY[indisclustered::text, (SELECT max(attstattarget) FROM pg_attribute WHERE attrelid = indexrelid)::text]
FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = 'shop_reminder'::regclass ORDER BY 1, 2
"""


@pytest.fixture(autouse=True)
def _small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes_after, "LEAST_ROWS", 1)
    monkeypatch.setattr(indexes_after, "TRIES", 3)


@pytest.fixture
def ruled(shop: Shop) -> Shop:
    """The shop with what the load is to drop, and with what is to stay."""
    shop.sql(
        "ALTER TABLE shop_reminder ADD note_owner bigint, ADD note_day integer, ADD other bigint, ADD silent integer"
    )
    for statements in (OTHERS, COME_BACK, STAY):
        shop.sql(statements)
    shop.sql(
        "DO $$ DECLARE name text; BEGIN FOR name IN SELECT tgname FROM pg_trigger JOIN pg_constraint AS c"
        " ON c.oid = tgconstraint WHERE conname = 'silent' AND tgrelid = 'shop_reminder'::regclass LOOP"
        " EXECUTE format('ALTER TABLE shop_reminder DISABLE TRIGGER %%I', name); END LOOP; END $$"
    )
    return shop


def prepare(shop: Shop, *, planted: bool) -> None:
    """Rows of which a check refuses some; where it is `planted`, others break a foreign key that nobody declared."""
    batches = []
    for part in range(PARTS):
        rows = [
            reminder(
                1 + n,
                f"{part}.{n}",
                days={3: 5000, 4: 500 if planted and part % 2 else 1}.get(n, 1 + n),
                note=f"{part}.{n}" if n % 2 else None,
            )
            for n in range(OWNERS)
        ]
        if planted and part == 2:
            rows[7]["owner_id"] = 7_000
        links = [Link("notice", f"{part}.{n}", {"x": n}, bucket=part * 682 + n, number=n) for n in range(OWNERS)]
        refusals = [Refusal("notice", f"{part}.r", ["invalid_email"], bucket=part * 682 + 99)]
        batches.append(Batch(rows, links, refusals))
    write_prepared(shop.lake, REMINDER, batches, sources=["notice"])


def load(
    shop: Shop, run_id: str = "run", *, after: bool, connections: int = 1, told: list[str] | None = None, **other
) -> LoadSummary:
    run = shop.run(run_id, connections=connections, indexes_after=after, restore_point="snapshot")
    waiting = None if told is None else told.append
    return load_target(SYSTEM, REMINDER, shop.lake, shop.url, run, waiting=waiting, **other)


def came_of_it(shop: Shop) -> Mapping[str, list]:
    """All but keys: the table gives others when rows are loaded twice."""
    found = outcome(shop, keys=False)
    details = 'SELECT source_key, reasons, partial, detail, "row"::text FROM migration.rejected ORDER BY 1, 4'
    history = "SELECT source_key, reasons, detail FROM migration.rejected_history ORDER BY 1, 3"
    return {**found, "rejected": shop.sql(details), "history": shop.sql(history)}


def waiting_to_be_made(shop: Shop) -> list[str]:
    with connect(shop.url) as connection:
        return [str(piece) for each in dropped_by_loads(connection, SYSTEM) for _, piece in each.pieces]


def undo(shop: Shop, run_id: str) -> None:
    undo_run(shop.url, SYSTEM, TABLES, run_id, wait_seconds=PATIENCE)


@pytest.fixture
def as_ever(ruled: Shop) -> tuple[list, Mapping[str, list], Mapping[str, list]]:
    """Definitions, and what comes of the rows with the setting off: of those that are fine, of those that are not."""
    found = []
    for planted in (False, True):
        prepare(ruled, planted=planted)
        load(ruled, after=False)
        found.append(came_of_it(ruled))
        begin_anew(ruled)
    return ruled.sql(DEFINITIONS), found[0], found[1]


@pytest.mark.parametrize("connections", [1, 3])
def test_rows_and_definitions_are_as_ever(ruled, as_ever, connections):
    """With rows that fit, with rows that do not, and in the undo of either."""
    definitions, fine, planted = as_ever
    told: list[str] = []
    prepare(ruled, planted=False)
    summary = load(ruled, "fine", after=True, connections=connections, told=told)
    assert set(summary.made_after) == MADE_AFTER
    assert summary.loaded_twice == ""
    assert {line.partition(":")[0] for line in summary.not_made_after} == {
        "index told",
        "index together",
        "index counted",
        "foreign key silent",
    }
    assert any(line.startswith("shop_reminder: made after the load are foreign key known day") for line in told)
    assert ruled.sql(DEFINITIONS) == definitions
    assert waiting_to_be_made(ruled) == []
    assert came_of_it(ruled) == fine
    assert ruled.sql("SELECT restore_point, indexes_after FROM migration.run") == [("snapshot", True)]
    again = load(ruled, "again", after=True, connections=connections)
    assert (again.inserted, again.updated, again.made_after, again.not_made_after) == (0, 0, [], [])
    undo(ruled, "again")
    undo(ruled, "fine")
    assert ruled.sql("SELECT count(*) FROM shop_reminder") == [(0,)]
    assert ruled.sql(DEFINITIONS) == definitions

    begin_anew(ruled)
    prepare(ruled, planted=True)
    summary = load(ruled, "planted", after=True, connections=connections, told=told)
    assert summary.loaded_twice.startswith("foreign key known day: insert or update on table")
    assert summary.made_after == []
    assert any("all are taken back and loaded again" in line for line in told)
    assert came_of_it(ruled) == planted
    assert len(planted["rejected"]) > len(fine["rejected"])
    assert ruled.sql(DEFINITIONS) == definitions
    undo(ruled, "planted")
    assert ruled.sql("SELECT (SELECT count(*) FROM shop_reminder), (SELECT count(*) FROM migration.rejected)") == [
        (0, 0)
    ]
    assert ruled.sql(DEFINITIONS) == definitions


KILLS = [
    ("indexes.before_dropped", False, 1),
    ("indexes.dropped", False, 1),
    ("load.after_commit:3", False, 1),
    ("load.after_copy:4", True, 3),
    ("indexes.made:2", False, 1),
    ("indexes.unchecked", False, 1),
    ("indexes.unchecked", True, 1),
    ("undo.after_commit:2", True, 1),
    ("indexes.taken_back", True, 1),
]


@pytest.mark.parametrize(("point", "planted", "connections"), KILLS)
def test_after_a_kill_the_next_run_and_an_undo_find_what_is_missing(ruled, as_ever, point, planted, connections):
    definitions, *outcomes = as_ever
    prepare(ruled, planted=planted)
    for mends in ("run", "undo"):
        command = [sys.executable, "-c", LOAD, ruled.lake.url, ruled.url, str(connections)]
        killed = subprocess.run(command, env={**os.environ, FAILPOINT: point}, check=False)
        assert killed.returncode == -9
        wait_for_the_end(ruled)
        # What is not there is noted, with the statement that makes it: nothing is lost.
        missing = {tuple(row[:2]) for row in definitions} - {tuple(row[:2]) for row in ruled.sql(DEFINITIONS)}
        noted = {
            (
                "index" if piece.startswith("index ") else "constraint",
                piece.removeprefix("index ").removeprefix("foreign key "),
            )
            for piece in waiting_to_be_made(ruled)
        }
        assert missing <= noted
        assert bool(noted) == (point != "indexes.before_dropped")
        if mends == "run":
            load(ruled, "second", after=False, wait_seconds=PATIENCE)
            # Of a load that ended in the middle the history has two runs, and what is not clean two batches.
            two_runs: Mapping[str, list] = {"history": [], "accounting": [], "batches": []}
            assert {**came_of_it(ruled), **two_runs} == {**outcomes[planted], **two_runs}
        else:
            undo(ruled, "killed")
            assert ruled.sql("SELECT count(*) FROM shop_reminder") == [(0,)]
        assert ruled.sql(DEFINITIONS) == definitions
        assert waiting_to_be_made(ruled) == []
        begin_anew(ruled)


def killed_with_nothing_made(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kill leaves it, in this process."""
    with monkeypatch.context() as patch:
        patch.setattr(indexes_after, "make_again", lambda *_: (_ for _ in ()).throw(LoadError("killed")))
        patch.setattr("dtx_assets.machinery.load.target_load.make_again", indexes_after.make_again)
        with pytest.raises(LoadError, match="killed"):
            load(shop, "killed", after=True)
    assert waiting_to_be_made(shop)


def test_whatever_loads_another_table_makes_again_what_it_can(ruled, as_ever, monkeypatch):
    """A run of other tables, and a cutover, which is refused where rows of the killed load do not fit."""
    definitions, *_ = as_ever
    prepare(ruled, planted=False)
    killed_with_nothing_made(ruled, monkeypatch)
    with connect(ruled.url) as connection:
        [missing] = findings_of_left_out(connection, SYSTEM)
        assert findings_of_left_out(connection, "another") == []
    assert missing.state == "warn"
    # As `dtx diagnose` and `dtx plan` say it.
    assert missing.subject == "table shop_reminder"
    assert "shop_reminder is without " in missing.says
    assert all(name in missing.says for name in MADE_AFTER)
    assert "the next run makes them, or dtx rollback killed" in missing.remedy
    told: list[str] = []
    mend_killed(ruled.url, SYSTEM, told.append, strictly=True)
    assert told[0].startswith("making again what load 1, which was killed, dropped of shop_reminder: index Stage")
    assert ruled.sql(DEFINITIONS) == definitions

    begin_anew(ruled)
    prepare(ruled, planted=True)
    killed_with_nothing_made(ruled, monkeypatch)
    mend_killed(ruled.url, SYSTEM, told.append)
    # A row that does not fit comes in no more.
    assert waiting_to_be_made(ruled) == ["foreign key known day"]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        ruled.sql(
            "INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active) VALUES (1, 'x', 600, '[]', true)"
        )
    with pytest.raises(
        LoadError, match=r"foreign key known day of public\.shop_reminder, dropped for load 1"
    ) as refused:
        mend_killed(ruled.url, SYSTEM, told.append, strictly=True)
    assert "run again with Reminder" in str(refused.value)
    undo(ruled, "killed")
    assert ruled.sql(DEFINITIONS) == definitions


def test_an_undo_of_another_run_is_refused_while_a_foreign_key_is_missing(ruled, as_ever, monkeypatch):
    prepare(ruled, planted=True)
    ruled.run("other")
    killed_with_nothing_made(ruled, monkeypatch)
    with pytest.raises(LoadError, match=r"known day of public\.shop_reminder, dropped for load 1 of run killed"):
        undo(ruled, "other")


def test_what_others_made_of_the_same_name_is_told(ruled, as_ever, monkeypatch):
    prepare(ruled, planted=False)
    killed_with_nothing_made(ruled, monkeypatch)
    ruled.sql("CREATE INDEX days_brin ON shop_reminder (days)")
    with pytest.raises(LoadError, match="index days_brin is not what it was when it was dropped"):
        load(ruled, "second", after=False)
    ruled.sql("DROP INDEX days_brin")
    load(ruled, "second", after=False)
    assert ruled.sql(DEFINITIONS) == as_ever[0]


def test_a_load_that_fails_makes_them_again_itself(ruled, as_ever, monkeypatch):
    prepare(ruled, planted=False)
    with monkeypatch.context() as patch:
        patch.setattr(
            "dtx_assets.machinery.load.target_load.TargetLoad.add", lambda *_: (_ for _ in ()).throw(ValueError("ours"))
        )
        with pytest.raises(ValueError, match="ours"):
            load(ruled, after=True)
    assert ruled.sql(DEFINITIONS) == as_ever[0]
    assert waiting_to_be_made(ruled) == []


def test_where_nothing_can_be_dropped_it_is_told_and_loaded_as_ever(ruled, as_ever, monkeypatch):
    """Rows of others, a lock of others, partitions, a role that does not own the table."""
    definitions, fine, _ = as_ever
    prepare(ruled, planted=False)
    with psycopg.connect(ruled.url) as other:
        other.execute("SELECT count(*) FROM day")
        summary = load(ruled, "locked", after=True)
        assert summary.made_after == []
        assert summary.not_made_after == ["others hold locks on the table, or on one that it refers to"]
    assert came_of_it(ruled) == fine
    begin_anew(ruled)

    ruled.sql("INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active) VALUES (1, 'x', 6, '[]', true)")
    assert load(ruled, "rows", after=True).not_made_after == ["the table has rows"]
    begin_anew(ruled)

    ruled.sql("CREATE TABLE heir () INHERITS (shop_reminder)")
    assert load(ruled, "heir", after=True).not_made_after[0].startswith("it has partitions, or tables that inherit")
    ruled.sql("DROP TABLE heir")
    begin_anew(ruled)

    monkeypatch.setattr(indexes_after, "LEAST_ROWS", PARTS * OWNERS + 1)
    small = load(ruled, "small", after=True)
    assert (small.made_after, small.not_made_after) == ([], [])
    assert ruled.sql(DEFINITIONS) == definitions


def test_a_role_that_does_not_own_the_table_loads_as_ever(ruled, as_ever):
    prepare(ruled, planted=False)
    [(database,)] = ruled.sql("SELECT current_database()")
    role = f"loader_{database[-8:]}"
    ruled.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'loader'")
    try:
        ruled.sql(f'GRANT CREATE, TEMPORARY ON DATABASE "{database}" TO {role}')
        ruled.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        ruled.sql(f"GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {role}")
        url = psycopg.conninfo.conninfo_to_dict(ruled.url)
        own = f"postgresql://{role}:loader@/{url['dbname']}?host={url['host']}&port={url.get('port', 5432)}"
        other = object.__new__(Shop)
        other.lake, other.url = ruled.lake, own
        summary = load(other, after=True)
        assert summary.not_made_after == ["this user does not own the table"]
        assert came_of_it(ruled) == as_ever[1]
        assert ruled.sql(DEFINITIONS) == as_ever[0]
    finally:
        ruled.sql(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_a_dry_run_says_what_would_be_made_after_and_drops_nothing(ruled, as_ever):
    prepare(ruled, planted=False)
    run = replace(ruled.run("plan"), dry=True, indexes_after=True)
    summary = load_target(SYSTEM, REMINDER, ruled.lake, ruled.url, run)
    assert set(summary.made_after) >= MADE_AFTER
    assert ruled.sql(DEFINITIONS) == as_ever[0]
    assert waiting_to_be_made(ruled) == []


def test_without_a_restore_point_nothing_is_opened(shop, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="no restore point of the target database is named") as refused:
        shop.run("run", indexes_after=True)
    assert "SHOP_INDEXES_AFTER_LOAD" in str(refused.value)
    assert shop.sql("SELECT to_regclass('migration.run')") == [(None,)]
