"""The workspace: which systems there are, and the module of each one's code location. Dagster reads the same file."""

from pathlib import Path

from pydantic import BaseModel

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
