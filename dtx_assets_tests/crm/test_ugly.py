"""The ugly dumps are as ugly as they should be, and their forms hold the same documents."""

import gzip
import json

import bson
import pytest
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.json_util import RELAXED_JSON_OPTIONS, JSONOptions, dumps, loads

from dtx_assets_tests.crm.second_reading import Inputs, migrate
from dtx_assets_tests.crm.second_reading_bson import Undecodable, read_document
from dtx_assets_tests.crm.second_reading_facts import FACTS, OPTIONS
from dtx_assets_tests.crm.ugly import EXISTING, decisions, dump, thorough
from dtx_assets_tests.crm.ugly_forms import (
    MAGIC,
    TERMINATOR,
    crc64,
    write_archive,
    write_dump,
    write_export,
)

SEEDS = range(20)
READ_JSON = JSONOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
FAR_DATES = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
KINDS = {
    *("empty_to_null", "to_text", "to_number", "to_boolean", "to_timestamp", "enum_case", "id_from_text", "json_type"),
    *("null_member", "scalar_to_array", "duplicate_member", "defaulted", "created_from_id", "dangling_reference"),
    *("merged_reference", "password_dropped"),
}
REASONS = {
    *("unmapped_value", "unparseable", "orphan_reference", "duplicate_key", "schema_violation", "target_conflict"),
}
DROPPED = {"identical", "empty", "not_owner_side"}


def test_every_option_of_every_decision_is_drawn():
    drawn = [decisions(seed) for seed in SEEDS]
    assert {key: {chosen[key] for chosen in drawn} for key in OPTIONS} == {k: set(v) for k, v in OPTIONS.items()}


def test_every_kind_reason_and_rule_comes_up_and_the_books_add_up():
    kinds, reasons, dropped = set[str](), set[str](), set[str]()
    for seed in SEEDS:
        result = migrate(Inputs(dump(seed).collections, decisions(seed), EXISTING))
        for books in result.accounting.values():
            assert books.read == books.migrated + books.rejected + books.dropped.total()
            kinds |= set(books.coerced)
            dropped |= set(books.dropped)
        reasons |= {reason for each in result.rejected for reason in each.reasons}
    assert (kinds, reasons, dropped) == (KINDS, REASONS, DROPPED)


def test_the_same_seed_gives_the_same_dump():
    assert dump(3) == dump(3) != dump(4)


def test_pymongo_takes_for_broken_what_the_second_reading_does_but_for_what_it_hides():
    for raws in dump(1).collections.values():
        for raw in raws:
            try:
                read_document(raw)
            except Undecodable as error:
                if error.args[0] not in ("a field name twice", "too deep"):
                    with pytest.raises(bson.errors.InvalidBSON):
                        bson.decode(raw, FAR_DATES)
            else:
                bson.decode(raw, FAR_DATES)


def test_a_thorough_dump_has_every_collection_and_many_documents_of_those_with_odd_columns():
    found = thorough().collections
    assert set(found) == set(FACTS.collections)
    assert len(found["Boards"]) > 200


# --- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gz", [False, True])
def test_a_dump_holds_the_exact_bytes(tmp_path, gz):
    made = dump(5).collections | {"a/b": [bson.encode({"_id": 1})]}
    write_dump(tmp_path, made, gz=gz)
    for name, raws in made.items():
        path = tmp_path / f"{name.replace('/', '%2F')}.bson{'.gz' if gz else ''}"
        data = gzip.decompress(path.read_bytes()) if gz else path.read_bytes()
        assert data == b"".join(raws)


def test_an_archive_holds_the_collections_in_blocks_by_turns(tmp_path):
    made = dump(5, documents=12).decodable().collections
    data = write_archive(tmp_path / "dump.archive", made).read_bytes()
    assert data.startswith(MAGIC)
    documents, at = [], 4
    while at < len(data):
        if data[at : at + 4] == TERMINATOR:
            documents.append(None)
            at += 4
            continue
        length = int.from_bytes(data[at : at + 4], "little")
        documents.append(data[at : at + length])
        at += length
    blocks = documents[documents.index(None) + 1 :]
    found: dict[str, list[bytes]] = {name: [] for name in made}
    changes, name, ended = 0, "", set()
    for number, each in enumerate(blocks):
        if each is not None and (number == 0 or blocks[number - 1] is None):
            head = bson.decode(each)
            changes += head["collection"] != name
            name = head["collection"]
            assert name not in ended
            if head["EOF"]:
                ended.add(name)
                assert head["CRC"] == crc64(b"".join(made[name]))
        elif each is not None:
            found[name].append(each)
    assert found == {name: list(raws) for name, raws in made.items()}
    assert ended == set(made)
    assert changes > 2 * len(made)


def test_the_checksum_is_that_of_the_field():
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA - 2**64


@pytest.mark.parametrize("layout", ["lines", "array", "array_over_lines"])
@pytest.mark.parametrize("style", ["canonical", "relaxed", "v1"])
def test_an_export_holds_what_pymongo_reads_as_the_same(tmp_path, style, layout):
    made = {name: dump(2).decodable().collections[name] for name in ("Users", "Invoices", "crm_Contacts")}
    write_export(tmp_path, made, style=style, layout=layout)
    for name, raws in made.items():
        text = (tmp_path / f"{name}.json").read_text(encoding="utf-8")
        found = json.loads(text) if layout != "lines" else [json.loads(line) for line in text.split("\n") if line]
        assert len(found) == len(raws)
        for structure, raw in zip(found, raws, strict=True):
            read = loads(json.dumps(structure), json_options=READ_JSON)
            told = dumps(bson.decode(raw, FAR_DATES), json_options=RELAXED_JSON_OPTIONS)
            assert dumps(read, json_options=RELAXED_JSON_OPTIONS) == told
