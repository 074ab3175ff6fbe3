"""JSON is kept or refused whole: numbers with all digits, no member lost, nothing that PostgreSQL would not take."""

import json
from decimal import Decimal

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets_tests.machinery.transforms.applied import applied

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
UGLY = {
    "{": "is no JSON",
    "": "is no JSON",
    "NaN": "is no JSON",
    "[1,]": "is no JSON",
    "{'a': 1}": "is no JSON",
    "01": "is no JSON",
    '"a\nb"': "is no JSON",
    '{"a": 1, "b": {"c": 1, "c": 2}}': "has two members of one name, of which one would be lost",
    r'{"a": "\u0000"}': "holds a NUL, which PostgreSQL cannot hold",
    r'["\ud800"]': "holds half of a surrogate pair, which is no text",
    r'{"\udc00x": 1}': "holds half of a surrogate pair, which is no text",
    "[" * 100_000: "is nested too deeply",
}


@pytest.mark.parametrize("kept", ["exactly", "canonical"])
@pytest.mark.parametrize("text", UGLY)
def test_what_cannot_be_kept_is_told(text: str, kept: str) -> None:
    made = applied("json", [text], kept=kept)
    assert made.values == [None]
    assert made.told == [(0, "unparseable", f"{text[:40]} {UGLY[text]}")]


@settings()
@given(VALUES)
def test_values_keep_what_they_say(value: object) -> None:
    exactly, canonical = (
        applied("json", [json.dumps(value)], kept=kept).values[0] for kept in ("exactly", "canonical")
    )
    assert exactly == json.dumps(value)
    assert canonical == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_numbers_keep_their_digits() -> None:
    text = '{ "b": [1.50, 1e3, -0, -0.0, 12345678901234567890123, 0.1000000000000000055511151231257827], "a": 1E-7 }'
    assert applied("json", [text]).values == [text]
    assert applied("json", [text], kept="canonical").values == [
        '{"a":0.0000001,"b":[1.50,1000,0,0.0,12345678901234567890123,0.1000000000000000055511151231257827]}'
    ]
    [detail] = [detail for _, _, detail in applied("json", ["1e999999999"], kept="canonical").told]
    assert detail == "1e999999999 holds the number 1e999999999, which PostgreSQL cannot hold"


def test_an_escaped_backslash_before_u0000_is_no_nul_and_pairs_are_text() -> None:
    texts = [r'"\\u0000"', r'"\ud83d\ude00"', r'"\\ud800"']
    assert applied("json", texts).values == texts
    assert applied("json", texts, kept="canonical").values == [r'"\\u0000"', '"😀"', r'"\\ud800"']


def test_unreadable_json_may_be_null() -> None:
    made = applied("json", ["{", " ", None, "1"], unreadable="null", blank="null")
    assert made.values == [None, None, None, "1"]
    assert made.counted == [(0, "unreadable_JSON"), (1, "empty_to_null")]


def test_a_server_reads_and_prints_arrays_alike(database_url: str) -> None:
    ugly = [
        "",
        "null",
        "NULL",
        'q"',
        "\\",
        "{",
        "}",
        ",",
        " ",
        "a b",
        "\n",
        "é",
        "plain",
        None,
        "'",
        "\v",
        "\u00a0",
        "Null",
    ]
    cases = {
        "text[]": [ugly, [], [None], [["a", None], ["b", "c d"]], [{"b": 1, "a": [1]}]],
        "integer[]": [[1, -2, None], [[1, 2], [3, 4]]],
        "numeric[]": [[1.5, 10**30]],
        "boolean[]": [[True, False]],
    }
    with psycopg.connect(database_url) as connection:
        for kind, values in cases.items():
            literals = applied("array", [json.dumps(value) for value in values]).values  # type: ignore[attr-defined]
            for value, literal in zip(values, literals, strict=True):
                printed, back = connection.execute(
                    f"SELECT %(a)s::{kind}::text, to_jsonb(%(a)s::{kind})", {"a": literal}
                ).fetchone() or (None, None)
                if kind != "boolean[]":
                    assert printed == literal, value
                if not isinstance((value or [None])[0], dict):
                    assert json.loads(json.dumps(back), parse_float=Decimal) == json.loads(
                        json.dumps(value), parse_float=Decimal
                    )


def test_what_is_no_array() -> None:
    texts = ["{}", "1", "null", "[[1],[1,2]]", "[[1],2]", "[[],[]]", "[1", r'["\u0000"]', None]
    made = applied("array", texts)
    assert made.values == [None] * len(texts)
    assert [row for row, _, _ in made.told] == list(range(8))
    assert made.told[0][2] == "{} is no JSON array"
    assert made.told[3][2] == "[[1],[1,2]] holds arrays of several lengths, or beside other elements"


def test_an_array_of_the_parts_of_a_text(database_url: str) -> None:
    texts = ["a,b", "", "Deleted Scenes,NULL", ",", 'q",\\', None]
    literals = applied("array", texts, separator=",").values
    with psycopg.connect(database_url) as connection:
        for text, literal in zip(texts, literals, strict=True):
            [(back, printed)] = connection.execute(
                "SELECT %(a)s::text[], %(a)s::text[]::text", {"a": literal}
            ).fetchall()
            assert back == (None if text is None else text.split(",") if text else [])
            assert printed == literal
    with pytest.raises(ValueError, match="empty separator"):
        applied("array", ["a"], separator="")


def test_the_plain_text_of_a_value() -> None:
    texts = {
        "null": None,
        '"a"': "a",
        '""': "",
        r'"q\" \\ \n \u00e9 é"': 'q" \\ \n é é',
        "12.50": "12.50",
        "true": "true",
        '{"$oid":"507f1f77bcf86cd799439011"}': "507f1f77bcf86cd799439011",
        '{"$numberInt":"5"}': "5",
        '{"$numberLong":"9223372036854775807"}': "9223372036854775807",
        '{"$numberDouble":"-1.5"}': "-1.5",
        '{"$numberDecimal":"1.50"}': "1.50",
        '{"$date":{"$numberLong":"-1"}}': "1969-12-31T23:59:59.999Z",
        '{"$date":{"$numberLong":"1720000000123"}}': "2024-07-03T09:46:40.123Z",
        '{"$date":{"$numberLong":"253402300800000"}}': '{"$date":{"$numberLong":"253402300800000"}}',
        '{"$binary":{"base64":"AAAACgAAAAAAAAAAAAAAAQ==","subType":"04"}}': "0000000a-0000-0000-0000-000000000001",
        '{"a":1}': '{"a":1}',
        "[1]": "[1]",
    }
    made = applied("text_of", list(texts))
    assert dict(zip(texts, made.values, strict=True)) == texts
    assert made.told == []


def test_what_says_no_plain_text() -> None:
    texts = ["a", '"a', '"a" "b"', r'"\ud800"', r'"a\u0000"', None]
    made = applied("text_of", texts)
    assert made.values == [None] * 6
    assert [row for row, _, _ in made.told] == [0, 1, 2, 3, 4]
