"""repo_file → Document (Area 11 decision 1, spec 4.5): files that nobody linked; loading sends the files."""

import polars as pl

from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.dtx.repo_files import path_bytes, with_handled
from dtx_assets.machinery.files.content_types import content_type_of
from dtx_assets.machinery.files.paths import object_name
from dtx_assets.machinery.mapping.execute import RowProblem, add_problems
from dtx_assets.machinery.system.flow import FlowInputs
from dtx_assets.machinery.transforms.php import decode_distinct


@FUNCTIONS.register
def files_of_rows(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The rows with `_handled`, whether Area 4 names the file, and what the inventory says of it.

    A file that is not there, or that lies elsewhere, is a problem.
    """
    # repo_file has a size of its own.
    found = inputs.mappings["file_inventory"].select(pl.all().name.prefix("_"))
    rows = (
        with_handled(rows.lazy(), inputs.mappings["handled_file"])
        .with_columns(path_bytes().bin.encode("hex").alias("_path"))
        .join(found, on="_path", how="left", maintain_order="left")
        .collect()
    )
    missing = pl.col("_path").is_null()
    return add_problems(
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


@FUNCTIONS.register
def files_of_documents(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds `:file`, the key in the object store, `:content_hash` and what sending takes."""
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
