"""The library of `docs/a-system-by-hand.md` as a system for tests: its files, `dtx`, a target."""

from collections.abc import Mapping
from pathlib import Path

import psycopg

from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.pages import BLOCK, DOCS, PROJECT

DEFINITIONS = "library/definitions.py"
SITES = "INSERT INTO site (name) VALUES ('North'), ('South')"


def write_library(
    directory: Path,
    changes: Mapping[str, Mapping[str, str]] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> None:
    """The page's files; `changes` gives, for a file, texts and what takes their place, `renamed` other names."""
    files = {name: content for name, _, content in BLOCK.findall((DOCS / "a-system-by-hand.md").read_text()) if name}
    for name, replaced in (changes or {}).items():
        for old, new in replaced.items():
            assert old in files[name], f"{name} does not hold {old!r}"
            files[name] = files[name].replace(old, new)
    for name, content in files.items():
        path = directory / (renamed or {}).get(name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def a_library(
    directory: Path,
    url: str,
    changes: Mapping[str, Mapping[str, str]] | None = None,
    renamed: Mapping[str, str] | None = None,
    **settings: str,
) -> Command:
    """`dtx` for a library in the directory whose target, an empty database, has its tables and two sites."""
    write_library(directory, changes, renamed)
    variables = {f"LIBRARY_{name}": value for name, value in {"TARGET_URL": url, **settings}.items()}
    dtx = Command(directory, {"PYTHONPATH": str(PROJECT), **variables})
    tables = dtx("target", "ddl")
    assert tables.returncode == 0, tables.stderr
    with psycopg.connect(url) as connection:
        connection.execute(tables.stdout.encode())
        connection.execute(SITES)
    return dtx
