"""Which of the rows that share a key counts, held against plain Python; held whole, and spread over files."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.prepare import batches, repeated
from dtx_assets.machinery.prepare.batches import SourceRows, key_fates
from dtx_assets.machinery.sources.frames import source_key
from dtx_assets_tests.machinery.zoo import UNDECODABLE

COLUMNS = ("animal_id", "keeper", "name", "extra:note")
ONE = LegacyTable(
    "animal", "zoo", COLUMNS, ("animal_id",), kind_of=lambda n: "integer" if n.endswith("_id") else "text"
)
TWO = LegacyTable("animal", "zoo", COLUMNS, ("animal_id", "keeper"), kind_of=ONE.kind_of)

Row = tuple[str | bytes | None, ...]


def frame_of(rows: list[Row], *, chunk: int = 100, shuffled: bool = False) -> pl.LazyFrame:
    """The rows as landed; a value of bytes is one that is no text, landed escaped."""
    texts = [[v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else v for v in row] for row in rows]
    lost = [
        [{"column": name, "bytes": v} for name, v in zip(COLUMNS, row, strict=True) if isinstance(v, bytes)] or None
        for row in rows
    ]
    frame = pl.DataFrame(texts, schema=dict.fromkeys(COLUMNS, pl.String), orient="row").with_columns(
        pl.Series("_row", range(1, len(rows) + 1), pl.Int64), pl.Series("_undecodable", lost, UNDECODABLE)
    )
    chunks = [frame.slice(start, chunk) for start in range(0, len(rows), chunk)] or [frame]
    return pl.concat(chunks[::-1] if shuffled else chunks, rechunk=False).lazy()


def fates(
    table: LegacyTable, rows: list[Row], *, chunk: int = 100, shuffled: bool = False, home: Path | None = None
) -> dict[int, str]:
    """The fates by ordinal."""
    frame = frame_of(rows, chunk=chunk, shuffled=shuffled)
    found = key_fates(table, source_key(table, frame), len(rows), home)
    assert found.schema == {"_row": pl.Int64, "_key_fate": pl.String}
    assert found["_row"].is_unique().all()
    assert found["_row"].is_sorted()
    return dict(found.rows())


@contextmanager
def holding(keys: int, rows: int) -> Iterator[Path]:
    """A home, while no more than so many digests and rows are held."""
    with (
        patch.object(batches, "KEYS_HELD", keys),
        patch.object(batches, "SCATTERED_ROWS", rows),
        tempfile.TemporaryDirectory() as home,
    ):
        yield Path(home)
        assert not list(Path(home).glob("batches-*")), "nothing is left of what was spread"


def expected(table: LegacyTable, rows: list[Row]) -> dict[int, str]:
    """The contract's two sentences: of identical rows the first counts; of those left, the later one of a key."""
    found: dict[int, str] = {}
    seen: set[Row] = set()
    last: dict[tuple[str, ...], int] = {}
    for ordinal, row in zip(count(1), rows, strict=False):
        key = tuple(_text(table, name, row[COLUMNS.index(name)]) for name in table.key)
        if None in key:
            continue
        if row in seen:
            found[ordinal] = "identical"
            continue
        seen.add(row)
        if key in last:
            found[last[key]] = "duplicate_key"
        last[key] = ordinal
    return found


def _text(table: LegacyTable, name: str, value: str | bytes | None) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if value is not None and table.kind_of(name) == "integer" and value.removesuffix(".0").isdecimal():
        return str(int(value.removesuffix(".0")))
    return value


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["1", "1.0", "01", "2", "x", "", None]),
        st.sampled_from(["k", "K", "", None, "a\x00", "null"]),
        st.sampled_from(["n", "", None, r"\xff", b"\xff"]),
        st.sampled_from(["e", None, b"\xff"]),
    ),
    max_size=25,
)


@settings()
@given(st.sampled_from([ONE, TWO]), ROWS, st.integers(1, 10), st.booleans())
def test_against_plain_python(table, rows, chunk, shuffled):
    assert fates(table, rows, chunk=chunk, shuffled=shuffled) == expected(table, rows)


@settings()
@given(st.sampled_from([ONE, TWO]), ROWS, st.integers(1, 10), st.booleans(), st.integers(1, 9), st.integers(1, 9))
def test_spread_over_files_it_is_the_same(table, rows, chunk, shuffled, held_keys, held_rows):
    with holding(held_keys, held_rows) as home:
        assert fates(table, rows, chunk=chunk, shuffled=shuffled, home=home) == expected(table, rows)


LIMITS = [-(1 << 63), -(1 << 63) + 1, -1, 0, 1, 1 << 61, (1 << 63) - 1]


@settings()
@given(st.lists(st.lists(st.sampled_from(LIMITS) | st.integers(-(1 << 63), (1 << 63) - 1))), st.integers(1, 9))
def test_numbers_that_occur_twice(chunks: list[list[int]], ranges: int):
    every = [number for chunk in chunks for number in chunk]
    again = sorted({number for number in every if every.count(number) > 1})
    with tempfile.TemporaryDirectory() as directory:
        series = (pl.Series(chunk, dtype=pl.Int64) for chunk in chunks)
        found = repeated.repeated_of_many(series, ranges, Path(directory))
        assert not list(Path(directory).iterdir())
    assert found.numbers.to_list() == again
    assert found.rows == sum(every.count(number) for number in again)
    whole = repeated.repeated(pl.Series(every, dtype=pl.Int64))
    assert (whole.numbers.to_list(), whole.rows) == (again, found.rows)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        pytest.param(str, lambda _: "n", id="each key once"),
        pytest.param(lambda n: str(n // 2), str, id="each twice, the later counts"),
        pytest.param(lambda n: str(n // 2), lambda _: "n", id="each twice, wholly the same"),
        pytest.param(lambda n: str(n % 3_000), str, id="far apart"),
        pytest.param(lambda _: "7", lambda _: "n", id="one key, wholly the same"),
        pytest.param(lambda _: "7", lambda n: str(n % 5), id="one key, five contents"),
    ],
)
def test_what_is_held_does_not_grow_with_the_rows(key: Callable[[int], str], name: Callable[[int], str]):
    held_keys, held_rows = [0], [0]
    find, compare = repeated.repeated, batches._first_of_each

    def counted(numbers: pl.Series) -> repeated.Repeated:
        held_keys.append(len(numbers))
        return find(numbers)

    def compared(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
        held_rows.append(sum(frame.height for frame in frames))
        return compare(frames)

    rows: list[Row] = [(key(n), "k", name(n), "e") for n in range(6_000)]
    with (
        holding(400, 200) as home,
        patch.object(repeated, "repeated", counted),
        patch.object(batches, "repeated", counted),
        patch.object(batches, "_first_of_each", compared),
    ):
        assert fates(ONE, rows, home=home) == expected(ONE, rows)
    assert len(held_keys) - 1 == 15, "a range of each 400 rows"
    assert max(held_keys) < 500
    # Of a piece of rows no more than what one chunk brings besides.
    assert max(held_rows) <= 200 + 200 + 10


def test_rows_find_their_fates_chunk_by_chunk():
    rows: list[Row] = [(str(n % 700), "k", str(n % 3), "e") for n in range(1_000)]
    whole = SourceRows.of(ONE, frame_of(rows), len(rows))
    with holding(100, 50) as home:
        spread = SourceRows.of(ONE, frame_of(rows), len(rows), home=home)
    assert spread.fates.equals(whole.fates)
    assert whole.fates.height == 300
    every = source_key(ONE, whole.frame).collect()
    placed = pl.concat(spread.placed(every.slice(start, 37)) for start in range(0, 1_000, 37))
    assert placed.equals(
        every.join(whole.fates, on="_row", how="left", maintain_order="left")
        .select(placed.drop("_bucket").columns)
        .with_columns(placed["_bucket"])
        .select(placed.columns)
    )
    assert placed["_key_fate"].count() == 300
    assert spread.placed(every.head(0)).schema == placed.schema


@pytest.mark.parametrize(
    ("rows", "fate"),
    [
        pytest.param([("1", "k", "n", "e")] * 3, {2: "identical", 3: "identical"}, id="identical: the first counts"),
        pytest.param(
            [("1", "k", name, "e") for name in "abc"], {1: "duplicate_key", 2: "duplicate_key"}, id="the later counts"
        ),
        pytest.param(
            [("1", "k", name, "e") for name in "aba"], {1: "duplicate_key", 3: "identical"}, id="the first again"
        ),
        pytest.param(
            [("1", "k", "n", "e"), ("1.0", "k", "n", "e")], {1: "duplicate_key"}, id="one key written in two ways"
        ),
        pytest.param([(None, "k", "n", "e")] * 2, {}, id="NULL is no key"),
        pytest.param([("", "k", "n", "e")] * 2, {2: "identical"}, id="an empty text is one"),
        pytest.param([("1", "k", "n", "e"), ("1", "k", "n", None)], {1: "duplicate_key"}, id="a column nobody named"),
        pytest.param(
            [("1", "k", b"\xff", "e"), ("1", "k", r"\xff", "e")], {1: "duplicate_key"}, id="bytes and their escape"
        ),
        pytest.param([("1", "k", b"\xff", "e")] * 2, {2: "identical"}, id="the same bytes"),
        pytest.param([], {}, id="no rows"),
    ],
)
def test_what_becomes_of_rows_with_one_key(rows, fate):
    assert fates(ONE, rows) == fate


def test_two_columns_are_one_key():
    rows = [("1", "k", "a", "e"), ("1", "K", "b", "e"), ("1", None, "c", "e"), ("1", None, "c", "e")]
    assert fates(TWO, rows) == {}
    assert fates(TWO, [*rows, ("01", "k", "d", "e")]) == {1: "duplicate_key"}


def test_a_key_that_may_repeat_and_none_at_all():
    rows = [("1", "k", "n", "e")] * 2
    assert fates(LegacyTable("a", "zoo", COLUMNS, ("animal_id",), key_repeats=True), rows) == {}
    assert fates(LegacyTable("a", "zoo", COLUMNS), rows) == {}
