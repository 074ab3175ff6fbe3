"""What people may see of rejected rows: the shape of what is personal, and of what nobody declared."""

import pytest

from dtx_assets.machinery.base.masking import masked_detail
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.report.figures import RejectedKind
from dtx_assets.machinery.report.rejected import masked_example

ROW = {"id": "7", "kind": "dog", "owner": "Anna Smith", "a.b": "x"}


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("kind: dog is not listed in kinds.csv", "kind: dog is not listed in kinds.csv"),
        ("owner: not an address: Anna Smith", "owner: not an address: A… (10 characters)"),
        (
            "owner: not an address: Smith; it's mine; kind: x is no kind",
            "owner: not an address: S… (16 characters); kind: x is no kind",
        ),
        ("owner: Anna Smith is not listed", "owner: A… (10 characters) is not listed"),
        ("owner, kind: Anna Smith and dog differ", "owner, kind: A… (10 characters) and dog differ"),
        ("keeper: owner: Anna Smith is not listed", "keeper: owner: A… (10 characters) is not listed"),
        ("keeper: kind, owner: Anna Smith is none", "keeper: kind, owner: A… (10 characters) is none"),
        ("kind: ask anna.smith@example.org", "kind: ask a***@e***.org"),
        ("7: another owner's row has other values (id 3)", "7: another owner's row has other values (id 3)"),
        ("a.b: x is wrong", "a.b: x is wrong"),
        ("", ""),
    ],
)
def test_details_keep_what_is_wrong_and_lose_what_is_personal(detail, shown):
    assert masked_detail(detail, ROW, {"owner"}) == shown


def test_a_value_of_which_the_beginning_is_quoted_is_masked():
    held = "Anna Smith who lives behind the hills and far away"
    assert (
        masked_detail(f"owner: {held[:40]} is none", {"owner": held}, {"owner"}) == "owner: A… (50 characters) is none"
    )


LONG = {"street": "Long Lane 5", "city": "Anna's Own Town, behind the hills"}


@pytest.mark.parametrize(
    ("held", "told", "shown"),
    [
        (LONG, '{"street":"Long Lane 5","city":"Anna\'s Ow is no text, but object', "{street: L… (11 characters)"),
        ("a\\x00b", '"a\\u0000b" holds a NUL', "a… (6 characters) holds a NUL"),
        (["Anna", 'say "Ann"'], '["Anna","say \\"Ann\\""] is no id', "[A… (4 characters), s… (9 characters)] is no id"),
        (
            "Anna Smith who lives behind the hills and far away",
            '"Anna Smith who lives behind the hills an is no',
            "A… (",
        ),
        ("Ann", '"Anna" is no text', '"A… (3 characters)a" is no text'),
    ],
)
def test_values_of_documents_are_masked_however_they_are_quoted(held, told, shown):
    """A detail quotes them in Extended JSON, and cuts them."""
    found = masked_detail(f"owner: {told}", {"owner": held, "kind": "dog"}, {"owner"})
    assert found.startswith(f"owner: {shown}")
    assert "Anna" not in found.replace('"A… (3 characters)a"', "")
    assert "Lane" not in found
    assert masked_detail(f"kind: {told}", {"owner": held, "kind": held}, {"owner"}) == f"kind: {told}"


def test_personal_and_undeclared_columns_of_an_example_are_masked_and_the_key_is_not():
    table = LegacyTable("pet", "zoo", ("id", "kind", "owner"), key=("id",), personal=frozenset({"owner"}))
    row = {**ROW, "new_column": "Bob Jones", "nothing": None}
    example = masked_example(table, RejectedKind("kind: dog is not listed", 3, "7", row))
    assert example.rows == 3
    assert dict(example.values) == {
        "id": "7",
        "kind": "dog",
        "owner": "A… (10 characters)",
        "a.b": "x… (1 characters)",
        "new_column": "B… (9 characters)",
        "nothing": "NULL",
    }


def test_rows_of_a_table_that_nobody_declared_are_shapes_only():
    example = masked_example(None, RejectedKind("kind: dog is not listed", 1, "7", ROW))
    assert dict(example.values) == {
        "id": "7… (1 characters)",
        "kind": "d… (3 characters)",
        "owner": "A… (10 characters)",
        "a.b": "x… (1 characters)",
    }


def test_key_and_what_is_wrong_come_first_in_an_example():
    row = {f"column_{number}": str(number) for number in range(20)} | {"id": "7", "kind": "dog"}
    table = LegacyTable("pet", "zoo", tuple(row), key=("id",))
    example = masked_example(table, RejectedKind("kind: dog is not listed", 1, "7", row))
    assert [name for name, _ in example.values][:2] == ["id", "kind"]
    assert len(example.values) == 8
