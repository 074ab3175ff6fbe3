"""Reads the feed files of a directory and makes of each what the machinery runs: a table, a target, a mapping, a flow.

Whatever is wrong with any of them is told at once, with file, line and remedy. Feeds are in the graph of a system only
under one option of one decision, and are read and checked under every one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model, suggestion
from dtx_assets.machinery.feeds.flow import MATCH, array_documents, feed_run
from dtx_assets.machinery.feeds.model import FeedColumn, FeedFile
from dtx_assets.machinery.feeds.transforms import FEED, registered
from dtx_assets.machinery.mapping.model import ColumnMapping, SourceMapping, TargetMapping
from dtx_assets.machinery.mapping.validate import Place
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.prepare.batches import EXTRA
from dtx_assets.machinery.sources.csv_files import CsvAlone
from dtx_assets.machinery.sources.landing import Source
from dtx_assets.machinery.system.flow import Flow
from dtx_assets.machinery.system.system import FlowMaker, System, under

if TYPE_CHECKING:
    from dtx_assets.machinery.mapping.decisions import Decision, Decisions

HELD_BY: dict[str, tuple[str, ...]] = {
    "text": ("text",),
    "date": ("text",),
    "integer": ("bigint", "integer"),
}
"""The types of target columns that can hold what a feed's transform gives."""


OWN_NAMES = ("_", ":", EXTRA)
"""What names of columns begin with that the machinery adds to the rows of a table."""


class FeedColumnMapping(ColumnMapping):
    """A column mapping whose `from` names columns of the source exactly as they are called, `Sq. Ft.` too."""

    def located(self, part: str) -> tuple[str, str]:
        return "", part


@dataclass(frozen=True)
class Feed:
    """One feed file, and what it is compiled to. `open` gives the source of a table that only this feed has."""

    name: str
    path: Path
    file: FeedFile
    table: LegacyTable
    target: TargetTable
    mapping: TargetMapping
    flow: Flow
    open: Callable[[Any], Source] | None

    @property
    def enabled(self) -> bool:
        return self.file.enabled


@dataclass(frozen=True)
class FeedContext:
    """What feed files may name, and the option that puts them into the graph.

    `crosswalks` give the model of the rows that each leads to; `area` is the group of the feeds' own tables.
    """

    legacy_tables: Mapping[str, LegacyTable]
    targets: Sequence[TargetTable]
    crosswalks: Mapping[str, str]
    decision: "Decision"
    option: str
    area: str

    def base(self, model: str) -> TargetTable | None:
        """A model that feeds may fill, with the columns of all models of its table."""
        found = next((table for table in self.targets if table.model == model and table.writes == "update"), None)
        if found is None:
            return None
        columns = {
            column.name: column for table in self.targets if table.name == found.name for column in table.columns
        }
        return replace(found, columns=tuple(columns.values()))

    @property
    def models(self) -> list[str]:
        """The models that feeds may fill: those of other areas that a crosswalk leads to."""
        return sorted({model for model in self.crosswalks.values() if self.base(model)})


@dataclass(frozen=True)
class Feeds:
    """All feeds of a system, and the option of a decision under which those that are enabled are in its graph."""

    feeds: tuple[Feed, ...]
    decision: str
    option: str

    @property
    def enabled(self) -> tuple[Feed, ...]:
        return tuple(feed for feed in self.feeds if feed.enabled)

    @property
    def flow_makers(self) -> tuple[FlowMaker, ...]:
        return tuple(under(self.decision, self.option, flow=feed.flow) for feed in self.enabled)

    def are_chosen(self, decisions: "Decisions") -> bool:
        return decisions.chosen[self.decision] == self.option

    def of_model(self, model: str) -> Feed | None:
        return next((feed for feed in self.enabled if feed.target.model == model), None)

    def added_to(self, system: System) -> System:
        """The system with what its feeds bring under the chosen options; the same one where that is nothing.

        Raises ConfigurationError where another chosen flow fills what a feed fills: a plain column, or one target table
        from the same source table, whose accounts could not be told apart.
        """
        if not self.are_chosen(system.decisions):
            return system
        self._refuse_what_is_filled(system)
        models = {table.model for table in system.targets}
        mappings = replace(
            system.mappings,
            targets={**system.mappings.targets, **{feed.target.model: feed.mapping for feed in self.enabled}},
            files={**system.mappings.files, **{feed.target.model: feed.path for feed in self.enabled}},
            transforms=system.mappings.transforms | FEED,
        )
        return replace(
            system,
            legacy_tables={**system.legacy_tables, **{feed.table.name: feed.table for feed in self.enabled}},
            targets=(*system.targets, *(feed.target for feed in self.enabled if feed.target.model not in models)),
            mappings=mappings,
            sources={feed.table.name: feed.open for feed in self.enabled if feed.open},
            without_feeds=system,
        )

    def _refuse_what_is_filled(self, system: System) -> None:
        others = [
            (flow, system.target(model))
            for flow in system.flows
            for model in flow.targets
            if self.of_model(model) is None
        ]
        columns = {
            (target.name, column.name): flow.name
            for flow, target in others
            for column in target.columns
            if column.type != "jsonb"
        }
        tables = {
            (source, target.name): flow.name
            for flow, target in others
            for source, model in flow.accounted
            if model == target.model
        }
        findings = Findings()
        remedy = "let the feed do something else, disable it (`enabled: false`), or choose another option"
        for feed in self.enabled:
            for table, column, *_ in written_places(feed):
                if filling := columns.get((table, column)):
                    findings.add(
                        f"{table}.{column} is what the flow {filling} fills under the chosen options",
                        str(feed.path),
                        remedy,
                    )
            if filling := tables.get((feed.table.name, feed.target.name)):
                findings.add(
                    f"{feed.table.name} into {feed.target.name} is what the flow {filling} does, which is chosen too",
                    str(feed.path),
                    remedy,
                )
        findings.raise_if_any()


def load_feeds(directory: Path, context: FeedContext) -> Feeds:
    """The feeds of a directory, in the order of their names; ConfigurationError lists all that is wrong."""
    findings = Findings()
    feeds: list[tuple[YamlFile, Feed]] = []
    for path in sorted(directory.glob("*.yaml")):
        try:
            yaml = YamlFile(path)
        except ConfigurationError as error:
            findings.errors.append(error)
            continue
        file = parse_model(yaml, FeedFile, findings)
        if file:
            before = len(findings.errors)
            check_feed(yaml, file, context, findings)
            if len(findings.errors) == before:
                feeds.append((yaml, compile_feed(yaml, file, context)))
    _check_together(feeds, context, findings)
    findings.raise_if_any()
    return Feeds(tuple(feed for _, feed in feeds), context.decision.key, context.option)


# --- what may be wrong ------------------------------------------------------------------------------------------------


def check_feed(yaml: YamlFile, file: FeedFile, context: FeedContext, findings: Findings) -> None:
    """Whatever is wrong with one feed file by itself."""
    top = Place(yaml, (), findings)
    if yaml.path.stem != file.feed:
        (top / "feed").wrong(f"{yaml.path.name} holds the feed {file.feed}", f"rename the file to {file.feed}.yaml")
    known = _known_columns(top, file, context)
    if known is not None:
        _check_columns(top, file, known)
    for column in file.read:
        if column.startswith(OWN_NAMES):
            top.wrong(
                f"the source column {column!r} begins as the machinery's own columns do",
                "rename it in the export, or leave it out of the feed",
            )
    if not file.columns:
        (top / "columns").wrong("a feed without columns gives nothing", "name at least one")
    if MATCH in file.columns:
        (top / "columns" / MATCH).wrong(f"a column cannot be called {MATCH}", "rename it")
    if len(set(file.key)) < len(file.key):
        (top / "key").wrong("a column stands in the key twice", "remove one of the two")
    base = context.base(file.target.model) if file.target.model in context.models else None
    if base is None:
        (top / "target" / "model").unknown("target model", file.target.model, context.models)
    else:
        _check_target(top / "target", file, base)
    if file.match.crosswalk not in context.crosswalks:
        (top / "match" / "crosswalk").unknown("crosswalk", file.match.crosswalk, list(context.crosswalks))
    elif base and context.crosswalks[file.match.crosswalk] != base.model:
        leading = [name for name, model in context.crosswalks.items() if model == base.model]
        (top / "match" / "crosswalk").wrong(
            f"the crosswalk {file.match.crosswalk} leads to {context.crosswalks[file.match.crosswalk]}, "
            f"not to {base.model}",
            suggestion(file.match.crosswalk, leading),
        )


def _known_columns(top: Place, file: FeedFile, context: FeedContext) -> Sequence[str] | None:
    """The columns of the source, where they are known before it is read."""
    source = file.source
    if source.table is None:
        if table_name(file) in context.legacy_tables:
            (top / "feed").wrong(f"{table_name(file)} is the name of a legacy table", "give the feed another name")
        return source.names or None
    if file.key:
        (top / "key").wrong(f"the legacy table {source.table} has its own key", "remove `key`")
    if source.table not in context.legacy_tables:
        (top / "source" / "table").unknown("legacy table", source.table, context.legacy_tables)
        return None
    return context.legacy_tables[source.table].columns


def _check_columns(top: Place, file: FeedFile, known: Sequence[str]) -> None:
    named = [
        *((top / "columns" / name / "from", column.from_) for name, column in file.columns.items()),
        *((top / "key" / index, column) for index, column in enumerate(file.key)),
        *((top / "drop" / index / "column", rule.column) for index, rule in enumerate(file.drop)),
        (top / "match" / "column", file.match.column),
    ]
    for place, column in named:
        if column not in known:
            place.wrong(f"the source has no column {column!r}", suggestion(column, known))


def _check_target(top: Place, file: FeedFile, base: TargetTable) -> None:
    declared = {column.name: column for column in base.columns}
    if array := file.target.array:
        place = top / "array"
        if array.column not in declared:
            (place / "column").unknown(f"column of {base.model}", array.column, declared)
        elif declared[array.column].type != "jsonb":
            json_columns = [name for name, column in declared.items() if column.type == "jsonb"]
            (place / "column").wrong(
                f"{array.column} is {declared[array.column].type}, and an array goes into a JSON column",
                suggestion(array.column, json_columns),
            )
        if not array.key.strip():
            (place / "key").wrong("the key of the array is empty", "name one")
        if array.order_by is not None and array.order_by not in file.columns:
            (place / "order_by").unknown("column of the feed", array.order_by, file.columns)
    for name, value in file.target.columns.items():
        place = top / "columns" / name
        if name not in declared:
            place.unknown(f"column of {base.model}", name, declared)
        if value not in file.columns:
            place.unknown("column of the feed", value, file.columns)
        elif name in declared and declared[name].type not in HELD_BY[file.columns[value].transform]:
            place.wrong(
                f"{name} is {declared[name].type}, and cannot hold {value} ({file.columns[value].transform})",
                "choose another transform or another column",
            )
    members = file.target.array.members if file.target.array else ()
    for index, member in enumerate(members):
        if member not in file.columns:
            (top / "array" / "members" / index).unknown("column of the feed", member, file.columns)
    order_by = file.target.array.order_by if file.target.array else None
    for name in file.columns:
        if name not in (*file.values, order_by):
            Place(top.file, ("columns", name), top.findings).wrong(f"{name} is written nowhere", "remove it, or use it")


def _check_together(feeds: Sequence[tuple[YamlFile, Feed]], context: FeedContext, findings: Findings) -> None:
    """What feeds must not share: the place they write to, the name of their model."""
    places: dict[tuple[str, ...], str] = {}
    pairs: dict[tuple[str, str], str] = {}
    models: dict[str, str] = {}
    tables = {table.model.casefold(): table for table in context.targets}
    for yaml, feed in feeds:
        top = Place(yaml, (), findings)
        model = feed.target.model.casefold()
        namesake = tables.get(model)
        if namesake and (namesake.name != feed.target.name or not _columns(feed.target) <= _columns(namesake)):
            (top / "feed").wrong(f"the model {namesake.model} is something else", "give the feed another name")
        if model in models:
            (top / "feed").wrong(f"its name is too like that of the feed {models[model]}", "give one another name")
        models.setdefault(model, feed.name)
        if not feed.enabled:
            continue
        for place in written_places(feed):
            if place in places:
                (top / "target").wrong(
                    f"{'.'.join(place)} is what the feed {places[place]} fills",
                    "let them fill different columns or keys, or disable one: `enabled: false`",
                )
            places.setdefault(place, feed.name)
        pair = (feed.table.name, feed.target.name)
        if pair in pairs:
            (top / "source").wrong(
                f"{' into '.join(pair)} is what the feed {pairs[pair]} does; their accounts could not be told apart",
                "let one feed fill it all, or disable one: `enabled: false`",
            )
        pairs.setdefault(pair, feed.name)


def _columns(table: TargetTable) -> set[str]:
    return {column.name for column in table.columns}


def written_places(feed: Feed) -> list[tuple[str, ...]]:
    """Table, column and, within a JSON column, key that a feed writes to."""
    if array := feed.file.target.array:
        return [(feed.target.name, array.column, array.key)]
    return [(feed.target.name, name) for name in feed.file.target.columns]


# --- what a feed becomes ----------------------------------------------------------------------------------------------


def table_name(file: FeedFile) -> str:
    """The name of the table that a feed's rows are landed as."""
    return file.source.table or f"feed_{file.feed}"


def model_name(file: FeedFile) -> str:
    """`Record` and `north_mall` → `RecordNorthMall`: the bookkeeping of each feed is its own."""
    return file.target.model + "".join(word.capitalize() for word in file.feed.split("_"))


def compile_feed(yaml: YamlFile, file: FeedFile, context: FeedContext) -> Feed:
    """What the machinery runs for a feed file that was found sound."""
    decision = context.decision
    base = context.base(file.target.model)
    assert base
    model, numbered = model_name(file), f"A{decision.area} #{decision.number}"
    filled = [file.target.array.column] if file.target.array else list(file.target.columns)
    existing = next((table for table in context.targets if (table.model, table.name) == (model, base.name)), None)
    if existing and not set(filled) <= _columns(existing):
        existing = None
    landed = context.legacy_tables.get(file.source.table or "")
    table = replace(landed, all_personal=True) if landed else _own_table(file, context.area, numbered)
    table = replace(table, named_at=yaml.where(("columns",)))
    target = existing or replace(
        base,
        model=model,
        decision=numbered,
        description=f"{file.description or base.description} Filled by the feed {file.feed}.".strip(),
        columns=tuple(replace(base.column(name), needed_when=(decision.key, context.option)) for name in filled),
    )
    flow = Flow(
        name=f"feed_{file.feed}",
        area=context.area,
        sources=(table.name,),
        accounted=((table.name, model),),
        mappings=(file.match.crosswalk,),
        targets=(model,),
        decisions=(decision.key,),
        owner={table.name: (file.match.column, file.match.crosswalk)},
        run=feed_run(file, table.name, model),
        required=lambda _chosen: {table.name: file.read},
        description=f"The feed {file.feed}: {file.description}".strip(" :") + " No row is made.",
    )
    return Feed(
        file.feed,
        yaml.path,
        file,
        table,
        target,
        TargetMapping.model_validate(
            {"target": model, "decision": numbered, "sources": {table.name: _source_mapping(file, table)}}
        ),
        flow,
        _opener(yaml, file),
    )


def _own_table(file: FeedFile, area: str, decision: str) -> LegacyTable:
    return LegacyTable(
        name=table_name(file),
        area=area,
        columns=file.source.names or file.read,
        key=file.key,
        required=file.read,
        column_count=len(file.source.names) or None,
        description=f"The CSV of the feed {file.feed}. {file.description}".strip(),
        decision=decision,
        all_personal=True,
        null_markers=file.source.dialect.null_markers,
    )


def _source_mapping(file: FeedFile, table: LegacyTable) -> SourceMapping:
    match, through = file.match.column, file.match.crosswalk
    values = {name: _column_mapping(column) for name, column in file.columns.items()}
    mapping: dict[str, Any] = {
        "helpers": {MATCH: FeedColumnMapping.model_validate({"from": match, "crosswalk": through})},
        "dropped": {name: "the feed file does not name it" for name in table.columns if name not in file.read},
    }
    if array := file.target.array:
        merged = {
            "from": list(dict.fromkeys((match, *(file.columns[name].from_ for name in file.values)))),
            "by": "merge",
            "uses": through,
            "note": f"an array under {array.key}" + (f", in order of {array.order_by}" if array.order_by else ""),
        }
        mapping["merge"] = array_documents.__name__
        mapping["columns"] = {array.column: FeedColumnMapping.model_validate(merged)}
        mapping["helpers"] |= values
    else:
        mapping["columns"] = {name: values[value] for name, value in file.target.columns.items()}
    return SourceMapping.model_validate(mapping)


def _column_mapping(column: FeedColumn) -> FeedColumnMapping:
    settings: dict[str, Any] = {"null_values": list(column.null_values)} if column.null_values else {}
    if column.format:
        settings["format"] = column.format
    return FeedColumnMapping.model_validate(
        {
            "from": column.from_,
            "transform": registered(column.transform),
            "with": settings,
            "written": column.transform == "text",
        }
    )


def _opener(yaml: YamlFile, file: FeedFile) -> Callable[[Any], Source] | None:
    source = file.source
    if source.file is None:
        return None
    url = source.file if source.file.startswith("s3://") else str((yaml.path.parent / source.file).absolute())
    dialect = source.dialect.as_dialect(source.names)
    named_at = yaml.where(("source", "file"))
    return lambda s3: CsvAlone(url, dialect, s3, named_at=named_at)
