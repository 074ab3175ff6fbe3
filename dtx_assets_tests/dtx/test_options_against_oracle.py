"""The flows of the tables with options give what the oracle gives, under every option (spec 4.4 to 4.6).

On the shipped sample, and on small ugly tables made to collide, like the tables of `test_against_oracle`.
"""

from collections.abc import Iterator

import pytest

from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets_tests.dtx import drawing as st
from dtx_assets_tests.dtx.oracle import RawRow
from dtx_assets_tests.dtx.oracle_options import migrate
from dtx_assets_tests.dtx.running import (
    DECISIONS,
    Migration,
    envelope,
    form_field,
    imap_upload,
    keyword,
    lease,
    php,
    repo_file,
    reviewer_address,
)
from dtx_assets_tests.dtx.test_against_oracle import (
    addresses,
    agree_on,
    differences,
    mostly,
    read_sample,
    some,
    times,
    users,
    webhook_values,
)

OPTIONS = {
    entry.key: list(entry.options)
    for entry in DECISIONS.entries
    if entry.key in ("envelope", "imap_upload", "form_field", "keyword", "vornado_feed")
}
EVERY_OPTION = [(decision, option) for decision, options in OPTIONS.items() for option in options]
TOGETHER = {"keyword": "account_meta", "form_field": "account_meta"}
MOST_OPTIONS = max(map(len, OPTIONS.values()))
OF_EVERY_DECISION = [
    {decision: options[place % len(options)] for decision, options in OPTIONS.items()} for place in range(MOST_OPTIONS)
]
"""Each option of each decision, in as few sets as can be: in small batches the sample takes its time."""


# --- the sample -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Migration]:
    world, legacy = read_sample()
    migration = Migration(tmp_path_factory.mktemp("sample"), postgres_server.create_database("whole_sample"), world)
    migration.extract_from(SYSTEM.sample_dir, legacy)
    yield migration
    postgres_server.drop_database("whole_sample")


@pytest.mark.parametrize(
    ("decisions", "batch_rows"),
    [
        *(pytest.param({decision: option}, 100_000, id=f"{decision}={option}") for decision, option in EVERY_OPTION),
        pytest.param(TOGETHER, 100_000, id="together"),
        *(pytest.param(each, 30, id="-".join(each.values())) for each in OF_EVERY_DECISION),
        pytest.param(TOGETHER, 30, id="together in small batches"),
    ],
)
def test_the_sample_under_every_option(sample, decisions, batch_rows):
    _, legacy = read_sample()
    flows = SYSTEM.flows_under({**DECISIONS.chosen, **decisions})
    found = sample.prepare(flows, batch_rows=batch_rows, decisions=decisions)
    expected = migrate(sample.inputs(legacy, **decisions))
    assert differences(found, expected) == []
    for table, option in decisions.items():
        migrated = sum(books.migrated for (source, _), books in found.accounting.items() if source == table)
        assert (migrated > 0) == (option != "archive")


# --- ugly tables ------------------------------------------------------------------------------------------------------


ids = mostly(tuple(map(str, range(1, 40))), ("2.0", "02", "x", "", None, "-1", "1\0", b"\xff"))
customers = mostly(("1", "2", "3", "4"), ("3.0", "5", "6", "7", "", "NULL", " 1", "x", None))
address_lists = st.lists(addresses, min_size=1, max_size=3).map(lambda each: php(*map(str, each)))
reviewers = st.builds(reviewer_address, st.one_of(address_lists, address_lists, webhook_values), ids, customers)

labels = mostly(("GROUP_NAME", "ITEM", "form_field.custom_field_0"), ("group_name", " ITEM", "", None, "A\0", b"\xff"))
keywords = st.builds(keyword, labels, mostly(("Malls", "Centers", ""), (None, "NULL", "\0", b"\xff", 'é "')), customers)

vendors = mostly(("1", "2", "3", "7"), ("4", "5", "6", "2.0", "02", "10", "-1", "x", "", "NULL", None, b"1\xff"))
form_fields = st.builds(
    form_field,
    ids,
    mostly(("a", "b"), (None, "", "NULL", " ", "a ", "\0", b"\xff", '"\\é\n')),
    mostly(
        ("custom_field_0", "custom_field_1"),
        ("CUSTOM_FIELD_0", " custom_field_0", "expiry_date", "", None, "custom_field_1\0", b"\xff"),
    ),
    vendors,
    customers,
)


def serialised(text: str) -> str:
    return f's:{len(text.encode())}:"{text}";'


def contact(*elements: str) -> str:
    return f"a:{len(elements) // 2}:{{{''.join(elements)}}}"


contact_elements = st.sampled_from(
    (
        *('s:1:"x";', "i:5;", "d:1.5;", "d:1;", "b:1;", "N;", 's:0:"";', 's:2:"é";', 'a:1:{i:0;s:1:"y";}', "a:0:{}"),
        *('a:2:{i:7;s:1:"y";s:1:"k";a:1:{i:0;i:1;}}', 's:3:"\\"/";', 's:1:"\n";', "i:-9223372036854775808;"),
        *('O:1:"A":0:{}', 's:1:"\0";', "d:NAN;", "d:INF;", "R:2;", 's:12:"O:1:"A":0:{}";'),
    )
)
emails = st.one_of(
    webhook_values.filter(lambda value: isinstance(value, str)).map(lambda value: serialised(str(value))),
    st.lists(st.sampled_from(("a@b.c", " X@Y.Z ", "", "é@b.c", "no")), max_size=3).map(lambda each: php(*each)),
    st.lists(st.sampled_from(("a@b.c", "no")), max_size=2).map(lambda each: serialised(php(*each))),
    contact_elements,
)
contact_keys = st.sampled_from(('s:4:"name";', 's:5:"phone";', "i:0;", 's:1:"5";', 's:3:"k"k";', 's:2:"é";', 's:0:"";'))


@st.composite
def contacts(draw: st.DrawFn) -> str:
    elements = [part for _ in range(draw(st.integers(0, 2))) for part in (draw(contact_keys), draw(contact_elements))]
    if draw(st.integers(0, 5)):
        elements += ['s:5:"email";', draw(emails)]
    whole = contact(*elements)
    return draw(st.sampled_from((whole, whole, serialised(whole), whole[:-1], whole + " ", serialised(whole) + "x")))


vendor_data = st.one_of(
    contacts(),
    contacts(),
    st.sampled_from((None, "", "N;", "i:5;", 's:1:"x";', "junk", b'a:1:{s:4:"name";s:1:"\xff";}', "NULL", " ")),
)
numbers = mostly(("0", "3", "12.0"), ("-1", "", "x", None, "1.5", "NULL", "2147483648"))
envelopes = st.fixed_dictionaries(
    {
        "envelope_id": ids,
        "customer_id": customers,
        "vendor_id": vendors,
        "event": mostly(("Voided", "Completed", None), ("declined ", "", "Opened", "NULL", b"\xff", "Voided\0")),
        "vendor_data": vendor_data,
        "clicks": numbers,
        "access_time": times,
        "create_time": times,
        "update_time": times,
    }
).map(lambda changes: {**envelope(), **changes})

texts = mostly(("a@b.c", "x.pdf"), ("", None, "NULL", "\0", b"\xff", 'é "\\\n'))
uploads = st.fixed_dictionaries(
    {
        "imap_upload_id": ids,
        "repo_file_id": mostly(("1", "4", "5"), ("2", "3", "6", "7", "1.0", "x", "", None)),
        "sender": texts,
        "filename": texts,
        "filesize": numbers,
        "received_time": times,
    }
).map(lambda changes: {**imap_upload(), **changes})

days = mostly(
    ("01/01/2020", "12/31/2025", "02/29/2024", "12/31/2050"),
    (
        "",
        None,
        "1/2/2020",
        "12/31/25",
        "01/01/0000",
        "12/31/9999",
        "13/01/2020",
        "2020-01-01",
        "02/30/2021",
        "NULL",
        " 01/01/2020",
        "01/01/2020\0",
        b"01\xff",
    ),
)
leases = st.fixed_dictionaries(
    {
        "PH_ID": mostly(("1", "3", "7", "-1"), ("2.0", "-1.0", " -1", "4", "5", "6", "x", "", None, "1\0", b"\xff")),
        "Property Code": mostly(("P1", "P2"), ("", None, "NULL", "\0", b"\xff", '"')),
        "Tenant ID": mostly(("t1", "t2"), ("", None, "\0", b"\xff", "é")),
        "Lease Start": days,
        "Lease End": days,
    }
).map(lambda changes: {**lease(), **changes})

PATHS = (
    *("", None, "../outside.pdf", "unlinked/../unlinked/certificate_01.pdf", "/etc/hostname", "unlinked", "."),
    *("unlinked/no_such_file.pdf", "unlinked/a\0b", b"unlinked/\xff.pdf", "unlinked//certificate_01.pdf", "NULL"),
    *("./unlinked/certificate_02.pdf", "unlinked/empty.txt", " unlinked/certificate_01.pdf", "unlinked/..", "a..b"),
    *("unlinked/certificate_01.pdf/", "UNLINKED/certificate_01.pdf", "unlinked\\certificate_01.pdf"),
)
NAMES = (
    *("C:\\scans\\policy.pdf", "a/b/c.pdf", "bell\x07and\ttab.pdf", "x" * 200 + ".pdf", "é" * 100 + ".pdf", "folder/"),
    *("", None, "NULL", "a\0b.pdf", b"\xff.pdf", "no extension", "\x9f\x7f", "é" * 74 + "x.tar.gz", ".hidden", " x "),
)
links = mostly((None, "0"), ("", "0.0", "4711", "x", "-0", "NULL"))
repo_files = st.fixed_dictionaries(
    {
        "repo_file_id": mostly((*map(str, range(100, 108)), "1", "4"), ("3.0", "2", "100.0", "0100", "x", "", None)),
        "customer_id": customers,
        "vendor_id": vendors,
        "status": mostly(("SUBMITTED", "SUBMITTED", None, "Deleted "), ("DELETED", "", "NULL", b"DELETED\xff")),
        "name": mostly(("certificate.pdf", "policy.pdf"), NAMES),
        "certificate_id": links,
        "document_id": links,
        "upload_user_id": users,
        "intake_date": times,
        "repo_filepath": mostly(("unlinked/certificate_01.pdf", "unlinked/certificate_02.pdf"), PATHS),
    }
).map(lambda changes: {**repo_file(), **changes})


tables = st.fixed_dictionaries(
    {
        "reviewer_address": some(reviewers),
        "keyword": some(keywords),
        "form_field": some(form_fields),
        "envelope": some(envelopes),
        "imap_upload": some(uploads),
        "vornado_feed": some(leases),
        "repo_file": some(repo_files),
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


UGLY = st.fixed_dictionaries(
    {
        "legacy": with_repeated_rows(),
        "decisions": st.fixed_dictionaries({key: st.sampled_from(options) for key, options in OPTIONS.items()}),
        "batch_rows": st.sampled_from((100_000, 7, 1)),
        "timezone": st.sampled_from(("UTC", "America/New_York", "Pacific/Auckland")),
        "dialect": st.sampled_from(("csv", "database")),
    }
)


@pytest.mark.parametrize("seed", range(40))
def test_ugly_tables_under_any_options(migration, seed):
    agree_on(migration, **st.drawn(UGLY, seed))
