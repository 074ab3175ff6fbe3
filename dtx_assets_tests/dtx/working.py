"""Workers as users start them, each in a group of processes of its own that can be killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from dtx_assets.dtx.system import SYSTEM, load_other_areas
from dtx_assets.machinery.load import create_target
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.patience import PATIENCE


def as_new(url: str) -> str:
    """A database with the tables of the target and the rows of other areas."""
    with psycopg.connect(url) as connection:
        create_target(connection, SYSTEM.targets)
        load_other_areas(connection, SYSTEM.sample_dir / "target")
    return url


@contextmanager
def worker(dtx: Command, name: str, *arguments: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """`dtx worker`, in a group of its own; what it says is in a file of that name."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("DTX_", "DAGSTER_"))}
    with (dtx.directory / name).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dtx_assets.cli.main", "worker", *arguments],
            cwd=dtx.directory,
            env={**clean, **dtx.environment, **more},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
