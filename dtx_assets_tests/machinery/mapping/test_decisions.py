"""A decision is chosen in a reviewed file and overridden in another; a misspelt one must never be ignored."""

from pathlib import Path

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.mapping.decisions import load_decisions

FILE = """\
decisions:
  - key: shape
    area: 1
    number: "1"
    title: Shape
    text: Which shape.
    options: [round, flat]
    chosen: round
    status: open
    blocking_action: Z-1
    confirm_by: owner
  - key: archive
    area: 1
    number: "2"
    title: Archive
    text: Nothing to choose.
    status: documented
actions:
  - {id: Z-1, area: 1, number: 1, text: Ask, blocking: true}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "decisions.yaml"
    path.write_text(FILE)
    return path


def test_options_are_chosen_and_overridden(file: Path, tmp_path: Path) -> None:
    override = tmp_path / "mine.yaml"
    assert load_decisions(file).chosen == {"shape": "round"}
    override.write_text("shape: flat\n")
    assert load_decisions(file, override).chosen == {"shape": "flat"}
    override.write_text("decisions:\n  shape: flat\n")
    assert load_decisions(file, override).chosen == {"shape": "flat"}
    assert [entry.key for entry in load_decisions(file).open] == ["shape"]


@pytest.mark.parametrize(
    ("text", "line", "what", "remedy"),
    [
        ("shpae: flat\n", 1, "there is no decision 'shpae' to choose", "did you mean 'shape'?"),
        ("# mine\nshape: flatt\n", 2, "decision 'shape' has no option 'flatt'", "did you mean 'flat'?"),
        ("archive: flat\n", 1, "there is no decision 'archive' to choose", "use one of: shape"),
        ("- shape\n", 1, "does not hold a mapping", ""),
    ],
)
def test_a_wrong_override_is_told(file: Path, tmp_path: Path, text: str, line: int, what: str, remedy: str) -> None:
    override = tmp_path / "mine.yaml"
    override.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        load_decisions(file, override)
    assert what in str(error.value)
    assert f"mine.yaml:{line}" in str(error.value)
    assert remedy in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("key: archive", "key: shape", 12, "decision 'shape' stands here twice"),
        ("chosen: round", "chosen: square", 8, "has no option 'square'"),
        ("blocking_action: Z-1", "blocking_action: Z-2", 10, "names an unknown action 'Z-2'"),
        ("status: open", "status: opne", 9, "'status' cannot be 'opne'"),
        ("[round, flat]", "[round, flat, round]", 7, "an option of decision 'shape' stands here twice"),
        ("    confirm_by: owner\n", "", 9, "is open, and nobody is named to confirm it"),
        ("    text: Nothing to choose.", "    text: Nothing.\n    chosen: round", 17, "has nothing to choose from"),
        (
            "blocking: true}",
            "blocking: true}\n  - {id: Z-1, area: 1, number: 2, text: Ask, blocking: true}",
            20,
            "twice",
        ),
        ("title: Shape", "titel: Shape", 5, "unknown key 'titel'"),
    ],
)
def test_a_wrong_file_is_told(file: Path, old: str, new: str, line: int, what: str) -> None:
    file.write_text(FILE.replace(old, new))
    with pytest.raises(ConfigurationError) as error:
        load_decisions(file)
    assert what in str(error.value)
    assert f"decisions.yaml:{line}" in str(error.value)


def test_a_missing_override_is_told(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a file is missing"):
        load_decisions(file, tmp_path / "nowhere.yaml")


def test_an_option_that_is_called_null_has_to_be_in_quotes(file: Path, tmp_path: Path) -> None:
    file.write_text(file.read_text().replace("[round, flat]", "[round, flat, 'null']"))
    override = tmp_path / "mine.yaml"
    override.write_text("shape: 'null'\n")
    assert load_decisions(file, override).chosen == {"shape": "null"}
    override.write_text("shape: null\n")
    with pytest.raises(ConfigurationError, match="put the option in quotes: shape: 'null'"):
        load_decisions(file, override)
