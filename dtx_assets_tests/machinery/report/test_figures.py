"""The figures of the bookkeeping: which runs count, what an empty database says, how rejected rows are grouped."""

import psycopg
import pytest

from dtx_assets.machinery.load.runs import connect, prepare_bookkeeping
from dtx_assets.machinery.report.figures import Figures, read_figures

RUNS = """
INSERT INTO migration.run (run_id, system, mode, status, started_at, decisions) VALUES
    ('old', 'zoo', 'rehearsal', 'succeeded', '2026-01-01', '{}'),
    ('new', 'zoo', 'rehearsal', 'succeeded', '2026-01-02', '{}'),
    ('canary', 'zoo', 'rehearsal', 'succeeded', '2026-01-03', '{}'),
    ('undone', 'zoo', 'rehearsal', 'rolled back', '2026-01-04', '{}'),
    ('other', 'park', 'rehearsal', 'succeeded', '2026-01-05', '{}');
INSERT INTO migration.flow (system, source_table, target_table, model) VALUES
    ('zoo', 'animal', 'zoo_animal', 'Animal'), ('park', 'animal', 'zoo_animal', 'Animal');
INSERT INTO migration.load (run_id, system, target_table, model, preparation, status, subset, counts) VALUES
    ('old', 'zoo', 'zoo_animal', 'Animal', '', 'succeeded', NULL, '{"inserted": 9, "unchanged": 1}'),
    ('new', 'zoo', 'zoo_animal', 'Animal', '', 'succeeded', NULL, '{"inserted": 2, "unchanged": 10, "adopted": 1}'),
    ('canary', 'zoo', 'zoo_animal', 'Animal', '', 'succeeded', 'first 5', '{"inserted": 1, "unchanged": 4}'),
    ('undone', 'zoo', 'zoo_animal', 'Animal', '', 'rolled back', NULL, '{"inserted": 100}'),
    ('other', 'park', 'zoo_animal', 'Animal', '', 'succeeded', NULL, '{"inserted": 50}');
INSERT INTO migration.accounting_entry (run_id, flow_id, read, migrated, rejected, dropped, coerced)
SELECT run_id, flow.id, read, read - 1, 0, '{"gone": 1}', '{}' FROM migration.flow JOIN (VALUES ('old', 'zoo', 11),
    ('new', 'zoo', 14), ('canary', 'zoo', 5), ('undone', 'zoo', 101), ('other', 'park', 51)) AS given (run_id, system,
    read) USING (system);
INSERT INTO migration.rejected_entry (opened_by, closed_by, flow_id, bucket, partial, found_by_load, occurrence, hash,
    source_key, reasons, detail, "row")
SELECT 1, closed, 1, 0, partial, false, 0, n, n::text, reasons::text[], detail, jsonb_build_object('animal_id', n)
FROM (VALUES (1, NULL, false, '{unparseable}', 'kind: x is no kind'), (2, NULL, false, '{unparseable}', 'kind: y'),
    (3, NULL, false, '{unparseable}', 'kind: y'), (4, NULL, false, '{unparseable}', 'kind: z'),
    (5, NULL, false, '{unparseable}', 'kind: w'), (6, 2, false, '{unparseable}', 'kind: y'),
    (7, NULL, true, '{unparseable}', 'kind: y'), (8, NULL, false, '{orphan_reference,unparseable}', 'two'))
    AS given (n, closed, partial, reasons, detail);
"""


@pytest.fixture
def url(database_url):
    with connect(database_url) as connection:
        prepare_bookkeeping(connection)
    with psycopg.connect(database_url) as connection:
        connection.execute(RUNS)
    return database_url


def test_a_database_without_bookkeeping_has_no_figures_and_stays_without(database_url):
    assert read_figures(database_url, "zoo") == Figures()
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT to_regnamespace('migration')").fetchone() == (None,)


def test_the_last_whole_run_counts_not_the_canary_nor_what_was_rolled_back_nor_other_systems(url):
    figures = read_figures(url, "zoo")
    assert [run.run_id for run in figures.runs] == ["undone", "canary", "new", "old"]
    [latest] = figures.latest().values()
    assert (latest.run_id, latest.read, latest.balances) == ("new", 14, True)
    # 13 that the last whole load found or made, and the one that the canary added to them.
    assert figures.owned == {"zoo_animal": 14}


def test_rejected_rows_are_grouped_by_reasons_with_the_most_frequent_details_first(url):
    figures = read_figures(url, "zoo")
    groups = {(group.reasons, group.partial): group for group in figures.rejected}
    assert {key: group.rows for key, group in groups.items()} == {
        (("unparseable",), False): 5,
        (("orphan_reference", "unparseable"), False): 1,
        (("unparseable",), True): 1,
    }
    group = groups[("unparseable",), False]
    assert group.all_kinds == 4
    assert [(kind.detail, kind.rows, kind.source_key) for kind in group.kinds] == [
        ("kind: y", 2, "2"),
        ("kind: x is no kind", 1, "1"),
        ("kind: z", 1, "4"),
    ]
    assert group.kinds[0].row == {"animal_id": 2}


def test_an_accounting_that_does_not_balance_says_so(url):
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE migration.accounting_entry SET migrated = migrated - 1 WHERE run_id = 'new'")
    [latest] = read_figures(url, "zoo").latest().values()
    assert not latest.balances
