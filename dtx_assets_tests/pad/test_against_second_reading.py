"""The flow of PAD gives what the second reading gives, on ugly tables and under every option of every decision."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dtx_assets_tests.dtx import drawing as st
from dtx_assets_tests.pad.running import differences, inputs
from dtx_assets_tests.pad.second_reading import OPTIONS, REQUEST, migrate
from dtx_assets_tests.pad.ugly import CLEAN, decisions, tables

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


@pytest.mark.parametrize("dialect", ["csv", "database"])
def test_identical_rows_are_told_apart_where_the_id_is_missing(migration, dialect):
    """Rows without a key are told apart by an ordinal; ids that are written otherwise are of one key, not identical."""
    rows = [
        *({**CLEAN, "id": None}, {**CLEAN, "id": None}, {**CLEAN, "id": None, "name": "another"}),
        *({**CLEAN, "id": "x"}, {**CLEAN, "id": "x"}, {**CLEAN, "id": ""}),
        *({**CLEAN, "id": "8"}, {**CLEAN, "id": "8.0"}, {**CLEAN, "id": " 8"}, {**CLEAN, "id": "8"}),
    ]
    expected = migrate(inputs(rows, dialect=dialect))
    assert expected.accounting[REQUEST].dropped["identical"] == 2
    assert differences(migration.run(rows, dialect=dialect), expected) == []


@pytest.mark.parametrize("timezone", ["Europe/London", "America/New_York", "Pacific/Auckland", "Australia/Lord_Howe"])
def test_times_that_occur_twice_or_never(migration, timezone):
    """Every quarter of an hour of the nights in which the clocks of the zone change."""
    instants = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * number) for number in range(366 * 96)]
    zone = ZoneInfo(timezone)

    def changes(instant: datetime) -> bool:
        around = (instant + timedelta(hours=hours) for hours in (-3, 3))
        return len({moment.replace(tzinfo=zone).utcoffset() for moment in around}) > 1

    nights = [instant for instant in instants if changes(instant)]
    assert len(nights) > 40
    rows = [
        {
            **CLEAN,
            "id": str(number),
            "requested_date": f"{instant:%Y-%m-%d %H:%M:%S}",
            "auth_manager_date": f"{instant:%Y-%m-%dT%H:%M:%S}",
        }
        for number, instant in enumerate(nights, 1)
    ]
    expected = migrate(inputs(rows, timezone=timezone))
    assert len({row["created_at"] for row in expected.rows[REQUEST].values()}) < len(rows)
    assert differences(migration.run(rows, timezone=timezone), expected) == []
