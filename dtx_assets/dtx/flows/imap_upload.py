"""imap_upload → the metadata of the document (Area 11 decision 4).

It comes after the documents were loaded: which document a file became is known then only.
"""

import polars as pl

from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.machinery.system.flow import FlowInputs
from dtx_assets.machinery.transforms.columns import json_text


@FUNCTIONS.register
def upload_metadata(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Rows with `:metadata`, the e-mail that a file came with."""
    received = pl.col(":received_at")
    fraction = pl.when(received.dt.microsecond() != 0).then(received.dt.to_string(".%6f")).otherwise(pl.lit(""))
    at = pl.concat_str(received.dt.to_string("%Y-%m-%dT%H:%M:%S"), fraction, pl.lit("+00:00"))
    members = {"filename": pl.col(":filename"), "received_at": at, "sender": pl.col(":sender")}
    listed = [pl.concat_str(pl.lit(f'"{name}":'), json_text(value)) for name, value in members.items()]
    document = pl.concat_str(pl.lit('{"imap":{'), pl.concat_str(listed, separator=","), pl.lit("}}"))
    return rows.with_columns(document.alias(":metadata"))
