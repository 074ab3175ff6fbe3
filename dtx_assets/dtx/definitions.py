"""The code location `dtx`: what the Dagster UI, `dg` and `dagster` load. Everything in it is built elsewhere."""

from dtx_assets.dtx import system
from dtx_assets.dtx.checks import build_check_groups
from dtx_assets.machinery.definitions import build_definitions
from dtx_assets.machinery.mapping.decisions import load_decisions
from dtx_assets.machinery.settings import decisions_path

LOAD_ORDER = ("EmailTemplate", "NotificationSchedule")
"""The plan's migration order: templates before the schedules that DTX 2.0 sends them by."""

SYSTEM = system.SYSTEM.under(load_decisions(system.DECISIONS_FILE, decisions_path(system.SYSTEM.name)))
"""The migration as it is decided here: the options that are chosen make the graph."""

defs = build_definitions(SYSTEM, build_check_groups(SYSTEM), load_order=LOAD_ORDER)
