"""Ugly tables for PAD: rows that are sound but for a few values of every bad kind, and the world they refer to.

Drawn from a seed. What should become of them is not here.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from dtx_assets_tests.dtx import drawing as st
from dtx_assets_tests.pad.second_reading import COLUMNS, KINDS, OPTIONS, RawRow, Value

CUTOVER_AT = datetime(2026, 11, 21, 3, 30, tzinfo=UTC)


def rows(columns: str, *values: Sequence[str | int | None]) -> list[dict[str, str | None]]:
    """Rows of text: `rows("id name", (1, "W-9"))`."""
    return [
        {name: None if value is None else str(value) for name, value in zip(columns.split(), row, strict=True)}
        for row in values
    ]


EMPLOYEES = rows(
    "id mako_id manager_id end_date",
    *((1, "ASmith", 3, None), (2, "bjones", 3, None), (3, "cboss", None, None), (4, "dcomply", 3, None)),
    # Two have one log-in name; one has none; the others have left: before, on, and after the day of the cutover.
    *((5, "twin", 3, None), (6, " TWIN ", 3, None), (7, None, 3, "2020-03-31"), (8, "left1", 3, "2026-11-20")),
    *((9, "left2", 3, "2026-11-21"), (10, "left3", 3, "2027-01-01"), (11, "left4", 3, "2026-03-29")),
)
SECURITIES = rows(
    "id bloomberg inst_symbol isin sedol ticker is_deleted_yn",
    (101, "AAPL US Equity", "AAPL", "US0378331005", "2046251", "AAPL", None),
    # Two of one symbol: told apart by the ISIN; by the SEDOL alone; by the name at Bloomberg alone; by nothing.
    *((102, "VOD LN Equity", "VOD", "GB00BH4HKS39", "BH4HKS3", "VOD", "N"),),
    *((103, "VOD US Equity", "VOD", "US92857W3088", "B1XZS82", "VOD", "n"),),
    *((104, "BP/ LN Equity", "BP", "GB0007980591", "0798059", "BP", None),),
    *((105, "BP US Equity", "BP", "gb0007980591 ", "0798060", "BP", None),),
    *((106, "HSBA LN Equity", "HSBA", "GB0005405286", "0540528", "HSBA", None),),
    *((107, "HSBA HK Equity", "HSBA", "GB0005405286", "0540528", "HSBA", None),),
    *((108, "TWIN LN Equity", "TWIN", "GB00000TWIN1", "TWIN001", "TWIN", None),),
    *((109, "TWIN LN Equity", "TWIN", "GB00000TWIN1", "TWIN001", "TWIN", None),),
    # Deleted alone, and deleted beside one that is not.
    (110, "OLD LN Equity", "OLD", "GB0000000OLD", "OLD0001", "OLD", " y "),
    (111, "MIX LN Equity", "MIX", "GB0000000MIX", "MIX0001", "MIX", "Y"),
    (112, "MIX US Equity", " MIX ", "US0000000MIX", "MIX0002", "MIXX", None),
    # Without a symbol: found by identifiers only, two of them have one ISIN.
    (113, "NIL LN Equity", None, "GB0000000NIL", "NIL0001", "NIL", None),
    (114, "NIL US Equity", None, "GB0000000NIL", "NIL0002", "NILL", None),
    (115, None, "aapl", None, None, None, None),
)
CURRENCIES = rows("currency", ("GBP",), ("USD",), ("EUR",), ("GBX",), ("CNH",), ("Cnh",), ("sek",))

CLEAN: dict[str, Value] = {
    **dict.fromkeys(COLUMNS),
    **dict.fromkeys(KINDS["text"].split(), "as it is"),
    "id": "1",
    "employee": "1",
    "requested_date": "2024-05-13 09:30:00",
    "related_yn": "2",
    "inst_symbol": "AAPL",
    "isin": "US0378331005",
    "trade_size": "100",
    "value": "18050.25",
    "currency": "USD",
    "buysell": "B",
    "inside_info_yn": "2",
    "status": "approved",
    "auth_manager": "3",
    "auth_manager_date": "2024-05-13 11:00:00",
    "status_manager": "approved",
    "auth_compliance": "4",
    "auth_compliance_date": "2024-05-14 10:00:00",
    "status_compliance": "approved",
    "two_business_days_execution_yn": "1",
    "contract_notes_received_yn": "1",
    "last_modified_by": "4",
    "last_modified_date": "2024-05-14 10:00:01",
    "is_deleted_yn": "N",
}
EXTRA = "wholly_unnamed"
"""A column nobody named."""

BAD_TEXTS: tuple[Value, ...] = ("a\0b", b"caf\xe9", "", " ", None, "NULL", "é", ' lead and "trail" ', "\n\\N,")
PEOPLE: tuple[Value, ...] = (
    *("1", "2", "3", "4", "7", "8", "9", "10", "11", " 3 ", "3.0", "03", "-1", "99", "9223372036854775808", "3.5"),
    *("asmith", " BJones ", "twin", "nobody", "", " ", None, b"3\xff", "3\0", "NULL", "left1"),
)
TIMES: tuple[Value, ...] = (
    *("2024-02-29", "2023-02-29", "2024-05-13T09:30:00", "2024-05-13 09:30:00.1234567", "2024-05-13 09:30:00.5Z"),
    *("2024-05-13T09:30:00+01", "2024-05-13 09:30:00-0530", "2024-05-13 09:30:00+16:00", "2024-05-13 9:30:00"),
    *("2024-05-13 09:30", "2024-05-13Z", "2024-05-13 09:30:00 +01", "0000-00-00 00:00:00", "0000-00-00", "soon"),
    *(" 2024-05-13", "2024-05-13 24:00:00", "2024-05-13 09:30:60", "2024-13-01", "13/05/2024", "2024-05-13 09:30:00z"),
    # Twice and never on the clocks of London and of New York.
    *("2024-10-27 01:30:00", "2024-03-31 01:30:00", "2024-11-03 01:30:00", "2024-03-10 02:30:00", "2024-03-10"),
    *("2024-10-27 01:30:00+00", "0001-01-01", "1899-12-31 23:59:59", "2024-05-13 09:30:00.", "", " ", None, "NULL"),
    *(b"2024-05-13\xff", "2024-05-13 09:30:00\0", "2024-05-13 09:30:00+25", "2024-05-13 09:30:00,5"),
)
NUMBERS: tuple[Value, ...] = (
    *("0", "0.0", "-5", "-0.5", ".5", "5.", ".", "-", "+5", "1e3", "1,000", "£5", " 5", "", " ", None, "NULL", "5\0"),
    *(
        "1.23456",
        "1.23450",
        "1.00500",
        "1.005",
        "2.675",
        "-2.675",
        "0.00005",
        "-0.00005",
        "0.00004999",
        "3",
        "7",
        "0.03",
    ),
    *("99999999999999.9999", "99999999999999.99995", "100000000000000", "9999999999999.99", "9999999999999.995"),
    *("10000000000000", "123456789012345678901234567890", "0.0000000000000000000000000001", "007.50", b"5\xff", "NaN"),
    *("00000000000000000000000000000000000000000000005.5000000000000000000000000000000000000000000000", "1" + "0" * 44),
)
FLAGS: tuple[Value, ...] = (
    "1",
    "2",
    "1.0",
    " 2.0 ",
    "1.00",
    "Y",
    "0",
    "3",
    "",
    " ",
    None,
    "NULL",
    "1\0",
    b"1\xff",
    "é",
)
DECISIONS: tuple[Value, ...] = (
    *("approved", "declined", "pending", None, " APPROVED ", "Declined", "PENDING", "", " ", "withdrawn", "NULL", "1"),
)
UGLY: Mapping[str, tuple[Value, ...]] = {
    **dict.fromkeys(KINDS["person"].split(), PEOPLE),
    **dict.fromkeys(KINDS["time"].split(), TIMES),
    **dict.fromkeys(KINDS["decimal"].split(), NUMBERS),
    **dict.fromkeys(KINDS["code"].split(), FLAGS),
    **dict.fromkeys(KINDS["text"].split(), BAD_TEXTS),
    "status": (
        "request",
        "approved",
        "declined",
        " Request ",
        "APPROVED",
        None,
        "",
        "cancelled",
        b"approved\xff",
        "NULL",
    ),
    "status_manager": DECISIONS,
    "status_compliance": DECISIONS,
    "buysell": ("b", " S ", "s", "BUY", "1", "", None, "B\0"),
    "is_deleted_yn": ("Y", "y", " Y ", "n", None, "", "1", "2", "X", b"Y\xff"),
    "isin": (
        "GB0000000NIL",
        " us0378331005",
        "US0378331005 ",
        "GB0000000000X",
        "",
        " ",
        None,
        "a\0b",
        b"\xff",
        "GB0007980591",
    ),
    "sedol": ("2046251", "nil0002", " 0798060 ", "0798059", "TOOLONG1", "", None, "\0", "é234567", "MIX0001"),
    "bloomberg": ("hsba hk equity", "AAPL US Equity ", "x" * 50, "x" * 51, "é" * 50, "", None, b"\xff"),
    "ticker": ("NILL", "nil ", "VOD", "x" * 20, "x" * 21, "", None, "\0"),
    "inst_symbol": (
        *(" AAPL ", "aapl", "Aapl", "VOD", "BP", "HSBA", "TWIN", "OLD", "MIX", "NONE", "", " ", None, "NULL"),
        *("AAPL\0", b"AAPL\xff"),
    ),
    "currency": (
        *("usd", " USD", "GBp", "gbp", "Gbp", "GBX", "gbx", "cnh", "CNH", "SEK", "SEk", "XXX", "EURO", "", " ", None),
        *("ZZz", "USd", "US\0", b"\xff\xff"),
    ),
    "security_description": (*BAD_TEXTS, "x" * 200, "x" * 201, "é" * 200),
    "relation": (*BAD_TEXTS, "x" * 100, "x" * 101),
    "name": (*BAD_TEXTS, "x" * 250, "x" * 251),
    EXTRA: BAD_TEXTS,
}
BAD_IDS: tuple[Value, ...] = ("x", "", " ", None, "NULL", "1.5", "9223372036854775808", "1\0", b"1\xff", "-0", "1e3")
PLANNED: Mapping[str, tuple[Value, ...]] = {
    "status": ("request", "approved", "declined"),
    "status_manager": DECISIONS[:4],
    "status_compliance": DECISIONS[:4],
    "two_business_days_execution_yn": ("1", "2", None),
    "contract_notes_received_yn": ("1", "2", None),
    "holding_period_yn": ("1", "2", None),
    "broker_reporting_yn": ("1", "2", None),
    "related_yn": ("1", "2", None),
    "restricted_yn": ("1", "2", None),
    "conflicts_yn": ("1", "2", None),
    "employee": ("1", "2", "8", "9", "11"),
    "auth_manager": ("3", None),
    "auth_compliance": ("4", None),
    "is_deleted_yn": ("N", "N", "N", "Y", None),
}
"""What varies between sound rows."""


@st.composite
def requests(draw: st.DrawFn) -> RawRow:
    ids = st.integers(1, 150)
    row: dict[str, Value] = {**CLEAN, EXTRA: "kept", "id": str(draw(ids))}
    row |= {column: draw(st.sampled_from(values)) for column, values in PLANNED.items()}
    how_bad = draw(st.sampled_from((0, 0, 1, 1, 2, 4)))
    for column in draw(st.lists(st.sampled_from(list(UGLY)), min_size=how_bad, max_size=how_bad)):
        row[column] = draw(st.sampled_from(UGLY[column]))
    form = draw(st.sampled_from(("{}",) * 24 + ("{}.0", "0{}", " {} ", "-{}")))
    row["id"] = form.format(row["id"])
    if draw(st.integers(0, 24)) == 0:
        row["id"] = draw(st.sampled_from(BAD_IDS))
    return row


@st.composite
def tables(draw: st.DrawFn) -> list[RawRow]:
    """Rows of which some have one id with other content, and some occur again, wholly identical."""
    drawn: list[RawRow] = draw(st.lists(requests(), min_size=60, max_size=120))
    return drawn + [drawn[place] for place in draw(st.lists(st.integers(0, len(drawn) - 1), max_size=3))]


decisions = st.fixed_dictionaries({key: st.sampled_from(options) for key, options in OPTIONS.items()})
