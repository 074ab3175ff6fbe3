"""keyword and form_field → AccountMeta (Area 11 decisions 5 and 6): what customers renamed and filled in, by account.

The two may fill the table together; which of them does is decided by their decisions.
"""

import polars as pl

from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.machinery.system.flow import FlowInputs
from dtx_assets.machinery.transforms.columns import json_text


@FUNCTIONS.register
def account_values(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """One row an account and key, with the value.

    The value itself where all vendors have the same, else a JSON object of legacy vendor id → value, keys sorted.
    """
    given = [pl.col(name) for name in (":value", ":text") if name in rows.columns]
    vendor = pl.col(":vendor").cast(pl.String) if ":vendor" in rows.columns else pl.lit(None, pl.String)
    rows = rows.with_columns(pl.coalesce(given).alias("_value"), vendor.fill_null("").alias("_vendor"))
    member = pl.concat_str(json_text(pl.col("_vendor")), pl.lit(":"), json_text(pl.col("_value")))
    by_vendor = pl.concat_str(pl.lit("{"), member.sort_by("_vendor").str.join(","), pl.lit("}"))
    value = pl.when(pl.col("_value").n_unique() == 1).then(pl.col("_value").first()).otherwise(by_vendor)
    return rows.group_by(":account_id", ":key").agg(value.alias(":value")).sort(":account_id", ":key")
