"""A system by hand: what a reader writes and types works from an empty folder, and shows what it says."""

import re

from dtx_assets_tests.pages import DOCS, run_page


def test_the_page_works_from_an_empty_folder(tmp_path):
    folder = tmp_path / "library"
    folder.mkdir()
    said = run_page((DOCS / "a-system-by-hand.md").read_text(), folder)
    assert "Ready." in said
    assert re.search(r"│ book +│ book +│ +4 │ +3 │ +1 │ +0 │", said), said
    assert re.search(r"│ book +│ book +│ +4 │ +4 │ +0 │ +0 │", said), "the replay brings the rejected row"
    assert re.search(r"no_book_row_is_rejected +│ rejected/Book +│ +1 │ ERROR", said)
    assert re.search(r"books_left\s*\n-+\n +0\n", said)
    page = (folder / "cutover.html").read_text()
    assert "Book" in page
    assert "anna@donors.example" not in page + said
