"""The migration as it is decided here: the options that are chosen, and overridden, make the graph."""

from dtx_assets.dtx import system
from dtx_assets.machinery.declare.folder import decided

SYSTEM = decided(system.SYSTEM)
