"""No key of a feed file can be changed without consequence: another one is imported, or the file is refused."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

import psycopg
import pytest
import yaml

from dtx_assets.dtx.system import MAPPINGS_DIR, SYSTEM, build_system
from dtx_assets.machinery.base.errors import MigrationError
from dtx_assets.machinery.dagster.look_ups import mapping_context
from dtx_assets.machinery.declare import folder
from dtx_assets.machinery.feeds.load import FeedContext, load_feeds
from dtx_assets.machinery.look_ups.assets import build_mapping_asset
from dtx_assets.machinery.mapping.decisions import decisions_under
from dtx_assets.machinery.mapping.lineage import column_descriptions, column_lineage
from dtx_assets.machinery.postgres.ddl import create_target
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.system.system import System
from dtx_assets_tests.machinery.mapping_keys import declared, require_place, rows_of, variants
from dtx_assets_tests.machinery.real_mappings import land, run

PLAIN = """
feed: stalls
source:
  file: stalls.csv
  dialect: { header: false, delimiter: "|", quote: null, escape: "\\\\", line_end: "\\r" }
  names: [Vendor, No., Tenant.Code]
columns:
  number: { from: Tenant.Code, null_values: none, required: true }
match: { column: Vendor, crosswalk: record }
target: { model: Record, columns: { internal_id1: number } }
"""
STALLS = '20001|1|A\\|1\r20002|2|none\r20003|3|\r20004|4|"B"\r20005|5|C\nD\r'
FILES: dict[str, list[str]] = {
    # What it says when it is enabled is what a feed is that says nothing.
    "harbor": ["without enabled"],
    "vornado": [],
    "stalls": [],
}
"""The feed files, with what can be changed and nothing becomes of it."""


class Feeds:
    """A directory of feed files, and what comes out of one of them."""

    def __init__(self, directory: Path, target_url: str, patching: pytest.MonkeyPatch) -> None:
        mappings = Path(shutil.copytree(MAPPINGS_DIR, directory / "mappings" / "dtx"))
        self.directory = mappings / "feeds"
        example = self.directory / "harbor.yaml"
        example.write_text(example.read_text().replace("enabled: false", "enabled: true"))
        (self.directory / "stalls.yaml").write_text(PLAIN)
        (self.directory / "stalls.csv").write_text(STALLS, newline="")
        chosen = directory / "chosen.yaml"
        chosen.write_text("vornado_feed: generic_import\n")
        legacy = directory / "legacy"
        legacy.mkdir()
        for table in ("vornado_feed", "crosswalk_record"):
            shutil.copy(SYSTEM.sample_dir / f"{table}.csv", legacy)
        self._add_a_lease_without_start(legacy / "vornado_feed.csv")
        paths = {"TARGET_URL": target_url, "HOME": directory, "DECISIONS": chosen, "LEGACY_URL": legacy}
        for name, value in paths.items():
            patching.setenv(f"DTX_{name}", str(value))
        noted: list[FeedContext] = []

        def note(where: Path, context: FeedContext):
            noted.append(context)
            return load_feeds(where, context)

        with patch.object(folder, "load_feeds", note):
            system = build_system(mappings)
        [self.context] = noted
        assert system.feeds
        self.system = replace(system, flow_makers=system.flow_makers[: -len(system.feeds.feeds)])
        self.decisions = decisions_under(mappings / "decisions.yaml", "dtx", chosen, None)
        with psycopg.connect(target_url) as connection:
            create_target(connection, SYSTEM.targets)
            assert system.seed_embedded
            system.seed_embedded(connection, SYSTEM.sample_dir / "target")
        with self.environment(self.with_feeds()) as environment:
            land(environment, {"crosswalk_record"})
            for asset in system.mapping_assets:
                if asset.name == "record":
                    build_mapping_asset(asset, mapping_context(environment, asset))

    def _add_a_lease_without_start(self, path: Path) -> None:
        """What the sample does not have: it leaves out the value of a date that means none."""
        header, first, *others = path.read_text().splitlines(keepends=True)
        cells = first.split(",")
        cells[header.split(",").index("Lease Start")] = "12/31/2050"
        path.write_text("".join([header, first, *others, ",".join(cells)]))

    def with_feeds(self) -> System:
        """The system with the feeds as their files say now."""
        feeds = load_feeds(self.directory, self.context)
        makers = (*self.system.flow_makers, *feeds.flow_makers)
        return replace(self.system, feeds=feeds, flow_makers=makers).under(self.decisions)

    def environment(self, system: System) -> RunEnvironment:
        return RunEnvironment(system, uuid4().hex, datetime.now(UTC))

    def imported(self, name: str) -> Iterator[str]:
        """All that comes of a feed file: its table, target and flow, then its rows."""
        system = self.with_feeds()
        assert system.feeds
        feed = next(feed for feed in system.feeds.feeds if feed.path.stem == name)
        yield repr((feed.enabled, feed.table, feed.target))
        yield repr((column_lineage(feed.mapping, "dtx"), column_descriptions(feed.mapping)))
        yield declared(feed.flow, self.decisions.chosen)
        if not feed.enabled:
            return
        with self.environment(system) as environment:
            land(environment, {feed.table.name})
            _, outcome = run(environment, feed.flow)
        yield from rows_of(outcome)


@pytest.fixture
def feeds(tmp_path, database_url, monkeypatch):
    return Feeds(tmp_path, database_url, monkeypatch)


@pytest.mark.parametrize("name", FILES)
def test_no_key_of_a_feed_does_nothing(feeds, name):
    path = feeds.directory / f"{name}.yaml"
    text = path.read_text()
    before, same = list(feeds.imported(name)), []
    try:
        for what, place, change in variants(yaml.safe_load(text)):
            path.write_text(yaml.safe_dump(change(yaml.safe_load(text)), sort_keys=False))
            try:
                if list(feeds.imported(name)) == before:
                    same.append(f"{what} {'.'.join(map(str, place))}")
            except MigrationError as error:
                require_place(error)
    finally:
        path.write_text(text)
    assert same == FILES[name]
