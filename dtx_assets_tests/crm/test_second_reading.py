"""The second reading against small examples worked out by hand from the contract's text.

Documents are made with pymongo's encoder or as bytes, so that reader and writer of the second reading do not vouch for
each other.
"""

from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import DatetimeMS, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp
from bson.json_util import CANONICAL_JSON_OPTIONS, RELAXED_JSON_OPTIONS, dumps

from dtx_assets_tests.crm.second_reading import Account, Inputs, Mapped, Rejected, Result, migrate
from dtx_assets_tests.crm.second_reading_bson import (
    Undecodable,
    Value,
    compact,
    extended,
    iso,
    read_document,
    readable_id,
    text_of,
)
from dtx_assets_tests.crm.second_reading_facts import FACTS, OPTIONS

HEX = "507f1f77bcf86cd799439011"
UUID_OF_HEX = "2bcd026a-dc83-5f13-a60a-29e5b81a83e9"
OTHER = "507f191e810c19729de860ea"


def ids(count: int, first: int = 1) -> list[str]:
    return [f"{number:024x}" for number in range(first, first + count)]


def user(hex_id: str, **changed: Any) -> bytes:
    fields = {
        "_id": ObjectId(hex_id),
        "__v": 0,
        "email": f"{hex_id}@example.org",
        "is_account_admin": False,
        "is_admin": False,
        "created_on": datetime(2024, 1, 1, tzinfo=UTC),
        "userStatus": "ACTIVE",
        "userLanguage": "en",
    }
    return bson.encode(fields | changed)


def contact(hex_id: str, **changed: Any) -> bytes:
    return bson.encode({"_id": ObjectId(hex_id), "__v": 0, "last_name": "N", "status": True} | changed)


def task(hex_id: str = HEX, **changed: Any) -> bytes:
    fields = {"_id": ObjectId(hex_id), "__v": 0, "position": 1, "priority": "low", "title": "t"}
    return bson.encode(fields | changed)


def account(hex_id: str, **changed: Any) -> bytes:
    return bson.encode({"_id": ObjectId(hex_id), "__v": 0, "createdAt": DatetimeMS(0), "name": "A"} | changed)


def run(decisions: dict[str, str] | None = None, **collections: list[bytes]) -> Result:
    return migrate(Inputs(collections, decisions or {}))


def one(collection: str, column: str, raw: bytes, **decisions: str) -> Any:
    """The column's value and what is counted of the only document, or the reasons it is rejected for."""
    result = run(decisions, **{collection: [raw]})
    for row in result.rows[collection].values():
        return row[column], dict(result.accounting[collection, collection].coerced)
    [rejected] = [each for each in result.rejected if each.target == collection]
    return rejected.reasons


# --- the facts --------------------------------------------------------------------------------------------------------


def test_the_facts_are_those_that_the_contract_counts():
    assert len(FACTS.collections) == 29
    assert len(FACTS.junctions) == 10
    assert sum(len(sides) for sides in FACTS.junctions.values()) == 19
    assert len(FACTS.fields) == 409
    foreign_keys = sum(bool(each.references) for each in FACTS.fields if each.rule != "junction")
    assert foreign_keys + 2 * len(FACTS.junctions) == 52
    assert sum(bool(each.implied_reference) for each in FACTS.fields) == 23
    assert sum(each.rule == "timestamp" for each in FACTS.fields) == 43
    assert len(OPTIONS) == 15


def test_a_flow_is_accounted_for_though_its_collection_is_not_there():
    result = run()
    assert len(result.accounting) == 29 + 19
    assert set(map(repr, result.accounting.values())) == {repr(Account())}


# --- reading BSON -----------------------------------------------------------------------------------------------------


def raw(body: bytes) -> bytes:
    return (len(body) + 5).to_bytes(4, "little") + body + b"\0"


@pytest.mark.parametrize(
    "body",
    [
        b"\x0aa\0\x0aa\0",
        b"\x03o\0" + raw(b"\x0aa\0\x0aa\0"),
        b"\x02a\0\x02\0\0\0\xff\0",
        b"\x02a\0\x00\0\0\0",
        b"\x02a\0\x02\0\0\0ab",
        b"\x77a\0",
        b"\x08a\0\x02",
        b"\x03a\0\x04\0\0\0\0",
        b"\x10a\0\0\0",
        b"\x10\xff\0\0\0\0\0",
    ],
)
def test_what_cannot_be_decoded(body):
    with pytest.raises(Undecodable):
        read_document(raw(body))
    assert readable_id(raw(b"\x07_id\0" + bytes.fromhex(HEX) + body)) == Value("objectId", HEX)


def test_an_id_is_read_behind_what_is_broken_but_not_where_it_is_broken_itself():
    behind = b"\x02a\0\x02\0\0\0\xff\0" + b"\x10_id\0\x05\0\0\0"
    assert readable_id(raw(behind)) == Value("int", 5)
    assert readable_id(raw(b"\x02_id\0\x02\0\0\0\xff\0")) is None
    assert readable_id(raw(b"\x77a\0" + behind)) is None


@pytest.mark.parametrize(("levels", "is_read"), [(99, True), (100, False)])
def test_a_hundred_levels_are_read_the_document_itself_being_the_first(levels, is_read):
    nested: Any = 1
    for _ in range(levels):
        nested = {"a": nested}
    found = one("Invoices", "invoice_items", bson.encode(invoice() | {"invoice_items": nested}))
    assert (found[0] == nested) if is_read else (found == ("unparseable",))


def invoice() -> dict[str, Any]:
    return {"_id": ObjectId(HEX), "date_created": DatetimeMS(0), "last_updated": DatetimeMS(0)} | dict.fromkeys(
        [each.field for each in FACTS.columns["Invoices"] if not each.nullable and each.rule == "text"], "t"
    )


def test_extended_json_is_what_pymongo_writes():
    values = {
        "int": 5,
        "long": Int64(5),
        "double": 1.0,
        "nan": float("nan"),
        "minus": -0.0,
        "text": "\u00e9\0",
        "id": ObjectId(HEX),
        "date": datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
        "date with milliseconds": datetime(2024, 5, 6, 7, 8, 9, 120_000, tzinfo=UTC),
        "before 1970": datetime(1969, 5, 6, tzinfo=UTC),
        "decimal": Decimal128("1.50"),
        "binary": bson.Binary(b"ab", 128),
        "regex": Regex("a", "i"),
        "timestamp": Timestamp(7, 8),
        "max": MaxKey(),
        "code": bson.Code("x", {"a": Int64(1)}),
        "nested": [{"a": None}, True],
    }
    fields = read_document(bson.encode(values))
    for relaxed, options in ((False, CANONICAL_JSON_OPTIONS), (True, RELAXED_JSON_OPTIONS)):
        written = dumps(values, json_options=options, ensure_ascii=False, separators=(",", ":"))
        assert text_of(fields, relaxed=relaxed) == written


def test_symbols_are_text_and_undefined_is_null():
    fields = read_document(raw(b"\x0es\0\x02\0\0\0a\0\x06u\0"))
    assert fields == (("s", Value("string", "a")), ("u", Value("null")))


def test_far_dates():
    assert iso(-62_135_596_800_000) == "0001-01-01T00:00:00.000Z"
    assert iso(253_402_300_799_999) == "9999-12-31T23:59:59.999Z"
    assert compact(extended(Value("date", 253_402_300_800_000), relaxed=True)) == (
        '{"$date":{"$numberLong":"253402300800000"}}'
    )


# --- 4.1 --------------------------------------------------------------------------------------------------------------


def test_the_uuid_of_the_contract():
    result = run(tasksComments=[], crm_Industry_Type=[bson.encode({"_id": ObjectId(HEX), "__v": 1, "name": "x"})])
    assert result.rows["crm_Industry_Type"] == {HEX: {"id": UUID_OF_HEX, "__v": 1, "name": "x"}}
    assert result.mapping == {Mapped("crm_Industry_Type", HEX, "crm_Industry_Type", "", UUID_OF_HEX)}


@pytest.mark.parametrize(
    ("identifier", "key"),
    [
        (5, "5"),
        (5.5, "5.5"),
        ("abc", '"abc"'),
        ({"a": Int64(1)}, '{"a":1}'),
        (HEX[:-1], f'"{HEX[:-1]}"'),
        (True, "true"),
        (bson.Binary(b"a", 4), '{"$binary":{"base64":"YQ==","subType":"04"}}'),
    ],
)
def test_ids_that_are_none(identifier, key):
    [rejected] = run(modulStatus=[bson.encode({"_id": identifier, "name": "n", "isVisible": True})]).rejected
    assert rejected == Rejected("modulStatus", key, "modulStatus", ("unparseable",))


def test_a_document_without_an_id_is_known_by_its_position():
    sound = {"name": "n", "isVisible": True}
    documents = [bson.encode({"_id": ObjectId(HEX)} | sound), bson.encode(sound)]
    assert [each.source_key for each in run(modulStatus=documents).rejected] == ["#2"]


def test_text_of_24_digits_counts_as_an_id():
    text = f" {HEX.upper()}\n"
    raw_one = bson.encode({"_id": text, "name": "n", "isVisible": True})
    assert one("modulStatus", "id", raw_one) == (UUID_OF_HEX, {"id_from_text": 1})


def test_documents_with_one_id():
    def status(identifier: Any, **fields: Any) -> bytes:
        return bson.encode({"_id": identifier, "name": "n", "isVisible": True} | fields)

    own = ObjectId(HEX)
    documents = [status(own), status(own), status(own, name="later"), status(own), status(HEX), status(HEX, name="x")]
    result = run(modulStatus=documents)
    assert result.rows["modulStatus"][HEX]["name"] == "later"
    books = result.accounting["modulStatus", "modulStatus"]
    assert (books.read, books.migrated, books.rejected, dict(books.dropped)) == (6, 1, 3, {"identical": 2})
    assert {each.reasons for each in result.rejected} == {("duplicate_key",)}

    texts = run(modulStatus=[status(HEX, name="first"), status(HEX.upper(), name="second")])
    assert texts.rows["modulStatus"][HEX]["name"] == "second"

    reordered = bson.encode({"_id": own, "isVisible": True, "name": "n"})
    assert run(modulStatus=[status(own), reordered]).accounting["modulStatus", "modulStatus"].rejected == 1


# --- 4.2 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (Int64(-7), "-7"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e-7, "0.0000001"),
        (2.0**53 - 1, "9007199254740991"),
        (Decimal128("1.50"), "1.50"),
        (Decimal128("1E+3"), "1000"),
        (True, "true"),
        (ObjectId(HEX), HEX),
        (DatetimeMS(-1), "1969-12-31T23:59:59.999Z"),
    ],
)
def test_scalars_as_text(value, text):
    assert one("Tasks", "content", task(content=value)) == (text, {"to_text": 1})
    assert one("Tasks", "content", task(content=value), scalar_to_text="reject") == ("unparseable",)


@pytest.mark.parametrize(
    "value",
    [
        2.0**53,
        -(2.0**53),
        float("nan"),
        float("inf"),
        Decimal128("NaN"),
        DatetimeMS(253_402_300_800_000),
        [],
        {},
        b"a",
        Regex("a"),
        Timestamp(1, 1),
        MaxKey(),
        "a\0",
    ],
)
def test_what_is_no_text(value):
    assert one("Tasks", "content", task(content=value)) == ("unparseable",)


def test_text_is_untrimmed_and_blank_text_is_a_value():
    for text in ("", "  ", " a "):
        assert one("Tasks", "content", task(content=text)) == (text, {})


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (Int64(5), (5, {})),
        (5.0, (5, {})),
        (Decimal128("5.00"), (5, {})),
        ("-5", (-5, {"to_number": 1})),
        ("5.0", (5, {"to_number": 1})),
        (" ", (None, {"empty_to_null": 1})),
        (None, (None, {})),
        (2**31, ("schema_violation",)),
        (-(2**31), (-(2**31), {})),
        (2.0**53, ("schema_violation",)),
        (2.0**53 + 2, ("unparseable",)),
        (Decimal128("1E+30"), ("schema_violation",)),
        ("9" * 30, ("schema_violation",)),
        (0.5, ("unparseable",)),
        ("12,5", ("unparseable",)),
        ("12.00", ("unparseable",)),
        (" 5", ("unparseable",)),
        (True, ("unparseable",)),
        ([5], ("unparseable",)),
    ],
)
def test_integers(value, found):
    assert one("Tasks", "likes", task(likes=value)) == found


def test_a_blank_text_cannot_be_an_integer_that_must_be_there():
    assert one("Tasks", "position", task(position=" ")) == ("unparseable",)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (True, (True, {})),
        (1, (True, {"to_boolean": 1})),
        (-0.0, (False, {"to_boolean": 1})),
        (Decimal128("1.0"), (True, {"to_boolean": 1})),
        (" TRUE ", (True, {"to_boolean": 1})),
        ("0", (False, {"to_boolean": 1})),
        ("yes", ("unparseable",)),
        (2, ("unparseable",)),
        ("", ("unparseable",)),
        (None, ("schema_violation",)),
    ],
)
def test_booleans(value, found):
    assert one("crm_Contacts", "status", contact(HEX, status=value)) == found


NOON = 1_714_996_800_000  # 2024-05-06T12:00:00Z


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (DatetimeMS(NOON), (NOON, {})),
        (DatetimeMS(-210_866_803_200_000), (-210_866_803_200_000, {})),
        (DatetimeMS(-210_866_803_200_001), ("unparseable",)),
        (DatetimeMS(9_224_318_015_999_999), (9_224_318_015_999_999, {})),
        (DatetimeMS(9_224_318_016_000_000), ("unparseable",)),
        ("2024-05-06T12:00", (NOON, {"to_timestamp": 1})),
        ("2024-05-06 14:00:00+0200", (NOON, {"to_timestamp": 1})),
        ("2024-05-06T12:00:00.1239999Z", (NOON + 123, {"to_timestamp": 1})),
        ("1969-12-31T23:59:59.9999Z", (-1, {"to_timestamp": 1})),
        ("2024-05-06", (NOON - 12 * 3_600_000, {"to_timestamp": 1})),
        ("2024-05-06T12:00:00-15:59", (NOON + 15 * 3_600_000 + 59 * 60_000, {"to_timestamp": 1})),
        ("2024-05-06T12:00:00+16:00", ("unparseable",)),
        ("2023-02-29", ("unparseable",)),
        ("2024-05-06T12:00:00.1234567891Z", ("unparseable",)),
        (NOON, ("unparseable",)),
        (Timestamp(1, 1), ("unparseable",)),
        ("", (None, {"empty_to_null": 1})),
    ],
)
def test_dates(value, found):
    assert one("Tasks", "updatedAt", task(updatedAt=value)) == found


def test_numbers_may_be_dates():
    for value in (NOON, float(NOON)):
        assert one("Tasks", "updatedAt", task(updatedAt=value), numeric_dates="epoch_ms") == (NOON, {"to_timestamp": 1})
    for bad in (0.5, Decimal128("5"), True, 2.0**53 + 2):
        assert one("Tasks", "updatedAt", task(updatedAt=bad), numeric_dates="epoch_ms") == ("unparseable",)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("ACTIVE", ("ACTIVE", {})),
        (" active", ("ACTIVE", {"enum_case": 1})),
        ("", (None, {"empty_to_null": 1})),
        ("gone", ("unmapped_value",)),
        (1, ("unmapped_value",)),
        (None, (None, {})),
    ],
)
def test_labels(value, found):
    assert one("Tasks", "taskStatus", task(taskStatus=value)) == found


@pytest.mark.parametrize(("value", "reason"), [("", "unmapped_value"), (None, "schema_violation")])
def test_a_default_never_takes_a_labels_place(value, reason):
    assert one("Users", "userStatus", user(HEX, userStatus=value)) == (reason,)


def test_json():
    value = {
        "id": ObjectId(HEX),
        "when": DatetimeMS(-1),
        "far": DatetimeMS(10**15),
        "digits": Decimal128("1.50"),
        "bytes": b"ab",
        "pattern": Regex("a", "i"),
        "list": [None, 1, 2.5, True, "t"],
    }
    plain = {
        "id": HEX,
        "when": "1969-12-31T23:59:59.999Z",
        "far": {"$date": {"$numberLong": "1000000000000000"}},
        "digits": "1.50",
        "bytes": "YWI=",
        "pattern": {"$regularExpression": {"pattern": "a", "options": "i"}},
        "list": [None, 1, 2.5, True, "t"],
    }
    assert one("Tasks", "tags", task(tags=value)) == (plain, {"json_type": 1})
    found, counted = one("Tasks", "tags", task(tags=value), json_values="extended_json")
    assert counted == {}
    assert found["id"] == {"$oid": HEX}
    assert found["when"] == {"$date": {"$numberLong": "-1"}}
    assert found["digits"] == {"$numberDecimal": "1.50"}


def test_what_json_cannot_hold():
    for value in ([float("nan")], {"a": Decimal128("Infinity")}, "a\0", {"a": ["\0"]}):
        assert one("Tasks", "tags", task(tags=value)) == ("unparseable",)
    assert one("Tasks", "tags", task(tags="\\u0000")) == ("\\u0000", {})
    assert one("Tasks", "tags", task(tags=[float("nan")]), json_values="extended_json")[0] == [{"$numberDouble": "NaN"}]
    assert one("Tasks", "tags", task(tags=None)) == (None, {})
    assert one("Tasks", "tags", task(tags=" ")) == (" ", {})


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (["a", "", "a"], (["a", "", "a"], {})),
        ([None, 5, "a"], (["5", "a"], {"null_member": 1, "to_text": 1})),
        ("a", (["a"], {"scalar_to_array": 1})),
        (" ", ([], {})),
        (None, ([], {})),
        (5, ("unparseable",)),
        ([[]], ("unparseable",)),
    ],
)
def test_arrays_of_text(value, found):
    assert one("crm_Contacts", "tags", contact(HEX, tags=value)) == found


# --- 4.3 --------------------------------------------------------------------------------------------------------------


def test_what_is_missing():
    no_version = bson.encode({"_id": ObjectId(HEX), "name": "n"})
    assert one("crm_Industry_Type", "__v", no_version) == (0, {"defaulted": 1})
    assert one("crm_Industry_Type", "__v", no_version, missing_required="reject") == ("schema_violation",)
    no_name = bson.encode({"_id": ObjectId(HEX), "__v": 0})
    assert one("crm_Industry_Type", "name", no_name) == ("schema_violation",)
    no_time = bson.encode({"_id": ObjectId(HEX), "__v": 0, "name": "n"})
    assert one("crm_Accounts", "createdAt", no_time) == ("schema_violation",)
    created = int(HEX[:8], 16) * 1000
    assert one("crm_Accounts", "createdAt", no_time, missing_created="object_id_time") == (
        created,
        {"created_from_id": 1},
    )
    assert one("Tasks", "taskStatus", task()) == (None, {})


# --- 4.4 --------------------------------------------------------------------------------------------------------------


def test_references_that_do_not_resolve():
    there, gone, rejected = ids(3)
    users = [user(there), user(rejected, is_admin="perhaps")]
    board = {"__v": 0, "description": "d", "title": "t"}

    def boards(**decisions: str) -> Result:
        documents = [
            bson.encode({"_id": ObjectId(each), "user": ObjectId(each), "createdBy": ObjectId(gone)} | board)
            for each in (there, gone, rejected)
        ]
        return run(decisions, Users=users, Boards=documents)

    assert list(boards().rows["Boards"]) == [there]
    assert {each.reasons for each in boards().rejected if each.target == "Boards"} == {("orphan_reference",)}
    assert boards().accounting["Boards", "Boards"].coerced == {}
    kept = boards(unconstrained_reference="null")
    assert kept.rows["Boards"][there]["createdBy"] is None
    assert kept.accounting["Boards", "Boards"].coerced == {"dangling_reference": 1}
    assert boards(ids="uuid_v4").rows["Boards"][there]["createdBy"] is None


def test_a_nullable_foreign_key():
    raw_one = task(user=OTHER)
    assert one("Tasks", "user", raw_one) == (None, {"dangling_reference": 1})
    assert one("Tasks", "user", raw_one, dangling_optional="reject") == ("orphan_reference",)
    found = run(Users=[user(OTHER)], Tasks=[raw_one])
    assert found.accounting["Tasks", "Tasks"].coerced == {"id_from_text": 1}


def test_a_row_has_all_its_reasons():
    bad = task(position=None, title=[], user=5, taskStatus="gone")
    assert one("Tasks", "title", bad) == ("schema_violation", "unmapped_value", "unparseable")


# --- 4.5 --------------------------------------------------------------------------------------------------------------


def shared(winner: str, loser: str, decisions: dict[str, str], existing: dict[str, str] | None = None) -> Result:
    board = {"_id": ObjectId(HEX), "__v": 0, "description": "d", "title": "t", "user": ObjectId(loser)}
    lists = {"sharedWith": [ObjectId(winner), loser], "watchers": [ObjectId(loser), ObjectId(winner)]}
    collections = {
        "Users": [
            user(winner, email="a", lastLoginAt=DatetimeMS(5)),
            user(loser, email="a", watching_boardsIDs=[ObjectId(HEX)]),
        ],
        "Boards": [bson.encode(board | lists)],
    }
    return migrate(Inputs(collections, decisions, existing or {}))


def test_users_with_one_email():
    winner, loser = ids(2)
    plain = shared(winner, loser, {})
    assert Rejected("Users", loser, "Users", ("duplicate_key",)) in plain.rejected
    assert not plain.rows["Boards"]

    merged = shared(winner, loser, {"duplicate_user": "merge_references"})
    [row] = merged.rows["Boards"].values()
    winner_id = merged.rows["Users"][winner]["id"]
    assert (row["user"], row["sharedWith"]) == (winner_id, [winner_id])
    assert merged.accounting["Boards", "Boards"].coerced == {
        "merged_reference": 2,
        "id_from_text": 1,
        "duplicate_member": 1,
    }
    assert merged.accounting["Boards", "BoardWatchers"].coerced == {"merged_reference": 1, "duplicate_member": 1}
    assert merged.pairs["BoardWatchers"] == {(UUID_OF_HEX, winner_id): {1, 2}}
    assert merged.accounting["Users", "BoardWatchers"].migrated == 1


def test_the_order_of_users_with_one_email():
    first, second, third = ids(3)

    def winner(*users: dict[str, Any]) -> str:
        documents = [
            user(each, email="a", **fields) for each, fields in zip((first, second, third), users, strict=True)
        ]
        [found] = run(Users=documents).rows["Users"]
        return found

    assert winner({"lastLoginAt": DatetimeMS(-5)}, {}, {}) == first
    assert winner({}, {"created_on": DatetimeMS(2 * NOON)}, {}) == second
    assert winner({}, {}, {}) == third
    assert winner({}, {}, {"is_admin": "bad"}) == second


def test_a_user_whom_the_new_system_has():
    winner, loser = ids(2)
    existing = {"a": "11111111-2222-4333-8444-555555555555"}
    conflict = shared(winner, loser, {}, existing)
    assert Rejected("Users", winner, "Users", ("target_conflict",)) in conflict.rejected
    adopted = shared(winner, loser, {"existing_user": "adopt", "duplicate_user": "merge_references"}, existing)
    assert not adopted.rows["Users"]
    assert adopted.rows["Boards"][HEX]["sharedWith"] == [existing["a"]]
    assert adopted.accounting["Boards", "Boards"].coerced["merged_reference"] == 3
    assert Mapped("Users", winner, "Users", "", existing["a"]) in adopted.mapping


# --- 4.6 --------------------------------------------------------------------------------------------------------------


def watched(watchers: Any, *, other_side: Any = None, **decisions: str) -> tuple[Result, Account]:
    """An account that two users may watch."""
    first, second = ids(2)
    users = [user(first, watching_accountsIDs=other_side), user(second)]
    result = run(decisions, Users=users, crm_Accounts=[account(HEX, watchers=watchers)])
    return result, result.accounting["crm_Accounts", "AccountWatchers"]


@pytest.mark.parametrize("value", [None, [], "", " ", [None, " "]])
def test_no_member(value):
    assert watched(value)[1].dropped == {"empty": 1}


def test_members():
    first, second = ids(2)
    members = [ObjectId(first), first.upper(), None, "", 5, ObjectId(OTHER), ObjectId(second), ObjectId(OTHER)]
    result, books = watched(members)
    assert books.migrated == 1
    assert books.coerced == {"id_from_text": 1, "duplicate_member": 1, "null_member": 2}
    assert len(result.pairs["AccountWatchers"]) == 2
    partial = [each.reasons for each in result.rejected if each.partial]
    assert sorted(partial) == [("orphan_reference",), ("orphan_reference",), ("unparseable",)]
    assert {(each.source_key, each.part) for each in result.mapping if each.target_table == "AccountWatchers"} == {
        (HEX, first),
        (HEX, second),
    }


def test_no_usable_member():
    result, books = watched([5, ObjectId(OTHER), None])
    assert (books.rejected, books.coerced) == (1, {})
    assert [each.reasons for each in result.rejected] == [("orphan_reference", "unparseable")]


def test_a_value_that_is_no_array():
    assert watched(ids(1)[0])[1].coerced == {"scalar_to_array": 1, "id_from_text": 1}
    assert watched({"a": 1})[1].rejected == 1


def test_pairs_of_both_sides_are_one():
    first, second = ids(2)
    result, _ = watched([ObjectId(first), ObjectId(second)], other_side=[ObjectId(HEX)])
    assert sorted(map(len, result.pairs["AccountWatchers"].values())) == [1, 2]
    assert sum(each.target_table == "AccountWatchers" for each in result.mapping) == 3
    owner, books = watched([ObjectId(second)], other_side=[ObjectId(HEX)], asymmetric_arrays="owner_side")
    assert len(owner.pairs["AccountWatchers"]) == 1
    assert books.migrated == 1
    assert owner.accounting["Users", "AccountWatchers"].dropped == {"not_owner_side": 1, "empty": 1}


def test_documents_whose_own_row_is_not_migrated():
    [first] = ids(1)
    named = [ObjectId(first)]
    sound, text_id = account(HEX, watchers=named), account(HEX, watchers=named, name="earlier")
    unusable = bson.encode({"_id": 5, "watchers": named})
    bad = account(OTHER, watchers=named, name=[])
    broken = bson.encode({"_id": ObjectId(OTHER)})[:-1] + b"\x77x\0\0"
    broken = len(broken).to_bytes(4, "little") + broken[4:]
    result = run(Users=[user(first)], crm_Accounts=[text_id, sound, sound, unusable, bad, broken])
    reasons = [each.reasons[0] for each in result.rejected if each.target == "AccountWatchers"]
    assert reasons == ["duplicate_key", "unparseable", "orphan_reference", "unparseable"]
    assert result.accounting["crm_Accounts", "AccountWatchers"].dropped == {"identical": 1}


# --- 3 and 5 ----------------------------------------------------------------------------------------------------------


def test_what_nobody_declared():
    raw_one = bson.encode({"_id": ObjectId(HEX), "__v": 0, "name": "n", "more": Int64(5)})
    result = run({"undeclared_fields": "extra_table"}, crm_Industry_Type=[raw_one], sessions=[raw_one, raw_one])
    assert result.extra == [("crm_Industry_Type", HEX, {"more": {"$numberLong": "5"}})]
    assert result.accounting["sessions", "archive"] == Account(read=2, migrated=2)


def test_the_second_brain_may_be_archived():
    result = run({"second_brain": "archive"}, secondBrain_notions=[bson.encode({"_id": 1})])
    assert ("secondBrain_notions", "secondBrain_notions") not in result.accounting
    assert result.accounting["secondBrain_notions", "archive"] == Account(read=1, migrated=1)


def test_passwords_may_be_dropped():
    assert one("Users", "password", user(HEX, password="hash")) == ("hash", {})
    assert one("Users", "password", user(HEX, password="hash"), passwords="drop") == (None, {"password_dropped": 1})
    assert one("Users", "password", user(HEX), passwords="drop") == (None, {})
