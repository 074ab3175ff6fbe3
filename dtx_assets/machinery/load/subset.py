"""A load of some of the source rows: the first ones for a first look, or those that are rejected now.

Only a full load can tell what vanished, and only a full one balances with the whole table.
"""

from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from dtx_assets.machinery.prepare.part import Part, renumbered

SOURCE = ["flow_id", "source_key"]


@dataclass(frozen=True)
class Subset:
    """`first`: so many source rows of each table, in their order; `rejected`: those on the list of rejected rows."""

    kind: Literal["first", "rejected"]
    rows: int = 0

    def __str__(self) -> str:
        return f"first {self.rows}" if self.kind == "first" else "rejected"


def first_rows(part: Part, rows: int) -> Part:
    """What the first source rows of each table give, with what else leads to the same target rows and nothing else.

    Source rows are counted from 1.
    """
    taken = part.links.with_columns(((pl.col("source_row") <= rows) & pl.col("owns")).alias("_taken"))
    kept = _kept(taken, others=True)
    return _only(part, kept, part.rejected.filter(pl.col("source_row") <= rows))


def rows_of_keys(part: Part, keys: pl.DataFrame) -> Part:
    """What source rows of `keys` (flow_id, source_key) give, with the source rows that own what they lead to."""
    wanted = keys.select(SOURCE).unique().with_columns(pl.lit(True).alias("_taken"))
    taken = part.links.join(wanted, on=SOURCE, how="left", maintain_order="left").with_columns(
        pl.col("_taken").fill_null(False)
    )
    return _only(part, _kept(taken, others=False), part.rejected.join(wanted.drop("_taken"), on=SOURCE, how="semi"))


def _kept(links: pl.DataFrame, *, others: bool) -> pl.Series:
    """The numbers of the links that are taken, of the owners of their rows and, where wanted, of what adds to these."""
    exploded = links.select(pl.int_range(pl.len()).alias("_link"), "_taken", "owns", "rows").explode("rows")
    rows = exploded.filter("_taken").get_column("rows").unique()
    kept = exploded.filter("_taken").get_column("_link").unique()
    owners = exploded.filter(pl.col("owns") & pl.col("rows").is_in(rows.implode())).get_column("_link").unique()
    kept = pl.concat([kept, owners]).unique()
    if others:
        rows = exploded.filter(pl.col("_link").is_in(kept.implode())).get_column("rows").unique()
        inside = exploded.group_by("_link").agg(pl.col("rows").is_in(rows.implode()).all().alias("_inside"))
        kept = pl.concat([kept, inside.filter("_inside").get_column("_link")]).unique()
    return kept


def _only(part: Part, kept: pl.Series, rejected: pl.DataFrame) -> Part:
    links = part.links.filter(pl.int_range(pl.len()).is_in(kept.implode()))
    numbers = links.get_column("rows").explode().unique()
    chosen = pl.col("_row").is_in(numbers.implode())
    return renumbered(
        replace(
            part,
            rows=part.rows.filter(chosen),
            comparable=part.comparable.filter(chosen),
            links=links,
            rejected=rejected,
        )
    )
