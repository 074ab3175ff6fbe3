"""Drafts are written again only where nobody edited them; what changed on a side is named."""

from dtx_assets.machinery.declare.write import changes, is_untouched, write_drafts


def states(found):
    return [file.state for file in found]


def test_a_file_that_nobody_edited_is_renewed(tmp_path):
    path = tmp_path / "new" / "Book.yaml"
    assert states(write_drafts({path: "a: 1\n"})) == ["written"]
    assert is_untouched(path.read_text())
    assert states(write_drafts({path: "a: 1\n"})) == ["unchanged"]
    assert states(write_drafts({path: "a: 2\n"})) == ["written"]
    assert path.read_text().endswith("\na: 2\n")


def test_an_edited_file_is_kept_and_what_it_would_be_is_shown(tmp_path):
    path = tmp_path / "Book.yaml"
    write_drafts({path: "a: 1\nb: 2\n"})
    edited = path.read_text().replace("b: 2", "b: 3")
    path.write_text(edited)
    [kept] = write_drafts({path: "a: 4\nb: 2\n"})
    assert kept.state == "kept"
    assert {"-a: 1", "-b: 3", "+a: 4", "+b: 2"} <= set(kept.diff)
    assert path.read_text() == edited


def test_a_file_of_somebody_else_is_kept(tmp_path):
    path = tmp_path / "decisions.yaml"
    path.write_text("decisions: []\n")
    assert states(write_drafts({path: "decisions: [x]\n"})) == ["kept"]
    assert path.read_text() == "decisions: []\n"
    assert states(write_drafts({path: "decisions: []\n"})) == ["unchanged"]


def table(key: list[str], **columns: str) -> dict[str, object]:
    return {"key": key, "columns": columns}


def test_each_change_of_a_side_is_a_line():
    before = {
        "legacy": {"book": table(["id"], id="INTEGER NOT NULL", title="TEXT"), "old": table([])},
        "target": {"book": table(["id"], id="bigint", name="text")},
    }
    now = {
        "legacy": {"book": table([], id="BIGINT NOT NULL", isbn="TEXT"), "new": table([])},
        "target": {"book": table(["id"], id="bigint", name="text")},
    }
    assert changes(before, now) == [
        "legacy book.id: it was INTEGER NOT NULL, and is BIGINT NOT NULL",
        "legacy book.title: the column is gone; it was TEXT",
        "legacy book.isbn: the column is new; it is TEXT",
        "legacy book: its key was ['id'], and is none",
        "legacy new: the table is new",
        "legacy old: the table is gone",
    ]
    assert changes(now, now) == []
