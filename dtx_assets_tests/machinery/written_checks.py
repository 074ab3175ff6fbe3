"""What is in `checks.yaml` is asked: whatever key of it is taken out or altered, a check says or asks another thing."""

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dtx_assets.machinery.base.yaml_file import Findings, YamlFile
from dtx_assets.machinery.checks.own import Look
from dtx_assets.machinery.checks.written import question
from dtx_assets.machinery.mapping.checks import PlacedCheck, read_checks
from dtx_assets.machinery.mapping.load import CHECKS
from dtx_assets.machinery.mapping.validate import Known
from dtx_assets.machinery.mapping.value_map import ValueMap
from dtx_assets.machinery.system.system import System
from dtx_assets_tests.machinery.mapping_keys import require_place, variants


def keys_of_checks_that_do_nothing(system: System, directory: Path) -> list[str]:
    """The keys of a system's file that can be changed and nothing becomes of it; none where it has no file."""
    path = system.mappings_dir / CHECKS
    if not path.exists():
        return []
    content = YAML(typ="safe", pure=True).load(path)
    before = _said(system, content, directory)
    assert before
    return [
        f"{what} {'.'.join(map(str, place))}"
        for what, place, change in variants(content)
        if _said(system, change(content), directory) == before
    ]


def _said(system: System, content: Any, directory: Path) -> list[str] | None:
    """All that the checks of a content say and ask; None where it is refused."""
    path = directory / CHECKS
    path.write_text(json.dumps(content))
    value_maps = {name: ValueMap(path, frame, ()) for name, frame in system.mappings.value_maps.items()}
    known = Known({}, system.legacy_tables, system.mappings.transforms, {}, (), value_maps, system.decisions)
    findings = Findings()
    found = read_checks(YamlFile(path), known, findings)
    for error in findings.errors:
        require_place(error)
    return None if findings.errors else [_said_by(system, each) for each in found]


def _said_by(system: System, placed: PlacedCheck) -> str:
    check = placed.check
    look = Look(None, system, system.decisions, system.mappings.value_maps, None, asset=("legacy", placed.table))  # type: ignore[arg-type]
    asked = question(check, look)
    tallies = [{name: str(value) for name, value in values.items()} for values in (asked.values, asked.all_values)]
    return repr(
        (
            *(placed.table, placed.name, check.description, check.severity, check.blocking, check.replaces),
            *(str(asked.when), asked.show, tallies, asked.distinct, asked.facts),
        )
    )
