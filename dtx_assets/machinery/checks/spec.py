"""What a check is: its declaration, its outcome, and how checks of one asset are evaluated together."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.frames import legacy_frame, source_key
from dtx_assets.machinery.system.system import System

if TYPE_CHECKING:
    from dtx_assets.machinery.checks.obstacles import Obstacle

Severity = Literal["ERROR", "WARN"]
DatasetName = tuple[str, str]
"""Layer and name of an asset; the system goes without saying."""

EXAMPLES = 5
VALUES_SHOWN = 50
COERCION_THRESHOLD = 0.01
"""Share of the migrated rows of a source that may be coerced in one way before a check warns."""


@dataclass(frozen=True)
class CheckSpec:
    """One check of one asset. Its name says what holds when it passes.

    `blocking` closes the gate of a cutover's load while the check fails at ERROR; `structure` also stops what is
    downstream in the same run.
    """

    name: str
    asset: DatasetName
    description: str
    severity: Severity = "WARN"
    blocking: bool = False
    structure: bool = False

    @property
    def closes_gate(self) -> bool:
        return self.blocking or self.structure


@dataclass
class CheckOutcome:
    """What a check found: `count` findings, and facts about them that can be written as JSON.

    `severity` takes the place of the specification's where it depends on what was found. `obstacles` are the facts that
    it is red for, where the check knows finer ones than that it is. `found_in` is the run that found it, where that was
    an earlier one.
    """

    passed: bool
    count: int
    metadata: dict[str, Any] = field(default_factory=dict)
    severity: Severity | None = None
    obstacles: "tuple[Obstacle, ...]" = ()
    found_in: str = ""


@dataclass(frozen=True)
class CheckGroup:
    """The checks of one asset. `evaluate` gives the outcome of each by name; `needs` are all datasets it reads.

    `parts` are the groups that it was joined of: some of them may read nothing, and be asked at any time. `foretold`
    names what it will be red for, by the names to accept it by, where the declarations alone say so.
    """

    asset: DatasetName
    specs: tuple[CheckSpec, ...]
    evaluate: "Callable[[CheckContext], dict[str, CheckOutcome]]"
    needs: tuple[DatasetName, ...]
    parts: "tuple[CheckGroup, ...]" = ()
    foretold: Callable[[Decisions], list[str]] | None = None

    @property
    def without_rows(self) -> "tuple[CheckGroup, ...]":
        """What of it reads no dataset."""
        return tuple(part for part in self.parts or (self,) if not part.needs)


@dataclass
class CheckContext:
    """What checks look at: the lake, the declarations, and what the run was told."""

    lake: Lake
    system: System
    decisions: Decisions
    value_maps: Mapping[str, pl.DataFrame]
    settings: Settings
    target_url: Callable[[], str] | None = None
    """Where the live target is; asked for by those alone that look at it."""
    made: dict[Any, Any] = field(default_factory=dict)
    """What checks make of the declarations for all those of an asset, by what it is and the asset."""

    @property
    def now(self) -> datetime:
        """The time of the cutover; while none is set, that of asking."""
        return self.settings.cutover_at or datetime.now(UTC)

    def manifest(self, layer: str, name: str) -> Manifest:
        """The manifest of a dataset; StructureError where it was not materialised."""
        return self.lake.require((self.system.name, layer, name))

    def legacy(self, name: str) -> pl.LazyFrame:
        """The rows of a legacy table or crosswalk as flows see them, with `_row` and `_source_key`.

        A key that repeats comes without the ordinal that tells its rows apart: to number them takes the whole table.
        """
        layer, table = declared_table(self.system, name)
        frame = legacy_frame(self.lake, self.system.name, table, layer=layer)
        return source_key(replace(table, key_repeats=False), frame)

    def mapping(self, name: str) -> pl.LazyFrame:
        return self.lake.scan((self.system.name, "mapping", name))

    def prepared(self, model: str) -> pl.LazyFrame:
        return self.lake.scan((self.system.name, "prepared", model))

    def links(self, model: str) -> pl.LazyFrame:
        return self.lake.scan((self.system.name, "prepared", model), "links")

    def rejected(self, model: str) -> pl.LazyFrame:
        return self.lake.scan((self.system.name, "rejected", model))


def declared_table(system: System, name: str) -> tuple[str, LegacyTable]:
    """The layer a table is landed in, and its declaration."""
    if name in system.crosswalk_tables:
        return "crosswalk", system.crosswalk_tables[name]
    return "legacy", system.legacy_tables[name]


def joined_checks(*groups: CheckGroup) -> CheckGroup:
    """One group with the checks of several of the same asset."""
    asset = groups[0].asset
    specs = tuple(spec for group in groups for spec in group.specs)
    names = [spec.name for spec in specs]
    if any(group.asset != asset for group in groups) or len(set(names)) < len(names):
        raise ValueError(f"the checks of {'/'.join(asset)} are not of one asset, or two have the same name")

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        return {name: outcome for group in groups for name, outcome in group.evaluate(context).items()}

    needs = tuple(dict.fromkeys(need for group in groups for need in group.needs))
    return CheckGroup(asset, specs, evaluate, needs, parts=groups)


def one_group_an_asset(groups: Iterable[CheckGroup]) -> tuple[CheckGroup, ...]:
    """The groups with those of the same asset joined, in the order in which assets first come."""
    by_asset: dict[DatasetName, list[CheckGroup]] = {}
    for group in groups:
        by_asset.setdefault(group.asset, []).append(group)
    return tuple(joined_checks(*same) for same in by_asset.values())


def found(count: int, **metadata: Any) -> CheckOutcome:
    """The outcome of a check that passes where nothing is found."""
    return CheckOutcome(count == 0, count, metadata)


def undecodable(column: str) -> pl.Expr:
    """Whether the bytes of a column of a landed table are no text in the table's encoding."""
    return pl.col("_undecodable").list.eval(pl.element().struct.field("column") == column).list.any().fill_null(False)
