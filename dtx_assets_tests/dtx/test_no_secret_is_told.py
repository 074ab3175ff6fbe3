"""No password, no key and nothing personal is told, however a run fails: everything that was written is searched."""

import csv
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

from dtx_assets.dtx.system import SYSTEM, load_other_areas
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets_tests.bad_inputs.place import Shown, dtx
from dtx_assets_tests.patience import PATIENCE

SECRETS = {
    "legacy": "Planted/Legacy?Pass#1",
    "target": "Planted@Target%Pass:2",
    "store": "PlantedStoreKey3PlantedStoreKey3PlantedS",
}
STREET, PERSON, ADDRESS, NO_ADDRESS = "77 Zanzibar Lane", "Quagmire", "zelda.quagmire@maildrop", "zelda at zanzibar"
PERSONAL = (STREET, PERSON, ADDRESS, NO_ADDRESS)
DAGSTER = (sys.executable, "-m", "dagster", "asset", "materialize", "-m", "dtx_assets.dtx.definitions")
MAY_HOLD_ROWS = ("rejected_entry", "journal_entry")
"""Relations of the bookkeeping that hold whole rows, on purpose."""


class World:
    """A state directory, a legacy and a target database whose passwords are planted, and what was shown so far."""

    def __init__(self, directory: Path, server: EmbeddedPostgres) -> None:
        self.directory, self.server = directory, server
        self.home = directory / "home"
        self.shown: list[Shown] = []
        self.names = {name: f"{name}_{uuid4().hex}" for name in ("legacy", "target")}
        self.urls = {}
        for name, role in self.names.items():
            url = server.create_database(role)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(
                        sql.Identifier(role), sql.Literal(SECRETS[name])
                    )
                )
            self.urls[name] = make_url(url).set(username=role, password=SECRETS[name])
        with psycopg.connect(self.url("target")) as connection:
            create_target(connection, SYSTEM.targets)
            load_other_areas(connection, SYSTEM.sample_dir / "target")
        with psycopg.connect(self.url("legacy")) as connection:
            for table in ("crosswalk_account", "reviewer_address", "letter"):
                self.copy(connection, table)

    def url(self, name: str, **changes: str) -> str:
        return self.urls[name].set(**changes).render_as_string(hide_password=False)

    def copy(self, connection: psycopg.Connection, table: str) -> None:
        """A table of the sample, with rows that hold what is personal."""
        with (SYSTEM.sample_dir / f"{table}.csv").open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            header, *rows = csv.reader(line.replace("\0", "") for line in stream)
        if table == "letter":
            planted = dict(zip(header, rows[0], strict=True)) | {
                "selector": "PLANTED",
                "subject": f"For {PERSON}",
                "letter_body": f"<p>{PERSON}, {STREET}, {ADDRESS}</p>",
                "name": PERSON,
                "edit_time": "2024-01-01 00:00:00",
            }
            rows = [list(planted.values()), [*list(planted.values())[:1], None, *list(planted.values())[2:]]]
        if table == "reviewer_address":
            planted = dict(zip(header, rows[0], strict=True)) | {"reviewer_address_id": "9001"}
            values = (ADDRESS, NO_ADDRESS)
            inner = "".join(f'i:{n};s:{len(text)}:"{text}";' for n, text in enumerate(values))
            rows = [list((planted | {"email_string": f"a:2:{{{inner}}}"}).values())]
        columns = [sql.Identifier(name) for name in header]
        connection.execute(
            sql.SQL("CREATE TABLE {} ({})").format(
                sql.Identifier(table), sql.SQL(", ").join(sql.SQL("{} text").format(column) for column in columns)
            )
        )
        with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
            for row in rows:
                copy.write_row([None if value == "\\N" else value for value in row])

    def one_file(self) -> Path:
        """An export with one file that is to be sent."""
        export = self.directory / "export"
        export.mkdir()
        for name in ("account", "record", "repo_file", "user"):
            shutil.copy(SYSTEM.sample_dir / f"crosswalk_{name}.csv", export)
        header, *rows = (SYSTEM.sample_dir / "repo_file.csv").read_text(errors="replace").splitlines()
        row = next(row for row in rows if "unlinked/certificate_01.pdf" in row)
        (export / "repo_file.csv").write_text(f"{header}\n{row}\n")
        return export

    def run(self, *arguments: str, code: int) -> str:
        shown = dtx(*arguments)
        self.shown.append(shown)
        assert shown.code == code, shown.text
        return shown.text

    def written(self) -> Iterator[tuple[str, str]]:
        """Everything that people may look at: where it stands, and its text."""
        for number, shown in enumerate(self.shown):
            yield f"output of command {number}", shown.text
        for path in self.directory.rglob("*"):
            if not path.is_file() or path.suffix in (".parquet", ".db-wal", ".db-shm") or self.is_data(path):
                continue
            if path.suffix == ".db":
                with closing(sqlite3.connect(path)) as connection:
                    yield str(path), "\n".join(connection.iterdump())
            else:
                yield str(path), path.read_bytes().decode("latin-1")
        with psycopg.connect(self.url("target")) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'migration'").fetchall()
            for (table,) in tables:
                if table not in MAY_HOLD_ROWS:
                    rows = connection.execute(
                        sql.SQL("SELECT to_jsonb(t)::text FROM migration.{} AS t").format(sql.Identifier(table))
                    ).fetchall()
                    yield f"migration.{table}", "\n".join(text for (text,) in rows)

    def is_data(self, path: Path) -> bool:
        """Archives and files that were sent hold what they hold; manifests are looked into all the same."""
        return path.name != "manifest.json" and any(part in ("archive", "object_store") for part in path.parts)


@pytest.fixture
def world(tmp_path: Path, postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, postgres_server)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    for name, value in {
        "HOME": made.home,
        "LEGACY_URL": made.url("legacy"),
        "TARGET_URL": made.url("target"),
    }.items():
        monkeypatch.setenv(f"DTX_{name}", str(value))
    yield made
    for name in made.names.values():
        postgres_server.drop_database(name)
        with psycopg.connect(postgres_server.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_no_secret_and_nothing_personal_is_told(world, s3_bucket, monkeypatch):
    letters = "+target/EmailTemplate or rejected/EmailTemplate"
    # The source refuses: a table is missing, the database is, nobody listens.
    world.run("run", "--select", "legacy/keyword", code=1)
    for changes in ({"database": "nosuch"}, {"port": 1}):
        with monkeypatch.context() as patch:
            patch.setenv("DTX_LEGACY_URL", world.url("legacy", **changes))
            world.run("run", "--select", "legacy/letter", code=1)
    # Checks fail on personal rows: addresses that are none, a letter without a type.
    text = world.run("run", "--select", "+target/AccountEmail or rejected/AccountEmail", code=3)
    assert "no_reviewer_address_row_is_rejected" in text
    # The target refuses a row, which is rejected, or all that is asked of it; its own words quote the row.
    with psycopg.connect(world.url("target"), autocommit=True) as connection:
        connection.execute(f"ALTER TABLE docutrax_utils_emailtemplate ADD CHECK (body_html NOT LIKE '%{STREET}%')")
    world.run("run", "--select", letters, code=3)
    with psycopg.connect(world.url("target"), autocommit=True) as connection:
        told = connection.execute(
            "SELECT detail FROM migration.rejected WHERE 'schema_violation' = ANY (reasons)"
        ).fetchall()
        assert ("docutrax_utils_emailtemplate_body_html_check: the row violates this check",) in told
        connection.execute(
            "ALTER TABLE docutrax_utils_emailtemplate DROP CONSTRAINT docutrax_utils_emailtemplate_body_html_check"
        )
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'no template of %', NEW.body_html USING ERRCODE = '42501'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON docutrax_utils_emailtemplate FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    world.run("run", "--select", letters, code=3)
    with psycopg.connect(world.url("target"), autocommit=True) as connection:
        told = connection.execute("SELECT detail FROM migration.rejected").fetchall()
        # What a trigger says may hold the row.
        assert ("refuse: the trigger refuses the row; the log of the server has its words",) in told
        connection.execute("DROP FUNCTION refuse CASCADE")
    assert "FAILED" not in world.run("run", "--select", letters, code=3)
    for changes in ({"database": "nosuch"}, {"port": 1}):
        with monkeypatch.context() as patch:
            patch.setenv("DTX_TARGET_URL", world.url("target", **changes))
            world.run("run", "--select", "target/EmailTemplate", code=1)
    # The stores refuse.
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["store"])
        for name in ("LAKE_URL", "LEGACY_URL"):
            with monkeypatch.context() as inner:
                inner.setenv(f"DTX_{name}", f"s3://{s3_bucket}/there")
                world.run("run", "--select", "legacy/letter", code=1)
        with monkeypatch.context() as inner:
            inner.setenv("DTX_OBJECT_STORE_URL", f"s3://{s3_bucket}/files")
            inner.setenv("DTX_LEGACY_URL", str(world.one_file()))
            world.run("run", "--select", "+target/Document", code=3)
    # Dagster's own command keeps what steps print.
    done = subprocess.run(
        [*DAGSTER, "--select", 'key:"dtx/legacy/letter" or key:"dtx/legacy/keyword"'],
        env={**os.environ, "DAGSTER_HOME": str(world.home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode != 0
    world.shown.append(Shown(done.stdout + done.stderr, done.returncode))
    world.run("status", "--json", code=0)

    written = list(world.written())
    places = "\n".join(place for place, _ in written)
    for kind in (".db", ".log", "manifest.json", "migration.run", "compute_logs"):
        assert kind in places
    for kind in (".db", ".log", "output"):
        assert any("nosuch" in text for place, text in written if kind in place), kind
    planted = [*SECRETS.values(), *(url.render_as_string(hide_password=False) for url in world.urls.values())]
    planted += [make_url(url).render_as_string(hide_password=False).split(":")[2].split("@")[0] for url in planted[3:]]
    for place, text in written:
        for secret in (*planted, *PERSONAL):
            found = text.find(secret)
            assert found < 0, f"{secret} in {place}: …{text[max(0, found - 300) : found + 100]}…"


def test_what_is_personal_did_get_where_it_may_be(world):
    """Else the search above would find nothing for a wrong reason."""
    world.run("run", "--select", "+target/EmailTemplate or rejected/EmailTemplate", code=3)
    landed = str(Lake(str(world.home / "lake")).scan(("dtx", "legacy", "letter")).collect().to_dicts())
    assert all(text in landed for text in (STREET, PERSON, ADDRESS))
    with psycopg.connect(world.url("target")) as connection:
        assert STREET in str(connection.execute('SELECT "row" FROM migration.rejected').fetchall())
        assert STREET in str(connection.execute("SELECT body_html FROM docutrax_utils_emailtemplate").fetchall())
