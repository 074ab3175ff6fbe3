"""Feed files of DTX: what they import, through the graph into PostgreSQL, and what is said where they cannot be."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import psycopg
import pytest
from polars.testing import assert_frame_equal
from ruamel.yaml import YAML

from dtx_assets.dtx.system import MAPPINGS_DIR, SYSTEM, build_system, load_other_areas
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.code_location.definitions import build_definitions
from dtx_assets.machinery.dagster.run import RunOutcome, open_instance, planned_job, run_job, select_assets
from dtx_assets.machinery.feeds.model import feed_schema
from dtx_assets.machinery.feeds.selection import expand_feeds
from dtx_assets.machinery.feeds.transforms import FEED
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.system.system import System
from dtx_assets_tests.dtx.running import Migration, decided, lease

UNDER_FEEDS = {"vornado_feed": "generic_import"}

NUMBERS = """
feed: harbor_numbers
source:
  file: numbers.csv
  dialect: { header: false, delimiter: "|", quote: null, encoding: utf-16 }
  names: [Vendor, No., Tenant.Code]
columns:
  number: { from: Tenant.Code }
match: { column: Vendor, crosswalk: record }
target: { model: Record, columns: { internal_id1: number } }
"""


def feeds_project(directory: Path, **files: str) -> Path:
    """A copy of the mapping files in which the example is enabled, with more feed files."""
    mappings = Path(shutil.copytree(MAPPINGS_DIR, directory / "mappings" / "dtx"))
    example = mappings / "feeds" / "harbor.yaml"
    example.write_text(example.read_text().replace("enabled: false", "enabled: true"))
    for name, text in files.items():
        (mappings / "feeds" / f"{name}.yaml").write_text(text)
    return mappings


def graph_of(system: System) -> tuple[System, dg.Definitions]:
    return system, build_definitions(system)


@dataclass
class Project:
    """Runs of `dtx`, in this process, with the mapping files of a directory."""

    directory: Path
    mappings: Path
    target: str
    patch: pytest.MonkeyPatch
    previews: list[str] = field(default_factory=list)
    graphs: dict[str, tuple[System, dg.Definitions]] = field(default_factory=dict)

    def run(self, select: str, **decisions: str) -> RunOutcome:
        chosen = decided(**decisions)
        override = self.directory / "decisions.yaml"
        override.write_text("".join(f"{key}: {option}\n" for key, option in decisions.items()))
        self.patch.setenv("DTX_DECISIONS", str(override))
        self.patch.setenv("DTX_TARGET_URL", self.target)
        self.patch.setenv("DTX_HOME", str(self.directory / "state"))
        self.patch.setenv("DTX_LAKE_URL", str(self.directory / "lake"))
        self.patch.setenv("DTX_ARCHIVE_URL", str(self.directory / "archive"))
        system, definitions = self.graphs.get(override.read_text()) or graph_of(
            build_system(self.mappings).under(chosen)
        )
        self.graphs[override.read_text()] = system, definitions
        selection = select_assets(definitions, "dtx", expand_feeds(select, system))
        with open_instance(self.directory / "state") as instance:
            outcome = run_job(planned_job(definitions, "dtx", selection), self.directory / "state", instance)
            self.previews = [
                str(value.value)
                for event in instance.all_logs(outcome.run_id)
                if event.dagster_event and event.dagster_event.is_step_materialization
                for name, value in event.dagster_event.step_materialization_data.materialization.metadata.items()
                if "preview" in name
            ]
        return outcome

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.target) as connection:
            return connection.execute(query.encode()).fetchall()

    def metadata(self) -> dict[int, Any]:
        return {
            number: found for number, found in self.rows("SELECT id, metadata FROM docutrax_hierarchy_record") if found
        }


@pytest.fixture
def project(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    with psycopg.connect(database_url) as connection:
        create_target(connection, SYSTEM.targets)
        load_other_areas(connection, SYSTEM.sample_dir / "target")
    mappings = feeds_project(tmp_path, harbor_numbers=NUMBERS)
    numbers = "20001|1|T'1\n20002|2|T2\n20001|3|T3\n999999|4|T4\n20003|5|T\0 5\n"
    (mappings / "feeds" / "numbers.csv").write_text(numbers, "utf-16")
    return Project(tmp_path, mappings, database_url, monkeypatch)


def test_another_client_is_imported_by_a_file(project):
    before = project.metadata()
    outcome = project.run("feed:harbor", **UNDER_FEEDS)
    assert outcome.failures == []
    found = {number: each["harbor"] for number, each in project.metadata().items() if "harbor" in (each or {})}
    assert found == {
        9001: [
            {"space": "A-01", "name": "Café; Lager", "area": 300, "since": "2019-03-15", "until": "2030-06-30"},
            {"space": "A-02", "name": "Café am Kai", "area": 1200, "since": "2021-07-01", "until": None},
        ],
        9002: [{"space": "A-03", "name": "O'Dell\r\n& Söhne", "area": None, "since": None, "until": None}],
        9003: [{"space": "A-04", "name": "Lotsenhaus", "area": 85, "since": "2024-02-29", "until": "2027-02-28"}],
        9005: [
            {"space": "B-05", "name": "Altes Lager", "area": 410, "since": "2018-01-01", "until": None},
            {"space": "B-06", "name": "Speicher", "area": 510, "since": "2018-01-01", "until": None},
        ],
    }
    kept = {number: {k: v for k, v in each.items() if k != "harbor"} for number, each in project.metadata().items()}
    assert {number: each for number, each in kept.items() if each} == {n: each for n, each in before.items() if each}

    rejected = project.rows(
        "SELECT source_key, reasons, detail FROM migration.rejected WHERE source_table = 'feed_harbor' ORDER BY 1"
    )
    assert {(key, tuple(reasons)) for key, reasons, _ in rejected} == {
        ("B-01", ("unparseable",)),
        ("B-02", ("unparseable",)),
        ("B-03", ("orphan_reference",)),
        ("B-04", ("orphan_reference",)),
        ("B-05", ("duplicate_key",)),
        ("row 15", ("schema_violation",)),
        ("B-07", ("schema_violation",)),
        ("B-08", ("unparseable",)),
        ("B-09", ("orphan_reference", "unparseable")),
    }
    assert len(rejected) == 9
    details = {key: detail for key, _, detail in rejected}
    assert details["B-01"] == "Sq. Ft.: 12,5 is no integer"
    assert details["B-02"] == "Move-in: 31.02.2021 is no date DD.MM.YYYY"
    assert "Trade Name" in details["B-07"]

    [books] = outcome.accounting
    assert (books["read"], books["migrated"], books["rejected"]) == (18, 6, 9)
    assert books["dropped"] == {"identical": 1, "vacant_space": 2}
    assert books["coerced"] == {"sentinel_date": 2}
    checks = {f"{check.asset}:{check.name}": check.passed for check in outcome.checks}
    assert checks["legacy/feed_harbor:row_count_equals_source"]
    assert checks["archive/feed_harbor:archive_reads_back_identical"]
    assert not checks["legacy/feed_harbor:values_are_text"]
    assert not checks["legacy/feed_harbor:natural_key_is_unique"]
    assert not checks["target/RecordHarbor:decisions_are_confirmed"]
    shown = "\n".join(project.previews)
    assert "Space No." in shown
    for personal in ("Lotsenhaus", "Kai", "A-01", "Reederei", "2024"):
        assert personal not in shown


def test_a_second_import_writes_nothing_and_a_row_that_is_gone_is_told(project):
    project.run("feed:harbor", **UNDER_FEEDS)
    first = project.metadata()
    outcome = project.run("feed:harbor", **UNDER_FEEDS)
    assert (outcome.loads["RecordHarbor"]["updated"], outcome.loads["RecordHarbor"]["unchanged"]) == (0, 4)
    csv = project.mappings / "feeds" / "harbor.csv"
    csv.write_bytes(csv.read_bytes().replace(b"A-04;20003.0;Lotsenhaus;85;", b"A-04;20003.0;Lotsenhaus;86;"))
    outcome = project.run("feed:harbor", **UNDER_FEEDS)
    assert outcome.loads["RecordHarbor"]["updated"] == 1
    assert project.metadata()[9003]["harbor"][0]["area"] == 86
    assert {**project.metadata(), 9003: None} == {**first, 9003: None}


def test_plain_columns_from_a_file_without_header_quotes_and_in_utf_16(project):
    outcome = project.run("feed:harbor_numbers", **UNDER_FEEDS)
    assert outcome.failures == []
    assert outcome.loads["RecordHarborNumbers"]["updated"] == 2
    filled = dict(project.rows("SELECT id, internal_id1 FROM docutrax_hierarchy_record WHERE internal_id1 LIKE 'T%'"))
    assert filled == {9001: "T3", 9002: "T2"}
    rejected = project.rows("SELECT source_key, reasons FROM migration.rejected ORDER BY 1")
    assert rejected == [("1", ["duplicate_key"]), ("4", ["orphan_reference"]), ("5", ["unparseable"])]


def test_options_that_give_the_same_write_nothing_when_they_change(project):
    by_code = project.run("+target/RecordVornado", vornado_feed="seed_records").loads["RecordVornado"]
    first = project.metadata()
    assert by_code["updated"] > 5
    outcome = project.run("feed:vornado", **UNDER_FEEDS)
    assert outcome.failures == []
    loaded = outcome.loads["RecordVornado"]
    assert (loaded["updated"], loaded["vanished"], loaded["unchanged"]) == (0, 0, by_code["updated"])
    assert loaded["conflicts"] == by_code["conflicts"]
    assert project.metadata() == first
    assert not any("lease_start" in preview for preview in project.previews)


def test_a_feed_whose_file_is_missing_stops_only_itself(project):
    (project.mappings / "feeds" / "harbor.csv").unlink()
    outcome = project.run("feed:harbor or feed:harbor_numbers", **UNDER_FEEDS)
    assert outcome.exit_code == 1
    assert re.search(
        r"the file of feed_harbor is missing\n  at: \S*harbor\.csv, which \S*harbor\.yaml:8 names",
        outcome.failures[0].message,
    )
    assert outcome.loads["RecordHarborNumbers"]["updated"] == 2
    assert "RecordHarbor" not in outcome.loads


def test_a_file_without_a_column_that_the_feed_names_says_which(project):
    csv = project.mappings / "feeds" / "harbor.csv"
    csv.write_bytes(csv.read_bytes().replace(b"Sq. Ft.", b"Sq Ft", 1))
    outcome = project.run("feed:harbor", **UNDER_FEEDS)
    assert outcome.exit_code == 1
    message = outcome.failures[0].message
    assert "feed_harbor lacks the required column Sq. Ft." in message
    assert re.search(r"harbor\.csv, of which \S*harbor\.yaml:10 names columns", message)


# --- the same rows as code gives --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_rows", [100_000, 20])
def test_the_feed_file_of_vornado_prepares_the_same_bytes_as_code_does(migration: Migration, batch_rows: int):
    leases = [
        lease(1, "02/29/2024", "12/31/2050"),
        lease(1, "", None, **{"Tenant ID": 'é "'}),
        lease("3.0", "01/01/2020", "", **{"Property Code": None}),
        lease(7, "01/01/2019"),
        lease(-1, "x"),
        lease(6),
        lease(2, "02/30/2021"),
        lease(4, **{"Tenant ID": "\0"}),
    ] * 5
    prepared = {}
    for option in ("seed_records", "generic_import"):
        result = migration.run({"vornado_feed": leases}, vornado_feed=option, batch_rows=batch_rows)
        frames = (
            migration.lake.scan(("dtx", "prepared", "RecordVornado"), table).collect() for table in ("rows", "links")
        )
        rejected = migration.lake.scan(("dtx", "rejected", "RecordVornado")).collect()
        prepared[option] = (*frames, rejected, result.accounting)
    for code, file in zip(*prepared.values(), strict=True):
        if isinstance(code, pl.DataFrame):
            assert code.height > 0
            assert_frame_equal(code, file)
        else:
            assert code == file


# --- selecting --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> System:
    return build_system(feeds_project(tmp_path_factory.mktemp("feeds"))).under(decided(**UNDER_FEEDS))


@pytest.fixture(scope="module")
def definitions(system: System) -> dg.Definitions:
    return graph_of(system)[1]


def test_nothing_of_a_feed_is_shown_as_it_is(system):
    assert "metadata" in system.personal_columns(system.target("RecordHarbor"))
    assert system.legacy_tables["feed_harbor"].is_personal("area")


def test_a_feed_brings_all_its_assets_and_what_they_need(system, definitions):
    chosen = {"/".join(key.path[1:]) for key in select_assets(definitions, "dtx", expand_feeds("feed:harbor", system))}
    assert chosen == {
        *("legacy/feed_harbor", "archive/feed_harbor", "prepared/RecordHarbor", "rejected/RecordHarbor"),
        *("target/RecordHarbor", "mapping/record", "crosswalk/crosswalk_record", "report/extraction", "report/run"),
    }
    of_vornado = expand_feeds('feed:"vornado"', system)
    chosen = {"/".join(key.path[1:]) for key in select_assets(definitions, "dtx", of_vornado)}
    assert {"legacy/vornado_feed", "target/RecordVornado"} <= chosen
    assert "archive/vornado_feed" not in chosen


def test_other_words_of_a_selection_stay(system):
    assert (
        expand_feeds('+target/EmailTemplate and group:"feed:x"', system) == '+target/EmailTemplate and group:"feed:x"'
    )
    assert expand_feeds("target/A or feed:harbor", system).startswith('target/A or (+key:"dtx/target/RecordHarbor" or ')


@pytest.mark.parametrize(
    ("text", "decisions", "message"),
    [
        ("feed:harbour", UNDER_FEEDS, "there is no feed 'harbour'.*one of: harbor, vornado"),
        ("feed:", UNDER_FEEDS, "there is no feed ''.*one of: harbor, vornado"),
        ("feed:harbor", UNDER_FEEDS, "the feed harbor is disabled.*harbor.yaml.*`enabled: true`"),
        ("feed:vornado", {}, "vornado_feed is archive.*write `vornado_feed: generic_import`.*DTX_DECISIONS"),
    ],
)
def test_a_feed_that_is_not_in_the_graph_says_what_to_do(text, decisions, message):
    with pytest.raises(ConfigurationError) as error:
        expand_feeds(text, SYSTEM.under(decided(**decisions)))
    assert re.search(message, str(error.value), re.DOTALL)


def test_the_command_ends_with_2_where_the_option_is_not_chosen(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "dtx_assets.cli.main", "run", "--select", "feed:vornado"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "generic_import" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


# --- the graph --------------------------------------------------------------------------------------------------------


def test_feeds_are_in_the_graph_under_their_option_only(system):
    models = {target.model for target in system.targets}
    assert "RecordHarbor" in models
    assert "feed_harbor" in system.legacy_tables
    for option in ("archive", "seed_records"):
        other = system.under(decided(vornado_feed=option))
        assert "RecordHarbor" not in {target.model for target in other.targets}
        assert set(other.legacy_tables) == set(SYSTEM.legacy_tables)
        assert not any(flow.name.startswith("feed_") for flow in other.flows)
        assert other.mappings.for_target("RecordVornado") == SYSTEM.mappings.for_target("RecordVornado")
        back = other.under(decided(**UNDER_FEEDS))
        assert set(back.legacy_tables) == set(system.legacy_tables)


def test_a_disabled_feed_is_checked_and_not_in_the_graph():
    shipped = SYSTEM.under(decided(**UNDER_FEEDS))
    assert "RecordHarbor" not in {target.model for target in shipped.targets}
    assert [flow.name for flow in shipped.flows if flow.name.startswith("feed_")] == ["feed_vornado"]


def test_columns_with_dots_and_blanks_are_columns_of_the_feed(definitions):
    graph = definitions.resolve_asset_graph()
    needs = {"/".join(key.path[1:]) for key in graph.get(dg.AssetKey(["dtx", "prepared", "RecordHarbor"])).parent_keys}
    assert needs == {"decision/vornado_feed", "legacy/feed_harbor", "mapping/record"}


def test_a_column_that_another_chosen_flow_fills_is_refused(tmp_path):
    system = build_system(feeds_project(tmp_path, harbor_numbers=NUMBERS))
    with pytest.raises(ConfigurationError, match="internal_id1 is what the flow record_fields fills") as error:
        system.under(decided(**UNDER_FEEDS, form_field="record_internal_id"))
    assert "harbor_numbers.yaml" in str(error.value)


def test_the_shipped_json_schema_is_the_one_of_the_code():
    assert json.loads((MAPPINGS_DIR.parent / "feed.schema.json").read_text()) == feed_schema()


def test_the_example_of_the_guide_is_the_one_that_is_shipped():
    guide = (MAPPINGS_DIR.parents[1] / "docs" / "feeds.md").read_text()
    [shown] = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    yaml = YAML(typ="safe")
    assert yaml.load(shown) == yaml.load(MAPPINGS_DIR / "feeds" / "harbor.yaml")
    for transform in FEED.transforms:
        assert f"| `{transform.removeprefix('feed_')}` |" in guide
