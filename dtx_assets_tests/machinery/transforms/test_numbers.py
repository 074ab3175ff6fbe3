"""Decimals keep every digit, and what no column of that form holds is told, never rounded in silence."""

import re
from decimal import ROUND_HALF_UP, Decimal, localcontext

import polars as pl
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets_tests.machinery.transforms.applied import applied

NUMBERS = st.one_of(
    st.none(),
    st.from_regex(r"\A-?[0-9]{0,45}[.]?[0-9]{0,45}\Z"),
    st.from_regex(r"\A-?[09]{1,6}[.][0-9]{0,3}[4569]{1,3}[09]{0,3}\Z"),
    st.from_regex(r"\A[-+]?[0-9]{1,3}([.][0-9]{0,3})?[eE][+-]?[0-9]{1,2}\Z"),
    st.decimals(allow_nan=True, allow_infinity=True).map(str),
    st.text(max_size=8),
)


def python_number(
    text: str | None, precision: int | None, scale: int | None, rounds: bool, exponent: bool
) -> tuple[str | None, str | None]:
    """The text that PostgreSQL prints, and what is wrong."""
    if text is None:
        return None, None
    pattern = r"-?([0-9]+\.?[0-9]*|\.[0-9]+)" + (r"([eE][+-]?[0-9]{1,6})?" if exponent else "")
    if not re.fullmatch(pattern, text):
        return None, "unparseable"
    with localcontext() as exact:
        exact.prec = 500
        number = Decimal(text)
        if scale is not None:
            rounded = number.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
            surplus, number = rounded != number, rounded
        elif number.as_tuple().exponent > 0:
            surplus, number = False, number.quantize(Decimal(1))
        else:
            surplus = False
        if precision is not None and number and number.adjusted() + 1 > precision - (scale or 0):
            return None, "schema_violation"
    if surplus and not rounds:
        return None, "schema_violation"
    return f"{abs(number) if number.is_zero() else number:f}", "rounded" if surplus else None


@settings()
@given(
    NUMBERS,
    st.sampled_from([(None, None), (18, 4), (15, 2), (5, 0), (40, 40), (None, 3), (3, 5), (1000, 30)]),
    st.booleans(),
    st.booleans(),
)
def test_numbers_are_those_of_python(
    text: str | None, form: tuple[int | None, int | None], rounds: bool, exponent: bool
) -> None:
    precision, scale = form
    made = applied(
        "numeric",
        [text],
        precision=precision,
        scale=scale,
        surplus="round" if rounds else "reject",
        exponent=exponent,
    )
    value, wrong = python_number(text, precision, scale, rounds, exponent)
    assert made.values == [value]
    assert [reason for _, reason, _ in made.told] == ([wrong] if wrong not in (None, "rounded") else [])
    assert [kind for _, kind in made.counted] == (["rounded"] if wrong == "rounded" else [])


def test_numbers_and_what_is_wrong_with_them() -> None:
    texts = ["-0", "5.", ".5", "007.50", "-0.00005", "1e3", "1,5", "", " 1", "+1", "--1", ".", "-", "12345", None, "٣"]
    made = applied("numeric", texts, precision=8, scale=4)
    assert made.values == ["0.0000", "5.0000", "0.5000", "7.5000", *[None] * 12]
    assert made.told == [
        (4, "schema_violation", "-0.00005 has more than 4 decimals"),
        *((row, "unparseable", f"{texts[row]} is no number") for row in range(5, 13)),
        (13, "schema_violation", "12345 has more than 4 digits before the point"),
        (15, "unparseable", "٣ is no number"),
    ]
    assert made.counted == []


def test_surplus_decimals_are_rounded_half_away_from_zero_and_counted() -> None:
    texts = ["0.5", "-0.5", "1.5", "2.50", "2.4999", "-0.4", "999.5", "9999.5", "3.000", "99.99999999999999999999"]
    made = applied("numeric", texts, precision=4, surplus="round")
    assert made.values == ["1", "-1", "2", "3", "2", "0", "1000", None, "3", "100"]
    assert made.counted == [(row, "rounded") for row in (0, 1, 2, 3, 4, 5, 6, 9)]
    assert made.told == [(7, "schema_violation", "9999.5 has more than 4 digits before the point")]


def test_no_number_is_a_float_on_the_way() -> None:
    long = "12345678901234567890123456789.123456789012345678901234567891"
    assert applied("numeric", [long, "0.1", "9007199254740993"]).values == [long, "0.1", "9007199254740993"]
    assert applied("numeric", ["1e-20", "1.50E3", "15e-1"], exponent=True).values == [f"0.{'0' * 19}1", "1500", "1.5"]


def test_an_exponent_that_no_memory_holds_is_told() -> None:
    made = applied("numeric", ["1e999999", "1e-999999", "0e999999", "1e99999999999"], exponent=True)
    assert made.values[:2] == [None, None]
    assert [(row, reason) for row, reason, _ in made.told] == [
        (0, "schema_violation"),
        (1, "schema_violation"),
        (3, "unparseable"),
    ]


def test_what_cannot_be_read_may_be_null_and_blanks_too() -> None:
    made = applied("numeric", ["x", "", " ", "1"], unreadable="null", blank="null")
    assert made.values == [None, None, None, "1"]
    assert made.told == []
    assert made.counted == [(0, "unreadable_number"), (1, "empty_to_null"), (2, "empty_to_null")]


@pytest.mark.parametrize("wrong", [{"precision": 0}, {"precision": 1001}, {"scale": -1}, {"scale": 1001}])
def test_forms_that_no_column_has(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="give"):
        applied("numeric", ["1"], **wrong)


def test_a_server_prints_them_alike(database_url: str) -> None:
    texts = ["-0", "5.", ".5", "007.50", "1.5e3", "1.50e1", "25e-3", "12345678901234567890.5", "0.00", "-0.10", "1e-10"]
    rows = applied("numeric", texts, exponent=True).values
    scaled = applied("numeric", texts, precision=30, scale=2, exponent=True, surplus="round").values
    with psycopg.connect(database_url) as connection:
        for text, value, at_scale in zip(texts, rows, scaled, strict=True):
            shown = connection.execute("SELECT %s::numeric::text, %s::numeric(30,2)::text", [text, text]).fetchone()
            assert shown == (value, at_scale), text


def test_booleans_by_lists_of_texts() -> None:
    texts = ["1", " T ", "TRUE", "y", "0", "f", "False", "N", "2", "", None, "yes"]
    made = applied("boolean", texts)
    assert made.values == [True] * 4 + [False] * 4 + [None] * 4
    assert [(row, detail) for row, _, detail in made.told] == [
        (8, "2 is no boolean"),
        (9, " is no boolean"),
        (11, "yes is no boolean"),
    ]
    made = applied("boolean", ["1", "2", "1.0", "0"], true_texts=["1", "1.0"], false_texts=["2"], unreadable="null")
    assert (made.values, made.counted) == ([True, False, True, None], [(3, "unreadable_boolean")])


def test_a_text_that_is_true_and_false() -> None:
    with pytest.raises(ValueError, match=r"'x'.*as true and as false"):
        applied("boolean", ["1"], true_texts=["X"], false_texts=["x "])


def test_many_numbers_in_one_frame_keep_their_places() -> None:
    texts = [None if number % 7 == 0 else f"{number}.{number % 10}5" for number in range(1000)]
    made = applied("numeric", texts, precision=10, scale=1, surplus="round")
    expected = [python_number(text, 10, 1, True, False)[0] for text in texts]
    assert made.values == expected
    assert pl.Series(made.values).null_count() == 143
