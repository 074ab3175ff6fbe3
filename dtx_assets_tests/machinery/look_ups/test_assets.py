"""Mapping assets against a real target: contradictions are named, ids without a row are listed, the same is kept."""

from collections.abc import Sequence

import polars as pl
import psycopg
import pytest

from dtx_assets.machinery.base.errors import LoadError, SourceError, StructureError
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.look_ups.assets import (
    MappingAsset,
    MappingContext,
    build_mapping_asset,
    crosswalk_asset,
    read_target_rows,
)
from dtx_assets.machinery.mapping.load import Mappings
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import polars_type
from dtx_assets.machinery.transforms.columns import GENERIC
from dtx_assets_tests.machinery.load.prepared import SYSTEM, Shop
from dtx_assets_tests.machinery.load.test_keys import KINDS, prepare, undone
from dtx_assets_tests.machinery.zoo import UNDECODABLE

TABLE = LegacyTable(
    "crosswalk_keeper",
    "zoo",
    ("keeper_id", "person_id", "house_id"),
    ("keeper_id",),
    required=("keeper_id", "person_id"),
    description="Who keeps animals.",
    kind_of=lambda _: "integer",
)
ASSET = crosswalk_asset(
    "keeper", TABLE, "keeper_id", "person_id", area="zoo", target=("Person", "zoo_person"), extras=("house_id",)
)
SCHEMA = {"source_id": pl.String, "target_id": pl.Int64, "missing_id": pl.Int64, "house_id": pl.Int64}
Row = tuple[str | None, str | None, str | None]


@pytest.fixture
def context(tmp_path, database_url) -> MappingContext:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE zoo_person (id bigint PRIMARY KEY, name text)")
        connection.execute("INSERT INTO zoo_person SELECT n, 'p' || n FROM generate_series(101, 105) n")
    mappings = Mappings({}, {}, {}, {}, GENERIC)
    return MappingContext("zoo", Lake(str(tmp_path)), "run", database_url, {TABLE.name: TABLE}, mappings)


def land(context: MappingContext, rows: Sequence[Row], columns: Sequence[str] = TABLE.columns, **facts: str) -> None:
    with context.lake.write(("zoo", "crosswalk", TABLE.name), run_id="e") as writer:
        frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
        undecodable = pl.lit(None, UNDECODABLE).alias("_undecodable")
        writer.add(frame.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("_row"), undecodable))
        writer.metadata.update({"dialect": "database", "source": "a notebook"} | facts)


def built(context: MappingContext, asset: MappingAsset = ASSET) -> list[tuple[object, ...]]:
    frame = context.lake.scan((), manifest=build_mapping_asset(asset, context)).collect()
    assert dict(frame.schema) == SCHEMA
    return frame.rows()


def test_ids_are_canonical_and_those_without_a_row_are_listed(context):
    land(context, [("12.0", "101", "1"), ("007", "999", None), ("3", None, "2"), ("4", "105.0", "x")])
    assert built(context) == [
        ("12", 101, None, 1),
        ("3", None, None, 2),
        ("4", 105, None, None),
        ("7", None, 999, None),
    ]


def test_rows_that_say_the_same_count_once(context):
    land(context, [("1", "101", None), ("1", "101", None), ("01", "101.0", None)])
    assert built(context) == [("1", 101, None, None)]


def test_a_row_without_an_id_maps_nothing(context):
    land(context, [(None, "101", None), ("", "102", None), ("x", "103", None), ("1", "104", None)])
    assert built(context) == [("1", 104, None, None)]


@pytest.mark.parametrize(
    "other", [("1", "102", None), ("1", None, None), ("01.0", "999", None), ("1", "101", "7")], ids=str
)
def test_a_contradiction_names_its_key_and_replaces_nothing(context, other):
    land(context, [("1", "101", None)])
    before = build_mapping_asset(ASSET, context)
    land(context, [("1", "101", None), ("2", "102", None), other])
    with pytest.raises(
        StructureError, match=r"the crosswalk crosswalk_keeper gives several ids for keeper_id 1\n"
    ) as told:
        build_mapping_asset(ASSET, context)
    assert told.value.where == "crosswalk_keeper.keeper_id"
    assert "which id is right" in told.value.remedy
    assert context.lake.require(before.key) == before


def test_of_many_contradictions_some_are_named_and_all_counted(context):
    land(context, [(str(key), str(person), None) for key in range(1, 8) for person in (101, 102)])
    with pytest.raises(StructureError, match="keeper_id 1, 2, 3, 4, 5 and 2 more"):
        build_mapping_asset(ASSET, context)


def test_an_empty_crosswalk_and_an_empty_target(context):
    land(context, [])
    assert built(context) == []
    with psycopg.connect(context.target_url) as connection:
        connection.execute("TRUNCATE zoo_person")
    land(context, [("1", "101", None)])
    assert built(context) == [("1", None, 101, None)]


def test_the_same_content_keeps_its_version(context):
    land(context, [("1", "101", None), ("2", "102", None)])
    first = build_mapping_asset(ASSET, context)
    assert first.metadata["kind"] == "crosswalk"
    land(context, [("2", "102", None), ("1", "101", None), ("1.0", "101", None)])
    assert build_mapping_asset(ASSET, context) == first
    with psycopg.connect(context.target_url) as connection:
        connection.execute("DELETE FROM zoo_person WHERE id = 102")
    second = build_mapping_asset(ASSET, context)
    assert second.version != first.version
    assert context.lake.scan(second.key).collect()["missing_id"].to_list() == [None, 102]


def test_other_columns_of_a_crosswalk_are_no_contradiction(context):
    land(context, [("1", "101", None, "a"), ("1", "101", None, "b")], (*TABLE.columns, "note"))
    assert built(context) == [("1", 101, None, None)]


def test_null_as_a_csv_spells_it(context):
    land(context, [("1", r"\N", ""), ("2", "NULL", "5")], dialect="csv")
    assert built(context) == [("1", None, None, None), ("2", None, None, 5)]


def test_a_crosswalk_without_its_column(context):
    land(context, [("1", "5")], ("keeper_id", "house_id"))
    with pytest.raises(SourceError, match="crosswalk_keeper lacks the required column person_id"):
        build_mapping_asset(ASSET, context)


def test_a_crosswalk_that_was_never_landed(context):
    with pytest.raises(StructureError, match="zoo/crosswalk/crosswalk_keeper has not been materialised"):
        build_mapping_asset(ASSET, context)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP TABLE zoo_person", 'relation "zoo_person" does not exist'),
        ("ALTER TABLE zoo_person RENAME id TO pk", 'column "id" does not exist'),
    ],
)
def test_a_target_that_lacks_a_table_or_a_column(context, statement, said):
    land(context, [("1", "101", None)])
    with psycopg.connect(context.target_url) as connection:
        connection.execute(statement)
    with pytest.raises(StructureError, match=said) as told:
        build_mapping_asset(ASSET, context)
    assert told.value.where == "zoo_person"
    assert "load that area first" in told.value.remedy


def test_a_target_whose_ids_are_no_integers(context):
    with psycopg.connect(context.target_url) as connection:
        connection.execute("ALTER TABLE zoo_person ALTER id TYPE text USING 'secret' || id")
    with pytest.raises(StructureError, match="other types") as told:
        read_target_rows(context.target_url, "zoo_person", {"id": pl.Int64()})
    assert "id (Int64)" in told.value.remedy
    assert "secret" not in str(told.value)


def test_a_target_whose_rows_may_not_be_read(context):
    with psycopg.connect(context.target_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE zoo_visitor LOGIN PASSWORD 'visitor'")
    try:
        database = context.target_url.rpartition("/")[2].partition("?")[0]
        url = psycopg.conninfo.make_conninfo(
            context.target_url, user="zoo_visitor", password="visitor", dbname=database
        )
        with pytest.raises(StructureError, match="permission denied for table zoo_person") as told:
            read_target_rows(url, "zoo_person", {"id": pl.Int64()})
        assert "grant SELECT" in told.value.remedy
    finally:
        with psycopg.connect(context.target_url, autocommit=True) as connection:
            connection.execute("DROP ROLE zoo_visitor")


def test_a_target_that_does_not_answer():
    with pytest.raises(LoadError, match="the target database cannot be reached") as told:
        read_target_rows("postgresql://me:very-secret@127.0.0.1:1/zoo", "zoo_person", {"id": pl.Int64()})
    assert "very-secret" not in str(told.value)


def test_rows_of_other_areas_come_as_they_are(context):
    awkward = ['a,"b"\nc', "", None, " ä ", r"\N", "NULL", "1"]
    with psycopg.connect(context.target_url) as connection:
        connection.execute(
            'CREATE SCHEMA "Other"; CREATE TABLE "Other"."Odd Table" (id bigint, "a ""name" text, tame boolean)'
        )
        connection.cursor().executemany(
            'INSERT INTO "Other"."Odd Table" VALUES (%s, %s, %s)', [(n, text, None) for n, text in enumerate(awkward)]
        )
    columns = {"id": pl.Int64(), 'a "name': pl.String()}
    rows = read_target_rows(context.target_url, "Other.Odd Table", columns)
    assert rows.rows() == list(enumerate(awkward))
    assert rows.schema == pl.Schema(columns)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_rows_of_others_are_those_that_no_load_inserted_whatever_their_key(tmp_path, database_url, kind):
    """Before and after a load, and after its undo, when somebody took one of its keys."""
    shop = Shop(tmp_path, database_url)
    columns = {column.name: polars_type(column.type) for column in kind.target.columns}

    def insert(number: int) -> None:
        row = kind.row(number, note="of others")
        names = ", ".join(f'"{name}"' for name in row)
        values = [*row.values()]
        with psycopg.connect(database_url) as connection:
            connection.execute(
                f"INSERT INTO {kind.target.name} ({names}) VALUES ({', '.join(['%s'] * len(row))})", values
            )

    def others(system: str = SYSTEM) -> list[dict[str, object]]:
        rows = read_target_rows(database_url, kind.target.name, columns, inserted_by=system, key=kind.target.key)
        return sorted(rows.to_dicts(), key=str)

    def of_others(*numbers: int) -> list[dict[str, object]]:
        return sorted((kind.row(number, note="of others") for number in numbers), key=str)

    shop.sql(kind.ddl)
    insert(20)
    assert others() == of_others(20)
    prepare(shop, kind, [kind.row(number) for number in range(1, 5)])
    assert shop.load(kind.target).inserted == 4
    insert(21)
    assert others() == of_others(20, 21)
    assert len(others("another system")) == 6
    undone(shop, kind, "last")
    insert(2)
    assert others() == of_others(2, 20, 21)


def test_a_value_map_and_a_frame_of_ones_own(context):
    frame = pl.DataFrame({"kind": ["cat"], "tame": [True]})
    asset = MappingAsset("species", "value_map", "zoo", (), "Kinds.", lambda _: frame.lazy())
    manifest = build_mapping_asset(asset, context)
    assert manifest.key == ("zoo", "mapping", "species")
    assert context.lake.scan(manifest.key).collect().equals(frame)
    assert ASSET.upstream == (("legacy", "crosswalk_keeper"), ("target", "Person"))
