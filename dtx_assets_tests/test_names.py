"""Tables whose names Dagster does not take are run, selected, archived and shown like any others."""

import json

import psycopg
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.names import dagster_name, refuse_likenesses
from dtx_assets_tests.tutorial_system import DEFINITIONS, a_library

ODD = ("order-items", "sys$log", "has space", "dot.ted", "Übersicht", "system.profile", "注文", "a'b\"c", "x" * 64)
MAPPED = "book-list v.2"
CHANGES = {
    DEFINITIONS: {
        '    "book",\n    "catalogue",\n    ("book_id"': f'    "{MAPPED}",\n    "catalogue",\n    ("book_id"',
        "BRANCHES = ": "ODD = {name: LegacyTable(name, 'catalogue', ('id', 'note'), key=('id',)) for name in "
        + repr(ODD)
        + "}\nBRANCHES = ",
        'TABLES = {"book": BOOK}': f'TABLES = {{"{MAPPED}": BOOK, **ODD}}',
        '    "book",\n    "Book",\n': '    "new books",\n    "Book-copy",\n',
    },
    "mappings/library/Book.yaml": {"target: Book": "target: Book-copy", "  book:\n": f"  {MAPPED}:\n"},
    "mappings/library/archived.yaml": {
        "archived: {}": "archived:\n" + "".join(f"  {json.dumps(name)}: kept\n" for name in ODD)
    },
}


RENAMED_MODEL = dagster_name("Book-copy")
RENAMED = {
    "mappings/library/Book.yaml": "mappings/library/Book-copy.yaml",
    "legacy/book.csv": f"legacy/{MAPPED}.csv",
}


def test_a_run_of_tables_with_names_that_dagster_does_not_take(tmp_path, database_url):
    dtx = a_library(tmp_path, database_url, CHANGES, RENAMED)
    for name in ODD:
        (tmp_path / "legacy" / f"{name}.csv").write_text("id,note\n1,a note\n")
    done = dtx("run")
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"no_{dagster_name(MAPPED)}_row_is_rejected" in done.stdout
    page = (tmp_path / ".library" / "report" / "cutover.html").read_text()
    assert "Übersicht" in page
    assert f"Every row of {MAPPED} can be migrated" in page
    with psycopg.connect(database_url) as connection:
        assert connection.execute('SELECT count(*) FROM "new books"').fetchone() == (3,)
        assert connection.execute("SELECT source_table FROM migration.rejected").fetchall() == [(MAPPED,)]

    assert "a note" in dtx("archive", "query", "Übersicht", 'FROM "Übersicht"').stdout
    assert "unmapped_value" in dtx("explain", "--from", MAPPED, "4").stdout
    chosen = ("archive/has space", 'key:"library/archive/dot.ted"', "legacy/order-items", f"target/{RENAMED_MODEL}")
    done = dtx("run", "--select", " or ".join(chosen))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_name_has_one_likeness_and_that_of_a_likeness_is_itself():
    likenesses = [dagster_name(name) for name in ODD]
    assert likenesses[:3] == ["order_items_89455f", "sys_log_26dd3d", "has_space_47b5c3"]
    assert len(set(likenesses)) == len(ODD)
    assert [dagster_name(name) for name in likenesses] == likenesses
    assert dagster_name("repo_file") == "repo_file"


@pytest.mark.parametrize("names", [("order-items", "order_items_89455f"), ("book", "book"), ("a/b",), ("",), ("..",)])
def test_names_that_would_be_one_asset_or_none_are_refused(names):
    with pytest.raises(ConfigurationError) as told:
        refuse_likenesses("legacy table", names)
    assert told.value.where == f"legacy table {names[-1]!r}"
    assert told.value.remedy
