"""keyword → Directory.settings (Area 11 decision 6, option directory_settings): renamed labels of the tenant."""

import polars as pl

from dtx_assets.machinery.prepare.assess import assess, finish_source, link_rows, settle_duplicates
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared
from dtx_assets.machinery.transforms.columns import json_text

SOURCE = "keyword"
MODEL = "Directory"


def label_settings(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with `:settings`, the label as it is merged into the settings of the directory."""
    label = pl.concat_str(
        pl.lit('{"labels":{'), json_text(pl.col("keyword")), pl.lit(":"), json_text(pl.col("replacement")), pl.lit("}}")
    )
    return rows.with_columns(label.alias(":settings"))


def run(inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    dropped = {"empty": pl.col("keyword").is_null() | pl.col("replacement").is_null()}
    rows = assess(inputs, SOURCE, MODEL, dropped=dropped)
    rows = settle_duplicates(
        rows, [":directory", ":label"], [], "keyword", "a later row has the same keyword for this directory"
    )
    migrated = finish_source(outcome, inputs, SOURCE, MODEL, rows)
    units = label_settings(migrated.sort(":directory", ":label")).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("_target_row")
    )
    outcome.prepared[MODEL] = Prepared(
        units.select(
            pl.col("_target_row").alias("_row"), pl.col(":directory").alias("id"), pl.col(":settings").alias("settings")
        ),
        link_rows(
            SOURCE,
            units.select(
                "_source_key",
                pl.col("_row").alias("_source_row"),
                "_bucket",
                pl.col("_target_row").alias("_row"),
                pl.col(":label").alias("_part"),
            ),
        ),
    )
    return outcome


DIRECTORY_LABELS = Flow(
    name="directory_labels",
    area="file_repository",
    sources=(SOURCE,),
    accounted=((SOURCE, MODEL),),
    mappings=("directory",),
    targets=(MODEL,),
    decisions=(SOURCE,),
    owner={SOURCE: ("customer_id", "directory")},
    run=run,
    description="Renamed labels are merged into the settings of the customer's directory.",
)
