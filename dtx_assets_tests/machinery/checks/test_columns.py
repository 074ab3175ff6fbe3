"""The checks of mapped columns find what preparing rejects, each by its column, without a line of code."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.checks import columns
from dtx_assets.machinery.checks.own import Checks, Find, Look
from dtx_assets.machinery.checks.spec import CheckContext, CheckGroup, CheckOutcome
from dtx_assets.machinery.checks.standard import check_groups
from dtx_assets.machinery.declare.folder import system_from_folder
from dtx_assets.machinery.prepare.preparation import RunSettings, prepare_flow
from dtx_assets.machinery.system.system import System

FILES = {
    "tables.yaml": """\
areas: { catalogue: "Area 1: Catalogue" }
tables:
  book:
    key: [book_id]
    columns:
      book_id: integer
      title: text
      Genre: code
      donor: { kind: text, personal: true }
      pages: integer
      added: time
      note: text
      remark: text
      state: code
""",
    "targets.yaml": """\
targets:
  Book:
    table: book
    natural_key: [number]
    columns:
      number: bigint
      title: { type: text, length: 5 }
      genre: { type: text, allowed: [fiction, science] }
      place: { type: text, allowed: [here, there] }
      donor: { type: text, nullable: true, length: 12 }
      pages: { type: smallint, nullable: true }
      added: { type: timestamptz, nullable: true }
      note: { type: text, nullable: true }
      remark: { type: text, nullable: true }
""",
    "decisions.yaml": """\
decisions:
  - { key: rows, area: 1, number: "1", title: Rows, text: A row for a row., status: documented }
""",
    "genre.csv": "legacy,genre\nnovel,fiction\n",
    "archived.yaml": "archived: {}\n",
    "Book.yaml": """\
target: Book
decision: "A1 #1"
sources:
  book:
    columns:
      number: { from: book_id, transform: integer }
      title: { from: title }
      genre: { from: Genre, value_map: genre, output: genre }
      place: { from: state }
      donor: { from: donor }
      pages: { from: pages, transform: integer }
      added: { from: added, transform: timestamp, with: { invalid: "null" } }
      note: { from: note }
      remark: { from: remark }
    drop: [{ rule: withdrawn, only: { column: state, equals: gone } }]
    require: state
""",
}
ROW = {
    "book_id": "1",
    "title": "Dune",
    "Genre": "Novel",
    "donor": "Anna",
    "pages": "12",
    "added": "2020-01-01 00:00:00",
    "note": None,
    "remark": None,
    "state": "here",
}
Row = Mapping[str, str | None]


def made(directory: Path, *rows: Row, checks: Checks | None = None, **files: str) -> tuple[System, CheckContext]:
    """The system, and its one table with rows that are like ROW but for what they say."""
    mappings = directory / "mappings" / "library"
    mappings.mkdir(parents=True)
    for name, content in {**FILES, **{f"{model}.yaml": text for model, text in files.items()}}.items():
        (mappings / name).write_text(content)
    system = system_from_folder("library", mappings, code_dir=directory, checks=checks)
    lake = Lake(str(directory / "lake"))
    undecodable = pl.List(pl.Struct({"column": pl.String, "bytes": pl.Binary}))
    wrong = [[{"column": "remark", "bytes": b"\xff"}] if row.get("remark") == "\ufffd" else None for row in rows]
    with lake.write(("library", "legacy", "book"), run_id="run") as writer:
        frame = pl.DataFrame(
            [{**ROW, "book_id": str(number), **row} for number, row in enumerate(rows, 1)],
            dict.fromkeys(ROW, pl.String),
        )
        writer.add(
            frame.with_columns(
                pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("_row"),
                pl.Series("_undecodable", wrong, undecodable),
            )
        )
        writer.metadata.update(
            dialect="database",
            columns=list(ROW),
            source="book",
            source_digest=None,
            source_rows=len(rows),
            undecodable_values=sum(map(bool, wrong)),
        )
    settings = SimpleNamespace(legacy_timezone="UTC", cutover_at=None, batch_rows=1000, home=directory)
    return system, CheckContext(lake, system, system.decisions, system.mappings.value_maps, settings)


def derived(system: System) -> CheckGroup:
    """The derived checks of the table, and its own."""
    [group] = [group for group in check_groups(system) if group.asset == ("legacy", "book")]
    specs = tuple(spec for spec in group.specs if spec.name.endswith(("_be_read", "_be_kept", "_mine")))
    return replace(group, specs=specs)


def outcomes(system: System, context: CheckContext) -> dict[str, CheckOutcome]:
    group = derived(system)
    evaluated = group.evaluate(context)
    return {spec.name: evaluated[spec.name] for spec in group.specs}


def failed(of: Mapping[str, CheckOutcome]) -> dict[str, int]:
    return {name: outcome.count for name, outcome in of.items() if not outcome.passed}


BAD: list[tuple[Row, str, str]] = [
    ({"book_id": "one"}, "book_id_can_be_read", "unparseable"),
    ({"title": None}, "title_can_be_read", "NULL"),
    ({"title": "Ulysses"}, "title_can_be_read", "longer than 5 characters"),
    ({"title": "a\x00b"}, "title_can_be_read", "no text"),
    ({"Genre": "essay"}, "genre_can_be_read", "unmapped_value"),
    ({"Genre": None}, "genre_can_be_read", "unmapped_value"),
    ({"state": "away"}, "state_can_be_read", "no allowed value"),
    ({"donor": "Anna of the Valley"}, "donor_can_be_read", "longer than 12 characters"),
    ({"pages": "many"}, "pages_can_be_read", "unparseable"),
    ({"pages": "40000"}, "pages_can_be_read", "no smallint"),
    ({"note": "\x00"}, "texts_can_be_kept", "note: no text"),
    ({"remark": "\ufffd"}, "texts_can_be_kept", "remark: no text"),
    ({"state": None}, "state_can_be_read", "NULL"),
]


def test_each_column_that_can_fail_has_one_check_and_sound_rows_pass_them_all(tmp_path):
    system, context = made(tmp_path, {}, {"pages": None, "donor": None})
    group = derived(system)
    assert {spec.name: spec.severity for spec in group.specs} == {
        "book_id_can_be_read": "ERROR",
        "title_can_be_read": "ERROR",
        "genre_can_be_read": "ERROR",
        "donor_can_be_read": "ERROR",
        "pages_can_be_read": "ERROR",
        "added_can_be_read": "WARN",
        "texts_can_be_kept": "ERROR",
        "state_can_be_read": "ERROR",
    }
    assert failed(outcomes(system, context)) == {}
    [title] = [spec for spec in group.specs if spec.name == "title_can_be_read"]
    assert title.description == (
        "Every value of title can be mapped to Book.title."
        " What rejects its row: no text, NULL, longer than 5 characters."
    )
    assert not any(spec.closes_gate for spec in group.specs)


@pytest.mark.parametrize(("row", "check", "why"), BAD, ids=[f"{check}-{why}" for _, check, why in BAD])
def test_a_value_that_fails_fails_the_check_of_its_column_alone(tmp_path, row, check, why):
    system, context = made(tmp_path, {}, row)
    found = outcomes(system, context)
    assert failed(found) == {check: 1}
    assert found[check].severity is None
    assert found[check].metadata["rejected for"] == {why: 1}
    [example] = found[check].metadata["examples"]
    assert example["key"] == row.get("book_id", "2")
    assert "Valley" not in str(found[check].metadata)


def test_what_is_found_is_what_preparing_rejects(tmp_path):
    rows = [row for row, _, _ in BAD]
    system, context = made(tmp_path, {}, *rows, {"pages": "x", "state": "gone"}, {"added": "never"})
    now = datetime(2026, 1, 1, tzinfo=UTC)
    [flow] = system.flows
    with context.lake.write(("library", "mapping", "genre"), run_id="run") as writer:
        writer.add(system.mappings.value_maps["genre"])
    prepare_flow(flow, RunSettings("run", system, context.settings, system.decisions, now, context.lake))
    rejected = context.rejected("Book").select("source_key", "reasons").collect()
    assert rejected.height == len(rows)
    found = {name: outcome for name, outcome in outcomes(system, context).items() if outcome.severity is None}
    assert sum(failed(found).values()) == rejected.height
    assert rejected["source_key"].sort().to_list() == sorted(
        row.get("book_id") or str(number) for number, row in enumerate(rows, 2)
    )


def test_values_are_shown_with_their_numbers_but_not_those_of_personal_columns(tmp_path):
    system, context = made(tmp_path, {"pages": "x"}, {"pages": "x"}, {"pages": "y"}, {"donor": "Anna of the Valley"})
    found = outcomes(system, context)
    assert found["pages_can_be_read"].metadata["values rejected"] == {"x": 2, "y": 1}
    assert found["donor_can_be_read"].metadata.keys() == {"rejected for", "examples"}


def test_values_that_are_changed_are_shown_and_warn_above_the_threshold(tmp_path):
    few, context = made(tmp_path / "few", *([{}] * 100), {"added": "0000-00-00 00:00:00"})
    outcome = outcomes(few, context)["added_can_be_read"]
    assert (outcome.passed, outcome.count) == (True, 0)
    assert outcome.metadata["changed for"] == {"zero_date": 1}
    many, context = made(tmp_path / "many", *([{}] * 90), {"added": "never"})
    outcome = outcomes(many, context)["added_can_be_read"]
    assert (outcome.passed, outcome.count, outcome.severity) == (False, 1, "WARN")
    assert outcome.metadata["values changed"] == {"never": 1}


def test_rows_that_a_rule_drops_are_nobodys_problem(tmp_path):
    system, context = made(tmp_path, {"pages": "x", "title": None, "state": " Gone"})
    assert failed(outcomes(system, context)) == {}


def test_what_may_be_left_out_before_warns_only(tmp_path):
    by_value = FILES["Book.yaml"].replace("column: state, equals: gone", "value: genre, equals: fiction")
    system, context = made(tmp_path, {"pages": "x"}, Book=by_value)
    [spec] = [spec for spec in derived(system).specs if spec.name == "pages_can_be_read"]
    assert spec.severity == "WARN"
    assert "leaves out later" in spec.description
    assert failed(outcomes(system, context))["pages_can_be_read"] == 1


def test_an_own_check_takes_the_place_of_those_that_it_replaces(tmp_path):
    checks = Checks()

    @checks.on("legacy/book", replaces=("pages", "added"))
    def books_are_mine(look: Look) -> Find:
        """They are."""
        return Find(pl.col("pages").is_null())

    @checks.on("legacy/book")
    def genre_can_be_read(look: Look) -> Find:
        """One of the same name is the same check."""
        return Find(pl.lit(False))

    system, context = made(tmp_path, {"pages": "x", "Genre": "?"}, checks=checks)
    found = outcomes(system, context)
    assert "books_are_mine" in found
    assert found.keys() & {"pages_can_be_read", "added_can_be_read"} == set()
    assert found["genre_can_be_read"].passed


def test_what_is_replaced_must_be_there(tmp_path):
    checks = Checks()
    checks.on("legacy/book", replaces="page", name="is_mine", description="x")(lambda look: None)
    system, _ = made(tmp_path, {}, checks=checks)
    with pytest.raises(ConfigurationError, match="did you mean 'pages'"):
        check_groups(system)


def test_a_table_with_many_columns_that_can_fail_has_one_check_for_all(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "MOST", 3)
    system, context = made(tmp_path, {}, {"pages": "x", "title": None})
    found = outcomes(system, context)
    assert found.keys() == {"columns_can_be_read"}
    assert failed(found) == {"columns_can_be_read": 1}
    assert found["columns_can_be_read"].metadata["rejected for"] == {"title: NULL": 1, "pages: unparseable": 1}
    assert found["columns_can_be_read"].metadata["values rejected"] == {"title = NULL": 1, "pages = x": 1}
