"""All checks on the shipped sample, through real extraction, mapping and preparation.

Why: the sample has every ugly case, so that each check has something to find; one that finds nothing has gone blind.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from dtx_assets.dtx.system import SYSTEM, load_other_areas
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.base.masking import mask_emails
from dtx_assets.machinery.checks.spec import CheckContext, CheckOutcome
from dtx_assets.machinery.dagster.metadata import check_metadata
from dtx_assets.machinery.files.inventory import LegacyFiles
from dtx_assets.machinery.look_ups.assets import MappingContext, build_mapping_asset
from dtx_assets.machinery.postgres.ddl import create_target
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets.machinery.prepare.preparation import RunSettings, prepare_flow
from dtx_assets.machinery.run import checked_before
from dtx_assets.machinery.sources import open_source
from dtx_assets_tests.checking import CHECK_GROUPS, DECISIONS, RUN

FINDS_NOTHING = {
    "row_count_equals_source",
    "columns_are_as_planned",
    "tables_did_not_change_while_read",
    "crosswalk_does_not_contradict_itself",
    "data_supports_the_chosen_dow_bit_order",
    "dropped_columns_are_empty",
    "type_and_level_are_always_empty",
    "statuses_are_known",
    "keywords_are_those_of_the_plan",
    "texts_can_be_kept",
    "letter_read_is_migrated_rejected_or_dropped",
    "notification_read_is_migrated_rejected_or_dropped",
    "notification_webhook_read_is_migrated_rejected_or_dropped",
    "exemption_read_is_migrated_rejected_or_dropped",
    "reviewer_address_read_is_migrated_rejected_or_dropped",
    "keyword_read_is_migrated_rejected_or_dropped",
    "repo_file_read_is_migrated_rejected_or_dropped",
}
"""What the sample is sound in: its structure, the accounting, the order of the bits, codes and columns
that the plan calls always the same, the bytes of keywords."""


@pytest.fixture(scope="module")
def sample(postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckContext]:
    """What the checks look at when the sample is prepared."""
    home: Path = tmp_path_factory.mktemp("sample")
    lake, settings = (
        Lake(str(home / "lake")),
        SimpleNamespace(legacy_timezone="UTC", batch_rows=100_000, home=home, cutover_at=None),
    )
    with open_source(str(SYSTEM.sample_dir)) as source:
        for layer, tables in (("legacy", SYSTEM.legacy_tables), ("crosswalk", SYSTEM.crosswalk_tables)):
            for table in tables.values():
                source.extract(table, lake, (SYSTEM.name, layer, table.name), RUN, None)
    url = postgres_server.create_database("checks_on_sample")
    with psycopg.connect(url) as connection:
        create_target(connection, SYSTEM.targets)
        load_other_areas(connection, SYSTEM.sample_dir / "target")
        connection.commit()
    mapping = MappingContext(
        SYSTEM.name,
        lake,
        RUN,
        url,
        SYSTEM.crosswalk_tables,
        SYSTEM.mappings,
        SYSTEM.legacy_tables,
        LegacyFiles(SYSTEM.sample_dir / "files"),
    )
    for asset in SYSTEM.mapping_assets:
        build_mapping_asset(asset, mapping)
    run = RunSettings(RUN, SYSTEM, settings, DECISIONS, datetime(2026, 11, 21, tzinfo=UTC), lake)
    for flow in SYSTEM.flows:
        prepare_flow(flow, run)
    context = CheckContext(lake, SYSTEM, DECISIONS, SYSTEM.mappings.value_maps, settings)
    yield context
    postgres_server.drop_database("checks_on_sample")


@pytest.fixture(scope="module")
def outcomes(sample: CheckContext) -> dict[str, dict[str, CheckOutcome]]:
    """The outcomes of all checks, by `layer/name` of the asset."""
    return {"/".join(group.asset): group.evaluate(sample) for group in CHECK_GROUPS}


def test_every_check_has_an_outcome(outcomes: dict[str, dict[str, CheckOutcome]]) -> None:
    assert {asset: set(found) for asset, found in outcomes.items()} == {
        "/".join(group.asset): {spec.name for spec in group.specs} for group in CHECK_GROUPS
    }


def test_every_check_that_looks_for_something_finds_it_in_the_sample(
    outcomes: dict[str, dict[str, CheckOutcome]],
) -> None:
    failed = {name for found in outcomes.values() for name, outcome in found.items() if not outcome.passed}
    everything = {name for found in outcomes.values() for name in found}
    assert everything - failed == FINDS_NOTHING
    assert all(
        outcome.count > 0 or outcome.severity
        for found in outcomes.values()
        for outcome in found.values()
        if not outcome.passed
    )


def test_what_a_check_found_before_says_the_same(
    sample: CheckContext, outcomes: dict[str, dict[str, CheckOutcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked_before, "MANY_ROWS", 0)
    monkeypatch.setattr(checked_before, "world_of", lambda _environment: {})
    environment: Any = SimpleNamespace(
        system=SYSTEM, lake=sample.lake, mode="rehearsal", decisions=DECISIONS, settings=sample.settings
    )
    again = {}
    for environment.run_id in ("first", "second"):
        again = {"/".join(group.asset): checked_before.outcomes(group, sample, environment) for group in CHECK_GROUPS}

    def shown(found: dict[str, dict[str, CheckOutcome]]) -> list[Any]:
        return [
            (asset, name, each.passed, each.count, each.severity, each.obstacles, check_metadata(each.metadata))
            for asset, of_asset in found.items()
            for name, each in of_asset.items()
        ]

    assert shown(again) == shown(outcomes)
    asked = {f"{asset}:{name}" for asset, found in again.items() for name, each in found.items() if not each.found_in}
    assert asked == set()


def test_what_checks_show_names_no_one(outcomes: dict[str, dict[str, CheckOutcome]]) -> None:
    shown = json.dumps([outcome.metadata for found in outcomes.values() for outcome in found.values()])
    assert "@" in shown, "the sample has addresses to mask"
    assert mask_emails(shown) == shown
