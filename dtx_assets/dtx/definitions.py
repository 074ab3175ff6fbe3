"""The code location `dtx`: what the Dagster UI, `dg` and `dagster` load. Everything in it is built elsewhere."""

from dtx_assets.dtx.decided_system import SYSTEM
from dtx_assets.machinery.code_location.definitions import build_definitions

__all__ = ["SYSTEM", "defs"]

defs = build_definitions(SYSTEM)
