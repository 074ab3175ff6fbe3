"""Fixtures of all tests: real servers, started on first use, ended with the tests. How they start: `servers.py`."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres, embedded_postgres, remove_embedded_postgres
from dtx_assets_tests import servers

pytest_plugins = ["dtx_assets_tests.scheduling"]

# How fast a machine is says nothing of what is tested, and a server that examples share is emptied by them.
settings.register_profile(
    "dtx", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("dtx")


@pytest.fixture(scope="session", autouse=True)
def _no_outside_configuration() -> Iterator[None]:
    """What the developer's own environment says must not reach a test."""
    kept = dict(os.environ)
    for name in kept:
        if name == "APP_ENV" or name.startswith("AWS_") or (name.startswith("DTX_") and name != "DTX_PG_BIN"):
            del os.environ[name]
    yield
    os.environ.update(kept)


@pytest.fixture(autouse=True)
def _as_a_process_begins() -> None:
    """A command that was called in this process made it private, and may have left signals ignored: both are inherited.

    What a fixture of a wider scope did is there before a test's own, so that nothing is kept and put back.
    """
    os.umask(0o022)
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


@contextmanager
def _skipped_where_missing() -> Iterator[None]:
    try:
        yield
    except servers.PartMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}, and CI has to have it")
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """A directory for servers, near the root: a socket's path may have about a hundred characters only."""
    with tempfile.TemporaryDirectory(prefix="dtx-") as name:
        directory = Path(name)
        # So that the account of the database servers can get through.
        directory.chmod(0o711)
        yield directory


@pytest.fixture(scope="session")
def postgres_server(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """The embedded PostgreSQL, without fsync."""
    state_dir = server_directory / "state"
    with embedded_postgres(state_dir, fsync=False) as server:
        yield server
    remove_embedded_postgres(state_dir)


@pytest.fixture(scope="session")
def vector_server(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """An embedded PostgreSQL with pgvector, which that of the machine may lack."""
    state_dir = server_directory / "vectors"
    with embedded_postgres(state_dir, fsync=False, extensions=("vector",)) as server:
        with _skipped_where_missing(), psycopg.connect(server.url) as connection:
            if not connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone():
                raise servers.PartMissing("no PostgreSQL of this machine has pgvector")
        yield server
    remove_embedded_postgres(state_dir)


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """`postgresql://` URL of an empty database."""
    name = f"test_{uuid4().hex}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture
def pooled_url(database_url: str, server_directory: Path) -> Iterator[Callable[[str], str]]:
    """Gives the URL of the database through a real PgBouncer, by its pool mode."""
    with _skipped_where_missing():
        servers.find_program("pgbouncer")
    with ExitStack() as stack:

        def pooled(pool_mode: str) -> str:
            directory = server_directory / f"pool_{uuid4().hex[:8]}"
            directory.mkdir()
            return stack.enter_context(servers.pgbouncer(directory, database_url, pool_mode))

        yield pooled


@pytest.fixture(scope="session")
def mariadb_url(server_directory: Path) -> Iterator[str]:
    """`mysql+pymysql://` URL of the database `legacy` of a real MariaDB, shared by all tests: drop what you create.

    `empty_mariadb_url` is for those that need it empty, or leave it full.
    """
    directory = server_directory / "mariadb"
    directory.mkdir()
    with _skipped_where_missing():
        servers.find_program("mariadbd", "mysqld")
    with servers.mariadb(directory) as url:
        yield url


@pytest.fixture
def empty_mariadb_url(mariadb_url: str) -> Iterator[str]:
    """The same, with the database made anew before and after the test."""
    import pymysql
    from sqlalchemy import make_url

    url = make_url(mariadb_url)

    def made_anew() -> None:
        with (
            closing(
                pymysql.connect(host=url.host, port=url.port or 0, user=url.username, password=url.password or "")
            ) as server,
            server.cursor() as cursor,
        ):
            cursor.execute(f"DROP DATABASE {url.database}")
            cursor.execute(f"CREATE DATABASE {url.database} CHARACTER SET utf8mb4")

    made_anew()
    yield mariadb_url
    made_anew()


@pytest.fixture(scope="session")
def s3_server(server_directory: Path) -> Iterator[servers.S3Server]:
    """A real S3 server on a loopback port."""
    directory = server_directory / "seaweedfs"
    directory.mkdir()
    with _skipped_where_missing():
        servers.find_program("weed")
    with servers.seaweedfs(directory) as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a new bucket; the AWS_* variables point to its server."""
    import boto3

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{uuid4().hex}"
    store = boto3.resource(
        "s3",
        endpoint_url=s3_server.endpoint,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
    ).Bucket(bucket)
    store.create()
    yield bucket
    # The server has room for so many buckets only.
    store.objects.all().delete()
    store.delete()


@pytest.fixture(scope="session")
def broker_url(server_directory: Path) -> Iterator[str]:
    """`amqp://` URL of a real RabbitMQ."""
    directory = server_directory / "rabbitmq"
    directory.mkdir()
    broker = _rabbitmq_in(directory)
    with broker.running():
        yield broker.url


@pytest.fixture
def broker(server_directory: Path) -> servers.RabbitMQ:
    """A real RabbitMQ that a test starts, ends and starts again itself."""
    directory = server_directory / f"rabbitmq_{uuid4().hex[:8]}"
    directory.mkdir()
    return _rabbitmq_in(directory)


def _rabbitmq_in(directory: Path) -> servers.RabbitMQ:
    with _skipped_where_missing():
        return servers.RabbitMQ(directory)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, as Playwright's synchronous `Browser`; its event loop must not outlive the module's tests."""
    with _skipped_where_missing():
        chromium = servers.find_program("chromium", "chromium-browser", "google-chrome")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
        chrome = playwright.chromium.launch(executable_path=chromium, args=as_root)
        yield chrome
        chrome.close()
