"""The workspace: which systems there are, and the module of each one's code location. Dagster reads the same file."""

from io import StringIO
from pathlib import Path

from pydantic import BaseModel
from ruamel.yaml import YAML

from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model


class PythonModule(BaseModel):
    module_name: str
    location_name: str
    """The name of the system."""


class LoadedFrom(BaseModel):
    python_module: PythonModule


class Workspace(BaseModel):
    load_from: tuple[LoadedFrom, ...]


def read_workspace(path: Path) -> dict[str, str]:
    """The module of each system, in the order of the file; ConfigurationError where it does not name one."""
    findings = Findings()
    file = YamlFile(path)
    found = parse_model(file, Workspace, findings)
    if found is not None and not found.load_from:
        findings.add("the workspace names no code location", file.where(["load_from"]), "name one: `python_module: …`")
    findings.raise_if_any()
    assert found
    return {entry.python_module.location_name: entry.python_module.module_name for entry in found.load_from}


def add_to_workspace(path: Path, system: str, module: str) -> None:
    """Adds a code location to the file, and makes it where it is not there; one of that name stays as it is."""
    if path.exists() and system in read_workspace(path):
        return
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(path.read_text("utf-8")) if path.exists() else {"load_from": []}
    content["load_from"].append({"python_module": {"module_name": module, "location_name": system}})
    stream = StringIO()
    yaml.dump(content, stream)
    path.write_text(stream.getvalue(), "utf-8")
