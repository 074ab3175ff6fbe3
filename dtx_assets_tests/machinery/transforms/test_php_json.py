"""PHP-serialised values as JSON, for any column of any mapping."""

import json

import phpserialize
import polars as pl
import pytest

from dtx_assets.machinery.transforms.columns import GENERIC
from dtx_assets.machinery.transforms.php_json import MAX_NESTING, NUL
from dtx_assets_tests.machinery.transforms.test_columns import CONTEXT


def made(value: str | None, **settings: bool) -> tuple[str | None, str | None]:
    """The JSON of a value, and why there is none."""
    outcome = GENERIC["php_json"]([pl.col("x")], CONTEXT, **settings)
    [problem] = outcome.problems
    frame = pl.DataFrame({"x": [value]}, schema={"x": pl.String})
    [row] = frame.select(outcome.value.alias("json"), pl.when(problem.when).then(problem.detail).alias("why")).rows()
    assert problem.reason == "unparseable"
    return row


@pytest.mark.parametrize(
    "value",
    [{"b": 1, "a": [True, None, 2.5]}, {"é": "ü\n"}, {}, {"deep": {"er": {"est": ""}}}, {"A": "\\u0000"}],
)
def test_arrays_become_objects_with_sorted_keys(value):
    text, why = made(phpserialize.dumps(value).decode())
    assert why is None
    assert text is not None
    as_objects = json.loads(
        json.dumps(value), object_hook=lambda found: {key: listed(inner) for key, inner in found.items()}
    )
    assert json.loads(text) == as_objects
    assert text == json.dumps(as_objects, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def listed(value: object) -> object:
    return {str(place): item for place, item in enumerate(value)} if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("value", "text"), [(None, None), ("", None), ("N;", "null"), ("i:7;", "7"), ("b:0;", "false")]
)
def test_nothing_and_scalars(value, text):
    assert made(value) == (text, None)


def nested(depth: int) -> str:
    return "a:1:{i:0;" * depth + "N;" + "}" * depth


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("plain text", "no PHP value starts here (at byte 0)"),
        ('O:8:"stdClass":0:{}', "an object, enum or custom serialisation is never read (at byte 0)"),
        ("d:NAN;", "holds a number that JSON does not have"),
        ('s:3:"a\0b";', NUL),
        (nested(MAX_NESTING + 1), f"arrays are nested more than {MAX_NESTING} deep"),
    ],
)
def test_what_json_cannot_hold_rejects_the_row_without_a_word_of_it(value, why):
    text, told = made(value)
    assert text is None
    assert told is not None
    assert told.startswith(why)


def test_lengths_may_count_latin1_where_that_is_said():
    assert made('s:1:"é";')[0] is None
    assert made('s:1:"é";', latin1_lengths=True) == ('"é"', None)
    assert made(nested(MAX_NESTING))[1] is None
