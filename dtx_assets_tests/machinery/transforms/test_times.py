"""Instants with and without an offset, and times of the clock on the wall, held against Python's datetime."""

import re
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets_tests.machinery.transforms.applied import applied

OFFSETS = st.sampled_from(["", "Z", "+00", "-05:30", "+1545", "-23:59", "+24", "-0330", "z", "+5", " +01", "+01:60"])
TIMES = st.builds(
    lambda moment, middle, fraction, offset: (
        f"{moment:%Y-%m-%d}".zfill(10) + f"{middle}{moment:%H:%M:%S}{fraction}{offset}"
    ),
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)),  # noqa: DTZ001 naive on purpose
    st.sampled_from([" ", "T", "t", "  "]),
    st.from_regex(r"\A([.][0-9]{0,12})?\Z"),
    OFFSETS,
)
TEXTS = st.one_of(
    st.none(),
    TIMES,
    st.dates().map(str),
    st.text(max_size=20),
    st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2})?)?\Z"),
)
FORM = r"(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2}:[0-5]\d)(?:\.(\d+))?(?:(Z)|([+-])([01]\d|2[0-3])(?::?([0-5]\d))?)?)?"


def python_time(text: str | None) -> tuple[datetime, timezone | None] | None:
    found = re.fullmatch(FORM, text, re.ASCII) if text is not None else None
    if found is None:
        return None
    day, clock, fraction, utc, sign, hours, minutes = found.groups()
    try:
        moment = datetime.strptime(f"{day} {clock or '00:00:00'}", "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 naive on purpose
    except ValueError:
        return None
    moment += timedelta(microseconds=int((fraction or "")[:6].ljust(6, "0")))
    if utc:
        return moment, UTC
    if sign is None:
        return moment, None
    ahead = timedelta(hours=int(hours), minutes=int(minutes or 0))
    return moment, timezone(ahead if sign == "+" else -ahead)


@settings()
@given(TEXTS, st.sampled_from(["UTC", "Europe/London", "America/New_York", "Asia/Kolkata"]))
def test_instants_are_those_of_python(text: str | None, zone: str) -> None:
    made = applied("instant", [text], timezone=zone)
    read = python_time(text)
    expected = None
    if read:
        moment, offset = read
        try:
            expected = moment.replace(tzinfo=offset or ZoneInfo(zone), fold=0).astimezone(UTC)
        except OverflowError:
            expected = None
    assert made.values == [expected]
    assert bool(made.told) == (text is not None and expected is None)


@settings()
@given(TEXTS)
def test_times_without_a_zone_are_those_of_python(text: str | None) -> None:
    made = applied("local_timestamp", [text])
    read = python_time(text)
    if read and read[1] is None:
        day, clock = read[0].date().isoformat(), f"{read[0]:%H:%M:%S}"
        fraction = f".{read[0]:%f}".rstrip("0").rstrip(".")
        assert made.values == [f"{day} {clock}{fraction}"]
        assert made.told == []
    else:
        assert made.values == [None]
        assert len(made.told) == (text is not None)


def test_the_forms_of_an_instant() -> None:
    texts = ["2024-07-01", "2024-07-01T12:00:00", "2024-07-01 12:00:00.1234567+02", "2024-07-01T12:00:00.1234560Z"]
    made = applied("instant", texts, timezone="Europe/Berlin")
    assert made.values == [
        datetime(2024, 6, 30, 22, tzinfo=UTC),
        datetime(2024, 7, 1, 10, tzinfo=UTC),
        datetime(2024, 7, 1, 10, 0, 0, 123456, tzinfo=UTC),
        datetime(2024, 7, 1, 12, 0, 0, 123456, tzinfo=UTC),
    ]
    assert (made.told, made.counted) == ([], [(2, "fraction_cut")])


def test_what_is_no_instant() -> None:
    texts = [
        *("0000-00-00", "0000-00-00 00:00:00", "2023-02-29", "2024-01-01T24:00:00", "2024-01-01 10:30", "infinity"),
        *("2024-01-01 23:59:60", "0044-03-15 BC", "12024-01-01", "2024-01-01T10:00:00+24:00", "9999-12-31 23:00:00-02"),
        *("0001-01-01 00:00:00+01", "2024-01-01Z", ""),
    ]
    made = applied("instant", texts)
    assert made.values == [None] * len(texts)
    assert made.told == [(row, "unparseable", f"{text} is no time") for row, text in enumerate(texts)]
    made = applied("instant", ["0000-00-00", " ", None, "x"], unreadable="null", blank="null")
    assert made.counted == [(0, "unreadable_time"), (1, "empty_to_null"), (3, "unreadable_time")]


def test_seconds_may_be_left_out_where_that_is_allowed() -> None:
    texts = [
        "2024-01-01 10:30",
        "2024-01-01T10:30Z",
        "2024-01-01 10:30:01.5",
        "2024-01-01 10:30.5",
        "2024-01-01 10:30-01",
    ]
    assert applied("instant", texts, seconds="optional").values == [
        datetime(2024, 1, 1, 10, 30, tzinfo=UTC),
        datetime(2024, 1, 1, 10, 30, tzinfo=UTC),
        datetime(2024, 1, 1, 10, 30, 1, 500_000, tzinfo=UTC),
        None,
        datetime(2024, 1, 1, 11, 30, tzinfo=UTC),
    ]


def test_a_clock_that_was_changed_is_a_guess_that_counts_and_an_offset_is_none() -> None:
    texts = ["2024-10-27 01:30:00", "2024-03-31T01:30:00", "2024-10-27 01:30:00+00", "2024-10-27 01:30:00+01"]
    made = applied("instant", texts, timezone="Europe/London")
    assert made.values == [
        datetime(2024, 10, 27, 0, 30, tzinfo=UTC),
        datetime(2024, 3, 31, 1, 30, tzinfo=UTC),
        datetime(2024, 10, 27, 1, 30, tzinfo=UTC),
        datetime(2024, 10, 27, 0, 30, tzinfo=UTC),
    ]
    assert made.counted == [(0, "ambiguous_time"), (1, "skipped_time")]


def test_an_instant_in_a_column_without_a_zone() -> None:
    texts = ["2024-07-01T12:00:00.120Z", "2024-07-01 12:00:00"]
    made = applied("local_timestamp", texts)
    assert made.values == [None, "2024-07-01 12:00:00"]
    assert made.told == [
        (0, "schema_violation", "2024-07-01T12:00:00.120Z is an instant, and the column holds times without a zone")
    ]
    kept = "2024-07-01 12:00:00"
    assert applied("local_timestamp", texts, offset="utc").values == ["2024-07-01 12:00:00.12", kept]
    in_berlin = applied("local_timestamp", texts, offset="legacy", timezone="Europe/Berlin")
    assert in_berlin.values == ["2024-07-01 14:00:00.12", kept]
    assert in_berlin.told == []


def test_digits_beyond_those_of_the_column_are_cut_and_counted() -> None:
    texts = ["2024-01-01 10:00:00.9999", "2024-01-01 10:00:00.123000"]
    made = applied("local_timestamp", texts, digits=3)
    assert made.values == ["2024-01-01 10:00:00.999", "2024-01-01 10:00:00.123"]
    assert made.counted == [(0, "fraction_cut")]
    assert applied("instant", texts, digits=0).values == [datetime(2024, 1, 1, 10, tzinfo=UTC)] * 2
    with pytest.raises(ValueError, match="give 0 to 6"):
        applied("instant", texts, digits=7)


def test_a_server_prints_times_without_a_zone_alike(database_url: str) -> None:
    texts = ["0001-01-01", "9999-12-31 23:59:59.999999", "2024-02-29T12:00:00.100", "2024-02-29 10:00:00.000010"]
    with psycopg.connect(database_url) as connection:
        for text, value in zip(texts, applied("local_timestamp", texts).values, strict=True):
            assert connection.execute("SELECT %s::timestamp::text", [text]).fetchone() == (value,)


@pytest.mark.parametrize(("unit", "of_a_second"), [("seconds", 1), ("milliseconds", 1000)])
def test_numbers_since_1970_are_those_of_python(unit: str, of_a_second: int) -> None:
    first, last = -62_135_596_800 * of_a_second, 253_402_300_800 * of_a_second - 1
    numbers = [0, -1, 1577872800, 1577872800 * of_a_second + 1, first, last]
    made = applied("epoch", [str(number) for number in numbers], unit=unit)
    assert made.values == [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(**{unit: n}) for n in numbers]
    assert (made.told, made.counted) == ([], [])
    others = [str(first - 1), str(last + 1), "9223372036854775807", "-9223372036854775808", "1.5", "x", "", " ", None]
    refused = applied("epoch", others, unit=unit)
    assert refused.values == [None] * len(others)
    assert [(row, reason) for row, reason, _ in refused.told] == [
        (row, "unparseable") for row in range(len(others) - 1)
    ]


def test_dates_and_integers_that_cannot_be_read_may_be_null() -> None:
    made = applied("date", ["2024-02-30", "", "2024-02-29"], unreadable="null", blank="null")
    assert [str(value) for value in made.values] == ["None", "None", "2024-02-29"]
    assert made.counted == [(0, "unreadable_date"), (1, "empty_to_null")]
    assert applied("integer", ["x", "1"], unreadable="null").counted == [(0, "unreadable_integer")]
