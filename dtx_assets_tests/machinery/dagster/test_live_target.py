"""What the live target cannot hold is known before the load: checks, gate, plan, page and exit code say so.

And what only a load can know turns its check red, and the exit code and the page with it.
"""

import pytest

from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED, EXIT_OK, EXIT_STEP_FAILED
from dtx_assets_tests.library.place import BOOKS, Library, red

IN_PREPARATION = "rejected/Book:no_book_row_is_rejected"
KIND = "Book/book/schema_violation"
SCHEMA = "rejected/Book:rows_satisfy_schemas"
BY_LOAD = "target/Book:no_row_is_rejected_by_the_load"
NARROW = "ALTER TABLE book ALTER pages TYPE smallint, ALTER title TYPE varchar(5)"


@pytest.fixture
def library(tmp_path, database_url, monkeypatch) -> Library:
    return Library(tmp_path, database_url, monkeypatch)


def test_rows_that_the_target_cannot_hold_are_in_the_way_before_anything_is_written(library):
    library.sql(NARROW)
    refused = library.cutover()
    assert refused.exit_code == EXIT_STEP_FAILED
    assert f"{KIND}: 2 rows are rejected: schema_violation" in refused.failures[0].message
    assert library.titles() == []
    assert library.verdict() == "no-go"
    plan = library.plan()
    assert plan.keys() == {KIND, "restore_point"}, "the rows are counted once, though two checks are red for them"
    assert plan[KIND] == "2 rows are rejected: schema_violation"

    rehearsal = library.run()
    assert rehearsal.exit_code == EXIT_CHECK_FAILED
    assert red(rehearsal) == {IN_PREPARATION: 2, SCHEMA: 2}
    facts = next(check.facts for check in rehearsal.checks if f"{check.asset}:{check.name}" == SCHEMA)
    assert "book: pages: does not fit into smallint" in facts
    assert "book: title: is longer than 5 characters" in facts
    [books] = [entry for entry in rehearsal.accounting if entry["source_table"] == "book"]
    assert (books["read"], books["migrated"], books["rejected"]) == (3, 1, 2)
    assert library.verdict() == "no-go"
    assert library.titles() == ["B"]

    # The target is mended: what was prepared for the narrow one is not taken for it.
    library.sql("ALTER TABLE book ALTER pages TYPE integer, ALTER title TYPE varchar(80)")
    mended = library.cutover()
    assert mended.exit_code == EXIT_OK, mended.failures
    assert library.titles() == ["A", "B", "Longer title"]
    assert library.verdict() == "go"


def test_a_row_of_others_in_the_way_turns_the_check_of_the_load_red(library):
    library.sql("INSERT INTO book (number, site_id, title) VALUES (2, 1, 'Somebody else''s')")
    assert library.plan()[BY_LOAD] == "would fail (1 found): book: target_conflict 1"
    outcome = library.run()
    assert outcome.exit_code == EXIT_CHECK_FAILED
    assert red(outcome) == {BY_LOAD: 1}
    assert library.verdict() == "no-go"
    refused = library.cutover(select="target/Book")
    assert refused.exit_code == EXIT_STEP_FAILED
    assert f"{BY_LOAD}: failed (1 found)" in refused.failures[0].message
    accepted = library.cutover({"no_row_is_rejected_by_the_load": "theirs stays"}, select="target/Book")
    assert (accepted.exit_code, red(accepted)) == (EXIT_CHECK_FAILED, {BY_LOAD: 1})
    library.sql("DELETE FROM book WHERE title LIKE 'Some%'")
    assert library.run(select="target/Book").exit_code == EXIT_OK
    assert library.cutover(select="target/Book").exit_code == EXIT_OK


def test_rows_are_prepared_without_a_target_and_a_cutover_asks_for_them_anew(library, monkeypatch):
    """Nobody can tell what a target holds that is not there: a load looks itself, and a cutover does not write."""
    assert library.run(select="+prepared/Book or rejected/Book").exit_code == EXIT_OK
    monkeypatch.setenv("LIBRARY_TARGET_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    alone = library.run(select="prepared/Book or rejected/Book")
    assert alone.exit_code == EXIT_OK
    monkeypatch.setenv("LIBRARY_TARGET_URL", library.url)
    library.sql(NARROW)
    refused = library.cutover(select="target/Book")
    assert refused.exit_code == EXIT_STEP_FAILED
    assert "the rows were prepared for another table than is there now" in refused.failures[0].message
    assert library.titles() == []
    rehearsal = library.run(select="target/Book")
    assert (rehearsal.exit_code, red(rehearsal)) == (EXIT_CHECK_FAILED, {BY_LOAD: 2})


def test_rows_are_prepared_where_the_tables_are_not_there_yet(library):
    library.sql("DROP TABLE book")
    outcome = library.run(select="+prepared/Book or rejected/Book")
    assert outcome.exit_code == EXIT_OK
    assert [entry["migrated"] for entry in outcome.accounting] == [len(BOOKS)]


def test_a_failed_load_is_what_its_run_ends_with(library):
    """Its checks may pass: a step that fails is no success of the run, whichever step ends last."""
    library.sql("ALTER TABLE book DROP COLUMN pages")
    assert library.run(select="+target/Book or +target/Reader").exit_code == EXIT_STEP_FAILED
    assert library.sql("SELECT status FROM migration.run") == [("failed",)]
