"""YAML that would take all memory or all of the stack is refused with its line; what people write is not."""

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.yaml_file import DEEPEST, MOST_REPEATED, YamlFile, plain

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
    content = plain(YamlFile(tmp_path / "file.yaml").content)
    assert (content["b"], content["c"], content["d"]) == ({"x": [1, 2]}, {"x": [1, 2], "y": 3}, 3)
    assert len(content["rows"]) == MOST_REPEATED + 1
