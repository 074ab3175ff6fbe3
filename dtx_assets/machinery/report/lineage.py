"""The section Lineage: the assets of each area, what they are made from, and where on the page they are described."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from dtx_assets.machinery.dagster.graph import AREA_TAG
from dtx_assets.machinery.dagster.metadata import TRUE_NAME, asset_name
from dtx_assets.machinery.dagster.run import AssetState
from dtx_assets.machinery.report.figures import Figures
from dtx_assets.machinery.report.history import History
from dtx_assets.machinery.system.system import System


@dataclass(frozen=True)
class Node:
    """An asset of the lineage picture; `href` is where on the page it is described."""

    key: str
    layer: str
    name: str
    area: str
    href: str
    rows: int | None
    at: datetime | None
    made_here: bool
    parents: tuple[str, ...]


def lineage_nodes(system: System, history: History, figures: Figures) -> dict[str, tuple[Node, ...]]:
    """The assets of each area that are rows, with those of others that they are made from directly."""
    graph = history.graph
    by_area: dict[str, tuple[Node, ...]] = {}

    def wanted(key: dg.AssetKey) -> bool:
        return key.path[1] != "report"

    for area in dict.fromkeys(table.area for table in system.legacy_tables.values()):
        own = {key for key in graph.get_all_asset_keys() if graph.get(key).tags.get(AREA_TAG) == area and wanted(key)}
        shown = own | {parent for key in own for parent in graph.get(key).parent_keys if wanted(parent)}
        by_area[area] = tuple(lineage_node(system, history, figures, key, shown) for key in sorted(shown))
    return by_area


def lineage_node(
    system: System, history: History, figures: Figures, key: dg.AssetKey, shown: Collection[dg.AssetKey]
) -> Node:
    node = history.graph.get(key)
    layer, name = key.path[1], str(node.metadata.get(TRUE_NAME, key.path[2]))
    state = history.assets.get(asset_name(key))
    return Node(
        key=asset_name(key),
        layer=layer,
        name=name,
        area=node.tags.get(AREA_TAG, ""),
        href=place_of(system, layer, name),
        rows=rows_of(system, figures, layer, name, state) if state and state.at else None,
        at=state.at if state else None,
        made_here=node.is_materializable,
        parents=tuple(sorted(asset_name(parent) for parent in node.parent_keys if parent in shown)),
    )


def rows_of(system: System, figures: Figures, layer: str, name: str, state: AssetState) -> int | None:
    """The rows of an asset: what is in the target database as it says itself, else what its last step made."""
    if layer not in ("target", "rejected") or not system.flow_of(name):
        return state.rows
    table = system.target(name).name
    if layer == "target":
        return figures.owned.get(table, 0)
    return sum(group.rows for group in figures.rejected if group.target_table == table)


def place_of(system: System, layer: str, name: str) -> str:
    """Where on the page an asset is described; empty where it is not."""
    if layer in ("legacy", "archive") and name in system.legacy_tables:
        return f"table-{name}"
    if layer in ("prepared", "target") and name in system.mappings.targets:
        return f"book-{name}"
    if layer == "rejected":
        return "rejected"
    if layer == "mapping" and name in system.mappings.value_maps:
        return f"map-{name}"
    return f"decision-{name}" if layer == "decision" else ""
