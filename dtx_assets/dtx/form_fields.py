"""The rows of form_field, as each option of its decision begins with them (Area 11 decision 5)."""

from collections.abc import Sequence

import polars as pl

from dtx_assets.machinery.prepare.assess import assess, settle_duplicates
from dtx_assets.machinery.system.flow import FlowInputs
from dtx_assets.machinery.transforms.columns import integer_value

SOURCE = "form_field"


def assess_form_fields(
    inputs: FlowInputs, model: str, *, key: Sequence[str], not_null: Sequence[str] = ()
) -> pl.DataFrame:
    """The rows with what is empty dropped; of those that share `key` the highest form_field_id counts."""
    empty = pl.col("value").is_null() | (pl.col("value") == "")
    rows = assess(inputs, SOURCE, model, dropped={"empty": empty}, not_null=not_null)
    return settle_duplicates(
        rows,
        key,
        [integer_value(pl.col("form_field_id"))],
        "form_field_id",
        "a row with a higher form_field_id has the same vendor and property",
    )
