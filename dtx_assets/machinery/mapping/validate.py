"""Checks a mapping file against what it names: tables, transforms, functions, value maps, crosswalks, decisions.

All that is wrong goes to the findings, with the line and what to do. Reading the files is `load`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl
from pydantic import TypeAdapter, ValidationError

from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, suggestion
from dtx_assets.machinery.mapping.cases import asked_columns
from dtx_assets.machinery.mapping.decisions import Decisions, numbers_in
from dtx_assets.machinery.mapping.model import (
    ArchivedFile,
    ColumnMapping,
    RowMapping,
    SourceMapping,
    TargetMapping,
    When,
    decision_of,
)
from dtx_assets.machinery.mapping.value_map import ValueMap
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.transforms.columns import Registry, TransformContext

OF_PARENT, FOLLOWED = "parent.", "followed."
FUNCTIONS_OF_A_SOURCE = ("shape", "expand", "merge")


@dataclass(frozen=True)
class Known:
    """What a mapping file may name."""

    targets: Mapping[str, TargetTable]
    legacy_tables: Mapping[str, LegacyTable]
    transforms: Registry
    functions: Mapping[str, Callable[..., object]]
    crosswalks: Sequence[str]
    value_maps: Mapping[str, ValueMap]
    decisions: Decisions
    unreadable: Collection[str] = ()
    """Value maps that are there and cannot be read, which is told already."""
    references: Sequence[str] = ()
    must_be_filled: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By model the columns for which a mapping of it has to say a value."""

    def numbers(self) -> set[tuple[str, str]]:
        """(area, number) of every decision."""
        return {pair for entry in self.decisions.entries for pair in entry.numbers}


@dataclass(frozen=True)
class Place:
    """A part of a file, and where what is wrong with it is told."""

    file: YamlFile
    location: tuple[str | int, ...]
    findings: Findings

    def __truediv__(self, step: str | int) -> "Place":
        return Place(self.file, (*self.location, step), self.findings)

    def wrong(self, what: str, remedy: str) -> None:
        self.findings.add(what, self.file.where(self.location), remedy)

    def unknown(self, kind: str, name: str, known: Sequence[str] | Mapping[str, Any]) -> None:
        self.wrong(f"unknown {kind} {name!r}", suggestion(name, known))


def check_target(file: YamlFile, mapping: TargetMapping, known: Known, findings: Findings) -> None:
    """Whatever is wrong with the mapping of one target, but for legacy columns that it leaves out."""
    top = Place(file, (), findings)
    table = known.targets.get(mapping.target)
    if table is None:
        (top / "target").unknown("target model", mapping.target, known.targets)
        return
    if file.path.stem != mapping.target:
        (top / "target").wrong(f"{file.path.name} maps {mapping.target}", f"rename the file to {mapping.target}.yaml")
    _check_decision(top / "decision", mapping.decision, known)
    for name, source in mapping.sources.items():
        place = top / "sources" / name
        if name in known.legacy_tables:
            _check_source(place, known.legacy_tables[name], source, table, known)
        else:
            place.unknown("legacy table", name, known.legacy_tables)
    filled = {column for source in mapping.sources.values() for column, _ in source.filled}
    _check_undecided(top / "undecided", mapping, table, filled)
    for column in known.must_be_filled.get(table.model, ()) if mapping.sources else ():
        if column not in filled | mapping.undecided.keys():
            (top / "sources").wrong(
                f"{mapping.target}.{column} must have a value and nothing fills it",
                "say where it comes from, give it a constant, or list it under `undecided`",
            )


def _check_undecided(place: Place, mapping: TargetMapping, table: TargetTable, filled: Collection[str]) -> None:
    declared = [column.name for column in table.columns]
    for column in mapping.undecided:
        if column not in declared:
            (place / column).wrong(f"{table.model} has no column {column!r}", suggestion(column, declared))
        elif column in filled:
            (place / column).wrong(f"{column} is filled, and undecided as well", "take it out of `undecided`")


def _check_decision(place: Place, named: str, known: Known) -> None:
    numbers, pairs = known.numbers(), numbers_in(named)
    if not pairs:
        place.wrong(f"{named!r} names no decision", "write area and number, as in `A8 #1`")
    for pair in pairs:
        if pair not in numbers:
            listed = sorted(f"A{area} #{number}" for area, number in numbers)
            place.wrong(f"there is no decision A{pair[0]} #{pair[1]}", suggestion(f"A{pair[0]} #{pair[1]}", listed))


def _check_source(place: Place, legacy: LegacyTable, source: SourceMapping, table: TargetTable, known: Known) -> None:
    for role in FUNCTIONS_OF_A_SOURCE:
        function = getattr(source, role)
        if function and function not in known.functions:
            (place / role).unknown(f"{role} function", function, known.functions)
    for column, reason in source.dropped.items():
        dropped = place / "dropped" / column
        if column not in legacy.columns:
            dropped.wrong(f"{legacy.name} has no column {column!r} to drop", suggestion(column, legacy.columns))
        if not reason.strip():
            dropped.wrong(f"{column} is dropped without a reason", "say why it goes nowhere")
    for column in source.undecided:
        if column not in legacy.columns:
            (place / "undecided" / column).wrong(
                f"{legacy.name} has no column {column!r}", suggestion(column, legacy.columns)
            )
    check_column_entries(place, legacy, source, source, table, known)


def check_column_entries(
    place: Place,
    legacy: LegacyTable,
    source: SourceMapping,
    row: SourceMapping | RowMapping,
    table: TargetTable,
    known: Known,
) -> None:
    """The columns and helpers of a source, or of one of its `rows`."""
    declared = {column.name: column for column in table.columns}
    for name, entry in row.columns.items():
        column_place = place / "columns" / name
        if name in declared:
            _check_fits(column_place, declared[name], entry, known)
            if entry.type:
                column_place.wrong(f"{name} has the type {declared[name].type} already", "remove `type`")
        elif not (entry.is_constant and entry.type):
            column_place.wrong(
                f"{table.model} has no column {name!r}",
                suggestion(name, declared)
                + "; a column that the declaration does not know takes a constant and its `type`",
            )
        _check_column(column_place, legacy, source, entry, known)
    for name, entry in row.helpers.items():
        _check_column(place / "helpers" / name, legacy, source, entry, known)


# --- how a column is made ---------------------------------------------------------------------------------------------


def _check_column(place: Place, legacy: LegacyTable, source: SourceMapping, entry: ColumnMapping, known: Known) -> None:
    for part, part_place in _parts(place, entry):
        owner, column = entry.located(part)
        owning = known.legacy_tables.get(owner) if owner else legacy
        if owning is None:
            part_place.unknown("legacy table", owner, known.legacy_tables)
        elif column not in owning.columns:
            part_place.wrong(f"{owning.name} has no column {column!r}", suggestion(column, owning.columns))
    if entry.by:
        # What one source merges it merges with the rows of all others.
        every = place.file.content["sources"].values() if entry.by == "merge" else ()
        if getattr(source, entry.by) is None and not any(entry.by in other for other in every):
            (place / "by").wrong(
                f"is filled by {entry.by}, but the source names no {entry.by} function", f"name one: `{entry.by}: …`"
            )
    elif not entry.is_constant:
        _check_inputs(place, legacy, source, entry)
        _check_names(place, legacy, source, entry, known)
    if entry.when:
        check_when(place / "when", entry.when, known)
    for use in entry.uses:
        _check_use(place / "uses", use, known)


def _parts(place: Place, entry: ColumnMapping) -> Iterator[tuple[str, Place]]:
    for index, part in enumerate(entry.from_):
        yield part, place / "from" / index


def _check_inputs(place: Place, legacy: LegacyTable, source: SourceMapping, entry: ColumnMapping) -> None:
    for name in entry.input:
        known_name = name in legacy.columns_asked or is_of_parent(place, name) or name.startswith(FOLLOWED)
        if not known_name and source.shape is None:
            (place / "input").wrong(
                f"`input` names the shaped column {name!r}, but the source has no shape function",
                "name one: `shape: …`, or remove `input`",
            )
    if entry.input:
        return
    elsewhere = [part for part in entry.from_ if entry.located(part)[0]]
    if elsewhere:
        (place / "from").wrong(
            f"{elsewhere[0]} is of another table, whose rows are not at hand here",
            "let a function bring it: `input: …` with a shape function, or `by: …`",
        )
    elif len(entry.from_) > 1 and (entry.value_map or (entry.crosswalk and not entry.transform)):
        (place / "from").wrong(
            f"a {'value map' if entry.value_map else 'crosswalk'} takes one column, not {len(entry.from_)}",
            "name one, or let a shape function make one of them: `input: …`",
        )


def _check_names(place: Place, legacy: LegacyTable, source: SourceMapping, entry: ColumnMapping, known: Known) -> None:
    if entry.cases:
        _check_cases(place / "cases", source, legacy, entry.cases, known)
    elif entry.crosswalk:
        if entry.crosswalk not in known.crosswalks:
            (place / "crosswalk").unknown("crosswalk", entry.crosswalk, known.crosswalks)
        elif entry.transform:
            _check_transform(place, entry, known)
    elif entry.value_map:
        value_map = known.value_maps.get(entry.value_map)
        if value_map is None:
            if entry.value_map in known.unreadable:
                return
            (place / "value_map").unknown("value map", entry.value_map, known.value_maps)
        elif value_map.is_cases:
            (place / "value_map").wrong(
                f"{entry.value_map} is a case table, in which no column is a key by itself",
                f"say `cases: {entry.value_map}`",
            )
        elif entry.output not in value_map.outputs:
            (place / "output").wrong(
                f"value map {entry.value_map} has no column {entry.output!r}",
                suggestion(str(entry.output), value_map.outputs),
            )
    else:
        _check_transform(place, entry, known)


def _check_cases(place: Place, source: SourceMapping, legacy: LegacyTable, name: str, known: Known) -> None:
    table = known.value_maps.get(name)
    if name in known.unreadable:
        return
    if table is None or not table.is_cases:
        place.unknown("case table", name, [known_name for known_name, one in known.value_maps.items() if one.is_cases])
        return
    options = {decision.key: decision.options for decision in known.decisions.entries if decision.options}
    for column in asked_columns(table.frame):
        if column in options:
            for row, option in enumerate(table.frame[column]):
                if option is not None and option not in options[column]:
                    place.findings.add(
                        f"decision {column} has no option {option!r}",
                        table.where(row),
                        suggestion(option, options[column]),
                    )
        elif column not in legacy.columns and not source.shape:
            place.wrong(
                f"{name} asks of {column!r}, which is no legacy column and no decision",
                suggestion(column, [*legacy.columns, *options]),
            )


def _check_transform(place: Place, entry: ColumnMapping, known: Known) -> None:
    name = entry.transform or "text"
    if name not in known.transforms:
        (place / "transform").unknown("transform", name, known.transforms.transforms)
        return
    parameters = known.transforms.parameters(name)
    sound = True
    for setting, value in entry.with_.items():
        setting_place = place / "with" / setting
        if setting not in parameters:
            setting_place.wrong(f"{name} has no setting {setting!r}", suggestion(setting, parameters))
            sound = False
            continue
        if decision := decision_of(value):
            sound &= _check_setting_of_decision(setting_place, name, decision, parameters[setting], known)
            continue
        try:
            TypeAdapter(parameters[setting]).validate_python(value, strict=True)
        except ValidationError as error:
            remedy = error.errors()[0]["msg"].replace("Input should be", "it should be")
            setting_place.wrong(f"{name} cannot have {value!r} as its {setting}", remedy)
            sound = False
    if not sound:
        return
    # Expressions are cheap to make: making them here tells of a wrong number of columns before any row is read.
    inputs = [pl.col(part) for part in entry.input or entry.from_]
    context = TransformContext(
        crosswalks={},
        value_maps={map_name: value_map.frame for map_name, value_map in known.value_maps.items()},
        decisions=known.decisions.chosen,
        timezone="UTC",
        cutover_at=datetime(2000, 1, 1, tzinfo=UTC),
    )
    described = (known.transforms[name].__doc__ or "").partition("\n")[0]
    try:
        known.transforms[name](inputs, context, **entry.settings(known.decisions.chosen))
    except KeyError as error:
        (place / "transform").wrong(f"transform {name} needs {error}", "put the value map there")
    except pl.exceptions.ColumnNotFoundError as error:
        column = str(error).partition("\n")[0]
        (place / "with").wrong(f"transform {name} reads a column that its value map lacks: {column}", "name one it has")
    except (TypeError, ValueError, IndexError):
        (place / "transform").wrong(
            f"transform {name} cannot be made of {len(inputs)} column{'s' * (len(inputs) != 1)} with these settings",
            f"see what it does: {described}",
        )


def _check_setting_of_decision(place: Place, name: str, decision: str, kind: Any, known: Known) -> bool:
    """Whether a transform can have each option of a decision as that setting."""
    options = {entry.key: entry.options for entry in known.decisions.entries if entry.options}
    if decision not in options:
        (place / "decision").unknown("decision", decision, options)
        return False
    for option in options[decision]:
        try:
            TypeAdapter(kind).validate_python(option, strict=True)
        except ValidationError:
            (place / "decision").wrong(
                f"{name} cannot have {option!r}, an option of {decision}, as that setting",
                "name a decision whose options are what the setting may be",
            )
            return False
    return True


def is_of_parent(place: Place, name: str) -> bool:
    """Whether a name is that of a column of the row that a row of this mapping belongs to."""
    return name.startswith(OF_PARENT) and "parent" in place.file.content


def check_when(place: Place, when: When, known: Known) -> None:
    """Whether the decision and the option are there."""
    options = {decision.key: decision.options for decision in known.decisions.entries if decision.options}
    if when.decision not in options:
        (place / "decision").unknown("decision", when.decision, options)
        return
    for option in when.option:
        if option not in options[when.decision]:
            (place / "option").wrong(
                f"decision {when.decision} has no option {option!r}", suggestion(option, options[when.decision])
            )


def _check_use(place: Place, use: str, known: Known) -> None:
    name, _, column = use.partition(".")
    if name in known.value_maps:
        columns = known.value_maps[name].frame.columns
        if column not in columns:
            place.wrong(
                f"value map {name} has no column {column!r}",
                suggestion(f"{name}.{column}", [f"{name}.{known_column}" for known_column in columns]),
            )
    elif name not in known.crosswalks and name not in known.unreadable:
        place.unknown("value map or crosswalk", name, [*known.value_maps, *known.crosswalks])


# --- whether the value fits its column --------------------------------------------------------------------------------


def _check_fits(place: Place, column: TargetColumn, entry: ColumnMapping, known: Known) -> None:
    if entry.is_constant:
        _check_constant(place / "constant", column, entry.constant)
    value_map = known.value_maps.get(entry.value_map or "")
    if value_map and entry.output in value_map.outputs:
        _check_outputs(place / "output", column, value_map, str(entry.output))
    if column.nullable:
        return
    if entry.missing == "null":
        (place / "missing").wrong(f"{column.name} cannot be NULL", "reject what is not listed")
    if entry.allow_null:
        (place / "allow_null").wrong(f"{column.name} cannot be NULL", "remove `allow_null`")
    if entry.when and not {entry.when.decision, *entry.when.option} <= set(column.needed_when):
        (place / "when").wrong(f"{column.name} cannot be NULL under the other options", "remove `when`")


def _check_constant(place: Place, column: TargetColumn, constant: object) -> None:
    kinds: dict[str, type | tuple[type, ...]] = {"boolean": bool, "integer": int, "bigint": int}
    if constant is None:
        if not column.nullable:
            place.wrong(f"{column.name} cannot be NULL", "give it a value")
    elif not isinstance(constant, kinds.get(column.type, str)) or (
        isinstance(constant, bool) and column.type != "boolean"
    ):
        place.wrong(
            f"{column.name} is {column.type}, which {constant!r} is not", f"write a value of type {column.type}"
        )
    elif column.type == "timestamptz" and not _is_instant(str(constant)):
        place.wrong(
            f"{column.name} is an instant, which {constant!r} is not",
            'write a time with its offset, as in "2024-01-31T00:00:00+00:00"',
        )
    elif column.allowed and constant not in column.allowed:
        place.wrong(f"{column.name} cannot be {constant!r}", suggestion(str(constant), column.allowed))


def _is_instant(text: str) -> bool:
    """Whether a text is one time in every zone, of the years 1 to 9999 in UTC."""
    try:
        time = datetime.fromisoformat(text)
        time.astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return time.tzinfo is not None


def _check_outputs(place: Place, column: TargetColumn, value_map: ValueMap, output: str) -> None:
    for row, value in enumerate(value_map.frame[output]):
        where = value_map.where(row)
        if value is None:
            if not column.nullable:
                place.findings.add(f"{column.name} cannot be NULL, and {output} is empty here", where, "fill it in")
        elif column.type == "boolean" and not isinstance(value, bool):
            if value not in ("true", "false"):
                place.findings.add(f"{output} is {value!r}, and {column.name} a boolean", where, "write true or false")
        elif column.allowed and value not in column.allowed:
            place.findings.add(f"{column.name} cannot be {value!r}", where, suggestion(str(value), column.allowed))
        elif isinstance(value, str) and value != value.strip():
            place.findings.add(f"{value!r} has blanks around it", where, "remove them")


# --- whether every legacy column is spoken for ------------------------------------------------------------------------


def check_accounted_for(
    files: Mapping[str, tuple[YamlFile, TargetMapping]],
    archived_file: YamlFile,
    listed: ArchivedFile,
    accounted_for: Callable[[str], tuple[set[str], dict[str, str]]],
    known: Known,
    findings: Findings,
) -> None:
    """Every legacy table is mapped or archived, and every column of a mapped one is used, or dropped with a reason."""
    archive = Place(archived_file, ("archived",), findings)
    archived = {**listed.archived, **listed.undecided}
    for heading, names in (("archived", listed.archived), ("undecided", listed.undecided)):
        for name in names:
            if name not in known.legacy_tables:
                Place(archived_file, (heading, name), findings).unknown("legacy table", name, known.legacy_tables)
    for name in sorted(listed.archived.keys() & listed.undecided.keys()):
        (archive / name).wrong(f"{name} is only archived, and undecided as well", "take it out of one of the two")
    for name, table in known.legacy_tables.items():
        places = [
            Place(file, ("sources", name), findings) for file, mapping in files.values() if name in mapping.sources
        ]
        if not places:
            if name not in archived:
                archive.wrong(
                    f"legacy table {name} goes nowhere", "map it, or list it under `archived` with the reason"
                )
            continue
        if name in archived:
            (archive / name).wrong(f"{name} is mapped as well as only archived", "take it out of `archived`")
        used, dropped = accounted_for(name)
        for column in table.columns:
            if column not in used and column not in dropped:
                places[0].wrong(
                    f"{name}.{column} is not accounted for",
                    "use it in a column's `from`, or list it under `dropped` with the reason",
                )
        for column in sorted(used & set(dropped)):
            place, heading = next(
                (place, heading)
                for place in places
                for heading in ("dropped", "undecided")
                if column in place.file.content["sources"][name].get(heading, {})
            )
            (place / heading / column).wrong(
                f"{name}.{column} is both used and {heading}", f"take it out of `{heading}`"
            )
