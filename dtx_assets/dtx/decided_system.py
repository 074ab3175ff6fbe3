"""The migration as it is decided here: the options that are chosen, and overridden, make the graph."""

from dtx_assets.dtx import system
from dtx_assets.machinery.base.settings import decisions_path
from dtx_assets.machinery.mapping.decisions import load_decisions

override = decisions_path(system.SYSTEM.name)
SYSTEM = system.SYSTEM.under(load_decisions(system.DECISIONS_FILE, override)) if override else system.SYSTEM
