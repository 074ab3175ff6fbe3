"""Every declared table of DTX gives a schema that takes what the table takes and names what it does not."""

import polars as pl
import pytest

from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.model.target import polars_type
from dtx_assets.machinery.prepare.schemas import legacy_schema, schema_failures, target_schema

EXAMPLES = {"bigint": 1, "integer": 1, "text": "", "boolean": False, "jsonb": "{}"}


@pytest.mark.parametrize("table", SYSTEM.legacy_tables.values(), ids=lambda table: table.name)
def test_a_row_without_its_key_fails(table):
    schema = legacy_schema(table)
    checked = table.key if table.has_unique_key else ()
    assert set(schema.columns) == set(checked)
    nulls = pl.DataFrame({name: [None] for name in table.columns}, schema=dict.fromkeys(table.columns, pl.String))
    assert sorted(schema_failures(schema, nulls)["column"]) == sorted(checked)
    ones = nulls.with_columns(pl.lit("1").alias(name) for name in table.columns)
    assert schema_failures(schema, ones).is_empty()


def test_all_legacy_tables_are_looked_at():
    assert len(SYSTEM.legacy_tables) == 21


@pytest.mark.parametrize("table", SYSTEM.targets, ids=lambda table: table.model)
def test_an_empty_row_fails_where_a_value_must_be(table):
    schema = target_schema(table)
    types = {column.name: polars_type(column.type) for column in table.columns}
    assert {name: column.nullable for name, column in schema.columns.items()} == {
        column.name: column.nullable for column in table.columns
    }
    nulls = pl.DataFrame({name: [None] for name in types}, schema=types)
    needed = [column.name for column in table.columns if not column.nullable]
    assert sorted(schema_failures(schema, nulls)["column"]) == sorted(needed)
    filled = nulls.with_columns(
        pl.lit(column.allowed[0] if column.allowed else EXAMPLES[column.type], types[column.name]).alias(column.name)
        for column in table.columns
        if column.type != "timestamptz"
    ).with_columns(
        pl.lit("2020-02-29T00:00:00Z").str.to_datetime(time_zone="UTC", time_unit="us").alias(column.name)
        for column in table.columns
        if column.type == "timestamptz"
    )
    assert schema_failures(schema, filled).is_empty()
