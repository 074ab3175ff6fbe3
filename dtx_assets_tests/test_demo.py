"""The demonstration: red, mended, green, cut over, undone, as it is written; short enough to be shown."""

import re

from dtx_assets_tests.pages import DOCS, run_page

SCREENS = 2
LINES_OF_A_SCREEN = 45


def test_the_demonstration_is_two_screens_long():
    assert len((DOCS / "demo.md").read_text().splitlines()) <= SCREENS * LINES_OF_A_SCREEN


def test_the_demonstration_runs_as_written(tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    said = run_page((DOCS / "demo.md").read_text(), folder)
    assert "the cutover is refused before anything is read" in said
    assert re.search(r"No-go: 35 in the way .*22 decisions to confirm, 7 actions to do, 4 kinds of rejected", said)
    assert "a demonstration goes into the embedded database alone" in said
    rows = re.findall(r"│ personal_account_dealing │ pad_request +│ +100 │ +(\d+) │ +(\d+) │ +0 │", said)
    assert rows == [("99", "1"), ("100", "0"), ("100", "0")], "red, green, cut over"
    first, second = (re.findall(rf"\[{step}/30\] .*", said) for step in (7, 8))
    assert "left" not in first[0], "no run was before it"
    assert re.search(r": \d+(\.\d)? s, about \d+ s left$", first[1]), first[1]
    assert "left" in second[1]
    green, night = ((folder / home / "report" / "cutover.html").read_text() for home in (".pad", "the-night"))
    assert "<title>Go: cutover of pad</title>" in green
    assert "The last cutover of a demonstration, of" in night
    assert "was rolled back" in night
    assert " cutover of a demonstration by " in said
    assert re.search(r"cutover +\| rolled back +\| t", said), "the database knows it too"
    for page in (green, night):
        assert (
            '<p class="notice" id="demonstration"><strong>A demonstration.</strong> demonstration.yaml stands' in page
        )
        assert "for a demonstration, by nobody" in page
