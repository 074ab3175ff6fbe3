"""What is in a mapping file is executed: whatever key of one is taken out or altered, something else comes out.

Or the file is refused. A key that could be changed without either would say something that is not so.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import combinations, product, zip_longest
from pathlib import Path
from typing import Any

import polars as pl
from ruamel.yaml import YAML

from dtx_assets.machinery.base.errors import ConfigurationError, MigrationError, StructureError
from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model
from dtx_assets.machinery.mapping.conditions import is_active
from dtx_assets.machinery.mapping.lineage import accounted_for, column_descriptions, column_lineage, describe
from dtx_assets.machinery.mapping.model import TargetMapping, When
from dtx_assets.machinery.mapping.validate import Known, check_target
from dtx_assets.machinery.mapping.validate_rules import check_followed, check_parents, check_rules
from dtx_assets.machinery.prepare.derived import derived_flow, flow_name
from dtx_assets.machinery.report.book import helpers_of
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome
from dtx_assets.machinery.system.system import System
from dtx_assets_tests.machinery.broken_rows import with_broken_rows
from dtx_assets_tests.machinery.real_mappings import Prepared

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Case:
    """Rows of one batch, as a flow gets them, under options that were chosen."""

    chosen: Mapping[str, str]
    inputs: FlowInputs
    broken: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    """By legacy table, its rows and more that are broken: tried where nothing becomes of a key otherwise."""


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
        self._made: dict[tuple[int, bool], list[str]] = {}
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
        files = {**self._system.mappings.files, self._model: changed}
        system = replace(self._system, mappings=replace(self._system.mappings, targets=targets, files=files))
        numbers = range(len(self._cases)) if cases is None else cases
        try:
            # The first difference is enough: most keys need no row to be run.
            before, after = (
                _declarations(each, self._model, self._root, [self._cases[number] for number in numbers])
                for each in (self._system, system)
            )
            if not _are_same(before, after):
                return False
            return all(
                all(
                    one == other
                    for one, other in zip_longest(self._rows(case, broken), self._run(system, case, broken))
                )
                for broken in (False, True)
                for case in numbers
                if self._cases[case].broken or not broken
            )
        except (ConfigurationError, StructureError) as error:
            require_place(error)
            return False

    def _rows(self, case: int, broken: bool) -> list[str]:
        if (case, broken) not in self._made:
            self._made[case, broken] = list(self._run(self._system, case, broken))
        return self._made[case, broken]

    def _run(self, system: System, case: int, broken: bool) -> Iterator[str]:
        given = self._cases[case]
        if broken:
            given = replace(given, inputs=replace(given.inputs, legacy={**given.inputs.legacy, **given.broken}))
        return _rows(system, self._root, given)


def _are_same(before: Iterable[str], after: Iterable[str]) -> bool:
    return all(one == other for one, other in zip_longest(before, after))


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
    for error in findings.errors:
        require_place(error)
    return None if findings.errors else mapping


def require_place(error: MigrationError) -> None:
    """A refusal leads to the file and the line that have to be mended."""
    assert re.search(r"\.(yaml|csv)(:|, line )\d+", str(error)), f"names no file and line: {error}"


def _declarations(system: System, model: str, root: str, cases: Sequence[Case]) -> Iterator[str]:
    """What a mapping file is used for besides rows: the flow, lineage and descriptions, what is accounted for."""
    mapping = system.mappings.for_target(model)
    yield repr(column_lineage(mapping, system.name))
    yield repr(column_descriptions(mapping))
    yield repr(system.lineage_by_part(model))
    for table, source in mapping.sources.items():
        yield repr([(name, describe(table, helper)) for name, helper in helpers_of(source)])
        yield system.shown_part(table, system.target(model).name, "a part")
    yield mapping.decision
    yield mapping.description
    for table in mapping.sources:
        yield repr(_sorted(accounted_for(system.mappings, table)))
    make = derived_flow(system.mappings, system.legacy_tables, root)
    yield from (declared(make(case.chosen), case.chosen) for case in cases)


def _rows(system: System, root: str, case: Case) -> Iterator[str]:
    """What the flow of a mapping file makes of the rows of a batch."""
    flow = derived_flow(system.mappings, system.legacy_tables, root)(case.chosen)
    there = {*case.inputs.legacy, *case.inputs.mappings}
    if flow and {*flow.sources, *flow.mappings} <= there:
        yield from rows_of(flow.run(replace(case.inputs, system=system)))


def rows_of(outcome: Outcome) -> Iterator[str]:
    """All rows of an outcome, as text."""
    yield from (frame.write_ndjson() for frame in outcome.fates)
    for made in (outcome.rejected, outcome.dropped):
        yield from (f"{target}: {frame.write_ndjson()}" for target, frames in made.items() for frame in frames)
    yield from (f"{name}: {p.rows.write_ndjson()} {p.links.write_ndjson()}" for name, p in outcome.prepared.items())


def _sorted(accounted: tuple[set[str], dict[str, str]]) -> tuple[list[str], dict[str, str]]:
    return sorted(accounted[0]), accounted[1]


def declared(flow: Flow | None, chosen: Mapping[str, str]) -> str:
    """All that a flow says of itself."""
    if flow is None:
        return "no flow"
    named = {
        name: getattr(flow, name)
        for name in (
            *("name", "area", "sources", "accounted", "mappings", "targets", "decisions", "owner", "description"),
            *("uses_cutover_time", "together", "counted_apart", "splits"),
        )
    }
    read = flow.reads(chosen) if flow.reads else {}
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
    """The cases under which something may become of a key: those under which all counts that it stands in, or what it
    holds, or under which that does not."""
    asked: list[When] = []
    beside = [When.model_validate(source["when"]) for source in content["sources"].values() if "when" in source]
    for number, step in enumerate(place):
        if isinstance(content, dict) and "when" in content:
            asked.append(When.model_validate(content["when"]))
        if isinstance(content, dict) and set(content) == {"decision", "option"}:
            asked.append(When.model_validate(content))
            if step == "option" and isinstance(content["option"], list) and number + 1 < len(place):
                asked.append(When.model_validate({**content, "option": content["option"][place[number + 1]]}))
        content = content[step]
    within = list(_whens(content))
    ways: list[tuple[list[When], list[When]]] = [(asked, []), *(([*asked, when], []) for when in within)]
    ways += [(asked[:-1], asked[-1:]), *((asked, [when]) for when in within), ([*asked, *beside], [])]
    found = [
        number
        for counts, does_not in ways
        for number in [
            n
            for n, case in enumerate(cases)
            if all(is_active(when, case.chosen) for when in counts)
            and not any(is_active(when, case.chosen) for when in does_not)
        ][:1]
    ]
    return list(dict.fromkeys([0, *found]))


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
    """A flow with what is chosen, with each other option that its files name, and with two of its sources' own."""
    system = prepared.system
    chosen = dict(system.decisions.chosen)
    mapping = system.mappings.targets[root]
    inputs = prepared.inputs.get(flow_name(mapping)) or next(iter(prepared.inputs.values()))
    text = "".join(path.read_text() for path in system.mappings.files.values())
    family = [each for each in system.mappings.targets.values() if _root(system, each.target) == root]
    whens = {source.when.decision for each in family for source in each.sources.values() if source.when}
    options = [chosen]
    entries = [entry for entry in system.decisions.entries if entry.key in text and entry.options]
    for entry in entries:
        options += [{**chosen, entry.key: option} for option in entry.options if option != chosen[entry.key]]
    options += [
        {**chosen, one.key: option, other.key: another}
        for one, other in combinations([entry for entry in entries if entry.key in whens], 2)
        for option, another in product(one.options, other.options)
        if option != chosen[one.key] and another != chosen[other.key]
    ]
    make = derived_flow(system.mappings, system.legacy_tables, root)
    flows = [flow for each in options if (flow := make(each))]
    tables = {table for flow in flows for table in flow.sources} & inputs.legacy.keys()
    broken = {table: with_broken_rows(system.legacy_tables[table], inputs.legacy[table]) for table in sorted(tables)}
    for each in options:
        yield Case(each, replace(inputs, context=replace(inputs.context, decisions=each)), broken)
