"""exemption → ManualOverride (COI) and DocRequirement.is_exempted (DOCUMENT) (Area 11 decision 7).

A row counts towards one of the two by its `item_type`; one of an unknown type counts towards ManualOverride.
"""

import polars as pl

from dtx_assets.dtx.exemptions import expiry_date, sentinel_patterns, starts_before
from dtx_assets.machinery.mapping.execute import RowProblem, add_problems
from dtx_assets.machinery.model.target import polars_type
from dtx_assets.machinery.prepare.assess import (
    LINKS_SCHEMA,
    assess,
    finish_source,
    is_sound,
    link_rows,
    with_target_problems,
)
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared
from dtx_assets.machinery.transforms.columns import canonical_integer, code, integer_value

OVERRIDE = "ManualOverride"
REQUIREMENT = "DocRequirement"


def exemption_groups(frame: pl.DataFrame, inputs: FlowInputs) -> pl.DataFrame:
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
        frame.lazy()
        .with_columns(canonical_integer(pl.col("vendor_id")).alias("_vendor"))
        .join(records, on="_vendor", how="left", maintain_order="left")
        .join(groups, left_on="_record", right_on="record_id", how="left", maintain_order="left")
        .drop("_vendor")
        .collect()
    )


def no_group() -> RowProblem:
    return RowProblem(
        pl.col("_groups").is_null(),
        "orphan_reference",
        "vendor_id",
        pl.when(pl.col("_record").is_null())
        .then(pl.lit("the vendor has no record in DTX 2.0"))
        .otherwise(pl.lit("the vendor's record is in no requirements group")),
    )


def run(inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    rows = exemption_groups(inputs.legacy["exemption"], inputs)
    is_document = (code(pl.col("item_type")) == "document").fill_null(False)
    _overrides(outcome, inputs, rows.filter(~is_document))
    _requirements(outcome, inputs, rows.filter(is_document))
    return outcome


def _overrides(outcome: Outcome, inputs: FlowInputs, rows: pl.DataFrame) -> None:
    target = inputs.system.target(OVERRIDE)
    known = code(pl.col("item_type")) == "coi"
    rows = assess(inputs, "exemption", OVERRIDE, rows)
    # What the coverage and the requirements say concerns COI rows only.
    of_any_type = pl.col("_problems").list.eval(
        pl.element().filter(~pl.element().struct.field("column").is_in(["item_name", "requirements_id"]))
    )
    rows = rows.with_columns(pl.when(known).then("_problems").otherwise(of_any_type).alias("_problems"))
    rows = add_problems(
        rows,
        RowProblem(
            ~known.fill_null(False),
            "unmapped_value",
            "item_type",
            pl.format("{} is neither COI nor DOCUMENT", pl.col("item_type").str.head(40).fill_null("NULL")),
        ),
        no_group(),
    )
    columns = [column.name for column in target.columns if column.name != "requirements_group_id"]
    expanded = (
        rows.filter(is_sound())
        .explode("_groups")
        .select(
            "_source_key",
            pl.col("_row").alias("_source_row"),
            "_bucket",
            pl.col("_groups").alias("requirements_group_id"),
            *(pl.col(f":{name}").cast(polars_type(target.column(name).type)).alias(name) for name in columns),
        )
    )
    rows = with_target_problems(inputs, OVERRIDE, rows, expanded)
    migrated = finish_source(outcome, inputs, "exemption", OVERRIDE, rows)
    expanded = (
        expanded.join(migrated.select("_source_key"), on="_source_key", how="semi")
        .sort("_source_row", "requirements_group_id")
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"))
    )
    outcome.prepared[OVERRIDE] = Prepared(
        expanded.select("_row", *(column.name for column in target.columns)),
        link_rows(
            "exemption",
            expanded.select(
                "_source_key",
                "_source_row",
                "_bucket",
                "_row",
                pl.col("requirements_group_id").cast(pl.String).alias("_part"),
            ),
        ),
    )


def _requirements(outcome: Outcome, inputs: FlowInputs, rows: pl.DataFrame) -> None:
    dates = expiry_date(pl.col("ExemptExpDate"), sentinel_patterns(inputs.context.value_maps["sentinel_dates"]))
    rows = rows.with_columns(dates.alias("_until"))
    expired = starts_before(pl.col("_until"), inputs.context.cutover_at, inputs.context.timezone)
    skip = inputs.decision("expired_document_exemption") == "skip"
    rows = assess(inputs, "exemption", REQUIREMENT, rows, dropped={"expired": expired} if skip else None)
    requirements = inputs.mappings["doc_requirement"].with_columns(code(pl.col("name")).alias("_name"))
    matches = (
        rows.lazy()
        .select("_row", "_groups", code(pl.col(":document_type")).alias("_name"))
        .explode("_groups")
        .join(requirements, left_on=["_groups", "_name"], right_on=["requirements_group_id", "_name"])
        # Not by the key, which rows that do not count share.
        .group_by("_row")
        .agg(pl.col("docrequirement_id").unique().sort().alias("_requirements"))
        .collect()
    )
    rows = rows.join(matches, on="_row", how="left", maintain_order="left")
    rows = add_problems(
        rows,
        no_group(),
        RowProblem(
            pl.col("_groups").is_not_null() & pl.col("_requirements").is_null(),
            "no_matching_row",
            "item_name",
            "no requirements group of the vendor has a document requirement of this name",
        ),
    )
    migrated = finish_source(outcome, inputs, "exemption", REQUIREMENT, rows)
    outcome.prepared[REQUIREMENT] = Prepared(
        migrated.explode("_requirements").select(
            pl.col("_requirements").alias("id"),
            pl.col(":is_exempted").alias("is_exempted"),
            pl.col(":exemption_note").alias("exemption_note"),
            integer_value(pl.col("exemption_id")).alias("_exemption_id"),
            "_source_key",
            pl.col("_row").alias("_source_row"),
            "_bucket",
        ),
        pl.DataFrame(schema=LINKS_SCHEMA),
    )


def one_row_a_requirement(candidates: pl.DataFrame) -> Prepared:
    """Of several exemptions of one requirement the highest id gives the note; all of them count as migrated."""
    ordered = candidates.sort("id", "_exemption_id")
    rows = (
        ordered.group_by("id", maintain_order=True)
        .agg(pl.col("is_exempted").last(), pl.col("exemption_note").last())
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"))
    )
    pairs = ordered.join(rows.select("id", "_row"), on="id", maintain_order="left").with_columns(
        pl.col("id").cast(pl.String).alias("_part")
    )
    return Prepared(
        rows.select("_row", "id", "is_exempted", "exemption_note"),
        link_rows("exemption", pairs.sort("_source_row", "id")),
    )


EXEMPTION = Flow(
    name="exemption",
    area="file_repository",
    sources=("exemption",),
    accounted=(("exemption", OVERRIDE), ("exemption", REQUIREMENT)),
    mappings=(
        "record",
        "user",
        "requirements",
        "requirements_group",
        "doc_requirement",
        "coverage_type",
        "sentinel_dates",
        "exemption_status",
        "document_type",
    ),
    targets=(OVERRIDE, REQUIREMENT),
    decisions=("expired_document_exemption",),
    owner={"exemption": ("vendor_id", "record")},
    run=run,
    merge={REQUIREMENT: one_row_a_requirement},
    uses_cutover_time=True,
    description="An exemption from a coverage becomes a manual override, one from a document marks its requirement.",
)
