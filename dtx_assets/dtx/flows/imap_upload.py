"""imap_upload → ImapUpload, a row each, or the metadata of the document (Area 11 decision 4).

Both come after the documents were loaded: which document a file became is known then only.
"""

import polars as pl

from dtx_assets.machinery.mapping.execute import RowProblem, add_problems
from dtx_assets.machinery.prepare.assess import assess, finish_source, link_rows, settle_duplicates
from dtx_assets.machinery.prepare.row_flow import row_by_row
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared
from dtx_assets.machinery.transforms.columns import json_text

SOURCE = "imap_upload"
UPLOAD, METADATA = "ImapUpload", "DocumentMetadata"
PART = "imap"


def upload_metadata(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with `:metadata`, the e-mail that a file came with."""
    received = pl.col(":received_at")
    fraction = pl.when(received.dt.microsecond() != 0).then(received.dt.to_string(".%6f")).otherwise(pl.lit(""))
    at = pl.concat_str(received.dt.to_string("%Y-%m-%dT%H:%M:%S"), fraction, pl.lit("+00:00"))
    members = {"filename": pl.col(":filename"), "received_at": at, "sender": pl.col(":sender")}
    listed = [pl.concat_str(pl.lit(f'"{name}":'), json_text(value)) for name, value in members.items()]
    document = pl.concat_str(pl.lit('{"imap":{'), pl.concat_str(listed, separator=","), pl.lit("}}"))
    return rows.with_columns(document.alias(":metadata"))


def keep_metadata(inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    rows = assess(inputs, SOURCE, METADATA, not_null=("received_time",))
    rows = add_problems(
        rows,
        RowProblem(
            pl.col(":document").is_null(),
            "no_matching_row",
            "repo_file_id",
            "the file became no document, by this migration or by Area 4",
        ),
    )
    rows = settle_duplicates(
        rows, [":document"], [pl.col(":received_at")], "received_time", "a later upload of the same document counts"
    )
    migrated = finish_source(outcome, inputs, SOURCE, METADATA, rows)
    units = upload_metadata(migrated.sort(":document")).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("_target_row")
    )
    outcome.prepared[METADATA] = Prepared(
        units.select(
            pl.col("_target_row").alias("_row"), pl.col(":document").alias("id"), pl.col(":metadata").alias("metadata")
        ),
        link_rows(
            SOURCE,
            units.select(
                "_source_key",
                pl.col("_row").alias("_source_row"),
                "_bucket",
                pl.col("_target_row").alias("_row"),
                pl.lit(PART).alias("_part"),
            ),
        ),
    )
    return outcome


IMAP_UPLOAD = Flow(
    name="imap_upload",
    area="file_repository",
    sources=(SOURCE,),
    accounted=((SOURCE, UPLOAD),),
    mappings=("document",),
    targets=(UPLOAD,),
    decisions=(SOURCE,),
    owner={SOURCE: ("repo_file_id", "document")},
    run=row_by_row(SOURCE, UPLOAD, not_null=("sender", "filename", "filesize", "received_time")),
    description="Each file that came in by e-mail, with the document it became.",
)
DOCUMENT_METADATA = Flow(
    name="document_metadata",
    area="file_repository",
    sources=(SOURCE,),
    accounted=((SOURCE, METADATA),),
    mappings=("document",),
    targets=(METADATA,),
    decisions=(SOURCE,),
    owner={SOURCE: ("repo_file_id", "document")},
    run=keep_metadata,
    description="The e-mail that a document came with is filled into its metadata.",
)
