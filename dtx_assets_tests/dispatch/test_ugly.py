"""The ugly tables are as ugly as they should be, and come back as they were written, from every form."""

from collections import Counter

import psycopg
import pytest

from dtx_assets_tests.dispatch.compare import inputs_of, write
from dtx_assets_tests.dispatch.second_reading import Inputs, inputs_of_database, migrate, pair_of
from dtx_assets_tests.dispatch.second_reading_books import OPTIONS
from dtx_assets_tests.dispatch.second_reading_values import COLUMNS, kind_of
from dtx_assets_tests.dispatch.ugly import NO_PHASE_5, SPARED, decisions, ugly
from dtx_assets_tests.dispatch.ugly_forms import write_database
from dtx_assets_tests.dispatch.ugly_thorough import thorough

SEEDS = range(24)


def test_a_seed_gives_the_same_again():
    assert ugly(5) == ugly(5)
    assert ugly(5).tables != ugly(6).tables


def test_all_options_are_drawn():
    drawn = {key: {decisions(seed).get(key) for seed in SEEDS} - {None} for key in OPTIONS if key not in NO_PHASE_5}
    assert drawn == {key: set(options) for key, options in OPTIONS.items() if key not in NO_PHASE_5}


def test_the_traps_of_section_8():
    """Each is there in one seed or another."""
    there: set[str] = set()
    for seed in SEEDS:
        tables = ugly(seed).tables
        ids = {table: {row["id"] for row in rows} for table, rows in tables.items()}
        values = {(table, name): {row[name] for row in rows} for table, rows in tables.items() for name in rows[0]}
        types, *_ = pair_of(tables["dispatch_record"][0])
        keys = values["dispatch_record", pair_of(tables["dispatch_record"][0])[1]]
        bodies = values["dispatch_record", "text"]
        states = Counter((row["instruction_id"], row["changed_at"]) for row in tables["dispatch_state"])
        traps = {
            "patient 7 and user 7": "7" in ids["auth_user"] & ids["dispatch_patient"],
            "codes that equal content types": values["dispatch_record", "type"]
            & values["dispatch_record", types] - {None},
            "ids with blanks": any(isinstance(key, str) and key.strip() != key != " " for key in keys),
            "an office whose emails is t": "t" in values["dispatch_office", "emails"],
            "a course retainer": " retainer " in values["dispatch_course", "name"],
            "names beyond ASCII": "Ünïcode" in values["auth_user", "first_name"],
            "an emoji": "Fits 🦷 now" in bodies,
            "a body of blanks": " " in bodies,
            "60,000 characters": any(isinstance(body, str) and len(body) >= 60_000 for body in bodies),
            "two states at one instant": any(number > 1 for (_, at), number in states.items() if at),
            "an upper-case uid": any(isinstance(u, str) and u != u.lower() for u in values["dispatch_project", "uid"]),
            "a superuser who is staff": any(
                row["is_staff"] == row["is_superuser"] == "t" for row in tables["auth_user"]
            ),
            "stale and foreign types": {"oldthing", "logentry"} <= values["django_content_type", "model"],
        }
        there |= {name for name, is_there in traps.items() if is_there}
    assert there == set(traps)


def test_every_bad_value_is_in_every_column():
    """And a row with one that can be written is migrated: nothing else is wrong with it."""
    made = thorough()
    result = migrate(Inputs(made.tables, files=made.files))
    for flow, account in result.accounting.items():
        assert account.dropped == {}, flow
        assert (account.migrated > 3 and account.rejected > 3) or flow[0] == "dispatch_file", flow
    assert sum(account.migrated for account in result.accounting.values()) > 1_000
    texts = {
        (table, name) for table, names in COLUMNS.items() for name in names.split() if kind_of(table, name) == "text"
    }
    for table, name in texts - SPARED - {("auth_user", "password")}:
        assert {"a\0b", b"caf\xe9", None, ""} <= {row[name] for row in made.tables[table]}, (table, name)


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
