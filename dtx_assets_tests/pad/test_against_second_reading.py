"""The flow of PAD gives what the second reading gives, on ugly tables and under every option of every decision."""

import pytest

from dtx_assets_tests.dtx import drawing as st
from dtx_assets_tests.pad.running import Migration, differences, inputs
from dtx_assets_tests.pad.second_reading import every_option, migrate
from dtx_assets_tests.pad.ugly import decisions, tables

HOW = st.fixed_dictionaries(
    {
        "batch_rows": st.sampled_from((1_000, 7)),
        "timezone": st.sampled_from(("UTC", "America/New_York", "Europe/London", "Pacific/Auckland")),
        "dialect": st.sampled_from(("csv", "database")),
    }
)
OPTIONS = list(every_option())


def agree_on(migration: Migration, seed: int, chosen: dict[str, str]) -> None:
    rows, how = st.drawn(tables(), seed), st.drawn(HOW, seed)
    batch_rows = how.pop("batch_rows")
    found = migration.run(rows, batch_rows=batch_rows, **how, **chosen)
    assert differences(found, migrate(inputs(rows, **how, **chosen))) == []


@pytest.mark.parametrize("place", range(len(OPTIONS)), ids=["=".join(*each.items()) for each in OPTIONS])
def test_ugly_tables_under_each_option(migration, place):
    agree_on(migration, 1_000 + place, OPTIONS[place])


@pytest.mark.parametrize("seed", range(60))
def test_ugly_tables_under_any_options(migration, seed):
    agree_on(migration, seed, st.drawn(decisions, seed))
