"""The look-ups of DTX that are no plain crosswalk: what other areas' rows say, and what files hold.

The first paragraph of a function's docstring is what people are told of it.
"""

import polars as pl

from dtx_assets.dtx.addresses import counts_latin1, with_addresses
from dtx_assets.dtx.repo_files import paths_of_files, with_source_ids
from dtx_assets.machinery.look_ups.assets import MappingContext, References, refuse_contradictions
from dtx_assets.machinery.transforms.columns import canonical_integer, code, integer_value

REFERENCES = References("file_repository")
_ID = pl.Int64()


@REFERENCES.register(("target", "RequirementsGroupMember"))
def requirements_group(context: MappingContext) -> pl.LazyFrame:
    """Which requirements groups a record is a member of, as the target database has it now."""
    columns = {"record_id": _ID, "requirements_group_id": _ID}
    return context.rows_of("RequirementsGroupMember", columns).sort(*columns)


@REFERENCES.register(("target", "AccountEmail"))
def reviewer(context: MappingContext) -> pl.LazyFrame:
    """The reviewers that accounts have already, as the target database has them now, each once."""
    emails = context.rows_of(
        "AccountEmail", {"id": _ID, "account_id": _ID, "email": pl.String(), "email_type": pl.String()}
    )
    lower = pl.col("email").str.to_lowercase()
    return (
        emails.filter(pl.col("email_type") == "reviewer")
        .with_columns(lower.alias("lower"))
        # Of several spellings the one in lower case counts, else the oldest.
        .sort("account_id", "lower", pl.col("email") != lower, "id")
        .unique(["account_id", "lower"], keep="first", maintain_order=True)
        .select("account_id", "lower", "email")
    )


@REFERENCES.register(
    ("legacy", "reviewer_address"),
    ("decision", "php_string_lengths"),
    ("mapping", "account"),
    ("target", "AccountEmail"),
)
def reviewer_cross_reference(context: MappingContext) -> pl.LazyFrame:
    """The addresses of reviewer_address beside the reviewers that Area 2 made: already there, new or invalid
    (pre-migration action 3).

    One row an address of a source row.
    """
    landed = context.legacy("reviewer_address").collect()
    rows = with_addresses(landed, "email_string", latin1_lengths=counts_latin1(context.chosen)).lazy()
    accounts = context.mapping("account").select(
        pl.col("source_id").alias("_customer"), pl.col("target_id").alias("account_id")
    )
    theirs = reviewer(context.without_own_rows())
    rows = rows.with_columns(canonical_integer(pl.col("customer_id")).alias("_customer")).join(
        accounts, on="_customer", how="left"
    )
    facts = ["reviewer_address_id", "customer_id", "account_id"]
    without_account = pl.when(pl.col("account_id").is_null()).then(pl.lit("no account"))
    valid = (
        rows.select("_row", *facts, pl.col("_addresses").alias("email"))
        .explode("email", empty_as_null=False, keep_nulls=False)
        .join(
            theirs.select("account_id", pl.col("lower").alias("email"), pl.lit("already there").alias("state")),
            on=["account_id", "email"],
            how="left",
        )
        .with_columns(pl.coalesce("state", without_account, pl.lit("new")).alias("state"))
    )
    invalid = (
        rows.select("_row", *facts, pl.col("_invalid").alias("email"))
        .explode("email", empty_as_null=False, keep_nulls=False)
        .with_columns(pl.lit("invalid").alias("state"))
    )
    return pl.concat([valid, invalid]).sort("_row", "email").drop("_row")


@REFERENCES.register(("legacy", "crosswalk_repo_file"), is_crosswalk=True, after=("Document",))
def document(context: MappingContext) -> pl.LazyFrame:
    """Legacy file → the Document that this migration or Area 4 made of it."""
    crosswalk = context.crosswalk("crosswalk_repo_file").select(
        canonical_integer(pl.col("repo_file_id")).alias("source_id"),
        code(pl.col("target_model")).alias("model"),
        integer_value(pl.col("target_id")).alias("target_id"),
    )
    crosswalk = crosswalk.filter(pl.col("source_id").is_not_null()).unique()
    refuse_contradictions("crosswalk_repo_file", "repo_file_id", crosswalk)
    existing = context.rows_of("Document", {"id": _ID}).rename({"id": "target_id"})
    ours = context.own_mapping("repo_file", context.mappings.table_names["Document"]).rename(
        {"source_key": "source_id"}
    )
    theirs = crosswalk.filter(pl.col("model") == "document").select("source_id", "target_id")
    return (
        pl.concat([ours, theirs])
        .join(existing, on="target_id", how="semi")
        .unique("source_id", keep="first", maintain_order=True)
        .sort("source_id")
    )


# DocRequirement itself is not named: this project marks its rows, and the graph would be a circle.
@REFERENCES.register(("target", "RequirementsGroup"), ("target", "DocumentType"))
def doc_requirement(context: MappingContext) -> pl.LazyFrame:
    """The rows of DocRequirement that Area 6 made, by requirements group and name of document type."""
    requirements = context.rows_of("DocRequirement", {"id": _ID, "requirements_group_id": _ID, "document_type_id": _ID})
    types = context.rows_of("DocumentType", {"id": _ID, "name": pl.String()})
    return (
        requirements.join(types, left_on="document_type_id", right_on="id")
        .select("requirements_group_id", "name", pl.col("id").alias("docrequirement_id"))
        .sort("docrequirement_id")
    )


@REFERENCES.register(("legacy", "crosswalk_repo_file"))
def handled_file(context: MappingContext) -> pl.LazyFrame:
    """The legacy files that Area 4 made a Document or Certificate of."""
    return with_source_ids(context.crosswalk("crosswalk_repo_file"))


@REFERENCES.register_files("repo_file", ("legacy", "crosswalk_repo_file"))
def file_inventory(context: MappingContext, rows: pl.LazyFrame) -> pl.LazyFrame:
    """What the files hold that this migration moves: size, time and SHA-256, or why a file cannot be had."""
    return paths_of_files(context, rows)
