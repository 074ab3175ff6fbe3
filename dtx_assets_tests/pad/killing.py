"""Migrations of PAD that are made to be killed: small batches of four targets, an export, a later one, and an undo.

One process migrates from CSV files to committed rows and archives by the functions that the steps of the graph call.
"""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal
from uuid import uuid4

import psycopg

from dtx_assets.machinery.archive.store import archive_table
from dtx_assets.machinery.base.failpoints import FAILPOINT, PROOF, TRACE
from dtx_assets.machinery.load import load_target, slices
from dtx_assets.machinery.look_ups.assets import MappingContext, build_mapping_asset
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets.machinery.prepare.preparation import prepare_flow
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.frames import legacy_frame, source_key
from dtx_assets.pad.decided_system import SYSTEM
from dtx_assets_tests.dtx import killing
from dtx_assets_tests.dtx.killing import Place, State
from dtx_assets_tests.forking import started
from dtx_assets_tests.pad.place import TABLE, TARGETS, Row, contents, make_target, request, write_csv

Stage = Literal["first", "delta", "undo"]
STAGES: tuple[Stage, ...] = ("first", "delta", "undo")
BATCH_ROWS = 6
UNDECIDED = dict.fromkeys(("auth_manager", "status_manager", "auth_manager_date", "auth_compliance"))


def export(stage: Stage) -> list[Row]:
    """Sound requests and broken ones; in the later one some changed, came, went, were mended and broke."""
    later = stage != "first"
    rows: list[Row] = []
    for number in range(1, 25):
        changed: Row = {}
        if number % 7 == 0:
            changed["employee"] = "3" if later else "77"
        if number % 5 == 0:
            changed["auth_compliance"] = "99" if later or number % 10 else "2"
        if number % 6 == 0:
            changed |= UNDECIDED | {"status_compliance": None, "status": "request"}
            changed |= {"two_business_days_execution_yn": None, "contract_notes_received_yn": None}
        if later and number % 4 == 1:
            changed |= {"last_modified_date": "2024-04-01 10:00:00", "justification": "again"}
        if not (later and number % 8 == 0):
            rows.append(request(number, **changed))
    return rows + [request(number) for number in range(100, 104) if later]


MEDDLING: dict[Stage, tuple[str, ...]] = {
    "first": (),
    "delta": (
        "UPDATE padealing.pad_request SET status = 'declined' WHERE id IN (9, 17)",
        "DELETE FROM padealing.pad_execution WHERE request_id = 13",
    ),
    "undo": ("INSERT INTO padealing.pad_execution (request_id, contract_note_verified) VALUES (101, true)",),
}
"""What the application does to its tables before each stage."""


def start(directory: Path, place: Place, stage: Stage, **more: str) -> killing.multiprocessing.process.BaseProcess:
    environment = {
        "PAD_LEGACY_URL": str(directory / stage.replace("undo", "delta")),
        "PAD_TARGET_URL": place.url,
        "PAD_HOME": str(place.home),
        "PAD_BATCH_ROWS": str(BATCH_ROWS),
        **more,
    }
    return started(_in_process, place.home, stage, environment)


def _in_process(home: Path, stage: Stage, environment: dict[str, str]) -> None:
    killing.work_in(home, environment, partial(killing.undo, SYSTEM) if stage == "undo" else partial(migrate, stage))


def migrate(stage: Stage) -> None:
    # Few rows are updated here, and they are to come in slices all the same.
    slices.SLICE_ROWS, slices.SMALLEST_SLICE, slices.LARGEST_SLICE = 1, 1, 1
    with killing.run_environment(SYSTEM, stage) as environment:
        lake, run, table = environment.lake, environment.load(), SYSTEM.legacy_tables[TABLE]
        with open_source(environment.settings.legacy_url) as source:
            source.extract(table, lake, (SYSTEM.name, "legacy", TABLE), run.run_id)
        context = MappingContext(
            SYSTEM.name, lake, run.run_id, environment.target_url, {}, SYSTEM.mappings, SYSTEM.legacy_tables
        )
        for asset in SYSTEM.mapping_assets:
            build_mapping_asset(asset, context)
        for flow in SYSTEM.flows:
            prepare_flow(flow, environment.run_settings)
        for model in TARGETS:
            load_target(
                SYSTEM.name,
                SYSTEM.target(model),
                lake,
                environment.target_url,
                run,
                legacy_rows=lambda _: source_key(table, legacy_frame(lake, SYSTEM.name, table)),
            )
        archive_table(lake, environment.archive, SYSTEM.name, TABLE, run.run_id)


# --- what is there afterwards -----------------------------------------------------------------------------------------

LISTS = {
    "mapping": "source_key, target_table, part",
    "rejected": "source_key, target_table, reasons, partial, detail",
    "conflict": "source_key, target_table, part, cause, columns",
    "vanished": "source_key, target_table, part, cause",
    "left_entry": "target_table, part, cause",
    "touched_entry": "target_table",
}


def state(place: Place) -> State:
    """The four targets and what the bookkeeping says of them, without ids that the target gives, and times."""
    found: State = {table: sorted(map(str, rows)) for table, rows in contents(place.url).items()}
    with psycopg.connect(place.url) as connection:
        for name, columns in LISTS.items():
            lines = connection.execute(f"SELECT {columns} FROM migration.{name}".encode())
            found[name] = sorted(json.dumps(line) for line in lines)
        found["accounting"] = sorted(
            json.dumps(line)
            for line in connection.execute(
                "SELECT DISTINCT ON (target_table) target_table, read, migrated, rejected, dropped, coerced"
                " FROM migration.accounting JOIN migration.run USING (run_id)"
                " ORDER BY target_table, run.started_at DESC"
            )
        )
        found["unfinished"] = [
            str(table)
            for (table,) in connection.execute("SELECT target_table FROM migration.load WHERE status = 'running'")
        ]
    return found


def unmapped(place: Place) -> set[str]:
    """Rows without an entry in the mapping, and entries without a row: beside what others did, half a batch."""
    with psycopg.connect(place.url) as connection:
        if connection.execute("SELECT to_regclass('migration.mapping')").fetchone() == (None,):
            return set()
        return {line for table in TARGETS for line in _unmapped(connection, table)}


def _unmapped(connection: psycopg.Connection, table: str) -> list[str]:
    rows = connection.execute(
        f"SELECT '{table} ' || coalesce(t.id::text, target_id) FROM padealing.{table} AS t FULL JOIN"
        f" (SELECT target_id FROM migration.mapping WHERE target_table = '{table}') AS m ON target_id = t.id::text"
        " WHERE t.id IS NULL OR target_id IS NULL".encode()
    )
    return [str(line) for (line,) in rows]


class Trial:
    """What each stage starts from and ends with when nobody disturbs it, and copies of the beginnings to kill in."""

    def __init__(self, server: EmbeddedPostgres, scratch: Path) -> None:
        self.server, self.scratch = server, scratch
        self.expected: dict[Stage, State] = {}
        self.reached: dict[Stage, Counter[str]] = {}
        self._begin: dict[Stage, Place] = {}
        self._places: list[Place] = []
        for stage in STAGES[:2]:
            write_csv(scratch / stage, export(stage))
        place = self._added(Place(scratch / self._name(), server.create_database(self._name())))
        place.home.mkdir()
        make_target(place.url, scratch)
        for stage in STAGES:
            place = self._undisturbed(stage, place)

    def _undisturbed(self, stage: Stage, begin: Place) -> Place:
        with psycopg.connect(begin.url) as connection:
            for statement in MEDDLING[stage]:
                connection.execute(statement.encode())
        ended = self._added(killing.copied(begin, self.server, self.scratch, self._name()))
        trace = self.scratch / f"{stage}.trace"
        self.do(ended, stage, **{TRACE: str(trace)})
        self.reached[stage] = Counter(trace.read_text().split())
        self._begin[stage], self.expected[stage] = begin, state(ended)
        return ended

    def do(self, place: Place, stage: Stage, **more: str) -> None:
        process = start(self.scratch, place, stage, **more)
        killing.wait_for(process)
        assert process.exitcode == 0, killing.said(place)

    def close(self) -> None:
        for place in self._places:
            killing.removed(place, self.server)

    def _added(self, place: Place) -> Place:
        self._places.append(place)
        return place

    def _name(self) -> str:
        return f"kill_pad_{uuid4().hex}"

    def points(self) -> dict[str, tuple[Stage, int]]:
        """Each failpoint that a stage reaches, with the last one that does and how often."""
        return {point: (stage, times) for stage in STAGES for point, times in self.reached[stage].items()}

    @contextmanager
    def killed(self, point: str) -> Iterator[Place]:
        """The place in which a stage was killed in the middle of the times that it reaches a point."""
        stage, times = self.points()[point]
        place = killing.copied(self._begin[stage], self.server, self.scratch, self._name())
        armed, proof = f"{point}:{(times + 1) // 2}", place.home / "proof"
        try:
            process = start(self.scratch, place, stage, **{FAILPOINT: armed, PROOF: str(proof)})
            killing.wait_for(process)
            assert process.exitcode == -signal.SIGKILL, killing.said(place)
            assert proof.read_text() == f"{armed} killed process {process.pid}\n"
            killing.wait_until_alone(place.url)
            assert unmapped(place) <= unmapped(self._begin[stage])
            yield place
        finally:
            killing.removed(place, self.server)
