"""Fixtures of the tests of DTX."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.dtx.running import Migration


@pytest.fixture(scope="session")
def migration(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Migration]:
    """The flows of DTX over the small world of `running`, for any tables."""
    yield Migration(tmp_path_factory.mktemp("migration"), postgres_server.create_database("small_world"))
    postgres_server.drop_database("small_world")


@pytest.fixture
def target(postgres_server: EmbeddedPostgres, database_url: str) -> str:
    """A rehearsal database with the rows of other areas."""
    from dtx_assets.dtx.system import load_other_areas

    with psycopg.connect(database_url) as connection:
        create_target(connection, SYSTEM.targets)
        load_other_areas(connection, SYSTEM.sample_dir / "target")
    return database_url


@pytest.fixture
def dtx(tmp_path: Path, target: str) -> Command:
    return Command(tmp_path, {"DTX_TARGET_URL": target, "DTX_CUTOVER_AT": "2026-11-21T00:00:00Z"})


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A copy of the sample to spoil."""
    return Path(shutil.copytree(SYSTEM.sample_dir, tmp_path / "export"))
