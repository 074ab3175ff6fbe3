"""Targets that are not what the load needs, and crosswalks that other areas handed over wrong."""

import os

import psycopg
from sqlalchemy.engine import make_url

from dtx_assets_tests.bad_inputs.case import Case, Found, Refused
from dtx_assets_tests.bad_inputs.csv_cases import becomes
from dtx_assets_tests.bad_inputs.place import ACCOUNTS, KEYWORDS, LOAD, PREPARE, Place

TITLE = "Target database and crosswalks"
META = "docutrax_hierarchy_accountmeta"
TABLE = f"table {META} of the target database"
NOT_AS_NEEDED = "nothing was written; bring its schema and the declaration of the table together"
REACH = "check that it is up and that the URL, the user and its password are right"


def other(**changes: object):
    def plant(place: Place) -> None:
        url = make_url(place.target()).set(**changes)
        place.names["url"] = url.render_as_string(hide_password=True)
        place.set(TARGET_URL=url.render_as_string(hide_password=False))

    return plant


def after(*statements: str):
    return lambda place: place.target(*statements)


def unlike(name: str, what: str, *changes: str) -> Refused:
    statements = [f"ALTER TABLE {META} {change}" for change in changes]
    return Refused(name, LOAD, after(*statements), 1, f"{META}{what}", TABLE, NOT_AS_NEEDED)


def empty_database(place: Place) -> None:
    place.set(TARGET_URL=place.database())


def reader(place: Place) -> None:
    url = place.target(
        "DROP ROLE IF EXISTS reader",
        "CREATE ROLE reader LOGIN PASSWORD 's3cret'",
        "GRANT USAGE ON SCHEMA migration TO reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA migration TO reader",
    )
    changed = make_url(url).set(username="reader", password="s3cret")
    place.set(TARGET_URL=changed.render_as_string(hide_password=False))
    place.at_end(forget, url)


def forget(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("DROP OWNED BY reader")
        server.execute("DROP ROLE reader")


def goes_away(place: Place) -> None:
    url = place.target()
    place.write("keyword", KEYWORDS + "1001,LATE,Words\n1002,LATE,Words\n")
    place.set(BATCH_ROWS=1)
    server = psycopg.connect(url, autocommit=True)
    place.at_end(server.close)
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    place.during("load AccountMeta", lambda: server.execute(kill))


def refused_by_a_constraint(place: Place) -> None:
    place.target(f"ALTER TABLE {META} ADD CONSTRAINT no_slang CHECK (value <> 'Slang')")
    place.write("keyword", KEYWORDS + "1002,GROUP,Slang\n1001,ITEM,Words\n")


def all_but_that_row(place: Place) -> None:
    with psycopg.connect(os.environ["DTX_TARGET_URL"]) as connection:
        values = connection.execute(f"SELECT value FROM {META} ORDER BY 1").fetchall()
        [(why,)] = connection.execute("SELECT detail FROM migration.rejected WHERE target_table = %s", [META])
    assert [value for (value,) in values] == ["Centers", "Tenants", "Words"]
    assert "no_slang" in why


def crosswalk(content: str):
    return lambda place: place.write("crosswalk_account", content)


def no_crosswalk(place: Place) -> None:
    (place.legacy / "crosswalk_account.csv").unlink()


CASES: tuple[Case, ...] = (
    Refused(
        "a wrong password",
        LOAD,
        other(password="Wr0ngSecret"),
        1,
        "the target database cannot be reached",
        "{url}",
        REACH,
    ),
    Refused(
        "an unknown host",
        LOAD,
        other(host="no.such.host.invalid"),
        1,
        "the target database cannot be reached",
        "{url}",
        REACH,
    ),
    Refused("nothing listens there", LOAD, other(port=1), 1, "the target database cannot be reached", "{url}", REACH),
    Refused(
        "an unknown database",
        LOAD,
        other(database="nosuch"),
        1,
        "the target database cannot be reached",
        "{url}",
        REACH,
    ),
    Refused(
        "a database of another schema", LOAD, empty_database, 1, f"{META}: the table is missing", TABLE, NOT_AS_NEEDED
    ),
    Refused(
        "a target table missing",
        LOAD,
        after(f"DROP TABLE {META}"),
        1,
        f"{META}: the table is missing",
        TABLE,
        NOT_AS_NEEDED,
    ),
    unlike("a target column missing", ".value: the column is missing", "DROP COLUMN value"),
    unlike(
        "a target column of another type",
        ".value: its type is bytea, and text is needed",
        "ALTER COLUMN value TYPE bytea USING value::bytea",
    ),
    unlike(
        "a NOT NULL column that nobody fills",
        ".tenant: it is NOT NULL without a default, and nothing fills it",
        "ADD COLUMN tenant bigint NOT NULL DEFAULT 1",
        "ALTER COLUMN tenant DROP DEFAULT",
    ),
    unlike("no sequence for new ids", ".id: no sequence gives new ids", "ALTER COLUMN id DROP IDENTITY"),
    Found(
        "a CHECK constraint that refuses a row",
        ("run", "--all", "--select", "+target/AccountMeta"),
        refused_by_a_constraint,
        3,
        "no_row_is_rejected_by_the_load",
        "target/AccountMeta",
        1,
        all_but_that_row,
        "the row is rejected with the constraint's name, the others are loaded",
    ),
    Refused(
        "a table of another area missing",
        PREPARE,
        after("DROP TABLE docutrax_hierarchy_account CASCADE"),
        1,
        "the target database lacks what another area should have made",
        "docutrax_hierarchy_account",
        "load that area first, or check which database the target URL names",
        lands=True,
    ),
    Refused(
        "an account that may only read",
        LOAD,
        reader,
        1,
        "permission denied",
        "the target database",
        "let this user SELECT, INSERT and UPDATE the target's tables",
    ),
    Refused(
        "bookkeeping of a later version",
        LOAD,
        after("INSERT INTO migration.schema_version (version) VALUES (99)"),
        1,
        "the bookkeeping has version 99",
        "schema migration of the target database",
        "use the version that wrote it",
    ),
    Refused(
        "an undo of the last run where none wrote anything",
        ("rollback", "last"),
        empty_database,
        2,
        "there is no run that 'last' could name",
        "migration.run",
        "nothing has to be undone",
    ),
    Refused(
        "the target goes away in mid-load",
        ("run", "--all", "--select", "+target/AccountMeta"),
        goes_away,
        1,
        "the target database stopped the load",
        "the target database",
        "batches that were committed stay whole; when the database is well, run again",
        lands=True,
        prepares=True,
    ),
    Refused(
        "a crosswalk that contradicts itself",
        PREPARE,
        crosswalk(f"{ACCOUNTS}1001,50002,30002\n"),
        1,
        "the structure is wrong, and nothing that depends on it was done",
        "crosswalk/crosswalk_account: crosswalk_does_not_contradict_itself (count: 1; examples: 1001)",
        "mend what the check names where it comes from",
        lands=True,
    ),
    Refused(
        "a crosswalk without its column of ids",
        PREPARE,
        crosswalk("customer_id,directory_id\n1001,30001\n"),
        1,
        "crosswalk_account lacks the required column account_id",
        "{legacy}/crosswalk_account.csv",
        "it has the columns customer_id, directory_id",
        lands=True,
    ),
    Refused(
        "a crosswalk missing",
        PREPARE,
        no_crosswalk,
        1,
        "the table crosswalk_account is missing",
        "{legacy}/crosswalk_account.csv",
        "the tables that are there: keyword",
        lands=True,
    ),
    Found(
        "a crosswalk with NULLs",
        PREPARE,
        crosswalk("customer_id,account_id,directory_id\n1001,\\N,\\N\n\\N,50002,30002\n1002,50002,30002\n"),
        3,
        "no_keyword_row_is_rejected",
        "rejected/AccountMeta",
        1,
        becomes([("orphan_reference",)], ("ITEM", "Tenants")),
        "a NULL id is no match, and the row is rejected (`orphan_reference`)",
    ),
    Found(
        "a crosswalk with words for ids",
        PREPARE,
        crosswalk("customer_id,account_id,directory_id\n1001,north,30001\n1002,50002,30002\n"),
        3,
        "no_keyword_row_is_rejected",
        "rejected/AccountMeta",
        1,
        becomes([("orphan_reference",)], ("ITEM", "Tenants")),
        "what is no id is no match, and the row is rejected (`orphan_reference`)",
    ),
    Found(
        "a crosswalk with ids that the target does not have",
        PREPARE,
        crosswalk("customer_id,account_id,directory_id\n1001,99999,30001\n1002,50002,30002\n"),
        3,
        "no_keyword_row_is_rejected",
        "rejected/AccountMeta",
        1,
        becomes([("orphan_reference",)], ("ITEM", "Tenants")),
        "it counts as no match, and the row is rejected (`orphan_reference`)",
    ),
)
