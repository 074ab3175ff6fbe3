"""The code location `dispatch`: what the Dagster UI, `dg` and `dagster` load. Everything in it is built elsewhere."""

from dtx_assets.dispatch.decided_system import SYSTEM
from dtx_assets.machinery.code_location.definitions import build_definitions

__all__ = ["SYSTEM", "defs"]

defs = build_definitions(SYSTEM)
