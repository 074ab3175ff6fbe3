"""Runs the pages of `docs/`: their files are written, their commands run, their output compared, as they stand there.

What a page calls `dtx` forks a process that has imported the code (`fork_server.py`).

In a page, `name`: before a block makes it a file; a block of `sh` is run; one of `diff` is applied; of `text` each line
is in what the commands have said.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dtx_assets_tests import fork_server

PROJECT = Path(__file__).parents[1]
DOCS = PROJECT / "docs"
BLOCK = re.compile(r"^(?:`([\w./-]+)`:\n\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS = 800


def script_of(text: str) -> str:
    """A shell script of all that a page asks its reader to do, in order."""
    done = []
    for name, kind, content in BLOCK.findall(text):
        if name:
            done.append(f"mkdir -p $(dirname {name})\ncat > {name} <<'END OF FILE'\n{content}END OF FILE\n")
        elif kind == "diff":
            done.append(f"git apply --whitespace=nowarn - <<'END OF FILE'\n{content}END OF FILE\n")
        elif kind == "sh":
            done.append(content)
    return "\n".join(done)


def run_page(text: str, directory: Path, environment: Mapping[str, str] | None = None) -> str:
    """Does what a page says in a directory, and gives what came of it; fails where a command does."""
    programs = directory.parent / "programs"
    programs.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DTX_", "DAGSTER_"))}
    given = {
        "PYTHONPATH": str(PROJECT),
        **clean,
        "PATH": f"{programs}:{clean['PATH']}",
        # A repository around it would make `git apply` look at its own files.
        "GIT_CEILING_DIRECTORIES": str(directory.parent),
        **(environment or {}),
    }
    # Near the root: the path of a socket may have about a hundred characters only.
    with TemporaryDirectory(prefix="dtx-") as near:
        at = Path(near, "asked")
        for name, program in {"dtx": f'-IS "{fork_server.__file__}" ask "{at}"', "pytest": "-m pytest"}.items():
            command = programs / name
            command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {program} "$@"\n')
            command.chmod(0o755)
        with serving(at, directory, given):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script_of(text)],
                cwd=directory,
                env=given,
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    lines = {" ".join(line.split()) for line in said.splitlines()}
    expected = [line for name, kind, content in BLOCK.findall(text) if kind == "text" for line in content.splitlines()]
    assert [line for line in expected if " ".join(line.split()) not in lines] == [], said[-6000:]
    return said


@contextmanager
def serving(at: Path, directory: Path, environment: Mapping[str, str]) -> Iterator[None]:
    command = [sys.executable, "-P", fork_server.__file__, "serve", str(at)]
    with subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL) as server:
        try:
            while not at.exists():
                assert server.poll() is None
                time.sleep(0.01)
            yield
        finally:
            server.kill()
