"""Fixtures of the tests of PAD."""

from collections.abc import Iterator

import pytest

from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets_tests.pad.running import Migration


@pytest.fixture(scope="session")
def migration(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Migration]:
    """The flow of PAD over the small world of `ugly`, for any rows."""
    yield Migration(tmp_path_factory.mktemp("pad"), postgres_server.create_database("small_world_of_pad"))
    postgres_server.drop_database("small_world_of_pad")
