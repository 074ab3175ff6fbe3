"""Each kind of check finds the row planted for it, by column and by name, and passes all others."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandera.errors import SchemaErrors

from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetColumn, TargetTable, polars_type
from dtx_assets.machinery.prepare.schemas import legacy_schema, schema_failures, target_schema

TABLE = LegacyTable(
    name="animal",
    area="zoo",
    columns=("animal_id", "keeper", "name"),
    key=("animal_id", "keeper"),
    kind_of=lambda name: "integer" if name.endswith("_id") else "text",
)
COLUMNS = (
    TargetColumn("keeper_id", "bigint", "Who feeds it."),
    TargetColumn("legs", "integer", "How many.", nullable=True),
    TargetColumn("kind", "text", "What it is.", allowed=("cat", "dög")),
    TargetColumn("name", "text", "What it is called.", nullable=True, max_length=5),
    TargetColumn("tame", "boolean", "Whether it bites.", nullable=True),
    TargetColumn("born", "timestamptz", "When.", nullable=True),
    TargetColumn("tags", "jsonb", "Anything.", nullable=True),
)
TARGET = TargetTable("zoo_animal", "Animal", "zoo", COLUMNS, natural_key=("keeper_id",), writes="insert")
ANIMAL = {
    "keeper_id": 1,
    "legs": 4,
    "kind": "cat",
    "name": "Mitzi",
    "tame": True,
    "born": datetime(2020, 2, 29, tzinfo=UTC),
    "tags": "{}",
}


def animals(*changes: dict[str, object]) -> pl.DataFrame:
    schema = {column.name: polars_type(column.type) for column in COLUMNS}
    return pl.DataFrame([ANIMAL | change for change in changes], schema=schema)


def failures(schema, frame: pl.DataFrame) -> list[tuple[int, str, str]]:
    found = schema_failures(schema, frame)
    assert found.schema == {"index": pl.UInt32, "column": pl.String, "check": pl.String}
    return sorted(found.rows())


def legacy_rows(**columns: list[str | None]) -> pl.DataFrame:
    rows = max(map(len, columns.values()))
    filled = {"animal_id": ["1"] * rows, "keeper": ["k"] * rows, "name": ["n"] * rows} | columns
    return pl.DataFrame(filled, schema=dict.fromkeys(filled, pl.String))


@pytest.mark.parametrize("text", ["1", "-1", "0012", "12.0", "99999999999999999999999"])
def test_an_integer_key_may_be_written_so(text):
    assert failures(legacy_schema(TABLE), legacy_rows(animal_id=[text])) == []


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1\n", "1.5", "1.00", "+1", "1e3", "one", "١", "--1", "\x00"])
def test_a_key_that_is_no_integer(text):
    found = failures(legacy_schema(TABLE), legacy_rows(animal_id=["1", text, "3"]))
    assert found == [(1, "animal_id", "animal_id is an integer")]


def test_a_key_that_is_null():
    found = failures(legacy_schema(TABLE), legacy_rows(animal_id=["1", "2", None], keeper=[None, "k", "k"]))
    assert found == [(0, "keeper", "not_nullable"), (2, "animal_id", "not_nullable")]


def test_named_columns_must_have_a_value():
    rows = legacy_rows(name=["n", None, ""])
    assert failures(legacy_schema(TABLE), rows) == []
    assert failures(legacy_schema(TABLE, ("name",)), rows) == [(1, "name", "not_nullable")]


def test_a_key_that_may_repeat_or_is_not_there_is_not_looked_at():
    rows = legacy_rows(animal_id=[None, "x"])
    for table in (
        LegacyTable("a", "zoo", TABLE.columns, TABLE.key, key_repeats=True, kind_of=TABLE.kind_of),
        LegacyTable("b", "zoo", TABLE.columns, kind_of=TABLE.kind_of),
    ):
        assert failures(legacy_schema(table), rows) == []


def test_one_row_fails_in_several_columns():
    rows = legacy_rows(animal_id=["x"], keeper=[None], name=[None])
    assert failures(legacy_schema(TABLE, ("name",)), rows) == [
        (0, "animal_id", "animal_id is an integer"),
        (0, "keeper", "not_nullable"),
        (0, "name", "not_nullable"),
    ]


@pytest.mark.parametrize(
    ("change", "column", "check"),
    [
        ({"keeper_id": None}, "keeper_id", "not_nullable"),
        ({"kind": None}, "kind", "not_nullable"),
        ({"kind": "Cat"}, "kind", "kind is an allowed value"),
        ({"kind": ""}, "kind", "kind is an allowed value"),
        ({"name": "Mitzi "}, "name", "name is not too long"),
        ({"name": "x" * 10_000}, "name", "name is not too long"),
        ({"legs": 2**31}, "legs", "legs fits an integer"),
        ({"legs": -(2**31) - 1}, "legs", "legs fits an integer"),
    ],
)
def test_a_prepared_row_that_the_target_would_refuse(change, column, check):
    assert failures(target_schema(TARGET), animals({}, change, {})) == [(1, column, check)]


@pytest.mark.parametrize(
    "change",
    [
        {"legs": None, "name": None, "tame": None, "born": None, "tags": None},
        {"legs": 2**31 - 1},
        {"legs": -(2**31)},
        {"keeper_id": 2**63 - 1},
        {"keeper_id": -(2**63)},
        {"kind": "dög"},
        {"name": "ÄÖÜßé"},
        {"name": "🐈🐈🐈🐈🐈"},
        {"name": ""},
    ],
)
def test_a_prepared_row_that_the_target_takes(change):
    """PostgreSQL counts characters, not bytes."""
    assert failures(target_schema(TARGET), animals(change)) == []


@pytest.mark.parametrize("column", [column.name for column in COLUMNS])
def test_a_column_of_another_type_is_a_fault_of_the_flow(column):
    wrong = animals({}).with_columns(pl.lit(b"x").alias(column))
    with pytest.raises(TypeError, match=column):
        schema_failures(target_schema(TARGET), wrong)


def test_a_time_without_zone_is_another_type():
    with pytest.raises(TypeError, match="born"):
        schema_failures(target_schema(TARGET), animals({}).with_columns(pl.col("born").dt.replace_time_zone(None)))


@pytest.mark.parametrize("microseconds", [-62_135_596_800_000_001, 253_402_300_800_000_000])
def test_a_time_that_python_cannot_hold(microseconds):
    """Whatever made it: no transform of the machinery does."""
    far = animals({}, {}).with_columns(
        pl.Series("born", [0, microseconds]).cast(pl.Datetime("us", "UTC")),
    )
    assert failures(target_schema(TARGET), far) == [(1, "born", "born is of the years 1 to 9999")]
    far = far.with_columns(pl.lit("x").alias("kind"))
    assert {column for _, column, _ in failures(target_schema(TARGET), far)} == {"born", "kind"}


def test_other_columns_and_missing_ones_are_not_its_business():
    rows = animals({"kind": "x"}).select("kind", pl.lit(1).alias("_row"), pl.lit(None).alias("_source_key"))
    assert failures(target_schema(TARGET), rows) == [(0, "kind", "kind is an allowed value")]
    assert failures(target_schema(TARGET), rows.drop("kind")) == []


def test_no_rows():
    assert failures(target_schema(TARGET), animals()) == []
    assert failures(legacy_schema(TABLE), legacy_rows(animal_id=[])) == []


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "keeper_id": st.none() | st.integers(1, 3),
                "legs": st.none() | st.sampled_from([0, 2**31 - 1, 2**31, -(2**31) - 1]),
                "kind": st.none() | st.sampled_from(["cat", "cow"]),
                "name": st.none() | st.text(max_size=8),
            }
        )
    ),
    st.integers(1, 4),
)
def test_positions_are_those_of_the_rows(rows, chunk):
    frame = animals(*rows)
    chunked = pl.concat([frame.slice(start, chunk) for start in range(0, len(rows), chunk)] or [frame], rechunk=False)
    expected = {
        (index, column, check)
        for index, row in enumerate(rows)
        for column, check, failed in (
            ("keeper_id", "not_nullable", row["keeper_id"] is None),
            ("legs", "legs fits an integer", row["legs"] is not None and not -(2**31) <= row["legs"] < 2**31),
            ("kind", "not_nullable", row["kind"] is None),
            ("kind", "kind is an allowed value", row["kind"] == "cow"),
            ("name", "name is not too long", row["name"] is not None and len(row["name"]) > 5),
        )
        if failed
    }
    assert failures(target_schema(TARGET), chunked) == sorted(expected)


def pandera_failures(schema, frame: pl.DataFrame) -> list[tuple[int, str, str]]:
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        return errors.failure_cases.select(pl.col("index").cast(pl.UInt32), "column", "check").rows()
    return []


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "keeper_id": st.none() | st.just(1),
                "legs": st.none() | st.sampled_from([0, 2**31, -(2**31) - 1]),
                "kind": st.none() | st.sampled_from(["cat", "cow", ""]),
                "name": st.none() | st.text(max_size=8),
            }
        ),
        min_size=1,
    )
)
def test_what_is_found_is_what_pandera_finds_in_its_order(rows):
    """Of the same schema: the checks of the one are the expressions of the other."""
    schema, frame = target_schema(TARGET), animals(*rows)
    assert schema_failures(schema, frame).rows() == pandera_failures(schema, frame)
    texts = legacy_rows(animal_id=[row["name"] for row in rows], name=[row["kind"] for row in rows])
    schema = legacy_schema(TABLE, ("name",))
    assert schema_failures(schema, texts).rows() == pandera_failures(schema, texts)


@pytest.mark.parametrize(
    ("kind", "fits", "does_not", "check"),
    [
        ("smallint", -32768, 32768, "it fits a smallint"),
        ("int4", 2**31 - 1, 2**31, "it fits an integer"),
        ("varchar(3)", "äöü", "abcd", "it is not too long"),
        ("char(1)", "é", "ab", "it is not too long"),
        ("numeric(6,2)", "-1234.500", "1.234", "it has more than the 2 decimals that numeric(6,2) keeps"),
        ("decimal(6, 2)", "0009999.99", "10000", "it is too large for numeric(6,2)"),
        ("numeric(3)", "999", "0.5", "it has more than the 0 decimals that numeric(3,0) keeps"),
        ("date", "2024-02-29", "2023-02-29", "it is no day of the calendar"),
        ("date", "2024-02-29 00:00:00", "29.2.2024", "it is no date as YYYY-MM-DD"),
        ("date", "0044-03-15 BC", "today", "it is no date as YYYY-MM-DD"),
        ("timestamp", "2024-01-31T10:00Z", "2024-01-31 10:00:00+02", "it has an offset or zone, which"),
        ("timestamp(0)", "2024-01-31 10:00:00.000", "2024-01-31 10:00:00.5", "it has more than the 0 digits"),
        ("time", "24:00:00", "838:59:59", "it is no time of day as HH:MM:SS"),
        ("uuid", "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}", "a0eebc99", "it is no uuid"),
        ("daterange", "[2024-01-01,)", "[2024-01-01,today)", "it is another time each day"),
        ("text[]", "{today}", None, None),
    ],
)
def test_what_a_declared_type_alone_says_of_values(kind, fits, does_not, check):
    table = TargetTable("t", "T", "all", (TargetColumn("it", kind, "", nullable=True),))
    rows = pl.DataFrame({"it": [None, fits, does_not]}, schema={"it": polars_type(kind)})
    found = failures(target_schema(table), rows)
    assert [(number, name) for number, name, _ in found] == ([(2, "it")] if check else [])
    assert all(said.startswith(check) for _, _, said in found)
    assert found == pandera_failures(target_schema(table), rows)
