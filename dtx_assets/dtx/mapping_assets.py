"""The mappings of DTX: crosswalks of Areas 1, 2, 3 and 6, look-ups in rows other areas own, and the value maps."""

from functools import partial

import polars as pl

from dtx_assets.dtx.addresses import with_addresses
from dtx_assets.dtx.php import counts_latin1
from dtx_assets.dtx.repo_files import SOURCE as REPO_FILE
from dtx_assets.dtx.repo_files import file_inventory, handled_files
from dtx_assets.dtx.tables import CROSSWALKS, FILE_REPOSITORY, NOTIFICATIONS
from dtx_assets.dtx.targets import TARGETS
from dtx_assets.machinery.look_ups.assets import (
    MappingAsset,
    MappingContext,
    crosswalk_asset,
    refuse_contradictions,
    value_map_asset,
)
from dtx_assets.machinery.mapping.load import Mappings
from dtx_assets.machinery.transforms.columns import canonical_integer, code, integer_value

_TABLE_OF = {target.model: target.name for target in TARGETS}
_ID = pl.Int64()

CROSSWALK_NAMES = ("user", "account", "directory", "record", "requirements", "document")
REFERENCE_NAMES = ("reviewer", "requirements_group", "doc_requirement", "handled_file", "file_inventory")
"""Look-ups that functions of mapping files may read."""


def _requirements_groups(context: MappingContext) -> pl.LazyFrame:
    return context.target_rows(
        _TABLE_OF["RequirementsGroupMember"], {"record_id": _ID, "requirements_group_id": _ID}
    ).sort("record_id", "requirements_group_id")


def _reviewers(context: MappingContext) -> pl.LazyFrame:
    emails = context.target_rows(
        _TABLE_OF["AccountEmail"], {"id": _ID, "account_id": _ID, "email": pl.String(), "email_type": pl.String()}
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


def _reviewer_cross_reference(context: MappingContext) -> pl.LazyFrame:
    """One row an address of a source row: `state` is already there, new or invalid (pre-migration action 3)."""
    landed = context.legacy("reviewer_address").collect()
    rows = with_addresses(landed, "email_string", latin1_lengths=counts_latin1(context.chosen)).lazy()
    accounts = context.mapping("account").select(
        pl.col("source_id").alias("_customer"), pl.col("target_id").alias("account_id")
    )
    theirs = _reviewers(context.without_own_rows())
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


def _documents(context: MappingContext) -> pl.LazyFrame:
    crosswalk = context.crosswalk("crosswalk_repo_file").select(
        canonical_integer(pl.col("repo_file_id")).alias("source_id"),
        code(pl.col("target_model")).alias("model"),
        integer_value(pl.col("target_id")).alias("target_id"),
    )
    crosswalk = crosswalk.filter(pl.col("source_id").is_not_null()).unique()
    refuse_contradictions("crosswalk_repo_file", "repo_file_id", crosswalk)
    existing = context.target_rows(_TABLE_OF["Document"], {"id": _ID}).rename({"id": "target_id"})
    ours = context.own_mapping("repo_file", _TABLE_OF["Document"]).rename({"source_key": "source_id"})
    theirs = crosswalk.filter(pl.col("model") == "document").select("source_id", "target_id")
    return (
        pl.concat([ours, theirs])
        .join(existing, on="target_id", how="semi")
        .unique("source_id", keep="first", maintain_order=True)
        .sort("source_id")
    )


def _doc_requirements(context: MappingContext) -> pl.LazyFrame:
    requirements = context.target_rows(
        _TABLE_OF["DocRequirement"], {"id": _ID, "requirements_group_id": _ID, "document_type_id": _ID}
    )
    types = context.target_rows(_TABLE_OF["DocumentType"], {"id": _ID, "name": pl.String()})
    return (
        requirements.join(types, left_on="document_type_id", right_on="id")
        .select("requirements_group_id", "name", pl.col("id").alias("docrequirement_id"))
        .sort("docrequirement_id")
    )


_VALUE_MAP_AREAS = {
    "notification_type": NOTIFICATIONS,
    "send_hold": NOTIFICATIONS,
    "envelope_event": NOTIFICATIONS,
    "webhook_selector": NOTIFICATIONS,
    "spanish_markers": NOTIFICATIONS,
    "placeholders": NOTIFICATIONS,
    "coverage_type": FILE_REPOSITORY,
    "document_type": FILE_REPOSITORY,
    "exemption_status": FILE_REPOSITORY,
    "sentinel_dates": FILE_REPOSITORY,
    "form_field_property": FILE_REPOSITORY,
}


def mapping_assets(mappings: Mappings) -> tuple[MappingAsset, ...]:
    """Every mapping asset of DTX, value maps included."""
    return (
        crosswalk_asset(
            "user",
            CROSSWALKS["crosswalk_user"],
            "user_id",
            "target_user_id",
            area=NOTIFICATIONS,
            target=("User", _TABLE_OF["User"]),
        ),
        crosswalk_asset(
            "account",
            CROSSWALKS["crosswalk_account"],
            "customer_id",
            "account_id",
            area=NOTIFICATIONS,
            target=("Account", _TABLE_OF["Account"]),
            extras=("directory_id",),
        ),
        crosswalk_asset(
            "directory",
            CROSSWALKS["crosswalk_account"],
            "customer_id",
            "directory_id",
            area=FILE_REPOSITORY,
            target=("Directory", _TABLE_OF["Directory"]),
        ),
        crosswalk_asset(
            "record",
            CROSSWALKS["crosswalk_record"],
            "vendor_id",
            "record_id",
            area=FILE_REPOSITORY,
            target=("Record", _TABLE_OF["Record"]),
        ),
        crosswalk_asset(
            "requirements",
            CROSSWALKS["crosswalk_requirements"],
            "requirements_id",
            "coi_risk_profile_id",
            area=FILE_REPOSITORY,
            target=("COIRiskProfile", _TABLE_OF["COIRiskProfile"]),
        ),
        MappingAsset(
            "requirements_group",
            "reference",
            FILE_REPOSITORY,
            (("target", "RequirementsGroupMember"),),
            "Which requirements groups a record is a member of, as the target database has it now.",
            _requirements_groups,
        ),
        MappingAsset(
            "doc_requirement",
            "reference",
            FILE_REPOSITORY,
            # DocRequirement itself is not named: this project marks its rows, and the graph would be a circle.
            (("target", "RequirementsGroup"), ("target", "DocumentType")),
            "The rows of DocRequirement that Area 6 made, by requirements group and name of document type.",
            _doc_requirements,
        ),
        MappingAsset(
            "reviewer",
            "reference",
            FILE_REPOSITORY,
            (("target", "AccountEmail"),),
            "The reviewers that accounts have already, as the target database has them now, each once.",
            _reviewers,
        ),
        MappingAsset(
            "reviewer_cross_reference",
            "reference",
            FILE_REPOSITORY,
            (
                ("legacy", "reviewer_address"),
                ("decision", "php_string_lengths"),
                ("mapping", "account"),
                ("target", "AccountEmail"),
            ),
            "The addresses of reviewer_address beside the reviewers that Area 2 made: already there, new or invalid "
            "(pre-migration action 3).",
            _reviewer_cross_reference,
        ),
        MappingAsset(
            "handled_file",
            "reference",
            FILE_REPOSITORY,
            (("legacy", "crosswalk_repo_file"),),
            "The legacy files that Area 4 made a Document or Certificate of.",
            handled_files,
        ),
        MappingAsset(
            "file_inventory",
            "reference",
            FILE_REPOSITORY,
            (("legacy", "repo_file"), ("legacy", "crosswalk_repo_file")),
            "What the files hold that this migration moves: size, time and SHA-256, or why a file cannot be had.",
            partial(file_inventory, mappings.for_target("Document").sources[REPO_FILE].drop),
        ),
        MappingAsset(
            "document",
            "reference",
            FILE_REPOSITORY,
            (("legacy", "crosswalk_repo_file"),),
            "Legacy file → the Document that this migration or Area 4 made of it.",
            _documents,
            after=("Document",),
        ),
        *(value_map_asset("dtx", name, mappings, area=area) for name, area in _VALUE_MAP_AREAS.items()),
    )
