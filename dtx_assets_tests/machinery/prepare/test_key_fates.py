"""Which of the rows that share a key counts, held against plain Python."""

from itertools import count

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.prepare.batches import key_fates
from dtx_assets.machinery.sources.frames import source_key
from dtx_assets_tests.machinery.zoo import UNDECODABLE

COLUMNS = ("animal_id", "keeper", "name", "extra:note")
ONE = LegacyTable(
    "animal", "zoo", COLUMNS, ("animal_id",), kind_of=lambda n: "integer" if n.endswith("_id") else "text"
)
TWO = LegacyTable("animal", "zoo", COLUMNS, ("animal_id", "keeper"), kind_of=ONE.kind_of)

Row = tuple[str | bytes | None, ...]


def fates(table: LegacyTable, rows: list[Row], *, chunk: int = 100, shuffled: bool = False) -> dict[int, str]:
    """The fates by ordinal; a value of bytes is one that is no text, landed escaped."""
    texts = [[v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else v for v in row] for row in rows]
    lost = [
        [{"column": name, "bytes": v} for name, v in zip(COLUMNS, row, strict=True) if isinstance(v, bytes)] or None
        for row in rows
    ]
    frame = pl.DataFrame(texts, schema=dict.fromkeys(COLUMNS, pl.String), orient="row").with_columns(
        pl.Series("_row", range(1, len(rows) + 1), pl.Int64), pl.Series("_undecodable", lost, UNDECODABLE)
    )
    chunks = [frame.slice(start, chunk) for start in range(0, len(rows), chunk)] or [frame]
    frame = pl.concat(chunks[::-1] if shuffled else chunks, rechunk=False)
    found = key_fates(table, source_key(table, frame.lazy()))
    assert found.schema == {"_row": pl.Int64, "_key_fate": pl.String}
    assert found["_row"].is_unique().all()
    return dict(found.rows())


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
