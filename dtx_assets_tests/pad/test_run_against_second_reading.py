"""Whole runs of the shipped generator's sample leave in the database what the second reading says, row by row.

Three runs: no decision has more options, so that each option is seen in the target.
"""

import csv
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from dtx_assets.machinery.postgres.ddl import create_target
from dtx_assets.machinery.postgres.other_rows import load_other_rows
from dtx_assets.pad.decided_system import SYSTEM
from dtx_assets.pad.sample import write_sample
from dtx_assets_tests.pad.place import pad, query
from dtx_assets_tests.pad.running import differences
from dtx_assets_tests.pad.second_reading import (
    OPTIONS,
    TARGETS,
    Account,
    Inputs,
    RawRow,
    Rejected,
    Result,
    Value,
    migrate,
)

CUTOVER_AT = datetime(2026, 11, 21, 3, 30, tzinfo=UTC)
ZONE = "Europe/London"
ROUNDS = max(map(len, OPTIONS.values()))


def decided_in(round_number: int) -> dict[str, str]:
    """The first options, the second, the third; a decision that has fewer begins anew."""
    return {key: options[round_number % len(options)] for key, options in OPTIONS.items()}


def as_read(text: str) -> Value:
    data = text.encode(errors="surrogateescape")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def rows_of(path: Path) -> list[RawRow]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [{name: as_read(value) for name, value in row.items()} for row in csv.DictReader(file)]


def references_of(directory: Path, name: str) -> list[RawRow]:
    rows = rows_of(directory / f"{name}.csv")
    return [{column: None if value == r"\N" else value for column, value in row.items()} for row in rows]


def result_in(url: str) -> Result:
    """What the database holds, in the form of the second reading."""
    result = Result()
    with psycopg.connect(url, row_factory=dict_row) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        for name in TARGETS:
            target = SYSTEM.target(name)
            columns = dict.fromkeys(("id", *(column.name for column in target.columns)))
            kept = [column for column in columns if column != "id" or target.key_is_written]
            listed = sql.SQL(", ").join(sql.Identifier("t", column) for column in kept)
            statement = sql.SQL(
                "SELECT source_key AS _key, part AS _part, {} FROM padealing.{} AS t"
                " JOIN migration.mapping ON target_table = {} AND target_id = t.id::text"
            ).format(listed, sql.Identifier(name), name)
            for row in connection.execute(statement):
                result.rows[name][row.pop("_key"), row.pop("_part")] = row
            rejected = "SELECT source_key, reasons, partial FROM migration.rejected WHERE target_table = %s"
            result.rejected[name] = [
                Rejected(row["source_key"], tuple(row["reasons"]), row["partial"])
                for row in connection.execute(rejected, [name])
            ]
            for books in connection.execute("SELECT * FROM migration.accounting WHERE target_table = %s", [name]):
                dropped, coerced = Counter(books["dropped"]), Counter(books["coerced"])
                result.accounting[name] = Account(books["read"], books["migrated"], books["rejected"], dropped, coerced)
    return result


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sample")
    write_sample(directory, 60, 5)
    return directory


def expected(sample: Path, **decisions: str) -> Result:
    employees, securities, currencies = (
        references_of(sample / "target", name) for name in ("oracle_employee", "oracle_bloomberg", "currency")
    )
    rows = rows_of(sample / "personal_account_dealing.csv")
    return migrate(Inputs(rows, employees, securities, currencies, CUTOVER_AT, ZONE, decisions=decisions))


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_a_run_of_the_sample(sample, database_url, tmp_path, round_number):
    with psycopg.connect(database_url) as connection:
        create_target(connection, SYSTEM.targets)
        load_other_rows(connection, sample / "target", SYSTEM.tables_of_others)
    decisions = decided_in(round_number)
    (tmp_path / "decisions.yaml").write_text(json.dumps(decisions))
    settings = {
        "DECISIONS": str(tmp_path / "decisions.yaml"),
        "CUTOVER_AT": CUTOVER_AT.isoformat(),
        "LEGACY_TIMEZONE": ZONE,
        "BATCH_ROWS": "100",
    }
    done = pad(tmp_path, database_url, sample, **settings)("run", "pad")
    told = done.stdout + done.stderr
    assert query(database_url, "SELECT count(*) > 100 FROM padealing.pad_request") == [(True,)], told
    assert differences(result_in(database_url), expected(sample, **decisions)) == []


OTHER_OPTIONS = [(key, each) for key, options in OPTIONS.items() for each in options[1:]]


@pytest.mark.parametrize(("decision", "option"), OTHER_OPTIONS)
def test_each_option_makes_a_difference_to_the_sample(sample, decision, option):
    """So that a run under an option that did nothing would differ from the second reading."""
    assert differences(expected(sample, **{decision: option}), expected(sample))
