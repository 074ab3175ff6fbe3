"""The system `dtx`, put together: built once when its code location loads, with all its mapping files validated."""

from pathlib import Path

from dtx_assets.dtx.checks import CHECKS
from dtx_assets.dtx.flows.exemption import EXEMPTION, exemption_groups, one_row_a_requirement
from dtx_assets.dtx.flows.notification_schedule import NOTIFICATION_SCHEDULE, effective_settings, notification_stages
from dtx_assets.dtx.functions import FUNCTIONS as OWN_FUNCTIONS
from dtx_assets.dtx.mapping_assets import CROSSWALK_NAMES, REFERENCE_NAMES, mapping_assets
from dtx_assets.dtx.sample import load_other_areas, write_sample
from dtx_assets.dtx.tables import AREAS, CROSSWALKS, FILE_REPOSITORY, LEGACY_TABLES
from dtx_assets.dtx.targets import TARGETS
from dtx_assets.dtx.transforms import TRANSFORMS
from dtx_assets.machinery.feeds.load import FeedContext, load_feeds
from dtx_assets.machinery.look_ups.assets import MappingAsset
from dtx_assets.machinery.mapping.decisions import load_decisions
from dtx_assets.machinery.mapping.load import Mappings, load_mappings
from dtx_assets.machinery.prepare.derived import derived_flows
from dtx_assets.machinery.system.question import Question
from dtx_assets.machinery.system.system import FlowMaker, System, always

PROJECT_DIR = Path(__file__).parents[2]
MAPPINGS_DIR = PROJECT_DIR / "mappings" / "dtx"
DECISIONS_FILE = MAPPINGS_DIR / "decisions.yaml"

FUNCTIONS = dict(OWN_FUNCTIONS) | {
    function.__name__: function
    for function in (
        effective_settings,
        notification_stages,
        exemption_groups,
        one_row_a_requirement,
    )
}
"""The functions that mapping files name: what a table of columns cannot say."""


WRITTEN_FLOWS = (NOTIFICATION_SCHEDULE, EXEMPTION)
"""The flows that are functions as a whole; any other is what its mapping file says."""


def flow_makers(mappings: Mappings) -> tuple[FlowMaker, ...]:
    """What each flow of the plan is made by, from the options that were chosen."""
    written = [model for flow in WRITTEN_FLOWS for model in flow.targets]
    return (*map(always, WRITTEN_FLOWS), *derived_flows(mappings, LEGACY_TABLES, but=written))


QUESTIONS = (
    Question(
        "dtx1_stopped_sending",
        "has DTX 1.0 stopped sending? Else every reminder is sent twice from the moment of the load",
        asked_when=lambda chosen: chosen["activation"] == "as_legacy",
    ),
    Question(
        "dtx2_queue_known",
        "is it known whether DTX 2.0's queue tasks are on or off? It sends at 8 every morning from what is loaded",
        asked_when=lambda chosen: chosen["activation"] == "as_legacy",
    ),
)
"""What a cutover asks (area 8, decision 1): the answers are accepted by name, with a reason."""


def build_system(mappings_dir: Path = MAPPINGS_DIR) -> System:
    """The system with the mapping files of `mappings_dir`; ConfigurationError names all that is wrong with them."""
    decisions = load_decisions(mappings_dir / DECISIONS_FILE.name)
    mappings = load_mappings(
        mappings_dir,
        legacy_tables=LEGACY_TABLES,
        targets=TARGETS,
        transforms=TRANSFORMS,
        functions=FUNCTIONS,
        crosswalks=CROSSWALK_NAMES,
        decisions=decisions,
        references=REFERENCE_NAMES,
    )
    assets = mapping_assets(mappings)
    feeds = load_feeds(
        mappings_dir / "feeds",
        FeedContext(
            LEGACY_TABLES,
            TARGETS,
            {asset.name: model for asset in assets if asset.kind == "crosswalk" for model in models_of(asset)},
            decisions.entry("vornado_feed"),
            "generic_import",
            FILE_REPOSITORY,
        ),
    )
    system = System(
        name="dtx",
        legacy_tables=LEGACY_TABLES,
        crosswalk_tables=CROSSWALKS,
        targets=mappings.completed(TARGETS),
        flow_makers=(*flow_makers(mappings), *feeds.flow_makers),
        decisions=decisions,
        mapping_assets=assets,
        mappings=mappings,
        mappings_dir=mappings_dir,
        code_dir=Path(__file__).parent,
        sample_dir=Path(__file__).parent / "sample",
        areas=AREAS,
        questions=QUESTIONS,
        checks=CHECKS,
        feeds=feeds,
        seed_embedded=load_other_areas,
        write_sample=write_sample,
    )
    return system.under(decisions)


def models_of(crosswalk: MappingAsset) -> list[str]:
    """The models whose rows a crosswalk leads to."""
    return [name for layer, name in crosswalk.upstream if layer == "target"]


SYSTEM = build_system()
