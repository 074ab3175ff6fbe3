"""The ugly tables are as ugly as they should be, and come back as they were written, from every form."""

from collections import Counter

import psycopg
import pytest

from dtx_assets_tests.dispatch.compare import inputs_of, write
from dtx_assets_tests.dispatch.second_reading import inputs_of_database, migrate
from dtx_assets_tests.dispatch.second_reading_books import OPTIONS
from dtx_assets_tests.dispatch.ugly import NO_PHASE_5, decisions, ugly
from dtx_assets_tests.dispatch.ugly_forms import write_database

SEEDS = range(24)


def test_a_seed_gives_the_same_again():
    assert ugly(5) == ugly(5)
    assert ugly(5).tables != ugly(6).tables


def test_all_options_are_drawn():
    drawn = {key: {decisions(seed).get(key) for seed in SEEDS} - {None} for key in OPTIONS if key not in NO_PHASE_5}
    assert drawn == {key: set(options) for key, options in OPTIONS.items() if key not in NO_PHASE_5}


@pytest.mark.parametrize("seed", range(4))
def test_csv_files_come_back(tmp_path, seed):
    made = ugly(seed)
    write(tmp_path, seed, {})
    found = inputs_of(tmp_path)
    for table, rows in made.tables.items():
        as_written = [{name: r"\N" if value is None else value for name, value in row.items()} for row in rows]
        assert found.tables[table] == as_written
    assert found.files == made.files


def test_something_of_everything_is_migrated_and_rejected(tmp_path):
    """No table, no reason and no rule is left out over a few seeds; most rows are not there for nothing."""
    reasons: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    migrated: Counter[tuple[str, str]] = Counter()
    for seed in SEEDS:
        write(tmp_path / str(seed), seed, decisions(seed))
        result = migrate(inputs_of(tmp_path / str(seed)))
        reasons.update(reason for each in result.rejected for reason in each.reasons)
        for flow, account in result.accounting.items():
            assert account.read == account.migrated + account.rejected + account.dropped.total()
            migrated[flow] += account.migrated
            dropped.update(account.dropped)
    kinds = "unmapped_value unparseable orphan_reference duplicate_key no_matching_row invalid_email file_missing"
    assert {*reasons} == {*kinds.split(), "schema_violation"}
    assert {*dropped} == {"identical", "deleted"}
    assert min(migrated.values()) > 20


@pytest.mark.parametrize("seed", [0, 1])
def test_a_database_holds_what_its_types_can(database_url, seed):
    """Booleans, times and numbers as PostgreSQL writes them; foreign keys to content types as Django makes them."""
    made = ugly(seed)
    write_database(database_url, made.tables, text_ids=seed == 1)
    found = inputs_of_database(database_url)
    assert found.tables.keys() == made.tables.keys()
    result = migrate(found)
    assert len(result.rows["profiles"]) > 20
    assert not any(account.dropped for account in result.accounting.values())
    with psycopg.connect(database_url) as connection:
        referring = {
            table
            for (table,) in connection.execute(
                "SELECT conrelid::regclass::text FROM pg_constraint WHERE confrelid = 'django_content_type'::regclass"
            )
        }
    assert referring == {"auth_permission", "dispatch_record", "dispatch_file"} & {*made.tables, "auth_permission"}
