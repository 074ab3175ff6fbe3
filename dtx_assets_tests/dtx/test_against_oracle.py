"""The flows give what the oracle gives: on the shipped sample, and on small ugly tables made to collide.

One test for each rule stands beside the flow's name; here are the meetings of rules that nobody thought of, and that
the number of batches makes no difference.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dtx_assets.dtx.system import SYSTEM
from dtx_assets_tests.dtx import drawing as st
from dtx_assets_tests.dtx import oracle
from dtx_assets_tests.dtx.oracle import RawRow, Result, Value
from dtx_assets_tests.dtx.oracle_options import migrate
from dtx_assets_tests.dtx.running import (
    DECISIONS,
    Migration,
    World,
    letter,
    lookup,
    notification,
    php,
    webhook,
)


def differences(found: Result, expected: Result) -> list[str]:
    """What the flows and the oracle do not agree about, in words."""
    told = compared("model", list(found.rows), list(expected.rows))
    for model, rows in found.rows.items():
        written = set(rows[0]) if rows else set()
        expected_rows = (as_text(row, written) for row in expected.rows.get(model, ()))
        told += compared(f"{model} row", map(as_text, rows), expected_rows)
        told += compared(f"{model} rejects", found.rejected[model], expected.rejected.get(model, ()))
    told += compared("link", found.links, expected.links)
    for pair in found.accounting:
        books, wanted = found.accounting[pair], expected.accounting.get(pair, oracle.Account())
        if books != wanted:
            told.append(f"{pair}: {books} instead of {wanted}")
    return told


def compared(what: str, found: Any, expected: Any) -> list[str]:
    found, expected = Counter(found), Counter(expected)
    return [f"{what} too much: {each}" for each in (found - expected).elements()] + [
        f"{what} missing: {each}" for each in (expected - found).elements()
    ]


def as_text(row: Mapping[str, Any], columns: set[str] | None = None) -> str:
    kept = row if columns is None else {name: value for name, value in row.items() if name in columns}
    return json.dumps(kept, sort_keys=True, default=str)


# --- the sample -------------------------------------------------------------------------------------------------------


def read_csv(path: Path) -> list[RawRow]:
    text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    return [{name: as_read(value) for name, value in row.items()} for row in reader]


def as_read(value: str) -> Value:
    data = value.encode("utf-8", errors="surrogateescape")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def read_sample() -> tuple[World, dict[str, list[RawRow]]]:
    directory = SYSTEM.sample_dir
    other_areas = {
        path.stem: [{name: None if value == r"\N" else value for name, value in row.items()} for row in read_csv(path)]
        for path in (directory / "target").glob("*.csv")
    }
    crosswalks = {name: read_csv(directory / f"{name}.csv") for name in SYSTEM.crosswalk_tables}
    sources = [name for name in SYSTEM.legacy_tables if name in oracle.KEYS]
    return World(crosswalks, other_areas), {source: read_csv(directory / f"{source}.csv") for source in sources}


FIRST_OPTIONS: dict[str, str] = {}
OTHER_OPTIONS = {
    "timing_semantics": "cumulative",
    "send_hold_override": "notification_only",
    "dow_bitmap": "send_days",
    "dow_bit_order": "monday_first",
    "bilingual_letters": "both_languages",
    "expired_document_exemption": "apply",
    "activation": "hold_until_activated",
}
MIXED_OPTIONS = {"dow_bitmap": "metadata", "bilingual_letters": "both_languages"}


@pytest.mark.parametrize("batch_rows", [100_000, 60])
@pytest.mark.parametrize("decisions", [FIRST_OPTIONS, OTHER_OPTIONS, MIXED_OPTIONS], ids=["first", "other", "mixed"])
def test_the_sample(tmp_path, database_url, decisions, batch_rows):
    world, legacy = read_sample()
    migration = Migration(tmp_path, database_url, world)
    migration.extract_from(SYSTEM.sample_dir, legacy)
    found = migration.prepare(SYSTEM.flows, batch_rows=batch_rows, decisions=decisions)
    assert len(found.rows["NotificationSchedule"]) > 2_000
    assert differences(found, migrate(migration.inputs(legacy, **decisions))) == []


def test_other_zones_read_the_sample_s_times_otherwise(tmp_path, database_url):
    world, legacy = read_sample()
    migration = Migration(tmp_path, database_url, world)
    migration.extract_from(SYSTEM.sample_dir, legacy)
    found = migration.prepare(SYSTEM.flows, timezone="America/New_York")
    assert differences(found, migrate(migration.inputs(legacy, timezone="America/New_York"))) == []
    assert differences(found, migrate(migration.inputs(legacy, timezone="UTC")))


# --- ugly tables ------------------------------------------------------------------------------------------------------


def mostly(usual: tuple[Value, ...], ugly: tuple[Value, ...], one_in: int = 24) -> st.SearchStrategy[Value]:
    """A usual value but for once in `one_in` times: most rows must be sound for them to meet."""
    return st.one_of(*[st.sampled_from(usual)] * (one_in - 1), st.sampled_from(ugly))


def some(rows: st.SearchStrategy[RawRow]) -> st.SearchStrategy[list[RawRow]]:
    """Hardly any rows, or enough of them to meet."""
    return st.one_of(st.lists(rows, max_size=2), *[st.lists(rows, min_size=8, max_size=24)] * 3)


ids = mostly(tuple(map(str, range(1, 16))), ("2.0", "02", "x", "", None, "-1", "1\0", b"\xff"))
customers = mostly(("1", "3", "4"), ("2", "3.0", "5", "6", "7", "", "NULL", " 1", "x", None))
kinds = mostly(("COI", "DOCUMENT"), ("coi", " Document ", "", None, "OTHER", b"COI\xff", "COI\0"))
times = mostly(
    ("2020-02-29 12:34:56", "2021-03-04 05:06:07", "2020-02-29 12:34:56.5"),
    ("0000-00-00 00:00:00", "2021-02-29 00:00:00", "2021-01-01", "", None, "soon", "2021-01-01 24:00:00", b"2021\xe9"),
)
users = mostly(("1", "1.0"), ("2", "3", "x", "", None))
holds = mostly(("SEND", "HOLD"), ("send ", "", None, "MAYBE"))
bitmaps = mostly(("0", "1", "62", "64", "127", None), ("128", "-1", "x", "", "5.0"), 12)
settings_ = mostly(("0", "5", "14", "3650", None), ("3651", "-1", "7.0", "x", "", "NULL", "99999999999999999999"), 6)
timings = mostly(("Before", "After"), ("BEFORE ", "", None, "during"), 6)

SETTING_COLUMNS = [name for name in SYSTEM.legacy_tables["notification"].columns if name.endswith("Setting")]
TIMING_COLUMNS = [name for name in SYSTEM.legacy_tables["notification"].columns if name.endswith("Timing")]


@st.composite
def notifications(draw: st.DrawFn) -> RawRow:
    usual = st.sampled_from(("0", "5", "14", None))
    changes: dict[str, Value] = {name: draw(usual) for name in SETTING_COLUMNS}
    changes |= dict.fromkeys(TIMING_COLUMNS, "After")
    for name in draw(st.lists(st.sampled_from([*SETTING_COLUMNS, *TIMING_COLUMNS]), max_size=2)):
        changes[name] = draw(timings if name in TIMING_COLUMNS else settings_)
    changes |= {
        "notification_id": draw(ids),
        "type": draw(kinds),
        "send_hold": draw(holds),
        "dow_bitmap": draw(bitmaps),
        "user_id": draw(users),
        "create_time": draw(times),
    }
    return {**notification(customer=draw(customers)), **changes}


addresses = mostly(
    ("a@b.c", "z@b.c", " A@B.C ", "m.n@sub.example.org"),
    ("", "a@b", "@b.c", "a@b@c.d", "a@.b.c", "a@b.c.", "a@.b", "a b@c.d", "é@b.c", "a\0@b.c", "no", "O:1"),
    6,
)
webhook_values = st.one_of(
    st.lists(addresses, max_size=3).map(lambda each: php(*each)),
    mostly(
        ('s:5:"a@b.c";', 'a:2:{i:0;a:1:{i:0;s:5:"q@b.c";}s:1:"k";s:5:"r@b.c";}'),
        (
            *(None, "", "N;", "a:0:{}", 's:0:"";', "i:5;", "b:1;", "d:0.5;", "a:1:{i:0;i:5;}", "a:1:{i:0;N;}", "junk"),
            *("a:1:{i:0;a:0:{}}", 's:5:"a@b.c"; ', 's:4:"a@b.c";', 'O:8:"stdClass":0:{}', 'a:1:{i:0;s:5:"a@b.c";'),
            *('a:1:{i:0;O:1:"A":0:{}}', b's:5:"\xff@b.c";', b's:8:"\xff@b.c";', "\\N", " ", "a@b.c"),
        ),
        4,
    ),
)
selectors = mostly(tuple(oracle.SELECTORS), ("NONCOMP", " noncomp_remind_1", "OTHER", "", None, "REQUEST", "EXPIRED\0"))
webhooks = st.builds(webhook, webhook_values, selectors, customers, kinds)
overrides = st.fixed_dictionaries(
    {
        "coi_notification_id": ids,
        "doc_notification_id": ids,
        "coi_send_hold": holds,
        "doc_send_hold": holds,
        "coi_dow_bitmap": bitmaps,
        "doc_dow_bitmap": bitmaps,
    }
)
lookups = st.builds(lambda customer, changes: lookup(customer, **changes), customers, overrides)

FRAGMENTS = (
    *("__DATE__", "___DATE__", "__A____B__", "__A__B__", "__A_B___", "__[X]__", "a__b__c", "__é__", "_", "{X}", "X1"),
    *(
        "<p>",
        "</p>",
        "<br/>",
        "<",
        ">",
        "<\n>",
        "Favor<br/>de",
        "Favor de",
        "FAVOR DE ",
        "de",
        " ",
        "\n",
        "PÓLIZA",
        "Póliza",
    ),
    *("please", "Thank you", "P&oacute;liza", "estimado", "é", '"', "\\", "$1", "${1}"),
)
bodies = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join),
    st.sampled_from(("", None, "NULL", "a\0b", b"caf\xe9", "Favor de", "Favor de please")),
)
letters = st.fixed_dictionaries(
    {
        "customer_id": customers,
        "type": mostly(("COI",), ("coi", "", None, "C\0", b"\xff", "DOCUMENT ")),
        "selector": mostly(("NONCOMP", "EXPIRED"), ("", None, "x")),
        "subject": st.one_of(bodies, st.sampled_from((None, "Re: __PH_NAME__"))),
        "letter_body": bodies,
        "edit_time": st.one_of(times, times, st.sampled_from((None, "soon"))),
    }
).map(lambda changes: {**letter(), **changes})

exemptions = st.fixed_dictionaries(
    {
        "exemption_id": ids,
        "vendor_id": mostly(("1", "2", "4"), ("3", "5", "6", "2.0", "", "x", None)),
        "item_type": st.one_of(*[kinds] * 7, st.sampled_from((None, "OTHER"))),
        "item_name": mostly(
            ("GL", "W-9", "boiler and machinery", "Business Lic."),
            ("", None, "Bond", "business license", " w-9 ", "Other", "Primary & Non-Contributory", "GL\0", b"GL\xff"),
        ),
        "ExemptExpDate": mostly(
            (None, "3000-01-01", "2050-06-30", "2026-11-20", "2026-11-21", "2027-01-31"),
            (
                *(
                    "",
                    "0000-00-00",
                    "2026-02-30",
                    "2026-11-21 00:00:00",
                    "2026-11-21 10:00:00",
                    "2051-01-01",
                ),
                *("2050-00-01", "2049-12-31", " 2026-01-01", "3000-01-01 00:00:00", "26-01-01", "NULL", b"2026\xff"),
            ),
        ),
        "ExemptReason": mostly(
            ("Small job", "Owner operated  ", None), ("", " \n", " lead", "a\0b", b"caf\xe9", "NULL", "tab\t", "é")
        ),
        "ExemptReviewStatus": mostly(("COMPLIANT",), ("compliant ", "OPEN", "", None)),
        "create_user_id": users,
        "create_time": times,
        "requirements_id": mostly((None, "1"), ("", "2", "3", "1.0", "x"), 6),
        "src": st.sampled_from((None, "", "x", b"\xff")),
    }
)
tables = st.fixed_dictionaries(
    {
        "notification": some(notifications()),
        "notification_webhook": some(webhooks),
        "notification_lookup": st.lists(lookups, max_size=8),
        "letter": some(letters),
        "exemption": some(exemptions),
    }
)


@st.composite
def with_repeated_rows(draw: st.DrawFn) -> dict[str, list[RawRow]]:
    """Tables some rows of which occur again, wholly identical."""
    drawn = draw(tables)
    for rows in drawn.values():
        if rows:
            rows += [rows[place] for place in draw(st.lists(st.integers(0, len(rows) - 1), max_size=2))]
    return drawn


chosen_decisions = st.fixed_dictionaries(
    {
        key: st.sampled_from(list(next(entry for entry in DECISIONS.entries if entry.key == key).options or ()))
        for key in OTHER_OPTIONS
    }
)


UGLY = st.fixed_dictionaries(
    {
        "legacy": with_repeated_rows(),
        "decisions": chosen_decisions,
        "batch_rows": st.sampled_from((100_000, 7)),
        "timezone": st.sampled_from(("UTC", "America/New_York", "Pacific/Auckland")),
        "dialect": st.sampled_from(("csv", "database")),
    }
)


@pytest.mark.parametrize("seed", range(30))
def test_ugly_tables(migration, seed):
    agree_on(migration, **st.drawn(UGLY, seed))


def agree_on(
    migration: Migration, legacy: Mapping[str, list[RawRow]], decisions: Mapping[str, str], batch_rows: int, **how: Any
) -> None:
    found = migration.run(legacy, batch_rows=batch_rows, **how, **decisions)
    assert differences(found, migrate(migration.inputs(legacy, **how, **decisions))) == []
