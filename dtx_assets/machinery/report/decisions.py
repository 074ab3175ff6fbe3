"""The section Decisions: each with the rows of what it is about."""

from dataclasses import dataclass

from dtx_assets.machinery.checks.obstacles import pairs_concerned
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
        affected = {table for table, model in accounts.models.items() if model in decision.affects}
        pairs = pairs_concerned(system, decision, accounts.current.keys(), affected)
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
