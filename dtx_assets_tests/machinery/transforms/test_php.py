"""The PHP reader against PHP's own corpus, against values made up by hypothesis, and against payloads meant to hurt."""

import base64
import json
import math
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import phpserialize
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dtx_assets.machinery.transforms.php import (
    PHP_STRINGS,
    PhpError,
    PhpValue,
    decode_distinct,
    fits_latin1_only,
    flatten_leaves,
    parse,
    php_strings,
)

CORPUS = Path(__file__).parents[2] / "data" / "php"
INT_MAX = 2**63 - 1
INT_MIN = -(2**63)


def corpus(name: str) -> list[dict[str, Any]]:
    with (CORPUS / name).open() as lines:
        return [json.loads(line) for line in lines]


def payload_of(case: dict[str, Any]) -> bytes:
    return base64.b64decode(case["in"])


OBJECT_FREE = corpus("object_free.jsonl")
# In the corpus only this payload has something after its value; PHP 8.2 reads it all the same.
TRAILING = b"i:-9223372036854775808;\n"


def tokens_of_value(value: PhpValue) -> Iterator[tuple[str, Any]]:
    """The value as a flat sequence of types, values and array ends; flat, so that depth is no matter."""
    pending: list[Any] = [value]
    while pending:
        match pending.pop():
            case tuple(end):
                yield end
            case dict() as array:
                yield "array", len(array)
                pending.append(("end", None))
                for key, item in reversed(array.items()):
                    pending += [item, key]
            case None:
                yield "null", None
            case bool(flag):
                yield "bool", flag
            case int(number):
                yield "int", number
            case float(number):
                yield "float", struct.pack(">d", number).hex()
            case bytes(string):
                yield "string", string


def tokens_of_tree(tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The same of a tree of the corpus, up to where it was cut."""
    pending: list[Any] = [tree]
    while pending:
        node = pending.pop()
        match node:
            case tuple():
                yield node
            case {"t": "array", "v": pairs}:
                yield "array", len(pairs)
                pending.append(("end", None))
                for key, item in reversed(pairs):
                    pending += [item, key]
            case {"t": "string", "b64": encoded}:
                yield "string", base64.b64decode(encoded)
            case {"t": "float", "bits": bits}:
                yield "float", bits
            case {"t": "int", "v": digits}:
                yield "int", int(digits)
            case {"t": "DEEP"}:
                return
            case {"t": kind}:
                yield kind, node.get("v")


def contains_itself(case: dict[str, Any]) -> bool:
    """The corpus cuts a tree 61 levels down; one without a reference was cut for being deep, not for being endless."""
    return "DEEP" in json.dumps(case.get("value")) and b"R:" in payload_of(case)


class TestCorpus:
    def test_is_whole(self) -> None:
        assert len(OBJECT_FREE) == 180
        assert sum(case["ok"] for case in OBJECT_FREE) == 141
        assert sum(contains_itself(case) for case in OBJECT_FREE) == 5

    @pytest.mark.parametrize("case", OBJECT_FREE, ids=range(1, len(OBJECT_FREE) + 1))
    def test_agrees_with_php(self, case: dict[str, Any]) -> None:
        payload = payload_of(case)
        if not case["ok"] or contains_itself(case):
            for allow_trailing in (True, False):
                with pytest.raises(PhpError):
                    parse(payload, allow_trailing=allow_trailing)
            return
        expected = list(tokens_of_tree(case["value"]))
        actual = list(tokens_of_value(parse(payload, allow_trailing=payload == TRAILING)))
        if "DEEP" in json.dumps(case["value"]):
            assert len(expected) > 60
            actual = actual[: len(expected)]
        assert actual == expected

    def test_only_one_payload_needs_trailing_bytes_allowed(self) -> None:
        with pytest.raises(PhpError, match="something follows the value") as refused:
            parse(TRAILING)
        assert refused.value.position == 23
        assert parse(TRAILING, allow_trailing=True) == INT_MIN

    def test_refuses_every_payload_with_objects(self) -> None:
        cases = corpus("with_objects.jsonl")
        assert len(cases) == 1118
        for case in cases:
            for allow_trailing in (True, False):
                with pytest.raises(PhpError):
                    parse(payload_of(case), allow_trailing=allow_trailing)


def serialize(value: PhpValue) -> bytes:
    """What PHP's `serialize` writes (floats at precision 17)."""
    match value:
        case None:
            return b"N;"
        case bool():
            return b"b:%d;" % value
        case int():
            return b"i:%d;" % value
        case float():
            spelled = "NAN" if math.isnan(value) else repr(value).upper()
            return f"d:{spelled};".encode()
        case bytes():
            return b's:%d:"%s";' % (len(value), value)
        case dict():
            elements = b"".join(serialize(key) + serialize(item) for key, item in value.items())
            return b"a:%d:{%s}" % (len(value), elements)


ints = st.integers(INT_MIN, INT_MAX)
strings = st.binary() | st.text().map(str.encode)
word_keys = strings.filter(lambda key: not key.lstrip(b"-").isdigit())
scalars = st.none() | st.booleans() | ints | st.floats(allow_nan=False) | strings
values = st.recursive(scalars, lambda inner: st.dictionaries(ints | word_keys, inner, max_size=5), max_leaves=30)


class TestRoundTrip:
    @given(values)
    @example({0: b"caf\xc3\xa9@example.com", b"": {}, b"01": {-5: None}})
    def test_what_php_writes_is_read_back(self, value: PhpValue) -> None:
        assert list(tokens_of_value(parse(serialize(value)))) == list(tokens_of_value(value))

    @given(ints)
    def test_a_key_spelled_like_an_int_is_that_int(self, number: int) -> None:
        assert parse(serialize({b"%d" % number: b"x"})) == {number: b"x"}

    @given(values, st.binary(min_size=1))
    def test_anything_after_the_value_is_refused(self, value: PhpValue, tail: bytes) -> None:
        payload = serialize(value)
        with pytest.raises(PhpError, match="something follows") as refused:
            parse(payload + tail)
        assert refused.value.position == len(payload)
        assert list(tokens_of_value(parse(payload + tail, allow_trailing=True))) == list(tokens_of_value(value))

    @given(values)
    def test_a_value_cut_short_is_refused(self, value: PhpValue) -> None:
        payload = serialize(value)
        for end in range(len(payload)):
            with pytest.raises(PhpError):
                parse(payload[:end])

    @given(values)
    def test_leaves_are_in_the_order_of_the_payload(self, value: PhpValue) -> None:
        def walk(item: PhpValue) -> Iterator[PhpValue]:
            if isinstance(item, dict):
                for child in item.values():
                    yield from walk(child)
            else:
                yield item

        assert list(map(repr, flatten_leaves(value))) == list(map(repr, walk(value)))


PIECES = [
    b"a:",
    b"i:",
    b"s:",
    b"S:",
    b"R:",
    b"r:",
    b"O:",
    b"C:",
    b"E:",
    b"d:",
    b"b:",
    b"N;",
    b":{",
    b"}",
    b'"',
    b";",
    b"\\",
]


class TestHostile:
    @given(st.binary())
    def test_random_bytes_raise_nothing_else(self, payload: bytes) -> None:
        self.only_php_errors(payload)

    @given(st.lists(st.sampled_from(PIECES) | st.integers(-3, 300).map(lambda n: b"%d" % n), max_size=60).map(b"".join))
    def test_random_pieces_raise_nothing_else(self, payload: bytes) -> None:
        self.only_php_errors(payload)

    def test_mutated_corpus_raises_nothing_else(self) -> None:
        draw = random.Random(8)
        for case in OBJECT_FREE:
            for _ in range(20):
                mutated = bytearray(payload_of(case))
                for _ in range(draw.randint(1, 3)):
                    start = draw.randint(0, len(mutated))
                    mutated[start : start + draw.randint(0, 3)] = draw.choice(
                        [*PIECES, b"1", b"2", b"99999999999999999999"]
                    )
                self.only_php_errors(bytes(mutated))

    @staticmethod
    def only_php_errors(payload: bytes) -> None:
        try:
            leaves = flatten_leaves(parse(payload, allow_trailing=True))
        except PhpError as refused:
            error = refused
        else:
            assert len(leaves) <= 2**20
            return
        assert 0 <= error.position <= len(payload)
        assert str(error) == f"{error.why} (at byte {error.position})"

    @pytest.mark.parametrize(
        ("payload", "why", "position"),
        [
            (b"", "ends too early", 0),
            (b"a:999999999:{", "more elements than there are bytes", 0),
            (b"a:1:{i:0;a:99999999999999999999999:{", "more elements", 9),
            (b's:99999999999:"x";', "a string does not end", 0),
            (b"s:" + b"9" * 100_000 + b':"x";', "a string does not end", 0),
            (b'S:99999999999:"\\61";', "a string is longer", 15),
            (b'S:2:"\\6";   ', "two hexadecimal digits", 5),
            (b's:18446744073709551617:"x";', "a string does not end", 0),
            (b"a:1:{i:0;R:18446744073709551618;}", "no value before it", 9),
            (b"a:1:{i:0;R:0;}", "no value before it", 9),
            (b"a:1:{i:0;R:2;}", "no value before it", 9),
            (b"a:2:{i:0;i:1;i:0;R:2;}", "points to itself", 17),
            (b"a:2:{i:0;i:1;i:1;r:2;}", "reference to an object", 17),
            (b"a:1:{i:0;R:1;}", "contains itself", 0),
            (b"a:1:{i:0;a:1:{i:0;R:2;}}", "contains itself", 0),
            (b"a:2:{i:0;a:1:{i:0;R:3;}i:1;i:1;}", "no value before it", 18),
            (b"a:1:{a:0:{}i:0;}", "array key", 5),
            (b"a:1:{N;i:0;}", "array key", 5),
            (b"a:1:{i:0;i:1;i:2;}", "does not end after its last element", 13),
            (b"a:2:{i:0;i:1;}", "array key", 13),
            (b"i: 1;", "no PHP value starts here", 0),
            (b"i:\xd9\xa1;", "no PHP value starts here", 0),
            (b"d:.;", "no PHP value starts here", 0),
            (b"d:1e;", "no PHP value starts here", 0),
            (b"b:2;", "no PHP value starts here", 0),
            (b"n;", "no PHP value starts here", 0),
            (b'O:8:"stdClass":0:{}', "object, enum or custom", 0),
            (b'a:1:{i:0;C:1:"A":0:{}}', "object, enum or custom", 9),
            (b'a:1:{i:0;E:7:"Foo:Bar";}', "object, enum or custom", 9),
            (b's:12:"O:1:"A":0:{}";', "itself a serialised object", 0),
        ],
    )
    def test_is_refused_with_reason_and_place(self, payload: bytes, why: str, position: int) -> None:
        with pytest.raises(PhpError, match=why) as refused:
            parse(payload)
        assert refused.value.position == position

    def test_4096_levels_are_read_and_one_more_is_refused_as_in_php(self) -> None:
        def nested(levels: int, core: bytes) -> bytes:
            return b"a:1:{i:0;" * levels + core + b"}" * levels

        assert flatten_leaves(parse(nested(4096, b"i:7;"))) == [7]
        assert flatten_leaves(parse(nested(4096, b"a:0:{}"))) == []
        with pytest.raises(PhpError, match="nested more than 4096 deep"):
            parse(nested(4097, b"i:7;"))
        with pytest.raises(PhpError, match="nested more than 4096 deep"):
            parse(nested(200_000, b"i:7;"))

    def test_references_that_double_forty_times_are_refused(self) -> None:
        payload = b"a:41:{i:0;a:1:{i:0;i:7;}"
        number = 2
        for level in range(1, 41):
            payload += b"i:%d;a:2:{i:0;R:%d;i:1;R:%d;}" % (level, number, number)
            number = 3 + level
        with pytest.raises(PhpError, match="many times as large"):
            parse(payload + b"}")

    def test_a_long_string_shared_many_times_is_refused(self) -> None:
        shared = b"".join(b"i:%d;R:2;" % number for number in range(1, 1000))
        payload = b'a:1000:{i:0;s:%d:"%s";%s}' % (100_000, b"x" * 100_000, shared)
        with pytest.raises(PhpError, match="many times as large"):
            parse(payload)

    def test_an_overwritten_cycle_is_gone(self) -> None:
        assert parse(b"a:2:{i:0;R:1;i:0;i:5;}") == {0: 5}


class TestAsPhpDoes:
    @pytest.mark.parametrize(
        ("payload", "value"),
        [
            (b"i:+007;", 7),
            (b"i:-0;", 0),
            (b"i:99999999999999999999;", INT_MAX),
            (b"i:9223372036854775808;", INT_MAX),
            (b"i:-" + b"9" * 5000 + b";", INT_MIN),
            (b"i:" + b"0" * 5000 + b"8;", 8),
            (b"d:.5;", 0.5),
            (b"d:5.;", 5.0),
            (b"d:1E400;", math.inf),
            (b's:0003:"a";";', b'a";'),
            (b'S:3:"\\61\\c3\\A9";', b"a\xc3\xa9"),
            (b'S:2:"a\\22";', b'a"'),
            (b'a:1:{S:1:"\\31";N;}', {1: None}),
            (b'a:2:{s:1:"1";i:0;i:1;i:9;}', {1: 9}),
            (b's:8:"see O:8:";', b"see O:8:"),
        ],
    )
    def test_reads_odd_spellings(self, payload: bytes, value: PhpValue) -> None:
        assert list(tokens_of_value(parse(payload))) == list(tokens_of_value(value))

    @pytest.mark.parametrize(
        "key", [b"-0", b"00", b"1.0", b" 1", b"1 ", b"+1", b"", b"9223372036854775808", b"1\n", b"-"]
    )
    def test_leaves_a_key_that_is_no_canonical_int_a_string(self, key: bytes) -> None:
        assert parse(serialize({key: 1})) == {key: 1}

    def test_a_key_that_comes_again_keeps_its_place_and_takes_the_later_value(self) -> None:
        array = parse(b'a:3:{s:1:"a";i:1;s:1:"b";i:2;s:1:"a";i:3;}')
        assert isinstance(array, dict)
        assert list(array.items()) == [(b"a", 3), (b"b", 2)]

    def test_a_reference_keeps_the_value_its_target_had_before_the_key_came_again(self) -> None:
        assert parse(b"a:3:{i:0;i:1;i:1;R:2;i:0;i:5;}") == {0: 5, 1: 1}
        assert parse(b"a:3:{i:0;a:1:{i:0;i:7;}i:0;i:1;i:1;R:3;}") == {0: 1, 1: 7}
        assert parse(b"a:3:{i:0;i:1;i:0;i:2;i:1;R:2;}") == {0: 2, 1: 2}


class TestDecodeDistinct:
    def test_decodes_each_distinct_value_once_and_keeps_order_name_and_nulls(self) -> None:
        seen: list[bytes] = []

        def decode(value: bytes) -> int:
            seen.append(value)
            return len(value)

        values = pl.Series("webhook", ["é", None, "", "abc", "é", "", None, "abc"])
        decoded = decode_distinct(values, decode, pl.Int64())
        assert decoded.name == "webhook"
        assert decoded.dtype == pl.Int64
        assert decoded.to_list() == [2, None, 0, 3, 2, 0, None, 3]
        assert sorted(seen) == [b"", b"abc", "é".encode()]

    def test_takes_bytes_and_a_series_without_any_value(self) -> None:
        assert decode_distinct(pl.Series([b"\xff", b"\xff"]), len, pl.Int64()).to_list() == [1, 1]
        assert decode_distinct(pl.Series([], dtype=pl.String), len, pl.Int64()).to_list() == []
        assert decode_distinct(pl.Series([None, None]), len, pl.Int64()).to_list() == [None, None]


def strings_of(*fields: str | bytes | None) -> list[dict[str, Any]]:
    dtype = pl.Binary if any(isinstance(field, bytes) for field in fields) else pl.String
    frame = pl.LazyFrame({"webhook": pl.Series(fields, dtype=dtype)}).select(php_strings(pl.col("webhook")))
    assert frame.collect_schema() == {"webhook": PHP_STRINGS}
    in_memory = frame.collect()["webhook"]
    assert frame.collect(engine="streaming")["webhook"].equals(in_memory)
    assert in_memory.dtype == PHP_STRINGS
    return in_memory.to_list()


def ok(strings: list[str], others: list[str]) -> dict[str, Any]:
    return {"status": "ok", "strings": strings, "others": others, "detail": None}


class TestPhpStrings:
    @pytest.mark.parametrize("field", [None, "", "N;", "a:0:{}"])
    def test_empty(self, field: str | None) -> None:
        assert strings_of(field) == [{"status": "empty", "strings": [], "others": [], "detail": None}]

    @pytest.mark.parametrize(
        ("field", "expected"),
        [
            ('a:2:{i:0;s:7:"a@b.com";i:7;s:7:"c@d.com";}', ok(["a@b.com", "c@d.com"], [])),
            ('s:7:"a@b.com";', ok(["a@b.com"], [])),
            ('s:0:"";', ok([""], [])),
            ("a:1:{i:0;a:0:{}}", ok([], [])),
            ('a:2:{i:0;a:2:{i:0;s:1:"a";s:1:"k";s:1:"b";}i:1;s:1:"c";}', ok(["a", "b", "c"], [])),
            ('a:1:{i:0;s:11:"é@müll.de";}', ok(["é@müll.de"], [])),
            ('a:2:{i:0;s:1:"a";i:1;R:2;}', ok(["a", "a"], [])),
            (
                "a:6:{i:0;i:5;i:1;d:0.5;i:2;b:1;i:3;b:0;i:4;N;i:5;d:-INF;}",
                ok([], ["5", "0.5", "true", "false", "null", "-INF"]),
            ),
            (b'a:2:{i:0;s:3:"a\xe9b";i:1;s:1:"c";}', ok(["c"], ["a\\xe9b"])),
        ],
    )
    def test_ok(self, field: str | bytes, expected: dict[str, Any]) -> None:
        assert strings_of(field) == [expected]

    @pytest.mark.parametrize(
        ("field", "detail"),
        [
            ("i:5;", "a lone int is neither an array nor a string (at byte 0)"),
            ("d:0.5;", "a lone float is neither an array nor a string (at byte 0)"),
            ("b:0;", "a lone bool is neither an array nor a string (at byte 0)"),
            ("a:0:{} ", "something follows the value (at byte 6)"),
            ("N;\n", "something follows the value (at byte 2)"),
            (" ", "no PHP value starts here (at byte 0)"),
            ("jane.doe@example.com", "no PHP value starts here (at byte 0)"),
            ('a:1:{i:0;s:9:"é@müll.de";}', "a string does not end where its length says (at byte 9)"),
            ('a:1:{i:0;O:8:"stdClass":0:{}}', "an object, enum or custom serialisation is never read (at byte 9)"),
        ],
    )
    def test_unparseable_says_why_and_where_but_nothing_of_the_value(self, field: str, detail: str) -> None:
        assert strings_of(field) == [{"status": "unparseable", "strings": [], "others": [], "detail": detail}]

    def test_many_batches_keep_every_row_in_its_place(self) -> None:
        fields = [None if row % 7 == 0 else f's:{len(str(row % 999))}:"{row % 999}";' for row in range(250_000)]
        decoded = pl.LazyFrame({"webhook": fields}).select(php_strings(pl.col("webhook")).struct.field("strings"))
        expected = [[] if row % 7 == 0 else [str(row % 999)] for row in range(250_000)]
        assert decoded.collect(engine="streaming")["strings"].to_list() == expected

    def test_a_value_too_long_to_remember_is_read_like_any_other(self) -> None:
        assert strings_of(f's:10000:"{"x" * 10_000}";') == [ok(["x" * 10_000], [])]


WRITTEN_BY_PHPSERIALIZE = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.none() | st.binary(max_size=20),
    lambda inner: st.dictionaries(st.integers(0, 50), inner, max_size=4),
    max_leaves=10,
).filter(lambda value: not any(mark in phpserialize.dumps(value) for mark in (b"O:", b"C:", b"E:")))


@given(WRITTEN_BY_PHPSERIALIZE)
def test_what_phpserialize_writes_is_read_back(value: object) -> None:
    assert parse(phpserialize.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('s:4:"Café";', "Café".encode()),
        (
            'a:2:{i:0;s:1:"€";s:4:"Größ";a:1:{i:0;s:2:"\x81é";}}',
            {0: "€".encode(), "Größ".encode(): {0: "\x81é".encode()}},
        ),
        # UTF-8 in a latin1 column, as it is read: its own bytes, counted as PHP did.
        ('s:5:"CafÃ©";', "CafÃ©".encode()),
        ('a:1:{i:0;s:8:"é";s:1:"";}', {0: 'é";s:1:"'.encode()}),
    ],
)
def test_lengths_that_fit_latin1_are_found_and_read_where_asked(text, value):
    with pytest.raises(PhpError):
        parse(text.encode())
    assert fits(text)
    assert parse(text.encode(), latin1_lengths=True) == value


@pytest.mark.parametrize("text", ['s:3:"Café";', 's:1:"Ж";', 'O:4:"Café":0:{}', 's:4:"Café', "é"])
def test_what_fits_nothing_is_refused_as_before(text):
    with pytest.raises(PhpError) as plain:
        parse(text.encode())
    with pytest.raises(PhpError) as refused:
        parse(text.encode(), latin1_lengths=True)
    assert str(refused.value) == str(plain.value)
    assert not fits(text)


def test_what_fits_utf8_is_read_as_before():
    assert parse('s:5:"Café";'.encode(), latin1_lengths=True) == "Café".encode()
    assert not fits('s:5:"Café";')


def fits(text: str) -> bool:
    return pl.DataFrame({"v": [text]}).select(fits_latin1_only(pl.col("v"))).item()


def test_strings_are_read_by_lengths_of_latin1_where_asked():
    frame = pl.DataFrame({"v": ['a:1:{i:0;s:4:"Café";}', 'a:1:{i:0;s:5:"Café";}']})
    off = frame.select(php_strings(pl.col("v")).alias("p")).unnest("p")
    assert off["status"].to_list() == ["unparseable", "ok"]
    on = frame.select(php_strings(pl.col("v"), latin1_lengths=True).alias("p")).unnest("p")
    assert on["strings"].to_list() == [["Café"], ["Café"]]
