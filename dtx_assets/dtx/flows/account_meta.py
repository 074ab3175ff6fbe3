"""keyword and form_field → AccountMeta (Area 11 decisions 5 and 6): what customers renamed and filled in, by account.

The two may fill the table together; which of them does is decided by their decisions.
"""

from collections.abc import Mapping

import polars as pl

from dtx_assets.dtx.form_fields import assess_form_fields
from dtx_assets.machinery.mapping.execute import RowProblem, add_problems
from dtx_assets.machinery.prepare.assess import assess, finish_source, is_sound, link_rows, settle_duplicates
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared
from dtx_assets.machinery.transforms.columns import json_text

MODEL = "AccountMeta"
KEYWORD, FORM_FIELD = "keyword", "form_field"


def labels(inputs: FlowInputs) -> pl.DataFrame:
    """The rows of keyword; of one account and keyword the later row counts."""
    dropped = {"empty": pl.col("keyword").is_null() | pl.col("replacement").is_null()}
    rows = assess(inputs, KEYWORD, MODEL, dropped=dropped)
    return settle_duplicates(
        rows, [":account_id", ":key"], [], "keyword", "a later row has the same keyword for this account"
    )


def form_values(inputs: FlowInputs) -> pl.DataFrame:
    """The rows of form_field; of one account, vendor and property the highest id counts."""
    key = (":account_id", ":vendor", ":key")
    rows = assess_form_fields(inputs, MODEL, key=key, not_null=("vendor_id", "property_name"))
    rows = rows.rename({":text": ":value"}).with_columns(pl.col(":vendor").cast(pl.String).alias("_vendor"))
    if KEYWORD in inputs.legacy:
        keywords = labels(inputs).filter(is_sound()).select(":account_id", ":key", pl.lit(True).alias("_taken"))
        rows = rows.join(keywords, on=[":account_id", ":key"], how="left", maintain_order="left")
        taken_by_keyword = "the account has a keyword of this name"
        # As everywhere, what is rejected for itself is nobody's duplicate.
        taken = pl.col("_taken").fill_null(False) & is_sound()
        rows = add_problems(rows, RowProblem(taken, "duplicate_key", "property_name", taken_by_keyword))
    return rows


def account_values(rows: pl.DataFrame) -> pl.DataFrame:
    """One row an account and key, as `account_id`, `key` and `value`.

    The value itself where all vendors have the same, else a JSON object of legacy vendor id → value, keys sorted.
    """
    member = pl.concat_str(json_text(pl.col("_vendor")), pl.lit(":"), json_text(pl.col(":value")))
    by_vendor = pl.concat_str(pl.lit("{"), member.sort_by("_vendor").str.join(","), pl.lit("}"))
    return (
        rows.group_by(pl.col(":account_id").alias("account_id"), pl.col(":key").alias("key"))
        .agg(
            pl.when(pl.col(":value").n_unique() == 1).then(pl.col(":value").first()).otherwise(by_vendor).alias("value")
        )
        .sort("account_id", "key")
    )


def run(inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    migrated: dict[str, pl.DataFrame] = {}
    if KEYWORD in inputs.legacy:
        migrated[KEYWORD] = finish_source(outcome, inputs, KEYWORD, MODEL, labels(inputs)).with_columns(
            pl.lit("").alias("_vendor")
        )
    if FORM_FIELD in inputs.legacy:
        migrated[FORM_FIELD] = finish_source(outcome, inputs, FORM_FIELD, MODEL, form_values(inputs))
    values = account_values(
        pl.concat([rows.select(":account_id", ":key", ":value", "_vendor") for rows in migrated.values()])
    ).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_target_row"))
    links = [
        link_rows(
            source,
            rows.join(values, left_on=[":account_id", ":key"], right_on=["account_id", "key"], maintain_order="left")
            .rename({"_row": "_source_row", ":key": "_part"})
            .select("_source_key", "_source_row", "_bucket", "_part", pl.col("_target_row").alias("_row")),
        )
        for source, rows in migrated.items()
    ]
    outcome.prepared[MODEL] = Prepared(
        values.select(pl.col("_target_row").alias("_row"), "account_id", "key", "value"), pl.concat(links)
    )
    return outcome


def account_meta(chosen: Mapping[str, str]) -> Flow | None:
    """The flow with the sources that the decisions `keyword` and `form_field` send to AccountMeta."""
    sources = tuple(source for source in (KEYWORD, FORM_FIELD) if chosen[source] == "account_meta")
    if not sources:
        return None
    return Flow(
        name="account_meta",
        area="file_repository",
        sources=sources,
        accounted=tuple((source, MODEL) for source in sources),
        mappings=("account",),
        targets=(MODEL,),
        decisions=(KEYWORD, FORM_FIELD),
        owner=dict.fromkeys(sources, ("customer_id", "account")),
        run=run,
        description="Renamed labels and custom form fields become keys and values of the account.",
    )
