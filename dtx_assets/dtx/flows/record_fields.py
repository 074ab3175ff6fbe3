"""form_field → Record.internal_id and internal_id1 (Area 11 decision 5, option record_internal_id)."""

import polars as pl

from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.machinery.system.flow import FlowInputs

COLUMNS = ("internal_id", "internal_id1")


@FUNCTIONS.register
def one_column_a_property(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Rows with the value in the column that its property names (`:column`), and NULL in the other."""
    return rows.with_columns(
        pl.when(pl.col(":column") == name).then(pl.col(":value")).alias(f":{name}") for name in COLUMNS
    )
