"""Documents of BSON and JSON land whole: every form of one document gives one row, and what cannot be read is told."""

import base64
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import polars as pl
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.checks.tables import columns_of_source, schema_drift_outcome
from dtx_assets.machinery.mapping.execute import apply_columns
from dtx_assets.machinery.mapping.model import SourceMapping
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.prepare.batches import SourceRows, named
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.csv_files import CsvDirectory
from dtx_assets.machinery.sources.extended_json import (
    NoJson,
    UnreadableDocument,
    canonical,
    decoded_bson,
    decoded_json,
    encoded,
    relaxed,
    type_name,
)
from dtx_assets.machinery.sources.frames import has_key, key_elements, legacy_frame, may_have_key, source_key
from dtx_assets.machinery.sources.whole_rows import json_of_rows
from dtx_assets.machinery.transforms.columns import GENERIC
from dtx_assets_tests.machinery.transforms.applied import CONTEXT

ID = "507f1f77bcf86cd799439011"
ACCOUNT: dict[str, Any] = {
    "_id": ObjectId(ID),
    "name": 'Café "B"\n😀',
    "__v": 0,
    "revenue": Decimal128("1.50"),
    "employees": Int64(9007199254740993),
    "rate": 0.1,
    "active": True,
    "born": DatetimeMS(1720000000123),
    "gone": None,
    "documentsIDs": [ObjectId("507f191e810c19729de860ea"), None],
    "address": {"city": "Köln", "geo": [1, 2.5]},
}
ACCOUNTS = LegacyTable(
    "accounts",
    "crm",
    ("_id", "name", "__v", "revenue", "employees", "rate", "active", "born", "gone", "missing", "address"),
    key=("_id",),
    kind_of=lambda name: {"gone": "json", "missing": "json", "address": "json"}.get(name, "text"),  # type: ignore[arg-type,return-value]
)
CANONICAL = {
    "_id": f'{{"$oid":"{ID}"}}',
    "name": '"Café \\"B\\"\\n😀"',
    "__v": '{"$numberInt":"0"}',
    "revenue": '{"$numberDecimal":"1.50"}',
    "employees": '{"$numberLong":"9007199254740993"}',
    "rate": '{"$numberDouble":"0.1"}',
    "active": "true",
    "born": '{"$date":{"$numberLong":"1720000000123"}}',
    "gone": "null",
    "missing": None,
    "address": '{"city":"Köln","geo":[{"$numberInt":"1"},{"$numberDouble":"2.5"}]}',
    "_rest": '{"documentsIDs":[{"$oid":"507f191e810c19729de860ea"},null]}',
    "_types": '{"_id":"objectId","name":"string","__v":"int","revenue":"decimal","employees":"long","rate":"double",'
    '"active":"bool","born":"date","gone":"null","address":"object"}',
    "_unreadable": None,
}
RELAXED = (
    '{"_id":{"$oid":"' + ID.upper() + '"},"name":"Caf\\u00e9 \\"B\\"\\n😀","__v":0,'
    '"revenue":{"$numberDecimal":"1.50"},"employees":9007199254740993,"rate":0.1,"active":true,'
    '"born":{"$date":"2024-07-03T09:46:40.123Z"},"gone":null,'
    '"documentsIDs":[{"$oid":"507f191e810c19729de860ea"},null],"address":{"city":"Köln","geo":[1,2.5]}}'
)
OLD = RELAXED.replace("40.123Z", "40.123+0000").replace("9007199254740993", '{"$numberLong":"9007199254740993"}')


def with_size(body: bytes) -> bytes:
    return (len(body) + 5).to_bytes(4, "little") + body + b"\0"


TWO_FIELDS_OF_ONE_NAME = with_size(bson.encode({"a": 1})[4:-1] * 2)
FORMS = {
    "accounts.bson": bson.encode(ACCOUNT),
    "accounts.bson.gz": gzip.compress(bson.encode(ACCOUNT)),
    "accounts.ndjson": RELAXED.encode() + b"\n",
    "accounts.jsonl.gz": gzip.compress(b"\xef\xbb\xbf" + OLD.encode() + b"\r\n\n"),
    "accounts.json": canonical(ACCOUNT).encode(),
    "accounts.json.gz": gzip.compress(b"[\n " + OLD.encode() + b"\n]\n"),
}


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    directory = tmp_path / "dump"
    directory.mkdir()
    return directory


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_document_is_the_same_row(dump, place, name):
    (dump / name).write_bytes(FORMS[name])
    manifest = place.land(str(dump), ACCOUNTS)
    [row] = place.frame("accounts").drop("_row", "_undecodable").to_dicts()
    exact = {column: row.pop(column) for column in ("_bson", "_line") if column in row}
    assert row == CANONICAL
    assert base64.b64decode(exact["_bson"]) == bson.encode(ACCOUNT)
    if "_line" in exact:
        assert exact["_line"] in (RELAXED, OLD, canonical(ACCOUNT))
    facts = manifest.metadata
    assert (facts["dialect"], facts["source_rows"], facts["row_count_matches"]) == ("documents", 1, True)
    assert (facts["unreadable"], facts["undeclared"]) == (0, ["documentsIDs"])
    drift = schema_drift_outcome(ACCOUNTS, columns_of_source(manifest)).metadata
    assert (drift["not named in the plan"], drift["missing"]) == (["documentsIDs"], [])
    manifest = place.land(str(dump), ACCOUNTS)
    assert place.land(str(dump), ACCOUNTS, run_id="again").version == manifest.version


def test_flows_read_plain_values_and_those_of_the_kind_json_as_they_are(dump, place):
    (dump / "accounts.bson").write_bytes(FORMS["accounts.bson"])
    place.land(str(dump), ACCOUNTS)
    [row] = source_key(ACCOUNTS, legacy_frame(place.lake, "toy", ACCOUNTS)).collect().to_dicts()
    assert {name: row[name] for name in (*ACCOUNTS.columns, "_source_key")} == {
        "_id": ID,
        "name": 'Café "B"\n😀',
        "__v": "0",
        "revenue": "1.50",
        "employees": "9007199254740993",
        "rate": "0.1",
        "active": "true",
        "born": "2024-07-03T09:46:40.123Z",
        "gone": "null",
        "missing": None,
        "address": CANONICAL["address"],
        "_source_key": ID,
    }
    elements = key_elements(ACCOUNTS, ID)
    found = legacy_frame(place.lake, "toy", ACCOUNTS, where=may_have_key(ACCOUNTS, elements))
    assert found.filter(has_key(ACCOUNTS, elements)).collect().height == 1


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4).filter(
    lambda name: not name.startswith("$")
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.binary(max_size=3).map(lambda data: Binary(data, 128))
    | st.binary(min_size=12, max_size=12).map(ObjectId)
    | st.integers(-(2**60), 2**60).map(DatetimeMS)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**20), max_value=10**20).map(
        Decimal128
    )
    | st.builds(Timestamp, st.integers(0, 2**31), st.integers(0, 9))
    | st.just(Regex("a.b", "i")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@settings()
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_what_bson_says_canonical_json_says_and_back(document: dict[str, Any]) -> None:
    data = encoded(document)
    told = canonical(decoded_bson(data))
    assert encoded(decoded_json(told)) == data
    assert canonical(decoded_json(told)) == told


def test_a_number_is_a_double_where_it_has_a_fraction_or_an_exponent_and_else_an_integer() -> None:
    cases = {
        "12345678901234567890123": '{"$numberDecimal":"12345678901234567890123"}',
        "0.10000000000000000555": '{"$numberDouble":"0.1"}',
        "0.1234567890123456789": '{"$numberDouble":"0.12345678901234568"}',
        "12345678901234567890.0": '{"$numberDouble":"1.2345678901234567e+19"}',
        "1E2": '{"$numberDouble":"100.0"}',
        "1e400": '{"$numberDecimal":"1E+400"}',
        "2147483648": '{"$numberLong":"2147483648"}',
        "-2147483648": '{"$numberInt":"-2147483648"}',
        "1.10": '{"$numberDouble":"1.1"}',
        "-0.0": '{"$numberDouble":"-0.0"}',
    }
    for text, told in cases.items():
        assert canonical(decoded_json(f'{{"n":{text}}}')["n"]) == told
    with pytest.raises(UnreadableDocument, match="which no type of BSON holds"):
        decoded_json('{"n":' + "1" * 40 + "}")


UGLY = {
    '{"a":1,"a":2}': "two fields 'a'",
    '{"b":[{"a":1,"a":2}]}': "two fields 'a'",
    r'{"a":"\ud800"}': "half of a surrogate pair",
    r'{"a\u0000b":1}': "cannot be held in BSON",
    '{"a":{"$oid":"zz"}}': "a value of .oid that cannot be read",
    '{"a":{"$date":"yesterday"}}': "a value of .date that cannot be read",
    '{"a":{"$numberLong":"1.5"}}': "a value of .numberLong that cannot be read",
    "5": "no document",
    '{"a":' * 150 + "1" + "}" * 150: "nested deeper than 100 levels",
}


def test_a_document_that_cannot_be_read_is_a_row_that_says_why(dump, place):
    lines = [*(text.encode() for text in UGLY), b'{"a":"caf\xe9"}', b'{"a":"good"}']
    (dump / "t.ndjson").write_bytes(b"\n".join(lines))
    manifest = place.land(str(dump), LegacyTable("t", "area", ("a",)))
    frame = place.frame("t")
    told = frame["_unreadable"].to_list()
    for text, said in zip(UGLY, told, strict=False):
        assert pl.Series([said]).str.contains(UGLY[text]).item(), (text, said)
    assert told[-2:] == ["holds bytes that are no UTF-8", None]
    assert frame["_line"].to_list()[: len(UGLY)] == list(UGLY)
    assert place.undecodable("t") == [(len(lines) - 1, "_line", lines[-2])]
    assert frame["a"].to_list() == [None] * (len(lines) - 1) + ['"good"']
    assert frame["_row"].to_list() == list(range(1, len(lines) + 1))
    assert (manifest.metadata["unreadable"], manifest.metadata["source_rows"]) == (len(lines) - 1, len(lines))


def test_what_cannot_be_read_of_an_array_is_what_cannot_be_read_of_lines(dump, place):
    lines = [
        *(text.encode() for text in UGLY),
        b'{"a":"caf\xe9","b":"\xed\xa0\x80"}',
        b'{"_id":7,"b\xe9":1}',
        b'{"a":"good"}',
    ]
    (dump / "t.ndjson").write_bytes(b"\n".join(lines))
    (dump / "u.json").write_bytes(b"[" + b",\n ".join(lines) + b"]")
    frames = []
    for name in ("t", "u"):
        place.land(str(dump), LegacyTable(name, "area", ("_id", "a"), key=("_id",), documents=True))
        frames.append(place.frame(name))
    assert frames[0].equals(frames[1])
    assert frames[1]["_unreadable"].to_list()[-3:] == ["holds bytes that are no UTF-8"] * 2 + [None]
    assert frames[1]["_id"].to_list()[-2] == '{"$numberInt":"7"}'


def test_bson_that_cannot_be_decoded_is_a_row_that_says_why(dump, place):
    deep: dict[str, Any] = {}
    for _ in range(120):
        deep = {"a": deep}
    bad = [
        TWO_FIELDS_OF_ONE_NAME,
        bson.encode({"a": "xy"}).replace(b"xy", b"\xff\xfe"),
        bson.encode({"a": 1}).replace(b"\x10a", b"\x77a"),
        bson.encode(deep),
        with_size(b"\x02a\0\xff\xff\xff\x7fx\0"),
    ]
    (dump / "t.bson").write_bytes(b"".join([*bad, bson.encode({"a": "good\0"})]))
    place.land(str(dump), LegacyTable("t", "area", ("a",)))
    frame = place.frame("t")
    assert frame["_unreadable"].null_count() == 1
    assert frame["a"].to_list() == [None] * 5 + [r'"good\u0000"']
    assert [base64.b64decode(text) for text in frame["_bson"]] == [*bad, bson.encode({"a": "good\0"})]
    assert frame["_unreadable"][0] == "has two fields 'a', of which one would be lost"
    assert "\xff" not in str(frame["_unreadable"].to_list())


def test_a_row_without_a_value_is_rejected_for_what_its_document_has(dump, place):
    (dump / "t.ndjson").write_bytes(b'{"_id":"1","a":"5"}\n{"_id":"2","a":"5","a":"6"}\n')
    table = LegacyTable("t", "area", ("_id", "a"), key=("_id",))
    place.land(str(dump), table)
    source = SourceRows.of(table, legacy_frame(place.lake, "toy", table), 2)
    rows = named(table, source.placed(source.frame.collect()))
    assert rows["_source_key"].to_list() == ["1", "2"]
    mapping = SourceMapping.model_validate({"columns": {"b": {"from": ["a"], "transform": "integer"}}})
    found = apply_columns(rows, mapping, CONTEXT, GENERIC)
    assert found[":b"].to_list() == [5, None]
    assert found["_problems"].to_list() == [
        [],
        [{"reason": "unparseable", "column": "document", "detail": "has two fields 'a', of which one would be lost"}],
    ]


ONE = bson.encode({"a": 1})
BROKEN = {
    "t.bson": {
        "cut": (ONE + ONE[:-3], "cut off", "byte 12"),
        "cut in its size": (ONE + b"\x0c\0", "cut off", "byte 12"),
        "too small": (ONE + b"\x04\0\0\0\0", "cannot have 4 bytes", "byte 12"),
        "negative": (b"\xff\xff\xff\xff" + ONE, "cannot have -1 bytes", "byte 0"),
        "too large": (b"\0\0\0\x7f" + ONE, "cannot have 2,130,706,432 bytes", "byte 0"),
        "no end": (ONE[:-1] + b"x", "does not end where it says", "byte 0"),
    },
    "t.bson.gz": {
        "cut": (gzip.compress(ONE * 1000)[:-9], "gzip is cut off or damaged", "gzip"),
        "no gzip": (ONE, "gzip is cut off or damaged", "gzip"),
    },
    "t.ndjson": {
        "no JSON": (b'{"a":1}\n{"a":1,}\n', "the line is no JSON", "line 2"),
        "not a number": (b'{"a":NaN}\n', "NaN is no value of JSON", "line 1"),
        "cut": (b'{"a":1}\n{"a":', "the line is no JSON", "line 2"),
    },
    "t.json": {
        "array that does not end": (b'[\n{"a":1},\n{"a":2}', "does not end", "line 3"),
        "trailing comma": (b'[{"a":1},]', "the array is no JSON", "line 1"),
        "more after it": (b'[{"a":1}]\n[]', "does not end", "line 2"),
        "latin-1 outside of texts": (b'[{"a":1},\xe9]', "the array is no JSON", "line 1"),
    },
}


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in BROKEN.items() for case in cases], ids=lambda part: part
)
def test_a_file_that_is_not_whole_stops_its_collection_with_the_place(dump, place, name, case):
    content, said, at = BROKEN[name][case]
    (dump / name).write_bytes(content)
    for table in (LegacyTable("t", "area", ("a",)), LegacyTable("t.a", "area", ("_value",), of="t", each="a")):
        with pytest.raises(SourceError, match=said) as caught:
            place.land(str(dump), table)
        assert caught.value.where == f"{dump / name}, {at}"
        assert "dump or export the collection again" in caught.value.remedy
        assert place.is_untouched(table.name)


LINES = LegacyTable(
    "orders.lines",
    "shop",
    ("_parent", "_position", "sku", "n", "_value"),
    ("_parent", "_position"),
    of="orders",
    each="lines",
)


def test_the_elements_of_an_array_are_rows_in_their_order(dump, place):
    orders = [
        '{"_id":"b","lines":[{"sku":"x","n":2},{"sku":null,"note":"?"},"plain",[1],null]}',
        '{"_id":"a","lines":[]}',
        '{"_id":"none"}',
        '{"_id":"null","lines":null}',
        '{"_id":"one","lines":{"sku":"y"}}',
        '{"lines":[{"n":1.5}]}',
        '{"_id":"c","_id":"d","lines":[{"sku":"z"}]}',
    ]
    (dump / "orders.ndjson").write_text("\n".join(orders))
    manifest = place.land(str(dump), LINES)
    rows = place.frame("orders.lines").drop("_row", "_undecodable").rows()
    assert rows == [
        ('"b"', "1", '"x"', '{"$numberInt":"2"}', '{"sku":"x","n":{"$numberInt":"2"}}', None),
        ('"b"', "2", "null", None, '{"sku":null,"note":"?"}', None),
        ('"b"', "3", None, None, '"plain"', None),
        ('"b"', "4", None, None, '[{"$numberInt":"1"}]', None),
        ('"b"', "5", None, None, "null", None),
        ('"one"', None, None, None, '{"sku":"y"}', "lines is no array, but object"),
        (None, "1", None, '{"$numberDouble":"1.5"}', '{"n":{"$numberDouble":"1.5"}}', None),
        (None, None, None, None, None, "has two fields '_id', of which one would be lost"),
    ]
    assert (manifest.metadata["source_rows"], manifest.metadata["unreadable"]) == (8, 2)
    assert manifest.metadata["undeclared"] == ["note"]
    assert manifest.tables["rows"].rows == 8
    keyed = source_key(LINES, legacy_frame(place.lake, "toy", LINES)).collect()
    assert keyed["_source_key"].to_list()[:3] == ['["b","1"]', '["b","2"]', '["b","3"]']
    assert keyed.select("_parent", "n", "_value").row(0) == ("b", "2", '{"sku":"x","n":{"$numberInt":"2"}}')
    assert keyed["_value"].to_list()[2] == "plain"


def test_a_table_says_both_where_its_elements_are_or_neither():
    with pytest.raises(ValueError, match="only one of `of` and `each`"):
        LegacyTable("t", "area", (), of="orders")


def test_columns_are_found_where_none_are_declared(dump, place):
    (dump / "orders.ndjson").write_text('{"a":1}\n{"_rest":2,"b":{"c":1},"lines":[{"x":1},{"y":2,"_value":3}]}\n')
    orders = LegacyTable("orders", "shop", ())
    lines = LegacyTable("orders.lines", "shop", (), of="orders", each="lines")
    with open_source(f"file://{dump}") as source:
        assert source.tables() == ["orders"]
        assert source.columns(orders) == ["a", "b", "lines", "_rest", "_types", "_bson", "_line", "_unreadable"]
        assert source.columns(lines) == ["_parent", "_position", "x", "y", "_value", "_unreadable"]
        assert source.stored_bytes([orders]) == (dump / "orders.ndjson").stat().st_size
        with pytest.raises(SourceError, match="the table other is missing"):
            source.columns(LegacyTable("other", "shop", ()))
    place.land(str(dump), orders)
    assert place.frame("orders")["_rest"].to_list() == [None, '{"_rest":{"$numberInt":"2"}}']


def test_which_files_are_collections(dump, place):
    database = dump / "crm"
    for directory in (database, dump / "admin", dump / "config"):
        directory.mkdir()
        (directory / "system.version.bson").write_bytes(b"")
        (directory / "a%2Fb.bson").write_bytes(ONE)
    (database / "a%2Fb.metadata.json").write_text("{}")
    (database / "prelude.json").write_text("{}")
    (database / "empty.bson").write_bytes(b"")
    (dump / "oplog.bson").write_bytes(b"?")
    with open_source(str(dump)) as source:
        assert source.tables() == ["a/b", "empty"]
        assert place.land_from(source, LegacyTable("empty", "area", ("a",))).metadata["source_rows"] == 0
    (dump / "other").mkdir()
    (dump / "other" / "t.bson").write_bytes(ONE)
    with pytest.raises(SourceError, match="this dump has 2 databases: crm, other"), open_source(str(dump)):
        pass
    (database / "empty.ndjson").write_bytes(b"")
    with (
        pytest.raises(SourceError, match="empty is there in 2 forms: empty.bson, empty.ndjson"),  # noqa: RUF043
        open_source(str(database)),
    ):
        pass


def test_a_directory_with_csv_stays_one_of_csv(dump):
    (dump / "schema.json").write_text("{}")
    (dump / "t.csv").write_text("a\n1\n")
    assert isinstance(open_source(str(dump)), CsvDirectory)
    assert isinstance(open_source(str(dump / "nothing")), CsvDirectory)


def test_a_file_that_changes_while_it_is_read_is_not_taken(dump, place):
    (dump / "t.ndjson").write_text('{"a":1}\n' * 10)

    def append(_rows: int) -> None:
        with (dump / "t.ndjson").open("a") as stream:
            stream.write('{"a":2}\n')

    with open_source(str(dump)) as source, pytest.raises(SourceError, match="changed while it was read"):
        source.extract(LegacyTable("t", "area", ("a",)), place.lake, ("toy", "legacy", "t"), "r", append)
    assert place.is_untouched("t")


def test_times_of_every_year_are_kept(dump, place):
    moments = [-(10**15), 253402300799999, 253402300800000, -62135596800000]
    (dump / "t.bson").write_bytes(b"".join(bson.encode({"a": DatetimeMS(moment)}) for moment in moments))
    table = LegacyTable("t", "area", ("a",), kind_of=lambda _: "instant")
    place.land(str(dump), table)
    read = legacy_frame(place.lake, "toy", table).collect()["a"].to_list()
    assert read[1::2] == ["9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00.000Z"]
    assert [json.loads(text)["$date"]["$numberLong"] for text in read[::2]] == [str(moments[0]), str(moments[2])]
    made = pl.DataFrame({"a": read}).select(GENERIC["instant"]([pl.col("a")], CONTEXT).value).to_series().to_list()
    assert made == [None, datetime(9999, 12, 31, 23, 59, 59, 999000, UTC), None, datetime(1, 1, 1, tzinfo=UTC)]


def test_what_is_no_json_at_all() -> None:
    for text in ("", "{", "{'a':1}", '{"a":Infinity}'):
        with pytest.raises(NoJson):
            decoded_json(text)


def test_keys_that_are_ids_and_which_of_several_documents_counts(dump, place):
    other = "507f191e810c19729de860ea"
    lines = [
        f'{{"_id":{{"$oid":"{ID}"}},"a":1}}',
        f'{{"_id":" {ID.upper()}\\n","a":2}}',
        f'{{"_id":"{other}","a":1,"b":2}}',
        f'{{ "_id":"{other}", "a":1, "b":2 }}',
        f'{{"_id":"{other}","b":2,"a":1}}',
        '{"_id":5}',
        '{"_id":"short","a":"\\u0000"}',
        '{"a":3}',
        f'{{"_id":"{other}","a":1,"a":2}}',
    ]
    (dump / "t.ndjson").write_text("\n".join(lines))
    table = LegacyTable(
        "t",
        "area",
        ("_id", "a"),
        key=("_id",),
        kind_of=lambda name: "object_id" if name == "_id" else "json",
    )
    place.land(str(dump), table)
    source = SourceRows.of(table, legacy_frame(place.lake, "toy", table), len(lines))
    rows = named(table, source.placed(source.frame.collect()))
    assert rows["_source_key"].to_list() == [ID, ID, other, other, other, "5", '"short"', "#8", other]
    fates = [None, "duplicate_key", "duplicate_key", "identical", None, None, None, None, None]
    assert rows["_key_fate"].to_list() == fates
    told = json_of_rows(rows, {name.removeprefix("extra:"): name for name in rows.columns}).to_list()
    assert told[4] == f'{{"_id":"{other}","b":{{"$numberInt":"2"}},"a":{{"$numberInt":"1"}}}}'
    assert told[6] == '{"_id":"short","a":"\\\\x00"}'
    assert json.loads(told[8]) == {"_line": lines[8]}
    elements = key_elements(table, ID)
    found = legacy_frame(place.lake, "toy", table, where=may_have_key(table, elements))
    assert found.filter(has_key(table, elements)).collect().height == 2


def test_a_document_that_is_encoded_again_keeps_the_order_of_its_fields():
    """pymongo puts `_id` first where it encodes a document by itself: two different documents would be one."""
    for document in ({"name": "n", "_id": 1}, {"_id": 1, "name": "n"}, {}, {"a": {"b": 1, "_id": 2}}):
        assert list(bson.decode(encoded(document))) == list(document)
        assert bson.decode(encoded(document)) == document


def test_references_of_both_kinds_are_what_was_stored():
    """pymongo makes its own reference of both, which has an order of its own and forgets a database that is null."""
    fields = b"\x0cp\0" + (6).to_bytes(4, "little") + b"a.b c\0" + bytes.fromhex(ID)
    pointer = f'{{"$dbPointer":{{"$ref":"a.b c","$id":{{"$oid":"{ID}"}}}}}}'
    for data, told in (
        (fields, f'{{"p":{pointer}}}'),
        (fields.replace(b"\x0cp\0", b"\x0c$ref\0"), f'{{"$ref":{pointer}}}'),
    ):
        whole = (len(data) + 5).to_bytes(4, "little") + data + b"\0"
        assert canonical(decoded_bson(whole)) == told
        assert encoded(decoded_bson(whole)) == encoded(decoded_json(told)) == whole
        assert relaxed(told) == told
    assert type_name(decoded_json(f'{{"p":{pointer}}}')["p"]) == "dbPointer"
    assert canonical(decoded_json(f'{{"l":[{pointer},{{"a":{pointer}}}]}}')) == f'{{"l":[{pointer},{{"a":{pointer}}}]}}'
    for members in (
        {"x": 1, "$ref": "users", "$id": 2},
        {"$id": 2, "$ref": "users"},
        {"$ref": "users", "$id": ObjectId(ID), "$db": None},
        {"$ref": "users", "z": {"b": 1, "$ref": "c", "$id": 3}, "$id": 2, "$db": "d"},
        {"$ref": "users"},
        {"$ref": 5, "$id": 2},
    ):
        data = encoded({"r": members, "l": [members]})
        told = canonical(decoded_bson(data))
        assert encoded(decoded_json(told)) == data
        assert list(json.loads(told)["r"]) == list(members)
        assert type_name(decoded_bson(data)["r"]) == "object"
    for wrong in ('{"$dbPointer":{"$ref":"a","$id":5}}', '{"$dbPointer":"a"}', '{"$dbPointer":{"$ref":"a"}}'):
        with pytest.raises(UnreadableDocument, match=r"\$dbPointer"):
            decoded_json(f'{{"p":{wrong}}}')
