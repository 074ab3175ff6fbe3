"""Checks as decorated functions: what each form shows, what they share, and what is refused when a system loads."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import psycopg
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.base.yaml_file import Findings, YamlFile
from dtx_assets.machinery.checks import own
from dtx_assets.machinery.checks.own import Asking, Checks, Count, Find, Look, Values, groups_of
from dtx_assets.machinery.checks.spec import CheckContext, CheckOutcome, found
from dtx_assets.machinery.checks.standard import check_groups
from dtx_assets.machinery.checks.survey import Survey
from dtx_assets.machinery.checks.written import own_checks
from dtx_assets.machinery.code_location.definitions import build_definitions
from dtx_assets.machinery.mapping.checks import read_checks
from dtx_assets.machinery.mapping.validate import Known
from dtx_assets.machinery.mapping.value_map import ValueMap
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.transforms.columns import integer_value
from dtx_assets_tests.library.definitions import SYSTEM
from dtx_assets_tests.pages import BLOCK, DOCS

BOOKS = [
    {"book_id": "1", "branch_id": "7", "title": "Dune", "pages": "600", "added": None},
    {"book_id": "2", "branch_id": "7", "title": "Emma", "pages": "400", "added": None},
    {"book_id": "3", "branch_id": "8", "title": "Emma", "pages": None, "added": None},
]


def context(directory: Path, rows: Sequence[Mapping[str, str | None]] = BOOKS, **changes: Any) -> CheckContext:
    lake = Lake(str(directory / "lake"))
    with lake.write(("library", "legacy", "book"), run_id="run") as writer:
        frame = pl.DataFrame(list(rows), schema=dict.fromkeys(rows[0], pl.String))
        writer.add(frame.with_row_index("_row", 1).with_columns(pl.col("_row").cast(pl.Int64)))
        writer.metadata.update(dialect="database", columns=list(rows[0]), source="book")
    made = CheckContext(lake, SYSTEM, SYSTEM.decisions, {}, SimpleNamespace())
    return replace(made, **changes)


def outcomes(checks: Checks, look_at: CheckContext) -> dict[str, CheckOutcome]:
    [group] = groups_of(checks.of(look_at.system))
    return group.evaluate(look_at)


def test_a_find_fails_with_rows_keys_and_values(tmp_path):
    checks = Checks()

    @checks.on("legacy/book", "ERROR", blocking=True)
    def books_are_short(look: Look) -> Find:
        """No book has more than
        300 pages."""
        long = integer_value(pl.col("pages")) > 300
        return Find(long, show=("title",), values={"titles": pl.col("title")}, all_values={"all": pl.col("title")})

    [group] = groups_of(checks.of(SYSTEM))
    [spec] = group.specs
    assert (spec.name, spec.asset, spec.severity, spec.blocking) == (
        "books_are_short",
        ("legacy", "book"),
        "ERROR",
        True,
    )
    assert spec.description == "No book has more than 300 pages."
    assert group.needs == (("legacy", "book"),)
    found_rows = group.evaluate(context(tmp_path))["books_are_short"]
    assert (found_rows.passed, found_rows.count) == (False, 2)
    assert found_rows.metadata == {
        "titles": {"Dune": 1, "Emma": 1},
        "all": {"Emma": 2, "Dune": 1},
        "examples": [{"key": "1", "title": "Dune"}, {"key": "2", "title": "Emma"}],
    }
    assert group.evaluate(context(tmp_path / "short", [{**BOOKS[0], "pages": "3"}]))["books_are_short"].passed


def test_distinct_values_are_counted_where_they_are_what_is_to_be_mended(tmp_path):
    checks = Checks()

    @checks.on("legacy/book")
    def titles_are_known(look: Look) -> Find:
        """Every title is Dune."""
        title = pl.col("title")
        return Find(title != "Dune", values={"titles": title}, distinct=True, facts={"do": "rename"}, show=title)

    outcome = outcomes(checks, context(tmp_path))["titles_are_known"]
    assert (outcome.passed, outcome.count) == (False, 1)
    assert outcome.metadata["rows"] == 2
    assert outcome.metadata["do"] == "rename"
    assert [example["key"] for example in outcome.metadata["examples"]] == ["2", "3"]


def test_what_is_counted_beside_and_how_bad_it_is_stand_with_the_find(tmp_path):
    checks = Checks()

    @checks.on("legacy/book", "ERROR")
    def pages_are_told(look: Look) -> Find:
        """They are."""
        counts = {"books": pl.lit(True), "long": integer_value(pl.col("pages")) > 500}
        return Find(pl.col("pages").is_null(), counts=counts, severity="WARN")

    outcome = outcomes(checks, context(tmp_path))["pages_are_told"]
    assert (outcome.count, outcome.severity) == (1, "WARN")
    assert (outcome.metadata["books"], outcome.metadata["long"]) == (3, 1)


def test_personal_columns_and_what_a_check_names_are_masked_and_so_is_what_nobody_declared(tmp_path):
    checks = Checks()
    book = replace(SYSTEM.legacy_tables["book"], personal=frozenset({"title"}))
    system = replace(SYSTEM, legacy_tables={**SYSTEM.legacy_tables, "book": book})

    @checks.on("legacy/book")
    def nothing_is_there(look: Look) -> Find:
        """There is no book."""
        branch = pl.col("branch_id").alias("where")
        return Find(pl.lit(True), show=("title", branch, "note", "pages"), masked=("where",))

    rows = [{**BOOKS[0], "branch_id": "Main Street", "note": "for Anna"}]
    [group] = groups_of(checks.of(system))
    [example] = group.evaluate(context(tmp_path, rows, system=system))["nothing_is_there"].metadata["examples"]
    assert example["pages"] == "600"
    shown = str(example)
    assert [word for word in ("Dune", "Main", "Anna") if word in shown] == []


def test_checks_about_the_same_rows_share_a_pass_and_what_they_ask_next_is_asked_together(tmp_path, monkeypatch):
    checks = Checks()
    asked: list[int] = []

    def branches(look: Look) -> pl.LazyFrame:
        return look.legacy("book").group_by("branch_id").len("books")

    @checks.on("legacy/book")
    def one(look: Look) -> Find:
        """One."""
        return Find(pl.col("title") == "Emma")

    @checks.on("legacy/book")
    def two(look: Look) -> Asking:
        """Two."""
        answers = yield {"long": Count(pl.col("pages") == "600"), "titles": [Values(pl.col("title"))]}
        again = yield Count(pl.col("title") == answers["titles"][0]["value"][0])
        return found(answers["long"] + again)

    @checks.on("legacy/book")
    def three(look: Look) -> Asking:
        """Three."""
        first = yield Count(pl.lit(True))
        second = yield Find(pl.col("branch_id") == "8"), Count(pl.lit(False))
        return found(first + second[0].count + second[1])

    @checks.on("legacy/book", rows=branches)
    def four(look: Look) -> Find:
        """Four."""
        return Find(pl.col("books") > 1, show=("books",))

    @checks.on("legacy/book", rows=branches)
    def five(look: Look) -> CheckOutcome:
        """Five."""
        return found(look.rows.select(pl.len()).collect().item())

    class Counted(Survey):
        def answers(self):
            asked.append(len(self._whens) + len(self._values))
            return super().answers()

    monkeypatch.setattr(own, "Survey", Counted)
    got = outcomes(checks, context(tmp_path))
    assert {name: outcome.count for name, outcome in got.items()} == {
        "one": 2,
        "two": 3,
        "three": 4,
        "four": 1,
        "five": 2,
    }
    assert got["four"].metadata["examples"] == [{"key": "7", "books": "2"}]
    assert asked == [4, 1, 3]


def test_a_check_may_say_how_bad_it_is(tmp_path):
    checks = Checks()

    @checks.on("legacy/book")
    def is_bad(look: Look) -> CheckOutcome:
        """It is not."""
        return CheckOutcome(False, 1, severity="ERROR")

    assert outcomes(checks, context(tmp_path))["is_bad"].severity == "ERROR"


def test_one_function_may_be_the_check_of_several_assets_and_parts_are_put_together():
    first, second = Checks(), Checks(irrelevant_decisions=lambda _: ("none",))

    @first.on("legacy/book", needs="legacy/reader")
    @first.on("legacy/reader", "ERROR", name="readers_are_plain", description="They are.")
    def names_are_plain(look: Look) -> CheckOutcome:
        """It is."""
        return found(0, of=look.asset[1])

    @second.on("legacy/book")
    def other(look: Look) -> CheckOutcome:
        """Other."""
        return found(0)

    groups = {group.asset[1]: group for group in groups_of(Checks(first, second).of(SYSTEM))}
    assert [spec.name for spec in groups["book"].specs] == ["names_are_plain", "other"]
    assert groups["book"].needs == (("legacy", "book"), ("legacy", "reader"))
    assert [(spec.name, spec.description, spec.severity) for spec in groups["reader"].specs] == [
        ("readers_are_plain", "They are.", "ERROR")
    ]
    made = groups["book"].evaluate(CheckContext(None, SYSTEM, SYSTEM.decisions, {}, None))  # type: ignore[arg-type]
    assert made["names_are_plain"].metadata == {"of": "book"}


@pytest.mark.parametrize(
    ("asset", "options", "told"),
    [
        ("legacy/bok", {}, "looks at legacy/bok, which there is not"),
        ("legacy/book", {"needs": "mapping/sites"}, "did you mean 'site'"),
        ("lagacy/book", {}, "layers: legacy, crosswalk"),
        ("legacy/book", {"needs": ("prepared/Book",)}, "make it a check of prepared/Book"),
        ("mapping/site", {"needs": "target/Book"}, "waits for the checks of what it is made from"),
    ],
)
def test_what_a_check_cannot_look_at_is_told_with_its_line(asset, options, told):
    checks = Checks()

    @checks.on(asset, **options)
    def is_wrong(look: Look) -> CheckOutcome:
        """It is."""
        return found(0)

    with pytest.raises(ConfigurationError, match=told) as error:
        groups_of(checks.of(SYSTEM))
    assert "test_own.py:" in str(error.value)


def test_a_check_without_a_description_and_a_second_one_of_a_name_are_refused():
    checks = Checks()

    def bare(look: Look) -> CheckOutcome:
        return found(0)

    with pytest.raises(ConfigurationError, match="bare of legacy/book does not say what holds"):
        checks.on("legacy/book")(bare)
    checks.on("legacy/book", description="It holds.")(bare)
    with pytest.raises(ConfigurationError, match="two checks called bare"):
        checks.on("legacy/book", description="It holds.")(bare)


@pytest.mark.parametrize("given", [True, {"count": 1}])
def test_what_is_no_outcome_and_what_is_no_question_is_told(tmp_path, given):
    checks, asking = Checks(), Checks()
    checks.on("legacy/book", name="gives", description="x")(lambda look: given)

    @asking.on("legacy/book")
    def asks(look: Look) -> Asking:
        """It does."""
        yield given
        return found(0)

    with pytest.raises(TypeError, match=r"gives gives .* neither an outcome nor a Find"):
        outcomes(checks, context(tmp_path))
    with pytest.raises(TypeError, match="a check asks"):
        outcomes(asking, context(tmp_path))


def test_models_that_no_flow_fills_as_it_is_decided_have_no_checks():
    checks = Checks()

    @checks.on("prepared/Book", needs="rejected/Reader")
    @checks.on("rejected/Reader")
    def holds(look: Look) -> CheckOutcome:
        """It holds."""
        return found(0)

    assert [group.asset for group in groups_of(checks.of(SYSTEM))] == [("rejected", "Reader"), ("prepared", "Book")]
    makers = tuple(lambda _chosen, flow=flow: flow for flow in SYSTEM.flows if "Reader" not in flow.targets)
    assert groups_of(checks.of(replace(SYSTEM, flow_makers=makers))) == ()


# --- the live target --------------------------------------------------------------------------------------------------


def test_a_check_looks_at_the_live_target_and_cannot_write(tmp_path, database_url):
    checks = Checks()
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE book (id int, title text)")
        connection.execute("INSERT INTO book VALUES (1, 'Dune'), (2, NULL)")

    def untitled(look: Look) -> pl.LazyFrame:
        return look.select("SELECT id, title FROM book WHERE title IS DISTINCT FROM %s", ["Dune"])

    @checks.on("target/Book", "ERROR", blocking=True, rows=untitled)
    def books_have_titles(look: Look) -> Find:
        """They do."""
        return Find(pl.lit(True), show="title")

    @checks.on("target/Book")
    def asks_without_rows(look: Look) -> Find:
        """It does."""
        return Find(pl.lit(True))

    look_at = context(tmp_path, target_url=lambda: database_url)
    with pytest.raises(ConfigurationError, match=r"nothing says which rows the checks of target/Book ask about"):
        outcomes(checks, look_at)
    checks.own.pop()
    outcome = outcomes(checks, look_at)["books_have_titles"]
    assert (outcome.count, outcome.metadata["examples"]) == (1, [{"key": "2", "title": "NULL"}])

    look = Look(**vars(look_at), asset=("target", "Book"))
    with pytest.raises(LoadError, match="read-only"):
        look.select("DELETE FROM book RETURNING id")
    with pytest.raises(ConfigurationError, match="there is none"), replace(look, target_url=None).target():
        pass


# --- in a system ------------------------------------------------------------------------------------------------------


def test_a_system_hands_its_checks_to_its_code_location():
    checks = Checks()

    @checks.on("legacy/book")
    def holds(look: Look) -> CheckOutcome:
        """It holds."""
        return found(0)

    @checks.on("target/Book", "ERROR", blocking=True, needs="target/Reader")
    def arrived(look: Look) -> CheckOutcome:
        """All of them."""
        return found(0)

    system = replace(SYSTEM, checks=checks)
    before = {(group.asset, spec.name) for group in check_groups(SYSTEM) for spec in group.specs}
    after = {(group.asset, spec.name) for group in check_groups(system) for spec in group.specs}
    assert after - before == {(("legacy", "book"), "holds"), (("target", "Book"), "arrived")}
    graph = build_definitions(system).resolve_asset_graph()
    names = {(*key.asset_key.path[1:], key.name) for key in graph.asset_check_keys}
    assert {("legacy", "book", "holds"), ("target", "Book", "arrived")} <= names
    assert ("target", "Book", "checks_are_evaluated") not in names


def test_what_the_page_about_checks_shows_does_what_it_says(tmp_path):
    [code] = [text for name, kind, text in BLOCK.findall((DOCS / "add-a-check.md").read_text()) if kind == "python"]
    page: dict[str, Any] = {}
    exec(compile(code, "add-a-check.md", "exec"), page)
    rows = [
        {"book_id": "1", "branch_id": "7", "title": "Dune", "genre": "novel", "donor_email": None},
        {"book_id": "2", "branch_id": "7", "title": "Emma", "genre": "poem", "donor_email": "a@example.com"},
        {"book_id": "3", "branch_id": "8", "title": "Ulysses", "genre": "poem", "donor_email": None},
    ]
    look_at = context(tmp_path, rows, value_maps={"genre": pl.DataFrame({"legacy": ["Novel"], "genre": ["fiction"]})})
    with look_at.lake.write(("library", "mapping", "site"), run_id="run") as writer:
        writer.add(pl.DataFrame({"source_id": ["7"], "target_id": [70]}))
    got = outcomes(page["CHECKS"], look_at)
    assert {name: (outcome.passed, outcome.count) for name, outcome in got.items()} == {
        "genres_are_listed": (False, 1),
        "most_books_have_a_donor": (False, 2),
        "branches_have_a_site": (False, 1),
        "titles_have_a_column": (True, 0),
    }
    assert got["genres_are_listed"].metadata["genres"] == {"poem": 2}
    assert got["most_books_have_a_donor"].metadata["novels"] == 1
    assert got["branches_have_a_site"].metadata["examples"] == [{"key": "8", "books": "1"}]


def test_checks_that_the_page_has_as_data_find_what_it_says(tmp_path):
    [text] = [text for name, kind, text in BLOCK.findall((DOCS / "add-a-check.md").read_text()) if kind == "yaml"]
    path = tmp_path / "checks.yaml"
    path.write_text(text)
    genres = pl.DataFrame({"legacy": ["Novel"], "genre": ["fiction"]})
    book = LegacyTable("book", "catalogue", ("book_id", "title", "genre", "donor_email"), key=("book_id",))
    value_maps = {"genre": ValueMap(path, genres, (2,))}
    known = Known({}, {"book": book}, SYSTEM.mappings.transforms, {}, (), value_maps, SYSTEM.decisions)
    findings = Findings()
    placed = read_checks(YamlFile(path), known, findings)
    assert findings.errors == []
    system = replace(SYSTEM, mappings=replace(SYSTEM.mappings, checks=placed))
    [group] = groups_of(own_checks(system))
    rows = [
        {"book_id": "1", "title": "Dune", "genre": " NOVEL", "donor_email": "a@example.com"},
        {"book_id": "2", "title": "Emma", "genre": "poem ", "donor_email": "nobody"},
        {"book_id": "3", "title": "Ulysses", "genre": "poem", "donor_email": " "},
        {"book_id": "4", "title": "Nana", "genre": None, "donor_email": None},
    ]
    got = group.evaluate(context(tmp_path, rows, value_maps={"genre": genres}))
    assert {name: (outcome.passed, outcome.count) for name, outcome in got.items()} == {
        "donors_are_addresses": (False, 1),
        "all_genres_are_listed": (False, 2),
    }
    assert got["donors_are_addresses"].metadata == {"examples": [{"key": "2", "title": "Emma"}]}
    shown = {"rows": 3, "genres": {"poem": 2, "NULL": 1}, "do": "add the genres to genre.csv"}
    assert shown.items() <= got["all_genres_are_listed"].metadata.items()
