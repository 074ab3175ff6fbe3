"""Indexes made after a first load, as people ask for it: by a variable, with a restore point, and told."""

import dagster as dg
import pytest

from dtx_assets.machinery.base.exit_codes import EXIT_OK, EXIT_STEP_FAILED
from dtx_assets.machinery.dagster.run import open_instance
from dtx_assets.machinery.load import indexes_after
from dtx_assets_tests.library.place import Library

INDEXES = "SELECT indexdef FROM pg_indexes WHERE tablename = 'book' ORDER BY 1"
MADE_AFTER = "foreign key book_site_id_fkey, index book_site_id, index by_title"


@pytest.fixture
def library(tmp_path, database_url, monkeypatch) -> Library:
    monkeypatch.setattr(indexes_after, "LEAST_ROWS", 1)
    monkeypatch.setenv("LIBRARY_INDEXES_AFTER_LOAD", "true")
    library = Library(tmp_path, database_url, monkeypatch)
    library.sql("CREATE INDEX by_title ON book (title)")
    return library


def told_of_books(library: Library, *key: str) -> dict[str, object]:
    with open_instance(library.home) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["library", *key]))
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_it_asks_for_a_restore_point_before_anything_is_read_and_is_told_where_the_load_is(library):
    refused = library.run()
    assert refused.exit_code == EXIT_STEP_FAILED
    [failure] = refused.failures
    assert "no restore point of the target database is named" in failure.message
    assert "at: LIBRARY_INDEXES_AFTER_LOAD" in failure.message
    assert not list(library.home.rglob("*.parquet"))
    assert library.sql("SELECT to_regclass('migration.run')") == [(None,)]

    # A plan writes nothing, so that it is asked for nothing, and says what a run would do.
    notes = library.run("library_plan", mode="cutover").plan["notes"]
    assert [note for note in notes if note.startswith("Book")] == [
        f"Book, loaded into an empty table: made after it are {MADE_AFTER}, unless they would not come back as they are"
    ]

    before = library.sql(INDEXES)
    loaded = library.run(restore_point="snap")
    assert loaded.exit_code == EXIT_OK, loaded.failures
    assert told_of_books(library, "target", "Book")["made after the load"] == MADE_AFTER
    assert library.sql(INDEXES) == before
    assert library.sql("SELECT restore_point, indexes_after FROM migration.run") == [("snap", True)]

    library.run(restore_point="snap")
    assert "made after the load" not in told_of_books(library, "target", "Book")
