"""Fixtures of the tests of CRM."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dtx_assets.crm.decided_system import SYSTEM
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets_tests.dtx.commands import Command


@dataclass
class Ran:
    """The shipped sample, after `dtx run crm` into NextCRM's own schema."""

    command: Command
    url: str
    output: str
    exit_code: int

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def rejected(self, source: str, target: str | None = None) -> dict[str, list[str]]:
        """Reasons by source key, of whole documents."""
        statement = (
            "SELECT source_key, reasons FROM migration.rejected WHERE NOT partial AND source_table = %s"
            " AND target_table = %s"
        )
        return dict(self.query(statement, source, target or source))

    def coerced(self, source: str, target: str | None = None) -> dict[str, int]:
        [[counts]] = self.query(
            "SELECT coerced FROM migration.accounting WHERE (source_table, target_table) = (%s, %s)",
            source,
            target or source,
        )
        return counts


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Ran]:
    """One run that many tests look at."""
    place = tmp_path_factory.mktemp("crm")
    url = postgres_server.create_database("sample_of_crm")
    with psycopg.connect(url) as connection:
        connection.execute((SYSTEM.mappings_dir / "target.sql").read_bytes())
    home = {name: str(place / name.lower()) for name in ("HOME", "LAKE_URL", "ARCHIVE_URL")}
    settings = {"LEGACY_URL": str(SYSTEM.sample_dir), "TARGET_URL": url, **home}
    decisions = place / "decisions.yaml"
    decisions.write_text("undeclared_fields: extra_table\nduplicate_user: merge_references\n")
    settings["DECISIONS"] = str(decisions)
    command = Command(Path(place), {f"CRM_{name}": value for name, value in settings.items()}, seconds=900)
    done = command("run", "crm")
    yield Ran(command, url, done.stdout + done.stderr, done.returncode)
    postgres_server.drop_database("sample_of_crm")
