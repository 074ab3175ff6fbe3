"""form_field → Record.internal_id and internal_id1 (Area 11 decision 5, option record_internal_id)."""

import polars as pl

from dtx_assets.dtx.form_fields import SOURCE, assess_form_fields
from dtx_assets.machinery.prepare.assess import finish_source, link_rows
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared

MODEL = "Record"
COLUMNS = ("internal_id", "internal_id1")


def one_column_a_property(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the value in the column that its property names (`:column`), and NULL in the other."""
    return rows.with_columns(
        pl.when(pl.col(":column") == name).then(pl.col(":value")).alias(f":{name}") for name in COLUMNS
    )


def run(inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    rows = assess_form_fields(inputs, MODEL, key=(":record", ":column"))
    migrated = finish_source(outcome, inputs, SOURCE, MODEL, rows)
    units = one_column_a_property(migrated.sort(":record", ":column")).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("_target_row")
    )
    outcome.prepared[MODEL] = Prepared(
        units.select(
            pl.col("_target_row").alias("_row"),
            pl.col(":record").alias("id"),
            *(pl.col(f":{name}").alias(name) for name in COLUMNS),
        ),
        link_rows(
            SOURCE,
            units.select(
                "_source_key",
                pl.col("_row").alias("_source_row"),
                "_bucket",
                pl.col("_target_row").alias("_row"),
                pl.col(":column").alias("_part"),
            ),
        ),
    )
    return outcome


RECORD_FIELDS = Flow(
    name="record_fields",
    area="file_repository",
    sources=(SOURCE,),
    accounted=((SOURCE, MODEL),),
    mappings=("record", "form_field_property"),
    targets=(MODEL,),
    decisions=("form_field",),
    owner={SOURCE: ("vendor_id", "record")},
    run=run,
    description="The first two custom fields of a vendor are filled into its record.",
)
