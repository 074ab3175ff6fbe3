"""What a transform makes of texts, in plain Python: for the tests of all transforms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl

from dtx_assets.machinery.transforms.columns import GENERIC, TransformContext

CONTEXT = TransformContext({}, {}, {}, "UTC", datetime(2026, 11, 21, tzinfo=UTC))


@dataclass(frozen=True)
class Applied:
    """`values` by row; `told` is (row, reason, detail) of each problem; `counted` is (row, kind) of each coercion."""

    values: list[object]
    told: list[tuple[int, str, str]]
    counted: list[tuple[int, str]]


def applied(name: str, texts: Sequence[str | None], *, timezone: str = "UTC", **settings: object) -> Applied:
    return applied_to(name, pl.DataFrame({"x": texts}, schema={"x": pl.String}), timezone=timezone, **settings)


def applied_to(name: str, frame: pl.DataFrame, *, timezone: str = "UTC", **settings: object) -> Applied:
    """Of all columns but `_undecodable`."""
    columns = [pl.col(column) for column in frame.columns if column != "_undecodable"]
    outcome = GENERIC[name](columns, replace(CONTEXT, timezone=timezone), **settings)
    rows = frame.with_row_index("row")
    told = [
        (row, problem.reason, detail)
        for problem in outcome.problems
        for row, detail in rows.filter(problem.when.fill_null(False))
        .select("row", (pl.lit(problem.detail) if isinstance(problem.detail, str) else problem.detail).alias("detail"))
        .iter_rows()
    ]
    counted = [
        (row, coercion.kind)
        for coercion in outcome.coercions
        for row in rows.filter(coercion.when.fill_null(False))["row"]
    ]
    return Applied(frame.select(outcome.value.alias("v"))["v"].to_list(), sorted(told), sorted(counted))
