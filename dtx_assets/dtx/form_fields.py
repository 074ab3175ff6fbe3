"""The rows of form_field, as each option of its decision begins with them (Area 11 decision 5)."""

from collections.abc import Sequence

import polars as pl

from dtx_assets.machinery.prepare import FlowInputs, assess, settle_duplicates
from dtx_assets.machinery.transforms import canonical_integer, integer_value

SOURCE = "form_field"


def assess_form_fields(
    inputs: FlowInputs, model: str, *, owner: str = "_vendor", place: str = ":key", not_null: Sequence[str] = ()
) -> pl.DataFrame:
    """The rows with `_vendor`; of one `owner` (with its account) and `place` the highest form_field_id counts."""
    empty = pl.col("value").is_null() | (pl.col("value") == "")
    rows = assess(inputs, SOURCE, model, dropped={"empty": empty}, not_null=not_null).with_columns(
        pl.coalesce(canonical_integer(pl.col("vendor_id")), "vendor_id").alias("_vendor")
    )
    key = [name for name in (":account_id", owner, place) if name in rows.columns]
    return settle_duplicates(
        rows,
        key,
        [integer_value(pl.col("form_field_id"))],
        "form_field_id",
        "a row with a higher form_field_id has the same vendor and property",
    )
