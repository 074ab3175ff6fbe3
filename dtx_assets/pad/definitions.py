"""The code location `pad`: what the Dagster UI, `dg` and `dagster` load. Everything in it is built elsewhere."""

from dtx_assets.machinery.checks.spec import one_group_an_asset
from dtx_assets.machinery.checks.standard import standard_check_groups
from dtx_assets.machinery.code_location.definitions import build_definitions
from dtx_assets.pad.decided_system import SYSTEM

__all__ = ["SYSTEM", "defs"]

defs = build_definitions(SYSTEM, one_group_an_asset(standard_check_groups(SYSTEM)))
