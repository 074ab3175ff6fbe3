"""What names and types suggest: the same names surely, likenesses as guesses, everything else undecided."""

import re

import pytest

from dtx_assets.machinery.declare.draft import drafts, found_facts
from dtx_assets.machinery.declare.pairs import PAIRS, transform_for
from dtx_assets.machinery.declare.suggest import looks_personal, model_names, singular, suggest
from dtx_assets.machinery.postgres.catalogue import FoundTarget, FoundTargetColumn
from dtx_assets.machinery.sources.found import FoundColumn, FoundTable
from dtx_assets.machinery.transforms.columns import GENERIC, Registry


def legacy(of: str, key: str = "", /, **kinds: str) -> FoundTable:
    columns = tuple(FoundColumn(column, kind, kind, True) for column, kind in kinds.items())  # type: ignore[arg-type]
    return FoundTable(of, None, columns, (key,) if key else ())


def column(name: str, kind: str = "text", **facts: object) -> FoundTargetColumn:
    return FoundTargetColumn(name, kind, kind, facts.pop("nullable", False), **facts)  # type: ignore[arg-type]


ID = column("id", "bigint", identity="by default")


def target(name: str, *columns: FoundTargetColumn, key: tuple[str, ...] = ("id",), **references: str) -> FoundTarget:
    return FoundTarget(name, None, columns, key, references=references)


def one(table: FoundTable, wanted: FoundTarget):
    [pair] = suggest([table], [wanted], GENERIC).pairs
    return pair


@pytest.mark.parametrize(
    ("of_legacy", "of_target", "is_guess"),
    [
        ("book", "book", False),
        ("Order_Line", "orderline", False),
        ("books", "book", True),
        ("category", "categories", True),
        ("box", "shop_boxes", True),
    ],
)
def test_tables_that_look_alike_are_paired(of_legacy, of_target, is_guess):
    assert one(legacy(of_legacy, x="text"), target(of_target, ID)).table_is_guessed is is_guess


def test_what_could_be_two_is_neither():
    tables = [legacy("book", x="text")]
    wanted = [target("shop_book", ID), target("library_book", ID)]
    found = suggest(tables, wanted, GENERIC)
    assert found.pairs == []
    assert found.tables_without_target == tables
    assert found.targets_without_table == wanted


def test_words_of_many_are_words_of_one():
    words = ("category", "address", "status", "book", "box", "branch", "bus", "analysis")
    many = ("categories", "addresses", "status", "books", "boxes", "branches", "bus", "analysis")
    assert tuple(map(singular, many)) == words


def test_columns_by_name_then_by_likeness_and_nothing_twice():
    pair = one(
        legacy("book", "book_id", book_id="integer", Title="text", book_colour="text", owner="text"),
        target("book", ID, column("title"), column("colour"), column("owner_id", "bigint"), column("weight")),
    )
    assert pair.columns == {"title": {"from": "Title"}, "colour": {"from": "book_colour"}}
    assert pair.guesses == ["book.book_colour → book.colour"]
    assert set(pair.undecided) == {"owner_id", "weight"}
    assert "no transform makes bigint" in pair.undecided["owner_id"]
    assert pair.dropped == {"book_id": "the legacy key; kept in migration.mapping"}
    assert pair.unread == {"owner": "see owner_id"}


def test_ids_are_kept_where_the_key_has_the_same_name():
    book = legacy("book", "book_id", book_id="integer")
    kept = one(book, target("book", column("book_id", "bigint", identity="by default"), key=("book_id",)))
    assert kept.key_is_written
    assert kept.columns == {"book_id": {"from": "book_id", "transform": "integer"}}
    assert not one(book, target("book", ID)).key_is_written
    always = one(book, target("book", column("book_id", "bigint", identity="always"), key=("book_id",)))
    assert not always.key_is_written
    assert one(book, target("book", column("id", "bigint"))).key_is_written, "the target gives none"


def test_references_go_through_the_ids_of_the_parent():
    tables = [
        legacy("author", "author_id", author_id="integer", name="text"),
        legacy("book", "book_id", book_id="integer", author_id="integer", editor_id="integer", shop_id="integer"),
    ]
    wanted = [
        target("author", ID, column("name")),
        target(
            "book",
            ID,
            column("author_id", "bigint"),
            column("editor_id", "bigint", nullable=True),
            column("shop_id", "bigint"),
            author_id="author",
            editor_id="author",
            shop_id="shop",
        ),
        target("shop", ID, column("place")),
    ]
    [_, pair] = suggest(tables, wanted, GENERIC).pairs
    assert pair.columns == {
        "author_id": {"from": "author_id", "crosswalk": "author"},
        "editor_id": {"from": "editor_id", "crosswalk": "author", "allow_null": True},
    }
    assert "whose ids of shop are not known" in pair.undecided["shop_id"]


def test_circles_of_given_ids_are_undecided():
    tables = [
        legacy("staff", "staff_id", staff_id="integer", store_id="integer"),
        legacy("store", "store_id", store_id="integer", manager_id="integer"),
    ]
    wanted = [
        target("staff", ID, column("store_id", "bigint"), store_id="store"),
        target("store", ID, column("manager_id", "bigint"), manager_id="staff"),
    ]
    for pair in suggest(tables, wanted, GENERIC).pairs:
        assert pair.columns == {}
        [why] = pair.undecided.values()
        assert "refers back" in why


def test_a_transform_that_is_not_there_leaves_a_column_undecided():
    price, wanted = FoundColumn("price", "DECIMAL(5, 2)", "decimal", False), column("price", "numeric(5,2)")
    without = Registry({name: made for name, made in GENERIC.transforms.items() if name != "numeric"})
    assert transform_for(price, wanted, without) is None
    with_it = without | Registry({"numeric": GENERIC["integer"]})
    assert transform_for(price, wanted, with_it) == ("numeric", {})


def test_that_bytes_are_text_and_by_which_clock_an_instant_is_are_guesses_for_a_decision():
    columns = (FoundColumn("title", "BLOB", "text", True, holds="bytes"), *legacy("x", at="instant", on="date").columns)
    table = FoundTable("film", None, (*columns, FoundColumn("cover", "BLOB", "text", True, holds="bytes")), ())
    wanted = target(
        "film", ID, column("title"), column("cover", "bytea"), column("at", "timestamp"), column("on", "timestamp")
    )
    pair = one(table, wanted)
    assert pair.undecided == {}
    assert pair.columns == {
        "title": {"from": "title"},
        "cover": {"from": "cover", "transform": "bytes"},
        "at": {"from": "at", "transform": "local_timestamp", "with": {"offset": "legacy"}},
        "on": {"from": "on", "transform": "local_timestamp"},
    }
    decisions = drafts([table], [wanted]).files["decisions.yaml"]
    assert re.findall(r"key: (.*)", decisions)[-2:] == ["instants_without_zone", "bytes_as_text"]
    assert re.findall(r"film\.\S+ → \S+\b", decisions) == ["film.at → film.at", "film.title → film.title"]


def test_what_the_target_computes_is_told_and_not_left_in_silence():
    pair = one(legacy("person", Full_Name="text"), target("person", ID, column("full_name", generated=True)))
    assert (pair.columns, pair.undecided) == ({}, {})
    assert pair.unread == {"Full_Name": "person computes full_name by itself; `dropped` leaves this one"}


def test_a_number_is_no_time_before_somebody_says_of_what():
    pair = one(legacy("post", at="integer"), target("post", ID, column("at", "timestamptz")))
    assert "`{from: at, transform: epoch}`" in pair.undecided["at"]
    assert pair.unread == {"at": "see at"}


def test_ids_that_cannot_be_kept_are_given_anew_where_the_target_gives_them():
    user, post = legacy("user", "id", id="integer"), legacy("post", user_id="integer")
    for default, kept in (("gen_random_uuid()", False), (None, True)):
        users = target("user", column("id", "uuid", default=default))
        posts = target("post", ID, column("user_id", "uuid"), user_id="user")
        of_users, of_posts = suggest([user, post], [users, posts], GENERIC).pairs
        assert of_users.key_is_written is kept
        if kept:
            assert "no transform makes uuid" in of_users.undecided["id"]
        else:
            assert (of_users.columns, of_users.undecided) == ({}, {})
            assert of_posts.columns == {"user_id": {"from": "user_id", "crosswalk": "user"}}


def test_floats_are_read_by_the_database_itself():
    for kind in ("decimal", "integer"):
        [made] = legacy("x", a=kind).columns
        assert transform_for(made, column("a", "double precision"), GENERIC) == ("text", {})
        assert transform_for(made, column("a", "numeric(5,2)"), GENERIC) == ("numeric", {})


@pytest.mark.parametrize(
    ("holds", "type_name", "made"),
    [
        ("", "interval", ("text", {})),
        ("", "tsvector", ("text", {})),
        ("", "time", ("text", {})),
        ("list", "text[]", ("text", {})),
        ("set", "text[]", ("array", {"separator": ","})),
        ("bytes", "inet", None),
    ],
)
def test_types_that_read_a_text_by_themselves(holds, type_name, made):
    assert transform_for(FoundColumn("x", "x", "text", True, holds), column("x", type_name), GENERIC) == made


def test_enums_take_texts_and_every_pair_is_of_known_families():
    assert transform_for(legacy("x", a="text").columns[0], column("a", "mood", labels=("so",)), GENERIC) == ("text", {})
    assert all(kinds and families for kinds, families, _, _ in PAIRS)


@pytest.mark.parametrize(
    "name", ["first_name", "email", "E_Mail", "phone", "home_address", "postal_code", "birth_date"]
)
def test_personal_by_name(name):
    assert looks_personal(FoundColumn(name, "TEXT", "text", True))


@pytest.mark.parametrize("name", ["title", "name", "address_id", "amount", "filename"])
def test_not_personal_by_name(name):
    kind = "integer" if name.endswith("_id") else "text"
    assert not looks_personal(FoundColumn(name, "TEXT", kind, True))  # type: ignore[arg-type]


def test_models_are_named_once():
    wanted = [target("film_actor"), FoundTarget("film_actor", "old", (), ()), target("2_x"), target("decisions")]
    assert list(model_names(wanted).values()) == ["FilmActor", "OldFilmActor", "Table2X", "Decisions2"]


def test_every_guess_is_in_a_decision_and_nothing_else_is():
    tables = [FoundTable("books", None, (FoundColumn("e_mail", "csv", "text", True),), (), guessed=True)]
    made = drafts(tables, [target("book", ID, column("email"))])
    decisions = made.files["decisions.yaml"]
    assert "books → book." in decisions
    assert "books.e_mail" in decisions
    for key in ("ids", "tables_by_likeness", "kinds_of_files", "tables_without_key", "personal_columns"):
        assert f"key: {key}" in decisions
    assert "columns_by_likeness" not in decisions, "case and underscores are no likeness"


def test_a_target_without_a_key_is_left_out_by_name():
    made = drafts([legacy("note", "id", id="integer")], [target("note", column("words"), key=()), target("book", ID)])
    assert [found.full_name for found in made.suggestions.targets_without_key] == ["note"]
    assert set(made.files) == {"tables.yaml", "targets.yaml", "decisions.yaml", "archived.yaml", "Book.yaml"}
    assert "note: no target looks alike" in made.files["archived.yaml"]
    made = drafts([legacy("book", "id", id="integer")], [target("note", column("words"), key=()), target("book", ID)])
    assert "rows of note apart" in " ".join(made.files["decisions.yaml"].split())


def test_keys_of_several_columns_say_what_is_loaded_before():
    shelf = FoundTarget("shelf", None, (column("a"), column("b")), ("a", "b"))
    book = FoundTarget("book", None, (ID, column("a"), column("b")), ("id",), refers_to=("shelf",))
    made = drafts([legacy("shelf", a="text", b="text"), legacy("book", a="text", b="text")], [book, shelf])
    assert "refers_to: [shelf]" in made.files["targets.yaml"]
    assert made.files["targets.yaml"].count("refers_to") == 1
    facts = found_facts([], [book, shelf])["target"]
    assert (facts["book"]["refers_to"], "refers_to" in facts["shelf"]) == (["shelf"], False)


def test_a_column_with_a_dot_in_its_name_is_undecided():
    pair = one(legacy("book", **{"a.b": "text"}), target("book", ID, column("a.b")))
    assert (set(pair.undecided), set(pair.unread), pair.columns) == ({"a.b"}, {"a.b"}, {})


@pytest.mark.parametrize(
    ("spelt", "kind", "target", "made"),
    [
        ("NUMERIC(5, 2)", "decimal", "numeric(5,2)", "text"),
        ("NUMERIC", "decimal", "numeric", "text"),
        ("DATE", "date", "date", "text"),
        ("TIMESTAMP WITHOUT TIME ZONE", "time", "timestamp", "text"),
        ("TIMESTAMP(3) WITHOUT TIME ZONE", "time", "timestamp(3)", "text"),
        # The server would round in silence.
        ("NUMERIC", "decimal", "numeric(5,2)", "numeric"),
        ("NUMERIC(7, 4)", "decimal", "numeric(5,2)", "numeric"),
        ("TIMESTAMP WITHOUT TIME ZONE", "time", "timestamp(3)", "local_timestamp"),
        # It is held as an instant.
        ("TIMESTAMP WITH TIME ZONE", "instant", "timestamptz", "instant"),
        ("MONEY", "decimal", "money", "numeric"),
        ("UUID", "uuid", "uuid", "uuid"),
    ],
)
def test_a_column_of_postgresql_whose_type_the_target_has_is_taken_as_it_is(spelt, kind, target, made):
    found = FoundColumn("a", spelt, kind, True, is_postgresql=True)
    assert transform_for(found, column("a", target), GENERIC) == (made, {})
    # Of other servers the same words mean other values.
    assert transform_for(FoundColumn("a", spelt, kind, True), column("a", target), GENERIC) != ("text", {})
