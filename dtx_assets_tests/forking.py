"""Processes forked from one that has imported the code, which costs more than most commands do. Linux, as the tests."""

import atexit
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from dtx_assets_tests.fork_server import COMMAND, IMPORTED, become_dtx, read_at_start
from dtx_assets_tests.patience import PATIENCE


def started(function: Callable[..., object], *values: object) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    process = context.Process(target=function, args=values)
    process.start()
    return process


def write_to(stdout: Path, stderr: Path) -> None:
    """Where this process writes from now on, behind what is there."""
    for path, stream in ((stdout, sys.stdout), (stderr, sys.stderr)):
        with path.open("a") as output:
            os.dup2(output.fileno(), stream.fileno())


def run_dtx(
    *arguments: str, directory: Path, environment: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """The command to its end, like `subprocess.run` with its output as text. Raises TimeoutExpired where it is late.

    It is alone, has an environment, a directory and output of its own, and begins with the command's first line. What
    is interrupted or asks a person is started as a user starts it.
    """
    if read_at_start(environment) != read_at_start(os.environ):
        command = [sys.executable, "-m", COMMAND, *arguments]
        return subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )
    return _to_its_end(["dtx", *arguments], seconds, _become_dtx, arguments, directory, dict(environment))


def run_script(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Like `python -c` to its end, with this process's environment and more; what is read at start is as it is here."""
    given = {**os.environ, **environment}
    return _to_its_end(["-c", script, *arguments], PATIENCE, _become_script, script, arguments, given)


def _to_its_end(
    what: list[str], seconds: float, function: Callable[..., object], *values: object
) -> subprocess.CompletedProcess[str]:
    with TemporaryDirectory(prefix="dtx-") as name:
        outputs = Path(name, "stdout"), Path(name, "stderr")
        process = started(function, *values, *outputs)
        process.join(seconds)
        if is_late := process.is_alive():
            process.kill()
            process.join()
        code, said = process.exitcode, [output.read_text() if output.exists() else "" for output in outputs]
        process.close()
    if is_late:
        raise subprocess.TimeoutExpired(what, seconds, *said)
    assert code is not None
    return subprocess.CompletedProcess(what, code, *said)


def _become_dtx(
    arguments: tuple[str, ...], directory: Path, environment: dict[str, str], stdout: Path, stderr: Path
) -> None:
    write_to(stdout, stderr)
    try:
        become_dtx(arguments, directory, environment)
    finally:
        # multiprocessing ends its processes without.
        atexit._run_exitfuncs()


def _become_script(
    script: str, arguments: tuple[str, ...], environment: dict[str, str], stdout: Path, stderr: Path
) -> None:
    write_to(stdout, stderr)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *arguments]
    try:
        exec(script, {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()
