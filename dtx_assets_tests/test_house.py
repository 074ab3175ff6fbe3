"""No module and no class of the program grows beyond what one can read at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dtx_assets"
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
