"""Conditions of checks and rules on rows that are ugly, and what is refused of `checks.yaml`, with file and line."""

from dataclasses import replace

import polars as pl
import pytest
from pydantic import ValidationError

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.yaml_file import Findings, YamlFile
from dtx_assets.machinery.checks.own import Checks, Find, Look, groups_of
from dtx_assets.machinery.checks.written import own_checks
from dtx_assets.machinery.mapping.checks import checks_schema, read_checks
from dtx_assets.machinery.mapping.conditions import holds
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.mapping.model import Condition
from dtx_assets.machinery.mapping.validate import Known
from dtx_assets.machinery.mapping.value_map import ValueMap
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.transforms.columns import GENERIC
from dtx_assets_tests.library.definitions import SYSTEM

UGLY = [None, "", " \t", "\x00", "Wolf ", "wolf", "WOLF", "7", " 7", "7.0", "2024-02-29", "2024-02-30", "0000-00-00"]
UGLY += ["2024-02-29 10:11:12", "2024-02-29 25:00:00", "\ufffd"]
PET = LegacyTable("pet", "pets", ("pet_id", "name", "kind"), key=("pet_id",))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"is": "missing"}, [None]),
        ({"is": "blank"}, [None, "", " \t"]),
        ({"is": "filled"}, UGLY[3:]),
        ({"matches": r"\s$"}, [" \t", "Wolf "]),
        ({"matches": "^wolf$"}, ["wolf"]),
        ({"matches": "(?i)^wolf"}, ["Wolf ", "wolf", "WOLF"]),
        ({"matches": "\x00"}, ["\x00"]),
        ({"unreadable_as": "integer"}, [each for each in UGLY if each not in (None, "7", "7.0")]),
        ({"unreadable_as": "date"}, [each for each in UGLY if each not in (None, "2024-02-29")]),
        ({"unreadable_as": "time"}, [each for each in UGLY if each not in (None, "2024-02-29 10:11:12")]),
    ],
)
def test_what_a_condition_finds_of_ugly_values(asked, found):
    """And it is never NULL, so that what it does not find is found by its opposite."""
    rows = pl.DataFrame({"kind": UGLY}, {"kind": pl.String})
    truth = rows.select(holds([Condition.model_validate({"column": "kind", **asked})])).to_series()
    assert truth.null_count() == 0
    assert rows.filter(truth)["kind"].to_list() == found


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(ValidationError, match=r"'\(' is no regular expression: .*unclosed group"):
        Condition.model_validate({"column": "kind", "matches": "("})


CHECK = """\
legacy:
  pet:
    kinds_are_listed:
      description: kind.csv lists each kind.
      severity: ERROR
      blocking: true
      find: { column: kind, not_listed_in: kind }
      show: name
      values: { kinds: kind }
      distinct: true
      do: add them
"""


def read(directory, text):
    path = directory / "checks.yaml"
    path.write_text(text)
    value_map = ValueMap(path, pl.DataFrame({"kind": ["Wolf", None]}), (2, 3))
    known = Known({}, {"pet": PET}, GENERIC, {}, (), {"kind": value_map}, Decisions((), (), (), {}), ("broken",))
    findings = Findings()
    return read_checks(YamlFile(path), known, findings), findings.errors


@pytest.mark.parametrize(
    ("old", "new", "line", "what", "remedy"),
    [
        ("  pet:", "  pest:", 2, "unknown legacy table 'pest'", "did you mean 'pet'?"),
        ("column: kind", "column: kin", 7, "pet has no column 'kin'", "did you mean 'kind'?"),
        ("show: name", "show: nam", 8, "pet has no column 'nam'", "did you mean 'name'?"),
        ("kinds: kind", "kinds: kid", 9, "pet has no column 'kid'", "did you mean 'kind'?"),
        ("      do: add", "      replaces: kid\n      do: add", 11, "pet has no column 'kid'", "did you mean 'kind'?"),
        ("listed_in: kind", "listed_in: kinds", 7, "unknown value map 'kinds'", "did you mean 'kind'?"),
        ("not_listed_in: kind", "is: blanc", 7, "'is' cannot be 'blanc'", "'blank'"),
        ("not_listed_in: kind", "not_liste_in: kind", 7, "unknown key 'not_liste_in'", "did you mean 'not_listed_in'?"),
        (", not_listed_in: kind", "", 7, "asks nothing, or several things", "give one of"),
        ("column: kind", "value: kind", 7, "asks of a value that is made", "say `column: …`"),
        ("      description: kind.csv lists each kind.\n", "", 3, "'description' is missing", "add `description: …`"),
        ("kind.csv lists each kind.", "''", 4, "'description' cannot be ''", "at least 1 character"),
        ("      severity: ERROR\n", "", 3, "`blocking` says nothing here", "add `severity: ERROR`"),
        ("      values: { kinds: kind }\n", "", 3, "`distinct` counts values", "name a column"),
        ("      find: { column: kind, not_listed_in: kind }\n", "", 3, "finds nothing, or in two ways", "give one of"),
        (
            "      do: add",
            "      find_any: { column: kind, is: given }\n      do: add",
            3,
            "in two ways",
            "give one of",
        ),
        ("kinds_are_listed", "a: 1\n    kinds_are_listed", 3, "'a' cannot be '1'", "dictionary"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, old, new, line, what, remedy):
    assert old in CHECK
    _, errors = read(tmp_path, CHECK.replace(old, new, 1))
    told = [(error.what, error.where, error.remedy) for error in errors]
    assert len(told) == 1, told
    assert what in told[0][0]
    assert told[0][1] == f"{tmp_path / 'checks.yaml'}:{line}"
    assert remedy in told[0][2]


def test_a_value_map_that_cannot_be_read_is_told_once(tmp_path):
    found, errors = read(tmp_path, CHECK.replace("listed_in: kind", "listed_in: broken"))
    assert (len(found), errors) == (1, [])


def test_a_name_that_a_function_has_too_is_refused(tmp_path):
    functions = Checks()

    @functions.on("legacy/book")
    def kinds_are_listed(look: Look) -> Find:
        """Another one."""
        return Find(pl.lit(True))

    [placed], _ = read(tmp_path, CHECK)
    mappings = replace(SYSTEM.mappings, checks=(replace(placed, table="book"),))
    with pytest.raises(ConfigurationError) as error:
        own_checks(replace(SYSTEM, mappings=mappings, checks=functions))
    assert "legacy/book has two checks called kinds_are_listed" in error.value.what
    assert __file__ in error.value.what
    assert error.value.where == f"{tmp_path / 'checks.yaml'}:3"
    [_, both] = own_checks(
        replace(SYSTEM, mappings=replace(mappings, checks=(replace(placed, table="reader"),)), checks=functions)
    )
    assert groups_of([both])[0].asset == ("legacy", "book")


def test_the_schema_knows_every_key():
    schema = checks_schema()
    assert {"find", "find_any", "do", "distinct"} <= schema["$defs"]["WrittenCheck"]["properties"].keys()
    assert {"is", "not_listed_in", "matches"} <= schema["$defs"]["CheckCondition"]["properties"].keys()
