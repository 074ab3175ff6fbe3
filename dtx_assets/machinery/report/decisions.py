"""The section Decisions: each with the rows of what it is about."""

from dataclasses import dataclass

from dtx_assets.machinery.mapping.decisions import Action, Decision
from dtx_assets.machinery.report.accounts import Accounts
from dtx_assets.machinery.system.system import System


@dataclass(frozen=True)
class DecisionRow:
    decision: Decision
    chosen: str | None
    overridden: bool
    action: Action | None
    tables: tuple[str, ...]
    rows: int


def decision_rows(system: System, accounts: Accounts) -> tuple[DecisionRow, ...]:
    """Each decision, with the rows of the flows and tables that it is about, as the last run read them."""
    actions = {action.id: action for action in system.decisions.actions}
    rows = []
    for decision in system.decisions.entries:
        chosen = system.decisions.chosen.get(decision.key)
        pairs = affected_pairs(system, decision, accounts)
        rows.append(
            DecisionRow(
                decision,
                chosen,
                chosen != decision.chosen,
                actions.get(decision.blocking_action or ""),
                tuple(sorted({source for source, _ in pairs})),
                sum(accounts.current[pair].read for pair in pairs),
            )
        )
    return tuple(rows)


def affected_pairs(system: System, decision: Decision, accounts: Accounts) -> set[tuple[str, str]]:
    """The flows of what a decision is about.

    Of tables that one option migrates and another does not; else of the models that it affects, and where it leaves
    nothing to choose, of the tables that are declared to be its.
    """
    by_option = [
        {source for flow in system.flows_under(chosen) for source, _ in flow.accounted}
        for chosen in ({**system.decisions.chosen, decision.key: option} for option in decision.options)
    ]
    about = {table for tables in by_option for table in tables}
    about = {table for table in about if not all(table in tables for tables in by_option)}
    if about:
        return {pair for pair in accounts.current if pair[0] in about}
    affected = {table for table, model in accounts.models.items() if model in decision.affects}
    if not decision.options:
        about = {
            table.name for table in system.legacy_tables.values() if decision in system.decisions.named(table.decision)
        }
    return {(source, target) for source, target in accounts.current if target in affected or source in about}
