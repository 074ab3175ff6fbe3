"""Commands of `dtx` in processes forked from one that has imported the code, which costs more than most commands.

Such a process differs from one that a user starts in nothing else: it is alone, has an environment, a directory and
output of its own, and ends as an interpreter ends. What is interrupted or asks a person starts as a user's does.
"""

import atexit
import functools
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

MODULE = "dtx_assets.cli.main"
IMPORTED = ("dtx_assets.machinery.code_location.definitions", "dtx_assets.machinery.dagster.run", MODULE)
"""Nothing of a system, and nothing that reads the environment or makes Polars start its threads."""
READ_AT_START = ("LANG", "LC_", "LD_", "POLARS_", "PYTHON")
"""How variables begin that an interpreter or a library reads once; PYTHONPATH is followed."""
LONGEST = 1 << 17
"""Bytes of a request: arguments and environment."""


# --- in the process that is forked ------------------------------------------------------------------------------------


def serve(requests: socket.socket) -> bool:
    """Fork a process a request; whether this is one, which has to become the command, or the end of all requests."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, streams, *_ = socket.recv_fds(requests, LONGEST, 3)
        if not message:
            return False
        if os.fork() == 0:
            requests.close()
            return _overseen(json.loads(message), *streams)
        for stream in streams:
            os.close(stream)


def _overseen(request: dict[str, object], stdout: int, stderr: int, report: int) -> bool:
    """True in the command's process; the one between it and the server tells its pid and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        with suppress(BrokenPipeError):
            os.write(report, f"{pid}\n".encode())
            _, status = os.waitpid(pid, 0)
            os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    os.close(report)
    for stream, number in ((stdout, 1), (stderr, 2)):
        os.dup2(stream, number)
        os.close(stream)
    os.umask(0o022)
    os.chdir(str(request["directory"]))
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[arg-type]
    time.tzset()
    sys.path[:1] = [str(Path.cwd()), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["dtx", *request["arguments"]]  # type: ignore[misc]
    return True


# --- in the tests -----------------------------------------------------------------------------------------------------


@functools.cache
def _server() -> socket.socket:
    """The one of this process of tests; it ends with it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(its.fileno())],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def run_dtx(
    *arguments: str, directory: Path, environment: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """The command, run to its end as `subprocess.run` does it. Raises TimeoutExpired after so many seconds."""
    if _at_start(environment) != _at_start(os.environ):
        command = [sys.executable, "-m", MODULE, *arguments]
        return subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )
    with ExitStack() as stack:
        stdout, stderr = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        reading, writing = os.pipe()
        report = stack.enter_context(os.fdopen(reading, "rb", buffering=0))
        request = {"arguments": arguments, "directory": str(directory), "environment": dict(environment)}
        try:
            message = json.dumps(request).encode()
            socket.send_fds(_server(), [message], [stdout.fileno(), stderr.fileno(), writing])
        finally:
            os.close(writing)
        pid = int(report.readline())
        if is_late := not select.select([report], [], [], seconds)[0]:
            os.kill(pid, signal.SIGKILL)
        code = int(report.readline())
        said = []
        for stream in (stdout, stderr):
            stream.seek(0)
            said.append(stream.read().decode())
    if is_late:
        raise subprocess.TimeoutExpired(["dtx", *arguments], seconds, *said)
    return subprocess.CompletedProcess(["dtx", *arguments], code, *said)


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in environment.items() if name.startswith(READ_AT_START) and name != "PYTHONPATH"
    }


if __name__ == "__main__":
    for module in IMPORTED:
        __import__(module)
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        is_command = serve(requests)
    if is_command:
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
