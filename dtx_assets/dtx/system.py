"""The system `dtx`, put together: built once when its code location loads, with all its mapping files validated."""

from pathlib import Path

from dtx_assets.dtx.contacts import with_contacts
from dtx_assets.dtx.flows.account_email import ACCOUNT_EMAIL, reviewer_addresses
from dtx_assets.dtx.flows.account_meta import account_meta, account_values
from dtx_assets.dtx.flows.directory_labels import DIRECTORY_LABELS, label_settings
from dtx_assets.dtx.flows.document import DOCUMENT, files_of_documents
from dtx_assets.dtx.flows.email_template import EMAIL_TEMPLATE, bilingual_rows
from dtx_assets.dtx.flows.envelope import RESPONSE_METRIC, RESPONSE_TRACKING, response_metrics
from dtx_assets.dtx.flows.exemption import EXEMPTION, exemption_groups, one_row_a_requirement
from dtx_assets.dtx.flows.imap_upload import DOCUMENT_METADATA, IMAP_UPLOAD, upload_metadata
from dtx_assets.dtx.flows.notification_schedule import NOTIFICATION_SCHEDULE, effective_settings, notification_stages
from dtx_assets.dtx.flows.record_fields import RECORD_FIELDS, one_column_a_property
from dtx_assets.dtx.flows.vornado import RECORD_LEASES, leases_of_records
from dtx_assets.dtx.mapping_assets import CROSSWALK_NAMES, mapping_assets
from dtx_assets.dtx.sample import load_other_areas
from dtx_assets.dtx.tables import AREAS, CROSSWALKS, FILE_REPOSITORY, LEGACY_TABLES
from dtx_assets.dtx.targets import TARGETS
from dtx_assets.dtx.transforms import TRANSFORMS
from dtx_assets.machinery.feeds.load import FeedContext, load_feeds
from dtx_assets.machinery.look_ups.assets import MappingAsset
from dtx_assets.machinery.mapping.decisions import load_decisions
from dtx_assets.machinery.mapping.load import load_mappings
from dtx_assets.machinery.system.question import Question
from dtx_assets.machinery.system.system import FlowMaker, System, always, under

PROJECT_DIR = Path(__file__).parents[2]
MAPPINGS_DIR = PROJECT_DIR / "mappings" / "dtx"
DECISIONS_FILE = MAPPINGS_DIR / "decisions.yaml"

FUNCTIONS = {
    function.__name__: function
    for function in (
        effective_settings,
        notification_stages,
        bilingual_rows,
        exemption_groups,
        one_row_a_requirement,
        reviewer_addresses,
        files_of_documents,
        with_contacts,
        response_metrics,
        upload_metadata,
        leases_of_records,
        account_values,
        one_column_a_property,
        label_settings,
    )
}
"""The functions that mapping files name: what a table of columns cannot say."""


FLOWS: tuple[FlowMaker, ...] = (
    always(EMAIL_TEMPLATE),
    always(NOTIFICATION_SCHEDULE),
    always(EXEMPTION),
    always(ACCOUNT_EMAIL),
    always(DOCUMENT),
    account_meta,
    under("imap_upload", "model", flow=IMAP_UPLOAD),
    under("imap_upload", "document_metadata", flow=DOCUMENT_METADATA),
    under("vornado_feed", "seed_records", flow=RECORD_LEASES),
    under("envelope", "response_tracking", flow=RESPONSE_TRACKING),
    under("envelope", "aggregate", flow=RESPONSE_METRIC),
    under("form_field", "record_internal_id", flow=RECORD_FIELDS),
    under("keyword", "directory_settings", flow=DIRECTORY_LABELS),
)
"""What each flow of the plan is made by, from the options that were chosen."""


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
        flow_makers=(*FLOWS, *feeds.flow_makers),
        decisions=decisions,
        mapping_assets=assets,
        mappings=mappings,
        mappings_dir=mappings_dir,
        code_dir=Path(__file__).parent,
        sample_dir=Path(__file__).parent / "sample",
        areas=AREAS,
        questions=QUESTIONS,
        feeds=feeds,
        seed_embedded=load_other_areas,
    )
    return system.under(decisions)


def models_of(crosswalk: MappingAsset) -> list[str]:
    """The models whose rows a crosswalk leads to."""
    return [name for layer, name in crosswalk.upstream if layer == "target"]


SYSTEM = build_system()
