"""Problems and coercions reach their rows, however many there are and however the frame lies in memory."""

import re
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.mapping.execute import RowProblem, add_problems, apply_columns
from dtx_assets.machinery.mapping.model import SourceMapping
from dtx_assets.machinery.transforms.columns import GENERIC, TransformContext

PROBLEM = pl.List(pl.Struct({"reason": pl.String, "column": pl.String, "detail": pl.String}))
CONTEXT = TransformContext({}, {}, {}, "UTC", datetime(2026, 11, 21, tzinfo=UTC))
ROWS = st.lists(st.tuples(st.none() | st.text(max_size=3), st.none() | st.text("ab \x00é", max_size=3)), max_size=40)


def frame_of(rows: list[tuple[str | None, str | None]], chunk: int) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema={"one": pl.String, "two": pl.String}, orient="row")
    return pl.concat([frame.slice(start, chunk) for start in range(0, len(rows), chunk)] or [frame], rechunk=False)


def many(count: int) -> list[RowProblem]:
    """Problems on either column: `count` of each kind, so that lists get long."""
    found = []
    for number in range(count):
        quoted = pl.format("{} is short ({})", pl.col("one").str.head(2).fill_null("NULL"), pl.lit(number))
        found.append(RowProblem(pl.col("one").str.len_chars() < number, f"short_{number}", "one", quoted))
        found.append(RowProblem(pl.col("two").is_null(), f"null_{number}", "two", "is NULL"))
        found.append(RowProblem(pl.col("one") == pl.col("two"), f"equal_{number}", "one, two", pl.col("two")))
    return found


def expected(row: tuple[str | None, str | None], count: int) -> list[tuple[str, str, str]]:
    one, two = row
    found = []
    for number in range(count):
        if one is not None and len(one) < number:
            found.append((f"short_{number}", "one", f"{one[:2]} is short ({number})"))
        if two is None:
            found.append((f"null_{number}", "two", "is NULL"))
        if one is not None and one == two:
            found.append((f"equal_{number}", "one, two", two))
    return found


def listed(frame: pl.DataFrame) -> list[list[tuple[str, str, str]]]:
    assert frame.schema["_problems"] == PROBLEM
    return [[(p["reason"], p["column"], p["detail"]) for p in problems] for problems in frame["_problems"].to_list()]


@settings()
@given(rows=ROWS, chunk=st.integers(1, 7), count=st.integers(1, 8), calls=st.integers(1, 3))
def test_against_plain_python(rows, chunk, count, calls):
    frame = frame_of(rows, chunk)
    for _ in range(calls):
        frame = add_problems(frame, *many(count))
    assert listed(frame) == [expected(row, count) * calls for row in rows]
    assert frame.select("one", "two").rows() == rows


def test_a_hundred_problems_on_rows_in_a_thousand_chunks():
    rows = [("é" * (number % 4), None if number % 5 == 0 else "x") for number in range(3_000)]
    frame = add_problems(frame_of(rows, 3), *many(34))
    assert listed(frame) == [expected(row, 34) for row in rows]
    part = frame.filter(pl.col("two").is_null())
    again = add_problems(part, RowProblem(pl.col("two").is_null(), "r", "c", "d"))
    assert listed(again) == [[*found, ("r", "c", "d")] for found in listed(part)]


def test_a_condition_that_is_null_is_none():
    frame = pl.DataFrame({"one": [None, "a"]}, schema={"one": pl.String})
    assert listed(add_problems(frame, RowProblem(pl.col("one") == "a", "r", "one", "d"))) == [[], [("r", "one", "d")]]


def test_a_detail_that_is_null_does_not_hide_the_problem():
    frame = pl.DataFrame({"one": [None]}, schema={"one": pl.String})
    found = add_problems(frame, RowProblem(pl.col("one").is_null(), "r", "one", pl.format("{}!", "one")))
    assert found["_problems"].to_list() == [[{"reason": "r", "column": "one", "detail": None}]]


@pytest.mark.parametrize("problems", [(), (RowProblem(pl.col("one") == "z", "r", "one", "d"),)])
def test_no_problem_is_an_empty_list(problems):
    found = add_problems(frame_of([("a", "b"), (None, None)], 1), *problems)
    assert listed(found) == [[], []]
    assert listed(add_problems(frame_of([], 1), *problems)) == []


def test_other_columns_and_their_order_stay():
    frame = pl.DataFrame({"z": [3, 1, 2], "_position_of": ["a", "b", "c"], "one": ["x", None, "y"]})
    found = add_problems(frame, RowProblem(pl.col("one").is_null(), "r", "one", "d"))
    assert found.drop("_problems").equals(frame)
    assert found.columns == [*frame.columns, "_problems"]


MAPPING = SourceMapping.model_validate(
    {
        "columns": {
            "first": {"from": "one", "transform": "trimmed_end"},
            "second": {"from": "two", "transform": "trimmed_end"},
            "number": {"from": "one", "transform": "integer"},
        }
    }
)


@settings()
@given(rows=ROWS, chunk=st.integers(1, 7))
@example(rows=[("a ", "b "), ("-1.0", None)], chunk=1)
def test_a_mapping_does_the_same_to_rows_in_many_chunks(rows, chunk):
    undecodable = pl.lit(None, pl.List(pl.Struct({"column": pl.String, "bytes": pl.Binary}))).alias("_undecodable")
    found = apply_columns(frame_of(rows, chunk).with_columns(undecodable), MAPPING, CONTEXT, GENERIC)
    for row, made in zip(rows, found.iter_rows(named=True), strict=True):
        assert (made["one"], made["two"]) == row
        both = list(zip(row, (made[":first"], made[":second"]), strict=True))
        assert all((text or "").startswith(value or "") and (text is None) == (value is None) for text, value in both)
        assert made["_coercions"] == ["trimmed"] * sum(text != value for text, value in both)
        details = [problem["detail"] for problem in made["_problems"]]
        assert sum("holds a NUL" in detail for detail in details) == sum("\x00" in (text or "") for text in row)
        is_integer = re.fullmatch(r"-?[0-9]+(\.0)?", row[0] or "") is not None
        assert made[":number"] == (int(float(row[0])) if is_integer else None)
        assert any("is no integer" in detail for detail in details) == (row[0] is not None and not is_integer)
