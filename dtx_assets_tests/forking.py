"""Processes forked from one that has imported the code, which costs more than most commands do. Linux, as the tests."""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

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
    if _read_at_start(environment) != _read_at_start(os.environ):
        command = [sys.executable, "-m", COMMAND, *arguments]
        return subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )
    with TemporaryDirectory(prefix="dtx-") as name:
        outputs = Path(name, "stdout"), Path(name, "stderr")
        process = started(_become_dtx, arguments, directory, dict(environment), *outputs)
        process.join(seconds)
        if is_late := process.is_alive():
            process.kill()
            process.join()
        code, said = process.exitcode, [output.read_text() if output.exists() else "" for output in outputs]
        process.close()
    if is_late:
        raise subprocess.TimeoutExpired(["dtx", *arguments], seconds, *said)
    assert code is not None
    return subprocess.CompletedProcess(["dtx", *arguments], code, *said)


def _become_dtx(
    arguments: tuple[str, ...], directory: Path, environment: dict[str, str], stdout: Path, stderr: Path
) -> None:
    write_to(stdout, stderr)
    os.umask(0o022)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.path[:1] = [str(directory), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["dtx", *arguments]
    try:
        runpy.run_module(COMMAND, run_name="__main__", alter_sys=True)
    finally:
        # multiprocessing ends its processes without.
        atexit._run_exitfuncs()


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in environment.items() if name.startswith(READ_AT_START) and name != "PYTHONPATH"
    }
