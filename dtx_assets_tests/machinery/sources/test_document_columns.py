"""What is read in columns is what is read document by document: for any documents, and any bytes in their place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import document_columns, document_walk
from dtx_assets.machinery.sources.document_framing import Document, document
from dtx_assets.machinery.sources.documents import _Rows, layout_of
from dtx_assets.machinery.sources.extended_json import decoded_bson
from dtx_assets.machinery.sources.landing import batches_of_rows


@dataclass
class Held:
    """A collection that lies nowhere."""

    held: Sequence[bytes]
    shown: str = "held"
    has_lines: bool = False

    def documents(self) -> Iterator[Document]:
        return (document(data, decoded_bson) for data in self.held)

    def exact_documents(self) -> Iterator[bytes]:
        return iter(self.held)


TABLE = LegacyTable("t", "area", ("_id", "a", "b", "é", "absent"))


def both_ways(held: Sequence[bytes], table: LegacyTable = TABLE) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a collection gives in columns, and document by document, with all that is counted of it."""
    collection = Held(held)
    layout = layout_of(table, collection)
    found = []
    for in_columns in (True, False):
        rows = _Rows(table, collection, layout)
        batches = rows.batches() if in_columns else batches_of_rows(rows.one_by_one(), layout.names)
        values = [[column.to_pylist() for column in batch.columns] for batch in batches]
        found.append(
            {
                **{
                    name: [value for each in values for value in each[place]] for place, name in enumerate(layout.names)
                },
                "types": rows.types(),
                "undeclared": [(name, sorted(kinds.items())) for name, kinds in rows.undeclared.items()],
                "counted": (rows.read, rows.unreadable, rows.not_named),
            }
        )
    return found[0], found[1]


def assert_same(held: Sequence[bytes], table: LegacyTable = TABLE) -> None:
    in_columns, one_by_one = both_ways(held, table)
    assert in_columns == one_by_one


NAMES = st.sampled_from(["_id", "a", "b", "é", "c", "0", "1", "$ref", "$id", "$oid", 'q"\n', "", "n" * 300])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.floats()
    | st.sampled_from([0.0, -0.0, 1e16, 1e-7, 5e-324, float("inf")])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.binary(max_size=3)
    | st.builds(Binary, st.binary(min_size=16, max_size=16), st.sampled_from([0, 2, 3, 4, 5, 128]))
    | st.binary(min_size=12, max_size=12).map(ObjectId)
    | st.integers(-(2**63), 2**63 - 1).map(DatetimeMS)
    | st.binary(min_size=16, max_size=16).map(Decimal128.from_bid)
    | st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
    | st.sampled_from([MinKey(), MaxKey(), Regex("a.b", "i"), Code("f"), Code("f", {"a": 1})])
    | st.builds(DBRef, st.text("ab", min_size=1, max_size=3), st.integers(0, 9))
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=5).map(bson.encode)


@settings(max_examples=200)
@given(st.lists(DOCUMENTS, min_size=1, max_size=6))
def test_any_documents(held: list[bytes]) -> None:
    assert_same(held)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A document whose frame is whole and whose inside is not."""
    data = bytearray(draw(DOCUMENTS))
    for _ in range(draw(st.integers(1, 3))):
        if len(data) > 5:
            place = draw(st.integers(4, len(data) - 2))
            if draw(st.booleans()):
                data[place] = draw(st.sampled_from([0, 1, 2, 3, 4, 5, 8, 16, 34, 36, 49, 97, 127, 128, 255]))
            else:
                data[place:place] = draw(st.binary(max_size=3))
    data[:4] = len(data).to_bytes(4, "little")
    return bytes(data)


@settings(max_examples=300)
@given(st.lists(damaged() | DOCUMENTS, min_size=1, max_size=6))
def test_any_bytes(held: list[bytes]) -> None:
    assert_same(held)


@settings(max_examples=40)
@given(st.lists(damaged() | DOCUMENTS, min_size=1, max_size=4), st.integers(1, 30))
def test_documents_that_are_alike_are_compared_at_once(held: list[bytes], times: int) -> None:
    assert_same(held * times)


def element(kind: int, name: bytes, value: bytes = b"") -> bytes:
    return bytes((kind,)) + name + b"\0" + value


def framed(*elements: bytes) -> bytes:
    inside = b"".join(elements)
    return (len(inside) + 5).to_bytes(4, "little") + inside + b"\0"


ONE = (1).to_bytes(4, "little")
GOOD = bson.encode({"_id": 1, "a": ["x", {"y": [1.5, None]}], "b": ObjectId(bytes(12)), "c": "é"})
ODD = {
    "a name twice": framed(element(16, b"a", ONE), element(16, b"a", ONE)),
    "a name twice inside": framed(element(3, b"a", framed(element(10, b"x"), element(10, b"x")))),
    "an undeclared name twice": framed(element(10, b"x"), element(16, b"x", ONE)),
    "array keys out of order": framed(element(4, b"a", framed(element(10, b"1"), element(10, b"0")))),
    "array keys that are names": framed(element(4, b"a", framed(element(10, b"x")))),
    "array keys of another length": framed(element(4, b"a", framed(element(16, b"longer", ONE)))),
    "a reference in another order": framed(
        element(
            3, b"a", framed(element(16, b"x", ONE), element(16, b"$id", ONE), element(2, b"$ref", b"\x02\0\0\0t\0"))
        )
    ),
    "a type nobody knows": framed(element(0x77, b"a", ONE)),
    "an undefined value": framed(element(6, b"a")),
    "a symbol": framed(element(14, b"a", b"\x02\0\0\0x\0")),
    "a text without its end": framed(element(2, b"a", b"\x02\0\0\0xy")),
    "a text that is too long": framed(element(2, b"a", b"\xff\xff\xff\x7fx\0")),
    "a text of no bytes": framed(element(2, b"a", b"\0\0\0\0")),
    "a text of negative length": framed(element(2, b"a", b"\xff\xff\xff\xff")),
    "no UTF-8": framed(element(2, b"a", b"\x03\0\0\0\xff\xfe\0")),
    "no UTF-8 inside": framed(element(4, b"a", framed(element(2, b"0", b"\x02\0\0\0\xff\0")))),
    "a surrogate": framed(element(2, b"a", b"\x04\0\0\0\xed\xa0\x80\0")),
    "a name that is no UTF-8": framed(element(10, b"\xff")),
    "a boolean of 2": framed(element(8, b"a", b"\x02")),
    "an inner length that is too small": framed(element(3, b"a", b"\x04\0\0\0\0")),
    "an inner length that is too large": framed(element(3, b"a", b"\x20\0\0\0\0")),
    "an inner document without its end": framed(element(3, b"a", b"\x06\0\0\0\x01\x01")),
    "a value behind the end": framed(element(16, b"a", ONE), b"\0", element(16, b"b", ONE)),
    "a name without its end": b"\x08\0\0\0\x10ab\0",
    "a value that is cut": framed(element(18, b"a", ONE)),
    "a reference": bson.encode({"a": DBRef("t", 1, "db", more=2), "b": {"$ref": "t"}}),
    "an old binary": framed(element(5, b"a", b"\x05\0\0\0\x02\x01\0\0\0x")),
    "an old binary that is wrong": framed(element(5, b"a", b"\x05\0\0\0\x02\x09\0\0\0x")),
    "a pointer": framed(element(12, b"a", b"\x02\0\0\0x\0" + bytes(12))),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_document_among_others(case):
    found, _ = both_ways([GOOD, ODD[case], GOOD])
    assert_same([GOOD, ODD[case], GOOD])
    assert (found["a"][0], found["a"][2]) == ((b'["x",{"y":[{"$numberDouble":"1.5"},null]}]',) * 2)
    assert found["counted"][0] == 3


@pytest.mark.parametrize("levels", [2, 11, 12, 13, 98, 99, 100, 101, 130])
@pytest.mark.parametrize("wrap", [lambda inner: {"a": inner}, lambda inner: [inner]])
def test_nesting_of_any_depth(levels, wrap):
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    assert_same([GOOD, bson.encode({"a": value}), GOOD])


@pytest.mark.parametrize("members", [63, 64, 65, 500])
def test_long_arrays_and_wide_documents(members):
    held = [
        bson.encode({"_id": 1, "a": list(range(members)), "b": {f"f{each}": each for each in range(members)}}),
        bson.encode({f"f{each}": str(each) for each in range(members)}),
    ]
    assert_same([*held, GOOD])
    assert_same([*held, GOOD] * document_walk.FEWEST)


def test_fields_that_are_told_by_name_are_the_first_ones(monkeypatch):
    monkeypatch.setattr("dtx_assets.machinery.sources.documents.NAMED", 3)
    odd = framed(element(14, b"odd", b"\x02\0\0\0x\0"), element(10, b"z"))
    held = [bson.encode({"y": 1, "x": 2}), odd, bson.encode({"z": 1, "y": "t"}), bson.encode({"w": 1, "odd": 2})]
    assert_same(held)
    assert [name for name, _ in both_ways(held)[0]["undeclared"]] == ["y", "x", "odd"]


@pytest.mark.parametrize("fields", [0, 1, 7, 8, 9, 16, 17, 40])
def test_types_of_any_number_of_fields(fields):
    kinds: list[Any] = [1, "x", None, True, 1.5, Int64(1), [], {}]
    held = [
        bson.encode({f"f{each}": kinds[(each * number) % 8] for each in range(fields) if (each + number) % 5})
        for number in range(60)
    ]
    assert_same(held, LegacyTable("t", "area", tuple(f"f{each}" for each in range(fields)) or ("other",)))


def test_batches_end_where_their_bytes_do(monkeypatch):
    monkeypatch.setattr("dtx_assets.machinery.sources.landing.BATCH_BYTES", 1000)
    held = [bson.encode({"_id": number, "a": "x" * (number % 70), "z": number}) for number in range(200)]
    assert_same(held)


def test_what_is_usual_is_not_read_one_by_one(monkeypatch):
    def refused(*_: object) -> Any:
        raise AssertionError("a document was read by itself")

    monkeypatch.setattr("dtx_assets.machinery.sources.documents.decoded_bson", refused)
    values = [1, Int64(1), 1.5, "x\n", None, True, ObjectId(), DatetimeMS(1), Decimal128("1.50"), b"x", Timestamp(1, 2)]
    held = bson.encode({"_id": 1, "a": values, "b": {"c": {"d": []}}, "more": {}, "é": Binary(b"x", 128)})
    rows = _Rows(TABLE, Held([held] * 3), layout_of(TABLE, Held([held])))
    assert sum(batch.num_rows for batch in rows.batches()) == 3
    assert document_columns.columns_of([held], TABLE.columns).odd.tolist() == [False]
