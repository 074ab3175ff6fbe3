"""What `dtx init` drafts runs as it is: in the embedded database, of the schema that was given, with ids given anew."""

import json
import sqlite3
from contextlib import closing

import psycopg
import pymysql
import pytest
from sqlalchemy.engine import make_url

from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.pages import PROJECT

pytestmark = pytest.mark.timeout(300)

LEGACY = """
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, joined TEXT, score REAL, admin INTEGER NOT NULL);
CREATE TABLE posts (id INTEGER PRIMARY KEY, user_id INTEGER, title TEXT);
CREATE TABLE likes (user_id INTEGER, post_id INTEGER, PRIMARY KEY (user_id, post_id));
INSERT INTO users VALUES (1, 'Ada', '2020-01-01T10:00:00Z', 1.5, 1), (2, 'Bo', NULL, NULL, 0), (3, '', NULL, NULL, 0);
INSERT INTO posts VALUES (1, 1, 'first'), (2, 2, 'second'), (3, 9, 'of nobody'), (4, 3, 'of one that is refused');
INSERT INTO likes VALUES (1, 1), (2, 1), (2, 2), (3, 2);
"""
SCHEMA = """
CREATE TABLE users (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL CHECK (name <> ''),
    joined timestamptz, score double precision, admin boolean NOT NULL);
CREATE TABLE posts (id bigserial PRIMARY KEY, user_id uuid REFERENCES users, title text NOT NULL);
CREATE TABLE likes (id bigserial PRIMARY KEY, user_id uuid NOT NULL REFERENCES users,
    post_id bigint NOT NULL REFERENCES posts, UNIQUE (user_id, post_id));
"""
JOINED = "SELECT name, title, joined, users.id FROM users LEFT JOIN posts ON user_id = users.id ORDER BY name"
LIKED = "SELECT name, title FROM likes JOIN users ON users.id = user_id JOIN posts ON posts.id = post_id ORDER BY 1, 2"


@pytest.fixture(scope="module")
def blog(tmp_path_factory: pytest.TempPathFactory) -> Command:
    directory = tmp_path_factory.mktemp("blog")
    with closing(sqlite3.connect(directory / "legacy.db")) as file:
        file.executescript(LEGACY)
    (directory / "schema.sql").write_text(SCHEMA)
    dtx = Command(directory, {"BLOG_LEGACY_URL": "sqlite:///legacy.db", "PYTHONPATH": str(PROJECT)})
    done = dtx("init", "blog", "--target", "schema.sql")
    assert done.returncode == 0, done.stderr
    assert "undecided: 0 target columns,\n0 legacy columns" in done.stdout
    return dtx


def asked(blog: Command, statement: str) -> list[str]:
    answer = blog("psql", "--system", "blog", "--", "-qAt", "-c", statement)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.splitlines()


def test_ids_that_the_target_makes_are_looked_up_whatever_they_are(blog):
    run = blog("run", "blog")
    # Its decisions are open, and rows are rejected.
    assert run.returncode == 3, run.stderr[-3000:]
    (ada, bo) = (line.split("|") for line in asked(blog, JOINED))
    assert (ada[:3], bo[:3]) == (["Ada", "first", "2020-01-01 10:00:00+00"], ["Bo", "second", ""])
    assert asked(blog, LIKED) == ["Ada|first", "Bo|first", "Bo|second"]
    again = blog("run", "blog")
    assert "0 inserted, 0 updated" in again.stdout
    assert asked(blog, JOINED) == ["|".join(ada), "|".join(bo)]


def test_the_embedded_database_has_the_constraints_of_the_schema_that_was_given(blog):
    wanted = "SELECT source_table, source_key, array_to_string(reasons, ',') FROM migration.rejected ORDER BY 1, 2"
    assert asked(blog, wanted) == [
        'likes|["3","2"]|orphan_reference',
        "posts|3|orphan_reference",
        "posts|4|orphan_reference",
        "users|3|schema_violation",
    ]


def test_a_row_that_the_load_refused_is_not_lost_besides(blog):
    verified = blog("verify", "blog", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    told = {target["model"]: target for target in json.loads(verified.stdout)}
    assert {model: (found["lost"], found["refused"]) for model, found in told.items()} == {
        "Users": (0, 1),
        "Posts": (0, 0),
        "Likes": (0, 0),
    }
    asked(blog, "DELETE FROM likes")
    verified = blog("verify", "blog", "--json")
    assert verified.returncode == 3
    assert {target["model"]: target["lost"] for target in json.loads(verified.stdout)}["Likes"] == 3


def test_a_schema_that_the_embedded_database_refuses_is_told_with_its_line(blog):
    file = blog.directory / "mappings" / "blog" / "target.sql"
    kept = file.read_text()
    file.write_text(kept + "\nCREATE TABLE broken (x nonsense);\n")
    run = blog("run", "blog", BLOG_HOME="another")
    file.write_text(kept)
    assert run.returncode == 1
    said = run.stdout + run.stderr
    assert 'the target\'s schema cannot be made: type "nonsense" does not exist' in said
    assert f"target.sql:{kept.count(chr(10)) + 2}" in said
    assert "Traceback" not in said


# --- MySQL to PostgreSQL ----------------------------------------------------------------------------------------------


def test_bytes_that_are_text_and_instants_in_columns_without_a_zone_are_over_there_at_once(
    tmp_path, mariadb_url, postgres_server
):
    """As a wiki keeps its titles, and a ticket system its times."""
    url, target = make_url(mariadb_url), postgres_server.create_database("wiki")
    options = {"host": url.host, "port": url.port, "user": url.username, "password": url.password or ""}
    with psycopg.connect(target) as there:
        there.execute("CREATE TABLE page (title text PRIMARY KEY, body text, touched timestamp, made timestamp)")
    with closing(pymysql.connect(**options, charset="utf8mb4", autocommit=True)) as server, server.cursor() as cursor:
        cursor.execute("CREATE DATABASE wiki")
        try:
            cursor.execute("USE wiki")
            cursor.execute("SET time_zone = '+00:00'")
            cursor.execute(
                "CREATE TABLE page (title varbinary(40) PRIMARY KEY, body blob, touched timestamp NULL, made datetime)"
            )
            cursor.execute(
                "INSERT INTO page VALUES ('Zürich', 'A\\nB', '2020-07-01 10:00', '2020-07-01 10:00'),"
                " ('', 'Ω', NULL, NULL), ('bad', x'00ff', NULL, NULL), (x'e9', 'latin1', NULL, NULL)"
            )
            legacy = url.set(database="wiki").render_as_string(hide_password=False)
            told = {"WIKI_LEGACY_URL": legacy, "WIKI_TARGET_URL": target, "WIKI_LEGACY_TIMEZONE": "Europe/Zurich"}
            dtx = Command(tmp_path, {**told, "PYTHONPATH": str(PROJECT)})
            done = dtx("init", "wiki", "--legacy", legacy, "--target", target)
            assert "undecided: 0 target columns" in done.stdout, done.stderr
            run = dtx("run", "wiki")
            assert run.returncode == 3, run.stderr
        finally:
            cursor.execute("DROP DATABASE wiki")
    with psycopg.connect(target) as there:
        assert there.execute("SELECT title, body, touched::text, made::text FROM page ORDER BY 1").fetchall() == [
            ("", "Ω", None, None),
            ("Zürich", "A\nB", "2020-07-01 12:00:00", "2020-07-01 10:00:00"),
        ]
        [first, second] = there.execute("SELECT reasons, detail FROM migration.rejected ORDER BY detail").fetchall()
    assert (first[0], second[0]) == (["unparseable"], ["unparseable"])
    assert (first[1][:5], second[1][:6]) == ("body:", "title:")


# --- PostgreSQL to PostgreSQL -----------------------------------------------------------------------------------------

ODD = """
CREATE TABLE odd (id bigint PRIMARY KEY, at timestamp, at_ms timestamp(3), day date, amount numeric,
    price numeric(12,2), ratio double precision, waits interval, span tstzrange, days date[], amounts numeric[])
"""
ODD_ROWS = """
INSERT INTO odd (id) VALUES (1);
INSERT INTO odd VALUES
    (2, 'infinity', '-infinity', 'infinity', 'NaN', 'NaN', '-Infinity', '1 year -2 days 03:04:05.123456',
        '[2020-01-01,infinity)', '{infinity,2020-01-01}', '{NaN,1.50}'),
    (3, '0044-03-15 12:00 BC', '0044-03-15 12:00:00.123 BC', '4713-01-01 BC', 'Infinity', 9999999999.99, 'NaN',
        '-178000000 years', 'empty', '{}', '{}'),
    (4, '294276-12-31 23:59:59.999999', '2020-01-01', '5874897-12-31', '1e1000', -0.00, '4.9e-324', '0', '(,)', NULL,
        '{NULL}'),
    (5, '2020-02-03 04:05:06.000001', '2020-02-03', '2020-02-03', '-0.000000000000000000000001', 1.5, 0.1, '1 us',
        NULL, '{2020-02-03}', '{1.0,1}');
"""


def test_every_value_of_a_type_that_both_sides_have_is_taken_as_it_is(tmp_path, postgres_server):
    """Among them infinity, NaN and years before Christ."""
    urls = [postgres_server.create_database(f"odd_{side}") for side in ("legacy", "target")]
    for url in urls:
        with psycopg.connect(url) as connection:
            connection.execute(ODD)
    with psycopg.connect(urls[0]) as connection:
        connection.execute(ODD_ROWS)
    dtx = Command(tmp_path, {"ODD_LEGACY_URL": urls[0], "ODD_TARGET_URL": urls[1], "PYTHONPATH": str(PROJECT)})
    done = dtx("init", "odd", "--legacy", urls[0], "--target", urls[1])
    assert done.returncode == 0, done.stderr
    assert "Rows of 1 target table: 5 inserted" in dtx("run", "odd").stdout
    assert "0 inserted, 0 updated, 5 unchanged" in dtx("run", "odd").stdout
    assert dtx("verify", "odd").returncode == 0
    rows = []
    for url in urls:
        with psycopg.connect(url) as connection:
            rows.append(connection.execute("SELECT odd::text FROM odd ORDER BY id").fetchall())
    assert rows[0] == rows[1]
    assert len(rows[0]) == 5
    for side in ("legacy", "target"):
        postgres_server.drop_database(f"odd_{side}")
