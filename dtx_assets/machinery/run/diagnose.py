"""The preflight: whether everything a run needs is there, asked of all places before any of them is written.

It reads, and leaves nothing behind: the target is asked in read-only transactions, what is landed for it is landed in a
scratch directory, and the probes of the lake, the archive and the object store are deleted again. An embedded target
that is not there yet is not made.
"""

import errno
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import uuid4

import obstore
import polars as pl
import psycopg
from obstore.exceptions import BaseError as ObjectStoreError
from packaging.requirements import Requirement
from psycopg import sql

from dtx_assets.machinery.base.errors import MigrationError
from dtx_assets.machinery.base.lake import Lake, s3_store
from dtx_assets.machinery.base.settings import app_environment, mask_url
from dtx_assets.machinery.checks.crosswalks import crosswalk_users, unmatched_ids
from dtx_assets.machinery.files.inventory import LegacyFiles
from dtx_assets.machinery.load import compare_target, live_target
from dtx_assets.machinery.load.rules import rules_of, surprising
from dtx_assets.machinery.load.runs import SCHEMA_VERSION
from dtx_assets.machinery.look_ups.assets import MappingContext, read_target_rows
from dtx_assets.machinery.model.legacy import ColumnKind, LegacyTable
from dtx_assets.machinery.model.target import TargetTable, polars_type
from dtx_assets.machinery.postgres.connection import Connection, connect
from dtx_assets.machinery.postgres.ddl import LiveTarget
from dtx_assets.machinery.postgres.embedded import embedded_postgres
from dtx_assets.machinery.postgres.sessions import ROWS_REMEDY
from dtx_assets.machinery.run.environment import RunEnvironment, local_directory
from dtx_assets.machinery.sources import Source, open_source
from dtx_assets.machinery.sources.csv_files import S3_ERROR_CODE, CsvDirectory, CsvPrefix
from dtx_assets.machinery.sources.frames import legacy_frame
from dtx_assets.machinery.sources.remarks import Remarking
from dtx_assets.machinery.transforms.columns import kind_of_ids

State = Literal["yes", "no", "warn"]

OLDEST_SERVER = 130000
"""PostgreSQL as `server_version` counts it: the oldest one that gets security updates."""
CLOCK_WARNING, CLOCK_ERROR = timedelta(seconds=2), timedelta(minutes=1)
SECONDS_TO_CONNECT = 10
PROBE_RETRIES: Any = {"max_retries": 1, "retry_timeout": timedelta(seconds=SECONDS_TO_CONNECT)}
SHOWN_NAMES = 8

BYTES_IN = {"lake": 1.0, "archive": 0.5, "home": 0.1}
"""Bytes that a run keeps for each byte of the source: about twice of what was measured on 27 MB of CSV."""
BYTES_OF_EMBEDDED_TARGET = 10.0
LEAST_FREE = 200 << 20
"""What the history, the logs and an empty cluster take."""

FOLDED: Mapping[str, tuple[str, ...]] = {
    "insert": ("SELECT", "INSERT", "UPDATE"),
    "update": ("SELECT", "UPDATE"),
    "nothing": ("SELECT",),
}
"""The rights that a load needs on a table, by what it writes there."""

Now = Callable[[], datetime]


@dataclass(frozen=True)
class Finding:
    """One line of the preflight: what was looked at, whether it will do, what was seen, and what to do about it."""

    part: str
    subject: str
    state: State
    says: str = ""
    remedy: str = ""


def diagnose(environment: RunEnvironment, *, now: Now = lambda: datetime.now(UTC)) -> list[Finding]:
    """All findings, in the order of the run. Raises ConfigurationError only where the settings make no sense."""
    return [finding for part in parts(environment, now) for finding in part]


def parts(environment: RunEnvironment, now: Now) -> Iterator[list[Finding]]:
    settings = environment.settings
    yield [*program(), configuration(environment)]
    with ExitStack() as stack:
        sources = Sources(environment, stack)
        yield sources.findings
        target = Target(environment, stack, now)
        yield target.findings
        yield list(areas(environment, sources, target))
        yield [
            place("lake", settings.lake_url, environment.s3),
            place("archive", settings.archive_url, environment.s3),
        ]
        if any(table.file_columns for table in environment.system.targets):
            yield [place("object store", settings.object_store_url, environment.s3), files_root(settings.files_url)]
        yield list(free_disk(environment, sources.stored_bytes))


@contextmanager
def refusal(found: list[Finding], part: str, subject: str) -> Iterator[None]:
    """An error that users are meant to read becomes a finding."""
    try:
        yield
    except MigrationError as error:
        what = f"{error.what} ({error.where})" if error.where else error.what
        found.append(Finding(part, subject, "no", what, error.remedy or ""))


# --- this program -----------------------------------------------------------------------------------------------------


def program() -> Iterator[Finding]:
    """Python and the packages that the distribution asks for."""
    yield Finding("program", "Python", "yes", sys.version.split()[0])
    try:
        yield packages(asked_for())
    except metadata.PackageNotFoundError as error:
        yield Finding("program", "packages", "warn", f"{error.name} is not installed here", "make install")


def asked_for() -> list[str]:
    """The requirements of this program: of its checkout, whose installation may be older, else as it was installed."""
    project = Path(__file__).parents[3] / "pyproject.toml"
    if project.is_file():
        asked: list[str] = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
        return asked
    return metadata.requires(__name__.partition(".")[0].replace("_", "-")) or []


def packages(asked: Sequence[str]) -> Finding:
    """Whether what is installed is of the versions that are asked for; extras are for development."""
    wrong = []
    requirements = [Requirement(text) for text in asked]
    needed = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, and {requirement.specifier} is needed")
    if wrong:
        return Finding("program", "packages", "no", "; ".join(wrong), "make install")
    versions = {each.name: metadata.version(each.name) for each in needed}
    shown = ", ".join(f"{name} {versions[name]}" for name in ("dagster", "polars", "psycopg") if name in versions)
    return Finding("program", "packages", "yes", f"{len(needed)} as they should be: {shown}")


def configuration(environment: RunEnvironment) -> Finding:
    chosen = environment.decisions.chosen
    says = f"APP_ENV {app_environment()}, mode {environment.mode}, {len(chosen)} decisions"
    return Finding("program", "configuration", "yes", says)


# --- the source -------------------------------------------------------------------------------------------------------


class Sources:
    """Legacy tables and crosswalks where they are now; they stay open as long as `stack`."""

    def __init__(self, environment: RunEnvironment, stack: ExitStack) -> None:
        self.environment = environment
        self.findings: list[Finding] = []
        self.readable: dict[str, Source] = {}
        self.stored_bytes = 0
        system, settings = environment.system, environment.settings
        opened: dict[str, Source | None] = {}
        for part, url, declared in (
            ("source", settings.legacy_url, system.legacy_tables),
            ("crosswalks", settings.crosswalk_url, system.crosswalk_tables),
        ):
            if url not in opened:
                opened[url] = self._open(part, url, stack)
            source = opened[url]
            if source is None:
                continue
            if opened[url] and part == "crosswalks" and url == settings.legacy_url:
                self.findings.append(Finding(part, "connection", "yes", f"the same as the source, {mask_url(url)}"))
            self._look_at(part, source, declared)

    def _open(self, part: str, url: str, stack: ExitStack) -> Source | None:
        source = None
        with refusal(self.findings, part, "connection"):
            dialects = self.environment.dialects_of(url)
            source = stack.enter_context(open_source(url, s3_resource=self.environment.s3, dialects=dialects))
            count = len(source.tables())
            self.findings.append(Finding(part, "connection", "yes", f"{mask_url(url)}, {count} tables"))
            if isinstance(source, CsvDirectory | CsvPrefix):
                self.findings.append(Finding(part, "dialect", "yes", str(dialects)))
        return source

    def _look_at(self, part: str, source: Source, declared: Mapping[str, LegacyTable]) -> None:
        readable: list[LegacyTable] = []
        wrong: list[Finding] = []
        required = self._required_by_flows()
        for table in declared.values():
            with refusal(wrong, part, f"table {table.shown}"):
                columns = source.columns(table)
                readable.append(table)
                self.readable[table.name] = source
                wrong += missing_columns(part, table, (*table.required, *required.get(table.name, ())), columns)
        if readable:
            says = f"{len(readable)} of {len(declared)} tables can be read"
            self.findings.append(Finding(part, "tables", "yes" if len(readable) == len(declared) else "no", says))
        self.findings += wrong
        if isinstance(source, Remarking):
            with refusal(self.findings, part, "what is not read"):
                for remark in source.remarks(readable, self.environment.settings.legacy_timezone):
                    self.findings.append(Finding(part, remark.subject, "warn", remark.says, remark.remedy))
        with refusal(self.findings, part, "size"):
            self.stored_bytes += source.stored_bytes(readable)

    def _required_by_flows(self) -> dict[str, tuple[str, ...]]:
        required: dict[str, tuple[str, ...]] = {}
        for flow in self.environment.system.flows:
            for table, columns in flow.required(self.environment.decisions.chosen).items():
                required[table] = (*required.get(table, ()), *columns)
        return required


def missing_columns(
    part: str, table: LegacyTable, required: Sequence[str], present: Collection[str]
) -> Iterator[Finding]:
    """Columns a flow cannot do without, and those that would count as NULL throughout."""
    subject = f"table {table.shown}"
    remedy = "export the table whole, with these columns"
    if needed := [name for name in dict.fromkeys(required) if name not in present]:
        yield Finding(part, subject, "no", f"required columns are missing: {', '.join(needed)}", remedy)
    if others := [name for name in table.columns if name not in present and name not in required]:
        says = f"columns are missing, and count as NULL: {shortened(others)}"
        yield Finding(part, subject, "warn", says, remedy)


# --- the target -------------------------------------------------------------------------------------------------------


class Target:
    """The target database, asked in read-only transactions. `tables` are those that are as they should be."""

    def __init__(self, environment: RunEnvironment, stack: ExitStack, now: Now) -> None:
        self.environment, self.now = environment, now
        self.findings: list[Finding] = []
        self.tables: set[str] = set()
        self.url = self._url(stack)
        self.connection: Connection | None = None
        if self.url is None:
            return
        with refusal(self.findings, "target", "connection"):
            self.connection = stack.enter_context(connect(with_time_limit(self.url)))
        if self.connection is None:
            return
        self._server(self.connection)
        for table in self._needed():
            try:
                self._look_at(self.connection, table)
            except psycopg.Error as error:
                says = error.diag.message_primary or type(error).__name__
                self._found(f"table {table.name}", "no", says, "let this user see and use the table")

    def _found(self, subject: str, state: State, says: str, remedy: str = "") -> None:
        self.findings.append(Finding("target", subject, state, says, remedy))

    def _url(self, stack: ExitStack) -> str | None:
        settings = self.environment.settings
        if settings.target_url is not None:
            return settings.target_url
        name = self.environment.system.name
        if (settings.home / "postgres").is_dir():
            with refusal(self.findings, "target", "connection"):
                server = stack.enter_context(embedded_postgres(settings.home))
                with psycopg.connect(server.url) as connection:
                    if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                        return server.database_url(name)
            if self.findings:
                return None
        self._found(
            "connection",
            "warn",
            "the embedded PostgreSQL: the first run makes it",
            f"for another one, set {name.upper()}_TARGET_URL",
        )
        return None

    # --- the server ---

    def _server(self, connection: Connection) -> None:
        before = self.now()
        [version, number, database, user, in_recovery, read_only, clock] = connection.execute(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int,"
            " current_database(), current_user, pg_is_in_recovery(),"
            " current_setting('transaction_read_only')::boolean, clock_timestamp()"
        ).fetchall()[0]
        after = self.now()
        # From here on nothing can be written, whatever goes wrong.
        connection.execute("SET default_transaction_read_only = on")
        self._found("connection", "yes", f"database {database} as {user}")
        state: State = "yes" if number >= OLDEST_SERVER else "warn"
        self._found("server", state, f"PostgreSQL {version}", "" if state == "yes" else "use PostgreSQL 13 or newer")
        if in_recovery:
            self._found("can be written", "no", "a replica in recovery", "give the URL of the primary server")
        elif read_only:
            self._found(
                "can be written",
                "no",
                "transactions are read-only here (default_transaction_read_only)",
                "give the URL of the primary server, or set default_transaction_read_only off for this user",
            )
        else:
            self._found("can be written", "yes", "not a replica")
        self._clock(clock - (before + (after - before) / 2))
        self._database_rights(connection)
        self._bookkeeping(connection)

    def _clock(self, difference: timedelta) -> None:
        seconds = difference.total_seconds()
        says = f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine"
        remedy = "set both clocks by NTP: times of runs and files are compared"
        if abs(difference) > CLOCK_ERROR:
            self._found("clock", "no", says, remedy)
        elif abs(difference) > CLOCK_WARNING:
            self._found("clock", "warn", says, remedy)
        else:
            self._found("clock", "yes", f"{abs(seconds):.1f} s from this machine's")

    def _database_rights(self, connection: Connection) -> None:
        [temporary] = connection.execute(
            "SELECT has_database_privilege(current_database(), 'TEMPORARY')"
        ).fetchone() or [False]
        if not temporary:
            remedy = "GRANT TEMPORARY ON DATABASE … TO …"
            self._found("temporary tables", "no", "this user may make none, and a load needs them", remedy)

    def _bookkeeping(self, connection: Connection) -> None:
        """The schema `migration`: there in this version and usable, or to be made."""
        subject = "schema migration"
        [oid, usable] = connection.execute(
            "SELECT oid, has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'migration'"
        ).fetchone() or [None, False]
        if oid is None:
            [create] = connection.execute("SELECT has_database_privilege(current_database(), 'CREATE')").fetchone() or [
                False
            ]
            if create:
                self._found(subject, "yes", "is made by the first run")
            else:
                says = "is not there, and this user may not create it"
                self._found(subject, "no", says, "GRANT CREATE ON DATABASE … TO …")
            return
        if not usable:
            self._found(subject, "no", "this user may not use it", "GRANT USAGE ON SCHEMA migration TO …")
            return
        refused = [
            str(name)
            for (name,) in connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = %s AND relkind IN ('r', 'p') AND NOT ("
                " has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')"
                " AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')) ORDER BY 1",
                [oid],
            )
        ]
        if refused:
            says = f"this user may not write {shortened(refused)}"
            self._found(subject, "no", says, "use the account that made it, or make this one its owner")
            return
        try:
            [version] = connection.execute("SELECT max(version) FROM migration.schema_version").fetchone() or [None]
        except psycopg.errors.UndefinedTable:
            says = "is there, and is not the bookkeeping of this product"
            self._found(subject, "no", says, "rename that schema, or use another database")
            return
        if version == SCHEMA_VERSION:
            self._found(subject, "yes", f"version {version}")
        else:
            says = f"has version {version}, and this program knows {SCHEMA_VERSION}"
            self._found(subject, "no", says, "use the version of this program that wrote it")

    # --- tables ---

    def _needed(self) -> list[TargetTable]:
        """The tables that flows fill, those of other areas that mappings read, and those that rows refer to."""
        system = self.environment.system
        filled = {target.model for target in system.filled_targets}
        used = {name for flow in system.flows for name in flow.mappings}
        read = {
            model for asset in system.mapping_assets if asset.name in used for layer, model in asset.upstream
            if layer == "target"
        }  # fmt: skip
        chosen = self.environment.decisions.chosen
        referred = {
            column.references
            for target in system.targets
            if target.model in filled
            for column in target.columns_under(chosen)
        }
        needed = []
        for target in system.targets:
            if target.model in filled:
                needed.append(target)
            elif target.model in read or (target.name in referred and target.writes == "nothing"):
                needed.append(replace(target, writes="nothing"))
        return needed

    def _look_at(self, connection: Connection, table: TargetTable) -> None:
        subject = f"table {table.name}" if table.writes == "nothing" else f"table {table.name} ({table.model})"
        live = live_target(connection, table.name)
        differences = compare_target(live, table, self.environment.decisions.chosen)
        for difference in differences:
            place = f"{subject}.{difference.column}" if difference.column else subject
            remedy = (
                "bring the schema of the target and the declaration of the table together"
                if difference.fatal
                else "values that do not fit are rejected row by row"
            )
            self._found(place, "no" if difference.fatal else "warn", f"{difference.kind}: {difference.detail}", remedy)
        if live is None:
            return
        rights = self._rights(connection, table, live)
        if rights:
            granted = ", ".join(rights)
            self._found(subject, "no", f"this user lacks {granted}", f"GRANT {granted} ON {table.name} TO …")
        self._surprises(connection, subject, table, live)
        if not rights and not any(difference.fatal for difference in differences):
            self.tables.add(table.name)
            self._found(subject, "yes", "is read" if table.writes == "nothing" else f"can take {table.writes}s")

    def _rights(self, connection: Connection, table: TargetTable, live: LiveTarget) -> list[str]:
        """The rights that are missing, those on single columns only counted as there."""
        names = [name for name in ("id", *(column.name for column in table.columns)) if name in live.columns]
        missing = []
        for right in FOLDED[table.writes]:
            columns = [name for name in names if right != "UPDATE" or name != "id"]
            [granted] = connection.execute(
                "SELECT coalesce(bool_and(has_column_privilege(%s::oid, name, %s)), true)"
                " FROM unnest(%s::text[]) AS name",
                [live.oid, right, columns],
            ).fetchone() or [False]
            missing += [] if granted else [right]
        if table.writes == "insert" and live.id_sequence:
            [usable] = connection.execute(
                "SELECT has_sequence_privilege(%s, 'USAGE')", [live.id_sequence]
            ).fetchone() or [False]
            missing += [] if usable else [f"USAGE of sequence {live.id_sequence}"]
        return missing

    def _surprises(self, connection: Connection, subject: str, table: TargetTable, live: LiveTarget) -> None:
        """What would happen to rows, or hide them, without anybody having asked for it."""
        triggers = [
            str(name)
            for (name,) in connection.execute(
                "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::oid AND NOT tgisinternal AND tgenabled <> 'D'"
                " ORDER BY 1",
                [live.oid],
            )
        ]
        if triggers and table.writes != "nothing":
            says = f"has triggers, which fire for every row that is written: {shortened(triggers)}"
            remedy = "read what they do; let their owner disable them for the cutover if they send or count anything"
            self._found(subject, "warn", says, remedy)
        refusing = [rule for rule in surprising(rules_of(connection, live), table) if rule.kind != "trigger"]
        if refusing and table.writes != "nothing":
            says = f"may refuse rows for what is not declared: {shortened([str(rule) for rule in refusing])}"
            remedy = (
                "nothing has to be done: a plan finds the rows that they refuse, and a load rejects them one by one"
            )
            self._found(subject, "warn", says, remedy)
        [secured] = connection.execute("SELECT row_security_active(%s::oid)", [live.oid]).fetchone() or [False]
        if secured:
            self._found(subject, "no", "row-level security hides rows from this user", ROWS_REMEDY)
        if table.writes == "nothing" and not self._has_rows(connection, table):
            self._found(subject, "no", "has no rows", f"load the area it belongs to first: {table.area}")

    def _has_rows(self, connection: Connection, table: TargetTable) -> bool:
        try:
            statement = sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(sql.Identifier(table.name))
            return connection.execute(statement).fetchone() == (True,)
        except psycopg.errors.InsufficientPrivilege:
            # Told by its own line.
            return True


def with_time_limit(url: str) -> str:
    """The URL, with a limit to the time a server has to answer, unless it names one."""
    if "connect_timeout=" in url:
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}connect_timeout={SECONDS_TO_CONNECT}"


# --- other areas ------------------------------------------------------------------------------------------------------


def areas(environment: RunEnvironment, sources: Sources, target: Target) -> Iterator[Finding]:
    """Whether the crosswalks know the ids that the legacy tables have, and rows already lie where ours would go."""
    if target.connection is None or target.url is None:
        yield Finding(
            "areas", "crosswalks and rows of others", "warn", "not looked at: there is no target database yet"
        )
        return
    found: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="diagnose-") as scratch:
        found += crosswalk_coverage(environment, sources, target.url, Lake(scratch))
    for table in target.environment.system.targets:
        if table.name in target.tables and table.writes == "insert" and table.natural_key:
            with refusal(found, "areas", f"rows in {table.name}"):
                found.append(rows_of_others(environment, target.url, table))
    yield from found


def crosswalk_coverage(environment: RunEnvironment, sources: Sources, url: str, scratch: Lake) -> Iterator[Finding]:
    """For each crosswalk and each column whose ids go through it: how many of its ids have a row in the target."""
    system = environment.system
    landed: set[str] = set()

    def land(layer: str, table: LegacyTable) -> None:
        if table.name not in landed:
            sources.readable[table.name].extract(table, scratch, (system.name, layer, table.name), "diagnose")
            landed.add(table.name)

    context = MappingContext(
        system=system.name,
        lake=scratch,
        run_id="diagnose",
        target_url=url,
        crosswalk_tables=system.crosswalk_tables,
        mappings=system.mappings,
        legacy_tables=system.legacy_tables,
        files=LegacyFiles(Path(environment.settings.files_url)),
    )
    for asset in system.mapping_assets:
        users = crosswalk_users(system, asset.name)
        if asset.kind != "crosswalk" or not users:
            continue
        subject = f"crosswalk {asset.name}"
        handed_over = [name for layer, name in asset.upstream if layer == "legacy" and name in system.crosswalk_tables]
        if unread := [name for name in handed_over if name not in sources.readable]:
            yield Finding("areas", subject, "no", f"cannot be read: {', '.join(unread)}", "see its line above")
            continue
        found: list[Finding] = []
        with refusal(found, "areas", subject):
            for name in handed_over:
                land("crosswalk", system.crosswalk_tables[name])
            crosswalk = asset.build(context).collect()
            found.append(crosswalk_content(subject, crosswalk))
            for name, column in users:
                table = system.legacy_tables[name]
                if name in sources.readable:
                    land("legacy", table)
                    rows = legacy_frame(scratch, system.name, replace(table, required=()))
                    found.append(coverage(f"{subject}: {name}.{column}", rows, column, crosswalk.lazy(), asset.ids))
        yield from found


def crosswalk_content(subject: str, crosswalk: pl.DataFrame) -> Finding:
    usable = crosswalk.get_column("target_id").drop_nulls().len()
    says = f"{crosswalk.height:,} ids, {usable:,} of them with a row in the target"
    if not usable:
        return Finding("areas", subject, "no", says, "load the area it belongs to, and ask for its crosswalk")
    return Finding("areas", subject, "yes", says)


def coverage(
    subject: str, rows: pl.LazyFrame, column: str, crosswalk: pl.LazyFrame, ids: ColumnKind = "integer"
) -> Finding:
    """`no` where not one id is known, `warn` where some are not: their rows would be rejected."""
    unmatched = unmatched_ids(rows, column, crosswalk, kind_of_ids(crosswalk.select("source_id"), ids))
    known = unmatched.distinct - unmatched.ids
    says = f"{known:,} of {unmatched.distinct:,} distinct ids"
    if not unmatched.ids:
        return Finding("areas", subject, "yes", says)
    examples = ", ".join(map(str, unmatched.examples[:SHOWN_NAMES]))
    says = f"{says}; {unmatched.rows:,} rows have none of them, such as {examples}"
    remedy = "ask the area that owns the crosswalk for these ids: their rows are rejected, or have no reference"
    return Finding("areas", subject, "warn" if known else "no", says, remedy)


def rows_of_others(environment: RunEnvironment, url: str, table: TargetTable) -> Finding:
    """Rows that this migration did not write, and those of them with the natural key of a prepared row."""
    subject = f"rows in {table.name}"
    types = {name: polars_type(table.column(name).type) for name in table.natural_key}
    system = environment.system
    others = read_target_rows(url, table.name, types, inserted_by=system.name)
    lake = existing_lake(environment)
    manifest = lake.manifest((system.name, "prepared", table.model)) if lake else None
    if lake is None or manifest is None:
        if not others.height:
            return Finding("areas", subject, "yes", "none of others")
        says = f"{others.height:,} of others; not yet prepared, so nobody knows which of them are in the way"
        return Finding("areas", subject, "warn", says, f"`{system.name} plan` prepares, and tells")
    keys = lake.scan(manifest.key, manifest=manifest).select(table.natural_key).unique().collect()
    same = others.join(keys, on=list(table.natural_key), how="semi", nulls_equal=table.nulls_equal).height
    says = f"{others.height:,} of others, {same:,} with the natural key of a prepared row"
    if not same:
        return Finding("areas", subject, "yes", says)
    remedy = f"equal ones are adopted, others are conflicts (decision keep_target): `{system.name} plan` lists them"
    return Finding("areas", subject, "warn", says, remedy)


def existing_lake(environment: RunEnvironment) -> Lake | None:
    """The lake, unless it is a directory that a first run would have to make, or no lake at all."""
    directory = local_directory(environment.settings.lake_url)
    if directory and not directory.is_dir():
        return None
    try:
        return environment.lake if not directory else Lake(str(directory))
    except MigrationError:
        return None


# --- places -----------------------------------------------------------------------------------------------------------


def place(part: str, url: str, s3: Any) -> Finding:
    """Whether something can be written there: a probe is written, and deleted again."""
    directory = local_directory(url)
    return writable_directory(part, directory) if directory else writable_bucket(part, url, s3)


def writable_directory(part: str, directory: Path) -> Finding:
    nearest = existing_parent(directory)
    try:
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(b"diagnose")
            probe.flush()
    except OSError as error:
        says = f"{nearest} cannot be written: {error.strerror or type(error).__name__}"
        return Finding("places", part, "no", says, "let this account write there, or name another directory")
    made = "" if nearest == directory else ", which the first run makes"
    return Finding("places", part, "yes", f"{directory}{made}")


def writable_bucket(part: str, url: str, s3: Any) -> Finding:
    store = s3_store(url, s3, retry_config=PROBE_RETRIES)
    probe = f".diagnose-{uuid4().hex}"
    try:
        obstore.put(store, probe, b"diagnose")
        try:
            read = bytes(obstore.get(store, probe).bytes())
        finally:
            with suppress(FileNotFoundError):
                obstore.delete(store, probe)
    except (ObjectStoreError, OSError) as error:
        # The message as a whole is long, and names the access key.
        answer = S3_ERROR_CODE.search(str(error))
        says = f"{url}: the S3 server answers {answer[1]}" if answer else f"{url}: the S3 server cannot be reached"
        remedy = (
            "check bucket, prefix, AWS_ENDPOINT_URL, AWS_REGION and that the AWS_* credentials may put, get, delete"
        )
        return Finding("places", part, "no", says, remedy)
    if read != b"diagnose":
        return Finding("places", part, "no", f"{url} gives back something else than was put there", "check the server")
    return Finding("places", part, "yes", f"{url} takes, gives and deletes objects")


def files_root(location: str) -> Finding:
    root = Path(location)
    try:
        with os.scandir(root) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        says = f"{root} cannot be read: {error.strerror or type(error).__name__}"
        return Finding("places", "files", "no", says, "mount the legacy files there, or name their root")
    if is_empty:
        return Finding("places", "files", "warn", f"{root} is empty: every file will be missing", "mount the files")
    return Finding("places", "files", "yes", str(root))


def free_disk(environment: RunEnvironment, source_bytes: int) -> Iterator[Finding]:
    """For each local file system: what is free there, beside what a run of a source of this size may take."""
    settings = environment.settings
    home = BYTES_IN["home"] + (BYTES_OF_EMBEDDED_TARGET if settings.target_url is None else 0)
    shares = (("lake", settings.lake_url, BYTES_IN["lake"]), ("archive", settings.archive_url, BYTES_IN["archive"]))
    used: dict[int, list[tuple[str, Path, float]]] = {}
    for name, url, share in (*shares, ("home", str(settings.home), home)):
        if directory := local_directory(url):
            nearest = existing_parent(directory)
            used.setdefault(nearest.stat().st_dev, []).append((name, nearest, share))
    for places in used.values():
        free = shutil.disk_usage(places[0][1]).free
        needed = int(sum(share for _, _, share in places) * source_bytes) + LEAST_FREE
        says = f"{size_text(free)} free, about {size_text(needed)} needed for {size_text(source_bytes)} of source"
        subject = f"disk of {', '.join(name for name, _, _ in places)}"
        if free < needed:
            yield Finding("places", subject, "no", says, "make room, or put the lake and the archive elsewhere")
        elif free < 2 * needed:
            yield Finding("places", subject, "warn", says, "a second version of changed tables may not fit: make room")
        else:
            yield Finding("places", subject, "yes", says)


def existing_parent(path: Path) -> Path:
    """The path itself, or the nearest of what it lies in that is there."""
    return next(each for each in (path, *path.parents) if each.exists())


def size_text(size: int) -> str:
    return f"{size / (1 << 30):,.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):,.1f} MiB"


def shortened(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
