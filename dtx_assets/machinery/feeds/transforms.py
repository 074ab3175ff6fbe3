"""The transforms that feed files name. A mapping knows them under `feed_<name>`, beside those of its system."""

from collections.abc import Sequence

import polars as pl

from dtx_assets.machinery.transforms.columns import Coercion, Outcome, Registry, TransformContext, integer, iso_date

FEED = Registry()


def registered(name: str) -> str:
    """The name that a mapping has for a feed's transform."""
    return f"feed_{name}"


@FEED.transform(registered("text"))
def feed_text(inputs: Sequence[pl.Expr], context: TransformContext, null_values: Sequence[str] = ()) -> Outcome:
    """The text as it is; `null_values` are NULL, and counted."""
    (source,) = inputs
    given, coercions = _without(source, null_values)
    return Outcome(given, coercions=coercions)


@FEED.transform(registered("integer"))
def feed_integer(inputs: Sequence[pl.Expr], context: TransformContext, null_values: Sequence[str] = ()) -> Outcome:
    """A whole number; an empty text is NULL, `null_values` are NULL and counted, anything else is `unparseable`."""
    (source,) = inputs
    given, coercions = _without(source, null_values)
    read = integer([pl.when(given != "").then(given)], context)
    return Outcome(read.value, read.problems, coercions)


FEED.transform(registered("date"))(iso_date)


def _without(source: pl.Expr, null_values: Sequence[str]) -> tuple[pl.Expr, tuple[Coercion, ...]]:
    if not null_values:
        return source, ()
    listed = source.is_in(pl.Series(null_values, dtype=pl.String).implode())
    return pl.when(~listed).then(source), (Coercion("null_value", listed),)
