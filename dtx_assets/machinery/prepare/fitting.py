"""The prepared rows that the live target cannot hold, and the source rows that are rejected for them.

They are found by what the catalogue says, as a load would find them, but before anything is written.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.ddl import LiveColumn
from dtx_assets.machinery.prepare.part import PROBLEM, Part, misfits, with_owner, without_rows
from dtx_assets.machinery.prepare.printed import Connected, as_printed, unreadable_documents

REFUSED = ("source_table", "source_row", "reason", "detail")


def fitted(
    rows: pl.DataFrame, target: TargetTable, live: Mapping[str, LiveColumn], connected: Connected | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows (`_row`) with their texts as the live columns print them, and what those cannot hold.

    The latter as `_row`, `reason`, `detail`. `connected` opens the target, where it may be asked.
    """
    columns = [column for column in target.columns if column.name in rows.columns and column.name in live]
    rows, unreadable = as_printed(rows, columns, live, connected)
    if connected:
        unreadable += unreadable_documents(rows, columns, live, connected)
    found = [*misfits(rows, columns, live, fills=target.writes != "insert"), *unreadable]
    empty = pl.DataFrame(schema={"_row": rows.schema["_row"], "reason": pl.String, "detail": pl.String})
    return rows, pl.concat([empty, *found])


def without_unfit(
    rows: pl.DataFrame, links: pl.DataFrame, found: pl.DataFrame, sources: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Rows and links without the source rows of what is `found`, and those source rows: REFUSED.

    Of `sources` the first one owns the rows that several link to. Rows are numbered anew.
    """
    tables = list(dict.fromkeys([*sources, *links["source_table"].unique(maintain_order=True)]))
    numbers = {table: number for number, table in enumerate(tables)}
    leads_nowhere = pl.col("rows").list.len() == 0
    owned = with_owner(links.filter(~leads_nowhere), numbers, rows.height, "prepared").select(
        pl.col("source_table").replace_strict(numbers, return_dtype=pl.Int16).alias("flow_id"),
        pl.exclude("source_table"),
    )
    problems = pl.DataFrame(schema=PROBLEM)
    whole = Part("prepared", (0, 0), "", (), rows, rows.select("_row"), owned, pl.DataFrame(), problems)
    part = without_rows(whole, [found])
    named = pl.col("flow_id").replace_strict(dict(enumerate(tables)), return_dtype=pl.String).alias("source_table")
    kept = part.links.select(named, *(name for name in links.columns if name != "source_table")).cast(links.schema)
    return part.rows, pl.concat([kept, links.filter(leads_nowhere)]), part.problems.select(named, *REFUSED[1:])
