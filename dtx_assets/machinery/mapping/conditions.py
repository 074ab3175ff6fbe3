"""Conditions of mapping files as expressions over the columns of a source, made or not."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from operator import and_, or_

import polars as pl

from dtx_assets.machinery.mapping.model import Condition, DropRule, Scalar, When
from dtx_assets.machinery.transforms.columns import code, date_value, integer_value, timestamp_value

IS: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "missing": lambda column: column.is_null(),
    "given": lambda column: column.is_not_null(),
    "blank": lambda column: _trimmed(column) == "",
    "filled": lambda column: _trimmed(column) != "",
}
READERS: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "date": date_value,
    # What is no time is none in any zone.
    "time": lambda text: timestamp_value(text, "UTC"),
    "integer": integer_value,
}


def holds(conditions: Sequence[Condition]) -> pl.Expr:
    """Whether all conditions hold of a row; never NULL. Made values lie in `:<name>`."""
    return reduce(and_, map(_holds, conditions), pl.lit(True))


def _holds(condition: Condition) -> pl.Expr:
    column = pl.col(condition.column or f":{condition.value}")
    if condition.is_:
        return IS[condition.is_](column)
    if condition.matches is not None:
        return column.cast(pl.String).str.contains(condition.matches).fill_null(False)
    if condition.unreadable_as:
        return column.is_not_null() & READERS[condition.unreadable_as](column.cast(pl.String)).is_null()
    listed = condition.equals or condition.other_than
    found = reduce(or_, (_equals(column.cast(pl.String), value, condition.exact) for value in listed))
    return found if condition.equals else ~found


def _trimmed(column: pl.Expr) -> pl.Expr:
    return column.cast(pl.String).fill_null("").str.strip_chars()


def _equals(text: pl.Expr, value: Scalar, exact: bool) -> pl.Expr:
    if value is None:
        return text.is_null()
    if isinstance(value, bool):
        equal = text == str(value).lower()
    elif isinstance(value, int):
        equal = integer_value(text) == value
    else:
        equal = text == value if exact else code(text) == value.strip().lower()
    return equal.fill_null(False)


def is_active(when: When | None, chosen: Mapping[str, str]) -> bool:
    """Whether what stands under `when` counts under the chosen options."""
    return when is None or chosen.get(when.decision) in when.option


def drop_rules(rules: Iterable[DropRule], chosen: Mapping[str, str]) -> dict[str, pl.Expr]:
    """Where each rule drops a row; of rules of one name, one is enough."""
    found: dict[str, pl.Expr] = {}
    for rule in rules:
        if is_active(rule.when, chosen):
            found[rule.rule] = found[rule.rule] | holds(rule.only) if rule.rule in found else holds(rule.only)
    return found
