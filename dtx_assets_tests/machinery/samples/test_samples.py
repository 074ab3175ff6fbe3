"""What a sample holds, and what `sample.yaml` says of it: looked at without a migration."""

from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import polars as pl
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.samples import write as write_module
from dtx_assets.machinery.samples.rows import Rows, functions_of, join, php
from dtx_assets.machinery.samples.sample import Sample
from dtx_assets.machinery.samples.ugly import Fate, UglyRows
from dtx_assets.machinery.samples.write import write_sample
from dtx_assets.machinery.system.system import System
from dtx_assets_tests.machinery.declare.test_folder import made


def donor(rows: Rows) -> pl.Expr:
    return join("donor ", rows.position)


def lost_books(ugly: UglyRows) -> None:
    for cells in ugly.listed("lost"):
        ugly.add_row("book", cells)


FUNCTIONS = {"donor": donor, "lost_books": lost_books}
SAID = """\
tables:
  book:
    share: 2
    columns:
      title: { values: { Moss: 3, Snow: 1 }, null: 0 }
      donor: { by: donor }
  shelf: { rows: 3, columns: { place: { of: book.book_id } } }
  crosswalk_branch: { rows: 5 }
ugly: [lost_books]
ugly_rows:
  lost:
    - { title: [gone, { bytes: "caf\\xe9" }], donor: null }
"""


def said(directory: Path, text: str = SAID) -> System:
    system = made(directory)
    (directory / "mappings" / "library" / "sample.yaml").write_text(text)
    return replace(system, sample_functions=FUNCTIONS)


def test_what_is_said_of_columns_counts(tmp_path):
    sample = Sample(said(tmp_path), rows=400)
    assert {name: sample.size(name) for name in ("book", "shelf", "crosswalk_branch", "Site")} == {
        "book": 800,
        "shelf": 3,
        "crosswalk_branch": 5,
        "Site": 400,
    }
    books = sample.frame("book", 0, 800)
    titles = Counter(books["title"])
    assert titles.keys() == {"Moss", "Snow"}
    assert 500 < titles["Moss"] < 700
    assert books["donor"].to_list() == [f"donor {number}" for number in range(800)]
    assert books["book_id"].n_unique() == 800
    branches = sample.frame("crosswalk_branch", 0, 5)
    assert set(books["branch_id"]) == set(branches["branch_id"])
    assert set(branches["site_id"]) <= set(sample.frame("Site", 0, 400)["id"])
    assert set(sample.frame("shelf", 0, 3)["place"]) <= set(books["book_id"])


def test_functions_of_a_module_are_those_that_it_defines_for_others():
    assert functions_of(import_module("dtx_assets.dtx.sample_rows")).keys() >= {"notification", "write_files"}
    found = functions_of(import_module(lost_books.__module__))
    assert {"donor", "lost_books", "said"} <= found.keys()
    assert not {"join", "made", "_private"} & found.keys()


def _private() -> None:
    """None of them."""


def test_php_values_are_written_as_php_does():
    frame = pl.DataFrame({"name": ["Acme", "Caf\u00e9"]})
    as_list = php(pl.concat_list("name", "name"))
    assert frame.select(as_list.alias("x"))["x"].to_list() == [
        'a:2:{i:0;s:4:"Acme";i:1;s:4:"Acme";}',
        'a:2:{i:0;s:5:"Caf\u00e9";i:1;s:5:"Caf\u00e9";}',
    ]
    assert frame.select(php(pl.struct("name")).alias("x"))["x"][0] == 'a:1:{s:4:"name";s:4:"Acme";}'


def test_functions_add_ugly_rows(tmp_path):
    write_sample(said(tmp_path), tmp_path / "out", rows=10)
    lines = (tmp_path / "out" / "book.csv").read_bytes().splitlines()
    assert lines[-2].endswith(b",gone,novel,\\N")
    assert lines[-1].endswith(b",caf\xe9,novel,\\N")


def test_any_slice_of_a_table_is_the_same(tmp_path, monkeypatch):
    system = made(tmp_path)
    sample = Sample(system, rows=300, seed=5)
    assert sample.frame("book", 0, 300).slice(120, 40).equals(sample.frame("book", 120, 40))
    assert not sample.frame("book", 0, 300).equals(Sample(system, rows=300, seed=6).frame("book", 0, 300))
    write_sample(system, tmp_path / "one", rows=300, seed=5)
    monkeypatch.setattr(write_module, "SLICE", 70)
    write_sample(system, tmp_path / "two", rows=300, seed=5)
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path.name


def test_a_share_of_the_rows_is_spoilt_by_what_rejects_them(tmp_path):
    system = made(tmp_path)
    clean, spoilt = (Sample(system, 2_000, ugly_share=share).frame("book", 0, 2_000) for share in (0.0, 0.2))
    changed = sum(one != other for one, other in zip(clean.iter_rows(), spoilt.iter_rows(), strict=True))
    assert 340 < changed < 460
    assert clean["book_id"].equals(spoilt["book_id"])


def test_a_drop_rule_has_its_row_and_takes_no_other(tmp_path):
    rules = """\
    dropped: { book_id: the legacy key }
    drop:
      - { rule: weeded, only: { column: genre, equals: weeded } }
      - { rule: nowhere, only: [{ column: donor, is: missing }, { column: title, equals: Nothing }] }
"""
    changes = {"    dropped: { book_id: the legacy key }\n": rules, "    undecided: { donor: who may know? }\n": ""}
    system = made(tmp_path, {"Book.yaml": changes})
    sample = Sample(system, rows=50)
    cases = [case for case in sample.cases("book") if case.fates["Book"].fate == "nowhere"]
    assert [dict(case.cells) for case in cases] == [{"donor": None, "title": "Nothing"}]
    assert sample.frame("book", 0, 50)["donor"].null_count() == 0, "a plausible row might be dropped"
    weeded = [case for case in sample.cases("book") if case.fates["Book"] == Fate("weeded")]
    assert [dict(case.cells) for case in weeded] == [{"genre": "weeded"}]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  book:\n", "  books:\n", "sample.yaml:2: there is no 'books'"),
        ("title: {", "titel: {", "sample.yaml:5: book has no column 'titel'"),
        ("by: donor", "by: doner", "sample.yaml:6: there is no function 'doner'"),
        ("book.book_id", "book.id", "sample.yaml:7: there is no column 'book.id'"),
        ("null: 0 }", "below: 3 }", "sample.yaml:5: says values and below"),
        ("null: 0 }", "days: 3 }", "sample.yaml:5: `days` says nothing here"),
        ("null: 0 }", "null: 2 }", "sample.yaml:5: 'null' cannot be '2'"),
        ("share: 2", "shares: 2", "sample.yaml:3: unknown key 'shares'"),
        ("ugly: [lost_books]", "ugly: [lost]", "sample.yaml:9: there is no function 'lost'"),
        ("{ bytes:", "{ octets:", "sample.yaml:12: a cell says neither `bytes` nor"),
    ],
)
def test_what_is_wrong_with_the_file_is_told_with_its_line(tmp_path, old, new, told):
    assert old in SAID
    system = said(tmp_path, SAID.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as error:
        write_sample(system, tmp_path / "out")
    where, _, what = told.partition(": ")
    assert what in str(error.value)
    assert f"{where}\n" in str(error.value)
    assert not (tmp_path / "out").exists()
