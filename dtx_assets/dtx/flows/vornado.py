"""vornado_feed → Record.metadata.vornado (Area 11 decision 11, option seed_records): the leases of a tenant."""

import polars as pl

from dtx_assets.machinery.feeds.flow import array_documents
from dtx_assets.machinery.prepare.assess import assess, finish_source, link_rows
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared
from dtx_assets.machinery.transforms.columns import integer_value

SOURCE = "vornado_feed"
MODEL = "RecordVornado"
PART = "vornado"
REJECTED_AT_SOURCE = -1
LEASE = ("lease_end", "lease_start", "property_code", "tenant_id")


def leases_of_records(rows: pl.DataFrame) -> pl.DataFrame:
    """One row a record, as `id` and `metadata`: its leases in order of their start, those without one last."""
    return array_documents(rows, "record", "metadata", PART, LEASE, "lease_start")


def run(inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    dropped = {"rejected_at_source": integer_value(pl.col("PH_ID")) == REJECTED_AT_SOURCE}
    migrated = finish_source(outcome, inputs, SOURCE, MODEL, assess(inputs, SOURCE, MODEL, dropped=dropped))
    records = leases_of_records(migrated).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_target_row"))
    pairs = migrated.join(records, left_on=":record", right_on="id", maintain_order="left")
    outcome.prepared[MODEL] = Prepared(
        records.select(pl.col("_target_row").alias("_row"), "id", "metadata"),
        link_rows(
            SOURCE,
            pairs.select(
                "_source_key",
                pl.col("_row").alias("_source_row"),
                "_bucket",
                pl.col("_target_row").alias("_row"),
                pl.lit(PART).alias("_part"),
            ),
        ),
    )
    return outcome


RECORD_LEASES = Flow(
    name="record_leases",
    area="file_repository",
    sources=(SOURCE,),
    accounted=((SOURCE, MODEL),),
    mappings=("record",),
    targets=(MODEL,),
    decisions=(SOURCE,),
    owner={SOURCE: ("PH_ID", "record")},
    run=run,
    description="The leases of a tenant are filled into the metadata of its record; no record is made.",
)
