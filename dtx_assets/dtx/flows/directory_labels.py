"""keyword → Directory.settings (Area 11 decision 6, option directory_settings): renamed labels of the tenant."""

import polars as pl

from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.machinery.system.flow import FlowInputs
from dtx_assets.machinery.transforms.columns import json_text


@FUNCTIONS.register
def label_settings(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Rows with `:settings`, the label as it is merged into the settings of the directory."""
    label = pl.concat_str(
        pl.lit('{"labels":{'), json_text(pl.col("keyword")), pl.lit(":"), json_text(pl.col("replacement")), pl.lit("}}")
    )
    return rows.with_columns(label.alias(":settings"))
