"""What the machinery has to know about one migration. A system is built once, when its code location loads."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.masking import mask
from dtx_assets.machinery.base.settings import DEFAULT_BATCH_ROWS, Settings
from dtx_assets.machinery.base.yaml_file import suggestion
from dtx_assets.machinery.mapping.lineage import PartLineage, lineage_by_part, value_origins
from dtx_assets.machinery.mapping.model import Part, SourceMapping
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.references import circles, loaded_before
from dtx_assets.machinery.model.target import OTHER_AREAS, TargetTable
from dtx_assets.machinery.postgres.untouched import that_must_stay

if TYPE_CHECKING:
    from psycopg import Connection

    from dtx_assets.machinery.look_ups.assets import MappingAsset
    from dtx_assets.machinery.mapping.decisions import Decisions
    from dtx_assets.machinery.mapping.load import Mappings
    from dtx_assets.machinery.mapping.model import When
    from dtx_assets.machinery.sources.landing import Source
    from dtx_assets.machinery.system.flow import Flow
    from dtx_assets.machinery.system.phase import Phase
    from dtx_assets.machinery.system.question import Question

FlowMaker = Callable[[Mapping[str, str]], "Flow | None"]
SeedEmbedded = Callable[["Connection", Path], dict[str, int]]
"""Puts the rows of other areas that lie in a directory into a database; returns the rows inserted by table."""


def always(flow: "Flow") -> FlowMaker:
    """The maker of a flow that every option has."""
    return lambda _chosen: flow


def under(decision: str, *options: str, flow: "Flow") -> FlowMaker:
    """The maker of a flow that only these options of a decision have."""
    return lambda chosen: flow if chosen[decision] in options else None


class Feeds(Protocol):
    """What brings tables and targets of its own under an option of a decision; it lives in `feeds`."""

    @property
    def decision(self) -> str: ...

    @property
    def option(self) -> str: ...

    @property
    def feeds(self) -> tuple[Any, ...]: ...

    def are_chosen(self, decisions: "Decisions") -> bool: ...

    def of_model(self, model: str) -> Any: ...

    def added_to(self, system: "System") -> "System": ...


class OwnChecks(Protocol):
    """The checks that a system adds to those that its declarations call for; they live in `checks`."""

    @property
    def irrelevant_decisions(self) -> "Callable[[Decisions], Collection[str]]": ...

    def of(self, system: "System") -> Sequence[Any]: ...


class Derived(Protocol):
    """What is derived from target tables after their load; it lives in `derived`."""

    @property
    def area(self) -> str: ...

    @property
    def entities(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class System:
    """One migration: its tables, its targets, its flows and the reviewable data they run on.

    `flow_makers` give the flow that the chosen options call for, or None where they call for none. `sources` open,
    given an S3Resource, where a legacy table lies that does not lie with the others.
    """

    name: str
    legacy_tables: Mapping[str, LegacyTable]
    crosswalk_tables: Mapping[str, LegacyTable]
    targets: tuple[TargetTable, ...]
    flow_makers: "tuple[FlowMaker, ...]"
    decisions: "Decisions"
    mapping_assets: "tuple[MappingAsset, ...]"
    mappings: "Mappings"
    mappings_dir: Path
    code_dir: Path
    """Where its code lies: where that changes, rows are prepared anew."""
    sample_dir: Path
    areas: Mapping[str, str]
    batch_rows: int = DEFAULT_BATCH_ROWS
    """Source rows of one transaction, where the environment says no other number."""
    coerced: Literal["rows", "values"] = "rows"
    """What the accounting counts of a lossy change."""
    questions: "tuple[Question, ...]" = ()
    """What a cutover asks people before it loads anything."""
    checks: "OwnChecks | None" = None
    feeds: "Feeds | None" = None
    sources: "Mapping[str, Callable[[Any], Source]]" = field(default_factory=dict)
    without_feeds: "System | None" = None
    seed_embedded: SeedEmbedded | None = None
    """Fills the tables of other areas in the embedded database, from beside a sample."""
    extra: "When | None" = None
    """The option under which fields that nobody declared are written to `migration.extra`."""
    phases: "tuple[Phase, ...]" = ()
    """What is loaded one after another, each with a gate; none where all is loaded as it comes."""
    target_sql: Path | None = None
    """The schema of the target as its application makes it, for the embedded database; else it is as declared."""
    derived: "Derived | None" = None
    """The texts that are embedded after the load."""
    owner: str = ""
    """Who answers for what names no owner of its own."""
    owners: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Who answers for a legacy table, a crosswalk (what others hand over, or a mapping), a value map, a target model:
    by layer and name."""
    sample_functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """What `sample.yaml` names: makers of columns, of tables, of ugly rows, and of files."""
    write_sample: Callable[..., dict[str, int]] | None = None
    """Writes its sample in place of the machinery, where what is declared says too little of its rows."""

    @property
    def extensions(self) -> tuple[str, ...]:
        """What an embedded target database should come with."""
        return ("vector",) if self.derived else ()

    @cached_property
    def flows(self) -> "tuple[Flow, ...]":
        """The flows of the chosen options, in the order of their makers."""
        return self.flows_under(self.decisions.chosen)

    def flows_under(self, chosen: Mapping[str, str]) -> "tuple[Flow, ...]":
        return tuple(flow for maker in self.flow_makers if (flow := maker(chosen)) is not None)

    def under(self, decisions: "Decisions") -> "System":
        """The same migration with other choices, and with the tables and targets of feeds where they call for them."""
        chosen = replace(self.without_feeds or self, decisions=decisions)
        return chosen.feeds.added_to(chosen) if chosen.feeds else chosen

    def target(self, model: str) -> TargetTable:
        for table in self.targets:
            if table.model == model:
                return table
        raise ConfigurationError(
            f"{self.name} has no target model {model!r}", remedy=suggestion(model, [t.model for t in self.targets])
        )

    @cached_property
    def tables_of_others(self) -> tuple[TargetTable, ...]:
        """The target tables that others own."""
        return tuple(target for target in self.targets if target.area == OTHER_AREAS)

    @cached_property
    def tables_that_must_stay(self) -> tuple[TargetTable, ...]:
        """Those of others into which no flow writes either."""
        return that_must_stay(self.targets)

    @cached_property
    def migrated_tables(self) -> frozenset[str]:
        """The legacy tables whose rows a flow accounts for; of any other, the archive is all there is."""
        return frozenset(source for flow in self.flows for source, _ in flow.accounted)

    @cached_property
    def reads_documents(self) -> bool:
        """Whether its legacy database holds collections of documents."""
        return any(table.documents for name, table in self.legacy_tables.items() if name not in self.sources)

    @cached_property
    def read_tables(self) -> frozenset[str]:
        """The legacy tables that a flow reads."""
        return frozenset(source for flow in self.flows for source in flow.sources)

    @cached_property
    def filled_targets(self) -> tuple[TargetTable, ...]:
        """The targets that flows fill, in the order of their declarations."""
        return tuple(target for target in self.targets if self.flow_of(target.model))

    @cached_property
    def loaded_before(self) -> Mapping[str, list[str]]:
        """By model of those, the models whose rows its rows refer to. Of hundreds it is not to be found for each."""
        return loaded_before(self.filled_targets)

    @cached_property
    def loaded_with(self) -> Mapping[str, tuple[TargetTable, ...]]:
        """By model of those, the targets that it is loaded together with, itself included."""
        alone = {target.model: (target,) for target in self.filled_targets}
        return alone | {target.model: circle for circle in circles(self.filled_targets) for target in circle}

    def models_of(self, phase: "Phase") -> tuple[TargetTable, ...]:
        """The targets that flows fill in a phase."""
        return tuple(target for target in self.filled_targets if target.area == phase.area)

    def owner_of(self, layer: str, name: str) -> str:
        """Who answers for what lies in a dataset, as one text; empty where nobody is named."""
        return ", ".join(self.owners_of(layer, name))

    def owners_of(self, layer: str, name: str) -> tuple[str, ...]:
        """Who answers for what lies in a dataset; for prepared and rejected rows, who does for their tables."""
        if layer in ("prepared", "rejected") and (flow := self.flow_of(name)):
            sources = dict.fromkeys(source for source, model in flow.accounted if model == name)
            return tuple(dict.fromkeys(owner for source in sources for owner in self.owners_of("legacy", source)))
        owner = self.owners.get((layer, name), self.owner)
        return (owner,) if owner else ()

    def flow_of(self, model: str) -> "Flow | None":
        return next((flow for flow in self.flows if model in flow.targets), None)

    def personal_columns(self, target: TargetTable) -> frozenset[str]:
        """The columns of a target that are made from personal legacy columns."""
        flow = self.flow_of(target.model)
        if flow is None:
            return frozenset()
        origins = value_origins(self.mappings.for_target(target.model), flow.sources)
        return frozenset(
            name for name, places in origins.items() for table, column in places if self._is_personal(table, column)
        )

    def lineage_by_part(self, model: str) -> list[PartLineage]:
        """The cells of the parts that the rows of a target are of their legacy rows."""
        flow = self.flow_of(model)
        mapping = self.mappings.targets.get(model)
        if mapping is None:
            return []
        sources = flow.sources if flow else None
        chosen = self.decisions.chosen
        return lineage_by_part(mapping, self.mappings.functions, chosen, self.legacy_tables, sources)

    def shown_part(self, source_table: str, target_table: str, part: str) -> str:
        """The part that a target row is of its legacy row, for people: masked where it is made of a personal value."""
        if not part or (source_table, target_table) not in self._personal_parts:
            return part
        return mask(part)

    def hides_parts(self, target: TargetTable) -> bool:
        """Whether some parts that rows of a target are of their legacy rows are made of personal values."""
        return any(target.name == table for _, table in self._personal_parts)

    @cached_property
    def _personal_parts(self) -> frozenset[tuple[str, str]]:
        """The legacy and the target tables between which parts are called by a personal value."""
        found = set()
        for target in self.targets:
            mapping = self.mappings.targets.get(target.model)
            for table, source in mapping.sources.items() if mapping else ():
                if (part := source.part) and self._is_personal_part(target, table, source, part):
                    found.add((table, target.name))
        return frozenset(found)

    def _is_personal_part(self, target: TargetTable, table: str, source: SourceMapping, part: Part) -> bool:
        if part.personal is not None:
            return part.personal
        columns = [column for name, column in source.made if name in part.value]
        places = [column.located(legacy) for column in columns for legacy in column.from_]
        is_made_so = any(self._is_personal(owner or table, legacy) for owner, legacy in places)
        return is_made_so or bool(self.personal_columns(target) & set(part.value))

    def _is_personal(self, table: str, column: str) -> bool:
        return table in self.legacy_tables and self.legacy_tables[table].is_personal(column)


def settings_of(system: System) -> Settings:
    """What the environment says of a system."""
    return Settings.from_environment(system.name, sample_dir=system.sample_dir, batch_rows=system.batch_rows)
