"""envelope → ResponseTracking, a row each, or ResponseMetric, sums (Area 8 decision 6).

The sums need no contact: under `aggregate` vendor_data is not read, so that one that cannot be read costs no count.
"""

import polars as pl

from dtx_assets.dtx.addresses import counts_latin1
from dtx_assets.dtx.contacts import CONTACT_PROBLEM, with_contacts
from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.machinery.mapping.execute import add_problems
from dtx_assets.machinery.system.flow import FlowInputs


@FUNCTIONS.register
def contacts_of_vendors(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The rows with `:contact`, the contact in `vendor_data` as JSON; what holds none has a problem."""
    latin1 = counts_latin1(inputs.context.decisions)
    return add_problems(with_contacts(rows, latin1_lengths=latin1), CONTACT_PROBLEM)


@FUNCTIONS.register
def event_of_each(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Rows with `:event`, which is part of a key: no event is `''`."""
    return rows.with_columns(pl.col(":outcome").fill_null("").alias(":event"))


@FUNCTIONS.register
def response_metrics(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """One row an account, record and event."""
    group = [":account_id", ":record_id", ":event"]
    return (
        rows.group_by(group)
        .agg(
            pl.len().cast(pl.Int64).alias(":envelopes"),
            pl.col(":clicks").sum(),
            pl.col(":first_at").min(),
            pl.col(":first_at").max().alias(":last_at"),
        )
        .sort(group)
    )
