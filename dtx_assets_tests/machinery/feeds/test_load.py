"""Feed files are read whole and refused whole: everything that is wrong with them, each with file, line and remedy."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.feeds.load import FeedContext, Feeds, load_feeds
from dtx_assets.machinery.mapping.decisions import Decision
from dtx_assets.machinery.mapping.lineage import column_descriptions, column_lineage
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetColumn, TargetTable

FEED = """feed: farm
source:
  file: farm.csv
  dialect: { delimiter: ";" }
columns:
  size: { from: Sq. Ft., transform: integer, null_values: "-1" }
  since: { from: Since, transform: date, format: D-MON-YYYY, null_values: 1-JAN-1900 }
key: [Stall No.]
drop:
  - { column: State, equals: sold, rule: sold_animal }
match: { column: Keeper, crosswalk: keeper }
target:
  model: Keeper
  array: { column: notes, key: stalls, order_by: since }
"""
PLAIN = FEED.replace("array: { column: notes, key: stalls, order_by: since }", "columns: { stall: size, hired: since }")

ANIMALS = LegacyTable("animal", "zoo", ("animal_id", "keeper_id", "Stall No."), key=("animal_id",))
KEEPERS = (
    TargetTable(
        "zoo_keeper",
        "Keeper",
        "others",
        (
            TargetColumn("notes", "jsonb", "Notes.", nullable=True),
            TargetColumn("stall", "integer", "Stall.", nullable=True),
        ),
        writes="update",
    ),
    TargetTable(
        "zoo_keeper", "KeeperName", "others", (TargetColumn("hired", "text", "When.", nullable=True),), "update"
    ),
    TargetTable("zoo_animal", "Animal", "zoo", (TargetColumn("name", "text", "Name."),), "insert"),
    TargetTable("zoo_ticket", "Ticket", "others", ()),
)
CONTEXT = FeedContext(
    {"animal": ANIMALS},
    KEEPERS,
    {"keeper": "Keeper", "animal": "Animal", "ticket": "Ticket"},
    Decision(
        key="feeds", area=1, number="2", title="Feeds", text="", status="documented", options=("no", "yes"), chosen="no"
    ),
    "yes",
    "zoo",
)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Feeds]:
    def load_files(**files: str) -> Feeds:
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return load_feeds(tmp_path, CONTEXT)

    return load_files


def test_a_feed_becomes_a_table_a_slice_of_the_target_a_mapping_and_a_flow(load, tmp_path):
    [feed] = load(farm=FEED).feeds
    assert (feed.table.name, feed.table.key, feed.table.all_personal) == ("feed_farm", ("Stall No.",), True)
    assert feed.table.required == ("Stall No.", "Keeper", "State", "Sq. Ft.", "Since")
    assert (feed.target.model, feed.target.name) == ("KeeperFarm", "zoo_keeper")
    assert [(column.name, column.needed_when) for column in feed.target.columns] == [("notes", ("feeds", "yes"))]
    assert feed.flow.accounted == (("feed_farm", "KeeperFarm"),)
    assert feed.flow.owner == {"feed_farm": ("Keeper", "keeper")}
    assert feed.open is not None
    assert feed.open(None).url == str(tmp_path / "farm.csv")


def test_a_column_with_a_dot_is_a_column_in_lineage_and_descriptions(load):
    [feed] = load(farm=PLAIN).feeds
    lineage = column_lineage(feed.mapping, "zoo")
    assert lineage["stall"] == [(("zoo", "legacy", "feed_farm"), "Sq. Ft.")]
    assert column_descriptions(feed.mapping)["stall"].startswith("feed_farm.Sq. Ft. by transform feed_integer")


def test_two_files_may_fill_different_keys_of_one_column(load):
    other = FEED.replace("feed: farm", "feed: north_farm").replace("key: stalls", "key: more")
    assert [feed.target.model for feed in load(farm=FEED, north_farm=other).feeds] == ["KeeperFarm", "KeeperNorthFarm"]


def test_a_disabled_feed_may_fill_what_another_one_fills(load):
    other = FEED.replace("feed: farm", "feed: draft\nenabled: false")
    feeds = load(farm=FEED, draft=other)
    assert [feed.name for feed in feeds.enabled] == ["farm"]
    assert len(feeds.feeds) == 2


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("feed: farm", "feed: Farm", 1, "a feed cannot be called 'Farm'"),
        ("feed: farm", "feed: other", 1, "farm.yaml holds the feed other.*rename the file to other.yaml"),
        ("feed: farm", "feed: farm\nenabeld: false", 2, "unknown key 'enabeld'.*did you mean 'enabled'"),
        ("  file: farm.csv", "  file: farm.csv\n  table: animal", 2, "a feed has one source"),
        ("  file: farm.csv\n", "", 2, "a feed has one source"),
        (
            "  file: farm.csv",
            "  file: https://example.org/farm.csv",
            2,
            "names no file.*write a path, or s3://bucket/key",
        ),
        ("  file: farm.csv", "  file: s3://bucket", 2, "'s3://bucket' names no file"),
        ("from: Since", "from: _row", 1, "the source column '_row' begins as the machinery's own columns do"),
        ("  file: farm.csv", "  file: farm.csv\n  names: [a, b]", 2, "the first line names the columns"),
        ('delimiter: ";"', "header: false", 2, "nothing names the columns"),
        ('delimiter: ";"', 'delimiter: ";;"', 4, "';;' is not one ASCII character"),
        ('delimiter: ";"', 'delimiter: "\'", quote: "\'"', 4, "delimiter and quote are the same"),
        ('delimiter: ";"', "encoding: latin-99", 4, "there is no encoding 'latin-99'"),
        ('delimiter: ";"', "encoding: base64", 4, "there is no encoding 'base64'"),
        ("transform: integer", "transform: money", 6, "'transform' cannot be 'money'.*'text', 'integer' or 'date'"),
        ("transform: integer", "transform: integer, format: X", 6, "only dates have a format"),
        ("format: D-MON-YYYY", "format: D-MON-YY", 7, "'D-MON-YY' is no form of a date.*as in MM/DD/YYYY"),
        ("format: D-MON-YYYY, ", "", 7, "nothing about how the date is written"),
        ("rule: sold_animal", "rule: migrated", 10, "a rule cannot be called 'migrated'"),
        ("equals: sold, ", "", 10, "'equals' is missing"),
        ("equals: sold", "equals: [a]", 10, r"\['a'\] is no whole number, text or null"),
        ("crosswalk: keeper", "crosswalk: keepers", 11, "unknown crosswalk 'keepers'.*did you mean 'keeper'"),
        ("crosswalk: keeper", "crosswalk: animal", 11, "the crosswalk animal leads to Animal, not to Keeper"),
        ("model: Keeper", "model: Animal", 13, "unknown target model 'Animal'.*use one of: Keeper"),
        ("model: Keeper", "model: Ticket", 13, "unknown target model 'Ticket'"),
        ("column: notes", "column: note", 14, "unknown column of Keeper 'note'"),
        ("column: notes", "column: stall", 14, "stall is integer, and an array goes into a JSON column.*notes"),
        ("key: stalls", 'key: ""', 14, "the key of the array is empty"),
        ("order_by: since", "order_by: then", 14, "unknown column of the feed 'then'"),
        ("order_by: since", "members: [size]", 7, "since is written nowhere"),
        ("order_by: since", "members: [size, since, x]", 14, "unknown column of the feed 'x'"),
        ("  array:", "  columns: { stall: size }\n  array:", 12, "a feed fills one thing"),
        ("  size:", "  _match:", 6, "a column cannot be called _match"),
        ("[Stall No.]", "[Stall No., Stall No.]", 8, "a column stands in the key twice"),
        ('null_values: "-1"', "null_values: [true]", 6, "True is read as bool.*write it in quotes"),
        ('null_values: "-1"', "null_values: 007", 6, "7 is read as int.*write it in quotes"),
        ("equals: sold", "equals: 2020-01-01", 10, "is no whole number, text or null.*in quotes"),
        ("feed: farm", "feed: farm\ndescription: !!python/object:os.system x", 2, "not valid YAML: .* for the tag"),
        ("columns:\n", "columns:\n  size: { from: x }\n", 7, "not valid YAML: found duplicate key"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(load, old, new, line, message):
    assert old in FEED
    with pytest.raises(ConfigurationError) as error:
        load(farm=FEED.replace(old, new, 1))
    assert re.search(message, str(error.value), re.DOTALL), str(error.value)
    assert f"farm.yaml:{line}" in str(error.value)


def test_a_feed_of_a_landed_table_names_its_columns(load):
    of_table = (
        FEED.replace("  file: farm.csv\n", "  table: animal\n")
        .replace('  dialect: { delimiter: ";" }\n', "")
        .replace("key: [Stall No.]\n", "")
    )
    with pytest.raises(ConfigurationError) as error:
        load(farm=of_table)
    said = str(error.value)
    assert "4 things are wrong" in said
    for column in ("Sq. Ft.", "Since", "State", "Keeper"):
        assert f"the source has no column {column!r}" in said
    assert "did you mean 'keeper_id'?" in said
    with pytest.raises(ConfigurationError, match="the legacy table animal has its own key"):
        load(farm=of_table + "key: [animal_id]\n")
    with pytest.raises(ConfigurationError, match="unknown legacy table 'animals'"):
        load(farm=of_table.replace("table: animal", "table: animals"))
    with pytest.raises(ConfigurationError, match="the legacy table has its own dialect and names"):
        load(farm=of_table.replace("table: animal", "table: animal\n  dialect: {}"))


def test_feeds_do_not_share_a_place_or_a_name(load, tmp_path):
    with pytest.raises(ConfigurationError, match=r"zoo_keeper.notes.stalls is what the feed farm fills"):
        load(farm=FEED, second=FEED.replace("feed: farm", "feed: second"))
    (tmp_path / "second.yaml").unlink()
    with pytest.raises(ConfigurationError, match="its name is too like that of the feed far_m"):
        load(far_m=FEED.replace("feed: farm", "feed: far_m").replace("key: stalls", "key: x"))
    (tmp_path / "far_m.yaml").unlink()
    with pytest.raises(ConfigurationError, match="the model KeeperName is something else"):
        load(name=FEED.replace("feed: farm", "feed: name").replace("key: stalls", "key: x"))


def test_two_feeds_of_one_table_into_one_target_are_refused(load):
    text = """feed: {name}
source: {{ table: animal }}
columns:
  value: {{ from: Stall No., transform: {transform} }}
match: {{ column: keeper_id, crosswalk: keeper }}
target: {{ model: Keeper, columns: {{ {column}: value }} }}
"""
    assert [feed.name for feed in load(one=text.format(name="one", transform="integer", column="stall")).feeds] == [
        "one"
    ]
    with pytest.raises(ConfigurationError, match="animal into zoo_keeper is what the feed one does"):
        load(two=text.format(name="two", transform="text", column="hired"))


def test_plain_columns_hold_what_their_transform_gives(load):
    with pytest.raises(ConfigurationError, match=r"stall is integer, and cannot hold since \(date\)") as error:
        load(farm=PLAIN.replace("stall: size, hired: since", "stall: since, hired: size"))
    assert "hired is text, and cannot hold size (integer)" in str(error.value)
    with pytest.raises(ConfigurationError, match="unknown column of Keeper 'stal'"):
        load(farm=PLAIN.replace("stall: size", "stal: size"))


def test_files_that_cannot_be_read_are_told_with_the_others(load):
    with pytest.raises(ConfigurationError) as error:
        load(farm=FEED.replace("crosswalk: keeper", "crosswalk: kepper"), broken="feed: [", empty="")
    assert "3 things are wrong" in str(error.value)
