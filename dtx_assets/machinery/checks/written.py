"""A system's own checks that are data, those of its `checks.yaml`, beside those that are functions (`own`)."""

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from operator import and_, or_

import polars as pl

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.checks.own import Find, Look, OwnCheck
from dtx_assets.machinery.checks.spec import CheckSpec
from dtx_assets.machinery.mapping.checks import CheckCondition, PlacedCheck, WrittenCheck
from dtx_assets.machinery.mapping.conditions import holds
from dtx_assets.machinery.system.system import System


def own_checks(system: System) -> list[OwnCheck]:
    """The own checks of a system, those that are data first; ConfigurationError where two have one name."""
    functions: Sequence[OwnCheck] = system.checks.of(system) if system.checks else ()
    taken = {(check.spec.asset, check.spec.name): check.where for check in functions}
    written = [_own(each) for each in system.mappings.checks]
    for check in written:
        if other := taken.get((check.spec.asset, check.spec.name)):
            raise ConfigurationError(
                f"{'/'.join(check.spec.asset)} has two checks called {check.spec.name}; the other one is at {other}",
                where=check.where,
                remedy="give one of them another name",
            )
    return [*written, *functions]


def _own(placed: PlacedCheck) -> OwnCheck:
    check = placed.check
    text = " ".join(check.description.split())
    spec = CheckSpec(placed.name, ("legacy", placed.table), text, check.severity, check.blocking)
    return OwnCheck(spec, partial(question, check), None, (), placed.where, check.replaces)


def question(check: WrittenCheck, look: Look) -> Find:
    """What a check asks of the rows of a look."""

    def tallied(columns: Mapping[str, str]) -> dict[str, pl.Expr]:
        values = {name: pl.col(column) for name, column in columns.items()}
        return {name: value.str.strip_chars() for name, value in values.items()} if check.distinct else values

    return Find(
        reduce(and_ if check.find else or_, (_holds(condition, look) for condition in check.conditions)),
        show=check.show,
        values=tallied(check.values),
        all_values=tallied(check.all_values),
        distinct=check.distinct,
        facts={"do": check.do} if check.do else {},
    )


def _holds(condition: CheckCondition, look: Look) -> pl.Expr:
    """Whether a condition holds of a row; never NULL."""
    column = pl.col(str(condition.column))
    if condition.listed_in:
        return look.lists(condition.listed_in, column)
    if condition.not_listed_in:
        return ~look.lists(condition.not_listed_in, column)
    return holds((condition,))
