"""Legacy databases and S3 servers that refuse, are not there, or go away."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pymysql
from sqlalchemy.engine import make_url

from dtx_assets_tests.bad_inputs.case import Case, Refused
from dtx_assets_tests.bad_inputs.place import EXTRACT, Place

TITLE = "Legacy databases and S3"
REACH = "check host, database, user and password of the URL"
LOST = "run again; check the server's log for why it ended the connection"
STORE = "check bucket, prefix, AWS_ENDPOINT_URL, AWS_REGION and the AWS_* credentials"


def mariadb(place: Place, **changes: Any) -> None:
    read_from(place, place.request.getfixturevalue("empty_mariadb_url"), **changes)


def postgresql(place: Place, **changes: Any) -> None:
    read_from(place, place.database(), **changes)


def read_from(place: Place, url: str, **changes: Any) -> None:
    changed = make_url(url).set(**changes)
    place.names["url"] = changed.render_as_string(hide_password=True)
    place.set(LEGACY_URL=changed.render_as_string(hide_password=False))


def of(plant: Callable[..., None], **changes: Any) -> Callable[[Place], None]:
    return lambda place: plant(place, **changes)


def mariadb_server(place: Place) -> Any:
    """A cursor of the database, which is made anew for each case."""
    url = make_url(place.request.getfixturevalue("empty_mariadb_url"))
    server = pymysql.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, database=url.database, autocommit=True
    )
    place.at_end(server.close)
    return server.cursor()


def mariadb_that_goes_away(place: Place) -> None:
    mariadb(place)
    cursor = mariadb_server(place)
    cursor.execute("CREATE TABLE keyword (customer_id INT PRIMARY KEY, keyword TEXT, replacement TEXT)")
    cursor.execute("INSERT INTO keyword SELECT seq, REPEAT('x', 500), 'PRIVATE' FROM seq_1_to_200000")

    def kill() -> None:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE user = 'legacy' AND id <> CONNECTION_ID()")
        for (connection,) in cursor.fetchall():
            cursor.execute(f"KILL {connection}")

    place.during("extract keyword", kill)


def mariadb_without_rights(place: Place) -> None:
    cursor = mariadb_server(place)
    cursor.execute("CREATE TABLE keyword (customer_id INT)")
    cursor.execute("CREATE OR REPLACE USER 'blind'@'127.0.0.1' IDENTIFIED BY 's3cret'")
    cursor.execute("GRANT INSERT ON legacy.keyword TO 'blind'@'127.0.0.1'")
    mariadb(place, username="blind", password="s3cret")
    place.at_end(lambda: cursor.execute("DROP USER 'blind'@'127.0.0.1'"))


def postgresql_that_goes_away(place: Place) -> None:
    url = place.database()
    read_from(place, url)
    server = psycopg.connect(url, autocommit=True)
    place.at_end(server.close)
    server.execute(
        "CREATE TABLE keyword AS SELECT i AS customer_id, repeat('x', 500) AS keyword, 'PRIVATE' AS replacement"
        " FROM generate_series(1, 200000) AS i"
    )
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    place.during("extract keyword", lambda: server.execute(f"{kill} AND pid <> pg_backend_pid()"))


def postgresql_without_rights(place: Place) -> None:
    url = place.database()
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("CREATE TABLE keyword (customer_id int)")
        server.execute("DROP ROLE IF EXISTS blind")
        server.execute("CREATE ROLE blind LOGIN PASSWORD 's3cret'")
    read_from(place, url, username="blind", password="s3cret")


def postgresql_of_which_rows_are_hidden(place: Place) -> None:
    url = place.database()
    with psycopg.connect(url, autocommit=True) as server:
        role = server.info.dbname
        for statement in (
            "CREATE TABLE keyword (customer_id int, keyword text, replacement text)",
            "INSERT INTO keyword VALUES (1, 'MINE', 'x'), (2, 'PRIVATE', 'y')",
            "ALTER TABLE keyword ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY mine ON keyword USING (customer_id = 1)",
            f"CREATE ROLE {role} LOGIN PASSWORD 's3cret'",
            f"GRANT SELECT ON keyword TO {role}",
        ):
            server.execute(statement.encode())
    read_from(place, url, username=role, password="s3cret")
    place.at_end(forget, url, role)


def forget(url: str, role: str) -> None:
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"DROP OWNED BY {role}".encode())
        server.execute(f"DROP ROLE {role}".encode())


def postgresql_with_a_broken_view(place: Place) -> None:
    url = place.database()
    with psycopg.connect(url, autocommit=True) as server:
        for statement in (
            "CREATE FUNCTION gone() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE FUNCTION calls() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN gone(); END'",
            "CREATE VIEW keyword AS SELECT calls() AS customer_id",
            "DROP FUNCTION gone",
        ):
            server.execute(statement.encode())
    read_from(place, url)


def mariadb_with_a_broken_view(place: Place) -> None:
    mariadb(place)
    cursor = mariadb_server(place)
    cursor.execute("CREATE TABLE base2 (customer_id INT)")
    cursor.execute("CREATE VIEW keyword AS SELECT * FROM base2")
    cursor.execute("DROP TABLE base2")


def sqlite(place: Place, content: bytes | None = None) -> None:
    file = place.directory / "legacy.db"
    if content is not None:
        file.write_bytes(content)
    place.set(LEGACY_URL=f"sqlite:///{file}")


def sqlite_without_the_table(place: Place) -> None:
    with closing(sqlite3.connect(place.directory / "legacy.db")) as connection:
        connection.execute("CREATE TABLE letter (a)")
    sqlite(place)


def s3(place: Place, bucket: str | None = None, prefix: str = "legacy", **changes: str) -> None:
    made = place.request.getfixturevalue("s3_bucket")
    for name, value in changes.items():
        place.patch.setenv(f"AWS_{name}", value)
    place.names["url"] = f"s3://{bucket or made}/{prefix}"
    place.set(LEGACY_URL=place.names["url"])


CASES: tuple[Case, ...] = (
    Refused(
        "MariaDB: a wrong password",
        EXTRACT,
        of(mariadb, password="Wr0ng%Secret"),
        1,
        "Access denied for user",
        "{url}",
        "correct user and password in the URL",
    ),
    Refused(
        "MariaDB: an unknown host",
        EXTRACT,
        of(mariadb, host="no.such.host.invalid"),
        1,
        "Can't connect to MySQL server",
        "{url}",
        "check that the server runs, and correct host and port in the URL",
    ),
    Refused(
        "MariaDB: nothing listens there",
        EXTRACT,
        of(mariadb, port=1),
        1,
        "Can't connect to MySQL server",
        "{url}",
        "check that the server runs, and correct host and port in the URL",
    ),
    Refused(
        "MariaDB: an unknown database",
        EXTRACT,
        of(mariadb, database="nosuch"),
        1,
        "Unknown database 'nosuch'",
        "{url}",
        "correct the name of the database in the URL",
    ),
    Refused(
        "MariaDB: a missing table",
        EXTRACT,
        mariadb,
        1,
        "the table keyword is missing",
        "{url}",
        "export it to there; the tables that are there:",
    ),
    Refused(
        "MariaDB: an account that may not read",
        EXTRACT,
        mariadb_without_rights,
        1,
        "the database does not give the table keyword: SELECT command denied",
        "{url}",
        "grant this account SELECT on the table",
    ),
    Refused(
        "MariaDB: the server ends the connection in mid-read",
        EXTRACT,
        mariadb_that_goes_away,
        1,
        "the database does not give the table keyword",
        "{url}",
        LOST,
    ),
    Refused(
        "MariaDB: a view whose table is gone",
        EXTRACT,
        mariadb_with_a_broken_view,
        1,
        "keyword is a view that is broken: View 'legacy.keyword' references invalid table(s)",
        "{url}",
        "mend the view, or what it refers to, in the source: SHOW CREATE VIEW `keyword`",
    ),
    Refused(
        "PostgreSQL: a wrong password",
        EXTRACT,
        of(postgresql, password="Wr0ngSecret"),
        1,
        "password authentication failed",
        "{url}",
        REACH,
    ),
    Refused(
        "PostgreSQL: an unknown host",
        EXTRACT,
        of(postgresql, host="no.such.host.invalid"),
        1,
        "the database does not give its tables",
        "{url}",
        REACH,
    ),
    Refused(
        "PostgreSQL: nothing listens there",
        EXTRACT,
        of(postgresql, port=1),
        1,
        "the database does not give its tables",
        "{url}",
        REACH,
    ),
    Refused(
        "PostgreSQL: an unknown database",
        EXTRACT,
        of(postgresql, database="nosuch"),
        1,
        'database "nosuch" does not exist',
        "{url}",
        REACH,
    ),
    Refused(
        "PostgreSQL: a missing table",
        EXTRACT,
        postgresql,
        1,
        "the table keyword is missing",
        "{url}",
        "export it to there; the tables that are there: none",
    ),
    Refused(
        "PostgreSQL: an account that may not read",
        EXTRACT,
        postgresql_without_rights,
        1,
        "permission denied for table keyword",
        "{url}",
        "the account may read the tables",
    ),
    Refused(
        "PostgreSQL: a table of which a policy hides rows from the account",
        EXTRACT,
        postgresql_of_which_rows_are_hidden,
        1,
        "row-level security hides rows of keyword from this account",
        "{url}",
        "use an account that policies do not hold for: ALTER ROLE … BYPASSRLS",
    ),
    Refused(
        "PostgreSQL: a view whose function is gone",
        EXTRACT,
        postgresql_with_a_broken_view,
        1,
        "keyword is a view that is broken: function gone() does not exist",
        "{url}",
        "mend the view, or what it refers to, in the source",
    ),
    Refused(
        "PostgreSQL: the server ends the connection in mid-read",
        EXTRACT,
        postgresql_that_goes_away,
        1,
        "the database does not give the table keyword",
        "{url}",
        "that the server runs",
    ),
    Refused(
        "SQLite: no such file",
        EXTRACT,
        sqlite,
        1,
        "there is no such SQLite file",
        "{directory}/legacy.db",
        "correct the path in the URL",
    ),
    Refused(
        "SQLite: a file of another kind",
        EXTRACT,
        of(sqlite, content=b"not a database at all" * 100),
        1,
        "file is not a database",
        "{directory}/legacy.db",
        "check that it is an SQLite file, whole",
    ),
    Refused(
        "SQLite: a missing table",
        EXTRACT,
        sqlite_without_the_table,
        1,
        "the table keyword is missing",
        "{directory}/legacy.db",
        "the tables that are there: letter",
    ),
    Refused(
        "S3: a missing bucket",
        EXTRACT,
        of(s3, bucket="no-such-bucket-at-all"),
        1,
        "the S3 server answers NoSuchBucket",
        "{url}",
        STORE,
    ),
    Refused(
        "S3: nothing under the prefix",
        EXTRACT,
        s3,
        1,
        "there are no CSV files under this prefix",
        "{url}",
        "correct bucket and prefix; the objects are called <table>.csv",
    ),
    Refused(
        "S3: a wrong secret key",
        EXTRACT,
        of(s3, SECRET_ACCESS_KEY="Wr0ngSecret"),
        1,
        "the S3 server answers SignatureDoesNotMatch",
        "{url}",
        STORE,
    ),
    Refused(
        "S3: an unknown access key",
        EXTRACT,
        of(s3, ACCESS_KEY_ID="NOSUCHKEY"),
        1,
        "the S3 server answers InvalidAccessKeyId",
        "{url}",
        STORE,
    ),
    Refused(
        "S3: nothing listens there",
        EXTRACT,
        of(s3, ENDPOINT_URL="http://127.0.0.1:1"),
        1,
        "the S3 server cannot be reached",
        "{url}",
        STORE,
    ),
)
