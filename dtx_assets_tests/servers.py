"""Real servers that the tests start, MariaDB, an S3 server (SeaweedFS), PgBouncer and RabbitMQ, on 127.0.0.1, in
directories of their own.

PostgreSQL is not here: the product starts that itself (`dtx_assets.machinery.postgres.embedded`). Fixtures are in
`conftest.py`.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from zoneinfo import TZPATH

import pymysql
from sqlalchemy.engine import make_url

from dtx_assets_tests.patience import PATIENCE


class PartMissing(Exception):
    """A program that a server needs is not on this machine."""


@dataclass(frozen=True)
class S3Server:
    """Where a running S3 server is, and the keys it accepts."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that boto3, obstore and Polars read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


class Ports:
    """Ports of 127.0.0.1 that this process alone gives out, each once: a server may take one long after it was found.

    They are none of those that the system gives to connections, nor of those of other processes of the same tests.
    """

    FIRST, EACH = 12_000, 2_000

    def __init__(self) -> None:
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
        first = self.FIRST + worker * self.EACH
        stretch = range(first, first + self.EACH)
        # Other tests on the same machine begin elsewhere.
        start = secrets.randbelow(self.EACH)
        self._rest = cycle([*stretch[start:], *stretch[:start]])

    def take(self) -> int:
        while True:
            port = next(self._rest)
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


_PORTS = Ports()


def free_ports(count: int) -> list[int]:
    """`count` different ports of 127.0.0.1 that nothing listens on."""
    return [_PORTS.take() for _ in range(count)]


def find_program(*names: str) -> str:
    """The first of the programs that this environment or machine has; raises PartMissing."""
    own = Path(sys.executable).parent
    for name in names:
        found = shutil.which(
            name, path=os.pathsep.join([str(own), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        )
        if found:
            return found
    raise PartMissing(f"{' or '.join(names)} is not installed")


@contextmanager
def running(
    command: Sequence[str],
    *,
    log: Path,
    ready: Callable[[], bool],
    environment: Mapping[str, str],
    ended_by: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """Run a server until the block ends or this process dies, whichever way; `ready` says when it can be used."""
    die_with_parent = [find_program("setpriv"), "--pdeathsig", "KILL"] if sys.platform == "linux" else []
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*die_with_parent, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{command[0]} did not start:\n{tail}")
            time.sleep(0.05)
        yield
    finally:
        if ended_by is signal.SIGKILL:
            # A server may be the child of a script, to which nobody can hand that on.
            os.killpg(process.pid, ended_by)
        else:
            process.send_signal(ended_by)
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def mariadb(directory: Path) -> Iterator[str]:
    """A MariaDB server in an empty directory; yields the SQLAlchemy URL of its database `legacy`.

    The SQL mode is the loose one that legacy databases ran with, so that tests can plant zero dates.
    """
    server = find_program("mariadbd", "mysqld")
    installer = find_program("mariadb-install-db", "mysql_install_db")
    data = directory / "data"
    environment = {"PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC"}
    account = ["--user=root"] if os.geteuid() == 0 else []
    subprocess.run(
        [
            installer,
            "--no-defaults",
            f"--datadir={data}",
            "--skip-test-db",
            "--auth-root-authentication-method=socket",
            *account,
        ],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    password = secrets.token_hex(16)
    init_file = directory / "init.sql"
    init_file.touch(mode=0o600)
    init_file.write_text(
        "CREATE DATABASE legacy CHARACTER SET utf8mb4;\n"
        f"CREATE USER 'legacy'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
        "GRANT ALL ON *.* TO 'legacy'@'127.0.0.1' WITH GRANT OPTION;\n"
    )
    [port] = free_ports(1)

    def ready() -> bool:
        try:
            pymysql.connect(host="127.0.0.1", port=port, user="legacy", password=password, database="legacy").close()
        except pymysql.Error:
            return False
        return True

    command = [
        server,
        "--no-defaults",
        f"--datadir={data}",
        f"--socket={directory / 'server.sock'}",
        f"--pid-file={directory / 'server.pid'}",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        f"--init-file={init_file}",
        "--sql-mode=NO_ENGINE_SUBSTITUTION",
        "--character-set-server=utf8mb4",
        "--default-time-zone=+00:00",
        "--max-allowed-packet=256M",
        "--innodb-flush-log-at-trx-commit=0",
        *account,
    ]
    with running(command, log=directory / "server.log", ready=ready, environment=environment):
        yield f"mysql+pymysql://legacy:{password}@127.0.0.1:{port}/legacy"


def load_time_zone(server: pymysql.Connection, zone: str) -> None:
    """Makes a MariaDB know a zone by name."""
    program = find_program("mariadb-tzinfo-to-sql", "mysql_tzinfo_to_sql")
    file = next(Path(place) / zone for place in TZPATH if (Path(place) / zone).is_file())
    made = subprocess.run([program, str(file), zone], check=True, capture_output=True, text=True).stdout
    with server.cursor() as cursor:
        cursor.execute("SELECT DATABASE()")
        [(database,)] = cursor.fetchall()
        if cursor.execute("SELECT 1 FROM mysql.time_zone_name WHERE Name = %s", [zone]):
            # By another test of this process, with which the server is shared.
            return
        cursor.execute("USE mysql")
        for statement in filter(str.strip, re.split(r";\s*\n", made)):
            cursor.execute(statement)
        cursor.execute(f"USE `{database}`")


@contextmanager
def pgbouncer(directory: Path, url: str, pool_mode: str) -> Iterator[str]:
    """A PgBouncer in an empty directory, before the PostgreSQL of a URL; yields the URL with its port in place."""
    at = make_url(url)
    [port] = free_ports(1)
    users = directory / "users.txt"
    users.touch(mode=0o600)
    users.write_text(f'"{at.username}" "{at.password}"\n')
    settings = directory / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={at.host} port={at.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\npool_mode = {pool_mode}\n"
    )
    account = []
    if os.geteuid() == 0:
        # It refuses to run as root.
        account = ["--user=nobody"]
        for path in (directory, users, settings):
            shutil.chown(path, "nobody")

    def ready() -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", port)) == 0

    command = [find_program("pgbouncer"), *account, str(settings)]
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    with running(command, log=directory / "server.log", ready=ready, environment=environment):
        yield at.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)


@contextmanager
def seaweedfs(directory: Path) -> Iterator[S3Server]:
    """A SeaweedFS server with its S3 door, in an empty directory."""
    weed = find_program("weed")
    # weed takes a fixed port wherever it is not told one, and two of its servers on one machine would then collide.
    parts = [f"{name}.port{kind}" for name in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = dict(zip([*parts, "s3.port.iceberg", "s3.port.lance"], free_ports(len(parts) + 2), strict=True))
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}", secrets.token_hex(10), secrets.token_hex(20))
    identities = directory / "identities.json"
    identities.touch(mode=0o600)
    keys = {"accessKey": server.access_key, "secretKey": server.secret_key}
    admin = {"name": "tests", "credentials": [keys], "actions": ["Admin", "Read", "List", "Tagging", "Write"]}
    identities.write_text(json.dumps({"identities": [admin]}))

    def ready() -> bool:
        try:
            urllib.request.urlopen(f"{server.endpoint}/healthz", timeout=2).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    (directory / "data").mkdir()
    command = [
        weed,
        "server",
        "-filer",
        "-s3",
        f"-dir={directory / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        # Every bucket takes volumes of its own, and as many as the free disk allows are soon gone.
        "-volume.max=10000",
        # A hundredth of the disk is asked for else, and on a large one that is full each write then waits and fails.
        "-volume.minFreeSpace=10MiB",
        f"-s3.config={identities}",
        f"-s3.localSocket={directory / 's3.sock'}",
        f"-filer.localSocket={directory / 'filer.sock'}",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory), "GOMEMLIMIT": "1GiB"}
    # Its parts wait for each other when it is asked to end, for half a minute, and nobody reads what it holds again.
    log = directory / "server.log"
    with running(command, log=log, ready=ready, environment=environment, ended_by=signal.SIGKILL):
        yield server


def find_rabbitmq() -> str:
    """The server's own script: that of Debian in the PATH changes the account."""
    program = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin:/opt/rabbitmq/sbin:/usr/local/sbin")
    if program is None:
        raise PartMissing("rabbitmq-server is not installed")
    return program


class RabbitMQ:
    """A RabbitMQ server in an empty directory, by Erlang on loopback ports alone.

    What it is told to keep it keeps: it may be ended, whichever way, and run again.
    """

    def __init__(self, directory: Path) -> None:
        self.program = find_rabbitmq()
        self.directory = directory
        self.port, self.names_port, distribution = free_ports(3)
        password, cookie = secrets.token_hex(16), directory / ".erlang.cookie"
        self.url = f"amqp://tests:{password}@127.0.0.1:{self.port}//"
        settings = directory / "rabbitmq.conf"
        settings.write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\ndefault_user = tests\ndefault_pass = {password}\n"
            "log.console = true\nlog.console.level = warning\n"
        )
        (directory / "enabled_plugins").write_text("[].\n")
        cookie.write_text(secrets.token_hex(20))
        cookie.chmod(0o400)
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"tests{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(settings),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "no-such.conf"),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none"
            " -kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(self.names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_MAX_PORTS": "4096",
        }

    @contextmanager
    def running(self, ended_by: signal.Signals = signal.SIGTERM) -> Iterator[None]:
        def answers(port: int) -> bool:
            with socket.socket() as asked:
                return asked.connect_ex(("127.0.0.1", port)) == 0

        # Else the server would start it, and leave it.
        names = [find_program("epmd"), "-port", str(self.names_port), "-address", "127.0.0.1"]
        with (
            running(
                names,
                log=self.directory / "names.log",
                ready=lambda: answers(self.names_port),
                environment=self.environment,
            ),
            running(
                [self.program],
                log=self.directory / "server.log",
                ready=lambda: answers(self.port),
                environment=self.environment,
                ended_by=ended_by,
            ),
        ):
            yield
