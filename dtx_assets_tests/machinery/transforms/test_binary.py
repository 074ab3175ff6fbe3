"""Bytes come over as they are, UUIDs in their one form, and keys made of texts are those that Python makes."""

import uuid

import polars as pl
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.transforms.columns import canonical_id
from dtx_assets_tests.machinery.transforms.applied import applied, applied_to

HELD = pl.List(pl.Struct({"column": pl.String, "bytes": pl.Binary}))
CRM = "9ff85368-0ce2-530b-bca5-ea5ff5b21b75"


def landed(values: list[bytes | None]) -> pl.DataFrame:
    """As readers land a binary column."""
    texts, held = [], []
    for value in values:
        try:
            texts.append(value if value is None else value.decode())
            held.append(None)
        except UnicodeDecodeError:
            texts.append(value.decode("utf-8", "backslashreplace"))
            held.append([{"column": "other", "bytes": b"?"}, {"column": "x", "bytes": value}])
    return pl.DataFrame({"x": texts, "_undecodable": held}, schema={"x": pl.String, "_undecodable": HELD})


@settings()
@given(st.lists(st.none() | st.binary(max_size=12) | st.text(max_size=5).map(str.encode), max_size=6))
def test_a_binary_column_comes_over_byte_for_byte(values: list[bytes | None]) -> None:
    made = applied_to("bytes", landed(values))
    assert made.values == [None if value is None else "\\x" + value.hex() for value in values]
    assert (made.told, made.counted) == ([], [])


def test_bytes_in_hex_and_base64() -> None:
    made = applied("bytes", ["\\xFF00", "0xff", "ff", "", "f", "xx", None], written="hex")
    assert made.values == ["\\xff00", "\\xff", "\\xff", "\\x", None, None, None]
    assert [(row, detail) for row, _, detail in made.told] == [
        (4, "f is no bytes in hex"),
        (5, "xx is no bytes in hex"),
    ]
    made = applied("bytes", ["/wA=", "AAEC\nAw==", "", "/wA", "a", "!!!!", None], written="base64", unreadable="null")
    assert made.values == ["\\xff00", "\\x00010203", "\\x", None, None, None, None]
    assert [row for row, _ in made.counted] == [3, 4, 5]


@settings()
@given(st.uuids())
def test_uuids_have_one_form(made: uuid.UUID) -> None:
    forms = [str(made), str(made).upper(), made.hex, "{" + str(made) + "}", "{" + made.hex.upper() + "}"]
    assert applied("uuid", forms).values == [str(made)] * 5
    assert applied_to("uuid", landed([made.bytes, None, b"short", str(made).encode()]), written="bytes").values == [
        str(made),
        None,
        None,
        None,
    ]


@settings()
@given(st.text(max_size=40) | st.from_regex(r"\A[{]?[0-9a-fA-F]{8}-?[0-9a-fA-F-]{20,30}[}]?\Z"))
def test_what_is_read_as_a_uuid_is_one(text: str) -> None:
    [value] = applied("uuid", [text]).values
    if value is not None:
        assert value == str(uuid.UUID(text))


def test_what_is_no_uuid() -> None:
    texts = ["", "0" * 31, "0" * 33, "{" + "0" * 32, "g" * 32, "urn:uuid:" + "0" * 32, "0" * 32 + "\n"]
    made = applied("uuid", texts)
    assert made.values == [None] * len(texts)
    assert [row for row, _, _ in made.told] == list(range(len(texts)))


def test_ids_of_the_kind_uuid_are_compared_without_case_and_punctuation() -> None:
    texts = ["{0000000A-0000-0000-0000-000000000001}", "0000000a000000000000000000000001", "none", None]
    frame = pl.DataFrame({"x": texts}).select(canonical_id(pl.col("x"), "uuid"))
    assert frame.to_series().to_list() == ["0000000a-0000-0000-0000-000000000001"] * 2 + ["none", None]


@settings()
@given(st.lists(st.none() | st.text(max_size=20), max_size=8), st.uuids())
def test_keys_are_those_that_python_makes(names: list[str | None], namespace: uuid.UUID) -> None:
    made = applied("uuid5", names, namespace=str(namespace))
    assert made.values == [None if name is None else str(uuid.uuid5(namespace, name)) for name in names]


def test_the_key_that_the_contract_of_crm_names() -> None:
    assert str(uuid.uuid5(uuid.NAMESPACE_URL, "urn:dtx_assets:crm:objectid")) == CRM
    assert applied("uuid5", ["507f1f77bcf86cd799439011"], namespace=CRM).values == [
        "2bcd026a-dc83-5f13-a60a-29e5b81a83e9"
    ]


def test_keys_of_several_columns() -> None:
    frame = pl.DataFrame({"a": ["1", 'q"', None], "b": ["2", "é", "2"]})
    made = applied_to("uuid5", frame, namespace="url")
    assert made.values == [
        str(uuid.uuid5(uuid.NAMESPACE_URL, '["1","2"]')),
        str(uuid.uuid5(uuid.NAMESPACE_URL, '["q\\"","é"]')),
        None,
    ]
    with pytest.raises(ValueError, match="badly formed"):
        applied("uuid5", ["x"], namespace="nowhere")


def test_a_server_prints_them_alike(database_url: str) -> None:
    texts = [
        "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
    ]
    values = applied("uuid", texts).values
    with psycopg.connect(database_url) as connection:
        for text, value in zip(texts[:2], values, strict=False):
            assert connection.execute("SELECT %s::uuid::text", [text]).fetchone() == (value,)
        [made] = applied_to("bytes", landed([b"\x00\xff'\\"])).values
        assert connection.execute("SELECT %s::bytea::text", [made]).fetchone() == (made,)
