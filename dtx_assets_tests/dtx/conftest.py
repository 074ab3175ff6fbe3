"""Fixtures of the tests of DTX."""

from collections.abc import Iterator

import pytest

from dtx_assets.machinery.embedded_postgres import EmbeddedPostgres
from dtx_assets_tests.dtx.running import Migration


@pytest.fixture(scope="session")
def migration(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Migration]:
    """The flows of DTX over the small world of `running`, for any tables."""
    yield Migration(tmp_path_factory.mktemp("migration"), postgres_server.create_database("small_world"))
    postgres_server.drop_database("small_world")
