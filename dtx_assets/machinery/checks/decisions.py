"""The checks of decisions: confirmed, and with their actions done."""

from collections.abc import Callable, Collection
from dataclasses import replace

from dtx_assets.machinery.checks.obstacles import open_decision, undone_action
from dtx_assets.machinery.checks.spec import CheckContext, CheckGroup, CheckOutcome, CheckSpec, DatasetName, found
from dtx_assets.machinery.mapping.decisions import Action, Decision, Decisions


def decision_checks(
    model: str,
    irrelevant: Callable[[Decisions], Collection[str]] = lambda _: (),
    *,
    concerned_by: Collection[str] = (),
) -> CheckGroup:
    """The open decisions and blocking pre-migration actions that concern a target.

    `irrelevant` gives the decisions that make no difference under what else was chosen; `concerned_by` names some whose
    `affects` cannot know the model.
    """
    return _decision_checks(
        ("target", model),
        lambda decisions: [
            entry
            for entry in decisions.entries
            if (model in entry.affects or entry.key in concerned_by) and entry.key not in irrelevant(decisions)
        ],
    )


def archived_by_decision_checks(table: str) -> CheckGroup:
    """The same of a legacy table that a decision of its name sends to the archive only."""
    return _decision_checks(
        ("legacy", table), lambda decisions: [entry for entry in decisions.entries if entry.key == table]
    )


def _decision_checks(asset: DatasetName, concerned_by: Callable[[Decisions], list[Decision]]) -> CheckGroup:
    specs = (
        CheckSpec(
            "decisions_are_confirmed",
            asset,
            "Every decision that concerns this table is confirmed.",
            "ERROR",
            blocking=True,
        ),
        CheckSpec(
            "blocking_actions_are_done",
            asset,
            "Every blocking pre-migration action that concerns this table is done.",
            "ERROR",
            blocking=True,
        ),
    )

    def left_open(decisions: Decisions) -> tuple[list[Decision], list[Action]]:
        concerned = concerned_by(decisions)
        named = {entry.blocking_action for entry in concerned}
        return [entry for entry in concerned if entry.status == "open"], [
            action
            for action in decisions.actions
            if (action.id in named or asset[1] in action.affects) and action.blocking and action.status == "open"
        ]

    def foretold(decisions: Decisions) -> list[str]:
        waiting, undone = left_open(decisions)
        return [*(entry.key for entry in waiting), *(action.id for action in undone)]

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        waiting, undone = left_open(context.decisions)
        confirmed = found(
            len(waiting),
            open={
                f"{entry.key} (A{entry.area} #{entry.number})": (
                    f"{context.decisions.chosen.get(entry.key, 'documented')}, to be confirmed by {entry.confirm_by}"
                )
                for entry in waiting
            },
        )
        done = found(len(undone), open={action.id: action.text for action in undone})
        return {
            specs[0].name: replace(
                confirmed, obstacles=tuple(open_decision(entry, context.decisions) for entry in waiting)
            ),
            specs[1].name: replace(
                done, obstacles=tuple(undone_action(action, context.decisions) for action in undone)
            ),
        }

    return CheckGroup(asset, specs, evaluate, (), foretold=foretold)
