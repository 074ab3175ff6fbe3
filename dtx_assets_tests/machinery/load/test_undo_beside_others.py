"""An undo takes nothing of others: no row that they wrote into, none that they refer to, none that would go along."""

import psycopg
import pytest

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.load import undo_run
from dtx_assets.machinery.load.proof import KEPT, REACHES, REFERRED_TO, REFUSED
from dtx_assets.machinery.load.undo_rows import CHANGED_SINCE, MAYBE_CHANGED_SINCE
from dtx_assets_tests.machinery.load.prepared import (
    OVERRIDE,
    REMINDER,
    REQUIREMENT,
    SYSTEM,
    TABLES,
    Batch,
    Link,
    reminder,
    write_prepared,
)


def load(shop, *owners, run="first", **values):
    """A row of the target for each owner, who is its source row too; gives the ids."""
    rows = [reminder(owner, "a", **values) for owner in owners]
    links = [Link("notification", str(owner), {"": n}, number=n + 1) for n, owner in enumerate(owners)]
    write_prepared(shop.lake, REMINDER, [Batch(rows, links)], sources=["notification"])
    shop.load(REMINDER, run)
    return [row[0] for row in shop.sql("SELECT id FROM shop_reminder ORDER BY owner_id")]


def undo(shop, run="first", **options):
    """Undone after a dry run that says the same: what was deleted, and why what is left."""
    dry = undo_run(shop.url, SYSTEM, TABLES, run, dry=True, **options)
    done = undo_run(shop.url, SYSTEM, TABLES, run, **options)
    assert (dry.deleted, dry.restored, dry.left) == (done.deleted, done.restored, done.left)
    return done.deleted.get("shop_reminder", 0), {row.target_id: row.cause for row in done.left}


def owners(shop):
    return [row[0] for row in shop.sql("SELECT owner_id FROM shop_reminder ORDER BY 1")]


# --- columns that the migration does not write ------------------------------------------------------------------------

UNWRITTEN = """
    ALTER TABLE shop_reminder ADD remark text, ADD state varchar(9) NOT NULL DEFAULT 'new 50%%',
        ADD made_at timestamptz NOT NULL DEFAULT now(), ADD code uuid NOT NULL DEFAULT gen_random_uuid(),
        ADD price numeric(6, 2) DEFAULT 0, ADD data jsonb DEFAULT '{"a": []}', ADD "Odd, Name" int DEFAULT 1 + 1,
        ADD twice int GENERATED ALWAYS AS (days * 2) STORED, ADD place int GENERATED ALWAYS AS IDENTITY
"""
TOUCHED = "UPDATE shop_reminder SET note = note"


EDITS = {
    "remark = 'mine'": "remark",
    "remark = ''": "remark",
    "state = 'done'": "state",
    "made_at = made_at + interval '1 microsecond'": "made_at",
    "price = 0.01": "price",
    """data = '{"a": [], "b": null}'""": "data",
    "data = NULL": "data",
    '"Odd, Name" = 3': "Odd, Name",
    "price = 1, remark = 'mine'": "price, remark",
    "note = note": None,
    "note = note, price = 0.0": None,
}


def test_a_row_is_left_where_somebody_wrote_a_column_that_the_migration_does_not_write(shop):
    shop.sql(UNWRITTEN)
    shop.sql("ALTER TABLE shop_reminder DROP COLUMN code")
    ids = load(shop, *range(1, len(EDITS) + 2))
    for place, edit in zip(ids, EDITS, strict=False):
        shop.sql(f"UPDATE shop_reminder SET {edit} WHERE id = %s", place)
    columns = zip(ids, EDITS.values(), strict=False)
    assert undo(shop) == (3, {place: MAYBE_CHANGED_SINCE.format(column) for place, column in columns if column})


def test_what_an_edit_put_back_is_as_it_was_left_but_not_where_that_cannot_be_known(shop):
    shop.sql(UNWRITTEN)
    ids = load(shop, 1, 2)
    shop.sql("UPDATE shop_reminder SET remark = 'mine' WHERE owner_id = 1")
    shop.sql("UPDATE shop_reminder SET remark = NULL WHERE owner_id = 1")
    # The random code may be theirs as well as the database's.
    assert undo(shop) == (1, {ids[0]: MAYBE_CHANGED_SINCE.format("code")})


def test_a_column_that_came_after_the_load_counts_too(shop):
    ids = load(shop, 1, 2, 3)
    # As Django does it: the default is there for a moment only.
    shop.sql("ALTER TABLE shop_reminder ADD kind text NOT NULL DEFAULT 'plain', ADD rank int, ADD size int DEFAULT 4")
    shop.sql("ALTER TABLE shop_reminder ALTER kind DROP DEFAULT")
    shop.sql(TOUCHED)
    shop.sql("UPDATE shop_reminder SET kind = 'mine' WHERE owner_id = 2")
    shop.sql("UPDATE shop_reminder SET rank = 0 WHERE owner_id = 3")
    assert undo(shop) == (
        1,
        {ids[1]: MAYBE_CHANGED_SINCE.format("kind"), ids[2]: MAYBE_CHANGED_SINCE.format("rank")},
    )


def test_a_default_that_changed_since_does_not_make_an_edit_ours(shop):
    shop.sql("ALTER TABLE shop_reminder ADD state text DEFAULT 'new', ADD remark text DEFAULT 'none'")
    shop.sql("ALTER TABLE shop_reminder ALTER remark DROP DEFAULT")
    ids = load(shop, 1, 2, 3)
    shop.sql("ALTER TABLE shop_reminder ALTER state SET DEFAULT 'done'")
    shop.sql(TOUCHED)
    shop.sql("UPDATE shop_reminder SET state = 'done' WHERE owner_id = 2")
    # What older rows once were given, ours never were.
    shop.sql("UPDATE shop_reminder SET remark = 'none' WHERE owner_id = 3")
    assert undo(shop) == (
        1,
        {ids[1]: MAYBE_CHANGED_SINCE.format("state"), ids[2]: MAYBE_CHANGED_SINCE.format("remark")},
    )


def test_of_a_load_that_noted_no_defaults_those_of_today_count(shop):
    shop.sql("ALTER TABLE shop_reminder ADD state text DEFAULT 'new', ADD remark text")
    ids = load(shop, 1, 2, 3)
    shop.sql("UPDATE migration.batch SET filled = NULL")
    shop.sql("UPDATE shop_reminder SET remark = 'mine' WHERE owner_id = 2")
    assert undo(shop) == (2, {ids[1]: MAYBE_CHANGED_SINCE.format("remark")})


def test_rows_of_a_restored_database_are_compared_whatever_transactions_are_called_there(shop):
    shop.sql("ALTER TABLE shop_reminder ADD remark text")
    ids = load(shop, 1, 2)
    # A restore writes every row anew; a later edit may carry the number that the load had where it ran.
    shop.sql("UPDATE migration.batch SET part = part")
    with psycopg.connect(shop.url) as connection:
        connection.execute("UPDATE shop_reminder SET remark = 'mine' WHERE owner_id = 2")
        connection.execute("UPDATE migration.batch SET xid = pg_current_xact_id(), digest = digest")
    shop.sql("UPDATE migration.batch SET part = part")
    assert undo(shop) == (1, {ids[1]: MAYBE_CHANGED_SINCE.format("remark")})


def test_what_a_later_run_of_ours_updated_is_ours_still_unless_somebody_was_there_between(shop):
    shop.sql(UNWRITTEN)
    ids = load(shop, 1, 2, 3)
    shop.sql("UPDATE shop_reminder SET remark = 'mine' WHERE owner_id = 2")
    load(shop, 1, 2, 3, run="second", days=2)
    load(shop, 1, 2, 3, run="third", days=3)
    shop.sql("UPDATE shop_reminder SET remark = 'mine' WHERE owner_id = 3")
    deleted, left = undo(shop, with_later=True)
    assert (deleted, set(left)) == (1, {ids[1], ids[2]})
    assert shop.sql("SELECT owner_id, days, remark FROM shop_reminder ORDER BY 1") == [(2, 1, "mine"), (3, 1, "mine")]


def test_what_a_trigger_filled_is_ours_until_somebody_writes_the_row(shop):
    shop.sql("ALTER TABLE shop_reminder ADD label text")
    shop.sql(
        "CREATE FUNCTION labelled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.label := 'x'; RETURN NEW; END $$"
    )
    shop.sql("CREATE TRIGGER labelled BEFORE INSERT ON shop_reminder FOR EACH ROW EXECUTE FUNCTION labelled()")
    ids = load(shop, 1, 2)
    shop.sql(f"{TOUCHED} WHERE owner_id = 2")
    assert undo(shop) == (1, {ids[1]: MAYBE_CHANGED_SINCE.format("label")})


# --- rows that somebody refers to -------------------------------------------------------------------------------------

FORMS = {
    "composite": (
        "CREATE TABLE {table} (owner bigint, reminder bigint, who text,"
        " FOREIGN KEY (reminder, owner) REFERENCES shop_reminder (id, owner_id) ON DELETE {action})",
        "INSERT INTO {table} SELECT owner_id, id, 'reader' FROM shop_reminder WHERE id = %s",
    ),
    "by another key": (
        'CREATE TABLE {table} (stage varchar(20) COLLATE "C", owner bigint,'
        " FOREIGN KEY (owner, stage) REFERENCES shop_reminder (owner_id, stage) MATCH FULL ON DELETE {action})",
        "INSERT INTO {table} SELECT stage, owner_id FROM shop_reminder WHERE id = %s UNION ALL SELECT NULL, NULL",
    ),
    "Dotted.Name": (
        'CREATE TABLE {table} ("Reminder ""id""" bigint REFERENCES shop_reminder ON DELETE {action}'
        " DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO {table} VALUES (%s)",
    ),
    "partitions": (
        "CREATE TABLE {table} (reminder bigint REFERENCES shop_reminder ON DELETE {action})"
        " PARTITION BY HASH (reminder);"
        " CREATE TABLE {part} PARTITION OF {table} FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "INSERT INTO {table} VALUES (%s)",
    ),
    "not validated": (
        "CREATE TABLE {table} (reminder bigint);"
        " ALTER TABLE {table} ADD FOREIGN KEY (reminder) REFERENCES shop_reminder ON DELETE {action} NOT VALID",
        "INSERT INTO {table} VALUES (%s)",
    ),
}
ACTIONS = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT")


def test_a_row_that_somebody_refers_to_is_left_whatever_the_key_looks_like(shop):
    shop.sql('CREATE SCHEMA "Other.Place"; ALTER TABLE shop_reminder ADD UNIQUE (id, owner_id)')
    forms = [(f'"Other.Place"."{form} {action}"', action, *FORMS[form]) for form in FORMS for action in ACTIONS]
    ids = load(shop, *range(1, len(forms) + 3))
    made = "; ".join(
        form.format(table=table, action=action, part=table.replace("partitions", "part"))
        for table, action, form, _ in forms
    )
    shop.sql(made)
    for place, (table, _, _, filled) in zip(ids, forms, strict=False):
        shop.sql(filled.format(table=table), place)
    tables = [form[0] for form in forms]
    rows = " UNION ALL ".join(f"SELECT xmin::text, tableoid::text, t::text FROM {table} AS t" for table in tables)
    before = shop.sql(rows)
    referred = {place: REFERRED_TO.format(table) for place, table in zip(ids, tables, strict=False)}
    assert undo(shop) == (2, referred)
    assert shop.sql(rows) == before
    assert len(owners(shop)) == len(forms)


def test_what_a_row_that_is_left_refers_to_is_left_too(shop):
    shop.sql("ALTER TABLE shop_reminder ADD after_id bigint REFERENCES shop_reminder ON DELETE CASCADE")
    ids = load(shop, 1, 2, 3, 4, 5)
    # 1 after 2 after 3, and 4 after 5: somebody's doing. Their own row is after 1.
    shop.sql(
        "INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active, after_id)"
        " SELECT 9, 'a', 1, '[]', true, %s",
        ids[0],
    )
    for after, before in ((ids[0], ids[1]), (ids[1], ids[2]), (ids[3], ids[4])):
        shop.sql("UPDATE shop_reminder SET after_id = %s WHERE id = %s", before, after)
    deleted, left = undo(shop)
    assert (deleted, owners(shop)) == (0, [1, 2, 3, 4, 5, 9])
    assert left[ids[2]] == left[ids[4]] == REFERRED_TO.format("shop_reminder")


def test_rows_of_ours_may_refer_to_each_other(shop):
    # As a trigger of the target would: in the transaction of the load.
    shop.sql("ALTER TABLE shop_reminder ADD after_id bigint REFERENCES shop_reminder DEFERRABLE INITIALLY DEFERRED")
    shop.sql(
        "CREATE FUNCTION chained() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.after_id := NEW.id + CASE NEW.owner_id WHEN 3 THEN -2 ELSE 1 END; RETURN NEW; END $$"
    )
    shop.sql("CREATE TRIGGER chained BEFORE INSERT ON shop_reminder FOR EACH ROW EXECUTE FUNCTION chained()")
    load(shop, 1, 2, 3)
    assert undo(shop) == (3, {})


def test_a_target_of_partitions_is_undone_beside_references_to_it_and_to_a_part_of_it(shop):
    shop.sql(
        "DROP TABLE shop_override; CREATE SEQUENCE ids;"
        " CREATE TABLE everything (id bigint PRIMARY KEY DEFAULT nextval('ids'), owner_id bigint, reason text,"
        " until timestamptz) PARTITION BY RANGE (id);"
        " CREATE TABLE shop_override PARTITION OF everything DEFAULT PARTITION BY RANGE (id);"
        " ALTER SEQUENCE ids OWNED BY shop_override.id;"
        " CREATE TABLE low PARTITION OF shop_override FOR VALUES FROM (1) TO (3);"
        " CREATE TABLE high PARTITION OF shop_override DEFAULT;"
        " CREATE TABLE of_all (id bigint REFERENCES everything ON DELETE CASCADE);"
        " CREATE TABLE of_target (id bigint REFERENCES shop_override ON DELETE CASCADE);"
        " CREATE TABLE of_low (id bigint REFERENCES low ON DELETE CASCADE)"
    )
    rows = [{"owner_id": 1, "reason": "because", "until": None}] * 5
    links = [Link("exemption", str(number), {"": number}, number=number + 1) for number in range(5)]
    write_prepared(shop.lake, OVERRIDE, [Batch(rows, links)], sources=["exemption"])
    shop.load(OVERRIDE, "first")
    shop.sql("INSERT INTO of_low VALUES (1); INSERT INTO of_target VALUES (3); INSERT INTO of_all VALUES (4)")
    assert undo(shop)[1] == {
        place: REFERRED_TO.format(table) for place, table in ((1, "of_low"), (3, "of_target"), (4, "of_all"))
    }
    assert shop.sql("SELECT id FROM everything ORDER BY 1") == [(1,), (3,), (4,)]


def test_rows_of_a_table_that_inherits_are_somebody_elses(shop):
    ids = load(shop, 1, 2)
    shop.sql("CREATE TABLE theirs () INHERITS (shop_reminder)")
    shop.sql("INSERT INTO theirs SELECT * FROM shop_reminder")
    assert undo(shop) == (2, {})
    assert shop.sql("SELECT id FROM theirs ORDER BY 1") == [(ids[0],), (ids[1],)]


def test_a_reference_that_this_user_may_not_see_is_found_by_trying(shop):
    ids = load(shop, 1, 2, 3, 4)
    shop.sql("CREATE TABLE hidden (reminder bigint REFERENCES shop_reminder ON DELETE CASCADE)")
    shop.sql("CREATE TABLE filtered (reminder bigint REFERENCES shop_reminder ON DELETE SET NULL)")
    shop.sql("CREATE TABLE kept (reminder bigint REFERENCES shop_reminder)")
    for table, at in (("hidden", 0), ("filtered", 1), ("kept", 3)):
        shop.sql(f"INSERT INTO {table} VALUES (%s)", ids[at])
    shop.sql("ALTER TABLE filtered ENABLE ROW LEVEL SECURITY")
    [[database, role]] = shop.sql("SELECT current_database(), 'undoing_' || replace(current_database(), '-', '_')")
    shop.sql(f'CREATE ROLE "{role}" LOGIN; GRANT CREATE, TEMPORARY ON DATABASE "{database}" TO "{role}"')
    shop.sql(f'GRANT SELECT, UPDATE, DELETE ON shop_reminder TO "{role}"; GRANT SELECT ON filtered TO "{role}"')
    shop.sql(f'GRANT USAGE, CREATE ON SCHEMA migration TO "{role}"')
    shop.sql(f'GRANT ALL ON ALL TABLES IN SCHEMA migration TO "{role}"')
    shop.sql(f'ALTER TABLE migration.mapping_entry OWNER TO "{role}"')
    try:
        done = undo_run(psycopg.conninfo.make_conninfo(shop.url, options=f"-c role={role}"), SYSTEM, TABLES, "first")
    finally:
        shop.sql(f'REASSIGN OWNED BY "{role}" TO CURRENT_USER; DROP OWNED BY "{role}"; DROP ROLE "{role}"')
    assert {row.target_id: row.cause for row in done.left} == {
        ids[0]: REACHES.format("hidden"),
        ids[1]: REACHES.format("filtered"),
        ids[3]: REFERRED_TO.format("kept"),
    }
    assert shop.sql("SELECT reminder FROM hidden UNION ALL SELECT reminder FROM filtered") == [(ids[0],), (ids[1],)]


# --- triggers and rules of the target ---------------------------------------------------------------------------------


ALONG = """
CREATE FUNCTION along() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO log VALUES ('deleted');
    CASE OLD.owner_id
        WHEN 1 THEN DELETE FROM theirs WHERE reminder = OLD.id;
        WHEN 2 THEN UPDATE theirs SET reminder = NULL WHERE reminder = OLD.id;
        WHEN 3 THEN RETURN NULL;
        WHEN 4 THEN RAISE 'no';
        WHEN 5 THEN RAISE SQLSTATE 'MY001';
        WHEN 6 THEN UPDATE shop_reminder SET is_active = false WHERE id = OLD.id; RETURN NULL;
        WHEN 7 THEN UPDATE shop_reminder SET is_active = false WHERE id = OLD.id;
        WHEN 8 THEN UPDATE shop_reminder SET is_active = false WHERE owner_id = 99;
        ELSE NULL;
    END CASE;
    RETURN OLD;
END $$;
CREATE TRIGGER along BEFORE DELETE ON shop_reminder FOR EACH ROW EXECUTE FUNCTION along()
"""


def test_a_row_is_left_where_a_trigger_would_take_more_or_less(shop):
    ids = load(shop, *range(1, 11))
    shop.sql("CREATE TABLE theirs (reminder bigint); CREATE TABLE log (said text)")
    shop.sql("INSERT INTO theirs SELECT * FROM unnest(%s)", ids)
    shop.sql("INSERT INTO shop_reminder (owner_id, stage, days, addresses, is_active) VALUES (99, 'a', 1, '[]', true)")
    shop.sql(ALONG)
    deleted, left = undo(shop)
    assert (deleted, sorted(left)) == (2, ids[:8])
    refused = REFUSED.split("{")[0]
    causes = [REACHES.format("theirs")] * 2 + [KEPT, refused, refused, KEPT, refused, REACHES.format("shop_reminder")]
    assert [left[place][: len(cause)] for place, cause in zip(ids, causes, strict=False)] == causes
    assert shop.sql("SELECT count(reminder) FROM theirs") == [(10,)]
    assert shop.sql("SELECT count(*) FROM shop_reminder WHERE is_active") == [(9,)]
    assert shop.sql("SELECT count(*) FROM log") == [(2,)]


def test_a_row_is_left_where_a_rule_would_take_more(shop):
    ids = load(shop, 1, 2)
    shop.sql("CREATE TABLE theirs (reminder bigint)")
    shop.sql("INSERT INTO theirs VALUES (%s)", ids[0])
    shop.sql("CREATE RULE along AS ON DELETE TO shop_reminder DO ALSO DELETE FROM theirs WHERE reminder = OLD.id")
    assert undo(shop) == (1, {ids[0]: REACHES.format("theirs")})


def test_a_target_where_everything_would_take_more_is_left_after_a_bounded_number_of_tries(shop, monkeypatch):
    monkeypatch.setattr("dtx_assets.machinery.load.proof.MOST_TRIES", 3)
    ids = load(shop, *range(1, 9))
    shop.sql("CREATE TABLE theirs AS SELECT 1 AS counted")
    shop.sql("CREATE RULE along AS ON DELETE TO shop_reminder DO ALSO UPDATE theirs SET counted = counted - 1")
    assert undo(shop) == (0, dict.fromkeys(ids, REACHES.format("theirs")))
    assert shop.sql("SELECT counted FROM theirs") == [(1,)]


def test_without_a_count_of_what_changed_nothing_is_undone(shop):
    load(shop, 1)
    url = psycopg.conninfo.make_conninfo(shop.url, options="-c track_counts=off")
    with pytest.raises(LoadError, match=r"does not count[\s\S]*track_counts = on"):
        undo_run(url, SYSTEM, TABLES, "first")
    assert owners(shop) == [1]


# --- what is restored -------------------------------------------------------------------------------------------------


def test_a_value_that_cannot_be_given_back_stays(shop):
    ids = load(shop, 1, 2, 3)
    shop.sql("CREATE TABLE theirs (days int UNIQUE)")
    shop.sql("INSERT INTO theirs VALUES (1), (5)")
    load(shop, 1, 2, 3, run="second", days=5)
    # Somebody has other rules by now: one row a value, and a value that is gone.
    shop.sql("CREATE UNIQUE INDEX ON shop_reminder (days) WHERE owner_id IN (2, 3) AND days = 1")
    done = undo_run(shop.url, SYSTEM, TABLES, "second")
    assert done.restored == {"shop_reminder": 2}
    assert [(row.target_id, row.cause.split(":")[0]) for row in done.left] == [(ids[2], REFUSED.split(":")[0])]
    assert shop.sql("SELECT owner_id, days FROM shop_reminder ORDER BY 1") == [(1, 1), (2, 1), (3, 5)]


def test_a_restored_key_takes_no_key_of_others_along(shop):
    ids = load(shop, 1, 2)
    load(shop, 1, 2, run="second", note="new")
    shop.sql("ALTER TABLE shop_reminder ADD UNIQUE (owner_id, note)")
    shop.sql(
        "CREATE TABLE theirs (owner bigint, note text, FOREIGN KEY (owner, note)"
        " REFERENCES shop_reminder (owner_id, note) ON UPDATE CASCADE)"
    )
    shop.sql("INSERT INTO theirs VALUES (2, 'new')")
    done = undo_run(shop.url, SYSTEM, TABLES, "second")
    assert (done.restored, [(row.target_id, row.cause) for row in done.left]) == (
        {"shop_reminder": 1},
        [(ids[1], REACHES.format("theirs"))],
    )
    assert shop.sql("SELECT note FROM theirs") == [("new",)]


def fill(shop, *units):
    rows = [{"id": unit[0], "is_exempted": None, "note": unit[2], "settings": unit[3]} for unit in units]
    links = [Link("keyword", str(number), {unit[1]: number}, number=number + 1) for number, unit in enumerate(units)]
    write_prepared(shop.lake, REQUIREMENT, [Batch(rows, links)], sources=["keyword"])
    shop.load(REQUIREMENT, "first")


def test_columns_of_rows_of_others_that_cannot_be_given_back_stay_filled(shop):
    shop.sql("INSERT INTO shop_requirement (is_exempted, note) VALUES (false, ''), (false, '')")
    first, second = (row[0] for row in shop.sql("SELECT id FROM shop_requirement ORDER BY 1"))
    fill(shop, (first, "note", "ours", None), (second, "note", "ours", None), (second, "label", None, '{"A":1}'))
    shop.sql(f"ALTER TABLE shop_requirement ADD CHECK (id <> {second} OR note <> '')")
    done = undo_run(shop.url, SYSTEM, TABLES, "first")
    assert done.restored == {"shop_requirement": 1}
    assert {(row.target_id, row.part) for row in done.left} == {(second, "note"), (second, "label")}
    assert shop.sql("SELECT note, settings FROM shop_requirement ORDER BY id") == [("", None), ("ours", {"A": 1})]


def test_keys_that_others_removed_from_a_document_do_not_come_back(shop):
    shop.sql(
        """INSERT INTO shop_requirement (is_exempted, settings) VALUES (false, '{"theirs": {"x": 1}, "Name": 2}')"""
    )
    [[place]] = shop.sql("SELECT id FROM shop_requirement")
    fill(shop, (place, "label", None, '{"theirs":{"y":3},"name":4}'))
    assert shop.sql("SELECT settings FROM shop_requirement") == [({"theirs": {"x": 1, "y": 3}, "Name": 2, "name": 4},)]
    shop.sql("UPDATE shop_requirement SET settings = settings #- '{theirs,x}' #- '{Name}'")
    undo_run(shop.url, SYSTEM, TABLES, "first")
    assert shop.sql("SELECT settings FROM shop_requirement") == [({"theirs": {}},)]


def test_what_somebody_changed_in_a_written_column_is_left_whatever_else_holds(shop):
    ids = load(shop, 1, 2)
    shop.sql("UPDATE shop_reminder SET note = 'mine' WHERE owner_id = 2")
    assert undo(shop) == (1, {ids[1]: CHANGED_SINCE})
