"""What is in a mapping file is executed: whatever key of one is taken out or altered, something else comes out.

Or the file is refused. A key that could be changed without either would say something that is not so.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dtx_assets.machinery.base.errors import ConfigurationError, StructureError
from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model
from dtx_assets.machinery.mapping.conditions import is_active
from dtx_assets.machinery.mapping.lineage import accounted_for, column_descriptions, column_lineage
from dtx_assets.machinery.mapping.model import TargetMapping, When
from dtx_assets.machinery.mapping.validate import Known, check_target
from dtx_assets.machinery.mapping.validate_rules import check_followed, check_parents, check_rules
from dtx_assets.machinery.prepare.derived import derived_flow, flow_name
from dtx_assets.machinery.system.flow import Flow, FlowInputs
from dtx_assets.machinery.system.system import System
from dtx_assets_tests.machinery.real_mappings import Prepared

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
    file = MappingFile(path, system, root, known, cases, directory)
    return [
        f"{what} {'.'.join(map(str, place))}"
        for what, place, change in variants(content)
        if file.is_same(change(content))
    ]


class MappingFile:
    """A mapping file of a system, and all that is made of it, as far as it was asked for yet."""

    def __init__(
        self, path: Path, system: System, root: str, known: Known, cases: Sequence[Case], directory: Path
    ) -> None:
        self._name, self._system, self._root, self._known, self._cases = path.name, system, root, known, cases
        self._model = path.stem
        self._directory = directory
        self._made: dict[int, list[str]] = {}
        targets = system.mappings.targets
        self._files = {model: (YamlFile(path), targets[model]) for model, path in system.mappings.files.items()}

    def is_same(self, content: Any, cases: Sequence[int] | None = None) -> bool:
        """Whether all comes out of another content of the file that came out of its own; rows under those `cases`."""
        self._directory.mkdir(exist_ok=True)
        changed = self._directory / self._name
        # JSON is YAML, and keeps the order.
        changed.write_text(json.dumps(content))
        mapping = _accepted(changed, self._known, self._files)
        if mapping is None:
            return False
        targets = {**self._system.mappings.targets, self._model: mapping}
        system = replace(self._system, mappings=replace(self._system.mappings, targets=targets))
        numbers = range(len(self._cases)) if cases is None else cases
        try:
            # The first difference is enough: most keys need no row to be run.
            before, after = (
                _declarations(each, self._model, self._root, [self._cases[number] for number in numbers])
                for each in (self._system, system)
            )
            if not all(one == other for one, other in zip_longest(before, after)):
                return False
            return all(
                all(one == other for one, other in zip_longest(self._rows(case), self._run(system, case)))
                for case in numbers
            )
        except (ConfigurationError, StructureError):
            return False

    def _rows(self, case: int) -> list[str]:
        if case not in self._made:
            self._made[case] = list(self._run(self._system, case))
        return self._made[case]

    def _run(self, system: System, case: int) -> Iterator[str]:
        return _rows(system, self._root, self._cases[case])


def _accepted(path: Path, known: Known, files: Mapping[str, tuple[YamlFile, TargetMapping]]) -> TargetMapping | None:
    """The mapping of a file beside those of the other models; None where it is refused."""
    findings = Findings()
    file = YamlFile(path)
    mapping = parse_model(file, TargetMapping, findings)
    if mapping:
        check_target(file, mapping, known, findings)
        check_rules(file, mapping, known, findings)
        family = {**files, path.stem: (file, mapping)}
        check_parents(family, findings)
        check_followed(family, findings)
    return None if findings.errors else mapping


def _declarations(system: System, model: str, root: str, cases: Sequence[Case]) -> Iterator[str]:
    """What a mapping file is used for besides rows: the flow, lineage and descriptions, what is accounted for."""
    mapping = system.mappings.for_target(model)
    yield repr(column_lineage(mapping, system.name))
    yield repr(column_descriptions(mapping))
    yield mapping.decision
    yield mapping.description
    for table in mapping.sources:
        yield repr(_sorted(accounted_for(system.mappings, table)))
    make = derived_flow(system.mappings, system.legacy_tables, root)
    yield from (_declared(make(case.chosen), case) for case in cases)


def _rows(system: System, root: str, case: Case) -> Iterator[str]:
    """What the flow of a mapping file makes of the rows of a batch."""
    flow = derived_flow(system.mappings, system.legacy_tables, root)(case.chosen)
    there = {*case.inputs.legacy, *case.inputs.mappings}
    if flow and {*flow.sources, *flow.mappings} <= there:
        outcome = flow.run(replace(case.inputs, system=system))
        yield from (frame.write_ndjson() for frame in outcome.fates)
        for made in (outcome.rejected, outcome.dropped):
            yield from (f"{target}: {frame.write_ndjson()}" for target, frames in made.items() for frame in frames)
        yield from (f"{name}: {p.rows.write_ndjson()} {p.links.write_ndjson()}" for name, p in outcome.prepared.items())


def _sorted(accounted: tuple[set[str], dict[str, str]]) -> tuple[list[str], dict[str, str]]:
    return sorted(accounted[0]), accounted[1]


def _declared(flow: Flow | None, case: Case) -> str:
    if flow is None:
        return "no flow"
    named = {
        name: getattr(flow, name)
        for name in (
            *("name", "area", "sources", "accounted", "mappings", "targets", "decisions", "owner", "description"),
            *("uses_cutover_time", "together", "counted_apart", "splits"),
        )
    }
    read = flow.reads(case.chosen) if flow.reads else {}
    return repr((named, {table: sorted(columns) for table, columns in read.items()}))


# --- the files of a whole system --------------------------------------------------------------------------------------

NAMED = ("sources", "columns", "helpers", "dropped", "undecided")
"""Mappings whose keys are names, not words of a mapping file."""
TRIED = 3


def kind_of(place: Path_, content: Any) -> str:
    """What is the same of all places where a word of a mapping file stands, such as `sources.*.columns.*.missing`."""
    steps: list[str] = []
    for number, step in enumerate(place):
        above = place[number - 1] if number else ""
        if isinstance(step, int):
            steps.append("[]")
        elif above in NAMED and steps[-1] == above:
            steps.append("*")
        else:
            steps.append(step)
        if above == "with":
            # The settings of each transform are its own.
            steps[-1] = f"{_holder(content, place[:number])['transform']}:{step}"
    return ".".join(steps)


def kinds_that_do_nothing(prepared: Prepared, directory: Path) -> dict[str, list[str]]:
    """The kinds of keys that can be changed in some places and nothing becomes of it in any; with these places."""
    system = prepared.system
    files, places = {}, defaultdict(list)
    for model, path in system.mappings.files.items():
        content = YAML(typ="safe").load(path)
        root = _root(system, model)
        cases = list(_cases(prepared, root))
        files[model] = (content, cases, MappingFile(path, system, root, prepared.known, cases, directory))
        for what, place, change in variants(content):
            places[f"{what} {kind_of(place, content)}"].append((model, place, change))
    found = {}
    for kind, there in sorted(places.items()):
        # From all over the files, not from the first one only.
        some = there[:: max(1, len(there) // TRIED)][:TRIED]
        for model, place, change in some:
            content, cases, file = files[model]
            if not file.is_same(change(content), _telling(content, place, cases)):
                break
        else:
            found[kind] = [f"{model}: {'.'.join(map(str, place))}" for model, place, _ in some]
    return found


def _telling(content: Any, place: Path_, cases: Sequence[Case]) -> list[int]:
    """The cases under which something may become of a key: the first one under which all counts that it stands in."""
    asked: list[When] = []
    for step in place:
        if isinstance(content, dict) and "when" in content:
            asked.append(When.model_validate(content["when"]))
        if isinstance(content, dict) and set(content) == {"decision", "option"}:
            asked.append(When.model_validate(content))
        content = content[step]
    ways = [[*asked, *within] for within in ([], *([when] for when in _whens(content)))]
    found = [[n for n, case in enumerate(cases) if all(is_active(when, case.chosen) for when in way)] for way in ways]
    return list(dict.fromkeys([0, *(numbers[0] for numbers in found if numbers)]))


def _whens(content: Any) -> Iterator[When]:
    """All that is asked of decisions in what stands at a key."""
    if isinstance(content, dict) and set(content) == {"decision", "option"}:
        yield When.model_validate(content)
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _whens(value)


def _root(system: System, model: str) -> str:
    while parent := system.mappings.targets[model].parent:
        model = parent
    return model


def _cases(prepared: Prepared, root: str) -> Iterator[Case]:
    """A flow with what is chosen, and with each other option that its files name."""
    system = prepared.system
    chosen = dict(system.decisions.chosen)
    mapping = system.mappings.targets[root]
    inputs = prepared.inputs.get(flow_name(mapping)) or next(iter(prepared.inputs.values()))
    text = "".join(path.read_text() for path in system.mappings.files.values())
    yield Case(chosen, inputs)
    for entry in system.decisions.entries:
        for option in entry.options if entry.key in text else ():
            if option != chosen[entry.key]:
                other = {**chosen, entry.key: option}
                yield Case(other, replace(inputs, context=replace(inputs.context, decisions=other)))
