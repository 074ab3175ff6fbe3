"""What is in a mapping file is executed: whatever key of one is taken out or altered, something else comes out.

Or the file is refused. A key that could be changed without either would say something that is not so.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dtx_assets.machinery.base.errors import ConfigurationError, StructureError
from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model
from dtx_assets.machinery.mapping.lineage import accounted_for, column_descriptions, column_lineage
from dtx_assets.machinery.mapping.model import TargetMapping
from dtx_assets.machinery.mapping.validate import Known, check_target
from dtx_assets.machinery.mapping.validate_rules import check_rules
from dtx_assets.machinery.prepare.derived import derived_flow
from dtx_assets.machinery.system.flow import Flow, FlowInputs
from dtx_assets.machinery.system.system import System

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Case:
    """Rows of one batch, as a flow gets them, under options that were chosen."""

    chosen: Mapping[str, str]
    inputs: FlowInputs


def variants(content: Any, at: Path_ = ()) -> Iterator[tuple[str, Path_, Callable[[Any], Any]]]:
    """Each way to take out a key or to alter a value: what is done, where, and what does it to a document."""
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in entries:
        place = (*at, key)
        yield "without", place, lambda document, place=place: _without(document, place)
        if isinstance(value, dict | list):
            yield from variants(value, place)
        else:
            other = _other(value)
            yield "altered", place, lambda document, place=place, other=other: _with(document, place, other)


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else f"{value or ''}x"


def _holder(document: Any, place: Path_) -> Any:
    for step in place[:-1]:
        document = document[step]
    return document


def _without(document: Any, place: Path_) -> Any:
    changed = deepcopy(document)
    del _holder(changed, place)[place[-1]]
    return changed


def _with(document: Any, place: Path_, value: Any) -> Any:
    changed = deepcopy(document)
    _holder(changed, place)[place[-1]] = value
    return changed


def keys_that_do_nothing(
    path: Path, system: System, root: str, known: Known, cases: Sequence[Case], directory: Path
) -> list[str]:
    """The keys of a mapping file that can be changed and nothing becomes of it. `root` is the model of its flow."""
    content = YAML(typ="safe", pure=True).load(path)
    before = list(_facts(system, path.stem, root, cases))
    directory.mkdir(exist_ok=True)
    found = []
    for what, place, change in variants(content):
        changed = directory / path.name
        # JSON is YAML, and keeps the order.
        changed.write_text(json.dumps(change(content)))
        mapping = _accepted(changed, known)
        if mapping is None:
            continue
        mappings = replace(system.mappings, targets={**system.mappings.targets, path.stem: mapping})
        try:
            after = _facts(replace(system, mappings=mappings), path.stem, root, cases)
            # The first difference is enough: most keys need no row to be run.
            same = all(one == other for one, other in zip_longest(before, after))
        except (ConfigurationError, StructureError):
            continue
        if same:
            found.append(f"{what} {'.'.join(map(str, place))}")
    return found


def _accepted(path: Path, known: Known) -> TargetMapping | None:
    findings = Findings()
    file = YamlFile(path)
    mapping = parse_model(file, TargetMapping, findings)
    if mapping:
        check_target(file, mapping, known, findings)
        check_rules(file, mapping, known, findings)
    return None if findings.errors else mapping


def _facts(system: System, model: str, root: str, cases: Sequence[Case]) -> Iterator[str]:
    """All that a mapping file is used for: the flow, lineage and descriptions, what is accounted for, and the rows."""
    mapping = system.mappings.for_target(model)
    yield repr(column_lineage(mapping, system.name))
    yield repr(column_descriptions(mapping))
    yield mapping.decision
    for table in mapping.sources:
        yield repr(_sorted(accounted_for(system.mappings, table)))
    make = derived_flow(system.mappings, system.legacy_tables, root)
    flows = [(make(case.chosen), case) for case in cases]
    yield from (_declared(flow, case) for flow, case in flows)
    for flow, case in flows:
        if flow and set(flow.sources) <= set(case.inputs.legacy):
            outcome = flow.run(replace(case.inputs, system=system))
            yield from (str(frame.to_dicts()) for frame in outcome.fates)
            for made in (outcome.rejected, outcome.dropped):
                yield from (f"{target}: {frame.to_dicts()}" for target, frames in made.items() for frame in frames)
            yield from (f"{name}: {p.rows.to_dicts()} {p.links.to_dicts()}" for name, p in outcome.prepared.items())


def _sorted(accounted: tuple[set[str], dict[str, str]]) -> tuple[list[str], dict[str, str]]:
    return sorted(accounted[0]), accounted[1]


def _declared(flow: Flow | None, case: Case) -> str:
    if flow is None:
        return "no flow"
    named = {
        name: getattr(flow, name)
        for name in ("name", "area", "sources", "accounted", "mappings", "targets", "decisions", "owner", "description")
    }
    read = flow.reads(case.chosen) if flow.reads else {}
    return repr((named, {table: sorted(columns) for table, columns in read.items()}))
