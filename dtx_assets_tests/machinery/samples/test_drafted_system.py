"""A sample of what `dtx init` drafts, migrated: clean rows all arrive, and each planted row meets its fate."""

import csv
import io
import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from dtx_assets.cli.init import DEFINITIONS
from dtx_assets.machinery.samples.values import EXOTIC
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.machinery.declare.test_folder import made
from dtx_assets_tests.pages import PROJECT

pytestmark = pytest.mark.timeout(600)

LEGACY = """
CREATE TABLE language (language_id INTEGER PRIMARY KEY, name VARCHAR(20) NOT NULL);
CREATE TABLE film (film_id INTEGER PRIMARY KEY, title TEXT NOT NULL, language_id INTEGER NOT NULL, sequel_of INTEGER,
    length INTEGER, rate DECIMAL(5,2), rating TEXT, released DATE, added TIMESTAMP, is_kept BOOLEAN, facts JSON);
CREATE TABLE actor (actor_id INTEGER PRIMARY KEY, first_name TEXT NOT NULL, last_name TEXT NOT NULL);
CREATE TABLE film_actor (actor_id INTEGER NOT NULL, film_id INTEGER NOT NULL, role TEXT,
    PRIMARY KEY (actor_id, film_id));
CREATE TABLE film_text (film_id INTEGER PRIMARY KEY, description TEXT);
CREATE TABLE scrap (x TEXT, y INTEGER);
"""
SCHEMA = """
CREATE TYPE rating AS ENUM ('G', 'PG', 'R');
CREATE TABLE language (language_id smallint PRIMARY KEY, name varchar(20) NOT NULL UNIQUE);
CREATE TABLE film (film_id integer PRIMARY KEY, title varchar(60) NOT NULL,
    language_id smallint NOT NULL REFERENCES language, sequel_of integer REFERENCES film, length smallint,
    rate numeric(5,2), rating rating, released date, added timestamp, is_kept boolean NOT NULL, facts jsonb);
CREATE TABLE actor (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, first_name text NOT NULL,
    last_name text NOT NULL);
CREATE TABLE film_actor (actor_id bigint NOT NULL REFERENCES actor, film_id integer NOT NULL REFERENCES film,
    role varchar(10), PRIMARY KEY (actor_id, film_id));
CREATE TABLE film_text (film_id integer PRIMARY KEY REFERENCES film, description text);
"""
KEYS = {
    "language": ("language_id",),
    "film": ("film_id",),
    "actor": ("actor_id",),
    "film_actor": ("actor_id", "film_id"),
    "film_text": ("film_id",),
}
Fates = dict[tuple[str, tuple[str | None, ...]], list[list[str]]]


@dataclass
class Films:
    dtx: Command
    url: str

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def migrate(self, name: str, *options: str) -> list[dict[str, Any]]:
        """Writes a sample and migrates it into an empty target; gives what is planted."""
        done = self.dtx("sample", "films", name, *options)
        assert done.returncode == 0, done.stderr
        ddl = self.dtx("target", "ddl")
        with psycopg.connect(self.url) as connection:
            connection.execute(
                "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP SCHEMA IF EXISTS migration CASCADE"
            )
            connection.execute(ddl.stdout.encode())
        # Decisions of the draft are open: the gate would be closed, and says so.
        run = self.dtx("run", FILMS_LEGACY_URL=name, FILMS_HOME=f"state_{name}")
        assert run.returncode == 3, run.stderr[-3000:]
        planted = self.dtx.directory / name / "planted.jsonl"
        return [json.loads(line) for line in planted.read_text("utf-8").splitlines()] if planted.exists() else []

    def rows(self, name: str, table: str) -> list[dict[str, str | None]]:
        text = (self.dtx.directory / name / f"{table}.csv").read_bytes().decode(errors="backslashreplace")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        return [{column: None if value in (r"\N", "") else value for column, value in row.items()} for row in rows]

    def rejected(self) -> Fates:
        """Reasons by table and key, as the bookkeeping of the target has them."""
        found: Fates = defaultdict(list)
        for table, reasons, row in self.sql('SELECT source_table, reasons, "row" FROM migration.rejected'):
            found[table, tuple(row[name] for name in KEYS[table])].append(reasons)
        return {place: sorted(reasons) for place, reasons in found.items()}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, postgres_server) -> Iterator[Films]:
    directory = tmp_path_factory.mktemp("films")
    with closing(sqlite3.connect(directory / "legacy.db")) as file:
        file.executescript(LEGACY)
    (directory / "schema.sql").write_text(SCHEMA)
    url = postgres_server.create_database(f"films_{os.urandom(4).hex()}")
    place = {"FILMS_LEGACY_URL": "sqlite:///legacy.db", "FILMS_TARGET_URL": url, "PYTHONPATH": str(PROJECT)}
    dtx = Command(directory, place)
    done = dtx("init", "films", "--target", "schema.sql")
    assert done.returncode == 0, done.stderr
    yield Films(dtx, url)
    postgres_server.drop_database(url.rpartition("/")[2].partition("?")[0])


def test_the_clean_share_migrates_wholly(films):
    assert films.migrate("clean", "--clean", "--rows", "150") == []
    assert films.rejected() == {}
    for table in KEYS:
        expected = len(films.rows("clean", table))
        assert films.sql(f"SELECT count(*) FROM {table}") == [(expected,)], table
    assert films.sql("SELECT count(*) FROM film") == [(150,)]
    [(sequels, languages)] = films.sql("SELECT count(sequel_of), count(DISTINCT language_id) FROM film")
    assert sequels > 100
    assert languages > 50


def test_each_planted_row_meets_its_fate(films):
    planted = films.migrate("ugly")
    expected: Fates = defaultdict(list)
    rows = {table: films.rows("ugly", table) for table in KEYS}
    for case in (case for case in planted if case["table"] in rows):
        row = rows[case["table"]][case["row"] - 1]
        for fate in case["expected"].values():
            if fate["fate"] == "rejected":
                key = tuple(
                    None if row[name] is None else row[name].replace("\x00", "\\x00") for name in KEYS[case["table"]]
                )
                expected[case["table"], key].append(fate["reasons"])
    assert films.rejected() == {place: sorted(reasons) for place, reasons in expected.items()}
    gone = defaultdict(int)
    for case in planted:
        gone[case["table"]] += sum(fate["fate"] != "migrated" for fate in case["expected"].values())
    for table in KEYS:
        migrated = len(rows[table]) - gone[table]
        assert films.sql(f"SELECT count(*) FROM {table}") == [(migrated,)], table

    told = {(case["table"], case["column"], case["what"]): case["expected"] for case in planted}
    rejected = {
        ("film", "title", "NULL"): "schema_violation",
        ("film", "title", "b'a NUL \\x00 inside'"): "unparseable",
        ("film", "length", "'40000'"): "schema_violation",
        ("film", "rate", "'1e5'"): "unparseable",
        ("film", "released", "'2019-02-30'"): "unparseable",
        ("film", "added", "'0000-00-00 00:00:00'"): "unparseable",
        ("film", "is_kept", "'maybe'"): "unparseable",
        ("film", "facts", '\'{"a":1,"a":2}\''): "unparseable",
        ("film", "sequel_of", "an id that nothing has"): "orphan_reference",
        ("film_text", "film_id", "an id that nothing has"): "orphan_reference",
        ("film_actor", "actor_id", "an id that nothing has"): "orphan_reference",
        ("actor", "actor_id", "a later row has this key"): "duplicate_key",
        ("language", "name", "a later row gives the same target row"): "duplicate_key",
    }
    for place, reason in rejected.items():
        [fate] = told[place].values()
        assert fate == {"fate": "rejected", "reasons": [reason]}, place
    assert told["actor", "", "the same row twice"] == {"Actor": {"fate": "identical"}}
    names = {name for (name,) in films.sql("SELECT first_name FROM actor")}
    assert set(EXOTIC) <= names


def test_rows_of_others_go_into_the_embedded_database(tmp_path):
    made(tmp_path)
    package = tmp_path / "library_assets"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "definitions.py").write_text(DEFINITIONS.format(system="library"))
    (tmp_path / "workspace.yaml").write_text(
        "load_from:\n  - python_module: { module_name: library_assets.definitions, location_name: library }\n"
    )
    dtx = Command(tmp_path, {"PYTHONPATH": str(PROJECT)})
    done = dtx("sample", "library", "legacy", "--rows", "40")
    assert done.returncode == 0, done.stderr
    assert "LIBRARY_LEGACY_URL=legacy dtx run migrates it" in done.stdout
    run = dtx("run", "library")
    assert run.returncode == 3, run.stderr[-3000:]

    def asked(statement: str) -> list[str]:
        answer = dtx("psql", "--system", "library", "--", "-qAt", "-c", statement)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.splitlines()

    planted = [json.loads(line) for line in (tmp_path / "legacy" / "planted.jsonl").read_text("utf-8").splitlines()]
    books = [case for case in planted if case["table"] == "book"]
    ugly = [case["expected"]["Book"] for case in books]
    migrated = 40 + sum(fate["fate"] == "migrated" for fate in ugly)
    assert asked("SELECT count(*), count(DISTINCT genre) FROM book JOIN site ON site.id = site_id") == [f"{migrated}|1"]
    wanted = sorted(",".join(fate["reasons"]) for fate in ugly if fate["fate"] == "rejected")
    assert asked("SELECT array_to_string(reasons, ',') FROM migration.rejected ORDER BY 1") == wanted
    told = {(case["column"], case["what"]): case["expected"]["Book"] for case in books}
    assert told["genre", "'NO SUCH CODE'"] == {"fate": "rejected", "reasons": ["unmapped_value"]}
    assert told["genre", "' NOVEL '"] == {"fate": "migrated"}
    assert told["branch_id", "an id that nothing has"] == {"fate": "rejected", "reasons": ["orphan_reference"]}
