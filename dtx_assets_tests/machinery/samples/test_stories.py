"""Ugly rows of several tables that belong together, told in `sample.yaml` without a line of code."""

import csv
from pathlib import Path

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.samples.write import write_sample
from dtx_assets_tests.machinery.samples.test_samples import said

TOLD = """\
own_ugly_only: true
ugly_rows:
  titles:
    - { title: [one, two], donor: null }
kinds:
  branch:
    let: { branch: { id: branch }, books: [] }
    rows:
      - { for: { title: books }, table: book, book_id: { id: book }, branch_id: { the: branch }, title: { the: title } }
      - { table: crosswalk_branch, branch_id: { the: branch } }
    gives: branch
  book:
    let: { number: { id: book } }
    rows: [{ table: book, book_id: { the: number }, branch_id: { new: branch }, genre: novel, donor: somebody }]
    gives: number
  thriller:
    rows: [{ new: book, genre: thriller }]
stories:
  listed:
    - { new: book, listed: titles }
  together:
    - { new: branch, books: [a, b], as: ours }
    - { new: thriller, branch_id: { the: ours }, title: { bytes: "caf\\xe9" } }
    - { new: book, branch_id: { the: ours }, as: same }
    - { new: book, book_id: { the: same }, branch_id: { the: ours }, times: 2 }
    - { set: { id: book, form: "{}.0" }, as: odd }
    - { table: book, book_id: { the: odd }, branch_id: { written: '""' } }
"""


def books(directory: Path) -> list[dict[str, str]]:
    with (directory / "book.csv").open(encoding="latin-1", newline="") as file:
        return [row for row in csv.DictReader(file) if row["book_id"].startswith("900")]


def test_stories_make_rows_of_kinds_with_ids_of_their_own(tmp_path):
    write_sample(said(tmp_path, TOLD), tmp_path / "out", rows=10)
    made = [(row["book_id"][-4:], row["branch_id"][-3:], row["title"], row["genre"]) for row in books(tmp_path / "out")]
    usual = made[4][2]
    assert made[:5] == [
        ("0001", "001", "one", "novel"),
        ("0002", "002", "two", "novel"),
        ("0003", "003", "a", made[2][3]),
        ("0004", "003", "b", made[2][3]),
        ("0005", "003", "caf\xe9", "thriller"),
    ]
    assert usual == "caf\xe9"
    # An id is counted for each row, whether it has that or is given another.
    assert [number for number, *_ in made[5:]] == ["0006", "0006", "0006", "09.0"]
    assert made[-1][1] == ""
    assert {row["donor"] for row in books(tmp_path / "out")[:2]} == {r"\N"}
    with (tmp_path / "out" / "crosswalk_branch.csv").open(newline="") as file:
        branches = [row["branch_id"] for row in csv.DictReader(file)]
    # A branch is made for a book that is given none, and only for that.
    assert branches[-3:] == ["900000001", "900000002", "900000003"]


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("- { new: book, listed", "- { new: bok, listed", 20, "there is no kind 'bok'"),
        ("listed: titles", "listed: title", 20, "there is no list of cells 'title'"),
        ("{ the: odd }", "{ the: even }", 27, "there is no name 'even'"),
        (
            "- { table: book, book_id: { the: odd",
            "- { table: boks, book_id: { the: odd",
            27,
            "there is no table 'boks'",
        ),
        ("branch_id: { written:", "branch: { written:", 27, "there is no column of book 'branch'"),
        ("{ written: '\"\"' }", "{ wrote: it }", 27, "a cell says neither `bytes` nor"),
        ("gives: number", "gives: numer", 12, "gives 'numer', which `let` does not name"),
        ("  listed:\n", "  1isted:\n  listed:\n", 19, "cannot be 'None'"),
    ],
)
def test_what_a_story_names_must_be_there(tmp_path, old, new, line, told):
    assert old in TOLD
    with pytest.raises(ConfigurationError) as error:
        write_sample(said(tmp_path, TOLD.replace(old, new, 1)), tmp_path / "out")
    assert told in str(error.value)
    assert f"sample.yaml:{line}\n" in str(error.value)
