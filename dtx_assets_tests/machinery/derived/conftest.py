"""The small target of `place`, emptied for each test."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres, embedded_postgres, remove_embedded_postgres
from dtx_assets_tests.conftest import skipped_where_missing
from dtx_assets_tests.machinery.derived.place import Place, empty, make_tables
from dtx_assets_tests.servers import PartMissing


@pytest.fixture(scope="session")
def vector_server(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """An embedded PostgreSQL with pgvector, which that of the machine may lack."""
    state_dir = server_directory / "vectors"
    with embedded_postgres(state_dir, fsync=False, extensions=("vector",)) as server:
        with skipped_where_missing(), psycopg.connect(server.url) as connection:
            if not connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone():
                raise PartMissing("no PostgreSQL of this machine has pgvector")
        yield server
    remove_embedded_postgres(state_dir)


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
