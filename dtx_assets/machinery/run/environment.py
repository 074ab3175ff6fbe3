"""What the steps of one run share: settings, decisions, the lake, the time that counts as now, the target database.

All of it is found at run time, from the environment, and only when a step asks: the code location loads without any.
Everything here is used by Dagster steps, and nothing here imports Dagster.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError, MigrationError
from dtx_assets.machinery.base.lake import Lake, open_archive
from dtx_assets.machinery.base.private import write_privately
from dtx_assets.machinery.base.settings import Mode, Settings, require_escaped
from dtx_assets.machinery.checks.gate import not_accepted, require_open
from dtx_assets.machinery.checks.obstacles import Obstacle
from dtx_assets.machinery.derived.model import DerivedDeclaration
from dtx_assets.machinery.derived.schema import create_derived
from dtx_assets.machinery.files.inventory import LegacyFiles, Progress
from dtx_assets.machinery.files.store import FileStore, open_store
from dtx_assets.machinery.files.stored_root import StoredRoot
from dtx_assets.machinery.load import (
    LiveTarget,
    RunContext,
    Subset,
    create_target,
    finish_run,
    note_failure,
    open_run,
    read_live_targets,
)
from dtx_assets.machinery.load.indexes_after import mend_killed
from dtx_assets.machinery.load.legacy_views import prepare_legacy_views
from dtx_assets.machinery.mapping.decisions import Decisions, decisions_under
from dtx_assets.machinery.mapping.demonstration import require_it_stands
from dtx_assets.machinery.postgres.connection import connect, refusals_told
from dtx_assets.machinery.postgres.ddl import live_target, run_sql_file
from dtx_assets.machinery.postgres.embedded import embedded_postgres
from dtx_assets.machinery.postgres.foreign_keys import require_order
from dtx_assets.machinery.postgres.kept import keeping_connections
from dtx_assets.machinery.prepare.preparation import RunSettings
from dtx_assets.machinery.sources.csv_dialect import EVERY_RFC_4180, Dialects, read_dialects
from dtx_assets.machinery.system.system import System, settings_of

Obstacles = Callable[["RunEnvironment", Collection[str]], list[Obstacle]]
"""What keeps target models from being loaded, accepted or not."""
Entry = Callable[["RunEnvironment"], None]
"""LoadError where a run cannot do what it is for, whatever rows it reads."""

ENVIRONMENT = "migration"
"""The key of the Dagster resource that is a RunEnvironment."""
TARGET_ROWS = "target"
"""The folder of a sample that holds the rows of other areas."""


@dataclass(frozen=True)
class RunOptions:
    """What one run was asked for beyond the environment: the form of its configuration.

    `accept` gives a reason for each obstacle of a cutover that is accepted, by its name.
    """

    mode: Mode | None = None
    accept: Mapping[str, str] = field(default_factory=dict)
    accepted_by: str = ""
    restore_point: str | None = None
    limit: int | None = None
    only_rejected: bool = False
    accept_cost: float | None = None
    """In dollars, what embedding may cost in a cutover."""
    retry_dead: bool = False
    """Whether texts that were given up are tried again."""

    @property
    def subset(self) -> Subset | None:
        if self.only_rejected:
            return Subset("rejected")
        return Subset("first", self.limit) if self.limit else None


class RunEnvironment:
    """A context manager: what it started on the way (the embedded PostgreSQL) it gives up at its end.

    `s3` is dagster-aws's S3Resource; `obstacles` says what is in the way of a load, nothing where nobody can tell;
    `failed_elsewhere` whether a step of the run failed in another process; `entry` is what a run is asked before it
    reads anything; `refused` is told what closed the gate.
    """

    def __init__(
        self,
        system: System,
        run_id: str,
        started_at: datetime,
        s3: Any = None,
        options: RunOptions | None = None,
        obstacles: Obstacles = lambda _environment, _models: [],
        failed_elsewhere: Callable[[], bool] = lambda: False,
        entry: Entry = lambda _environment: None,
        refused: Callable[[Sequence[Obstacle]], None] = lambda _left: None,
    ) -> None:
        self.system = system
        self.run_id = run_id
        self.started_at = started_at
        self.s3 = s3
        self.options = options or RunOptions()
        self._obstacles = obstacles
        self._failed_elsewhere = failed_elsewhere
        self._entry = entry
        self._entered = False
        self._refused = refused
        self._refused_first: tuple[str, frozenset[str]] | None = None
        self.failures: list[str] = []
        self._resources = ExitStack()
        self._connections = ExitStack()
        self._load: RunContext | None = None
        self._order_holds = False

    def __enter__(self) -> Self:
        # Dagster starts steps in processes of their own, by other commands than `dtx` too.
        write_privately()
        self._connections.enter_context(keeping_connections())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._resources, self._connections:
            failed = bool(self.failures or error)
            if self._load is not None:
                finish_run(
                    self._load,
                    "failed" if failed or self._failed_elsewhere() else "succeeded",
                    goes_on=self.settings.workers.are_several,
                )
            elif failed:
                with suppress(MigrationError):
                    # Of several processes, this one may be the last to end, and never have met the target.
                    if "target_url" in vars(self) or (self.settings.workers.are_several and self.settings.target_url):
                        note_failure(self.target_url, self.run_id)

    @cached_property
    def settings(self) -> Settings:
        return settings_of(self.system)

    @cached_property
    def decisions(self) -> Decisions:
        """What was chosen; the graph was built for it, and says so where the files changed since."""
        file, settings = self.system.mappings_dir / "decisions.yaml", self.settings
        now = decisions_under(file, self.system.name, settings.decisions_path, settings.demonstration_path)
        if now.demonstration:
            require_it_stands(now.demonstration, settings)
        built_for = self.system.decisions.chosen
        changed = sorted(key for key, option in now.chosen.items() if built_for.get(key) != option)
        if changed:
            raise ConfigurationError(
                "the graph was built for other decisions: "
                + ", ".join(f"{key} = {built_for.get(key)}, now {now.chosen[key]}" for key in changed),
                where=str(settings.decisions_path or file),
                remedy="reload the code location, or start the run again",
            )
        return now

    @cached_property
    def lake(self) -> Lake:
        return Lake(self.settings.lake_url, self.s3)

    @cached_property
    def archive(self) -> Lake:
        return open_archive(self.settings.archive_url, self.s3)

    @property
    def cutover_at(self) -> datetime:
        """The instant that counts as now: the same for all steps of a run."""
        return self.settings.cutover_at or self.started_at

    @cached_property
    def run_settings(self) -> RunSettings:
        return RunSettings(
            run_id=self.run_id,
            system=self.system,
            settings=self.settings,
            decisions=self.decisions,
            cutover_at=self.cutover_at,
            lake=self.lake,
        )

    def live_targets(self, models: Collection[str], warn: Callable[[str], None]) -> dict[str, LiveTarget]:
        """Target tables as they are live, by model; none where the database cannot be asked, which a load will be."""
        try:
            tables = [target for target in self.system.targets if target.model in models]
            return read_live_targets(self.target_url, tables)
        except MigrationError as error:
            warn(f"what the target cannot hold is not known before the load: {error}")
            return {}

    @cached_property
    def target_url(self) -> str:
        """The target database; where none is named, the embedded one, made ready on the way."""
        if url := self.settings.target_url:
            require_escaped(url)
            return url
        return self._embedded_url()

    def dialects_of(self, url: str) -> Dialects:
        """How the CSV files under a URL are written: a file of dialects speaks of those of the legacy tables."""
        path = self.settings.legacy_dialect_path
        if path is None or url != self.settings.legacy_url:
            return EVERY_RFC_4180
        return read_dialects(path, {*self.system.legacy_tables, *self.system.crosswalk_tables})

    def legacy_files(self, progress: Progress | None = None) -> LegacyFiles:
        settings, url = self.settings, self.settings.files_url
        root = StoredRoot(url, self.s3) if url.startswith("s3://") else Path(url)
        return LegacyFiles(root, settings.files_prefix, settings.verify_files, progress)

    def file_store(self) -> FileStore:
        settings = self.settings
        return open_store(
            settings.object_store_url,
            self.s3,
            encryption=settings.object_store_encryption,
            storage_class=settings.object_store_storage_class,
        )

    @property
    def mode(self) -> Mode:
        return self.options.mode or self.settings.mode

    def load(self) -> RunContext:
        """The load of this run, recorded in the target database when the first step asks for it."""
        if self._load is None:
            self._require_order()
            prepare_legacy_views(self.target_url, self.system)
            self._load = open_run(
                self.target_url,
                self.system.name,
                self.run_id,
                mode=self.mode,
                decisions=dict(self.decisions.chosen),
                cutover_at=self.settings.cutover_at,
                gate=self.require_open_gate,
                accepted=self.accepted(),
                restore_point=self.options.restore_point,
                subset=self.options.subset,
                must_stay=self.system.tables_that_must_stay,
                demonstration=self.decisions.demonstration.noted if self.decisions.demonstration else None,
                connections=self.settings.load_connections,
                # A run that loads without a restore point is refused at its entry; others, as that of an activation,
                # are not asked for one.
                indexes_after=self.settings.indexes_after_load and bool(self.options.restore_point),
            )
            self.mend_killed_loads()
        return self._load

    def mend_killed_loads(self, log: Callable[[str], None] = lambda _message: None) -> None:
        """Make again the indexes and foreign keys that killed loads left out; LoadError where rows do not fit to one of
        them and this is a cutover."""
        mend_killed(self.target_url, self.system.name, log, strictly=self.mode == "cutover")

    def dry_load(self) -> RunContext:
        """The same load, of which nothing stays; the gate is not asked."""
        self._require_order()
        return RunContext(
            self.target_url,
            self.system.name,
            self.run_id,
            self.mode,
            dict(self.decisions.chosen),
            self.settings.cutover_at,
            subset=self.options.subset,
            dry=True,
            connections=self.settings.load_connections,
            indexes_after=self.settings.indexes_after_load,
        )

    def _require_order(self) -> None:
        """Asked until it holds, and then for the rest of the run: each verification begins a dry load."""
        if not self._order_holds:
            with refusals_told(), connect(self.target_url) as connection:
                require_order(connection, self.system.filled_targets, self.decisions.chosen)
            self._order_holds = True

    def accepted(self) -> dict[str, dict[str, str]]:
        """What is accepted, as it is recorded: why, by whom, when."""
        return {
            name: {"reason": reason, "by": self.options.accepted_by or "unknown", "at": self.started_at.isoformat()}
            for name, reason in self.options.accept.items()
        }

    def obstacles(self, models: Collection[str]) -> list[Obstacle]:
        return self._obstacles(self, models)

    def require_entry(self) -> None:
        """LoadError where the run cannot do what it is for, whatever rows it reads. It is asked once."""
        if not self._entered:
            self._entered = True
            self._entry(self)

    def require_open_gate(self, model: str) -> None:
        """LoadError where something is in the way of loading a model that nobody accepted.

        It names what is, once: of the next models, that they are refused for the same.
        """
        found = self.obstacles([model])
        left = not_accepted(found, self.options.accept)
        names = frozenset(obstacle.name for obstacle in left)
        if left and self._refused_first and names <= self._refused_first[1]:
            raise LoadError(f"not loaded either: what is said of {self._refused_first[0]} is in its way too")
        if left and self.mode == "cutover":
            self._refused_first = self._refused_first or (model, names)
            self._refused(left)
        require_open(found, self.options.accept, model)

    def _embedded_url(self) -> str:
        server = self._resources.enter_context(embedded_postgres(self.settings.home, extensions=self.system.extensions))
        url = server.create_database(self.system.name)
        with psycopg.connect(url) as connection:
            if self.system.target_sql is None:
                create_target(connection, self.system.targets)
            elif all(live_target(connection, target) is None for target in self.system.targets):
                run_sql_file(connection, self.system.target_sql)
            if isinstance(self.system.derived, DerivedDeclaration):
                create_derived(connection, self.system.derived, self.system.mappings_dir)
            rows = local_directory(self.settings.legacy_url)
            if self.system.seed_embedded and rows and (rows / TARGET_ROWS).is_dir():
                self.system.seed_embedded(connection, rows / TARGET_ROWS)
        return url


def local_directory(url: str) -> Path | None:
    """The directory that a path or `file://` URL names; None for any other URL."""
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return Path(parts.path if parts.scheme else url)
    return None
