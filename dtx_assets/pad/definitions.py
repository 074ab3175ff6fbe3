"""The code location `pad`: what the Dagster UI, `dg` and `dagster` load. Everything in it is built elsewhere."""

from dtx_assets.machinery.code_location.definitions import build_definitions
from dtx_assets.pad.decided_system import SYSTEM

__all__ = ["SYSTEM", "defs"]

defs = build_definitions(SYSTEM)
