"""Every form of the same documents gives the same rows: dumps, archives, exports, in a directory and in S3."""

import base64
import gzip
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import obstore
import polars as pl
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex, Timestamp
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.max_key import MaxKey
from bson.min_key import MinKey
from hypothesis import given
from hypothesis import strategies as st

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.base.lake import s3_store
from dtx_assets.machinery.checks.documents import absence_outcome, case_outcome
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.document_framing import LARGEST_JSON, READ_AT_ONCE, of_json
from dtx_assets.machinery.sources.document_places import DocumentArchive, DocumentFiles
from dtx_assets.machinery.sources.mongo_archive import Archive
from dtx_assets.machinery.sources.undeclared import refuse_when_none_is_there
from dtx_assets_tests.machinery.sources import mongo_forms as forms
from dtx_assets_tests.machinery.sources.landing_place import LandingPlace

PEOPLE: list[dict[str, Any]] = [
    {
        "_id": ObjectId(f"{number:024x}"),
        "name": f"Zoë {number}\u2028\n",
        "n": number,
        "born": DatetimeMS(number * 10**9),
    }
    for number in range(7)
]
PEOPLE[1] |= {"n": Int64(2**40), "rate": 0.1, "notes": ["a", None, {"b": [1, 2.5]}], "on": True, "gone": None}
PEOPLE[2] |= {"sum": Decimal128("1.50"), "blob": Binary(b"\x00\x01", 128), "like": Regex("a.b", "i")}
PEOPLE[3] |= {"at": Timestamp(5, 6), "low": MinKey(), "high": MaxKey(), "run": Code("f()", {"n": 1})}
COLLECTIONS = {"people": PEOPLE, "a b": [{"_id": "x"}], "none": []}
TABLES = [
    LegacyTable("people", "crm", ("_id", "name", "n", "born", "rate", "notes"), key=("_id",)),
    LegacyTable("a b", "crm", ("_id",), key=("_id",)),
    LegacyTable("none", "crm", ("_id",), key=("_id",)),
]


def rows_of(place: LandingPlace, url: str) -> list[pl.DataFrame]:
    for table in TABLES:
        place.land(url, table)
    return [place.frame(table.name).drop("_line", strict=False) for table in TABLES]


@pytest.fixture
def expected(tmp_path: Path) -> list[pl.DataFrame]:
    place = LandingPlace(tmp_path / "expected")
    forms.dumped(COLLECTIONS, tmp_path / "expected" / "crm")
    return rows_of(place, str(tmp_path / "expected" / "crm"))


def agree(one: list[pl.DataFrame], other: list[pl.DataFrame]) -> bool:
    return all(mine.equals(theirs, null_equal=True) for mine, theirs in zip(one, other, strict=True))


def test_the_dump_that_others_are_compared_with(expected):
    assert [base64.b64decode(text) for text in expected[0]["_bson"]] == [bson.encode(each) for each in PEOPLE]
    assert expected[0]["n"].to_list()[:2] == ['{"$numberInt":"0"}', '{"$numberLong":"1099511627776"}']
    assert expected[0]["_rest"][3].endswith('"run":{"$code":"f()","$scope":{"n":{"$numberInt":"1"}}}}')
    assert [frame.height for frame in expected] == [7, 1, 0]


def dump_root(directory: Path) -> None:
    forms.dumped(COLLECTIONS, directory / "crm")
    forms.dumped({"system.version": [{"_id": 1}]}, directory / "admin")
    (directory / "oplog.bson").write_bytes(b"?")


FORMS: dict[str, Callable[[Path], None]] = {
    "packed dump": lambda directory: forms.dumped(COLLECTIONS, directory, packed=True),
    "root of a dump": dump_root,
    **{
        f"export in {suffix}": lambda directory, suffix=suffix, write=write: forms.exported(  # type: ignore[misc]
            COLLECTIONS, directory, suffix, write
        )
        for suffix, write in forms.EXPORTS.items()
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_a_directory_gives_the_same_rows(tmp_path, place, expected, form):
    FORMS[form](tmp_path / "form")
    assert isinstance(open_source(str(tmp_path / "form")), DocumentFiles)
    assert agree(rows_of(place, (tmp_path / "form").as_uri()), expected)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("block", [1, 3, 100])
def test_an_archive_gives_the_same_rows(tmp_path, place, expected, packed, block):
    content = forms.archive(COLLECTIONS, block=block)
    (tmp_path / "crm.archive").write_bytes(gzip.compress(content) if packed else content)
    assert isinstance(open_source(str(tmp_path / "crm.archive")), DocumentArchive)
    assert agree(rows_of(place, str(tmp_path / "crm.archive")), expected)


def test_the_same_in_s3(tmp_path, place, expected, s3_bucket):
    url = f"s3://{s3_bucket}/one two"
    for form in ("packed dump", "root of a dump", "export in .json.gz"):
        FORMS[form](tmp_path / form)
        for path in (tmp_path / form).rglob("*"):
            if path.is_file():
                obstore.put(s3_store(f"{url}/{form}"), str(path.relative_to(tmp_path / form)), path.read_bytes())
        assert agree(rows_of(place, f"{url}/{form}"), expected)
    obstore.put(s3_store(url), "crm.archive.gz", gzip.compress(forms.archive(COLLECTIONS)))
    assert agree(rows_of(place, f"{url}/crm.archive.gz"), expected)
    with open_source(f"{url}/packed dump") as source:
        assert source.columns(TABLES[1]) == ["_id", "_rest", "_types", "_bson", "_unreadable"]
        assert source.stored_bytes(TABLES[:1]) == (tmp_path / "packed dump" / "people.bson.gz").stat().st_size


def test_an_object_that_has_not_changed_is_not_fetched_again(tmp_path, place, s3_bucket, monkeypatch):
    url = f"s3://{s3_bucket}/dump"
    obstore.put(s3_store(url), "people.bson", b"".join(map(bson.encode, PEOPLE)))
    first = place.land(url, TABLES[0], run_id="one")
    with monkeypatch.context() as patch:
        patch.setattr("dtx_assets.machinery.sources.stored_files.StoredFiles.local", None)
        assert place.land(url, TABLES[0], run_id="two") == first
    obstore.put(s3_store(url), "people.bson", bson.encode(PEOPLE[0]))
    assert place.land(url, TABLES[0], run_id="three").metadata["source_rows"] == 1


def test_the_beginning_of_an_object_is_enough_for_its_columns(place, s3_bucket):
    url = f"s3://{s3_bucket}/long"
    obstore.put(s3_store(url), "people.json", ('{"name":"' + "x" * (3 << 20) + '"}\n{"n":1}\n').encode())
    with open_source(url) as source:
        assert source.columns(TABLES[0])[:3] == ["_id", "name", "n"]


def test_a_dump_that_has_not_changed_is_not_read_again(tmp_path, place, monkeypatch):
    forms.dumped(COLLECTIONS, tmp_path / "dump")
    (tmp_path / "crm.archive").write_bytes(forms.archive(COLLECTIONS))
    for url in (str(tmp_path / "dump"), str(tmp_path / "crm.archive")):
        first = place.land(url, TABLES[0], run_id="one")
        with monkeypatch.context() as patch:
            patch.setattr("dtx_assets.machinery.sources.documents.land_table", None)
            patch.setattr("dtx_assets.machinery.sources.documents.batches_of_rows", None)
            assert place.land(url, TABLES[0], run_id="two") == first
        other = LegacyTable("people", "crm", ("_id", "name"))
        assert place.land(url, other, run_id="three").metadata["fields"] == ["_id", "name"]


def test_views_are_told_and_not_read(tmp_path):
    forms.dumped({"people": PEOPLE, "shown": []}, tmp_path / "dump")
    (tmp_path / "dump" / "shown.metadata.json").write_text('{"type":"view","options":{"viewOn":"people"}}')
    (tmp_path / "dump" / "alone.metadata.json").write_text('{"type":"view"}')
    (tmp_path / "crm.archive").write_bytes(forms.archive({"people": PEOPLE, "shown": []}, kinds={"shown": "view"}))
    with open_source(str(tmp_path / "dump")) as source:
        assert isinstance(source, DocumentFiles)
        assert (source.tables(), source.not_read) == (["people"], {"alone": "view", "shown": "view"})
    with open_source(str(tmp_path / "crm.archive")) as source:
        assert isinstance(source, DocumentArchive)
        assert (source.tables(), source.not_read) == (["people"], {"shown": "view"})


def test_a_name_that_a_file_cuts_is_that_of_its_metadata(tmp_path):
    forms.dumped({"short": PEOPLE}, tmp_path / "dump")
    (tmp_path / "dump" / "short.metadata.json").write_text('{"collectionName":"a very long name","type":"collection"}')
    with open_source(str(tmp_path / "dump")) as source:
        assert source.tables() == ["a very long name"]


def test_several_databases_are_told(tmp_path):
    for name in ("crm", "shop", "local"):
        forms.dumped(COLLECTIONS, tmp_path / "dump" / name)
    others = {"shop": {"t": [{"_id": 1}]}, "admin": {"users": [{"_id": 1}]}}
    (tmp_path / "all.archive").write_bytes(forms.archive(COLLECTIONS, others=others))
    for url in (tmp_path / "dump", tmp_path / "all.archive"):
        with pytest.raises(SourceError, match="this dump has 2 databases: crm, shop") as caught, open_source(str(url)):
            pass
        assert caught.value.where == str(url)


# --- what is broken ---------------------------------------------------------------------------------------------------


def archive_at(tmp_path: Path, content: bytes) -> str:
    (tmp_path / "crm.archive").write_bytes(content)
    return str(tmp_path / "crm.archive")


def test_a_cut_archive_stops_the_collections_that_are_not_whole(tmp_path, place):
    whole = forms.archive({"early": PEOPLE[:1], "late": PEOPLE}, block=1)
    for cut, told in ((len(whole) - 3, "cut off"), (len(whole) - 200, "cut off")):
        url = archive_at(tmp_path, whole[:cut])
        assert place.land(url, LegacyTable("early", "crm", ("_id",))).metadata["source_rows"] == 1
        with pytest.raises(SourceError, match=told) as caught:
            place.land(url, LegacyTable("late", "crm", ("_id",)))
        assert caught.value.where.startswith(f"{url}, byte ")
        assert place.is_untouched("late")


def test_what_an_archive_must_not_be(tmp_path, place):
    whole = forms.archive({"t": PEOPLE[:1]})
    again = forms.block_header(("crm", "t"), end=True) + forms.END
    cases = {
        "does not begin as an archive": b"\x1f\x8b" + whole,
        "a header cannot have": whole[:4] + b"\xff\xff\xff\x0f" + whole[8:],
        "cut off": whole[:60],
        "a block comes behind the last one": whole + again,
        "a header of a block cannot have": whole + b"\x01\x00\x00\x00",
        "gzip is cut off": gzip.compress(whole)[:-12],
        "gzip is damaged": gzip.compress(whole) + b"more",
        "the last block of t is missing": whole[: -len(again)],
        "does not name its collection": whole[: -len(again)] + bson.encode({"db": "crm"}) + forms.END,
    }
    for told, content in cases.items():
        url = archive_at(tmp_path, content if told != "does not begin as an archive" else gzip.compress(b"nothing"))
        with pytest.raises(SourceError, match=told) as caught:
            place.land(url, LegacyTable("t", "crm", ("_id",)))
        assert ", byte " in caught.value.where
        assert place.is_untouched("t")


@given(st.data())
def test_no_mutated_archive_is_anything_but_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(forms.archive({"people": PEOPLE[:3], "other": PEOPLE[3:4]}, block=1))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    mutated = bytes(content)[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else bytes(content)
    where = "x, byte "
    try:
        archive = Archive(mutated, "x", None)
        for database in archive.databases:
            for name in archive.collections(database):
                for document in archive.collection(database, name).documents():
                    assert document.problem is None or not document.fields
    except SourceError as error:
        where = error.where
    assert where.startswith("x, byte ")


def test_arrays_of_any_length_are_read_in_pieces():
    line = '{"a":"' + 'é\u2028[]{}\\"' * 3000 + '","b":[1,{"c":[]}],"n":'
    content = ("[" + ",\n".join(line + f"{number}}}" for number in range(200)) + "]").encode()
    stream = Pieces(content)
    found = list(of_json(stream, "x.json"))
    assert [document.fields["n"] for document in found] == list(range(200))
    assert "".join(document.data.decode() + ",\n" for document in found)[:-2].encode() == content[1:-1]
    assert stream.largest <= 2 * READ_AT_ONCE
    assert len(content) > 4 * READ_AT_ONCE


class Pieces:
    """A stream that remembers how much was asked for at once."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place, self.largest = content, 0, 0

    def read(self, size: int) -> bytes:
        self.largest = max(self.largest, size)
        piece = self.content[self.place : self.place + size]
        self.place += size
        return piece


class Endless:
    """A stream of one sign without end."""

    def __init__(self, start: bytes, sign: bytes) -> None:
        self.start, self.sign, self.given = start, sign, 0

    def read(self, size: int) -> bytes:
        piece = (self.start + self.sign * size)[:size]
        self.start, self.given = self.start[size:], self.given + size
        return piece


@pytest.mark.parametrize(("start", "told"), [(b"{", "longer than a document"), (b'["', "too large"), (b" ", "blanks")])
def test_what_has_no_end_is_refused_in_bounded_memory(monkeypatch, start, told):
    monkeypatch.setattr("dtx_assets.machinery.sources.document_framing.LARGEST_JSON", 4 << 20)
    stream = Endless(start, start if start == b" " else b"x")
    with pytest.raises(SourceError, match=told):
        list(of_json(stream, "x.json"))
    assert stream.given < LARGEST_JSON


def test_a_deep_element_of_an_array_is_a_document_that_says_why():
    deep = '{"_id":"d","a":' + "[" * 5000 + "]" * 5000 + "}"
    found = list(of_json(Pieces(f'[{{"n":1}},{deep},{{"n":2}}]'.encode()), "x.json"))
    assert [document.problem for document in found] == [None, "is nested deeper than 100 levels", None]
    assert found[1].data.decode() == deep


@given(st.data())
def test_no_mutated_export_is_anything_but_read_or_refused(data: st.DataObject) -> None:
    write = data.draw(st.sampled_from([forms.pretty, forms.mixed, forms.in_array(forms.relaxed)]))
    content = bytearray(write(PEOPLE))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    where = "x.json, line "
    try:
        for document in of_json(Pieces(bytes(content)), "x.json"):
            assert document.problem is None or not document.fields
    except SourceError as error:
        where = error.where
    assert where.startswith(("x.json, line ", "x.json, byte "))


def test_mutated_dumps_land_as_rows_or_are_refused_whole(tmp_path):
    """Bytes of a dump are changed at random; each row is a document with its bytes, or the collection is refused."""
    chosen = random.Random(14)
    content = b"".join(map(bson.encode, PEOPLE))
    outcomes = set()
    for number in range(150):
        mutated = bytearray(content)
        for _ in range(chosen.randrange(1, 4)):
            mutated[chosen.randrange(len(mutated))] = chosen.randrange(256)
        place = LandingPlace(tmp_path / str(number))
        (tmp_path / str(number) / "dump").mkdir(parents=True)
        (tmp_path / str(number) / "dump" / "people.bson").write_bytes(mutated)
        try:
            manifest = place.land(str(tmp_path / str(number) / "dump"), TABLES[0])
        except SourceError as error:
            outcomes.add("refused" if ", byte " in error.where and place.is_untouched("people") else str(error))
            continue
        frame = place.frame("people")
        assert b"".join(map(base64.b64decode, frame["_bson"])) == mutated
        unreadable = frame.filter(pl.col("_unreadable").is_not_null())
        assert unreadable.height == manifest.metadata["unreadable"]
        assert unreadable.select("name", "n", "_rest", "_types").null_count().row(0) == (unreadable.height,) * 4
        outcomes.add("rejected" if unreadable.height else "read")
    assert outcomes == {"refused", "rejected", "read"}


def dumped_to(directory: Path) -> str:
    forms.dumped({"People": PEOPLE}, directory)
    return str(directory)


WHERE: dict[str, Callable[[Path], str]] = {
    "a directory": lambda at: dumped_to(at / "crm"),
    "an archive": lambda at: (
        (at / "crm.archive").write_bytes(forms.archive({"People": PEOPLE})) and str(at / "crm.archive")
    ),
}


@pytest.mark.parametrize("where", WHERE)
def test_a_declared_collection_that_is_absent_is_empty_and_told_with_the_names_that_are_alike(tmp_path, place, where):
    url = WHERE[where](tmp_path)
    declared = replace(TABLES[0], documents=True)
    manifest = place.land(url, declared)
    assert place.frame("people").height == 0
    own = ["_rest", "_types", "_bson", "_unreadable", "_row", "_undecodable"]
    assert place.frame("people").columns == [*declared.columns, *own]
    assert (manifest.metadata["absent"], manifest.metadata["alike"]) == (True, ["People"])
    outcomes = (absence_outcome(declared, manifest), case_outcome(declared, manifest))
    assert [outcome.passed for outcome in outcomes] == [False, False]
    assert outcomes[1].metadata["there"] == ["People"]
    other = place.land(url, LegacyTable("gone", "crm", ("_id",), documents=True))
    assert case_outcome(declared, other).passed
    with open_source(url) as source:
        assert source.columns(declared)[:2] == ["_id", "name"]
        with pytest.raises(SourceError, match="the table people is missing"):
            source.extract(TABLES[0], place.lake, ("toy", "legacy", "people"), "r")


def test_none_of_several_declared_collections(tmp_path):
    tables = [LegacyTable(name, "crm", ("_id",), documents=True) for name in ("one", "two")]
    with pytest.raises(SourceError, match="none of the 2 declared collections is there") as refused:
        refuse_when_none_is_there(tables, ["One", "three"], "here")
    assert "One, three" in str(refused.value)
    refuse_when_none_is_there(tables, ["two"], "here")
    refuse_when_none_is_there([LegacyTable("rows", "crm", ("id",))], [], "here")
