"""vornado_feed → Record.metadata.vornado (Area 11 decision 11, option seed_records): the leases of a tenant."""

import polars as pl

from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.machinery.feeds.flow import array_documents
from dtx_assets.machinery.system.flow import FlowInputs

LEASE = ("lease_end", "lease_start", "property_code", "tenant_id")


@FUNCTIONS.register
def leases_of_records(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """One row a record: its leases in order of their start, those without one last."""
    documents = array_documents(rows, "record", "metadata", "vornado", LEASE, "lease_start")
    return documents.rename({"id": ":record", "metadata": ":metadata"})
