"""exemption → ManualOverride (COI) and DocRequirement.is_exempted (DOCUMENT) (Area 11 decision 7).

Here is which groups and which document requirements of a vendor an exemption is about; the mapping files say the rest.
"""

import polars as pl

from dtx_assets.dtx.exemptions import expiry_date, sentinel_patterns, starts_before
from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.machinery.mapping.execute import listed_value
from dtx_assets.machinery.system.flow import FlowInputs
from dtx_assets.machinery.transforms.columns import canonical_integer, code


@FUNCTIONS.register
def groups_of_vendors(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """Adds `_groups`: the requirements groups of the vendor's record, in order of id; null where there are none."""
    groups = (
        inputs.mappings["requirements_group"]
        .select("record_id", "requirements_group_id")
        .unique()
        .group_by("record_id")
        .agg(pl.col("requirements_group_id").sort().alias("_groups"))
    )
    records = inputs.mappings["record"].select(
        pl.col("source_id").alias("_vendor"), pl.col("target_id").alias("_record")
    )
    return (
        rows.lazy()
        .with_columns(canonical_integer(pl.col("vendor_id")).alias("_vendor"))
        .join(records, on="_vendor", how="left", maintain_order="left")
        .join(groups, left_on="_record", right_on="record_id", how="left", maintain_order="left")
        .drop("_vendor", "_record")
        .collect()
    )


@FUNCTIONS.register
def requirements_of_vendors(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """The same, with `_requirements`, those of the groups that are of the document's name, and `_expired`."""
    dates = expiry_date(pl.col("ExemptExpDate"), sentinel_patterns(inputs.context.value_maps["sentinel_dates"]))
    rows = groups_of_vendors(rows, inputs).with_columns(
        starts_before(dates, inputs.context.cutover_at, inputs.context.timezone).alias("_expired")
    )
    named = listed_value(pl.col("item_name"), inputs.context.value_maps["document_type"], "document_type")
    requirements = inputs.mappings["doc_requirement"].with_columns(code(pl.col("name")).alias("_name"))
    matches = (
        rows.lazy()
        .select("_row", "_groups", code(pl.coalesce(named, "item_name")).alias("_name"))
        .explode("_groups")
        .join(requirements, left_on=["_groups", "_name"], right_on=["requirements_group_id", "_name"])
        # Not by the key, which rows that do not count share.
        .group_by("_row")
        .agg(pl.col("docrequirement_id").unique().sort().alias("_requirements"))
        .collect()
    )
    return rows.join(matches, on="_row", how="left", maintain_order="left")


@FUNCTIONS.register
def one_row_a_group(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """One row a requirements group, as `:requirements_group_id`."""
    return rows.explode("_groups").rename({"_groups": ":requirements_group_id"})


@FUNCTIONS.register
def one_row_a_requirement(rows: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
    """One row a document requirement, as `:requirement`."""
    return rows.explode("_requirements").rename({"_requirements": ":requirement"})
