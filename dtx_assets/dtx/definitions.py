"""The code location `dtx`: what the Dagster UI, `dg` and `dagster` load. Everything in it is built elsewhere."""

from dtx_assets.dtx.decided_system import SYSTEM
from dtx_assets.machinery.code_location.definitions import build_definitions

__all__ = ["SYSTEM", "defs"]

LOAD_ORDER = ("EmailTemplate", "NotificationSchedule")
"""The plan's migration order: templates before the schedules that DTX 2.0 sends them by."""

defs = build_definitions(SYSTEM, load_order=LOAD_ORDER)
