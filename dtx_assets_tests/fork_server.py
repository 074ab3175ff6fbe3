"""Commands of `dtx` that a shell starts, forked from one process that has imported the code. Linux, as the tests.

Started as a program, by its path: the server, or what stands in the PATH as `dtx` and asks it. That hands over what a
command is given: arguments, directory, environment, umask, and the three streams themselves. It ends as the command
does, signals it gets go to the command, and the command dies where it dies. Nothing is imported from the project until
the first command comes: by then a page has changed what it changes.
"""

import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

COMMAND = "dtx_assets.cli.main"
IMPORTED = (
    "pandera.backends.polars.builtin_checks",
    "dtx_assets.machinery.code_location.definitions",
    "dtx_assets.machinery.dagster.run",
    "dtx_assets.cli.shared",
)
"""Not a system: building it uses Polars, whose threads a fork does not have. Nothing of these reads the environment."""
READ_AT_START = ("LANG", "LC_", "LD_", "POLARS_", "PYTHON")
"""How variables begin that an interpreter or a library reads once; PYTHONPATH is followed."""
STREAMS = 3
HANDED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
MOST = 1_000_000
"""Bytes of what a command is given."""


def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in environment.items() if name.startswith(READ_AT_START) and name != "PYTHONPATH"
    }


def become_dtx(arguments: Sequence[str], directory: Path, environment: Mapping[str, str], umask: int = 0o022) -> None:
    """Makes this process, which has been forked, the command; it leaves by SystemExit, if at all."""
    os.umask(umask)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.path[:1] = [str(directory), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["dtx", *arguments]
    # Not above: what asks has to begin at once.
    import runpy

    runpy.run_module(COMMAND, run_name="__main__", alter_sys=True)


# --- what asks --------------------------------------------------------------------------------------------------------


def ask(place: str, arguments: Sequence[str]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(place)
        umask = os.umask(0o077)
        given = {"arguments": arguments, "directory": str(Path.cwd()), "environment": dict(os.environ), "umask": umask}
        for number in HANDED_ON:
            signal.signal(number, lambda number, _frame: server.send(bytes([number])))
        socket.send_fds(server, [json.dumps(given).encode()], range(STREAMS))
        code = int(server.recv(16))
    if code < 0:
        if -code in HANDED_ON:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


# --- the server -------------------------------------------------------------------------------------------------------


def serve(place: str) -> None:
    """Forks commands until it is ended. In a process that became one it returns, as the command's own end does."""
    began = read_at_start(os.environ)
    imported: float | None = None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(place)
        listening.listen()
        while True:
            asking, _ = listening.accept()
            said, streams, _, _ = socket.recv_fds(asking, MOST, STREAMS)
            if imported is None:
                imported = time.time()
                for name in IMPORTED:
                    importlib.import_module(name)
            if os.fork() == 0:
                listening.close()
                break
            for descriptor in (asking.detach(), *streams):
                os.close(descriptor)
            # Those that looked after a command that has ended.
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    command = os.fork()
    if command:
        for stream in streams:
            os.close(stream)
        look_after(command, asking)
    asking.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    given = json.loads(said)
    if read_at_start(given["environment"]) == began and not changed_since(imported):
        become_dtx(**given)
    else:
        os.umask(given["umask"])
        os.chdir(given["directory"])
        os.execve(sys.executable, [sys.executable, "-m", COMMAND, *given["arguments"]], given["environment"])


def changed_since(moment: float) -> bool:
    """Whether the file of a module of the project is newer than what was imported of it."""
    files = (getattr(module, "__file__", None) for name, module in sys.modules.items() if name.startswith("dtx_assets"))
    return any(Path(file).stat().st_mtime > moment for file in files if file)


def look_after(command: int, asking: socket.socket) -> NoReturn:
    """Hands on the signals that the one who asked gets, its death too, and tells it how the command ended."""
    ends = os.pidfd_open(command)
    is_killed = False
    while ends not in select.select([ends] if is_killed else [ends, asking], [], [])[0]:
        number = asking.recv(1)
        is_killed = not number
        os.kill(command, number[0] if number else signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    with suppress(OSError):
        asking.send(str(code).encode())
    os._exit(0)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", at]:
            serve(at)
        case ["ask", at, *rest]:
            ask(at, rest)
