"""Digests of the slices of a frame: they change with anything a slice holds, and with nothing beside it."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import polars as pl
import pytest

from dtx_assets.machinery.prepare.digests import content_digest, digests_of_slices

FRAME = pl.DataFrame(
    {
        "_row": [0, 1, 0, 1, 2],
        "name": ["Rex", None, "", "Rex", "a\x01b"],
        "sound": [True, None, False, True, True],
        "weight": [1.5, None, 2.0, -0.0, 1.5],
        "amount": [Decimal("1.10"), None, Decimal("-2.00"), Decimal("0.00"), Decimal("1.10")],
        "seen_at": [datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC), None, None, None, None],
        "born": [date(2020, 1, 2), None, None, None, None],
        "fed": [time(1, 2, 3), None, None, None, None],
        "parts": [["a", "b"], [], None, ["", None], ["a,b"]],
        "rows": [[1, 2], [], None, [0], [12]],
    }
)
PLACES = [(0, 2), (2, 3)]
OTHER = {
    "a text": pl.when(pl.col("_row") == 1).then(pl.lit("Max")).otherwise("name").alias("name"),
    "NULL for an empty text": pl.col("name").replace("", None),
    "an empty text for NULL": pl.col("name").fill_null(""),
    "a number": pl.col("weight") * 2,
    "a boolean": ~pl.col("sound"),
    "a time": pl.col("seen_at") + pl.duration(microseconds=1),
    "the elements of a list": pl.col("parts").list.reverse(),
    "NULL for an empty list": pl.when(pl.col("parts").list.len() > 0).then("parts").alias("parts"),
    "where elements part": pl.col("parts").list.join(",").str.split(",").alias("parts"),
    "numbers in a list": pl.col("rows").list.eval(pl.element() + 1),
    "the order of rows": pl.all().reverse(),
    "a type": pl.col("_row").cast(pl.Int32),
    "the name of a column": pl.col("name").alias("title"),
}


def digests(frame: pl.DataFrame) -> list[bytes]:
    return list(digests_of_slices(frame, PLACES))


def test_equal_slices_have_equal_digests_wherever_they_lie():
    first, second = digests(FRAME)
    assert first != second
    turned = pl.concat([FRAME.slice(2, 3), FRAME.slice(0, 2)])
    assert list(digests_of_slices(turned, [(0, 3), (3, 2)])) == [second, first]


@pytest.mark.parametrize("what", OTHER)
def test_a_digest_changes_with(what):
    changed = FRAME.with_columns(OTHER[what]) if "name of" not in what else FRAME.rename({"name": "title"})
    assert digests(changed) != digests(FRAME)


def test_a_slice_keeps_its_digest_when_another_one_changes():
    changed = FRAME.with_columns(
        pl.when(pl.int_range(pl.len()) < 2).then(pl.lit("Max")).otherwise("name").alias("name")
    )
    before, after = digests(FRAME), digests(changed)
    assert before[0] != after[0]
    assert before[1] == after[1]


@pytest.mark.parametrize(
    "column", [pl.Series("deep", [[["a"]], [["b"]], None, [], [[]]]), pl.Series("bytes", [b"a", b"b", None, b"", b"c"])]
)
def test_what_has_no_text_is_looked_at_slice_by_slice(column):
    frame = FRAME.with_columns(column)
    assert digests(frame) == [content_digest(frame.slice(*place)) for place in PLACES]
