"""The workspace file: which systems it names, and what is told where it names none."""

import pytest

from dtx_assets.cli import shared as cli
from dtx_assets.cli.workspace import read_workspace
from dtx_assets.machinery.base.errors import ConfigurationError

OWN = """\
load_from:
  - python_module: { module_name: library.definitions, location_name: library }
  - python_module: { module_name: zoo.definitions, location_name: zoo, working_directory: zoo }
"""


def test_systems_come_in_the_order_of_the_file(tmp_path):
    (tmp_path / "workspace.yaml").write_text(OWN)
    systems = read_workspace(tmp_path / "workspace.yaml")
    assert list(systems.items()) == [("library", "library.definitions"), ("zoo", "zoo.definitions")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("load_from: []\n", "names no code location"),
        ("load_from:\n  - python_file: definitions.py\n", "'python_module' is missing"),
        ("load_from:\n  - python_module: { module_name: a }\n", "'location_name' is missing"),
        ("load_from: [\n", "not valid YAML"),
    ],
)
def test_a_workspace_without_systems_is_refused_with_its_line(tmp_path, text, told):
    path = tmp_path / "workspace.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=told) as raised:
        read_workspace(path)
    assert str(raised.value.where).startswith(f"{path}:")


def test_the_workspace_of_the_current_directory_counts_else_that_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.chosen_system("") == "dtx"
    (tmp_path / "workspace.yaml").write_text(OWN)
    assert cli.chosen_system("") == "library"
    assert cli.chosen_system("zoo") == "zoo"
    with pytest.raises(ConfigurationError, match="there is no system 'dtx'") as raised:
        cli.code_location("dtx")
    assert raised.value.remedy == "use one of: library, zoo"
