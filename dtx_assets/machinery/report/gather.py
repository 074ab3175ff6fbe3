"""What the page says, as data: the bookkeeping's figures beside the Dagster history and the system's declarations.

Each section has its module. Everything personal is masked there, before anything is rendered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg

from dtx_assets.machinery.checks.obstacles import Obstacle
from dtx_assets.machinery.mapping.decisions import Action, KnownIssue
from dtx_assets.machinery.mapping.demonstration import Demonstration
from dtx_assets.machinery.report.accounts import Accounts
from dtx_assets.machinery.report.book import (
    BookPage,
    LegacyPage,
    ValueMapPage,
    book_page,
    legacy_page,
    mapped,
    value_map_pages,
)
from dtx_assets.machinery.report.decisions import DecisionRow, decision_rows
from dtx_assets.machinery.report.figures import Figures, Listed
from dtx_assets.machinery.report.flow import Became, CoercionRow, TableFlow, became, coercion_rows, table_flows
from dtx_assets.machinery.report.history import History, RunHistory
from dtx_assets.machinery.report.lineage import Node, lineage_nodes
from dtx_assets.machinery.report.readiness import Readiness, readiness, with_runs
from dtx_assets.machinery.report.rejected import RejectedGroup, rejected_group
from dtx_assets.machinery.report.undecided import UndecidedRow, undecided_rows
from dtx_assets.machinery.system.system import System

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph


HELD = "hold_until_activated"
"""The option under which rows are loaded inactive."""


@dataclass(frozen=True)
class Report:
    """The whole page as data."""

    system: str
    now: datetime
    source: str
    target: str
    areas: Mapping[str, str]
    readiness: Readiness
    flows: tuple[TableFlow, ...]
    nodes: Mapping[str, tuple[Node, ...]]
    """By area: its assets, and those of others that they are made from."""
    decisions: tuple[DecisionRow, ...]
    actions: tuple[Action, ...]
    known_issues: tuple[KnownIssue, ...]
    book: tuple[BookPage, ...]
    value_maps: tuple[ValueMapPage, ...]
    legacy: tuple[LegacyPage, ...]
    rejected: tuple[RejectedGroup, ...]
    conflicts: tuple[Listed, ...]
    vanished: tuple[Listed, ...]
    coercions: tuple[CoercionRow, ...]
    undecided: tuple[UndecidedRow, ...] = ()
    became: tuple[Became, ...] = ()
    activates: bool = False
    """Whether rows are loaded inactive, and switched on by a command of its own."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Target tables by name, with the model that the plan calls them."""

    demonstration: Demonstration | None = None
    """What stands for people who have said nothing, where a file does."""

    def model_of(self, table: str) -> str:
        return self.models.get(table, table)


def after_its_run(
    report: Report, system: System, instance: dg.DagsterInstance, figures: Figures, *, now: datetime
) -> Report:
    """What the page says once the run has ended whose last step gathered it: the runs alone are asked anew."""
    found = with_runs(report.readiness, RunHistory(system, instance), figures, Accounts(system, figures))
    return replace(report, now=now, readiness=found)


def gather(
    system: System,
    graph: "AssetGraph",
    instance: dg.DagsterInstance,
    figures: Figures,
    obstacles: Sequence[Obstacle],
    *,
    now: datetime,
    source: str = "",
    target: str = "",
) -> Report:
    """All that the page says as of `now`; `source` and `target` are told as they are, so give them masked.

    `obstacles` are what the gate of a cutover finds in the way, accepted or not.
    """
    history = History(system, graph, instance)
    accounts = Accounts(system, figures)
    return Report(
        system=system.name,
        now=now,
        source=source,
        target=target,
        areas=system.areas,
        readiness=readiness(system, history, figures, accounts, obstacles),
        flows=table_flows(system, figures, accounts),
        nodes=lineage_nodes(system, history, figures),
        decisions=decision_rows(system, accounts),
        actions=system.decisions.actions,
        known_issues=system.decisions.known_issues,
        book=tuple(book_page(system, history, figures, mapping) for _, mapping in sorted(mapped(system))),
        value_maps=value_map_pages(system),
        legacy=tuple(legacy_page(system, table, accounts) for table in system.legacy_tables.values()),
        rejected=tuple(rejected_group(system, group, accounts) for group in figures.rejected),
        conflicts=figures.conflicts,
        vanished=figures.vanished,
        coercions=coercion_rows(accounts),
        undecided=undecided_rows(system),
        became=became(figures, accounts),
        activates=HELD in system.decisions.chosen.values() and any(each.held_column for each in system.filled_targets),
        models=accounts.models,
        demonstration=system.decisions.demonstration,
    )
