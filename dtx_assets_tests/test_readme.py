"""What the README shows runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.timeout(900)
def test_the_rehearsal_of_the_readme_runs_as_written(tmp_path):
    section = README.read_text().partition("## Rehearse, cut over, undo")[2]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    command = bin_directory / "dtx"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dtx_assets.cli "$@"\n')
    command.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DTX_", "DAGSTER_"))}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", found[1]],
        cwd=tmp_path,
        env={**clean, "PATH": f"{bin_directory}:{clean['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=880,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "would be undone" in done.stdout
    [before, loaded, delta] = [(tmp_path / f"{name}.txt").read_text() for name in ("before", "loaded", "delta")]
    assert len({before, loaded, delta}) == 3
    assert re.search(r"docutrax_utils_emailtemplate\|[1-9]", loaded)
