"""A system that is a folder of data: what the files declare is there, and what is wrong has file, line and remedy."""

import re
from pathlib import Path

import polars as pl
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.checks.own import Checks, Find, Look
from dtx_assets.machinery.checks.standard import standard_check_groups
from dtx_assets.machinery.code_location.definitions import build_definitions
from dtx_assets.machinery.declare.folder import system_from_folder
from dtx_assets.machinery.system.system import System

FILES = {
    "tables.yaml": """\
areas: { catalogue: "Area 1: Catalogue" }
tables:
  book:
    key: [book_id]
    meaning: The books.
    columns:
      book_id: integer
      branch_id: integer
      title: text
      genre: code
      donor: { kind: text, personal: true }
  shelf:
    columns: { place: text }
crosswalks:
  crosswalk_branch:
    name: site
    source_id: branch_id
    target_id: site_id
    target: Site
    columns: { branch_id: integer, site_id: integer }
""",
    "targets.yaml": """\
targets:
  Book:
    table: book
    meaning: A book.
    columns:
      site_id: { type: bigint, references: site }
      title: { type: text, length: 80 }
      genre: { type: text, allowed: [fiction, science] }
      made: { type: timestamptz, default: now() }
      pages: { type: integer, nullable: true }
  Site:
    table: site
    area: other_areas
    columns: { name: text }
""",
    "decisions.yaml": """\
decisions:
  - { key: rows, area: 1, number: "1", title: Rows, text: A row for a row., status: documented }
""",
    "archived.yaml": """\
archived: {}
undecided: { shelf: what is a shelf? }
""",
    "genre.csv": "legacy,genre\nnovel,fiction\n",
    "Book.yaml": """\
target: Book
decision: "A1 #1"
sources:
  book:
    columns:
      site_id: { from: branch_id, crosswalk: site }
      title: { from: title }
      genre: { from: genre, value_map: genre, output: genre }
    dropped: { book_id: the legacy key }
    undecided: { donor: who may know? }
undecided: { made: the target's own, pages: nobody counted }
""",
}


def made(directory: Path, changes: dict[str, dict[str, str]] | None = None, checks: Checks | None = None) -> System:
    """The system of the files, with texts replaced."""
    mappings = directory / "mappings" / "library"
    mappings.mkdir(parents=True)
    files = dict(FILES)
    for name, replaced in (changes or {}).items():
        for old, new in replaced.items():
            assert old in files[name]
            files[name] = files[name].replace(old, new)
    for name, content in files.items():
        (mappings / name).write_text(content)
    return system_from_folder("library", mappings, code_dir=directory, checks=checks)


def test_what_the_files_declare_is_there(tmp_path):
    system = made(tmp_path)
    book = system.legacy_tables["book"]
    assert book.key == ("book_id",)
    assert [book.kind_of(name) for name in book.columns] == ["integer", "integer", "text", "code", "text"]
    assert book.is_personal("donor")
    assert not book.is_personal("title")
    assert (book.area, system.target("Site").area) == ("catalogue", "other_areas")
    target = system.target("Book")
    assert (target.writes, system.target("Site").writes) == ("insert", "nothing")
    assert target.column("title").max_length == 80
    assert target.column("site_id").references == "site"
    [flow] = system.flows
    assert (flow.sources, flow.targets, flow.mappings) == (("book",), ("Book",), ("site", "genre"))
    assert flow.reads is not None
    assert flow.reads({})["book"] == {"book_id", "branch_id", "title", "genre"}
    assert {asset.name: asset.kind for asset in system.mapping_assets} == {"site": "crosswalk", "genre": "value_map"}
    assert system.sample_dir == tmp_path / "legacy"


def test_who_answers_for_what_is_said_in_the_files(tmp_path):
    system = made(
        tmp_path,
        {
            "tables.yaml": {
                "tables:\n": "owner: the librarian\ntables:\n",
                "  book:\n": "  book:\n    owner: the cataloguer\n",
            },
        },
    )
    assert system.owner_of("legacy", "book") == "the cataloguer"
    assert system.owner_of("rejected", "Book") == "the cataloguer", "its rows are the table's"
    assert system.owner_of("target", "Book") == "the librarian", "nobody else is named"


def test_an_owner_of_a_value_map_that_there_is_not_is_told_with_file_and_line(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no value map 'genres'[\s\S]*tables.yaml:\d+[\s\S]*genre"):
        made(
            tmp_path,
            {"tables.yaml": {"tables:\n": "value_maps: { genres: { owner: the cataloguer } }\ntables:\n"}},
        )


def test_a_column_with_a_default_that_nothing_fills_is_left_to_the_target(tmp_path):
    assert [column.name for column in made(tmp_path).target("Book").columns] == ["site_id", "title", "genre", "pages"]


def test_what_is_undecided_is_a_check_that_closes_the_gate(tmp_path):
    system = made(tmp_path)
    groups = [(group, spec) for group in standard_check_groups(system) for spec in group.specs]
    found = {
        spec.name: group.evaluate(None)[spec.name].metadata["undecided"]  # type: ignore[arg-type]
        for group, spec in groups
        if spec.name in ("columns_are_decided", "where_its_rows_go_is_decided")
        and (spec.severity, spec.closes_gate) == ("ERROR", True)
    }
    assert found == {
        "columns_are_decided": {
            "made": "the target's own",
            "pages": "nobody counted",
            "book.donor": "who may know?",
        },
        "where_its_rows_go_is_decided": {"shelf": "what is a shelf?"},
    }


def test_it_is_a_code_location(tmp_path):
    system = made(tmp_path)
    keys = build_definitions(system).resolve_asset_graph()
    names = {"/".join(key.path[1:]) for key in keys.get_all_asset_keys()}
    assert {"legacy/book", "mapping/site", "mapping/genre", "prepared/Book", "target/Book", "archive/shelf"} <= names


def test_checks_of_its_own_are_handed_in(tmp_path):
    checks = Checks()

    @checks.on("legacy/book", "ERROR", blocking=True)
    def books_have_titles(look: Look) -> Find:
        """Each book has one."""
        return Find(pl.col("title").is_null())

    graph = build_definitions(made(tmp_path, checks=checks)).resolve_asset_graph()
    assert ("book", "books_have_titles") in {(key.asset_key.path[-1], key.name) for key in graph.asset_check_keys}


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("tables.yaml", "title: text", "title: txt", "tables.yaml:9: 'txt' is no kind"),
        ("tables.yaml", "key: [book_id]", "key: [id]", "tables.yaml:3: the key names 'id'"),
        ("tables.yaml", "target: Site", "target: Sight", "tables.yaml:19: there is no target model 'Sight'"),
        ("tables.yaml", "source_id: branch_id", "source_id: id", "crosswalk_branch has no column 'id'"),
        ("tables.yaml", "    meaning: The books.", "    meening: The books.", "tables.yaml:5: unknown key 'meening'"),
        ("tables.yaml", "    key: [book_id]", "    required: [isbn]\n    key: [book_id]", "`required` names 'isbn'"),
        ("tables.yaml", "columns: { place: text }", "columns: [place, place]", "two columns are called place"),
        ("tables.yaml", "    target: Site\n", "", "says only half of where it leads"),
        (
            "tables.yaml",
            "    name: site\n    source_id: branch_id\n    target_id: site_id\n    target: Site\n",
            "    source_id: branch_id\n    leads_to: { a/b: { target_id: site_id, target: Site } }\n",
            "tables.yaml:17: 'a/b' names no file",
        ),
        ("targets.yaml", "  Site:\n", "  Si/te:\n", "targets.yaml:11: 'Si/te' names no file"),
        ("targets.yaml", "area: other_areas", "area: others", "targets.yaml:13: there is no area 'others'"),
        ("targets.yaml", "    meaning: A book.", "    refers_to: [sight]", "there is no target table 'sight'"),
        ("targets.yaml", "    meaning: A book.", "    natural_key: [isbn]", "a key names 'isbn'"),
        ("targets.yaml", "    meaning: A book.", "    key: [title]", "a key that the target gives is one column"),
        ("targets.yaml", "pages: { type: integer, nullable: true }", "pages: { nullable: true }", "'type' is missing"),
        ("targets.yaml", "  Site:", "      isbn: text\n  Site:", "Book.isbn must have a value and nothing fills it"),
        ("Book.yaml", ", pages: nobody", ", page: nobody", "Book.yaml:11: Book has no column 'page'"),
        ("Book.yaml", "made: the", "title: the", "title is filled, and undecided as well"),
        ("Book.yaml", "{ donor: who", "{ owner: who", "book has no column 'owner'"),
        ("Book.yaml", "{ donor: who", "{ title: again, donor: who", "book.title is both used and undecided"),
        (
            "tables.yaml",
            "    name: site\n    source_id: branch_id\n    target_id: site_id\n    target: Site\n",
            "    source_id: branch_id\n    leads_to:\n      site: { target_id: site_id, target: Site }\n"
            "      genre: { target_id: site_id, target: Site }\n",
            "genre.csv:1: a value map and a crosswalk or look-up are both called genre",
        ),
        ("archived.yaml", "shelf: what", "shelves: what", "unknown legacy table 'shelves'"),
        ("archived.yaml", "archived: {}", "archived: { shelf: no }", "only archived, and undecided as well"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path, file, old, new, told):
    with pytest.raises(ConfigurationError) as caught:
        made(tmp_path, {file: {old: new}})
    said = str(caught.value)
    place, _, what = told.rpartition(": ") if re.match(r"[\w.]+:\d+: ", told) else ("", "", told)
    assert what in said
    assert place in said


def test_kinds_go_by_names_where_columns_do_not_say_them(tmp_path):
    by_name = {
        "tables:\n  book": 'kinds_by_name: { integer: ["*_id"], time: ["*_at", made_id] }\ntables:\n  book',
        "columns: { place: text }": "columns: [shelf_id, made_at, place]\n    personal: [place, owner]",
        "      branch_id: integer\n": "      branch_id: code\n",
    }
    tables = made(tmp_path, {"tables.yaml": by_name}).legacy_tables
    kinds = {name: tables["shelf"].kind_of(name) for name in ("shelf_id", "made_at", "place", "made_id", "nobody_id")}
    assert kinds == {
        "shelf_id": "integer",
        "made_at": "time",
        "place": "text",
        "made_id": "integer",
        "nobody_id": "integer",
    }
    assert tables["book"].kind_of("branch_id") == "code"
    assert tables["shelf"].personal == {"place", "owner"}


def test_a_table_that_is_handed_over_may_be_several_crosswalks(tmp_path):
    several = {
        "    name: site\n": "    leads_to:\n      site: { target_id: site_id, target: Site, extras: [keeper_id] }\n"
        "      keeper: { target_id: keeper_id, target: Book, area: catalogue }\n",
        "    target_id: site_id\n    target: Site\n": "",
        "site_id: integer }": "site_id: integer, keeper_id: integer }",
    }
    assets = {asset.name: asset for asset in made(tmp_path, {"tables.yaml": several}).mapping_assets}
    assert (assets["site"].area, assets["keeper"].area) == ("other_areas", "catalogue")
    assert assets["keeper"].upstream == (("legacy", "crosswalk_branch"), ("target", "Book"))


def test_what_targets_say_of_options_loads_and_files(tmp_path):
    chosen = {
        "status: documented }": "status: confirmed, options: [long, short], chosen: long }\n"
        "questions:\n  - { name: ready, text: is it?, when: { decision: rows, option: short } }",
    }
    said = {
        "    meaning: A book.": "    meaning: A book.\n    when: { decision: rows, option: long }\n    held: pages\n"
        "    file: { key: title, sha256: genre }\n    loaded_after: [Site]\n    refers_to: [site]",
        "length: 80 }": "length: 80, when: { decision: rows, option: [long, short] } }",
    }
    system = made(tmp_path, {"targets.yaml": said, "decisions.yaml": chosen})
    book = system.target("Book")
    assert (book.held_column, book.file_columns, book.loaded_after) == ("pages", ("title", "genre"), ("Site",))
    assert book.refers_to == ("site",)
    assert [column.name for column in book.columns_under({"rows": "short"})] == ["title"]
    [question] = system.questions
    assert (question.asked_when({"rows": "short"}), question.asked_when({"rows": "long"})) == (True, False)


def test_columns_may_be_filled_in_rows_of_others(tmp_path):
    changes = {
        "targets.yaml": {"    meaning: A book.": "    updated: true"},
        "Book.yaml": {
            "      site_id: { from: branch_id, crosswalk: site }\n": "",
            "    dropped:": "    id: book\n    helpers: { book: { from: branch_id, crosswalk: site } }\n    dropped:",
        },
    }
    # Nothing has to fill `site_id`: the rows have it.
    assert made(tmp_path, changes).target("Book").writes == "update"


def test_a_target_may_be_made_of_two_tables(tmp_path):
    shelf = {"  book:\n": "  shelf: { undecided: { place: why? } }\n  book:\n"}
    system = made(tmp_path, {"Book.yaml": shelf, "archived.yaml": {"{ shelf: what is a shelf? }": "{}"}})
    [flow] = [flow for flow in system.flows if "Book" in flow.targets]
    assert flow.accounted == (("shelf", "Book"), ("book", "Book"))


def test_another_choice_is_taken_from_the_environment(tmp_path, monkeypatch):
    options = {"status: documented }": 'status: documented, options: ["yes", "no"], chosen: "yes" }'}
    (tmp_path / "chosen.yaml").write_text('rows: "no"\n')
    monkeypatch.setenv("LIBRARY_DECISIONS", str(tmp_path / "chosen.yaml"))
    assert made(tmp_path, {"decisions.yaml": options}).decisions.chosen == {"rows": "no"}
