"""The `dtx` command as users run it, in its own process and directory, and what it left in the target."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg

from dtx_assets.dtx.system import SYSTEM
from dtx_assets_tests.forking import run_dtx

WORKSPACE_OF_DTX = """\
load_from:
  - python_module:
      module_name: dtx_assets.dtx.definitions
      location_name: dtx
"""
"""For a server that is asked of DTX alone: for each code location Dagster starts a process that imports it.

All of the package's own are loaded as servers load them in `test_definitions.py`, and served in `test_ui.py`.
"""
LOADED = (
    "EmailTemplate",
    "NotificationSchedule",
    "ManualOverride",
    "DocRequirement",
    "AccountEmail",
    "AccountMeta",
    "Document",
)


@dataclass
class Command:
    """`dtx` in an empty directory with a state directory and a target database of its own."""

    directory: Path
    environment: dict[str, str]
    seconds: int = 280

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DTX_", "DAGSTER_"))}
        given = {**clean, **self.environment, **environment}
        return run_dtx(*arguments, directory=self.directory, environment=given, seconds=self.seconds)

    def started(self, *arguments: str) -> subprocess.Popen[str]:
        """The command as a process that goes on, says all in one stream, line by line, and takes signals."""
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "dtx_assets.cli.main", *arguments],
            cwd=self.directory,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def states(self) -> dict[str, dict[str, dict[str, object]]]:
        done = self("status", "--json")
        assert done.returncode == 0, done.stderr
        states = json.loads(done.stdout)
        return {
            "assets": {asset["asset"]: asset for asset in states["assets"]},
            "checks": {f"{check['asset']}:{check['name']}": check for check in states["checks"]},
        }


def counts(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        return {
            model: connection.execute(f'SELECT count(*) FROM "{SYSTEM.target(model).name}"').fetchone()[0]
            for model in LOADED
        }
