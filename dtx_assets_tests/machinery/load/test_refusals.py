"""What a load refuses, by name: a live target that differs, prepared rows of another run, rows that do not fit."""

from datetime import UTC, datetime

import polars as pl
import psycopg
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError, StructureError
from dtx_assets.machinery.load import compare_target, live_target, load_target, open_run, target_ddl, untouched
from dtx_assets.machinery.postgres.connection import connect, words_of
from dtx_assets_tests.machinery.load.prepared import (
    OVERRIDE,
    OWNER,
    REMINDER,
    SYSTEM,
    TABLES,
    Batch,
    Link,
    Shop,
    reminder,
    write_prepared,
)


def prepare(shop: Shop, rows, **options):
    links = [Link("notice", str(n), {row["stage"]: n}, number=n + 1) for n, row in enumerate(rows)]
    write_prepared(shop.lake, REMINDER, [Batch(rows, links)], sources=["notice"], **options)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ALTER TABLE shop_reminder DROP COLUMN note", "shop_reminder.note: the column is missing"),
        (
            "ALTER TABLE shop_reminder ALTER COLUMN days TYPE text",
            "shop_reminder.days: its type is text, and integer is needed",
        ),
        (
            "ALTER TABLE shop_reminder ALTER COLUMN created TYPE timestamp",
            "shop_reminder.created: its type is timestamp without time zone, and timestamptz is needed",
        ),
        (
            "ALTER TABLE shop_reminder ADD COLUMN tenant bigint NOT NULL",
            "shop_reminder.tenant: it is NOT NULL without a default, and nothing fills it",
        ),
        (
            "ALTER TABLE shop_reminder DROP CONSTRAINT shop_reminder_owner_id_stage_key",
            "shop_reminder: no unique index on (owner_id, stage)",
        ),
        ("ALTER TABLE shop_reminder ALTER COLUMN id DROP IDENTITY", "shop_reminder.id: no sequence gives new ids"),
        ("DROP TABLE shop_reminder", "shop_reminder: the table is missing"),
    ],
)
def test_a_live_target_that_differs_is_refused_by_name(shop, change, told):
    prepare(shop, [reminder(1, "a")])
    shop.sql(change)
    with pytest.raises(StructureError) as error:
        shop.load(REMINDER)
    assert told in str(error.value)
    assert shop.sql("SELECT count(*) FROM migration.load") == [(0,)]


def test_harmless_differences_are_named_and_loaded(shop):
    shop.sql("ALTER TABLE shop_reminder ADD COLUMN extra text, ADD COLUMN more int NOT NULL DEFAULT 4")
    shop.sql("ALTER TABLE shop_reminder ALTER COLUMN stage TYPE varchar(5), ALTER COLUMN created SET NOT NULL")
    with connect(shop.url) as connection:
        differences = compare_target(live_target(connection, "shop_reminder"), REMINDER)
    assert {(d.column, d.kind, d.fatal) for d in differences} == {
        ("stage", "shorter column", False),
        ("created", "required column", False),
    }
    prepare(shop, [reminder(1, "a", created=datetime(2020, 1, 1, tzinfo=UTC))])
    assert shop.load(REMINDER).inserted == 1


def test_the_printed_ddl_makes_what_was_declared(shop):
    with connect(shop.url) as connection:
        for table in TABLES:
            assert compare_target(live_target(connection, table.name), table) == []
        # Again, over what is there.
        connection.execute(target_ddl(TABLES).encode())
        assert untouched(connection, OWNER, SYSTEM).rows == 99
    assert target_ddl(list(reversed(TABLES))).index('"shop_owner" (') < target_ddl(list(reversed(TABLES))).index(
        '"shop_reminder" ('
    )


def test_untouched_tells_what_was_written(shop):
    prepare(shop, [reminder(1, "a"), reminder(2, "a")])
    shop.load(REMINDER)
    with connect(shop.url) as connection:
        written = untouched(connection, REMINDER, SYSTEM)
        assert (written.passed, written.written, written.rows) == (False, 2, 2)
        assert untouched(connection, OVERRIDE, SYSTEM).passed
        assert untouched(connection, REMINDER, "another system").passed


def test_rows_that_the_target_cannot_take_are_rejected_with_the_column(shop):
    shop.sql("ALTER TABLE shop_reminder ALTER COLUMN note TYPE varchar(5)")
    rows = [
        reminder(1, "a", note="12345"),
        reminder(1, "b", note="123456"),
        reminder(2, "a", days=None),
        reminder(3, "a", days=1 << 31),
        reminder(777, "a"),
        reminder(4, "a", note="äöüßé"),
        reminder(5, "a"),
        reminder(5, "b", note="too long"),
    ]
    links = [Link("notice", str(n), {"x": n}, number=n + 1) for n in range(6)]
    # A source row of which one target row does not fit is rejected whole: half a schedule is worse than none.
    links += [Link("notice", "6", {"a": 6, "b": 7}, number=7), Link("hook", "h", {"a": 6}), Link("hook", "k", {"a": 0})]
    write_prepared(shop.lake, REMINDER, [Batch(rows, links)], sources=["notice", "hook"])
    summary = shop.load(REMINDER)
    assert (summary.inserted, summary.rejected) == (2, 6)
    assert shop.sql("SELECT note FROM shop_reminder ORDER BY owner_id") == [("12345",), ("äöüßé",)]
    assert shop.sql("SELECT source_key, reasons, detail FROM migration.rejected ORDER BY source_key") == [
        ("1", ["schema_violation"], "note: is longer than 5 characters"),
        ("2", ["schema_violation"], "days: is NULL, and the target requires a value"),
        ("3", ["schema_violation"], "days: does not fit into integer"),
        ("4", ["orphan_reference"], "owner_id: shop_owner has no row 777"),
        ("6", ["schema_violation"], "note: is longer than 5 characters"),
        ("h", ["no_matching_row"], "the row it belongs to was rejected by the target"),
    ]
    assert shop.sql("SELECT source_table, read, migrated, rejected FROM migration.accounting ORDER BY 1") == [
        ("hook", 2, 1, 1),
        ("notice", 7, 2, 5),
    ]
    # When the target was mended, they come after.
    shop.sql("ALTER TABLE shop_reminder ALTER COLUMN note TYPE text")
    summary = shop.load(REMINDER, "second")
    assert (summary.inserted, summary.unchanged, summary.rejected) == (3, 2, 3)
    assert shop.sql("SELECT source_key FROM migration.mapping WHERE source_table = 'hook' ORDER BY 1") == [
        ("h",),
        ("k",),
    ]


def test_the_whole_source_row_goes_with_a_rejection_of_the_load(shop):
    legacy = pl.DataFrame({"id": ["7", "8"], "Some Column?": ["NULL", "a\x00b"], "_row": [1, 2]})
    with shop.lake.write((SYSTEM, "legacy", "notice"), run_id="x") as writer:
        writer.add(legacy)
    prepare(shop, [reminder(1, "a", days=None), reminder(2, "a", days=None)])
    as_read = legacy.lazy().with_columns(pl.col("Some Column?").replace("NULL", None), _source_key=pl.lit("?"))
    shop.load(REMINDER, legacy_rows=lambda _: as_read)
    assert shop.sql('SELECT "row" FROM migration.rejected ORDER BY source_key') == [
        ({"id": "7", "Some Column?": None},),
        ({"id": "8", "Some Column?": "a\\x00b"},),
    ]


def test_rows_that_were_prepared_under_other_decisions_are_refused(shop):
    prepare(shop, [reminder(1, "a")], decisions={"keyword": "archive", "envelope": "aggregate"})
    with pytest.raises(StructureError, match="keyword = archive instead of account_meta"):
        shop.load(REMINDER, decisions={"keyword": "account_meta", "envelope": "aggregate"})
    assert shop.sql("SELECT count(*) FROM shop_reminder") == [(0,)]


def test_rows_that_were_prepared_for_another_instant_are_refused(shop):
    prepared_for = datetime(2026, 1, 1, tzinfo=UTC)
    prepare(shop, [reminder(1, "a")], cutover_at=prepared_for)

    def load(run_id, cutover_at):
        return load_target(SYSTEM, REMINDER, shop.lake, shop.url, shop.run(run_id, cutover_at=cutover_at))

    with pytest.raises(StructureError, match="prepared for 2026-01-01"):
        load("first", datetime(2026, 1, 2, tzinfo=UTC))
    assert load("second", prepared_for).inserted == 1
    assert load("third", None).unchanged == 1


def test_rejected_rows_of_another_preparation_are_refused(shop):
    prepare(shop, [reminder(1, "a")])
    with shop.lake.write((SYSTEM, "rejected", "Reminder"), run_id="x") as writer:
        writer.metadata["preparation"] = "another"
        manifest = shop.lake.require((SYSTEM, "rejected", "Reminder"))
        writer.add(shop.lake.scan((SYSTEM, "rejected", "Reminder"), manifest=manifest).collect(), file="rejected-00000")
    with pytest.raises(StructureError, match="different preparations"):
        shop.load(REMINDER)


def test_a_target_that_was_not_prepared_is_told_what_to_do(shop):
    with pytest.raises(StructureError, match="materialise shop/prepared/Reminder first"):
        shop.load(REMINDER)


def test_the_gate_closes_before_anything_is_written(shop):
    from dataclasses import replace

    prepare(shop, [reminder(1, "a")])

    def closed(_model):
        raise LoadError("a blocking check is red")

    run = replace(shop.run("first"), gate=closed)
    with pytest.raises(LoadError, match="blocking check"):
        load_target(SYSTEM, REMINDER, shop.lake, shop.url, run)
    assert shop.sql("SELECT (SELECT count(*) FROM shop_reminder), (SELECT count(*) FROM migration.load)") == [(0, 0)]


def test_accounting_that_does_not_balance_is_not_booked(shop):
    prepare(shop, [reminder(1, "a")])
    manifest_key = (SYSTEM, "prepared", "Reminder")
    manifest = shop.lake.require(manifest_key)
    metadata = manifest.metadata | {"accounting": [manifest.metadata["accounting"][0] | {"read": 5}]}
    frames = {table: shop.lake.scan(manifest_key, table, manifest=manifest).collect() for table in ("rows", "links")}
    with shop.lake.write(manifest_key, run_id="x") as writer:
        for table, frame in frames.items():
            writer.add(frame, table=table, file=f"{table}-00000")
        writer.metadata.update(metadata)
    with pytest.raises(StructureError, match="does not balance: 5 read, 1 migrated, 0 rejected, 0 dropped"):
        shop.load(REMINDER)
    assert shop.sql("SELECT count(*) FROM migration.accounting") == [(0,)]


def test_a_key_prepared_twice_is_told(shop):
    prepare(shop, [reminder(1, "a"), reminder(1, "a", days=2)])
    with pytest.raises(StructureError, match=r"same \(owner_id, stage\): \(1, 'a'\)"):
        shop.load(REMINDER)
    assert shop.sql("SELECT count(*) FROM shop_reminder") == [(0,)]


def test_no_password_is_told():
    with pytest.raises(LoadError) as error:
        open_run("postgresql://me:pa55word@127.0.0.1:1/x", SYSTEM, "r", mode="rehearsal", decisions={})
    assert "pa55word" not in str(error.value) + repr(error.value.__cause__)
    with pytest.raises(ConfigurationError):
        open_run("no url: pa55word", SYSTEM, "r", mode="rehearsal", decisions={})


def test_a_user_who_may_not_create_the_bookkeeping_is_told(shop):
    shop.sql("CREATE ROLE reader LOGIN PASSWORD 'pw'")
    try:
        info = psycopg.conninfo.conninfo_to_dict(shop.url)
        url = f"postgresql://reader:pw@{info['host']}:{info['port']}/{info['dbname']}"
        with pytest.raises(LoadError, match="GRANT CREATE ON DATABASE"):
            open_run(url, SYSTEM, "r", mode="rehearsal", decisions={})
    finally:
        shop.sql("DROP ROLE reader")


def test_a_rejected_row_is_not_taken_from_a_later_extract(shop):
    """Row numbers are those of the extract that was prepared: in another one they name other rows."""

    def extract(ids):
        with shop.lake.write((SYSTEM, "legacy", "notice"), run_id="x") as writer:
            writer.add(pl.DataFrame({"id": ids, "_row": range(1, len(ids) + 1)}))
            writer.metadata["dialect"] = "csv"

    extract(["7"])
    prepare(shop, [reminder(1, "a", days=None)])
    extract(["new", "7"])
    with pytest.raises(StructureError, match="notice was extracted anew") as error:
        shop.load(REMINDER)
    assert "materialise shop/prepared/Reminder again" in str(error.value)
    assert shop.sql("SELECT count(*) FROM migration.rejected") == [(0,)]
    prepare(shop, [reminder(1, "a", days=None)])
    assert shop.load(REMINDER, "second").rejected == 1


def test_a_user_who_may_not_write_the_target_is_told(shop):
    prepare(shop, [reminder(1, "a")])
    shop.run("first")
    shop.sql("CREATE ROLE reader LOGIN PASSWORD 'pw'")
    try:
        info = psycopg.conninfo.conninfo_to_dict(shop.url)
        for grant in (
            f"TEMPORARY ON DATABASE {info['dbname']}",
            "USAGE ON SCHEMA migration",
            "SELECT ON ALL TABLES IN SCHEMA public",
            "USAGE ON ALL SEQUENCES IN SCHEMA public",
            "ALL ON ALL TABLES IN SCHEMA migration",
        ):
            shop.sql(f"GRANT {grant} TO reader")
        url = f"postgresql://reader:pw@{info['host']}:{info['port']}/{info['dbname']}"
        run = open_run(url, SYSTEM, "second", mode="rehearsal", decisions={})
        with pytest.raises(LoadError, match="permission denied for table shop_reminder") as error:
            load_target(SYSTEM, REMINDER, shop.lake, url, run)
        assert "SELECT, INSERT and UPDATE" in str(error.value)
        assert shop.sql("SELECT count(*) FROM migration.mapping") == [(0,)]
    finally:
        shop.sql("DROP OWNED BY reader")
        shop.sql("DROP ROLE reader")


def test_a_server_that_cannot_be_written_is_told(shop):
    name = psycopg.conninfo.conninfo_to_dict(shop.url)["dbname"]
    shop.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(LoadError, match="read-only transaction") as error:
        shop.run("first")
    assert "primary server" in str(error.value)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELECT 'Anna \"A\" Miller'::int", 'invalid input syntax for type integer: "…"'),
        ("DO $$ BEGIN RAISE EXCEPTION 'no Anna here'; END $$", "inline_code_block line 1 at RAISE"),
        ("SELECT 1 / 0", "division by zero"),
        ('SELECT 1 FROM "nosuch"', 'relation "nosuch" does not exist'),
    ],
)
def test_the_words_of_the_server_are_told_without_those_of_a_row(database_url, statement, told):
    with psycopg.connect(database_url) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(statement)
    assert told in words_of(caught.value)
    assert "Anna" not in words_of(caught.value)
