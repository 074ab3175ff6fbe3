"""What the machinery has to know about one migration. A system is built once, when its code location loads."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dtx_assets.machinery.errors import ConfigurationError
from dtx_assets.machinery.legacy import LegacyTable
from dtx_assets.machinery.target import TargetTable

if TYPE_CHECKING:
    from dtx_assets.machinery.mapping.load import Mappings
    from dtx_assets.machinery.mapping_assets import MappingAsset
    from dtx_assets.machinery.prepare import Flow


@dataclass(frozen=True)
class System:
    """One migration: its tables, its targets, its flows and the reviewable data they run on."""

    name: str
    legacy_tables: Mapping[str, LegacyTable]
    crosswalk_tables: Mapping[str, LegacyTable]
    targets: tuple[TargetTable, ...]
    flows: "tuple[Flow, ...]"
    mapping_assets: "tuple[MappingAsset, ...]"
    mappings: "Mappings"
    mappings_dir: Path
    sample_dir: Path
    areas: Mapping[str, str]

    def target(self, model: str) -> TargetTable:
        for table in self.targets:
            if table.model == model:
                return table
        raise ConfigurationError(
            f"{self.name} has no target model {model!r}", remedy=f"one of: {', '.join(t.model for t in self.targets)}"
        )

    def flow_of(self, model: str) -> "Flow | None":
        return next((flow for flow in self.flows if model in flow.targets), None)
