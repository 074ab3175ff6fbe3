"""No module and no class grows beyond what one can read at once; what a run makes is not kept by accident."""

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtx_assets.cli.shared import code_locations

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "dtx_assets"
LINES_OF_A_MODULE, LINES_OF_A_CLASS = 600, 300
STILL_TOO_LONG = frozenset(
    {
        "machinery/load/findings.py: Findings",
    }
)
"""What is to be split yet: it only ever shrinks."""


def too_long(package: Path) -> Iterator[str]:
    for path in sorted(package.rglob("*.py")):
        name, text = path.relative_to(package).as_posix(), path.read_text(encoding="utf-8")
        if len(text.splitlines()) > LINES_OF_A_MODULE:
            yield name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno >= LINES_OF_A_CLASS:
                yield f"{name}: {node.name}"


def test_no_module_and_no_class_is_too_long_but_those_that_are_to_be_split():
    assert set(too_long(PACKAGE)) == STILL_TOO_LONG


@pytest.mark.parametrize(("lines", "found"), [(299, []), (300, ["a/b.py: Long"]), (600, ["a/b.py", "a/b.py: Long"])])
def test_what_is_too_long_is_found(tmp_path, lines, found):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.py").write_text("class Long:\n" + "    value = 1\n" * lines)
    assert list(too_long(tmp_path)) == found


def test_what_a_run_of_each_system_makes_is_ignored_by_git_and_removed_by_clean():
    made = [f".{system}" for system in code_locations()]
    ignored = (PROJECT / ".gitignore").read_text(encoding="utf-8").splitlines()
    cleaned = subprocess.run(["make", "--dry-run", "clean"], cwd=PROJECT, check=True, capture_output=True, text=True)
    loop = cleaned.stdout.partition("for state in ")[2].partition(";")[0]
    assert sorted(loop.split()) == sorted(made)
    assert {f"{name}/" for name in made} <= set(ignored)


def test_whatever_the_package_reads_is_installed_with_it():
    """Here it is read from where it lies; `package-data` says what of it an installation has."""
    [patterns] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"].values()
    suffixes = {".py", *(Path(pattern).suffix for pattern in patterns if "/" not in pattern)}
    listed = subprocess.run(["git", "ls-files", "-z", "dtx_assets"], cwd=PROJECT, check=True, capture_output=True)
    files = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    assert len(files) > 100
    assert [str(path) for path in files if "sample" not in path.parts and path.suffix not in suffixes] == []
