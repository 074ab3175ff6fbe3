"""What the README shows and where it leads: two screens, and a rehearsal that runs as it stands."""

import re

from dtx_assets_tests.pages import DOCS, PROJECT, run_page

SCREENS = 2
LINES_OF_A_SCREEN = 45


def test_the_readme_is_two_screens_long():
    assert len((PROJECT / "README.md").read_text().splitlines()) <= SCREENS * LINES_OF_A_SCREEN


def test_the_bad_inputs_are_as_many_as_it_says():
    cases = re.findall(r"(?m)^\| .* \| [0-9, ]+ \|$", (DOCS / "bad-inputs.md").read_text())
    assert f"[{len(cases)} bad inputs]" in (PROJECT / "README.md").read_text()


def test_the_rehearsal_runs_as_written(tmp_path):
    folder = tmp_path / "rehearsal"
    folder.mkdir()
    said = run_page((DOCS / "rehearse.md").read_text(), folder)
    assert "would be undone" in said
    [before, loaded, delta] = [(folder / f"{name}.txt").read_text() for name in ("before", "loaded", "delta")]
    assert len({before, loaded, delta}) == 3
    assert re.search(r"docutrax_utils_emailtemplate\|[1-9]", loaded)
