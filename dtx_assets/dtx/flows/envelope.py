"""envelope → ResponseTracking, a row each, or ResponseMetric, sums (Area 8 decision 6).

The sums need no contact: under `aggregate` vendor_data is not read, so that one that cannot be read costs no count.
"""

import polars as pl

from dtx_assets.dtx.contacts import CONTACT_PROBLEM, with_contacts
from dtx_assets.dtx.php import counts_latin1
from dtx_assets.machinery.mapping.execute import add_problems
from dtx_assets.machinery.prepare.assess import assess, finish_source, link_rows
from dtx_assets.machinery.prepare.row_flow import one_row_each
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared

SOURCE = "envelope"
TRACKING, METRIC = "ResponseTracking", "ResponseMetric"
GROUP = ["account_id", "record_id", "event"]


def track_responses(inputs: FlowInputs) -> Outcome:
    rows = with_contacts(inputs.legacy[SOURCE], latin1_lengths=counts_latin1(inputs.context.decisions))
    rows = assess(inputs, SOURCE, TRACKING, rows, not_null=("clicks", "create_time", "update_time"))
    return one_row_each(inputs, SOURCE, TRACKING, add_problems(rows, CONTACT_PROBLEM))


def response_metrics(rows: pl.DataFrame) -> pl.DataFrame:
    """One row an account, record and event; no event is `''`."""
    return (
        rows.group_by(pl.col(f":{name}").alias(name) for name in GROUP)
        .agg(
            pl.len().cast(pl.Int64).alias("envelopes"),
            pl.col(":clicks").sum().alias("clicks"),
            pl.col(":first_at").min().alias("first_at"),
            pl.col(":first_at").max().alias("last_at"),
        )
        .sort(GROUP)
    )


def sum_responses(inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    rows = assess(inputs, SOURCE, METRIC, not_null=("clicks", "create_time"))
    rows = rows.with_columns(pl.col(":outcome").fill_null("").alias(":event"))
    migrated = finish_source(outcome, inputs, SOURCE, METRIC, rows)
    metrics = response_metrics(migrated).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_target_row"))
    pairs = migrated.join(
        metrics, left_on=[f":{name}" for name in GROUP], right_on=GROUP, nulls_equal=True, maintain_order="left"
    )
    outcome.prepared[METRIC] = Prepared(
        metrics.select(
            pl.col("_target_row").alias("_row"), *(column.name for column in inputs.system.target(METRIC).columns)
        ),
        link_rows(
            SOURCE,
            pairs.select(
                "_source_key",
                pl.col("_row").alias("_source_row"),
                "_bucket",
                pl.col("_target_row").alias("_row"),
                pl.lit("").alias("_part"),
            ),
        ),
    )
    return outcome


RESPONSE_TRACKING = Flow(
    name="response_tracking",
    area="notifications",
    sources=(SOURCE,),
    accounted=((SOURCE, TRACKING),),
    mappings=("account", "record", "envelope_event"),
    targets=(TRACKING,),
    decisions=(SOURCE,),
    owner={SOURCE: ("customer_id", "account")},
    run=track_responses,
    description="Each request that a vendor was sent, with its outcome and the contact as it was then.",
)
RESPONSE_METRIC = Flow(
    name="response_metric",
    area="notifications",
    sources=(SOURCE,),
    accounted=((SOURCE, METRIC),),
    mappings=("account", "record", "envelope_event"),
    targets=(METRIC,),
    decisions=(SOURCE,),
    owner={SOURCE: ("customer_id", "account")},
    run=sum_responses,
    description="How many requests vendors were sent, by outcome.",
)
