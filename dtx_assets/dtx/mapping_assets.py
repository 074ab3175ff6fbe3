"""The mappings of DTX: crosswalks of Areas 1, 2, 3 and 6, look-ups in rows other areas own, and the value maps."""

import polars as pl

from dtx_assets.dtx.tables import CROSSWALKS, FILE_REPOSITORY, NOTIFICATIONS
from dtx_assets.dtx.targets import TARGETS
from dtx_assets.machinery.mapping.load import Mappings
from dtx_assets.machinery.mapping_assets import MappingAsset, MappingContext, crosswalk_asset

_TABLE_OF = {target.model: target.name for target in TARGETS}
_ID = pl.Int64()

CROSSWALK_NAMES = ("user", "account", "record", "requirements")


def _requirements_groups(context: MappingContext) -> pl.LazyFrame:
    return context.target_rows(
        _TABLE_OF["RequirementsGroupMember"], {"record_id": _ID, "requirements_group_id": _ID}
    ).sort("record_id", "requirements_group_id")


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


def _value_map(name: str, area: str, mappings: Mappings) -> MappingAsset:
    return MappingAsset(
        name,
        "value_map",
        area,
        (),
        f"The reviewed value map `mappings/dtx/{name}.csv`.",
        lambda _: mappings.value_maps[name].lazy(),
    )


_VALUE_MAP_AREAS = {
    "notification_type": NOTIFICATIONS,
    "send_hold": NOTIFICATIONS,
    "webhook_selector": NOTIFICATIONS,
    "spanish_markers": NOTIFICATIONS,
    "placeholders": NOTIFICATIONS,
    "coverage_type": FILE_REPOSITORY,
    "document_type": FILE_REPOSITORY,
    "exemption_status": FILE_REPOSITORY,
    "sentinel_dates": FILE_REPOSITORY,
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
        *(_value_map(name, area, mappings) for name, area in _VALUE_MAP_AREAS.items()),
    )
