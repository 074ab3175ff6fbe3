"""Which targets are loaded before which: what rows refer to has to be there first, or to come with them."""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from dtx_assets.machinery.model.target import TargetTable


def refers_to_itself(target: TargetTable) -> bool:
    """Whether rows of a target refer to others that the same load makes."""
    return _knows_its_keys(target) and any(name in target.names for name in _referred(target))


def circles(targets: Sequence[TargetTable]) -> list[tuple[TargetTable, ...]]:
    """The targets of several tables whose rows refer to each other, each circle once: they are loaded together.

    Only of rows whose keys are known before they are written anything can refer to what comes with it.
    """
    direct = _references([target for target in targets if _knows_its_keys(target)])
    others_of = {model: set(reached(direct, model)) for model in direct}
    found: dict[frozenset[str], tuple[TargetTable, ...]] = {}
    for model, others in others_of.items():
        together = frozenset(other for other in others if model in others_of[other])
        if len(together) > 1:
            found[together] = tuple(target for target in targets if target.model in together)
    return list(found.values())


def loaded_before(targets: Sequence[TargetTable]) -> dict[str, list[str]]:
    """By model, those whose rows its rows refer to. Of models that refer to each other in a circle, none is first."""
    direct = _references(targets)
    return {
        model: [first for first in referred if model not in set(reached(direct, first))]
        for model, referred in direct.items()
    }


def all_loaded_before(targets: Sequence[TargetTable]) -> dict[str, set[str]]:
    """The same with those before them in turn: all that is certain to be there when the rows of a model come."""
    direct = loaded_before(targets)
    return {model: set(reached(direct, model)) for model in direct}


def in_load_order(targets: Sequence[TargetTable]) -> list[tuple[TargetTable, ...]]:
    """The targets, those that others refer to first, and those of a circle together; else in their order."""
    before = loaded_before(targets)
    of_circle = {target.model: circle for circle in circles(targets) for target in circle}
    ordered: list[tuple[TargetTable, ...]] = []
    done: set[str] = set()
    waiting = list(dict.fromkeys(of_circle.get(target.model, (target,)) for target in targets))
    while waiting:
        # There is always one: other circles are no reason to wait.
        free = next(some for some in waiting if all(model in done for target in some for model in before[target.model]))
        ordered.append(free)
        done |= {target.model for target in free}
        waiting.remove(free)
    return ordered


def _knows_its_keys(target: TargetTable) -> bool:
    return target.writes == "insert" and target.key_is_written


def _referred(target: TargetTable) -> Iterator[str]:
    """The tables that its foreign keys lead to."""
    yield from (column.references for column in target.columns if column.references)
    yield from target.refers_to


def _references(targets: Sequence[TargetTable]) -> dict[str, list[str]]:
    """By model, those of them whose tables its columns refer to."""
    models: dict[str, list[str]] = {}
    for target in targets:
        for name in target.names:
            models.setdefault(name, []).append(target.model)
    return {
        target.model: list(
            dict.fromkeys(
                model
                for name in _referred(target)
                for model in models.get(name, ())
                # Rows of one table that another model makes are no reason to wait for it.
                if model not in models[target.name]
            )
        )
        for target in targets
    }


def load_order(after: Mapping[str, Sequence[str]]) -> list[str]:
    """The models that are loaded one after another without a reference, first one first; by model those before it.

    ValueError names the circle where there is one.
    """
    try:
        return list(TopologicalSorter({model: first for model, first in after.items() if first}).static_order())
    except CycleError as error:
        raise ValueError(", ".join(error.args[1])) from None


def reached(direct: Mapping[str, Sequence[str]], start: str) -> Iterator[str]:
    """What one thing leads to directly or by others; itself where something leads back to it."""
    seen, todo = {start}, [start]
    while todo:
        for model in direct[todo.pop()]:
            yield model
            if model not in seen:
                seen.add(model)
                todo.append(model)
