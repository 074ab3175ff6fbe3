"""Foreign keys of a live target that are not the declared ones: told by name, and refused where no order holds."""

from dataclasses import replace

import psycopg
import pytest

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.model.references import in_load_order
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.foreign_keys import live_references, reference_differences, require_order


def table(name: str, **columns: str | None) -> TargetTable:
    """`columns`: the table that each of them refers to, None for none."""
    made = (TargetColumn(column, "bigint", "", True, references=other) for column, other in columns.items())
    key = TargetColumn("id", "bigint", "")
    return TargetTable(name, name.title(), "all", (key, *made), "insert", key_is_written=True)


TARGETS = [
    table("user", boss=None),
    table("board", owner="user", theme=None),
    table("note", board="board", author=None),
]
DECLARED = {"User": {}, "Board": {"owner": "user"}, "Note": {"board": "board"}}


def differences(**changed: dict[str, str]) -> list[tuple[str, str, bool]]:
    found = reference_differences(DECLARED | changed, TARGETS, {})
    return [(f"{each.table}.{each.column}", f"{each.kind}: {each.detail}", each.fatal) for each in found]


def test_what_was_declared_is_no_difference():
    assert differences() == []
    assert differences(Board={"owner": "public.user"}) == []


def test_more_foreign_keys_to_what_is_loaded_before_are_none_either():
    """They are read from the live target, and the ids are looked up all the same."""
    assert differences(Note={"board": "board", "author": "user"}) == []
    assert differences(User={"boss": "user"}, Board={"owner": "user", "theme": "a table of others"}) == []


def test_a_foreign_key_that_is_missing_is_told():
    [(where, told, fatal)] = differences(Note={})
    assert (where, fatal) == ("note.board", False)
    assert "no foreign key leads to board" in told


def test_a_foreign_key_to_another_table_refuses():
    [(where, told, fatal)] = differences(Note={"board": "user"})
    assert (where, fatal) == ("note.board", True)
    assert "leads to user, and its values are keys of board" in told


def test_a_foreign_key_to_what_is_loaded_later_refuses():
    [(where, told, fatal)] = differences(Board={"owner": "user", "theme": "note"}, Note={})[1:]
    assert (where, fatal) == ("board.theme", True)
    assert "leads to note, which is not loaded before" in told


def test_a_circle_refuses_with_the_names_of_its_tables():
    [(where, told, fatal)] = differences(User={"boss": "note"})
    assert (where, fatal) == ("user.boss", True)
    assert told.endswith("in a circle: board, note, user")
    assert len(differences(User={"boss": "board"}, Board={"owner": "user", "theme": "note"})) == 1


def test_a_declared_circle_is_loaded_together():
    circle = [table("a", b="b"), table("b", a="a")]
    assert reference_differences({"A": {"b": "b"}, "B": {"a": "a"}}, circle, {}) == []


def test_a_key_of_several_columns_to_what_is_loaded_later_refuses_until_that_is_declared():
    [(where, told, fatal)] = differences(Board={"owner": "user", "(theme, owner)": "note"}, Note={})[1:]
    assert (where, fatal) == ("board.(theme, owner)", True)
    assert "list that in the `refers_to` of the table" in told
    first, board, last = TARGETS
    found = {"User": {}, "Board": {"owner": "user", "(theme, owner)": "note"}, "Note": {}}
    declared = [first, replace(board, refers_to=("note",)), replace(last, columns=last.columns[:1])]
    assert reference_differences(found, declared, {}) == []
    assert [target.model for some in in_load_order(declared) for target in some] == ["User", "Note", "Board"]


def test_a_table_that_is_not_there_is_told_elsewhere():
    assert reference_differences({}, TARGETS, {}) == []


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("SELECT 1", None),
        ('ALTER TABLE note ADD FOREIGN KEY (author) REFERENCES "user"', None),
        ('ALTER TABLE "user" ADD FOREIGN KEY (boss) REFERENCES note', "circle: board, note, user"),
        ("ALTER TABLE board ADD FOREIGN KEY (theme) REFERENCES note", "circle: board, note"),
        ("ALTER TABLE board ADD FOREIGN KEY (owner, theme) REFERENCES note (board, id)", "circle: board, note"),
    ],
)
def test_the_keys_of_a_database(database_url, statement, refused):
    with psycopg.connect(database_url) as connection:
        connection.execute(
            'CREATE TABLE "user" (id bigint PRIMARY KEY, boss bigint);'
            'CREATE TABLE board (id bigint PRIMARY KEY, owner bigint REFERENCES "user", theme bigint);'
            "CREATE TABLE note (id bigint PRIMARY KEY, board bigint REFERENCES board, author bigint,"
            " UNIQUE (board, id));"
        )
        assert live_references(connection, TARGETS) == DECLARED
        connection.execute(statement.encode())
        if refused is None:
            require_order(connection, TARGETS, {})
            return
        with pytest.raises(StructureError, match=refused) as error:
            require_order(connection, TARGETS, {})
        assert "nothing was written" in error.value.remedy
