"""A place in which the library is migrated: an export, a target database, the runs and what they left."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from dtx_assets.machinery.dagster.run import (
    RunOutcome,
    check_states,
    open_instance,
    planned_job,
    run_job,
    select_assets,
)
from dtx_assets.machinery.load import create_target
from dtx_assets_tests.library.definitions import SYSTEM, TARGETS, defs

BOOKS = ("1,10,A,40000,2019-03-01 10:00:00", "2,20,B,20,", "3,20,Longer title,5,")
READERS = ("7,10,Ann", "8,20,Bob")
NOTHING: Mapping[str, str] = {}


class Library:
    def __init__(self, directory: Path, target_url: str, patch: pytest.MonkeyPatch) -> None:
        self.directory, self.url = directory, target_url
        self.home = directory / "state"
        self.legacy = directory / "legacy"
        self.legacy.mkdir()
        self.write("book", "book_id,branch_id,title,pages,added", BOOKS)
        self.write("reader", "reader_id,branch_id,name", READERS)
        self.write("crosswalk_branch", "branch_id,site_id", ("10,1", "20,2"))
        with psycopg.connect(target_url) as connection:
            create_target(connection, TARGETS)
            connection.execute("INSERT INTO site (name) VALUES ('North'), ('South')")
        patch.delenv("DAGSTER_HOME", raising=False)
        for name, value in {"HOME": self.home, "LEGACY_URL": self.legacy, "TARGET_URL": target_url}.items():
            patch.setenv(f"LIBRARY_{name}", str(value))
        patch.chdir(directory)

    def write(self, table: str, header: str, rows: Sequence[str]) -> None:
        (self.legacy / f"{table}.csv").write_text("\n".join([header, *rows]) + "\n")

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def run(self, job: str = "library", select: str | None = None, **options: Any) -> RunOutcome:
        selection = select_assets(defs, "library", select) if select else None
        with open_instance(self.home) as instance:
            return run_job(planned_job(defs, job, selection), self.home, instance, None, options)

    def cutover(self, accept: Mapping[str, str] = NOTHING, select: str | None = None) -> RunOutcome:
        return self.run(select=select, mode="cutover", restore_point="snap", accept=dict(accept))

    def plan(self) -> dict[str, Any]:
        """What is in the way of a cutover, by name."""
        plan = self.run("library_plan", mode="cutover").plan
        assert plan is not None
        return {found["name"]: found["finding"] for found in plan["in_the_way"]}

    def verdict(self) -> object:
        """What the cutover page says, as it was made last."""
        with open_instance(self.home) as instance:
            made = instance.get_latest_materialization_event(dg.AssetKey([SYSTEM.name, "report", "cutover"]))
        assert made is not None
        assert made.asset_materialization is not None
        return made.asset_materialization.metadata["verdict"].value

    def check_states(self) -> dict[str, str]:
        with open_instance(self.home) as instance:
            found = check_states(instance, defs.resolve_asset_graph().asset_check_keys)
        return {state.whole_name: state.state for state in found}

    def titles(self) -> list[str]:
        return [title for (title,) in self.sql("SELECT title FROM book ORDER BY number")]


def red(outcome: RunOutcome) -> dict[str, int | None]:
    """The checks that failed at ERROR, each with its count."""
    return {f"{check.asset}:{check.name}": check.count for check in outcome.checks if check.is_error}
