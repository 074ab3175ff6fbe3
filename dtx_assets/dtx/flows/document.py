"""repo_file → Document (Area 11 decision 1, spec 4.5): files that nobody linked; loading sends the files."""

import polars as pl

from dtx_assets.dtx.php import decode_distinct
from dtx_assets.dtx.repo_files import SOURCE, path_bytes, rules, with_handled
from dtx_assets.machinery.files.content_types import content_type_of
from dtx_assets.machinery.files.paths import object_name
from dtx_assets.machinery.mapping.execute import RowProblem, add_problems
from dtx_assets.machinery.model.target import polars_type
from dtx_assets.machinery.prepare.assess import assess, finish_source, is_sound, link_rows, with_target_problems
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared

MODEL = "Document"
SENT = ("_path", "_size", "_content_type")
"""What sending a file takes besides `file` and `content_hash`."""


def files_of_documents(rows: pl.DataFrame) -> pl.DataFrame:
    """Adds `:file`, the key in the object store, `:content_hash` and what SENT names."""
    names = decode_distinct(rows["name"], lambda name: object_name(name.decode()), pl.String())
    types = rows.select(pl.struct("type", names.alias("name")).alias("facts"))["facts"]
    distinct = types.unique()
    content_types = pl.DataFrame(
        {
            "facts": distinct,
            "_content_type": [content_type_of(each["name"] or "", each["type"]) for each in distinct.to_list()],
        },
        schema_overrides={"_content_type": pl.String()},
    )
    return rows.with_columns(
        pl.concat_str(
            pl.lit("documents/"), ":account_id", pl.lit("/"), "_file_id", pl.lit("/"), names.alias("_name")
        ).alias(":file"),
        pl.col("_sha256").alias(":content_hash"),
        types.to_frame().join(content_types, on="facts", how="left", nulls_equal=True, maintain_order="left")[
            "_content_type"
        ],
    )


def run(inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    # repo_file has a size of its own.
    found = inputs.mappings["file_inventory"].select(pl.all().name.prefix("_"))
    rows = (
        with_handled(inputs.legacy[SOURCE].lazy(), inputs.mappings["handled_file"])
        .with_columns(path_bytes().bin.encode("hex").alias("_path"))
        .join(found, on="_path", how="left", maintain_order="left")
        .collect()
    )
    rows = assess(inputs, SOURCE, MODEL, rows, dropped=rules(pl.col("_handled")), not_null=("name",))
    missing = pl.col("_path").is_null()
    rows = add_problems(
        rows,
        RowProblem(missing, "file_missing", "repo_filepath", "there is no path"),
        *(
            RowProblem((pl.col("_problem") == reason).fill_null(False), reason, "repo_filepath", pl.col("_detail"))
            for reason in ("unsafe_path", "file_missing")
        ),
        RowProblem(
            ~missing & pl.col("_sha256").is_null() & pl.col("_problem").is_null(),
            "file_missing",
            "repo_filepath",
            "the file was not looked at; make the file inventory again",
        ),
    )
    target = inputs.system.target(MODEL)
    documents = files_of_documents(rows.filter(is_sound())).select(
        pl.col("_row").alias("_source_row"),
        *(pl.col(f":{column.name}").cast(polars_type(column.type)).alias(column.name) for column in target.columns),
        *SENT,
    )
    migrated = finish_source(outcome, inputs, SOURCE, MODEL, with_target_problems(inputs, MODEL, rows, documents))
    prepared = (
        migrated.select("_source_key", pl.col("_row").alias("_source_row"), "_bucket")
        .join(documents, on="_source_row", maintain_order="left")
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"))
    )
    outcome.prepared[MODEL] = Prepared(
        prepared.select("_row", *(column.name for column in target.columns), *SENT),
        link_rows(SOURCE, prepared.select("_source_key", "_source_row", "_bucket", "_row", pl.lit("").alias("_part"))),
    )
    return outcome


DOCUMENT = Flow(
    name="document",
    area="file_repository",
    sources=(SOURCE,),
    accounted=((SOURCE, MODEL),),
    mappings=("account", "record", "user", "handled_file", "file_inventory"),
    targets=(MODEL,),
    decisions=(),
    owner={SOURCE: ("customer_id", "account")},
    run=run,
    description="Files that are neither deleted nor linked become documents for review; loading sends the files first.",
)
