"""Legacy text is read strictly: what these transforms let through is written, so they are held against plain Python."""

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    LAST_YEAR_OF_RULES,
    Coercion,
    DateForm,
    Outcome,
    Problem,
    Registry,
    TransformContext,
    canonical_integer,
    clock_changes,
    date_value,
    integer_value,
    json_strings,
    localized,
    timestamp_value,
)

CONTEXT = TransformContext({}, {}, {}, "UTC", datetime(2026, 11, 21, tzinfo=UTC))

NEARLY_TEXTS = st.one_of(
    st.none(),
    st.text(max_size=30),
    st.integers(-(2**70), 2**70).map(str),
    st.from_regex(r"\A[-+ ]?[0-9]{1,25}([.][0-9]{0,2})?\s?\Z"),
    st.from_regex(r"\A[0-9]{3,5}-[0-9]{1,2}-[0-9]{1,2}( [0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{0,9})?)?\n?\Z"),
    st.datetimes().map(lambda moment: moment.isoformat(" ")),
    st.datetimes().map(lambda moment: moment.isoformat("T")),
    st.dates().map(lambda day: f"{day.isoformat()} 00:00:00"),
    st.sampled_from(
        [
            *("0000-00-00", "0000-00-00 00:00:00", "2023-02-29", "2024-02-29", "3000-01-01", "0000-01-01"),
            *("9999-12-31", "2024-01-01 24:00:00", "2024-01-01 23:59:60", "14.0", "14.00", "14.", "٣", "1e3", "-0"),
        ]
    ),
)
"""Texts that look like numbers, dates and times, and some that do not."""


def read(expression: pl.Expr, text: str | None) -> object:
    return pl.DataFrame({"x": [text]}, schema={"x": pl.String}).select(expression).item()


def python_integer(text: str | None) -> int | None:
    if text is None or not re.fullmatch(r"-?[0-9]+(\.0)?", text):
        return None
    value = int(text.removesuffix(".0"))
    return value if -(2**63) <= value < 2**63 else None


def python_date(text: str | None) -> date | None:
    if text is None or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}( 00:00:00)?", text):
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def python_time(text: str | None) -> datetime | None:
    if text is None or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?", text):
        return None
    try:
        moment = datetime.strptime(text[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    if text[17:19] >= "60":
        return None
    return moment + timedelta(microseconds=int(text[20:26].ljust(6, "0")))


@given(NEARLY_TEXTS)
@example("+5")
@example("+5.0")
def test_integers_are_read_as_python_reads_them(text: str | None) -> None:
    assert read(integer_value(pl.col("x")), text) == python_integer(text)


@given(NEARLY_TEXTS)
def test_ids_have_one_text(text: str | None) -> None:
    value = python_integer(text)
    assert read(canonical_integer(pl.col("x")), text) == (None if value is None else str(value))


@given(NEARLY_TEXTS)
def test_dates_are_read_as_python_reads_them(text: str | None) -> None:
    assert read(date_value(pl.col("x")), text) == python_date(text)


@given(NEARLY_TEXTS)
def test_times_are_read_as_python_reads_them(text: str | None) -> None:
    assert read(timestamp_value(pl.col("x"), "UTC"), text) == python_time(text)


@given(
    st.datetimes(datetime(1902, 1, 1), datetime(2036, 12, 31)).map(lambda moment: moment.replace(microsecond=0)),  # noqa: DTZ001 naive on purpose
    st.sampled_from(["America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo"]),
)
def test_times_of_a_zone_are_the_instants_python_knows(moment: datetime, zone: str) -> None:
    instant = moment.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)
    exists = instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == moment
    value = read(timestamp_value(pl.col("x"), zone), moment.isoformat(" "))
    assert isinstance(value, datetime)
    if exists:
        assert value == instant


@given(
    st.datetimes(datetime(2037, 1, 1), datetime(9999, 12, 30)),  # noqa: DTZ001 naive on purpose
    st.sampled_from(["America/New_York", "Australia/Sydney"]),
)
def test_summer_time_goes_on_as_long_as_the_calendar(moment: datetime, zone: str) -> None:
    """Polars ends it with the year 2099: an hour less, in silence, in half of the dates that mean "never"."""
    instant = moment.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    assert read(timestamp_value(pl.col("x"), zone), moment.isoformat(" ")) == instant


def test_until_when_polars_knows_the_rules_of_a_zone() -> None:
    summers = [datetime(year, 7, 1) for year in range(2026, LAST_YEAR_OF_RULES + 2)]  # noqa: DTZ001 naive on purpose
    read_by_polars = pl.Series(summers).dt.replace_time_zone("America/New_York").dt.convert_time_zone("UTC").dt.hour()
    assert read_by_polars.to_list() == [4] * (len(summers) - 1) + [5]


@pytest.mark.parametrize(
    ("text", "zone", "is_held"),
    [
        ("9999-12-31 23:59:59", "UTC", True),
        ("9999-12-31 23:59:59.999999", "Asia/Tokyo", True),
        ("9999-12-31 18:59:59", "America/New_York", True),
        ("9999-12-31 19:00:00", "America/New_York", False),
        ("9999-12-31 23:59:59", "Pacific/Pago_Pago", False),
        ("0001-01-01 00:00:00", "UTC", True),
        ("0001-01-01 00:00:00", "America/New_York", True),
        ("0001-01-01 00:00:00", "Europe/Berlin", False),
        ("0001-01-01 00:53:28", "Europe/Berlin", True),
        ("0001-01-01 09:00:00", "Asia/Tokyo", False),
    ],
)
def test_the_ends_of_the_calendar_are_a_row_s_own_matter(text: str, zone: str, is_held: bool) -> None:
    context = replace(CONTEXT, timezone=zone)
    frame = pl.DataFrame({"x": [text, "2019-03-01 10:00:00"]})
    for invalid in ("reject", "null"):
        outcome = GENERIC["timestamp"]([pl.col("x")], context, invalid=invalid)
        first, second = frame.select(outcome.value).to_series()
        assert isinstance(second, datetime)
        assert (first is not None) == is_held
        flags = outcome.problems or [entry for entry in outcome.coercions if entry.kind == "invalid_time"]
        assert frame.select(flags[0].when).to_series().to_list() == [not is_held, False]
        if outcome.problems and not is_held:
            assert read(outcome.problems[0].detail, text) == f"{text} is no time of the years 1 to 9999 in UTC"


@pytest.mark.parametrize(
    ("text", "zone", "guess"),
    [
        ("2021-11-07 01:30:00", "America/New_York", "ambiguous_time"),
        ("2021-11-07 01:00:00", "America/New_York", "ambiguous_time"),
        ("2021-11-07 00:59:59.999999", "America/New_York", None),
        ("2021-11-07 02:00:00", "America/New_York", None),
        ("2021-03-14 02:30:00", "America/New_York", "skipped_time"),
        ("2021-03-14 03:00:00", "America/New_York", None),
        ("2121-11-02 01:30:00", "America/New_York", "ambiguous_time"),
        ("2121-03-09 02:30:00", "America/New_York", "skipped_time"),
        ("2011-12-30 12:00:00", "Pacific/Apia", "skipped_time"),
        ("1970-10-25 02:30:00", "Europe/London", None),
        ("1971-10-31 02:30:00", "Europe/London", "ambiguous_time"),
        ("2021-11-07 01:30:00", "UTC", None),
        ("2021-11-07 01:30:00", "America/Phoenix", None),
        ("9999-12-31 23:59:59", "America/New_York", None),
        ("no time", "America/New_York", None),
        (None, "America/New_York", None),
    ],
)
def test_a_time_that_is_no_single_instant_is_counted(text: str | None, zone: str, guess: str | None) -> None:
    outcome = GENERIC["timestamp"]([pl.col("x")], replace(CONTEXT, timezone=zone), invalid="null")
    kinds = [entry.kind for entry in outcome.coercions if read(entry.when, text)]
    assert [kind for kind in kinds if kind != "invalid_time"] == ([guess] if guess else [])


@given(
    st.datetimes(datetime(1902, 1, 1), datetime(2200, 12, 31)),  # noqa: DTZ001 naive on purpose
    st.sampled_from(["America/New_York", "Europe/Dublin", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"]),
)
def test_guesses_are_those_that_python_makes(moment: datetime, zone: str) -> None:
    local = moment.replace(tzinfo=ZoneInfo(zone))
    gained = local.replace(fold=1).utcoffset() - local.utcoffset()
    expected = ["ambiguous_time"] * (gained < timedelta()) + ["skipped_time"] * (gained > timedelta())
    coercions = clock_changes(pl.lit(moment).cast(pl.Datetime("us")), zone)
    assert [entry.kind for entry in coercions if pl.select(entry.when.fill_null(False)).item()] == expected


@pytest.mark.parametrize(
    ("text", "zone", "instant"),
    [
        ("2024-03-10 02:30:00", "America/New_York", datetime(2024, 3, 10, 7, 30, tzinfo=UTC)),
        ("2024-11-03 01:30:00", "America/New_York", datetime(2024, 11, 3, 5, 30, tzinfo=UTC)),
        ("2011-12-30 12:00:00", "Pacific/Apia", datetime(2011, 12, 30, 22, 0, tzinfo=UTC)),
        ("2018-11-04 00:00:00", "America/Sao_Paulo", datetime(2018, 11, 4, 3, 0, tzinfo=UTC)),
        ("2024-10-06 02:15:00", "Australia/Lord_Howe", datetime(2024, 10, 5, 15, 45, tzinfo=UTC)),
        ("2124-03-12 02:30:00", "America/New_York", datetime(2124, 3, 12, 7, 30, tzinfo=UTC)),
    ],
    ids=[
        *("hour that is skipped", "hour that occurs twice", "day that is skipped", "midnight that is skipped"),
        *("half an hour that is skipped", "hour that is skipped in a hundred years"),
    ],
)
def test_times_that_a_clock_did_not_show_once_are_read_all_the_same(text: str, zone: str, instant: datetime) -> None:
    assert read(timestamp_value(pl.col("x"), zone), text) == instant
    naive = pl.lit(datetime.fromisoformat(text)).cast(pl.Datetime("us"))
    assert pl.select(localized(naive, zone)).item() == instant


@given(st.lists(st.one_of(st.none(), st.lists(st.text(max_size=8), max_size=4)), min_size=1, max_size=6))
def test_lists_of_texts_are_compact_json(lists: list[list[str] | None]) -> None:
    frame = pl.DataFrame({"x": lists}, schema={"x": pl.List(pl.String)})
    texts = frame.select(json_strings(pl.col("x")).alias("x"))["x"].to_list()
    assert [None if text is None else json.loads(text) for text in texts] == lists
    assert all(" " not in re.sub(r'"(\\.|[^"\\])*"', "", text) for text in texts if text is not None)


def test_json_strings_are_canonical() -> None:
    frame = pl.DataFrame({"x": [[], ["a@b.c"], ['q"', "\\", "é\n"], None]})
    assert frame.select(json_strings(pl.col("x")).alias("x"))["x"].to_list() == [
        "[]",
        '["a@b.c"]',
        '["q\\"","\\\\","é\\n"]',
        None,
    ]


def apply(
    name: str, columns: dict[str, list[str | None]], **settings: object
) -> tuple[list[object], dict[str, list[bool]], dict[str, list[bool]], list[str]]:
    """Values, rows of each problem and of each coercion, and the details of the problems that hold."""
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    outcome = GENERIC[name]([pl.col(column) for column in columns], CONTEXT, **settings)

    def flags(entries: tuple[Problem, ...] | tuple[Coercion, ...], attribute: str) -> dict[str, list[bool]]:
        return {
            getattr(entry, attribute): frame.select(entry.when.fill_null(False).alias("w"))["w"].to_list()
            for entry in entries
        }

    details = [
        detail
        for problem in outcome.problems
        for detail in frame.filter(problem.when.fill_null(False))
        .select((pl.lit(problem.detail) if isinstance(problem.detail, str) else problem.detail).alias("d"))["d"]
        .to_list()
    ]
    values = frame.select(outcome.value.alias("v"))["v"].to_list()
    return values, flags(outcome.problems, "reason"), flags(outcome.coercions, "kind"), details


def test_text_is_as_it_is_and_null_may_have_another() -> None:
    assert apply("text", {"x": [" a ", None, ""]})[0] == [" a ", None, ""]
    assert apply("text", {"x": [" a ", None, ""]}, null="-")[0] == [" a ", "-", ""]


def test_what_is_no_integer_is_unparseable_and_quoted_short() -> None:
    values, problems, _, details = apply("integer", {"x": ["14.0", None, "x" * 60, ""]})
    assert values == [14, None, None, None]
    assert problems == {"unparseable": [False, False, True, True]}
    assert details == ["x" * 40 + " is no integer", " is no integer"]


def test_what_is_no_date_is_unparseable() -> None:
    values, problems, _, details = apply("date", {"x": ["2024-02-29", "2023-02-29", "0000-00-00", None]})
    assert values == [date(2024, 2, 29), None, None, None]
    assert problems == {"unparseable": [False, True, True, False]}
    assert details == ["2023-02-29 is no date", "0000-00-00 is no date"]


def test_a_time_that_is_none_rejects_or_is_null_and_counted() -> None:
    texts: list[str | None] = ["2024-01-02 03:04:05.5", "0000-00-00 00:00:00", "yesterday", None, "2024-01-02"]
    values, problems, coercions, details = apply("timestamp", {"x": texts})
    assert values == [datetime(2024, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC), None, None, None, None]
    assert problems == {"unparseable": [False, True, True, False, True]}
    assert coercions == {}
    assert details == ["0000-00-00 00:00:00 is no time", "yesterday is no time", "2024-01-02 is no time"]
    values, problems, coercions, _ = apply("timestamp", {"x": texts}, invalid="null")
    assert values == [datetime(2024, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC), None, None, None, None]
    assert problems == {}
    assert coercions == {
        "zero_date": [False, True, False, False, False],
        "invalid_time": [False, False, True, False, True],
    }


def test_white_space_at_the_end_goes_and_is_counted() -> None:
    values, problems, coercions, _ = apply("trimmed_end", {"x": [" a \t\n", "b", None, "  ", "c\u00a0"]}, null="")
    assert values == [" a", "b", "", "", "c"]
    assert problems == {}
    assert coercions == {"trimmed": [True, False, False, True, True]}


def test_columns_are_joined_with_one_blank() -> None:
    values, _, _, _ = apply("joined", {"x": ["a", None, ""], "y": ["b", "c", "d"]})
    assert values == ["a b", None, " d"]


def test_a_name_is_registered_once() -> None:
    registry = Registry()

    @registry.transform("same")
    def first(inputs: list[pl.Expr], context: TransformContext, times: int = 1) -> Outcome:
        return Outcome(inputs[0])

    with pytest.raises(ValueError, match="two transforms are called 'same'"):
        registry.transform("same")(first)
    assert registry.parameters("same") == {"times": int}
    assert "text" in GENERIC | registry
    assert "same" in GENERIC | registry
    assert "same" not in GENERIC


# --- dates of any form ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "text", "day"),
    [
        ("MM/DD/YYYY", "02/29/2024", date(2024, 2, 29)),
        ("MM/DD/YYYY", "2/29/2024", None),
        ("MM/DD/YYYY", "02/30/2024", None),
        ("MM/DD/YYYY", " 02/29/2024", None),
        ("MM/DD/YYYY", "02/29/2024\n", None),
        ("MM/DD/YYYY", "01/01/0000", None),
        ("M/D/YYYY", "2/9/2024", date(2024, 2, 9)),
        ("M/D/YYYY", "02/09/2024", date(2024, 2, 9)),
        ("DD.MM.YYYY", "31.12.2050", date(2050, 12, 31)),
        ("DD.MM.YYYY", "31x12x2050", None),
        ("YYYYMMDD", "20240229", date(2024, 2, 29)),
        ("YYYYMMDD", "2024022", None),
        ("D-MON-YYYY", "5-Feb-2024", date(2024, 2, 5)),
        ("D-MON-YYYY", "5-FEB-2024", date(2024, 2, 5)),
        ("D-MON-YYYY", "5-feb-2024", date(2024, 2, 5)),
        ("D-MON-YYYY", "5-Xyz-2024", None),
        ("D MON, YYYY", "5 Feb, 2024", date(2024, 2, 5)),
        ("YYYY-MM-DD", None, None),
    ],
)
def test_dates_are_read_in_the_form_that_is_said(form, text, day):
    assert read(DateForm.of(form).read(pl.col("x")), text) == day


@pytest.mark.parametrize("form", ["", "MM/DD", "MM/DD/YY", "YYYY-MM-DD HH", "M/M/YYYY", "%m/DD/YYYY", "DD/MM/MM/YYYY"])
def test_what_is_no_form_of_a_date_is_refused(form):
    with pytest.raises(ValueError, match=r"no form of a date; write year, month and day once each"):
        DateForm.of(form)


def test_values_that_mean_no_date_are_null_and_counted():
    made = GENERIC["iso_date"]([pl.col("x")], CONTEXT, format="MM/DD/YYYY", null_values=["12/31/2050", "open"])
    found = {
        text: (read(made.value, text), read(made.problems[0].when, text), read(made.coercions[0].when, text))
        for text in ("01/02/2024", "12/31/2050", "open", "", "shut")
    }
    assert found == {
        "01/02/2024": ("2024-01-02", False, False),
        "12/31/2050": (None, False, True),
        "open": (None, False, True),
        "": (None, False, False),
        "shut": (None, True, False),
    }
    assert read(made.value, None) is None
    assert not read(made.problems[0].when, None)


def test_an_instant_is_read_as_one_whatever_the_zone_of_the_legacy_times():
    texts = ["2021-11-07 05:30:00+00", "2021-11-07 06:30:00.25+00:00", "2021-11-07 06:30:00-04", "+00", None]
    frame = pl.DataFrame({"t": texts}, schema={"t": pl.String})
    for zone in ("UTC", "America/New_York"):
        read = frame.select(timestamp_value(pl.col("t"), zone))["t"].to_list()
        assert [value and value.isoformat() for value in read] == [
            "2021-11-07T05:30:00+00:00",
            "2021-11-07T06:30:00.250000+00:00",
            None,
            None,
            None,
        ]
    days = pl.DataFrame({"t": ["2021-11-07 04:00:00+00:00", "2021-11-07 00:00:00+00:00", "2021-11-07"]})
    in_zone = days.select(
        date_value(pl.col("t"), "America/New_York").alias("a"),
        date_value(pl.col("t"), "UTC").alias("b"),
        date_value(pl.col("t")).alias("c"),
    )
    assert [[str(value) for value in row] for row in in_zone.rows()] == [
        ["2021-11-07", "None", "None"],
        ["None", "2021-11-07", "None"],
        ["2021-11-07"] * 3,
    ]
