"""letter → EmailTemplate (Area 8 decision 4): the macros of a letter become placeholders, its language a column."""

import polars as pl

from dtx_assets.machinery.mapping.execute import RowProblem, add_problems
from dtx_assets.machinery.model.target import polars_type
from dtx_assets.machinery.prepare.assess import (
    assess,
    finish_source,
    is_sound,
    link_rows,
    rejected_rows,
    with_target_problems,
)
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared

MODEL = "EmailTemplate"
NATURAL_KEY = ("entity_id", "name", "language")


def bilingual_rows(letters: pl.DataFrame, both_languages: bool) -> pl.DataFrame:
    """One row for each language a letter is written in: `:language` bilingual is `es`, or `en` and `es`."""
    languages = pl.when(pl.col(":language") == "bilingual").then(pl.lit(["en", "es"] if both_languages else ["es"]))
    return letters.with_columns(languages.otherwise(pl.concat_list(":language")).alias(":language")).explode(
        ":language"
    )


def run(inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    letters = assess(inputs, "letter", MODEL, not_null=("type", "selector", "letter_body"))
    target = inputs.system.target(MODEL)
    expanded = bilingual_rows(letters.filter(is_sound()), inputs.decision("bilingual_letters") == "both_languages")
    templates = expanded.select(
        "_source_key",
        pl.col("_row").alias("_source_row"),
        "_bucket",
        *(pl.col(f":{column.name}").cast(polars_type(column.type)).alias(column.name) for column in target.columns),
    )
    letters = with_target_problems(inputs, MODEL, letters, templates)
    templates = templates.join(letters.filter(is_sound()).select("_source_key"), on="_source_key", how="semi")

    # The latest edit wins, a tie goes to the later row: what sorts last in its key is written.
    ranked = templates.sort(*NATURAL_KEY, pl.col("modified"), "_source_row", nulls_last=False).with_columns(
        (pl.col("_source_row") == pl.col("_source_row").last().over(NATURAL_KEY)).alias("_wins")
    )
    beaten = ranked.group_by("_source_key").agg(
        pl.col("_wins").any().alias("_any"), pl.col("language").filter(~pl.col("_wins")).alias("_lost")
    )
    letters = letters.join(beaten, on="_source_key", how="left", maintain_order="left")
    reason = "another letter of this account, name and language was edited later"
    letters = add_problems(letters, RowProblem(~pl.col("_any"), "duplicate_key", "edit_time", reason))
    migrated = finish_source(outcome, inputs, "letter", MODEL, letters)
    lost = migrated.filter(pl.col("_lost").list.len() > 0).explode("_lost")
    if lost.height:
        detail = pl.format("{}: " + reason, "_lost")
        lost = add_problems(lost, RowProblem(pl.col("_lost").is_not_null(), "duplicate_key", "language", detail))
        outcome.reject(MODEL, rejected_rows(inputs, "letter", lost, partial=True))

    rows = ranked.filter("_wins").with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"))
    outcome.prepared[MODEL] = Prepared(
        rows.select("_row", *(column.name for column in target.columns)),
        link_rows(
            "letter", rows.select("_source_key", "_source_row", "_bucket", "_row", pl.col("language").alias("_part"))
        ),
    )
    return outcome


EMAIL_TEMPLATE = Flow(
    name="email_template",
    area="notifications",
    sources=("letter",),
    accounted=(("letter", MODEL),),
    mappings=("account", "spanish_markers", "placeholders"),
    targets=(MODEL,),
    decisions=("bilingual_letters",),
    owner={"letter": ("customer_id", "account")},
    run=run,
    description="A customer's letter becomes an e-mail template; loaded before the schedules, as the plan asks.",
)
