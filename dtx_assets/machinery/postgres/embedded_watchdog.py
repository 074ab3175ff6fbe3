"""The process that stops an embedded PostgreSQL when nobody uses it any more, however its users ended.

Run as a script by `embedded_postgres`, so it imports nothing but the standard library. Each user of a server holds a
shared lock on `users.lock`, which the kernel gives back when the user ends, by kill -9 too. The watchdog waits for the
exclusive lock: when it gets it, no user is left. How a server is started is not here.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

USERS_LOCK = "users.lock"
STARTING_MARK = "starting"
SECONDS_TO_STOP = 60
SECONDS_TO_APPEAR = 30


def data_directory(base: Path) -> Path:
    """Where the database files of the server kept in `base` are."""
    return base / "cluster" / "data"


def postmaster(data: Path) -> int | None:
    """The process id of the server that runs on these database files, or None.

    The id in `postmaster.pid` is not believed alone: after a crash of the machine it may be another program's.
    """
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None
    return pid if pid > 0 and _is_server_of(pid, data) else None


def _is_server_of(pid: int, data: Path) -> bool:
    process = Path("/proc") / str(pid)
    if not Path("/proc/self/comm").exists():
        shown = subprocess.run(["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return shown.stdout.strip().endswith("postgres")
    try:
        if (process / "comm").read_text().strip() != "postgres" or not (process / "cmdline").read_bytes():
            return False
        return (process / "cwd").samefile(data)
    except PermissionError:
        # Root without CAP_SYS_PTRACE (in a container) may not look: a live postgres with the recorded id it is.
        return True
    except OSError:
        return False


def stop_server(data: Path) -> None:
    """Shut the server down and wait until it is gone; open transactions are rolled back."""
    for how, seconds in ((signal.SIGINT, SECONDS_TO_STOP), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)):
        pid = postmaster(data)
        if pid is None:
            return
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while postmaster(data) == pid and time.monotonic() < deadline:
            time.sleep(0.02)


def main(base: Path, watchdog_lock: int) -> None:
    """Detach, wait until no user is left, stop the server, end. `watchdog_lock` is held for as long as this lives."""
    users_lock = os.open(base / USERS_LOCK, os.O_RDWR | os.O_CLOEXEC)
    # The starter waits for this process, so that no zombie of it is left; the fork goes on.
    if os.fork():
        os._exit(0)
    fcntl.flock(users_lock, fcntl.LOCK_EX)
    data, mark = data_directory(base), base / STARTING_MARK
    # A user that was killed while pg_ctl worked leaves a server that is yet to appear.
    deadline = time.monotonic() + SECONDS_TO_APPEAR
    while mark.exists() and postmaster(data) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    stop_server(data)
    mark.unlink(missing_ok=True)
    # In this order: whoever gets the users' lock next must find that there is no watchdog.
    os.close(watchdog_lock)
    os.close(users_lock)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
