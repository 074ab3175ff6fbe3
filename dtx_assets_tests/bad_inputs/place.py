"""A place in which bad inputs are planted: a sound export, lake and target, and the `dtx` command run in this process.

What is planted is the cases' business.
"""

import importlib
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from dtx_assets.cli import main as cli
from dtx_assets.cli import shared
from dtx_assets.dtx.system import MAPPINGS_DIR, SYSTEM, build_system, load_other_areas
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.base.progress import listening
from dtx_assets.machinery.base.settings import decisions_paths
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.mapping.decisions import load_decisions
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres

KEYWORDS = "customer_id,keyword,replacement\n1001,GROUP,Centers\n1002,ITEM,Tenants\n"
ACCOUNTS = "customer_id,account_id,directory_id\n1001,50001,30001\n1002,50002,30002\n"
EXTRACT = ("run", "--all", "--select", "legacy/keyword")
PREPARE = ("run", "--all", "--select", "+prepared/AccountMeta or rejected/AccountMeta")
LOAD = ("run", "--all", "--select", "target/AccountMeta")
STATUS = ("status", "--json")
ADDRESS = "someone.private@example.com"


@dataclass(frozen=True)
class Shown:
    """What a command printed, to either stream, and its exit code."""

    text: str
    code: int


def dtx(*arguments: str) -> Shown:
    """The command as its entry point runs it, in this process."""
    output, before = io.StringIO(), (sys.argv, signal.getsignal(signal.SIGTERM), dict(os.environ))
    sys.argv = ["dtx", *arguments]
    code: Any = 0
    try:
        with redirect_stdout(output), redirect_stderr(output):
            cli.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before[0]
        signal.signal(signal.SIGTERM, before[1])
        # Options of the command are set as variables, and would outlive it.
        os.environ.clear()
        os.environ.update(before[2])
    return Shown(output.getvalue(), code)


class Grounds:
    """What all cases start from: an export that is prepared in a lake, and a target that is loaded."""

    def __init__(self, directory: Path, server: EmbeddedPostgres, patch: pytest.MonkeyPatch) -> None:
        self.directory, self.server = directory, server
        self.home = directory / "home"
        self.template = f"bad_inputs_{uuid4().hex}"
        self.export = directory / "export"
        self.export.mkdir(parents=True)
        (self.export / "keyword.csv").write_text(KEYWORDS)
        (self.export / "crosswalk_account.csv").write_text(ACCOUNTS)
        url = server.create_database(self.template)
        with psycopg.connect(url) as connection:
            create_target(connection, SYSTEM.targets)
            load_other_areas(connection, SYSTEM.sample_dir / "target")
        for name, value in {"HOME": self.home, "LEGACY_URL": self.export, "TARGET_URL": url}.items():
            patch.setenv(f"DTX_{name}", str(value))
        patch.chdir(directory)
        shown = dtx("run", "--select", "+target/AccountMeta or archive/keyword")
        assert shown.code in (0, 3), shown.text
        assert "FAILED" not in shown.text, shown.text


@dataclass
class Place:
    """Where one case is planted."""

    grounds: Grounds
    directory: Path
    request: pytest.FixtureRequest
    patch: pytest.MonkeyPatch
    names: dict[str, str] = field(default_factory=dict)
    _during: list[tuple[str, Callable[[], object]]] = field(default_factory=list)
    _ends: ExitStack = field(default_factory=ExitStack)
    _databases: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.legacy = Path(shutil.copytree(self.grounds.export, self.directory / "export"))
        self.lake_directory = self.grounds.home / "lake"
        self.patch.chdir(self.directory)
        self.set(LEGACY_URL=self.legacy, HOME=self.grounds.home)
        self.set(TARGET_URL=self.grounds.server.database_url(self.grounds.template))
        self.names = {
            "legacy": str(self.legacy),
            "home": str(self.grounds.home),
            "directory": str(self.directory),
            "mappings": str(self.directory / "mappings" / "dtx"),
        }

    def close(self) -> None:
        self._ends.close()
        for name in self._databases:
            self.grounds.server.drop_database(name)

    def named(self, text: str) -> str:
        """A text of the table with the names of this place."""
        for name, value in self.names.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    # --- planting -----------------------------------------------------------------------------------------------------

    def set(self, **values: object) -> None:
        for name, value in values.items():
            self.patch.setenv(f"DTX_{name}", str(value))

    def write(self, table: str, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        (self.legacy / f"{table}.csv").write_bytes(data)

    def mapping(self, file: str, old: str, new: str) -> None:
        """A copy of the mapping files in which a text of one of them is another one."""
        mappings = self.directory / "mappings" / "dtx"
        if not mappings.exists():
            shutil.copytree(MAPPINGS_DIR, mappings)
            # As `definitions` does when it is imported.
            self.patch.setattr(shared, "module_of", lambda *_names: self._location(mappings))
        text = (mappings / file).read_text()
        assert old in text, f"{file} does not hold {old!r}"
        (mappings / file).write_text(text.replace(old, new, 1))

    def _location(self, mappings: Path) -> Any:
        system = build_system(mappings)
        return SimpleNamespace(
            SYSTEM=system.under(load_decisions(mappings / "decisions.yaml", decisions_paths("dtx")[0]))
        )

    def decisions(self, content: str | bytes) -> None:
        """An override of decisions, for a code location that is loaded anew."""
        file = self.directory / "decisions.yaml"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        self.set(DECISIONS=file)
        self.load_anew()

    def load_anew(self) -> None:
        package = shared.code_locations()["dtx"].rpartition(".")[0]
        for module in ("decided_system", "definitions"):
            name = f"{package}.{module}"
            loaded = importlib.import_module(name)
            self.patch.delitem(sys.modules, name)
            self._ends.callback(sys.modules.__setitem__, name, loaded)

    def during(self, step: str, action: Callable[[], object]) -> None:
        """Do something once, while a step (`extract keyword`) tells how far it is."""
        self._during.append((step, action))
        self._ends.enter_context(listening(self))

    def advanced(self, what: str, _done: int, _total: int | None, *_more: int | None, **_named: int) -> None:
        for each in [each for each in self._during if each[0] == what]:
            self._during.remove(each)
            each[1]()

    def at_end(self, action: Callable[..., object], *arguments: object) -> None:
        self._ends.callback(action, *arguments)

    def end_with(self, context: Any) -> Any:
        """Enter a context manager that lasts as long as the case."""
        return self._ends.enter_context(context)

    def target(self, *statements: str) -> str:
        """A target of one's own, loaded as the common one is, after these statements."""
        name = f"bad_inputs_{uuid4().hex}"
        self._databases.append(name)
        with psycopg.connect(self.grounds.server.url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(self.grounds.template)
                )
            )
        url = self.grounds.server.database_url(name)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())
        self.set(TARGET_URL=url)
        return url

    def database(self) -> str:
        """An empty PostgreSQL database of one's own."""
        name = f"bad_inputs_{uuid4().hex}"
        self._databases.append(name)
        return self.grounds.server.create_database(name)

    # --- what came of it ----------------------------------------------------------------------------------------------

    @property
    def lake(self) -> Lake:
        return Lake(str(self.lake_directory))

    def landed(self, table: str = "keyword") -> list[dict[str, Any]]:
        """The rows of a table as they were landed."""
        return self.lake.scan(("dtx", "legacy", table)).collect().drop("_row", "_undecodable").to_dicts()

    def rejected(self) -> list[tuple[str, ...]]:
        """The reasons of each rejected row of keyword."""
        rows = self.lake.scan(("dtx", "rejected", "AccountMeta")).collect()
        return [tuple(reasons) for reasons in rows["reasons"].to_list()]

    def prepared(self) -> list[tuple[str, str]]:
        rows = self.lake.scan(("dtx", "prepared", "AccountMeta")).collect()
        return sorted(rows.select("key", "value").rows())

    def held(self) -> "Held":
        directory = self.lake_directory / "dtx"
        files = {path.relative_to(directory).parts: path for path in directory.rglob("*") if path.is_file()}
        url = self.grounds.server.database_url(self.grounds.template)
        with psycopg.connect(url) as connection:
            rows = connection.execute("SELECT * FROM docutrax_hierarchy_accountmeta ORDER BY id").fetchall()
            rows += connection.execute("SELECT * FROM migration.mapping ORDER BY source_key").fetchall()
        return Held(
            {name: path.stat().st_size for name, path in files.items()},
            {name: json.loads(path.read_text()) for name, path in files.items() if name[-1] == "manifest.json"},
            rows,
        )


@dataclass(frozen=True)
class Held:
    """What the lake and the common target hold: files with their sizes, manifests, rows."""

    files: dict[tuple[str, ...], int]
    manifests: dict[tuple[str, ...], Any]
    rows: list[Any]

    def without(self, layers: Collection[str]) -> "Held":
        """The report of the extraction, and what is asked of the target anew, are of every run, refused or not."""
        left_out = {"report", "mapping", *layers}
        files, manifests = (
            {name: value for name, value in each.items() if name[0] not in left_out}
            for each in (self.files, self.manifests)
        )
        return Held(files, manifests, self.rows)


@contextmanager
def a_place(
    grounds: Grounds, directory: Path, request: pytest.FixtureRequest, patch: pytest.MonkeyPatch
) -> Iterator[Place]:
    place = Place(grounds, directory, request, patch)
    try:
        yield place
    finally:
        place.close()
