"""The code location `library`: two legacy tables, each with its target, and one crosswalk."""

from pathlib import Path
from typing import Any

import dagster as dg

from dtx_assets.machinery.checks.standard import check_groups
from dtx_assets.machinery.code_location.definitions import build_definitions
from dtx_assets.machinery.look_ups.assets import crosswalk_asset
from dtx_assets.machinery.mapping.decisions import load_decisions
from dtx_assets.machinery.mapping.load import load_mappings
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.prepare.derived import derived_flows
from dtx_assets.machinery.system.system import System
from dtx_assets.machinery.transforms.columns import GENERIC

PROJECT = Path(__file__).parent
MAPPINGS = PROJECT / "mappings" / "library"


def is_id(column: str) -> str:
    return "integer" if column.endswith("_id") else "text"


BOOK = LegacyTable(
    "book",
    "catalogue",
    ("book_id", "branch_id", "title", "pages", "added"),
    key=("book_id",),
    kind_of=is_id,
    description="The books.",
)
READER = LegacyTable(
    "reader",
    "catalogue",
    ("reader_id", "branch_id", "name"),
    key=("reader_id",),
    kind_of=is_id,
    description="The readers.",
)
BRANCHES = LegacyTable("crosswalk_branch", "other_areas", ("branch_id", "site_id"), key=("branch_id",))
SITES = TargetTable("site", "Site", "other_areas", (TargetColumn("name", "text", "What it is called."),))
BOOKS = TargetTable(
    "book",
    "Book",
    "catalogue",
    (
        TargetColumn("number", "bigint", "Its old number."),
        TargetColumn("site_id", "bigint", "Where it stands.", references="site"),
        TargetColumn("title", "text", "Its title.", max_length=80),
        TargetColumn("pages", "integer", "How long it is.", nullable=True),
        TargetColumn("added_at", "timestamptz", "Since when it is there.", nullable=True),
    ),
    writes="insert",
    natural_key=("number",),
    description="A book.",
)
READERS = TargetTable(
    "reader",
    "Reader",
    "catalogue",
    (TargetColumn("number", "bigint", "The old number."), TargetColumn("name", "text", "The name.")),
    writes="insert",
    natural_key=("number",),
    description="A reader.",
)
TARGETS = (SITES, BOOKS, READERS)


decisions = load_decisions(MAPPINGS / "decisions.yaml")
TABLES = {"book": BOOK, "reader": READER}
mappings = load_mappings(
    MAPPINGS,
    legacy_tables=TABLES,
    targets=TARGETS,
    transforms=GENERIC,
    functions={},
    crosswalks=("site",),
    decisions=decisions,
)
SYSTEM = System(
    name="library",
    legacy_tables=TABLES,
    crosswalk_tables={"crosswalk_branch": BRANCHES},
    targets=TARGETS,
    flow_makers=derived_flows(mappings, TABLES),
    decisions=decisions,
    mapping_assets=(
        crosswalk_asset("site", BRANCHES, "branch_id", "site_id", area="catalogue", target=("Site", "site")),
    ),
    mappings=mappings,
    mappings_dir=MAPPINGS,
    code_dir=Path(__file__).parent,
    sample_dir=PROJECT,
    areas={"catalogue": "Area 1: Catalogue", "other_areas": "Tables that others own"},
)
GROUPS = check_groups(SYSTEM)

defs = build_definitions(SYSTEM, GROUPS)


READER_LOAD = "reader_load"


def in_several_processes(*jobs: Any) -> dg.Definitions:
    """The same graph with these jobs, a process for each step."""
    return dg.Definitions(
        assets=defs.assets,
        asset_checks=defs.asset_checks,
        jobs=jobs,
        resources=defs.resources,
        loggers=defs.loggers,
        executor=dg.multiprocess_executor,
    )


def job_of_several_processes() -> dg.JobDefinition:
    """Preparing and loading the readers, with the checks between, a process for each step."""
    prepared, rejected, loaded = (
        dg.AssetKey([SYSTEM.name, layer, "Reader"]) for layer in ("prepared", "rejected", "target")
    )
    chosen = dg.AssetSelection.assets(prepared, rejected, loaded).without_checks()
    checks = dg.AssetSelection.checks_for_assets(prepared, rejected)
    several = in_several_processes(dg.define_asset_job(READER_LOAD, chosen | checks))
    return several.resolve_job_def(READER_LOAD)


def cutover_of_readers_beside_checks_of_books() -> dg.JobDefinition:
    """Of the cutover the load of the readers and the checks of the books, which it is not made from."""
    whole = in_several_processes(*(defs.jobs or ())).resolve_job_def(f"{SYSTEM.name}_cutover")
    books = {dg.AssetKey([SYSTEM.name, layer, "Book"]) for layer in ("prepared", "rejected")}
    return whole.get_subset(
        asset_selection={dg.AssetKey([SYSTEM.name, *name]) for name in (("report", "gate"), ("target", "Reader"))},
        asset_check_selection={
            check for check in whole.asset_layer.asset_graph.asset_check_keys if check.asset_key in books
        },
    )
