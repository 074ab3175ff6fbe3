"""The figures of the bookkeeping: which runs count, what an empty database says, how rejected rows are grouped."""

import psycopg
import pytest

from dtx_assets.machinery.load.runs import prepare_bookkeeping
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.report.figures import Figures, read_figures, read_runs

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
    ('old', 'zoo', 'zoo_animal', 'Animal', '', 'succeeded', NULL, '{}'),
    ('new', 'zoo', 'zoo_animal', 'Animal', '', 'succeeded', NULL, '{}'),
    ('canary', 'zoo', 'zoo_animal', 'Animal', '', 'succeeded', 'first 5', '{}'),
    ('undone', 'zoo', 'zoo_animal', 'Animal', '', 'rolled back', NULL, '{}'),
    ('other', 'park', 'zoo_animal', 'Animal', '', 'succeeded', NULL, '{}');
INSERT INTO migration.batch (load_id, part, bucket_low, bucket_high, digest, columns, rows_inserted, rows_updated)
SELECT id, '', 0, 1, '', '{}', 10 * id, id FROM migration.load CROSS JOIN generate_series(1, 2);
INSERT INTO migration.part_list (digest, parts) VALUES (gen_random_uuid(), '{a,b}');
INSERT INTO migration.mapping_entry (lowest_id, highest_id, batch_id, part_list_id, flow_id, bucket, source_key)
VALUES (1, 2, 1, 1, 1, 0, 'both rows'), (2, 3, 1, 1, 1, 0, 'one of them too'), (8, 9, 10, 1, 2, 0, 'of the park');
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
    [latest] = figures.accounting
    assert (latest.read, latest.balances) == (14, True)


def test_of_each_run_it_is_known_what_it_read_and_wrote_but_of_one_that_was_undone_what_it_wrote(url):
    runs = {run.run_id: run for run in read_figures(url, "zoo").runs}
    assert {name: (run.read, run.rejected) for name, run in runs.items()} == {
        "old": (11, 0),
        "new": (14, 0),
        "canary": (5, 0),
        "undone": (None, None),
    }
    assert {name: (run.inserted, run.updated) for name, run in runs.items()} == {
        "old": (20, 2),
        "new": (40, 4),
        "canary": (60, 6),
        "undone": (80, 8),
    }
    assert {name: run.flows for name, run in runs.items() if not run.flows} == {"undone": ()}
    assert runs["new"].flows == (("animal", "zoo_animal"),)
    assert {name for name, run in runs.items() if run.limited} == {"canary"}


def test_of_each_run_that_wrote_and_of_each_cutover_it_is_known_what_it_wrote_into_which_model_and_what_was_undone(url):
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE migration.batch SET undone_at = '2026-01-09' WHERE load_id = 2 AND id % 2 = 0;"
            " UPDATE migration.batch SET rows_inserted = 0, rows_updated = 0 WHERE load_id IN (1, 3);"
            " UPDATE migration.run SET mode = 'cutover' WHERE run_id = 'old'"
        )
    loaded = {each.run_id: each for each in read_figures(url, "zoo").loaded}
    assert {name: (each.model, each.rows, each.undone) for name, each in loaded.items()} == {
        "old": ("Animal", 0, 0),
        "new": ("Animal", 44, 22),
        "undone": ("Animal", 88, 0),
    }
    assert [name for name, each in loaded.items() if each.undone_at] == ["new"]
    assert read_runs(url, "zoo", 1)[1] == read_figures(url, "zoo").loaded, "of all runs, however few are asked for"


def test_a_target_row_that_two_legacy_rows_became_is_one(url):
    assert read_figures(url, "zoo").owned == {"zoo_animal": 3}


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
    [latest] = read_figures(url, "zoo").accounting
    assert not latest.balances
