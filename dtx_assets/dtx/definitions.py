"""The code location `dtx`: what the Dagster UI, `dg` and `dagster` load. Everything in it is built elsewhere."""

from dtx_assets.dtx.checks import CHECK_GROUPS
from dtx_assets.dtx.sample import load_other_areas
from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.dagster_assets import build_definitions

LOAD_ORDER = ("EmailTemplate", "NotificationSchedule")
"""The plan's migration order: templates before the schedules that DTX 2.0 sends them by."""

defs = build_definitions(SYSTEM, CHECK_GROUPS, load_order=LOAD_ORDER, seed_embedded=load_other_areas)
