"""What older tools and servers wrote is read as what it means, from BSON and from Extended JSON of every age alike."""

import gzip
from pathlib import Path

import bson
import pytest
from bson import Binary, DBRef, Int64, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from bson.max_key import MaxKey
from bson.min_key import MinKey

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import open_source
from dtx_assets_tests.machinery.sources import mongo_forms as forms
from dtx_assets_tests.machinery.sources.landing_place import LandingPlace

ID = ObjectId("507f1f77bcf86cd799439011")
TABLE = LegacyTable("t", "area", ("_id", "a"), key=("_id",))


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    (tmp_path / "dump").mkdir()
    return tmp_path / "dump"


def field(kind: int, value: bytes) -> bytes:
    """A document with the one field `a` of a type that no encoder writes any more."""
    inside = bytes((kind,)) + b"a\0" + value
    return (len(inside) + 5).to_bytes(4, "little") + inside + b"\0"


def told(place: LandingPlace, dump: Path) -> list[tuple[str | None, str | None, str | None]]:
    place.land(str(dump), TABLE)
    return place.frame("t").select("a", "_types", "_unreadable").rows()


OF_JSON = {
    '{"$date":1720000000123}': DatetimeMS(1720000000123),
    '{"$date":-1}': DatetimeMS(-1),
    '{"$date":"2024-07-03T09:46:40.123+0000"}': DatetimeMS(1720000000123),
    '{"$date":"2024-07-03T11:46:40.123+02:00"}': DatetimeMS(1720000000123),
    '{"$date":"2024-07-03T09:46:40Z"}': DatetimeMS(1720000000000),
    '{"$date":{"$numberLong":"253402300800000"}}': DatetimeMS(253402300800000),
    '{"$binary":"AQI=","$type":"00"}': b"\x01\x02",
    '{"$binary":"AQI=","$type":"80"}': Binary(b"\x01\x02", 128),
    '{"$binary":{"base64":"AQI=","subType":"80"}}': Binary(b"\x01\x02", 128),
    '{"$numberLong":"5"}': Int64(5),
    '{"$oid":"507F1F77BCF86CD799439011"}': ID,
    '{"$regex":"a.b","$options":"i"}': Regex("a.b", "i"),
    '{"$regularExpression":{"pattern":"a.b","options":"i"}}': Regex("a.b", "i"),
    '{"$timestamp":{"t":5,"i":6}}': Timestamp(5, 6),
    '{"$minKey":1}': MinKey(),
    '{"$maxKey":1}': MaxKey(),
    '{"$undefined":true}': None,
    '{"$symbol":"x"}': "x",
    '{"$ref":"people","$id":{"$oid":"507f1f77bcf86cd799439011"}}': DBRef("people", ID),
    '{"$ref":"people","$id":5,"$db":"crm"}': DBRef("people", 5, "crm"),
    '"line\u2028and\u0085next"': "line\u2028and\u0085next",
    "1e3": 1000.0,
    "5": 5,
    "5.0": 5.0,
    "9007199254740993": Int64(9007199254740993),
}


def test_json_of_every_age_is_what_bson_says(place, dump):
    (dump / "t.json").write_text("".join(f'{{"a":{text}}}\n' for text in OF_JSON), encoding="utf-8")
    from_json = told(place, dump)
    (dump / "t.json").unlink()
    (dump / "t.bson").write_bytes(b"".join(bson.encode({"a": value}) for value in OF_JSON.values()))
    from_bson = told(place, dump)
    for text, one, other in zip(OF_JSON, from_json, from_bson, strict=True):
        assert one == other, text
        assert one[2] is None, text


OLD_TYPES = {
    "a symbol is text": (field(14, b"\x02\0\0\0x\0"), ('"x"', '{"a":"string"}', None)),
    "undefined is null": (field(6, b""), ("null", '{"a":"null"}', None)),
    "a pointer is no reference": (
        field(12, b"\x02\0\0\0t\0" + ID.binary),
        ('{"$dbPointer":{"$ref":"t","$id":{"$oid":"507f1f77bcf86cd799439011"}}}', '{"a":"dbPointer"}', None),
    ),
    "binary of the old subtype": (
        field(5, b"\x05\0\0\0\x02\x01\0\0\0x"),
        ('{"$binary":{"base64":"eA==","subType":"02"}}', '{"a":"binData"}', None),
    ),
}


@pytest.mark.parametrize("case", OLD_TYPES)
def test_older_types(place, dump, case):
    data, expected = OLD_TYPES[case]
    (dump / "t.bson").write_bytes(data)
    assert told(place, dump) == [expected]


BAD_VALUES = {
    '{"$oid":"507f1f77bcf86cd79943901"}': ".oid",
    '{"$date":"yesterday"}': ".date",
    '{"$date":{"$numberLong":"x"}}': ".numberLong",
    '{"$numberLong":"9223372036854775808"}': ".numberLong",
    '{"$numberInt":"2147483648"}': ".numberInt",
    '{"b":[{"x":1,"x":1}]}': "two fields 'x'",
    '{"b":"\\ud800"}': "surrogate",
}


def test_one_bad_value_is_one_document(place, dump):
    lines = [f'{{"_id":{number},"a":{text}}}' for number, text in enumerate(BAD_VALUES)]
    (dump / "t.ndjson").write_text("\n".join([*lines, '{"_id":"good","a":1}']))
    place.land(str(dump), TABLE)
    rows = place.frame("t").select("_id", "a", "_unreadable").rows()
    for number, (said, row) in enumerate(zip(BAD_VALUES.values(), rows, strict=False)):
        assert row[:2] == (f'{{"$numberInt":"{number}"}}', None)
        assert said.lstrip(".") in (row[2] or "")
    assert rows[-1] == ('"good"', '{"$numberInt":"1"}', None)


def test_what_lies_beside_collections_is_none(place, dump):
    for name in ("prelude.json", "prelude.json.gz", "oplog.bson", "oplog.bson.gz", "system.users.bson", "notes.txt"):
        (dump / name).write_bytes(b"?")
    (dump / "system.profile.metadata.json.gz").write_bytes(b"?")
    (dump / "%C3%A9%25.bson.gz").write_bytes(gzip.compress(bson.encode({"_id": 1})))
    with open_source(str(dump)) as source:
        assert source.tables() == ["é%"]
        assert place.land_from(source, LegacyTable("é%", "area", ("_id",))).metadata["source_rows"] == 1


def test_two_forms_of_a_collection_of_which_one_is_packed(dump):
    (dump / "t.bson").write_bytes(b"")
    (dump / "t.bson.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(SourceError, match=r"t is there in 2 forms: t\.bson, t\.bson\.gz"), open_source(str(dump)):
        pass


def test_an_archive_with_sums_and_empty_blocks(place, tmp_path):
    """The fields of a block's header come in any order; a collection may have nothing but its end."""
    people = ("crm", "t")
    out = [forms.MAGIC, bson.encode({"version": "0.1"})]
    out += [bson.encode({"db": "crm", "collection": name, "metadata": "", "size": 0}) for name in ("t", "none")]
    out += [forms.END, forms.block_header(people, end=False), bson.encode({"_id": 1, "a": "x"}), forms.END]
    out += [forms.block_header(("crm", "none"), end=True), forms.END]
    out += [forms.block_header(people, end=False), forms.END]
    out += [bson.encode({"CRC": Int64(-5), "EOF": True, "collection": "t", "db": "crm"}), forms.END]
    (tmp_path / "crm.archive").write_bytes(b"".join(out))
    place.land(str(tmp_path / "crm.archive"), TABLE)
    assert place.frame("t")["a"].to_list() == ['"x"']
    assert place.land(str(tmp_path / "crm.archive"), LegacyTable("none", "area", ("a",))).metadata["source_rows"] == 0
    (tmp_path / "crm.archive").write_bytes(b"".join(out[:-2]))
    with pytest.raises(SourceError, match="the last block of t is missing"):
        place.land(str(tmp_path / "crm.archive"), TABLE)


@pytest.mark.parametrize("cut", [1, 9, 40, 400, 4000])
def test_a_packed_dump_that_is_cut_anywhere_is_taken_over_nowhere(place, dump, cut):
    data = b"".join(bson.encode({"_id": number, "a": str(number) * 9}) for number in range(3000))
    (dump / "t.bson.gz").write_bytes(gzip.compress(data)[:-cut])
    with pytest.raises(SourceError, match="cut off") as refused:
        place.land(str(dump), TABLE)
    assert refused.value.where.startswith(str(dump / "t.bson.gz"))
    assert place.is_untouched("t")


def test_documents_longer_than_what_is_read_at_once(place, dump, monkeypatch):
    monkeypatch.setattr("dtx_assets.machinery.sources.document_framing.READ_AT_ONCE", 64)
    documents = [bson.encode({"_id": number, "a": "x" * (number * 7 % 300)}) for number in range(100)]
    (dump / "t.bson").write_bytes(b"".join(documents))
    place.land(str(dump), TABLE)
    assert place.frame("t")["a"].to_list() == [f'"{"x" * (number * 7 % 300)}"' for number in range(100)]
    (dump / "t.bson").write_bytes(b"".join(documents)[:-1])
    with pytest.raises(SourceError, match="cut off") as refused:
        place.land(str(dump), TABLE)
    assert refused.value.where == f"{dump / 't.bson'}, byte {sum(map(len, documents[:-1])):,}"
