"""Which targets are loaded before which: what rows refer to has to be there first."""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from dtx_assets.machinery.model.target import TargetTable


def loaded_before(targets: Sequence[TargetTable]) -> dict[str, list[str]]:
    """By model, those whose rows its rows refer to. Of models that refer to each other in a circle, none is first."""
    models: dict[str, list[str]] = {}
    for target in targets:
        for name in target.names:
            models.setdefault(name, []).append(target.model)
    direct = {
        target.model: list(
            dict.fromkeys(
                model
                for column in target.columns
                for model in models.get(column.references or "", ())
                # Rows of one table that another model makes are no reason to wait for it.
                if model not in models[target.name]
            )
        )
        for target in targets
    }
    return {
        model: [first for first in referred if model not in set(_reached(direct, first))]
        for model, referred in direct.items()
    }


def in_load_order(targets: Sequence[TargetTable]) -> list[TargetTable]:
    """The targets, those that others refer to first; else in their order."""
    before = loaded_before(targets)
    ordered: dict[str, TargetTable] = {}
    waiting = list(targets)
    while waiting:
        # There is always one: circles are no reason to wait.
        free = next(target for target in waiting if all(model in ordered for model in before[target.model]))
        ordered[free.model] = free
        waiting.remove(free)
    return list(ordered.values())


def load_order(after: Mapping[str, Sequence[str]]) -> list[str]:
    """The models that are loaded one after another without a reference, first one first; by model those before it.

    ValueError names the circle where there is one.
    """
    try:
        return list(TopologicalSorter({model: first for model, first in after.items() if first}).static_order())
    except CycleError as error:
        raise ValueError(", ".join(error.args[1])) from None


def _reached(direct: Mapping[str, Sequence[str]], start: str) -> Iterator[str]:
    seen, todo = {start}, [start]
    while todo:
        for model in direct[todo.pop()]:
            yield model
            if model not in seen:
                seen.add(model)
                todo.append(model)
