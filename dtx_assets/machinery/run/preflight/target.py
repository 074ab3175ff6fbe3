"""The target database: whether a load finds tables, rights and bookkeeping there, and what would surprise it."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from dtx_assets.machinery.load import compare_target, live_target
from dtx_assets.machinery.load.indexes_after import left_out
from dtx_assets.machinery.load.rules import rules_of, surprising
from dtx_assets.machinery.load.runs import SCHEMA_VERSION
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect
from dtx_assets.machinery.postgres.ddl import LiveTarget, qualified
from dtx_assets.machinery.postgres.embedded import embedded_postgres
from dtx_assets.machinery.postgres.foreign_keys import live_references, reference_differences
from dtx_assets.machinery.postgres.sessions import ROWS_REMEDY
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.preflight.finding import SECONDS_TO_CONNECT, Finding, Now, State, refusal, shortened

OLDEST_SERVER = 130000
"""PostgreSQL as `server_version` counts it: the oldest one that gets security updates."""
CLOCK_WARNING, CLOCK_ERROR = timedelta(seconds=2), timedelta(minutes=1)
FOLDED: Mapping[str, tuple[str, ...]] = {
    "insert": ("SELECT", "INSERT", "UPDATE"),
    "update": ("SELECT", "UPDATE"),
    "nothing": ("SELECT",),
}
"""The rights that a load needs on a table, by what it writes there."""


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
        with refusal(self.findings, "target", "foreign keys"):
            self._foreign_keys(self.connection)
            self.findings += findings_of_left_out(self.connection, self.environment.system.name)
        with refusal(self.findings, "target", "rights on reference tables"):
            self._rights_on_reference_tables(self.connection)

    def _rights_on_reference_tables(self, connection: Connection) -> None:
        """Whether this user may do more to the tables that are only looked up, and those beside them, than read."""
        system = self.environment.system
        beside = {table.schema for table in system.tables_of_others if table.schema}
        names = [qualified(table).as_string() for table in system.tables_of_others if table.schema in beside]
        found = connection.execute(
            "SELECT relation.oid::regclass::text, string_agg(may.what, ', ' ORDER BY may.what) FROM unnest(%s::text[])"
            " AS name JOIN pg_class AS relation ON relation.oid = to_regclass(name)"
            " CROSS JOIN unnest(ARRAY['DELETE', 'INSERT', 'TRUNCATE', 'UPDATE']) AS may (what)"
            " WHERE has_table_privilege(relation.oid, may.what) GROUP BY 1 ORDER BY 1",
            [names],
        ).fetchall()
        if found:
            says = f"this user may also write {shortened([f'{table} ({rights})' for table, rights in found])}"
            self._found(
                "rights on reference tables", "warn", says, "nothing here needs that: run as a user who may SELECT only"
            )
        elif names:
            self._found("rights on reference tables", "yes", "no more than SELECT")

    def _found(self, subject: str, state: State, says: str, remedy: str = "", *, stops: bool = True) -> None:
        self.findings.append(Finding("target", subject, state, says, remedy, stops))

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
            self._found("clock", "no", says, remedy, stops=False)
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
        live = live_target(connection, table)
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
        if of_sequence := self._rights_on_sequence(connection, table, live):
            granted = f"{', '.join(of_sequence)} ON SEQUENCE {live.id_sequence}"
            does = "raise above the ids that are kept" if table.key_is_written else "take new ids from"
            says = f"this user lacks {granted}, which a load has to {does}"
            self._found(f"sequence {live.id_sequence}", "no", says, f"GRANT {granted} TO …")
        self._surprises(connection, subject, table, live)
        if not rights and not of_sequence and not any(difference.fatal for difference in differences):
            self.tables.add(table.name)
            self._found(subject, "yes", "is read" if table.writes == "nothing" else f"can take {table.writes}s")

    def _foreign_keys(self, connection: Connection) -> None:
        """Whether they are those that the loads follow."""
        filled = self.environment.system.filled_targets
        found = live_references(connection, filled)
        differences = reference_differences(found, filled, self.environment.decisions.chosen)
        for difference in differences:
            state: State = "no" if difference.fatal else "warn"
            remedy = (
                "bring the foreign keys and the declaration of the tables together"
                if difference.fatal
                else "nothing has to be done if their owner left it out; else let them add it"
            )
            if difference.fatal:
                self.tables.discard(difference.table)
            subject = f"table {difference.table}.{difference.column}"
            self._found(subject, state, f"{difference.kind}: {difference.detail}", remedy)
        if not differences:
            count = sum(map(len, found.values()))
            self._found("foreign keys", "yes", f"all {count} lead where rows are before them")

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
        return missing

    def _rights_on_sequence(self, connection: Connection, table: TargetTable, live: LiveTarget) -> list[str]:
        """The rights on the sequence of its ids that are missing: it is used, or raised above ids that are kept."""
        if table.writes != "insert" or not live.id_sequence:
            return []
        needed = ["SELECT", "UPDATE"] if table.key_is_written else ["USAGE"]
        rows = connection.execute(
            "SELECT needed FROM unnest(%s::text[]) AS needed WHERE NOT has_sequence_privilege(%s, needed)",
            [needed, live.id_sequence],
        )
        return [str(right) for (right,) in rows]

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
            remedy = f"load the area it belongs to first: {table.area}"
            self._found(subject, "no", "has no rows", remedy, stops=False)

    def _has_rows(self, connection: Connection, table: TargetTable) -> bool:
        try:
            statement = sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(qualified(table))
            return connection.execute(statement).fetchone() == (True,)
        except psycopg.errors.InsufficientPrivilege:
            # Told by its own line.
            return True


def findings_of_left_out(connection: Connection, system: str) -> list[Finding]:
    """What loads dropped and have not made again."""
    return [
        Finding("target", f"table {dropped.target_table}", "warn", dropped.told, dropped.remedy)
        for dropped in left_out(connection, system)
    ]


def with_time_limit(url: str) -> str:
    """The URL, with a limit to the time a server has to answer, unless it names one."""
    if "connect_timeout=" in url:
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}connect_timeout={SECONDS_TO_CONNECT}"
