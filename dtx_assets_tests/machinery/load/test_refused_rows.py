"""Rows that only the live target can refuse, by a constraint, an index or a trigger: they are rejected, one by one."""

import random
from dataclasses import replace

import pytest

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.load import load_target
from dtx_assets.machinery.load.rules import rules_of, surprising
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.postgres.ddl import live_target
from dtx_assets_tests.machinery.load.prepared import (
    OVERRIDE,
    REMINDER,
    REQUIREMENT,
    SYSTEM,
    Batch,
    Link,
    Shop,
    reminder,
    write_prepared,
)

LONG = "".join(random.Random(7).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9000))
RULES = (
    "ALTER TABLE shop_reminder ADD CONSTRAINT few_days CHECK (days < 100)",
    "CREATE UNIQUE INDEX note_ci ON shop_reminder (lower(note)) WHERE length(note) < 100",
    "CREATE INDEX note_indexed ON shop_reminder (note)",
    "ALTER TABLE shop_reminder ADD CONSTRAINT one_at_a_time EXCLUDE USING gist (int4range(days, days, '[]') WITH &&)"
    " WHERE (days > 50 AND days < 100)",
    "CREATE FUNCTION no_beta() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.note = 'beta' THEN"
    " RAISE EXCEPTION 'secret of %%', NEW.note USING ERRCODE = 'check_violation'; END IF; RETURN NEW; END $$",
    "CREATE TRIGGER no_beta_here BEFORE INSERT OR UPDATE ON shop_reminder FOR EACH ROW EXECUTE FUNCTION no_beta()",
    "CREATE FUNCTION settled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " ASSERT NEW.note IS DISTINCT FROM 'gamma', 'secret'; RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE ON shop_reminder DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION settled()",
    "CREATE TABLE place (name text PRIMARY KEY)",
    "INSERT INTO place VALUES ('x'), ('a')",
    "ALTER TABLE shop_reminder ADD CONSTRAINT place_known FOREIGN KEY (stage) REFERENCES place DEFERRABLE"
    " INITIALLY DEFERRED",
    "CREATE DOMAIN truthful AS boolean CHECK (VALUE) NOT NULL",
    "ALTER TABLE shop_reminder ALTER COLUMN is_active TYPE truthful",
)
MEND = (
    "ALTER TABLE shop_reminder DROP CONSTRAINT few_days, DROP CONSTRAINT one_at_a_time, DROP CONSTRAINT place_known,"
    " ALTER COLUMN is_active TYPE boolean",
    "DROP INDEX note_ci, note_indexed",
    "DROP TRIGGER no_beta_here ON shop_reminder",
    "DROP TRIGGER at_commit ON shop_reminder",
)
ROWS = {
    "ok1": reminder(1, "a", note="Alpha"),
    "check": reminder(2, "a", days=100),
    "unique": reminder(3, "a", note="ALPHA"),
    "long": reminder(4, "a", note=LONG),
    "ok2": reminder(5, "x", days=60),
    "excluded": reminder(6, "x", days=60),
    "trigger": reminder(7, "a", note="beta"),
    "commit": reminder(8, "a", note="gamma"),
    "orphan": reminder(9, "nowhere"),
    "domain": reminder(10, "a", is_active=False),
    "json": reminder(11, "a", addresses='["\\u0000"]'),
    "ok3": reminder(12, "a", note="delta"),
}
DETAILS = {
    "check": ("schema_violation", "few_days: the row violates this check"),
    "unique": ("schema_violation", "note_ci: another row has the same key"),
    "long": ("schema_violation", "note_indexed or note_ci: an entry of this index would be too long"),
    "excluded": ("schema_violation", "one_at_a_time: another row is in the way"),
    "trigger": ("schema_violation", "no_beta_here: the trigger refuses the row; the log of the server has its words"),
    "commit": ("schema_violation", "at_commit: the trigger refuses the row; the log of the server has its words"),
    "orphan": ("orphan_reference", "place_known: the row that it refers to is not there"),
    "domain": ("schema_violation", "truthful_check: the row violates this check"),
    "json": ("schema_violation", "unsupported Unicode escape sequence"),
}


def prepare(shop: Shop, rows, target=REMINDER):
    links = [Link("notice", key, {"x": n}, number=n + 1, bucket=n) for n, key in enumerate(rows)]
    write_prepared(shop.lake, target, [Batch(list(rows.values()), links)], sources=["notice"])


def listed(shop: Shop):
    rows = shop.sql("SELECT source_key, reasons, detail FROM migration.rejected WHERE NOT partial")
    return {key: (*reasons, detail) for key, reasons, detail in rows}


def enforce(shop: Shop, *statements: str) -> None:
    for statement in statements:
        shop.sql(statement)


def test_each_row_that_the_target_refuses_is_rejected_by_name_and_the_others_are_in(shop):
    enforce(shop, *RULES)
    prepare(shop, ROWS)
    planned = load_target(SYSTEM, REMINDER, shop.lake, shop.url, replace(shop.run("plan"), dry=True))
    assert (planned.inserted, planned.rejected) == (3, 9)
    assert planned.may_refuse == [
        "check few_days",
        "check truthful_check",
        "exclusion one_at_a_time",
        "foreign key place_known",
        "index note_indexed",
        "trigger at_commit",
        "trigger no_beta_here",
        "unique index note_ci",
    ]
    assert shop.sql("SELECT count(*) FROM shop_reminder") == [(0,)]
    summary = shop.load(REMINDER)
    assert (summary.inserted, summary.rejected) == (3, 9)
    assert listed(shop) == DETAILS
    assert shop.sql("SELECT source_key FROM migration.mapping ORDER BY 1") == [("ok1",), ("ok2",), ("ok3",)]
    assert shop.sql("SELECT read, migrated, rejected FROM migration.accounting") == [(12, 3, 9)]
    # The same again writes nothing; what was refused is looked at again.
    state = shop.state()
    summary = shop.load(REMINDER, "second")
    assert (summary.unchanged, summary.inserted, summary.rejected, summary.skipped_parts) == (3, 0, 9, 0)
    assert shop.state() == state
    enforce(shop, *MEND)
    summary = shop.load(REMINDER, "third")
    assert (summary.inserted, summary.unchanged, summary.rejected) == (8, 3, 1)
    assert set(listed(shop)) == {"json"}


def test_an_update_that_the_target_refuses_leaves_the_row_as_it_was(shop):
    before = {key: reminder(n + 1, "a") for n, key in enumerate(ROWS)}
    prepare(shop, before)
    assert shop.load(REMINDER).inserted == 12
    enforce(shop, *RULES)
    # The natural key stays, so that each row is updated.
    after = {key: {**ROWS[key], **{name: before[key][name] for name in ("owner_id", "stage")}} for key in ROWS}
    prepare(shop, after)
    refused = {key: told for key, told in DETAILS.items() if key != "orphan"}
    planned = load_target(SYSTEM, REMINDER, shop.lake, shop.url, replace(shop.run("plan"), dry=True))
    assert (planned.updated, planned.rejected) == (3, 8)
    summary = shop.load(REMINDER, "second")
    assert (summary.updated, summary.unchanged, summary.rejected) == (3, 1, 8)
    assert listed(shop) == refused
    assert shop.sql("SELECT count(*) FROM shop_reminder WHERE days = 1 AND note IS NULL") == [(9,)]
    assert shop.sql("SELECT count(*) FROM migration.journal") == [(3,)]
    state = shop.state()
    assert shop.load(REMINDER, "third").rejected == 8
    assert shop.state() == state


def test_half_of_many_rows_are_refused_and_each_part_is_one_transaction(shop):
    shop.sql("ALTER TABLE shop_override ADD CONSTRAINT even CHECK (right(reason, 1) IN ('0', '2', '4', '6', '8'))")
    batches = [
        Batch(
            [{"owner_id": 1 + n % 99, "reason": str(n), "until": None} for n in range(1000)],
            [Link("notice", f"{part} {n}", {"x": n}, part * 2048 + n, 1000 * part + n + 1) for n in range(1000)],
        )
        for part in range(2)
    ]
    write_prepared(shop.lake, OVERRIDE, batches, sources=["notice"])
    summary = shop.load(OVERRIDE)
    assert (summary.inserted, summary.rejected) == (1000, 1000)
    assert shop.sql("SELECT count(*) FILTER (WHERE mod(reason::int, 2) = 0), count(*) FROM shop_override") == [
        (1000, 1000)
    ]
    assert shop.sql("SELECT count(*) FROM migration.batch") == [(2,)]


def test_a_source_row_is_refused_whole_and_is_in_nobodys_way_then(shop):
    enforce(shop, *RULES[:2])
    rows = [reminder(1, "a", note="Alpha"), reminder(1, "b", days=100), reminder(2, "a", note="ALPHA")]
    links = [Link("notice", "1", {"a": 0, "b": 1}, number=1), Link("notice", "2", {"a": 2}, number=2, bucket=1)]
    links.append(Link("hook", "h", {"b": 1}))
    write_prepared(shop.lake, REMINDER, [Batch(rows, links)], sources=["notice", "hook"])
    assert shop.load(REMINDER).inserted == 1
    assert shop.sql("SELECT note FROM shop_reminder") == [("ALPHA",)]
    assert {key: told[0] for key, told in listed(shop).items()} == {"1": "schema_violation", "h": "no_matching_row"}


def test_the_later_of_two_parts_is_refused_what_the_earlier_one_has(shop):
    enforce(shop, RULES[1])
    batches = [
        Batch([reminder(n + 1, "a", note="Alpha" if n else None)], [Link("notice", str(n), {"x": 0}, bucket=n * 1024)])
        for n in range(4)
    ]
    write_prepared(shop.lake, REMINDER, batches, sources=["notice"])
    assert shop.load(REMINDER).inserted == 2
    assert set(listed(shop)) == {"2", "3"}


def test_a_row_that_is_refused_beside_a_key_that_is_there_is_told_as_both_are(shop):
    shop.sql("ALTER TABLE shop_reminder ADD CONSTRAINT few_days CHECK (days < 100)")
    shop.sql("INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active) VALUES (2, 'a', 55, '[]', true)")
    prepare(shop, {"bad": reminder(1, "a", days=500), "taken": reminder(2, "a"), "ok": reminder(3, "a")})
    summary = shop.load(REMINDER)
    assert (summary.inserted, summary.conflicts, summary.rejected) == (1, 1, 2)
    assert {key: told[0] for key, told in listed(shop).items()} == {
        "bad": "schema_violation",
        "taken": "target_conflict",
    }


def test_units_of_a_row_of_others_that_it_refuses_are_rejected(shop):
    shop.sql("INSERT INTO shop_requirement (is_exempted) SELECT false FROM generate_series(1, 3)")
    shop.sql("ALTER TABLE shop_requirement ADD CONSTRAINT polite CHECK (note <> 'rude' AND settings::text <> '{}')")
    rows = {
        str(n): {"id": n, "is_exempted": None, "note": note, "settings": None}
        for n, note in enumerate(("fine", "rude", "good"), 1)
    }
    prepare(shop, rows, REQUIREMENT)
    assert shop.load(REQUIREMENT).updated == 2
    assert listed(shop) == {"2": ("schema_violation", "polite: the row violates this check")}
    assert shop.sql("SELECT note FROM shop_requirement ORDER BY id") == [("fine",), (None,), ("good",)]
    shop.sql("ALTER TABLE shop_requirement DROP CONSTRAINT polite")
    summary = shop.load(REQUIREMENT, "second")
    assert (summary.updated, summary.rejected) == (1, 0)


def test_what_no_row_is_to_blame_for_stops_the_load(shop):
    prepare(shop, {"1": reminder(1, "a"), "2": reminder(2, "a")})
    enforce(
        shop,
        "CREATE FUNCTION one_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF (SELECT count(*) FROM added) > 1 THEN RAISE EXCEPTION 'too many'; END IF; RETURN NULL; END $$",
        "CREATE TRIGGER one_only AFTER INSERT ON shop_reminder REFERENCING NEW TABLE AS added"
        " FOR EACH STATEMENT EXECUTE FUNCTION one_only()",
    )
    with pytest.raises(LoadError, match="takes each of them alone"):
        shop.load(REMINDER)
    enforce(shop, "DROP TRIGGER one_only ON shop_reminder", "ALTER TABLE shop_owner RENAME TO owners")
    enforce(
        shop,
        "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN PERFORM 1 FROM nosuch; RETURN NEW; END $$",
        "CREATE TRIGGER broken BEFORE INSERT ON shop_reminder FOR EACH ROW EXECUTE FUNCTION broken()",
    )
    with pytest.raises(LoadError, match="nosuch"):
        shop.load(REMINDER, "second")
    assert shop.sql("SELECT count(*) FROM migration.rejected") == [(0,)]


def test_the_declaration_is_no_surprise(shop):
    with connect(shop.url) as connection:
        for target in (REMINDER, OVERRIDE, REQUIREMENT):
            assert surprising(rules_of(connection, live_target(connection, target.name)), target) == []
