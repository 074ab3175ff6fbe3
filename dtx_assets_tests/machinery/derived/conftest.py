"""The small target of `place`, emptied for each test."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets_tests.machinery.derived.place import Place, empty, make_tables


@pytest.fixture(scope="session")
def derived_url(vector_server: EmbeddedPostgres) -> str:
    """The database with the tables of `place`."""
    url = vector_server.create_database(f"test_{uuid4().hex}")
    make_tables(url)
    return url


@pytest.fixture
def place(derived_url: str) -> Iterator[Place]:
    empty(derived_url)
    with connect(derived_url) as connection:
        yield Place(derived_url, connection)
