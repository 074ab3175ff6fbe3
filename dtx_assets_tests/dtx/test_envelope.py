"""envelope → ResponseTracking and ResponseMetric (spec 4.6), under each option: contacts, rows, sums, loads."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from dtx_assets.dtx.contacts import read_contact
from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.load import LoadSummary, load_target, open_run
from dtx_assets.machinery.transforms.php_json import MAX_NESTING
from dtx_assets_tests.dtx.oracle import RawRow
from dtx_assets_tests.dtx.running import DECISIONS, Migration, envelope, php, reasons

TRACKING, METRIC = "ResponseTracking", "ResponseMetric"
SENT, LATER = "2020-02-29 12:34:56", "2021-01-01 00:00:00"


def string(text: str) -> str:
    return f's:{len(text.encode())}:"{text}";'


def array(**members: str) -> str:
    return f"a:{len(members)}:{{{''.join(string(name) + value for name, value in members.items())}}}"


CONTACT = array(
    name=string("Acme"),
    address=string("1 Main St, Düsseldorf"),
    email=string(php("b@example.com", "a@example.com")),
    phone=string("555-0100"),
)
READ = {
    "name": "Acme",
    "address": "1 Main St, Düsseldorf",
    "email": ["b@example.com", "a@example.com"],
    "phone": "555-0100",
}


@pytest.fixture
def own(tmp_path, database_url) -> Migration:
    return Migration(tmp_path, database_url)


# --- contacts ---------------------------------------------------------------------------------------------------------


def contact(payload: str | bytes) -> object:
    found = read_contact(payload if isinstance(payload, bytes) else payload.encode())
    assert (found[":contact"] is None) != (found["_why_not"] is None)
    return None if found[":contact"] is None else json.loads(found[":contact"])


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (CONTACT, READ),
        (string(CONTACT), READ),
        (array(email=php("a@b.c")), {"email": ["a@b.c"]}),
        (array(email=string("a@b.c")), {"email": ["a@b.c"]}),
        (array(email=string(string("a@b.c"))), {"email": ["a@b.c"]}),
        (array(email=string("no address, as it is ")), {"email": ["no address, as it is "]}),
        (array(email='a:2:{i:3;s:1:"z";s:1:"k";a:2:{i:0;s:1:"y";i:1;s:0:"";}}'), {"email": ["z", "y", ""]}),
        (array(email=string("a:3:{i:0;i:5;i:1;N;i:2;b:1;}")), {"email": ["5", "true"]}),
        (array(email="N;"), {"email": []}),
        (array(email=string("")), {"email": []}),
        (array(email=string("N;")), {"email": []}),
        (array(email=string("a:0:{}")), {"email": []}),
        (array(name=string("Acme")), {"name": "Acme", "email": []}),
        ("a:0:{}", {"email": []}),
        # The legacy keys and the kinds of their values are kept; what PHP calls a list has its numbers as keys.
        (
            array(id="i:5;", rate="d:1.5;", active="b:0;", fax="N;", tags=php("x", "y"), none="a:0:{}"),
            {"id": 5, "rate": 1.5, "active": False, "fax": None, "tags": {"0": "x", "1": "y"}, "none": {}, "email": []},
        ),
        ('a:2:{i:7;s:1:"x";s:2:"07";s:1:"y";}', {"7": "x", "07": "y", "email": []}),
        (array(name=string('\\u0000 "é\n')), {"name": '\\u0000 "é\n', "email": []}),
    ],
)
def test_a_contact_is_read(payload, expected):
    assert contact(payload) == expected


def test_json_is_compact_with_sorted_keys():
    assert read_contact(array(b=string("é"), a="i:1;").encode())[":contact"] == '{"a":1,"b":"é","email":[]}'


def nested(depth: int) -> str:
    return 'a:1:{s:1:"k";' * depth + "N;" + "}" * depth


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "N;",
        "i:5;",
        string("Acme"),
        string(string(CONTACT)),
        string("junk"),
        CONTACT[:-1],
        CONTACT + " ",
        string(CONTACT) + "x",
        'O:6:"Vendor":0:{}',
        array(name='O:6:"Vendor":0:{}'),
        array(name=string('O:6:"Vendor":0:{}')),
        array(email=string('a:1:{i:0;O:6:"Vendor":0:{}}')),
        # Damaged by who cut it, or wrote its lengths in characters: no address looks like that.
        array(email=string("a:1:{i:0;")),
        array(email=string('s:9:"a@b.c";')),
        array(name="d:NAN;"),
        array(name="d:INF;"),
        array(name=string("a\0b")),
        array(email=string("a\0b")),
        array(tags='a:1:{s:3:"a\0b";N;}'),
        b'a:1:{s:4:"name";s:1:"\xff";}',
        b'a:1:{s:5:"email";a:1:{i:0;s:1:"\xff";}}',
        b'a:1:{s:1:"\xff";N;}',
        nested(MAX_NESTING + 1),
        nested(4000),
    ],
)
def test_what_is_no_contact_is_told_without_a_word_of_it(payload):
    assert contact(payload) is None
    why = read_contact(payload if isinstance(payload, bytes) else payload.encode())["_why_not"]
    assert why is not None
    assert "Acme" not in why
    assert "a@b" not in why


def test_arrays_may_be_nested_as_deep_as_said():
    assert contact(nested(MAX_NESTING)) is not None


# --- response_tracking ------------------------------------------------------------------------------------------------

ENVELOPES = [
    envelope(1, CONTACT),
    envelope(2, CONTACT, event=" completed", clicks="3.0", access_time=None, vendor_id=None),
    envelope(3, CONTACT, event=None, vendor_id="99", access_time="0000-00-00 00:00:00"),
    envelope(4, CONTACT, event="", customer_id="3", vendor_id="3"),
    envelope(5, CONTACT, event="DECLINED", customer_id="4", vendor_id="7", create_time=LATER, access_time="soon"),
    envelope(6, CONTACT, event="Opened"),
    envelope(7, CONTACT, customer_id="6"),
    envelope(8, CONTACT, clicks="many"),
    envelope(9, CONTACT, clicks=None),
    envelope(10, CONTACT, create_time=None),
    envelope(11, CONTACT, create_time="0000-00-00 00:00:00", update_time=None),
    envelope(12, CONTACT[:-2]),
    envelope(13, None, event="Opened", customer_id=None, clicks="x"),
    envelope(14, CONTACT, clicks="2147483648"),
    envelope(15, "earlier"),
    envelope(15, CONTACT, event="Declined", update_time="2020-03-01 00:00:00.25"),
    envelope(1, CONTACT),
    envelope(16, b'a:1:{s:4:"name";s:4:"\xff123";}'),
]
REJECTED = {
    "6": ["unmapped_value"],
    "7": ["orphan_reference"],
    "8": ["unparseable"],
    "9": ["schema_violation"],
    "10": ["schema_violation"],
}


@pytest.mark.parametrize("batch_rows", [100_000, 1])
def test_each_envelope_is_a_response(migration, batch_rows):
    result = migration.run({"envelope": ENVELOPES}, envelope="response_tracking", batch_rows=batch_rows)
    rows = {row["account_id"]: [] for row in result.rows[TRACKING]}
    for row in result.rows[TRACKING]:
        assert row["contact"] == READ
        rows[row["account_id"]].append((row["record_id"], row["event"], row["clicks"], row["accessed_at"]))
    accessed = datetime(2021, 7, 13, 6, 13, 16, tzinfo=UTC)
    assert {account: sorted(found, key=str) for account, found in rows.items()} == {
        101: [(201, "Declined", 3, accessed), (201, "Voided", 3, accessed), (None, "Completed", 3, None),
              (None, None, 3, None)],
        103: [(203, "Declined", 3, None), (203, None, 3, accessed)],
    }  # fmt: skip
    edited = {row["event"]: row["modified"] for row in result.rows[TRACKING] if row["account_id"] == 101}
    assert edited["Declined"] == datetime(2020, 3, 1, 0, 0, 0, 250_000, tzinfo=UTC)
    assert reasons(result, TRACKING) == REJECTED | {
        "11": ["schema_violation", "unparseable"],
        "12": ["unparseable"],
        "13": ["orphan_reference", "unmapped_value", "unparseable"],
        "14": ["schema_violation"],
        "15": ["duplicate_key", "unparseable"],
        "16": ["unparseable"],
    }
    assert "Acme" not in result.details["envelope", "12"][0]
    books = result.accounting["envelope", TRACKING]
    assert (books.read, books.migrated, books.rejected) == (18, 6, 11)
    assert dict(books.dropped) == {"identical": 1}
    assert dict(books.coerced) == {"record_not_found": 1, "zero_date": 1, "invalid_time": 1}


# --- aggregate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_rows", [100_000, 1])
def test_envelopes_are_summed_by_account_record_and_outcome(migration, batch_rows):
    more = [
        envelope(20, "never read", create_time=LATER, clicks="10"),
        envelope(21, None, create_time="2019-01-01 00:00:00", clicks="0"),
        envelope(22, CONTACT, event=None, vendor_id=None, update_time="never read"),
    ]
    result = migration.run({"envelope": ENVELOPES + more}, envelope="aggregate", batch_rows=batch_rows)
    early, sent, later = (
        datetime.fromisoformat(text).replace(tzinfo=UTC) for text in ("2019-01-01 00:00:00", SENT, LATER)
    )
    found = sorted((tuple(row.values()) for row in result.rows[METRIC]), key=str)
    assert found == sorted(
        [
            # 1, 12, 14, 16, 20 and 21; that the target has no room for it is told by the load.
            (101, 201, "Voided", 6, 2147483648 + 3 + 3 + 3 + 10, early, later),
            (101, 201, "Declined", 1, 3, sent, sent),
            (101, None, "Completed", 1, 3, sent, sent),
            (101, None, "", 2, 6, sent, sent),
            # Customers 3 and 4 are one account, vendors 3 and 7 one record.
            (103, 203, "", 1, 3, sent, sent),
            (103, 203, "Declined", 1, 3, later, later),
        ],
        key=str,
    )
    assert reasons(result, METRIC) == REJECTED | {
        "11": ["unparseable"],
        "13": ["orphan_reference", "unmapped_value", "unparseable"],
        "15": ["duplicate_key"],
    }
    books = result.accounting["envelope", METRIC]
    assert (books.read, books.migrated, books.rejected) == (21, 12, 8)
    assert dict(books.dropped) == {"identical": 1}
    assert len(result.links) == books.migrated


def test_archive_migrates_nothing():
    flows = {flow.name for flow in SYSTEM.flows_under({**DECISIONS.chosen, "envelope": "archive"})}
    assert not {"response_tracking", "response_metric"} & flows


# --- in the target ----------------------------------------------------------------------------------------------------


def load(migration: Migration, run_id: str, model: str) -> LoadSummary:
    context = open_run(migration.database_url, "dtx", run_id, mode="rehearsal", decisions={})
    context = replace(context, decisions=migration.lake.require(("dtx", "prepared", model)).metadata["decisions"])
    return load_target("dtx", SYSTEM.target(model), migration.lake, migration.database_url, context)


def stored(migration: Migration, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(migration.database_url) as connection:
        return connection.execute(query).fetchall()


def written(summary: LoadSummary) -> tuple[int, int, int]:
    return summary.inserted, summary.updated, summary.vanished


RESPONSES: list[RawRow] = [
    envelope(1, CONTACT),
    envelope(2, CONTACT),
    envelope(3, CONTACT, event=None, vendor_id=None, access_time=None),
]


def test_responses_are_loaded_once_and_a_change_reaches_just_its_row(own):
    table = SYSTEM.target(TRACKING).name
    everything = f"SELECT record_id, event, clicks, contact, accessed_at IS NULL FROM {table} ORDER BY id"
    own.run({"envelope": RESPONSES}, envelope="response_tracking")
    assert written(load(own, "first", TRACKING)) == (3, 0, 0)
    assert stored(own, everything) == [
        (201, "Voided", 3, READ, False),
        (201, "Voided", 3, READ, False),
        (None, None, 3, READ, True),
    ]
    own.run({"envelope": RESPONSES}, envelope="response_tracking")
    assert written(load(own, "second", TRACKING)) == (0, 0, 0)
    changed = [RESPONSES[0], RESPONSES[1] | {"clicks": "4", "event": "Declined"}, RESPONSES[2]]
    own.run({"envelope": changed}, envelope="response_tracking")
    assert written(load(own, "third", TRACKING)) == (0, 1, 0)
    assert stored(own, everything)[1] == (201, "Declined", 4, READ, False)


def test_metrics_are_loaded_once_and_none_is_as_good_as_none(own):
    """`record_id` NULL is a value of the natural key like any other."""
    table = SYSTEM.target(METRIC).name
    everything = f"SELECT account_id, record_id, event, envelopes, clicks FROM {table} ORDER BY record_id"
    with psycopg.connect(own.database_url) as connection:
        connection.execute(
            f"INSERT INTO {table} (account_id, record_id, event, envelopes, clicks, first_at, last_at)"
            " VALUES (101, NULL, '', 1, 3, '2020-02-29 12:34:56Z', '2020-02-29 12:34:56Z')"
        )
    own.run({"envelope": RESPONSES}, envelope="aggregate")
    first = load(own, "first", METRIC)
    assert (first.inserted, first.adopted, first.conflicts) == (1, 1, 0)
    assert stored(own, everything) == [(101, 201, "Voided", 2, 6), (101, None, "", 1, 3)]
    mapped = "SELECT source_key, target_id FROM migration.mapping ORDER BY source_key"
    keys = dict(stored(own, mapped))
    assert keys["1"] == keys["2"] != keys["3"]
    own.run({"envelope": RESPONSES}, envelope="aggregate")
    assert written(load(own, "second", METRIC)) == (0, 0, 0)
    own.run({"envelope": [*RESPONSES, envelope(4, None, clicks="1")]}, envelope="aggregate")
    assert written(load(own, "third", METRIC)) == (0, 1, 0)
    assert stored(own, everything)[0] == (101, 201, "Voided", 3, 7)


def test_sums_that_the_target_has_no_room_for_reject_their_rows(own):
    most = 2**31 - 1
    rows = [envelope(1, None, clicks=str(most)), envelope(2, None, clicks="1"), envelope(3, None, event="Declined")]
    own.run({"envelope": rows}, envelope="aggregate")
    first = load(own, "first", METRIC)
    assert (first.inserted, first.rejected) == (1, 2)
    told = "SELECT source_key, reasons FROM migration.rejected ORDER BY source_key"
    assert stored(own, told) == [("1", ["schema_violation"]), ("2", ["schema_violation"])]
    assert stored(own, 'SELECT "read", migrated, rejected FROM migration.accounting') == [(3, 1, 2)]
