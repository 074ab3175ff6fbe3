"""reviewer_address → AccountEmail (Area 11 decision 8): reviewers that the account does not have yet."""

import polars as pl

from dtx_assets.dtx.addresses import address_problems, counts_latin1, invalid_addresses, with_addresses
from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.machinery.mapping.execute import add_problems
from dtx_assets.machinery.system.flow import FlowInputs


@FUNCTIONS.register
def addresses_of_reviewers(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The rows with the addresses that `email_string` holds, PHP-serialised; what holds none has a problem."""
    latin1 = counts_latin1(inputs.context.decisions)
    return add_problems(with_addresses(rows, "email_string", latin1_lengths=latin1), *address_problems("email_string"))


@FUNCTIONS.register
def reviewer_addresses(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """One row an address, as `:email` in the spelling that the account has it in already, else lower case.

    What is no address is a row of its own, with a problem.
    """
    existing = inputs.mappings["reviewer"].collect()
    valid = (
        rows.explode("_addresses")
        .join(
            existing.rename({"account_id": ":account_id", "lower": "_addresses", "email": "_existing"}),
            on=[":account_id", "_addresses"],
            how="left",
            maintain_order="left",
        )
        .with_columns(pl.coalesce("_existing", "_addresses").alias(":email"))
        .unique(["_row", ":email"], maintain_order=True)
    )
    both = (valid, invalid_addresses(rows, "email_string"))
    return pl.concat([each.drop("_addresses", "_invalid") for each in both], how="diagonal_relaxed")


@FUNCTIONS.register
def one_row_an_address(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """One row an account and address, whoever names it."""
    return rows.select(":account_id", ":email", ":email_type").unique().sort(":account_id", ":email")
