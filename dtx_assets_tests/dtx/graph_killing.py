"""The whole graph of DTX on its sample, files and updates included, killed beside an application that goes on writing.

A second export has changed rows and files. Whatever is killed when, the next `dtx run` has to end as one that nobody
disturbed, and each edit of the application that was committed has to be there.
"""

import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self
from uuid import uuid4

import psycopg
from psycopg import sql

from dtx_assets.dtx.system import SYSTEM, load_other_areas
from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED, EXIT_STEP_FAILED
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets_tests.dtx.killing import (
    APPLICATION_COLUMN,
    CUTOVER_AT,
    OF_THE_APPLICATION,
    Place,
    State,
    copied,
    first_differences,
    removed,
    state,
    wait_until_alone,
)
from dtx_assets_tests.patience import PATIENCE

Export = Literal["first", "delta"]
EDITED = "docutrax_profiles_document"
ADDED_TO = "docutrax_hierarchy_accountemail"
SECONDS_BETWEEN_EDITS = 0.05


def write_exports(directory: Path) -> None:
    """The sample, and the sample as it might be a week later: texts changed, rows gone."""
    shutil.copytree(SYSTEM.sample_dir, directory / "first")
    shutil.copytree(SYSTEM.sample_dir, directory / "delta")
    for table, column in (("exemption", "ExemptReason"), ("letter", "letter_body"), ("repo_file", "name")):
        path = directory / "delta" / f"{table}.csv"
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            names, *rows = list(csv.reader(file))
        for row in rows[::3]:
            row[names.index(column)] += " later" if row[names.index(column)] not in ("", "NULL", "\\N") else ""
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file, lineterminator="\n").writerows([names, *rows[:-3]])


class LiveApplication:
    """Writes rows of its own, and a column of its own in rows that were migrated; remembers what was committed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.emails: dict[str, str] = {}
        self.notes: dict[int, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _go_on(self) -> None:
        number = 0
        while not self._ended.wait(SECONDS_BETWEEN_EDITS):
            # The server may be stopped under it, as under everybody.
            try:
                with psycopg.connect(self.url) as connection:
                    while not self._ended.wait(SECONDS_BETWEEN_EDITS):
                        number += 1
                        self._edit(connection, number)
            except psycopg.OperationalError:
                continue

    def _edit(self, connection: psycopg.Connection[tuple[object, ...]], number: int) -> None:
        email, kind = f"{number}{OF_THE_APPLICATION}", f"kind {number}"
        connection.execute(
            sql.SQL(
                "INSERT INTO {} (account_id, email, email_type) SELECT min(id), %s, %s FROM docutrax_hierarchy_account"
            ).format(sql.Identifier(ADDED_TO)),
            [email, kind],
        )
        noted = connection.execute(
            sql.SQL(
                "UPDATE {0} SET {1} = %s WHERE id = (SELECT id FROM {0} ORDER BY random() LIMIT 1) RETURNING id"
            ).format(sql.Identifier(EDITED), sql.Identifier(APPLICATION_COLUMN)),
            [kind],
        ).fetchone()
        try:
            connection.commit()
        except psycopg.OperationalError:
            # Committed or not: nobody was told, so that either is right.
            self.notes.pop(int(str(noted[0])), None) if noted else None
            raise
        self.emails[email] = kind
        if noted:
            self.notes[int(str(noted[0]))] = kind

    def lost(self) -> list[str]:
        """The edits that were committed and are not there."""
        with psycopg.connect(self.url) as connection:
            emails = dict(connection.execute(f"SELECT email, email_type FROM {ADDED_TO}").fetchall())
            notes = dict(connection.execute(f"SELECT id, {APPLICATION_COLUMN} FROM {EDITED}").fetchall())
        return [
            *(
                f"the application's row {email} is lost"
                for email, kind in self.emails.items()
                if emails.get(email) != kind
            ),
            *(f"its note in document {key} is lost" for key, note in self.notes.items() if notes.get(key) != note),
        ]


class Graphs:
    """Where whole runs of each export begin, how they end when nobody disturbs them, and how long they take."""

    def __init__(self, server: EmbeddedPostgres, scratch: Path, exports: tuple[Export, ...]) -> None:
        self.server, self.scratch, self.exports = server, scratch, exports
        self.begin: dict[Export, Place] = {}
        self.expected: dict[Export, State] = {}
        self.seconds: dict[Export, float] = {}
        self._places: list[Place] = []

    def __enter__(self) -> Self:
        write_exports(self.scratch / "exports")
        name = f"graph_{uuid4().hex}"
        place = Place(self.scratch / name, self.server.create_database(name))
        self._places.append(place)
        place.home.mkdir()
        with psycopg.connect(place.url) as connection:
            create_target(connection, SYSTEM.targets)
            load_other_areas(connection, SYSTEM.sample_dir / "target")
            connection.execute(f"ALTER TABLE {EDITED} ADD COLUMN {APPLICATION_COLUMN} text".encode())
        for export in self.exports:
            self.begin[export], place = place, self._copy(place)
            started = time.monotonic()
            process = self.start(place, export)
            ended_as_it_should(process, place)
            self.seconds[export] = time.monotonic() - started
            self.expected[export] = state(place)
        return self

    def __exit__(self, *_: object) -> None:
        for place in self._places:
            self._remove(place)

    def start(self, place: Place, export: Export) -> subprocess.Popen[bytes]:
        """The command `dtx run` over an export, in a group of processes of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DTX_", "DAGSTER_"))}
        with (place.home / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "dtx_assets.cli.main", "run"],
                env={
                    **kept,
                    "DTX_LEGACY_URL": str(self.scratch / "exports" / export),
                    "DTX_FILES_URL": str(self.scratch / "exports" / export / "files"),
                    "DTX_TARGET_URL": place.url,
                    "DTX_HOME": str(place.home),
                    "DTX_BATCH_ROWS": "40",
                    "DTX_CUTOVER_AT": CUTOVER_AT,
                },
                cwd=place.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wrong_after(
        self, export: Export, moment: float, crash: Callable[[], None] | None = None
    ) -> tuple[bool, list[str]]:
        """Kills a run of an export at a moment (seconds), beside a live application, and the server with it.

        Whether it was killed before it ended, and what is wrong after the next run.
        """
        with self._place(export) as place, LiveApplication(place.url) as application:
            process = self.start(place, export)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            killed = process.wait() == -signal.SIGKILL
            if crash:
                crash()
            ended_as_it_should(self.start(place, export), place)
            application.stop()
            wait_until_alone(place.url)
            return killed, application.lost() + first_differences(self.expected[export], state(place))

    @contextmanager
    def _place(self, export: Export) -> Iterator[Place]:
        place = self._copy(self.begin[export])
        try:
            yield place
        finally:
            self._places.remove(place)
            self._remove(place)

    def _copy(self, of: Place) -> Place:
        wait_until_alone(of.url)
        place = copied(of, self.server, self.scratch, f"graph_{uuid4().hex}")
        self._places.append(place)
        return place

    def _remove(self, place: Place) -> None:
        removed(place, self.server)


def ended_as_it_should(process: subprocess.Popen[bytes], place: Place) -> None:
    """The sample is ugly, so checks fail; every step has to succeed."""
    code = process.wait(PATIENCE)
    assert code == EXIT_CHECK_FAILED, f"ended with {code} ({EXIT_STEP_FAILED}: a step failed): {tail(place)}"


def tail(place: Place) -> str:
    return (place.home / "output.txt").read_text(errors="replace")[-3000:]
