"""The checks that the declarations of any system call for."""

from collections.abc import Callable, Collection

from dtx_assets.machinery.checks.columns import column_checks
from dtx_assets.machinery.checks.crosswalks import crosswalk_checks, crosswalk_users, landed_crosswalk_checks
from dtx_assets.machinery.checks.decisions import archived_by_decision_checks, decision_checks
from dtx_assets.machinery.checks.documents import document_checks, undeclared_collections_checks
from dtx_assets.machinery.checks.flows import flow_checks
from dtx_assets.machinery.checks.junctions import junction_checks
from dtx_assets.machinery.checks.own import groups_of
from dtx_assets.machinery.checks.spec import CheckGroup, one_group_an_asset
from dtx_assets.machinery.checks.tables import landed_table_checks
from dtx_assets.machinery.checks.undecided import undecided_checks
from dtx_assets.machinery.checks.written import own_checks
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.system.system import System


def check_groups(system: System) -> tuple[CheckGroup, ...]:
    """All checks of a system, one group an asset: those that its declarations call for, and its own."""
    own = own_checks(system)
    irrelevant = system.checks.irrelevant_decisions if system.checks else lambda _: ()
    return one_group_an_asset(
        [*standard_check_groups(system, irrelevant), *groups_of([*own, *column_checks(system, own)])]
    )


def standard_check_groups(
    system: System, irrelevant_decisions: Callable[[Decisions], Collection[str]] = lambda _: ()
) -> list[CheckGroup]:
    """The checks that the declarations of any system call for: of what is landed, crosswalks, flows and decisions.

    `irrelevant_decisions` gives those that make no difference under what else was chosen.
    """
    read = system.read_tables
    return [
        *(landed_table_checks(table, migrated=name in read) for name, table in system.legacy_tables.items()),
        *(document_checks(table) for table in system.legacy_tables.values() if table.documents),
        *([undeclared_collections_checks()] if system.reads_documents else []),
        *(landed_table_checks(table, "crosswalk") for table in system.crosswalk_tables.values()),
        *(landed_crosswalk_checks(table) for table in system.crosswalk_tables.values()),
        *(
            crosswalk_checks(asset, users)
            for asset in system.mapping_assets
            if asset.kind == "crosswalk" and (users := crosswalk_users(system, asset.name))
        ),
        *(group for flow in system.flows for group in flow_checks(flow)),
        *(junction_checks(flow, model) for flow in system.flows for model in flow.unite),
        *(
            decision_checks(target.model, irrelevant_decisions, concerned_by=deciding_feeds(system, target.model))
            for target in system.filled_targets
        ),
        *(
            archived_by_decision_checks(decision.key)
            for decision in system.decisions.entries
            if decision.key in system.legacy_tables and decision.key not in read
        ),
        *undecided_checks(system.mappings),
    ]


def deciding_feeds(system: System, model: str) -> Collection[str]:
    """The decision that a feed is under: a file adds a model, and the decisions do not list it."""
    return (system.feeds.decision,) if system.feeds and system.feeds.of_model(model) else ()
