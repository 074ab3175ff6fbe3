"""The flow of PAD gives what the second reading gives, on ugly tables and under every option of every decision."""

import pytest

from dtx_assets_tests.dtx import drawing as st
from dtx_assets_tests.pad.running import differences, inputs
from dtx_assets_tests.pad.second_reading import OPTIONS, migrate
from dtx_assets_tests.pad.ugly import decisions, tables

SEEDS = range(20)
HOW = st.fixed_dictionaries(
    {
        "batch_rows": st.sampled_from((1_000, 40)),
        "timezone": st.sampled_from(("UTC", "America/New_York", "Europe/London", "Pacific/Auckland")),
        "dialect": st.sampled_from(("csv", "database")),
    }
)


def test_every_option_of_every_decision_is_drawn():
    drawn = [st.drawn(decisions, seed) for seed in SEEDS]
    assert {key: {chosen[key] for chosen in drawn} for key in OPTIONS} == {
        key: set(options) for key, options in OPTIONS.items()
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_ugly_tables_under_any_options(migration, seed):
    rows, how, chosen = st.drawn(tables(), seed), st.drawn(HOW, seed), st.drawn(decisions, seed)
    batch_rows = how.pop("batch_rows")
    found = migration.run(rows, batch_rows=batch_rows, **how, **chosen)
    assert differences(found, migrate(inputs(rows, **how, **chosen))) == []
