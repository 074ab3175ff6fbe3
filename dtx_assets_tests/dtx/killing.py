"""Migrations of DTX that are made to be killed: a small world, its two exports, and what has to hold.

One process migrates an export from its CSV files to committed rows, sent files and archives, by the functions that the
steps of the graph call, without Dagster around them. Where and when it is killed is the tests' and `kill`'s business.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self
from uuid import uuid4

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.dtx.system import SYSTEM, load_other_areas
from dtx_assets.machinery.archive.store import archive_table, archives, differences
from dtx_assets.machinery.base.errors import MigrationError
from dtx_assets.machinery.base.failpoints import FAILPOINT, POINTS, PROOF, TRACE
from dtx_assets.machinery.base.lake import Lake, open_archive
from dtx_assets.machinery.files.sending import FileSender
from dtx_assets.machinery.load import SentFilesOfRun, book_archive, create_target, load_target, slices
from dtx_assets.machinery.look_ups.assets import MappingContext, build_mapping_asset
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets.machinery.prepare.preparation import prepare_flow
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.operations import roll_back
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.frames import legacy_frame, source_key
from dtx_assets.machinery.system.system import System
from dtx_assets_tests import sessions
from dtx_assets_tests.dtx.oracle import RawRow
from dtx_assets_tests.dtx.running import (
    World,
    exemption,
    keyword,
    letter,
    notification,
    php,
    repo_file,
    reviewer_address,
    rows,
    webhook,
    write_csv,
)
from dtx_assets_tests.forking import started, write_to
from dtx_assets_tests.patience import PATIENCE

Export = Literal["first", "delta"]
LOAD_POINTS = tuple(point for point in POINTS if not point.startswith(("derived.", "shards.", "indexes.")))
"""The failpoints of loads, archives and undoing; those of texts are reached by systems that embed some."""
EXPORTS: tuple[Export, ...] = ("first", "delta")
Stage = Literal["first", "delta", "undo"]
STAGES: tuple[Stage, ...] = (*EXPORTS, "undo")
"""The load of each export, and the undo of that of the second."""
FEW_FLOWS = ("exemption", "account_email", "document")
"""Enough for every failpoint: rows with and without a natural key, columns of others' rows, files."""
ARCHIVED_ONLY = "work_log"
CUTOVER_AT = "2026-11-21T00:00:00Z"
BIG_FILE = 5 << 19
"""Read in three pieces."""
FAILED = 3
"""The exit code of a migration that told what is wrong; any other error ends it with 1 and a traceback."""
CUSTOMERS = 30
LATER = 10_000
"""Numbers of files that came with the second export begin after it."""


# --- the world --------------------------------------------------------------------------------------------------------


def world(customers: int) -> World:
    """Each customer has an account, a vendor with a record, a group of its own and two requirements."""
    every = range(1, customers + 1)
    return World(
        crosswalks={
            "crosswalk_account": rows(
                "customer_id account_id directory_id", *((number, 1000 + number, None) for number in every)
            ),
            "crosswalk_user": rows("user_id target_user_id", (1, 11)),
            "crosswalk_record": rows("vendor_id record_id", *((number, 20_000 + number) for number in every)),
            "crosswalk_repo_file": rows("repo_file_id target_model target_id", (99_999, "Document", 1)),
            "crosswalk_requirements": rows("requirements_id coi_risk_profile_id", (1, 401)),
        },
        other_areas={
            "docutrax_users_user": rows("id", (11,)),
            "docutrax_hierarchy_account": rows("id", *((1000 + number,) for number in every)),
            "docutrax_hierarchy_directory": rows("id", (801,)),
            "docutrax_hierarchy_record": rows("id", *((20_000 + number,) for number in every)),
            "docutrax_hierarchy_accountemail": rows("id account_id email email_type", (1, 1001, "x@y.zz", "primary")),
            "docutrax_profiles_requirementsgroup": rows("id", *((30_000 + number,) for number in every)),
            "docutrax_profiles_requirementsgroupmember": rows(
                "id record_id requirements_group_id",
                *((number, 20_000 + number, 30_000 + number) for number in every),
            ),
            "docutrax_profiles_coiriskprofile": rows("id", (401,)),
            "docutrax_profiles_documenttype": rows("id name", (501, "W-9"), (502, "Business License")),
            "docutrax_profiles_docrequirement": rows(
                "id requirements_group_id document_type_id is_exempted exemption_note",
                *((60_000 + number, 30_000 + number, 501, "false", None) for number in every),
                *((70_000 + number, 30_000 + number, 502, "false", None) for number in every),
            ),
        },
    )


def legacy_tables(customers: int, export: Export) -> dict[str, list[RawRow]]:
    """An export; that of the delta has rows that changed, came, went and were mended since."""
    later = export == "delta"
    tables: dict[str, list[RawRow]] = {
        name: []
        for name in ("reviewer_address", "exemption", "repo_file", "notification", "notification_webhook", "letter")
    }
    tables |= {name: [] for name in ("notification_lookup", "keyword", "form_field")}
    for number in range(1, customers + 1):
        unknown = number % 11 == 0 and not later
        second = f"c{number}@example.com" if later and number % 5 == 0 else f"b{number}@example.com"
        invalid = ["no address"] if number % 7 == 0 else []
        if not (later and number % 13 == 0):
            addresses = php(f"a{number}@example.com", second, *invalid)
            tables["reviewer_address"].append(reviewer_address(addresses, number, 9_000_000 if unknown else number))
        reason = f"Job {number}, again" if later and number % 4 == 0 else f"Job {number}"
        status = "PENDING" if number % 10 == 0 and not later else "COMPLIANT"
        kind = {"item_type": "DOCUMENT", "item_name": "W-9"} if number % 3 == 0 else {}
        if not (later and number % 9 == 0):
            tables["exemption"].append(
                exemption(number, number, ExemptReason=reason, ExemptReviewStatus=status, **kind)
            )
        name = f"scan {number}, renamed.pdf" if later and number % 5 == 1 else f"scan {number}.pdf"
        path = "absent.pdf" if number % 8 == 0 else f"{number}.pdf"
        tables["repo_file"].append(repo_file(number, customer_id=str(number), name=name, repo_filepath=path))
        tables["repo_file"][-1]["vendor_id"] = str(number)
        if later and number % 6 == 0:
            tables["repo_file"].append(
                repo_file(LATER + number, customer_id=str(number), repo_filepath=f"{number}-later.pdf")
            )
        days = "9" if later and number % 4 == 1 else "3"
        tables["notification"].append(
            notification(number, number, CRFRRSetting=days, CEEXPSetting="30", CEEXPTiming="AFTER")
        )
        tables["notification_webhook"].append(webhook(php(f"w{number}@example.com"), customer=number))
        body = f"Dear __NAME__, {'later ' if later and number % 3 == 0 else ''}{number}"
        tables["letter"].append(letter(body, number))
        tables["keyword"].append(keyword("Vendor", "Tenant" if later and number % 2 else "Supplier", number))
    tables[ARCHIVED_ONLY] = rows(
        "user_id session_id customer_id start_time end_time",
        *((1, number, number, "2020-01-01 00:00:00", None) for number in range(customers + 5 * later)),
    )
    return tables


def write_world(directory: Path, customers: int) -> None:
    """The CSV files of both exports, of the crosswalks and of other areas, and the legacy files."""
    made = world(customers)
    write_csv(directory / "crosswalks", made.crosswalks)
    write_csv(directory / "target", made.other_areas)
    for export in EXPORTS:
        write_csv(directory / export, legacy_tables(customers, export))
    files = directory / "files"
    files.mkdir()
    for number in range(1, customers + 1):
        content = f"%PDF certificate {number}\n".encode()
        (files / f"{number}.pdf").write_bytes(content * (BIG_FILE // len(content)) if number % 25 == 2 else content)
        if number % 6 == 0:
            (files / f"{number}-later.pdf").write_bytes(content * 2)


MEDDLING: dict[Stage, tuple[str, ...]] = {
    "first": (),
    "delta": (
        "UPDATE docutrax_profiles_manualoverride SET reason = 'Someone else' WHERE reason IN ('Job 4', 'Job 28')",
        "DELETE FROM docutrax_hierarchy_accountemail WHERE email = 'a10@example.com'",
        "INSERT INTO docutrax_hierarchy_accountemail (account_id, email, email_type)"
        " VALUES (1005, 'c5@example.com', 'reviewer')",
        "UPDATE docutrax_profiles_docrequirement SET exemption_note = 'Not so' WHERE id = 60012",
        "UPDATE docutrax_profiles_document SET status = 'seen' WHERE original_filename = 'scan 6.pdf'",
    ),
    "undo": (
        "UPDATE docutrax_profiles_manualoverride SET reason = 'Someone else' WHERE reason = 'Job 8, again'",
        "UPDATE docutrax_profiles_document SET status = 'seen' WHERE original_filename = 'scan 1, renamed.pdf'",
    ),
}
"""What other people do to the target before each stage: they change, delete and add rows."""


# --- one migration ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where migrations of one trial are: a state directory, and a target database."""

    home: Path
    url: str = field(repr=False)

    @property
    def store(self) -> Path:
        return self.home / "object_store"


@dataclass(frozen=True)
class Killable:
    """A world on the disk, and how much of it is migrated: which flows, in batches of how many rows."""

    directory: Path
    customers: int = CUSTOMERS
    flows: tuple[str, ...] = FEW_FLOWS
    batch_rows: int = 15

    def environment(self, place: Place, stage: Stage) -> dict[str, str]:
        return {
            "DTX_LEGACY_URL": str(self.directory / ("first" if stage == "first" else "delta")),
            "DTX_CROSSWALK_URL": str(self.directory / "crosswalks"),
            "DTX_FILES_URL": str(self.directory / "files"),
            "DTX_TARGET_URL": place.url,
            "DTX_HOME": str(place.home),
            "DTX_BATCH_ROWS": str(self.batch_rows),
            "DTX_CUTOVER_AT": CUTOVER_AT,
        }

    def start(self, place: Place, stage: Stage, **more: str) -> multiprocessing.process.BaseProcess:
        """A process that does a stage and ends with 0, or FAILED and what it `said`; `more` is environment."""
        environment = {**self.environment(place, stage), **more}
        return started(_in_process, place.home, stage, self.flows, environment)

    def do(self, place: Place, stage: Stage, **more: str) -> None:
        """The same, to its end."""
        process = self.start(place, stage, **more)
        wait_for(process)
        assert process.exitcode == 0, said(place)


def wait_for(process: multiprocessing.process.BaseProcess) -> None:
    """Until a process has ended; one that hangs is ended, and that is an error."""
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError(f"a migration hung for {PATIENCE} s")


def wait_for_first_point(process: multiprocessing.process.BaseProcess, trace: Path) -> None:
    """Until a process that traces its failpoints has reached one, or has ended."""
    while process.is_alive() and not trace.exists():
        time.sleep(0.005)


def said(place: Place) -> str:
    """What the processes of a place wrote."""
    log = place.home / "output.txt"
    return log.read_text() if log.exists() else ""


def _in_process(home: Path, stage: Stage, flows: Sequence[str], environment: Mapping[str, str]) -> None:
    work_in(home, environment, partial(undo, SYSTEM) if stage == "undo" else partial(migrate, stage, flows))


def work_in(home: Path, environment: Mapping[str, str], work: Callable[[], None]) -> None:
    """Does some work as the process of a place, of any system: what it says is `said` there, and a fault that is told
    ends the process with FAILED."""
    os.environ.update(environment)
    os.chdir(home)
    write_to(home / "output.txt", home / "output.txt")
    try:
        work()
    except MigrationError as error:
        print(error)
        sys.exit(FAILED)


def run_environment(system: System, name: str) -> RunEnvironment:
    return RunEnvironment(system, f"{name}-{uuid4().hex}", datetime.now(UTC))


def undo(system: System) -> None:
    """Undoes the last load of the second export, whether or not that was begun before."""
    with run_environment(system, "undo") as environment, psycopg.connect(environment.target_url) as connection:
        [run_id] = connection.execute(
            "SELECT run_id FROM migration.run WHERE run_id LIKE 'delta-%' ORDER BY started_at DESC LIMIT 1"
        ).fetchone() or ("",)
        connection.rollback()
        roll_back(environment, run_id)


def migrate(export: Export, flow_names: Sequence[str]) -> None:
    """Extracts, maps, prepares, loads, sends and archives what the named flows read, as the environment says."""
    # Few rows are updated here, and they are to come in slices all the same.
    slices.SLICE_ROWS, slices.SMALLEST_SLICE, slices.LARGEST_SLICE = 3, 2, 3
    with run_environment(SYSTEM, export) as environment:
        settings, lake, run = environment.settings, environment.lake, environment.load()
        flows = [flow for flow in SYSTEM.flows if flow.name in flow_names]
        tables = list(dict.fromkeys([*(source for flow in flows for source in flow.sources), ARCHIVED_ONLY]))
        with open_source(settings.legacy_url) as source:
            for name in tables:
                source.extract(SYSTEM.legacy_tables[name], lake, (SYSTEM.name, "legacy", name), run.run_id)
        with open_source(settings.crosswalk_url) as source:
            for name, table in SYSTEM.crosswalk_tables.items():
                source.extract(table, lake, (SYSTEM.name, "crosswalk", name), run.run_id)
        context = MappingContext(
            system=SYSTEM.name,
            lake=lake,
            run_id=run.run_id,
            target_url=environment.target_url,
            crosswalk_tables=SYSTEM.crosswalk_tables,
            mappings=SYSTEM.mappings,
            legacy_tables=SYSTEM.legacy_tables,
            files=environment.legacy_files(),
        )
        needed = _with_upstream({name for flow in flows for name in flow.mappings})
        for asset in SYSTEM.mapping_assets:
            if asset.name in needed:
                build_mapping_asset(asset, context)
        for flow in flows:
            prepare_flow(flow, environment.run_settings)
        for model in (model for flow in flows for model in flow.targets):
            target = SYSTEM.target(model)
            send = None
            if target.file_columns:
                noted = SentFilesOfRun(run, target.name)
                send = FileSender(target, environment.file_store(), environment.legacy_files(), noted=noted)
            load_target(
                SYSTEM.name, target, lake, environment.target_url, run, legacy_rows=_legacy_rows(lake), send=send
            )
        for name in tables:
            archived = archive_table(lake, environment.archive, SYSTEM.name, name, run.run_id)
            if name not in SYSTEM.migrated_tables:
                book_archive(run, name, archived.metadata["rows"])


def _with_upstream(names: set[str]) -> set[str]:
    every = set(names)
    for asset in reversed(SYSTEM.mapping_assets):
        if asset.name in every:
            every |= {name for layer, name in asset.upstream if layer == "mapping"}
    return every


def _legacy_rows(lake: Lake) -> Any:
    def of_table(table: str) -> pl.LazyFrame:
        declared = SYSTEM.legacy_tables[table]
        return source_key(declared, legacy_frame(lake, SYSTEM.name, declared))

    return of_table


# --- what is there afterwards -----------------------------------------------------------------------------------------

State = dict[str, list[str]]
"""Lines of JSON, sorted: what there is, told without generated ids, run ids and times."""

VIEWS = {
    "mapping": "source_table, source_key, target_table, part, target_id",
    "rejected": "source_table, source_key, target_table, reasons, partial,"
    " regexp_replace(detail, '\\(id [0-9]+\\)', '(id)', 'g') AS detail, row",
    "conflict": "source_table, source_key, target_table, part, target_id, cause, columns",
    "vanished": "source_table, source_key, target_table, part, target_id, cause",
    "journal": "target_table, target_id, before",
    "left_entry": "target_table, target_id, part, cause",
    "sent_file": "DISTINCT target_table, object_key, sha256",
}
TARGETS = {target.name for target in SYSTEM.targets if target.writes != "nothing"}
APPLICATION_COLUMN = "application_note"
OF_THE_APPLICATION = "@live.example"
"""What a live application writes beside a migration: a column of its own in any table, and rows with such a text."""
WITH_IDS_OF_OURS = {target.name for target in SYSTEM.targets if target.writes == "insert"}


def state(place: Place) -> State:
    """Every target, the current bookkeeping, the files that were sent and the archives."""
    found = target_state(place.url)
    found["sent"] = sorted(f"{key} {digest}" for key, digest in sent(place).items())
    lake, archive = Lake(str(place.home / "lake")), open_archive(str(place.home / "archive"))
    stored = archives(archive, SYSTEM.name, SYSTEM.legacy_tables)
    found["archives"] = sorted(f"{table} {manifest.metadata['content_digest']}" for table, manifest in stored.items())
    found["wrong archives"] = [wrong for table in stored for wrong in differences(lake, archive, SYSTEM.name, table)]
    return found


def target_state(url: str) -> State:
    """Every target, and the current bookkeeping."""
    found: State = {}
    with psycopg.connect(url) as connection:
        content = _target_rows(connection)
        for table, by_id in content.items():
            found[table] = sorted(text for text in by_id.values() if OF_THE_APPLICATION not in text)
        for view, columns in VIEWS.items():
            cursor = connection.execute(f"SELECT {columns} FROM migration.{view}".encode())
            names = [column.name for column in cursor.description or ()]
            lines = [dict(zip(names, values, strict=True)) for values in cursor]
            for line in lines:
                if line.get("target_id") is not None:
                    gone = f"row {line['target_id']} is gone" if view == "mapping" else "a row that is gone"
                    line["target_id"] = content[line["target_table"]].get(int(line["target_id"]), gone)
            found[view] = sorted(json.dumps(line, sort_keys=True) for line in lines)
        found["accounting"] = sorted(
            json.dumps(line)
            for line in connection.execute(
                "SELECT DISTINCT ON (source_table, target_table) source_table, target_table, read, migrated, rejected,"
                " dropped, coerced FROM migration.accounting JOIN migration.run USING (run_id)"
                " ORDER BY source_table, target_table, run.started_at DESC"
            )
        )
        claims = connection.execute(
            "SELECT load.target_table, unnest(batch.inserted_ids) FROM migration.batch"
            " JOIN migration.load ON load.id = batch.load_id WHERE batch.undone_at IS NULL"
        )
        claimed = Counter((table, number) for table, ids in claims for number in range(ids.lower, ids.upper))
        found["claimed"] = sorted(
            f"{table} {content[table].get(number, 'a row that is gone')} × {times}"
            for (table, number), times in claimed.items()
        )
        found["unfinished"] = [
            f"load of {table}"
            for (table,) in connection.execute("SELECT target_table FROM migration.load WHERE status = 'running'")
        ]
    return found


def _target_rows(connection: psycopg.Connection[Any]) -> dict[str, dict[int, str]]:
    """The content of each row by table and id; an id that this migration makes is no part of it."""
    found = {}
    for name in TARGETS:
        query = sql.SQL("SELECT id, (to_jsonb(t) - {} {})::text FROM {} AS t").format(
            sql.Literal(APPLICATION_COLUMN),
            sql.SQL("- 'id'" if name in WITH_IDS_OF_OURS else ""),
            sql.Identifier(name),
        )
        found[name] = {int(number): str(text) for number, text in connection.execute(query)}
    return found


def sent(place: Place) -> dict[str, str]:
    """The SHA-256 of each object by its key; what is half sent has no key yet."""
    return {
        str(path.relative_to(place.store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.store.rglob("*")
        if path.is_file() and not path.name.startswith(".sending-")
    }


def first_differences(expected: State, found: State, most: int = 5) -> list[str]:
    """What of a state is not as expected, a few lines of each kind; empty where all is."""
    different = []
    for kind in sorted({*expected, *found}):
        wanted, there = Counter(expected.get(kind, [])), Counter(found.get(kind, []))
        different += [f"{kind} lacks {line}" for line in list((wanted - there).elements())[:most]]
        different += [f"{kind} has {line}" for line in list((there - wanted).elements())[:most]]
    return different


def broken(killable: Killable, place: Place) -> list[str]:
    """What a killed run must not leave: half batches, documents without files, half files."""
    wrong = []
    objects = sent(place)
    with psycopg.connect(place.url) as connection:
        content = _target_rows(connection)
        if connection.execute("SELECT to_regclass('migration.mapping')").fetchone() != (None,):
            batches = connection.execute(
                "SELECT batch.part, load.target_table, batch.rows_inserted, batch.inserted_ids, (SELECT count(*)"
                " FROM migration.journal_entry WHERE batch_id = batch.id) AS journalled, batch.rows_updated"
                " FROM migration.batch JOIN migration.load ON load.id = batch.load_id WHERE batch.undone_at IS NULL"
            )
            for part, table, inserted, ids, journalled, updated in batches:
                made = [number for span in ids for number in range(span.lower, span.upper)]
                # Only somebody else deletes rows, and only the one that MEDDLING names.
                if len(made) != inserted or len(set(made) - content[table].keys()) > 1 or journalled != updated:
                    wrong.append(f"a batch of part {part} of {table} is half there")
            mapped = connection.execute("SELECT target_table, target_id::bigint FROM migration.mapping")
            missing = Counter(table for table, number in mapped if number not in content[table])
            wrong += [f"{count} mapped rows of {table} are not there" for table, count in missing.items() if count > 1]
    for row in map(json.loads, content["docutrax_profiles_document"].values()):
        if objects.get(row["file"]) != row["content_hash"]:
            wrong.append(f"the file {row['file']} is not there whole, and its row is")
    for key, digest in objects.items():
        number = int(key.split("/")[2])
        name = f"{number}.pdf" if number < LATER else f"{number - LATER}-later.pdf"
        if hashlib.sha256((killable.directory / "files" / name).read_bytes()).hexdigest() != digest:
            wrong.append(f"{key} is half a file")
    return wrong


# --- places to start from ---------------------------------------------------------------------------------------------


def copied(of: Place, server: EmbeddedPostgres, scratch: Path, name: str) -> Place:
    """A copy of a place, its database included, to which nobody may be connected."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        # Not by write-ahead log: PostgreSQL 15 would forget after a crash which ids the copied sequences gave out.
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(of.url.rpartition("/")[2])
            )
        )
    shutil.copytree(of.home, scratch / name)
    return Place(scratch / name, server.database_url(name))


def removed(place: Place, server: EmbeddedPostgres) -> None:
    server.drop_database(place.url.rpartition("/")[2])
    shutil.rmtree(place.home)


class Beginnings:
    """What each stage starts from and ends with when nobody disturbs it, and copies of the beginnings to kill in."""

    def __init__(self, killable: Killable, server: EmbeddedPostgres, scratch: Path) -> None:
        self.killable, self.server, self.scratch = killable, server, scratch
        self.expected: dict[Stage, State] = {}
        self.reached: dict[Stage, Counter[str]] = {}
        self.seconds: dict[Stage, float] = {}
        """From the first failpoint to the end."""
        self._begin: dict[Stage, Place] = {}
        self._places: list[Place] = []
        scratch.mkdir()
        write_world(killable.directory, killable.customers)

    def __enter__(self) -> Self:
        place = self._empty()
        for stage in STAGES:
            place = self._undisturbed(stage, place)
        return self

    def _undisturbed(self, stage: Stage, begin: Place) -> Place:
        """Where a stage ends that begins there."""
        with psycopg.connect(begin.url) as connection:
            for statement in MEDDLING[stage]:
                connection.execute(statement.encode())
        ended, trace = self._copy(begin), self.scratch / f"{stage}.trace"
        process = self.killable.start(ended, stage, **{TRACE: str(trace)})
        wait_for_first_point(process, trace)
        started = time.monotonic()
        wait_for(process)
        assert process.exitcode == 0, said(ended)
        self.seconds[stage] = time.monotonic() - started
        self.reached[stage] = Counter(trace.read_text().split())
        self._begin[stage], self.expected[stage] = begin, state(ended)
        return ended

    def __exit__(self, *_: object) -> None:
        for place in self._places:
            self._remove(place)

    def _name(self) -> str:
        return f"kill_{uuid4().hex}"

    def _empty(self) -> Place:
        place = Place(self.scratch / self._name(), self.server.create_database(self._name()))
        self._places.append(place)
        place.home.mkdir()
        with psycopg.connect(place.url) as connection:
            create_target(connection, SYSTEM.targets)
            load_other_areas(connection, self.killable.directory / "target")
        return place

    def _copy(self, of: Place) -> Place:
        place = copied(of, self.server, self.scratch, self._name())
        self._places.append(place)
        return place

    def _remove(self, place: Place) -> None:
        removed(place, self.server)

    @contextmanager
    def place(self, stage: Stage) -> Iterator[Place]:
        """A copy of where a stage begins, gone afterwards."""
        place = self._copy(self._begin[stage])
        try:
            yield place
        finally:
            self._places.remove(place)
            self._remove(place)

    def wrong_after(self, place: Place, stage: Stage) -> list[str]:
        """What is wrong where a stage was killed, and what is different when it was run again; empty where nothing."""
        wait_until_alone(place.url)
        wrong = broken(self.killable, place)
        self.killable.do(place, stage)
        return wrong + first_differences(self.expected[stage], state(place))

    def stage_that_reaches(self, point: str) -> tuple[Stage, int]:
        """The last stage that reaches a failpoint, and how often; AssertionError where none does."""
        for stage in reversed(STAGES):
            if times := self.reached[stage][point]:
                return stage, times
        raise AssertionError(f"no stage reaches {point}: add to the world what leads there")


def wait_until_alone(url: str) -> None:
    """Until the server has noticed that the process that was killed is gone."""
    with psycopg.connect(url, autocommit=True) as connection:
        sessions.wait_until_alone(connection)


def killed_at(beginnings: Beginnings, stage: Stage, point: str, nth: int) -> list[str]:
    """What is wrong after a process was killed at a point, and after it was run again; empty where nothing is."""
    killable = beginnings.killable
    with beginnings.place(stage) as place:
        proof = place.home / "proof"
        process = killable.start(place, stage, **{FAILPOINT: f"{point}:{nth}", PROOF: str(proof)})
        wait_for(process)
        if not proof.exists() or proof.read_text() != f"{point}:{nth} killed process {process.pid}\n":
            return [f"the failpoint did not fire; the process ended with {process.exitcode}: {said(place)}"]
        if process.exitcode != -signal.SIGKILL:
            return [f"the process was not killed, it ended with {process.exitcode}"]
        return beginnings.wrong_after(place, stage)
