"""reviewer_address → AccountEmail (Area 11 decision 8): reviewers that the account does not have yet."""

import polars as pl

from dtx_assets.dtx.addresses import address_problems, list_invalid_addresses, with_addresses
from dtx_assets.dtx.php import counts_latin1
from dtx_assets.machinery.mapping.execute import add_problems
from dtx_assets.machinery.prepare.assess import assess, finish_source, link_rows
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared

SOURCE = "reviewer_address"
MODEL = "AccountEmail"


def reviewer_addresses(rows: pl.DataFrame, existing: pl.DataFrame) -> pl.DataFrame:
    """One row an address of a row, as `:email` in the spelling that the account has it in already, else lower case.

    `rows` has `:account_id` and `_addresses`; `existing` is the mapping `reviewer`.
    """
    return (
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


def run(inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    rows = with_addresses(inputs.legacy[SOURCE], "email_string", latin1_lengths=counts_latin1(inputs.context.decisions))
    rows = assess(inputs, SOURCE, MODEL, rows, dropped={"empty": pl.col("status") == "empty"})
    rows = add_problems(rows, *address_problems("email_string"))
    migrated = finish_source(outcome, inputs, SOURCE, MODEL, rows)
    list_invalid_addresses(outcome, inputs, SOURCE, MODEL, migrated, "email_string")

    addresses = reviewer_addresses(migrated, inputs.mappings["reviewer"].collect())
    emails = (
        addresses.select(
            pl.col(":account_id").alias("account_id"),
            pl.col(":email").alias("email"),
            pl.col(":email_type").alias("email_type"),
        )
        .unique()
        .sort("account_id", "email")
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_target_row"))
    )
    pairs = addresses.join(
        emails.rename({"account_id": ":account_id", "email": ":email"}),
        on=[":account_id", ":email"],
        maintain_order="left",
    )
    outcome.prepared[MODEL] = Prepared(
        emails.select(pl.col("_target_row").alias("_row"), "account_id", "email", "email_type"),
        link_rows(
            SOURCE,
            pairs.select(
                "_source_key",
                pl.col("_row").alias("_source_row"),
                "_bucket",
                pl.col("_target_row").alias("_row"),
                pl.col(":email").alias("_part"),
            ),
        ),
    )
    return outcome


ACCOUNT_EMAIL = Flow(
    name="account_email",
    area="file_repository",
    sources=(SOURCE,),
    accounted=((SOURCE, MODEL),),
    mappings=("account", "reviewer"),
    targets=(MODEL,),
    decisions=(),
    owner={SOURCE: ("customer_id", "account")},
    run=run,
    description="Reviewers' addresses that the account does not have yet; the others are mapped to the rows it has.",
)
