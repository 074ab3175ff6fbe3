"""PHP-serialised e-mail addresses, as notification_webhook and reviewer_address hold them (spec 4.1 and 4.4)."""

from collections.abc import Mapping

import polars as pl

from dtx_assets.machinery.mapping.execute import RowProblem, add_problems
from dtx_assets.machinery.prepare.assess import rejected_rows
from dtx_assets.machinery.system.flow import FlowInputs, Outcome
from dtx_assets.machinery.transforms.php import php_strings

ADDRESS = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
"""One `@` with something before it, a dot inside the part after it, no white space (spec 4.1)."""


def counts_latin1(chosen: Mapping[str, str]) -> bool:
    """Whether the lengths of PHP strings may count bytes of latin1 (decision `php_string_lengths`)."""
    return chosen.get("php_string_lengths") == "latin1_bytes"


def read_addresses(serialised: pl.Series, *, latin1_lengths: bool) -> pl.DataFrame:
    """What distinct values hold: the value, `status`, `detail`, `_leaves`, `_addresses`, `_invalid`, `_nul`.

    `_addresses` are the valid ones, trimmed and lower-cased; `_invalid` are the other leaves as they stand there.
    """
    name = serialised.name
    values = (
        serialised.unique()
        .to_frame()
        .with_columns(php_strings(pl.col(name), latin1_lengths=latin1_lengths).alias("_php"))
    )
    values = values.unnest("_php").with_row_index("_value")
    leaves = (
        values.lazy()
        .select("_value", "strings")
        .explode("strings", empty_as_null=False, keep_nulls=False)
        .with_columns(pl.col("strings").str.strip_chars().str.to_lowercase().alias("_clean"))
        .with_columns(pl.col("_clean").str.contains(ADDRESS).alias("_valid"))
        .group_by("_value")
        .agg(
            pl.col("_clean").filter("_valid").alias("_addresses"),
            pl.col("strings").filter(~pl.col("_valid")).alias("_invalid"),
            (pl.col("_valid") & pl.col("_clean").str.contains("\x00", literal=True)).any().alias("_nul"),
        )
    )
    nothing = pl.lit([], dtype=pl.List(pl.String))
    return (
        values.lazy()
        .join(leaves, on="_value", how="left", maintain_order="left")
        .select(
            name,
            "status",
            "detail",
            (pl.col("strings").list.len() + pl.col("others").list.len()).alias("_leaves"),
            pl.col("_addresses").fill_null(nothing),
            pl.concat_list(pl.col("_invalid").fill_null(nothing), pl.col("others")).alias("_invalid"),
            pl.col("_nul").fill_null(False),
        )
        .collect()
    )


def with_addresses(rows: pl.DataFrame, column: str, *, latin1_lengths: bool) -> pl.DataFrame:
    """The rows with what `read_addresses` finds in a column of theirs; `status` is `empty`, `ok` or `unparseable`."""
    rows = rows.join(
        read_addresses(rows[column], latin1_lengths=latin1_lengths),
        on=column,
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    # Bytes that are no text stand there escaped, and what is escaped could be read as something else.
    undecodable = (
        pl.col("_undecodable").list.eval(pl.element().struct.field("column") == column).list.any().fill_null(False)
    )
    return rows.with_columns(
        pl.when(undecodable).then(pl.lit("unparseable")).otherwise("status").alias("status"),
        pl.when(undecodable)
        .then(pl.lit("holds bytes that are no text in the table's encoding"))
        .otherwise("detail")
        .alias("detail"),
    )


def address_problems(column: str) -> tuple[RowProblem, ...]:
    """What rejects a row of `with_addresses` for its addresses."""
    return (
        RowProblem(pl.col("status") == "unparseable", "unparseable", column, pl.col("detail")),
        RowProblem(pl.col("_nul"), "unparseable", column, "an address holds a NUL"),
        RowProblem(
            (pl.col("status") == "ok") & (pl.col("_addresses").list.len() == 0),
            "invalid_email",
            column,
            pl.format("none of {} values is an address", "_leaves"),
        ),
    )


def invalid_addresses(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """One row, with its problem, for each value in a row of `with_addresses` that is no address."""
    invalid = rows.explode("_invalid", empty_as_null=False, keep_nulls=False)
    detail = pl.format("not an address: {}", pl.col("_invalid").str.head(200))
    return add_problems(invalid, RowProblem(pl.col("_invalid").is_not_null(), "invalid_email", column, detail))


def list_invalid_addresses(
    outcome: Outcome, inputs: FlowInputs, source: str, model: str, migrated: pl.DataFrame, column: str
) -> None:
    """Lists the invalid addresses of migrated rows, one partial entry each."""
    invalid = invalid_addresses(migrated, column)
    if invalid.height:
        outcome.reject(model, rejected_rows(inputs, source, invalid, partial=True))
