"""YAML that would take all memory or all of the stack is refused with its line; what people write is not."""

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.yaml_file import DEEPEST, MOST_REPEATED, YamlFile

LAUGHS = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = "a: &a {k0: 1}\n" + "".join(
    f"{name}: &{name} {{x: {{<<: *{before}}}, y: {{<<: *{before}}}}}\n"
    for before, name in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=True)
)


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        (LAUGHS, "aliases repeat more than", 4),
        (MERGED, "aliases repeat more than", 10),
        ("a: &a\n  b: [*a]\n", r"\*a stands within &a itself", 2),
        ("a: 1\nb: " + "[" * 100_000, f"nested more than {DEEPEST} deep", 2),
        ("a: 1\nb:\n" + "".join(f"{' ' * depth}- \n" for depth in range(1, 3000)), "nested more than", DEEPEST + 2),
        ("a: 1\nb: " + "{a: " * 5000 + "1" + "}" * 5000, "nested more than", 2),
    ],
    ids=["laughs", "merged", "endless", "flow", "block", "mappings"],
)
def test_what_grows_without_end_is_refused_with_its_line(tmp_path, text, what, line):
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=what) as told:
        YamlFile(tmp_path / "file.yaml")
    assert told.value.where == f"{tmp_path / 'file.yaml'}:{line}"
    assert told.value.remedy


def test_aliases_as_people_use_them_are_read(tmp_path):
    """Large files too: what stands there without an alias is not counted."""
    rows = "".join(f"- {number}\n" for number in range(MOST_REPEATED + 1))
    (tmp_path / "file.yaml").write_text(f"a: &a {{x: [1, 2]}}\nb: *a\nc: {{<<: *a, y: &y 3}}\nd: *y\nrows:\n{rows}")
    content = YamlFile(tmp_path / "file.yaml").content
    assert (content["b"], content["c"], content["d"]) == ({"x": [1, 2]}, {"x": [1, 2], "y": 3}, 3)
    assert len(content["rows"]) == MOST_REPEATED + 1


def test_a_mapping_may_take_over_from_another_and_be_repeated(tmp_path):
    (tmp_path / "file.yaml").write_text("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: *b\n")
    content = YamlFile(tmp_path / "file.yaml").content
    assert content["b"] == content["c"] == {"x": 3, "y": 2}


def test_words_and_numbers_are_what_they_look_like(tmp_path):
    """As YAML 1.2 has it: a country or a switch is no truth value, and a time no number of base 60."""
    (tmp_path / "file.yaml").write_text(
        "no: no\ntrue: [yes, on, N, true, ~, 010, 0x10, 1_000, 22:30, 1.50, 2020-02-30 x, 1e3, -7]\n007: null\n"
    )
    content = YamlFile(tmp_path / "file.yaml").content
    assert list(content) == ["no", "true", "007"]
    assert content["no"] == "no"
    assert content["true"] == [
        "yes",
        "on",
        "N",
        True,
        None,
        10,
        16,
        1000,
        "22:30",
        1.5,
        "2020-02-30 x",
        1000.0,
        -7,
    ]


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("a: 1\nb: !!python/object/apply:os.system [x]\n", "constructor for the tag", 2),
        ("a: 1\n? [x, y]\n: 2\n", "a list or a mapping as a key", 2),
        ("a: 1\nb: 2\na: 3\n", "found duplicate key", 3),
        ("a: 1\n---\nb: 2\n", "found another document", 2),
    ],
)
def test_what_is_no_plain_mapping_is_refused_with_its_line(tmp_path, text, what, line):
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=what) as told:
        YamlFile(tmp_path / "file.yaml")
    assert told.value.where == f"{tmp_path / 'file.yaml'}:{line}"
