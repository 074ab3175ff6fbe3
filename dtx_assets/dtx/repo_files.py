"""The rows of repo_file: which of them this migration moves, and what their files hold (Area 11 decision 1)."""

import polars as pl

from dtx_assets.machinery.look_ups.assets import MappingContext
from dtx_assets.machinery.mapping.conditions import drop_rules
from dtx_assets.machinery.transforms.columns import canonical_integer, integer_value

SOURCE = "repo_file"
LINKS = ("certificate_id", "document_id")


def is_linked(column: str) -> pl.Expr:
    """Whether a file has an id there: not NULL, not 0; what is no number is a link all the same."""
    return pl.col(column).is_not_null() & (integer_value(pl.col(column)) != 0).fill_null(True)


def with_handled(rows: pl.LazyFrame, handled: pl.LazyFrame) -> pl.LazyFrame:
    """Adds `_handled`; `handled` has the `source_id` of every file that Area 4 names."""
    return rows.with_columns(canonical_integer(pl.col("repo_file_id")).alias("_file_id")).join(
        handled.select(pl.col("source_id").alias("_file_id"), pl.lit(True).alias("_handled")),
        on="_file_id",
        how="left",
        maintain_order="left",
    )


def path_bytes() -> pl.Expr:
    """The path as the legacy system has it, which need not be text."""
    raw = (
        pl.col("_undecodable")
        .list.eval(pl.element().filter(pl.element().struct.field("column") == "repo_filepath").struct.field("bytes"))
        .list.first()
    )
    return pl.coalesce(raw, pl.col("repo_filepath").cast(pl.Binary))


def with_source_ids(crosswalk: pl.LazyFrame) -> pl.LazyFrame:
    """`source_id` of every file that Area 4 made something of."""
    files = crosswalk.select(canonical_integer(pl.col("repo_file_id")).alias("source_id"))
    return files.drop_nulls().unique().sort("source_id")


def paths_of_files(context: MappingContext, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The `path` of each row that no rule drops."""
    rows = with_handled(rows, with_source_ids(context.crosswalk("crosswalk_repo_file")))
    drop = context.mappings.for_target("Document").sources[SOURCE].drop
    dropped = pl.any_horizontal(drop_rules(drop, {}).values())
    return rows.filter(~dropped).select(path_bytes().alias("path"))
